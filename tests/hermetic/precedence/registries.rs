//! Directories of registries beside `_default`, of which containerd takes the first that is there.

use super::{noticed, silent, with};

const DEFAULT: &str = "registries: {_default: {strict: true, mirrors: [{url: 'https://m.example'}]}}\n";

#[test]
fn w2_a_directory_that_keeps_images_from_default_is_noticed() {
    for (file, registry) in [
        ("etc/containerd/certs.d/docker.io/hosts.toml", "images of docker.io"),
        ("etc/containerd/certs.d/r.example_5000_/ca.crt", "images of r.example:5000"),
        ("etc/containerd/certs.d/quay.io", "images of quay.io"),
    ] {
        let mut lab = with(&[(file, "")]);
        lab.spec_also(DEFAULT);
        noticed(&lab, &[registry, "in place of `_default`"]);
    }
}

/// Another tool's directory may be wanted, unless `_default` is strict: the bake tells it.
#[test]
fn w2_a_directory_that_says_where_its_images_come_from_is_told() {
    let mut lab = with(&[("etc/containerd/certs.d/quay.io/hosts.toml", "server = 'https://quay.io'\n")]);
    lab.spec_also(DEFAULT);
    noticed(&lab, &["images of quay.io", "in place of `_default`"]);
    lab.spec_also(&DEFAULT.replace("strict: true, ", ""));
    for run in [lab.plan(), lab.apply()] {
        run.says("images of quay.io").says("in place of `_default`");
    }
    lab.verify().exits(0);
}

#[test]
fn w2_a_directory_that_decides_for_its_own_registry_is_not_told() {
    let lab = &mut with(&[("etc/containerd/certs.d/quay.io/hosts.toml", "")]);
    lab.spec_also("registries: {docker.io: {mirrors: [{url: 'https://m.example'}]}}\n");
    silent(lab);
    let lab = &mut with(&[("etc/containerd/certs.d/.keep", ""), ("etc/containerd/certs.d/a+b/x", "")]);
    lab.spec_also(DEFAULT);
    silent(lab);
}
