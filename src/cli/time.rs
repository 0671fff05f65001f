//! Reads the environment's time and this machine's clock.
//!
//! This module must not give the clock to anything but warnings: the same inputs give the same bytes.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Failure, Kind};
use crate::printable::printable;

/// Latest modification time of an installed file, in the year 2242: the last that a tar header has digits for, and ext4
/// and xfs can keep it as well.
const LATEST: i64 = (1 << 33) - 1;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Returns the seconds in SOURCE_DATE_EPOCH, if it is set: <https://reproducible-builds.org/specs/source-date-epoch/>.
pub(super) fn source_date_epoch() -> Result<Option<i64>, Failure> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let text = text.to_string_lossy();
    let seconds = text.parse().ok().filter(|seconds| (0..=LATEST).contains(seconds));
    seconds.map(Some).ok_or_else(|| {
        let message =
            format!("SOURCE_DATE_EPOCH `{}` is not a number of seconds from 0 to {LATEST}", printable(&text));
        Failure::new(Kind::Usage, message)
            .help("give seconds since 1970, such as `git log -1 --format=%ct` prints")
    })
}

/// Returns the day that warnings go by, YYYY-MM-DD in UTC: that of SOURCE_DATE_EPOCH, else the clock's.
pub(super) fn today() -> Result<String, Failure> {
    #[expect(clippy::disallowed_methods, reason = "only warnings depend on it")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = source_date_epoch()?.unwrap_or(i64::try_from(now).unwrap_or(LATEST));
    Ok(day(seconds.clamp(0, LATEST)))
}

/// Returns the day of `seconds` since 1970 in the Gregorian calendar, YYYY-MM-DD.
pub(super) fn day(seconds: i64) -> String {
    // Years begin in March here, so that the day of a leap year is the last one.
    const OF_400_YEARS: i64 = 146_097;
    let since_march_of_0 = seconds.div_euclid(DAY) + 719_468;
    let (cycle, day) = (since_march_of_0 / OF_400_YEARS, since_march_of_0 % OF_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = cycle * 400 + year + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::{LATEST, day};

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_795_823_999, "2026-11-27"),
            (1_840_752_000, "2028-05-01"),
            (4_107_542_400, "2100-03-01"),
            (LATEST, "2242-03-16"),
        ] {
            assert_eq!(day(seconds), expected, "{seconds}");
        }
    }
}
