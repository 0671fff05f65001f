//! The files that downloads are written to: in the cache under their digest, or without a name.
//!
//! This module must not write below a root, or follow links in a cache that others can write to.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::OFlags;

use crate::artifact::Artifact;
use crate::error::{Failure, errno};
use crate::source::open::raw;

/// Partial download.
pub(super) struct Partial {
    /// File that the download is written to.
    pub file: File,
    /// Path in the cache; none for a file without a name.
    pub path: Option<PathBuf>,
    /// Nobody else can have opened the file; see [`Fetched::private`](crate::source::fetch::Fetched).
    pub private: bool,
}

/// Opens the file for a download, and locks it: another run that fetches the same artifact gets one of its own.
pub(super) fn partial(cache: &Option<PathBuf>, artifact: &Artifact) -> anyhow::Result<Partial> {
    if let Some(cache) = cache {
        let failed = |error: io::Error| {
            Failure::filesystem("writing to the cache", cache.display(), errno(&error))
                .help("choose another with --cache-dir")
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(cache).map_err(failed)?;
        let path = cache.join(format!("{}.partial", artifact.sha256));
        // In a cache that others can write to, a link must not lead a root process elsewhere.
        let mut options = File::options();
        options
            .read(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(raw(OFlags::NOFOLLOW | OFlags::NONBLOCK));
        let (opened, private) = match options.clone().create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (options.create(true).open(&path), false)
            }
            new => (new, true),
        };
        let file = opened.map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_file() && metadata.nlink() == 1 && file.try_lock().is_ok() {
            let private = private && is_ours_alone(&metadata);
            return Ok(Partial { file, path: Some(path), private });
        }
    }
    let file = temporary()?;
    let private = is_ours_alone(&file.metadata()?);
    Ok(Partial { file, path: None, private })
}

/// Opens a file without a name in the directory for temporary files.
pub(super) fn temporary() -> Result<File, Failure> {
    let failed = |error: io::Error| {
        Failure::filesystem("creating a temporary file in", std::env::temp_dir().display(), errno(&error))
            .help("set TMPDIR to a directory with room for the artifacts")
    };
    tempfile::tempfile().map_err(failed)
}

/// Returns whether the file is this user's and closed to others. The answer comes from the file, not from how it
/// was made: filesystems without owners or modes (vfat, network shares) ignore the latter.
fn is_ours_alone(metadata: &std::fs::Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 == 0
}
