//! Warns of certificates of the spec that are not valid today: the node may be booted on another day.
//!
//! This module must not refuse one.

use crate::cli::time::day;
use crate::progress::Progress;
use crate::spec::Dates;

/// Writes a warning for each certificate that has expired on the day `today`, YYYY-MM-DD, or is not valid yet.
pub(super) fn warn_of_dates(dates: &[Dates], today: &str, progress: &Progress) {
    warnings(dates, today).iter().for_each(|warning| progress.warn(warning));
}

fn warnings(dates: &[Dates], today: &str) -> Vec<String> {
    let warning = |dates: &Dates| {
        let (first, last) = (day(dates.not_before), day(dates.not_after));
        let problem = match () {
            () if *last < *today => format!("expired on {last}"),
            () if *first > *today => format!("is valid from {first} on"),
            () => return None,
        };
        Some(format!("the certificate of {} in `{}` {problem}", dates.subject, dates.path.display()))
    };
    dates.iter().filter_map(warning).collect()
}

#[cfg(test)]
mod tests {
    use super::{Dates, warnings};

    #[test]
    fn only_what_is_not_valid_today_is_named() {
        let dates = |not_before, not_after| Dates {
            path: "ca.pem".into(),
            subject: "CN=lab".to_owned(),
            not_before,
            not_after,
        };
        let day = 86_400;
        assert_eq!(warnings(&[dates(day, 3 * day)], "1970-01-03"), [""; 0]);
        let expired = warnings(&[dates(day, 3 * day)], "1970-01-05");
        assert!(expired[0].contains("CN=lab in `ca.pem` expired on 1970-01-04"), "{expired:?}");
        let early = warnings(&[dates(day, 3 * day)], "1970-01-01");
        assert!(early[0].contains("is valid from 1970-01-02 on"), "{early:?}");
    }
}
