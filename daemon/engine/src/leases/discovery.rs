//! Finds the leases that the table says are this worker's and that it does not hold: newly assigned ones, and those
//! it dropped or let expire (`leasing.md 6.1`).

use std::collections::BTreeSet;
use std::time::Duration;

use multilangd_core::client_version::Rules;
use multilangd_core::ids::{ShardId, WorkerId};
use multilangd_core::leases::Lease;
use multilangd_core::metrics::{Metric, Of, Operation};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::keeper::Message;
use super::rows::Rows;
use super::{Held, Signals};
use crate::clock::Clock;
use crate::metrics::{Metrics, Scope};
use crate::retry::{Patience, poll, retry};
use crate::table::TableError;

/// Rounds are at least this far apart, however often somebody asks for one.
const ROUND_GAP: Duration = Duration::from_millis(100);
/// Waits between two looks at an index that is being built: quick where it is built at once, patient where it takes
/// minutes.
const INDEX_PATIENCE: Patience = Patience {
    tries_max: None,
    wait_first: Duration::from_millis(20),
    wait_max: Duration::from_secs(10),
};

pub(super) struct Discovery {
    pub(super) rows: Rows,
    pub(super) me: WorkerId,
    pub(super) clock: Clock,
    /// A leader sees what is its own in its rounds, and looks here as seldom as Java does.
    pub(super) is_leader: watch::Receiver<bool>,
    /// Between two looks of everybody else.
    pub(super) interval: Duration,
    pub(super) interval_of_leader: Duration,
    pub(super) held: watch::Receiver<Held>,
    pub(super) keeper: mpsc::Sender<Message>,
    pub(super) signals: Signals,
    /// Whether the owner index can be queried.
    pub(super) index: watch::Receiver<bool>,
    pub(super) metrics: Metrics,
    /// By the rules of 2.x nothing is assigned that could be discovered.
    pub(super) rules: watch::Receiver<Rules>,
}

impl Discovery {
    /// Runs until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let rounds = async {
            while self.rules.wait_for(|rules| rules.assigns()).await.is_ok() {
                let started = Instant::now();
                self.round().await;
                sleep(ROUND_GAP).await;
                let interval = match *self.is_leader.borrow_and_update() {
                    true => self.interval_of_leader,
                    false => self.interval,
                };
                // Any of these says that it is time for the next round.
                tokio::select! {
                    biased;
                    () = self.signals.discover.notified() => {}
                    Ok(()) = self.is_leader.changed() => {}
                    () = sleep_until(started + interval) => {}
                }
            }
        };
        stop.run_until_cancelled(rounds).await;
    }

    async fn round(&mut self) {
        let listed = retry(
            &self.clock,
            Patience::ENDLESS,
            "finding the leases of this worker",
            || self.mine(),
        )
        .await;
        let found = match listed {
            Ok(found) => found,
            Err(error) => {
                warn!(%error, "the leases of this worker could not be listed");
                return;
            }
        };
        if !found.is_empty() {
            drop(self.keeper.send(Message::Found(found)).await);
        }
    }

    /// The leases that are ours by the table and not held.
    async fn mine(&self) -> Result<Vec<Lease>, TableError> {
        let mut scope = self.metrics.scope(Operation::LeaseDiscovery, Of::Worker);
        let found = self.look(&mut scope).await;
        scope.end(found.is_ok());
        found
    }

    async fn look(&self, scope: &mut Scope<'_>) -> Result<Vec<Lease>, TableError> {
        let held: BTreeSet<ShardId> = self
            .held
            .borrow()
            .iter()
            .map(|held| held.tenure.shard.clone())
            .collect();
        let began = Instant::now();
        let mut named = self.named().await?;
        scope.time(Metric::LIST_LEASE_KEYS_TIME, began);
        named.retain(|shard| !held.contains(shard));
        let began = Instant::now();
        let read = self.rows.leases(named).await;
        let mut found = read.inspect_err(|_| scope.add(Metric::GET_LEASE_ERROR, 1.0))?;
        let misnamed = found
            .iter()
            .filter(|lease| lease.owner.as_ref() != Some(&self.me));
        scope.add_all(Metric::OWNER_MISMATCH, misnamed.map(|_| 1.0));
        found.retain(|lease| lease.can_be_adopted_by(&self.me));
        scope.time(Metric::FETCH_NEW_LEASES_TIME, began);
        scope.add(Metric::NEW_LEASES_DISCOVERED, found.len() as f64);
        Ok(found)
    }

    /// The shards whose rows name us as owner, by the index, or by a scan while there is none.
    ///
    /// Compat: Java waits for the index, for up to an hour, before it reports or assigns anything, because it could
    /// not discover what it is given (trap 29). We discover by scanning meanwhile.
    async fn named(&self) -> Result<Vec<ShardId>, TableError> {
        if !*self.index.borrow() {
            return self.named_by_scan().await;
        }
        match self.rows.owned_by(&self.me).await {
            Err(TableError::Missing(_)) => self.named_by_scan().await,
            shards => shards,
        }
    }

    async fn named_by_scan(&self) -> Result<Vec<ShardId>, TableError> {
        let leases = self.rows.scan(false).await?.leases;
        let named = leases
            .into_iter()
            .filter(|lease| lease.owner.as_ref() == Some(&self.me));
        Ok(named.map(|lease| lease.key).collect())
    }
}

/// Keeps the owner index as the rules want it, until `stop`, and says whether it can be queried.
pub(super) async fn keep_index(
    rows: Rows,
    clock: Clock,
    mut rules: watch::Receiver<Rules>,
    active: watch::Sender<bool>,
    stop: CancellationToken,
) {
    let keeping = async {
        loop {
            let now = *rules.borrow_and_update();
            if !now.assigns() && !now.creates_index() {
                // A roll-back deletes it.
                active.send_replace(false);
            } else if !*active.borrow() {
                tokio::select! {
                    () = build_index(&rows, &clock, now.creates_index(), &active) => {}
                    _ = rules.changed() => continue,
                }
            }
            if rules.changed().await.is_err() {
                return;
            }
        }
    };
    stop.run_until_cancelled(keeping).await;
}

/// Creates the owner index where there is none and the rules ask for it, waits until it can be queried, and says so.
/// Refused, there will be none, and leases are found by scanning.
async fn build_index(rows: &Rows, clock: &Clock, create: bool, active: &watch::Sender<bool>) {
    let table = rows.table.name();
    if create {
        let what = "creating the index LeaseOwnerToLeaseKeyIndex";
        let created = retry(clock, Patience::ENDLESS, what, || rows.table.create_owner_index()).await;
        if let Err(error) = created {
            warn!(
                table, %error,
                "the index LeaseOwnerToLeaseKeyIndex could not be created; leases are found by scanning instead"
            );
            return;
        }
    }
    let started = Instant::now();
    let look = || async {
        let description = rows.table.describe().await.ok().flatten();
        description.filter(|description| description.owner_index == Some(true))
    };
    poll(INDEX_PATIENCE, look).await;
    let took_ms = started.elapsed().as_millis() as u64;
    info!(table, took_ms, "the index LeaseOwnerToLeaseKeyIndex is active");
    active.send_replace(true);
}
