//! Whether Go can parse a certificate, and whether a private key goes with it (`parseCertificate` in crypto/x509/parser.go
//! and `X509KeyPair` in crypto/tls/tls.go).
//!
//! This module must not use a key: it compares what the files say.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::asn1_rs::{Any, Class, FromDer, Tag};
use x509_parser::prelude::{GeneralName, X509Certificate};

use crate::format::go_url;

/// 1.2.840.113549.1.1.1, as DER has it.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];

/// 1.2.840.10045.2.1.
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];

/// 1.3.101.112.
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// The curves P-224, P-256, P-384 and P-521.
const CURVES: [&[u8]; 4] = [
    &[0x2b, 0x81, 4, 0, 33],
    &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
    &[0x2b, 0x81, 4, 0, 34],
    &[0x2b, 0x81, 4, 0, 35],
];

/// A public key of a kind that Go's TLS uses.
#[derive(Debug, PartialEq, Eq)]
enum PublicKey<'a> {
    /// The modulus.
    Rsa(&'a [u8]),
    /// The curve, and the point where it is told.
    Elliptic(&'a [u8], Option<&'a [u8]>),
    Ed25519,
}

/// Tells why Go does not parse a certificate, in words that follow its file's name.
pub(super) fn unread(certificate: &X509Certificate) -> Option<&'static str> {
    let algorithm = &certificate.public_key().algorithm;
    let is_elliptic = algorithm.algorithm.as_bytes() == ELLIPTIC;
    let curve = algorithm.parameters.as_ref().map(|curve| curve.data);
    if is_elliptic && !curve.is_some_and(|curve| CURVES.contains(&curve)) {
        return Some("has a certificate on an elliptic curve that containerd does not know");
    }
    let names = certificate.subject_alternative_name().ok().flatten();
    let is_broken = |name: &GeneralName| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) => !name.is_ascii(),
        GeneralName::URI(name) => !name.is_ascii() || go_url::parse(name).is_err(),
        GeneralName::IPAddress(address) => !matches!(address.len(), 4 | 16),
        GeneralName::Invalid(..) => true,
        _ => false,
    };
    let has_broken = names.is_some_and(|names| names.value.general_names.iter().any(is_broken));
    has_broken.then_some("has a certificate with a subjectAltName that containerd can't parse")
}

/// Tells why the private key `key` does not go with the certificate `der`.
pub(super) fn mismatch(der: &[u8], key: &[u8]) -> Option<&'static str> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return None };
    let Some(public) = of_certificate(&certificate) else {
        return Some("has a certificate of a kind that containerd can't use for a client");
    };
    let Some(private) = of_private(key) else {
        return Some("has a key of a kind that containerd can't read");
    };
    let is_same = match (&public, &private) {
        // A key does not always tell its point.
        (PublicKey::Elliptic(curve, _), PublicKey::Elliptic(other, None)) => curve == other,
        _ => public == private,
    };
    let differs = || !is_same || is_other(der, key);
    differs().then_some("has a key that does not go with the certificate")
}

/// Returns whether a key is of another certificate, as far as this is known without Go.
fn is_other(der: &[u8], key: &[u8]) -> bool {
    let Ok(key) = PrivateKeyDer::try_from(key) else { return false };
    let Ok(key) = rustls::crypto::ring::sign::any_supported_type(&key) else { return false };
    let checked = CertifiedKey::new(vec![CertificateDer::from(der.to_vec())], key).keys_match();
    matches!(checked, Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)))
}

/// Returns the public key of a certificate.
fn of_certificate<'a>(certificate: &'a X509Certificate) -> Option<PublicKey<'a>> {
    let key = certificate.public_key();
    let bits: &[u8] = &key.subject_public_key.data;
    match key.algorithm.algorithm.as_bytes() {
        RSA => {
            let (_, numbers, _) = element(bits)?;
            let (_, modulus, _) = element(numbers)?;
            Some(PublicKey::Rsa(modulus))
        }
        ELLIPTIC => Some(PublicKey::Elliptic(key.algorithm.parameters.as_ref()?.data, Some(bits))),
        ED25519 => Some(PublicKey::Ed25519),
        _ => None,
    }
}

/// Returns the public key of a private key: PKCS #1, PKCS #8 or SEC 1.
fn of_private(der: &[u8]) -> Option<PublicKey<'_>> {
    let (tag, fields, rest) = element(der)?;
    let (_, _version, fields) = element(fields)?;
    let (first, content, fields) = element(fields)?;
    match first {
        _ if tag != Tag::Sequence || !rest.is_empty() => None,
        Tag::Integer => of_pkcs_1(der),
        Tag::Sequence => {
            let (_, algorithm, parameters) = element(content)?;
            let (_, inner, _) = element(fields)?;
            match algorithm {
                RSA => of_pkcs_1(inner),
                ELLIPTIC => of_sec_1(inner, Some(element(parameters)?.1)),
                ED25519 => Some(PublicKey::Ed25519),
                _ => None,
            }
        }
        Tag::OctetString => of_sec_1(der, None),
        _ => None,
    }
}

/// Returns the public key of a private key in PKCS #1.
fn of_pkcs_1(der: &[u8]) -> Option<PublicKey<'_>> {
    let (_, fields, rest) = element(der)?;
    let (_, _version, fields) = element(fields)?;
    let (tag, modulus, _) = element(fields)?;
    (tag == Tag::Integer && rest.is_empty()).then_some(PublicKey::Rsa(modulus))
}

/// Returns the public key of a private key in SEC 1, whose curve PKCS #8 names outside.
fn of_sec_1<'a>(der: &'a [u8], mut curve: Option<&'a [u8]>) -> Option<PublicKey<'a>> {
    let (_, fields, _) = element(der)?;
    let (_, _version, fields) = element(fields)?;
    let (_, _secret, mut rest) = element(fields)?;
    let mut point = None;
    while !rest.is_empty() {
        let (after, field) = Any::from_der(rest).ok()?;
        if field.header.class() == Class::ContextSpecific {
            let (_, inner, _) = element(field.data)?;
            match field.header.tag().0 {
                0 => curve = curve.or(Some(inner)),
                // The first byte of a string of bits counts those that are not used.
                1 => point = inner.get(1..),
                _ => {}
            }
        }
        rest = after;
    }
    let curve = curve.filter(|curve| CURVES.contains(curve))?;
    Some(PublicKey::Elliptic(curve, point))
}

/// Returns the tag and the content of the first element in DER, and what follows.
fn element(der: &[u8]) -> Option<(Tag, &[u8], &[u8])> {
    let (rest, any) = Any::from_der(der).ok()?;
    Some((any.header.tag(), any.data, rest))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::{RSA, mismatch, unread};

    /// A certificate on P-256.
    const P_256: &str = concat!(
        "MIIBbTCCAROgAwIBAgIUJiRK7L5OgBHGR8QxEBccd7icZdUwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBeDAeFw0yNjExMjgy",
        "MDA0MDRaFw0yNzAzMDgyMDA0MDRaMAwxCjAIBgNVBAMMAXgwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ79sJJBglQ0NEP",
        "jbDOdgl1DOkQGIl72OqvhEcwlsEYXNuM1ONqc9qUnfqxc/AQ3S15chn8QXHwwdcD0eJR3NRJo1MwUTAdBgNVHQ4EFgQUq416",
        "v26smL1o248bxymS7NzaHyEwHwYDVR0jBBgwFoAUq416v26smL1o248bxymS7NzaHyEwDwYDVR0TAQH/BAUwAwEB/zAKBggq",
        "hkjOPQQDAgNIADBFAiEA1iLbbKZrDCaiKiunI3Q9NXTnPF0vez0DuWLbhZGijDECIEYGcIxIxTpRbodASZaVu3z4PMZzlDuA",
        "Em8AwcwZvk6Q",
    );

    /// Its key in SEC 1.
    const P_256_KEY: &str = concat!(
        "MHcCAQEEIOXa/580u3QrziGHHQtbAuniyvf67JzQKB7GDAMQms2coAoGCCqGSM49AwEHoUQDQgAEO/bCSQYJUNDRD42wznYJ",
        "dQzpEBiJe9jqr4RHMJbBGFzbjNTjanPalJ36sXPwEN0teXIZ/EFx8MHXA9HiUdzUSQ==",
    );

    /// Its key in PKCS #8.
    const P_256_PKCS_8: &str = concat!(
        "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg5dr/nzS7dCvOIYcdC1sC6eLK9/rsnNAoHsYMAxCazZyhRANC",
        "AAQ79sJJBglQ0NEPjbDOdgl1DOkQGIl72OqvhEcwlsEYXNuM1ONqc9qUnfqxc/AQ3S15chn8QXHwwdcD0eJR3NRJ",
    );

    /// A certificate on P-521.
    const P_521: &str = concat!(
        "MIIB8zCCAVagAwIBAgIUDdbxAC4n1KDdWzAB5xu2PbQ+++cwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBeDAeFw0yNjExMjgy",
        "MDA0MDRaFw0yNzAzMDgyMDA0MDRaMAwxCjAIBgNVBAMMAXgwgZswEAYHKoZIzj0CAQYFK4EEACMDgYYABAFM9nRZ55s1g3fW",
        "MaG8HrGbT191xUP5CSebugaBQeHRx1HulVNZonAXENfQfaCFDUQKp7yrk694aMqyZ0yybDDZqgBzA2DgZkMapGv44vxC2SPu",
        "5XXQxC3nPfB1ww7T4APvzkcnURRP3r5VBRAIhfRc6ubLYYEW1HsyCCoAUS9b+RM5U6NTMFEwHQYDVR0OBBYEFNWZe1yjAjQ5",
        "lymgltYmNMSp2GKKMB8GA1UdIwQYMBaAFNWZe1yjAjQ5lymgltYmNMSp2GKKMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0E",
        "AwIDgYoAMIGGAkF/LC1Len9yhpxmr89kKIxE/vSDaKnlY/YFXiB4dt6M3hTcCOis5DTZ4IW4bB2E5vBxnWgrfsR03qPYhVWk",
        "hQ2nqAJBNlDahq7aLPTMqkjvSFnkGcKfa+FPiDfBqlZOd0v0oWRKcfVPadz9TUWAprdqtoSBncWXj9K5tRJLsLdCVmqzPBE=",
    );

    /// Its key.
    const P_521_KEY: &str = concat!(
        "MIHcAgEBBEIBTMLlW2YZIzArG6R1KPQ6SzHJYBHqYgKJYjHG8tJYpap+/oXxibRPinUhLGx7YbkrkQqLHI4+MHeP2s8csUMf",
        "OsigBwYFK4EEACOhgYkDgYYABAFM9nRZ55s1g3fWMaG8HrGbT191xUP5CSebugaBQeHRx1HulVNZonAXENfQfaCFDUQKp7yr",
        "k694aMqyZ0yybDDZqgBzA2DgZkMapGv44vxC2SPu5XXQxC3nPfB1ww7T4APvzkcnURRP3r5VBRAIhfRc6ubLYYEW1HsyCCoA",
        "US9b+RM5Uw==",
    );

    /// A certificate on a curve of Bitcoin.
    const SECP_256_K_1: &str = concat!(
        "MIIBazCCARCgAwIBAgIUKvR52j1TGAr9KYC1gGMmHNPWFX0wCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBeDAeFw0yNjExMjgy",
        "MDA0MDRaFw0yNzAzMDgyMDA0MDRaMAwxCjAIBgNVBAMMAXgwVjAQBgcqhkjOPQIBBgUrgQQACgNCAAR2+IxAGEZrjXQwxJzv",
        "CqDZOt2JVg9Ox38zxtMmCjf48XZhacGTwJy3CwiQfLYtxXqz/1y6/KlGNtJCEZnjv+oco1MwUTAdBgNVHQ4EFgQUtTjgvcyg",
        "aiTqjG3StwTtK0ealgIwHwYDVR0jBBgwFoAUtTjgvcygaiTqjG3StwTtK0ealgIwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjO",
        "PQQDAgNJADBGAiEAtchWUyJSv+lCL5C6xSYr4NTc9EN0VBihqmrOnk6nerECIQCuZl7SGdWzUS6lcrDXXuPpn9+eEA5BdzNH",
        "54xCso0BVA==",
    );

    /// A certificate whose DNS name is not in ASCII.
    const BROKEN_NAME: &str = concat!(
        "MIIDKDCCAhCgAwIBAgIUR0Hc8wa6971DOouXQee+iDa3OiIwDQYJKoZIhvcNAQELBQAwDDEKMAgGA1UEAwwBeDAeFw0yNjEx",
        "MjgyMDA0MDRaFw0yNzAzMDgyMDA0MDRaMAwxCjAIBgNVBAMMAXgwggEiMA0GCSqGSIb3DQEBAQUAA4IBDwAwggEKAoIBAQDd",
        "7yWwNpQf42uQN0dnejvjnml/B3fTsvGA0UcqVthu3wufTmClylgIFuzGQmGyLvIuNAgb2m+Vc5YPJUx/k8Fdhl84aMzrRdLZ",
        "z0ULDTUpFlXVZ/GcKmNaWwKd0YXkYSioCUjpism0GDrBI8sZrqDax27YrwTdy73bTjtZ44vi2HjVzyRB55W3Hbz/jjgOuY8H",
        "++uLJY6LDpKD6hrW7ZccRMUSa6CVEIDL+3wYU/Opgi+Jqv3LOLJlGCu9gF1oKscI4Feyvz24ETyoWNnYRAt15VEGti4Oo/rk",
        "ph8mcw/GwYhwP9PYfZGqnBe3lY7e4O123uzbNJeHGt1Gj5jKWvptAgMBAAGjgYEwfzAdBgNVHQ4EFgQUcFA7M1QKmQmXI6Ov",
        "mEKvAVkeskYwHwYDVR0jBBgwFoAUcFA7M1QKmQmXI6OvmEKvAVkeskYwDwYDVR0TAQH/BAUwAwEB/zAsBgNVHREEJTAjgg9i",
        "w7xjaGVyLmV4YW1wbGWHBAECAwSGCmh0dHA6Ly9hIGIwDQYJKoZIhvcNAQELBQADggEBAAZvkD4QmNJxNBid5/eFMB052yG2",
        "xo+curdb7jhFq90yPwVhPdOLk5B6qI2JN/L4yc3ov/iMo5UOtHm3iOUFbYgb07oljyL1QAuD0Z/ye2FuXI26KdE0k3KkZhia",
        "dn9YwKDlzJ8WQR48y5mh6mgv3J1oMHYBdRy76DxIUUAX41nqlqWalfqVUIWw7rDWg7MdC55al9QzVzYZaeet5/3wuT14ccze",
        "sBjB2kVJ4zZKr/LcrHKz6hu4SZL9sxa7KLOwWvcaxV1GDKuXBSgCk/bc0sC+YcqfQq0XVfct+EZU8Qye4znBEcuDa8KpRwIy",
        "L/AdJuLNav1kZoKU/yVNJ0mp/BU=",
    );

    fn der(text: &str) -> Vec<u8> {
        STANDARD.decode(text).unwrap()
    }

    /// Every answer is that of Go 1.19 and 1.27.
    #[test]
    fn a_key_goes_with_its_own_certificate_alone() {
        for (certificate, key) in [(P_256, P_256_KEY), (P_256, P_256_PKCS_8), (P_521, P_521_KEY)] {
            assert_eq!(mismatch(&der(certificate), &der(key)), None);
        }
        for (certificate, key) in [(P_256, P_521_KEY), (P_521, P_256_KEY), (P_521, P_256_PKCS_8)] {
            assert!(mismatch(&der(certificate), &der(key)).is_some_and(|why| why.contains("go with")));
        }
        let truncated = &der(P_521_KEY)[..100];
        assert!(mismatch(&der(P_521), truncated).is_some_and(|why| why.contains("can't read")));
        assert!(mismatch(&der(P_521), &der(P_521)).is_some());
        // A key in PKCS #8 that says it holds one of RSA, and holds another one in PKCS #8, and so on.
        let wrap = |tag: u8, content: &[u8]| {
            let length = u32::try_from(content.len()).unwrap().to_be_bytes();
            [&[tag, 0x84], &length[..], content].concat()
        };
        let algorithm = wrap(0x30, &wrap(6, RSA));
        let nested = (0..2000).fold(der(P_256_PKCS_8), |inner, _| {
            wrap(0x30, &[&[2, 1, 0], &algorithm[..], &wrap(4, &inner)].concat())
        });
        assert!(mismatch(&der(P_256), &nested).is_some_and(|why| why.contains("can't read")));
    }

    #[test]
    fn certificates_that_go_does_not_parse_are_found() {
        for (text, is_read) in [(P_256, true), (P_521, true), (SECP_256_K_1, false), (BROKEN_NAME, false)] {
            let bytes = der(text);
            let (_, certificate) = X509Certificate::from_der(&bytes).unwrap();
            assert_eq!(unread(&certificate).is_none(), is_read);
        }
    }
}
