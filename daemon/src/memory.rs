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

/// What lies free between what is in use, and is resident all the same, in bytes: room for the longest answer, twice. A peak
/// leaves more, of a batch or of many calls at once; that goes back to the system.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const FREE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Gives back to the system what a peak has left; whether there was something. To be called now and then: it looks at all
/// that is free, which takes some milliseconds where that is much. Does nothing where the C library is another than glibc.
pub fn give_back_what_a_peak_left() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: it only counts.
        #[expect(unsafe_code, reason = "the C library's allocator has no other interface")]
        let info = unsafe { libc::mallinfo() };
        // Numbers of 32 bits: with 4 GiB in use and more it says too little, and memory is given back once too often.
        let in_use = info.uordblks as u32 as usize + info.hblkhd as u32 as usize;
        if resident_bytes().saturating_sub(in_use) <= FREE_BYTES_MAX {
            return false;
        }
        // SAFETY: it gives back whole pages of which nothing is in use.
        #[expect(unsafe_code, reason = "the C library's allocator has no other interface")]
        let is_given = unsafe { libc::malloc_trim(KEPT_BYTES_MAX as usize) };
        is_given == 1
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}

/// What of the process's own memory is resident, without files. 0: the system does not say.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_a_peak_left_between_what_is_in_use_is_given_back() {
        keep_for_the_next_batch();
        assert!(!give_back_what_a_peak_left());
        let mut peak: Vec<Vec<u8>> = (0..150_000).map(|_| vec![1; 1024]).collect();
        assert!(!give_back_what_a_peak_left(), "it is in use");
        let mut place = 0;
        peak.retain(|_| {
            place += 1;
            place % 50 == 0
        });
        let before = resident_bytes();
        assert!(give_back_what_a_peak_left());
        let given = before - resident_bytes();
        assert!(given > FREE_BYTES_MAX, "{given} of {before} bytes");
        assert!(!give_back_what_a_peak_left(), "once is enough");
        assert!(peak.iter().all(|bytes| bytes.iter().all(|byte| *byte == 1)));
    }
}
