use super::*;

#[test]
fn a_consumer_is_registered_described_listed_and_deregistered() {
    let world = world(1);
    let mut registered = world.must(
        "RegisterStreamConsumer",
        json!({"StreamARN": ARN, "ConsumerName": "c"}),
    );
    let arn = format!("{ARN}/consumer/c:1790000000");
    let consumer = &mut registered["Consumer"];
    assert_eq!(take_time(consumer, "ConsumerCreationTimestamp"), 1_790_000_000.0);
    assert_eq!(
        *consumer,
        json!({"ConsumerName": "c", "ConsumerARN": arn, "ConsumerStatus": "ACTIVE"})
    );
    let by_arn = world.must("DescribeStreamConsumer", json!({"ConsumerARN": arn}));
    let by_name = world.must(
        "DescribeStreamConsumer",
        json!({"StreamARN": ARN, "ConsumerName": "c"}),
    );
    assert_eq!(by_arn, by_name);
    assert_eq!(by_arn["ConsumerDescription"]["StreamARN"], ARN);
    let again = world.ask(
        "RegisterStreamConsumer",
        json!({"StreamARN": ARN, "ConsumerName": "c"}),
    );
    assert_eq!(again, Err("ResourceInUseException".into()));
    let mut listed = world.must("ListStreamConsumers", json!({"StreamARN": ARN}));
    take_time(&mut listed["Consumers"][0], "ConsumerCreationTimestamp");
    assert_eq!(listed["Consumers"], json!([registered["Consumer"]]));
    world.must("DeregisterStreamConsumer", json!({"ConsumerARN": arn}));
    assert_eq!(
        world.ask("DescribeStreamConsumer", json!({"ConsumerARN": arn})),
        Err("ResourceNotFoundException".into())
    );
}

#[test]
fn a_stream_has_at_most_twenty_consumers_and_they_are_listed_in_pages() {
    let world = world(1);
    let register = |n: u32| {
        world.ask(
            "RegisterStreamConsumer",
            json!({"StreamARN": ARN, "ConsumerName": format!("c{n:02}")}),
        )
    };
    (0..20).for_each(|n| assert!(register(n).is_ok()));
    assert_eq!(register(20), Err("LimitExceededException".into()));
    let first = world.must("ListStreamConsumers", json!({"StreamARN": ARN, "MaxResults": 15}));
    let second = world.must(
        "ListStreamConsumers",
        json!({"StreamARN": ARN, "NextToken": first["NextToken"]}),
    );
    let count = |page: &Json| page["Consumers"].as_array().unwrap().len();
    assert_eq!(
        (count(&first), count(&second), second.get("NextToken")),
        (15, 5, None)
    );
}

#[test]
fn a_stream_with_consumers_is_deleted_only_when_told_to_take_them_along() {
    let world = world(1);
    world.must(
        "RegisterStreamConsumer",
        json!({"StreamARN": ARN, "ConsumerName": "c"}),
    );
    assert_eq!(
        world.ask("DeleteStream", json!({"StreamName": "s"})),
        Err("ResourceInUseException".into())
    );
    world.must(
        "DeleteStream",
        json!({"StreamName": "s", "EnforceConsumerDeletion": true}),
    );
}

#[test]
fn a_consumer_has_tags_of_its_own() {
    let world = world(1);
    let registered = world.must(
        "RegisterStreamConsumer",
        json!({"StreamARN": ARN, "ConsumerName": "c", "Tags": {"a": "1"}}),
    );
    let arn = &registered["Consumer"]["ConsumerARN"];
    world.must("TagResource", json!({"ResourceARN": arn, "Tags": {"b": "2"}}));
    world.must("UntagResource", json!({"ResourceARN": arn, "TagKeys": ["a"]}));
    assert_eq!(
        world.must("ListTagsForResource", json!({"ResourceARN": arn}))["Tags"],
        json!([{"Key": "b", "Value": "2"}])
    );
    assert_eq!(
        world.must("ListTagsForResource", json!({"ResourceARN": ARN}))["Tags"],
        json!([])
    );
}
