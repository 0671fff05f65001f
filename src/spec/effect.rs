//! Keys that are set and change nothing, because of what other keys say.
//!
//! This module must not refuse a spec: the caller warns.

use crate::catalog;
use crate::spec::package::{Package, Repository};
use crate::spec::{Choice, Containerd, Install, Proxy, Spec};

impl Spec {
    /// Returns a message for each key, or group of keys, that changes nothing.
    pub(crate) fn without_effect(&self) -> Vec<String> {
        let mut messages = Vec::new();
        if self.runtime().is_none() {
            let keys = self.containerd.set_keys();
            messages.extend(keys.iter().map(|key| told(key, "containerd is left out")));
        } else if self.containerd.install == Install::Archive && self.containerd.package.is_set() {
            messages.push(told("containerd.package", "it needs `containerd.install: package`"));
        }
        messages.extend(self.beside_a_package());
        messages.extend(self.of_builds());
        messages.extend(self.of_the_proxy());
        messages.extend(self.taken_away());
        messages
    }

    /// Tells of versions that the package decides.
    fn beside_a_package(&self) -> Vec<String> {
        if self.package().is_none() {
            return Vec::new();
        }
        let mut messages = Vec::new();
        if self.pick("runc").version.is_some() {
            messages.push(told("components.runc.version", "runc comes with containerd's package"));
        }
        if self.containerd.package.version.is_some() && self.pick("containerd").version.is_some() {
            messages.push(told("components.containerd.version", "`containerd.package.version` decides"));
        }
        messages
    }

    /// Tells of `static` where there is nothing to choose.
    fn of_builds(&self) -> Vec<String> {
        let has_static = |name: &str| catalog::component(name).static_build.is_some();
        let chosen = self.components.iter().filter(|(name, choice)| match choice {
            Choice::On(pick) => pick.static_build.is_some() && !has_static(name),
            Choice::Off => false,
        });
        chosen.map(|(name, _)| told(&format!("components.{name}.static"), "it has one build only")).collect()
    }

    /// Tells of exceptions from a proxy that there is not.
    fn of_the_proxy(&self) -> Option<String> {
        let proxy = &self.containerd.proxy;
        let is_alone = proxy.no_proxy.is_some() && proxy.http.is_none() && proxy.https.is_none();
        let is_written = is_alone && self.runtime().is_some();
        is_written.then(|| told("containerd.proxy.no_proxy", "there is neither `http` nor `https` beside it"))
    }

    /// Tells of kernel modules and parameters that are taken away and are no defaults.
    fn taken_away(&self) -> Vec<String> {
        let modules = self.kernel.modules.absent.iter().map(|name| format!("kernel.modules.{name}"));
        let parameters = self.kernel.sysctl.absent.iter().map(|name| format!("kernel.sysctl.{name}"));
        modules
            .chain(parameters)
            .map(|key| told(&key, "it is no default, so `null` takes nothing away"))
            .collect()
    }
}

impl Containerd {
    /// Returns the keys that are not as they are by default.
    fn set_keys(&self) -> Vec<&'static str> {
        let (config, default) = (&self.config, Containerd::default().config);
        let is_set = [
            ("containerd.install", self.install != Install::default()),
            ("containerd.package", self.package.is_set()),
            ("containerd.config.base", config.base != default.base),
            ("containerd.config.sandbox_image", config.sandbox_image.is_some()),
            ("containerd.config.systemd_cgroup", config.systemd_cgroup != default.systemd_cgroup),
            ("containerd.config.merge", !config.merge.is_empty()),
            ("containerd.limit_nofile", self.limit_nofile.is_some()),
            ("containerd.proxy", self.proxy.is_set()),
        ];
        is_set.into_iter().filter(|(_, is_set)| *is_set).map(|(key, _)| key).collect()
    }
}

impl Proxy {
    /// Returns whether any key of it is set.
    fn is_set(&self) -> bool {
        [&self.http, &self.https].into_iter().any(Option::is_some) || self.no_proxy.is_some()
    }
}

impl Package {
    /// Returns whether any key of it is set.
    fn is_set(&self) -> bool {
        let Package { name, version, repository, hold } = self;
        name.is_some() || version.is_some() || *hold || !matches!(repository, Repository::Distro)
    }
}

fn told(key: &str, why: &str) -> String {
    format!("`{key}` in the spec has no effect: {why}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::spec::Spec;

    fn told(yaml: &str) -> Vec<String> {
        Spec::parse(yaml, "nodebake.yaml", Path::new(".")).unwrap().without_effect()
    }

    #[test]
    fn keys_that_change_nothing_are_named() {
        for (yaml, key) in [
            ("containerd: {package: {version: 1.7.24}}", "containerd.package"),
            ("containerd: {package: {repository: docker}}", "containerd.package"),
            ("components: {containerd: false}\ncontainerd: {limit_nofile: 1}", "containerd.limit_nofile"),
            (
                "components: {containerd: false}\ncontainerd: {proxy: {http: \"http://p\"}}",
                "containerd.proxy",
            ),
            ("components: {containerd: false}\ncontainerd: {install: package}", "containerd.install"),
            (
                "components: {containerd: false}\ncontainerd: {config: {sandbox_image: p}}",
                "containerd.config.sandbox_image",
            ),
            (
                "components: {runc: {version: 1.3.6}}\ncontainerd: {install: package}",
                "components.runc.version",
            ),
            (
                "components: {containerd: {version: 1.7.24}}\n\
                 containerd: {install: package, package: {version: 1.7.25}}",
                "components.containerd.version",
            ),
            ("components: {cni-plugins: {static: true}}", "components.cni-plugins.static"),
            ("containerd: {proxy: {no_proxy: localhost}}", "containerd.proxy.no_proxy"),
            ("kernel: {modules: {ip_vs: null}}", "kernel.modules.ip_vs"),
            ("kernel: {sysctl: {vm.swappiness: null}}", "kernel.sysctl.vm.swappiness"),
        ] {
            let told = told(yaml);
            assert!(told.len() == 1 && told[0].starts_with(&format!("`{key}`")), "{yaml}: {told:?}");
        }
    }

    #[test]
    fn nothing_is_told_of_keys_that_work() {
        for yaml in [
            "",
            "components: {containerd: {static: true}, crictl: }",
            "components: {containerd: {version: 1.7.24}}\ncontainerd: {install: package}",
            "components: {containerd: false, containerd-static: }\ncontainerd: {limit_nofile: 1}",
            "components: {containerd: false}\nregistries: {docker.io: {mirrors: [{url: \"https://m\"}]}}",
            "containerd: {proxy: {http: \"http://p\", no_proxy: localhost}}",
            "kernel: {modules: {br_netfilter: null}, sysctl: {net.ipv4.ip_forward: null}}",
        ] {
            assert_eq!(told(yaml), Vec::<String>::new(), "{yaml}");
        }
    }
}
