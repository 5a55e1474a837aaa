//! Rows of the lease table, read and sorted by kind. A bad row is skipped and reported once.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use multilangd_core::client_version::ClientVersionRow;
use multilangd_core::ids::{ShardId, WorkerId};
use multilangd_core::leases::{LEASE_KEY, Lease, Row};
use multilangd_core::table::{BadRow, Item, Transaction, Value, Write};
use multilangd_core::worker_metrics::WorkerMetrics;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;
use tracing::error;

use crate::table::{Rows as Page, ScanPage, Table, TableError};

/// Bad rows reported at most, so that a table full of them does not fill memory or logs.
const BAD_ROWS_REPORTED_MAX: usize = 100;

/// Time for one page of a scan or query: up to 1 MB over a line that may be slow.
const PAGE_TIME_MAX: Duration = Duration::from_secs(30);
/// Rows read at once by key.
const READS_MAX: usize = 16;

/// The lease table with words instead of attributes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Rows {
    pub(crate) table: Arc<dyn Table>,
    segments: u32,
    /// A call that takes longer has no answer: with the SDK's own limit of 60 s a single lost packet would cost a
    /// lease.
    call_max: Duration,
    reported: Arc<Mutex<BTreeSet<String>>>,
}

/// What one scan found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) leases: Vec<Lease>,
    pub(crate) reports: Vec<WorkerMetrics>,
    /// What says which rules the fleet plays by, where it is in this table.
    pub(crate) version: Option<ClientVersionRow>,
    /// Rows that could not be read.
    pub(crate) unreadable: usize,
    /// Those of the table of KCL 3.0-3.4, where there is one.
    pub(crate) legacy_reports: Vec<WorkerMetrics>,
}

impl Found {
    /// The reports of both places.
    pub(crate) fn all_reports(&self) -> impl Iterator<Item = &WorkerMetrics> {
        self.reports.iter().chain(&self.legacy_reports)
    }
}

impl Rows {
    pub(crate) fn new(table: Arc<dyn Table>, segments: u32, call_max: Duration) -> Self {
        Self {
            table,
            segments: segments.max(1),
            call_max,
            reported: Arc::default(),
        }
    }

    /// One row, consistently.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Item>, TableError> {
        bounded(self.call_max, self.table.get(key, true)).await
    }

    /// One row as it was a moment ago, for half the price.
    pub(crate) async fn glance(&self, key: &str) -> Result<Option<Item>, TableError> {
        bounded(self.call_max, self.table.get(key, false)).await
    }

    /// One write, tried once.
    pub(crate) async fn write(&self, write: &Write) -> Result<Option<Item>, TableError> {
        bounded(self.call_max, self.table.write(write)).await
    }

    /// The shards whose rows name this owner, by the index: as of a moment ago.
    pub(crate) async fn owned_by(&self, owner: &WorkerId) -> Result<Vec<ShardId>, TableError> {
        let mut shards = Vec::new();
        let mut after: Option<Item> = None;
        loop {
            let query = self.table.query_owner(owner.as_str(), after.as_ref());
            let page: Page = bounded(PAGE_TIME_MAX, query).await?;
            shards.extend(page.items.iter().filter_map(|item| match item.get(LEASE_KEY) {
                Some(Value::S(key)) => Some(ShardId::from(key.as_str())),
                _ => None,
            }));
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(shards),
            }
        }
    }

    /// Many leases, consistently; those that are gone or cannot be read are left out.
    pub(crate) async fn leases(&self, shards: Vec<ShardId>) -> Result<Vec<Lease>, TableError> {
        self.read_all(shards, true).await
    }

    /// Many leases as they were a moment ago, for half the price.
    ///
    /// Compat: `BatchGetItem` would need fewer calls and as many units, but is not among the permissions that Java's
    /// documentation tells its users to give.
    pub(crate) async fn glances(&self, shards: Vec<ShardId>) -> Result<Vec<Lease>, TableError> {
        self.read_all(shards, false).await
    }

    async fn read_all(&self, shards: Vec<ShardId>, consistent: bool) -> Result<Vec<Lease>, TableError> {
        let mut reads = JoinSet::new();
        let mut leases = Vec::new();
        for shard in shards {
            if reads.len() >= READS_MAX {
                leases.extend(joined(reads.join_next().await)?);
            }
            let rows = self.clone();
            reads.spawn(async move {
                let item = match consistent {
                    true => rows.get(shard.as_str()).await?,
                    false => rows.glance(shard.as_str()).await?,
                };
                Ok(item.and_then(|item| rows.lease_in(&item)))
            });
        }
        while !reads.is_empty() {
            leases.extend(joined(reads.join_next().await)?);
        }
        Ok(leases)
    }

    /// One lease, consistently.
    pub(crate) async fn lease(&self, shard: &ShardId) -> Result<Option<Lease>, TableError> {
        let item = self.get(shard.as_str()).await?;
        Ok(item.and_then(|item| self.lease_in(&item)))
    }

    /// The lease in a row, if it is one and can be read.
    pub(crate) fn lease_in(&self, item: &Item) -> Option<Lease> {
        match Row::read(item) {
            Row::Lease(lease) => Some(lease),
            Row::Bad(bad) => {
                self.report(&bad);
                None
            }
            Row::Leader(_) | Row::ClientVersion(_) | Row::WorkerMetrics(_) | Row::Other => None,
        }
    }

    /// All leases and reports, by a parallel scan.
    pub(crate) async fn scan(&self, consistent: bool) -> Result<Found, TableError> {
        let mut found = Found::default();
        for item in self.items(consistent).await? {
            match Row::read(&item) {
                Row::Lease(lease) => found.leases.push(lease),
                Row::WorkerMetrics(report) => found.reports.push(report),
                Row::Bad(bad) => {
                    found.unreadable += 1;
                    self.report(&bad);
                }
                Row::ClientVersion(row) => found.version = Some(row),
                Row::Leader(_) | Row::Other => {}
            }
        }
        found.leases.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// All rows, by a parallel scan.
    pub(crate) async fn items(&self, consistent: bool) -> Result<Vec<Item>, TableError> {
        let mut pages = JoinSet::new();
        for segment in 0..self.segments {
            let segment = (self.segments > 1).then_some((segment, self.segments));
            pages.spawn(scan_segment(
                self.table.clone(),
                ScanPage {
                    segment,
                    after: None,
                    consistent,
                },
            ));
        }
        let mut all = Vec::new();
        while let Some(items) = pages.join_next().await {
            all.extend(items.unwrap_or_else(|died| Err(TableError::Unknown(Box::new(died))))?);
        }
        Ok(all)
    }

    /// One transaction over several tables, tried once.
    pub(crate) async fn transact(&self, transaction: &Transaction) -> Result<(), TableError> {
        bounded(self.call_max, self.table.transact(transaction)).await
    }

    /// Reports a row that cannot be read, once.
    pub(crate) fn report(&self, bad: &BadRow) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() < BAD_ROWS_REPORTED_MAX && reported.insert(bad.to_string()) {
            error!(
                table = self.table.name(),
                row = bad.key,
                attribute = bad.attribute,
                problem = bad.problem,
                "the lease table holds a row that cannot be read; it is skipped"
            );
        }
    }
}

async fn scan_segment(table: Arc<dyn Table>, mut page: ScanPage) -> Result<Vec<Item>, TableError> {
    let mut items = Vec::new();
    loop {
        let rows = bounded(PAGE_TIME_MAX, table.scan(&page)).await?;
        items.extend(rows.items);
        match rows.next {
            Some(next) => page.after = Some(next),
            None => return Ok(items),
        }
    }
}

fn joined<T>(
    read: Option<Result<Result<Option<T>, TableError>, JoinError>>,
) -> Result<Option<T>, TableError> {
    match read {
        Some(Ok(read)) => read,
        Some(Err(died)) => Err(TableError::Unknown(Box::new(died))),
        None => Ok(None),
    }
}

async fn bounded<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, TableError>>,
) -> Result<T, TableError> {
    match timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Err(TableError::Unknown(
            format!("no answer within {} ms", limit.as_millis()).into(),
        )),
    }
}
