//! Retrieval by enhanced fan-out: subscribe to the shard, take what is pushed, subscribe again (`consuming.md 3`).
//! Survives every failure for as long as it lasts; only the shard's end, or being dropped, ends it.
//!
//! Owns the shard's subscription. An event counts as accepted when it waits for the consumer; every further
//! subscription begins behind the last of those, so that nothing is skipped or repeated, however it ended.

use std::sync::Arc;
use std::time::Duration;

use multilangd_core::fetch::fanout::{Ended, Notice, Place, Rhythm, SILENCE_MAX, STALL_MAX};
use multilangd_core::fetch::{Answer, Cursor};
use multilangd_core::ids::ShardId;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, info, warn};

use super::{Registration, Waiting};
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
    answers: mpsc::Sender<Answer>,
    waiting: Arc<Waiting>,
    clock: Clock,
    /// When the service last accepted a subscription.
    subscribed_at: Option<Instant>,
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
        answers: mpsc::Sender<Answer>,
        waiting: Arc<Waiting>,
        clock: Clock,
    ) -> Self {
        Self {
            registration,
            shard,
            place,
            rhythm: Rhythm::default(),
            answers,
            waiting,
            clock,
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
        let opened = self
            .registration
            .fan_out()
            .subscribe(&consumer, &self.shard, &start)
            .await;
        let subscription = match opened {
            Ok(subscription) => subscription,
            Err(error) => return self.failed(error, Ended::InUse, &consumer).await,
        };
        if self.subscribed_at.is_none() {
            info!(shard = %self.shard, from = ?start, "reading by enhanced fan-out");
        } else {
            debug!(shard = %self.shard, from = ?start, "subscribed again");
        }
        self.subscribed_at = Some(self.clock.now());
        match self.take_events(subscription).await {
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

    async fn take_events(&mut self, mut subscription: Box<dyn Subscription>) -> Result<After, StreamError> {
        loop {
            let Ok(event) = timeout(SILENCE_MAX, subscription.next()).await else {
                return Ok(After::Again(Ended::Silent));
            };
            let Some(event) = event? else {
                return Ok(After::Again(Ended::Completed));
            };
            let answer = self
                .place
                .accept(event)
                .map_err(|why| StreamError::Unavailable(why.into()))?;
            let failures = self.rhythm.flows();
            if failures > 1 {
                info!(shard = %self.shard, failures, "reading again");
            }
            if self.says_nothing_new(&answer) {
                continue;
            }
            let (Answer::More(batch) | Answer::End(batch)) = &answer;
            self.waiting.put(batch);
            let is_end = matches!(answer, Answer::End(_));
            if self.answers.send(answer).await.is_err() || is_end {
                return Ok(After::Done);
            }
            if !self.has_room_in_time().await {
                debug!(shard = %self.shard, "the child takes nothing: the subscription is given up until it does");
                return Ok(After::Again(Ended::Stalled));
            }
        }
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
        let answer = Cursor::gone();
        let (Answer::More(batch) | Answer::End(batch)) = &answer;
        self.waiting.put(batch);
        let _ = self.answers.send(answer).await;
        After::Done
    }
}

#[cfg(test)]
mod tests;
