//! The way from nothing to running tasks (`leasing.md 7.2`): every wait of it is a short poll.

use std::sync::Arc;
use std::time::Duration;

use multilangd_core::client_version::{self, ClientVersion, Rules, Step, at_start};
use multilangd_core::election::leads;
use multilangd_core::ids::WorkerId;
use multilangd_core::leader;
use multilangd_core::metrics::{Metric, Of, Operation};
use multilangd_core::table_migration::{self, COORDINATOR_KEY, MigrationRow, Status};
use multilangd_core::twin::{Claim, FOREIGN_RENEWALS_MAX, Renewals};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::discovery::{Discovery, keep_index};
use super::keeper::{Keeper, Message, Pace};
use super::operation::Operator;
use super::places::{LegacyRows, Places};
use super::rules::{RulesWatch, say_who_leads};
use super::{Held, Identity, Inner, LeaseSettings, Leases, Rows, Signals, Tasks};
use crate::assignment::Assignment;
use crate::clock::Clock;
use crate::leader::Leadership;
use crate::metrics_row::{Measured, MetricsRow, Reported, Sampling, read_report};
use crate::retry::{Patience, poll, retry};
use crate::table::{Table, TableDescription, TableError};
use crate::table_migration::TableMigration;
use crate::taker::Taking;

/// Polls of a table that is being created: at once where it takes no time, patient where it takes minutes.
const CREATION_PATIENCE: Patience = Patience {
    tries_max: None,
    wait_first: Duration::from_millis(10),
    wait_max: Duration::from_secs(1),
};
/// Messages to the keeper under way; a sender waits when it is that far behind.
const MESSAGES_MAX: usize = 256;
/// Leases looked at to see whether another process renews them: all of them are renewed at once.
const TWIN_LEASES_MAX: usize = 8;
/// Time a call may take before it counts as unanswered, at least.
const CALL_MIN: Duration = Duration::from_secs(1);

/// Why leases could not be started. Failures that may pass are waited out instead.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The stop was requested first.
    #[error("stopped before the lease table was ready")]
    Stopped,
    /// The worker's id is the key of another kind of row.
    #[error(
        "workerId = {0} is also the key of a row of the lease table, which the worker's metrics would overwrite: choose \
         another id, or leave it out"
    )]
    WorkerId(WorkerId),
    /// Another live process has this id.
    #[error(
        "workerId = {worker}: another process works under this id in table {table}: give each worker an id of its own, or \
         leave workerId out"
    )]
    Twin {
        /// The id.
        worker: WorkerId,
        /// The table's name.
        table: String,
    },
    /// The table refuses what must be done.
    #[error("{what} failed on the lease table {table}")]
    Table {
        /// What was tried.
        what: &'static str,
        /// The table's name.
        table: String,
        /// The answer.
        #[source]
        source: TableError,
    },
    /// Workers of this application play by rules that are newer than this daemon.
    #[error(
        "the fleet of application {application} plays by {}, which this version does not know (row Migration3.0 of table \
         {table}): use a newer version",
        version.name()
    )]
    OtherRules {
        /// The application.
        application: String,
        /// The table's name.
        table: String,
        /// What the row says.
        version: ClientVersion,
    },
    /// The fleet is not ready to move into the lease table.
    #[error(
        "migrateAllEntitiesToLeaseTable = true is too early: row TableMigration3.5 of table {table} must have come to \
         TABLE_MIGRATION_STATUS_DEPLOYED before; run the whole fleet without that line for an hour first"
    )]
    TooEarly {
        /// The legacy coordinator table.
        table: String,
    },
}

struct Starting {
    table: Arc<dyn Table>,
    clock: Clock,
    settings: LeaseSettings,
}

pub(super) async fn start(
    table: Arc<dyn Table>,
    clock: Clock,
    settings: LeaseSettings,
) -> Result<Leases, StartError> {
    let started = Instant::now();
    let starting = Starting {
        table,
        clock,
        settings,
    };
    starting.check_worker_id()?;
    let description = starting.ensure_table().await?;
    let status = starting.table_status().await?;
    let segments = starting
        .settings
        .scan_segments
        .unwrap_or_else(|| segments(description.size_bytes));
    let call_max = starting.settings.renewal_interval().max(CALL_MIN);
    let rows = Rows::new(starting.table.clone(), segments, call_max);
    let (status, status_receiver) = watch::channel(status);
    let legacy = starting
        .settings
        .legacy
        .as_ref()
        .filter(|_| status.borrow().reads_legacy());
    let legacy = legacy.map(|legacy| LegacyRows {
        coordinator: Rows::new(legacy.coordinator.clone(), 1, call_max),
        metrics: Rows::new(legacy.metrics.clone(), 1, call_max),
    });
    let places = Places::new(rows, legacy, status_receiver);
    let rules = starting.agree_on_rules(&places).await?;
    info!(
        rules = rules.name(),
        tables = status.borrow().name(),
        "rules of the fleet"
    );
    let (rules, rules_receiver) = watch::channel(rules);
    let metrics = starting.metrics_row(&places, rules_receiver).await?;
    let reports = rules.borrow().reports();
    // Before the first assignment round: no leader assigns anything to a worker that does not report.
    if reports {
        let reported = metrics.report().await.map_err(|source| StartError::Table {
            what: "reporting this worker's metrics",
            table: metrics.rows.table.name().to_owned(),
            source,
        })?;
        if reported == Reported::Twin {
            return Err(starting.twin());
        }
    }
    if !reports || !metrics.is_first() {
        starting.refuse_a_twin(&places, &metrics, reports).await?;
    }
    let has_index = description.owner_index == Some(true);
    let leases = starting.run(places, metrics, has_index, rules, status).await?;
    info!(took_ms = started.elapsed().as_millis() as u64, "leases started");
    Ok(leases)
}

impl Starting {
    fn failed(&self, what: &'static str, source: TableError) -> StartError {
        StartError::Table {
            what,
            table: self.table.name().to_owned(),
            source,
        }
    }

    /// Metrics are written without a condition under the worker's id (trap 6).
    fn check_worker_id(&self) -> Result<(), StartError> {
        let worker = &self.settings.worker;
        let reserved = [leader::KEY, client_version::KEY, table_migration::KEY];
        if reserved.contains(&worker.as_str())
            || worker.as_str().starts_with("shardId-")
            || worker.as_str().is_empty()
        {
            return Err(StartError::WorkerId(worker.clone()));
        }
        Ok(())
    }

    /// Repeats for as long as repeating helps.
    async fn attempt<T, F>(&self, what: &'static str, call: impl FnMut() -> F) -> Result<T, StartError>
    where
        F: Future<Output = Result<T, TableError>>,
    {
        let done = retry(&self.clock, Patience::ENDLESS, what, call).await;
        done.map_err(|source| self.failed(what, source))
    }

    /// The table, created if it is not there, as soon as it can be used.
    async fn ensure_table(&self) -> Result<TableDescription, StartError> {
        let what = "looking for the table";
        let description = match self.attempt(what, || self.table.describe()).await? {
            Some(description) if description.is_usable => description,
            Some(_) => self.wait_until_usable().await?,
            None => {
                info!(table = self.table.name(), "creating the lease table");
                self.attempt("creating the table", || self.table.create(&self.settings.table))
                    .await?;
                self.wait_until_usable().await?
            }
        };
        if self.settings.point_in_time_recovery {
            let call = || self.table.enable_point_in_time_recovery();
            self.attempt("enabling point-in-time recovery", call).await?;
        }
        Ok(description)
    }

    async fn wait_until_usable(&self) -> Result<TableDescription, StartError> {
        let look = || async {
            match self
                .attempt("waiting for the table", || self.table.describe())
                .await
            {
                Ok(description) => description.filter(|description| description.is_usable).map(Ok),
                Err(error) => Some(Err(error)),
            }
        };
        poll(CREATION_PATIENCE, look).await
    }

    /// 5.10: where the rows are that are no leases.
    async fn table_status(&self) -> Result<Status, StartError> {
        let metrics = &self.settings.metrics;
        let mut scope = metrics.scope(Operation::TableMigrationStart, Of::Application);
        let status = self.look_for_legacy_tables().await;
        let is_fault = matches!(status, Err(StartError::Table { .. }));
        scope.add(Metric::READ_FAULT, f64::from(u8::from(is_fault)));
        scope.end(status.is_ok());
        status
    }

    async fn look_for_legacy_tables(&self) -> Result<Status, StartError> {
        let Some(legacy) = &self.settings.legacy else {
            return Ok(Status::Complete);
        };
        let table = &legacy.coordinator;
        let what = "looking for a legacy coordinator table";
        if self.attempt(what, || table.describe()).await?.is_none() {
            return Ok(Status::Complete);
        }
        let what = "reading TableMigration3.5";
        let item = self
            .attempt(what, || table.get(table_migration::KEY, true))
            .await?;
        // Compat: a row that cannot be read counts as absent, as in Java.
        let row = item.and_then(|item| MigrationRow::read(&item).ok());
        table_migration::at_start(row.as_ref(), self.settings.migrate).map_err(|_| StartError::TooEarly {
            table: table.name().to_owned(),
        })
    }

    /// 5.9: the rules that the fleet plays by, set by us where nobody has yet.
    async fn agree_on_rules(&self, places: &Places) -> Result<Rules, StartError> {
        let (me, configured) = (&self.settings.worker, self.settings.client_version);
        loop {
            let what = "reading the client version";
            let row = self.attempt(what, || places.client_version()).await?;
            let now_ms = self.clock.epoch_ms();
            let (write, key_name) = match at_start(configured, row.as_ref(), me, places.state_key(), now_ms) {
                Step::Play(rules) => return Ok(rules),
                Step::Create(write) => (write, places.state_key()),
                Step::Change(write) => (write, row.as_ref().map_or(COORDINATOR_KEY, |row| row.key_name())),
                Step::Refuse(version) => {
                    return Err(StartError::OtherRules {
                        application: self.settings.application.clone(),
                        table: self.table.name().to_owned(),
                        version,
                    });
                }
            };
            let what = "writing the client version";
            let written = retry(&self.clock, Patience::ENDLESS, what, || {
                places.write_state(&write, key_name)
            });
            match written.await {
                // Somebody was first, or our first try was applied unseen: read again.
                Ok(()) | Err(TableError::Conflict(_)) => {}
                Err(source) => return Err(self.failed(what, source)),
            }
        }
    }

    /// This worker's row, before this process has written it.
    async fn metrics_row(
        &self,
        places: &Places,
        rules: watch::Receiver<Rules>,
    ) -> Result<MetricsRow, StartError> {
        let me = &self.settings.worker;
        let interval = self.settings.assignment.report_interval;
        let what = "looking for another worker of this id";
        let row = self.attempt(what, || read_report(places.metrics(), me)).await?;
        let claim = Claim::new(row.as_ref(), self.clock.epoch_ms() / 1000, interval);
        Ok(MetricsRow {
            rows: places.metrics().clone(),
            rules,
            me: me.clone(),
            clock: self.clock.clone(),
            interval,
            measured: Measured::default(),
            metrics: self.settings.metrics.clone(),
            claim: Arc::new(std::sync::Mutex::new(claim)),
            identity: Identity::default(),
        })
    }

    fn twin(&self) -> StartError {
        StartError::Twin {
            worker: self.settings.worker.clone(),
            table: self.table.name().to_owned(),
        }
    }

    /// Ends the start where another process works under this id: both would hold the same leases. This process has laid
    /// its claim by now; it knocks at leases that a live one would renew, who then looks at its own claim, and answers. A
    /// worker that was just killed and comes back with its id waits for an answer that does not come.
    ///
    /// Compat: Java adopts the leases at once, and both work on them.
    async fn refuse_a_twin(
        &self,
        places: &Places,
        metrics: &MetricsRow,
        reports: bool,
    ) -> Result<(), StartError> {
        let me = &self.settings.worker;
        let what = "looking for another worker of this id";
        let rows = &places.leases;
        let leases = self.attempt(what, || rows.scan(true)).await?.leases;
        let mut renewals = Renewals::new(&leases, me, TWIN_LEASES_MAX);
        let shards = renewals.shards();
        if shards.is_empty() {
            return Ok(());
        }
        info!(worker = %me, "this id has leases: waiting to see whether another process of it lives");
        let patience = self.settings.renewal_interval() + self.settings.assignment.failover / 10;
        // By then a live process has reported, whether it looks at its claim or, as Java does, at nothing.
        let limit = Instant::now() + self.settings.assignment.report_interval * 3 / 2;
        let mut until = Instant::now() + patience;
        let mut unheard = shards.clone();
        while Instant::now() < until.min(limit) {
            if reports {
                let leases = self.attempt(what, || rows.leases(unheard.clone())).await?;
                for lease in leases.iter().filter(|lease| lease.can_be_adopted_by(me)) {
                    // Whatever becomes of it, it is seen; where somebody else was quicker, it is tried again.
                    if let Ok(Some(row)) = rows.write(&lease.renew()).await
                        && let Some(lease) = rows.lease_in(&row)
                    {
                        renewals.renewed(&lease);
                        unheard.retain(|shard| *shard != lease.key);
                    }
                }
            }
            sleep_until(until.min(Instant::now() + patience / 8)).await;
            if reports && !self.attempt(what, || metrics.stands()).await? {
                return Err(self.twin());
            }
            let leases = self.attempt(what, || rows.leases(shards.clone())).await?;
            if renewals.look(&leases, me) {
                until = Instant::now() + patience;
            }
            if !reports && renewals.seen() >= FOREIGN_RENEWALS_MAX {
                return Err(self.twin());
            }
        }
        Ok(())
    }

    /// Adopts what is ours from an earlier life, and starts the tasks.
    async fn run(
        &self,
        places: Places,
        metrics: MetricsRow,
        has_index: bool,
        rules: watch::Sender<Rules>,
        status: watch::Sender<Status>,
    ) -> Result<Leases, StartError> {
        let rows = places.leases.clone();
        let (settings, clock) = (&self.settings, &self.clock);
        let me = settings.worker.clone();
        let failover = settings.assignment.failover;
        let renewal_interval = settings.renewal_interval();
        let signals = Signals::default();
        let (taking, leading, running) = (
            CancellationToken::new(),
            CancellationToken::new(),
            CancellationToken::new(),
        );
        let (held_sender, held) = watch::channel(Held::from([]));
        let (lock_sender, locked) = watch::channel(false);
        let (leader_sender, is_leader) = watch::channel(false);
        let (duty_sender, duty) = watch::channel(None);
        let (is_taking, taking_receiver) = watch::channel(true);
        let (index_sender, index) = watch::channel(has_index);
        let (keeper_sender, keeper_receiver) = mpsc::channel(MESSAGES_MAX);
        let (last_round, last_round_receiver) = mpsc::channel(1);

        let began = Instant::now();
        // What is found is believed by a renewal only.
        let found = self
            .attempt("looking at all leases", || places.scan(false))
            .await?;
        let ended = Instant::now();
        let owners = found.leases.iter().filter_map(|lease| lease.owner.as_ref());
        let (elected_sender, elected) = watch::channel(leads(&me, owners));
        settings
            .metrics
            .add(Operation::LeaseRenewerStart, Of::Application, Metric::FAULT, 0.0);
        let mine: Vec<_> = found
            .leases
            .iter()
            .filter(|lease| lease.can_be_adopted_by(&me))
            .cloned()
            .collect();
        if !mine.is_empty() {
            info!(leases = mine.len(), worker = %me, "leases of this worker's earlier life found");
            drop(keeper_sender.send(Message::Found(mine)).await);
        }

        let (heirs, heirs_receiver) = watch::channel(Vec::new());
        let operator = Operator {
            rows: rows.clone(),
            me: me.clone(),
            clock: clock.clone(),
            metrics: settings.metrics.clone(),
            rules: rules.subscribe(),
            heirs: heirs_receiver,
            identity: metrics.identity.clone(),
        };
        let pace = Pace {
            failover,
            renewal_interval,
        };
        let mut tasks = Tasks::default();
        let keeper = Keeper::new(operator, pace, held_sender, signals.clone());
        let keeper_stop = running.clone();
        tasks.rest.spawn(async move {
            keeper_stop.run_until_cancelled(keeper.run(keeper_receiver)).await;
        });
        let assignment = Assignment {
            rows: rows.clone(),
            me: me.clone(),
            clock: clock.clone(),
            settings: settings.assignment.clone(),
            stale_report: settings.stale_report,
            places: places.clone(),
            is_leader: locked.clone(),
            duty,
            rules: rules.subscribe(),
            is_taking: taking_receiver.clone(),
            signals: signals.clone(),
            keeper: keeper_sender.clone(),
            last_round: last_round_receiver,
            metrics: settings.metrics.clone(),
        };
        let taker = Taking {
            rows: rows.clone(),
            me: me.clone(),
            clock: clock.clone(),
            settings: settings.taker(),
            steal_interval: (failover + settings.epsilon) * 2,
            rules: rules.subscribe(),
            elected: elected_sender,
            held: held.clone(),
            keeper: keeper_sender.clone(),
            signals: signals.clone(),
            heirs,
            metrics: settings.metrics.clone(),
        };
        let (taker_stop, seen) = (taking.clone(), found.clone());
        tasks
            .reporting
            .spawn(async move { taker.run(seen, ended, taker_stop).await });
        tasks.rest.spawn(assignment.run((began, found), running.clone()));
        let leadership = Leadership {
            places: places.clone(),
            me: me.clone(),
            clock: clock.clone(),
            failover,
            rules: rules.subscribe(),
            status: status.clone(),
            is_leader: lock_sender,
            duty: duty_sender,
            is_taking: taking_receiver,
            metrics: settings.metrics.clone(),
        };
        let migration = TableMigration {
            places: places.clone(),
            me: me.clone(),
            clock: clock.clone(),
            migrate: settings.migrate,
            bake: settings.migration_bake,
            report_age_max: settings.assignment.report_interval * 2,
            locked: locked.clone(),
            status,
            metrics: settings.metrics.clone(),
        };
        tasks.rest.spawn(migration.run(running.clone()));
        let leads_by_lock = locked.clone();
        let say = say_who_leads(rules.subscribe(), locked, elected.clone(), leader_sender);
        let say_stop = running.clone();
        tasks.rest.spawn(async move {
            say_stop.run_until_cancelled(say).await;
        });
        tasks.leading.spawn(leadership.run(leading.clone()));
        if let Some(host) = settings.host.clone() {
            let sampling = Sampling {
                host,
                clock: clock.clone(),
                interval: settings.capture_interval,
                reports_kept: settings.reports_kept,
                measured: metrics.measured.clone(),
            };
            tasks.reporting.spawn(sampling.run(taking.clone()));
        }
        let identity = metrics.identity.clone();
        tasks.reporting.spawn(metrics.run(taking.clone()));
        let discovery = Discovery {
            rows: rows.clone(),
            me,
            clock: clock.clone(),
            is_leader: leads_by_lock,
            interval: settings.discovery_interval(),
            interval_of_leader: settings.discovery_interval_of_leader(),
            held: held.clone(),
            keeper: keeper_sender.clone(),
            signals: signals.clone(),
            index,
            metrics: settings.metrics.clone(),
            rules: rules.subscribe(),
        };
        tasks.rest.spawn(discovery.run(taking.clone()));
        let keep = keep_index(
            rows.clone(),
            clock.clone(),
            rules.subscribe(),
            index_sender,
            taking.clone(),
        );
        tasks.rest.spawn(keep);
        let rules_receiver = rules.subscribe();
        let watch = RulesWatch {
            places,
            me: settings.worker.clone(),
            clock: clock.clone(),
            rules,
            elected,
            metrics: settings.metrics.clone(),
        };
        tasks.rest.spawn(watch.run(running.clone()));
        Ok(Leases {
            inner: Arc::new(Inner {
                rows,
                metrics: settings.metrics.clone(),
                keeper: keeper_sender,
                held,
                is_leader,
                rules: rules_receiver,
                is_taking,
                identity,
                signals,
                last_round,
                taking,
                leading,
                _ends_with_the_last_handle: running.clone().drop_guard(),
                running,
                tasks: Mutex::new(tasks),
            }),
        })
    }
}

/// Segments of a parallel scan: one per 200 MB, at most 32 (`LeaseTableScanSegmentResolver`).
fn segments(size_bytes: u64) -> u32 {
    const SEGMENT_BYTES: u64 = (1 << 30) / 5;
    u32::try_from(size_bytes.div_ceil(SEGMENT_BYTES))
        .unwrap_or(32)
        .clamp(1, 32)
}
