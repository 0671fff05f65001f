//! Downloads that go wrong (rows H1 to H14 of the test matrix), the cache, and `nodebake lock`.
//!
//! Every server is on loopback and is told how to misbehave; nothing here needs a network.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::kit;
use crate::kit::http::{Identity, Reply, Request, Server, identity};
use crate::kit::{
    CNI, CONTAINERD, Component, Lab, Machine, Member, NODEBAKE, RUNC, Run, elf, gzip, run, sha256, skip,
    strace_to, strace_works, tar, works,
};
use serde_yaml::Value;

const RUNC_FILE: &str = RUNC.file;
const RUNC_PATH: &str = "/opencontainers/runc/releases/download/v1.3.6/runc.amd64";
const ONE_RETRY: [&str; 4] = ["--retries", "1", "--stall-timeout", "1"];
const TWO_RETRIES: [&str; 4] = ["--retries", "2", "--stall-timeout", "1"];

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

// ---------------------------------------------------------------- H9: redirects

#[test]
fn h9_a_redirect_is_followed() {
    let lab = Lab::new();
    let storage = mirror(&lab);
    let to = storage.url();
    let server = Server::http(move |request, _| Reply::redirect(format!("{to}{}", request.path())));
    apply(&lab, &server.url(), &ONE_RETRY).exits(0);
    assert_baked(&lab);
}

#[test]
fn h9_a_redirect_loop_ends() {
    let lab = Lab::new();
    let before = lab.tree();
    let server = faulty(&lab, RUNC, |asked| Some(Reply::redirect(asked.request.path())));
    let run = apply(&lab, &server.url(), &ONE_RETRY);
    assert_refused(&lab, &before, &run, 4, &[RUNC_PATH, "redirect"]);
    assert!(server.gets(RUNC_FILE).len() <= 30, "{} requests", server.gets(RUNC_FILE).len());
}

#[test]
fn h9_https_never_becomes_http() {
    let lab = Lab::new();
    let before = lab.tree();
    let plain = mirror(&lab);
    let to = plain.url();
    let identity = identity(&["127.0.0.1"]);
    let server =
        Server::https(&identity, move |request, _| Reply::redirect(format!("{to}{}", request.path())));
    let ca = authority(&lab, &identity);
    let run = apply(&lab, &server.url(), &["--ca-file", &ca, "--retries", "1"]);
    assert_refused(&lab, &before, &run, 4, &["redirect", &server.address.to_string()]);
    assert!(plain.requests().is_empty(), "asked without TLS: {:?}", plain.requests());
}

#[test]
fn h9_a_redirect_leads_to_no_file() {
    for scheme in ["file", "ftp"] {
        let lab = Lab::new();
        let before = lab.tree();
        let artifact = lab.artifacts.join(RUNC_FILE);
        let server =
            faulty(&lab, RUNC, move |_| Some(Reply::redirect(format!("{scheme}://{}", artifact.display()))));
        let run = apply(&lab, &server.url(), &ONE_RETRY);
        assert_refused(&lab, &before, &run, 4, &[RUNC_PATH]);
    }
}

// ---------------------------------------------------------------- H10: labels

#[test]
fn h10_content_encoding_gzip_is_a_label() {
    let lab = Lab::new();
    let server =
        faulty(&lab, CONTAINERD, |asked| Some(Reply::ok(asked.bytes).header("Content-Encoding", "gzip")));
    apply(&lab, &server.url(), &["--retries", "0"]).exits(0);
    assert_baked(&lab);
    for request in server.requests() {
        let accepted = request.header("accept-encoding").unwrap_or("identity");
        assert_eq!(accepted, "identity", "invites a proxy to compress {}", request.file());
    }
}

#[test]
fn h10_a_captive_portal_is_recognised() {
    let lab = Lab::new();
    let before = lab.tree();
    let page = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Wi-Fi</body></html>\n";
    let server = Server::http(move |_, _| Reply::ok(page).header("Content-Type", "text/html; charset=utf-8"));
    let run = apply(&lab, &server.url(), &[]);
    assert_refused(&lab, &before, &run, 5, &["HTML"]);
    assert!(
        help(&run).contains("portal") || help(&run).contains("proxy") || help(&run).contains("login"),
        "{run}"
    );
    assert_cache_is_clean(&lab);
}

// ---------------------------------------------------------------- H11: proxies

#[test]
fn h11_http_proxy_is_used() {
    for variable in ["http_proxy", "HTTP_PROXY", "all_proxy"] {
        let lab = Lab::new();
        let proxy = mirror(&lab);
        let run = apply_with(&lab, "http://mirror.invalid", &ONE_RETRY, &[(variable, &proxy.url())]);
        run.exits(0);
        assert_baked(&lab);
        assert!(
            proxy.requests().iter().all(|request| request.target.starts_with("http://mirror.invalid/")),
            "{variable}"
        );
    }
}

#[test]
fn h11_no_proxy_is_honoured() {
    for exception in ["127.0.0.1", "127.0.0.0/8", "*"] {
        let lab = Lab::new();
        let server = mirror(&lab);
        let proxy = Server::http(|_, _| Reply::error(502));
        let variables = [("http_proxy", proxy.url()), ("no_proxy", exception.to_owned())];
        let run = apply_with(
            &lab,
            &server.url(),
            &ONE_RETRY,
            &variables.each_ref().map(|(name, value)| (*name, value.as_str())),
        );
        assert!(proxy.requests().is_empty(), "through the proxy in spite of no_proxy={exception}\n{run}");
        run.exits(0);
        assert_baked(&lab);
    }
}

#[test]
fn h11_https_goes_through_the_proxy_as_a_tunnel() {
    let lab = Lab::new();
    let identity = identity(&["mirror.invalid"]);
    let files = served(&lab);
    let server = Server::https(&identity, move |request, _| answer(&files, request));
    let address = server.address;
    let proxy = Server::http(move |_, _| Reply::tunnel(address));
    let ca = authority(&lab, &identity);
    let run = apply_with(
        &lab,
        "https://mirror.invalid",
        &["--ca-file", &ca, "--retries", "1"],
        &[("https_proxy", &proxy.url())],
    );
    run.exits(0);
    assert_baked(&lab);
    let tunnels = proxy.requests();
    assert!(!tunnels.is_empty());
    assert!(
        tunnels.iter().all(|request| request.method == "CONNECT" && request.target == "mirror.invalid:443"),
        "{tunnels:?}"
    );
}

#[test]
fn h11_proxy_credentials_are_sent_and_never_shown() {
    const PASSWORD: &str = "s3cr3t-pa55";
    let lab = Lab::new();
    let credentials = |server: &Server| format!("http://baker:{PASSWORD}@{}", server.address);
    let encoded = "YmFrZXI6czNjcjN0LXBhNTU="; // baker:s3cr3t-pa55
    let unseen = |run: &Run| {
        for secret in [PASSWORD, encoded] {
            assert!(
                !run.stdout.contains(secret) && !run.errors().contains(secret),
                "shows `{secret}`\n{run}"
            );
        }
    };

    let denied = Server::http(|_, _| Reply::error(407));
    let before = lab.tree();
    let run = apply_with(&lab, "http://mirror.invalid", &ONE_RETRY, &[("http_proxy", &credentials(&denied))]);
    assert_refused(&lab, &before, &run, 4, &["407"]);
    unseen(&run);

    let down = format!("http://baker:{PASSWORD}@{}", closed_port());
    for (variable, source) in
        [("http_proxy", "http://mirror.invalid"), ("https_proxy", "https://mirror.invalid")]
    {
        let run = apply_with(&lab, source, &ONE_RETRY, &[(variable, &down)]);
        assert_refused(&lab, &before, &run, 4, &["proxy"]);
        unseen(&run);
    }

    let proxy = mirror(&lab);
    let run = apply_with(&lab, "http://mirror.invalid", &ONE_RETRY, &[("http_proxy", &credentials(&proxy))]);
    run.exits(0);
    unseen(&run);
    assert_baked(&lab);
    let sent: Vec<_> = proxy
        .requests()
        .iter()
        .map(|request| request.header("proxy-authorization").map(str::to_owned))
        .collect();
    assert!(sent.iter().all(|header| header.as_deref() == Some(&format!("Basic {encoded}"))), "{sent:?}");
}

#[test]
fn h11_credentials_in_the_source_are_sent_and_never_shown() {
    let lab = Lab::new();
    let before = lab.tree();
    let denied = Server::http(|_, _| Reply::error(401));
    let run = apply(&lab, &format!("http://baker:s3cr3t-pa55@{}", denied.address), &ONE_RETRY);
    assert_refused(&lab, &before, &run, 4, &["401"]);
    assert!(!run.errors().contains("s3cr3t-pa55") && !run.stdout.contains("s3cr3t-pa55"), "{run}");

    let server = mirror(&lab);
    let source = format!("http://baker:s3cr3t-pa55@{}", server.address);
    let run = lock(&lab, &source, &["amd64"]);
    run.exits(0);
    assert!(!lock_text(&lab).contains("s3cr3t-pa55"), "{}", lock_text(&lab));
    let run = apply(&lab, &source, &ONE_RETRY);
    run.exits(0);
    assert!(!run.errors().contains("s3cr3t-pa55") && !run.stdout.contains("s3cr3t-pa55"), "{run}");
    assert!(!String::from_utf8_lossy(&lab.read("var/lib/nodebake/receipt.json")).contains("s3cr3t-pa55"));
    let all = server.requests();
    assert!(
        all.iter().all(|request| request.header("authorization") == Some("Basic YmFrZXI6czNjcjN0LXBhNTU=")),
        "{all:?}"
    );
}

// ---------------------------------------------------------------- H12: trust

#[test]
fn h12_a_private_authority_needs_ca_file() {
    let lab = Lab::new();
    let before = lab.tree();
    let (server, identity) = tls_mirror(&lab);
    let run = apply(&lab, &server.url(), &ONE_RETRY);
    assert_refused(&lab, &before, &run, 4, &["certificate", &server.address.to_string()]);
    assert!(help(&run).contains("--ca-file"), "no remedy named\n{run}");
    assert!(server.requests().is_empty(), "a request went to a server that nobody trusts");

    let ca = authority(&lab, &identity);
    apply(&lab, &server.url(), &["--ca-file", &ca, "--retries", "0"]).exits(0);
    assert_baked(&lab);
}

#[test]
fn h12_a_certificate_for_another_name_is_refused() {
    let lab = Lab::new();
    let before = lab.tree();
    let identity = identity(&["elsewhere.invalid"]);
    let files = served(&lab);
    let server = Server::https(&identity, move |request, _| answer(&files, request));
    let ca = authority(&lab, &identity);
    let run = apply(&lab, &server.url(), &["--ca-file", &ca, "--retries", "0"]);
    assert_refused(&lab, &before, &run, 4, &["certificate"]);
    assert!(server.requests().is_empty());
}

#[test]
fn h12_works_without_any_trust_store() {
    let missing = [("SSL_CERT_FILE", "/nonexistent"), ("SSL_CERT_DIR", "/nonexistent")];
    let lab = Lab::new();
    let before = lab.tree();
    let (server, identity) = tls_mirror(&lab);
    let run = apply_with(&lab, &server.url(), &["--retries", "0"], &missing);
    assert_refused(&lab, &before, &run, 4, &["certificate"]);
    assert!(help(&run).contains("--ca-file"), "no remedy named\n{run}");
    let ca = authority(&lab, &identity);
    apply_with(&lab, &server.url(), &["--ca-file", &ca, "--retries", "0"], &missing).exits(0);
    assert_baked(&lab);

    let lab = Lab::new();
    let plain = mirror(&lab);
    apply_with(&lab, &plain.url(), &["--retries", "0"], &missing).exits(0);
    let lab = Lab::new();
    run_with(
        lab.command(["apply", "--offline"]).arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec),
        &missing,
    )
    .exits(0);
}

#[test]
fn h12_works_where_etc_ssl_is_empty() {
    if !works(["unshare", "-m", "true"]) {
        return skip("unshare -m does not work here");
    }
    let lab = Lab::new();
    let (server, identity) = tls_mirror(&lab);
    let ca = authority(&lab, &identity);
    let empty = "mount -t tmpfs none /etc/ssl && exec \"$@\"";
    let mut command = lab.wrapped(["unshare", "-m", "sh", "-c", empty, "sh", NODEBAKE]);
    run(on(&lab, &mut command, "apply", &server.url()).args(["--ca-file", &ca, "--retries", "0"])).exits(0);
    assert_baked(&lab);
}

// ---------------------------------------------------------------- H14: no socket

#[test]
fn h14_offline_opens_no_socket() {
    if !strace_works() {
        return;
    }
    let lab = Lab::new();
    let from_directory = traced(&lab, &["apply", "--root", path(&lab.root), "--spec", path(&lab.spec)]);
    assert_eq!(from_directory, [""; 0], "a directory needs no socket");
    assert_baked(&lab);

    let lab = Lab::new();
    let server = mirror(&lab);
    let source = server.url();
    let cache = cache(&lab);
    let fetch = |root: &Path, flags: &[&str]| {
        let line = [
            "apply",
            "--root",
            path(root),
            "--spec",
            path(&lab.spec),
            "--source",
            &source,
            "--cache-dir",
            &cache,
        ];
        traced(&lab, &[&line, flags].concat())
    };
    assert_ne!(fetch(&lab.root, &[]), [""; 0], "the trace sees a download's socket");
    assert_eq!(fetch(&lab.root, &[]), [""; 0], "nothing to do needs no socket");
    let second = lab.another_root("second");
    assert_eq!(fetch(&second, &["--offline"]), [""; 0], "the cache needs no socket");
    assert_eq!(kit::tree(&second), lab.tree());
}

#[test]
fn h14_offline_without_the_bytes_says_so() {
    let lab = Lab::new();
    let before = lab.tree();
    let server = mirror(&lab);
    let run = apply(&lab, &server.url(), &["--offline"]);
    assert_refused(&lab, &before, &run, 4, &["offline", CONTAINERD.file]);
    assert!(server.requests().is_empty(), "{run}");
}

#[test]
fn h14_works_without_any_network() {
    if !works(["unshare", "-n", "true"]) {
        return skip("unshare -n does not work here");
    }
    let lab = Lab::new();
    lab.apply_under(["unshare", "-n"]).exits(0);
    assert_baked(&lab);
}

// ---------------------------------------------------------------- the cache, and digests

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

// ---------------------------------------------------------------- lock

#[test]
fn lock_reads_every_checksum_grammar() {
    let lab = unpinned();
    let server = upstream(|_| {});
    lock(&lab, &server.url(), &["amd64", "arm64"]).exits(0);
    let entries = lock_entries(&lab);
    assert_eq!(entries.len(), 2 * RELEASES.len(), "{}", lock_text(&lab));
    for (release, arch) in releases() {
        let entry = entry_of(&entries, release.component, arch);
        let bytes = release.bytes(arch);
        assert_eq!(entry["version"], Value::from(release.version));
        assert_eq!(entry["sha256"], Value::from(sha256(&bytes)), "{}", release.component);
        assert_eq!(entry["size"], Value::from(bytes.len()), "{}", release.component);
        let url = entry["url"].as_str().unwrap();
        assert!(url.ends_with(&release.path(arch)), "{url}");
        let how = serde_yaml::to_string(entry).unwrap();
        assert!(how.contains(&release.checksums(arch)), "not said from where:\n{how}");
    }
}

#[test]
fn lock_says_where_the_digest_came_from() {
    let lab = Lab::new();
    let server = mirror(&lab);
    lock(&lab, &server.url(), &["amd64"]).exits(0);
    let entries = lock_entries(&lab);
    for component in [CONTAINERD, RUNC, CNI] {
        let bytes = fs::read(lab.artifacts.join(component.file)).unwrap();
        let entry = entry_of(&entries, component.name, "amd64");
        assert_eq!(entry["sha256"], Value::from(sha256(&bytes)));
        let how: Vec<_> = entry.as_mapping().unwrap().values().filter(|value| *value == "spec").collect();
        assert_eq!(how.len(), 1, "not said that the spec had it: {entry:?}");
    }
}

#[test]
fn lock_is_the_same_twice() {
    let lab = unpinned();
    let server = upstream(|_| {});
    lock(&lab, &server.url(), &["amd64", "arm64"]).exits(0);
    let first = lock_text(&lab);
    lock(&lab, &server.url(), &["arm64", "amd64"]).exits(0);
    assert_eq!(first, lock_text(&lab));
}

#[test]
fn lock_pins_a_spec_without_digests() {
    let lab = unpinned();
    let before = lab.tree();
    let server = upstream(|_| {});
    let run = apply(&lab, &server.url(), &ONE_RETRY);
    assert_refused(&lab, &before, &run, 5, &["2.1.99"]);

    lock(&lab, &server.url(), &["amd64", "arm64"]).exits(0);
    apply(&lab, &server.url(), &ONE_RETRY).exits(0);
    for (inside, release, member) in [("usr/local/sbin/runc", 1, ""), ("usr/local/bin/crictl", 3, "crictl")] {
        let expected = RELEASES[release].elf("amd64", member);
        assert_eq!(lab.read(inside), expected, "{inside}");
    }
    lab.has_no_leftovers();
}

#[test]
fn lock_is_believed_more_than_the_mirror() {
    let lab = unpinned();
    let before = lab.tree();
    lock(&lab, &upstream(|_| {}).url(), &["amd64"]).exits(0);
    fs::remove_dir_all(cache(&lab)).unwrap();
    // A mirror that replaces a file and its checksum file alike.
    let forged = upstream(|files| {
        let runc = elf(Machine::X86_64, b"forged");
        files.insert(RELEASES[1].path("amd64"), runc.clone());
        files.insert(RELEASES[1].checksums("amd64"), format!("{}  runc.amd64\n", sha256(&runc)).into_bytes());
    });
    let run = apply(&lab, &forged.url(), &ONE_RETRY);
    assert_refused(&lab, &before, &run, 5, &["runc"]);
}

#[test]
fn lock_without_a_matching_digest_is_not_written() {
    let wrong = "0".repeat(64);
    let lies = [
        ("containerd", format!("{wrong}  containerd-2.1.99-linux-amd64.tar.gz\n")),
        ("containerd", format!("{wrong}  containerd-2.1.98-linux-amd64.tar.gz\n")),
        ("containerd", String::new()),
        ("containerd", format!("{}  containerd-2.1.99-linux-amd64.tar.gz\n", "0".repeat(63))),
        ("containerd", "<!DOCTYPE html><html><body>Sign in</body></html>\n".to_owned()),
        (
            "runc",
            format!(
                "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{wrong}  runc.arm64\n-----BEGIN PGP SIGNATURE-----\n\niQ\n-----END PGP SIGNATURE-----\n"
            ),
        ),
        ("crictl", format!("{wrong}\n")),
        ("crictl", "no digest here\n".to_owned()),
        ("nerdctl", format!("{wrong}  nerdctl-full-2.99.0-linux-amd64.tar.gz\n")),
    ];
    for (component, checksums) in lies {
        let lab = unpinned();
        let release = RELEASES.iter().find(|release| release.component == component).unwrap();
        let text = checksums.clone();
        let server = upstream(move |files| {
            files.insert(release.checksums("amd64"), text.into_bytes());
        });
        let run = lock(&lab, &server.url(), &["amd64"]);
        run.exits(5).says(component);
        assert!(!lock_path(&lab).exists(), "locked in spite of {checksums:?}");
    }
}

#[test]
fn lock_without_a_checksum_file_names_it() {
    let lab = unpinned();
    let server = upstream(|files| drop(files.remove(&RELEASES[0].checksums("amd64"))));
    let run = lock(&lab, &server.url(), &["amd64"]);
    run.exits(5).says("containerd-2.1.99-linux-amd64.tar.gz.sha256sum").says("sha256");
    assert!(!lock_path(&lab).exists());
}

#[test]
fn lock_that_fails_keeps_the_old_one() {
    let lab = unpinned();
    lock(&lab, &upstream(|_| {}).url(), &["amd64"]).exits(0);
    let before = lock_text(&lab);
    let files = kit::paths(&lab.dir).len();
    let down = Server::http(|_, _| Reply::error(503));
    lock(&lab, &down.url(), &["amd64"]).exits(4).says("503");
    assert_eq!(lock_text(&lab), before);
    assert_eq!(kit::paths(&lab.dir).len(), files, "a temporary file is left");
}

#[test]
fn lock_checks_what_the_catalogue_knows() {
    let mut lab = Lab::new();
    lab.spec_also("");
    fs::write(
        &lab.spec,
        "components:\n  containerd: {version: 2.1.9}\n  runc: false\n  cni-plugins: false\n",
    )
    .unwrap();
    // The laboratory's containerd is not upstream's, and a checksum file that says it is changes nothing.
    let mut files = served(&lab);
    let sums =
        format!("{}  {}\n", sha256(&fs::read(lab.artifacts.join(CONTAINERD.file)).unwrap()), CONTAINERD.file);
    let path = files.keys().find(|path| path.ends_with(CONTAINERD.file)).unwrap().clone();
    files.insert(format!("{path}.sha256sum"), sums.into_bytes());
    let server = Server::http(move |request, _| answer(&files, request));
    lock(&lab, &server.url(), &["amd64"]).exits(5).says("containerd");
    assert!(!lock_path(&lab).exists());
}

#[test]
fn v7_lock_of_an_unknown_version_or_form_is_refused() {
    let lab = unpinned();
    lock(&lab, &upstream(|_| {}).url(), &["amd64"]).exits(0);
    let good = lock_text(&lab);
    let digest = sha256(&RELEASES[1].bytes("amd64"));
    assert!(good.contains("\nversion: 1\n") || good.starts_with("version: 1\n"), "{good}");
    let before = lab.tree();
    let bad = [
        good.replace("version: 1\n", "version: 99\n"),
        good.replace(&digest, &digest[1..]),
        good.replace(&digest, &digest.replace(|c: char| c.is_ascii_hexdigit(), "g")),
        good.replace("size:", "sise:"),
        good.replace("sha256:", "sha257:"),
        format!("{good}{good}"),
        good[..good.len() / 2].to_owned() + "\n\"",
        "{".to_owned(),
        "- a list\n".to_owned(),
        String::new(),
    ];
    for text in bad {
        assert_ne!(text, good);
        fs::write(lock_path(&lab), &text).unwrap();
        let run = lab.apply();
        assert_refused(&lab, &before, &run, 3, &["nodebake.lock"]);
    }
}

#[test]
fn lock_needs_no_root_and_touches_none() {
    let lab = unpinned();
    let before = lab.tree();
    lock(&lab, &upstream(|_| {}).url(), &["amd64"]).exits(0);
    kit::assert_same("the root", &before, &lab.tree());
}

// ---------------------------------------------------------------- running

fn apply(lab: &Lab, source: &str, flags: &[&str]) -> Run {
    apply_to(lab, &lab.root, source, flags)
}

fn apply_to(lab: &Lab, root: &Path, source: &str, flags: &[&str]) -> Run {
    let mut command = lab.command(["apply", "--source", source, "--cache-dir", &cache(lab)]);
    run(command.arg("--root").arg(root).arg("--spec").arg(&lab.spec).args(flags))
}

fn apply_with(lab: &Lab, source: &str, flags: &[&str], variables: &[(&str, &str)]) -> Run {
    run_with(on(lab, &mut lab.command([]), "apply", source).args(flags), variables)
}

fn run_with(command: &mut Command, variables: &[(&str, &str)]) -> Run {
    run(command.envs(variables.iter().copied()))
}

/// Adds the words of a whole call to a command that ends in the binary.
fn on<'a>(lab: &Lab, command: &'a mut Command, verb: &str, source: &str) -> &'a mut Command {
    let command = command.arg(verb).arg("--root").arg(&lab.root).arg("--spec").arg(&lab.spec);
    command.args(["--source", source, "--cache-dir", &cache(lab)])
}

fn lock(lab: &Lab, source: &str, arches: &[&str]) -> Run {
    let mut command = lab.command(["lock", "--source", source, "--cache-dir", &cache(lab)]);
    command.args(["--retries", "0"]).arg("--spec").arg(&lab.spec);
    run(command.args(arches.iter().flat_map(|arch| ["--arch", arch])))
}

/// Runs under strace and returns the lines about Internet sockets.
fn traced(lab: &Lab, words: &[&str]) -> Vec<String> {
    let log = lab.dir.join("trace");
    let mut command = lab.wrapped(strace_to(&log, ["trace=network"]));
    run(command.arg(NODEBAKE).args(words)).exits(0);
    let text = fs::read_to_string(log).unwrap();
    text.lines().filter(|line| line.contains("AF_INET")).map(str::to_owned).collect()
}

fn cache(lab: &Lab) -> String {
    path(&lab.dir.join("cache")).to_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

// ---------------------------------------------------------------- judging

/// The mirror's runc is in the root, whole and executable, and nothing temporary is left.
#[track_caller]
fn assert_baked(lab: &Lab) {
    assert_eq!(
        sha256(&lab.read("usr/local/sbin/runc")),
        sha256(&fs::read(lab.artifacts.join(RUNC_FILE)).unwrap())
    );
    assert!(lab.exists("usr/local/bin/containerd") && lab.exists("opt/cni/bin/bridge"));
    lab.has_no_leftovers();
}

/// What a user needs of a failure: the code, what and where, a remedy; and a root as it was.
#[track_caller]
fn assert_refused(lab: &Lab, before: &str, run: &Run, code: i32, says: &[&str]) {
    run.exits(code);
    let message = message(run);
    for needle in says {
        assert!(message.contains(needle), "the error lacks `{needle}`\n{run}");
    }
    assert!(!help(run).is_empty(), "no remedy\n{run}");
    run.is_printable();
    kit::assert_same("the root", before, &lab.tree());
}

/// The error itself, without the progress before it.
fn message(run: &Run) -> String {
    let errors = run.errors();
    errors.split_once("error:").map(|(_, message)| message.to_owned()).unwrap_or_default()
}

/// The text of the `help:` lines.
fn help(run: &Run) -> String {
    let message = message(run);
    let lines = message.lines().filter_map(|line| line.split_once("help:"));
    lines.map(|(_, help)| help.trim()).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn assert_resumed(server: &Server) {
    let starts: Vec<_> = server.gets(RUNC_FILE).iter().map(Request::range_start).collect();
    assert!(starts.iter().flatten().any(|start| *start > 0), "never asked for a range: {starts:?}");
}

/// Whatever the cache holds are artifacts whose digests the spec names: nothing cut, nothing wrong.
#[track_caller]
fn assert_cache_is_clean(lab: &Lab) {
    let good: Vec<String> = [CONTAINERD, RUNC, CNI]
        .iter()
        .map(|c| sha256(&fs::read(lab.artifacts.join(c.file)).unwrap()))
        .collect();
    for file in files(Path::new(&cache(lab))) {
        let bytes = fs::read(&file).unwrap();
        assert!(
            bytes.is_empty() || good.contains(&sha256(&bytes)),
            "kept {} ({} bytes)",
            file.display(),
            bytes.len()
        );
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = if dir.exists() { kit::paths(dir) } else { Vec::new() };
    files.retain(|path| path.is_file());
    files
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

// ---------------------------------------------------------------- mirrors

/// The laboratory's artifacts under upstream's paths.
fn served(lab: &Lab) -> BTreeMap<String, Vec<u8>> {
    let at = |prefix: &str, component: Component| {
        let bytes = fs::read(lab.artifacts.join(component.file)).unwrap();
        (format!("/{prefix}/releases/download/v{}/{}", component.version, component.file), bytes)
    };
    let repositories = [
        ("containerd/containerd", CONTAINERD),
        ("opencontainers/runc", RUNC),
        ("containernetworking/plugins", CNI),
    ];
    repositories.map(|(prefix, component)| at(prefix, component)).into()
}

fn answer(files: &BTreeMap<String, Vec<u8>>, request: &Request) -> Reply {
    files.get(request.path()).map_or_else(|| Reply::error(404), |bytes| Reply::ok(bytes.clone()))
}

fn mirror(lab: &Lab) -> Server {
    faulty(lab, RUNC, |_| None)
}

/// A request for the one artifact that goes wrong.
struct Asked<'a> {
    request: &'a Request,
    /// How many requests for it came before.
    earlier: usize,
    /// What an honest mirror would send.
    bytes: Vec<u8>,
}

/// An honest mirror, except where `fault` answers for one component.
fn faulty<F>(lab: &Lab, component: Component, fault: F) -> Server
where
    F: Fn(Asked<'_>) -> Option<Reply> + Send + Sync + 'static,
{
    let files = served(lab);
    Server::http(move |request, earlier| {
        let asked = files.get(request.path()).filter(|_| request.file() == component.file);
        let reply = asked.and_then(|bytes| fault(Asked { request, earlier, bytes: bytes.clone() }));
        reply.unwrap_or_else(|| answer(&files, request))
    })
}

fn tls_mirror(lab: &Lab) -> (Server, Identity) {
    let identity = identity(&["127.0.0.1"]);
    let files = served(lab);
    (Server::https(&identity, move |request, _| answer(&files, request)), identity)
}

fn always(reply: impl Fn() -> Reply) -> impl Fn(Asked<'_>) -> Option<Reply> {
    move |_| Some(reply())
}

fn first_times(count: usize, reply: impl Fn() -> Reply) -> impl Fn(Asked<'_>) -> Option<Reply> {
    move |asked| (asked.earlier < count).then(&reply)
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

/// A runc of 256 KiB in which no two places look alike.
fn with_big_runc() -> Lab {
    let mut state = 0x9e37_79b9_u32;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()
    });
    let noise: Vec<u8> = noise.take(64 << 10).flatten().collect();
    let mut lab = Lab::new();
    lab.ship(RUNC, &elf(Machine::X86_64, &noise));
    lab
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

fn authority(lab: &Lab, identity: &Identity) -> String {
    let file = lab.dir.join("ca.pem");
    fs::write(&file, &identity.authority).unwrap();
    path(&file).to_owned()
}

/// An address where nobody listens.
fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

// ---------------------------------------------------------------- upstream, with its checksum files

/// A release that the catalogue does not know, so that only upstream's checksum file has its digest.
struct Release {
    component: &'static str,
    version: &'static str,
    path: &'static str,
    checksums: &'static str,
    members: &'static [&'static str],
}

const RELEASES: [Release; 5] = [
    Release {
        component: "containerd",
        version: "2.1.99",
        path: "/containerd/containerd/releases/download/v2.1.99/containerd-2.1.99-linux-ARCH.tar.gz",
        checksums: "/containerd/containerd/releases/download/v2.1.99/containerd-2.1.99-linux-ARCH.tar.gz.sha256sum",
        members: &["bin/containerd", "bin/containerd-shim-runc-v2", "bin/ctr"],
    },
    Release {
        component: "runc",
        version: "1.3.99",
        path: "/opencontainers/runc/releases/download/v1.3.99/runc.ARCH",
        checksums: "/opencontainers/runc/releases/download/v1.3.99/runc.sha256sum",
        members: &[],
    },
    Release {
        component: "cni-plugins",
        version: "1.9.99",
        path: "/containernetworking/plugins/releases/download/v1.9.99/cni-plugins-linux-ARCH-v1.9.99.tgz",
        checksums: "/containernetworking/plugins/releases/download/v1.9.99/cni-plugins-linux-ARCH-v1.9.99.tgz.sha256",
        members: &["./bridge", "./host-local", "./loopback", "./portmap"],
    },
    Release {
        component: "crictl",
        version: "1.34.99",
        path: "/kubernetes-sigs/cri-tools/releases/download/v1.34.99/crictl-v1.34.99-linux-ARCH.tar.gz",
        checksums: "/kubernetes-sigs/cri-tools/releases/download/v1.34.99/crictl-v1.34.99-linux-ARCH.tar.gz.sha256",
        members: &["crictl"],
    },
    Release {
        component: "nerdctl",
        version: "2.99.0",
        path: "/containerd/nerdctl/releases/download/v2.99.0/nerdctl-2.99.0-linux-ARCH.tar.gz",
        checksums: "/containerd/nerdctl/releases/download/v2.99.0/SHA256SUMS",
        members: &["nerdctl"],
    },
];

impl Release {
    fn path(&self, arch: &str) -> String {
        self.path.replace("ARCH", arch)
    }

    fn checksums(&self, arch: &str) -> String {
        self.checksums.replace("ARCH", arch)
    }

    fn file(&self, arch: &str) -> String {
        let path = self.path(arch);
        path.rsplit('/').next().unwrap().to_owned()
    }

    fn elf(&self, arch: &str, member: &str) -> Vec<u8> {
        let machine = if arch == "arm64" { Machine::Aarch64 } else { Machine::X86_64 };
        elf(machine, format!("{} {member}", self.component).as_bytes())
    }

    fn bytes(&self, arch: &str) -> Vec<u8> {
        if self.members.is_empty() {
            return self.elf(arch, "");
        }
        let members: Vec<Member> =
            self.members.iter().map(|name| Member::file(name, 0o755, &self.elf(arch, name))).collect();
        gzip(&tar(&members))
    }

    /// The checksum file's text, in the grammar that this upstream uses.
    fn sums(&self, arch: &str) -> String {
        let line = |arch: &str| format!("{}  {}\n", sha256(&self.bytes(arch)), self.file(arch));
        let other = "1".repeat(64);
        match self.component {
            // A path before the name, and a neighbour whose name contains this one.
            "containerd" => format!(
                "{other}  releases/{0}.asc\n{1}  releases/{0}\n",
                self.file(arch),
                sha256(&self.bytes(arch))
            ),
            "runc" => format!(
                "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{other}  libseccomp-2.5.6.tar.gz\n{}{}{other}  runc.tar.xz\n\
                 -----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCgAdFiEE\n=abcd\n-----END PGP SIGNATURE-----\n",
                line("amd64"),
                line("arm64"),
            ),
            "crictl" => format!("{}\n", sha256(&self.bytes(arch))),
            // All files of the release in one list, in binary mode.
            "nerdctl" => {
                let full = self.file("amd64").replace("nerdctl-", "nerdctl-full-");
                let lines = format!("{other}  {full}\n{}{}", line("amd64"), line("arm64"));
                lines.replace("  ", " *")
            }
            _ => line(arch),
        }
    }
}

fn releases() -> impl Iterator<Item = (&'static Release, &'static str)> {
    RELEASES.iter().flat_map(|release| ["amd64", "arm64"].map(|arch| (release, arch)))
}

/// Upstream with every release for two architectures, after `change`.
fn upstream(change: impl FnOnce(&mut BTreeMap<String, Vec<u8>>)) -> Server {
    let mut files = BTreeMap::new();
    for (release, arch) in releases() {
        files.insert(release.path(arch), release.bytes(arch));
        files.insert(release.checksums(arch), release.sums(arch).into_bytes());
    }
    change(&mut files);
    Server::http(move |request, _| answer(&files, request))
}

/// A laboratory whose spec names versions and no digest.
fn unpinned() -> Lab {
    let lab = Lab::new();
    let mut spec = String::from("components:\n");
    for release in &RELEASES {
        spec += &format!("  {}: {{version: {}}}\n", release.component, release.version);
    }
    fs::write(&lab.spec, spec).unwrap();
    lab
}

fn lock_path(lab: &Lab) -> PathBuf {
    lab.dir.join("nodebake.lock")
}

fn lock_text(lab: &Lab) -> String {
    fs::read_to_string(lock_path(lab)).unwrap()
}

/// Every mapping in the lock that has a digest, wherever it stands.
fn lock_entries(lab: &Lab) -> Vec<Value> {
    fn collect(value: &Value, into: &mut Vec<Value>) {
        match value {
            Value::Mapping(map) if map.contains_key("sha256") => into.push(value.clone()),
            Value::Mapping(map) => map.values().for_each(|value| collect(value, into)),
            Value::Sequence(list) => list.iter().for_each(|value| collect(value, into)),
            _ => {}
        }
    }
    let mut entries = Vec::new();
    collect(&serde_yaml::from_str(&lock_text(lab)).unwrap(), &mut entries);
    entries
}

#[track_caller]
fn entry_of<'a>(entries: &'a [Value], component: &str, arch: &str) -> &'a Value {
    let of = |entry: &&Value| entry["component"] == component && entry["arch"] == arch;
    let found: Vec<_> = entries.iter().filter(of).collect();
    assert_eq!(found.len(), 1, "{component} for {arch} in {entries:?}");
    found[0]
}
