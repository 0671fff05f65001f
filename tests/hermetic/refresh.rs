//! The script with which maintainers refresh the catalogue, against an upstream in a folder and on a server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kit::http::{Reply, Server};
use crate::kit::lab::repository;
use crate::kit::{Run, run, skip, works, write};

/// Upstream's paths, and the catalogue of a maintainer.
struct Upstream {
    folder: tempfile::TempDir,
}

impl Upstream {
    /// Upstream has runc 1.3.5, a beta and 1.2.0, which is older than the catalogue; 1.3.5 is catalogued.
    fn new() -> Upstream {
        let upstream = Upstream { folder: tempfile::tempdir().unwrap() };
        upstream.lists("opencontainers/runc", &["v1.3.5", "v1.3.6-rc.1", "v1.2.0"]);
        upstream.publishes("1.3.5", &[("amd64", 'a'), ("arm64", 'b'), ("ppc64le", 'c')]);
        let digests = [("amd64", 'a'), ("arm64", 'b'), ("ppc64le", 'c')]
            .map(|(arch, digit)| format!("    {arch}: {}\n", digest(digit)))
            .concat();
        write(&upstream.catalogue(), format!("# A header.\nrunc:\n  1.3.5:\n{digests}").as_bytes());
        upstream
    }

    fn catalogue(&self) -> PathBuf {
        self.folder.path().join("checksums.yaml")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.catalogue()).unwrap()
    }

    fn lists(&self, repository: &str, tags: &[&str]) {
        let entry =
            |tag: &&str| format!("{{\"tag_name\": \"{tag}\", \"prerelease\": {}}}", tag.contains('-'));
        let list = format!("[{}]", tags.iter().map(entry).collect::<Vec<_>>().join(","));
        write(&self.folder.path().join("repos").join(repository).join("releases"), list.as_bytes());
    }

    /// Writes runc's checksum file, signed as upstream signs it.
    fn publishes(&self, version: &str, digests: &[(&str, char)]) {
        let lines = digests.iter().map(|(arch, digit)| format!("{}  runc.{arch}\n", digest(*digit)));
        let lines: String = lines.collect();
        let text = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{lines}-----BEGIN PGP SIGNATURE-----\nx\n"
        );
        let path = format!("opencontainers/runc/releases/download/v{version}/runc.sha256sum");
        write(&self.folder.path().join(path), text.as_bytes());
    }

    fn refresh(&self, from: &str, more: &[&str]) -> Run {
        let script = repository().join("src/catalog/refresh");
        let mut command = Command::new("python3");
        command.arg("-B").arg(script).args(["--from", from, "--file"]).arg(self.catalogue()).args(more);
        run(&mut command)
    }

    fn refresh_from_folder(&self, more: &[&str]) -> Run {
        self.refresh(self.folder.path().to_str().unwrap(), more)
    }
}

fn digest(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn is_absent() -> bool {
    let absent = !works(["python3", "--version"]);
    if absent {
        skip("python3 is not installed");
    }
    absent
}

#[test]
fn w12_a_new_release_is_added_and_told() {
    if is_absent() {
        return;
    }
    let upstream = Upstream::new();
    upstream.refresh_from_folder(&[]).exits(0).mentions("nothing has changed");
    upstream.lists("opencontainers/runc", &["v1.4.0", "v1.3.5", "v1.3.6-rc.1", "v1.2.0"]);
    upstream.publishes("1.4.0", &[("amd64", 'd'), ("arm64", 'e')]);
    let before = upstream.text();
    let dry = upstream.refresh_from_folder(&["--dry-run"]);
    dry.exits(0).mentions("runc 1.4.0: added for amd64, arm64, none for ppc64le");
    assert_eq!(upstream.text(), before);
    let run = upstream.refresh_from_folder(&["runc"]);
    run.exits(0).mentions(&format!("+    amd64: {}", digest('d'))).mentions("added for amd64, arm64");
    let added = format!("runc:\n  1.4.0:\n    amd64: {}\n    arm64: {}\n", digest('d'), digest('e'));
    assert_eq!(upstream.text(), before.replace("runc:\n", &added));
    upstream.refresh_from_folder(&[]).exits(0).mentions("nothing has changed");
}

#[test]
fn w12_a_digest_that_has_changed_is_refused_and_nothing_is_written() {
    if is_absent() {
        return;
    }
    let upstream = Upstream::new();
    upstream.lists("opencontainers/runc", &["v1.4.0", "v1.3.5"]);
    upstream.publishes("1.4.0", &[("amd64", 'd'), ("arm64", 'e')]);
    upstream.publishes("1.3.5", &[("amd64", 'a'), ("arm64", 'f'), ("ppc64le", 'c')]);
    let before = upstream.text();
    let run = upstream.refresh_from_folder(&[]);
    run.exits(1).says("runc 1.3.5 (arm64) HAS CHANGED").says(&digest('b')).says(&digest('f'));
    assert_eq!(upstream.text(), before);
}

#[test]
fn w12_what_upstream_lacks_is_told_and_never_dropped() {
    if is_absent() {
        return;
    }
    let upstream = Upstream::new();
    upstream.lists("opencontainers/runc", &["v1.4.0", "v1.4.1"]);
    upstream.publishes("1.3.5", &[("amd64", 'a'), ("arm64", 'b')]);
    upstream.publishes("1.4.0", &[("amd64", 'd')]);
    let before = upstream.text();
    let run = upstream.refresh_from_folder(&[]);
    run.exits(0).mentions("runc 1.4.0: left out, upstream has no checksum for arm64");
    run.mentions("runc 1.3.5 (ppc64le): upstream has no checksum file any more, kept");
    assert_eq!(upstream.text(), before);
}

#[test]
fn w12_what_is_no_checksum_file_and_no_list_is_refused() {
    if is_absent() {
        return;
    }
    let upstream = Upstream::new();
    let before = upstream.text();
    let path = upstream.folder.path().join("opencontainers/runc/releases/download/v1.3.5/runc.sha256sum");
    write(&path, b"<html>not found</html>\n");
    upstream.refresh_from_folder(&[]).exits(1).says("has no SHA-256");
    let list = upstream.folder.path().join("repos/opencontainers/runc/releases");
    write(&list, b"{\"message\": \"rate limit exceeded\"}");
    upstream.refresh_from_folder(&[]).exits(4).says("is no list of releases");
    fs::remove_file(&list).unwrap();
    upstream.refresh_from_folder(&[]).exits(4).says("there is no list of releases");
    upstream.refresh_from_folder(&["podman"]).exits(2).says("podman");
    assert_eq!(upstream.text(), before);
}

#[test]
fn w12_a_server_is_read_as_a_folder_is() {
    if is_absent() {
        return;
    }
    let upstream = Upstream::new();
    upstream.lists("opencontainers/runc", &["v1.4.0", "v1.3.5"]);
    upstream.publishes("1.4.0", &[("amd64", 'd'), ("arm64", 'e'), ("ppc64le", 'f')]);
    let folder = upstream.folder.path().to_owned();
    let server = Server::http(move |request, _| read(&folder, request.path()));
    upstream.refresh(&server.url(), &[]).exits(0).mentions("added for amd64, arm64, ppc64le");
    assert!(upstream.text().contains(&digest('f')));
    let failing = Server::http(|_, _| Reply::error(500));
    upstream.refresh(&failing.url(), &[]).exits(4).says("500");
}

fn read(folder: &Path, path: &str) -> Reply {
    fs::read(folder.join(path.trim_start_matches('/'))).map_or_else(|_| Reply::error(404), Reply::ok)
}

#[test]
fn w12_the_catalogue_is_written_as_the_script_writes_it() {
    if is_absent() {
        return;
    }
    let upstream = Upstream::new();
    let catalogue = fs::read(repository().join("src/catalog/checksums.yaml")).unwrap();
    write(&upstream.catalogue(), &catalogue);
    for repository in [
        "containerd/containerd",
        "opencontainers/runc",
        "containernetworking/plugins",
        "kubernetes-sigs/cri-tools",
        "containerd/nerdctl",
    ] {
        upstream.lists(repository, &[]);
    }
    fs::remove_dir_all(upstream.folder.path().join("opencontainers/runc/releases/download")).unwrap();
    upstream.refresh_from_folder(&[]).exits(0).mentions("nothing has changed");
    assert_eq!(fs::read(upstream.catalogue()).unwrap(), catalogue);
}
