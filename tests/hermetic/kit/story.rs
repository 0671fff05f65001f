//! Stories of crashes: a command on prepared roots, the trees that it makes when nothing disturbs it,
//! and what must hold of the roots after it was disturbed.
//!
//! All of it is judged from outside: trees, exit codes and messages. How a run is disturbed is the
//! business of the tests.

// Every test binary compiles its own copy and uses a part of it.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::kit::{
    self, CONTAINERD, Component, Lab, Machine, Member, NODEBAKE, Run, elf, gzip, run, sha256, tar,
};

const STATE: &str = "var/lib/nodebake";
const EDITED: &[u8] = b"# edited\n";

/// A command on prepared roots, and the trees that it makes when nothing disturbs it.
pub struct Story {
    pub name: &'static str,
    pub verb: &'static str,
    pub lab: Lab,
    roots: Vec<Rooted>,
    scratch: TempDir,
}

/// One root of a story: its name below the directory that a run works in, and its trees.
struct Rooted {
    name: &'static str,
    pristine: Tree,
    before: Tree,
    after: Tree,
}

/// A root's name, and what is done to it before the story begins.
type Prepared = (&'static str, fn(&Path));

/// Bakes v1 into a fresh root, upgrades one from v1 to v2, removes v1 from one, and does the first
/// two at once in three roots.
pub fn stories() -> Vec<Story> {
    vec![
        Story::new("fresh bake", "apply", version_one(), &[("root", |_| {})]),
        Story::new("upgrade", "apply", version_two(), &[("root", with_version_one)]),
        Story::new("remove", "remove", version_one(), &[("root", |root| bake(&version_one(), root))]),
        Story::new(
            "several roots",
            "apply",
            version_two(),
            &[("fresh", |_| {}), ("older", with_version_one), ("same", |root| bake(&version_two(), root))],
        ),
    ]
}

/// The fresh bake alone.
pub fn fresh_bake() -> Story {
    Story::new("fresh bake", "apply", version_one(), &[("root", |_| {})])
}

/// Baked with v1 and edited since, so that an upgrade has something to keep.
fn with_version_one(root: &Path) {
    bake(&version_one(), root);
    kit::write(&root.join("etc/containerd/certs.d/docker.io/hosts.toml"), EDITED);
}

pub fn bake(lab: &Lab, root: &Path) {
    lab.run(["apply"], root).exits(0);
}

impl Story {
    fn new(name: &'static str, verb: &'static str, lab: Lab, roots: &[Prepared]) -> Story {
        // Thousands of small trees: in memory where there is some.
        let memory = Path::new("/dev/shm");
        let scratch =
            tempfile::tempdir_in(if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() })
                .unwrap();
        fs::create_dir(scratch.path().join("template")).unwrap();
        let mut story = Story { name, verb, lab, roots: Vec::new(), scratch };
        for (name, prepare) in roots {
            let template = story.template().join(name);
            kit::copy(&story.lab.root, &template);
            // The user's own, so that there is something to put back.
            kit::write(&template.join("etc/containerd/config.toml"), b"# the user's own\n");
            kit::mode(&template.join("etc/containerd/config.toml"), 0o640);
            let pristine = Tree::of(&template);
            prepare(&template);
            let before = Tree::of(&template);
            story.roots.push(Rooted { name, pristine, before, after: Tree::default() });
        }
        let work = story.copy();
        story.call(&mut story.lab.command([]), work.path()).exits(0);
        for root in &mut story.roots {
            root.after = Tree::of(&work.path().join(root.name));
        }
        assert!(story.roots.iter().any(|root| root.before != root.after), "{name} does nothing");
        story
    }

    /// The directory that holds the prepared roots.
    pub fn template(&self) -> PathBuf {
        self.scratch.path().join("template")
    }

    /// An empty directory to work in, gone when it is dropped.
    pub fn room(&self) -> TempDir {
        tempfile::tempdir_in(&self.scratch).unwrap()
    }

    /// Fresh copies of the roots, alone in a directory.
    pub fn copy(&self) -> TempDir {
        let work = self.room();
        for root in &self.roots {
            kit::copy(&self.template().join(root.name), &work.path().join(root.name));
        }
        work
    }

    /// The arguments of the story's command on the roots in `work`.
    pub fn arguments(&self, verb: &str, work: &Path) -> Vec<String> {
        let mut arguments = vec![verb.to_owned()];
        for root in &self.roots {
            arguments.extend(["--root".to_owned(), kit::text(work.join(root.name))]);
        }
        if verb == "apply" {
            arguments.extend(["--spec".to_owned(), kit::text(&self.lab.spec)]);
        }
        arguments
    }

    /// Runs the story's command on the roots in `work`; `command` ends in the binary.
    pub fn call(&self, command: &mut Command, work: &Path) -> Run {
        run(command.args(self.arguments(self.verb, work)))
    }

    /// The most calls that any one thread of an undisturbed run makes: strace counts for each thread.
    pub fn count_calls(&self) -> BTreeMap<String, usize> {
        let (work, logs) = (self.copy(), self.room());
        let log = logs.path().join("trace");
        let mut command = self.lab.wrapped(kit::strace_to(&log, []));
        self.call(command.arg(NODEBAKE), work.path()).exits(0);
        let mut by_thread: BTreeMap<(String, String), usize> = BTreeMap::new();
        for line in fs::read_to_string(&log).unwrap().lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            if let Some((call, _)) = rest.trim_start().split_once('(') {
                *by_thread.entry((thread.to_owned(), call.to_owned())).or_default() += 1;
            }
        }
        let mut most = BTreeMap::new();
        for ((_, call), count) in by_thread {
            let entry = most.entry(call).or_default();
            *entry = count.max(*entry);
        }
        most
    }

    /// Whether `remove` can follow: it takes one root.
    pub fn can_be_removed(&self) -> bool {
        self.verb == "apply" && self.roots.len() == 1
    }

    /// Whether no root in `work` has changed.
    pub fn is_untouched(&self, work: &Path) -> bool {
        self.roots.iter().all(|root| Tree::of(&work.join(root.name)) == root.before)
    }

    /// Whether every root in `work` is as the story makes it.
    pub fn is_complete(&self, work: &Path) -> bool {
        self.roots.iter().all(|root| Tree::of(&work.join(root.name)) == root.after)
    }

    /// What is wrong with the roots in `work` after a run that ended with `code`, none being a kill.
    ///
    /// `torn`: it was killed, or could not clean up.
    pub fn judge(&self, work: &Path, code: Option<i32>, torn: bool) -> Vec<String> {
        let judged = self.roots.iter().flat_map(|root| root.judge(&work.join(root.name), code, torn));
        let mut wrong: Vec<String> = judged.collect();
        let names: BTreeSet<_> = self.roots.iter().map(|root| root.name.to_owned()).collect();
        let found = fs::read_dir(work).unwrap().map(|entry| entry.unwrap().file_name());
        let beside: Vec<_> = found.map(kit::text).filter(|name| !names.contains(name)).collect();
        if !beside.is_empty() {
            wrong.push(format!("wrote beside the root: {beside:?}"));
        }
        wrong
    }

    /// After an undisturbed run of the same command (or of `remove`), the trees are those of an undisturbed story.
    pub fn converge(&self, work: &Path, change_of_mind: bool) -> Vec<String> {
        let verb = if change_of_mind { "remove" } else { self.verb };
        let again = run(self.lab.command([]).args(self.arguments(verb, work)));
        if again.code != Some(0) {
            return vec![format!("the next {verb} fails:\n{again}")];
        }
        self.judge_converged(work, change_of_mind)
    }

    /// What is wrong with the roots in `work` after that run.
    pub fn judge_converged(&self, work: &Path, change_of_mind: bool) -> Vec<String> {
        let judged = self.roots.iter().flat_map(|root| {
            let expected = if change_of_mind { &root.pristine } else { &root.after };
            let now = Tree::of(&work.join(root.name));
            // What the user edited is kept by `remove`, wherever it was when the run was killed.
            let edits_kept = change_of_mind && now.0.iter().any(|(_, what)| what.contains(&sha256(EDITED)));
            let equal = now == *expected || edits_kept && now.without_edits() == expected.without_edits();
            (!equal).then(|| format!("the next run ends elsewhere: {}", now.differences(expected)))
        });
        judged.collect()
    }
}

impl Rooted {
    fn judge(&self, root: &Path, code: Option<i32>, torn: bool) -> Vec<String> {
        let now = Tree::of(root);
        let pending = fs::read_to_string(root.join(STATE).join("pending.json")).ok();
        let mut wrong = self.judge_paths(&now, torn, pending.as_deref());
        if code == Some(0) && now != self.after {
            wrong.push(format!("exit 0, but {}", now.differences(&self.after)));
        }
        let nothing_done = !now
            .0
            .iter()
            .any(|(path, what)| is_content(path, what) && self.before.0.get(path) != Some(what))
            && self.before.0.iter().all(|(path, what)| !is_content(path, what) || now.0.contains_key(path));
        if !torn && code != Some(0) && nothing_done && now != self.before && now != self.after {
            wrong.push(format!("failed before anything was renamed, but {}", now.differences(&self.before)));
        }
        wrong.extend(judge_enablement(root));
        if pending.is_none() {
            wrong.extend(judge_receipt(root));
        }
        wrong
    }

    /// Each path is as before or as after; temporary names only after a kill, and then the intent has them.
    fn judge_paths(&self, now: &Tree, torn: bool, pending: Option<&str>) -> Vec<String> {
        let mut wrong = Vec::new();
        let all: BTreeSet<&String> =
            now.0.keys().chain(self.before.0.keys()).chain(self.after.0.keys()).collect();
        for path in all {
            let (old, new, is) = (self.before.0.get(path), self.after.0.get(path), now.0.get(path));
            let name = path.rsplit('/').next().unwrap_or_default();
            let temporary = name.starts_with(".nodebake-");
            if is.is_some() && temporary && !torn {
                wrong.push(format!("left `{path}`"));
            } else if is.is_some() && temporary && name.ends_with(".tmp") {
                if !pending.is_some_and(|text| text.contains(path.as_str())) {
                    wrong.push(format!("left `{path}`, which no intent names"));
                }
            } else if is != old && is != new && !is_state(path) {
                // Created and not yet given its mode: the next run does, if the intent tells it of the directory.
                let unfinished = torn && old.is_none() && is.is_some_and(|what| what.starts_with('d'));
                if unfinished && pending.is_some_and(|text| text.contains(&format!("\"/{path}\""))) {
                    continue;
                }
                wrong.push(format!("`{path}` is neither old nor new: {is:?}, was {old:?}, becomes {new:?}"));
            }
        }
        wrong
    }
}

/// One complaint of each kind, with their number.
pub fn summary(complaints: &[String]) -> String {
    let mut kinds: BTreeMap<String, Vec<&String>> = BTreeMap::new();
    for complaint in complaints {
        let first = complaint.lines().next().unwrap_or_default();
        let kind: String = first.chars().filter(|c| !c.is_ascii_digit()).take(100).collect();
        kinds.entry(kind).or_default().push(complaint);
    }
    kinds.values().map(|alike| format!("{} x {}\n", alike.len(), alike[0])).collect()
}

/// A file or a link of the image, not of nodebake's own state: what an upgrade is about.
fn is_content(path: &str, what: &str) -> bool {
    !what.starts_with('d') && !is_state(path) && !path.contains("/.nodebake-")
}

fn is_state(path: &str) -> bool {
    path == STATE || path.starts_with("var/lib/nodebake/") || path.starts_with("var/lib/.nodebake-state")
}

/// The service is never enabled without its unit and its binary.
fn judge_enablement(root: &Path) -> Vec<String> {
    let there = |path: &str| root.join(path).symlink_metadata().is_ok();
    let enabled = there("etc/systemd/system/multi-user.target.wants/containerd.service");
    let startable =
        there("usr/local/lib/systemd/system/containerd.service") && there("usr/local/bin/containerd");
    if enabled && !startable { vec!["enabled without its unit or its binary".to_owned()] } else { Vec::new() }
}

/// Without an intent the receipt claims nothing that is not there.
fn judge_receipt(root: &Path) -> Vec<String> {
    let Ok(text) = fs::read_to_string(root.join(STATE).join("receipt.json")) else { return Vec::new() };
    let Ok(receipt) = serde_json::from_str::<Value>(&text) else {
        return vec!["the receipt is torn".to_owned()];
    };
    let mut wrong = Vec::new();
    for (path, claim) in receipt["paths"].as_object().unwrap() {
        let host = root.join(path.trim_start_matches('/'));
        let holds = match claim["type"].as_str().unwrap() {
            "file" => fs::read(&host).is_ok_and(|bytes| claim["sha256"].as_str() == Some(&sha256(&bytes))),
            "link" => fs::read_link(&host).is_ok_and(|target| claim["target"].as_str() == target.to_str()),
            _ => host.is_dir(),
        };
        if !holds && !fs::read(&host).is_ok_and(|bytes| bytes == EDITED) {
            wrong.push(format!("the receipt claims `{path}` and there is no intent"));
        }
    }
    wrong
}

/// Path to what is there: type, mode, owner, content, and the time of a file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tree(BTreeMap<String, String>);

impl Tree {
    pub fn of(root: &Path) -> Tree {
        let mut tree = BTreeMap::new();
        for line in kit::tree(root).lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let path = words[2];
            let meta = root.join(path).symlink_metadata().unwrap();
            let time = if meta.is_file() { meta.mtime() } else { 0 };
            tree.insert(
                path.to_owned(),
                format!("{} {} {} at {time}", words[0], words[1], words[3..].join(" ")),
            );
        }
        // Held open by the lock while it is there; its content is nothing.
        tree.remove("var/lib/nodebake/.lock");
        Tree(tree)
    }

    pub fn differences(&self, expected: &Tree) -> String {
        let lines = |from: &Tree, other: &Tree, sign: char| {
            let differing = from.0.iter().filter(|(path, what)| other.0.get(*path) != Some(*what));
            differing.map(|(path, what)| format!("\n  {sign} {path} {what}")).collect::<String>()
        };
        format!("the tree differs:{}{}", lines(self, expected, '+'), lines(expected, self, '-'))
    }

    /// Without the user's edit, its copy and the directories that hold nothing else.
    fn without_edits(&self) -> Tree {
        let edit = |path: &String, what: &String| {
            what.contains(&sha256(EDITED)) || is_state(path) || path.starts_with("etc/containerd/certs.d")
        };
        let rest = self.0.iter().filter(|(path, what)| !edit(path, what));
        Tree(rest.map(|(path, what)| (path.clone(), what.clone())).collect())
    }
}

/// containerd with one program more than the next version has, and two registries.
pub fn version_one() -> Lab {
    let mut lab = Lab::new();
    let mut members = kit::containerd_members();
    members.push(Member::plugin("bin/containerd-stress"));
    lab.ship(CONTAINERD, &gzip(&tar(&members)));
    lab.spec_also(
        "containerd: {proxy: {http: \"http://proxy:3128\"}}\n\
         registries:\n  docker.io: {mirrors: [{url: \"https://one.corp\"}]}\n  quay.io: {mirrors: [{url: \"https://one.corp\"}]}\n",
    );
    lab
}

/// Other bytes everywhere, one program, one registry and one drop-in less, one registry more.
pub fn version_two() -> Lab {
    let mut lab = Lab::new();
    let names = ["bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr"];
    let program = |name: &&str| {
        Member::file(name, 0o755, &elf(Machine::X86_64, format!("{name}, the next").as_bytes()))
    };
    let members: Vec<Member> = names.iter().map(program).collect();
    let next = Component { version: "2.2.0", file: "containerd-2.2.0-linux-amd64.tar.gz", ..CONTAINERD };
    lab.ship(next, &gzip(&tar(&members)));
    lab.spec_also(
        "containerd: {limit_nofile: infinity}\n\
         registries:\n  docker.io: {mirrors: [{url: \"https://two.corp\"}]}\n  ghcr.io: {mirrors: [{url: \"https://two.corp\"}]}\n",
    );
    lab
}
