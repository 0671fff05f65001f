//! One root on its way through the pipeline: what it is, what is in place in it, and whether what it
//! needs will run there. It changes nothing: see `bake/job.rs` and `commit/mod.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::arch::Arch;
use crate::archive::decode::Decoded;
use crate::artifact::Artifact;
use crate::artifact::resolve::{self, Target};
use crate::bake::abandon::abandon;
use crate::bake::job::Job;
use crate::commit::recover;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::node::Node;
use crate::packages::manager::distribution::Distribution;
use crate::path::ImagePath;
use crate::plan::Placed;
use crate::plan::from_packages::FromPackages;
use crate::root::{Root, target};
use crate::source::fetch::Fetcher;
use crate::spec::Spec;
use crate::state::{self, Owned, Receipt, State, Survey};

/// What was fetched and decoded, by the artifact's digest.
pub(super) type DecodedArtifacts = BTreeMap<Digest, anyhow::Result<Decoded>>;

/// One root on its way through the pipeline.
pub(super) struct Bake<'a> {
    /// The root.
    pub root: &'a Root,
    /// Its locked state, where something is to be written.
    pub state: Option<State<'a>>,
    /// What is owned in it.
    pub receipt: Option<Receipt>,
    /// What it is.
    pub target: Target,
    /// What it needs.
    pub artifacts: Vec<Artifact>,
    /// What is at every path that is owned.
    pub found: Survey,
    /// What packages bring, once that is known.
    pub from_packages: Option<FromPackages>,
}

impl Bake<'_> {
    /// Whether the receipt says that `artifact` was installed.
    pub(super) fn knows(&self, artifact: &Artifact) -> bool {
        let same = |a: &Artifact| {
            (a.sha256, &a.build, &a.version, &a.arch)
                == (artifact.sha256, &artifact.build, &artifact.version, &artifact.arch)
        };
        self.receipt.as_ref().is_some_and(|receipt| receipt.artifacts.iter().any(same))
    }

    /// Whether everything that came from `artifact` is still as it was installed.
    pub(super) fn in_place(&self, artifact: &Artifact) -> bool {
        let as_installed =
            |(path, owned): (&ImagePath, &Owned)| self.found.get(path) == Some(&Some(owned.node.clone()));
        self.knows(artifact) && self.owned(artifact.sha256).all(as_installed)
    }

    fn owned(&self, artifact: Digest) -> impl Iterator<Item = (&ImagePath, &Owned)> {
        let paths = self.receipt.iter().flat_map(|receipt| &receipt.paths);
        paths.filter(move |(_, owned)| owned.artifact == Some(artifact))
    }

    /// The index of an artifact that is in place, from the receipt.
    pub(super) fn index(&self, artifact: &Artifact) -> Vec<Placed> {
        let placed = |(path, owned): (&ImagePath, &Owned)| match (&owned.node, &owned.member) {
            (Node::File { sha256, .. }, Some(member)) => Some(Placed {
                artifact: artifact.sha256,
                component: artifact.component.clone(),
                name: member.clone(),
                path: path.clone(),
                sha256: *sha256,
            }),
            _ => None,
        };
        self.owned(artifact.sha256).filter_map(placed).collect()
    }
}

/// The index of a decoded artifact.
pub(super) fn placed(decoded: &Decoded) -> impl Iterator<Item = Placed> {
    decoded.members.iter().map(|member| Placed {
        artifact: decoded.artifact.sha256,
        component: decoded.artifact.component.clone(),
        name: member.name.clone(),
        path: member.path.clone(),
        sha256: member.sha256,
    })
}

/// One root can be named twice: baking it twice at once would lock it against itself.
pub(crate) fn open_all(hosts: &[PathBuf]) -> Vec<anyhow::Result<Root>> {
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
pub(crate) fn begin<'a>(job: &Job, root: &'a Root, write: bool) -> anyhow::Result<Bake<'a>> {
    if job.spec.package().is_some() {
        // Before anything is fetched.
        Distribution::of(root)?;
    }
    let arch = arch(&job.spec, root, &job.fetcher)?;
    let target = Target { arch, glibc: target::glibc(root, arch)? };
    let artifacts = resolve::resolve(&job.spec, &job.lock, target)?;
    let state = if write { Some(State::open(root, job.lock_timeout)?) } else { None };
    let begun = || -> anyhow::Result<(Option<Receipt>, Survey)> {
        let receipt = match &state {
            Some(state) => recover::recover(root, state)?,
            None => state::receipt(root)?,
        };
        let found = receipt.as_ref().map(|receipt| state::survey(root, receipt)).transpose()?;
        Ok((receipt, found.unwrap_or_default()))
    };
    match begun() {
        Ok((receipt, found)) => {
            Ok(Bake { root, state, receipt, target, artifacts, found, from_packages: None })
        }
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
