//! The task that tells the leader that this worker is there: its metrics row (`leasing.md 5.7`). Without a fresh
//! one, no leader assigns anything to it (trap 28).

use std::time::Duration;

use multilangd_core::ids::WorkerId;
use multilangd_core::metrics::{Call, Of, Operation};
use multilangd_core::worker_metrics::WorkerMetrics;
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::clock::Clock;
use crate::leases::Rows;
use crate::metrics::Metrics;
use crate::retry::{Patience, retry};
use crate::table::TableError;

mod load;

use load::with_cpu;
pub(crate) use load::{Measured, Sampling};

/// For the row's deletion at the end: a leader that still sees it wastes its assignments for a minute, no more.
const RETIRE_PATIENCE: Patience = Patience {
    tries_max: Some(4),
    wait_first: Duration::from_millis(100),
    wait_max: Duration::from_secs(1),
};

/// This worker's row.
#[derive(Clone)]
pub(crate) struct MetricsRow {
    pub(crate) rows: Rows,
    pub(crate) me: WorkerId,
    pub(crate) clock: Clock,
    pub(crate) interval: Duration,
    pub(crate) measured: Measured,
    pub(crate) metrics: Metrics,
}

impl MetricsRow {
    /// Writes the row now, for as long as it takes.
    pub(crate) async fn report(&self) -> Result<(), TableError> {
        let averages = self.measured.averages();
        let attempt = || async {
            // Read anew on each try: a row must not be old when it is written.
            let report = WorkerMetrics::unmeasured(self.me.clone(), self.clock.epoch_ms() / 1000);
            let report = with_cpu(report, averages.as_deref()).report();
            let write = self.rows.write(&report);
            self.metrics
                .measure(Operation::WorkerMetricsReport, Of::Worker, Call::TASK, write)
                .await
        };
        retry(
            &self.clock,
            Patience::ENDLESS,
            "reporting the worker's metrics",
            attempt,
        )
        .await
        .map(drop)
    }

    /// Reports at a fixed rate until `stop`, then takes the row away.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let reports = async {
            let mut due = interval_at(tokio::time::Instant::now() + self.interval, self.interval);
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                due.tick().await;
                if let Err(error) = self.report().await {
                    warn!(%error, "this worker's metrics could not be reported; without them it gets no leases");
                }
            }
        };
        stop.run_until_cancelled(reports).await;
        let retire = WorkerMetrics::retire(&self.me);
        let retired = retry(
            &self.clock,
            RETIRE_PATIENCE,
            "deleting the worker's metrics row",
            || self.rows.write(&retire),
        );
        if let Err(error) = retired.await {
            warn!(%error, "the worker's metrics row could not be deleted; it expires by itself within a minute");
        }
    }
}
