//! A guard of the speed that does not depend on the machine's load: how many instructions the static
//! binary needs for a fixed small input, counted by callgrind. Needs `make dist` and the lab.

use std::fs;
use std::process::Command;

use crate::kit::lab::static_binary;
use crate::kit::{CNI, CONTAINERD, Lab, Machine, Member, RUNC, elf, gzip, run, skip, tar};

/// The compiler and the processor's features that the counts hold for.
const RUSTC: &str = "rustc 1.95.0";
const FEATURES: [&str; 2] = ["avx2", "pclmulqdq"];

/// Bytes of each of the executables: enough that decoding them is most of the work.
const PAYLOAD: usize = 1 << 20;

/// Millions of instructions for one command, and how far off a run may be. Fewer is worth a new number:
/// else the next loss hides in the room that it leaves.
struct Budget {
    command: &'static str,
    millions: f64,
}

const BAND: f64 = 0.03;
/// Millions that the start may grow with the binary's relocations.
const SLACK: f64 = 0.1;
const BUDGETS: [Budget; 4] = [
    Budget { command: "apply", millions: 1281.5 },
    Budget { command: "apply, nothing to do", millions: 444.7 },
    Budget { command: "verify", millions: 448.5 },
    Budget { command: "--version", millions: 0.299 },
];

#[test]
#[ignore = "needs make dist"]
fn the_hot_path_needs_no_more_instructions() {
    let features = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let rustc = Command::new("rustc").arg("--version").output().unwrap();
    if !rustc.stdout.starts_with(RUSTC.as_bytes()) || !FEATURES.iter().all(|has| features.contains(has)) {
        return skip(&format!("the counts are those of {RUSTC} on a processor with {FEATURES:?}"));
    }
    let lab = releases();
    let spec = [lab.spec.to_str().unwrap(), lab.root.to_str().unwrap()];
    let apply = ["apply", "--spec", spec[0], "--root", spec[1]];
    let counted = [
        instructions(&lab, &apply),
        instructions(&lab, &apply),
        instructions(&lab, &["verify", "--root", spec[1]]),
        instructions(&lab, &["--version"]),
    ];
    let told: Vec<String> =
        BUDGETS.iter().zip(counted).map(|(budget, millions)| budget.judge(millions)).collect();
    assert!(told.iter().all(String::is_empty), "\n{}", told.concat());
}

impl Budget {
    /// Nothing, or what is wrong.
    fn judge(&self, millions: f64) -> String {
        let off = (millions - self.millions).abs();
        match off <= BAND * self.millions || off <= SLACK {
            true => String::new(),
            false => format!("{}: {millions:.3} million, {:.3} expected\n", self.command, self.millions),
        }
    }
}

/// Archives as upstream's, small, of text that gzip makes a third of.
fn releases() -> Lab {
    let mut lab = Lab::new();
    let member = |name: &str, seed| Member::file(name, 0o755, &elf(Machine::X86_64, &text(seed)));
    let containerd =
        [member("bin/containerd", 1), member("bin/containerd-shim-runc-v2", 2), member("bin/ctr", 3)];
    let cni =
        [member("./bridge", 4), member("./host-local", 5), member("./loopback", 6), member("./portmap", 8)];
    lab.ship(CONTAINERD, &gzip(&tar(&containerd)));
    lab.ship(CNI, &gzip(&tar(&cni)));
    lab.ship(RUNC, &elf(Machine::X86_64, &text(7)));
    lab
}

/// Words in an order that looks random and is always the same.
fn text(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(PAYLOAD);
    while bytes.len() < PAYLOAD {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(format!("{:x} ", state % 5000).as_bytes());
    }
    bytes
}

/// In millions, over all threads.
fn instructions(lab: &Lab, arguments: &[&str]) -> f64 {
    let valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"];
    let mut command = lab.wrapped(valgrind);
    command.arg(static_binary("x86_64-unknown-linux-musl")).args(arguments);
    let counted = run(&mut command);
    counted.exits(0);
    let errors = counted.errors();
    let line = errors.lines().find_map(|line| line.split_once("Collected : ")).unwrap();
    line.1.trim().parse::<f64>().unwrap() / 1e6
}
