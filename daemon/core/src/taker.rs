//! Which leases a worker takes for itself in a fleet that plays by the rules of 2.x (`leasing.md 4`, `DynamoDBLeaseTaker`).
//!
//! Owns the plan and what this worker remembers between two looks at the table; never reads or writes a row.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::ids::{ShardId, WorkerId};
use crate::leases::Lease;
use crate::rng::Rng;

/// A lease that nobody renewed for this many failover times is very old.
const VERY_OLD_FAILOVERS: u32 = 3;

/// What has expired is left so long to the other workers, before it is taken beyond the own share: some time for their looks,
/// of the two seconds within which it must flow again.
const LEFT_FOR: Duration = Duration::from_millis(500);

/// How a worker takes leases; each with Java's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakerSettings {
    /// `failoverTimeMillis`: a lease that was not renewed for longer has expired.
    pub failover: Duration,
    /// `maxLeasesForWorker`.
    pub leases_max: usize,
    /// `maxLeasesToStealAtOneTime`.
    pub steal_max: usize,
    /// `enablePriorityLeaseAssignment`: take very old leases first, whatever the fair share.
    pub priority: bool,
}

impl Default for TakerSettings {
    fn default() -> Self {
        Self {
            failover: Duration::from_secs(10),
            leases_max: i32::MAX as usize,
            steal_max: 1,
            priority: true,
        }
    }
}

/// A lease to take.
#[derive(Clone, Debug, PartialEq)]
pub struct Take {
    /// The row as it was seen.
    pub lease: Lease,
    /// Its owner is alive, and has more than its share.
    pub is_stolen: bool,
}

/// What a round sees, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Leases.
    pub leases: usize,
    /// Workers that renew some, and this one.
    pub workers: usize,
    /// Leases without an owner, or expired.
    pub available: usize,
    /// Very old ones that fall to this worker.
    pub very_old: usize,
    /// What it has less than its share.
    pub needed: usize,
    /// What its share would be above `maxLeasesForWorker`.
    pub spillover: usize,
}

/// What this worker remembers: when each counter was last seen to change, by its own monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Taker {
    seen: BTreeMap<ShardId, Seen>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    counter: u64,
    /// `None`: never renewed (trap 23).
    renewed: Option<Instant>,
}

impl Taker {
    /// All leases as they were scanned until `ended`. A lease that is seen for the first time counts as just renewed if
    /// it has an owner (trap 25), and as never renewed if not.
    pub fn look(&mut self, leases: &[Lease], ended: Instant) {
        let before = std::mem::take(&mut self.seen);
        for lease in leases {
            let renewed = match before.get(&lease.key) {
                Some(seen) if seen.counter == lease.counter => seen.renewed,
                Some(_) => Some(ended),
                None => lease.owner.as_ref().map(|_| ended),
            };
            let counter = lease.counter;
            self.seen.insert(lease.key.clone(), Seen { counter, renewed });
        }
    }

    /// The lease was taken by a write that was sent at `sent`.
    pub fn taken(&mut self, lease: &Lease, sent: Instant) {
        let seen = Seen {
            counter: lease.counter,
            renewed: Some(sent),
        };
        self.seen.insert(lease.key.clone(), seen);
    }

    /// What to take. `began`: when the scan that was looked at began, because a row that stands still is judged by the
    /// earliest time at which it can have been read. `steal`: whether it is time to balance, too.
    ///
    /// Compat: as in Java a lease that has never been renewed is very old, so that the first worker of a new application
    /// takes all of its leases, and the others steal their share, one per round (trap 24).
    pub fn plan(
        &self,
        leases: &[Lease],
        me: &WorkerId,
        settings: &TakerSettings,
        began: Instant,
        steal: bool,
        rng: &mut Rng,
    ) -> Vec<Take> {
        let is_available =
            |lease: &&Lease| lease.owner.is_none() || self.is_older(lease, settings.failover, began);
        let (available, owned): (Vec<&Lease>, Vec<&Lease>) = leases.iter().partition(is_available);
        let mut counts = BTreeMap::from([(me, 0_usize)]);
        for owner in owned.iter().filter_map(|lease| lease.owner.as_ref()) {
            *counts.entry(owner).or_default() += 1;
        }
        let mine = counts[me];
        if settings.priority {
            let age = settings.failover * VERY_OLD_FAILOVERS;
            let very_old: Vec<&Lease> = leases
                .iter()
                .filter(|lease| self.is_older(lease, age, began))
                .collect();
            if !very_old.is_empty() {
                return take(very_old, settings.leases_max.saturating_sub(mine), false, rng);
            }
        }
        let target = target(leases.len(), counts.len()).min(settings.leases_max);
        let needed = target.saturating_sub(mine);
        if !available.is_empty() {
            let mut takes = take(available.clone(), needed, false, rng);
            // Compat: Java leaves what is beyond its share to the others until it is very old. What they have not taken
            // by now waits for a Java worker's next looks: it is taken now, and the balance made up for by stealing.
            let is_left = |lease: &&Lease| {
                let is_taken = takes.iter().any(|take| take.lease.key == lease.key);
                !is_taken && self.is_older(lease, settings.failover + LEFT_FOR, began)
            };
            let left = available.into_iter().filter(is_left).collect();
            let room = settings.leases_max.saturating_sub(mine + takes.len());
            takes.extend(take(left, room, false, rng));
            return takes;
        }
        if !steal {
            return Vec::new();
        }
        let most = counts.iter().rev().max_by_key(|(_, count)| **count);
        let Some((victim, count)) = most else {
            return Vec::new();
        };
        let theirs = owned
            .into_iter()
            .filter(|lease| lease.owner.as_ref() == Some(*victim));
        take(
            theirs.collect(),
            to_steal(needed, *count, target).min(settings.steal_max),
            true,
            rng,
        )
    }

    /// What a plan by the same arguments goes by.
    pub fn figures(
        &self,
        leases: &[Lease],
        me: &WorkerId,
        settings: &TakerSettings,
        began: Instant,
    ) -> Figures {
        let is_owned =
            |lease: &&Lease| lease.owner.is_some() && !self.is_older(lease, settings.failover, began);
        let owned: Vec<&Lease> = leases.iter().filter(is_owned).collect();
        let mine = owned
            .iter()
            .filter(|lease| lease.owner.as_ref() == Some(me))
            .count();
        let workers = self.others(leases, me, settings, began).len() + 1;
        let age = settings.failover * VERY_OLD_FAILOVERS;
        let very_old = leases
            .iter()
            .filter(|lease| settings.priority && self.is_older(lease, age, began));
        let share = if leases.is_empty() {
            0
        } else {
            target(leases.len(), workers)
        };
        Figures {
            leases: leases.len(),
            workers,
            available: leases.len() - owned.len(),
            very_old: very_old.count().min(settings.leases_max.saturating_sub(mine)),
            needed: share.min(settings.leases_max).saturating_sub(mine),
            spillover: share.saturating_sub(settings.leases_max),
        }
    }

    /// The other workers that renew leases.
    pub fn others(
        &self,
        leases: &[Lease],
        me: &WorkerId,
        settings: &TakerSettings,
        began: Instant,
    ) -> Vec<WorkerId> {
        let owned = leases
            .iter()
            .filter(|lease| !self.is_older(lease, settings.failover, began));
        let others: BTreeSet<&WorkerId> = owned
            .filter_map(|lease| lease.owner.as_ref())
            .filter(|owner| *owner != me)
            .collect();
        others.into_iter().cloned().collect()
    }

    /// When the next lease of others expires, or is left to whoever comes first, unless it is renewed. `now`: as of when the last plan judged (`began`), so that
    /// one that has expired since is not passed over.
    pub fn next_expiry(&self, settings: &TakerSettings, now: Instant) -> Option<Instant> {
        let expiries = self
            .seen
            .values()
            .filter_map(|seen| Some(seen.renewed? + settings.failover))
            .flat_map(|expiry| [expiry, expiry + LEFT_FOR]);
        expiries.filter(|expiry| *expiry >= now).min()
    }

    fn is_older(&self, lease: &Lease, age: Duration, now: Instant) -> bool {
        let renewed = self.seen.get(&lease.key).and_then(|seen| seen.renewed);
        renewed.is_none_or(|renewed| now.saturating_duration_since(renewed) > age)
    }
}

/// A fair share.
fn target(leases: usize, workers: usize) -> usize {
    if workers >= leases {
        1
    } else {
        leases.div_ceil(workers)
    }
}

/// How many to steal from a worker that has `count`: what it has above the target, and one if we need more than one and
/// it has exactly the target. An imbalance of one lease stays (trap 26).
fn to_steal(needed: usize, count: usize, target: usize) -> usize {
    match count.checked_sub(target) {
        Some(0) if needed > 1 => 1,
        Some(above) => needed.min(above),
        None => 0,
    }
}

/// Some of the leases, by chance; those of finished shards last, since there is nothing left to do for them.
///
/// Compat: Java's choice does not ask what is finished, and after a reshard a newcomer may get nothing else.
fn take(mut leases: Vec<&Lease>, count_max: usize, is_stolen: bool, rng: &mut Rng) -> Vec<Take> {
    rng.shuffle(&mut leases);
    leases.sort_by_key(|lease| lease.checkpoint.is_shard_end());
    let chosen = leases.into_iter().take(count_max);
    chosen
        .map(|lease| Take {
            lease: lease.clone(),
            is_stolen,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Position;

    const F: Duration = Duration::from_secs(10);

    /// `"a: s1 s2 | b: s3 | -: s4"`: owners and their leases, `-` standing for nobody.
    fn leases(fleet: &str) -> Vec<Lease> {
        let owner = |part: &str| {
            let (owner, shards) = part.split_once(':').unwrap();
            let lease = |shard: &str| Lease {
                owner: (owner.trim() != "-").then(|| owner.trim().into()),
                ..Lease::new(shard.into(), Position::TrimHorizon, Default::default(), None)
            };
            shards.split_whitespace().map(lease).collect::<Vec<_>>()
        };
        fleet.split('|').flat_map(owner).collect()
    }

    fn settings() -> TakerSettings {
        TakerSettings {
            priority: false,
            ..TakerSettings::default()
        }
    }

    /// What `me` takes after a look `age` after the first one, at which nothing had been renewed.
    fn plan(fleet: &str, age: Duration, settings: &TakerSettings) -> Vec<String> {
        let (leases, first) = (leases(fleet), Instant::now());
        let mut taker = Taker::default();
        taker.look(&leases, first);
        let now = first + age;
        taker.look(&leases, now);
        let takes = taker.plan(&leases, &"me".into(), settings, now, true, &mut Rng::new(1));
        let mut shown: Vec<String> = takes
            .iter()
            .map(|take| {
                format!(
                    "{}{}",
                    take.lease.key,
                    if take.is_stolen { " stolen" } else { "" }
                )
            })
            .collect();
        shown.sort();
        shown
    }

    #[test]
    fn the_figures_are_those_of_the_plan() {
        let (leases, start) = (leases("a: s1 s2 s3 | me: s4 | -: s5 s6 s7"), Instant::now());
        let mut taker = Taker::default();
        taker.look(&leases, start);
        let settings = TakerSettings {
            leases_max: 3,
            ..settings()
        };
        let figures = |settings: &TakerSettings| taker.figures(&leases, &"me".into(), settings, start);
        let expected = Figures {
            leases: 7,
            workers: 2,
            available: 3,
            very_old: 0,
            needed: 2,
            spillover: 1,
        };
        assert_eq!(figures(&settings), expected);
        let very_old = figures(&TakerSettings {
            priority: true,
            ..settings
        });
        assert_eq!(very_old.very_old, 2, "as far as maxLeasesForWorker goes");
    }

    #[test]
    fn without_leases_nothing_is_taken() {
        assert_eq!(plan("me:", Duration::ZERO, &settings()), [""; 0]);
    }

    #[test]
    fn leases_without_an_owner_are_taken_up_to_the_fair_share() {
        assert_eq!(
            plan("a: s1 s2 | -: s3 s4 s5", Duration::ZERO, &settings()).len(),
            3
        );
        assert_eq!(
            plan("a: s1 s2 s3 | me: s4 | -: s5", Duration::ZERO, &settings()),
            ["s5"]
        );
        assert_eq!(plan("a: s1 | me: s2 | -: s3", F, &settings()), ["s3"]);
    }

    #[test]
    fn a_lease_with_an_owner_is_just_renewed_at_first_sight_and_expires_after_more_than_the_failover_time() {
        assert_eq!(plan("a: s1", F, &settings()), [""; 0]);
        assert_eq!(plan("a: s1", F + Duration::from_millis(1), &settings()), ["s1"]);
    }

    #[test]
    fn a_counter_that_changed_either_way_is_a_renewal() {
        let (mut rows, start) = (leases("a: s1"), Instant::now());
        rows[0].counter = 7;
        let mut taker = Taker::default();
        taker.look(&rows, start);
        rows[0].counter = 6;
        taker.look(&rows, start + F);
        let late = start + F + F;
        taker.look(&rows, late);
        assert_eq!(
            taker.plan(&rows, &"me".into(), &settings(), late, true, &mut Rng::new(1)),
            []
        );
    }

    #[test]
    fn a_lease_that_was_given_back_is_available_at_once() {
        let (mut rows, start) = (leases("a: s1 s2 | me: s3"), Instant::now());
        let mut taker = Taker::default();
        taker.look(&rows, start);
        (rows[0].owner, rows[0].counter) = (None, 1);
        taker.look(&rows, start + Duration::from_secs(1));
        let takes = taker.plan(&rows, &"me".into(), &settings(), start, false, &mut Rng::new(1));
        assert_eq!(takes.len(), 1);
        assert!(!takes[0].is_stolen);
    }

    #[test]
    fn never_renewed_leases_pre_empt_the_fair_share_and_obey_the_limit() {
        let priority = TakerSettings::default();
        assert_eq!(
            plan("a: s1 s2 | -: s3 s4 s5 s6", Duration::ZERO, &priority).len(),
            4
        );
        let limited = TakerSettings {
            leases_max: 3,
            ..priority
        };
        assert_eq!(plan("me: s1 s2 | -: s3 s4", Duration::ZERO, &limited).len(), 1);
        assert_eq!(plan("me: s1 s2 s6 | -: s3 s4", Duration::ZERO, &limited), [""; 0]);
    }

    #[test]
    fn expired_leases_are_very_old_after_three_failover_times() {
        // a's leases and ours have expired; b's are known to live, as counts say.
        let priority = TakerSettings::default();
        assert_eq!(plan("a: s1 s2 s3", F * 3, &priority).len(), 3);
        let (mut rows, start) = (leases("a: s1 s2 s3 | b: s4 s5"), Instant::now());
        let mut taker = Taker::default();
        taker.look(&rows, start);
        rows[3].counter = 1;
        rows[4].counter = 1;
        let late = start + F + Duration::from_secs(1);
        taker.look(&rows, late);
        let plan = |settings| {
            taker
                .plan(&rows, &"me".into(), &settings, late, true, &mut Rng::new(1))
                .len()
        };
        assert_eq!(
            plan(TakerSettings::default()),
            3,
            "the share of two workers is 3 of 5"
        );
        let limited = TakerSettings {
            leases_max: 2,
            ..TakerSettings::default()
        };
        assert_eq!(plan(limited), 2);
    }

    #[test]
    fn what_the_others_leave_of_expired_leases_is_taken_beyond_the_share() {
        let fleet = "dead: s1 s2 | java: s3 | me: s4 s5";
        let plan = |age: Duration| {
            let (mut rows, start) = (leases(fleet), Instant::now());
            let mut taker = Taker::default();
            taker.look(&rows, start);
            rows[2..].iter_mut().for_each(|row| row.counter += 1);
            let now = start + age;
            taker.look(&rows, now);
            taker
                .plan(&rows, &"me".into(), &settings(), now, true, &mut Rng::new(1))
                .len()
        };
        assert_eq!(plan(F + Duration::from_millis(1)), 1);
        assert_eq!(plan(F + LEFT_FOR), 1);
        assert_eq!(plan(F + LEFT_FOR + Duration::from_millis(1)), 2);
    }

    #[test]
    fn one_lease_is_stolen_from_who_has_most() {
        assert_eq!(
            plan("a: s1 | b: s2 s3 s4 s5", Duration::ZERO, &settings()).len(),
            1
        );
        let stolen = plan("a: s1 | b: s2 s3 s4 s5", Duration::ZERO, &settings());
        assert!(stolen[0].ends_with("stolen") && !stolen[0].starts_with("s1"));
    }

    #[test]
    fn as_many_are_stolen_as_are_needed_and_above_the_share() {
        let many = TakerSettings {
            steal_max: 10,
            ..settings()
        };
        assert_eq!(plan("a: s1 s2 s3 s4 s5 s6", Duration::ZERO, &many).len(), 3);
        assert_eq!(plan("a: s1 s2 s3 s4 s5 | b: s6", Duration::ZERO, &many).len(), 2);
    }

    #[test]
    fn leases_of_finished_shards_are_stolen_last() {
        let mut rows = leases("a: s1 s2 s3 s4");
        rows[0].checkpoint = Position::ShardEnd;
        rows[1].checkpoint = Position::ShardEnd;
        rows[3].checkpoint = Position::ShardEnd;
        let now = Instant::now();
        let mut taker = Taker::default();
        taker.look(&rows, now);
        for seed in 0..20 {
            let stolen = taker.plan(&rows, &"me".into(), &settings(), now, true, &mut Rng::new(seed));
            let keys: Vec<&str> = stolen.iter().map(|take| take.lease.key.as_str()).collect();
            assert_eq!(keys, ["s3"], "seed {seed}");
        }
    }

    #[test]
    fn an_imbalance_of_one_lease_is_left_alone() {
        assert_eq!(plan("a: s1 s2 | me: s3", Duration::ZERO, &settings()), [""; 0]);
    }

    #[test]
    fn a_worker_with_exactly_its_share_gives_one_to_who_needs_two() {
        // Three workers, six leases: a share of two, and a newcomer that has none: target 2, needed 2.
        assert_eq!(
            plan("a: s1 s2 | b: s3 s4 | c: s5 s6", Duration::ZERO, &settings()).len(),
            1
        );
        assert_eq!(plan("a: s1 | b: s2", Duration::ZERO, &settings()), [""; 0]);
    }

    #[test]
    fn two_workers_with_nothing_but_stealing_end_within_one_of_each_other() {
        let mut rows = leases("a: s1 s2 s3 s4 s5 s6 s7");
        let (mut rng, now) = (Rng::new(3), Instant::now());
        for _ in 0..10 {
            for me in ["a", "b"] {
                let mut taker = Taker::default();
                taker.look(&rows, now);
                for take in taker.plan(&rows, &me.into(), &settings(), now, true, &mut rng) {
                    let row = rows.iter_mut().find(|row| row.key == take.lease.key).unwrap();
                    row.owner = Some(me.into());
                }
            }
        }
        let of_b = rows.iter().filter(|row| row.owner == Some("b".into())).count();
        assert_eq!(of_b, 3);
    }

    #[test]
    fn the_next_expiry_is_that_of_the_lease_that_was_not_renewed_for_longest() {
        let (rows, start) = (leases("a: s1 | -: s2"), Instant::now());
        let mut taker = Taker::default();
        taker.look(&rows, start);
        assert_eq!(taker.next_expiry(&settings(), start), Some(start + F));
    }
}
