//! The tables of KCL 3.0-3.4 beside the lease table, and the move of what is in them into it: the row `TableMigration3.5`
//! (`leasing.md 5.10`).
//!
//! Owns the row, what follows from it for who reads and writes where, and what the leader owes to the move; never acts.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::client_version;
use crate::ids::WorkerId;
use crate::leader;
use crate::leases::{ENTITY_TYPE, LEASE_KEY, Lease};
#[cfg(planted)]
use crate::planted;
use crate::table::{Action, BadRow, Condition, Item, Part, Place, Reader, Transaction, Value, Write};
use crate::worker_metrics::WorkerMetrics;

/// The key of the row.
pub const KEY: &str = "TableMigration3.5";
/// The row's `entityType`.
const KIND: &str = "TABLE_MIGRATION";
/// The key attribute of the table `<application>-CoordinatorState`.
pub const COORDINATOR_KEY: &str = "key";
/// The key attribute of the table `<application>-WorkerMetricStats`.
pub const METRICS_KEY: &str = "wid";
/// States kept in the history, newest first.
const HISTORY_MAX: usize = 10;
/// How long every owner must have known the single table before it counts as deployed.
const INIT_BAKE: Duration = Duration::from_secs(3600);
/// How old a worker's word that it knows the single table may be: three of its reports.
const SUPPORT_AGE_MAX_S: i64 = 90;
/// The feature code of the single table.
const SINGLE_TABLE: u64 = 1;

const STATUS: &str = "tm";
const MODIFIED_BY: &str = "mb";
const MODIFIED_MS: &str = "mts";
const HISTORY: &str = "h";

/// How far the move is: as the row says, or as this worker acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `TABLE_MIGRATION_STATUS_INIT`: not everybody is known to know the single table.
    Init,
    /// `TABLE_MIGRATION_STATUS_DEPLOYED`: everybody knows it, nobody uses it yet.
    Deployed,
    /// `TABLE_MIGRATION_STATUS_PENDING`: everything but the lock is in it.
    Pending,
    /// `TABLE_MIGRATION_STATUS_COMPLETE`: the legacy tables are no longer used. Final.
    Complete,
}

impl Status {
    /// The text in the row.
    pub fn name(self) -> &'static str {
        match self {
            Self::Init => "TABLE_MIGRATION_STATUS_INIT",
            Self::Deployed => "TABLE_MIGRATION_STATUS_DEPLOYED",
            Self::Pending => "TABLE_MIGRATION_STATUS_PENDING",
            Self::Complete => "TABLE_MIGRATION_STATUS_COMPLETE",
        }
    }

    /// Java's number of the status, for its metric.
    pub fn ordinal(self) -> u8 {
        match self {
            Self::Init => 1,
            Self::Deployed => 2,
            Self::Pending => 3,
            Self::Complete => 4,
        }
    }

    /// Metrics and states are written to the legacy tables. Fixed at the start of a worker.
    pub fn writes_legacy(self) -> bool {
        match self {
            Self::Init | Self::Deployed => true,
            Self::Pending | Self::Complete => false,
        }
    }

    /// The lock is in the legacy coordinator table, and metrics and states may be in either place.
    pub fn reads_legacy(self) -> bool {
        match self {
            Self::Init | Self::Deployed | Self::Pending => true,
            Self::Complete => false,
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let all = [Self::Init, Self::Deployed, Self::Pending, Self::Complete];
        all.into_iter().find(|status| status.name() == name)
    }
}

/// The row.
#[derive(Clone, Debug, PartialEq)]
pub struct MigrationRow {
    /// `tm`.
    pub status: Status,
    /// `mb`: who wrote it.
    pub modified_by: String,
    /// `mts`: when, in milliseconds since the epoch.
    pub modified_ms: i64,
    history: Vec<Value>,
}

impl MigrationRow {
    /// Reads the row of the legacy coordinator table, which alone counts. Who cannot read it takes it for absent, as
    /// Java does.
    pub fn read(item: &Item) -> Result<Self, BadRow> {
        let row = Reader::new(COORDINATOR_KEY, item)?;
        let status = row.required(STATUS, row.text(STATUS)?)?;
        let status = Status::parse(status).ok_or_else(|| row.bad(STATUS, format_args!("is '{status}'")))?;
        let history = match item.get(HISTORY) {
            None => Vec::new(),
            Some(Value::L(entries)) => entries.clone(),
            Some(_) => return Err(row.bad(HISTORY, "is no list")),
        };
        Ok(Self {
            status,
            modified_by: row.text(MODIFIED_BY)?.unwrap_or_default().to_owned(),
            modified_ms: row.number(MODIFIED_MS)?.unwrap_or(0),
            history,
        })
    }

    fn history_after(&self) -> Value {
        let mut history = vec![Value::M(entry(self.status, &self.modified_by, self.modified_ms))];
        history.extend(self.history.iter().take(HISTORY_MAX - 1).cloned());
        Value::L(history)
    }

    fn change_to(&self, status: Status, me: &WorkerId, now_ms: i64) -> Write {
        Write::Update {
            key: KEY.to_owned(),
            conditions: vec![
                Condition::Equals(COORDINATOR_KEY, Value::s(KEY)),
                Condition::Equals(STATUS, Value::s(self.status.name())),
            ],
            actions: vec![
                Action::Set(STATUS, Value::s(status.name())),
                Action::Set(MODIFIED_BY, Value::s(me.as_str())),
                Action::Set(MODIFIED_MS, Value::n(now_ms)),
                Action::Set(HISTORY, self.history_after()),
            ],
        }
    }
}

/// `migrateAllEntitiesToLeaseTable` is set, and the fleet has not come that far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooEarly;

/// Where a worker begins, if there is a legacy coordinator table. (Where there is none, everything is in the lease table:
/// [`Status::Complete`].) `migrate`: `migrateAllEntitiesToLeaseTable`.
pub fn at_start(row: Option<&MigrationRow>, migrate: bool) -> Result<Status, TooEarly> {
    match (row.map(|row| row.status), migrate) {
        (Some(Status::Complete), _) => Ok(Status::Complete),
        (Some(Status::Deployed | Status::Pending), true) => Ok(Status::Pending),
        (Some(Status::Deployed | Status::Pending), false) => Ok(Status::Deployed),
        (None | Some(Status::Init), false) => Ok(Status::Init),
        (None | Some(Status::Init), true) => Err(TooEarly),
    }
}

/// Where a worker is after it has read the row again.
pub fn follow(local: Status, row: Option<&MigrationRow>, migrate: bool) -> Status {
    match (local, row) {
        (Status::Complete, _) => Status::Complete,
        (_, None) => local,
        (Status::Init | Status::Deployed | Status::Pending, Some(row)) => {
            at_start(Some(row), migrate).unwrap_or(local)
        }
    }
}

/// What the leader sees.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// All leases.
    pub leases: &'a [Lease],
    /// The reports in the lease table.
    pub reports: &'a [WorkerMetrics],
    /// The reports in the legacy metrics table.
    pub legacy_reports: &'a [WorkerMetrics],
    /// Rows of the legacy coordinator table that belong into the lease table.
    pub entries: usize,
    /// How long a report is fresh.
    pub report_age_max: Duration,
    /// Now, in milliseconds since the epoch.
    pub now_ms: i64,
}

impl Facts<'_> {
    fn now_s(&self) -> i64 {
        self.now_ms / 1000
    }

    fn owners(&self) -> BTreeSet<&WorkerId> {
        self.leases
            .iter()
            .filter_map(|lease| lease.owner.as_ref())
            .collect()
    }

    /// The owners of leases that know the single table, and said so lately.
    fn supporters(&self) -> BTreeSet<&WorkerId> {
        let owners = self.owners();
        let supports = |report: &&WorkerMetrics| {
            let lately = report
                .supported_s
                .is_some_and(|at| self.now_s() - at <= SUPPORT_AGE_MAX_S);
            lately && report.supported.is_some_and(|code| code >= SINGLE_TABLE)
        };
        let reports = self.reports.iter().chain(self.legacy_reports);
        let workers = reports.filter(supports).map(|report| &report.worker);
        workers.filter(|worker| owners.contains(worker)).collect()
    }

    /// Whether every owner of a lease knows the single table. Without owners nobody is known to.
    fn all_support(&self) -> bool {
        let owners = self.owners();
        !owners.is_empty() && owners == self.supporters()
    }

    fn is_fresh(&self, report: &WorkerMetrics) -> bool {
        report.is_fresh(self.now_s(), self.report_age_max)
    }

    /// Who reports to the lease table.
    fn reporting(&self) -> BTreeSet<&WorkerId> {
        let fresh = self.reports.iter().filter(|report| self.is_fresh(report));
        fresh.map(|report| &report.worker).collect()
    }

    /// Whether every owner reports, and nobody to the legacy table.
    fn is_quiet(&self) -> bool {
        !self.legacy_reports.iter().any(|report| self.is_fresh(report))
            && self.owners().is_subset(&self.reporting())
    }

    /// How far the deployments are, in workers: before the first, after it, after the second; as Java counts them, which may
    /// be one worker twice while it is replaced.
    pub fn phases(&self) -> [usize; 3] {
        let (supporters, moved) = (self.supporters().len(), self.reporting().len());
        let before = self.owners().len().saturating_sub(supporters);
        [before, supporters.saturating_sub(moved), moved]
    }
}

/// What the leader owes to the move.
#[derive(Clone, Debug, PartialEq)]
pub enum Duty {
    /// Nothing for now.
    Nothing,
    /// Write this to the legacy coordinator table: the row is then at this status, or gone.
    Write(Write, Option<Status>),
    /// Move the entries of the legacy coordinator table.
    Move,
    /// End it: the row is then COMPLETE, in both tables.
    Finalise,
}

/// Decides what the leader owes. `bake`: `tableMigrationCompleteBakeTimeSeconds`.
///
/// Compat: a Java leader judges support by its last assignment round, and has none when it has just become leader: it
/// then deletes a row at INIT, and the hour begins anew. Ours looks first.
pub fn duty(
    local: Status,
    row: Option<&MigrationRow>,
    facts: &Facts<'_>,
    me: &WorkerId,
    bake: Duration,
) -> Duty {
    let baked =
        |row: &MigrationRow, bake: Duration| facts.now_ms - row.modified_ms >= bake.as_millis() as i64;
    let change = |row: &MigrationRow, to| Duty::Write(row.change_to(to, me, facts.now_ms), Some(to));
    let create = |status| Duty::Write(create(status, me, facts.now_ms), Some(status));
    match (local, row.map(|row| (row.status, row))) {
        (Status::Init, None) if facts.all_support() => create(Status::Init),
        (Status::Init, Some((Status::Init, _))) if !facts.all_support() => Duty::Write(forget(), None),
        (Status::Init, Some((Status::Init, row))) if baked(row, INIT_BAKE) => change(row, Status::Deployed),
        (Status::Deployed, Some((Status::Pending, row))) => change(row, Status::Deployed),
        (Status::Pending, None) => create(Status::Deployed),
        (Status::Pending, Some((Status::Deployed, _))) if !facts.is_quiet() => Duty::Nothing,
        (Status::Pending, Some((Status::Deployed, _))) if facts.entries > 0 => Duty::Move,
        (Status::Pending, Some((Status::Deployed, row))) => change(row, Status::Pending),
        (Status::Pending, Some((Status::Pending, row))) if !facts.is_quiet() || facts.entries > 0 => {
            change(row, Status::Deployed)
        }
        (Status::Pending, Some((Status::Pending, row))) if baked(row, bake) => Duty::Finalise,
        (Status::Init | Status::Deployed | Status::Pending | Status::Complete, _) => Duty::Nothing,
    }
}

/// Whether a row of the legacy coordinator table belongs into the lease table.
pub fn is_entry(item: &Item) -> bool {
    let stays = [leader::KEY, KEY];
    !matches!(item.get(COORDINATOR_KEY), Some(Value::S(key)) if stays.contains(&key.as_str()))
}

/// The two tables of a move.
#[derive(Clone, Debug)]
pub struct Places {
    /// `<application>-CoordinatorState`.
    pub coordinator: Place,
    /// The lease table.
    pub leases: Place,
}

impl Places {
    /// Moves one entry, as long as this worker leads. `None`: a row without a type that is not known by its key either,
    /// which would be taken for a broken lease (trap 5).
    ///
    /// Compat: the entry is deleted only as it was read, so that a change in that moment is not lost.
    pub fn move_entry(&self, item: &Item, me: &WorkerId) -> Option<Transaction> {
        let mut moved = item.clone();
        let key = moved.remove(COORDINATOR_KEY)?;
        let Value::S(name) = &key else { return None };
        if !moved.contains_key(ENTITY_TYPE) {
            let kind = (name == client_version::KEY).then(|| Value::s(client_version::KIND))?;
            moved.insert(ENTITY_TYPE.to_owned(), kind);
        }
        let name = name.clone();
        moved.insert(LEASE_KEY.to_owned(), key);
        let as_read = ["cv", MODIFIED_MS];
        let as_read = as_read.into_iter().filter_map(|attribute| {
            let value = item.get(attribute)?;
            Some(Condition::Equals(attribute, value.clone()))
        });
        let mut conditions = vec![Condition::Present(COORDINATOR_KEY)];
        conditions.extend(as_read);
        #[cfg(planted)]
        if planted::is_planted(planted::Bug::RowLostInMove) {
            let delete = Write::Delete {
                key: name,
                conditions,
            };
            return Some(vec![(self.coordinator.clone(), Part::Write(delete))]);
        }
        Some(vec![
            self.while_leading(me),
            (
                self.leases.clone(),
                Part::Write(Write::Put {
                    item: moved,
                    conditions: vec![Condition::Absent(LEASE_KEY)],
                }),
            ),
            (
                self.coordinator.clone(),
                Part::Write(Write::Delete {
                    key: name,
                    conditions,
                }),
            ),
        ])
    }

    /// The end of the move, as long as this worker leads.
    pub fn finalise(&self, row: &MigrationRow, me: &WorkerId, now_ms: i64) -> Transaction {
        let item = |key_name: &str| {
            let mut item = entry(Status::Complete, me.as_str(), now_ms);
            item.insert(key_name.to_owned(), Value::s(KEY));
            item.insert(ENTITY_TYPE.to_owned(), Value::s(KIND));
            item.insert(HISTORY.to_owned(), row.history_after());
            item
        };
        vec![
            self.while_leading(me),
            (
                self.leases.clone(),
                Part::Write(Write::Put {
                    item: item(LEASE_KEY),
                    conditions: vec![Condition::Absent(LEASE_KEY)],
                }),
            ),
            (
                self.coordinator.clone(),
                Part::Write(Write::Put {
                    item: item(COORDINATOR_KEY),
                    conditions: vec![Condition::Equals(STATUS, Value::s(Status::Pending.name()))],
                }),
            ),
        ]
    }

    fn while_leading(&self, me: &WorkerId) -> (Place, Part) {
        let check = Part::Check {
            key: leader::KEY.to_owned(),
            conditions: vec![Condition::Equals("ownerName", Value::s(me.as_str()))],
        };
        (self.coordinator.clone(), check)
    }
}

fn create(status: Status, me: &WorkerId, now_ms: i64) -> Write {
    let mut item = entry(status, me.as_str(), now_ms);
    let init = entry(Status::Init, me.as_str(), now_ms);
    item.insert(COORDINATOR_KEY.to_owned(), Value::s(KEY));
    item.insert(ENTITY_TYPE.to_owned(), Value::s(KIND));
    item.insert(HISTORY.to_owned(), Value::L(vec![Value::M(init)]));
    Write::Put {
        item,
        conditions: vec![Condition::Absent(COORDINATOR_KEY)],
    }
}

fn forget() -> Write {
    Write::Delete {
        key: KEY.to_owned(),
        conditions: vec![Condition::Equals(STATUS, Value::s(Status::Init.name()))],
    }
}

fn entry(status: Status, by: &str, at_ms: i64) -> Item {
    Item::from([
        (STATUS.to_owned(), Value::s(status.name())),
        (MODIFIED_BY.to_owned(), Value::s(by)),
        (MODIFIED_MS.to_owned(), Value::n(at_ms)),
    ])
}

#[cfg(test)]
mod tests;
