//! config.toml as the installed containerd reads it (rows W1 and W9 to W11): whose its sockets are, whether the CRI is
//! loaded, and whether it finds the other files of the image. Nothing is run: any architecture is judged alike.

use crate::kit::{Component, Lab, containerd_members, gzip, tar, write};

/// A lab whose containerd is of `version`.
fn lab_of(version: &'static str) -> Lab {
    let mut lab = Lab::new();
    let file: &'static str = Box::leak(format!("containerd-{version}-linux-amd64.tar.gz").into_boxed_str());
    lab.ship(Component { name: "containerd", version, file }, &gzip(&tar(&containerd_members())));
    lab
}

fn merge(fragment: &str) -> String {
    format!("containerd: {{config: {{merge: {}}}}}\n", serde_json::to_string(fragment).unwrap())
}

/// Bakes the defaults and then changes the baked file: what an earlier nodebake, or somebody else, could have left.
#[track_caller]
fn found_in(version: &'static str, fragment: &str, says: &str) {
    let lab = lab_of(version);
    lab.apply().exits(0);
    lab.verify().exits(0);
    let path = "etc/containerd/config.toml";
    let text = String::from_utf8(lab.read(path)).unwrap();
    let keys: Vec<&str> = fragment.lines().take_while(|line| !line.starts_with('[')).collect();
    let tables = fragment.strip_prefix(&keys.join("\n")).unwrap();
    let version_line = text.lines().find(|line| line.starts_with("version")).unwrap();
    let text = text.replace(version_line, &format!("{version_line}\n{}", keys.join("\n")));
    std::fs::write(lab.path(path), format!("{text}\n{tables}\n")).unwrap();
    let run = lab.verify();
    run.exits(10).mentions("config ").mentions(says);
}

#[track_caller]
fn refused(version: &'static str, fragment: &str, says: &[&str]) {
    let mut lab = lab_of(version);
    lab.spec_also(&merge(fragment));
    let run = lab.plan();
    run.exits(3).says("containerd.config.merge").says("help:");
    for word in says {
        run.says(word);
    }
}

// ---------------------------------------------------------------- W1: sockets

#[test]
fn w1_the_default_configuration_gives_no_socket_away() {
    for version in ["1.7.24", "2.1.9", "2.3.4"] {
        let mut lab = lab_of(version);
        lab.spec_also("containerd: {config: {base: default}}\n");
        lab.apply().exits(0);
        let text = String::from_utf8(lab.read("etc/containerd/config.toml")).unwrap();
        let owners: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with("uid") || line.starts_with("gid"))
            .collect();
        assert!(
            owners.len() >= 4 && owners.iter().all(|line| line.ends_with("= 0")),
            "{version}: {owners:?}"
        );
        lab.verify().exits(0);
    }
}

#[test]
fn w1_a_socket_of_another_owner_is_refused_and_found() {
    for (version, fragment) in [
        ("1.7.24", "[grpc]\nuid = 1000"),
        ("2.1.9", "[ttrpc]\ngid = 65534"),
        ("2.1.9", "[debug]\naddress = '/run/debug.sock'\nuid = 65534"),
        ("2.3.4", "[plugins.'io.containerd.server.v1.grpc']\nuid = 65534"),
        ("2.3.4", "[plugins.'io.containerd.server.v1.ttrpc']\ngid = 1"),
    ] {
        refused(version, fragment, &["root on the node"]);
        found_in(version, fragment, "root on the node");
    }
}

// ---------------------------------------------------------------- W9: one fact in two places

#[test]
fn w9_a_fragment_that_leads_away_from_other_files_is_refused() {
    let mut lab = Lab::new();
    let away = merge(
        "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/registries.d'\n",
    );
    let strict = "registries: {docker.io: {strict: true, mirrors: [{url: 'https://m.example'}]}}\n";
    lab.spec_also(&format!("{away}{strict}"));
    lab.plan().exits(3).says("registries.d").says("registry_config_path");
    // Nothing depends on it then.
    lab.spec_also(&away);
    lab.apply().exits(0);
    lab.verify().exits(0);
    for (version, fragment) in [
        ("1.7.24", "[grpc]\naddress = '/run/k8s-containerd.sock'"),
        ("2.1.9", "grpc = {address = '/run/k8s-containerd.sock'}"),
        ("2.3.4", "[plugins.'io.containerd.server.v1.grpc']\naddress = '/run/k8s-containerd.sock'"),
    ] {
        refused(version, fragment, &["k8s-containerd.sock", "/run/containerd/containerd.sock"]);
    }
    refused(
        "2.1.9",
        "[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/usr/lib/cni']",
        &["/opt/cni/bin"],
    );
    refused(
        "1.7.24",
        "[plugins.'io.containerd.grpc.v1.cri'.cni]\nbin_dir = '/usr/lib/cni'",
        &["/opt/cni/bin"],
    );
    let mut lab = lab_of("2.1.9");
    lab.spec_also(&merge(
        "[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['/usr/lib/cni', '/opt/cni/bin/']",
    ));
    lab.apply().exits(0);
    lab.verify().exits(0);
}

#[test]
fn w9_what_leads_away_from_other_files_is_found() {
    found_in("2.1.9", "[grpc]\naddress = '/run/x.sock'", "/run/x.sock");
    let mut lab = Lab::new();
    lab.spec_also("registries: {docker.io: {strict: true, mirrors: [{url: 'https://m.example'}]}}\n");
    lab.apply().exits(0);
    let path = lab.path("etc/containerd/config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("certs.d", "registries.d")).unwrap();
    lab.verify().exits(10).mentions("registries.d").mentions("/etc/containerd/certs.d");
}

/// Directories that the configuration leads elsewhere are not made in their usual place.
#[test]
fn w9_directories_follow_the_configuration() {
    let mut lab = lab_of("2.1.9");
    lab.spec_also(&merge("root = '/data/containerd'\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nconf_dir = '/etc/cni/other.d'"));
    lab.apply().exits(0);
    assert!(!lab.exists("etc/cni/net.d") && !lab.exists("var/lib/containerd"), "{}", lab.tree());
    lab.verify().exits(0);
}

/// An older nodebake's hosts.toml, which containerd 1.7.24 throws away.
#[test]
fn w2_a_hosts_toml_that_the_installed_release_throws_away_is_found() {
    for (version, code) in [("1.6.39", 10), ("1.7.24", 10), ("2.1.9", 10)] {
        let mut lab = lab_of(version);
        lab.spec_also("registries: {docker.io: {strict: true, mirrors: [{url: 'https://m.example'}]}}\n");
        lab.apply().exits(0);
        lab.verify().exits(0);
        let path = lab.path("etc/containerd/certs.d/docker.io/hosts.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("[host]", "")).unwrap();
        let run = lab.verify();
        run.exits(code);
        assert_eq!(
            run.stdout.contains("ignores it and pulls from upstream"),
            version < "2",
            "{version}\n{run}"
        );
    }
}

// ---------------------------------------------------------------- W10: keys in the wrong place

#[test]
fn w10_a_key_in_another_releases_table_is_refused_with_the_right_one() {
    let cri = "plugins.'io.containerd.grpc.v1.cri'";
    for (version, fragment, place) in [
        ("2.1.9", format!("[{cri}]\nenable_selinux = true"), "io.containerd.cri.v1.runtime"),
        (
            "2.1.9",
            format!("[{cri}]\ndevice_ownership_from_security_context = true"),
            "io.containerd.cri.v1.runtime",
        ),
        ("2.1.9", format!("[{cri}]\nmax_concurrent_downloads = 10"), "io.containerd.cri.v1.images"),
        ("2.3.4", format!("[{cri}]\nsandbox_image = 'x'"), "pinned_images.sandbox"),
        ("2.1.9", format!("[{cri}.containerd]\nsnapshotter = 'native'"), "io.containerd.cri.v1.images"),
        (
            "2.1.9",
            "[plugins.'io.containerd.cri.v1.runtime'.registry]\nconfig_path = '/x'".to_owned(),
            "io.containerd.cri.v1.images",
        ),
        (
            "1.7.24",
            "[plugins.'io.containerd.cri.v1.runtime']\nenable_selinux = true".to_owned(),
            "io.containerd.grpc.v1.cri",
        ),
        ("2.3.4", "[grpc]\nmax_recv_message_size = 1".to_owned(), "io.containerd.server.v1.grpc"),
        ("2.3.4", "[metrics]\naddress = '127.0.0.1:1338'".to_owned(), "io.containerd.server.v1.metrics"),
        (
            "2.1.9",
            "[plugins.'io.containerd.server.v1.metrics']\naddress = '127.0.0.1:1338'".to_owned(),
            "`metrics`",
        ),
    ] {
        refused(version, &fragment, &["not read by this containerd", place]);
    }
    let mut lab = lab_of("2.1.9");
    lab.spec_also(&merge(&format!("[{cri}]\nstream_server_port = '10010'")));
    lab.apply().exits(0);
}

/// Nothing is run to find it, so that another architecture's root gets the same findings.
#[test]
fn w10_a_key_that_the_release_does_not_have_is_told_and_found() {
    for (version, table, key) in [
        ("2.1.9", "plugins.'io.containerd.cri.v1.runtime'", "enable_selinx"),
        ("1.7.24", "plugins.'io.containerd.grpc.v1.cri'", "enable_selinx"),
        ("2.3.4", "debug", "levle"),
    ] {
        let mut lab = lab_of(version);
        lab.spec_also(&merge(&format!("[{table}]\n{key} = true\n")));
        lab.apply().exits(0).says(key).says("has no effect");
        lab.verify().exits(10).mentions(key);
    }
}

// ---------------------------------------------------------------- W11: a CRI that does not load

#[test]
fn w11_every_configuration_requires_the_cri() {
    for version in ["1.6.39", "1.7.24", "2.0.0", "2.1.9", "2.3.4"] {
        for more in [
            "",
            "containerd: {config: {base: default}}\n",
            &merge("required_plugins = ['io.containerd.x.v1.y']"),
        ] {
            let mut lab = lab_of(version);
            lab.spec_also(more);
            lab.apply().exits(0);
            let text = String::from_utf8(lab.read("etc/containerd/config.toml")).unwrap();
            let line = text.lines().find(|line| line.starts_with("required_plugins")).unwrap_or_default();
            assert!(line.contains("\"io.containerd.grpc.v1.cri\""), "{version}: {text}");
        }
    }
}

#[test]
fn w11_what_keeps_the_cri_from_loading_is_refused_and_found() {
    let images = "plugins.'io.containerd.cri.v1.images'";
    let runtime = "plugins.'io.containerd.cri.v1.runtime'";
    let cri = "plugins.'io.containerd.grpc.v1.cri'";
    for (version, fragment, says) in [
        (
            "2.1.9",
            format!("[{images}.registry.mirrors.'docker.io']\nendpoint = ['https://m']"),
            "registry.mirrors",
        ),
        (
            "1.7.24",
            format!("[{cri}.registry.mirrors.'docker.io']\nendpoint = ['https://m']"),
            "registry.mirrors",
        ),
        (
            "1.7.24",
            format!("[{cri}.registry.configs.'r.example'.tls]\ninsecure_skip_verify = true"),
            "registry.configs",
        ),
        ("2.1.9", format!("[{runtime}.containerd]\ndefault_runtime_name = 'nvidia'"), "nvidia"),
        ("1.7.24", format!("[{cri}.containerd]\ndefault_runtime_name = 'crun'"), "crun"),
        ("2.1.9", format!("[{images}]\nsnapshotter = 'stargz'"), "stargz"),
        ("1.7.24", format!("[{cri}.containerd]\nsnapshotter = 'nydus'"), "nydus"),
        ("2.1.9", "disabled_plugins = ['io.containerd.cri.v1.images']\n".to_owned(), "disabled_plugins"),
        ("2.1.9", "disabled_plugins = ['zfs']\n".to_owned(), "version 1"),
    ] {
        refused(version, &fragment, &[says]);
        found_in(version, &fragment, says);
    }
}

// ---------------------------------------------------------------- W9: files that config.toml imports

/// They are read after nodebake's file: a bake warns of what they break, and verify finds it.
#[test]
fn w9_an_imported_file_that_breaks_the_configuration_is_told_and_found() {
    let runtime = "plugins.'io.containerd.cri.v1.runtime'";
    for (version, fragment, says) in [
        (
            "2.1.9",
            "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/other'\n"
                .to_owned(),
            "/other",
        ),
        (
            "2.1.9",
            format!("version = 3\n[{runtime}.containerd]\ndefault_runtime_name = 'nvidia'\n"),
            "nvidia",
        ),
        ("2.1.9", "version = 3\n[grpc]\ngid = 1000\n".to_owned(), "root on the node"),
        ("2.1.9", "version = 3\n[grpc\n".to_owned(), "does not start"),
        ("2.1.9", "version = 4\n".to_owned(), "does not start"),
        (
            "2.2.7",
            "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'x'\n".to_owned(),
            "dropped",
        ),
        ("2.3.4", "version = 5\n".to_owned(), "does not start"),
    ] {
        let mut lab = lab_of(version);
        lab.spec_also("registries: {docker.io: {strict: true, mirrors: [{url: 'https://m.example'}]}}\n");
        write(&lab.path("etc/containerd/conf.d/50-other.toml"), fragment.as_bytes());
        lab.apply().exits(0).says("50-other.toml").says(says);
        lab.verify().exits(10).mentions("50-other.toml").mentions(says);
    }
    let lab = lab_of("2.1.9");
    std::fs::create_dir_all(lab.path("etc/containerd/conf.d/.hidden.toml")).unwrap();
    lab.apply().exits(0).says(".hidden.toml");
    lab.verify().exits(10).mentions(".hidden.toml");
}

#[test]
fn w9_an_imported_file_that_adds_to_the_configuration_is_no_finding() {
    let runtime = "plugins.'io.containerd.cri.v1.runtime'.containerd";
    let nvidia = format!(
        "version = 3\n[{runtime}]\ndefault_runtime_name = 'nvidia'\n[{runtime}.runtimes.nvidia]\nruntime_type = 'io.containerd.runc.v2'\n"
    );
    for version in ["2.1.9", "2.2.7", "2.3.4"] {
        let lab = lab_of(version);
        write(&lab.path("etc/containerd/conf.d/99-nvidia.toml"), nvidia.as_bytes());
        write(&lab.path("etc/containerd/conf.d/README"), b"no TOML");
        let run = lab.apply();
        assert!(!run.exits(0).errors().contains("conf.d"), "{run}");
        lab.verify().exits(0);
    }
    // 1.x gets no `imports`.
    let lab = lab_of("1.7.24");
    write(&lab.path("etc/containerd/conf.d/50-other.toml"), b"[grpc]\nuid = 1\n");
    lab.apply().exits(0);
    lab.verify().exits(0);
}

/// A bake can't know what a later step brings; a verified root must have it.
#[test]
fn w11_a_file_that_the_configuration_names_and_the_root_lacks_is_found() {
    let mut lab = lab_of("2.1.9");
    lab.spec_also(
        "containerd: {config: {merge: \"[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\\nbase_runtime_spec = '/etc/spec.json'\\n\"}}\n",
    );
    lab.apply().exits(0);
    lab.verify().exits(10).mentions("base_runtime_spec").mentions("/etc/spec.json");
    write(&lab.path("etc/spec.json"), b"{}");
    lab.verify().exits(0);
}
