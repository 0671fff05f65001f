//! Bakes roots: resolve, lock, fetch, decode once, plan, compare, stage everywhere, publish.
//!
//! A root that fails does not stop the others; what it had is as before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::arch::Arch;
use crate::bake::{self, Bake, Spool, placed, staged_default_config};
use crate::caution;
use crate::commit::{self, Commit, Kept};
use crate::diff::{self, Diff, Found};
use crate::digest::Digest;
use crate::distribution::Distribution;
use crate::error::{Failure, Kind};
use crate::fetch::Fetcher;
use crate::interrupt;
use crate::lock::Lock;
use crate::packages::{self, Shop};
use crate::parallel::{self, Idle};
use crate::plan::{self, Inputs, Placed, Plan};
use crate::receipt::Receipt;
use crate::resolve::{self, Artifact, Target};
use crate::retire::{self, Rule};
use crate::root::Root;
use crate::spec::{Base, Spec};
use crate::spool::{self, Member, Place};
use crate::state::{self, State};
use crate::target;
use crate::transaction::Request;

/// How many roots are written at once: each waits for its disk most of the time.
const ROOTS: usize = 16;

/// What is baked, the same for every root.
pub struct Job {
    /// What the user wrote.
    pub spec: Spec,
    /// What is pinned.
    pub lock: Lock,
    /// The certificates that the spec names, by their path in it.
    pub certificates: BTreeMap<PathBuf, Vec<u8>>,
    /// How artifacts are fetched.
    pub fetcher: Fetcher,
    /// Where decoded members go that can't go to a root's own filesystem.
    pub scratch: PathBuf,
    /// How long to wait for a root that another run has locked.
    pub patience: Duration,
    /// Modification time of installed files, seconds since 1970.
    pub mtime: i64,
}

/// What came of one root.
pub struct Outcome {
    /// The root, as the user gave it.
    pub host: PathBuf,
    /// Its changes, or why there are none.
    pub result: anyhow::Result<Report>,
}

/// What was, or would be, done in a root.
pub struct Report {
    /// Every path.
    pub diff: Diff,
    /// Edits that were saved before they were replaced.
    pub kept: Kept,
    /// What the user should know of the root.
    pub warnings: Vec<String>,
    /// What came of starting the service, where that was asked for.
    pub started: Option<anyhow::Result<String>>,
}

/// A bake that knows what it will do.
struct Planned<'a> {
    bake: Bake<'a>,
    plan: Plan,
    diff: Diff,
    warnings: Vec<String>,
}

impl Planned<'_> {
    fn report(self) -> Report {
        Report { diff: self.diff, kept: Kept::default(), warnings: self.warnings, started: None }
    }
}

/// Bakes every root in `hosts`.
pub fn apply(job: &Job, hosts: &[PathBuf]) -> Vec<Outcome> {
    run_all(job, hosts, true)
}

/// What [`apply`] would do; nothing is written below the roots.
pub fn plan(job: &Job, hosts: &[PathBuf]) -> Vec<Outcome> {
    run_all(job, hosts, false)
}

/// The plan of `job` by itself, for its own architecture or this host's: without a root there is no
/// glibc to look at and nothing in place.
pub fn plan_alone(job: &Job) -> anyhow::Result<Plan> {
    if job.spec.package().is_some() {
        let message = "what a package brings is known in a root only";
        return Err(Failure::new(Kind::Usage, message).help("bake one, and give it with --root").into());
    }
    let arch = job.spec.arch.as_ref().and_then(|name| name.arch()).or_else(Arch::of_host);
    let arch =
        arch.ok_or_else(|| Failure::new(Kind::Invalid, "set `arch:` in the spec, for example amd64"))?;
    let artifacts = resolve::resolve(&job.spec, &job.lock, Target { arch, glibc: None })?;
    let (mut spooled, idle) = (Vec::new(), Idle::all());
    for artifact in &artifacts {
        let _decoding = idle.work();
        spooled.push(spool::spool(&job.fetcher.fetch(artifact)?, &Place::Scratch(&job.scratch), &idle)?);
    }
    let containerd = spooled.iter().find(|spooled| spooled.artifact.component == "containerd");
    let wanted = containerd.filter(|_| job.spec.containerd.config.base == Base::Default);
    let default_config = wanted.map(staged_default_config).transpose()?.flatten();
    let members: Vec<Placed> = spooled.iter().flat_map(placed).collect();
    let inputs = Inputs {
        artifacts: &artifacts,
        arch: arch.name(),
        members: &members,
        certificates: &job.certificates,
        default_config: default_config.as_deref(),
        supply: None,
    };
    Ok(plan::plan(&job.spec, &inputs)?)
}

fn run_all(job: &Job, hosts: &[PathBuf], write: bool) -> Vec<Outcome> {
    let roots = open_all(hosts);
    let at_once = roots.len().clamp(1, ROOTS);
    // Who waits for locks takes them in the order given: two runs would each hold what the other wants.
    let locking = if job.patience.is_zero() { at_once } else { 1 };
    let begun = parallel::map(roots.iter().collect(), locking, |root| match root {
        Ok(root) => begin(job, root, write),
        Err(error) => Err(clone(error)),
    });
    let spooled = spool_all(job, &begun, write);
    // A package manager or a containerd to ask takes all of a machine: one at a time.
    let packaged = begun
        .iter()
        .flatten()
        .any(|bake| bake.receipt.as_ref().is_some_and(|receipt| !receipt.packages.is_empty()));
    let asking = packaged || job.spec.package().is_some() || job.spec.containerd.config.base == Base::Default;
    let managed = if asking { 1 } else { at_once };
    let planned: Vec<anyhow::Result<Planned>> =
        parallel::map(begun, managed, |bake| bake.and_then(|bake| prepare(job, bake, &spooled)));
    let published = match write {
        true => {
            let members: usize = spooled.values().flatten().map(|spooled| spooled.members.len()).sum();
            // Each root holds itself and its lock open.
            let flushes = (parallel::flushes(members + 2 * hosts.len()) / at_once).max(1);
            // All are staged before any is published.
            let staged = parallel::map(planned, at_once, |planned| {
                planned.and_then(|planned| stage(job, planned, &spooled, flushes))
            });
            parallel::map(stop_before_publishing(staged), at_once, |staged| {
                staged.and_then(|staged| publish(job, staged, flushes))
            })
        }
        false => planned.into_iter().map(|planned| planned.map(Planned::report)).collect(),
    };
    hosts.iter().cloned().zip(published).map(|(host, result)| Outcome { host, result }).collect()
}

/// A signal that came while one root was staged stops all: until here nothing is visible anywhere.
fn stop_before_publishing(staged: Vec<anyhow::Result<Planned>>) -> Vec<anyhow::Result<Planned>> {
    let Err(signal) = interrupt::check() else { return staged };
    let error = anyhow::Error::from(signal);
    let stop = |planned: Planned| Err(abandon(planned.bake.root, planned.bake.state, clone(&error)));
    staged.into_iter().map(|staged| staged.and_then(stop)).collect()
}

/// One root can be named twice: baking it twice at once would lock it against itself.
fn open_all(hosts: &[PathBuf]) -> Vec<anyhow::Result<Root>> {
    let mut seen = BTreeSet::new();
    hosts
        .iter()
        .map(|host| {
            let root = Root::open(host)?;
            match seen.insert(root.identity()?) {
                true => Ok(root),
                false => {
                    Err(Failure::new(Kind::Usage, format!("root `{}` is given twice", host.display())).into())
                }
            }
        })
        .collect()
}

/// What the root is, what it needs, and what is in place already.
fn begin<'a>(job: &Job, root: &'a Root, write: bool) -> anyhow::Result<Bake<'a>> {
    if job.spec.package().is_some() {
        // Before anything is fetched.
        Distribution::of(root)?;
    }
    let arch = arch(&job.spec, root, &job.fetcher)?;
    let target = Target { arch, glibc: target::glibc(root, arch)? };
    let artifacts = resolve::resolve(&job.spec, &job.lock, target)?;
    let state = if write { Some(State::open(root, job.patience)?) } else { None };
    let begun = || -> anyhow::Result<(Option<Receipt>, Found)> {
        let receipt = match &state {
            Some(state) => commit::recover(root, state)?,
            None => state::receipt(root)?,
        };
        let found = receipt.as_ref().map(|receipt| diff::survey(root, receipt)).transpose()?;
        Ok((receipt, found.unwrap_or_default()))
    };
    match begun() {
        Ok((receipt, found)) => Ok(Bake { root, state, receipt, target, artifacts, found, supply: None }),
        Err(error) => Err(abandon(root, state, error)),
    }
}

/// The spec's architecture wins over the root's own.
fn arch(spec: &Spec, root: &Root, fetcher: &Fetcher) -> Result<Arch, Failure> {
    let Some(arch) = spec.arch.as_ref().and_then(|name| name.arch()) else { return target::arch(root) };
    match target::arch(root) {
        Ok(own) if own != arch => fetcher.progress.warn(&format!(
            "the spec says {arch}, the executables in `{}` are for {own}",
            root.host().display()
        )),
        _ => {}
    }
    Ok(arch)
}

/// Fetches and decodes, side by side, every artifact that is missing somewhere; each once.
fn spool_all(job: &Job, bakes: &[anyhow::Result<Bake>], write: bool) -> Spool {
    let mut needed: BTreeMap<Digest, (Artifact, &Root)> = BTreeMap::new();
    for bake in bakes.iter().flatten() {
        for artifact in bake.artifacts.iter().filter(|artifact| !bake.in_place(artifact)) {
            let (needed, _) = needed.entry(artifact.sha256).or_insert((artifact.clone(), bake.root));
            // It was installed and is not what the receipt says: whether the lock says it right is seen now.
            if bake.knows(artifact) {
                needed.members.clear();
            }
        }
    }
    let mut needed: Vec<_> = needed.into_values().collect();
    // The longest first, so that the last to end is short.
    needed.sort_by_key(|(artifact, _)| std::cmp::Reverse(weight(artifact)));
    let threads = job.fetcher.at_once(needed.iter().map(|(artifact, _)| artifact.url.as_str()));
    let idle = Idle::all();
    let spooled = parallel::map(needed.iter().collect(), threads, |(artifact, root)| {
        // A plan writes nothing below a root; the checks are the same.
        let place = if write { Place::Root(root, &job.scratch) } else { Place::Scratch(&job.scratch) };
        let reading = (!job.fetcher.waits(&artifact.url)).then(|| idle.work());
        let fetched = job.fetcher.fetch(artifact)?;
        let _decoding = reading.unwrap_or_else(|| idle.work());
        let spooled = spool::spool(&fetched, &place, &idle)?;
        if !spooled.ignored.is_empty() {
            job.fetcher
                .progress
                .detail(&format!("{artifact}: not installed: {}", spooled.ignored.join(", ")));
        }
        Ok(spooled)
    });
    needed.iter().map(|(artifact, _)| artifact.sha256).zip(spooled).collect()
}

/// How much work an artifact is, roughly: archives before single files.
fn weight(artifact: &Artifact) -> u8 {
    match artifact.component.as_str() {
        "containerd" => 3,
        "cni-plugins" => 2,
        _ => u8::from(!artifact.catalogued().raw),
    }
}

/// The plan for one root, and what it changes.
fn prepare<'a>(job: &Job, mut bake: Bake<'a>, spooled: &Spool) -> anyhow::Result<Planned<'a>> {
    let prepared = |bake: &mut Bake| -> anyhow::Result<(Plan, Diff, Vec<String>)> {
        interrupt::check()?;
        let mut members = Vec::new();
        for artifact in &bake.artifacts {
            match spooled.get(&artifact.sha256) {
                Some(Err(error)) => return Err(clone(error)),
                Some(Ok(spooled)) if !bake.in_place(artifact) => members.extend(placed(spooled)),
                _ => members.extend(bake.index(artifact)),
            }
        }
        let mut warnings = bake::check_glibc(bake, spooled)?;
        let default_config = bake::default_config(&job.spec, &job.fetcher.progress, bake, spooled)?;
        supply(job, bake)?;
        let inputs = Inputs {
            artifacts: &bake.artifacts,
            arch: bake.target.arch.name(),
            members: &members,
            certificates: &job.certificates,
            default_config: default_config.as_deref(),
            supply: bake.supply.as_ref(),
        };
        let plan = plan::plan(&job.spec, &inputs)?;
        let nothing = Receipt::new(plan.arch.as_str(), Vec::new());
        let receipt = bake.receipt.as_ref().unwrap_or(&nothing);
        let mut diff = diff::diff(&plan, receipt, &bake.found, bake.root)?;
        diff.packages = bake.supply.iter().flat_map(|supply| supply.changes.clone()).collect();
        warnings.extend(caution::warnings(bake.root, &plan)?);
        for mount in caution::mounts(bake.root, &diff)? {
            job.fetcher.progress.step(&format!("{mount} is a mount point of another filesystem"));
        }
        Ok((plan, diff, warnings))
    };
    match prepared(&mut bake) {
        Ok((plan, diff, warnings)) => Ok(Planned { bake, plan, diff, warnings }),
        Err(error) => Err(abandon(bake.root, bake.state, error)),
    }
}

/// Has the package manager bring what it has to: before the plan, which depends on what that is, and
/// after everything else is known to be there.
fn supply(job: &Job, bake: &mut Bake) -> anyhow::Result<()> {
    let shop = Shop {
        spec: &job.spec,
        lock: &job.lock,
        fetcher: &job.fetcher,
        patience: job.patience,
        root: bake.root,
        arch: bake.target.arch,
        state: bake.state.as_ref(),
        receipt: bake.receipt.as_ref(),
    };
    bake.supply = packages::supply(&shop)?;
    let changed = bake.supply.as_ref().is_some_and(|supply| !supply.changes.is_empty());
    if let Some(receipt) = bake.receipt.as_ref().filter(|_| changed) {
        bake.found = diff::survey(bake.root, receipt)?;
    }
    Ok(())
}

/// Writes everything beside its place.
fn stage<'a>(
    job: &Job,
    planned: Planned<'a>,
    spooled: &Spool,
    flushes: usize,
) -> anyhow::Result<Planned<'a>> {
    let members: Vec<&Member> = spooled.values().flatten().flat_map(|spooled| &spooled.members).collect();
    let staged = with_commit(job, &planned, &members, flushes, |commit| {
        job.fetcher.progress.step(&format!("staging into {}", planned.bake.root.host().display()));
        commit.stage()
    });
    match staged {
        Ok(_) => Ok(planned),
        Err(failure) => Err(abandon(planned.bake.root, planned.bake.state, failure.into())),
    }
}

/// Renames everything into place.
fn publish(job: &Job, planned: Planned, flushes: usize) -> anyhow::Result<Report> {
    match with_commit(job, &planned, &[], flushes, |commit| commit.publish()) {
        Ok(kept) => Ok(Report { kept: kept.unwrap_or_default(), ..planned.report() }),
        Err(failure) => Err(abandon(planned.bake.root, planned.bake.state, failure.into())),
    }
}

/// Calls `work` unless there is nothing to do: then nothing at all is written.
fn with_commit<T>(
    job: &Job,
    planned: &Planned,
    members: &[&Member],
    flushes: usize,
    work: impl FnOnce(&Commit) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    let Planned { bake, plan, diff, .. } = planned;
    let Some(state) = &bake.state else { return Ok(None) };
    let nothing = Receipt::new(plan.arch.as_str(), Vec::new());
    let receipt = bake.receipt.as_ref().unwrap_or(&nothing);
    let mtime = job.mtime;
    let commit = Commit { root: bake.root, state, receipt, plan, diff, members, mtime, flushes };
    let unchanged = bake.receipt.is_some() && commit.wanted().text()? == receipt.text()?;
    if diff.is_empty() && unchanged {
        return Ok(None);
    }
    work(&commit).map(Some)
}

/// Leaves the root as it was, or as far as it got, and passes `error` on.
fn abandon(root: &Root, state: Option<State>, error: anyhow::Error) -> anyhow::Error {
    let Some(state) = state else { return error };
    let undone = || -> Result<(), Failure> {
        match commit::recover(root, &state)? {
            // Packages were all that had come: they go as well.
            Some(receipt) if receipt.paths.is_empty() && !receipt.packages.is_empty() => {
                let request = Request::offline(Duration::ZERO);
                retire::retire(root, Some(&state), &receipt.packages, request, Rule::Unneeded)?;
                return state.destroy(&receipt.directories);
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let created = state.intent()?.map(|intent| intent.directories).unwrap_or_default();
        state.destroy(&created)
    };
    let same = |failure: &Failure| {
        crate::error::failure(&error).is_some_and(|first| first.to_string() == failure.to_string())
    };
    match undone() {
        Ok(()) => error,
        // It is what could not be read in the first place.
        Err(failure) if same(&failure) => error,
        Err(failure) => error.context(format!(
            "cleaning up in {} failed as well ({failure}); the next run goes on from there",
            root.host().display()
        )),
    }
}

/// One failure for every root that meets it: the same message, kind and remedy.
fn clone(error: &anyhow::Error) -> anyhow::Error {
    match crate::error::failure(error) {
        Some(failure) => {
            let copy = Failure::new(failure.kind, format!("{error:#}"));
            match &failure.help {
                Some(help) => copy.help(help).into(),
                None => copy.into(),
            }
        }
        None => anyhow::anyhow!("{error:#}"),
    }
}
