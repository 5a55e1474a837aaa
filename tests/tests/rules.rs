//! Fleets by the rules of 2.x, on the way to 3.x and back, and over the tables of 3.0-3.4: real lease holders over fake
//! tables, in paused time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use multilangd_core::client_version::Configured;
use multilangd_core::ids::Position;
use multilangd_core::leases::Lease;
use multilangd_core::table::{Action, Condition, Item, Value, Write};
use multilangd_core::worker_metrics::WorkerMetrics;
use multilangd_engine::clock::Clock;
use multilangd_engine::leases::{LeaseSettings, Leases, LegacyTables, StartError};
use multilangd_tests::table::{Call, FakeTable, Fault};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const NOW_MS: i64 = 1_789_000_000_000;
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn phase_1_takes_leases_and_writes_nothing_that_2x_could_not_read() {
    let world = World::with_shards(2);
    let leases = world.start("me", Configured::Phase1).await;
    until(|| held(&leases).len() == 2).await;
    sleep(2 * MINUTE).await;
    let keys: Vec<String> = world.leases.rows().into_keys().collect();
    assert_eq!(keys, ["s-0", "s-1"]);
    let calls = world.leases.calls();
    assert!(
        !calls.iter().any(|(_, call)| matches!(call, Call::Create)),
        "an index was created"
    );
    leases.stop().await;
    for row in world.leases.rows().values() {
        assert_eq!(row.get("leaseOwner"), None);
    }
}

/// Nobody reports by the rules of 2.x: the leases alone tell.
#[tokio::test(start_paused = true)]
async fn a_second_process_of_a_worker_id_is_refused_in_a_fleet_of_2x_too() {
    let world = World::with_shards(2);
    let first = world.start("me", Configured::Phase1).await;
    until(|| held(&first).len() == 2).await;
    let refused = world.try_start("me", Configured::Phase1, false).await.err();
    assert!(matches!(refused, Some(StartError::Twin { .. })), "{refused:?}");
    sleep(MINUTE).await;
    assert_eq!(held(&first).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_that_start_under_one_id_in_a_fleet_of_2x_one_ends() {
    let world = World::with_shards(2);
    let start = || world.start("me", Configured::Phase1);
    let (one, other) = tokio::join!(start(), start());
    let ended = timeout(MINUTE, async {
        tokio::select! {
            () = one.twin() => (&one, &other),
            () = other.twin() => (&other, &one),
        }
    });
    let (ended, stays) = ended.await.expect("one of them ends");
    ended.stop().await;
    until(|| held(stays).len() == 2).await;
    assert!(timeout(5 * MINUTE, stays.twin()).await.is_err());
    assert_eq!((held(ended).len(), held(stays).len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_worker_of_2x_that_was_killed_comes_back_under_its_id_within_five_seconds() {
    let world = World::with_shards(2);
    let first = world.start("me", Configured::Phase1).await;
    until(|| held(&first).len() == 2).await;
    drop(first);
    let began = Instant::now();
    let again = world.start("me", Configured::Phase1).await;
    until(|| held(&again).len() == 2).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_second_process_of_a_worker_id_is_refused_beside_separate_tables() {
    let world = World::with_legacy_tables(2);
    let first = world.start("me", Configured::V3).await;
    until(|| held(&first).len() == 2).await;
    let refused = world.try_start("me", Configured::V3, false).await.err();
    assert!(matches!(refused, Some(StartError::Twin { .. })), "{refused:?}");
    sleep(MINUTE).await;
    assert_eq!(held(&first).len(), 2);
}

/// Found by a simulation (seed 117 of that day): nobody led any more.
#[tokio::test(start_paused = true)]
async fn a_lock_that_was_renewed_unseen_is_waited_out_beside_separate_tables() {
    let world = World::with_legacy_tables(1);
    let leases = world.start("me", Configured::V3).await;
    let leads = || *leases.is_leader().borrow();
    until(leads).await;
    world.coordinator.set_faults(|call| match call {
        Call::Write(_) => Some(Fault::AppliedUnanswered),
        _ => Some(Fault::Lost),
    });
    sleep(Duration::from_secs(20)).await;
    assert!(!leads());
    world.coordinator.heal();
    let began = Instant::now();
    until(leads).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_taken_lease_has_the_row_that_java_writes() {
    let world = World::with_shards(1);
    let leases = world.start("me", Configured::Phase1).await;
    until(|| held(&leases).len() == 1).await;
    let text = |name: &str, value: Value| (name.to_owned(), value);
    let expected = Item::from([
        text("leaseKey", Value::s("s-0")),
        text("leaseOwner", Value::s("me")),
        text("leaseCounter", Value::n(1)),
        text("ownerSwitchesSinceCheckpoint", Value::n(0)),
        text("checkpoint", Value::s("TRIM_HORIZON")),
        text("checkpointSubSequenceNumber", Value::n(0)),
        text("entityType", Value::s("LEASE")),
    ]);
    assert_eq!(world.leases.row("s-0"), Some(expected));
}

#[tokio::test(start_paused = true)]
async fn two_workers_balance_by_stealing_one_lease_a_round() {
    let world = World::with_shards(6);
    let first = world.start("a", Configured::Phase1).await;
    until(|| held(&first).len() == 6).await;
    let second = world.start("b", Configured::Phase1).await;
    until(|| held(&second).len() == 1).await;
    let began = Instant::now();
    until(|| held(&second).len() == 3 && held(&first).len() == 3).await;
    let took = began.elapsed();
    assert!(
        took > Duration::from_secs(38) && took < Duration::from_secs(46),
        "took {took:?}"
    );
    sleep(5 * MINUTE).await;
    assert_eq!((held(&first).len(), held(&second).len()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_leaves_is_followed_at_once_and_one_that_crashes_after_the_failover_time() {
    let world = World::with_shards(4);
    let (a, b, c) = (
        world.start("a", Configured::Phase1).await,
        world.start("b", Configured::Phase1).await,
        world.start("c", Configured::Phase1).await,
    );
    until(|| held(&a).len() + held(&b).len() + held(&c).len() == 4).await;
    sleep(3 * MINUTE).await;
    let began = Instant::now();
    a.stop().await;
    // A taker of Java stumbles over a lease that suddenly has no owner.
    let is_owned = |index| {
        world
            .leases
            .row(&format!("s-{index}"))
            .unwrap()
            .contains_key("leaseOwner")
    };
    assert!((0..4).all(is_owned));
    until(|| held(&b).len() + held(&c).len() == 4).await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "took {:?}",
        began.elapsed()
    );
    sleep(3 * MINUTE).await;
    let began = Instant::now();
    drop(b);
    until(|| held(&c).len() == 4).await;
    assert!(
        began.elapsed() < Duration::from_secs(13),
        "took {:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_lock_exactly_one_owner_leads() {
    let world = World::with_shards(4);
    let (a, b) = (
        world.start("a", Configured::Phase1).await,
        world.start("b", Configured::Phase1).await,
    );
    until(|| held(&a).len() == 2 && held(&b).len() == 2).await;
    sleep(MINUTE).await;
    // Of two sorted owners Java's shuffle elects the first.
    assert!(*a.is_leader().borrow());
    assert!(!*b.is_leader().borrow());
    assert_eq!(world.leases.row("Leader"), None);
}

#[tokio::test(start_paused = true)]
async fn a_compatible_fleet_changes_to_3x_after_ten_minutes_of_readiness() {
    let world = World::with_shards(4);
    let (a, b) = (
        world.start("a", Configured::CompatibleWith2).await,
        world.start("b", Configured::CompatibleWith2).await,
    );
    assert_eq!(world.version(), "CLIENT_VERSION_UPGRADE_FROM_2X");
    until(|| held(&a).len() == 2 && held(&b).len() == 2).await;
    assert_eq!(world.leases.row("Leader"), None);
    sleep(10 * MINUTE).await;
    assert_eq!(world.version(), "CLIENT_VERSION_UPGRADE_FROM_2X");
    sleep(4 * MINUTE).await;
    assert_eq!(world.version(), "CLIENT_VERSION_3X_WITH_ROLLBACK");
    sleep(2 * MINUTE).await;
    assert!(world.leases.row("Leader").is_some());
    assert_eq!((held(&a).len(), held(&b).len()), (2, 2));
    let leaders = [&a, &b].map(|leases| *leases.is_leader().borrow());
    assert_ne!(leaders[0], leaders[1]);
    // A worker configured for 3.x closes the way back, and the others follow.
    let c = world.start("c", Configured::V3).await;
    assert_eq!(world.version(), "CLIENT_VERSION_3X");
    sleep(4 * MINUTE).await;
    until(|| !held(&c).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_owner_keeps_the_fleet_at_2x() {
    let world = World::with_shards(2);
    let a = world.start("a", Configured::CompatibleWith2).await;
    until(|| held(&a).len() == 2).await;
    let silent = world.phase_1_peer("s-1");
    sleep(20 * MINUTE).await;
    silent.abort();
    assert_eq!(world.version(), "CLIENT_VERSION_UPGRADE_FROM_2X");
}

#[tokio::test(start_paused = true)]
async fn a_roll_back_returns_to_taking_and_a_roll_forward_to_getting_ready() {
    let world = World::with_shards(4);
    let (a, b) = (
        world.start("a", Configured::CompatibleWith2).await,
        world.start("b", Configured::CompatibleWith2).await,
    );
    sleep(20 * MINUTE).await;
    assert_eq!(world.version(), "CLIENT_VERSION_3X_WITH_ROLLBACK");
    world.roll_to("CLIENT_VERSION_2X");
    sleep(2 * MINUTE).await;
    world.leases.delete_index();
    let keys: BTreeSet<String> = world.leases.rows().into_keys().collect();
    let expected = ["Migration3.0", "s-0", "s-1", "s-2", "s-3"];
    assert_eq!(
        keys,
        expected.map(str::to_owned).into(),
        "lock and reports are gone"
    );
    assert_eq!(held(&a).len() + held(&b).len(), 4);
    let began = Instant::now();
    b.stop().await;
    until(|| held(&a).len() == 4).await;
    assert!(began.elapsed() < Duration::from_secs(3));
    world.roll_to("CLIENT_VERSION_UPGRADE_FROM_2X");
    sleep(2 * MINUTE).await;
    assert!(world.leases.row("a").is_some(), "reports again");
    sleep(15 * MINUTE).await;
    assert_eq!(world.version(), "CLIENT_VERSION_3X_WITH_ROLLBACK");
    assert_eq!(held(&a).len(), 4);
}

/// It was rolled back and forward again, or deployed for good, within the minute between two looks.
#[tokio::test(start_paused = true)]
async fn a_worker_follows_a_row_that_has_gone_on_by_two_steps() {
    let world = World::with_shards(1);
    let a = world.start("a", Configured::CompatibleWith2).await;
    until(|| held(&a).len() == 1).await;
    world.roll_to("CLIENT_VERSION_3X_WITH_ROLLBACK");
    until(|| world.leases.row("Leader").is_some()).await;
    world.roll_to("CLIENT_VERSION_UPGRADE_FROM_2X");
    until(|| world.leases.row("Leader").is_none()).await;
    world.roll_to("CLIENT_VERSION_3X");
    until(|| world.leases.row("Leader").is_some()).await;
    assert_eq!(held(&a).len(), 1);
}

/// A Java worker that has not seen the row yet does not look for what a leader gives it: it would take it when it has expired.
#[tokio::test(start_paused = true)]
async fn while_a_fleet_changes_to_3x_its_first_leader_hands_nothing_over() {
    let world = World::with_shards(4);
    let java = world.compatible_java("java", "s-0");
    let a = world.start("a", Configured::CompatibleWith2).await;
    until(|| held(&a).len() == 3).await;
    world.set_throughput(10);
    world.roll_to("CLIENT_VERSION_3X_WITH_ROLLBACK");
    let changed = Instant::now();
    until(|| world.owned_by("java").len() == 2).await;
    let took = changed.elapsed();
    assert!(took > 90 * SECOND && took < 95 * SECOND, "after {took:?}");
    java.abort();
}

#[tokio::test(start_paused = true)]
async fn two_first_workers_agree_on_one_row() {
    let world = World::with_shards(2);
    let (a, b) = tokio::join!(
        world.start("a", Configured::CompatibleWith2),
        world.start("b", Configured::CompatibleWith2)
    );
    until(|| held(&a).len() == 1 && held(&b).len() == 1).await;
    assert_eq!(world.version(), "CLIENT_VERSION_UPGRADE_FROM_2X");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_with_separate_tables_keeps_its_rows_there() {
    let world = World::with_legacy_tables(2);
    let leases = world.start("me", Configured::V3).await;
    until(|| held(&leases).len() == 2).await;
    sleep(2 * MINUTE).await;
    let keys = |table: &FakeTable| table.rows().into_keys().collect::<Vec<_>>();
    assert_eq!(keys(&world.leases), ["s-0", "s-1"]);
    assert_eq!(
        keys(&world.coordinator),
        ["Leader", "Migration3.0", "TableMigration3.5"]
    );
    assert_eq!(keys(&world.metrics), ["me"]);
    assert_eq!(world.status(), Some("INIT"));
    leases.stop().await;
    assert_eq!(keys(&world.coordinator), ["Migration3.0", "TableMigration3.5"]);
    assert_eq!(keys(&world.metrics), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn moving_too_early_is_refused_with_what_to_do() {
    let world = World::with_legacy_tables(1);
    let error = world.try_start("me", Configured::V3, true).await.err().unwrap();
    assert!(matches!(error, StartError::TooEarly { .. }));
    assert!(error.to_string().contains("app-CoordinatorState"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_moves_to_the_single_table_by_two_deployments() {
    let world = World::with_legacy_tables(4);
    let a = world.start("a", Configured::V3).await;
    let b = world.start("b", Configured::V3).await;
    until(|| held(&a).len() == 2 && held(&b).len() == 2).await;
    sleep(55 * MINUTE).await;
    assert_eq!(world.status(), Some("INIT"));
    sleep(10 * MINUTE).await;
    assert_eq!(world.status(), Some("DEPLOYED"));

    // The second deployment, one worker after the other.
    a.stop().await;
    let a = world.try_start("a2", Configured::V3, true).await.unwrap();
    sleep(5 * MINUTE).await;
    assert_eq!(world.status(), Some("DEPLOYED"));
    b.stop().await;
    let b = world.try_start("b2", Configured::V3, true).await.unwrap();
    until(|| held(&a).len() == 2 && held(&b).len() == 2).await;
    sleep(5 * MINUTE).await;
    assert_eq!(world.status(), Some("PENDING"));
    assert!(world.leases.row("Migration3.0").is_some(), "the state has moved");
    assert!(world.coordinator.row("Migration3.0").is_none());
    assert!(world.coordinator.row("Leader").is_some(), "the lock has not");
    assert_eq!(
        world.leases.row("Migration3.0").unwrap()["entityType"],
        Value::s("CLIENT_VERSION_MIGRATION")
    );

    sleep(65 * MINUTE).await;
    assert_eq!(world.status(), Some("COMPLETE"));
    assert!(world.leases.row("Leader").is_some(), "now the lock has moved");
    assert!(world.coordinator.row("Leader").is_none());
    assert_eq!(
        world.leases.row("TableMigration3.5").unwrap()["tm"],
        Value::s("TABLE_MIGRATION_STATUS_COMPLETE")
    );
    assert_eq!((held(&a).len(), held(&b).len()), (2, 2));
    world.coordinator.forget_calls();
    world.metrics.forget_calls();
    sleep(5 * MINUTE).await;
    assert!(world.coordinator.calls().is_empty() && world.metrics.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_worker_of_the_first_deployment_holds_the_move_up() {
    let world = World::with_legacy_tables(4);
    world.set_status("PENDING");
    let a = world.try_start("a", Configured::V3, true).await.unwrap();
    until(|| held(&a).len() == 4).await;
    let b = world.start("b", Configured::V3).await;
    until(|| held(&b).len() == 2).await;
    sleep(2 * MINUTE).await;
    assert_eq!(world.status(), Some("DEPLOYED"));
}

/// An application's tables.
struct World {
    leases: Arc<FakeTable>,
    coordinator: Arc<FakeTable>,
    metrics: Arc<FakeTable>,
    began: Instant,
}

impl World {
    /// An application of 2.x: a lease table without an index.
    fn with_shards(count: usize) -> Self {
        Self::new(count, FakeTable::absent_with_key, "CLIENT_VERSION_NONE")
    }

    /// An application of 3.0-3.4.
    fn with_legacy_tables(count: usize) -> Self {
        Self::new(count, FakeTable::existing_with_key, "CLIENT_VERSION_3X")
    }

    fn new(count: usize, legacy: impl Fn(&str, &'static str) -> Arc<FakeTable>, version: &str) -> Self {
        let leases = FakeTable::existing_with_key("app", "leaseKey");
        let coordinator = legacy("app-CoordinatorState", "key");
        leases.put_beside(coordinator.clone());
        for index in 0..count {
            let key = format!("s-{index}");
            let lease = Lease::new(
                key.as_str().into(),
                Position::TrimHorizon,
                Default::default(),
                None,
            );
            leases.apply(&lease.create()).unwrap();
        }
        if version == "CLIENT_VERSION_3X" {
            let text = |name: &str, text: &str| (name.to_owned(), Value::s(text));
            coordinator.put(Item::from([
                text("key", "Migration3.0"),
                text("cv", version),
                text("mb", "java"),
            ]));
        }
        Self {
            leases,
            coordinator,
            metrics: legacy("app-WorkerMetricStats", "wid"),
            began: Instant::now(),
        }
    }

    async fn start(&self, worker: &str, configured: Configured) -> Leases {
        self.try_start(worker, configured, false).await.unwrap()
    }

    async fn try_start(
        &self,
        worker: &str,
        configured: Configured,
        migrate: bool,
    ) -> Result<Leases, StartError> {
        let settings = LeaseSettings {
            client_version: configured,
            legacy: Some(LegacyTables {
                coordinator: self.coordinator.clone(),
                metrics: self.metrics.clone(),
            }),
            migrate,
            migration_bake: Duration::from_secs(3600),
            ..LeaseSettings::new(worker.into(), "app")
        };
        let now_ms = NOW_MS + self.began.elapsed().as_millis() as i64;
        let seed = worker.bytes().map(u64::from).sum();
        let clock = Clock::simulated(now_ms, seed);
        Leases::start(self.leases.clone(), clock, settings, CancellationToken::new()).await
    }

    fn version(&self) -> String {
        match self
            .leases
            .row("Migration3.0")
            .and_then(|row| row.get("cv").cloned())
        {
            Some(Value::S(version)) => version,
            other => panic!("no version: {other:?}"),
        }
    }

    fn status(&self) -> Option<&'static str> {
        let row = self.coordinator.row("TableMigration3.5")?;
        ["INIT", "DEPLOYED", "PENDING", "COMPLETE"]
            .into_iter()
            .find(|name| row["tm"] == Value::s(format!("TABLE_MIGRATION_STATUS_{name}")))
    }

    fn set_status(&self, name: &str) {
        self.coordinator.put(Item::from([
            ("key".to_owned(), Value::s("TableMigration3.5")),
            (
                "tm".to_owned(),
                Value::s(format!("TABLE_MIGRATION_STATUS_{name}")),
            ),
            ("mb".to_owned(), Value::s("java")),
            ("mts".to_owned(), Value::n(NOW_MS)),
        ]));
    }

    /// What AWS's KclMigrationTool does: the state that was goes into the history.
    fn roll_to(&self, version: &str) {
        let row = self.leases.row("Migration3.0").unwrap();
        let was = ["cv", "mb", "mts"].map(|name| (name.to_owned(), row[name].clone()));
        let mut history = vec![Value::M(was.into())];
        if let Value::L(older) = &row["h"] {
            history.extend(older.iter().cloned());
        }
        let now_ms = NOW_MS + self.began.elapsed().as_millis() as i64;
        let write = Write::Update {
            key: "Migration3.0".to_owned(),
            conditions: vec![Condition::Present("leaseKey")],
            actions: vec![
                Action::Set("cv", Value::s(version)),
                Action::Set("mb", Value::s("KclMigrationTool")),
                Action::Set("mts", Value::n(now_ms)),
                Action::Set("h", Value::L(history)),
            ],
        };
        self.leases.apply(&write).unwrap();
    }

    fn owned_by(&self, worker: &str) -> Vec<String> {
        let rows = self.leases.rows().into_iter();
        let owned = rows.filter(|(_, row)| row.get("leaseOwner") == Some(&Value::s(worker)));
        owned.map(|(key, _)| key).collect()
    }

    /// All leases have the same throughput.
    fn set_throughput(&self, kbps: u32) {
        for key in self.leases.rows().into_keys().filter(|key| key.starts_with("s-")) {
            let actions = vec![Action::Set("throughputKBps", Value::n(kbps))];
            let write = Write::Update {
                key,
                conditions: Vec::new(),
                actions,
            };
            self.leases.apply(&write).unwrap();
        }
    }

    /// A Java worker of 3.x by the rules of 2.x that has one lease, and reports.
    fn compatible_java(&self, worker: &str, shard: &str) -> tokio::task::AbortHandle {
        let (table, shard, worker) = (self.leases.clone(), shard.to_owned(), worker.to_owned());
        let began = self.began;
        let playing = tokio::spawn(async move {
            let lease = Lease::read(&table.row(&shard).unwrap()).unwrap();
            table.apply(&lease.take(&worker.as_str().into())).unwrap();
            loop {
                let now_s = NOW_MS / 1000 + began.elapsed().as_secs() as i64;
                let report = WorkerMetrics::unmeasured(worker.as_str().into(), now_s);
                table.apply(&report.report()).unwrap();
                let lease = Lease::read(&table.row(&shard).unwrap()).unwrap();
                table.apply(&lease.renew()).unwrap();
                sleep(3 * SECOND).await;
            }
        });
        playing.abort_handle()
    }

    /// A worker of 2.x that has one lease, and reports nothing.
    fn phase_1_peer(&self, shard: &str) -> tokio::task::AbortHandle {
        let (table, shard) = (self.leases.clone(), shard.to_owned());
        let playing = tokio::spawn(async move {
            loop {
                let mut lease = Lease::read(&table.row(&shard).unwrap()).unwrap();
                if lease.owner != Some("peer".into()) {
                    table.apply(&lease.take(&"peer".into())).unwrap();
                    lease = Lease::read(&table.row(&shard).unwrap()).unwrap();
                }
                let _lost_or_renewed = table.apply(&lease.renew());
                sleep(Duration::from_secs(3)).await;
            }
        });
        playing.abort_handle()
    }
}

fn held(leases: &Leases) -> Vec<String> {
    leases
        .held()
        .borrow()
        .iter()
        .map(|held| held.tenure.shard.to_string())
        .collect()
}

async fn until(mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(300), "waited for nothing");
        sleep(Duration::from_millis(50)).await;
    }
}
