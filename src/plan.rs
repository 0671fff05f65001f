//! Spec × artifacts → the list of paths and what belongs at each. Pure.
//!
//! A plan never says how to get there: `diff.rs` compares it with a root, `apply.rs` acts.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::containerd::{self, Release};
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::kernel;
use crate::path::{ImagePath, LONGEST_COMPONENT};
use crate::registry;
use crate::resolve::Artifact;
use crate::spec::Spec;
use crate::spool::EXECUTABLE;
use crate::systemd;
use crate::want::{Content, Want};

/// What belongs in a root: sorted by path, each path once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The artifacts that files come from.
    pub artifacts: Vec<Artifact>,
    /// Go's name of the architecture.
    pub arch: String,
    /// Every path.
    pub entries: BTreeMap<ImagePath, Entry>,
}

/// One path of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What belongs there.
    pub want: Want,
    /// The component that it belongs to.
    pub component: String,
}

/// A member of an artifact and its place in the image: a line of the archive's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The artifact's digest.
    pub artifact: Digest,
    /// The component that it belongs to.
    pub component: String,
    /// The member's name.
    pub name: String,
    /// Where it goes.
    pub path: ImagePath,
    /// Its digest.
    pub sha256: Digest,
}

/// What a plan is made from, beside the spec.
pub struct Inputs<'a> {
    /// The resolved artifacts.
    pub artifacts: &'a [Artifact],
    /// Go's name of the architecture.
    pub arch: &'a str,
    /// The members of all artifacts.
    pub members: &'a [Placed],
    /// The certificates that the spec names, by their path on this host.
    pub certificates: &'a BTreeMap<PathBuf, Vec<u8>>,
    /// What `containerd config default` printed, for `base: default`.
    pub default_config: Option<&'a str>,
}

/// Makes the plan for one root.
pub fn plan(spec: &Spec, inputs: &Inputs) -> Result<Plan, Failure> {
    let mut plan =
        Plan { artifacts: inputs.artifacts.to_vec(), arch: inputs.arch.to_owned(), entries: BTreeMap::new() };
    plan.artifacts.sort();
    for member in inputs.members {
        let Placed { artifact, component, name, path, sha256 } = member.clone();
        let content = Content::Member { artifact, name, sha256 };
        plan.add(path, Want::File { mode: EXECUTABLE, content }, &component)?;
    }
    if let Some(artifact) = inputs.artifacts.iter().find(|artifact| artifact.component == "containerd") {
        let release = Release::parse(&artifact.version)?;
        let config = containerd::config(release, &spec.containerd.config, inputs.default_config)?;
        plan.add_all(containerd::entries(config), "containerd")?;
        plan.add_all(systemd::entries(release, &spec.containerd), "containerd")?;
    }
    let config_path = spec.containerd.config.registry_config_path.path()?;
    plan.add_all(registry::entries(spec, &config_path, inputs.certificates)?, "registries")?;
    plan.add_all(kernel::entries(&spec.kernel), "kernel")?;
    plan.add_all(containerd::client_entries(), "cri")?;
    Ok(plan)
}

impl Plan {
    /// A plan that wants nothing: what `remove` makes of a root.
    pub fn empty(arch: &str) -> Plan {
        Plan { artifacts: Vec::new(), arch: arch.to_owned(), entries: BTreeMap::new() }
    }

    fn add_all(&mut self, entries: Vec<(ImagePath, Want)>, component: &str) -> Result<(), Failure> {
        entries.into_iter().try_for_each(|(path, want)| self.add(path, want, component))
    }

    fn add(&mut self, path: ImagePath, want: Want, component: &str) -> Result<(), Failure> {
        if path.name().len() > LONGEST_COMPONENT {
            let message = format!("`{path}` has a name of more than {LONGEST_COMPONENT} bytes");
            return Err(Failure::new(Kind::Invalid, message).help("it could not be staged beside its place"));
        }
        let entry = Entry { want, component: component.to_owned() };
        match self.entries.insert(path.clone(), entry) {
            None => Ok(()),
            Some(other) => Err(Failure::new(
                Kind::Invalid,
                format!("`{path}` is claimed twice, by {} and by {component}", other.component),
            )),
        }
    }
}
