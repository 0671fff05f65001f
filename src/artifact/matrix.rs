//! Every artifact that roots of some architectures could get by a spec: what `lock` pins and what
//! `bundle create` packs.

use std::collections::BTreeMap;

use crate::arch::Arch;
use crate::artifact::lockfile::Lockfile;
use crate::artifact::resolve::{self, Target, Unpinned};
use crate::error;
use crate::interrupt;
use crate::parallel;
use crate::progress::Progress;
use crate::spec::Spec;

/// Which architectures it is about.
pub(crate) enum Architectures {
    /// These: one that is not to be had is an error.
    Asked(Vec<Arch>),
    /// The common ones, as far as the source has them.
    Common,
}

/// What has been made of each artifact so far.
pub(crate) struct Matrix<T> {
    items: Vec<Item<T>>,
    /// An architecture that is not to be had is an error.
    asked: bool,
}

struct Item<T> {
    arch: Arch,
    /// Only a root with an older glibc would get it: a source without it is a good source.
    optional: bool,
    value: T,
}

impl Matrix<Unpinned> {
    /// All that `spec` asks for, for each architecture, also the static builds that a root with an older
    /// glibc would get. Versions that the spec leaves open come from `lock`.
    pub(crate) fn new(spec: &Spec, lock: &Lockfile, architectures: &Architectures) -> anyhow::Result<Self> {
        let (mut architectures, asked) = match architectures {
            Architectures::Asked(architectures) => (architectures.clone(), true),
            Architectures::Common => (vec![Arch::Amd64, Arch::Arm64], false),
        };
        architectures.sort_unstable();
        architectures.dedup();
        let mut items: Vec<Item<Unpinned>> = Vec::new();
        for arch in architectures {
            // None: the dynamic build. Zero: a glibc that is older than any, the static build if there is one.
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
    /// Calls `work` for all, on so many threads. What does not exist at the source is left out where
    /// nobody has asked for it: a static build silently, an architecture with a warning that it is not
    /// `done`, unless nothing is left. Anything else that fails is an error.
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

    /// What has been made of them.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|item| &item.value)
    }

    /// The same, and nothing else.
    pub(crate) fn into_values(self) -> Vec<T> {
        self.items.into_iter().map(|item| item.value).collect()
    }
}
