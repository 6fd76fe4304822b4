//! The process's memory.

/// Keeps freed memory for the next tensor. By default glibc maps every large tensor anew and gives it back when it is
/// freed, so that each step pays for clearing the same pages again: about a tenth of a CPU worker's time.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        /// The largest values that `mallopt` takes are those of a C int.
        const NEVER: libc::c_int = 1 << 30;
        for (parameter, value) in
            [(libc::M_MMAP_THRESHOLD, NEVER), (libc::M_TRIM_THRESHOLD, NEVER), (libc::M_TOP_PAD, 16 << 20)]
        {
            // SAFETY: called before any other thread exists; the parameters are the C library's own.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
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
