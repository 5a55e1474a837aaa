//! The daemon's loop: leases held <-> consumers running. One way out, in order, with a limit.
//!
//! Owns which consumers run. Never touches a row or a record.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use multilangd_core::consumer::Ending;
use tokio::sync::{Semaphore, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::child::ChildError;
use crate::consumer::{Consumer, Outcome, Surroundings};
use crate::leases::{Held, Tenure};
use crate::progress::Progress;

/// How a worker runs and stops.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// `shutdownGraceMillis`: how long children may take to finish when the worker stops.
    pub grace: Duration,
    /// `gracefulLeaseHandoffTimeoutMillis`: how long a child may take before its lease is handed over without it.
    pub hand_over_timeout: Duration,
    /// `logWarningForTaskAfterMillis`: a batch that takes longer is warned about.
    pub warn_after: Option<Duration>,
    /// How often the summary line is logged.
    pub summary_interval: Duration,
}

/// Shards that begin at once, from the look at the lease to the child's process. Children are started one by one; what goes
/// ahead of them is a call and a connection for each, and of a thousand the renewals of their leases would come last.
const STARTS_MAX: usize = 16;

/// Giving leases and the lock back must not hold up an exit for longer than this, whatever the table does.
const GIVE_BACK_MAX: Duration = Duration::from_secs(5);

/// Why a worker ended.
#[derive(Debug)]
pub enum Exit {
    /// It was asked to, and everything was given back.
    Clean,
    /// It was asked to, but children did not finish within the grace; they were ended.
    Late,
    /// A child failed (`protocol.md 10.1`: exit code 1).
    ChildFailed(ChildError),
    /// Another process works under this worker's id; it has the leases.
    Twin,
    /// A consumer died of a bug of ours.
    Broken(String),
}

/// One running consumer, as the worker sees it.
struct Running {
    ending: watch::Sender<Ending>,
    progress: Arc<Progress>,
    state: State,
    hand_over_deadline: Option<Instant>,
    warned_batch_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its task runs.
    Running,
    /// The shard is finished; its lease is held until it is cleaned up.
    Finished,
}

/// The worker.
pub struct Worker {
    around: Surroundings,
    settings: WorkerSettings,
    consumers: BTreeMap<Tenure, Running>,
    tasks: JoinSet<(Tenure, Outcome)>,
    tenures: BTreeMap<Id, Tenure>,
    /// Calls to the lease table that the loop does not wait for: it must hear at once of a lease that has expired.
    errands: JoinSet<()>,
    shards_finished: watch::Sender<u64>,
    starts: Arc<Semaphore>,
    stopping: bool,
    failure: Option<ChildError>,
    has_twin: bool,
    records_reported: u64,
    records_ended: u64,
}

impl Worker {
    /// A worker over leases and shards that have been started.
    pub fn new(around: Surroundings, settings: WorkerSettings) -> Self {
        Self {
            around,
            settings,
            consumers: BTreeMap::new(),
            tasks: JoinSet::new(),
            tenures: BTreeMap::new(),
            errands: JoinSet::new(),
            shards_finished: watch::channel(0).0,
            starts: Arc::new(Semaphore::new(STARTS_MAX)),
            stopping: false,
            failure: None,
            has_twin: false,
            records_reported: 0,
            records_ended: 0,
        }
    }

    /// Runs until `stop` is cancelled and everything is given back, or a child fails. Dropping the future ends every
    /// child at once and gives nothing back.
    pub async fn run(mut self, stop: CancellationToken) -> Exit {
        let leases = self.around.leases.clone();
        let mut held = leases.held();
        held.mark_changed();
        let mut summary = interval_at(
            Instant::now() + self.settings.summary_interval,
            self.settings.summary_interval,
        );
        summary.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Deadlines of hand-overs and warnings are looked at once a second; nothing depends on the exact moment.
        let mut tick = interval_at(Instant::now() + Duration::from_secs(1), Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut broken = None;
        let mut grace_ends: Option<Instant> = None;
        let mut late = false;
        while !(self.stopping && self.tasks.is_empty()) {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !self.stopping => {
                    grace_ends = Some(self.begin_to_stop());
                }
                () = leases.twin(), if !self.has_twin => {
                    self.has_twin = true;
                    for consumer in self.consumers.values() {
                        raise(&consumer.ending, Ending::LeaseLost);
                    }
                    if !self.stopping {
                        grace_ends = Some(self.begin_to_stop());
                    }
                }
                () = at(grace_ends) => {
                    late = true;
                    break;
                }
                changed = held.changed() => {
                    if changed.is_err() {
                        broken = Some("the leases task ended".to_owned());
                        break;
                    }
                    let now_held = held.borrow_and_update().clone();
                    self.reconcile(&now_held);
                }
                Some(joined) = self.tasks.join_next_with_id() => {
                    let ended = match joined {
                        Ok((id, (tenure, outcome))) => {
                            self.tenures.remove(&id);
                            self.ended(tenure, outcome).await;
                            None
                        }
                        Err(died) => Some(died),
                    };
                    if let Some(died) = ended {
                        let tenure = self.tenures.remove(&died.id());
                        broken = Some(format!("the consumer of {tenure:?} died: {died}"));
                        break;
                    }
                    if self.failure.is_some() && !self.stopping {
                        grace_ends = Some(self.begin_to_stop());
                    }
                }
                _ = tick.tick() => self.look_at_deadlines(),
                Some(_done) = self.errands.join_next() => {}
                _ = summary.tick() => self.log_summary(),
            }
        }
        self.wind_up(late, broken).await
    }

    /// The one way out: end what still runs, give back what is still held.
    async fn wind_up(mut self, late: bool, broken: Option<String>) -> Exit {
        if late {
            let shards: Vec<_> = self.running().map(|tenure| tenure.shard.to_string()).collect();
            warn!(
                ?shards,
                grace_ms = self.settings.grace.as_millis() as u64,
                "children did not finish within the grace and are ended; raise shutdownGraceMillis if they need longer"
            );
        }
        self.tasks.shutdown().await;
        let (leases, shards) = (self.around.leases.clone(), self.around.shards.clone());
        let mut errands = std::mem::take(&mut self.errands);
        let given_back = timeout(GIVE_BACK_MAX, async move {
            while errands.join_next().await.is_some() {}
            shards.stop().await;
            leases.stop().await;
        });
        if given_back.await.is_err() {
            warn!("not everything could be given back in time; leases and lock expire by themselves");
        }
        self.log_summary();
        match (broken, self.failure, late) {
            (Some(why), _, _) => {
                error!(why, "this is a bug in multilangd");
                Exit::Broken(why)
            }
            (None, _, _) if self.has_twin => Exit::Twin,
            (None, Some(error), _) => Exit::ChildFailed(error),
            (None, None, true) => Exit::Late,
            (None, None, false) => Exit::Clean,
        }
    }

    fn running(&self) -> impl Iterator<Item = &Tenure> {
        self.consumers
            .iter()
            .filter(|(_, it)| it.state == State::Running)
            .map(|(tenure, _)| tenure)
    }

    /// Stop taking leases, ask every child to finish. Returns when the grace ends.
    fn begin_to_stop(&mut self) -> Instant {
        self.stopping = true;
        let running = self.running().count();
        info!(
            shards = running,
            grace_ms = self.settings.grace.as_millis() as u64,
            "stopping"
        );
        let deadline = Instant::now() + self.settings.grace;
        for consumer in self.consumers.values() {
            raise(&consumer.ending, Ending::Requested);
        }
        let leases = self.around.leases.clone();
        self.errands.spawn(async move {
            if timeout(GIVE_BACK_MAX, leases.stop_taking()).await.is_err() {
                warn!("the lease table does not answer; stopping all the same");
            }
        });
        deadline
    }

    /// Starts consumers for new leases, ends those whose lease is gone or wanted elsewhere.
    fn reconcile(&mut self, held: &Held) {
        let held_now: BTreeMap<&Tenure, _> = held.iter().map(|held| (&held.tenure, held)).collect();
        for (tenure, consumer) in &self.consumers {
            if !held_now.contains_key(tenure) {
                raise(&consumer.ending, Ending::LeaseLost);
            }
        }
        // A finished shard whose lease is gone is forgotten.
        self.consumers
            .retain(|tenure, consumer| consumer.state == State::Running || held_now.contains_key(tenure));
        for held in held.iter() {
            let is_known = self.consumers.contains_key(&held.tenure);
            if !is_known && !self.stopping {
                self.start(held.clone());
            }
            if let Some(to) = &held.hand_over_to
                && let Some(consumer) = self.consumers.get_mut(&held.tenure)
                && consumer.state == State::Running
                && consumer.hand_over_deadline.is_none()
            {
                info!(
                    shard = %held.tenure.shard, %to,
                    "the leader gives this shard to another worker: asking the child to finish"
                );
                consumer.hand_over_deadline = Some(Instant::now() + self.settings.hand_over_timeout);
                raise(&consumer.ending, Ending::Requested);
            }
        }
    }

    fn start(&mut self, held: crate::leases::HeldLease) {
        let (ending, ended) = watch::channel(Ending::None);
        let progress = Arc::new(Progress::default());
        let tenure = held.tenure.clone();
        let consumer = Consumer::new(
            held,
            self.around.clone(),
            ended,
            self.shards_finished.subscribe(),
            self.starts.clone(),
            progress.clone(),
        );
        let task = {
            let tenure = tenure.clone();
            self.tasks.spawn(async move { (tenure, consumer.run().await) })
        };
        self.tenures.insert(task.id(), tenure.clone());
        let running = Running {
            ending,
            progress,
            state: State::Running,
            hand_over_deadline: None,
            warned_batch_ms: None,
        };
        self.consumers.insert(tenure, running);
    }

    async fn ended(&mut self, tenure: Tenure, outcome: Outcome) {
        match outcome {
            Outcome::ShardFinished => {
                if let Some(consumer) = self.consumers.get_mut(&tenure) {
                    consumer.state = State::Finished;
                }
                self.shards_finished.send_modify(|count| *count += 1);
                self.around.leases.look_now();
            }
            Outcome::Released => {
                self.forget(&tenure);
                // A consumer that ended must not keep its lease alive (`consuming.md 9`, trap 19).
                self.around.leases.drop_lease(&tenure).await;
            }
            Outcome::ChildFailed(failure) => {
                self.forget(&tenure);
                error!(shard = %tenure.shard, error = %failure, "the child failed; the daemon ends, as the Java daemon does");
                let leases = self.around.leases.clone();
                self.errands.spawn(async move {
                    if let Err(error) = leases.give_back(&tenure).await {
                        warn!(shard = %tenure.shard, %error, "the lease could not be given back; it expires by itself");
                    }
                });
                self.failure.get_or_insert(failure);
            }
        }
    }

    fn forget(&mut self, tenure: &Tenure) {
        if let Some(consumer) = self.consumers.remove(tenure) {
            self.records_ended += consumer.progress.records();
        }
    }

    fn look_at_deadlines(&mut self) {
        let now = Instant::now();
        let mut overdue = Vec::new();
        for (tenure, consumer) in &mut self.consumers {
            if consumer
                .hand_over_deadline
                .is_some_and(|deadline| deadline <= now)
            {
                consumer.hand_over_deadline = Some(now + self.settings.hand_over_timeout);
                overdue.push(tenure.clone());
            }
            warn_if_slow(
                tenure,
                consumer,
                self.settings.warn_after,
                self.around.clock.epoch_ms(),
            );
        }
        for tenure in overdue {
            warn!(shard = %tenure.shard, "the child did not finish within gracefulLeaseHandoffTimeoutMillis: the lease \
                is handed over without it");
            let leases = self.around.leases.clone();
            self.errands.spawn(async move {
                if let Err(error) = leases.hand_over(&tenure).await {
                    warn!(shard = %tenure.shard, %error, "the lease could not be handed over, trying again");
                }
            });
        }
    }

    fn log_summary(&mut self) {
        let running: Vec<_> = self
            .consumers
            .iter()
            .filter(|(_, it)| it.state == State::Running)
            .collect();
        let records: u64 = self.records_ended
            + self
                .consumers
                .values()
                .map(|it| it.progress.records())
                .sum::<u64>();
        let furthest = running
            .iter()
            .filter_map(|(tenure, it)| {
                it.progress
                    .millis_behind_latest()
                    .map(|behind| (behind, &tenure.shard))
            })
            .max();
        info!(
            shards = running.len(),
            records = records.saturating_sub(self.records_reported),
            records_total = records,
            millis_behind_latest = furthest.map(|(behind, _)| behind),
            furthest_behind = furthest.map(|(_, shard)| tracing::field::display(shard)),
            "progress"
        );
        self.records_reported = records;
    }
}

fn raise(ending: &watch::Sender<Ending>, to: Ending) {
    ending.send_if_modified(|now| {
        let raised = to > *now;
        *now = to.max(*now);
        raised
    });
}

fn warn_if_slow(tenure: &Tenure, consumer: &mut Running, warn_after: Option<Duration>, now_ms: i64) {
    let (Some(warn_after), Some(since)) = (warn_after, consumer.progress.batch_since_ms()) else {
        return;
    };
    if now_ms - since > warn_after.as_millis() as i64 && consumer.warned_batch_ms != Some(since) {
        consumer.warned_batch_ms = Some(since);
        warn!(shard = %tenure.shard, batch_ms = now_ms - since, "the child has been working on one batch for long");
    }
}

/// Sleeps until a deadline; for ever where there is none.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep(deadline.saturating_duration_since(Instant::now())).await,
        None => std::future::pending().await,
    }
}
