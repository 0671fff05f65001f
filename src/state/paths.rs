//! Where nodebake keeps what it knows of a root.

use crate::error::Failure;
use crate::path::ImagePath;

/// Where nodebake keeps what it knows of a root.
const DIRECTORY: &str = "/var/lib/nodebake";

/// All files that it holds, beside `original/` and `edited/`.
pub(crate) const FILES: [&str; 5] =
    [".lock", "pending.json", "pending.json.new", "receipt.json", "receipt.json.new"];

pub(crate) fn directory() -> ImagePath {
    ImagePath::fixed(DIRECTORY)
}

/// A file of the state; `name` is one of ours.
pub(crate) fn inside(name: &str) -> ImagePath {
    directory().join(name).unwrap_or_else(|_| directory())
}

pub(crate) fn edited(path: &ImagePath) -> Result<ImagePath, Failure> {
    ImagePath::new(&format!("{DIRECTORY}/edited{path}"))
}

pub(crate) fn original(path: &ImagePath) -> Result<ImagePath, Failure> {
    ImagePath::new(&format!("{DIRECTORY}/original{path}"))
}

/// Whether `path` is a directory above the state.
pub(crate) fn is_above(path: &ImagePath) -> bool {
    directory().is_below(path)
}
