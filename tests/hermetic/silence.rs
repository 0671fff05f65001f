//! Nothing that the user may not have meant is done in silence.

use std::fs;
use std::process::Command;

use crate::kit::upstream::publish;
use crate::kit::{Lab, Run, assert_same, run};

/// `nodebake WORDS` with the laboratory's root, in a folder of its own that has `files`.
fn beside<const N: usize>(lab: &Lab, words: [&str; N], files: &[&str]) -> Run {
    let folder = tempfile::tempdir_in(&lab.dir).unwrap();
    for file in files {
        fs::write(folder.path().join(file), "components: {crictl: {}}\n").unwrap();
    }
    run(lab.command(words).current_dir(folder.path()))
}

/// A laboratory whose artifacts are there for amd64 and arm64, and whose spec says `text`.
fn published(text: &str) -> Lab {
    let lab = Lab::new();
    fs::write(&lab.spec, format!("source: ./artifacts\n{text}")).unwrap();
    publish(&lab, "nodebake.yaml");
    lab
}

// ---------------------------------------------------------------- no spec

#[test]
fn without_a_spec_a_root_that_was_baked_is_refused() {
    let mut lab = Lab::new();
    lab.spec_also("registries: {docker.io: {mirrors: [{url: \"https://mirror.example\"}]}}\n");
    lab.apply().exits(0);
    let (before, baked) = (lab.tree(), lab.root.to_str().unwrap().to_owned());
    let fresh = lab.another_root("fresh");
    let fresh = fresh.to_str().unwrap();
    for files in [&[][..], &["nodebake.lock"]] {
        for command in ["plan", "apply"] {
            let refused = beside(&lab, [command, "--offline", "--root", &baked], &[]);
            refused.exits(2).says("was baked before").says("--spec").says("--defaults");
            beside(&lab, [command, "--root", fresh, "--root", &baked], files).exits(2).says(&baked);
        }
    }
    assert_same("the root", &before, &lab.tree());
    // Meant: what is missing then is upstream's artifacts.
    beside(&lab, ["plan", "--offline", "--defaults", "--root", &baked], &[]).exits(4);
    beside(&lab, ["plan", "--defaults", "--spec", "x", "--root", &baked], &[]).exits(2);
    // What needs no spec goes on without one.
    beside(&lab, ["verify", "--root", &baked], &[]).exits(0);
    beside(&lab, ["goss", "--root", &baked], &[]).exits(0);
    beside(&lab, ["remove", "--root", &baked], &[]).exits(0);
    beside(&lab, ["plan", "--offline", "--root", &baked], &[]).exits(4);
}

#[test]
fn without_a_spec_a_root_whose_first_bake_was_killed_is_refused() {
    let lab = Lab::new();
    lab.apply().exits(0);
    let state = lab.path("var/lib/nodebake");
    fs::remove_file(state.join("receipt.json")).unwrap();
    fs::write(state.join("pending.json"), "cut").unwrap();
    let root = lab.root.to_str().unwrap();
    beside(&lab, ["plan", "--offline", "--root", root], &[]).exits(2).says("was baked before");
}

#[test]
fn without_a_spec_a_file_that_is_named_like_one_is_named() {
    let lab = Lab::new();
    let root = lab.root.to_str().unwrap();
    for name in
        ["nodebake.yml", "Nodebake.yaml", ".nodebake.yaml", "nodebake-worker.yaml", "nodebake.yaml.j2"]
    {
        beside(&lab, ["plan", "--offline", "--root", root], &[name]).exits(2).says(&format!("`{name}`"));
        beside(&lab, ["plan", "--offline", "--defaults", "--root", root], &[name]).exits(4);
        beside(&lab, ["plan", "--spec", "nodebake.yaml", "--root", root], &[name]).exits(3).says(name);
    }
    beside(&lab, ["lock", "--offline"], &["nodebake.yml"]).exits(2).says("--spec");
    beside(&lab, ["bundle", "create", "--output", "b.tar"], &["nodebake.yml"]).exits(2).says("--spec");
    beside(&lab, ["goss", "--offline"], &["nodebake.yml"]).exits(2).says("--spec");
    beside(&lab, ["plan", "--offline", "--root", root], &["nodebake.schema.json", "site.yaml"]).exits(4);
}

#[test]
fn the_built_in_spec_is_named() {
    let lab = Lab::new();
    let root = lab.root.to_str().unwrap();
    beside(&lab, ["plan", "--offline", "--root", root], &[]).exits(4).says("the built-in spec is used");
    let meant = beside(&lab, ["plan", "--offline", "--defaults", "--root", root], &["nodebake.yaml"]);
    assert!(!meant.exits(4).errors().contains("built-in spec"), "{meant}");
}

// ---------------------------------------------------------------- another architecture

/// `nodebake WORDS --root ROOT`, with the spec where the command takes one.
fn on_root(lab: &Lab, words: &[&str], with_spec: bool) -> Run {
    let mut command: Command = lab.command([]);
    command.args(words).arg("--root").arg(&lab.root);
    if with_spec {
        command.arg("--spec").arg(&lab.spec);
    }
    run(&mut command)
}

#[test]
fn a_root_of_another_architecture_than_the_specs_needs_foreign() {
    let lab = published("arch: arm64\n");
    let before = lab.tree();
    for words in [&["plan"][..], &["apply"], &["verify"]] {
        let refused = on_root(&lab, words, true);
        refused.exits(9).says("`arch: arm64`").says("are for amd64").says("--foreign");
    }
    assert_same("the root", &before, &lab.tree());
    on_root(&lab, &["plan", "--foreign"], true).exits(0);
    on_root(&lab, &["apply", "--foreign"], true).exits(0);
    on_root(&lab, &["apply", "--foreign"], true).exits(0).mentions("0 created, 0 changed, 0 removed");
    on_root(&lab, &["verify"], false).exits(10).mentions("the root's own executables are for amd64");
    on_root(&lab, &["verify", "--foreign"], false).exits(0);
    on_root(&lab, &["verify", "--foreign"], true).exits(0);
}

#[test]
fn a_root_of_the_specs_architecture_or_of_none_that_can_be_told_needs_no_foreign() {
    let lab = published("arch: x86_64\n");
    lab.apply().exits(0);
    lab.verify().exits(0);
    let lab = published("arch: aarch64\n");
    fs::remove_file(lab.path("usr/bin/sh")).unwrap();
    lab.apply().exits(0);
    lab.verify().exits(0);
}
