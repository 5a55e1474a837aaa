//! Retrieval by polling: GetShardIterator, GetRecords, pause (`consuming.md 2`). Survives every failure for as long
//! as it lasts; only the shard's end, or being dropped, ends it.

use std::sync::Arc;

use multilangd_core::fetch::{Answer, Ask, Cursor, Pace, Portions, Read};
use multilangd_core::ids::{Position, ShardId};
use multilangd_core::metrics::{Call, Metric, Of, Operation};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, info, warn};

use super::{FetchSettings, Fetched, Waiting};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::stream::{Stream, StreamError};

/// The task that reads one shard.
pub(super) struct Reader {
    stream: Arc<dyn Stream>,
    shard: ShardId,
    cursor: Cursor,
    pace: Pace,
    portions: Portions,
    settings: FetchSettings,
    answers: mpsc::Sender<Box<Fetched>>,
    waiting: Arc<Waiting>,
    clock: Clock,
    metrics: Metrics,
    last_success: Instant,
    failures: u32,
    is_reading: bool,
}

/// A streak of failures is logged at its first failure and then once per this many, not each time.
const FAILURES_PER_LINE: u32 = 40;

impl Reader {
    pub(super) fn new(
        stream: Arc<dyn Stream>,
        shard: ShardId,
        checkpoint: &Position,
        settings: &FetchSettings,
        answers: mpsc::Sender<Box<Fetched>>,
        waiting: Arc<Waiting>,
        clock: Clock,
    ) -> Self {
        Self {
            stream,
            shard,
            cursor: Cursor::new(checkpoint, settings.timestamp_ms),
            pace: Pace::default(),
            portions: Portions::default(),
            settings: settings.clone(),
            answers,
            waiting,
            last_success: clock.now(),
            clock,
            metrics: Metrics::off(),
            failures: 0,
            is_reading: false,
        }
    }

    pub(super) fn noting(mut self, metrics: Metrics) -> Self {
        self.metrics = metrics;
        self
    }

    pub(super) async fn run(mut self) {
        loop {
            self.wait_for_room().await;
            let since_success = self.clock.now().duration_since(self.last_success);
            sleep(self.pace.pause(&self.settings.pace, since_success)).await;
            match self.read().await {
                Ok(Some(answer)) => {
                    self.succeeded(&answer);
                    let is_end = matches!(answer, Answer::End(_));
                    if self.answers.send(self.waiting.put(answer)).await.is_err() || is_end {
                        return;
                    }
                }
                Ok(None) => {}
                Err(error) => self.failed(&error),
            }
        }
    }

    /// Until the consumer has taken enough. The bound that all shards share has no bell: it is looked at again after
    /// a pause.
    async fn wait_for_room(&self) {
        while !self.waiting.may_fetch() {
            let _ = timeout(self.settings.pace.idle, self.waiting.taken.notified()).await;
        }
    }

    /// One step: an answer, or `None` where the next step is to be taken at once.
    async fn read(&mut self) -> Result<Option<Answer>, StreamError> {
        match self.cursor.ask(self.clock.epoch_ms()) {
            Ask::Iterator(start) => match self
                .measured(
                    Call::GET_SHARD_ITERATOR,
                    self.stream.shard_iterator(&self.shard, &start),
                )
                .await
            {
                Ok(Some(iterator)) => {
                    if self.is_reading {
                        debug!(shard = %self.shard, from = ?start, "new shard iterator");
                    } else {
                        info!(shard = %self.shard, from = ?start, "reading");
                    }
                    self.is_reading = true;
                    self.cursor.iterator(iterator);
                    // The first read follows at once.
                    if self.failures == 0 {
                        self.pace.at_once();
                    }
                    Ok(None)
                }
                Ok(None) | Err(StreamError::NotFound(_)) => Ok(Some(self.gone())),
                Err(error) => Err(error),
            },
            Ask::Records(iterator) => {
                let worker = &self.waiting.worker;
                let portion = self.portions.next(self.settings.records_max, worker.left());
                let expected = worker.keep(portion.bytes);
                let call = self.stream.get_records(&iterator, portion.records_max);
                let got = self.measured(Call::GET_RECORDS, call).await;
                drop(expected);
                match got {
                    Ok(batch) => {
                        let (records, bytes) = (batch.records.len(), batch.records.data_bytes());
                        let is_full = records >= portion.records_max as usize;
                        self.portions.answered(records, bytes, is_full);
                        let read = Read {
                            millis_behind_latest: batch.millis_behind_latest,
                            is_full,
                            bytes,
                        };
                        let answer = self
                            .cursor
                            .accept(batch)
                            .map_err(|why| StreamError::Unavailable(why.into()))?;
                        self.pace.succeeded(read);
                        Ok(Some(answer))
                    }
                    Err(StreamError::NotFound(_)) => Ok(Some(self.gone())),
                    Err(error @ (StreamError::ExpiredIterator | StreamError::InvalidArgument(_))) => {
                        self.cursor.forget_iterator();
                        Err(error)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    async fn measured<T, E>(&self, call: Call, future: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let of = Of::Shard(&self.shard);
        self.metrics
            .measure(Operation::ProcessTask, of, call, future)
            .await
    }

    fn gone(&self) -> Answer {
        warn!(shard = %self.shard, "the stream has no such shard any more: its end is taken as reached");
        Cursor::gone()
    }

    fn succeeded(&mut self, _answer: &Answer) {
        self.last_success = self.clock.now();
        if self.failures > 1 {
            info!(shard = %self.shard, failures = self.failures, "reading again");
        }
        self.failures = 0;
    }

    fn failed(&mut self, error: &StreamError) {
        match error {
            StreamError::Throttled(_) => self.pace.throttled(&self.settings.pace),
            StreamError::ExpiredIterator
            | StreamError::InvalidArgument(_)
            | StreamError::NotFound(_)
            | StreamError::NotActive(_)
            | StreamError::Unavailable(_)
            | StreamError::Refused(_) => self.pace.failed(),
        }
        self.failures += 1;
        if let StreamError::ExpiredIterator = error {
            info!(shard = %self.shard, "the shard iterator has expired, getting a new one");
            // Compat: without the shard, as in Java's code; its documentation says otherwise.
            self.metrics.add(
                Operation::ProcessTask,
                Of::Application,
                Metric::EXPIRED_ITERATOR,
                1.0,
            );
        } else if self.failures == 1 || self.failures.is_multiple_of(FAILURES_PER_LINE) {
            let failures = self.failures;
            match error {
                StreamError::Refused(_) => {
                    error!(shard = %self.shard, failures, %error, "reading was refused, trying again: check the \
                        worker's rights to the stream");
                }
                StreamError::InvalidArgument(_) => {
                    error!(shard = %self.shard, failures, %error, "reading was refused, trying again: if the stream \
                        was deleted and created anew, stop the application and delete its leases");
                }
                StreamError::Throttled(_)
                | StreamError::ExpiredIterator
                | StreamError::NotFound(_)
                | StreamError::NotActive(_)
                | StreamError::Unavailable(_) => {
                    warn!(shard = %self.shard, failures, %error, "reading failed, trying again");
                }
            }
        }
    }
}
