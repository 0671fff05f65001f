//! Begins the bake of one root: locks it, recovers it, and finds out what it is, has and needs.
//!
//! This module must not write a file of the plan: `commit` does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use crate::arch::Arch;
use crate::archive::decode::Decoded;
use crate::artifact::Artifact;
use crate::artifact::resolve::{self, Target};
use crate::bake::abandon::abandon;
use crate::bake::job::Job;
use crate::commit::recover;
use crate::digest::Digest;
use crate::error::{self, Failure, Kind};
use crate::node::Node;
use crate::packages::manager::distribution::Distribution;
use crate::path::ImagePath;
use crate::plan::Placed;
use crate::plan::from_packages::FromPackages;
use crate::progress::Progress;
use crate::root::{Root, target};
use crate::spec::Spec;
use crate::state::{self, Owned, Receipt, State, Survey};

/// Decoded artifacts, or why one could not be decoded, by the artifact's digest.
pub(super) type DecodedArtifacts = BTreeMap<Digest, anyhow::Result<Decoded>>;

/// Bake of one root: what the root is, has and needs.
pub(super) struct Bake<'a> {
    /// Root that is baked.
    pub root: &'a Root,
    /// State of the root, locked; none where nothing may be written.
    pub state: Option<State<'a>>,
    /// Receipt of the last bake.
    pub receipt: Option<Receipt>,
    /// Architecture and glibc of the root.
    pub target: Target,
    /// Artifacts that the spec asks for.
    pub artifacts: Vec<Artifact>,
    /// Node at every path that the receipt owns.
    pub found: Survey,
    /// Everything that packages bring; none until the package manager has been asked.
    pub from_packages: Option<FromPackages>,
}

impl Bake<'_> {
    /// Tells whether the receipt names packages.
    pub(super) fn has_packages(&self) -> bool {
        self.receipt.as_ref().is_some_and(|receipt| !receipt.packages.is_empty())
    }

    /// Tells whether the receipt says that `artifact` was installed.
    pub(super) fn knows(&self, artifact: &Artifact) -> bool {
        let same = |a: &Artifact| {
            (a.sha256, &a.build, &a.version, &a.arch)
                == (artifact.sha256, &artifact.build, &artifact.version, &artifact.arch)
        };
        self.receipt.as_ref().is_some_and(|receipt| receipt.artifacts.iter().any(same))
    }

    /// Tells whether every file of `artifact` is still as it was installed. The receipt is the root's own word: where
    /// members are pinned, it must own these and the files must have their digests.
    pub(super) fn in_place(&self, artifact: &Artifact) -> bool {
        let owned: BTreeMap<&ImagePath, &Owned> = self.owned(artifact.sha256).collect();
        let as_installed =
            |(path, owned): (&&ImagePath, &&Owned)| self.found.get(*path) == Some(&Some(owned.node.clone()));
        let pinned = artifact.pinned();
        let as_pinned = |(path, (_, digest)): (&ImagePath, &(&str, Digest))| match self.found.get(path) {
            Some(Some(Node::File { sha256, .. })) => owned.contains_key(path) && sha256 == digest,
            _ => false,
        };
        self.knows(artifact)
            && owned.iter().all(as_installed)
            && artifact.required().all(|path| owned.contains_key(&path))
            && (pinned.is_empty() || (pinned.len() == owned.len() && pinned.iter().all(as_pinned)))
    }

    fn owned(&self, artifact: Digest) -> impl Iterator<Item = (&ImagePath, &Owned)> {
        let paths = self.receipt.iter().flat_map(|receipt| &receipt.paths);
        paths.filter(move |(_, owned)| owned.artifact == Some(artifact))
    }

    /// Returns the members of an artifact that is in place, from the receipt.
    pub(super) fn index(&self, artifact: &Artifact) -> Vec<Placed> {
        let placed = |(path, owned): (&ImagePath, &Owned)| match (&owned.node, &owned.member) {
            (Node::File { sha256, .. }, Some(member)) => Some(Placed {
                artifact: artifact.sha256,
                component: artifact.component.clone(),
                name: member.clone(),
                path: path.clone(),
                size: owned.size,
                sha256: *sha256,
            }),
            _ => None,
        };
        self.owned(artifact.sha256).filter_map(placed).collect()
    }
}

/// Returns the members of a decoded artifact.
pub(super) fn placed(decoded: &Decoded) -> impl Iterator<Item = Placed> {
    decoded.members.iter().map(|member| Placed {
        artifact: decoded.artifact.sha256,
        component: decoded.artifact.component.clone(),
        name: member.name.clone(),
        path: member.path.clone(),
        size: Some(member.size),
        sha256: member.sha256,
    })
}

/// Opens every root; programs of it may run where the spec asks for a package, or the caller for more. A root that is named twice is refused: its second bake would wait for the lock of its first.
pub(super) fn open_all(job: &Job, hosts: &[PathBuf]) -> Vec<anyhow::Result<Root>> {
    let may_execute = job.execute || job.spec.package().is_some();
    let mut seen = BTreeSet::new();
    hosts
        .iter()
        .map(|host| {
            let root = Root::open(host)?.executing(may_execute).foreign(job.foreign);
            match seen.insert(root.identity()?) {
                true => Ok(root),
                false => {
                    Err(Failure::new(Kind::Usage, format!("root `{}` is given twice", host.display())).into())
                }
            }
        })
        .collect()
}

/// Finds out what a root is and needs.
pub(super) fn needs<'a>(job: &Job, root: &'a Root) -> anyhow::Result<Bake<'a>> {
    if job.spec.package().is_some() {
        // A root without a package manager is refused before anything is fetched.
        Distribution::of(root)?;
    }
    // The one directory of a plan that the spec chooses: what a killed run has left there is recovered as well.
    root.use_mount_of(&job.spec.containerd.config.registry_config_path.path()?)?;
    let arch = arch(&job.spec, root, &job.fetcher.progress)?;
    let target = Target { arch, glibc: target::glibc(root, arch)? };
    let artifacts = resolve::resolve(&job.spec, &job.lock, target)?;
    let found = Survey::default();
    Ok(Bake { root, state: None, receipt: None, target, artifacts, found, from_packages: None })
}

/// Locks a root.
pub(super) fn lock(bake: Bake, deadline: Instant) -> anyhow::Result<Bake> {
    let state = Some(State::open(bake.root, deadline)?);
    Ok(Bake { state, ..bake })
}

/// Finds out what a root has, after it is recovered from an unfinished run. Where it is not locked, nothing is written.
pub(super) fn look<'a>(job: &Job, mut bake: Bake<'a>) -> anyhow::Result<Bake<'a>> {
    let found = || -> anyhow::Result<(Option<Receipt>, Survey)> {
        let receipt = match &bake.state {
            Some(state) => recover::recover(bake.root, state)?.reported(bake.root, &job.fetcher.progress),
            None => state::receipt(bake.root)?,
        };
        let found = survey(bake.root, receipt.as_ref())?;
        Ok((receipt, found))
    };
    match found() {
        Ok((receipt, found)) => {
            (bake.receipt, bake.found) = (receipt, found);
            Ok(bake)
        }
        // Only what an earlier run has left was looked at: the next run settles it.
        Err(error) if matches!(error::kind(&error), Some(Kind::Interrupted(_))) => Err(error),
        Err(error) => Err(abandon(bake.root, bake.state, error)),
    }
}

fn survey(root: &Root, receipt: Option<&Receipt>) -> Result<Survey, Failure> {
    receipt.map_or_else(|| Ok(Survey::default()), |receipt| state::survey(root, receipt))
}

/// Returns the spec's architecture, or else that of the root's own executables. Where both are known and differ, this is
/// [`Kind::Unsupported`], unless the caller allows it.
pub(super) fn arch(spec: &Spec, root: &Root, progress: &Progress) -> Result<Arch, Failure> {
    let Some(arch) = spec.arch.as_ref().and_then(|name| name.arch()) else { return target::arch(root) };
    let Some(own) = target::differing_arch(root, arch) else { return Ok(arch) };
    let message = format!(
        "the spec says `arch: {arch}`, and the executables of root `{}` are for {own}",
        root.host().display()
    );
    if !root.may_be_foreign() {
        let help = format!("leave out `arch:` or set `arch: {own}`; --foreign allows the difference");
        return Err(Failure::new(Kind::Unsupported, message).help(help));
    }
    progress.step(&message);
    Ok(arch)
}
