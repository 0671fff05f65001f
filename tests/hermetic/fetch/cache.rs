//! The cache, and digests that do not match.

use std::fs;
use std::path::Path;

use super::{
    ONE_RETRY, RUNC_FILE, apply, apply_to, assert_cache_is_clean, assert_refused, cache, faulty, files,
    mirror, with_big_runc,
};
use crate::kit;
use crate::kit::http::Reply;
use crate::kit::{CONTAINERD, Lab, RUNC, run, sha256};

#[test]
fn cache_serves_the_second_root() {
    let lab = Lab::new();
    let server = mirror(&lab);
    apply(&lab, &server.url(), &ONE_RETRY).exits(0);
    let asked = server.requests().len();
    let second = lab.another_root("second");
    apply_to(&lab, &second, &server.url(), &ONE_RETRY).exits(0);
    assert_eq!(server.requests().len(), asked, "{:?}", server.requests());
    kit::assert_same("the second root", &lab.tree(), &kit::tree(&second));
}

#[test]
fn cache_poison_is_noticed_and_fetched_again() {
    let lab = Lab::new();
    let server = mirror(&lab);
    apply(&lab, &server.url(), &ONE_RETRY).exits(0);
    let asked = server.gets(RUNC_FILE).len();
    let poisoned = flip_files(Path::new(&cache(&lab)));
    assert!(poisoned >= 3, "three artifacts, {poisoned} files in the cache");

    let second = lab.another_root("second");
    apply_to(&lab, &second, &server.url(), &ONE_RETRY).exits(0);
    assert_eq!(server.gets(RUNC_FILE).len(), asked + 1);
    kit::assert_same("the second root", &lab.tree(), &kit::tree(&second));
    assert_cache_is_clean(&lab);
}

#[test]
fn cache_poison_offline_installs_nothing() {
    let lab = Lab::new();
    let server = mirror(&lab);
    apply(&lab, &server.url(), &ONE_RETRY).exits(0);
    flip_files(Path::new(&cache(&lab)));
    let second = lab.another_root("second");
    let before = kit::tree(&second);
    let run = apply_to(&lab, &second, &server.url(), &["--offline"]);
    assert!(matches!(run.code, Some(4 | 5)), "{run}");
    kit::assert_same("the second root", &before, &kit::tree(&second));
}

#[test]
fn cache_inside_the_root_is_refused() {
    let lab = Lab::new();
    fs::create_dir(lab.path("cache")).unwrap();
    std::os::unix::fs::symlink(lab.path("cache"), lab.dir.join("disguised")).unwrap();
    let before = lab.tree();
    let server = mirror(&lab);
    let inside = ["root/cache", "root", "root/not/there/yet", "disguised", "home/../root/cache"];
    for cache in inside.map(|cache| lab.dir.join(cache)) {
        let mut command = lab.command(["apply"]);
        command.arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec).args(["--source", &server.url()]);
        let run = run(command.arg("--cache-dir").arg(&cache));
        assert_refused(&lab, &before, &run, 2, &["--cache-dir"]);
    }
}

#[test]
fn digest_mismatch_is_final() {
    let lab = with_big_runc();
    let before = lab.tree();
    let server = faulty(&lab, RUNC, |mut asked| {
        asked.bytes[200_000] ^= 1;
        Some(Reply::ok(asked.bytes))
    });
    let run = apply(&lab, &server.url(), &[]);
    let wanted = sha256(&fs::read(lab.artifacts.join(RUNC_FILE)).unwrap());
    assert_refused(&lab, &before, &run, 5, &["runc", &wanted]);
    assert_eq!(server.gets(RUNC_FILE).len(), 1, "never tried again\n{run}");
    assert_cache_is_clean(&lab);
}

#[test]
fn digest_mismatch_in_a_directory_is_final() {
    let lab = Lab::new();
    let before = lab.tree();
    let file = lab.artifacts.join(CONTAINERD.file);
    let mut bytes = fs::read(&file).unwrap();
    bytes[40] ^= 1;
    fs::write(&file, bytes).unwrap();
    let run = lab.apply();
    assert_refused(&lab, &before, &run, 5, &["containerd", CONTAINERD.file]);
}

/// Flips a bit in every file that has one, keeping its length and times.
fn flip_files(dir: &Path) -> usize {
    let mut flipped = 0;
    for file in files(dir) {
        let mut bytes = fs::read(&file).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
            fs::write(&file, bytes).unwrap();
            fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
            flipped += 1;
        }
    }
    flipped
}
