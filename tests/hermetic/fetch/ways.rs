//! Redirects, labels and proxies (rows H9 to H11).

use super::{
    ONE_RETRY, RUNC_FILE, RUNC_PATH, answer, apply, apply_with, assert_baked, assert_cache_is_clean,
    assert_refused, authority, closed_port, faulty, help, lock, lock_text, mirror, served,
};
use crate::kit::http::{Reply, Server, identity};
use crate::kit::{CONTAINERD, Lab, RUNC, Run};

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
