//! Answers what the files that a config.toml imports make of it: they are read after it, and win.
//!
//! This module must not read a file: its caller has the texts, in containerd's order.
//!
//! Source: `LoadConfig` and `mergeConfig` in cmd/containerd/server/config/config.go of 2.0 to 2.3.

use semver::Version;
use toml_edit::{DocumentMut, Item, value};

use crate::format::toml::{self, merge, newer};
use crate::printable::printable;
use crate::runtime::Settings;
use crate::runtime::containerd::keys::unread_keys;
use crate::runtime::containerd::promises::{Promises, broken};
use crate::runtime::containerd::validate::{Problem, problems};
use crate::runtime::containerd::{CRI, Release};

/// Byte order mark of UTF-8, which `toml_edit` skips and Go's readers do not.
const BYTE_ORDER_MARK: char = '\u{feff}';

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
    let written = Settings::of_file(whole.as_item());
    let judged = |document: &DocumentMut| {
        let mut found = problems(document, version);
        let settings = Settings::of_file(document.as_item());
        found.extend(broken(&settings, promises));
        found.extend(changed(&written, &settings));
        found
    };
    let (mut known, mut found) = (judged(&whole), Vec::new());
    for (index, fragment) in fragments.iter().enumerate() {
        let added = match add(&mut whole, fragment, version) {
            Ok(()) => {
                let mut added = judged(&whole);
                added.retain(|problem| !known.contains(problem));
                added.extend(unread(version, &whole, fragment));
                added
            }
            Err(problem) => vec![problem],
        };
        known.extend(added.iter().cloned());
        found.extend(added.into_iter().map(|problem| (index, problem)));
    }
    found
}

/// Merges a fragment into the whole, which keeps its version; the error says why containerd does not start with it, or
/// does not read it. Keys of an older version are looked for where the fragment has them.
fn add(whole: &mut DocumentMut, fragment: &str, version: &str) -> Result<(), Problem> {
    let refused = |why: String| Problem { why, help: "mend the file, or remove it".to_owned() };
    if fragment.starts_with(BYTE_ORDER_MARK) {
        return Err(refused("begins with a byte order mark: containerd does not start".to_owned()));
    }
    let fragment =
        toml::document(fragment).map_err(|why| refused(format!("{why}: containerd does not start")))?;
    if let Some(why) = newer(fragment.as_table()) {
        return Err(refused(format!("{why}: containerd does not start")));
    }
    let of = |document: &DocumentMut| document.get("version").and_then(Item::as_integer);
    let (own, root) = (of(&fragment).unwrap_or(1), of(whole));
    let help = format!("write it with `version = {}` and the keys of that version", root.unwrap_or(1));
    if let Some(why) = misfit(own, root.unwrap_or(1), &fragment, version) {
        return Err(Problem { why, help });
    }
    if Release::parse(version).is_ok_and(|release| !release.is_2()) {
        replace_plugins(whole, &fragment);
    }
    merge(whole.as_table_mut(), fragment.as_table())
        .map_err(|why| refused(format!("{why}: containerd does not start")))?;
    if let Some(root) = root {
        whole.insert("version", value(root));
    }
    Ok(())
}

/// Takes the plugins that a fragment names out of the whole: 1.x reads each from the last file alone (containerd#5837).
fn replace_plugins(whole: &mut DocumentMut, fragment: &DocumentMut) {
    let named = fragment.get("plugins").and_then(Item::as_table_like);
    let Some(plugins) = whole.get_mut("plugins").and_then(Item::as_table_like_mut) else { return };
    for (id, _) in named.into_iter().flat_map(|named| named.iter()) {
        plugins.remove(id);
    }
}

/// Returns the keys of a fragment that containerd does not take over. Up to 2.2 it reads them as those of the whole's
/// version, whatever the fragment says.
fn unread(version: &str, whole: &DocumentMut, fragment: &str) -> Vec<Problem> {
    let Ok(mut fragment) = toml::document(fragment) else { return Vec::new() };
    let is_of_whole = version.parse::<Version>().is_ok_and(|version| version < Version::new(2, 3, 0));
    if let Some(root) = whole.get("version").filter(|_| is_of_whole) {
        fragment.insert("version", root.clone());
    }
    let keys = unread_keys(version, &fragment.to_string()).unwrap_or_default();
    let help = "see containerd's documentation for this version's keys";
    keys.into_iter()
        .map(|key| Problem { why: format!("containerd does not take over `{key}`"), help: help.to_owned() })
        .collect()
}

/// Tells which settings of the bake the whole has no longer, and what it has: a kubelet and the CNI depend on them.
fn changed(written: &Settings, whole: &Settings) -> Vec<Problem> {
    let differences = written.beside(whole).into_iter();
    let of_node =
        differences.filter(|(name, was, is)| ["SystemdCgroup", "CNI conf_dir"].contains(name) && was != is);
    of_node
        .map(|(name, was, is)| Problem {
            why: format!("{name} is `{}`, and the bake has set `{}`", printable(&is), printable(&was)),
            help: "set it in the spec, or take it out of the file".to_owned(),
        })
        .collect()
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
        for (fragment, says) in [
            ("[grpc]\nuid = 1000\n", "root on the node"),
            ("disabled_plugins = ['io.containerd.cri.v1.images']\n", "disabled_plugins"),
            (
                "version = 2\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/other'\n",
                "/other",
            ),
            ("version = 2\noom_score = 'x'\n", "is needed"),
            ("\u{feff}version = 3\n", "byte order mark"),
            ("version = 3\ntemp = \"\\x41\"\n", "escape"),
            ("[plugins.'io.containerd.cri.v1.images']\nsnapshoter = 'native'\n", "snapshoter"),
            ("version = 3\nDisabled_Plugins = ['io.containerd.cri.v1.images']\n", "in case only"),
        ] {
            let found = found("2.1.9", own, &[fragment]);
            // What is read in another case is told for both reasons.
            let count = if says == "in case only" { 2 } else { 1 };
            assert!(found.len() == count && found[count - 1].1.contains(says), "{fragment}: {found:?}");
        }
        let options =
            "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nSystemdCgroup = ";
        let found_of_options =
            found("2.1.9", &format!("{own}{options}true\n"), &[&format!("{options}false\n")]);
        assert!(found_of_options[0].1.contains("SystemdCgroup"), "{found_of_options:?}");
        let of_1 = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/etc/containerd/certs.d'\n";
        let replaced = found(
            "1.7.24",
            of_1,
            &["version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nenable_selinux = true\n"],
        );
        assert!(replaced[0].1.contains("config_path"), "{replaced:?}");
        let runtime = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.containerd]\ndefault_runtime_name = 'nvidia'\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.nvidia]\nruntime_type = 'io.containerd.runc.v2'\n";
        assert_eq!(found("2.1.9", own, &[runtime]), []);
        let of_4 = own.replace("version = 3", "version = 4");
        assert_eq!(found("2.3.4", &of_4, &[runtime]), []);
        assert_eq!(found("2.3.4", own, &["version = 4\n"]).len(), 1);
        assert_eq!(found("2.3.5", own, &["version = 4\n"]), []);
    }
}
