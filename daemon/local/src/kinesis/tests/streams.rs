use super::*;

#[test]
fn a_stream_is_active_at_once_and_described_in_full() {
    let world = world(2);
    let mut summary = world.must("DescribeStreamSummary", json!({"StreamName": "s"}));
    let summary = &mut summary["StreamDescriptionSummary"];
    assert_eq!(take_time(summary, "StreamCreationTimestamp"), 1_790_000_000.0);
    assert_eq!(
        *summary,
        json!({
            "StreamName": "s", "StreamARN": ARN, "StreamStatus": "ACTIVE",
            "StreamModeDetails": {"StreamMode": "PROVISIONED"}, "RetentionPeriodHours": 24,
            "EnhancedMonitoring": [{"ShardLevelMetrics": []}],
            "EncryptionType": "NONE", "OpenShardCount": 2, "ConsumerCount": 0, "MaxRecordSizeInKiB": 1024,
        })
    );
}

#[test]
fn name_arn_and_both_mean_the_same_stream_and_an_id_is_ignored() {
    let world = world(1);
    for body in [
        json!({"StreamName": "s"}),
        json!({"StreamARN": ARN}),
        json!({"StreamName": "s", "StreamARN": ARN, "StreamId": "any"}),
        json!({"StreamARN": "arn:aws:kinesis:us-west-2:999999999999:stream/s"}),
    ] {
        assert!(world.ask("DescribeStreamSummary", body.clone()).is_ok(), "{body}");
    }
    for (body, code) in [
        (json!({}), "InvalidArgumentException"),
        (
            json!({"StreamName": "t", "StreamARN": ARN}),
            "InvalidArgumentException",
        ),
        (json!({"StreamARN": "nonsense"}), "ValidationException"),
        (json!({"StreamName": "no spaces"}), "ValidationException"),
        (json!({"StreamName": "missing"}), "ResourceNotFoundException"),
        (json!({"StreamName": 5}), "SerializationException"),
    ] {
        assert_eq!(
            world.ask("DescribeStreamSummary", body.clone()),
            Err(code.into()),
            "{body}"
        );
    }
}

#[test]
fn a_second_stream_of_a_name_is_refused_until_the_first_is_deleted() {
    let world = world(1);
    let create = || world.ask("CreateStream", json!({"StreamName": "s", "ShardCount": 1}));
    assert_eq!(create(), Err("ResourceInUseException".into()));
    world.must("DeleteStream", json!({"StreamName": "s"}));
    assert_eq!(create(), Ok(Json::Null));
}

#[test]
fn streams_are_listed_by_name_page_by_page() {
    let world = world_of(manners());
    for name in ["c", "a", "e", "b", "d"] {
        world.must("CreateStream", json!({"StreamName": name, "ShardCount": 1}));
    }
    let first = world.must("ListStreams", json!({"Limit": 2}));
    assert_eq!(
        (&first["StreamNames"], &first["HasMoreStreams"]),
        (&json!(["a", "b"]), &json!(true))
    );
    let second = world.must(
        "ListStreams",
        json!({"NextToken": first["NextToken"], "Limit": 2}),
    );
    assert_eq!(second["StreamNames"], json!(["c", "d"]));
    let third = world.must("ListStreams", json!({"ExclusiveStartStreamName": "d"}));
    assert_eq!(
        (&third["StreamNames"], &third["HasMoreStreams"]),
        (&json!(["e"]), &json!(false))
    );
}

#[test]
fn retention_goes_up_and_down_only_in_the_direction_asked_for() {
    let world = world(1);
    let set = |operation: &str, hours: u32| {
        world.ask(
            operation,
            json!({"StreamName": "s", "RetentionPeriodHours": hours}),
        )
    };
    assert_eq!(set("IncreaseStreamRetentionPeriod", 48), Ok(Json::Null));
    assert_eq!(
        set("IncreaseStreamRetentionPeriod", 47),
        Err("InvalidArgumentException".into())
    );
    assert_eq!(
        set("DecreaseStreamRetentionPeriod", 49),
        Err("InvalidArgumentException".into())
    );
    assert_eq!(
        set("DecreaseStreamRetentionPeriod", 23),
        Err("InvalidArgumentException".into())
    );
    assert_eq!(set("DecreaseStreamRetentionPeriod", 24), Ok(Json::Null));
}

#[test]
fn a_longer_retention_keeps_records_longer() {
    let world = world(1);
    world.put("k", "a");
    world.must(
        "IncreaseStreamRetentionPeriod",
        json!({"StreamName": "s", "RetentionPeriodHours": 48}),
    );
    world.pass(Duration::from_secs(47 * 3600));
    assert_eq!(world.texts(SHARD_0, "TRIM_HORIZON", json!({})).unwrap(), ["a"]);
}

#[test]
fn tags_are_added_listed_in_pages_and_removed_by_name_and_by_arn() {
    let world = world(1);
    world.must(
        "AddTagsToStream",
        json!({"StreamName": "s", "Tags": {"b": "2", "a": "1"}}),
    );
    world.must("TagResource", json!({"ResourceARN": ARN, "Tags": {"c": "3"}}));
    let page = world.must("ListTagsForStream", json!({"StreamName": "s", "Limit": 2}));
    assert_eq!(
        page["Tags"],
        json!([{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    );
    assert_eq!(page["HasMoreTags"], true);
    let rest = world.must(
        "ListTagsForStream",
        json!({"StreamName": "s", "ExclusiveStartTagKey": "b"}),
    );
    assert_eq!(
        (&rest["Tags"], &rest["HasMoreTags"]),
        (&json!([{"Key": "c", "Value": "3"}]), &json!(false))
    );
    world.must(
        "RemoveTagsFromStream",
        json!({"StreamName": "s", "TagKeys": ["a"]}),
    );
    world.must("UntagResource", json!({"ResourceARN": ARN, "TagKeys": ["b"]}));
    let all = world.must("ListTagsForResource", json!({"ResourceARN": ARN}));
    assert_eq!(all["Tags"], json!([{"Key": "c", "Value": "3"}]));
    let many: serde_json::Map<_, _> = (0..50).map(|n| (n.to_string(), json!(""))).collect();
    assert_eq!(
        world.ask("AddTagsToStream", json!({"StreamName": "s", "Tags": many})),
        Err("InvalidArgumentException".into())
    );
}

#[test]
fn mode_metrics_encryption_and_policy_are_remembered() {
    let world = world(1);
    world.must(
        "UpdateStreamMode",
        json!({"StreamARN": ARN, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}}),
    );
    let metrics = world.must(
        "EnableEnhancedMonitoring",
        json!({"StreamName": "s", "ShardLevelMetrics": ["ALL"]}),
    );
    assert_eq!(
        metrics["DesiredShardLevelMetrics"].as_array().map(Vec::len),
        Some(7)
    );
    world.must(
        "StartStreamEncryption",
        json!({"StreamName": "s", "EncryptionType": "KMS", "KeyId": "alias/k"}),
    );
    let summary = world.must("DescribeStreamSummary", json!({"StreamName": "s"}));
    let summary = &summary["StreamDescriptionSummary"];
    assert_eq!(summary["StreamModeDetails"]["StreamMode"], "ON_DEMAND");
    assert_eq!(
        (&summary["EncryptionType"], &summary["KeyId"]),
        (&json!("KMS"), &json!("alias/k"))
    );
    world.must(
        "PutResourcePolicy",
        json!({"ResourceARN": ARN, "Policy": "{\"a\":1}"}),
    );
    assert_eq!(
        world.must("GetResourcePolicy", json!({"ResourceARN": ARN}))["Policy"],
        "{\"a\":1}"
    );
    world.must(
        "StopStreamEncryption",
        json!({"StreamName": "s", "EncryptionType": "KMS", "KeyId": "alias/k"}),
    );
    assert_eq!(world.must("DescribeLimits", json!({}))["OnDemandStreamCount"], 1);
}

#[test]
fn an_operation_that_does_not_exist_is_named_in_the_error() {
    let Err(error) = world_of(manners()).call("Frobnicate", &json!({})) else {
        panic!("it exists")
    };
    assert_eq!(error.code, "UnknownOperationException");
    assert!(error.message.contains("Frobnicate"));
}
