//! How the process keeps its memory.
//!
//! Batches come and go by the megabyte. As the C library has it, each is mapped anew and given back when it is done, and
//! the kernel's page faults for it cost more than all that is done with it: at 10 KB a record, two fifths of the time.

/// What is freed at the end of the heap and kept for the next batch, in bytes: one answer of 10 MB as base64, and the
/// child's line with it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES_MAX: i32 = 32 * 1024 * 1024;

/// Keeps freed memory for the next batch, in one heap for all threads. To be called before there are others. Does nothing
/// where the C library is another than glibc, or does not want it: it is for speed alone.
pub fn keep_for_the_next_batch() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, KEPT_BYTES_MAX),
        (libc::M_TRIM_THRESHOLD, KEPT_BYTES_MAX),
        (libc::M_ARENA_MAX, 1),
    ] {
        #[expect(unsafe_code, reason = "the C library's allocator has no other interface")]
        // SAFETY: it sets a number inside the allocator, and no other thread runs yet.
        unsafe {
            libc::mallopt(parameter, value);
        }
    }
}
