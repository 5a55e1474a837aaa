//! A Kinesis stream in memory: shards that split, merge and are trimmed, iterators that expire, limits, and faults on
//! request. Time is tokio's, so that a paused clock makes everything about it repeatable.

mod shard;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use multilangd_core::deaggregate::hash_key;
use multilangd_core::ids::{HashRange, SequenceNumber, ShardId};
use multilangd_core::stream::{Batch, ChildShard, Shard, ShardFilter, ShardIterator, StartAt, StreamRecord};
use multilangd_engine::clock::Clock;
use multilangd_engine::stream::{ShardPage, Shards, Stream, StreamDescription, StreamError};
use tokio::time::{Instant, sleep};

use shard::{FakeShard, Place};

/// One call, as a fault decider sees it.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `DescribeStreamSummary`.
    Describe,
    /// `ListShards`.
    ListShards(ShardPage),
    /// `GetShardIterator`.
    Iterator(ShardId, StartAt),
    /// `GetRecords` from this shard.
    Records(ShardId),
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The service says: slow down.
    Throttled,
    /// No answer, or a 5xx.
    Unavailable,
    /// The service says that the stream is not active.
    NotActive,
    /// The service says that there is no such thing.
    NotFound,
    /// The iterator has expired.
    ExpiredIterator,
    /// An argument is refused.
    InvalidArgument,
    /// Access denied.
    Refused,
    /// The answer takes this much longer.
    AnswerAfter(Duration),
}

type Decider = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

/// The stream. Cheap to share: `Arc<FakeStream>`.
pub struct FakeStream {
    name: String,
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    shards: BTreeMap<ShardId, FakeShard>,
    /// Shards so far, trimmed ones included: the number of the next.
    created: usize,
    /// Sequence numbers so far.
    numbered: u64,
    /// What arrived before is gone.
    horizon_ms: i64,
    deleted: bool,
    latency: Duration,
    page_max: usize,
    limits: bool,
    began: Instant,
    /// Iterators handed out before do not work any more.
    iterators_valid_from: Duration,
    faults: Option<Decider>,
    calls: Vec<(Instant, Call)>,
    keeps_calls: bool,
}

/// Shard iterators live this long.
const ITERATOR_LIFE: Duration = Duration::from_secs(300);
/// The most that one answer holds.
const ANSWER_RECORDS_MAX: usize = 10_000;
/// The most bytes that one answer holds (10 MB), but at least one record.
const ANSWER_BYTES_MAX: usize = 10 * 1024 * 1024;

impl FakeStream {
    /// A stream whose shards cover the hash keys evenly.
    pub fn new(name: &str, shards: usize, clock: Clock) -> Arc<Self> {
        assert!(shards > 0, "a stream has shards");
        let now = clock.epoch_ms();
        let mut state = State {
            shards: BTreeMap::new(),
            created: 0,
            numbered: 0,
            horizon_ms: now,
            deleted: false,
            latency: Duration::from_millis(5),
            page_max: 1000,
            limits: false,
            began: Instant::now(),
            iterators_valid_from: Duration::ZERO,
            faults: None,
            calls: Vec::new(),
            keeps_calls: true,
        };
        let width = u128::MAX / shards as u128;
        for place in 0..shards as u128 {
            let end = if place + 1 == shards as u128 {
                u128::MAX
            } else {
                width * (place + 1) - 1
            };
            let start = width * place;
            state.open(HashRange { start, end }, &[], now);
        }
        Arc::new(Self {
            name: name.to_owned(),
            clock,
            state: Mutex::new(state),
        })
    }

    /// Every call takes this long; 5 ms unless set.
    pub fn set_latency(&self, latency: Duration) {
        self.with(|state| state.latency = latency);
    }

    /// Shards per page of a listing; 1000 unless set.
    pub fn set_page_max(&self, shards: usize) {
        self.with(|state| state.page_max = shards);
    }

    /// Limits readers of a shard to five calls and 2 MB per second, as Kinesis does. Off unless set.
    pub fn set_limits(&self, limits: bool) {
        self.with(|state| state.limits = limits);
    }

    /// Decides what goes wrong, call by call, until it is replaced.
    pub fn set_faults(&self, decide: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        self.with(|state| state.faults = Some(Box::new(decide)));
    }

    /// Every call fails like this, until healed.
    pub fn fail_always(&self, fault: Fault) {
        self.set_faults(move |_| Some(fault));
    }

    /// So many calls fail like this; nothing else does.
    pub fn fail_next(&self, mut times: usize, fault: Fault) {
        self.set_faults(move |_| {
            let fails = times > 0;
            times = times.saturating_sub(1);
            fails.then_some(fault)
        });
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.with(|state| state.faults = None);
    }

    /// Every call so far, in order, with its time.
    pub fn calls(&self) -> Vec<(Instant, Call)> {
        self.with(|state| state.calls.clone())
    }

    /// Keeps no calls from now on: a long simulation makes millions.
    pub fn keep_no_calls(&self) {
        self.with(|state| state.keeps_calls = false);
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.with(|state| state.calls.clear());
    }

    /// Every iterator handed out so far has expired.
    pub fn expire_iterators(&self) {
        self.with(|state| state.iterators_valid_from = state.began.elapsed() + Duration::from_nanos(1));
    }

    /// Puts a record where its partition key belongs.
    pub fn put(&self, partition_key: &str, data: impl Into<Bytes>) -> (ShardId, SequenceNumber) {
        let shard = self.shard_of(hash_key(partition_key));
        let number = self.put_into(&shard, partition_key, data);
        (shard, number)
    }

    /// Puts a record into an open shard, whatever its partition key.
    pub fn put_into(&self, shard: &ShardId, partition_key: &str, data: impl Into<Bytes>) -> SequenceNumber {
        let now = self.clock.epoch_ms();
        self.with(|state| {
            let number = state.next_number();
            let into = state.shards.get_mut(shard).expect("a shard of the stream");
            assert!(into.shard.is_open(), "{shard} is closed");
            into.records.push(StreamRecord {
                sequence_number: number.clone(),
                partition_key: partition_key.to_owned(),
                data: data.into(),
                approximate_arrival_ms: Some(now),
            });
            number
        })
    }

    /// The open shard that takes this hash key.
    pub fn shard_of(&self, hash_key: u128) -> ShardId {
        let takes = |shard: &&Shard| shard.is_open() && shard.hash_range.contains(hash_key);
        self.shards()
            .iter()
            .find(takes)
            .expect("open shards cover every hash key")
            .id
            .clone()
    }

    /// All shards that are not gone, by id.
    pub fn shards(&self) -> Vec<Shard> {
        self.with(|state| state.shards.values().map(|it| it.shard.clone()).collect())
    }

    /// Closes an open shard and opens two that halve its range.
    pub fn split(&self, shard: &ShardId) -> [ShardId; 2] {
        let now = self.clock.epoch_ms();
        self.with(|state| {
            let HashRange { start, end } = state.range(shard);
            let middle = start + (end - start) / 2;
            let low = state.open(HashRange { start, end: middle }, &[shard], now);
            let high = state.open(
                HashRange {
                    start: middle + 1,
                    end,
                },
                &[shard],
                now,
            );
            state.close(shard, &[&low, &high], now);
            [low, high]
        })
    }

    /// Closes two neighbouring open shards and opens one that covers both.
    pub fn merge(&self, one: &ShardId, other: &ShardId) -> ShardId {
        let now = self.clock.epoch_ms();
        self.with(|state| {
            let (a, b) = (state.range(one), state.range(other));
            assert!(
                a.start.max(b.start) == a.end.min(b.end) + 1,
                "{one} and {other} are no neighbours"
            );
            let (start, end) = (a.start.min(b.start), a.end.max(b.end));
            let merged = state.open(HashRange { start, end }, &[one, other], now);
            state.close(one, &[&merged], now);
            state.close(other, &[&merged], now);
            merged
        })
    }

    /// The shard is gone with its records, as after its retention.
    pub fn trim(&self, shard: &ShardId) {
        let now = self.clock.epoch_ms();
        self.with(|state| {
            state.shards.remove(shard).expect("a shard of the stream");
            state.horizon_ms = now;
        });
    }

    /// The stream is gone.
    pub fn delete(&self) {
        self.with(|state| state.deleted = true);
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The frame of every call: log, latency, faults.
    async fn call<T>(
        &self,
        call: Call,
        act: impl FnOnce(&mut State) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        let (fault, latency) = self.with(|state| {
            if state.keeps_calls {
                state.calls.push((Instant::now(), call.clone()));
            }
            let fault = state.faults.as_mut().and_then(|decide| decide(&call));
            (fault, state.latency)
        });
        if !latency.is_zero() {
            sleep(latency).await;
        }
        match fault {
            Some(Fault::Throttled) => return Err(StreamError::Throttled("injected".to_owned())),
            Some(Fault::Unavailable) => return Err(StreamError::Unavailable("injected".into())),
            Some(Fault::NotActive) => return Err(StreamError::NotActive("injected".to_owned())),
            Some(Fault::NotFound) => return Err(StreamError::NotFound("injected".to_owned())),
            Some(Fault::ExpiredIterator) => return Err(StreamError::ExpiredIterator),
            Some(Fault::InvalidArgument) => return Err(StreamError::InvalidArgument("injected".to_owned())),
            Some(Fault::Refused) => return Err(StreamError::Refused("injected".into())),
            Some(Fault::AnswerAfter(late)) => sleep(late).await,
            None => {}
        }
        self.with(|state| {
            if state.deleted {
                return Err(StreamError::NotFound(format!("stream {}", self.name)));
            }
            act(state)
        })
    }
}

impl State {
    fn next_number(&mut self) -> SequenceNumber {
        self.numbered += 1;
        number(self.numbered)
    }

    fn range(&self, shard: &ShardId) -> HashRange {
        let shard = &self.shards.get(shard).expect("a shard of the stream").shard;
        assert!(shard.is_open(), "{} is closed", shard.id);
        shard.hash_range
    }

    fn open(&mut self, hash_range: HashRange, parents: &[&ShardId], now_ms: i64) -> ShardId {
        let id = ShardId::from(format!("shardId-{:012}", self.created));
        self.created += 1;
        let shard = Shard {
            id: id.clone(),
            parent: parents.first().map(|&id| id.clone()),
            adjacent_parent: parents.get(1).map(|&id| id.clone()),
            hash_range,
            starting_sequence_number: self.next_number(),
            ending_sequence_number: None,
        };
        self.shards.insert(id.clone(), FakeShard::new(shard, now_ms));
        id
    }

    fn close(&mut self, shard: &ShardId, children: &[&ShardId], now_ms: i64) {
        let ending = self.next_number();
        let child = |id: &&ShardId| {
            let child = &self.shards[*id].shard;
            ChildShard {
                id: child.id.clone(),
                parents: child.parents().cloned().collect(),
                hash_range: child.hash_range,
            }
        };
        let children = children.iter().map(child).collect();
        let closed = self.shards.get_mut(shard).expect("a shard of the stream");
        closed.shard.ending_sequence_number = Some(ending);
        closed.closed_ms = Some(now_ms);
        closed.children = children;
    }

    fn list(&self, filter: Option<ShardFilter>, after: Option<&ShardId>) -> Shards {
        let wanted = |it: &&FakeShard| match filter {
            None => true,
            Some(ShardFilter::AtLatest) => it.shard.is_open(),
            Some(ShardFilter::AtTrimHorizon) => it.was_open_at(self.horizon_ms),
            Some(ShardFilter::AtTimestamp(epoch_ms)) => it.was_open_at(epoch_ms.max(self.horizon_ms)),
        };
        let mut rest = self
            .shards
            .values()
            .filter(wanted)
            .filter(|it| after.is_none_or(|after| it.shard.id > *after));
        let shards: Vec<Shard> = rest
            .by_ref()
            .take(self.page_max)
            .map(|it| it.shard.clone())
            .collect();
        let next_token = match (shards.last(), rest.next()) {
            (Some(last), Some(_)) => Some(token(filter, &last.id)),
            (_, None) | (None, _) => None,
        };
        Shards { shards, next_token }
    }

    fn shard(&mut self, id: &ShardId) -> Result<&mut FakeShard, StreamError> {
        self.shards
            .get_mut(id)
            .ok_or_else(|| StreamError::NotFound(format!("shard {id}")))
    }
}

/// As long as Kinesis' own, and in order.
fn number(count: u64) -> SequenceNumber {
    let digits = format!("49590338271490256608559692{count:030}");
    SequenceNumber::parse(&digits).expect("digits")
}

fn token(filter: Option<ShardFilter>, after: &ShardId) -> String {
    let filter = match filter {
        None => "all".to_owned(),
        Some(ShardFilter::AtLatest) => "latest".to_owned(),
        Some(ShardFilter::AtTrimHorizon) => "horizon".to_owned(),
        Some(ShardFilter::AtTimestamp(epoch_ms)) => epoch_ms.to_string(),
    };
    format!("{filter} {after}")
}

fn read_token(token: &str) -> Option<(Option<ShardFilter>, ShardId)> {
    let (filter, after) = token.split_once(' ')?;
    let filter = match filter {
        "all" => None,
        "latest" => Some(ShardFilter::AtLatest),
        "horizon" => Some(ShardFilter::AtTrimHorizon),
        epoch_ms => Some(ShardFilter::AtTimestamp(epoch_ms.parse().ok()?)),
    };
    Some((filter, after.into()))
}

#[async_trait]
impl Stream for FakeStream {
    fn name(&self) -> &str {
        &self.name
    }

    async fn describe(&self) -> Result<StreamDescription, StreamError> {
        self.call(Call::Describe, |state| {
            let open = state.shards.values().filter(|it| it.shard.is_open()).count();
            Ok(StreamDescription {
                arn: format!("arn:aws:kinesis:us-east-1:000000000000:stream/{}", self.name),
                is_readable: true,
                status: "ACTIVE".to_owned(),
                open_shards: open as u32,
            })
        })
        .await
    }

    async fn list_shards(&self, page: &ShardPage) -> Result<Shards, StreamError> {
        self.call(Call::ListShards(page.clone()), |state| match page {
            ShardPage::First(filter) => Ok(state.list(*filter, None)),
            ShardPage::Next(token) => match read_token(token) {
                Some((filter, after)) => Ok(state.list(filter, Some(&after))),
                None => Err(StreamError::InvalidArgument(format!("token {token}"))),
            },
        })
        .await
    }

    async fn shard_iterator(
        &self,
        shard: &ShardId,
        start: &StartAt,
    ) -> Result<Option<ShardIterator>, StreamError> {
        self.call(Call::Iterator(shard.clone(), start.clone()), |state| {
            let newest = number(state.numbered);
            let index = state.shard(shard)?.index_of(start, &newest)?;
            let place = Place {
                shard: shard.clone(),
                index,
                issued: state.began.elapsed(),
            };
            Ok(Some(place.iterator()))
        })
        .await
    }

    async fn get_records(&self, iterator: &ShardIterator, records_max: u32) -> Result<Batch, StreamError> {
        let place = Place::read(iterator)
            .ok_or_else(|| StreamError::InvalidArgument(format!("iterator {iterator:?}")))?;
        let now_ms = self.clock.epoch_ms();
        self.call(Call::Records(place.shard.clone()), |state| {
            let (now, valid_from, limits) = (state.began.elapsed(), state.iterators_valid_from, state.limits);
            let shard = state.shard(&place.shard)?;
            if place.issued < valid_from || now > place.issued + ITERATOR_LIFE {
                return Err(StreamError::ExpiredIterator);
            }
            if limits {
                shard.take_call()?;
            }
            let records_max = ANSWER_RECORDS_MAX.min(records_max as usize);
            Ok(shard.read(&place, now, records_max, ANSWER_BYTES_MAX, now_ms))
        })
        .await
    }
}

#[cfg(test)]
mod tests;
