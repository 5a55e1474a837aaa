//! What was acknowledged survives the process, however that ends.

mod support;

use multilangd_local::{Data, LocalOptions, start};
use serde_json::json;
use support::{Client, SHARD_0, Server, base64};

#[tokio::test]
async fn records_and_items_acknowledged_before_kill_9_are_there_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let server = Server::start(folder.path());
        let mut kinesis = Client::http1(&server.kinesis).await;
        let mut dynamodb = Client::http1(&server.dynamodb).await;
        if round == 0 {
            kinesis
                .must("CreateStream", json!({"StreamName": "s", "ShardCount": 1}))
                .await;
            dynamodb.create_table().await;
        }
        for n in 0..200 {
            let text = format!("{round} {n:03}");
            let put = json!({"StreamName": "s", "PartitionKey": "k", "Data": base64(&text)});
            kinesis.must("PutRecord", put).await;
            if n % 20 == 0 {
                assert_eq!(dynamodb.put_item(&text).await.unwrap().0, 200);
            }
            acknowledged.push(text);
        }
        // Writes are under way when it dies.
        let endpoint = server.kinesis.clone();
        let writing = tokio::spawn(async move {
            let mut client = Client::http1(&endpoint).await;
            let mut written = Vec::new();
            for n in 200.. {
                let text = format!("{round} {n}");
                let put = json!({"StreamName": "s", "PartitionKey": "k", "Data": base64(&text)});
                match client.kinesis("PutRecord", put).await {
                    Ok((200, _)) => written.push(text),
                    _ => break,
                }
            }
            written
        });
        // Enough have come through for more to be on their way.
        let mut reader = Client::http1(&server.kinesis).await;
        while reader.everything("s", SHARD_0).await.len() < acknowledged.len() + 50 {}
        server.kill();
        acknowledged.extend(writing.await.unwrap());

        let server = Server::start(folder.path());
        let mut kinesis = Client::http1(&server.kinesis).await;
        let found = kinesis.everything("s", SHARD_0).await;
        let mut missing = acknowledged.iter().filter(|text| !found.contains(text));
        assert_eq!(missing.next(), None, "of {}", acknowledged.len());
        // At most the one that was not acknowledged is there besides.
        assert!(
            found.len() <= acknowledged.len() + 1,
            "{} of {}",
            found.len(),
            acknowledged.len()
        );
        acknowledged = found;
        let items = Client::http1(&server.dynamodb).await.items().await;
        assert_eq!(items.len(), 10 * (round + 1));
        server.kill();
    }
}

#[tokio::test]
async fn streams_shards_and_iterators_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = || LocalOptions {
        data: Data::Dir(folder.path().join("deep/data")),
        ..LocalOptions::default()
    };
    let services = start(options()).await.unwrap();
    let mut client = Client::http1(&services.kinesis_endpoint()).await;
    client
        .must("CreateStream", json!({"StreamName": "s", "ShardCount": 1}))
        .await;
    client
        .must("CreateStream", json!({"StreamName": "gone", "ShardCount": 1}))
        .await;
    client.must("DeleteStream", json!({"StreamName": "gone"})).await;
    let put = |text| json!({"StreamName": "s", "PartitionKey": "k", "Data": base64(text)});
    client.must("PutRecord", put("a")).await;
    let ask = json!({"StreamName": "s", "ShardId": SHARD_0, "ShardIteratorType": "TRIM_HORIZON"});
    let iterator = client.must("GetShardIterator", ask).await;
    let split = json!({"StreamName": "s", "ShardToSplit": SHARD_0, "NewStartingHashKey": "1"});
    client.must("SplitShard", split).await;
    let before = client.must("ListShards", json!({"StreamName": "s"})).await;
    services.stop().await;

    let services = start(options()).await.unwrap();
    let mut client = Client::http1(&services.kinesis_endpoint()).await;
    assert_eq!(
        client.must("ListShards", json!({"StreamName": "s"})).await,
        before
    );
    assert_eq!(
        client.must("ListStreams", json!({})).await["StreamNames"],
        json!(["s"])
    );
    let answer = client.must("GetRecords", iterator).await;
    assert_eq!(
        (
            &answer["Records"][0]["Data"],
            answer["ChildShards"].as_array().unwrap().len()
        ),
        (&json!(base64("a")), 2)
    );
    let second = client.must("PutRecord", put("b")).await;
    assert_eq!(second["ShardId"], "shardId-000000000002");
    services.stop().await;
}

#[tokio::test]
async fn a_directory_in_use_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let refusal = Server::refusal(folder.path());
    assert!(refusal.contains("is in use by another process"), "{refusal}");
    assert!(
        refusal.contains(&folder.path().display().to_string()),
        "{refusal}"
    );
    server.kill();
    Server::start(folder.path()).kill();
}

#[tokio::test]
async fn on_a_full_disk_puts_are_refused_and_reads_go_on_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with_little_room(folder.path(), 1024);
    let mut client = Client::http1(&server.kinesis).await;
    client
        .must("CreateStream", json!({"StreamName": "s", "ShardCount": 1}))
        .await;
    let put = |n: usize| json!({"StreamName": "s", "PartitionKey": "k", "Data": base64(&format!("{n:03}{}", "x".repeat(100_000)))});
    let mut taken = 0;
    let refused = loop {
        match client.kinesis("PutRecord", put(taken)).await.unwrap() {
            (200, _) => taken += 1,
            refused => break refused,
        }
        assert!(taken < 100, "the disk never filled");
    };
    assert_eq!(
        (refused.0, &refused.1["__type"]),
        (500, &json!("InternalFailure"))
    );
    let message = refused.1["message"].as_str().unwrap();
    assert!(
        message.starts_with("cannot write to shard shardId-000000000000 of stream s: "),
        "{message}"
    );
    let records: Vec<_> = (0..3)
        .map(|n| json!({"PartitionKey": "k", "Data": put(n)["Data"]}))
        .collect();
    let (status, answer) = client
        .kinesis("PutRecords", json!({"StreamName": "s", "Records": records}))
        .await
        .unwrap();
    assert_eq!((status, &answer["__type"]), (500, &json!("InternalFailure")));
    assert_eq!(client.everything("s", SHARD_0).await.len(), taken);
    // A small one still fits, and is read behind the others.
    let small = json!({"StreamName": "s", "PartitionKey": "k", "Data": base64("small")});
    client.must("PutRecord", small).await;
    server.kill();

    let server = Server::start(folder.path());
    let mut client = Client::http1(&server.kinesis).await;
    let found = client.everything("s", SHARD_0).await;
    assert_eq!(
        (found.len(), found.last().map(String::as_str)),
        (taken + 1, Some("small"))
    );
    for (n, text) in found[..taken].iter().enumerate() {
        assert_eq!(text[..3], format!("{n:03}"));
    }
    client.must("PutRecord", put(999)).await;
    server.kill();
}
