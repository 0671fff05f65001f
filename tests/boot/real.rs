//! Real containerd, runc and CNI plugins of several generations, baked into real Debian roots, then asked and
//! started on this kernel. Needs `tests/lab/prepare` and `make dist`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::kit::command::{errors, expect, run, text};
use crate::kit::lab::{repository, static_binary};
use crate::kit::node::{Node, artifacts, versions};
use crate::kit::runnable::version;
use crate::kit::{NODEBAKE, assert_same, sha256, times, tree};

/// A generation of containerd and a root that its runc runs on.
struct Generation {
    name: &'static str,
    root: &'static str,
    sandbox: &'static str,
}

const GENERATIONS: [Generation; 3] = [
    Generation { name: "1.6", root: "bookworm", sandbox: "registry.k8s.io/pause:3.6" },
    Generation { name: "1.7", root: "trixie", sandbox: "registry.k8s.io/pause:3.8" },
    Generation { name: "2.1", root: "trixie", sandbox: "registry.k8s.io/pause:3.10" },
];

/// The settings that decide whether a node works, by the names of the configuration's version.
fn assert_effective(config: &toml_edit::DocumentMut, sandbox: &str) {
    let plugins = &config["plugins"];
    let v2 = plugins.get("io.containerd.grpc.v1.cri").filter(|cri| cri.get("sandbox_image").is_some());
    let (image, runtime, registry, bin) = match v2 {
        Some(cri) => (cri["sandbox_image"].as_str(), cri, cri, cri["cni"]["bin_dir"].as_str()),
        None => {
            let (images, runtime) =
                (&plugins["io.containerd.cri.v1.images"], &plugins["io.containerd.cri.v1.runtime"]);
            let bins = runtime["cni"]["bin_dirs"].as_array().unwrap();
            assert_eq!(bins.len(), 1, "{bins}");
            (images["pinned_images"]["sandbox"].as_str(), runtime, images, bins.get(0).unwrap().as_str())
        }
    };
    assert_eq!(image, Some(sandbox));
    assert_eq!(runtime["containerd"]["runtimes"]["runc"]["options"]["SystemdCgroup"].as_bool(), Some(true));
    assert_eq!(registry["registry"]["config_path"].as_str(), Some("/etc/containerd/certs.d"));
    assert_eq!(bin, Some("/opt/cni/bin"));
    assert_eq!(runtime["cni"]["conf_dir"].as_str(), Some("/etc/cni/net.d"));
}

// --- each generation ----------------------------------------------------------------------------

/// Bakes, asks the staged containerd what it makes of the file, starts it and runs a container.
fn generation_works(index: usize, base: &str) {
    let Generation { name, root, sandbox } = &GENERATIONS[index];
    let node = Node::new(root, name, &format!("containerd: {{config: {{base: {base}}}}}\n"));
    node.apply();
    assert_effective(&node.effective_config(), sandbox);
    let verified = text(expect(0, node.nodebake("verify", &[])));
    assert!(!verified.contains("not checked"), "{verified}");
    let told = node.on_node(
        "ctr version; echo ==; ctr plugins ls; echo ==; \
         ctr images import /lab/images/tiny.tar; ctr run --rm docker.io/library/tiny:1 t1",
    );
    let mut parts = told.split("==");
    let version = version(name, "containerd");
    let says = |line: &&str| line.trim_start().starts_with("Version:") && line.contains(&version);
    assert_eq!(parts.next().unwrap().lines().filter(says).count(), 2, "client and server: {told}");
    let cri: Vec<&str> = parts.next().unwrap().lines().filter(|line| line.contains("cri")).collect();
    assert!(
        !cri.is_empty() && cri.iter().all(|line| line.ends_with("ok") || line.contains(" ok ")),
        "{cri:?}"
    );
    assert!(parts.next().unwrap().contains("hello from tiny"), "{told}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn s6_containerd_1_6_takes_over_the_configuration_and_runs_a_container() {
    generation_works(0, "minimal");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn s6_containerd_1_7_takes_over_the_configuration_and_runs_a_container() {
    generation_works(1, "minimal");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn s6_containerd_2_1_takes_over_the_configuration_and_runs_a_container() {
    generation_works(2, "minimal");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn the_default_configuration_of_each_generation_is_patched() {
    (0..GENERATIONS.len()).for_each(|index| generation_works(index, "default"));
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_fragment_reaches_the_daemon() {
    let merge = "containerd:\n  config:\n    sandbox_image: registry.example/pause:1\n    merge: |\n      [plugins.\"io.containerd.cri.v1.runtime\"]\n      enable_selinux = true\n";
    let node = Node::new("trixie", "2.1", merge);
    node.apply();
    let config = node.effective_config();
    assert_eq!(config["plugins"]["io.containerd.cri.v1.runtime"]["enable_selinux"].as_bool(), Some(true));
    assert_effective(&config, "registry.example/pause:1");
}

// --- mirrors ------------------------------------------------------------------------------------

/// Pulls docker.io's nginx on a node whose only way out is a real registry on loopback.
fn pulls_through_the_mirror(scheme: &str, extra: &str, baked_mirror: bool) -> (Output, String) {
    let port = if scheme == "https" { 15443 } else { 15080 };
    let mirror =
        format!("registries: {{_default: {{mirrors: [{{url: '{scheme}://127.0.0.1:{port}'{extra}}}]}}}}\n");
    let node = Node::new("trixie", "2.1", if baked_mirror { &mirror } else { "" });
    let folder = node.folder.path();
    let lab = repository().join("tests/lab");
    expect(0, Command::new(lab.join("certificate")).arg(folder).output().unwrap());
    node.apply();
    fs::create_dir_all(node.path("/etc/containerd/certs.d")).unwrap();
    let mut registry = Command::new("unshare");
    registry.arg("--net").arg(lab.join("registry")).arg(folder.join("registry"));
    if scheme == "https" {
        registry.arg("--tls").arg(folder.join("server.pem")).arg(folder.join("server.key"));
    }
    let pull = "ctr -n k8s.io images pull --hosts-dir /etc/containerd/certs.d docker.io/library/nginx:alpine";
    registry.args(["--port", &port.to_string(), "--", "bash", "-c"]);
    registry.arg(
        r#""$0" --keep-net "$1" "$2" bash -ec "$3"; code=$?; cp "$REGISTRY_LOG" "$2/requests"; exit $code"#,
    );
    registry.arg(lab.join("node")).arg(node.root()).arg(folder.join("out")).arg(pull);
    let output = registry.output().unwrap();
    (output, fs::read_to_string(folder.join("out/requests")).unwrap_or_default())
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_pull_reaches_the_registry_only_because_of_the_baked_mirror() {
    let (output, requests) = pulls_through_the_mirror("http", "", true);
    expect(0, output);
    assert!(requests.contains("/v2/library/nginx/manifests/alpine?ns=docker.io"), "{requests}");
    let (output, requests) = pulls_through_the_mirror("http", "", false);
    assert_ne!(output.status.code(), Some(0), "without the mirror there is no way out");
    assert!(!requests.contains("/v2/library/nginx"), "{requests}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_pull_over_tls_trusts_the_ca_of_the_spec() {
    // The certificate is made beside the spec before apply reads it.
    let (output, requests) = pulls_through_the_mirror("https", ", ca: ca.pem", true);
    expect(0, output);
    assert!(requests.contains("/v2/library/nginx/manifests/alpine?ns=docker.io"), "{requests}");
    let (output, _) = pulls_through_the_mirror("https", "", true);
    assert_ne!(output.status.code(), Some(0), "an unknown authority is not trusted");
}

// --- systemd ------------------------------------------------------------------------------------

#[test]
#[ignore = "needs tests/lab/prepare"]
fn s7_systemd_agrees_that_the_service_is_enabled() {
    for Generation { name, root, .. } in &GENERATIONS {
        let node = Node::new(
            root,
            name,
            "containerd: {proxy: {http: 'http://u:p%40@proxy:3128'}, limit_nofile: 65536}\n",
        );
        node.apply();
        let root = format!("--root={}", node.root().display());
        assert_eq!(run("systemctl", &[&root, "is-enabled", "containerd.service"]).trim(), "enabled");
        fs::write(node.path("/usr/lib/systemd/system-preset/99-default.preset"), "disable *\n").unwrap();
        run("systemctl", &[&root, "preset-all"]);
        assert_eq!(run("systemctl", &[&root, "is-enabled", "containerd.service"]).trim(), "enabled");
        let analysed = expect(
            0,
            Command::new("systemd-analyze").args(["verify", &root, "containerd.service"]).output().unwrap(),
        );
        // An older systemd on the host knows not all keys of the root's other units.
        let ours: Vec<String> =
            errors(&analysed).lines().filter(|line| line.contains("containerd")).map(str::to_owned).collect();
        assert!(ours.is_empty(), "systemd-analyze verify: {ours:?}");
        expect(0, node.nodebake("verify", &[]));
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_masked_service_is_noticed() {
    let node = Node::new("bookworm", "1.6", "");
    std::os::unix::fs::symlink("/dev/null", node.path("/etc/systemd/system/containerd.service")).unwrap();
    assert!(errors(&node.apply()).contains("masked"));
    assert!(text(expect(10, node.nodebake("verify", &[]))).contains("masked"));
}

// --- again, elsewhere, back -----------------------------------------------------------------------

#[test]
#[ignore = "needs tests/lab/prepare"]
fn c13_a_second_run_changes_nothing_and_opens_no_socket() {
    let node = Node::new("trixie", "2.1", "");
    node.apply();
    let before = times(&node.root());
    let trace = node.folder.path().join("trace");
    let traced = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=network", "-o"])
        .arg(&trace)
        .args([NODEBAKE, "apply", "--root"])
        .arg(node.root())
        .args(["--spec", &node.spec()])
        .output()
        .unwrap();
    assert!(text(expect(0, traced)).contains("0 created, 0 changed, 0 removed"));
    let sockets = fs::read_to_string(&trace).unwrap();
    assert!(!sockets.contains("AF_INET"), "{sockets}");
    assert_eq!(times(&node.root()), before);
    // Also where the source is gone: what is in place is not fetched.
    let pinned = fs::read_to_string(node.spec()).unwrap();
    for gone in ["https://mirror.invalid", "/nonexistent"] {
        fs::write(node.spec(), pinned.replace(artifacts("2.1").to_str().unwrap(), gone)).unwrap();
        node.apply();
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn c14_two_bakes_of_the_same_inputs_are_byte_identical() {
    let [a, b] = [(); 2].map(|()| Node::new("trixie", "2.1", ""));
    a.apply();
    b.apply();
    assert_same("the second root", &tree(&a.root()), &tree(&b.root()));
    assert_eq!(
        fs::read(a.path("/var/lib/nodebake/receipt.json")).unwrap(),
        fs::read(b.path("/var/lib/nodebake/receipt.json")).unwrap()
    );
    assert_eq!(fs::metadata(a.path("/usr/local/bin/containerd")).unwrap().mtime(), 0);
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn an_arm64_root_is_baked_on_any_host() {
    let node = Node::new("trixie-arm64", "2.1-arm64", "");
    node.apply();
    for program in ["/usr/local/bin/containerd", "/usr/local/sbin/runc", "/opt/cni/bin/bridge"] {
        assert!(run("file", &["-b", node.path(program).to_str().unwrap()]).contains("aarch64"), "{program}");
    }
    let verified = text(expect(0, node.nodebake("verify", &[])));
    assert!(!verified.contains("not checked"), "{verified}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn c16_an_upgrade_and_back_converge_to_fresh_bakes() {
    let fresh = |generation| {
        let node = Node::new("trixie", generation, "");
        node.apply();
        tree(&node.root())
    };
    let node = Node::new("trixie", "1.7", "");
    let before = tree(&node.root());
    for generation in ["1.7", "2.1", "1.7"] {
        node.write_spec(generation, "");
        node.apply();
        assert_same(generation, &fresh(generation), &tree(&node.root()));
    }
    node.write_spec(
        "1.7",
        "registries: {docker.io: {strict: true, mirrors: [{url: 'https://m.example'}]}}\n",
    );
    node.apply();
    assert!(node.path("/etc/containerd/certs.d/docker.io/hosts.toml").is_file());
    node.write_spec("1.7", "");
    node.apply();
    assert_same("after a mirror more and less, the root", &fresh("1.7"), &tree(&node.root()));
    expect(0, node.nodebake("remove", &[]));
    assert_same("after remove, the root", &before, &tree(&node.root()));
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn one_decode_bakes_several_roots() {
    let [a, b] = [(); 2].map(|()| Node::new("bookworm", "1.6", ""));
    let root = b.root().display().to_string();
    expect(0, a.nodebake("apply", &["--root", &root]));
    assert_same("the second root", &tree(&a.root()), &tree(&b.root()));
}

/// Copies the artifacts of a generation, the CNI plugins under the name of a release that the catalogue does not have, so
/// that only the file of digests beside them vouches for them. containerd says itself which release it is.
fn copy_uncatalogued(generation: &'static str, to: &Path) {
    let plugins = version(generation, "cni-plugins");
    let renamed = |text: &str| text.replace(&format!("v{plugins}.tgz"), &format!("v{plugins}-1.tgz"));
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(artifacts(generation)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        match name.contains(".sha256") {
            true => fs::write(to.join(renamed(name)), renamed(&fs::read_to_string(&path).unwrap())).unwrap(),
            false => drop(fs::copy(&path, to.join(renamed(name))).unwrap()),
        }
    }
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn a_lock_from_upstreams_checksum_files_is_enough_to_bake() {
    let node = Node::new("bookworm", "1.6", "");
    let source = node.folder.path().join("releases");
    copy_uncatalogued("1.6", &source);
    let sha256 = versions("1.6")["containerd"]["sha256"].as_str().unwrap().to_owned();
    let containerd =
        format!("  containerd: {{version: {}, sha256: {sha256}}}\n", version("1.6", "containerd"));
    let bare: String = ["runc", "cni-plugins"]
        .iter()
        .map(|component| format!("  {component}: {{version: {}-1}}\n", version("1.6", component)))
        .collect();
    fs::write(node.spec(), format!("source: {}\ncomponents:\n{containerd}{bare}", source.display())).unwrap();
    let refused = expect(5, node.nodebake("apply", &[]));
    assert!(errors(&refused).contains("no digest for "), "{}", errors(&refused));
    let lock =
        Command::new(NODEBAKE).args(["lock", "--spec", &node.spec(), "--arch", "x86_64"]).output().unwrap();
    expect(0, lock);
    let lock = fs::read_to_string(node.folder.path().join("nodebake.lock")).unwrap();
    for component in ["containerd", "runc", "cni-plugins"] {
        assert!(lock.contains(versions("1.6")[component]["sha256"].as_str().unwrap()), "{component}\n{lock}");
    }
    node.apply();
}

// --- refused ------------------------------------------------------------------------------------

/// Bakes with an artifact of the lab changed: it is refused, and the root is as before.
fn refused(code: i32, generation: &'static str, root: &str, change: impl Fn(&Path)) -> String {
    let node = Node::new(root, generation, "");
    let source = node.folder.path().join("artifacts");
    run("cp", &["-r", artifacts(generation).to_str().unwrap(), source.to_str().unwrap()]);
    change(&source);
    let pinned = fs::read_to_string(node.spec())
        .unwrap()
        .replace(artifacts(generation).to_str().unwrap(), source.to_str().unwrap());
    fs::write(node.spec(), pinned).unwrap();
    let before = tree(&node.root());
    let output = expect(code, node.nodebake("apply", &[]));
    assert_same(&format!("the root, refused {generation},"), &before, &tree(&node.root()));
    errors(&output)
}

/// Puts `bytes` in place of an artifact and pins them: a digest that is trusted and wrong.
fn pin(source: &Path, file: &str, bytes: &[u8]) {
    fs::write(source.join(file), bytes).unwrap();
    let spec = source.parent().unwrap().join("nodebake.yaml");
    let text = fs::read_to_string(&spec).unwrap();
    let old =
        versions("2.1").as_object().unwrap().values().find(|v| v["file"] == file).unwrap()["sha256"].clone();
    fs::write(spec, text.replace(old.as_str().unwrap(), &sha256(bytes))).unwrap();
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn v1_one_flipped_bit_is_refused() {
    let file = format!("containerd-{}-linux-amd64.tar.gz", version("2.1", "containerd"));
    let said = refused(5, "2.1", "trixie", |source| {
        let mut bytes = fs::read(source.join(&file)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(source.join(&file), bytes).unwrap();
    });
    assert!(said.contains("sha256") && said.contains(&file), "{said}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn v3_another_architecture_is_refused() {
    let said = refused(5, "2.1", "trixie", |source| {
        let arm = fs::read(artifacts("2.1-arm64").join("runc.arm64")).unwrap();
        pin(source, "runc.amd64", &arm);
    });
    assert!(said.contains("arm64") && said.contains("runc"), "{said}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn v4_another_version_in_the_archive_is_refused() {
    let wrong = version("1.7", "containerd");
    let said = refused(5, "2.1", "trixie", |source| {
        let other = artifacts("1.7").join(format!("containerd-{wrong}-linux-amd64.tar.gz"));
        let file = format!("containerd-{}-linux-amd64.tar.gz", version("2.1", "containerd"));
        pin(source, &file, &fs::read(other).unwrap());
    });
    assert!(said.contains(&wrong), "{said}");
}

#[test]
#[ignore = "needs tests/lab/prepare"]
fn v5_a_runc_that_needs_a_newer_glibc_is_refused() {
    let said = refused(9, "2.1", "bookworm", |_| {});
    assert!(said.contains("needs glibc 2.38") && said.contains("2.36"), "{said}");
}

// --- killed ---------------------------------------------------------------------------------------

/// A real upgrade, killed at system calls spread over the whole run: no torn file, no enabled unit
/// without its binary, and the next run gives the tree of an undisturbed one.
#[test]
#[ignore = "needs tests/lab/prepare"]
fn c2_a_real_upgrade_survives_being_killed() {
    let node = Node::new("trixie", "1.7", "");
    node.apply();
    let old = tree(&node.root());
    node.write_spec("2.1", "");
    let calls = "pwrite64,fsync,linkat,renameat,renameat2,unlinkat,mkdirat,fchmod,fallocate";
    let traced = |inject: &str| {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", inject]);
        strace
            .args([NODEBAKE, "apply", "--root"])
            .arg(node.root())
            .args(["--spec", &node.spec()])
            .output()
            .unwrap()
    };
    expect(0, traced("trace=none"));
    let new = tree(&node.root());
    let mut kills = 0;
    let spread =
        [("pwrite64", 23), ("fsync", 1), ("linkat", 1), ("renameat", 3), ("unlinkat", 4), ("fchmod", 2)];
    for (call, step) in spread {
        for when in (1..).step_by(step) {
            node.write_spec("1.7", "");
            node.apply();
            node.write_spec("2.1", "");
            let killed = traced(&format!("inject={call}:signal=SIGKILL:when={when}"));
            if killed.status.success() {
                break;
            }
            kills += 1;
            assert_untorn(&node.root(), &old, &new);
            node.apply();
            assert_same(&format!("the root after {call} {when}"), &new, &tree(&node.root()));
        }
    }
    println!("c2: {kills} kills, all converged");
    assert!(kills > 25, "only {kills} runs were killed");
}

/// Every final path is as it was before or as it will be after.
fn assert_untorn(root: &Path, old: &str, new: &str) {
    for line in
        tree(root).lines().filter(|line| !line.contains("var/lib/nodebake") && !line.contains(".nodebake-"))
    {
        assert!(old.lines().chain(new.lines()).any(|known| known == line), "torn: {line}");
    }
    let unit = root.join("etc/systemd/system/multi-user.target.wants/containerd.service");
    if unit.symlink_metadata().is_ok() {
        assert!(
            root.join("usr/local/bin/containerd").is_file() && root.join("usr/local/sbin/runc").is_file()
        );
    }
}

// --- the static binary ----------------------------------------------------------------------------

#[test]
#[ignore = "needs make dist"]
fn r14_the_static_binary_bakes_in_an_empty_chroot() {
    let node = Node::new("trixie", "2.1", "");
    let image = node.root();
    let inside =
        fs::read_to_string(node.spec()).unwrap().replace(artifacts("2.1").to_str().unwrap(), "/artifacts");
    // Nothing but the binary, its input and a place for temporary files: no /proc, /dev or /etc.
    let chroot = node.folder.path().join("chroot");
    fs::create_dir_all(chroot.join("tmp")).unwrap();
    fs::write(chroot.join("nodebake.yaml"), inside).unwrap();
    run("cp", &["-r", artifacts("2.1").to_str().unwrap(), chroot.join("artifacts").to_str().unwrap()]);
    fs::copy(static_binary("x86_64-unknown-linux-musl"), chroot.join("nodebake")).unwrap();
    run("mv", &[image.to_str().unwrap(), chroot.join("image").to_str().unwrap()]);
    let bake = ["/nodebake", "apply", "--root", "/image", "--spec", "/nodebake.yaml"];
    expect(
        0,
        Command::new("chroot")
            .arg(&chroot)
            .args(bake)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .output()
            .unwrap(),
    );
    run("mv", &[chroot.join("image").to_str().unwrap(), image.to_str().unwrap()]);
    expect(0, node.nodebake("verify", &[]));
}

#[test]
#[ignore = "needs make dist"]
fn the_released_binary_is_static_and_small() {
    assert_static_and_small("x86_64-unknown-linux-musl", "x86-64");
}

fn assert_static_and_small(target: &str, machine: &str) {
    let binary = static_binary(target);
    let kind = run("file", &["-b", binary.to_str().unwrap()]);
    assert!(kind.contains(machine) && kind.contains("static"), "{kind}");
    let size = fs::metadata(&binary).unwrap().len();
    assert!(size < 16_000_000, "{target}: {size} bytes");
}

mod slow {
    use super::assert_static_and_small;

    #[test]
    #[ignore = "needs make dist"]
    fn the_released_binary_for_arm64_is_static_and_small() {
        assert_static_and_small("aarch64-unknown-linux-musl", "aarch64");
    }
}
