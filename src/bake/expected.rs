//! Plans a spec for one root without the network and without a program of the root, so that the root can be judged by
//! it.
//!
//! This module must not read the root's receipt: that is the root's own word.

use std::collections::BTreeMap;

use crate::artifact::Artifact;
use crate::artifact::resolve::{self, Target};
use crate::bake::job::Job;
use crate::bake::prepare::without_default;
use crate::bake::root::arch;
use crate::bake::versions;
use crate::plan::{self, Inputs, Placed};
use crate::root::{Root, target};
use crate::spec::Base;
use crate::verify::Expected;

/// Returns what the spec and the lock of `job` want in `root`.
pub(crate) fn expected(job: &Job, root: &Root) -> anyhow::Result<Expected> {
    let arch = arch(&job.spec, root, &job.fetcher.progress)?;
    let artifacts =
        resolve::resolve(&job.spec, &job.lock, Target { arch, glibc: target::glibc(root, arch)? })?;
    versions::warn(job, &artifacts);
    let (mut members, mut unpinned, mut unknown) = (Vec::new(), BTreeMap::new(), Vec::new());
    for artifact in &artifacts {
        members.extend(placed(artifact));
        if artifact.pinned().is_empty() {
            unpinned.extend(artifact.required().map(|path| (path, artifact.component.clone())));
            unknown.push(format!("the files of {artifact}: pin them with `nodebake lock`"));
        }
    }
    let mut spec = job.spec.clone();
    let is_unknown = without_default(&spec, &artifacts, arch).is_some();
    if is_unknown {
        // The other files do not depend on it.
        spec.containerd.config.base = Base::Minimal;
    }
    let inputs = Inputs {
        artifacts: &artifacts,
        arch,
        members: &members,
        certificates: &job.certificates,
        printed_default: None,
        from_packages: None,
    };
    let mut plan = plan::plan(&spec, &inputs)?;
    let config = spec.runtime().unwrap_or_default().facts().config;
    if is_unknown && plan.entries.remove(config).is_some() {
        unknown.push(format!("{config}: `base: default` starts from what containerd prints"));
    }
    if let Some(package) = spec.package() {
        unknown.push(format!("package {}, and the files that depend on its version", package.name()));
    }
    Ok(Expected { plan, unpinned, unknown })
}

/// Returns the members of `artifact` whose digests are pinned.
fn placed(artifact: &Artifact) -> impl Iterator<Item = Placed> {
    artifact.pinned().into_iter().map(|(path, (name, sha256))| Placed {
        artifact: artifact.sha256,
        component: artifact.component.clone(),
        name: name.to_owned(),
        path,
        size: None,
        sha256,
    })
}
