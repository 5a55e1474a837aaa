use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// A service in memory, whose time stands still until a test moves it.
struct World {
    kinesis: Arc<Kinesis>,
    now: Arc<AtomicU64>,
}

const START_MS: u64 = 1_790_000_000_000;

fn world() -> World {
    world_with(Limits::None)
}

fn world_with(limits: Limits) -> World {
    let manners = Manners {
        region: "eu-west-1".into(),
        account: "123456789012".into(),
        limits,
        shard_limit: 100,
        subscription_life: Duration::from_secs(300),
        iterator_life: Duration::from_secs(300),
    };
    let now = Arc::new(AtomicU64::new(START_MS));
    let kinesis = Kinesis::open(manners, Clock::Set(now.clone()), None).unwrap();
    World {
        kinesis: Arc::new(kinesis),
        now,
    }
}

impl World {
    fn pass(&self, time: Duration) {
        self.now.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// An answer, or the code of the error.
    fn ask(&self, operation: &str, body: serde_json::Value) -> Result<serde_json::Value, String> {
        let body = body.to_string();
        let value = read_body(body.as_bytes(), Format::Json).unwrap();
        let request = Request::new(&value).unwrap();
        let call = Call {
            request,
            format: Format::Json,
            now_ms: self.now_ms(),
        };
        match self.kinesis.call(operation, call) {
            Ok(Reply::Body(body)) if body.is_empty() => Ok(serde_json::Value::Null),
            Ok(Reply::Body(body)) => Ok(serde_json::from_slice(&body).unwrap()),
            Ok(Reply::Events(_)) => panic!("{operation} answers with events"),
            Err(error) => Err(error.code.into_owned()),
        }
    }

    fn must(&self, operation: &str, body: serde_json::Value) -> serde_json::Value {
        self.ask(operation, body)
            .unwrap_or_else(|code| panic!("{operation}: {code}"))
    }
}

#[test]
fn a_record_comes_back_as_it_was_put() {
    let world = world();
    world.must(
        "CreateStream",
        serde_json::json!({"StreamName": "s", "ShardCount": 1}),
    );
    world.must(
        "PutRecord",
        serde_json::json!({"StreamName": "s", "PartitionKey": "ä\"", "Data": "aGVsbG8="}),
    );
    world.pass(Duration::from_secs(2));
    let iterator = world.must(
        "GetShardIterator",
        serde_json::json!({"StreamName": "s", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"}),
    );
    let answer = world.must("GetRecords", iterator);
    assert_eq!(answer["Records"][0]["Data"], "aGVsbG8=");
    assert_eq!(answer["Records"][0]["PartitionKey"], "ä\"");
    assert_eq!(
        answer["Records"][0]["ApproximateArrivalTimestamp"].to_string(),
        "1790000000.000"
    );
    assert_eq!(answer["MillisBehindLatest"], 0);
}
