//! The package manager's way: brings the package that the spec asks for into a root, and takes it away.
//!
//! What would change is known before anything does: the package manager's own solver is asked first, and
//! the intent is durable before it runs. It must not write a file of the root itself.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::arch::Arch;
use crate::claim;
use crate::conflict;
use crate::containerd;
use crate::database::{self, Database};
use crate::digest::Digest;
use crate::distribution::{Distribution, Manager};
use crate::enclosure::Access;
use crate::error::{Failure, Kind, printable};
use crate::fetch::Fetcher;
use crate::interrupt;
use crate::lock::Lock;
use crate::package::{self, Package, Repository};
use crate::path::ImagePath;
use crate::receipt::{Installed, Node, Receipt};
use crate::repository::{self, Origin};
use crate::retire::{self, Rule};
use crate::root::{LONGEST_TEXT, Root};
use crate::session::Session;
use crate::spec::Spec;
use crate::state::State;
use crate::supply::{self, Change, Runtime, Supply};
use crate::systemd;
use crate::transaction::{Request, Transaction};

/// Where distributions' packages keep CNI plugins, where they are not in /opt/cni/bin.
const PACKAGED_CNI: [&str; 2] = ["/usr/lib/cni", "/usr/libexec/cni"];

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

/// Brings what the spec asks for and takes away what nodebake has brought and is not asked for any more.
/// None: packages play no part in this root.
pub fn supply(shop: &Shop) -> anyhow::Result<Option<Supply>> {
    let earlier = shop.receipt.map(|receipt| receipt.packages.clone()).unwrap_or_default();
    match shop.spec.package() {
        Some(package) => provide(shop, package, &earlier).map(Some),
        None if earlier.is_empty() => {
            conflict::refuse_packaged_runtime(shop)?;
            Ok(None)
        }
        None => {
            // It was there before the first bake, and stays.
            if earlier.iter().any(|package| package.found) {
                conflict::refuse_packaged_runtime(shop)?;
            }
            let request = Request::offline(shop.patience);
            let changes = retire::retire(shop.root, shop.state, &earlier, request, Rule::Runtime)?;
            Ok(Some(Supply { changes, ..Supply::default() }))
        }
    }
}

fn provide(shop: &Shop, package: &Package, earlier: &[Installed]) -> anyhow::Result<Supply> {
    conflict::refuse_archived_runtime(shop)?;
    let distribution = Distribution::of(shop.root)?;
    let manager = distribution.manager;
    let name = package.name();
    let mut names = vec![name];
    names.extend(earlier.iter().filter(|package| !package.found).map(|package| package.name.as_str()));
    let mut before = Session::look(shop.root, manager, &names)?;
    for (_, record) in before.records.iter_mut().filter(|(name, _)| names.contains(&name.as_str())) {
        record.is_intact = record.differing(shop.root)?.is_empty();
    }
    conflict::refuse_other_runtimes(shop.root, name, &before, earlier)?;
    let origin = repository::origin(&package.repository, &distribution)?;
    let key = origin.as_ref().map(|origin| key(shop, manager, origin)).transpose()?;
    let sources = origin.as_ref().zip(key.as_deref());
    let deal = Deal { shop, package, name, before, earlier };
    let mut supply = Supply::default();
    let after = match (deal.is_installed(), deal.is_held() == package.hold) {
        (true, true) => deal.before.clone(),
        (true, false) => deal.change_hold(&mut supply.changes)?,
        (false, _) => deal.transact(sources, &mut supply.changes)?,
    };
    supply.packages = supply::brought(name, package.hold, &deal.before, &after, earlier);
    let is_ours = supply.packages.iter().any(|package| package.name == name && !package.found);
    supply.runtime = Some(runtime(shop, name, &after)?);
    if is_ours {
        supply.shipped = shipped(shop.root, name, &after)?;
        say_what_is_wrong(shop, name, &supply.shipped)?;
    }
    if let Some((origin, key)) = sources {
        supply.entries = origin.entries(manager, shop.arch, key)?;
    }
    Ok(supply)
}

/// One package, what is there, and what the receipt knows of it.
struct Deal<'a> {
    shop: &'a Shop<'a>,
    package: &'a Package,
    name: &'a str,
    before: Database,
    earlier: &'a [Installed],
}

impl Deal<'_> {
    /// Whether the package is there as the spec wants it, and all that came with it.
    fn is_installed(&self) -> bool {
        let wanted = self.shop.spec.package_version();
        let is_whole =
            |name: &str| self.before.get(name).is_some_and(|record| record.is_whole && record.is_intact);
        let mut ours = self.earlier.iter().filter(|package| !package.found);
        let right = self.before.get(self.name).is_some_and(|record| {
            wanted.as_deref().is_none_or(|wanted| package::satisfies(&record.version, wanted))
        });
        right && is_whole(self.name) && ours.all(|package| is_whole(&package.name))
    }

    fn is_held(&self) -> bool {
        self.before.get(self.name).is_some_and(|record| record.is_held)
    }

    /// The package is right, only its hold is not.
    fn change_hold(&self, changes: &mut Vec<Change>) -> anyhow::Result<Database> {
        changes.extend(self.before.installed(self.name, false).map(Change::Hold));
        let Some(state) = self.shop.state else {
            return Ok(supply::simulated(
                &self.before,
                &Transaction::default(),
                self.name,
                self.package.hold,
            ));
        };
        claim::claim(state, self.name, &self.before, self.earlier, &Transaction::default())?;
        let request = Request::offline(self.shop.patience);
        let mut session = Session::open(self.shop.root, Access::Change, true, Vec::new(), request)?;
        session.hold(self.name, self.package.hold)?;
        Ok(session.database(&[self.name])?)
    }

    /// Has the package manager do it, or say what it would do; gives the database as it is then.
    fn transact(
        &self,
        sources: Option<(&Origin, &[u8])>,
        changes: &mut Vec<Change>,
    ) -> anyhow::Result<Database> {
        let Deal { shop, package, name, before, earlier } = self;
        let files = files(shop, package)?;
        let remote = files.is_empty();
        let mut session = self.open(files, sources)?;
        if remote {
            shop.fetcher.progress.step(&format!("reading the package lists for {name}"));
            session.refresh()?;
        }
        let targets = session.targets(name, shop.spec.package_version().as_deref(), before)?;
        let transaction = session.simulate(&targets)?;
        conflict::refuse_removals(name, &transaction, earlier)?;
        changes.extend(supply::planned(&transaction, before));
        if self.is_held() != package.hold {
            changes.extend(
                supply::simulated(before, &transaction, name, package.hold)
                    .installed(name, false)
                    .map(Change::Hold),
            );
        }
        let Some(state) = shop.state else {
            return Ok(supply::simulated(before, &transaction, name, package.hold));
        };
        let refused = claim::refused(shop.root)?;
        claim::claim(state, name, before, earlier, &transaction)?;
        self.install(&mut session, &targets, &transaction)?;
        let names: Vec<&str> = transaction.installed.iter().map(|package| package.name.as_str()).collect();
        let after = session.database(&[&[*name], names.as_slice()].concat())?;
        drop(session);
        claim::release(shop.root, state, &refused)?;
        label(shop.root, &after)?;
        interrupt::check()?;
        Ok(after)
    }

    fn open(
        &self,
        files: Vec<(PathBuf, Digest)>,
        sources: Option<(&Origin, &[u8])>,
    ) -> anyhow::Result<Session<'_>> {
        let Deal { shop, name, before, .. } = self;
        let remote = files.is_empty();
        if shop.fetcher.offline && remote {
            let message = format!("package {name} has to be fetched, and `--offline` was given");
            let help = "give package files: `repository: {path: ./packages}`";
            return Err(Failure::new(Kind::Fetch, message).help(help).into());
        }
        let mut request = Request::online(shop.root, &shop.fetcher.network, shop.patience)?;
        request.root_sources = remote;
        if let Some(state) = shop.state.filter(|_| remote) {
            claim::claim_resolver(shop.root, state)?;
        }
        let access = if shop.state.is_some() { Access::Change } else { Access::Look };
        let mut session = Session::open(shop.root, access, shop.fetcher.offline, files, request)?;
        if let Some((origin, key)) = sources {
            session.add(origin, key, shop.arch)?;
        }
        if before.is_interrupted || before.records.values().any(|record| !record.is_whole) {
            session.repair()?;
        }
        if self.is_held() {
            session.lift_hold(name)?;
        }
        Ok(session)
    }

    fn install(
        &self,
        session: &mut Session,
        targets: &[String],
        transaction: &Transaction,
    ) -> Result<(), Failure> {
        if !transaction.installed.is_empty() {
            let all: Vec<String> = transaction.installed.iter().map(ToString::to_string).collect();
            self.shop.fetcher.progress.step(&format!("installing {}", all.join(", ")));
            session.download(targets)?;
            session.install(targets)?;
        }
        // An upgrade has lifted it.
        let held = session.database(&[])?.get(self.name).is_some_and(|record| record.is_held);
        if held == self.package.hold { Ok(()) } else { session.hold(self.name, self.package.hold) }
    }
}

/// Gives what packages brought into a root that does not run the labels of its SELinux policy: rpm knows
/// only this host's.
fn label(root: &Root, database: &Database) -> Result<(), Failure> {
    if root.is_own()? || !root.labels().are_wanted() {
        return Ok(());
    }
    let files = database.records.values().flat_map(|record| &record.files);
    files.into_iter().try_for_each(|path| root.label_as(path, path))?;
    root.mark_for_relabelling().map(drop)
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
