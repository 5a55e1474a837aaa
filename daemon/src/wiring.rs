//! From a configuration to a running worker: what each part of the engine is told.
//!
//! Owns the translation of settings and the order of the start. Decides nothing about leases or shards.

use std::sync::Arc;
use std::time::Duration;

use multilangd_config::config::{ClientVersion, Fanout, InitialPosition as Initial, MetricsLevel};
use multilangd_config::{Config, LogLevel};
use multilangd_core::assignment::AssignmentSettings;
use multilangd_core::client_version::Configured;
use multilangd_core::fetch::PaceSettings;
use multilangd_core::fetch::fanout::LIFE;
use multilangd_core::ids::WorkerId;
use multilangd_core::metrics::{EnabledDimensions, Level as Wanted, Metric, MetricsSettings, Of, Operation};
use multilangd_core::shards::InitialPosition;
use multilangd_engine::child::{SessionSettings, Spawn};
use multilangd_engine::clock::Clock;
use multilangd_engine::consumer::{ConsumerSettings, Surroundings};
use multilangd_engine::fetch::{FetchSettings, Registration, RegistrationSettings, WorkerReadAhead};
use multilangd_engine::leases::{LeaseSettings, Leases, LegacyTables, StartError};
use multilangd_engine::metrics::{Metrics, Sink};
use multilangd_engine::platform::Host;
use multilangd_engine::retry::Patience;
use multilangd_engine::shards::{ShardSettings, Shards, SyncError};
use multilangd_engine::stream::Stream;
use multilangd_engine::table::{Table, TableSettings};
use multilangd_engine::worker::{Exit, Worker, WorkerSettings};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Level;

use crate::host::ThisHost;

/// How often the summary line is logged.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(60);

/// The outside worlds of a worker.
pub struct Outside {
    /// The stream.
    pub stream: Arc<dyn Stream>,
    /// The consumer to subscribe with; `None`: polling.
    pub fan_out: Option<Registration>,
    /// The lease table.
    pub leases: Arc<dyn Table>,
    /// The tables that only fleets of KCL 3.0-3.4 have.
    pub legacy: LegacyTables,
    /// Who starts children.
    pub spawn: Arc<dyn Spawn>,
    /// Time.
    pub clock: Clock,
    /// Where metrics go; `None`: nowhere.
    pub metrics: Option<Arc<dyn Sink>>,
}

/// Why a worker did not come to work.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// Its leases could not be kept.
    #[error(transparent)]
    Leases(#[from] StartError),
    /// The application's first leases could not be created.
    #[error(transparent)]
    Shards(#[from] SyncError),
}

/// Starts a worker, and runs it until `stop` is cancelled or a child fails.
pub async fn work(
    config: &Config,
    worker: WorkerId,
    mut outside: Outside,
    stop: &CancellationToken,
) -> Result<Exit, NotStarted> {
    let over = CancellationToken::new();
    // Ends with this future, if that is dropped.
    let mut publishing = JoinSet::new();
    let metrics = match (outside.metrics.take(), metrics_settings(config, &worker)) {
        (Some(sink), Some(settings)) => {
            let metrics = Metrics::new(settings);
            publishing.spawn(metrics.clone().publish(sink, over.clone()));
            metrics
        }
        (None, _) | (_, None) => Metrics::off(),
    };
    let exit = start_and_run(config, worker, outside, &metrics, stop).await;
    over.cancel();
    publishing.join_all().await;
    exit
}

async fn start_and_run(
    config: &Config,
    worker: WorkerId,
    outside: Outside,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<Exit, NotStarted> {
    let started = |is_started: bool| {
        let is_started = f64::from(u8::from(is_started));
        metrics.add(
            Operation::Start,
            Of::Application,
            Metric::INITIALIZE_SUCCESS,
            is_started,
        );
    };
    let settings = LeaseSettings {
        legacy: Some(outside.legacy),
        metrics: metrics.clone(),
        ..lease_settings(config, worker)
    };
    let leases = Leases::start(outside.leases, outside.clock.clone(), settings, stop.clone())
        .await
        .inspect_err(|_| started(false))?;
    let shards = Shards::start(
        outside.stream.clone(),
        leases.clone(),
        outside.clock.clone(),
        ShardSettings {
            metrics: metrics.clone(),
            ..shard_settings(config)
        },
        &CancellationToken::new(),
    );
    let around = Surroundings {
        stream: outside.stream,
        spawn: outside.spawn,
        leases: leases.clone(),
        shards: shards.clone(),
        clock: outside.clock,
        read_ahead: WorkerReadAhead::new(config.read_ahead_bytes_max),
        settings: Arc::new(consumer_settings(config, outside.fan_out)),
    };
    // The worker runs while the first leases are being created: another worker may be the one to create them.
    let worker = Worker::new(around, worker_settings(config));
    let working = worker.run(stop.clone());
    tokio::pin!(working);
    tokio::select! {
        biased;
        exit = &mut working => return Ok(exit),
        synced = shards.first_sync() => {
            started(synced.is_ok());
            if let Err(error) = synced {
                stop.cancel();
                working.await;
                return Err(error.into());
            }
        }
    }
    Ok(working.await)
}

fn lease_settings(config: &Config, worker: WorkerId) -> LeaseSettings {
    let (leases, balancing) = (&config.leases, &config.balancing);
    LeaseSettings {
        table: TableSettings {
            deletion_protection: leases.deletion_protection,
            tags: Vec::new(),
        },
        point_in_time_recovery: leases.point_in_time_recovery,
        scan_segments: leases.scan_segments,
        client_version: match config.coordination.client_version {
            ClientVersion::V3x => Configured::V3,
            ClientVersion::CompatibleWith2x => Configured::CompatibleWith2,
            ClientVersion::CompatibleWith2xPhase1 => Configured::Phase1,
        },
        steal_max: leases.steal_at_once_max as usize,
        priority: leases.priority_assignment,
        migrate: config.coordination.migrate_to_lease_table,
        migration_bake: config.coordination.migration_bake_time,
        assignment: AssignmentSettings {
            failover: leases.failover_time,
            interval: leases.assignment_interval,
            leases_max: leases.leases_per_worker_max as usize,
            throughput_max_kbps: balancing.throughput_per_host_kbps_max.unwrap_or(f64::MAX),
            report_interval: balancing.report_interval,
            graceful_hand_off: config.handoff.enabled,
            hand_off_timeout: config.handoff.timeout,
            balance_every: balancing.variance_balancing_frequency,
            dampening_percent: f64::from(balancing.dampening_percentage),
            rebalance_threshold_percent: f64::from(balancing.rebalance_threshold_percentage),
            throughput_overshoot: balancing.allow_throughput_overshoot,
            samples_alpha: balancing.ema_alpha,
        },
        stale_report: balancing.stale_entry_age,
        host: (!balancing.metrics_disabled).then(|| Arc::new(ThisHost) as Arc<dyn Host>),
        capture_interval: balancing.capture_interval,
        reports_kept: balancing.persisted_reports_max as usize,
        ..LeaseSettings::new(worker, &config.application_name)
    }
}

fn metrics_settings(config: &Config, worker: &WorkerId) -> Option<MetricsSettings> {
    let metrics = &config.metrics;
    let level = match metrics.level {
        MetricsLevel::None => return None,
        MetricsLevel::Summary => Wanted::Summary,
        MetricsLevel::Detailed => Wanted::Detailed,
    };
    Some(MetricsSettings {
        level,
        dimensions: EnabledDimensions::named(metrics.dimensions.iter().map(String::as_str)),
        buffer_time: metrics.buffer_time,
        queue_max: metrics.queue_max as usize,
        ..MetricsSettings::new(&config.application_name, worker.clone())
    })
}

fn shard_settings(config: &Config) -> ShardSettings {
    let patience = |tries: u32, wait| Patience {
        tries_max: Some(tries.max(1)),
        wait_first: wait,
        wait_max: wait,
    };
    let defaults = ShardSettings::default();
    ShardSettings {
        initial: match config.initial_position {
            Initial::Latest => InitialPosition::Latest,
            Initial::TrimHorizon => InitialPosition::TrimHorizon,
            Initial::AtTimestamp { epoch_seconds } => {
                InitialPosition::AtTimestamp(epoch_seconds.saturating_mul(1000))
            }
        },
        skip_hash_ranges: config.shards.skip_sync_at_start_if_leases_exist,
        ignore_unexpected_child_shards: config.shards.ignore_unexpected_children,
        list_patience: patience(config.shards.list_attempts_max, config.shards.list_backoff),
        first_sync_patience: Patience {
            wait_first: config.coordination.initialization_backoff,
            wait_max: config.coordination.initialization_backoff,
            ..defaults.first_sync_patience
        },
        ..defaults
    }
}

/// How patiently the stream consumer is registered.
pub fn registration_settings(fan_out: &Fanout) -> RegistrationSettings {
    RegistrationSettings {
        describe_stream_tries_max: fan_out.describe_stream_summary_attempts_max,
        describe_consumer_tries_max: fan_out.describe_stream_consumer_attempts_max,
        register_tries_max: fan_out.register_stream_consumer_attempts_max,
        backoff: fan_out.retry_backoff,
    }
}

fn consumer_settings(config: &Config, fan_out: Option<Registration>) -> ConsumerSettings {
    let timestamp_ms = match config.initial_position {
        Initial::AtTimestamp { epoch_seconds } => Some(epoch_seconds.saturating_mul(1000)),
        Initial::Latest | Initial::TrimHorizon => None,
    };
    ConsumerSettings {
        fetch: FetchSettings {
            pace: PaceSettings {
                idle: config.polling.idle_time,
                reduced_tps_threshold: config.polling.reduced_tps_below.unwrap_or_default(),
            },
            records_max: config.polling.records_max,
            timestamp_ms,
            fan_out,
            subscription_life: LIFE,
        },
        session: SessionSettings {
            line_bytes_max: config.child.line_bytes_max,
            reply_timeout: config.child.reply_timeout,
            exit_patience: config.child.exit_timeout,
            term_patience: config.child.exit_timeout,
            stderr_level: level(config.child.stderr_level),
        },
        parent_poll: config.lifecycle.parent_poll_interval,
        task_backoff: config.lifecycle.task_backoff,
        deliver_empty_batches: config.lifecycle.call_for_empty_batches,
        restart_failed_child: config.child.restart_failed,
    }
}

fn worker_settings(config: &Config) -> WorkerSettings {
    WorkerSettings {
        grace: config.shutdown_grace,
        hand_over_timeout: config.handoff.timeout,
        warn_after: config.lifecycle.warn_about_task_after,
        summary_interval: SUMMARY_INTERVAL,
    }
}

fn level(level: LogLevel) -> Level {
    match level {
        // The lines nobody sees, unless everything is asked for.
        LogLevel::Off | LogLevel::Trace => Level::TRACE,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Info => Level::INFO,
        LogLevel::Warn => Level::WARN,
        LogLevel::Error => Level::ERROR,
    }
}
