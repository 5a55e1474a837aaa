//! What goes over the connection: two HTTP versions, two formats, errors, event streams.

mod support;

use std::time::{Duration, Instant};

use ciborium::value::Value as Cbor;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use multilangd_local::{Fault, LocalOptions, LocalServices, start};
use serde_json::{Value as Json, json};
use support::{CBOR, Client, JSON, SHARD_0, base64, request};

async fn with_stream() -> LocalServices {
    let services = start(LocalOptions::default()).await.unwrap();
    assert!(services.create_stream_if_missing("s", 1).await.unwrap());
    services
}

#[tokio::test]
async fn both_http_versions_are_spoken_on_one_port() {
    let services = with_stream().await;
    for mut client in [
        Client::http1(&services.kinesis_endpoint()).await,
        Client::http2(&services.kinesis_endpoint()).await,
    ] {
        client
            .must(
                "PutRecord",
                json!({"StreamName": "s", "PartitionKey": "k", "Data": base64("hello")}),
            )
            .await;
    }
    let mut client = Client::http1(&services.kinesis_endpoint()).await;
    assert_eq!(client.everything("s", SHARD_0).await, ["hello", "hello"]);
    services.stop().await;
}

#[tokio::test]
async fn a_missing_stream_is_created_once() {
    let services = with_stream().await;
    assert!(!services.create_stream_if_missing("s", 7).await.unwrap());
    let refused = services
        .create_stream_if_missing("not a name", 1)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().starts_with("ValidationException"),
        "{refused}"
    );
    services.stop().await;
}

fn map(members: &[(&str, Cbor)]) -> Cbor {
    Cbor::Map(
        members
            .iter()
            .map(|(key, value)| (Cbor::Text((*key).into()), value.clone()))
            .collect(),
    )
}

fn member<'c>(map: &'c Cbor, name: &str) -> &'c Cbor {
    let members = map.as_map().unwrap();
    &members
        .iter()
        .find(|(key, _)| key.as_text() == Some(name))
        .unwrap_or_else(|| panic!("no {name}: {map:?}"))
        .1
}

async fn in_cbor(client: &mut Client, operation: &str, body: Cbor) -> (u16, Option<Cbor>) {
    let mut bytes = Vec::new();
    ciborium::into_writer(&body, &mut bytes).unwrap();
    let (status, headers, bytes) = client
        .post(&format!("Kinesis_20131202.{operation}"), CBOR, bytes)
        .await
        .unwrap();
    assert_eq!(headers["content-type"], CBOR);
    (
        status,
        (!bytes.is_empty()).then(|| ciborium::from_reader(&*bytes).unwrap()),
    )
}

#[tokio::test]
async fn a_question_in_cbor_is_answered_in_cbor_with_times_in_milliseconds() {
    let services = with_stream().await;
    let mut client = Client::http2(&services.kinesis_endpoint()).await;
    let name = ("StreamName", Cbor::Text("s".into()));
    let record = map(&[
        ("PartitionKey", Cbor::Text("k".into())),
        ("Data", Cbor::Bytes(vec![0, 255, 7])),
    ]);
    let put = map(&[
        name.clone(),
        ("Records", Cbor::Array(vec![record.clone(), record])),
    ]);
    let (status, answer) = in_cbor(&mut client, "PutRecords", put).await;
    assert_eq!(
        (status, member(&answer.unwrap(), "FailedRecordCount")),
        (200, &Cbor::Integer(0.into()))
    );

    let now_ms = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64;
    let time = |ms: i64| Cbor::Tag(1, Box::new(Cbor::Integer(ms.into())));
    let ask = map(&[
        name.clone(),
        ("ShardId", Cbor::Text(SHARD_0.into())),
        ("ShardIteratorType", Cbor::Text("AT_TIMESTAMP".into())),
        ("Timestamp", time(now_ms - 60_000)),
    ]);
    let (_, answer) = in_cbor(&mut client, "GetShardIterator", ask).await;
    let iterator = member(&answer.unwrap(), "ShardIterator").clone();
    let (_, answer) = in_cbor(&mut client, "GetRecords", map(&[("ShardIterator", iterator)])).await;
    let answer = answer.unwrap();
    let records = member(&answer, "Records").as_array().unwrap();
    assert_eq!(
        (records.len(), member(&records[0], "Data")),
        (2, &Cbor::Bytes(vec![0, 255, 7]))
    );
    let Cbor::Tag(1, arrived) = member(&records[0], "ApproximateArrivalTimestamp") else {
        panic!("no tag 1")
    };
    let arrived = i128::from(arrived.as_integer().expect("a whole number"));
    assert!(
        (arrived - i128::from(now_ms)).abs() < 60_000,
        "{arrived} is not in milliseconds"
    );

    let filter = map(&[
        ("Type", Cbor::Text("AT_TIMESTAMP".into())),
        ("Timestamp", time(now_ms)),
    ]);
    let (_, answer) = in_cbor(&mut client, "ListShards", map(&[name, ("ShardFilter", filter)])).await;
    assert_eq!(member(&answer.unwrap(), "Shards").as_array().unwrap().len(), 1);
    services.stop().await;
}

#[tokio::test]
async fn an_error_has_its_name_in_the_body_and_in_a_header_in_both_formats() {
    let services = with_stream().await;
    let mut client = Client::http1(&services.kinesis_endpoint()).await;
    let target = "Kinesis_20131202.DescribeStream";
    let (status, headers, body) = client
        .post(target, JSON, r#"{"StreamName":"missing"}"#)
        .await
        .unwrap();
    let body: Json = serde_json::from_slice(&body).unwrap();
    assert_eq!(status, 400);
    assert_eq!(
        body,
        json!({"__type": "ResourceNotFoundException", "message": "Stream missing under account 000000000000 not found."})
    );
    assert_eq!(headers["x-amzn-errortype"], "ResourceNotFoundException");
    assert_eq!(headers["x-amzn-requestid"].len(), 36);
    assert_eq!(headers["content-type"], JSON);
    let ask = map(&[("StreamName", Cbor::Text("missing".into()))]);
    let (status, body) = in_cbor(&mut client, "DescribeStream", ask).await;
    assert_eq!(
        (status, member(&body.unwrap(), "__type")),
        (400, &Cbor::Text("ResourceNotFoundException".into()))
    );
    services.stop().await;
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused_by_name_and_the_connection_lives_on() {
    let services = with_stream().await;
    let mut client = Client::http1(&services.kinesis_endpoint()).await;
    for (target, kind, body, wanted) in [
        (
            "Kinesis_20131202.Frobnicate",
            JSON,
            &b"{}"[..],
            "UnknownOperationException",
        ),
        ("DynamoDB_20120810.Scan", JSON, b"{}", "UnknownOperationException"),
        ("Kinesis_20131202.PutRecord", JSON, b"{", "SerializationException"),
        (
            "Kinesis_20131202.PutRecord",
            JSON,
            b"[]",
            "SerializationException",
        ),
        (
            "Kinesis_20131202.PutRecord",
            CBOR,
            b"\xa1",
            "SerializationException",
        ),
        (
            "Kinesis_20131202.PutRecord",
            JSON,
            b"",
            "InvalidArgumentException",
        ),
    ] {
        let (status, headers, _) = client.post(target, kind, body).await.unwrap();
        assert_eq!(
            (status, headers["x-amzn-errortype"].to_str().unwrap()),
            (400, wanted),
            "{target}"
        );
    }
    let (status, headers, _) = client
        .post("Kinesis_20131202.PutRecord", JSON, vec![b' '; 33 << 20])
        .await
        .unwrap();
    assert_eq!(
        (status, headers["x-amzn-errortype"].to_str().unwrap()),
        (413, "ValidationException")
    );
    services.stop().await;
}

/// The payloads of an event stream, each checked against its lengths and checksums.
struct Events {
    body: Incoming,
    bytes: Vec<u8>,
}

impl Events {
    async fn subscribe(client: &mut Client, consumer: &str, position: Json) -> Self {
        let body = json!({"ConsumerARN": consumer, "ShardId": SHARD_0, "StartingPosition": position});
        let request = request("Kinesis_20131202.SubscribeToShard", JSON, body.to_string());
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(
            response.headers()["content-type"],
            "application/vnd.amazon.eventstream"
        );
        Self {
            body: response.into_body(),
            bytes: Vec::new(),
        }
    }

    async fn next(&mut self) -> Option<(String, Json)> {
        loop {
            if let Some(length) = self
                .bytes
                .first_chunk()
                .map(|length| u32::from_be_bytes(*length) as usize)
                && self.bytes.len() >= length
            {
                let rest = self.bytes.split_off(length);
                let message = std::mem::replace(&mut self.bytes, rest);
                let word = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap());
                assert_eq!(word(8), crc32fast::hash(&message[..8]));
                assert_eq!(word(length - 4), crc32fast::hash(&message[..length - 4]));
                let headers = 12 + word(4) as usize;
                let names = String::from_utf8_lossy(&message[12..headers]).into_owned();
                return Some((
                    names,
                    serde_json::from_slice(&message[headers..length - 4]).unwrap(),
                ));
            }
            let frame = tokio::time::timeout(Duration::from_secs(60), self.body.frame())
                .await
                .expect("no end")?;
            self.bytes.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }
}

async fn consumer(client: &mut Client) -> String {
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let registered = client
        .must(
            "RegisterStreamConsumer",
            json!({"StreamARN": arn, "ConsumerName": "c"}),
        )
        .await;
    registered["Consumer"]["ConsumerARN"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn subscribed_records_are_pushed_over_both_http_versions() {
    for over_http2 in [false, true] {
        let services = with_stream().await;
        let endpoint = services.kinesis_endpoint();
        let mut writer = Client::http1(&endpoint).await;
        let mut client = if over_http2 {
            Client::http2(&endpoint).await
        } else {
            Client::http1(&endpoint).await
        };
        let consumer = consumer(&mut writer).await;
        let mut events = Events::subscribe(&mut client, &consumer, json!({"Type": "LATEST"})).await;
        let (greeting, body) = events.next().await.unwrap();
        assert!(greeting.contains("initial-response"), "{greeting}");
        assert_eq!(body, json!({}));
        events.next().await.unwrap();
        let mut delays = Vec::new();
        for n in 0..20 {
            let text = format!("record {n}");
            let put = json!({"StreamName": "s", "PartitionKey": "k", "Data": base64(&text)});
            let before = Instant::now();
            writer.must("PutRecord", put).await;
            let (_, event) = events.next().await.unwrap();
            delays.push(before.elapsed());
            assert_eq!(event["Records"][0]["Data"], base64(&text));
        }
        // The quicker ones: on a busy machine the others wait for a processor. A service that polls has none.
        delays.sort();
        assert!(delays[5] < Duration::from_millis(70), "{delays:?}");
        services.stop().await;
    }
}

#[tokio::test]
async fn a_fault_ends_a_subscription_in_its_midst_with_an_error_or_with_nothing() {
    for over_http2 in [false, true] {
        let services = with_stream().await;
        let endpoint = services.kinesis_endpoint();
        let mut writer = Client::http1(&endpoint).await;
        let consumer = consumer(&mut writer).await;
        let event = || Fault::on("kinesis.SubscribeToShardEvent").only("c");
        services
            .faults()
            .add(event().call(2).error("InternalFailureException"));
        let mut client = if over_http2 {
            Client::http2(&endpoint).await
        } else {
            Client::http1(&endpoint).await
        };
        let mut events = Events::subscribe(&mut client, &consumer, json!({"Type": "LATEST"})).await;
        events.next().await.unwrap();
        events.next().await.unwrap();
        writer
            .must(
                "PutRecord",
                json!({"StreamName": "s", "PartitionKey": "k", "Data": ""}),
            )
            .await;
        let (headers, _) = events.next().await.unwrap();
        assert!(
            headers.contains("exception") && headers.contains("InternalFailureException"),
            "{headers}"
        );
        assert_eq!(events.next().await, None);
        services.stop().await;
    }
    let services = with_stream().await;
    let mut client = Client::http1(&services.kinesis_endpoint()).await;
    let consumer = consumer(&mut client).await;
    services
        .faults()
        .add(Fault::on("kinesis.SubscribeToShardEvent").cut());
    let mut events = Events::subscribe(&mut client, &consumer, json!({"Type": "LATEST"})).await;
    // The greeting, or nothing, and then an end that is none.
    while let Some(frame) = events.body.frame().await {
        if frame.is_err() {
            return;
        }
    }
    panic!("the connection was not cut");
}

#[tokio::test]
async fn a_subscription_over_the_wire_ends_with_its_life() {
    let life = Duration::from_millis(300);
    let services = start(LocalOptions {
        subscription_life: life,
        ..LocalOptions::default()
    })
    .await
    .unwrap();
    services.create_stream_if_missing("s", 1).await.unwrap();
    let mut client = Client::http1(&services.kinesis_endpoint()).await;
    let consumer = consumer(&mut client).await;
    let mut events = Events::subscribe(&mut client, &consumer, json!({"Type": "LATEST"})).await;
    let mut count = 0;
    while events.next().await.is_some() {
        count += 1;
    }
    assert_eq!(count, 2, "greeting and first event");
    services.stop().await;
}

#[tokio::test]
async fn stopping_ends_subscriptions_and_frees_the_ports() {
    let services = with_stream().await;
    let endpoint = services.kinesis_endpoint();
    let mut client = Client::http2(&endpoint).await;
    let consumer = consumer(&mut client).await;
    let mut events = Events::subscribe(&mut client, &consumer, json!({"Type": "LATEST"})).await;
    events.next().await.unwrap();
    let before = Instant::now();
    services.stop().await;
    assert!(
        before.elapsed() < Duration::from_secs(5),
        "{:?}",
        before.elapsed()
    );
    let port = endpoint.rsplit(':').next().unwrap().parse().unwrap();
    let again = start(LocalOptions {
        kinesis_port: port,
        ..LocalOptions::default()
    })
    .await
    .unwrap();
    let taken = start(LocalOptions {
        kinesis_port: port,
        ..LocalOptions::default()
    })
    .await
    .err()
    .unwrap();
    assert!(
        taken
            .to_string()
            .starts_with(&format!("cannot listen on 127.0.0.1:{port} for Kinesis")),
        "{taken}"
    );
    again.stop().await;
}
