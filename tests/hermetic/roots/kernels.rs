//! Races, kernels without openat2, roots without /proc, mounts (rows R11 to R15).

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{baked, mounted, mounts_work};
use crate::kit;
use crate::kit::{
    CNI, CONTAINERD, Lab, RUNC, StopOnDrop, assert_same, executable, link, make_dir, mode, own, strace,
    strace_works, tree, write,
};

// ---------------------------------------------------------------- R11: races

#[test]
fn r11_race_of_directories_and_links_never_escapes() {
    let lab = Lab::new();
    make_dir(&lab.path("usr/local"));
    link(lab.host.join("etc"), &lab.path("etc.evil"));
    link("../../host/usr/local", &lab.path("usr/local.evil"));
    // Held open, because by name it may be the host's at any moment.
    let etc = fs::File::open(lab.path("etc")).unwrap();
    let stop = AtomicBool::new(false);
    let mut odd = Vec::new();
    thread::scope(|scope| {
        let end = StopOnDrop(&stop);
        for place in ["etc", "usr/local"] {
            let (real, evil) = (lab.path(place), lab.path(&format!("{place}.evil")));
            let stop = &stop;
            scope.spawn(move || exchange(&real, &evil, stop));
        }
        let started = Instant::now();
        for round in 0..200 {
            let run = lab.apply();
            if !matches!(run.code, Some(0 | 6)) {
                odd.push(format!("round {round}: {run}"));
            }
            // Otherwise the first success would leave nothing to write.
            let _ = fs::remove_dir_all(format!("/proc/self/fd/{}/containerd", etc.as_raw_fd()));
        }
        drop(end);
        assert!(started.elapsed() < Duration::from_secs(120), "200 runs took {:?}", started.elapsed());
    });
    lab.host_is_untouched();
    lab.apply().exits(0);
    lab.has_no_leftovers();
    lab.verify().exits(0);
    assert!(
        odd.is_empty(),
        "{} of 200 runs ended neither with 0 nor with 6, the first:\n{}",
        odd.len(),
        odd[0]
    );
}

/// Swaps the directory and the link and back again, so that it ends as it began.
fn exchange(real: &Path, evil: &Path, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..2 {
            renameat_with(CWD, real, CWD, evil, RenameFlags::EXCHANGE).unwrap();
        }
        thread::sleep(Duration::from_micros(100));
    }
}

// ---------------------------------------------------------------- R12 to R15: kernels and mounts

#[test]
fn r12_without_openat2_the_result_is_the_same() {
    let expected = baked().tree();
    for error in ["ENOSYS", "EPERM"] {
        let Some(inject) = injector(error) else {
            return;
        };
        let lab = Lab::new();
        lab.apply_under(&inject).exits(0);
        assert_same("the root", &expected, &lab.tree());
    }
}

#[test]
fn r12_without_openat2_links_within_the_root_are_followed() {
    let Some(inject) = injector("ENOSYS") else {
        return;
    };
    for target in ["/var/usrlocal", "../var/usrlocal"] {
        let lab = Lab::new();
        make_dir(&lab.path("var/usrlocal"));
        link(target, &lab.path("usr/local"));
        lab.apply_under(&inject).exits(0);
        assert!(lab.path("var/usrlocal/sbin/runc").is_file(), "{}", lab.tree());
    }
}

#[test]
fn r12_without_openat2_nothing_escapes() {
    for error in ["ENOSYS", "EPERM"] {
        let Some(inject) = injector(error) else {
            return;
        };
        let hostile: [(&str, Target); 5] = [
            ("etc", |lab| lab.host.join("etc")),
            ("etc", |_| "../../host/etc".into()),
            ("usr/local", |lab| lab.host.join("usr/local")),
            ("opt", |lab| format!("/proc/1/root{}", lab.host.display()).into()),
            ("etc/containerd", |_| "containerd".into()),
        ];
        for (place, target) in hostile {
            let lab = Lab::new();
            link(target(&lab), &lab.path(place));
            let before = lab.tree();
            lab.apply_under(&inject).exits(6).says(place);
            assert_same("the root", &before, &lab.tree());
        }
    }
}

#[test]
fn r13_endless_eagain_ends() {
    let Some(inject) = injector("EAGAIN") else {
        return;
    };
    let lab = Lab::new();
    let before = lab.tree();
    lab.apply_under(&inject).exits(7).within(Duration::from_secs(10));
    assert_same("the root", &before, &lab.tree());
}

#[test]
fn r14_empty_chroot_without_proc_is_baked() {
    let lab = Lab::new();
    let jail = jail(&lab);
    let run = kit::run(lab.wrapped(["chroot", &kit::text(&jail)]).args(IN_JAIL));
    run.exits(0);
    let baked = tree(&jail);
    for line in [
        "-rwxr-xr-x root:root usr/local/sbin/runc sha256:",
        "drwxr-xr-x root:root etc/cni/net.d\n",
        "-rw-r--r-- root:root var/lib/nodebake/receipt.json",
    ] {
        assert!(baked.contains(line), "no `{line}` in\n{baked}");
    }
    assert!(!jail.join("proc").exists(), "{baked}");
    let again = kit::run(lab.wrapped(["chroot", &kit::text(&jail)]).args(IN_JAIL));
    again.exits(0);
    assert_same("the jail after a second run", &baked, &tree(&jail));
}

#[test]
fn r14_fallback_without_proc_is_unsupported() {
    let Some(inject) = injector("ENOSYS") else {
        return;
    };
    let lab = Lab::new();
    let jail = jail(&lab);
    let before = tree(&jail);
    let mut command = lab.wrapped(&inject);
    let run = kit::run(command.arg("chroot").arg(&jail).args(IN_JAIL));
    run.exits(9).says("/proc");
    assert_same("the jail", &before, &tree(&jail));
}

#[test]
fn r15_mount_point_below_the_root_is_used_and_reported() {
    if !mounts_work() {
        return;
    }
    let lab = Lab::new();
    let (volume, mount) = volume(&lab);
    let run = mounted(&lab, &mount);
    run.exits(0).says("/usr/local");
    assert!(run.errors().contains("mount"), "the mount point is not reported\n{run}");
    assert!(
        volume.join("sbin/runc").is_file() && volume.join("bin/containerd").is_file(),
        "{}",
        tree(&volume)
    );
    assert!(!tree(&volume).contains(".nodebake-"), "{}", tree(&volume));
}

/// A mount point can't be taken away: `remove` leaves it empty, says so and has done its work.
#[test]
fn r15_state_on_a_mount_of_its_own_is_emptied() {
    if !mounts_work() {
        return;
    }
    for mount in ["mount -t tmpfs none", "mount --bind $PWD/volume"] {
        let lab = Lab::new();
        make_dir(&lab.dir.join("volume"));
        make_dir(&lab.path("var/lib/nodebake"));
        let before = lab.tree();
        let (root, spec) = (lab.root.display(), lab.spec.display());
        let nodebake = kit::NODEBAKE;
        let script = format!(
            "cd {}; {mount} {root}/var/lib/nodebake; {nodebake} apply --root {root} --spec {spec} >&2
            {nodebake} remove --root {root}; {nodebake} remove --root {root} >&2
            ls -A {root}/var/lib/nodebake >left",
            lab.dir.display()
        );
        let run = kit::run(&mut lab.wrapped(["unshare", "-m", "sh", "-ec", &script]));
        run.exits(0).says("/var/lib/nodebake is a mount point and stays");
        assert_eq!(fs::read_to_string(lab.dir.join("left")).unwrap(), "", "{run}");
        assert_same("the root", &before, &lab.tree());
    }
}

/// Original files cannot be moved off another filesystem, only copied.
#[test]
fn r15_original_on_another_mount_is_put_back() {
    if !mounts_work() {
        return;
    }
    let lab = Lab::new();
    let (volume, mount) = volume(&lab);
    write(&volume.join("sbin/runc"), b"the volume's own runc\n");
    mode(&volume.join("sbin/runc"), 0o700);
    own(&volume.join("sbin/runc"), 3, 4);
    link("/opt/ctr", &volume.join("bin/ctr"));
    let before = [lab.tree(), tree(&volume)];
    mounted(&lab, &mount).exits(0);
    let script = format!("{mount}; exec {} remove --root {}", kit::NODEBAKE, lab.root.display());
    kit::run(&mut lab.wrapped(["unshare", "-m", "sh", "-ec", &script])).exits(0);
    assert_same("the volume", &before[1], &tree(&volume));
    assert_same("the root", &before[0], &lab.tree());
}

/// Where a hostile link points, given the lab.
type Target = fn(&Lab) -> PathBuf;

/// A directory beside the root, and the command that mounts it at the root's /usr/local.
fn volume(lab: &Lab) -> (PathBuf, String) {
    let volume = lab.dir.join("volume");
    make_dir(&volume);
    make_dir(&lab.path("usr/local"));
    let mount = format!("mount --bind {} {}", volume.display(), lab.path("usr/local").display());
    (volume, mount)
}

/// The words that make every openat2 fail with `error`, if strace can do that here.
fn injector(error: &str) -> Option<Vec<String>> {
    strace_works().then(|| strace(["trace=openat2", &format!("inject=openat2:error={error}")]))
}

const IN_JAIL: [&str; 7] = ["/nodebake", "apply", "--root", "/", "--spec", "/nodebake.yaml", "--offline"];

/// An otherwise empty directory with the binary, what the binary loads, the spec and the artifacts.
fn jail(lab: &Lab) -> PathBuf {
    let jail = lab.dir.join("jail");
    make_dir(&jail);
    let (binary, libraries) = match static_build() {
        Some(binary) => (binary, Vec::new()),
        None => (PathBuf::from(kit::NODEBAKE), libraries()),
    };
    executable(&jail.join("nodebake"), &fs::read(binary).unwrap());
    for library in libraries {
        executable(&jail.join(library.trim_start_matches('/')), &fs::read(&library).unwrap());
    }
    write(
        &jail.join("nodebake.yaml"),
        format!("arch: amd64\n{}", fs::read_to_string(&lab.spec).unwrap()).as_bytes(),
    );
    for artifact in [CONTAINERD, RUNC, CNI] {
        write(
            &jail.join("artifacts").join(artifact.file),
            &fs::read(lab.artifacts.join(artifact.file)).unwrap(),
        );
    }
    jail
}

/// A static build newer than the one under test, if someone made it.
fn static_build() -> Option<PathBuf> {
    let tested = Path::new(kit::NODEBAKE);
    let age = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
    let target = tested.parent()?.parent()?;
    ["debug", "release"]
        .map(|profile| target.join("x86_64-unknown-linux-musl").join(profile).join("nodebake"))
        .into_iter()
        .find(|path| path.is_file() && age(path) >= age(tested))
}

fn libraries() -> Vec<String> {
    let run = kit::run(std::process::Command::new("ldd").arg(kit::NODEBAKE));
    run.stdout.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}
