//! One shard: its place in the stream, its records, and who waits for more of them.
//!
//! Owns routing by hash key and the shard's sequence numbers. Never decides whether the shard is open: its
//! stream does.

use std::sync::{Mutex, MutexGuard, PoisonError};

use md5::{Digest, Md5};
use tokio::sync::watch;

use crate::limits::Allowance;
use crate::log::ShardLog;
use crate::sequence::{END, Origin, SequenceNumber};

/// Shards are named by their number within the stream.
pub(crate) fn id(index: u32) -> String {
    format!("shardId-{index:012}")
}

/// The number in a shard's name.
pub(crate) fn index(id: &str) -> Option<u32> {
    let digits = id.strip_prefix("shardId-")?;
    (digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Both ends belong to the shard.
pub(crate) type HashRange = (u128, u128);

/// Where a record goes: the MD5 of its partition key.
pub(crate) fn hash(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

pub(crate) struct Shard {
    pub(crate) index: u32,
    pub(crate) id: String,
    pub(crate) origin: Origin,
    pub(crate) parents: Vec<u32>,
    pub(crate) hashes: HashRange,
    /// Milliseconds since 1970. For a child, the very millisecond at which its parents closed.
    pub(crate) made_ms: u64,
    log: Mutex<ShardLog>,
    /// Changes whenever a reader at the tip may have something to do.
    tip: watch::Sender<()>,
    /// What `--limits aws` still allows here.
    pub(crate) allowance: Mutex<Allowance>,
}

/// How a shard ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) at_ms: u64,
    pub(crate) children: Vec<u32>,
}

impl Shard {
    pub(crate) fn new(
        origin: Origin,
        parents: Vec<u32>,
        hashes: HashRange,
        made_ms: u64,
        log: ShardLog,
    ) -> Self {
        Self {
            index: origin.shard,
            id: id(origin.shard),
            origin,
            parents,
            hashes,
            made_ms,
            log: Mutex::new(log),
            tip: watch::Sender::new(()),
            allowance: Mutex::default(),
        }
    }

    /// Everything that numbers or appends happens under this one lock.
    pub(crate) fn log(&self) -> MutexGuard<'_, ShardLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the readers at the tip.
    pub(crate) fn wake(&self) {
        self.tip.send_replace(());
    }

    /// Changes when there may be more to read.
    pub(crate) fn watch(&self) -> watch::Receiver<()> {
        self.tip.subscribe()
    }

    pub(crate) fn sequence(&self, count: u64, arrived_ms: u64) -> SequenceNumber {
        SequenceNumber {
            origin: self.origin,
            count,
            arrived_s: arrived_ms / 1000,
        }
    }

    pub(crate) fn starting_sequence(&self) -> SequenceNumber {
        SequenceNumber {
            origin: self.origin,
            count: 0,
            arrived_s: self.origin.made_s,
        }
    }

    pub(crate) fn ending_sequence(&self, closed: &Closed) -> SequenceNumber {
        self.sequence(END, closed.at_ms)
    }

    /// The number after which the record at `position` comes, for a reader that has read all before it.
    pub(crate) fn before(&self, position: u64, now_ms: u64) -> SequenceNumber {
        if position == 0 {
            self.starting_sequence()
        } else {
            self.sequence(position, now_ms)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_id_reads_back_and_nothing_else_does() {
        assert_eq!(id(17), "shardId-000000000017");
        assert_eq!(index("shardId-000000000017"), Some(17));
        for text in [
            "",
            "shardId-17",
            "shardId-00000000001x",
            "shardId-999999999999",
            "other-000000000017",
        ] {
            assert_eq!(index(text), None, "{text}");
        }
    }

    #[test]
    fn records_are_routed_by_the_md5_of_their_key() {
        assert_eq!(
            format!("{:032x}", hash("abc")),
            "900150983cd24fb0d6963f7d28e17f72"
        );
    }
}
