//! The fault plan, from the outside: what a client sees, and what was applied.

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use multilangd_local::{Fault, LocalOptions, LocalServices, start};
use serde_json::{Value as Json, json};
use support::{Client, SHARD_0, base64};

async fn services() -> LocalServices {
    let services = start(LocalOptions::default()).await.unwrap();
    services.create_stream_if_missing("s", 1).await.unwrap();
    services
}

fn put(text: &str) -> Json {
    json!({"StreamName": "s", "PartitionKey": "k", "Data": base64(text)})
}

#[tokio::test]
async fn an_error_is_answered_with_its_status_and_nothing_is_applied() {
    let services = services().await;
    services
        .faults()
        .add(Fault::on("kinesis.PutRecord").call(2).error("InternalFailure"));
    let mut client = Client::http1(&services.kinesis_endpoint()).await;
    let mut statuses = Vec::new();
    for text in ["a", "b", "c"] {
        statuses.push(client.kinesis("PutRecord", put(text)).await.unwrap().0);
    }
    assert_eq!(statuses, [200, 500, 200]);
    assert_eq!(client.everything("s", SHARD_0).await, ["a", "c"]);
    assert_eq!(services.faults().struck()[0].1, 1);
    services.stop().await;
}

#[tokio::test]
async fn an_unanswered_call_is_applied_and_a_cut_one_is_not() {
    for (fault, applied) in [
        (Fault::on("kinesis.*").unanswered(), 1),
        (Fault::on("kinesis.*").cut(), 0),
    ] {
        for over_http2 in [false, true] {
            let services = services().await;
            services.faults().add(fault.clone());
            let endpoint = services.kinesis_endpoint();
            let mut client = if over_http2 {
                Client::http2(&endpoint).await
            } else {
                Client::http1(&endpoint).await
            };
            assert!(
                client.kinesis("PutRecord", put("a")).await.is_err(),
                "it was answered"
            );
            services.faults().clear();
            let mut client = Client::http1(&endpoint).await;
            assert_eq!(client.everything("s", SHARD_0).await.len(), applied);
            services.stop().await;
        }
    }
}

#[tokio::test]
async fn a_delayed_call_is_late_and_right() {
    let services = services().await;
    services
        .faults()
        .add(Fault::on("kinesis.PutRecord").delay(Duration::from_millis(200)));
    let mut client = Client::http1(&services.kinesis_endpoint()).await;
    let before = Instant::now();
    client.must("PutRecord", put("a")).await;
    assert!(before.elapsed() >= Duration::from_millis(200));
    services.stop().await;
}

#[tokio::test]
async fn a_fault_for_one_shard_strikes_by_its_id_and_by_its_iterator() {
    let services = start(LocalOptions::default()).await.unwrap();
    services.create_stream_if_missing("s", 2).await.unwrap();
    let mut client = Client::http1(&services.kinesis_endpoint()).await;
    services.faults().add(
        Fault::on("kinesis.GetRecords")
            .only(SHARD_0)
            .error("ExpiredIteratorException"),
    );
    let mut answers = Vec::new();
    for shard in [SHARD_0, "shardId-000000000001"] {
        let ask = json!({"StreamName": "s", "ShardId": shard, "ShardIteratorType": "LATEST"});
        let iterator = client.must("GetShardIterator", ask).await;
        let (status, answer) = client.kinesis("GetRecords", iterator).await.unwrap();
        answers.push((status, answer["__type"].clone()));
    }
    assert_eq!(
        answers,
        [(400, json!("ExpiredIteratorException")), (200, Json::Null)]
    );
    services.stop().await;
}

#[tokio::test]
async fn faults_of_dynamodb_strike_by_operation_and_table() {
    let services = services().await;
    let mut client = Client::http1(&services.dynamodb_endpoint()).await;
    client.create_table().await;
    services.faults().add(
        Fault::on("dynamodb.PutItem")
            .only("app")
            .every(2)
            .error("ThrottlingException"),
    );
    services.faults().add(Fault::on("dynamodb.*").only("other").cut());
    let mut answers = Vec::new();
    for key in ["a", "b", "c"] {
        let (status, answer) = client.put_item(key).await.unwrap();
        answers.push((
            status,
            answer["__type"]
                .as_str()
                .unwrap_or_default()
                .rsplit('#')
                .next()
                .unwrap()
                .to_owned(),
        ));
    }
    assert_eq!(
        answers,
        [
            (200, String::new()),
            (400, "ThrottlingException".into()),
            (200, String::new())
        ]
    );
    assert_eq!(client.items().await, ["a", "c"]);
    services.stop().await;
}

#[tokio::test]
async fn an_unanswered_write_of_dynamodb_is_applied_and_a_cut_one_is_not() {
    let services = services().await;
    let endpoint = services.dynamodb_endpoint();
    Client::http1(&endpoint).await.create_table().await;
    services
        .faults()
        .add(Fault::on("dynamodb.PutItem").call(1).unanswered());
    services.faults().add(Fault::on("dynamodb.PutItem").call(2).cut());
    for key in ["applied", "cut"] {
        assert!(Client::http1(&endpoint).await.put_item(key).await.is_err());
    }
    assert_eq!(Client::http1(&endpoint).await.items().await, ["applied"]);
    services.stop().await;
}

async fn edit(client: &mut Client, method: &str, body: &str) -> (u16, String) {
    let request = Request::builder()
        .method(method)
        .uri("/_multilangd/faults")
        .header("host", "localhost");
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let response = client.send(request).await.unwrap();
    let status = response.status().as_u16();
    (
        status,
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap(),
    )
}

#[tokio::test]
async fn faults_are_added_shown_and_removed_over_http() {
    let services = services().await;
    let mut client = Client::http1(&services.kinesis_endpoint()).await;
    let fault = r#"{"operation":"kinesis.PutRecord","error":"ProvisionedThroughputExceededException"}"#;
    assert_eq!(edit(&mut client, "POST", fault).await.0, 200);
    assert_eq!(client.kinesis("PutRecord", put("a")).await.unwrap().0, 400);
    let (_, shown) = edit(&mut client, "GET", "").await;
    assert!(shown.contains(r#""calls":1,"struck":1"#), "{shown}");
    assert_eq!(edit(&mut client, "DELETE", "").await, (200, "[]\n".into()));
    assert_eq!(client.kinesis("PutRecord", put("a")).await.unwrap().0, 200);
    let (status, reason) = edit(&mut client, "POST", r#"{"operation":"kinesis.Put","cut":true}"#).await;
    assert_eq!(status, 400);
    assert!(reason.starts_with("unknown operation kinesis.Put:"), "{reason}");
    services.stop().await;
}
