//! Pulls an image through the CRI and finds out which host served it, from containerd's TCP connections.
//!
//! Neither the CRI nor containerd's log says where an image came from, and containerd bypasses a mirror without a
//! message. It keeps its connections open for a while after a pull, so the kernel can list them. Other pulls at the
//! same time can't be told apart. This module must not change containerd's configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::error::Failure;
use crate::interrupt;
use crate::live::cri::Cri;
use crate::path::ImagePath;
use crate::redacted::redacted;
use crate::root::{LONGEST_TEXT, Root};
use crate::runtime::{Host, Runtime, Settings};
use crate::verify::finding::{CheckResult, Finding};

/// Time for the pull: large images on slow lines take minutes, and the kubelet has no limit at all.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Pulls `image`. A pull from upstream is a finding, though it succeeds, where a mirror should have served it.
pub(super) fn check(
    cri: &mut Cri,
    root: &Root,
    runtime: Runtime,
    settings: &Settings,
    process: Option<u32>,
    image: &str,
) -> Result<CheckResult, Failure> {
    let candidates = candidates(root, runtime, settings, image)?;
    let before = process.map(connections).unwrap_or_default();
    let mut peers = BTreeMap::new();
    let mut look = || {
        let now = process.map(connections).unwrap_or_default();
        peers.extend(now.into_iter().filter(|(socket, _)| !before.contains_key(socket)));
    };
    let pulled = cri.pull(image, TIMEOUT, &mut look);
    look();
    interrupt::check()?;
    let spoken: BTreeSet<SocketAddr> = peers.into_values().collect();
    Ok(match pulled {
        Ok(reference) => judge(&format!("{image} is {reference}"), &candidates, &spoken, addresses),
        Err(why) => {
            let tried: Vec<&str> = candidates.iter().map(|candidate| candidate.url.as_str()).collect();
            let problem = format!("{image}: {why}; asked in this order: {}", tried.join(", "));
            let help = "see whether the mirror answers and has the image, and journalctl -u containerd";
            CheckResult::Found(vec![Finding::new("pull", None, problem, help)])
        }
    })
}

/// Returns the hosts that containerd asks for `image`, in order.
fn candidates(root: &Root, runtime: Runtime, settings: &Settings, image: &str) -> Result<Vec<Host>, Failure> {
    let mut text = None;
    if let Some(directory) = settings.registry_config_path.as_deref().filter(|path| !path.is_empty()) {
        for name in runtime.registry_directories(image) {
            // containerd uses the first directory that exists, also without a hosts.toml.
            let Ok(directory) = ImagePath::new(directory).and_then(|directory| directory.join(&name)) else {
                continue;
            };
            if root.is_directory(&directory)? {
                text = root.text(&directory.join(runtime.facts().registry_file)?, LONGEST_TEXT)?;
                break;
            }
        }
    }
    Ok(runtime.hosts_asked(image, text.as_deref()))
}

/// Returns the result of a pull during which containerd had connections to `peers`. The names of mirrors are resolved
/// before upstream's, which a closed network may not know.
fn judge(
    pulled: &str,
    candidates: &[Host],
    peers: &BTreeSet<SocketAddr>,
    addresses: impl Fn(&Host) -> Vec<SocketAddr>,
) -> CheckResult {
    if peers.is_empty() {
        return CheckResult::Passed(format!("{pulled}; which host served it could not be seen"));
    }
    let (mirrors, upstreams): (Vec<_>, Vec<_>) = candidates.iter().partition(|candidate| candidate.is_mirror);
    let mut unexplained = peers.clone();
    let through = asked(&mirrors, &mut unexplained, &addresses);
    let past = asked(&upstreams, &mut unexplained, &addresses);
    let tags_too = mirrors.iter().any(|mirror| mirror.resolves);
    let others = unexplained.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
    let rest = match others.as_str() {
        "" => String::new(),
        others => {
            format!("; containerd also spoke to {others}: a proxy, a blob store or another address of a host")
        }
    };
    match (through.last(), past.last()) {
        (_, Some(upstream)) if tags_too => {
            let problem = format!("{pulled}: {upstream} was asked, past the mirrors{rest}");
            let help =
                "journalctl -u containerd says why a mirror was passed over; `strict: true` forbids it";
            CheckResult::Found(vec![Finding::new("pull", None, problem, help)])
        }
        (Some(mirror), _) => CheckResult::Passed(format!("{pulled}, served by the mirror {mirror}{rest}")),
        (None, Some(upstream)) => CheckResult::Passed(format!("{pulled}, served by {upstream}{rest}")),
        (None, None) => CheckResult::Passed(format!("{pulled}{rest}")),
    }
}

/// Returns those of `hosts` that have the address of a peer, and removes these peers from `unexplained`.
fn asked(
    hosts: &[&Host],
    unexplained: &mut BTreeSet<SocketAddr>,
    addresses: &impl Fn(&Host) -> Vec<SocketAddr>,
) -> Vec<String> {
    let peers = unexplained.clone();
    let mut names = Vec::new();
    // Names are resolved only while a peer is unexplained.
    for host in hosts.iter().filter(|_| !peers.is_empty()) {
        let known = addresses(host);
        unexplained.retain(|peer| !known.contains(peer));
        if known.iter().any(|peer| peers.contains(peer)) {
            names.push(redacted(&host.url));
        }
    }
    names
}

/// Resolves the host of a candidate's URL.
fn addresses(candidate: &Host) -> Vec<SocketAddr> {
    let Ok(url) = reqwest::Url::parse(&candidate.url) else { return Vec::new() };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return Vec::new() };
    (host.trim_matches(['[', ']']), port).to_socket_addrs().into_iter().flatten().collect()
}

/// Returns the TCP peers of a process by the inode of the socket.
fn connections(process: u32) -> BTreeMap<u64, SocketAddr> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let sockets: BTreeSet<u64> = descriptors
        .filter_map(|descriptor| {
            let target = fs::read_link(descriptor.path()).ok()?;
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect();
    let tables = ["tcp", "tcp6"]
        .map(|table| fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default());
    tables
        .iter()
        .flat_map(|table| table.lines().skip(1))
        .filter_map(peer)
        .filter(|(socket, _)| sockets.contains(socket))
        .collect()
}

/// Reads the inode and the remote address from a line of /proc/net/tcp; none for a listening socket.
fn peer(line: &str) -> Option<(u64, SocketAddr)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(2)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok().filter(|port| *port != 0)?;
    Some((fields.get(9)?.parse().ok()?, SocketAddr::new(ip(address)?, port)))
}

/// Reads an address that the kernel prints as 32-bit words in the host's byte order, in hexadecimal.
fn ip(text: &str) -> Option<IpAddr> {
    let words: Option<Vec<u32>> = (0..text.len() / 8)
        .map(|word| u32::from_str_radix(text.get(word * 8..word * 8 + 8)?, 16).ok())
        .collect();
    let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
    if let Ok(four) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(Ipv4Addr::from(four).into());
    }
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).to_canonical())
}

#[cfg(test)]
mod tests {
    use super::{addresses, judge, peer};

    use crate::runtime::Host;
    use crate::verify::finding::CheckResult;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernels_table_is_read() {
        let four = "  1: 0100007F:C350 0202000A:3AE8 01 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        assert_eq!(peer(four), Some((4711, "10.0.2.2:15080".parse().unwrap())));
        let mapped = "  2: 0000000000000000FFFF00000100007F:C350 0000000000000000FFFF00000100007F:01BB 01 0:0 00:0 0 0 0 12 1 0";
        assert_eq!(peer(mapped), Some((12, "127.0.0.1:443".parse().unwrap())));
        let listening =
            "  0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0";
        assert_eq!(peer(listening), None);
    }

    #[test]
    fn a_pull_past_the_mirrors_is_a_finding() {
        let mirror = Host {
            url: "http://127.0.0.1:5000".to_owned(),
            api: String::new(),
            is_mirror: true,
            resolves: true,
        };
        let upstream = Host {
            url: "https://127.0.0.2".to_owned(),
            api: String::new(),
            is_mirror: false,
            resolves: true,
        };
        let judged = |candidates: &[Host], peers: &[&str]| {
            let spoken = peers.iter().map(|peer| peer.parse().unwrap()).collect();
            match judge("img", candidates, &spoken, addresses) {
                CheckResult::Passed(saw) => saw,
                CheckResult::Found(findings) => format!("FAILED {}", findings[0].problem),
                CheckResult::Skipped(why) => why,
            }
        };
        let both = [mirror.clone(), upstream.clone()];
        assert_eq!(judged(&both, &["127.0.0.1:5000"]), "img, served by the mirror http://127.0.0.1:5000");
        assert!(judged(&both, &["127.0.0.1:5000", "127.0.0.2:443"]).starts_with("FAILED"));
        assert!(judged(&both, &["127.0.0.2:443"]).starts_with("FAILED"));
        // Upstream behind a proxy looks like this; so does a mirror's blob store.
        let proxied = judged(&both, &["127.0.0.1:5000", "127.0.0.3:3128"]);
        assert!(proxied.contains("also spoke to 127.0.0.3:3128: a proxy"), "{proxied}");
        assert_eq!(judged(&both, &[]), "img; which host served it could not be seen");
        assert_eq!(judged(&both[1..], &["127.0.0.2:443"]), "img, served by https://127.0.0.2");
        // A mirror that knows no tags leaves them to upstream, as the spec says.
        let without_tags = [Host { resolves: false, ..mirror.clone() }, upstream.clone()];
        let served = judged(&without_tags, &["127.0.0.1:5000", "127.0.0.2:443"]);
        assert_eq!(served, "img, served by the mirror http://127.0.0.1:5000");
        // One address for both, as behind an ingress: nothing tells them apart.
        let shared = [mirror, Host { url: "http://127.0.0.1:5000/".to_owned(), ..upstream }];
        assert!(judged(&shared, &["127.0.0.1:5000"]).contains("served by the mirror"));
    }
}
