//! Golden cases: what one spec makes of one root, written down so that a change of behaviour is a
//! change of files that a reviewer can read. `BLESS=1 cargo test --test hermetic cases::` rewrites
//! them.
//!
//! `tests/cases/<name>/` is a case: what it starts from, and what is expected, as far as it has the files (a
//! new case begins with empty ones).
//!
//! ```text
//! nodebake.yaml  the spec; versions that it leaves open are those of kit/upstream.rs
//! seed/          files that are in the root before
//! before.sh      what files can't say, links and modes; runs in the root after seed/ is copied
//! steps          shell lines that follow the first bake, run beside the root
//!
//! plan.txt       the plan as it is printed
//! tree.txt       one line a path of what the bake has added or changed
//! differs.txt    plan and tree where they are not as in `defaults`, and what was said on stderr
//! steps.txt      each step, and `remove` last: its output, its exit code if not 0, what it changed
//! error.txt      the spec or the root is refused: exit code and message; the root is unchanged
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use crate::kit;
use crate::kit::upstream::publish;
use crate::kit::{Lab, Run, run, tree};

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases");
const AS_BEFORE: &str = "the root is as before\n";
/// Runs in a laboratory's root with the case's folder as `$1`.
const FURNISH: &str = r#"
    umask 022
    find "$1" -maxdepth 1 -type f -exec cp -t .. {} +
    for spec in ../*.yaml; do echo 'source: ./artifacts' >> "$spec"; done
    if [ -d "$1/seed" ]; then cp -r --no-preserve=mode "$1/seed/." .; fi
    if [ -e ../before.sh ]; then . ../before.sh; fi
"#;

#[test]
fn every_case_plans_and_bakes_as_it_is_written_down() {
    let mut cases: Vec<PathBuf> = fs::read_dir(CASES).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 25, "{cases:?}");
    let defaults = bake(&furnish(&Path::new(CASES).join("defaults")));
    // Side by side: most of the time goes by in waiting for the disk.
    let check_all = |cases: &[PathBuf]| -> Vec<String> {
        thread::scope(|scope| {
            let checks: Vec<_> = cases.iter().map(|case| scope.spawn(|| check(case, &defaults))).collect();
            checks.into_iter().flat_map(|check| check.join().unwrap()).collect()
        })
    };
    let wrong: Vec<String> = cases.chunks(8).flat_map(check_all).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with a case.
fn check(case: &Path, defaults: &Baked) -> Vec<String> {
    let lab = furnish(case);
    let refused = case.join("error.txt").exists();
    let found = if refused { vec![("error.txt", refusal(&lab))] } else { story(case, &lab, defaults) };
    assert_known(case, &found);
    let found = found.into_iter().filter(|(file, _)| case.join(file).exists());
    let compared: Vec<_> = found.map(|(file, text)| compare(&case.join(file), &text)).collect();
    assert!(!compared.is_empty(), "nothing is expected of {case:?}");
    compared.into_iter().flatten().collect()
}

/// A text file that nothing is compared with would be a case that can't fail; so would steps without their golden.
fn assert_known(case: &Path, found: &[(&str, String)]) {
    for entry in fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_str().unwrap();
        assert!(!name.ends_with(".txt") || found.iter().any(|(file, _)| *file == name), "{name} in {case:?}");
    }
    assert!(
        !case.join("steps").exists() || case.join("steps.txt").exists(),
        "steps without steps.txt in {case:?}"
    );
}

/// A root is baked, goes through the steps and is given back.
fn story(case: &Path, lab: &Lab, defaults: &Baked) -> Vec<(&'static str, String)> {
    let before = tree(&lab.root);
    let baked = bake(lab);
    let steps = fs::read_to_string(case.join("steps")).unwrap_or_default();
    let steps: String = steps.lines().map(|line| step(lab, line)).collect();
    let removed = remove(lab, &before);
    assert!(removed.ends_with(AS_BEFORE) || !steps.is_empty(), "remove restores {case:?}\n{removed}");
    let differs = differs(&baked, defaults);
    let steps = steps + &removed;
    vec![("plan.txt", baked.plan), ("tree.txt", baked.tree), ("differs.txt", differs), ("steps.txt", steps)]
}

/// A laboratory with the case's root, its specs and the artifacts that they may ask for.
fn furnish(case: &Path) -> Lab {
    let lab = Lab::new();
    run(lab.wrapped(["sh", "-ec", FURNISH, "sh"]).arg(case).current_dir(&lab.root)).exits(0);
    publish(&lab, "nodebake.yaml");
    lab
}

/// A first bake.
struct Baked {
    plan: String,
    said: String,
    tree: String,
}

fn bake(lab: &Lab) -> Baked {
    let before = tree(&lab.root);
    let plan = lab.plan();
    plan.exits(10);
    assert_eq!(tree(&lab.root), before, "plan writes nothing");
    lab.apply().exits(0);
    // The receipt holds the digests of archives that the tests compress anew.
    let added = |line: &&str| !line.contains("receipt.json") && !before.lines().any(|old| old == *line);
    let tree = tree(&lab.root).lines().filter(added).map(|line| format!("{line}\n")).collect();
    lab.verify().exits(0);
    lab.apply().exits(0).mentions("0 created, 0 changed, 0 removed");
    Baked { said: shown(lab, &plan.errors()), plan: plan.stdout, tree }
}

/// What is not as in `defaults`.
fn differs(baked: &Baked, defaults: &Baked) -> String {
    let path = |entry: &str| entry.split(' ').nth(1).unwrap_or_default().to_owned();
    let (ours, usual) = (entries(&baked.plan), entries(&defaults.plan));
    let has = |wanted: &str| ours.iter().any(|entry| path(entry) == path(wanted));
    let missing = usual.iter().filter(|entry| entry.starts_with("+ ") && !has(entry));
    let missing: String = missing.map(|entry| format!("no {}\n", path(entry))).collect();
    let other: String = ours.iter().filter(|entry| !usual.contains(entry)).map(String::as_str).collect();
    format!("{}# the plan, but for what `defaults` plans as well\n{missing}{other}", baked.said)
        + "# the tree against that of `defaults`\n"
        + &changes(&defaults.tree, &baked.tree)
}

/// The entries of a plan: a line and what is indented below it.
fn entries(plan: &str) -> Vec<String> {
    let lines: Vec<&str> = plan.split_inclusive('\n').collect();
    lines.chunk_by(|_, next| next.starts_with(' ')).map(|entry| entry.concat()).collect()
}

/// Runs one line of shell beside the root and tells what came of it.
fn step(lab: &Lab, line: &str) -> String {
    let before = tree(&lab.root);
    if let Some(spec) = line.split_whitespace().find(|word| word.ends_with(".yaml") && !word.contains('/')) {
        publish(lab, spec);
    }
    let script = format!("nodebake() {{ '{}' \"$@\"; }}\n{line}", kit::NODEBAKE);
    let run = run(lab.wrapped(["sh", "-c", &script]).current_dir(&lab.dir));
    let code = match run.code {
        Some(0) => String::new(),
        Some(code) => format!("exit {code}\n"),
        None => "killed by a signal\n".to_owned(),
    };
    let changed = changes(&before, &tree(&lab.root));
    let changed = if changed.is_empty() { changed } else { format!("changed:\n{changed}") };
    format!("$ {line}\n{}{}{code}{changed}\n", shown(lab, &run.errors()), shown(lab, &run.stdout))
}

/// What `remove` says, but for the paths that simply go, and what is left.
fn remove(lab: &Lab, before: &str) -> String {
    let run = lab.remove();
    run.exits(0);
    let said = shown(lab, &(run.errors() + &run.stdout));
    let simply = |line: &str| line.starts_with("- ") && line.ends_with(")\n");
    let said: String = said.split_inclusive('\n').filter(|line| !simply(line)).collect();
    let left = changes(before, &tree(&lab.root));
    let left = if left.is_empty() { AS_BEFORE } else { &format!("left:\n{left}") };
    format!("$ nodebake remove --root root\n{said}{left}")
}

/// How a root or a spec is refused, by the plan as by the bake.
fn refusal(lab: &Lab) -> String {
    let before = tree(&lab.root);
    let told = |run: Run| format!("exit {}\n{}{}", run.code.unwrap(), shown(lab, &run.errors()), run.stdout);
    let (plan, apply) = (told(lab.plan()), told(lab.apply()));
    assert_eq!(plan, apply, "plan and apply refuse the same");
    assert_eq!(tree(&lab.root), before, "nothing is left behind");
    plan
}

/// Output without the laboratory's folder and the progress of what is read side by side.
fn shown(lab: &Lab, output: &str) -> String {
    let output = output.replace(&format!("{}/", lab.dir.display()), "");
    output.split_inclusive('\n').filter(|line| !line.starts_with("nodebake: reading ")).collect()
}

/// One line a path that only one of two trees has, or that they have in two ways.
fn changes(before: &str, after: &str) -> String {
    let mut paths: BTreeMap<&str, [Option<&str>; 2]> = BTreeMap::new();
    for (side, tree) in [before, after].into_iter().enumerate() {
        for line in tree.lines().filter(|line| !line.contains("receipt.json")) {
            paths.entry(line.split(' ').nth(2).unwrap()).or_default()[side] = Some(line);
        }
    }
    let line = |[old, new]: [Option<&str>; 2]| match (old, new) {
        (Some(_), Some(new)) => format!("~ {new}\n"),
        _ => old.map_or_else(|| format!("+ {}\n", new.unwrap()), |old| format!("- {old}\n")),
    };
    paths.into_values().filter(|[old, new]| old != new).map(line).collect()
}

fn compare(file: &Path, found: &str) -> Option<String> {
    if std::env::var_os("BLESS").is_some() {
        fs::write(file, found).unwrap();
    }
    let expected = fs::read_to_string(file).unwrap();
    (expected != found).then(|| {
        let lines = |text| str::lines(text).chain(["the end"]);
        let line = lines(found).zip(lines(&expected)).find(|(a, b)| a != b);
        format!("{} differs, first at {line:?}; BLESS=1 rewrites it", file.display())
    })
}
