//! Subscriptions by script, under a paused clock.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;
use multilangd_core::fetch::fanout::LIFE;
use multilangd_core::ids::{HashRange, Position, SequenceNumber};
use multilangd_core::records::Records;
use multilangd_core::stream::{
    Batch, ChildShard, Event, ShardIterator, StartAt, StreamConsumer, StreamRecord,
};

use super::super::{Fetch, RegistrationSettings, WantedConsumer, WorkerReadAhead};
use super::*;
use crate::stream::{ConsumerName, FanOut, ShardPage, Shards, Stream, StreamDescription};

/// What one call to subscribe leads to.
enum Script {
    Refused(StreamError),
    /// These events, then this end.
    Events(Vec<Event>, End),
    /// The service answers only after so many seconds.
    Slow(u64, End),
    /// No answer, ever.
    NoAnswer,
}

enum End {
    Completed,
    Error(StreamError),
    /// Nothing, for ever.
    Silence,
    /// A record is put every ten seconds, and pushed at once: number 1 at second 10, 2 at 20. At this second the end comes.
    Flow(u64, Box<End>),
}

#[derive(Default)]
struct World {
    scripts: Mutex<VecDeque<Script>>,
    /// Seconds since the beginning, and from where.
    subscribed: Mutex<Vec<(u64, StartAt)>>,
    consumers: Mutex<VecDeque<Result<Option<StreamConsumer>, StreamError>>>,
    registered: Mutex<u32>,
    began: Mutex<Option<Instant>>,
}

#[async_trait]
impl FanOut for World {
    async fn find_consumer(&self, _: ConsumerName<'_>) -> Result<Option<StreamConsumer>, StreamError> {
        let mut answers = self.consumers.lock().unwrap();
        answers
            .pop_front()
            .unwrap_or_else(|| Ok(Some(consumer("ACTIVE"))))
    }

    async fn register_consumer(&self, _: &str, _: &str) -> Result<StreamConsumer, StreamError> {
        *self.registered.lock().unwrap() += 1;
        Ok(consumer("CREATING"))
    }

    async fn subscribe(
        &self,
        _: &str,
        _: &ShardId,
        start: &StartAt,
    ) -> Result<Box<dyn Subscription>, StreamError> {
        let began = self.began.lock().unwrap().expect("begun");
        let seconds = began.elapsed().as_secs();
        let read = match start {
            StartAt::After(number) => number.as_str().parse().unwrap(),
            _ => 0,
        };
        self.subscribed.lock().unwrap().push((seconds, start.clone()));
        let script = self.scripts.lock().unwrap().pop_front();
        match script {
            Some(Script::Refused(error)) => Err(error),
            Some(Script::Events(events, end)) => Ok(Box::new(Scripted {
                events: events.into(),
                end,
                read,
                began,
            })),
            Some(Script::Slow(seconds, end)) => {
                sleep(Duration::from_secs(seconds)).await;
                Ok(Box::new(Scripted {
                    events: VecDeque::new(),
                    end,
                    read,
                    began,
                }))
            }
            Some(Script::NoAnswer) => pending().await,
            None => Ok(Box::new(Scripted {
                events: VecDeque::new(),
                end: End::Silence,
                read,
                began,
            })),
        }
    }
}

struct Scripted {
    events: VecDeque<Event>,
    end: End,
    /// The last record of a flow that this subscription has brought.
    read: u64,
    began: Instant,
}

#[async_trait]
impl Subscription for Scripted {
    async fn next(&mut self) -> Result<Option<Event>, StreamError> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        if let End::Flow(until, _) = self.end {
            let next = (self.read + 1) * 10;
            sleep_until(self.began + Duration::from_secs(next.min(until))).await;
            if next <= until {
                self.read += 1;
                return Ok(Some(event(&self.read.to_string())));
            }
        }
        let mut end = std::mem::replace(&mut self.end, End::Silence);
        if let End::Flow(_, then) = end {
            end = *then;
        }
        match end {
            End::Completed => Ok(None),
            End::Error(error) => Err(error),
            End::Silence => pending().await,
            End::Flow(..) => unreachable!("a flow ends in something else"),
        }
    }
}

#[async_trait]
impl Stream for World {
    fn name(&self) -> &str {
        "s"
    }

    async fn describe(&self) -> Result<StreamDescription, StreamError> {
        Ok(StreamDescription {
            arn: "arn:s".into(),
            is_readable: true,
            status: "ACTIVE".into(),
            open_shards: 1,
        })
    }

    async fn list_shards(&self, _: &ShardPage) -> Result<Shards, StreamError> {
        unreachable!("no subscriber lists shards")
    }

    async fn shard_iterator(&self, _: &ShardId, _: &StartAt) -> Result<Option<ShardIterator>, StreamError> {
        unreachable!("no subscriber polls")
    }

    async fn get_records(&self, _: &ShardIterator, _: u32) -> Result<Batch, StreamError> {
        unreachable!("no subscriber polls")
    }
}

fn consumer(status: &str) -> StreamConsumer {
    StreamConsumer {
        arn: "arn:c".into(),
        is_active: status == "ACTIVE",
        status: status.into(),
    }
}

fn number(text: &str) -> SequenceNumber {
    SequenceNumber::parse(text).unwrap()
}

/// One record whose number is also the continuation.
fn event(text: &str) -> Event {
    Event {
        records: Records::from_iter([StreamRecord {
            sequence_number: number(text),
            partition_key: "k".into(),
            data: bytes::Bytes::from_static(b"d"),
            approximate_arrival_ms: None,
        }]),
        continuation: Some(number(text)),
        millis_behind_latest: Some(0),
        child_shards: Vec::new(),
    }
}

fn last_event() -> Event {
    Event {
        records: Records::default(),
        continuation: None,
        millis_behind_latest: Some(0),
        child_shards: vec![ChildShard {
            id: "child".into(),
            parents: vec!["parent".into()],
            hash_range: HashRange::ALL,
        }],
    }
}

fn read(world: &Arc<World>, wanted: WantedConsumer) -> Fetch {
    read_for(world, wanted, LIFE)
}

/// A world where subscriptions live for so long.
fn read_for(world: &Arc<World>, wanted: WantedConsumer, life: Duration) -> Fetch {
    *world.began.lock().unwrap() = Some(Instant::now());
    let clock = Clock::simulated(1_000_000, 7);
    let registration = Registration::new(
        world.clone(),
        world.clone(),
        wanted,
        RegistrationSettings::default(),
        clock.clone(),
    );
    let place = Place::new(&Position::TrimHorizon, None);
    let waiting = Arc::new(Waiting::new(WorkerReadAhead::new(1 << 20)));
    let (sender, answers) = mpsc::channel(33);
    let subscriber = Subscriber::new(
        registration,
        "parent".into(),
        place,
        sender,
        waiting.clone(),
        clock,
        life,
    );
    Fetch {
        answers,
        taken: None,
        waiting,
        reader: tokio::spawn(subscriber.run()),
    }
}

fn given() -> WantedConsumer {
    WantedConsumer::Arn("arn:c".into())
}

fn named() -> WantedConsumer {
    WantedConsumer::Named {
        name: "c".into(),
        stream_arn: None,
    }
}

fn world(scripts: impl IntoIterator<Item = Script>) -> Arc<World> {
    let world = World::default();
    world.scripts.lock().unwrap().extend(scripts);
    Arc::new(world)
}

/// What came: numbers of records, and `end` for the end.
async fn come(fetch: &mut Fetch, count: usize) -> Vec<String> {
    let mut come = Vec::new();
    while come.len() < count {
        match fetch.next().await {
            Some(Answer::More(batch)) => come.extend(
                batch
                    .records
                    .iter()
                    .map(|record| record.sequence_number.to_string()),
            ),
            Some(Answer::End(_)) => come.push("end".into()),
            None => break,
        }
    }
    come
}

fn after(text: &str) -> StartAt {
    StartAt::After(number(text))
}

fn flow_until(second: u64, then: End) -> End {
    End::Flow(second, Box::new(then))
}

fn numbers(range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn in_use() -> StreamError {
    StreamError::NotActive("in use".into())
}

#[tokio::test(start_paused = true)]
async fn every_end_of_a_subscription_leads_to_one_behind_the_last_event_until_the_shard_ends() {
    let world = world([
        Script::Events(vec![event("1"), event("2")], End::Completed),
        Script::Events(
            vec![event("3")],
            End::Error(StreamError::Unavailable("cut".into())),
        ),
        Script::Refused(StreamError::Throttled("slow".into())),
        Script::Events(vec![event("4"), last_event()], End::Silence),
    ]);
    let mut fetch = read(&world, given());
    assert_eq!(come(&mut fetch, 9).await, ["1", "2", "3", "4", "end"]);
    let starts: Vec<StartAt> = world
        .subscribed
        .lock()
        .unwrap()
        .iter()
        .map(|(_, start)| start.clone())
        .collect();
    assert_eq!(starts, [StartAt::TrimHorizon, after("2"), after("3"), after("3")]);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_says_nothing_for_35_seconds_is_replaced() {
    let world = world([
        Script::Events(vec![event("1")], End::Silence),
        Script::Events(vec![event("2")], End::Silence),
    ]);
    let mut fetch = read(&world, given());
    assert_eq!(come(&mut fetch, 2).await, ["1", "2"]);
    assert_eq!(
        *world.subscribed.lock().unwrap(),
        [(0, StartAt::TrimHorizon), (35, after("1"))]
    );
}

#[tokio::test(start_paused = true)]
async fn a_subscription_is_renewed_while_it_flows_without_a_gap_or_a_repeat() {
    // The second one is slow to begin: the first brings a record or two that the second brings again.
    let world = world([
        Script::Events(vec![], flow_until(300, End::Completed)),
        Script::Slow(14, flow_until(600, End::Completed)),
        Script::Events(vec![], flow_until(900, End::Completed)),
    ]);
    let mut fetch = read(&world, given());
    assert_eq!(come(&mut fetch, 70).await, numbers(1..=70));
    let subscribed = world.subscribed.lock().unwrap().clone();
    for (pair, slow) in subscribed.windows(2).zip([0, 14]) {
        let lived = pair[1].0 - pair[0].0 - slow;
        assert!((240..=285).contains(&lived), "{subscribed:?}");
        assert_eq!(pair[1].1, after(&(pair[1].0 / 10).to_string()));
    }
    assert_eq!(subscribed.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_ends_while_it_is_renewed_is_followed_by_that_one() {
    for end in [End::Completed, End::Error(in_use())] {
        let world = world([
            Script::Events(vec![], flow_until(96, end)),
            Script::Slow(19, flow_until(900, End::Completed)),
            Script::Events(vec![], flow_until(900, End::Completed)),
        ]);
        let mut fetch = read_for(&world, given(), Duration::from_secs(100));
        assert_eq!(come(&mut fetch, 20).await, numbers(1..=20));
        let subscribed = world.subscribed.lock().unwrap().clone();
        assert!((80..=95).contains(&subscribed[1].0), "{subscribed:?}");
        assert!(
            subscribed.get(2).is_none_or(|third| third.0 >= 175),
            "{subscribed:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_costs_nothing() {
    let world = world([
        Script::Events(vec![], flow_until(300, End::Completed)),
        Script::Refused(StreamError::Throttled("slow".into())),
        Script::Events(vec![], flow_until(900, End::Completed)),
    ]);
    let mut fetch = read(&world, given());
    assert_eq!(come(&mut fetch, 50).await, numbers(1..=50));
    let again = world.subscribed.lock().unwrap()[2].clone();
    assert_eq!(again, (300, after("30")), "at once, when the first one ended");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_no_word_of_the_subscription() {
    let world = world([
        Script::Events(vec![], flow_until(60, End::Silence)),
        Script::Refused(StreamError::Throttled("slow".into())),
        Script::Events(vec![], flow_until(900, End::Completed)),
    ]);
    let mut fetch = read_for(&world, given(), Duration::from_secs(100));
    assert_eq!(come(&mut fetch, 15).await, numbers(1..=15));
    let again = world.subscribed.lock().unwrap()[2].clone();
    assert_eq!(again, (95, after("6")), "35 seconds after its last word");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_was_lost_is_not_taken_for_another_worker() {
    let world = world([
        Script::Events(vec![], flow_until(295, End::Error(in_use()))),
        Script::Refused(StreamError::Unavailable("no answer".into())),
        Script::Events(vec![], flow_until(900, End::Completed)),
    ]);
    let mut fetch = read(&world, given());
    assert_eq!(come(&mut fetch, 50).await, numbers(1..=50));
    let again = world.subscribed.lock().unwrap()[2].clone();
    assert!((295..=297).contains(&again.0), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_never_begins_is_given_up() {
    let world = world([Script::NoAnswer, Script::Events(vec![event("1")], End::Silence)]);
    let mut fetch = read(&world, given());
    assert_eq!(come(&mut fetch, 1).await, ["1"]);
    let again = world.subscribed.lock().unwrap()[1].0;
    assert!((20..=21).contains(&again), "after {again} s");
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_somebody_else_took_over_is_left_alone_for_ten_seconds() {
    let world = world([
        Script::Events(vec![event("1")], End::Error(in_use())),
        Script::Events(vec![event("2")], End::Silence),
    ]);
    let mut fetch = read(&world, given());
    assert_eq!(come(&mut fetch, 2).await, ["1", "2"]);
    let again = world.subscribed.lock().unwrap()[1].0;
    assert!((10..=15).contains(&again), "after {again} s");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_too_early_is_tried_again_within_two_seconds() {
    let world = world([
        Script::Refused(in_use()),
        Script::Refused(in_use()),
        Script::Events(vec![event("1")], End::Silence),
    ]);
    let mut fetch = read(&world, given());
    assert_eq!(come(&mut fetch, 1).await, ["1"]);
    let at: Vec<u64> = world.subscribed.lock().unwrap().iter().map(|it| it.0).collect();
    assert!(at[2] <= 3, "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn an_end_without_child_shards_is_not_believed() {
    let mut lie = last_event();
    lie.child_shards.clear();
    let world = world([
        Script::Events(vec![event("1"), lie], End::Silence),
        Script::Events(vec![event("2"), last_event()], End::Silence),
    ]);
    let mut fetch = read(&world, given());
    assert_eq!(come(&mut fetch, 9).await, ["1", "2", "end"]);
    assert_eq!(world.subscribed.lock().unwrap()[1].1, after("1"));
}

#[tokio::test(start_paused = true)]
async fn a_missing_shard_is_finished_and_a_missing_consumer_finishes_none() {
    let not_found = || StreamError::NotFound("no".into());
    let gone = world([Script::Refused(not_found())]);
    assert_eq!(come(&mut read(&gone, given()), 9).await, ["end"]);

    let deregistered = world([
        Script::Refused(not_found()),
        Script::Events(vec![event("1")], End::Silence),
    ]);
    deregistered.consumers.lock().unwrap().extend([
        Ok(Some(consumer("ACTIVE"))),
        Ok(None), // the look after the failure
        Ok(None),
        Ok(Some(consumer("CREATING"))),
    ]);
    assert_eq!(come(&mut read(&deregistered, named()), 1).await, ["1"]);
    assert_eq!(*deregistered.registered.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_missing_consumer_is_registered_once_and_waited_for_through_throttling() {
    let world = world([Script::Events(vec![event("1")], End::Silence)]);
    let throttled = || Err(StreamError::Throttled("slow".into()));
    world.consumers.lock().unwrap().extend([
        throttled(),
        Ok(None),
        Ok(Some(consumer("CREATING"))),
        throttled(),
        Ok(Some(consumer("CREATING"))),
    ]);
    assert_eq!(come(&mut read(&world, named()), 1).await, ["1"]);
    assert_eq!(*world.registered.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_child_that_takes_nothing_costs_one_queue_and_loses_nothing() {
    let numbers: Vec<String> = (1..=100).map(|number| number.to_string()).collect();
    // Each script goes on where the last one was given up: after the 32 that fit.
    let from = |first: usize| {
        Script::Events(
            numbers[first..].iter().map(|it| event(it)).collect(),
            End::Silence,
        )
    };
    let world = world([from(0), from(32)]);
    let mut fetch = read(&world, given());
    sleep(Duration::from_secs(600)).await;
    assert_eq!(
        world.subscribed.lock().unwrap().len(),
        1,
        "given up, and not opened again"
    );
    assert_eq!(fetch.waiting.ahead().batches, 32);
    assert_eq!(come(&mut fetch, 100).await, numbers);
    assert_eq!(world.subscribed.lock().unwrap()[1].1, after("32"));
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_fill_no_queue() {
    let quiet = |text: &str| Event {
        records: Records::default(),
        ..event(text)
    };
    let mut events = vec![event("1")];
    events.extend((2..1000).map(|number| quiet(&number.to_string())));
    let world = world([Script::Events(events, End::Completed)]);
    let fetch = read(&world, given());
    sleep(Duration::from_secs(30)).await;
    assert_eq!(fetch.waiting.ahead().batches, 1);
    assert_eq!(world.subscribed.lock().unwrap()[1].1, after("999"));
}
