//! What reviews have found, kept found: each test showed a loss before it was mended.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::kit;
use crate::kit::{
    CNI, CONTAINERD, Lab, NODEBAKE, RUNC, assert_same, elf, link, mode, run, strace, strace_works, tree,
    write,
};

const CONFIG: &str = "etc/containerd/config.toml";

/// Bytes that change between verifying and parsing are not installed as the verified ones.
#[test]
fn v2_a_source_that_changes_while_it_is_read_is_refused() {
    if !strace_works() {
        return;
    }
    let lab = Lab::new();
    let runc = lab.artifacts.join(RUNC.file);
    let before = lab.tree();
    // The first pass has read everything when the second one is held up.
    let script = format!(
        "strace -qq -f -o /dev/null -P {0} -e trace=pread64 -e inject=pread64:delay_enter=1500000:when=4+ \
         {NODEBAKE} apply --root {1} --spec {2} & sleep 2.5; \
         printf evil | dd of={0} conv=notrunc bs=1 seek=200 status=none; wait $!",
        runc.display(),
        lab.root.display(),
        lab.spec.display()
    );
    let run = run(Command::new("bash").args(["-c", &script]));
    run.exits(5);
    assert_same("the root", &before, &lab.tree());
}

/// A file with just our content stood there before: a failed run undoes itself, and `remove` works.
#[test]
fn an_identical_original_survives_a_failed_bake() {
    if !strace_works() {
        return;
    }
    let lab = Lab::new();
    lab.apply().exits(0);
    let ours = lab.read("etc/crictl.yaml");
    lab.remove().exits(0);
    write(&lab.path("etc/crictl.yaml"), &ours);
    mode(&lab.path("etc/crictl.yaml"), 0o644);
    let before = lab.tree();
    lab.apply_under(strace(["inject=symlinkat:error=ENOSPC:when=1"])).exits(7);
    assert_same("after the failure", &before, &lab.tree());
    lab.apply_under(strace(["inject=symlinkat:signal=SIGKILL:when=1"]));
    lab.apply().exits(0);
    lab.remove().exits(0);
    assert_same("after remove", &before, &lab.tree());
}

/// What stood there before the first bake stays the original, whatever is edited and removed since.
#[test]
fn the_first_original_is_the_one_that_comes_back() {
    let lab = Lab::new();
    write(&lab.path(CONFIG), b"the administrator's\n");
    lab.apply().exits(0);
    write(&lab.path(CONFIG), b"an edit of ours\n");
    lab.remove().exits(0).says(CONFIG);
    assert_eq!(lab.read(CONFIG), b"an edit of ours\n");
    if strace_works() {
        let failing = strace(["inject=symlinkat:error=ENOSPC:when=1"]);
        lab.apply_under(failing).exits(7);
        assert_eq!(
            lab.read("var/lib/nodebake/original/etc/containerd/config.toml"),
            b"the administrator's\n"
        );
    }
    lab.apply().exits(0);
    assert_eq!(lab.read("var/lib/nodebake/edited/etc/containerd/config.toml"), b"an edit of ours\n");
    lab.remove().exits(0);
    assert_eq!(lab.read(CONFIG), b"the administrator's\n");
}

#[test]
fn an_earlier_edit_is_not_lost_to_a_later_one() {
    let lab = Lab::new();
    lab.apply().exits(0);
    for edit in ["first", "second"] {
        write(&lab.path(CONFIG), edit.as_bytes());
        lab.apply().exits(0).says("edited");
    }
    let kept = "var/lib/nodebake/edited/etc/containerd/config.toml";
    assert_eq!(lab.read(kept), b"second");
    assert_eq!(lab.read(&format!("{kept}.1")), b"first");
}

/// Sweeping the old path would delete what the new one has just put there.
#[test]
fn a_path_that_became_another_name_of_a_planned_one_is_refused() {
    let mut lab = Lab::new();
    let registry = "registries: {docker.io: {mirrors: [{url: 'https://m.example'}]}}\n";
    lab.spec_also(registry);
    lab.apply().exits(0);
    link("containerd/certs.d", &lab.path("etc/certs"));
    let before = lab.tree();
    lab.spec_also(&format!("{registry}containerd: {{config: {{registry_config_path: /etc/certs}}}}\n"));
    lab.apply().exits(6).says("same file");
    assert_same("the root", &before, &lab.tree());
}

#[test]
fn secrets_that_leave_the_spec_are_not_shown_by_the_plan() {
    let mut lab = Lab::new();
    lab.spec_also(
        "containerd: {proxy: {http: 'http://user:S3CRET@proxy'}}\n\
         registries: {docker.io: {mirrors: [{url: 'https://m.example', headers: {Authorization: 'Basic S3CRET'}}]}}\n",
    );
    lab.apply().exits(0);
    lab.spec_also("registries: {docker.io: {mirrors: [{url: 'https://m.example'}]}}\n");
    let plan = lab.plan();
    assert!(!plan.stdout.contains("S3CRET"), "{plan}");
}

/// Credentials and signatures of a URL reach neither the receipt in the image nor the lock.
#[test]
fn a_url_with_credentials_is_written_down_without_them() {
    let lab = Lab::new();
    let text = fs::read_to_string(&lab.spec).unwrap();
    let url = "url: 'http://user:S3CRET@host.invalid/runc.amd64?X-Amz-Signature=S3CRET'";
    write(&lab.spec, text.replace("runc: {", &format!("runc: {{{url}, ")).as_bytes());
    lab.apply().exits(0);
    let receipt = String::from_utf8(lab.read("var/lib/nodebake/receipt.json")).unwrap();
    assert!(!receipt.contains("S3CRET") && receipt.contains("http://host.invalid/runc.amd64"), "{receipt}");
    lab.apply().exits(0).mentions("0 created, 0 changed");
}

/// A copy of a private file stays private.
#[test]
fn kept_originals_are_for_root_alone() {
    let lab = Lab::new();
    write(&lab.path(CONFIG), b"password\n");
    lab.apply().exits(0);
    let found = fs::metadata(lab.path("var/lib/nodebake/original")).unwrap().permissions().mode();
    assert_eq!(found & 0o7777, 0o700);
}

#[test]
fn owner_and_mode_of_an_existing_directory_come_back() {
    let lab = Lab::new();
    kit::make_dir(&lab.path("var/lib/containerd"));
    mode(&lab.path("var/lib/containerd"), 0o711);
    kit::own(&lab.path("var/lib/containerd"), 5, 6);
    let before = lab.tree();
    lab.apply().exits(0);
    lab.remove().exits(0);
    assert_same("the root", &before, &lab.tree());
}

/// A link in the cache leads a root process nowhere.
#[test]
fn the_cache_follows_no_link() {
    let lab = Lab::new();
    let cache = lab.dir.join("cache");
    kit::make_dir(&cache);
    let victim = lab.host.join("victim");
    let spec = fs::read_to_string(&lab.spec).unwrap().replace("./artifacts", "http://127.0.0.1:9");
    write(&lab.spec, spec.as_bytes());
    for component in [CONTAINERD, RUNC, CNI] {
        let digest = kit::sha256(&fs::read(lab.artifacts.join(component.file)).unwrap());
        link(&victim, &cache.join(format!("{digest}.partial")));
    }
    let cache = cache.display().to_string();
    lab.run(["apply", "--retries", "0", "--cache-dir", &cache], &lab.root).exits(4).says("is not used");
    assert!(!victim.exists());
}

/// The same bytes under another version or architecture are not what is in place.
#[test]
fn what_is_in_place_is_compared_with_version_and_architecture() {
    let mut lab = Lab::new();
    lab.apply().exits(0);
    lab.arch("arm64");
    for component in [CONTAINERD, RUNC, CNI] {
        let arm64 = lab.artifacts.join(component.file.replace("amd64", "arm64"));
        fs::copy(lab.artifacts.join(component.file), arm64).unwrap();
    }
    lab.run(["apply", "--foreign"], &lab.root).exits(5).says("is for amd64, not for arm64");
}

/// The plan looks at the same things as apply.
#[test]
fn a_plan_refuses_what_apply_refuses() {
    let mut lab = Lab::new();
    lab.ship(RUNC, &elf(kit::Machine::Aarch64, b"runc"));
    let before = tree(&lab.root);
    lab.plan().exits(5).says("arm64");
    assert_same("the root", &before, &lab.tree());
}

#[test]
fn a_broken_lock_can_be_written_anew() {
    let lab = Lab::new();
    let lock = lab.dir.join("nodebake.lock");
    write(&lock, b"version: 99\nartifacts: []\n");
    lab.apply().exits(3).says("nodebake lock");
    let spec = lab.spec.display().to_string();
    run(Command::new(NODEBAKE).args(["lock", "--spec", &spec, "--arch", "amd64"])).exits(0);
    lab.apply().exits(0);
}

/// With nothing to do a run needs no source, and one failing root is in the JSON document too.
#[test]
fn what_is_in_place_needs_no_source() {
    let lab = Lab::new();
    lab.apply().exits(0);
    fs::remove_dir_all(&lab.artifacts).unwrap();
    lab.apply().exits(0).mentions("0 created, 0 changed, 0 removed");
    let missing = lab.dir.join("missing");
    let run = lab.run(["apply", "--json"], &missing);
    run.exits(9);
    assert!(run.stdout.contains("\"exit_code\": 9"), "{run}");
}

/// Nobody asked for arm64: a source without it is good enough.
#[test]
fn a_lock_without_a_named_architecture_takes_what_the_source_has() {
    let lab = Lab::new();
    let spec = lab.spec.display().to_string();
    let lock = |more: &[&str]| run(Command::new(NODEBAKE).args(["lock", "--spec", &spec]).args(more));
    lock(&[]).exits(0).says("arm64 is not pinned");
    let text = fs::read_to_string(lab.dir.join("nodebake.lock")).unwrap();
    assert!(text.contains("arch: amd64") && !text.contains("arm64"), "{text}");
    lock(&["--arch", "arm64"]).exits(4);
}

/// Without links (another filesystem, no CAP_DAC_READ_SEARCH and no /proc) everything is copied.
#[test]
fn where_nothing_can_be_linked_everything_is_copied() {
    if !strace_works() {
        return;
    }
    let lab = Lab::new();
    let linked = lab.another_root("linked");
    for root in [&lab.root, &linked] {
        write(&root.join(CONFIG), b"the administrator's\n");
        mode(&root.join(CONFIG), 0o600);
    }
    let before = lab.tree();
    lab.run(["apply"], &linked).exits(0);
    lab.apply_under(strace(["inject=linkat:error=EXDEV"])).exits(0);
    assert_same("the baked root", &tree(&linked), &lab.tree());
    lab.remove().exits(0);
    assert_same("after remove", &before, &lab.tree());
}
