//! Every artifact that roots of some architectures could get from a spec: those that `lock` pins and
//! `bundle create` packs.
//!
//! This module must not know what is done with each: the caller brings the work.

use std::collections::BTreeMap;

use crate::arch::Arch;
use crate::artifact::lockfile::Lockfile;
use crate::artifact::resolve::{self, Target, Unpinned};
use crate::error;
use crate::interrupt;
use crate::parallel;
use crate::progress::Progress;
use crate::spec::Spec;

/// Architectures that artifacts are listed for.
pub(crate) enum Architectures {
    /// Those that the user has asked for: one that the source lacks is an error.
    Asked(Vec<Arch>),
    /// amd64 and arm64, as far as the source has them.
    Common,
}

/// List of components × architectures × builds, with a value for each.
pub(crate) struct Matrix<T> {
    items: Vec<Item<T>>,
    /// The user has asked for the architectures: one that the source lacks is an error.
    asked: bool,
}

/// One artifact of the matrix.
struct Item<T> {
    arch: Arch,
    /// Only a root with an older glibc would get the artifact, so a source may lack it.
    optional: bool,
    value: T,
}

impl Matrix<Unpinned> {
    /// Lists what `spec` asks for on each architecture, and the static builds that a root with an older glibc would
    /// get. Versions that the spec leaves open come from `lock`.
    pub(crate) fn new(spec: &Spec, lock: &Lockfile, architectures: &Architectures) -> anyhow::Result<Self> {
        let (mut architectures, asked) = match architectures {
            Architectures::Asked(architectures) => (architectures.clone(), true),
            Architectures::Common => (vec![Arch::Amd64, Arch::Arm64], false),
        };
        architectures.sort_unstable();
        architectures.dedup();
        let mut items: Vec<Item<Unpinned>> = Vec::new();
        for arch in architectures {
            // None gives the dynamic build; a glibc older than any gives the static build if there is one.
            for glibc in [None, Some((0, 0))] {
                for value in resolve::unpinned(spec, lock, Target { arch, glibc })? {
                    let known = items.iter().any(|item| (item.arch, item.value.build) == (arch, value.build));
                    let fallback = glibc.is_some() && value.build != value.component;
                    if !known && (glibc.is_none() || fallback) {
                        let optional = fallback && lock.find(value.build, arch.name()).is_none();
                        items.push(Item { arch, optional, value });
                    }
                }
            }
        }
        Ok(Matrix { items, asked })
    }
}

impl<T: Send> Matrix<T> {
    /// Calls `work` for every artifact on `threads` threads. One that the source lacks is left out if the user has
    /// not asked for it: a static build silently, an architecture with a warning that it is not `done`, unless
    /// nothing is left. Any other failure is an error.
    pub(crate) fn map<R: Send>(
        self,
        threads: usize,
        progress: &Progress,
        done: &str,
        work: impl Fn(T) -> anyhow::Result<R> + Sync,
    ) -> anyhow::Result<Matrix<R>> {
        let asked = self.asked;
        let worked = parallel::map(self.items, threads, |Item { arch, optional, value }| {
            let result = interrupt::check().map_err(Into::into).and_then(|()| work(value));
            Item { arch, optional, value: result }
        });
        let mut by_arch: BTreeMap<Arch, anyhow::Result<Vec<Item<R>>>> = BTreeMap::new();
        for Item { arch, optional, value } in worked {
            let of_arch = by_arch.entry(arch).or_insert_with(|| Ok(Vec::new()));
            match (value, of_arch.as_mut()) {
                (Ok(value), Ok(items)) => items.push(Item { arch, optional, value }),
                (Err(error), Ok(_)) if !(optional && error::is_absent(&error)) => *of_arch = Err(error),
                _ => {}
            }
        }
        let (mut items, mut absent) = (Vec::new(), None);
        for (arch, of_arch) in by_arch {
            match of_arch {
                Ok(of_arch) => items.extend(of_arch),
                Err(error) if !asked && error::is_absent(&error) => {
                    progress.warn(&format!("{arch} is not {done}: {error:#}"));
                    absent.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match absent {
            Some(error) if items.is_empty() => Err(error),
            _ => Ok(Matrix { items, asked }),
        }
    }

    /// Returns the values in order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|item| &item.value)
    }

    /// Takes the values in order.
    pub(crate) fn into_values(self) -> Vec<T> {
        self.items.into_iter().map(|item| item.value).collect()
    }
}
