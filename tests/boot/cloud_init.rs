//! The files of `cloud-init/` as they stand: machines that hold the static binary and the archives
//! boot for the first time, without a network, with Debian's cloud-init or none.
//!
//! In a container every way, booted twice too, and what goes wrong in it: run by `make test`. In QEMU each way
//! once, booted twice, with a real NoCloud seed: run by `make test-all`. Needs `make dist` and
//! `tests/lab/prepare`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::kit::command::{expect, run, text};
use crate::kit::guest::{Layer, Report, boot, carry_cni_configuration, carry_nodebake};
use crate::kit::lab::{lab, repository};
use crate::kit::node::{Folder, Node, artifacts, spec, versions};
use crate::kit::ready::{PROOF, complaints};
use crate::nspawn::in_a_container;

/// A Debian with its cloud-init, and a containerd whose runc runs on it.
#[derive(Clone, Copy)]
struct Debian {
    root: &'static str,
    generation: &'static str,
    cloud_init: &'static str,
}

const BOOKWORM: Debian = Debian { root: "bookworm-vm", generation: "1.6", cloud_init: "22.4.2" };
const TRIXIE: Debian = Debian { root: "trixie-vm", generation: "2.1", cloud_init: "25.1.4" };

/// What the owner of a machine brings beside a spec or vendor-data: it needs the node at once.
const OWNER: &str = "#cloud-config
write_files: [{path: /run/owner, content: here}]
runcmd:
  - set -e
  - nodebake verify --root / --live
  - systemctl is-active containerd >/run/after
";

// --- valid -------------------------------------------------------------------------------------------

#[test]
#[ignore = "needs tests/lab/prepare"]
fn s10_the_schema_of_both_versions_accepts_what_it_covers() {
    for debian in [BOOKWORM, TRIXIE] {
        let node = image(debian);
        assert!(text(inside(&node, "cloud-init --version 2>&1")).contains(debian.cloud_init));
        let schema = |content: &str| {
            put(&node, "/tmp/file", content);
            let output = inside(&node, "cloud-init schema --config-file /tmp/file 2>&1");
            (output.status.code(), text(output))
        };
        let user_data = shipped("user-data.yaml");
        assert_eq!(schema(&user_data).0, Some(0));
        for (right, wrong) in [("permissions:", "permission:"), ("runcmd:", "runcmd: 5\nbootcmd:")] {
            let (code, said) = schema(&user_data.replace(right, wrong));
            assert_eq!(code, Some(1), "{said}");
        }
        // These carry no cloud-config: the newer version says so, the older takes a mapping only.
        for file in ["vendor-data.yaml", "spec.yaml"] {
            let (code, said) = schema(&shipped(file));
            let (expected, words) = match debian.cloud_init {
                "22.4.2" => (1, "Cloud-config is not a YAML dict"),
                _ => (0, "'text/cloud-config-archive' not currently evaluated"),
            };
            assert!(code == Some(expected) && said.contains(words), "{file}: {said}");
        }
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn systemd_accepts_the_units() {
    let node = image(TRIXIE);
    enable_units(&node);
    let complaints = || {
        let command = "systemd-analyze verify nodebake-firstboot.service nodebake-verify.service 2>&1";
        let said = text(inside(&node, command));
        said.lines().filter(|line| line.contains("nodebake-")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(complaints(), [""; 0]);
    let wrong = shipped("nodebake-verify.service").replace("Type=oneshot", "Typ=oneshot");
    put(&node, "/etc/systemd/system/nodebake-verify.service", &wrong);
    assert_ne!(complaints(), [""; 0]);
}

// --- each way ----------------------------------------------------------------------------------------

#[test]
#[ignore = "needs tests/lab/prepare"]
fn user_data_makes_a_node_and_the_command_below_runs() {
    for debian in [BOOKWORM, TRIXIE] {
        let node = image(debian);
        seed(&node, &[("user-data", &user_data(debian))]);
        assert_ready(&first_boot(&node));
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn vendor_data_makes_a_node_whatever_user_data_brings() {
    for debian in [BOOKWORM, TRIXIE] {
        let node = image(debian);
        seed(&node, &[("user-data", OWNER), ("vendor-data", &vendor_data(debian))]);
        assert_ready(&first_boot(&node));
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_multipart_file_carries_the_handler_and_the_spec() {
    for debian in [BOOKWORM, TRIXIE] {
        let node = image(debian);
        seed(&node, &[("user-data", &multipart(&node, &[&bare_spec(debian)]))]);
        assert_ready(&first_boot(&node));
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn user_data_is_only_the_spec_where_the_image_holds_the_handler() {
    for debian in [BOOKWORM, TRIXIE] {
        let node = image(debian);
        put(&node, HANDLER, &shipped("part-handler.py"));
        let user_data = pinned(debian, &shipped("spec.yaml")) + &part("text/cloud-config", OWNER);
        seed(&node, &[("user-data", &user_data)]);
        assert_ready(&first_boot(&node));
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn the_first_boot_unit_makes_a_node_before_kubelet_starts() {
    for debian in [BOOKWORM, TRIXIE] {
        let node = image(debian);
        enable_units(&node);
        put(&node, SPEC, &bare_spec(debian));
        // systemd has read this one before ours is there.
        put(&node, "/usr/lib/systemd/system/containerd.service", "[Service]\nExecStart=/bin/false\n");
        assert_units(&first_boot(&node), ["active", "active"]);
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn without_the_directory_the_archives_come_from_the_source_of_the_spec() {
    let with_source = |text: &str, indent: &str| {
        text.replacen("components:", &format!("source: /srv/archives\n{indent}components:"), 1)
    };
    let node = image(TRIXIE);
    enable_units(&node);
    run("mv", &[node.path(ARCHIVES).to_str().unwrap(), node.path("/srv/archives").to_str().unwrap()]);
    put(&node, SPEC, &with_source(&bare_spec(TRIXIE), ""));
    assert_units(&first_boot(&node), ["active", "active"]);
    fs::remove_file(node.path(SPEC)).unwrap();
    fs::remove_file(node.path(WANTS).join("nodebake-firstboot.service")).unwrap();
    seed(&node, &[("user-data", &with_source(&user_data(TRIXIE), "      "))]);
    assert_ready(&first_boot(&node));
}

// --- together ----------------------------------------------------------------------------------------

#[test]
#[ignore = "needs tests/lab/prepare"]
fn the_first_boot_unit_and_cloud_init_are_no_rivals() {
    for debian in [BOOKWORM, TRIXIE] {
        let node = image(debian);
        enable_units(&node);
        seed(&node, &[("user-data", &user_data(debian))]);
        let report = first_boot(&node);
        assert_ready(&report);
        assert_units(&report, ["active", "active"]);
        assert!(report.output("log").contains("0 created, 0 changed, 0 removed"), "{report}");
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn the_spec_of_the_user_wins_over_that_of_the_vendor() {
    let with = |pause: &str| {
        let spec = bare_spec(TRIXIE);
        format!("containerd: {{config: {{sandbox_image: '{pause}'}}}}\n{spec}")
    };
    let vendors_part = part("text/x-nodebake", &with("vendor.example/pause:1"));
    for vendor_data in [vendor_data(TRIXIE), format!("#cloud-config-archive\n{vendors_part}")] {
        let node = image(TRIXIE);
        put(&node, HANDLER, &shipped("part-handler.py"));
        let user_data = multipart(&node, &[&with("user.example/pause:1")]);
        seed(&node, &[("user-data", &user_data), ("vendor-data", &vendor_data)]);
        let report = first_boot(&node);
        assert_ready(&report);
        assert!(report.output("config").contains("\"user.example/pause:1\""), "{report}");
    }
}

// --- wrong -------------------------------------------------------------------------------------------

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_wrong_digest_is_an_error_of_cloud_init_that_the_log_explains() {
    for debian in [BOOKWORM, TRIXIE] {
        let node = image(debian);
        seed(&node, &[("user-data", &with_a_wrong_digest(debian, &user_data(debian)))]);
        assert_failed(&first_boot(&node), "runcmd");

        let vendor_data = with_a_wrong_digest(debian, &vendor_data(debian));
        seed(&node, &[("user-data", OWNER), ("vendor-data", &vendor_data)]);
        assert_failed(&first_boot(&node), "nodebake");

        fs::remove_file(node.path(SEED).join("vendor-data")).unwrap();
        let spec = with_a_wrong_digest(debian, &bare_spec(debian));
        seed(&node, &[("user-data", &multipart(&node, &[&spec]))]);
        assert_failed(&first_boot(&node), "00-nodebake");
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn two_specs_are_refused() {
    let node = image(TRIXIE);
    let spec = bare_spec(TRIXIE);
    seed(&node, &[("user-data", &multipart(&node, &[&spec, &spec]))]);
    let report = first_boot(&node);
    report.expect("cloud-init", 1);
    report.expect("after", 1);
    let why = "nodebake: error: 2 parts of the type text/x-nodebake; a node has one spec\n  help: ";
    assert!(report.output("log").contains(why), "{report}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn kubelet_does_not_start_before_a_first_boot_has_succeeded() {
    let node = image(TRIXIE);
    enable_units(&node);
    // By itself, without the order that the second unit brings.
    fs::remove_file(node.path(WANTS).join("nodebake-verify.service")).unwrap();
    put(&node, SPEC, &with_a_wrong_digest(TRIXIE, &bare_spec(TRIXIE)));
    put(&node, "/etc/nodebake/right.yaml", &bare_spec(TRIXIE));
    let script = format!(
        "{FACTS}
        t repair cp /etc/nodebake/right.yaml {SPEC}
        t retried systemctl start nodebake-firstboot kubelet
        t waited systemctl start containerd
        t up systemctl is-active nodebake-firstboot containerd kubelet
        "
    );
    let report = boot(&node, Layer::CONTAINER, &[], &[], &script).remove(0);
    assert_eq!(report.output("units"), "failed\ninactive", "{report}");
    assert!(report.output("failed").contains("nodebake-firstboot.service"), "{report}");
    report.expect("kubelet", 1);
    assert_explained(report.output("journal"), &report);
    report.expect("retried", 0);
    assert_eq!(report.output("up"), "active\nactive\nactive", "{report}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_containerd_that_does_not_start_is_reported_by_the_second_unit() {
    let node = image(TRIXIE);
    enable_units(&node);
    // Only the node knows that this is a file.
    let merge = "containerd: {config: {merge: \"root = '/etc/hostname'\\n\"}}\n";
    put(&node, SPEC, &(merge.to_owned() + &bare_spec(TRIXIE)));
    let report = first_boot(&node);
    assert_eq!(report.output("units"), "active\nfailed", "{report}");
    let journal = report.output("journal");
    assert!(journal.contains("containerd.service is activating (auto-restart)"), "{report}");
    assert!(journal.contains("help: see journalctl -u containerd"), "{report}");
}

// --- twice -------------------------------------------------------------------------------------------

#[test]
#[ignore = "needs tests/lab/prepare"]
fn booted_twice_with_user_data() {
    assert_lasts(Layer::CONTAINER, BOOKWORM, Way::UserData);
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn booted_twice_with_vendor_data() {
    assert_lasts(Layer::CONTAINER, TRIXIE, Way::VendorData);
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn booted_twice_with_a_spec_in_user_data() {
    assert_lasts(Layer::CONTAINER, BOOKWORM, Way::Spec);
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn booted_twice_with_the_first_boot_unit() {
    assert_lasts(Layer::CONTAINER, TRIXIE, Way::FirstBootUnit);
}

/// In QEMU: the root's own kernel, and a seed that cloud-init finds on a disk.
mod slow {
    use super::{BOOKWORM, Layer, TRIXIE, Way, assert_lasts};

    #[test]
    #[ignore = "needs tests/lab/prepare"]
    fn booted_twice_with_user_data_on_a_disk() {
        assert_lasts(Layer::MACHINE, BOOKWORM, Way::UserData);
    }

    #[test]
    #[ignore = "needs tests/lab/prepare"]
    fn booted_twice_with_vendor_data_on_a_disk() {
        assert_lasts(Layer::MACHINE, TRIXIE, Way::VendorData);
    }

    #[test]
    #[ignore = "needs tests/lab/prepare"]
    fn booted_twice_with_a_spec_in_user_data_on_a_disk() {
        assert_lasts(Layer::MACHINE, BOOKWORM, Way::Spec);
    }

    #[test]
    #[ignore = "needs tests/lab/prepare"]
    fn booted_twice_with_the_first_boot_unit_on_its_own_kernel() {
        assert_lasts(Layer::MACHINE, TRIXIE, Way::FirstBootUnit);
    }
}

/// How a machine learns of its spec.
#[derive(Clone, Copy)]
enum Way {
    UserData,
    VendorData,
    /// In user-data, beside the handler.
    Spec,
    /// In the image, without cloud-init's help.
    FirstBootUnit,
}

/// The first boot makes the node in full, and the second changes nothing.
#[track_caller]
fn assert_lasts(layer: Layer, debian: Debian, way: Way) {
    let node = image(debian);
    let (files, units) = match way {
        Way::UserData => (vec![("user-data", booted(layer, debian, &user_data(debian)))], None),
        Way::VendorData => {
            let vendor_data = booted(layer, debian, &vendor_data(debian));
            (vec![("user-data", OWNER.to_owned()), ("vendor-data", vendor_data)], None)
        }
        Way::Spec => {
            let spec = booted(layer, debian, &bare_spec(debian));
            (vec![("user-data", multipart(&node, &[&spec]))], None)
        }
        Way::FirstBootUnit => {
            enable_units(&node);
            put(&node, SPEC, &booted(layer, debian, &bare_spec(debian)));
            (vec![], Some([["active", "active"], ["inactive", "active"]]))
        }
    };
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let [first, second] = boot_twice(&node, layer, &files);
    match units {
        None => assert_ready(&first),
        Some([at_first, _]) => assert_units(&first, at_first),
    }
    assert_unchanged(&first, &second);
    if let Some([_, at_second]) = units {
        assert_units(&second, at_second);
    }
}

// --- what a boot came to -----------------------------------------------------------------------------

/// containerd is up and stays so, everything is as it was baked, and no unit has failed.
#[track_caller]
fn assert_node(report: &Report) {
    report.expect("verify", 0);
    assert_eq!((report.output("active"), report.output("enabled")), ("active", "enabled"), "{report}");
    assert_eq!(report.output("failed"), "", "{report}");
}

/// cloud-init made the node, and what came after it could use it.
#[track_caller]
fn assert_ready(report: &Report) {
    assert_node(report);
    assert_eq!(cloud_init_status(report.expect("cloud-init", 0)), "done", "{report}");
    assert_eq!(report.output("after"), "active", "{report}");
    assert!(matches!(report.code("schema"), None | Some(0)), "{report}");
}

fn cloud_init_status(output: &str) -> &str {
    output.lines().find_map(|line| line.strip_prefix("status: ")).unwrap_or_default()
}

/// The units of [`enable_units`] are so, and kubelet met a containerd that was up.
#[track_caller]
fn assert_units(report: &Report, [first_boot, verify]: [&str; 2]) {
    assert_node(report);
    assert_eq!(report.output("units"), format!("{first_boot}\n{verify}"), "{report}");
    assert_eq!(report.output("kubelet"), "active", "{report}");
}

/// cloud-init names `script` as what failed, the log says why, and nothing that needs the node ran.
#[track_caller]
fn assert_failed(report: &Report, script: &str) {
    let status = report.expect("cloud-init", 1);
    assert_eq!(cloud_init_status(status), "error", "{report}");
    assert!([")", ","].iter().any(|end| status.contains(&format!("({script}{end}"))), "{report}");
    assert_ne!(report.output("active"), "active", "{report}");
    report.expect("after", 1);
    assert_explained(report.output("log"), report);
}

#[track_caller]
fn assert_explained(log: &str, report: &Report) {
    let expected = format!(", expected {}", "0".repeat(64));
    let told = |line: &str| line.starts_with("nodebake: error: runc ") && line.ends_with(&expected);
    assert!(log.lines().any(told) && log.contains("\n  help: "), "{report}");
    assert!(!log.contains('\u{1b}'), "plain lines: {report}");
}

/// The first boot made the node in full; the second changed nothing, and the node came up.
#[track_caller]
fn assert_unchanged(first: &Report, second: &Report) {
    assert_eq!(complaints(first), [""; 0], "{first}");
    assert_node(second);
    assert!(first.expect("owned", 0).contains("/var/lib/nodebake/receipt.json"), "{first}");
    assert_eq!(first.output("owned"), second.expect("owned", 0));
    assert_eq!(cloud_init_status(first.output("cloud-init")), cloud_init_status(second.output("cloud-init")));
    second.expect("after", 1);
}

// --- the files ---------------------------------------------------------------------------------------

fn shipped(file: &str) -> String {
    fs::read_to_string(repository().join("cloud-init").join(file)).unwrap()
}

/// A spec that pins the lab's archives, which are not upstream's own, and names no source.
fn bare_spec(debian: Debian) -> String {
    spec(debian.generation, "").split_once('\n').unwrap().1.to_owned()
}

/// `text` with the lab's components in place of those that its spec names.
fn pinned(debian: Debian, text: &str) -> String {
    let (spec, mut replaced) = (bare_spec(debian), 0);
    let mut pin = |line: &str| {
        let (indent, rest) = line.split_at(line.len() - line.trim_start().len());
        let (component, _) = rest.split_once("{version: ")?;
        let pinned = spec.lines().map(str::trim_start).find(|pinned| pinned.starts_with(component))?;
        replaced += 1;
        Some(format!("{indent}{pinned}"))
    };
    let lines: Vec<String> = text.lines().map(|line| pin(line).unwrap_or_else(|| line.to_owned())).collect();
    assert_eq!(replaced, 3, "{text}");
    lines.join("\n") + "\n"
}

/// `text` with what the spec in it needs on `layer`.
fn booted(layer: Layer, debian: Debian, text: &str) -> String {
    if layer != Layer::CONTAINER {
        return text.to_owned();
    }
    let before = text.split_once("components:\n").unwrap().0;
    let indent = before.rsplit_once('\n').map_or(before, |(_, indent)| indent);
    let more: String =
        in_a_container(debian.generation).lines().map(|line| format!("{line}\n{indent}")).collect();
    text.replacen("components:\n", &format!("{more}components:\n"), 1)
}

fn with_a_wrong_digest(debian: Debian, text: &str) -> String {
    let versions = versions(debian.generation);
    let wrong = text.replace(versions["runc"]["sha256"].as_str().unwrap(), &"0".repeat(64));
    assert_ne!(wrong, text);
    wrong
}

/// user-data.yaml with a command where it asks for one.
fn user_data(debian: Debian) -> String {
    pinned(debian, &shipped("user-data.yaml")) + "  - systemctl is-active containerd >/run/after\n"
}

fn vendor_data(debian: Debian) -> String {
    pinned(debian, &shipped("vendor-data.yaml"))
}

/// A part of a `#cloud-config-archive`.
fn part(kind: &str, content: &str) -> String {
    let content: String = content.lines().map(|line| format!("    {line}\n")).collect();
    format!("- type: {kind}\n  content: |\n{content}")
}

/// A multipart file of the handler, these specs and the owner's cloud-config, made by cloud-init.
fn multipart(node: &Node, specs: &[&str]) -> String {
    put(node, "/tmp/part-handler.py", &shipped("part-handler.py"));
    put(node, "/tmp/more.yaml", OWNER);
    let mut command =
        "cd /tmp && cloud-init devel make-mime --force -a part-handler.py:part-handler".to_owned();
    for (number, spec) in specs.iter().enumerate() {
        put(node, &format!("/tmp/{number}.yaml"), spec);
        command += &format!(" -a {number}.yaml:x-nodebake");
    }
    text(expect(0, inside(node, &(command + " -a more.yaml:cloud-config"))))
}

// --- the machine -------------------------------------------------------------------------------------

const SPEC: &str = "/etc/nodebake/nodebake.yaml";
const ARCHIVES: &str = "/opt/nodebake/artifacts";
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants";
const HANDLER: &str = "/var/lib/cloud/handlers/nodebake.py";
const SEED: &str = "/var/lib/cloud/seed/nocloud";

/// The image's own configuration: no locale package, no disk to grow, one key of the host.
const CONFIGURATION: &str = "locale: false
resize_rootfs: false
growpart: {mode: 'off'}
ssh_genkeytypes: [ed25519]
";

/// A root of the lab with what an image holds: the binary and the archives. By hard links, since no
/// file of it is written to: not here, and a guest has an overlay.
fn image(debian: Debian) -> Node {
    let node = Node { folder: Folder::on_disk() };
    let link = |from: &Path, to: &Path| run("cp", &["-al", from.to_str().unwrap(), to.to_str().unwrap()]);
    link(&lab().join("roots").join(debian.root), &node.root());
    carry_nodebake(&node);
    let archives = node.path(ARCHIVES);
    fs::create_dir_all(archives.parent().unwrap()).unwrap();
    link(&artifacts(debian.generation), &archives);
    put(&node, "/etc/cloud/cloud.cfg.d/99-lab.cfg", CONFIGURATION);
    node
}

fn put(node: &Node, inside: &str, text: &str) {
    let path = node.path(inside);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Runs a shell command in the root, which is not booted.
fn inside(node: &Node, command: &str) -> Output {
    Command::new("chroot").arg(node.root()).args(["sh", "-c", command]).output().unwrap()
}

/// The units as the README installs them, and a kubelet that notes what it met.
fn enable_units(node: &Node) {
    let units = ["nodebake-firstboot.service", "nodebake-verify.service", "kubelet.service"];
    for unit in &units[..2] {
        put(node, &format!("/etc/systemd/system/{unit}"), &shipped(unit));
    }
    let kubelet = "[Service]\n\
         ExecStart=/bin/sh -c 'systemctl is-active containerd >/run/kubelet; exec sleep infinity'\n\
         [Install]\n\
         WantedBy=multi-user.target\n";
    put(node, "/etc/systemd/system/kubelet.service", kubelet);
    let root = format!("--root={}", node.root().display());
    run("systemctl", &[&[root.as_str(), "enable"], &units[..]].concat());
}

/// A seed in the image.
fn seed(node: &Node, files: &[(&str, &str)]) {
    write_seed(&node.path(SEED), files);
}

fn write_seed(folder: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(folder).unwrap();
    let meta_data = ("meta-data", "instance-id: first\nlocal-hostname: node1\n");
    let network = ("network-config", "version: 2\nethernets: {}\n");
    for (name, text) in files.iter().chain(&[meta_data, network]) {
        fs::write(folder.join(name), text).unwrap();
    }
}

/// The steps that the assertions read.
const FACTS: &str = "
t cloud-init cloud-init status --long
t active systemctl is-active containerd
t enabled systemctl is-enabled containerd
t failed systemctl --failed --plain --no-legend
t verify nodebake verify --root / --live
t after cat /run/after
t units systemctl is-active nodebake-firstboot nodebake-verify
t kubelet cat /run/kubelet
t config cat /etc/containerd/config.toml
t log cat /var/log/cloud-init-output.log
t journal journalctl --boot --no-pager --output=cat --unit=nodebake-firstboot --unit=nodebake-verify
";

/// Files and links that nodebake owns, with mode, inode, times and content.
const OWNED: &str = r#"
owned() {
  python3 -c '
import hashlib, json, os, stat
receipt = "/var/lib/nodebake/receipt.json"
for path in [receipt, *json.load(open(receipt))["paths"]]:
    found = os.lstat(path)
    if stat.S_ISDIR(found.st_mode):
        continue
    link = stat.S_ISLNK(found.st_mode)
    content = os.readlink(path) if link else hashlib.sha256(open(path, "rb").read()).hexdigest()
    print(path, oct(found.st_mode), found.st_ino, found.st_mtime_ns, found.st_ctime_ns, content)'
}
t owned owned
"#;

/// The first boot, in a container.
fn first_boot(node: &Node) -> Report {
    // Last: cloud-init 22.4 reads user-data anew for it.
    let script = format!("{FACTS}t schema cloud-init schema --system\n");
    boot(node, Layer::CONTAINER, &[], &[], &script).remove(0)
}

/// Two boots of one tree, the seed in the image, or of one disk, the seed on an ISO image.
fn boot_twice(node: &Node, layer: Layer, files: &[(&str, &str)]) -> [Report; 2] {
    carry_cni_configuration(node);
    let folder = node.folder.path().join("seed");
    let mut options = vec!["--boots", "2"];
    match (layer, files) {
        (_, []) => {}
        (Layer::CONTAINER, _) => seed(node, files),
        _ => {
            write_seed(&folder, files);
            options.extend(["--seed", folder.to_str().unwrap()]);
        }
    }
    let script = format!("if [[ $1 == 1 ]]; then\n{PROOF}\nfi\n{FACTS}{OWNED}");
    boot(node, layer, &[], &options, &script).try_into().unwrap_or_else(|_| panic!("two boots"))
}
