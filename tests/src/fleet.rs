//! Many workers over one world: started, crashed, stopped and started again.
//!
//! Owns the lives of the workers. What happens to them is decided by the story in [`crate::sim`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use multilangd_core::assignment::AssignmentSettings;
use multilangd_core::client_version::{Configured, Rules};
use multilangd_core::fetch::PaceSettings;
use multilangd_core::fetch::fanout::LIFE;
use multilangd_core::ids::WorkerId;
use multilangd_core::leases::Lease;
use multilangd_core::shards::InitialPosition;
use multilangd_engine::child::SessionSettings;
use multilangd_engine::clock::Clock;
use multilangd_engine::consumer::{ConsumerSettings, Surroundings};
use multilangd_engine::fetch::{
    FetchSettings, Registration, RegistrationSettings, WantedConsumer, WorkerReadAhead,
};
use multilangd_engine::leases::{LeaseSettings, Leases, LegacyTables};
use multilangd_engine::shards::{ShardSettings, Shards};
use multilangd_engine::worker::{Exit, Worker, WorkerSettings};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fanout::Pushed;
use crate::faults::{Line, World};
use crate::sim::child::{Health, SimulatedChildren};
use crate::sim::java::{JavaWorker, Make};

/// What simulated time begins at, in milliseconds since the epoch.
pub const NOW_MS: i64 = 1_789_000_000_000;

/// How the fleet is configured: the same for each of its workers, as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetSettings {
    /// How leases are assigned.
    pub assignment: AssignmentSettings,
    /// `parentShardPollIntervalMillis`.
    pub parent_poll: Duration,
    /// `shutdownGraceMillis`.
    pub grace: Duration,
    /// By enhanced fan-out instead of polling.
    pub fan_out: bool,
    /// `idleTimeBetweenReadsInMillis`.
    pub idle: Duration,
    /// `maxRecords`.
    pub records_max: u32,
    /// `callProcessRecordsEvenForEmptyRecordList`.
    pub deliver_empty_batches: bool,
    /// Children that fail are started again, instead of ending their worker.
    pub restart_failed_child: bool,
    /// How soon finished leases are cleaned up.
    pub clean_up: Duration,
    /// `clientVersionConfig`.
    pub client_version: Configured,
    /// `migrateAllEntitiesToLeaseTable`.
    pub migrate: bool,
}

/// How long a move into the lease table bakes; the configuration allows an hour at least.
const MIGRATION_BAKE: Duration = Duration::from_secs(60);
/// How long two processes of one id may both run where each could see it.
const TWINS_MAX: Duration = Duration::from_secs(300);
/// What is added to the name of a second process of one id.
const TWIN: &str = "'";

/// How a worker's life ended by itself.
#[derive(Debug)]
pub struct Ended {
    /// Who.
    pub worker: WorkerId,
    /// How.
    pub how: Result<Exit, String>,
}

/// The workers that run.
pub struct Fleet {
    world: Arc<World>,
    settings: FleetSettings,
    health: Arc<Mutex<Health>>,
    running: BTreeMap<WorkerId, Running>,
    java: BTreeMap<WorkerId, (Line, JoinHandle<()>)>,
    /// The ids that two processes had at some time.
    pairs: BTreeSet<WorkerId>,
    /// When two processes of an id were last seen to leave no sign of it.
    unseen: BTreeMap<WorkerId, Instant>,
}

struct Running {
    began: Instant,
    line: Line,
    clock: Clock,
    stop: CancellationToken,
    life: JoinHandle<Result<Exit, String>>,
}

impl Fleet {
    /// Nobody, at first.
    pub fn new(world: Arc<World>, settings: FleetSettings) -> Self {
        Self {
            world,
            settings,
            health: Arc::default(),
            running: BTreeMap::new(),
            java: BTreeMap::new(),
            pairs: BTreeSet::new(),
            unseen: BTreeMap::new(),
        }
    }

    /// How children are that start from now on.
    pub fn set_health(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// Workers that start from now on are configured for these rules.
    pub fn set_client_version(&mut self, configured: Configured) {
        self.settings.client_version = configured;
    }

    /// Workers that start from now on move everything into the lease table.
    pub fn set_migrate(&mut self) {
        self.settings.migrate = true;
    }

    /// How it is configured.
    pub fn settings(&self) -> &FleetSettings {
        &self.settings
    }

    /// Who runs.
    pub fn workers(&self) -> Vec<WorkerId> {
        self.running.keys().cloned().collect()
    }

    /// Starts a worker, unless one of this id runs.
    pub fn start(&mut self, worker: &WorkerId) {
        if self.running.contains_key(worker) {
            return;
        }
        self.world.journal.note(format!("{worker}: starts"));
        self.start_process(worker, worker);
    }

    /// Starts a second process of a worker's id, by somebody's mistake.
    pub fn start_twin(&mut self, worker: &WorkerId) {
        let worker = &id_of(worker);
        let process = twin_of(worker);
        if self.running.contains_key(worker) && !self.running.contains_key(&process) {
            self.world
                .journal
                .note(format!("{worker}: starts a second time, as {process}"));
            self.pairs.insert(worker.clone());
            self.world.oracle.has_twins(worker);
            self.start_process(&process, worker);
        }
    }

    /// Whether two processes of one id run, and leave a sign of it.
    pub fn has_twins(&self) -> bool {
        self.twins().any(|(worker, _)| self.is_seen(worker))
    }

    /// Ends the second ones of those that nothing shows to each other.
    pub fn end_unseen_twins(&mut self) {
        let unseen = self.twins().filter(|(worker, _)| !self.is_seen(worker));
        let second: Vec<WorkerId> = unseen.map(|(worker, _)| twin_of(worker)).collect();
        for process in second {
            self.crash(&process);
        }
    }

    /// Whether something in the table shows two processes of an id to each other: a report under it, or a lease that they
    /// work on. By the rules of 2.x nobody reports, and where there are more workers than shards some have no lease.
    /// One that has only begun counts as seen: it looks for the other.
    fn is_seen(&self, worker: &WorkerId) -> bool {
        let processes = [worker, &twin_of(worker)].map(|process| self.running.get(process));
        let rules = processes
            .into_iter()
            .flatten()
            .map(|running| running.line.rules());
        let mut reports = rules.map(|rules| rules.is_none_or(Rules::reports));
        let has_leases = || {
            let rows = self.world.table.rows();
            let mut leases = rows.values().filter_map(|row| Lease::read(row).ok());
            leases.any(|lease| lease.actual_owner() == Some(worker))
        };
        reports.any(|reports| reports) || has_leases()
    }

    /// The processes of one id, and since when both run.
    fn twins(&self) -> impl Iterator<Item = (&WorkerId, Instant)> {
        self.running.iter().filter_map(|(process, running)| {
            let other = self.running.get(&twin_of(process))?;
            Some((process, running.began.max(other.began)))
        })
    }

    /// Two processes of one id do not both go on, once there is a sign of it.
    pub fn look_at_twins(&mut self) {
        let twins: Vec<_> = self
            .twins()
            .map(|(worker, since)| (worker.clone(), since))
            .collect();
        for (worker, both_since) in twins {
            if !self.is_seen(&worker) {
                self.unseen.insert(worker, Instant::now());
                continue;
            }
            let unseen = self.unseen.get(&worker);
            let took = unseen
                .map_or(both_since, |unseen| both_since.max(*unseen))
                .elapsed();
            if took > TWINS_MAX {
                self.world
                    .journal
                    .violation(format!("two processes of {worker} go on after {took:?}"));
            }
        }
    }

    fn start_process(&mut self, process: &WorkerId, worker: &WorkerId) {
        self.world.oracle.lives(worker, true);
        let line = Line::new(worker.clone(), self.world.clone());
        let now_ms = NOW_MS + i64::try_from(self.world.age().as_millis()).unwrap_or(0);
        let clock = Clock::simulated(now_ms, self.world.dice.between(0, u64::MAX));
        let stop = CancellationToken::new();
        let life = tokio::spawn(work(
            self.world.clone(),
            line.clone(),
            clock.clone(),
            self.settings.clone(),
            self.health.clone(),
            stop.clone(),
        ));
        let running = Running {
            began: Instant::now(),
            line,
            clock,
            stop,
            life,
        };
        self.running.insert(process.clone(), running);
    }

    /// Starts a model of a Java worker.
    pub fn start_java(&mut self, worker: &WorkerId, make: Make) {
        self.world
            .journal
            .note(format!("{worker}: starts, in Java, as {make:?}"));
        self.world.oracle.is_java(worker);
        let line = Line::new(worker.clone(), self.world.clone());
        let failover = self.settings.assignment.failover;
        let java = JavaWorker::new(self.world.clone(), line.clone(), failover, make);
        self.java
            .insert(worker.clone(), (line, tokio::spawn(java.live())));
    }

    /// The Java workers that run.
    pub fn java(&self) -> Vec<WorkerId> {
        self.java.keys().cloned().collect()
    }

    /// Ends a Java worker: killed or stopped, it leaves its leases as they are.
    pub fn end_java(&mut self, worker: &WorkerId) {
        if let Some((line, life)) = self.java.remove(worker) {
            self.world.journal.note(format!("{worker}: ends, in Java"));
            line.gone();
            life.abort();
        }
    }

    /// Ends a worker as `kill -9` does: nothing of it goes on.
    pub fn crash(&mut self, worker: &WorkerId) {
        if let Some(running) = self.running.remove(worker) {
            self.world.journal.note(format!("{worker}: crashes"));
            self.is_gone(worker);
            running.line.gone();
            running.life.abort();
        }
    }

    /// A process is no more; its worker neither, unless another process has its id.
    fn is_gone(&self, process: &WorkerId) {
        if !self.running.keys().any(|other| same_id(other, process)) {
            self.world.oracle.lives(&id_of(process), false);
        }
    }

    /// Who is to start again after a process has ended: nobody, where another process has its id.
    pub fn to_restart(&self, process: &WorkerId) -> Option<WorkerId> {
        let is_replaced = self.running.keys().any(|other| same_id(other, process));
        (!is_replaced).then(|| id_of(process))
    }

    /// Asks a worker to stop, as SIGTERM does. It ends by itself.
    pub fn stop(&self, worker: &WorkerId) {
        if let Some(running) = self.running.get(worker) {
            self.world.journal.note(format!("{worker}: is asked to stop"));
            running.stop.cancel();
        }
    }

    /// The line of a worker that runs.
    pub fn line(&self, worker: &WorkerId) -> Option<&Line> {
        self.running.get(worker).map(|running| &running.line)
    }

    /// Sets a worker's wall clock forward or back.
    pub fn clock_jumps(&self, worker: &WorkerId, by_ms: i64) {
        if let Some(running) = self.running.get(worker) {
            self.world
                .journal
                .note(format!("{worker}: its clock jumps by {by_ms} ms"));
            running.clock.jump(by_ms);
        }
    }

    /// Heals every line.
    pub fn heal(&self) {
        for running in self.running.values() {
            running.line.heal();
        }
    }

    /// The workers that have ended by themselves since the last look.
    pub async fn ended(&mut self) -> Vec<Ended> {
        let over: Vec<WorkerId> = self
            .running
            .iter()
            .filter(|(_, running)| running.life.is_finished())
            .map(|(worker, _)| worker.clone())
            .collect();
        let mut ended = Vec::new();
        for worker in over {
            let Some(running) = self.running.remove(&worker) else {
                continue;
            };
            self.is_gone(&worker);
            running.line.gone();
            let how = match running.life.await {
                Ok(how) => how,
                Err(died) => Err(format!("it died: {died}")),
            };
            self.world.journal.note(format!("{worker}: ended: {how:?}"));
            // The other one may have ended in the meantime, of something else.
            let twin_ends = self.pairs.contains(&id_of(&worker));
            let is_refused = how
                .as_ref()
                .is_err_and(|why| why.contains("another process works under this id"));
            let is_well = match &how {
                Ok(Exit::Clean | Exit::Late | Exit::ChildFailed(_)) => true,
                Ok(Exit::Twin) => twin_ends,
                Ok(Exit::Broken(_)) => false,
                Err(_) => is_refused && twin_ends,
            };
            if !is_well {
                self.world
                    .journal
                    .violation(format!("{worker} ended with {how:?}"));
            }
            ended.push(Ended { worker, how });
        }
        ended
    }
}

/// The name of the second process of a worker's id.
fn twin_of(worker: &WorkerId) -> WorkerId {
    format!("{worker}{TWIN}").into()
}

fn id_of(process: &WorkerId) -> WorkerId {
    process.as_str().trim_end_matches(TWIN).into()
}

fn same_id(one: &WorkerId, other: &WorkerId) -> bool {
    id_of(one) == id_of(other)
}

/// A worker's life, in the order of the program's wiring.
async fn work(
    world: Arc<World>,
    line: Line,
    clock: Clock,
    settings: FleetSettings,
    health: Arc<Mutex<Health>>,
    stop: CancellationToken,
) -> Result<Exit, String> {
    let lease_settings = LeaseSettings {
        assignment: settings.assignment.clone(),
        client_version: settings.client_version,
        legacy: world.legacy.as_ref().map(|legacy| LegacyTables {
            coordinator: Arc::new(line.to(&legacy.coordinator)),
            metrics: Arc::new(line.to(&legacy.metrics)),
        }),
        migrate: settings.migrate,
        migration_bake: MIGRATION_BAKE,
        ..LeaseSettings::new(line.worker().clone(), "simulated")
    };
    let started = Leases::start(
        Arc::new(line.clone()),
        clock.clone(),
        lease_settings,
        stop.clone(),
    )
    .await;
    let leases = match started {
        Ok(leases) => leases,
        Err(_) if stop.is_cancelled() => return Ok(Exit::Clean),
        Err(error) => return Err(error.to_string()),
    };
    line.plays_by(leases.rules());
    let stream = Arc::new(line.clone());
    let shard_settings = ShardSettings {
        initial: InitialPosition::TrimHorizon,
        clean_up_interval: settings.clean_up,
        clean_up_completed_interval: settings.clean_up * 2,
        clean_up_garbage_interval: settings.clean_up * 4,
        ..ShardSettings::default()
    };
    let shards = Shards::start(
        stream.clone(),
        leases.clone(),
        clock.clone(),
        shard_settings,
        &CancellationToken::new(),
    );
    let fan_out = settings.fan_out.then(|| {
        Registration::new(
            Arc::new(Pushed::new(stream.clone(), world.subscriptions.clone())),
            stream.clone(),
            WantedConsumer::Named {
                name: "simulated".to_owned(),
                stream_arn: None,
            },
            RegistrationSettings::default(),
            clock.clone(),
        )
    });
    let around = Surroundings {
        stream,
        spawn: Arc::new(SimulatedChildren::new(world, line, health)),
        leases,
        shards: shards.clone(),
        clock,
        read_ahead: WorkerReadAhead::new(256 * 1024),
        settings: Arc::new(ConsumerSettings {
            fetch: FetchSettings {
                pace: PaceSettings {
                    idle: settings.idle,
                    reduced_tps_threshold: Duration::ZERO,
                },
                records_max: settings.records_max,
                timestamp_ms: None,
                fan_out,
                subscription_life: LIFE,
            },
            session: SessionSettings::default(),
            parent_poll: settings.parent_poll,
            task_backoff: Duration::from_millis(500),
            deliver_empty_batches: settings.deliver_empty_batches,
            restart_failed_child: settings.restart_failed_child,
        }),
    };
    let worker_settings = WorkerSettings {
        grace: settings.grace,
        hand_over_timeout: settings.assignment.hand_off_timeout,
        warn_after: None,
        summary_interval: Duration::from_secs(60),
    };
    let working = Worker::new(around, worker_settings).run(stop.clone());
    tokio::pin!(working);
    tokio::select! {
        biased;
        exit = &mut working => return Ok(exit),
        synced = shards.first_sync() => if let Err(error) = synced {
            stop.cancel();
            working.await;
            return Err(error.to_string());
        },
    }
    Ok(working.await)
}
