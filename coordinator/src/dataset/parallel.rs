//! All cores over a list, with results in the list's order.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// `work` over every item on `threads` threads; results lie in the items' order, so that the number of threads cannot
/// be seen in them. After an error no further item is begun.
///
/// # Errors
/// The first error in the items' order, of those that were met.
pub(super) fn map<T: Sync, R: Send, E: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let result = work(item);
                    if result.is_err() {
                        next.store(items.len(), Ordering::Relaxed);
                    }
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::map;

    #[test]
    fn results_lie_in_the_items_order_on_any_number_of_threads() {
        let items: Vec<u32> = (0..100).collect();
        for threads in [0, 1, 3, 200] {
            let doubled: Result<Vec<u32>, ()> = map(threads, &items, |i| Ok(i * 2));
            assert_eq!(doubled, Ok((0..100).map(|i| i * 2).collect()), "{threads} threads");
        }
        assert_eq!(map(2, &items, |i| if *i == 7 { Err(*i) } else { Ok(*i) }), Err(7));
        assert_eq!(map(2, &[] as &[u32], |i| Ok::<_, ()>(*i)), Ok(vec![]));
    }
}
