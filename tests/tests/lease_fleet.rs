//! Fleets of lease holders over one table, with crashes, stops, newcomers and a failing table, by seed: no shard is
//! ever held twice, no checkpoint moves back, and in the end every shard is held.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use multilangd_core::ids::{Position, ShardId};
use multilangd_core::leases::Lease;
use multilangd_core::rng::Rng;
use multilangd_engine::clock::Clock;
use multilangd_engine::leases::{LeaseSettings, Leases, Tenure};
use multilangd_tests::table::{Call, FakeTable, Fault};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const SHARDS: usize = 8;
const WORKERS_MAX: usize = 4;
/// A worker that died without a lease still counts as active until its report is 60 s old, and a lease that it was given
/// then waits an assignment interval for it.
const LIVENESS_MAX: Duration = Duration::from_secs(85);

#[test]
fn no_shard_is_held_twice_whatever_happens() {
    let seeds = match std::env::var("LEASE_SEEDS")
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
    {
        Some(seeds) => 0..seeds,
        None => 0..8,
    };
    for seed in seeds {
        run(seed);
    }
}

fn run(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut fleet = Fleet::new(seed);
        fleet.safety_phase().await;
        fleet.liveness_phase().await;
    });
}

struct Worker {
    leases: Leases,
    consumers: AbortHandle,
}

struct Fleet {
    seed: u64,
    began: Instant,
    rng: Rng,
    table: Arc<FakeTable>,
    is_stormy: Arc<AtomicBool>,
    workers: BTreeMap<String, Worker>,
    /// Starting, or leaving; the latter still hold leases and are watched too.
    tasks: JoinSet<Option<(String, Leases)>>,
    leaving: Vec<(String, Leases)>,
    born: usize,
    checkpoints: BTreeMap<String, Position>,
}

impl Fleet {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let table = FakeTable::existing("app");
        table.set_index_lag(Duration::from_millis(rng.below(800)));
        if rng.below(2) == 0 {
            table.keep_old_rows_back();
        }
        for index in 0..SHARDS {
            let lease = Lease::new(
                format!("s-{index}").as_str().into(),
                at(0),
                Default::default(),
                None,
            );
            table.apply(&lease.create()).unwrap();
        }
        let is_stormy = Arc::new(AtomicBool::new(false));
        let (storm, mut dice) = (is_stormy.clone(), Rng::new(seed ^ 0xface));
        table.set_faults(move |_| {
            let late = Duration::from_millis(dice.below(6_000));
            let odds = if storm.load(Ordering::Relaxed) { 8 } else { 200 };
            match dice.below(odds) {
                0 => Some(Fault::Lost),
                1 => Some(Fault::AppliedUnanswered),
                2 => Some(Fault::Throttled),
                3 => Some(Fault::AnswerAfter(late)),
                4 => Some(Fault::AppliedAfter(late)),
                _ => None,
            }
        });
        Self {
            seed,
            began: Instant::now(),
            rng,
            table,
            is_stormy,
            workers: BTreeMap::new(),
            tasks: JoinSet::new(),
            leaving: Vec::new(),
            born: 0,
            checkpoints: BTreeMap::new(),
        }
    }

    async fn safety_phase(&mut self) {
        for _ in 0..4_000 {
            sleep(Duration::from_millis(50)).await;
            self.welcome();
            match self.rng.below(400) {
                0 => self.crash(),
                1 => self.stop(),
                2..=5 => self.start(),
                6 => self.is_stormy.store(true, Ordering::Relaxed),
                7..=10 => self.is_stormy.store(false, Ordering::Relaxed),
                _ => {}
            }
            self.check();
        }
    }

    async fn liveness_phase(&mut self) {
        self.table.heal();
        if self.workers.is_empty() {
            self.start();
        }
        let healed = Instant::now();
        loop {
            sleep(Duration::from_millis(50)).await;
            self.welcome();
            self.check();
            let held: usize = self
                .workers
                .values()
                .map(|worker| worker.leases.held().borrow().len())
                .sum();
            if held == SHARDS {
                break;
            }
            assert!(
                healed.elapsed() < LIVENESS_MAX,
                "seed {}: {held} of {SHARDS} shards held by {:?}:\n{}",
                self.seed,
                self.workers.keys(),
                self.show()
            );
        }
    }

    fn start(&mut self) {
        if self.workers.len() + self.tasks.len() >= WORKERS_MAX {
            return;
        }
        self.born += 1;
        let name = format!("w{}", self.born);
        let epoch_ms = 1_789_000_000_000 + self.began.elapsed().as_millis() as i64;
        let clock = Clock::simulated(epoch_ms, self.rng.next_u64());
        let settings = LeaseSettings::new(name.as_str().into(), "app");
        let starting = Leases::start(self.table.clone(), clock, settings, CancellationToken::new());
        self.tasks
            .spawn(async move { Some((name, starting.await.unwrap())) });
    }

    fn welcome(&mut self) {
        while let Some(done) = self.tasks.try_join_next() {
            if let Some((name, leases)) = done.unwrap() {
                let consumers = consume(leases.clone(), self.rng.next_u64());
                self.workers.insert(name, Worker { leases, consumers });
            }
        }
    }

    fn any(&mut self) -> Option<String> {
        let index = self.rng.below(self.workers.len() as u64) as usize;
        self.workers.keys().nth(index).cloned()
    }

    fn crash(&mut self) {
        if let Some(worker) = self.any().and_then(|name| self.workers.remove(&name)) {
            worker.consumers.abort();
        }
    }

    fn stop(&mut self) {
        let Some(name) = self.any() else { return };
        let Some(worker) = self.workers.remove(&name) else {
            return;
        };
        worker.consumers.abort();
        self.leaving.push((name, worker.leases.clone()));
        self.tasks.spawn(async move {
            let stopped = timeout(Duration::from_secs(120), worker.leases.stop()).await;
            assert!(stopped.is_ok(), "a stop that does not end");
            None
        });
    }

    fn show(&self) -> String {
        let row = |(key, item): (&String, &multilangd_core::table::Item)| match Lease::read(item) {
            Ok(lease) => format!(
                "{key}: {:?} {:?} {}\n",
                lease.owner, lease.checkpoint_owner, lease.counter
            ),
            Err(_) => format!("{key}: {:?} {:?}\n", item.get("ownerName"), item.get("lut")),
        };
        self.table.rows().iter().map(row).collect()
    }

    /// The last calls about a row, for a reader of a failure.
    fn history(&self, key: &str) -> String {
        let calls = self.table.calls();
        let about: Vec<_> = calls.iter().filter(|(_, call)| call.is_about(key)).collect();
        let line = |(at, call): &&(Instant, Call)| format!("{:?} {call:?}\n", *at - self.began);
        about[about.len().saturating_sub(30)..].iter().map(line).collect()
    }

    fn check(&mut self) {
        self.leaving
            .retain(|(_, leases)| !leases.held().borrow().is_empty());
        let mut holders: BTreeMap<ShardId, &String> = BTreeMap::new();
        let running = self.workers.iter().map(|(name, worker)| (name, &worker.leases));
        for (name, leases) in running.chain(self.leaving.iter().map(|(name, leases)| (name, leases))) {
            for held in leases.held().borrow().iter() {
                if let Some(other) = holders.insert(held.tenure.shard.clone(), name) {
                    panic!(
                        "seed {}: {} is held by {other} and {name} at {:?}:\n{}",
                        self.seed,
                        held.tenure.shard,
                        self.began.elapsed(),
                        self.history(held.tenure.shard.as_str()),
                    );
                }
            }
        }
        for (key, item) in self.table.rows() {
            let Ok(lease) = Lease::read(&item) else { continue };
            let before = self.checkpoints.insert(key.clone(), lease.checkpoint.clone());
            let is_back = before.is_some_and(|before| before > lease.checkpoint);
            assert!(!is_back, "seed {}: the checkpoint of {key} moved back", self.seed);
        }
    }
}

/// Plays a worker's consumers: checkpoints forward from where each tenure began, and hands over what is asked for.
fn consume(leases: Leases, seed: u64) -> AbortHandle {
    let mut rng = Rng::new(seed);
    let playing = tokio::spawn(async move {
        let mut reached: BTreeMap<Tenure, u64> = BTreeMap::new();
        let mut asked: BTreeMap<Tenure, Instant> = BTreeMap::new();
        loop {
            sleep(Duration::from_millis(rng.below(500))).await;
            let held = leases.held().borrow().clone();
            for held in held.iter() {
                let began = || held.lease.checkpoint.text().parse().unwrap();
                let position = reached.entry(held.tenure.clone()).or_insert_with(began);
                if leases.checkpoint(&held.tenure, &at(*position + 1)).await.is_ok() {
                    *position += 1;
                }
                if held.hand_over_to.is_some() {
                    let since = asked.entry(held.tenure.clone()).or_insert_with(Instant::now);
                    if since.elapsed() > Duration::from_secs(1) {
                        drop(leases.hand_over(&held.tenure).await);
                    }
                }
            }
        }
    });
    playing.abort_handle()
}

fn at(number: u64) -> Position {
    Position::parse(&number.to_string(), 0).unwrap()
}
