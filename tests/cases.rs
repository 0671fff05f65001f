//! Golden cases: `cases/<name>/` holds a spec, what is in the root before (`seed/`), and what is
//! expected: `plan.txt` as it is printed and `tree.txt`, one line a path, of what was added or
//! changed. `BLESS=1 cargo test --test cases` rewrites them; a change of behaviour is a change of
//! these files that a reviewer can read.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests set up their own host")]

mod kit;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kit::{Lab, tree};

#[test]
fn every_case_plans_and_bakes_as_it_is_written_down() {
    let mut cases: Vec<PathBuf> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 3, "{cases:?}");
    let wrong: Vec<String> = cases.iter().flat_map(|case| check(case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases")
}

fn check(case: &Path) -> Vec<String> {
    let mut lab = Lab::new();
    lab.spec_also(&fs::read_to_string(case.join("nodebake.yaml")).unwrap());
    if case.join("seed").is_dir() {
        let seed = format!("{}/.", case.join("seed").display());
        assert!(Command::new("cp").args(["-r", &seed]).arg(&lab.root).status().unwrap().success());
    }
    let before = tree(&lab.root);
    let plan = lab.plan();
    plan.exits(10);
    assert_eq!(tree(&lab.root), before, "plan writes nothing");
    lab.apply().exits(0);
    // The receipt holds the digests of archives that the tests compress anew.
    let added = |line: &&str| !line.contains("receipt.json") && !before.lines().any(|old| old == *line);
    let after: String = tree(&lab.root).lines().filter(added).map(|line| format!("{line}\n")).collect();
    lab.verify().exits(0);
    lab.apply().exits(0).mentions("0 created, 0 changed, 0 removed");
    lab.remove().exits(0);
    assert_eq!(tree(&lab.root), before, "remove puts back what was there");
    [("plan.txt", plan.stdout.clone()), ("tree.txt", after)]
        .into_iter()
        .filter_map(|(file, found)| compare(&case.join(file), &found))
        .collect()
}

fn compare(file: &Path, found: &str) -> Option<String> {
    if std::env::var_os("BLESS").is_some() {
        fs::write(file, found).unwrap();
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    (expected != found).then(|| {
        let line = found.lines().zip(expected.lines()).find(|(a, b)| a != b);
        format!("{} differs, first at {line:?}; BLESS=1 rewrites it", file.display())
    })
}
