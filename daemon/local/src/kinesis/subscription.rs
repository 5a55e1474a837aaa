//! `SubscribeToShard`: records pushed as they arrive.
//!
//! Owns who listens to which shard, and the rule of five seconds. A subscription waits for its shard to wake
//! it; it never polls.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::shards::write_children;
use super::{Call, Kinesis, reading};
use crate::clock::Clock;
use crate::error::{Outcome, ServiceError};
use crate::eventstream;
use crate::limits::{Bucket, Limits, READ_BYTES};
use crate::shard::Shard;
use crate::stream::Stream;
use crate::value::missing;
use crate::writer::{Format, Writer};

/// Most records and bytes in one event: small enough that the first ones are not kept waiting by the last.
const EVENT_RECORDS_MAX: usize = 10_000;
const EVENT_BYTES_MAX: usize = 1 << 20;
/// A quiet shard says so this often: clients give up on a connection that is silent for ten seconds.
const SILENCE: Duration = Duration::from_secs(5);
/// A second subscription of one consumer to one shard is refused for so long, and after that takes over.
const RESUBSCRIBE_MS: u64 = 5_000;

/// The last successful call for one consumer and shard.
pub(crate) struct Listener {
    called_ms: u64,
    taken_over: CancellationToken,
    ended: CancellationToken,
}

impl Listener {
    pub(super) fn end(&self) {
        self.ended.cancel();
    }
}

/// One subscription's side of the service.
pub(crate) struct Subscription {
    consumer: String,
    stream: Arc<Stream>,
    shard: Arc<Shard>,
    format: Format,
    clock: Clock,
    /// The next record to send.
    position: u64,
    tip: watch::Receiver<()>,
    deadline: Instant,
    silent_since: Instant,
    bucket: Option<Bucket>,
    taken_over: CancellationToken,
    ended: CancellationToken,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// Nothing was sent.
    New,
    /// The client was told that it is subscribed; where the shard stands, it was not.
    Greeted,
    Running,
    Over,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

impl Kinesis {
    pub(super) fn subscribe_to_shard(&self, call: Call<'_, '_>) -> Outcome<Subscription> {
        let Call {
            request,
            format,
            now_ms,
        } = call;
        let arn = request.required_text("ConsumerARN")?;
        let (stream, consumer) = self.consumer_of_arn(arn)?;
        let shard = self.shard(&stream, request.required_text("ShardId")?, now_ms)?;
        let start = request
            .map("StartingPosition")?
            .ok_or_else(|| missing("StartingPosition"))?;
        let kind = start.required_text("Type")?;
        let position = self.starting_position(&stream, &shard, start, kind, "SequenceNumber", now_ms)?;
        let taken_over = CancellationToken::new();
        let ended = CancellationToken::new();
        {
            let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            // Where a test lets subscriptions end sooner, the next one may follow at once.
            let blocked_ms = RESUBSCRIBE_MS.min(self.manners.subscription_life.as_millis() as u64);
            let recent = |one: &Listener| now_ms.saturating_sub(one.called_ms) < blocked_ms;
            listeners.retain(|_, one| recent(one) || !one.ended.is_cancelled());
            // Not the ARN as it was given: its region and account mean nothing here.
            let arn = self.consumer_arn(&stream.name, &consumer);
            if listeners.get(&(arn.clone(), shard.index)).is_some_and(recent) {
                return Err(in_use(&arn, &shard));
            }
            let listener = Listener {
                called_ms: now_ms,
                taken_over: taken_over.clone(),
                ended: ended.clone(),
            };
            if let Some(earlier) = listeners.insert((arn, shard.index), listener) {
                earlier.taken_over.cancel();
            }
        }
        let started = Instant::now();
        Ok(Subscription {
            consumer: consumer.name,
            tip: shard.watch(),
            stream,
            shard,
            format,
            clock: self.clock.clone(),
            position,
            deadline: started + self.manners.subscription_life,
            silent_since: started,
            bucket: (self.manners.limits == Limits::Aws).then(|| Bucket::new(READ_BYTES)),
            taken_over,
            ended,
            phase: Phase::New,
        })
    }

    /// Ends all subscriptions of a consumer.
    pub(super) fn end_listeners(&self, arn: &str) {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners
            .iter()
            .filter(|((one, _), _)| one == arn)
            .for_each(|(_, listener)| listener.end());
    }
}

fn in_use(arn: &str, shard: &Shard) -> ServiceError {
    ServiceError::in_use(format!(
        "Another active subscription exists for this consumer: {arn} on shard {}",
        shard.id
    ))
}

impl Subscription {
    /// The next message of the event stream, as soon as there is one; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        match self.phase {
            Phase::Over => return None,
            Phase::New => {
                self.phase = Phase::Greeted;
                let mut w = Writer::new(self.format);
                w.open_map().close_map();
                return Some(eventstream::event(
                    "initial-response",
                    self.format.content_type(),
                    &w.finish(),
                ));
            }
            Phase::Greeted | Phase::Running => {}
        }
        loop {
            if self.taken_over.is_cancelled() {
                return Some(self.fail_with(&ServiceError::in_use(
                    "Another subscription of this consumer took over the shard.",
                )));
            }
            if self.stream.is_deleted() {
                return Some(self.fail_with(&ServiceError::not_found(format!(
                    "Stream {} was deleted.",
                    self.stream.name
                ))));
            }
            let now = Instant::now();
            if self.ended.is_cancelled() || now >= self.deadline {
                self.phase = Phase::Over;
                return None;
            }
            let now_ms = self.clock.now_ms();
            let debt_ms = self.bucket.as_mut().map_or(0, |bucket| bucket.debt_ms(now_ms));
            let until = if debt_ms == 0 {
                self.tip.borrow_and_update();
                match self.event(now, now_ms) {
                    Ok(Some(event)) => return Some(event),
                    Ok(None) => self.silent_since + SILENCE,
                    Err(error) => return Some(self.fail_with(&error)),
                }
            } else {
                now + Duration::from_millis(debt_ms)
            };
            tokio::select! {
                () = self.taken_over.cancelled() => {}
                () = self.ended.cancelled() => {}
                // The sender lives in the shard, which this subscription holds.
                _ = self.tip.changed(), if debt_ms == 0 => {}
                () = tokio::time::sleep_until(until.min(self.deadline)) => {}
            }
        }
    }

    /// An event, if there is anything to say.
    fn event(&mut self, now: Instant, now_ms: u64) -> Outcome<Option<Vec<u8>>> {
        let mut w = Writer::with_capacity(self.format, 1024);
        w.open_map().key("Records");
        let Self { stream, shard, .. } = &*self;
        let page = reading::read(
            stream,
            shard,
            self.position,
            EVENT_RECORDS_MAX,
            EVENT_BYTES_MAX,
            now_ms,
            &mut w,
        )?;
        let quiet = page.records == 0 && page.ended.is_none();
        if quiet && self.phase == Phase::Running && now < self.silent_since + SILENCE {
            return Ok(None);
        }
        match &page.ended {
            None => {
                let number = shard.before(page.next, now_ms);
                w.key("ContinuationSequenceNumber").text(&number.to_string());
            }
            Some(children) => write_children(&mut w, &stream.state(), children),
        }
        w.key("MillisBehindLatest")
            .integer(page.behind_ms(now_ms))
            .close_map();
        self.position = page.next;
        self.silent_since = now;
        self.phase = if page.ended.is_some() {
            Phase::Over
        } else {
            Phase::Running
        };
        if let Some(bucket) = &mut self.bucket {
            bucket.take(page.bytes as f64, now_ms);
        }
        Ok(Some(eventstream::event(
            "SubscribeToShardEvent",
            self.format.content_type(),
            &w.finish(),
        )))
    }

    /// The names by which a fault may choose it.
    pub(crate) fn names(&self) -> [&str; 3] {
        [&self.stream.name, &self.shard.id, &self.consumer]
    }

    fn fail_with(&mut self, error: &ServiceError) -> Vec<u8> {
        self.fail(&error.code, &error.message)
    }

    /// The error that ends the subscription.
    pub(crate) fn fail(&mut self, code: &str, message: &str) -> Vec<u8> {
        self.phase = Phase::Over;
        let mut w = Writer::new(self.format);
        w.open_map().key("message").text(message).close_map();
        eventstream::exception(code, self.format.content_type(), &w.finish())
    }
}
