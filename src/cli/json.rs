//! Results as JSON for programs.

use std::path::Path;

use serde::Serialize;

use crate::artifact::Installed;
use crate::cli::report::escape;
use crate::commit::diff::{Action, Change, Diff};
use crate::error::{Kind, kind};
use crate::node::Node;
use crate::plan::from_packages::PackageChange;

/// `--json` of plan and apply.
#[derive(Debug, Serialize)]
pub(super) struct Roots {
    /// One for each --root.
    pub roots: Vec<Baked>,
}

/// What came of one root.
#[derive(Debug, Default, Serialize)]
pub(super) struct Baked {
    root: String,
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failed>,
    /// What `apply --start` did.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// What the package manager did.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    packages: Vec<ChangedPackage>,
    changes: Vec<Changed>,
}

/// A package that was, or would be, installed, changed or removed.
#[derive(Debug, Serialize)]
pub(super) struct ChangedPackage {
    action: &'static str,
    #[serde(flatten)]
    package: Installed,
}

/// A failure: its kind, its message and its remedy.
#[derive(Debug, Serialize)]
pub(super) struct Failed {
    message: String,
    exit_code: u8,
}

/// A path that was, or would be, created, changed or removed.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    path: String,
    action: &'static str,
    #[serde(flatten)]
    node: Option<Node>,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    edited: bool,
}

/// One root's changes.
pub(super) fn baked(host: &Path, diff: &Diff) -> Baked {
    let changes = diff.changes.iter().filter(|change| change.acts()).map(changed).collect();
    let packages = diff.packages.iter().map(changed_package).collect();
    Baked {
        root: host.display().to_string(),
        changed: !diff.is_empty(),
        packages,
        changes,
        ..Baked::default()
    }
}

impl Baked {
    /// With what came of `--start`.
    pub(super) fn started(mut self, started: &anyhow::Result<String>) -> Baked {
        match started {
            Ok(service) => self.service = Some(service.clone()),
            Err(error) => self.error = Some(Failed::of(error)),
        }
        self
    }
}

/// One root's failure.
pub(super) fn failed(host: &Path, error: &anyhow::Error) -> Baked {
    Baked { root: host.display().to_string(), error: Some(Failed::of(error)), ..Baked::default() }
}

impl Failed {
    fn of(error: &anyhow::Error) -> Failed {
        let exit_code = kind(error).map_or(1, Kind::exit_code);
        Failed { message: escape(&format!("{error:#}")), exit_code }
    }
}

/// `--json` of remove.
pub(super) fn removed(host: &Path, diff: Option<&Diff>) -> Baked {
    let mut baked = Baked { root: host.display().to_string(), ..Baked::default() };
    if let Some(diff) = diff {
        baked.changed = !diff.is_empty();
        baked.packages = diff.packages.iter().map(changed_package).collect();
        baked.changes = crate::commit::diff::visible(diff).map(changed).collect();
    }
    baked
}

fn changed_package(change: &PackageChange) -> ChangedPackage {
    let (action, package) = match change {
        PackageChange::Install(package) => ("install", package),
        PackageChange::Upgrade(package, _) => ("upgrade", package),
        PackageChange::Remove(package) => ("remove", package),
        PackageChange::Leave(package) => ("leave", package),
        PackageChange::Hold(package) => ("hold", package),
    };
    ChangedPackage { action, package: package.clone() }
}

pub(crate) fn changed(change: &Change) -> Changed {
    let action = match change.action {
        Action::Keep => "keep",
        Action::Create => "create",
        Action::Replace => "replace",
        Action::Update => "update",
        Action::Remove => "remove",
        Action::Restore => "restore",
        Action::Release => "release",
    };
    let owned = change.new.as_ref().or(change.old.as_ref());
    Changed {
        path: change.path.to_string(),
        action,
        node: change.new.as_ref().map(|new| new.node.clone()),
        component: owned.map(|owned| owned.component.clone()),
        edited: change.edited,
    }
}

/// One JSON document.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}
