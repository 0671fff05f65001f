//! Runs beside and after one another: the lock, a second run, several roots (rows C9, C13, C14).

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use super::{AT_ONCE, CONFIG, RECEIPT, RUNC_PATH, baked};
use crate::kit;
use crate::kit::{Lab, Run, assert_same, link, times, tree, write};

// ---------------------------------------------------------------- C9: the lock

#[test]
fn c9_held_lock_is_reported_at_once() {
    let lab = Lab::new();
    let lock = lab.hold_lock();
    let before = lab.tree();
    lab.apply().exits(8).says("lock").within(AT_ONCE);
    assert_same("the root", &before, &lab.tree());
    lock.unlock().unwrap();
    lab.apply().exits(0);

    lock.lock().unwrap();
    let before = lab.tree();
    lab.remove().exits(8).within(AT_ONCE);
    assert_same("the root", &before, &lab.tree());
}

/// A directory that every user can open is one that every user can lock.
#[test]
fn c9_what_any_user_can_lock_keeps_nobody_out() {
    let lab = Lab::new();
    let before = lab.tree();
    let locked = |paths: &[&str]| -> Vec<fs::File> {
        let open = |path: &&str| {
            let file = fs::File::open(lab.path(path)).unwrap();
            file.lock().unwrap();
            file
        };
        paths.iter().map(open).collect()
    };
    let held = locked(&["", "var", "var/lib"]);
    lab.apply().exits(0).within(AT_ONCE);
    let state = locked(&["var/lib/nodebake", "var/lib/nodebake/receipt.json"]);
    lab.apply().exits(0).within(AT_ONCE);
    lab.remove().exits(0).within(AT_ONCE);
    lab.remove().exits(0).within(AT_ONCE);
    assert_same("the root", &before, &lab.tree());
    drop((held, state));

    // Also where the directories above the state are made, and a killed run has left a part.
    fs::remove_dir_all(lab.path("var")).unwrap();
    let before = lab.tree();
    let held = locked(&[""]);
    for left in [&[".nodebake-state"][..], &[".nodebake-state/lib/nodebake"], &[]] {
        left.iter().for_each(|path| kit::make_dir(&lab.path(path)));
        lab.apply().exits(0).within(AT_ONCE);
        assert!(!lab.exists(".nodebake-state"), "{}", lab.tree());
        lab.remove().exits(0).within(AT_ONCE);
        assert_same("the root", &before, &lab.tree());
    }
    drop(held);
}

#[test]
fn c9_several_roots_are_waited_for_no_longer_than_one() {
    let lab = Lab::new();
    let others: Vec<_> = ["b", "a", "d", "c"].map(|name| lab.another_root(name)).into();
    let locks: Vec<fs::File> = others[..3]
        .iter()
        .map(|root| {
            kit::write(&root.join("var/lib/nodebake/.lock"), b"");
            let file = fs::File::open(root.join("var/lib/nodebake/.lock")).unwrap();
            file.lock().unwrap();
            file
        })
        .collect();
    let mut command = lab.command(["apply", "--json", "--lock-timeout", "2", "--spec"]);
    command.arg(&lab.spec);
    for root in &others {
        command.arg("--root").arg(root);
    }
    let run = kit::run(&mut command);
    run.exits(8).within(Duration::from_millis(3900));
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let told: Vec<(String, u64)> = document["roots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|root| {
            (root["root"].as_str().unwrap().to_owned(), root["error"]["exit_code"].as_u64().unwrap_or(0))
        })
        .collect();
    let expected: Vec<_> = others.iter().map(kit::text).zip([8, 8, 8, 0]).collect();
    assert_eq!(told, expected, "{run}");
    drop(locks);
}

#[test]
fn c9_runs_that_name_the_same_roots_in_opposite_orders_both_end() {
    let lab = Lab::new();
    let names: Vec<String> = (0..6).map(|n| format!("r{n}")).collect();
    let roots: Vec<_> = names.iter().map(|name| lab.another_root(name)).collect();
    let apply = |roots: Vec<&std::path::PathBuf>| {
        let mut command = lab.command(["apply", "--lock-timeout", "25", "--spec"]);
        command.arg(&lab.spec);
        for root in roots {
            command.arg("--root").arg(root);
        }
        kit::run(&mut command)
    };
    for _ in 0..3 {
        thread::scope(|scope| {
            let runs = [
                scope.spawn(|| apply(roots.iter().collect())),
                scope.spawn(|| apply(roots.iter().rev().collect())),
                scope.spawn(|| apply(roots.iter().skip(3).chain(&roots[..3]).collect())),
            ];
            for run in runs {
                run.join().unwrap().exits(0);
            }
        });
        for root in &roots {
            kit::run(lab.command(["remove"]).arg("--root").arg(root)).exits(0);
        }
    }
    let endless = lab.run(["apply", "--lock-timeout", "18446744073709551615"], &lab.root);
    endless.exits(0);
}

#[test]
fn c9_lock_that_is_released_in_time_is_waited_for() {
    let lab = Lab::new();
    let lock = lab.hold_lock();
    let run = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_secs(1));
            lock.unlock().unwrap();
        });
        lab.run(["apply", "--lock-timeout", "5"], &lab.root)
    });
    run.exits(0).within(AT_ONCE);
    assert!(run.took > Duration::from_millis(900), "did not wait\n{run}");
}

#[test]
fn c9_lock_that_is_not_released_in_time_is_reported() {
    let lab = Lab::new();
    let _lock = lab.hold_lock();
    let run = lab.run(["apply", "--lock-timeout", "1"], &lab.root);
    run.exits(8).within(AT_ONCE);
    assert!(run.took > Duration::from_millis(900), "did not wait\n{run}");
}

// ---------------------------------------------------------------- C13, C14: twice

#[test]
fn c13_second_run_changes_nothing() {
    let lab = baked();
    let before = (lab.tree(), times(&lab.root));
    lab.plan().exits(0);
    lab.apply().exits(0);
    assert_same("the root", &before.0, &lab.tree());
    let after = times(&lab.root);
    let touched: Vec<_> = before
        .1
        .iter()
        .filter(|(path, times)| after.get(*path) != Some(times))
        .map(|(path, _)| path)
        .collect();
    assert!(touched.is_empty() && after.len() == before.1.len(), "touched: {touched:#?}");
}

#[test]
fn c13_plan_changes_nothing_and_names_every_path() {
    let lab = Lab::new();
    let (before, stamps) = (lab.tree(), times(&lab.root));
    let plan = lab.plan();
    plan.exits(10);
    assert_same("the root", &before, &lab.tree());
    assert_eq!(stamps, times(&lab.root), "plan touched the root");

    lab.apply().exits(0);
    let old: BTreeSet<_> = before.lines().collect();
    for line in lab.tree().lines().filter(|line| !line.starts_with('d') && !old.contains(line)) {
        let path = line.split(' ').nth(2).unwrap();
        let ours = path.starts_with("var/lib/nodebake/");
        assert!(ours || plan.stdout.contains(&format!("/{path}")), "the plan lacks `/{path}`\n{plan}");
    }
}

#[test]
fn c14_two_bakes_of_the_same_inputs_are_identical() {
    let (first, second) = (baked(), baked());
    assert_same("the second root", &first.tree(), &second.tree());
    assert_eq!(first.read(RECEIPT), second.read(RECEIPT));
    assert_eq!(mtimes(&first), mtimes(&second));
    let receipt = String::from_utf8(first.read(RECEIPT)).unwrap();
    assert!(!receipt.contains(&kit::text(&first.dir)), "a path of the build host in the receipt:\n{receipt}");
}

#[test]
fn c14_source_date_epoch_that_no_file_can_have_is_refused() {
    let lab = Lab::new();
    let before = lab.tree();
    let with = |epoch: &str| {
        let mut command = lab.command(["apply"]);
        command.env("SOURCE_DATE_EPOCH", epoch).arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec);
        kit::run(&mut command)
    };
    for epoch in
        ["-1", "8589934592", "9223372036854775807", "9223372036854775808", "1e9", "0x10", " 1", "now", "1.5"]
    {
        with(epoch).exits(2).says("SOURCE_DATE_EPOCH").says("0 to 8589934591").says("help:");
        assert_same("the root", &before, &lab.tree());
    }
    for epoch in ["", "0", "8589934591"] {
        with(epoch).exits(0);
    }
}

#[test]
fn c14_source_date_epoch_is_the_mtime() {
    let lab = Lab::new();
    let before = kit::paths(&lab.root);
    let run = kit::run(
        lab.command(["apply"])
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .arg("--root")
            .arg(&lab.root)
            .arg("--spec")
            .arg(&lab.spec),
    );
    run.exits(0);
    let created: Vec<_> = mtimes(&lab)
        .into_iter()
        .filter(|(path, _)| !before.contains(&lab.path(path)) && !path.starts_with("var/lib/nodebake"))
        .collect();
    assert!(created.len() > 10, "{created:?}");
    let odd: Vec<_> = created.iter().filter(|(_, mtime)| *mtime != (1_700_000_000, 0)).collect();
    assert!(odd.is_empty(), "another mtime: {odd:#?}");
    // The clock is no drift.
    lab.verify().exits(0);
}

#[test]
fn c14_without_source_date_epoch_the_mtime_is_0() {
    let lab = baked();
    for path in [RUNC_PATH, CONFIG, "/usr/local/bin/containerd", "/opt/cni/bin/bridge", "/etc/crictl.yaml"] {
        assert_eq!(lab.path(path).metadata().unwrap().modified().unwrap(), SystemTime::UNIX_EPOCH, "{path}");
    }
}

// ---------------------------------------------------------------- several roots

#[test]
fn contract_several_roots_are_as_one() {
    let lab = Lab::new();
    let roots = ["second", "third"].map(|name| lab.another_root(name));
    apply_to(&lab, &[&lab.root, &roots[0], &roots[1]]).exits(0);
    let expected = baked().tree();
    for root in [&lab.root, &roots[0], &roots[1]] {
        assert_same("a root", &expected, &tree(root));
    }
}

#[test]
fn contract_broken_root_does_not_stop_the_others() {
    let expected = baked().tree();
    for broken_first in [false, true] {
        let lab = Lab::new();
        let file = lab.dir.join("file");
        write(&file, b"not a root\n");
        let roots: [&Path; 2] = if broken_first { [&file, &lab.root] } else { [&lab.root, &file] };
        apply_to(&lab, &roots).exits(9).says("file");
        assert_same("the good root", &expected, &lab.tree());
    }
}

#[test]
fn contract_unsafe_root_does_not_stop_the_others() {
    let expected = baked().tree();
    let lab = Lab::new();
    let unsafe_root = lab.another_root("unsafe");
    link(lab.host.join("etc"), &unsafe_root.join("etc"));
    let before = tree(&unsafe_root);
    apply_to(&lab, &[&unsafe_root, &lab.root, &lab.dir.join("missing")]).exits(6);
    assert_same("the good root", &expected, &lab.tree());
    assert_same("the unsafe root", &before, &tree(&unsafe_root));
}

#[track_caller]
fn apply_to(lab: &Lab, roots: &[&Path]) -> Run {
    let mut command = lab.command(["apply", "--spec"]);
    command.arg(&lab.spec);
    for root in roots {
        command.arg("--root").arg(root);
    }
    kit::run(&mut command)
}

/// Path and mtime of every regular file that was not there before nodebake.
fn mtimes(lab: &Lab) -> Vec<(String, (i64, i64))> {
    let pristine = Lab::new();
    let files = kit::paths(&lab.root).into_iter().filter_map(|path| {
        let meta = path.symlink_metadata().unwrap();
        let inside = kit::text(path.strip_prefix(&lab.root).unwrap());
        (meta.is_file() && !pristine.exists(&inside)).then(|| (inside, (meta.mtime(), meta.mtime_nsec())))
    });
    files.collect()
}
