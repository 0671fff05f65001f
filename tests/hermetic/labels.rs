//! Row C15 of the test matrix, and what belongs to it: SELinux labels by the root's own policy, the
//! mark for a relabelling boot, and the attributes of what was there before. The labels are compared
//! with those of the real `setfiles` and `matchpathcon`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};

use crate::kit;
use crate::kit::{Lab, Run};
use crate::kit::{assert_same, link, make_dir, mode, own, write};

const LABEL: &str = "security.selinux";
const MARK: &str = ".autorelabel";

/// In Fedora's manner: general rules first, `bin` anywhere below /opt, one kind alone, one path that is
/// to be left alone, and one rule that no other than the last can win.
const POLICY: &str = r"
# a policy
/.*                                        system_u:object_r:default_t:s0
/usr/.*                                    system_u:object_r:usr_t:s0
/etc/.*                                    system_u:object_r:etc_t:s0
/var/.*                                    system_u:object_r:var_t:s0
/opt/.*                                    system_u:object_r:usr_t:s0
/var/lib(/.*)?                             system_u:object_r:var_lib_t:s0
/opt/(.*/)?bin(/.*)?                       system_u:object_r:bin_t:s0
/usr/(.*/)?bin(/.*)?                       system_u:object_r:bin_t:s0
/usr/(.*/)?sbin(/.*)?                      system_u:object_r:bin_t:s0
/usr/lib/systemd/system(/.*)?              system_u:object_r:systemd_unit_file_t:s0
/usr/local/lib/systemd/system(/.*)?        system_u:object_r:systemd_unit_file_t:s0
/usr/lib/systemd/system/containerd.*   --  system_u:object_r:container_unit_file_t:s0
/usr/local/bin/containerd.*            --  system_u:object_r:container_runtime_exec_t:s0
/usr/(local/)?s?bin/runc               --  system_u:object_r:container_runtime_exec_t:s0
/etc/containerd(/.*)?                      system_u:object_r:container_config_t:s0
/etc/containerd/certs\.d(/.*)?             system_u:object_r:cert_t:s0
/var/lib/containerd(/.*)?                  system_u:object_r:container_var_lib_t:s0
/etc/crictl\.yaml                          <<none>>
/etc/systemd/system/.*\.wants/.*       -l  system_u:object_r:systemd_unit_link_t:s0
";

// ---------------------------------------------------------------- with a policy

#[test]
fn c15_everything_that_is_made_carries_the_policys_label() {
    let lab = with_policy();
    lab.apply().exits(0);
    for (path, label) in [
        ("usr/local", "usr_t"),
        ("usr/local/bin", "bin_t"),
        ("usr/local/bin/containerd", "container_runtime_exec_t"),
        ("usr/local/bin/ctr", "bin_t"),
        ("usr/local/sbin/runc", "container_runtime_exec_t"),
        ("opt/cni/bin", "bin_t"),
        ("opt/cni/bin/bridge", "bin_t"),
        ("opt", "default_t"),
        ("usr/local/lib/systemd/system/containerd.service", "systemd_unit_file_t"),
        ("etc/containerd", "container_config_t"),
        ("etc/containerd/config.toml", "container_config_t"),
        ("etc/systemd/system/multi-user.target.wants/containerd.service", "systemd_unit_link_t"),
        ("etc/systemd/system-preset/10-nodebake.preset", "etc_t"),
        ("var/lib/containerd", "container_var_lib_t"),
        ("var/lib/nodebake", "var_lib_t"),
        ("var/lib/nodebake/receipt.json", "var_lib_t"),
        ("var/lib/nodebake/.lock", "var_lib_t"),
    ] {
        assert_eq!(label_of(&lab.path(path)).as_deref(), Some(&*full(label)), "{path}");
    }
    assert_eq!(label_of(&lab.path("etc/crictl.yaml")), None, "<<none>>");
    assert_eq!(label_of(&lab.path("etc/passwd")), None, "not ours");
    assert!(!lab.exists(MARK));
    lab.verify().exits(0).mentions("as the root's SELinux policy says");
    let times = kit::times(&lab.root);
    lab.apply().exits(0);
    assert_eq!(times, kit::times(&lab.root), "a second run changes nothing");
}

#[test]
fn c15_the_administrators_rules_and_aliases_count() {
    let lab = with_policy();
    let files = lab.path("etc/selinux/targeted/contexts/files");
    write(&files.join("file_contexts.local"), b"/usr/local/bin/ctr -- system_u:object_r:mine_t:s0\n");
    write(&files.join("file_contexts.homedirs"), b"/opt/cni/bin/.* system_u:object_r:home_t:s0\n");
    write(&files.join("file_contexts.subs_dist"), b"/etc/systemd/system /usr/lib/systemd/system\n");
    write(&files.join("file_contexts.subs"), b"/usr/local/lib /usr/lib\n");
    lab.apply().exits(0);
    for (path, label) in [
        ("usr/local/bin/ctr", "mine_t"),
        ("opt/cni/bin/bridge", "home_t"),
        ("usr/local/lib/systemd/system/containerd.service", "container_unit_file_t"),
        ("etc/systemd/system/multi-user.target.wants/containerd.service", "systemd_unit_file_t"),
    ] {
        assert_eq!(label_of(&lab.path(path)).as_deref(), Some(&*full(label)), "{path}");
    }
}

/// A boot that labels the root walks the real tree: a link on the way has no say.
#[test]
fn c15_the_real_place_decides() {
    let lab = with_policy();
    make_dir(&lab.path("var/usrlocal"));
    link("/var/usrlocal", &lab.path("usr/local"));
    lab.apply().exits(0);
    assert_eq!(label_of(&lab.path("var/usrlocal/sbin/runc")).as_deref(), Some(&*full("var_t")));
    lab.verify().exits(0);
}

/// Killed at the first rename: what is staged beside its place is labelled already.
#[test]
fn c15_the_label_is_set_before_the_name() {
    let renames = "trace=rename,renameat,renameat2";
    // The first rename is of the state, the second and third of the intent.
    let inject = "inject=rename,renameat,renameat2:signal=SIGKILL:when=4";
    let lab = with_policy();
    if !kit::strace_works() {
        return;
    }
    lab.apply_under(kit::strace([renames, inject]));
    let staged: Vec<PathBuf> =
        kit::paths(&lab.root).into_iter().filter(|path| kit::text(path).ends_with(".tmp")).collect();
    assert!(staged.len() > 10, "{staged:?}");
    for path in staged.iter().filter(|path| !kit::text(path).contains("crictl")) {
        assert!(label_of(path).is_some(), "{} has no label", path.display());
    }
    let runc = lab.path("usr/local/sbin/.nodebake-runc.tmp");
    assert_eq!(label_of(&runc).as_deref(), Some(&*full("container_runtime_exec_t")), "as what it will be");
    lab.apply().exits(0);
    lab.verify().exits(0).mentions("as the root's SELinux policy says");
}

#[test]
fn c15_a_label_that_drifts_is_found_and_one_that_may_be_chosen_is_not() {
    let lab = with_policy();
    write(
        &lab.path("etc/selinux/targeted/contexts/customizable_types"),
        b"container_file_t\npublic_content_t\n",
    );
    lab.apply().exits(0);
    set_label(&lab.path("usr/local/bin/ctr"), "system_u:object_r:public_content_t:s0");
    set_label(&lab.path("usr/local/sbin/runc"), "unconfined_u:object_r:container_runtime_exec_t:s0");
    lab.verify().exits(0);
    set_label(&lab.path("opt/cni/bin/bridge"), "unconfined_u:object_r:user_home_t:s0");
    let run = lab.verify();
    run.exits(10).mentions("/opt/cni/bin/bridge: is labelled `unconfined_u:object_r:user_home_t:s0`");
    run.mentions("the policy says `system_u:object_r:bin_t:s0`").mentions("restorecon");
    lsetxattr(lab.path("opt/cni/bin/bridge"), LABEL, b"\x1b[31m\xff\n", XattrFlags::empty()).unwrap();
    lab.verify().exits(10).mentions("u{1b}").is_printable();
    rustix::fs::lremovexattr(lab.path("opt/cni/bin/bridge"), LABEL).unwrap();
    lab.verify().exits(10).mentions("/opt/cni/bin/bridge: has no label");
}

// ---------------------------------------------------------------- where labels can't be set

/// The receipt is the same as where they can, and so is every other file.
#[test]
fn c15_without_attributes_the_next_boot_is_asked() {
    if !kit::works(["unshare", "-m", "sh", "-ec", "mount -t ramfs ramfs /mnt"]) {
        return kit::skip("no mount namespaces or no ramfs here");
    }
    let labelled = with_policy();
    labelled.apply().exits(0);

    let lab = with_policy();
    let steps = format!(
        "cp -a {root} {copy}; mount -t ramfs ramfs {root}; cp -a {copy}/. {root}; chmod 755 {root}
         nodebake() {{ {nodebake} \"$@\" --root {root}; }}
         nodebake apply --spec {spec}; stat -c '%A %U:%G %s' {root}/{MARK}
         nodebake verify; nodebake apply --spec {spec}; rm {root}/{MARK}
         nodebake apply --spec {spec}; ls -A {root} > {dir}/after-boot; nodebake verify || echo verify $?
         cp -a {root} {dir}/baked; nodebake remove; cp -a {root} {dir}/removed; nodebake apply --spec {spec}
         nodebake remove; ls -A {root} > {dir}/marked",
        root = lab.root.display(),
        copy = lab.dir.join("copy").display(),
        spec = lab.spec.display(),
        dir = lab.dir.display(),
        nodebake = kit::NODEBAKE,
    );
    let run = kit::run(&mut lab.wrapped(["unshare", "-m", "sh", "-ec", &steps]));
    run.exits(0).says("labels can't be set").mentions("-rw-r--r-- root:root 0");
    run.mentions("/.autorelabel is set: the next boot labels the root").mentions("can't be told here");
    let after_boot = fs::read_to_string(lab.dir.join("after-boot")).unwrap();
    assert!(!after_boot.contains(MARK), "the mark is made where something changes, and only there");
    assert_same("the root", &labelled.tree(), &kit::tree(&lab.dir.join("baked")));
    assert_same("what remains", &kit::tree(&lab.dir.join("copy")), &kit::tree(&lab.dir.join("removed")));
    let marked = fs::read_to_string(lab.dir.join("marked")).unwrap();
    assert!(marked.contains(MARK), "remove leaves a mark alone: others may need it\n{marked}");
}

#[test]
fn c15_labels_that_may_not_be_set_are_asked_of_the_next_boot() {
    for error in ["EPERM", "EOPNOTSUPP", "EINVAL"] {
        let lab = with_policy();
        let inject = format!("inject=fsetxattr,lsetxattr:error={error}");
        let Some(run) = traced(&lab, &inject) else { return };
        run.exits(0).says("/.autorelabel is set");
        assert!(lab.exists(MARK));
        lab.has_no_leftovers();
        lab.verify().exits(0).mentions("the next boot labels the root");
    }
    for error in ["ENOSPC", "EIO"] {
        let lab = with_policy();
        let before = lab.tree();
        let Some(run) = traced(&lab, &format!("inject=fsetxattr:error={error}")) else { return };
        run.exits(7);
        assert_same("the root", &before, &lab.tree());
    }
}

#[test]
fn c15_a_policy_that_cannot_be_read_is_left_to_the_next_boot() {
    let broken: [(&str, Vec<u8>); 4] = [
        ("only compiled", Vec::new()),
        (
            "an expression that nobody understands",
            b"/.* system_u:object_r:default_t:s0\n/(?=u).* x:x:x_t:s0\n".to_vec(),
        ),
        ("more rules than any", b"/x system_u:object_r:x_t:s0\n".repeat(60_000)),
        ("longer than any", vec![b'#'; 5 << 20]),
    ];
    for (case, text) in broken {
        let lab = with_policy();
        let file = lab.path("etc/selinux/targeted/contexts/files/file_contexts");
        write(&file, &text);
        if text.is_empty() {
            fs::rename(&file, file.with_extension("bin")).unwrap();
        }
        let run = lab.apply();
        assert_eq!(run.code, Some(0), "{case}\n{run}");
        run.says("/.autorelabel is set").within(Duration::from_secs(10));
        assert!(run.peak < 64 << 10, "{case}: {} KiB", run.peak);
        assert!(lab.exists(MARK), "{case}");
        lab.verify().exits(0);
    }
}

/// What a root may ask of whoever bakes it: expressions that blow up, by the thousand.
#[test]
fn c15_a_hostile_policy_costs_neither_time_nor_memory() {
    let nested = format!("/(.*){}.* x:x:x_t:s0\n", "(a{0,90}){0,90}".repeat(30));
    for (case, rule) in [
        ("never matches", "/(.*/)*(.*)*(.*)*z? -- x:x:x_t:s0\n/u.*(.*.*.*)*[^ -~] x:x:x_t:s0\n".to_owned()),
        ("does not compile", nested),
        ("large", format!("/.*({})? x:x:x_t:s0\n", "[a-z]{30}".repeat(3))),
    ] {
        let lab = with_policy();
        let file = lab.path("etc/selinux/targeted/contexts/files/file_contexts");
        let count = (3 << 20) / rule.len();
        write(&file, rule.repeat(count.min(49_000)).as_bytes());
        let run = lab.apply();
        assert_eq!(run.code, Some(0), "{case}\n{run}");
        run.within(Duration::from_secs(20));
        assert!(run.peak < 64 << 10, "{case}: {} KiB", run.peak);
        let run = lab.verify();
        run.within(Duration::from_secs(20));
        assert!(run.peak < 64 << 10, "{case}: {} KiB", run.peak);
    }
}

// ---------------------------------------------------------------- without a policy

#[test]
fn c15_without_a_policy_a_label_that_was_there_is_kept() {
    let lab = Lab::new();
    let (replaced, kept) = ("etc/containerd/config.toml", "system_u:object_r:container_config_t:s0");
    write(&lab.path(replaced), b"version = 2\n");
    set_label(&lab.path(replaced), kept);
    let wants = "etc/systemd/system/multi-user.target.wants/containerd.service";
    link("/usr/lib/systemd/system/containerd.service", &lab.path(wants));
    set_label(&lab.path(wants), "system_u:object_r:systemd_unit_file_t:s0");
    lab.apply().exits(0);
    assert_eq!(label_of(&lab.path(replaced)).as_deref(), Some(kept));
    assert_eq!(label_of(&lab.path(wants)).as_deref(), Some("system_u:object_r:systemd_unit_file_t:s0"));
    assert_eq!(label_of(&lab.path("usr/local/sbin/runc")), None);
    assert!(!lab.exists(MARK));
    // Also where an edit is replaced, and where the original comes back.
    fs::write(lab.path(replaced), b"edited").unwrap();
    lab.apply().exits(0);
    assert_eq!(label_of(&lab.path(replaced)).as_deref(), Some(kept));
    lab.remove().exits(0);
    assert_eq!(label_of(&lab.path(replaced)).as_deref(), Some(kept));
    lab.verify().exits(10);
}

#[test]
fn c15_without_a_policy_no_attribute_is_set() {
    let lab = Lab::new();
    let log = lab.dir.join("calls");
    if !kit::strace_works() {
        return;
    }
    lab.apply_under(kit::strace_to(&log, ["trace=/.*setxattr"])).exits(0);
    let calls = fs::read_to_string(log).unwrap();
    assert!(!calls.contains("setxattr"), "{calls}");
    lab.verify().exits(0).mentions("no SELinux policy");
}

// ---------------------------------------------------------------- what was there before

/// On another mount than /var, where an original can't be kept by a hard link.
#[test]
fn c15_originals_keep_their_attributes_across_filesystems() {
    if !kit::works(["unshare", "-m", "sh", "-ec", "mount -t tmpfs tmpfs /mnt"]) {
        return kit::skip("no mount namespaces here");
    }
    let lab = Lab::new();
    // Two mounts of one filesystem refuse links between them as two filesystems do.
    make_dir(&lab.path("etc/containerd"));
    let config = lab.dir.join("volume/config.toml");
    write(&config, b"version = 2\n");
    own(&config, 12, 34);
    mode(&config, 0o640);
    set_label(&config, "system_u:object_r:mine_t:s0");
    for (name, value) in [
        ("system.posix_acl_access", kit::acl([6, 6, 4, 6])),
        ("user.note", b"mine".to_vec()),
        (
            "security.capability",
            [0x0200_0001_u32, 1 << 10, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect(),
        ),
    ] {
        lsetxattr(&config, name, &value, XattrFlags::empty()).unwrap();
    }
    let before = attributes(&config);
    assert_eq!(before.len(), 4, "{before:?}");
    let (tree, volume) = (lab.tree(), kit::tree(&lab.dir.join("volume")));
    let steps = format!(
        "mount --bind {volume} {root}/etc/containerd
         {nodebake} apply --root {root} --spec {spec}; {nodebake} remove --root {root}",
        volume = lab.dir.join("volume").display(),
        root = lab.root.display(),
        spec = lab.spec.display(),
        nodebake = kit::NODEBAKE,
    );
    kit::run(&mut lab.wrapped(["unshare", "-m", "sh", "-ec", &steps])).exits(0);
    assert_same("the root", &tree, &lab.tree());
    assert_same("the volume", &volume, &kit::tree(&lab.dir.join("volume")));
    assert_eq!(before, attributes(&config), "the attributes of the original");
}

#[test]
fn r19_default_acl_widens_no_secret() {
    let mut lab = Lab::new();
    lab.spec_also(
        "registries:\n  _default: {mirrors: [{url: 'https://m.example', headers: {Authorization: s3cret}}]}\n",
    );
    make_dir(&lab.path("etc/containerd/certs.d/_default"));
    for directory in ["etc", "etc/containerd/certs.d/_default", "var/lib"] {
        lsetxattr(
            lab.path(directory),
            "system.posix_acl_default",
            &kit::acl([6, 6, 4, 6]),
            XattrFlags::empty(),
        )
        .unwrap();
    }
    lab.apply().exits(0);
    for (path, bits) in [
        ("etc/containerd/certs.d/_default/hosts.toml", 0o600),
        ("var/lib/containerd", 0o700),
        ("var/lib/nodebake/.lock", 0o600),
        ("var/lib/nodebake", 0o755),
    ] {
        use std::os::unix::fs::PermissionsExt;
        let found = lab.path(path).symlink_metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(found, bits, "{path}");
        assert_eq!(attributes(&lab.path(path)), BTreeMap::new(), "{path}");
    }
}

// ---------------------------------------------------------------- against libselinux

/// Debian's policy, as its own package builds it, and one of ours.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn c15_labels_are_those_of_setfiles() {
    for lab in [with_debians_policy(), with_policy()] {
        lab.apply().exits(0);
        lab.verify().exits(0).mentions("as the root's SELinux policy says");
        let policy = contexts(&lab.root).join("files/file_contexts");
        let root = lab.root.to_str().unwrap();
        let run = kit::run(&mut lab.wrapped([
            selinux().join("sbin/setfiles").to_str().unwrap(),
            "-F",
            "-n",
            "-v",
            "-r",
            root,
            policy.to_str().unwrap(),
            root,
        ]));
        run.exits(0);
        let changes: Vec<&str> = run.stdout.lines().filter(|line| line.contains("relabel")).collect();
        let receipt = String::from_utf8(lab.read("var/lib/nodebake/receipt.json")).unwrap();
        let (ours, theirs): (Vec<&str>, Vec<&str>) = changes.iter().partition(|line| {
            let path = line.split_whitespace().nth(2).unwrap().strip_prefix(root).unwrap();
            receipt.contains(&format!("\"{path}\"")) || path.starts_with("/var/lib/nodebake/")
        });
        assert!(ours.is_empty(), "setfiles would change\n{}", ours.join("\n"));
        assert!(
            theirs.iter().any(|line| line.contains("etc/passwd")),
            "nothing that is not ours is labelled\n{run}"
        );
    }
}

// ---------------------------------------------------------------- what the tests say

fn with_policy() -> Lab {
    let lab = Lab::new();
    write(&lab.path("etc/selinux/config"), b"# of the test\nSELINUX=enforcing\nSELINUXTYPE=targeted\n");
    write(&lab.path("etc/selinux/targeted/contexts/files/file_contexts"), POLICY.as_bytes());
    lab
}

/// Debian's policy and tools, unpacked.
fn selinux() -> PathBuf {
    kit::lab::lab().join("selinux")
}

fn with_debians_policy() -> Lab {
    let lab = Lab::new();
    write(&lab.path("etc/selinux/config"), b"SELINUX=permissive\nSELINUXTYPE=default\n");
    for name in ["file_contexts", "file_contexts.homedirs", "file_contexts.subs_dist"] {
        let file = Path::new("contexts/files").join(name);
        let file = Path::new("etc/selinux/default").join(file);
        write(&lab.root.join(&file), &fs::read(selinux().join(&file)).unwrap());
    }
    lab
}

/// `contexts/` of the one policy in `root`.
fn contexts(root: &Path) -> PathBuf {
    let mut folders = fs::read_dir(root.join("etc/selinux")).unwrap().map(|entry| entry.unwrap().path());
    folders.find(|path| path.is_dir()).unwrap().join("contexts")
}

fn full(kind: &str) -> String {
    format!("system_u:object_r:{kind}:s0")
}

/// As getfattr shows it: libselinux stores it with its end.
fn label_of(path: &Path) -> Option<String> {
    let mut value = [0; 256];
    let length = lgetxattr(path, LABEL, &mut value[..]).ok()?;
    Some(String::from_utf8_lossy(&value[..length]).trim_end_matches('\0').to_owned())
}

fn set_label(path: &Path, label: &str) {
    lsetxattr(path, LABEL, format!("{label}\0").as_bytes(), XattrFlags::empty()).unwrap();
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = [0; 4096];
    let length = llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 4096];
        let length = lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(length);
        value
    };
    names.map(|name| (String::from_utf8_lossy(name).into_owned(), value(name))).collect()
}

/// An apply of which strace changes some calls; none, and said, where that can't be done.
fn traced(lab: &Lab, inject: &str) -> Option<Run> {
    kit::strace_works().then(|| lab.apply_under(kit::strace(["trace=fsetxattr,lsetxattr", inject])))
}
