//! The leases this worker holds: found, renewed, lost, given back.

use std::sync::Arc;

use multilangd_core::ids::{ShardId, WorkerId};
use multilangd_core::leases::Lease;
use tokio::time::Instant;

/// One uninterrupted holding of a lease: a lost and re-acquired lease is another tenure (`leasing.md 3.2`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenure {
    /// The shard.
    pub shard: ShardId,
    /// Unique in this process: Java's concurrency token.
    pub token: u64,
}

/// A lease that this worker holds, as it last saw it.
#[derive(Clone, Debug)]
pub struct HeldLease {
    /// Which holding.
    pub tenure: Tenure,
    /// The row.
    pub lease: Lease,
    /// The next owner, when the leader asked for a hand-off (`leasing.md 6.2`).
    pub hand_over_to: Option<WorkerId>,
    /// The lease is not held past this time, whatever the table says.
    pub valid_until: Instant,
}

/// A snapshot of what is held, ordered by shard.
pub type Held = Arc<[HeldLease]>;
