//! Kernel modules of the bake that an installed kernel does not have.
//!
//! This module must not know how modules are loaded: `modules.rs` does.

use std::collections::BTreeSet;

use crate::error::{Failure, Kind};
use crate::format::modprobe::indexed;
use crate::interrupt;
use crate::node::Node;
use crate::path::ImagePath;
use crate::precedence::{Conflict, Ours, if_safe, modules};
use crate::printable::printable;
use crate::root::Root;

/// Limit of an index of modules in bytes; that of a distribution's kernel has less than one megabyte.
const LONGEST_INDEX: u64 = 4 << 20;

/// Limit of the kernels that are looked at.
const MOST_KERNELS: usize = 64;

/// Remedy for a module that the distribution has in another package.
const INSTALL: &str = "install the package with the kernel's other modules (kernel-modules-extra, or \
    linux-modules-extra-VERSION), or take the module out of the spec's `kernel.modules`";

/// Remedy for an index that is not that of the kernel's directory.
const DEPMOD: &str = "run depmod for this kernel, or remove its directory";

/// Finds the kernels that lack a module of the bake. A root without a kernel has none.
pub(crate) fn conflicts(root: &Root, ours: &Ours) -> Result<Vec<Conflict>, Failure> {
    let wanted = modules::wanted(root, ours)?;
    let mut found = Vec::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    let wanted: BTreeSet<String> = wanted.into_iter().collect();
    for kernel in kernels(root)? {
        interrupt::check()?;
        found.extend(lacking(root, &kernel, &wanted)?);
    }
    Ok(found)
}

/// Returns the directories of the installed kernels.
fn kernels(root: &Root) -> Result<Vec<ImagePath>, Failure> {
    let mut kernels = Vec::new();
    let is_merged = matches!(root.node(&ImagePath::fixed("/lib"))?, Some(Node::Link { .. }));
    for directory in ["/usr/lib/modules", "/lib/modules"].into_iter().take(if is_merged { 1 } else { 2 }) {
        let directory = ImagePath::fixed(directory);
        let names = if_safe(root.names(&directory, |_| true))?;
        kernels.extend(names.iter().filter_map(|name| directory.join(name).ok()));
    }
    kernels.truncate(MOST_KERNELS);
    Ok(kernels)
}

/// Returns what the kernel in `directory` lacks.
fn lacking(root: &Root, directory: &ImagePath, wanted: &BTreeSet<String>) -> Result<Vec<Conflict>, Failure> {
    let version = printable(directory.name());
    let mut missing: BTreeSet<&String> = wanted.iter().collect();
    if let Some(builtin) = index(root, directory, "modules.builtin")? {
        for (name, _) in indexed(&builtin) {
            missing.remove(&name);
        }
    }
    let Some(dep) = index(root, directory, "modules.dep")? else {
        let has = |name: &str| directory.join(name).and_then(|path| root.has(&path));
        let is_kernel = has("kernel")? && !has("modules.dep.bin")?;
        let problem = format!("has no modules.dep, so that no module of kernel `{version}` is found");
        let conflict = Conflict::new(directory, None, problem, DEPMOD);
        return Ok((is_kernel && !missing.is_empty()).then_some(conflict).into_iter().collect());
    };
    let (file, mut found) = (directory.join("modules.dep")?, Vec::new());
    for (number, line) in dep.lines().enumerate() {
        let Some((name, path)) = indexed(line).next() else { continue };
        let Some(name) = missing.take(&name) else { continue };
        let path = if path.starts_with('/') { ImagePath::new(path) } else { directory.join(path) };
        if path.is_ok_and(|path| root.file(&path).is_ok_and(|file| file.is_none())) {
            let problem = format!("names module `{name}` of kernel `{version}`, and the module is not there");
            found.push(Conflict::new(&file, number + 1, problem, DEPMOD));
        }
    }
    let absent = |name: &&String| {
        Conflict::new(&file, None, format!("shows that kernel `{version}` has no module `{name}`"), INSTALL)
    };
    found.extend(missing.iter().map(absent));
    Ok(found)
}

/// Reads an index of the kernel in `directory`; none if there is none that can be read.
fn index(root: &Root, directory: &ImagePath, name: &str) -> Result<Option<String>, Failure> {
    match root.any_text(&directory.join(name)?, LONGEST_INDEX) {
        Err(failure) if failure.kind == Kind::Invalid => Ok(None),
        text => text,
    }
}
