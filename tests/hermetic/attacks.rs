//! Attacks that cut across the rows of the test matrix: a root whose every directory becomes a link
//! to the host and back while nodebake is at work, and text from outside that would steer a terminal.
//! The host's sentinel is compared in content, owner, mode, inode and times.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, renameat_with};

use crate::kit;
use crate::kit::{CNI, CONTAINERD, Lab, Member, Run};
use crate::kit::{
    StopOnDrop, assert_same, cni_members, containerd_members, gzip, link, make_dir, mode, own, strace,
    strace_works, tar, words_of, write,
};

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
    race(100, Duration::from_secs(240), &|command| command);
}

#[test]
fn r11_every_directory_becomes_a_link_and_back_without_openat2() {
    if !strace_works() {
        return;
    }
    race(40, Duration::from_secs(240), &|command| {
        let mut traced = words_of(strace(["trace=openat2", "inject=openat2:error=ENOSYS"]));
        traced.arg("--seccomp-bpf").arg(command.get_program()).args(command.get_args());
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

// ---------------------------------------------------------------- text that would steer a terminal

/// Clears the screen, rings, returns, sets the title, turns the text around: in both forms of control
/// characters, and without one.
const EVIL: &str = "\u{1b}[2J\u{7}\r\u{9b}31m\u{202e}\u{2066}\u{200f}";

#[test]
fn t1_member_names_never_reach_a_terminal_raw() {
    for (name, code) in [
        ("bin/\u{202e}rtc", 6),
        ("bin/\u{9b}31m", 6),
        ("share/\u{202e}txt", 6),
        ("bin/\u{1b}]0;title\u{7}", 6),
        ("share/\u{1b}[2J", 6),
    ] {
        let mut lab = Lab::new();
        let mut members = containerd_members();
        members.push(Member::plugin(name));
        lab.ship(CONTAINERD, &gzip(&tar(&members)));
        for words in [&["plan", "--verbose"][..], &["apply", "--verbose"], &["apply", "--quiet"], &["plan"]] {
            let run = with_spec(&lab, words);
            assert!(run.code == Some(code), "{name:?}\n{run}");
            is_harmless(&run);
        }
        for words in ["verify", "remove"] {
            is_harmless(&kit::run(lab.command([words]).arg("--root").arg(&lab.root)));
        }
    }
}

#[test]
fn s5_strings_of_the_spec_and_the_lock_never_reach_a_terminal_raw() {
    let evil = EVIL.escape_unicode().to_string().replace("\\u{", "\\U").replace('}', " ");
    let evil: String = evil.split_whitespace().map(|word| format!("\\U{:0>8}", &word[2..])).collect();
    for yaml in [
        "arch: \"EVIL\"\n",
        "source: \"https://host/EVIL\"\n",
        "source: \"./EVIL\"\n",
        "\"EVIL\": 1\n",
        "components: {\"EVIL\": {version: 1.0.0}}\n",
        "components: {runc: {version: \"EVIL\"}}\n",
        "components: {runc: {version: 1.3.6, url: \"https://host/EVIL\"}}\n",
        "components: {runc: {version: 1.3.6, sha256: \"EVIL\"}}\n",
        "containerd: {config: {base: \"EVIL\"}}\n",
        "containerd: {config: {sandbox_image: \"EVIL\"}}\n",
        "containerd: {config: {registry_config_path: \"/etc/EVIL\"}}\n",
        "containerd: {config: {merge: \"a = EVIL\"}}\n",
        "containerd: {config: {merge: \"\\\"EVIL\\\" = 1\"}}\n",
        "containerd: {proxy: {http: \"http://EVIL\"}}\n",
        "registries: {\"EVIL\": {mirrors: []}}\n",
        "registries: {\"host/../EVIL\": {server: \"https://host\"}}\n",
        "registries: {a.example: {mirrors: [{url: \"https://host/EVIL\"}]}}\n",
        "registries: {a.example: {mirrors: [{url: \"https://host\", ca: \"EVIL.pem\"}]}}\n",
        "registries: {a.example: {mirrors: [{url: \"https://host\", headers: {\"EVIL\": \"EVIL\"}}]}}\n",
        "kernel: {modules: [\"EVIL\"]}\n",
        "kernel: {sysctl: {\"net.EVIL\": \"EVIL\"}}\n",
    ] {
        let lab = Lab::new();
        fs::write(&lab.spec, yaml.replace("EVIL", &evil)).unwrap();
        for words in [&["plan", "--offline"][..], &["apply", "--offline"], &["lock", "--offline"]] {
            let run = match words {
                ["lock", ..] => kit::run(lab.command([]).args(words).arg("--spec").arg(&lab.spec)),
                _ => with_spec(&lab, words),
            };
            assert!(!matches!(run.code, Some(0 | 1 | 101) | None), "{yaml}\n{run}");
            is_harmless(&run);
        }
        fs::write(lab.dir.join("nodebake.lock"), format!("version: 1\nartifacts: [{{name: \"{evil}\"}}]\n"))
            .unwrap();
        fs::write(&lab.spec, "arch: amd64\n").unwrap();
        is_harmless(with_spec(&lab, &["plan", "--offline"]).exits(3));
    }
}

#[test]
fn r21_names_in_a_root_never_reach_a_terminal_raw() {
    let lab = Lab::new();
    let name = format!("x{EVIL}y");
    for folder in
        ["etc/systemd/system-preset", "usr/lib/systemd/system-preset", "etc/cni/net.d", "opt/cni/bin"]
    {
        write(
            &lab.path(folder).join(format!("00-{name}.preset")),
            format!("disable cont* {EVIL}\n").as_bytes(),
        );
    }
    link(&name, &lab.path("etc/containerd/config.toml"));
    link(format!("/run/{name}"), &lab.path("etc/systemd/system/containerd.service"));
    write(&lab.path("etc/selinux/config"), format!("SELINUXTYPE={name}\n").as_bytes());
    for words in [&["plan"][..], &["apply"]] {
        is_harmless(with_spec(&lab, words).exits(0));
    }
    let run = lab.verify();
    is_harmless(run.exits(10).mentions("preset"));
    // A final component that is a link is named in the refusal of another run.
    link(format!("/{name}"), &lab.path("opt/cni"));
    is_harmless(with_spec(&lab, &["apply"]).exits(6));

    let lab = Lab::new();
    let moved = lab.dir.join(&name);
    fs::rename(&lab.root, &moved).unwrap();
    let both = |words: &[&str]| {
        let mut command = lab.command([]);
        command.args(words).arg("--spec").arg(&lab.spec).arg("--root").arg(&moved);
        kit::run(&mut command)
    };
    let other = lab.another_root("other");
    is_harmless(both(&["plan", "--root", kit::text(&other).as_str()]).exits(0));
    is_harmless(both(&["apply", "--root", kit::text(&other).as_str()]).exits(0));
    for words in ["verify", "remove", "remove"] {
        is_harmless(kit::run(lab.command([words]).arg("--root").arg(&moved)).exits(0));
    }
    fs::rename(&moved, &lab.root).unwrap();
}

/// A root's package database is read where an archive would stand beside a package's containerd.
#[test]
fn r21_package_databases_never_reach_a_terminal_raw() {
    let lab = Lab::new();
    write(&lab.path("etc/os-release"), b"ID=debian\n");
    write(&lab.path("usr/bin/apt-get"), b"#!/bin/sh\n");
    write(&lab.path("usr/bin/containerd"), b"a package's");
    write(&lab.path("var/lib/dpkg/info/containerd.list"), b"/usr/bin/containerd\n");
    let paragraph = |name: &str, version: &str| {
        format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n")
    };
    let evil = paragraph("containerd", &format!("1.7{EVIL}\u{202e}"));
    write(&lab.path("var/lib/dpkg/status"), evil.as_bytes());
    let run = with_spec(&lab, &["apply"]);
    is_harmless(run.exits(9).mentions("of package containerd 1.7"));

    let without_end = lab.path("var/lib/dpkg/status");
    fs::File::create(&without_end).unwrap().set_len(1 << 30).unwrap();
    is_harmless(with_spec(&lab, &["apply"]).exits(3).mentions("no database of dpkg's"));

    // Nobody's file, among very many packages: what is not asked for is not kept.
    let many: Vec<String> = (0..300_000).map(|n| paragraph(&format!("x{n}"), "1")).collect();
    write(&without_end, many.join("\n").as_bytes());
    with_spec(&lab, &["apply"]).exits(0);
}

#[test]
fn r21_receipts_never_reach_a_terminal_raw_and_lead_nowhere() {
    let json = |text: &str| serde_json::to_string(text).unwrap();
    let evil = json(&format!("x{EVIL}"));
    let turned = json("/etc/\u{202e}x");
    let node = |path: &str, node: &str| format!("{{\"paths\":{{{path}:{{{node}}}}}}}");
    let link = |path: &str, component: &str| {
        node(path, &format!("\"type\":\"link\",\"target\":{evil},\"component\":{component}"))
    };
    for (case, overlay) in [
        ("a path that is turned around", link(&turned, "\"runc\"")),
        ("a component", link("\"/etc/x\"", &evil)),
        (
            "a member",
            node(
                "\"/usr/local/sbin/runc\"",
                &format!("\"type\":\"link\",\"target\":{evil},\"component\":{evil},\"member\":{evil}"),
            ),
        ),
        ("an architecture", format!("{{\"arch\":{evil}}}")),
        ("a kind", node("\"/etc/x\"", &format!("\"type\":{evil},\"component\":\"a\""))),
        ("a path with control characters", link(&evil, "\"a\"")),
        ("a way out", link("\"/../../host/etc/passwd\"", "\"a\"")),
        ("a path of the host", link(&json(&format!("/..{}", "/..".repeat(9))), "\"a\"")),
        ("directories", format!("{{\"directories\":[{turned}]}}")),
        ("a key", format!("{{{evil}:1,\"version\":{evil}}}")),
    ] {
        for file in ["receipt.json", "pending.json"] {
            let lab = Lab::new();
            lab.apply().exits(0);
            let receipt = lab.path("var/lib/nodebake/receipt.json");
            let mut text = serde_json::from_slice(&fs::read(&receipt).unwrap()).unwrap();
            merge(&mut text, &serde_json::from_str(&overlay).unwrap());
            write(&receipt.with_file_name(file), text.to_string().as_bytes());
            for words in [&["plan"][..], &["plan", "--json"], &["apply", "--json"]] {
                let run = with_spec(&lab, words);
                assert!(!matches!(run.code, Some(1 | 101) | None), "{case}\n{run}");
                is_harmless(&run);
            }
            for words in [&["verify"][..], &["verify", "--json"], &["remove"], &["remove", "--json"]] {
                write(&receipt.with_file_name(file), text.to_string().as_bytes());
                let run = kit::run(lab.command([]).args(words).arg("--root").arg(&lab.root));
                assert!(!matches!(run.code, Some(1 | 101) | None), "{case}\n{run}");
                is_harmless(&run);
            }
        }
    }
}

fn merge(into: &mut serde_json::Value, from: &serde_json::Value) {
    match (into, from) {
        (serde_json::Value::Object(into), serde_json::Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(serde_json::Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// What a root may claim to have been baked with, as large as it is read at all.
#[test]
fn r21_enormous_receipts_cost_little() {
    let paths: String = (0..400_000)
        .map(|n| format!("\"/{n}\":{{\"type\":\"link\",\"target\":\"\",\"component\":\"\"}},"))
        .collect();
    let receipt = |paths: &str| {
        format!(
            "{{\"version\":1,\"arch\":\"\",\"artifacts\":[],\"directories\":[],\"paths\":{{{}}}}}",
            paths.trim_end_matches(',')
        )
    };
    let longest = paths[..(3 << 20) - 200].rfind("},").unwrap() + 1;
    let short: String = (0..10_000).map(|n| format!("\"/{n:x}\",")).collect();
    let directories: String = (0..400_000).map(|n| format!("\"/{n:x}\",")).collect();
    let longest_list = directories[..(3 << 20) - 200].rfind(',').unwrap();
    let list = |text: &str| receipt("").replace("\"directories\":[]", &format!("\"directories\":[{text}]"));
    for (case, text) in [
        ("a few thousand", receipt(&paths[..paths[..1 << 19].rfind("},").unwrap() + 1])),
        ("as long as can be", receipt(&paths[..longest])),
        ("directories", list(short.trim_end_matches(','))),
        ("very many directories", list(&directories[..longest_list])),
        ("longer", receipt(&paths)),
        ("endless", "[".repeat(70 << 20)),
        ("deep", "[".repeat(1 << 20)),
    ] {
        let lab = Lab::new();
        for (file, words) in
            [("receipt.json", "verify"), ("receipt.json", "remove"), ("pending.json", "remove")]
        {
            let owned = "\"type\":\"link\",\"target\":\"\",\"component\":\"\"";
            let text = match file {
                "pending.json" => text.replace(owned, "\"old\":null,\"new\":null,\"acts\":true"),
                _ => text.clone(),
            };
            write(&lab.path("var/lib/nodebake").join(file), text.as_bytes());
            let run = kit::run(lab.command([words]).arg("--root").arg(&lab.root));
            assert!(matches!(run.code, Some(0 | 3 | 6 | 10)), "{case}: {:.2000}", run.to_string());
            assert!(run.took < Duration::from_secs(20), "{case}: {words} took {:?}", run.took);
            let _ = fs::remove_file(lab.path("var/lib/nodebake").join(file));
        }
    }
}

fn with_spec(lab: &Lab, words: &[&str]) -> Run {
    let mut command = lab.command([]);
    kit::run(command.args(words).arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec))
}

/// Neither stream holds anything that a terminal would act on.
#[track_caller]
fn is_harmless(run: &Run) {
    run.is_printable();
    let turns = |c: char| matches!(c, '\u{61c}' | '\u{200e}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    for text in [&run.stdout, &run.errors()] {
        let found = text.chars().find(|c| (c.is_control() && *c != '\n') || turns(*c));
        assert_eq!(found, None, "a character that steers a terminal\n{run}");
    }
}

// ---------------------------------------------------------------- hosts that wait or never end

#[test]
fn s3_an_endless_spec_lock_or_certificate_ends() {
    let endless = Path::new("/dev/zero");
    let lab = Lab::new();
    let good = fs::read_to_string(&lab.spec).unwrap();
    fs::remove_file(&lab.spec).unwrap();
    link(endless, &lab.spec);
    with_spec(&lab, &["plan"]).exits(3).says("not a regular file").within(Duration::from_secs(5));
    fs::remove_file(&lab.spec).unwrap();
    write(&lab.spec, good.as_bytes());
    link(endless, &lab.dir.join("nodebake.lock"));
    with_spec(&lab, &["plan"]).exits(3).says("nodebake.lock").within(Duration::from_secs(5));
    fs::remove_file(lab.dir.join("nodebake.lock")).unwrap();
    link(endless, &lab.dir.join("ca.pem"));
    let ca = "registries: {a.example: {mirrors: [{url: 'https://m.example', ca: ca.pem}]}}\n";
    write(&lab.spec, format!("{good}{ca}").as_bytes());
    with_spec(&lab, &["plan"]).exits(3).says("ca.pem").within(Duration::from_secs(5));
}

#[test]
fn h4_a_fifo_in_the_source_blocks_nothing() {
    let lab = Lab::new();
    write(&lab.spec, b"components: {containerd: false, cni-plugins: false, runc: {version: 1.3.99}}\n");
    for file in ["runc.sha256sum", "runc.amd64"] {
        let fifo = lab.artifacts.join(file);
        let _ = fs::remove_file(&fifo);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        let mut command = lab.command(["lock", "--arch", "amd64", "--source"]);
        let run = kit::run(command.arg(&lab.artifacts).arg("--spec").arg(&lab.spec));
        assert!(matches!(run.code, Some(3..=5)), "{run}");
        run.within(Duration::from_secs(5));
        fs::remove_file(&fifo).unwrap();
        write(&fifo, format!("{}  runc.amd64\n", "0".repeat(64)).as_bytes());
    }
}

/// What the server says before its answer, and in it: without an end, or to be shown.
#[test]
fn h6_heads_without_an_end_and_words_for_a_terminal() {
    let evil = "\x1b[2J\x07\u{9b}31m\u{202e}";
    let line = format!("X-{}: {}\r\n", "a".repeat(1000), "b".repeat(7000));
    for (case, head, more) in [
        ("endless interim answers", String::new(), "HTTP/1.1 100 Continue\r\n\r\n".to_owned()),
        ("endless headers", "HTTP/1.1 200 OK\r\n".to_owned(), line),
        ("an endless header", "HTTP/1.1 200 OK\r\nX: ".to_owned(), "a".repeat(8192)),
        ("an endless status line", "HTTP/1.1 200 ".to_owned(), "a".repeat(8192)),
        ("no HTTP", String::new(), format!("{evil}\r\n")),
        ("a reason", format!("HTTP/1.1 404 {evil}\r\n\r\n"), String::new()),
        ("a place", format!("HTTP/1.1 302 Found\r\nLocation: ftp://{evil}/\r\n\r\n"), String::new()),
        (
            "another place",
            format!("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/{evil}\r\n\r\n"),
            String::new(),
        ),
        ("a range", format!("HTTP/1.1 206 Partial\r\nContent-Range: {evil}\r\n\r\n"), String::new()),
        ("a length", format!("HTTP/1.1 200 OK\r\nContent-Length: {evil}\r\n\r\n"), String::new()),
        (
            "a huge length",
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", u64::MAX),
            "a".repeat(8192),
        ),
        (
            "a chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            format!("{evil}\r\n"),
        ),
        (
            "a huge chunk",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_owned(),
            String::new(),
        ),
        ("a delay", format!("HTTP/1.1 503 {evil}\r\nRetry-After: {}\r\n\r\n", u64::MAX), String::new()),
        (
            "an encoding",
            format!("HTTP/1.1 200 OK\r\nContent-Encoding: {evil}\r\nContent-Length: 5\r\n\r\n<html"),
            String::new(),
        ),
    ] {
        let lab = Lab::new();
        let before = lab.tree();
        let server = flood(head, more);
        let source = format!("http://127.0.0.1:{}", server.port());
        let mut command =
            lab.command(["apply", "--retries", "0", "--stall-timeout", "2", "--source", &source]);
        let cache = lab.dir.join("cache");
        command.arg("--cache-dir").arg(&cache).arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec);
        let run = kit::run(&mut command);
        assert!(matches!(run.code, Some(4 | 5)), "{case}\n{run}");
        assert!(run.took < Duration::from_secs(25), "{case} took {:?}\n{run}", run.took);
        is_harmless(&run);
        assert_same(&format!("the root after {case}"), &before, &lab.tree());
    }
}

/// A server that answers every connection with `head`, then `more` for as long as somebody takes it.
fn flood(head: String, more: String) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let (head, more) = (head.clone(), more.clone());
            thread::spawn(move || -> std::io::Result<()> {
                let mut request = [0; 4096];
                let _ = socket.read(&mut request)?;
                socket.write_all(head.as_bytes())?;
                while !more.is_empty() {
                    socket.write_all(more.as_bytes())?;
                    // Else a debug build would be measured by how fast it parses.
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(())
            });
        }
    });
    address
}

/// Refused before anything is done: a receipt that could not be read again could not be taken away.
#[test]
fn t15_more_files_than_a_receipt_can_name_are_refused() {
    let mut lab = Lab::new();
    let mut members = cni_members();
    members.extend((0..4000).map(|n| Member::plugin(&format!("./{n:0>90}"))));
    lab.ship(CNI, &gzip(&tar(&members)));
    let before = lab.tree();
    with_spec(&lab, &["apply"]).exits(6).says("receipt.json").says("too many files");
    assert_same("the root", &before, &lab.tree());
    members.truncate(1500);
    lab.ship(CNI, &gzip(&tar(&members)));
    with_spec(&lab, &["apply"]).exits(0);
    kit::run(lab.command(["remove"]).arg("--root").arg(&lab.root)).exits(0);
    assert_same("the root", &before, &lab.tree());
}
