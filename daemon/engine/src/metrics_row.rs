//! The task that tells the leader that this worker is there: its metrics row (`leasing.md 5.7`). Without a fresh
//! one, no leader assigns anything to it (trap 28).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multilangd_core::client_version::Rules;
use multilangd_core::ids::WorkerId;
use multilangd_core::metrics::{Call, Of, Operation};
use multilangd_core::twin::{Claim, Finding};
use multilangd_core::worker_metrics::WorkerMetrics;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::clock::Clock;
use crate::leases::{Identity, Rows};
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

/// Reports that are made because something looks like another process of this id are at least this far apart.
const SUSPICION_GAP: Duration = Duration::from_secs(1);

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
    /// What this process has reported. Locked for a moment, never over a call.
    pub(crate) claim: Arc<Mutex<Claim>>,
    pub(crate) identity: Identity,
}

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reported {
    /// It is in the row.
    Stored,
    /// Another process reports under this id, and this one must end.
    Twin,
}

/// A worker's row, consistently; one that cannot be read says nothing.
pub(crate) async fn read_report(rows: &Rows, worker: &WorkerId) -> Result<Option<WorkerMetrics>, TableError> {
    let row = rows.get(worker.as_str()).await?;
    Ok(row.and_then(|item| WorkerMetrics::read(&item).ok()))
}

impl MetricsRow {
    fn claim(&self) -> MutexGuard<'_, Claim> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self) -> Result<Option<WorkerMetrics>, TableError> {
        read_report(&self.rows, &self.me).await
    }

    /// Whether nobody else can have been at work under this id when this process began.
    pub(crate) fn is_first(&self) -> bool {
        self.claim().is_first()
    }

    /// Whether the row is as this process left it.
    pub(crate) async fn stands(&self) -> Result<bool, TableError> {
        let row = self.read().await?;
        Ok(self.claim().stands(row.as_ref()))
    }

    /// Writes the row now, for as long as it takes.
    pub(crate) async fn report(&self) -> Result<Reported, TableError> {
        let averages = self.measured.averages();
        let attempt = || self.try_to_report(averages.as_deref());
        loop {
            let what = "reporting the worker's metrics";
            match retry(&self.clock, Patience::ENDLESS, what, attempt).await? {
                None | Some(Finding::Ours) => return Ok(Reported::Stored),
                Some(Finding::Twin) => return Ok(Reported::Twin),
                // Each time somebody has written in between: this ends.
                Some(Finding::Again) => {}
                Some(Finding::Rival) => warn!(
                    worker = %self.me,
                    "another process works under this workerId; it should notice and end: give each worker an id of its own"
                ),
            }
        }
    }

    /// `None`: it was stored as it should be.
    async fn try_to_report(&self, averages: Option<&[f64]>) -> Result<Option<Finding>, TableError> {
        // Asked anew on each try: a row must not be old when it is written.
        let now_s = self.clock.epoch_ms() / 1000;
        let report = WorkerMetrics::unmeasured(self.me.clone(), now_s);
        let write = self.claim().report(&with_cpu(report, averages));
        let written = self.rows.write(&write);
        let written = self
            .metrics
            .measure(Operation::WorkerMetricsReport, Of::Worker, Call::TASK, written)
            .await;
        match written {
            Ok(_) => {
                self.claim().reported(now_s, Instant::now().into_std());
                Ok(None)
            }
            Err(TableError::Conflict(_)) => {
                // Read anew: what the answer holds may be older than a report of ours that is still on its way.
                let row = self.read().await?;
                let finding = self.claim().found(row.as_ref(), Instant::now().into_std());
                let row_s = row.and_then(|row| row.updated_s);
                debug!(worker = %self.me, row_s, ?finding, "the report was not the last one");
                Ok(Some(finding))
            }
            Err(error) => {
                if matches!(error, TableError::Unknown(_)) {
                    self.claim().unanswered(now_s);
                }
                Err(error)
            }
        }
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
            // The row, like the leases, is the other process's from now on.
            if !self.identity.is_lost() {
                self.retire().await;
            }
            if stop.is_cancelled() || self.identity.is_lost() {
                return;
            }
            first = Instant::now();
        }
    }

    /// Reports until `stop`, or until the rules no longer ask for it, or another process has this id.
    async fn report_from(&self, first: Instant, stop: &CancellationToken) {
        let mut due = interval_at(first, self.interval);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let reports = async {
            let mut last = Instant::now();
            loop {
                tokio::select! {
                    biased;
                    _ = due.tick() => {}
                    () = self.identity.suspected() => sleep_until(last + SUSPICION_GAP).await,
                }
                last = Instant::now();
                match self.report().await {
                    Ok(Reported::Stored) => {}
                    Ok(Reported::Twin) => return self.identity.lose(&self.me),
                    Err(error) => {
                        warn!(%error, "this worker's metrics could not be reported; without them it gets no leases");
                    }
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
        let what = "deleting the worker's metrics row";
        let attempt = || async {
            let retire = self.claim().retire(&self.me);
            match self.rows.write(&retire).await {
                // Gone already, or not ours: unless a report of ours had no answer.
                Err(TableError::Conflict(_)) => {
                    let row = self.read().await?;
                    let found = self.claim().found(row.as_ref(), Instant::now().into_std());
                    Ok(found == Finding::Ours)
                }
                written => written.map(|_| false),
            }
        };
        let retired = async {
            while retry(&self.clock, RETIRE_PATIENCE, what, attempt).await? {}
            Ok::<(), TableError>(())
        };
        if let Err(error) = retired.await {
            warn!(%error, "the worker's metrics row could not be deleted; it expires by itself within a minute");
        }
    }
}
