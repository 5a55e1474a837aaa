//! Making, describing, listing and deleting streams.

use std::sync::{Arc, PoisonError};

use super::identity::checked_name;
use super::{Call, Kinesis, NOTHING, Reply};
use crate::error::{Outcome, ServiceError};
use crate::shard;
use crate::store;
use crate::stream::{Settings, State, Stream};
use crate::token::Page;
use crate::value::{Request, out_of_range};
use crate::writer::Writer;

/// Shards of a stream that is made on demand, as for the service.
const ON_DEMAND_SHARDS: i64 = 4;
/// Most shards in one answer of `DescribeStream` and, unless asked for more, of `ListShards`.
const DESCRIBE_MAX: i64 = 10_000;

impl Kinesis {
    pub(super) fn create_stream(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let request = call.request;
        let name = checked_name("StreamName", request.required_text("StreamName")?)?;
        let on_demand = is_on_demand(request)?.unwrap_or(false);
        let count = match request.integer("ShardCount")? {
            None if on_demand => ON_DEMAND_SHARDS,
            None => return Err(crate::value::missing("ShardCount")),
            Some(count) if count < 1 => {
                return Err(out_of_range(
                    "ShardCount",
                    count,
                    "have value greater than or equal to 1",
                ));
            }
            Some(count) => count,
        };
        let record_kib = record_kib(request)?.unwrap_or(crate::stream::RECORD_KIB);
        let mut settings = Settings {
            on_demand,
            record_kib,
            ..Settings::default()
        };
        if let Some(tags) = request.map("Tags")? {
            settings.tags.extend(super::tags::checked(tags)?);
        }
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.create(name, count, settings, call.now_ms)?;
        Ok(NOTHING)
    }

    pub(super) fn create(&self, name: &str, count: u32, settings: Settings, now_ms: u64) -> Outcome<()> {
        checked_name("StreamName", name)?;
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        if streams.contains_key(name) {
            return Err(ServiceError::in_use(format!(
                "Stream {name} under account {} already exists.",
                self.manners.account
            )));
        }
        let open: usize = streams.values().map(|stream| stream.state().open().len()).sum();
        self.within_shard_limit(open, count)?;
        let home = self.home.join(&format!("{name}.stream"));
        if let Some(folder) = home.folder() {
            // What a process that ended while making the stream left behind.
            store::remove(folder).map_err(|error| ServiceError::internal(error.to_string()))?;
        }
        let floor = *self.made_s_floor.lock().unwrap_or_else(PoisonError::into_inner);
        let made_s = (now_ms / 1000).max(floor + 1);
        let stream = Stream::create(name, count, settings, home, made_s, now_ms)?;
        streams.insert(name.to_owned(), Arc::new(stream));
        tracing::info!(stream = name, shards = count, "stream created");
        Ok(())
    }

    /// Refuses more open shards than the account may have.
    pub(super) fn within_shard_limit(&self, open: usize, more: u32) -> Outcome<()> {
        let limit = self.manners.shard_limit;
        if open + more as usize > limit as usize {
            return Err(ServiceError::limit(format!(
                "This request would exceed the shard limit for the account {} in {}. Current shard count for the \
                 account: {open}. Limit: {limit}. Number of additional shards that would have resulted from this \
                 request: {more}.",
                self.manners.account, self.manners.region
            )));
        }
        Ok(())
    }

    pub(super) fn delete_stream(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let name = self.stream_name(call.request)?;
        let stream = self.named(name)?;
        let enforce = call.request.boolean("EnforceConsumerDeletion")?.unwrap_or(false);
        if !enforce && !stream.state().consumers.is_empty() {
            return Err(ServiceError::in_use(format!(
                "Stream {name} under account {} has consumers registered.",
                self.manners.account
            )));
        }
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        stream.delete()?;
        streams.remove(name);
        let mut floor = self.made_s_floor.lock().unwrap_or_else(PoisonError::into_inner);
        *floor = stream.state().last_made_s().max(*floor);
        tracing::info!(stream = name, "stream deleted");
        Ok(NOTHING)
    }

    pub(super) fn describe_stream(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let stream = self.stream(call.request)?;
        let limit = limit(call.request, "Limit", 10_000)?
            .unwrap_or(100)
            .min(DESCRIBE_MAX) as usize;
        let after = exclusive_start(call.request)?;
        let state = stream.state();
        let mut shards = state
            .shards(call.now_ms)
            .filter(|entry| after.is_none_or(|after| entry.shard.index > after));
        let mut w = call.writer();
        w.open_map().key("StreamDescription").open_map();
        self.describe(&mut w, &stream, &state);
        w.key("Shards").open_list();
        shards
            .by_ref()
            .take(limit)
            .for_each(|entry| super::shards::write(&mut w, entry));
        w.close_list()
            .key("HasMoreShards")
            .boolean(shards.next().is_some());
        w.close_map().close_map();
        Ok(Reply::Body(w.finish()))
    }

    pub(super) fn describe_stream_summary(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let stream = self.stream(call.request)?;
        let state = stream.state();
        let mut w = call.writer();
        w.open_map().key("StreamDescriptionSummary").open_map();
        self.describe(&mut w, &stream, &state);
        w.key("OpenShardCount").integer(state.open().len() as i64);
        w.key("ConsumerCount").integer(state.consumers.len() as i64);
        w.key("MaxRecordSizeInKiB")
            .integer(i64::from(state.settings.record_kib));
        w.close_map().close_map();
        Ok(Reply::Body(w.finish()))
    }

    /// What both descriptions say.
    fn describe(&self, w: &mut Writer, stream: &Stream, state: &State) {
        let settings = &state.settings;
        w.key("StreamName")
            .text(&stream.name)
            .key("StreamARN")
            .text(&self.stream_arn(&stream.name));
        w.key("StreamStatus").text("ACTIVE");
        w.key("StreamModeDetails")
            .open_map()
            .key("StreamMode")
            .text(mode(settings))
            .close_map();
        w.key("RetentionPeriodHours")
            .integer(i64::from(settings.retention_hours));
        w.key("StreamCreationTimestamp").time(stream.made_ms);
        w.key("EnhancedMonitoring")
            .open_list()
            .open_map()
            .key("ShardLevelMetrics")
            .open_list();
        settings.metrics.iter().for_each(|name| {
            w.text(name);
        });
        w.close_list().close_map().close_list();
        w.key("EncryptionType")
            .text(if settings.key_id.is_some() { "KMS" } else { "NONE" });
        if let Some(key_id) = &settings.key_id {
            w.key("KeyId").text(key_id);
        }
    }

    pub(super) fn list_streams(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let request = call.request;
        let limit = limit(request, "Limit", 10_000)?.unwrap_or(100) as usize;
        let after = match request.text("NextToken")? {
            Some(token) => Some(page(self, token, "streams", call.now_ms)?.last),
            None => request.text("ExclusiveStartStreamName")?.map(str::to_owned),
        };
        let streams = self.all();
        let mut listed = streams
            .iter()
            .filter(|stream| after.as_ref().is_none_or(|after| stream.name > *after));
        let page: Vec<_> = listed.by_ref().take(limit).collect();
        let more = listed.next().is_some();
        let mut w = call.writer();
        w.open_map().key("StreamNames").open_list();
        page.iter().for_each(|stream| {
            w.text(&stream.name);
        });
        w.close_list().key("StreamSummaries").open_list();
        for stream in &page {
            let state = stream.state();
            w.open_map()
                .key("StreamName")
                .text(&stream.name)
                .key("StreamARN")
                .text(&self.stream_arn(&stream.name));
            w.key("StreamStatus").text("ACTIVE");
            w.key("StreamModeDetails")
                .open_map()
                .key("StreamMode")
                .text(mode(&state.settings))
                .close_map();
            w.key("StreamCreationTimestamp").time(stream.made_ms).close_map();
        }
        w.close_list().key("HasMoreStreams").boolean(more);
        if let (true, Some(last)) = (more, page.last()) {
            let next = Page {
                stream: String::new(),
                question: "streams".into(),
                last: last.name.clone(),
                issued_ms: call.now_ms,
            };
            w.key("NextToken").text(&next.write());
        }
        w.close_map();
        Ok(Reply::Body(w.finish()))
    }

    pub(super) fn describe_limits(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let streams = self.all();
        let open: usize = streams.iter().map(|stream| stream.state().open().len()).sum();
        let on_demand = streams
            .iter()
            .filter(|stream| stream.state().settings.on_demand)
            .count();
        let mut w = call.writer();
        w.open_map()
            .key("ShardLimit")
            .integer(i64::from(self.manners.shard_limit));
        w.key("OpenShardCount").integer(open as i64);
        w.key("OnDemandStreamCount")
            .integer(on_demand as i64)
            .key("OnDemandStreamCountLimit")
            .integer(50);
        w.close_map();
        Ok(Reply::Body(w.finish()))
    }
}

pub(super) fn mode(settings: &Settings) -> &'static str {
    if settings.on_demand {
        "ON_DEMAND"
    } else {
        "PROVISIONED"
    }
}

pub(super) fn is_on_demand(request: Request<'_, '_>) -> Outcome<Option<bool>> {
    let Some(details) = request.map("StreamModeDetails")? else {
        return Ok(None);
    };
    match details.required_text("StreamMode")? {
        "ON_DEMAND" => Ok(Some(true)),
        "PROVISIONED" => Ok(Some(false)),
        other => Err(out_of_range(
            "StreamMode",
            other,
            "satisfy enum value set: [PROVISIONED, ON_DEMAND]",
        )),
    }
}

pub(super) fn record_kib(request: Request<'_, '_>) -> Outcome<Option<u32>> {
    match request.integer("MaxRecordSizeInKiB")? {
        None => Ok(None),
        Some(kib @ 1024..=10_240) => Ok(Some(kib as u32)),
        Some(kib) => Err(out_of_range(
            "MaxRecordSizeInKiB",
            kib,
            "have a value between 1024 and 10240",
        )),
    }
}

/// A limit between 1 and `max`.
pub(super) fn limit(request: Request<'_, '_>, field: &str, max: i64) -> Outcome<Option<i64>> {
    match request.integer(field)? {
        Some(limit) if limit < 1 => Err(out_of_range(
            field,
            limit,
            "have value greater than or equal to 1",
        )),
        Some(limit) if limit > max => Err(out_of_range(
            field,
            limit,
            &format!("have value less than or equal to {max}"),
        )),
        limit => Ok(limit),
    }
}

/// The shard behind which a listing begins. It need not exist.
pub(super) fn exclusive_start(request: Request<'_, '_>) -> Outcome<Option<u32>> {
    let Some(id) = request.text("ExclusiveStartShardId")? else {
        return Ok(None);
    };
    shard::index(id)
        .map(Some)
        .ok_or_else(|| super::shards::bad_shard_id("ExclusiveStartShardId", id))
}

/// Reads a `NextToken` of this question, if it is young enough.
pub(super) fn page(kinesis: &Kinesis, token: &str, question: &str, now_ms: u64) -> Outcome<Page> {
    let page = Page::read(token)?;
    if !page.question.starts_with(question) {
        return Err(ServiceError::argument("Invalid NextToken."));
    }
    let life_ms = kinesis.manners.iterator_life.as_millis() as u64;
    if now_ms.saturating_sub(page.issued_ms) > life_ms {
        return Err(ServiceError::new(
            "ExpiredNextTokenException",
            format!("The NextToken is older than {} seconds.", life_ms / 1000),
        ));
    }
    Ok(page)
}
