//! The leases that must exist: created at the start and at the end of a shard, audited, cleaned up (`consuming.md 1`).
//!
//! Owns every listing of the stream's shards, and every creation and deletion of a lease. Decides nothing itself: that
//! is `core::shards`. Never touches who holds a lease.

mod clean_up;
mod end;
mod listing;
mod sync;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use multilangd_core::ids::{HashRange, ShardId, names};
use multilangd_core::leases::Lease;
use multilangd_core::metrics::{Call, Metric, Of, Operation};
use multilangd_core::shards::InitialPosition;
use multilangd_core::stream::ChildShard;
use multilangd_core::table::Write;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::field::display;
use tracing::{error, info};

pub use end::FinishError;
pub use sync::SyncError;

use crate::clock::Clock;
use crate::leases::{Leases, Tenure};
use crate::metrics::Metrics;
use crate::retry::{Patience, retry};
use crate::stream::Stream;
use crate::table::TableError;
use clean_up::Queue;
use listing::Listing;

/// How shards are kept in step with leases. [`Default`] has Java's values.
#[derive(Clone, Debug)]
pub struct ShardSettings {
    /// `initialPositionInStream`, with the time that is configured now.
    pub initial: InitialPosition,
    /// `skipShardSyncAtWorkerInitializationIfLeasesExist`. A start with leases never lists shards anyway; what is left
    /// of it is that hash ranges are unknown, so that no aggregate is dropped as misplaced.
    pub skip_hash_ranges: bool,
    /// `ignoreUnexpectedChildShards`.
    pub ignore_unexpected_child_shards: bool,
    /// `cleanupLeasesUponShardCompletion`.
    pub clean_up_completed: bool,
    /// `maxListShardsRetryAttempts`, `listShardsBackoffTimeInMillis`: for each page of a listing.
    pub list_patience: Patience,
    /// How often the first sync is tried while the stream is refused, missing, or does not add up.
    pub first_sync_patience: Patience,
    /// While there are no leases and another worker leads: how often the table is looked at.
    pub first_sync_poll: Duration,
    /// When the auditor runs first.
    pub audit_first: Duration,
    /// How long it pauses between two runs (`leasesRecoveryAuditorExecutionFrequencyMillis`).
    pub audit_interval: Duration,
    /// How often in a row a hole must be seen (`leasesRecoveryAuditorInconsistencyConfidenceThreshold`).
    pub audit_confidence: u32,
    /// How often finished leases are looked at (`leaseCleanupIntervalMillis`), if something below is due.
    pub clean_up_interval: Duration,
    /// How long after the last deletion finished leases are due (`completedLeaseCleanupIntervalMillis`).
    pub clean_up_completed_interval: Duration,
    /// How long after the last deletion leases of vanished shards are due (`garbageLeaseCleanupIntervalMillis`).
    pub clean_up_garbage_interval: Duration,
    /// Where to note what happens.
    pub metrics: Metrics,
}

impl Default for ShardSettings {
    fn default() -> Self {
        let fixed = |tries_max, wait| Patience {
            tries_max: Some(tries_max),
            wait_first: wait,
            wait_max: wait,
        };
        Self {
            initial: InitialPosition::Latest,
            skip_hash_ranges: false,
            ignore_unexpected_child_shards: false,
            clean_up_completed: true,
            list_patience: fixed(50, Duration::from_millis(1500)),
            first_sync_patience: fixed(20, Duration::from_secs(1)),
            first_sync_poll: Duration::from_secs(1),
            audit_first: Duration::from_secs(60),
            audit_interval: Duration::from_secs(120),
            audit_confidence: 3,
            clean_up_interval: Duration::from_secs(60),
            clean_up_completed_interval: Duration::from_secs(5 * 60),
            clean_up_garbage_interval: Duration::from_secs(30 * 60),
            metrics: Metrics::off(),
        }
    }
}

/// The rows of the lease table, as far as shards need them.
#[async_trait]
pub trait LeaseRows: Send + Sync + 'static {
    /// All leases.
    async fn list(&self) -> Result<Vec<Lease>, TableError>;
    /// One lease.
    async fn read(&self, key: &ShardId) -> Result<Option<Lease>, TableError>;
    /// One conditional write.
    async fn write(&self, write: &Write) -> Result<(), TableError>;
    /// Whether this worker leads.
    fn is_leader(&self) -> watch::Receiver<bool>;
    /// There are new leases, perhaps for this worker.
    fn look_now(&self);
}

#[async_trait]
impl LeaseRows for Leases {
    async fn list(&self) -> Result<Vec<Lease>, TableError> {
        Leases::list(self).await
    }

    async fn read(&self, key: &ShardId) -> Result<Option<Lease>, TableError> {
        Leases::read(self, key).await
    }

    async fn write(&self, write: &Write) -> Result<(), TableError> {
        Leases::write(self, write).await.map(drop)
    }

    fn is_leader(&self) -> watch::Receiver<bool> {
        Leases::is_leader(self)
    }

    fn look_now(&self) {
        Leases::look_now(self);
    }
}

/// Keeps leases in step with shards. Cheap to clone.
#[derive(Clone)]
pub struct Shards {
    inner: Arc<Inner>,
    tasks: Arc<Mutex<JoinSet<()>>>,
    stop: CancellationToken,
}

/// What the calls and the tasks share.
struct Inner {
    stream: Arc<dyn Stream>,
    rows: Arc<dyn LeaseRows>,
    clock: Clock,
    settings: ShardSettings,
    listing: Listing,
    queue: Queue,
}

impl Shards {
    /// Starts the auditor and the clean-up. They end when `stop` is cancelled; [`Shards::stop`] waits for that.
    pub fn start(
        stream: Arc<dyn Stream>,
        leases: impl LeaseRows,
        clock: Clock,
        settings: ShardSettings,
        stop: &CancellationToken,
    ) -> Self {
        let stop = stop.child_token();
        let inner = Arc::new(Inner {
            listing: Listing::new(stream.clone(), clock.clone(), settings.list_patience),
            stream,
            rows: Arc::new(leases),
            clock,
            settings,
            queue: Queue::default(),
        });
        let mut tasks = JoinSet::new();
        for task in [Task::Audit, Task::CleanUp] {
            let (inner, stop) = (inner.clone(), stop.clone());
            tasks.spawn(async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = inner.run(task) => {}
                }
            });
        }
        Self {
            inner,
            tasks: Arc::new(Mutex::new(tasks)),
            stop,
        }
    }

    /// Returns when the application has leases: at once if there are any, else as soon as the leader, perhaps this
    /// worker, has created them. Survives what can pass; an error needs a person. Cancel-safe.
    ///
    /// Compat: Java waits up to 30 s on an empty table, and 60 s after it has created the leases. Creating them is
    /// idempotent, so nothing is gained by waiting.
    pub async fn first_sync(&self) -> Result<(), SyncError> {
        self.inner.first_sync().await
    }

    /// Creates the leases of a finished shard's children and names them in its lease; to be called **before** the
    /// child process is told that the shard ended. `children` as the last answer named them; empty: unknown, then the
    /// stream is asked. May be repeated, and dropped at any time.
    pub async fn finish_shard(&self, tenure: &Tenure, children: &[ChildShard]) -> Result<(), FinishError> {
        self.inner.finish_shard(&tenure.shard, children).await
    }

    /// A lease at SHARD_END that this worker holds: it is deleted when it has served.
    pub fn queue_cleanup(&self, lease: &Lease) {
        self.inner.queue.add(lease.key.clone());
    }

    /// The hash keys that the shard covers, to tell misplaced aggregates: from its lease, else from the listing.
    /// `None`: unknown; then every user record is taken.
    pub async fn hash_range(&self, lease: &Lease) -> Option<HashRange> {
        match (self.inner.settings.skip_hash_ranges, lease.hash_range) {
            (true, _) => None,
            (false, Some(range)) => Some(range),
            (false, None) => self.hash_range_of(&lease.key).await,
        }
    }

    /// The hash keys that the shard covers, from the listing. `None`: unknown.
    pub async fn hash_range_of(&self, shard: &ShardId) -> Option<HashRange> {
        if self.inner.settings.skip_hash_ranges {
            return None;
        }
        self.inner.listing.hash_range_of(shard).await
    }

    /// Ends the tasks and waits for them.
    pub async fn stop(&self) {
        self.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        while let Some(ended) = tasks.join_next().await {
            if let Err(died) = ended {
                error!(%died, "a shard task died; this is a bug in multilangd");
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Task {
    Audit,
    CleanUp,
}

impl Inner {
    async fn run(&self, task: Task) {
        match task {
            Task::Audit => self.audit().await,
            Task::CleanUp => self.clean_up().await,
        }
    }

    /// All leases; repeats while that can help.
    async fn list(&self) -> Result<Vec<Lease>, TableError> {
        retry(&self.clock, Patience::ENDLESS, "listing the leases", || {
            self.rows.list()
        })
        .await
    }

    /// One lease; repeats while that can help.
    async fn read(&self, key: &ShardId) -> Result<Option<Lease>, TableError> {
        retry(&self.clock, Patience::ENDLESS, "reading a lease", || {
            self.rows.read(key)
        })
        .await
    }

    /// One write that may safely be repeated; repeats while that can help. `false`: its condition did not hold.
    async fn write(&self, write: &Write) -> Result<bool, TableError> {
        write_row(self.rows.as_ref(), &self.clock, write).await
    }

    /// Puts a new lease, unless there is one.
    async fn create(&self, lease: &Lease, why: Operation) -> Result<(), TableError> {
        let metrics = &self.settings.metrics;
        create_row(self.rows.as_ref(), &self.clock, lease, metrics, why).await
    }

    /// Names the children in a finished lease. `false`: the lease is gone.
    async fn name_children(
        &self,
        finished: &ShardId,
        children: &BTreeSet<ShardId>,
    ) -> Result<bool, TableError> {
        match Lease::set_children(finished, children) {
            Some(write) => self.write(&write).await,
            None => Ok(true),
        }
    }
}

async fn write_row(rows: &dyn LeaseRows, clock: &Clock, write: &Write) -> Result<bool, TableError> {
    let written = retry(clock, Patience::ENDLESS, "writing a lease", || rows.write(write)).await;
    match written {
        Ok(()) => Ok(true),
        Err(TableError::Conflict(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn create_row(
    rows: &dyn LeaseRows,
    clock: &Clock,
    lease: &Lease,
    metrics: &Metrics,
    why: Operation,
) -> Result<(), TableError> {
    let began = Instant::now();
    let created = write_row(rows, clock, &lease.create()).await;
    let mut scope = metrics.scope(why, Of::Application);
    scope.call(Call::CREATE_LEASE, created.is_ok(), began);
    scope.add(Metric::lease_created_at(&lease.checkpoint), 1.0);
    scope.note();
    if created? {
        let parents = (!lease.parents.is_empty()).then(|| display(names(&lease.parents)));
        info!(shard = %lease.key, checkpoint = %lease.checkpoint, parents, "lease created");
    }
    Ok(())
}
