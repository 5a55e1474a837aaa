//! Polling or fan-out: the keys of both, and the rule that chooses.
//!
//! Owns `retrievalMode` and its default rule. Whether the daemon can do what was chosen is not decided here.

use std::time::Duration;

use super::{optional_text, origin, text_or};
use crate::config::{Fanout, Polling, Retrieval};
use crate::keys;
use crate::settings::{Settings, default_number};

/// Most records of one `GetRecords` call, a limit of Kinesis that Java checks too.
const RECORDS_MAX: i64 = 10_000;

/// Java raises `idleTimeBetweenReadsInMillis` to this: five reads per second and shard are allowed.
const IDLE_MILLIS_MIN: u64 = 200;

/// The polling keys as the file spells them, those that count as set.
type PollingKeys = Vec<String>;

pub(super) fn retrieval(s: &mut Settings, application_name: &str) -> (Retrieval, String, Polling) {
    let mode = s.constant("retrievalMode");
    let (polling, polling_keys) = polling(s, mode);
    let fanout = fanout(s, application_name);
    let consumer = fanout
        .consumer_arn
        .as_ref()
        .unwrap_or(&fanout.consumer_name)
        .clone();
    let (retrieval, reason) = match mode {
        "POLLING" => (Retrieval::Polling, "retrievalMode POLLING".to_owned()),
        "FANOUT" => {
            let reason = format!("retrievalMode FANOUT: enhanced fan-out, consumer '{consumer}'");
            (Retrieval::Fanout(fanout), reason)
        }
        _ if polling_keys.is_empty() => {
            let reason = format!(
                "retrievalMode DEFAULT: no polling property set, using enhanced fan-out, consumer '{consumer}'"
            );
            (Retrieval::Fanout(fanout), reason)
        }
        _ => {
            let named = polling_keys.join(" and ");
            (
                Retrieval::Polling,
                format!("retrievalMode DEFAULT: polling, because {named} is set"),
            )
        }
    };
    tell_what_is_ignored(s, &retrieval, &reason, &polling_keys);
    (retrieval, reason, polling)
}

fn polling(s: &mut Settings, mode: &str) -> (Polling, PollingKeys) {
    let mut set = PollingKeys::new();

    let records = s.number("maxRecords");
    set.extend(records.as_ref().map(|(_, setting)| setting.written.clone()));
    if let Some((number, setting)) = &records
        && mode != "FANOUT"
        && !(1..=RECORDS_MAX).contains(number)
    {
        // Compat: Java lets negative numbers pass, and then no request succeeds.
        s.error(
            setting,
            format!(
                "{} = {number}: accepted is a number from 1 to {RECORDS_MAX}",
                setting.written
            ),
        );
    }
    let records_max = records
        .as_ref()
        .map_or(RECORDS_MAX, |(number, _)| (*number).clamp(1, RECORDS_MAX));
    s.record("maxRecords", records_max, origin(records.as_ref()));

    let idle = s.number("idleTimeBetweenReadsInMillis");
    set.extend(idle.as_ref().map(|(_, setting)| setting.written.clone()));
    let mut idle_millis = default_number("idleTimeBetweenReadsInMillis");
    if let Some((number, setting)) = &idle {
        idle_millis = not_negative(*number).max(IDLE_MILLIS_MIN);
        if idle_millis != not_negative(*number) {
            s.warn(
                setting,
                format!("{} = {number} is raised to {IDLE_MILLIS_MIN}", setting.written),
            );
        }
    }
    s.record("idleTimeBetweenReadsInMillis", idle_millis, origin(idle.as_ref()));

    let behind = s.number("millisBehindLatestThresholdForReducedTps");
    set.extend(behind.as_ref().map(|(_, setting)| setting.written.clone()));
    let behind_millis = behind.as_ref().map_or(0, |(number, _)| not_negative(*number));
    s.record(
        "millisBehindLatestThresholdForReducedTps",
        behind_millis,
        origin(behind.as_ref()),
    );

    // Compat: these have no effect in Java either, except that their presence, even as 0, selects polling.
    for name in ["retryGetRecordsInSeconds", "maxGetRecordsThreadPool"] {
        set.extend(s.setting(name).map(|setting| setting.written));
    }
    let polling = Polling {
        records_max: u32::try_from(records_max).unwrap_or(u32::MAX),
        idle_time: Duration::from_millis(idle_millis),
        reduced_tps_below: (behind_millis > 0).then(|| Duration::from_millis(behind_millis)),
    };
    (polling, set)
}

fn not_negative(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
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

/// Compat: Java ignores the keys of the other way in silence.
fn tell_what_is_ignored(s: &mut Settings, retrieval: &Retrieval, reason: &str, polling_keys: &PollingKeys) {
    let names: Vec<String> = match retrieval {
        Retrieval::Polling => keys::all_names()
            .filter(|name| name.starts_with("fanoutConfig."))
            .collect(),
        Retrieval::Fanout(_) => polling_keys
            .iter()
            .filter_map(|written| keys::find(written))
            .map(|found| found.name)
            .collect(),
    };
    for setting in names
        .iter()
        .filter_map(|name| s.setting(name))
        .collect::<Vec<_>>()
    {
        s.info(&setting, format!("'{}' is ignored: {reason}", setting.written));
    }
}
