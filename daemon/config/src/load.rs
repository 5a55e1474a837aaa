//! From the bytes of a properties file to a [`Config`].
//!
//! Owns what keys mean together: required keys, conflicts, limits, derived values. Reads no file and no environment of its
//! own: both are arguments ([`Input`]).

mod clients;
mod fleet;
mod retrieval;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use self::clients::{clients, general_credentials};
use self::fleet::{balancing, coordination, leases, metrics};
use self::retrieval::retrieval;
use crate::config::{
    Child, Config, Handoff, InitialPosition, Lifecycle, Log, LogFormat, LogLevel, Shards, Stream, StreamArn,
};
use crate::invocation::PropertiesName;
use crate::keys;
use crate::loaded::{Loaded, Origin};
use crate::lookup::{NotFound, find_properties};
use crate::program::argv;
use crate::properties::Properties;
use crate::settings::{Setting, Settings, default_number};
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

/// Variables that change what the SDK does, and whether their values may be shown.
const ENVIRONMENT: [(&str, bool); 22] = [
    ("AWS_REGION", true),
    ("AWS_DEFAULT_REGION", true),
    ("AWS_PROFILE", true),
    ("AWS_CONFIG_FILE", true),
    ("AWS_SHARED_CREDENTIALS_FILE", true),
    ("AWS_ACCESS_KEY_ID", false),
    ("AWS_SECRET_ACCESS_KEY", false),
    ("AWS_SESSION_TOKEN", false),
    ("AWS_ROLE_ARN", false),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", true),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", true),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", true),
    ("AWS_EC2_METADATA_DISABLED", true),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", true),
    ("AWS_ENDPOINT_URL", true),
    ("AWS_ENDPOINT_URL_KINESIS", true),
    ("AWS_ENDPOINT_URL_DYNAMODB", true),
    ("AWS_ENDPOINT_URL_CLOUDWATCH", true),
    ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", true),
    ("AWS_USE_FIPS_ENDPOINT", true),
    ("AWS_USE_DUALSTACK_ENDPOINT", true),
    ("AWS_CA_BUNDLE", true),
];
/// Beyond this, seconds since 1970 are probably milliseconds (it is the year 5138).
const PLAUSIBLE_EPOCH_SECONDS_MAX: i64 = 100_000_000_000;

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
        environment: environment(input),
    }
}

/// The variables that the SDK reads and that are set, for people.
fn environment(input: &Input<'_>) -> Vec<(&'static str, String)> {
    ENVIRONMENT
        .into_iter()
        .filter_map(|(name, shown)| {
            let value = (input.environment)(name).filter(|value| !value.is_empty())?;
            Some((name, if shown { value } else { "***".to_owned() }))
        })
        .collect()
}

/// Finds, reads and loads the properties file that a command line names.
///
/// # Errors
/// [`NotFound`] if there is no such file. What is wrong inside it is in [`Loaded::errors`].
pub fn load_file(
    properties: &PropertiesName,
    local: bool,
    environment: &dyn Fn(&str) -> Option<String>,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Loaded, NotFound> {
    let found = find_properties(&properties.name, &properties.class_path, read)?;
    Ok(load(&Input {
        file: &found.path.display().to_string(),
        bytes: &found.bytes,
        environment,
        system_properties: &properties.system_properties,
        local,
    }))
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
    let read_ahead_bytes_max = usize::try_from(s.own_count("maxReadAheadBytes")).unwrap_or(usize::MAX);
    let threads = s
        .own_count_if_set("workerThreads")
        .and_then(|threads| usize::try_from(threads).ok());
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
        read_ahead_bytes_max,
        threads,
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
    s.record_set("executableName", masked(&argv), &setting);
    Some((setting.value, argv))
}

/// The command for people: what follows `--password=` and its like is hidden.
fn masked(argv: &[String]) -> String {
    const SECRET: [&str; 4] = ["password", "passwd", "secret", "token"];
    let mask = |word: &String| match word.split_once('=') {
        Some((name, _))
            if SECRET
                .iter()
                .any(|secret| name.to_ascii_lowercase().contains(secret)) =>
        {
            format!("{name}=***")
        }
        _ => word.clone(),
    };
    argv.iter().map(mask).collect::<Vec<_>>().join(" ")
}

fn application_name(s: &mut Settings) -> Option<String> {
    match s.text("applicationName") {
        Some(setting) if !values::java_trim(&setting.value).is_empty() => {
            s.record_set("applicationName", &setting.value, &setting);
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
    if let (Some(arn), Some(name)) = (&arn, &name)
        && name.value != stream.name
    {
        let text = format!(
            "streamArn wins over streamName: reading '{}', not '{}' (line {})",
            stream.name, name.value, name.line
        );
        s.warn(arn, text);
    }
    let line = arn.as_ref().or(name.as_ref()).map_or(0, |setting| setting.line);
    s.record("streamName", &stream.name, Origin::File { line });
    if let Some(setting) = &arn {
        s.record_set("streamArn", &setting.value, setting);
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
            s.record_set(name, &setting.value, &setting);
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
                s.record_set(NAME, millis, &setting);
                return Duration::from_millis(millis);
            }
            values::Reading::Bad(reason) => {
                let default = default_number(NAME);
                let text = format!(
                    "{NAME} = '{}' {reason}; using {default} (the Java daemon silently takes 0)",
                    setting.value
                );
                s.warn(&setting, text);
            }
        }
    }
    let millis = default_number(NAME);
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

fn origin<T>(found: Option<&(T, Setting)>) -> Origin {
    found.map_or(Origin::Default, |(_, setting)| Origin::File {
        line: setting.line,
    })
}

fn log(s: &mut Settings) -> Log {
    let level = s.setting("logLevel").is_some();
    let format = s.setting("logFormat").is_some();
    Log {
        level: LogLevel::parse(s.constant("logLevel")).filter(|_| level),
        format: LogFormat::parse(s.constant("logFormat")).filter(|_| format),
    }
}

#[cfg(test)]
mod tests;
