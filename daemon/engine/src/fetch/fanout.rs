//! Retrieval by enhanced fan-out: subscribe to the shard, take what is pushed, subscribe again (`consuming.md 3`).
//! Survives every failure for as long as it lasts; only the shard's end, or being dropped, ends it.
//!
//! Owns the shard's subscription. An event counts as accepted when it waits for the consumer; every further
//! subscription begins behind the last of those, so that nothing is skipped or repeated, however it ended.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use multilangd_core::fetch::fanout::{
    BEGINNING_MAX, Ended, Notice, Place, Rhythm, SILENCE_MAX, STALL_MAX, renewal,
};
use multilangd_core::fetch::{Answer, Cursor};
use multilangd_core::ids::ShardId;
use multilangd_core::stream::StartAt;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{debug, error, info, warn};

use super::{Fetched, Registration, Waiting};
use crate::clock::Clock;
use crate::stream::{StreamError, Subscription};

/// The bound that all shards share has no bell: it is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The task that reads one shard.
pub(super) struct Subscriber {
    registration: Registration,
    shard: ShardId,
    place: Place,
    rhythm: Rhythm,
    answers: mpsc::Sender<Box<Fetched>>,
    waiting: Arc<Waiting>,
    clock: Clock,
    /// When the service ends a subscription.
    life: Duration,
    /// When the service last accepted a subscription.
    subscribed_at: Option<Instant>,
}

type Opening = Pin<Box<dyn Future<Output = Result<Box<dyn Subscription>, StreamError>> + Send>>;

/// The subscription after one that still flows.
enum Next {
    /// To be opened then.
    At(Instant),
    /// Being opened.
    Opening(Opening),
    /// Tried, and failed: the service may have heard it.
    Tried,
    /// To be opened when this one has ended.
    Later,
}

/// What happened to it.
enum Turn {
    Due,
    Opened(Result<Box<dyn Subscription>, StreamError>),
}

impl Next {
    /// Waits for it. Cancel-safe: goes on where it was.
    async fn turn(&mut self) -> Turn {
        match self {
            Self::At(when) => {
                sleep_until(*when).await;
                Turn::Due
            }
            Self::Opening(opening) => Turn::Opened(opening.await),
            Self::Tried | Self::Later => pending().await,
        }
    }
}

/// What follows after a subscription.
enum After {
    /// Another one.
    Again(Ended),
    /// Nothing: the shard is read to its end, or nobody listens.
    Done,
}

impl Subscriber {
    pub(super) fn new(
        registration: Registration,
        shard: ShardId,
        place: Place,
        answers: mpsc::Sender<Box<Fetched>>,
        waiting: Arc<Waiting>,
        clock: Clock,
        life: Duration,
    ) -> Self {
        Self {
            registration,
            shard,
            place,
            rhythm: Rhythm::default(),
            answers,
            waiting,
            clock,
            life,
            subscribed_at: None,
        }
    }

    pub(super) async fn run(mut self) {
        while let After::Again(ended) = self.subscription().await {
            debug!(shard = %self.shard, ?ended, "the subscription is over");
            let since_subscribed = self.subscribed_at.map(|at| self.clock.now().duration_since(at));
            let pause = self
                .clock
                .chance(|rng| self.rhythm.pause(ended, since_subscribed, rng));
            sleep(pause).await;
            while !self.waiting.may_subscribe() {
                let _ = timeout(LOOK_AGAIN, self.waiting.taken.notified()).await;
            }
        }
    }

    /// One subscription, from its beginning to its end.
    async fn subscription(&mut self) -> After {
        let consumer = self.registration.arn().await;
        let start = self.place.next(self.clock.epoch_ms());
        let subscription = match self.open(&consumer, start.clone()).await {
            Ok(subscription) => subscription,
            Err(error) => return self.failed(error, Ended::InUse, &consumer).await,
        };
        if self.subscribed_at.is_none() {
            info!(shard = %self.shard, from = ?start, "reading by enhanced fan-out");
        } else {
            debug!(shard = %self.shard, from = ?start, "subscribed again");
        }
        self.subscribed_at = Some(self.clock.now());
        match self.take_events(subscription, &consumer).await {
            Ok(After::Done) => After::Done,
            Ok(After::Again(ended)) => {
                if self.rhythm.ended(ended) == Notice::Failing {
                    warn!(shard = %self.shard, ?ended, "the subscription is opened again");
                }
                After::Again(ended)
            }
            Err(error) => self.failed(error, Ended::TakenOver, &consumer).await,
        }
    }

    /// Asks the service for a subscription. A promise of its own, so that another one can be read in the meantime.
    fn open(&self, consumer: &Arc<str>, start: StartAt) -> Opening {
        let (registration, consumer, shard) =
            (self.registration.clone(), consumer.clone(), self.shard.clone());
        Box::pin(async move {
            let opening = registration.fan_out().subscribe(&consumer, &shard, &start);
            timeout(BEGINNING_MAX, opening).await.unwrap_or_else(|_| {
                Err(StreamError::Unavailable(
                    "the subscription did not begin in time".into(),
                ))
            })
        })
    }

    /// When the one that just began is to be renewed.
    fn next(&self) -> Next {
        match self.clock.chance(|rng| renewal(self.life, rng)) {
            Some(after) => Next::At(self.clock.now() + after),
            None => Next::Later,
        }
    }

    /// Reads a subscription, and those that renew it, until one ends.
    async fn take_events(
        &mut self,
        mut subscription: Box<dyn Subscription>,
        consumer: &Arc<str>,
    ) -> Result<After, StreamError> {
        let mut next = self.next();
        let mut heard = self.clock.now();
        loop {
            let event = tokio::select! {
                biased;
                turn = next.turn() => {
                    next = match turn {
                        Turn::Due => match self.place.renewal() {
                            Some(start) => Next::Opening(self.open(consumer, start)),
                            None => Next::Later,
                        },
                        Turn::Opened(Ok(renewed)) => {
                            subscription = renewed;
                            heard = self.clock.now();
                            self.renewed()
                        }
                        Turn::Opened(Err(error)) => {
                            debug!(shard = %self.shard, %error, "the subscription is not renewed before it ends");
                            Next::Tried
                        }
                    };
                    continue;
                }
                event = timeout_at(heard + SILENCE_MAX, subscription.next()) => event,
            };
            let event = match event {
                Ok(Ok(Some(event))) => event,
                over => {
                    if let Next::Opening(opening) = &mut next {
                        if let Ok(renewed) = opening.await {
                            subscription = renewed;
                            heard = self.clock.now();
                            next = self.renewed();
                            continue;
                        }
                        next = Next::Tried;
                    }
                    return match (over, next) {
                        (Err(_), _) => Ok(After::Again(Ended::Silent)),
                        // By ourselves, although we were not told.
                        (Ok(Err(StreamError::NotActive(_))), Next::Tried) => Ok(After::Again(Ended::InUse)),
                        (Ok(Err(error)), _) => Err(error),
                        (Ok(Ok(_)), _) => Ok(After::Again(Ended::Completed)),
                    };
                }
            };
            let answer = self
                .place
                .accept(event)
                .map_err(|why| StreamError::Unavailable(why.into()))?;
            heard = self.clock.now();
            let failures = self.rhythm.flows();
            if failures > 1 {
                info!(shard = %self.shard, failures, "reading again");
            }
            if self.says_nothing_new(&answer) {
                continue;
            }
            let is_end = matches!(answer, Answer::End(_));
            if self.answers.send(self.waiting.put(answer)).await.is_err() || is_end {
                return Ok(After::Done);
            }
            if !self.has_room_in_time().await {
                debug!(shard = %self.shard, "the child takes nothing: the subscription is given up until it does");
                return Ok(After::Again(Ended::Stalled));
            }
            // While nobody listened, it could say nothing.
            heard = self.clock.now();
        }
    }

    /// Another subscription goes on, in the place of the one that was read.
    fn renewed(&mut self) -> Next {
        debug!(shard = %self.shard, "the subscription is renewed");
        self.place.renewed();
        self.rhythm.ended(Ended::Completed);
        self.subscribed_at = Some(self.clock.now());
        self.next()
    }

    /// An empty event that would wait behind others: a quiet shard with a slow child fills no queue.
    fn says_nothing_new(&self, answer: &Answer) -> bool {
        matches!(answer, Answer::More(batch) if batch.records.is_empty()) && self.waiting.ahead().batches > 0
    }

    /// Whether the next event may be taken, before the subscription was held for too long.
    async fn has_room_in_time(&self) -> bool {
        let room = async {
            while !self.waiting.may_take_event() {
                let _ = timeout(LOOK_AGAIN, self.waiting.taken.notified()).await;
            }
        };
        timeout(STALL_MAX, room).await.is_ok()
    }

    /// Reacts to an error. `in_use`: what it means that the consumer is subscribed to the shard by somebody else.
    async fn failed(&mut self, error: StreamError, in_use: Ended, consumer: &Arc<str>) -> After {
        let ended = match error {
            StreamError::NotActive(_) => in_use,
            StreamError::NotFound(_) => match self.registration.is_gone(consumer).await {
                Ok(false) => return self.shard_is_gone().await,
                Ok(true) | Err(_) => Ended::Failed,
            },
            StreamError::Throttled(_)
            | StreamError::ExpiredIterator
            | StreamError::InvalidArgument(_)
            | StreamError::Unavailable(_)
            | StreamError::Refused(_) => Ended::Failed,
        };
        match self.rhythm.ended(ended) {
            Notice::Quiet => debug!(shard = %self.shard, ?ended, %error, "subscribing again"),
            Notice::Contended => warn!(
                shard = %self.shard, %consumer, %error,
                "somebody else reads this shard with the same stream consumer: if this goes on, another application uses \
                 it; each needs its own fanoutConfig.consumerName"
            ),
            Notice::Failing => self.say(&error, consumer),
        }
        After::Again(ended)
    }

    fn say(&self, error: &StreamError, consumer: &str) {
        let failures = self.rhythm.failures();
        match error {
            StreamError::Refused(_) => {
                error!(shard = %self.shard, failures, %error, "reading was refused, trying again: check the worker's \
                    rights to subscribe with {consumer}");
            }
            StreamError::InvalidArgument(_) => {
                error!(shard = %self.shard, failures, %error, "reading was refused, trying again: if the stream was \
                    deleted and created anew, stop the application and delete its leases");
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

    /// The end, without records and children.
    // Compat: only where the consumer is there. Java takes a consumer that was deregistered for the end of every shard.
    async fn shard_is_gone(&self) -> After {
        warn!(shard = %self.shard, "the stream has no such shard any more: its end is taken as reached");
        let _ = self.answers.send(self.waiting.put(Cursor::gone())).await;
        After::Done
    }
}

#[cfg(test)]
mod tests;
