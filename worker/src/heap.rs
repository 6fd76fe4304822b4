//! The process's memory.

/// The largest value that `mallopt` takes is that of a C int.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const NEVER: libc::c_int = 1 << 30;

/// Keeps freed memory for the next tensor. By default glibc maps every large tensor anew and gives it back when it is
/// freed, so that each step pays for clearing the same pages again: about a tenth of a CPU worker's time.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        for (parameter, value) in
            [(libc::M_MMAP_THRESHOLD, NEVER), (libc::M_TRIM_THRESHOLD, NEVER), (libc::M_TOP_PAD, 16 << 20)]
        {
            // SAFETY: called before any other thread exists; the parameters are the C library's own.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}

/// With `sparing`, tensors of a megabyte and more get pages of their own, which go back to the system as they go: in a
/// heap, blocks that come and go between those that stay leave gaps, up to as much again as a rank's share of a model.
/// Their pages are cleared anew every time, which costs time (docs/benchmarks.md); without it they are kept.
pub fn spare(sparing: bool) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let threshold = if sparing { 1 << 20 } else { NEVER };
        // SAFETY: it takes no pointers, and the C library locks its own heap.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, threshold) };
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = sparing;
}

/// Gives freed memory back and forgets the peak so far: what loading took is not what working takes.
pub fn settle() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it takes no pointers, and the C library locks its own heap.
        unsafe { libc::malloc_trim(0) };
        // Where the system refuses, the peak stays that of the whole process.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
    }
}

/// The most memory that was resident, where the system says it.
#[must_use]
pub fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}
