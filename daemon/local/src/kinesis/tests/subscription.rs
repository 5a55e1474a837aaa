use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(4);

fn subscribe(world: &World, position: Json) -> Result<Subscription, String> {
    let arn = format!("{ARN}/consumer/c:1790000000");
    let body = json!({"ConsumerARN": arn, "ShardId": SHARD_0, "StartingPosition": position});
    match world.call("SubscribeToShard", &body) {
        Ok(Reply::Events(events)) => Ok(events),
        Ok(Reply::Body(_)) => panic!("not events"),
        Err(error) => Err(error.code.into_owned()),
    }
}

fn subscribed(manners: Manners, position: Json) -> (World, Subscription) {
    let world = world_of(manners);
    world.must("CreateStream", json!({"StreamName": "s", "ShardCount": 1}));
    world.must(
        "RegisterStreamConsumer",
        json!({"StreamARN": ARN, "ConsumerName": "c"}),
    );
    let subscription = subscribe(&world, position).unwrap();
    (world, subscription)
}

/// The next message: what it is and what it says. Times out far below the five seconds after which a silent
/// subscription reports, so what comes was pushed.
async fn message(subscription: &mut Subscription) -> Option<(String, Json)> {
    let bytes = timeout(SOON, subscription.next())
        .await
        .expect("nothing was pushed")?;
    let headers = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let text = String::from_utf8_lossy(&bytes[12..12 + headers]).into_owned();
    let payload = serde_json::from_slice(&bytes[12 + headers..bytes.len() - 4]).unwrap();
    let kinds = [
        "initial-response",
        "SubscribeToShardEvent",
        "ResourceInUseException",
        "ResourceNotFoundException",
    ];
    let kind = kinds
        .into_iter()
        .find(|kind| text.contains(kind))
        .expect("a known kind");
    Some((kind.to_owned(), payload))
}

async fn event(subscription: &mut Subscription) -> Json {
    let (kind, payload) = message(subscription).await.expect("it ended");
    assert_eq!(kind, "SubscribeToShardEvent", "{payload}");
    payload
}

async fn greeted(subscription: &mut Subscription) {
    assert_eq!(
        message(subscription).await,
        Some(("initial-response".into(), json!({})))
    );
}

#[tokio::test]
async fn the_greeting_comes_first_then_where_the_shard_stands_then_each_record_as_it_is_put() {
    let (world, mut events) = subscribed(manners(), json!({"Type": "LATEST"}));
    greeted(&mut events).await;
    let empty = event(&mut events).await;
    assert_eq!(
        (texts(&empty).len(), &empty["MillisBehindLatest"]),
        (0, &json!(0))
    );
    for text in ["a", "b"] {
        let pushed = tokio::join!(event(&mut events), async { world.put("k", text) }).0;
        assert_eq!(texts(&pushed), [text]);
    }
}

#[tokio::test]
async fn a_continuation_goes_on_behind_the_event_that_gave_it() {
    let (world, mut events) = subscribed(manners(), json!({"Type": "TRIM_HORIZON"}));
    greeted(&mut events).await;
    let empty = event(&mut events).await;
    world.put("k", "a");
    let after_a = event(&mut events).await;
    world.put("k", "b");
    for (from, wanted) in [(empty, vec!["a", "b"]), (after_a, vec!["b"])] {
        world.pass_ms(5_000);
        let number = &from["ContinuationSequenceNumber"];
        let position = json!({"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": number});
        let mut events = subscribe(&world, position).unwrap();
        greeted(&mut events).await;
        assert_eq!(texts(&event(&mut events).await), wanted);
    }
}

#[tokio::test]
async fn the_last_event_of_a_closed_shard_has_its_children_and_no_continuation() {
    let (world, mut events) = subscribed(manners(), json!({"Type": "TRIM_HORIZON"}));
    greeted(&mut events).await;
    event(&mut events).await;
    world.put("k", "a");
    world.split(0);
    let last = event(&mut events).await;
    assert_eq!(
        (texts(&last), last.get("ContinuationSequenceNumber")),
        (vec!["a".into()], None)
    );
    assert_eq!(last["ChildShards"][1]["ParentShards"], json!([SHARD_0]));
    assert_eq!(message(&mut events).await, None);
    world.pass_ms(5_000);
    let mut events = subscribe(&world, json!({"Type": "LATEST"})).unwrap();
    greeted(&mut events).await;
    assert_eq!(
        event(&mut events).await["ChildShards"].as_array().map(Vec::len),
        Some(2)
    );
}

#[tokio::test]
async fn a_second_subscription_is_refused_for_five_seconds_and_then_takes_over() {
    let (world, mut first) = subscribed(manners(), json!({"Type": "LATEST"}));
    greeted(&mut first).await;
    event(&mut first).await;
    world.pass_ms(4_999);
    assert_eq!(
        subscribe(&world, json!({"Type": "LATEST"})).err(),
        Some("ResourceInUseException".into())
    );
    world.pass_ms(1);
    let mut second = subscribe(&world, json!({"Type": "LATEST"})).unwrap();
    assert_eq!(message(&mut first).await.unwrap().0, "ResourceInUseException");
    assert_eq!(message(&mut first).await, None);
    greeted(&mut second).await;
}

#[tokio::test]
async fn a_consumer_is_the_same_by_whatever_region_its_arn_names() {
    let (world, _first) = subscribed(manners(), json!({"Type": "LATEST"}));
    let arn = "arn:aws:kinesis:ap-south-1:999999999999:stream/s/consumer/c:1790000000";
    let body = json!({"ConsumerARN": arn, "ShardId": SHARD_0, "StartingPosition": {"Type": "LATEST"}});
    assert_eq!(
        world.ask("SubscribeToShard", body),
        Err("ResourceInUseException".into())
    );
}

#[tokio::test]
async fn the_five_seconds_hold_also_when_the_first_subscription_has_ended() {
    let (world, first) = subscribed(manners(), json!({"Type": "LATEST"}));
    drop(first);
    assert_eq!(
        subscribe(&world, json!({"Type": "LATEST"})).err(),
        Some("ResourceInUseException".into())
    );
    world.pass_ms(5_000);
    assert!(subscribe(&world, json!({"Type": "LATEST"})).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_ends_when_its_life_is_over_and_a_silent_one_reports_every_five_seconds() {
    let life = Duration::from_secs(12);
    let (_world, mut events) = subscribed(
        Manners {
            subscription_life: life,
            ..manners()
        },
        json!({"Type": "LATEST"}),
    );
    let started = tokio::time::Instant::now();
    let mut at = Vec::new();
    while events.next().await.is_some() {
        at.push(started.elapsed().as_secs());
    }
    assert_eq!(
        at,
        [0, 0, 5, 10],
        "greeting, first event, and two reports of silence"
    );
    assert_eq!(started.elapsed(), life);
}

#[tokio::test]
async fn deleting_the_stream_or_the_consumer_ends_the_subscription() {
    let (world, mut events) = subscribed(manners(), json!({"Type": "LATEST"}));
    greeted(&mut events).await;
    event(&mut events).await;
    world.must(
        "DeleteStream",
        json!({"StreamName": "s", "EnforceConsumerDeletion": true}),
    );
    assert_eq!(message(&mut events).await.unwrap().0, "ResourceNotFoundException");

    let (world, mut events) = subscribed(manners(), json!({"Type": "LATEST"}));
    greeted(&mut events).await;
    event(&mut events).await;
    world.must(
        "DeregisterStreamConsumer",
        json!({"StreamARN": ARN, "ConsumerName": "c"}),
    );
    assert_eq!(message(&mut events).await, None);
}

#[tokio::test]
async fn a_long_backlog_comes_in_events_of_about_a_mebibyte_without_a_gap() {
    let (world, mut events) = subscribed(manners(), json!({"Type": "TRIM_HORIZON"}));
    let text = "x".repeat(400_000);
    for _ in 0..10 {
        world.put("k", &text);
    }
    greeted(&mut events).await;
    let mut seen = Vec::new();
    while seen.iter().sum::<usize>() < 10 {
        seen.push(texts(&event(&mut events).await).len());
    }
    assert_eq!(seen, [2, 2, 2, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn with_the_services_limits_a_subscription_gets_two_mebibytes_a_second() {
    let limited = Manners {
        limits: Limits::Aws,
        ..manners()
    };
    let (world, mut events) = subscribed(limited, json!({"Type": "TRIM_HORIZON"}));
    let text = "x".repeat(400_000);
    for _ in 0..10 {
        world.put("k", &text);
        world.pass_ms(1_000);
    }
    greeted(&mut events).await;
    // Two records each. The third goes 303 kB beyond what a second allows: to be waited for 145 ms.
    for _ in 0..3 {
        assert_eq!(texts(&event(&mut events).await).len(), 2);
    }
    world.pass_ms(144);
    assert!(timeout(SOON, events.next()).await.is_err(), "too early");
    world.pass_ms(1);
    assert_eq!(texts(&event(&mut events).await).len(), 2);
}

#[tokio::test]
async fn what_does_not_exist_cannot_be_subscribed_to() {
    let (world, _events) = subscribed(manners(), json!({"Type": "LATEST"}));
    let arn = format!("{ARN}/consumer/c:1790000000");
    let other = format!("{ARN}/consumer/other:1790000000");
    let position = json!({"Type": "LATEST"});
    for (body, code) in [
        (
            json!({"ConsumerARN": other, "ShardId": SHARD_0, "StartingPosition": position}),
            "ResourceNotFoundException",
        ),
        (
            json!({"ConsumerARN": arn, "ShardId": SHARD_1, "StartingPosition": position}),
            "ResourceNotFoundException",
        ),
        (
            json!({"ConsumerARN": ARN, "ShardId": SHARD_0, "StartingPosition": position}),
            "ValidationException",
        ),
        (
            json!({"ConsumerARN": arn, "ShardId": SHARD_0}),
            "ValidationException",
        ),
    ] {
        assert_eq!(world.ask("SubscribeToShard", body), Err(code.into()));
    }
}
