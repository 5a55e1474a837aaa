//! A fleet at scale: 10,000 leases on 200 workers, without consumers. How long until all are balanced, what the table
//! is asked, and how long a round of assignment takes the CPU (`docs/BENCHMARKS.md`).
//!
//! Only the lease table is simulated; every worker is the real one, from its start to its discovery.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use multilangd_core::ids::{Position, WorkerId};
use multilangd_core::leader::{self, LockRow};
use multilangd_core::leases::Lease;
use multilangd_core::table::{Item, Value, Write};
use multilangd_engine::clock::Clock;
use multilangd_engine::leases::{LeaseSettings, Leases};
use multilangd_engine::table::{Rows, ScanPage, Table, TableDescription, TableError, TableSettings};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::faults::Dice;
use crate::fleet::NOW_MS;
use crate::table::FakeTable;

/// What one simulation found.
#[derive(Clone, Debug)]
pub struct Step {
    /// What happened.
    pub what: &'static str,
    /// Simulated time until every worker's leases were within a tenth of the mean; `None`: not within the limit.
    pub balanced_in: Option<Duration>,
    /// Simulated time until every lease was held by a living worker; `None`: not within the limit.
    pub held_in: Option<Duration>,
    /// The fewest and the most leases of a worker.
    pub spread: (usize, usize),
    /// The leader's rounds until then: parallel scans of the table.
    pub rounds: u64,
    /// What the table was asked meanwhile, per simulated second.
    pub load: Load,
}

/// Calls and capacity units per second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// All calls.
    pub calls: f64,
    /// Read units: half of one per 4 KB when eventually consistent, one when consistent.
    pub read_units: f64,
    /// Write units: one per KB, of the table and of its index.
    pub write_units: f64,
}

/// Leases and workers.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Leases.
    pub leases: usize,
    /// Workers, before any come or go.
    pub workers: usize,
}

/// The longest that anything may take, in simulated time.
const LIMIT: Duration = Duration::from_secs(900);
/// How often the fleet is looked at.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Meter {
    calls: AtomicU64,
    half_reads: AtomicU64,
    writes: AtomicU64,
    scans: AtomicU64,
}

/// A worker's way to the table, with a meter in it.
struct Metered {
    table: Arc<FakeTable>,
    meter: Arc<Meter>,
    latency: Dice,
}

fn bytes(item: &Item) -> u64 {
    fn of(value: &Value) -> u64 {
        match value {
            Value::S(text) | Value::N(text) => text.len() as u64,
            Value::Ss(set) => set.iter().map(|text| text.len() as u64).sum(),
            Value::B(bytes) => bytes.len() as u64,
            Value::M(map) => map
                .iter()
                .map(|(name, value)| name.len() as u64 + of(value) + 1)
                .sum(),
            Value::L(list) => list.iter().map(|value| of(value) + 1).sum(),
            Value::Bool(_) | Value::Other => 1,
        }
    }
    item.iter()
        .map(|(name, value)| name.len() as u64 + of(value))
        .sum()
}

impl Metered {
    async fn way(&self) {
        self.meter.calls.fetch_add(1, Ordering::Relaxed);
        sleep(self.latency.ms(2, 12)).await;
    }

    fn read(&self, bytes: u64, consistent: bool) {
        let blocks = bytes.div_ceil(4096).max(1);
        let half_units = if consistent { blocks * 2 } else { blocks };
        self.meter.half_reads.fetch_add(half_units, Ordering::Relaxed);
    }
}

#[async_trait]
impl Table for Metered {
    fn name(&self) -> &str {
        "simulated"
    }

    fn key_name(&self) -> &str {
        "leaseKey"
    }

    async fn describe(&self) -> Result<Option<TableDescription>, TableError> {
        self.table.describe().await
    }

    async fn create(&self, settings: &TableSettings) -> Result<(), TableError> {
        self.table.create(settings).await
    }

    async fn create_owner_index(&self) -> Result<(), TableError> {
        self.table.create_owner_index().await
    }

    async fn enable_point_in_time_recovery(&self) -> Result<(), TableError> {
        self.table.enable_point_in_time_recovery().await
    }

    async fn get(&self, key: &str, consistent: bool) -> Result<Option<Item>, TableError> {
        self.way().await;
        let item = self.table.get(key, consistent).await?;
        self.read(item.as_ref().map_or(0, bytes), consistent);
        Ok(item)
    }

    async fn write(&self, write: &Write) -> Result<Option<Item>, TableError> {
        self.way().await;
        let key = write.key("leaseKey").unwrap_or_default();
        let before = self.table.row(key);
        let answer = self.table.apply(write);
        let after = self.table.row(key);
        let size = [&before, &after]
            .into_iter()
            .flatten()
            .map(bytes)
            .max()
            .unwrap_or(0);
        let owner = |row: &Option<Item>| row.as_ref().and_then(|row| row.get("leaseOwner").cloned());
        // An owner that changes is one entry out of the index, and one in.
        let in_index = match (owner(&before), owner(&after)) {
            (old, new) if old == new => 0,
            (Some(_), Some(_)) => 2,
            _ => 1,
        };
        let units = size.div_ceil(1024).max(1) + in_index;
        self.meter.writes.fetch_add(units, Ordering::Relaxed);
        answer
    }

    async fn scan(&self, page: &ScanPage) -> Result<Rows, TableError> {
        self.way().await;
        if page.after.is_none() {
            self.meter.scans.fetch_add(1, Ordering::Relaxed);
        }
        let rows = self.table.scan(page).await?;
        self.read(rows.items.iter().map(bytes).sum(), page.consistent);
        Ok(rows)
    }

    async fn query_owner(&self, owner: &str, after: Option<&Item>) -> Result<Rows, TableError> {
        self.way().await;
        let rows = self.table.query_owner(owner, after).await?;
        self.read(rows.items.iter().map(bytes).sum(), false);
        Ok(rows)
    }
}

type HeldCounts = Arc<Mutex<BTreeMap<WorkerId, usize>>>;

struct Fleet {
    size: Size,
    table: Arc<FakeTable>,
    meter: Arc<Meter>,
    dice: Dice,
    workers: BTreeMap<WorkerId, JoinHandle<()>>,
    /// How many leases each worker holds by what it says itself.
    held: HeldCounts,
    started: usize,
    began: Instant,
}

/// Runs all of it on this thread: a cold start, a lost worker, ten new workers, and then a quiet minute.
pub fn measure(size: Size) -> Vec<Step> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    #[cfg(tokio_unstable)]
    builder.rng_seed(tokio::runtime::RngSeed::from_bytes(b"scale"));
    let runtime = builder.build().expect("a runtime");
    runtime.block_on(async {
        let mut fleet = Fleet::new(size);
        let mut steps = Vec::new();
        for _ in 0..size.workers {
            fleet.start();
        }
        steps.push(fleet.settle("a cold start").await);
        // All have renewed once, so that none of them is waited for.
        sleep(Duration::from_secs(60)).await;
        let last = fleet
            .workers
            .keys()
            .next_back()
            .cloned()
            .expect("there are workers");
        fleet.kill(&last);
        steps.push(fleet.settle("a lost worker (`kill -9`)").await);
        sleep(Duration::from_secs(60)).await;
        let leader = fleet.leader().expect("somebody leads");
        fleet.kill(&leader);
        steps.push(fleet.settle("the leader lost (`kill -9`)").await);
        sleep(Duration::from_secs(60)).await;
        for _ in 0..10 {
            fleet.start();
        }
        steps.push(fleet.settle("ten new workers").await);
        sleep(Duration::from_secs(60)).await;
        steps.push(fleet.quiet_minute().await);
        steps
    })
}

impl Fleet {
    fn new(size: Size) -> Self {
        let table = FakeTable::existing("simulated");
        table.keep_no_calls();
        table.set_latency(Duration::ZERO);
        table.set_index_lag(Duration::from_millis(50));
        // 1 MB of rows.
        table.set_page_max(2500);
        for lease in 0..size.leases {
            let width = u128::MAX / size.leases as u128;
            let start = width * lease as u128;
            let range = multilangd_core::ids::HashRange {
                start,
                end: start + width - 1,
            };
            let key = format!("shardId-{lease:012}");
            let lease = Lease::new(key.into(), Position::TrimHorizon, Default::default(), Some(range));
            table.put(lease.item());
        }
        Self {
            size,
            held: Arc::default(),
            table,
            meter: Arc::default(),
            dice: Dice::new(7),
            workers: BTreeMap::new(),
            started: 0,
            began: Instant::now(),
        }
    }

    /// Starts a worker, as far as its leases go. Hand-offs are done at once: there is no child to wait for.
    fn start(&mut self) {
        let worker = WorkerId::from(format!("worker-{:04}", self.started));
        self.started += 1;
        let now_ms = NOW_MS + self.began.elapsed().as_millis() as i64;
        let clock = Clock::simulated(now_ms, self.started as u64);
        let table = Arc::new(Metered {
            table: self.table.clone(),
            meter: self.meter.clone(),
            latency: self.dice.clone(),
        });
        let settings = LeaseSettings::new(worker.clone(), "simulated");
        let life = tokio::spawn(live(table, clock, settings, self.held.clone()));
        self.workers.insert(worker, life);
    }

    fn kill(&mut self, worker: &WorkerId) {
        if let Some(life) = self.workers.remove(worker) {
            life.abort();
        }
    }

    fn leader(&self) -> Option<WorkerId> {
        let row = LockRow::read(&self.table.row(leader::KEY)?).ok()?;
        Some(row.owner)
    }

    /// Leases by living worker.
    fn counts(&self) -> Vec<usize> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |worker| held.get(worker).copied().unwrap_or_default();
        self.workers.keys().map(of).collect()
    }

    /// The fewest and the most leases of a worker.
    fn spread(&self) -> (usize, usize) {
        let counts = self.counts();
        let (fewest, most) = (counts.iter().min(), counts.iter().max());
        (*fewest.unwrap_or(&0), *most.unwrap_or(&0))
    }

    async fn settle(&mut self, what: &'static str) -> Step {
        let began = Instant::now();
        let before = self.reading();
        let (mut held_in, mut balanced_in) = (None, None);
        while balanced_in.is_none() && began.elapsed() < LIMIT {
            sleep(LOOK).await;
            let counts = self.counts();
            let mean = self.size.leases as f64 / counts.len() as f64;
            let is_near = |count: &usize| (mean * 0.9..=mean * 1.1).contains(&(*count as f64));
            let all_held = counts.iter().sum::<usize>() == self.size.leases;
            if all_held {
                held_in.get_or_insert(began.elapsed());
            }
            if all_held && counts.iter().all(is_near) {
                balanced_in = Some(began.elapsed());
            }
        }
        let (load, rounds) = self.since(before, began.elapsed());
        Step {
            what,
            balanced_in,
            held_in,
            spread: self.spread(),
            rounds,
            load,
        }
    }

    async fn quiet_minute(&mut self) -> Step {
        let before = self.reading();
        let minute = Duration::from_secs(60);
        sleep(minute).await;
        let (load, rounds) = self.since(before, minute);
        Step {
            what: "a quiet minute",
            balanced_in: None,
            held_in: None,
            spread: self.spread(),
            rounds,
            load,
        }
    }

    fn reading(&self) -> [u64; 4] {
        let meter = &self.meter;
        [&meter.calls, &meter.half_reads, &meter.writes, &meter.scans].map(|it| it.load(Ordering::Relaxed))
    }

    fn since(&self, before: [u64; 4], took: Duration) -> (Load, u64) {
        let now = self.reading();
        let per_second = |at: usize| (now[at] - before[at]) as f64 / took.as_secs_f64();
        let load = Load {
            calls: per_second(0),
            read_units: per_second(1) / 2.0,
            write_units: per_second(2),
        };
        (load, now[3] - before[3])
    }
}

/// A worker without consumers. It hands over at once what it is asked for: there is no child to wait for.
async fn live(table: Arc<Metered>, clock: Clock, settings: LeaseSettings, counts: HeldCounts) {
    let me = settings.worker.clone();
    let started = Leases::start(table, clock, settings, CancellationToken::new()).await;
    let leases = started.expect("the simulated table refuses nothing");
    let mut held = leases.held();
    held.mark_changed();
    while held.changed().await.is_ok() {
        let now_held = held.borrow_and_update().clone();
        counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(me.clone(), now_held.len());
        let wanted: Vec<_> = now_held
            .iter()
            .filter(|held| held.hand_over_to.is_some())
            .map(|held| held.tenure.clone())
            .collect();
        for tenure in wanted {
            drop(leases.hand_over(&tenure).await);
        }
    }
}

/// How often a busy shard is checkpointed: the multi-language daemon's pause between two reads.
const CHECKPOINTS: Duration = Duration::from_millis(1500);

/// What one worker asks of the table in a quarter of an hour, alone with so many leases; a busy one checkpoints them all.
pub fn alone(leases: usize, is_busy: bool) -> Load {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let fleet = Fleet::new(Size { leases, workers: 1 });
        let table = Arc::new(Metered {
            table: fleet.table.clone(),
            meter: fleet.meter.clone(),
            latency: fleet.dice.clone(),
        });
        let settings = LeaseSettings::new("worker".into(), "simulated");
        let started = Leases::start(
            table,
            Clock::simulated(NOW_MS, 7),
            settings,
            CancellationToken::new(),
        );
        let worker = started.await.expect("the simulated table refuses nothing");
        let working = is_busy.then(|| tokio::spawn(checkpoint_all(worker.clone())));
        sleep(Duration::from_secs(60)).await;
        assert_eq!(worker.held().borrow().len(), leases);
        let (before, time) = (fleet.reading(), Duration::from_secs(900));
        sleep(time).await;
        let load = fleet.since(before, time).0;
        if let Some(working) = working {
            working.abort();
        }
        load
    })
}

async fn checkpoint_all(worker: Leases) {
    for number in 1_u64.. {
        let next = Instant::now() + CHECKPOINTS;
        let position = Position::parse(&number.to_string(), 0).expect("a number");
        let held = worker.held().borrow().clone();
        for lease in held.iter() {
            worker.record_bytes(&lease.tenure, 1024);
            let stored = worker.checkpoint(&lease.tenure, &position).await;
            stored.expect("nobody else is there");
        }
        sleep_until(next).await;
    }
}

/// The same of a Java worker, by its cadences: what it does in a fleet, and the heartbeat of its lock every 30 s.
pub fn java_alone(leases: usize, is_busy: bool, lease_bytes: u64) -> Load {
    let mut load = java_at_rest(Size { leases, workers: 1 }, lease_bytes);
    let checkpoints = match is_busy {
        true => leases as f64 / CHECKPOINTS.as_secs_f64(),
        false => 0.0,
    };
    // The leader does not read the lock that it holds.
    load.read_units -= 1.0 / 30.0;
    load.calls += checkpoints;
    load.write_units += checkpoints + 1.0 / 30.0;
    load
}

/// CPU time of one round's decisions: to judge what was scanned, and to plan from nothing, and in balance.
pub fn round_cpu(size: Size) -> [Duration; 3] {
    use multilangd_core::assignment::{AssignmentSettings, Observations, Scanned, plan};
    use multilangd_core::rng::Rng;
    use multilangd_core::worker_metrics::WorkerMetrics;
    use std::time::Instant;

    let (settings, mut rng) = (AssignmentSettings::default(), Rng::new(7));
    let name = |worker: usize| WorkerId::from(format!("worker-{worker:04}"));
    let now_s = NOW_MS / 1000;
    let scanned = |owned: bool| {
        let lease = |at: usize| Lease {
            owner: owned.then(|| name(at % size.workers)),
            throughput_kbps: owned.then_some(10.0),
            ..Lease::new(
                format!("shardId-{at:012}").into(),
                Position::TrimHorizon,
                Default::default(),
                None,
            )
        };
        let report = |worker| WorkerMetrics::unmeasured(name(worker), now_s);
        Scanned {
            leases: (0..size.leases).map(lease).collect(),
            reports: (0..size.workers).map(report).collect(),
            began: Instant::now(),
            ended: Instant::now(),
            ended_s: now_s,
        }
    };
    let (nothing, everything) = (scanned(false), scanned(true));
    let mut memory = Observations::default();
    let began = Instant::now();
    let view = memory.look(nothing, None, &settings);
    let looked = began.elapsed();
    let began = Instant::now();
    assert_eq!(plan(&view, &settings, true, &mut rng).len(), size.leases);
    let planned = began.elapsed();
    let mut memory = Observations::default();
    let view = memory.look(everything, None, &settings);
    let began = Instant::now();
    assert_eq!(plan(&view, &settings, true, &mut rng), []);
    [looked, planned, began.elapsed()]
}

/// What a fleet of Java workers in balance asks of its table, by its cadences (`leasing.md 7.1`): renewals every 3308
/// ms, a query of the own keys every 9975 ms, a report every 30 s, the leader's lock read every 30 s by each worker,
/// and an eventually consistent scan every 20 s. `lease_bytes`: the size of one row.
pub fn java_at_rest(size: Size, lease_bytes: u64) -> Load {
    let (leases, workers) = (size.leases as f64, size.workers as f64);
    let renewals = leases / 3.308;
    let queries = workers / 9.975;
    let reports = workers / 30.0;
    let lock = workers / 30.0;
    let table_bytes = leases * lease_bytes as f64;
    // A page is 1 MB; a key in the index has about 60 bytes.
    let scans = (table_bytes / 1e6).ceil() / 20.0;
    let query_units = (leases / workers * 60.0 / 4096.0).ceil() / 2.0;
    Load {
        calls: renewals + queries + reports + lock + scans,
        read_units: queries * query_units + lock + table_bytes / 4096.0 / 2.0 / 20.0,
        write_units: renewals + reports,
    }
}
