//! Creates and removes the state's directory in one step: a kill leaves either all of it or one temporary name.
//!
//! This module must not read a receipt or an intent.

use std::collections::BTreeSet;
use std::fs::File;
use std::time::{Duration, Instant};

use crate::error::{Failure, Kind};
use crate::interrupt;
use crate::node::{Node, Octal, Owner};
use crate::parallel;
use crate::path::ImagePath;
use crate::root::Root;
use crate::state::Intent;
use crate::state::paths::{FILES, LOCK, directory, inside};

/// Temporary name of the topmost new directory while the state is created or removed.
const BUILDING: &str = ".nodebake-state";

/// Interval between two attempts to take a lock.
const POLL: Duration = Duration::from_millis(50);

/// How often a lock may vanish before it is taken: each time another run has finished with it.
const RACES: usize = 16;

/// Time to wait for another run that creates or removes the state at the same moment.
const TAKEOVER_WAIT: Duration = Duration::from_secs(5);

/// Creates the state in one step, with an intent that names the directories created above it. A kill leaves
/// either all of it or one name that the next run removes. Returns false if the state existed.
pub(super) fn create(root: &Root, deadline: Instant) -> Result<bool, Failure> {
    let lock = inside(LOCK);
    let missing = root.missing_directories(&lock)?;
    let Some(top) = missing.first() else { return Ok(false) };
    // Another run may create it before the lock is taken.
    let is_missing = || Ok(root.missing_directories(&lock)? == missing);
    let Some(_held) = hold(root, top, deadline, is_missing)? else { return Ok(false) };
    if let Err(failure) = build(root, &missing, top) {
        let _ = clear_tree(root, top);
        return Err(failure);
    }
    if let Err(failure) = root.sync_directory(top.parent().as_ref()) {
        destroy_directory(root, &missing.into_iter().collect())?;
        return Err(failure);
    }
    Ok(true)
}

/// Completes the state under its temporary name, where a killed run may have left a part of it, and renames it to
/// `top`.
fn build(root: &Root, missing: &[ImagePath], top: &ImagePath) -> Result<(), Failure> {
    let mut intent = Intent::new("", Vec::new());
    intent.directories.extend(missing.iter().filter(|path| **path != directory()).cloned());
    let text = intent.text()?;
    for name in FILES.iter().filter(|name| **name != LOCK) {
        root.remove_file(&while_building(&inside(name), top)?)?;
    }
    let pending = while_building(&inside("pending.json"), top)?;
    root.write_new(&pending, 0o644, text.as_bytes(), 0)?;
    root.label_as(&pending, &inside("pending.json"))?;
    root.label_as(&while_building(&inside(LOCK), top)?, &inside(LOCK))?;
    parallel::try_each(missing.iter().collect(), parallel::flushes(0), |path| {
        let new = while_building(path, top)?;
        root.set_directory(&new, Octal(0o755), Owner::default())?;
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
    let deadline = Instant::now() + TAKEOVER_WAIT;
    while let Err(failure) = root.rename_beside(&top, &building(&top)) {
        // Another run has been killed, or looks whether the state exists.
        if !is_building(root, &top)? {
            return Err(failure);
        }
        clear_leftover(root, &top, deadline)?;
        // Something in it is none of nodebake's.
        if is_building(root, &top)? {
            return Err(failure);
        }
    }
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
    let missing = root.missing_directories(&inside(LOCK))?;
    match missing.first() {
        Some(top) => clear_leftover(root, top, Instant::now() + TAKEOVER_WAIT),
        None => Ok(()),
    }
}

fn clear_leftover(root: &Root, top: &ImagePath, deadline: Instant) -> Result<(), Failure> {
    if !is_building(root, top)? {
        return clear_stray(root, &building(top));
    }
    match hold(root, top, deadline, || is_building(root, top))? {
        Some(_held) => clear_tree(root, top),
        None => Ok(()),
    }
}

/// Removes the state's own files and directories under the temporary name of `top`, if it exists; the lock is the last
/// file, because it is what keeps other runs away. Under that name nodebake makes nothing but a directory: what else it
/// is goes as a whole.
fn clear_tree(root: &Root, top: &ImagePath) -> Result<(), Failure> {
    if !is_building(root, top)? {
        return clear_stray(root, &building(top));
    }
    for name in FILES.iter().rev() {
        root.remove_file(&while_building(&inside(name), top)?)?;
    }
    remove_directories(root, top)?;
    root.sync_directory(top.parent().as_ref())
}

/// Takes the lock of the state under its temporary name, which is made if it is not there: until the result is dropped,
/// no other run makes it, renames it or takes it away. `None`, and no temporary name, if the state is not `wanted`.
///
/// A file of the state and not the directory above it: that one can be opened, and so locked, by every user.
fn hold(
    root: &Root,
    top: &ImagePath,
    deadline: Instant,
    wanted: impl Fn() -> Result<bool, Failure>,
) -> Result<Option<File>, Failure> {
    let path = while_building(&inside(LOCK), top)?;
    let mut races = 0;
    while wanted()? {
        match take(root, top, &path) {
            Ok((Some(true), file)) => match wanted() {
                Ok(true) => return Ok(Some(file)),
                other => {
                    clear_tree(root, top)?;
                    return other.map(|_| None);
                }
            },
            Ok((Some(false), _)) => wait(root, deadline)?,
            // Its holder has renamed it or taken it away, now or while this run was on its way to it.
            Ok((None, _)) => {}
            Err(failure) if failure.kind == Kind::Unsafe && races < RACES && !is_building(root, top)? => {
                races += 1;
            }
            Err(failure) => {
                release(root, top, &path);
                return Err(failure);
            }
        }
    }
    Ok(None)
}

/// Makes what is missing of the directories and the lock, and tries to take the lock once.
fn take(root: &Root, top: &ImagePath, path: &ImagePath) -> Result<(Option<bool>, File), Failure> {
    for directory in below(top) {
        let new = while_building(&directory, top)?;
        if is_directory(root, &new)? {
            continue;
        }
        clear_stray(root, &new)?;
        match root.make_directory(&new, 0o755) {
            Err(failure) if !is_directory(root, &new)? => return Err(failure),
            // Another run has made it meanwhile.
            _ => {}
        }
    }
    let file = root.lock_file(path)?;
    Ok((root.try_lock(&file, path)?, file))
}

/// Removes what is at a temporary name, where nodebake makes nothing but a directory, if it is none.
fn clear_stray(root: &Root, path: &ImagePath) -> Result<(), Failure> {
    match root.node(path)? {
        None | Some(Node::Directory { .. }) => Ok(()),
        Some(_) => {
            root.remove_file(path)?;
            root.sync_directory(path.parent().as_ref())
        }
    }
}

/// Takes away what a failed [`hold`] has made, unless another run holds it.
fn release(root: &Root, top: &ImagePath, path: &ImagePath) {
    let _ = match root.lock_file(path) {
        Ok(file) => match root.try_lock(&file, path) {
            Ok(Some(true)) => clear_tree(root, top),
            _ => Ok(()),
        },
        Err(_) => remove_directories(root, top),
    };
}

/// Removes those directories of the temporary name that are empty.
fn remove_directories(root: &Root, top: &ImagePath) -> Result<(), Failure> {
    below(top)
        .iter()
        .rev()
        .try_for_each(|path| root.remove_empty_directory(&while_building(path, top)?).map(drop))
}

/// Returns the directories of the state from `top` on.
fn below(top: &ImagePath) -> Vec<ImagePath> {
    let above = inside(LOCK).ancestors();
    above.into_iter().filter(|path| path == top || path.is_below(top)).collect()
}

fn is_building(root: &Root, top: &ImagePath) -> Result<bool, Failure> {
    is_directory(root, &building(top))
}

/// Returns whether a directory and no link to one is at `path`.
fn is_directory(root: &Root, path: &ImagePath) -> Result<bool, Failure> {
    Ok(matches!(root.node(path)?, Some(Node::Directory { .. })))
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
