//! The leases this worker holds: found, renewed, lost, given back (`leasing.md 2, 3, 5-7`).
//!
//! [`Leases`] is the handle; behind it one task owns what is held, and others want the leader's lock, assign while it
//! is held, find what was assigned to this worker, and report that it is there. What is decided purely is in
//! `core::{leases, assignment, leader}`.

use std::sync::Arc;
use std::time::Duration;

use multilangd_core::assignment::AssignmentSettings;
use multilangd_core::client_version::{Configured, Rules};
use multilangd_core::ids::{Position, ShardId, WorkerId};
use multilangd_core::leases::Lease;
use multilangd_core::table::{Item, Write};
use multilangd_core::taker::TakerSettings;
use tokio::sync::{Mutex, Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::warn;

use crate::child::CheckpointError;
use crate::metrics::Metrics;
use crate::platform::Host;
use crate::table::{Table, TableError, TableSettings};

mod discovery;
mod identity;
mod keeper;
mod operation;
mod places;
mod rows;
mod rules;
mod start;

pub(crate) use identity::Identity;
pub(crate) use keeper::Message;
pub use places::LegacyTables;
pub(crate) use places::{LegacyRows, Places, place};
pub(crate) use rows::{Found, Rows};
pub use start::StartError;

/// The look at the table of a worker that leaves must not hold up its exit.
const LAST_SCAN_MAX: Duration = Duration::from_secs(2);

/// So must the last round of a leaving leader.
const LAST_ROUND_MAX: Duration = Duration::from_secs(2);

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

/// How leases are kept, each with Java's default (`leasing.md 9`).
#[derive(Clone)]
pub struct LeaseSettings {
    /// `workerId`.
    pub worker: WorkerId,
    /// `applicationName`, for logs.
    pub application: String,
    /// How the table is created.
    pub table: TableSettings,
    /// `leaseTablePitrEnabled`: switched on at every start.
    pub point_in_time_recovery: bool,
    /// `leaseTableScanTotalSegments`; `None`: by the table's size.
    pub scan_segments: Option<u32>,
    /// `epsilonMillis`: what is taken off each interval.
    pub epsilon: Duration,
    /// How this worker assigns while it leads; the failover time, and the intervals that follow from it.
    pub assignment: AssignmentSettings,
    /// `staleWorkerMetricsEntryCleanupDuration`: a worker's row that was not written for so long is deleted.
    pub stale_report: Duration,
    /// Where this worker runs, to report its CPU. `None` (`disableWorkerMetrics`): it reports that it measures nothing.
    pub host: Option<Arc<dyn Host>>,
    /// `inMemoryWorkerMetricsCaptureFrequencyMillis`: between two CPU samples.
    pub capture_interval: Duration,
    /// `noOfPersistedMetricsPerWorkerMetrics`: averages kept in this worker's row.
    pub reports_kept: usize,
    /// `clientVersionConfig`: which rules this worker wants the fleet to play by.
    pub client_version: Configured,
    /// `maxLeasesToStealAtOneTime`, by the rules of 2.x.
    pub steal_max: usize,
    /// `enablePriorityLeaseAssignment`, by the rules of 2.x.
    pub priority: bool,
    /// The tables of Java 3.0-3.4, which are used where they exist, and never created. `None`: not looked for.
    pub legacy: Option<LegacyTables>,
    /// `migrateAllEntitiesToLeaseTable`.
    pub migrate: bool,
    /// `tableMigrationCompleteBakeTimeSeconds`.
    pub migration_bake: Duration,
    /// Where to note what happens.
    pub metrics: Metrics,
}

impl LeaseSettings {
    /// Java's defaults.
    pub fn new(worker: WorkerId, application: &str) -> Self {
        Self {
            worker,
            application: application.to_owned(),
            table: TableSettings::default(),
            point_in_time_recovery: false,
            scan_segments: None,
            epsilon: Duration::from_millis(25),
            assignment: AssignmentSettings::default(),
            stale_report: Duration::from_secs(24 * 60 * 60),
            host: None,
            capture_interval: Duration::from_secs(1),
            reports_kept: 10,
            client_version: Configured::V3,
            steal_max: 1,
            priority: true,
            legacy: None,
            migrate: false,
            migration_bake: Duration::from_secs(24 * 60 * 60),
            metrics: Metrics::off(),
        }
    }

    /// How often a held lease is renewed: F/3 - E.
    pub fn renewal_interval(&self) -> Duration {
        let third = Duration::from_millis(self.assignment.failover.as_millis() as u64 / 3);
        third
            .saturating_sub(self.epsilon)
            .max(self.assignment.failover / 10)
            .max(Duration::from_millis(1))
    }

    /// How this worker takes leases by the rules of 2.x.
    pub(crate) fn taker(&self) -> TakerSettings {
        TakerSettings {
            failover: self.assignment.failover,
            leases_max: self.assignment.leases_max,
            steal_max: self.steal_max,
            priority: self.priority,
        }
    }

    /// How often a worker that does not lead looks for leases that it was given.
    ///
    /// Compat: A/2 - E in Java (9975 ms), and never slower here. A leader sees within a second that a lease needs a
    /// worker, and this is the rest of the two seconds in which it shall flow; a query of the own keys costs half a
    /// read unit.
    pub fn discovery_interval(&self) -> Duration {
        self.discovery_interval_of_leader()
            .min(Duration::from_millis(800))
    }

    /// The same for a leader.
    pub fn discovery_interval_of_leader(&self) -> Duration {
        let half = (self.assignment.interval / 2).saturating_sub(self.epsilon);
        half.max(Duration::from_millis(1))
    }
}

/// "Do your round now", for the two tasks that have rounds.
#[derive(Clone, Default)]
pub(crate) struct Signals {
    /// To the leader's assignment.
    pub(crate) assign: Arc<Notify>,
    /// To this worker's discovery.
    pub(crate) discover: Arc<Notify>,
}

/// The leases of this worker. Cheap to clone; its tasks end with [`Leases::stop`], or abruptly with the last clone.
#[derive(Clone)]
pub struct Leases {
    inner: Arc<Inner>,
}

struct Inner {
    rows: Rows,
    metrics: Metrics,
    keeper: mpsc::Sender<Message>,
    held: watch::Receiver<Held>,
    is_leader: watch::Receiver<bool>,
    rules: watch::Receiver<Rules>,
    is_taking: watch::Sender<bool>,
    identity: Identity,
    signals: Signals,
    last_round: mpsc::Sender<oneshot::Sender<()>>,
    /// Ends discovery and the metrics row.
    taking: CancellationToken,
    /// Ends the lock, which is released then.
    leading: CancellationToken,
    /// Ends everything else.
    running: CancellationToken,
    tasks: Mutex<Tasks>,
    _ends_with_the_last_handle: DropGuard,
}

#[derive(Default)]
struct Tasks {
    reporting: JoinSet<()>,
    leading: JoinSet<()>,
    rest: JoinSet<()>,
}

impl Leases {
    /// Everything of `leasing.md 7.2`, in that order, without its waits: the table and its index, the rules of the
    /// fleet, this worker's metrics row, its own leases of an earlier life, then the tasks. Returns as soon as leases
    /// can be created; waits for a failing table for as long as it fails, until `stop`.
    pub async fn start(
        table: Arc<dyn Table>,
        clock: crate::clock::Clock,
        settings: LeaseSettings,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        match stop
            .run_until_cancelled(start::start(table, clock, settings))
            .await
        {
            Some(started) => started,
            None => Err(StartError::Stopped),
        }
    }

    /// What is held, as snapshots. A lease that expires, is lost or is given away vanishes at once.
    pub fn held(&self) -> watch::Receiver<Held> {
        self.inner.held.clone()
    }

    /// Whether this worker leads the fleet.
    pub fn is_leader(&self) -> watch::Receiver<bool> {
        self.inner.is_leader.clone()
    }

    /// The rules that this worker plays by.
    pub fn rules(&self) -> watch::Receiver<Rules> {
        self.inner.rules.clone()
    }

    /// Returns when another process was found to work under this worker's id. Nothing is held from then on, and the leases
    /// stay as they are, for the other one.
    pub async fn twin(&self) {
        self.inner.identity.lost().await;
    }

    /// Where this worker notes what happens.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// The lease table.
    pub fn table(&self) -> &Arc<dyn Table> {
        &self.inner.rows.table
    }

    /// One lease, read consistently.
    pub async fn read(&self, shard: &ShardId) -> Result<Option<Lease>, TableError> {
        self.inner.rows.lease(shard).await
    }

    /// All leases, ordered by shard, read consistently. Rows that cannot be read are skipped, and logged once.
    pub async fn list(&self) -> Result<Vec<Lease>, TableError> {
        Ok(self.inner.rows.scan(true).await?.leases)
    }

    /// Stores a checkpoint under a tenure (`leasing.md 2.3, 3.2`). `Ok`: it is in the table. After an error it may
    /// be, except after [`CheckpointError::Throttled`].
    pub async fn checkpoint(&self, tenure: &Tenure, position: &Position) -> Result<(), CheckpointError> {
        let (reply, answer) = oneshot::channel();
        let message = Message::Checkpoint(tenure.clone(), position.clone(), reply);
        match self.inner.keeper.send(message).await {
            Ok(()) => answer.await.unwrap_or(Err(CheckpointError::LeaseLost)),
            Err(_) => Err(CheckpointError::LeaseLost),
        }
    }

    /// Counts the payload bytes of a batch given to the child, for the leader's balancing (`leasing.md 3.4`). When
    /// the task is too busy to count, they are left out.
    pub fn record_bytes(&self, tenure: &Tenure, bytes: u64) {
        drop(self.inner.keeper.try_send(Message::Bytes(tenure.clone(), bytes)));
    }

    /// Stops renewing the lease; the row stays as it is. Discovery takes it again if it still names this worker.
    pub async fn drop_lease(&self, tenure: &Tenure) {
        let (reply, answer) = oneshot::channel();
        if self
            .inner
            .keeper
            .send(Message::Drop(tenure.clone(), reply))
            .await
            .is_ok()
        {
            let _gone = answer.await;
        }
    }

    /// Ends a requested hand-off: the lease goes to [`HeldLease::hand_over_to`] (`leasing.md 2.5`) and is no longer
    /// held, from the moment this is asked for. After an error nobody knows whose it is by its row; it is no longer
    /// renewed.
    pub async fn hand_over(&self, tenure: &Tenure) -> Result<(), TableError> {
        self.give_away(tenure).await
    }

    /// Gives the lease back to nobody (`leasing.md 2.7`), or to the next owner if a hand-off was requested; it is no
    /// longer held, as with [`Leases::hand_over`].
    pub async fn give_back(&self, tenure: &Tenure) -> Result<(), TableError> {
        self.give_away(tenure).await
    }

    async fn give_away(&self, tenure: &Tenure) -> Result<(), TableError> {
        let (reply, answer) = oneshot::channel();
        match self
            .inner
            .keeper
            .send(Message::GiveAway(tenure.clone(), reply))
            .await
        {
            Ok(()) => answer.await.unwrap_or(Ok(())),
            Err(_) => Ok(()),
        }
    }

    /// Creates a lease. `false`: there is one already.
    pub async fn create_lease(&self, lease: &Lease) -> Result<bool, TableError> {
        match self.write(&lease.create()).await {
            Ok(_) => Ok(true),
            Err(TableError::Conflict(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// One write to the lease table, tried once.
    pub async fn write(&self, write: &Write) -> Result<Option<Item>, TableError> {
        self.inner.rows.write(write).await
    }

    /// Leases were created, or a shard ended: assign and discover now instead of at the next round.
    pub fn look_now(&self) {
        self.inner.signals.assign.notify_one();
        self.inner.signals.discover.notify_one();
    }

    /// A graceful stop begins: the metrics row is deleted, nothing more is assigned to or found by this worker. What
    /// is held is still renewed, and others still get their leases from this leader.
    pub async fn stop_taking(&self) {
        self.inner.is_taking.send_replace(false);
        drop(self.inner.keeper.send(Message::StopTaking).await);
        self.inner.taking.cancel();
        let mut tasks = self.inner.tasks.lock().await;
        while tasks.reporting.join_next().await.is_some() {}
    }

    async fn give_all_away(&self) {
        let (reply, all_given) = oneshot::channel();
        if self.inner.keeper.send(Message::GiveAwayAll(reply)).await.is_ok() {
            let _all = all_given.await;
        }
    }

    /// The end, after the consumers' end: gives back what is still held, lets a leader hand it to others, releases
    /// the lock, and waits for all tasks.
    pub async fn stop(&self) {
        self.stop_taking().await;
        if !self.inner.identity.is_lost() {
            self.leave_nothing_behind().await;
        }
        self.inner.leading.cancel();
        let mut tasks = self.inner.tasks.lock().await;
        while tasks.leading.join_next().await.is_some() {}
        self.inner.running.cancel();
        while tasks.rest.join_next().await.is_some() {}
    }

    async fn leave_nothing_behind(&self) {
        self.give_all_away().await;
        // What was assigned to this worker in its last moments, and never held, is given back as well.
        if let Ok(Ok(found)) = timeout(LAST_SCAN_MAX, self.inner.rows.scan(true)).await {
            drop(self.inner.keeper.send(Message::Found(found.leases)).await);
        }
        self.give_all_away().await;
        // Compat: Java leaves without a word, and its successors wait for expiry. A leaving leader of ours assigns
        // its leases to those who stay before it releases the lock.
        let (reply, done) = oneshot::channel();
        let last_round = async {
            if self.inner.last_round.send(reply).await.is_ok() {
                let _done = done.await;
            }
        };
        if timeout(LAST_ROUND_MAX, last_round).await.is_err() {
            warn!("the leases given back could not be assigned in time; the next leader assigns them");
        }
    }
}
