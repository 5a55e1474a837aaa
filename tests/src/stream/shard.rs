//! One shard of the fake stream: its records, and reading them.

use std::time::Duration;

use multilangd_core::ids::{SequenceNumber, ShardId};
use multilangd_core::stream::{Batch, ChildShard, Shard, ShardIterator, StartAt, StreamRecord};
use multilangd_engine::stream::StreamError;
use tokio::time::Instant;

/// Calls per second and shard.
const CALLS_MAX: usize = 5;
/// Bytes per second and shard.
const BYTES_MAX: usize = 2 * 1024 * 1024;

pub(super) struct FakeShard {
    pub(super) shard: Shard,
    pub(super) records: Vec<StreamRecord>,
    pub(super) children: Vec<ChildShard>,
    pub(super) closed_ms: Option<i64>,
    opened_ms: i64,
    /// The calls of the last second.
    calls: Vec<Instant>,
    /// Paid off at 2 MB per second.
    busy_until: Option<Instant>,
}

impl FakeShard {
    pub(super) fn new(shard: Shard, opened_ms: i64) -> Self {
        Self {
            shard,
            records: Vec::new(),
            children: Vec::new(),
            closed_ms: None,
            opened_ms,
            calls: Vec::new(),
            busy_until: None,
        }
    }

    pub(super) fn was_open_at(&self, epoch_ms: i64) -> bool {
        self.opened_ms <= epoch_ms && self.closed_ms.is_none_or(|closed| epoch_ms < closed)
    }

    /// Which record comes first.
    pub(super) fn index_of(&self, start: &StartAt, newest: &SequenceNumber) -> Result<usize, StreamError> {
        let first = |wanted: &dyn Fn(&StreamRecord) -> bool| {
            self.records.iter().position(wanted).unwrap_or(self.records.len())
        };
        let check = |number: &SequenceNumber| match number > newest {
            true => Err(StreamError::InvalidArgument(format!(
                "sequence number {number} is not of this stream"
            ))),
            false => Ok(()),
        };
        Ok(match start {
            StartAt::TrimHorizon => 0,
            StartAt::Latest => self.records.len(),
            StartAt::Timestamp(epoch_ms) => first(&|it| it.approximate_arrival_ms >= Some(*epoch_ms)),
            StartAt::At(number) => {
                check(number)?;
                first(&|it| it.sequence_number >= *number)
            }
            StartAt::After(number) => {
                check(number)?;
                first(&|it| it.sequence_number > *number)
            }
        })
    }

    /// Counts a call against the limits.
    pub(super) fn take_call(&mut self) -> Result<(), StreamError> {
        let now = Instant::now();
        self.calls
            .retain(|at| now.duration_since(*at) < Duration::from_secs(1));
        let is_busy = self.busy_until.is_some_and(|until| now < until);
        if self.calls.len() >= CALLS_MAX || is_busy {
            return Err(StreamError::Throttled(format!(
                "Rate exceeded for shard {}",
                self.shard.id
            )));
        }
        self.calls.push(now);
        Ok(())
    }

    pub(super) fn read(
        &mut self,
        place: &Place,
        issued: Duration,
        records_max: usize,
        bytes_max: usize,
        now_ms: i64,
    ) -> Batch {
        let mut records = Vec::new();
        let mut bytes = 0;
        for record in self.records.iter().skip(place.index).take(records_max) {
            bytes += record.data.len();
            if bytes > bytes_max && !records.is_empty() {
                break;
            }
            records.push(record.clone());
        }
        self.busy_until = Some(Instant::now() + Duration::from_secs_f64(bytes as f64 / BYTES_MAX as f64));
        let index = place.index + records.len();
        let behind = match self.records.get(index) {
            Some(next) => now_ms - next.approximate_arrival_ms.unwrap_or(now_ms),
            None => 0,
        };
        let is_end = !self.shard.is_open() && index >= self.records.len();
        let next = Place {
            shard: place.shard.clone(),
            index,
            issued,
        };
        Batch {
            records: records.into_iter().collect(),
            next_iterator: (!is_end).then(|| next.iterator()),
            millis_behind_latest: Some(behind),
            child_shards: if is_end { self.children.clone() } else { Vec::new() },
        }
    }
}

/// What an iterator says.
pub(super) struct Place {
    pub(super) shard: ShardId,
    pub(super) index: usize,
    /// When it was handed out, counted from the stream's beginning.
    pub(super) issued: Duration,
}

impl Place {
    pub(super) fn iterator(&self) -> ShardIterator {
        ShardIterator(format!(
            "{} {} {}",
            self.shard,
            self.index,
            self.issued.as_nanos()
        ))
    }

    pub(super) fn read(iterator: &ShardIterator) -> Option<Self> {
        let mut parts = iterator.0.split(' ');
        let (shard, index, issued) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            shard: shard.into(),
            index: index.parse().ok()?,
            issued: Duration::from_nanos(issued.parse().ok()?),
        })
    }
}
