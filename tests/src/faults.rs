//! What goes wrong between a worker and the world: calls that are slow, lost, applied without an answer, applied long
//! after the caller gave up, or throttled; lines that are cut or frozen; workers that are gone.
//!
//! Owns the line of each worker to the shared stream and table. The rows and records themselves are the fakes'.

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use multilangd_core::client_version::Rules;
use multilangd_core::ids::{ShardId, WorkerId};
use multilangd_core::rng::Rng;
use multilangd_core::stream::{Batch, ShardIterator, StartAt};
use multilangd_core::table::{Item, Transaction, Write};
use multilangd_engine::stream::{ShardPage, Shards, Stream, StreamDescription, StreamError};
use multilangd_engine::table::{Rows, ScanPage, Table, TableDescription, TableError, TableSettings};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::fanout::Subscriptions;
use crate::sim::journal::Journal;
use crate::sim::oracle::{Oracle, Writer};
use crate::stream::FakeStream;
use crate::table::FakeTable;

/// Chance, shared by everything in one simulation.
#[derive(Clone, Debug)]
pub struct Dice(Arc<Mutex<Rng>>);

impl Dice {
    /// The dice of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Rng::new(seed))))
    }

    /// A number in `from..to`; `from` where that is empty.
    pub fn between(&self, from: u64, to: u64) -> u64 {
        from + self.roll(|rng| rng.below(to.saturating_sub(from)))
    }

    /// True so many times in a thousand.
    pub fn happens(&self, per_mille: u64) -> bool {
        self.between(0, 1000) < per_mille
    }

    /// A time in `from..to` milliseconds.
    pub fn ms(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.between(from, to))
    }

    /// One of several.
    pub fn one_of<'a, T>(&self, several: &'a [T]) -> Option<&'a T> {
        several.get(self.between(0, several.len() as u64) as usize)
    }

    fn roll<T>(&self, roll: impl FnOnce(&mut Rng) -> T) -> T {
        roll(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How bad it is now, for everybody: chances per thousand calls, and milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// The request never arrives.
    pub lost: u64,
    /// The request is applied, the answer is lost.
    pub unanswered: u64,
    /// The service says: slow down.
    pub throttled: u64,
    /// The request is held up for long, and applied then, whether or not anybody still waits; or its answer is.
    pub held_up: u64,
    /// The longest hold-up.
    pub held_up_ms: u64,
    /// The longest way there, and back.
    pub latency_ms: u64,
}

impl Weather {
    /// Nothing goes wrong, and calls take a few milliseconds.
    pub const FINE: Self = Self {
        lost: 0,
        unanswered: 0,
        throttled: 0,
        held_up: 0,
        held_up_ms: 0,
        latency_ms: 8,
    };

    fn is_bad(&self) -> bool {
        let faults = self.lost + self.unanswered + self.throttled + self.held_up;
        faults > 0 || self.latency_ms > 300
    }

    /// Some weather.
    pub fn any(dice: &Dice) -> Self {
        let severity = *dice.one_of(&[0, 5, 20, 60]).unwrap_or(&0);
        let up_to = |max: u64| dice.between(0, max + 1);
        Self {
            lost: up_to(severity),
            unanswered: up_to(severity),
            throttled: up_to(severity * 2),
            held_up: up_to(severity),
            held_up_ms: up_to(20_000),
            latency_ms: *dice.one_of(&[8, 30, 300, 1500]).unwrap_or(&8),
        }
    }
}

/// The tables of KCL 3.0-3.4.
#[derive(Clone)]
pub struct Legacy {
    /// States and the lock.
    pub coordinator: Arc<FakeTable>,
    /// The workers' metrics.
    pub metrics: Arc<FakeTable>,
}

/// The whole world of a simulation.
pub struct World {
    /// The stream.
    pub stream: Arc<FakeStream>,
    /// Who is subscribed to which shard, where a fleet reads by fan-out.
    pub subscriptions: Subscriptions,
    /// The lease table.
    pub table: Arc<FakeTable>,
    /// The tables of KCL 3.0-3.4 beside it, which most fleets never had.
    pub legacy: Option<Legacy>,
    /// What must hold.
    pub oracle: Oracle,
    /// What happened.
    pub journal: Journal,
    /// Chance.
    pub dice: Dice,
    weather: Mutex<Weather>,
    began: Instant,
}

impl World {
    /// A world in fine weather.
    pub fn new(
        stream: Arc<FakeStream>,
        table: Arc<FakeTable>,
        legacy: Option<Legacy>,
        oracle: Oracle,
        journal: Journal,
        dice: Dice,
    ) -> Arc<Self> {
        stream.set_latency(Duration::ZERO);
        stream.keep_no_calls();
        let beside = legacy
            .iter()
            .flat_map(|legacy| [&legacy.coordinator, &legacy.metrics]);
        for table in beside.chain([&table]) {
            table.set_latency(Duration::ZERO);
            table.keep_no_calls();
        }
        Arc::new(Self {
            stream,
            subscriptions: Subscriptions::default(),
            table,
            legacy,
            oracle,
            journal,
            dice,
            weather: Mutex::new(Weather::FINE),
            began: Instant::now(),
        })
    }

    /// Simulated time since the beginning.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// The weather changes.
    pub fn set_weather(&self, weather: Weather) {
        self.oracle.weather(weather.is_bad(), Instant::now() + RECOVERY);
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    fn weather(&self) -> Weather {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What went wrong before may delay what happens this much later.
const RECOVERY: Duration = Duration::from_secs(30);

/// What becomes of one call.
enum Fate {
    Applied { answered: bool },
    Lost,
    Throttled,
}

/// The line between one worker's life and the world. Cheap to clone; a worker that starts again has a new one.
#[derive(Clone)]
pub struct Line {
    worker: WorkerId,
    world: Arc<World>,
    /// The table at its other end.
    table: Arc<FakeTable>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    cut_until: Option<Instant>,
    frozen_until: Option<Instant>,
    /// When the worker's life ended.
    gone: Option<Instant>,
    rules: Option<watch::Receiver<Rules>>,
}

/// An error that a line can cause.
trait Failure: Send + 'static {
    fn throttled() -> Self;
    fn no_answer() -> Self;
}

impl Failure for TableError {
    fn throttled() -> Self {
        Self::Throttled("simulated".to_owned())
    }

    fn no_answer() -> Self {
        Self::Unknown("simulated: no answer".into())
    }
}

impl Failure for StreamError {
    fn throttled() -> Self {
        Self::Throttled("simulated".to_owned())
    }

    fn no_answer() -> Self {
        Self::Unavailable("simulated: no answer".into())
    }
}

/// A worker that is gone makes no calls; what it had already sent may still arrive, and its tasks have this long to
/// notice.
const LAST_BREATH: Duration = Duration::from_millis(100);

impl Line {
    /// The line of a worker that starts now.
    pub fn new(worker: WorkerId, world: Arc<World>) -> Self {
        Self {
            worker,
            table: world.table.clone(),
            world,
            state: Arc::default(),
        }
    }

    /// The same line, to another table.
    pub fn to(&self, table: &Arc<FakeTable>) -> Self {
        Self {
            table: table.clone(),
            ..self.clone()
        }
    }

    /// Who is at its end.
    pub fn worker(&self) -> &WorkerId {
        &self.worker
    }

    /// Until then every call is lost.
    pub fn cut(&self, until: Instant) {
        self.world.oracle.trouble_until(until + RECOVERY);
        self.with(|state| state.cut_until = Some(until));
    }

    /// Until then nothing gets through in either direction, as while a machine is suspended.
    pub fn freeze(&self, until: Instant) {
        self.world.oracle.trouble_until(until + RECOVERY);
        self.with(|state| state.frozen_until = Some(until));
    }

    /// All is well again.
    pub fn heal(&self) {
        self.with(|state| (state.cut_until, state.frozen_until) = (None, None));
    }

    /// The worker has started, and plays by these rules.
    pub fn plays_by(&self, rules: watch::Receiver<Rules>) {
        self.with(|state| state.rules = Some(rules));
    }

    /// The rules that the worker plays by; `None`: it has not come to have any, or is a model of Java's.
    pub fn rules(&self) -> Option<Rules> {
        self.with(|state| state.rules.as_ref().map(|rules| *rules.borrow()))
    }

    /// The worker is gone: nothing that is left of it may call any more.
    pub fn gone(&self) {
        self.with(|state| _ = state.gone.get_or_insert(Instant::now()));
    }

    /// Whether the worker is gone.
    pub fn is_gone(&self) -> bool {
        self.with(|state| state.gone.is_some())
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What becomes of a call, how long its way takes, and its answer's way back.
    fn fate(&self) -> (Fate, Duration, Duration) {
        let (dice, weather) = (&self.world.dice, self.world.weather());
        let mut way = dice.ms(0, weather.latency_ms.max(1));
        let mut back = dice.ms(0, weather.latency_ms.max(1));
        if self.with(|state| state.cut_until.is_some_and(|until| Instant::now() < until)) {
            return (Fate::Lost, way, back);
        }
        let chances = [
            weather.lost,
            weather.throttled,
            weather.unanswered,
            weather.held_up,
        ];
        let roll = dice.between(0, 1000);
        let mut sum = 0;
        let hit = chances.iter().position(|chance| {
            sum += chance;
            roll < sum
        });
        let fate = match hit {
            Some(0) => Fate::Lost,
            Some(1) => Fate::Throttled,
            Some(2) => Fate::Applied { answered: false },
            Some(_) => {
                let held_up = dice.ms(0, weather.held_up_ms);
                *if dice.happens(500) { &mut way } else { &mut back } += held_up;
                Fate::Applied { answered: true }
            }
            None => Fate::Applied { answered: true },
        };
        (fate, way, back)
    }

    async fn thawed(&self) {
        while let Some(until) = self.with(|state| state.frozen_until.filter(|until| Instant::now() < *until))
        {
            sleep_until(until).await;
        }
    }

    /// The way of every call. What is sent arrives even if the caller stops waiting.
    async fn call<T, E>(
        &self,
        what: &str,
        act: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Failure,
    {
        if let Some(gone) = self.with(|state| state.gone) {
            if gone.elapsed() > LAST_BREATH {
                let worker = &self.worker;
                self.world.journal.violation(format!(
                    "{worker} is gone, and something of it still calls: {what}"
                ));
            }
            return pending().await;
        }
        self.thawed().await;
        let (fate, way, back) = self.fate();
        let no_answer_after = self.world.dice.ms(50, 4000);
        let answer = match fate {
            Fate::Lost => {
                self.world.journal.note(format!("{}: lost: {what}", self.worker));
                sleep(no_answer_after).await;
                Err(E::no_answer())
            }
            Fate::Throttled => {
                self.world
                    .journal
                    .note(format!("{}: throttled: {what}", self.worker));
                sleep(way).await;
                Err(E::throttled())
            }
            Fate::Applied { answered } => {
                let (sender, receiver) = oneshot::channel();
                tokio::spawn(async move {
                    sleep(way).await;
                    drop(sender.send(act.await));
                });
                let answer = receiver.await.unwrap_or_else(|_| Err(E::no_answer()));
                if answered {
                    answer
                } else {
                    self.world
                        .journal
                        .note(format!("{}: unanswered: {what}", self.worker));
                    sleep(no_answer_after).await;
                    Err(E::no_answer())
                }
            }
        };
        sleep(back).await;
        self.thawed().await;
        if self.is_gone() {
            return pending().await;
        }
        answer
    }
}

#[async_trait]
impl Table for Line {
    fn name(&self) -> &str {
        self.table.name()
    }

    fn key_name(&self) -> &str {
        self.table.key_name()
    }

    async fn describe(&self) -> Result<Option<TableDescription>, TableError> {
        let table = self.table.clone();
        self.call("describe table", async move { table.describe().await })
            .await
    }

    async fn create(&self, settings: &TableSettings) -> Result<(), TableError> {
        let (table, settings) = (self.table.clone(), settings.clone());
        self.call("create table", async move { table.create(&settings).await })
            .await
    }

    async fn create_owner_index(&self) -> Result<(), TableError> {
        let table = self.table.clone();
        self.call("create index", async move { table.create_owner_index().await })
            .await
    }

    async fn enable_point_in_time_recovery(&self) -> Result<(), TableError> {
        let table = self.table.clone();
        self.call("enable recovery", async move {
            table.enable_point_in_time_recovery().await
        })
        .await
    }

    async fn get(&self, key: &str, consistent: bool) -> Result<Option<Item>, TableError> {
        let (table, key) = (self.table.clone(), key.to_owned());
        self.call(
            &format!("get {key}"),
            async move { table.get(&key, consistent).await },
        )
        .await
    }

    async fn write(&self, write: &Write) -> Result<Option<Item>, TableError> {
        let (world, table) = (self.world.clone(), self.table.clone());
        let writer = Writer {
            worker: self.worker.clone(),
            sent: Instant::now(),
            takes: self.rules().is_some_and(|rules| !rules.assigns()),
        };
        let write = write.clone();
        let what = format!("write {}", write.key(self.key_name()).unwrap_or_default());
        self.call(&what, async move {
            let key = write.key(table.key_name()).unwrap_or_default().to_owned();
            let before = table.row(&key);
            let answer = table.apply(&write);
            if answer.is_ok() {
                let after = table.row(&key);
                world.oracle.wrote(&writer, &key, before.as_ref(), after.as_ref());
            }
            answer
        })
        .await
    }

    async fn transact(&self, transaction: &Transaction) -> Result<(), TableError> {
        let (world, table, worker) = (self.world.clone(), self.table.clone(), self.worker.clone());
        let transaction = transaction.clone();
        self.call("transact", async move {
            let answer = table.transact(&transaction).await;
            if answer.is_ok() {
                world
                    .journal
                    .note(format!("{worker}: transaction of {} rows", transaction.len()));
            }
            answer
        })
        .await
    }

    async fn scan(&self, page: &ScanPage) -> Result<Rows, TableError> {
        let (table, page) = (self.table.clone(), page.clone());
        self.call("scan", async move { table.scan(&page).await }).await
    }

    async fn query_owner(&self, owner: &str, after: Option<&Item>) -> Result<Rows, TableError> {
        let (table, owner, after) = (self.table.clone(), owner.to_owned(), after.cloned());
        self.call(
            "query",
            async move { table.query_owner(&owner, after.as_ref()).await },
        )
        .await
    }
}

#[async_trait]
impl Stream for Line {
    fn name(&self) -> &str {
        "simulated"
    }

    async fn describe(&self) -> Result<StreamDescription, StreamError> {
        let stream = self.world.stream.clone();
        self.call("describe stream", async move { stream.describe().await })
            .await
    }

    async fn list_shards(&self, page: &ShardPage) -> Result<Shards, StreamError> {
        let (stream, page) = (self.world.stream.clone(), page.clone());
        self.call("list shards", async move { stream.list_shards(&page).await })
            .await
    }

    async fn shard_iterator(
        &self,
        shard: &ShardId,
        start: &StartAt,
    ) -> Result<Option<ShardIterator>, StreamError> {
        let (stream, shard, start) = (self.world.stream.clone(), shard.clone(), start.clone());
        self.call(
            "iterator",
            async move { stream.shard_iterator(&shard, &start).await },
        )
        .await
    }

    async fn get_records(&self, iterator: &ShardIterator, records_max: u32) -> Result<Batch, StreamError> {
        let (stream, iterator) = (self.world.stream.clone(), iterator.clone());
        self.call("records", async move {
            stream.get_records(&iterator, records_max).await
        })
        .await
    }
}
