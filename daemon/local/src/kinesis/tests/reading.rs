use super::*;

#[test]
fn a_record_comes_back_as_it_was_put() {
    let world = world(1);
    let number = world.put("ä\"", "hello");
    world.pass_ms(2_000);
    let answer = world.get(&world.iterator(SHARD_0, "TRIM_HORIZON", json!({})).unwrap());
    let record = &answer["Records"][0];
    assert_eq!(
        (record["PartitionKey"].as_str(), record["SequenceNumber"].as_str()),
        (Some("ä\""), Some(number.as_str()))
    );
    assert_eq!(
        record["ApproximateArrivalTimestamp"].to_string(),
        "1790000000.000"
    );
    assert_eq!(texts(&answer), ["hello"]);
}

#[test]
fn each_kind_of_iterator_begins_where_its_name_says() {
    let world = world(1);
    let first = world.put("k", "a");
    world.pass_ms(100);
    let second = world.put("k", "b");
    world.put("k", "c");
    let read = |kind, more| world.texts(SHARD_0, kind, more).unwrap();
    assert_eq!(read("TRIM_HORIZON", json!({})), ["a", "b", "c"]);
    assert_eq!(read("LATEST", json!({})), [""; 0]);
    assert_eq!(
        read("AT_SEQUENCE_NUMBER", json!({"StartingSequenceNumber": second})),
        ["b", "c"]
    );
    assert_eq!(
        read("AFTER_SEQUENCE_NUMBER", json!({"StartingSequenceNumber": second})),
        ["c"]
    );
    assert_eq!(
        read("AFTER_SEQUENCE_NUMBER", json!({"StartingSequenceNumber": first})),
        ["b", "c"]
    );
    let start = START_MS as f64 / 1000.0;
    for (at, wanted) in [
        (start - 60.0, 3),
        (start, 3),
        (start + 0.001, 2),
        (start + 0.1, 2),
    ] {
        assert_eq!(
            read("AT_TIMESTAMP", json!({"Timestamp": at})).len(),
            wanted,
            "{at}"
        );
    }
    world.pass_ms(1_000);
    assert_eq!(read("AT_TIMESTAMP", json!({"Timestamp": start + 0.101})), [""; 0]);
}

#[test]
fn a_latest_iterator_sees_what_is_put_after_it() {
    let world = world(1);
    world.put("k", "before");
    let iterator = world.iterator(SHARD_0, "LATEST", json!({})).unwrap();
    world.put("k", "after");
    assert_eq!(texts(&world.get(&iterator)), ["after"]);
}

#[test]
fn the_starting_sequence_number_of_an_empty_shard_is_a_place_to_begin() {
    let world = world(1);
    let listed = world.must("ListShards", json!({"StreamName": "s"}));
    let start = listed["Shards"][0]["SequenceNumberRange"]["StartingSequenceNumber"].clone();
    let at = world
        .iterator(
            SHARD_0,
            "AT_SEQUENCE_NUMBER",
            json!({"StartingSequenceNumber": start}),
        )
        .unwrap();
    let after = world
        .iterator(
            SHARD_0,
            "AFTER_SEQUENCE_NUMBER",
            json!({"StartingSequenceNumber": start}),
        )
        .unwrap();
    world.put("k", "a");
    assert_eq!(
        (texts(&world.get(&at)), texts(&world.get(&after))),
        (vec!["a".into()], vec!["a".into()])
    );
}

#[test]
fn a_sequence_number_of_another_shard_or_of_a_deleted_stream_is_refused() {
    let world = world(2);
    let of_0 = world.must(
        "PutRecord",
        json!({"StreamName": "s", "PartitionKey": "k", "Data": "", "ExplicitHashKey": "0"}),
    );
    let more = json!({"StartingSequenceNumber": of_0["SequenceNumber"]});
    let refused = Err("InvalidArgumentException".to_owned());
    assert_eq!(
        world.iterator(SHARD_1, "AT_SEQUENCE_NUMBER", more.clone()),
        refused
    );
    world.must("DeleteStream", json!({"StreamName": "s"}));
    world.must("CreateStream", json!({"StreamName": "s", "ShardCount": 2}));
    assert_eq!(
        world.iterator(SHARD_0, "AT_SEQUENCE_NUMBER", more),
        refused,
        "made in the same second"
    );
}

#[test]
fn garbage_is_an_invalid_argument() {
    let world = world(1);
    for iterator in ["x", "AAAA", ""] {
        assert_eq!(
            world.ask("GetRecords", json!({"ShardIterator": iterator})),
            Err("InvalidArgumentException".into()),
            "{iterator}"
        );
    }
    for number in ["", "17", "4".repeat(56).as_str()] {
        assert_eq!(
            world.iterator(
                SHARD_0,
                "AT_SEQUENCE_NUMBER",
                json!({"StartingSequenceNumber": number})
            ),
            Err("InvalidArgumentException".into()),
            "{number}"
        );
    }
    let ahead = world.now_s() + 60.0;
    assert_eq!(
        world.iterator(SHARD_0, "AT_TIMESTAMP", json!({"Timestamp": ahead})),
        Err("InvalidArgumentException".into())
    );
}

#[test]
fn an_iterator_lives_for_five_minutes_and_each_answer_brings_a_fresh_one() {
    let world = world(1);
    let first = world.iterator(SHARD_0, "LATEST", json!({})).unwrap();
    world.pass(Duration::from_secs(300));
    let second = next(&world.get(&first));
    world.pass_ms(1);
    assert_eq!(
        world.ask("GetRecords", json!({"ShardIterator": first})),
        Err("ExpiredIteratorException".into())
    );
    world.get(&second);
}

#[test]
fn a_limit_stops_the_answer_and_the_age_of_the_next_record_is_how_far_behind_it_is() {
    let world = world(1);
    world.put("k", "a");
    world.pass_ms(1_000);
    world.put("k", "b");
    world.pass_ms(500);
    let iterator = world.iterator(SHARD_0, "TRIM_HORIZON", json!({})).unwrap();
    let answer = world.must("GetRecords", json!({"ShardIterator": iterator, "Limit": 1}));
    assert_eq!(
        (texts(&answer), answer["MillisBehindLatest"].as_i64()),
        (vec!["a".into()], Some(500))
    );
    let answer = world.get(&next(&answer));
    assert_eq!(
        (texts(&answer), answer["MillisBehindLatest"].as_i64()),
        (vec!["b".into()], Some(0))
    );
    for limit in [0, 10_001] {
        let body = json!({"ShardIterator": iterator, "Limit": limit});
        assert_eq!(world.ask("GetRecords", body), Err("ValidationException".into()));
    }
}

#[test]
fn an_answer_has_at_most_ten_thousand_records() {
    let world = world(1);
    let records: Vec<_> = (0..500)
        .map(|_| json!({"PartitionKey": "k", "Data": ""}))
        .collect();
    for _ in 0..21 {
        world.must("PutRecords", json!({"StreamName": "s", "Records": records}));
    }
    let answer = world.get(&world.iterator(SHARD_0, "TRIM_HORIZON", json!({})).unwrap());
    assert_eq!(texts(&answer).len(), 10_000);
    assert_eq!(texts(&world.get(&next(&answer))).len(), 500);
}

#[test]
fn an_answer_has_at_most_ten_mebibytes() {
    let world = world(1);
    let data = base64_simd::STANDARD.encode_to_string(vec![0; (1 << 20) - 1]);
    for _ in 0..12 {
        world.must(
            "PutRecord",
            json!({"StreamName": "s", "PartitionKey": "k", "Data": data}),
        );
    }
    let answer = world.get(&world.iterator(SHARD_0, "TRIM_HORIZON", json!({})).unwrap());
    assert_eq!(texts(&answer).len(), 10);
    assert_eq!(texts(&world.get(&next(&answer))).len(), 2);
}

#[test]
fn a_closed_shard_ends_with_its_children_exactly_when_it_is_drained() {
    let world = world(1);
    world.put("k", "a");
    world.put("k", "b");
    let iterator = world.iterator(SHARD_0, "TRIM_HORIZON", json!({})).unwrap();
    world.split(0);
    let answer = world.must("GetRecords", json!({"ShardIterator": iterator, "Limit": 1}));
    assert_eq!(
        (texts(&answer), answer.get("ChildShards")),
        (vec!["a".into()], None)
    );
    let answer = world.get(&next(&answer));
    assert_eq!(
        (texts(&answer), answer.get("NextShardIterator")),
        (vec!["b".into()], None)
    );
    let middle = 1u128 << 127;
    assert_eq!(
        answer["ChildShards"],
        json!([
            {"ShardId": SHARD_1, "ParentShards": [SHARD_0],
             "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": (middle - 1).to_string()}},
            {"ShardId": "shardId-000000000002", "ParentShards": [SHARD_0],
             "HashKeyRange": {"StartingHashKey": middle.to_string(), "EndingHashKey": u128::MAX.to_string()}},
        ])
    );
    let latest = world.get(&world.iterator(SHARD_0, "LATEST", json!({})).unwrap());
    assert_eq!(
        (
            texts(&latest).len(),
            latest["ChildShards"].as_array().map(Vec::len)
        ),
        (0, Some(2))
    );
}

#[test]
fn both_parents_of_a_merge_end_with_the_one_child_that_names_both() {
    let world = world(2);
    world.merge(0, 1);
    for shard in [SHARD_0, SHARD_1] {
        let answer = world.get(&world.iterator(shard, "TRIM_HORIZON", json!({})).unwrap());
        let children = answer["ChildShards"].as_array().unwrap();
        assert_eq!(
            (children.len(), &children[0]["ParentShards"]),
            (1, &json!([SHARD_0, SHARD_1]))
        );
    }
}

#[test]
fn records_end_with_the_retention_period_and_so_does_their_closed_shard() {
    let world = world(1);
    world.put("k", "old");
    world.pass(Duration::from_secs(3600));
    world.put("k", "young");
    world.split(0);
    assert_eq!(
        world.texts(SHARD_0, "TRIM_HORIZON", json!({})).unwrap(),
        ["old", "young"]
    );
    world.pass(Duration::from_secs(23 * 3600));
    world.pass_ms(1);
    assert_eq!(
        world.texts(SHARD_0, "TRIM_HORIZON", json!({})).unwrap(),
        ["young"]
    );
    world.pass_ms(3_600_001);
    assert_eq!(
        world.iterator(SHARD_0, "TRIM_HORIZON", json!({})),
        Err("ResourceNotFoundException".into())
    );
    assert_eq!(world.listed(json!({"Type": "FROM_TRIM_HORIZON"})), [1, 2]);
}

#[test]
fn an_iterator_of_a_deleted_stream_finds_nothing_even_under_the_same_name() {
    let world = world(1);
    let iterator = world.iterator(SHARD_0, "TRIM_HORIZON", json!({})).unwrap();
    world.must("DeleteStream", json!({"StreamName": "s"}));
    assert_eq!(
        world.ask("GetRecords", json!({"ShardIterator": iterator})),
        Err("ResourceNotFoundException".into())
    );
    world.pass_ms(1);
    world.must("CreateStream", json!({"StreamName": "s", "ShardCount": 1}));
    assert_eq!(
        world.ask("GetRecords", json!({"ShardIterator": iterator})),
        Err("ResourceNotFoundException".into())
    );
}

#[test]
fn with_the_services_limits_a_shard_is_read_five_times_a_second() {
    let world = world_of(Manners {
        limits: Limits::Aws,
        ..manners()
    });
    world.must("CreateStream", json!({"StreamName": "s", "ShardCount": 1}));
    let iterator = world.iterator(SHARD_0, "LATEST", json!({})).unwrap();
    let answers = (0..6).map(|_| world.ask("GetRecords", json!({"ShardIterator": iterator})).err());
    let answers: Vec<_> = answers.collect();
    assert_eq!(answers[..5], [const { None }; 5]);
    assert_eq!(
        answers[5].as_deref(),
        Some("ProvisionedThroughputExceededException")
    );
}
