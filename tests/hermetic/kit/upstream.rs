//! What upstream publishes, of any version: small artifacts under the real names, pinned in a lock.

use std::fmt::Write as _;
use std::fs;

use super::{Lab, Machine, Member, cni_members, containerd_members, elf, gzip, sha256, tar};

/// Every build that a spec can ask for: its version where the spec names none, and its URL below github.com.
const ARTIFACTS: [(&str, &str, &str); 6] = [
    ("containerd", "2.1.9", "containerd/containerd/releases/download/v{v}/containerd-{v}-linux-{a}.tar.gz"),
    (
        "containerd-static",
        "2.1.9",
        "containerd/containerd/releases/download/v{v}/containerd-static-{v}-linux-{a}.tar.gz",
    ),
    ("runc", "1.3.6", "opencontainers/runc/releases/download/v{v}/runc.{a}"),
    (
        "cni-plugins",
        "1.9.1",
        "containernetworking/plugins/releases/download/v{v}/cni-plugins-linux-{a}-v{v}.tgz",
    ),
    ("crictl", "1.34.0", "kubernetes-sigs/cri-tools/releases/download/v{v}/crictl-v{v}-linux-{a}.tar.gz"),
    ("nerdctl", "2.2.2", "containerd/nerdctl/releases/download/v{v}/nerdctl-{v}-linux-{a}.tar.gz"),
];

/// Makes the artifacts that `spec` may ask for and pins them in the lock. Those of other versions than
/// the laboratory's hold other bytes.
pub fn publish(lab: &Lab, spec: &str) {
    let text = fs::read_to_string(lab.dir.join(spec)).unwrap();
    // One that is no YAML is there to be refused.
    let spec: serde_yaml::Value = serde_yaml::from_str(&text).unwrap_or_default();
    let mut lock = "version: 1\nartifacts:\n".to_owned();
    for (name, usual, url) in ARTIFACTS {
        let component = &spec["components"][name];
        let wanted = if name == "containerd-static" && component.is_null() { "containerd" } else { name };
        let version = spec["components"][wanted]["version"].as_str().unwrap_or(usual);
        for (arch, machine) in [("amd64", Machine::X86_64), ("arm64", Machine::Aarch64)] {
            let url = format!("https://github.com/{}", url.replace("{v}", version).replace("{a}", arch));
            let same = version == usual && name != "containerd-static";
            let bytes =
                artifact(name, machine, &if same { String::new() } else { format!(" {name} {version}") });
            fs::write(lab.artifacts.join(url.rsplit('/').next().unwrap()), &bytes).unwrap();
            let (size, digest) = (bytes.len(), sha256(&bytes));
            writeln!(
                lock,
                "- {{component: {name}, version: {version}, arch: {arch}, url: '{url}', \
                 size: {size}, sha256: {digest}, verified: spec}}"
            )
            .unwrap();
        }
    }
    fs::write(lab.dir.join("nodebake.lock"), lock).unwrap();
}

/// What upstream publishes as `name`; `release` tells the bytes of two releases apart.
fn artifact(name: &str, machine: Machine, release: &str) -> Vec<u8> {
    let mut members = match name {
        "runc" => return elf(machine, format!("runc{release}").as_bytes()),
        "containerd" | "containerd-static" => containerd_members(),
        "cni-plugins" => cni_members(),
        only => vec![Member::plugin(only)],
    };
    for member in members.iter_mut().filter(|member| member.bytes.starts_with(b"\x7fELF")) {
        member.bytes = elf(machine, format!("{}{release}", member.name).as_bytes());
    }
    gzip(&tar(&members))
}
