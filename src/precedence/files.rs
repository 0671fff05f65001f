//! Files that are spread over several directories: of files with one name only that in the first directory counts, and
//! their names order them whatever their directory (systemd's src/basic/conf-files.c, kmod's libkmod-config.c).
//!
//! This module must not know what is in the files.

use std::collections::BTreeMap;

use crate::error::{Failure, Kind};
use crate::path::ImagePath;
use crate::precedence::{Conflict, Ours, if_safe};
use crate::root::Root;

/// Limit of the files of one kind; a distribution has a few dozen.
const MOST_FILES: usize = 10_000;

/// Limit of the bytes of the files of one kind.
const LONGEST_FILES: u64 = 1 << 20;

/// Files of one kind, in the order in which they are read.
#[derive(Default)]
pub(super) struct Files {
    /// Path and text of each.
    pub texts: Vec<(ImagePath, String)>,
    /// What was not read.
    pub unread: Vec<Conflict>,
}

/// Returns the `directories` that are read at boot, in their order. A /run that is mounted below the root is that of the
/// host.
pub(super) fn searched(root: &Root, directories: &[&'static str]) -> Result<Vec<ImagePath>, Failure> {
    let (run, mut searched) = (ImagePath::fixed("/run"), Vec::new());
    for path in directories.iter().map(|path| ImagePath::fixed(path)) {
        let counts = !path.is_below(&run)
            || (if_safe(root.is_directory(&path))?
                && (!if_safe(root.is_mount_point(&run))? || root.is_own()?));
        if counts {
            searched.push(path);
        }
    }
    Ok(searched)
}

/// Reads the files in `directories` whose names end with `suffix`, as they are once the bake is done. One that leads to
/// /dev/null or to nothing hides the others of its name.
pub(super) fn read(
    root: &Root,
    ours: &Ours,
    directories: &[ImagePath],
    suffix: &str,
) -> Result<Files, Failure> {
    let (paths, unread) = by_name(root, ours, directories, suffix)?;
    let (mut files, mut left) = (Files { texts: Vec::new(), unread }, LONGEST_FILES);
    for path in paths.into_values() {
        let text = match ours.planned(&path) {
            Some(text) => Ok(Some(text)),
            None => root.any_text(&path, left),
        };
        match text {
            Ok(text) => {
                let text = text.unwrap_or_default();
                left = left.saturating_sub(text.len() as u64);
                files.texts.push((path, text));
            }
            Err(failure) if failure.kind == Kind::Invalid => {
                let why = format!("it and the files before it have more than {LONGEST_FILES} bytes");
                files.unread.push(Conflict::unread(&path, &why));
                break;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(files)
}

/// Returns the files that count, by name, and the directories that are not read.
pub(super) fn by_name(
    root: &Root,
    ours: &Ours,
    directories: &[ImagePath],
    suffix: &str,
) -> Result<(BTreeMap<String, ImagePath>, Vec<Conflict>), Failure> {
    let (mut files, mut unread) = (BTreeMap::new(), Vec::new());
    let own = ours.paths();
    for directory in directories {
        let wanted = |name: &str| name.ends_with(suffix) && !name.starts_with('.');
        let mut names = match root.names(directory, wanted) {
            Ok(names) => names,
            Err(failure) if failure.kind == Kind::Unsafe => {
                unread.push(Conflict::unread(directory, &failure.to_string()));
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let planned = own.iter().filter(|(path, _)| path.parent().as_ref() == Some(directory));
        names.extend(planned.map(|(path, _)| path.name().to_owned()).filter(|name| wanted(name)));
        for name in names {
            if let Ok(path) = directory.join(&name)
                && !ours.sweeps(&path)
            {
                files.entry(name).or_insert(path);
            }
        }
        if files.len() > MOST_FILES {
            unread.push(Conflict::unread(directory, &format!("it has more than {MOST_FILES} files")));
            return Ok((BTreeMap::new(), unread));
        }
    }
    Ok((files, unread))
}
