//! What was there before the first bake, and what was edited since.

use crate::error::Failure;
use crate::node::{Octal, Owner};
use crate::path::ImagePath;
use crate::state::State;
use crate::state::paths::{directory, edited, original};

/// Directories of what is kept: it may have been private where it was.
const KEPT: u32 = 0o700;

impl<'root> State<'root> {
    /// Keeps what is at `path`, from before the first bake, until [`State::drop_original`].
    pub(crate) fn keep_original(&self, path: &ImagePath) -> Result<(), Failure> {
        self.keep(path, &original(path)?)
    }

    /// Where the original of `path` is kept, if it is.
    pub(crate) fn original(&self, path: &ImagePath) -> Result<Option<ImagePath>, Failure> {
        let kept = original(path)?;
        Ok(self.root.node(&kept)?.map(|_| kept))
    }

    /// Forgets the original of `path`: it is in its place again, or has never left it.
    pub(crate) fn drop_original(&self, path: &ImagePath) -> Result<(), Failure> {
        let kept = original(path)?;
        self.root.remove_file(&kept)?;
        self.prune(&kept)
    }

    /// Keeps an edited file under `edited/` and says where. An earlier edit of it is numbered.
    pub(crate) fn keep_edited(&self, path: &ImagePath) -> Result<ImagePath, Failure> {
        let kept = edited(path)?;
        let earlier = self.root.node(&kept)?;
        if earlier.is_some() && earlier != self.root.node(path)? {
            let mut number = 1;
            let numbered = loop {
                let candidate = edited(&ImagePath::new(&format!("{path}.{number}"))?)?;
                if self.root.node(&candidate)?.is_none() {
                    break candidate;
                }
                number += 1;
            };
            self.root.duplicate(&kept, &numbered)?;
        }
        self.keep(path, &kept)?;
        Ok(kept)
    }

    /// Forgets the kept edit of `path` if the edit is still in its place.
    pub(crate) fn drop_needless_edit(&self, path: &ImagePath) -> Result<(), Failure> {
        let kept = edited(path)?;
        let copy = self.root.node(&kept)?;
        if copy.is_some() && copy == self.root.node(path)? {
            self.root.remove_file(&kept)?;
        }
        self.prune(&kept)
    }

    pub(crate) fn keep(&self, path: &ImagePath, kept: &ImagePath) -> Result<(), Failure> {
        let saved = self.make_place(kept).and_then(|()| self.root.duplicate(path, kept));
        if let Err(failure) = saved {
            let _ = self.prune(kept);
            return Err(failure);
        }
        let state = directory();
        let new = kept.ancestors().into_iter().filter(|above| *above == state || above.is_below(&state));
        new.into_iter().try_for_each(|above| self.root.sync_directory(Some(&above)))
    }

    /// The directories for `kept`, with their mode also where a killed run has left one without.
    pub(crate) fn make_place(&self, kept: &ImagePath) -> Result<(), Failure> {
        for above in kept.ancestors().iter().filter(|above| above.is_below(&directory())) {
            match self.root.is_directory(above)? {
                true => self.root.set_directory(above, Octal(KEPT), Owner::default())?,
                false => self.root.make_directory(above, KEPT)?,
            }
        }
        self.root.remove_file(kept)
    }

    pub(crate) fn prune(&self, kept: &ImagePath) -> Result<(), Failure> {
        for above in kept.ancestors().iter().rev().filter(|above| above.is_below(&directory())) {
            if !self.root.remove_empty_directory(above)? {
                break;
            }
        }
        Ok(())
    }
}
