//! Limits: every input has a bound of bytes, of entries and of time, and whatever is read sees signals. The kit
//! fails a run that needs too much memory or does not end.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::kit;
use crate::kit::certificates::pair;
use crate::kit::http::{Reply, Server};
use crate::kit::{CONTAINERD, Component, Lab, Machine, RUNC, Run, elf, make_dir, write};

/// Time that is far above what a run takes, and far below what it took when there was no limit.
const SOON: Duration = Duration::from_secs(20);

/// Time between a signal and the end of a run: far above a fifth of a second only because other tests run as well.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Size of a file that no disk has room for and that takes hours to read.
const HUGE: u64 = 8 << 40;

/// Files of text that every bake installs.
const TEXTS: [&str; 4] = [
    "etc/crictl.yaml",
    "etc/containerd/config.toml",
    "etc/sysctl.d/90-nodebake.conf",
    "usr/local/lib/systemd/system/containerd.service",
];

fn sparse(path: &Path, size: u64) {
    let _ = fs::remove_file(path);
    make_dir(path.parent().unwrap());
    fs::File::create(path).unwrap().set_len(size).unwrap();
}

fn fifo(path: &Path) {
    let _ = fs::remove_file(path);
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
}

/// Runs `nodebake WORDS --root ROOT`, with the spec where the command takes one.
fn on_root(lab: &Lab, words: &str) -> Command {
    let mut command = lab.command([]);
    command.args(words.split(' ')).arg("--root").arg(&lab.root);
    if words.starts_with("plan") || words.starts_with("apply") {
        command.arg("--spec").arg(&lab.spec);
    }
    command
}

/// Replaces `from` in the receipt.
fn edit_receipt(lab: &Lab, edit: impl Fn(&mut serde_json::Value)) {
    let path = lab.path("var/lib/nodebake/receipt.json");
    let mut receipt = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut receipt);
    fs::write(&path, serde_json::to_string_pretty(&receipt).unwrap() + "\n").unwrap();
}

// ---------------------------------------------------------------- patterns

#[test]
fn l1_a_preset_of_stars_takes_no_time() {
    let lab = Lab::new();
    lab.apply().exits(0);
    let preset = lab.path("etc/systemd/system-preset/00-hostile.preset");
    for pattern in
        [format!("{}X", "*".repeat(40)), format!("{}X", "*?".repeat(100_000)), "*[".repeat(100_000)]
    {
        write(&preset, format!("disable {pattern}\n").repeat(5).as_bytes());
        lab.verify().exits(0).within(SOON);
    }
    write(&preset, b"disable [b-d]ontainerd[.!]s*e\n");
    lab.verify().exits(10).mentions("00-hostile.preset");
}

// ---------------------------------------------------------------- sizes before hashes

#[test]
fn l2_an_installed_file_of_another_size_is_not_read() {
    for with_sizes in [true, false] {
        let lab = Lab::new();
        let before = lab.tree();
        lab.apply().exits(0);
        if !with_sizes {
            edit_receipt(&lab, |receipt| {
                for owned in receipt["paths"].as_object_mut().unwrap().values_mut() {
                    owned.as_object_mut().unwrap().remove("size");
                }
            });
            lab.verify().exits(0);
        }
        // Beyond the limit of what is hashed, or with a size of its own in the receipt.
        let size = if with_sizes { 900 << 20 } else { HUGE };
        for path in TEXTS.iter().chain(&["usr/local/sbin/runc"]) {
            sparse(&lab.path(path), size);
        }
        kit::run(&mut on_root(&lab, "plan --detailed-exitcode")).exits(10).within(AT_ONCE);
        lab.verify().exits(10).mentions("content differs").mentions(&size.to_string()).within(AT_ONCE);
        lab.apply().exits(0).says("the edit is kept").within(SOON);
        lab.verify().exits(0);
        sparse(&lab.path("etc/crictl.yaml"), size);
        lab.remove().exits(0).says("was edited and is kept").within(AT_ONCE);
        fs::remove_file(lab.path("etc/crictl.yaml")).unwrap();
        fs::remove_dir_all(lab.path("var/lib/nodebake")).unwrap();
        kit::assert_same("the root", &before, &lab.tree());
    }
}

/// What was there before the first bake comes back, whatever its size.
#[test]
fn l2_a_huge_original_comes_back() {
    let lab = Lab::new();
    sparse(&lab.path("usr/local/sbin/runc"), HUGE);
    lab.apply().exits(0).within(SOON);
    lab.apply().exits(0);
    lab.verify().exits(0);
    lab.remove().exits(0).within(SOON);
    assert_eq!(fs::metadata(lab.path("usr/local/sbin/runc")).unwrap().len(), HUGE);
}

#[test]
fn l2_an_unfinished_run_with_huge_files_is_settled() {
    for file in ["receipt.json", "pending.json"] {
        let lab = Lab::new();
        lab.apply().exits(0);
        let state = lab.path("var/lib/nodebake");
        let receipt: serde_json::Value =
            serde_json::from_slice(&fs::read(state.join("receipt.json")).unwrap()).unwrap();
        let owned = &receipt["paths"]["/etc/crictl.yaml"];
        let intent = serde_json::json!({"version": 1, "arch": "amd64", "artifacts": [], "directories": [],
            "paths": {"/etc/crictl.yaml": {"temporary": "/etc/.nodebake-crictl.yaml.tmp", "old": null, "new": owned, "acts": true}}});
        fs::write(state.join("pending.json"), intent.to_string()).unwrap();
        if file == "pending.json" {
            fs::remove_file(state.join("receipt.json")).unwrap();
        }
        sparse(&lab.path("etc/crictl.yaml"), HUGE);
        lab.apply().exits(0).within(SOON);
        lab.verify().exits(0);
    }
}

/// A hostile receipt gives the sizes that it likes: what is hashed in one root has a bound as well.
#[test]
fn l2_files_that_are_enormous_together_are_refused() {
    let lab = Lab::new();
    lab.apply().exits(0);
    let size: u64 = 1 << 30;
    sparse(&lab.path("large"), size);
    edit_receipt(&lab, |receipt| {
        let mut owned = receipt["paths"]["/etc/crictl.yaml"].clone();
        owned["size"] = size.into();
        owned["component"] = "registries".into();
        for n in 0..40 {
            receipt["paths"][format!("/etc/containerd/certs.d/large{n}/hosts.toml")] = owned.clone();
        }
    });
    for n in 0..40 {
        let directory = lab.path(&format!("etc/containerd/certs.d/large{n}"));
        make_dir(&directory);
        fs::hard_link(lab.path("large"), directory.join("hosts.toml")).unwrap();
    }
    kit::run(&mut on_root(&lab, "verify")).exits(6).says("bytes").says("large");
}

#[test]
fn l2_sources_and_bundles_have_sizes() {
    let lab = Lab::new();
    let bundle = lab.dir.join("bundle.tar");
    let mut create = lab.command(["bundle", "create", "--arch", "amd64", "--output"]);
    kit::run(create.arg(&bundle).arg("--spec").arg(&lab.spec)).exits(0);
    for file in [RUNC, CONTAINERD] {
        sparse(&lab.artifacts.join(file.file), HUGE);
        for words in ["plan", "apply"] {
            kit::run(&mut on_root(&lab, words)).exits(5).says("size").within(SOON);
        }
        let mut lock = lab.command(["lock", "--arch", "amd64"]);
        kit::run(lock.arg("--spec").arg(&lab.spec)).exits(5).says("size").within(SOON);
        let mut create = lab.command(["bundle", "create", "--arch", "amd64", "--output"]);
        kit::run(create.arg(lab.dir.join("other.tar")).arg("--spec").arg(&lab.spec)).exits(5).within(SOON);
    }
    // A header of an entry that is said to have terabytes, in a file that has them.
    let mut bytes = fs::read(&bundle).unwrap();
    let size = format!("{:011o}\0", (4_u64 << 30) - 1);
    bytes[124..136].copy_from_slice(size.as_bytes());
    bytes[148..156].copy_from_slice(b"        ");
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    fs::write(&bundle, &bytes).unwrap();
    fs::File::options().write(true).open(&bundle).unwrap().set_len((4 << 30) + 1024).unwrap();
    let run = kit::run(lab.command(["bundle", "verify"]).arg(&bundle));
    run.exits(3).says("more than").within(SOON);
}

// ---------------------------------------------------------------- signals

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn has_open(child: &Child, name: &str) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", child.id())) else { return false };
    entries.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().contains(name)))
}

/// Sends `signal` once the run reads the file called `name`, and returns exit code, time and stderr.
fn stopped_at(command: &mut Command, name: &str, signal: &str) -> (i32, Duration, String) {
    let child = start(command);
    kit::wait_until(&format!("{name} is open"), || has_open(&child, name));
    let began = Instant::now();
    assert!(kit::works(["kill", &format!("-{signal}"), &child.id().to_string()]));
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), began.elapsed(), errors)
}

#[test]
fn l3_signals_end_the_hashing_of_a_root() {
    let lab = Lab::new();
    lab.apply().exits(0);
    let size: u64 = 1 << 30;
    edit_receipt(&lab, |receipt| {
        for path in TEXTS {
            receipt["paths"][format!("/{path}")]["size"] = size.into();
        }
    });
    for path in TEXTS {
        sparse(&lab.path(path), size);
    }
    let before = kit::paths(&lab.root);
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        for words in ["plan", "apply", "verify", "remove"] {
            let (ended, took, errors) = stopped_at(&mut on_root(&lab, words), "crictl.yaml", signal);
            assert_eq!(ended, code, "{words}: {errors}");
            assert!(took < AT_ONCE, "{words} took {took:?} after the signal: {errors}");
            assert_eq!(before, kit::paths(&lab.root), "{words}");
        }
    }
    // The lock is free.
    drop(lab.hold_lock());
}

/// The intent of an earlier run has the sizes of the files: the next run settles it, and sees signals meanwhile.
#[test]
fn l3_signals_end_the_recovery_of_a_root() {
    let lab = Lab::new();
    lab.apply().exits(0);
    let size: u64 = 1 << 30;
    let state = lab.path("var/lib/nodebake");
    let mut intent: serde_json::Value =
        serde_json::from_slice(&fs::read(state.join("receipt.json")).unwrap()).unwrap();
    let steps = TEXTS.map(|path| {
        let mut owned = intent["paths"][format!("/{path}")].clone();
        owned["size"] = size.into();
        sparse(&lab.path(path), size);
        let (folder, name) = path.rsplit_once('/').unwrap();
        let temporary = format!("/{folder}/.nodebake-{name}.tmp");
        let step = serde_json::json!({"temporary": temporary, "old": owned, "new": owned, "acts": true});
        (format!("/{path}"), step)
    });
    intent["paths"] = steps.into_iter().collect();
    fs::write(state.join("pending.json"), intent.to_string()).unwrap();
    for words in ["apply", "remove"] {
        let (ended, took, errors) = stopped_at(&mut on_root(&lab, words), "crictl.yaml", "TERM");
        assert_eq!(ended, 143, "{words}: {errors}");
        assert!(took < AT_ONCE, "{words} took {took:?} after the signal: {errors}");
        assert!(state.join("pending.json").exists(), "{words}: the next run settles it");
    }
}

#[test]
fn l3_signals_end_the_hashing_of_a_source() {
    let lab = Lab::new();
    let before = lab.tree();
    sparse(&lab.artifacts.join(RUNC.file), 2 << 30);
    for words in ["plan", "apply"] {
        let (ended, took, errors) = stopped_at(&mut on_root(&lab, words), RUNC.file, "TERM");
        assert!(ended == 143 && took < AT_ONCE, "{words}: {ended} after {took:?}: {errors}");
        kit::assert_same("the root", &before, &lab.tree());
    }
    let other = lab.dir.join("other.tar");
    for words in ["lock", "bundle create --output OTHER"] {
        let mut command = lab.command([]);
        command.args(words.replace("OTHER", other.to_str().unwrap()).split(' '));
        command.args(["--arch", "amd64"]).arg("--spec").arg(&lab.spec);
        let (ended, took, errors) = stopped_at(&mut command, RUNC.file, "TERM");
        assert!(ended == 143 && took < AT_ONCE, "{words}: {ended} after {took:?}: {errors}");
    }
    assert!(!other.exists() && !lab.dir.join("nodebake.lock").exists());
}

/// What is undone after a signal is undone although the signal has come.
#[test]
fn l3_what_was_staged_is_undone_after_a_signal() {
    if !kit::strace_works() {
        return;
    }
    let lab = Lab::new();
    write(&lab.path("etc/crictl.yaml"), b"the administrator's\n");
    let before = lab.tree();
    let log = lab.dir.join("calls");
    let words = kit::strace_to(&log, ["trace=symlinkat", "inject=symlinkat:signal=SIGTERM:when=1"]);
    let run = lab.apply_under(words);
    assert_eq!(run.code, Some(143), "{run}");
    kit::assert_same("the root", &before, &lab.tree());
}

// ---------------------------------------------------------------- ELF files

/// A library with `count` section headers: 64 bits, x86-64, and the count in the first of them.
fn library(path: &Path, count: u64) {
    let mut header = elf(Machine::X86_64, b"");
    header[16..18].copy_from_slice(&3_u16.to_le_bytes());
    let end = header.len() as u64;
    header[40..48].copy_from_slice(&end.to_le_bytes());
    header[58..60].copy_from_slice(&64_u16.to_le_bytes());
    let mut first = [0; 64];
    first[32..40].copy_from_slice(&count.to_le_bytes());
    header.extend(first);
    write(path, &header);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_len(end + 64 * count).unwrap();
}

#[test]
fn l4_headers_without_an_end_are_not_read() {
    let lab = Lab::new();
    library(&lab.path("usr/lib/libc.so.6"), 40_000_000);
    lab.apply().exits(0).within(SOON);
    lab.verify().exits(0).within(SOON);
    // The same in an artifact that is trusted, and in an installed file.
    library(&lab.path("usr/local/sbin/runc"), 40_000_000);
    lab.verify().exits(10).mentions("headers have more than").within(SOON);
    let mut lab = Lab::new();
    let runc = lab.artifacts.join("large");
    library(&runc, 100_000);
    let bytes = fs::read(&runc).unwrap();
    lab.ship(RUNC, &bytes).apply().exits(5).says("headers have more than").within(SOON);
}

// ---------------------------------------------------------------- directories

#[test]
fn l5_directories_with_very_many_names_are_refused() {
    let lab = Lab::new();
    lab.apply().exits(0);
    let directory = lab.path("etc/systemd/system-preset");
    for n in 0..70_000 {
        fs::write(directory.join(format!("{n:0>200}.preset")), "").unwrap();
    }
    lab.verify().exits(6).says("system-preset").says("more than").within(SOON);
    // A directory that nodebake only looks into to see whether it is empty.
    fs::rename(&directory, lab.path("var/lib/nodebake/many")).unwrap();
    lab.remove().exits(0).within(SOON);
}

// ---------------------------------------------------------------- package databases

#[test]
fn l6_package_databases_have_a_limit() {
    let lab = Lab::new();
    lab.apply().exits(0);
    write(&lab.path("etc/os-release"), b"ID=debian\n");
    edit_receipt(&lab, |receipt| {
        receipt["packages"] = serde_json::json!([
            {"name": "containerd.io", "version": "1", "architecture": "amd64", "found": true, "held": false}
        ]);
    });
    let paragraph = |name: &str, more: &str| {
        format!("Package: {name}\nStatus: install ok installed\nArchitecture: a\nVersion: 1\n{more}\n")
    };
    let conffiles = |count| {
        let lines: String = (0..count).map(|n| format!(" /{n} {n}\n")).collect();
        format!("Conffiles:\n{lines}")
    };
    let status = lab.path("var/lib/dpkg/status");
    for (case, text, says) in [
        ("many", (0..1_000_000).map(|n| paragraph(&format!("x{n}"), "")).collect::<String>(), "packages"),
        (
            "long",
            (0..60).map(|n| paragraph(&format!("x{n}"), &format!("X: {}\n", "y".repeat(1 << 19)))).collect(),
            "",
        ),
        (
            "versions",
            (0..60).map(|n| paragraph(&format!("x{n}{}", "y".repeat(1 << 19)), "")).collect(),
            "name",
        ),
        ("conffiles", (0..60).map(|n| paragraph(&format!("x{n}"), &conffiles(40_000))).collect(), ""),
    ] {
        write(&status, text.as_bytes());
        let run = lab.verify();
        assert!(matches!(run.code, Some(3 | 10)), "{case}\n{run}");
        run.mentions(says).within(SOON);
    }
    write(&status, paragraph("containerd.io", "").as_bytes());
    for (kind, line) in [("list", "/a\n"), ("md5sums", "0  a\n")] {
        let path = lab.path("var/lib/dpkg/info").join(format!("containerd.io.{kind}"));
        write(&path, line.repeat(3 << 20).as_bytes());
        lab.verify().exits(3).says("containerd.io").within(SOON);
        let lines: String = (0..100_000).map(|n| line.replace('a', &format!("{n:x}"))).collect();
        write(&path, lines.as_bytes());
        lab.verify().exits(10).within(SOON);
        fs::remove_file(path).unwrap();
    }
}

// ---------------------------------------------------------------- configuration texts

/// Documents that cost the most memory for their length.
fn dense(length: usize) -> Vec<(&'static str, String)> {
    let lines = |line: &dyn Fn(usize) -> String| {
        let mut text = String::new();
        let mut n = 0;
        while text.len() < length {
            text += &line(n);
            n += 1;
        }
        text
    };
    let parts = |part: &str| format!("a = [{}]\n", part.repeat(length / part.len()));
    vec![
        ("keys", lines(&|n| format!("{n:x}=1\n"))),
        ("dotted keys", lines(&|n| format!("{n:x}.a.a.a.a.a.a.a.a.a.a.a=1\n"))),
        ("dotted tables", lines(&|n| format!("[{n:x}.a.a.a.a.a.a.a.a.a.a.a]\n"))),
        ("numbers", parts("1,")),
        ("tables", parts("{a.a.a.a.a.a.a=1},")),
        ("arrays", parts(&format!("{}{},", "[".repeat(60), "]".repeat(60)))),
        ("text", format!("a = '{}'\n", "x".repeat(length))),
    ]
}

#[test]
fn l7_configuration_texts_have_a_limit() {
    let mut lab = Lab::new();
    lab.spec_also("registries: {docker.io: {mirrors: [{url: 'https://m.example'}]}}\n");
    lab.apply().exits(0);
    let config = lab.path("etc/containerd/config.toml");
    let hosts = lab.path("etc/containerd/certs.d/docker.io/hosts.toml");
    for length in [18_000, 250_000, 1_000_000] {
        for (case, text) in dense(length) {
            for path in [&config, &hosts] {
                let before = fs::read(path).unwrap();
                fs::write(path, &text).unwrap();
                let run = lab.verify();
                assert_eq!(run.code, Some(10), "{case}\n{run}");
                run.within(SOON);
                if length == 1_000_000 {
                    run.mentions("of at most").mentions(path.file_name().unwrap().to_str().unwrap());
                }
                fs::write(path, before).unwrap();
            }
        }
    }
}

#[test]
fn l7_a_merged_fragment_has_a_limit() {
    for length in [9_000, 200_000, 900_000] {
        for (case, text) in dense(length) {
            let mut lab = Lab::new();
            let indented = text.lines().map(|line| format!("      {line}\n")).collect::<String>();
            lab.spec_also(&format!("containerd:\n  config:\n    merge: |\n{indented}"));
            let run = lab.apply();
            assert!(matches!(run.code, Some(0 | 3)), "{case}\n{run}");
            run.within(SOON);
            assert!(length < 900_000 || run.code == Some(3), "{case}\n{run}");
        }
    }
}

#[test]
fn l7_specs_and_locks_have_a_limit() {
    let parts = |head: &str, part: &dyn Fn(usize) -> String, tail: &str, length: usize| {
        let mut text = head.to_owned();
        let mut n = 0;
        while text.len() + 100 < length {
            text += &part(n);
            n += 1;
        }
        text + tail
    };
    for length in [300_000, 1 << 20] {
        for (file, text) in [
            ("nodebake.yaml", parts("images: [", &|_| "a,".to_owned(), "]\n", length)),
            ("nodebake.yaml", parts("registries:\n", &|n| format!(" {n:x}: {{}}\n"), "", length)),
            ("nodebake.yaml", parts("kernel: {sysctl: {", &|n| format!("a.{n:x}: 1,"), "}}\n", length)),
            ("nodebake.yaml", parts("zzz: [", &|_| "a,".to_owned(), "]\n", length)),
            ("nodebake.yaml", parts("", &|n| format!("{n:x}: 1\n"), "", length)),
            ("nodebake.lock", parts("version: 1\nartifacts: [", &|_| "a,".to_owned(), "]\n", length)),
        ] {
            let lab = Lab::new();
            write(&lab.dir.join(file), text.as_bytes());
            let run = kit::run(on_root(&lab, "plan").arg("--offline"));
            assert!(matches!(run.code, Some(3 | 4)), "{text:.50}\n{run:.2000}");
            run.within(SOON);
        }
    }
}

#[test]
fn l7_thousands_of_mirror_files_have_a_limit_together() {
    let lab = Lab::new();
    lab.apply().exits(0);
    let (_, text) = dense(240_000).remove(6);
    write(&lab.path("hosts.toml"), text.as_bytes());
    edit_receipt(&lab, |receipt| {
        let mut owned = receipt["paths"]["/etc/crictl.yaml"].clone();
        owned["size"] = (text.len() as u64).into();
        owned["sha256"] = kit::sha256(text.as_bytes()).into();
        owned["component"] = "registries".into();
        for n in 0..3000 {
            receipt["paths"][format!("/etc/containerd/certs.d/{n}/hosts.toml")] = owned.clone();
        }
    });
    for n in 0..3000 {
        let directory = lab.path("etc/containerd/certs.d").join(n.to_string());
        make_dir(&directory);
        fs::hard_link(lab.path("hosts.toml"), directory.join("hosts.toml")).unwrap();
    }
    lab.verify().exits(10).mentions("configuration of registries has more than").within(SOON);
}

/// Each is read after those before it, and what they make together is judged.
#[test]
fn l7_files_that_a_configuration_imports_have_a_limit_together() {
    let lab = Lab::new();
    lab.apply().exits(0);
    for n in 0..150 {
        let keys: String = (0..600).map(|key| format!("x.y{n}.z{key}.a.b.c.d.e.f.g.h = 1\n")).collect();
        let imports = "imports = ['/etc/containerd/conf.d/*.toml', '/gone']\n";
        write(
            &lab.path(&format!("etc/containerd/conf.d/{n:03}.toml")),
            format!("{imports}{keys}").as_bytes(),
        );
    }
    for run in [lab.verify(), lab.apply()] {
        assert!(matches!(run.code, Some(0 | 10)), "{run:.2000}");
        assert!(run.peak < 128 << 10, "{} KiB of memory", run.peak);
        assert!(run.stdout.len() + run.stderr.len() < 100_000, "{run:.2000}");
        run.within(SOON);
    }
    lab.verify().exits(10).mentions("together");
}

#[test]
fn l7_other_texts_of_a_root_have_a_limit() {
    let lab = Lab::new();
    lab.apply().exits(0);
    let lines = |line: &dyn Fn(usize) -> String| (0..400_000).map(line).collect::<String>();
    for (path, text) in [
        ("etc/os-release", lines(&|n| format!("{n:x}=\n"))),
        ("etc/systemd/system-preset/00-a.preset", "enable a\n".repeat(1 << 20)),
        ("etc/selinux/targeted/contexts/customizable_types", "a\n".repeat(2 << 20)),
        ("etc/crictl.yaml", "\n".repeat(250_000)),
        ("etc/sysctl.d/90-nodebake.conf", lines(&|n| format!("{n}\n"))),
        ("var/lib/nodebake/pending.json", "[".repeat(4 << 20)),
    ] {
        write(&lab.path("etc/selinux/config"), b"SELINUXTYPE=targeted\n");
        write(&lab.path("etc/selinux/targeted/contexts/files/file_contexts"), b"/etc x:x:x_t:s0\n");
        write(&lab.path(path), text.as_bytes());
        for words in ["plan", "verify"] {
            let run = kit::run(&mut on_root(&lab, words));
            assert!(matches!(run.code, Some(0 | 3 | 6 | 10)), "{path}: {:.3000}", run.to_string());
            run.within(SOON);
        }
        fs::remove_file(lab.path(path)).unwrap();
        lab.apply().exits(0);
    }
}

// ---------------------------------------------------------------- the caller's files

#[test]
fn l8_files_that_the_caller_names_are_regular_and_short() {
    let ca = "registries: {a.example: {mirrors: [{url: 'https://m.example', ca: ca.pem}]}}\n";
    let client =
        "registries: {a.example: {mirrors: [{url: 'https://m.example', client: [[c.pem, c.key]]}]}}\n";
    type Make = fn(&Path);
    let kinds: [(&str, Make, &str); 4] = [
        ("a FIFO", fifo, "not a regular file"),
        ("/dev/zero", |path| symlink("/dev/zero", path).unwrap(), "not a regular file"),
        ("a directory", |path| fs::create_dir(path).unwrap(), "not a regular file"),
        ("a large file", |path| sparse(path, 3 << 30), "longer than"),
    ];
    for (kind, make, says) in kinds {
        for (name, also) in [
            ("nodebake.yaml", ""),
            ("nodebake.lock", ""),
            ("ca.pem", ca),
            ("c.pem", client),
            ("c.key", client),
        ] {
            let mut lab = Lab::new();
            lab.spec_also(also);
            write(&lab.dir.join("c.pem"), pair().certificate.as_bytes());
            write(&lab.dir.join("c.key"), pair().key.as_bytes());
            let path = lab.dir.join(name);
            let _ = fs::remove_file(&path);
            make(&path);
            for words in ["plan", "apply"] {
                let run = kit::run(&mut on_root(&lab, words));
                assert_eq!(run.code, Some(3), "{kind} as {name}\n{run}");
                run.says(name).says(says).within(AT_ONCE);
            }
        }
    }
}

#[test]
fn l8_an_authority_of_the_command_line_is_regular_and_short() {
    let lab = Lab::new();
    let server = Server::http(|_, _| Reply::error(404));
    let path = lab.dir.join("ca.pem");
    let refused = |says: &str| {
        let mut command = on_root(&lab, "apply");
        command.arg("--source").arg(server.url()).arg("--ca-file").arg(&path);
        kit::run(&mut command).exits(2).says("ca.pem").says(says).within(AT_ONCE);
    };
    fifo(&path);
    refused("not a regular file");
    sparse(&path, 3 << 30);
    refused("longer than");
}

#[test]
fn l8_package_files_are_regular() {
    let lab = Lab::new();
    write(&lab.path("etc/os-release"), b"ID=debian\n");
    let package = lab.dir.join("containerd.io.deb");
    write(
        &lab.spec,
        b"containerd: {install: package, package: {repository: {path: containerd.io.deb}}}\ncomponents: {runc: false, cni-plugins: false}\n",
    );
    for (make, says) in
        [(fifo as fn(&Path), "not a regular file"), (|path| sparse(path, HUGE), "longer than")]
    {
        make(&package);
        let mut lock = lab.command(["lock", "--arch", "amd64"]);
        let run = kit::run(lock.arg("--spec").arg(&lab.spec));
        run.says("containerd.io.deb").says(says).within(AT_ONCE);
        assert_ne!(run.code, Some(0), "{run}");
    }
}

#[test]
fn l8_certificates_and_registries_have_a_limit_together() {
    let mut pem = pair().certificate.clone().into_bytes();
    pem.resize(1 << 20, b'x');
    for (count, copies) in [(6, 1), (1, 12)] {
        let mut lab = Lab::new();
        let mut yaml = "registries:\n".to_owned();
        for n in 0..count * copies {
            let file = n % count;
            write(&lab.dir.join(format!("{file}.pem")), &pem);
            yaml += &format!("  r{n}.example: {{mirrors: [{{url: 'https://m.example', ca: {file}.pem}}]}}\n");
        }
        lab.spec_also(&yaml);
        lab.apply().exits(3).says("bytes").within(SOON);
    }
    let many: String = (0..40_000).map(|n| format!("  r{n}.example: {{}}\n")).collect();
    let mut lab = Lab::new();
    lab.spec_also(&format!("registries:\n{many}"));
    lab.apply().exits(3).says("registries").within(SOON);
}

// ---------------------------------------------------------------- a shared cache

/// Serves the artifacts of the lab.
fn mirror(lab: &Lab) -> Server {
    let folder = lab.artifacts.clone();
    Server::http(move |request, _| match fs::read(folder.join(request.file())) {
        Ok(bytes) => Reply::ok(bytes),
        Err(_) => Reply::error(404),
    })
}

fn from_mirror(lab: &Lab, server: &Server, cache: &Path) -> Run {
    let mut command = on_root(lab, "apply");
    command.args(["--retries", "1", "--source", &server.url(), "--cache-dir"]).arg(cache);
    kit::run(&mut command)
}

#[test]
fn l9_what_others_put_into_a_shared_cache_fails_no_run() {
    type Plant = fn(&Path);
    let plants: [(&str, Plant, bool); 7] = [
        ("a directory", |path| fs::create_dir(path).unwrap(), true),
        ("a full directory", |path| write(&path.join("x"), b"x"), true),
        ("a link to nothing", |path| symlink("/nothing", path).unwrap(), false),
        ("a link", |path| symlink("/etc/passwd", path).unwrap(), false),
        ("a FIFO", fifo, false),
        (
            "a device",
            |path| {
                mknodat(
                    CWD,
                    path,
                    FileType::CharacterDevice,
                    Mode::from_raw_mode(0o666),
                    rustix::fs::makedev(1, 5),
                )
                .unwrap()
            },
            false,
        ),
        ("a huge file", |path| sparse(path, HUGE), false),
    ];
    let digest =
        |lab: &Lab, component: Component| kit::sha256(&fs::read(lab.artifacts.join(component.file)).unwrap());
    for (kind, plant, stays) in plants {
        for partial in [true, false] {
            let lab = Lab::new();
            let server = mirror(&lab);
            let cache = lab.dir.join("cache");
            make_dir(&cache);
            let ending = if partial { ".partial" } else { "" };
            plant(&cache.join(format!("{}{ending}", digest(&lab, RUNC))));
            let run = from_mirror(&lab, &server, &cache);
            assert_eq!(run.code, Some(0), "{kind}, {ending}\n{run}");
            run.within(SOON);
            let of_the_cache = |line: &&str| line.contains("warning") && !line.contains("end of life");
            let warned = run.errors().lines().filter(of_the_cache).count();
            let expected = usize::from(if partial { kind != "a huge file" } else { stays });
            assert_eq!(warned, expected, "{kind}, {ending}\n{run}");
            kit::run(&mut on_root(&lab, "verify")).exits(0);
            let left = fs::read_dir(&cache).unwrap().flatten();
            let partials = left.filter(|entry| entry.file_name().to_string_lossy().ends_with(".partial"));
            assert!(partials.count() <= usize::from(partial), "{kind}: a partial download is left");
        }
    }
}

#[test]
fn l9_a_partial_download_of_wrong_bytes_fails_no_run() {
    for length in [1, 40, 1 << 20] {
        let lab = Lab::new();
        let server = mirror(&lab);
        let cache = lab.dir.join("cache");
        let runc = fs::read(lab.artifacts.join(RUNC.file)).unwrap();
        write(&cache.join(format!("{}.partial", kit::sha256(&runc))), &vec![b'x'; length]);
        from_mirror(&lab, &server, &cache).exits(0).within(SOON);
    }
}
