//! The one table of keys. Parsing, warnings, `validate`, the search for the nearest known name and
//! `docs/CONFIGURATION.md` all read it, so that none of them can say something else than the others.
//!
//! Owns names, types, defaults, verdicts and a line about each key. Never reads a value.

/// What the daemon does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Has the effect that it has in the Java daemon.
    Honoured,
    /// Has the same purpose by other means, or with a difference that its description names.
    Translated,
    /// Accepted; there is nothing here for it to change.
    NoEffect,
    /// Accepted; it changes nothing in the Java daemon either.
    NoEffectInJavaEither,
    /// A name of KCL 1.x that 2.x and 3.x ignore.
    FromKcl1,
    /// The file is refused.
    Refused,
    /// A key of multilangd; the Java daemon ignores it.
    New,
}

/// The Java type of a key, which decides how its text is read (properties.md 3), or the stricter type of a key of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `int`: 0 counts as not set, and so does anything that is not a number.
    Int,
    /// `long`: as `Int`.
    Long,
    /// `double`: as `Int`.
    Double,
    /// `Integer`: 0 applies, and anything that is not a number applies as 0.
    IntObject,
    /// `Long`: as `IntObject`.
    LongObject,
    /// `boolean`: false counts as not set, and so does anything that is not a boolean.
    Boolean,
    /// `Boolean`: false applies, and anything that is not a boolean applies as false.
    BooleanObject,
    /// `String`: taken as it is.
    Text,
    /// An enum constant in any case.
    Constant(&'static [&'static str]),
    /// An enum constant in exactly this case.
    ExactConstant(&'static [&'static str]),
    /// An ISO-8601 duration.
    Duration,
    /// `k=v,k2=v2`.
    Tags,
    /// A comma list.
    List,
    /// An endpoint URL.
    Url,
    /// A region name.
    Region,
    /// A whole number without blanks around it.
    StrictInt,
    /// Seconds since 1970, without blanks around them.
    EpochSeconds,
    /// A list of credentials providers.
    Credentials,
    /// The name of one credentials provider class.
    CredentialsClass,
    /// Something that a properties file cannot give.
    Object,
    /// Ours: a whole number in this range; anything else is an error.
    Count(i64, i64),
    /// Ours: `true` or `false`; anything else is an error.
    Switch,
}

/// What holds if a key is not set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fallback {
    /// A number.
    Number(i64),
    /// A number with a fraction.
    Fraction(f64),
    /// A boolean.
    Flag(bool),
    /// A text, a constant, a duration or a list.
    Text(&'static str),
    /// Nothing; the text says what that means.
    Unset(&'static str),
    /// The key must be set.
    Required,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The name in the file. A leading `{client}.` stands for each of [`CLIENTS`]; a trailing `*` for any ending.
    pub name: &'static str,
    /// Another name for the same field.
    pub alias: Option<&'static str>,
    /// The Java bean through which the key can be reached too, as `bean.name`.
    pub bean: Option<&'static str>,
    /// How its text is read.
    pub kind: Type,
    /// What holds without it.
    pub default: Fallback,
    /// What the daemon does with it.
    pub verdict: Verdict,
    /// What it is for, or why it has no effect; a fragment.
    pub about: &'static str,
}

/// Keys of one subject.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The heading in the documentation.
    pub title: &'static str,
    /// A sentence or two under the heading.
    pub intro: &'static str,
    /// The rows.
    pub keys: &'static [Key],
}

/// The prefixes of the SDK client keys.
pub const CLIENTS: [&str; 3] = ["kinesisClient", "dynamoDbClient", "cloudWatchClient"];

/// The placeholder for one of [`CLIENTS`] in a key's name.
pub const CLIENT: &str = "{client}.";

const fn key(
    name: &'static str,
    kind: Type,
    default: Fallback,
    verdict: Verdict,
    about: &'static str,
) -> Key {
    Key {
        name,
        alias: None,
        bean: None,
        kind,
        default,
        verdict,
        about,
    }
}

impl Key {
    const fn or(self, alias: &'static str) -> Key {
        Key {
            alias: Some(alias),
            ..self
        }
    }

    const fn of(self, bean: &'static str) -> Key {
        Key {
            bean: Some(bean),
            ..self
        }
    }

    /// Every name of the key but its first: the alias and the dotted bean name.
    #[must_use]
    pub fn other_names(&self) -> Vec<String> {
        let dotted = self.bean.map(|bean| format!("{bean}.{}", self.name));
        self.alias.map(str::to_owned).into_iter().chain(dotted).collect()
    }
}

/// Every key of the table.
pub fn keys() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|section| section.keys)
}

/// The key of a name that has neither a placeholder nor a wildcard.
#[must_use]
pub fn named(name: &str) -> Option<&'static Key> {
    keys().find(|key| key.name == name)
}

/// A name of a file, found in the table.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// The row.
    pub key: &'static Key,
    /// The name under which its value is kept: the key's own, with the client put in, or as written for a wildcard.
    pub name: String,
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.name == other.name
    }
}

/// Finds the row for a name as written in a file, in exactly this spelling. Only `awsCredentialsProvider…` may begin in
/// any case (properties.md 2).
#[must_use]
pub fn find(written: &str) -> Option<Match> {
    const ANY_CASE: &str = "awsCredentialsProvider";
    let rewritten = match written.get(..ANY_CASE.len()) {
        Some(start) if start.eq_ignore_ascii_case(ANY_CASE) => {
            format!("{ANY_CASE}{}", &written[ANY_CASE.len()..])
        }
        _ => written.to_owned(),
    };
    let client = CLIENTS
        .iter()
        .find_map(|client| Some((client, rewritten.strip_prefix(client)?.strip_prefix('.')?)));
    keys().find_map(|key| {
        let name = match (key.name.strip_prefix(CLIENT), client) {
            (None, _) if is(key.name, &rewritten) => written_or(key.name, &rewritten),
            (None, _) if key.other_names().iter().any(|other| is(other, &rewritten)) => key.name.to_owned(),
            (Some(leaf), Some((client, rest))) if is(leaf, rest) => {
                format!("{client}.{}", written_or(leaf, rest))
            }
            _ => return None,
        };
        Some(Match { key, name })
    })
}

fn is(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

fn written_or(pattern: &str, written: &str) -> String {
    if pattern.ends_with('*') {
        written.to_owned()
    } else {
        pattern.to_owned()
    }
}

/// Every name that a file may hold, wildcards left out.
pub fn all_names() -> impl Iterator<Item = String> {
    keys()
        .filter(|key| !key.name.ends_with('*'))
        .flat_map(|key| match key.name.strip_prefix(CLIENT) {
            Some(leaf) => CLIENTS
                .iter()
                .map(|client| format!("{client}.{leaf}"))
                .collect::<Vec<_>>(),
            None => std::iter::once(key.name.to_owned())
                .chain(key.other_names())
                .collect(),
        })
}

/// The known name nearest to an unknown one: the same letters in another case, else few letters apart.
#[must_use]
pub fn nearest(unknown: &str) -> Option<String> {
    let useful = |name: &String| {
        find(name)
            .is_some_and(|found| !matches!(found.key.verdict, NoEffectInJavaEither | FromKcl1 | Refused))
    };
    nearest_of(unknown, all_names().filter(useful))
}

/// The candidate nearest to a text: the same letters in another case, else few letters apart.
pub fn nearest_of(text: &str, candidates: impl Iterator<Item = String>) -> Option<String> {
    let lower = text.to_lowercase();
    let allowed = (lower.chars().count() / 4).clamp(1, 4);
    candidates
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edit distance: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

use Fallback::{Flag, Fraction, Number, Required, Text as TextDefault, Unset};
use Type::{
    Boolean, BooleanObject, Constant, Count, Credentials, CredentialsClass, Double, Duration, EpochSeconds,
    ExactConstant, Int, IntObject, List, Long, LongObject, Object, Region, StrictInt, Switch, Tags, Text,
    Url,
};
use Verdict::{FromKcl1, Honoured, New, NoEffect, NoEffectInJavaEither, Refused, Translated};

const POLLING: &str = "pollingConfig";
const HANDOFF: &str = "gracefulLeaseHandoffConfigBean";
const UTILIZATION: &str = "workerUtilizationAwareAssignmentConfigBean";
const WORKER_METRICS: &str = "workerMetricStatsTableConfigBean";
const COORDINATOR: &str = "coordinatorStateTableConfigBean";

const POSITIONS: &[&str] = &["LATEST", "TRIM_HORIZON"];
const RETRIEVAL_MODES: &[&str] = &["DEFAULT", "POLLING", "FANOUT"];
const METRICS_LEVELS: &[&str] = &["NONE", "SUMMARY", "DETAILED"];
const BILLING_MODES: &[&str] = &["PAY_PER_REQUEST", "PROVISIONED"];
const RETRY_MODES: &[&str] = &["LEGACY", "STANDARD", "ADAPTIVE", "ADAPTIVE_V2"];
const CLIENT_VERSIONS: &[&str] = &[
    "CLIENT_VERSION_CONFIG_3X",
    "CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X",
    "CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X_PHASE1",
];
/// Levels of log lines.
pub(crate) const LOG_LEVELS: &[&str] = &["OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE"];
/// Forms of log lines.
pub(crate) const LOG_FORMATS: &[&str] = &["TEXT", "JSON"];

/// The table.
#[rustfmt::skip]
pub static SECTIONS: &[Section] = &[
    Section {
        title: "Required keys and identity",
        intro: "",
        keys: &[
            key("executableName", Text, Required, Honoured,
                "the program that processes records, with its arguments; split at spaces, no quoting; without a `/` it is searched on `PATH`"),
            key("applicationName", Text, Required, Honoured,
                "names the lease table, the metrics namespace and the fan-out consumer"),
            key("streamName", Text, Unset("taken from `streamArn`"), Honoured, "the stream; this or `streamArn` is required"),
            key("streamArn", Text, Unset("none"), Translated,
                "the stream's ARN; wins over `streamName`; its region is used if no other is configured (the Java daemon uses the name only)"),
            key("awsCredentialsProvider", Credentials, Required, Translated,
                "credentials providers, tried in order; see [Credentials](#credentials)"),
            key("awsCredentialsProviderDynamoDB", Credentials, Unset("as `awsCredentialsProvider`"), Translated, "the same for DynamoDB"),
            key("awsCredentialsProviderCloudWatch", Credentials, Unset("as `awsCredentialsProvider`"), Translated, "the same for CloudWatch"),
            key("workerId", Text, Unset("a random UUID"), Honoured,
                "name of this worker, the owner of its leases; must differ between running workers; keep it over restarts and a restarted worker gets its leases back at once").or("workerIdentifier"),
            key("tableName", Text, Unset("as `applicationName`"), Honoured, "the lease table"),
            key("processingLanguage", Text, Unset("none"), Translated, "added to the user agent of requests"),
        ],
    },
    Section {
        title: "Daemon and child processes",
        intro: "",
        keys: &[
            key("timeoutInSeconds", IntObject, Unset("wait without limit"), Honoured,
                "longest wait for each answer of a child; when it passes, the daemon exits with 1; 0 and less are refused"),
            key("shutdownGraceMillis", Long, Number(20_000), Translated,
                "longest wait for children to finish and checkpoint after SIGTERM or SIGINT; the Java daemon's default is 0, which means that children never see `shutdownRequested`"),
            key("maxActiveThreads", StrictInt, Unset("no limit"), NoEffect, "this daemon needs no thread limit"),
            key("validateSequenceNumberBeforeCheckpointing", Boolean, Unset("none"), NoEffectInJavaEither, "it has been unused since KCL 2.x"),
        ],
    },
    Section {
        title: "Stream, region and endpoints",
        intro: "Without `regionName` the region is searched as the SDK does: `-Daws.region`, `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile, then the region of `streamArn`, then instance metadata. There is no built-in default. Without an endpoint here, `AWS_ENDPOINT_URL_KINESIS`, `…_DYNAMODB`, `…_CLOUDWATCH` and `AWS_ENDPOINT_URL` are used. Endpoints with `https://` are believed if an authority of the system vouches for them; `AWS_CA_BUNDLE` names a PEM file of authorities that count instead, for all services. `HTTPS_PROXY` and `NO_PROXY` are honoured.",
        keys: &[
            key("regionName", Region, Unset("see above"), Honoured, "region of Kinesis, DynamoDB and CloudWatch (not of STS)"),
            key("kinesisEndpoint", Url, Unset("of the region"), Honoured, "endpoint of Kinesis"),
            key("dynamoDBEndpoint", Url, Unset("of the region"), Honoured, "endpoint of DynamoDB; mind the capitals"),
            key("cloudWatchEndpoint", Url, Unset("of the region"), New, "endpoint of CloudWatch"),
            key("initialPositionInStream", Constant(POSITIONS), TextDefault("LATEST"), Honoured,
                "where a shard is read from when the application has no lease for it yet"),
            key("initialPositionInStreamExtended", EpochSeconds, Unset("none"), Honoured,
                "a time to start from instead, in *seconds* since 1970; wins over `initialPositionInStream`"),
        ],
    },
    Section {
        title: "Retrieval",
        intro: "`retrievalMode = DEFAULT` keeps the rule of the Java daemon: polling if any of `maxRecords`, `idleTimeBetweenReadsInMillis`, `millisBehindLatestThresholdForReducedTps`, `retryGetRecordsInSeconds` or `maxGetRecordsThreadPool` is set (numbers of the first three other than 0), else enhanced fan-out. Fan-out costs extra, for each shard and hour and for what is read; one log line at the start says which of the two runs, and why. With `run --local`, `fanoutConfig.consumerArn` is left aside.",
        keys: &[
            key("retrievalMode", Constant(RETRIEVAL_MODES), TextDefault("DEFAULT"), Honoured,
                "how records are fetched"),
            key("maxRecords", Int, Number(10_000), Honoured, "most records of one `GetRecords` call, at most 10000; setting it selects polling").of(POLLING),
            key("idleTimeBetweenReadsInMillis", Long, Number(1500), Honoured, "shortest time between two fetches of a shard; below 200 raised to 200; setting it selects polling").of(POLLING),
            key("millisBehindLatestThresholdForReducedTps", Long, Number(0), Honoured, "shortest time between two fetches while the shard is less than this behind; 0: off; setting it selects polling").of(POLLING),
            key("retryGetRecordsInSeconds", IntObject, Unset("none"), NoEffect, "it only selects polling, as in the Java daemon").of(POLLING),
            key("maxGetRecordsThreadPool", IntObject, Unset("none"), NoEffect, "it only selects polling, as in the Java daemon").of(POLLING),
            key("fanoutConfig.consumerArn", Text, Unset("none"), Honoured, "a registered fan-out consumer; nothing is registered then"),
            key("fanoutConfig.consumerName", Text, Unset("as `applicationName`"), Honoured, "the consumer to use, registered if it is missing (which costs money)"),
            key("fanoutConfig.maxDescribeStreamSummaryRetries", Int, Number(10), Honoured, "attempts of that call"),
            key("fanoutConfig.maxDescribeStreamConsumerRetries", Int, Number(10), Honoured, "attempts of that call"),
            key("fanoutConfig.registerStreamConsumerRetries", Int, Number(10), Honoured, "attempts of that call"),
            key("fanoutConfig.retryBackoffMillis", Long, Number(1000), Honoured, "pause between such attempts"),
        ],
    },
    Section {
        title: "Leases and shards",
        intro: "All workers of an application should have the same values here.",
        keys: &[
            key("failoverTimeMillis", Long, Number(10_000), Honoured, "a lease not renewed for this long is free for others"),
            key("leaseAssignmentIntervalMillis", Long, Unset("2 × `failoverTimeMillis`"), Honoured, "how often the leader assigns leases"),
            key("maxLeasesForWorker", Int, Number(2_147_483_647), Honoured, "most leases that one worker holds"),
            key("maxLeasesToStealAtOneTime", Int, Number(1), Honoured, "2.x-compatible mode only: leases taken from another worker per round"),
            key("enablePriorityLeaseAssignment", BooleanObject, Flag(true), Honoured, "2.x-compatible mode only: take long-expired leases first"),
            key("leaseTableDeletionProtectionEnabled", BooleanObject, Flag(false), Honoured, "protect the lease table from deletion when it is created"),
            key("leaseTablePitrEnabled", BooleanObject, Flag(false), Honoured, "point-in-time recovery of the lease table; switched on at every start"),
            key("leaseTableScanTotalSegments", Int, Unset("chosen by table size"), Honoured, "parallel segments when the lease table is scanned"),
            key("shardSyncIntervalMillis", Long, Number(60_000), NoEffect, "no pause follows a shard sync here"),
            key("cleanupLeasesUponShardCompletion", Boolean, Flag(true), Translated, "leases of finished shards are removed; `false` has no effect in the Java daemon (2.x/3.x) and none here"),
            key("ignoreUnexpectedChildShards", Boolean, Flag(false), Honoured, "go on when a child shard is open while its parent still is"),
            key("listShardsBackoffTimeInMillis", Long, Number(1500), Honoured, "pause after a throttled `ListShards`"),
            key("maxListShardsRetryAttempts", Int, Number(50), Honoured, "attempts of `ListShards`"),
            key("initialLeaseTableReadCapacity", Int, Number(10), NoEffectInJavaEither, "the lease table is on-demand"),
            key("initialLeaseTableWriteCapacity", Int, Number(10), NoEffectInJavaEither, "the lease table is on-demand"),
            key("maxLeaseRenewalThreads", Int, Number(20), NoEffect, "renewals need no threads here"),
        ],
    },
    Section {
        title: "Graceful hand-off of leases",
        intro: "",
        keys: &[
            key("isGracefulLeaseHandoffEnabled", BooleanObject, Flag(true), Honoured, "let the old owner finish and checkpoint when a lease moves").of(HANDOFF),
            key("gracefulLeaseHandoffTimeoutMillis", LongObject, Number(30_000), Honoured, "longest wait for that; 0 applies as 0").of(HANDOFF),
        ],
    },
    Section {
        title: "Balancing by worker utilization",
        intro: "",
        keys: &[
            key("disableWorkerMetrics", BooleanObject, Flag(false), Honoured, "do not measure and report this worker's CPU").of(UTILIZATION),
            key("inMemoryWorkerMetricsCaptureFrequencyMillis", Long, Number(1000), Honoured, "how often the worker measures itself").of(UTILIZATION),
            key("workerMetricsReporterFreqInMillis", Long, Number(30_000), Honoured, "how often it reports").of(UTILIZATION),
            key("noOfPersistedMetricsPerWorkerMetrics", Int, Number(10), Honoured, "reports kept per worker").of(UTILIZATION),
            key("maxThroughputPerHostKBps", Double, Unset("unlimited"), Honoured, "most throughput assigned to one worker").of(UTILIZATION),
            key("dampeningPercentage", Int, Number(60), Honoured, "share of the surplus load moved per round").of(UTILIZATION),
            key("reBalanceThresholdPercentage", Int, Number(10), Honoured, "distance from the average that starts rebalancing; mind the capital B").of(UTILIZATION),
            key("allowThroughputOvershoot", BooleanObject, Flag(true), Honoured, "move at least one lease, even if it is more than the surplus").of(UTILIZATION),
            key("varianceBalancingFrequency", Int, Number(3), Honoured, "balance on every n-th assignment").of(UTILIZATION),
            key("workerMetricsEMAAlpha", Double, Fraction(0.5), Honoured, "weight of the newest report; mind the capitals").of(UTILIZATION),
            key("staleWorkerMetricsEntryCleanupDuration", Duration, TextDefault("P1D"), Honoured, "age at which a silent worker's row is removed").of(UTILIZATION),
        ],
    },
    Section {
        title: "State tables of KCL 3.0 to 3.4",
        intro: "Since KCL 3.5 a new application keeps everything in its lease table. The names matter where the older tables exist; this daemon never creates them.",
        keys: &[
            key("coordinatorStateTableName", Text, Unset("`<applicationName>-CoordinatorState`"), Honoured, "the coordinator state table").of(COORDINATOR),
            key("coordinatorStateBillingMode", Constant(BILLING_MODES), TextDefault("PAY_PER_REQUEST"), NoEffect, "the table is never created here").of(COORDINATOR),
            key("coordinatorStateReadCapacity", Long, Number(0), NoEffect, "the table is never created here").of(COORDINATOR),
            key("coordinatorStateWriteCapacity", Long, Number(0), NoEffect, "the table is never created here").of(COORDINATOR),
            key("coordinatorStatePointInTimeRecoveryEnabled", BooleanObject, Flag(false), NoEffect, "the table is never created here").of(COORDINATOR),
            key("coordinatorStateDeletionProtectionEnabled", BooleanObject, Flag(false), NoEffect, "the table is never created here").of(COORDINATOR),
            key("coordinatorStateTags", Tags, Unset("none"), NoEffect, "the table is never created here").of(COORDINATOR),
            key("workerMetricsTableName", Text, Unset("`<applicationName>-WorkerMetricStats`"), Honoured, "the worker metrics table").of(WORKER_METRICS),
            key("workerMetricsBillingMode", Constant(BILLING_MODES), TextDefault("PAY_PER_REQUEST"), NoEffect, "the table is never created here").of(WORKER_METRICS),
            key("workerMetricsReadCapacity", Long, Number(0), NoEffect, "the table is never created here").of(WORKER_METRICS),
            key("workerMetricsWriteCapacity", Long, Number(0), NoEffect, "the table is never created here").of(WORKER_METRICS),
            key("workerMetricsPointInTimeRecoveryEnabled", BooleanObject, Flag(false), NoEffect, "the table is never created here").of(WORKER_METRICS),
            key("workerMetricsDeletionProtectionEnabled", BooleanObject, Flag(false), NoEffect, "the table is never created here").of(WORKER_METRICS),
            key("workerMetricsTags", Tags, Unset("none"), NoEffect, "the table is never created here").of(WORKER_METRICS),
        ],
    },
    Section {
        title: "Coordination and lifecycle",
        intro: "",
        keys: &[
            key("clientVersionConfig", Constant(CLIENT_VERSIONS), TextDefault("CLIENT_VERSION_CONFIG_3X"), Honoured, "which rules the fleet plays by: 3.x; `CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X`, like 2.x until the whole fleet is ready; or `…_2X_PHASE1`, beside workers of 2.x"),
            key("migrateAllEntitiesToLeaseTable", Boolean, Flag(false), Honoured, "move an application of KCL 3.0 to 3.4 to the single table"),
            key("tableMigrationCompleteBakeTimeSeconds", Long, Number(86_400), Honoured, "wait before that move becomes final; held between 3600 and 604800"),
            key("parentShardPollIntervalMillis", Long, Number(10_000), Honoured, "how often a child shard looks whether its parents are finished"),
            key("skipShardSyncAtWorkerInitializationIfLeasesExist", Boolean, Flag(false), Honoured, "no shard sync at start when leases exist; also switches off the hash-range check of aggregated records"),
            key("schedulerInitializationBackoffTimeMillis", Long, Number(1000), Honoured, "pause between attempts to start"),
            key("taskBackoffTimeMillis", Long, Number(500), Honoured, "pause before a failed step of a shard is tried again"),
            key("logWarningForTaskAfterMillis", LongObject, Unset("never"), Honoured, "warn about a step of a shard that takes longer; 0 applies as 0"),
            key("callProcessRecordsEvenForEmptyRecordList", Boolean, Flag(false), Honoured, "tell the child also about empty batches"),
            key("shardPrioritization", Object, Unset("none"), Refused, "it stops the Java daemon too: no text can give a prioritization object"),
        ],
    },
    Section {
        title: "Metrics",
        intro: "The CloudWatch namespace is `applicationName`.",
        keys: &[
            key("metricsLevel", Constant(METRICS_LEVELS), TextDefault("DETAILED"), Honoured, "which metrics go to CloudWatch; `NONE` for local stacks"),
            key("metricsEnabledDimensions", List, TextDefault("ALL"), Honoured, "dimensions of metrics: `Operation`, `ShardId`, `WorkerIdentifier`, `ALL`; empty means none"),
            key("metricsBufferTimeMillis", Long, Number(10_000), Honoured, "how long metrics are gathered before they are sent"),
            key("metricsMaxQueueSize", Int, Number(10_000), Honoured, "most metrics waiting to be sent; more are dropped"),
        ],
    },
    Section {
        title: "SDK clients",
        intro: "`{client}` stands for `kinesisClient`, `dynamoDbClient` (so spelt) or `cloudWatchClient`. These keys win over the general ones. Any other key with such a prefix is an error, as in the Java daemon.",
        keys: &[
            key("{client}.region", Region, Unset("as `regionName`"), Honoured, "region of this client"),
            key("{client}.endpointOverride", Url, Unset("of the region"), Honoured, "endpoint of this client"),
            key("{client}.fipsEnabled", BooleanObject, Flag(false), Honoured, "use FIPS endpoints"),
            key("{client}.dualstackEnabled", BooleanObject, Flag(false), Honoured, "use dual-stack (IPv6) endpoints"),
            key("{client}.overrideConfiguration.apiCallTimeout", Duration, Unset("none"), Translated, "longest time of a call; it is repeated by rules of the daemon's own"),
            key("{client}.overrideConfiguration.apiCallAttemptTimeout", Duration, Unset("none"), Translated, "the same; the shorter of the two holds"),
            key("{client}.overrideConfiguration.defaultProfileName", Text, Unset("`AWS_PROFILE` or `default`"), Translated, "profile of this client"),
            key("{client}.overrideConfiguration.retryStrategy", ExactConstant(RETRY_MODES), Unset("none"), NoEffect, "requests are repeated by rules of the daemon's own"),
            key("{client}.overrideConfiguration.retryPolicy", ExactConstant(RETRY_MODES), Unset("none"), NoEffect, "requests are repeated by rules of the daemon's own"),
            key("{client}.credentialsProvider.class", CredentialsClass, Unset("as `awsCredentialsProvider`"), Translated, "full class name of the credentials provider of this client"),
            key("kinesisCredentialsProvider.class", CredentialsClass, Unset("none"), Translated, "class name of a provider; can stand for `awsCredentialsProvider`"),
            key("dynamoDBCredentialsProvider.class", CredentialsClass, Unset("none"), Translated, "the same for DynamoDB"),
            key("cloudWatchCredentialsProvider.class", CredentialsClass, Unset("none"), Translated, "the same for CloudWatch"),
            key("{client}.defaultsMode", Object, Unset("none"), Refused, "no text can give it in the Java daemon either; use AWS_DEFAULTS_MODE"),
            key("{client}.accountIdEndpointMode", Object, Unset("none"), Refused, "no text can give it in the Java daemon either; use AWS_ACCOUNT_ID_ENDPOINT_MODE"),
            key("{client}.credentialsProvider", Object, Unset("none"), Refused, "it stops the Java daemon too; use awsCredentialsProvider"),
            key("{client}.credentialsProvider.*", Object, Unset("none"), Refused, "it configures a Java object and cannot be honoured; use awsCredentialsProvider"),
            key("{client}.overrideConfiguration.retryStrategy.*", Object, Unset("none"), Refused, "it configures the Java SDK and cannot be honoured; remove it"),
            key("{client}.overrideConfiguration.headers*", Object, Unset("none"), Refused, "it configures the Java SDK and cannot be honoured; remove it"),
            key("{client}.overrideConfiguration.executionInterceptors*", Object, Unset("none"), Refused, "it configures the Java SDK and cannot be honoured; remove it"),
            key("{client}.httpClient*", Object, Unset("none"), Refused, "it configures the Java SDK and cannot be honoured; remove it"),
            key("{client}.asyncConfiguration*", Object, Unset("none"), Refused, "it configures the Java SDK and cannot be honoured; remove it"),
        ],
    },
    Section {
        title: "Keys of multilangd",
        intro: "The Java daemon ignores these, so a file that has them still works with it. Unlike Java's, their values are checked strictly. (`cloudWatchEndpoint` above is one of them.)",
        keys: &[
            key("maxLineBytes", Count(1024, 1 << 30), Number(16_777_216), New, "longest line accepted from a child's stdout, in bytes; a longer one is skipped with a warning"),
            key("childExitTimeoutMillis", Count(0, 3_600_000), Number(10_000), New, "how long a child may take to exit after its stdin was closed, before it gets SIGTERM, and as long again before SIGKILL"),
            key("restartFailedChild", Switch, Flag(false), New, "when a child fails, start another for its shard instead of ending the daemon with exit code 1"),
            key("maxReadAheadBytes", Count(1 << 20, 1 << 40), Number(268_435_456), New, "memory for records of all shards of this worker that no child has answered yet, in bytes; when it is used up, shards are read on with small answers only"),
            key("workerThreads", Count(1, 64), Unset("a quarter of the cores, from 1 to 4"), New, "threads that do the daemon's work; more of them cost more CPU time in all"),
            key("logLevel", Constant(LOG_LEVELS), TextDefault("INFO"), New, "level of the daemon's log; `--log-level` and `-l` win over it"),
            key("logFormat", Constant(LOG_FORMATS), TextDefault("TEXT"), New, "form of the daemon's log; `--log-format` wins over it"),
            key("childStderrLevel", Constant(LOG_LEVELS), TextDefault("INFO"), New, "level at which lines from a child's stderr are logged"),
            key("localShards", Count(1, 1000), Number(2), New, "shards of a stream that `--local` creates"),
        ],
    },
    Section {
        title: "Keys without effect",
        intro: "Known names that cannot be reached from the file in the Java daemon (2.x/3.x) either. Each gives one warning.",
        keys: &[
            key("billingMode", Object, Unset("none"), NoEffectInJavaEither, "the lease table is on-demand"),
            key("tags", Object, Unset("none"), NoEffectInJavaEither, "tag the lease table with your own tools"),
            key("namespace", Object, Unset("none"), NoEffectInJavaEither, "the metrics namespace is applicationName"),
            key("maxInitializationAttempts", Object, Unset("none"), NoEffectInJavaEither, "the number of attempts is fixed"),
            key("shardConsumerDispatchPollIntervalMillis", Object, Unset("none"), NoEffectInJavaEither, "there is no dispatch poll"),
            key("leaseAssignmentStrategy", Object, Unset("none"), NoEffectInJavaEither, "leases are assigned by worker utilization"),
            key("metricsBackend", Object, Unset("none"), NoEffectInJavaEither, "metrics go to CloudWatch"),
            key("kinesisRequestTimeout", Object, Unset("none"), NoEffectInJavaEither, "use kinesisClient.overrideConfiguration.apiCallTimeout"),
            key("dynamoDbRequestTimeout", Object, Unset("none"), NoEffectInJavaEither, "use dynamoDbClient.overrideConfiguration.apiCallTimeout"),
            key("consistentReads", Object, Unset("none"), NoEffectInJavaEither, "it is fixed"),
            key("epsilonMillis", Object, Unset("none"), NoEffectInJavaEither, "it is fixed at 25 ms"),
            key("maxPendingProcessRecordsInput", Object, Unset("none"), NoEffectInJavaEither, "reading ahead has fixed limits"),
            key("readTimeoutsToIgnoreBeforeWarning", Object, Unset("none"), NoEffectInJavaEither, "it is fixed"),
            key("leaseCleanupConfig*", Object, Unset("none"), NoEffectInJavaEither, "the times of lease clean-up are fixed"),
            key("leasesRecoveryAuditor*", Object, Unset("none"), NoEffectInJavaEither, "the auditor runs every two minutes"),
            key("dynamoDbLockBasedLeader*", Object, Unset("none"), NoEffectInJavaEither, "the times of the leader lock are fixed"),
            key("publisherFlushBuffer", Object, Unset("none"), NoEffectInJavaEither, "metrics are sent in fixed portions"),
            key("usePollingConfigIdleTimeValue", Object, Unset("none"), NoEffectInJavaEither, "idleTimeBetweenReadsInMillis is always used"),
            key("glueSchemaRegistry*", Object, Unset("none"), NoEffectInJavaEither, "the Glue schema registry cannot be used by multi-language applications"),
            key("multiStreamTracker*", Object, Unset("none"), NoEffectInJavaEither, "one daemon reads one stream"),
            key("kinesisClient", Object, Unset("none"), NoEffectInJavaEither, "use kinesisClient.region and its other keys"),
            key("dynamoDbClient", Object, Unset("none"), NoEffectInJavaEither, "use dynamoDbClient.region and its other keys"),
            key("cloudWatchClient", Object, Unset("none"), NoEffectInJavaEither, "use cloudWatchClient.region and its other keys"),
            key("kinesisCredentialsProvider", Object, Unset("none"), NoEffectInJavaEither, "use awsCredentialsProvider"),
            key("dynamoDBCredentialsProvider", Object, Unset("none"), NoEffectInJavaEither, "use awsCredentialsProviderDynamoDB"),
            key("cloudWatchCredentialsProvider", Object, Unset("none"), NoEffectInJavaEither, "use awsCredentialsProviderCloudWatch"),
        ],
    },
    Section {
        title: "Keys of KCL 1.x",
        intro: "Ignored by the Java daemon since 2.x. Each gives one warning.",
        keys: &[
            key("timestampAtInitialPositionInStream", Object, Unset("none"), FromKcl1, "use initialPositionInStreamExtended (epoch seconds)"),
            key("userAgent", Object, Unset("none"), FromKcl1, "the user agent is fixed"),
            key("skipShardSyncAtStartupIfLeasesExist", Object, Unset("none"), FromKcl1, "use skipShardSyncAtWorkerInitializationIfLeasesExist"),
            key("shardSyncStrategyType", Object, Unset("none"), FromKcl1, "shard ends and the auditor find new shards"),
            key("maxCacheByteSize", Object, Unset("none"), FromKcl1, "reading ahead has fixed limits"),
            key("dataFetchingStrategy", Object, Unset("none"), FromKcl1, "records are always fetched ahead"),
            key("maxRecordsCount", Object, Unset("none"), FromKcl1, "reading ahead has fixed limits; maxRecords sets the size of a batch"),
            key("idleMillisBetweenCalls", Object, Unset("none"), FromKcl1, "use idleTimeBetweenReadsInMillis"),
            key("kinesisClientConfig", Object, Unset("none"), FromKcl1, "use the keys that begin with kinesisClient."),
            key("dynamoDBClientConfig", Object, Unset("none"), FromKcl1, "use the keys that begin with dynamoDbClient."),
            key("cloudWatchClientConfig", Object, Unset("none"), FromKcl1, "use the keys that begin with cloudWatchClient."),
            key("commonClientConfig", Object, Unset("none"), FromKcl1, "use the keys that begin with kinesisClient., dynamoDbClient. and cloudWatchClient."),
            key("leaseCleanupIntervalMillis", Object, Unset("none"), FromKcl1, "the times of lease clean-up are fixed"),
            key("completedLeaseCleanupThresholdMillis", Object, Unset("none"), FromKcl1, "the times of lease clean-up are fixed"),
            key("garbageLeaseCleanupThresholdMillis", Object, Unset("none"), FromKcl1, "the times of lease clean-up are fixed"),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn found(written: &str) -> Option<String> {
        find(written).map(|found| found.name)
    }

    #[test]
    fn names_match_exactly_and_case_matters() {
        assert_eq!(found("failoverTimeMillis").as_deref(), Some("failoverTimeMillis"));
        for unknown in [
            "FailoverTimeMillis",
            "metricslevel",
            "MetricsLevel",
            "DynamoDBEndpoint",
            "RetrievalMode",
        ] {
            assert_eq!(found(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_credentials_key_may_begin_in_any_case_but_not_end_so() {
        for (written, name) in [
            ("AWSCredentialsProvider", Some("awsCredentialsProvider")),
            ("AwsCredentialsProvider", Some("awsCredentialsProvider")),
            ("awscredentialsprovider", Some("awsCredentialsProvider")),
            (
                "AWSCredentialsProviderDynamoDB",
                Some("awsCredentialsProviderDynamoDB"),
            ),
            (
                "awsCredentialsProviderCloudWatch",
                Some("awsCredentialsProviderCloudWatch"),
            ),
            ("AwsCredentialsProviderDynamoDb", None),
            ("AwsCredentialsProviderdynamodb", None),
            ("AwsCredentialsProviderCloudwatch", None),
        ] {
            assert_eq!(found(written).as_deref(), name, "{written}");
        }
    }

    #[test]
    fn beans_are_reached_by_their_own_names_too() {
        for (written, name) in [
            ("pollingConfig.maxRecords", "maxRecords"),
            (
                "gracefulLeaseHandoffConfigBean.isGracefulLeaseHandoffEnabled",
                "isGracefulLeaseHandoffEnabled",
            ),
            (
                "workerUtilizationAwareAssignmentConfigBean.dampeningPercentage",
                "dampeningPercentage",
            ),
            (
                "workerMetricStatsTableConfigBean.workerMetricsTableName",
                "workerMetricsTableName",
            ),
            (
                "coordinatorStateTableConfigBean.coordinatorStateTags",
                "coordinatorStateTags",
            ),
            ("workerIdentifier", "workerId"),
            ("fanoutConfig.consumerName", "fanoutConfig.consumerName"),
            ("dynamoDbClient.region", "dynamoDbClient.region"),
            (
                "kinesisClient.httpClientBuilder.maxConcurrency",
                "kinesisClient.httpClientBuilder.maxConcurrency",
            ),
        ] {
            assert_eq!(found(written).as_deref(), Some(name), "{written}");
        }
        assert_eq!(found("fanOutConfig.consumerName"), None);
        assert_eq!(found("pollingConfig.bogus"), None);
        assert_eq!(found("dynamoDBClient.region"), None);
    }

    #[test]
    fn the_nearest_name_is_found_by_case_first_and_then_by_distance() {
        for (unknown, name) in [
            ("FailoverTimeMillis", Some("failoverTimeMillis")),
            ("failoverTimeMilis", Some("failoverTimeMillis")),
            ("falioverTimeMillis", Some("failoverTimeMillis")),
            (
                "gracefulLeaseHandoffEnabled",
                Some("isGracefulLeaseHandoffEnabled"),
            ),
            ("fanOutConfig.consumerName", Some("fanoutConfig.consumerName")),
            ("dynamoDBClient.region", Some("dynamoDbClient.region")),
            (
                "AwsCredentialsProviderDynamoDb",
                Some("awsCredentialsProviderDynamoDB"),
            ),
            (
                "rebalanceThresholdPercentage",
                Some("reBalanceThresholdPercentage"),
            ),
            ("my.own.key", None),
            ("x", None),
        ] {
            assert_eq!(nearest(unknown).as_deref(), name, "{unknown}");
        }
    }

    #[test]
    fn no_name_stands_in_the_table_twice() {
        let mut names: Vec<String> = all_names().collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
