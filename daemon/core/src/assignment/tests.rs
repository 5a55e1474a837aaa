use std::collections::BTreeSet;

use super::*;
use crate::ids::Position;

const NOW_S: i64 = 1_789_000_000;

/// A table under a leader's eyes.
struct Table {
    leases: Vec<Lease>,
    workers: Vec<WorkerMetrics>,
    memory: Observations,
    settings: AssignmentSettings,
    start: Instant,
}

#[test]
fn unowned_leases_go_to_the_only_worker_at_the_first_look() {
    let mut table = table("s1 s2", "me");
    assert_eq!(table.moves(0), ["s1 -> me", "s2 -> me"]);
}

#[test]
fn unowned_leases_are_spread_evenly() {
    let mut table = table("s1 s2 s3 s4", "a b");
    assert_eq!(table.moves(0), ["s1 -> a", "s2 -> b", "s3 -> a", "s4 -> b"]);
}

#[test]
fn an_owned_lease_expires_when_its_counter_stood_still_for_longer_than_the_failover_time() {
    let mut table = table("s1=dead s2=me", "me");
    assert!(table.moves(0).is_empty());
    table.renew("me");
    assert!(table.moves(10_000).is_empty());
    table.renew("me");
    assert_eq!(table.moves(10_001), ["s1 -> me"]);
}

#[test]
fn a_slow_scan_makes_no_lease_look_older_than_it_is() {
    let mut table = table("s1=other", "me");
    table.look(0, Some("me"));
    let scanned = Scanned {
        leases: table.leases.clone(),
        reports: table.workers.clone(),
        began: table.start + Duration::from_secs(9),
        ended: table.start + Duration::from_secs(15),
        ended_s: NOW_S,
    };
    let view = table.memory.look(scanned, Some(&"me".into()), &table.settings);
    assert!(!view.leases[0].is_free);
}

#[test]
fn an_expired_lease_is_reassigned_only_if_its_owner_stays_silent() {
    let mut table = table("s1=dead s2=me", "me");
    table.look(0, None);
    table.renew("me");
    let view = table.look(10_001, None);
    let moves = plan(&view, &table.settings, false, &mut Rng::new(1));
    assert_eq!(moves[0].write(), table.leases[0].take_expired(&"me".into()));
}

#[test]
fn a_renewed_lease_never_expires() {
    let mut table = table("s1=alive", "me alive");
    for second in 0..60 {
        assert!(table.moves(second * 1000).is_empty());
        table.renew("alive");
    }
}

#[test]
fn a_worker_whose_leases_have_all_expired_gets_none() {
    let mut table = table("s1=dead s2=dead s3", "me dead");
    table.moves(0);
    assert_eq!(table.moves(11_000), ["s3 -> me", "s1 -> me", "s2 -> me"]);
}

#[test]
fn a_worker_that_let_its_leases_expire_gets_none_before_it_reports_again() {
    let mut table = table("s1=dead", "me dead");
    table.moves(0);
    assert_eq!(table.moves(11_000), ["s1 -> me"]);
    table.assign("s1", "me", 11_000);
    table.leases.push(Lease::new(
        "s2".into(),
        Position::TrimHorizon,
        BTreeSet::new(),
        None,
    ));
    assert_eq!(table.moves(12_000), ["s2 -> me"]);
    table.workers[1].updated_s = Some(NOW_S + 1);
    assert_eq!(table.moves(13_000), ["s2 -> dead"]);
}

#[test]
fn a_worker_whose_first_lease_has_expired_gets_none_while_the_others_are_about_to() {
    let mut table = table("s1=dead s2=dead s3=me s4=me s5=me s6=me", "me dead");
    table.lead("me", 0);
    table.leases[1].counter += 1;
    table.lead("me", 2_000);
    table.renew("me");
    let view = table.look(10_001, Some("me"));
    let moves = show(&plan(&view, &table.settings, true, &mut Rng::new(1)));
    assert_eq!(moves, ["s1 -> me"]);
    table.assign("s1", "me", 10_001);
    table.renew("me");
    let view = table.look(11_000, Some("me"));
    assert_eq!(
        show(&plan(&view, &table.settings, true, &mut Rng::new(1))),
        [""; 0]
    );
}

#[test]
fn an_assigned_lease_waits_an_interval_for_its_owner_to_find_it() {
    let mut table = table("s1", "a b");
    assert_eq!(table.moves(0), ["s1 -> a"]);
    table.assign("s1", "a", 0);
    assert!(table.moves(19_000).is_empty());
    assert_eq!(table.moves(20_001), ["s1 -> b"]);
}

#[test]
fn a_worker_that_stopped_reporting_gets_nothing() {
    let mut table = table("s1 s2", "a b");
    table.workers[0].updated_s = Some(NOW_S - 61);
    assert_eq!(table.moves(0), ["s1 -> b", "s2 -> b"]);
}

#[test]
fn a_failing_worker_gets_nothing() {
    let mut table = table("s1 s2", "a b");
    table.workers[0].samples.insert("C".to_owned(), vec![10.0, -1.0]);
    table.workers[0]
        .operating_range
        .insert("C".to_owned(), vec![100.0]);
    assert_eq!(table.moves(0), ["s1 -> b", "s2 -> b"]);
}

#[test]
fn nobody_gets_more_leases_than_allowed() {
    let mut table = table("s1 s2 s3", "a b");
    table.settings.leases_max = 1;
    assert_eq!(table.moves(0), ["s1 -> a", "s2 -> b"]);
}

#[test]
fn the_worker_with_most_room_gets_the_lease() {
    let mut table = table("s1=a:80 s2=b:20 s3:30", "a b");
    assert_eq!(table.moves(0), ["s3 -> b"]);
}

#[test]
fn this_worker_counts_as_active_before_its_report_is_visible() {
    let mut table = table("s1", "");
    assert!(table.moves(0).is_empty());
    let view = table.look(1, Some("me"));
    assert_eq!(
        show(&plan(&view, &table.settings, false, &mut Rng::new(1))),
        ["s1 -> me"]
    );
}

#[test]
fn what_nobody_works_on_goes_to_this_worker_rather_than_to_one_that_may_look_for_it_later() {
    let mut table = table("s1=dead s2=me s3=java", "me java");
    table.lead("me", 0);
    table.renew("java");
    assert_eq!(table.lead("me", 10_001), ["s1 -> me"]);
}

#[test]
fn a_worker_that_was_seen_to_start_at_once_gets_its_share_of_what_nobody_works_on() {
    let mut table = table("s1 s2=me s3=me", "me ours");
    assert_eq!(table.lead("me", 0), ["s1 -> me"]);
    table.found_after(1_000, "s1", "ours", 0);
    table.owned_by("s1", None);
    assert_eq!(table.lead("me", 2_000), ["s1 -> ours"]);
}

#[test]
fn a_worker_that_was_late_once_has_to_start_at_once_three_times_in_a_row() {
    let mut table = table("s1 s2=me s3=me", "me java");
    table.lead("me", 0);
    table.found_after(3_500, "s1", "java", 0);
    for (second, owner) in [(5, "me"), (10, "me"), (15, "me"), (20, "java")] {
        table.owned_by("s1", None);
        assert_eq!(table.lead("me", second * 1000), [format!("s1 -> {owner}")]);
        table.found_after(1_000, "s1", "java", second * 1000);
    }
}

#[test]
fn several_leases_that_a_worker_finds_at_one_look_prove_no_more_than_one() {
    let mut table = table("s1 s2=me s3=me s4", "me java");
    table.lead("me", 0);
    table.found_after(3_500, "s1", "java", 0);
    table.assign("s1", "java", 5_000);
    table.assign("s2", "java", 5_000);
    table.renew("java");
    assert_eq!(table.lead("me", 6_000), ["s4 -> me"]);
}

#[test]
fn a_hand_off_that_was_found_before_it_was_seen_to_be_over_speaks_against_nobody() {
    let mut table = table("s1 s2=me s3=me s4=me", "me ours");
    table.lead("me", 0);
    table.found_after(1_000, "s1", "ours", 0);
    // Given by its old owner and renewed, all between two looks; the next renewal comes a third of the failover time later.
    table.owned_by("s2", Some("ours"));
    for ms in [2_000, 3_000, 4_000, 5_000] {
        table.lead("me", ms);
    }
    table.renew("ours");
    table.lead("me", 5_300);
    table.owned_by("s1", None);
    assert_eq!(table.lead("me", 6_000), ["s1 -> ours"]);
}

#[test]
fn where_no_worker_that_starts_at_once_may_get_more_anybody_gets_it() {
    let mut table = table("s1 s2=me", "me java");
    table.settings.leases_max = 1;
    assert_eq!(table.lead("me", 0), ["s1 -> java"]);
}

#[test]
fn in_a_large_fleet_everybody_gets_a_share() {
    let leases: Vec<String> = (0..300).map(|lease| format!("s{lease}")).collect();
    let mut table = table(&leases.join(" "), "me other");
    let moves = table.lead("me", 0);
    let to_other = moves.iter().filter(|step| step.ends_with("other")).count();
    assert_eq!(to_other, 150);
}

#[test]
fn balancing_asks_nobody_how_soon_they_start() {
    let mut table = table("s1=me s2=me s3=me s4=me", "me java");
    let view = table.look(0, Some("me"));
    let moves = show(&plan(&view, &table.settings, true, &mut Rng::new(1)));
    assert!(
        moves.len() == 2 && moves.iter().all(|step| step.ends_with("=> java")),
        "{moves:?}"
    );
}

#[test]
fn an_overloaded_worker_is_asked_to_hand_a_lease_over() {
    let mut table = table("s1=a:50 s2=a:50 s3=a:50 s4=a:50", "a b");
    let moves = table.balance(0);
    assert_eq!(moves.len(), 1, "{moves:?}");
    assert!(moves[0].ends_with("=> b"), "{moves:?}");
}

#[test]
fn a_lease_that_its_owner_has_not_found_yet_is_not_handed_over() {
    let mut table = table("s1 s2", "a b");
    table.look(0, None);
    table.assign("s1", "a", 100);
    table.assign("s2", "a", 100);
    table.leases[0].throughput_kbps = Some(50.0);
    table.leases[1].throughput_kbps = Some(50.0);
    assert!(table.balance(200).is_empty());
    table.renew("a");
    assert_eq!(table.balance(300).len(), 1);
}

#[test]
fn leases_without_throughput_are_balanced_by_their_number() {
    let mut table = table("s1=a s2=a s3=a s4=a", "a b");
    assert_eq!(table.balance(0).len(), 2);
}

#[test]
fn without_graceful_hand_off_a_lease_moves_at_once() {
    let mut table = table("s1=a s2=a", "a b");
    table.settings.graceful_hand_off = false;
    let moves = table.balance(0);
    assert!(moves.len() == 1 && moves[0].ends_with("-> b"), "{moves:?}");
}

#[test]
fn a_pending_hand_off_is_left_alone_until_its_deadline() {
    let mut table = table("s1=b", "a b");
    table.leases[0].checkpoint_owner = Some("a".into());
    for second in 0..40 {
        assert!(table.balance(second * 1000).is_empty(), "at {second} s");
        table.renew("a");
    }
    assert_eq!(table.moves(40_000), ["s1 -> b"]);
}

#[test]
fn the_next_owner_after_a_hand_off_has_an_interval_to_find_the_lease() {
    let mut table = table("s1=b s2=a", "a b");
    table.leases[0].checkpoint_owner = Some("a".into());
    table.moves(0);
    table.renew("a");
    table.leases[0].checkpoint_owner = None;
    assert!(table.moves(2_000).is_empty());
    table.renew("a");
    assert!(table.moves(13_000).is_empty());
    table.renew("a");
    assert_eq!(table.moves(22_001), ["s1 -> a"]);
}

#[test]
fn a_hand_off_whose_old_owner_died_is_settled_when_the_lease_expires() {
    let mut table = table("s1=b", "b");
    table.leases[0].checkpoint_owner = Some("a".into());
    assert!(table.moves(0).is_empty());
    assert_eq!(table.moves(10_001), ["s1 -> b"]);
}

#[test]
fn a_renewal_that_shows_only_in_the_answer_to_the_request_for_a_hand_off_is_one() {
    let mut table = table("s1=a", "a b");
    assert!(table.moves(0).is_empty());
    table.renew("a"); // between the look and the request, which does not change the counter
    table.leases[0].checkpoint_owner = Some("a".into());
    table.leases[0].owner = Some("b".into());
    let (lease, at) = (table.leases[0].clone(), table.start + Duration::from_secs(9));
    table.memory.moved(&lease, &"leader".into(), &table.settings, at);
    assert!(table.moves(10_001).is_empty());
    assert_eq!(table.moves(19_001), ["s1 -> b"]);
}

#[test]
fn balanced_fleets_are_left_alone() {
    let mut table = table("s1=a:50 s2=b:50", "a b");
    assert!(table.balance(0).is_empty());
}

#[test]
fn the_next_deadline_is_the_first_possible_expiry() {
    let mut table = table("s1=a s2", "a");
    table.moves(0);
    let (start, settings) = (table.start, table.settings.clone());
    assert_eq!(
        table.memory.next_deadline(&settings, start),
        Some(start + settings.failover)
    );
}

#[test]
fn plans_give_every_free_lease_one_active_owner_and_move_no_lease_twice() {
    for seed in 0..300 {
        let mut table = random_table(seed);
        let view = table.look(20_001, None);
        let moves = plan(&view, &table.settings, true, &mut Rng::new(seed));
        let moved: BTreeSet<&ShardId> = moves.iter().map(Move::shard).collect();
        assert_eq!(moved.len(), moves.len(), "seed {seed}: a lease moved twice");
        for step in &moves {
            assert!(
                view.workers.iter().any(|report| report.worker == *step.to()),
                "seed {seed}: {step:?}"
            );
        }
        let room = view.workers.len() * table.settings.leases_max;
        let is_left = |seen: &&Seen| {
            seen.is_free && seen.lease.actual_owner().is_none() && !moved.contains(&seen.lease.key)
        };
        let left = view.leases.iter().filter(is_left).count();
        assert!(
            left == 0 || room < view.leases.len(),
            "seed {seed}: {left} leases left"
        );
    }
}

#[test]
fn repeated_balancing_comes_to_rest_near_the_mean() {
    for seed in 0..40 {
        let mut rng = Rng::new(seed);
        let workers = 2 + rng.below(6);
        let leases = workers * 20;
        let names: Vec<String> = (0..workers).map(|worker| format!("w{worker}")).collect();
        let text: Vec<String> = (0..leases)
            .map(|lease| format!("s{lease}=w0:{}", 1 + rng.below(20)))
            .collect();
        let mut table = table(&text.join(" "), &names.join(" "));
        for round in 0..30 {
            let view = table.look(round * 60_000, None);
            for step in plan(&view, &table.settings, true, &mut rng) {
                let lease = table
                    .leases
                    .iter_mut()
                    .find(|lease| lease.key == *step.shard())
                    .unwrap();
                lease.owner = Some(step.to().clone());
                lease.counter += 1;
            }
            names.iter().for_each(|worker| table.renew(worker));
        }
        let load = |worker: &String| {
            let held = table
                .leases
                .iter()
                .filter(|lease| lease.owner == Some(worker.as_str().into()));
            held.map(|lease| lease.throughput_kbps.unwrap()).sum::<f64>()
        };
        let loads: Vec<f64> = names.iter().map(load).collect();
        let mean = loads.iter().sum::<f64>() / loads.len() as f64;
        let worst = loads
            .iter()
            .map(|load| (load - mean).abs() / mean)
            .fold(0.0, f64::max);
        assert!(worst < 0.2, "seed {seed}: {loads:?}");
    }
}

/// `"s1 s2=owner s3=owner:12.5"`: leases, their owners, their throughput; and the workers that report.
fn table(leases: &str, workers: &str) -> Table {
    let lease = |text: &str| {
        let (text, kbps) = text
            .split_once(':')
            .map_or((text, None), |(text, kbps)| (text, Some(kbps)));
        let (key, owner) = text
            .split_once('=')
            .map_or((text, None), |(key, owner)| (key, Some(owner)));
        Lease {
            owner: owner.map(WorkerId::from),
            throughput_kbps: kbps.map(|kbps| kbps.parse().unwrap()),
            ..Lease::new(key.into(), Position::TrimHorizon, BTreeSet::new(), None)
        }
    };
    let report = |worker: &str| WorkerMetrics::unmeasured(worker.into(), NOW_S);
    Table {
        leases: leases.split_whitespace().map(lease).collect(),
        workers: workers.split_whitespace().map(report).collect(),
        memory: Observations::default(),
        settings: AssignmentSettings::default(),
        start: Instant::now(),
    }
}

fn random_table(seed: u64) -> Table {
    let mut rng = Rng::new(seed);
    let workers = 1 + rng.below(5);
    let names: Vec<String> = (0..workers).map(|worker| format!("w{worker}")).collect();
    let count = rng.below(40);
    let lease = |index| match rng.below(4) {
        0 => format!("s{index}"),
        1 => format!("s{index}=gone:{}", rng.below(100)),
        _ => format!("s{index}=w{}:{}", rng.below(workers), rng.below(100)),
    };
    let leases: Vec<String> = (0..count).map(lease).collect();
    let mut table = table(&leases.join(" "), &names.join(" "));
    table.settings.leases_max = if seed.is_multiple_of(3) { 5 } else { 1000 };
    table.look(0, None);
    names.iter().for_each(|worker| table.renew(worker));
    table
}

fn show(moves: &[Move]) -> Vec<String> {
    let line = |step: &Move| {
        let arrow = if matches!(step, Move::Assign { .. } | Move::Reassign { .. }) {
            "->"
        } else {
            "=>"
        };
        format!("{} {arrow} {}", step.shard(), step.to())
    };
    moves.iter().map(line).collect()
}

impl Table {
    fn look(&mut self, at_ms: u64, me: Option<&str>) -> View {
        let now = self.start + Duration::from_millis(at_ms);
        let me = me.map(WorkerId::from);
        let scanned = Scanned {
            leases: self.leases.clone(),
            reports: self.workers.clone(),
            began: now,
            ended: now,
            ended_s: NOW_S,
        };
        self.memory.look(scanned, me.as_ref(), &self.settings)
    }

    /// As `me`, who leads and may get leases itself.
    fn lead(&mut self, me: &str, at_ms: u64) -> Vec<String> {
        self.renew(me);
        let view = self.look(at_ms, Some(me));
        show(&plan(&view, &self.settings, false, &mut Rng::new(1)))
    }

    /// Somebody else made it so.
    fn owned_by(&mut self, key: &str, owner: Option<&str>) {
        let lease = self.leases.iter_mut().find(|lease| lease.key == key.into());
        let lease = lease.unwrap();
        lease.owner = owner.map(WorkerId::from);
        lease.counter += 1;
    }

    /// The leader `me` gave it to the worker just now, looks every second meanwhile, and sees it renewed then.
    fn found_after(&mut self, delay_ms: u64, key: &str, worker: &str, at_ms: u64) {
        self.assign(key, worker, at_ms);
        (1..)
            .map(|second| second * 1000)
            .take_while(|ms| *ms < delay_ms)
            .for_each(|ms| {
                self.look(at_ms + ms, Some("me"));
            });
        self.look(at_ms + delay_ms - 1, Some("me"));
        self.renew(worker);
        self.look(at_ms + delay_ms, Some("me"));
    }

    fn moves(&mut self, at_ms: u64) -> Vec<String> {
        let view = self.look(at_ms, None);
        show(&plan(&view, &self.settings, false, &mut Rng::new(1)))
    }

    fn balance(&mut self, at_ms: u64) -> Vec<String> {
        let view = self.look(at_ms, None);
        show(&plan(&view, &self.settings, true, &mut Rng::new(1)))
    }

    /// The worker renews what it works on.
    fn renew(&mut self, worker: &str) {
        for lease in &mut self.leases {
            if lease.actual_owner() == Some(&worker.into()) {
                lease.counter += 1;
            }
        }
    }

    fn assign(&mut self, key: &str, to: &str, at_ms: u64) {
        let lease = self
            .leases
            .iter_mut()
            .find(|lease| lease.key == key.into())
            .unwrap();
        lease.owner = Some(to.into());
        lease.counter += 1;
        self.memory.moved(
            lease,
            &"leader".into(),
            &self.settings,
            self.start + Duration::from_millis(at_ms),
        );
    }
}
