//! Throttling as the service does it, for `--limits aws`.
//!
//! Owns the budgets of one shard. Never looks at a clock.

/// Whether shards have the service's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limits {
    /// As fast as the machine can.
    #[default]
    None,
    /// In: 1 MB/s and 1,000 records/s per shard. Out: 5 `GetRecords` calls/s and 2 MB/s per shard, and 2 MB/s
    /// per shard and consumer for `SubscribeToShard`.
    Aws,
}

pub(crate) const WRITE_BYTES: f64 = 1024.0 * 1024.0;
const WRITE_RECORDS: f64 = 1000.0;
const READ_CALLS: f64 = 5.0;
pub(crate) const READ_BYTES: f64 = 2.0 * 1024.0 * 1024.0;

/// Refills evenly, holds at most one second's worth, may go into debt where a single cost is larger.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    per_second: f64,
    level: f64,
    at_ms: u64,
}

impl Bucket {
    pub(crate) fn new(per_second: f64) -> Self {
        Self {
            per_second,
            level: per_second,
            at_ms: 0,
        }
    }

    fn refill(&mut self, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.at_ms) as f64;
        self.level = (self.level + elapsed_ms * self.per_second / 1000.0).min(self.per_second);
        self.at_ms = self.at_ms.max(now_ms);
    }

    fn holds(&mut self, cost: f64, now_ms: u64) -> bool {
        self.refill(now_ms);
        self.level >= cost
    }

    /// Takes the cost, whether it is there or not.
    pub(crate) fn take(&mut self, cost: f64, now_ms: u64) {
        self.refill(now_ms);
        self.level -= cost;
    }

    /// Milliseconds until the debt is paid.
    pub(crate) fn debt_ms(&mut self, now_ms: u64) -> u64 {
        self.refill(now_ms);
        if self.level >= 0.0 {
            0
        } else {
            (-self.level * 1000.0 / self.per_second).ceil() as u64
        }
    }
}

/// What one shard still allows.
#[derive(Debug)]
pub(crate) struct Allowance {
    write_bytes: Bucket,
    write_records: Bucket,
    read_calls: Bucket,
    read_bytes: Bucket,
}

impl Default for Allowance {
    fn default() -> Self {
        Self {
            write_bytes: Bucket::new(WRITE_BYTES),
            write_records: Bucket::new(WRITE_RECORDS),
            read_calls: Bucket::new(READ_CALLS),
            read_bytes: Bucket::new(READ_BYTES),
        }
    }
}

impl Allowance {
    /// Whether one more record of this size may be written now.
    pub(crate) fn write(&mut self, bytes: usize, now_ms: u64) -> bool {
        // A record larger than a second's worth is let in when the bucket is full, and leaves a debt.
        let bytes = bytes as f64;
        let allowed =
            self.write_bytes.holds(bytes.min(WRITE_BYTES), now_ms) && self.write_records.holds(1.0, now_ms);
        if allowed {
            self.write_bytes.take(bytes, now_ms);
            self.write_records.take(1.0, now_ms);
        }
        allowed
    }

    /// Whether one more call may read now. What it read is booked by [`Self::has_read`].
    pub(crate) fn read(&mut self, now_ms: u64) -> bool {
        let allowed = self.read_calls.holds(1.0, now_ms) && self.read_bytes.debt_ms(now_ms) == 0;
        if allowed {
            self.read_calls.take(1.0, now_ms);
        }
        allowed
    }

    /// A call that returned 10 MB blocks the shard for about 5 seconds.
    pub(crate) fn has_read(&mut self, bytes: usize, now_ms: u64) {
        self.read_bytes.take(bytes as f64, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_small_records_pass_in_a_second_and_no_more() {
        let mut shard = Allowance::default();
        let passed = (0..2000).filter(|_| shard.write(10, 5_000)).count();
        assert_eq!(passed, 1000);
        assert!(shard.write(10, 5_001), "a millisecond later one more fits");
    }

    #[test]
    fn a_megabyte_passes_in_a_second_and_no_more() {
        let mut shard = Allowance::default();
        assert_eq!((0..20).filter(|_| shard.write(100 * 1024, 5_000)).count(), 10);
    }

    #[test]
    fn a_record_larger_than_a_seconds_worth_passes_and_leaves_a_debt() {
        let mut shard = Allowance::default();
        assert!(shard.write(10 << 20, 5_000));
        assert!(!shard.write(1, 13_999));
        assert!(shard.write(1, 14_001));
    }

    #[test]
    fn five_reads_pass_in_a_second_and_ten_megabytes_block_for_about_four_more() {
        let mut shard = Allowance::default();
        assert_eq!((0..10).filter(|_| shard.read(5_000)).count(), 5);
        assert!(shard.read(5_200));
        shard.has_read(10 << 20, 5_200);
        assert!(!shard.read(9_100));
        assert!(shard.read(9_300));
    }
}
