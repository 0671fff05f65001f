//! Runs nodebake and watches its time and its memory.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::NODEBAKE;
use super::costs::cost;

/// No honest run takes longer; whoever blocks on a FIFO or loops for ever is killed here.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One finished run, with everything a failure message needs.
pub struct Run {
    pub command: String,
    /// None after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    /// Raw, because a hostile name must not come through unescaped.
    pub stderr: Vec<u8>,
    pub took: Duration,
    /// VmHWM of the started process in KiB, as last seen before its end.
    pub peak: u64,
}

impl Run {
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Run {
        assert_eq!(self.code, Some(code), "exit code (expected right)\n{self}");
        self
    }

    /// stderr contains `needle`.
    #[track_caller]
    pub fn says(&self, needle: &str) -> &Run {
        assert!(self.errors().contains(needle), "stderr lacks `{needle}`\n{self}");
        self
    }

    /// stdout or stderr contains `needle`: for reports, whose stream is the command's choice.
    #[track_caller]
    pub fn mentions(&self, needle: &str) -> &Run {
        let anywhere = self.stdout.contains(needle) || self.errors().contains(needle);
        assert!(anywhere, "neither stream has `{needle}`\n{self}");
        self
    }

    #[track_caller]
    pub fn within(&self, limit: Duration) -> &Run {
        assert!(self.took < limit, "took {:?}, more than {limit:?}\n{self}", self.took);
        self
    }

    /// Nothing that a terminal would interpret: no control byte but the line ends, and UTF-8.
    #[track_caller]
    pub fn is_printable(&self) -> &Run {
        assert!(std::str::from_utf8(&self.stderr).is_ok(), "stderr is not UTF-8\n{self}");
        let control = self.errors().chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(control, None, "a raw control character on stderr\n{self}");
        self
    }

    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let code = self.code.map_or("a signal".to_owned(), |code| code.to_string());
        writeln!(f, "$ {}\nexit: {code} after {:?}, peak {} KiB", self.command, self.took, self.peak)?;
        writeln!(
            f,
            "--- stdout\n{}--- stderr\n{}---",
            self.stdout,
            self.stderr.escape_ascii().to_string().replace("\\n", "\n")
        )
    }
}

/// What nodebake needs at most, in KiB, whatever it is fed.
pub const MEMORY: u64 = 64 << 10;

/// Runs to the end, or kills after [`PATIENCE`] and fails. Fails as well where nodebake itself has
/// needed more than [`MEMORY`]: that holds for every attack, not for the tests of bombs alone.
#[track_caller]
pub fn run(command: &mut Command) -> Run {
    let line = words(command);
    let start = Instant::now();
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let stdout = drain(child.stdout.take().unwrap());
    let stderr = drain(child.stderr.take().unwrap());
    let (code, peak) = watch(&mut child, start, &line);
    let took = start.elapsed();
    if line.starts_with(NODEBAKE) {
        assert!(peak < MEMORY, "{peak} KiB of memory: {line}");
        cost(peak, took);
    }
    Run {
        command: line,
        code,
        took,
        peak,
        stdout: String::from_utf8_lossy(&stdout.join().unwrap()).into_owned(),
        stderr: stderr.join().unwrap(),
    }
}

/// Polls for the end and for the high-water mark: wait4's ru_maxrss would carry over the test's
/// own size, and the mark is gone with the process.
#[track_caller]
fn watch(child: &mut Child, start: Instant, line: &str) -> (Option<i32>, u64) {
    let mut peak = 0;
    loop {
        peak = peak.max(high_water_mark(child.id()));
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code(), peak);
        }
        if start.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("still running after {PATIENCE:?}, killed: {line}");
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// In KiB; 0 before the program runs. A child goes by its parent's name and memory until its execve is
/// through, and `spawn` returns a moment before: in status the name stands before the memory, so where
/// the name is no longer the parent's, neither is the memory.
fn high_water_mark(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let parent = fs::read_to_string("/proc/thread-self/comm").unwrap();
    if field("Name:") == Some(parent.trim()) {
        return 0;
    }
    field("VmHWM:").and_then(|kib| kib.trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn drain(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

fn words(command: &Command) -> String {
    let all = std::iter::once(command.get_program()).chain(command.get_args());
    all.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Says why the running test does nothing on this machine; cargo captures only the print macros.
pub fn skip(reason: &str) {
    // libtest gives each test a thread of its name.
    let test = thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}

/// Whether a program can be run here with these arguments.
pub fn works(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> bool {
    let mut command = words_of(words);
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// A program and its first arguments.
pub fn words_of(words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut words = words.into_iter();
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command
}

/// The words before a program under strace: `expressions` such as `inject=linkat:error=EXDEV` hold for all its
/// threads.
pub fn strace<const N: usize>(expressions: [&str; N]) -> Vec<String> {
    strace_to(Path::new("/dev/null"), expressions)
}

/// [`strace`] that notes the calls in `log`.
pub fn strace_to<const N: usize>(log: &Path, expressions: [&str; N]) -> Vec<String> {
    let words = ["strace", "-qq", "-f", "-o", log.to_str().unwrap()];
    let expressions = expressions.into_iter().flat_map(|expression| ["-e", expression]);
    words.into_iter().chain(expressions).map(str::to_owned).collect()
}

/// Whether strace can trace here; says so where it can't, and that the test does nothing.
pub fn strace_works() -> bool {
    let works = works([strace([]), vec!["true".to_owned()]].concat());
    if !works {
        skip("strace is absent or may not trace");
    }
    works
}

/// The threads must end before a failed assertion can.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
