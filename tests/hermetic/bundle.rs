//! Bundles: one file in place of a directory of artifacts, believed no more than that. And the digests of
//! members in `nodebake.lock`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kit;
use crate::kit::{
    CNI, CONTAINERD, Header, Lab, Member, NODEBAKE, RUNC, Run, Tar, assert_same, paths, run, sha256,
    strace_works, tree, write,
};

const RECEIPT: &str = "var/lib/nodebake/receipt.json";

// ---------------------------------------------------------------- bundles

#[test]
fn a_bundle_bakes_what_its_directory_does() {
    let lab = Lab::new();
    let bundle = bundle(&lab);
    let beside = lab.another_root("beside");
    lab.run(["apply"], &beside).exits(0);
    fs::remove_dir_all(&lab.artifacts).unwrap();
    apply(&lab, &bundle).exits(0).says("from");
    assert_same("the root", &tree(&beside), &lab.tree());
    assert_eq!(fs::read(beside.join(RECEIPT)).unwrap(), lab.read(RECEIPT));
    lab.verify().exits(0);
    // Nothing of the bundle is needed any more.
    fs::remove_file(&bundle).unwrap();
    lab.apply().exits(0);
}

#[test]
fn the_spec_names_a_bundle_from_its_own_folder() {
    let lab = Lab::new();
    bundle(&lab);
    let spec = fs::read_to_string(&lab.spec).unwrap();
    write(&lab.spec, spec.replace("source: ./artifacts", "source: bundle.tar").as_bytes());
    fs::remove_dir_all(&lab.artifacts).unwrap();
    lab.apply().exits(0);
}

#[test]
fn the_same_artifacts_give_the_same_bundle() {
    let lab = Lab::new();
    let first = fs::read(bundle(&lab)).unwrap();
    let again = lab.dir.join("again.tar");
    create(&lab, &again, &["--arch", "amd64"]).exits(0);
    assert_eq!(first, fs::read(&again).unwrap());
    // What anybody's tar lists: a digest and upstream's name, sorted.
    let listed = run(Command::new("tar").arg("-tf").arg(&again));
    let mut expected: Vec<String> = [CONTAINERD, RUNC, CNI]
        .map(|c| format!("{}/{}\n", sha256(&fs::read(lab.artifacts.join(c.file)).unwrap()), c.file))
        .into();
    expected.sort();
    assert_eq!(listed.stdout, expected.concat());
    let verified = verify(&lab, &again);
    verified.exits(0);
    assert_eq!(verified.stdout, expected.concat().replace('/', "  "));
}

#[test]
fn an_architecture_that_the_source_lacks() {
    let lab = Lab::new();
    let output = lab.dir.join("bundle.tar");
    create(&lab, &output, &["--arch", "arm64"]).exits(4).says("arm64");
    assert!(!output.exists());
    // Not asked for: named, and left out.
    create(&lab, &output, &[]).exits(0).says("arm64 is not in the bundle");
    verify(&lab, &output).exits(0).mentions(RUNC.file);
}

#[test]
fn a_damaged_bundle_is_refused() {
    let lab = Lab::new();
    let bundle = bundle(&lab);
    let good = fs::read(&bundle).unwrap();
    let before = lab.tree();
    let runc = fs::read(lab.artifacts.join(RUNC.file)).unwrap();
    let at = good.windows(runc.len()).position(|window| window == runc).unwrap();
    let mut damaged = good.clone();
    damaged[at + runc.len() / 2] ^= 1;
    write(&bundle, &damaged);
    verify(&lab, &bundle).exits(5).says(RUNC.file);
    apply(&lab, &bundle).exits(5).says("runc");
    assert_same("the root", &before, &lab.tree());
    // Headers with a wrong checksum, one that is lost, which would end the list, and a second bundle behind.
    let second = good.windows(5).skip(512).position(|window| window == b"ustar").unwrap() + 512 - 257;
    let broken = |at: usize, length: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at..at + length].fill(byte);
        bytes
    };
    for bytes in
        [broken(100, 8, b'7'), broken(second, 100, b'a'), broken(second, 512, 0), [&good[..], &good].concat()]
    {
        write(&bundle, &bytes);
        verify(&lab, &bundle).exits(5).says("bundle.tar");
        apply(&lab, &bundle).exits(5).says("bundle.tar");
        assert_same("the root", &before, &lab.tree());
    }
    for length in [good.len() - 1024, good.len() - 1, at + 100, at - 100, 700] {
        write(&bundle, &good[..length]);
        verify(&lab, &bundle).exits(5).says("bundle.tar");
        apply(&lab, &bundle).exits(5).says("bundle.tar");
        assert_same("the root", &before, &lab.tree());
    }
    write(&bundle, &good);
    apply(&lab, &bundle).exits(0);
}

#[test]
fn what_is_no_bundle_is_refused() {
    let lab = Lab::new();
    let before = lab.tree();
    let name = format!("{}/runc.amd64", "a".repeat(64));
    let file = |name: &str| Member::file(name, 0o644, b"content");
    let long = "n".repeat(300);
    let others: [(&str, Vec<u8>); 12] = [
        ("nothing", Vec::new()),
        ("text", b"hello\n".to_vec()),
        ("noise", (0..4096_u32).map(|n| ((n * 7919) >> 3) as u8).collect()),
        ("an archive", fs::read(lab.artifacts.join(CONTAINERD.file)).unwrap()),
        ("an empty tar", Tar::new().end()),
        ("other files", kit::tar(&[file("runc.amd64")])),
        ("deeper", kit::tar(&[file(&format!("{}/x/runc", "a".repeat(64)))])),
        ("no name", kit::tar(&[file(&format!("{}/", "a".repeat(64)))])),
        ("a link", Tar::new().entry(Header::new(b'2', name.as_bytes()).link(b"/etc/passwd"), b"").end()),
        ("a record", Tar::new().pax(&[("path", name.as_bytes())]).entry(Header::new(b'0', b"x"), b"").end()),
        ("a long name", Tar::new().long_name(long.as_bytes()).entry(Header::new(b'0', b"x"), b"").end()),
        ("twice", kit::tar(&[file(&name), file(&name)])),
    ];
    let bundle = lab.dir.join("bundle.tar");
    for (what, bytes) in others {
        write(&bundle, &bytes);
        for run in [verify(&lab, &bundle), apply(&lab, &bundle)] {
            assert_eq!(run.code, Some(3), "{what}: {}", run.errors());
            run.says("bundle.tar").is_printable();
        }
        assert_same("the root", &before, &lab.tree());
    }
    // A directory that is missing is no bundle either, and no error before something is fetched from it.
    verify(&lab, &lab.dir.join("missing.tar")).exits(4).says("missing.tar");
}

#[test]
fn a_bundle_without_an_artifact_names_it() {
    let mut lab = Lab::new();
    let bundle = bundle(&lab);
    let before = lab.tree();
    let newer = kit::elf(kit::Machine::X86_64, b"a newer runc");
    lab.ship(RUNC, &newer);
    apply(&lab, &bundle).exits(4).says("runc 1.3.6 (amd64)").says(CNI.file);
    assert_same("the root", &before, &lab.tree());
}

#[test]
fn a_bundle_holds_what_is_pinned_and_nothing_else() {
    let mut lab = Lab::new();
    let output = lab.dir.join("bundle.tar");
    let runc = fs::read(lab.artifacts.join(RUNC.file)).unwrap();
    write(&lab.artifacts.join(RUNC.file), b"forged");
    create(&lab, &output, &["--arch", "amd64"]).exits(5).says("runc");
    assert!(!output.exists());
    // No digest at all.
    lab.ship(RUNC, &runc);
    let spec = fs::read_to_string(&lab.spec).unwrap();
    let unpinned = spec.replace(&format!("version: 1.3.6, sha256: {}", sha256(&runc)), "version: 1.3.99");
    assert_ne!(spec, unpinned);
    write(&lab.spec, unpinned.as_bytes());
    create(&lab, &output, &["--arch", "amd64"]).exits(5).says("nodebake lock");
    let names = paths(&lab.dir).iter().filter(|path| path.extension().is_some_and(|e| e == "tar")).count();
    assert_eq!(names, 0);
}

#[test]
fn a_bundle_that_can_not_be_written_leaves_the_old_one() {
    let lab = Lab::new();
    create(&lab, &lab.dir.join("nowhere/bundle.tar"), &["--arch", "amd64"]).exits(7).says("nowhere");
    if !strace_works() {
        return;
    }
    let bundle = lab.dir.join("bundle.tar");
    write(&bundle, b"the old one");
    let files = paths(&lab.dir).len();
    for (fault, code) in [
        ("write:error=ENOSPC:when=1", 7),
        ("write:error=EIO:when=3", 7),
        ("fsync:error=EIO:when=1", 7),
        ("renameat:error=EIO:when=1", 7),
        ("write:signal=SIGTERM:when=1", 143),
    ] {
        // Without the other threads: strace counts for each of them.
        let inject = format!("inject={fault}");
        let mut command = lab.wrapped(["strace", "-qq", "-o", "/dev/null", "-e", &inject]);
        command.args([NODEBAKE, "-q", "bundle", "create", "--arch", "amd64"]);
        let run = run(command.arg("--output").arg(&bundle).arg("--spec").arg(&lab.spec));
        run.exits(code);
        if code == 7 {
            run.says("bundle.tar");
        }
        assert_eq!(fs::read(&bundle).unwrap(), b"the old one", "{fault}");
        assert_eq!(paths(&lab.dir).len(), files, "{fault} left a file");
    }
    // And without a fault it is replaced.
    create(&lab, &bundle, &["--arch", "amd64"]).exits(0);
    verify(&lab, &bundle).exits(0);
}

#[test]
fn a_device_or_a_link_is_never_replaced_by_a_bundle() {
    let lab = Lab::new();
    let link = lab.dir.join("link.tar");
    kit::link("bundle.tar", &link);
    for output in [&link, Path::new("/dev/null"), &lab.artifacts] {
        create(&lab, output, &["--arch", "amd64"]).exits(2).says("not a regular file");
    }
    assert!(link.symlink_metadata().unwrap().is_symlink());
}

/// What is packed goes where no network is: nothing that is pinned may be missing from it silently.
#[test]
fn a_bundle_is_complete_or_is_not_made() {
    let lab = Lab::new();
    let output = lab.dir.join("bundle.tar");
    // The static build is there and is not what it should be: roots with an old glibc would get none.
    let other = "containerd-static-2.1.9-linux-amd64.tar.gz";
    write(&lab.artifacts.join(other), b"forged");
    let spec = fs::read_to_string(&lab.spec).unwrap();
    let digest = sha256(&fs::read(lab.artifacts.join(CONTAINERD.file)).unwrap());
    write(&lab.spec, spec.replace(&format!(", sha256: {digest}"), "").as_bytes());
    let locked = |build: &str, file: &str, digest: &str, size: usize| {
        format!(
            "- component: {build}\n  version: 2.1.9\n  arch: amd64\n  \
             url: https://github.com/containerd/containerd/releases/download/v2.1.9/{file}\n  \
             size: {size}\n  sha256: {digest}\n  verified: spec\n"
        )
    };
    let size = fs::metadata(lab.artifacts.join(CONTAINERD.file)).unwrap().len() as usize;
    let lock = [
        "version: 1\nartifacts:\n".to_owned(),
        locked("containerd", CONTAINERD.file, &digest, size),
        locked("containerd-static", other, &sha256(b"static"), 6),
    ];
    write(&lab.dir.join("nodebake.lock"), lock.concat().as_bytes());
    create(&lab, &output, &[]).exits(5).says("containerd-static");
    // Nor may what the lock pins be absent.
    fs::remove_file(lab.artifacts.join(other)).unwrap();
    create(&lab, &output, &[]).exits(4).says(other);
    assert!(!output.exists());
    // What is not pinned may: here nobody asks for the static build, and the lock names one architecture.
    write(&lab.dir.join("nodebake.lock"), lock[..2].concat().as_bytes());
    let run = create(&lab, &output, &[]);
    run.exits(0);
    assert!(!run.errors().contains("arm64"), "{}", run.errors());
}

#[test]
fn nothing_to_pack_is_said() {
    let lab = Lab::new();
    write(&lab.spec, b"components: {containerd: false, runc: false, cni-plugins: false}\n");
    create(&lab, &lab.dir.join("bundle.tar"), &["--arch", "amd64"]).exits(3).says("nothing to pack");
    let url = "components: {containerd: false, cni-plugins: false, runc: {version: 1.3.6, url: \"https://mirror.example/runc/\", sha256: DIGEST}}\n";
    write(&lab.spec, url.replace("DIGEST", &"a".repeat(64)).as_bytes());
    create(&lab, &lab.dir.join("bundle.tar"), &["--arch", "amd64"]).exits(3).says("no name in a bundle");
}

/// As `v2_a_source_that_changes_while_it_is_read_is_refused` has it for a bake.
#[test]
fn v2_a_source_that_changes_while_it_is_packed_is_refused() {
    changes_meanwhile(&["bundle", "create", "--arch", "amd64", "--output", "bundle.tar"]);
}

// ---------------------------------------------------------------- members in the lock

#[test]
fn members_of_the_lock_are_those_that_a_bake_finds() {
    let lab = Lab::new();
    lab.apply().exits(0);
    let without = (lab.tree(), lab.read(RECEIPT));
    lock(&lab).exits(0);
    let text = fs::read_to_string(lab.dir.join("nodebake.lock")).unwrap();
    let digest = |inside: &str| sha256(&lab.read(inside));
    assert!(text.contains(&format!("    bin/ctr: {}\n", digest("usr/local/bin/ctr"))), "{text}");
    assert!(text.contains(&format!("    loopback: {}\n", digest("opt/cni/bin/loopback"))), "{text}");
    // runc is no archive, and what is not installed of one is not pinned.
    assert_eq!(text.matches("members:").count(), 2, "{text}");
    assert!(!text.contains("LICENSE"), "{text}");
    lab.remove().exits(0);
    lab.apply().exits(0);
    assert_same("the root", &without.0, &lab.tree());
    assert_eq!(without.1, lab.read(RECEIPT));
    lab.verify().exits(0);
}

/// They are taken for what they say: that is what they are for. A wrong one is found by the next look, and
/// what is baked again is hashed.
#[test]
fn a_wrong_member_of_the_lock_is_drift() {
    let lab = Lab::new();
    lock(&lab).exits(0);
    let path = lab.dir.join("nodebake.lock");
    let text = fs::read_to_string(&path).unwrap();
    let line = text.lines().find(|line| line.starts_with("    bin/ctr: ")).unwrap();
    write(&path, text.replace(line, &format!("    bin/ctr: {}", "0".repeat(64))).as_bytes());
    lab.apply().exits(0);
    lab.verify().exits(10).mentions("/usr/local/bin/ctr");
    lab.apply().exits(0);
    lab.verify().exits(0);
    lab.remove().exits(0);
}

/// The members belong to an artifact: they say nothing about another one of the same name.
#[test]
fn members_of_another_artifact_are_not_believed() {
    let mut lab = Lab::new();
    lock(&lab).exits(0);
    let members: Vec<Member> = ["bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr"]
        .map(|name| Member::file(name, 0o755, &kit::elf(kit::Machine::X86_64, b"another build")))
        .into();
    lab.ship(CONTAINERD, &kit::gzip(&kit::tar(&members)));
    lab.apply().exits(0);
    lab.verify().exits(0);
}

/// As `v2_a_source_that_changes_while_it_is_read_is_refused` has it for a bake.
#[test]
fn v2_a_source_that_changes_while_it_is_pinned_is_refused() {
    changes_meanwhile(&["lock", "--arch", "amd64"]);
}

/// What no root would get is pinned, and said.
#[test]
fn lock_tells_what_a_bake_would_refuse() {
    let mut lab = Lab::new();
    lab.ship(RUNC, b"#!/bin/sh\n");
    lab.ship(CNI, &kit::gzip(&Tar::new().entry(Header::new(b'2', b"bridge").link(b"/bin/sh"), b"").end()));
    lock(&lab).exits(0).says("runc 1.3.6 (amd64) is pinned, but no root will get it").says("symlink");
    let text = fs::read_to_string(lab.dir.join("nodebake.lock")).unwrap();
    assert_eq!((text.matches("component:").count(), text.matches("members:").count()), (3, 1), "{text}");
    lab.apply().exits(6);
}

#[test]
fn lock_without_room_for_members_pins_the_rest() {
    let lab = Lab::new();
    let mut command = lab.command(["lock", "--arch", "amd64"]);
    let run = run(command.arg("--spec").arg(&lab.spec).env("TMPDIR", lab.dir.join("nowhere")));
    run.exits(0).says("cni-plugins 1.9.1 (amd64) is pinned without a look into it").says("nowhere");
    let text = fs::read_to_string(lab.dir.join("nodebake.lock")).unwrap();
    assert!(text.contains("component: containerd") && !text.contains("members:"), "{text}");
    lab.apply().exits(0);
}

#[test]
fn an_architecture_named_twice_is_pinned_once() {
    let lab = Lab::new();
    let spec = path(&lab.spec);
    run(&mut lab.command(["lock", "--arch", "amd64", "--arch", "x86_64", "--spec", spec])).exits(0);
    lab.apply().exits(0);
}

// ---------------------------------------------------------------- running

/// Runs `words` while runc is overwritten after it has been verified.
fn changes_meanwhile(words: &[&str]) {
    if !strace_works() {
        return;
    }
    let lab = Lab::new();
    // Verifying takes two calls, the second of which finds the end: the third one reads it again.
    let script = format!(
        "cd {2}; strace -qq -f -o /dev/null -P {0} -e trace=pread64 -e inject=pread64:delay_enter=1500000 \
         {NODEBAKE} {1} --spec {2}/nodebake.yaml & sleep 3.7; \
         printf evil | dd of={0} conv=notrunc bs=1 seek=100 status=none; wait $!",
        lab.artifacts.join(RUNC.file).display(),
        words.join(" "),
        lab.dir.display()
    );
    run(Command::new("bash").args(["-c", &script])).exits(5).says("changed while it was read");
    assert!(!lab.dir.join("bundle.tar").exists() && !lab.dir.join("nodebake.lock").exists());
}

/// A bundle of the lab's artifacts.
fn bundle(lab: &Lab) -> PathBuf {
    let output = lab.dir.join("bundle.tar");
    create(lab, &output, &["--arch", "amd64"]).exits(0);
    output
}

fn create(lab: &Lab, output: &Path, flags: &[&str]) -> Run {
    let mut command = lab.command(["bundle", "create"]);
    run(command.args(flags).arg("--output").arg(output).arg("--spec").arg(&lab.spec))
}

fn verify(lab: &Lab, bundle: &Path) -> Run {
    run(lab.command(["bundle", "verify"]).arg(bundle))
}

fn apply(lab: &Lab, bundle: &Path) -> Run {
    lab.run(["apply", "--offline", "--source", path(bundle)], &lab.root)
}

fn lock(lab: &Lab) -> Run {
    run(lab.command(["lock", "--arch", "amd64"]).arg("--spec").arg(&lab.spec))
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
