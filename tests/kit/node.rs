//! The kit of the tests with real parts: copies of the lab's roots, specs that pin its archives.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::NODEBAKE;
use super::command::{expect, run};
use super::lab::lab;

/// A copy of a real root, a spec for one generation beside it, and room for results.
pub struct Node {
    pub folder: Folder,
}

/// Beside the lab, and gone when it is dropped.
pub struct Folder {
    directory: TempDir,
    in_memory: bool,
}

impl Folder {
    /// On the lab's own filesystem: what is in it can be linked to the lab's files.
    pub fn on_disk() -> Folder {
        let mut builder = tempfile::Builder::new();
        let directory = builder.prefix("nodebake-node").tempdir_in(lab().parent().unwrap()).unwrap();
        Folder { directory, in_memory: false }
    }

    /// In memory where there is enough of it and it can be mounted: ext4 looks long for an inode where many
    /// files have just been deleted, so that half of the time went into copies of roots.
    pub fn in_memory() -> Folder {
        let mut folder = Folder::on_disk();
        let mounted = || mount(&["-t", "tmpfs", "-o", "mode=0700", "nodebake-node", text_of(folder.path())]);
        folder.in_memory = available_memory() > 6 << 30 && mounted();
        folder
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.in_memory {
            // Lazily: a guest that was killed may still hold it for a moment. A test that fails must not fail
            // twice.
            let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
        }
    }
}

fn mount(arguments: &[&str]) -> bool {
    Command::new("mount").args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Bytes.
fn available_memory() -> u64 {
    let all = fs::read_to_string("/proc/meminfo").unwrap();
    let line = all.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).map_or(0, |kib: u64| kib << 10)
}

fn text_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

impl Node {
    pub fn new(root: &str, generation: &str, extra: &str) -> Node {
        let node = Node { folder: Folder::in_memory() };
        run(
            "cp",
            &[
                "-a",
                "--reflink=auto",
                lab().join("roots").join(root).to_str().unwrap(),
                node.root().to_str().unwrap(),
            ],
        );
        node.write_spec(generation, extra);
        node
    }

    pub fn write_spec(&self, generation: &str, extra: &str) {
        fs::write(self.folder.path().join("nodebake.yaml"), spec(generation, extra)).unwrap();
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.root().join(inside.trim_start_matches('/'))
    }

    pub fn spec(&self) -> String {
        self.folder.path().join("nodebake.yaml").display().to_string()
    }

    /// Runs `nodebake COMMAND --root … [--spec …]`.
    pub fn nodebake(&self, command: &str, more: &[&str]) -> Output {
        let mut nodebake = Command::new(NODEBAKE);
        nodebake.args([command, "--root"]).arg(self.root()).args(more);
        if matches!(command, "apply" | "plan") {
            nodebake.args(["--spec", &self.spec()]);
        }
        nodebake.output().unwrap()
    }

    pub fn apply(&self) -> Output {
        expect(0, self.nodebake("apply", &[]))
    }
}

pub fn artifacts(generation: &str) -> PathBuf {
    lab().join("artifacts").join(generation)
}

pub fn versions(generation: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(artifacts(generation).join("versions.json")).unwrap()).unwrap()
}

/// A spec that pins the lab's artifacts of `generation` by their digests.
pub fn spec(generation: &str, extra: &str) -> String {
    let versions = versions(generation);
    let mut yaml = format!("source: {}\ncomponents:\n", artifacts(generation).display());
    for component in ["containerd", "runc", "cni-plugins"] {
        let pinned = &versions[component];
        writeln!(yaml, "  {component}: {{version: {}, sha256: {}}}", pinned["version"], pinned["sha256"])
            .unwrap();
    }
    yaml + extra
}
