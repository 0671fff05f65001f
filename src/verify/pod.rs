//! One pod with one container, run through the CRI as the kubelet would and taken away again.
//!
//! It is the only check that meets a runc that can't start or a CNI plugin that is missing: systemd,
//! RuntimeReady and NetworkReady are well with both.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::time::Duration;

use crate::error::Failure;
use crate::interrupt;
use crate::live::cri::{Cri, CriError, v1};
use crate::live::service;
use crate::runtime::containerd::settings::Settings;
use crate::verify::finding::{CheckResult, Finding};

/// The kubelet waits longer; a node that needs more is not ready.
const SANDBOX: Duration = Duration::from_secs(120);

const CONTAINER: Duration = Duration::from_secs(60);

/// A process that fails does so at once.
const SETTLED: Duration = Duration::from_millis(300);

/// Beside a running kubelet.
const TRIES: u32 = 3;

const LOCK: &str = "/run/nodebake-verify.lock";

const LABEL: (&str, &str) = ("io.nodebake", "verify");

/// Pods of ours need no slice of their own, which would outlive them.
const SLICE: &str = "system.slice";

/// What went wrong, and how to mend it.
type PodFailure = (String, &'static str);

/// Runs the pod; without a pod network it runs in the node's.
pub(super) fn check(cri: &mut Cri, settings: &Settings, networked: bool) -> Result<CheckResult, Failure> {
    // Two would take away each other's.
    let lock = File::create(LOCK).map_err(|error| error.to_string());
    let Ok(_lock) = lock.and_then(|file| file.try_lock().map(|()| file).map_err(|error| error.to_string()))
    else {
        return Ok(CheckResult::Skipped(format!("another `verify --pod` runs, or {LOCK} can't be made")));
    };
    let mut result = run_and_sweep(cri, settings, networked);
    // A kubelet takes away what it does not know within seconds; a pod lives for one.
    if service::is_active("kubelet.service") {
        for _ in 1..TRIES {
            interrupt::check()?;
            result = result.or_else(|_| run_and_sweep(cri, settings, networked));
        }
    }
    interrupt::check()?;
    Ok(match result {
        Ok(saw) => CheckResult::Passed(saw),
        Err((problem, help)) => CheckResult::Found(vec![Finding::new("pod", None, problem, help)]),
    })
}

fn run_and_sweep(cri: &mut Cri, settings: &Settings, networked: bool) -> Result<String, PodFailure> {
    let saw = sweep(cri).and_then(|()| run(cri, settings, networked));
    let swept = sweep(cri);
    saw.and_then(|saw| swept.map(|()| saw))
}

/// Takes away our pods, also one that a killed run has left.
fn sweep(cri: &mut Cri) -> Result<(), PodFailure> {
    let failed = |why: CriError| (format!("removing the pod: {why}"), "see journalctl -u containerd");
    for id in cri.sandboxes(&labels()).map_err(failed)? {
        cri.remove_sandbox(&id, CONTAINER).map_err(failed)?;
    }
    Ok(())
}

fn run(cri: &mut Cri, settings: &Settings, networked: bool) -> Result<String, PodFailure> {
    let Some(image) = &settings.sandbox_image else {
        return Err(("config.toml names no sandbox image".to_owned(), "set containerd.config.sandbox_image"));
    };
    let sandbox_config = sandbox_config(settings, networked);
    let sandbox = cri
        .run_sandbox(&sandbox_config, SANDBOX)
        .map_err(|why| trouble("starting the pod's sandbox", &why))?;
    let address =
        cri.sandbox_address(&sandbox).map_err(|why| trouble("asking for the pod's address", &why))?;
    if networked && address.is_none() {
        return Err(("the pod got no address".to_owned(), "see the CNI configuration in /etc/cni/net.d"));
    }
    // The pause image is the one that is there on every node; it needs no network and waits for ever.
    let container_config = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "verify".to_owned(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: image.clone(), ..Default::default() }),
        labels: labels().into_iter().collect(),
        ..Default::default()
    };
    let container = cri
        .run_container(&sandbox, &sandbox_config, container_config, CONTAINER)
        .map_err(|why| trouble("starting a container in the pod", &why))?;
    std::thread::sleep(SETTLED);
    let process =
        cri.container_process(&container).map_err(|why| trouble("asking for the container", &why))?;
    let group = control_group(process, &container, settings)?;
    let address = address
        .map_or("in the node's network: there is no CNI configuration yet".to_owned(), |ip| {
            format!("with address {ip}")
        });
    Ok(format!("a pod of {image} ran {address}, in {group}"))
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])
}

fn sandbox_config(settings: &Settings, networked: bool) -> v1::PodSandboxConfig {
    let network = if networked { v1::NamespaceMode::Pod } else { v1::NamespaceMode::Node };
    let namespaces = v1::NamespaceOption { network: network.into(), ..Default::default() };
    let security =
        v1::LinuxSandboxSecurityContext { namespace_options: Some(namespaces), ..Default::default() };
    // Without systemd's cgroups a parent would be a directory that stays behind.
    let parent = if settings.systemd_cgroup == Some(true) { SLICE } else { "" };
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "nodebake-verify".to_owned(),
            uid: "nodebake-verify".to_owned(),
            namespace: "nodebake".to_owned(),
            attempt: 0,
        }),
        hostname: if networked { "nodebake-verify".to_owned() } else { String::new() },
        labels: labels().into_iter().collect(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: parent.to_owned(),
            security_context: Some(security),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Where the container's process is accounted. With the systemd driver it is a scope that systemd
/// knows; the kubelet's limits reach it only there.
fn control_group(process: u32, container: &str, settings: &Settings) -> Result<String, PodFailure> {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
    let paths: Vec<&str> = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).collect();
    let own = paths.iter().find(|path| path.contains(container)).copied().unwrap_or("no cgroup of its own");
    let scope = format!("cri-containerd-{container}.scope");
    let managed =
        paths.iter().any(|path| path.ends_with(&format!("/{SLICE}/{scope}"))) && service::is_active(&scope);
    match (settings.systemd_cgroup, managed) {
        (Some(true), false) => Err((
            format!(
                "the container runs in {own}, which systemd does not manage, though config.toml says SystemdCgroup"
            ),
            "run `systemctl restart containerd`; see whether a drop-in in /etc/containerd/conf.d changes it",
        )),
        (_, true) => Ok(format!("a scope of systemd's {SLICE}")),
        (_, false) => Ok(own.to_owned()),
    }
}

/// The runtime's own words, and what they mean for a node.
fn trouble(doing: &str, why: &CriError) -> PodFailure {
    let why = why.to_string();
    let no_image =
        "the pause image is not there and can't be pulled: preload it, or give a mirror that has it";
    let known = [
        ("failed to pull", no_image),
        ("failed to resolve", no_image),
        (
            "failed to find plugin",
            "the CNI plugins are missing or not where config.toml says: run `nodebake apply`",
        ),
        ("OCI runtime", "runc can't start containers: try `runc --version`, then `nodebake apply`"),
        ("cni", "see the CNI configuration in /etc/cni/net.d and the plugins in /opt/cni/bin"),
    ];
    let help = known
        .iter()
        .find(|(words, _)| why.contains(words))
        .map_or("see journalctl -u containerd", |(_, help)| *help);
    (format!("{doing}: {why}"), help)
}
