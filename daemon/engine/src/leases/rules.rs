//! The task that watches which rules the fleet plays by, and changes them when the fleet is ready (`leasing.md 5.9`). What
//! follows from the row is decided in `core::client_version`; the tasks that play by the rules follow the value here.

use std::time::Duration;

use multilangd_core::client_version::{Readiness, Rules, all_owners_report, flip};
use multilangd_core::ids::WorkerId;
use multilangd_core::metrics::{Metric, Of, Operation};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::places::Places;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::retry::{Patience, retry};
use crate::table::TableError;

/// How often the row, and the fleet's readiness, is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(60);
/// The first look of a worker comes later by up to this, so that a fleet that is started at once does not look at once.
const JITTER_MAX_MS: u64 = 30_000;

pub(super) struct RulesWatch {
    pub(super) places: Places,
    pub(super) me: WorkerId,
    pub(super) clock: Clock,
    pub(super) rules: watch::Sender<Rules>,
    pub(super) elected: watch::Receiver<bool>,
    pub(super) metrics: Metrics,
}

impl RulesWatch {
    /// Runs until `stop`; looks at nothing any more once the rules are final.
    pub(super) async fn run(self, stop: CancellationToken) {
        let watching = async {
            let jitter = self.clock.chance(|rng| rng.below(JITTER_MAX_MS));
            let mut wait = WATCH_INTERVAL + Duration::from_millis(jitter);
            let mut readiness = Readiness::default();
            while self.rules.borrow().may_change() {
                sleep(wait).await;
                wait = WATCH_INTERVAL;
                if let Err(error) = self.look(&mut readiness).await {
                    warn!(%error, "the rules of the fleet (row Migration3.0) could not be looked at, trying again");
                }
            }
            // Who follows the rules must not lose sight of them.
            std::future::pending::<()>().await;
        };
        stop.run_until_cancelled(watching).await;
    }

    async fn look(&self, readiness: &mut Readiness) -> Result<(), TableError> {
        let read = || self.places.client_version();
        let row = retry(&self.clock, Patience::ENDLESS, "reading the client version", read).await?;
        let rules = *self.rules.borrow();
        if let Some(next) = row.as_ref().and_then(|row| rules.changed_to(&row.version)) {
            info!(
                from = rules.name(),
                to = next.name(),
                "the fleet changes its rules"
            );
            self.rules.send_replace(next);
            *readiness = Readiness::default();
            return Ok(());
        }
        if row.is_some() {
            let is = if rules.assigns() {
                Metric::IS_3X
            } else {
                Metric::IS_2X
            };
            self.metrics.add(Operation::Migration, Of::Application, is, 1.0);
        }
        let Some(row) = row.filter(|_| rules == Rules::UpgradeFrom2) else {
            return Ok(());
        };
        let is_ready = *self.elected.borrow() && self.is_ready().await?;
        let was_ready = readiness.since().is_some();
        let is_due = readiness.look(is_ready, Instant::now().into_std());
        if is_ready && !was_ready {
            info!(
                "the whole fleet is ready for the rules of 3.x; it changes to them if it stays so for 10 minutes"
            );
        }
        if is_due && let Some(write) = flip(&row, &self.me, self.clock.epoch_ms()) {
            let key_name = row.key_name();
            match self.places.write_state(&write, key_name).await {
                Ok(()) => info!("the fleet changes to the rules of 3.x; it can still be rolled back"),
                // Somebody was first; the next look shows what to.
                Err(TableError::Conflict(_)) => {}
                Err(error) => {
                    let (operation, fault) = (Operation::Migration, Metric::MIGRATION_FAULT);
                    self.metrics.add(operation, Of::Application, fault, 1.0);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The index is there, and every owner of a lease reports.
    async fn is_ready(&self) -> Result<bool, TableError> {
        let description = self.places.leases.table.describe().await?;
        let has_index = description.is_some_and(|description| description.owner_index == Some(true));
        let is_ready = has_index && self.all_report().await?;
        let samples = [
            (Metric::INDEX_READY, has_index),
            (Metric::REPORTS_READY, is_ready),
        ];
        for (metric, is_ready) in samples {
            let value = f64::from(u8::from(is_ready));
            self.metrics
                .add(Operation::Migration, Of::Application, metric, value);
        }
        Ok(is_ready)
    }

    async fn all_report(&self) -> Result<bool, TableError> {
        let found = self.places.scan(true).await?;
        let reports: Vec<_> = found.all_reports().cloned().collect();
        Ok(all_owners_report(
            &found.leases,
            &reports,
            self.clock.epoch_ms() / 1000,
        ))
    }
}

/// Says who leads: who holds the lock, or, by the rules of 2.x, who is elected.
pub(super) async fn say_who_leads(
    mut rules: watch::Receiver<Rules>,
    mut locked: watch::Receiver<bool>,
    mut elected: watch::Receiver<bool>,
    is_leader: watch::Sender<bool>,
) {
    loop {
        let leads = if rules.borrow_and_update().assigns() {
            *locked.borrow_and_update()
        } else {
            *elected.borrow_and_update()
        };
        is_leader.send_if_modified(|said| std::mem::replace(said, leads) != leads);
        tokio::select! {
            biased;
            Ok(()) = rules.changed() => {}
            Ok(()) = locked.changed() => {}
            Ok(()) = elected.changed() => {}
            else => return,
        }
    }
}
