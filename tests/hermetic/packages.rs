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
