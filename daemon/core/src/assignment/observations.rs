//! What the leader remembers from one look at the table to the next (`leasing.md 5.3-5`): when each counter last
//! rose, by its own monotonic clock. Nothing of it is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::prompt::{self, Given, Promptness, Proofs};
use super::{AssignmentSettings, Scanned, Seen, View};
use crate::ids::{ShardId, WorkerId};
use crate::leases::Lease;
use crate::worker_metrics::WorkerMetrics;

/// The memory.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    leases: BTreeMap<ShardId, Observed>,
    /// Workers that let a lease expire and renewed no other, and the report they had given by then.
    silent: BTreeMap<WorkerId, Option<i64>>,
    promptness: Promptness,
    /// When the last look began.
    looked: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Observed {
    counter: u64,
    owner: Option<WorkerId>,
    checkpoint_owner: Option<WorkerId>,
    renewed: Option<Instant>,
    /// It has a new owner, who was not yet seen to renew it.
    given: Option<Given>,
    /// Its present owner was seen to renew it.
    is_proven: bool,
    /// Since when it was seen without an owner.
    unowned_since: Option<Instant>,
    hand_off_deadline: Option<Instant>,
}

impl Observed {
    fn actual_owner(&self) -> Option<&WorkerId> {
        self.checkpoint_owner.as_ref().or(self.owner.as_ref())
    }

    /// How long the counter may stand still. A worker that was just given a lease has to find it first.
    fn patience(&self, settings: &AssignmentSettings) -> Duration {
        if self.given.is_some() {
            settings.interval.max(settings.failover)
        } else {
            settings.failover
        }
    }

    /// When a worker that does not lead may take it, unless it is renewed before (`leasing.md 11`).
    fn rescue_at(&self, settings: &AssignmentSettings) -> Option<Instant> {
        if self.actual_owner().is_none() {
            return self.unowned_since;
        }
        let patience = if self.is_proven {
            settings.failover
        } else {
            settings.interval.max(settings.failover)
        };
        Some(self.renewed? + patience)
    }
}

impl Observations {
    /// The leases and reports as scanned: remembers what changed, and judges. `me` is this worker if it may get
    /// leases; it is alive whatever its report says.
    pub fn look(&mut self, scanned: Scanned, me: Option<&WorkerId>, settings: &AssignmentSettings) -> View {
        let Scanned {
            leases,
            reports,
            began,
            ended,
            ended_s,
        } = scanned;
        let times = Times {
            last: self.looked.replace(began).unwrap_or(began),
            began,
            ended,
        };
        let mut before = std::mem::take(&mut self.leases);
        let mut proofs = Proofs::default();
        for lease in &leases {
            let before = before.remove(&lease.key);
            let observed = observe(before.as_ref(), lease, settings, &times);
            prove(&mut proofs, before.as_ref(), &observed, &times);
            self.leases.insert(lease.key.clone(), observed);
        }
        let rows_count = leases.len() + reports.len();
        let leases: Vec<Seen> = leases
            .into_iter()
            .map(|lease| self.judge(lease, settings, began))
            .collect();
        let workers = self.active(&leases, reports, me, settings, began, ended_s);
        let is_there = |worker: &WorkerId| workers.iter().any(|report| report.worker == *worker);
        self.promptness.learn(proofs, is_there);
        let is_prompt = |worker: &WorkerId| me == Some(worker) || self.promptness.is_prompt(worker);
        let ids = workers.iter().map(|report| &report.worker);
        let (prompt, others): (BTreeSet<&WorkerId>, BTreeSet<&WorkerId>) = ids
            .filter(|_| rows_count <= prompt::ROWS_MAX)
            .partition(|worker| is_prompt(worker));
        View {
            prompt: prompt.into_iter().cloned().collect(),
            has_unknown: others.iter().any(|worker| !self.promptness.is_known(worker)),
            leases,
            workers,
        }
    }

    /// Some of the leases, read from the table: remembers what changed of them. What is known of others stays: a counter
    /// that has not risen by the next look has stood still since the last one.
    pub fn glance(
        &mut self,
        leases: &[Lease],
        settings: &AssignmentSettings,
        began: Instant,
        ended: Instant,
    ) {
        let times = Times {
            last: self.looked.unwrap_or(began),
            began,
            ended,
        };
        for lease in leases {
            let observed = observe(self.leases.get(&lease.key), lease, settings, &times);
            self.leases.insert(lease.key.clone(), observed);
        }
    }

    /// A lease was written by us (`me`) as it now is: its owner has an interval's time to find it, unless it is us.
    pub fn moved(&mut self, lease: &Lease, me: &WorkerId, settings: &AssignmentSettings, now: Instant) {
        let pending = lease.checkpoint_owner.is_some();
        let before = self.leases.get(&lease.key);
        let observed = Observed {
            counter: lease.counter,
            owner: lease.owner.clone(),
            checkpoint_owner: lease.checkpoint_owner.clone(),
            // A request for a hand-off leaves the counter alone: one that is higher than at the last look was renewed since.
            renewed: if pending && before.is_none_or(|before| lease.counter <= before.counter) {
                before.and_then(|before| before.renewed)
            } else {
                Some(now)
            },
            given: (!pending && lease.owner.as_ref() != Some(me)).then_some(Given {
                earliest: now,
                latest: now,
                unseen: Duration::ZERO,
            }),
            is_proven: pending && before.is_some_and(|before| before.is_proven),
            unowned_since: None,
            hand_off_deadline: pending.then(|| now + settings.hand_off_timeout + settings.failover),
        };
        self.leases.insert(lease.key.clone(), observed);
    }

    /// When the next lease will have expired, or the next hand-off be overdue, unless something happens before. `now`: as of
    /// when the last look judged (`began`), so that what has expired since is not passed over.
    pub fn next_deadline(&self, settings: &AssignmentSettings, now: Instant) -> Option<Instant> {
        let deadlines = self
            .leases
            .values()
            .filter(|lease| lease.actual_owner().is_some())
            .flat_map(|lease| {
                let expiry = lease.renewed.map(|renewed| renewed + lease.patience(settings));
                [expiry, lease.hand_off_deadline].into_iter().flatten()
            });
        deadlines.filter(|deadline| *deadline >= now).min()
    }

    /// When a worker that does not lead may take the lease, unless its counter rises before: after the failover time
    /// where this owner was seen to renew it, else after the assignment interval, because a Java owner has to find what
    /// it was given first; at once where it has no owner. `None`: the lease is not known.
    pub fn rescue_at(&self, shard: &ShardId, settings: &AssignmentSettings) -> Option<Instant> {
        self.leases.get(shard)?.rescue_at(settings)
    }

    /// The workers that may get leases: valid, fresh, not failing, and alive.
    ///
    /// Compat: a worker that let a lease expire, and has renewed no other lately, is taken for dead until it reports again: the
    /// leases of one that died expire one after the other, and what was taken from it must not go back to it. Java gives it leases
    /// until its last report is two report intervals old (60 s).
    fn active(
        &mut self,
        leases: &[Seen],
        reports: Vec<WorkerMetrics>,
        me: Option<&WorkerId>,
        settings: &AssignmentSettings,
        now: Instant,
        now_s: i64,
    ) -> Vec<WorkerMetrics> {
        let (mut late, mut renewing) = (BTreeSet::new(), BTreeSet::new());
        for seen in leases {
            let Some(owner) = seen.lease.actual_owner() else {
                continue;
            };
            if seen.is_free {
                late.insert(owner);
            }
            let is_recent = |renewed| now.saturating_duration_since(renewed) <= settings.failover / 2;
            if !seen.is_new && seen.renewed.is_some_and(is_recent) {
                renewing.insert(owner);
            }
        }
        let before = std::mem::take(&mut self.silent);
        // Two rows of one worker (in both layouts at once, trap 43) count as one.
        let mut by_worker: BTreeMap<WorkerId, WorkerMetrics> = BTreeMap::new();
        for report in reports {
            let is_me = me == Some(&report.worker);
            let was_silent = before.get(&report.worker) == Some(&report.updated_s);
            let is_silent =
                (late.contains(&report.worker) || was_silent) && !renewing.contains(&report.worker);
            if is_silent {
                self.silent.insert(report.worker.clone(), report.updated_s);
            }
            let is_alive = is_me || (!is_silent && report.is_fresh(now_s, 2 * settings.report_interval));
            if is_alive && report.is_valid() && !report.is_failing() {
                by_worker.insert(report.worker.clone(), report);
            }
        }
        let mut workers: Vec<WorkerMetrics> = by_worker.into_values().collect();
        if let Some(me) = me.filter(|me| workers.iter().all(|report| report.worker != **me)) {
            workers.push(WorkerMetrics::unmeasured(me.clone(), now_s));
        }
        workers
    }

    fn judge(&self, lease: Lease, settings: &AssignmentSettings, now: Instant) -> Seen {
        let observed = self.leases.get(&lease.key);
        let renewed = observed.and_then(|observed| observed.renewed);
        let expired = match (observed, renewed) {
            (Some(observed), Some(renewed)) => {
                now.saturating_duration_since(renewed) > observed.patience(settings)
            }
            (None, _) | (_, None) => true,
        };
        let is_free = expired || lease.actual_owner().is_none();
        let overdue = observed
            .and_then(|observed| observed.hand_off_deadline)
            .is_none_or(|deadline| now >= deadline);
        let pending = lease.checkpoint_owner.is_some();
        let is_blocked = pending && !is_free && !lease.checkpoint.is_shard_end() && !overdue;
        Seen {
            lease,
            is_free,
            is_blocked,
            is_new: observed.is_some_and(|observed| observed.given.is_some()),
            renewed,
        }
    }
}

/// When the table was looked at.
struct Times {
    /// When the look before began.
    last: Instant,
    began: Instant,
    ended: Instant,
}

fn observe(
    before: Option<&Observed>,
    lease: &Lease,
    settings: &AssignmentSettings,
    times: &Times,
) -> Observed {
    let Times { last, began, ended } = *times;
    let same_owners = before.is_some_and(|before| {
        before.owner == lease.owner && before.checkpoint_owner == lease.checkpoint_owner
    });
    let pending = lease.checkpoint_owner.is_some();
    let new_deadline = pending.then(|| ended + settings.hand_off_timeout + settings.failover);
    let old_deadline = before
        .filter(|_| pending && same_owners)
        .and_then(|before| before.hand_off_deadline);
    let is_same_owner = before.is_some_and(|before| before.actual_owner() == lease.actual_owner());
    let has_risen = before.is_some_and(|before| lease.counter > before.counter);
    let given_anew = || Given {
        earliest: last,
        latest: ended,
        unseen: settings.failover / 3,
    };
    let (renewed, given) = match before {
        None => (lease.actual_owner().map(|_| ended), None),
        Some(_) if has_risen => (Some(ended), (!is_same_owner).then(given_anew)),
        Some(before) => (before.renewed, before.given.clone()),
    };
    let is_proven = before.is_some_and(|before| is_same_owner && (before.is_proven || has_risen));
    let unowned_since = lease.actual_owner().is_none().then(|| {
        let since = before.and_then(|before| before.unowned_since);
        since.unwrap_or(began)
    });
    Observed {
        counter: lease.counter,
        owner: lease.owner.clone(),
        checkpoint_owner: lease.checkpoint_owner.clone(),
        renewed,
        given,
        is_proven,
        unowned_since,
        hand_off_deadline: old_deadline.or(new_deadline),
    }
}

/// What a lease says about how promptly its owner found it.
fn prove(proofs: &mut Proofs, before: Option<&Observed>, now: &Observed, times: &Times) {
    let Some(before) = before.filter(|before| before.actual_owner() == now.actual_owner()) else {
        return;
    };
    if let (Some(given), Some(owner)) = (&before.given, now.actual_owner()) {
        if now.counter > before.counter {
            proofs.found(owner, given, times.ended);
        } else {
            proofs.not_found(owner, given, times.began);
        }
    }
}
