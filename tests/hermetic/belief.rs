//! What a root says of itself is input from a stranger: its receipt, its intent, what it keeps of
//! originals, and the mounts below it. Rows B1 to B6.

use std::fs;

use serde_json::{Value, json};

use crate::kit;
use crate::kit::{Lab, Run, assert_same, link, make_dir, mode, own, tree, write};

const STATE: &str = "var/lib/nodebake";
const RUNC: &str = "/usr/local/sbin/runc";
const PLUGIN: &str = "/opt/cni/bin/bridge";
const CONFIG: &str = "/etc/containerd/config.toml";
const HOSTS: &str = "/etc/containerd/certs.d/docker.io/hosts.toml";

// ---------------------------------------------------------------- B1: receipt and intent, field by field

/// A change of a JSON document, and the field that the refusal names.
type Forged = (&'static str, fn(&mut Value));

#[test]
fn b1_a_receipt_that_nodebake_could_not_have_written_is_refused() {
    let forged: &[Forged] = &[
        ("extra", |it| it["extra"] = json!(1)),
        ("arch", |it| it["arch"] = json!("x86_64")),
        ("arch", |it| it["arch"] = json!("")),
        ("artifacts.0.component", |it| it["artifacts"][0]["component"] = json!("sshd")),
        ("artifacts.0.component", |it| it["artifacts"][0]["component"] = json!("runc")),
        ("artifacts.0.build", |it| it["artifacts"][0]["build"] = json!("../sshd")),
        ("artifacts.0.version", |it| it["artifacts"][0]["version"] = json!("1.0.0; reboot")),
        ("artifacts.0.arch", |it| it["artifacts"][0]["arch"] = json!("pdp11")),
        ("artifacts.0.url", |it| it["artifacts"][0]["url"] = json!("https://u:p@host/file")),
        ("artifacts.0.url", |it| it["artifacts"][0]["url"] = json!("https://host/a b")),
        ("artifacts.0.url", |it| it["artifacts"][0]["url"] = json!("h".repeat(9000))),
        ("artifacts.1.component", |it| it["artifacts"][1] = it["artifacts"][0].clone()),
        ("size", |it| it["artifacts"][0]["size"] = json!(1)),
        ("packages.0.name", |it| it["packages"] = packages("--root=/")),
        ("packages.0.name", |it| it["packages"] = packages("a b")),
        ("packages.0.name", |it| it["packages"] = packages("")),
        ("packages.0.version", |it| {
            it["packages"] = json!([{"name": "a", "version": "-1", "architecture": "all"}])
        }),
        ("packages.0.architecture", |it| {
            it["packages"] = json!([{"name": "a", "version": "1", "architecture": "a/b"}]);
        }),
        ("directories", |it| it["directories"] = json!(["/dev/shm"])),
        ("directories", |it| it["directories"] = json!(["/var/lib/nodebake"])),
        ("directories", |it| it["directories"] = json!(["/var/lib/nodebake/original"])),
        ("directories", |it| it["directories"] = json!(["/run/lock"])),
        ("paths./dev/null", |it| it["paths"]["/dev/null"] = it["paths"][CONFIG].clone()),
        ("paths./dev", |it| it["paths"]["/dev"] = directory()),
        ("paths./proc/sys/kernel/core_pattern", |it| {
            it["paths"]["/proc/sys/kernel/core_pattern"] = it["paths"][CONFIG].clone();
        }),
        ("paths./etc/passwd", |it| it["paths"]["/etc/passwd"] = it["paths"][CONFIG].clone()),
        ("paths./etc/shadow", |it| it["paths"]["/etc/shadow"] = it["paths"][HOSTS].clone()),
        ("paths./usr/bin/sh", |it| it["paths"]["/usr/bin/sh"] = it["paths"][RUNC].clone()),
        ("paths./usr/bin/sh", |it| it["paths"]["/usr/bin/sh"] = it["paths"][HOSTS].clone()),
        ("paths./boot/grub/grub.cfg", |it| it["paths"]["/boot/grub/grub.cfg"] = it["paths"][HOSTS].clone()),
        ("paths./var/lib/nodebake/x/y", |it| {
            it["paths"]["/var/lib/nodebake/x/y"] = it["paths"][HOSTS].clone()
        }),
        ("paths./var/lib/nodebake/receipt.json", |it| {
            it["paths"]["/var/lib/nodebake/receipt.json"] = it["paths"][HOSTS].clone();
        }),
        ("paths./root/.ssh/authorized_keys", |it| {
            it["paths"]["/root/.ssh/authorized_keys"] = it["paths"][HOSTS].clone();
        }),
        ("paths./opt/cni/bin/.nodebake-bridge.tmp", |it| {
            let mut forged = it["paths"][PLUGIN].clone();
            forged["member"] = json!(".nodebake-bridge.tmp");
            it["paths"]["/opt/cni/bin/.nodebake-bridge.tmp"] = forged;
        }),
        ("paths./usr/local/sbin/runc.mode", |it| it["paths"][RUNC]["mode"] = json!("4755")),
        ("paths./usr/local/sbin/runc.mode", |it| it["paths"][RUNC]["mode"] = json!("0777")),
        ("paths./usr/local/sbin/runc.owner", |it| it["paths"][RUNC]["owner"] = json!([1000, 1000])),
        ("paths./usr/local/sbin/runc.component", |it| it["paths"][RUNC]["component"] = json!("containerd")),
        ("paths./usr/local/sbin/runc.component", |it| it["paths"][RUNC]["component"] = json!("sshd")),
        ("paths./usr/local/sbin/runc.artifact", |it| remove(it, RUNC, "artifact")),
        ("paths./usr/local/sbin/runc.member", |it| remove(it, RUNC, "member")),
        ("paths./usr/local/sbin/runc.artifact", |it| {
            it["paths"][RUNC]["artifact"] = it["paths"][PLUGIN]["artifact"].clone()
        }),
        ("paths./opt/cni/bin/bridge.member", |it| it["paths"][PLUGIN]["member"] = json!("ptp")),
        ("paths./opt/cni/bin/bridge.before", |it| {
            it["paths"][PLUGIN]["before"] = json!({"directory": ["0755", [0, 0]]})
        }),
        ("paths./etc/containerd/config.toml.mode", |it| it["paths"][CONFIG]["mode"] = json!("0666")),
        ("paths./etc/containerd/config.toml.member", |it| {
            it["paths"][CONFIG]["artifact"] = it["paths"][RUNC]["artifact"].clone();
        }),
        ("paths./etc/cni/net.d.before", |it| it["paths"]["/etc/cni/net.d"]["before"] = json!("saved")),
        ("four octal digits", |it| {
            it["paths"]["/etc/cni/net.d"]["before"] = json!({"directory": ["200777", [0, 0]]});
        }),
        ("paths./etc/cni/net.d.mode", |it| it["paths"]["/etc/cni/net.d"]["mode"] = json!("0777")),
        ("target", |it| {
            it["paths"]["/etc/systemd/system/multi-user.target.wants/containerd.service"]["target"] =
                json!("/tmp/evil.service");
        }),
        ("owner", |it| {
            it["paths"]["/etc/systemd/system/multi-user.target.wants/containerd.service"]["owner"] =
                json!([0, 0]);
        }),
        ("note", |it| it["paths"][CONFIG]["note"] = json!("x")),
        ("mode", |it| it["paths"][CONFIG]["mode"] = json!("+644")),
        ("package", |it| it["paths"][CONFIG]["type"] = json!("present")),
        ("package", |it| it["paths"]["/usr/bin/containerd"] = present("-x")),
        ("paths./usr/bin/sh", |it| it["paths"]["/usr/bin/sh"] = present("bash")),
    ];
    for (field, forge) in forged {
        let lab = with_a_registry();
        let text = forge_state(&lab, "receipt.json", "receipt.json", forge);
        let before = lab.tree();
        for command in ["plan", "apply", "verify", "remove"] {
            let run = command_on(&lab, command);
            run.exits(3).says("receipt.json").says(field).says("help:");
        }
        assert_same(&format!("the root with {text}"), &before, &lab.tree());
    }
}

#[test]
fn b1_an_intent_that_nodebake_could_not_have_written_is_refused() {
    let forged: &[Forged] = &[
        ("extra", |it| it["extra"] = json!(1)),
        ("paths./usr/local/sbin/runc.temporary", |it| it["paths"][RUNC]["temporary"] = json!("/dev/null")),
        ("paths./usr/local/sbin/runc.temporary", |it| {
            it["paths"][RUNC]["temporary"] = json!("/usr/local/sbin/runc");
        }),
        ("paths./usr/local/sbin/runc.temporary", |it| {
            it["paths"][RUNC]["temporary"] = json!("/opt/cni/bin/.nodebake-bridge.tmp");
        }),
        ("paths./usr/local/sbin/runc.temporary", |it| remove(it, RUNC, "temporary")),
        ("paths./usr/local/sbin/runc.temporary", |it| it["paths"][RUNC]["acts"] = json!(false)),
        ("paths./etc/cni/net.d.temporary", |it| {
            it["paths"]["/etc/cni/net.d"]["temporary"] = json!("/etc/cni/.nodebake-net.d.tmp");
        }),
        ("paths./dev/null", |it| it["paths"]["/dev/null"] = it["paths"][CONFIG].clone()),
        ("paths./usr/local/sbin/runc", |it| {
            it["paths"][RUNC] = json!({"old": null, "new": null, "acts": true});
        }),
        ("paths./usr/local/sbin/runc.new.mode", |it| it["paths"][RUNC]["new"]["mode"] = json!("6755")),
        ("paths./opt/cni/bin/bridge.new.artifact", |it| it["artifacts"] = json!([])),
        ("paths./usr/local/sbin/runc.old.mode", |it| {
            it["paths"][RUNC]["old"] = it["paths"][RUNC]["new"].clone();
            it["paths"][RUNC]["old"]["mode"] = json!("4755");
        }),
        ("paths./usr/local/sbin/runc.new.before", |it| {
            it["paths"][RUNC]["old"] = it["paths"][RUNC]["new"].clone();
            it["paths"][RUNC]["new"]["before"] = json!("saved");
        }),
        ("note", |it| it["paths"][RUNC]["note"] = json!(1)),
        ("placeholder", |it| it["placeholder"] = json!("/etc/passwd")),
        ("placeholder", |it| it["placeholder"] = json!("/dev/null")),
        ("packages.0.name", |it| it["packages"] = packages("--installroot=/")),
        ("directories", |it| it["directories"] = json!(["/dev/mqueue"])),
        ("arch", |it| it["arch"] = json!("vax")),
    ];
    for (field, forge) in forged {
        let lab = with_a_registry();
        let text = forge_state(&lab, "receipt.json", "pending.json", |it| {
            intend(it);
            forge(it);
        });
        let before = lab.tree();
        for command in ["apply", "verify", "remove"] {
            command_on(&lab, command).exits(3).says("pending.json").says(field).says("help:");
        }
        assert_same(&format!("the root with {text}"), &before, &lab.tree());
    }
}

/// What the forgeries start from is accepted: else every one of them would be refused for another reason.
#[test]
fn b1_what_nodebake_writes_is_accepted() {
    let lab = with_a_registry();
    forge_state(&lab, "receipt.json", "receipt.json", |_| ());
    for command in ["plan", "verify", "apply"] {
        command_on(&lab, command).exits(0);
    }
    forge_state(&lab, "receipt.json", "pending.json", intend);
    command_on(&lab, "apply").exits(0);
    lab.has_no_leftovers();
    command_on(&lab, "remove").exits(0);
}

/// A lab whose root has been baked with a registry, a client's key and a proxy with a password.
fn with_a_registry() -> Lab {
    let mut lab = Lab::new();
    lab.spec_also("registries: {docker.io: {mirrors: [{url: 'https://m.example'}]}}\n");
    lab.apply().exits(0);
    lab
}

fn command_on(lab: &Lab, command: &str) -> Run {
    match command {
        "plan" | "apply" => lab.run([command], &lab.root),
        _ => kit::run(lab.command([command]).arg("--root").arg(&lab.root)),
    }
}

/// Writes the state's file `to` as `forge` makes it from the file `from`, and returns its text.
fn forge_state(lab: &Lab, from: &str, to: &str, forge: impl Fn(&mut Value)) -> String {
    let state = lab.path(STATE);
    let mut document = serde_json::from_slice(&fs::read(state.join(from)).unwrap()).unwrap();
    forge(&mut document);
    let text = document.to_string();
    write(&state.join(to), text.as_bytes());
    text
}

/// Turns a receipt into the intent of the bake that has written it.
fn intend(it: &mut Value) {
    for (path, owned) in it["paths"].as_object_mut().unwrap() {
        let mut step = json!({"old": null, "new": owned.clone(), "acts": true});
        if owned["type"] != "directory" {
            let (above, name) = path.rsplit_once('/').unwrap();
            step["temporary"] = json!(format!("{above}/.nodebake-{name}.tmp"));
        }
        *owned = step;
    }
}

fn remove(it: &mut Value, path: &str, key: &str) {
    it["paths"][path].as_object_mut().unwrap().remove(key).unwrap();
}

fn packages(name: &str) -> Value {
    json!([{"name": name, "version": "1.7.24-1", "architecture": "amd64"}])
}

fn present(package: &str) -> Value {
    json!({"type": "present", "package": package, "component": "containerd"})
}

fn directory() -> Value {
    json!({"type": "directory", "mode": "0755", "component": "containerd"})
}

// ---------------------------------------------------------------- B2: a spec asks for no such path either

#[test]
fn b2_a_spec_can_not_ask_for_a_path_that_no_plan_has() {
    for (case, yaml) in [
        ("the state", "containerd: {config: {registry_config_path: /var/lib/nodebake}}\n"),
        ("below the state", "containerd: {config: {registry_config_path: /var/lib/nodebake/original/etc}}\n"),
        ("another spelling", "containerd: {config: {registry_config_path: /var/lib/../lib/nodebake}}\n"),
        ("two slashes", "containerd: {config: {registry_config_path: /var/lib//nodebake}}\n"),
        ("a slash at the end", "containerd: {config: {registry_config_path: /var/lib/nodebake/}}\n"),
        ("a dot", "containerd: {config: {registry_config_path: /var/lib/./nodebake}}\n"),
        ("no path", "containerd: {config: {registry_config_path: var/lib/nodebake}}\n"),
        ("a list", "containerd: {config: {registry_config_path: '/etc/certs:/var/lib/nodebake'}}\n"),
        (
            "nodebake as a registry",
            "containerd: {config: {registry_config_path: /var/lib}}\nregistries: {nodebake: {server: 'https://m.example'}}\n",
        ),
        ("the kernel's", "containerd: {config: {registry_config_path: /proc/sys}}\n"),
        ("devices", "containerd: {config: {registry_config_path: /dev}}\n"),
        ("emptied at boot", "containerd: {config: {registry_config_path: /run/certs}}\n"),
        ("emptied at boot, by a link", "containerd: {config: {registry_config_path: /var/run/certs}}\n"),
        (
            "programs",
            "containerd: {config: {registry_config_path: /usr}}\nregistries: {bin.example: {mirrors: [{url: 'https://m.example', ca: sh}]}}\n",
        ),
        ("boot", "containerd: {config: {registry_config_path: /boot/efi}}\n"),
        (
            "a temporary name",
            "registries: {a.example: {mirrors: [{url: 'https://m.example', ca: .nodebake-hosts.toml.tmp}]}}\n",
        ),
    ] {
        let mut lab = Lab::new();
        for file in ["sh", ".nodebake-hosts.toml.tmp"] {
            write(&lab.dir.join(file), b"-----BEGIN CERTIFICATE-----\n");
        }
        lab.spec_also(yaml);
        let before = lab.tree();
        for command in ["plan", "apply"] {
            let run = lab.run([command], &lab.root);
            assert!(run.code == Some(3), "{case}\n{run}");
            run.says("registr").says("nodebake.yaml");
        }
        assert_same(&format!("the root with {case}"), &before, &lab.tree());
    }
}

/// By a link in the root a path of the plan would lie among the state's files.
#[test]
fn b2_a_link_in_a_root_leads_no_file_of_the_plan_into_the_state() {
    for (case, path, target) in [
        ("the directory", "etc/containerd/certs.d/docker.io", "/var/lib/nodebake"),
        ("one above", "etc/containerd/certs.d", "/var/lib/nodebake"),
        ("below it", "etc/containerd", "../var/lib/nodebake/original/etc"),
    ] {
        let mut lab = Lab::new();
        lab.spec_also("registries: {docker.io: {mirrors: [{url: 'https://m.example'}]}}\n");
        make_dir(&lab.path("var/lib/nodebake/original/etc"));
        link(target, &lab.path(path));
        let run = lab.apply();
        assert!(run.code == Some(6), "{case}\n{run}");
        run.says("/var/lib/nodebake").says("help:");
    }
}

// ---------------------------------------------------------------- B3: mounts of the host below the root

/// Runs `command` on the lab's root while the directory `outside` is mounted at `place` below it.
fn with_outside_at(lab: &Lab, place: &str, command: &str) -> Run {
    with_outside_under(&[], lab, place, command)
}

/// [`with_outside_at`] with `wrapper` around nodebake.
fn with_outside_under(wrapper: &[String], lab: &Lab, place: &str, command: &str) -> Run {
    make_dir(&lab.path(place));
    let spec = if command == "apply" { format!("--spec {}", lab.spec.display()) } else { String::new() };
    let script = format!(
        "mount --bind {} {}; {} {} {command} --root {} {spec}",
        lab.dir.join("outside").display(),
        lab.path(place).display(),
        wrapper.join(" "),
        kit::NODEBAKE,
        lab.root.display()
    );
    kit::run(&mut lab.wrapped(["unshare", "-m", "sh", "-ec", &script]))
}

fn mounts_work() -> bool {
    let works = kit::works(["unshare", "-m", "sh", "-ec", "mount --bind /usr /mnt"]);
    if !works {
        kit::skip("no mount namespaces here");
    }
    works
}

/// Everything that a root can say to have files of the host taken away, changed or replaced.
#[test]
fn b3_files_of_the_host_below_the_root_stay_whatever_the_root_says() {
    if !mounts_work() {
        return;
    }
    type Prepare = fn(&Lab, &str);
    let cases: &[(&str, &str, Prepare)] = &[
        ("a receipt names them", "srv/host", |lab, digest| {
            forge_state(lab, "receipt.json", "receipt.json", |it| {
                let mut owned = it["paths"][HOSTS].clone();
                owned["sha256"] = json!(digest);
                it["paths"]["/srv/host/certs/docker.io/hosts.toml"] = owned;
                it["directories"] = json!(["/srv/host/certs/docker.io", "/srv/host/empty"]);
            });
        }),
        ("a receipt says that they were edited", "srv/host", |lab, _| {
            forge_state(lab, "receipt.json", "receipt.json", |it| {
                it["paths"]["/srv/host/certs/docker.io/hosts.toml"] = it["paths"][HOSTS].clone();
            });
        }),
        ("an original is to be put back", "srv/host", |lab, digest| {
            forge_state(lab, "receipt.json", "receipt.json", |it| {
                let mut owned = it["paths"][HOSTS].clone();
                owned["sha256"] = json!(digest);
                owned["before"] = json!("saved");
                it["paths"]["/srv/host/certs/docker.io/hosts.toml"] = owned;
            });
            write(&lab.path("var/lib/nodebake/original/srv/host/certs/docker.io/hosts.toml"), b"evil");
        }),
        ("an intent names them", "srv/host", |lab, digest| {
            forge_state(lab, "receipt.json", "pending.json", |it| {
                let mut owned = it["paths"][HOSTS].clone();
                owned["sha256"] = json!(digest);
                it["paths"] = json!({"/srv/host/certs/docker.io/hosts.toml": owned});
                it["directories"] = json!(["/srv/host/empty"]);
                intend(it);
            });
        }),
        ("a directory's mode is to be put back", "etc/cni/net.d", |lab, _| {
            forge_state(lab, "receipt.json", "receipt.json", |it| {
                it["paths"]["/etc/cni/net.d"]["before"] = json!({"directory": ["0777", [1000, 1000]]});
            });
        }),
        ("a plugin's directory is a link to them", "srv/host", |lab, digest| {
            fs::remove_dir_all(lab.path("opt/cni/bin")).unwrap();
            link("/srv/host/certs/docker.io", &lab.path("opt/cni/bin"));
            forge_state(lab, "receipt.json", "receipt.json", |it| {
                let mut owned = it["paths"][PLUGIN].clone();
                owned["sha256"] = json!(digest);
                owned["member"] = json!("hosts.toml");
                it["paths"]["/opt/cni/bin/hosts.toml"] = owned;
            });
        }),
        ("the kept originals are a link to them", "srv/host", |lab, _| {
            link("/srv/host", &lab.path("var/lib/nodebake/original"));
            // The host's file is at the same path, and equal.
            forge_state(lab, "receipt.json", "pending.json", |it| {
                let mut owned = it["paths"][CONFIG].clone();
                owned["before"] = json!("saved");
                it["paths"] = json!({CONFIG: owned});
                intend(it);
            });
            fs::remove_file(lab.path("var/lib/nodebake/receipt.json")).unwrap();
            write(&lab.path(CONFIG), b"# the host's own\n");
        }),
        ("the kept edits are a link to them", "srv/host", |lab, _| {
            link("/srv/host", &lab.path("var/lib/nodebake/edited"));
            write(&lab.path(CONFIG), b"# an edit\n");
        }),
        ("the kept originals are a mount of them", "var/lib/nodebake/original", |lab, digest| {
            forge_state(lab, "receipt.json", "receipt.json", |it| {
                it["paths"][CONFIG]["before"] = json!("saved");
                it["paths"][CONFIG]["sha256"] = json!(digest);
            });
        }),
        ("the state is a link to them", "srv/host", |lab, _| {
            let state = lab.path(STATE);
            kit::copy(&state, &lab.dir.join("state"));
            fs::remove_dir_all(&state).unwrap();
            link("/srv/host", &state);
        }),
    ];
    for (case, place, prepare) in cases {
        for words in ["remove", "apply"] {
            let lab = with_a_registry();
            let (outside, own_text) = (lab.dir.join("outside"), b"# the host's own\n");
            // At paths that a plan can have; their digest is no secret.
            for path in [
                "certs/docker.io/hosts.toml",
                "certs/docker.io/.nodebake-x.tmp",
                "etc/containerd/config.toml",
            ] {
                write(&outside.join(path), own_text);
            }
            make_dir(&outside.join("empty"));
            own(&outside.join("empty"), 12, 34);
            mode(&outside.join("empty"), 0o750);
            prepare(&lab, &kit::sha256(own_text));
            let (before, times) = (tree(&outside), kit::times(&outside));
            let run = with_outside_at(&lab, place, words);
            assert!(matches!(run.code, Some(0 | 6)), "{case}\n{run}");
            let after = tree(&outside);
            let lost: Vec<&str> =
                before.lines().filter(|line| !after.lines().any(|now| now == *line)).collect();
            assert!(lost.is_empty(), "{case}: {words} has changed {lost:?}\n{run}");
            // What a plan has there by a link is written; else nothing at all happens.
            if words == "remove" || !case.contains("plugin's directory") {
                assert_same(&format!("the host where {case}, after {words},"), &before, &after);
                assert_eq!(times, kit::times(&outside), "{case}: {words}\n{run}");
            }
            // What stays is named.
            if run.code == Some(0) && (case.contains("receipt names") || case.contains("intent names")) {
                run.says("/srv/host/certs/docker.io/hosts.toml").says("is on a mount that no bake uses");
            }
        }
    }
}

/// A link in a root to a mount such as /dev does not even lead a plan there.
#[test]
fn b3_a_link_to_a_mounted_dev_is_refused() {
    if !mounts_work() {
        return;
    }
    let lab = Lab::new();
    make_dir(&lab.dir.join("outside"));
    link("/dev", &lab.path("opt/cni/bin"));
    let before = lab.tree();
    let run = with_outside_at(&lab, "dev", "apply");
    run.exits(6).says("/opt/cni/bin").says("leads into `/dev`").says("help:");
    assert_eq!(kit::paths(&lab.dir.join("outside")).len(), 1, "{}", tree(&lab.dir));
    fs::remove_dir(lab.path("dev")).unwrap();
    assert_same("the root", &before, &lab.tree());
}

/// A node's own filesystem for containers gets its mode from the plan, and keeps it.
#[test]
fn b3_a_filesystem_for_containers_is_used() {
    if !mounts_work() {
        return;
    }
    let lab = Lab::new();
    make_dir(&lab.dir.join("outside"));
    with_outside_at(&lab, "var/lib/containerd", "apply").exits(0);
    assert!(tree(&lab.dir).contains("drwx------ root:root outside"), "{}", tree(&lab.dir));
    with_outside_at(&lab, "var/lib/containerd", "apply").exits(0).mentions("0 created, 0 changed, 0 removed");
    let run = with_outside_at(&lab, "var/lib/containerd", "remove");
    run.exits(0).says("/var/lib/containerd is on a mount that no bake uses, and is kept");
}

/// A killed bake is got over on a mount that only the spec has paths on: what was there before the first bake, and that
/// nothing was, is still known.
#[test]
fn b3_a_killed_bake_is_got_over_on_a_mount_of_the_spec() {
    if !mounts_work() || !kit::strace_works() {
        return;
    }
    let mut kills = 0;
    for (call, theirs) in (1..60).flat_map(|call| [(call, Some("theirs\n")), (call, None)]) {
        let mut lab = Lab::new();
        lab.spec_also(
            "containerd: {config: {registry_config_path: /srv/certs}}\nregistries: {docker.io: {mirrors: [{url: 'https://m.example'}]}}\n",
        );
        make_dir(&lab.dir.join("outside"));
        let hosts = lab.dir.join("outside/docker.io/hosts.toml");
        if let Some(theirs) = theirs {
            write(&hosts, theirs.as_bytes());
        }
        let kill = kit::strace([&format!("inject=renameat,renameat2:signal=SIGKILL:when={call}")]);
        if with_outside_under(&kill, &lab, "srv/certs", "apply").code == Some(0) {
            break;
        }
        kills += 1;
        with_outside_at(&lab, "srv/certs", "apply").exits(0);
        let receipt: Value = serde_json::from_slice(&lab.read("var/lib/nodebake/receipt.json")).unwrap();
        let before = receipt["paths"]["/srv/certs/docker.io/hosts.toml"]["before"].as_str();
        assert_eq!(before, theirs.map(|_| "saved"), "killed at call {call}");
        let original = lab.path("var/lib/nodebake/original/srv/certs/docker.io/hosts.toml");
        assert_eq!(fs::read_to_string(original).ok().as_deref(), theirs, "killed at call {call}");
        assert!(fs::read_to_string(&hosts).unwrap().contains("m.example"), "killed at call {call}");
        let left = kit::paths(&lab.dir.join("outside"));
        assert!(!left.iter().any(|path| path.to_string_lossy().contains(".nodebake-")), "{left:?}");
    }
    assert!(kills > 20, "the bake was killed at {kills} calls only");
}

// ---------------------------------------------------------------- B4: the state's directory is a link

#[test]
fn b4_a_link_in_place_of_the_state_outlives_remove() {
    for (place, target) in [
        ("var/lib/nodebake", "/srv/state"),
        ("var/lib/nodebake", "../../srv/state"),
        ("var/lib", "/srv/state"),
    ] {
        let lab = Lab::new();
        make_dir(&lab.path("srv/state"));
        let _ = fs::remove_dir_all(lab.path(place));
        link(target, &lab.path(place));
        let before = lab.tree();
        for _ in 0..2 {
            lab.apply().exits(0);
            lab.verify().exits(0);
            lab.remove().exits(0);
            assert_same(&format!("the root with {place} -> {target}"), &before, &lab.tree());
        }
    }
}

/// A receipt that says that nodebake has made the link's directory changes nothing.
#[test]
fn b4_a_link_that_a_receipt_calls_a_directory_outlives_remove() {
    let lab = Lab::new();
    make_dir(&lab.path("srv/state"));
    fs::remove_dir_all(lab.path("var/lib")).unwrap();
    link("../srv/state", &lab.path("var/lib"));
    let before = lab.tree();
    lab.apply().exits(0);
    forge_state(&lab, "receipt.json", "receipt.json", |it| {
        it["directories"].as_array_mut().unwrap().extend([json!("/var"), json!("/var/lib")]);
    });
    lab.remove().exits(0);
    assert_same("the root", &before, &lab.tree());
    lab.apply().exits(0);
}

/// What an earlier version has left of such a link.
#[test]
fn b4_a_left_over_link_does_not_keep_a_root_from_being_baked() {
    let lab = Lab::new();
    make_dir(&lab.path("srv/state"));
    link("/srv/state", &lab.path("var/lib/.nodebake-state"));
    lab.apply().exits(0);
    lab.verify().exits(0);
    lab.remove().exits(0);
    lab.apply().exits(0);
}

// ---------------------------------------------------------------- B5: what is in place is judged by the lock

/// The trojan, and the receipt that calls it the member of the pinned artifact.
fn with_a_trojan(lab: &Lab, path: &str) -> Vec<u8> {
    let trojan = kit::elf(kit::Machine::X86_64, b"trojan");
    kit::executable(&lab.path(path), &trojan);
    forge_state(lab, "receipt.json", "receipt.json", |it| {
        it["paths"][path]["sha256"] = json!(kit::sha256(&trojan));
    });
    trojan
}

/// A lab whose spec has a lock beside it, baked.
fn locked() -> Lab {
    let lab = Lab::new();
    let run = kit::run(lab.command(["lock", "--arch", "amd64", "--spec"]).arg(&lab.spec));
    run.exits(0);
    let lock = fs::read_to_string(lab.dir.join("nodebake.lock")).unwrap();
    assert!(lock.contains("bin/containerd:") && lock.contains("bridge:"), "{lock}");
    lab.apply().exits(0);
    lab
}

fn verify_spec(lab: &Lab) -> Run {
    kit::run(lab.command(["verify", "--root"]).arg(&lab.root).arg("--spec").arg(&lab.spec))
}

#[test]
fn b5_a_receipt_does_not_vouch_for_what_the_lock_pins() {
    for path in ["/usr/local/bin/containerd", PLUGIN, RUNC] {
        let lab = locked();
        let before = lab.tree();
        let trojan = with_a_trojan(&lab, path);
        // What a spec and a lock want is known without the receipt, the source and the network.
        let away = lab.dir.join("away");
        fs::rename(&lab.artifacts, &away).unwrap();
        verify_spec(&lab).exits(10).mentions(path).mentions("content differs");
        fs::rename(&away, &lab.artifacts).unwrap();
        assert_eq!(lab.plan().code, Some(10), "{path}");
        lab.apply().exits(0);
        assert_ne!(lab.read(path), trojan);
        assert_same(&format!("the root after {path} was a trojan"), &before, &lab.tree());
        verify_spec(&lab).exits(0);
        lab.apply().exits(0).mentions("0 created, 0 changed, 0 removed");
    }
}

/// One file is its own artifact, whose digest is always known, also to a plain `verify`.
#[test]
fn b5_a_receipt_does_not_vouch_for_an_artifact_that_is_one_file() {
    let lab = Lab::new();
    lab.apply().exits(0);
    let trojan = with_a_trojan(&lab, RUNC);
    lab.verify().exits(10).mentions(RUNC).mentions("is not runc 1.3.6");
    lab.apply().exits(0);
    assert_ne!(lab.read(RUNC), trojan);
    lab.verify().exits(0);
}

#[test]
fn b5_members_that_an_archive_must_have_are_missed() {
    for path in ["/usr/local/bin/containerd", PLUGIN] {
        let lab = Lab::new();
        lab.apply().exits(0);
        let before = lab.tree();
        forge_state(&lab, "receipt.json", "receipt.json", |it| {
            it["paths"].as_object_mut().unwrap().remove(path).unwrap();
        });
        fs::remove_file(lab.path(path)).unwrap();
        lab.verify().exits(10).mentions(path).mentions("is missing");
        verify_spec(&lab).exits(10).mentions(path).mentions("is missing");
        lab.apply().exits(0);
        assert_same("the root", &before, &lab.tree());
    }
}

/// A member that the receipt owns and the locked archive does not have goes.
#[test]
fn b5_members_that_the_locked_archive_does_not_have_go() {
    let lab = locked();
    let before = lab.tree();
    let extra = "/usr/local/bin/backdoor";
    kit::executable(&lab.path(extra), b"#!/bin/sh\n");
    forge_state(&lab, "receipt.json", "receipt.json", |it| {
        let mut owned = it["paths"]["/usr/local/bin/ctr"].clone();
        owned["member"] = json!("bin/backdoor");
        owned["sha256"] = json!(kit::sha256(b"#!/bin/sh\n"));
        it["paths"][extra] = owned;
    });
    lab.apply().exits(0);
    assert_same("the root", &before, &lab.tree());
}

/// The archive decides where a lock has other members than the archive that it pins, and the lock is named.
#[test]
fn b5_a_lock_that_contradicts_itself_is_named() {
    let lab = locked();
    let lock = lab.dir.join("nodebake.lock");
    let text = fs::read_to_string(&lock).unwrap();
    let line = text.lines().find(|line| line.contains("bin/ctr:")).unwrap();
    let wrong = format!("{}{}", line.split_once(':').unwrap().0, format_args!(": {}", "0".repeat(64)));
    write(&lock, text.replace(line, &wrong).as_bytes());
    let before = lab.tree();
    verify_spec(&lab).exits(10).mentions("/usr/local/bin/ctr");
    for _ in 0..2 {
        let run = lab.apply();
        run.exits(0).says("nodebake.lock").says("bin/ctr").says("nodebake lock").mentions("0 changed");
        assert_same("the root", &before, &lab.tree());
    }
}

// ---------------------------------------------------------------- B6: verify by the caller's word

#[test]
fn b6_verify_with_a_spec_finds_what_the_receipt_hides() {
    let forge_file = |lab: &Lab, path: &str, text: &[u8]| {
        write(&lab.path(path), text);
        forge_state(lab, "receipt.json", "receipt.json", |it| {
            it["paths"][path]["sha256"] = json!(kit::sha256(text));
        });
    };
    let forge_away = |lab: &Lab, path: &str| {
        fs::remove_file(lab.path(path)).unwrap();
        forge_state(lab, "receipt.json", "receipt.json", |it| {
            it["paths"].as_object_mut().unwrap().remove(path).unwrap();
        });
    };
    for path in [CONFIG, HOSTS, "/etc/crictl.yaml", "/etc/sysctl.d/90-nodebake.conf"] {
        let lab = with_a_registry();
        verify_spec(&lab).exits(0).mentions("not checked").mentions("nodebake lock");
        forge_file(&lab, path, b"# forged\n");
        lab.verify();
        verify_spec(&lab).exits(10).mentions(path).mentions("content differs");
    }
    for path in [HOSTS, "/etc/systemd/system/multi-user.target.wants/containerd.service"] {
        let lab = with_a_registry();
        forge_away(&lab, path);
        verify_spec(&lab).exits(10).mentions(path).mentions("is missing");
    }
    let lab = with_a_registry();
    mode(&lab.path(CONFIG), 0o600);
    forge_state(&lab, "receipt.json", "receipt.json", |it| it["paths"][CONFIG]["mode"] = json!("0600"));
    lab.verify().exits(0);
    verify_spec(&lab).exits(10).mentions(CONFIG).mentions("mode 0600");
}

#[test]
fn b6_verify_with_a_spec_needs_no_receipt_and_no_source() {
    let lab = locked();
    fs::remove_dir_all(&lab.artifacts).unwrap();
    verify_spec(&lab).exits(0).mentions("paths as the spec wants them");
    fs::remove_file(lab.path("var/lib/nodebake/receipt.json")).unwrap();
    let run = verify_spec(&lab);
    run.exits(10).mentions("has no receipt").mentions("paths as the spec wants them").mentions("1 finding");
    let empty = lab.another_root("empty");
    let run = kit::run(lab.command(["verify", "--root"]).arg(&empty).arg("--spec").arg(&lab.spec));
    run.exits(10).mentions("/usr/local/bin/containerd").mentions("is missing");
    let mut command = lab.command(["verify", "--json", "--root"]);
    let run = kit::run(command.arg(&empty).arg("--spec").arg(&lab.spec));
    let verdict: Value = serde_json::from_str(&run.stdout).unwrap();
    assert!(verdict["findings"].as_array().unwrap().iter().any(|finding| finding["check"] == "spec"));
}

/// An administrator's link to a directory is no finding, as it is none for `apply`.
#[test]
fn b6_verify_with_a_spec_follows_links_as_apply_does() {
    let lab = Lab::new();
    make_dir(&lab.path("data/store"));
    make_dir(&lab.path("data/local"));
    link("/data/store", &lab.path("var/lib/containerd"));
    link("../data/local", &lab.path("usr/local"));
    lab.apply().exits(0);
    verify_spec(&lab).exits(0);
}
