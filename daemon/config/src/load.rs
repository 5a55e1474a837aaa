//! From the bytes of a properties file to a [`Config`].
//!
//! Owns what keys mean together: required keys, conflicts, limits, derived values. Reads no file and no environment of its
//! own: both are arguments ([`Input`]).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{
    Balancing, Child, ClientConfig, ClientVersion, Config, Coordination, Fanout, Handoff, InitialPosition,
    Leases, Lifecycle, Log, LogFormat, LogLevel, Metrics, MetricsLevel, Polling, Retrieval, RetryMode,
    Shards, Stream, StreamArn,
};
use crate::credentials::{CredentialsChain, Secret, StaticKeys, parse_chain};
use crate::keys::{self, CLIENTS};
use crate::loaded::{Loaded, Origin};
use crate::program::argv;
use crate::properties::Properties;
use crate::settings::{Setting, Settings};
use crate::values;

/// Everything that a configuration is made from.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The file's name for people.
    pub file: &'a str,
    /// What it holds.
    pub bytes: &'a [u8],
    /// The environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The `-D` flags.
    pub system_properties: &'a BTreeMap<String, String>,
    /// `--local`: credentials are not required.
    pub local: bool,
}

/// Most records of one `GetRecords` call, a limit of Kinesis that Java checks too.
const RECORDS_MAX: i64 = 10_000;
/// Java raises `idleTimeBetweenReadsInMillis` to this: five reads per second and shard are allowed.
const IDLE_MILLIS_MIN: u64 = 200;
/// Beyond this, seconds since 1970 are probably milliseconds (it is the year 5138).
const PLAUSIBLE_EPOCH_SECONDS_MAX: i64 = 100_000_000_000;
/// Bounds of `tableMigrationCompleteBakeTimeSeconds`.
const BAKE_SECONDS: std::ops::RangeInclusive<u64> = 3600..=604_800;

/// Reads a configuration. Finds every error, not only the first.
#[must_use]
pub fn load(input: &Input<'_>) -> Loaded {
    let properties = Properties::parse(input.bytes);
    let mut settings = Settings::new(input.file, &properties);
    let config = build(input, &mut settings);
    let Settings {
        mut warnings,
        mut errors,
        effective: mut sources,
        ..
    } = settings;
    warnings.sort_by_key(|warning| warning.line);
    errors.sort_by_key(|error| error.line);
    let order: BTreeMap<String, usize> = keys::all_names()
        .enumerate()
        .map(|(index, name)| (name, index))
        .collect();
    sources.sort_by_key(|effective| order.get(&effective.name).copied());
    let config = config.filter(|_| errors.is_empty());
    Loaded {
        file: input.file.to_owned(),
        config,
        warnings,
        errors,
        sources,
    }
}

/// `None` if something required is missing, which is then among the errors.
fn build(input: &Input<'_>, s: &mut Settings) -> Option<Config> {
    let executable = executable(s);
    let application_name = application_name(s);
    let stream = stream(s);
    let general = general_credentials(input, s);
    let [kinesis, dynamodb, cloudwatch] = clients(input, s, &general, stream.as_ref());
    let worker_id = worker_id(s);
    let name = application_name.clone().unwrap_or_default();
    let table_name = text_or(s, "tableName", &name);
    let processing_language = optional_text(s, "processingLanguage");
    let child = child(s);
    let shutdown_grace = shutdown_grace(s);
    let initial_position = initial_position(s);
    let (retrieval, retrieval_reason, polling) = retrieval(s, &name);
    let leases = leases(s);
    let shards = Shards {
        sync_interval: s.millis("shardSyncIntervalMillis"),
        ignore_unexpected_children: s.flag("ignoreUnexpectedChildShards"),
        list_backoff: s.millis("listShardsBackoffTimeInMillis"),
        list_attempts_max: s.count32("maxListShardsRetryAttempts"),
        skip_sync_at_start_if_leases_exist: s.flag("skipShardSyncAtWorkerInitializationIfLeasesExist"),
    };
    let handoff = Handoff {
        enabled: s.flag("isGracefulLeaseHandoffEnabled"),
        timeout: s.millis("gracefulLeaseHandoffTimeoutMillis"),
    };
    let balancing = balancing(s);
    let coordination = coordination(s, &name);
    let lifecycle = Lifecycle {
        parent_poll_interval: s.millis("parentShardPollIntervalMillis"),
        task_backoff: s.millis("taskBackoffTimeMillis"),
        warn_about_task_after: optional_millis(s, "logWarningForTaskAfterMillis"),
        call_for_empty_batches: s.flag("callProcessRecordsEvenForEmptyRecordList"),
    };
    let metrics = metrics(s);
    let log = log(s);
    let local_shards = u32::try_from(s.own_count("localShards")).unwrap_or(u32::MAX);
    let (executable_name, argv) = executable?;
    Some(Config {
        executable_name,
        argv,
        application_name: application_name?,
        stream: stream?,
        worker_id,
        table_name,
        processing_language,
        child,
        shutdown_grace,
        initial_position,
        retrieval,
        retrieval_reason,
        polling,
        leases,
        shards,
        handoff,
        balancing,
        coordination,
        lifecycle,
        metrics,
        kinesis,
        dynamodb,
        cloudwatch,
        log,
        local_shards,
    })
}

fn executable(s: &mut Settings) -> Option<(String, Vec<String>)> {
    let Some(setting) = s.text("executableName") else {
        s.error_at(
            None,
            Some("executableName"),
            "must provide an executable name in the properties file, e.g. executableName = sampleapp.py",
        );
        return None;
    };
    let argv = argv(&setting.value);
    if argv.first().is_none_or(String::is_empty) {
        // Compat: Java finds this out when it starts the first child.
        let text = format!(
            "executableName = '{}' names no program; an example is executableName = sampleapp.py",
            setting.value
        );
        s.error(&setting, text);
        return None;
    }
    s.record(
        "executableName",
        &setting.value,
        Origin::File { line: setting.line },
    );
    Some((setting.value, argv))
}

fn application_name(s: &mut Settings) -> Option<String> {
    match s.text("applicationName") {
        Some(setting) if !values::java_trim(&setting.value).is_empty() => {
            s.record(
                "applicationName",
                &setting.value,
                Origin::File { line: setting.line },
            );
            Some(setting.value)
        }
        found => {
            let line = found.map(|setting| setting.line);
            s.error_at(
                line,
                Some("applicationName"),
                "application name is required, e.g. applicationName = word-count",
            );
            None
        }
    }
}

fn stream(s: &mut Settings) -> Option<Stream> {
    let filled = |setting: &Setting| !values::java_trim(&setting.value).is_empty();
    let arn = s.text("streamArn").filter(filled);
    let name = s.text("streamName").filter(filled);
    let stream = match (&arn, &name) {
        (Some(setting), _) => match parse_arn(&setting.value) {
            Some((arn, name)) => Stream { name, arn: Some(arn) },
            None => {
                let text = format!(
                    "streamArn = '{}' is not the ARN of a stream; accepted is arn:aws:kinesis:REGION:ACCOUNT:stream/NAME with an account of 12 digits",
                    setting.value
                );
                s.error(setting, text);
                return None;
            }
        },
        (None, Some(setting)) => Stream {
            name: setting.value.clone(),
            arn: None,
        },
        (None, None) => {
            s.error_at(
                None,
                Some("streamName"),
                "stream name or stream ARN is required, e.g. streamName = words; streamArn takes precedence if both are given",
            );
            return None;
        }
    };
    if let (Some(arn), Some(name)) = (&arn, &name) {
        if name.value != stream.name {
            let text = format!(
                "streamArn wins over streamName: reading '{}', not '{}' (line {})",
                stream.name, name.value, name.line
            );
            s.warn(arn, text);
        }
    }
    let line = arn.as_ref().or(name.as_ref()).map_or(0, |setting| setting.line);
    s.record("streamName", &stream.name, Origin::File { line });
    if let Some(setting) = &arn {
        s.record("streamArn", &setting.value, Origin::File { line: setting.line });
    }
    Some(stream)
}

/// `arn:aws*:kinesis:REGION:12 digits:stream/NAME`; NAME ends at a further `/`, so that a consumer's ARN passes.
fn parse_arn(text: &str) -> Option<(StreamArn, String)> {
    let mut parts = text.splitn(6, ':');
    let (arn, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
    let name = resource.strip_prefix("stream/")?.split('/').next()?;
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = arn == "arn"
        && partition.starts_with("aws")
        && service == "kinesis"
        && !region.is_empty()
        && region.bytes().all(lower)
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && !name.is_empty();
    good.then(|| {
        let text = format!("arn:{partition}:kinesis:{region}:{account}:stream/{name}");
        let arn = StreamArn {
            text,
            partition: partition.to_owned(),
            region: region.to_owned(),
            account: account.to_owned(),
        };
        (arn, name.to_owned())
    })
}

fn worker_id(s: &mut Settings) -> Option<String> {
    let setting = s.text("workerId");
    // Compat: Java keeps a blank worker id, under which workers cannot be told apart. Blank counts as not set here.
    let filled = setting
        .clone()
        .filter(|setting| !values::java_trim(&setting.value).is_empty());
    if let (Some(setting), None) = (&setting, &filled) {
        s.warn(
            setting,
            format!(
                "{} is blank and counts as not set: using a random one",
                setting.written
            ),
        );
    }
    s.record_optional(
        "workerId",
        filled.as_ref().map(|setting| (setting.value.clone(), setting)),
    );
    filled.map(|setting| setting.value)
}

fn text_or(s: &mut Settings, name: &str, fallback: &str) -> String {
    match s.filled_text(name) {
        Some(setting) => {
            s.record(name, &setting.value, Origin::File { line: setting.line });
            setting.value
        }
        None => {
            s.record(name, fallback, Origin::Default);
            fallback.to_owned()
        }
    }
}

fn optional_text(s: &mut Settings, name: &str) -> Option<String> {
    let setting = s.filled_text(name);
    s.record_optional(
        name,
        setting.as_ref().map(|setting| (setting.value.clone(), setting)),
    );
    setting.map(|setting| setting.value)
}

fn optional_millis(s: &mut Settings, name: &str) -> Option<Duration> {
    let found = s.positive(name);
    s.record_optional(
        name,
        found
            .as_ref()
            .map(|(number, setting)| (number.to_string(), setting)),
    );
    found.map(|(number, _)| Duration::from_millis(number))
}

fn child(s: &mut Settings) -> Child {
    let mut reply_timeout = None;
    if let Some(setting) = s.setting("timeoutInSeconds") {
        match values::int(&setting.value) {
            values::Reading::Good(seconds) if seconds > 0 => {
                reply_timeout = Some((Duration::from_secs(seconds.unsigned_abs()), setting));
            }
            _ => {
                // Compat: Java takes these as 0 or less and exits at the first message.
                let text = format!(
                    "{} = '{}': accepted is a whole number of seconds above 0; leave it out to wait without limit",
                    setting.written, setting.value
                );
                s.error(&setting, text);
            }
        }
    }
    let shown = reply_timeout
        .as_ref()
        .map(|(timeout, setting)| (timeout.as_secs().to_string(), setting));
    s.record_optional("timeoutInSeconds", shown);
    Child {
        reply_timeout: reply_timeout.map(|(timeout, _)| timeout),
        exit_timeout: Duration::from_millis(s.own_count("childExitTimeoutMillis")),
        line_bytes_max: usize::try_from(s.own_count("maxLineBytes")).unwrap_or(usize::MAX),
        restart_failed: s.own_switch("restartFailedChild"),
        stderr_level: LogLevel::parse(s.constant("childStderrLevel")).unwrap_or(LogLevel::Info),
    }
}

/// Compat: Java's default is 0, with which children never see `shutdownRequested`. A 0 that is written down is kept.
fn shutdown_grace(s: &mut Settings) -> Duration {
    const NAME: &str = "shutdownGraceMillis";
    if let Some(setting) = s.setting(NAME) {
        match values::long(&setting.value) {
            values::Reading::Good(millis) => {
                let millis = u64::try_from(millis).unwrap_or(0);
                s.record(NAME, millis, Origin::File { line: setting.line });
                return Duration::from_millis(millis);
            }
            values::Reading::Bad(reason) => {
                let default = crate::settings::default_number(NAME);
                let text = format!(
                    "{NAME} = '{}' {reason}; using {default} (the Java daemon silently takes 0)",
                    setting.value
                );
                s.warn(&setting, text);
            }
        }
    }
    let millis = crate::settings::default_number(NAME);
    s.record(NAME, millis, Origin::Default);
    Duration::from_millis(millis)
}

fn initial_position(s: &mut Settings) -> InitialPosition {
    let plain = s.setting("initialPositionInStream");
    if plain
        .as_ref()
        .is_some_and(|setting| setting.value.eq_ignore_ascii_case("AT_TIMESTAMP"))
    {
        s.error_at(
            plain.as_ref().map(|setting| setting.line),
            Some("initialPositionInStream"),
            "initialPositionInStream = AT_TIMESTAMP is not accepted; use initialPositionInStreamExtended = SECONDS_SINCE_1970",
        );
        return InitialPosition::Latest;
    }
    let position = match s.constant("initialPositionInStream") {
        "TRIM_HORIZON" => InitialPosition::TrimHorizon,
        _ => InitialPosition::Latest,
    };
    let extended = s.epoch_seconds("initialPositionInStreamExtended");
    s.record_optional(
        "initialPositionInStreamExtended",
        extended
            .as_ref()
            .map(|(seconds, setting)| (seconds.to_string(), setting)),
    );
    let Some((epoch_seconds, setting)) = extended else {
        return position;
    };
    if plain.is_some() {
        s.warn(
            &setting,
            "initialPositionInStreamExtended overrides initialPositionInStream",
        );
    }
    if epoch_seconds > PLAUSIBLE_EPOCH_SECONDS_MAX {
        let text = format!(
            "{} = {epoch_seconds} lies in the far future; it is in seconds, not milliseconds",
            setting.written
        );
        s.warn(&setting, text);
    }
    InitialPosition::AtTimestamp { epoch_seconds }
}

fn retrieval(s: &mut Settings, application_name: &str) -> (Retrieval, String, Polling) {
    let mode = s.constant("retrievalMode");
    let mut set: Vec<String> = Vec::new();

    let records = s.number("maxRecords");
    set.extend(records.as_ref().map(|(_, setting)| setting.written.clone()));
    let records = records.filter(|(number, setting)| {
        // Compat: Java lets negative numbers pass, and then no request succeeds.
        let good = mode == "FANOUT" || (1..=RECORDS_MAX).contains(number);
        if !good {
            s.error(
                setting,
                format!(
                    "{} = {number}: accepted is a number from 1 to {RECORDS_MAX}",
                    setting.written
                ),
            );
        }
        good
    });
    let records_max = records
        .as_ref()
        .map_or(RECORDS_MAX, |(number, _)| *number)
        .clamp(1, RECORDS_MAX);
    s.record("maxRecords", records_max, origin(records.as_ref()));

    let idle = s.number("idleTimeBetweenReadsInMillis");
    set.extend(idle.as_ref().map(|(_, setting)| setting.written.clone()));
    let mut idle_millis = crate::settings::default_number("idleTimeBetweenReadsInMillis");
    if let Some((number, setting)) = &idle {
        idle_millis = u64::try_from(*number).unwrap_or(0).max(IDLE_MILLIS_MIN);
        if i64::try_from(idle_millis) != Ok(*number) {
            s.warn(
                setting,
                format!("{} = {number} is raised to {IDLE_MILLIS_MIN}", setting.written),
            );
        }
    }
    s.record("idleTimeBetweenReadsInMillis", idle_millis, origin(idle.as_ref()));

    let behind = s.number("millisBehindLatestThresholdForReducedTps");
    set.extend(behind.as_ref().map(|(_, setting)| setting.written.clone()));
    let behind_millis = behind
        .as_ref()
        .map_or(0, |(number, _)| u64::try_from(*number).unwrap_or(0));
    s.record(
        "millisBehindLatestThresholdForReducedTps",
        behind_millis,
        origin(behind.as_ref()),
    );

    for name in ["retryGetRecordsInSeconds", "maxGetRecordsThreadPool"] {
        set.extend(s.setting(name).map(|setting| setting.written));
    }
    let polling = Polling {
        records_max: u32::try_from(records_max).unwrap_or(10_000),
        idle_time: Duration::from_millis(idle_millis),
        reduced_tps_below: (behind_millis > 0).then(|| Duration::from_millis(behind_millis)),
    };
    let fanout = fanout(s, application_name);
    let fanout_key = [
        "consumerArn",
        "consumerName",
        "retryBackoffMillis",
        "maxDescribeStreamSummaryRetries",
        "maxDescribeStreamConsumerRetries",
        "registerStreamConsumerRetries",
    ]
    .iter()
    .find_map(|leaf| s.setting(&format!("fanoutConfig.{leaf}")));

    let consumer = fanout
        .consumer_arn
        .clone()
        .unwrap_or_else(|| fanout.consumer_name.clone());
    let (retrieval, reason) = match mode {
        "POLLING" => (Retrieval::Polling, "retrievalMode POLLING".to_owned()),
        "FANOUT" => (
            Retrieval::Fanout(fanout),
            format!("retrievalMode FANOUT: enhanced fan-out, consumer '{consumer}'"),
        ),
        _ if set.is_empty() => (
            Retrieval::Fanout(fanout),
            format!(
                "retrievalMode DEFAULT: no polling property set, using enhanced fan-out, consumer '{consumer}'"
            ),
        ),
        _ => (
            Retrieval::Polling,
            format!(
                "retrievalMode DEFAULT: polling, because {} is set",
                set.join(" and ")
            ),
        ),
    };
    match (&retrieval, fanout_key, set.first()) {
        (Retrieval::Polling, Some(setting), _) => {
            let text = format!("'{}' is ignored: {reason}", setting.written);
            s.info(&setting, text);
        }
        (Retrieval::Fanout(_), _, Some(written)) => {
            let polling_key = keys::find(written).and_then(|found| s.setting(&found.name));
            if let Some(setting) = polling_key {
                s.info(
                    &setting,
                    format!(
                        "polling properties ({}) are ignored: retrievalMode FANOUT",
                        set.join(", ")
                    ),
                );
            }
        }
        _ => {}
    }
    (retrieval, reason, polling)
}

fn origin<T>(found: Option<&(T, Setting)>) -> Origin {
    found.map_or(Origin::Default, |(_, setting)| Origin::File {
        line: setting.line,
    })
}

fn fanout(s: &mut Settings, application_name: &str) -> Fanout {
    Fanout {
        consumer_arn: optional_text(s, "fanoutConfig.consumerArn"),
        consumer_name: text_or(s, "fanoutConfig.consumerName", application_name),
        describe_stream_summary_attempts_max: s.count32("fanoutConfig.maxDescribeStreamSummaryRetries"),
        describe_stream_consumer_attempts_max: s.count32("fanoutConfig.maxDescribeStreamConsumerRetries"),
        register_stream_consumer_attempts_max: s.count32("fanoutConfig.registerStreamConsumerRetries"),
        retry_backoff: s.millis("fanoutConfig.retryBackoffMillis"),
    }
}

fn leases(s: &mut Settings) -> Leases {
    let failover_time = s.millis("failoverTimeMillis");
    let interval = s.positive("leaseAssignmentIntervalMillis");
    let assignment_interval = interval.as_ref().map_or_else(
        || failover_time.saturating_mul(2),
        |(millis, _)| Duration::from_millis(*millis),
    );
    s.record(
        "leaseAssignmentIntervalMillis",
        assignment_interval.as_millis(),
        origin(interval.as_ref()),
    );

    let segments = s
        .number("leaseTableScanTotalSegments")
        .filter(|(number, setting)| {
            let good = *number > 0;
            if !good {
                s.error(
                    setting,
                    format!(
                        "{} = {number} must be a positive number; leave unset for automatic sizing",
                        setting.written
                    ),
                );
            }
            good
        });
    s.record_optional(
        "leaseTableScanTotalSegments",
        segments
            .as_ref()
            .map(|(number, setting)| (number.to_string(), setting)),
    );

    if let Some(setting) = s.setting("cleanupLeasesUponShardCompletion") {
        if values::boolean(&setting.value) != values::Reading::Good(true) {
            let text = format!(
                "{}={} has no effect in the Java daemon (2.x/3.x); finished leases are still removed",
                setting.written, setting.value
            );
            s.warn(&setting, text);
        }
    }
    s.record("cleanupLeasesUponShardCompletion", true, Origin::Default);
    Leases {
        failover_time,
        assignment_interval,
        leases_per_worker_max: s.count32("maxLeasesForWorker"),
        steal_at_once_max: s.count32("maxLeasesToStealAtOneTime"),
        priority_assignment: s.flag("enablePriorityLeaseAssignment"),
        deletion_protection: s.flag("leaseTableDeletionProtectionEnabled"),
        point_in_time_recovery: s.flag("leaseTablePitrEnabled"),
        scan_segments: segments.and_then(|(number, _)| u32::try_from(number).ok()),
    }
}

fn balancing(s: &mut Settings) -> Balancing {
    let throughput = s
        .fraction("maxThroughputPerHostKBps")
        .filter(|(number, setting)| {
            let good = *number > 0.0;
            if !good {
                s.warn(
                    setting,
                    format!("{} = {number} is not above 0; using unlimited", setting.written),
                );
            }
            good && number.is_finite()
        });
    s.record_optional(
        "maxThroughputPerHostKBps",
        throughput
            .as_ref()
            .map(|(number, setting)| (number.to_string(), setting)),
    );
    let alpha = s.fraction("workerMetricsEMAAlpha").filter(|(number, setting)| {
        let good = (0.0..=1.0).contains(number);
        if !good {
            s.warn(
                setting,
                format!("{} = {number} is not between 0 and 1; using 0.5", setting.written),
            );
        }
        good
    });
    let ema_alpha = alpha.as_ref().map_or(0.5, |(number, _)| *number);
    s.record("workerMetricsEMAAlpha", ema_alpha, origin(alpha.as_ref()));
    let stale = s.duration("staleWorkerMetricsEntryCleanupDuration");
    let stale_entry_age = stale
        .as_ref()
        .map_or(Duration::from_secs(86_400), |(age, _)| *age);
    let shown = stale
        .as_ref()
        .map_or("P1D", |(_, setting)| setting.value.as_str())
        .to_owned();
    s.record(
        "staleWorkerMetricsEntryCleanupDuration",
        shown,
        origin(stale.as_ref()),
    );
    Balancing {
        metrics_disabled: s.flag("disableWorkerMetrics"),
        capture_interval: s.millis("inMemoryWorkerMetricsCaptureFrequencyMillis"),
        report_interval: s.millis("workerMetricsReporterFreqInMillis"),
        persisted_reports_max: s.count32("noOfPersistedMetricsPerWorkerMetrics"),
        throughput_per_host_kbps_max: throughput.map(|(number, _)| number),
        dampening_percentage: s.count32("dampeningPercentage"),
        rebalance_threshold_percentage: s.count32("reBalanceThresholdPercentage"),
        allow_throughput_overshoot: s.flag("allowThroughputOvershoot"),
        variance_balancing_frequency: s.count32("varianceBalancingFrequency"),
        ema_alpha,
        stale_entry_age,
    }
}

fn coordination(s: &mut Settings, application_name: &str) -> Coordination {
    let client_version = match s.constant("clientVersionConfig") {
        "CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X" => ClientVersion::CompatibleWith2x,
        "CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X_PHASE1" => ClientVersion::CompatibleWith2xPhase1,
        _ => ClientVersion::V3x,
    };
    let bake = s.positive("tableMigrationCompleteBakeTimeSeconds");
    let mut bake_seconds = crate::settings::default_number("tableMigrationCompleteBakeTimeSeconds");
    if let Some((seconds, setting)) = &bake {
        bake_seconds = (*seconds).clamp(*BAKE_SECONDS.start(), *BAKE_SECONDS.end());
        if bake_seconds != *seconds {
            s.warn(
                setting,
                format!("{} = {seconds} is moved to {bake_seconds}", setting.written),
            );
        }
    }
    s.record(
        "tableMigrationCompleteBakeTimeSeconds",
        bake_seconds,
        origin(bake.as_ref()),
    );
    Coordination {
        client_version,
        migrate_to_lease_table: s.flag("migrateAllEntitiesToLeaseTable"),
        migration_bake_time: Duration::from_secs(bake_seconds),
        coordinator_state_table_name: text_or(
            s,
            "coordinatorStateTableName",
            &format!("{application_name}-CoordinatorState"),
        ),
        worker_metrics_table_name: text_or(
            s,
            "workerMetricsTableName",
            &format!("{application_name}-WorkerMetricStats"),
        ),
        initialization_backoff: s.millis("schedulerInitializationBackoffTimeMillis"),
    }
}

fn metrics(s: &mut Settings) -> Metrics {
    let level = match s.constant("metricsLevel") {
        "NONE" => MetricsLevel::None,
        "SUMMARY" => MetricsLevel::Summary,
        _ => MetricsLevel::Detailed,
    };
    let setting = s.setting("metricsEnabledDimensions");
    let dimensions = setting
        .as_ref()
        .map_or_else(|| vec!["ALL".to_owned()], |setting| values::list(&setting.value));
    if let Some(setting) = &setting {
        const KNOWN: [&str; 4] = ["Operation", "ShardId", "WorkerIdentifier", "ALL"];
        for unknown in dimensions
            .iter()
            .filter(|dimension| !KNOWN.contains(&dimension.as_str()))
        {
            s.warn(
                setting,
                format!(
                    "{}: '{unknown}' is no dimension; there are {}",
                    setting.written,
                    KNOWN.join(", ")
                ),
            );
        }
    }
    let shown = if dimensions.is_empty() {
        "(none)".to_owned()
    } else {
        dimensions.join(",")
    };
    let from = setting.map_or(Origin::Default, |setting| Origin::File { line: setting.line });
    s.record("metricsEnabledDimensions", shown, from);
    Metrics {
        level,
        dimensions,
        buffer_time: s.millis("metricsBufferTimeMillis"),
        queue_max: s.count32("metricsMaxQueueSize"),
    }
}

fn log(s: &mut Settings) -> Log {
    let level = s.setting("logLevel").is_some();
    let format = s.setting("logFormat").is_some();
    Log {
        level: LogLevel::parse(s.constant("logLevel")).filter(|_| level),
        format: LogFormat::parse(s.constant("logFormat")).filter(|_| format),
    }
}

// -- clients

/// The credentials keys that are not of one client, and what they give.
struct GeneralCredentials {
    kinesis: CredentialsChain,
    dynamodb: CredentialsChain,
    cloudwatch: CredentialsChain,
    system_keys: Option<StaticKeys>,
}

fn general_credentials(input: &Input<'_>, s: &mut Settings) -> GeneralCredentials {
    let property = |name: &str| {
        input
            .system_properties
            .get(name)
            .filter(|value| !value.is_empty())
            .map(Secret::new)
    };
    let system_keys = property("aws.accessKeyId")
        .zip(property("aws.secretAccessKey"))
        .map(|(id, key)| StaticKeys {
            access_key_id: id,
            secret_access_key: key,
            session_token: property("aws.sessionToken"),
        });
    let keys = system_keys.as_ref();
    let kinesis = general_chain(
        s,
        "awsCredentialsProvider",
        "kinesisCredentialsProvider.class",
        keys,
    );
    if kinesis.is_none() && !input.local {
        s.error_at(
            None,
            Some("awsCredentialsProvider"),
            "a basic set of AWS credentials must be provided, e.g. awsCredentialsProvider = DefaultCredentialsProvider",
        );
    }
    let kinesis = kinesis.unwrap_or_default();
    let dynamodb = general_chain(
        s,
        "awsCredentialsProviderDynamoDB",
        "dynamoDBCredentialsProvider.class",
        keys,
    );
    let cloudwatch = general_chain(
        s,
        "awsCredentialsProviderCloudWatch",
        "cloudWatchCredentialsProvider.class",
        keys,
    );
    GeneralCredentials {
        dynamodb: dynamodb.unwrap_or_else(|| kinesis.clone()),
        cloudwatch: cloudwatch.unwrap_or_else(|| kinesis.clone()),
        kinesis,
        system_keys,
    }
}

fn general_chain(
    s: &mut Settings,
    name: &str,
    class_name: &str,
    keys: Option<&StaticKeys>,
) -> Option<CredentialsChain> {
    let (list, class) = (s.setting(name), s.setting(class_name));
    let setting = match (list, class) {
        (Some(list), Some(class)) => {
            // Compat: Java stops or takes the first, by the order of a hash table.
            let (winner, loser) = if list.line < class.line {
                (list, class)
            } else {
                (class, list)
            };
            let text = format!(
                "'{}' overrides '{}' (line {})",
                winner.written, loser.written, loser.line
            );
            s.warn(&winner, text);
            winner
        }
        (list, class) => list.or(class)?,
    };
    Some(chain_of(s, &setting, name, keys))
}

fn chain_of(s: &mut Settings, setting: &Setting, name: &str, keys: Option<&StaticKeys>) -> CredentialsChain {
    let read = parse_chain(&setting.value, keys);
    for warning in read.warnings {
        s.warn(setting, format!("{}: {warning}", setting.written));
    }
    for error in read.errors {
        s.error(setting, format!("{}: {error}", setting.written));
    }
    s.record(name, read.chain.describe(), Origin::File { line: setting.line });
    read.chain
}

fn clients(
    input: &Input<'_>,
    s: &mut Settings,
    general: &GeneralCredentials,
    stream: Option<&Stream>,
) -> [ClientConfig; 3] {
    let general_region = s.setting("regionName");
    let endpoints = ["kinesisEndpoint", "dynamoDBEndpoint", "cloudWatchEndpoint"];
    let all_overridden = CLIENTS.iter().zip(endpoints).all(|(client, endpoint)| {
        s.setting(endpoint).is_some() || s.setting(&format!("{client}.endpointOverride")).is_some()
    });
    let general_region = general_region.and_then(|setting| region(s, setting, all_overridden));
    let outside = outside_region(input);
    match (&general_region, &outside) {
        (Some(setting), _) => s.record("regionName", &setting.value, Origin::File { line: setting.line }),
        (None, Some((region, from))) => s.record("regionName", region, from.clone()),
        (None, None) => {
            let text = match stream.and_then(|stream| stream.arn.as_ref()) {
                Some(arn) => format!("({}, of streamArn, unless the profile has one)", arn.region),
                None => "(of the profile)".to_owned(),
            };
            s.record("regionName", text, Origin::Default);
        }
    }
    let general_region = general_region
        .map(|setting| setting.value)
        .or(outside.map(|(region, _)| region));
    let mut build = |index: usize, credentials: &CredentialsChain| {
        let client = CLIENTS[index];
        client_config(
            s,
            client,
            endpoints[index],
            general_region.as_deref(),
            all_overridden,
            credentials,
            general.system_keys.as_ref(),
        )
    };
    let kinesis = build(0, &general.kinesis);
    let dynamodb = build(1, &general.dynamodb);
    let cloudwatch = build(2, &general.cloudwatch);
    if let (Some(arn), Some(region)) = (stream.and_then(|stream| stream.arn.as_ref()), &kinesis.region) {
        if arn.region != *region {
            let line = s.setting("streamArn").map(|setting| setting.line);
            s.warn_at(
                line,
                Some("streamArn"),
                format!("streamArn names {}, clients use {region}", arn.region),
            );
        }
    }
    [kinesis, dynamodb, cloudwatch]
}

/// The region of `-D` flags and environment, in the order of the SDKs.
fn outside_region(input: &Input<'_>) -> Option<(String, Origin)> {
    let filled = |region: &String| !values::java_trim(region).is_empty();
    if let Some(region) = input
        .system_properties
        .get("aws.region")
        .filter(|region| filled(region))
    {
        return Some((region.clone(), Origin::SystemProperty("aws.region")));
    }
    // Compat: the Java SDK does not know AWS_DEFAULT_REGION; the Rust SDK and the AWS CLI do.
    ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .into_iter()
        .find_map(|variable| {
            (input.environment)(variable)
                .filter(filled)
                .map(|region| (region, Origin::Environment(variable)))
        })
}

fn region(s: &mut Settings, setting: Setting, all_overridden: bool) -> Option<Setting> {
    let trimmed = values::java_trim(&setting.value);
    if values::is_region(&setting.value) {
        return Some(setting);
    }
    if all_overridden && values::is_region(trimmed) {
        let text = format!(
            "{} = '{}' contains a blank; using '{trimmed}'",
            setting.written, setting.value
        );
        s.warn(&setting, text);
        return Some(Setting {
            value: trimmed.to_owned(),
            ..setting
        });
    }
    let reason = if trimmed.is_empty() {
        "must not be blank"
    } else {
        "cannot be part of a host name (blanks count)"
    };
    let text = format!(
        "{} = '{}' {reason}; accepted is a region such as eu-west-1",
        setting.written, setting.value
    );
    s.error(&setting, text);
    None
}

fn client_config(
    s: &mut Settings,
    client: &str,
    endpoint_name: &str,
    general_region: Option<&str>,
    all_overridden: bool,
    general_credentials: &CredentialsChain,
    system_keys: Option<&StaticKeys>,
) -> ClientConfig {
    let name = |leaf: &str| format!("{client}.{leaf}");
    let own_region = s
        .setting(&name("region"))
        .and_then(|setting| region(s, setting, all_overridden));
    if let Some(setting) = &own_region {
        s.record(
            &name("region"),
            &setting.value,
            Origin::File { line: setting.line },
        );
        overriding(s, setting, "regionName");
    }
    let own_endpoint = s.url(&name("endpointOverride"));
    let general_endpoint = s.url(endpoint_name);
    if let Some(setting) = &own_endpoint {
        s.record(
            &name("endpointOverride"),
            &setting.value,
            Origin::File { line: setting.line },
        );
        overriding(s, setting, endpoint_name);
    }
    s.record_optional(
        endpoint_name,
        general_endpoint
            .as_ref()
            .map(|setting| (setting.value.clone(), setting)),
    );
    let credentials = match s.setting(&name("credentialsProvider.class")) {
        Some(setting) => chain_of(s, &setting, &name("credentialsProvider.class"), system_keys),
        None => general_credentials.clone(),
    };
    let retry = s.optional_constant(&name("overrideConfiguration.retryPolicy"));
    let strategy = s.optional_constant(&name("overrideConfiguration.retryStrategy"));
    let retry = strategy.or(retry);
    if let Some((text, setting)) = &retry {
        s.record(
            &keys::find(&setting.written).map_or_else(String::new, |found| found.name),
            text,
            Origin::File { line: setting.line },
        );
    }
    let mut timeout = |leaf: &str| {
        let name = name(leaf);
        let found = s.duration(&name);
        if let Some((_, setting)) = &found {
            s.record(&name, &setting.value, Origin::File { line: setting.line });
        }
        found.map(|(duration, _)| duration)
    };
    let call_timeout = timeout("overrideConfiguration.apiCallTimeout");
    let attempt_timeout = timeout("overrideConfiguration.apiCallAttemptTimeout");
    let mut flag = |leaf: &str| {
        let name = name(leaf);
        let found = s.optional_flag(&name);
        if let Some((value, setting)) = &found {
            s.record(&name, value, Origin::File { line: setting.line });
        }
        found.map(|(value, _)| value)
    };
    let fips = flag("fipsEnabled");
    let dualstack = flag("dualstackEnabled");
    let profile = s.filled_text(&name("overrideConfiguration.defaultProfileName"));
    if let Some(setting) = &profile {
        s.record(
            &name("overrideConfiguration.defaultProfileName"),
            &setting.value,
            Origin::File { line: setting.line },
        );
    }
    ClientConfig {
        region: own_region
            .map(|setting| setting.value)
            .or_else(|| general_region.map(str::to_owned)),
        endpoint: own_endpoint.or(general_endpoint).map(|setting| setting.value),
        fips,
        dualstack,
        call_timeout,
        attempt_timeout,
        profile: profile.map(|setting| setting.value),
        retry_mode: retry.map(|(text, _)| match text {
            "LEGACY" => RetryMode::Legacy,
            "STANDARD" => RetryMode::Standard,
            _ => RetryMode::Adaptive,
        }),
        credentials,
    }
}

/// Compat: Java applies the two in the order of a hash table; here the specific one wins.
fn overriding(s: &mut Settings, specific: &Setting, general: &str) {
    if let Some(other) = s.setting(general) {
        if other.value != specific.value {
            s.info(
                specific,
                format!(
                    "'{}' overrides '{general}' (line {})",
                    specific.written, other.line
                ),
            );
        }
    }
}
