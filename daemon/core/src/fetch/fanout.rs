//! Enhanced fan-out: where a subscription begins, which events to believe, when to subscribe again, and what to do
//! about a consumer that is not there yet (`consuming.md 3`).
//!
//! Owns the place in the shard and the rhythm of its subscriptions; never subscribes.

use std::time::Duration;

use super::{Answer, Beginning, ReadAhead, is_end};
use crate::ids::{Position, SequenceNumber};
use crate::rng::Rng;
use crate::stream::{Batch, Event, StartAt, StreamConsumer};

/// Events that wait for one shard's child, beside the bounds of [`ReadAhead`] in records and bytes. More than batches of
/// polling, because events are small: a record that arrives alone is an event.
pub const EVENTS_MAX: usize = 32;
/// A subscription that nobody can take events from is held for so long: long enough for a child that is about as fast
/// as the shard, short enough not to keep others on the same connection waiting.
pub const STALL_MAX: Duration = Duration::from_secs(2);
/// The service ends a subscription after so long.
pub const LIFE: Duration = Duration::from_secs(300);
/// A subscription that has not begun after so long is given up. Whoever calls the service gives up earlier, if it can.
pub const BEGINNING_MAX: Duration = Duration::from_secs(20);
/// A subscription that says nothing for so long is replaced. The service speaks at least every five to ten seconds.
pub const SILENCE_MAX: Duration = Duration::from_secs(35);
/// The service refuses a second subscription of a consumer to a shard for so long after the first.
const SUBSCRIPTIONS_APART: Duration = Duration::from_secs(5);
/// The pause after somebody else took the shard over. Longer than a lease is renewed without noticing that it is lost:
/// whoever comes back earlier takes the shard from its new owner.
const TAKEN_OVER_PAUSE: Duration = Duration::from_secs(10);
/// The pause before a subscription that was too early is tried again. One call per second is allowed.
const IN_USE_PAUSE: Duration = Duration::from_secs(1);
/// The first pause after a failure, and the longest; doubled in between.
const FAILURE_PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// So many refusals for being too early come with every take-over of a lease; more are worth a word.
const IN_USE_EXPECTED: u32 = 10;

/// A place in a shard that is read by subscriptions.
#[derive(Clone, Debug)]
pub struct Place {
    beginning: Beginning,
    continuation: Option<SequenceNumber>,
    /// Up to here, what a renewed subscription brings was brought by the one before it.
    repeated: Option<SequenceNumber>,
}

impl Place {
    /// Starts at a checkpoint, as [`super::Cursor::new`] does.
    pub fn new(checkpoint: &Position, timestamp_ms: Option<i64>) -> Self {
        Self {
            beginning: Beginning::new(checkpoint, timestamp_ms),
            continuation: None,
            repeated: None,
        }
    }

    /// Where a subscription may begin while another one still flows: behind the last event so far. `None` before the first.
    pub fn renewal(&self) -> Option<StartAt> {
        self.continuation.clone().map(StartAt::After)
    }

    /// From now on that one is read. What the other one brought in the meantime it brings again, to be dropped.
    pub fn renewed(&mut self) {
        self.repeated.clone_from(&self.continuation);
    }

    /// Where to subscribe now: behind the last event that was accepted.
    // Compat: before any event was accepted, this is the start once more. Java asks for what is behind the checkpoint,
    // or for LATEST, as soon as it was connected once: both can skip records.
    pub fn next(&mut self, now_ms: i64) -> StartAt {
        self.beginning.behind(self.continuation.as_ref(), now_ms)
    }

    /// Judges an event and moves on behind it. One whose end cannot be believed is refused with the reason; the next
    /// subscription begins before it.
    pub fn accept(&mut self, mut event: Event) -> Result<Answer, String> {
        let is_end = is_end(event.continuation.is_some(), &event.child_shards)?;
        if let Some(up_to) = &self.repeated {
            // As the service leaves out what lies up to a continuation where a subscription begins behind it.
            event
                .records
                .drop_first_while(|position| matches!(position, Position::At(number, _) if number <= up_to));
        }
        // Never back, which a renewed subscription would.
        if event.continuation > self.continuation {
            self.continuation = event.continuation;
            self.repeated = None;
        }
        let batch = Batch {
            records: event.records,
            next_iterator: None,
            millis_behind_latest: event.millis_behind_latest,
            child_shards: event.child_shards,
        };
        Ok(if is_end {
            Answer::End(batch)
        } else {
            Answer::More(batch)
        })
    }
}

impl ReadAhead {
    /// Whether the next event of a subscription may be taken: as [`ReadAhead::may_fetch`], with [`EVENTS_MAX`].
    pub fn may_take_event(&self, worker_bytes: usize, worker_bytes_max: usize) -> bool {
        self.is_below(EVENTS_MAX, 1) && (self.batches == 0 || worker_bytes < worker_bytes_max)
    }

    /// Whether a new subscription is worth while: half of everything is free, so that it can stay.
    pub fn may_subscribe(&self, worker_bytes: usize, worker_bytes_max: usize) -> bool {
        self.is_below(EVENTS_MAX / 2, 2) && (self.batches == 0 || worker_bytes < worker_bytes_max)
    }
}

/// When a subscription that lives for `life` is renewed: so long after its beginning. The next one is opened while it
/// still flows, so that no record waits for a call to the service. Subscriptions that began together are renewed one by
/// one. `None`: it ends before the service would take another one.
// Compat: Java subscribes again when it was ended.
pub fn renewal(life: Duration, rng: &mut Rng) -> Option<Duration> {
    let eighty_percent = life * 4 / 5;
    let fifteen_percent = life * 3 / 20;
    let after = eighty_percent + Duration::from_millis(rng.below(fifteen_percent.as_millis() as u64 + 1));
    (after > SUBSCRIPTIONS_APART).then_some(after)
}

/// How a subscription ended, or did not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The service ended it in order, as it does after five minutes.
    Completed,
    /// Given up here: the child takes nothing.
    Stalled,
    /// Given up here: nothing came for [`SILENCE_MAX`].
    Silent,
    /// Another subscription of the consumer to this shard took over.
    TakenOver,
    /// Refused: the last subscription to this shard began less than five seconds ago, by whomever.
    InUse,
    /// Everything else.
    Failed,
}

/// When to subscribe again, and what is worth a line in the log.
#[derive(Clone, Debug, Default)]
pub struct Rhythm {
    failures: u32,
    in_use: u32,
    take_overs: u32,
}

/// How loud the end of a subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It belongs to the way of things.
    Quiet,
    /// Something failed, or fails still.
    Failing,
    /// Somebody else reads the shard with our consumer, for longer than a lease needs to move.
    Contended,
}

/// A streak is noticed at its first failure and then once per this many.
const FAILURES_PER_LINE: u32 = 40;

impl Rhythm {
    /// An event came: what went wrong before is over. Answers how many failures that were.
    pub fn flows(&mut self) -> u32 {
        self.in_use = 0;
        std::mem::take(&mut self.failures)
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts an end and says how loud it is.
    pub fn ended(&mut self, ended: Ended) -> Notice {
        match ended {
            Ended::Completed => {
                self.take_overs = 0;
                Notice::Quiet
            }
            Ended::Stalled | Ended::Silent => Notice::Quiet,
            Ended::InUse => {
                self.in_use += 1;
                let over = self.in_use.saturating_sub(IN_USE_EXPECTED);
                loud(over, Notice::Contended)
            }
            Ended::TakenOver => {
                // The first may be the lease's next owner.
                self.take_overs += 1;
                loud(self.take_overs - 1, Notice::Contended)
            }
            Ended::Failed => {
                self.failures += 1;
                loud(self.failures, Notice::Failing)
            }
        }
    }

    /// The pause before the next subscription. `since_subscribed`: since the last one that the service accepted.
    pub fn pause(&self, ended: Ended, since_subscribed: Option<Duration>, rng: &mut Rng) -> Duration {
        let apart =
            since_subscribed.map_or(Duration::ZERO, |since| SUBSCRIPTIONS_APART.saturating_sub(since));
        let mut up_to_half_more =
            |pause: Duration| pause + Duration::from_millis(rng.below(pause.as_millis() as u64 / 2 + 1));
        match ended {
            // Compat: Java subscribes at once, and is refused where the last subscription is not five seconds old.
            Ended::Completed | Ended::Stalled | Ended::Silent => apart,
            Ended::TakenOver => up_to_half_more(TAKEN_OVER_PAUSE),
            Ended::InUse => up_to_half_more(IN_USE_PAUSE),
            Ended::Failed => {
                let (first, longest) = FAILURE_PAUSES;
                let doublings = self.failures.saturating_sub(1).min(10);
                up_to_half_more(first.saturating_mul(1 << doublings).min(longest)).max(apart)
            }
        }
    }
}

/// The first of a streak, and then one in many.
fn loud(count: u32, notice: Notice) -> Notice {
    if count == 1 || (count > 0 && count.is_multiple_of(FAILURES_PER_LINE)) {
        notice
    } else {
        Notice::Quiet
    }
}

/// What to do about the stream consumer (`consuming.md 3.1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registering {
    /// Subscribe with this ARN.
    Use(String),
    /// Register it: there is none.
    Register,
    /// Look again: it is being created or deleted.
    Wait,
}

/// What follows from what the service says about the consumer.
pub fn registering(found: Option<&StreamConsumer>) -> Registering {
    match found {
        None => Registering::Register,
        Some(consumer) if consumer.is_active => Registering::Use(consumer.arn.clone()),
        Some(_) => Registering::Wait,
    }
}

#[cfg(test)]
mod tests;
