//! Giving memory back that an idle process does not need.

use rustix::mm::{Advice, madvise};

// Where the linker puts the program's read-only part: headers, constants and code (ld(1), end(3)).
unsafe extern "C" {
    static __executable_start: u8;
    static etext: u8;
}

/// Drops the pages of the program's own code and constants from this process. They are the file's, unchanged: what is
/// needed again is mapped again from the page cache. A process that waits for hours then holds the few pages it wakes
/// up in (madvise(2), `MADV_DONTNEED`). Neither allocates nor needs `/proc`, which a monitor does not see.
pub fn release_code() {
    let start = (&raw const __executable_start).addr();
    // Not by rustix: before kernel 6.4 it asks /proc, and panics where there is none.
    // SAFETY: sysconf(3) reads what the kernel has told at the start.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(1 << 16).max(1);
    let length = ((&raw const etext).addr() / page * page).saturating_sub(start);
    // SAFETY: the range is of the program's segments that are mapped from its file, private and never written: what
    // is relocated lies in segments of its own behind it. Each read after this finds the same bytes as before.
    let _best_effort = unsafe { madvise(start as *mut _, length, Advice::LinuxDontNeed) };
}

/// How many heaps the allocator may keep side by side for threads that allocate at the same time.
const ARENAS: libc::c_int = 2;

/// Lets all threads share few heaps (mallopt(3), `M_ARENA_MAX`). A program that mostly waits gains nothing by one for
/// each of its threads, and what each keeps for itself is never given back. For the start, before other threads.
pub fn share_heaps() {
    // SAFETY: mallopt(3) changes how later allocations are made, nothing that was allocated.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
}

/// Gives the free parts of the heap back to the system.
pub fn trim_heap() {
    // SAFETY: malloc_trim(3) may be called at any time by any thread.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changed by the test: must outlive the release.
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(1);

    #[test]
    fn a_program_goes_on_with_less() {
        COUNT.store(7, std::sync::atomic::Ordering::Relaxed);
        // Pages of files that are resident (proc(5), statm).
        let resident = || {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            text.split(' ').nth(2).unwrap().parse::<usize>().unwrap()
        };
        let before = resident();
        release_code();
        let after = resident();
        assert!(after < before, "{after} pages of files, {before} before");
        trim_heap();
        share_heaps();
        let threads = (0..8).map(|n| std::thread::spawn(move || vec![n; 100_000]));
        let kept: Vec<Vec<u8>> = threads.collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect();
        assert!(kept.iter().zip(0..).all(|(bytes, n)| bytes.iter().all(|b| *b == n)));
        assert_eq!(COUNT.load(std::sync::atomic::Ordering::Relaxed), 7);
        assert!(std::panic::catch_unwind(|| panic!("tables of unwinding are there")).is_err());
    }
}
