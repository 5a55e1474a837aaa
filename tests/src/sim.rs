//! Deterministic simulation: a fleet of real workers over a fake stream, a fake table and fake children, on paused
//! time. One seed decides the fleet, its configuration, and everything that happens to it.
//!
//! 1. Safety: faults are on; the oracle watches each step.
//! 2. Liveness: all is healed, one worker is left, and every shard must catch up within a bound.

pub mod child;
pub mod java;
pub mod journal;
pub mod older;
pub mod oracle;
pub mod scale;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use multilangd_core::assignment::AssignmentSettings;
use multilangd_core::client_version::Configured;
use multilangd_core::deaggregate::hash_key;
use multilangd_core::ids::{SequenceNumber, ShardId, WorkerId};
use multilangd_core::table::{Action, Condition, Value, Write};
use multilangd_engine::clock::Clock;
use tokio::time::{Instant, sleep};

use crate::faults::{Dice, Weather, World};
use crate::fleet::{Fleet, FleetSettings, NOW_MS};
use crate::records::Aggregate;
use crate::stream::FakeStream;
use crate::table::FakeTable;
use child::Health;
use journal::Journal;
use older::Past;
use oracle::{Counts, Oracle, Record};

/// How long one worker may take to catch up once all is healed, failover and lock included, and besides reading.
const CATCH_UP_MAX: Duration = Duration::from_secs(180);
/// How long a worker may take to stop, its grace aside.
const STOP_MAX: Duration = Duration::from_secs(60);
/// Workers at most.
const WORKERS_MAX: u64 = 5;
/// Open shards at most.
const OPEN_SHARDS_MAX: usize = 8;

/// How a simulation went.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What went wrong first.
    pub violation: Option<String>,
    /// What was counted.
    pub counts: Counts,
    /// Simulated time in all.
    pub took: Duration,
    /// How long the last worker took to catch up.
    pub caught_up_in: Duration,
    /// Everything that happened.
    pub journal: Vec<String>,
}

impl Report {
    /// One line.
    pub fn summary(&self) -> String {
        let verdict = match &self.violation {
            None => "held".to_owned(),
            Some(what) => format!("VIOLATED: {}", what.trim()),
        };
        format!(
            "seed {}: {verdict} ({:?} simulated, caught up in {:?}, {:?})",
            self.seed, self.took, self.caught_up_in, self.counts
        )
    }

    /// A number that is the same for the same journal (FNV-1a).
    pub fn fingerprint(&self) -> u64 {
        let bytes = self.journal.iter().flat_map(|line| line.bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

/// Runs the simulation of a seed with a bug planted. What is wrong in the end, if it was found.
#[cfg(planted)]
pub fn simulate_with(bug: multilangd_core::planted::Bug, seed: u64) -> Option<String> {
    multilangd_core::planted::plant(Some(bug));
    let report = simulate(seed);
    multilangd_core::planted::plant(None);
    report.violation
}

/// Runs the simulation of a seed, on this thread.
pub fn simulate(seed: u64) -> Report {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    // Without this, a channel of tokio's wakes its watchers in an order of its own, and a seed tells two stories.
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
    let runtime = builder.build().expect("a runtime");
    runtime.block_on(async {
        let journal = Journal::new();
        let listening = journal.listen();
        let began = Instant::now();
        let mut story = Story::new(seed, journal.clone());
        let caught_up_in = story.tell().await;
        let counts = story.world.oracle.counts();
        drop(story);
        drop(listening);
        Report {
            seed,
            violation: journal.first_violation(),
            counts,
            took: began.elapsed(),
            caught_up_in,
            journal: journal.lines(),
        }
    })
}

struct Story {
    world: Arc<World>,
    fleet: Fleet,
    producer: Producer,
    /// Workers that will start, and when.
    due: BTreeMap<WorkerId, Instant>,
    next_worker: u64,
    stable_ids: bool,
    with_java: bool,
    /// By mistake, an id is used twice.
    with_twins: bool,
    past: Past,
}

fn settings(seed: u64, dice: &Dice) -> FleetSettings {
    let pick = |several: &[u64]| Duration::from_millis(*dice.one_of(several).unwrap_or(&several[0]));
    let failover = pick(&[10_000, 10_000, 10_000, 4_000, 30_000]);
    FleetSettings {
        assignment: AssignmentSettings {
            failover,
            interval: failover * 2,
            report_interval: Duration::from_secs(30),
            graceful_hand_off: dice.happens(800),
            hand_off_timeout: pick(&[30_000, 30_000, 5_000]),
            ..AssignmentSettings::default()
        },
        parent_poll: pick(&[10_000, 1_000]),
        grace: pick(&[5_000, 0, 30_000]),
        // Not by the dice, so that the other fleets' stories stay as they are.
        fan_out: seed % 3 == 1,
        idle: pick(&[1_000, 200]),
        records_max: *dice.one_of(&[10_000, 20, 3]).unwrap_or(&10_000) as u32,
        deliver_empty_batches: dice.happens(300),
        restart_failed_child: dice.happens(300),
        clean_up: pick(&[60_000, 10_000]),
        client_version: Configured::V3,
        migrate: false,
    }
}

impl Story {
    fn new(seed: u64, journal: Journal) -> Self {
        let dice = Dice::new(seed);
        let mut settings = settings(seed, &dice);
        let clock = Clock::simulated(NOW_MS, 0);
        let shards = dice.between(1, OPEN_SHARDS_MAX as u64) as usize;
        let stream = FakeStream::new("simulated", shards, clock);
        stream.set_page_max(dice.between(2, 20) as usize);
        let table = if dice.happens(500) {
            FakeTable::absent("simulated")
        } else {
            FakeTable::existing("simulated")
        };
        table.set_page_max(dice.between(3, 20) as usize);
        table.set_index_lag(dice.ms(0, 3000));
        table.set_creation_times(dice.ms(0, 2000), dice.ms(0, 90_000));
        if dice.happens(200) {
            table.keep_old_rows_back();
        }
        let oracle = Oracle::new(journal.clone(), settings.assignment.failover);
        for shard in stream.shards() {
            oracle.opened(&shard.id, &[]);
        }
        journal.note(format!("seed {seed}: {shards} shards, {settings:?}"));
        let stable_ids = dice.happens(500);
        // Chosen by the seed, so that the other fleets' stories stay as they are.
        let past = Past::of(seed, &dice);
        settings.client_version = past.configured();
        let legacy = past.legacy_tables(&table);
        let world_is_one = legacy.is_none();
        let world = World::new(stream, table, legacy, oracle, journal, dice);
        Self {
            fleet: Fleet::new(world.clone(), settings),
            producer: Producer {
                world: world.clone(),
                of_key: BTreeMap::new(),
            },
            world,
            due: BTreeMap::new(),
            next_worker: 0,
            stable_ids,
            with_java: seed.is_multiple_of(3),
            // Where a fleet moves its metrics, two processes of one id may report in two places.
            with_twins: seed % 5 == 4 && world_is_one,
            past,
        }
    }

    fn failed(&self) -> bool {
        self.world.journal.first_violation().is_some()
    }

    /// Both phases. How long catching up took.
    async fn tell(&mut self) -> Duration {
        let workers = self.world.dice.between(1, WORKERS_MAX);
        for _ in 0..workers {
            let worker = self.new_worker();
            let at = Instant::now() + self.world.dice.ms(0, 5000);
            self.due.insert(worker, at);
        }
        if self.with_java && self.world.dice.happens(500) {
            self.java_starts();
        }
        let events = self.world.dice.between(10, 40) * self.past.length();
        for _ in 0..events {
            let until = Instant::now() + self.world.dice.ms(500, 20_000);
            self.live_until(until).await;
            self.fleet.look_at_twins();
            if self.failed() {
                return Duration::ZERO;
            }
            self.something_happens();
        }
        let caught_up_in = self.catch_up().await;
        if !self.failed() {
            self.end().await;
        }
        caught_up_in
    }

    /// Records are put, workers start when they are due, those that ended start again.
    async fn live_until(&mut self, until: Instant) {
        while Instant::now() < until && !self.failed() {
            let pause = self.world.dice.ms(20, 1500);
            sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
            self.producer.put_some();
            self.look_after_workers().await;
        }
    }

    async fn look_after_workers(&mut self) {
        for ended in self.fleet.ended().await {
            self.restart_soon(ended.worker);
        }
        let now = Instant::now();
        let due: Vec<WorkerId> = self
            .due
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(worker, _)| worker.clone())
            .collect();
        for worker in due {
            self.due.remove(&worker);
            self.fleet.start(&worker);
        }
    }

    fn new_worker(&mut self) -> WorkerId {
        self.next_worker += 1;
        format!("w{}", self.next_worker).into()
    }

    fn restart_soon(&mut self, process: WorkerId) {
        let Some(worker) = self.fleet.to_restart(&process) else {
            return;
        };
        let at = Instant::now() + self.world.dice.ms(0, 30_000);
        let worker = if self.stable_ids {
            worker
        } else {
            self.new_worker()
        };
        self.due.insert(worker, at);
    }

    /// Java workers come and go, in one simulation of three.
    fn java_happens(&mut self) {
        let running = self.fleet.java();
        match running.first() {
            Some(worker) if self.world.dice.happens(300) => self.fleet.end_java(worker),
            None if self.world.dice.happens(400) => self.java_starts(),
            Some(_) | None => {}
        }
    }

    fn java_starts(&mut self) {
        self.next_worker += 1;
        let worker = format!("java{}", self.next_worker).into();
        let makes = self.past.java();
        let make = *self.world.dice.one_of(makes).unwrap_or(&makes[0]);
        self.fleet.start_java(&worker, make);
    }

    fn something_happens(&mut self) {
        let dice = self.world.dice.clone();
        if self.with_java {
            self.java_happens();
        }
        self.past.goes_on(&self.world, &mut self.fleet);
        let workers = self.fleet.workers();
        let somebody = dice.one_of(&workers).cloned();
        if self.with_twins
            && dice.happens(200)
            && let Some(worker) = &somebody
        {
            self.fleet.start_twin(worker);
        }
        match (dice.between(0, 20), somebody) {
            (0..3, Some(worker)) => {
                self.fleet.crash(&worker);
                self.restart_soon(worker);
            }
            (3..5, Some(worker)) => self.fleet.stop(&worker),
            (5..6, Some(worker)) => {
                let until = Instant::now() + dice.ms(500, 40_000);
                self.note(format!("{worker} is frozen"));
                self.fleet.line(&worker).expect("it runs").freeze(until);
            }
            (6..7, Some(worker)) => {
                let until = Instant::now() + dice.ms(500, 40_000);
                self.note(format!("{worker} is cut off"));
                self.fleet.line(&worker).expect("it runs").cut(until);
            }
            (7..8, Some(worker)) => {
                let by = dice.between(0, 240_000) as i64 - 120_000;
                self.fleet.clock_jumps(&worker, by);
            }
            (8..10, _) => {
                let weather = Weather::any(&dice);
                self.note(format!("{weather:?}"));
                self.world.set_weather(weather);
            }
            (10..11, _) => {
                let health = Health {
                    mortal: *dice.one_of(&[0, 0, 50, 300]).unwrap_or(&0),
                    slow: *dice.one_of(&[0, 0, 5, 30]).unwrap_or(&0),
                };
                self.note(format!("{health:?}"));
                self.fleet.set_health(health);
            }
            (11..12, _) => self.world.table.set_index_lag(dice.ms(0, 10_000)),
            (12..13, _) => self.world.stream.expire_iterators(),
            (13..14, _) if workers.len() < WORKERS_MAX as usize => {
                let worker = self.new_worker();
                self.fleet.start(&worker);
            }
            (14..15, _) => self.retention(),
            (15..16, _) => self.strange_rows(),
            (16.., _) => self.reshard(),
            _ => {}
        }
    }

    fn note(&self, what: String) {
        self.world.journal.note(what);
    }

    fn reshard(&mut self) {
        let (stream, dice) = (&self.world.stream, &self.world.dice);
        let mut open: Vec<_> = stream.shards().into_iter().filter(|it| it.is_open()).collect();
        open.sort_by_key(|shard| shard.hash_range.start);
        let splits = open.len() == 1 || (open.len() < OPEN_SHARDS_MAX && dice.happens(500));
        if splits {
            let Some(shard) = dice.one_of(&open) else { return };
            let children = stream.split(&shard.id);
            self.note(format!("{} is split", shard.id));
            for child in &children {
                self.world.oracle.opened(child, &[&shard.id]);
            }
        } else {
            let at = dice.between(0, open.len() as u64 - 1) as usize;
            let (one, other) = (&open[at].id, &open[at + 1].id);
            let child = stream.merge(one, other);
            self.note(format!("{one} and {other} are merged"));
            self.world.oracle.opened(&child, &[one, other]);
        }
    }

    /// A finished shard reaches the end of its retention.
    fn retention(&mut self) {
        let listed: Vec<ShardId> = self.world.stream.shards().into_iter().map(|it| it.id).collect();
        let over: Vec<ShardId> = self
            .world
            .oracle
            .finished()
            .into_iter()
            .filter(|shard| listed.contains(shard))
            .collect();
        if let Some(shard) = self.world.dice.one_of(&over) {
            self.note(format!("{shard} is trimmed"));
            self.world.stream.trim(shard);
            self.world.oracle.trimmed(shard);
        }
    }

    /// A newer peer adds attributes to all leases; an older one has left out what it does not know.
    fn strange_rows(&mut self) {
        let rows = self.world.table.rows();
        let leases: Vec<&String> = rows.keys().filter(|key| key.starts_with("shardId-")).collect();
        let actions = if self.world.dice.happens(500) {
            vec![
                Action::Set("futureText", Value::s("kept")),
                Action::Set("futureFlag", Value::Bool(true)),
                Action::Set("futureList", Value::L(vec![Value::n(1), Value::s("two")])),
            ]
        } else {
            vec![Action::Remove("startingHashKey"), Action::Remove("endingHashKey")]
        };
        self.note(format!("leases become strange: {actions:?}"));
        for key in leases {
            let write = Write::Update {
                key: key.clone(),
                conditions: vec![Condition::Present("leaseKey")],
                actions: actions.clone(),
            };
            drop(self.world.table.apply(&write));
        }
    }

    /// Everything is healed, all workers but one are gone, and that one catches up.
    async fn catch_up(&mut self) -> Duration {
        self.note("all is healed, one worker is left".to_owned());
        self.world.set_weather(Weather::FINE);
        self.world.table.set_index_lag(Duration::ZERO);
        self.fleet.set_health(Health::default());
        self.fleet.heal();
        for worker in self.fleet.java() {
            self.fleet.end_java(&worker);
        }
        self.due.clear();
        let mut waited = Duration::ZERO;
        while self.fleet.has_twins() && !self.failed() {
            sleep(Duration::from_secs(1)).await;
            waited += Duration::from_secs(1);
            self.fleet.ended().await;
            self.fleet.look_at_twins();
        }
        self.fleet.end_unseen_twins();
        if !waited.is_zero() {
            self.note(format!("one process for each worker after {waited:?}"));
        }
        let mut workers = self.fleet.workers();
        if workers.is_empty() {
            let worker = self.new_worker();
            self.fleet.start(&worker);
            workers.push(worker);
        }
        let last = self.world.dice.between(0, workers.len() as u64) as usize;
        for (place, worker) in workers.iter().enumerate() {
            match (place == last, self.world.dice.happens(500)) {
                (true, _) => {}
                (false, true) => self.fleet.crash(worker),
                (false, false) => self.fleet.stop(worker),
            }
        }
        let began = Instant::now();
        let limit = CATCH_UP_MAX + self.reading_time();
        while let Some(behind) = self.world.oracle.behind() {
            if began.elapsed() > limit {
                self.world
                    .journal
                    .violation(format!("still behind after {limit:?}: {behind}"));
            }
            if self.failed() {
                break;
            }
            sleep(Duration::from_millis(100)).await;
            // A child that was mortal, or a stop that was under way, may still end the last worker.
            for ended in self.fleet.ended().await {
                if ended.worker == workers[last] {
                    self.fleet.start(&ended.worker);
                }
            }
        }
        began.elapsed()
    }

    /// How long it takes to read what is left, if no two shards are read at the same time.
    fn reading_time(&self) -> Duration {
        let settings = self.fleet.settings();
        let batches = self.world.oracle.undelivered() as u32 / settings.records_max + 1;
        settings.idle * batches
    }

    /// The last worker stops, and leaves nothing of itself behind.
    async fn end(&mut self) {
        for worker in self.fleet.workers() {
            self.fleet.stop(&worker);
        }
        let began = Instant::now();
        while !self.fleet.workers().is_empty() {
            if began.elapsed() > STOP_MAX {
                self.world
                    .journal
                    .violation(format!("{:?} did not stop", self.fleet.workers()));
                return;
            }
            sleep(Duration::from_millis(100)).await;
            self.fleet.ended().await;
        }
        // Whatever is left of a worker has time to show.
        sleep(Duration::from_secs(60)).await;
        if let Some(wrong) = self.past.is_lost(&self.world) {
            self.world.journal.violation(wrong);
        }
    }
}

/// Puts records, each with its number within its key.
struct Producer {
    world: Arc<World>,
    of_key: BTreeMap<String, u64>,
}

/// Different partition keys.
const KEYS: u64 = 24;

impl Producer {
    fn put_some(&mut self) {
        let dice = self.world.dice.clone();
        for _ in 0..dice.between(0, 6) {
            let key = format!("key-{}", dice.between(0, KEYS));
            if dice.happens(150) {
                self.put_aggregate(&key);
            } else {
                let of_key = self.next(&key);
                let (shard, number) = self.world.stream.put(&key, format!("{key} {of_key}"));
                self.world
                    .oracle
                    .put(&shard, vec![record(&number, 0, &key, of_key)]);
            }
        }
    }

    /// A few records of keys that belong to the same shard.
    fn put_aggregate(&mut self, first: &str) {
        let dice = self.world.dice.clone();
        let shard = self.world.stream.shard_of(hash_key(first));
        let neighbours: Vec<String> = (0..KEYS)
            .map(|key| format!("key-{key}"))
            .filter(|key| self.world.stream.shard_of(hash_key(key)) == shard)
            .collect();
        let mut aggregate = Aggregate::new();
        let mut keys = Vec::new();
        for _ in 0..dice.between(1, 5) {
            let key = dice
                .one_of(&neighbours)
                .cloned()
                .unwrap_or_else(|| first.to_owned());
            let of_key = self.next(&key);
            aggregate = aggregate.record(&key, format!("{key} {of_key}").as_bytes());
            keys.push((key, of_key));
        }
        let (shard, number) = self.world.stream.put(first, aggregate.data());
        let records = keys.iter().enumerate();
        let records = records.map(|(sub, (key, of_key))| record(&number, sub as u64, key, *of_key));
        self.world.oracle.put(&shard, records.collect());
    }

    fn next(&mut self, key: &str) -> u64 {
        let next = self.of_key.entry(key.to_owned()).or_default();
        *next += 1;
        *next - 1
    }
}

fn record(number: &SequenceNumber, sub: u64, key: &str, of_key: u64) -> Record {
    Record {
        number: number.clone(),
        sub,
        key: key.to_owned(),
        of_key,
    }
}
