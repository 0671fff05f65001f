//! Answers which runtimes of a config.toml the CRI does not take, so that it is not loaded.
//!
//! This module must not judge other keys.

use toml_edit::Item;

use crate::format::toml;
use crate::printable::printable;
use crate::runtime::containerd::RUNTIME;
use crate::runtime::containerd::validate::{ConfigFile, Problem, problem};

impl ConfigFile<'_> {
    /// Finds runtimes that the CRI does not take.
    pub(super) fn runtimes(&self) -> Vec<Problem> {
        let table = |key: &str| self.in_cri(RUNTIME, &["containerd", key]).and_then(Item::as_table_like);
        let default = self.in_cri(RUNTIME, &["containerd", "default_runtime_name"]).and_then(Item::as_str);
        // containerd's own default has runc, which a file adds to.
        let is_known =
            |name: &str| name == "runc" || table("runtimes").is_some_and(|all| all.contains_key(name));
        let replaced =
            table("default_runtime").is_some_and(|table| !table.is_empty()) && !self.release.is_2();
        let mut problems = Vec::new();
        if let Some(name) = default.filter(|name| !is_known(name) && !replaced) {
            let why = format!(
                "`default_runtime_name` is `{}`, and there is no such runtime: the CRI is not loaded",
                printable(name)
            );
            problems.push(problem(why, "add its table below containerd.runtimes, or name another"));
        }
        let all = table("runtimes").into_iter().flat_map(|all| all.iter());
        problems.extend(all.filter_map(|(name, item)| self.runtime(name, item)));
        let old = ["systemd_cgroup", "no_pivot"].into_iter().filter(|_| !self.release.is_2());
        let on = old.filter(|key| self.in_cri(RUNTIME, &[key]).and_then(Item::as_bool) == Some(true));
        problems.extend(on.map(|key| {
            let why = format!(
                "`{key}` is of the runtime io.containerd.runtime.v1.linux alone, and the CRI is not loaded"
            );
            problem(why, "set `SystemdCgroup` or `NoPivotRoot` in the runtime's `options`")
        }));
        problems
    }

    /// Finds what is wrong with one runtime.
    fn runtime(&self, name: &str, item: &Item) -> Option<Problem> {
        let is_on = |key: &str| toml::find(item, &[key]).and_then(Item::as_bool) == Some(true);
        let text =
            |key: &str| toml::find(item, &[key]).and_then(Item::as_str).filter(|text| !text.is_empty());
        let of_linux = ["runtime_engine", "runtime_root"].into_iter();
        let old = of_linux
            .filter(|key| !self.release.is_2() && text(key).is_some())
            .find(|_| text("runtime_type") != Some("io.containerd.runtime.v1.linux"));
        let name = printable(name);
        if let Some(key) = old {
            let why =
                format!("runtime `{name}`: `{key}` is of another type of runtime, and the CRI is not loaded");
            return Some(problem(why, "set `BinaryName` or `Root` in the runtime's `options`"));
        }
        if self.release.is_1_7()
            && is_on("privileged_without_host_devices_all_devices_allowed")
            && !is_on("privileged_without_host_devices")
        {
            let why = format!(
                "runtime `{name}`: `privileged_without_host_devices_all_devices_allowed` needs `privileged_without_host_devices`"
            );
            return Some(problem(why, "set both to true"));
        }
        let io = text("io_type").filter(|io| self.release.is_2() && !["streaming", "fifo"].contains(io))?;
        let why = format!("runtime `{name}`: `io_type` is `{}`, and the CRI is not loaded", printable(io));
        Some(problem(why, "set it to `fifo` or `streaming`"))
    }
}
