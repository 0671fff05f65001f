//! Container runtimes: what nodebake knows of each, text in and text out.
//!
//! This module must not read, run or install anything.
//!
//! To add a runtime: a variant of [`Runtime`], a folder like `containerd/` with its [`Facts`] and an arm in each
//! `match` below; its entry in the catalogue and its key in the spec.

pub(crate) mod containerd;

use std::collections::BTreeMap;
use std::path::PathBuf;

use toml_edit::DocumentMut;

use crate::arch::Arch;
use crate::error::Failure;
use crate::format::image_name::split_registry;
use crate::format::toml;
use crate::node::{Node, Shape, Want};
use crate::path::ImagePath;
use crate::runtime::containerd::lookup;
use crate::spec::{CertificateFile, Spec};

pub(crate) use crate::spec::Runtime;
pub(crate) use containerd::lookup::Host;
pub(crate) use containerd::promises::Promises;
pub(crate) use containerd::settings::Settings;
pub(crate) use containerd::validate::Problem;

/// Directory of the CNI plugins.
pub(crate) const CNI_BIN: &str = "/opt/cni/bin";

/// Directories in which distributions' packages have CNI plugins.
pub(crate) const PACKAGED_CNI_BINS: [&str; 2] = ["/usr/lib/cni", "/usr/libexec/cni"];

/// Directory in which the CNI add-on writes its configuration.
pub(crate) const CNI_CONF: &str = "/etc/cni/net.d";

/// What is true of a runtime whatever the spec says.
pub(crate) struct Facts {
    /// Name in messages.
    pub name: &'static str,
    /// Socket of the CRI, in gRPC's spelling.
    pub socket: &'static str,
    /// Name of the unit that serves the CRI.
    pub service: &'static str,
    /// Paths of the daemon.
    pub binary: Places,
    /// Name of the daemon in its archive.
    pub member: &'static str,
    /// Paths of the unit.
    pub unit: Places,
    /// Path of the drop-in of the unit.
    pub drop_in: &'static str,
    /// Path of the link that enables the service.
    pub wants: &'static str,
    /// Path of the preset that enables the service.
    pub preset: &'static str,
    /// Path of the configuration file.
    pub config: &'static str,
    /// Name of the file that says where the images of one registry are pulled from.
    pub registry_file: &'static str,
    /// Every path that [`Runtime::files`] can have, and what it puts there.
    pub places: &'static [(&'static str, Shape)],
    /// Files that the daemon reads only when it starts.
    pub read_at_start: &'static [&'static str],
    /// Packages that bring the runtime, or need one of their own.
    pub packages: &'static [&'static str],
    /// Pairs of [`Facts::packages`] that go together: the one that brings the runtime and one that uses it.
    pub friends: &'static [(&'static str, &'static str)],
    /// Directories in which packages of the runtime have files, and how the names of those files begin.
    pub package_files: (&'static [&'static str], &'static [&'static str]),
    /// Begin of the name of a container's scope under systemd's cgroup driver.
    pub scope: &'static str,
    /// Commands that show on a running node that the runtime serves the CRI.
    pub probes: &'static [Probe],
}

/// Path of a file that nodebake installs, and the paths at which packages have it.
pub(crate) struct Places {
    /// Path of nodebake's own.
    pub own: &'static str,
    /// Paths in packages.
    pub packaged: &'static [&'static str],
}

/// A command that shows something of a running node, as a test runner calls it.
pub(crate) struct Probe {
    /// What the command shows.
    pub name: &'static str,
    /// The command.
    pub command: &'static str,
    /// Pattern of a line that the command prints.
    pub prints: &'static str,
}

/// What a runtime's files are made from, beside the spec.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RuntimeInputs<'a> {
    /// X.Y.Z of the runtime.
    pub version: &'a str,
    /// Architecture of the node.
    pub arch: Arch,
    /// What the daemon has printed as its default configuration, for `base: default`; else the catalogue's is taken.
    pub printed_default: Option<&'a str>,
    /// Directory of the CNI plugins, where it is not [`CNI_BIN`].
    pub cni_bin: Option<&'static str>,
    /// Unit that a package has brought; nodebake writes none then.
    pub packaged_unit: Option<&'a ImagePath>,
}

/// The daemon of a runtime in a root.
pub(crate) struct Daemon {
    /// The runtime.
    pub runtime: Runtime,
    /// Path of the daemon.
    pub binary: ImagePath,
    /// Path of its unit.
    pub unit: ImagePath,
}

impl Runtime {
    /// Returns what is true of the runtime whatever the spec says.
    pub(crate) fn facts(self) -> &'static Facts {
        match self {
            Runtime::Containerd => &containerd::FACTS,
        }
    }

    /// Returns the runtime whose configuration is among `paths`.
    pub(crate) fn configured_in<T>(paths: &BTreeMap<ImagePath, T>) -> Option<Runtime> {
        Runtime::ALL.into_iter().find(|runtime| paths.contains_key(runtime.facts().config))
    }

    /// Computes the configuration, the unit and what enables the service.
    pub(crate) fn files(self, spec: &Spec, inputs: RuntimeInputs) -> Result<Vec<(ImagePath, Want)>, Failure> {
        match self {
            Runtime::Containerd => containerd::files(spec, inputs),
        }
    }

    /// Computes the files that say where the images of each registry are pulled from. `certificates` has the files
    /// of [`Spec::certificate_paths`]; `version` is none where nodebake does not install the runtime.
    pub(crate) fn registry_files(
        self,
        spec: &Spec,
        version: Option<&str>,
        certificates: &BTreeMap<PathBuf, CertificateFile>,
    ) -> Result<Vec<(ImagePath, Want)>, Failure> {
        match self {
            Runtime::Containerd => {
                version.map_or(Ok(()), |version| containerd::hosts::check(spec, version))?;
                let directory = spec.containerd.config.registry_config_path.path()?;
                containerd::hosts::entries(spec, &directory, certificates)
            }
        }
    }

    /// Reads back what decides whether a node works from the text of [`Facts::config`].
    pub(crate) fn settings(self, text: &str) -> Settings {
        match self {
            Runtime::Containerd => Settings::of_text(text),
        }
    }

    /// Returns the keys of [`Facts::config`] that `version` of the runtime does not take over; none if the catalogue does
    /// not know the keys of this version.
    pub(crate) fn unread_keys(self, version: &str, text: &str) -> Option<Vec<String>> {
        match self {
            Runtime::Containerd => containerd::keys::unread_keys(version, text),
        }
    }

    /// Returns the files that the text of [`Facts::config`] names and without which the runtime does not start, or serves
    /// no CRI; each with its key.
    pub(crate) fn named_files(self, text: &str) -> Vec<(String, String)> {
        let Ok(document) = toml::document(text) else { return Vec::new() };
        match self {
            Runtime::Containerd => containerd::validate::named_files(&document),
        }
    }

    /// Returns with which keys of [`Facts::config`] `version` of the runtime serves no CRI, does not start, gives its
    /// sockets away, or does not find other files of the image. A text that is not TOML has none.
    pub(crate) fn problems(self, version: &str, text: &str, promises: Promises) -> Vec<Problem> {
        let Ok(document) = toml::document(text) else { return Vec::new() };
        match self {
            Runtime::Containerd => {
                let mut problems = containerd::validate::problems(&document, version);
                problems.extend(containerd::promises::broken(&self.settings(text), promises));
                problems
            }
        }
    }

    /// Returns the problems that each of `fragments`, which [`Facts::config`] imports, adds to it, with its index.
    pub(crate) fn fragment_problems(
        self,
        version: &str,
        text: &str,
        fragments: &[String],
        promises: Promises,
    ) -> Vec<(usize, Problem)> {
        match self {
            Runtime::Containerd => {
                containerd::fragments::fragment_problems(version, text, fragments, promises)
            }
        }
    }

    /// Returns the names of the directories that may have the [`Facts::registry_file`] of an image's registry; the
    /// first that exists decides.
    pub(crate) fn registry_directories(self, image: &str) -> Vec<String> {
        match self {
            Runtime::Containerd => lookup::directories(split_registry(image).0),
        }
    }

    /// Returns the hosts that are asked for `image`, in order. `text` is that of the [`Facts::registry_file`] that
    /// decides.
    pub(crate) fn hosts_asked(self, image: &str, text: Option<&str>) -> Vec<Host> {
        match self {
            Runtime::Containerd => lookup::candidates(split_registry(image).0, text),
        }
    }

    /// Returns a message for each key of the spec's registries that `version` of the runtime does not read.
    pub(crate) fn without_effect(self, spec: &Spec, version: &str) -> Vec<String> {
        match self {
            Runtime::Containerd => containerd::hosts::without_effect(spec, version),
        }
    }

    /// Tells why `version` of the runtime does not read a [`Facts::registry_file`] that is TOML, in words that follow its
    /// name.
    pub(crate) fn unreadable_registry(self, version: &str, document: &DocumentMut) -> Option<String> {
        match self {
            Runtime::Containerd => containerd::hosts::unreadable(document, version),
        }
    }

    /// Returns the URLs under which an image of `registry` is asked for, in order, by the text of its
    /// [`Facts::registry_file`]; `_default` stands for any other.
    pub(crate) fn apis(self, registry: &str, text: &str) -> Vec<String> {
        let registry = if registry == "_default" { "REGISTRY" } else { registry };
        match self {
            Runtime::Containerd => {
                lookup::candidates(registry, Some(text)).into_iter().map(|host| host.api).collect()
            }
        }
    }

    /// Tells what is wrong with a package's own configuration for a Kubernetes node, in words that follow its name.
    pub(crate) fn flaws(self, text: &str) -> Vec<String> {
        match self {
            Runtime::Containerd => containerd::settings::flaws(text),
        }
    }
}

impl Daemon {
    /// Returns the daemon among `paths` and its unit.
    pub(crate) fn of<T>(paths: &BTreeMap<ImagePath, T>) -> Option<Daemon> {
        Runtime::ALL.into_iter().find_map(|runtime| {
            let Facts { binary, unit, .. } = runtime.facts();
            Some(Daemon { runtime, binary: binary.among(paths)?, unit: unit.among(paths)? })
        })
    }
}

impl Places {
    /// Returns the one of the paths that is among `paths`: a node has one.
    pub(crate) fn among<T>(&self, paths: &BTreeMap<ImagePath, T>) -> Option<ImagePath> {
        let known = std::iter::once(self.own).chain(self.packaged.iter().copied());
        known.map(ImagePath::fixed).find(|path| paths.contains_key(path))
    }

    /// Returns the one of the paths that a package brought among `nodes`, and the package's name.
    pub(crate) fn packaged_in<'a>(
        &self,
        nodes: impl IntoIterator<Item = (&'a ImagePath, &'a Node)>,
    ) -> Option<(&'a ImagePath, &'a str)> {
        nodes.into_iter().find_map(|(path, node)| match node {
            Node::Present { package } if self.packaged.contains(&path.as_str()) => {
                Some((path, package.as_str()))
            }
            _ => None,
        })
    }
}
