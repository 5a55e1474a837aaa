//! Leases for shards that have none: at the first start, and where the auditor finds a hole.

use std::collections::BTreeSet;

use multilangd_core::leases::Lease;
use multilangd_core::metrics::{Metric, Of, Operation};
use multilangd_core::shards::{
    Audit, BadListing, Hole, bootstrap, forgotten_children, missing_leases, missing_ranges,
};
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tracing::{info, warn};

use super::{Inner, create_row};
use crate::retry::{Patience, Retryable, retry};
use crate::stream::StreamError;
use crate::table::TableError;

/// Why leases could not be created for all shards.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// List again; a reshard may have been under way.
    #[error(transparent)]
    Listing(#[from] BadListing),
    /// The stream did not answer, or refused.
    #[error("cannot list the shards: {0}")]
    Stream(#[from] StreamError),
    /// The table did not answer, or refused.
    #[error("cannot create the leases: {0}")]
    Table(#[from] TableError),
}

impl Retryable for SyncError {
    fn can_be_retried(&self) -> bool {
        match self {
            Self::Listing(_) => true,
            // A stream that is not there may be about to be created; a refusal may be lifted.
            Self::Stream(error) => {
                error.can_be_retried() || matches!(error, StreamError::NotFound(_) | StreamError::Refused(_))
            }
            Self::Table(error) => error.can_be_retried(),
        }
    }
}

/// A thousand leases are there in well under a second, and a table of small capacity is not overrun.
const CREATED_TOGETHER_MAX: usize = 16;

/// What one audit found.
struct Audited {
    leases: Vec<Lease>,
    has_hole: bool,
    wants_sync: bool,
}

fn created(joined: Option<Result<Result<(), TableError>, JoinError>>) -> Result<(), TableError> {
    match joined {
        None => Ok(()),
        Some(Ok(created)) => created,
        Some(Err(died)) => Err(TableError::Refused(died.into())),
    }
}

impl Inner {
    pub(super) async fn first_sync(&self) -> Result<(), SyncError> {
        let mut leader = self.rows.is_leader();
        let mut told = false;
        loop {
            let leases = self.list().await?;
            if !leases.is_empty() {
                info!(
                    leases = leases.len(),
                    "the application has leases; shards are not listed"
                );
                return Ok(());
            }
            if *leader.borrow_and_update() {
                // What passes by itself is waited for inside; this counts what needs a person.
                let patience = self.settings.first_sync_patience;
                return retry(&self.clock, patience, "creating the first leases", || {
                    self.bootstrap()
                })
                .await;
            }
            if !told {
                info!("the application has no leases; its leader creates them");
                told = true;
            }
            tokio::select! {
                changed = leader.changed() => if changed.is_err() { sleep(self.settings.first_sync_poll).await },
                () = sleep(self.settings.first_sync_poll) => {}
            }
        }
    }

    /// The first leases of an application.
    async fn bootstrap(&self) -> Result<(), SyncError> {
        self.synced(self.create_first()).await
    }

    /// Notes a sync.
    ///
    /// Compat: `Time` is the sync's own; Java's holds the pause of 60 s after it too.
    async fn synced(&self, sync: impl Future<Output = Result<(), SyncError>>) -> Result<(), SyncError> {
        let metrics = &self.settings.metrics;
        let mut scope = metrics.scope(Operation::ShardSyncTask, Of::Application);
        let result = sync.await;
        scope.add(Metric::SYNC_SHARDS_SUCCESS, f64::from(u8::from(result.is_ok())));
        scope.end(result.is_ok());
        result
    }

    async fn create_first(&self) -> Result<(), SyncError> {
        let initial = self.settings.initial;
        let shards = self
            .listing
            .all_with(Some(initial.filter()), Patience::ENDLESS)
            .await?;
        let leases = bootstrap(&shards, initial)?;
        let count = leases.len();
        self.create_together(leases).await?;
        info!(stream = self.stream.name(), leases = count, position = %initial.checkpoint(), "first leases created");
        self.rows.look_now();
        Ok(())
    }

    /// Some at a time: the first leases have no ancestors among them, so their order does not matter, and a crash
    /// half-way is the less likely the sooner all are there.
    async fn create_together(&self, leases: Vec<Lease>) -> Result<(), TableError> {
        let mut creating = JoinSet::new();
        for lease in leases {
            if creating.len() == CREATED_TOGETHER_MAX {
                created(creating.join_next().await)?;
            }
            let (rows, clock) = (self.rows.clone(), self.clock.clone());
            let metrics = self.settings.metrics.clone();
            creating.spawn(async move {
                create_row(rows.as_ref(), &clock, &lease, &metrics, Operation::ShardSyncTask).await
            });
        }
        while !creating.is_empty() {
            created(creating.join_next().await)?;
        }
        Ok(())
    }

    /// In order, one after the other: a crash half-way leaves a table that the next sync can complete.
    async fn create_all(&self, leases: &[Lease]) -> Result<(), TableError> {
        for lease in leases {
            self.create(lease, Operation::ShardSyncTask).await?;
        }
        Ok(())
    }

    /// Leases for what an application with leases lacks.
    async fn complete(&self, leases: &[Lease]) -> Result<(), SyncError> {
        self.synced(self.create_missing(leases)).await
    }

    async fn create_missing(&self, leases: &[Lease]) -> Result<(), SyncError> {
        let shards = match self.listing.all(None).await {
            Err(StreamError::NotFound(why)) => {
                warn!(
                    stream = self.stream.name(),
                    why, "the stream is gone; no leases are created"
                );
                return Ok(());
            }
            listed => listed?,
        };
        // These first: to the rule of the others, the child of a trimmed parent is like any new shard.
        let mut created = forgotten_children(&shards, leases);
        let leased: BTreeSet<_> = leases
            .iter()
            .chain(&created)
            .map(|lease| lease.key.clone())
            .collect();
        let ignore = self.settings.ignore_unexpected_child_shards;
        created.extend(missing_leases(&shards, &leased, self.settings.initial, ignore)?);
        self.create_all(&created).await?;
        info!(created = created.len(), "missing leases created");
        self.rows.look_now();
        Ok(())
    }

    /// The auditor: while this worker leads, looks for hash keys that nobody reads (`consuming.md 1.8`).
    pub(super) async fn audit(&self) {
        let leader = self.rows.is_leader();
        let mut audit = Audit::default();
        sleep(self.settings.audit_first).await;
        loop {
            let is_leader = *leader.borrow();
            if !is_leader {
                audit = Audit::default();
            } else if let Err(error) = self.audit_once(&mut audit).await {
                warn!(%error, "the leases could not be audited; the next audit tries again");
            }
            sleep(self.settings.audit_interval).await;
        }
    }

    async fn audit_once(&self, audit: &mut Audit) -> Result<(), SyncError> {
        let metrics = &self.settings.metrics;
        let mut scope = metrics.scope(Operation::PeriodicShardSync, Of::Application);
        let found = self.look_for_holes(audit).await;
        let found_ok = found.as_ref().ok();
        let flag = |is: Option<bool>| f64::from(u8::from(is.unwrap_or_default()));
        scope.add(Metric::PARTIAL_LEASES, flag(found_ok.map(|found| found.has_hole)));
        scope.add(
            Metric::STREAMS_TO_SYNC,
            flag(found_ok.map(|found| found.wants_sync)),
        );
        scope.add(Metric::SKIPPED_SHARD_SYNCS, 0.0);
        scope.end(found.is_ok());
        let found = found?;
        match (found.wants_sync, found.leases.is_empty()) {
            (false, _) => Ok(()),
            (true, true) => self.bootstrap().await,
            (true, false) => self.complete(&found.leases).await,
        }
    }

    async fn look_for_holes(&self, audit: &mut Audit) -> Result<Audited, SyncError> {
        let mut leases = self.list().await?;
        if leases.is_empty() {
            warn!("the application has no leases any more; they are created anew");
            return Ok(Audited {
                leases,
                has_hole: false,
                wants_sync: true,
            });
        }
        self.fill_ranges(&mut leases).await?;
        let read = leases.iter().filter(|lease| !lease.checkpoint.is_shard_end());
        let hole = Hole::among(read.filter_map(|lease| lease.hash_range));
        let times = audit.note(hole);
        if let Some(hole) = hole {
            warn!(
                ?hole,
                times,
                "some hash keys have no lease that is being read; a reshard looks like that for a while"
            );
        }
        Ok(Audited {
            leases,
            has_hole: hole.is_some(),
            wants_sync: hole.is_some() && times >= self.settings.audit_confidence,
        })
    }

    /// Hash ranges for leases of old versions, which have none.
    async fn fill_ranges(&self, leases: &mut [Lease]) -> Result<(), SyncError> {
        let has_none = |lease: &Lease| lease.hash_range.is_none() && !lease.checkpoint.is_shard_end();
        if !leases.iter().any(has_none) {
            return Ok(());
        }
        let shards = match self.listing.all(None).await {
            Err(StreamError::NotFound(_)) => return Ok(()),
            listed => listed?,
        };
        let ranges = missing_ranges(leases, &shards);
        for lease in leases.iter_mut().filter(|lease| has_none(lease)) {
            let Some(range) = ranges.get(&lease.key).copied() else {
                continue;
            };
            lease.hash_range = Some(range);
            if let Some(write) = Lease::set_hash_range(&lease.key, range) {
                self.write(&write).await?;
                info!(shard = %lease.key, start = range.start, end = range.end, "hash range filled in");
            }
        }
        Ok(())
    }
}
