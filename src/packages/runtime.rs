//! The containerd that a package has brought.

use std::collections::BTreeSet;

use crate::error::{Failure, Kind};
use crate::format::systemd;
use crate::node::Node;
use crate::packages::inputs::PackageInputs;
use crate::packages::manager::database::{self, Database};
use crate::packages::manager::version;
use crate::path::ImagePath;
use crate::plan::from_packages::PackagedRuntime;
use crate::printable::printable;
use crate::root::{LONGEST_TEXT, Root};
use crate::runtime::containerd::{self, settings, unit};

/// Where distributions' packages keep CNI plugins, where they are not in /opt/cni/bin.
const PACKAGED_CNI: [&str; 2] = ["/usr/lib/cni", "/usr/libexec/cni"];

/// The containerd that the package has brought, or would bring where only the plan is asked for.
pub(crate) fn runtime(
    inputs: &PackageInputs,
    name: &str,
    database: &Database,
) -> anyhow::Result<PackagedRuntime> {
    let record = database.get(name).cloned().unwrap_or_default();
    let version = version::upstream(&record.version).ok_or_else(|| {
        Failure::new(
            Kind::Unsupported,
            format!("package {name} has version `{}`, not X.Y.Z", printable(&record.version)),
        )
    })?;
    let missing = |what: &str| {
        Failure::new(Kind::Unsupported, format!("package {name} {} brings no {what}", record.version))
            .help("name one that does: `containerd.package.name`")
    };
    let guessed = inputs.state.is_none() && record.files.is_empty();
    let path = |known: &[&'static str], what: &str| -> Result<ImagePath, Failure> {
        match known.iter().find(|path| record.files.iter().any(|file| file.as_str() == **path)) {
            Some(path) => Ok(ImagePath::fixed(path)),
            None if guessed => Ok(ImagePath::fixed(known[0])),
            None => Err(missing(what)),
        }
    };
    let binary = path(&containerd::PACKAGED, "/usr/bin/containerd")?;
    let unit = path(&unit::PACKAGED, "unit containerd.service")?;
    let present = [&binary, &unit].map(|path| (path.clone(), name.to_owned())).to_vec();
    let staged = inputs.spec.wants("cni-plugins");
    let mut cni_bin = None;
    for directory in PACKAGED_CNI {
        let loopback = ImagePath::new(&format!("{directory}/loopback"))?;
        if !staged && cni_bin.is_none() && inputs.root.file(&loopback)?.is_some() {
            cni_bin = Some(directory);
        }
    }
    Ok(PackagedRuntime { version: version.to_owned(), present, unit, cni_bin })
}

/// Files where nodebake's will be and that only the package has put there.
pub(crate) fn shipped(root: &Root, name: &str, database: &Database) -> anyhow::Result<BTreeSet<ImagePath>> {
    let mut shipped = BTreeSet::new();
    let Some(record) = database.get(name) else { return Ok(shipped) };
    let config = ImagePath::fixed(containerd::CONFIG);
    if let (Some(expected), Some(file)) = (record.digests.get(&config), root.file(&config)?)
        && database::matches(&file, expected)? == Some(true)
    {
        shipped.insert(config);
    }
    // Its installation enables it, as ours does.
    let wants = ImagePath::fixed(unit::WANTS);
    if let Some(Node::Link { target }) = root.node(&wants)?
        && record.files.iter().any(|file| systemd::is_same_unit(file.as_str(), &target))
    {
        shipped.insert(wants);
    }
    Ok(shipped)
}

/// What the package's own configuration would do to a node, and ours does not.
pub(crate) fn say_what_is_wrong(
    inputs: &PackageInputs,
    name: &str,
    shipped: &BTreeSet<ImagePath>,
) -> Result<(), Failure> {
    let config = ImagePath::fixed(containerd::CONFIG);
    if !shipped.contains(&config) {
        return Ok(());
    }
    let text = inputs.root.text(&config, LONGEST_TEXT)?.unwrap_or_default();
    for wrong in settings::flaws(&text) {
        inputs.fetcher.progress.step(&format!("{config} of package {name} {wrong}: it is replaced"));
    }
    Ok(())
}
