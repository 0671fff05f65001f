//! Private keys, passwords and tokens (rows K2 to K5): where they come in, who can read them on the node, and that
//! nothing that nodebake prints has one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::kit::certificates::pair;
use crate::kit::readers::environment_file;
use crate::kit::{self, Lab, Run, run};

/// What no output may have: every secret of these tests contains it.
const SECRET: &str = "s3cr3t";

/// A key that goes with the certificate, under `label`; the secret stands before it.
fn real_key(label: &str) -> String {
    format!("{SECRET}\n{}", pair().key.replace("PRIVATE KEY", label))
}

/// What is no key for any reader, and yet looks like one.
fn key(label: &str) -> String {
    format!("-----BEGIN {label}-----\n{SECRET}\n-----END {label}-----\n")
}

fn mode(lab: &Lab, inside: &str) -> u32 {
    lab.path(inside).metadata().unwrap().permissions().mode() & 0o7777
}

#[track_caller]
fn silent(run: &Run) {
    assert!(!run.stdout.contains(SECRET) && !run.errors().contains(SECRET), "a secret is shown\n{run}");
}

/// Runs every command that shows something, each way, before and after a bake; none shows a secret.
#[track_caller]
fn assert_silent(lab: &Lab) {
    let look = |lab: &Lab| {
        for words in [&["plan"][..], &["plan", "-v"], &["plan", "--json"]] {
            let mut command = lab.command([]);
            command.args(words).arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec);
            silent(run(&mut command).exits(0));
        }
    };
    look(lab);
    silent(lab.run(["apply", "-v", "--json"], &lab.root).exits(0));
    look(lab);
    silent(run(lab.command(["verify", "--json"]).arg("--root").arg(&lab.root)).exits(0));
    silent(run(lab.command(["goss"]).arg("--root").arg(&lab.root)).exits(0));
}

/// No file of the root that others can read has a secret.
#[track_caller]
fn assert_private(lab: &Lab) {
    let mut found = 0;
    for path in kit::paths(&lab.root).into_iter().filter(|path| path.symlink_metadata().unwrap().is_file()) {
        if String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(SECRET) {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600, "{}", path.display());
            found += 1;
        }
    }
    assert!(found > 0, "no file has the secret\n{}", lab.tree());
}

// ---------------------------------------------------------------- K2: private keys

#[test]
fn k2_an_authority_with_a_private_key_is_refused() {
    let mut lab = Lab::new();
    lab.spec_also("registries: {docker.io: {mirrors: [{url: \"https://m\", ca: ca.pem}]}}\n");
    let before = lab.tree();
    for (label, text) in [
        ("PRIVATE KEY", key("PRIVATE KEY")),
        ("RSA PRIVATE KEY", format!("{}{}", pair().certificate, key("RSA PRIVATE KEY"))),
        ("EC PRIVATE KEY", format!("junk{}", key("EC PRIVATE KEY"))),
        ("ENCRYPTED PRIVATE KEY", key("ENCRYPTED PRIVATE KEY").replace('\n', "\r\n")),
        ("OPENSSH PRIVATE KEY", key("OPENSSH PRIVATE KEY").replace('\n', "\r")),
        ("PRIVATE KEY", key("private key").to_lowercase()),
        ("PRIVATE KEY", format!("Bag Attributes\n    friendlyName: x\n{}", key("FOO PRIVATE KEY"))),
    ] {
        fs::write(lab.dir.join("ca.pem"), text).unwrap();
        for command in ["plan", "apply"] {
            let run = lab.run([command], &lab.root);
            silent(run.exits(3).says("ca.pem").says(label).says("docker.io").says("help:"));
        }
        kit::assert_same("the root", &before, &lab.tree());
    }
    // A key in DER is no text at all, or too short to be noticed by that.
    let ed25519 =
        [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20][..], &[b'k'; 32]].concat();
    fs::write(lab.dir.join("ca.pem"), ed25519).unwrap();
    lab.plan().exits(3).says("ca.pem");
}

#[test]
fn k2_a_certificate_with_its_key_is_for_root_alone() {
    let mut lab = Lab::new();
    lab.spec_also(
        "registries: {docker.io: {mirrors: [{url: \"https://m\", client: [[node.pem, node.key], both.pem, [own.pem, own.pem]]}]}}\n",
    );
    let certificate = &pair().certificate;
    fs::write(lab.dir.join("node.pem"), certificate).unwrap();
    fs::write(lab.dir.join("node.key"), real_key("EC PRIVATE KEY")).unwrap();
    fs::write(lab.dir.join("both.pem"), format!("{}{certificate}", real_key("PRIVATE KEY"))).unwrap();
    fs::write(lab.dir.join("own.pem"), format!("{certificate}{}", real_key("RSA PRIVATE KEY"))).unwrap();
    assert_silent(&lab);
    assert_private(&lab);
    let beside = |name: &str| format!("etc/containerd/certs.d/docker.io/{name}");
    assert_eq!(mode(&lab, &beside("node.pem")), 0o644);

    // The pair of a certificate, in which somebody has left the key.
    fs::write(lab.dir.join("node.pem"), format!("{certificate}{}", real_key("PRIVATE KEY"))).unwrap();
    assert_silent(&lab);
    assert_eq!(mode(&lab, &beside("node.pem")), 0o600);
    assert_private(&lab);
    lab.remove().exits(0);
}

/// A secret that lay open in the root before is not shown either, on its way out.
#[test]
fn k2_k3_what_is_replaced_is_not_shown() {
    let mut lab = Lab::new();
    lab.spec_also("registries: {docker.io: {mirrors: [{url: \"https://m\", ca: ca.pem}]}}\n");
    fs::write(lab.dir.join("ca.pem"), &pair().certificate).unwrap();
    let certs = "etc/containerd/certs.d/docker.io";
    kit::write(&lab.path(&format!("{certs}/ca.pem")), key("EC PRIVATE KEY").as_bytes());
    let hosts = format!("[host.\"https://m\".header]\nX-Node = [\"{SECRET}\"]\n");
    kit::write(&lab.path(&format!("{certs}/hosts.toml")), hosts.as_bytes());
    let config = format!("[a.\"registry\".auth]\n  password = \"{SECRET}\"\n");
    kit::write(&lab.path("etc/containerd/config.toml"), config.as_bytes());
    let drop_in = format!("[Service]\nEnvironment=\"HTTP_PROXY=http://u:{SECRET}@proxy\"\n");
    kit::write(&lab.path("etc/systemd/system/containerd.service.d/10-nodebake.conf"), drop_in.as_bytes());
    assert_silent(&lab);
}

// ---------------------------------------------------------------- K3: passwords, tokens, URLs

#[test]
fn k3_a_password_in_merge_is_for_root_alone() {
    let mut lab = Lab::new();
    let registry = "plugins.\"io.containerd.cri.v1.images\".registry";
    for merge in [
        format!("[{registry}.configs.\"r.example\".auth]\nusername = \"u\"\npassword = \"{SECRET}\"\n"),
        format!("{registry}.configs.\"r.example\".auth.identitytoken = '{SECRET}'\n"),
        format!("[{registry}.configs]\n\"r.example\" = {{auth = {{auth = \"{SECRET}\"}}}}\n"),
        format!("[{registry}.configs.x.\"au\\u0074h\"]\n\"pass\\u0077ord\" = \"{SECRET}\"\n"),
        format!("[{registry}.headers]\nX-Node = [\n\"{SECRET}\"\n]\n"),
        format!("[stream_processors.x]\nenv = [\"API_TOKEN={SECRET}\"]\n"),
        format!("[proxy_plugins.x]\ntype = \"snapshot\"\naddress = \"https://u:{SECRET}@host/\"\n"),
        format!("[proxy_plugins.x]\ntype = \"snapshot\"\n# password = \"{SECRET}\"\naddress = \"a\"\n"),
        format!("[proxy_plugins.x]\ntype = \"snapshot\"\naddress = '''\n{}'''\n", key("EC PRIVATE KEY")),
    ] {
        lab.spec_also(&format!(
            "containerd: {{config: {{merge: {}}}}}\n",
            serde_json::to_string(&merge).unwrap()
        ));
        assert_silent(&lab);
        assert_private(&lab);
        assert_eq!(mode(&lab, "etc/containerd/config.toml"), 0o600, "{merge}");
    }
    lab.spec_also("");
    assert_silent(&lab);
    assert_eq!(mode(&lab, "etc/containerd/config.toml"), 0o644);
}

#[test]
fn k3_values_of_the_kernel_are_no_place_for_secrets_but_hidden() {
    let mut lab = Lab::new();
    lab.spec_also(&format!(
        "kernel: {{sysctl: {{kernel.core_pattern: \"|/bin/up --token={SECRET} %p\"}}}}\n"
    ));
    assert_silent(&lab);
    assert_private(&lab);
}

#[test]
fn k3_messages_have_no_secret() {
    let lab = Lab::new();
    let mut wrong = Vec::new();
    for yaml in [
        "registries: {docker.io: {mirrors: [{url: \"https://m/?token=s3cr3t\"}]}}",
        "registries: {docker.io: {mirrors: [{url: \"https://m/#s3cr3t\"}]}}",
        "registries: {docker.io: {mirrors: [{url: \"m/?token=s3cr3t\"}]}}",
        "registries: {docker.io: {mirrors: [{url: \"https://m:port/?token=s3cr3t\"}]}}",
        "registries: {docker.io: {mirrors: [{url: \"https:// m/?token=s3cr3t\"}]}}",
        "registries: {docker.io: {mirrors: [{url: \"https://u:s3cr3t%40m\"}]}}",
        "registries: {docker.io: {server: \"https://m/?token=s3cr3t\"}}",
        "registries: {docker.io: {server: [\"https://m/?token=s3cr3t\"]}}",
        "registries: {\"u:s3cr3t@m\": {}}",
        "registries: {\"https://u:s3cr3t@m\": {}}",
        "registries: {docker.io: {mirrors: [{url: \"https://m\", headers: 53, dial_timeout: \"u:s3cr3t@x\"}]}}",
        "registries: {docker.io: {mirrors: [{url: \"https://m\", headers: {a: [s3cr3t]}}]}}",
        "registries: {docker.io: {mirrors: [{url: \"https://m\", client: {password: s3cr3t}}]}}",
        "registries: {docker.io: {mirrors: [{url: \"https://m\", capabilities: \"https://u:s3cr3t@m\"}]}}",
        "registries: {docker.io: {mirrors: [{url: \"https://m\", capabilities: [\"https://u:s3cr3t@m\"]}]}}",
        "containerd: {proxy: s3cr3t}",
        "containerd: {proxy: {no_proxy: \"http://u:s3cr3t@proxy\\n\"}}",
        "containerd: {proxy: {no_proxy: \"10.0.0.0/8,http://u:s3cr3t@proxy\"}}",
        "containerd: {proxy: {no_proxy: \"u:s3cr3t@proxy\"}}",
        "containerd: {proxy: {http: \"http://proxy/?token=s3cr3t\"}}",
        "containerd: {proxy: {http: \"http://u:s3cr3t%@proxy\"}}",
        "containerd: {proxy: {http: \"http://u:s3cr3t#x@proxy\"}}",
        "containerd: {proxy: {no_proxy: [\"http://u:s3cr3t@proxy\"]}}",
        "containerd: {limit_nofile: \"http://u:s3cr3t@proxy\"}",
        "containerd: {install: \"http://u:s3cr3t@proxy\"}",
        "containerd: {config: {merge: {password: s3cr3t}}}",
        "containerd: {config: {merge: \"password = s3cr3t\"}}",
        "containerd: {config: {merge: \"password = \\\"s3cr3t\"}}",
        "containerd: {config: {merge: \"[a]\\npassword = \\\"s3cr3t\\\"\\npassword = \\\"s3cr3t\\\"\"}}",
        "containerd: {config: {registry_config_path: \"https://u:s3cr3t@m\"}}",
        "containerd: {install: package, package: {repository: \"https://u:s3cr3t@m\"}}",
        "containerd: {install: package, package: {repository: {url: \"https://m/?t=s3cr3t\"}}}",
        "containerd: {install: package, package: {repository: {url: \"ftp://u:s3cr3t@m\"}}}",
        "containerd: {install: package, package: {version: \"https://u:s3cr3t@m\"}}",
        "components: {runc: \"https://u:s3cr3t@m/runc?t=s3cr3t\"}",
        "components: {runc: {version: \"https://u:s3cr3t@m\"}}",
        "components: {runc: {url: [\"https://u:s3cr3t@m\"]}}",
        "components: {runc: {sha256: \"https://u:s3cr3t@m\"}}",
        "components: {\"https://u:s3cr3t@m\": {}}",
        "components: {runc: {url: \"u:s3cr3t@m/runc\", sha256: 0000000000000000000000000000000000000000000000000000000000000000}}",
        "components: {runc: {url: \"https://u:s3c/s3cr3t@[m/runc?t=s3cr3t\", sha256: 0000000000000000000000000000000000000000000000000000000000000000}}",
        "arch: \"https://u:s3cr3t@m\"",
        "source: \"ftp://u:s3cr3t@m/?s3cr3t\"",
        "source: \"https://u:s3cr3t@[m/?s3cr3t\"",
        "source: {url: \"https://u:s3cr3t@m\"}",
        "kernel: {modules: [\"https://u:s3cr3t@m\"]}",
        "kernel: {sysctl: {\"https://u:s3cr3t@m\": 1}}",
        "images: \"https://u:s3cr3t@m\"",
    ] {
        fs::write(&lab.spec, format!("{yaml}\n")).unwrap();
        let run =
            run(lab.command(["apply", "--offline", "--root"]).arg(&lab.root).arg("--spec").arg(&lab.spec));
        if !matches!(run.code, Some(3..=5)) {
            wrong.push(format!("{yaml}: {run}"));
        }
        if run.errors().contains(SECRET) || run.stdout.contains(SECRET) {
            wrong.push(format!("{yaml}: {}", run.errors()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

// ---------------------------------------------------------------- K4: what others can't read

#[test]
fn k4_what_was_private_on_the_build_host_is_private_on_the_node() {
    let mut lab = Lab::new();
    lab.spec_also(
        "registries: {docker.io: {mirrors: [{url: \"https://m\", ca: ca.pem, client: [[c.pem, c.key]]}]}}\n",
    );
    kit::write(&lab.dir.join("private"), format!("{}# {SECRET}\n", pair().certificate).as_bytes());
    symlink("private", lab.dir.join("ca.pem")).unwrap();
    fs::write(lab.dir.join("c.pem"), &pair().certificate).unwrap();
    fs::write(lab.dir.join("c.key"), real_key("PRIVATE KEY")).unwrap();
    let ca = "etc/containerd/certs.d/docker.io/ca.pem";
    for (host, image) in [(0o600, 0o600), (0o400, 0o600), (0o640, 0o600), (0o644, 0o644), (0o444, 0o644)] {
        kit::mode(&lab.dir.join("private"), host);
        if image == 0o600 {
            assert_silent(&lab);
        }
        lab.apply().exits(0);
        assert_eq!(mode(&lab, ca), image, "{host:o}");
    }
}

// ---------------------------------------------------------------- K5: the proxy

const DROP_IN: &str = "etc/systemd/system/containerd.service.d/10-nodebake.conf";
const ENVIRONMENT: &str = "etc/containerd/nodebake-proxy.env";

#[test]
fn k5_credentials_of_a_proxy_are_in_a_file_that_systemd_does_not_show() {
    let mut lab = Lab::new();
    let password = format!("{SECRET}%20%5C%22'%60$HOME%20;%23%C3%A9");
    for (proxy, value) in [
        (
            format!("http: {}", serde_json::to_string(&format!("http://u:{password}@proxy:3128")).unwrap()),
            format!("HTTP_PROXY=http://u:{password}@proxy:3128"),
        ),
        (format!("https: \"http://{SECRET}@proxy\""), format!("HTTPS_PROXY=http://{SECRET}@proxy")),
    ] {
        lab.spec_also(&format!("containerd: {{proxy: {{{proxy}}}}}\n"));
        assert_silent(&lab);
        assert_private(&lab);
        assert_eq!(mode(&lab, DROP_IN), 0o644);
        let drop_in = String::from_utf8(lab.read(DROP_IN)).unwrap();
        assert!(drop_in.contains(&format!("EnvironmentFile=/{ENVIRONMENT}\n")), "{drop_in}");
        assert!(!drop_in.contains("Environment="), "{drop_in}");
        let text = String::from_utf8(lab.read(ENVIRONMENT)).unwrap();
        let (name, value) = value.split_once('=').unwrap();
        assert_eq!(environment_file(&text), [(name.to_owned(), value.to_owned())], "{text}");
    }
    lab.spec_also("containerd: {proxy: {http: \"http://proxy:3128\", no_proxy: .corp}}\n");
    lab.apply().exits(0);
    assert!(!lab.exists(ENVIRONMENT), "{}", lab.tree());
    let drop_in = String::from_utf8(lab.read(DROP_IN)).unwrap();
    assert!(drop_in.contains("Environment=\"HTTP_PROXY=http://proxy:3128\"\n"), "{drop_in}");
    lab.remove().exits(0);
}
