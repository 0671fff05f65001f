//! Creates and removes the state's directory in one step: a kill leaves either all of it or one temporary name.
//!
//! This module must not read a receipt or an intent.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::error::{Failure, Kind};
use crate::interrupt;
use crate::node::Node;
use crate::parallel;
use crate::path::ImagePath;
use crate::root::Root;
use crate::state::Intent;
use crate::state::paths::{FILES, directory, inside};

/// Temporary name of the topmost new directory while the state is created or removed.
const BUILDING: &str = ".nodebake-state";

/// Interval between two attempts to take a lock.
const POLL: Duration = Duration::from_millis(50);

/// Time to wait for another run that creates or removes the state at the same moment.
const TAKEOVER_WAIT: Duration = Duration::from_secs(5);

/// Creates the state in one step, with an intent that names the directories created above it. A kill leaves
/// either all of it or one name that the next run removes. Returns false if the state existed.
pub(super) fn create(root: &Root, deadline: Instant) -> Result<bool, Failure> {
    let lock = inside(".lock");
    let missing = root.missing_directories(&lock)?;
    let Some(top) = missing.first() else { return Ok(false) };
    let guard = guard(root, top, deadline)?;
    // Another run may have created it before the lock was taken.
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

/// Builds the state under its temporary name and renames it to `top`.
fn build(root: &Root, missing: &[ImagePath], top: &ImagePath) -> Result<(), Failure> {
    for directory in missing {
        root.make_directory(&while_building(directory, top)?, 0o755)?;
    }
    let mut intent = Intent::new("", Vec::new());
    intent.directories.extend(missing.iter().filter(|path| **path != directory()).cloned());
    let text = intent.text()?;
    let files = vec![(inside("pending.json"), 0o644, text.as_str()), (inside(".lock"), 0o600, "")];
    let flushes = parallel::flushes(0);
    parallel::try_each(files, flushes, |(path, mode, text)| {
        let new = while_building(&path, top)?;
        root.write_new(&new, mode, text.as_bytes(), 0)?;
        root.label_as(&new, &path)
    })?;
    parallel::try_each(missing.iter().collect(), flushes, |path| {
        let new = while_building(path, top)?;
        root.label_as(&new, path)?;
        root.sync_directory(Some(&new))
    })?;
    root.rename_beside(&building(top), top)
}

/// Removes the state, with the directories of `created` that contain nothing else: renames it in one step
/// and then deletes it. A kill leaves either all of it or one name that the next run removes.
pub(super) fn destroy_directory(root: &Root, created: &BTreeSet<ImagePath>) -> Result<(), Failure> {
    let mut top = directory();
    while let Some(parent) = top.parent().filter(|parent| created.contains(parent)) {
        // A link stays, whatever the receipt says: nodebake has not made it.
        let is_directory = matches!(root.node(&parent)?, Some(Node::Directory { .. }));
        let alone = root.has_only(&parent, &[top.name()])? == Some(true);
        if !is_directory || !alone || !root.permits(&parent)? || root.is_mount_point(&parent)? {
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

/// Removes the temporary name that a killed [`create`] or [`destroy_directory`] has left.
pub(super) fn clear_building(root: &Root) -> Result<(), Failure> {
    let missing = root.missing_directories(&inside(".lock"))?;
    let Some(top) = missing.first() else { return Ok(()) };
    if !root.has(&building(top))? {
        return Ok(());
    }
    let _guard = guard(root, top, Instant::now() + TAKEOVER_WAIT)?;
    clear_tree(root, top)
}

/// Removes the state's own files and directories under the temporary name of `top`, if it exists. Under that name
/// nodebake makes nothing but a directory: what else it is goes as a whole.
fn clear_tree(root: &Root, top: &ImagePath) -> Result<(), Failure> {
    match root.node(&building(top))? {
        None => return Ok(()),
        Some(Node::Directory { .. }) => {}
        Some(_) => {
            root.remove_file(&building(top))?;
            return root.sync_directory(top.parent().as_ref());
        }
    }
    for name in FILES {
        root.remove_file(&while_building(&inside(name), top)?)?;
    }
    let above = inside("x").ancestors();
    for path in above.iter().rev().filter(|path| *path == top || path.is_below(top)) {
        root.remove_empty_directory(&while_building(path, top)?)?;
    }
    root.sync_directory(top.parent().as_ref())
}

/// Prevents other runs from creating or removing `top` until the result is dropped.
fn guard(root: &Root, top: &ImagePath, deadline: Instant) -> Result<OwnedFd, Failure> {
    loop {
        if let Some(guard) = root.lock_above(top)? {
            return Ok(guard);
        }
        wait(root, deadline)?;
    }
}

/// Sleeps for a moment; fails after the deadline and at a signal.
pub(super) fn wait(root: &Root, deadline: Instant) -> Result<(), Failure> {
    if Instant::now() >= deadline {
        let message = format!("root `{}` is locked by another run of nodebake", root.host().display());
        return Err(Failure::new(Kind::Locked, message).help("wait for it, or give --lock-timeout SECONDS"));
    }
    interrupt::check()?;
    std::thread::sleep(POLL);
    Ok(())
}

/// Returns the name that `path`, which is `top` or below it, has while `top` has its temporary name.
fn while_building(path: &ImagePath, top: &ImagePath) -> Result<ImagePath, Failure> {
    ImagePath::new(&path.as_str().replacen(top.as_str(), building(top).as_str(), 1))
}

/// Returns the temporary name of `top`.
fn building(top: &ImagePath) -> ImagePath {
    match top.parent() {
        Some(parent) => ImagePath::new(&format!("{parent}/{BUILDING}")),
        None => ImagePath::new(&format!("/{BUILDING}")),
    }
    .unwrap_or_else(|_| directory())
}
