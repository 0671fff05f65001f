//! `/var/lib/nodebake` inside a root: the lock, the receipt, the intent, and what was there before.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::error::{Failure, Kind};
use crate::interrupt;
use crate::parallel;
use crate::path::ImagePath;
use crate::receipt::{Intent, Octal, Owner, Receipt};
use crate::root::Root;

/// Where nodebake keeps what it knows of a root.
const DIRECTORY: &str = "/var/lib/nodebake";
/// Its name while it is being built or taken away, beside its topmost new directory.
const UNDER_WORK: &str = ".nodebake-state";
/// All files that it holds, beside `original/` and `edited/`.
const FILES: [&str; 5] = [".lock", "pending.json", "pending.json.new", "receipt.json", "receipt.json.new"];
/// A receipt of 4,000 paths has about a megabyte, an intent twice as much; either is read into memory,
/// where the shortest of paths needs ten times its text.
const LONGEST: u64 = 3 << 20;
/// Directories of what is kept: it may have been private where it was.
const KEPT: u32 = 0o700;
const POLL: Duration = Duration::from_millis(50);
/// How long to wait for another run that is about to create or take away the state.
const POLITE: Duration = Duration::from_secs(5);

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

/// Whether the state's directory is a mount point, which can't be taken away.
pub fn is_mounted(root: &Root) -> Result<bool, Failure> {
    root.is_mount_point(&directory())
}

impl<'root> State<'root> {
    /// Opens or creates the state of `root` and takes its lock, waiting at most `patience`.
    pub fn open(root: &'root Root, patience: Duration) -> Result<State<'root>, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            let fresh = initialise(root, deadline)?;
            match State::lock(root, deadline) {
                Ok(Some(state)) => return Ok(state),
                Ok(None) => {}
                Err(failure) if fresh && failure.kind != Kind::Locked => {
                    let created = intent(root)?.map(|intent| intent.directories).unwrap_or_default();
                    dismantle(root, &created)?;
                    return Err(failure);
                }
                Err(failure) => return Err(failure),
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
                Some(false) => wait(root, deadline)?,
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
        let text = intent.text()?;
        self.admit("pending.json", text.len(), LONGEST)?;
        self.save("pending.json", &text)
    }

    /// Refuses a receipt that is too long to be read again, or to be taken away: before anything is done.
    pub fn admit_receipt(&self, receipt: &Receipt) -> Result<(), Failure> {
        self.admit("receipt.json", receipt.text()?.len(), LONGEST / 2)
    }

    fn admit(&self, name: &str, length: usize, longest: u64) -> Result<(), Failure> {
        if length as u64 <= longest {
            return Ok(());
        }
        let shown = self.root.shown(inside(name));
        let message = format!("`{shown}` would be longer than {longest} bytes: too many files for one root");
        Err(Failure::new(Kind::Unsafe, message).help("is each artifact the release that it should be?"))
    }

    /// Makes one more thing of the intent durable.
    pub fn amend_intent(&self, change: impl FnOnce(&mut Intent)) -> Result<(), Failure> {
        let mut intent = self.intent()?.unwrap_or_else(|| Intent::new("", Vec::new()));
        change(&mut intent);
        self.save_intent(&intent)
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

    /// Keeps an edited file under `edited/` and says where. An earlier edit of it is numbered.
    pub fn keep_edited(&self, path: &ImagePath) -> Result<ImagePath, Failure> {
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
    pub fn drop_needless_edit(&self, path: &ImagePath) -> Result<(), Failure> {
        let kept = edited(path)?;
        let copy = self.root.node(&kept)?;
        if copy.is_some() && copy == self.root.node(path)? {
            self.root.remove_file(&kept)?;
        }
        self.prune(&kept)
    }

    /// Takes the whole state away, with the directories above it in `created` that hold nothing
    /// else. Edits that were kept stay, and then so does the state's directory; a mount point stays empty.
    pub fn destroy(self, created: &BTreeSet<ImagePath>) -> Result<(), Failure> {
        self.root.remove_empty_directory(&inside("original"))?;
        self.root.remove_empty_directory(&inside("edited"))?;
        // It is locked, so it is there: out of sight, what is kept in it would be taken for nothing.
        let Some(names) = self.root.names(&directory())? else {
            return Err(self.root.moved(&inside("receipt.json")));
        };
        if names.iter().any(|name| !FILES.contains(&name.as_str())) || is_mounted(self.root)? {
            self.clear("receipt.json")?;
            self.clear("pending.json")?;
            return self.root.remove_file(&inside(".lock"));
        }
        dismantle(self.root, created)
    }

    fn keep(&self, path: &ImagePath, kept: &ImagePath) -> Result<(), Failure> {
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
    fn make_place(&self, kept: &ImagePath) -> Result<(), Failure> {
        for above in kept.ancestors().iter().filter(|above| above.is_below(&directory())) {
            match self.root.is_directory(above)? {
                true => self.root.set_directory(above, Octal(KEPT), Owner::default())?,
                false => self.root.make_directory(above, KEPT)?,
            }
        }
        self.root.remove_file(kept)
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

/// Keeps other runs from creating or taking away `top` at the same time.
fn guard(root: &Root, top: &ImagePath, deadline: Instant) -> Result<OwnedFd, Failure> {
    loop {
        if let Some(guard) = root.lock_above(top)? {
            return Ok(guard);
        }
        wait(root, deadline)?;
    }
}

/// Sleeps a moment; fails at the deadline and at a signal.
fn wait(root: &Root, deadline: Instant) -> Result<(), Failure> {
    if Instant::now() >= deadline {
        let message = format!("root `{}` is locked by another run of nodebake", root.host().display());
        return Err(Failure::new(Kind::Locked, message).help("wait for it, or give --lock-timeout SECONDS"));
    }
    interrupt::check()?;
    std::thread::sleep(POLL);
    Ok(())
}

/// Creates the state with an intent that names the directories above it that are new, all at once:
/// a kill at any point leaves either the whole of it or one name that the next run clears. False:
/// it was there.
fn initialise(root: &Root, deadline: Instant) -> Result<bool, Failure> {
    let lock = inside(".lock");
    let missing = root.missing_directories(&lock)?;
    let Some(top) = missing.first() else { return Ok(false) };
    let guard = guard(root, top, deadline)?;
    // Another run may have been faster, before the guard was ours.
    if root.missing_directories(&lock)? != missing {
        return Ok(false);
    }
    clear_tree(root, top)?;
    if let Err(failure) = build(root, &missing, top) {
        let _ = clear_tree(root, top);
        return Err(failure);
    }
    drop(guard);
    if let Err(failure) = root.sync_directory(top.parent().as_ref()) {
        dismantle(root, &missing.into_iter().collect())?;
        return Err(failure);
    }
    Ok(true)
}

fn build(root: &Root, missing: &[ImagePath], top: &ImagePath) -> Result<(), Failure> {
    for directory in missing {
        root.make_directory(&moved(directory, top)?, 0o755)?;
    }
    let mut intent = Intent::new("", Vec::new());
    intent.directories.extend(missing.iter().filter(|path| **path != directory()).cloned());
    let text = intent.text()?;
    let files = vec![(inside("pending.json"), 0o644, text.as_str()), (inside(".lock"), 0o600, "")];
    let flushes = parallel::flushes(0);
    parallel::try_each(files, flushes, |(path, mode, text)| {
        let new = moved(&path, top)?;
        root.write_new(&new, mode, text.as_bytes(), 0)?;
        root.label_as(&new, &path)
    })?;
    parallel::try_each(missing.iter().collect(), flushes, |path| {
        let new = moved(path, top)?;
        root.label_as(&new, path)?;
        root.sync_directory(Some(&new))
    })?;
    root.rename_beside(&under_work(top), top)
}

/// Renames the state away in one step, with the directories of `created` that hold nothing else,
/// and removes it: a kill leaves the whole of it or one name that the next run clears.
fn dismantle(root: &Root, created: &BTreeSet<ImagePath>) -> Result<(), Failure> {
    let mut top = directory();
    while let Some(parent) = top.parent().filter(|parent| created.contains(parent)) {
        let alone = root.names(&parent)?.is_some_and(|names| names == [top.name()]);
        if !alone {
            break;
        }
        top = parent;
    }
    let _guard = guard(root, &top, Instant::now() + POLITE)?;
    let under_work = under_work(&top);
    clear_tree(root, &top)?;
    root.rename_beside(&top, &under_work)?;
    let cleared = root.sync_directory(top.parent().as_ref()).and_then(|()| clear_tree(root, &top));
    match cleared {
        Ok(()) => Ok(()),
        Err(failure) => {
            let _ = clear_tree(root, &top);
            Err(failure)
        }
    }
}

/// Removes what a killed [`initialise`] or [`State::destroy`] left.
fn clear_under_work(root: &Root) -> Result<(), Failure> {
    let missing = root.missing_directories(&inside(".lock"))?;
    let Some(top) = missing.first() else { return Ok(()) };
    if root.node(&under_work(top))?.is_none() {
        return Ok(());
    }
    let _guard = guard(root, top, Instant::now() + POLITE)?;
    clear_tree(root, top)
}

/// Removes the state's own names below what stands for `top` while it is under work, if anything does.
fn clear_tree(root: &Root, top: &ImagePath) -> Result<(), Failure> {
    if root.node(&under_work(top))?.is_none() {
        return Ok(());
    }
    for name in FILES {
        root.remove_file(&moved(&inside(name), top)?)?;
    }
    let above = inside("x").ancestors();
    for path in above.iter().rev().filter(|path| *path == top || path.is_below(top)) {
        root.remove_empty_directory(&moved(path, top)?)?;
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

/// `path`, which is `top` or below it, as long as `top` is under work.
fn moved(path: &ImagePath, top: &ImagePath) -> Result<ImagePath, Failure> {
    ImagePath::new(&path.as_str().replacen(top.as_str(), under_work(top).as_str(), 1))
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

fn edited(path: &ImagePath) -> Result<ImagePath, Failure> {
    ImagePath::new(&format!("{DIRECTORY}/edited{path}"))
}

fn original(path: &ImagePath) -> Result<ImagePath, Failure> {
    ImagePath::new(&format!("{DIRECTORY}/original{path}"))
}

/// Whether `path` is a directory above the state.
pub fn is_above(path: &ImagePath) -> bool {
    directory().is_below(path)
}
