//! Power cuts (row C4): a filesystem is shut down under a run or after it, mounted again and judged.
//!
//! ext4 and xfs have an ioctl for it, which drops everything that is not on the disk, or all but the
//! log: then names and sizes are there and the data behind them is not, which is where a missing
//! fsync shows.

use std::fs;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::kit::story::{Story, stories, summary};
use crate::kit::tally::tally;
use crate::kit::{NODEBAKE, Run, run, skip, strace, works};

/// The calls that change what a disk holds, or wait until it does.
const CALLS: [&str; 10] = [
    "fsync",
    "renameat",
    "renameat2",
    "linkat",
    "unlinkat",
    "mkdirat",
    "symlinkat",
    "fchmod",
    "write",
    "utimensat",
];

#[derive(Clone, Copy, Debug)]
enum Filesystem {
    Ext4,
    Xfs,
}

impl Filesystem {
    /// Makes a small one in the file `image`.
    fn make(self) -> &'static str {
        match self {
            Filesystem::Ext4 => "truncate -s 32m image && mkfs.ext4 -q -F -m 0 image",
            Filesystem::Xfs => "truncate -s 300m image && mkfs.xfs -q image",
        }
    }
}

/// What the cut spares beside what was synced.
#[derive(Clone, Copy, Debug)]
enum Spared {
    Nothing,
    /// All names, sizes and modes, and no data.
    Log,
}

/// When the power goes: before the n-th call, or after the run.
#[derive(Clone, Copy, Debug)]
enum When {
    Before(&'static str, usize),
    Afterwards,
}

struct Cut<'a> {
    story: &'a Story,
    filesystem: Filesystem,
    spared: Spared,
    when: When,
}

#[test]
#[ignore = "needs loop devices, strace and xfsprogs; run by make test"]
fn c4_the_power_fails_at_any_call_and_after_the_run() {
    if let Some(reason) = lacking() {
        return skip(&reason);
    }
    let stories = stories();
    let cuts: Vec<Cut> = stories.iter().flat_map(Cut::of).collect();
    let next = AtomicUsize::new(0);
    let (hits, complaints) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while let Some(cut) = cuts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (hit, wrong) = cut.play();
                    hits.fetch_add(usize::from(hit), Ordering::Relaxed);
                    complaints.lock().unwrap().extend(wrong);
                }
            });
        }
    });
    tally("power cuts", cuts.len());
    let complaints = complaints.into_inner().unwrap();
    // cargo captures only the print macros, and these numbers are for whoever ran it.
    let mut report = std::io::stderr();
    let hits = hits.into_inner();
    writeln!(
        report,
        "{} power cuts, {hits} of them under a run, {} complaints, {:?}",
        cuts.len(),
        complaints.len(),
        start.elapsed()
    )
    .unwrap();
    assert!(hits * 2 > cuts.len(), "hardly ever under a run: the sweep proves little");
    assert!(complaints.is_empty(), "{} complaints, by kind:\n{}", complaints.len(), summary(&complaints));
}

/// Why no power can be cut here.
fn lacking() -> Option<String> {
    if !works([strace([]), vec!["true".to_owned()]].concat()) {
        return Some("strace can't trace here".to_owned());
    }
    let lab = tempfile::tempdir().unwrap();
    let script = "mkdir mnt && truncate -s 8m image && mkfs.ext4 -q -F image && mount -o loop image mnt \
        && xfs_io -x -c shutdown mnt && ! touch mnt/x";
    let mut command = std::process::Command::new("unshare");
    let tried = run(command.args(["-m", "sh", "-c", script]).current_dir(lab.path()));
    (tried.code != Some(0)).then(|| format!("no filesystem can be shut down here: {}", tried.errors().trim()))
}

impl<'a> Cut<'a> {
    /// The cuts of one story. With NODEBAKE_FAULTS=all before every call in every way, else before a few that are
    /// spread evenly, each way in turn.
    fn of(story: &'a Story) -> Vec<Cut<'a>> {
        let all = std::env::var_os("NODEBAKE_FAULTS").is_some_and(|value| value == "all");
        let counts = story.count_calls();
        let moments = CALLS.iter().flat_map(|call| {
            let count = counts.get(*call).copied().unwrap_or(0);
            (1..=count).map(|n| When::Before(call, n))
        });
        let moments: Vec<When> = moments.collect();
        let step = if all { 1 } else { moments.len().div_ceil(16) };
        let mut cuts = Vec::new();
        for (turn, filesystem) in [Filesystem::Ext4, Filesystem::Xfs].into_iter().enumerate() {
            for (half, spared) in [Spared::Nothing, Spared::Log].into_iter().enumerate() {
                let first = (2 * turn + half) * step / 4;
                let sampled = moments.iter().skip(first).step_by(step).copied();
                let whens = sampled.chain([When::Afterwards]);
                cuts.extend(whens.map(|when| Cut { story, filesystem, spared, when }));
            }
        }
        cuts
    }

    /// Cuts, judges, runs again undisturbed and judges that. Says whether it was under a run.
    fn play(&self) -> (bool, Vec<String>) {
        let Cut { story, filesystem, spared, when } = self;
        let work = story.room();
        for name in ["mnt", "after", "converged"] {
            fs::create_dir(work.path().join(name)).unwrap();
        }
        let run = self.run(work.path());
        let (torn, code) = match run.code {
            Some(137) => (true, None),
            other => (false, other),
        };
        let mut wrong = match (when, code) {
            (_, Some(98)) => vec!["the next run fails".to_owned()],
            (_, Some(96 | 97 | 99)) => vec!["the test itself failed".to_owned()],
            (When::Afterwards, Some(0)) | (When::Before(..), None | Some(0)) => Vec::new(),
            _ => vec!["ended wrongly".to_owned()],
        };
        if wrong.is_empty() {
            wrong.extend(story.judge(&work.path().join("after"), code, torn));
            wrong.extend(story.judge_converged(&work.path().join("converged"), false));
        }
        let again = fs::read_to_string(work.path().join("again")).unwrap_or_default();
        let label = format!("{}, {filesystem:?}, {when:?}, spared {spared:?}", story.name);
        (torn, wrong.into_iter().map(|what| format!("[{label}] {what}\n{run}{again}")).collect())
    }

    /// The roots lie on a filesystem of their own that is mounted nowhere else, so what it held is copied out. Its
    /// disk is slow: data that the program only advises to write soon is not there in time.
    ///
    /// Exit 99 where it can't be made, 98 where the next run fails, 97 and 96 where the test does.
    fn run(&self, work: &std::path::Path) -> Run {
        let script = format!(
            "{{ {} && mount -o loop image mnt; }} || exit 99
            cp -a ../template/. mnt/ && rm -rf mnt/lost+found && sync -f mnt || exit 97
            {} \"$@\"; code=$?
            {} || exit 96
            umount mnt && mount -o loop image mnt || exit 97
            cp -a mnt/. after/ || exit 97
            \"$@\" >/dev/null 2>again || exit 98
            cp -a mnt/. converged/; umount mnt; exit $code",
            self.filesystem.make(),
            match self.when {
                When::Before(call, n) => format!(
                    "strace -f -qq -o /dev/null -e trace={call},fadvise64 -e inject=fadvise64:retval=0 \
                     -e inject={call}:signal=SIGKILL:when={n}"
                ),
                When::Afterwards => {
                    "strace -f -qq -o /dev/null -e trace=fadvise64 -e inject=fadvise64:retval=0".to_owned()
                }
            },
            match self.spared {
                Spared::Nothing => "xfs_io -x -c shutdown mnt",
                Spared::Log => "xfs_io -x -c 'shutdown -f' mnt",
            },
        );
        let Story { lab, verb, .. } = self.story;
        let mut command = lab.wrapped(["unshare", "-m", "sh", "-c", &script, "sh", NODEBAKE]);
        run(command.args(self.story.arguments(verb, &work.join("mnt"))).current_dir(work))
    }
}
