//! Knowledge of containerd: which files each release reads, and with which keys.
//!
//! containerd ignores a key in the wrong table without a message, so the keys are chosen by release and the result
//! is parsed back. This module must not read or run anything.
//!
//! Sources: containerd's docs/cri/config.md and RELEASES.md, and what the catalogue has of each release's keys.

mod config;
pub(super) mod fragments;
pub(super) mod hosts;
pub(super) mod keys;
mod known;
pub(crate) mod lookup;
mod migration;
pub(super) mod promises;
mod release;
mod sandbox;
pub(super) mod settings;
mod unit;
pub(super) mod validate;

use crate::error::Failure;
use crate::node::{Shape, Want};
use crate::path::ImagePath;
use crate::runtime::{CNI_CONF, Facts, Places, Probe, RuntimeInputs};
use crate::spec::Spec;

use config::{Written, config};
pub(crate) use release::Release;

const CONFIG: &str = "/etc/containerd/config.toml";

const BINARY: &str = "/usr/local/bin/containerd";

const PACKAGED: [&str; 2] = ["/usr/bin/containerd", "/bin/containerd"];

/// Directory of images and containers.
const STORE: &str = "/var/lib/containerd";

const DROP_INS: &str = "/etc/containerd/conf.d/*.toml";

/// The CRI plugin of configuration version 2.
const CRI: &str = "io.containerd.grpc.v1.cri";

/// The half of the CRI plugin of version 3 that has the keys of images.
const IMAGES: &str = "io.containerd.cri.v1.images";

/// The half of the CRI plugin of version 3 that has the keys of containers.
const RUNTIME: &str = "io.containerd.cri.v1.runtime";

/// What is true of containerd whatever the spec says.
pub(crate) const FACTS: Facts = Facts {
    name: "containerd",
    socket: "unix:///run/containerd/containerd.sock",
    service: "containerd.service",
    binary: Places { own: BINARY, packaged: &PACKAGED },
    member: "bin/containerd",
    unit: Places { own: unit::UNIT, packaged: &unit::PACKAGED },
    drop_in: unit::DROP_IN,
    wants: unit::WANTS,
    preset: unit::PRESET,
    config: CONFIG,
    registry_file: hosts::FILE,
    places: &[
        (CONFIG, Shape::TEXT),
        (CNI_CONF, Shape::Directory(0o755)),
        (STORE, Shape::Directory(0o700)),
        (unit::PRESET, Shape::TEXT),
        (unit::WANTS, Shape::Link(&[unit::UNIT, unit::PACKAGED[0], unit::PACKAGED[1]])),
        (unit::UNIT, Shape::TEXT),
        (unit::DROP_IN, Shape::TEXT),
        (unit::PROXY, Shape::TEXT),
    ],
    // hosts.toml is read at every pull, runc and the shim at every container.
    read_at_start: &[
        BINARY,
        PACKAGED[0],
        PACKAGED[1],
        CONFIG,
        unit::UNIT,
        unit::PACKAGED[0],
        unit::PACKAGED[1],
        unit::DROP_IN,
        unit::PROXY,
    ],
    packages: &[
        "containerd",
        "containerd.io",
        "docker.io",
        "moby-containerd",
        "containerd2",
        "docker-engine",
    ],
    // Debian's docker.io lives beside Debian's containerd.
    friends: &[("containerd", "docker.io")],
    package_files: (
        &["/usr/bin", "/usr/sbin", "/usr/lib/systemd/system", "/etc/containerd"],
        &["containerd", "ctr", "runc", "config.toml"],
    ),
    scope: "cri-containerd-",
    probes: &[
        Probe {
            name: "containerd answers",
            command: "ctr --connect-timeout 10s version",
            prints: "/Server:/",
        },
        Probe {
            name: "the CRI is loaded",
            command: "ctr --connect-timeout 10s plugins ls",
            prints: r"/io\.containerd\.grpc\.v1\s+cri\s.*\sok/",
        },
    ],
};

/// Computes config.toml, the directories that containerd expects, the unit and what enables it.
pub(super) fn files(spec: &Spec, inputs: RuntimeInputs) -> Result<Vec<(ImagePath, Want)>, Failure> {
    let RuntimeInputs { version, packaged_unit, .. } = inputs;
    let release = Release::parse(version)?;
    let Written { file, settings } = config(spec, inputs)?;
    settings.sandbox_image.as_ref().map_or(Ok(()), |image| sandbox::check(version, image))?;
    let mut files = vec![(ImagePath::fixed(CONFIG), file)];
    // A directory that the configuration leads elsewhere is left to whoever makes that one.
    let is = |path: &Option<String>, own: &str| path.as_deref().is_none_or(|path| path == own);
    if is(&settings.cni_conf, CNI_CONF) {
        // Empty: the CNI add-on writes it, and the kubelet waits for that.
        files.push((ImagePath::fixed(CNI_CONF), Want::Directory { mode: 0o755 }));
    }
    if is(&settings.root, STORE) {
        // CVE-2024-25621: containers' files were readable by every user of the node.
        files.push((ImagePath::fixed(STORE), Want::Directory { mode: 0o700 }));
    }
    files.extend(unit::entries(release, &spec.containerd, packaged_unit));
    Ok(files)
}
