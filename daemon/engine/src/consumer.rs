//! One leased shard, from the moment the lease is held to the moment it is not: wait for the parents, start the
//! child, fetch -> deaggregate -> child -> checkpoint, and end in the one way that is right.
//!
//! Owns the shard's position and its child. Never decides whether a lease is held (`leases`), and never interrupts a
//! child that works on a batch: an ending is looked at between two steps.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use multilangd_core::checkpoint::Checkpoints;
use multilangd_core::consumer::{Ending, drop_checkpointed, unfinished_parents};
use multilangd_core::deaggregate::{Deaggregated, deaggregate};
use multilangd_core::fetch::Answer;
use multilangd_core::ids::{Position, ShardId, names};
use multilangd_core::leases::Lease;
use multilangd_core::metrics::{Metric, Of, Operation};
use multilangd_core::stream::{Batch, ChildShard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument, debug, error, info, info_span, warn};

use crate::child::{CheckpointError, Checkpointer, ChildError, ChildSession, SessionSettings, Spawn};
use crate::clock::Clock;
use crate::fetch::{Fetch, FetchSettings, WorkerReadAhead};
use crate::leases::{HeldLease, Leases, Tenure};
use crate::metrics::Scope;
use crate::progress::Progress;
use crate::retry::{Patience, retry};
use crate::shards::{FinishError, Shards};
use crate::stream::Stream;

/// How shards are consumed.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// How they are read.
    pub fetch: FetchSettings,
    /// How children are talked to.
    pub session: SessionSettings,
    /// `parentShardPollIntervalMillis`.
    pub parent_poll: Duration,
    /// `taskBackoffTimeMillis`: the pause before a step that failed is tried again.
    pub task_backoff: Duration,
    /// `callProcessRecordsEvenForEmptyRecordList`.
    pub deliver_empty_batches: bool,
    /// Start a shard's child again after it failed, instead of ending the daemon as Java does.
    pub restart_failed_child: bool,
}

/// What every consumer of a worker needs. Cheap to clone.
#[derive(Clone)]
pub struct Surroundings {
    /// The stream.
    pub stream: Arc<dyn Stream>,
    /// Who starts children.
    pub spawn: Arc<dyn Spawn>,
    /// The leases of this worker.
    pub leases: Leases,
    /// Child leases, clean-up, hash ranges.
    pub shards: Shards,
    /// Time.
    pub clock: Clock,
    /// The read-ahead that all shards share.
    pub read_ahead: WorkerReadAhead,
    /// How shards are consumed.
    pub settings: Arc<ConsumerSettings>,
}

/// How often a child shard looks at parents of other workers, at most, while it has not waited long: a record shall not wait
/// more than two seconds for a split.
const PARENT_POLL_MIN: Duration = Duration::from_secs(1);
/// And how much longer than needed it waits, at most: this part of the wait so far.
const PARENT_WAIT_SHARE: u32 = 8;

/// How a consumer ended.
#[derive(Debug)]
pub enum Outcome {
    /// The shard is finished. Its lease stays held until it is cleaned up.
    ShardFinished,
    /// The lease was given away, given back or lost.
    Released,
    /// The child failed. The lease is still held.
    ChildFailed(ChildError),
}

/// How one child's time ended, when nothing failed.
enum Tenancy {
    ShardFinished,
    Released,
    /// The child answered `shardEnded` but never checkpointed the end.
    EndNotCheckpointed,
    /// The end that the reader saw cannot be right, or the reader is gone.
    ReadAgain,
}

/// The life of one leased shard.
pub struct Consumer {
    held: HeldLease,
    around: Surroundings,
    ending: watch::Receiver<Ending>,
    /// Counts the shards that this worker has finished: a bell for children that wait for their parents.
    shards_finished: watch::Receiver<u64>,
    /// As many shards of this worker may begin at once.
    starts: Arc<Semaphore>,
    progress: Arc<Progress>,
}

impl Consumer {
    /// A consumer for a lease that has just been acquired.
    pub fn new(
        held: HeldLease,
        around: Surroundings,
        ending: watch::Receiver<Ending>,
        shards_finished: watch::Receiver<u64>,
        starts: Arc<Semaphore>,
        progress: Arc<Progress>,
    ) -> Self {
        Self {
            held,
            around,
            ending,
            shards_finished,
            starts,
            progress,
        }
    }

    /// Runs to the end. Dropping the future ends the child at once.
    pub async fn run(mut self) -> Outcome {
        let span = info_span!("shard", shard = %self.held.tenure.shard);
        self.run_in_span().instrument(span).await
    }

    async fn run_in_span(&mut self) -> Outcome {
        if self.held.lease.checkpoint.is_shard_end() {
            self.finished_already();
            return Outcome::ShardFinished;
        }
        if !self.wait_for_parents().await {
            self.release().await;
            return Outcome::Released;
        }
        let mut failures = 0;
        loop {
            match self.serve().await {
                Ok(Tenancy::ShardFinished) => return Outcome::ShardFinished,
                Ok(Tenancy::Released) => return Outcome::Released,
                Ok(Tenancy::ReadAgain) => {}
                Ok(Tenancy::EndNotCheckpointed) => {
                    error!(
                        "the child answered shardEnded without having checkpointed; the shard cannot finish and its \
                         child shards cannot start. The child is started again and will get shardEnded again: call \
                         checkpoint() without a sequence number in shardEnded"
                    );
                }
                Err(error) if self.around.settings.restart_failed_child => {
                    error!(%error, "the child failed, starting it again");
                }
                Err(error) => return Outcome::ChildFailed(error),
            }
            failures += 1;
            let pause = Patience {
                wait_first: self.around.settings.task_backoff,
                ..Patience::ENDLESS
            }
            .wait(failures);
            if timeout(pause, self.ended()).await.is_ok() {
                self.release().await;
                return Outcome::Released;
            }
        }
    }

    /// Compat: the lease of a finished shard is held and renewed until it can be deleted, without a child
    /// (`consuming.md 1.10`).
    fn finished_already(&self) -> Tenancy {
        self.around.shards.queue_cleanup(&self.held.lease);
        Tenancy::ShardFinished
    }

    fn tenure(&self) -> &Tenure {
        &self.held.tenure
    }

    fn shard(&self) -> &ShardId {
        &self.held.tenure.shard
    }

    /// Waits until an ending is wanted. Cancel-safe.
    async fn ended(&mut self) -> Ending {
        match self.ending.wait_for(|ending| *ending != Ending::None).await {
            Ok(ending) => *ending,
            // The worker is gone, and with it every lease.
            Err(_) => Ending::LeaseLost,
        }
    }

    /// Until every parent is finished or gone. `false`: an ending came first (`BlockOnParentShardTask`).
    ///
    /// Compat: Java looks at parents of other workers every `parentShardPollIntervalMillis`. We look sooner while the wait
    /// is young, since most parents end a moment after their children have leases.
    async fn wait_for_parents(&mut self) -> bool {
        let mut waited = false;
        let began = Instant::now();
        loop {
            // From before the look on: a parent that finishes while the table is read rings too.
            let mut finished = self.shards_finished.clone();
            finished.mark_unchanged();
            match self.parents_unfinished().await {
                Some(parents) if parents.is_empty() => {
                    if waited {
                        info!("parents finished");
                    }
                    return *self.ending.borrow() == Ending::None;
                }
                Some(parents) => {
                    if !waited {
                        info!(parents = %names(&parents), "waiting for parent shards to be finished");
                    }
                    waited = true;
                }
                None => {}
            }
            let young = (began.elapsed() / PARENT_WAIT_SHARE).max(PARENT_POLL_MIN);
            let poll = self.around.settings.parent_poll.min(young);
            tokio::select! {
                biased;
                _ = self.ended() => return false,
                _ = async { if finished.changed().await.is_err() { std::future::pending::<()>().await } } => {}
                () = sleep(poll) => {}
            }
        }
    }

    /// `None`: the table did not say.
    async fn parents_unfinished(&self) -> Option<Vec<ShardId>> {
        let mut found = Vec::new();
        for parent in &self.held.lease.parents {
            match self.around.leases.read(parent).await {
                Ok(lease) => found.extend(lease),
                Err(error) => {
                    warn!(%parent, %error, "the parent's lease could not be read, trying again");
                    return None;
                }
            }
        }
        Some(unfinished_parents(&found))
    }

    /// Gives the lease to whom the leader wants to have it, or back to nobody when the worker stops. A lease that is
    /// lost already stays lost.
    async fn release(&self) {
        let leases = &self.around.leases;
        let held = leases
            .held()
            .borrow()
            .iter()
            .find(|held| held.tenure == *self.tenure())
            .cloned();
        let Some(held) = held else { return };
        let released = match &held.hand_over_to {
            Some(_) => leases.hand_over(self.tenure()).await,
            None => leases.give_back(self.tenure()).await,
        };
        if let Err(error) = released {
            warn!(%error, "the lease could not be given back; it expires by itself");
            leases.drop_lease(self.tenure()).await;
        }
    }

    /// One child, from its start to its end.
    async fn serve(&mut self) -> Result<Tenancy, ChildError> {
        let Some((lease, turn)) = self.fresh_lease().await else {
            self.release().await;
            return Ok(Tenancy::Released);
        };
        let checkpoint = lease.checkpoint.clone();
        if checkpoint.is_shard_end() {
            info!("the shard was finished meanwhile");
            return Ok(self.finished_already());
        }
        let around = self.around.clone();
        let mut fetch = Fetch::begin(
            around.stream.clone(),
            self.shard().clone(),
            &checkpoint,
            &around.settings.fetch,
            around.read_ahead.clone(),
            around.clock.clone(),
            around.leases.metrics().clone(),
        );
        let began = Instant::now();
        let mut child = ChildSession::start(
            around.spawn.as_ref(),
            self.shard(),
            around.settings.session.clone(),
        )
        .await?;
        drop(turn); // what the child does in its own time is no reason for others to wait
        let mut checkpoints = Checkpoints::begin(checkpoint.clone());
        let mut store = Store {
            leases: around.leases.clone(),
            tenure: self.tenure().clone(),
        };
        child.initialize(&checkpoint).await?;
        self.note_time(Operation::InitializeTask, Metric::INITIALIZE_TIME, began);
        loop {
            let step = tokio::select! {
                biased; // data is last, so that it can starve nobody
                ending = self.ended() => Step::End(ending),
                error = child.left() => Step::Left(error),
                answer = fetch.next() => Step::Answer(answer),
            };
            // In boxes, or every shard that waits would keep room for what it may do next.
            match step {
                Step::Left(error) => return Err(error),
                Step::End(ending) => {
                    drop(fetch);
                    return Box::pin(self.end(child, ending, &mut checkpoints, &mut store)).await;
                }
                Step::Answer(Some(Answer::More(batch))) => {
                    Box::pin(self.deliver(&mut child, batch, &lease, &mut checkpoints, &mut store, false))
                        .await?;
                }
                Step::Answer(Some(Answer::End(batch))) => {
                    let children = batch.child_shards.clone();
                    Box::pin(self.deliver(&mut child, batch, &lease, &mut checkpoints, &mut store, true))
                        .await?;
                    drop(fetch);
                    return Box::pin(self.finish(child, &children, &mut checkpoints, &mut store)).await;
                }
                // The reader ends only after an end of the shard, which returns above.
                Step::Answer(None) => {
                    error!("the reader of the shard ended early, starting again");
                    child.end().await;
                    return Ok(Tenancy::ReadAgain);
                }
            }
        }
    }

    /// The lease as the table has it now: the checkpoint in it is where to start. And the permission to start, for which it
    /// waits first. `None`: an ending came first, or the lease is gone.
    async fn fresh_lease(&mut self) -> Option<(Lease, OwnedSemaphorePermit)> {
        let leases = self.around.leases.clone();
        let clock = self.around.clock.clone();
        let shard = self.shard().clone();
        let starts = self.starts.clone();
        let read = async {
            let turn = starts.acquire_owned().await.ok()?;
            let lease = retry(&clock, Patience::ENDLESS, "reading the lease", || {
                leases.read(&shard)
            });
            match lease.await {
                Ok(lease) => lease.map(|lease| (lease, turn)),
                Err(error) => {
                    error!(%error, "the lease could not be read");
                    None
                }
            }
        };
        tokio::select! {
            biased;
            _ = self.ended() => None,
            read = read => read,
        }
    }

    /// Notes how long one step of a child's life took.
    fn note_time(&self, operation: Operation, metric: Metric, began: Instant) {
        let metrics = self.around.leases.metrics();
        metrics.time(operation, Of::Application, metric, began);
    }

    /// Hands one batch to the child (`ProcessTask`, `consuming.md 5.5`).
    async fn deliver(
        &self,
        child: &mut ChildSession,
        batch: Batch,
        lease: &Lease,
        checkpoints: &mut Checkpoints,
        store: &mut Store,
        at_shard_end: bool,
    ) -> Result<(), ChildError> {
        let metrics = self.around.leases.metrics();
        let mut scope = metrics.scope(Operation::ProcessTask, Of::Shard(self.shard()));
        // Compat: Java counts the empty batch at a shard's end as a failure.
        let is_empty_end = at_shard_end && batch.records.is_empty();
        if let Some(behind) = batch.millis_behind_latest {
            let behind = behind as f64;
            scope.add(Metric::MILLIS_BEHIND_LATEST, behind);
            metrics.add(
                Operation::ApplicationTracker,
                Of::Application,
                Metric::MILLIS_BEHIND_LATEST,
                behind,
            );
        }
        let delivered = self
            .deliver_in(&mut scope, child, batch, lease, checkpoints, store, at_shard_end)
            .await;
        scope.end(delivered.is_ok() && !is_empty_end);
        delivered
    }

    #[expect(clippy::too_many_arguments, reason = "one batch and everything it meets")]
    async fn deliver_in(
        &self,
        scope: &mut Scope<'_>,
        child: &mut ChildSession,
        mut batch: Batch,
        lease: &Lease,
        checkpoints: &mut Checkpoints,
        store: &mut Store,
        at_shard_end: bool,
    ) -> Result<(), ChildError> {
        let clock = &self.around.clock;
        self.progress
            .answered(batch.millis_behind_latest, clock.epoch_ms());
        let had_records = !batch.records.is_empty();
        let range = if had_records {
            let mut ending = self.ending.clone();
            tokio::select! {
                biased;
                // Asking for the range may take longer than the lease lasts: then the batch is the next owner's.
                _ = ending.wait_for(|ending| *ending != Ending::None) => return Ok(()),
                range = self.around.shards.hash_range(lease) => range,
            }
        } else {
            None
        };
        let records = &mut batch.records;
        deaggregate(records, range, |became, number| match became {
            Deaggregated::Plain | Deaggregated::Opened(_) => {}
            Deaggregated::Misplaced => {
                debug!("an aggregate of another shard was left out; the KPL sends it again");
            }
            Deaggregated::Broken(flaw) => {
                warn!(sequence_number = number, %flaw, "an aggregate with an error in it is delivered unopened");
            }
        });
        // The zeros are Java's: whoever looks at sample counts or averages finds them as before.
        scope.add(Metric::RECORDS_PROCESSED, 0.0);
        scope.add_all(
            Metric::RECORDS_PROCESSED,
            (!records.is_empty()).then_some(records.len() as f64),
        );
        drop_checkpointed(records, checkpoints.last());
        scope.add(Metric::DATA_BYTES_PROCESSED, 0.0);
        scope.add_all(Metric::DATA_BYTES_PROCESSED, records.data_sizes().map(f64::from));
        let empty_is_wanted = (had_records || !at_shard_end) && self.around.settings.deliver_empty_batches;
        if records.is_empty() && !empty_is_wanted {
            return Ok(());
        }
        let (count, bytes) = (records.len(), records.data_bytes() as u64);
        self.around.leases.record_bytes(self.tenure(), bytes);
        self.progress.batch_begins(clock.epoch_ms());
        let began = Instant::now();
        let processed = child
            .process_records(batch.records, batch.millis_behind_latest, checkpoints, store)
            .await;
        scope.time(Metric::PROCESS_RECORDS_TIME, began);
        processed?;
        self.progress.batch_done(count, bytes);
        Ok(())
    }

    /// The shard is read to its end: child leases first, then the child, then its checkpoint is checked
    /// (`ShutdownTask`, `consuming.md 1.9, 5.7`).
    async fn finish(
        &mut self,
        mut child: ChildSession,
        children: &[ChildShard],
        checkpoints: &mut Checkpoints,
        store: &mut Store,
    ) -> Result<Tenancy, ChildError> {
        #[cfg(planted)]
        if multilangd_core::planted::is_planted(multilangd_core::planted::Bug::ChildLeasesLate) {
            child.shard_ended(checkpoints, store).await?;
            child.end().await;
            let _too_late = self.around.shards.finish_shard(self.tenure(), children).await;
            return Ok(Tenancy::ShardFinished);
        }
        let began = Instant::now();
        let mut failures = 0;
        loop {
            let (shards, tenure) = (self.around.shards.clone(), self.tenure().clone());
            let finished = tokio::select! {
                biased;
                ending = self.ended() => return self.end(child, ending, checkpoints, store).await,
                finished = shards.finish_shard(&tenure, children) => finished,
            };
            let Err(error) = finished else { break };
            if error.ends_the_lease() {
                warn!(%error, "the shard cannot be finished here; its lease is given away");
                self.release().await;
                return self.end(child, Ending::LeaseLost, checkpoints, store).await;
            }
            if matches!(error, FinishError::StillOpen(_)) {
                warn!(%error, "reading again from the checkpoint");
                child.end().await;
                return Ok(Tenancy::ReadAgain);
            }
            failures += 1;
            if failures == 1 || failures % 30 == 0 {
                warn!(%error, failures, "the leases of the child shards could not be created yet, trying again");
            }
            let pause = Patience {
                wait_first: self.around.settings.task_backoff,
                ..Patience::ENDLESS
            }
            .wait(failures);
            let _ = timeout(pause, self.ended()).await;
        }
        child.shard_ended(checkpoints, store).await?;
        let is_finished = checkpoints.is_finished();
        child.end().await;
        self.note_time(Operation::ShutdownTask, Metric::SHUTDOWN_TIME, began);
        if !is_finished {
            // A lost lease explains the missing checkpoint: somebody else finishes the shard.
            let lost = *self.ending.borrow() == Ending::LeaseLost;
            return Ok(if lost {
                Tenancy::Released
            } else {
                Tenancy::EndNotCheckpointed
            });
        }
        info!(children = %names(children.iter().map(|child| &child.id)), "shard finished");
        self.around.shards.queue_cleanup(&self.held.lease);
        Ok(Tenancy::ShardFinished)
    }

    /// The lease is wanted back, or gone.
    async fn end(
        &mut self,
        mut child: ChildSession,
        ending: Ending,
        checkpoints: &mut Checkpoints,
        store: &mut Store,
    ) -> Result<Tenancy, ChildError> {
        if ending == Ending::Requested {
            let answered = child.shutdown_requested(checkpoints, store).await;
            // Compat: the lease is given away also when the child failed here (`protocol.md 10.1`).
            self.release().await;
            if let Err(error) = answered {
                error!(%error, "the child did not complete shutdownRequested; its lease is given away all the same");
                // One that answered wrongly can still hear the end of its tenure; its answer changes nothing any more.
                if matches!(error, ChildError::WrongStatus { .. })
                    && let Err(error) = child.lease_lost().await
                {
                    warn!(%error, "the child did not complete leaseLost either");
                }
                child.end().await;
                return Ok(Tenancy::Released);
            }
        }
        let began = Instant::now();
        child.lease_lost().await?;
        child.end().await;
        self.note_time(Operation::ShutdownTask, Metric::SHUTDOWN_TIME, began);
        Ok(Tenancy::Released)
    }
}

/// What happened while the child was idle.
enum Step {
    End(Ending),
    Left(ChildError),
    Answer(Option<Answer>),
}

/// Stores checkpoints in the lease, for one tenure.
struct Store {
    leases: Leases,
    tenure: Tenure,
}

#[async_trait]
impl Checkpointer for Store {
    async fn store(&mut self, position: &Position) -> Result<(), CheckpointError> {
        self.leases.checkpoint(&self.tenure, position).await
    }
}
