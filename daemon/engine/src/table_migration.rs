//! The task that follows the move of a fleet of KCL 3.0-3.4 into the lease table, and, while this worker leads, does what
//! the leader owes to it (`leasing.md 5.10`). What that is, is decided in `core::table_migration`.

use std::time::Duration;

use multilangd_core::ids::WorkerId;
use multilangd_core::metrics::{Metric, Of, Operation};
use multilangd_core::table::{Item, Value};
use multilangd_core::table_migration::{
    Duty, Facts, MigrationRow, Places as Tables, Status, duty, follow, is_entry,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::leases::{LegacyRows, Places, place};
use crate::metrics::{Metrics, Scope};
use crate::retry::{Patience, retry};
use crate::table::TableError;

/// How often the row is read. Java reads it with each look at the lock, every 30 s where another worker leads.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

pub(crate) struct TableMigration {
    pub(crate) places: Places,
    pub(crate) me: WorkerId,
    pub(crate) clock: Clock,
    /// `migrateAllEntitiesToLeaseTable`.
    pub(crate) migrate: bool,
    /// `tableMigrationCompleteBakeTimeSeconds`.
    pub(crate) bake: Duration,
    /// How long a report is fresh.
    pub(crate) report_age_max: Duration,
    /// Whether this worker holds the leader's lock.
    pub(crate) locked: watch::Receiver<bool>,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) metrics: Metrics,
}

impl TableMigration {
    /// Runs until `stop`, or until the move is complete.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let rounds = async {
            while let Some(legacy) = self.places.legacy() {
                let began = Instant::now();
                let mut scope = self.metrics.scope(Operation::TableMigration, Of::Application);
                if let Err(error) = self.round(legacy, &mut scope).await {
                    warn!(%error, "the move to a single table could not be looked at or advanced, trying again");
                }
                scope.time(Metric::TIME, began);
                scope.note();
                sleep(LOOK_INTERVAL).await;
            }
        };
        stop.run_until_cancelled(rounds).await;
    }

    async fn round(&self, legacy: &LegacyRows, scope: &mut Scope<'_>) -> Result<(), TableError> {
        let row = self.read().await?;
        self.follow(row.as_ref());
        let local = *self.status.borrow();
        if !*self.locked.borrow() || !local.reads_legacy() {
            return Ok(());
        }
        let found = self.places.scan(true).await?;
        let entries = self.entries(legacy).await?;
        let facts = Facts {
            leases: &found.leases,
            reports: &found.reports,
            legacy_reports: &found.legacy_reports,
            entries: entries.len(),
            report_age_max: self.report_age_max,
            now_ms: self.clock.epoch_ms(),
        };
        let names = [Metric::BEFORE_PHASE_1, Metric::PHASE_1, Metric::PHASE_2];
        for (metric, workers) in names.into_iter().zip(facts.phases()) {
            scope.add(metric, workers as f64);
        }
        match duty(local, row.as_ref(), &facts, &self.me, self.bake) {
            Duty::Nothing => Ok(()),
            Duty::Write(write, to) => {
                let written = legacy.coordinator.write(&write).await;
                let fault = to.map_or(Metric::DELETE_FAULT, |_| Metric::WRITE_FAULT);
                scope.add(fault, fault_of(&written));
                match written {
                    Ok(_) => info!(
                        status = to.map(Status::name),
                        "the move to a single table goes on"
                    ),
                    // Somebody was first.
                    Err(TableError::Conflict(_)) => {}
                    Err(error) => return Err(error),
                }
                let row = self.read().await?;
                self.follow(row.as_ref());
                Ok(())
            }
            Duty::Move => self.move_entries(legacy, entries).await,
            Duty::Finalise => match row {
                Some(row) => self.finalise(legacy, &row, scope).await,
                None => Ok(()),
            },
        }
    }

    async fn read(&self) -> Result<Option<MigrationRow>, TableError> {
        let read = || async {
            let row = self.places.migration().await;
            let (of, fault) = (Of::Application, fault_of(&row));
            self.metrics
                .add(Operation::TableMigration, of, Metric::READ_FAULT, fault);
            row
        };
        retry(&self.clock, Patience::ENDLESS, "reading TableMigration3.5", read).await
    }

    fn follow(&self, row: Option<&MigrationRow>) {
        self.status.send_if_modified(|local| {
            let next = follow(*local, row, self.migrate);
            let changed = next != *local;
            if changed {
                info!(
                    from = local.name(),
                    to = next.name(),
                    "the move to a single table, for this worker"
                );
            }
            *local = next;
            changed
        });
    }

    async fn entries(&self, legacy: &LegacyRows) -> Result<Vec<Item>, TableError> {
        let mut items = legacy.coordinator.items(true).await?;
        items.retain(is_entry);
        Ok(items)
    }

    /// Each entry by a transaction of its own: one that cannot be moved does not hold up the others.
    async fn move_entries(&self, legacy: &LegacyRows, entries: Vec<Item>) -> Result<(), TableError> {
        let mut scope = self.metrics.scope(Operation::TableMigrationMove, Of::Application);
        let count = entries.len();
        let mut moved = 0;
        let done = self.move_each(legacy, entries, &mut moved).await;
        scope.add(Metric::MOVED_BATCHES, moved as f64);
        scope.end(moved == count);
        done
    }

    async fn move_each(
        &self,
        legacy: &LegacyRows,
        entries: Vec<Item>,
        moved: &mut usize,
    ) -> Result<(), TableError> {
        let tables = self.tables(legacy);
        for item in entries {
            let key = match item.get(&tables.coordinator.key_name) {
                Some(Value::S(key)) => key.clone(),
                _ => String::new(),
            };
            let Some(transaction) = tables.move_entry(&item, &self.me) else {
                warn!(
                    key,
                    table = tables.coordinator.table,
                    "a row of an unknown kind cannot be moved: delete it by hand"
                );
                continue;
            };
            match self.places.leases.transact(&transaction).await {
                Ok(()) => {
                    *moved += 1;
                    info!(key, to = tables.leases.table, "row moved");
                }
                Err(TableError::Conflict(_)) => warn!(
                    key,
                    "a row was not moved: this worker no longer leads, the row has changed, or the lease table has it already"
                ),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn finalise(
        &self,
        legacy: &LegacyRows,
        row: &MigrationRow,
        scope: &mut Scope<'_>,
    ) -> Result<(), TableError> {
        let transaction = self.tables(legacy).finalise(row, &self.me, self.clock.epoch_ms());
        let written = self.places.leases.transact(&transaction).await;
        scope.add(Metric::COMPLETION_FAULT, fault_of(&written));
        match &written {
            Ok(()) => info!("the move to a single table is complete: the legacy tables may be deleted"),
            Err(TableError::Conflict(_)) => {}
            // It may have happened, and then the lock is elsewhere from now on.
            Err(error) => warn!(%error, "the end of the move had no good answer"),
        }
        let row = self.read().await?;
        self.follow(row.as_ref());
        Ok(())
    }

    fn tables(&self, legacy: &LegacyRows) -> Tables {
        Tables {
            coordinator: place(&legacy.coordinator),
            leases: place(&self.places.leases),
        }
    }
}

/// A sample of a metric of faults.
fn fault_of<T>(done: &Result<T, TableError>) -> f64 {
    f64::from(u8::from(done.is_err()))
}
