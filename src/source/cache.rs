//! The files that downloads are written to: in the cache under their digest, or without a name.
//!
//! This module must not write below a root, or follow links in a cache that others can write to.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::artifact::Artifact;
use crate::error::{Failure, errno};
use crate::progress::Progress;
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

/// Opens the file for a download, and locks it: another run that fetches the same artifact gets one of its own. If
/// something else has the file's name in the cache, the download goes to a file without a name.
pub(super) fn partial(
    cache: &Option<PathBuf>,
    artifact: &Artifact,
    progress: &Progress,
) -> anyhow::Result<Partial> {
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
        match options.clone().create_new(true).open(&path) {
            Ok(file) => {
                let private = is_ours_alone(&file.metadata().map_err(failed)?);
                if file.try_lock().is_ok() {
                    return Ok(Partial { file, path: Some(path), private });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match left(&options, &path) {
                Ok(Left::Free(file)) => return Ok(Partial { file, path: Some(path), private: false }),
                Ok(Left::Locked) => {}
                Err(why) => unusable(progress, &path, &why.to_string()),
            },
            Err(error) => return Err(failed(error).into()),
        }
    }
    let file = temporary()?;
    let private = is_ours_alone(&file.metadata()?);
    Ok(Partial { file, path: None, private })
}

/// File that an earlier or another run has left under the name of a partial download.
enum Left {
    /// Nobody uses it: the download goes on from it.
    Free(File),
    /// Another run downloads to it.
    Locked,
}

/// Opens the file that is at `path` in the cache. An error says why it is none that nodebake has made.
fn left(options: &OpenOptions, path: &Path) -> io::Result<Left> {
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(io::Error::other("it is not a regular file with one name"));
    }
    Ok(if file.try_lock().is_ok() { Left::Free(file) } else { Left::Locked })
}

/// Gives a finished download its name in the cache. Something else that has the name, such as a directory, only costs
/// the next run a download.
pub(super) fn keep(cache: &Path, partial: &Path, artifact: &Artifact, progress: &Progress) {
    let path = cache.join(artifact.sha256.to_string());
    if let Err(error) = std::fs::rename(partial, &path) {
        let _ = std::fs::remove_file(partial);
        unusable(progress, &path, &error.to_string());
    }
}

fn unusable(progress: &Progress, path: &Path, why: &str) {
    progress.warn(&format!("`{}` in the cache is not used: {why}; remove it", path.display()));
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
