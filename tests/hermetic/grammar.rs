//! Values of the spec that another program reads later (rows W3 and W4): containerd and Go, systemd, the kernel. What
//! that program would drop without a message is refused here, with the place and the right form.

use crate::kit::certificates::{Pair, new_pair, pair};
use crate::kit::{Lab, write};

/// Plans a spec and expects a refusal that says all of `says`.
#[track_caller]
fn refused(lab: &mut Lab, yaml: &str, says: &[&str]) {
    lab.spec_also(&format!("{yaml}\n"));
    let run = lab.plan();
    run.exits(3).says("nodebake.yaml:").is_printable();
    says.iter().for_each(|word| {
        assert!(run.errors().contains(word), "{yaml}: no `{word}`\n{run}");
    });
}

#[track_caller]
fn accepted(lab: &mut Lab, yaml: &str) {
    lab.spec_also(&format!("{yaml}\n"));
    let run = lab.run(["plan"], &lab.root);
    assert_eq!(run.code, Some(0), "{yaml}\n{run}");
}

fn mirror(url: &str, more: &str) -> String {
    format!("registries: {{r.example: {{mirrors: [{{url: '{url}'{more}}}]}}}}")
}

/// containerd appends /v2 to a URL that does not end in it.
#[test]
fn w3_a_url_that_containerd_extends_is_refused() {
    let mut lab = Lab::new();
    for path in ["/v2/dockerhub", "/v2/a/b/", "//v2/x", "/api/docker/v2/hub", "/v1"] {
        let url = format!("https://m.example{path}");
        refused(&mut lab, &mirror(&url, ""), &["override_path", "/v2/REPOSITORY"]);
        refused(
            &mut lab,
            &format!("registries: {{r.example: {{server: '{url}'}}}}"),
            &["strict", "/v2/REPOSITORY"],
        );
    }
    refused(&mut lab, &mirror("https://m.example", ", override_path: true"), &["https://m.example/v2"]);
    refused(&mut lab, &mirror("https://m.example/", ", override_path: true"), &["https://m.example/v2"]);
    for (url, more) in [
        ("https://m.example/v2", ""),
        ("https://m.example/proxy", ""),
        ("https://m.example/proxy/v2", ""),
        ("https://m.example/v2/dockerhub", ", override_path: true"),
        ("https://m.example/artifactory/api/docker/hub/v2", ", override_path: true"),
    ] {
        accepted(&mut lab, &mirror(url, more));
    }
}

/// A registry of `strict` mirrors that give nothing.
#[test]
fn w3_strict_mirrors_without_pull_are_refused() {
    let mut lab = Lab::new();
    let registry = |strict, capability| {
        format!(
            "registries: {{r.example: {{strict: {strict}, mirrors: [{{url: 'https://m.example', capabilities: [{capability}]}}]}}}}"
        )
    };
    for capability in ["push", "resolve"] {
        refused(&mut lab, &registry(true, capability), &["strict", "`pull`"]);
        accepted(&mut lab, &registry(false, capability));
    }
    accepted(&mut lab, &registry(true, "pull"));
}

/// What will be asked is shown, as containerd makes it of the file.
#[test]
fn w3_a_verbose_plan_shows_the_urls_that_are_asked() {
    let mut lab = Lab::new();
    lab.spec_also(
        "registries:\n  docker.io: {strict: true, mirrors: [{url: 'https://a.example/hub'}, {url: 'https://b.example/v2/hub', override_path: true}]}\n  \
         quay.io: {mirrors: [{url: 'HTTP://C.example:5000/'}]}\n  _default: {server: 'https://d.example/v2'}\n",
    );
    let run = lab.run(["plan", "-v"], &lab.root);
    for line in [
        "images of docker.io are asked under https://a.example/hub/v2/REPOSITORY, then https://b.example/v2/hub/REPOSITORY\n",
        "images of quay.io are asked under http://c.example:5000/v2/REPOSITORY, then https://quay.io/v2/REPOSITORY\n",
        "images of _default are asked under https://d.example/v2/REPOSITORY\n",
    ] {
        assert!(run.errors().contains(line), "{line}\n{run}");
    }
    assert!(!lab.plan().errors().contains("asked under"));
}

/// Docker Hub's other names.
#[test]
fn w3_a_web_site_is_no_registry() {
    let mut lab = Lab::new();
    for host in ["docker.io", "index.docker.io", "hub.docker.com", "DOCKER.IO", "docker.io:443"] {
        let server = format!(
            "registries: {{docker.io: {{server: 'https://{host}', mirrors: [{{url: 'https://m.example'}}]}}}}"
        );
        refused(&mut lab, &server, &["registry-1.docker.io"]);
        refused(&mut lab, &mirror(&format!("http://{host}"), ""), &["registry-1.docker.io"]);
    }
    for name in ["index.docker.io", "hub.docker.com", "Docker.io"] {
        refused(&mut lab, &format!("registries: {{{name}: {{}}}}"), &["use `docker.io`"]);
    }
    accepted(&mut lab, &mirror("https://registry-1.docker.io", ""));
    accepted(&mut lab, "registries: {registry-1.docker.io: {mirrors: [{url: 'https://m.example'}]}}");
}

#[test]
fn w3_a_registry_that_no_image_names_is_refused() {
    let mut lab = Lab::new();
    for name in [
        "'fd00::2'",
        "'registry.example:5000:1'",
        "harbor",
        "my_registry.example",
        "'r.example:0'",
        "'r.example:+5'",
        "'*.example'",
        "r..example",
    ] {
        refused(&mut lab, &format!("registries: {{{name}: {{}}}}"), &["registr"]);
    }
    refused(&mut lab, "registries: {harbor: {}}", &["harbor:443"]);
}

#[test]
fn w3_headers_that_are_not_sent_are_refused() {
    let mut lab = Lab::new();
    let header = |name: &str| mirror("https://m.example", &format!(", headers: {{{name}: x}}"));
    for name in ["'Authorization:'", "'X Team'", "''", "Münchén", "Host", "content-length", "'a/b'"] {
        refused(&mut lab, &header(name), &["header"]);
    }
    refused(
        &mut lab,
        &mirror("https://m.example", ", headers: {authorization: a, Authorization: b}"),
        &["twice"],
    );
    for name in ["authorization", "X.Dot", "X_under", "'x~|`^'"] {
        accepted(&mut lab, &header(name));
    }
}

/// Go goes past a proxy that it can't parse.
#[test]
fn w3_a_proxy_that_go_drops_is_refused() {
    let mut lab = Lab::new();
    for value in [
        "http://svc-proxy:abc%G4g@proxy.example:3128",
        "http://u:examplepass%@proxy.example",
        "http://u:p#ss@proxy.example",
        "http://u:pa ss@proxy.example",
        "http://u:p/ss@proxy.example",
        "http://DOM\\u:p@proxy.example",
        "htp://proxy.example:3128",
        "http://:3128",
        "http://proxy.example:31280000",
        "http://[::1:3128",
    ] {
        for key in ["http", "https"] {
            refused(&mut lab, &format!("containerd: {{proxy: {{{key}: '{value}'}}}}"), &["%25"]);
        }
    }
    for value in ["10.0.0.0/33", "a.example b.example", "http://a.example", "*a.example", "10.0.*"] {
        refused(
            &mut lab,
            &format!("containerd: {{proxy: {{no_proxy: 'localhost,{value}'}}}}"),
            &["matches no host"],
        );
    }
    accepted(
        &mut lab,
        "containerd: {proxy: {http: 'proxy.example:3128', https: 'http://DOM%5Cu:p%40ss%2Fw%25@proxy.example:3128', no_proxy: 'localhost, .svc,*.example.com, 10.0.0.0/8,[fd00::1]:443'}}",
    );
}

#[test]
fn w3_numbers_and_names_that_their_readers_refuse_are_refused() {
    let mut lab = Lab::new();
    for timeout in ["5", "1..5s", "5 s", "9999999h", "-5s", ".s", "5d"] {
        refused(&mut lab, &mirror("https://m.example", &format!(", dial_timeout: '{timeout}'")), &["1m30s"]);
    }
    for timeout in ["0s", "1.5s", "1m30s", "300ms"] {
        accepted(&mut lab, &mirror("https://m.example", &format!(", dial_timeout: '{timeout}'")));
    }
    for limit in ["0", "'65536:1024'", "'infinity:1'", "'+5'", "'1:2:3'"] {
        refused(&mut lab, &format!("containerd: {{limit_nofile: {limit}}}"), &["limit"]);
    }
    for image in [
        "https://r.example/pause:3.10",
        "R.example/Pause:3",
        "'r.example/pause:3.10 '",
        "'pause@sha256:1'",
        "''",
    ] {
        refused(&mut lab, &format!("containerd: {{config: {{sandbox_image: {image}}}}}"), &["pause:3.10"]);
    }
    refused(&mut lab, "kernel: {sysctl: {vm.max_map_count: ''}}", &["empty"]);
    refused(&mut lab, "kernel: {sysctl: {vm..max: 1}}", &["vm..max"]);
    for value in ["'yes'", "'1.0'", "'0x1'", "'1 0'"] {
        refused(&mut lab, &format!("kernel: {{sysctl: {{net.ipv4.ip_forward: {value}}}}}"), &["number"]);
        refused(&mut lab, &format!("kernel: {{sysctl: {{net/ipv4/ip_forward: {value}}}}}"), &["number"]);
    }
    for image in ["https://x/y", "r.example/A"] {
        let mut command = lab.command(["verify", "--pull", image, "--root"]);
        crate::kit::run(command.arg(&lab.root)).exits(2).says("image's name");
    }
}

// ---------------------------------------------------------------- W4: certificates

/// A spec with a CA, a client in one file and a client's pair.
fn with_certificates(ca: &[u8], both: &[u8], pair: (&[u8], &[u8])) -> Lab {
    let mut lab = Lab::new();
    for (name, bytes) in [("ca.pem", ca), ("both.pem", both), ("c.crt", pair.0), ("c.key", pair.1)] {
        write(&lab.dir.join(name), bytes);
    }
    lab.spec_also(&mirror("https://m.example", ", ca: ca.pem, client: [both.pem, [c.crt, c.key]]"));
    lab
}

#[test]
fn w4_an_authority_without_a_certificate_is_refused() {
    let Pair { certificate, key } = pair();
    let both = format!("{certificate}{key}");
    let broken = certificate.replacen("\nMII", "\nMIX", 1);
    let other = certificate.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
    let wide: Vec<u8> = certificate.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let der = der_of(certificate);
    for (ca, says) in [
        (format!("\u{feff}{certificate}").into_bytes(), "byte order mark"),
        (Vec::new(), "no certificate"),
        (b"<html>Not found</html>\n".to_vec(), "no certificate"),
        (broken.into_bytes(), "no certificate"),
        (other.into_bytes(), "no certificate"),
        (certificate.replace('\n', "\r").into_bytes(), "no certificate"),
        (certificate.as_bytes()[..certificate.len() / 2].to_vec(), "no certificate"),
        (format!("junk {certificate}").into_bytes(), "no certificate"),
        (wide, "no certificate"),
        (der, "DER"),
    ] {
        let lab = with_certificates(&ca, both.as_bytes(), (certificate.as_bytes(), key.as_bytes()));
        lab.plan().exits(3).says("ca.pem").says("r.example").says(says).says("help:").is_printable();
    }
    let latin_1 =
        [b"# Issuer: Soci\xe9t\xe9\r\n".as_slice(), certificate.replace('\n', "\r\n").as_bytes()].concat();
    let lab = with_certificates(&latin_1, both.as_bytes(), (certificate.as_bytes(), key.as_bytes()));
    lab.apply().exits(0);
    assert_eq!(lab.read("etc/containerd/certs.d/r.example/ca.pem"), latin_1);
}

#[test]
fn w4_a_client_has_a_certificate_and_its_key() {
    let Pair { certificate, key } = pair();
    let other = new_pair((2000, 4000));
    let both = format!("{key}{certificate}");
    let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
    let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let form = "client: [[client.crt, client.key]]";
    for (both, pair, says, help) in [
        (certificate, (certificate, key), "both.pem` has no private key", form),
        (key, (certificate, key), "both.pem` has a key and no certificate", form),
        (both.as_bytes(), (key, certificate), "c.crt` has a key and no certificate", form),
        (both.as_bytes(), (certificate, certificate), "c.key` has no private key", form),
        (
            both.as_bytes(),
            (other.certificate.as_bytes(), key),
            "c.key` has a key that does not go with",
            "first",
        ),
        (
            both.as_bytes(),
            (certificate, &encrypted[..]),
            "c.key` has a key that containerd can't read",
            "openssl",
        ),
    ] {
        with_certificates(certificate, both, pair).plan().exits(3).says(says).says(help);
    }
    with_certificates(certificate, both.as_bytes(), (certificate, key)).apply().exits(0);
}

#[test]
fn w4_certificates_that_are_not_valid_today_are_named_with_their_dates() {
    let Pair { certificate, key } = pair();
    let both = format!("{certificate}{key}");
    let (old, new) = (new_pair((2001, 2002)), new_pair((3001, 3002)));
    let ca = format!("{}{}", old.certificate, certificate);
    let lab =
        with_certificates(ca.as_bytes(), both.as_bytes(), (new.certificate.as_bytes(), new.key.as_bytes()));
    let run = lab.apply();
    run.exits(0).says("`ca.pem` expired on 2002-01-01").says("`c.crt` is valid from 3001-01-01 on");
    assert_eq!(run.errors().matches("the certificate of").count(), 2, "{run}");
}

/// The bytes between a certificate's lines.
fn der_of(pem: &str) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap().to_vec()
}
