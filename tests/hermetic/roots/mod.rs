//! Rows R1 to R20 of the test matrix, and the contract around them: hostile and unusual roots,
//! idempotence, reproducibility, remove, drift, locks, several roots. Every test ends by comparing
//! the host's sentinel with what it was (see `Lab`).

mod drift;
mod kernels;
mod links;
mod owners;
mod remove;
mod runs;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::kit;
use crate::kit::{Lab, Run};

/// A refusal, or anything else that must not hang.
const AT_ONCE: Duration = Duration::from_secs(5);
const RUNC_PATH: &str = "/usr/local/sbin/runc";
const CONFIG: &str = "/etc/containerd/config.toml";
const ENABLEMENT: &str = "/etc/systemd/system/multi-user.target.wants/containerd.service";
const RECEIPT: &str = "/var/lib/nodebake/receipt.json";

/// A fresh lab after one apply.
#[track_caller]
fn baked() -> Lab {
    let lab = Lab::new();
    lab.apply().exits(0);
    lab.has_no_leftovers();
    lab
}

/// What nodebake installed, without its own state and without the architecture's shell.
fn installed(tree: &str) -> String {
    let ours = [
        " usr/local",
        " opt",
        " etc/containerd",
        " etc/systemd",
        " etc/modules-load.d",
        " etc/sysctl.d",
        " etc/crictl.yaml",
        " etc/cni",
        " var/lib/containerd",
    ];
    tree.lines()
        .filter(|line| ours.iter().any(|start| line.contains(start)))
        .map(|line| format!("{line}\n"))
        .collect()
}

type MakeSpecial = fn(&Path) -> std::io::Result<()>;

const SPECIAL: [(&str, MakeSpecial); 4] = [
    ("FIFO", fifo),
    ("socket", socket),
    ("character device", character_device),
    ("block device", block_device),
];

fn fifo(path: &Path) -> std::io::Result<()> {
    Ok(mknodat(CWD, path, FileType::Fifo, Mode::from(0o644), 0)?)
}

fn socket(path: &Path) -> std::io::Result<()> {
    UnixListener::bind(path).map(drop)
}

/// /dev/zero, which never ends.
fn character_device(path: &Path) -> std::io::Result<()> {
    Ok(mknodat(CWD, path, FileType::CharacterDevice, Mode::from(0o644), makedev(1, 5))?)
}

fn block_device(path: &Path) -> std::io::Result<()> {
    Ok(mknodat(CWD, path, FileType::BlockDevice, Mode::from(0o644), makedev(7, 0))?)
}

/// apply in a mount namespace of its own, after `script`.
fn mounted(lab: &Lab, script: &str) -> Run {
    lab.apply_under(["unshare", "-m", "sh", "-ec", &format!("{script}; exec \"$@\""), "sh"])
}

fn mounts_work() -> bool {
    let works = kit::works(["unshare", "-m", "sh", "-ec", "mount --bind /usr /mnt"]);
    if !works {
        kit::skip("no mount namespaces here");
    }
    works
}
