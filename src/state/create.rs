//! How the state's directory comes and goes: all at once, so that a kill leaves the whole of it or one name.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::error::{Failure, Kind};
use crate::interrupt;
use crate::parallel;
use crate::path::ImagePath;
use crate::root::Root;
use crate::state::Intent;
use crate::state::paths::{FILES, directory, inside};

/// Its name while it is being built or taken away, beside its topmost new directory.
const BUILDING: &str = ".nodebake-state";

const POLL: Duration = Duration::from_millis(50);

/// How long to wait for another run that is about to create or take away the state.
const TAKEOVER_WAIT: Duration = Duration::from_secs(5);

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
pub(crate) fn wait(root: &Root, deadline: Instant) -> Result<(), Failure> {
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
pub(crate) fn create(root: &Root, deadline: Instant) -> Result<bool, Failure> {
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
        destroy_directory(root, &missing.into_iter().collect())?;
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
    root.rename_beside(&building(top), top)
}

/// Renames the state away in one step, with the directories of `created` that hold nothing else,
/// and removes it: a kill leaves the whole of it or one name that the next run clears.
pub(crate) fn destroy_directory(root: &Root, created: &BTreeSet<ImagePath>) -> Result<(), Failure> {
    let mut top = directory();
    while let Some(parent) = top.parent().filter(|parent| created.contains(parent)) {
        let alone = root.names(&parent)?.is_some_and(|names| names == [top.name()]);
        if !alone {
            break;
        }
        top = parent;
    }
    let _guard = guard(root, &top, Instant::now() + TAKEOVER_WAIT)?;
    let building = building(&top);
    clear_tree(root, &top)?;
    root.rename_beside(&top, &building)?;
    let cleared = root.sync_directory(top.parent().as_ref()).and_then(|()| clear_tree(root, &top));
    match cleared {
        Ok(()) => Ok(()),
        Err(failure) => {
            let _ = clear_tree(root, &top);
            Err(failure)
        }
    }
}

/// Removes what a killed [`create`] or [`State::destroy`] left.
pub(crate) fn clear_building(root: &Root) -> Result<(), Failure> {
    let missing = root.missing_directories(&inside(".lock"))?;
    let Some(top) = missing.first() else { return Ok(()) };
    if root.node(&building(top))?.is_none() {
        return Ok(());
    }
    let _guard = guard(root, top, Instant::now() + TAKEOVER_WAIT)?;
    clear_tree(root, top)
}

/// Removes the state's own names below what stands for `top` while it is under work, if anything does.
fn clear_tree(root: &Root, top: &ImagePath) -> Result<(), Failure> {
    if root.node(&building(top))?.is_none() {
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

/// `path`, which is `top` or below it, as long as `top` is under work.
fn moved(path: &ImagePath, top: &ImagePath) -> Result<ImagePath, Failure> {
    ImagePath::new(&path.as_str().replacen(top.as_str(), building(top).as_str(), 1))
}

fn building(top: &ImagePath) -> ImagePath {
    match top.parent() {
        Some(parent) => ImagePath::new(&format!("{parent}/{BUILDING}")),
        None => ImagePath::new(&format!("/{BUILDING}")),
    }
    .unwrap_or_else(|_| directory())
}
