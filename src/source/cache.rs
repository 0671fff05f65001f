//! Where downloads are kept: in the cache under their digest, or in a file without a name; never below a root.

use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::OFlags;

use crate::artifact::Artifact;
use crate::error::{Failure, errno};

/// The file that a download grows in. Another run that fetches the same keeps its own.
pub(crate) fn partial(cache: &Option<PathBuf>, artifact: &Artifact) -> anyhow::Result<Partial> {
    if let Some(cache) = cache {
        let failed = |error: io::Error| {
            Failure::filesystem("writing to the cache", cache.display(), errno(&error))
                .help("choose another with --cache-dir")
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(cache).map_err(failed)?;
        let path = cache.join(format!("{}.partial", artifact.sha256));
        // A link in a cache that others can write to must not lead a root process elsewhere.
        let mut options = File::options();
        options.read(true).write(true).truncate(false).mode(0o600).custom_flags(no_follow());
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

pub(crate) fn temporary() -> Result<File, Failure> {
    let failed = |error: io::Error| {
        Failure::filesystem("creating a temporary file in", std::env::temp_dir().display(), errno(&error))
            .help("set TMPDIR to a directory with room for the artifacts")
    };
    tempfile::tempfile().map_err(failed)
}

/// Filesystems that know no owners or modes (vfat, network shares) say here whose all files are.
fn is_ours_alone(metadata: &std::fs::Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o077 == 0
}

pub(crate) fn no_follow() -> i32 {
    i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0)
}

pub(crate) struct Partial {
    pub(super) file: File,
    pub(super) path: Option<PathBuf>,
    /// See [`Fetched::private`].
    pub(super) private: bool,
}
