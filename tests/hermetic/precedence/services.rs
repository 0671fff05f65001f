//! Units, drop-ins and networks.

use super::{is_noticed, is_silent, noticed, silent, with};

use crate::kit::{Lab, link, write};

const OVERRIDE: &str = "etc/systemd/system/containerd.service.d/override.conf";

/// A root with a drop-in, and a spec with a proxy and a limit.
fn with_drop_in(path: &str, lines: &str) -> Lab {
    let mut lab = with(&[(path, &format!("[Service]\n{lines}\n"))]);
    lab.spec_also("containerd: {limit_nofile: 4096, proxy: {https: 'http://new.example:3128'}}\n");
    lab
}

#[test]
fn w6_a_drop_in_that_starts_something_else_is_noticed() {
    for (lines, line, words) in [
        ("ExecStart=\nExecStart=/usr/bin/containerd --config /etc/containerd/config.toml", 3, "not there"),
        ("ExecStart=\nExecStart=/usr/bin/sh -c containerd", 3, "in place of /usr/local/bin/containerd"),
        ("ExecStart=/usr/local/bin/containerd", 2, "second ExecStart"),
        ("ExecStart=", 2, "takes the service's command away"),
        (
            "ExecStart=\nExecStart=-/usr/local/bin/containerd -c /etc/other.toml",
            3,
            "--config /etc/other.toml",
        ),
        ("ExecStart=\nExecStart=containerd --address=/run/x.sock", 3, "--address /run/x.sock"),
        ("ExecStartPre=/usr/bin/missing", 2, "not there"),
        ("EnvironmentFile=/etc/missing.env", 2, "not there"),
        ("Type=forking", 2, "Type=forking"),
        ("User=containerd", 2, "User=containerd"),
        ("RootDirectory=/srv", 2, "RootDirectory=/srv"),
        ("[Unit]\nConditionPathExists=/etc/ready", 3, "ConditionPathExists=/etc/ready"),
        ("[Unit]\nConditionPathExists=!/etc/passwd", 3, "ConditionPathExists=!/etc/passwd"),
    ] {
        let lab = with_drop_in(OVERRIDE, lines);
        noticed(&lab, &[&format!("/{OVERRIDE}:{line}"), words]);
    }
}

#[test]
fn w6_a_drop_in_that_decides_over_ours_is_noticed_in_every_directory() {
    const PROXY: &str = "Environment=\"A=b\" \"HTTPS_PROXY=http://old.example:3128\"";
    for path in [
        "etc/systemd/system/containerd.service.d/http-proxy.conf",
        "usr/lib/systemd/system/containerd.service.d/http-proxy.conf",
        "usr/local/lib/systemd/system/service.d/20.conf",
        "etc/systemd/system.control/containerd.service.d/50-x.conf",
    ] {
        for lines in [
            PROXY,
            "LimitNOFILE=1024",
            "UnsetEnvironment=HTTPS_PROXY",
            "Environment=",
            "Environment=NO_PROXY=a,*",
        ] {
            let lab = with_drop_in(path, lines);
            noticed(&lab, &[&format!("/{path}:2")]);
        }
    }
    let lab = with_drop_in(OVERRIDE, "EnvironmentFile=/etc/proxy");
    write(&lab.path("etc/proxy"), b"# old\nHTTPS_PROXY='http://user:S3CRET@old.example'\n");
    noticed(&lab, &["/etc/proxy:2", "HTTPS_PROXY"]);
    assert!(!lab.apply().errors().contains("S3CRET"));
    let hiding = "etc/systemd/system.control/containerd.service.d/10-nodebake.conf";
    noticed(&with_drop_in(hiding, "Nice=1"), &[&format!("/{hiding}"), "hides"]);
}

#[test]
fn w6_a_drop_in_that_decides_nothing_of_ours_is_not_noticed() {
    for (path, lines) in [
        (
            "etc/systemd/system/containerd.service.d/05-old.conf",
            "Environment=HTTPS_PROXY=http://old\nLimitNOFILE=1",
        ),
        ("etc/systemd/system/service.d/10-nodebake.conf", "LimitNOFILE=1"),
        (OVERRIDE, "Environment=HTTPS_PROXY=http://new.example:3128 CONTAINERD_LOG=1\nLimitNOFILE=4096"),
        (OVERRIDE, "Environment=NO_PROXY=*.corp,10.0.0.0/8"),
        (OVERRIDE, "ExecStart=\nExecStart=/usr/local/bin/containerd --log-level debug"),
        (OVERRIDE, "ExecStartPre=-/usr/bin/missing\nEnvironmentFile=-/etc/default/containerd"),
        (OVERRIDE, "Environment=https_proxy=http://old\nSlice=runtime.slice\nType=simple"),
        ("etc/systemd/system/docker.service.d/http-proxy.conf", "Environment=HTTPS_PROXY=http://old"),
        ("etc/systemd/system/containerd.service.d/README", "ExecStart=/bin/false"),
        (OVERRIDE, "[Unit]\nConditionPathExists=/etc/passwd\nConditionPathExists=|/etc/missing"),
    ] {
        silent(&with_drop_in(path, lines));
    }
    // A link to /dev/null hides the vendor's drop-in.
    let vendor = "usr/lib/systemd/system/containerd.service.d/50.conf";
    let lab = with_drop_in(vendor, "LimitNOFILE=1");
    link("/dev/null", &lab.path("etc/systemd/system/containerd.service.d/50.conf"));
    silent(&lab);
    // Two names of one program.
    let lab = with_drop_in(OVERRIDE, "ExecStart=\nExecStart=/usr/bin/containerd");
    link("/usr/local/bin/containerd", &lab.path("usr/bin/containerd"));
    lab.apply().exits(0);
    lab.verify().exits(0);
}

#[test]
fn w6_a_unit_that_hides_ours_is_noticed_in_every_directory_before_it() {
    const SERVICE: &str = "containerd.service";
    for above in ["etc/systemd/system.control", "etc/systemd/system", "run/systemd/system"] {
        let path = format!("{above}/{SERVICE}");
        is_noticed(&[(&path, "[Service]\nExecStart=/usr/bin/containerd\n")], &[&path, "hides the unit"]);
        is_noticed(&[(&path, "")], &[&path, "masked"]);
    }
    let lab = Lab::new();
    link("../../../dev/null", &lab.path("etc/systemd/system/containerd.service"));
    noticed(&lab, &["/etc/systemd/system/containerd.service", "masked"]);
    // A package's unit comes after ours, and a link to ours is ours.
    let lab = with(&[("usr/lib/systemd/system/docker.service", "[Service]\n")]);
    link(
        "/usr/local/lib/systemd/system/containerd.service",
        &lab.path("etc/systemd/system/containerd.service"),
    );
    silent(&lab);
}

#[test]
fn w6_hostile_drop_ins_take_no_time() {
    let lab = Lab::new();
    let large: String = (0..40_000).map(|n| format!("V{n}=x\n")).collect();
    write(&lab.path("etc/large"), large.as_bytes());
    for lines in
        ["EnvironmentFile=/etc/large\n".repeat(30_000), "Environment=HTTP_PROXY=a B=c D\n".repeat(30_000)]
    {
        write(&lab.path(OVERRIDE), format!("[Service]\n{lines}").as_bytes());
        lab.apply().exits(0).within(std::time::Duration::from_secs(20));
    }
    write(&lab.path(OVERRIDE), format!("[Unit]\n{}", "a=\\\n".repeat(200_000)).as_bytes());
    lab.verify().exits(0).within(std::time::Duration::from_secs(20));
}

/// On a node that has joined a cluster, the CNI add-on's file is right.
#[test]
fn w8_a_network_that_is_there_is_told_and_no_finding() {
    for name in ["87-podman-bridge.conflist", "10-x.conf", "00.json"] {
        let lab = with(&[(&format!("etc/cni/net.d/{name}"), "{}\n")]);
        for run in [lab.plan(), lab.apply()] {
            run.says(&format!("/etc/cni/net.d/{name}")).says("warning");
        }
        lab.verify().exits(0).mentions(name);
    }
    is_silent(&[("etc/cni/net.d/.kubernetes-cni-keep", ""), ("etc/cni/net.d/calico-kubeconfig", "")]);
}

#[test]
fn w8_a_network_is_looked_for_where_the_configuration_says() {
    let merge = "containerd: {config: {merge: \"[plugins.'io.containerd.cri.v1.runtime'.cni]\\nconf_dir = '/etc/net.d'\\n\"}}\n";
    let mut lab = with(&[("etc/net.d/10-x.conflist", "{}\n"), ("etc/cni/net.d/20-y.conflist", "{}\n")]);
    lab.spec_also(merge);
    let run = lab.plan();
    run.says("/etc/net.d/10-x.conflist");
    assert!(!run.errors().contains("20-y"), "{run}");
}

/// A root without the service has no use for its drop-ins and networks.
#[test]
fn w6_without_the_service_only_what_is_there_is_judged() {
    let lab = with(&[(OVERRIDE, "[Service]\nExecStart=/bin/false\n"), ("etc/cni/net.d/10-x.conf", "{}\n")]);
    let spec = std::fs::read_to_string(&lab.spec).unwrap();
    let without = |line: &str| match line.starts_with("  containerd:") {
        true => "  containerd: false\n".to_owned(),
        false => format!("{line}\n"),
    };
    write(&lab.spec, spec.lines().map(without).collect::<String>().as_bytes());
    silent(&lab);
    lab.verify().mentions("drop-ins          not checked  containerd is not one of the components");
}
