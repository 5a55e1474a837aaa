//! What a worker says of its CPU in its metrics row (`leasing.md 5.7`): a pretended container, tokio's paused clock.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use multilangd_core::worker_metrics::WorkerMetrics;
use multilangd_engine::clock::Clock;
use multilangd_engine::leases::{LeaseSettings, Leases};
use multilangd_engine::platform::Host;
use multilangd_tests::table::FakeTable;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

const NOW_MS: i64 = 1_789_000_000_000;

/// A container with 1 CPU that is half busy, in a place that is found out only after a while.
struct Container {
    began: Instant,
    found_after: Duration,
    works_until: Duration,
}

#[async_trait]
impl Host for Container {
    fn environment(&self, _name: &str) -> Option<String> {
        None
    }

    async fn exists(&self, _path: &str) -> bool {
        sleep(self.found_after).await;
        true
    }

    async fn read(&self, path: &str) -> Option<String> {
        let age = self.began.elapsed();
        match path.rsplit('/').next()? {
            "cpu.max" => Some("100000 100000\n".to_owned()),
            "cpu.stat" if age < self.works_until => Some(format!("usage_usec {}\n", age.as_micros() / 2)),
            _ => None,
        }
    }

    async fn http(&self, _: &'static str, _: &str, _: Option<(&'static str, &str)>) -> Option<String> {
        None
    }
}

async fn start(table: &Arc<FakeTable>, found_after_s: u64, works_until_s: u64) -> Leases {
    let host = Container {
        began: Instant::now(),
        found_after: Duration::from_secs(found_after_s),
        works_until: Duration::from_secs(works_until_s),
    };
    let settings = LeaseSettings {
        host: Some(Arc::new(host)),
        reports_kept: 3,
        ..LeaseSettings::new("me".into(), "app")
    };
    let clock = Clock::simulated(NOW_MS, 7);
    Leases::start(table.clone(), clock, settings, CancellationToken::new())
        .await
        .unwrap()
}

fn report(table: &FakeTable) -> WorkerMetrics {
    WorkerMetrics::read(&table.row("me").expect("the worker's row")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_start_does_not_wait_for_the_platform_and_says_nothing_of_its_load_yet() {
    let table = FakeTable::existing("app");
    let began = Instant::now();
    let leases = start(&table, 10, 1_000).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(report(&table).is_default());
    drop(leases);
}

#[tokio::test(start_paused = true)]
async fn a_measured_worker_reports_averages_oldest_first_and_that_all_may_be_used() {
    let table = FakeTable::existing("app");
    let leases = start(&table, 10, 1_000).await;
    sleep(Duration::from_secs(31)).await;
    let row = report(&table);
    assert_eq!(row.operating_range["C"], [100.0]);
    assert_eq!(row.samples["C"].len(), 1);
    sleep(Duration::from_secs(150)).await;
    let cpu = report(&table).samples["C"].clone();
    assert_eq!(cpu.len(), 3, "as many as are kept");
    assert!(cpu.iter().all(|percent| (percent - 50.0).abs() < 1.0), "{cpu:?}");
    drop(leases);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_platform_is_found_late_reports_no_failed_sample() {
    let table = FakeTable::existing("app");
    let leases = start(&table, 40, 1_000).await;
    sleep(Duration::from_secs(31)).await;
    assert!(report(&table).is_default());
    sleep(Duration::from_secs(90)).await;
    let row = report(&table);
    assert!(!row.is_default() && !row.is_failing(), "{row:?}");
    drop(leases);
}

#[tokio::test(start_paused = true)]
async fn a_measure_that_stops_working_is_reported_as_failed() {
    let table = FakeTable::existing("app");
    let leases = start(&table, 0, 40).await;
    sleep(Duration::from_secs(91)).await;
    assert!(report(&table).is_failing());
    drop(leases);
}

#[tokio::test(start_paused = true)]
async fn a_worker_without_a_measure_reports_two_empty_maps() {
    let table = FakeTable::existing("app");
    let leases = Leases::start(
        table.clone(),
        Clock::simulated(NOW_MS, 7),
        LeaseSettings::new("me".into(), "app"),
        CancellationToken::new(),
    )
    .await
    .unwrap();
    sleep(Duration::from_secs(61)).await;
    assert!(report(&table).is_default());
    drop(leases);
}
