//! A service as systemd puts it together from its unit and its drop-ins, and what in it is not as the bake has it.
//!
//! Only settings that keep the daemon from starting as it was installed, or that the spec sets, are judged. This module
//! must not read a unit or a drop-in: `drop_ins.rs` does.

mod command;

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::error::Failure;
use crate::format::unit::{environment, settings, words};
use crate::path::ImagePath;
use crate::precedence::{Conflict, Ours};
use crate::printable::printable;
use crate::root::Root;
use crate::runtime::Daemon;

/// Keys that are read, beside those of conditions.
const KEYS: [&str; 13] = [
    "DynamicUser",
    "Environment",
    "EnvironmentFile",
    "ExecCondition",
    "ExecStart",
    "ExecStartPost",
    "ExecStartPre",
    "LimitNOFILE",
    "RootDirectory",
    "RootImage",
    "Type",
    "UnsetEnvironment",
    "User",
];

/// Variables that the spec sets.
const VARIABLES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// Limit of the EnvironmentFile= that are read; a service has one or two.
const MOST_FILES: usize = 16;

/// Remedy for a setting of another drop-in.
const REMOVE: &str = "remove the setting; what the spec can say belongs into the spec";

/// Directories that are filled only after the boot has begun.
const VOLATILE: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// Service with everything that its files assign.
#[derive(Default)]
pub(super) struct Service {
    /// Assignments of each key since it was last emptied, in order. The keys of conditions are one key, as they are
    /// emptied together.
    assigned: BTreeMap<String, Vec<Assignment>>,
    /// Where a key was last emptied.
    emptied: BTreeMap<String, Assignment>,
}

/// Assignment of a value to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Assignment {
    key: String,
    value: String,
    path: Rc<ImagePath>,
    line: usize,
    /// The bake has made the file, or the package that the spec asks for.
    is_own: bool,
}

impl Assignment {
    fn conflict(&self, problem: String) -> Conflict {
        Conflict::new(&self.path, self.line, problem, REMOVE)
    }
}

impl Service {
    /// Reads the next file of the service.
    pub(super) fn read(&mut self, path: &ImagePath, text: &str, is_own: bool) {
        let path = Rc::new(path.clone());
        for setting in settings(text) {
            let group = match (setting.section.as_str(), setting.key.as_str()) {
                ("Unit", key) if key.starts_with("Condition") => "Condition",
                ("Unit", key) if key.starts_with("Assert") => "Assert",
                ("Service", key) if KEYS.contains(&key) => key,
                _ => continue,
            };
            let (group, is_empty) = (group.to_owned(), setting.value.is_empty());
            let (key, value, line) = (setting.key, setting.value, setting.line);
            let assignment = Assignment { key, value, path: Rc::clone(&path), line, is_own };
            match is_empty {
                true => {
                    self.assigned.remove(&group);
                    self.emptied.insert(group, assignment);
                }
                false => self.assigned.entry(group).or_default().push(assignment),
            }
        }
    }

    /// Finds what keeps the daemon from starting, and what is not as `wanted` has it, the bake's own drop-in.
    pub(super) fn conflicts(
        &self,
        root: &Root,
        ours: &Ours,
        daemon: &Daemon,
        wanted: &Service,
    ) -> Result<Vec<Conflict>, Failure> {
        let mut found = self.commands(root, ours, daemon)?;
        found.extend(self.type_and_user());
        found.extend(self.conditions(root, ours)?);
        found.extend(self.limit(wanted));
        found.extend(self.variables(root, ours, wanted)?);
        Ok(found)
    }

    /// Returns the assignments of `key` that are in force.
    fn all(&self, key: &str) -> &[Assignment] {
        self.assigned.get(key).map_or(&[], Vec::as_slice)
    }

    /// Returns the last assignment of `key`, if another file makes it.
    fn others(&self, key: &str) -> Option<&Assignment> {
        self.all(key).last().filter(|assignment| !assignment.is_own)
    }

    /// Finds types that the daemon does not have, and users and roots with which it can't work.
    fn type_and_user(&self) -> Vec<Conflict> {
        let is_true = |value: &str| matches!(value, "1" | "y" | "yes" | "t" | "true" | "on");
        let bad = |key: &str, value: &str| match key {
            "Type" => matches!(value, "oneshot" | "forking" | "dbus"),
            "User" => !matches!(value, "root" | "0"),
            "DynamicUser" => is_true(value),
            "RootDirectory" => value != "/",
            _ => true,
        };
        let keys = ["Type", "User", "DynamicUser", "RootDirectory", "RootImage"];
        let others = keys.iter().filter_map(|key| self.others(key).filter(|own| bad(key, &own.value)));
        others
            .map(|own| {
                let set = printable(&format!("{}={}", own.key, own.value));
                own.conflict(format!("sets `{set}`, with which the daemon does not start"))
            })
            .collect()
    }

    /// Finds conditions of paths that are not true in the root, so that the service does not start.
    fn conditions(&self, root: &Root, ours: &Ours) -> Result<Vec<Conflict>, Failure> {
        let mut found = Vec::new();
        let all = self.all("Condition").iter().chain(self.all("Assert"));
        for own in all.filter(|own| !own.is_own) {
            let kind = own.key.trim_start_matches("Condition").trim_start_matches("Assert");
            let (value, negated) =
                own.value.strip_prefix('!').map_or((own.value.as_str(), false), |value| (value.trim(), true));
            let names_a_path = matches!(
                kind,
                "PathExists" | "PathIsDirectory" | "FileNotEmpty" | "FileIsExecutable" | "DirectoryNotEmpty"
            );
            let Ok(path) = ImagePath::new(value) else { continue };
            let is_volatile = VOLATILE.iter().any(|top| path.is_below(&ImagePath::fixed(top)));
            if !names_a_path || is_volatile {
                continue;
            }
            let exists = exists(root, ours, &path)?;
            if (exists && negated && kind == "PathExists") || (!exists && !negated) {
                let set = printable(&format!("{}={}", own.key, own.value));
                found.push(
                    own.conflict(format!("sets `{set}`, which does not hold: the service does not start")),
                );
            }
        }
        Ok(found)
    }

    /// Finds another LimitNOFILE= than that of the bake's drop-in.
    fn limit(&self, wanted: &Service) -> Option<Conflict> {
        let (other, own) = (self.others("LimitNOFILE")?, wanted.all("LimitNOFILE").last()?);
        (other.value != own.value).then(|| {
            let (other_value, own_value) = (printable(&other.value), printable(&own.value));
            other.conflict(format!(
                "sets LimitNOFILE to `{other_value}`, which decides over `{own_value}` in {}",
                own.path
            ))
        })
    }

    /// Finds other values of the variables that the bake sets. A value may be a secret, and is not shown.
    fn variables(&self, root: &Root, ours: &Ours, wanted: &Service) -> Result<Vec<Conflict>, Failure> {
        let mut found = self.missing_files(root, ours)?;
        let (all, wanted) = (self.environment(root, ours)?, wanted.environment(root, ours)?);
        let unset: Vec<(&Assignment, String)> = self
            .all("UnsetEnvironment")
            .iter()
            .flat_map(|own| words(&own.value).into_iter().map(move |word| (own, word)))
            .collect();
        for (name, own) in &wanted {
            let names = |word: &str| word.split_once('=').map_or(word, |(name, _)| name) == name;
            if let Some((by, _)) = unset.iter().find(|(by, word)| !by.is_own && names(word)) {
                found.push(by.conflict(format!("unsets the variable {name} that {} sets", own.path)));
            }
            match all.get(name) {
                Some(other) if other.value != own.value => found.push(other.conflict(format!(
                    "sets the variable {name} to another value, which decides over {}",
                    own.path
                ))),
                None => {
                    let by = self.emptied.get("Environment").or(self.emptied.get("EnvironmentFile"));
                    let by = by.filter(|by| !by.is_own);
                    found.extend(by.map(|by| {
                        by.conflict(format!("empties {}, so that the variable {name} is not set", by.key))
                    }));
                }
                Some(_) => {}
            }
        }
        let excepts_all = |own: &&Assignment| own.value.split(',').any(|entry| entry.trim() == "*");
        if !wanted.is_empty() && !wanted.contains_key("NO_PROXY") {
            let other = all.get("NO_PROXY").filter(excepts_all);
            found.extend(other.map(|own| {
                own.conflict("sets the variable NO_PROXY to every host, and no proxy is used".to_owned())
            }));
        }
        Ok(found)
    }

    /// Finds an EnvironmentFile= that is not there, without which systemd does not start the service.
    fn missing_files(&self, root: &Root, ours: &Ours) -> Result<Vec<Conflict>, Failure> {
        let mut found = Vec::new();
        for own in self.all("EnvironmentFile").iter().filter(|own| !own.is_own) {
            // One with `-` before it may be missing, and a pattern may match nothing.
            let Ok(path) = ImagePath::new(&own.value) else { continue };
            let is_volatile = VOLATILE.iter().any(|top| path.is_below(&ImagePath::fixed(top)));
            if !own.value.contains(['*', '?', '[', '%']) && !is_volatile && !exists(root, ours, &path)? {
                let problem = format!("names `{path}`, which is not there: the service does not start");
                found.push(own.conflict(problem));
            }
        }
        Ok(found)
    }

    /// Returns the variables of the service, each with what sets it: an EnvironmentFile= decides over Environment=
    /// (systemd.exec(5)).
    fn environment(&self, root: &Root, ours: &Ours) -> Result<BTreeMap<String, Assignment>, Failure> {
        let mut variables = BTreeMap::new();
        for own in self.all("Environment") {
            for word in words(&own.value) {
                let Some((name, value)) = word.split_once('=') else { continue };
                let value = value.to_owned();
                if VARIABLES.contains(&name) {
                    variables.insert(name.to_owned(), Assignment { value, ..own.clone() });
                }
            }
        }
        let files = self.all("EnvironmentFile");
        for own in &files[files.len().saturating_sub(MOST_FILES)..] {
            let path = own.value.strip_prefix('-').unwrap_or(&own.value);
            let Ok(path) = ImagePath::new(path) else { continue };
            let (text, path) = (ours.text(root, &path)?.unwrap_or_default(), Rc::new(path));
            let wanted = environment(&text).filter(|(_, name, _)| VARIABLES.contains(&name.as_str()));
            variables.extend(wanted.map(|(line, name, value)| {
                (name, Assignment { value, path: Rc::clone(&path), line, ..own.clone() })
            }));
        }
        Ok(variables)
    }
}

/// Returns whether something is at `path` once the bake is done.
fn exists(root: &Root, ours: &Ours, path: &ImagePath) -> Result<bool, Failure> {
    Ok(ours.has(path.as_str()) || root.file(path)?.is_some() || root.is_directory(path).unwrap_or(false))
}
