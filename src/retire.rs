//! Takes packages away that nodebake has brought.

use crate::enclosure::Access;
use crate::error::{Failure, Kind};
use crate::receipt::Installed;
use crate::root::Root;
use crate::session::Session;
use crate::state::State;
use crate::supply::Change;
use crate::transaction::Request;

/// What is done about packages that are not wanted any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// All of them go, or none: another containerd takes their place.
    All,
    /// What other packages need by now stays.
    Unneeded,
    /// As [`Rule::Unneeded`], and configuration files stay: somebody has edited ours.
    KeepConfiguration,
}

/// Takes away those of `packages` that nodebake has brought; without `state` it only says which. What was
/// there before the first bake stays, and loses the hold that nodebake has set.
pub fn retire(
    root: &Root,
    state: Option<&State>,
    packages: &[Installed],
    request: Request,
    rule: Rule,
) -> Result<Vec<Change>, Failure> {
    if packages.iter().all(|package| package.found && !package.held) {
        return Ok(Vec::new());
    }
    let access = if state.is_some() { Access::Change } else { Access::Look };
    let mut session = Session::open(root, access, true, Vec::new(), request)?;
    let there = session.database(&[])?;
    let ours = packages.iter().filter(|package| !package.found && there.get(&package.name).is_some());
    let ours: Vec<String> = ours.map(|package| package.name.clone()).collect();
    let going = session.removable(ours.clone())?;
    if let Some(needed) = ours.iter().find(|name| rule == Rule::All && !going.contains(name)) {
        let message = format!(
            "package {needed} can't go from root `{}`: other packages need it",
            root.host().display()
        );
        return Err(Failure::new(Kind::Unsupported, message)
            .help("take those away first, or keep `install: package`"));
    }
    let change = |package: &Installed| match going.contains(&package.name) {
        true => Change::Remove(package.clone()),
        false => Change::Leave(package.clone()),
    };
    let changes = packages.iter().filter(|package| ours.contains(&package.name)).map(change).collect();
    let Some(state) = state else { return Ok(changes) };
    state.amend_intent(|intent| intent.packages = packages.to_vec())?;
    for package in packages.iter().filter(|package| package.held) {
        if there.get(&package.name).is_some_and(|record| record.is_held) {
            session.hold(&package.name, false)?;
        }
    }
    if !going.is_empty() {
        session.remove(&going, rule == Rule::KeepConfiguration)?;
    }
    Ok(changes)
}
