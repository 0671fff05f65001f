//! Whom containerd 1.6, 1.7 and 2.1 ask for an image: the mirrors of the spec and, where upstream would be, a listener
//! that says who came. Needs `tests/lab/prepare`.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::kit::command::{errors, expect, text};
use crate::kit::lab::repository;
use crate::kit::node::Node;

/// A registry of the spec, and what a pull from it does.
struct Case {
    /// Host of the registry; the listener is behind it.
    name: &'static str,
    /// Value of its key.
    registry: &'static str,
    /// A mirror gives the image.
    is_pulled: bool,
    /// Upstream is asked.
    asks_upstream: bool,
}

/// `http://127.0.0.1:15080` has the image, nobody listens at port 9.
const CASES: [Case; 10] = [
    case("open.example", "{mirrors: [{url: 'http://127.0.0.1:15080'}]}", true, false),
    case("open-dead.example", "{mirrors: [{url: 'http://127.0.0.1:9'}]}", false, true),
    case("strict-one.example", "{strict: true, mirrors: [{url: 'http://127.0.0.1:15080'}]}", true, false),
    case("strict-dead.example", "{strict: true, mirrors: [{url: 'http://127.0.0.1:9'}]}", false, false),
    case(
        "strict-two.example",
        "{strict: true, mirrors: [{url: 'http://127.0.0.1:9'}, {url: 'http://127.0.0.1:15080/v2', override_path: true}]}",
        true,
        false,
    ),
    case("strict-ipv6.example", "{strict: true, mirrors: [{url: 'http://[::1]:9'}]}", false, false),
    case(
        "strict-headers.example",
        "{strict: true, mirrors: [{url: 'http://127.0.0.1:15080', headers: {X-A.b: 'a \"b\" \\ c', X-Q: 'it''s \"q\"'}}]}",
        true,
        false,
    ),
    case("server.example", "{server: 'http://127.0.0.1:15080'}", true, false),
    case("server-capitals.example", "{server: 'HTTP://127.0.0.1:15080/'}", true, false),
    case("empty.example", "{}", false, true),
];

const fn case(name: &'static str, registry: &'static str, is_pulled: bool, asks_upstream: bool) -> Case {
    Case { name, registry, is_pulled, asks_upstream }
}

/// Pulls from every registry on a node of `generation`; returns those that gave the image, and those whose upstream was
/// asked.
fn pull(root: &str, generation: &'static str) -> (BTreeSet<String>, BTreeSet<String>) {
    let registries: String =
        CASES.iter().map(|case| format!("  {}: {}\n", case.name, case.registry)).collect();
    let node = Node::new(root, generation, &format!("registries:\n{registries}"));
    node.apply();
    expect(0, node.nodebake("verify", &[]));
    let hosts: String = CASES.iter().map(|case| format!("127.0.0.1 {}\n", case.name)).collect();
    fs::write(node.path("/etc/hosts"), format!("127.0.0.1 localhost\n{hosts}")).unwrap();
    let script: String = CASES
        .iter()
        .map(|case| {
            let image = format!("{}/library/nginx:alpine", case.name);
            format!(
                "ctr content fetch --hosts-dir /etc/containerd/certs.d {image} >/dev/null 2>&1 && echo {}\n",
                case.name
            )
        })
        .collect();
    let folder = node.folder.path();
    let lab = repository().join("tests/lab");
    let mut command = Command::new("unshare");
    command.arg("--net").arg(lab.join("upstream")).arg(folder.join("upstream.log"));
    command.arg(lab.join("registry")).arg(folder.join("registry")).args(["--port", "15080", "--"]);
    command.arg(lab.join("node")).arg("--keep-net").arg(node.root()).arg(folder.join("out"));
    let output = command.args(["bash", "-c", &format!("{script}true")]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    let lines = |text: String| text.lines().map(str::to_owned).collect();
    (lines(text(output)), lines(fs::read_to_string(folder.join("upstream.log")).unwrap()))
}

#[track_caller]
fn assert_asked(root: &str, generation: &'static str) {
    let (pulled, asked) = pull(root, generation);
    let named = |is: fn(&Case) -> bool| {
        CASES.iter().filter(|case| is(case)).map(|case| case.name.to_owned()).collect()
    };
    let (should_pull, should_ask): (BTreeSet<String>, BTreeSet<String>) =
        (named(|case| case.is_pulled), named(|case| case.asks_upstream));
    assert_eq!(
        (pulled, asked),
        (should_pull, should_ask),
        "containerd {generation}: pulled, and asked upstream"
    );
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn w2_containerd_1_6_asks_upstream_only_where_the_spec_lets_it() {
    assert_asked("bookworm", "1.6");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn w2_containerd_1_7_asks_upstream_only_where_the_spec_lets_it() {
    assert_asked("trixie", "1.7");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn w2_containerd_2_1_asks_upstream_only_where_the_spec_lets_it() {
    assert_asked("trixie", "2.1");
}

/// A file with an IPv6 literal in a table's name: what nodebake refuses for 1.x is what 1.x can't read.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn w2_an_ipv6_literal_that_1_x_can_not_read_is_refused_for_it() {
    let spec = "registries: {r.example: {mirrors: [{url: 'http://[::1]:9'}, {url: 'http://127.0.0.1:9'}]}}\n";
    for (root, generation) in [("bookworm", "1.6"), ("trixie", "1.7")] {
        let node = Node::new(root, generation, spec);
        let refused = expect(3, node.nodebake("plan", &[]));
        let said = errors(&refused);
        assert!(
            said.contains("http://[::1]:9") && said.contains("r.example") && said.contains("help:"),
            "{said}"
        );
    }
    Node::new("trixie", "2.1", spec).apply();
}
