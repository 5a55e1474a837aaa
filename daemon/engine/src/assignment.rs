//! The task that, while this worker leads, gives every lease of the fleet a worker (`leasing.md 5.3`), and as a deputy
//! watches the leader's, or takes what no leader gives anybody. The plans themselves are made in
//! `core::{assignment, deputy, rescue}`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use multilangd_core::assignment::{AssignmentSettings, Move, Observations, Scanned, Seen, View, plan};
use multilangd_core::client_version::Rules;
use multilangd_core::deputy::Duty;
use multilangd_core::ids::{ShardId, WorkerId};
use multilangd_core::leases::LEASE_KEY;
use multilangd_core::metrics::{Call, Metric, Of, Operation, fleet_min_support_code};
use multilangd_core::table_migration::METRICS_KEY;
use multilangd_core::worker_metrics::WorkerMetrics;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::clock::Clock;
use crate::leases::{Found, Message, Places, Rows, Signals};
use crate::metrics::{Metrics, Scope};
use crate::retry::{Patience, retry};
use crate::table::TableError;

/// Writes under way at once, so that a first start with thousands of shards does not become as many connections.
const WRITES_MAX: usize = 32;
/// From one look of a leader, or of a deputy, to the next. Java looks once per assignment interval (20 s). A lease shall
/// find a worker two seconds after it has expired, and its last renewal is seen this much late; the rest is for its next
/// owner to find it. For any number of leases, a scan a second costs about a fortieth of what their renewals cost.
const LOOK: Duration = Duration::from_secs(1);
/// No more of the time than this is spent looking, where the table is so large or slow that a look takes long.
const LOOK_SHARE: u32 = 4;

mod deputy;

/// The leader's rounds, and a deputy's looks.
pub(crate) struct Assignment {
    pub(crate) rows: Rows,
    pub(crate) places: Places,
    pub(crate) me: WorkerId,
    pub(crate) clock: Clock,
    pub(crate) settings: AssignmentSettings,
    pub(crate) stale_report: Duration,
    /// Whether this worker holds the leader's lock. By the rules of 2.x nobody does.
    pub(crate) is_leader: watch::Receiver<bool>,
    /// What this worker looks at while it does not lead; most look at nothing.
    pub(crate) duty: watch::Receiver<Option<Duty>>,
    pub(crate) rules: watch::Receiver<Rules>,
    pub(crate) is_taking: watch::Receiver<bool>,
    pub(crate) signals: Signals,
    pub(crate) keeper: mpsc::Sender<Message>,
    /// The leaving leader's last round: asked for once, answered when it is done.
    pub(crate) last_round: mpsc::Receiver<oneshot::Sender<()>>,
    pub(crate) metrics: Metrics,
}

struct Memory {
    observations: Observations,
    workers: BTreeSet<WorkerId>,
    balanced: Option<Instant>,
    /// A worker was passed over because nobody knows it: it gets its share as soon as nothing else is on the move.
    owes_balance: bool,
    /// Rows at the last look at all of them.
    rows_count: usize,
    /// The leases of the leader that this deputy watches.
    watched: BTreeSet<ShardId>,
}

enum Event {
    /// Something has happened that wants a round: what was just written must be seen.
    Asked,
    Due,
    Watch(Duty),
    NewDuty,
    Leader(bool),
    Last(oneshot::Sender<()>),
    Gone,
}

impl Assignment {
    /// Runs until `stop`. `first` is what was scanned at the start, so that a lease that expires by then is known to
    /// have when this worker becomes leader.
    pub(crate) async fn run(mut self, first: (Instant, Found), stop: CancellationToken) {
        let mut memory = Memory {
            observations: Observations::default(),
            workers: BTreeSet::new(),
            balanced: None,
            owes_balance: false,
            rows_count: 0,
            watched: BTreeSet::new(),
        };
        self.look(&mut memory, first.1, first.0);
        let mut due = Instant::now();
        loop {
            let leads = *self.is_leader.borrow_and_update();
            let duty = self.duty.borrow_and_update().clone().filter(|_| !leads);
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                last = self.last_round.recv() => last.map_or(Event::Gone, Event::Last),
                changed = self.is_leader.changed() => match changed {
                    Ok(()) => Event::Leader(*self.is_leader.borrow()),
                    Err(_) => Event::Gone,
                },
                changed = self.duty.changed() => changed.map_or(Event::Gone, |()| Event::NewDuty),
                () = self.signals.assign.notified(), if leads => Event::Asked,
                () = tokio::time::sleep_until(due), if leads || duty.is_some() => {
                    duty.map_or(Event::Due, Event::Watch)
                }
            };
            let is_asked = matches!(event, Event::Asked | Event::Leader(true));
            match event {
                Event::Asked | Event::Due | Event::Leader(true) => {
                    match stop.run_until_cancelled(self.round(&mut memory, is_asked)).await {
                        Some(next) => due = next,
                        None => break,
                    }
                }
                Event::Watch(duty) => match stop.run_until_cancelled(self.watch(&mut memory, &duty)).await {
                    Some(next) => due = next,
                    None => break,
                },
                Event::NewDuty => due = Instant::now(),
                Event::Leader(false) => {
                    due = Instant::now();
                    memory.balanced = None;
                    memory.workers.clear();
                }
                Event::Last(done) => {
                    if leads {
                        stop.run_until_cancelled(self.round(&mut memory, true)).await;
                    }
                    let _ = done.send(());
                }
                Event::Gone => break,
            }
        }
    }

    fn receiver(&self) -> Option<WorkerId> {
        self.is_taking.borrow().then(|| self.me.clone())
    }

    fn look(&self, memory: &mut Memory, found: Found, began: Instant) -> View {
        memory.rows_count = found.leases.len() + found.reports.len();
        let scanned = Scanned {
            leases: found.leases,
            reports: found.reports,
            began: began.into_std(),
            ended: Instant::now().into_std(),
            ended_s: self.clock.epoch_ms() / 1000,
        };
        memory
            .observations
            .look(scanned, self.receiver().as_ref(), &self.settings)
    }

    /// What this worker was given, by its leader or by an old owner at the end of a hand-off.
    ///
    /// Compat: Java looks for it in the index, a leader too. What is seen in the table itself need not wait for that.
    async fn find_own(&self, view: &View) {
        let is_own = |seen: &&Seen| seen.is_new && seen.lease.can_be_adopted_by(&self.me);
        let own = view.leases.iter().filter(is_own);
        let own: Vec<_> = own.map(|seen| seen.lease.clone()).collect();
        if !own.is_empty() && *self.is_taking.borrow() {
            drop(self.keeper.send(Message::Found(own)).await);
        }
    }

    /// Looks, plans, writes. Returns when to look again. `consistent`: a stale row costs one round, no more, because it is
    /// noticed by the condition of the write; but what was just created or given back shall not wait for the next one.
    async fn round(&self, memory: &mut Memory, consistent: bool) -> Instant {
        let mut scope = self.metrics.scope(Operation::LeaseAssignment, Of::Application);
        let next = self.look_and_assign(memory, consistent, &mut scope).await;
        scope.end(next.is_some());
        next.unwrap_or_else(|| Instant::now() + self.settings.interval)
    }

    /// `None`: the table cannot be looked at.
    async fn look_and_assign(
        &self,
        memory: &mut Memory,
        consistent: bool,
        scope: &mut Scope<'_>,
    ) -> Option<Instant> {
        let scan = || async {
            let began = Instant::now();
            let found = self.places.scan(consistent).await?;
            Ok::<_, TableError>((began, Instant::now(), found))
        };
        let (began, ended, mut found) = match retry(
            &self.clock,
            Patience::ENDLESS,
            "looking at all leases",
            scan,
        )
        .await
        {
            Ok(scanned) => scanned,
            Err(error) => {
                error!(%error, table = self.rows.table.name(), "the leader cannot look at the lease table");
                return None;
            }
        };
        if !*self.is_leader.borrow() {
            return Some(Instant::now());
        }
        scope.time(Metric::LOAD_TIME, began);
        self.clean_up(&self.rows, LEASE_KEY, &found.reports).await;
        if let Some(legacy) = self.places.legacy() {
            self.clean_up(&legacy.metrics, METRICS_KEY, &found.legacy_reports)
                .await;
        }
        found.reports.append(&mut found.legacy_reports);
        self.note_fleet(&found, scope);
        if self.receiver().is_none() {
            found.reports.retain(|report| report.worker != self.me);
        }
        // Compat: Java hands over from the first moment, and what it hands to a worker that has not changed its rules yet waits
        // until it expires.
        let now_ms = self.clock.epoch_ms();
        let may_balance = found
            .version
            .as_ref()
            .is_none_or(|row| row.all_are_assigned(now_ms));
        let judged = began;
        let view = self.look(memory, found, judged);
        self.find_own(&view).await;
        let now = Instant::now();
        let workers: BTreeSet<WorkerId> = view.workers.iter().map(|report| report.worker.clone()).collect();
        let balance_interval = self.settings.interval * self.settings.balance_every.max(1);
        let is_new = !workers.is_subset(&memory.workers);
        let is_due = memory.balanced.is_none_or(|last| now >= last + balance_interval);
        memory.owes_balance |= view.has_unknown && view.leases.iter().any(|seen| seen.is_free);
        let is_quiet = |seen: &Seen| !seen.is_free && !seen.is_new && seen.lease.checkpoint_owner.is_none();
        let is_owed = memory.owes_balance && view.leases.iter().all(is_quiet);
        let is_wanted = is_new || is_due || is_owed;
        let balance = is_wanted && may_balance;
        // What its owner has not found yet cannot be moved: that is made up for as soon as it has.
        let is_complete = view.leases.iter().all(|seen| seen.is_free || !seen.is_new);
        if is_wanted {
            memory.balanced = (balance && is_complete).then_some(now);
        }
        if is_owed && balance {
            memory.owes_balance = false;
        }
        if workers != memory.workers {
            info!(
                workers = workers.len(),
                leases = view.leases.len(),
                "fleet changed"
            );
        }
        memory.workers = workers;
        let began = Instant::now();
        let moves = self.clock.chance(|rng| plan(&view, &self.settings, balance, rng));
        // The last round of a leader that leaves nobody behind says nothing about the fleet.
        if !view.workers.is_empty() {
            note_plan(&view, &moves, balance, began, scope);
        }
        let began = Instant::now();
        let failed = self.write(moves, memory).await;
        scope.add(Metric::FAILED_ASSIGNMENTS, failed as f64);
        scope.call(Call::ASSIGN_LEASES, true, began);
        let regular = next_look(judged, ended);
        let observations = &memory.observations;
        let deadline = observations.next_deadline(&self.settings, judged.into_std());
        Some(deadline.map_or(regular, |deadline| {
            regular.min(Instant::from_std(deadline) + Duration::from_millis(1))
        }))
    }

    /// What the table says about the fleet.
    fn note_fleet(&self, found: &Found, scope: &mut Scope<'_>) {
        let count = |workers: usize| (workers > 0).then_some(workers as f64);
        let invalid = found.reports.iter().filter(|report| !report.is_valid()).count();
        let failing = found.reports.iter().filter(|report| report.is_failing()).count();
        scope.add_all(Metric::INVALID_WORKERS, count(invalid));
        scope.add_all(Metric::FAILING_WORKERS, count(failing));
        scope.add_all(Metric::UNREADABLE_LEASES, count(found.unreadable));
        let owners = found
            .leases
            .iter()
            .filter_map(|lease| lease.owner.as_ref())
            .collect();
        let code_age_max = self.settings.report_interval * 3;
        let now_s = self.clock.epoch_ms() / 1000;
        if let Some(code) = fleet_min_support_code(&owners, &found.reports, now_s, code_age_max) {
            let code = code as f64;
            self.metrics.add(
                Operation::WorkerMetrics,
                Of::Application,
                Metric::FLEET_MIN_SUPPORT_CODE,
                code,
            );
        }
        let status = *self.places.status().borrow();
        self.metrics.add(
            Operation::TableMigration,
            Of::Application,
            Metric::STATUS_ORDINAL,
            f64::from(status.ordinal()),
        );
    }

    /// Returns how many moves were not made.
    async fn write(&self, moves: Vec<Move>, memory: &mut Memory) -> usize {
        let permits = Arc::new(Semaphore::new(WRITES_MAX));
        let mut writes = JoinSet::new();
        for step in moves {
            let (rows, permits) = (self.rows.clone(), permits.clone());
            writes.spawn(async move {
                let _permit = permits.acquire().await;
                let sent = Instant::now();
                let answer = rows.write(&step.write()).await;
                (step, sent, answer)
            });
        }
        let (mut won, mut asked) = (Vec::new(), Vec::new());
        let (mut failed, mut lost) = (0, 0);
        while let Some(Ok((step, sent, answer))) = writes.join_next().await {
            let (shard, to) = (step.shard(), step.to());
            let from = step.lease().actual_owner().map(tracing::field::display);
            match answer {
                Ok(item) => {
                    let lease = item.and_then(|item| self.rows.lease_in(&item));
                    let lease = lease.unwrap_or_else(|| step.lease().after(&step.write()));
                    match &step {
                        Move::Assign { to, .. } | Move::Reassign { to, .. } if *to == self.me => {
                            debug!(%shard, from, "lease assigned")
                        }
                        Move::Assign { .. } => info!(%shard, %to, from, "lease assigned"),
                        Move::Reassign { .. } => info!(%shard, %to, from, "expired lease assigned"),
                        Move::RequestHandOff { .. } => info!(%shard, %to, from, "hand-off requested"),
                    }
                    memory
                        .observations
                        .moved(&lease, &self.me, &self.settings, Instant::now().into_std());
                    if lease.can_be_adopted_by(&self.me) {
                        won.push((lease, sent));
                    } else if lease.hand_over_to(&self.me).is_some() {
                        asked.push(lease);
                    }
                }
                // Somebody was first: the next look shows who.
                Err(TableError::Conflict(_)) => {
                    lost += 1;
                    debug!(%shard, "the lease changed before it could be assigned");
                }
                Err(error) => {
                    failed += 1;
                    // A table that fails fails for all leases: it is said of the first.
                    if failed == 1 {
                        warn!(%shard, %to, %error, "the lease could not be assigned, trying again");
                    }
                    // Applied unseen, it may be ours: discovery finds out.
                    self.signals.discover.notify_one();
                }
            }
        }
        if !asked.is_empty() {
            drop(self.keeper.send(Message::Asked(asked)).await);
        }
        if !won.is_empty() {
            drop(self.keeper.send(Message::Assigned(won)).await);
        }
        failed + lost
    }

    async fn clean_up(&self, rows: &Rows, key_name: &'static str, reports: &[WorkerMetrics]) {
        let now_s = self.clock.epoch_ms() / 1000;
        for report in reports
            .iter()
            .filter(|report| !report.is_fresh(now_s, self.stale_report))
        {
            let Some(write) = report.clean_up(key_name) else {
                continue;
            };
            match rows.write(&write).await {
                Ok(_) => info!(worker = %report.worker, "row of a worker that is long gone deleted"),
                Err(error) => debug!(worker = %report.worker, %error, "a stale worker row stays for now"),
            }
        }
    }
}

/// When to look again after a look that took from `began` to `ended`.
fn next_look(began: Instant, ended: Instant) -> Instant {
    began + LOOK.max((ended - began) * LOOK_SHARE)
}

/// What was planned. Compat: free leases and balance are one plan here, so that both times are the whole plan's.
fn note_plan(view: &View, moves: &[Move], balance: bool, began: Instant, scope: &mut Scope<'_>) {
    let free: BTreeSet<&ShardId> = view
        .leases
        .iter()
        .filter(|seen| seen.is_free)
        .map(|seen| &seen.lease.key)
        .collect();
    let assigned = moves.iter().filter(|step| free.contains(step.shard())).count();
    scope.add(Metric::TOTAL_LEASES, view.leases.len() as f64);
    scope.add(Metric::WORKERS, view.workers.len() as f64);
    scope.add(Metric::EXPIRED_LEASES, free.len() as f64);
    scope.time(Metric::ASSIGN_FREE_TIME, began);
    if assigned < free.len() {
        scope.add(Metric::LEASE_SPILLOVER, (free.len() - assigned) as f64);
    }
    if balance {
        scope.time(Metric::BALANCE_TIME, began);
        scope.add(Metric::REASSIGNED_LEASES, (moves.len() - assigned) as f64);
    }
}
