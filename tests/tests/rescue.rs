//! Leases that nobody works on are taken by whoever is left, with or without a leader (`leasing.md 11`): the fake table,
//! tokio's paused clock, and Java workers played by writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use multilangd_core::deputy::SEATS;
use multilangd_core::ids::{Position, WorkerId};
use multilangd_core::leases::Lease;
use multilangd_core::table::{Item, Value, Write};
use multilangd_core::worker_metrics::WorkerMetrics;
use multilangd_engine::clock::Clock;
use multilangd_engine::leases::{LeaseSettings, Leases};
use multilangd_tests::table::{Call, FakeTable};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const NOW_MS: i64 = 1_789_000_000_000;
/// The promise: the failover time and two seconds.
const RESCUED_WITHIN: Duration = Duration::from_secs(12);

#[tokio::test(start_paused = true)]
async fn a_killed_java_leader_is_survived_although_its_lock_stands_for_two_minutes() {
    let table = FakeTable::existing("app");
    let java = Java::start(&table, "java", &["s-1", "s-2", "s-3"]);
    let ours = start(&table, "ours").await;
    sleep(Duration::from_secs(20)).await;
    assert_eq!(held(&ours), keys(&[]));
    java.kill();
    let took = until_held(&[&ours], &["s-1", "s-2", "s-3"]).await;
    assert!(took < RESCUED_WITHIN, "took {took:?}");
    assert!(!*ours.is_leader().borrow(), "the lock is not ours to break");
}

#[tokio::test(start_paused = true)]
async fn a_killed_java_follower_is_survived_without_its_leader() {
    let table = FakeTable::existing("app");
    let leader = Java::start(&table, "leader", &["s-1"]);
    let follower = Java::start(&table, "follower", &["s-2", "s-3", "s-4"]);
    let ours = start(&table, "ours").await;
    sleep(Duration::from_secs(20)).await;
    follower.kill();
    let took = until_held(&[&ours], &["s-2", "s-3", "s-4"]).await;
    assert!(took < RESCUED_WITHIN, "took {took:?}");
    assert_eq!(lease(&table, "s-1").owner, Some("leader".into()));
    drop(leader);
}

#[tokio::test(start_paused = true)]
async fn a_killed_leader_of_ours_is_survived_within_the_failover_time_and_two_seconds() {
    for wait_ms in [30_000, 30_700, 31_900, 33_100] {
        let table = FakeTable::existing("app");
        put_leases(&table, &["s-1", "s-2", "s-3", "s-4"], None);
        let leader = start(&table, "leader").await;
        until_held(&[&leader], &["s-1", "s-2", "s-3", "s-4"]).await;
        let other = start(&table, "other").await;
        sleep(Duration::from_millis(wait_ms)).await;
        drop(leader);
        let took = until_held(&[&other], &["s-1", "s-2", "s-3", "s-4"]).await;
        assert!(took < RESCUED_WITHIN, "took {took:?}");
    }
}

/// A leader sees what is its own in its looks at the table: an index that lags does not hold it up.
#[tokio::test(start_paused = true)]
async fn a_leader_starts_what_it_is_handed_before_the_index_knows() {
    let table = FakeTable::existing("app");
    let ours = start(&table, "ours").await;
    sleep(Duration::from_secs(5)).await;
    assert!(*ours.is_leader().borrow());
    let java = Java::start(&table, "java", &["s-1"]);
    sleep(Duration::from_secs(5)).await;
    table.set_index_lag(Duration::from_secs(60));
    table.apply(&lease(&table, "s-1").assign(&"ours".into())).unwrap();
    let took = until_held(&[&ours], &["s-1"]).await;
    assert!(took < Duration::from_secs(2), "took {took:?}");
    java.kill();
}

#[tokio::test(start_paused = true)]
async fn a_killed_follower_of_ours_is_survived_within_the_failover_time_and_two_seconds() {
    let table = FakeTable::existing("app");
    let java = Java::start(&table, "java", &[]);
    put_leases(&table, &["s-1", "s-2"], Some("first"));
    let first = start(&table, "first").await;
    until_held(&[&first], &["s-1", "s-2"]).await;
    let other = start(&table, "other").await;
    sleep(Duration::from_secs(20)).await;
    drop(first);
    let took = until_held(&[&other], &["s-1", "s-2"]).await;
    assert!(took < RESCUED_WITHIN, "took {took:?}");
    java.kill();
}

#[tokio::test(start_paused = true)]
async fn two_that_rescue_at_once_share() {
    let table = FakeTable::existing("app");
    let java = Java::start(&table, "java", &["s-1", "s-2", "s-3", "s-4"]);
    let (a, b) = (start(&table, "a").await, start(&table, "b").await);
    sleep(Duration::from_secs(20)).await;
    java.kill();
    let took = until_held(&[&a, &b], &["s-1", "s-2", "s-3", "s-4"]).await;
    assert!(took < RESCUED_WITHIN, "took {took:?}");
    assert_eq!((held(&a).len(), held(&b).len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_java_owner_that_has_not_yet_found_what_it_was_assigned_is_not_robbed() {
    let table = FakeTable::existing("app");
    let leader = Java::start(&table, "leader", &["s-1"]);
    let slow = Java::start(&table, "slow", &[]);
    let ours = start(&table, "ours").await;
    sleep(Duration::from_secs(20)).await;
    // The leader hands s-1 to the other Java worker, which finds it only after 13.3 s.
    table.apply(&lease(&table, "s-1").assign(&"slow".into())).unwrap();
    sleep(Duration::from_millis(13_300)).await;
    table.apply(&lease(&table, "s-1").renew()).unwrap();
    slow.hold("s-1");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(lease(&table, "s-1").owner, Some("slow".into()));
    assert_eq!(held(&ours), keys(&[]));
    drop((leader, slow));
}

#[tokio::test(start_paused = true)]
async fn a_java_owner_that_never_comes_to_work_loses_what_it_was_assigned() {
    let table = FakeTable::existing("app");
    let leader = Java::start(&table, "leader", &[]);
    put_leases(&table, &["s-1"], Some("never"));
    let ours = start(&table, "ours").await;
    let took = until_held(&[&ours], &["s-1"]).await;
    assert!(
        took > Duration::from_secs(19) && took < Duration::from_secs(22),
        "took {took:?}"
    );
    drop(leader);
}

#[tokio::test(start_paused = true)]
async fn a_hand_off_whose_old_owner_is_killed_ends_with_an_owner() {
    let table = FakeTable::existing("app");
    let java = Java::start(&table, "java", &["s-1"]);
    let ours = start(&table, "ours").await;
    sleep(Duration::from_secs(20)).await;
    let row = lease(&table, "s-1");
    table
        .apply(&row.request_hand_off(&"ours".into()).unwrap())
        .unwrap();
    java.kill();
    let took = until_held(&[&ours], &["s-1"]).await;
    assert!(took < RESCUED_WITHIN, "took {took:?}");
    let row = lease(&table, "s-1");
    assert_eq!((row.owner, row.checkpoint_owner), (Some("ours".into()), None));
}

#[tokio::test(start_paused = true)]
async fn fresh_leases_find_an_owner_within_two_seconds_when_the_leader_is_dead() {
    let table = FakeTable::existing("app");
    let java = Java::start(&table, "java", &[]);
    let ours = start(&table, "ours").await;
    sleep(Duration::from_secs(20)).await;
    java.kill();
    put_leases(&table, &["s-1", "s-2"], None);
    let took = until_held(&[&ours], &["s-1", "s-2"]).await;
    assert!(took < Duration::from_secs(2), "took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_leader_of_ours_gives_no_killed_workers_leases_to_one_that_looks_for_them_later() {
    for wait_ms in [20_000, 20_700, 21_900, 23_100] {
        let table = FakeTable::existing("app");
        let ours = start(&table, "ours").await;
        until_leading(&ours).await;
        let killed = Java::start(&table, "killed", &["s-1", "s-2", "s-3"]);
        let idle = Java::start(&table, "idle", &[]);
        sleep(Duration::from_millis(wait_ms)).await;
        killed.kill();
        let took = until_held(&[&ours], &["s-1", "s-2", "s-3"]).await;
        assert!(took < RESCUED_WITHIN, "took {took:?}");
        idle.kill();
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_of_ours_gives_fresh_leases_to_no_worker_that_looks_for_them_later() {
    let table = FakeTable::existing("app");
    let ours = start(&table, "ours").await;
    until_leading(&ours).await;
    let java = Java::start(&table, "java", &["s-1", "s-2"]);
    sleep(Duration::from_secs(20)).await;
    let before = held(&ours);
    // The Java worker has finished a shard.
    put_leases(&table, &["s-3", "s-4"], None);
    let mut wanted: Vec<&str> = vec!["s-3", "s-4"];
    wanted.extend(before.iter().map(String::as_str));
    let took = until_held(&[&ours], &wanted).await;
    assert!(took < Duration::from_secs(2), "took {took:?}");
    java.kill();
}

#[tokio::test(start_paused = true)]
async fn a_leader_of_ours_gives_workers_of_ours_their_share_once_it_has_seen_them_start() {
    let table = FakeTable::existing("app");
    put_leases(&table, &["s-1", "s-2", "s-3", "s-4", "s-5", "s-6"], None);
    let all = ["s-1", "s-2", "s-3", "s-4", "s-5", "s-6"];
    let leader = start(&table, "leader").await;
    until_held(&[&leader], &all).await;
    // It is asked for as many hand-offs as they get leases, and hands over by itself here.
    let (a, b) = (start(&table, "a").await, start(&table, "b").await);
    let handing_over = hand_over(&leader);
    sleep(Duration::from_secs(60)).await;
    handing_over.abort();
    drop(a);
    sleep(Duration::from_secs(13)).await;
    assert_eq!((held(&leader).len(), held(&b).len()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_leaves_rescues_nothing_more() {
    let table = FakeTable::existing("app");
    let java = Java::start(&table, "java", &["s-1"]);
    let ours = start(&table, "ours").await;
    sleep(Duration::from_secs(20)).await;
    ours.stop_taking().await;
    java.kill();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(lease(&table, "s-1").owner, Some("java".into()));
}

#[tokio::test(start_paused = true)]
async fn under_a_living_leader_of_ours_one_deputy_watches_its_leases_and_nobody_else_looks() {
    let names: Vec<String> = (0..16).map(|at| format!("w-{at:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (table, workers) = fleet_of_ours(&names, 64).await;
    sleep(Duration::from_secs(60)).await;
    table.forget_calls();
    sleep(Duration::from_secs(60)).await;
    let calls = table.calls();
    let count = |is: &dyn Fn(&Call) -> bool| calls.iter().filter(|(_, call)| is(call)).count();
    assert_eq!(count(&|call| matches!(call, Call::Scan)), 60, "the leader's");
    let mine = held(&workers[&leader_of(&table)]).len();
    let reads = count(&|call| matches!(call, Call::Get(key) if key != "Leader"));
    assert!(
        (59 * mine..=60 * mine).contains(&reads),
        "{reads} reads of {mine} leases"
    );
    let looks_at_the_lock = count(&|call| matches!(call, Call::Get(key) if key == "Leader"));
    // The deputy every second, 14 others every two.
    assert!(
        (470..=490).contains(&looks_at_the_lock),
        "{looks_at_the_lock} looks"
    );
}

#[tokio::test(start_paused = true)]
async fn the_deputy_of_a_killed_leader_inherits_the_lock_and_shares_its_leases_out() {
    for wait_ms in [0, 700, 1_900, 3_100] {
        let (table, workers) = fleet_of_ours(&["a", "b", "c", "d"], 40).await;
        sleep(Duration::from_millis(wait_ms)).await;
        let deputy = deputies(&table)[0].clone();
        let rest = without(workers, &[&leader_of(&table)]);
        let took = until_all_held(&rest, 40).await;
        assert!(took < RESCUED_WITHIN, "took {took:?}");
        // It knows nobody yet: it has taken them itself, and asks itself for hand-offs at once.
        rest.values().for_each(|worker| drop(hand_over(worker)));
        sleep(Duration::from_secs(5)).await;
        let counts: Vec<usize> = rest.values().map(|worker| held(worker).len()).collect();
        assert!(counts.iter().all(|count| (12..=15).contains(count)), "{counts:?}");
        assert_eq!(table.row("Leader").unwrap()["ownerName"], Value::s(deputy));
    }
}

#[tokio::test(start_paused = true)]
async fn a_killed_deputy_is_survived_and_replaced() {
    let (table, workers) = fleet_of_ours(&["a", "b", "c", "d"], 40).await;
    let deputy = deputies(&table)[0].clone();
    let rest = without(workers, &[&deputy]);
    let took = until_all_held(&rest, 40).await;
    assert!(took < RESCUED_WITHIN, "took {took:?}");
    sleep(Duration::from_secs(5)).await;
    assert_ne!(deputies(&table)[0], deputy);
}

#[tokio::test(start_paused = true)]
async fn a_leader_and_its_deputy_killed_at_once_are_survived_in_twice_the_failover_time() {
    let (table, workers) = fleet_of_ours(&["a", "b", "c", "d"], 40).await;
    let (leader, deputy) = (leader_of(&table), deputies(&table)[0].clone());
    let rest = without(workers, &[&leader, &deputy]);
    let took = until_all_held(&rest, 40).await;
    // The others let the deputy go first, and then see for themselves how long each lease stands still.
    let limit = Duration::from_secs(20 + 2 + 2 + 2);
    assert!(took < limit, "took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn under_a_java_leader_two_deputies_look_whatever_the_size_of_the_fleet() {
    let table = FakeTable::existing("app");
    let java = Java::start(&table, "java", &["s-1", "s-2", "s-3"]);
    let ours = start_all(&table, &["a", "b", "c", "d", "e"]).await;
    sleep(Duration::from_secs(30)).await;
    table.forget_calls();
    sleep(Duration::from_secs(60)).await;
    let scans = table
        .calls()
        .iter()
        .filter(|(_, call)| *call == Call::Scan)
        .count();
    assert!((118..=120).contains(&scans), "{scans} scans in a minute");
    // One of them dies, then the Java leader while the seat is empty.
    let ours = without(ours, &[&deputies(&table)[0]]);
    java.kill();
    let took = until_held(&ours.values().collect::<Vec<_>>(), &["s-1", "s-2", "s-3"]).await;
    assert!(took < RESCUED_WITHIN, "took {took:?}");
    sleep(Duration::from_secs(10)).await;
    let seated: BTreeSet<String> = deputies(&table).into_iter().collect();
    assert_eq!(seated.len(), 2, "the seat is taken again");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_leaves_gives_its_seat_back() {
    let (table, workers) = fleet_of_ours(&["a", "b", "c"], 9).await;
    let deputy = deputies(&table)[0].clone();
    workers[&deputy].stop().await;
    assert!(!deputies(&table).contains(&deputy));
    sleep(Duration::from_secs(3)).await;
    assert_eq!(deputies(&table).len(), 1, "the seat is taken again");
}

/// A fleet of ours that leads itself, in balance, and has so long renewed that everybody is known.
async fn fleet_of_ours(names: &[&str], leases: usize) -> (Arc<FakeTable>, BTreeMap<String, Leases>) {
    let table = FakeTable::existing("app");
    for at in 0..leases {
        put_leases(&table, &[&format!("s-{at:03}")], Some(names[at % names.len()]));
    }
    let workers = start_all(&table, names).await;
    sleep(Duration::from_secs(40)).await;
    until_all_held(&workers, leases).await;
    (table, workers)
}

async fn start_all(table: &Arc<FakeTable>, names: &[&str]) -> BTreeMap<String, Leases> {
    let mut workers = BTreeMap::new();
    for name in names {
        workers.insert((*name).to_owned(), start(table, name).await);
    }
    workers
}

fn leader_of(table: &FakeTable) -> String {
    match &table.row("Leader").unwrap()["ownerName"] {
        Value::S(name) => name.clone(),
        other => panic!("{other:?}"),
    }
}

/// The workers in the seats of the lock row.
fn deputies(table: &FakeTable) -> Vec<String> {
    let row = table.row("Leader").unwrap();
    let seats = SEATS.iter().filter_map(|seat| match row.get(*seat) {
        Some(Value::S(says)) => Some(says.split_once(' ').unwrap().1.to_owned()),
        _ => None,
    });
    seats.collect()
}

/// Those that are left, when these are killed.
fn without(mut workers: BTreeMap<String, Leases>, killed: &[&String]) -> BTreeMap<String, Leases> {
    workers.retain(|name, _| !killed.contains(&name));
    workers
}

/// How long it took until so many leases were held by these workers together.
async fn until_all_held(workers: &BTreeMap<String, Leases>, leases: usize) -> Duration {
    let began = Instant::now();
    let count = || workers.values().map(|worker| held(worker).len()).sum::<usize>();
    let waited = timeout(Duration::from_secs(300), async {
        while count() != leases {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "{} of {leases} leases are held", count());
    began.elapsed()
}

/// A Java worker: renews, reports, and, as the first in the table, holds the lock with Java's two minutes.
struct Java {
    table: Arc<FakeTable>,
    name: String,
    tasks: Vec<AbortHandle>,
}

impl Java {
    fn start(table: &Arc<FakeTable>, name: &str, leases: &[&str]) -> Self {
        put_leases(table, leases, Some(name));
        let text = |name: &str, value: &str| (name.to_owned(), Value::s(value));
        if table.row("Leader").is_none() {
            table.put(Item::from([
                text("leaseKey", "Leader"),
                text("ownerName", name),
                text("leaseDuration", "120000"),
                text("recordVersionNumber", "v-0"),
                text("entityType", "LEADER"),
            ]));
        }
        let (reporting, me) = (table.clone(), name.to_owned());
        let began = Instant::now();
        let report = tokio::spawn(async move {
            loop {
                let now_s = NOW_MS / 1000 + began.elapsed().as_secs() as i64;
                let report = WorkerMetrics::unmeasured(me.as_str().into(), now_s);
                reporting.apply(&report.report()).unwrap();
                let is_leader = reporting
                    .row("Leader")
                    .is_some_and(|row| row["ownerName"] == Value::s(me.as_str()));
                if is_leader {
                    let heartbeat = Write::Update {
                        key: "Leader".to_owned(),
                        conditions: Vec::new(),
                        actions: vec![multilangd_core::table::Action::Set(
                            "recordVersionNumber",
                            Value::s(format!("v-{now_s}")),
                        )],
                    };
                    reporting.apply(&heartbeat).unwrap();
                }
                sleep(Duration::from_secs(30)).await;
            }
        });
        let mut java = Self {
            table: table.clone(),
            name: name.to_owned(),
            tasks: vec![report.abort_handle()],
        };
        for key in leases {
            java.tasks.push(java.renewing(key));
        }
        java
    }

    /// Renews this lease from now on, too, for as long as the test lasts.
    fn hold(&self, key: &str) {
        drop(self.renewing(key));
    }

    fn renewing(&self, key: &str) -> AbortHandle {
        let (table, me, key) = (
            self.table.clone(),
            WorkerId::from(self.name.as_str()),
            key.to_owned(),
        );
        let renew = async move {
            loop {
                let row = lease(&table, &key);
                if row.actual_owner() == Some(&me) {
                    table.apply(&row.renew()).unwrap();
                }
                sleep(Duration::from_millis(3_308)).await;
            }
        };
        tokio::spawn(renew).abort_handle()
    }

    fn kill(self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn put_leases(table: &FakeTable, keys: &[&str], owner: Option<&str>) {
    for key in keys {
        let fresh = Lease::new((*key).into(), Position::TrimHorizon, Default::default(), None);
        let owner = owner.map(WorkerId::from);
        table.put(Lease { owner, ..fresh }.item());
    }
}

async fn start(table: &Arc<FakeTable>, worker: &str) -> Leases {
    let clock = Clock::simulated(NOW_MS, 7);
    let settings = LeaseSettings::new(worker.into(), "app");
    Leases::start(table.clone(), clock, settings, CancellationToken::new())
        .await
        .unwrap()
}

async fn until_leading(leases: &Leases) {
    let mut is_leader = leases.is_leader();
    let leads = timeout(Duration::from_secs(60), is_leader.wait_for(|leads| *leads));
    assert!(leads.await.is_ok(), "nobody leads");
}

/// A consumer of nothing, which hands over whatever it is asked for.
fn hand_over(leases: &Leases) -> AbortHandle {
    let leases = leases.clone();
    let handing_over = async move {
        let mut held = leases.held();
        loop {
            let asked: Vec<_> = held.borrow_and_update().iter().cloned().collect();
            for lease in asked.iter().filter(|lease| lease.hand_over_to.is_some()) {
                leases.hand_over(&lease.tenure).await.unwrap();
            }
            if held.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::spawn(handing_over).abort_handle()
}

fn keys(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

fn held(leases: &Leases) -> BTreeSet<String> {
    let held = leases.held().borrow().clone();
    held.iter().map(|held| held.tenure.shard.to_string()).collect()
}

/// How long it took until these leases were held by these workers together.
async fn until_held(workers: &[&Leases], wanted: &[&str]) -> Duration {
    let began = Instant::now();
    let waited = timeout(Duration::from_secs(300), async {
        while workers
            .iter()
            .flat_map(|leases| held(leases))
            .collect::<BTreeSet<_>>()
            != keys(wanted)
        {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(
        waited.await.is_ok(),
        "{:?} instead of {wanted:?}",
        workers.iter().map(|leases| held(leases)).collect::<Vec<_>>()
    );
    began.elapsed()
}

fn lease(table: &FakeTable, key: &str) -> Lease {
    Lease::read(&table.row(key).expect("the row is there")).unwrap()
}
