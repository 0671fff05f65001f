//! Reads from a root's os-release which distribution and package manager it has.
//!
//! This module must not execute anything of the root. Source: os-release(5).

use std::collections::BTreeMap;

use crate::error::{Failure, Kind};
use crate::path::ImagePath;
use crate::printable::printable;
use crate::root::{LONGEST_TEXT, Root};

/// Paths of os-release, the preferred one first.
const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// Paths of the file with the value of dnf's variable `$releasever`.
const RELEASEVER: [&str; 2] = ["/etc/dnf/vars/releasever", "/etc/yum/vars/releasever"];

/// Package manager of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manager {
    /// apt-get and dpkg.
    Apt,
    /// dnf, or yum where there is no dnf, and rpm.
    Dnf,
}

/// Distribution as a root's os-release describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Distribution {
    /// `ID`, for example debian.
    pub id: String,
    /// `ID_LIKE`, the closest relative first.
    pub like: Vec<String>,
    /// `VERSION_ID`; empty where os-release has none.
    pub version: String,
    /// `VERSION_CODENAME`; empty where os-release has none.
    pub codename: String,
    /// Package manager of the distribution.
    pub manager: Manager,
    /// Value that the root gives to dnf's variable `$releasever`; empty where dnf finds it out.
    pub releasever: String,
}

impl Distribution {
    /// Reads the distribution of `root`. [`Kind::Unsupported`] where the root has no os-release, or one of a
    /// distribution whose packages nodebake can't install.
    pub(crate) fn of(root: &Root) -> Result<Distribution, Failure> {
        let refuse = |why: &str| {
            Failure::new(Kind::Unsupported, format!("root `{}` {why}", root.host().display()))
                .help("packages go into Debian, Ubuntu, Fedora, RHEL and their like; use `install: archive`")
        };
        for path in OS_RELEASE.map(ImagePath::fixed) {
            let Some(text) = root.linked_text(&path, LONGEST_TEXT)? else { continue };
            let distribution = parse(&text).map_err(|why| refuse(&why))?;
            return Ok(Distribution { releasever: releasever(root)?, ..distribution });
        }
        Err(refuse("has no /etc/os-release to tell its package manager"))
    }

    /// Returns whether the distribution is `id`, or a derivative of it.
    pub(crate) fn is(&self, id: &str) -> bool {
        self.id == id || self.like.iter().any(|like| like == id)
    }
}

/// Reads the value of `$releasever` that the root's dnf is told; empty where it is not.
fn releasever(root: &Root) -> Result<String, Failure> {
    for path in RELEASEVER.map(ImagePath::fixed) {
        if let Some(text) = root.linked_text(&path, LONGEST_TEXT)? {
            return Ok(text.lines().next().unwrap_or_default().trim().to_owned());
        }
    }
    Ok(String::new())
}

fn parse(text: &str) -> Result<Distribution, String> {
    let fields: BTreeMap<&str, String> = text
        .lines()
        .filter_map(|line| line.trim().split_once('='))
        .map(|(key, value)| (key, unquoted(value)))
        .collect();
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let mut distribution = Distribution {
        id: field("ID"),
        like: field("ID_LIKE").split_whitespace().map(str::to_owned).collect(),
        version: field("VERSION_ID"),
        codename: field("VERSION_CODENAME"),
        manager: Manager::Apt,
        releasever: String::new(),
    };
    // A derivative of Ubuntu names the Ubuntu release whose packages it uses.
    if let Some(codename) = fields.get("UBUNTU_CODENAME") {
        distribution.codename.clone_from(codename);
    }
    let any = |ids: &[&str]| ids.iter().any(|id| distribution.is(id));
    distribution.manager = if any(&["debian", "ubuntu"]) {
        Manager::Apt
    } else if any(&["fedora", "rhel", "centos", "openEuler", "amzn", "azurelinux"]) {
        Manager::Dnf
    } else {
        return Err(format!(
            "is `{}`, whose packages nodebake does not install",
            printable(&distribution.id)
        ));
    };
    Ok(distribution)
}

/// Returns a value of os-release without quotes and escapes, as a shell reads it, without expansion.
fn unquoted(value: &str) -> String {
    let value = value.trim();
    let inner = ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    let Some(inner) = inner else { return value.to_owned() };
    let mut text = String::new();
    let mut escaped = false;
    for c in inner.chars() {
        match c {
            '\\' if !escaped => escaped = true,
            _ => {
                escaped = false;
                text.push(c);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Manager, parse};

    #[test]
    fn distributions_are_known_by_themselves_or_by_their_like() {
        let cases = [
            ("ID=debian\nVERSION_CODENAME=bookworm\n", Some((Manager::Apt, "bookworm"))),
            (
                "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\nUBUNTU_CODENAME=noble\nVERSION_CODENAME=xia\n",
                Some((Manager::Apt, "noble")),
            ),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\nVERSION_ID=\"9.4\"\n", Some((Manager::Dnf, ""))),
            ("ID='openEuler'\nVERSION_ID=\"24.03\"\n", Some((Manager::Dnf, ""))),
            ("ID=alpine\n", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = parse(text).ok();
            assert_eq!(found.as_ref().map(|d| (d.manager, d.codename.as_str())), expected, "{text}");
        }
    }
}
