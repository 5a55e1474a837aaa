//! The life of one leased shard, as far as it can be decided without waiting: how it ends, and which records of a
//! batch the child still has to see (`consuming.md 5`).

use crate::ids::{Position, ShardId};
use crate::leases::Lease;
use crate::records::Records;

/// Why a consumer has to stop. A later variant overrides an earlier one, never the other way round
/// (`consuming.md 5.3`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// It has not.
    #[default]
    None,
    /// The worker stops, or the leader gives the lease to another worker: the child may checkpoint once more.
    Requested,
    /// The lease is gone: no checkpoint is possible any more.
    LeaseLost,
}

/// Takes out the records that are checkpointed already. A reader starts *at* a checkpoint, and a checkpoint may lie
/// inside an aggregate (`consuming.md 5.5`).
pub fn drop_checkpointed(records: &mut Records, last: &Position) {
    // Within a batch positions rise, so that only its beginning has to be looked at.
    records.drop_first_while(|position| {
        #[cfg(planted)]
        if crate::planted::is_planted(crate::planted::Bug::FilterStrictly) {
            return position < last;
        }
        position <= last
    });
}

/// The parents that still keep a shard waiting: those whose lease exists and is not finished
/// (`BlockOnParentShardTask`). `parents` are the leases that were found.
pub fn unfinished_parents<'a>(parents: impl IntoIterator<Item = &'a Lease>) -> Vec<ShardId> {
    #[cfg(planted)]
    if crate::planted::is_planted(crate::planted::Bug::ParentsIgnored) {
        return Vec::new();
    }
    parents
        .into_iter()
        .filter(|parent| !parent.checkpoint.is_shard_end())
        .map(|parent| parent.key.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use md5::{Digest as _, Md5};

    use super::*;
    use crate::deaggregate::deaggregate;
    use crate::ids::SequenceNumber;
    use crate::records::AGGREGATE_MAGIC;
    use crate::stream::StreamRecord;

    /// Three records of the stream; the second is an aggregate of two.
    fn left(last: &str, sub: u64) -> Vec<(String, u64)> {
        let mut records: Records = ["9", "10", "11"].into_iter().map(record).collect();
        deaggregate(&mut records, None, |_, _| {});
        drop_checkpointed(&mut records, &Position::parse(last, sub).unwrap());
        records
            .iter()
            .map(|line| (line.sequence_number.to_string(), line.sub_sequence_number))
            .collect()
    }

    fn record(number: &str) -> StreamRecord {
        /// Two records with the key `k`, `1` and `2`.
        const MESSAGE: &[u8] = b"\x0a\x01k\x1a\x05\x08\x00\x1a\x011\x1a\x05\x08\x00\x1a\x012";
        let data = match number {
            "10" => [&AGGREGATE_MAGIC[..], MESSAGE, &Md5::digest(MESSAGE)].concat(),
            _ => Vec::new(),
        };
        StreamRecord {
            sequence_number: SequenceNumber::parse(number).unwrap(),
            partition_key: "k".into(),
            data: data.into(),
            approximate_arrival_ms: None,
        }
    }

    #[test]
    fn records_up_to_the_checkpoint_are_dropped_and_the_rest_of_an_aggregate_is_kept() {
        assert_eq!(left("10", 0), [("10".into(), 1), ("11".into(), 0)]);
        assert_eq!(
            left("9", 0),
            [("10".into(), 0), ("10".into(), 1), ("11".into(), 0)]
        );
        assert_eq!(left("11", 7), []);
    }

    #[test]
    fn a_shard_without_a_checkpoint_keeps_everything() {
        assert_eq!(left("TRIM_HORIZON", 0).len(), 4);
        assert_eq!(left("LATEST", 0).len(), 4);
    }

    #[test]
    fn a_lost_lease_overrides_a_request() {
        assert!(Ending::LeaseLost > Ending::Requested && Ending::Requested > Ending::None);
    }
}
