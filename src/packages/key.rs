//! Reads the key of a package repository: from the root, from a file beside the spec, or from its URL.
//!
//! This module must not return a key that [`Origin::check_key`] refuses.

use crate::error::{Failure, Kind};
use crate::packages::inputs::PackageInputs;
use crate::packages::manager::distribution::Manager;
use crate::packages::manager::repository::Origin;
use crate::source::open::{self, LONGEST_CERTIFICATES};

/// Returns the key of `origin`. A key that an earlier bake has put into the root is not fetched again.
pub(super) fn key(inputs: &PackageInputs, manager: Manager, origin: &Origin) -> anyhow::Result<Vec<u8>> {
    let bytes = match origin.key.contains("://") {
        false => {
            let host = inputs.spec.folder.join(&origin.key);
            open::read(&host, LONGEST_CERTIFICATES).map_err(|error| {
                Failure::new(Kind::Invalid, format!("key `{}` of the spec: {error}", host.display()))
                    .help("paths in the spec start from its own folder")
            })?
        }
        true => match installed_key(inputs, manager, origin)? {
            Some(bytes) => return Ok(bytes),
            None => inputs.fetcher.bytes(&origin.key)?,
        },
    };
    origin.check_key(&bytes)?;
    Ok(bytes)
}

/// Returns the key that an earlier bake has put into the root, if the spec still trusts it.
fn installed_key(
    inputs: &PackageInputs,
    manager: Manager,
    origin: &Origin,
) -> anyhow::Result<Option<Vec<u8>>> {
    for form in [&b"-----BEGIN "[..], b""] {
        let path = origin.key_path(manager, form)?;
        let owned = inputs.receipt.is_some_and(|receipt| receipt.paths.contains_key(&path));
        if let Some(bytes) = inputs.root.bytes(&path, LONGEST_CERTIFICATES)?.filter(|_| owned)
            && origin.check_key(&bytes).is_ok()
        {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
