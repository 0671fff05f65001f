//! Plans one root: has its packages installed, computes the plan and compares the root with it.
//!
//! This module must not write a file of the plan: `publish` does.

use crate::arch::Arch;
use crate::artifact::Artifact;
use crate::bake::abandon::{abandon, repeat};
use crate::bake::job::{Job, Report};
use crate::bake::root::{Bake, DecodedArtifacts, placed};
use crate::bake::{conflicts, read_back, versions, warnings};
use crate::catalog;
use crate::commit::SavedEdits;
use crate::commit::diff::{self, Diff};
use crate::error::{Failure, Kind};
use crate::interrupt;
use crate::node::Node;
use crate::packages;
use crate::packages::inputs::PackageInputs;
use crate::path::ImagePath;
use crate::plan::{self, Inputs, Placed, Plan};
use crate::process::staged;
use crate::spec::{Base, Spec};
use crate::state::{self, Receipt};

/// Bake of one root with its plan.
pub(crate) struct Planned<'a> {
    pub(super) bake: Bake<'a>,
    /// Receipt of the last bake; empty before the first.
    pub(super) receipt: Receipt,
    /// This is the first bake of the root.
    pub(super) is_first: bool,
    /// Every path of the image.
    pub(super) plan: Plan,
    /// Changes that make the root like the plan.
    pub(super) diff: Diff,
    warnings: Vec<String>,
}

impl Planned<'_> {
    pub(super) fn report(self) -> Report {
        Report { diff: self.diff, kept: SavedEdits::default(), warnings: self.warnings, started: None }
    }
}

/// Plans one root, and undoes the bake if that fails.
pub(super) fn prepare<'a>(
    job: &Job,
    mut bake: Bake<'a>,
    decoded: &DecodedArtifacts,
) -> anyhow::Result<Planned<'a>> {
    match plan_root(job, &mut bake, decoded) {
        Ok((plan, diff, warnings)) => {
            let is_first = bake.receipt.is_none();
            let receipt = bake.receipt.take().unwrap_or_else(|| Receipt::new(&plan.arch, Vec::new()));
            Ok(Planned { bake, receipt, is_first, plan, diff, warnings })
        }
        Err(error) => Err(abandon(bake.root, bake.state, error)),
    }
}

fn plan_root(
    job: &Job,
    bake: &mut Bake,
    decoded: &DecodedArtifacts,
) -> anyhow::Result<(Plan, Diff, Vec<String>)> {
    interrupt::check()?;
    let members = members(bake, decoded)?;
    let mut warnings = check_glibc(bake, decoded)?;
    let printed = printed_default(job, bake, decoded)?;
    if let Some(runtime) = job.spec.package().and_then(|_| job.spec.runtime()) {
        // Before a package changes the root.
        let plan = plan::plan(&job.spec, &inputs(job, bake, &members, printed.as_deref()))?;
        conflicts::refuse_mounts(bake.root, plan, runtime)?;
    }
    ensure_packages(job, bake)?;
    let plan = plan::plan(&job.spec, &inputs(job, bake, &members, printed.as_deref()))?;
    read_back::show_requests(&job.spec, &plan, &job.fetcher.progress);
    warnings.extend(read_back::warnings(&job.spec, &plan));
    let nothing = Receipt::new(&plan.arch, Vec::new());
    let receipt = bake.receipt.as_ref().unwrap_or(&nothing);
    let mut diff = diff::diff(&plan, receipt, &bake.found, bake.root)?;
    diff.packages =
        bake.from_packages.iter().flat_map(|from_packages| from_packages.changes.clone()).collect();
    warnings.extend(versions::of_package(job, bake));
    warnings.extend(warnings::warnings(bake.root)?);
    warnings.extend(conflicts::warnings(bake.root, &plan, bake.receipt.as_ref())?);
    for mount in warnings::mounts(bake.root, &diff)? {
        job.fetcher.progress.step(&format!("{mount} is a mount point of another filesystem"));
    }
    Ok((plan, diff, warnings))
}

/// Returns everything that a plan depends on, as far as `bake` knows it by now.
fn inputs<'a>(
    job: &'a Job,
    bake: &'a Bake,
    members: &'a [Placed],
    printed_default: Option<&'a str>,
) -> Inputs<'a> {
    Inputs {
        artifacts: &bake.artifacts,
        arch: bake.target.arch,
        members,
        certificates: &job.certificates,
        printed_default,
        from_packages: bake.from_packages.as_ref(),
    }
}

/// Returns the members of all artifacts: of those in place from the receipt, of the others as decoded.
fn members(bake: &Bake, decoded: &DecodedArtifacts) -> anyhow::Result<Vec<Placed>> {
    let mut members = Vec::new();
    for artifact in &bake.artifacts {
        match decoded.get(&artifact.sha256) {
            Some(Err(error)) => return Err(repeat(error)),
            Some(Ok(decoded)) if !bake.in_place(artifact) => members.extend(placed(decoded)),
            _ => members.extend(bake.index(artifact)),
        }
    }
    Ok(members)
}

/// Has the root's packages installed or removed: before the plan, which depends on them, and after everything else
/// has been fetched and decoded.
fn ensure_packages(job: &Job, bake: &mut Bake) -> anyhow::Result<()> {
    let inputs = PackageInputs {
        spec: &job.spec,
        lock: &job.lock,
        fetcher: &job.fetcher,
        lock_timeout: job.lock_timeout,
        root: bake.root,
        arch: bake.target.arch,
        state: bake.state.as_ref(),
        receipt: bake.receipt.as_ref(),
    };
    bake.from_packages = packages::ensure(&inputs)?;
    let changed = bake.from_packages.as_ref().is_some_and(|from_packages| !from_packages.changes.is_empty());
    if let Some(receipt) = bake.receipt.as_ref().filter(|_| changed) {
        bake.found = state::survey(bake.root, receipt)?;
    }
    Ok(())
}

/// Refuses an executable that needs a newer glibc than the root has. Returns a warning if the root's is unknown.
pub(super) fn check_glibc(bake: &Bake, decoded: &DecodedArtifacts) -> anyhow::Result<Vec<String>> {
    let mut dynamic = None;
    let artifacts = bake.artifacts.iter().filter_map(|artifact| decoded.get(&artifact.sha256)?.as_ref().ok());
    for (decoded, member) in
        artifacts.flat_map(|decoded| decoded.members.iter().map(move |member| (decoded, member)))
    {
        let Some(needs) = member.needs_glibc else { continue };
        dynamic = Some(&decoded.artifact);
        let Some(gives) = bake.target.glibc.filter(|gives| *gives < needs) else { continue };
        let artifact = &decoded.artifact;
        let message = format!(
            "{artifact}: `{}` needs glibc {}.{}, root `{}` has {}.{}",
            member.name,
            needs.0,
            needs.1,
            bake.root.host().display(),
            gives.0,
            gives.1
        );
        let help = match artifact.catalogued().static_build {
            Some(_) => format!("use the static build: `components.{}.static: true`", artifact.component),
            None => "use a static build, or another version of it".to_owned(),
        };
        return Err(Failure::new(Kind::Unsupported, message).help(help).into());
    }
    let unknown = dynamic.filter(|_| bake.target.glibc.is_none());
    Ok(unknown
        .map(|artifact| {
            format!(
                "root `{}` has no glibc for {}, which {artifact} needs to run",
                bake.root.host().display(),
                bake.target.arch
            )
        })
        .into_iter()
        .collect())
}

/// Returns the daemon among `artifacts` whose default configuration the spec starts from and the catalogue does not have.
pub(super) fn without_default<'a>(
    spec: &Spec,
    artifacts: &'a [Artifact],
    arch: Arch,
) -> Option<&'a Artifact> {
    let runtime = spec.runtime().filter(|_| spec.containerd.config.base == Base::Default)?;
    let daemon = artifacts.iter().find(|artifact| artifact.component == runtime.component())?;
    catalog::default_config(&daemon.component, &daemon.version, arch).is_none().then_some(daemon)
}

/// Has the daemon print its default configuration, if the spec starts from that, the catalogue does not have it and the
/// caller allows it.
fn printed_default(job: &Job, bake: &Bake, decoded: &DecodedArtifacts) -> anyhow::Result<Option<String>> {
    let daemon = without_default(&job.spec, &bake.artifacts, bake.target.arch);
    let Some(artifact) = daemon.filter(|_| bake.root.require_execution().is_ok()) else { return Ok(None) };
    job.fetcher.progress.step(&format!("running `containerd config default` of {artifact}"));
    let runtime = job.spec.runtime().unwrap_or_default();
    let binary = ImagePath::fixed(runtime.facts().binary.own);
    if let Some(Ok(decoded)) = decoded.get(&artifact.sha256) {
        let member = decoded.members.iter().find(|member| member.path == binary);
        let asked = member.map(|member| staged::config_default(bake.root, (member.file(), member.sha256)));
        return Ok(asked.transpose()?);
    }
    match (bake.root.node(&binary)?, bake.root.file(&binary)?) {
        (Some(Node::File { sha256, .. }), Some(file)) => {
            Ok(Some(staged::config_default(bake.root, (&file, sha256))?))
        }
        _ => Ok(None),
    }
}
