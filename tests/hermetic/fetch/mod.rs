//! Downloads that go wrong (rows H1 to H14 of the test matrix), the cache, and `nodebake lock`.
//!
//! Every server is on loopback and is told how to misbehave; nothing here needs a network.

mod bodies;
mod cache;
mod failures;
mod lock;
mod trust;
mod ways;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::kit;
use crate::kit::http::{Identity, Reply, Request, Server};
use crate::kit::{CNI, CONTAINERD, Component, Lab, Machine, Member, RUNC, Run, elf, gzip, run, sha256, tar};

const RUNC_FILE: &str = RUNC.file;
const RUNC_PATH: &str = "/opencontainers/runc/releases/download/v1.3.6/runc.amd64";
const ONE_RETRY: [&str; 4] = ["--retries", "1", "--stall-timeout", "1"];
const TWO_RETRIES: [&str; 4] = ["--retries", "2", "--stall-timeout", "1"];

fn apply(lab: &Lab, source: &str, flags: &[&str]) -> Run {
    apply_to(lab, &lab.root, source, flags)
}

fn apply_to(lab: &Lab, root: &Path, source: &str, flags: &[&str]) -> Run {
    let mut command = lab.command(["apply", "--source", source, "--cache-dir", &cache(lab)]);
    run(command.arg("--root").arg(root).arg("--spec").arg(&lab.spec).args(flags))
}

fn apply_with(lab: &Lab, source: &str, flags: &[&str], variables: &[(&str, &str)]) -> Run {
    run_with(on(lab, &mut lab.command([]), "apply", source).args(flags), variables)
}

fn run_with(command: &mut Command, variables: &[(&str, &str)]) -> Run {
    run(command.envs(variables.iter().copied()))
}

/// Adds the words of a whole call to a command that ends in the binary.
fn on<'a>(lab: &Lab, command: &'a mut Command, verb: &str, source: &str) -> &'a mut Command {
    let command = command.arg(verb).arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec);
    command.args(["--source", source, "--cache-dir", &cache(lab)])
}

fn lock(lab: &Lab, source: &str, arches: &[&str]) -> Run {
    let mut command = lab.command(["lock", "--source", source, "--cache-dir", &cache(lab)]);
    command.args(["--retries", "0"]).arg("--spec").arg(&lab.spec);
    run(command.args(arches.iter().flat_map(|arch| ["--arch", arch])))
}

fn cache(lab: &Lab) -> String {
    path(&lab.dir.join("cache")).to_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The mirror's runc is in the root, whole and executable, and nothing temporary is left.
#[track_caller]
fn assert_baked(lab: &Lab) {
    assert_eq!(
        sha256(&lab.read("usr/local/sbin/runc")),
        sha256(&fs::read(lab.artifacts.join(RUNC_FILE)).unwrap())
    );
    assert!(lab.exists("usr/local/bin/containerd") && lab.exists("opt/cni/bin/bridge"));
    lab.has_no_leftovers();
}

/// What a user needs of a failure: the code, what and where, a remedy; and a root as it was.
#[track_caller]
fn assert_refused(lab: &Lab, before: &str, run: &Run, code: i32, says: &[&str]) {
    run.exits(code);
    let message = message(run);
    for needle in says {
        assert!(message.contains(needle), "the error lacks `{needle}`\n{run}");
    }
    assert!(!help(run).is_empty(), "no remedy\n{run}");
    run.is_printable();
    kit::assert_same("the root", before, &lab.tree());
}

/// The error itself, without the progress before it.
fn message(run: &Run) -> String {
    let errors = run.errors();
    errors.split_once("error:").map(|(_, message)| message.to_owned()).unwrap_or_default()
}

/// The text of the `help:` lines.
fn help(run: &Run) -> String {
    let message = message(run);
    let lines = message.lines().filter_map(|line| line.split_once("help:"));
    lines.map(|(_, help)| help.trim()).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn assert_resumed(server: &Server) {
    let starts: Vec<_> = server.gets(RUNC_FILE).iter().map(Request::range_start).collect();
    assert!(starts.iter().flatten().any(|start| *start > 0), "never asked for a range: {starts:?}");
}

/// Whatever the cache holds are artifacts whose digests the spec names: nothing cut, nothing wrong.
#[track_caller]
fn assert_cache_is_clean(lab: &Lab) {
    let good: Vec<String> = [CONTAINERD, RUNC, CNI]
        .iter()
        .map(|c| sha256(&fs::read(lab.artifacts.join(c.file)).unwrap()))
        .collect();
    for file in files(Path::new(&cache(lab))) {
        let bytes = fs::read(&file).unwrap();
        assert!(
            bytes.is_empty() || good.contains(&sha256(&bytes)),
            "kept {} ({} bytes)",
            file.display(),
            bytes.len()
        );
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = if dir.exists() { kit::paths(dir) } else { Vec::new() };
    files.retain(|path| path.is_file());
    files
}

/// The laboratory's artifacts under upstream's paths.
fn served(lab: &Lab) -> BTreeMap<String, Vec<u8>> {
    let at = |prefix: &str, component: Component| {
        let bytes = fs::read(lab.artifacts.join(component.file)).unwrap();
        (format!("/{prefix}/releases/download/v{}/{}", component.version, component.file), bytes)
    };
    let repositories = [
        ("containerd/containerd", CONTAINERD),
        ("opencontainers/runc", RUNC),
        ("containernetworking/plugins", CNI),
    ];
    repositories.map(|(prefix, component)| at(prefix, component)).into()
}

fn answer(files: &BTreeMap<String, Vec<u8>>, request: &Request) -> Reply {
    files.get(request.path()).map_or_else(|| Reply::error(404), |bytes| Reply::ok(bytes.clone()))
}

fn mirror(lab: &Lab) -> Server {
    faulty(lab, RUNC, |_| None)
}

/// A request for the one artifact that goes wrong.
struct Asked<'a> {
    request: &'a Request,
    /// How many requests for it came before.
    earlier: usize,
    /// What an honest mirror would send.
    bytes: Vec<u8>,
}

/// An honest mirror, except where `fault` answers for one component.
fn faulty<F>(lab: &Lab, component: Component, fault: F) -> Server
where
    F: Fn(Asked<'_>) -> Option<Reply> + Send + Sync + 'static,
{
    let files = served(lab);
    Server::http(move |request, earlier| {
        let asked = files.get(request.path()).filter(|_| request.file() == component.file);
        let reply = asked.and_then(|bytes| fault(Asked { request, earlier, bytes: bytes.clone() }));
        reply.unwrap_or_else(|| answer(&files, request))
    })
}

/// A runc of 256 KiB in which no two places look alike.
fn with_big_runc() -> Lab {
    let mut state = 0x9e37_79b9_u32;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    });
    let noise: Vec<u8> = noise.take(64 << 10).flatten().collect();
    let mut lab = Lab::new();
    lab.ship(RUNC, &elf(Machine::X86_64, &noise));
    lab
}

fn authority(lab: &Lab, identity: &Identity) -> String {
    let file = lab.dir.join("ca.pem");
    fs::write(&file, &identity.authority).unwrap();
    path(&file).to_owned()
}

/// A release that the catalogue does not know, so that only upstream's checksum file has its digest.
struct Release {
    component: &'static str,
    version: &'static str,
    path: &'static str,
    checksums: &'static str,
    members: &'static [&'static str],
}

const RELEASES: [Release; 5] = [
    Release {
        component: "containerd",
        version: "2.1.99",
        path: "/containerd/containerd/releases/download/v2.1.99/containerd-2.1.99-linux-ARCH.tar.gz",
        checksums: "/containerd/containerd/releases/download/v2.1.99/containerd-2.1.99-linux-ARCH.tar.gz.sha256sum",
        members: &["bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr"],
    },
    Release {
        component: "runc",
        version: "1.3.99",
        path: "/opencontainers/runc/releases/download/v1.3.99/runc.ARCH",
        checksums: "/opencontainers/runc/releases/download/v1.3.99/runc.sha256sum",
        members: &[],
    },
    Release {
        component: "cni-plugins",
        version: "1.9.99",
        path: "/containernetworking/plugins/releases/download/v1.9.99/cni-plugins-linux-ARCH-v1.9.99.tgz",
        checksums: "/containernetworking/plugins/releases/download/v1.9.99/cni-plugins-linux-ARCH-v1.9.99.tgz.sha256",
        members: &["./bridge", "./host-local", "./loopback", "./portmap"],
    },
    Release {
        component: "crictl",
        version: "1.34.99",
        path: "/kubernetes-sigs/cri-tools/releases/download/v1.34.99/crictl-v1.34.99-linux-ARCH.tar.gz",
        checksums: "/kubernetes-sigs/cri-tools/releases/download/v1.34.99/crictl-v1.34.99-linux-ARCH.tar.gz.sha256",
        members: &["crictl"],
    },
    Release {
        component: "nerdctl",
        version: "2.99.0",
        path: "/containerd/nerdctl/releases/download/v2.99.0/nerdctl-2.99.0-linux-ARCH.tar.gz",
        checksums: "/containerd/nerdctl/releases/download/v2.99.0/SHA256SUMS",
        members: &["nerdctl"],
    },
];

impl Release {
    fn path(&self, arch: &str) -> String {
        self.path.replace("ARCH", arch)
    }

    fn checksums(&self, arch: &str) -> String {
        self.checksums.replace("ARCH", arch)
    }

    fn file(&self, arch: &str) -> String {
        let path = self.path(arch);
        path.rsplit('/').next().unwrap().to_owned()
    }

    fn elf(&self, arch: &str, member: &str) -> Vec<u8> {
        let machine = if arch == "arm64" { Machine::Aarch64 } else { Machine::X86_64 };
        elf(machine, format!("{} {member}", self.component).as_bytes())
    }

    fn bytes(&self, arch: &str) -> Vec<u8> {
        if self.members.is_empty() {
            return self.elf(arch, "");
        }
        let members: Vec<Member> =
            self.members.iter().map(|name| Member::file(name, 0o755, &self.elf(arch, name))).collect();
        gzip(&tar(&members))
    }

    /// The checksum file's text, in the grammar that this upstream uses.
    fn sums(&self, arch: &str) -> String {
        let line = |arch: &str| format!("{}  {}\n", sha256(&self.bytes(arch)), self.file(arch));
        let other = "1".repeat(64);
        match self.component {
            // A path before the name, and a neighbour whose name contains this one.
            "containerd" => format!(
                "{other}  releases/{0}.asc\n{1}  releases/{0}\n",
                self.file(arch),
                sha256(&self.bytes(arch))
            ),
            "runc" => format!(
                "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{other}  libseccomp-2.5.6.tar.gz\n{}{}{other}  runc.tar.xz\n\
                 -----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCgAdFiEE\n=abcd\n-----END PGP SIGNATURE-----\n",
                line("amd64"),
                line("arm64"),
            ),
            "crictl" => format!("{}\n", sha256(&self.bytes(arch))),
            // All files of the release in one list, in binary mode.
            "nerdctl" => {
                let full = self.file("amd64").replace("nerdctl-", "nerdctl-full-");
                let lines = format!("{other}  {full}\n{}{}", line("amd64"), line("arm64"));
                lines.replace("  ", " *")
            }
            _ => line(arch),
        }
    }
}

fn releases() -> impl Iterator<Item = (&'static Release, &'static str)> {
    RELEASES.iter().flat_map(|release| ["amd64", "arm64"].map(|arch| (release, arch)))
}

fn lock_path(lab: &Lab) -> PathBuf {
    lab.dir.join("nodebake.lock")
}

fn lock_text(lab: &Lab) -> String {
    fs::read_to_string(lock_path(lab)).unwrap()
}

/// An address where nobody listens.
fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
