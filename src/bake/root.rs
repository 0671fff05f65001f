//! One root on its way through the pipeline: what it is, what is in place in it, and whether what it
//! needs will run there. It changes nothing: see `apply.rs` and `commit.rs`.

use std::collections::BTreeMap;

use crate::containerd;
use crate::diff::Found;
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::path::ImagePath;
use crate::plan::Placed;
use crate::progress::Progress;
use crate::receipt::{Node, Owned, Receipt};
use crate::resolve::{Artifact, Target};
use crate::root::Root;
use crate::spec::{Base, Spec};
use crate::spool::Spooled;
use crate::staged;
use crate::state::State;
use crate::supply::Supply;

/// What was fetched and decoded, by the artifact's digest.
pub type Spool = BTreeMap<Digest, anyhow::Result<Spooled>>;

/// One root on its way through the pipeline.
pub struct Bake<'a> {
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
    pub found: Found,
    /// What packages bring, once that is known.
    pub supply: Option<Supply>,
}

impl Bake<'_> {
    /// Whether the receipt says that `artifact` was installed.
    pub fn knows(&self, artifact: &Artifact) -> bool {
        let same = |a: &Artifact| {
            (a.sha256, &a.build, &a.version, &a.arch)
                == (artifact.sha256, &artifact.build, &artifact.version, &artifact.arch)
        };
        self.receipt.as_ref().is_some_and(|receipt| receipt.artifacts.iter().any(same))
    }

    /// Whether everything that came from `artifact` is still as it was installed.
    pub fn in_place(&self, artifact: &Artifact) -> bool {
        let as_installed =
            |(path, owned): (&ImagePath, &Owned)| self.found.get(path) == Some(&Some(owned.node.clone()));
        self.knows(artifact) && self.owned(artifact.sha256).all(as_installed)
    }

    fn owned(&self, artifact: Digest) -> impl Iterator<Item = (&ImagePath, &Owned)> {
        let paths = self.receipt.iter().flat_map(|receipt| &receipt.paths);
        paths.filter(move |(_, owned)| owned.artifact == Some(artifact))
    }

    /// The index of an artifact that is in place, from the receipt.
    pub fn index(&self, artifact: &Artifact) -> Vec<Placed> {
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
pub fn placed(spooled: &Spooled) -> impl Iterator<Item = Placed> {
    spooled.members.iter().map(|member| Placed {
        artifact: spooled.artifact.sha256,
        component: spooled.artifact.component.clone(),
        name: member.name.clone(),
        path: member.path.clone(),
        sha256: member.sha256,
    })
}

/// Whether the root's C library is new enough for every executable that will be installed.
pub fn check_glibc(bake: &Bake, spooled: &Spool) -> anyhow::Result<Vec<String>> {
    let mut dynamic = None;
    let artifacts = bake.artifacts.iter().filter_map(|artifact| spooled.get(&artifact.sha256)?.as_ref().ok());
    for (spooled, member) in
        artifacts.flat_map(|spooled| spooled.members.iter().map(move |member| (spooled, member)))
    {
        let Some(needs) = member.needs_glibc else { continue };
        dynamic = Some(&spooled.artifact);
        let Some(gives) = bake.target.glibc.filter(|gives| *gives < needs) else { continue };
        let artifact = &spooled.artifact;
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

/// What the staged containerd prints as its default configuration, where the spec starts from it.
pub fn default_config(
    spec: &Spec,
    progress: &Progress,
    bake: &Bake,
    spooled: &Spool,
) -> anyhow::Result<Option<String>> {
    let containerd = bake.artifacts.iter().find(|artifact| artifact.component == "containerd");
    let Some(artifact) = containerd.filter(|_| spec.containerd.config.base == Base::Default) else {
        return Ok(None);
    };
    progress.step(&format!("running `containerd config default` of {artifact}"));
    if let Some(Ok(spooled)) = spooled.get(&artifact.sha256) {
        return staged_default_config(spooled);
    }
    // In place by the root's own receipt, which is no proof: never outside of the root, never as root.
    Ok(Some(staged::installed_config_default(bake.root.host())?))
}

/// What the decoded containerd prints as its default configuration.
pub fn staged_default_config(spooled: &Spooled) -> anyhow::Result<Option<String>> {
    let member = spooled.members.iter().find(|member| member.path.as_str() == containerd::BINARY);
    member.map(|member| staged::config_default(member.file())).transpose().map_err(Into::into)
}
