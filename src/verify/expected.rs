//! Judges a root by the caller's word: what a spec and its lock want in it, whatever the root's receipt says.
//!
//! This module must not plan: `bake/expected.rs` does.

use std::collections::BTreeMap;

use crate::error::Failure;
use crate::node::{EXECUTABLE, Node, Octal, Owner};
use crate::path::ImagePath;
use crate::plan::Plan;
use crate::root::Root;
use crate::state::{Before, Owned, Receipt};
use crate::verify::files::differing;
use crate::verify::finding::{APPLY, CheckResult, Finding, Verdict};

/// Name of the check.
pub(super) const CHECK: &str = "spec";

/// Contents of a root, as a spec and its lock want them.
#[derive(Debug)]
pub(crate) struct Expected {
    /// Every path whose content is known without the network, and what belongs there.
    pub plan: Plan,
    /// Executables that must be there and that nothing pins, each with its component.
    pub unpinned: BTreeMap<ImagePath, String>,
    /// What can't be judged, and why.
    pub unknown: Vec<String>,
}

impl Expected {
    /// Returns the receipt that a bake of the plan would write. Of an executable that nothing pins it has the content that
    /// is found, so that other checks know where it is.
    pub(super) fn receipt(&self, root: &Root) -> Result<Receipt, Failure> {
        let mut receipt = Receipt::new(&self.plan.arch, self.plan.artifacts.clone());
        for (path, entry) in &self.plan.entries {
            let (node, (artifact, member)) = (entry.want.node(), entry.want.origin());
            // A directory was there before as well, and its label is not nodebake's.
            let before = match node {
                Node::Directory { mode, owner } => Before::Directory(mode, owner),
                _ => Before::Nothing,
            };
            let component = entry.component.clone();
            receipt.paths.insert(
                path.clone(),
                Owned { node, size: entry.want.size(), component, artifact, member, before },
            );
        }
        for (path, component) in &self.unpinned {
            if let Some(Node::File { sha256, .. }) = root.node(path)? {
                let node = Node::File { mode: Octal(EXECUTABLE), sha256, owner: Owner::default() };
                let of = self.plan.artifacts.iter().find(|artifact| artifact.component == *component);
                let (artifact, component) = (of.map(|artifact| artifact.sha256), component.clone());
                let owned =
                    Owned { node, size: None, component, artifact, member: None, before: Before::Nothing };
                receipt.paths.insert(path.clone(), owned);
            }
        }
        Ok(receipt)
    }

    /// Compares the root with `receipt`, which is [`Expected::receipt`].
    pub(super) fn compare(
        &self,
        root: &Root,
        receipt: &Receipt,
        verdict: &mut Verdict,
    ) -> Result<(), Failure> {
        let mut findings = differing(root, receipt, CHECK)?;
        // An administrator's link to a directory is as good as the directory.
        let mut linked = Vec::new();
        let directories =
            receipt.paths.iter().filter(|(_, owned)| matches!(owned.node, Node::Directory { .. }));
        for (path, _) in directories {
            if matches!(root.node(path)?, Some(Node::Link { .. })) && root.is_directory(path)? {
                linked.push(path.to_string());
            }
        }
        findings.retain(|finding| !finding.path.as_ref().is_some_and(|path| linked.contains(path)));
        for path in self.unpinned.keys().filter(|path| !receipt.paths.contains_key(*path)) {
            findings.push(Finding::new(CHECK, Some(path), "is missing", APPLY));
        }
        let count = self.plan.entries.len();
        verdict.add(CHECK, CheckResult::of(findings, format!("{count} paths as the spec wants them")));
        for why in &self.unknown {
            verdict.add(CHECK, CheckResult::Skipped(why.clone()));
        }
        Ok(())
    }
}
