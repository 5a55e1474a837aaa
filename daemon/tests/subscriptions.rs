//! Subscriptions as AWS serves them: many on one HTTP/2 connection over TLS, found by ALPN.
#![cfg(feature = "local")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use common::{PATIENCE, fault, kinesis_client, kinesis_endpoint, services, stream_of, unique};
use multilangd_core::fetch::{Answer, PaceSettings};
use multilangd_core::ids::{Position, ShardId};
use multilangd_core::stream::StartAt;
use multilangd_daemon::aws::client::{Aws, ServiceSettings, UserAgent};
use multilangd_daemon::aws::credentials::dummy;
use multilangd_daemon::aws::fanout::{KinesisFanOut, SUBSCRIBE_TIMEOUT};
use multilangd_daemon::aws::kinesis::KinesisStream;
use multilangd_daemon::aws::lanes::Pings;
use multilangd_daemon::aws::trust::Trust;
use multilangd_engine::clock::Clock;
use multilangd_engine::fetch::{
    Fetch, FetchSettings, Registration, RegistrationSettings, WantedConsumer, WorkerReadAhead,
};
use multilangd_engine::metrics::Metrics;
use multilangd_engine::stream::{FanOut, StreamError, Subscription};
use multilangd_local::Fault;
use multilangd_tests::tls::Front;
use tokio::task::JoinSet;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_subscriptions_that_begin_at_once_are_carried_by_three_http_2_connections() {
    let world = World::new("carried", 40, Pings::default()).await;
    let subscriptions = world.subscribe_all().await;
    assert_eq!(world.front.connections(), ["h2", "h2", "h2"]);
    world.put_to_all(40, 10).await;
    let mut shards = BTreeSet::new();
    for (shard, mut subscription) in subscriptions {
        let records = read(subscription.as_mut(), 10).await;
        assert_eq!(records, 10, "{shard}");
        shards.insert(shard);
    }
    assert_eq!(shards.len(), 40);
    assert_eq!(world.front.connections().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifteen_subscriptions_that_nobody_reads_do_not_hold_up_the_one_beside_them() {
    let world = World::new("unread", 16, Pings::default()).await;
    // 4 MB for each shard: eight times what is sent ahead of a reader.
    for _ in 0..4 {
        world.put_to_all(16, 1_000_000).await;
    }
    let mut subscriptions = world.subscribe_all().await;
    let (_, mut last) = subscriptions.pop().unwrap();
    let mut bytes = 0;
    while bytes < 4_000_000 {
        bytes += read_event(last.as_mut()).await;
    }
    assert_eq!(world.front.connections(), ["h2"]);
    // And those lose nothing by having waited.
    for (_, mut subscription) in subscriptions {
        let mut bytes = 0;
        while bytes < 4_000_000 {
            bytes += read_event(subscription.as_mut()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_other_end_vanished_fails_all_its_subscriptions_and_the_next_one_has_another() {
    let pings = Pings {
        every: Duration::from_millis(200),
        answer_within: Duration::from_millis(500),
    };
    let world = World::new("vanished", 3, pings).await;
    let subscriptions = world.subscribe_all().await;
    world.front.freeze();
    for (_, mut subscription) in subscriptions {
        let error = loop {
            match timeout(PATIENCE, subscription.next()).await {
                Ok(Ok(Some(_))) => {}
                Ok(Ok(None)) => panic!("this is no end in order"),
                Ok(Err(error)) => break error,
                Err(_) => panic!("nobody noticed"),
            }
        };
        assert!(matches!(error, StreamError::Unavailable(_)), "{error}");
    }
    // Another consumer, as the five seconds of this one are not over.
    let consumer = world.register("other").await;
    let mut again = subscribe(&world.fan_out, &consumer, 0).await.unwrap();
    timeout(PATIENCE, again.next())
        .await
        .expect("it says something")
        .unwrap();
    assert_eq!(world.front.connections(), ["h2", "h2"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_are_renewed_while_they_flow_and_every_record_comes_once() {
    // The service takes 300 ms to answer, and records come every 20 ms: each renewal brings some again.
    let world = World::new("renewed", 1, Pings::default()).await;
    let slow = Fault::on("kinesis.SubscribeToShard")
        .only(&world.name)
        .delay(Duration::from_millis(300));
    fault(slow.clone()).await;
    let mut fetch = world.fetch(Duration::from_millis(6500));
    let subscriptions = async || {
        let struck = services().await.faults().struck();
        struck
            .iter()
            .filter(|(fault, _)| *fault == slow)
            .map(|(_, count)| *count)
            .sum::<u64>()
    };
    let client = kinesis_client().await;
    let mut put = 0_u64;
    let mut came = Vec::new();
    // Until three more subscriptions followed the first, each in the middle of the flow.
    while came.len() < put as usize || subscriptions().await < 4 {
        if subscriptions().await < 4 {
            let request = client.put_record().stream_name(&world.name).partition_key("key");
            let data = Blob::new(put.to_string());
            request.data(data).send().await.unwrap();
            put += 1;
        }
        while let Ok(Some(answer)) = timeout(Duration::from_millis(20), fetch.next()).await {
            let Answer::More(batch) = answer else {
                panic!("no end")
            };
            let texts = batch
                .records
                .iter()
                .map(|record| String::from_utf8_lossy(&record.data.decoded()).into_owned());
            came.extend(texts);
        }
    }
    let expected: Vec<String> = (0..put).map(|number| number.to_string()).collect();
    assert_eq!(came, expected);
    assert!(put > 300, "{put} records are no flow");
}

#[tokio::test]
async fn a_service_that_nobody_vouches_for_is_not_spoken_to() {
    let world = World::new("stranger", 1, Pings::default()).await;
    let (_, strange) = fan_out(&world.name, &world.front, Trust::default(), Pings::default()).await;
    let error = subscribe(&strange, &world.consumer, 0)
        .await
        .err()
        .expect("a stranger");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    assert!(error.to_string().contains("AWS_CA_BUNDLE"), "{error}");
}

/// A stream behind TLS, and a consumer of it.
struct World {
    name: String,
    front: Front,
    stream: Arc<KinesisStream>,
    fan_out: Arc<KinesisFanOut>,
    consumer: String,
    shards: usize,
}

impl World {
    async fn new(name: &str, shards: usize, pings: Pings) -> Self {
        let name = unique(name);
        let client = kinesis_client().await;
        let create = client.create_stream().stream_name(&name);
        create.shard_count(shards as i32).send().await.unwrap();
        let front = Front::start(&kinesis_endpoint().await);
        let trust = Trust::in_file(front.authority()).unwrap();
        let (stream, fan_out) = fan_out(&name, &front, trust, pings).await;
        let mut world = Self {
            name,
            front,
            stream: Arc::new(stream),
            fan_out: Arc::new(fan_out),
            consumer: String::new(),
            shards,
        };
        world.consumer = world.register("ours").await;
        world
    }

    async fn register(&self, consumer: &str) -> String {
        let client = kinesis_client().await;
        let summary = client.describe_stream_summary().stream_name(&self.name);
        let summary = summary.send().await.unwrap().stream_description_summary.unwrap();
        let register = client.register_stream_consumer().stream_arn(summary.stream_arn);
        let registered = register.consumer_name(consumer).send().await.unwrap();
        registered.consumer.unwrap().consumer_arn
    }

    /// Reads the shard with subscriptions that are said to live for so long.
    fn fetch(&self, subscription_life: Duration) -> Fetch {
        let clock = Clock::real();
        let registration = Registration::new(
            self.fan_out.clone(),
            self.stream.clone(),
            WantedConsumer::Arn(self.consumer.clone()),
            RegistrationSettings::default(),
            clock.clone(),
        );
        let settings = FetchSettings {
            pace: PaceSettings {
                idle: Duration::from_secs(1),
                reduced_tps_threshold: Duration::ZERO,
            },
            records_max: 10_000,
            timestamp_ms: None,
            fan_out: Some(registration),
            subscription_life,
        };
        Fetch::begin(
            self.stream.clone(),
            ShardId::from("shardId-000000000000"),
            &Position::TrimHorizon,
            &settings,
            WorkerReadAhead::new(1 << 20),
            clock,
            Metrics::off(),
        )
    }

    /// All at once.
    async fn subscribe_all(&self) -> Vec<(usize, Box<dyn Subscription>)> {
        let mut waiting = JoinSet::new();
        for index in 0..self.shards {
            let (fan_out, consumer) = (self.fan_out.clone(), self.consumer.clone());
            waiting.spawn(async move { (index, subscribe(&fan_out, &consumer, index).await.unwrap()) });
        }
        waiting.join_all().await
    }

    /// One record of so many bytes for each shard.
    async fn put_to_all(&self, shards: usize, bytes: usize) {
        let client = kinesis_client().await;
        let all: Vec<_> = (0..shards as u128).collect();
        for some in all.chunks(8) {
            let records = some.iter().map(|index| {
                let width = u128::MAX / shards as u128;
                let hash_key = width * index + width / 2;
                PutRecordsRequestEntry::builder()
                    .partition_key("key")
                    .explicit_hash_key(hash_key.to_string())
                    .data(Blob::new(vec![b'x'; bytes]))
                    .build()
                    .unwrap()
            });
            let put = client.put_records().stream_name(&self.name);
            put.set_records(Some(records.collect())).send().await.unwrap();
        }
    }
}

async fn subscribe(
    fan_out: &KinesisFanOut,
    consumer: &str,
    shard: usize,
) -> Result<Box<dyn Subscription>, StreamError> {
    let shard = ShardId::from(format!("shardId-{shard:012}"));
    fan_out.subscribe(consumer, &shard, &StartAt::TrimHorizon).await
}

async fn fan_out(stream: &str, front: &Front, trust: Trust, pings: Pings) -> (KinesisStream, KinesisFanOut) {
    let settings = ServiceSettings {
        region: Some("us-east-1".into()),
        endpoint: Some(front.endpoint()),
        ..ServiceSettings::default()
    };
    let aws = Aws::new(trust, pings);
    let service = aws.service("Kinesis", &settings, &dummy()).await.unwrap();
    let agent = UserAgent::default();
    let calls = service.kinesis(PATIENCE, &agent);
    let stream = stream_of(&service, stream);
    let connect = move || service.subscriptions(SUBSCRIBE_TIMEOUT, &agent);
    (stream.clone(), KinesisFanOut::new(stream, calls, connect))
}

/// Bytes of payload in the next event.
async fn read_event(subscription: &mut dyn Subscription) -> usize {
    let event = timeout(PATIENCE, subscription.next()).await.expect("an event");
    let event = event.unwrap().expect("it goes on");
    event.records.data_bytes()
}

async fn read(subscription: &mut dyn Subscription, bytes: usize) -> usize {
    let mut read = 0;
    while read < bytes {
        read += read_event(subscription).await;
    }
    read
}
