//! How far each shard is, for the worker's summary line. Written by consumers, read by the worker; plain counters.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What one consumer has done. `Relaxed` throughout: the figures are for people.
#[derive(Debug)]
pub struct Progress {
    records: AtomicU64,
    bytes: AtomicU64,
    batches: AtomicU64,
    millis_behind_latest: AtomicI64,
    batch_since_ms: AtomicI64,
    last_answer_ms: AtomicI64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            millis_behind_latest: AtomicI64::new(-1),
            batch_since_ms: AtomicI64::new(-1),
            last_answer_ms: AtomicI64::new(-1),
        }
    }
}

impl Progress {
    /// An answer of the stream came, this far behind the tip, at this time (milliseconds since the epoch).
    pub fn answered(&self, millis_behind_latest: Option<i64>, now_ms: i64) {
        if let Some(behind) = millis_behind_latest {
            self.millis_behind_latest.store(behind, Ordering::Relaxed);
        }
        self.last_answer_ms.store(now_ms, Ordering::Relaxed);
    }

    /// A batch is being handed to the child, since this time (milliseconds since the epoch).
    pub fn batch_begins(&self, now_ms: i64) {
        self.batch_since_ms.store(now_ms, Ordering::Relaxed);
    }

    /// The child has answered the batch.
    pub fn batch_done(&self, records: usize, bytes: u64) {
        self.batch_since_ms.store(-1, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Records that the child has processed.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// How far the last answer was behind the tip, in milliseconds.
    pub fn millis_behind_latest(&self) -> Option<i64> {
        known(&self.millis_behind_latest)
    }

    /// Since when the child has been working on its batch, in milliseconds since the epoch.
    pub fn batch_since_ms(&self) -> Option<i64> {
        known(&self.batch_since_ms)
    }

    /// When the stream last answered, in milliseconds since the epoch.
    pub fn last_answer_ms(&self) -> Option<i64> {
        known(&self.last_answer_ms)
    }
}

fn known(figure: &AtomicI64) -> Option<i64> {
    let figure = figure.load(Ordering::Relaxed);
    (figure >= 0).then_some(figure)
}
