//! Checks the running system: the kernel, systemd and the CRI.
//!
//! This module must not change anything, except that `--pod` runs a pod and removes it, and `--pull` pulls an
//! image.

use crate::error::Failure;
use crate::format::systemd;
use crate::live::cri::{Condition, Cri};
use crate::live::running_kernel;
use crate::live::service::{self, Service};
use crate::path::ImagePath;
use crate::plan::kernel;
use crate::root::{LONGEST_TEXT, Root};
use crate::runtime::{Daemon, Facts, Runtime, Settings};
use crate::state::Receipt;
use crate::verify::finding::{APPLY, CheckResult, Finding, NO_RUNTIME, Verdict};
use crate::verify::{pod, pull};

/// Remedy where containerd runs with older files.
const RESTART: &str = "run `systemctl restart containerd`, or `nodebake apply --start`";

/// Remedy where only containerd's log has the reason.
const LOG: &str = "see journalctl -u containerd";

/// Checks of the running system that the user asks for by name.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Runs one pod and removes it.
    pub pod: bool,
    /// Image to pull.
    pub pull: Option<String>,
}

impl Live {
    /// Returns the flag with which the user has asked for the running system.
    pub(crate) fn flag(&self) -> &'static str {
        match (self.pod, &self.pull) {
            (true, _) => "--pod",
            (false, Some(_)) => "--pull",
            (false, None) => "--live",
        }
    }

    /// Adds to `verdict` that the pod and the pull were skipped, as far as they were asked for.
    fn skip(&self, why: &str, verdict: &mut Verdict) {
        for (check, _) in
            [("pod", self.pod), ("pull", self.pull.is_some())].iter().filter(|(_, asked)| *asked)
        {
            verdict.add(check, CheckResult::Skipped(why.to_owned()));
        }
    }
}

/// Checks the running system, whose root is `root`, and adds the results to `verdict`.
pub(super) fn check(
    root: &Root,
    receipt: &Receipt,
    live: &Live,
    verdict: &mut Verdict,
) -> Result<(), Failure> {
    verdict.add("kernel", kernel(root, receipt)?);
    let Some(Daemon { runtime, binary, unit: expected }) = Daemon::of(&receipt.paths) else {
        verdict.add("service", CheckResult::no_runtime());
        live.skip(NO_RUNTIME, verdict);
        return Ok(());
    };
    let facts = runtime.facts();
    let state = service::state(facts.service);
    let process = state.as_ref().ok().and_then(|state| state.process);
    verdict.add(
        "service",
        state.map_or_else(
            |why| CheckResult::Skipped(format!("systemctl show: {why}")),
            |state| unit(facts, state, &expected),
        ),
    );
    verdict.add("process", running(root, facts, process, &binary)?);
    let settings = settings(root, runtime)?;
    let Some((mut cri, condition)) = connect(facts.socket, live, verdict) else { return Ok(()) };
    verdict.add("cri", answering_runtime(receipt, runtime, &mut cri, &condition));
    verdict.add("network", network(&condition));
    verdict.add("running-config", running_config(facts, &settings, &mut cri, &condition));
    if live.pod {
        verdict.add("pod", pod::check(&mut cri, facts, &settings, condition.network.is_ok())?);
    }
    if let Some(image) = &live.pull {
        verdict.add("pull", pull::check(&mut cri, root, runtime, &settings, process, image)?);
    }
    Ok(())
}

/// Connects to the CRI at `socket` and asks for its condition; none, with a finding, where it does not answer.
fn connect(socket: &'static str, live: &Live, verdict: &mut Verdict) -> Option<(Cri, Condition)> {
    let asked = Cri::connect(socket).and_then(|mut cri| cri.condition().map(|condition| (cri, condition)));
    match asked {
        Ok(answering) => Some(answering),
        Err(why) => {
            verdict.add("cri", CheckResult::Found(vec![Finding::new("cri", None, why.to_string(), LOG)]));
            live.skip("the CRI does not answer", verdict);
            None
        }
    }
}

/// Checks that the modules and parameters that the image sets at boot are in force.
fn kernel(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let (mut findings, mut count) = (Vec::new(), 0);
    for (path, check_line) in
        [(kernel::MODULES, module as LineCheck), (kernel::SYSCTL, parameter as LineCheck)]
    {
        if !receipt.paths.contains_key(path) {
            continue;
        }
        let path = ImagePath::fixed(path);
        let text = root.text(&path, LONGEST_TEXT)?.unwrap_or_default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            count += 1;
            findings.extend(check_line(line).map(|problem| {
                let help = "see journalctl -b -u systemd-modules-load -u systemd-sysctl";
                Finding::new("kernel", Some(&path), problem, help)
            }));
        }
    }
    Ok(CheckResult::of(findings, format!("{count} modules and parameters in force")))
}

/// Function that returns the problem with one line of a kernel file.
type LineCheck = fn(&str) -> Option<String>;

/// Checks that a module is loaded. In a container no module can be seen, though the host's kernel has them: there the
/// check `pod` shows whether they work.
fn module(name: &str) -> Option<String> {
    let loaded = running_kernel::is_loaded(name) || running_kernel::is_in_container();
    (!loaded).then(|| format!("module `{name}` is not loaded"))
}

/// Checks that a kernel parameter has the value of `line`; patterns are not checked.
fn parameter(line: &str) -> Option<String> {
    let (name, expected) = kernel::parameters(line).next()?;
    match running_kernel::parameter(name) {
        _ if name.contains('*') => None,
        Ok(value) if value == expected.split_whitespace().collect::<Vec<_>>().join(" ") => None,
        Ok(value) => Some(format!("`{name}` is {value}, expected {expected}")),
        Err(why) => Some(format!("`{name}` can't be read: {why}")),
    }
}

/// Checks that systemd runs our unit, and starts it at the next boot.
fn unit(runtime: &Facts, state: Service, expected: &ImagePath) -> CheckResult {
    let Service { load, active, sub, enabled, fragment, needs_reload, .. } = state;
    let name = runtime.service;
    let mut findings = Vec::new();
    let mut found = |problem: String, help: &str| findings.push(Finding::new("service", None, problem, help));
    if load == "masked" {
        found(format!("{name} is masked"), &format!("run `systemctl unmask {}`", runtime.name));
    } else if !systemd::is_same_unit(&fragment, expected.as_str()) {
        let help = "run `systemctl daemon-reload`; a unit in /etc/systemd/system stands before ours";
        found(format!("systemd runs `{fragment}` ({load}), expected `{expected}`"), help);
    }
    if needs_reload {
        found("systemd has an older unit in memory".to_owned(), "run `systemctl daemon-reload`");
    }
    if active != "active" {
        let log = service::log(name, 3, None).join(" | ");
        found(format!("{name} is {active} ({sub}); its log: {log}"), LOG);
    }
    if enabled != "enabled" {
        found(format!("{name} is {enabled}, not enabled"), APPLY);
    }
    CheckResult::of(findings, format!("{active} ({sub}), {enabled}, from {fragment}"))
}

/// Checks that the process runs the installed binary and has read the files as they are now.
fn running(
    root: &Root,
    runtime: &Facts,
    process: Option<u32>,
    binary: &ImagePath,
) -> Result<CheckResult, Failure> {
    let Some(process) = process else {
        return Ok(CheckResult::Skipped(format!("{} does not run", runtime.name)));
    };
    let executable = service::executable(process);
    if !service::runs(process, root, binary)? {
        let problem = format!("process {process} runs `{executable}`, expected the installed `{binary}`");
        return Ok(CheckResult::Found(vec![Finding::new("process", None, problem, RESTART)]));
    }
    let changed = service::changed_since_start(process, root, runtime)?.map(|path| {
        Finding::new("process", Some(&path), format!("has changed since process {process} read it"), RESTART)
    });
    Ok(CheckResult::of(changed.into_iter().collect(), format!("process {process} runs {executable}")))
}

/// Reads the settings of config.toml; settings that are not in it are not compared.
fn settings(root: &Root, runtime: Runtime) -> Result<Settings, Failure> {
    let path = ImagePath::fixed(runtime.facts().config);
    Ok(runtime.settings(&root.text(&path, LONGEST_TEXT)?.unwrap_or_default()))
}

/// Checks that the CRI answers in the version that was installed, and is ready.
fn answering_runtime(
    receipt: &Receipt,
    runtime: Runtime,
    cri: &mut Cri,
    condition: &Condition,
) -> CheckResult {
    let answers = match cri.version() {
        Ok(answers) => answers,
        Err(why) => return CheckResult::Found(vec![Finding::new("cri", None, why.to_string(), LOG)]),
    };
    let mut findings = Vec::new();
    if let Some(version) =
        receipt.version_of(runtime).filter(|version| !is_version(&answers.version, version))
    {
        let problem = format!("{} {} answers, {version} was installed", answers.name, answers.version);
        findings.push(Finding::new("cri", None, problem, RESTART));
    }
    if let Err(why) = &condition.runtime {
        findings.push(Finding::new("cri", None, format!("RuntimeReady is false: {why}"), LOG));
    }
    CheckResult::of(findings, format!("{} {}, RuntimeReady", answers.name, answers.version))
}

/// Returns whether containerd, which calls its version `said`, is of `version`: `v2.1.9`, or a distribution's
/// `2.1.9+unknown` or `1.6.20~ds1`.
fn is_version(said: &str, version: &str) -> bool {
    let rest = said.strip_prefix('v').unwrap_or(said).strip_prefix(version);
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit() || c == '.'))
}

/// Reports whether the node has a pod network. NetworkReady is false until a CNI add-on writes its configuration, so
/// that is no finding; and if it is true, the plugins may still be missing.
fn network(condition: &Condition) -> CheckResult {
    match &condition.network {
        Ok(()) => CheckResult::Passed("NetworkReady: a CNI configuration is there".to_owned()),
        Err(why) => CheckResult::Skipped(format!(
            "NetworkReady is false until a CNI add-on writes its configuration: {why}"
        )),
    }
}

/// Checks that containerd runs with the settings of config.toml.
fn running_config(runtime: &Facts, settings: &Settings, cri: &mut Cri, condition: &Condition) -> CheckResult {
    let mut running = Settings::of_status(&condition.config);
    // containerd 2.x answers `RuntimeConfig` with its cgroup driver.
    if let Ok(Some(systemd)) = cri.systemd_cgroup() {
        running.systemd_cgroup = Some(systemd);
    }
    let both = settings.beside(&running);
    if both.is_empty() {
        return CheckResult::Skipped("the CRI does not show its configuration".to_owned());
    }
    let path = ImagePath::fixed(runtime.config);
    let differing =
        both.iter().filter(|(_, expected, runs)| expected != runs).map(|(name, expected, runs)| {
            let problem = format!("says {name} `{expected}`, {} runs with `{runs}`", runtime.name);
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
