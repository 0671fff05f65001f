//! `install: package`: what is refused before a package manager is asked. The rest is shown by the suite
//! `packages`.

use std::fs;

use crate::kit::{self, Lab, sha256};

/// What the spec says of packages is checked before anything is looked at.
#[test]
fn nonsense_is_refused_by_the_spec() {
    let cases = [
        ("repository: dockr", "distro, docker"),
        ("repository: {suite: stable}", "url"),
        ("repository: {path: x, url: 'https://m.example'}", "path"),
        ("repository: {url: 'ftp://m.example'}", "http"),
        ("repository: {url: 'https://user:secret@m.example'}", "credentials"),
        ("repository: {url: 'https://m.example', key: 'https://m.example/gpg'}", "fingerprint"),
        ("repository: {url: 'https://m.example', fingerprint: 12AB}", "40"),
        ("version: newest", "version"),
        ("version: '1.7; reboot'", "version"),
        ("name: '-o'", "name"),
        ("hold: perhaps", "boolean"),
        ("versoin: 1.7.24", "version"),
    ];
    let mut lab = Lab::new();
    let before = lab.tree();
    for (package, says) in cases {
        lab.spec_also(&format!("containerd: {{install: package, package: {{{package}}}}}\n"));
        let said = lab.apply().exits(3).errors();
        assert!(said.contains(says) && !said.contains("secret"), "{package}: {said}");
    }
    assert_eq!(lab.tree(), before);
}

/// A small root of no known distribution: no package manager is guessed.
#[test]
fn a_root_that_says_nothing_of_its_distribution_is_refused() {
    let lab = Lab::new();
    let plugins = kit::CNI;
    let digest = sha256(&fs::read(lab.artifacts.join(plugins.file)).unwrap());
    let plugins = format!("cni-plugins: {{version: {}, sha256: {digest}}}", plugins.version);
    let spec = format!("source: ./artifacts\ncomponents: {{{plugins}}}\ncontainerd: {{install: package}}\n");
    fs::write(&lab.spec, spec).unwrap();
    let before = lab.tree();
    lab.apply().exits(9).says("nodebake-test").says("install: archive");
    lab.plan().exits(9);
    assert_eq!(lab.tree(), before);
    fs::remove_file(lab.path("/etc/os-release")).unwrap();
    fs::remove_file(lab.path("/usr/lib/os-release")).unwrap();
    let before = lab.tree();
    lab.apply().exits(9).says("os-release");
    assert_eq!(lab.tree(), before);
}

/// A receipt that names packages is the root's word: its package manager does not run for that.
#[test]
fn x6_packages_of_a_receipt_run_nothing_without_the_callers_word() {
    for id in ["fedora", "debian"] {
        let lab = Lab::new();
        lab.apply().exits(0);
        fs::write(lab.path("/usr/lib/os-release"), format!("ID={id}\nVERSION_CODENAME=trixie\n")).unwrap();
        for program in ["apt-get", "dnf", "rpm", "dpkg"] {
            kit::executable(&lab.path(&format!("/usr/bin/{program}")), b"#!/bin/sh\necho > /ran\n");
        }
        let receipt = lab.path("/var/lib/nodebake/receipt.json");
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&receipt).unwrap()).unwrap();
        json["packages"] =
            serde_json::json!([{"name": "containerd.io", "version": "1.7.24-1", "architecture": "x86_64"}]);
        fs::write(&receipt, serde_json::to_string(&json).unwrap()).unwrap();
        let before = lab.tree();
        lab.plan().exits(9).says("would have to run").says("--execute");
        lab.apply().exits(9).says("would have to run").says("--execute");
        lab.remove().exits(9).says("would have to run").says("--execute");
        let verified = lab.verify();
        match id {
            "fedora" => verified.exits(0).mentions("not checked").mentions("--execute"),
            // dpkg's database is text: nothing has to run.
            _ => verified.exits(10).mentions("containerd.io 1.7.24-1 (x86_64) is not installed any more"),
        };
        assert_eq!(lab.tree(), before, "{id}");
    }
}

/// The defaults of a release are in the catalogue, so that the second bake needs no more of the root than the first.
#[test]
fn x6_base_default_asks_the_catalogue_or_the_caller() {
    let mut lab = Lab::new();
    lab.spec_also("containerd: {config: {base: default}}\n");
    kit::mode(&lab.root, 0o700);
    lab.apply().exits(0);
    lab.apply().exits(0).mentions("0 created, 0 changed, 0 removed");
    lab.verify().exits(0).mentions("containerd takes over every key");
    let config = String::from_utf8(lab.read("etc/containerd/config.toml")).unwrap();
    assert!(config.contains("oom_score") && config.contains("SystemdCgroup = true"), "{config}");

    // A release that the catalogue does not know: the fake one can't run, but only the caller may have it tried.
    let archive = fs::read(lab.artifacts.join(kit::CONTAINERD.file)).unwrap();
    let unknown = kit::Component {
        name: "containerd",
        version: "2.99.0",
        file: "containerd-2.99.0-linux-amd64.tar.gz",
    };
    lab.ship(unknown, &archive);
    let before = lab.tree();
    lab.apply().exits(9).says("no default configuration of containerd 2.99.0").says("--execute");
    assert_eq!(lab.tree(), before);
    let run = lab.run(["apply", "--execute"], &lab.root);
    run.exits(9).says("`containerd config default` can't run in root").says("base: minimal");
    assert_eq!(lab.tree(), before);
}
