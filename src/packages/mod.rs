//! The package manager's way: brings the package that the spec asks for into a root, and takes it away.
//!
//! What would change is known before anything does: the package manager's own solver is asked first, and
//! the intent is durable before it runs. It must not write a file of the root itself.

mod conflicts;
pub(crate) mod files;
pub(crate) mod inputs;
mod install;
mod key;
pub(crate) mod manager;
pub(crate) mod recovery;
pub(crate) mod removal;
mod runtime;

use crate::artifact::Installed;
use crate::packages::inputs::Shop;
use crate::packages::install::Deal;
use crate::packages::key::key;
use crate::packages::manager::distribution::Distribution;
use crate::packages::manager::options::Request;
use crate::packages::manager::{Session, repository, transaction};
use crate::packages::removal::Rule;
use crate::packages::runtime::{runtime, say_what_is_wrong, shipped};
use crate::plan::brought::Supply;
use crate::spec::package::Package;

/// Brings what the spec asks for and takes away what nodebake has brought and is not asked for any more.
/// None: packages play no part in this root.
pub(crate) fn supply(shop: &Shop) -> anyhow::Result<Option<Supply>> {
    let earlier = shop.receipt.map(|receipt| receipt.packages.clone()).unwrap_or_default();
    match shop.spec.package() {
        Some(package) => provide(shop, package, &earlier).map(Some),
        None if earlier.is_empty() => {
            conflicts::refuse_packaged_runtime(shop)?;
            Ok(None)
        }
        None => {
            // It was there before the first bake, and stays.
            if earlier.iter().any(|package| package.found) {
                conflicts::refuse_packaged_runtime(shop)?;
            }
            let request = Request::offline(shop.patience);
            let changes = removal::retire(shop.root, shop.state, &earlier, request, Rule::Runtime)?;
            Ok(Some(Supply { changes, ..Supply::default() }))
        }
    }
}

fn provide(shop: &Shop, package: &Package, earlier: &[Installed]) -> anyhow::Result<Supply> {
    conflicts::refuse_archived_runtime(shop)?;
    let distribution = Distribution::of(shop.root)?;
    let manager = distribution.manager;
    let name = package.name();
    let mut names = vec![name];
    names.extend(earlier.iter().filter(|package| !package.found).map(|package| package.name.as_str()));
    let mut before = Session::look(shop.root, manager, &names)?;
    for (_, record) in before.records.iter_mut().filter(|(name, _)| names.contains(&name.as_str())) {
        record.is_intact = record.differing(shop.root)?.is_empty();
    }
    conflicts::refuse_other_runtimes(shop.root, name, &before, earlier)?;
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
    supply.packages = transaction::brought(name, package.hold, &deal.before, &after, earlier);
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
