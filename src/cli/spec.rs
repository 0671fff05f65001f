//! Chooses the spec of a run: the one that is named, the one in the working directory, or the built-in one.
//!
//! The built-in spec is used only where nothing says that another was meant: it would take away what that one has
//! installed. This module must not look at more of a root than whether it was baked.

use std::path::{Path, PathBuf};

use crate::cli::input::{Input, read};
use crate::error::{Failure, Kind};
use crate::printable::printable;
use crate::progress::Progress;
use crate::root::Root;
use crate::spec::Spec;
use crate::state;

/// Name of the spec in the working directory.
const DEFAULT_SPEC: &str = "nodebake.yaml";

/// Remedy where the built-in spec may not be meant.
const HELP: &str = "give the spec as --spec FILE, or say --defaults if the built-in one is meant";

/// Reads the spec that the flags choose. Returns also its folder.
pub(super) fn load_spec(input: &Input, progress: &Progress) -> anyhow::Result<(Spec, PathBuf)> {
    let here = Path::new(".");
    if input.defaults {
        return Ok((Spec::parse("", "the built-in spec", here)?, here.to_owned()));
    }
    let path = input.spec.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_SPEC));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(here);
    let text = match read(&path)? {
        Some(text) => text,
        None if input.spec.is_none() => {
            refuse_similar(here)?;
            progress.step(&format!("no --spec, and no `{DEFAULT_SPEC}` here: the built-in spec is used"));
            String::new()
        }
        None => {
            let message = format!("spec `{}` does not exist", path.display());
            let help = match similar(folder) {
                Some(name) => format!("there is `{}`", folder.join(name).display()),
                None => "write one, or give --defaults in its place".to_owned(),
            };
            return Err(Failure::new(Kind::Invalid, message).help(help).into());
        }
    };
    Ok((Spec::parse(&text, &path.display().to_string(), folder)?, folder.to_owned()))
}

/// Fails with [`Kind::Usage`] if no spec is given and one of the roots was baked before.
pub(super) fn require_spec_for_baked(input: &Input, roots: &[PathBuf]) -> Result<(), Failure> {
    let is_given = input.defaults || input.spec.is_some() || Path::new(DEFAULT_SPEC).exists();
    if is_given {
        return Ok(());
    }
    refuse_similar(Path::new("."))?;
    match roots.iter().find(|root| is_baked(root)) {
        None => Ok(()),
        Some(root) => {
            let message = format!(
                "root `{}` was baked before, and there is no spec: neither --spec nor `{DEFAULT_SPEC}` here",
                root.display()
            );
            Err(Failure::new(Kind::Usage, message).help(HELP))
        }
    }
}

/// Returns whether nodebake has baked the root at `host`, or has begun to, even if what it has left there can't be read.
/// A root that is none is told by the bake.
fn is_baked(host: &Path) -> bool {
    let Ok(root) = Root::open(host) else { return false };
    !matches!(state::receipt(&root), Ok(None)) || !matches!(state::intent(&root), Ok(None))
}

/// Fails with [`Kind::Usage`] if a file in `folder` is named like a spec.
fn refuse_similar(folder: &Path) -> Result<(), Failure> {
    let Some(name) = similar(folder) else { return Ok(()) };
    let message = format!("no --spec, and no `{DEFAULT_SPEC}` here, but `{}`", printable(&name));
    Err(Failure::new(Kind::Usage, message).help(HELP))
}

/// Returns the first file in `folder` that is named like a spec.
fn similar(folder: &Path) -> Option<String> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()));
    files.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_similar(name)).min()
}

/// Returns whether `name` is like that of a spec: `nodebake.yml`, `Nodebake.yaml`, `nodebake-worker.yaml`,
/// `nodebake.yaml.j2`.
fn is_similar(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_yaml = [".yaml", ".yml", ".json"].into_iter().any(|ending| name.contains(ending));
    is_yaml && name.contains("nodebake") && !name.contains("schema")
}

#[cfg(test)]
mod tests {
    use super::is_similar;

    #[test]
    fn names_like_that_of_a_spec() {
        for name in ["nodebake.yml", "Nodebake.yaml", ".nodebake.yaml", "nodebake-a.yaml", "nodebake.yaml.j2"]
        {
            assert!(is_similar(name), "{name}");
        }
        for name in ["nodebake.lock", "nodebake", "nodebake.schema.json", "site.yaml", "nodebake.tar"] {
            assert!(!is_similar(name), "{name}");
        }
    }
}
