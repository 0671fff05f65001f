//! Reads and writes `/var/lib/nodebake` in a root: lock, receipt, intent, kept originals and edits.
//!
//! This module must not change any other path of the root, except directories above its own.

mod create;
mod intent;
mod json;
mod kept;
pub(crate) mod paths;
mod receipt;
mod validate;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::time::{Duration, Instant};

use crate::error::{Failure, Kind};
use crate::interrupt;
use crate::node::Node;
use crate::parallel;
use crate::path::ImagePath;
use crate::root::Root;
use crate::state::create::{clear_building, create, destroy_directory, wait};
use crate::state::paths::{FILES, LOCK, directory, inside};

pub(crate) use intent::{Intent, RESOLV_CONF, Step};
pub(crate) use receipt::{Before, Owned, Receipt};

/// Length of the longest file that is read: a receipt of 4,000 paths has about a megabyte, an intent twice
/// as much, and in memory a short path needs ten times its text.
const LONGEST_FILE: u64 = 3 << 20;

/// Nodes found at the paths that a receipt owns.
pub(crate) type Survey = BTreeMap<ImagePath, Option<Node>>;

/// State of a root, locked until it is dropped.
pub(crate) struct State<'root> {
    root: &'root Root,
    _lock: File,
}

/// Reads the receipt of `root` without a lock.
pub(crate) fn receipt(root: &Root) -> Result<Option<Receipt>, Failure> {
    let path = inside("receipt.json");
    let Some(text) = root.text(&path, LONGEST_FILE).map_err(|failure| unreadable(failure, root, &path))?
    else {
        return Ok(None);
    };
    Receipt::parse(&text, &root.shown(&path)).map(Some)
}

/// Reads the intent of an unfinished run on `root` without a lock.
pub(crate) fn intent(root: &Root) -> Result<Option<Intent>, Failure> {
    let path = inside("pending.json");
    let Some(text) = root.text(&path, LONGEST_FILE)? else { return Ok(None) };
    Intent::parse(&text, &root.shown(&path)).map(Some)
}

/// Returns the nodes at all paths that `receipt` owns; files of the recorded size are hashed in parallel.
pub(crate) fn survey(root: &Root, receipt: &Receipt) -> Result<Survey, Failure> {
    let owned: Vec<(&ImagePath, &Owned)> = receipt.paths.iter().collect();
    let look = |(path, owned): (&ImagePath, &Owned)| {
        interrupt::check()?;
        Ok((path.clone(), root.node_of_size(path, owned.size)?))
    };
    parallel::map(owned, parallel::processors(), look).into_iter().collect()
}

/// Returns the moment at which a wait of `timeout` ends; one that no clock reaches ends after a year.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or(now + Duration::from_secs(365 * 24 * 3600))
}

/// Returns what the state's directory is if `remove` leaves it, because nodebake has not made it: a mount point, or an
/// administrator's link.
pub(crate) fn permanent(root: &Root) -> Result<Option<&'static str>, Failure> {
    Ok(match root.node(&directory())? {
        Some(Node::Link { .. }) => Some("a link"),
        _ if root.is_mount_point(&directory())? => Some("a mount point"),
        _ => None,
    })
}

impl<'root> State<'root> {
    /// Opens or creates the state of `root` and takes its lock, for which it waits until `deadline`.
    pub(crate) fn open(root: &'root Root, deadline: Instant) -> Result<State<'root>, Failure> {
        loop {
            let fresh = create(root, deadline)?;
            match State::lock(root, deadline) {
                Ok(Some(state)) => return Ok(state),
                Ok(None) => {}
                Err(failure) if fresh && failure.kind != Kind::Locked => {
                    let created = intent(root)?.map(|intent| intent.directories).unwrap_or_default();
                    destroy_directory(root, &created)?;
                    return Err(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Opens the state of `root` and takes its lock; `None` if the root has no state.
    pub(crate) fn open_existing(
        root: &'root Root,
        lock_timeout: Duration,
    ) -> Result<Option<State<'root>>, Failure> {
        let deadline = deadline(lock_timeout);
        loop {
            if !root.is_directory(&directory())? {
                clear_building(root)?;
                return Ok(None);
            }
            if let Some(state) = State::lock(root, deadline)? {
                return Ok(Some(state));
            }
        }
    }

    /// Takes the lock of an existing state; `None` if another run has removed the state meanwhile.
    fn lock(root: &'root Root, deadline: Instant) -> Result<Option<State<'root>>, Failure> {
        let path = inside(LOCK);
        let file = match root.lock_file(&path) {
            Ok(file) => file,
            Err(_) if !root.is_directory(&directory())? => return Ok(None),
            Err(failure) => return Err(failure),
        };
        loop {
            match root.try_lock(&file, &path)? {
                Some(true) => return Ok(Some(State { root, _lock: file })),
                Some(false) => wait(root, deadline)?,
                None => return Ok(None),
            }
        }
    }

    /// Reads the receipt, if there is one.
    pub(crate) fn receipt(&self) -> Result<Option<Receipt>, Failure> {
        receipt(self.root)
    }

    /// Reads the intent of a killed run, or of this one.
    pub(crate) fn intent(&self) -> Result<Option<Intent>, Failure> {
        intent(self.root)
    }

    /// Writes the receipt; durable when it returns.
    pub(crate) fn save_receipt(&self, receipt: &Receipt) -> Result<(), Failure> {
        self.save("receipt.json", &receipt.text()?)
    }

    /// Writes the intent; durable when it returns.
    pub(crate) fn save_intent(&self, intent: &Intent) -> Result<(), Failure> {
        let text = intent.text()?;
        self.admit("pending.json", text.len(), LONGEST_FILE)?;
        Intent::parse(&text, "pending.json").map_err(unwritable)?;
        self.save("pending.json", &text)
    }

    /// Fails, before anything is changed, if the receipt could not be read again, or is so long that the intent of
    /// its removal could not be.
    pub(crate) fn admit_receipt(&self, receipt: &Receipt) -> Result<(), Failure> {
        let text = receipt.text()?;
        self.admit("receipt.json", text.len(), LONGEST_FILE / 2)?;
        Receipt::parse(&text, "receipt.json").map(drop).map_err(unwritable)
    }

    /// Changes the intent on the disk; durable when it returns.
    pub(crate) fn amend_intent(&self, change: impl FnOnce(&mut Intent)) -> Result<(), Failure> {
        let mut intent = self.intent()?.unwrap_or_else(|| Intent::new("", Vec::new()));
        change(&mut intent);
        self.save_intent(&intent)
    }

    /// Deletes the intent, which has been carried out or undone.
    pub(crate) fn clear_intent(&self) -> Result<(), Failure> {
        self.clear("pending.json")
    }

    /// Removes the state, with the directories above it in `created` that contain nothing else. Kept edits
    /// stay, and the state's directory with them; a mount point and a link stay, and lead to an empty directory.
    pub(crate) fn destroy(self, created: &BTreeSet<ImagePath>) -> Result<(), Failure> {
        self.root.remove_empty_directory(&inside("original"))?;
        self.root.remove_empty_directory(&inside("edited"))?;
        // The lock is held, so the directory must exist: if another process has moved it, kept files would
        // be overlooked.
        let Some(is_ours) = self.root.has_only(&directory(), &FILES)? else {
            return Err(self.root.moved(&inside("receipt.json")));
        };
        if !is_ours || permanent(self.root)?.is_some() {
            self.clear("receipt.json")?;
            self.clear("pending.json")?;
            return self.root.remove_file(&inside(LOCK));
        }
        destroy_directory(self.root, created)
    }

    fn admit(&self, name: &str, length: usize, longest: u64) -> Result<(), Failure> {
        if length as u64 <= longest {
            return Ok(());
        }
        let shown = self.root.shown(inside(name));
        let message = format!("`{shown}` would be longer than {longest} bytes: too many files for one root");
        Err(Failure::new(Kind::Unsafe, message).help("is each artifact the release that it should be?"))
    }

    /// Replaces a file of the state in one step; durable when it returns.
    fn save(&self, name: &str, text: &str) -> Result<(), Failure> {
        let (path, new) = (inside(name), inside(&format!("{name}.new")));
        self.root.remove_file(&new)?;
        let saved =
            self.root.write_new(&new, 0o644, text.as_bytes(), 0).and_then(|()| self.root.rename(&new, &path));
        if let Err(failure) = saved {
            let _ = self.root.remove_file(&new);
            return Err(failure);
        }
        self.root.sync_directory(Some(&directory()))
    }

    fn clear(&self, name: &str) -> Result<(), Failure> {
        self.root.remove_file(&inside(&format!("{name}.new")))?;
        self.root.remove_file(&inside(name))?;
        self.root.sync_directory(Some(&directory()))
    }
}

/// Returns the failure of a file that could not be read again if it were written.
fn unwritable(failure: Failure) -> Failure {
    Failure::new(failure.kind, format!("nothing more is changed, because {failure}"))
        .help("compare the spec and the lock with what upstream and the package manager publish")
}

/// Adds help to the failure of a receipt that is no text.
fn unreadable(failure: Failure, root: &Root, path: &ImagePath) -> Failure {
    match failure.kind {
        Kind::Invalid => failure.help(format!("`{}` is not a receipt of nodebake", root.shown(path))),
        _ => failure,
    }
}
