//! Paths inside an image, kept apart from paths on the build host by their type.
//!
//! This module must not look at a filesystem.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Failure, Kind};
use crate::printable::{printable, steers};

/// Longest name of a file that is installed: with `.nodebake-` and `.tmp` around it, it still fits into NAME_MAX.
pub(crate) const LONGEST_COMPONENT: usize = 241;

/// The kernel's limit for one name, in bytes (limits.h).
const NAME_MAX: usize = 255;

/// Absolute, normalised path as seen from inside the image.
///
/// The path starts with `/`, has no empty, `.` or `..` component and no character that steers a terminal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ImagePath(String);

impl ImagePath {
    /// Parses `text`; an error says what is wrong with it.
    pub(crate) fn new(text: &str) -> Result<Self, Failure> {
        let refuse = |why: &str| Failure::new(Kind::Unsafe, format!("path `{}` {why}", printable(text)));
        let Some(relative) = text.strip_prefix('/') else { return Err(refuse("is not absolute")) };
        if text.chars().any(steers) {
            return Err(refuse("has a control character"));
        }
        // Path::components() would drop `.` silently.
        if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(refuse("is not normalised"));
        }
        if relative.split('/').any(|part| part.len() > NAME_MAX) {
            return Err(refuse("has a name that is too long"));
        }
        Ok(ImagePath(text.to_owned()))
    }

    /// Makes a path from a constant of nodebake's own source.
    pub(crate) fn fixed(text: &'static str) -> Self {
        debug_assert!(ImagePath::new(text).is_ok(), "{text}");
        ImagePath(text.to_owned())
    }

    /// Returns the path with one more component.
    pub(crate) fn join(&self, name: &str) -> Result<Self, Failure> {
        ImagePath::new(&format!("{}/{name}", self.0))
    }

    /// Returns the whole path, with its leading slash.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the path without its leading slash, as `*at()` calls on the root's descriptor take it.
    pub(crate) fn relative(&self) -> &str {
        &self.0[1..]
    }

    /// Returns the last component.
    pub(crate) fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Returns the directory above; none for a direct child of the root.
    pub(crate) fn parent(&self) -> Option<ImagePath> {
        let (parent, _) = self.0.rsplit_once('/')?;
        (!parent.is_empty()).then(|| ImagePath(parent.to_owned()))
    }

    /// Returns every directory above, outermost first.
    pub(crate) fn ancestors(&self) -> Vec<ImagePath> {
        let mut all: Vec<_> = std::iter::successors(self.parent(), ImagePath::parent).collect();
        all.reverse();
        all
    }

    /// Returns whether the path lies below `directory`.
    pub(crate) fn is_below(&self, directory: &ImagePath) -> bool {
        self.0.strip_prefix(&directory.0).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Returns the final path of a file that is staged at this one: the reverse of [`ImagePath::temporary`].
    pub(crate) fn settled(&self) -> ImagePath {
        let name = self.name();
        let settled =
            name.strip_prefix(".nodebake-").and_then(|name| name.strip_suffix(".tmp")).unwrap_or(name);
        ImagePath(format!("{}{settled}", &self.0[..self.0.len() - name.len()]))
    }

    /// Returns the path in the same directory at which the file is staged.
    pub(crate) fn temporary(&self) -> ImagePath {
        let name = self.name();
        // Not checked for its length: LONGEST_COMPONENT leaves room.
        ImagePath(format!("{}.nodebake-{name}.tmp", &self.0[..self.0.len() - name.len()]))
    }
}

impl TryFrom<String> for ImagePath {
    type Error = Failure;

    fn try_from(text: String) -> Result<Self, Failure> {
        ImagePath::new(&text)
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Borrow<str> for ImagePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::ImagePath;

    #[test]
    fn only_normalised_absolute_paths_are_paths() {
        for bad in ["", "/", "a", "/a/", "//a", "/a/./b", "/a/../b", "/a\nb", "/a\u{1b}", "/a\u{202e}b"] {
            assert!(ImagePath::new(bad).is_err(), "{bad:?}");
        }
        let path = ImagePath::new("/usr/local/bin/ctr").unwrap();
        assert!(ImagePath::new(&format!("/{}", "n".repeat(256))).is_err());
        assert_eq!(path.temporary().as_str(), "/usr/local/bin/.nodebake-ctr.tmp");
        assert_eq!((path.temporary().settled(), path.settled()), (path.clone(), path.clone()));
        let above: Vec<_> = path.ancestors().iter().map(ToString::to_string).collect();
        assert_eq!(above, ["/usr", "/usr/local", "/usr/local/bin"]);
        assert!(path.is_below(&ImagePath::fixed("/usr")) && !path.is_below(&ImagePath::fixed("/us")));
    }
}
