//! The operations, called in the process, with a time that stands still until a test moves it.

mod consumers;
mod reading;
mod shards;
mod streams;
mod subscription;
mod writing;

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value as Json, json};

use super::*;

struct World {
    kinesis: Arc<Kinesis>,
    now: Arc<AtomicU64>,
}

const START_MS: u64 = 1_790_000_000_000;
const SHARD_0: &str = "shardId-000000000000";
const SHARD_1: &str = "shardId-000000000001";
const ARN: &str = "arn:aws:kinesis:eu-west-1:123456789012:stream/s";

fn manners() -> Manners {
    Manners {
        region: "eu-west-1".into(),
        account: "123456789012".into(),
        limits: Limits::None,
        shard_limit: 100,
        subscription_life: Duration::from_secs(300),
        iterator_life: Duration::from_secs(300),
    }
}

fn world_of(manners: Manners) -> World {
    let now = Arc::new(AtomicU64::new(START_MS));
    let kinesis = Kinesis::open(
        manners,
        Clock::Set(now.clone()),
        Home::Memory(crate::log::Room::new(1 << 30)),
    )
    .unwrap();
    World {
        kinesis: Arc::new(kinesis),
        now,
    }
}

/// A world with a stream `s` of so many shards.
fn world(shards: u32) -> World {
    let world = world_of(manners());
    world.must("CreateStream", json!({"StreamName": "s", "ShardCount": shards}));
    world
}

impl World {
    fn pass(&self, time: Duration) {
        self.now.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }

    fn pass_ms(&self, ms: u64) {
        self.pass(Duration::from_millis(ms));
    }

    fn now_ms(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    fn now_s(&self) -> f64 {
        self.now_ms() as f64 / 1000.0
    }

    fn call(&self, operation: &str, body: &Json) -> Outcome<Reply> {
        let body = body.to_string();
        let value = read_body(body.as_bytes(), Format::Json)?;
        let request = Request::new(&value)?;
        self.kinesis.call(
            operation,
            Call {
                request,
                format: Format::Json,
                now_ms: self.now_ms(),
            },
        )
    }

    /// An answer, or the code of the error.
    fn ask(&self, operation: &str, body: Json) -> Result<Json, String> {
        match self.call(operation, &body) {
            Ok(Reply::Body(body)) if body.is_empty() => Ok(Json::Null),
            Ok(Reply::Body(body)) => Ok(serde_json::from_slice(&body).unwrap()),
            Ok(Reply::Events(_)) => panic!("{operation} answers with events"),
            Err(error) => Err(error.code.into_owned()),
        }
    }

    fn must(&self, operation: &str, body: Json) -> Json {
        self.ask(operation, body.clone())
            .unwrap_or_else(|code| panic!("{operation} {body}: {code}"))
    }

    /// Puts text under a key and returns its sequence number.
    fn put(&self, key: &str, text: &str) -> String {
        let data = base64_simd::STANDARD.encode_to_string(text);
        let put = self.must(
            "PutRecord",
            json!({"StreamName": "s", "PartitionKey": key, "Data": data}),
        );
        put["SequenceNumber"].as_str().unwrap().to_owned()
    }

    fn iterator(&self, shard: &str, kind: &str, more: Json) -> Result<String, String> {
        let mut body = json!({"StreamName": "s", "ShardId": shard, "ShardIteratorType": kind});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Ok(self.ask("GetShardIterator", body)?["ShardIterator"]
            .as_str()
            .unwrap()
            .to_owned())
    }

    fn get(&self, iterator: &str) -> Json {
        self.must("GetRecords", json!({"ShardIterator": iterator}))
    }

    /// Texts of the records behind an iterator of this kind.
    fn texts(&self, shard: &str, kind: &str, more: Json) -> Result<Vec<String>, String> {
        Ok(texts(&self.get(&self.iterator(shard, kind, more)?)))
    }

    /// Ids of the shards that a filter shows.
    fn listed(&self, filter: Json) -> Vec<u64> {
        ids(&self.must("ListShards", json!({"StreamName": "s", "ShardFilter": filter})))
    }

    fn split(&self, shard: u32) {
        let range = self
            .kinesis
            .named("s")
            .unwrap()
            .state()
            .entry(shard)
            .unwrap()
            .shard
            .hashes;
        let middle = range.0 + (range.1 - range.0) / 2 + 1;
        self.must(
            "SplitShard",
            json!({"StreamName": "s", "ShardToSplit": crate::shard::id(shard), "NewStartingHashKey": middle.to_string()}),
        );
    }

    fn merge(&self, a: u32, b: u32) {
        self.must(
            "MergeShards",
            json!({"StreamName": "s", "ShardToMerge": crate::shard::id(a), "AdjacentShardToMerge": crate::shard::id(b)}),
        );
    }
}

fn texts(answer: &Json) -> Vec<String> {
    let records = answer["Records"].as_array().unwrap().iter();
    let text = |record: &Json| {
        base64_simd::STANDARD
            .decode_to_vec(record["Data"].as_str().unwrap())
            .unwrap()
    };
    records
        .map(|record| String::from_utf8(text(record)).unwrap())
        .collect()
}

fn ids(answer: &Json) -> Vec<u64> {
    let shards = answer["Shards"].as_array().unwrap().iter();
    shards
        .map(|shard| shard["ShardId"].as_str().unwrap()[8..].parse().unwrap())
        .collect()
}

fn next(answer: &Json) -> String {
    answer["NextShardIterator"]
        .as_str()
        .expect("an open shard has a next iterator")
        .to_owned()
}

/// Takes a time out of an answer: its digits are not those of another time that is equal.
fn take_time(answer: &mut Json, name: &str) -> f64 {
    answer
        .as_object_mut()
        .unwrap()
        .remove(name)
        .and_then(|time| time.as_f64())
        .expect("a time")
}
