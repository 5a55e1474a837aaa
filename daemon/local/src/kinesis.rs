//! The Kinesis service: its streams, and one function for each operation.
//!
//! Owns the list of streams and which operation is which. A call is answered at once, with the time as an
//! argument; only `SubscribeToShard` goes on afterwards. Never knows HTTP.

mod consumers;
mod identity;
mod reading;
mod settings;
mod shards;
mod streams;
mod subscription;
mod tags;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

pub(crate) use subscription::Subscription;

use crate::clock::Clock;
use crate::error::{LocalError, Outcome, ServiceError};
use crate::limits::Limits;
use crate::store;
use crate::stream::{Home, Settings, Stream};
use crate::value::{Request, Value, json};
use crate::writer::{Format, Writer};

/// What the service is told about itself.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    pub(crate) region: String,
    pub(crate) account: String,
    pub(crate) limits: Limits,
    /// Open shards that all streams may have together.
    pub(crate) shard_limit: u32,
    pub(crate) subscription_life: Duration,
    pub(crate) iterator_life: Duration,
}

pub(crate) struct Kinesis {
    pub(crate) manners: Manners,
    clock: Clock,
    home: Home,
    streams: RwLock<BTreeMap<String, Arc<Stream>>>,
    /// New streams begin their sequence numbers above this second, so that those of a deleted stream of the
    /// same name are not theirs.
    made_s_floor: Mutex<u64>,
    /// Who listens: by consumer and shard.
    listeners: Mutex<HashMap<(String, u32), subscription::Listener>>,
}

/// What an operation answers with.
pub(crate) enum Reply {
    /// A body in the format of the request. Empty: the operation answers nothing.
    Body(Vec<u8>),
    /// Events, for as long as both sides want.
    Events(Subscription),
}

/// An operation's request, answer format and time.
#[derive(Clone, Copy)]
pub(crate) struct Call<'v, 'a> {
    pub(crate) request: Request<'v, 'a>,
    pub(crate) format: Format,
    pub(crate) now_ms: u64,
}

impl Call<'_, '_> {
    fn writer(&self) -> Writer {
        Writer::new(self.format)
    }
}

/// Every operation that is answered.
pub(crate) const OPERATIONS: [&str; 36] = [
    "AddTagsToStream",
    "CreateStream",
    "DecreaseStreamRetentionPeriod",
    "DeleteResourcePolicy",
    "DeleteStream",
    "DeregisterStreamConsumer",
    "DescribeLimits",
    "DescribeStream",
    "DescribeStreamConsumer",
    "DescribeStreamSummary",
    "DisableEnhancedMonitoring",
    "EnableEnhancedMonitoring",
    "GetRecords",
    "GetResourcePolicy",
    "GetShardIterator",
    "IncreaseStreamRetentionPeriod",
    "ListShards",
    "ListStreamConsumers",
    "ListStreams",
    "ListTagsForResource",
    "ListTagsForStream",
    "MergeShards",
    "PutRecord",
    "PutRecords",
    "PutResourcePolicy",
    "RegisterStreamConsumer",
    "RemoveTagsFromStream",
    "SplitShard",
    "StartStreamEncryption",
    "StopStreamEncryption",
    "SubscribeToShard",
    "TagResource",
    "UntagResource",
    "UpdateMaxRecordSize",
    "UpdateShardCount",
    "UpdateStreamMode",
];

const NOTHING: Reply = Reply::Body(Vec::new());

impl Kinesis {
    /// Reads what is there already.
    pub(crate) fn open(manners: Manners, clock: Clock, home: Home) -> Result<Self, LocalError> {
        let mut streams = BTreeMap::new();
        if let Some(folder) = home.folder() {
            for path in folders(folder).map_err(|error| LocalError::Data {
                path: folder.into(),
                reason: error.to_string(),
            })? {
                match path.extension().and_then(|extension| extension.to_str()) {
                    Some(store::DOOMED) => {
                        let _ = std::fs::remove_dir_all(&path);
                    }
                    // A stream without a description was being made when the process ended: nobody was told of it.
                    Some("stream") if path.join("stream.json").exists() => {
                        let stream =
                            Stream::open(path.clone()).map_err(|reason| LocalError::Data { path, reason })?;
                        streams.insert(stream.name.clone(), Arc::new(stream));
                    }
                    _ => {}
                }
            }
        }
        Ok(Self {
            manners,
            clock,
            home,
            streams: RwLock::new(streams),
            made_s_floor: Mutex::new(0),
            listeners: Mutex::new(HashMap::new()),
        })
    }

    /// Answers one call.
    pub(crate) fn call(self: &Arc<Self>, operation: &str, call: Call<'_, '_>) -> Outcome<Reply> {
        match operation {
            "AddTagsToStream" => self.add_tags_to_stream(call),
            "CreateStream" => self.create_stream(call),
            "DecreaseStreamRetentionPeriod" => self.change_retention(call, false),
            "DeleteResourcePolicy" => self.delete_resource_policy(call),
            "DeleteStream" => self.delete_stream(call),
            "DeregisterStreamConsumer" => self.deregister_stream_consumer(call),
            "DescribeLimits" => self.describe_limits(call),
            "DescribeStream" => self.describe_stream(call),
            "DescribeStreamConsumer" => self.describe_stream_consumer(call),
            "DescribeStreamSummary" => self.describe_stream_summary(call),
            "DisableEnhancedMonitoring" => self.enhanced_monitoring(call, false),
            "EnableEnhancedMonitoring" => self.enhanced_monitoring(call, true),
            "GetRecords" => self.get_records(call),
            "GetResourcePolicy" => self.get_resource_policy(call),
            "GetShardIterator" => self.get_shard_iterator(call),
            "IncreaseStreamRetentionPeriod" => self.change_retention(call, true),
            "ListShards" => self.list_shards(call),
            "ListStreamConsumers" => self.list_stream_consumers(call),
            "ListStreams" => self.list_streams(call),
            "ListTagsForResource" => self.list_tags_for_resource(call),
            "ListTagsForStream" => self.list_tags_for_stream(call),
            "MergeShards" => self.merge_shards(call),
            "PutRecord" => self.put_record(call),
            "PutRecords" => self.put_records(call),
            "PutResourcePolicy" => self.put_resource_policy(call),
            "RegisterStreamConsumer" => self.register_stream_consumer(call),
            "RemoveTagsFromStream" => self.remove_tags_from_stream(call),
            "SplitShard" => self.split_shard(call),
            "StartStreamEncryption" => self.stream_encryption(call, true),
            "StopStreamEncryption" => self.stream_encryption(call, false),
            "SubscribeToShard" => self.subscribe_to_shard(call).map(Reply::Events),
            "TagResource" => self.tag_resource(call),
            "UntagResource" => self.untag_resource(call),
            "UpdateMaxRecordSize" => self.update_max_record_size(call),
            "UpdateShardCount" => self.update_shard_count(call),
            "UpdateStreamMode" => self.update_stream_mode(call),
            _ => Err(ServiceError::new(
                "UnknownOperationException",
                format!("the local Kinesis has no operation {operation}"),
            )),
        }
    }

    /// Makes a stream if there is none of this name. Says whether it did.
    pub(crate) fn create_if_missing(&self, name: &str, shards: u32, now_ms: u64) -> Outcome<bool> {
        if self
            .streams
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(name)
        {
            return Ok(false);
        }
        match self.create(name, shards, Settings::default(), now_ms) {
            Err(error) if error.code == "ResourceInUseException" => Ok(false),
            created => created.map(|()| true),
        }
    }

    /// Forgets what retention has ended, in every stream.
    pub(crate) fn sweep(&self, now_ms: u64) {
        self.all().iter().for_each(|stream| stream.sweep(now_ms));
    }

    /// Ends every subscription.
    pub(crate) fn stop(&self) {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.values().for_each(subscription::Listener::end);
    }

    fn all(&self) -> Vec<Arc<Stream>> {
        self.streams
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}

fn folders(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        found.push(entry?.path());
    }
    Ok(found)
}

/// Reads a body and names nothing of the operation: the same for every call.
pub(crate) fn read_body(body: &[u8], format: Format) -> Outcome<Value<'_>> {
    match format {
        Format::Json => json::read(body),
        Format::Cbor => crate::value::cbor::read(body),
    }
}

/// The names in a request by which a fault may choose it: of streams, shards and consumers.
pub(crate) fn names(request: Request<'_, '_>) -> Vec<String> {
    let mut names = Vec::new();
    for field in [
        "StreamName",
        "ShardId",
        "ShardToSplit",
        "ShardToMerge",
        "ConsumerName",
    ] {
        names.extend(request.text(field).ok().flatten().map(str::to_owned));
    }
    for field in ["StreamARN", "ConsumerARN"] {
        match request.text(field).ok().flatten().and_then(identity::resource) {
            Some(identity::Resource::Stream(stream)) => names.push(stream.to_owned()),
            Some(identity::Resource::Consumer(stream, consumer, _)) => {
                names.extend([stream.to_owned(), consumer.to_owned()]);
            }
            None => {}
        }
    }
    if let Some(iterator) = request.text("ShardIterator").ok().flatten()
        && let Ok(iterator) = crate::token::Iterator::read(iterator)
    {
        names.extend([iterator.stream, crate::shard::id(iterator.shard)]);
    }
    names
}
