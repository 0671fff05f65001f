//! `apply --start`: brings the running system up to what has just been baked into it.
//!
//! A running containerd is left alone unless a file from here that it reads at its start has changed.

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
use crate::runtime::containerd;
use crate::spec::Spec;

/// How long the CRI may take after systemd calls the service started.
const READY: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(100);

/// How often a log hears that somebody is still waiting.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Lines of the service's log in an error.
const LOG: usize = 8;

/// Starts or restarts containerd where that is needed and waits until its CRI answers. Gives what
/// was done, for people.
///
/// `root` is the running system's and `diff` what was changed in it. Fails with
/// [`Kind::Unsupported`], the last lines of the service's log in the message.
pub(crate) fn start(root: &Root, spec: &Spec, diff: &Diff, progress: &Progress) -> Result<String, Failure> {
    let began = service::now();
    bring_up(root, spec, diff, progress).map_err(|failure| match failure.kind {
        Kind::Unsupported => failure.with_log(&service::log(LOG, Some(began))),
        _ => failure,
    })
}

fn bring_up(root: &Root, spec: &Spec, diff: &Diff, progress: &Progress) -> Result<String, Failure> {
    prepare_kernel(spec, progress);
    service::reload().map_err(|why| failed("systemctl daemon-reload", &why))?;
    let reason = reason_to_restart(root, diff)?;
    if let Some(reason) = &reason {
        progress.step(&format!("starting {}: {reason}", service::NAME));
        let restarted = service::restart();
        interrupt::check()?;
        restarted.map_err(|why| failed(&format!("starting {}", service::NAME), &why))?;
    }
    let runtime = wait_for_cri(progress)?;
    Ok(match reason {
        Some(_) => format!("{} was started: {runtime} answers", service::NAME),
        None => format!("{} runs what is installed: {runtime} answers", service::NAME),
    })
}

/// As systemd does at boot, before the service. A kernel that can't is named and no reason to stop:
/// what it lacks may be built in, or not be needed.
fn prepare_kernel(spec: &Spec, progress: &Progress) {
    let modules = spec.kernel.modules.iter().map(|module| &**module);
    let missing: Vec<&str> = modules.filter(|module| !running_kernel::is_loaded(module)).collect();
    if !missing.is_empty()
        && !running_kernel::is_in_container()
        && let Err(why) = running_kernel::load(missing.iter().copied())
    {
        progress.warn(&format!("loading modules: {}", why.replace('\n', "; ")));
    }
    if !spec.kernel.sysctl.is_empty()
        && let Err(why) = running_kernel::apply(&ImagePath::fixed(kernel::SYSCTL))
    {
        progress.warn(&format!("setting {}: {}", kernel::SYSCTL, why.replace('\n', "; ")));
    }
}

/// None: what runs is what is installed.
fn reason_to_restart(root: &Root, diff: &Diff) -> Result<Option<String>, Failure> {
    let service = service::state().map_err(|why| failed("systemctl show", &why))?;
    let Some(process) = service.process.filter(|_| service.active == "active") else {
        return Ok(Some(format!("it is {}", service.active)));
    };
    let binary = containerd::binary(&diff.owned()).unwrap_or_else(|| ImagePath::fixed(containerd::BINARY));
    if !service::runs(process, root, &binary)? {
        return Ok(Some(format!("it runs {}", service::executable(process))));
    }
    let changed_now =
        diff.changes.iter().find(|change| change.acts() && service::is_read_at_start(&change.path));
    let changed = match changed_now {
        Some(change) => Some(change.path.clone()),
        // By an earlier run without `--start`, or by hand.
        None => service::changed_since_start(process, root)?,
    };
    Ok(changed.map(|path| format!("{path} has changed")))
}

/// Waits until the runtime is ready and gives its name and version.
fn wait_for_cri(progress: &Progress) -> Result<String, Failure> {
    let waiting = progress.spinner("waiting for the CRI");
    let began = Instant::now();
    let mut heard = began;
    loop {
        let why = match ready() {
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

fn ready() -> Result<String, CriError> {
    let mut cri = Cri::connect()?;
    let runtime = cri.version()?;
    cri.condition()?.runtime.map_err(|why| CriError::of(&why))?;
    Ok(format!("{} {}", runtime.name, runtime.version))
}

fn failed(doing: &str, why: &str) -> Failure {
    Failure::new(Kind::Unsupported, format!("{doing}: {why}"))
        .help("everything is installed; see systemctl status containerd and journalctl -u containerd")
}
