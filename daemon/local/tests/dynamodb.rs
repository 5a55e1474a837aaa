//! The front of the embedded DynamoDB: what it adds, and that everything else passes.

mod support;

use multilangd_local::{Data, LocalOptions, start};
use serde_json::json;
use support::Client;

#[tokio::test]
async fn a_conditional_write_that_fails_says_why_and_returns_what_it_found() {
    let services = start(LocalOptions::default()).await.unwrap();
    let mut client = Client::http1(&services.dynamodb_endpoint()).await;
    client.create_table().await;
    client.put_item("a").await.unwrap();
    let update = json!({
        "TableName": "app", "Key": {"k": {"S": "a"}},
        "UpdateExpression": "SET leaseOwner = :me", "ConditionExpression": "leaseOwner = :other",
        "ExpressionAttributeValues": {":me": {"S": "me"}, ":other": {"S": "other"}},
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    });
    let (status, answer) = client.dynamodb("UpdateItem", update).await.unwrap();
    assert_eq!((status, &answer["Item"]), (400, &json!({"k": {"S": "a"}})));
    assert!(
        answer["__type"]
            .as_str()
            .unwrap()
            .ends_with("#ConditionalCheckFailedException")
    );
    services.stop().await;
}

#[tokio::test]
async fn point_in_time_recovery_is_switched_on_described_and_remembered_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = || LocalOptions {
        data: Data::Dir(folder.path().into()),
        ..LocalOptions::default()
    };
    let services = start(options()).await.unwrap();
    let mut client = Client::http1(&services.dynamodb_endpoint()).await;
    client.create_table().await;
    let status = async |client: &mut Client, operation: &str, body| {
        let (status, answer) = client.dynamodb(operation, body).await.unwrap();
        let description = &answer["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"];
        (
            status,
            description["PointInTimeRecoveryStatus"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let describe = || json!({"TableName": "app"});
    assert_eq!(
        status(&mut client, "DescribeContinuousBackups", describe()).await,
        (200, "DISABLED".into())
    );
    let enable =
        json!({"TableName": "app", "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": true}});
    assert_eq!(
        status(&mut client, "UpdateContinuousBackups", enable).await,
        (200, "ENABLED".into())
    );
    services.stop().await;

    let services = start(options()).await.unwrap();
    let mut client = Client::http1(&services.dynamodb_endpoint()).await;
    assert_eq!(
        status(&mut client, "DescribeContinuousBackups", describe()).await,
        (200, "ENABLED".into())
    );
    client.dynamodb("DeleteTable", describe()).await.unwrap();
    let (code, answer) = client
        .dynamodb("DescribeContinuousBackups", describe())
        .await
        .unwrap();
    assert_eq!(code, 400);
    assert!(
        answer["__type"]
            .as_str()
            .unwrap()
            .ends_with("#TableNotFoundException"),
        "{answer}"
    );
    client.create_table().await;
    assert_eq!(
        status(&mut client, "DescribeContinuousBackups", describe()).await,
        (200, "DISABLED".into())
    );
    services.stop().await;
}

#[tokio::test]
async fn many_clients_write_at_once_and_every_item_is_there() {
    let services = start(LocalOptions::default()).await.unwrap();
    let endpoint = services.dynamodb_endpoint();
    Client::http1(&endpoint).await.create_table().await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let endpoint = endpoint.clone();
        writers.spawn(async move {
            let mut client = Client::http1(&endpoint).await;
            for n in 0..25 {
                assert_eq!(client.put_item(&format!("{writer} {n}")).await.unwrap().0, 200);
            }
        });
    }
    writers.join_all().await;
    assert_eq!(Client::http1(&endpoint).await.items().await.len(), 200);
    services.stop().await;
}
