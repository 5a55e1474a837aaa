//! Stories of one worker and its consumers, over a table, a stream and children in memory; tokio's paused clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use multilangd_core::fetch::PaceSettings;
use multilangd_core::fetch::fanout::LIFE;
use multilangd_core::ids::{Position, ShardId};
use multilangd_core::leases::Lease;
use multilangd_core::shards::InitialPosition;
use multilangd_engine::child::SessionSettings;
use multilangd_engine::clock::Clock;
use multilangd_engine::consumer::{ConsumerSettings, Surroundings};
use multilangd_engine::fetch::{FetchSettings, WorkerReadAhead};
use multilangd_engine::leases::{LeaseSettings, Leases};
use multilangd_engine::shards::{ShardSettings, Shards};
use multilangd_engine::worker::{Exit, Worker, WorkerSettings};
use multilangd_tests::child::Children;
use multilangd_tests::stream::FakeStream;
use multilangd_tests::table::{Call, FakeTable, Fault};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Never what a story waits for.
const PARENT_POLL: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_lease_that_turns_out_to_be_finished_gets_no_child() {
    let world = World::new();
    let parent = ShardId::from("shardId-000000000000");
    let [child, _] = world.stream.split(&parent);
    let mut blocked = lease(&child, &[&parent], Some("me"));
    world.table.put(lease(&parent, &[], Some("other")).item());
    world.table.put(blocked.item());
    let worker = world.start(Duration::from_secs(1)).await;
    sleep(Duration::from_millis(2500)).await;
    // Somebody else has finished both meanwhile; the counter is as the worker knows it.
    blocked = Lease::read(&world.table.row(child.as_str()).unwrap()).unwrap();
    blocked.checkpoint = Position::ShardEnd;
    world.table.put(blocked.item());
    let mut finished = lease(&parent, &[], Some("other"));
    finished.checkpoint = Position::ShardEnd;
    world.table.put(finished.item());
    sleep(Duration::from_secs(5)).await;
    assert_eq!(world.children.actions(child.as_str()), Vec::<String>::new());
    let row = Lease::read(&world.table.row(child.as_str()).unwrap()).unwrap();
    assert_eq!(
        row.owner,
        Some("me".into()),
        "it is held on until it is cleaned up"
    );
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_finishes_while_its_lease_is_read_keeps_no_child_waiting() {
    let world = World::new();
    let parent = ShardId::from("shardId-000000000000");
    world.stream.put("k", "before");
    // The parent was open at the trim horizon.
    sleep(Duration::from_secs(1)).await;
    let children = world.stream.split(&parent);
    world.stream.put("k", "after");
    // What is read of the parent once its children have leases is out of date when it arrives.
    let table = world.table.clone();
    let child = children[0].clone();
    let leased = Arc::new(AtomicBool::new(false));
    let is_leased = leased.clone();
    world.table.set_faults(move |call| match call {
        Call::Write(write) if write.key("leaseKey") == Some(child.as_str()) => {
            is_leased.store(true, Ordering::Relaxed);
            None
        }
        // The parent finishes when its children have begun to look, and before they have their answer.
        Call::Write(write)
            if write.key("leaseKey") == Some("shardId-000000000000") && is_leased.load(Ordering::Relaxed) =>
        {
            Some(Fault::AppliedAfter(Duration::from_millis(500)))
        }
        Call::Get(key) if key == "shardId-000000000000" && is_leased.load(Ordering::Relaxed) => {
            Some(Fault::AnswerAfter(Duration::from_secs(2)))
        }
        _ => None,
    });
    let worker = world.start(PARENT_POLL).await;
    sleep(Duration::from_secs(60)).await;
    let row = Lease::read(&table.row(parent.as_str()).unwrap()).unwrap();
    assert!(leased.load(Ordering::Relaxed) && row.checkpoint.is_shard_end());
    // Both looked, heard the bell meanwhile, and looked again as soon as they had their answer: no poll is that quick.
    let calls = table.calls();
    let looks = calls.iter().filter_map(|(at, call)| match call {
        Call::Get(key) if key == parent.as_str() => Some(*at),
        _ => None,
    });
    let looks: Vec<_> = looks.collect();
    let again = looks[2] - looks[0];
    assert!(again < Duration::from_millis(2_500), "{again:?}");
    for child in &children {
        assert_eq!(
            world.children.actions(child.as_str()).first().map(String::as_str),
            Some("initialize")
        );
    }
    world.table.heal();
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_another_worker_finishes_keeps_a_child_waiting_for_a_moment() {
    let world = World::new();
    let parent = ShardId::from("shardId-000000000000");
    let [child, _] = world.stream.split(&parent);
    world.table.put(lease(&parent, &[], Some("other")).item());
    world.table.put(lease(&child, &[&parent], Some("me")).item());
    let worker = world.start(PARENT_POLL).await;
    // The other one is at work, and renews.
    let mut alive = lease(&parent, &[], Some("other"));
    for _ in 0..8 {
        sleep(Duration::from_secs(1)).await;
        alive.counter += 1;
        world.table.put(alive.item());
    }
    assert_eq!(world.children.actions(child.as_str()), Vec::<String>::new());
    alive.checkpoint = Position::ShardEnd;
    world.table.put(alive.item());
    sleep(Duration::from_millis(1_500)).await;
    let heard = world.children.actions(child.as_str());
    assert_eq!(heard.first().map(String::as_str), Some("initialize"));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_with_many_shards_begins_with_few_at_once() {
    let world = World::of(200);
    let worker = world.start(PARENT_POLL).await;
    sleep(Duration::from_secs(20)).await;
    let shards: BTreeSet<ShardId> = world.stream.shards().into_iter().map(|it| it.id).collect();
    assert_eq!(shards.len(), 200);
    for shard in &shards {
        let heard = world.children.actions(shard.as_str());
        assert_eq!(heard.first().map(String::as_str), Some("initialize"), "{shard}");
    }
    let mut reads = BTreeMap::<Instant, usize>::new();
    for (at, call) in world.table.calls() {
        if matches!(call, Call::Get(key) if shards.contains(&ShardId::from(key.as_str()))) {
            *reads.entry(at).or_default() += 1;
        }
    }
    let most = reads.values().max();
    assert!(most <= Some(&16), "{most:?} leases were read at the same time");
    worker.stop().await;
}

/// What a worker lives in.
struct World {
    table: Arc<FakeTable>,
    stream: Arc<FakeStream>,
    children: Children,
    clock: Clock,
}

struct Running {
    stop: CancellationToken,
    life: JoinHandle<Exit>,
}

impl World {
    fn new() -> Self {
        Self::of(1)
    }

    /// With a stream of so many shards.
    fn of(shards: usize) -> Self {
        let clock = Clock::simulated(1_789_000_000_000, 7);
        Self {
            table: FakeTable::existing("app"),
            stream: FakeStream::new("s", shards, clock.clone()),
            children: Children::default(),
            clock,
        }
    }

    /// A worker called `me`, once its first leases exist.
    async fn start(&self, parent_poll: Duration) -> Running {
        let settings = LeaseSettings::new("me".into(), "app");
        let stop = CancellationToken::new();
        let leases = Leases::start(self.table.clone(), self.clock.clone(), settings, stop.clone());
        let leases = leases.await.unwrap();
        let settings = ShardSettings {
            initial: InitialPosition::TrimHorizon,
            ..ShardSettings::default()
        };
        let shards = Shards::start(
            self.stream.clone(),
            leases.clone(),
            self.clock.clone(),
            settings,
            &CancellationToken::new(),
        );
        let around = Surroundings {
            stream: self.stream.clone(),
            spawn: Arc::new(self.children.clone()),
            leases,
            shards: shards.clone(),
            clock: self.clock.clone(),
            read_ahead: WorkerReadAhead::new(1 << 20),
            settings: Arc::new(ConsumerSettings {
                fetch: FetchSettings {
                    pace: PaceSettings {
                        idle: Duration::from_millis(200),
                        reduced_tps_threshold: Duration::ZERO,
                    },
                    records_max: 10_000,
                    timestamp_ms: None,
                    fan_out: None,
                    subscription_life: LIFE,
                },
                session: SessionSettings::default(),
                parent_poll,
                task_backoff: Duration::from_millis(500),
                deliver_empty_batches: false,
                restart_failed_child: false,
            }),
        };
        let settings = WorkerSettings {
            grace: Duration::from_secs(20),
            hand_over_timeout: Duration::from_secs(30),
            warn_after: None,
            summary_interval: Duration::from_secs(3600),
        };
        let life = tokio::spawn(Worker::new(around, settings).run(stop.clone()));
        shards.first_sync().await.unwrap();
        Running { stop, life }
    }
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        let exit = self.life.await.expect("the worker does not panic");
        assert!(matches!(exit, Exit::Clean), "{exit:?}");
    }
}

fn lease(shard: &ShardId, parents: &[&ShardId], owner: Option<&str>) -> Lease {
    let parents: BTreeSet<ShardId> = parents.iter().map(|it| (*it).clone()).collect();
    let mut lease = Lease::new(shard.clone(), Position::TrimHorizon, parents, None);
    lease.owner = owner.map(Into::into);
    lease
}
