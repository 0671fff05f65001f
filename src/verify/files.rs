//! Checks that files are as they were installed, and that executables fit the root.
//!
//! This module must not run them.

use crate::arch::Arch;
use crate::error::Failure;
use crate::format::elf;
use crate::interrupt;
use crate::node::Node;
use crate::path::ImagePath;
use crate::printable::printable;
use crate::root::{Root, target};
use crate::state::{self, Receipt};
use crate::verify::finding::{APPLY, CheckResult, Finding};

/// Checks that every owned path is as it was installed, and that the receipt owns what its artifacts must have.
pub(crate) fn drift(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let mut findings = differing(root, receipt, "receipt")?;
    for artifact in &receipt.artifacts {
        let owned = |path: &ImagePath| receipt.paths.get(path).map(|owned| &owned.node);
        let required = artifact.required().filter(|path| owned(path).is_none());
        findings.extend(required.map(|path| {
            Finding::new("receipt", Some(&path), format!("is missing, and {artifact} has it"), APPLY)
        }));
        for (path, (_, digest)) in artifact.pinned() {
            if !matches!(owned(&path), Some(Node::File { sha256, .. }) if *sha256 == digest) {
                let problem = format!("is not {artifact}: expected sha256 {digest}");
                findings.push(Finding::new("receipt", Some(&path), problem, APPLY));
            }
        }
    }
    Ok(CheckResult::of(findings, format!("{} paths as they were baked", receipt.paths.len())))
}

/// Returns a finding of `check` for every path that is not as `receipt` has it.
pub(super) fn differing(
    root: &Root,
    receipt: &Receipt,
    check: &'static str,
) -> Result<Vec<Finding>, Failure> {
    let found = state::survey(root, receipt)?;
    let differing = receipt.paths.iter().filter_map(|(path, owned)| {
        let node = found.get(path).cloned().flatten();
        let problem = difference(&owned.node, node.as_ref())?;
        Some(Finding::new(check, Some(path), problem, APPLY))
    });
    Ok(differing.collect())
}

/// Returns how `found` differs from `wanted`.
fn difference(wanted: &Node, found: Option<&Node>) -> Option<String> {
    let Some(found) = found else { return Some("is missing".to_owned()) };
    match (wanted, found) {
        (a, b) if a == b => None,
        // The check `packages` compares the content.
        (Node::Present { .. }, Node::File { .. } | Node::Unread { .. } | Node::Link { .. }) => None,
        (Node::File { .. }, Node::Unread { size, .. }) => {
            Some(format!("content differs: {size} bytes are not what was installed"))
        }
        (Node::File { sha256: a, .. }, Node::File { sha256: b, .. }) if a != b => {
            Some(format!("content differs: sha256 {b}, expected {a}"))
        }
        (Node::File { mode: a, owner: x, .. }, Node::File { mode: b, owner: y, .. })
        | (Node::Directory { mode: a, owner: x }, Node::Directory { mode: b, owner: y }) => {
            Some(format!("mode {:04o} {}:{}, expected {:04o} {}:{}", b.0, y.0, y.1, a.0, x.0, x.1))
        }
        (Node::Link { target: a }, Node::Link { target: b }) => {
            Some(format!("links to `{b}`, expected `{a}`"))
        }
        (a, b) => Some(format!("is {}, expected {}", kind(b), kind(a))),
    }
}

/// Names the kind of `node` in a message.
fn kind(node: &Node) -> &'static str {
    match node {
        Node::Directory { .. } => "a directory",
        Node::File { .. } | Node::Unread { .. } => "a file",
        Node::Present { .. } => "a package's file",
        Node::Link { .. } => "a symlink",
        Node::Other => "a FIFO, a socket or a device",
    }
}

/// Checks that every executable is for the root's architecture and finds a C library that is new enough.
pub(crate) fn executable(root: &Root, receipt: &Receipt) -> Result<CheckResult, Failure> {
    let Ok(arch) = receipt.arch.parse::<Arch>() else {
        return Ok(CheckResult::Skipped(format!(
            "unknown architecture `{}` in the receipt",
            printable(&receipt.arch)
        )));
    };
    let glibc = target::glibc(root, arch)?;
    let (mut findings, mut count) = (other_architecture(root, arch), 0);
    for (path, _) in receipt.paths.iter().filter(|(_, owned)| owned.artifact.is_some()) {
        interrupt::check()?;
        count += 1;
        let Some(file) = root.file(path)? else { continue };
        let mut report =
            |problem: String| findings.push(Finding::new("executable", Some(path), problem, APPLY));
        match elf::read(&file) {
            Err(why) => report(format!("is a {why}")),
            Ok(None) => {}
            Ok(Some(elf)) if elf.arch != Some(arch) => report(format!("is not for {arch}")),
            Ok(Some(elf)) => match (elf.needs_glibc, glibc) {
                (Some(needs), Some(gives)) if gives < needs => {
                    report(format!(
                        "needs glibc {}.{}, the root has {}.{}",
                        needs.0, needs.1, gives.0, gives.1
                    ));
                }
                _ => {}
            },
        }
    }
    Ok(CheckResult::of(findings, format!("{count} executables for {arch}")))
}

/// Returns a finding if the root's own executables are not for `arch`, unless the caller allows that.
fn other_architecture(root: &Root, arch: Arch) -> Vec<Finding> {
    let own = target::differing_arch(root, arch).filter(|_| !root.may_be_foreign());
    let finding = |own: Arch| {
        let problem = format!("the root's own executables are for {own}, what is installed is for {arch}");
        let help = format!("bake the root with `arch: {own}`; --foreign allows the difference");
        Finding::new("executable", None, problem, &help)
    };
    own.map(finding).into_iter().collect()
}
