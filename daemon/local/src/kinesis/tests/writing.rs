use super::*;

#[test]
fn records_go_where_their_key_or_their_explicit_hash_key_says() {
    let world = world(2);
    let shard = |body: Json| {
        world.must("PutRecord", body)["ShardId"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    // MD5("a") begins with 0c, MD5("b") with 92.
    assert_eq!(
        shard(json!({"StreamName": "s", "PartitionKey": "a", "Data": ""})),
        SHARD_0
    );
    assert_eq!(
        shard(json!({"StreamName": "s", "PartitionKey": "b", "Data": ""})),
        SHARD_1
    );
    let middle = 1u128 << 127;
    for (hash, wanted) in [
        (0, SHARD_0),
        (middle - 1, SHARD_0),
        (middle, SHARD_1),
        (u128::MAX, SHARD_1),
    ] {
        let body =
            json!({"StreamName": "s", "PartitionKey": "a", "Data": "", "ExplicitHashKey": hash.to_string()});
        assert_eq!(shard(body), wanted, "{hash}");
    }
    for hash in ["", "-1", "01", "x", "340282366920938463463374607431768211456"] {
        let body = json!({"StreamName": "s", "PartitionKey": "a", "Data": "", "ExplicitHashKey": hash});
        let code = world.ask("PutRecord", body).unwrap_err();
        assert!(
            ["ValidationException", "InvalidArgumentException"].contains(&code.as_str()),
            "{hash}: {code}"
        );
    }
}

#[test]
fn a_batch_answers_record_by_record_in_order_and_is_numbered_in_order() {
    let world = world(2);
    let records: Vec<_> = (0..100)
        .map(|n| json!({"PartitionKey": n.to_string(), "Data": "eA=="}))
        .collect();
    let answer = world.must("PutRecords", json!({"StreamName": "s", "Records": records}));
    assert_eq!(answer["FailedRecordCount"], 0);
    let mut last = std::collections::BTreeMap::new();
    for (n, record) in answer["Records"].as_array().unwrap().iter().enumerate() {
        let shard = if crate::shard::hash(&n.to_string()) >> 127 == 0 {
            SHARD_0
        } else {
            SHARD_1
        };
        assert_eq!(record["ShardId"], shard);
        let number = record["SequenceNumber"].as_str().unwrap().to_owned();
        let before = last.insert(shard, number.clone());
        assert!(before.is_none_or(|before| before < number));
    }
}

#[test]
fn what_is_too_large_or_too_small_is_refused() {
    let world = world(1);
    let record = |key: &str, bytes: usize| {
        let data = base64_simd::STANDARD.encode_to_string(vec![0; bytes]);
        json!({"StreamName": "s", "PartitionKey": key, "Data": data})
    };
    world.must("PutRecord", record(&"ä".repeat(256), 0));
    world.must("PutRecord", record("k", (1 << 20) - 1));
    for (key, bytes) in [(String::new(), 0), ("ä".repeat(257), 0), ("k".into(), 1 << 20)] {
        assert_eq!(
            world.ask("PutRecord", record(&key, bytes)),
            Err("ValidationException".into())
        );
    }
    for count in [0, 501] {
        let records = vec![json!({"PartitionKey": "k", "Data": ""}); count];
        assert_eq!(
            world.ask("PutRecords", json!({"StreamName": "s", "Records": records})),
            Err("ValidationException".into())
        );
    }
    let large = base64_simd::STANDARD.encode_to_string(vec![0; 1 << 19]);
    let records = vec![json!({"PartitionKey": "k", "Data": large}); 20];
    assert_eq!(
        world.ask("PutRecords", json!({"StreamName": "s", "Records": records})),
        Err("InvalidArgumentException".into()),
        "20 records of half a MiB and their keys are more than 10 MiB"
    );
}

#[test]
fn a_stream_can_be_told_to_take_records_of_ten_mebibytes() {
    let world = world(1);
    world.must(
        "UpdateMaxRecordSize",
        json!({"StreamARN": ARN, "MaxRecordSizeInKiB": 10_240}),
    );
    let data = base64_simd::STANDARD.encode_to_string(vec![7; (10 << 20) - 1]);
    world.must(
        "PutRecord",
        json!({"StreamName": "s", "PartitionKey": "k", "Data": data}),
    );
    let answer = world.get(&world.iterator(SHARD_0, "TRIM_HORIZON", json!({})).unwrap());
    assert_eq!(
        answer["Records"][0]["Data"].as_str().map(str::len),
        Some(data.len())
    );
}

#[test]
fn data_that_is_not_base64_is_refused_by_name() {
    let world = world(1);
    let body = json!({"StreamName": "s", "PartitionKey": "k", "Data": "not base64!"});
    let Err(error) = world.call("PutRecord", &body) else {
        panic!("it was taken")
    };
    assert_eq!(
        (error.code.as_ref(), error.message.as_str()),
        ("SerializationException", "Data is not base64")
    );
}

#[test]
fn a_sequence_number_for_ordering_is_taken_if_it_is_one() {
    let world = world(1);
    let number = world.put("k", "a");
    let body = |number: &str| json!({"StreamName": "s", "PartitionKey": "k", "Data": "", "SequenceNumberForOrdering": number});
    assert!(world.must("PutRecord", body(&number))["SequenceNumber"].as_str() > Some(&number));
    assert_eq!(
        world.ask("PutRecord", body("17")),
        Err("InvalidArgumentException".into())
    );
}

#[test]
fn with_the_services_limits_a_shard_takes_a_thousand_records_a_second_and_says_which_it_refused() {
    let world = world_of(Manners {
        limits: Limits::Aws,
        ..manners()
    });
    world.must("CreateStream", json!({"StreamName": "s", "ShardCount": 1}));
    let records = vec![json!({"PartitionKey": "k", "Data": ""}); 400];
    let put = || world.must("PutRecords", json!({"StreamName": "s", "Records": records}));
    assert_eq!(
        [put(), put(), put()].map(|answer| answer["FailedRecordCount"].as_i64().unwrap()),
        [0, 0, 200]
    );
    let last = &put()["Records"][399];
    assert_eq!(last["ErrorCode"], "ProvisionedThroughputExceededException");
    assert_eq!(last.get("SequenceNumber"), None);
    world.pass_ms(1_000);
    assert_eq!(put()["FailedRecordCount"], 0);
}

#[test]
fn concurrent_writers_and_a_tailing_reader_lose_nothing_and_keep_every_writers_order() {
    const WRITERS: usize = 4;
    const EACH: usize = 500;
    let world = world(1);
    let mut iterator = world.iterator(SHARD_0, "TRIM_HORIZON", json!({})).unwrap();
    let mut read: Vec<String> = Vec::new();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let world = &world;
            scope.spawn(move || (0..EACH).for_each(|n| drop(world.put("k", &format!("{writer} {n}")))));
        }
        while read.len() < WRITERS * EACH {
            let answer = world.get(&iterator);
            read.extend(texts(&answer));
            iterator = next(&answer);
        }
    });
    for writer in 0..WRITERS {
        let own: Vec<_> = read
            .iter()
            .filter(|text| text.starts_with(&format!("{writer} ")))
            .cloned()
            .collect();
        let wanted: Vec<_> = (0..EACH).map(|n| format!("{writer} {n}")).collect();
        assert_eq!(own, wanted);
    }
    assert_eq!(texts(&world.get(&iterator)), [""; 0]);
}

#[test]
fn records_written_while_the_stream_is_divided_are_all_in_one_shard_or_another() {
    const EACH: usize = 2_000;
    let world = world(1);
    std::thread::scope(|scope| {
        for writer in 0..2 {
            let world = &world;
            scope.spawn(move || {
                (0..EACH).for_each(|n| drop(world.put(&format!("{writer} {n}"), &format!("{writer} {n}"))));
            });
        }
        for count in [2, 4, 3, 1, 5] {
            world.must(
                "UpdateShardCount",
                json!({"StreamName": "s", "TargetShardCount": count, "ScalingType": "UNIFORM_SCALING"}),
            );
        }
    });
    let mut read = Vec::new();
    for shard in world.must("ListShards", json!({"StreamName": "s"}))["Shards"]
        .as_array()
        .unwrap()
    {
        read.extend(
            world
                .texts(shard["ShardId"].as_str().unwrap(), "TRIM_HORIZON", json!({}))
                .unwrap(),
        );
    }
    read.sort();
    read.dedup();
    assert_eq!(read.len(), 2 * EACH);
}
