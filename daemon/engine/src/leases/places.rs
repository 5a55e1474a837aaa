//! Where the rows are that are no leases: in the lease table, or in the tables of KCL 3.0-3.4 beside it, by how far the
//! fleet's move is (`leasing.md 5.10`). What follows from what is decided in `core::table_migration`.

use std::sync::Arc;

use multilangd_core::client_version::{self, ClientVersionRow};
use multilangd_core::leases::LEASE_KEY;
use multilangd_core::table::{Place, Write};
use multilangd_core::table_migration::{self, COORDINATOR_KEY, MigrationRow, Status};
use multilangd_core::worker_metrics::WorkerMetrics;
use tokio::sync::watch;

use super::rows::{Found, Rows};
use crate::table::{Table, TableError};

/// The tables of KCL 3.0-3.4. Never created by us: a fleet that has none shall get none (trap 39).
#[derive(Clone)]
pub struct LegacyTables {
    /// `<application>-CoordinatorState`, with the key `key`.
    pub coordinator: Arc<dyn Table>,
    /// `<application>-WorkerMetricStats`, with the key `wid`.
    pub metrics: Arc<dyn Table>,
}

/// The legacy tables as rows.
#[derive(Clone)]
pub(crate) struct LegacyRows {
    pub(crate) coordinator: Rows,
    pub(crate) metrics: Rows,
}

/// All places. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Places {
    pub(crate) leases: Rows,
    /// `None`: there are no legacy tables, and never will be.
    legacy: Option<LegacyRows>,
    status: watch::Receiver<Status>,
    /// Where metrics and states are written is fixed at the start (trap 40).
    writes_legacy: bool,
}

impl Places {
    /// `status` as it is now decides where is written for the whole life of this worker.
    pub(crate) fn new(leases: Rows, legacy: Option<LegacyRows>, status: watch::Receiver<Status>) -> Self {
        let writes_legacy = status.borrow().writes_legacy();
        Self {
            leases,
            legacy,
            status,
            writes_legacy,
        }
    }

    /// How far the move is, for this worker.
    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// The legacy tables, while they count.
    pub(crate) fn legacy(&self) -> Option<&LegacyRows> {
        self.legacy
            .as_ref()
            .filter(|_| self.status.borrow().reads_legacy())
    }

    /// The table of the leader's lock.
    pub(crate) fn lock(&self) -> &Rows {
        self.legacy().map_or(&self.leases, |legacy| &legacy.coordinator)
    }

    /// The table that this worker's metrics are written to.
    pub(crate) fn metrics(&self) -> &Rows {
        match &self.legacy {
            Some(legacy) if self.writes_legacy => &legacy.metrics,
            Some(_) | None => &self.leases,
        }
    }

    /// The key of the table that a new client version row goes to.
    pub(crate) fn state_key(&self) -> &'static str {
        match &self.legacy {
            Some(_) if self.writes_legacy => COORDINATOR_KEY,
            Some(_) | None => LEASE_KEY,
        }
    }

    /// The row `Migration3.0`, consistently; from the legacy table first, while that counts.
    pub(crate) async fn client_version(&self) -> Result<Option<ClientVersionRow>, TableError> {
        let mut item = None;
        if let Some(legacy) = self.legacy() {
            item = legacy.coordinator.get(client_version::KEY).await?;
        }
        if item.is_none() {
            item = self.leases.get(client_version::KEY).await?;
        }
        item.map(|item| ClientVersionRow::read(&item).map_err(|bad| TableError::Refused(Box::new(bad))))
            .transpose()
    }

    /// Writes the row `Migration3.0` to the table that has this key.
    pub(crate) async fn write_state(&self, write: &Write, key_name: &str) -> Result<(), TableError> {
        let rows = match &self.legacy {
            Some(legacy) if key_name == COORDINATOR_KEY => &legacy.coordinator,
            Some(_) | None => &self.leases,
        };
        rows.write(write).await.map(drop)
    }

    /// The row `TableMigration3.5` of the legacy table, consistently; one that cannot be read is none.
    pub(crate) async fn migration(&self) -> Result<Option<MigrationRow>, TableError> {
        let Some(legacy) = &self.legacy else {
            return Ok(None);
        };
        let item = legacy.coordinator.get(table_migration::KEY).await?;
        Ok(item.and_then(|item| {
            let row = MigrationRow::read(&item);
            row.inspect_err(|bad| legacy.coordinator.report(bad)).ok()
        }))
    }

    /// All leases, and the reports of both places: a worker that moves has one in each for a while (trap 43).
    pub(crate) async fn scan(&self, consistent: bool) -> Result<Found, TableError> {
        let mut found = self.leases.scan(consistent).await?;
        found.legacy_reports = self.legacy_reports(consistent).await?;
        Ok(found)
    }

    async fn legacy_reports(&self, consistent: bool) -> Result<Vec<WorkerMetrics>, TableError> {
        let Some(legacy) = self.legacy() else {
            return Ok(Vec::new());
        };
        let items = legacy.metrics.items(consistent).await?;
        let read = |item| match WorkerMetrics::read(&item) {
            Ok(report) => Some(report),
            Err(bad) => {
                legacy.metrics.report(&bad);
                None
            }
        };
        Ok(items.into_iter().filter_map(read).collect())
    }
}

/// A table, for a transaction.
pub(crate) fn place(rows: &Rows) -> Place {
    Place {
        table: rows.table.name().to_owned(),
        key_name: rows.table.key_name().to_owned(),
    }
}
