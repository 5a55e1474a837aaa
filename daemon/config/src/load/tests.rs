//! What keys mean, one by one and together. The cases are those of properties.md that were seen with the real daemon.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{ClientVersion, MetricsLevel, Retrieval};
use crate::credentials::Provider;
use crate::keys::{SECTIONS, Verdict};
use crate::loaded::{Severity, render_validation};

/// The least that a file must hold.
const LEAST: &str = "executableName = app.py\napplicationName = words\nstreamName = stream\n\
                     awsCredentialsProvider = DefaultCredentialsProvider\n";
/// The line that text after [`LEAST`] starts on.
const NEXT: usize = 5;

#[test]
fn the_least_file_loads_with_the_defaults_of_java_and_without_a_warning() {
    let loaded = load_text(LEAST);
    assert_eq!(loaded.errors, []);
    assert_eq!(texts(&loaded), Vec::<String>::new());
    let config = loaded.config.unwrap();
    assert_eq!(config.argv, ["app.py"]);
    assert_eq!(config.table_name, "words");
    assert_eq!(config.worker_id, None);
    assert_eq!(config.initial_position, InitialPosition::Latest);
    assert_eq!(config.leases.failover_time, Duration::from_secs(10));
    assert_eq!(config.leases.assignment_interval, Duration::from_secs(20));
    assert_eq!(config.leases.leases_per_worker_max, 2_147_483_647);
    assert_eq!(config.shutdown_grace, Duration::from_secs(20));
    assert_eq!(config.child.reply_timeout, None);
    assert_eq!(config.child.line_bytes_max, 16 * 1024 * 1024);
    assert_eq!(config.read_ahead_bytes_max, 256 * 1024 * 1024);
    assert_eq!(config.threads, None);
    assert_eq!(config.polling.idle_time, Duration::from_millis(1500));
    assert_eq!(config.metrics.level, MetricsLevel::Detailed);
    assert_eq!(config.metrics.dimensions, ["ALL"]);
    assert_eq!(config.handoff.timeout, Duration::from_secs(30));
    assert!(config.handoff.enabled);
    assert_eq!(config.balancing.dampening_percentage, 60);
    assert_eq!(config.balancing.stale_entry_age, Duration::from_secs(86_400));
    assert_eq!(config.coordination.client_version, ClientVersion::V3x);
    assert_eq!(
        config.coordination.worker_metrics_table_name,
        "words-WorkerMetricStats"
    );
    assert_eq!(config.kinesis.credentials.providers, [Provider::Default]);
    assert_eq!(config.cloudwatch.credentials, config.kinesis.credentials);
    assert_eq!(config.kinesis.region, None);
}

#[test]
fn an_empty_file_lists_everything_that_is_missing() {
    let loaded = load_text("");
    assert_eq!(loaded.config, None);
    let errors: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        errors,
        [
            "app.properties: must provide an executable name in the properties file, e.g. executableName = sampleapp.py",
            "app.properties: application name is required, e.g. applicationName = word-count",
            "app.properties: stream name or stream ARN is required, e.g. streamName = words; streamArn takes precedence if both are given",
            "app.properties: a basic set of AWS credentials must be provided, e.g. awsCredentialsProvider = DefaultCredentialsProvider",
        ]
    );
}

#[test]
fn local_runs_need_no_credentials() {
    let text = "executableName = a\napplicationName = b\nstreamName = c\n";
    let none = BTreeMap::new();
    let input = Input {
        file: "f",
        bytes: text.as_bytes(),
        environment: &|_| None,
        system_properties: &none,
        local: true,
    };
    assert_eq!(load(&input).errors, []);
}

/// (text after the least, what the warning says). One warning each, and the file loads.
#[rustfmt::skip]
const WARNINGS: &[(&str, &str)] = &[
    ("FailoverTimeMillis = 1", "property 'FailoverTimeMillis' is not known and is ignored; did you mean 'failoverTimeMillis'?"),
    ("my.own.thing = 1", "property 'my.own.thing' is not known and is ignored"),
    ("foo[1] = x", "property 'foo[1]' is not known and is ignored"),
    ("foo(bar) = x", "property 'foo(bar)' is not known and is ignored"),
    ("failoverTimeMillis(x) = 1", "property 'failoverTimeMillis(x)' is not known and is ignored; did you mean 'failoverTimeMillis'?"),
    ("tableName.x = 1", "property 'tableName.x' is not known and is ignored; did you mean 'tableName'?"),
    ("= x", "an entry without a name is ignored"),
    ("class = x", "property 'class' is not known and is ignored"),
    ("fanoutConfig.bogus = 1", "property 'fanoutConfig.bogus' is not known and is ignored"),
    ("gracefulLeaseHandoffEnabled = false", "property 'gracefulLeaseHandoffEnabled' is not known and is ignored; did you mean 'isGracefulLeaseHandoffEnabled'?"),
    ("billingMode = X", "property 'billingMode' has no effect (nor in the Java daemon): the lease table is on-demand"),
    ("leaseCleanupConfig.x = 1", "property 'leaseCleanupConfig.x' has no effect (nor in the Java daemon): the times of lease clean-up are fixed"),
    ("kinesisClient = x", "property 'kinesisClient' has no effect (nor in the Java daemon): use kinesisClient.region and its other keys"),
    ("timestampAtInitialPositionInStream = 1", "property 'timestampAtInitialPositionInStream' is from KCL 1.x; use initialPositionInStreamExtended (epoch seconds)"),
    ("maxActiveThreads = 20", "property 'maxActiveThreads' is accepted and has no effect: this daemon needs no thread limit"),
    ("kinesisClient.overrideConfiguration.retryStrategy = ADAPTIVE_V2", "property 'kinesisClient.overrideConfiguration.retryStrategy' is accepted and has no effect: requests are repeated by rules of the daemon's own"),
    ("maxActiveThreads = -1", "property 'maxActiveThreads' is accepted and has no effect: this daemon needs no thread limit"),
    ("initialLeaseTableReadCapacity = 5", "property 'initialLeaseTableReadCapacity' is accepted and has no effect (nor in the Java daemon): the lease table is on-demand"),
    ("validateSequenceNumberBeforeCheckpointing = true", "property 'validateSequenceNumberBeforeCheckpointing' is accepted and has no effect (nor in the Java daemon): it has been unused since KCL 2.x"),
    ("failoverTimeMillis = abc", "failoverTimeMillis = 'abc' is not a number; using 10000 (the Java daemon does the same silently)"),
    ("failoverTimeMillis = 5,000", "failoverTimeMillis = '5,000' is not a number; using 10000 (the Java daemon does the same silently)"),
    ("failoverTimeMillis = 0", "failoverTimeMillis = 0 counts as not set, as in the Java daemon; using 10000"),
    ("failoverTimeMillis = -1", "failoverTimeMillis = -1 is negative; using 10000"),
    ("leaseAssignmentIntervalMillis = x", "leaseAssignmentIntervalMillis = 'x' is not a number; using 2 × failoverTimeMillis (the Java daemon does the same silently)"),
    ("maxLeasesForWorker = 3000000000", "maxLeasesForWorker = '3000000000' is too large; using 2147483647 (the Java daemon does the same silently)"),
    ("maxRecords = 100 # small", "maxRecords = '100 # small' is not a number; using 10000 (the Java daemon does the same silently); a comment cannot follow a value"),
    ("gracefulLeaseHandoffTimeoutMillis = abc", "gracefulLeaseHandoffTimeoutMillis = 'abc' is not a number; it applies as 0, as in the Java daemon"),
    ("callProcessRecordsEvenForEmptyRecordList = true ", "callProcessRecordsEvenForEmptyRecordList = 'true ' ends with a blank; the Java daemon reads this as false, and so it is here"),
    ("isGracefulLeaseHandoffEnabled = ja", "isGracefulLeaseHandoffEnabled = 'ja' is neither true nor false; the Java daemon reads this as false, and so it is here"),
    ("cleanupLeasesUponShardCompletion = false", "cleanupLeasesUponShardCompletion=false has no effect in the Java daemon (2.x/3.x); finished leases are still removed"),
    ("shutdownGraceMillis = soon", "shutdownGraceMillis = 'soon' is not a number; using 20000 (the Java daemon silently takes 0)"),
    ("workerId = ", "workerId is blank and counts as not set: using a random one"),
    ("workerId = \"w1\"", "workerId = '\\\"w1\\\"' keeps its quotes: they are part of the value"),
    ("tableName = leases # mine", "tableName = 'leases # mine' contains ' #': a comment cannot follow a value, it is part of it"),
    ("tableName = leases ", "tableName = 'leases ' ends with a blank, which is part of the value"),
    ("tableName = C:\\new", "tableName = 'C:\\new' contains a control character; a backslash begins an escape, write \\\\ for one backslash"),
    ("initialPositionInStream = LATEST\ninitialPositionInStreamExtended = 1600000000", "initialPositionInStreamExtended overrides initialPositionInStream"),
    ("initialPositionInStreamExtended = 1600000000000", "initialPositionInStreamExtended = 1600000000000 lies in the far future; it is in seconds, not milliseconds"),
    ("idleTimeBetweenReadsInMillis = 100", "idleTimeBetweenReadsInMillis = 100 is raised to 200"),
    ("maxRecords = 5\npollingConfig.maxRecords = 6", "'pollingConfig.maxRecords' overrides 'maxRecords' (line 5)"),
    ("metricsLevel = NONE\nmetricsLevel = SUMMARY", "'metricsLevel' is set more than once (first in line 5); the last one counts"),
    ("workerIdentifier = a\nworkerId = b", "'workerId' overrides 'workerIdentifier' (line 5)"),
    ("workerId = b\nworkerIdentifier = a", "'workerId' overrides 'workerIdentifier' (line 6)"),
    ("retrievalMode = FANOUT\nmaxRecords = 5", "'maxRecords' is ignored: retrievalMode FANOUT: enhanced fan-out, consumer 'words'"),
    ("retrievalMode = polling\nfanoutConfig.consumerName = c", "'fanoutConfig.consumerName' is ignored: retrievalMode POLLING"),
    ("streamArn = arn:aws:kinesis:eu-west-1:111122223333:stream/other", "streamArn wins over streamName: reading 'other', not 'stream' (line 3)"),
    ("streamArn = arn:aws:kinesis:eu-west-1:111122223333:stream/stream\nregionName = us-east-1", "streamArn names eu-west-1, clients use us-east-1"),
    ("regionName = eu-west-1\nkinesisClient.region = eu-west-2", "'kinesisClient.region' overrides 'regionName' (line 5)"),
    ("dynamoDBEndpoint = http://a\ndynamoDbClient.endpointOverride = http://b", "'dynamoDbClient.endpointOverride' overrides 'dynamoDBEndpoint' (line 5)"),
    ("kinesisClient.fipsEnabled = abc", "kinesisClient.fipsEnabled = 'abc' is neither true nor false; the Java daemon reads this as false, and so it is here"),
    ("awsCredentialsProviderDynamoDB = DefaultAWSCredentialsProviderChain", "awsCredentialsProviderDynamoDB: 'DefaultAWSCredentialsProviderChain' is the SDK v1 name; using DefaultCredentialsProvider"),
    ("kinesisCredentialsProvider.class = ProfileCredentialsProvider", "'awsCredentialsProvider' overrides 'kinesisCredentialsProvider.class' (line 5)"),
    ("metricsEnabledDimensions = Operation,Shard", "metricsEnabledDimensions: 'Shard' is no dimension; there are Operation, ShardId, WorkerIdentifier, ALL"),
    ("workerMetricsEMAAlpha = 2", "workerMetricsEMAAlpha = 2 is not between 0 and 1; using 0.5"),
    ("tableName = é", "the file is UTF-8 but .properties files are ISO-8859-1 (é becomes Ã©); write other characters as \\uXXXX"),
];

#[test]
fn what_java_does_silently_is_said_once() {
    for (text, warning) in WARNINGS {
        let loaded = load_text(&format!("{LEAST}{text}\n"));
        assert_eq!(loaded.errors, [], "{text}");
        assert_eq!(texts(&loaded), [*warning], "{text}");
    }
}

/// (text after the least, what the error says). One error each.
#[rustfmt::skip]
const ERRORS: &[(&str, &str)] = &[
    ("metricsLevel = FULL", "metricsLevel = 'FULL': accepted are NONE, SUMMARY, DETAILED in any case"),
    ("metricsLevel = NONE ", "metricsLevel = 'NONE ' (the blank at its end counts): accepted are NONE, SUMMARY, DETAILED in any case"),
    ("retrievalMode = ", "retrievalMode = '': accepted are DEFAULT, POLLING, FANOUT in any case"),
    ("retrievalMode = EFO", "retrievalMode = 'EFO': accepted are DEFAULT, POLLING, FANOUT in any case"),
    ("clientVersionConfig = 2X", "clientVersionConfig = '2X': accepted are CLIENT_VERSION_CONFIG_3X, CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X, CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X_PHASE1 in any case"),
    ("workerMetricsBillingMode = X", "workerMetricsBillingMode = 'X': accepted are PAY_PER_REQUEST, PROVISIONED in any case"),
    ("maxActiveThreads = many", "maxActiveThreads = 'many' is not a whole number (blanks around it count)"),
    ("maxActiveThreads = 5 ", "maxActiveThreads = '5 ' is not a whole number (blanks around it count)"),
    ("maxRecords = 10001", "maxRecords = 10001: accepted is a number from 1 to 10000"),
    ("maxRecords = -1", "maxRecords = -1: accepted is a number from 1 to 10000"),
    ("leaseTableScanTotalSegments = -1", "leaseTableScanTotalSegments = -1 must be a positive number; leave unset for automatic sizing"),
    ("timeoutInSeconds = 0", "timeoutInSeconds = '0': accepted is a whole number of seconds above 0; leave it out to wait without limit"),
    ("timeoutInSeconds = abc", "timeoutInSeconds = 'abc': accepted is a whole number of seconds above 0; leave it out to wait without limit"),
    ("initialPositionInStream = AT_TIMESTAMP", "initialPositionInStream = AT_TIMESTAMP is not accepted; use initialPositionInStreamExtended = SECONDS_SINCE_1970"),
    ("initialPositionInStream = EARLIEST", "initialPositionInStream = 'EARLIEST': accepted are LATEST, TRIM_HORIZON in any case"),
    ("initialPositionInStreamExtended = 5 ", "initialPositionInStreamExtended = '5 ' is not a whole number of seconds since 1970 (blanks around it count)"),
    ("staleWorkerMetricsEntryCleanupDuration = 1 day", "staleWorkerMetricsEntryCleanupDuration = '1 day' is not an ISO-8601 duration such as PT30S, PT12H or P1D"),
    ("staleWorkerMetricsEntryCleanupDuration = -PT5S", "staleWorkerMetricsEntryCleanupDuration = '-PT5S' is negative"),
    ("kinesisEndpoint = localhost:4566", "kinesisEndpoint = 'localhost:4566' does not begin with http:// or https://; accepted is a URL such as http://localhost:4566"),
    ("dynamoDBEndpoint = http://localhost ", "dynamoDBEndpoint = 'http://localhost ' ends with a blank; accepted is a URL such as http://localhost:4566"),
    ("cloudWatchClient.endpointOverride = ", "cloudWatchClient.endpointOverride = '' is empty; accepted is a URL such as http://localhost:4566"),
    ("regionName = ", "regionName = '' must not be blank; accepted is a region such as eu-west-1"),
    ("regionName = us-east-1 ", "regionName = 'us-east-1 ' cannot be part of a host name (blanks count); accepted is a region such as eu-west-1"),
    ("foo[bar] = x", "property 'foo[bar]': an index is not a number; the Java daemon stops at it too"),
    ("foo[ = x", "property 'foo[': an index is not closed; the Java daemon stops at it too"),
    ("foo( = x", "property 'foo(': an index is not closed; the Java daemon stops at it too"),
    ("failoverTimeMillis[0] = 1", "property 'failoverTimeMillis[0]': the property has no index; the Java daemon stops at it too"),
    ("kinesisClient.bogus = 1", "property 'kinesisClient.bogus' is not known"),
    ("kinesisClient.Region = eu-west-1", "property 'kinesisClient.Region' is not known; did you mean 'kinesisClient.region'?"),
    ("kinesisClient.httpClient.x = 1", "'kinesisClient.httpClient.x' is refused: it configures the Java SDK and cannot be honoured; remove it"),
    ("kinesisClient.defaultsMode = STANDARD", "'kinesisClient.defaultsMode' is refused: no text can give it in the Java daemon either; use AWS_DEFAULTS_MODE"),
    ("shardPrioritization = x", "'shardPrioritization' is refused: it stops the Java daemon too: no text can give a prioritization object"),
    ("kinesisClient.overrideConfiguration.retryStrategy = standard", "kinesisClient.overrideConfiguration.retryStrategy = 'standard': accepted are LEGACY, STANDARD, ADAPTIVE, ADAPTIVE_V2 in capitals"),
    ("streamArn = arn:aws:kinesis:EU:1:stream/x", "streamArn = 'arn:aws:kinesis:EU:1:stream/x' is not the ARN of a stream; accepted is arn:aws:kinesis:REGION:ACCOUNT:stream/NAME with an account of 12 digits"),
    ("AWSCredentialsProvider = DefaultCredentialsProvider", "'AWSCredentialsProvider' and 'awsCredentialsProvider' (line 4) are two spellings of the same property; keep one"),
    ("awsCredentialsProviderDynamoDB = org.acme.P", "awsCredentialsProviderDynamoDB: credentials provider 'org.acme.P' is a Java class; use a profile with credential_process"),
    ("tableName = \\u12", "malformed \\uxxxx encoding: four hexadecimal digits must follow \\u (a backslash itself is written \\\\)"),
    ("maxLineBytes = 1k", "maxLineBytes = '1k': accepted is a whole number from 1024 to 1073741824"),
    ("workerThreads = 0", "workerThreads = '0': accepted is a whole number from 1 to 64"),
    ("maxReadAheadBytes = 64m", "maxReadAheadBytes = '64m': accepted is a whole number from 1048576 to 1099511627776"),
    ("restartFailedChild = maybe", "restartFailedChild = 'maybe': accepted are true and false"),
    ("logFormat = xml", "logFormat = 'xml': accepted are TEXT, JSON in any case"),
];

#[test]
fn every_error_names_its_line_key_value_and_what_is_accepted() {
    for (text, error) in ERRORS {
        let loaded = load_text(&format!("{LEAST}{text}\n"));
        let shown: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
        assert_eq!(shown, [format!("app.properties:{NEXT}: {error}")], "{text}");
        assert_eq!(loaded.config, None, "{text}");
    }
}

#[test]
fn all_errors_of_a_file_are_reported_at_once_in_the_order_of_its_lines() {
    let loaded = load_text(&format!(
        "{LEAST}regionName =\nmetricsLevel = x\nmaxRecords = 20000\n"
    ));
    assert_eq!(
        loaded.errors.iter().map(|error| error.line).collect::<Vec<_>>(),
        [Some(5), Some(6), Some(7)]
    );
}

#[test]
fn a_mark_at_the_start_spoils_the_first_key_as_in_java() {
    let loaded = load_text(&format!("\u{feff}{LEAST}"));
    assert_eq!(
        texts(&loaded),
        [
            "the file begins with a UTF-8 byte order mark, which becomes part of its first key, so 'executableName' is ignored; save the file without it"
        ]
    );
    assert_eq!(loaded.errors.len(), 1);
}

/// (text after the least, whether it means polling). The rule of `RetrievalMode.DEFAULT`.
const DEFAULT_RULE: &[(&str, bool)] = &[
    ("", false),
    ("maxRecords = 100", true),
    ("pollingConfig.maxRecords = 100", true),
    ("maxRecords = 0", false),
    ("maxRecords = 100 # small", false),
    ("idleTimeBetweenReadsInMillis = 250", true),
    ("idleTimeBetweenReadsInMillis = 0", false),
    ("millisBehindLatestThresholdForReducedTps = 1", true),
    ("millisBehindLatestThresholdForReducedTps = 0", false),
    ("retryGetRecordsInSeconds = 0", true),
    ("maxGetRecordsThreadPool = abc", true),
    ("retrievalMode = FANOUT\nmaxRecords = 100", false),
    ("retrievalMode = Polling", true),
    ("retrievalMode = default", false),
    ("fanoutConfig.consumerName = x", false),
];

#[test]
fn retrieval_by_default_is_polling_if_a_polling_key_counts_as_set() {
    for (text, polling) in DEFAULT_RULE {
        let config = good(text);
        assert_eq!(config.retrieval == Retrieval::Polling, *polling, "{text}");
    }
    assert_eq!(
        good("").retrieval_reason,
        "retrievalMode DEFAULT: no polling property set, using enhanced fan-out, consumer 'words'"
    );
    assert_eq!(
        good("maxRecords = 7").retrieval_reason,
        "retrievalMode DEFAULT: polling, because maxRecords is set"
    );
}

#[test]
fn false_and_zero_are_unset_for_primitives_and_applied_for_objects() {
    let config = good(
        "isGracefulLeaseHandoffEnabled = false\ngracefulLeaseHandoffTimeoutMillis = 0\nlogWarningForTaskAfterMillis = 0\n\
         enablePriorityLeaseAssignment = no\nignoreUnexpectedChildShards = false\nallowThroughputOvershoot = off",
    );
    assert!(!config.handoff.enabled);
    assert_eq!(config.handoff.timeout, Duration::ZERO);
    assert_eq!(config.lifecycle.warn_about_task_after, Some(Duration::ZERO));
    assert!(!config.leases.priority_assignment);
    assert!(!config.shards.ignore_unexpected_children);
    assert!(!config.balancing.allow_throughput_overshoot);
}

#[test]
fn values_arrive_where_they_belong() {
    let config = good(
        "executableName = node app.js  --x\nworkerId = w-1\ntableName = leases\nprocessingLanguage = nodejs/20\n\
         timeoutInSeconds = 30\nshutdownGraceMillis = 0\ninitialPositionInStream = trim_horizon\nfailoverTimeMillis = 5000\n\
         maxThroughputPerHostKBps = 1e3\nworkerMetricsEMAAlpha = 0.2f\nstaleWorkerMetricsEntryCleanupDuration = PT12H\n\
         clientVersionConfig = client_version_config_compatible_with_2x\nmetricsLevel = none\nmetricsEnabledDimensions =\n\
         maxRecords = 500\nmaxLineBytes = 2048\nrestartFailedChild = true\nlogLevel = debug\nlogFormat = json\nlocalShards = 4\n\
         maxReadAheadBytes = 33554432\nworkerThreads = 2\nchildStderrLevel = warn\nchildExitTimeoutMillis = 500\nleaseTableScanTotalSegments = 4\n\
         gracefulLeaseHandoffConfigBean.gracefulLeaseHandoffTimeoutMillis = 700",
    );
    assert_eq!(config.argv, ["node", "app.js", "--x"]);
    assert_eq!(config.worker_id.as_deref(), Some("w-1"));
    assert_eq!(config.table_name, "leases");
    assert_eq!(config.processing_language.as_deref(), Some("nodejs/20"));
    assert_eq!(config.child.reply_timeout, Some(Duration::from_secs(30)));
    assert_eq!(config.shutdown_grace, Duration::ZERO);
    assert_eq!(config.initial_position, InitialPosition::TrimHorizon);
    assert_eq!(config.leases.assignment_interval, Duration::from_secs(10));
    assert_eq!(config.leases.scan_segments, Some(4));
    assert_eq!(config.balancing.throughput_per_host_kbps_max, Some(1000.0));
    assert_eq!(config.balancing.ema_alpha, 0.2);
    assert_eq!(config.balancing.stale_entry_age, Duration::from_secs(43_200));
    assert_eq!(
        config.coordination.client_version,
        ClientVersion::CompatibleWith2x
    );
    assert_eq!(config.metrics.level, MetricsLevel::None);
    assert_eq!(config.metrics.dimensions, Vec::<String>::new());
    assert_eq!(config.polling.records_max, 500);
    assert_eq!(config.child.line_bytes_max, 2048);
    assert_eq!(config.read_ahead_bytes_max, 32 * 1024 * 1024);
    assert_eq!(config.threads, Some(2));
    assert!(config.child.restart_failed);
    assert_eq!(config.child.stderr_level, LogLevel::Warn);
    assert_eq!(config.child.exit_timeout, Duration::from_millis(500));
    assert_eq!(
        config.log,
        Log {
            level: Some(LogLevel::Debug),
            format: Some(LogFormat::Json)
        }
    );
    assert_eq!(config.local_shards, 4);
    assert_eq!(config.handoff.timeout, Duration::from_millis(700));
}

#[test]
fn the_most_specific_client_key_wins() {
    let config = good(
        "regionName = eu-west-1\nkinesisEndpoint = http://k\ndynamoDBEndpoint = http://d\ncloudWatchEndpoint = http://c\n\
         dynamoDbClient.region = eu-west-2\ncloudWatchClient.endpointOverride = http://cc\nkinesisClient.fipsEnabled = false\n\
         kinesisClient.dualstackEnabled = true\nkinesisClient.overrideConfiguration.apiCallTimeout = PT5S\n\
         kinesisClient.overrideConfiguration.defaultProfileName = dev",
    );
    assert_eq!(config.kinesis.region.as_deref(), Some("eu-west-1"));
    assert_eq!(config.dynamodb.region.as_deref(), Some("eu-west-2"));
    assert_eq!(config.kinesis.endpoint.as_deref(), Some("http://k"));
    assert_eq!(config.dynamodb.endpoint.as_deref(), Some("http://d"));
    assert_eq!(config.cloudwatch.endpoint.as_deref(), Some("http://cc"));
    assert_eq!(
        (config.kinesis.fips, config.kinesis.dualstack),
        (Some(false), Some(true))
    );
    assert_eq!(config.dynamodb.fips, None);
    assert_eq!(config.kinesis.call_timeout, Some(Duration::from_secs(5)));
    assert_eq!(config.kinesis.profile.as_deref(), Some("dev"));
}

#[test]
fn each_service_may_have_credentials_of_its_own() {
    let config = good(
        "awsCredentialsProviderDynamoDB = ProfileCredentialsProvider|ddb\n\
         cloudWatchClient.credentialsProvider.class = software.amazon.awssdk.auth.credentials.AnonymousCredentialsProvider",
    );
    assert_eq!(config.kinesis.credentials.providers, [Provider::Default]);
    assert_eq!(
        config.dynamodb.credentials.providers,
        [Provider::Profile(Some("ddb".into()))]
    );
    assert_eq!(config.cloudwatch.credentials.providers, [Provider::Anonymous]);
}

#[test]
fn a_class_key_satisfies_the_demand_for_credentials_but_that_of_a_client_does_not() {
    let least = "executableName = a\napplicationName = b\nstreamName = c\n";
    let general = load_text(&format!(
        "{least}kinesisCredentialsProvider.class = ProfileCredentialsProvider\n"
    ));
    assert_eq!(
        general.config.unwrap().dynamodb.credentials.providers,
        [Provider::Profile(None)]
    );
    let of_client = load_text(&format!(
        "{least}kinesisClient.credentialsProvider.class = software.amazon.awssdk.auth.credentials.ProfileCredentialsProvider\n"
    ));
    assert!(
        of_client.errors[0]
            .text
            .starts_with("a basic set of AWS credentials must be provided")
    );
}

#[test]
fn a_stream_arn_gives_name_region_and_account() {
    let config = good("streamArn = arn:aws-cn:kinesis:cn-north-1:111122223333:stream/stream/consumer/c:1\n");
    let arn = config.stream.arn.clone().unwrap();
    assert_eq!(config.stream.name, "stream");
    assert_eq!(
        arn.text,
        "arn:aws-cn:kinesis:cn-north-1:111122223333:stream/stream"
    );
    assert_eq!(
        (arn.partition.as_str(), arn.account.as_str()),
        ("aws-cn", "111122223333")
    );
    assert_eq!(config.region_of_last_resort(), Some("cn-north-1"));
    assert_eq!(config.kinesis.region, None);
}

#[test]
fn the_region_comes_from_file_flag_and_environment_in_this_order() {
    let region = |text: &str, flags: &[(&str, &str)], environment: &[(&str, &str)]| {
        let flags: BTreeMap<String, String> = flags.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let text = format!("{LEAST}{text}");
        let lookup = |name: &str| {
            environment
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let input = Input {
            file: "f",
            bytes: text.as_bytes(),
            environment: &lookup,
            system_properties: &flags,
            local: false,
        };
        load(&input).config.unwrap().dynamodb.region.unwrap_or_default()
    };
    let flag = [("aws.region", "eu-central-1")];
    let both = [("AWS_DEFAULT_REGION", "us-west-1"), ("AWS_REGION", "us-west-2")];
    assert_eq!(region("regionName = eu-west-1", &flag, &both), "eu-west-1");
    assert_eq!(region("", &flag, &both), "eu-central-1");
    assert_eq!(region("", &[], &both), "us-west-2");
    assert_eq!(region("", &[], &both[..1]), "us-west-1");
}

#[test]
fn a_blank_in_a_region_is_forgiven_when_all_endpoints_are_given() {
    let config = good(
        "regionName = us-east-1 \nkinesisEndpoint = http://a\ndynamoDBEndpoint = http://a\ncloudWatchEndpoint = http://a",
    );
    assert_eq!(config.kinesis.region.as_deref(), Some("us-east-1"));
}

#[test]
fn every_key_that_has_an_effect_is_read() {
    for key in SECTIONS.iter().flat_map(|section| section.keys) {
        if !matches!(
            key.verdict,
            Verdict::Honoured | Verdict::Translated | Verdict::New
        ) {
            continue;
        }
        let name = key.name.replace("{client}", "dynamoDbClient");
        // A value that nothing accepts, or a text that shows up: either way the outcome must differ from the least file's.
        let value = "\u{1}";
        let loaded = load_text(&format!("{LEAST}{name} = {value}\n"));
        let plain = load_text(LEAST);
        assert!(
            loaded.errors != plain.errors
                || loaded.warnings != plain.warnings
                || loaded.sources != plain.sources,
            "{name} is in the table but nobody reads it",
        );
    }
}

#[test]
fn the_sample_files_of_the_official_clients_load_with_the_expected_warnings() {
    let python = "executableName = sample_kclpy_app.py\nstreamName = kclpysample\n\
        streamArn = arn:aws:kinesis:us-east-5:000000000000:stream/kclpysample\napplicationName = PythonKCLSample\n\
        AwsCredentialsProvider = DefaultCredentialsProvider\nprocessingLanguage = python/3.8\n\
        initialPositionInStream = TRIM_HORIZON\nregionName = us-east-1\n#retrievalMode = POLLING\n";
    let loaded = load_text(python);
    assert_eq!(loaded.errors, []);
    assert_eq!(
        texts(&loaded),
        ["streamArn names us-east-5, clients use us-east-1"]
    );

    let click_stream = "executableName = node click_stream_consumer.js\nstreamName = kclnodejsclickstreamsample\n\
        applicationName = kclnodejsclickstreamsample\nAWSCredentialsProvider = DefaultAWSCredentialsProviderChain\n\
        processingLanguage = nodejs/0.10\ninitialPositionInStream = TRIM_HORIZON\nregionName = us-east-1\n";
    let loaded = load_text(click_stream);
    assert_eq!(loaded.errors, []);
    assert_eq!(
        texts(&loaded),
        [
            "AWSCredentialsProvider: 'DefaultAWSCredentialsProviderChain' is the SDK v1 name; using DefaultCredentialsProvider"
        ]
    );

    let dotnet = "executableName = dotnet SampleConsumer.dll\r\nstreamName = myTestStream\r\napplicationName = DotNetKinesisSample\r\n\
        AwsCredentialsProvider = DefaultCredentialsProvider\r\nprocessingLanguage = C#\r\ninitialPositionInStream = TRIM_HORIZON\r\n\
        regionName = us-east-1\r\nmaxActiveThreads = 0\r\n";
    let loaded = load_text(dotnet);
    assert_eq!(loaded.errors, []);
    assert_eq!(
        loaded.config.as_ref().unwrap().processing_language.as_deref(),
        Some("C#")
    );
    assert_eq!(
        loaded
            .warnings
            .iter()
            .map(|warning| warning.severity)
            .collect::<Vec<_>>(),
        [Severity::Info]
    );
}

#[test]
fn validation_shows_values_with_their_lines_and_hides_secrets() {
    let text = "executableName = app.py --db-password=pepper\napplicationName = words\nstreamName = s\nfailoverTimeMillis = 5000\n\
        awsCredentialsProvider = StaticCredentialsProvider|AKIAX|hush|token\n\
        awsCredentialsProviderDynamoDB = KclStsAssumeRoleCredentialsProvider|arn:aws:iam::1:role/r|sess|externalId=very\n\
        MaxRecords = 5\nmetricsLevel = x\n";
    let shown = render_validation(&load_text(text));
    let line = |start: &str| {
        shown
            .lines()
            .find(|line| line.trim_start().starts_with(start))
            .unwrap_or_default()
    };
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        squeeze(line("failoverTimeMillis")),
        "failoverTimeMillis 5000 line 4"
    );
    assert_eq!(
        squeeze(line("leaseAssignmentIntervalMillis")),
        "leaseAssignmentIntervalMillis 10000 default"
    );
    assert_eq!(
        squeeze(line("awsCredentialsProvider ")),
        "awsCredentialsProvider static keys (***) line 5"
    );
    assert!(
        shown.contains(
            "line 7: property 'MaxRecords' is not known and is ignored; did you mean 'maxRecords'?"
        )
    );
    assert!(shown.contains("1 error\n  line 8: metricsLevel = 'x'"));
    for secret in ["AKIAX", "hush", "token", "role/r", "very", "pepper"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn validation_shows_the_environment_and_hides_its_secrets() {
    let set = |name: &str| match name {
        "AWS_PROFILE" => Some("dev".to_owned()),
        "AWS_SECRET_ACCESS_KEY" => Some("hush".to_owned()),
        _ => None,
    };
    let none = BTreeMap::new();
    let input = Input {
        file: "f",
        bytes: LEAST.as_bytes(),
        environment: &set,
        system_properties: &none,
        local: false,
    };
    let loaded = load(&input);
    assert_eq!(
        loaded.environment,
        [
            ("AWS_PROFILE", "dev".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "***".to_owned())
        ]
    );
    assert!(!render_validation(&loaded).contains("hush"));
}

#[test]
fn a_file_of_the_class_path_is_found_and_loaded() {
    let properties = PropertiesName {
        name: "app.properties".to_owned(),
        class_path: vec!["/lib/k.jar".into(), "/conf".into()],
        system_properties: [("aws.region".to_owned(), "eu-west-3".to_owned())].into(),
    };
    let read = |path: &Path| match path.to_str() {
        Some("/conf/app.properties") => Ok(LEAST.as_bytes().to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let loaded = load_file(&properties, false, &|_| None, &read).unwrap();
    assert_eq!(loaded.file, "/conf/app.properties");
    assert_eq!(
        loaded.config.unwrap().kinesis.region.as_deref(),
        Some("eu-west-3")
    );
}

proptest! {
    #[test]
    fn no_file_makes_loading_panic(lines in proptest::collection::vec(
        (proptest::sample::select(keys::all_names().collect::<Vec<_>>()), "[ -~]{0,20}|-?[0-9]{1,20}|true|false"), 0..12)
    ) {
        let text: String = lines.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        let loaded = load_text(&text);
        prop_assert_eq!(loaded.config.is_some(), loaded.errors.is_empty());
        prop_assert!(!render_validation(&loaded).is_empty());
    }
}

// -- helpers

fn load_text(text: &str) -> Loaded {
    let none = BTreeMap::new();
    let bytes = text.as_bytes();
    load(&Input {
        file: "app.properties",
        bytes,
        environment: &|_| None,
        system_properties: &none,
        local: false,
    })
}

fn good(text: &str) -> Config {
    let loaded = load_text(&format!("{LEAST}{text}\n"));
    assert_eq!(loaded.errors, [], "{text}");
    loaded.config.unwrap()
}

fn texts(loaded: &Loaded) -> Vec<String> {
    loaded.warnings.iter().map(ToString::to_string).collect()
}
