//! Mounts of the boot that hide files of the bake, or bring them only after systemd has loaded its units.
//!
//! The files are those of /etc/fstab and of mount units that something wants. This module must not mount anything:
//! whether a mount is there while the root is looked at decides what it hides.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Failure, Kind};
use crate::format::fstab;
use crate::format::unit::{mount_point, settings};
use crate::node::Node;
use crate::path::ImagePath;
use crate::precedence::{Conflict, Ours, Weight, files, if_safe, units};
use crate::reserved::STATE;
use crate::root::{LONGEST_TEXT, Root};

/// Table of the mounts.
const FSTAB: &str = "/etc/fstab";

/// Directories of mount units in an image.
const UNITS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Limit of the mounts that are judged.
const MOST_MOUNTS: usize = 256;

/// Limit of the directories that are looked for behind links.
const MOST_LINKED: usize = 64;

/// Mount of the boot.
struct Mount {
    point: ImagePath,
    /// File that has the mount, and the line in it.
    path: ImagePath,
    line: Option<usize>,
    /// Nothing that is written below the mount point now is there after a boot.
    is_volatile: bool,
    /// The mount is there before systemd loads the units of the root.
    in_initrd: bool,
}

/// Files of a bake, and the directories above them.
struct Baked<'a> {
    /// Every path, and whether a directory belongs there.
    paths: Vec<(&'a ImagePath, bool)>,
    /// Paths that lie elsewhere because a directory above them is a link: one of each directory.
    linked: BTreeMap<ImagePath, &'a ImagePath>,
}

/// Finds the mounts that hide files of the bake.
pub(crate) fn conflicts(root: &Root, ours: &Ours) -> Result<Vec<Conflict>, Failure> {
    let state = ImagePath::fixed(STATE);
    let mut baked = Baked { paths: ours.paths(), linked: BTreeMap::new() };
    if baked.paths.is_empty() {
        return Ok(Vec::new());
    }
    baked.paths.push((&state, true));
    let mut mounts = of_fstab(root)?;
    mounts.extend(of_units(root, ours)?);
    if mounts.is_empty() {
        return Ok(Vec::new());
    }
    baked.linked = linked(root, &baked.paths)?;
    let mut found = Vec::new();
    for mount in &mounts {
        found.extend(mount.judge(root, &baked)?);
    }
    Ok(found)
}

impl Mount {
    /// Returns what the mount does to the files of the bake.
    fn judge(&self, root: &Root, baked: &Baked) -> Result<Option<Conflict>, Failure> {
        let (mut files, mut directories) = (Vec::new(), Vec::new());
        let linked = self.linked(root, baked)?;
        let is_linked = |path: &ImagePath| path.parent().is_some_and(|parent| linked.contains(&parent));
        for (path, is_directory) in &baked.paths {
            if **path == self.point || path.is_below(&self.point) || is_linked(path) {
                if *is_directory { &mut directories } else { &mut files }.push(*path);
            }
        }
        let (Some(first), point) = (files.first().or(directories.first()), &self.point) else {
            return Ok(None);
        };
        if !self.is_volatile && if_safe(root.is_mount_point(point))? {
            let unit = files.iter().find(|path| path.as_str().contains("/systemd/system"));
            return Ok(unit.filter(|_| !self.in_initrd).map(|unit| self.too_late(unit)));
        }
        let what = match files.len() + directories.len() {
            1 => format!("{first}"),
            count => format!("{first} and {} more of the bake", count - 1),
        };
        let (problem, help) = match self.is_volatile {
            true => (
                format!("mounts an empty filesystem at {point} at every boot, which hides {what}"),
                "take the mount out".to_owned(),
            ),
            false => (
                format!("mounts {point} at boot, which hides {what}: it is not mounted now"),
                format!("mount it at {} while baking", root.shown(point)),
            ),
        };
        let weight = if files.is_empty() { Weight::Told } else { Weight::Refused };
        Ok(Some(Conflict::new(&self.path, self.line, problem, &help).weighing(weight)))
    }

    /// Returns the conflict of a mount that comes after systemd has loaded the units: it finds none of those below, and
    /// a link to one leads to nothing.
    fn too_late(&self, unit: &ImagePath) -> Conflict {
        let point = &self.point;
        let problem =
            format!("mounts {point} only after systemd has loaded its units: it does not find {unit}");
        let help = match self.path.as_str() {
            FSTAB => format!("add the option x-initrd.mount to the line, so that the initrd mounts {point}"),
            _ => format!("mount {point} by a line of {FSTAB} with the option x-initrd.mount"),
        };
        Conflict::new(&self.path, self.line, problem, &help).weighing(Weight::Refused)
    }

    /// Returns the directories that links lead to the mount.
    fn linked(&self, root: &Root, baked: &Baked) -> Result<BTreeSet<ImagePath>, Failure> {
        let mut linked = BTreeSet::new();
        for (directory, path) in &baked.linked {
            if if_safe(root.is_really_below(path, &self.point))? {
                linked.insert(directory.clone());
            }
        }
        Ok(linked)
    }
}

/// Returns those of `paths` that lie elsewhere because a directory above them is a link: one of each directory.
fn linked<'a>(
    root: &Root,
    paths: &[(&'a ImagePath, bool)],
) -> Result<BTreeMap<ImagePath, &'a ImagePath>, Failure> {
    let parents = paths.iter().filter_map(|(path, _)| Some((path.parent()?, *path)));
    let (parents, mut links) = (parents.collect::<BTreeMap<_, _>>(), BTreeSet::new());
    let above: BTreeSet<ImagePath> = paths.iter().flat_map(|(path, _)| path.ancestors()).collect();
    for path in above.into_iter().take(MOST_MOUNTS) {
        if matches!(if_safe(root.node(&path))?, Some(Node::Link { .. })) {
            links.insert(path);
        }
    }
    let is_linked = |path: &ImagePath| path.ancestors().iter().any(|above| links.contains(above));
    Ok(parents.into_iter().filter(|(_, path)| is_linked(path)).take(MOST_LINKED).collect())
}

/// Returns the mounts of /etc/fstab.
fn of_fstab(root: &Root) -> Result<Vec<Mount>, Failure> {
    let path = ImagePath::fixed(FSTAB);
    let text = match root.any_text(&path, LONGEST_TEXT) {
        Err(failure) if failure.kind == Kind::Invalid => None,
        text => text?,
    };
    let text = text.unwrap_or_default();
    let mount = |line: fstab::Line| {
        let parts: Vec<&str> = line.point.split('/').filter(|part| !part.is_empty()).collect();
        let point = ImagePath::new(&format!("/{}", parts.join("/"))).ok()?;
        let is_mounted = !line.has("noauto") || line.has("x-systemd.automount");
        // What is mounted on itself, or over itself, hides nothing.
        let is_itself =
            (line.has("bind") || line.has("rbind")) && line.source.trim_end_matches('/') == point.as_str();
        // The initrd sees the root at /sysroot.
        let is_own = |lower: &str| lower.strip_prefix("/sysroot").unwrap_or(lower) == point.as_str();
        let is_overlay = line.kind == "overlay"
            && line.value("lowerdir").is_some_and(|lower| lower.split(':').any(is_own));
        (is_mounted && !is_itself && !is_overlay).then(|| Mount {
            in_initrd: line.has("x-initrd.mount") || point.as_str() == "/usr",
            is_volatile: matches!(line.kind, "tmpfs" | "ramfs"),
            path: path.clone(),
            line: Some(line.line),
            point,
        })
    };
    Ok(fstab::lines(&text).filter_map(mount).take(MOST_MOUNTS).collect())
}

/// Returns the mounts of units that something wants, at or above a path of the bake.
fn of_units(root: &Root, ours: &Ours) -> Result<Vec<Mount>, Failure> {
    let directories = UNITS.map(ImagePath::fixed);
    let (names, _) = files::by_name(root, ours, &directories, ".mount")?;
    let (paths, mut mounts) = (ours.paths(), Vec::new());
    for (name, path) in names {
        let Some(point) = mount_point(&name).and_then(|point| ImagePath::new(&point).ok()) else { continue };
        let is_above = paths.iter().any(|(path, _)| **path == point || path.is_below(&point));
        if !is_above || units::is_mask(root, &path)? || !is_wanted(root, &directories, &name)? {
            continue;
        }
        let text = ours.text(root, &path)?.unwrap_or_default();
        let kinds = settings(&text).filter(|setting| setting.key == "Type");
        let is_volatile = kinds.last().is_some_and(|kind| matches!(kind.value.as_str(), "tmpfs" | "ramfs"));
        mounts.push(Mount { point, path, line: None, is_volatile, in_initrd: false });
    }
    Ok(mounts)
}

/// Returns whether a link makes another unit want the mount unit `name`, or its automount unit.
fn is_wanted(root: &Root, directories: &[ImagePath], name: &str) -> Result<bool, Failure> {
    let automount = format!("{}.automount", name.trim_end_matches(".mount"));
    for directory in directories {
        let wanting = |name: &str| [".wants", ".requires", ".upholds"].iter().any(|end| name.ends_with(end));
        for wanting in if_safe(root.names(directory, wanting))? {
            for unit in [name, &automount] {
                let Ok(path) = ImagePath::new(&format!("{directory}/{wanting}/{unit}")) else { continue };
                if if_safe(root.has(&path))? {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}
