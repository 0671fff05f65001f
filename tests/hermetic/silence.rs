//! Nothing that the user may not have meant is done in silence.

use std::fs;
use std::process::Command;

use crate::kit::upstream::publish;
use crate::kit::{CNI, Lab, NODEBAKE, Run, assert_same, mode, run, sha256};

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
fn w13_without_a_spec_a_root_that_was_baked_is_refused() {
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
fn w13_without_a_spec_a_root_whose_first_bake_was_killed_is_refused() {
    let lab = Lab::new();
    lab.apply().exits(0);
    let state = lab.path("var/lib/nodebake");
    fs::remove_file(state.join("receipt.json")).unwrap();
    fs::write(state.join("pending.json"), "cut").unwrap();
    let root = lab.root.to_str().unwrap();
    beside(&lab, ["plan", "--offline", "--root", root], &[]).exits(2).says("was baked before");
}

#[test]
fn w13_without_a_spec_a_file_that_is_named_like_one_is_named() {
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
fn w13_the_built_in_spec_is_named() {
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
fn w13_a_root_of_another_architecture_than_the_specs_needs_foreign() {
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
fn w13_a_root_of_the_specs_architecture_or_of_none_that_can_be_told_needs_no_foreign() {
    let lab = published("arch: x86_64\n");
    lab.apply().exits(0);
    lab.verify().exits(0);
    let lab = published("arch: aarch64\n");
    fs::remove_file(lab.path("usr/bin/sh")).unwrap();
    lab.apply().exits(0);
    lab.verify().exits(0);
}

// ---------------------------------------------------------------- versions

#[test]
fn w13_a_release_past_its_end_of_life_is_told_with_the_date() {
    for (version, day, told) in [
        ("2.1.9", None, "2.1 reached its end of life on 2026-07-03"),
        ("2.2.7", None, "2.2 reached its end of life on 2026-11-06"),
        ("1.6.39", None, "1.6 reached its end of life on 2025-08-23"),
        ("1.7.34", None, "Kubernetes 1.38 and later do not start on containerd 1.7"),
        // A clock that is not set yet, and one that is years ahead.
        ("2.1.9", Some("0"), "on 2026-07-03"),
        ("2.3.4", Some("1840752000"), "on 2028-04-30"),
    ] {
        let lab = published(&format!("components: {{containerd: {{version: {version}}}}}\n"));
        for command in ["plan", "apply"] {
            let mut run_of = lab.command([command]);
            run_of.arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec);
            day.map(|day| run_of.env("SOURCE_DATE_EPOCH", day));
            run(&mut run_of).exits(0).says(&format!("warning: containerd {version}: ")).says(told);
        }
    }
    let lab = published("components: {containerd: {version: 2.3.4}}\n");
    for command in ["plan", "apply"] {
        let mut run_of = lab.command([command]);
        run_of.arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec);
        let run = run(run_of.env("SOURCE_DATE_EPOCH", "1795824000"));
        assert!(!run.exits(0).errors().contains("end of life"), "{run}");
    }
}

#[test]
fn w13_what_is_true_of_several_roots_is_told_once() {
    let lab = published("components: {containerd: {version: 2.1.9}}\n");
    let other = lab.another_root("other");
    let both = lab.run(["plan", "--root", other.to_str().unwrap()], &lab.root);
    assert_eq!(both.exits(0).errors().matches("end of life").count(), 1, "{both}");
}

#[test]
fn w13_a_lock_that_is_not_used_is_told() {
    let lab = published("components: {runc: {version: 1.3.5}}\n");
    let lock = lab.dir.join("nodebake.lock");
    let text = fs::read_to_string(&lock).unwrap();
    let digest = "0".repeat(64);
    let of_runc = |line: &&str| line.contains("component: runc") && line.contains("arch: amd64");
    let line = text.lines().find(of_runc).unwrap();
    for (stale, spec, told) in [
        (line.replace("version: 1.3.5", "version: 1.3.4"), "", "has runc 1.3.4 (amd64), and 1.3.5 is wanted"),
        (line.replace("github.com", "mirror.example"), "", "has runc 1.3.5 (amd64) from another URL"),
        (line.to_owned(), digest.as_str(), "has another digest of runc 1.3.5 (amd64) than the spec"),
        (String::new(), "", "does not have runc 1.3.5 (amd64)"),
    ] {
        fs::write(&lock, text.replace(line, &stale)).unwrap();
        let sha256 = if spec.is_empty() { String::new() } else { format!(", sha256: {spec}") };
        let yaml = format!("source: ./artifacts\ncomponents: {{runc: {{version: 1.3.5{sha256}}}}}\n");
        fs::write(&lab.spec, yaml).unwrap();
        // The artifact of the laboratory is not upstream's.
        lab.apply().exits(5).says(told).says("write it anew with `nodebake lock`");
    }
}

#[test]
fn w13_a_sandbox_image_that_the_release_cannot_run_is_refused() {
    let image = format!("registry.k8s.io/pause:3.10@sha256:{}", "0".repeat(64));
    let images = [
        format!("sandbox_image: \"{image}\""),
        format!("merge: \"[plugins.'io.containerd.cri.v1.images'.pinned_images]\\nsandbox = '{image}'\""),
    ];
    for config in images {
        for (version, code) in [("2.3.3", 3), ("2.3.0", 3), ("2.3.4", 0), ("2.2.7", 0)] {
            let lab = published(&format!(
                "components: {{containerd: {{version: {version}}}}}\ncontainerd: {{config: {{{config}}}}}\n"
            ));
            let run = lab.apply();
            run.exits(code);
            if code == 3 {
                run.says("pinned by its digest").says("2.3.4 or later");
            }
        }
    }
}

// ---------------------------------------------------------------- keys and outputs

#[test]
fn w13_a_key_without_effect_is_told() {
    let lab = published("containerd: {package: {version: 1.7.24}}\nkernel: {modules: {ip_vs: null}}\n");
    for command in ["plan", "apply"] {
        let run = lab.run([command], &lab.root);
        run.exits(0).says("warning: `containerd.package` in the spec has no effect");
        run.says("warning: `kernel.modules.ip_vs` in the spec has no effect");
    }
}

#[test]
fn w13_a_folder_that_cannot_be_written_is_told_before_anything_is_read() {
    let lab = published("arch: amd64\n");
    fs::write(lab.dir.join("file"), "").unwrap();
    let spec = lab.spec.to_str().unwrap();
    for (folder, told) in [("missing", "no such file or directory"), ("file", "not a directory")] {
        let output = lab.dir.join(folder).join("bundle.tar");
        let run = run(lab.command(["bundle", "create", "--spec", spec, "--output"]).arg(&output));
        run.exits(7).says(told).says("help: ");
        assert!(!run.errors().contains("reading"), "{run}");
    }
    let lock = lab.dir.join("nodebake.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let run = run(&mut lab.command(["lock", "--spec", spec]));
    run.exits(2).says("not a regular file");
    assert!(!run.errors().contains("reading"), "{run}");
}

#[test]
fn w13_a_folder_of_somebody_else_is_told_before_anything_is_read() {
    let lab = published("arch: amd64\n");
    fs::remove_file(lab.dir.join("nodebake.lock")).unwrap();
    mode(&lab.dir, 0o755);
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let spec = lab.spec.to_str().unwrap();
    let run = run(lab.wrapped(nobody).args([NODEBAKE, "lock", "--spec", spec]));
    run.exits(7).says("permission denied").says("you can't write to the folder");
    assert!(!run.errors().contains("reading"), "{run}");
}

#[test]
fn w13_a_build_that_is_not_chosen_is_told() {
    let lab = published("components: {containerd: false}\n");
    lab.run(["plan", "--static"], &lab.root).exits(0).says("warning: `--static` has no effect");
    let spec = lab.spec.to_str().unwrap();
    let output = lab.dir.join("bundle.tar");
    let output = output.to_str().unwrap();
    let create = |lab: &Lab| run(&mut lab.command(["bundle", "create", "--spec", spec, "--output", output]));
    create(&lab).exits(0).says("packed 4 artifacts into");
    let lock = lab.dir.join("nodebake.lock");
    let text = fs::read_to_string(&lock).unwrap();
    fs::write(&lock, text.replace("component: runc, version: 1.3.6", "component: runc, version: 1.3.5"))
        .unwrap();
    let pinned = fs::read(lab.artifacts.join("runc.amd64")).unwrap();
    let yaml = format!(
        "arch: amd64\nsource: ./artifacts\ncomponents: {{containerd: false, runc: {{version: 1.3.6, sha256: {}}}}}\n",
        sha256(&pinned)
    );
    fs::write(&lab.spec, yaml).unwrap();
    create(&lab).exits(0).says("has runc 1.3.5 (amd64), and 1.3.6 is wanted");
}

#[test]
fn w13_what_is_pinned_is_counted() {
    let lab = Lab::new();
    fs::create_dir(lab.dir.join("packages")).unwrap();
    for name in ["containerd.io.deb", "needed.deb"] {
        fs::write(lab.dir.join("packages").join(name), name).unwrap();
    }
    let cni = sha256(&fs::read(lab.artifacts.join(CNI.file)).unwrap());
    let yaml = format!(
        "arch: amd64\nsource: ./artifacts\ncomponents: {{cni-plugins: {{version: {}, sha256: {cni}}}}}\n\
         containerd: {{install: package, package: {{repository: {{path: packages}}}}}}\n",
        CNI.version
    );
    fs::write(&lab.spec, yaml).unwrap();
    let run = run(&mut lab.command(["lock", "--spec", lab.spec.to_str().unwrap()]));
    run.exits(0).says("pinned 1 artifact and 2 package files in");
}
