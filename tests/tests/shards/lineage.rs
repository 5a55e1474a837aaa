//! Many seeds of one story: shards split and merge, workers crash, stream and table fail. In the end every shard was
//! read, parents before children, and nothing but the open shards' leases is left.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use multilangd_core::ids::{Position, ShardId};
use multilangd_core::rng::Rng;
use multilangd_core::shards::InitialPosition::{Latest, TrimHorizon};
use multilangd_core::stream::{ChildShard, Shard, StartAt};
use multilangd_engine::shards::Shards;
use multilangd_engine::stream::Stream;
use multilangd_tests::{stream, table};
use tokio::time::timeout;

use super::world::{World, finish, seconds};

#[tokio::test(start_paused = true)]
async fn no_shard_is_lost_whatever_goes_wrong() {
    for seed in 0..60 {
        Story::new(seed).tell().await;
    }
}

struct Story {
    seed: u64,
    rng: Rng,
    world: World,
    shards: Shards,
    /// Read to their end, in this order.
    finished: Vec<ShardId>,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let world = World::new(1 + rng.below(3) as usize);
        let shards = world.start(if rng.below(2) == 0 { Latest } else { TrimHorizon });
        Self {
            seed,
            rng,
            world,
            shards,
            finished: Vec::new(),
        }
    }

    async fn tell(mut self) {
        self.shards.first_sync().await.unwrap();
        for _ in 0..40 {
            match self.rng.below(6) {
                0 => self.reshard(),
                1 => self.break_something(),
                2 => self.restart().await,
                3 => seconds(self.rng.below(200)).await,
                _ => self.consume().await,
            }
        }
        self.world.stream.heal();
        self.world.table.heal();
        self.restart().await;
        for _ in 0..60 {
            self.consume().await;
            seconds(130).await;
        }
        self.judge();
    }

    fn reshard(&mut self) {
        let mut open: Vec<Shard> = self
            .world
            .stream
            .shards()
            .into_iter()
            .filter(Shard::is_open)
            .collect();
        open.sort_by_key(|shard| shard.hash_range);
        let place = self.rng.below(open.len() as u64) as usize;
        match open.get(place + 1) {
            Some(neighbour) if self.rng.below(2) == 0 => {
                drop(self.world.stream.merge(&open[place].id, &neighbour.id))
            }
            _ => drop(self.world.stream.split(&open[place].id)),
        }
    }

    /// One call in three fails, or nothing does.
    fn break_something(&mut self) {
        if self.rng.below(2) == 0 {
            self.world.stream.heal();
            self.world.table.heal();
            return;
        }
        let (mut rng, mut other) = (Rng::new(self.rng.next_u64()), Rng::new(self.rng.next_u64()));
        self.world.stream.set_faults(move |_| match rng.below(9) {
            0 => Some(stream::Fault::Throttled),
            1 => Some(stream::Fault::Unavailable),
            2 => Some(stream::Fault::Refused),
            _ => None,
        });
        self.world.table.set_faults(move |_| match other.below(12) {
            0 => Some(table::Fault::Throttled),
            1 => Some(table::Fault::Lost),
            2 => Some(table::Fault::AppliedUnanswered),
            3 => Some(table::Fault::Refused),
            _ => None,
        });
    }

    /// The queue of finished leases is lost, and filled again as the leases are taken up.
    async fn restart(&mut self) {
        self.shards.stop().await;
        self.shards = self.world.start(Latest);
        for lease in self
            .rows()
            .into_values()
            .filter(|lease| lease.checkpoint.is_shard_end())
        {
            self.shards.queue_cleanup(&lease);
        }
    }

    fn rows(&self) -> BTreeMap<ShardId, multilangd_core::leases::Lease> {
        let lease = |item| multilangd_core::leases::Lease::read(item).unwrap();
        self.world
            .table
            .rows()
            .values()
            .map(lease)
            .map(|lease| (lease.key.clone(), lease))
            .collect()
    }

    /// Every shard that may be read is read as far as it goes; an end may be cut off by a crash.
    async fn consume(&mut self) {
        for lease in self.rows().into_values() {
            let rows = self.rows();
            let is_over = |parent| {
                rows.get(parent)
                    .is_none_or(|lease| lease.checkpoint.is_shard_end())
            };
            if lease.checkpoint.is_shard_end() || !lease.parents.iter().all(is_over) {
                continue;
            }
            let listed = self
                .world
                .stream
                .shards()
                .into_iter()
                .find(|it| it.id == lease.key)
                .unwrap();
            if listed.is_open() {
                self.checkpoint(&lease.key, "17");
                continue;
            }
            let children = self.named_children(&lease.key).await;
            let patience = Duration::from_millis(self.rng.below(2000));
            if let Ok(Ok(())) = timeout(patience, finish(&self.shards, &lease.key, &children)).await {
                self.checkpoint(&lease.key, "SHARD_END");
                self.finished.push(lease.key.clone());
                self.shards.queue_cleanup(&lease);
            }
        }
    }

    /// As the last answer names them, or none, as after a restart at the end.
    async fn named_children(&mut self, shard: &ShardId) -> Vec<ChildShard> {
        if self.rng.below(3) == 0 {
            return Vec::new();
        }
        match self.world.stream.shard_iterator(shard, &StartAt::Latest).await {
            Ok(Some(iterator)) => self
                .world
                .stream
                .get_records(&iterator, 1)
                .await
                .map(|batch| batch.child_shards)
                .unwrap_or_default(),
            Ok(None) | Err(_) => Vec::new(),
        }
    }

    fn checkpoint(&self, shard: &ShardId, checkpoint: &str) {
        let Some(mut lease) = self.world.read(shard) else {
            return;
        };
        lease.checkpoint = Position::parse(checkpoint, 0).unwrap();
        self.world.put(&lease);
    }

    fn judge(&self) {
        let seed = self.seed;
        let shards = self.world.stream.shards();
        let closed: BTreeSet<&ShardId> = shards
            .iter()
            .filter(|it| !it.is_open())
            .map(|it| &it.id)
            .collect();
        let finished: BTreeSet<&ShardId> = self.finished.iter().collect();
        // Shards that were closed before the first sync at LATEST are none of the application's; there are none here.
        assert_eq!(
            finished, closed,
            "seed {seed}: every closed shard was read to its end"
        );
        assert_eq!(
            self.finished.len(),
            closed.len(),
            "seed {seed}: none was read twice"
        );
        for (place, shard) in self.finished.iter().enumerate() {
            let listed = shards.iter().find(|it| it.id == *shard).unwrap();
            for parent in listed.parents() {
                assert!(
                    self.finished[..place].contains(parent),
                    "seed {seed}: {parent} came after its child {shard}"
                );
            }
        }
        let open: BTreeSet<ShardId> = shards
            .iter()
            .filter(|it| it.is_open())
            .map(|it| it.id.clone())
            .collect();
        assert_eq!(
            self.rows().into_keys().collect::<BTreeSet<_>>(),
            open,
            "seed {seed}: what is left"
        );
    }
}
