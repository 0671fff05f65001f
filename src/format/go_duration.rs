//! Durations as Go's `time.ParseDuration` reads them, which containerd uses.
//!
//! This module must not accept what Go refuses: containerd then ignores the whole file or does not load the CRI.

/// Units and their nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Returns a duration's nanoseconds; none if Go refuses it, as it does what is longer than 292 years.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let bare = text.strip_prefix(['-', '+']).unwrap_or(text);
    if bare == "0" {
        return Some(0);
    }
    let (mut rest, mut total) = (bare, 0_i64);
    while !rest.is_empty() {
        let number = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let behind = &rest[number..];
        let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        total = total.checked_add(nanoseconds(&rest[..number], &behind[..unit])?)?;
        rest = &behind[unit..];
    }
    (!bare.is_empty()).then_some(if text.starts_with('-') { -total } else { total })
}

/// Returns the nanoseconds of one number with its unit.
fn nanoseconds(number: &str, unit: &str) -> Option<i64> {
    let (_, nanoseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let whole = whole.checked_mul(i64::try_from(*nanoseconds).ok()?)?;
    // Go drops digits that are too small to count.
    let part: f64 = format!("0.{fraction}0").parse().ok()?;
    whole.checked_add((part * *nanoseconds as f64) as i64)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_gos() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("0s", 0),
            ("5s", 5_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("-1ms", -1_000_000),
            ("1µs", 1_000),
        ] {
            assert_eq!(parse(text), Some(nanoseconds), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            ".s",
            "1..5s",
            "..s",
            "5 s",
            "5d",
            "5S",
            "3000000h",
            "5s1",
            "99999999999999999999s",
            "+",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
