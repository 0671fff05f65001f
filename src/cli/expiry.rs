//! Warns of certificates of the spec that are not valid today: the node may be booted on another day.
//!
//! This module must not refuse one.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::progress::Progress;
use crate::spec::Dates;

/// Writes a warning for each certificate that has expired or is not valid yet.
pub(super) fn warn_of_dates(dates: &[Dates], progress: &Progress) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    warnings(dates, i64::try_from(now).unwrap_or(i64::MAX)).iter().for_each(|warning| progress.warn(warning));
}

/// Returns the warnings of the second `now`, since 1970.
fn warnings(dates: &[Dates], now: i64) -> Vec<String> {
    let warning = |dates: &Dates| {
        let Dates { path, subject, not_before, not_after } = dates;
        let problem = match () {
            () if *not_after < now => format!("expired on {}", day(*not_after)),
            () if *not_before > now => format!("is valid from {} on", day(*not_before)),
            () => return None,
        };
        Some(format!("the certificate of {subject} in `{}` {problem}", path.display()))
    };
    dates.iter().filter_map(warning).collect()
}

/// Returns the day of a second since 1970, as YYYY-MM-DD. Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>).
fn day(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400) + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::{Dates, day, warnings};

    #[test]
    fn a_day_is_the_calendars() {
        for (seconds, text) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (1_795_824_000, "2026-11-28"),
            (-1, "1969-12-31"),
        ] {
            assert_eq!(day(seconds), text);
        }
    }

    #[test]
    fn only_what_is_not_valid_today_is_named() {
        let dates = |not_before, not_after| Dates {
            path: "ca.pem".into(),
            subject: "CN=lab".to_owned(),
            not_before,
            not_after,
        };
        assert_eq!(warnings(&[dates(10, 20)], 15), [""; 0]);
        assert!(warnings(&[dates(10, 20)], 21)[0].contains("CN=lab in `ca.pem` expired on 1970-01-01"));
        assert!(warnings(&[dates(10, 20)], 9)[0].contains("is valid from 1970-01-01 on"));
    }
}
