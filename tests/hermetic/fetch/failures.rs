//! Servers that refuse, are not there or fall silent (rows H1 to H5).

use std::net::TcpListener;
use std::time::Duration;

use super::{
    Asked, ONE_RETRY, RUNC_FILE, RUNC_PATH, TWO_RETRIES, apply, assert_baked, assert_refused, assert_resumed,
    closed_port, faulty, on, with_big_runc,
};
use crate::kit::http::Reply;
use crate::kit::{Lab, NODEBAKE, RUNC, run, skip, works};

// ---------------------------------------------------------------- H1, H2: statuses

#[test]
fn h1_waits_as_long_as_retry_after_says() {
    let lab = Lab::new();
    let server = faulty(&lab, RUNC, first_times(1, || Reply::error(503).header("Retry-After", "2")));
    apply(&lab, &server.url(), &ONE_RETRY).exits(0);
    assert_baked(&lab);
    let gets = server.gets(RUNC_FILE);
    assert_eq!(gets.len(), 2);
    let pause = gets[1].at - gets[0].at;
    assert!(pause >= Duration::from_secs(2), "asked again after {pause:?}");
}

#[test]
fn h1_server_errors_and_429_are_tried_again() {
    let lab = Lab::new();
    let server =
        faulty(&lab, RUNC, |asked| [500, 429].get(asked.earlier).map(|status| Reply::error(*status)));
    apply(&lab, &server.url(), &TWO_RETRIES).exits(0);
    assert_baked(&lab);
    assert_eq!(server.gets(RUNC_FILE).len(), 3);
}

#[test]
fn h1_gives_up_after_the_retries() {
    for status in [500, 502, 503, 429] {
        let lab = Lab::new();
        let before = lab.tree();
        let server = faulty(&lab, RUNC, always(move || Reply::error(status)));
        let run = apply(&lab, &server.url(), &ONE_RETRY);
        assert_refused(
            &lab,
            &before,
            &run,
            4,
            &[&status.to_string(), RUNC_PATH, &server.address.to_string()],
        );
        assert_eq!(server.gets(RUNC_FILE).len(), 2, "{run}");
    }
}

#[test]
fn h1_by_default_asks_five_times_at_most() {
    let lab = Lab::new();
    let before = lab.tree();
    let server = faulty(&lab, RUNC, always(|| Reply::error(503).header("Retry-After", "0")));
    let run = apply(&lab, &server.url(), &[]);
    assert_refused(&lab, &before, &run, 4, &["503"]);
    assert_eq!(server.gets(RUNC_FILE).len(), 5, "{run}");
}

#[test]
fn h1_no_retries_means_one_request() {
    let lab = Lab::new();
    let before = lab.tree();
    let server = faulty(&lab, RUNC, always(|| Reply::error(503)));
    let run = apply(&lab, &server.url(), &["--retries", "0"]);
    assert_refused(&lab, &before, &run, 4, &["503", RUNC_PATH]);
    assert_eq!(server.gets(RUNC_FILE).len(), 1, "{run}");
}

#[test]
fn h2_missing_and_forbidden_files_are_not_asked_for_again() {
    for status in [404, 403, 401, 410] {
        let lab = Lab::new();
        let before = lab.tree();
        let server = faulty(&lab, RUNC, always(move || Reply::error(status)));
        let run = apply(&lab, &server.url(), &[]);
        let url = format!("{}{RUNC_PATH}", server.url());
        assert_refused(&lab, &before, &run, 4, &[&status.to_string(), &url]);
        assert_eq!(server.gets(RUNC_FILE).len(), 1, "{run}");
    }
}

#[test]
fn h2_other_successes_are_no_file() {
    for reply in [Reply::ok("").status(204), Reply::ok("accepted").status(202), Reply::ok("").status(304)] {
        let lab = Lab::new();
        let before = lab.tree();
        let server = faulty(&lab, RUNC, always(move || reply.clone()));
        let run = apply(&lab, &server.url(), &ONE_RETRY);
        assert_refused(&lab, &before, &run, 4, &[RUNC_PATH]);
    }
}

// ---------------------------------------------------------------- H3: no connection

#[test]
fn h3_refused_port_names_the_address() {
    let lab = Lab::new();
    let before = lab.tree();
    let address = closed_port();
    let run = apply(&lab, &format!("http://{address}"), &ONE_RETRY);
    assert_refused(&lab, &before, &run, 4, &[&address, "refused"]);
}

#[test]
fn h3_unknown_host_is_named() {
    if !works(["unshare", "-n", "true"]) {
        return skip("unshare -n does not work here");
    }
    let lab = Lab::new();
    let before = lab.tree();
    let mut command = lab.wrapped(["unshare", "-n", NODEBAKE]);
    let run = run(on(&lab, &mut command, "apply", "http://mirror.invalid").args(["--retries", "0"]));
    assert_refused(&lab, &before, &run, 4, &["mirror.invalid"]);
}

// ---------------------------------------------------------------- H4, H5: silence

#[test]
fn h4_stall_after_the_headers_is_cut_and_tried_again() {
    let lab = with_big_runc();
    let server = faulty(&lab, RUNC, |asked| (asked.earlier == 0).then(|| Reply::ok(asked.bytes).stall(0)));
    let run = apply(&lab, &server.url(), &ONE_RETRY);
    run.exits(0).within(Duration::from_secs(15));
    assert_baked(&lab);
}

#[test]
fn h4_stall_in_the_body_is_resumed() {
    let lab = with_big_runc();
    let server = faulty(&lab, RUNC, |asked| match (asked.earlier, asked.request.range_start()) {
        (0, _) => Some(Reply::ok(asked.bytes).header("ETag", "\"a\"").stall(100_000)),
        (_, Some(start)) => Some(Reply::rest_of(&asked.bytes, start).header("ETag", "\"a\"")),
        _ => None,
    });
    apply(&lab, &server.url(), &ONE_RETRY).exits(0).within(Duration::from_secs(15));
    assert_baked(&lab);
    assert_resumed(&server);
}

#[test]
fn h4_a_silent_server_ends_the_run() {
    let before_headers = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = before_headers.local_addr().unwrap();
    let lab = Lab::new();
    let before = lab.tree();
    let run = apply(&lab, &format!("http://{address}"), &ONE_RETRY);
    run.within(Duration::from_secs(15));
    assert_refused(&lab, &before, &run, 4, &[&address.to_string()]);

    for bytes in [0, 1000] {
        let lab = with_big_runc();
        let before = lab.tree();
        let server = faulty(&lab, RUNC, move |asked| Some(Reply::ok(asked.bytes).stall(bytes)));
        let run = apply(&lab, &server.url(), &ONE_RETRY);
        run.within(Duration::from_secs(15));
        assert_refused(&lab, &before, &run, 4, &[RUNC_PATH]);
        assert_eq!(server.gets(RUNC_FILE).len(), 2, "{run}");
    }
}

#[test]
fn h5_a_trickle_is_no_download() {
    let lab = with_big_runc();
    let before = lab.tree();
    let server = faulty(&lab, RUNC, |asked| Some(Reply::ok(asked.bytes).drip(1, Duration::from_millis(200))));
    let run = apply(&lab, &server.url(), &["--retries", "0", "--stall-timeout", "1"]);
    run.within(Duration::from_secs(20));
    assert_refused(&lab, &before, &run, 4, &[RUNC_PATH]);
}

#[test]
fn h5_a_slow_link_is_not_cut() {
    let lab = with_big_runc();
    let server =
        faulty(&lab, RUNC, |asked| Some(Reply::ok(asked.bytes).drip(40_000, Duration::from_millis(400))));
    let run = apply(&lab, &server.url(), &["--retries", "0", "--stall-timeout", "1"]);
    run.exits(0);
    assert!(run.took > Duration::from_secs(2), "not slower than the timeout: {:?}", run.took);
    assert_baked(&lab);
}

fn always(reply: impl Fn() -> Reply) -> impl Fn(Asked<'_>) -> Option<Reply> {
    move |_| Some(reply())
}

fn first_times(count: usize, reply: impl Fn() -> Reply) -> impl Fn(Asked<'_>) -> Option<Reply> {
    move |asked| (asked.earlier < count).then(&reply)
}
