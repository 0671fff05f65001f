//! Answers which place of a release's own configuration a key of an older configuration version is taken to.
//!
//! This module must not change a document, and must not know which keys a release has: `known` does.
//!
//! Sources: `v1MigratePluginName` and `serviceMigrate` in cmd/containerd/server/config/config.go, and the functions
//! `migrateConfig` of plugins/cri/images, plugins/cri/runtime and plugins/cri of 2.0.0 to 2.3.4.

use semver::Version;
use toml_edit::{DocumentMut, Item};

use crate::runtime::containerd::known::Known;
use crate::runtime::containerd::{CRI, IMAGES, RUNTIME};

/// What becomes of a key when a release reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Destination<'a> {
    /// The key is looked up at these paths; one that the release has is enough.
    To(Vec<Vec<&'a str>>),
    /// The release drops it; the number of leading names up to the key or table that is dropped.
    Dropped(usize),
}

/// The way of one document's keys into a release.
pub(crate) struct Migration<'a> {
    known: &'a Known,
    document: &'a DocumentMut,
    /// Configuration version of the document.
    version: i64,
}

/// Plugins by the names that version 1 gives them.
const NAMES_OF_VERSION_1: [(&str, &str); 16] = [
    ("cri", CRI),
    ("cgroups", "io.containerd.monitor.v1.cgroups"),
    ("linux", "io.containerd.runtime.v1.linux"),
    ("scheduler", "io.containerd.gc.v1.scheduler"),
    ("bolt", "io.containerd.metadata.v1.bolt"),
    ("task", "io.containerd.runtime.v2.task"),
    ("opt", "io.containerd.internal.v1.opt"),
    ("restart", "io.containerd.internal.v1.restart"),
    ("tracing", "io.containerd.internal.v1.tracing"),
    ("otlp", "io.containerd.tracing.processor.v1.otlp"),
    ("aufs", "io.containerd.snapshotter.v1.aufs"),
    ("btrfs", "io.containerd.snapshotter.v1.btrfs"),
    ("devmapper", "io.containerd.snapshotter.v1.devmapper"),
    ("native", "io.containerd.snapshotter.v1.native"),
    ("overlayfs", "io.containerd.snapshotter.v1.overlayfs"),
    ("zfs", "io.containerd.snapshotter.v1.zfs"),
];

/// Keys of version 2's CRI that version 3 has in [`IMAGES`]; there they replace what the document has.
const OF_IMAGES: [&str; 6] = [
    "registry",
    "image_decryption",
    "max_concurrent_downloads",
    "image_pull_progress_timeout",
    "image_pull_with_sync_fs",
    "stats_collect_period",
];

/// Keys of version 2's CRI below `containerd` that version 3 has in [`IMAGES`].
const OF_SNAPSHOTS: [&str; 3] = ["snapshotter", "disable_snapshot_annotations", "discard_unpacked_layers"];

/// Keys that stay in [`CRI`].
const OF_STREAMING: [&str; 6] = [
    "disable_tcp_service",
    "stream_server_address",
    "stream_server_port",
    "stream_idle_timeout",
    "enable_tls_streaming",
    "x509_key_pair_streaming",
];

/// Tables of 1.x's CRI that are embedded structures (`PluginConfig` in pkg/cri/config/config.go).
const EMBEDDED: [&str; 4] = ["containerd", "cni", "image_decryption", "x509_key_pair_streaming"];

/// Keys of a top-level table of version 3 that version 4 has in a plugin.
struct Moved {
    table: &'static str,
    plugin: &'static str,
    /// Prefix that the plugin's names of the keys do not have.
    prefix: &'static str,
    /// Names in the top-level table.
    keys: &'static [&'static str],
}

const MOVED: [Moved; 6] = [
    Moved {
        table: "grpc",
        plugin: "io.containerd.server.v1.grpc",
        prefix: "",
        keys: &["address", "uid", "gid", "max_recv_message_size", "max_send_message_size"],
    },
    Moved {
        table: "grpc",
        plugin: "io.containerd.server.v1.grpc-tcp",
        prefix: "tcp_",
        keys: &["tcp_address", "tcp_tls_ca", "tcp_tls_cert", "tcp_tls_key", "tcp_tls_common_name"],
    },
    Moved {
        table: "ttrpc",
        plugin: "io.containerd.server.v1.ttrpc",
        prefix: "",
        keys: &["address", "uid", "gid"],
    },
    Moved {
        table: "debug",
        plugin: "io.containerd.server.v1.debug",
        prefix: "",
        keys: &["address", "uid", "gid"],
    },
    Moved { table: "metrics", plugin: "io.containerd.server.v1.metrics", prefix: "", keys: &["address"] },
    Moved {
        table: "metrics",
        plugin: "io.containerd.metrics.v1.grpc-prometheus",
        prefix: "",
        keys: &["grpc_histogram"],
    },
];

impl<'a> Migration<'a> {
    /// Returns the way of the keys of `document` into the release of `known`.
    pub(crate) fn of(known: &'a Known, document: &'a DocumentMut) -> Migration<'a> {
        let version = document.get("version").and_then(Item::as_integer).unwrap_or_default().max(1);
        Migration { known, document, version }
    }

    /// Returns whether the release refuses the document's version, with which it does not start.
    pub(crate) fn is_refused(&self) -> bool {
        // 1.x before these read any later version as version 2.
        let tolerates = match (self.known.release.major, self.known.release.minor) {
            (1, 6) => !self.is_since(1, 6, 32),
            (1, 7) => !self.is_since(1, 7, 17),
            _ => false,
        };
        self.version > self.newest() && !tolerates
    }

    /// Returns what becomes of the key at `path`.
    pub(crate) fn destination(&self, path: &[&'a str]) -> Destination<'a> {
        match (path, self.known.release.major) {
            (["plugins", name, rest @ ..], 1) if self.version == 1 => self.by_id(name, rest),
            (["plugins", name, rest @ ..], 2..) if self.version == 1 => {
                let id = NAMES_OF_VERSION_1.iter().find(|(old, _)| old == name).map_or(*name, |(_, id)| id);
                self.of_2(&[&["plugins", id], rest].concat())
            }
            (_, 2..) => self.of_2(path),
            (["plugins", id, rest @ ..], 1) => Destination::To(self.of_1(id, id, rest)),
            _ => Destination::To(vec![path.to_vec()]),
        }
    }

    /// Returns the newest configuration version that the release reads.
    fn newest(&self) -> i64 {
        match self.known.release.major {
            1 => 2,
            _ if self.is_since(2, 3, 0) => 4,
            _ => 3,
        }
    }

    fn is_since(&self, major: u64, minor: u64, patch: u64) -> bool {
        self.known.release >= Version::new(major, minor, patch)
    }

    /// Returns the places of a plugin's key in 1.x, which knows the plugins of version 1 by their names without type.
    fn by_id(&self, name: &str, rest: &[&'a str]) -> Destination<'a> {
        let plugins = self.known.default.get("plugins").and_then(Item::as_table_like);
        let ids = plugins.into_iter().flat_map(|plugins| plugins.iter()).map(|(id, _)| id);
        let paths: Vec<Vec<&str>> =
            ids.filter(|id| name_of(id) == Some(name)).map(|id| [&["plugins", id], rest].concat()).collect();
        if paths.is_empty() { Destination::Dropped(2) } else { Destination::To(paths) }
    }

    /// Returns the places in 1.x of a key of a plugin that the document calls `name`: the written one, and for the CRI also each of the tables that the
    /// document does not have. go-toml 1 reads the keys of an embedded structure from the table above then.
    fn of_1(&self, id: &'a str, name: &str, rest: &[&'a str]) -> Vec<Vec<&'a str>> {
        let embedded = EMBEDDED.iter().filter(|table| id == CRI && !self.has(&["plugins", name, table]));
        let within = embedded.map(|table| [&["plugins", id, table], rest].concat());
        std::iter::once([&["plugins", id], rest].concat()).chain(within).collect()
    }

    /// Returns the place in 2.x of a key of version 2 or later, or of version 1 with the names of version 2.
    fn of_2(&self, path: &[&'a str]) -> Destination<'a> {
        // Up to 2.2 the plugins' own migration is left out for version 1 (`LoadConfig` calls it version 3 already).
        let from = if self.is_since(2, 3, 0) { 1..=3 } else { 2..=2 };
        let taken = match (path, from.contains(&self.version)) {
            (["plugins", id, rest @ ..], true) if *id == CRI => self.of_cri(rest),
            (["plugins", id, rest @ ..], true) if *id == IMAGES || *id == RUNTIME => {
                (!self.is_replaced(id, rest)).then(|| path.to_vec())
            }
            ([table, keys @ ..], true) if self.is_since(2, 3, 0) => self.of_server(table, keys),
            _ => Some(path.to_vec()),
        };
        taken.map_or(Destination::Dropped(path.len()), |path| Destination::To(vec![path]))
    }

    /// Returns the place in version 3 of a key of version 2's CRI.
    fn of_cri(&self, rest: &[&'a str]) -> Option<Vec<&'a str>> {
        let below = |id: &'a str, rest: &[&'a str]| Some([&["plugins", id], rest].concat());
        match rest {
            ["sandbox_image"] => below(IMAGES, &["pinned_images", "sandbox"]),
            [key, ..] if OF_IMAGES.contains(key) => below(IMAGES, rest),
            // 2.0.0 forgot all but the first.
            [key, ..] if OF_STREAMING.contains(key) => {
                (*key == OF_STREAMING[0] || self.is_since(2, 0, 1)).then(|| below(CRI, rest))?
            }
            // The function returns before it comes to them.
            ["containerd", key, ..] if OF_SNAPSHOTS.contains(key) => {
                self.has(&["plugins", CRI, "containerd", "runtimes"]).then(|| below(IMAGES, &rest[1..]))?
            }
            ["containerd", "runtimes", name, "sandbox_mode"] => {
                let sandboxer = ["containerd", "runtimes", *name, "sandboxer"];
                let is_set = self.has(&[&["plugins", CRI], &sandboxer[..]].concat());
                (!is_set).then(|| below(RUNTIME, &sandboxer))?
            }
            ["cni", "bin_dir"] if self.is_since(2, 1, 0) => below(RUNTIME, &["cni", "bin_dirs"]),
            ["cni", key, ..] if self.is_since(2, 1, 0) => self.unless(&["cni", key], rest),
            ["containerd", key, ..] => self.unless(&["containerd", key], rest),
            [key, ..] => self.unless(&[key], rest),
            [] => below(CRI, rest),
        }
    }

    /// Returns the place below [`RUNTIME`] of a key of version 2, unless the document has `taken` there already.
    fn unless(&self, taken: &[&str], rest: &[&'a str]) -> Option<Vec<&'a str>> {
        // 2.0.0 and 2.0.1 replaced the whole table.
        let is_kept = self.is_since(2, 0, 2) && self.has(&[&["plugins", RUNTIME], taken].concat());
        (!is_kept).then(|| [&["plugins", RUNTIME], rest].concat())
    }

    /// Returns whether a key of version 3 gives way to a key of version 2 in the same document.
    fn is_replaced(&self, id: &str, rest: &[&str]) -> bool {
        let of_cri = |path: &[&str]| self.has(&[&["plugins", CRI], path].concat());
        match rest {
            _ if id == RUNTIME && !self.is_since(2, 0, 2) => of_cri(&[]),
            ["cni", "bin_dirs"] if id == RUNTIME => self.is_since(2, 1, 0) && of_cri(&["cni", "bin_dir"]),
            _ if id == RUNTIME => false,
            ["pinned_images", "sandbox"] => of_cri(&["sandbox_image"]),
            [key, ..] if OF_IMAGES.contains(key) => of_cri(&[key]),
            [key] if OF_SNAPSHOTS.contains(key) => {
                of_cri(&["containerd", key]) && of_cri(&["containerd", "runtimes"])
            }
            _ => false,
        }
    }

    /// Returns the place in version 4 of a key below a top-level table or key of version 3.
    fn of_server(&self, table: &'a str, keys: &[&'a str]) -> Option<Vec<&'a str>> {
        let of_table = || MOVED.iter().filter(|moved| moved.table == table);
        match of_table().find(|moved| matches!(keys, [key] if moved.keys.contains(key))) {
            // The plugin's own table wins.
            Some(moved) if self.has(&["plugins", moved.plugin]) => None,
            Some(moved) => {
                let key = keys[0].strip_prefix(moved.prefix).unwrap_or(keys[0]);
                Some(vec!["plugins", moved.plugin, key])
            }
            // Version 4 has some of the tables no more.
            None if of_table().next().is_some() && self.known.default.get(table).is_none() => None,
            None => Some([&[table], keys].concat()),
        }
    }

    /// Returns whether the document has something at `path`.
    fn has(&self, path: &[&str]) -> bool {
        path.iter().try_fold(self.document.as_item(), |item, key| item.get(key)).is_some()
    }
}

/// Returns where other releases have the key at `path`.
pub(crate) fn other_places<'a>(path: &[&'a str]) -> Vec<Vec<&'a str>> {
    let below = |id: &'a str, rest: &[&'a str]| [&["plugins", id], rest].concat();
    match path {
        ["plugins", id, rest @ ..] if [CRI, IMAGES, RUNTIME].contains(id) => {
            let same = [IMAGES, RUNTIME, CRI].map(|id| below(id, rest));
            let named = match rest {
                ["sandbox_image"] => Some(below(IMAGES, &["pinned_images", "sandbox"])),
                ["pinned_images", "sandbox"] => Some(below(CRI, &["sandbox_image"])),
                ["containerd", key] if OF_SNAPSHOTS.contains(key) => Some(below(IMAGES, &[key])),
                [key] if OF_SNAPSHOTS.contains(key) => Some(below(CRI, &["containerd", key])),
                ["cni", "bin_dir"] => Some(below(RUNTIME, &["cni", "bin_dirs"])),
                ["cni", "bin_dirs"] => Some(below(CRI, &["cni", "bin_dir"])),
                _ => None,
            };
            same.into_iter().chain(named).collect()
        }
        ["plugins", id, key] => {
            let moved = MOVED.iter().filter(|moved| moved.plugin == *id);
            let old = moved.filter_map(|moved| {
                let name = moved.keys.iter().find(|name| name.strip_prefix(moved.prefix) == Some(key))?;
                Some(vec![moved.table, *name])
            });
            old.collect()
        }
        [table, key] => {
            let moved = MOVED.iter().filter(|moved| moved.table == *table && moved.keys.contains(key));
            moved.map(|moved| below(moved.plugin, &[key.strip_prefix(moved.prefix).unwrap_or(key)])).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns the name of a plugin without its type: `cri` of `io.containerd.grpc.v1.cri`.
fn name_of(id: &str) -> Option<&str> {
    let is_version =
        |part: &str| part.len() > 1 && part.starts_with('v') && part[1..].bytes().all(|b| b.is_ascii_digit());
    let version = id.split('.').find(|part| is_version(part))?;
    let (_, name) = id.split_once(&format!(".{version}."))?;
    Some(name)
}
