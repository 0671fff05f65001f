//! The fingerprints of an OpenPGP key file, by which a user says which key a repository is trusted for.
//!
//! This module must not verify signatures: apt and rpm do. No OpenPGP crate is used, because each brings about a
//! hundred others. RFC 4880 needs two sentences for fingerprints: a key file is a list of packets (section 4.2),
//! and a version 4 fingerprint is the SHA-1 of 0x99, the packet's length in two bytes and its body (section 12.2).

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use sha1::{Digest, Sha1};

use crate::checked::Checked;

/// Tag of the packet of a primary public key.
const PUBLIC_KEY: u8 = 6;

/// Tags of the packets of a public key file: signature, key, marker, trust, user, subkey, user attribute.
const EXPECTED: [u8; 7] = [2, PUBLIC_KEY, 10, 12, 13, 14, 17];

/// First line of an armoured key.
const BEGIN: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// Last line of an armoured key.
const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";

/// Fingerprint of a primary key: 40 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fingerprint([u8; 20]);

impl FromStr for Fingerprint {
    type Err = String;

    /// Parses the digits, also in groups as gpg prints them.
    fn from_str(text: &str) -> Result<Self, String> {
        let digits: Vec<u32> = text.chars().filter(|c| *c != ' ').map_while(|c| c.to_digit(16)).collect();
        let length = text.chars().filter(|c| *c != ' ').count();
        let bytes = digits.chunks_exact(2).filter_map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok());
        match <[u8; 20]>::try_from(bytes.collect::<Vec<_>>()) {
            Ok(bytes) if length == 40 => Ok(Fingerprint(bytes)),
            _ => Err("is not a fingerprint: expected 40 hexadecimal digits".to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Checked(|text: &str| text.parse()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02X}"))
    }
}

/// Returns whether a key file is armoured: apt wants the name of such a file to end in `.asc`.
pub(crate) fn is_armoured(file: &[u8]) -> bool {
    file.trim_ascii_start().starts_with(b"-----BEGIN ")
}

/// Returns the fingerprints of all primary keys in `file`, armoured or not.
///
/// An error says why it is not a public key file; the file of a secret key is not one.
pub(crate) fn fingerprints(file: &[u8]) -> Result<Vec<Fingerprint>, String> {
    let binary = if is_armoured(file) { dearmour(file)? } else { file.to_vec() };
    let (mut rest, mut found) = (binary.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (tag, body, next) = packet(rest).ok_or("it is not an OpenPGP key, or is cut short")?;
        if !EXPECTED.contains(&tag) {
            return Err(format!("it holds a packet of type {tag}, which is not of a public key"));
        }
        if tag == PUBLIC_KEY {
            found.push(fingerprint(body)?);
        }
        rest = next;
    }
    if found.is_empty() { Err("it holds no public key".to_owned()) } else { Ok(found) }
}

/// Hashes the body of a key packet.
fn fingerprint(body: &[u8]) -> Result<Fingerprint, String> {
    let (Some(4), Ok(length)) = (body.first(), u16::try_from(body.len())) else {
        return Err("it holds a key that is not of version 4".to_owned());
    };
    let mut hasher = Sha1::new();
    hasher.update([0x99]);
    hasher.update(length.to_be_bytes());
    hasher.update(body);
    Ok(Fingerprint(hasher.finalize().into()))
}

/// Decodes all armoured blocks. Their checksums are not compared: the fingerprint covers more.
///
/// A file is refused if readers would differ in what ends a header or a block: apt (apt-key's awk) takes only an
/// empty line, and only a mark at the very start of its line. A file whose lines all end in CR LF is read: apt
/// finds no key in it, and trusts nothing.
fn dearmour(file: &[u8]) -> Result<Vec<u8>, String> {
    let text = str::from_utf8(file).map_err(|_| "it is not UTF-8")?;
    let all_crlf = text.matches('\n').count() == text.matches("\r\n").count();
    let text = if all_crlf { text.replace("\r\n", "\n") } else { text.to_owned() };
    let (mut binary, mut block): (Vec<u8>, Option<String>) = (Vec::new(), None);
    let mut in_header = false;
    for raw in text.split('\n') {
        let line = raw.trim();
        let decides = line.starts_with("-----") || (block.is_some() && line.is_empty());
        if raw.contains('\0') || (decides && raw != line) {
            return Err("its armour has white space around a line that must be bare".to_owned());
        }
        match &mut block {
            None if line == BEGIN => (block, in_header) = (Some(String::new()), true),
            Some(base64) if line == END => {
                binary.extend(STANDARD.decode(base64).map_err(|error| format!("its armour: {error}"))?);
                block = None;
            }
            // Readers differ on a block within a block: apt would trust the keys of both.
            Some(_) if line.starts_with("-----") => return Err("its armour has no end".to_owned()),
            Some(_) if in_header => in_header = !line.is_empty(),
            Some(_) if line.starts_with('=') => {}
            Some(base64) => base64.push_str(line),
            None if line.starts_with("-----BEGIN") => return Err("it is no public key".to_owned()),
            None => {}
        }
    }
    if block.is_some() { Err("its armour has no end".to_owned()) } else { Ok(binary) }
}

/// Splits off the first packet: its tag, its body, and the bytes after it.
fn packet(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (first, rest) = bytes.split_first().filter(|(first, _)| **first & 0x80 != 0)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
    let (tag, header, length) = match first & 0x40 == 0 {
        true => {
            let count = *[1, 2, 4].get(usize::from(first & 3))?;
            ((first >> 2) & 0xf, count, number(rest.get(..count)?))
        }
        false => match *rest.first()? {
            one @ 0..=191 => (first & 0x3f, 1, usize::from(one)),
            one @ 192..=223 => {
                (first & 0x3f, 2, (usize::from(one) - 192) * 256 + usize::from(*rest.get(1)?) + 192)
            }
            255 => (first & 0x3f, 5, number(rest.get(1..5)?)),
            // Partial lengths are for data, never for keys.
            _ => return None,
        },
    };
    let end = header.checked_add(length)?;
    Some((tag, rest.get(header..end)?, &rest[end..]))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    use super::{dearmour, fingerprints};

    /// Made with `gpg --quick-gen-key`, which also printed its fingerprint.
    const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\
        \n\
        mDMEawXWBBYJKwYBBAHaRw8BAQdAk+qNXS/AVKAQGm5HZ8kpr3Qzh+wn25t42+6F\n\
        325Chgm0JG5vZGViYWtlIHRlc3QgPHRlc3RAZXhhbXBsZS5pbnZhbGlkPoiQBBMW\n\
        CAA4FiEEJBY/yKjkR1/sF0t4GJHvLgsILVsFAmsF1gQCGwMFCwkIBwIGFQoJCAsC\n\
        BBYCAwECHgECF4AACgkQGJHvLgsILVuwhwEA7QX8RVvN4WzdQthXCYMrAxqMW/Qo\n\
        nxf//sCtmk13xPwBAJ6FSg6bVHwCq0qUHKIEOO3MJPxtoAOLbwmME/1SisgI\n\
        =uAW7\n\
        -----END PGP PUBLIC KEY BLOCK-----\n";
    const FINGERPRINT: &str = "24163FC8A8E4475FEC174B781891EF2E0B082D5B";

    fn found(file: &[u8]) -> Result<Vec<String>, String> {
        Ok(fingerprints(file)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_fingerprint_is_gpgs() {
        assert_eq!(found(KEY.as_bytes()).unwrap(), [FINGERPRINT]);
        let binary = dearmour(KEY.as_bytes()).unwrap();
        assert_eq!(found(&binary).unwrap(), [FINGERPRINT]);
        let crlf = KEY.replace('\n', "\r\n");
        assert_eq!(found(crlf.as_bytes()).unwrap(), [FINGERPRINT]);
        let grouped = "2416 3FC8 A8E4 475F EC17  4B78 1891 EF2E 0B08 2D5B";
        assert_eq!(grouped.parse::<super::Fingerprint>().unwrap().to_string(), FINGERPRINT);
        assert!("2416 3FC8".parse::<super::Fingerprint>().is_err());
    }

    #[test]
    fn a_second_key_is_seen_wherever_it_stands() {
        let binary = dearmour(KEY.as_bytes()).unwrap();
        let mut other = binary.clone();
        // One bit of the key's own bytes: another key.
        other[20] ^= 1;
        let both = [binary.clone(), other.clone()].concat();
        assert_eq!(found(&both).unwrap().len(), 2);
        let armoured = format!(
            "{KEY}-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{}\n-----END PGP PUBLIC KEY BLOCK-----\n",
            STANDARD.encode(&other)
        );
        assert_eq!(found(armoured.as_bytes()).unwrap().len(), 2);
        // apt (methods/gpgv.cc) decodes all lines from the first empty one to the first end: both keys.
        let nested = format!("{}\n{KEY}", armoured.rsplit_once("\n-----END").unwrap().0);
        assert!(nested.ends_with(KEY) && found(nested.as_bytes()).is_err(), "{nested}");
        // Here apt goes on in the header until the empty line, and decodes what stands after our end.
        let after = armoured.rsplit_once("BLOCK-----\n\n").unwrap().1;
        let hidden = KEY.replacen("\n\n", "\n \n", 1).replace("-----END", " -----END") + "\n" + after;
        assert!(found(hidden.as_bytes()).is_err(), "{hidden}");
        for bare in [KEY.replacen("\n\n", "\n \n", 1), KEY.replace("-----END", " -----END")] {
            assert!(found(bare.as_bytes()).is_err(), "{bare}");
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let binary = dearmour(KEY.as_bytes()).unwrap();
        let secret = KEY.replace("PUBLIC", "PRIVATE");
        for file in [&b""[..], b"<html>", &binary[..binary.len() - 1], secret.as_bytes(), &[0x94, 0x01, 0x04]]
        {
            assert!(found(file).is_err(), "{}", file.escape_ascii());
        }
        for length in 0..binary.len() {
            let _ = found(&binary[..length]);
        }
    }
}
