//! Boots a baked root, in a container on this kernel or in a virtual machine with its own, and
//! reads what was seen inside: the guest prints, the test judges.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::lab::{repository, static_binary};
use super::node::Node;

/// Where a root is booted: the program of tests/lab that does it, and how the guest reaches this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    pub program: &'static str,
    /// The option that gives the guest a network with nothing but this machine.
    pub network: &'static str,
    /// The registry as the guest sees it.
    pub registry: &'static str,
}

impl Layer {
    /// systemd-nspawn: seconds; this machine's kernel.
    pub const CONTAINER: Layer =
        Layer { program: "nspawn", network: "--keep-net", registry: "http://127.0.0.1:15080" };
}

/// What every guest script starts with: `t NAME COMMAND…` prints what a command says and its code.
const PRELUDE: &str = r#"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
t() {
  local name=$1 code=0
  shift
  printf '\n<<< %s\n' "$name"
  "$@" 2>&1 </dev/null || code=$?
  printf '\n>>> %s %s\n' "$name" "$code"
}
"#;

/// What a guest printed.
pub struct Report {
    text: String,
    seen: BTreeMap<String, (i32, String)>,
}

impl Report {
    fn parse(text: String) -> Report {
        let mut seen = BTreeMap::new();
        let mut current: Option<(String, String)> = None;
        // A serial line ends with CR LF.
        for line in text.lines().map(|line| line.trim_end_matches('\r')) {
            if let Some(name) = line.strip_prefix("<<< ") {
                current = Some((name.to_owned(), String::new()));
            } else if let (Some((name, code)), Some((_, output))) =
                (line.strip_prefix(">>> ").and_then(|end| end.rsplit_once(' ')), &current)
            {
                seen.insert(name.to_owned(), (code.parse().unwrap_or(-1), output.trim().to_owned()));
                current = None;
            } else if let Some((_, output)) = &mut current {
                output.push_str(line);
                output.push('\n');
            }
        }
        Report { text, seen }
    }

    /// The exit code of a step; none where the guest did not get there.
    pub fn code(&self, step: &str) -> Option<i32> {
        self.seen.get(step).map(|(code, _)| *code)
    }

    /// What a step printed.
    pub fn output(&self, step: &str) -> &str {
        self.seen.get(step).map(|(_, output)| output.as_str()).unwrap_or_default()
    }

    /// The step ended with `code`.
    #[track_caller]
    pub fn expect(&self, step: &str, code: i32) -> &str {
        assert_eq!(self.code(step), Some(code), "`{step}` in\n{self}");
        self.output(step)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Puts nodebake itself into a root, as an image that runs it at its first boot has it.
pub fn carry_nodebake(node: &Node) {
    fs::copy(static_binary("x86_64-unknown-linux-musl"), node.path("/usr/local/bin/nodebake")).unwrap();
}

/// The CNI configuration that a node gets from its CNI add-on.
pub fn carry_cni_configuration(node: &Node) {
    fs::create_dir_all(node.path("/etc/cni/net.d")).unwrap();
    fs::write(node.path("/etc/cni/net.d/10-lab.conflist"), CNI).unwrap();
}

const CNI: &str = r#"{"cniVersion": "1.0.0", "name": "lab", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
"#;

/// Boots the node's root and runs `script` in it. `options` go to tests/lab/nspawn or tests/lab/qemu;
/// `around` stands before it, such as a registry in the same network.
pub fn boot(node: &Node, layer: Layer, around: &[&str], options: &[&str], script: &str) -> Vec<Report> {
    let program = repository().join("tests/lab").join(layer.program);
    let mut words: Vec<&str> = around.to_vec();
    words.push(program.to_str().unwrap());
    words.extend(options);
    run_in_guest(&words, &node.root(), node.folder.path(), script)
}

/// [`boot`] in a network with nothing but a registry that has docker.io's nginx:alpine, at
/// [`Layer::registry`]; also gives what the registry was asked.
pub fn boot_beside_registry(node: &Node, layer: Layer, script: &str) -> (Report, String) {
    let registry = repository().join("tests/lab/registry");
    let folder = node.folder.path().join("registry");
    let (registry, folder) = (registry.to_str().unwrap(), folder.to_str().unwrap());
    let around = ["unshare", "--net", registry, folder, "--port", "15080", "--"];
    let report = boot(node, layer, &around, &[layer.network], script).remove(0);
    (report, fs::read_to_string(format!("{folder}/access.log")).unwrap())
}

/// A spec's mirror for everything.
pub fn mirror(layer: Layer) -> String {
    format!("registries: {{_default: {{mirrors: [{{url: '{}'}}]}}}}\n", layer.registry)
}

/// The pulls of the tutorial: by hand, and as a pod's.
pub const PULLS: &str = "
t pull-ctr ctr -n k8s.io images pull --hosts-dir /etc/containerd/certs.d docker.io/library/nginx:alpine
t pull-cri nodebake verify --root / --pull docker.io/library/nginx:alpine
t pull-ctr-without ctr -n k8s.io images pull docker.io/library/nginx:alpine
";

/// Both pulls reached the registry, and only because they were told of it.
#[track_caller]
pub fn assert_pulled(layer: Layer, report: &Report, requests: &str) {
    report.expect("pull-ctr", 0);
    let served = format!("served by the mirror {}", layer.registry);
    assert!(report.expect("pull-cri", 0).contains(&served), "{report}");
    assert_ne!(report.code("pull-ctr-without"), Some(0), "ctr reads no config_path\n{report}");
    // `ctr` and the CRI each ask for themselves.
    let asked = |line: &&str| line.contains("/v2/library/nginx/manifests/alpine?ns=docker.io");
    assert!(requests.lines().filter(asked).count() >= 2, "{requests}");
}

pub fn run_in_guest(words: &[&str], system: &Path, folder: &Path, script: &str) -> Vec<Report> {
    let file = folder.join("script");
    fs::write(&file, format!("{PRELUDE}{script}")).unwrap();
    let out = folder.join("out");
    let output = Command::new(words[0]).args(&words[1..]).arg(system).arg(&out).arg(&file).output().unwrap();
    let reports = reports(&out);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{said}\n{}",
        reports.iter().map(Report::to_string).collect::<String>()
    );
    reports
}

fn reports(out: &Path) -> Vec<Report> {
    let read = |name: &str| fs::read(out.join(name)).ok();
    let numbered = (1..).map_while(|boot| read(&format!("result.{boot}")));
    let all: Vec<Vec<u8>> = read("result").into_iter().chain(numbered).collect();
    all.into_iter().map(|bytes| Report::parse(String::from_utf8_lossy(&bytes).into_owned())).collect()
}
