//! Writes results to stdout and to files of the user.
//!
//! This module must not format them: `report.rs` and `json.rs` do.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tempfile::NamedTempFile;

use crate::error::{self, Failure, Kind};

/// File of the user that will be replaced in one step.
pub(super) struct Output {
    path: PathBuf,
}

impl Output {
    /// Finds out whether the file at `path` can be written, before the work whose result it gets.
    pub(super) fn prepare(path: &Path) -> Result<Output, Failure> {
        let output = Output { path: path.to_owned() };
        // A device or a link would be replaced by a file.
        if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
            let message = format!("`{}` is not a regular file", path.display());
            return Err(Failure::new(Kind::Usage, message).help("name a file; one that is there is replaced"));
        }
        output.temporary().map(|_| output)
    }

    /// Replaces the file by a new one, which `write` fills.
    pub(super) fn replace(&self, write: impl FnOnce(&File) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let file = self.temporary()?;
        write(file.as_file()).map_err(|error| match error.downcast::<std::io::Error>() {
            Ok(error) => self.failed(&error).into(),
            Err(error) => error,
        })?;
        file.as_file().sync_all().map_err(|error| self.failed(&error))?;
        file.persist(&self.path).map_err(|error| self.failed(&error.error))?;
        Ok(())
    }

    /// Makes the new file beside the one that it will replace.
    fn temporary(&self) -> Result<NamedTempFile, Failure> {
        tempfile::Builder::new()
            .permissions(PermissionsExt::from_mode(0o644))
            .tempfile_in(self.folder())
            .map_err(|error| self.failed(&error))
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Makes the failure of a system call. The file is the user's, and not in a root: its remedies are others.
    fn failed(&self, error: &std::io::Error) -> Failure {
        let (errno, folder) = (error::errno(error), self.folder().display());
        let message = format!("writing `{}`: {}", self.path.display(), error::describe(errno));
        let failure = Failure::new(Kind::Filesystem, message);
        match errno {
            Errno::NOENT => failure.help(format!("make the folder `{folder}` first, or name another")),
            Errno::ACCESS | Errno::PERM | Errno::ROFS => {
                failure.help(format!("you can't write to the folder `{folder}`: name another"))
            }
            Errno::NOTDIR => failure.help(format!("`{folder}` is no folder: name another")),
            Errno::NOSPC | Errno::DQUOT => failure.help(format!("free some space in the folder `{folder}`")),
            _ => failure,
        }
    }
}

/// Writes to stdout and returns the exit code 0. A closed pipe is no error, but a full disk is: the message says that
/// the command has done its work.
pub(super) fn print(text: &str) -> anyhow::Result<u8> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(anyhow::Error::new(error).context("writing to stdout; the work itself is done")),
    }
}
