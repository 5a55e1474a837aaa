//! What can be set on a stream. Retention and record size have an effect here; the rest is remembered, so that
//! programs which set and describe it work.

use super::streams::{is_on_demand, mode, record_kib};
use super::{Call, Kinesis, NOTHING, Reply};
use crate::error::{Outcome, ServiceError};
use crate::stream::RETENTION_HOURS;
use crate::value::{missing, out_of_range};

/// A year.
const RETENTION_HOURS_MAX: i64 = 8760;

const METRICS: [&str; 7] = [
    "IncomingBytes",
    "IncomingRecords",
    "IteratorAgeMilliseconds",
    "OutgoingBytes",
    "OutgoingRecords",
    "ReadProvisionedThroughputExceeded",
    "WriteProvisionedThroughputExceeded",
];

impl Kinesis {
    pub(super) fn change_retention(&self, call: Call<'_, '_>, longer: bool) -> Outcome<Reply> {
        let stream = self.stream(call.request)?;
        let hours = call.request.required_integer("RetentionPeriodHours")?;
        let least = i64::from(RETENTION_HOURS);
        if hours < least || hours > RETENTION_HOURS_MAX {
            return Err(ServiceError::argument(format!(
                "Retention period must be between {least} and {RETENTION_HOURS_MAX} hours. Requested retention period: {hours} hours"
            )));
        }
        stream.change(|state| {
            let now = i64::from(state.settings.retention_hours);
            if (longer && hours < now) || (!longer && hours > now) {
                let word = if longer { "longer" } else { "shorter" };
                return Err(ServiceError::argument(format!(
                    "Requested retention period ({hours} hours) for stream {} must be {word} than the current one ({now} hours)",
                    stream.name
                )));
            }
            state.settings.retention_hours = hours as u32;
            Ok(())
        })?;
        Ok(NOTHING)
    }

    pub(super) fn update_stream_mode(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let stream = self.stream_of_arn(call.request, "StreamARN")?;
        let on_demand = is_on_demand(call.request)?.ok_or_else(|| missing("StreamModeDetails"))?;
        stream.change(|state| {
            state.settings.on_demand = on_demand;
            tracing::info!(stream = %stream.name, mode = mode(&state.settings), "stream mode updated");
            Ok(())
        })?;
        Ok(NOTHING)
    }

    pub(super) fn update_max_record_size(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let stream = self.stream_of_arn(call.request, "StreamARN")?;
        let kib = record_kib(call.request)?.ok_or_else(|| missing("MaxRecordSizeInKiB"))?;
        stream.change(|state| {
            state.settings.record_kib = kib;
            Ok(())
        })?;
        Ok(NOTHING)
    }

    pub(super) fn enhanced_monitoring(&self, call: Call<'_, '_>, enable: bool) -> Outcome<Reply> {
        let stream = self.stream(call.request)?;
        let named = call
            .request
            .texts("ShardLevelMetrics")?
            .ok_or_else(|| missing("ShardLevelMetrics"))?;
        let mut metrics = Vec::new();
        for name in named {
            match name {
                "ALL" => metrics.extend(METRICS),
                name if METRICS.contains(&name) => metrics.push(name),
                name => {
                    return Err(out_of_range(
                        "ShardLevelMetrics",
                        name,
                        "be ALL or the name of a shard-level metric",
                    ));
                }
            }
        }
        let (before, after) = stream.change(|state| {
            let before = state.settings.metrics.clone();
            for name in metrics {
                if enable {
                    state.settings.metrics.insert(name.to_owned());
                } else {
                    state.settings.metrics.remove(name);
                }
            }
            Ok((before, state.settings.metrics.clone()))
        })?;
        let mut w = call.writer();
        w.open_map()
            .key("StreamName")
            .text(&stream.name)
            .key("StreamARN")
            .text(&self.stream_arn(&stream.name));
        for (key, names) in [
            ("CurrentShardLevelMetrics", before),
            ("DesiredShardLevelMetrics", after),
        ] {
            w.key(key).open_list();
            names.iter().for_each(|name| {
                w.text(name);
            });
            w.close_list();
        }
        w.close_map();
        Ok(Reply::Body(w.finish()))
    }

    pub(super) fn stream_encryption(&self, call: Call<'_, '_>, start: bool) -> Outcome<Reply> {
        let stream = self.stream(call.request)?;
        let key_id = call.request.required_text("KeyId")?;
        match call.request.required_text("EncryptionType")? {
            "KMS" => {}
            other => {
                return Err(out_of_range(
                    "EncryptionType",
                    other,
                    "satisfy enum value set: [KMS]",
                ));
            }
        }
        stream.change(|state| {
            state.settings.key_id = start.then(|| key_id.to_owned());
            Ok(())
        })?;
        Ok(NOTHING)
    }

    pub(super) fn put_resource_policy(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let stream = self.stream_of_arn(call.request, "ResourceARN")?;
        let policy = call.request.required_text("Policy")?.to_owned();
        stream.change(|state| {
            state.settings.policy = Some(policy);
            Ok(())
        })?;
        Ok(NOTHING)
    }

    pub(super) fn get_resource_policy(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let stream = self.stream_of_arn(call.request, "ResourceARN")?;
        let mut w = call.writer();
        w.open_map()
            .key("Policy")
            .text(stream.state().settings.policy.as_deref().unwrap_or("{}"))
            .close_map();
        Ok(Reply::Body(w.finish()))
    }

    pub(super) fn delete_resource_policy(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let stream = self.stream_of_arn(call.request, "ResourceARN")?;
        stream.change(|state| {
            state.settings.policy = None;
            Ok(())
        })?;
        Ok(NOTHING)
    }
}
