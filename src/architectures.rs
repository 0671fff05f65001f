//! Every artifact that roots of some architectures could get by a spec: what `lock` pins and what
//! `bundle create` packs.

use std::collections::BTreeSet;

use crate::arch::Arch;
use crate::error::{self, Kind};
use crate::fetch::Fetcher;
use crate::interrupt;
use crate::lock::Lock;
use crate::parallel;
use crate::resolve::{self, Candidate, Target};
use crate::spec::Spec;

/// Which architectures it is about.
pub enum Architectures {
    /// These: one that is not to be had is an error.
    Asked(Vec<Arch>),
    /// The common ones, as far as the source has them.
    Common,
}

/// What a root could get.
struct Wanted {
    candidate: Candidate,
    /// Only a root with an older glibc would: a source without it is a good source.
    fallback: bool,
}

impl Architectures {
    /// Calls `work`, side by side, for every artifact that `spec` asks for, for each architecture, also
    /// for the static builds that a root with an older glibc would get. Versions that the spec leaves
    /// open come from `lock`; `done` says in messages what could not be done.
    pub fn each<T: Send>(
        &self,
        (spec, lock): (&Spec, &Lock),
        fetcher: &Fetcher,
        done: &str,
        work: impl Fn(Candidate) -> anyhow::Result<T> + Sync,
    ) -> anyhow::Result<Vec<T>> {
        let (architectures, asked) = match self {
            Architectures::Asked(architectures) => (architectures.as_slice(), true),
            Architectures::Common => (&[Arch::Amd64, Arch::Arm64][..], false),
        };
        let architectures: BTreeSet<Arch> = architectures.iter().copied().collect();
        let mut wanted = Vec::new();
        for arch in &architectures {
            wanted.extend(wanted_for(spec, lock, *arch)?);
        }
        let waiting = wanted.iter().filter(|wanted| fetcher.waits(&wanted.candidate.url)).count();
        let threads = parallel::processors().max(waiting);
        let mut results = parallel::map(wanted, threads, |Wanted { candidate, fallback }| {
            let arch = candidate.arch;
            match interrupt::check().map_err(Into::into).and_then(|()| work(candidate)) {
                Err(error) if fallback && is_missing(&error) => (arch, Ok(None)),
                result => (arch, result.map(Some)),
            }
        });
        let (mut all, mut missing) = (Vec::new(), None);
        for arch in architectures {
            let (of_it, others) = results.into_iter().partition(|(of, _)| *of == arch);
            results = others;
            let of_it: Vec<(Arch, anyhow::Result<Option<T>>)> = of_it;
            match of_it
                .into_iter()
                .filter_map(|(_, result)| result.transpose())
                .collect::<anyhow::Result<Vec<T>>>()
            {
                Ok(of_it) => all.extend(of_it),
                Err(error) if !asked && is_missing(&error) => {
                    fetcher.progress.warn(&format!("{arch} is not {done}: {error:#}"));
                    missing.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match missing {
            Some(error) if all.is_empty() => Err(error),
            _ => Ok(all),
        }
    }
}

fn wanted_for(spec: &Spec, lock: &Lock, arch: Arch) -> anyhow::Result<Vec<Wanted>> {
    let mut wanted: Vec<Wanted> = Vec::new();
    // None: the dynamic build. Zero: a glibc that is older than any, the static build if there is one.
    for glibc in [None, Some((0, 0))] {
        for candidate in resolve::candidates(spec, lock, Target { arch, glibc })? {
            let known = wanted.iter().any(|known| known.candidate.build == candidate.build);
            let fallback = glibc.is_some() && candidate.build != candidate.component;
            if !known && (glibc.is_none() || fallback) {
                wanted.push(Wanted { candidate, fallback });
            }
        }
    }
    Ok(wanted)
}

fn is_missing(error: &anyhow::Error) -> bool {
    matches!(error::kind(error), Some(Kind::Fetch | Kind::Unverified))
}
