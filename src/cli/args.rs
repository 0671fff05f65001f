//! The command line: arguments in, the pipeline cut at the right place, results out.
//!
//! Data goes to stdout, everything else to stderr. It is the only module that prints results.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::apply::{self, Job, Outcome, Report};
use crate::arch::Arch;
use crate::bundle::Bundle;
use crate::enclosed;
use crate::error::{self, Failure, Kind};
use crate::goss;
use crate::labels::RELABEL;
use crate::live::Live;
use crate::load::{self, Input, Inputs};
use crate::lock::Lock;
use crate::pack;
use crate::parallel::Idle;
use crate::pin::{self, Pinner};
use crate::progress::Progress;
use crate::receipt::Before;
use crate::remove;
use crate::report;
use crate::root::Root;
use crate::selection::Architectures;
use crate::service;
use crate::spec::Spec;
use crate::start;
use crate::state;
use crate::verify;

/// Make a Linux root filesystem a Kubernetes-ready container node
#[derive(Debug, Parser)]
#[command(name = "nodebake", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Show errors and warnings only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Show more of what happens
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print what `apply` would change
    Plan {
        #[command(flatten)]
        bake: Bake,
        /// Exit with 10 if anything would change
        #[arg(long)]
        detailed_exitcode: bool,
    },
    /// Bake one root filesystem, or several from one download
    Apply {
        #[command(flatten)]
        bake: Bake,
        /// Load modules, set kernel parameters, (re)start containerd and wait until its CRI answers; only
        /// where DIR is the running system's /
        #[arg(long)]
        start: bool,
    },
    /// Compare a root filesystem with its receipt and check that the node will come up
    Verify {
        /// Root filesystem
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        #[command(flatten)]
        ask: Ask,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Take away what nodebake owns, and put back what was there before
    Remove {
        /// Root filesystem
        #[arg(long, value_name = "DIR")]
        root: PathBuf,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        patience: Patience,
    },
    /// Pin URL, size and SHA-256 of every artifact in nodebake.lock
    Lock {
        #[command(flatten)]
        input: Input,
        /// Architecture to pin, several times for more; default: the spec's, else amd64 and arm64 as far as
        /// the source has them
        #[arg(long, value_name = "ARCH")]
        arch: Vec<String>,
    },
    /// Make or check one file with every artifact that the spec asks for, to be given as a source
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Print a goss file for what was baked into a root, or for what the spec would bake
    Goss {
        /// Root filesystem; without it the spec's plan is described
        #[arg(long, value_name = "DIR", conflicts_with_all = ["spec", "source"])]
        root: Option<PathBuf>,
        #[command(flatten)]
        input: Input,
        /// Also what only holds once the machine is up: service, CRI, kernel parameters
        #[arg(long)]
        live: bool,
        #[command(flatten)]
        build: Build,
    },
    /// Print the JSON Schema of nodebake.yaml
    Schema,
    /// Print a completion script
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: Shell,
    },
    /// Print the manual page, or write one for each command into a directory
    Man {
        /// Directory for nodebake.1, nodebake-apply.1, …
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// Run a root's package manager; nodebake calls itself with it
    #[command(hide = true)]
    Enclosed {
        #[arg(long, hide = true)]
        second: bool,
    },
}

#[derive(Debug, Subcommand)]
enum BundleCommand {
    /// Fetch and verify what is pinned, and write it to one file
    Create {
        #[command(flatten)]
        input: Input,
        /// The bundle
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// Architecture to take in, several times for more; default: the spec's, else those in nodebake.lock,
        /// else amd64 and arm64 as far as the source has them
        #[arg(long, value_name = "ARCH")]
        arch: Vec<String>,
    },
    /// Compare everything in a bundle with its digest, and list it
    Verify {
        /// The bundle
        #[arg(value_name = "FILE")]
        bundle: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Bake {
    /// Root filesystem; several times for several roots
    #[arg(long, value_name = "DIR", required = true)]
    root: Vec<PathBuf>,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    patience: Patience,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    build: Build,
}

#[derive(Debug, Clone, Copy, Args)]
struct Build {
    /// Which build of containerd: auto looks at the root's glibc
    #[arg(long = "static", value_name = "WHEN", value_enum, default_value_t = Static::Auto, num_args = 0..=1, default_missing_value = "always", require_equals = true)]
    static_build: Static,
}

/// What `verify` asks of the running system.
#[derive(Debug, Args)]
struct Ask {
    /// Also ask systemd, the kernel and the CRI of the running system
    #[arg(long)]
    live: bool,
    /// Run one pod through the CRI and take it away again; implies --live
    #[arg(long)]
    pod: bool,
    /// Pull an image through the CRI and say which host served it; implies --live
    #[arg(long, value_name = "IMAGE")]
    pull: Option<String>,
}

#[derive(Debug, Args)]
struct Patience {
    /// Wait so long for a root that another run has locked
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    lock_timeout: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Static {
    Auto,
    Always,
    Never,
}

/// Runs the command. Gives the exit code; errors come back to be printed once.
pub fn run(cli: Cli) -> anyhow::Result<u8> {
    let progress = Progress::new(cli.quiet, cli.verbose);
    match cli.command {
        Command::Plan { bake, detailed_exitcode } => plan(&bake, detailed_exitcode, &progress),
        Command::Apply { bake, start } => apply(&bake, start, &progress),
        Command::Verify { root, ask, json } => verify(&root, ask, json),
        Command::Remove { root, json, patience } => remove(&root, json, &patience, &progress),
        Command::Lock { input, arch } => lock(&input, &arch, &progress),
        Command::Bundle(BundleCommand::Create { input, output, arch }) => {
            create_bundle(&input, &arch, &output, &progress)
        }
        Command::Bundle(BundleCommand::Verify { bundle }) => verify_bundle(&bundle),
        Command::Goss { root, input, live, build } => match root {
            Some(host) => print(&goss::gossfile(&goss::Expected::of_root(&Root::open(&host)?)?, live)?),
            None => goss_of_spec(&input, build, live, &progress),
        },
        Command::Schema => {
            let schema = schemars::schema_for!(Spec);
            print(&format!("{}\n", serde_json::to_string_pretty(&schema)?))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "nodebake", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Man { directory } => man(directory.as_deref()),
        Command::Enclosed { second: false } => Ok(enclosed::first()?),
        Command::Enclosed { second: true } => Ok(enclosed::second()?),
    }
}

fn plan(bake: &Bake, detailed_exitcode: bool, progress: &Progress) -> anyhow::Result<u8> {
    let job = bake_job(bake, progress)?;
    let outcomes = apply::plan(&job, &bake.root);
    let changes =
        outcomes.iter().filter_map(|o| o.result.as_ref().ok()).any(|report| !report.diff.is_empty());
    let code = report(outcomes, bake.json, true, progress)?;
    Ok(if code == 0 && changes && detailed_exitcode { Kind::Drift.exit_code() } else { code })
}

fn apply(bake: &Bake, start: bool, progress: &Progress) -> anyhow::Result<u8> {
    let running = if start { Some(running_root(&bake.root)?) } else { None };
    let job = bake_job(bake, progress)?;
    if start && !["containerd", "containerd-static"].iter().any(|name| job.spec.wants(name)) {
        let message = "`--start`: containerd is not one of the components";
        return Err(Failure::new(Kind::Usage, message).help("leave out `--start`").into());
    }
    let mut outcomes = apply::apply(&job, &bake.root);
    if let (Some(root), Some(Outcome { result: Ok(report), .. })) = (&running, outcomes.first_mut()) {
        let started = start::start(root, &job.spec, &report.diff, progress).map_err(Into::into);
        if let Ok(done) = &started {
            progress.step(done);
        }
        report.started = Some(started);
    }
    report(outcomes, bake.json, false, progress)
}

/// The one root that `--start` is for, before anything is written to it.
fn running_root(hosts: &[PathBuf]) -> anyhow::Result<Root> {
    let [host] = hosts else {
        return Err(Failure::new(Kind::Usage, "`--start` goes with one --root, the running system's").into());
    };
    let root = Root::open(host)?;
    let help = "leave out `--start`: the service is enabled and comes up at the next boot";
    service::require_running_system(&root, "--start", help)?;
    Ok(root)
}

fn verify(host: &Path, Ask { live, pod, pull }: Ask, json: bool) -> anyhow::Result<u8> {
    let root = Root::open(host)?;
    let live = (live || pod || pull.is_some()).then_some(Live { pod, pull });
    let verdict = verify::verify(&root, live.as_ref())?;
    print(&if json { report::json(&verdict)? } else { report::verdict(host, &verdict) })?;
    Ok(if verdict.findings.is_empty() { 0 } else { Kind::Drift.exit_code() })
}

fn remove(host: &Path, json: bool, patience: &Patience, progress: &Progress) -> anyhow::Result<u8> {
    let diff = remove::remove(host, Duration::from_secs(patience.lock_timeout))?;
    if diff.is_none() {
        progress.step(&format!("nothing to remove: nodebake owns nothing in {}", host.display()));
    }
    for change in diff.iter().flat_map(|diff| &diff.changes).filter(|change| change.edited) {
        let original = change.old.as_ref().is_some_and(|old| old.before == Before::Saved);
        let before =
            if original { "; what was there before is kept below /var/lib/nodebake/original" } else { "" };
        progress.warn(&format!("{} was edited and is kept{before}", change.path));
    }
    let mounted = || state::is_mounted(&Root::open(host)?);
    if diff.is_some() && mounted().unwrap_or(false) {
        progress.warn("/var/lib/nodebake is a mount point and stays");
    }
    print(&match (json, &diff) {
        (true, diff) => report::json(&report::removed(host, diff.as_ref()))?,
        (false, Some(diff)) if !progress.is_quiet() => report::changes(diff, false),
        (false, _) => String::new(),
    })
}

fn lock(input: &Input, architectures: &[String], progress: &Progress) -> anyhow::Result<u8> {
    let (spec, folder) = load::spec(input)?;
    let architectures = choose(architectures, &spec, &Lock::default())?;
    let fetcher = load::fetcher(input, &spec, load::cache(input), progress)?;
    let scratch = std::env::temp_dir();
    let pinner = Pinner { fetcher: &fetcher, scratch: &scratch, decoding: Mutex::new(Idle::all()) };
    let lock = pin::pin(&spec, &architectures, &pinner)?;
    let path = folder.join(load::LOCK);
    let text = lock.text()?;
    write_beside(&path, |mut file| Ok(file.write_all(text.as_bytes())?))?;
    progress.step(&format!("pinned {} artifacts in {}", lock.artifacts.len(), path.display()));
    print("")
}

/// The architectures that are named, else the spec's, else those that are pinned.
fn choose(named: &[String], spec: &Spec, lock: &Lock) -> Result<Architectures, Failure> {
    let parsed = |name: &str| name.parse::<Arch>();
    let named = named.iter().map(|name| parsed(name)).collect::<Result<Vec<_>, _>>()?;
    let pinned = lock.artifacts.iter().map(|locked| parsed(&locked.arch)).collect::<Result<Vec<_>, _>>()?;
    Ok(match (&spec.arch, named.is_empty(), pinned.is_empty()) {
        (_, false, _) => Architectures::Asked(named),
        (Some(arch), ..) => Architectures::Asked(arch.arch().into_iter().collect()),
        (None, _, false) => Architectures::Asked(pinned),
        (None, ..) => Architectures::Common,
    })
}

fn create_bundle(input: &Input, named: &[String], output: &Path, progress: &Progress) -> anyhow::Result<u8> {
    // A device or a link would be replaced.
    if output.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
        let message = format!("--output `{}` is not a regular file", output.display());
        return Err(Failure::new(Kind::Usage, message)
            .help("name a file; one that is there is replaced")
            .into());
    }
    let Inputs { spec, lock, .. } = Inputs::load(input)?;
    let fetcher = load::fetcher(input, &spec, load::cache(input), progress)?;
    let gathered = pack::gather(&spec, &lock, &choose(named, &spec, &lock)?, &fetcher)?;
    if spec.package().is_some() {
        progress.warn("packages are not in a bundle: give them by `containerd.package.repository.path`");
    }
    write_beside(output, |file| pack::write(&gathered, file))?;
    progress.step(&format!("packed {} artifacts into {}", gathered.len(), output.display()));
    print("")
}

fn verify_bundle(path: &Path) -> anyhow::Result<u8> {
    let bundle = Bundle::open(path)?;
    let lines = bundle.verify()?.into_iter().map(|(digest, name)| format!("{digest}  {name}\n"));
    print(&lines.collect::<String>())
}

/// What the spec would bake, by itself: no root decides on the build, and nothing is written.
fn goss_of_spec(input: &Input, build: Build, live: bool, progress: &Progress) -> anyhow::Result<u8> {
    let job = job(input, build, load::cache(input), progress)?;
    print(&goss::gossfile(&goss::Expected::of_plan(&apply::plan_alone(&job)?), live)?)
}

/// Replaces a file of the user's in one step, by what `write` makes.
fn write_beside(path: &Path, write: impl FnOnce(&File) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let failed = |error: std::io::Error| Failure::filesystem("writing", path.display(), error::errno(&error));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(failed)?;
    write(file.as_file()).map_err(|error| match error.downcast::<std::io::Error>() {
        Ok(error) => failed(error).into(),
        Err(error) => error,
    })?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

fn man(directory: Option<&Path>) -> anyhow::Result<u8> {
    match directory {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            print(&String::from_utf8_lossy(&page))
        }
        Some(directory) => {
            clap_mangen::generate_to(Cli::command(), directory).map_err(|error| {
                Failure::filesystem("writing manual pages to", directory.display(), error::errno(&error))
            })?;
            print("")
        }
    }
}

fn bake_job(bake: &Bake, progress: &Progress) -> anyhow::Result<Job> {
    let cache = load::cache_outside(&bake.input, &bake.root)?;
    let patience = Duration::from_secs(bake.patience.lock_timeout);
    Ok(Job { patience, ..job(&bake.input, bake.build, cache, progress)? })
}

fn job(input: &Input, build: Build, cache: Option<PathBuf>, progress: &Progress) -> anyhow::Result<Job> {
    let Inputs { mut spec, lock, certificates } = Inputs::load(input)?;
    match build.static_build {
        Static::Auto => {}
        Static::Always => spec.choose_static(true),
        Static::Never => spec.choose_static(false),
    }
    Ok(Job {
        fetcher: load::fetcher(input, &spec, cache, progress)?,
        spec,
        lock,
        certificates,
        scratch: std::env::temp_dir(),
        patience: Duration::ZERO,
        mtime: load::source_date_epoch()?,
    })
}

/// Prints what came of every root; gives the exit code of the first failure.
fn report(outcomes: Vec<Outcome>, json: bool, planned: bool, progress: &Progress) -> anyhow::Result<u8> {
    let mut text = String::new();
    let mut document = Vec::new();
    let mut first = None;
    let several = outcomes.len() > 1;
    for Outcome { host, result } in outcomes {
        match result {
            Ok(report) => {
                tell(&host, &report, progress);
                if several && !json {
                    text += &format!("{}:\n", error::printable(&host.display().to_string()));
                }
                let baked = report::baked(&host, &report.diff);
                document.push(report.started.iter().fold(baked, report::Baked::started));
                if planned || !progress.is_quiet() {
                    text += &report::changes(&report.diff, planned);
                }
                if let Some(Err(error)) = report.started {
                    first.get_or_insert(error);
                }
            }
            Err(error) => {
                document.push(report::failed(&host, &error));
                if several {
                    report::error(&error);
                }
                first.get_or_insert(error);
            }
        }
    }
    let code = print(&if json { report::json(&report::Roots { roots: document })? } else { text });
    match first {
        Some(error) if several => Ok(error::kind(&error).map_or(1, Kind::exit_code)),
        Some(error) => Err(error),
        None => code,
    }
}

fn tell(host: &Path, report: &Report, progress: &Progress) {
    for warning in &report.warnings {
        progress.warn(warning);
    }
    if report.kept.unlabelled {
        progress.warn(&format!(
            "SELinux labels can't be set in root `{}`: {RELABEL} is set, and the next boot labels the root",
            host.display()
        ));
    }
    for (path, kept) in &report.kept.edits {
        progress.warn(&format!("{path} was edited; the edit is kept as {kept}"));
    }
    for change in report.diff.changes.iter().filter(|change| change.edited && change.new.is_none()) {
        progress.warn(&format!("{} is not wanted any more; it was edited and is kept", change.path));
    }
}

/// Writes to stdout. A reader that has gone away is no error; a full disk is, after the work is done.
fn print(text: &str) -> anyhow::Result<u8> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(0),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(anyhow::Error::new(error).context("writing to stdout; the work itself is done")),
    }
}
