//! Files that config.toml imports: they are read after it, and win.
//!
//! This module must not know a key: `runtime` does.
//!
//! Source: `resolveImports` in cmd/containerd/server/config/config.go of 2.0 to 2.3: a pattern is one only with a `*`, which
//! a directory and a hidden file match as well, and a named file must be there.

use std::collections::{BTreeSet, VecDeque};

use toml_edit::{Item, Value};

use crate::error::{Failure, Kind};
use crate::format::{systemd::glob, toml};
use crate::path::ImagePath;
use crate::precedence::{Conflict, Ours, if_safe};
use crate::root::Root;
use crate::runtime::Runtime;

/// Limit of the files that are imported.
const MOST_FILES: usize = 200;

/// Limit of the conflicts that are told.
const MOST_TOLD: usize = 100;

/// Remedy for a file that containerd can't read.
const REMOVE: &str = "mend it, or remove it";

/// Returns the imported files with which containerd does not start, serves no CRI, gives its sockets away, or does not
/// find other files of the bake.
pub(crate) fn conflicts(root: &Root, ours: &Ours) -> Result<Vec<Conflict>, Failure> {
    let Some(runtime) = ours.runtime() else { return Ok(Vec::new()) };
    let config = ImagePath::fixed(runtime.facts().config);
    let Some(text) = ours.text(root, &config)? else { return Ok(Vec::new()) };
    let (mut texts, mut paths, mut found) = (Vec::new(), Vec::new(), Vec::new());
    let mut left = VecDeque::from(imported(root, &config, &text, &mut found)?);
    let (mut seen, mut together) = (BTreeSet::from([config.clone()]), String::new());
    while let Some(path) = left.pop_front() {
        if !seen.insert(path.clone()) {
            continue;
        }
        if seen.len() > MOST_FILES {
            found.push(Conflict::unread(&path, &format!("more than {MOST_FILES} files are imported")));
            break;
        }
        match if_safe(root.linked_text(&path, toml::LONGEST)) {
            Ok(Some(fragment)) => {
                together += &fragment;
                if let Some(why) = toml::excess(&together) {
                    let why = format!("what is imported {why} together");
                    found.push(Conflict::unread(&path, &why));
                    break;
                }
                // Its own imports come after all of those that are known.
                left.extend(imported(root, &path, &fragment, &mut found)?);
                texts.push(fragment);
                paths.push(path);
            }
            Ok(None) => {
                let problem =
                    "is no file, and containerd does not start with it among its imports".to_owned();
                found.push(Conflict::new(&path, None, problem, REMOVE));
            }
            Err(failure) if failure.kind == Kind::Invalid => {
                let why = format!("it is no text in UTF-8 of at most {} bytes", toml::LONGEST);
                found.push(Conflict::unread(&path, &why));
            }
            Err(failure) => return Err(failure),
        }
    }
    found.extend(broken(runtime, ours, &text, &texts, &paths));
    Ok(shortened(found, &config))
}

/// Leaves the first of very many conflicts, and says how many there are more.
fn shortened(mut found: Vec<Conflict>, config: &ImagePath) -> Vec<Conflict> {
    let more = found.len().saturating_sub(MOST_TOLD);
    if more > 0 {
        found.truncate(MOST_TOLD);
        let problem = format!("imports files with {more} more problems");
        found.push(Conflict::new(config, None, problem, REMOVE));
    }
    found
}

/// Returns the problems that each of the files at `paths` adds to those of the configuration.
fn broken<'a>(
    runtime: Runtime,
    ours: &Ours,
    text: &str,
    texts: &[String],
    paths: &'a [ImagePath],
) -> impl Iterator<Item = Conflict> + use<'a> {
    let version = ours.version(runtime).unwrap_or_default();
    let problems = runtime.fragment_problems(version, text, texts, ours.promises());
    problems.into_iter().map(|(index, problem)| {
        let why = format!("is read after config.toml: {}", problem.why);
        Conflict::new(&paths[index], None, why, &problem.help)
    })
}

/// Returns the files that the file at `importing` imports, in containerd's order. Adds what keeps it from starting to
/// `found`.
fn imported(
    root: &Root,
    importing: &ImagePath,
    text: &str,
    found: &mut Vec<Conflict>,
) -> Result<Vec<ImagePath>, Failure> {
    let document = toml::document(text).unwrap_or_default();
    let imports = document.get("imports").and_then(Item::as_array).into_iter().flatten();
    let mut files = Vec::new();
    for import in imports.filter_map(Value::as_str) {
        let path = match import.strip_prefix('/') {
            Some(_) => ImagePath::new(import),
            None => beside(importing, import),
        };
        let Ok(path) = path else { continue };
        let Some(directory) = path.parent() else { continue };
        let named = match path.name().contains('*') {
            true => if_safe(root.names(&directory, |name| glob(path.name(), name)))?,
            false => vec![path.name().to_owned()],
        };
        files.extend(named.iter().filter_map(|name| directory.join(name).ok()));
        if files.len() > MOST_FILES {
            found.push(Conflict::unread(&directory, &format!("it has more than {MOST_FILES} files")));
            files.truncate(MOST_FILES);
            break;
        }
    }
    Ok(files)
}

/// Returns the path `import`, which is relative to the file at `importing`, without `.` and `..`, as Go's `path.Join` does.
fn beside(importing: &ImagePath, import: &str) -> Result<ImagePath, Failure> {
    let mut directory = importing.parent();
    let mut names = Vec::new();
    for name in import.split('/') {
        match name {
            "" | "." => {}
            ".." if names.pop().is_none() => directory = directory.and_then(|directory| directory.parent()),
            ".." => {}
            name => names.push(name),
        }
    }
    let names = names.join("/");
    match directory {
        Some(directory) => directory.join(&names),
        None => ImagePath::new(&format!("/{names}")),
    }
}
