//! A goss file for what was baked: the way in which golden images are judged by somebody else.
//!
//! <https://goss.rocks/gossfile/>. Nothing is checked here: `verify/mod.rs` does that.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::artifact::{Artifact, Installed};
use crate::catalog;
use crate::error::{Failure, Kind};
use crate::node::{Content, Node, Owner, Want};
use crate::packages::manager::version;
use crate::path::ImagePath;
use crate::plan::{Plan, kernel};
use crate::root::{LONGEST_TEXT, Root};
use crate::runtime::containerd::{self, unit};
use crate::state;

/// Commands get this long: emulated machines are slow.
const TIMEOUT_MS: u32 = 30_000;

/// What a baked root is expected to be.
pub(crate) struct Expected {
    /// Every owned path.
    pub paths: BTreeMap<ImagePath, Node>,
    /// What was installed.
    pub artifacts: Vec<Artifact>,
    /// By the package manager.
    pub packages: Vec<Installed>,
    /// The text of the sysctl file; empty without one.
    pub sysctl: String,
}

impl Expected {
    /// What the receipt of `root` says. Without one there is nothing to expect: [`Kind::Drift`].
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

    /// What a plan wants.
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

/// The text of goss.yaml. What only holds once the machine is up, that the service runs, the CRI is
/// there and the kernel's parameters are set, is asked for with `live`.
pub(crate) fn gossfile(expected: &Expected, live: bool) -> Result<String, Failure> {
    let Expected { paths, artifacts, packages, sysctl } = expected;
    let has_service = unit::unit_of(paths).is_some();
    let service = GossService { enabled: true, running: live.then_some(true) };
    let mut command: BTreeMap<String, GossCommand> =
        artifacts.iter().filter_map(|artifact| version(artifact, paths)).collect();
    if let Some((binary, brought)) = containerd::packaged(paths.iter()) {
        let version = packages.iter().find(|package| package.name == brought).map(|package| &package.version);
        let said = version.and_then(|version| version::upstream(version)).map(said).unwrap_or_default();
        let run = GossCommand::new(&format!("{binary} --version"), &[&said]);
        command.insert("containerd --version".to_owned(), run);
    }
    if paths.contains_key("/opt/cni/bin/loopback") {
        // Without a command it says which protocol it speaks.
        command.insert("cni-plugins".to_owned(), GossCommand::new("/opt/cni/bin/loopback", &[]));
    }
    if live && has_service {
        let answers = ["/Server:/"].as_slice();
        command.insert(
            "containerd answers".to_owned(),
            GossCommand::new("ctr --connect-timeout 10s version", answers),
        );
        let loaded = [r"/io\.containerd\.grpc\.v1\s+cri\s.*\sok/"].as_slice();
        command.insert(
            "the CRI is loaded".to_owned(),
            GossCommand::new("ctr --connect-timeout 10s plugins ls", loaded),
        );
    }
    let parameters = kernel::parameters(sysctl).filter(|(name, _)| live && !name.contains('*'));
    let text = serde_yaml::to_string(&Gossfile {
        file: paths.iter().map(|(path, node)| (path.to_string(), file(node))).collect(),
        package: packages.iter().map(expected_package).collect(),
        service: has_service.then_some(("containerd", service)).into_iter().collect(),
        command,
        kernel_param: parameters
            .map(|(name, value)| (name.to_owned(), Parameter { value: value.to_owned() }))
            .collect(),
    });
    let text = text.map_err(|error| Failure::new(Kind::Invalid, format!("writing YAML: {error}")))?;
    Ok(format!("# Written by nodebake; run it with `goss --gossfile FILE validate` in the image\n{text}"))
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
        Node::Other => File { exists: true, ..File::default() },
    }
}

fn expected_package(package: &Installed) -> (String, GossPackage) {
    (package.name.clone(), GossPackage { installed: true, versions: vec![package.version.clone()] })
}

/// The program of a component runs and is of the version that was installed.
fn version(artifact: &Artifact, paths: &BTreeMap<ImagePath, Node>) -> Option<(String, GossCommand)> {
    let component = artifact.component.as_str();
    let program = match component {
        "containerd" => containerd::BINARY.to_owned(),
        _ => catalog::components()
            .get(component)?
            .members
            .iter()
            .map(|rule| format!("{}/{component}", rule.directory()))
            .next()?,
    };
    paths.contains_key(program.as_str()).then(|| {
        let said = said(&artifact.version);
        (format!("{component} --version"), GossCommand::new(&format!("{program} --version"), &[&said]))
    })
}

/// `containerd … v2.1.9 …` of upstream, `1.6.20~ds1` of Debian; a version's other characters are plain.
fn said(version: &str) -> String {
    format!(r"/\bv?{}\b/", version.replace('.', r"\.").replace('+', r"\+"))
}

impl GossCommand {
    fn new(exec: &str, stdout: &[&str]) -> GossCommand {
        let stdout = stdout.iter().map(|&line| line.to_owned()).collect();
        GossCommand { exec: exec.to_owned(), exit_status: 0, stdout, timeout: TIMEOUT_MS }
    }
}
