//! What a user can get wrong in `nodebake.yaml` and on the command line (rows S1 to S5), and what
//! hostile values and secrets become in the files that are written.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use crate::kit;
use crate::kit::certificates::pair;
use crate::kit::readers::{environment, settings};
use crate::kit::{Lab, Run, run, skip, works};
use serde_json::Value;

// ---------------------------------------------------------------- S1, S2: keys and types

/// A bad spec, where stderr must point, and what it must say.
struct Bad {
    yaml: &'static str,
    at: &'static str,
    says: &'static [&'static str],
}

const fn bad(yaml: &'static str, at: &'static str, says: &'static [&'static str]) -> Bad {
    Bad { yaml, at, says }
}

#[test]
fn s2_unknown_key_gets_its_nearest_spelling() {
    refuse_all(&[
        bad("arhc: amd64\n", "1:1", &["arhc", "did you mean `arch`?"]),
        bad(
            "components:\n  containerd:\n    verison: 2.1.9\n",
            "3:5",
            &["verison", "did you mean `version`?"],
        ),
        bad(
            "components:\n  runc: {version: 1.3.6, sha265: aa}\n",
            "2:26",
            &["sha265", "did you mean `sha256`?"],
        ),
        bad(
            "components:\n  conatinerd: {version: 2.1.9}\n",
            "2:3",
            &["conatinerd", "did you mean `containerd`?"],
        ),
        bad("containerd:\n  limit_nofiles: 1\n", "2:3", &["limit_nofiles", "did you mean `limit_nofile`?"]),
        bad(
            "containerd:\n  config:\n    systemd_cgrop: true\n",
            "3:5",
            &["systemd_cgrop", "did you mean `systemd_cgroup`?"],
        ),
        bad("containerd:\n  proxy:\n    htps: http://proxy\n", "3:5", &["htps", "did you mean `https`?"]),
        bad(
            "registries:\n  docker.io:\n    mirors:\n      - url: https://m\n",
            "3:5",
            &["mirors", "did you mean `mirrors`?"],
        ),
        bad(
            "registries:\n  docker.io:\n    mirrors:\n      - url: https://m\n        overide_path: true\n",
            "5:9",
            &["did you mean `override_path`?"],
        ),
        bad("kernel:\n  sysctls: {}\n", "2:3", &["sysctls", "did you mean `sysctl`?"]),
        bad(
            "# a comment\n\ncomponents:\n  runc: {version: 1.3.6}\nregistries:\n  docker.io:\n    mirors: []\n",
            "7:5",
            &["mirors", "did you mean `mirrors`?"],
        ),
    ]);
}

#[test]
fn s2_unknown_key_far_from_any_gets_the_list() {
    let lab = Lab::new();
    let run = refuse(&lab, &bad("quux: 1\n", "1:1", &["quux", "components", "registries", "kernel"]))
        .unwrap_or_else(|why| panic!("{why}"));
    assert!(!run.errors().contains("did you mean"), "{run}");
}

#[test]
fn s1_duplicate_key() {
    refuse_all(&[
        bad("arch: amd64\nsource: a\narch: arm64\n", "3:1", &["duplicate", "arch"]),
        bad("arch: amd64\n\"arch\": arm64\n", "2:1", &["duplicate", "arch"]),
        bad(
            "components:\n  containerd: {version: 2.1.9}\n  runc: {version: 1.3.6}\n  containerd: {version: 2.2.0}\n",
            "4:3",
            &["duplicate", "containerd"],
        ),
        bad(
            "components:\n  runc:\n    version: 1.3.6\n    version: 1.3.5\n",
            "4:5",
            &["duplicate", "version"],
        ),
        bad(
            "components:\n  runc:\n    sha256:\n      amd64: aa\n      arm64: bb\n      amd64: cc\n",
            "6:7",
            &["duplicate", "amd64"],
        ),
        bad(
            "containerd:\n  config:\n    sandbox_image: a\n    sandbox_image: b\n",
            "4:5",
            &["duplicate", "sandbox_image"],
        ),
        bad("containerd:\n  proxy: {http: a, http: b}\n", "2:20", &["duplicate", "http"]),
        bad(
            "registries:\n  docker.io:\n    mirrors: [{url: \"https://a\"}]\n  docker.io:\n    mirrors: [{url: \"https://b\"}]\n",
            "4:3",
            &["duplicate", "docker.io"],
        ),
        bad(
            "registries:\n  docker.io:\n    strict: true\n    strict: false\n",
            "4:5",
            &["duplicate", "strict"],
        ),
        bad(
            "registries:\n  docker.io:\n    mirrors:\n      - url: https://a\n        url: https://b\n",
            "5:9",
            &["duplicate", "url"],
        ),
        bad(
            "registries:\n  docker.io:\n    mirrors:\n      - url: https://a\n        headers:\n          X-Key: a\n          X-Key: b\n",
            "7:11",
            &["duplicate", "X-Key"],
        ),
        bad("kernel: {modules: [overlay], modules: [br_netfilter]}\n", "1:30", &["duplicate", "modules"]),
        bad(
            "kernel:\n  sysctl:\n    net.ipv4.ip_forward: 1\n    net.ipv4.ip_forward: 0\n",
            "4:5",
            &["duplicate", "net.ipv4.ip_forward"],
        ),
    ]);
}

#[test]
fn s1_one_architecture_in_two_spellings_is_a_duplicate() {
    let digests = format!("{{amd64: {}, x86_64: {}}}", "a".repeat(64), "b".repeat(64));
    let lab = Lab::new();
    let run = must_refuse(&lab, &format!("components:\n  runc: {{version: 1.3.6, sha256: {digests}}}\n"));
    run.says("nodebake.yaml:2:");
}

#[test]
fn s2_wrong_type_says_what_was_expected() {
    refuse_all(&[
        bad("- a\n- b\n", "1:1", &["expected"]),
        bad("just text\n", "1:1", &["expected"]),
        bad("components: [containerd]\n", "1:13", &["expected", "map"]),
        bad("components:\n  runc: 1.3.6\n", "2:9", &["1.3.6", "{version:"]),
        bad("containerd:\n  limit_nofile: lots\n", "2:17", &["lots", "number"]),
        bad("containerd:\n  limit_nofile: -1\n", "2:17", &["-1", "number"]),
        bad("containerd:\n  config:\n    systemd_cgroup: yes\n", "3:21", &["yes", "bool"]),
        bad("containerd:\n  config:\n    base: minimla\n", "3:11", &["minimla", "did you mean `minimal`?"]),
        bad("containerd:\n  install: archiv\n", "2:12", &["archiv", "did you mean `archive`?"]),
        bad("registries: none\n", "1:13", &["expected", "map"]),
        bad("registries:\n  docker.io:\n    mirrors: {url: x}\n", "3:14", &["expected", "sequence"]),
        bad(
            "registries:\n  docker.io:\n    mirrors:\n      - url: https://a\n        capabilities: pull\n",
            "5:23",
            &["expected", "sequence"],
        ),
        bad(
            "registries:\n  docker.io:\n    mirrors:\n      - url: https://a\n        skip_verify: maybe\n",
            "5:22",
            &["maybe", "bool"],
        ),
        bad("kernel:\n  modules: overlay\n", "2:12", &["overlay", "sequence"]),
        bad("kernel:\n  sysctl: [net.ipv4.ip_forward]\n", "2:11", &["expected", "map"]),
        bad("kernel:\n  sysctl:\n    vm.max_map_count: {a: 1}\n", "3:23", &["expected"]),
        bad("arch: amd46\n", "1:7", &["amd46", "amd64"]),
        bad("source: ./artifacts\n\narch: amd46\n", "3:7", &["amd46", "amd64"]),
        bad(
            "containerd:\n  config:\n    systemd_cgroup: true\n    sandbox_image: \"a\\nb\"\n",
            "4:20",
            &["line break"],
        ),
        bad("kernel:\n  modules:\n    - overlay\n    - a b\n", "4:7", &["a b"]),
        bad("components:\n  runc: {version: latest}\n", "2:19", &["latest", "X.Y.Z"]),
        bad("components:\n  runc: {version: 1.3.6, sha256: abc}\n", "2:34", &["abc", "64"]),
    ]);
}

#[test]
fn s4_a_version_is_no_number() {
    refuse_all(&[
        bad("components:\n  runc: {version: 1.10}\n", "2:19", &["1.10", "X.Y.Z"]),
        bad("components:\n  containerd:\n    static: true\n    version: 2.0\n", "4:14", &["2.0", "X.Y.Z"]),
        bad("components:\n  containerd:\n    version: 2\n", "3:14", &["2", "X.Y.Z"]),
        bad("components:\n  containerd:\n    version: \"1.10\"\n", "3:14", &["1.10", "X.Y.Z"]),
    ]);
}

#[test]
fn s2_mirrors_are_checked_where_they_stand() {
    refuse_all(&[
        bad(
            "registries:\n  docker.io:\n    mirrors:\n      - url: harbor.local\n",
            "4:14",
            &["harbor.local", "https://harbor.local"],
        ),
        bad(
            "registries:\n  docker.io:\n    mirrors:\n      - capabilities: [pull]\n        skip_verify: true\n        url: harbor.local\n",
            "6:14",
            &["https://harbor.local"],
        ),
        bad(
            "registries:\n  docker.io:\n    mirrors:\n      - url: ftp://harbor.local\n",
            "4:14",
            &["ftp", "https"],
        ),
        bad("registries:\n  docker.io:\n    mirrors:\n      - url: \"https://\"\n", "4:14", &["URL"]),
        bad("registries:\n  docker.io:\n    mirrors:\n      - capabilities: [pull]\n", "4:9", &["url"]),
        bad(
            "registries:\n  docker.io:\n    mirrors:\n      - url: https://a\n        capabilities: [pull, resolv]\n",
            "5:30",
            &["resolv", "did you mean `resolve`?"],
        ),
        bad(
            "registries:\n  docker.io:\n    mirrors:\n      - url: https://a\n        dial_timeout: 5 seconds\n",
            "5:23",
            &["5 seconds", "5s"],
        ),
    ]);
}

#[test]
fn s2_contradictions_point_at_their_registry() {
    let mirror = "{url: \"https://m\"}";
    let lab = Lab::new();
    let all = ["kernel: {}", "registries:", "  docker.io: {}", "  quay.io:"].join("\n");
    let registry = |lines: &str| must_refuse(&lab, &format!("{all}\n{lines}\n"));
    for lines in [
        "    strict: true".to_owned(),
        format!("    strict: true\n    server: https://s\n    mirrors: [{mirror}]"),
        format!("    mirrors: [{mirror}, {mirror}]"),
    ] {
        let run = registry(&lines);
        let errors = run.errors();
        let line = errors
            .split("nodebake.yaml:")
            .nth(1)
            .and_then(|rest| rest.split(':').next()?.parse::<u32>().ok());
        assert!(line.is_some_and(|line| line >= 4), "{run}");
        run.says("quay.io");
    }
}

#[test]
fn s2_registry_names_stay_below_certs_d() {
    let lab = Lab::new();
    for name in ["../../../etc/cron.d", "..", ".", "a/b", "", "a b", "a\\nb", "/etc", "docker.io:port"] {
        let run = must_refuse(
            &lab,
            &format!("registries:\n  \"{name}\":\n    mirrors: [{{url: \"https://m\"}}]\n"),
        );
        run.says("nodebake.yaml:2:3");
    }
}

#[test]
fn s2_merge_is_toml() {
    let lab = Lab::new();
    for merge in ["[plugins", "a = 1\na = 2", "x = ", "\"unclosed = 1"] {
        let yaml = format!("containerd:\n  config:\n    merge: {}\n", serde_json::to_string(merge).unwrap());
        let run = must_refuse(&lab, &yaml);
        run.says("merge");
    }
}

// ---------------------------------------------------------------- S3: documents

#[test]
fn s3_broken_documents_point_at_their_line() {
    refuse_all(&[
        bad("components:\n\tcontainerd: {}\n", "2:1", &["tab"]),
        bad("components: {containerd: {version: 2.1.9}\n", "2:1", &["expected"]),
        bad("arch: amd64\nsource: \"./artifacts\n", "3:1", &["quoted", "line 2 column 9"]),
        bad("arch: amd64\n---\narch: arm64\n", "2:1", &["document"]),
        bad("arch: [amd64\ncomponents: {}\n", "2:", &["expected"]),
        bad("a: &x 1\nb: *y\n", "2:", &["anchor"]),
    ]);
}

#[test]
fn s3_floods_are_refused_at_once() {
    let long = "# comment\n".repeat(1 << 20);
    let keys: String = (0..700_000).map(|n| format!("k{n}: value{n}\n")).collect();
    let deep_list = "[".repeat(20_000);
    let deep_map = "{a: ".repeat(20_000);
    let deep_block: String = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let compact_block = format!("{}a\n", "- ".repeat(20_000));
    let laughs: String =
        (1..10).map(|n| format!("l{n}: &l{n} [{}]\n", vec![format!("*l{}", n - 1); 9].join(", "))).collect();
    let laughs = format!("l0: &l0 [lol, lol]\n{laughs}");
    let lab = Lab::new();
    for (name, text) in [
        ("10 MiB of comments", &long),
        ("10 MB of keys", &keys),
        ("deep lists", &deep_list),
        ("deep maps", &deep_map),
        ("deep blocks", &deep_block),
        ("compact blocks", &compact_block),
        ("billion laughs", &laughs),
    ] {
        let run = refuse_flood(&lab, text).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert!(run.stderr.len() < 4096, "{name}: {} bytes of message", run.stderr.len());
        assert!(run.peak < 256 << 10, "{name}: {} KiB of memory", run.peak);
    }
}

#[test]
fn s3_as_many_registries_as_are_supported_cost_little() {
    let mut lab = Lab::new();
    let registries = |count: usize| -> String {
        (0..count).map(|n| format!("  r{n}.example: {{mirrors: [{{url: \"https://m\"}}]}}\n")).collect()
    };
    let mirrors = |count: usize| -> String {
        (0..count).map(|n| format!("      - url: https://m{n}.example\n")).collect()
    };
    let files = |count: usize| -> String { (0..count).map(|n| format!("          - c{n}.pem\n")).collect() };
    for (what, yaml) in [
        ("registries", format!("registries:\n{}", registries(1001))),
        (
            "keys and values",
            format!("registries:\n{}", (0..60_000).map(|n| format!("  r{n}: {{}}\n")).collect::<String>()),
        ),
        ("mirrors", format!("registries:\n  a.example:\n    mirrors:\n{}", mirrors(4001))),
        (
            "certificates",
            format!(
                "registries:\n  a.example:\n    mirrors:\n      - url: https://m\n        ca:\n{}",
                files(1001)
            ),
        ),
    ] {
        lab.spec_also(&yaml);
        lab.plan().exits(3).says("at most").says(what).says("help:");
    }
    lab.spec_also(&format!("registries:\n{}  a.example:\n    mirrors:\n{}", registries(999), mirrors(3001)));
    lab.apply().exits(0);
    lab.apply().exits(0);
    lab.remove().exits(0);
}

#[test]
fn s3_not_utf8_is_refused() {
    let lab = Lab::new();
    let before = lab.tree();
    fs::write(&lab.spec, b"arch: amd64\nsource: \xff\xfe\n").unwrap();
    lab.plan().exits(3).says("nodebake.yaml").says("UTF-8");
    fs::write(
        &lab.spec,
        "\u{feff}arch: amd64\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(),
    )
    .unwrap();
    lab.plan().exits(3).says("nodebake.yaml").says("UTF-8");
    kit::assert_same("the root", &before, &lab.tree());
}

#[test]
fn s3_byte_order_mark_and_windows_line_ends_are_accepted() {
    let mut lab = Lab::new();
    lab.spec_also("registries:\n  docker.io:\n    mirrors:\n      - url: https://mirror.corp\nkernel:\n  modules: [overlay]\n");
    let plain = lab.plan();
    plain.exits(10);
    let text = fs::read_to_string(&lab.spec).unwrap();
    fs::write(&lab.spec, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    let windows = lab.plan();
    windows.exits(10);
    assert_eq!(plain.stdout, windows.stdout);
}

#[test]
fn s3_an_empty_file_means_the_defaults() {
    let lab = Lab::new();
    let artifacts = lab.dir.join("artifacts");
    let plan = |spec: Option<&str>| {
        let mut command = lab.command(["plan", "--root"]);
        command.arg(&lab.root).arg("--source").arg(&artifacts);
        match spec {
            Some(text) => {
                fs::write(&lab.spec, text).unwrap();
                command.arg("--spec").arg(&lab.spec);
            }
            None => drop(command.arg("--defaults")),
        }
        run(&mut command)
    };
    // Artifacts are read side by side.
    let said = |run: &Run| {
        let mut lines: Vec<String> = run.errors().lines().map(str::to_owned).collect();
        lines.sort();
        (run.code, lines)
    };
    // The built-in defaults pin upstream's files, and the laboratory has others: not there.
    let defaults = plan(None);
    defaults.exits(4).says("containerd");
    for text in [
        "",
        "\n\n",
        "# only a comment\n",
        "---\n",
        "{}\n",
        "null\n",
        "\u{feff}",
        "components: {}\n",
        "kernel: {}\nimages: []\n",
    ] {
        let run = plan(Some(text));
        assert_eq!(said(&run), said(&defaults), "{text:?}\n{run}");
    }
}

#[test]
fn s3_the_spec_in_the_working_directory_is_found() {
    let lab = Lab::new();
    let mut command = lab.command(["plan", "--root"]);
    let run = run(command.arg(&lab.root).current_dir(&lab.dir));
    run.exits(0);
    assert_eq!(run.stdout, run_plan(&lab).stdout);
}

#[test]
fn no_digest_names_the_nearest_versions() {
    let lab = Lab::new();
    let before = lab.tree();
    fs::write(&lab.spec, "source: ./artifacts\ncomponents:\n  containerd: {version: 2.1.99}\n").unwrap();
    let run = lab.apply();
    run.exits(5).says("containerd").says("2.1.99").says("sha256").says("nodebake lock");
    assert!(
        run.errors().replace("2.1.99", "").contains("2.1.9"),
        "the nearest catalogued version is not named\n{run}"
    );
    kit::assert_same("the root", &before, &lab.tree());
}

// ---------------------------------------------------------------- the command line

#[test]
fn usage_errors_exit_2() {
    let lab = Lab::new();
    let before = lab.tree();
    let root = lab.root.to_str().unwrap();
    let spec = lab.spec.to_str().unwrap();
    let cases: [(&[&str], &str); 8] = [
        (&["apply", "--spec", spec], "--root"),
        (&["plan"], "--root"),
        (&["verify"], "--root"),
        (&["remove"], "--root"),
        (&["apply", "--root", root, "--sepc", spec], "--spec"),
        (&["aply", "--root", root], "apply"),
        (&["apply", "--root"], "--root"),
        (&["apply", "--root", root, "--spec", spec, "--retries", "many"], "--retries"),
    ];
    for (words, says) in cases {
        let run = run(lab.command([]).args(words));
        run.exits(2).says(says);
        assert!(run.stdout.is_empty(), "usage errors belong on stderr\n{run}");
    }
    run(&mut lab.command([])).exits(2);
    kit::assert_same("the root", &before, &lab.tree());
}

// ---------------------------------------------------------------- S5: hostile values

/// What breaks out of a quoted string, a line, a specifier or a shell, one way or another.
const HOSTILE: [&str; 20] = [
    "a\nb",
    "a\r\nb",
    "a\tb",
    "a\0b",
    "a\u{1b}[31mb",
    "a\u{7f}b",
    "a\u{2028}b",
    "a\"b",
    "a'b",
    "a\\b",
    "a\\nb",
    "a\\",
    "a%nb",
    "a%%b",
    "a$b",
    "a${HOME}b",
    "a]b",
    "a;b",
    "a#b",
    "a b",
];

#[test]
fn s5_sandbox_image() {
    hostile("containerd: {config: {sandbox_image: VALUE}}", "registry.k8s.io/", |lab, value| {
        let config = toml(&lab.path("etc/containerd/config.toml"));
        assert!(strings(&config).contains(&value), "config.toml lacks {value:?}: {config}");
    });
}

#[test]
fn s5_mirror_url() {
    hostile("registries: {docker.io: {mirrors: [{url: VALUE}]}}", "https://mirror.corp/", |lab, value| {
        let hosts = toml(&lab.path("etc/containerd/certs.d/docker.io/hosts.toml"));
        assert!(
            hosts["host"].as_object().unwrap().contains_key(&value),
            "hosts.toml lacks {value:?}: {hosts}"
        );
    });
}

#[test]
fn s5_server_url() {
    hostile("registries: {docker.io: {server: VALUE}}", "https://mirror.corp/", |lab, value| {
        let hosts = toml(&lab.path("etc/containerd/certs.d/docker.io/hosts.toml"));
        assert_eq!(hosts["server"], Value::from(value));
    });
}

#[test]
fn s5_header_value() {
    hostile(
        "registries: {docker.io: {mirrors: [{url: \"https://m\", headers: {X-Key: VALUE}}]}}",
        "",
        |lab, value| {
            let hosts = toml(&lab.path("etc/containerd/certs.d/docker.io/hosts.toml"));
            let header = &hosts["host"]["https://m"]["header"]["X-Key"];
            assert!(*header == *value || *header == Value::from(vec![value.clone()]), "{value:?}: {hosts}");
        },
    );
}

#[test]
fn s5_header_name() {
    hostile(
        "registries: {docker.io: {mirrors: [{url: \"https://m\", headers: {VALUE: x}}]}}",
        "X-",
        |lab, value| {
            let hosts = toml(&lab.path("etc/containerd/certs.d/docker.io/hosts.toml"));
            assert!(
                hosts["host"]["https://m"]["header"].as_object().unwrap().contains_key(&value),
                "{value:?}: {hosts}"
            );
        },
    );
}

#[test]
fn s5_registry_name() {
    hostile("registries: {VALUE: {mirrors: [{url: \"https://m\"}]}}", "r.", |lab, value| {
        assert!(
            lab.exists(&format!("etc/containerd/certs.d/{value}/hosts.toml")),
            "{value:?}\n{}",
            lab.tree()
        );
    });
}

#[test]
fn s5_proxies() {
    for (key, variable, prefix) in [
        ("http", "HTTP_PROXY", "http://proxy:3128/"),
        ("https", "HTTPS_PROXY", "http://proxy:3128/"),
        ("no_proxy", "NO_PROXY", "proxy,"),
    ] {
        hostile(&format!("containerd: {{proxy: {{{key}: VALUE}}}}"), prefix, move |lab, value| {
            let text =
                String::from_utf8(lab.read("etc/systemd/system/containerd.service.d/10-nodebake.conf"))
                    .unwrap();
            let assignments = environment(&text);
            let found = assignments.iter().find(|(name, _)| name == variable);
            assert_eq!(found.map(|(_, value)| value), Some(&value), "{text}");
        });
    }
}

/// Takes the default parameters away.
const NO_PARAMETER: &str = "net.bridge.bridge-nf-call-ip6tables: null, \
     net.bridge.bridge-nf-call-iptables: null, net.ipv4.ip_forward: null";

#[test]
fn s5_sysctl_value() {
    hostile(
        &format!("kernel: {{sysctl: {{{NO_PARAMETER}, kernel.core_pattern: VALUE}}}}"),
        "",
        |lab, value| {
            let text = String::from_utf8(lab.read("etc/sysctl.d/90-nodebake.conf")).unwrap();
            assert_eq!(settings(&text), [("kernel.core_pattern".to_owned(), value)], "{text}");
        },
    );
}

#[test]
fn s5_sysctl_name() {
    hostile(&format!("kernel: {{sysctl: {{{NO_PARAMETER}, VALUE: 1}}}}"), "vm.", |lab, value| {
        let text = String::from_utf8(lab.read("etc/sysctl.d/90-nodebake.conf")).unwrap();
        assert_eq!(settings(&text), [(value, "1".to_owned())], "{text}");
    });
}

#[test]
fn s5_module() {
    hostile("kernel: {modules: [VALUE]}", "", |lab, value| {
        let text = String::from_utf8(lab.read("etc/modules-load.d/nodebake.conf")).unwrap();
        let modules: Vec<&str> =
            text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])).collect();
        assert_eq!(modules, ["overlay", "br_netfilter", value.as_str()], "{text}");
    });
}

#[test]
fn s5_merge() {
    let merge = "[plugins.\"io.containerd.cri.v1.runtime\"]\nodd = \"a\\\"b\\\\c\\u001b]%n$HOME\"\n\"k e.y]\" = '''x\ny'''\n";
    let mut lab = Lab::new();
    lab.spec_also(&format!("containerd: {{config: {{merge: {}}}}}\n", serde_json::to_string(merge).unwrap()));
    lab.apply().exits(0);
    let Some(config) = try_toml(&lab.path("etc/containerd/config.toml")) else {
        return skip("python3 with tomllib is not installed");
    };
    let runtime = &config["plugins"]["io.containerd.cri.v1.runtime"];
    assert_eq!(runtime["odd"], Value::from("a\"b\\c\u{1b}]%n$HOME"), "{config}");
    assert_eq!(runtime["k e.y]"], Value::from("x\ny"), "{config}");
}

// ---------------------------------------------------------------- S5: any value

#[test]
fn s5_units_are_valid() {
    if !works(["systemd-analyze", "--version"]) {
        return skip("systemd-analyze is not installed");
    }
    let mut lab = Lab::new();
    lab.spec_also("containerd:\n  limit_nofile: 65536\n  proxy: {http: \"http://a:b%20c@proxy:3128/\\\"'$x\", no_proxy: \"10.0.0.0/8,.corp\"}\n");
    lab.apply().exits(0);
    // systemd-analyze looks for the binary and for the targets on this machine: only parse errors count.
    let units = lab.dir.join("units");
    fs::create_dir_all(units.join("containerd.service.d")).unwrap();
    fs::copy(lab.path("usr/local/lib/systemd/system/containerd.service"), units.join("containerd.service"))
        .unwrap();
    let drop_in = "containerd.service.d/10-nodebake.conf";
    fs::copy(lab.path("etc/systemd/system").join(drop_in), units.join(drop_in)).unwrap();
    let run =
        run(lab.wrapped(["systemd-analyze", "verify", "--man=no"]).arg(units.join("containerd.service")));
    let complaints: Vec<String> = run
        .errors()
        .lines()
        .filter(|line| line.contains("units/containerd.service"))
        .map(str::to_owned)
        .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");

    let broken = units.join(drop_in);
    fs::write(&broken, "[Service]\nLimitNOFILE=lots\n").unwrap();
    let run = kit::run(
        lab.wrapped(["systemd-analyze", "verify", "--man=no"]).arg(units.join("containerd.service")),
    );
    assert!(run.errors().contains("units/containerd.service"), "the check notices nothing\n{run}");
}

// ---------------------------------------------------------------- secrets

const SECRETS: [&str; 3] = ["h3ader-s3cret", "pr0xy-s3cret", "k3y-s3cret"];

/// A spec with every kind of secret, and a key file beside it.
fn secretive() -> Lab {
    let mut lab = Lab::new();
    lab.spec_also(
        "containerd:\n  proxy: {http: \"http://baker:pr0xy-s3cret@proxy:3128\", https: \"http://baker:pr0xy-s3cret@proxy:3128\"}\n\
         registries:\n  docker.io:\n    mirrors:\n      - url: https://mirror.corp\n        client: [[client.pem, client.key]]\n\
         \x20       headers: {Authorization: \"Basic h3ader-s3cret\"}\n",
    );
    kit::write(&lab.dir.join("client.pem"), pair().certificate.as_bytes());
    kit::write(&lab.dir.join("client.key"), format!("k3y-s3cret\n{}", pair().key).as_bytes());
    lab
}

#[test]
fn secrets_are_0600_wherever_they_lie() {
    let lab = secretive();
    // An earlier hosts.toml of the user's own with a secret is kept: as private as it was.
    let hosts = "etc/containerd/certs.d/docker.io/hosts.toml";
    kit::write(&lab.path(hosts), b"# h3ader-s3cret\n");
    kit::mode(&lab.path(hosts), 0o600);
    lab.apply().exits(0);
    assert_private(&lab, 4);
    for (inside, secret) in [(hosts, SECRETS[0]), ("etc/containerd/nodebake-proxy.env", SECRETS[1])] {
        assert!(String::from_utf8(lab.read(inside)).unwrap().contains(secret), "{inside}");
    }

    // An edit by someone who loosened the mode on the way: what nodebake writes is private again.
    let edited = [lab.read(hosts), b"# edited\n".to_vec()].concat();
    fs::write(lab.path(hosts), edited).unwrap();
    lab.apply().exits(0);
    assert_private(&lab, 5);
    lab.remove().exits(0);
}

#[test]
fn secrets_are_never_printed() {
    let lab = secretive();
    let hosts = "etc/containerd/certs.d/docker.io/hosts.toml";
    assert_silent(lab.plan().exits(10));
    assert_silent(lab.apply().exits(0));
    assert_silent(lab.apply().exits(0));
    assert_silent(lab.verify().exits(0));
    for (inside, secret) in [(hosts, "h3ader-s3cret"), ("etc/containerd/nodebake-proxy.env", "pr0xy-s3cret")]
    {
        let text = String::from_utf8(lab.read(inside)).unwrap();
        fs::write(lab.path(inside), text.replace(secret, &format!("{secret}-2"))).unwrap();
    }
    assert_silent(lab.verify().exits(10));
    assert_silent(lab.plan().exits(10));
    assert_silent(lab.apply().exits(0));
    assert_silent(lab.remove().exits(0));
}

#[test]
fn secrets_are_not_in_error_messages() {
    let lab = Lab::new();
    let mut wrong = Vec::new();
    for yaml in [
        "containerd: {proxy: {http: [\"http://baker:pr0xy-s3cret@proxy\"]}}\n",
        "containerd: {proxy: {http: \"http://baker:pr0xy-s3cret@proxy\\n\"}}\n",
        "containerd: {proxy: {htp: \"http://baker:pr0xy-s3cret@proxy\"}}\n",
        "containerd: {proxy: \"http://baker:pr0xy-s3cret@proxy\"}\n",
        "registries: {docker.io: {mirrors: [{url: \"https://baker:pr0xy-s3cret@m\"}]}}\n",
        "registries: {docker.io: {mirrors: [{url: \"https://baker:pr0xy-s3cret@\"}]}}\n",
        "registries: {docker.io: {mirrors: [{url: \"baker:pr0xy-s3cret@m\"}]}}\n",
        "registries: {docker.io: {mirrors: [\"https://baker:pr0xy-s3cret@m\"]}}\n",
        "registries: {docker.io: {mirrors: [{url: \"https://m\", headers: {Authorization: \"h3ader-s3cret\\n\"}}]}}\n",
        "registries: {docker.io: {mirrors: [{url: \"https://m\", headers: \"Authorization h3ader-s3cret\"}]}}\n",
        "registries: {docker.io: {mirrors: [{url: \"https://m\", headers: [h3ader-s3cret]}]}}\n",
        "registries: {docker.io: {mirrors: [{url: \"https://m\", headers: {a: {b: h3ader-s3cret}}}]}}\n",
    ] {
        fs::write(&lab.spec, yaml).unwrap();
        let run =
            run(lab.command(["apply", "--offline", "--root"]).arg(&lab.root).arg("--spec").arg(&lab.spec));
        run.exits(3).says("nodebake.yaml:1:");
        if !shown_secrets(&run).is_empty() {
            wrong.push(run.errors());
        }
    }
    assert!(wrong.is_empty(), "secrets are shown:\n{}", wrong.join(""));
}

/// At least `count` files hold a secret, and each is for root alone.
#[track_caller]
fn assert_private(lab: &Lab, count: usize) {
    let mut found = 0;
    for path in kit::paths(&lab.root).into_iter().filter(|path| path.symlink_metadata().unwrap().is_file()) {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        if SECRETS.iter().any(|secret| text.contains(secret)) {
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o600, "{} holds a secret with mode {mode:o}", path.display());
            found += 1;
        }
    }
    assert!(found >= count, "{found} files hold a secret, expected {count}\n{}", lab.tree());
}

#[track_caller]
fn assert_silent(run: &Run) {
    assert_eq!(shown_secrets(run), [""; 0], "{run}");
}

fn shown_secrets(run: &Run) -> Vec<&'static str> {
    SECRETS
        .into_iter()
        .filter(|secret| run.stdout.contains(secret) || run.errors().contains(secret))
        .collect()
}

// ---------------------------------------------------------------- judging

#[track_caller]
fn refuse_all(cases: &[Bad]) {
    let lab = Lab::new();
    let wrong: Vec<String> = cases.iter().filter_map(|case| refuse(&lab, case).err()).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn refuse(lab: &Lab, case: &Bad) -> Result<Run, String> {
    let run = refuse_text(lab, case.yaml)?;
    let place = format!("nodebake.yaml:{}", case.at);
    if !run.errors().contains(&place) {
        return Err(format!("does not point at {place} of\n{}\n{run}", case.yaml));
    }
    match case.says.iter().find(|needle| !run.errors().contains(*needle)) {
        Some(needle) => Err(format!("lacks `{needle}` about\n{}\n{run}", case.yaml)),
        None => Ok(run),
    }
}

#[track_caller]
fn must_refuse(lab: &Lab, yaml: &str) -> Run {
    refuse_text(lab, yaml).unwrap_or_else(|why| panic!("{why}"))
}

/// As [`refuse_flood`], and the message has line and column and the user's words.
fn refuse_text(lab: &Lab, yaml: &str) -> Result<Run, String> {
    let outcome = refuse_flood(lab, yaml)?;
    let errors = outcome.errors();
    let complaint = if !points_at_a_place(&errors) {
        "names no line and column"
    } else if ["struct ", "serde", "deserializ"].iter().any(|word| errors.contains(word)) {
        "speaks of the program, not of the file"
    } else {
        return Ok(outcome);
    };
    Err(format!("{complaint}: {yaml}\n{outcome}"))
}

/// Exit 3 within a second, a printable message that names the file, and a root as it was.
fn refuse_flood(lab: &Lab, yaml: &str) -> Result<Run, String> {
    let before = lab.tree();
    fs::write(&lab.spec, yaml).unwrap();
    // Whatever is accepted by mistake must not look for upstream.
    let mut command = lab.command(["apply", "--offline", "--root"]);
    command.arg(&lab.root).arg("--spec").arg(&lab.spec);
    let mut outcome = run(&mut command);
    // The tests run side by side: two more chances to be fast, none to be right.
    for _ in 0..2 {
        if outcome.took > Duration::from_secs(1) {
            outcome = run(&mut command);
        }
    }
    let complaint = if outcome.code != Some(3) {
        "accepted or misjudged"
    } else if outcome.took > Duration::from_secs(1) {
        "slow"
    } else if !outcome.errors().contains("nodebake.yaml") {
        "names no file"
    } else if !outcome.stdout.is_empty() {
        "an error on stdout"
    } else {
        outcome.is_printable();
        kit::assert_same("the root", &before, &lab.tree());
        return Ok(outcome);
    };
    Err(format!("{complaint}: {yaml:.300}\n{outcome}"))
}

/// `nodebake.yaml:LINE:COLUMN:` is in the message.
fn points_at_a_place(errors: &str) -> bool {
    let Some((_, rest)) = errors.split_once("nodebake.yaml:") else { return false };
    let mut parts = rest.split(':').map(str::parse::<u32>);
    matches!((parts.next(), parts.next()), (Some(Ok(_)), Some(Ok(_))))
}

fn run_plan(lab: &Lab) -> Run {
    let mut command = lab.command(["plan", "--root"]);
    run(command.arg(&lab.root).arg("--spec").arg(&lab.spec))
}

/// Tries every hostile value behind `prefix` in the place of VALUE: either it is refused with 3, the place and an
/// unchanged root, or `check` finds exactly that value in what was written.
#[track_caller]
fn hostile(yaml: &str, prefix: &str, check: impl Fn(&Lab, String)) {
    if !python() {
        return skip("python3 with tomllib is not installed");
    }
    let mut accepted = 0;
    let mut lab = Lab::new();
    for value in std::iter::once("plain").chain(HOSTILE) {
        let value = format!("{prefix}{value}");
        lab.spec_also(&format!("{}\n", yaml.replace("VALUE", &serde_json::to_string(&value).unwrap())));
        let before = lab.tree();
        let run = lab.apply();
        match run.code {
            Some(0) => {
                check(&lab, value);
                accepted += 1;
            }
            Some(3) => {
                run.says("nodebake.yaml:").is_printable();
                kit::assert_same("the root", &before, &lab.tree());
            }
            _ => panic!("neither accepted nor refused: {value:?}\n{run}"),
        }
    }
    assert!(accepted > 0, "not even the plain value is accepted");
}

// ---------------------------------------------------------------- reading back, without nodebake's libraries

/// Whether there is a Python that reads TOML.
fn python() -> bool {
    static PYTHON: OnceLock<bool> = OnceLock::new();
    *PYTHON.get_or_init(|| works(["python3", "-c", "import tomllib"]))
}

fn toml(file: &Path) -> Value {
    try_toml(file).unwrap()
}

/// The TOML file as Python reads it; None where there is no such Python.
fn try_toml(file: &Path) -> Option<Value> {
    if !python() {
        return None;
    }
    let program = "import json, sys, tomllib; json.dump(tomllib.load(open(sys.argv[1], 'rb')), sys.stdout)";
    let output = std::process::Command::new("python3").args(["-c", program]).arg(file).output().unwrap();
    assert!(
        output.status.success(),
        "{}: {}\n{}",
        file.display(),
        String::from_utf8_lossy(&output.stderr),
        fs::read_to_string(file).unwrap()
    );
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().flat_map(strings).collect(),
        Value::Object(map) => map.values().flat_map(strings).collect(),
        _ => Vec::new(),
    }
}
