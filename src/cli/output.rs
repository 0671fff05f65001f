//! Where results go: stdout, and files of the user's.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::error::{self, Failure};

/// Replaces a file of the user's in one step, by what `write` makes.
pub(crate) fn write_beside(
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

/// Writes to stdout. A reader that has gone away is no error; a full disk is, after the work is done.
pub(crate) fn print(text: &str) -> anyhow::Result<u8> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(anyhow::Error::new(error).context("writing to stdout; the work itself is done")),
    }
}
