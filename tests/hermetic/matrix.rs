//! The test matrix itself: every row of `tests/matrix.txt` has a test or a reason why not, and every
//! test that names a row names one that exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::kit::rust_files;

/// Row to whether it says why it has no test.
fn rows() -> BTreeMap<String, bool> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/matrix.txt")).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (row, what) = line.split_once(' ').unwrap();
        let twice = rows.insert(row.to_owned(), what.contains("NO TEST: ")).is_some();
        assert!(!twice, "{row} stands there twice");
    }
    rows
}

/// The rows that the tests of the suites and of the modules name, but for those that only `make test-all` runs.
fn tested() -> BTreeSet<String> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = ["src", "tests"].iter().flat_map(|folder| rust_files(&repository.join(folder)));
    let mut tested = BTreeSet::new();
    for source in sources {
        let text = fs::read_to_string(source).unwrap();
        let text = text.split("\nmod slow {").next().unwrap();
        let tests = text.split("#[test]").skip(1).filter_map(|test| test.split_once("fn "));
        tested.extend(tests.flat_map(|(_, rest)| rows_of(rest)));
    }
    tested
}

/// `c1_c2_every_…` names C1 and C2.
fn rows_of(name: &str) -> Vec<String> {
    let is_row = |part: &&str| {
        part.strip_prefix(['r', 't', 'c', 'h', 'v', 's', 'x', 'b', 'l', 'k', 'w'])
            .is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
    };
    name.split('_').take_while(is_row).map(str::to_uppercase).collect()
}

#[test]
fn every_row_has_a_test_or_a_reason() {
    let (rows, tested) = (rows(), tested());
    let untested: Vec<_> = rows.iter().filter(|(row, reason)| !tested.contains(*row) && !**reason).collect();
    let needless: Vec<_> = rows.iter().filter(|(row, reason)| tested.contains(*row) && **reason).collect();
    let unknown: Vec<_> = tested.iter().filter(|row| !rows.contains_key(*row)).collect();
    assert!(untested.is_empty(), "neither a test nor a reason: {untested:?}");
    assert!(needless.is_empty(), "a reason in spite of a test: {needless:?}");
    assert!(unknown.is_empty(), "tests of rows that do not exist: {unknown:?}");
    assert!(rows.len() >= 86 && tested.len() > 80, "{} rows, {} of them tested", rows.len(), tested.len());
}
