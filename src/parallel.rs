//! One function over many items, on several threads.
//!
//! This module must not know what the work is.

use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, getrlimit};

/// Returns how many files may be flushed at once while `held` others are open. Flushes wait for the disk and
/// not for a processor, and the filesystem commits them together: ideally all files of a root at once.
pub(crate) fn flushes(held: usize) -> usize {
    const MOST: usize = 48;
    // Descriptors of one flush (a directory and files), and those that are open anyway.
    const EACH: usize = 3;
    const OPEN: usize = 20;
    let limit = getrlimit(Resource::Nofile)
        .current
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    (limit.saturating_sub(held + OPEN) / EACH).clamp(1, MOST)
}

/// Returns the number of processors, which is the number of threads for work that computes.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Count of idle processors; below zero while more threads work than there are processors.
pub(crate) struct IdleProcessors(AtomicIsize);

/// Processor that is counted as busy until this is dropped.
pub(crate) struct Busy<'idle>(&'idle IdleProcessors);

impl IdleProcessors {
    /// Counts all processors as idle.
    pub(crate) fn all() -> Self {
        IdleProcessors(AtomicIsize::new(isize::try_from(processors()).unwrap_or(isize::MAX)))
    }

    /// Counts a processor as busy for work that has to be done now, even if none is idle.
    pub(crate) fn work(&self) -> Busy<'_> {
        self.0.fetch_sub(1, Ordering::Relaxed);
        Busy(self)
    }

    /// Counts an idle processor as busy, for work that a busy thread would otherwise do; none if none is idle.
    pub(crate) fn claim(&self) -> Option<Busy<'_>> {
        let claimed = |idle: isize| (idle > 0).then(|| idle - 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, claimed).is_ok().then(|| Busy(self))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Calls `work` for every item on at most `threads` threads; returns the results in the items' order.
pub(crate) fn map<T: Send, R: Send>(items: Vec<T>, threads: usize, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = threads.min(items.len());
    if threads <= 1 {
        return items.into_iter().map(work).collect();
    }
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let left = Mutex::new(items.into_iter().enumerate());
    // A closure of its own: in the loop's condition the lock would be held while the item is worked on.
    let next = || locked(&left).next();
    let worker = || {
        while let Some((index, item)) = next() {
            let result = work(item);
            locked(&done).push((index, result));
        }
    };
    std::thread::scope(|scope| {
        // This thread works as well: if no other can be started, it does everything.
        for _ in 1..threads {
            if std::thread::Builder::new().spawn_scoped(scope, worker).is_err() {
                break;
            }
        }
        worker();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Calls `work` as [`map`] does; returns the first error in the items' order.
pub(crate) fn try_each<T: Send, E: Send>(
    items: Vec<T>,
    threads: usize,
    work: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    map(items, threads, work).into_iter().collect()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn items_are_worked_on_at_the_same_time_and_stay_in_order() {
        let (tell, told) = mpsc::channel();
        let (tell, told) = (Mutex::new(tell), Mutex::new(told));
        let met = map(vec!["waits", "tells"], 2, |item| match item {
            "waits" => locked(&told).recv_timeout(Duration::from_secs(20)).is_ok(),
            _ => locked(&tell).send(()).is_ok(),
        });
        assert_eq!(met, [true, true]);
        assert_eq!(
            map((0..100).collect(), 7, |item| item * 2),
            (0..100).map(|item| item * 2).collect::<Vec<_>>()
        );
    }
}
