//! A package's repository: its sources file and its key, as Docker documents them, for apt and for dnf.
//!
//! Text in, text out: `source/fetch.rs` brings the key, `packages/inputs.rs` decides when any of it is needed.
//! Sources: <https://docs.docker.com/engine/install/debian/>, …/ubuntu/, …/rhel/, sources.list(5),
//! dnf.conf(5).

use indoc::formatdoc;

use crate::arch::Arch;
use crate::error::{Failure, Kind};
use crate::format::openpgp::{self, Fingerprint};
use crate::node::Want;
use crate::packages::manager::distribution::{Distribution, Manager};
use crate::path::ImagePath;
use crate::printable::printable;
use crate::spec::package::{Repository, Site, Word};

/// Where Docker has its packages.
const DOCKER: &str = "https://download.docker.com/linux";

/// The keys of Docker's repositories for apt and for dnf; see Docker's installation pages.
const DOCKER_KEYS: [(Manager, &str); 2] = [
    (Manager::Apt, "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"),
    (Manager::Dnf, "060A61C51B558A7F742B77AAC52FEB6B621E9F35"),
];

/// A repository for one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// `docker` or `nodebake`: what its files are called.
    pub name: &'static str,
    /// Where it is.
    pub url: String,
    /// Where its key is: a file beside the spec, or a URL.
    pub key: String,
    /// What the key may be; empty: whatever the file holds.
    pub fingerprints: Vec<Fingerprint>,
    suite: String,
    components: Vec<String>,
}

/// What `choice` means for a root of `distribution`. None: what the root is configured with, or files.
pub(crate) fn origin(choice: &Repository, distribution: &Distribution) -> Result<Option<Origin>, Failure> {
    match choice {
        Repository::Distro | Repository::Files(_) => Ok(None),
        Repository::Docker => docker(distribution).map(Some),
        Repository::At(site) => at(site, distribution).map(Some),
    }
}

fn docker(distribution: &Distribution) -> Result<Origin, Failure> {
    let known = match distribution.manager {
        Manager::Apt => ["ubuntu", "debian"].into_iter().find(|id| distribution.is(id)),
        // Rocky, Alma and CentOS share one, RHEL and Fedora have their own.
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
        Manager::Dnf => format!("{DOCKER}/{folder}/$releasever/$basearch/stable"),
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

fn at(site: &Site, distribution: &Distribution) -> Result<Origin, Failure> {
    let (key, fingerprints) = match &site.key {
        Some(key) => (key.to_string(), site.fingerprints.clone()),
        // A mirror of Docker's keeps the key beside the suites.
        None => {
            let pinned = docker_keys(distribution.manager);
            let own = if site.fingerprints.is_empty() { pinned } else { site.fingerprints.clone() };
            // Above the part that dnf fills in.
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

/// Only apt has suites.
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
    /// Refuses a key file that is not what the spec or Docker's documentation says it is.
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

    /// Where the key goes in the image.
    pub(crate) fn key_path(&self, manager: Manager, key: &[u8]) -> Result<ImagePath, Failure> {
        let name = self.name;
        match manager {
            // apt takes the form of a keyring from its name.
            Manager::Apt if openpgp::is_armoured(key) => {
                ImagePath::new(&format!("/etc/apt/keyrings/{name}.asc"))
            }
            Manager::Apt => ImagePath::new(&format!("/etc/apt/keyrings/{name}.gpg")),
            Manager::Dnf => ImagePath::new(&format!("/etc/pki/rpm-gpg/RPM-GPG-KEY-{name}")),
        }
    }

    /// Where the sources file goes in the image.
    pub(crate) fn sources_path(&self, manager: Manager) -> Result<ImagePath, Failure> {
        let name = self.name;
        match manager {
            Manager::Apt => ImagePath::new(&format!("/etc/apt/sources.list.d/{name}.sources")),
            Manager::Dnf if name == "docker" => Ok(ImagePath::fixed("/etc/yum.repos.d/docker-ce.repo")),
            Manager::Dnf => ImagePath::new(&format!("/etc/yum.repos.d/{name}.repo")),
        }
    }

    /// The sources file, for a key at `key_path`.
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

    /// The key and the sources file as they belong into the image.
    pub(crate) fn entries(
        &self,
        manager: Manager,
        arch: Arch,
        key: &[u8],
    ) -> Result<Vec<(ImagePath, Want)>, Failure> {
        let key_path = self.key_path(manager, key)?;
        let sources = self.sources(manager, arch, key_path.as_str());
        let key = Want::File { mode: 0o644, content: crate::node::Content::Text(key.to_vec()) };
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
    use crate::spec::Spec;

    fn distribution(id: &str, like: &[&str], codename: &str, manager: Manager) -> Distribution {
        let like = like.iter().map(|&id| id.to_owned()).collect();
        Distribution { id: id.into(), like, version: String::new(), codename: codename.into(), manager }
    }

    fn sources(repository: &str, distribution: &Distribution) -> String {
        let yaml = format!("containerd: {{install: package, package: {{repository: {repository}}}}}");
        let spec = Spec::parse(&yaml, "nodebake.yaml", Path::new(".")).unwrap();
        let origin = origin(&spec.containerd.package.repository, distribution).unwrap().unwrap();
        let key_path = origin.key_path(distribution.manager, b"-----BEGIN PGP").unwrap();
        let path = origin.sources_path(distribution.manager).unwrap();
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
    fn a_distribution_that_docker_does_not_build_for_is_refused() {
        let suse = distribution("openEuler", &[], "", Manager::Dnf);
        let refused = origin(&crate::spec::package::Repository::Docker, &suse).unwrap_err();
        assert_eq!(refused.kind, Kind::Unsupported);
    }
}
