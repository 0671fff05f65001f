//! Keeps originals, which existed before the first bake, and users' edits of installed files.
//!
//! This module must not decide what is kept.

use crate::error::{Failure, Kind};
use crate::node::{Node, Octal, Owner};
use crate::path::ImagePath;
use crate::state::State;
use crate::state::paths::{directory, edited, original};

/// Mode of the directories of kept files, which may have been private at their original path.
const KEPT: u32 = 0o700;

impl<'root> State<'root> {
    /// Keeps the node at `path`, which existed before the first bake, until [`State::drop_original`].
    pub(crate) fn keep_original(&self, path: &ImagePath) -> Result<(), Failure> {
        self.keep(path, &original(path)?)
    }

    /// Returns the path where the original of `path` is kept, if it is.
    pub(crate) fn original(&self, path: &ImagePath) -> Result<Option<ImagePath>, Failure> {
        let kept = original(path)?;
        self.refuse_detour(&kept)?;
        Ok(self.root.has(&kept)?.then_some(kept))
    }

    /// Deletes the kept original of `path`, which has been restored or was never replaced.
    pub(crate) fn drop_original(&self, path: &ImagePath) -> Result<(), Failure> {
        let kept = original(path)?;
        self.refuse_detour(&kept)?;
        self.root.remove_file(&kept)?;
        self.prune(&kept)
    }

    /// Keeps an edited file below `edited/` and returns its path there. An earlier edit gets a number.
    pub(crate) fn keep_edited(&self, path: &ImagePath) -> Result<ImagePath, Failure> {
        let kept = edited(path)?;
        self.refuse_detour(&kept)?;
        let earlier = self.root.node(&kept)?;
        if earlier.is_some() && earlier != self.root.node(path)? {
            let mut number = 1;
            let numbered = loop {
                let candidate = edited(&ImagePath::new(&format!("{path}.{number}"))?)?;
                if !self.root.has(&candidate)? {
                    break candidate;
                }
                number += 1;
            };
            self.root.duplicate(&kept, &numbered)?;
        }
        self.keep(path, &kept)?;
        Ok(kept)
    }

    /// Deletes the kept edit of `path` if `path` itself still has the edit.
    pub(crate) fn drop_needless_edit(&self, path: &ImagePath) -> Result<(), Failure> {
        let kept = edited(path)?;
        self.refuse_detour(&kept)?;
        let copy = self.root.node(&kept)?;
        if copy.is_some() && copy == self.root.node(path)? {
            self.root.remove_file(&kept)?;
        }
        self.prune(&kept)
    }

    /// Fails unless everything between the state and `kept` is a directory as nodebake makes it: a link or a mount
    /// there would lead to files that are not the state's.
    fn refuse_detour(&self, kept: &ImagePath) -> Result<(), Failure> {
        for above in kept.ancestors().iter().filter(|above| above.is_below(&directory())) {
            let is_plain = match self.root.node(above)? {
                None => return Ok(()),
                Some(Node::Directory { .. }) => !self.root.is_mount_point(above)?,
                Some(_) => false,
            };
            if !is_plain {
                let message = format!("`{}` is not a directory of nodebake's own", self.root.shown(above));
                return Err(Failure::new(Kind::Unsafe, message)
                    .help("nodebake made a directory there; see who replaced it, and remove it"));
            }
        }
        Ok(())
    }

    fn keep(&self, path: &ImagePath, kept: &ImagePath) -> Result<(), Failure> {
        let saved = self.prepare_path(kept).and_then(|()| self.root.duplicate(path, kept));
        if let Err(failure) = saved {
            let _ = self.prune(kept);
            return Err(failure);
        }
        let state = directory();
        let new = kept.ancestors().into_iter().filter(|above| *above == state || above.is_below(&state));
        new.into_iter().try_for_each(|above| self.root.sync_directory(Some(&above)))
    }

    /// Creates the directories above `kept`, sets their mode in case a killed run did not, and removes a
    /// file at `kept`.
    fn prepare_path(&self, kept: &ImagePath) -> Result<(), Failure> {
        for above in kept.ancestors().iter().filter(|above| above.is_below(&directory())) {
            match self.root.is_directory(above)? {
                true => self.root.set_directory(above, Octal(KEPT), Owner::default())?,
                false => self.root.make_directory(above, KEPT)?,
            }
        }
        self.root.remove_file(kept)
    }

    /// Removes the directories above `kept` that are empty.
    fn prune(&self, kept: &ImagePath) -> Result<(), Failure> {
        for above in kept.ancestors().iter().rev().filter(|above| above.is_below(&directory())) {
            if !self.root.remove_empty_directory(above)? {
                break;
            }
        }
        Ok(())
    }
}
