//! The package manager's way: brings the package that the spec asks for into a root, and takes it away.
//!
//! What would change is known before anything does: the package manager's own solver is asked first, and
//! the intent is durable before it runs. It must not write a file of the root itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use crate::arch::Arch;
use crate::containerd;
use crate::database::{self, Database};
use crate::digest::Digest;
use crate::distribution::{Distribution, Manager};
use crate::enclosure::Access;
use crate::error::{Failure, Kind, printable};
use crate::fetch::Fetcher;
use crate::lock::Lock;
use crate::package::{self, Package, Repository};
use crate::path::ImagePath;
use crate::receipt::{Installed, Node, Receipt};
use crate::repository::{self, Origin};
use crate::root::{LONGEST_TEXT, Root};
use crate::session::Session;
use crate::spec::Spec;
use crate::state::State;
use crate::systemd;
use crate::transaction::{Request, Transaction};
use crate::want::Want;

/// Packages that bring a containerd, or need one of their own.
const RUNTIMES: [&str; 6] =
    ["containerd", "containerd.io", "docker.io", "moby-containerd", "containerd2", "docker-engine"];
/// Where distributions' packages keep CNI plugins, where they are not in /opt/cni/bin.
const PACKAGED_CNI: [&str; 2] = ["/usr/lib/cni", "/usr/libexec/cni"];

/// Where dpkg puts a configuration file that does not replace ours.
const REFUSED_CONFIG: &str = "/etc/containerd/config.toml.dpkg-dist";

/// One root and how its packages are got.
pub struct Shop<'a> {
    /// What the user wrote.
    pub spec: &'a Spec,
    /// What is pinned.
    pub lock: &'a Lock,
    /// How keys are fetched, and how the network is used.
    pub fetcher: &'a Fetcher,
    /// How long to wait for another package manager.
    pub patience: Duration,
    /// The root.
    pub root: &'a Root,
    /// Its architecture.
    pub arch: Arch,
    /// Its locked state; none where nothing may change.
    pub state: Option<&'a State<'a>>,
    /// What is owned in it.
    pub receipt: Option<&'a Receipt>,
}

/// What packages bring into one root.
#[derive(Debug, Clone, Default)]
pub struct Supply {
    /// What the receipt will say of packages.
    pub packages: Vec<Installed>,
    /// What the package manager has done, or would do.
    pub changes: Vec<Change>,
    /// The containerd that comes with them.
    pub runtime: Option<Runtime>,
    /// The repository's files.
    pub entries: Vec<(ImagePath, Want)>,
    /// Files that are as a package of ours has brought them: nobody's original.
    pub shipped: BTreeSet<ImagePath>,
}

/// A containerd that a package brought.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Upstream's X.Y.Z.
    pub version: String,
    /// Files that a node depends on, and their package.
    pub present: Vec<(ImagePath, String)>,
    /// Its unit.
    pub unit: ImagePath,
    /// Where the root has CNI plugins, where it is not the usual place.
    pub cni_bin: Option<&'static str>,
}

/// What happens to a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It comes.
    Install(Installed),
    /// It comes in another version; the one that was there.
    Upgrade(Installed, String),
    /// It goes.
    Remove(Installed),
    /// Its hold is set or lifted.
    Hold(Installed),
}

/// Brings what the spec asks for and takes away what nodebake has brought and is not asked for any more.
/// None: packages play no part in this root.
pub fn supply(shop: &Shop) -> anyhow::Result<Option<Supply>> {
    let earlier = shop.receipt.map(|receipt| receipt.packages.clone()).unwrap_or_default();
    match shop.spec.package() {
        Some(package) => provide(shop, package, &earlier).map(Some),
        None if earlier.is_empty() => {
            refuse_packaged_runtime(shop)?;
            Ok(None)
        }
        None => {
            let changes = retire(shop.root, shop.state, &earlier, &request(shop)?, false)?;
            if shop.state.is_some() {
                refuse_packaged_runtime(shop)?;
            }
            Ok(Some(Supply { changes, ..Supply::default() }))
        }
    }
}

fn provide(shop: &Shop, package: &Package, earlier: &[Installed]) -> anyhow::Result<Supply> {
    refuse_archived_runtime(shop)?;
    let distribution = Distribution::of(shop.root)?;
    let manager = distribution.manager;
    let name = package.name();
    let before = read(shop, manager, &[name])?;
    refuse_other_runtimes(shop.root, name, &before, earlier)?;
    let origin = repository::origin(&package.repository, &distribution)?;
    let key = origin.as_ref().map(|origin| key(shop, manager, origin)).transpose()?;
    let wanted = shop.spec.package_version();
    let ours = earlier.iter().filter(|package| !package.found);
    let is_there = |name: &str| before.get(name).is_some_and(|record| record.is_whole);
    let satisfied = before.get(name).is_some_and(|record| {
        record.is_whole
            && wanted.as_deref().is_none_or(|wanted| package::satisfies(&record.version, wanted))
            && record.is_held == package.hold
    }) && ours.clone().all(|package| package.name == name || is_there(&package.name));
    let mut supply = Supply::default();
    let after = match satisfied {
        true => before.clone(),
        false => {
            let sources = origin.as_ref().zip(key.as_deref());
            transact(shop, package, &before, earlier, sources, &mut supply.changes)?
        }
    };
    supply.packages = brought(name, package.hold, &before, &after, earlier);
    let is_ours = supply.packages.iter().any(|package| package.name == name && !package.found);
    supply.runtime = Some(runtime(shop, name, &after)?);
    if is_ours {
        supply.shipped = shipped(shop.root, name, &after)?;
        say_what_is_wrong(shop, name, &supply.shipped)?;
    }
    if let (Some(origin), Some(key)) = (&origin, &key) {
        supply.entries = origin.entries(manager, shop.arch, key)?;
    }
    Ok(supply)
}

/// Has the package manager do it, or say what it would do; gives the database as it is then.
fn transact(
    shop: &Shop,
    package: &Package,
    before: &Database,
    earlier: &[Installed],
    sources: Option<(&Origin, &[u8])>,
    changes: &mut Vec<Change>,
) -> anyhow::Result<Database> {
    let name = package.name();
    let progress = &shop.fetcher.progress;
    let files = files(shop, package)?;
    if shop.fetcher.offline && files.is_empty() {
        let message = format!("package {name} has to be fetched, and `--offline` was given");
        return Err(Failure::new(Kind::Fetch, message)
            .help("give package files: `repository: {path: ./packages}`")
            .into());
    }
    let mut request = request(shop)?;
    request.root_sources = files.is_empty();
    let access = if shop.state.is_some() { Access::Change } else { Access::Look };
    if files.is_empty() {
        claim_resolver(shop)?;
    }
    let count = files.len();
    let mut session = Session::open(shop.root, access, shop.fetcher.offline, files, request)?;
    session.bring_sources(sources, shop.arch)?;
    if before.records.values().any(|record| !record.is_whole) {
        session.repair()?;
    }
    if count == 0 {
        progress.step(&format!("reading the package lists for {name}"));
        session.refresh()?;
    }
    let wanted = shop.spec.package_version();
    let targets = session.targets(name, wanted.as_deref(), before)?;
    let transaction = session.simulate(&targets)?;
    refuse_removals(name, &transaction, earlier)?;
    changes.extend(planned(&transaction, before));
    let held = before.get(name).is_some_and(|record| record.is_held);
    if access == Access::Look {
        return Ok(simulated(before, &transaction, name, package.hold));
    }
    claim(shop, name, before, earlier, &transaction)?;
    let had_refused = shop.root.node(&ImagePath::fixed(REFUSED_CONFIG))?.is_some();
    if !transaction.installed.is_empty() {
        let all: Vec<String> = transaction.installed.iter().map(ToString::to_string).collect();
        progress.step(&format!("installing {}", all.join(", ")));
        if count == 0 {
            session.download(&targets)?;
        }
        session.install(&targets)?;
    }
    let mut after = session.database(&[name])?;
    // An upgrade has lifted it.
    if after.get(name).is_some_and(|record| record.is_held != package.hold) {
        session.hold(name, package.hold)?;
        after = session.database(&[name])?;
    }
    changes.extend(after.installed(name, false).filter(|_| held != package.hold).map(Change::Hold));
    drop(session);
    release_resolver(shop)?;
    if !had_refused {
        // The package's own version of our file, which dpkg puts beside it.
        shop.root.remove_file(&ImagePath::fixed(REFUSED_CONFIG))?;
    }
    crate::interrupt::check()?;
    Ok(after)
}

/// What is about to happen, durable before it does.
fn claim(
    shop: &Shop,
    name: &str,
    before: &Database,
    earlier: &[Installed],
    transaction: &Transaction,
) -> Result<(), Failure> {
    let Some(state) = shop.state else { return Ok(()) };
    let mut claimed: BTreeMap<String, Installed> = BTreeMap::new();
    for installed in &transaction.installed {
        let was_there = before.get(&installed.name).is_some();
        if !was_there || installed.name == name {
            let found = was_there;
            claimed.insert(installed.name.clone(), Installed { found, ..installed.clone() });
        }
    }
    claimed.extend(earlier.iter().map(|package| (package.name.clone(), package.clone())));
    state.amend_intent(|intent| {
        intent.arch = shop.arch.name().to_owned();
        intent.packages = claimed.into_values().collect();
    })
}

/// Of `claimed` what is really there, as the database has it. What a killed run has left is told by it.
pub fn reconcile(root: &Root, claimed: &[Installed]) -> Result<Vec<Installed>, Failure> {
    let manager = Distribution::of(root)?.manager;
    let database = Session::look(root, manager, &bare_request(), &[])?;
    let kept = claimed.iter().filter_map(|package| {
        let installed = database.installed(&package.name, package.found)?;
        Some(Installed { held: package.held, ..installed })
    });
    Ok(kept.collect())
}

/// Takes away those of `packages` that nodebake has brought and that nothing else needs by now. With
/// `keep_configuration` their configuration files stay where the package manager can tell them apart.
pub fn retire(
    root: &Root,
    state: Option<&State>,
    packages: &[Installed],
    request: &Request,
    keep_configuration: bool,
) -> Result<Vec<Change>, Failure> {
    let ours: Vec<&Installed> = packages.iter().filter(|package| !package.found).collect();
    let held: Vec<&Installed> = packages.iter().filter(|package| package.held).collect();
    if ours.is_empty() && held.is_empty() {
        return Ok(Vec::new());
    }
    let access = if state.is_some() { Access::Change } else { Access::Look };
    let mut session = Session::open(root, access, true, Vec::new(), request.clone())?;
    session.bring_sources(None, Arch::Amd64)?;
    let there = session.database(&[])?;
    let mut names: Vec<String> =
        ours.iter().map(|package| package.name.clone()).filter(|name| there.get(name).is_some()).collect();
    names = session.removable(names)?;
    let changes = packages
        .iter()
        .filter(|package| names.contains(&package.name))
        .cloned()
        .map(Change::Remove)
        .collect();
    if access == Access::Look {
        return Ok(changes);
    }
    if let Some(state) = state {
        state.amend_intent(|intent| intent.packages = packages.to_vec())?;
    }
    for package in held {
        if there.get(&package.name).is_some_and(|record| record.is_held) {
            session.hold(&package.name, false)?;
        }
    }
    if !names.is_empty() {
        session.remove(&names, keep_configuration)?;
    }
    Ok(changes)
}

/// How package managers are run when nothing is fetched.
pub fn bare_request() -> Request {
    Request {
        retries: 0,
        stall: 30,
        patience: 0,
        root_sources: false,
        certificates: None,
        variables: quiet_services(),
    }
}

fn request(shop: &Shop) -> anyhow::Result<Request> {
    let network = &shop.fetcher.network;
    let mut variables = quiet_services();
    for name in [
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTPS_PROXY",
        "NO_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "SOURCE_DATE_EPOCH",
    ] {
        variables.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
    }
    let has_own = shop.root.file(&ImagePath::fixed("/etc/ssl/certs/ca-certificates.crt"))?.is_some()
        || shop.root.file(&ImagePath::fixed("/etc/pki/tls/certs/ca-bundle.crt"))?.is_some();
    let certificates = match has_own && network.ca_file.is_none() {
        true => None,
        false => Some(crate::download::pem(network)?),
    };
    Ok(Request {
        retries: network.retries,
        stall: network.stall.as_secs(),
        patience: shop.patience.as_secs(),
        root_sources: true,
        certificates,
        variables,
    })
}

/// systemctl then changes links and starts nothing (systemd's ENVIRONMENT.md).
fn quiet_services() -> Vec<(String, String)> {
    let pairs = [("LC_ALL", "C"), ("HOME", "/root"), ("SYSTEMD_OFFLINE", "1"), ("TERM", "dumb")];
    pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn read(shop: &Shop, manager: Manager, names: &[&str]) -> anyhow::Result<Database> {
    Ok(Session::look(shop.root, manager, &bare_request(), names)?)
}

/// The repository's key: from the root where a bake has put it, from beside the spec, or fetched.
fn key(shop: &Shop, manager: Manager, origin: &Origin) -> anyhow::Result<Vec<u8>> {
    let bytes = match origin.key.contains("://") {
        false => {
            let host = shop.spec.folder.join(&origin.key);
            std::fs::read(&host).map_err(|error| {
                Failure::new(Kind::Invalid, format!("key `{}` of the spec: {error}", host.display()))
                    .help("paths in the spec start from its own folder")
            })?
        }
        true => match placed_key(shop, manager, origin)? {
            Some(bytes) => return Ok(bytes),
            None => shop.fetcher.bytes(&origin.key)?,
        },
    };
    origin.check_key(&bytes)?;
    Ok(bytes)
}

/// The key in the root, if it is one that the spec trusts.
fn placed_key(shop: &Shop, manager: Manager, origin: &Origin) -> anyhow::Result<Option<Vec<u8>>> {
    for form in [&b"-----BEGIN "[..], b""] {
        let path = origin.key_path(manager, form)?;
        let owned = shop.receipt.is_some_and(|receipt| receipt.paths.contains_key(&path));
        if let Some(bytes) = shop.root.bytes(&path, 1 << 20)?.filter(|_| owned)
            && origin.check_key(&bytes).is_ok()
        {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// The package files of the spec, each with the digest that the lock has for it.
fn files(shop: &Shop, package: &Package) -> anyhow::Result<Vec<(PathBuf, Digest)>> {
    let Repository::Files(path) = &package.repository else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for host in crate::pin::package_files(&shop.spec.folder.join(path))? {
        let name = host.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let digest = shop.lock.package(&name).ok_or_else(|| {
            Failure::new(Kind::Unverified, format!("no digest is known for package `{}`", host.display()))
                .help("pin it with `nodebake lock`")
        })?;
        files.push((host, digest));
    }
    Ok(files)
}

/// A file for the resolver to be mounted on, where the root has none.
fn claim_resolver(shop: &Shop) -> Result<(), Failure> {
    let path = ImagePath::fixed("/etc/resolv.conf");
    let Some(state) = shop.state else { return Ok(()) };
    if shop.root.is_own()? || shop.root.node(&path)?.is_some() {
        return Ok(());
    }
    state.amend_intent(|intent| intent.placeholder = Some(path.clone()))?;
    shop.root.write_new(&path, 0o644, b"", 0)
}

fn release_resolver(shop: &Shop) -> Result<(), Failure> {
    let Some(state) = shop.state else { return Ok(()) };
    match state.intent()?.and_then(|intent| intent.placeholder) {
        Some(path) => {
            take_placeholder(shop.root, &path)?;
            state.amend_intent(|intent| intent.placeholder = None)
        }
        None => Ok(()),
    }
}

/// Takes away the empty file that stood where the resolver was mounted.
pub fn take_placeholder(root: &Root, path: &ImagePath) -> Result<(), Failure> {
    let is_empty = matches!(root.node(path)?, Some(Node::File { sha256, .. }) if sha256 == Digest::of(b""));
    if is_empty { root.remove_file(path) } else { Ok(()) }
}

fn planned(transaction: &Transaction, before: &Database) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    for installed in &transaction.installed {
        changes.push(match before.get(&installed.name) {
            Some(record) => Change::Upgrade(installed.clone(), record.version.clone()),
            None => Change::Install(installed.clone()),
        });
    }
    changes.extend(
        transaction.removed.iter().filter_map(|name| before.installed(name, false)).map(Change::Remove),
    );
    changes
}

/// The database as the transaction would leave it.
fn simulated(before: &Database, transaction: &Transaction, name: &str, held: bool) -> Database {
    let mut after = before.clone();
    for removed in &transaction.removed {
        after.records.remove(removed);
    }
    for installed in &transaction.installed {
        let record = after.records.entry(installed.name.clone()).or_default();
        record.version.clone_from(&installed.version);
        record.architecture.clone_from(&installed.architecture);
        record.is_whole = true;
    }
    if let Some(record) = after.records.get_mut(name) {
        record.is_held = held;
    }
    after
}

/// What the receipt will say: the package, and everything that came with it.
fn brought(
    name: &str,
    held: bool,
    before: &Database,
    after: &Database,
    earlier: &[Installed],
) -> Vec<Installed> {
    let known: BTreeMap<&str, &Installed> =
        earlier.iter().map(|package| (package.name.as_str(), package)).collect();
    let mut packages = Vec::new();
    for other in after.records.keys() {
        let is_new = before.get(other).is_none();
        let found = match known.get(other.as_str()) {
            Some(package) => package.found,
            None => !is_new,
        };
        let is_of_interest =
            is_new || other == name || known.get(other.as_str()).is_some_and(|package| !package.found);
        if is_of_interest && let Some(installed) = after.installed(other, found) {
            packages.push(Installed { held: held && other == name, ..installed });
        }
    }
    packages
}

/// The containerd that the package has brought, or would bring where only the plan is asked for.
fn runtime(shop: &Shop, name: &str, database: &Database) -> anyhow::Result<Runtime> {
    let record = database.get(name).cloned().unwrap_or_default();
    let version = package::upstream(&record.version).ok_or_else(|| {
        Failure::new(
            Kind::Unsupported,
            format!("package {name} has version `{}`, not X.Y.Z", printable(&record.version)),
        )
    })?;
    let missing = |what: &str| {
        Failure::new(Kind::Unsupported, format!("package {name} {} brings no {what}", record.version))
            .help("name one that does: `containerd.package.name`")
    };
    let guessed = shop.state.is_none() && record.files.is_empty();
    let path = |known: &[&'static str], what: &str| -> Result<ImagePath, Failure> {
        match known.iter().find(|path| record.files.iter().any(|file| file.as_str() == **path)) {
            Some(path) => Ok(ImagePath::fixed(path)),
            None if guessed => Ok(ImagePath::fixed(known[0])),
            None => Err(missing(what)),
        }
    };
    let binary = path(&containerd::PACKAGED, "/usr/bin/containerd")?;
    let unit = path(&systemd::PACKAGED, "unit containerd.service")?;
    let present = [&binary, &unit].map(|path| (path.clone(), name.to_owned())).to_vec();
    let staged = shop.spec.wants("cni-plugins");
    let mut cni_bin = None;
    for directory in PACKAGED_CNI {
        let loopback = ImagePath::new(&format!("{directory}/loopback"))?;
        if !staged && cni_bin.is_none() && shop.root.file(&loopback)?.is_some() {
            cni_bin = Some(directory);
        }
    }
    Ok(Runtime { version: version.to_owned(), present, unit, cni_bin })
}

/// Files where nodebake's will be and that only the package has put there.
fn shipped(root: &Root, name: &str, database: &Database) -> anyhow::Result<BTreeSet<ImagePath>> {
    let mut shipped = BTreeSet::new();
    let Some(record) = database.get(name) else { return Ok(shipped) };
    let config = ImagePath::fixed(containerd::CONFIG);
    if let (Some(expected), Some(file)) = (record.digests.get(&config), root.file(&config)?)
        && database::matches(&file, expected)? == Some(true)
    {
        shipped.insert(config);
    }
    // Its installation enables it, as ours does.
    let wants = ImagePath::fixed(systemd::WANTS);
    if let Some(Node::Link { target }) = root.node(&wants)?
        && record.files.iter().any(|file| systemd::is_same_unit(file.as_str(), &target))
    {
        shipped.insert(wants);
    }
    Ok(shipped)
}

/// What the package's own configuration would do to a node, and ours does not.
fn say_what_is_wrong(shop: &Shop, name: &str, shipped: &BTreeSet<ImagePath>) -> Result<(), Failure> {
    let config = ImagePath::fixed(containerd::CONFIG);
    if !shipped.contains(&config) {
        return Ok(());
    }
    let text = shop.root.text(&config, LONGEST_TEXT)?.unwrap_or_default();
    for wrong in containerd::flaws(&text) {
        shop.fetcher.progress.step(&format!("{config} of package {name} {wrong}: it is replaced"));
    }
    Ok(())
}

/// `install: package`, and somebody has unpacked an archive.
fn refuse_archived_runtime(shop: &Shop) -> Result<(), Failure> {
    let binary = ImagePath::fixed(containerd::BINARY);
    let owned = shop.receipt.is_some_and(|receipt| receipt.paths.contains_key(&binary));
    if owned || shop.root.node(&binary)?.is_none() {
        return Ok(());
    }
    let message = format!("{} is there already, and not from nodebake", shop.root.shown(&binary));
    Err(Failure::new(Kind::Unsupported, message)
        .help("a node has one containerd: take that one away, or use `install: archive`"))
}

/// `install: archive`, and a package has brought one.
fn refuse_packaged_runtime(shop: &Shop) -> Result<(), Failure> {
    if !shop.spec.wants("containerd") && !shop.spec.wants("containerd-static") {
        return Ok(());
    }
    for path in containerd::PACKAGED.map(ImagePath::fixed) {
        if shop.root.node(&path)?.is_none() {
            continue;
        }
        let database = crate::apt::database(shop.root, &RUNTIMES)?;
        let owner = database.records.iter().find(|(_, record)| record.files.contains(&path));
        let of =
            owner.map(|(name, record)| format!(" of package {name} {}", record.version)).unwrap_or_default();
        let message = format!("{} is there already{of}, and not from nodebake", shop.root.shown(&path));
        return Err(Failure::new(Kind::Unsupported, message)
            .help("a node has one containerd: take that one away, or use `install: package`"));
    }
    Ok(())
}

/// Another package with a containerd is there, and not from nodebake.
fn refuse_other_runtimes(
    root: &Root,
    name: &str,
    database: &Database,
    earlier: &[Installed],
) -> Result<(), Failure> {
    let ours = |other: &str| earlier.iter().any(|package| package.name == other && !package.found);
    // Debian's docker.io lives beside Debian's containerd.
    let goes_with = |other: &str| other == name || (name == "containerd" && other == "docker.io");
    let other =
        RUNTIMES.iter().find(|other| database.get(other).is_some() && !goes_with(other) && !ours(other));
    let Some((other, record)) = other.and_then(|other| Some((other, database.get(other)?))) else {
        return Ok(());
    };
    let message = format!(
        "package {name} can't be installed into root `{}` beside {other} {}",
        root.host().display(),
        record.version
    );
    Err(Failure::new(Kind::Unsupported, message).help(format!(
        "a node has one containerd: take {other} away, or set `containerd.package.name: {other}`"
    )))
}

/// The solver would take away what is not ours.
fn refuse_removals(name: &str, transaction: &Transaction, earlier: &[Installed]) -> Result<(), Failure> {
    let ours = |other: &String| earlier.iter().any(|package| package.name == *other && !package.found);
    let lost: Vec<&str> =
        transaction.removed.iter().filter(|other| !ours(other)).map(String::as_str).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let message = format!("installing {name} would take away {}", printable(&lost.join(", ")));
    Err(Failure::new(Kind::Unsupported, message)
        .help("take them away first if they may go, or choose another package"))
}
