//! Checks a receipt and an intent field by field: a root's state is input, and only what nodebake could have written
//! itself is believed.
//!
//! This module must not look at a root: it judges the document alone.

use std::collections::BTreeSet;
use std::fmt;

use crate::arch::Arch;
use crate::artifact::{Artifact, Installed};
use crate::catalog;
use crate::node::Node;
use crate::path::ImagePath;
use crate::plan::possible::{self, PlannedNode};
use crate::printable::{printable, steers};
use crate::redacted::redacted;
use crate::spec::package::PackageName;
use crate::state::{Before, Intent, Owned, RESOLV_CONF, Receipt, Step};

/// Length of the longest URL, and of the longest version.
const LONGEST: (usize, usize) = (8192, 128);

/// Field that nodebake would not have written so, and why.
#[derive(Debug)]
pub(super) struct Forged {
    field: String,
    why: String,
}

impl fmt::Display for Forged {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(formatter, "`{}` {}", self.field, self.why)
    }
}

type Checked = Result<(), Forged>;

/// Fails unless nodebake could have written `receipt`.
pub(super) fn receipt(receipt: &Receipt) -> Checked {
    // A run that was killed while packages were installed has not known the architecture.
    let is_bare = receipt.artifacts.is_empty() && receipt.paths.is_empty();
    arch("arch", &receipt.arch, is_bare)?;
    artifacts(&receipt.artifacts)?;
    packages(&receipt.packages)?;
    directories(&receipt.directories)?;
    for (path, entry) in &receipt.paths {
        let field = format!("paths.{path}");
        owned(&field, path, entry)?;
        listed_component(&field, entry, &receipt.artifacts)?;
    }
    Ok(())
}

/// Fails unless nodebake could have written `intent`.
pub(super) fn intent(intent: &Intent) -> Checked {
    arch("arch", &intent.arch, intent.artifacts.is_empty() && intent.paths.is_empty())?;
    artifacts(&intent.artifacts)?;
    packages(&intent.packages)?;
    directories(&intent.directories)?;
    if let Some(placeholder) = intent.placeholder.as_ref().filter(|path| path.as_str() != RESOLV_CONF) {
        return forged("placeholder", format!("can't be `{placeholder}`"));
    }
    for (path, change) in &intent.paths {
        step(&format!("paths.{path}"), path, change, &intent.artifacts)?;
    }
    Ok(())
}

/// Fails unless nodebake could have made this step at `path`.
fn step(field: &str, path: &ImagePath, change: &Step, artifacts: &[Artifact]) -> Checked {
    let Step { temporary, old, new, acts } = change;
    for (name, entry) in [("old", old), ("new", new)] {
        if let Some(entry) = entry {
            owned(&format!("{field}.{name}"), path, entry)?;
        }
    }
    // Recovery removes the temporary file without a further question.
    let staged = (*acts && is_staged(old.as_ref(), new.as_ref())).then(|| path.temporary());
    if *temporary != staged {
        let wanted = staged.map_or("has no place here".to_owned(), |path| format!("must be `{path}`"));
        return forged(&format!("{field}.temporary"), wanted);
    }
    match (old, new) {
        (None, None) => forged(field, "has neither `old` nor `new`"),
        (Some(old), Some(new)) if old.before != new.before => {
            forged(&format!("{field}.new.before"), "is not that of `old`")
        }
        (_, Some(new)) => {
            let listed = |digest| artifacts.iter().any(|artifact| artifact.sha256 == digest);
            if new.artifact.is_some_and(|digest| !listed(digest)) {
                return forged(&format!("{field}.new.artifact"), "is not one of `artifacts`");
            }
            listed_component(&format!("{field}.new"), new, artifacts)
        }
        (Some(_), None) => Ok(()),
    }
}

/// Returns whether a step that changes the root writes a file or a link under a temporary name.
fn is_staged(old: Option<&Owned>, new: Option<&Owned>) -> bool {
    match (old, new) {
        (_, Some(new)) => matches!(new.node, Node::File { .. } | Node::Link { .. }),
        (Some(old), None) => old.before == Before::Saved,
        (None, None) => false,
    }
}

/// Fails unless a plan can have `entry` at `path`, and it can have replaced what it says.
fn owned(field: &str, path: &ImagePath, entry: &Owned) -> Checked {
    let Owned { node, component, artifact, member, before, .. } = entry;
    let planned =
        PlannedNode { path, node, component, from_artifact: artifact.is_some(), member: member.as_deref() };
    if let Err((part, why)) = planned.check() {
        let part = part.map(|part| format!(".{part}")).unwrap_or_default();
        return forged(&format!("{field}{part}"), why);
    }
    let fits = match before {
        Before::Nothing => true,
        Before::Saved => matches!(node, Node::File { .. } | Node::Link { .. }),
        Before::Directory(..) => matches!(node, Node::Directory { .. }),
    };
    if fits { Ok(()) } else { forged(&format!("{field}.before"), "is of another type than what replaced it") }
}

/// Fails if a listed artifact of another component is named as origin.
fn listed_component(field: &str, entry: &Owned, artifacts: &[Artifact]) -> Checked {
    let origin = artifacts.iter().find(|artifact| Some(artifact.sha256) == entry.artifact);
    match origin.filter(|artifact| artifact.component != entry.component) {
        Some(other) => forged(&format!("{field}.artifact"), format!("is that of {}", other.component)),
        None => Ok(()),
    }
}

fn artifacts(artifacts: &[Artifact]) -> Checked {
    let mut seen = BTreeSet::new();
    for (index, artifact) in artifacts.iter().enumerate() {
        let Artifact { component, build, version, arch: of, url, .. } = artifact;
        let field = |name: &str| format!("artifacts.{index}.{name}");
        let Some(known) = catalog::components().get(build) else {
            return forged(&field("build"), format!("`{}` is not in the catalogue", printable(build)));
        };
        if known.build_of.as_ref().unwrap_or(build) != component {
            return forged(&field("component"), format!("`{}` has no build `{build}`", printable(component)));
        }
        if !seen.insert(component) {
            return forged(&field("component"), format!("`{component}` stands there twice"));
        }
        if version.len() > LONGEST.1 || semver::Version::parse(version).is_err() {
            return forged(&field("version"), format!("`{}` is not X.Y.Z", printable(version)));
        }
        arch(&field("arch"), of, false)?;
        let is_plain = !url.is_empty() && !url.chars().any(|c| steers(c) || c.is_whitespace());
        if url.len() > LONGEST.0 || !is_plain || redacted(url) != *url {
            return forged(&field("url"), "is not a plain URL without credentials and query");
        }
    }
    Ok(())
}

/// Fails unless the packages have names and versions that package managers use: they reach command lines.
fn packages(packages: &[Installed]) -> Checked {
    let is_word = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-+~:_^%".contains(c);
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(allowed)
    };
    for (index, Installed { name, version, architecture, .. }) in packages.iter().enumerate() {
        let named = [
            ("name", name, PackageName::try_from(name.clone()).is_ok()),
            ("version", version, is_word(version)),
            // rpm's keys are packages without one.
            ("architecture", architecture, is_word(architecture) || architecture == "(none)"),
        ];
        for (part, text, fits) in named {
            if !fits || text.len() > LONGEST.1 {
                let why = format!("`{}` is none that a package has", printable(text));
                return forged(&format!("packages.{index}.{part}"), why);
            }
        }
    }
    Ok(())
}

fn directories(directories: &BTreeSet<ImagePath>) -> Checked {
    for path in directories {
        if let Err(why) = possible::check_directory(path) {
            return forged("directories", format!("has `{path}`, which {why}"));
        }
    }
    Ok(())
}

/// Fails unless `text` is Go's name of an architecture, or empty where that is allowed.
fn arch(field: &str, text: &str, may_be_empty: bool) -> Checked {
    let is_name = text.parse::<Arch>().is_ok_and(|arch| arch.name() == text);
    match is_name || (may_be_empty && text.is_empty()) {
        true => Ok(()),
        false => forged(field, format!("`{}` is no architecture's name", printable(text))),
    }
}

fn forged(field: &str, why: impl Into<String>) -> Checked {
    Err(Forged { field: field.to_owned(), why: why.into() })
}
