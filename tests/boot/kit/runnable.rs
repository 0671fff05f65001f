//! Nodes whose containerd runs: on this kernel, or once they are booted.

use std::fs;
use std::process::Command;

use crate::kit::command::{expect, run, text};
use crate::kit::lab::repository;
use crate::kit::node::{Node, artifacts, versions};

impl Node {
    /// [`Node::new`] with a runc that runs on `root`: bookworm's glibc is too old for the others.
    pub fn bootable(root: &str, generation: &'static str, extra: &str) -> Node {
        let node = Node::new(root, generation, extra);
        if root.starts_with("bookworm") {
            let source = node.folder.path().join("artifacts");
            run("cp", &["-rs", artifacts(generation).to_str().unwrap(), source.to_str().unwrap()]);
            let runc = artifacts("runc-bookworm").join("runc.amd64");
            run("ln", &["-sf", runc.to_str().unwrap(), source.to_str().unwrap()]);
            let pin = |generation: &str| {
                let pinned = &versions(generation)["runc"];
                format!("{{version: {}, sha256: {}}}", pinned["version"], pinned["sha256"])
            };
            let spec = fs::read_to_string(node.spec()).unwrap();
            let spec = spec.replace(artifacts(generation).to_str().unwrap(), source.to_str().unwrap());
            fs::write(node.spec(), spec.replace(&pin(generation), &pin("runc-bookworm"))).unwrap();
        }
        node
    }

    /// Runs a command on the node: its own containerd is up, /lab is the lab.
    pub fn on_node(&self, script: &str) -> String {
        let lab_node = repository().join("tests/lab/node");
        let out = self.folder.path().join("out");
        let command =
            [self.root().to_str().unwrap(), out.to_str().unwrap(), "bash", "-ec", script].map(str::to_owned);
        text(expect(0, Command::new(lab_node).args(command).output().unwrap()))
    }

    /// What the staged containerd makes of the baked configuration.
    pub fn effective_config(&self) -> toml_edit::DocumentMut {
        let dump = Command::new("chroot")
            .arg(self.root())
            .args(["/usr/local/bin/containerd", "--config", "/etc/containerd/config.toml", "config", "dump"])
            .output()
            .unwrap();
        text(expect(0, dump)).parse().unwrap()
    }
}

pub fn version(generation: &str, component: &str) -> String {
    versions(generation)[component]["version"].as_str().unwrap().to_owned()
}
