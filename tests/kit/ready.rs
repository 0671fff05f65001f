//! What "the node is ready" means, claim by claim, as somebody inside a booted node sees it.
//!
//! The claims are read from systemd, the kernel and `ctr`, and only then from `nodebake verify`.

use super::guest::Report;

/// Steps whose output [`complaints`] reads. `$1` of the script is the number of the boot.
pub const PROOF: &str = r#"
t import ctr -n k8s.io --connect-timeout 5s images import /lab/images/pause.tar
t active systemctl is-active containerd
t enabled systemctl is-enabled containerd
t failed systemctl --failed --no-legend --plain
t sysctl sysctl -n net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables net.bridge.bridge-nf-call-ip6tables
t status systemctl status --no-pager containerd
t version ctr --connect-timeout 5s version

# The pod of `verify`, seen by others while it is there, until they have seen it: who goes on looking takes the
# time of an emulated machine from who removes the pod.
pod_was_seen() { grep -q 'inet 10\.88\.' /run/pod-seen && [[ $(sort -u /run/pod-seen | grep -c 'active running') -ge 2 ]]; }
pod() {
  nodebake verify --root / --live --pod & local verify=$!
  while kill -0 $verify && ! pod_was_seen; do
    # An emulated machine has no time for who looks before there is a container.
    compgen -G '/run/containerd/io.containerd.runtime.v2.task/k8s.io/*' >/dev/null || { sleep 0.1 && continue; }
    systemctl list-units --type=scope --no-legend --plain 'cri-containerd-*' >&3
    for process in $(ctr -n k8s.io --connect-timeout 1s tasks ls | awk '$3 == "RUNNING" {print $2}'); do
      cat /proc/$process/cgroup >&3
      nsenter --target $process --net ip -4 -oneline address show dev eth0 >&3
    done
  done 2>/dev/null
  wait $verify
}
# It lives for a second: a slow machine may look away.
for _ in 1 2 3; do
  t pod pod 3>/run/pod-seen
  ! pod_was_seen || break
done
t pod-seen sort -u /run/pod-seen
t left ctr -n k8s.io --connect-timeout 5s containers ls -q
"#;

/// Every claim that `report` does not bear out.
pub fn complaints(report: &Report) -> Vec<&'static str> {
    let seen = report.output("pod-seen");
    let scope = |line: &str| line.contains("cri-containerd-") && line.contains(".scope");
    let claims = [
        ("the pause image is there", report.code("import") == Some(0)),
        ("containerd is active", report.output("active") == "active"),
        ("containerd is enabled", report.output("enabled") == "enabled"),
        ("no unit has failed", report.code("failed") == Some(0) && report.output("failed").is_empty()),
        ("the parameters are in force", report.output("sysctl").split_whitespace().eq(["1"; 3])),
        ("systemctl status says so", report.output("status").contains("Active: active (running)")),
        ("ctr reaches the server", report.output("version").contains("Server:")),
        ("verify is content", report.code("pod") == Some(0)),
        ("systemd manages the pod's cgroups", {
            let active = seen.lines().filter(|line| scope(line) && line.contains("active running")).count();
            active >= 2
                && seen
                    .lines()
                    .any(|line| line.contains(":/") && scope(line) && line.contains("/system.slice/"))
        }),
        ("the pod has an address of the CNI plugins", seen.contains("inet 10.88.0.")),
        ("the pod is gone afterwards", report.code("left") == Some(0) && report.output("left").is_empty()),
    ];
    claims.into_iter().filter(|(_, holds)| !holds).map(|(claim, _)| claim).collect()
}
