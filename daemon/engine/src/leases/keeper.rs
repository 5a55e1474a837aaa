//! The task that owns what this worker believes to hold: renews, expires, adopts, gives away. One operation at a
//! time per lease, because they compete through its counter.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use multilangd_core::ids::{Position, ShardId, WorkerId};
use multilangd_core::leases::{Lease, Throughput};
use multilangd_core::metrics::{self, Call, Metric, Of};
#[cfg(planted)]
use multilangd_core::planted;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, error, info, warn};

use super::operation::{Doubt, Operator, Verdict};
use super::{Held, HeldLease, Signals, Tenure};
use crate::child::CheckpointError;
use crate::table::TableError;

/// Renewals under way at once, so that thousands of leases do not become thousands of connections.
const RENEWALS_MAX: usize = 32;
/// Looks per renewal interval at what is due: the more, the less later than an interval after a checkpoint it is renewed.
const LOOKS_PER_INTERVAL: u32 = 4;

/// What the keeper is told.
pub(crate) enum Message {
    /// Written as ours by this worker itself, as leader, by a call sent at this time.
    Assigned(Vec<(Lease, Instant)>),
    /// This worker itself, as leader, asked for the hand-over of leases that it holds; their rows.
    Asked(Vec<Lease>),
    /// Found in the table as ours: to be held as soon as a renewal succeeds.
    Found(Vec<Lease>),
    Checkpoint(Tenure, Position, oneshot::Sender<Result<(), CheckpointError>>),
    GiveAway(Tenure, oneshot::Sender<Result<(), TableError>>),
    GiveAwayAll(oneshot::Sender<()>),
    Drop(Tenure, oneshot::Sender<()>),
    Bytes(Tenure, u64),
    StopTaking,
}

enum Operation {
    Renew,
    Checkpoint(Position, oneshot::Sender<Result<(), CheckpointError>>),
    GiveAway(Option<oneshot::Sender<Result<(), TableError>>>),
}

enum Answered {
    Renew,
    Checkpoint(
        oneshot::Sender<Result<(), CheckpointError>>,
        Result<(), CheckpointError>,
    ),
    GiveAway(Option<oneshot::Sender<Result<(), TableError>>>),
    Found,
}

struct Finished {
    tenure: Tenure,
    verdict: Verdict,
    answered: Answered,
    foreign_writes: u32,
}

struct Holding {
    lease: Lease,
    valid_until: Instant,
    throughput: Throughput,
    /// When the throughput was last put into a write.
    rated: Instant,
    /// When a renewal was last begun, whatever became of it: a table that throttles is not asked more often.
    tried: Instant,
    is_busy: bool,
    /// The renewal or checkpoint under way. It ends with the tenure: read anew, the row of a later tenure would look like
    /// its own.
    under_way: Option<AbortHandle>,
    /// At most one renewal, one checkpoint (a child waits for its answer) and the few ways to give the lease away.
    waiting: VecDeque<Operation>,
    /// The last renewal had no answer; said once per streak.
    is_unsure: bool,
    /// It is being given away, and no longer counts as held: the next owner may start before our answer arrives.
    is_leaving: bool,
    /// How often somebody else has written it as ours.
    foreign_writes: u32,
}

/// How the keeper keeps time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) failover: Duration,
    pub(super) renewal_interval: Duration,
}

pub(super) struct Keeper {
    operator: Operator,
    pace: Pace,
    holdings: BTreeMap<Tenure, Holding>,
    /// No lease expires before this. A renewal moves its expiry on, and this only follows when it is reached: there are a
    /// thousand leases and as many messages a second.
    none_expires_before: Instant,
    /// Found leases whose first renewal is under way.
    adopting: BTreeSet<ShardId>,
    operations: JoinSet<Finished>,
    renewals: Arc<Semaphore>,
    held: watch::Sender<Held>,
    signals: Signals,
    next_token: u64,
    is_taking: bool,
    all_given: Option<oneshot::Sender<()>>,
    round: Round,
}

/// The renewals of one look, for the metrics. A lease that was lost between two counts for the next.
#[derive(Default)]
struct Round {
    last: Option<Instant>,
    began: Option<Instant>,
    under_way: usize,
    lost: usize,
    unsure: usize,
}

impl Keeper {
    pub(super) fn new(operator: Operator, pace: Pace, held: watch::Sender<Held>, signals: Signals) -> Self {
        #[cfg(planted)]
        let pace = match planted::is_planted(planted::Bug::ExpiryIgnored) {
            true => Pace {
                failover: pace.failover * 1000,
                ..pace
            },
            false => pace,
        };
        Self {
            operator,
            pace,
            holdings: BTreeMap::new(),
            none_expires_before: Instant::now(),
            adopting: BTreeSet::new(),
            operations: JoinSet::new(),
            renewals: Arc::new(Semaphore::new(RENEWALS_MAX)),
            held,
            signals,
            next_token: 1,
            is_taking: true,
            all_given: None,
            round: Round::default(),
        }
    }

    /// Runs until every handle is gone.
    pub(super) async fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let identity = self.operator.identity.clone();
        let mut is_disowned = false;
        let mut renewal = interval(self.pace.renewal_interval / LOOKS_PER_INTERVAL);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let is_changed = tokio::select! {
                biased;
                () = identity.lost(), if !is_disowned => {
                    is_disowned = true;
                    self.disown()
                }
                () = sleep_until(self.none_expires_before), if !self.holdings.is_empty() => self.expire(),
                _ = renewal.tick() => {
                    self.renew_due();
                    false
                }
                Some(finished) = self.operations.join_next() => self.finish_ready(finished),
                message = messages.recv() => match message {
                    Some(message) => self.on(message),
                    None => break,
                },
            };
            if is_changed {
                self.publish();
            }
            self.answer_all_given();
        }
        self.operations.shutdown().await;
    }

    fn me(&self) -> &WorkerId {
        &self.operator.me
    }

    fn on(&mut self, message: Message) -> bool {
        match message {
            Message::Assigned(leases) => {
                let before = self.holdings.len();
                for (lease, sent) in leases {
                    self.adopt(lease, sent);
                }
                self.holdings.len() != before
            }
            Message::Asked(leases) => {
                let asked = leases.iter().filter(|lease| self.asked(lease)).count();
                asked > 0
            }
            Message::Found(leases) => {
                for lease in leases {
                    self.try_to_adopt(lease);
                }
                false
            }
            Message::Checkpoint(tenure, position, reply) => {
                #[cfg(planted)]
                let tenure = match planted::is_planted(planted::Bug::CheckpointWithoutToken) {
                    true => self.tenures().into_iter().find(|it| it.shard == tenure.shard),
                    false => None,
                }
                .unwrap_or(tenure);
                match self
                    .holdings
                    .get_mut(&tenure)
                    .filter(|holding| !holding.is_leaving)
                {
                    Some(holding) => {
                        holding.waiting.push_back(Operation::Checkpoint(position, reply));
                        self.start_next(&tenure);
                    }
                    None => drop(reply.send(Err(CheckpointError::LeaseLost))),
                }
                false
            }
            Message::GiveAway(tenure, reply) => {
                self.give_away(&tenure, Some(reply));
                false
            }
            Message::GiveAwayAll(reply) => {
                self.is_taking = false;
                self.all_given = Some(reply);
                for tenure in self.tenures() {
                    self.give_away(&tenure, None);
                }
                false
            }
            Message::Drop(tenure, reply) => {
                let removed = self.holdings.contains_key(&tenure);
                self.remove(&tenure);
                if removed {
                    info!(shard = %tenure.shard, "lease dropped: no longer renewed");
                    self.publish();
                }
                let _ = reply.send(());
                false
            }
            Message::Bytes(tenure, bytes) => {
                if let Some(holding) = self.holdings.get_mut(&tenure) {
                    holding.throughput.record(bytes, Instant::now().into_std());
                }
                false
            }
            Message::StopTaking => {
                self.is_taking = false;
                false
            }
        }
    }

    /// Another process has this id, and with it the leases: they are no longer held, and nothing of them is written.
    fn disown(&mut self) -> bool {
        self.is_taking = false;
        for tenure in self.tenures() {
            self.remove(&tenure);
        }
        true
    }

    fn tenures(&self) -> Vec<Tenure> {
        self.holdings.keys().cloned().collect()
    }

    fn holds(&self, shard: &ShardId) -> bool {
        let first = Tenure {
            shard: shard.clone(),
            token: 0,
        };
        self.holdings
            .range(first..)
            .next()
            .is_some_and(|(tenure, _)| tenure.shard == *shard)
    }

    /// Holds a lease from now on, as a new tenure. One that comes while we are leaving is given back unseen.
    fn adopt(&mut self, lease: Lease, sent: Instant) {
        let valid_until = sent + self.pace.failover;
        if self.holds(&lease.key) || valid_until < Instant::now() || self.operator.identity.is_lost() {
            return;
        }
        let is_taking = self.is_taking;
        let tenure = Tenure {
            shard: lease.key.clone(),
            token: self.next_token,
        };
        self.next_token += 1;
        if is_taking {
            info!(shard = %tenure.shard, counter = lease.counter, checkpoint = %lease.checkpoint, "lease taken");
        }
        let holding = Holding {
            throughput: Throughput::from_row(lease.throughput_kbps, Instant::now().into_std()),
            rated: sent,
            tried: sent,
            lease,
            valid_until,
            is_busy: false,
            under_way: None,
            waiting: VecDeque::new(),
            is_unsure: false,
            is_leaving: !is_taking,
            foreign_writes: 0,
        };
        self.none_expires_before = match self.holdings.is_empty() {
            true => after(valid_until),
            false => self.none_expires_before.min(after(valid_until)),
        };
        self.holdings.insert(tenure.clone(), holding);
        if !is_taking {
            self.give_away(&tenure, None);
        }
    }

    /// Notices a requested hand-off before the next renewal would. An operation under way notices it by itself.
    fn asked(&mut self, lease: &Lease) -> bool {
        let me = self.me().clone();
        let mut holdings = self.holdings.iter_mut();
        let Some((_, holding)) = holdings.find(|(tenure, _)| tenure.shard == lease.key) else {
            return false;
        };
        let is_current = !holding.is_busy && !holding.is_leaving && holding.lease.counter == lease.counter;
        is_current && holding.update(lease, &me)
    }

    fn give_away(&mut self, tenure: &Tenure, reply: Option<oneshot::Sender<Result<(), TableError>>>) {
        match (self.holdings.get_mut(tenure), reply) {
            (Some(holding), reply) => {
                holding.waiting.push_back(Operation::GiveAway(reply));
                self.start_next(tenure);
            }
            (None, Some(reply)) => drop(reply.send(Ok(()))),
            (None, None) => {}
        }
    }

    /// A lease that the table says is ours: a renewal shows that it still is, and from when on.
    fn try_to_adopt(&mut self, lease: Lease) {
        if self.holds(&lease.key) || !lease.can_be_adopted_by(self.me()) {
            return;
        }
        if !self.is_taking {
            self.adopt(lease, Instant::now());
            return;
        }
        if !self.adopting.insert(lease.key.clone()) {
            return;
        }
        let (operator, renewals) = (self.operator.clone(), self.renewals.clone());
        self.operations.spawn(async move {
            let _permit = renewals.acquire().await;
            let tenure = Tenure {
                shard: lease.key.clone(),
                token: 0,
            };
            let mut doubt = Doubt::default();
            Finished {
                tenure,
                verdict: operator.renew(lease, &mut doubt).await,
                answered: Answered::Found,
                foreign_writes: 0,
            }
        });
    }

    /// The round is over: all its renewals are, or the next one begins.
    fn end_round(&mut self) {
        let Some(began) = self.round.began.take() else {
            return;
        };
        let last = self.round.last;
        let round = std::mem::replace(
            &mut self.round,
            Round {
                last,
                ..Round::default()
            },
        );
        let mut scope = self
            .operator
            .metrics
            .scope(metrics::Operation::RenewAllLeases, Of::Worker);
        scope.add(Metric::LOST_LEASES, round.lost as f64);
        scope.add(Metric::CURRENT_LEASES, self.holdings.len() as f64);
        scope.call(Call::TASK, round.unsure == 0, began);
        scope.note();
    }

    fn note_renewal(&mut self, verdict: &Verdict) {
        self.round.lost += usize::from(matches!(verdict, Verdict::Lost(_)));
        self.round.unsure += usize::from(matches!(verdict, Verdict::Unsure(_)));
        self.round.under_way = self.round.under_way.saturating_sub(1);
        if self.round.under_way == 0 {
            self.end_round();
        }
    }

    /// Renews what was not written for an interval.
    ///
    /// Compat: Java renews every lease every interval. A checkpoint moves the counter as a renewal does, and shows a
    /// requested hand-off, so that what was checkpointed is renewed an interval later.
    fn renew_due(&mut self) {
        let now = Instant::now();
        let (failover, interval) = (self.pace.failover, self.pace.renewal_interval);
        // Half a look early, or an interval would become one and a quarter.
        let due_after = interval - interval / LOOKS_PER_INTERVAL / 2;
        let is_due = |holding: &Holding| {
            let written = holding.valid_until - failover;
            now >= written.max(holding.tried) + due_after
        };
        let due = self.holdings.iter().filter(|(_, holding)| is_due(holding));
        let due: Vec<Tenure> = due.map(|(tenure, _)| tenure.clone()).collect();
        let is_time_for_a_round = self.round.last.is_none_or(|last| now >= last + due_after);
        if due.is_empty() && !is_time_for_a_round {
            return;
        }
        self.end_round();
        self.round.last = Some(now);
        self.round.began = Some(now);
        self.round.under_way = due.len();
        if due.is_empty() {
            self.end_round();
        }
        for tenure in due {
            if let Some(holding) = self.holdings.get_mut(&tenure) {
                holding.tried = now;
                let is_waiting = holding
                    .waiting
                    .iter()
                    .any(|operation| matches!(operation, Operation::Renew));
                if !is_waiting {
                    holding.waiting.push_back(Operation::Renew);
                }
            }
            self.start_next(&tenure);
        }
    }

    fn start_next(&mut self, tenure: &Tenure) {
        let Some(holding) = self.holdings.get_mut(tenure).filter(|holding| !holding.is_busy) else {
            return;
        };
        let Some(operation) = holding.waiting.pop_front() else {
            return;
        };
        holding.is_busy = true;
        let mut doubt = Doubt {
            of_own_write: holding.is_unsure,
            foreign_writes: holding.foreign_writes,
        };
        let mut lease = holding.lease.clone();
        let (operator, tenure) = (self.operator.clone(), tenure.clone());
        match operation {
            Operation::Renew => {
                holding.rate(&mut lease, self.pace.renewal_interval);
                let renewals = self.renewals.clone();
                let under_way = self.operations.spawn(async move {
                    let _permit = renewals.acquire().await;
                    let verdict = operator.renew(lease, &mut doubt).await;
                    Finished {
                        tenure,
                        verdict,
                        answered: Answered::Renew,
                        foreign_writes: doubt.foreign_writes,
                    }
                });
                holding.under_way = Some(under_way);
            }
            Operation::Checkpoint(position, reply) => {
                if holding.rated.elapsed() >= self.pace.renewal_interval {
                    holding.rate(&mut lease, self.pace.renewal_interval);
                }
                let under_way = self.operations.spawn(async move {
                    let (verdict, result) = operator.checkpoint(lease, &position, &mut doubt).await;
                    Finished {
                        tenure,
                        verdict,
                        answered: Answered::Checkpoint(reply, result),
                        foreign_writes: doubt.foreign_writes,
                    }
                });
                holding.under_way = Some(under_way);
            }
            Operation::GiveAway(reply) => {
                holding.is_leaving = true;
                self.publish();
                self.operations.spawn(async move {
                    let verdict = operator.give_away(lease).await;
                    Finished {
                        tenure,
                        verdict,
                        answered: Answered::GiveAway(reply),
                        foreign_writes: doubt.foreign_writes,
                    }
                });
            }
        }
    }

    /// Handles what is finished, all of it at once, so that a thousand renewals do not become a thousand snapshots.
    fn finish_ready(&mut self, first: Result<Finished, tokio::task::JoinError>) -> bool {
        let mut is_changed = false;
        let mut next = Some(first);
        while let Some(finished) = next {
            match finished {
                Ok(finished) => is_changed |= self.finish(finished),
                // Its tenure had ended.
                Err(died) if died.is_cancelled() => {}
                Err(died) => warn!(%died, "an operation on a lease died; this is a bug in multilangd"),
            }
            next = self.operations.try_join_next();
        }
        if !is_changed && self.operations.is_empty() {
            // Nobody needs to wake up for a renewed lease.
            let snapshot = self.snapshot();
            self.held.send_if_modified(|held| {
                *held = snapshot;
                false
            });
        }
        is_changed
    }

    /// Takes note of a verdict. `true`: what is held, or wanted from it, has changed.
    fn finish(&mut self, finished: Finished) -> bool {
        let Finished {
            tenure,
            verdict,
            answered,
            foreign_writes,
        } = finished;
        if let Some(holding) = self.holdings.get_mut(&tenure) {
            (holding.under_way, holding.foreign_writes) = (None, foreign_writes);
        }
        if matches!(answered, Answered::Found) {
            self.adopting.remove(&tenure.shard);
            return match verdict {
                Verdict::Held(lease, sent) if lease.can_be_adopted_by(self.me()) => {
                    self.adopt(*lease, sent);
                    true
                }
                Verdict::Held(..) | Verdict::Ours(_) | Verdict::Lost(_) | Verdict::Given(_) => false,
                Verdict::Unsure(error) => {
                    debug!(shard = %tenure.shard, %error, "a lease of this worker could not be renewed yet");
                    self.signals.discover.notify_one();
                    false
                }
            };
        }
        let is_changed = self.note(&tenure, &verdict);
        if matches!(answered, Answered::Renew) {
            self.note_renewal(&verdict);
        }
        let given = match verdict {
            Verdict::Unsure(error) => Err(error),
            Verdict::Held(..) | Verdict::Ours(_) | Verdict::Lost(_) | Verdict::Given(_) => Ok(()),
        };
        if is_changed {
            // Before the answer: who asked must find the change in the snapshot.
            self.publish();
        }
        match answered {
            Answered::Renew | Answered::Found => {}
            Answered::Checkpoint(reply, result) => drop(reply.send(result)),
            Answered::GiveAway(reply) => {
                // Whatever became of the write: who gives a lease away must stop renewing it (trap 47).
                self.remove(&tenure);
                match (reply, given) {
                    (Some(reply), given) => drop(reply.send(given)),
                    (None, Ok(())) => {}
                    (None, Err(error)) => warn!(
                        shard = %tenure.shard, %error,
                        "the lease could not be given back; it expires by itself"
                    ),
                }
            }
        }
        self.start_next(&tenure);
        false
    }

    fn note(&mut self, tenure: &Tenure, verdict: &Verdict) -> bool {
        let failover = self.pace.failover;
        let me = self.me().clone();
        let Some(holding) = self.holdings.get_mut(tenure) else {
            return false;
        };
        holding.is_busy = false;
        match verdict {
            Verdict::Held(lease, sent) => {
                #[cfg(planted)]
                let sent = match planted::is_planted(planted::Bug::ValidFromAnswer) {
                    true => &Instant::now(),
                    false => sent,
                };
                // Compat: counted from when the write was sent. Java counts from its answer, which lets a slow
                // answer overlap with the next owner. Stricter is invisible to a Java peer.
                holding.valid_until = holding.valid_until.max(*sent + failover);
                holding.is_unsure = false;
                holding.update(lease, &me)
            }
            Verdict::Ours(lease) => holding.update(lease, &me),
            Verdict::Unsure(error) => {
                let was_unsure = std::mem::replace(&mut holding.is_unsure, true);
                let is_first = self.holdings.values().filter(|holding| holding.is_unsure).count() == 1;
                // A table that fails fails for all leases: it is said of the first.
                if !was_unsure && is_first {
                    match error {
                        TableError::Missing(_) | TableError::Refused(_) => error!(
                            shard = %tenure.shard, %error,
                            "the lease cannot be kept: the table refuses to write it; trying again"
                        ),
                        TableError::Throttled(_) | TableError::Unknown(_) | TableError::Conflict(_) => warn!(
                            shard = %tenure.shard, %error,
                            "the lease could not be written, trying again"
                        ),
                    }
                }
                false
            }
            Verdict::Lost(row) => {
                match row {
                    Some(row) => {
                        let owner = row.owner.as_ref().map(tracing::field::display);
                        info!(shard = %tenure.shard, owner, counter = row.counter, "lease lost");
                    }
                    None => info!(shard = %tenure.shard, "lease gone: its row was deleted"),
                }
                self.remove(tenure);
                true
            }
            Verdict::Given(to) => {
                match to {
                    Some(to) => info!(shard = %tenure.shard, %to, "lease handed over"),
                    None => info!(shard = %tenure.shard, "lease given back"),
                }
                self.remove(tenure);
                self.signals.assign.notify_one();
                true
            }
        }
    }

    /// Ends a tenure; whoever still waits for a checkpoint of it learns that it is over.
    fn remove(&mut self, tenure: &Tenure) {
        let Some(holding) = self.holdings.remove(tenure) else {
            return;
        };
        if let Some(under_way) = holding.under_way {
            under_way.abort();
        }
        for operation in holding.waiting {
            match operation {
                Operation::Renew | Operation::GiveAway(None) => {}
                Operation::Checkpoint(_, reply) => drop(reply.send(Err(CheckpointError::LeaseLost))),
                Operation::GiveAway(Some(reply)) => drop(reply.send(Ok(()))),
            }
        }
    }

    /// Gives up what could not be renewed in time, whatever the table says (trap 16).
    fn expire(&mut self) -> bool {
        let now = Instant::now();
        let expired: Vec<Tenure> = self
            .holdings
            .iter()
            .filter(|(_, holding)| holding.valid_until < now)
            .map(|(tenure, _)| tenure.clone())
            .collect();
        for tenure in &expired {
            let failover_ms = self.pace.failover.as_millis() as u64;
            warn!(shard = %tenure.shard, failover_ms, "lease expired: it could not be renewed within failoverTimeMillis");
            self.remove(tenure);
        }
        let first = self.holdings.values().map(|holding| holding.valid_until).min();
        self.none_expires_before = after(first.unwrap_or(now));
        self.round.lost += expired.len();
        if !expired.is_empty() {
            // The table may still name us: found again as soon as it answers (trap 46).
            self.signals.discover.notify_one();
        }
        !expired.is_empty()
    }

    fn snapshot(&self) -> Held {
        let held = self.holdings.iter().filter(|(_, holding)| !holding.is_leaving);
        let held = held.map(|(tenure, holding)| HeldLease {
            tenure: tenure.clone(),
            hand_over_to: holding.lease.hand_over_to(self.me()).cloned(),
            lease: holding.lease.clone(),
            valid_until: holding.valid_until,
        });
        held.collect()
    }

    fn publish(&self) {
        self.held.send_replace(self.snapshot());
    }

    fn answer_all_given(&mut self) {
        if self.holdings.is_empty()
            && self.adopting.is_empty()
            && let Some(reply) = self.all_given.take()
        {
            let _ = reply.send(());
        }
    }
}

/// The first moment at which a lease has expired that is valid until then: it is held up to and including it.
fn after(valid_until: Instant) -> Instant {
    valid_until + Duration::from_millis(1)
}

impl Holding {
    /// Puts the throughput into what is written; once per interval, because the average advances with every call (trap 53).
    fn rate(&mut self, lease: &mut Lease, interval: Duration) {
        let now = Instant::now();
        self.rated = now;
        let kbps = self.throughput.next_kbps(now.into_std(), interval);
        lease.throughput_kbps = kbps.or(lease.throughput_kbps);
    }

    /// What the row says now. `true`: a hand-off was requested.
    fn update(&mut self, row: &Lease, me: &WorkerId) -> bool {
        let before = self.lease.hand_over_to(me).cloned();
        self.lease = row.clone();
        before.as_ref() != self.lease.hand_over_to(me)
    }
}
