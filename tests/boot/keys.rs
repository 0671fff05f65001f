//! What the catalogue has of containerd's defaults and keys, compared with real containerds. Needs `tests/lab/prepare`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Output};

use toml_edit::{DocumentMut, Item, Key, TableLike, Value};

use crate::kit::command::{expect, text};
use crate::kit::node::Node;

/// The generations of the lab, each with a root that it runs on.
const GENERATIONS: [(&str, &str); 3] = [("1.6", "bookworm"), ("1.7", "trixie"), ("2.1", "trixie")];

/// Configurations that each generation is asked about. Strings that begin with `@` and numbers above 90,000 are
/// marks: a key is taken over if its mark is in what containerd makes of the file.
const CONFIGURATIONS: [&str; 42] = [
    // The daemon's own keys, right and misspelt.
    "version = 2\nroot = '@root'\nstate = '@state'\ntemp = '@temp'\nplugin_dir = '@plugin-dir'\noom_score = 91001\n",
    "version = 2\nrooot = '@rooot'\nstate_dir = '@state'\n",
    "version = 2\nROOT = '@upper'\nState = '@first'\n",
    "version = 2\ntEmP = '@mixed'\n",
    "version = 2\n[grpc]\naddress = '@address'\ntcp_address = '@tcp'\nmax_recv_message_size = 91002\nmax_message_size = 91003\n[ttrpc]\naddress = '@ttrpc'\ntls = '@tls'\n",
    "version = 2\n[debug]\nlevel = '@level'\nformat = '@format'\naddress = '@address'\nlog = '@log'\n[metrics]\naddress = '@metrics'\nport = 91004\n",
    "version = 2\n[cgroup]\npath = '@cgroup'\nparent = '@parent'\n[cgroups]\npath = '@cgroups'\n",
    "version = 2\n[timeouts]\n'io.containerd.timeout.shim.load' = '@load'\n'any.name' = '@any'\n",
    "version = 2\n[proxy_plugins.stargz]\ntype = 'snapshot'\naddress = '@address'\nadress = '@adress'\n[proxy_plugins.stargz.exports]\nroot = '@exported'\n",
    "version = 2\n[proxy_plugins.nydus]\ntype = 'snapshot'\naddress = '@address'\nplatform = '@platform'\ncapabilities = ['@capability']\n",
    "version = 2\n[stream_processors.mine]\naccepts = ['@accepts']\nreturns = '@returns'\npath = '@path'\nargs = ['@args']\nenv = ['@env']\nkeys = '@keys'\n",
    "version = 2\nproxy_plugins = { inline = { type = 'snapshot', address = '@address', kind = '@kind' } }\n",
    // The CRI of version 2.
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = '@pause'\nmax_container_log_line_size = 91005\nsandbox = '@wrong'\nenable_selinx = '@selinx'\n",
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '@certs'\nconfig_dir = '@wrong'\n[plugins.'io.containerd.grpc.v1.cri'.registry.headers]\nX-Any = ['@header']\n",
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry.mirrors.'docker.io']\nendpoint = ['@mirror']\nendpoints = ['@wrong']\n[plugins.'io.containerd.grpc.v1.cri'.registry.configs.'r.example'.auth]\nusername = '@user'\npasword = '@wrong'\n[plugins.'io.containerd.grpc.v1.cri'.registry.auths.'https://r.example']\nidentitytoken = '@token'\n",
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry.configs.'r.example'.tls]\nca_file = '@ca'\ninsecure = '@wrong'\n",
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '@bin'\nconf_dir = '@conf'\nmax_conf_num = 91006\nconf_path = '@wrong'\n",
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = '@without-runtimes'\ndefault_runtime_name = '@runtime'\n",
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = '@with-runtimes'\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\nruntime_path = '@path'\nsandbox_mode = '@mode'\nbase_runtime_spec = '@base'\nbase_spec = '@wrong'\n",
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.kata]\nruntime_type = 'io.containerd.kata.v2'\npod_annotations = ['@annotation']\nannotations = ['@wrong']\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.kata.options]\nConfigPath = '@config'\nAnything = '@anything'\n",
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.crun]\nruntime_type = 'io.containerd.runc.v2'\n[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.crun.options]\nBinaryName = '@crun'\nRoot = '@root'\n",
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nstream_server_address = '@stream'\nstream_server_port = '@port'\nstream_port = '@wrong'\n[plugins.'io.containerd.grpc.v1.cri'.x509_key_pair_streaming]\ntls_cert_file = '@cert'\ncert = '@wrong'\n",
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.image_decryption]\nkey_model = '@model'\nmodel = '@wrong'\n",
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.runtimes.runc]\nruntime_type = '@wrong-place'\n",
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.containerd.untrusted_workload_runtime]\nruntime_type = '@old'\n[plugins.'io.containerd.grpc.v1.cri'.containerd.default_runtime]\nruntime_engine = '@older'\n",
    "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nbin_dir = '@cni'\nmirrors = { 'docker.io' = { endpoint = ['@registry'] } }\nkey_model = '@decryption'\ndefault_runtime_name = '@containerd'\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nheaders = { X = ['@header'] }\n",
    // The names of version 3, under the header of version 2 and their own.
    "version = 2\n[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = '@pause'\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nconf_dir = '@conf'\n",
    "version = 2\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '@new'\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '@old'\n",
    "version = 2\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nconf_dir = '@new'\nbin_dirs = ['@new-bin']\n[plugins.'io.containerd.grpc.v1.cri'.cni]\nconf_dir = '@old'\nbin_dir = '@old-bin'\nconf_template = '@template'\n",
    "version = 2\n[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = '@new'\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = '@old'\n",
    "version = 3\n[plugins.'io.containerd.cri.v1.images']\nsnapshotter = '@snapshotter'\nsnapshoter = '@wrong'\n[plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = '@pause'\nother = '@other'\n[plugins.'io.containerd.cri.v1.images'.runtime_platforms.kata]\nplatform = '@platform'\nsnapshotter = '@kata'\nkind = '@wrong'\n",
    "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['@bin']\nbin_path = '@wrong'\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gvisor]\nruntime_type = 'io.containerd.runsc.v1'\nsnapshotter = '@gvisor'\nsandbox_mode = '@wrong'\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.gvisor.options]\nTypeUrl = '@type'\n",
    "version = 3\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = '@pause'\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '@certs'\n",
    "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\nsandbox_image = '@wrong-half'\n[plugins.'io.containerd.cri.v1.images'.cni]\nbin_dir = '@wrong-half'\n",
    // Other plugins.
    "version = 2\n[plugins.'io.containerd.snapshotter.v1.devmapper']\npool_name = '@pool'\npool = '@wrong'\n[plugins.'io.containerd.snapshotter.v1.overlayfs']\nroot_path = '@overlay'\nmount_options = ['@option']\n",
    "version = 2\n[plugins.'io.containerd.service.v1.tasks-service']\nrdt_config_file = '@rdt'\nrdt = '@wrong'\n[plugins.'io.containerd.nri.v1.nri']\nsocket_path = '@nri'\npath = '@wrong'\n",
    "version = 2\n[plugins.'io.containerd.nope.v1.nope']\nkey = '@nope'\n[plugins.'io.containerd.runtime.v1.linux']\nshim = '@shim'\n[plugins.'io.containerd.grpc.v1.tasks']\nkey = '@no-config'\n",
    "version = 2\n[plugins.'io.containerd.tracing.processor.v1.otlp']\nendpoint = '@endpoint'\nport = '@wrong'\n[plugins.'io.containerd.internal.v1.tracing']\nservice_name = '@service'\n",
    "version = 2\n[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]\nplatform = '@platform'\nsnapshoter = '@wrong'\n[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]\ndiffer = '@differ'\n",
    // Version 1, and none.
    "[plugins.cri]\nsandbox_image = '@pause'\n[plugins.cri.registry]\nconfig_path = '@certs'\n[plugins.devmapper]\npool_name = '@pool'\n",
    "version = 1\nroot = '@root'\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = '@pause'\nstream_server_port = '@port'\n[plugins.nope]\nkey = '@nope'\n",
    // A version that no release reads.
    "version = 9\nroot = '@root'\n",
];

/// The keys that Debian's builds do not print, for lack of the plugins. Their other difference is where they look for
/// CNI plugins.
const MISSING_FROM_DEBIAN: [(&str, &str); 6] = [
    ("1.6", "plugins.\"io.containerd.internal.v1.tracing\".sampling_ratio"),
    ("1.6", "plugins.\"io.containerd.internal.v1.tracing\".service_name"),
    ("1.6", "plugins.\"io.containerd.tracing.processor.v1.otlp\".endpoint"),
    ("1.6", "plugins.\"io.containerd.tracing.processor.v1.otlp\".insecure"),
    ("1.6", "plugins.\"io.containerd.tracing.processor.v1.otlp\".protocol"),
    ("2.1", "plugins.\"io.containerd.snapshotter.v1.zfs\".root_path"),
];

#[test]
#[ignore = "needs tests/lab/prepare"]
fn s6_the_catalogues_defaults_are_what_each_generation_prints() {
    for (generation, root) in GENERATIONS {
        let baked = |base: &str| {
            let node = Node::new(root, generation, &format!("containerd: {{config: {{base: {base}}}}}\n"));
            node.apply();
            let keys = values(&fs::read_to_string(node.path("/etc/containerd/config.toml")).unwrap());
            (keys, node)
        };
        let (ours, node) = baked("minimal");
        let (mut catalogued, _) = baked("default");
        let mut printed = values(&text(expect(0, containerd(&node, &["config", "default"]))));
        // The bake itself sets these, and one of them is where Debian's builds look for CNI plugins.
        catalogued.retain(|key, _| !ours.contains_key(key));
        printed.retain(|key, _| !ours.contains_key(key));
        for (_, key) in MISSING_FROM_DEBIAN.iter().filter(|(of, _)| *of == generation) {
            assert!(!printed.contains_key(*key), "{generation}: `{key}` is printed");
            assert!(catalogued.remove(*key).is_some(), "{generation}: `{key}` is not catalogued");
        }
        assert_eq!(catalogued, printed, "{generation}");
    }
}

/// The values of a configuration by their keys.
fn values(text: &str) -> BTreeMap<String, String> {
    let document: DocumentMut = text.parse().unwrap();
    let mut values = BTreeMap::new();
    each_value(document.as_table(), "", &mut |key, value| {
        let mut value = value.clone();
        value.decor_mut().clear();
        let of_text = value.as_str().map(|text| format!("{text:?}"));
        values.insert(key, of_text.unwrap_or_else(|| value.to_string().replace('\'', "\"")));
    });
    values
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn s6_the_keys_that_verify_names_are_those_that_containerd_loses() {
    let mut wrong = Vec::new();
    for (generation, root) in GENERATIONS {
        let node = Node::new(root, generation, "");
        node.apply();
        let default = text(expect(0, containerd(&node, &["config", "default"]))).parse().unwrap();
        for configuration in CONFIGURATIONS {
            fs::write(node.path("/etc/containerd/config.toml"), configuration).unwrap();
            let dump = containerd(&node, &["--config", "/etc/containerd/config.toml", "config", "dump"]);
            let named = named(&node);
            if !dump.status.success() {
                if named.is_empty() {
                    wrong.push(format!("{generation} refuses, and nothing is named:\n{configuration}"));
                }
                continue;
            }
            let dump = without_echoes(&text(dump), &default);
            for (key, mark) in marks(configuration) {
                if MISSING_FROM_DEBIAN.contains(&(generation, &key)) {
                    continue;
                }
                let is_read = mark.iter().any(|mark| dump.contains(mark));
                let is_named =
                    named.iter().any(|named| key == *named || key.starts_with(&format!("{named}.")));
                if is_read == is_named {
                    wrong.push(format!(
                        "{generation}: `{key}` is read: {is_read}; named: {named:?}\n{configuration}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A dump without the tables of plugins that the release does not have: 2.x prints these as they are.
fn without_echoes(dump: &str, default: &DocumentMut) -> String {
    let mut dump: DocumentMut = dump.parse().unwrap();
    let plugins = dump["plugins"].as_table_mut().unwrap();
    plugins.retain(|plugin, _| default["plugins"].get(plugin).is_some());
    dump.to_string()
}

/// Runs the node's containerd.
fn containerd(node: &Node, arguments: &[&str]) -> Output {
    Command::new("chroot").arg(node.root()).arg("/usr/local/bin/containerd").args(arguments).output().unwrap()
}

/// The keys that `verify` says containerd does not take over.
fn named(node: &Node) -> BTreeSet<String> {
    let verified = node.nodebake("verify", &["--json"]);
    let verified: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap();
    let findings = verified["findings"].as_array().unwrap().iter();
    let ours = findings.filter(|finding| finding["check"] == "effective-config");
    let key = |finding: &serde_json::Value| {
        finding["problem"].as_str().unwrap().split('`').nth(1).unwrap().to_owned()
    };
    ours.map(key).collect()
}

/// The keys of a configuration that have a mark, with the spellings of their marks in a dump.
fn marks(configuration: &str) -> Vec<(String, Vec<String>)> {
    let document: DocumentMut = configuration.parse().unwrap();
    let mut marks = Vec::new();
    each_value(document.as_table(), "", &mut |key, value| {
        let only = value.as_array().and_then(|array| array.get(0)).unwrap_or(value);
        marks.extend(mark(only).map(|mark| (key, mark)));
    });
    marks
}

fn mark(value: &Value) -> Option<Vec<String>> {
    let text = value.as_str().filter(|text| text.starts_with('@'));
    let number = value.as_integer().filter(|number| *number > 90_000);
    let quoted = text.map(|text| vec![format!("'{text}'"), format!("\"{text}\"")]);
    quoted.or_else(|| number.map(|number| vec![number.to_string()]))
}

/// Calls `see` with every key below a table, quoted as in TOML, and its value.
fn each_value(table: &dyn TableLike, above: &str, see: &mut impl FnMut(String, &Value)) {
    for (name, item) in table.iter() {
        let name = Key::new(name).display_repr().into_owned();
        let key = if above.is_empty() { name } else { format!("{above}.{name}") };
        match item {
            Item::Table(table) => each_value(table, &key, see),
            Item::Value(Value::InlineTable(table)) => each_value(table, &key, see),
            Item::ArrayOfTables(array) => array.iter().for_each(|table| each_value(table, &key, see)),
            Item::Value(value) => see(key, value),
            Item::None => {}
        }
    }
}
