//! The syntax of modprobe.d and of the indexes of a kernel's modules, modprobe.d(5) and depmod(8).
//!
//! This module must not know which modules are wanted.

use std::borrow::Cow;

use crate::format::lines::joined;
use crate::format::systemd::glob;

/// Longest pattern that is compared with a name; the kernel's limit of a name is 55 (MODULE_NAME_LEN).
const LONGEST_PATTERN: usize = 256;

/// Command of a modprobe.d file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    /// Number of the line, from 1.
    pub line: usize,
    /// Meaning of the command for one module.
    pub verb: Verb,
    /// Name or pattern of the module, with `_` in place of `-`.
    module: String,
    /// Rest of the line: what runs in place of loading, or the module that an alias stands for.
    pub rest: String,
}

/// What a command says about a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// The name stands for another module.
    Alias,
    /// The module is not loaded at boot.
    Blacklist,
    /// A command runs in place of loading the module.
    Install,
}

impl Command {
    /// Returns whether the command is about `module`, which is a [`canonical`] name: for a blacklist the name, else a
    /// pattern of it (libkmod).
    pub(crate) fn is_about(&self, module: &str) -> bool {
        match self.verb {
            Verb::Blacklist => self.module == module,
            Verb::Alias | Verb::Install => self.module.len() <= LONGEST_PATTERN && glob(&self.module, module),
        }
    }

    /// Returns whether `module` is loaded all the same: by the command that runs, or because the alias is its own.
    pub(crate) fn loads(&self, module: &str) -> bool {
        let is_loader = |word: &str| matches!(word.rsplit('/').next(), Some("modprobe" | "insmod"));
        match self.verb {
            Verb::Alias => canonical(&self.rest) == module,
            Verb::Blacklist => false,
            Verb::Install => self
                .rest
                .split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')' | '{'))
                .any(is_loader),
        }
    }
}

/// Returns the commands of a modprobe.d file that decide whether a module is loaded.
pub(crate) fn commands(text: &str) -> impl Iterator<Item = Command> {
    let command = |(line, text): (usize, Cow<str>)| {
        let (verb, rest) = text.split_once(char::is_whitespace)?;
        let verb = match verb {
            "alias" => Verb::Alias,
            "blacklist" => Verb::Blacklist,
            "install" => Verb::Install,
            _ => return None,
        };
        let rest = rest.trim_start();
        let (module, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        Some(Command { line, verb, module: canonical(module), rest: rest.trim().to_owned() })
    };
    joined(text).filter_map(command)
}

/// Returns the name of a module as it is compared: `-` and `_` are one character.
pub(crate) fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// Returns the modules of a modules.dep or modules.builtin: canonical name, and path below the kernel's directory.
pub(crate) fn indexed(text: &str) -> impl Iterator<Item = (String, &str)> {
    text.lines().filter_map(|line| {
        let path = line.split(':').next()?.trim();
        // The module may be compressed: overlay.ko.xz.
        let (name, _) = path.rsplit('/').next()?.split_once(".ko")?;
        Some((canonical(name), path))
    })
}

#[cfg(test)]
mod tests {
    use super::{commands, indexed};

    #[test]
    fn what_keeps_a_module_from_being_loaded_is_known() {
        let text = "# install overlay /bin/false\n\
            install overlay /bin/true\n\
            blacklist br-netfilter\n\
            alias over* off\n\
            install nf_conntrack /sbin/modprobe --ignore-install nf_conntrack $CMDLINE_OPTS && true\n\
            install overlay \\\n  /usr/sbin/nologin\n\
            options overlay metacopy=off\n\
            alias overlay overlay\n\
            install vxlan {/sbin/modprobe -i vxlan;}\n";
        let about = |module: &str| -> Vec<(usize, bool)> {
            let found = commands(text).filter(|command| command.is_about(module));
            found.map(|command| (command.line, command.loads(module))).collect()
        };
        assert_eq!(about("overlay"), [(2, false), (4, false), (6, false), (9, true)]);
        assert_eq!(about("br_netfilter"), [(3, false)]);
        assert_eq!((about("nf_conntrack"), about("vxlan")), (vec![(5, true)], vec![(10, true)]));
        // The name in older CIS texts has no effect.
        assert!(commands("blacklist overlayfs\n").all(|command| !command.is_about("overlay")));
    }

    #[test]
    fn indexes_name_modules_whatever_their_compression() {
        let dep =
            "kernel/fs/overlayfs/overlay.ko.xz:\nkernel/net/br-netfilter.ko: kernel/net/bridge.ko\nbroken\n";
        let found: Vec<_> = indexed(dep).collect();
        let expected = [
            ("overlay", "kernel/fs/overlayfs/overlay.ko.xz"),
            ("br_netfilter", "kernel/net/br-netfilter.ko"),
        ];
        assert_eq!(found, expected.map(|(name, path)| (name.to_owned(), path)));
    }
}
