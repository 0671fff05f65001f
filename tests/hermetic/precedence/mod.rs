//! Other files of a root that decide after nodebake's own: `plan` and `apply` warn of them, `verify` finds them, and
//! each names the file and the line. Nothing of the root is executed, so that the architecture does not matter.

mod kernel;
mod mounts;
mod registries;
mod services;

use crate::kit::{Lab, Run, write};

/// Writes `files` into the root, bakes it, and expects a warning and a finding that have all of `words`.
#[track_caller]
fn is_noticed(files: &[(&str, &str)], words: &[&str]) {
    let lab = with(files);
    noticed(&lab, words);
}

/// Expects what [`is_noticed`] does of a root that is not baked yet.
#[track_caller]
fn noticed(lab: &Lab, words: &[&str]) {
    for run in [lab.plan(), lab.apply()] {
        let errors = run.errors();
        let warned = errors.lines().any(|line| line.contains("warning: ") && has(line, words));
        assert!(warned, "no warning has {words:?}\n{run}");
    }
    let run = lab.verify();
    run.exits(10);
    assert!(run.stdout.split("FAILED").any(|finding| has(finding, words)), "no finding has {words:?}\n{run}");
    lab.remove().exits(0);
}

fn has(text: &str, words: &[&str]) -> bool {
    words.iter().all(|word| text.contains(word))
}

/// Writes `files` into the root, and expects neither a warning nor a finding.
#[track_caller]
fn is_silent(files: &[(&str, &str)]) {
    silent(&with(files));
}

#[track_caller]
fn silent(lab: &Lab) {
    lab.plan().exits(10);
    for run in [lab.plan(), lab.apply()] {
        // That the lab's containerd is old is no matter of the root.
        let errors = run.errors();
        let mut warnings = errors.lines().filter(|line| line.contains("warning"));
        assert!(warnings.all(|line| line.contains("end of life")), "{run}");
    }
    lab.verify().exits(0);
}

/// A laboratory with these files in its root.
fn with(files: &[(&str, &str)]) -> Lab {
    let lab = Lab::new();
    for (path, text) in files {
        write(&lab.path(path), text.as_bytes());
    }
    lab
}

/// Expects that plan and apply are refused, with all of `words` and the remedy, and change nothing.
#[track_caller]
fn is_refused(lab: &Lab, words: &[&str]) {
    let before = lab.tree();
    for run in [lab.plan(), lab.apply()] {
        run.exits(9);
        assert!(has(&run.errors(), words), "it does not say {words:?}\n{run}");
    }
    assert_eq!(before, lab.tree(), "a refused bake changes nothing");
}

/// The value of `verify --json`.
fn document(lab: &Lab) -> serde_json::Value {
    let run: Run = crate::kit::run(lab.command(["verify", "--json"]).arg("--root").arg(&lab.root));
    serde_json::from_str(&run.stdout).unwrap()
}
