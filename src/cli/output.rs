//! Writes results to stdout and to files of the user.
//!
//! This module must not format them: `report.rs` and `json.rs` do.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::error::{self, Failure};

/// Replaces a file of the user in one step by a new one, which `write` fills.
pub(super) fn write_beside(
    path: &Path,
    write: impl FnOnce(&File) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let failed = |error: std::io::Error| Failure::filesystem("writing", path.display(), error::errno(&error));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(failed)?;
    write(file.as_file()).map_err(|error| match error.downcast::<std::io::Error>() {
        Ok(error) => failed(error).into(),
        Err(error) => error,
    })?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
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
