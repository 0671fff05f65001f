//! Reads which containerd a package has installed, and which of its files nodebake may replace.
//!
//! This module must not change the root.

use std::collections::BTreeSet;

use crate::error::{Failure, Kind};
use crate::format::package_version;
use crate::format::systemd;
use crate::node::Node;
use crate::packages::inputs::PackageInputs;
use crate::packages::manager::database::{self, Database};
use crate::path::ImagePath;
use crate::plan::from_packages::PackagedRuntime;
use crate::printable::printable;
use crate::root::LONGEST_TEXT;
use crate::runtime::PACKAGED_CNI_BINS;

/// Returns the containerd of the package called `name`. For a plan the package may not be installed yet: its usual
/// paths are assumed then.
pub(super) fn packaged_runtime(
    inputs: &PackageInputs,
    name: &str,
    database: &Database,
) -> anyhow::Result<PackagedRuntime> {
    let facts = inputs.runtime();
    let record = database.get(name).cloned().unwrap_or_default();
    let version = package_version::upstream(&record.version).ok_or_else(|| {
        Failure::new(
            Kind::Unsupported,
            format!("package {name} has version `{}`, not X.Y.Z", printable(&record.version)),
        )
    })?;
    let missing = |what: &str| {
        Failure::new(Kind::Unsupported, format!("package {name} {} brings no {what}", record.version))
            .help("name one that does: `containerd.package.name`")
    };
    let is_assumed = inputs.state.is_none() && record.files.is_empty();
    let path = |known: &[&'static str], what: &str| -> Result<ImagePath, Failure> {
        match known.iter().find(|path| record.files.iter().any(|file| file.as_str() == **path)) {
            Some(path) => Ok(ImagePath::fixed(path)),
            None if is_assumed => Ok(ImagePath::fixed(known[0])),
            None => Err(missing(what)),
        }
    };
    let binary = path(facts.binary.packaged, facts.binary.packaged[0])?;
    let unit = path(facts.unit.packaged, &format!("unit {}", facts.service))?;
    let present = [&binary, &unit].map(|path| (path.clone(), name.to_owned())).to_vec();
    Ok(PackagedRuntime { version: version.to_owned(), present, unit, cni_bin: packaged_cni(inputs)? })
}

/// Returns the directory of the distribution's CNI plugins, unless nodebake installs its own.
fn packaged_cni(inputs: &PackageInputs) -> Result<Option<&'static str>, Failure> {
    if inputs.spec.wants("cni-plugins") {
        return Ok(None);
    }
    for directory in PACKAGED_CNI_BINS {
        if inputs.root.file(&ImagePath::new(&format!("{directory}/loopback"))?)?.is_some() {
            return Ok(Some(directory));
        }
    }
    Ok(None)
}

/// Returns the paths of the plan at which the root has the package's unmodified file or link.
pub(super) fn shipped(
    inputs: &PackageInputs,
    name: &str,
    database: &Database,
) -> anyhow::Result<BTreeSet<ImagePath>> {
    let (root, facts) = (inputs.root, inputs.runtime());
    let mut shipped = BTreeSet::new();
    let Some(record) = database.get(name) else { return Ok(shipped) };
    let config = ImagePath::fixed(facts.config);
    if let (Some(expected), Some(file)) = (record.digests.get(&config), root.file(&config)?)
        && root.may_hash(&config, &file)?
        && database::matches(&file, expected)? == Some(true)
    {
        shipped.insert(config);
    }
    // The package's script enables its unit, with the same link as ours.
    let wants = ImagePath::fixed(facts.wants);
    if let Some(Node::Link { target }) = root.node(&wants)?
        && record.files.iter().any(|file| systemd::is_same_unit(file.as_str(), &target))
    {
        shipped.insert(wants);
    }
    Ok(shipped)
}

/// Reports settings of the package's own config.toml that break a Kubernetes node; nodebake replaces the file.
pub(super) fn warn_of_config_flaws(
    inputs: &PackageInputs,
    name: &str,
    shipped: &BTreeSet<ImagePath>,
) -> Result<(), Failure> {
    let runtime = inputs.spec.runtime().unwrap_or_default();
    let config = ImagePath::fixed(runtime.facts().config);
    if !shipped.contains(&config) {
        return Ok(());
    }
    let text = inputs.root.text(&config, LONGEST_TEXT)?.unwrap_or_default();
    for wrong in runtime.flaws(&text) {
        inputs.fetcher.progress.step(&format!("{config} of package {name} {wrong}: it is replaced"));
    }
    Ok(())
}
