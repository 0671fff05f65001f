//! Commands of a service: whether they start the daemon that was installed, with the files that were installed.
//!
//! This module must not run one.

use crate::error::Failure;
use crate::format::unit::words;
use crate::path::ImagePath;
use crate::precedence::service::{Assignment, Service, exists};
use crate::precedence::{Conflict, Ours, units};
use crate::printable::printable;
use crate::root::Root;
use crate::runtime::{Daemon, Facts};

/// Directories in which systemd looks for a command without a path (systemd.service(5)).
const SEARCHED: [&str; 4] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];

/// Commands before and after the daemon's own, without which the service is not active.
const AROUND: [&str; 3] = ["ExecCondition", "ExecStartPre", "ExecStartPost"];

/// Command line of a service.
struct Command {
    /// Words before which systemd's prefixes are taken away.
    words: Vec<String>,
    /// A failure is no failure of the service.
    may_fail: bool,
}

impl Command {
    fn parse(value: &str) -> Command {
        let bare = value.trim_start_matches(['@', '-', ':', '+', '!', '|']);
        let prefix = &value[..value.len() - bare.len()];
        let mut words = words(bare);
        if prefix.contains('@') && words.len() > 1 {
            // The second word is the name that the process sees as its own.
            words.remove(1);
        }
        Command { words, may_fail: prefix.contains('-') }
    }

    /// Returns the program; none where only systemd can tell.
    fn program(&self, root: &Root, ours: &Ours) -> Result<Option<ImagePath>, Failure> {
        let Some(first) = self.words.first().filter(|word| !word.contains('%')) else { return Ok(None) };
        if first.contains('/') {
            return Ok(ImagePath::new(first).ok());
        }
        for directory in SEARCHED.map(ImagePath::fixed) {
            let Ok(path) = directory.join(first) else { break };
            if exists(root, ours, &path)? {
                return Ok(Some(path));
            }
        }
        Ok(directory_of_packages(first))
    }

    /// Returns the value of an option of the daemon: a word of its own, or after `=`.
    fn option(&self, names: [&str; 2]) -> Option<&str> {
        let mut words = self.words.iter();
        while let Some(word) = words.next() {
            if names.contains(&word.as_str()) {
                return words.next().map(String::as_str);
            }
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            if names.contains(&name) {
                return Some(value);
            }
        }
        None
    }
}

/// Returns the path at which a program without a path would be a package's.
fn directory_of_packages(name: &str) -> Option<ImagePath> {
    ImagePath::fixed("/usr/bin").join(name).ok()
}

impl Service {
    /// Finds commands that do not start the daemon as it was installed.
    pub(super) fn commands(
        &self,
        root: &Root,
        ours: &Ours,
        daemon: &Daemon,
    ) -> Result<Vec<Conflict>, Failure> {
        let mut found = Vec::new();
        for own in AROUND.iter().flat_map(|key| self.all(key)).filter(|own| !own.is_own) {
            let command = Command::parse(&own.value);
            let Some(path) = command.program(root, ours)?.filter(|_| !command.may_fail) else { continue };
            if !exists(root, ours, &path)? {
                found.push(
                    own.conflict(format!("runs `{path}`, which is not there: the service does not start")),
                );
            }
        }
        let is_oneshot = self.all("Type").last().is_some_and(|own| own.value == "oneshot");
        match self.all("ExecStart") {
            [] => found.extend(
                self.emptied
                    .get("ExecStart")
                    .filter(|own| !own.is_own)
                    .map(|own| own.conflict("takes the service's command away and sets no other".to_owned())),
            ),
            [.., own] if own.is_own => {}
            [_, .., last] if !is_oneshot => found.push(last.conflict(
                "sets a second ExecStart without emptying the first: systemd refuses the unit".to_owned(),
            )),
            [.., own] => found.extend(start(own, root, ours, daemon)?),
        }
        Ok(found)
    }
}

/// Finds what is wrong with another command than the bake's.
fn start(own: &Assignment, root: &Root, ours: &Ours, daemon: &Daemon) -> Result<Option<Conflict>, Failure> {
    let command = Command::parse(&own.value);
    let Some(program) = command.program(root, ours)? else { return Ok(None) };
    if !exists(root, ours, &program)? {
        return Ok(Some(
            own.conflict(format!("starts `{program}`, which is not there: the service does not start")),
        ));
    }
    if !is_same(root, &program, &daemon.binary)? {
        let problem = format!("starts `{program}` in place of {}, which is installed", daemon.binary);
        return Ok(Some(own.conflict(problem)));
    }
    Ok(other_files(&command, daemon.runtime.facts()).map(|problem| own.conflict(problem)))
}

/// Tells which option leads the daemon to other files than those of the bake.
fn other_files(command: &Command, facts: &Facts) -> Option<String> {
    let socket = facts.socket.trim_start_matches("unix://");
    let options = [(["--config", "-c"], facts.config), (["--address", "-a"], socket)];
    options.iter().find_map(|(names, own)| {
        let other = command.option(*names)?;
        let other = printable(other);
        (other != *own).then(|| format!("starts the daemon with `{} {other}` in place of {own}", names[0]))
    })
}

/// Returns whether two paths are one program once the bake is done.
fn is_same(root: &Root, a: &ImagePath, b: &ImagePath) -> Result<bool, Failure> {
    if a == b || units::same_file(root, a, b)? {
        return Ok(true);
    }
    // Two names of one directory, as /bin and /usr/bin.
    let (a, b) = (root.entry_identity(a)?, root.entry_identity(b)?);
    Ok(a.is_some() && a == b)
}
