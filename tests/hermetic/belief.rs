//! What a root says of itself is input from a stranger: its receipt, its intent, what it keeps of
//! originals, and the mounts below it. Rows B1 to B6.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::kit;
use crate::kit::{Lab, Run, assert_same, executable, link, make_dir, mode, own, text, tree, write};

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
        ("paths./etc/cni/net.d.before", |it| {
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
        ("type", |it| it["paths"][CONFIG]["type"] = json!("present")),
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
            "containerd: {config: {registry_config_path: /usr}}\nregistries: {bin: {mirrors: [{url: 'https://m.example', ca: sh}]}}\n",
        ),
        ("boot", "containerd: {config: {registry_config_path: /boot/efi}}\n"),
        (
            "a temporary name",
            "registries: {a: {mirrors: [{url: 'https://m.example', ca: .nodebake-hosts.toml.tmp}]}}\n",
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
