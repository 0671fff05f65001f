//! Attacks that cut across the rows of the test matrix: a root whose every directory becomes a link
//! to the host and back while nodebake is at work, and text from outside that would steer a terminal.
//! The host's sentinel is compared in content, owner, mode, inode and times.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests set up their own host"
)]

mod kit;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, renameat_with};

use kit::{CNI, Lab, Member, Run};
use kit::{assert_same, cni_members, gzip, link, make_dir, mode, own, tar, write};

// ---------------------------------------------------------------- R11: a root that moves

/// Every directory in which a plan creates, replaces or removes something, the state's among them.
const DIRECTORIES: [&str; 21] = [
    "etc",
    "etc/cni",
    "etc/cni/net.d",
    "etc/containerd",
    "etc/containerd/certs.d",
    "etc/modules-load.d",
    "etc/sysctl.d",
    "etc/systemd",
    "etc/systemd/system",
    "etc/systemd/system-preset",
    "etc/systemd/system/multi-user.target.wants",
    "opt",
    "opt/cni",
    "opt/cni/bin",
    "usr",
    "usr/local",
    "usr/local/bin",
    "usr/local/lib",
    "usr/local/sbin",
    "var",
    "var/lib",
];

#[test]
fn r11_every_directory_becomes_a_link_and_back_while_roots_are_baked() {
    race(150, Duration::from_secs(240), &|command| command);
}

#[test]
fn r11_every_directory_becomes_a_link_and_back_without_openat2() {
    let words = ["strace", "-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=openat2", "-e"];
    let inject = "inject=openat2:error=ENOSYS";
    let strace = || {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(inject);
        command
    };
    if !strace().arg("true").status().is_ok_and(|status| status.success()) {
        return kit::skip(
            "r11_every_directory_becomes_a_link_and_back_without_openat2",
            "strace is absent or may not trace",
        );
    }
    race(40, Duration::from_secs(240), &|command| {
        let mut traced = strace();
        traced.arg(command.get_program()).args(command.get_args());
        traced.current_dir(command.get_current_dir().unwrap());
        traced
    });
}

/// Bakes two roots, changes what is baked, and takes it away again, `rounds` times, while two of their
/// directories at a time are exchanged with links to the same directory outside.
fn race(rounds: usize, limit: Duration, wrap: &dyn Fn(Command) -> Command) {
    let mut lab = Lab::new();
    // Else a root whose /usr is away for a moment has no executable to tell it.
    lab.arch("amd64");
    let other = lab.another_root("other");
    let outside = lab.dir.join("outside");
    let places: Vec<Place> = [&lab.root, &other]
        .iter()
        .flat_map(|root| DIRECTORIES.map(|path| Place::new(root, path, &outside)))
        .collect();
    fill(&outside, &lab);
    let before = (kit::tree(&outside), kit::times(&outside));
    let (started, mut ends, mut odd) = (Instant::now(), BTreeMap::new(), Vec::new());
    for round in 0..rounds {
        // Any order will do, as long as all pairs of places have their turn.
        let raced = [&places[(round * 5) % places.len()], &places[(round * 11 + 3) % places.len()]];
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let _end = StopOnDrop(&stop);
            for place in raced {
                scope.spawn(|| place.exchange(&stop, round));
            }
            for words in [&["apply"][..], &["apply"], &["remove"]] {
                upgrade(&mut lab, words == ["apply"]);
                let run = bake(&lab, words, &[&lab.root, &other], wrap);
                *ends.entry(run.code).or_insert(0) += 1;
                if !is_expected(&run) {
                    odd.push(format!("round {round}, {raced:?}: {run}"));
                }
            }
        });
        assert_same(&format!("the host after round {round}, {raced:?},"), &before.0, &kit::tree(&outside));
        assert_eq!(before.1, kit::times(&outside), "round {round}, {raced:?}: touched");
    }
    assert!(started.elapsed() < limit, "{rounds} rounds took {:?}", started.elapsed());
    let all = 4 * rounds;
    assert!(ends.len() > 1, "of {all} runs none met the race: {ends:?}");
    assert!(odd.is_empty(), "{} of {all} runs ended as none should: {ends:?}\n{}", odd.len(), odd.join("\n"));
    converges(&lab, &other);
}

/// Once nothing moves any more. What the attacker took away inside the root is not ours to bring back:
/// the state may have been out of sight when it mattered.
fn converges(lab: &Lab, other: &Path) {
    for root in [lab.root.as_path(), other] {
        lab.run(["apply"], root).exits(0);
        kit::run(lab.command(["verify"]).arg("--root").arg(root)).exits(0);
    }
}

/// Done, refused, or an original that the attacker has made away with.
fn is_expected(run: &Run) -> bool {
    match run.code {
        Some(0 | 6) => true,
        Some(7) => run.errors().contains("before the first bake is gone"),
        _ => false,
    }
}

/// remove has no multi-root form: each root on its own.
fn bake(lab: &Lab, words: &[&str], roots: &[&Path], wrap: &dyn Fn(Command) -> Command) -> Run {
    let mut command = lab.command([]);
    command.args(words);
    match words {
        ["remove"] => {
            kit::run(&mut wrap({
                let mut other = lab.command(["remove"]);
                other.arg("--root").arg(roots[1]);
                other
            }));
            command.arg("--root").arg(roots[0]);
        }
        _ => {
            for root in roots {
                command.arg("--root").arg(root);
            }
            command.arg("--spec").arg(&lab.spec);
        }
    }
    kit::run(&mut wrap(command))
}

/// Another plugin, another configuration: something is created, changed and swept each time.
fn upgrade(lab: &mut Lab, toggle: bool) {
    if toggle {
        let more = fs::read_to_string(&lab.spec).unwrap().contains("docker.io");
        let mut members = cni_members();
        if !more {
            members.push(Member::plugin("./vlan"));
        }
        lab.ship(CNI, &gzip(&tar(&members)));
        lab.spec_also(match more {
            true => "",
            false => "registries: {docker.io: {mirrors: [{url: 'https://m.example'}]}}\n",
        });
    }
}

/// One directory of a root, held open by its real parent, and a link to the one outside beside it.
struct Place {
    parent: OwnedFd,
    name: String,
    shown: PathBuf,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}", self.shown.display())
    }
}

impl Place {
    fn new(root: &Path, path: &str, outside: &Path) -> Place {
        let (real, twin) = (root.join(path), outside.join(path));
        make_dir(&real);
        make_dir(&twin);
        let evil = real.with_file_name(format!("{}.evil", kit::text(real.file_name().unwrap())));
        link(&twin, &evil);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(real.parent().unwrap(), flags, Mode::empty()).unwrap();
        Place { parent, name: kit::text(real.file_name().unwrap()), shown: real }
    }

    /// A link for a moment, a directory for longer: most of a run goes well, so that it gets to its end.
    fn exchange(&self, stop: &AtomicBool, round: usize) {
        let evil = format!("{}.evil", self.name);
        let mut turn = round as u64;
        while !stop.load(Ordering::Relaxed) {
            for pause in [20, 200 + turn * 97 % 1700] {
                self.swap(&evil);
                thread::sleep(Duration::from_micros(pause));
            }
            turn += 1;
        }
        // A directory that is empty at the wrong moment may be taken for one that nodebake made.
        let kind = |name: &str| {
            let stat = rustix::fs::statat(&self.parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            Some(FileType::from_raw_mode(stat.st_mode))
        };
        if kind(&self.name) == Some(FileType::Symlink) {
            assert!(self.swap(&evil), "{self:?}");
        }
        if kind(&self.name).is_none() {
            rustix::fs::mkdirat(&self.parent, &self.name, Mode::from_raw_mode(0o755)).unwrap();
        }
    }

    fn swap(&self, evil: &str) -> bool {
        renameat_with(&self.parent, &self.name, &self.parent, evil, RenameFlags::EXCHANGE).is_ok()
    }
}

/// A twin of everything that is planned: whatever reached it would be seen.
fn fill(outside: &Path, lab: &Lab) {
    let twin = Lab::new();
    twin.apply().exits(0);
    for path in kit::paths(&twin.root) {
        let meta = path.symlink_metadata().unwrap();
        let to = outside.join(path.strip_prefix(&twin.root).unwrap());
        match meta.is_dir() {
            true => make_dir(&to),
            false => write(&to, b"the host's own\n"),
        }
        for also in
            [to.clone(), to.with_file_name(format!(".nodebake-{}.tmp", kit::text(to.file_name().unwrap())))]
        {
            if !meta.is_dir() {
                write(&also, b"the host's own\n");
                mode(&also, 0o640);
            }
            if also.exists() {
                own(&also, 12, 34);
            }
        }
    }
    let past =
        fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30));
    for path in kit::paths(outside) {
        fs::File::open(path).unwrap().set_times(past).unwrap();
    }
    assert!(outside.join("var/lib/nodebake/receipt.json").is_file() && lab.dir.is_dir());
}

/// The threads must end before a failed assertion can.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
