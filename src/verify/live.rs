//! The checks that ask the running system: the kernel, systemd and the CRI. Files are `format/systemd.rs`'s.
//!
//! Like those they give findings or say why they could not look. Only the pod and the pull, which
//! are asked for by name, change anything, and the pod is taken away again.

use toml_edit::DocumentMut;

use crate::error::Failure;
use crate::format::systemd;
use crate::live::cri::{Condition, Cri};
use crate::live::running_kernel;
use crate::live::service::{self, Service};
use crate::packages::manager::version;
use crate::path::ImagePath;
use crate::plan::kernel;
use crate::root::{LONGEST_TEXT, Root};
use crate::runtime::containerd::settings::Settings;
use crate::runtime::containerd::{self, unit};
use crate::state::Receipt;
use crate::verify::finding::{APPLY, CheckResult, Finding, Verdict};
use crate::verify::{pod, pull};

const RESTART: &str = "run `systemctl restart containerd`, or `nodebake apply --start`";

const LOG: &str = "see journalctl -u containerd";

/// What to ask beside systemd and the CRI's own status.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Run one pod and take it away.
    pub pod: bool,
    /// Pull this image.
    pub pull: Option<String>,
}

impl Live {
    /// What was asked for by name, as the user wrote it.
    pub(crate) fn flag(&self) -> &'static str {
        match (self.pod, &self.pull) {
            (true, _) => "--pod",
            (false, Some(_)) => "--pull",
            (false, None) => "--live",
        }
    }

    fn skip(&self, why: &str, verdict: &mut Verdict) {
        for (check, _) in
            [("pod", self.pod), ("pull", self.pull.is_some())].iter().filter(|(_, asked)| *asked)
        {
            verdict.add(check, CheckResult::Skipped(why.to_owned()));
        }
    }
}

/// Asks the running system, whose root is `root`, and adds what that comes to.
pub(crate) fn check(
    root: &Root,
    receipt: &Receipt,
    live: &Live,
    verdict: &mut Verdict,
) -> Result<(), Failure> {
    verdict.add("kernel", kernel(root, receipt)?);
    let (Some(expected), Some(binary)) = (unit::unit_of(&receipt.paths), containerd::binary(&receipt.paths))
    else {
        verdict.add("service", CheckResult::Skipped("containerd is not one of the components".to_owned()));
        live.skip("containerd is not one of the components", verdict);
        return Ok(());
    };
    let state = service::state();
    let process = state.as_ref().ok().and_then(|state| state.process);
    verdict.add(
        "service",
        state.map_or_else(
            |why| CheckResult::Skipped(format!("systemctl show: {why}")),
            |state| unit(state, &expected),
        ),
    );
    verdict.add("process", running(root, process, &binary)?);
    let settings = settings(root)?;
    let asked = Cri::connect().and_then(|mut cri| cri.condition().map(|condition| (cri, condition)));
    let (mut cri, condition) = match asked {
        Ok(answering) => answering,
        Err(why) => {
            verdict.add("cri", CheckResult::Found(vec![Finding::new("cri", None, why.to_string(), LOG)]));
            live.skip("the CRI does not answer", verdict);
            return Ok(());
        }
    };
    verdict.add("cri", runtime(receipt, &mut cri, &condition));
    verdict.add("network", network(&condition));
    verdict.add("running-config", running_config(&settings, &mut cri, &condition));
    if live.pod {
        verdict.add("pod", pod::check(&mut cri, &settings, condition.network.is_ok())?);
    }
    if let Some(image) = &live.pull {
        verdict.add("pull", pull::check(&mut cri, root, &settings, process, image)?);
    }
    Ok(())
}

/// Modules and parameters that the image sets at boot are in force.
fn kernel(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let (mut findings, mut count) = (Vec::new(), 0);
    for (path, look) in [(kernel::MODULES, module as Look), (kernel::SYSCTL, parameter as Look)] {
        if !receipt.paths.contains_key(path) {
            continue;
        }
        let path = ImagePath::fixed(path);
        let text = root.text(&path, LONGEST_TEXT)?.unwrap_or_default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            count += 1;
            findings.extend(look(line).map(|problem| {
                let help = "see journalctl -b -u systemd-modules-load -u systemd-sysctl";
                Finding::new("kernel", Some(&path), problem, help)
            }));
        }
    }
    Ok(CheckResult::of(findings, format!("{count} modules and parameters in force")))
}

/// What is wrong with a line of a kernel file.
type Look = fn(&str) -> Option<String>;

/// A container shares its host's kernel and sees none of its modules: what they do is tried by the pod.
fn module(name: &str) -> Option<String> {
    let loaded = running_kernel::is_loaded(name) || running_kernel::is_in_container();
    (!loaded).then(|| format!("module `{name}` is not loaded"))
}

fn parameter(line: &str) -> Option<String> {
    let (name, expected) = kernel::parameters(line).next()?;
    match running_kernel::parameter(name) {
        _ if name.contains('*') => None,
        Ok(value) if value == expected.split_whitespace().collect::<Vec<_>>().join(" ") => None,
        Ok(value) => Some(format!("`{name}` is {value}, expected {expected}")),
        Err(why) => Some(format!("`{name}` can't be read: {why}")),
    }
}

/// systemd runs our unit, and will at the next boot.
fn unit(state: Service, expected: &ImagePath) -> CheckResult {
    let Service { load, active, sub, enabled, fragment, needs_reload, .. } = state;
    let mut findings = Vec::new();
    let mut found = |problem: String, help: &str| findings.push(Finding::new("service", None, problem, help));
    if load == "masked" {
        found("containerd.service is masked".to_owned(), "run `systemctl unmask containerd`");
    } else if !systemd::is_same_unit(&fragment, expected.as_str()) {
        let help = "run `systemctl daemon-reload`; a unit in /etc/systemd/system stands before ours";
        found(format!("systemd runs `{fragment}` ({load}), expected `{expected}`"), help);
    }
    if needs_reload {
        found("systemd has an older unit in memory".to_owned(), "run `systemctl daemon-reload`");
    }
    if active != "active" {
        let log = service::log(3, None).join(" | ");
        found(format!("containerd.service is {active} ({sub}); its log: {log}"), LOG);
    }
    if enabled != "enabled" {
        found(format!("containerd.service is {enabled}, not enabled"), APPLY);
    }
    CheckResult::of(findings, format!("{active} ({sub}), {enabled}, from {fragment}"))
}

/// What runs is the staged binary with the files as they are now.
fn running(root: &Root, process: Option<u32>, binary: &ImagePath) -> Result<CheckResult, Failure> {
    let Some(process) = process else {
        return Ok(CheckResult::Skipped("containerd does not run".to_owned()));
    };
    let executable = service::executable(process);
    if !service::runs(process, root, binary)? {
        let problem = format!("process {process} runs `{executable}`, expected the installed `{binary}`");
        return Ok(CheckResult::Found(vec![Finding::new("process", None, problem, RESTART)]));
    }
    let changed = service::changed_since_start(process, root)?.map(|path| {
        Finding::new("process", Some(&path), format!("has changed since process {process} read it"), RESTART)
    });
    Ok(CheckResult::of(changed.into_iter().collect(), format!("process {process} runs {executable}")))
}

/// The settings of config.toml; what it does not say is not compared.
fn settings(root: &Root) -> Result<Settings, Failure> {
    let text = root.text(&ImagePath::fixed(containerd::CONFIG), LONGEST_TEXT)?.unwrap_or_default();
    let document = text.parse::<DocumentMut>().unwrap_or_default();
    Ok(Settings::of_file(document.as_item()))
}

/// The CRI answers, as the version that was installed, and calls itself ready.
fn runtime(receipt: &Receipt, cri: &mut Cri, condition: &Condition) -> CheckResult {
    let runtime = match cri.version() {
        Ok(runtime) => runtime,
        Err(why) => return CheckResult::Found(vec![Finding::new("cri", None, why.to_string(), LOG)]),
    };
    let mut findings = Vec::new();
    if let Some(version) = installed(receipt).filter(|version| !is_version(&runtime.version, version)) {
        let problem = format!("{} {} answers, {version} was installed", runtime.name, runtime.version);
        findings.push(Finding::new("cri", None, problem, RESTART));
    }
    if let Err(why) = &condition.runtime {
        findings.push(Finding::new("cri", None, format!("RuntimeReady is false: {why}"), LOG));
    }
    CheckResult::of(findings, format!("{} {}, RuntimeReady", runtime.name, runtime.version))
}

/// Upstream's version of what was installed, from an archive or a package.
fn installed(receipt: &Receipt) -> Option<&str> {
    let artifact = receipt.artifacts.iter().find(|artifact| artifact.component == "containerd");
    let packaged = || {
        let (_, brought) =
            containerd::packaged(receipt.paths.iter().map(|(path, owned)| (path, &owned.node)))?;
        let package = receipt.packages.iter().find(|package| package.name == brought)?;
        version::upstream(&package.version)
    };
    artifact.map(|artifact| artifact.version.as_str()).or_else(packaged)
}

/// `v2.1.9` and what distributions make of it: `2.1.9+unknown`, `1.6.20~ds1`.
fn is_version(said: &str, version: &str) -> bool {
    let rest = said.strip_prefix('v').unwrap_or(said).strip_prefix(version);
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
}

/// No finding: until the CNI add-on writes its configuration a node has no pod network, and that is
/// right. The reverse proves nothing of the plugins.
fn network(condition: &Condition) -> CheckResult {
    match &condition.network {
        Ok(()) => CheckResult::Passed("NetworkReady: a CNI configuration is there".to_owned()),
        Err(why) => CheckResult::Skipped(format!(
            "NetworkReady is false until a CNI add-on writes its configuration: {why}"
        )),
    }
}

/// The daemon works with what config.toml says.
fn running_config(settings: &Settings, cri: &mut Cri, condition: &Condition) -> CheckResult {
    let mut running = Settings::of_status(&condition.config);
    // containerd 2.x says it in an answer of its own.
    if let Ok(Some(systemd)) = cri.systemd_cgroup() {
        running.systemd_cgroup = Some(systemd);
    }
    let both = settings.beside(&running);
    if both.is_empty() {
        return CheckResult::Skipped("the CRI does not show its configuration".to_owned());
    }
    let path = ImagePath::fixed(containerd::CONFIG);
    let differing =
        both.iter().filter(|(_, expected, runs)| expected != runs).map(|(name, expected, runs)| {
            let problem = format!("says {name} `{expected}`, containerd runs with `{runs}`");
            Finding::new("running-config", Some(&path), problem, RESTART)
        });
    let names: Vec<&str> = both.iter().map(|(name, ..)| *name).collect();
    CheckResult::of(differing.collect(), format!("runs with config.toml's {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::is_version;

    #[test]
    fn versions_are_compared_whole() {
        for said in ["2.1.9", "v2.1.9", "2.1.9+unknown", "2.1.9~ds1", "v2.1.9-rc.1"] {
            assert!(is_version(said, "2.1.9"), "{said}");
        }
        for said in ["2.1.90", "2.1.9.1", "2.1", "1.7.24"] {
            assert!(!is_version(said, "2.1.9"), "{said}");
        }
    }
}
