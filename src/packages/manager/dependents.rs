//! Packages that other packages need and that therefore can't be removed.
//!
//! This module must not change the root.

use std::collections::BTreeSet;

use crate::error::Failure;
use crate::packages::manager::distribution::Manager;
use crate::packages::manager::session::Session;
use crate::packages::manager::{apt, dnf};

impl Session<'_> {
    /// Returns those of `names` that can be removed without any package beside them.
    pub(crate) fn removable(&mut self, names: Vec<String>) -> Result<Vec<String>, Failure> {
        let mut left = names;
        while !left.is_empty() {
            let needed = self.needed(&left)?;
            if needed.is_empty() {
                break;
            }
            left.retain(|name| !needed.contains(name));
        }
        Ok(left)
    }

    /// Returns those of `names` that packages beside them depend on.
    fn needed(&mut self, names: &[String]) -> Result<BTreeSet<String>, Failure> {
        if self.others_lost(names)? == 0 {
            return Ok(BTreeSet::new());
        }
        let mut needed = BTreeSet::new();
        for name in names {
            let without: Vec<String> = names.iter().filter(|other| *other != name).cloned().collect();
            if without.is_empty() || self.others_lost(&without)? < self.others_lost(names)? {
                needed.insert(name.clone());
            }
        }
        // Where one package depends on two of them, keeping either alone changes nothing.
        if needed.is_empty() { Ok(names.iter().cloned().collect()) } else { Ok(needed) }
    }

    /// Counts the packages that would be removed beside `names`; for rpm the dependencies that would break.
    fn others_lost(&mut self, names: &[String]) -> Result<usize, Failure> {
        match self.manager {
            Manager::Apt => {
                let call = apt::simulate_removal(&self.options, names);
                let answer = self.succeed("looking for what depends on the packages", call)?;
                let removed = apt::read_transaction(&answer).removed;
                Ok(removed.iter().filter(|name| !names.contains(name)).count())
            }
            Manager::Dnf => {
                let answer = self.sandbox.run(dnf::simulate_removal(&self.options, names))?;
                Ok(answer.stderr.lines().filter(|line| line.contains("is needed by")).count())
            }
        }
    }
}
