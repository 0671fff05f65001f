//! Edits of the user, and what `verify` finds of them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{CONFIG, ENABLEMENT, RECEIPT, RUNC_PATH, baked, installed};
use crate::kit;
use crate::kit::{Lab, assert_same, link, mode, times, write};

#[test]
fn contract_apply_saves_an_edited_file_and_says_so() {
    for (path, bits) in [(CONFIG, 0o600), (RUNC_PATH, 0o755), ("/etc/sysctl.d/90-nodebake.conf", 0o644)] {
        let lab = baked();
        let expected = lab.tree();
        write(&lab.path(path), b"edited by hand\n");
        mode(&lab.path(path), bits);
        lab.plan().exits(10).mentions(path);
        lab.apply().exits(0).mentions(path).mentions("/var/lib/nodebake/edited");
        let saved = format!("/var/lib/nodebake/edited{path}");
        assert_eq!(lab.read(&saved), b"edited by hand\n");
        assert_eq!(lab.path(&saved).metadata().unwrap().mode() & 0o7777, bits, "mode of the saved edit");
        let now: String = lab
            .tree()
            .lines()
            .filter(|line| !line.contains("var/lib/nodebake/edited"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_same("everything else", &expected, &now);
        lab.verify().exits(0);
    }
}

#[test]
fn contract_apply_repairs_what_has_no_content_to_save() {
    let damages: [(&str, Damage<Lab>); 4] = [
        ("a deleted file", |lab| fs::remove_file(lab.path(RUNC_PATH)).unwrap()),
        ("another mode", |lab| mode(&lab.path(RUNC_PATH), 0o700)),
        ("a retargeted link", |lab| link("/dev/null", &lab.path(ENABLEMENT))),
        ("a deleted directory", |lab| fs::remove_dir(lab.path("etc/cni/net.d")).unwrap()),
    ];
    for (damage, cause) in damages {
        let lab = baked();
        let expected = installed(&lab.tree());
        cause(&lab);
        lab.plan().exits(10);
        lab.apply().exits(0);
        assert_same(&format!("the root after {damage}"), &expected, &installed(&lab.tree()));
        lab.verify().exits(0);
    }
}

#[test]
fn contract_remove_keeps_and_names_an_edited_file() {
    let lab = baked();
    write(&lab.path(CONFIG), b"edited by hand\n");
    lab.remove().exits(0).mentions(CONFIG);
    assert_eq!(lab.read(CONFIG), b"edited by hand\n");
    assert!(!lab.exists(RUNC_PATH) && !lab.exists(ENABLEMENT), "{}", lab.tree());
}

#[test]
fn contract_verify_without_receipt_is_drift() {
    let lab = Lab::new();
    let before = lab.tree();
    lab.verify().exits(10);
    assert_same("the root", &before, &lab.tree());
}

#[test]
fn contract_verify_after_apply_finds_nothing_and_changes_nothing() {
    let lab = baked();
    let before = times(&lab.root);
    lab.verify().exits(0);
    assert_eq!(before, times(&lab.root), "verify touched the root");
}

#[test]
fn contract_verify_names_what_has_drifted() {
    let damages: [(&str, &str, Damage<Path>); 8] = [
        ("one byte", RUNC_PATH, |path| flip_last_byte(path)),
        ("one byte of text", "/etc/crictl.yaml", |path| flip_last_byte(path)),
        ("mode", "/usr/local/bin/containerd", |path| mode(path, 0o775)),
        ("mode of text", CONFIG, |path| mode(path, 0o600)),
        ("deleted", "/opt/cni/bin/loopback", |path| fs::remove_file(path).unwrap()),
        ("deleted link", ENABLEMENT, |path| fs::remove_file(path).unwrap()),
        ("retargeted link", ENABLEMENT, |path| link("/lib/systemd/system/containerd.service", path)),
        ("file moved behind a link", RUNC_PATH, |path| {
            fs::rename(path, path.with_extension("real")).unwrap();
            link("runc.real", path);
        }),
    ];
    for (damage, path, cause) in damages {
        let lab = baked();
        cause(&lab.path(path));
        let before = lab.tree();
        let run = lab.verify();
        assert_eq!(run.code, Some(10), "{damage}\n{run}");
        run.mentions(path);
        assert_same("the root", &before, &lab.tree());
        let json = kit::run(lab.command(["verify", "--json", "--root"]).arg(&lab.root));
        json.exits(10);
        let document: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        assert!(document.to_string().contains(path), "{damage}\n{json}");
    }
}

#[test]
fn contract_corrupt_receipt_is_invalid_and_changes_nothing() {
    let lab = baked();
    let good = lab.read(RECEIPT);
    let traversal =
        String::from_utf8(good.clone()).unwrap().replace(RUNC_PATH, "/../../../../../../etc/hostname");
    for bad in [
        &b""[..],
        b"{",
        b"not JSON\n",
        b"[]",
        b"{}",
        b"\xff\xfe",
        &good[..good.len() / 2],
        traversal.as_bytes(),
    ] {
        write(&lab.path(RECEIPT), bad);
        let before = lab.tree();
        for run in [lab.apply(), lab.verify(), lab.remove(), lab.plan()] {
            run.exits(3).says("receipt").is_printable();
        }
        assert_same("the root", &before, &lab.tree());
    }
}

fn flip_last_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

/// What somebody does to a baked root or to one path in it.
type Damage<On> = fn(&On);
