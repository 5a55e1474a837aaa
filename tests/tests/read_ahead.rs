//! What a worker keeps of records that no child has answered yet: many shards with a backlog each, and children that take
//! nothing, or one batch and no more. A fake stream, tokio's paused clock.

use std::sync::Arc;
use std::time::Duration;

use multilangd_core::fetch::{Answer, PaceSettings, SCARCE_BYTES};
use multilangd_core::ids::Position;
use multilangd_engine::clock::Clock;
use multilangd_engine::fetch::{Fetch, FetchSettings, WorkerReadAhead};
use multilangd_engine::metrics::Metrics;
use multilangd_tests::stream::FakeStream;
use tokio::time::sleep;

const SHARDS: usize = 50;
/// Of each shard: 4 MB.
const RECORDS: usize = 4_000;
const RECORD_BYTES: usize = 1_000;
/// Less than two shards have.
const BYTES_MAX: usize = 6 * 1024 * 1024;
/// Longer than a thousand reads take.
const LONG: Duration = Duration::from_secs(600);

struct World {
    read_ahead: WorkerReadAhead,
    shards: Vec<Fetch>,
}

impl World {
    fn new() -> Self {
        let clock = Clock::simulated(1_789_000_000_000, 7);
        let stream = FakeStream::new("words", SHARDS, clock.clone());
        let read_ahead = WorkerReadAhead::new(BYTES_MAX);
        let settings = FetchSettings {
            pace: PaceSettings {
                idle: Duration::from_secs(1),
                reduced_tps_threshold: Duration::ZERO,
            },
            records_max: 10_000,
            timestamp_ms: None,
            fan_out: None,
            subscription_life: LONG,
        };
        let shards = stream.shards().into_iter().map(|shard| {
            for _ in 0..RECORDS {
                stream.put_into(&shard.id, "key", vec![b'x'; RECORD_BYTES]);
            }
            let stream: Arc<FakeStream> = stream.clone();
            Fetch::begin(
                stream,
                shard.id,
                &Position::TrimHorizon,
                &settings,
                read_ahead.clone(),
                clock.clone(),
                Metrics::off(),
            )
        });
        let shards = shards.collect();
        Self { read_ahead, shards }
    }

    fn assert_bounded(&self, answers_each: usize) {
        // With all of it used, a shard that has nothing reads small answers; one that begins knows no better.
        let most = BYTES_MAX + SHARDS * answers_each * SCARCE_BYTES;
        let bytes = self.read_ahead.bytes();
        assert!(bytes <= most, "{bytes} bytes are kept, {most} would do");
    }
}

async fn records_of(shard: &mut Fetch) -> usize {
    let Some(Answer::More(batch) | Answer::End(batch)) = shard.next().await else {
        panic!("the reader has ended");
    };
    batch.records.len()
}

#[tokio::test(start_paused = true)]
async fn many_shards_that_catch_up_keep_no_more_than_the_worker_may() {
    let mut world = World::new();
    sleep(LONG).await;
    world.assert_bounded(1);
    // Now every child has a batch that it does not answer, and the shards read on.
    for shard in &mut world.shards {
        assert!(records_of(shard).await > 0, "no shard has to wait for the others");
    }
    sleep(LONG).await;
    world.assert_bounded(2);
}

#[tokio::test(start_paused = true)]
async fn with_all_that_the_worker_may_keep_with_stalled_children_the_others_go_on() {
    let mut world = World::new();
    sleep(LONG).await;
    let (lively, stalled) = world.shards.split_at_mut(5);
    for shard in stalled {
        records_of(shard).await;
    }
    for shard in lively {
        let mut seen = 0;
        while seen < RECORDS {
            seen += records_of(shard).await;
        }
        assert_eq!(seen, RECORDS);
    }
    world.assert_bounded(2);
}

#[tokio::test(start_paused = true)]
async fn what_is_answered_or_given_up_makes_room() {
    let mut world = World::new();
    for shard in &mut world.shards {
        let mut seen = 0;
        while seen < RECORDS {
            seen += records_of(shard).await;
        }
    }
    // Empty answers from now on: each says that the batch before it has been answered.
    for shard in &mut world.shards {
        assert_eq!(records_of(shard).await, 0);
    }
    sleep(LONG).await;
    assert_eq!(world.read_ahead.bytes(), 0);
    world.shards.clear();
    assert_eq!(world.read_ahead.bytes(), 0);

    let mut world = World::new();
    sleep(LONG).await;
    records_of(&mut world.shards[0]).await;
    assert!(world.read_ahead.bytes() > 0);
    world.shards.clear();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(world.read_ahead.bytes(), 0);
}
