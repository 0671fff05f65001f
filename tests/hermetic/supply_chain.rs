//! What nodebake is built from, judged by deny.toml: every licence is allowed, no banned crate is in the
//! tree, every source is crates.io. Offline and without cargo-deny; where that is installed, it has to agree.

use std::collections::BTreeSet;
use std::process::Command;

use semver::{Version, VersionReq};
use serde_json::Value;
use toml_edit::{DocumentMut, Item};

use crate::kit;

#[test]
fn every_licence_is_allowed() {
    let policy = policy();
    let allowed: BTreeSet<&str> = strings(&policy["licenses"]["allow"]).collect();
    for package in packages() {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_allowed(licence, &allowed), "{} is under `{licence}`", package["name"]);
    }
    for (licence, expected) in [
        ("MIT", true),
        ("GPL-3.0 OR (MIT AND Zlib)", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND ISC", true),
        ("MIT/GPL-3.0", true),
        ("GPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(licence, &allowed), expected, "{licence}");
    }
}

#[test]
fn no_banned_crate_is_in_the_tree() {
    let policy = policy();
    let banned: Vec<(String, VersionReq, String)> = policy["bans"]["deny"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let entry = entry.as_inline_table().unwrap();
            let (spec, reason) = (entry["crate"].as_str().unwrap(), entry["reason"].as_str().unwrap());
            let (name, versions) = spec.split_once(':').unwrap_or((spec, "*"));
            (name.to_owned(), VersionReq::parse(versions).unwrap(), reason.to_owned())
        })
        .collect();
    assert!(banned.len() > 10 && banned.iter().all(|(_, _, reason)| !reason.is_empty()));
    for package in locked() {
        let name = package["name"].as_str().unwrap();
        let version = Version::parse(package["version"].as_str().unwrap()).unwrap();
        for (banned, versions, reason) in &banned {
            assert!(banned != name || !versions.matches(&version), "{name} {version}: {reason}");
        }
    }
    // The ban of old versions is one of a crate that is here: it would be found.
    assert!(
        banned.iter().any(|(name, versions, _)| name == "tar" && versions.matches(&Version::new(0, 4, 45)))
    );
    assert!(locked().iter().any(|package| package["name"].as_str() == Some("tar")));
}

#[test]
fn every_source_is_the_registry() {
    let policy = policy();
    let registries: BTreeSet<&str> = strings(&policy["sources"]["allow-registry"]).collect();
    assert_eq!(strings(&policy["sources"]["allow-git"]).count(), 0);
    let mut own = Vec::new();
    for package in locked() {
        match package.get("source").and_then(Item::as_str) {
            Some(source) => {
                let registry = source.strip_prefix("registry+").unwrap_or(source);
                assert!(registries.contains(registry), "{} comes from {source}", package["name"]);
                let sum = package.get("checksum").and_then(Item::as_str).unwrap_or_default();
                assert_eq!(sum.len(), 64, "{} has no checksum", package["name"]);
            }
            None => own.push(package["name"].as_str().unwrap().to_owned()),
        }
    }
    assert_eq!(own, ["nodebake"], "crates without a source are this repository's");
}

#[test]
fn cargo_deny_agrees_where_it_is_installed() {
    if !kit::works(["cargo", "deny", "--version"]) {
        return kit::skip("cargo-deny is not installed");
    }
    let output =
        Command::new("cargo").args(["deny", "check", "licenses", "bans", "sources"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("failed to fetch crates") {
        return kit::skip("the registry is out of reach");
    }
    assert!(output.status.success(), "{said}");
    // The database of advisories is a repository of its own, which not every machine reaches.
    let output = Command::new("cargo").args(["deny", "check", "advisories"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("failed to fetch advisory database") {
        return kit::skip("the advisories are out of reach: only licences, bans and sources were judged");
    }
    assert!(output.status.success(), "{said}");
}

fn policy() -> DocumentMut {
    std::fs::read_to_string("deny.toml").unwrap().parse().unwrap()
}

/// What is built here, tests included. What the lock holds for other systems is not downloaded.
fn packages() -> Vec<Value> {
    let words = ["metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform"];
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new("cargo").args(words).arg(host).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().clone();
    assert!(packages.len() > 100, "{}", packages.len());
    packages
}

/// Every crate of Cargo.lock, those for other systems among them.
fn locked() -> Vec<toml_edit::Table> {
    let lock: DocumentMut = std::fs::read_to_string("Cargo.lock").unwrap().parse().unwrap();
    lock["package"].as_array_of_tables().unwrap().iter().cloned().collect()
}

fn strings(item: &Item) -> impl Iterator<Item = &str> {
    item.as_array().unwrap().iter().map(|value| value.as_str().unwrap())
}

/// SPDX: AND binds closer than OR; an old slash is an OR.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let expression = expression.replace('/', " OR ");
    // The innermost brackets first, as a name that is allowed or is not.
    if let Some(open) = expression.rfind('(')
        && let Some(close) = expression[open..].find(')')
    {
        let inner = is_allowed(&expression[open + 1..open + close], allowed);
        let value = if inner { *allowed.first().unwrap() } else { "none" };
        let (before, after) = (&expression[..open], &expression[open + close + 1..]);
        return is_allowed(&format!("{before}{value}{after}"), allowed);
    }
    let all = |terms: &str| terms.split(" AND ").all(|name| allowed.contains(name.trim()));
    expression.split(" OR ").any(all)
}
