//! The configuration of a daemon, typed.
//!
//! Owns the shape only: which facts there are, their types and units. `load.rs` fills it; nothing here reads text, except
//! for the names of levels and formats.

use std::time::Duration;

use crate::credentials::CredentialsChain;

/// Everything that a properties file decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `executableName` as written.
    pub executable_name: String,
    /// `executableName` split at spaces: the program and its arguments, never empty.
    pub argv: Vec<String>,
    /// Names the lease table, the metrics namespace and the fan-out consumer.
    pub application_name: String,
    /// The stream.
    pub stream: Stream,
    /// The owner of leases; `None`: the program makes a random one.
    pub worker_id: Option<String>,
    /// The lease table.
    pub table_name: String,
    /// For the user agent.
    pub processing_language: Option<String>,
    /// The child processes.
    pub child: Child,
    /// `maxReadAheadBytes`: memory for records of all shards that no child has answered yet.
    pub read_ahead_bytes_max: usize,
    /// `workerThreads`; `None`: as many as suit the machine.
    pub threads: Option<usize>,
    /// Longest wait for children to finish after SIGTERM or SIGINT.
    pub shutdown_grace: Duration,
    /// Where a shard without a lease is read from.
    pub initial_position: InitialPosition,
    /// How records are fetched.
    pub retrieval: Retrieval,
    /// Why so, for the log and `validate`.
    pub retrieval_reason: String,
    /// What polling uses, whichever way was chosen.
    pub polling: Polling,
    /// Leases.
    pub leases: Leases,
    /// Shard discovery.
    pub shards: Shards,
    /// Graceful hand-off of leases.
    pub handoff: Handoff,
    /// Balancing by worker utilization.
    pub balancing: Balancing,
    /// Coordination of the fleet.
    pub coordination: Coordination,
    /// The life of one shard's consumer.
    pub lifecycle: Lifecycle,
    /// CloudWatch metrics.
    pub metrics: Metrics,
    /// The Kinesis client.
    pub kinesis: ClientConfig,
    /// The DynamoDB client.
    pub dynamodb: ClientConfig,
    /// The CloudWatch client.
    pub cloudwatch: ClientConfig,
    /// The daemon's log, as far as the file says something.
    pub log: Log,
    /// Shards of a stream that `--local` creates.
    pub local_shards: u32,
}

impl Config {
    /// The region of `streamArn`: to be used for a client whose region is `None` here and that finds none in its profile
    /// either.
    #[must_use]
    pub fn region_of_last_resort(&self) -> Option<&str> {
        self.stream.arn.as_ref().map(|arn| arn.region.as_str())
    }
}

/// Which stream is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its name; from the ARN, if there is one.
    pub name: String,
    /// `streamArn`, if given.
    pub arn: Option<StreamArn>,
}

/// `arn:PARTITION:kinesis:REGION:ACCOUNT:stream/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamArn {
    /// The ARN of the stream; of a consumer's ARN only the stream's part.
    pub text: String,
    /// `aws`, `aws-cn` and so on.
    pub partition: String,
    /// The region it names.
    pub region: String,
    /// Twelve digits.
    pub account: String,
}

/// The child processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// `timeoutInSeconds`: longest wait for each answer; `None`: no limit.
    pub reply_timeout: Option<Duration>,
    /// `childExitTimeoutMillis`: from EOF to SIGTERM, and from SIGTERM to SIGKILL.
    pub exit_timeout: Duration,
    /// `maxLineBytes`: longest line accepted from stdout.
    pub line_bytes_max: usize,
    /// `restartFailedChild`: start another child for the shard instead of ending the daemon.
    pub restart_failed: bool,
    /// `childStderrLevel`: level at which stderr is logged.
    pub stderr_level: LogLevel,
}

/// Where a shard without a lease is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialPosition {
    /// What comes from now on.
    Latest,
    /// Everything still there.
    TrimHorizon,
    /// What came at this time or later.
    AtTimestamp {
        /// Seconds since 1970.
        epoch_seconds: i64,
    },
}

/// How records are fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retrieval {
    /// `GetRecords`, as [`Config::polling`] says.
    Polling,
    /// Enhanced fan-out.
    Fanout(Fanout),
}

/// Polling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polling {
    /// `maxRecords`: most records of one call.
    pub records_max: u32,
    /// `idleTimeBetweenReadsInMillis`: at least 200 ms.
    pub idle_time: Duration,
    /// `millisBehindLatestThresholdForReducedTps`: poll less often when less than this behind; `None`: off.
    pub reduced_tps_below: Option<Duration>,
}

/// Enhanced fan-out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fanout {
    /// `fanoutConfig.consumerArn`: use this consumer, register none.
    pub consumer_arn: Option<String>,
    /// `fanoutConfig.consumerName`, else the application's name.
    pub consumer_name: String,
    /// Attempts of `DescribeStreamSummary`.
    pub describe_stream_summary_attempts_max: u32,
    /// Attempts of `DescribeStreamConsumer`.
    pub describe_stream_consumer_attempts_max: u32,
    /// Attempts of `RegisterStreamConsumer`.
    pub register_stream_consumer_attempts_max: u32,
    /// Pause between them.
    pub retry_backoff: Duration,
}

/// Leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leases {
    /// `failoverTimeMillis`: a lease not renewed for this long is free.
    pub failover_time: Duration,
    /// `leaseAssignmentIntervalMillis`: the leader's period.
    pub assignment_interval: Duration,
    /// `maxLeasesForWorker`.
    pub leases_per_worker_max: u32,
    /// `maxLeasesToStealAtOneTime`; 2.x-compatible mode.
    pub steal_at_once_max: u32,
    /// `enablePriorityLeaseAssignment`; 2.x-compatible mode.
    pub priority_assignment: bool,
    /// `leaseTableDeletionProtectionEnabled`.
    pub deletion_protection: bool,
    /// `leaseTablePitrEnabled`.
    pub point_in_time_recovery: bool,
    /// `leaseTableScanTotalSegments`; `None`: chosen by table size.
    pub scan_segments: Option<u32>,
}

/// Shard discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shards {
    /// `shardSyncIntervalMillis`.
    pub sync_interval: Duration,
    /// `ignoreUnexpectedChildShards`.
    pub ignore_unexpected_children: bool,
    /// `listShardsBackoffTimeInMillis`.
    pub list_backoff: Duration,
    /// `maxListShardsRetryAttempts`.
    pub list_attempts_max: u32,
    /// `skipShardSyncAtWorkerInitializationIfLeasesExist`; also switches off the hash-range check in de-aggregation.
    pub skip_sync_at_start_if_leases_exist: bool,
}

/// Graceful hand-off of leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handoff {
    /// `isGracefulLeaseHandoffEnabled`.
    pub enabled: bool,
    /// `gracefulLeaseHandoffTimeoutMillis`.
    pub timeout: Duration,
}

/// Balancing by worker utilization.
#[derive(Clone, Debug, PartialEq)]
pub struct Balancing {
    /// `disableWorkerMetrics`.
    pub metrics_disabled: bool,
    /// `inMemoryWorkerMetricsCaptureFrequencyMillis`.
    pub capture_interval: Duration,
    /// `workerMetricsReporterFreqInMillis`.
    pub report_interval: Duration,
    /// `noOfPersistedMetricsPerWorkerMetrics`.
    pub persisted_reports_max: u32,
    /// `maxThroughputPerHostKBps`, in KiB per second as Java counts; `None`: unlimited.
    pub throughput_per_host_kbps_max: Option<f64>,
    /// `dampeningPercentage`.
    pub dampening_percentage: u32,
    /// `reBalanceThresholdPercentage`.
    pub rebalance_threshold_percentage: u32,
    /// `allowThroughputOvershoot`.
    pub allow_throughput_overshoot: bool,
    /// `varianceBalancingFrequency`: balance on every n-th assignment.
    pub variance_balancing_frequency: u32,
    /// `workerMetricsEMAAlpha`: between 0 and 1.
    pub ema_alpha: f64,
    /// `staleWorkerMetricsEntryCleanupDuration`.
    pub stale_entry_age: Duration,
}

/// Coordination of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordination {
    /// `clientVersionConfig`.
    pub client_version: ClientVersion,
    /// `migrateAllEntitiesToLeaseTable`.
    pub migrate_to_lease_table: bool,
    /// `tableMigrationCompleteBakeTimeSeconds`, between an hour and a week.
    pub migration_bake_time: Duration,
    /// `coordinatorStateTableName`, or its default.
    pub coordinator_state_table_name: String,
    /// `workerMetricsTableName`, or its default.
    pub worker_metrics_table_name: String,
    /// `schedulerInitializationBackoffTimeMillis`.
    pub initialization_backoff: Duration,
}

/// Which rules the fleet plays by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientVersion {
    /// `CLIENT_VERSION_CONFIG_3X`.
    V3x,
    /// `CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X`.
    CompatibleWith2x,
    /// `CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X_PHASE1`.
    CompatibleWith2xPhase1,
}

/// The life of one shard's consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    /// `parentShardPollIntervalMillis`.
    pub parent_poll_interval: Duration,
    /// `taskBackoffTimeMillis`.
    pub task_backoff: Duration,
    /// `logWarningForTaskAfterMillis`; `None`: never.
    pub warn_about_task_after: Option<Duration>,
    /// `callProcessRecordsEvenForEmptyRecordList`.
    pub call_for_empty_batches: bool,
}

/// CloudWatch metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// `metricsLevel`.
    pub level: MetricsLevel,
    /// `metricsEnabledDimensions`, as written; `ALL` stands for all of them.
    pub dimensions: Vec<String>,
    /// `metricsBufferTimeMillis`.
    pub buffer_time: Duration,
    /// `metricsMaxQueueSize`.
    pub queue_max: u32,
}

/// Which metrics are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricsLevel {
    /// None.
    None,
    /// Those that matter most.
    Summary,
    /// All.
    Detailed,
}

/// One client of the SDK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// From the file, `-Daws.region`, `AWS_REGION` or `AWS_DEFAULT_REGION`. `None`: from the profile, else
    /// [`Config::region_of_last_resort`].
    pub region: Option<String>,
    /// Where the service is; `None`: where the SDK says.
    pub endpoint: Option<String>,
    /// `fipsEnabled`; `None`: the SDK's rules.
    pub fips: Option<bool>,
    /// `dualstackEnabled`; `None`: the SDK's rules.
    pub dualstack: Option<bool>,
    /// `apiCallTimeout`: of a call with its retries.
    pub call_timeout: Option<Duration>,
    /// `apiCallAttemptTimeout`: of one attempt.
    pub attempt_timeout: Option<Duration>,
    /// `defaultProfileName`.
    pub profile: Option<String>,
    /// Who signs.
    pub credentials: CredentialsChain,
}

/// The daemon's log, as far as the file says something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// `logLevel`.
    pub level: Option<LogLevel>,
    /// `logFormat`.
    pub format: Option<LogFormat>,
}

/// Level of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// A person must act.
    Error,
    /// The daemon coped.
    Warn,
    /// Decisions.
    Info,
    /// For developers.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Reads a level in any case; also logback's `ALL`.
    #[must_use]
    pub fn parse(text: &str) -> Option<LogLevel> {
        match text.to_ascii_uppercase().as_str() {
            "OFF" => Some(LogLevel::Off),
            "ERROR" => Some(LogLevel::Error),
            "WARN" => Some(LogLevel::Warn),
            "INFO" => Some(LogLevel::Info),
            "DEBUG" => Some(LogLevel::Debug),
            "TRACE" | "ALL" => Some(LogLevel::Trace),
            _ => None,
        }
    }

    /// The level in lower case, as `tracing` filters spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Off => "off",
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    /// Reads a format in any case.
    #[must_use]
    pub fn parse(text: &str) -> Option<LogFormat> {
        match text.to_ascii_uppercase().as_str() {
            "TEXT" => Some(LogFormat::Text),
            "JSON" => Some(LogFormat::Json),
            _ => None,
        }
    }
}
