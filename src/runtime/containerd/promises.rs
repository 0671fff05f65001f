//! Answers whether a config.toml leads containerd away from what the other files of the image depend on.
//!
//! This module must not say where these files are: its caller does.

use crate::printable::printable;
use crate::runtime::Settings;
use crate::runtime::containerd::FACTS;
use crate::runtime::containerd::validate::Problem;

/// What other files of the image depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Promises<'a> {
    /// Directory of the hosts.toml files; none if there are none.
    pub registries: Option<&'a str>,
    /// Directory of the CNI plugins; none if none are installed.
    pub plugins: Option<&'a str>,
}

/// Returns the promises that `settings` break.
pub(crate) fn broken(settings: &Settings, promises: Promises) -> Vec<Problem> {
    let directories = |text: &Option<String>| -> Vec<String> {
        let text = text.as_deref().unwrap_or_default();
        text.split(':').map(|directory| directory.trim_end_matches('/').to_owned()).collect()
    };
    let shown = |text: &Option<String>| printable(text.as_deref().unwrap_or_default());
    let has = |text: &Option<String>, path: &str| directories(text).iter().any(|directory| directory == path);
    let mut broken = Vec::new();
    if let Some(path) = promises.registries.filter(|path| !has(&settings.registry_config_path, path)) {
        let config_path = shown(&settings.registry_config_path);
        broken.push(Problem {
            why: format!(
                "`registry.config_path` is `{config_path}`, and the files of the registries are in {path}"
            ),
            help: "set `containerd.config.registry_config_path` of the spec instead".to_owned(),
        });
    }
    let socket = FACTS.socket.trim_start_matches("unix://");
    if settings.address.as_deref().is_some_and(|address| address != socket) {
        broken.push(Problem {
            why: format!(
                "the socket is `{}`, and crictl and the kubelet look for {socket}",
                shown(&settings.address)
            ),
            help: "leave out the `address` of `grpc`".to_owned(),
        });
    }
    if let Some(path) = promises.plugins.filter(|path| !has(&settings.cni_bin, path)) {
        broken.push(Problem {
            why: format!(
                "CNI plugins are looked for in `{}`, and they are in {path}",
                shown(&settings.cni_bin)
            ),
            help: format!("add {path}, or leave the plugins out: `components: {{cni-plugins: false}}`"),
        });
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::{Promises, broken};
    use crate::runtime::Settings;

    #[test]
    fn every_promise_can_be_broken() {
        let all = Promises { registries: Some("/etc/containerd/certs.d"), plugins: Some("/opt/cni/bin") };
        let kept = Settings {
            registry_config_path: Some("/etc/containerd/certs.d/".to_owned()),
            cni_bin: Some("/usr/lib/cni:/opt/cni/bin".to_owned()),
            ..Settings::default()
        };
        assert_eq!(broken(&kept, all), []);
        let address = Some("/run/k8s-containerd.sock".to_owned());
        assert_eq!(broken(&Settings { address, ..Settings::default() }, all).len(), 3);
        let none = Promises { registries: None, plugins: None };
        assert_eq!(broken(&Settings::default(), none), []);
    }
}
