//! Memory for many values at once.

/// Below this nothing is asked of the system, bytes.
#[cfg(target_os = "linux")]
const LARGE: usize = 4 << 20;

/// Makes room for so many more values. A large picture's patches are 20 MB, which a page at a time costs more to get
/// than to fill: the system is asked for large pages.
pub(crate) fn reserve(values: &mut Vec<f32>, more: usize) {
    if values.capacity() - values.len() >= more {
        return;
    }
    values.reserve(more);
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 2 << 20;
        let spare = values.spare_capacity_mut();
        if size_of_val(spare) >= LARGE {
            let start = spare.as_mut_ptr() as usize;
            let (first, end) = (start.next_multiple_of(PAGE), start + size_of_val(spare));
            // SAFETY: the range lies within memory that `values` owns, and the advice changes nothing in it. Where
            // it is not taken, pages stay small.
            unsafe {
                libc::madvise(first as *mut libc::c_void, end.saturating_sub(first), libc::MADV_HUGEPAGE)
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::reserve;

    #[test]
    fn there_is_room_and_what_was_there_stays() {
        let mut values = vec![1.5; 1000];
        for more in [0, 10, 5 << 20] {
            reserve(&mut values, more);
            assert!(values.capacity() >= values.len() + more);
            values.resize(values.len() + more, 2.5);
        }
        assert!(values[..1000].iter().all(|&v| v == 1.5) && values[1000..].iter().all(|&v| v == 2.5));
    }
}
