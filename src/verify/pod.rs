//! Runs one pod with one container through the CRI, as the kubelet would, and removes it.
//!
//! Only this check finds a runc that can't start, or a missing CNI plugin: the service, RuntimeReady and
//! NetworkReady do not depend on them. This module must not leave a pod behind.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::time::Duration;

use crate::error::Failure;
use crate::interrupt;
use crate::live::cri::{Cri, CriError, v1};
use crate::live::service;
use crate::runtime::{Facts, Settings};
use crate::verify::finding::{CheckResult, Finding};

/// Time to start the pod's sandbox, and to remove it. The kubelet waits longer, but a node that needs more is
/// not ready.
const SANDBOX_TIMEOUT: Duration = Duration::from_secs(120);

/// Time to start the container.
const CONTAINER_TIMEOUT: Duration = Duration::from_secs(60);

/// Time to wait before the container is looked at: a process that can't run has failed by then.
const SETTLING_TIME: Duration = Duration::from_millis(300);

/// Number of tries beside a running kubelet.
const TRIES: u32 = 3;

/// File that is locked while a pod of ours runs.
const LOCK: &str = "/run/nodebake-verify.lock";

/// Label of our pods.
const LABEL: (&str, &str) = ("io.nodebake", "verify");

/// Slice of our pods. A slice of their own would remain after they are removed.
const SLICE: &str = "system.slice";

/// Problem and remedy.
type PodFailure = (String, &'static str);

/// Runs the pod; without a pod network in the node's network.
pub(super) fn check(
    cri: &mut Cri,
    runtime: &Facts,
    settings: &Settings,
    networked: bool,
) -> Result<CheckResult, Failure> {
    // Two runs at once would remove each other's pod.
    let lock = File::create(LOCK).map_err(|error| error.to_string());
    let Ok(_lock) = lock.and_then(|file| file.try_lock().map(|()| file).map_err(|error| error.to_string()))
    else {
        return Ok(CheckResult::Skipped(format!("another `verify --pod` runs, or {LOCK} can't be made")));
    };
    let mut result = run_and_remove(cri, runtime, settings, networked);
    // A kubelet removes pods that it does not know within seconds; ours lives for one second.
    if service::is_active("kubelet.service") {
        for _ in 1..TRIES {
            interrupt::check()?;
            result = result.or_else(|_| run_and_remove(cri, runtime, settings, networked));
        }
    }
    interrupt::check()?;
    Ok(match result {
        Ok(saw) => CheckResult::Passed(saw),
        Err((problem, help)) => CheckResult::Found(vec![Finding::new("pod", None, problem, help)]),
    })
}

/// Runs the pod and removes it, also after a failure.
fn run_and_remove(
    cri: &mut Cri,
    runtime: &Facts,
    settings: &Settings,
    networked: bool,
) -> Result<String, PodFailure> {
    let saw = remove_pods(cri).and_then(|()| run(cri, runtime, settings, networked));
    let removed = remove_pods(cri);
    saw.and_then(|saw| removed.map(|()| saw))
}

/// Removes our pods, also one that a killed run has left.
fn remove_pods(cri: &mut Cri) -> Result<(), PodFailure> {
    let failed = |why: CriError| (format!("removing the pod: {why}"), "see journalctl -u containerd");
    for id in cri.sandboxes(&labels()).map_err(failed)? {
        cri.remove_sandbox(&id, SANDBOX_TIMEOUT).map_err(failed)?;
    }
    Ok(())
}

/// Runs the pod and returns what the check has seen.
fn run(cri: &mut Cri, runtime: &Facts, settings: &Settings, networked: bool) -> Result<String, PodFailure> {
    let Some(image) = &settings.sandbox_image else {
        return Err(("config.toml names no sandbox image".to_owned(), "set containerd.config.sandbox_image"));
    };
    let sandbox_config = sandbox_config(settings, networked);
    let sandbox = cri
        .run_sandbox(&sandbox_config, SANDBOX_TIMEOUT)
        .map_err(|why| failure("starting the pod's sandbox", &why))?;
    let address =
        cri.sandbox_address(&sandbox).map_err(|why| failure("asking for the pod's address", &why))?;
    if networked && address.is_none() {
        return Err(("the pod got no address".to_owned(), "see the CNI configuration in /etc/cni/net.d"));
    }
    let container_config = container_config(image);
    let container = cri
        .run_container(&sandbox, &sandbox_config, container_config, CONTAINER_TIMEOUT)
        .map_err(|why| failure("starting a container in the pod", &why))?;
    std::thread::sleep(SETTLING_TIME);
    let process =
        cri.container_process(&container).map_err(|why| failure("asking for the container", &why))?;
    let group = control_group(process, &container, runtime, settings)?;
    let address = address
        .map_or("in the node's network: there is no CNI configuration yet".to_owned(), |ip| {
            format!("with address {ip}")
        });
    Ok(format!("a pod of {image} ran {address}, in {group}"))
}

/// Returns the configuration of a container of the pause image: every node has the image, and it runs until it is
/// stopped.
fn container_config(image: &str) -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "verify".to_owned(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: image.to_owned(), ..Default::default() }),
        labels: labels().into_iter().collect(),
        ..Default::default()
    }
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])
}

/// Returns the pod's configuration, in the pod network or in the node's.
fn sandbox_config(settings: &Settings, networked: bool) -> v1::PodSandboxConfig {
    let network = if networked { v1::NamespaceMode::Pod } else { v1::NamespaceMode::Node };
    let namespaces = v1::NamespaceOption { network: network.into(), ..Default::default() };
    let security =
        v1::LinuxSandboxSecurityContext { namespace_options: Some(namespaces), ..Default::default() };
    // Without the systemd cgroup driver a parent would be a directory that remains after the pod.
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

/// Describes the cgroup of the container's process. With the systemd driver it must be a scope that systemd manages:
/// the kubelet's limits apply only there.
fn control_group(
    process: u32,
    container: &str,
    runtime: &Facts,
    settings: &Settings,
) -> Result<String, PodFailure> {
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
    let paths: Vec<&str> = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).collect();
    let own = paths.iter().find(|path| path.contains(container)).copied().unwrap_or("no cgroup of its own");
    let scope = format!("{}{container}.scope", runtime.scope);
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

/// Returns the runtime's message, and the remedy for known ones.
fn failure(doing: &str, why: &CriError) -> PodFailure {
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
