//! The memory that all records together may take.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shared by all logs that are kept in memory.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes_max: u64,
    taken: AtomicU64,
}

impl Room {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self(Arc::new(Inner {
            bytes_max,
            taken: AtomicU64::new(0),
        }))
    }

    /// Takes all of it or, with an error for people, nothing.
    pub(super) fn take(&self, bytes: usize) -> io::Result<()> {
        let Inner { bytes_max, taken } = &*self.0;
        let enough = |now: u64| now.checked_add(bytes as u64).filter(|after| after <= bytes_max);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough).map(|_| ()).map_err(|now| {
            let text = format!(
                "{now} bytes of records are in memory and {bytes_max} are allowed; a data directory has more room"
            );
            io::Error::new(io::ErrorKind::StorageFull, text)
        })
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.0.taken.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}
