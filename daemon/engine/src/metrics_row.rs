//! The task that tells the leader that this worker is there: its metrics row (`leasing.md 5.7`). Without a fresh
//! one, no leader assigns anything to it (trap 28).

use std::time::Duration;

use multilangd_core::client_version::Rules;
use multilangd_core::ids::WorkerId;
use multilangd_core::metrics::{Call, Of, Operation};
use multilangd_core::worker_metrics::WorkerMetrics;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
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
    /// By the rules of 2.x, and after a roll-back to them, nobody reports.
    pub(crate) rules: watch::Receiver<Rules>,
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

    /// Reports at a fixed rate while the rules ask for it, until `stop`; then takes the row away. The first report was
    /// made at the start, if the rules asked for it then.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut first = Instant::now();
        if self.rules.borrow().reports() {
            first += self.interval;
        }
        loop {
            match stop
                .run_until_cancelled(self.rules.wait_for(|rules| rules.reports()))
                .await
            {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            }
            self.report_from(first, &stop).await;
            self.retire().await;
            if stop.is_cancelled() {
                return;
            }
            first = Instant::now();
        }
    }

    /// Reports until `stop`, or until the rules no longer ask for it.
    async fn report_from(&self, first: Instant, stop: &CancellationToken) {
        let mut due = interval_at(first, self.interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reports = async {
            loop {
                due.tick().await;
                if let Err(error) = self.report().await {
                    warn!(%error, "this worker's metrics could not be reported; without them it gets no leases");
                }
            }
        };
        let mut rules = self.rules.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _ = rules.wait_for(|rules| !rules.reports()) => {}
            () = reports => {}
        }
    }

    async fn retire(&self) {
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
