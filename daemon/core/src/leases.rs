//! What a lease row says, how it is read and written, and the conditions of every write (`leasing.md 1, 2`).

use std::collections::BTreeSet;

use crate::ids::{HashRange, Position, ShardId, WorkerId};

/// One row of entity type LEASE (`leasing.md 1.2`).
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// `leaseKey`: the shard.
    pub key: ShardId,
    /// `leaseOwner`; during a hand-off the next owner. `None`: nobody holds it.
    pub owner: Option<WorkerId>,
    /// `checkpointOwner`: the owner that is asked to hand the lease over.
    pub checkpoint_owner: Option<WorkerId>,
    /// `leaseCounter`.
    pub counter: u64,
    /// `ownerSwitchesSinceCheckpoint`.
    pub owner_switches: u64,
    /// `checkpoint` and `checkpointSubSequenceNumber`.
    pub checkpoint: Position,
    /// `pendingCheckpoint…`, written by Java workers with two-phase checkpoints; ours only delete it.
    pub pending_checkpoint: Option<Position>,
    /// `parentShardId`.
    pub parents: BTreeSet<ShardId>,
    /// `childShardIds`.
    pub children: BTreeSet<ShardId>,
    /// `startingHashKey`, `endingHashKey`.
    pub hash_range: Option<HashRange>,
    /// `throughputKBps`, decimal text as in the row.
    pub throughput_kbps: Option<f64>,
}

impl Lease {
    /// The worker that works on the shard now: the old owner while a hand-off is pending.
    pub fn actual_owner(&self) -> Option<&WorkerId> {
        self.checkpoint_owner.as_ref().or(self.owner.as_ref())
    }
}
