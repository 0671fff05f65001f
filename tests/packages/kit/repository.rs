//! The lab's package repositories over loopback HTTP, as a closed network would mirror them, and specs
//! that install from them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::kit::command::{expect, run};
use crate::kit::http::{Reply, Request, Server};
use crate::kit::lab::{lab, repository};
use crate::kit::node::{Node, artifacts, versions};
use crate::kit::tree;

/// A folder of the lab's repositories.
pub fn repositories() -> PathBuf {
    lab().join("repositories")
}

/// `keys/NAME`.
pub fn key(name: &str) -> PathBuf {
    repositories().join("keys").join(name)
}

/// The fingerprint of a key, 40 hexadecimal digits.
pub fn fingerprint(name: &str) -> String {
    fs::read_to_string(key(&format!("{name}.fingerprint"))).unwrap().trim().to_owned()
}

/// The one package of a flat repository, or the one in `suite` whose name has `version`.
pub fn package_file(folder: &str, version: &str) -> PathBuf {
    let all = fs::read_dir(repositories().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.contains(version) && (name.ends_with(".deb") || name.ends_with(".rpm"))
    };
    all.into_iter().find(is_it).unwrap()
}

/// Serves all of them.
pub fn serve() -> Server {
    serve_changed(|_, reply| reply)
}

/// Serves all of them; `change` has the last word.
pub fn serve_changed(change: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Server {
    let folder = repositories();
    Server::http(move |request, _| change(request, file(&folder, request.path())))
}

/// Serves them through a line that can be broken while somebody reads: `break_it` decides on each
/// request, as long as the switch is on.
pub fn serve_breakable(
    break_it: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
) -> (Server, Arc<AtomicBool>) {
    let broken = Arc::new(AtomicBool::new(true));
    let switch = Arc::clone(&broken);
    let server = serve_changed(move |request, reply| match switch.load(Ordering::Relaxed) {
        true => break_it(request, reply),
        false => reply,
    });
    (server, broken)
}

fn file(folder: &Path, path: &str) -> Reply {
    // apt asks for `/deb-eager/./InRelease`, and for `~` and `+` as they are or escaped
    let path = path.replace("%7e", "~").replace("%2b", "+").replace("%7E", "~").replace("%2B", "+");
    let plain = !path.split('/').any(|part| part == "..");
    match fs::read(folder.join(path.trim_start_matches('/'))) {
        Ok(bytes) if plain => Reply::ok(bytes),
        _ => Reply::error(404),
    }
}

/// Whether the request is for a package rather than for what describes it.
pub fn is_package(request: &Request) -> bool {
    request.path().ends_with(".deb") || request.path().ends_with(".rpm")
}

/// `repository:` of the lab's suites, signed by its key.
pub fn suites(server: &Server) -> String {
    at(server, "deb", "")
}

/// `repository:` of a flat one.
pub fn flat(server: &Server, folder: &str) -> String {
    at(server, folder, ", suite: ./")
}

/// `repository:` of one for dnf.
pub fn rpms(server: &Server, folder: &str) -> String {
    at(server, folder, "")
}

fn at(server: &Server, folder: &str, more: &str) -> String {
    format!(
        "{{url: '{}/{folder}', key: {}, fingerprint: {}{more}}}",
        server.url(),
        key("key.asc").display(),
        fingerprint("key")
    )
}

/// A copy of a root of the lab's, with a spec that takes containerd from a package and the CNI plugins
/// from the archive. `package` is what stands in `containerd.package`; `more` follows, first of all
/// other keys of `containerd`, two spaces in.
pub fn node(root: &str, package: &str, more: &str) -> Node {
    let node = Node::new(root, "2.1", "");
    write_spec(&node, package, more);
    node
}

/// Another spec for the same root.
pub fn write_spec(node: &Node, package: &str, more: &str) {
    fs::write(node.spec(), spec(package, more)).unwrap();
}

/// See [`node`].
pub fn spec(package: &str, more: &str) -> String {
    let plugins = &versions("2.1")["cni-plugins"];
    format!(
        "source: {}\ncomponents:\n  cni-plugins: {{version: {}, sha256: {}}}\n\
         containerd:\n  install: package\n  package: {{{package}}}\n{more}",
        artifacts("2.1").display(),
        plugins["version"],
        plugins["sha256"]
    )
}

/// Gives a root the Debian mirror that this machine's apt is configured with.
pub fn give_mirror(node: &Node) {
    let script = repository().join("tests/lab/apt-sources");
    expect(0, Command::new(script).arg(node.root()).output().unwrap());
}

/// Runs a program of the root.
pub fn chroot(node: &Node, words: &[&str]) -> Output {
    Command::new("chroot").arg(node.root()).args(words).env("LC_ALL", "C").output().unwrap()
}

/// Installs a package of no content that depends on another.
pub fn install_what_needs(node: &Node, needed: &str) {
    let tree = node.folder.path().join("needs");
    let control = format!(
        "Package: lab-needs\nVersion: 1\nArchitecture: all\nMaintainer: lab\nDepends: {needed}\nDescription: needs it\n"
    );
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let file = node.path("/root/needs.deb");
    let [tree, deb] = [&tree, &file].map(|path| path.to_str().unwrap());
    run("dpkg-deb", &["--root-owner-group", "--build", tree, deb]);
    expect(0, chroot(node, &["dpkg", "--install", "/root/needs.deb"]));
    fs::remove_file(file).unwrap();
}

/// The tree without what a package manager keeps for itself, and without logs.
pub fn outside_the_database(node: &Node) -> String {
    let own = [
        "var/lib/dpkg",
        "var/lib/apt",
        "var/cache/debconf",
        "var/lib/systemd/deb-systemd-helper-",
        "var/log",
        "var/lib/rpm",
        "var/lib/dnf",
        "var/cache/dnf",
        "var/cache/ldconfig",
        "etc/ld.so.cache",
    ];
    let kept = |line: &&str| {
        let path = line.split_whitespace().nth(2).unwrap_or_default();
        !own.iter().any(|own| path.starts_with(own))
    };
    tree(&node.root()).lines().filter(kept).map(|line| format!("{line}\n")).collect()
}
