//! Until when minor releases get fixes.
//!
//! This module must not ask a clock: the caller says which day it is. The dates are in `containerd/support.yaml`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::catalog::{compiled_in, component};

/// Support of a component's releases. Days are written YYYY-MM-DD, so that they sort as they follow each other.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Support {
    /// Day on which the dates were known.
    as_of: String,
    /// Last day of each minor release.
    end_of_life: BTreeMap<String, String>,
}

/// Last days of two minor releases.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Last day of the release that is asked for.
    pub on: &'static str,
    /// The line of the component's default, X.Y.
    pub line: &'static str,
    /// Last day of that line.
    pub until: &'static str,
}

/// Returns the end of support of the minor release `minor` of a component, if it is before `today`. A day before that on
/// which the dates were known is taken for it: the clock of a machine at its first boot may be wrong.
pub(crate) fn ended(name: &str, minor: &str, today: &str) -> Option<Ended> {
    let support = Some(support()).filter(|_| name == "containerd")?;
    let on = support.end_of_life.get(minor)?;
    let line = component(name).line.as_deref()?;
    let until = support.end_of_life.get(line)?;
    let today = today.max(&support.as_of);
    (on.as_str() < today).then_some(Ended { on, line, until })
}

fn support() -> &'static Support {
    static SUPPORT: OnceLock<Support> = OnceLock::new();
    SUPPORT.get_or_init(|| compiled_in(include_str!("containerd/support.yaml")))
}

#[cfg(test)]
mod tests {
    use super::{ended, support};
    use crate::catalog::versions;

    #[test]
    fn every_catalogued_release_has_an_end() {
        for version in versions("containerd") {
            let minor = format!("{}.{}", version.major, version.minor);
            assert!(support().end_of_life.contains_key(&minor), "{minor}");
        }
        let is_day = |day: &String| day.len() == 10 && day.split('-').all(|part| part.parse::<u32>().is_ok());
        assert!(support().end_of_life.values().chain([&support().as_of]).all(is_day));
    }

    #[test]
    fn a_release_has_ended_after_its_last_day() {
        let on = |minor: &str, today: &str| ended("containerd", minor, today).map(|ended| ended.on);
        assert_eq!(on("2.1", "1970-01-01"), Some("2026-07-03"));
        assert_eq!(on("2.3", "2028-04-30"), None);
        assert_eq!(on("2.3", "2028-05-01"), Some("2028-04-30"));
        assert_eq!(on("9.9", "2099-01-01"), None);
        assert_eq!(ended("runc", "1.1", "2099-01-01"), None);
    }
}
