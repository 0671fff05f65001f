//! Paths of nodebake's state in a root. This module must not open one.

use crate::error::Failure;
use crate::path::ImagePath;
use crate::reserved::STATE;

/// Name of the lock.
pub(super) const LOCK: &str = ".lock";

/// Names of all files in the directory, which also contains `original/` and `edited/`.
pub(super) const FILES: [&str; 5] =
    [LOCK, "pending.json", "pending.json.new", "receipt.json", "receipt.json.new"];

/// Returns the directory of the state.
pub(super) fn directory() -> ImagePath {
    ImagePath::fixed(STATE)
}

/// Returns the path of `name`, a constant of this folder, in the directory.
pub(super) fn inside(name: &str) -> ImagePath {
    directory().join(name).unwrap_or_else(|_| directory())
}

/// Returns the path where the edit of `path` is kept.
pub(super) fn edited(path: &ImagePath) -> Result<ImagePath, Failure> {
    ImagePath::new(&format!("{STATE}/edited{path}"))
}

/// Returns the path where the original of `path` is kept.
pub(super) fn original(path: &ImagePath) -> Result<ImagePath, Failure> {
    ImagePath::new(&format!("{STATE}/original{path}"))
}

/// Returns whether `path` is a directory above the state.
pub(crate) fn is_above(path: &ImagePath) -> bool {
    directory().is_below(path)
}
