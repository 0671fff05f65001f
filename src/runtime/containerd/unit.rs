//! Writes the unit of containerd, its drop-in, and the preset and the link that enable it at the first boot.
//!
//! This module must not decide whether a package has brought a unit: its caller says so.

use indoc::formatdoc;

use crate::format::systemd::{environment_quoted, quoted};
use crate::node::Want;
use crate::path::ImagePath;
use crate::runtime::containerd::Release;
use crate::secret;
use crate::spec::{Containerd, Proxy};

/// Path of nodebake's own unit.
pub(crate) const UNIT: &str = "/usr/local/lib/systemd/system/containerd.service";

/// Paths of a package's unit; Debian before 13 still has it in /lib.
pub(crate) const PACKAGED: [&str; 2] =
    ["/usr/lib/systemd/system/containerd.service", "/lib/systemd/system/containerd.service"];

/// Path of the link that enables the unit.
pub(crate) const WANTS: &str = "/etc/systemd/system/multi-user.target.wants/containerd.service";

/// Path of the preset. Of all presets, the lexicographically first file that names a unit decides.
pub(crate) const PRESET: &str = "/etc/systemd/system-preset/10-nodebake.preset";

/// Path of the drop-in with the spec's settings.
pub(crate) const DROP_IN: &str = "/etc/systemd/system/containerd.service.d/10-nodebake.conf";

/// Path of the file with a proxy's credentials. systemd shows a unit's Environment= to every user of the node, whatever
/// the mode of the file that it stands in, but not what is in an EnvironmentFile= (systemd.exec(5)).
pub(crate) const PROXY: &str = "/etc/containerd/nodebake-proxy.env";

/// Returns the unit and the files that enable and configure it.
///
/// Both preset and link are needed: where systemd was built with first-boot-full-preset (Fedora, RHEL, Azure
/// Linux) a first boot removes a link that no preset covers, and a preset alone is not applied to an image that has
/// a machine-id.
///
/// `packaged` is the unit of a package: nodebake writes no unit then.
pub(crate) fn entries(
    release: Release,
    containerd: &Containerd,
    packaged: Option<&ImagePath>,
) -> Vec<(ImagePath, Want)> {
    let target = packaged.map_or(UNIT, ImagePath::as_str).to_owned();
    let mut entries = vec![
        (ImagePath::fixed(PRESET), Want::text(0o644, "# Written by nodebake\nenable containerd.service\n")),
        (ImagePath::fixed(WANTS), Want::Link { target }),
    ];
    if packaged.is_none() {
        entries.push((ImagePath::fixed(UNIT), Want::text(0o644, unit(release))));
    }
    let variables = variables(&containerd.proxy);
    let is_secret = variables.iter().any(|(_, value)| secret::has_credentials(value));
    if is_secret {
        let lines: String =
            variables.iter().map(|(name, value)| format!("{name}={}\n", environment_quoted(value))).collect();
        let text = format!("# Written by nodebake\n{lines}");
        entries.push((ImagePath::fixed(PROXY), Want::text(0o600, text)));
    }
    let environment = match is_secret {
        true => vec![format!("EnvironmentFile={PROXY}")],
        false => variables
            .iter()
            .map(|(name, value)| format!("Environment={}", quoted(&format!("{name}={value}"))))
            .collect(),
    };
    if let Some(text) = drop_in(release, containerd, environment) {
        entries.push((ImagePath::fixed(DROP_IN), Want::text(0o644, text)));
    }
    entries
}

/// Writes upstream's containerd.service of this release, with the path of nodebake's binary.
fn unit(release: Release) -> String {
    let local = if release.is_2_1() { "" } else { "local-fs.target " };
    // Upstream's unit of 2.0 has no LimitNOFILE any more (containerd#8924): the drop-in sets it.
    let nofile = if release.is_2() { "" } else { "LimitNOFILE=infinity\n" };
    formatdoc! {"
        # Written by nodebake
        [Unit]
        Description=containerd container runtime
        Documentation=https://containerd.io
        After=network.target {local}dbus.service

        [Service]
        ExecStartPre=-/sbin/modprobe overlay
        ExecStart=/usr/local/bin/containerd

        Type=notify
        Delegate=yes
        KillMode=process
        Restart=always
        RestartSec=5

        LimitNPROC=infinity
        LimitCORE=infinity
        {nofile}TasksMax=infinity
        OOMScoreAdjust=-999

        [Install]
        WantedBy=multi-user.target
    "}
}

/// Returns the proxy's variables that the spec sets.
fn variables(Proxy { http, https, no_proxy }: &Proxy) -> Vec<(&'static str, &str)> {
    let all = [
        ("HTTP_PROXY", http.as_deref()),
        ("HTTPS_PROXY", https.as_deref()),
        ("NO_PROXY", no_proxy.as_deref()),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Writes the drop-in, with `lines` that set the environment; none if it would be empty.
fn drop_in(release: Release, containerd: &Containerd, mut lines: Vec<String>) -> Option<String> {
    let limit = containerd.limit_nofile.as_ref().map(|limit| limit.0.as_str());
    // Without LimitNOFILE containers get 1024 from containerd 2.0 on, where 1.x gave infinity.
    let default = release.is_2().then_some("1048576");
    lines.extend(limit.or(default).map(|limit| format!("LimitNOFILE={limit}")));
    (!lines.is_empty()).then(|| format!("# Written by nodebake\n[Service]\n{}\n", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::entries;

    use crate::format::systemd::quoted;
    use crate::node::{Content, Want};
    use crate::runtime::containerd::Release;
    use crate::spec::Spec;

    fn text(version: &str, yaml: &str) -> String {
        let spec = Spec::parse(yaml, "nodebake.yaml", Path::new(".")).unwrap();
        let entries = entries(Release::parse(version).unwrap(), &spec.containerd, None);
        let line = |(path, want): &(crate::path::ImagePath, Want)| match want {
            Want::File { mode, content: Content::Text(bytes) } => {
                format!("== {path} {mode:04o}\n{}", String::from_utf8_lossy(bytes))
            }
            other => format!("== {path} {other:?}\n"),
        };
        entries.iter().map(line).collect()
    }

    #[test]
    fn the_unit_is_upstreams() {
        insta::assert_snapshot!("service_1_7", text("1.7.24", ""));
        insta::assert_snapshot!(
            "service_2_1",
            text("2.1.9", "containerd: {proxy: {http: 'http://u:p@proxy:3128', no_proxy: 10.0.0.0/8}}")
        );
    }

    #[test]
    fn values_can_not_leave_their_quotes() {
        assert_eq!(quoted(r#"A=%h"\"#), r#""A=%%h\"\\""#);
    }
}
