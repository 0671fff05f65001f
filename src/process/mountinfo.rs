//! Reads mountinfo files, proc_pid_mountinfo(5): which mounts are visible below a directory.
//!
//! This module must not mount anything.

use crate::format::fstab::unescaped;

/// Mount in a mountinfo file.
struct Mount<'text> {
    id: &'text str,
    parent: &'text str,
    path: String,
    options: &'text str,
    /// A mount point of autofs: to touch it would have something mounted there.
    is_automount: bool,
}

impl Mount<'_> {
    /// Reads a line, proc_pid_mountinfo(5).
    fn parse(line: &str) -> Option<Mount<'_>> {
        let mut fields = line.split(' ');
        let (id, parent) = (fields.next()?, fields.next()?);
        let (path, options) = (unescaped(fields.nth(2)?), fields.next()?);
        Some(Mount { id, parent, path, options, is_automount: line.contains(" - autofs ") })
    }
}

/// Returns path and options of the mount that is visible at `top` and of all mounts below it, from a mountinfo file.
/// Other mounts, which it covers, may have paths below `top` as well.
pub(super) fn mounts(mountinfo: &str, top: &str) -> Vec<(String, String)> {
    let all: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
    let mut ids: Vec<&str> =
        all.iter().rfind(|mount| mount.path == top).map(|mount| mount.id).into_iter().collect();
    let mut known = 0;
    while known < ids.len() {
        let above = ids[known];
        ids.extend(
            all.iter().filter(|mount| mount.parent == above && mount.id != above).map(|mount| mount.id),
        );
        known += 1;
    }
    let restricted = all.into_iter().filter(|mount| ids.contains(&mount.id) && !mount.is_automount);
    restricted.map(|mount| (mount.path, mount.options.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::mounts;

    #[test]
    fn only_the_mounts_of_the_view_are_restricted() {
        let mountinfo = "\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
22 21 0:20 / /tmp rw - tmpfs tmpfs rw
23 22 0:21 / /tmp/covered rw - tmpfs tmpfs rw
30 22 0:22 / /tmp rw,nosuid - tmpfs tmpfs rw
31 30 8:2 /usr /tmp/usr rw,noexec - ext4 /dev/sda2 rw
32 31 8:3 / /tmp/usr/with\\040space ro - ext4 /dev/sda3 rw
33 21 0:23 / /proc rw - proc proc rw
34 21 0:24 / /boot rw - autofs systemd-1 rw
35 34 8:4 / /boot rw - vfat /dev/sda4 rw
";
        let found = mounts(mountinfo, "/tmp");
        let found: Vec<_> = found.iter().map(|(path, options)| (path.as_str(), options.as_str())).collect();
        assert_eq!(found, [("/tmp", "rw,nosuid"), ("/tmp/usr", "rw,noexec"), ("/tmp/usr/with space", "ro")]);
        assert_eq!(mounts(mountinfo, "/").len(), 8);
    }
}
