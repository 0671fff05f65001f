//! A laboratory: a root to bake, artifacts to bake it from and a sentinel that nothing may touch.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use super::NODEBAKE;
use super::elf::{Machine, elf};
use super::files::{executable, make_dir, mode, write};
use super::gzip::gzip;
use super::run::{Run, run, words_of};
use super::tally::tally;
use super::tar::{Member, tar};
use super::tree::{assert_same, paths, sha256, tree};

/// A component of the default spec: its key, its version and upstream's file name.
#[derive(Clone, Copy, Debug)]
pub struct Component {
    pub name: &'static str,
    pub version: &'static str,
    pub file: &'static str,
}

pub const CONTAINERD: Component =
    Component { name: "containerd", version: "2.1.9", file: "containerd-2.1.9-linux-amd64.tar.gz" };
pub const RUNC: Component = Component { name: "runc", version: "1.3.6", file: "runc.amd64" };
pub const CNI: Component =
    Component { name: "cni-plugins", version: "1.9.1", file: "cni-plugins-linux-amd64-v1.9.1.tgz" };

/// A temporary directory with everything one bake needs:
///
/// ```text
/// root/            a small usr-merged amd64 root without a libc
/// artifacts/       containerd, runc and the CNI plugins under upstream's names
/// nodebake.yaml    points at ./artifacts, with the digest of what lies there
/// host/            the sentinel: what an escape would hit; it must never change
/// home/            HOME of every run
/// ```
///
/// When a test ends, the sentinel is compared with what it was: every test proves that nothing
/// outside the root changed.
pub struct Lab {
    pub root: PathBuf,
    pub artifacts: PathBuf,
    pub spec: PathBuf,
    pub host: PathBuf,
    pub dir: PathBuf,
    digests: BTreeMap<&'static str, (Component, String)>,
    preamble: String,
    extra: String,
    sentinel: String,
    _temporary: TempDir,
}

impl Lab {
    pub fn new() -> Lab {
        let temporary = tempfile::Builder::new().prefix("nb").tempdir().unwrap();
        let dir = temporary.path().to_owned();
        let host = dir.join("host");
        write_sentinel(&host);
        let mut lab = Lab {
            root: dir.join("root"),
            artifacts: dir.join("artifacts"),
            spec: dir.join("nodebake.yaml"),
            sentinel: tree(&host),
            host,
            digests: BTreeMap::new(),
            preamble: String::new(),
            extra: String::new(),
            _temporary: temporary,
            dir,
        };
        for empty in ["root", "artifacts", "home"] {
            fs::create_dir(lab.dir.join(empty)).unwrap();
            mode(&lab.dir.join(empty), 0o755);
        }
        write_root(&lab.root);
        lab.place(CONTAINERD, &gzip(&tar(&containerd_members())));
        lab.place(RUNC, &elf(Machine::X86_64, b"runc"));
        lab.place(CNI, &gzip(&tar(&cni_members())));
        lab
    }

    /// Puts `bytes` into the artifacts as that component, with the matching digest in the spec:
    /// an attack that a trusted digest covers.
    pub fn ship(&mut self, component: Component, bytes: &[u8]) -> &mut Lab {
        tally("archives", 1);
        self.place(component, bytes)
    }

    fn place(&mut self, component: Component, bytes: &[u8]) -> &mut Lab {
        write(&self.artifacts.join(component.file), bytes);
        self.digests.insert(component.name, (component, sha256(bytes)));
        self.write_spec();
        self
    }

    /// Sets the target's architecture in the spec, for roots that don't show one.
    pub fn arch(&mut self, arch: &str) -> &mut Lab {
        self.preamble = format!("arch: {arch}\n");
        self.write_spec();
        self
    }

    /// Replaces what stands in the spec after source and components.
    pub fn spec_also(&mut self, yaml: &str) -> &mut Lab {
        self.extra = yaml.to_owned();
        self.write_spec();
        self
    }

    fn write_spec(&self) {
        let mut yaml = format!("{}source: ./artifacts\ncomponents:\n", self.preamble);
        for (component, digest) in self.digests.values() {
            let Component { name, version, .. } = component;
            writeln!(yaml, "  {name}: {{version: {version}, sha256: {digest}}}").unwrap();
        }
        yaml.push_str(&self.extra);
        write(&self.spec, yaml.as_bytes());
    }

    /// A second, identical root beside the first.
    pub fn another_root(&self, name: &str) -> PathBuf {
        let root = self.dir.join(name);
        fs::create_dir(&root).unwrap();
        mode(&root, 0o755);
        write_root(&root);
        root
    }

    pub fn apply(&self) -> Run {
        self.run(["apply"], &self.root)
    }

    pub fn plan(&self) -> Run {
        run(self
            .command(["plan", "--detailed-exitcode"])
            .arg("--root")
            .arg(&self.root)
            .arg("--spec")
            .arg(&self.spec))
    }

    pub fn verify(&self) -> Run {
        run(self.command(["verify"]).arg("--root").arg(&self.root))
    }

    pub fn remove(&self) -> Run {
        run(self.command(["remove"]).arg("--root").arg(&self.root))
    }

    /// Runs `nodebake ARGS --root ROOT --spec SPEC`.
    pub fn run<const N: usize>(&self, args: [&str; N], root: &Path) -> Run {
        run(self.command(args).arg("--root").arg(root).arg("--spec").arg(&self.spec))
    }

    /// The binary with `args` in the hermetic environment, its working directory outside the root.
    pub fn command<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = self.wrapped([NODEBAKE; 1]);
        command.args(args);
        command
    }

    /// `WRAPPER… nodebake apply --root ROOT --spec SPEC`, for strace, unshare, sh and friends.
    pub fn apply_under(&self, wrapper: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Run {
        let mut command = self.wrapped(wrapper);
        run(command.arg(NODEBAKE).arg("apply").arg("--root").arg(&self.root).arg("--spec").arg(&self.spec))
    }

    /// Any program in the hermetic environment.
    pub fn wrapped(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = words_of(words);
        command.current_dir(self.dir.join("home")).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.dir.join("home"));
        command
    }

    pub fn tree(&self) -> String {
        tree(&self.root)
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    /// The bytes of a file inside the root, following no link at its end.
    pub fn read(&self, inside: &str) -> Vec<u8> {
        let path = self.path(inside);
        assert!(
            path.symlink_metadata().is_ok_and(|m| m.is_file()),
            "`{inside}` is not a file in\n{}",
            self.tree()
        );
        fs::read(path).unwrap()
    }

    pub fn exists(&self, inside: &str) -> bool {
        self.path(inside).symlink_metadata().is_ok()
    }

    /// Holds the root's lock until it is dropped or unlocked.
    pub fn hold_lock(&self) -> fs::File {
        let path = self.path("var/lib/nodebake/.lock");
        write(&path, b"");
        let file = fs::File::options().read(true).write(true).open(path).unwrap();
        file.lock().unwrap();
        file
    }

    #[track_caller]
    pub fn host_is_untouched(&self) {
        assert_same("the host sentinel", &self.sentinel, &tree(&self.host));
    }

    /// Neither staged files nor an intent: what a clean end leaves, whether it was a success.
    #[track_caller]
    pub fn has_no_leftovers(&self) {
        let left: Vec<_> = paths(&self.root)
            .into_iter()
            .filter(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                name == "pending.json" || (name.starts_with(".nodebake-") && name.ends_with(".tmp"))
            })
            .collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.host_is_untouched();
            tally("sentinels", 1);
        }
    }
}

/// What a host would lose: accounts, a private key, a containerd of its own.
fn write_sentinel(host: &Path) {
    write(&host.join("etc/passwd"), b"root:x:0:0:root:/root:/bin/sh\n");
    write(&host.join("etc/containerd/config.toml"), b"# the host's own\n");
    write(&host.join("root/key"), b"a private key\n");
    mode(&host.join("root/key"), 0o600);
    write(&host.join("usr/local/bin/containerd"), b"the host's containerd\n");
    symlink("passwd", host.join("etc/link")).unwrap();
}

/// A usr-merged root: enough for its architecture to be read, and no libc.
fn write_root(root: &Path) {
    tally("roots", 1);
    for dir in ["usr/bin", "usr/sbin", "usr/lib", "etc", "var/lib", "tmp"] {
        make_dir(&root.join(dir));
    }
    mode(&root.join("tmp"), 0o1777);
    for merged in ["bin", "sbin", "lib"] {
        symlink(format!("usr/{merged}"), root.join(merged)).unwrap();
    }
    executable(&root.join("usr/bin/sh"), &elf(Machine::X86_64, b"sh"));
    write(&root.join("usr/lib/os-release"), b"ID=nodebake-test\n");
    symlink("../usr/lib/os-release", root.join("etc/os-release")).unwrap();
    write(&root.join("etc/passwd"), b"root:x:0:0:root:/root:/bin/sh\n");
}

pub fn containerd_members() -> Vec<Member> {
    vec![
        Member::dir("bin/"),
        Member::plugin("bin/containerd"),
        Member::plugin("bin/containerd-shim-runc-v2"),
        Member::plugin("bin/ctr"),
    ]
}

/// As upstream packs it: `./` first, the licence and the readme among the plugins.
pub fn cni_members() -> Vec<Member> {
    vec![
        Member::dir("./"),
        Member::plugin("./bridge"),
        Member::plugin("./host-local"),
        Member::plugin("./loopback"),
        Member::plugin("./portmap"),
        Member::file("./LICENSE", 0o644, b"Apache License\n"),
        Member::file("./README.md", 0o644, b"# plugins\n"),
    ]
}
