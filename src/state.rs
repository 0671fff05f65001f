//! `/var/lib/nodebake` inside a root: the lock, the receipt, the intent, and what was there before.

use std::collections::BTreeSet;
use std::fs::File;
use std::time::{Duration, Instant};

use crate::error::{Failure, Kind};
use crate::interrupt;
use crate::path::ImagePath;
use crate::receipt::{Intent, Receipt};
use crate::root::Root;

/// Where nodebake keeps what it knows of a root.
const DIRECTORY: &str = "/var/lib/nodebake";
/// Its name while it is being built or taken away, beside its topmost new directory.
const UNDER_WORK: &str = ".nodebake-state";
/// All files that it holds, beside `original/` and `edited/`.
const FILES: [&str; 5] = [".lock", "pending.json", "pending.json.new", "receipt.json", "receipt.json.new"];
/// A receipt of 4,000 paths has about a megabyte.
const LONGEST: u64 = 64 << 20;
const POLL: Duration = Duration::from_millis(50);

/// A root's state, locked until it is dropped.
pub struct State<'root> {
    root: &'root Root,
    _lock: File,
}

/// The receipt of `root`, read without a lock.
pub fn receipt(root: &Root) -> Result<Option<Receipt>, Failure> {
    let path = inside("receipt.json");
    let Some(text) = root.text(&path, LONGEST).map_err(|failure| unreadable(failure, root, &path))? else {
        return Ok(None);
    };
    Receipt::parse(&text, &root.shown(&path)).map(Some)
}

/// The intent of a run on `root` that has not ended, read without a lock.
pub fn intent(root: &Root) -> Result<Option<Intent>, Failure> {
    let path = inside("pending.json");
    let Some(text) = root.text(&path, LONGEST)? else { return Ok(None) };
    Intent::parse(&text, &root.shown(&path)).map(Some)
}

impl<'root> State<'root> {
    /// Opens or creates the state of `root` and takes its lock, waiting at most `patience`.
    pub fn open(root: &'root Root, patience: Duration) -> Result<State<'root>, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            initialise(root)?;
            if let Some(state) = State::lock(root, deadline)? {
                return Ok(state);
            }
        }
    }

    /// Opens the state of a root that has one.
    pub fn open_existing(root: &'root Root, patience: Duration) -> Result<Option<State<'root>>, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            if !root.is_directory(&directory())? {
                clear_under_work(root)?;
                return Ok(None);
            }
            if let Some(state) = State::lock(root, deadline)? {
                return Ok(Some(state));
            }
        }
    }

    /// None: another run has taken the state away meanwhile.
    fn lock(root: &'root Root, deadline: Instant) -> Result<Option<State<'root>>, Failure> {
        let path = inside(".lock");
        let file = match root.lock_file(&path) {
            Ok(file) => file,
            Err(_) if !root.is_directory(&directory())? => return Ok(None),
            Err(failure) => return Err(failure),
        };
        loop {
            match root.try_lock(&file, &path)? {
                Some(true) => return Ok(Some(State { root, _lock: file })),
                Some(false) if Instant::now() < deadline => {
                    interrupt::check()?;
                    std::thread::sleep(POLL);
                }
                Some(false) => {
                    let message =
                        format!("root `{}` is locked by another run of nodebake", root.host().display());
                    return Err(Failure::new(Kind::Locked, message)
                        .help("wait for it, or give --lock-timeout SECONDS"));
                }
                None => return Ok(None),
            }
        }
    }

    /// The receipt, if there is one.
    pub fn receipt(&self) -> Result<Option<Receipt>, Failure> {
        receipt(self.root)
    }

    /// What a run that was killed was about to do.
    pub fn intent(&self) -> Result<Option<Intent>, Failure> {
        intent(self.root)
    }

    /// Replaces the receipt, durably.
    pub fn save_receipt(&self, receipt: &Receipt) -> Result<(), Failure> {
        self.save("receipt.json", &receipt.text()?)
    }

    /// Makes the intent durable.
    pub fn save_intent(&self, intent: &Intent) -> Result<(), Failure> {
        self.save("pending.json", &intent.text()?)
    }

    /// Forgets the intent: it has been carried out or undone.
    pub fn clear_intent(&self) -> Result<(), Failure> {
        self.clear("pending.json")
    }

    /// Keeps what is at `path`, from before the first bake, until [`State::drop_original`].
    pub fn keep_original(&self, path: &ImagePath) -> Result<(), Failure> {
        self.keep(path, &original(path)?)
    }

    /// Where the original of `path` is kept, if it is.
    pub fn original(&self, path: &ImagePath) -> Result<Option<ImagePath>, Failure> {
        let kept = original(path)?;
        Ok(self.root.node(&kept)?.map(|_| kept))
    }

    /// Forgets the original of `path`: it is in its place again, or has never left it.
    pub fn drop_original(&self, path: &ImagePath) -> Result<(), Failure> {
        let kept = original(path)?;
        self.root.remove_file(&kept)?;
        self.prune(&kept)
    }

    /// Keeps an edited file under `edited/` and says where.
    pub fn keep_edited(&self, path: &ImagePath) -> Result<ImagePath, Failure> {
        let kept = ImagePath::new(&format!("{DIRECTORY}/edited{path}"))?;
        self.keep(path, &kept)?;
        Ok(kept)
    }

    /// Takes the whole state away, with the directories above it in `created` that hold nothing
    /// else. Edits that were kept stay, and then so does the state's directory.
    pub fn destroy(self, created: &BTreeSet<ImagePath>) -> Result<(), Failure> {
        self.root.remove_empty_directory(&inside("original"))?;
        self.root.remove_empty_directory(&inside("edited"))?;
        let names = self.root.names(&directory())?.unwrap_or_default();
        if names.iter().any(|name| !FILES.contains(&name.as_str())) {
            self.clear("receipt.json")?;
            self.clear("pending.json")?;
            return self.root.remove_file(&inside(".lock"));
        }
        // Renamed away in one step: a kill leaves the whole of it or one name that the next run clears.
        let top = self.topmost_without_others(created)?;
        let _guard = self.root.lock_above(&top)?;
        let under_work = under_work(&top);
        clear_tree(self.root, &under_work, &top)?;
        self.root.rename_beside(&top, &under_work)?;
        self.root.sync_directory(top.parent().as_ref())?;
        clear_tree(self.root, &under_work, &top)
    }

    /// The outermost directory of `created` above the state that holds nothing but the state.
    fn topmost_without_others(&self, created: &BTreeSet<ImagePath>) -> Result<ImagePath, Failure> {
        let mut top = directory();
        while let Some(parent) = top.parent().filter(|parent| created.contains(parent)) {
            let alone = self.root.names(&parent)?.is_some_and(|names| names == [top.name()]);
            if !alone {
                break;
            }
            top = parent;
        }
        Ok(top)
    }

    fn keep(&self, path: &ImagePath, kept: &ImagePath) -> Result<(), Failure> {
        for missing in self.root.missing_directories(kept)? {
            self.root.make_directory(&missing, 0o755)?;
        }
        self.root.remove_file(kept)?;
        self.root.duplicate(path, kept)?;
        kept.ancestors()
            .iter()
            .filter(|above| above.is_below(&directory()))
            .try_for_each(|above| self.root.sync_directory(Some(above)))
    }

    fn prune(&self, kept: &ImagePath) -> Result<(), Failure> {
        for above in kept.ancestors().iter().rev().filter(|above| above.is_below(&directory())) {
            if !self.root.remove_empty_directory(above)? {
                break;
            }
        }
        Ok(())
    }

    fn save(&self, name: &str, text: &str) -> Result<(), Failure> {
        let (path, new) = (inside(name), inside(&format!("{name}.new")));
        self.root.remove_file(&new)?;
        self.root.write_new(&new, 0o644, text.as_bytes(), 0)?;
        self.root.rename(&new, &path)?;
        self.root.sync_directory(Some(&directory()))
    }

    fn clear(&self, name: &str) -> Result<(), Failure> {
        self.root.remove_file(&inside(&format!("{name}.new")))?;
        self.root.remove_file(&inside(name))?;
        self.root.sync_directory(Some(&directory()))
    }
}

/// Creates the state with an intent that names the directories above it that are new, all at once:
/// a kill at any point leaves either the whole of it or one name that the next run clears.
fn initialise(root: &Root) -> Result<(), Failure> {
    let lock = inside(".lock");
    let missing = root.missing_directories(&lock)?;
    let Some(top) = missing.first() else { return Ok(()) };
    let _guard = root.lock_above(top)?;
    // Another run may have been faster, before the guard was ours.
    if root.missing_directories(&lock)? != missing {
        return Ok(());
    }
    let under_work = under_work(top);
    clear_tree(root, &under_work, top)?;
    let place =
        |path: &ImagePath| ImagePath::new(&path.as_str().replacen(top.as_str(), under_work.as_str(), 1));
    for directory in &missing {
        root.make_directory(&place(directory)?, 0o755)?;
    }
    let mut intent = Intent::new("", Vec::new());
    intent.directories.extend(missing.iter().filter(|path| **path != directory()).cloned());
    root.write_new(&place(&inside("pending.json"))?, 0o644, intent.text()?.as_bytes(), 0)?;
    for directory in missing.iter().rev() {
        root.sync_directory(Some(&place(directory)?))?;
    }
    root.rename_beside(&under_work, top)?;
    root.sync_directory(top.parent().as_ref())
}

/// Removes what a killed [`initialise`] or [`State::destroy`] left.
fn clear_under_work(root: &Root) -> Result<(), Failure> {
    let missing = root.missing_directories(&inside(".lock"))?;
    let Some(top) = missing.first() else { return Ok(()) };
    if root.node(&under_work(top))?.is_none() {
        return Ok(());
    }
    let _guard = root.lock_above(top)?;
    clear_tree(root, &under_work(top), top)
}

/// Removes the state's own names below `under_work`, which stands for `top`.
fn clear_tree(root: &Root, under_work: &ImagePath, top: &ImagePath) -> Result<(), Failure> {
    let place =
        |path: &ImagePath| ImagePath::new(&path.as_str().replacen(top.as_str(), under_work.as_str(), 1));
    for name in FILES {
        root.remove_file(&place(&inside(name))?)?;
    }
    let above = inside("x").ancestors();
    for path in above.iter().rev().filter(|path| *path == top || path.is_below(top)) {
        root.remove_empty_directory(&place(path)?)?;
    }
    root.sync_directory(top.parent().as_ref())
}

fn unreadable(failure: Failure, root: &Root, path: &ImagePath) -> Failure {
    match failure.kind {
        Kind::Invalid => failure.help(format!("`{}` is not a receipt of nodebake", root.shown(path))),
        _ => failure,
    }
}

fn directory() -> ImagePath {
    ImagePath::fixed(DIRECTORY)
}

fn under_work(top: &ImagePath) -> ImagePath {
    match top.parent() {
        Some(parent) => ImagePath::new(&format!("{parent}/{UNDER_WORK}")),
        None => ImagePath::new(&format!("/{UNDER_WORK}")),
    }
    .unwrap_or_else(|_| directory())
}

/// A file of the state; `name` is one of ours.
fn inside(name: &str) -> ImagePath {
    directory().join(name).unwrap_or_else(|_| directory())
}

fn original(path: &ImagePath) -> Result<ImagePath, Failure> {
    ImagePath::new(&format!("{DIRECTORY}/original{path}"))
}

/// Whether `path` is a directory above the state.
pub fn is_above(path: &ImagePath) -> bool {
    directory().is_below(path)
}
