//! The templates of `packer/` as they stand, run by Debian's Packer 1.6.6: the provisioner over ssh
//! into a chroot, the build of a root filesystem, the build of a machine in QEMU. Both disks boot and
//! run a pod. Each build prints its time. Needs `make dist` and `tests/lab/prepare`; run by `make test`,
//! what takes a machine in QEMU by `make test-all` only.
//!
//! Of the examples for clouds only their validity is shown, and `plugins.pkr.hcl` is for a later Packer.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::kit::command::{expect, run, text};
use crate::kit::guest::carry_cni_configuration;
use crate::kit::lab::{lab, repository, static_binary};
use crate::kit::machine::boot_disk;
use crate::kit::node::{Node, artifacts, versions};
use crate::kit::ready::{PROOF, complaints};
use crate::kit::{assert_same, tree};

// --- the templates ------------------------------------------------------------------------------------

#[test]
#[ignore = "needs tests/lab/prepare"]
fn every_template_is_formatted_and_valid() {
    let build = Build::new("trixie", "2.1");
    for folder in ["packer", "packer/examples"] {
        run("packer", &["fmt", "-check", "-diff", repository().join(folder).to_str().unwrap()]);
    }
    run("sh", &[&build.word("packer/seed.sh"), &build.word("seed")]);
    build.validate("rootfs.*", &[]).succeeds();
    // Packer fetches the checksum of Debian's image even then.
    let here = ["-var=disk=base.raw", "-var=disk_checksum=none"];
    build.validate("nodebake.qemu.*", &here).succeeds();
    // Nothing is built to find out that a file is missing.
    let missing = build.validate("nodebake.qemu.*", &["-var=spec=nodebake.yml", here[0], here[1]]);
    assert!(missing.code != 0 && missing.text.contains("nodebake.yml"), "{}", missing.text);
    let wrong = build.validate("nodebake.qemu.*", &["-var=arch=x86_64", here[0], here[1]]);
    assert!(wrong.code != 0 && wrong.text.contains("arch must be amd64 or arm64"), "{}", wrong.text);
}

/// What has no default, beside what the shared files have.
const EXAMPLES: [(&str, &[&str]); 4] = [
    ("amazon-ebs", &[]),
    ("googlecompute", &["-var=project_id=p"]),
    ("azure-arm", &["-var=subscription_id=s", "-var=resource_group=g"]),
    (
        "vsphere-iso",
        &[
            "-var=vcenter_server=v.example",
            "-var=username=u",
            "-var=password=p",
            "-var=datacenter=d",
            "-var=cluster=c",
            "-var=datastore=s",
            "-var=iso=[s] debian.iso",
            "-var=preseed=.",
            "-var=ssh_password=p",
        ],
    ),
];

#[test]
#[ignore = "needs tests/lab/prepare"]
fn every_example_is_valid_in_place_of_the_machine_in_qemu() {
    let build = Build::new("trixie", "2.1");
    for (name, variables) in EXAMPLES {
        let example =
            fs::read_to_string(repository().join(format!("packer/examples/{name}.pkr.hcl"))).unwrap();
        build.replace_machine(&format!("{name}.node"), &example);
        build.validate("nodebake.*", variables).succeeds();
        build.replace_machine(&format!("{name}.node"), &example.replace("ssh_username ", "ssh_user "));
        assert_ne!(build.validate("nodebake.*", variables).code, 0, "{name}: any attribute is accepted");
    }
}

// --- the provisioner, over ssh ------------------------------------------------------------------------

/// What an image must not hold, and what it must keep.
fn make_dirty(node: &Node) {
    let write = |path: &str, text: &str| {
        fs::create_dir_all(node.path(path).parent().unwrap()).unwrap();
        fs::write(node.path(path), text).unwrap();
    };
    assert!(node.path("/etc/ssh/ssh_host_ed25519_key").exists());
    write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    write("/var/log/syslog", "of the build\n");
    write("/var/log/journal/0123456789abcdef0123456789abcdef/system.journal", "LPKSHHRH");
    write("/var/lib/systemd/random-seed", "seed");
    write("/var/lib/cloud/data/instance-id", "i-build\n");
    write("/var/lib/cloud/instances/i-build/user-data.txt", "secret\n");
    write("/var/lib/cloud/handlers/nodebake.py", "# a part handler\n");
    write("/var/lib/dhcp/dhclient.eth0.leases", "lease {}\n");
    write("/tmp/mine", "left by a step\n");
    write("/root/.ssh/authorized_keys", "ssh-ed25519 AAAA packer_5fbd\nssh-ed25519 BBBB owner@desk\n");
}

/// `read` gives a file of the image, or none.
fn assert_clean(read: impl Fn(&str) -> Option<String>) {
    assert_eq!(read("/etc/machine-id").as_deref(), Some(""));
    for gone in [
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/ssh/ssh_host_rsa_key.pub",
        "/var/log/syslog",
        "/var/log/journal/0123456789abcdef0123456789abcdef/system.journal",
        "/var/lib/systemd/random-seed",
        "/var/lib/cloud/data/instance-id",
        "/var/lib/cloud/instances/i-build/user-data.txt",
        "/var/lib/dhcp/dhclient.eth0.leases",
        "/tmp/mine",
        "/tmp/nodebake/nodebake.yaml",
        "/tmp/nodebake/bin/nodebake-linux-amd64",
    ] {
        assert_eq!(read(gone), None, "{gone}");
    }
    assert_eq!(read("/root/.ssh/authorized_keys").as_deref(), Some("ssh-ed25519 BBBB owner@desk\n"));
    assert_eq!(read("/var/lib/cloud/handlers/nodebake.py").as_deref(), Some("# a part handler\n"));
    assert!(read("/var/lib/nodebake/receipt.json").is_some(), "nodebake's own state is part of the image");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn the_provisioner_bakes_and_cleans_over_ssh() {
    let build = Build::new("bookworm-cloud", "2.1");
    make_dirty(&build.node);
    let chroot = format!(
        "source \"null\" \"chroot\" {{\n  communicator = \"ssh\"\n  ssh_host = \"127.0.0.1\"\n  ssh_username = \"root\"\n  ssh_private_key_file = \"{}\"\n}}\n",
        lab().join("sshd/key").display()
    );
    build.replace_machine("null.chroot", &chroot);

    // The template's steps, with a digest that does not match …
    let spec = fs::read_to_string(build.node.spec()).unwrap();
    fs::write(build.path("wrong.yaml"), wrong_digest(&spec)).unwrap();
    let failed = build.over_ssh(&["-var=spec=wrong.yaml"]);
    failed.fails(5, "nodebake: error: cni-plugins 1.9.1 (amd64) from ");
    assert!(!build.node.path("/opt/cni/bin/bridge").exists());

    // … with a spec made of variables, a lock and a bundle …
    build.pack();
    fs::write(build.path("nodebake.lock"), lock()).unwrap();
    let said = build.over_ssh(&[
        "-var=containerd_version=2.1.9",
        "-var=source=bundle.tar",
        "-var=spec_files=[\"nodebake.lock\"]",
        "-var=registries={\"docker.io\" = [\"https://mirror.example\"]}",
    ]);
    said.succeeds().prints_time("the provisioner over ssh into a chroot");
    let progress = "    nodebake.null.chroot: nodebake: reading containerd 2.1.9 (amd64) from /tmp/nodebake/";
    assert!(said.text.lines().any(|line| line.starts_with(progress)), "{}", said.text);
    assert_clean(|path| read(&build.node.path(path)));
    let hosts = fs::read_to_string(build.node.path("/etc/containerd/certs.d/docker.io/hosts.toml")).unwrap();
    assert!(hosts.contains("https://mirror.example"), "{hosts}");
    for folder in ["/tmp", "/var/tmp"] {
        let left: Vec<_> = fs::read_dir(build.node.path(folder)).unwrap().collect();
        assert!(left.is_empty(), "{folder}: {left:?}");
    }
    expect(0, build.node.nodebake("verify", &[]));

    // … and with a step of the user's that breaks what was baked.
    let template = fs::read_to_string(build.path("packer/nodebake.pkr.hcl")).unwrap();
    let step = "provisioner \"shell\" {\n    inline = [\"rm /opt/cni/bin/bridge\"]\n  }\n\n  # Your own";
    fs::write(build.path("packer/nodebake.pkr.hcl"), template.replace("# Your own", step)).unwrap();
    let failed = build.over_ssh(&["-var=spec=nodebake.yaml"]);
    failed.fails(10, "nodebake: error: verify ended with exit code 10");
    assert!(failed.text.contains("/opt/cni/bin/bridge"), "{}", failed.text);
}

// --- a root filesystem --------------------------------------------------------------------------------

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_root_filesystem_becomes_a_tar_and_a_disk() {
    let build = Build::new("bookworm-cloud", "2.1");
    make_dirty(&build.node);
    let before = tree(&build.node.root());
    build.rootfs_to_tar_and_disk();
    assert_same("the directory that was built from", &before, &tree(&build.node.root()));

    let output = build.path("output");
    let mut results: Vec<_> =
        fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    results.sort();
    assert_eq!(results, ["SHA256SUMS", "node.raw", "node.tar"]);
    run("sh", &["-c", "cd \"$0\" && sha256sum --check --quiet SHA256SUMS", output.to_str().unwrap()]);
    let member = |path: &str| {
        let name = format!(".{path}");
        let tar = build.word("output/node.tar");
        let output =
            Command::new("tar").args(["--extract", "--to-stdout", "--file", &tar, &name]).output().unwrap();
        output.status.success().then(|| text(output))
    };
    assert_clean(member);

    // The same tree as a tar, and the archives in a bundle, give the same bytes.
    build.pack();
    run(
        "tar",
        &["-C", &build.word("root"), "--xattrs", "--format=posix", "-cf", &build.word("root.tar"), "."],
    );
    build
        .rootfs(&[
            "-var=spec=nodebake.yaml",
            "-var=source=bundle.tar",
            "-var=rootfs=root.tar",
            "-var=output=again",
        ])
        .succeeds();
    run("cmp", &[&build.word("output/node.tar"), &build.word("again/node.tar")]);
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_root_of_another_architecture_without_a_kernel_becomes_a_filesystem() {
    let build = Build::new("trixie-arm64", "2.1-arm64");
    let said = build.rootfs(&[
        "-var=arch=arm64",
        "-var=spec=nodebake.yaml",
        "-var=rootfs=root",
        "-var=disk_size=1G",
    ]);
    said.succeeds();
    assert!(said.text.contains("a filesystem without partitions"), "{}", said.text);
    run("e2fsck", &["-fn", &build.word("output/node.raw")]);
    assert_eq!(fs::metadata(build.path("output/node.raw")).unwrap().len(), 1 << 30);
    let receipt =
        run("debugfs", &["-R", "cat /var/lib/nodebake/receipt.json", &build.word("output/node.raw")]);
    assert!(receipt.contains("arm64"), "{receipt}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_build_of_a_root_filesystem_fails_with_nodebakes_words() {
    let build = Build::new("trixie", "2.1");
    let spec = fs::read_to_string(build.node.spec()).unwrap();
    fs::write(build.node.spec(), wrong_digest(&spec)).unwrap();
    let failed = build.rootfs(&["-var=spec=nodebake.yaml", "-var=rootfs=root"]);
    failed.fails(5, "nodebake: error: cni-plugins 1.9.1 (amd64) from ");
    assert!(!build.path("output/node.tar").exists() && !build.path("output/node.raw").exists());
    fs::write(build.node.spec(), spec.replace("containerd:", "containered:")).unwrap();
    build.rootfs(&["-var=spec=nodebake.yaml", "-var=rootfs=root"]).fails(3, "nodebake: error: ");
    let variables = ["-var=containerd_version=2.1.9", "-var=runc_version=1.3.6"];
    build
        .rootfs(&["-var=rootfs=root", variables[0], variables[1]])
        .fails(5, "nodebake: error: containerd 2.1.9 ");
    build.rootfs(&["-var=spec=nodebake.yaml"]).fails(1, "rootfs.sh: error: set `rootfs`");
}

// --- a machine ----------------------------------------------------------------------------------------

mod slow {
    use std::fs;

    use super::{Build, carry_cni_configuration, run};

    #[test]
    #[ignore = "needs tests/lab/prepare"]
    fn the_disk_of_a_root_filesystem_boots_ready() {
        let build = Build::new("bookworm-cloud", "2.1");
        carry_cni_configuration(&build.node);
        build.rootfs_to_tar_and_disk();
        build.boots_ready(&build.path("output/node.raw"));
    }

    #[test]
    #[ignore = "needs tests/lab/prepare"]
    fn a_machine_in_qemu_becomes_a_disk_that_boots_ready() {
        let build = Build::new("bookworm-cloud", "2.1");
        carry_cni_configuration(&build.node);
        // As a cloud image, but with a kernel that has NVMe built in and looks for a seed on the CD.
        let arguments = "console=ttyS0 ds=nocloud";
        run(
            "sh",
            &[&build.word("packer/disk.sh"), &build.word("root"), &build.word("base.raw"), "", arguments],
        );
        run("sh", &[&build.word("packer/seed.sh"), &build.word("seed")]);
        fs::write(build.path("lab.pkrvars.hcl"), EMULATED).unwrap();
        let said = build.packer(
            &[],
            "build",
            "nodebake.qemu.*",
            &["-var-file=lab.pkrvars.hcl", "-var=spec=nodebake.yaml"],
        );
        said.succeeds().prints_time("a machine in QEMU, emulated");

        let disk = build.path("output/machine/node.raw");
        let partition = build.word("partition");
        run(
            "dd",
            &[
                "bs=1M",
                "skip=257",
                "conv=sparse",
                &format!("if={}", disk.display()),
                &format!("of={partition}"),
            ],
        );
        let inside = |command: &str| run("debugfs", &["-R", command, &partition]);
        assert_eq!(inside("cat /etc/machine-id"), "");
        assert_eq!(inside("cat /home/debian/.ssh/authorized_keys"), "", "the build's key");
        for (folder, leftover) in [
            ("/tmp", "nodebake"),
            ("/tmp", "script_"),
            ("/etc/ssh", "ssh_host_"),
            ("/var/lib/cloud", "instance"),
            ("/var/lib/systemd", "random-seed"),
            ("/var/log", "cloud-init"),
            ("/var/log", "wtmp"),
        ] {
            let listing = inside(&format!("ls -p {folder}"));
            assert!(listing.contains("/./") && !listing.contains(leftover), "{folder}: {listing}");
        }
        assert_eq!(
            inside("ls -p /var/log/journal").lines().filter(|line| !line.is_empty()).count(),
            2,
            ". and .."
        );
        build.boots_ready(&disk);
    }

    /// What emulation and Packer 1.6.6 need. `virtio-scsi` is a drive that a device of ours can take.
    const EMULATED: &str = r#"
disk           = "base.raw"
disk_checksum  = "none"
format         = "raw"
accelerator    = "tcg"
disk_interface = "virtio-scsi"
qemuargs = [
  ["-cpu", "max,-cx16"],
  ["-bios", "/usr/share/ovmf/OVMF.fd"],
  ["-device", "nvme,drive=drive0,serial=root"],
  ["-device", "virtio-net,netdev=user.0,romfile="],
]
"#;
}

// --- how a user calls Packer --------------------------------------------------------------------------

/// A copy of `packer/`, and what a user has beside it: the binary, archives, a spec, a root.
struct Build {
    node: Node,
}

impl Build {
    fn new(root: &str, generation: &'static str) -> Build {
        let build = Build { node: Node::bootable(root, generation, "") };
        run("cp", &["-r", repository().join("packer").to_str().unwrap(), &build.word("packer")]);
        // Packer 1.6.6 does not know what is in it.
        fs::remove_file(build.path("packer/plugins.pkr.hcl")).unwrap();
        let linked = build.path("artifacts");
        let from = if linked.is_dir() { linked } else { artifacts(generation) };
        run("cp", &["-rL", from.to_str().unwrap(), &build.word("archives")]);
        for folder in ["dist", "tmp", "home"] {
            fs::create_dir(build.path(folder)).unwrap();
        }
        fs::copy(static_binary("x86_64-unknown-linux-musl"), build.path("dist/nodebake-linux-amd64"))
            .unwrap();
        build
    }

    /// Makes `bundle.tar` of the archives.
    fn pack(&self) {
        let output = self.word("bundle.tar");
        let create =
            ["bundle", "create", "--arch", "amd64", "--spec", &self.node.spec(), "--output", &output];
        run(&self.word("dist/nodebake-linux-amd64"), &create);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.node.folder.path().join(name)
    }

    fn word(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// As the README says: another source file, and its name in the build's list.
    fn replace_machine(&self, source: &str, text: &str) {
        let _ = fs::remove_file(self.path("packer/qemu.pkr.hcl"));
        fs::write(self.path("packer/machine.pkr.hcl"), text).unwrap();
        let shared = fs::read_to_string(repository().join("packer/nodebake.pkr.hcl")).unwrap();
        assert!(shared.contains("\"source.qemu.node\""));
        let shared = shared.replace("source.qemu.node", &format!("source.{source}"));
        fs::write(self.path("packer/nodebake.pkr.hcl"), shared).unwrap();
    }

    fn validate(&self, only: &str, variables: &[&str]) -> Said {
        self.packer(&[], "validate", only, variables)
    }

    fn rootfs(&self, variables: &[&str]) -> Said {
        self.packer(&[], "build", "rootfs.*", variables)
    }

    fn rootfs_to_tar_and_disk(&self) {
        let said = self.rootfs(&["-var=spec=nodebake.yaml", "-var=rootfs=root"]);
        said.succeeds().prints_time("a root filesystem to a tar and a disk");
    }

    fn over_ssh(&self, variables: &[&str]) -> Said {
        let sshd = repository().join("tests/lab/sshd");
        let around = [sshd.to_str().unwrap(), &self.word("root"), "--"];
        self.packer(&around, "build", "nodebake.*", variables)
    }

    fn packer(&self, around: &[&str], command: &str, only: &str, variables: &[&str]) -> Said {
        let only = format!("-only={only}");
        let mut words: Vec<&str> = around.to_vec();
        words.extend(["packer", command, &only, "-var=nodebake=dist", "-var=source=archives"]);
        if command == "build" {
            words.push("-color=false");
        }
        words.extend(variables);
        words.push("packer");
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$@\" 2>&1", "sh"]).args(words).current_dir(self.node.folder.path());
        // Nothing of it stays elsewhere: 1.6.6 leaves the seed's files behind.
        shell.env("CHECKPOINT_DISABLE", "1").env("TMPDIR", self.path("tmp")).env("HOME", self.path("home"));
        shell
            .env("PACKER_CONFIG_DIR", self.path("home"))
            .env("AWS_ACCESS_KEY_ID", "a")
            .env("AWS_SECRET_ACCESS_KEY", "s");
        let start = Instant::now();
        let output = shell.output().unwrap();
        let seconds = start.elapsed().as_secs_f32();
        Said { code: output.status.code().unwrap(), text: text(output), seconds }
    }

    /// A first boot on another machine: an identity and host keys of its own, and a pod.
    fn boots_ready(&self, disk: &Path) {
        let binary = format!("{}=/usr/local/bin/nodebake", self.word("dist/nodebake-linux-amd64"));
        let identity = "t machine-id cat /etc/machine-id\nt keys ls /etc/ssh\n";
        let report =
            boot_disk(disk, self.node.folder.path(), &["--file", &binary], &format!("{identity}{PROOF}"));
        assert_eq!(complaints(&report), [""; 0], "{report}");
        assert_eq!(report.expect("machine-id", 0).len(), 32, "{report}");
        assert!(report.expect("keys", 0).contains("ssh_host_ed25519_key"), "{report}");
    }
}

/// What Packer said, and how long it took.
struct Said {
    code: i32,
    text: String,
    seconds: f32,
}

impl Said {
    #[track_caller]
    fn succeeds(&self) -> &Said {
        assert_eq!(self.code, 0, "{}", self.text);
        self
    }

    /// The script ended with `code`, and its last line starts with `words`.
    #[track_caller]
    fn fails(&self, code: i32, words: &str) {
        assert_eq!(self.code, 1, "{}", self.text);
        assert!(self.text.contains(&format!("non-zero exit status: {code}.")), "{}", self.text);
        // Packer indents what a script says.
        let last = self.text.lines().rfind(|line| line.starts_with("    ")).unwrap();
        let (_, last) = last.split_once(": ").unwrap();
        assert!(last.starts_with(words), "`{last}` in\n{}", self.text);
    }

    #[expect(clippy::explicit_write, reason = "`eprintln!` is captured where a test succeeds")]
    fn prints_time(&self, what: &str) {
        writeln!(io::stderr(), "packer: {what}: {:.1} s", self.seconds).unwrap();
    }
}

fn read(path: &Path) -> Option<String> {
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn wrong_digest(spec: &str) -> String {
    let right = versions("2.1")["cni-plugins"]["sha256"].as_str().unwrap().to_owned();
    spec.replace(&right, &"a".repeat(64))
}

/// The lab's archives are Debian's builds, which the catalogue does not know.
fn lock() -> String {
    let mut yaml = "version: 1\nartifacts:\n".to_owned();
    for (component, generation, project) in [
        ("cni-plugins", "2.1", "containernetworking/plugins"),
        ("containerd", "2.1", "containerd/containerd"),
        ("runc", "runc-bookworm", "opencontainers/runc"),
    ] {
        let pinned = &versions(generation)[component];
        let [version, file, sha256] = ["version", "file", "sha256"].map(|key| pinned[key].as_str().unwrap());
        let url = format!("https://github.com/{project}/releases/download/v{version}/{file}");
        let size = fs::metadata(artifacts(generation).join(file)).unwrap().len();
        writeln!(yaml, "- component: {component}\n  version: {version}\n  arch: amd64\n  url: {url}")
            .unwrap();
        writeln!(yaml, "  size: {size}\n  sha256: {sha256}\n  verified: lab").unwrap();
    }
    yaml
}
