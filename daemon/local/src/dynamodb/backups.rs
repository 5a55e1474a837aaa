//! Point-in-time recovery: which tables have it switched on. Nothing is backed up.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::LocalError;
use crate::store;
use crate::value::{Request, Value, json};
use crate::writer::{Format, Writer};

/// The tables, and the file that remembers them.
pub(super) struct Backups {
    tables: BTreeSet<String>,
    file: Option<PathBuf>,
}

impl Backups {
    pub(super) fn open(file: Option<&Path>) -> Result<Self, LocalError> {
        let mut tables = BTreeSet::new();
        if let Some(file) = file
            && file.exists()
        {
            let fault = |reason: String| LocalError::Data {
                path: file.to_owned(),
                reason,
            };
            let bytes = std::fs::read(file).map_err(|error| fault(error.to_string()))?;
            let value = json::read(&bytes).map_err(|error| fault(error.message))?;
            let names = Request(&value)
                .texts("Tables")
                .map_err(|error| fault(error.message))?;
            tables.extend(names.unwrap_or_default().into_iter().map(str::to_owned));
        }
        Ok(Self {
            tables,
            file: file.map(Path::to_owned),
        })
    }

    pub(super) fn set(&mut self, table: &str, enabled: bool) -> io::Result<()> {
        let changed = if enabled {
            self.tables.insert(table.to_owned())
        } else {
            self.tables.remove(table)
        };
        if !changed {
            return Ok(());
        }
        let Some(file) = &self.file else { return Ok(()) };
        let mut w = Writer::new(Format::Json);
        w.open_map().key("Tables").open_list();
        self.tables.iter().for_each(|name| {
            w.text(name);
        });
        w.close_list().close_map();
        store::write(file, &w.finish())
    }

    /// The table is gone.
    pub(super) fn forget(&mut self, table: &str) {
        if let Err(error) = self.set(table, false) {
            tracing::warn!(table, %error, "cannot forget that a deleted table had point-in-time recovery");
        }
    }

    /// `ContinuousBackupsDescription`.
    pub(super) fn describe(&self, table: &str) -> Vec<u8> {
        let status = if self.tables.contains(table) {
            "ENABLED"
        } else {
            "DISABLED"
        };
        let mut w = Writer::new(Format::Json);
        w.open_map()
            .key("ContinuousBackupsDescription")
            .open_map()
            .key("ContinuousBackupsStatus")
            .text("ENABLED");
        w.key("PointInTimeRecoveryDescription")
            .open_map()
            .key("PointInTimeRecoveryStatus")
            .text(status);
        if self.tables.contains(table) {
            w.key("RecoveryPeriodInDays").integer(35);
        }
        w.close_map().close_map().close_map();
        w.finish()
    }
}

/// What an update asks for.
pub(super) fn enabled(bytes: &[u8]) -> Option<bool> {
    let value: Value<'_> = json::read(bytes).ok()?;
    let specification = Request(&value).map("PointInTimeRecoverySpecification").ok()??;
    specification.boolean("PointInTimeRecoveryEnabled").ok()?
}
