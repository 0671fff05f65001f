//! The syntax of sysctl.d files, and what systemd-sysctl makes of several of them (sysctl.d(5), systemd's
//! src/sysctl/sysctl.c).
//!
//! This module must not know which parameters are wanted.

use std::collections::BTreeMap;

use crate::format::systemd::glob;

/// Names of one variable of the kernel: whoever is written last decides (inet_forward_change in the kernel's
/// net/ipv4/devinet.c). STIGs for RHEL turn the second one off.
const ONE_VARIABLE: [&str; 2] = ["net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding"];

/// Parameters as several files set them, in systemd's order.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    settings: BTreeMap<String, Setting>,
    read: usize,
}

/// Line that sets a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Value; none where the line excepts the parameter from patterns, so that nothing sets it.
    pub value: Option<String>,
    /// Number of the file, in the order in which the files were read.
    pub file: usize,
    /// Number of the line, from 1.
    pub line: usize,
    /// Place in the order in which systemd writes the parameters to the kernel.
    order: usize,
}

impl Parameters {
    /// Reads the next file. An assignment of another value replaces an earlier one and is written later; one of the same
    /// value changes nothing.
    pub(crate) fn read(&mut self, file: usize, text: &str) {
        for (index, line) in text.lines().enumerate() {
            let Some((name, value)) = assignment(line) else { continue };
            let key = path(name);
            if self.settings.get(&key).is_some_and(|setting| setting.value.as_deref() == value) {
                continue;
            }
            self.read += 1;
            let value = value.map(str::to_owned);
            self.settings.insert(key, Setting { value, file, line: index + 1, order: self.read });
        }
    }

    /// Returns the name and the setting that decide the parameter `name` once all files are read: the last that is
    /// written to its variable, or else the line that excepts it.
    pub(crate) fn deciding(&self, name: &str) -> Option<(&str, &Setting)> {
        let key = path(name);
        let is_alias = |other: &&&str| **other != key && ONE_VARIABLE.contains(&key.as_str());
        let aliases: Vec<&str> = ONE_VARIABLE.iter().filter(is_alias).copied().collect();
        let own = self.settings.get_key_value(&key);
        let exact = own.into_iter().chain(aliases.iter().filter_map(|key| self.settings.get_key_value(*key)));
        // An exact name wins over every pattern, so that only the pattern of another name can decide.
        let unnamed: Vec<&str> =
            aliases.iter().copied().filter(|key| !self.settings.contains_key(*key)).collect();
        let patterns = self.settings.iter().filter(|(pattern, _)| {
            pattern.contains(['*', '?', '[']) && unnamed.iter().any(|key| matches(pattern, key))
        });
        let written = exact.chain(patterns).filter(|(_, setting)| setting.value.is_some());
        let last = written.max_by_key(|(_, setting)| setting.order).or(own);
        last.map(|(key, setting)| (key.as_str(), setting))
    }
}

/// Splits a line into name and value; without `=` only a `-` before the name makes it more than a mistake.
fn assignment(line: &str) -> Option<(&str, Option<&str>)> {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return None;
    }
    match line.split_once('=') {
        Some((name, value)) => Some((name.strip_prefix('-').unwrap_or(name).trim(), Some(value.trim()))),
        None => line.strip_prefix('-').map(|name| (name.trim(), None)),
    }
}

/// Returns the path of a parameter below /proc/sys. Components are separated by the first of `.` and `/` in the name,
/// and the other character stands for what it is in a component.
pub(crate) fn path(name: &str) -> String {
    let swapped: String = match name.find(['.', '/']).map(|at| &name[at..=at]) {
        Some(".") => name.chars().map(swap).collect(),
        _ => name.to_owned(),
    };
    let parts = swapped.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.collect::<Vec<_>>().join("/")
}

/// Returns the name of the parameter at `path` below /proc/sys, as it is usually written.
pub(crate) fn name(path: &str) -> String {
    path.chars().map(swap).collect()
}

fn swap(c: char) -> char {
    match c {
        '.' => '/',
        '/' => '.',
        other => other,
    }
}

/// Returns whether a pattern of paths matches `path`: no part of it matches a slash.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (Some(pattern), Some(part)) if glob(pattern, part) => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Parameters, name, path};

    /// Reads the files in this order and returns name, value, file and line of what decides `parameter`.
    fn deciding(files: &[&str], parameter: &str) -> Option<(String, Option<String>, usize, usize)> {
        let mut parameters = Parameters::default();
        files.iter().enumerate().for_each(|(file, text)| parameters.read(file, text));
        let (key, setting) = parameters.deciding(parameter)?;
        Some((name(key), setting.value.clone(), setting.file, setting.line))
    }

    fn set(
        key: &str,
        value: &str,
        file: usize,
        line: usize,
    ) -> Option<(String, Option<String>, usize, usize)> {
        Some((key.to_owned(), Some(value.to_owned()), file, line))
    }

    #[test]
    fn parameters_are_found_as_systemd_finds_them() {
        for (name, expected) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("/net/ipv4//ip_forward", "net/ipv4/ip_forward"),
        ] {
            assert_eq!(path(name), expected);
        }
        assert_eq!(name("net/ipv4/conf/eth0.1/forwarding"), "net.ipv4.conf.eth0/1.forwarding");
    }

    #[test]
    fn the_last_assignment_decides_whatever_its_separators() {
        let ours = "vm.max_map_count = 1";
        for later in
            ["vm.max_map_count=0", "vm/max_map_count = 0", " -vm.max_map_count=0 ", "/vm/max_map_count=0"]
        {
            let found =
                deciding(&[ours, &format!("# a\n\n{later}\n; vm.max_map_count = 9\n")], "vm.max_map_count");
            assert_eq!(found, set("vm.max_map_count", "0", 1, 3), "{later}");
        }
        let same = deciding(&["vm.max_map_count=1", ours], "vm.max_map_count");
        assert_eq!(same, set("vm.max_map_count", "1", 0, 1));
        assert_eq!(deciding(&["vm.max_map_count", "other = 1"], "vm.max_map_count"), None);
    }

    #[test]
    fn a_pattern_never_decides_over_an_exact_name() {
        let found = deciding(
            &["net.ipv4.conf.all.rp_filter = 1", "net.ipv4.conf.*.rp_filter = 2"],
            "net.ipv4.conf.all.rp_filter",
        );
        assert_eq!(found, set("net.ipv4.conf.all.rp_filter", "1", 0, 1));
    }

    #[test]
    fn a_name_with_a_minus_alone_unsets_a_parameter() {
        let found = deciding(&["vm.a = 1", "-vm.a"], "vm.a");
        assert_eq!(found, Some(("vm.a".to_owned(), None, 1, 1)));
    }

    #[test]
    fn both_names_of_the_kernels_variable_decide() {
        let (forward, all) = ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding");
        let ours = "net.ipv4.ip_forward = 1";
        assert_eq!(deciding(&[ours, "net.ipv4.conf.all.forwarding = 0"], forward), set(all, "0", 1, 1));
        assert_eq!(deciding(&["net.ipv4.conf.all.forwarding = 0", ours], forward), set(forward, "1", 1, 1));
        // The first assignment of the same value keeps its place, so that what stands between decides.
        assert_eq!(deciding(&[ours, "net.ipv4.conf.all.forwarding = 0", ours], forward), set(all, "0", 1, 1));
        let pattern = "net.ipv4.conf.*.forwarding = 0";
        assert_eq!(deciding(&[ours, pattern], forward), set("net.ipv4.conf.*.forwarding", "0", 1, 1));
        assert_eq!(
            deciding(&[ours, pattern, "-net.ipv4.conf.all.forwarding"], forward),
            set(forward, "1", 0, 1)
        );
        assert_eq!(deciding(&[ours, "net.ipv4.*.forwarding = 0"], forward), set(forward, "1", 0, 1));
    }
}
