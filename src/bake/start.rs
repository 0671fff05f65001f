//! Implements `apply --start`: sets the kernel up, restarts the runtime where that is necessary, waits for the CRI.
//!
//! This module must not restart a runtime that already runs with everything that is installed.

use std::time::{Duration, Instant};

use crate::commit::diff::Diff;
use crate::error::{Failure, Kind};
use crate::interrupt;
use crate::live::cri::{Cri, CriError};
use crate::live::{running_kernel, service};
use crate::path::ImagePath;
use crate::plan::kernel;
use crate::progress::Progress;
use crate::root::Root;
use crate::runtime::Facts;
use crate::spec::Spec;

/// Time within which the CRI has to answer after systemd has started the service.
const READY: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(100);

/// Interval of the messages that a log gets during the wait.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Number of the service's log lines in a failure.
const LOG: usize = 8;

/// Starts or restarts the runtime where that is necessary and waits until its CRI answers. Returns a message of
/// what was done.
///
/// `root` is the running system's and `diff` what was changed in it. Fails with
/// [`Kind::Unsupported`], the last lines of the service's log in the message.
pub(crate) fn start(root: &Root, spec: &Spec, diff: &Diff, progress: &Progress) -> Result<String, Failure> {
    let began = service::now();
    let runtime = spec.runtime().unwrap_or_default().facts();
    prepare_kernel(spec, progress);
    bring_up(root, runtime, diff, progress).map_err(|failure| match failure.kind {
        Kind::Unsupported => failure.with_log(&service::log(runtime.service, LOG, Some(began))),
        _ => failure,
    })
}

fn bring_up(root: &Root, runtime: &Facts, diff: &Diff, progress: &Progress) -> Result<String, Failure> {
    service::reload().map_err(|why| failed("systemctl daemon-reload", &why))?;
    let service = runtime.service;
    let reason = reason_to_restart(root, runtime, diff)?;
    if let Some(reason) = &reason {
        progress.step(&format!("starting {service}: {reason}"));
        let restarted = service::restart(service);
        interrupt::check()?;
        restarted.map_err(|why| failed(&format!("starting {service}"), &why))?;
    }
    let answers = wait_for_cri(runtime, progress)?;
    Ok(match reason {
        Some(_) => format!("{service} was started: {answers} answers"),
        None => format!("{service} runs what is installed: {answers} answers"),
    })
}

/// Loads modules and sets parameters as systemd does at boot. A failure is a warning only: a module may be built
/// in, or not be needed.
fn prepare_kernel(spec: &Spec, progress: &Progress) {
    let modules = spec.kernel.modules.names.iter().map(|module| &**module);
    let missing: Vec<&str> = modules.filter(|module| !running_kernel::is_loaded(module)).collect();
    if !missing.is_empty()
        && !running_kernel::is_in_container()
        && let Err(why) = running_kernel::load(missing.iter().copied())
    {
        progress.warn(&format!("loading modules: {}", why.replace('\n', "; ")));
    }
    if !spec.kernel.sysctl.values.is_empty()
        && let Err(why) = running_kernel::apply(&ImagePath::fixed(kernel::SYSCTL))
    {
        progress.warn(&format!("setting {}: {}", kernel::SYSCTL, why.replace('\n', "; ")));
    }
}

/// Returns why the service has to be restarted; none if it runs with what is installed.
fn reason_to_restart(root: &Root, runtime: &Facts, diff: &Diff) -> Result<Option<String>, Failure> {
    let service = service::state(runtime.service).map_err(|why| failed("systemctl show", &why))?;
    let Some(process) = service.process.filter(|_| service.active == "active") else {
        return Ok(Some(format!("it is {}", service.active)));
    };
    let binary = runtime.binary.among(&diff.owned()).unwrap_or_else(|| ImagePath::fixed(runtime.binary.own));
    if !service::runs(process, root, &binary)? {
        return Ok(Some(format!("it runs {}", service::executable(process))));
    }
    let is_read_at_start = |path: &ImagePath| runtime.read_at_start.contains(&path.as_str());
    let changed_now = diff.changes.iter().find(|change| change.acts() && is_read_at_start(&change.path));
    let changed = match changed_now {
        Some(change) => Some(change.path.clone()),
        // An earlier run without `--start`, or an administrator, may have changed a file.
        None => service::changed_since_start(process, root, runtime)?,
    };
    Ok(changed.map(|path| format!("{path} has changed")))
}

/// Waits until the runtime is ready and returns its name and version.
fn wait_for_cri(runtime: &Facts, progress: &Progress) -> Result<String, Failure> {
    let waiting = progress.spinner("waiting for the CRI");
    let began = Instant::now();
    let mut heard = began;
    loop {
        let why = match ready(runtime) {
            Ok(runtime) => return Ok(runtime),
            Err(refusal) if refusal.is_final => {
                return Err(failed("waiting for the CRI", &refusal.to_string()));
            }
            Err(refusal) => refusal,
        };
        interrupt::check()?;
        if began.elapsed() > READY {
            let why = format!("not ready within {} s: {why}", READY.as_secs());
            return Err(failed("waiting for the CRI", &why));
        }
        if heard.elapsed() > HEARTBEAT {
            heard = Instant::now();
            waiting.note(&format!("still waiting for the CRI after {} s: {why}", began.elapsed().as_secs()));
        }
        std::thread::sleep(POLL);
    }
}

fn ready(runtime: &Facts) -> Result<String, CriError> {
    let mut cri = Cri::connect(runtime.socket)?;
    let runtime = cri.version()?;
    cri.condition()?.runtime.map_err(|why| CriError::of(&why))?;
    Ok(format!("{} {}", runtime.name, runtime.version))
}

fn failed(doing: &str, why: &str) -> Failure {
    Failure::new(Kind::Unsupported, format!("{doing}: {why}"))
        .help("everything is installed; see systemctl status containerd and journalctl -u containerd")
}
