//! Rows T1 to T18 of the test matrix: archives that are hostile, damaged or merely unusual, under
//! a digest that the spec trusts. What is refused leaves the root as it was, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::kit;
use crate::kit::{CNI, CONTAINERD, Component, Header, Lab, Machine, Member, RUNC, Run, Tar};
use crate::kit::{assert_same, cni_members, containerd_members, elf, gzip, sha256, tar};

/// Whatever the archive does, a refusal comes at once.
const AT_ONCE: Duration = Duration::from_secs(5);

// ---------------------------------------------------------------- T1: names

#[test]
fn t1_name_that_leaves_the_destination_is_refused() {
    for name in [
        "/etc/passwd",
        "/bin/evil",
        "../evil",
        "..",
        "bin/..",
        "bin/../../evil",
        "bin/../evil",
        "share/../../evil",
    ] {
        refused(name, &with(|tar| tar.entry(file(name.as_bytes()), b"")), 6, name);
    }
}

#[test]
fn t1_name_that_leaves_the_destination_is_refused_in_the_cni_archive() {
    for name in ["./../evil", "/evil", "./a/../../evil"] {
        let archive = gzip(&Tar::new().members(&cni_members()).entry(file(name.as_bytes()), b"").end());
        refused_as(CNI, name, &archive, 6, name);
    }
}

#[test]
fn t1_absolute_or_dotdot_name_in_pax_or_gnu_record_is_refused() {
    for name in ["/etc/evil", "../evil", "bin/../../evil"] {
        refused(
            name,
            &with(|tar| tar.pax(&[("path", name.as_bytes())]).entry(file(b"bin/ok"), b"")),
            6,
            name,
        );
        refused(name, &with(|tar| tar.long_name(name.as_bytes()).entry(file(b"bin/ok").gnu(), b"")), 6, name);
    }
}

#[test]
fn t1_empty_name_is_refused() {
    refused("empty in the header", &with(|tar| tar.entry(file(b""), b"")), 6, "");
    refused(
        "empty in a GNU record",
        &with(|tar| tar.long_name(b"").entry(file(b"bin/ok").gnu(), b"")),
        6,
        "",
    );
}

#[test]
fn t1_nul_in_a_name_is_refused() {
    refused("PAX", &with(|tar| tar.pax(&[("path", b"bin/ev\0il")]).entry(file(b"bin/ok"), b"")), 6, "bin/ev");
    refused("GNU", &with(|tar| tar.long_name(b"bin/ev\0il").entry(file(b"bin/ok").gnu(), b"")), 6, "bin/ev");
    refused("the header", &with(|tar| tar.entry(file(b"bin/ev\0il"), b"")), 6, "bin/ev");
    refused("GNU's header", &with(|tar| tar.entry(file(b"bin/ev\0il").gnu(), b"")), 6, "bin/ev");
    let last = [&b"bin/ev"[..], &[0; 93], b"x"].concat();
    refused("the header's last byte", &with(|tar| tar.entry(file(&last), b"")), 6, "bin/ev");
    let mut prefixed = file(b"ev");
    prefixed.0[345..352].copy_from_slice(b"bin\0il\0");
    refused("the header's prefix", &with(|tar| tar.entry(prefixed, b"")), 6, "bin/ev");
    // What is hidden in the header stays hidden behind a record that replaces the name.
    let hidden = file(b"bin/ev\0il");
    refused("under PAX", &with(|tar| tar.pax(&[("path", b"bin/ok")]).entry(hidden, b"")), 6, "bin/ok");
}

#[test]
fn t1_control_character_in_a_name_is_refused_and_escaped() {
    for name in [
        "bin/ev\nil",
        "bin/ev\x1b[31mil",
        "bin/ev\ril",
        "bin/ev\x7fil",
        "bin/ev\u{9b}31mil",
        "share/ev\nil",
        "share/ev\x1bil",
    ] {
        let shown = name.split_at(name.find("ev").unwrap() + 2).0;
        let run = refused(name, &with(|tar| tar.entry(file(name.as_bytes()), b"")), 6, shown);
        let split = run.errors().lines().any(|line| line.starts_with("il"));
        assert!(!split, "the newline in {name:?} came through\n{run}");
    }
}

#[test]
fn t1_name_that_is_not_utf8_is_refused() {
    refused("header", &with(|tar| tar.entry(file(b"bin/ev\xff\xfeil"), b"")), 6, "bin/ev");
    refused(
        "PAX",
        &with(|tar| tar.pax(&[("path", b"bin/ev\xff\xfeil")]).entry(file(b"bin/ok"), b"")),
        6,
        "bin/ev",
    );
}

// ---------------------------------------------------------------- T2 to T4: what is no file

#[test]
fn t2_file_through_a_symlink_is_refused() {
    for target in ["/tmp", "../../../../../tmp", "."] {
        let archive = with(|tar| {
            tar.entry(symlink(b"bin/link", target.as_bytes()), b"").member(&Member::plugin("bin/link/evil"))
        });
        refused(target, &archive, 6, "bin/link");
    }
}

#[test]
fn t2_symlink_and_file_of_the_same_name_are_refused() {
    let archive = with(|tar| {
        tar.entry(symlink(b"bin/extra", b"/etc/passwd"), b"").member(&Member::plugin("bin/extra"))
    });
    refused("link first", &archive, 6, "bin/extra");
    let archive = with(|tar| {
        tar.member(&Member::plugin("bin/extra")).entry(symlink(b"bin/extra", b"/etc/passwd"), b"")
    });
    refused("file first", &archive, 6, "bin/extra");
}

/// CVE-2026-33056: the directory's mode was applied through the link.
#[test]
fn t2_directory_over_a_symlink_is_refused() {
    let dir = Member::dir("bin/link/").mode(0o777);
    let archive = with(|tar| tar.entry(symlink(b"bin/link", b"/tmp"), b"").member(&dir));
    refused("directory over link", &archive, 6, "bin/link");
}

#[test]
fn t3_hard_link_that_leaves_the_archive_is_refused() {
    for target in ["/etc/passwd", "../../etc/passwd", "bin/../../etc/passwd"] {
        let hard = Header::new(b'1', b"bin/hard").link(target.as_bytes());
        refused(target, &with(|tar| tar.entry(hard.clone(), b"")), 6, "bin/hard");
        let renamed = [("linkpath", target.as_bytes())];
        let harmless = Header::new(b'1', b"bin/hard").link(b"bin/containerd");
        refused(target, &with(|tar| tar.pax(&renamed).entry(harmless, b"")), 6, "bin/hard");
    }
}

#[test]
fn t4_device_fifo_or_unknown_type_is_refused() {
    for kind in [b'3', b'4', b'6', b'Z', b'M', 0xff] {
        let node = Header::new(kind, b"bin/node").octal(329, 8, 1).octal(337, 8, 3);
        refused(&format!("type {}", kind.escape_ascii()), &with(|tar| tar.entry(node, b"")), 6, "bin/node");
    }
}

// ---------------------------------------------------------------- T5, T6: modes and owners

#[test]
fn t5_setuid_setgid_or_sticky_member_is_refused() {
    for mode in [0o4755, 0o2755, 0o1755, 0o6755, 0o7777] {
        let archive = with(|tar| tar.member(&Member::plugin("bin/extra").mode(mode)));
        refused(&format!("{mode:o}"), &archive, 6, "bin/extra");
    }
}

#[test]
fn t5_any_other_mode_becomes_the_plans() {
    for mode in [0o777, 0o666, 0o644, 0o600, 0o000] {
        let lab =
            accepted(CONTAINERD, &gzip(&tar(&renamed(containerd_members(), "bin/ctr", |m| m.mode(mode)))));
        has_line(&lab, "-rwxr-xr-x root:root usr/local/bin/ctr sha256:");
    }
}

/// CNI 1.5.0 and 1.5.1 carried a `./` of the CI's user, which broke Cilium where it was unpacked.
#[test]
fn t6_root_entry_of_a_ci_user_changes_no_directory() {
    let mut lab = Lab::new();
    let dir = lab.path("opt/cni/bin");
    kit::make_dir(&dir);
    kit::mode(&dir, 0o751);
    kit::own(&dir, 12, 34);
    let members: Vec<_> = cni_members().into_iter().map(|member| member.uid(1001).mode(0o775)).collect();
    lab.ship(CNI, &gzip(&tar(&members)));
    lab.apply().exits(0);
    has_line(&lab, "drwxr-x--x 12:34 opt/cni/bin\n");
    has_line(&lab, "-rwxr-xr-x root:root opt/cni/bin/bridge sha256:");
}

#[test]
fn t6_root_entry_of_a_ci_user_does_not_shape_new_directories() {
    let members: Vec<_> = cni_members().into_iter().map(|member| member.uid(1001).mode(0o777)).collect();
    let lab = accepted(CNI, &gzip(&tar(&members)));
    for dir in ["opt", "opt/cni", "opt/cni/bin"] {
        has_line(&lab, &format!("drwxr-xr-x root:root {dir}\n"));
    }
    assert!(!lab.exists("opt/cni/bin/LICENSE") && !lab.exists("opt/cni/bin/README.md"), "{}", lab.tree());
}

// ---------------------------------------------------------------- T7, T8: names, twice and long

#[test]
fn t7_duplicate_member_is_refused() {
    for twin in ["bin/ctr", "./bin/ctr", "bin//ctr", "bin/./ctr"] {
        refused(twin, &with(|tar| tar.member(&Member::plugin(twin))), 6, "ctr");
    }
    let other = Member::file("bin/extra", 0o755, &elf(Machine::X86_64, b"other"));
    refused(
        "other content",
        &with(|tar| tar.member(&Member::plugin("bin/extra")).member(&other)),
        6,
        "bin/extra",
    );
}

/// tar and tarfile fail half-way where a name is both.
#[test]
fn t7_file_and_directory_of_one_name_are_refused() {
    refused("file and directory", &with(|tar| tar.member(&Member::dir("bin/ctr/"))), 6, "bin/ctr");
}

#[test]
fn t8_long_name_is_accepted_from_gnu_and_pax_records() {
    let name = format!("bin/{}", "n".repeat(150));
    let plugin = Member::plugin(&name);
    let header = || file(b"bin/nnn").size(plugin.bytes.len() as u64);
    let gnu = with(|tar| tar.long_name(name.as_bytes()).entry(header().gnu(), &plugin.bytes));
    let pax = with(|tar| tar.pax(&[("path", name.as_bytes())]).entry(header(), &plugin.bytes));
    for archive in [gnu, pax] {
        let lab = accepted(CONTAINERD, &archive);
        assert_eq!(lab.read(&format!("usr/local/{name}")), plugin.bytes);
        assert!(!lab.exists("usr/local/bin/nnn"), "the short name was used\n{}", lab.tree());
    }
}

/// The longest name that leaves room beside it for `.nodebake-<name>.tmp`.
#[test]
fn t8_longest_name_that_can_be_staged_is_accepted() {
    let name = format!("bin/{}", "n".repeat(255 - ".nodebake-.tmp".len()));
    let plugin = Member::plugin(&name);
    let header = file(b"bin/nnn").size(plugin.bytes.len() as u64);
    let lab = accepted(
        CONTAINERD,
        &with(|tar| tar.pax(&[("path", name.as_bytes())]).entry(header.clone(), &plugin.bytes)),
    );
    assert_eq!(lab.read(&format!("usr/local/{name}")), plugin.bytes);
}

/// Within the limit for archives, too long to be staged: either it is installed or it is refused
/// before anything is written, never a filesystem error half-way.
#[test]
fn t8_name_between_the_limits_is_installed_or_refused() {
    let name = format!("bin/{}", "n".repeat(251));
    let plugin = Member::plugin(&name);
    let header = file(b"bin/nnn").size(plugin.bytes.len() as u64);
    let mut lab = Lab::new();
    lab.ship(
        CONTAINERD,
        &with(|tar| tar.pax(&[("path", name.as_bytes())]).entry(header.clone(), &plugin.bytes)),
    );
    let before = lab.tree();
    let run = lab.apply();
    match run.code {
        Some(0) => assert_eq!(lab.read(&format!("usr/local/{name}")), plugin.bytes),
        Some(6) => assert_same("the root", &before, &lab.tree()),
        _ => panic!("neither 0 nor 6\n{run}"),
    }
}

/// Whatever a bad archive did, a good one mends it.
#[test]
fn t8_name_between_the_limits_leaves_a_root_that_can_be_baked_and_removed() {
    let name = format!("bin/{}", "n".repeat(251));
    let plugin = Member::plugin(&name);
    let header = file(b"bin/nnn").size(plugin.bytes.len() as u64);
    let mut lab = Lab::new();
    let before = lab.tree();
    lab.ship(CONTAINERD, &with(|tar| tar.pax(&[("path", name.as_bytes())]).entry(header, &plugin.bytes)));
    lab.apply();
    lab.ship(CONTAINERD, &gzip(&tar(&containerd_members())));
    lab.apply().exits(0);
    lab.has_no_leftovers();
    lab.remove().exits(0);
    assert_same("the root", &before, &lab.tree());
}

#[test]
fn t8_path_over_255_bytes_is_refused() {
    for name in [
        format!("bin/{}", "n".repeat(252)),
        format!("bin/{}", "n".repeat(5000)),
        format!("share/{}", "n/".repeat(3) + &"n".repeat(250)),
    ] {
        let shown = &name[..20];
        refused(
            &name,
            &with(|tar| tar.long_name(name.as_bytes()).entry(file(b"bin/nnn").gnu(), b"")),
            6,
            shown,
        );
        refused(
            &name,
            &with(|tar| tar.pax(&[("path", name.as_bytes())]).entry(file(b"bin/nnn"), b"")),
            6,
            shown,
        );
    }
}

#[test]
fn t8_depth_of_8_is_accepted_and_9_is_refused() {
    accepted(CONTAINERD, &with(|tar| tar.member(&Member::file("share/2/3/4/5/6/7/8", 0o644, b"deep"))));
    let deeper = with(|tar| tar.member(&Member::file("share/2/3/4/5/6/7/8/9", 0o644, b"deep")));
    refused("depth 9", &deeper, 6, "share/2/3/4/5/6/7/8/9");
}

// ---------------------------------------------------------------- T9: whose size counts

/// CVE-2025-62518 and CVE-2026-33055: where the PAX size is ignored, the data of one member is
/// read as headers, and an archive means different things to different readers.
#[test]
fn t9_pax_size_wins_over_a_smaller_header() {
    let smuggled = Tar::new().member(&Member::plugin("bin/smuggled")).end();
    let program = elf(Machine::X86_64, &[vec![0; 512 - 120], smuggled].concat());
    let size = program.len().to_string();
    for claimed in [0, 120, 512] {
        let header = file(b"bin/extra").size(claimed);
        let archive = gzip(&members_and(|tar| tar.pax(&[("size", size.as_bytes())]).entry(header, &program)));
        let lab = agrees_with_tar_and_python(&archive);
        assert_eq!(lab.read("usr/local/bin/extra"), program);
        assert!(
            !lab.exists("usr/local/bin/smuggled"),
            "smuggled with a header size of {claimed}\n{}",
            lab.tree()
        );
    }
}

#[test]
fn t9_pax_size_wins_over_a_larger_header() {
    let program = elf(Machine::X86_64, &[7; 512 - 120]);
    let header = file(b"bin/extra").size(program.len() as u64 + 4096);
    let archive = gzip(&members_and(|tar| {
        tar.pax(&[("size", b"512")]).entry(header.clone(), &program).member(&Member::plugin("bin/visible"))
    }));
    let lab = agrees_with_tar_and_python(&archive);
    assert_eq!(lab.read("usr/local/bin/extra"), program);
    assert!(lab.exists("usr/local/bin/visible"), "{}", lab.tree());
}

#[test]
fn t9_long_names_and_honest_archives_read_as_tar_and_python_do() {
    agrees_with_tar_and_python(&gzip(&tar(&containerd_members())));
    let long = format!("bin/{}", "n".repeat(120));
    let plugin = Member::plugin(&long);
    let header = || file(b"bin/nnn").size(plugin.bytes.len() as u64);
    agrees_with_tar_and_python(&with(|tar| {
        tar.long_name(long.as_bytes()).entry(header().gnu(), &plugin.bytes)
    }));
    agrees_with_tar_and_python(&with(|tar| {
        tar.pax(&[("path", long.as_bytes())]).entry(header(), &plugin.bytes)
    }));
    agrees_with_tar_and_python(&with(|tar| {
        let prefixed = Header::new(b'0', b"extra").raw(345, b"bin").size(plugin.bytes.len() as u64);
        tar.entry(prefixed, &plugin.bytes)
    }));
}

// ---------------------------------------------------------------- T10: sparse files

#[test]
fn t10_gnu_sparse_member_is_refused() {
    let tebibyte = [&[0x80, 0, 0, 0][..], &(1u64 << 40).to_be_bytes()].concat();
    // 512 bytes at 0, and nothing at 1 TiB: as GNU tar maps a file that ends in a hole.
    let map = [&b"00000000000\0"[..], b"00000001000\0", &tebibyte, b"00000000000\0"].concat();
    let header = Header::new(b'S', b"bin/sparse").gnu().size(512).raw(386, &map).raw(483, &tebibyte);
    refused("GNU, 1 TiB", &with(|tar| tar.entry(header, &[1; 512])), 6, "bin/sparse");
}

#[test]
fn t10_pax_sparse_member_is_refused() {
    let data = [b"1\n0\n512\n".to_vec(), vec![0; 504], vec![1; 512]].concat();
    let stored = file(b"bin/GNUSparseFile.0/sparse").size(1024);
    let one = [
        ("GNU.sparse.major", &b"1"[..]),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"bin/sparse"),
        ("GNU.sparse.realsize", b"1099511627776"),
    ];
    refused("1.0", &with(|tar| tar.pax(&one).entry(stored, &data)), 6, "sparse");

    let zero_one = [
        ("GNU.sparse.name", &b"bin/sparse"[..]),
        ("GNU.sparse.size", b"1099511627776"),
        ("GNU.sparse.numblocks", b"1"),
        ("GNU.sparse.map", b"0,512"),
    ];
    refused(
        "0.1",
        &with(|tar| tar.pax(&zero_one).entry(file(b"bin/sparse").size(512), &[1; 512])),
        6,
        "sparse",
    );

    let zero_zero = [
        ("GNU.sparse.size", &b"1099511627776"[..]),
        ("GNU.sparse.numblocks", b"1"),
        ("GNU.sparse.offset", b"0"),
        ("GNU.sparse.numbytes", b"512"),
    ];
    refused(
        "0.0",
        &with(|tar| tar.pax(&zero_zero).entry(file(b"bin/sparse").size(512), &[1; 512])),
        6,
        "sparse",
    );
}

// ---------------------------------------------------------------- T11 to T14: damage

#[test]
fn t11_truncated_archive_is_refused() {
    let first = Tar::new().members(&containerd_members()[..3]).bytes();
    let last = Member::file("bin/ctr", 0o755, &elf(Machine::X86_64, &[7; 2000]));
    let header_ends = first.len() + 512;
    let whole = [first.clone(), Tar::new().member(&last).bytes()].concat();
    let cases = [
        ("at once", 0),
        ("between members", first.len()),
        ("in the middle of a header", first.len() + 100),
        ("after a header", header_ends),
        ("in the middle of a member's data", header_ends + 700),
        ("at a block boundary within the data", header_ends + 1024),
        ("in the padding", header_ends + last.bytes.len() + 1),
        ("after all members, without an end marker", whole.len()),
    ];
    for (case, length) in cases {
        refused(case, &gzip(&whole[..length]), 5, "");
    }
}

#[test]
fn t11_empty_file_is_refused() {
    refused("no byte at all", b"", 5, "");
    refused_as(RUNC, "no byte at all", b"", 5, "");
}

#[test]
fn t12_zero_block_in_the_middle_is_refused() {
    for blocks in [1, 2, 3] {
        let archive = gzip(
            &Tar::new()
                .members(&containerd_members())
                .zero_blocks(blocks)
                .member(&Member::plugin("bin/hidden"))
                .end(),
        );
        refused(&format!("{blocks} zero blocks"), &archive, 6, "");
    }
}

#[test]
fn t12_data_after_the_end_marker_is_refused() {
    let whole = tar(&containerd_members());
    for junk in [&b"x"[..], &[0, 0, 0, 1], &[1; 512], &[[0; 512], [1; 512]].concat()] {
        refused(&format!("{} bytes", junk.len()), &gzip(&[&whole, junk].concat()), 6, "");
    }
}

/// GNU tar pads to records of 10 KiB.
#[test]
fn t12_zero_padding_after_the_end_marker_is_accepted() {
    for blocks in [1, 18, 200] {
        accepted(
            CONTAINERD,
            &gzip(&Tar::new().members(&containerd_members()).zero_blocks(2 + blocks).bytes()),
        );
    }
}

#[test]
fn t13_damaged_gzip_stream_is_refused() {
    let whole = tar(&containerd_members());
    let stream = gzip(&whole);
    let cases = [
        ("bad CRC", kit::gzip_bad_crc(&whole)),
        ("bad length", kit::gzip_bad_length(&whole)),
        ("no trailer", kit::gzip_no_trailer(&whole)),
        ("half a trailer", stream[..stream.len() - 4].to_vec()),
        ("cut in the middle", stream[..stream.len() / 2].to_vec()),
        ("only a header", stream[..10].to_vec()),
        ("trailing junk", kit::gzip_trailing_junk(&whole)),
        ("a second member without data", [&stream[..], &stream[..10]].concat()),
    ];
    for (case, archive) in cases {
        refused(case, &archive, 5, "");
    }
}

#[test]
fn t14_all_members_of_a_multi_member_stream_are_read() {
    let whole = tar(&containerd_members());
    let plain = accepted(CONTAINERD, &gzip(&whole)).tree();
    for cuts in [vec![512], vec![100, 700], vec![512, 512, 1024], vec![whole.len() - 1024]] {
        let mut pieces: Vec<&[u8]> = Vec::new();
        let end = cuts.iter().fold(0, |from, &cut| {
            pieces.push(&whole[from..cut]);
            cut
        });
        pieces.push(&whole[end..]);
        let lab = accepted(CONTAINERD, &kit::gzip_members(&pieces));
        // The archive's digest, and so the receipt, is another one.
        assert_same("the installed tree", &without_receipt(&plain), &without_receipt(&lab.tree()));
    }
}

// ---------------------------------------------------------------- T15: bombs

#[test]
fn t15_bomb_is_refused_wherever_it_lies() {
    const GIB: u64 = 1 << 30;
    let head =
        |name: &[u8]| Tar::new().members(&containerd_members()).entry(file(name).size(3 * GIB), b"").bytes();
    let end = vec![0; 1024];
    bomb_is_refused("in a wanted member", &kit::gzip_bomb(&head(b"bin/bomb"), 3072, &end), "bin/bomb");
    bomb_is_refused("in an ignored member", &kit::gzip_bomb(&head(b"share/bomb"), 3072, &end), "share/bomb");
}

#[test]
fn t15_bomb_after_the_end_marker_is_refused() {
    bomb_is_refused("after the end marker", &kit::gzip_bomb(&tar(&containerd_members()), 3072, b""), "");
}

#[test]
fn t15_many_members_that_are_a_bomb_together_are_refused() {
    let mut tar = Tar::new().members(&containerd_members());
    // 64 MiB each, sparse in the stream: their zeros are repeated below.
    tar = tar.entry(file(b"share/0").size(64 << 20), b"");
    let one = kit::gzip_bomb(&tar.bytes(), 64, b"");
    let rest = (1..48).flat_map(|n| {
        kit::gzip_bomb(
            &Tar::new().entry(file(format!("share/{n}").as_bytes()).size(64 << 20), b"").bytes(),
            64,
            b"",
        )
    });
    let archive: Vec<u8> = one.into_iter().chain(rest).chain(gzip(&[0; 1024])).collect();
    bomb_is_refused("48 members of 64 MiB", &archive, "");
}

/// Readers keep a name record in memory whole.
#[test]
fn t15_name_record_that_is_a_bomb_is_refused() {
    let gib = 1u64 << 30;
    for (kind, name) in [
        (b'L', &b"././@LongLink"[..]),
        (b'K', b"././@LongLink"),
        (b'x', b"PaxHeaders/0"),
        (b'g', b"pax_global_header"),
    ] {
        let head = Tar::new()
            .members(&containerd_members())
            .entry(Header::new(kind, name).gnu().size(gib), b"")
            .bytes();
        bomb_is_refused(
            &format!("a record of type {}", kind as char),
            &kit::gzip_bomb(&head, 1024, &[0; 1024]),
            "",
        );
    }
}

#[test]
fn t15_more_than_4096_members_are_refused() {
    let member = |n: usize| Member::file(&format!("share/{n}"), 0o644, b"");
    let crowd = |count: usize| {
        gzip(&tar(&containerd_members().into_iter().chain((4..count).map(member)).collect::<Vec<_>>()))
    };
    accepted(CONTAINERD, &crowd(4096));
    bomb_is_refused("4097 members", &crowd(4097), "");
    bomb_is_refused("50,000 members", &crowd(50_000), "");
}

#[test]
fn t15_enormous_size_field_is_refused() {
    for size in [1 << 62, (1 << 63) - 1, 1 << 63] {
        let archive = with(|tar| tar.entry(file(b"bin/huge").size(size), b"x"));
        bomb_is_refused(&format!("{size} in the header"), &archive, "bin/huge");
    }
    for size in ["4611686018427387904", "9223372036854775807"] {
        let archive = with(|tar| tar.pax(&[("size", size.as_bytes())]).entry(file(b"bin/huge"), b"x"));
        bomb_is_refused(&format!("{size} in PAX"), &archive, "bin/huge");
    }
}

/// Rounded up to whole blocks it no longer fits into 64 bits.
#[test]
fn t15_size_field_that_overflows_is_refused() {
    let header = with(|tar| tar.entry(file(b"bin/huge").size(u64::MAX), b"x"));
    bomb_is_refused("in the header", &header, "");
    let pax = with(|tar| tar.pax(&[("size", b"18446744073709551615")]).entry(file(b"bin/huge"), b"x"));
    bomb_is_refused("in PAX", &pax, "");
}

// ---------------------------------------------------------------- T16 to T18: something else

#[test]
fn t16_html_is_named() {
    for page in [
        "<!DOCTYPE html><html><body>Log in</body></html>",
        "\n\n<html><head></head></html>",
        "<!doctype HTML>\n",
    ] {
        for component in [CONTAINERD, RUNC, CNI] {
            let run = refused_as(component, page, page.as_bytes(), 5, "");
            run.says("HTML");
        }
    }
}

#[test]
fn t17_missing_member_is_named() {
    let without: Vec<_> =
        containerd_members().into_iter().filter(|member| member.name != "bin/containerd").collect();
    refused("without bin/containerd", &gzip(&tar(&without)), 5, "bin/containerd");
}

#[test]
fn t17_extra_member_within_the_rule_is_installed() {
    let extra = Member::plugin("bin/extra");
    let lab = accepted(CONTAINERD, &with(|tar| tar.member(&extra)));
    assert_eq!(lab.read("usr/local/bin/extra"), extra.bytes);
}

#[test]
fn t17_extra_member_outside_the_rule_is_ignored_and_listed() {
    let mut lab = Lab::new();
    let extra = Member::file("share/doc/x", 0o644, b"documentation\n");
    lab.ship(CONTAINERD, &with(|tar| tar.member(&extra)));
    let run = lab.run(["apply", "--verbose"], &lab.root);
    run.exits(0).says("share/doc/x");
    assert!(!lab.tree().contains("share"), "{}", lab.tree());
}

#[test]
fn t18_plain_tar_is_known_by_its_magic() {
    let lab = accepted(CONTAINERD, &tar(&containerd_members()));
    for name in ["containerd", "containerd-shim-runc-v2", "ctr"] {
        assert_eq!(lab.read(&format!("usr/local/bin/{name}")), Member::plugin(&format!("bin/{name}")).bytes);
    }
}

#[test]
fn t18_other_compression_is_named() {
    let xz = [&b"\xfd7zXZ\0\0\x04"[..], &[0; 64]].concat();
    let zstd = [&b"\x28\xb5\x2f\xfd"[..], &[0; 64]].concat();
    for (format, archive) in [("xz", xz), ("zstd", zstd)] {
        refused(format, &archive, 3, format);
    }
}

// ---------------------------------------------------------------- V3: another architecture

#[test]
fn v3_member_of_another_architecture_is_refused() {
    let wrong = [
        ("arm64", elf(Machine::Aarch64, b"x")),
        ("386", elf(Machine::I386, b"x")),
        ("arm", elf(Machine::Arm, b"x")),
        ("a script", b"#!/bin/sh\nexit 0\n".to_vec()),
        ("a cut ELF", elf(Machine::X86_64, b"x")[..40].to_vec()),
        ("nothing", Vec::new()),
    ];
    for (case, bytes) in wrong {
        let member = Member::file("bin/extra", 0o755, &bytes);
        refused(case, &with(|tar| tar.member(&member)), 5, "bin/extra");
        refused_as(RUNC, case, &bytes, 5, "");
    }
}

// ---------------------------------------------------------------- what the tests say

/// A containerd archive that is refused with `code`, at once, naming itself and `member`, and
/// that leaves the root exactly as it was.
#[track_caller]
fn refused(case: &str, archive: &[u8], code: i32, member: &str) -> Run {
    refused_as(CONTAINERD, case, archive, code, member)
}

#[track_caller]
fn refused_as(component: Component, case: &str, archive: &[u8], code: i32, member: &str) -> Run {
    let mut lab = Lab::new();
    lab.ship(component, archive);
    let before = lab.tree();
    let run = lab.apply();
    assert_eq!(run.code, Some(code), "exit code (expected right) of {case:?}\n{run}");
    run.says(component.file).says(member).is_printable().within(AT_ONCE);
    assert_same(&format!("the root after {case:?}"), &before, &lab.tree());
    run
}

/// Refused, and never held in memory; a run that is gone before the first look has a peak of 0.
#[track_caller]
fn bomb_is_refused(case: &str, archive: &[u8], member: &str) {
    let run = refused(case, archive, 6, member);
    assert!(run.peak < 64 << 10, "{case}: {} KiB\n{run}", run.peak);
}

/// A lab in which this archive was installed.
#[track_caller]
fn accepted(component: Component, archive: &[u8]) -> Lab {
    let mut lab = Lab::new();
    lab.ship(component, archive);
    lab.apply().exits(0).within(AT_ONCE);
    lab.has_no_leftovers();
    lab
}

/// What nodebake installs from `bin/` is what GNU tar and Python's tarfile would extract there.
#[track_caller]
fn agrees_with_tar_and_python(archive: &[u8]) -> Lab {
    let lab = accepted(CONTAINERD, archive);
    let ours = digests(&lab.path("usr/local/bin"));
    let file = lab.artifacts.join(CONTAINERD.file);
    for tool in ["tar", "python3"] {
        let into = lab.dir.join(tool);
        fs::create_dir(&into).unwrap();
        let mut command = Command::new(tool);
        match tool {
            "tar" => command.arg("-xzf").arg(&file).arg("-C").arg(&into),
            _ => command
                .args(["-c", "import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])"])
                .arg(&file)
                .arg(&into),
        };
        let run = kit::run(&mut command);
        run.exits(0);
        assert_eq!(ours, digests(&into.join("bin")), "nodebake left, {tool} right");
    }
    lab
}

fn digests(dir: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (kit::text(path.file_name().unwrap()), sha256(&fs::read(&path).unwrap()))).collect()
}

#[track_caller]
fn has_line(lab: &Lab, start: &str) {
    let tree = lab.tree();
    assert!(
        tree.starts_with(start) || tree.contains(&format!("\n{start}")),
        "no line `{}` in\n{tree}",
        start.trim_end()
    );
}

fn without_receipt(tree: &str) -> String {
    tree.lines().filter(|line| !line.contains("receipt.json")).map(|line| format!("{line}\n")).collect()
}

// ---------------------------------------------------------------- archives

/// containerd's archive with something more, in the middle: readers that stop early miss it, and
/// readers that stop at it miss the rest.
fn with(more: impl FnOnce(Tar) -> Tar) -> Vec<u8> {
    gzip(&members_and(more))
}

fn members_and(more: impl FnOnce(Tar) -> Tar) -> Vec<u8> {
    let members = containerd_members();
    let (last, first) = members.split_last().unwrap();
    more(Tar::new().members(first)).member(last).end()
}

fn renamed(members: Vec<Member>, name: &str, change: impl Fn(Member) -> Member) -> Vec<Member> {
    members.into_iter().map(|member| if member.name == name { change(member) } else { member }).collect()
}

fn file(name: &[u8]) -> Header {
    Header::new(b'0', name)
}

fn symlink(name: &[u8], target: &[u8]) -> Header {
    Header::new(b'2', name).link(target)
}
