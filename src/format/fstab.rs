//! The syntax of /etc/fstab, fstab(5).
//!
//! This module must not know what is mounted.

/// Line of an fstab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line<'text> {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is mounted.
    pub source: String,
    /// Mount point, as it is written but for escapes.
    pub point: String,
    /// Type of the filesystem.
    pub kind: &'text str,
    options: &'text str,
}

impl Line<'_> {
    /// Returns whether the line has this option.
    pub(crate) fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|own| own == option)
    }

    /// Returns the value of an option.
    pub(crate) fn value(&self, option: &str) -> Option<&str> {
        self.options.split(',').find_map(|own| own.strip_prefix(option)?.strip_prefix('='))
    }
}

/// Returns the lines of an fstab that mount something at a path.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let mut fields = line.split_whitespace();
        let (source, point) = (fields.next()?, unescaped(fields.next()?));
        let is_mount = !source.starts_with('#') && point.starts_with('/');
        let (kind, options) = (fields.next().unwrap_or("auto"), fields.next().unwrap_or_default());
        let line = Line { line: index + 1, source: unescaped(source), point, kind, options };
        (is_mount && kind != "swap").then_some(line)
    })
}

/// Reads a path in which space, tab, newline and backslash are written as three octal digits after a backslash.
pub(crate) fn unescaped(path: &str) -> String {
    let mut parts = path.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => text.extend([char::from(byte).to_string().as_str(), &part[3..]]),
            None => text.extend(["\\", part]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn mounts_are_told_from_swap_and_comments() {
        let text = "# / ext4\n\
            UUID=1 / ext4 defaults 0 1\n\
            /dev/sdb1\t/usr/local  btrfs  subvol=/@/usr/local,nofail\n\
            /swapfile none swap sw 0 0\n\
            /swap /swap swap sw 0 0\n\
            /var/opt /opt none bind,noauto,x-systemd.automount 0 0\n\
            tmpfs /mnt/with\\040space tmpfs\n\
            only\n";
        let found: Vec<_> = lines(text).map(|line| (line.line, line.point, line.kind)).collect();
        let expected = [
            (2, "/", "ext4"),
            (3, "/usr/local", "btrfs"),
            (6, "/opt", "none"),
            (7, "/mnt/with space", "tmpfs"),
        ];
        assert_eq!(found, expected.map(|(line, point, kind)| (line, point.to_owned(), kind)));
        let opt = lines(text).nth(2).unwrap();
        assert!(opt.has("noauto") && opt.has("x-systemd.automount") && !opt.has("auto"));
        let local = lines(text).nth(1).unwrap();
        assert_eq!((local.value("subvol"), local.value("sub")), (Some("/@/usr/local"), None));
    }
}
