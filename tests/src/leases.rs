//! Leases of workers over the fake table, under tokio's paused clock: what tests of them begin with and look at.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use multilangd_core::ids::{Position, ShardId, WorkerId};
use multilangd_core::leases::Lease;
use multilangd_core::table::Write;
use multilangd_engine::clock::Clock;
use multilangd_engine::leases::{HeldLease, LeaseSettings, Leases, StartError, Tenure};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::table::{Call, FakeTable};

/// What the clock of every worker says at the start, in milliseconds since the epoch.
pub const NOW_MS: i64 = 1_789_000_000_000;

/// A position.
pub fn at(text: &str, sub: u64) -> Position {
    Position::parse(text, sub).unwrap()
}

/// A lease that nobody has held yet.
pub fn new_lease(key: &str) -> Lease {
    Lease::new(key.into(), Position::TrimHorizon, BTreeSet::new(), None)
}

/// Starts a worker.
pub async fn try_start(table: &Arc<FakeTable>, worker: &str) -> Result<Leases, StartError> {
    let clock = Clock::simulated(NOW_MS, worker.len() as u64);
    let settings = LeaseSettings::new(WorkerId::from(worker), "app");
    Leases::start(table.clone(), clock, settings, CancellationToken::new()).await
}

/// Starts a worker that can start.
pub async fn start(table: &Arc<FakeTable>, worker: &str) -> Leases {
    try_start(table, worker).await.unwrap()
}

/// A worker `me` that leads and holds the lease `s-1`.
pub async fn one_held(table: &Arc<FakeTable>) -> Leases {
    let leases = start(table, "me").await;
    create(&leases, &["s-1"]).await;
    until_held(&leases, &["s-1"]).await;
    leases
}

/// Creates leases, and has them looked for.
pub async fn create(leases: &Leases, keys: &[&str]) {
    for key in keys {
        assert!(leases.create_lease(&new_lease(key)).await.unwrap());
    }
    leases.look_now();
}

/// What a worker holds.
pub fn held(leases: &Leases) -> Vec<HeldLease> {
    leases.held().borrow().to_vec()
}

/// Whether a worker holds the lease of this shard.
pub fn holds(leases: &Leases, key: &str) -> bool {
    held(leases).iter().any(|held| held.tenure.shard == key.into())
}

/// Waits until a worker holds the leases of these shards, and no others.
pub async fn until_held(leases: &Leases, keys: &[&str]) {
    let expected: Vec<ShardId> = keys.iter().map(|key| ShardId::from(*key)).collect();
    let mut changes = leases.held();
    let is_held = changes.wait_for(|held| held.iter().map(|held| &held.tenure.shard).eq(expected.iter()));
    let held = timeout(Duration::from_secs(120), is_held).await;
    assert!(
        held.is_ok(),
        "expected {expected:?}, holds {:?}",
        leases.held().borrow()
    );
}

/// Waits until a worker leads.
pub async fn until_leader(leases: &Leases) {
    let mut is_leader = leases.is_leader();
    timeout(Duration::from_secs(120), is_leader.wait_for(|leads| *leads))
        .await
        .unwrap()
        .unwrap();
}

/// Plays the consumers of a worker: hands over whatever the leader wants elsewhere.
pub fn hand_over_what_is_asked_for(leases: &Leases) {
    let leases = leases.clone();
    tokio::spawn(async move {
        let mut changes = leases.held();
        while changes.changed().await.is_ok() {
            let asked: Vec<Tenure> = changes
                .borrow_and_update()
                .iter()
                .filter(|held| held.hand_over_to.is_some())
                .map(|held| held.tenure.clone())
                .collect();
            for tenure in asked {
                leases.hand_over(&tenure).await.unwrap();
            }
        }
    });
}

/// A lease as the table has it.
pub fn lease(table: &FakeTable, key: &str) -> Lease {
    Lease::read(&table.row(key).unwrap()).unwrap()
}

/// Whether a call writes this row.
pub fn is_write_of(call: &Call, key: &str) -> bool {
    matches!(call, Call::Write(_)) && call.is_about(key)
}

/// When renewals of a lease were sent.
pub fn renewals(table: &FakeTable, key: &str) -> Vec<Instant> {
    let calls = table.calls();
    let renewals = calls.into_iter().filter(|(_, call)| {
        is_write_of(call, key)
            && matches!(call, Call::Write(Write::Update { actions, .. }) if actions.len() <= 2)
    });
    renewals.map(|(at, _)| at).collect()
}
