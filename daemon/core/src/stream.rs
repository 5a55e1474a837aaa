//! What a stream shows: its shards and its records. Plain data.

use bytes::Bytes;

use crate::ids::{HashRange, SequenceNumber, ShardId};
use crate::records::Records;

/// A shard as `ListShards` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its id.
    pub id: ShardId,
    /// The shard it was split from, or the first of the two it was merged from. May name a shard that is gone.
    pub parent: Option<ShardId>,
    /// The second of the two it was merged from.
    pub adjacent_parent: Option<ShardId>,
    /// The hash keys it covers.
    pub hash_range: HashRange,
    /// Its first sequence number.
    pub starting_sequence_number: SequenceNumber,
    /// Its last sequence number; `None` while the shard is open.
    pub ending_sequence_number: Option<SequenceNumber>,
}

impl Shard {
    /// Whether records can still be put into it.
    pub fn is_open(&self) -> bool {
        self.ending_sequence_number.is_none()
    }

    /// Parent and adjacent parent, where there are any.
    pub fn parents(&self) -> impl Iterator<Item = &ShardId> {
        self.parent.iter().chain(self.adjacent_parent.iter())
    }
}

/// A child named by the last answer of a closed shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildShard {
    /// Its id.
    pub id: ShardId,
    /// The shards it came from: one for a split, two for a merge.
    pub parents: Vec<ShardId>,
    /// The hash keys it covers.
    pub hash_range: HashRange,
}

/// A record as the stream holds it, on its own: it may be a KPL aggregate of many. On their way to the child they are
/// packed: [`Records`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRecord {
    /// Its sequence number, digits.
    pub sequence_number: SequenceNumber,
    /// Its partition key.
    pub partition_key: String,
    /// Its payload.
    pub data: Bytes,
    /// When the stream took it, in milliseconds since the epoch.
    pub approximate_arrival_ms: Option<i64>,
}

/// Where a shard iterator begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// The oldest record.
    TrimHorizon,
    /// After the newest record.
    Latest,
    /// The first record that arrived at or after this time, in milliseconds since the epoch.
    Timestamp(i64),
    /// This record.
    At(SequenceNumber),
    /// The record behind this one.
    After(SequenceNumber),
}

/// Which shards `ListShards` is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardFilter {
    /// The shards that are open now.
    AtLatest,
    /// The shards that were open at the trim horizon.
    AtTrimHorizon,
    /// The shards that were open at this time, in milliseconds since the epoch.
    AtTimestamp(i64),
}

/// One answer of the stream to a reader of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The records, in the order of the shard.
    pub records: Records,
    /// Where to read on; `None` at the end of the shard.
    pub next_iterator: Option<ShardIterator>,
    /// How far this answer is behind the tip, in milliseconds.
    pub millis_behind_latest: Option<i64>,
    /// The shards that continue this one; non-empty exactly at the end.
    pub child_shards: Vec<ChildShard>,
}

/// One event of a fan-out subscription to one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The records, in the order of the shard. May be none.
    pub records: Records,
    /// Where the next subscription begins, behind this event; `None` at the end of the shard. Can be beyond the last
    /// record, and is no checkpoint.
    pub continuation: Option<SequenceNumber>,
    /// How far this event is behind the tip, in milliseconds.
    pub millis_behind_latest: Option<i64>,
    /// The shards that continue this one; non-empty exactly at the end.
    pub child_shards: Vec<ChildShard>,
}

/// A registered consumer of a stream, as the service describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamConsumer {
    /// Its ARN, with which subscriptions are made.
    pub arn: String,
    /// `ACTIVE`: it can be used.
    pub is_active: bool,
    /// `ConsumerStatus` as the service says it.
    pub status: String,
}

/// An opaque place in a shard, valid for five minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardIterator(pub String);
