//! Directories of an image that are kept free of what a spec can place, each with its owner.
//!
//! This module must not know a component: `plan/possible.rs` has the paths of components.

use crate::path::ImagePath;

/// Directory of nodebake's own state.
pub(crate) const STATE: &str = "/var/lib/nodebake";

/// Begin of the names of files that exist only while nodebake works.
const WORKING: &str = ".nodebake-";

/// Directories in which no plan has a path, and whose they are.
const RESERVED: [(&str, &str); 9] = [
    (STATE, "nodebake's own state"),
    ("/dev", KERNEL),
    ("/proc", KERNEL),
    ("/run", TEMPORARY),
    ("/sys", KERNEL),
    ("/tmp", TEMPORARY),
    ("/var/lock", TEMPORARY),
    ("/var/run", TEMPORARY),
    ("/var/tmp", TEMPORARY),
];

const KERNEL: &str = "the kernel's";

const TEMPORARY: &str = "for temporary files";

/// Directories of programs and of the boot loader: only members of archives and packages go there.
const PROGRAMS: [&str; 14] = [
    "/bin",
    "/boot",
    "/efi",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/opt/cni/bin",
    "/sbin",
    "/usr/bin",
    "/usr/libexec",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/sbin",
];

/// Directories in which every directory belongs to some other program.
const SHARED: [&str; 20] = [
    "/etc",
    "/etc/systemd",
    "/etc/systemd/system",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/opt/cni",
    "/root",
    "/srv",
    "/usr",
    "/usr/lib",
    "/usr/lib/systemd",
    "/usr/local",
    "/usr/local/lib",
    "/usr/local/lib/systemd",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/lib",
];

/// Returns why no plan has `path`; `None` if one may.
pub(crate) fn reserved(path: &ImagePath) -> Option<String> {
    let (directory, owner) = match RESERVED.iter().find(|(directory, _)| is_within(path, directory)) {
        Some(found) => *found,
        None if path.as_str().split('/').any(|name| name.starts_with(WORKING)) => {
            return Some(format!(
                "has a name that begins with `{WORKING}`, as nodebake's temporary files have"
            ));
        }
        None => return None,
    };
    Some(format!("is in `{directory}`, which is {owner}"))
}

/// Returns the directories in which no plan has a path.
pub(crate) fn reserved_directories() -> impl Iterator<Item = ImagePath> {
    RESERVED.iter().map(|(directory, _)| ImagePath::fixed(directory))
}

/// Returns why `directory` can't hold the directories of registries; `None` if it can.
pub(crate) fn reserved_from_registries(directory: &ImagePath) -> Option<String> {
    let programs = || PROGRAMS.iter().find(|programs| is_within(directory, programs));
    match reserved(directory) {
        Some(why) => Some(why),
        None if SHARED.contains(&directory.as_str()) => Some("is shared with other programs".to_owned()),
        None => programs().map(|programs| format!("is in `{programs}`, which is for programs")),
    }
}

fn is_within(path: &ImagePath, directory: &str) -> bool {
    path.as_str().strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::{reserved, reserved_from_registries};
    use crate::path::ImagePath;

    #[test]
    fn the_state_and_the_kernels_directories_are_reserved() {
        for path in ["/dev", "/dev/null", "/var/lib/nodebake", "/var/lib/nodebake/x", "/a/.nodebake-x.tmp/b"]
        {
            assert!(reserved(&ImagePath::fixed(path)).is_some(), "{path}");
        }
        for path in ["/devices", "/var/lib/nodebake2", "/var/lib", "/etc/containerd/certs.d", "/nodebake"] {
            assert_eq!(reserved(&ImagePath::fixed(path)), None, "{path}");
        }
        for path in ["/usr", "/usr/bin", "/usr/bin/x", "/etc", "/boot/efi"] {
            assert!(reserved_from_registries(&ImagePath::fixed(path)).is_some(), "{path}");
        }
        assert_eq!(reserved_from_registries(&ImagePath::fixed("/etc/certs")), None);
    }
}
