//! Reading a shard ahead of its child. One task per shard; what it read waits in a bounded queue.
//!
//! Owns the reader's task and its bounds; decides nothing about pace or place (`core::fetch`) and never sees a child.

mod fanout;
mod polling;
mod registration;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use multilangd_core::fetch::fanout::{EVENTS_MAX, Place};
use multilangd_core::fetch::{Answer, PaceSettings, READ_AHEAD_BATCHES_MAX, ReadAhead, memory_bytes};
use multilangd_core::ids::{Position, ShardId};
use multilangd_core::stream::Batch;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

pub use registration::{Registration, RegistrationSettings, WantedConsumer};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::stream::Stream;

/// How a shard is read.
#[derive(Clone, Debug)]
pub struct FetchSettings {
    /// How fast.
    pub pace: PaceSettings,
    /// `maxRecords`: the `Limit` of GetRecords, at most 10,000.
    pub records_max: u32,
    /// `initialPositionInStreamExtended`, in milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    /// By enhanced fan-out with this consumer; `None`: by polling.
    pub fan_out: Option<Registration>,
    /// When the service ends a subscription: [`LIFE`](multilangd_core::fetch::fanout::LIFE), but for tests.
    pub subscription_life: Duration,
}

/// What all shards of a worker together keep of records that no child has answered yet, in bytes of
/// [memory](memory_bytes): those that a child works on, those that wait, and those that have been asked for. Shards that
/// catch up share it, so that a thousand of them cannot eat the machine. When it is used up, a shard with nothing waiting
/// still fetches, but little at a time.
#[derive(Clone, Debug)]
pub struct WorkerReadAhead {
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl WorkerReadAhead {
    /// At most this many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes: Arc::default(),
            bytes_max,
        }
    }

    /// What is kept now, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What may be kept besides, in bytes.
    fn left(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes())
    }

    fn keep(&self, bytes: usize) -> Kept {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Kept {
            bytes,
            worker: self.clone(),
        }
    }
}

/// A share of what a worker keeps. Dropping it gives it back.
#[derive(Debug)]
struct Kept {
    bytes: usize,
    worker: WorkerReadAhead,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.worker.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// An answer on its way from the reader to the consumer.
#[derive(Debug)]
struct Fetched {
    answer: Answer,
    kept: Kept,
}

/// What one shard's reader and its consumer share: how much is waiting, and a bell for when that shrinks.
#[derive(Debug)]
struct Waiting {
    batches: AtomicUsize,
    records: AtomicUsize,
    bytes: AtomicUsize,
    taken: Notify,
    worker: WorkerReadAhead,
}

impl Waiting {
    fn new(worker: WorkerReadAhead) -> Self {
        Self {
            batches: AtomicUsize::new(0),
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            taken: Notify::new(),
            worker,
        }
    }

    fn ahead(&self) -> ReadAhead {
        ReadAhead {
            batches: self.batches.load(Ordering::Acquire),
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    fn may_fetch(&self) -> bool {
        self.ahead().may_fetch(self.worker.bytes(), self.worker.bytes_max)
    }

    fn may_take_event(&self) -> bool {
        self.ahead()
            .may_take_event(self.worker.bytes(), self.worker.bytes_max)
    }

    fn may_subscribe(&self) -> bool {
        self.ahead()
            .may_subscribe(self.worker.bytes(), self.worker.bytes_max)
    }

    /// The answer, in a box: a queue has room for 32 and more from the first on, and mostly none is in it.
    fn put(&self, answer: Answer) -> Box<Fetched> {
        let (Answer::More(batch) | Answer::End(batch)) = &answer;
        let bytes = batch.records.data_bytes();
        self.records.fetch_add(batch.records.len(), Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Release);
        let kept = self.worker.keep(memory_bytes(batch.records.len(), bytes));
        Box::new(Fetched { answer, kept })
    }

    fn take(&self, batch: &Batch) {
        let bytes = batch.records.data_bytes();
        self.records.fetch_sub(batch.records.len(), Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.batches.fetch_sub(1, Ordering::Release);
        self.taken.notify_one();
    }
}

/// A shard being read. Dropping it stops the reader.
#[derive(Debug)]
pub struct Fetch {
    answers: mpsc::Receiver<Box<Fetched>>,
    /// Of the answer that the consumer has.
    taken: Option<Kept>,
    waiting: Arc<Waiting>,
    reader: JoinHandle<()>,
}

impl Fetch {
    /// Begins to read a shard at a checkpoint, by fan-out or polling as the settings say.
    pub fn begin(
        stream: Arc<dyn Stream>,
        shard: ShardId,
        checkpoint: &Position,
        settings: &FetchSettings,
        worker: WorkerReadAhead,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        match settings.fan_out.clone() {
            None => Self::poll(stream, shard, checkpoint, settings, worker, clock, metrics),
            Some(registration) => Self::fan_out(registration, shard, checkpoint, settings, worker, clock),
        }
    }

    fn fan_out(
        registration: Registration,
        shard: ShardId,
        checkpoint: &Position,
        settings: &FetchSettings,
        worker: WorkerReadAhead,
        clock: Clock,
    ) -> Self {
        let waiting = Arc::new(Waiting::new(worker));
        // One more than the bound, so that the subscriber never waits inside a send.
        let (sender, answers) = mpsc::channel(EVENTS_MAX + 1);
        let place = Place::new(checkpoint, settings.timestamp_ms);
        let subscriber = fanout::Subscriber::new(
            registration,
            shard,
            place,
            sender,
            waiting.clone(),
            clock,
            settings.subscription_life,
        );
        Self {
            answers,
            taken: None,
            waiting,
            reader: tokio::spawn(subscriber.run()),
        }
    }

    fn poll(
        stream: Arc<dyn Stream>,
        shard: ShardId,
        checkpoint: &Position,
        settings: &FetchSettings,
        worker: WorkerReadAhead,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        let waiting = Arc::new(Waiting::new(worker));
        // One more than the read-ahead bound, so that the reader never waits inside a send.
        let (sender, answers) = mpsc::channel(READ_AHEAD_BATCHES_MAX + 1);
        let reader = polling::Reader::new(
            stream,
            shard,
            checkpoint,
            settings,
            sender,
            waiting.clone(),
            clock,
        )
        .noting(metrics);
        Self {
            answers,
            taken: None,
            waiting,
            reader: tokio::spawn(reader.run()),
        }
    }

    /// The next answer; waits for it. The one before it is done with. `None` after the last one of the shard. Cancel-safe.
    pub async fn next(&mut self) -> Option<Answer> {
        self.taken = None;
        let Fetched { answer, kept } = *self.answers.recv().await?;
        let (Answer::More(batch) | Answer::End(batch)) = &answer;
        self.waiting.take(batch);
        self.taken = Some(kept);
        Some(answer)
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
