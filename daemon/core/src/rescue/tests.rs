use super::*;
use crate::assignment::Scanned;
use crate::ids::Position;
use crate::worker_metrics::WorkerMetrics;

const NOW_S: i64 = 1_789_000_000;

/// A table under the eyes of a worker called `me` that does not lead.
struct Table {
    leases: Vec<Lease>,
    workers: Vec<WorkerMetrics>,
    memory: Observations,
    settings: AssignmentSettings,
    start: Instant,
}

/// Leases as `key=owner`, `key` without one; `key=next<old` in a hand-off. Workers that report.
fn table(leases: &str, workers: &str) -> Table {
    let lease = |text: &str| {
        let (key, owners) = text.split_once('=').unwrap_or((text, ""));
        let (owner, old) = owners.split_once('<').unwrap_or((owners, ""));
        let named = |name: &str| (!name.is_empty()).then(|| WorkerId::from(name));
        Lease {
            owner: named(owner),
            checkpoint_owner: named(old),
            ..Lease::new(key.into(), Position::TrimHorizon, Default::default(), None)
        }
    };
    Table {
        leases: leases.split_whitespace().map(lease).collect(),
        workers: workers
            .split_whitespace()
            .map(|worker| WorkerMetrics::unmeasured(worker.into(), NOW_S))
            .collect(),
        memory: Observations::default(),
        settings: AssignmentSettings::default(),
        start: Instant::now(),
    }
}

impl Table {
    /// The owners of these leases renew them.
    fn renew(&mut self, keys: &str) {
        for lease in &mut self.leases {
            if keys.split_whitespace().any(|key| key == lease.key.as_str()) {
                lease.counter += 1;
            }
        }
    }

    fn look(&mut self, me: &str, ms: u64) -> (View, Instant) {
        let now = self.start + Duration::from_millis(ms);
        let scanned = Scanned {
            leases: self.leases.clone(),
            reports: self.workers.clone(),
            began: now,
            ended: now,
            ended_s: NOW_S,
        };
        (self.memory.look(scanned, Some(&me.into()), &self.settings), now)
    }

    fn taken_by(&mut self, me: &str, ms: u64) -> Vec<String> {
        let (view, now) = self.look(me, ms);
        let mut rng = Rng::new(1);
        let moves = plan(&view, &self.memory, &me.into(), &self.settings, now, &mut rng);
        moves.iter().map(|step| step.shard().to_string()).collect()
    }

    fn taken(&mut self, ms: u64) -> Vec<String> {
        self.taken_by("me", ms)
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn an_owner_that_renewed_and_fell_silent_loses_its_lease_after_the_failover_time() {
    let mut table = table("s1=dead s2=me", "dead me");
    table.look("me", 0);
    table.renew("s1 s2");
    table.look("me", 1_000);
    table.renew("s2");
    assert_eq!(table.taken(11_000), NOTHING);
    assert_eq!(table.taken(11_001), ["s1"]);
}

#[test]
fn an_owner_that_was_never_seen_to_renew_has_the_assignment_interval() {
    let mut table = table("s1=other s2=me", "other me");
    table.look("me", 0);
    assert_eq!(table.taken(20_000), NOTHING);
    assert_eq!(table.taken(20_001), ["s1"]);
}

#[test]
fn a_java_owner_that_was_just_given_a_lease_may_be_silent_for_longer_than_the_failover_time() {
    let mut table = table("s1=old", "old java me");
    table.look("me", 0);
    table.renew("s1");
    table.look("me", 1_000);
    table.leases[0] = table.leases[0].after(&table.leases[0].assign(&"java".into()));
    table.look("me", 2_000);
    assert_eq!(table.taken(2_000 + 13_300), NOTHING);
    table.renew("s1");
    assert_eq!(table.taken(2_000 + 13_400), NOTHING);
    assert_eq!(table.taken(2_000 + 13_400 + 10_001), ["s1"]);
}

#[test]
fn leases_without_an_owner_are_taken_at_once() {
    assert_eq!(table("s1 s2", "me").taken(0), ["s1", "s2"]);
}

#[test]
fn each_live_worker_takes_its_own_share() {
    let rows = "s1 s2 s3 s4 s5=a";
    assert_eq!(table(rows, "a b").taken_by("a", 0), ["s2", "s4"]);
    assert_eq!(table(rows, "a b").taken_by("b", 0), ["s1", "s3"]);
}

#[test]
fn what_nobody_took_within_the_grace_is_taken_whatever_the_shares() {
    let mut table = table("s1 s2 s3=me", "java me");
    assert_eq!(table.taken(0), NOTHING);
    let mut taken = table.taken(800);
    taken.sort();
    assert_eq!(taken, ["s1", "s2"]);
}

#[test]
fn no_worker_takes_more_than_the_most_it_may_hold() {
    let mut table = table("s1 s2 s3 s4=me", "me");
    table.settings.leases_max = 3;
    assert_eq!(table.taken(0), ["s1", "s2"]);
    assert_eq!(table.taken(5_000).len(), 2);
}

#[test]
fn a_hand_off_whose_old_owner_died_is_ended() {
    let mut table = table("s1=next<dead s2=me", "dead me");
    table.look("me", 0);
    table.renew("s1 s2");
    table.look("me", 1_000);
    table.renew("s2");
    assert_eq!(table.taken(11_001), ["s1"]);
}

#[test]
fn a_hand_off_whose_old_owner_renews_is_left_alone_however_long_it_takes() {
    let mut table = table("s1=me<slow", "slow me");
    for second in 0..120 {
        table.renew("s1");
        assert_eq!(table.taken(second * 1_000), NOTHING);
    }
}

#[test]
fn asking_for_a_hand_off_is_no_sign_that_the_old_owner_lives() {
    let mut table = table("s1=dead s2=me", "dead me");
    table.look("me", 0);
    table.renew("s1 s2");
    table.look("me", 1_000);
    let asked = table.leases[0].request_hand_off(&"me".into()).expect("an owner");
    table.leases[0] = table.leases[0].after(&asked);
    table.renew("s2");
    assert_eq!(table.taken(11_001), ["s1"]);
}

#[test]
fn a_row_that_names_this_worker_is_left_to_discovery() {
    let mut table = table("s1=me", "me");
    table.look("me", 0);
    assert_eq!(table.taken(60_000), NOTHING);
}

#[test]
fn the_next_look_is_due_when_a_lease_expires_and_again_after_the_grace() {
    let mut table = table("s1=other", "other me");
    let (view, now) = table.look("me", 0);
    let due = |now| {
        let due = next_deadline(&view, &table.memory, &"me".into(), &table.settings, now);
        due.map(|due| due.duration_since(table.start).as_millis())
    };
    assert_eq!(due(now), Some(20_000));
    assert_eq!(due(now + Duration::from_millis(20_001)), Some(20_800));
    assert_eq!(due(now + Duration::from_millis(20_801)), None);
}
