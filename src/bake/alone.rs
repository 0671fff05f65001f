//! Plans a spec without a root: every artifact is fetched, and no glibc decides about a build.
//!
//! This module must not write anything but scratch files.

use crate::arch::Arch;
use crate::archive::decode::{self, Destination};
use crate::artifact::resolve::{self, Target};
use crate::bake::job::Job;
use crate::bake::root::placed;
use crate::bake::versions;
use crate::error::{Failure, Kind};
use crate::parallel::IdleProcessors;
use crate::plan::{self, Inputs, Placed, Plan};

/// Plans `job` without a root, for the architecture of its spec or else of this host.
pub(crate) fn plan_alone(job: &Job) -> anyhow::Result<Plan> {
    if job.spec.package().is_some() {
        let message = "what a package brings is known in a root only";
        return Err(Failure::new(Kind::Usage, message).help("bake one, and give it with --root").into());
    }
    let arch = job.spec.arch.as_ref().and_then(|name| name.arch()).or_else(Arch::of_host);
    let arch =
        arch.ok_or_else(|| Failure::new(Kind::Invalid, "set `arch:` in the spec, for example amd64"))?;
    let artifacts = resolve::resolve(&job.spec, &job.lock, Target { arch, glibc: None })?;
    versions::warn(job, &artifacts);
    let (mut decoded, idle) = (Vec::new(), IdleProcessors::all());
    for artifact in &artifacts {
        let _decoding = idle.work();
        decoded.push(decode::decode(
            &job.fetcher.fetch(artifact)?,
            &Destination::Scratch(&job.scratch),
            &idle,
        )?);
    }
    let members: Vec<Placed> = decoded.iter().flat_map(placed).collect();
    let inputs = Inputs {
        artifacts: &artifacts,
        arch,
        members: &members,
        certificates: &job.certificates,
        printed_default: None,
        from_packages: None,
    };
    Ok(plan::plan(&job.spec, &inputs)?)
}
