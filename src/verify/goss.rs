//! Writes a goss file, with which image pipelines test a baked root: <https://goss.rocks/gossfile/>.
//!
//! This module must not check anything itself: `verify/mod.rs` does.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::artifact::{Artifact, Installed};
use crate::catalog;
use crate::error::{Failure, Kind};
use crate::format::package_version;
use crate::node::{Content, Node, Owner, Want};
use crate::path::ImagePath;
use crate::plan::{Plan, kernel};
use crate::root::{LONGEST_TEXT, Root};
use crate::runtime::{CNI_BIN, Facts, Runtime};
use crate::state;

/// Time that goss gives a command: emulated machines are slow.
const TIMEOUT_MS: u32 = 30_000;

/// Expected state of a baked root, from its receipt or from a plan.
pub(crate) struct Expected {
    /// Nodes at the owned paths.
    pub paths: BTreeMap<ImagePath, Node>,
    /// Artifacts that are installed.
    pub artifacts: Vec<Artifact>,
    /// Packages that are installed with containerd.
    pub packages: Vec<Installed>,
    /// Text of the sysctl file; empty without one.
    pub sysctl: String,
}

impl Expected {
    /// Returns the state in the receipt of `root`; [`Kind::Drift`] where the root has no receipt.
    pub(crate) fn of_root(root: &Root) -> Result<Expected, Failure> {
        let Some(receipt) = state::receipt(root)? else {
            let message =
                format!("root `{}` has no receipt: nodebake has not baked it", root.host().display());
            return Err(Failure::new(Kind::Drift, message).help("run `nodebake apply`, or give --spec"));
        };
        let owns_sysctl = receipt.paths.contains_key(kernel::SYSCTL);
        let sysctl =
            if owns_sysctl { root.text(&ImagePath::fixed(kernel::SYSCTL), LONGEST_TEXT)? } else { None };
        let paths = receipt.paths.into_iter().map(|(path, owned)| (path, owned.node)).collect();
        let (artifacts, packages) = (receipt.artifacts, receipt.packages);
        Ok(Expected { paths, artifacts, packages, sysctl: sysctl.unwrap_or_default() })
    }

    /// Returns the state that `plan` would make.
    pub(crate) fn of_plan(plan: &Plan) -> Expected {
        let paths = plan.entries.iter().map(|(path, entry)| (path.clone(), entry.want.node())).collect();
        let sysctl = match plan.entries.get(kernel::SYSCTL).map(|entry| &entry.want) {
            Some(Want::File { content: Content::Text(bytes), .. }) => {
                String::from_utf8_lossy(bytes).into_owned()
            }
            _ => String::new(),
        };
        let (artifacts, packages) = (plan.artifacts.clone(), plan.packages.clone());
        Expected { paths, artifacts, packages, sysctl }
    }
}

#[derive(Serialize)]
struct Gossfile {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    package: BTreeMap<String, GossPackage>,
    file: BTreeMap<String, File>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    service: BTreeMap<&'static str, GossService>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    command: BTreeMap<String, GossCommand>,
    #[serde(rename = "kernel-param", skip_serializing_if = "BTreeMap::is_empty")]
    kernel_param: BTreeMap<String, Parameter>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    exists: bool,
    filetype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    linked_to: Option<String>,
}

#[derive(Serialize)]
struct GossPackage {
    installed: bool,
    versions: Vec<String>,
}

#[derive(Serialize)]
struct GossService {
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<bool>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct GossCommand {
    exec: String,
    exit_status: u8,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stdout: Vec<String>,
    timeout: u32,
}

#[derive(Serialize)]
struct Parameter {
    value: String,
}

/// Returns the text of goss.yaml. With `live` it also has tests that pass only on a booted machine: the service runs,
/// the CRI is loaded and the kernel parameters are set.
pub(crate) fn gossfile(expected: &Expected, live: bool) -> Result<String, Failure> {
    let Expected { paths, packages, sysctl, .. } = expected;
    let has_unit = |facts: &&Facts| facts.unit.among(paths).is_some();
    let runtime = Runtime::ALL.into_iter().map(Runtime::facts).find(has_unit);
    let service = GossService { enabled: true, running: live.then_some(true) };
    let parameters = kernel::parameters(sysctl).filter(|(name, _)| live && !name.contains('*'));
    let text = serde_yaml::to_string(&Gossfile {
        file: paths.iter().map(|(path, node)| (path.to_string(), file(node))).collect(),
        package: packages.iter().map(expected_package).collect(),
        service: runtime.map(|facts| (facts.name, service)).into_iter().collect(),
        command: commands(expected, runtime.filter(|_| live)),
        kernel_param: parameters
            .map(|(name, value)| (name.to_owned(), Parameter { value: value.to_owned() }))
            .collect(),
    });
    let text = text.map_err(|error| Failure::new(Kind::Invalid, format!("writing YAML: {error}")))?;
    Ok(format!("# Written by nodebake; run it with `goss --gossfile FILE validate` in the image\n{text}"))
}

/// Returns the commands that goss runs: each program prints its version, and the runtime that is `running`
/// answers.
fn commands(expected: &Expected, running: Option<&Facts>) -> BTreeMap<String, GossCommand> {
    let Expected { paths, artifacts, packages, .. } = expected;
    let mut command: BTreeMap<String, GossCommand> =
        artifacts.iter().filter_map(|artifact| version(artifact, paths)).collect();
    if let Some((binary, brought, facts)) = packaged_daemon(paths) {
        let version = packages.iter().find(|package| package.name == brought).map(|package| &package.version);
        let said = version
            .and_then(|version| package_version::upstream(version))
            .map(version_pattern)
            .unwrap_or_default();
        let run = GossCommand::new(&format!("{binary} --version"), &[&said]);
        command.insert(format!("{} --version", facts.name), run);
    }
    let loopback = format!("{CNI_BIN}/loopback");
    if paths.contains_key(loopback.as_str()) {
        // Without CNI_COMMAND a plugin prints the protocol versions that it supports.
        command.insert("cni-plugins".to_owned(), GossCommand::new(&loopback, &[]));
    }
    for probe in running.iter().flat_map(|facts| facts.probes) {
        command.insert(probe.name.to_owned(), GossCommand::new(probe.command, &[probe.prints]));
    }
    command
}

/// Returns the daemon that a package has installed, and the package's name.
fn packaged_daemon(paths: &BTreeMap<ImagePath, Node>) -> Option<(&ImagePath, &str, &'static Facts)> {
    Runtime::ALL.into_iter().find_map(|runtime| {
        let (binary, package) = runtime.facts().binary.packaged_in(paths)?;
        Some((binary, package, runtime.facts()))
    })
}

fn file(node: &Node) -> File {
    let root = |owner: &Owner| (*owner == Owner::default()).then_some("root");
    match node {
        Node::Directory { mode, owner } => File {
            exists: true,
            filetype: "directory",
            mode: Some((*mode).into()),
            owner: root(owner),
            group: root(owner),
            ..File::default()
        },
        Node::File { mode, sha256, owner } => File {
            exists: true,
            filetype: "file",
            mode: Some((*mode).into()),
            owner: root(owner),
            group: root(owner),
            sha256: Some(sha256.to_string()),
            ..File::default()
        },
        Node::Link { target } => {
            File { exists: true, filetype: "symlink", linked_to: Some(target.clone()), ..File::default() }
        }
        Node::Present { .. } => File { exists: true, filetype: "file", ..File::default() },
        Node::Unread { .. } | Node::Other => File { exists: true, ..File::default() },
    }
}

fn expected_package(package: &Installed) -> (String, GossPackage) {
    (package.name.clone(), GossPackage { installed: true, versions: vec![package.version.clone()] })
}

/// Returns the test that the program of a component runs and prints the version that was installed.
fn version(artifact: &Artifact, paths: &BTreeMap<ImagePath, Node>) -> Option<(String, GossCommand)> {
    let component = artifact.component.as_str();
    let program = match Runtime::of_component(component) {
        Some(runtime) => runtime.facts().binary.own.to_owned(),
        None => catalog::components()
            .get(component)?
            .members
            .iter()
            .map(|rule| format!("{}/{component}", rule.directory()))
            .next()?,
    };
    paths.contains_key(program.as_str()).then(|| {
        let said = version_pattern(&artifact.version);
        (format!("{component} --version"), GossCommand::new(&format!("{program} --version"), &[&said]))
    })
}

/// Returns goss's pattern for `version` in a program's output: `v2.1.9` of upstream, `1.6.20~ds1` of Debian. Other
/// characters of a version have no meaning in a pattern.
fn version_pattern(version: &str) -> String {
    format!(r"/\bv?{}\b/", version.replace('.', r"\.").replace('+', r"\+"))
}

impl GossCommand {
    fn new(exec: &str, stdout: &[&str]) -> GossCommand {
        let stdout = stdout.iter().map(|&line| line.to_owned()).collect();
        GossCommand { exec: exec.to_owned(), exit_status: 0, stdout, timeout: TIMEOUT_MS }
    }
}
