//! Work that threads do ahead, taken in order: pictures are prepared while others are computed on.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Results a thread that may wait to be taken.
const ROOM: usize = 2;

/// Does `work` on each of `jobs` on so many threads, and lets `take` have the results in the order of the jobs. The
/// threads stay ahead of what is taken by a few results each, and end when `take` returns; a panic of theirs is
/// raised where its result would be taken.
pub fn ahead<J: Send, T: Send, R>(
    threads: usize,
    jobs: impl Iterator<Item = J> + Send,
    work: impl Fn(J) -> T + Sync,
    take: impl FnOnce(&mut dyn Iterator<Item = T>) -> R,
) -> R {
    let threads = threads.max(1);
    let state = State { jobs, begun: 0, taken: 0, done: BTreeMap::new(), over: false };
    let queue = Queue { state: Mutex::new(state), changed: Condvar::new(), room: threads * ROOM };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((number, job)) = queue.begin() {
                    let result = catch_unwind(AssertUnwindSafe(|| work(job)));
                    queue.lock().done.insert(number, result);
                    queue.changed.notify_all();
                }
            });
        }
        let _closing = Closing(&queue);
        take(&mut std::iter::from_fn(|| queue.take()))
    })
}

/// As many threads as libtorch computes with.
#[must_use]
pub fn threads() -> usize {
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}

struct Queue<I, T> {
    state: Mutex<State<I, T>>,
    changed: Condvar,
    /// Results begun and not taken, at most.
    room: usize,
}

struct State<I, T> {
    jobs: I,
    begun: usize,
    taken: usize,
    done: BTreeMap<usize, Result<T, Box<dyn Any + Send>>>,
    /// No job is left, or nobody takes results any more.
    over: bool,
}

impl<I: Iterator, T> Queue<I, T> {
    fn lock(&self) -> MutexGuard<'_, State<I, T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<I, T>>) -> MutexGuard<'a, State<I, T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job and its number, once there is room for its result.
    fn begin(&self) -> Option<(usize, I::Item)> {
        let mut state = self.lock();
        while !state.over && state.begun == state.taken + self.room {
            state = self.wait(state);
        }
        if state.over {
            return None;
        }
        let Some(job) = state.jobs.next() else {
            state.over = true;
            self.changed.notify_all();
            return None;
        };
        state.begun += 1;
        Some((state.begun - 1, job))
    }

    /// The next result, once it is there.
    fn take(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            let next = state.taken;
            if let Some(result) = state.done.remove(&next) {
                state.taken += 1;
                drop(state);
                self.changed.notify_all();
                return Some(result.unwrap_or_else(|panic| resume_unwind(panic)));
            }
            if state.over && state.taken == state.begun {
                return None;
            }
            state = self.wait(state);
        }
    }
}

/// Ends the threads when nobody takes results any more, whatever the reason.
struct Closing<'a, I: Iterator, T>(&'a Queue<I, T>);

impl<I: Iterator, T> Drop for Closing<'_, I, T> {
    fn drop(&mut self) {
        self.0.lock().over = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{ROOM, ahead};

    #[test]
    fn results_come_in_the_order_of_the_jobs() {
        for threads in [0, 1, 2, 7] {
            let squares = |n: usize| n * n;
            let taken: Vec<usize> = ahead(threads, 0..100, squares, |results| results.collect());
            assert_eq!(taken, (0..100).map(squares).collect::<Vec<_>>(), "{threads} threads");
        }
        assert_eq!(ahead(3, 0..0, |n: usize| n, |results| results.count()), 0);
    }

    #[test]
    fn the_threads_work_at_the_same_time() {
        // Each job waits for the other: one thread alone would wait forever.
        let both = Barrier::new(2);
        let taken = ahead(2, 0..2, |n: usize| (both.wait(), n).1, |results| results.sum::<usize>());
        assert_eq!(taken, 1);
    }

    #[test]
    fn the_threads_stay_ahead_by_what_there_is_room_for() {
        let begun = AtomicUsize::new(0);
        let work = |n: usize| {
            begun.fetch_add(1, Ordering::SeqCst);
            n
        };
        ahead(2, 0..50, work, |results| {
            let mut taken = 0;
            while results.next().is_some() {
                taken += 1;
                assert!(begun.load(Ordering::SeqCst) <= taken + 2 * ROOM);
            }
            assert_eq!(taken, 50);
        });
    }

    #[test]
    fn who_stops_taking_ends_the_work() {
        let begun = AtomicUsize::new(0);
        let work = |_: usize| begun.fetch_add(1, Ordering::SeqCst);
        assert!(ahead(2, 0..usize::MAX, work, |results| results.next()).is_some());
        assert!(begun.into_inner() <= 1 + 2 * ROOM);
    }

    #[test]
    fn a_panic_is_raised_where_its_result_would_be_taken() {
        let work = |n: usize| if n == 1 { panic!("job {n}") } else { n };
        let taken = AtomicUsize::new(0);
        let count = |_: usize| {
            taken.fetch_add(1, Ordering::SeqCst);
        };
        let all = || ahead(2, 0..9, work, |results| results.for_each(count));
        assert!(catch_unwind(AssertUnwindSafe(all)).is_err());
        assert_eq!(taken.into_inner(), 1);
    }
}
