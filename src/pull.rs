//! A pull through the CRI, and which host served it: the kernel says to whom containerd spoke.
//!
//! Neither the CRI nor containerd's log says where an image came from, and a mirror that is bypassed
//! makes no noise. containerd keeps its connections open for a while after a pull, so they can be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::cri::Cri;
use crate::error::Failure;
use crate::finding::{Finding, Outcome};
use crate::interrupt;
use crate::path::ImagePath;
use crate::registry::{self, Candidate};
use crate::root::Root;
use crate::settings::Settings;

/// Large images on slow lines take their time; the kubelet has no limit at all.
const LIMIT: Duration = Duration::from_secs(600);
const LONGEST_TEXT: u64 = 1 << 20;

/// Pulls `image`. A pull that goes past every mirror of the spec is a finding, though it succeeds.
pub fn check(
    cri: &mut Cri,
    root: &Root,
    settings: &Settings,
    process: Option<u32>,
    image: &str,
) -> Result<Outcome, Failure> {
    let candidates = candidates(root, settings, image)?;
    let before = process.map(connections).unwrap_or_default();
    let mut peers = BTreeMap::new();
    let mut look = || {
        let now = process.map(connections).unwrap_or_default();
        peers.extend(now.into_iter().filter(|(socket, _)| !before.contains_key(socket)));
    };
    let pulled = cri.pull(image, LIMIT, &mut look);
    look();
    interrupt::check()?;
    let spoken: BTreeSet<SocketAddr> = peers.into_values().collect();
    Ok(match pulled {
        Ok(reference) => judge(&reference, &candidates, &spoken),
        Err(why) => {
            let tried: Vec<&str> = candidates.iter().map(|candidate| candidate.url.as_str()).collect();
            let problem = format!("{image}: {why}; asked in this order: {}", tried.join(", "));
            let help = "see whether the mirror answers and has the image, and journalctl -u containerd";
            Outcome::Found(vec![Finding::new("pull", None, problem, help)])
        }
    })
}

/// The hosts that containerd asks for `image`, in order.
fn candidates(root: &Root, settings: &Settings, image: &str) -> Result<Vec<Candidate>, Failure> {
    let registry = registry::of_image(image);
    let mut text = None;
    if let Some(directory) = settings.registry_config_path.as_deref().filter(|path| !path.is_empty()) {
        for name in registry::directories(registry) {
            // A directory that is there decides, also without a hosts.toml.
            let Ok(directory) = ImagePath::new(directory).and_then(|directory| directory.join(&name)) else {
                continue;
            };
            if root.is_directory(&directory)? {
                text = root.text(&directory.join("hosts.toml")?, LONGEST_TEXT)?;
                break;
            }
        }
    }
    Ok(registry::candidates(registry, text.as_deref()))
}

/// A host that answers is not passed over, so the last that was spoken to has served.
fn judge(reference: &str, candidates: &[Candidate], spoken: &BTreeSet<SocketAddr>) -> Outcome {
    let shown = || spoken.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
    let served = candidates
        .iter()
        .rev()
        .find(|candidate| addresses(candidate).any(|address| spoken.contains(&address)));
    let has_mirror = candidates.iter().any(|candidate| candidate.is_mirror);
    match served {
        Some(host) if !host.is_mirror && has_mirror => {
            let problem = format!("{reference} was served by {} ({}), past the mirrors", host.url, shown());
            let help =
                "journalctl -u containerd says why a mirror was passed over; `strict: true` forbids it";
            Outcome::Found(vec![Finding::new("pull", None, problem, help)])
        }
        Some(host) => {
            let kind = if host.is_mirror { "the mirror " } else { "" };
            Outcome::Passed(format!("{reference}, served by {kind}{} ({})", host.url, shown()))
        }
        None if spoken.is_empty() => {
            Outcome::Passed(format!("{reference}; which host served it could not be seen"))
        }
        None => {
            Outcome::Passed(format!("{reference}, through {}: a proxy, or another name of a host", shown()))
        }
    }
}

fn addresses(candidate: &Candidate) -> impl Iterator<Item = SocketAddr> {
    let url = reqwest::Url::parse(&candidate.url).ok();
    let host = url.and_then(|url| {
        Some((url.host_str()?.trim_matches(['[', ']']).to_owned(), url.port_or_known_default()?))
    });
    host.and_then(|host| host.to_socket_addrs().ok()).into_iter().flatten()
}

/// The TCP peers of a process by the inode of the socket.
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

/// A line of /proc/net/tcp: its inode and its remote address; none for one that listens.
fn peer(line: &str) -> Option<(u64, SocketAddr)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = fields.get(2)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok().filter(|port| *port != 0)?;
    Some((fields.get(9)?.parse().ok()?, SocketAddr::new(ip(address)?, port)))
}

/// 32-bit words as the kernel has them in memory, in hexadecimal.
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
    use super::{judge, peer};
    use crate::finding::Outcome;
    use crate::registry::Candidate;

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
        let candidate = |url: &str, is_mirror| Candidate { url: url.to_owned(), is_mirror };
        let candidates = [candidate("http://127.0.0.1:5000", true), candidate("https://127.0.0.2", false)];
        let judged = |peers: &[&str]| {
            judge("img", &candidates, &peers.iter().map(|peer| peer.parse().unwrap()).collect())
        };
        assert!(
            matches!(judged(&["127.0.0.1:5000"]), Outcome::Passed(saw) if saw.contains("the mirror http://127.0.0.1:5000"))
        );
        assert!(matches!(judged(&["127.0.0.1:5000", "127.0.0.2:443"]), Outcome::Found(_)));
        assert!(matches!(judged(&["127.0.0.3:3128"]), Outcome::Passed(saw) if saw.contains("proxy")));
    }
}
