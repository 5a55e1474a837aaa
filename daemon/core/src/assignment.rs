//! Who should hold which lease: the leader's plan (`leasing.md 5.3-5.5`).
//!
//! Owns the plan and what the leader remembers between two looks at the table; never reads or writes a row. The
//! leader's configuration governs the fleet (trap 34).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::ids::{ShardId, WorkerId};
use crate::leases::Lease;
use crate::rng::Rng;
use crate::table::Write;
use crate::worker_metrics::WorkerMetrics;

mod fleet;
mod observations;
mod prompt;
#[cfg(test)]
mod tests;

use fleet::Fleet;
pub use observations::Observations;

/// How the leader assigns; each with Java's default (`leasing.md 9`).
#[derive(Clone, Debug, PartialEq)]
pub struct AssignmentSettings {
    /// `failoverTimeMillis`: a lease that was not renewed for longer has expired.
    pub failover: Duration,
    /// `leaseAssignmentIntervalMillis`: how long an assigned lease may stay without its first renewal.
    pub interval: Duration,
    /// `maxLeasesForWorker`.
    pub leases_max: usize,
    /// `maxThroughputPerHostKBps`.
    pub throughput_max_kbps: f64,
    /// `workerMetricsReporterFreqInMillis`: a worker that did not report for two of these gets nothing.
    pub report_interval: Duration,
    /// `isGracefulLeaseHandoffEnabled`.
    pub graceful_hand_off: bool,
    /// `gracefulLeaseHandoffTimeoutMillis`.
    pub hand_off_timeout: Duration,
    /// `varianceBalancingFrequency`: balance once in so many intervals.
    pub balance_every: u32,
    /// `dampeningPercentage`: how much of a worker's overload one balancing takes away.
    pub dampening_percent: f64,
    /// `reBalanceThresholdPercentage`: how far from the average a worker may be.
    pub rebalance_threshold_percent: f64,
    /// `allowThroughputOvershoot`: rather move one lease that is too big than none.
    pub throughput_overshoot: bool,
    /// `workerMetricsEMAAlpha`: weight of the newest sample.
    pub samples_alpha: f64,
}

impl Default for AssignmentSettings {
    fn default() -> Self {
        Self {
            failover: Duration::from_secs(10),
            interval: Duration::from_secs(20),
            leases_max: i32::MAX as usize,
            throughput_max_kbps: f64::MAX,
            report_interval: Duration::from_secs(30),
            graceful_hand_off: true,
            hand_off_timeout: Duration::from_secs(30),
            balance_every: 3,
            dampening_percent: 60.0,
            rebalance_threshold_percent: 10.0,
            throughput_overshoot: true,
            samples_alpha: 0.5,
        }
    }
}

/// The lease table as it was scanned. Rows were read at some time between the two instants, so what rose is dated by
/// the later one, and what stood still is judged by the earlier.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// All leases.
    pub leases: Vec<Lease>,
    /// All workers' reports.
    pub reports: Vec<WorkerMetrics>,
    /// When the scan began.
    pub began: Instant,
    /// When it ended.
    pub ended: Instant,
    /// When it ended, in seconds since the epoch.
    pub ended_s: i64,
}

/// A lease as the leader judges it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The row.
    pub lease: Lease,
    /// Nobody works on it, or its owner stopped renewing it.
    pub is_free: bool,
    /// A hand-off is under way, and must not be disturbed yet.
    pub is_blocked: bool,
    /// It was given to its owner before our eyes, and was not renewed since: the owner may not know yet.
    pub is_new: bool,
    /// When its counter was last seen to rise; `None`: never, it had no owner.
    pub renewed: Option<Instant>,
}

/// The fleet at one look.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// All leases.
    pub leases: Vec<Seen>,
    /// The workers that may get leases, by their reports.
    pub workers: Vec<WorkerMetrics>,
    /// Those of them that are known to start at once what they are given: this worker, and others that were seen to.
    /// None where the fleet is large.
    pub prompt: BTreeSet<WorkerId>,
    /// Of another worker nothing is known: it is passed over now, and the fleet should be balanced soon. Then it shows.
    pub has_unknown: bool,
}

/// One change of the plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// Give the lease to the worker now (`leasing.md 2.5`).
    Assign {
        /// The lease as it was seen.
        lease: Lease,
        /// Its next owner.
        to: WorkerId,
    },
    /// Give a lease that has expired to the worker, unless its owner renews it after all.
    ///
    /// Compat: Java assigns an expired lease with 2.5, which an owner that comes back to life in that moment does
    /// not defeat: both then hold it until that owner's next renewal. Ours also expects the counter.
    Reassign {
        /// The lease as it was seen.
        lease: Lease,
        /// Its next owner.
        to: WorkerId,
    },
    /// Ask its owner to hand it over (`leasing.md 2.6`).
    RequestHandOff {
        /// The lease as it was seen.
        lease: Lease,
        /// Its next owner.
        to: WorkerId,
    },
}

impl Move {
    /// The shard that moves.
    pub fn shard(&self) -> &ShardId {
        &self.lease().key
    }

    /// The lease as it was seen.
    pub fn lease(&self) -> &Lease {
        match self {
            Self::Assign { lease, .. }
            | Self::Reassign { lease, .. }
            | Self::RequestHandOff { lease, .. } => lease,
        }
    }

    /// Its next owner.
    pub fn to(&self) -> &WorkerId {
        match self {
            Self::Assign { to, .. } | Self::Reassign { to, .. } | Self::RequestHandOff { to, .. } => to,
        }
    }

    /// The write that makes it so.
    pub fn write(&self) -> Write {
        match self {
            Self::Assign { lease, to } => lease.assign(to),
            Self::Reassign { lease, to } => lease.take_expired(to),
            Self::RequestHandOff { lease, to } => {
                lease.request_hand_off(to).unwrap_or_else(|| lease.assign(to))
            }
        }
    }
}

/// What to change: first a worker for every free lease, then, if `balance`, less for those who have too much. Each
/// lease moves at most once.
pub fn plan(view: &View, settings: &AssignmentSettings, balance: bool, rng: &mut Rng) -> Vec<Move> {
    let mut fleet = Fleet::new(view, settings);
    let mut targets = fleet.assign_free();
    if balance {
        targets.extend(fleet.balance(rng));
    }
    let moves = targets.into_iter().map(|(lease, to)| {
        let seen = &view.leases[lease];
        let (lease, to) = (seen.lease.clone(), view.workers[to].worker.clone());
        let graceful = settings.graceful_hand_off && !seen.is_free && !lease.checkpoint.is_shard_end();
        if graceful {
            Move::RequestHandOff { lease, to }
        } else if seen.is_free && lease.actual_owner().is_some() {
            Move::Reassign { lease, to }
        } else {
            Move::Assign { lease, to }
        }
    });
    overdue(view).chain(moves).collect()
}

/// Hand-offs that their old owner keeps alive but does not finish: the next owner gets the lease now.
///
/// Compat: Java leaves this to the old owner's own timeout, and reassigns only what its balancing happens to choose.
fn overdue(view: &View) -> impl Iterator<Item = Move> {
    let is_active = |worker: &WorkerId| view.workers.iter().any(|report| report.worker == *worker);
    view.leases
        .iter()
        .filter(|seen| !seen.is_free && !seen.is_blocked)
        .filter_map(move |seen| {
            seen.lease.checkpoint_owner.as_ref()?;
            let to = seen.lease.owner.clone().filter(is_active)?;
            let lease = seen.lease.clone();
            Some(Move::Assign { lease, to })
        })
}
