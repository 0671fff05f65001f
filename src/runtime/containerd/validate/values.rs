//! Answers with which values of the right type containerd does not start, or starts without its CRI, whatever its plugins
//! are used for.
//!
//! This module must not judge the CRI's own keys: `validate` does.
//!
//! Sources: `CreateTopLevelDirectories`, `New` and `LoadPlugins` in cmd/containerd/server/server.go, `main.go` in
//! cmd/containerd/command, `BoltConfig` and `ParseLevel` of logrus. What the CRI depends on is what daemons of 1.6.20,
//! 1.7.24 and 2.1.9 do not start without.

use toml_edit::{Item, TableLike, Value};

use crate::arch::Arch;
use crate::catalog;
use crate::format::go_duration;
use crate::printable::printable;
use crate::runtime::containerd::validate::{ConfigFile, Problem, problem};
use crate::runtime::containerd::{CRI, IMAGES, RUNTIME};

/// Keys with a few values.
const CHOICES: [(&[&str], &[&str]); 3] = [
    (&["debug", "level"], &["", "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic"]),
    (&["debug", "format"], &["", "text", "json"]),
    (&["plugins", "io.containerd.metadata.v1.bolt", "content_sharing_policy"], &["shared", "isolated"]),
];

/// Sockets for debugging, which are a path or an address of TCP.
const DEBUG: [&[&str]; 2] = [&["debug", "address"], &["plugins", "io.containerd.server.v1.debug", "address"]];

/// Addresses of TCP sockets.
const ENDPOINTS: [&[&str]; 4] = [
    &["metrics", "address"],
    &["grpc", "tcp_address"],
    &["plugins", "io.containerd.server.v1.metrics", "address"],
    &["plugins", "io.containerd.server.v1.grpc-tcp", "address"],
];

/// Begins of the ids of plugins that the CRI depends on.
const NEEDED: [&str; 13] = [
    "io.containerd.content.v1.",
    "io.containerd.metadata.v1.",
    "io.containerd.event.v1.",
    "io.containerd.gc.v1.",
    "io.containerd.lease.v1.",
    "io.containerd.service.v1.",
    "io.containerd.differ.v1.walking",
    "io.containerd.runtime.v2.",
    "io.containerd.shim.v1.",
    "io.containerd.sandbox.store.v1.",
    "io.containerd.sandbox.controller.v1.",
    "io.containerd.podsandbox.controller.v1.",
    "io.containerd.warning.v1.",
];

/// As [`NEEDED`], of 1.x.
const NEEDED_BY_1: [&str; 1] = ["io.containerd.runtime.v1."];

/// As [`NEEDED`], of 2.1 and later, whose CRI pulls through them.
const NEEDED_BY_2_1: [&str; 2] = ["io.containerd.transfer.v1.", "io.containerd.image-verifier.v1."];

impl ConfigFile<'_> {
    /// Finds values with which containerd does not start.
    pub(super) fn values(&self) -> Vec<Problem> {
        let mut problems = self.durations_of_plugins();
        problems.extend(self.choices());
        problems.extend(self.endpoints());
        problems.extend(self.directories());
        problems.extend(self.proxies());
        problems.extend(self.disabled());
        problems
    }

    /// Returns the string at `path`.
    fn text(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.as_str()
    }

    /// Finds texts that Go does not parse where the default configuration has a duration, but for the CRI's.
    fn durations_of_plugins(&self) -> Vec<Problem> {
        let Some(default) = catalog::default_config("containerd", self.version, Arch::Amd64) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        let own = self.document.as_table();
        add_durations(own, default.as_table(), &mut Vec::new(), &mut found);
        found
    }

    /// Finds other values than those that a key can have.
    fn choices(&self) -> Vec<Problem> {
        let wrong = CHOICES.iter().filter_map(|(path, choices)| {
            // logrus reads a level in letters of either case.
            let is_level = path.last() == Some(&"level");
            let is_one = |text: &str| {
                choices
                    .iter()
                    .any(|choice| *choice == text || (is_level && choice.eq_ignore_ascii_case(text)))
            };
            let text = self.text(path).filter(|text| !is_one(text))?;
            let why = format!("`{}` is `{}`: containerd does not start", path.last()?, printable(text));
            let choices: Vec<&str> = choices.iter().copied().filter(|choice| !choice.is_empty()).collect();
            Some(problem(why, format!("expected one of {}", choices.join(", "))))
        });
        wrong.collect()
    }

    /// Finds addresses without a port.
    fn endpoints(&self) -> Vec<Problem> {
        let is_endpoint = |text: &str| {
            text.rsplit_once(':').is_some_and(|(host, port)| {
                let has_brackets = host.starts_with('[') && host.ends_with(']');
                port.parse::<u16>().is_ok() && (has_brackets || !host.contains(':'))
            })
        };
        let wrong = ENDPOINTS.iter().chain(&DEBUG).filter_map(|path| {
            let is_path = |text: &str| text.starts_with('/') && DEBUG.contains(path);
            let is_wrong = |text: &&str| !text.is_empty() && !is_path(text) && !is_endpoint(text);
            let text = self.text(path).filter(is_wrong)?;
            let why = format!(
                "`{}` is `{}`, which is no host and port: containerd does not start",
                path.join("."),
                printable(text)
            );
            Some(problem(why, "write for example 127.0.0.1:1338; that of `debug` can be a path"))
        });
        wrong.collect()
    }

    /// Finds directories of containerd that are the same, or none.
    fn directories(&self) -> Option<Problem> {
        let root = self.text(&["root"]).unwrap_or("/var/lib/containerd");
        let state = self.text(&["state"]).unwrap_or("/run/containerd");
        let why = match () {
            () if root.is_empty() => "`root` is empty: containerd does not start",
            () if state.is_empty() => "`state` is empty: containerd does not start",
            () if root == state => "`root` and `state` are one directory: containerd does not start",
            () => return None,
        };
        Some(problem(
            why,
            "leave out what is not needed: the defaults are /var/lib/containerd and /run/containerd",
        ))
    }

    /// Finds proxy plugins of a type that the release does not have.
    fn proxies(&self) -> Vec<Problem> {
        let release = self.release;
        let mut types =
            vec![("snapshot", "io.containerd.snapshotter.v1"), ("content", "io.containerd.content.v1")];
        types.extend(release.is_1_7().then_some(("diff", "io.containerd.differ.v1")));
        types.extend(release.is_2().then_some(("sandbox", "io.containerd.sandbox.controller.v1")));
        let all = self.at(&["proxy_plugins"]).and_then(Item::as_table_like);
        let wrong = all.into_iter().flat_map(|all| all.iter()).filter_map(|(name, item)| {
            let kind = item.get("type").and_then(Item::as_str).unwrap_or_default();
            if types.iter().any(|(short, long)| kind == *short || kind == *long) {
                return None;
            }
            let why = format!(
                "proxy plugin `{}` has the type `{}`: containerd does not start",
                printable(name),
                printable(kind)
            );
            let types: Vec<&str> = types.iter().map(|(short, _)| *short).collect();
            Some(problem(why, format!("set its `type` to one of {}", types.join(", "))))
        });
        wrong.collect()
    }

    /// Finds plugins that are switched off though the CRI depends on them.
    fn disabled(&self) -> Vec<Problem> {
        let release = self.release;
        let mut needed = NEEDED.to_vec();
        needed.extend(NEEDED_BY_1.iter().filter(|_| !release.is_2()));
        needed.extend(NEEDED_BY_2_1.iter().filter(|_| release.is_2_1()));
        let places = [
            &["plugins", IMAGES, "snapshotter"][..],
            &["plugins", IMAGES, "containerd", "snapshotter"],
            &["plugins", CRI, "containerd", "snapshotter"],
        ];
        let snapshotter = places.into_iter().find_map(|path| self.text(path)).unwrap_or("overlayfs");
        let snapshotter = format!("io.containerd.snapshotter.v1.{snapshotter}");
        let ids = self.at(&["disabled_plugins"]).and_then(Item::as_array).into_iter().flatten();
        let is_needed = |id: &&str| *id == snapshotter || needed.iter().any(|begin| id.starts_with(begin));
        let wrong = ids.filter_map(Value::as_str).filter(is_needed).map(|id| {
            let why = format!("`disabled_plugins` has `{}`, which the CRI depends on", printable(id));
            problem(why, "leave it out: containerd does not start without the CRI")
        });
        wrong.collect()
    }
}

/// Adds the texts of `written` that are no durations where `default` has one.
fn add_durations<'a>(
    written: &'a dyn TableLike,
    default: &dyn TableLike,
    path: &mut Vec<&'a str>,
    found: &mut Vec<Problem>,
) {
    for (name, item) in written.iter() {
        // Every timeout is one, whatever its name.
        let is_timeout = matches!(path[..], ["timeouts"]);
        let known =
            default.get(name).or_else(|| default.iter().next().filter(|_| is_timeout).map(|(_, item)| item));
        let is_of_cri = matches!(path[..], ["plugins"] if [CRI, IMAGES, RUNTIME].contains(&name));
        let Some(known) = known.filter(|_| !is_of_cri) else { continue };
        path.push(name);
        match (item.as_table_like(), known.as_table_like()) {
            (Some(written), Some(default)) => add_durations(written, default, path, found),
            _ => {
                let text = known.as_str().filter(|text| is_duration(text)).and(item.as_str());
                found.extend(text.filter(|text| go_duration::parse(text).is_none()).map(|text| {
                    let why = format!(
                        "`{}` is `{}`, which is no duration: containerd does not start",
                        printable(&path.join(".")),
                        printable(text)
                    );
                    problem(why, "write for example 5s or 1m30s")
                }));
            }
        }
        path.pop();
    }
}

/// Returns whether a value of the default configuration is a duration.
fn is_duration(text: &str) -> bool {
    text.ends_with(char::is_alphabetic) && go_duration::parse(text).is_some()
}

#[cfg(test)]
mod tests {
    use crate::runtime::containerd::Release;
    use crate::runtime::containerd::validate::ConfigFile;

    fn found(version: &str, text: &str) -> Vec<String> {
        let document = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let release = Release::parse(version).unwrap();
        let found = ConfigFile { document: &document, version, release }.values();
        found.into_iter().map(|problem| problem.why).collect()
    }

    #[test]
    fn values_with_which_no_daemon_starts_are_found() {
        for (version, text, word) in [
            ("1.6.20", "[timeouts]\n'io.containerd.timeout.shim.cleanup' = '5 s'", "duration"),
            ("2.1.9", "[timeouts]\nx = '5'", "duration"),
            ("2.1.9", "[timeouts]\nx = ''", "duration"),
            ("1.7.24", "[plugins.'io.containerd.gc.v1.scheduler']\nschedule_delay = '5'", "duration"),
            ("1.7.24", "[plugins.'io.containerd.internal.v1.restart']\ninterval = '10'", "duration"),
            ("2.1.9", "[plugins.'io.containerd.nri.v1.nri']\nplugin_request_timeout = '2 s'", "duration"),
            ("1.7.24", "[debug]\nlevel = 'verbose'", "verbose"),
            ("2.1.9", "[debug]\nformat = 'xml'", "xml"),
            ("2.1.9", "[plugins.'io.containerd.metadata.v1.bolt']\ncontent_sharing_policy = 'x'", "policy"),
            ("2.1.9", "[metrics]\naddress = 'nope'", "metrics.address"),
            ("2.1.9", "[grpc]\ntcp_address = '::1'", "tcp_address"),
            ("1.6.20", "[debug]\naddress = 'run/debug.sock'", "debug.address"),
            ("2.3.4", "[plugins.'io.containerd.server.v1.metrics']\naddress = ':x'", "metrics"),
            ("2.1.9", "root = '/run/containerd'", "one directory"),
            ("2.1.9", "root = ''", "empty"),
            ("2.1.9", "[proxy_plugins.stargz]\ntype = 'snapshotter'", "stargz"),
            ("2.1.9", "[proxy_plugins.stargz]\naddress = '/x'", "stargz"),
            ("1.6.20", "[proxy_plugins.x]\ntype = 'diff'", "diff"),
            ("1.7.24", "[proxy_plugins.x]\ntype = 'sandbox'", "sandbox"),
            ("2.1.9", "disabled_plugins = ['io.containerd.service.v1.images-service']", "images-service"),
            ("2.1.9", "disabled_plugins = ['io.containerd.image-verifier.v1.bindir']", "bindir"),
            ("1.6.20", "disabled_plugins = ['io.containerd.runtime.v1.linux']", "linux"),
            ("1.7.24", "disabled_plugins = ['io.containerd.snapshotter.v1.overlayfs']", "overlayfs"),
        ] {
            let found = found(version, text);
            assert!(matches!(&found[..], [why] if why.contains(word)), "{version} {text}: {found:?}");
        }
    }

    #[test]
    fn values_with_which_daemons_start_are_no_problem() {
        for (version, text) in [
            (
                "2.1.9",
                "root = '/data'\nstate = '/run/x'\n[debug]\naddress = '/run/debug.sock'\nlevel = 'warn'\nformat = 'json'",
            ),
            ("2.1.9", "[metrics]\naddress = '127.0.0.1:1338'\n[grpc]\ntcp_address = '[::1]:0'"),
            ("2.1.9", "[metrics]\naddress = ':1338'\n[timeouts]\nx = '1m30s'"),
            ("1.7.24", "[proxy_plugins.x]\ntype = 'io.containerd.snapshotter.v1'\naddress = '/x'"),
            ("1.7.24", "[plugins.'io.containerd.grpc.v1.cri']\nstream_idle_timeout = ''"),
            (
                "2.1.9",
                "disabled_plugins = ['io.containerd.snapshotter.v1.overlayfs']\n[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'native'",
            ),
            (
                "1.7.24",
                "disabled_plugins = ['io.containerd.snapshotter.v1.zfs', 'io.containerd.internal.v1.opt']",
            ),
        ] {
            assert_eq!(found(version, text), [""; 0], "{text}");
        }
        for version in ["1.6.39", "1.7.34", "2.0.11", "2.1.9", "2.2.7", "2.3.4"] {
            let default =
                crate::catalog::default_config("containerd", version, crate::arch::Arch::Amd64).unwrap();
            assert_eq!(found(version, &default.to_string()), [""; 0], "{version}");
        }
    }
}
