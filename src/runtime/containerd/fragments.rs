//! Answers what the files that a config.toml imports make of it: they are read after it, and win.
//!
//! This module must not read a file: its caller has the texts, in containerd's order.
//!
//! Source: `LoadConfig` and `mergeConfig` in cmd/containerd/server/config/config.go of 2.0 to 2.3.

use semver::Version;
use toml_edit::{DocumentMut, Item};

use crate::format::toml::{self, merge};
use crate::runtime::Settings;
use crate::runtime::containerd::promises::{Promises, broken};
use crate::runtime::containerd::validate::{Problem, problems};
use crate::runtime::containerd::{CRI, Release};

/// Returns the problems that each of `fragments` adds to those of the config.toml `text`, with its index. What is wrong
/// with `text` itself is not told.
pub(crate) fn fragment_problems(
    version: &str,
    text: &str,
    fragments: &[String],
    promises: Promises,
) -> Vec<(usize, Problem)> {
    let Some(mut whole) = toml::document(text).ok().filter(|_| !fragments.is_empty()) else {
        return Vec::new();
    };
    let judged = |document: &DocumentMut| {
        let mut found = problems(document, version);
        found.extend(broken(&Settings::of_file(document.as_item()), promises));
        found
    };
    let (mut known, mut found) = (judged(&whole), Vec::new());
    for (index, fragment) in fragments.iter().enumerate() {
        let added = match add(&mut whole, fragment, version) {
            Ok(()) => judged(&whole).into_iter().filter(|problem| !known.contains(problem)).collect(),
            Err(problem) => vec![problem],
        };
        known.extend(added.iter().cloned());
        found.extend(added.into_iter().map(|problem| (index, problem)));
    }
    found
}

/// Merges a fragment into the whole as far as both have the same version; the error says why containerd does not start
/// with it, or does not read it.
fn add(whole: &mut DocumentMut, fragment: &str, version: &str) -> Result<(), Problem> {
    let refused = |why: String| Problem { why, help: "mend the file, or remove it".to_owned() };
    let fragment =
        toml::document(fragment).map_err(|why| refused(format!("{why}: containerd does not start")))?;
    let of = |document: &DocumentMut| document.get("version").and_then(Item::as_integer).unwrap_or(1);
    let (own, root) = (of(&fragment), of(whole));
    let help = format!("write it with `version = {root}` and the keys of that version");
    if let Some(why) = misfit(own, root, &fragment, version) {
        return Err(Problem { why, help });
    }
    if own != root {
        return Ok(());
    }
    merge(whole.as_table_mut(), fragment.as_table())
        .map_err(|why| refused(format!("{why}: containerd does not start")))
}

/// Tells why a fragment of version `own` does not go with a config.toml of version `root`.
fn misfit(own: i64, root: i64, fragment: &DocumentMut, version: &str) -> Option<String> {
    let (release, version): (Release, Version) = (Release::parse(version).ok()?, version.parse().ok()?);
    let has_old_cri = || {
        let plugins = fragment.get("plugins");
        plugins.is_some_and(|plugins| plugins.get(CRI).is_some() || plugins.get("cri").is_some())
    };
    let is_checked = version >= Version::new(2, 3, 0) && version <= Version::new(2, 3, 4);
    let is_too_new = own > release.config_version() || (is_checked && own > root);
    match () {
        () if is_too_new => {
            Some(format!("has version {own}, and the configuration has {root}: containerd does not start"))
        }
        // The plugins' own migration is left out where the merged version is 3 already.
        () if own < root && version < Version::new(2, 3, 0) && has_old_cri() => {
            Some(format!("has version {own}, whose keys of the CRI are dropped beside version {root}"))
        }
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Promises, fragment_problems};

    fn found(version: &str, text: &str, fragments: &[&str]) -> Vec<(usize, String)> {
        let fragments: Vec<String> = fragments.iter().map(|text| (*text).to_owned()).collect();
        let promises = Promises { registries: Some("/etc/containerd/certs.d"), plugins: None };
        let found = fragment_problems(version, text, &fragments, promises);
        found.into_iter().map(|(index, problem)| (index, problem.why)).collect()
    }

    #[test]
    fn what_a_fragment_breaks_is_told_with_it() {
        let own = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d'\n";
        for (fragment, says) in [
            ("version = 3\n[grpc]\nuid = 1000\n", "root on the node"),
            (
                "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/other'\n",
                "/other",
            ),
            (
                "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'nvidia'\n",
                "nvidia",
            ),
            ("version = 4\n", "does not start"),
            ("version = \n", "does not start"),
            ("version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'x'\n", "dropped"),
        ] {
            let found = found("2.1.9", own, &["version = 3\n", fragment]);
            assert!(matches!(&found[..], [(1, why)] if why.contains(says)), "{fragment}: {found:?}");
        }
        let runtime = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'nvidia'\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]\nruntime_type = 'io.containerd.runc.v2'\n";
        assert_eq!(found("2.1.9", own, &[runtime]), []);
        let of_4 = own.replace("version = 3", "version = 4");
        assert_eq!(found("2.3.4", &of_4, &[runtime]), []);
        assert_eq!(found("2.3.4", own, &["version = 4\n"]).len(), 1);
        assert_eq!(found("2.3.5", own, &["version = 4\n"]), []);
    }
}
