//! PEM as Go's `encoding/pem` reads it: on bytes, from the begin of a line, and with a block that is broken left out.
//!
//! This module must not decide what a block is good for.
//!
//! Source: `Decode` in Go's src/encoding/pem/pem.go.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;

/// Begin of a block's first line.
const BEGIN: &[u8] = b"-----BEGIN ";

/// Begin of a block's last line.
const END: &[u8] = b"-----END ";

/// End of either line.
const DASHES: &[u8] = b"-----";

/// Byte order mark of UTF-8, which editors of Windows write and Go does not skip.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Its label, such as `CERTIFICATE`.
    pub label: String,
    /// The block has headers, such as that of an encrypted key.
    pub has_headers: bool,
    /// The decoded bytes.
    pub bytes: Vec<u8>,
}

/// Returns every block that Go finds, in order.
pub(crate) fn blocks(bytes: &[u8]) -> Vec<Block> {
    let (mut found, mut rest) = (Vec::new(), bytes);
    while let Some(start) = begin(rest) {
        rest = &rest[start + BEGIN.len()..];
        if let Some((block, end)) = block(rest) {
            found.push(block);
            rest = &rest[end..];
        }
    }
    found
}

/// Returns where the first line that begins a block starts.
fn begin(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(BEGIN) {
        return Some(0);
    }
    memmem::find(bytes, b"\n-----BEGIN ").map(|at| at + 1)
}

/// Parses a block behind [`BEGIN`]; also returns where it ends.
fn block(bytes: &[u8]) -> Option<(Block, usize)> {
    let (line, mut at) = line(bytes, 0);
    let label = line.strip_suffix(DASHES)?;
    let mut has_headers = false;
    loop {
        let (line, next) = self::line(bytes, at);
        if next == at || !line.contains(&b':') {
            break;
        }
        (has_headers, at) = (true, next);
    }
    let body = &bytes[at..];
    // A block without a body ends at once.
    let (length, end) = match body.starts_with(END) {
        true => (0, at),
        false => memmem::find(body, b"\n-----END ").map(|length| (length, at + length + 1))?,
    };
    let (last, behind) = self::line(bytes, end);
    let own = [END, label, DASHES].concat();
    if last != own.as_slice() {
        return None;
    }
    let digits: Vec<u8> =
        body[..length].iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r' | b' ' | b'\t')).collect();
    let bytes = STANDARD.decode(digits).ok()?;
    Some((Block { label: String::from_utf8_lossy(label).into_owned(), has_headers, bytes }, behind))
}

/// Returns the line at `at` without its end, and spaces and tabs before it, and where the next one begins.
fn line(bytes: &[u8], at: usize) -> (&[u8], usize) {
    let rest = &bytes[at..];
    let (mut line, next) = match memchr::memchr(b'\n', rest) {
        Some(length) => (rest[..length].strip_suffix(b"\r").unwrap_or(&rest[..length]), at + length + 1),
        None => (rest, bytes.len()),
    };
    while let [before @ .., b' ' | b'\t'] = line {
        line = before;
    }
    (line, next)
}

#[cfg(test)]
mod tests {
    use super::blocks;

    fn labels(text: &[u8]) -> Vec<String> {
        blocks(text).into_iter().map(|block| block.label).collect()
    }

    #[test]
    fn blocks_are_gos() {
        let one = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(labels(one), ["CERTIFICATE"]);
        assert_eq!(blocks(one)[0].bytes, [0, 0, 0]);
        let latin_1 = [b"# Soci\xe9t\xe9\n".as_slice(), one, b"text\n", one].concat();
        assert_eq!(labels(&latin_1).len(), 2);
        let windows = String::from_utf8_lossy(one).replace('\n', "\r\n");
        assert_eq!(labels(windows.as_bytes()), ["CERTIFICATE"]);
        let encrypted = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAAAA\n-----END RSA PRIVATE KEY-----";
        assert!(blocks(encrypted)[0].has_headers);
    }

    #[test]
    fn what_go_does_not_find_is_not_found() {
        let one = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in [
            format!("\u{feff}{one}"),
            format!("x{one}"),
            one.replace('\n', "\r"),
            one.replace("END CERTIFICATE", "END KEY"),
            one.replace("AAAA", "A*AA"),
            one.replace("\n-----END CERTIFICATE-----\n", ""),
            "<html>Not found</html>".to_owned(),
            String::new(),
        ] {
            assert_eq!(labels(text.as_bytes()), [""; 0], "{text:?}");
        }
        // The first block of a file with a byte order mark is lost, the second is not.
        assert_eq!(labels(format!("\u{feff}{one}{one}").as_bytes()).len(), 1);
    }
}
