//! A repository's key: from the root, from beside the spec, or fetched.

use crate::error::{Failure, Kind};
use crate::packages::inputs::PackageInputs;
use crate::packages::manager::distribution::Manager;
use crate::packages::manager::repository::Origin;

/// The repository's key: from the root where a bake has put it, from beside the spec, or fetched.
pub(crate) fn key(inputs: &PackageInputs, manager: Manager, origin: &Origin) -> anyhow::Result<Vec<u8>> {
    let bytes = match origin.key.contains("://") {
        false => {
            let host = inputs.spec.folder.join(&origin.key);
            std::fs::read(&host).map_err(|error| {
                Failure::new(Kind::Invalid, format!("key `{}` of the spec: {error}", host.display()))
                    .help("paths in the spec start from its own folder")
            })?
        }
        true => match placed_key(inputs, manager, origin)? {
            Some(bytes) => return Ok(bytes),
            None => inputs.fetcher.bytes(&origin.key)?,
        },
    };
    origin.check_key(&bytes)?;
    Ok(bytes)
}

/// The key in the root, if it is one that the spec trusts.
fn placed_key(inputs: &PackageInputs, manager: Manager, origin: &Origin) -> anyhow::Result<Option<Vec<u8>>> {
    for form in [&b"-----BEGIN "[..], b""] {
        let path = origin.key_path(manager, form)?;
        let owned = inputs.receipt.is_some_and(|receipt| receipt.paths.contains_key(&path));
        if let Some(bytes) = inputs.root.bytes(&path, 1 << 20)?.filter(|_| owned)
            && origin.check_key(&bytes).is_ok()
        {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
