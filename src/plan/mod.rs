//! Spec × artifacts → the list of paths and what belongs at each.
//!
//! This module must not look at a root or say how to change it: `commit/diff.rs` compares a plan with a root, and
//! `commit/mod.rs` makes the root match.

pub(crate) mod crictl;
pub(crate) mod from_packages;
pub(crate) mod kernel;
pub(crate) mod possible;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::arch::Arch;
use crate::artifact::{Artifact, Installed};
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::node::{Content, EXECUTABLE, Want};
use crate::path::ImagePath;
use crate::plan::from_packages::FromPackages;
use crate::plan::possible::PlannedNode;
use crate::runtime::RuntimeInputs;
use crate::secret;
use crate::spec::{CertificateFile, Spec};

/// Bits of a mode that are its owner's.
const OWNERS: u32 = 0o700;

/// Component of the files that configure a package manager.
const PACKAGES: &str = "packages";

/// Component of the files that say where images are pulled from.
const REGISTRIES: &str = "registries";

/// Component of the files that set up the kernel.
const KERNEL: &str = "kernel";

/// Component of the files of the CRI's clients.
const CRI: &str = "cri";

/// Plan of one root: what belongs in it, sorted by path, each path once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The artifacts that files come from.
    pub artifacts: Vec<Artifact>,
    /// X.Y.Z of the runtime; none where no runtime is installed.
    pub runtime_version: Option<String>,
    /// The packages that install the rest.
    pub packages: Vec<Installed>,
    /// Files that are as a package of this bake has installed them, so no original is kept of them.
    pub shipped: BTreeSet<ImagePath>,
    /// Go's name of the architecture.
    pub arch: String,
    /// Every path and what belongs there.
    pub entries: BTreeMap<ImagePath, Entry>,
}

/// Entry of a plan, for one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The node that belongs at the path.
    pub want: Want,
    /// Component that the path belongs to.
    pub component: String,
}

/// Member of an artifact with its path in the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Digest of the artifact.
    pub artifact: Digest,
    /// Component that the member belongs to.
    pub component: String,
    /// Name of the member.
    pub name: String,
    /// Path in the image.
    pub path: ImagePath,
    /// Size of the member in bytes; none if only an old receipt knows the member.
    pub size: Option<u64>,
    /// Digest of the member.
    pub sha256: Digest,
}

/// Inputs of a plan beside the spec.
pub(crate) struct Inputs<'a> {
    /// The resolved artifacts.
    pub artifacts: &'a [Artifact],
    /// The architecture of the node.
    pub arch: Arch,
    /// The members of all artifacts.
    pub members: &'a [Placed],
    /// The certificates that the spec names, by their path on the build host.
    pub certificates: &'a BTreeMap<PathBuf, CertificateFile>,
    /// What the daemon has printed as its default configuration, for `base: default`; none where it was not asked.
    pub printed_default: Option<&'a str>,
    /// Everything that packages bring, if the spec asks for packages.
    pub from_packages: Option<&'a FromPackages>,
}

/// Makes the plan for one root.
pub(crate) fn plan(spec: &Spec, inputs: &Inputs) -> Result<Plan, Failure> {
    let mut plan = Plan { artifacts: inputs.artifacts.to_vec(), ..Plan::empty(inputs.arch.name()) };
    plan.artifacts.sort();
    for member in inputs.members {
        let Placed { artifact, component, name, path, size, sha256 } = member.clone();
        let content = Content::Member { artifact, name, size, sha256 };
        plan.add(path, Want::File { mode: EXECUTABLE, content }, &component)?;
    }
    if let Some(from_packages) = inputs.from_packages {
        plan.packages.clone_from(&from_packages.packages);
        plan.shipped.clone_from(&from_packages.shipped);
        plan.add_all(from_packages.entries.clone(), PACKAGES)?;
    }
    let packaged = inputs.from_packages.and_then(|from_packages| from_packages.runtime.as_ref());
    let runtime = spec.runtime().unwrap_or_default();
    for (path, package) in packaged.iter().flat_map(|packaged| &packaged.present) {
        plan.add(path.clone(), Want::Present { package: package.clone() }, runtime.component())?;
    }
    let staged = inputs.artifacts.iter().find(|artifact| artifact.component == runtime.component());
    let version = packaged.map(|packaged| &packaged.version).or(staged.map(|artifact| &artifact.version));
    plan.runtime_version = version.cloned();
    let version = version.map(String::as_str);
    if let Some(version) = version {
        let inputs = RuntimeInputs {
            version,
            arch: inputs.arch,
            printed_default: inputs.printed_default,
            cni_bin: packaged.and_then(|packaged| packaged.cni_bin),
            packaged_unit: packaged.map(|packaged| &packaged.unit),
        };
        plan.add_all(runtime.files(spec, inputs)?, runtime.component())?;
    }
    plan.add_all(runtime.registry_files(spec, version, inputs.certificates)?, REGISTRIES)?;
    plan.add_all(kernel::entries(&spec.kernel), KERNEL)?;
    plan.add_all(crictl::client_entries(runtime.facts().socket), CRI)?;
    Ok(plan)
}

/// Refuses an entry that no receipt could have: a root that had it could not be changed or cleaned up any more.
fn refuse_impossible(path: &ImagePath, want: &Want, component: &str) -> Result<(), Failure> {
    let (node, (artifact, member)) = (want.node(), want.origin());
    let planned = PlannedNode {
        path,
        node: &node,
        component,
        from_artifact: artifact.is_some(),
        member: member.as_deref(),
    };
    planned.check().map_err(|(field, why)| {
        let field = field.map(|field| format!(": {field}")).unwrap_or_default();
        Failure::new(Kind::Invalid, format!("`{path}`, of {component}{field} {why}")).help(
            "name another file or directory in the spec; is each artifact the release that it should be?",
        )
    })
}

/// Takes the rights of others from a text that holds a secret, wherever in the spec it came in.
fn private(want: Want) -> Want {
    match want {
        Want::File { mode, content: Content::Text(bytes) }
            if secret::is_in(&String::from_utf8_lossy(&bytes)) =>
        {
            Want::File { mode: mode & OWNERS, content: Content::Text(bytes) }
        }
        other => other,
    }
}

impl Plan {
    /// Makes a plan without a path, as `remove` applies it.
    pub(crate) fn empty(arch: &str) -> Plan {
        Plan { arch: arch.to_owned(), ..Plan::default() }
    }

    /// Adds entries of one component.
    fn add_all(&mut self, entries: Vec<(ImagePath, Want)>, component: &str) -> Result<(), Failure> {
        entries.into_iter().try_for_each(|(path, want)| self.add(path, want, component))
    }

    /// Adds one entry; a path that has one already is an error.
    fn add(&mut self, path: ImagePath, want: Want, component: &str) -> Result<(), Failure> {
        let want = private(want);
        refuse_impossible(&path, &want, component)?;
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
