//! What a worker notes of its leases: the fake table, tokio's paused clock, and a CloudWatch that adds up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use multilangd_core::client_version::Configured;
use multilangd_core::ids::{Position, ShardId};
use multilangd_core::leases::Lease;
use multilangd_core::metrics::{Entry, MetricsSettings, Statistics};
use multilangd_core::table::{Item, Value};
use multilangd_engine::clock::Clock;
use multilangd_engine::leases::{LeaseSettings, Leases, LegacyTables};
use multilangd_engine::metrics::{Metrics, Sink};
use multilangd_engine::stream::BoxError;
use multilangd_tests::table::{FakeTable, Fault};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

const NOW_MS: i64 = 1_789_000_000_000;

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_lost_is_counted_once_and_its_renewal_as_a_success() {
    let worker = Worker::with_leases(&["s-1", "s-2"]).await;
    worker
        .until("CurrentLeases of RenewAllLeases", |it| it.maximum == 2.0)
        .await;
    let row = worker.table.row("s-1").unwrap();
    let row = Lease::read(&row).unwrap();
    worker.table.apply(&row.take(&"other".into())).unwrap();
    let lost = worker
        .until("LostLeases of RenewAllLeases", |it| it.sum > 0.0)
        .await;
    assert_eq!(lost.sum, 1.0);
    let renewals = worker.seen("RenewLease.Success of RenewAllLeases");
    assert_eq!((renewals.minimum, renewals.maximum), (1.0, 1.0));
}

#[tokio::test(start_paused = true)]
async fn a_throttled_table_shows_as_failures_and_as_no_loss() {
    let worker = Worker::with_leases(&["s-1"]).await;
    worker
        .until("Success of RenewAllLeases", |it| it.count > 2.0)
        .await;
    assert_eq!(worker.seen("Success of RenewAllLeases").minimum, 1.0);
    worker.table.fail_always(Fault::Throttled);
    worker
        .until("Success of RenewAllLeases", |it| it.minimum == 0.0)
        .await;
    worker
        .until("RenewLease.Success of RenewAllLeases", |it| it.minimum == 0.0)
        .await;
    assert_eq!(worker.seen("LostLeases of RenewAllLeases").sum, 0.0);
}

#[tokio::test(start_paused = true)]
async fn leases_beyond_the_limit_spill_over() {
    let worker = Worker::start(|settings| settings.assignment.leases_max = 2).await;
    worker.create(&["s-1", "s-2", "s-3"]).await;
    let spilled = worker
        .until("LeaseSpillover of LeaseAssignmentManager", |it| it.count > 0.0)
        .await;
    assert_eq!((spilled.minimum, spilled.maximum), (1.0, 1.0));
    assert_eq!(worker.seen("NumWorkers of LeaseAssignmentManager").maximum, 1.0);
    assert_eq!(worker.seen("TotalLeases of LeaseAssignmentManager").maximum, 3.0);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_nobody_behind_reports_no_spill_over() {
    let worker = Worker::with_leases(&["s-1"]).await;
    worker
        .until("TotalLeases of LeaseAssignmentManager", |it| it.maximum == 1.0)
        .await;
    worker.leases.stop().await;
    sleep(Duration::from_secs(20)).await;
    assert!(!worker.has("LeaseSpillover of LeaseAssignmentManager"));
    assert_eq!(worker.seen("NumWorkers of LeaseAssignmentManager").minimum, 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_counted_for_its_shard_and_the_last_one_as_the_shards_end() {
    let worker = Worker::with_leases(&["s-1"]).await;
    let tenure = worker.leases.held().borrow()[0].tenure.clone();
    let at = Position::parse("17", 0).unwrap();
    worker.leases.checkpoint(&tenure, &at).await.unwrap();
    worker
        .leases
        .checkpoint(&tenure, &Position::ShardEnd)
        .await
        .unwrap();
    for operation in ["ProcessTask", "ShutdownTask"] {
        let name = format!("UpdateLease.Success of {operation}/s-1");
        let seen = worker.until(&name, |it| it.count > 0.0).await;
        assert_eq!((seen.sum, seen.count), (1.0, 1.0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_nobody_can_read_is_counted_by_the_leader() {
    let worker = Worker::with_leases(&["s-1"]).await;
    let mut row = worker.table.row("s-1").unwrap();
    row.insert("leaseKey".into(), multilangd_core::table::Value::s("s-9"));
    row.remove("leaseCounter");
    worker.table.put(row);
    let seen = worker
        .until(
            "LeaseDeserializationFailureCount of LeaseAssignmentManager",
            |it| it.count > 0.0,
        )
        .await;
    assert_eq!(seen.maximum, 1.0);
}

/// Everything that was put, merged: `NAME of OPERATION`, or `NAME of OPERATION/SHARD`.
#[derive(Default)]
struct Sum(Mutex<BTreeMap<String, Statistics>>);

#[async_trait]
impl Sink for Sum {
    async fn put(&self, _: &str, entries: &[Entry]) -> Result<(), BoxError> {
        let mut sums = self.0.lock().unwrap();
        for entry in entries {
            let dimension = |name| {
                entry
                    .dimensions
                    .iter()
                    .find(|it| it.0 == name)
                    .map(|it| it.1.as_str())
            };
            let mut name = format!("{} of {}", entry.name, dimension("Operation").unwrap());
            if let Some(shard) = dimension("ShardId") {
                name = format!("{name}/{shard}");
            }
            sums.entry(name)
                .and_modify(|sum| *sum = sum.and(entry.statistics))
                .or_insert(entry.statistics);
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_takes_leases_by_the_rules_of_2x_publishes_the_takers_metrics() {
    let worker = Worker::start(|settings| settings.client_version = Configured::CompatibleWith2).await;
    worker.create(&["s-1"]).await;
    let taken = worker
        .until("TakenLeases of TakeLeases", |it| it.sum == 1.0)
        .await;
    assert_eq!((taken.minimum, taken.maximum), (0.0, 1.0));
    let last = |name: &str, value: f64| {
        let name = format!("{name} of TakeLeases");
        assert_eq!(worker.seen(&name).maximum, value, "{name}");
    };
    last("ExpiredLeases", 1.0);
    last("VeryOldLeases", 1.0);
    last("LeasesToTake", 1.0);
    last("NeededLeases", 1.0);
    last("TotalLeases", 1.0);
    last("NumWorkers", 1.0);
    last("LeaseSpillover", 0.0);
    last("UntakenLeases", 0.0);
    assert_eq!(worker.seen("TakeLease.Success of TakeLeases").sum, 1.0);
    assert!(worker.has("ListLeases.Time of TakeLeases"));
    assert!(worker.has("Success of TakeLeases"));
    worker
        .until("CurrentState:2xCompatibleWorker of Migration", |it| it.sum >= 1.0)
        .await;
    worker
        .until("WorkerMetricsReadyStatus of Migration", |it| it.sum >= 1.0)
        .await;
    assert_eq!(worker.seen("GsiReadyStatus of Migration").minimum, 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_rules_that_cannot_be_written_is_a_fault() {
    let worker = Worker::start(|settings| settings.client_version = Configured::CompatibleWith2).await;
    worker.create(&["s-1"]).await;
    worker.table.fail_next_write("Migration3.0", Fault::Refused);
    sleep(Duration::from_secs(600)).await;
    let faults = worker.until("Fault of Migration", |it| it.sum > 0.0).await;
    assert_eq!(faults.sum, 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_leader_over_separate_tables_says_how_far_the_move_is() {
    let separate = Separate::tables();
    let worker = Worker::beside(&separate, |_| {}).await;
    worker.create(&["s-1"]).await;
    let written = worker
        .until("WriteFault of TableMigration", |it| it.count > 0.0)
        .await;
    assert_eq!((written.sum, written.count), (0.0, 1.0));
    worker
        .until("Phase1Worker of TableMigration", |it| it.maximum == 1.0)
        .await;
    assert_eq!(worker.seen("Phase2Worker of TableMigration").maximum, 0.0);
    assert_eq!(worker.seen("ReadFault of TableMigration").maximum, 0.0);
    assert!(worker.has("Time of TableMigration"));
    separate.coordinator.fail_always(Fault::Throttled);
    worker
        .until("ReadFault of TableMigration", |it| it.maximum == 1.0)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_moves_rows_counts_them() {
    let separate = Separate::tables();
    separate.be_at("TABLE_MIGRATION_STATUS_DEPLOYED");
    let worker = Worker::beside(&separate, |settings| {
        settings.migrate = true;
        settings.migration_bake = Duration::from_secs(60);
    })
    .await;
    worker.create(&["s-1"]).await;
    let moved = worker
        .until("BatchCount of TableMigrationAsyncMove", |it| it.sum > 0.0)
        .await;
    assert_eq!(moved.sum, 1.0, "Migration3.0");
    assert_eq!(worker.seen("Success of TableMigrationAsyncMove").minimum, 1.0);
    assert_eq!(worker.seen("Phase2Worker of TableMigration").maximum, 1.0);
    let ended = worker
        .until("CompletionFault of TableMigration", |it| it.count > 0.0)
        .await;
    assert_eq!(ended.sum, 0.0);
}

/// The tables of KCL 3.0-3.4, of a fleet of 3.x.
struct Separate {
    coordinator: Arc<FakeTable>,
    metrics: Arc<FakeTable>,
}

impl Separate {
    fn tables() -> Self {
        let coordinator = FakeTable::existing_with_key("app-CoordinatorState", "key");
        let text = |name: &str, text: &str| (name.to_owned(), Value::s(text));
        coordinator.put(Item::from([
            text("key", "Migration3.0"),
            text("cv", "CLIENT_VERSION_3X"),
            text("mb", "java"),
        ]));
        Self {
            coordinator,
            metrics: FakeTable::existing_with_key("app-WorkerMetricStats", "wid"),
        }
    }

    fn be_at(&self, status: &str) {
        let text = |name: &str, text: &str| (name.to_owned(), Value::s(text));
        self.coordinator.put(Item::from([
            text("key", "TableMigration3.5"),
            text("tm", status),
            text("mb", "java"),
            ("mts".to_owned(), Value::n(NOW_MS)),
        ]));
    }
}

struct Worker {
    table: Arc<FakeTable>,
    leases: Leases,
    sum: Arc<Sum>,
}

impl Worker {
    async fn start(change: impl FnOnce(&mut LeaseSettings)) -> Self {
        Self::over(FakeTable::existing("app"), change).await
    }

    async fn beside(separate: &Separate, change: impl FnOnce(&mut LeaseSettings)) -> Self {
        let table = FakeTable::existing("app");
        table.put_beside(separate.coordinator.clone());
        Self::over(table, |settings| {
            settings.legacy = Some(LegacyTables {
                coordinator: separate.coordinator.clone(),
                metrics: separate.metrics.clone(),
            });
            change(settings);
        })
        .await
    }

    async fn over(table: Arc<FakeTable>, change: impl FnOnce(&mut LeaseSettings)) -> Self {
        let metrics = Metrics::new(MetricsSettings::new("app", "me".into()));
        let sum = Arc::new(Sum::default());
        tokio::spawn(metrics.clone().publish(sum.clone(), CancellationToken::new()));
        let mut settings = LeaseSettings {
            metrics,
            ..LeaseSettings::new("me".into(), "app")
        };
        change(&mut settings);
        let clock = Clock::simulated(NOW_MS, 1);
        let leases = Leases::start(table.clone(), clock, settings, CancellationToken::new())
            .await
            .unwrap();
        Self { table, leases, sum }
    }

    async fn with_leases(keys: &[&str]) -> Self {
        let worker = Self::start(|_| {}).await;
        worker.create(keys).await;
        let mut held = worker.leases.held();
        held.wait_for(|held| held.len() == keys.len()).await.unwrap();
        worker
    }

    async fn create(&self, keys: &[&str]) {
        for key in keys {
            let lease = Lease::new(ShardId::from(*key), Position::TrimHorizon, BTreeSet::new(), None);
            assert!(self.leases.create_lease(&lease).await.unwrap());
        }
        self.leases.look_now();
    }

    fn has(&self, name: &str) -> bool {
        self.sum.0.lock().unwrap().contains_key(name)
    }

    fn seen(&self, name: &str) -> Statistics {
        let sums = self.sum.0.lock().unwrap();
        *sums
            .get(name)
            .unwrap_or_else(|| panic!("no {name} among {:?}", sums.keys()))
    }

    /// Waits, for two minutes at most, until a metric looks like this.
    async fn until(&self, name: &str, looks: impl Fn(&Statistics) -> bool) -> Statistics {
        for _ in 0..120 {
            if self.has(name) && looks(&self.seen(name)) {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        let seen = self.seen(name);
        assert!(looks(&seen), "{name}: {seen:?}");
        seen
    }
}
