//! Spec × artifacts → the list of paths and what belongs at each. Pure.
//!
//! A plan never says how to get there: `state/mod.rs` compares it with a root, `bake/job.rs` acts.

pub(crate) mod crictl;
pub(crate) mod from_packages;
pub(crate) mod kernel;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::artifact::{Artifact, Installed};
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::node::{Content, EXECUTABLE, Want};
use crate::path::{ImagePath, LONGEST_COMPONENT};
use crate::plan::from_packages::FromPackages;
use crate::runtime::containerd::{self, ConfigInputs, Release, hosts, unit};
use crate::spec::Spec;

/// What belongs in a root: sorted by path, each path once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The artifacts that files come from.
    pub artifacts: Vec<Artifact>,
    /// The packages that bring the rest.
    pub packages: Vec<Installed>,
    /// Where something is as a package of ours has put it: nobody's original.
    pub shipped: BTreeSet<ImagePath>,
    /// Go's name of the architecture.
    pub arch: String,
    /// Every path.
    pub entries: BTreeMap<ImagePath, Entry>,
}

/// One path of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What belongs there.
    pub want: Want,
    /// The component that it belongs to.
    pub component: String,
}

/// A member of an artifact and its place in the image: a line of the archive's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
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
pub(crate) struct Inputs<'a> {
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
    /// What packages bring.
    pub from_packages: Option<&'a FromPackages>,
}

/// Makes the plan for one root.
pub(crate) fn plan(spec: &Spec, inputs: &Inputs) -> Result<Plan, Failure> {
    let mut plan = Plan { artifacts: inputs.artifacts.to_vec(), ..Plan::empty(inputs.arch) };
    plan.artifacts.sort();
    for member in inputs.members {
        let Placed { artifact, component, name, path, sha256 } = member.clone();
        let content = Content::Member { artifact, name, sha256 };
        plan.add(path, Want::File { mode: EXECUTABLE, content }, &component)?;
    }
    if let Some(from_packages) = inputs.from_packages {
        plan.packages.clone_from(&from_packages.packages);
        plan.shipped.clone_from(&from_packages.shipped);
        plan.add_all(from_packages.entries.clone(), "packages")?;
    }
    let packaged = inputs.from_packages.and_then(|from_packages| from_packages.runtime.as_ref());
    for (path, package) in packaged.iter().flat_map(|runtime| &runtime.present) {
        plan.add(path.clone(), Want::Present { package: package.clone() }, "containerd")?;
    }
    let staged = inputs.artifacts.iter().find(|artifact| artifact.component == "containerd");
    let version = packaged.map(|runtime| &runtime.version).or(staged.map(|artifact| &artifact.version));
    if let Some(version) = version {
        let release = Release::parse(version)?;
        let cni_bin = packaged.and_then(|runtime| runtime.cni_bin);
        let basis = ConfigInputs { release, default: inputs.default_config, cni_bin };
        plan.add_all(containerd::entries(containerd::config(&spec.containerd.config, basis)?), "containerd")?;
        let unit = packaged.map(|runtime| &runtime.unit);
        plan.add_all(unit::entries(release, &spec.containerd, unit), "containerd")?;
    }
    let config_path = spec.containerd.config.registry_config_path.path()?;
    plan.add_all(hosts::entries(spec, &config_path, inputs.certificates)?, "registries")?;
    plan.add_all(kernel::entries(&spec.kernel), "kernel")?;
    plan.add_all(crictl::client_entries(), "cri")?;
    Ok(plan)
}

impl Plan {
    /// A plan that wants nothing: what `remove` makes of a root.
    pub(crate) fn empty(arch: &str) -> Plan {
        Plan { arch: arch.to_owned(), ..Plan::default() }
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
