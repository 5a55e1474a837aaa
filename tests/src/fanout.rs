//! Enhanced fan-out over any stream that can be polled: subscriptions that end, are refused when too early, and are
//! taken over, as the service does it. Whatever goes wrong with the calls of that stream goes wrong with them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use multilangd_core::ids::{SequenceNumber, ShardId};
use multilangd_core::stream::{Event, ShardIterator, StartAt, StreamConsumer};
use multilangd_engine::stream::{ConsumerName, FanOut, Stream, StreamError, Subscription};
use tokio::time::{Instant, sleep};

/// A subscription lives this long.
const LIFE: Duration = Duration::from_secs(300);
/// Another one is refused for so long, and takes over after that.
const APART: Duration = Duration::from_secs(5);
/// A shard is looked at this often.
const LOOK: Duration = Duration::from_millis(500);
/// Records in an event.
const EVENT_RECORDS_MAX: u32 = 50;

/// Who is subscribed to which shard since when: what the service knows, shared by all workers of a fleet.
#[derive(Clone, Default)]
pub struct Subscriptions(Arc<Mutex<BTreeMap<ShardId, Instant>>>);

impl Subscriptions {
    fn of(&self, shard: &ShardId) -> Option<Instant> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(shard).copied()
    }

    fn begin(&self, shard: &ShardId) -> Result<Instant, StreamError> {
        let now = Instant::now();
        if self.of(shard).is_some_and(|last| now < last + APART) {
            return Err(in_use(shard));
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(shard.clone(), now);
        Ok(now)
    }
}

fn in_use(shard: &ShardId) -> StreamError {
    StreamError::NotActive(format!("another subscription to {shard}"))
}

/// One worker's way to push.
pub struct Pushed {
    stream: Arc<dyn Stream>,
    subscriptions: Subscriptions,
}

impl Pushed {
    /// Over the calls of `stream`.
    pub fn new(stream: Arc<dyn Stream>, subscriptions: Subscriptions) -> Self {
        Self {
            stream,
            subscriptions,
        }
    }
}

#[async_trait]
impl FanOut for Pushed {
    async fn find_consumer(&self, _: ConsumerName<'_>) -> Result<Option<StreamConsumer>, StreamError> {
        Ok(Some(consumer()))
    }

    async fn register_consumer(&self, _: &str, _: &str) -> Result<StreamConsumer, StreamError> {
        Ok(consumer())
    }

    async fn subscribe(
        &self,
        _: &str,
        shard: &ShardId,
        start: &StartAt,
    ) -> Result<Box<dyn Subscription>, StreamError> {
        let iterator = self.stream.shard_iterator(shard, start).await?;
        let since = self.subscriptions.begin(shard)?;
        Ok(Box::new(Pushing {
            stream: self.stream.clone(),
            subscriptions: self.subscriptions.clone(),
            shard: shard.clone(),
            since,
            iterator,
            behind: match start {
                StartAt::At(_) | StartAt::TrimHorizon | StartAt::Latest | StartAt::Timestamp(_) => None,
                StartAt::After(number) => Some(number.clone()),
            },
        }))
    }
}

fn consumer() -> StreamConsumer {
    StreamConsumer {
        arn: "arn:aws:kinesis:us-east-1:000000000000:stream/simulated/consumer/c:1".to_owned(),
        is_active: true,
        status: "ACTIVE".to_owned(),
    }
}

struct Pushing {
    stream: Arc<dyn Stream>,
    subscriptions: Subscriptions,
    shard: ShardId,
    since: Instant,
    iterator: Option<ShardIterator>,
    /// What was pushed last.
    behind: Option<SequenceNumber>,
}

#[async_trait]
impl Subscription for Pushing {
    async fn next(&mut self) -> Result<Option<Event>, StreamError> {
        loop {
            if self.subscriptions.of(&self.shard) != Some(self.since) {
                return Err(in_use(&self.shard));
            }
            let Some(iterator) = self.iterator.clone().filter(|_| self.since.elapsed() < LIFE) else {
                return Ok(None);
            };
            let batch = self.stream.get_records(&iterator, EVENT_RECORDS_MAX).await?;
            self.iterator = batch.next_iterator.clone();
            if let Some(number) = batch.records.last_sequence_number() {
                self.behind = Some(number);
            }
            let is_end = batch.next_iterator.is_none();
            if batch.records.is_empty() && !is_end {
                sleep(LOOK).await;
                continue;
            }
            return Ok(Some(Event {
                records: batch.records,
                continuation: self.behind.clone().filter(|_| !is_end),
                millis_behind_latest: batch.millis_behind_latest,
                child_shards: batch.child_shards,
            }));
        }
    }
}
