//! The task that takes leases for this worker while the fleet plays by the rules of 2.x, and computes who leads
//! (`leasing.md 4`). What to take is decided in `core::taker`, who leads in `core::election`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use multilangd_core::client_version::Rules;
use multilangd_core::election::leads;
use multilangd_core::ids::{ShardId, WorkerId};
use multilangd_core::metrics::{Call, Metric, Of, Operation};
use multilangd_core::taker::{Figures, Take, Taker, TakerSettings};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::clock::Clock;
use crate::leases::{Found, Held, Message, Rows, Signals};
use crate::metrics::{Metrics, Scope};
use crate::retry::{Patience, retry};
use crate::table::TableError;

/// Writes under way at once, so that a first start with thousands of shards does not become as many connections.
const WRITES_MAX: usize = 32;
/// How often the table is looked at while it is small; each so many rows make the next look come later by as much.
///
/// Compat: Java looks every 20 s. What was given back, or has expired, should not wait for that; live leases are stolen
/// at Java's pace. The last renewal of a worker that dies is seen that much late: half of what its shards may wait beyond
/// the failover time.
const LOOK_MIN: Duration = Duration::from_secs(1);
const ROWS_PER_LOOK: usize = 250;
/// Looks are at least this far apart, however often somebody asks for one.
const LOOK_GAP: Duration = Duration::from_millis(100);

/// This worker's rounds.
pub(crate) struct Taking {
    pub(crate) rows: Rows,
    pub(crate) me: WorkerId,
    pub(crate) clock: Clock,
    pub(crate) settings: TakerSettings,
    /// (F + E) * 2: Java's pace, and ours for what is alive.
    pub(crate) steal_interval: Duration,
    pub(crate) rules: watch::Receiver<Rules>,
    pub(crate) elected: watch::Sender<bool>,
    pub(crate) held: watch::Receiver<Held>,
    pub(crate) keeper: mpsc::Sender<Message>,
    pub(crate) signals: Signals,
    /// Who may get what this worker gives away.
    pub(crate) heirs: watch::Sender<Vec<WorkerId>>,
    pub(crate) metrics: Metrics,
}

struct Memory {
    taker: Taker,
    /// When it was last time to steal.
    balanced: Option<Instant>,
}

impl Taking {
    /// Runs until `stop`. `first` is what was scanned at the start, so that a lease that expires soon is known to.
    pub(crate) async fn run(mut self, first: Found, ended: Instant, stop: CancellationToken) {
        let mut memory = Memory {
            taker: Taker::default(),
            balanced: None,
        };
        memory.taker.look(&first.leases, ended.into_std());
        // All rows of a large table: not to be kept for as long as this worker lives.
        drop(first);
        loop {
            let takes = self.rules.wait_for(|rules| !rules.assigns());
            match stop.run_until_cancelled(takes).await {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
            let Some(scanned) = stop.run_until_cancelled(self.scan()).await else {
                return;
            };
            let due = match scanned {
                // What is being written when the worker stops is waited for: it must be known to be given back.
                Some((began, found)) => self.round(&mut memory, &found, began).await,
                None => Instant::now() + self.steal_interval,
            };
            let rest = async {
                sleep(LOOK_GAP).await;
                tokio::select! {
                    () = self.signals.assign.notified() => {}
                    () = sleep_until(due) => {}
                    _ = self.rules.changed() => {}
                }
            };
            if stop.run_until_cancelled(rest).await.is_none() {
                return;
            }
        }
    }

    async fn scan(&self) -> Option<(Instant, Found)> {
        let scan = || async {
            let began = Instant::now();
            let scan = self.rows.scan(true);
            let found = self
                .metrics
                .measure(Operation::TakeLeases, Of::Worker, Call::LIST_LEASES, scan)
                .await;
            found.map(|found| (began, found))
        };
        let scanned = retry(&self.clock, Patience::ENDLESS, "looking at all leases", scan).await;
        scanned
            .inspect_err(|error| {
                error!(%error, table = self.rows.table.name(), "no leases can be taken: the table cannot be looked at");
            })
            .ok()
    }

    /// Elects, plans, takes. Returns when to look again.
    async fn round(&self, memory: &mut Memory, found: &Found, began: Instant) -> Instant {
        if self.rules.borrow().assigns() {
            return Instant::now();
        }
        let is_elected = leads(
            &self.me,
            found.leases.iter().filter_map(|lease| lease.owner.as_ref()),
        );
        self.elected
            .send_if_modified(|said| std::mem::replace(said, is_elected) != is_elected);
        let now = Instant::now();
        memory.taker.look(&found.leases, now.into_std());
        let heirs = memory
            .taker
            .others(&found.leases, &self.me, &self.settings, began.into_std());
        self.heirs.send_replace(heirs);
        self.find_own(found).await;
        let steal = memory
            .balanced
            .is_none_or(|last| now >= last + self.steal_interval);
        if steal {
            memory.balanced = Some(now);
        }
        let takes = self.clock.chance(|rng| {
            let (leases, began) = (&found.leases, began.into_std());
            memory
                .taker
                .plan(leases, &self.me, &self.settings, began, steal, rng)
        });
        // Compat: a round of ours is every 2 s, Java's every 20 s.
        let mut scope = self.metrics.scope(Operation::TakeLeases, Of::Worker);
        let figures = memory
            .taker
            .figures(&found.leases, &self.me, &self.settings, began.into_std());
        note(&figures, takes.len(), &mut scope);
        let is_success = self.take(takes, memory, &mut scope).await;
        scope.end(is_success);
        let now = Instant::now();
        let looks = (found.leases.len() / ROWS_PER_LOOK + 1) as u32;
        let regular = now + (LOOK_MIN * looks).min(self.steal_interval);
        let expiry = memory.taker.next_expiry(&self.settings, began.into_std());
        expiry.map_or(regular, |expiry| {
            regular.min(Instant::from_std(expiry) + Duration::from_millis(1))
        })
    }

    /// Leases that are ours by the table and not held: dropped here, or taken by a write without an answer.
    ///
    /// Compat: Java waits until they expire, and takes them then.
    async fn find_own(&self, found: &Found) {
        let held: BTreeSet<ShardId> = self
            .held
            .borrow()
            .iter()
            .map(|held| held.tenure.shard.clone())
            .collect();
        let own: Vec<_> = found
            .leases
            .iter()
            .filter(|lease| lease.can_be_adopted_by(&self.me) && !held.contains(&lease.key))
            .cloned()
            .collect();
        if !own.is_empty() {
            drop(self.keeper.send(Message::Found(own)).await);
        }
    }

    /// `true`: each write was answered.
    async fn take(&self, takes: Vec<Take>, memory: &mut Memory, scope: &mut Scope<'_>) -> bool {
        let permits = Arc::new(Semaphore::new(WRITES_MAX));
        let mut writes = JoinSet::new();
        for take in takes {
            let (rows, permits, me) = (self.rows.clone(), permits.clone(), self.me.clone());
            writes.spawn(async move {
                let _permit = permits.acquire().await;
                let sent = Instant::now();
                // Compat: Java expects the counter alone. A leader of 3.x may be at work in the moment in which a fleet
                // changes its rules, and its hand-offs leave the counter alone.
                let write = take.lease.take_expired(&me);
                let answer = rows.write(&write).await;
                (take, write, sent, answer)
            });
        }
        let mut won = Vec::new();
        let (mut failed, mut untaken) = (0, 0);
        while let Some(Ok((take, write, sent, answer))) = writes.join_next().await {
            let shard = &take.lease.key;
            let from = take.lease.owner.as_ref().map(tracing::field::display);
            let is_answered = matches!(answer, Ok(_) | Err(TableError::Conflict(_)));
            scope.call(Call::TAKE_LEASE, is_answered, sent);
            match answer {
                Ok(item) => {
                    let lease = item.and_then(|item| self.rows.lease_in(&item));
                    let lease = lease.unwrap_or_else(|| take.lease.after(&write));
                    if take.is_stolen {
                        info!(%shard, from, "lease stolen from a worker that has more than its share");
                    } else if from.is_some() {
                        info!(%shard, from, "expired lease taken over");
                    }
                    memory.taker.taken(&lease, sent.into_std());
                    won.push((lease, sent));
                }
                Err(TableError::Conflict(_)) => {
                    untaken += 1;
                    debug!(%shard, "another worker was first");
                }
                Err(error) => {
                    failed += 1;
                    // A table that fails fails for all leases: it is said of the first.
                    if failed == 1 {
                        warn!(%shard, %error, "the lease could not be taken, trying again");
                    }
                }
            }
        }
        scope.add(Metric::TAKEN_LEASES, won.len() as f64);
        scope.add(Metric::UNTAKEN_LEASES, f64::from(untaken));
        if !won.is_empty() {
            drop(self.keeper.send(Message::Assigned(won)).await);
        }
        failed == 0
    }
}

/// What the round goes by, and what it will try.
fn note(figures: &Figures, takes: usize, scope: &mut Scope<'_>) {
    let samples = [
        (Metric::TAKER_TOTAL_LEASES, figures.leases),
        (Metric::WORKERS, figures.workers),
        (Metric::EXPIRED_LEASES, figures.available),
        (Metric::VERY_OLD_LEASES, figures.very_old),
        (Metric::NEEDED_LEASES, figures.needed),
        (Metric::LEASES_TO_TAKE, takes),
        (Metric::LEASE_SPILLOVER, figures.spillover),
    ];
    for (metric, count) in samples {
        scope.add(metric, count as f64);
    }
}
