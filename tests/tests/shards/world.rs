//! A stream, a lease table, and the shards task between them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use multilangd_core::ids::{Position, ShardId};
use multilangd_core::leases::{Lease, Row};
use multilangd_core::shards::InitialPosition;
use multilangd_core::stream::ChildShard;
use multilangd_core::table::Write;
use multilangd_engine::clock::Clock;
use multilangd_engine::leases::Tenure;
use multilangd_engine::shards::{FinishError, LeaseRows, ShardSettings, Shards};
use multilangd_engine::table::{ScanPage, Table, TableError};
use multilangd_tests::stream::{Call, FakeStream};
use multilangd_tests::table::FakeTable;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub(crate) struct World {
    pub(crate) stream: Arc<FakeStream>,
    pub(crate) table: Arc<FakeTable>,
    pub(crate) clock: Clock,
    pub(crate) leader: watch::Sender<bool>,
    pub(crate) looks: Arc<AtomicUsize>,
    pub(crate) began: Instant,
}

impl World {
    /// A stream of so many shards, an empty table, and a worker that leads.
    pub(crate) fn new(shards: usize) -> Self {
        let clock = Clock::simulated(1_700_000_000_000, 7);
        Self {
            stream: FakeStream::new("stream", shards, clock.clone()),
            table: FakeTable::existing("app"),
            clock,
            leader: watch::channel(true).0,
            looks: Arc::default(),
            began: Instant::now(),
        }
    }

    pub(crate) fn start(&self, initial: InitialPosition) -> Shards {
        self.start_with(ShardSettings {
            initial,
            ..ShardSettings::default()
        })
    }

    pub(crate) fn start_with(&self, settings: ShardSettings) -> Shards {
        let rows = Rows {
            table: self.table.clone(),
            leader: self.leader.subscribe(),
            looks: self.looks.clone(),
        };
        Shards::start(
            self.stream.clone(),
            rows,
            self.clock.clone(),
            settings,
            &CancellationToken::new(),
        )
    }

    /// Puts a lease behind everybody's back, its range and parents as the stream lists them.
    pub(crate) fn lease(&self, shard: &ShardId, checkpoint: &str) {
        let listed = self.stream.shards().into_iter().find(|it| it.id == *shard);
        let parents = listed.iter().flat_map(|it| it.parents().cloned()).collect();
        let range = listed.as_ref().map(|it| it.hash_range);
        self.put(&Lease::new(
            shard.clone(),
            Position::parse(checkpoint, 0).unwrap(),
            parents,
            range,
        ));
    }

    pub(crate) fn put(&self, lease: &Lease) {
        self.table.put(lease.item());
    }

    pub(crate) fn read(&self, shard: &ShardId) -> Option<Lease> {
        self.table
            .row(shard.as_str())
            .map(|item| Lease::read(&item).unwrap())
    }

    /// All leases as `number@checkpoint`.
    pub(crate) fn leases(&self) -> String {
        let rows = self.table.rows();
        let leases = rows.values().filter_map(|item| match Row::read(item) {
            Row::Lease(lease) => Some(format!("{}@{}", number(&lease.key), lease.checkpoint)),
            _ => None,
        });
        leases.collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn listings(&self) -> usize {
        self.stream
            .calls()
            .iter()
            .filter(|(_, call)| matches!(call, Call::ListShards(_)))
            .count()
    }

    pub(crate) fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }
}

/// The shard of this number.
pub(crate) fn shard(number: usize) -> ShardId {
    format!("shardId-{number:012}").into()
}

pub(crate) fn set(shards: &[&ShardId]) -> BTreeSet<ShardId> {
    shards.iter().map(|&id| id.clone()).collect()
}

fn number(shard: &ShardId) -> &str {
    match shard
        .as_str()
        .trim_start_matches("shardId-")
        .trim_start_matches('0')
    {
        "" => "0",
        number => number,
    }
}

/// Finishes a shard as its consumer does.
pub(crate) async fn finish(
    shards: &Shards,
    shard: &ShardId,
    children: &[ChildShard],
) -> Result<(), FinishError> {
    let tenure = Tenure {
        shard: shard.clone(),
        token: 1,
    };
    shards.finish_shard(&tenure, children).await
}

pub(crate) async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

/// The lease table's rows, as `Leases` gives access to them.
struct Rows {
    table: Arc<FakeTable>,
    leader: watch::Receiver<bool>,
    looks: Arc<AtomicUsize>,
}

#[async_trait]
impl LeaseRows for Rows {
    async fn list(&self) -> Result<Vec<Lease>, TableError> {
        let rows = self.table.scan(&ScanPage::default()).await?;
        let lease = |item| match Row::read(item) {
            Row::Lease(lease) => Some(lease),
            _ => None,
        };
        Ok(rows.items.iter().filter_map(lease).collect())
    }

    async fn read(&self, key: &ShardId) -> Result<Option<Lease>, TableError> {
        let item = self.table.get(key.as_str(), false).await?;
        Ok(item.map(|item| Lease::read(&item).unwrap()))
    }

    async fn write(&self, write: &Write) -> Result<(), TableError> {
        self.table.write(write).await.map(drop)
    }

    fn is_leader(&self) -> watch::Receiver<bool> {
        self.leader.clone()
    }

    fn look_now(&self) {
        self.looks.fetch_add(1, Ordering::SeqCst);
    }
}
