//! The baked root's own systemd boots in a container on this kernel and starts the baked
//! containerd; seconds a boot. What it can't show, modules and a kernel of its own, is `qemu.rs`'s.
//! Needs `tests/lab/prepare` and `make dist`; run by `make test`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::kit::command::run;
use crate::kit::guest::{
    Layer, PULLS, Report, assert_pulled, boot, boot_beside_registry, carry_cni_configuration, carry_nodebake,
    mirror,
};
use crate::kit::lab::lab;
use crate::kit::node::{Node, artifacts, spec};
use crate::kit::ready::{PROOF, complaints};
use crate::kit::runnable::version;

/// A node that has everything to be ready once it is booted.
fn node(root: &str, generation: &'static str, extra: &str) -> Node {
    let node = Node::bootable(root, generation, &format!("{}{extra}", in_a_container(generation)));
    node.apply();
    carry_nodebake(&node);
    carry_cni_configuration(&node);
    node
}

/// A container may be without CAP_SYS_RESOURCE, and then no process can lower its OOM score.
pub fn in_a_container(generation: &str) -> String {
    let plugin =
        if generation == "2.1" { "io.containerd.cri.v1.runtime" } else { "io.containerd.grpc.v1.cri" };
    format!(
        "containerd:\n  config:\n    merge: |\n      [plugins.\"{plugin}\"]\n      restrict_oom_score_adj = true\n"
    )
}

fn boot_once(node: &Node, script: &str) -> Report {
    boot(node, Layer::CONTAINER, &[], &[], script).remove(0)
}

// --- each pair ------------------------------------------------------------------------------------

fn boots_ready(root: &str, generation: &'static str) {
    let report = boot_once(&node(root, generation, ""), PROOF);
    assert_eq!(complaints(&report), [""; 0], "{root} {generation}\n{report}");
    assert!(report.output("pod").contains("a pod of registry.k8s.io/pause:3."), "{report}");
}

macro_rules! pairs {
    ($($name:ident: $root:literal $generation:literal,)*) => {$(
        #[test]
        #[ignore = "needs tests/lab/prepare"]
        fn $name() {
            boots_ready($root, $generation);
        }
    )*};
}

pairs! {
    s8_bookworm_boots_ready_with_containerd_1_6: "bookworm" "1.6",
    s8_bookworm_boots_ready_with_containerd_1_7: "bookworm" "1.7",
    s8_bookworm_boots_ready_with_containerd_2_1: "bookworm" "2.1",
    s8_trixie_boots_ready_with_containerd_1_6: "trixie" "1.6",
    s8_trixie_boots_ready_with_containerd_1_7: "trixie" "1.7",
    s8_trixie_boots_ready_with_containerd_2_1: "trixie" "2.1",
}

/// The first boot of an image, with no machine-id and a distribution's preset that turns everything off, and
/// the boot after it.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_first_boot_with_presets_that_disable_everything_is_ready() {
    let node = node("trixie", "2.1", "");
    fs::write(node.path("/usr/lib/systemd/system-preset/99-default.preset"), "disable *\n").unwrap();
    let _ = fs::remove_file(node.path("/etc/machine-id"));
    // As systemd does there where it is built with first-boot-full-preset.
    let presets = "[[ $1 != 1 ]] || t preset-all systemctl preset-all\n";
    let script = format!("{presets}{PROOF}t machine-id systemd-id128 machine-id\n");
    let reports = boot(&node, Layer::CONTAINER, &[], &["--boots", "2"], &script);
    let [first, second] = reports.as_slice() else { panic!("{} boots", reports.len()) };
    first.expect("preset-all", 0);
    assert_eq!(complaints(first), [""; 0], "{first}");
    assert_eq!(complaints(second), [""; 0], "{second}");
    assert_eq!(first.output("machine-id"), second.output("machine-id"));
    assert_eq!(first.output("machine-id").len(), 32, "{first}");
}

// --- deliberate breaks ------------------------------------------------------------------------------

/// Breaks a node of containerd 2.1 and gives the claims that do not hold then, and the findings of
/// `verify --live --pod` as `check: problem`.
fn broken(change: impl Fn(&Node)) -> (Vec<&'static str>, Vec<String>, Report) {
    let node = node("trixie", "2.1", "");
    change(&node);
    let json = "t json nodebake verify --root / --live --pod --json\n";
    let report = boot_once(&node, &format!("{PROOF}{json}"));
    let verdict: serde_json::Value = serde_json::from_str(report.expect("json", 10)).unwrap();
    let findings = verdict["findings"].as_array().unwrap();
    let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
    assert!(findings.iter().all(|finding| !text(finding, "help").is_empty()), "{report}");
    let found =
        findings.iter().map(|finding| format!("{}: {}", text(finding, "check"), text(finding, "problem")));
    (complaints(&report), found.collect(), report)
}

/// The claim fails and `verify` says why; the checks in `content` see nothing wrong. Gives all findings.
#[track_caller]
fn assert_noticed(
    change: impl Fn(&Node),
    claim: &str,
    finding: (&str, &str),
    content: &[&str],
) -> Vec<String> {
    let (complaints, findings, report) = broken(change);
    assert!(
        complaints.contains(&claim) && complaints.contains(&"verify is content"),
        "{complaints:?}\n{report}"
    );
    let (check, words) = finding;
    let found =
        findings.iter().any(|found| found.starts_with(&format!("{check}: ")) && found.contains(words));
    assert!(found, "{findings:?}\n{report}");
    for check in content {
        assert!(!findings.iter().any(|found| found.starts_with(&format!("{check}: "))), "{findings:?}");
    }
    findings
}

/// containerd 2.x reads these after its own file; the receipt knows nothing of them.
fn drop_in(node: &Node, toml: &str) {
    fs::create_dir_all(node.path("/etc/containerd/conf.d")).unwrap();
    fs::write(node.path("/etc/containerd/conf.d/99-broken.toml"), format!("version = 3\n{toml}")).unwrap();
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_unit_that_is_not_enabled_is_noticed() {
    let wants = "/etc/systemd/system/multi-user.target.wants/containerd.service";
    assert_noticed(
        |node| fs::remove_file(node.path(wants)).unwrap(),
        "containerd is active",
        ("service", "not enabled"),
        &["process"],
    );
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn the_wrong_cgroup_driver_is_noticed() {
    let toml = "[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc.options]\nSystemdCgroup = false\n";
    let finding = ("pod", "which systemd does not manage");
    let content = ["receipt", "service", "process", "cri"];
    let findings =
        assert_noticed(|node| drop_in(node, toml), "systemd manages the pod's cgroups", finding, &content);
    let says = |found: &String| found.starts_with("running-config: says SystemdCgroup `true`");
    assert!(findings.iter().any(says), "{findings:?}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn an_empty_config_path_is_noticed() {
    let toml = "[plugins.\"io.containerd.cri.v1.images\".registry]\nconfig_path = ''\n";
    let (complaints, findings, report) = broken(|node| drop_in(node, toml));
    assert_eq!(complaints, ["verify is content"], "{report}");
    assert!(findings.iter().any(|found| found.contains("registry.config_path")), "{findings:?}");
    let (report, requests) = pulls(toml);
    assert!(
        !requests.contains("/v2/library/nginx/manifests/alpine?ns=docker.io\" 200 \"containerd"),
        "{requests}"
    );
    assert!(report.expect("pull-cri", 10).contains("pull              FAILED"), "{report}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_runc_that_can_not_run_is_noticed() {
    // As where it needs a newer glibc: the kernel starts it and its loader gives up.
    let change = |node: &Node| {
        fs::write(node.path("/usr/local/sbin/runc"), "#!/bin/sh\necho 'GLIBC_2.38 not found' >&2\nexit 1\n")
            .unwrap();
        fs::set_permissions(node.path("/usr/local/sbin/runc"), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let content = ["service", "process", "cri", "network", "running-config"];
    assert_noticed(change, "systemd manages the pod's cgroups", ("pod", "runc"), &content);
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn missing_cni_plugins_are_noticed() {
    let change = |node: &Node| {
        for plugin in fs::read_dir(node.path("/opt/cni/bin")).unwrap() {
            fs::remove_file(plugin.unwrap().path()).unwrap();
        }
    };
    let content = ["service", "process", "cri", "network", "running-config"];
    let finding = ("pod", "failed to find plugin");
    assert_noticed(change, "the pod has an address of the CNI plugins", finding, &content);
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_disabled_cri_is_noticed() {
    let toml = "disabled_plugins = ['io.containerd.grpc.v1.cri']\n";
    let findings = assert_noticed(
        |node| drop_in(node, toml),
        "containerd is active",
        ("imports", "disabled_plugins"),
        &["receipt"],
    );
    // The baked file requires the CRI: a containerd without it would be up and of no use.
    assert!(findings.iter().any(|found| found.starts_with("service: ")), "{findings:?}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn another_containerd_in_our_place_is_noticed() {
    let change = |node: &Node| {
        fs::copy(node.path("/usr/local/bin/containerd"), node.path("/usr/bin/containerd")).unwrap();
        let unit = fs::read_to_string(node.path("/usr/local/lib/systemd/system/containerd.service")).unwrap();
        let theirs = unit.replace("/usr/local/bin/containerd", "/usr/bin/containerd");
        fs::write(node.path("/etc/systemd/system/containerd.service"), theirs).unwrap();
    };
    let finding =
        ("process", "runs `/usr/bin/containerd`, expected the installed `/usr/local/bin/containerd`");
    assert_noticed(change, "verify is content", finding, &["receipt", "cri"]);
}

// --- the mirror -------------------------------------------------------------------------------------

/// The tutorial's pull by hand and the CRI's, on a node whose only way out is the registry.
fn pulls(broken: &str) -> (Report, String) {
    let node = node("trixie", "2.1", &mirror(Layer::CONTAINER));
    if !broken.is_empty() {
        drop_in(&node, broken);
    }
    boot_beside_registry(&node, Layer::CONTAINER, PULLS)
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn both_pulls_of_the_tutorial_reach_the_mirror() {
    let (report, requests) = pulls("");
    assert_pulled(Layer::CONTAINER, &report, &requests);
}

// --- apply --start ------------------------------------------------------------------------------------

/// A node that is not baked yet: nodebake, the lab's archives and a spec.
fn unbaked(generation: &'static str) -> Node {
    let node = Node::bootable("trixie", generation, "");
    carry_nodebake(&node);
    carry_cni_configuration(&node);
    fs::create_dir_all(node.path("/etc/nodebake")).unwrap();
    node
}

/// The spec of the guest, where the lab is in /lab.
fn guest_spec(node: &Node, name: &str, generation: &str, extra: &str) {
    let text = spec(generation, &format!("{}{extra}", in_a_container(generation)));
    let text = text.replace(lab().to_str().unwrap(), "/lab");
    fs::write(node.path(&format!("/etc/nodebake/{name}.yaml")), text).unwrap();
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn start_brings_up_a_running_system_and_leaves_containers_alone() {
    let node = unbaked("1.7");
    guest_spec(&node, "first", "1.7", "");
    guest_spec(&node, "mirrors", "1.7", "registries: {_default: {mirrors: [{url: 'https://m.example'}]}}\n");
    guest_spec(&node, "limit", "1.7", "  limit_nofile: 65536\n");
    guest_spec(&node, "upgrade", "2.1", "");
    let report = boot_once(
        &node,
        r#"
        bake() { nodebake apply --root / --spec /etc/nodebake/$1.yaml --offline --start; }
        process() { systemctl show --property=MainPID --value containerd; }
        t first bake first
        t active systemctl is-active containerd
        t enabled systemctl is-enabled containerd
        t process-first process
        t again bake first
        t process-again process
        t import ctr -n k8s.io images import /lab/images/tiny.tar
        t run ctr -n k8s.io run --detach docker.io/library/tiny:1 kept /bin/sleep 600
        task() { ctr -n k8s.io tasks ls | awk '$1 == "kept" {print $2, $3}'; }
        t task task
        t mirrors bake mirrors
        t process-mirrors process
        t limit bake limit
        t process-limit process
        t limits systemctl show --property=LimitNOFILE containerd
        t task-limit task
        t upgrade bake upgrade
        t process-upgrade process
        t task-upgrade task
        t version ctr version
        t import-pause ctr -n k8s.io images import /lab/images/pause.tar
        t verify nodebake verify --root / --live --pod
        touch /etc/containerd/config.toml
        t verify-touched nodebake verify --root / --live
        t touched bake upgrade
        t verify-mended nodebake verify --root / --live
        "#,
    );
    let first = report.expect("first", 0);
    assert!(first.contains("nodebake: starting containerd.service: it is inactive"), "{report}");
    assert!(first.contains("containerd.service was started: containerd 1.7.24"), "{report}");
    assert_eq!((report.output("active"), report.output("enabled")), ("active", "enabled"));
    assert!(report.expect("again", 0).contains("0 created, 0 changed, 0 removed"), "{report}");
    assert!(report.output("again").contains("runs what is installed"), "{report}");
    let process = |step: &str| report.expect(&format!("process-{step}"), 0).to_owned();
    assert_eq!(process("again"), process("first"), "nothing has changed");
    report.expect("mirrors", 0);
    assert_eq!(process("mirrors"), process("first"), "hosts.toml is read at every pull");
    let limit = report.expect("limit", 0);
    assert!(limit.contains("10-nodebake.conf has changed"), "{report}");
    assert_ne!(process("limit"), process("first"));
    assert_eq!(report.output("limits"), "LimitNOFILE=65536");
    report.expect("upgrade", 0);
    assert_ne!(process("upgrade"), process("limit"));
    assert!(report.output("version").contains("2.1.9"), "{report}");
    let task = report.expect("task", 0);
    assert!(task.ends_with("RUNNING"), "{report}");
    assert_eq!([report.output("task-limit"), report.output("task-upgrade")], [task, task], "{report}");
    report.expect("verify", 0);
    assert!(report.expect("verify-touched", 10).contains("has changed since process"), "{report}");
    assert!(report.expect("touched", 0).contains("/etc/containerd/config.toml has changed"), "{report}");
    report.expect("verify-mended", 0);
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn start_takes_over_from_a_containerd_of_the_distribution() {
    let node = unbaked("2.1");
    guest_spec(&node, "first", "2.1", "");
    // As Debian's package lays it down.
    let archive =
        artifacts("1.7").join(format!("containerd-{}-linux-amd64.tar.gz", version("1.7", "containerd")));
    run("tar", &["-xzf", archive.to_str().unwrap(), "-C", node.path("/usr").to_str().unwrap()]);
    let unit = "[Service]\nType=notify\nExecStart=/usr/bin/containerd\nDelegate=yes\nKillMode=process\n[Install]\nWantedBy=multi-user.target\n";
    fs::write(node.path("/usr/lib/systemd/system/containerd.service"), unit).unwrap();
    run("systemctl", &[&format!("--root={}", node.root().display()), "enable", "containerd.service"]);
    let report = boot_once(
        &node,
        "
        t theirs ctr version
        t take-over nodebake apply --root / --spec /etc/nodebake/first.yaml --offline --start
        t verify nodebake verify --root / --live
        ",
    );
    assert!(report.expect("theirs", 0).contains("1.7.24"), "{report}");
    assert!(report.expect("take-over", 0).contains("it runs /usr/bin/containerd"), "{report}");
    report.expect("verify", 0);
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn start_that_fails_says_why_with_the_services_own_words() {
    let node = unbaked("2.1");
    let broken = |merge: &str| format!("containerd: {{config: {{merge: \"{merge}\"}}}}\n");
    let raw = |name: &str, merge: &str| {
        let text = spec("2.1", &broken(merge)).replace(lab().to_str().unwrap(), "/lab");
        fs::write(node.path(&format!("/etc/nodebake/{name}.yaml")), text).unwrap();
    };
    // What only the node knows to be wrong: a directory that is a file, and a file that is not there.
    raw("ends", "root = '/etc/hostname'\\n");
    let runc = "plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc";
    raw("no-cri", &format!("[{runc}]\\nbase_runtime_spec = '/etc/containerd/missing.json'\\n"));
    guest_spec(&node, "good", "2.1", "");
    let report = boot_once(
        &node,
        r#"
        bake() { nodebake apply --root / --spec /etc/nodebake/$1.yaml --offline --start; }
        t ends bake ends
        t no-cri bake no-cri
        t json nodebake apply --root / --spec /etc/nodebake/no-cri.yaml --offline --start --json --quiet
        t good bake good
        mkdir -p /run/elsewhere && cp /usr/local/bin/nodebake /run/elsewhere/
        t chroot chroot /run/elsewhere /nodebake apply --root / --offline --start
        t other-root nodebake verify --root /run/elsewhere --live
        t two nodebake apply --root / --root /run/elsewhere --spec /etc/nodebake/good.yaml --offline --start
        "#,
    );
    let ends = report.expect("ends", 9);
    assert!(
        ends.contains("nodebake: error: starting containerd.service: Job for containerd.service failed"),
        "{report}"
    );
    assert!(
        ends.contains("log: ") && ends.contains("not a directory") && !ends.contains("level=info"),
        "{report}"
    );
    assert!(ends.contains("help: ") && ends.contains("journalctl -u containerd"), "{report}");
    let no_cri = report.expect("no-cri", 9);
    assert!(no_cri.contains("log: ") && no_cri.contains("missing.json"), "{report}");
    assert!(report.expect("json", 9).contains("\"exit_code\": 9"), "{report}");
    report.expect("good", 0);
    assert!(report.expect("chroot", 9).contains("systemd does not run here"), "{report}");
    assert!(report.expect("other-root", 9).contains("root `/run/elsewhere` is not its `/`"), "{report}");
    report.expect("two", 2);
}

/// A registry that never answers: Ctrl-C ends the wait, and no pod stays behind.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_pod_that_hangs_is_given_up_at_a_signal() {
    let node =
        node("trixie", "2.1", "registries: {_default: {mirrors: [{url: 'http://127.0.0.1:15081'}]}}\n");
    let report = boot_once(
        &node,
        r#"
        systemd-socket-activate --accept --listen=127.0.0.1:15081 sleep 600 2>/dev/null &
        sleep 1
        began=$SECONDS
        t interrupted timeout --preserve-status --signal=INT 3 nodebake verify --root / --pod
        t took echo $((SECONDS - began))
        t left ctr -n k8s.io containers ls -q
        t pull timeout --preserve-status --signal=TERM 3 nodebake verify --root / --pull quay.io/x/y:1
        kill %1
        "#,
    );
    assert!(report.expect("interrupted", 130).contains("stopped by SIGINT"), "{report}");
    assert!(report.output("took").parse::<u32>().unwrap() < 10, "{report}");
    assert_eq!(report.expect("left", 0), "");
    report.expect("pull", 143);
}
