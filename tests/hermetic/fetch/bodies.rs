//! Bodies that are cut, too long or resumed (rows H6 to H8, H13).

use std::fs;

use super::{
    Asked, ONE_RETRY, RUNC_FILE, RUNC_PATH, TWO_RETRIES, apply, assert_baked, assert_cache_is_clean,
    assert_refused, assert_resumed, cache, faulty, lock, mirror, with_big_runc,
};
use crate::kit::RUNC;
use crate::kit::http::{Reply, Request, Server};

// ---------------------------------------------------------------- H6, H7, H13: lengths

#[test]
fn h6_broken_transfers_are_tried_again() {
    for broken in broken_transfers() {
        let lab = with_big_runc();
        let server =
            faulty(&lab, RUNC, move |asked| (asked.earlier == 0).then(|| broken(Reply::ok(asked.bytes))));
        apply(&lab, &server.url(), &ONE_RETRY).exits(0);
        assert_baked(&lab);
    }
}

#[test]
fn h6_transfers_that_always_break_install_nothing() {
    for broken in broken_transfers() {
        let lab = with_big_runc();
        let before = lab.tree();
        let server = faulty(&lab, RUNC, move |asked| Some(broken(Reply::ok(asked.bytes))));
        let run = apply(&lab, &server.url(), &ONE_RETRY);
        assert_refused(&lab, &before, &run, 4, &[RUNC_PATH]);
        assert_eq!(server.gets(RUNC_FILE).len(), 2, "{run}");
    }
}

#[test]
fn h6_a_content_length_that_is_too_short_is_a_wrong_digest() {
    let lab = with_big_runc();
    let before = lab.tree();
    let server = faulty(&lab, RUNC, |asked| {
        let short = asked.bytes.len() - 10;
        Some(Reply::ok(asked.bytes).announcing(short))
    });
    let run = apply(&lab, &server.url(), &ONE_RETRY);
    assert_refused(&lab, &before, &run, 5, &[RUNC_FILE]);
    assert_cache_is_clean(&lab);
}

#[test]
fn h7_truncation_that_only_the_digest_shows() {
    let lab = with_big_runc();
    let before = lab.tree();
    let server = faulty(&lab, RUNC, |asked| Some(Reply::ok(asked.bytes).until_close().cut(100_000)));
    let run = apply(&lab, &server.url(), &ONE_RETRY);
    assert_refused(&lab, &before, &run, 5, &[RUNC_FILE]);
    assert_cache_is_clean(&lab);
}

#[test]
fn h13_stops_when_more_comes_than_was_locked() {
    let lab = with_big_runc();
    let before = lab.tree();
    let honest = mirror(&lab);
    lock(&lab, &honest.url(), &["amd64"]).exits(0);
    fs::remove_dir_all(cache(&lab)).unwrap();

    let endless = faulty(&lab, RUNC, |asked| Some(Reply::ok(asked.bytes).until_close().endless()));
    let run = apply(&lab, &endless.url(), &[]);
    assert_refused(&lab, &before, &run, 5, &[RUNC_FILE, "bytes"]);
    assert_eq!(endless.gets(RUNC_FILE).len(), 1, "not tried again\n{run}");
    assert!(endless.sent() < 32 << 20, "took {} bytes of a file of 256 KiB", endless.sent());

    let announced = faulty(&lab, RUNC, |asked| Some(Reply::ok([asked.bytes, vec![0]].concat())));
    let run = apply(&lab, &announced.url(), &[]);
    assert_refused(&lab, &before, &run, 5, &[RUNC_FILE, "bytes"]);
    assert_cache_is_clean(&lab);
}

// ---------------------------------------------------------------- H8: resuming

#[test]
fn h8_resume_after_cut() {
    let server =
        resumed(|runc, request| Reply::rest_of(runc, request.range_start().unwrap()).header("ETag", "\"a\""));
    assert_eq!(server.gets(RUNC_FILE).len(), 2);
}

#[test]
fn h8_whole_file_instead_of_the_range() {
    resumed(|runc, _| Reply::ok(runc).header("ETag", "\"a\""));
}

#[test]
fn h8_range_that_restarts_at_zero() {
    resumed(|runc, _| Reply::rest_of(runc, 0).header("ETag", "\"a\""));
}

#[test]
fn h8_range_that_starts_elsewhere() {
    resumed(|runc, _| Reply::rest_of(runc, 7).header("ETag", "\"a\""));
}

#[test]
fn h8_range_without_content_range() {
    resumed(|runc, request| {
        Reply::ok(&runc[request.range_start().unwrap()..]).status(206).header("ETag", "\"a\"")
    });
}

#[test]
fn h8_range_that_nobody_satisfies() {
    resumed(|_, _| Reply::error(416));
}

#[test]
fn h8_range_of_another_total_size() {
    resumed(|runc, request| {
        let start = request.range_start().unwrap();
        let range = format!("bytes {start}-{}/{}", runc.len() - 1, runc.len() + 1);
        Reply::ok(&runc[start..]).status(206).header("Content-Range", range).header("ETag", "\"a\"")
    });
}

#[test]
fn h8_file_that_changed_in_between() {
    for honours_if_range in [true, false] {
        let lab = with_big_runc();
        let server = faulty(&lab, RUNC, move |Asked { request, earlier, bytes }| {
            if earlier == 0 {
                // The old file: other bytes under another tag.
                let old: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
                return Some(Reply::ok(old).header("ETag", "\"old\"").cut(100_000));
            }
            let whole = honours_if_range && request.header("if-range").is_some();
            let start = request.range_start().filter(|_| !whole);
            let reply = start.map_or_else(|| Reply::ok(bytes.clone()), |start| Reply::rest_of(&bytes, start));
            Some(reply.header("ETag", "\"new\""))
        });
        apply(&lab, &server.url(), &TWO_RETRIES).exits(0);
        assert_baked(&lab);
    }
}

/// Ways to lose a transfer that the client can see.
fn broken_transfers() -> [fn(Reply) -> Reply; 5] {
    [
        |reply| reply.cut(100_000),
        |reply| reply.cut(0),
        |reply| reply.announcing(10 << 20),
        |reply| reply.chunked().cut(100_000),
        |reply| reply.reset(100_000),
    ]
}

/// Cuts the first transfer, answers range requests by `resume` and others in full; the bake must succeed.
#[track_caller]
fn resumed(resume: impl Fn(&[u8], &Request) -> Reply + Send + Sync + 'static) -> Server {
    let lab = with_big_runc();
    let server =
        faulty(&lab, RUNC, move |Asked { request, earlier, bytes }| match (earlier, request.range_start()) {
            (0, _) => {
                Some(Reply::ok(bytes).header("ETag", "\"a\"").header("Accept-Ranges", "bytes").cut(100_000))
            }
            (_, Some(_)) => Some(resume(&bytes, request)),
            _ => None,
        });
    apply(&lab, &server.url(), &TWO_RETRIES).exits(0);
    assert_baked(&lab);
    assert_resumed(&server);
    server
}
