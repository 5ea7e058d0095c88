//! How many threads the process works with.

/// Bytes of a worker's stack: as much as a program's first thread has.
const STACK: usize = 8 << 20;

/// Has everything in this process that divides its work use at most `threads` threads together. Only the first call in a
/// process counts, and only before any work was divided.
pub fn limit_threads(threads: usize) {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .stack_size(STACK);
    // A pool that is there already stays: results never depend on how many threads it has.
    let _ = pool.build_global();
}

/// Runs `work` on one of the threads that work is divided among, so that no further thread waits for them.
pub(crate) fn among_threads<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}
