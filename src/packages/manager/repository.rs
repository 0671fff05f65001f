//! Writes the sources file of a package repository for apt and for dnf, and checks its key.
//!
//! This module must not read or write a file: text in, text out. `packages/key.rs` reads the key. Sources:
//! <https://docs.docker.com/engine/install/debian/>, …/ubuntu/, …/rhel/, sources.list(5), dnf.conf(5).

use indoc::formatdoc;

use crate::arch::Arch;
use crate::error::{Failure, Kind};
use crate::format::openpgp::{self, Fingerprint};
use crate::node::{Content, Want};
use crate::packages::manager::distribution::{Distribution, Manager};
use crate::packages::manager::releasever;
use crate::path::ImagePath;
use crate::printable::printable;
use crate::spec::package::{Repository, Site, Word};

/// URL of Docker's repositories.
const DOCKER: &str = "https://download.docker.com/linux";

/// Fingerprints of Docker's keys for apt and for dnf, from Docker's installation pages.
const DOCKER_KEYS: [(Manager, &str); 2] = [
    (Manager::Apt, "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"),
    (Manager::Dnf, "060A61C51B558A7F742B77AAC52FEB6B621E9F35"),
];

/// Repository for the distribution of one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Name of the repository's files: `docker` or `nodebake`.
    pub name: &'static str,
    /// URL of the packages.
    pub url: String,
    /// Key: a file beside the spec, or a URL.
    pub key: String,
    /// Fingerprints of the keys to accept; empty: any key.
    pub fingerprints: Vec<Fingerprint>,
    suite: String,
    components: Vec<String>,
}

/// Returns the repository that `choice` means for a root of `distribution`; none for the root's own sources, or package
/// files.
pub(crate) fn origin(choice: &Repository, distribution: &Distribution) -> Result<Option<Origin>, Failure> {
    match choice {
        Repository::Distro | Repository::Files(_) => Ok(None),
        Repository::Docker => docker(distribution).map(Some),
        Repository::At(site) => at(site, distribution).map(Some),
    }
}

/// Returns Docker's repository for `distribution`.
fn docker(distribution: &Distribution) -> Result<Origin, Failure> {
    let known = match distribution.manager {
        Manager::Apt => ["ubuntu", "debian"].into_iter().find(|id| distribution.is(id)),
        // Rocky, Alma and CentOS use CentOS's repository; RHEL and Fedora have their own.
        Manager::Dnf => ["rhel", "fedora", "centos"]
            .into_iter()
            .find(|id| distribution.id == *id)
            .or_else(|| distribution.is("rhel").then_some("centos")),
    };
    let Some(folder) = known else {
        let message = format!("Docker has no packages for `{}`", printable(&distribution.id));
        return Err(Failure::new(Kind::Unsupported, message)
            .help("name a repository that fits: `repository: {url: …, key: …}`"));
    };
    let url = match distribution.manager {
        Manager::Apt => format!("{DOCKER}/{folder}"),
        Manager::Dnf => {
            format!("{DOCKER}/{folder}/{}/$basearch/stable", releasever::of_major(distribution))
        }
    };
    Ok(Origin {
        name: "docker",
        url,
        key: format!("{DOCKER}/{folder}/gpg"),
        fingerprints: docker_keys(distribution.manager),
        suite: suite(None, distribution)?,
        components: vec!["stable".to_owned()],
    })
}

fn docker_keys(manager: Manager) -> Vec<Fingerprint> {
    DOCKER_KEYS.iter().filter(|(of, _)| *of == manager).filter_map(|(_, text)| text.parse().ok()).collect()
}

/// Returns the repository at `site`. Without a key of its own it is a mirror of Docker's.
fn at(site: &Site, distribution: &Distribution) -> Result<Origin, Failure> {
    let (key, fingerprints) = match &site.key {
        Some(key) => (key.to_string(), site.fingerprints.clone()),
        // A mirror of Docker's repository has the key beside the suites.
        None => {
            let pinned = docker_keys(distribution.manager);
            let own = if site.fingerprints.is_empty() { pinned } else { site.fingerprints.clone() };
            // The part from the first dnf variable on is not in the key's URL.
            let above = site.url.split("/$").next().unwrap_or_default();
            (format!("{above}/gpg"), own)
        }
    };
    Ok(Origin {
        name: "nodebake",
        url: site.url.to_string(),
        key,
        fingerprints,
        suite: suite(site.suite.as_ref(), distribution)?,
        components: site.components.iter().map(|word| word.to_string()).collect(),
    })
}

/// Returns apt's suite: the one that is named, else the distribution's codename. dnf has no suites.
fn suite(named: Option<&Word>, distribution: &Distribution) -> Result<String, Failure> {
    match named {
        Some(word) => Ok(word.to_string()),
        None if distribution.manager == Manager::Dnf || !distribution.codename.is_empty() => {
            Ok(distribution.codename.clone())
        }
        None => {
            Err(Failure::new(Kind::Unsupported, "the root's os-release has no codename to tell apt's suite")
                .help("set `containerd.package.repository.suite`"))
        }
    }
}

impl Origin {
    /// Refuses a key file with a key that neither the spec nor Docker's documentation names.
    pub(crate) fn check_key(&self, bytes: &[u8]) -> Result<(), Failure> {
        let shown = printable(&self.key);
        let help = "get the right key, or set `fingerprint` once you have compared it";
        let refuse = |why: String| Failure::new(Kind::Unverified, format!("key `{shown}`: {why}")).help(help);
        let found = openpgp::fingerprints(bytes).map_err(refuse)?;
        let stranger =
            found.iter().find(|one| !self.fingerprints.is_empty() && !self.fingerprints.contains(one));
        match stranger {
            None => Ok(()),
            Some(one) => {
                let pinned: Vec<String> = self.fingerprints.iter().map(ToString::to_string).collect();
                Err(refuse(format!("its fingerprint is {one}, expected {}", pinned.join(" or "))))
            }
        }
    }

    /// Returns the path of the key in the image.
    pub(crate) fn key_path(&self, manager: Manager, key: &[u8]) -> Result<ImagePath, Failure> {
        let name = self.name;
        match manager {
            // apt reads from the name whether a keyring is armoured.
            Manager::Apt if openpgp::is_armoured(key) => {
                ImagePath::new(&format!("/etc/apt/keyrings/{name}.asc"))
            }
            Manager::Apt => ImagePath::new(&format!("/etc/apt/keyrings/{name}.gpg")),
            Manager::Dnf => ImagePath::new(&format!("/etc/pki/rpm-gpg/RPM-GPG-KEY-{name}")),
        }
    }

    /// Returns the path of the sources file in the image.
    pub(crate) fn sources_path(&self, manager: Manager) -> Result<ImagePath, Failure> {
        let name = self.name;
        match manager {
            Manager::Apt => ImagePath::new(&format!("/etc/apt/sources.list.d/{name}.sources")),
            Manager::Dnf if name == "docker" => Ok(ImagePath::fixed("/etc/yum.repos.d/docker-ce.repo")),
            Manager::Dnf => ImagePath::new(&format!("/etc/yum.repos.d/{name}.repo")),
        }
    }

    /// Returns the text of the sources file, for a key at `key_path`.
    pub(crate) fn sources(&self, manager: Manager, arch: Arch, key_path: &str) -> String {
        let Origin { name, url, suite, components, .. } = self;
        match manager {
            Manager::Apt => {
                // A flat repository, whose suite ends in a slash, has no components.
                let components = match suite.ends_with('/') {
                    true => String::new(),
                    false => format!("Components: {}\n", components.join(" ")),
                };
                formatdoc! {"
                    # Written by nodebake
                    Types: deb
                    URIs: {url}
                    Suites: {suite}
                    {components}Architectures: {architecture}
                    Signed-By: {key_path}
                ", architecture = arch.debian()}
            }
            Manager::Dnf => {
                let id = if name == &"docker" { "docker-ce-stable" } else { "nodebake" };
                formatdoc! {"
                    # Written by nodebake
                    [{id}]
                    name={id}
                    baseurl={url}
                    enabled=1
                    gpgcheck=1
                    gpgkey=file://{key_path}
                "}
            }
        }
    }

    /// Returns the key and the sources file as entries of the plan.
    pub(crate) fn entries(
        &self,
        manager: Manager,
        arch: Arch,
        key: &[u8],
    ) -> Result<Vec<(ImagePath, Want)>, Failure> {
        let key_path = self.key_path(manager, key)?;
        let sources = self.sources(manager, arch, key_path.as_str());
        let key = Want::File { mode: 0o644, content: Content::Text(key.to_vec()) };
        Ok(vec![(key_path, key), (self.sources_path(manager)?, Want::text(0o644, sources))])
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::origin;

    use crate::arch::Arch;
    use crate::error::Kind;
    use crate::packages::manager::distribution::{Distribution, Manager};
    use crate::plan::from_packages::REPOSITORY_FILES;
    use crate::spec::Spec;

    fn distribution(id: &str, like: &[&str], codename: &str, manager: Manager) -> Distribution {
        let like = like.iter().map(|&id| id.to_owned()).collect();
        let (version, releasever) = (String::new(), String::new());
        Distribution { id: id.into(), like, version, codename: codename.into(), manager, releasever }
    }

    fn sources(repository: &str, distribution: &Distribution) -> String {
        let yaml = format!("containerd: {{install: package, package: {{repository: {repository}}}}}");
        let spec = Spec::parse(&yaml, "nodebake.yaml", Path::new(".")).unwrap();
        let origin = origin(&spec.containerd.package.repository, distribution).unwrap().unwrap();
        let key_path = origin.key_path(distribution.manager, b"-----BEGIN PGP").unwrap();
        let path = origin.sources_path(distribution.manager).unwrap();
        for file in [&key_path, &path] {
            assert!(REPOSITORY_FILES.contains(&file.as_str()), "{file}");
        }
        let keys: Vec<String> = origin.fingerprints.iter().map(ToString::to_string).collect();
        let text = origin.sources(distribution.manager, Arch::Arm64, key_path.as_str());
        format!("key {} ({})\n== {path}\n{text}", origin.key, keys.join(", "))
    }

    #[test]
    fn sources_are_as_docker_documents_them() {
        let debian = distribution("debian", &[], "bookworm", Manager::Apt);
        let mint = distribution("linuxmint", &["ubuntu", "debian"], "noble", Manager::Apt);
        let rocky = distribution("rocky", &["rhel", "centos", "fedora"], "", Manager::Dnf);
        insta::assert_snapshot!("docker_debian", sources("docker", &debian));
        insta::assert_snapshot!("docker_ubuntu", sources("docker", &mint));
        insta::assert_snapshot!("docker_rocky", sources("docker", &rocky));
        let mirror = "{url: 'https://mirror.example/docker/linux/debian/'}";
        insta::assert_snapshot!("mirror_of_docker", sources(mirror, &debian));
        let flat = "{url: 'http://mirror.example/packages', key: packages.asc, suite: ./}";
        insta::assert_snapshot!("flat_repository", sources(flat, &debian));
        insta::assert_snapshot!("rpm_repository", sources(flat, &rocky));
    }

    #[test]
    fn dockers_repository_is_that_of_the_major_version() {
        let rhel = distribution("rhel", &["fedora"], "", Manager::Dnf);
        let url = |version: &str, releasever: &str| {
            let (version, releasever) = (version.to_owned(), releasever.to_owned());
            let sources = sources("docker", &Distribution { version, releasever, ..rhel.clone() });
            sources.split("/linux/rhel/").last().unwrap().split('/').next().unwrap().to_owned()
        };
        assert_eq!(url("9.4", ""), "9");
        assert_eq!(url("9.4", "9.2"), "9");
        assert_eq!(url("10.1", "9.2"), "9");
        assert_eq!(url("9.4", "9"), "$releasever");
        assert_eq!(url("9", ""), "$releasever");
        assert_eq!(url("", ""), "$releasever");
    }

    #[test]
    fn a_distribution_that_docker_does_not_build_for_is_refused() {
        let suse = distribution("openEuler", &[], "", Manager::Dnf);
        let refused = origin(&crate::spec::package::Repository::Docker, &suse).unwrap_err();
        assert_eq!(refused.kind, Kind::Unsupported);
    }
}
