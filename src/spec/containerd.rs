//! The `containerd` key: how containerd is installed and configured.
//!
//! This module must not write a configuration: `runtime/` does.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::package::Package;
use crate::spec::proxy::{NoProxy, ProxyUrl};
use crate::spec::scalar::{Directory, ImageText, Toml};
use crate::spec::value::Limit;

/// The way containerd gets onto the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Install {
    /// From upstream's release archives
    #[default]
    Archive,
    /// From the distribution's or Docker's packages
    Package,
}

/// The `containerd` key.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Containerd {
    /// archive or package
    pub install: Install,
    /// Which package, for `install: package`
    pub package: Package,
    /// What stands in /etc/containerd/config.toml
    pub config: Config,
    /// LimitNOFILE of the service; default: unset on containerd 1.x, 1048576 on 2.x
    pub limit_nofile: Option<Limit>,
    /// HTTP proxy of the service
    pub proxy: Proxy,
}

/// What config.toml starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Base {
    /// Only the keys that this spec sets
    #[default]
    Minimal,
    /// What `containerd config default` of the staged binary prints
    Default,
    /// The root's own file
    Existing,
}

/// The `containerd.config` key.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// minimal, default or existing
    pub base: Base,
    /// Pause image; default: the one that this containerd expects
    pub sandbox_image: Option<ImageText>,
    /// Let runc use the systemd cgroup driver
    pub systemd_cgroup: bool,
    /// The one directory that holds <registry>/hosts.toml
    pub registry_config_path: Directory,
    /// TOML, merged last
    pub merge: Toml,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            base: Base::default(),
            sandbox_image: None,
            systemd_cgroup: true,
            registry_config_path: Directory::certs(),
            merge: Toml::default(),
        }
    }
}

/// HTTP proxy settings of the containerd service.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Proxy {
    /// HTTP_PROXY
    pub http: Option<ProxyUrl>,
    /// HTTPS_PROXY
    pub https: Option<ProxyUrl>,
    /// NO_PROXY
    pub no_proxy: Option<NoProxy>,
}
