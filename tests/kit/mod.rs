//! The shared kit of the integration tests: a laboratory with a root to bake, artifacts to bake
//! it from and a sentinel directory that nothing may touch; builders for ELF files, tar archives
//! and gzip streams, honest and hostile; and one line per path of what a tree looks like.
//!
//! It asserts nothing about how nodebake works, only what a user can see from outside.

// Every test binary compiles its own copy and uses a part of it.
#![allow(dead_code)]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests set up their own host"
)]

pub mod guest;
pub mod readers;
pub mod ready;
pub mod real;
pub mod tally;
pub mod upstream;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use tally::tally;

pub const NODEBAKE: &str = env!("CARGO_BIN_EXE_nodebake");

/// No honest run takes longer; whoever blocks on a FIFO or loops for ever is killed here.
pub const PATIENCE: Duration = Duration::from_secs(30);

// ---------------------------------------------------------------- the laboratory

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
    pub fn apply_under<const N: usize>(&self, wrapper: [&str; N]) -> Run {
        let mut command = self.wrapped(wrapper);
        run(command.arg(NODEBAKE).arg("apply").arg("--root").arg(&self.root).arg("--spec").arg(&self.spec))
    }

    /// Any program in the hermetic environment.
    pub fn wrapped<const N: usize>(&self, words: [&str; N]) -> Command {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(self.dir.join("home")).env_clear();
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

// ---------------------------------------------------------------- running

/// One finished run, with everything a failure message needs.
pub struct Run {
    pub command: String,
    /// None after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    /// Raw, because a hostile name must not come through unescaped.
    pub stderr: Vec<u8>,
    pub took: Duration,
    /// VmHWM of the started process in KiB, as last seen before its end.
    pub peak: u64,
}

impl Run {
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Run {
        assert_eq!(self.code, Some(code), "exit code (expected right)\n{self}");
        self
    }

    /// stderr contains `needle`.
    #[track_caller]
    pub fn says(&self, needle: &str) -> &Run {
        assert!(self.errors().contains(needle), "stderr lacks `{needle}`\n{self}");
        self
    }

    /// stdout or stderr contains `needle`: for reports, whose stream is the command's choice.
    #[track_caller]
    pub fn mentions(&self, needle: &str) -> &Run {
        let anywhere = self.stdout.contains(needle) || self.errors().contains(needle);
        assert!(anywhere, "neither stream has `{needle}`\n{self}");
        self
    }

    #[track_caller]
    pub fn within(&self, limit: Duration) -> &Run {
        assert!(self.took < limit, "took {:?}, more than {limit:?}\n{self}", self.took);
        self
    }

    /// Nothing that a terminal would interpret: no control byte but the line ends, and UTF-8.
    #[track_caller]
    pub fn is_printable(&self) -> &Run {
        assert!(std::str::from_utf8(&self.stderr).is_ok(), "stderr is not UTF-8\n{self}");
        let control = self.errors().chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(control, None, "a raw control character on stderr\n{self}");
        self
    }

    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.code.map_or("a signal".to_owned(), |code| code.to_string());
        writeln!(f, "$ {}\nexit: {code} after {:?}, peak {} KiB", self.command, self.took, self.peak)?;
        writeln!(
            f,
            "--- stdout\n{}--- stderr\n{}---",
            self.stdout,
            self.stderr.escape_ascii().to_string().replace("\\n", "\n")
        )
    }
}

/// What nodebake needs at most, in KiB, whatever it is fed.
pub const MEMORY: u64 = 64 << 10;

/// Runs to the end, or kills after [`PATIENCE`] and fails. Fails as well where nodebake itself has
/// needed more than [`MEMORY`]: that holds for every attack, not for the tests of bombs alone.
#[track_caller]
pub fn run(command: &mut Command) -> Run {
    let line = words(command);
    let start = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = drain(child.stdout.take().unwrap());
    let stderr = drain(child.stderr.take().unwrap());
    let (code, peak) = watch(&mut child, start, &line);
    assert!(peak < MEMORY || !line.starts_with(NODEBAKE), "{peak} KiB of memory: {line}");
    Run {
        command: line,
        code,
        took: start.elapsed(),
        peak,
        stdout: String::from_utf8_lossy(&stdout.join().unwrap()).into_owned(),
        stderr: stderr.join().unwrap(),
    }
}

/// Polls for the end and for the high-water mark: wait4's ru_maxrss would carry over the test's
/// own size, and the mark is gone with the process.
#[track_caller]
fn watch(child: &mut Child, start: Instant, line: &str) -> (Option<i32>, u64) {
    let mut peak = 0;
    loop {
        peak = peak.max(high_water_mark(child.id()));
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code(), peak);
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("still running after {PATIENCE:?}, killed: {line}");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// In KiB; 0 before the program runs. A child goes by its parent's name and memory until its execve is
/// through, and `spawn` returns a moment before: in status the name stands before the memory, so where
/// the name is no longer the parent's, neither is the memory.
fn high_water_mark(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let parent = fs::read_to_string("/proc/thread-self/comm").unwrap();
    if field("Name:") == Some(parent.trim()) {
        return 0;
    }
    field("VmHWM:").and_then(|kib| kib.trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn drain(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

fn words(command: &Command) -> String {
    let all = std::iter::once(command.get_program()).chain(command.get_args());
    all.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Says why a test does nothing on this machine; cargo captures only the print macros.
pub fn skip(test: &str, reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// Whether a program can be run here with these arguments.
pub fn works<const N: usize>(words: [&str; N]) -> bool {
    let quiet = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

// ---------------------------------------------------------------- trees

/// One line per path below `root` and for `root` itself, sorted by path, nothing left out:
/// `-rwxr-xr-x root:root usr/local/sbin/runc sha256:…`, `lrwxrwxrwx root:root bin -> usr/bin`.
pub fn tree(root: &Path) -> String {
    let mut lines = String::new();
    for path in paths(root) {
        let meta = path.symlink_metadata().unwrap();
        let inside = path.strip_prefix(root).unwrap();
        let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
        writeln!(
            lines,
            "{} {} {}{}",
            permissions(&meta),
            owner(&meta),
            inside.display(),
            contents(&path, &meta)
        )
        .unwrap();
    }
    lines
}

/// Every path below `root` with the inode and the times that a rewrite, even an identical one,
/// would change.
pub fn times(root: &Path) -> BTreeMap<PathBuf, [i64; 5]> {
    let stamp = |path: PathBuf| {
        let meta = path.symlink_metadata().unwrap();
        let times = [meta.ino() as i64, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        (path, times)
    };
    paths(root).into_iter().map(stamp).collect()
}

/// Every path, sorted, no link followed.
pub fn paths(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    if root.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        let mut names: Vec<OsString> =
            fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        found.extend(names.iter().flat_map(|name| paths(&root.join(name))));
    }
    found
}

/// Equality of two trees, told as the lines that differ.
#[track_caller]
pub fn assert_same(what: &str, before: &str, after: &str) {
    if before == after {
        return;
    }
    let gone = before
        .lines()
        .filter(|line| !after.lines().any(|other| other == *line))
        .map(|line| format!("- {line}\n"));
    let new = after
        .lines()
        .filter(|line| !before.lines().any(|other| other == *line))
        .map(|line| format!("+ {line}\n"));
    panic!("{what} differs:\n{}", gone.chain(new).collect::<String>());
}

fn permissions(meta: &fs::Metadata) -> String {
    let kind = meta.file_type();
    let kinds = [
        (kind.is_dir(), 'd'),
        (kind.is_symlink(), 'l'),
        (kind.is_fifo(), 'p'),
        (kind.is_socket(), 's'),
        (kind.is_char_device(), 'c'),
        (kind.is_block_device(), 'b'),
    ];
    let mut text = String::from(kinds.iter().find(|(is, _)| *is).map_or('-', |(_, letter)| *letter));
    let bits = meta.mode();
    for (shift, special, plain) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let on = |bit: u32, letter: char| if bits >> shift & bit != 0 { letter } else { '-' };
        text.push(on(4, 'r'));
        text.push(on(2, 'w'));
        text.push(match (bits & special != 0, bits >> shift & 1 != 0) {
            (true, true) => plain,
            (true, false) => plain.to_ascii_uppercase(),
            (false, _) => on(1, 'x'),
        });
    }
    text
}

fn owner(meta: &fs::Metadata) -> String {
    let name = |id: u32| if id == 0 { "root".to_owned() } else { id.to_string() };
    format!("{}:{}", name(meta.uid()), name(meta.gid()))
}

fn contents(path: &Path, meta: &fs::Metadata) -> String {
    let kind = meta.file_type();
    if kind.is_symlink() {
        format!(" -> {}", fs::read_link(path).unwrap().display())
    } else if kind.is_file() {
        format!(" sha256:{}", sha256(&fs::read(path).unwrap()))
    } else if kind.is_char_device() || kind.is_block_device() {
        format!(" device {:#x}", meta.rdev())
    } else {
        String::new()
    }
}

// ---------------------------------------------------------------- files

pub fn write(path: &Path, bytes: &[u8]) {
    make_dir(path.parent().unwrap());
    fs::write(path, bytes).unwrap();
    mode(path, 0o644);
}

pub fn executable(path: &Path, bytes: &[u8]) {
    write(path, bytes);
    mode(path, 0o755);
}

pub fn make_dir(path: &Path) {
    if !path.exists() {
        make_dir(path.parent().unwrap());
        fs::create_dir(path).unwrap();
        mode(path, 0o755);
    }
}

/// Replaces whatever stands at `path` by a link.
pub fn link(target: impl AsRef<Path>, path: &Path) {
    make_dir(path.parent().unwrap());
    if path.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        fs::remove_dir_all(path).unwrap();
    } else if path.symlink_metadata().is_ok() {
        fs::remove_file(path).unwrap();
    }
    symlink(target, path).unwrap();
}

pub fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub fn own(path: &Path, uid: u32, gid: u32) {
    chown(path, Some(uid), Some(gid)).unwrap();
}

pub fn sha256(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

// ---------------------------------------------------------------- ELF

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    X86_64,
    Aarch64,
    I386,
    Arm,
}

/// A minimal valid, statically linked executable: the header, one PT_LOAD over the whole file,
/// and `payload`, which makes two of them differ.
pub fn elf(machine: Machine, payload: &[u8]) -> Vec<u8> {
    let (number, wide): (u16, bool) = match machine {
        Machine::X86_64 => (62, true),
        Machine::Aarch64 => (183, true),
        Machine::I386 => (3, false),
        Machine::Arm => (40, false),
    };
    let (header, segment): (u16, u16) = if wide { (64, 56) } else { (52, 32) };
    let load: u64 = 0x40_0000;
    let size = u64::from(header + segment) + payload.len() as u64;
    let mut file = Vec::new();
    // An address or offset is as wide as the class.
    let word = |file: &mut Vec<u8>, value: u64| {
        if wide { file.extend(value.to_le_bytes()) } else { file.extend((value as u32).to_le_bytes()) }
    };
    file.extend([0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1, 0]);
    file.extend([0; 8]);
    file.extend(2u16.to_le_bytes()); // ET_EXEC
    file.extend(number.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    word(&mut file, load + u64::from(header + segment));
    word(&mut file, u64::from(header)); // the program headers follow at once
    word(&mut file, 0); // no sections
    file.extend(0u32.to_le_bytes());
    for value in [header, segment, 1, 0, 0, 0] {
        file.extend(value.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes()); // PT_LOAD
    if wide {
        file.extend(5u32.to_le_bytes());
    }
    for value in [0, load, load, size, size] {
        word(&mut file, value);
    }
    if !wide {
        file.extend(5u32.to_le_bytes());
    }
    word(&mut file, 0x1000);
    file.extend(payload);
    file
}

// ---------------------------------------------------------------- tar

/// One member of an honest archive; a name that ends in `/` is a directory.
#[derive(Clone, Debug)]
pub struct Member {
    pub name: String,
    pub mode: u32,
    pub uid: u64,
    pub bytes: Vec<u8>,
}

impl Member {
    pub fn file(name: &str, mode: u32, bytes: &[u8]) -> Member {
        Member { name: name.to_owned(), mode, uid: 0, bytes: bytes.to_owned() }
    }

    pub fn dir(name: &str) -> Member {
        Member::file(name, 0o755, b"")
    }

    /// An amd64 executable whose content is unique to its name.
    pub fn plugin(name: &str) -> Member {
        Member::file(name, 0o755, &elf(Machine::X86_64, name.as_bytes()))
    }

    pub fn uid(mut self, uid: u64) -> Member {
        self.uid = uid;
        self
    }

    pub fn mode(mut self, mode: u32) -> Member {
        self.mode = mode;
        self
    }
}

/// An honest archive with its end marker.
pub fn tar(members: &[Member]) -> Vec<u8> {
    members.iter().fold(Tar::new(), |tar, member| tar.member(member)).end()
}

/// An archive written block by block: nothing is checked, so anything can be said.
#[derive(Clone, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn new() -> Tar {
        Tar::default()
    }

    pub fn members(self, members: &[Member]) -> Tar {
        members.iter().fold(self, Tar::member)
    }

    pub fn member(self, member: &Member) -> Tar {
        let kind = if member.name.ends_with('/') { b'5' } else { b'0' };
        let header = Header::new(kind, member.name.as_bytes()).mode(member.mode).uid(member.uid);
        self.entry(header.size(member.bytes.len() as u64), &member.bytes)
    }

    /// The header exactly as given, then the data padded to the block, whatever the header says.
    pub fn entry(mut self, header: Header, data: &[u8]) -> Tar {
        self.0.extend(header.sealed());
        self.data(data)
    }

    pub fn data(mut self, data: &[u8]) -> Tar {
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A PAX `x` record for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
        self.entry(Header::new(b'x', b"PaxHeaders/0").size(data.len() as u64), &data)
    }

    /// A GNU `L` record: the name of the next entry.
    pub fn long_name(self, name: &[u8]) -> Tar {
        let data = [name, b"\0"].concat();
        self.entry(Header::new(b'L', b"././@LongLink").gnu().size(data.len() as u64), &data)
    }

    pub fn zero_blocks(mut self, count: usize) -> Tar {
        self.0.resize(self.0.len() + count * 512, 0);
        self
    }

    pub fn end(self) -> Vec<u8> {
        self.zero_blocks(2).bytes()
    }

    /// As it stands, without an end marker.
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }
}

/// `"LENGTH KEY=VALUE\n"`, where the length counts its own digits.
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = 1 + key.len() + 1 + value.len() + 1;
    let length = (1..=9).map(|digits| rest + digits).find(|all| all.to_string().len() == all - rest).unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// One 512-byte header; the checksum is computed last.
#[derive(Clone)]
pub struct Header(pub [u8; 512]);

impl Header {
    /// A ustar header with mode 0755, owner 0 and size 0; `name` fills the field as it is.
    pub fn new(kind: u8, name: &[u8]) -> Header {
        let mut header = Header([0; 512]);
        header.put(0, 100, name);
        header.0[156] = kind;
        header.0[257..265].copy_from_slice(b"ustar\x0000");
        header.mode(0o755).uid(0).gid(0).size(0).octal(136, 12, 0)
    }

    pub fn mode(self, mode: u32) -> Header {
        self.octal(100, 8, mode.into())
    }

    pub fn uid(self, uid: u64) -> Header {
        self.octal(108, 8, uid)
    }

    pub fn gid(self, gid: u64) -> Header {
        self.octal(116, 8, gid)
    }

    /// In octal where it fits, else in GNU's base 256.
    pub fn size(mut self, size: u64) -> Header {
        if size < 1 << 33 {
            return self.octal(124, 12, size);
        }
        self.0[124] = 0x80;
        self.0[125..128].fill(0);
        self.0[128..136].copy_from_slice(&size.to_be_bytes());
        self
    }

    pub fn link(mut self, target: &[u8]) -> Header {
        self.put(157, 100, target);
        self
    }

    pub fn gnu(mut self) -> Header {
        self.0[257..265].copy_from_slice(b"ustar  \0");
        self
    }

    /// Any field, by offset.
    pub fn raw(mut self, offset: usize, bytes: &[u8]) -> Header {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn octal(mut self, offset: usize, width: usize, value: u64) -> Header {
        let text = format!("{value:0digits$o}\0", digits = width - 1);
        self.0[offset..offset + width].copy_from_slice(text.as_bytes());
        self
    }

    fn put(&mut self, offset: usize, width: usize, bytes: &[u8]) {
        assert!(bytes.len() <= width, "{} bytes in a field of {width}", bytes.len());
        self.0[offset..offset + width].fill(0);
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn sealed(mut self) -> [u8; 512] {
        self.0[148..156].fill(b' ');
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

// ---------------------------------------------------------------- gzip

/// One gzip member.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Several members, cut where the pieces are cut: what pigz or `cat a.gz b.gz` writes.
pub fn gzip_members(pieces: &[&[u8]]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| gzip(piece)).collect()
}

/// A good stream whose checksum was flipped.
pub fn gzip_bad_crc(bytes: &[u8]) -> Vec<u8> {
    let mut stream = gzip(bytes);
    let crc = stream.len() - 8;
    stream[crc] ^= 0xff;
    stream
}

/// A good stream whose length field was flipped.
pub fn gzip_bad_length(bytes: &[u8]) -> Vec<u8> {
    let mut stream = gzip(bytes);
    let length = stream.len() - 4;
    stream[length] ^= 0xff;
    stream
}

/// All of the data and none of the eight bytes that prove it.
pub fn gzip_no_trailer(bytes: &[u8]) -> Vec<u8> {
    let mut stream = gzip(bytes);
    stream.truncate(stream.len() - 8);
    stream
}

pub fn gzip_trailing_junk(bytes: &[u8]) -> Vec<u8> {
    [gzip(bytes), b"junk after the stream".to_vec()].concat()
}

/// One member that inflates to `before`, `mib` MiB of zeros and `after`, made without ever
/// holding or deflating the zeros: one flushed block of them is repeated.
pub fn gzip_bomb(before: &[u8], mib: usize, after: &[u8]) -> Vec<u8> {
    // Once in each process: a debug build deflates slowly.
    static CHUNK: OnceLock<Vec<u8>> = OnceLock::new();
    let chunk = CHUNK.get_or_init(|| deflated(&vec![0; MIB], flate2::FlushCompress::Full));
    let mut stream = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    stream.extend(deflated(before, flate2::FlushCompress::Full));
    (0..mib).for_each(|_| stream.extend(chunk));
    stream.extend(deflated(after, flate2::FlushCompress::Finish));

    let mut crc = crc_of(before);
    append_zeros(&mut crc, mib);
    crc.combine(&crc_of(after));
    stream.extend(crc.sum().to_le_bytes());
    let length = before.len() + mib * MIB + after.len();
    stream.extend((length as u32).to_le_bytes());
    stream
}

const MIB: usize = 1 << 20;

/// Appends `mib` MiB of zeros by doubling what is appended.
fn append_zeros(crc: &mut flate2::Crc, mib: usize) {
    static ONE: OnceLock<flate2::Crc> = OnceLock::new();
    let mut zeros = flate2::Crc::new();
    zeros.combine(ONE.get_or_init(|| crc_of(&vec![0; MIB])));
    let mut left = mib;
    while left > 0 {
        if left & 1 == 1 {
            crc.combine(&zeros);
        }
        let mut twice = flate2::Crc::new();
        twice.combine(&zeros);
        twice.combine(&zeros);
        (zeros, left) = (twice, left >> 1);
    }
}

fn deflated(bytes: &[u8], flush: flate2::FlushCompress) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 1024);
    flate2::Compress::new(flate2::Compression::fast(), false).compress_vec(bytes, &mut out, flush).unwrap();
    out
}

fn crc_of(bytes: &[u8]) -> flate2::Crc {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc
}

/// The path as the shell and nodebake's own messages would need it.
pub fn text(path: impl AsRef<OsStr>) -> String {
    String::from_utf8(path.as_ref().as_bytes().to_vec()).unwrap()
}
