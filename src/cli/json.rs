//! Formats results as JSON for programs. A field's name must not change: scripts read it.

use std::path::Path;

use serde::Serialize;

use crate::artifact::Installed;
use crate::bake::job::Report;
use crate::cli::report::escape;
use crate::commit::diff::{self, Action, Change, Diff};
use crate::error::{Kind, kind};
use crate::node::Node;
use crate::plan::from_packages::PackageChange;
use crate::printable::steers;

/// Document of `plan --json` and `apply --json`.
#[derive(Debug, Serialize)]
pub(super) struct Roots {
    /// Results, one for each --root.
    pub roots: Vec<Baked>,
}

/// Result of one root.
#[derive(Debug, Default, Serialize)]
pub(super) struct Baked {
    root: String,
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failed>,
    /// Result of `apply --start`.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// Changes of packages.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    packages: Vec<ChangedPackage>,
    changes: Vec<Changed>,
}

/// Package that was, or would be, installed, changed or removed.
#[derive(Debug, Serialize)]
struct ChangedPackage {
    action: &'static str,
    #[serde(flatten)]
    package: Installed,
}

/// Failure of a root, with the exit code that it has by itself.
#[derive(Debug, Serialize)]
struct Failed {
    message: String,
    exit_code: u8,
}

/// Path that was, or would be, created, changed or removed.
#[derive(Debug, Serialize)]
struct Changed {
    path: String,
    action: &'static str,
    #[serde(flatten)]
    node: Option<Node>,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    edited: bool,
    /// The path is on a mount that no bake uses, and is kept.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unreachable: bool,
}

/// Returns the result of a root that was baked or planned.
pub(super) fn baked(host: &Path, Report { diff, started, .. }: &Report) -> Baked {
    let changes = diff.changes.iter().filter(|change| change.acts()).map(changed).collect();
    let packages = diff.packages.iter().map(changed_package).collect();
    Baked {
        root: host.display().to_string(),
        changed: !diff.is_empty(),
        error: started.as_ref().and_then(|started| started.as_ref().err()).map(Failed::of),
        service: started.as_ref().and_then(|started| started.as_ref().ok()).cloned(),
        packages,
        changes,
    }
}

/// Returns the result of a root that failed.
pub(super) fn failed(host: &Path, error: &anyhow::Error) -> Baked {
    Baked { root: host.display().to_string(), error: Some(Failed::of(error)), ..Baked::default() }
}

impl Failed {
    fn of(error: &anyhow::Error) -> Failed {
        let exit_code = kind(error).map_or(1, Kind::exit_code);
        Failed { message: escape(&format!("{error:#}")), exit_code }
    }
}

/// Returns the document of `remove --json`.
pub(super) fn removed(host: &Path, diff: Option<&Diff>) -> Baked {
    let mut baked = Baked { root: host.display().to_string(), ..Baked::default() };
    if let Some(diff) = diff {
        baked.changed = !diff.is_empty();
        baked.packages = diff.packages.iter().map(changed_package).collect();
        baked.changes = diff::visible(diff).map(changed).collect();
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

fn changed(change: &Change) -> Changed {
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
        unreachable: change.unreachable,
    }
}

/// Formats a JSON document. A character that steers a terminal is escaped: the value is the same, and nothing of a root
/// turns what is shown around.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    // The only raw control characters are the line breaks between values.
    let escaped = text.chars().fold(String::with_capacity(text.len() + 1), |mut text, c| {
        match steers(c) && c != '\n' {
            true => text += &format!("\\u{:04x}", u32::from(c)),
            false => text.push(c),
        }
        text
    });
    Ok(escaped + "\n")
}

#[cfg(test)]
mod tests {
    use super::json;

    #[test]
    fn r21_json_has_no_character_that_steers_a_terminal() {
        let steering =
            (0..0x20).chain(0x7f..0xa0).chain([0x61c]).chain(0x200e..=0x202e).chain(0x2066..=0x2069);
        let all: String = steering.filter_map(char::from_u32).chain(['"', '\\', 'é', '😀']).collect();
        let text = json(&[&all]).unwrap();
        let raw: Vec<char> =
            text.chars().filter(|c| !c.is_ascii_graphic() && !" \né😀".contains(*c)).collect();
        assert!(raw.is_empty(), "{raw:?}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), [all]);
    }
}
