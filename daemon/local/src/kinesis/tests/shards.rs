use super::*;

/// 0 is split into 1 and 2 after a minute, and these are merged into 3 after another.
fn divided() -> World {
    let world = world(1);
    world.pass(Duration::from_secs(60));
    world.split(0);
    world.pass(Duration::from_secs(60));
    world.merge(1, 2);
    world.pass(Duration::from_secs(60));
    world
}

#[test]
fn each_filter_shows_the_shards_that_its_name_says() {
    let world = divided();
    let at = |minutes: f64| START_MS as f64 / 1000.0 + minutes * 60.0;
    assert_eq!(
        ids(&world.must("ListShards", json!({"StreamName": "s"}))),
        [0, 1, 2, 3]
    );
    assert_eq!(world.listed(json!({"Type": "AT_LATEST"})), [3]);
    assert_eq!(world.listed(json!({"Type": "AT_TRIM_HORIZON"})), [0]);
    assert_eq!(world.listed(json!({"Type": "FROM_TRIM_HORIZON"})), [0, 1, 2, 3]);
    for (minutes, wanted) in [
        (-9.0, vec![0]),
        (0.0, vec![0]),
        (0.99, vec![0]),
        (1.0, vec![1, 2]),
        (1.5, vec![1, 2]),
        (2.0, vec![3]),
        (2.5, vec![3]),
    ] {
        assert_eq!(
            world.listed(json!({"Type": "AT_TIMESTAMP", "Timestamp": at(minutes)})),
            wanted,
            "{minutes}"
        );
    }
    assert_eq!(
        world.listed(json!({"Type": "FROM_TIMESTAMP", "Timestamp": at(0.5)})),
        [0, 1, 2, 3]
    );
    assert_eq!(
        world.listed(json!({"Type": "FROM_TIMESTAMP", "Timestamp": at(1.5)})),
        [1, 2, 3]
    );
    assert_eq!(
        world.listed(json!({"Type": "FROM_TIMESTAMP", "Timestamp": at(2.5)})),
        [3]
    );
    assert_eq!(
        world.listed(json!({"Type": "AFTER_SHARD_ID", "ShardId": SHARD_1})),
        [2, 3]
    );
}

#[test]
fn a_filter_that_lacks_something_is_refused() {
    let world = world(1);
    for (filter, code) in [
        (json!({"Type": "AT_TIMESTAMP"}), "InvalidArgumentException"),
        (json!({"Type": "AFTER_SHARD_ID"}), "InvalidArgumentException"),
        (json!({"Type": "NONSENSE"}), "ValidationException"),
        (json!({}), "ValidationException"),
    ] {
        assert_eq!(
            world.ask("ListShards", json!({"StreamName": "s", "ShardFilter": filter})),
            Err(code.into())
        );
    }
}

#[test]
fn the_horizon_moves_with_time_and_always_shows_all_hash_keys_once() {
    let world = divided();
    world.must(
        "UpdateShardCount",
        json!({"StreamName": "s", "TargetShardCount": 3, "ScalingType": "UNIFORM_SCALING"}),
    );
    for hours in 0..30 {
        let listed = world.must(
            "ListShards",
            json!({"StreamName": "s", "ShardFilter": {"Type": "AT_TRIM_HORIZON"}}),
        );
        let mut ranges: Vec<(u128, u128)> = listed["Shards"]
            .as_array()
            .unwrap()
            .iter()
            .map(|shard| {
                let key = |name: &str| shard["HashKeyRange"][name].as_str().unwrap().parse().unwrap();
                (key("StartingHashKey"), key("EndingHashKey"))
            })
            .collect();
        ranges.sort_unstable();
        let mut at = 0;
        for (first, last) in ranges {
            assert_eq!(first, at, "after {hours} hours");
            at = last.wrapping_add(1);
        }
        assert_eq!(at, 0, "after {hours} hours");
        world.pass(Duration::from_secs(3600));
    }
    assert_eq!(
        world.listed(json!({"Type": "AT_TRIM_HORIZON"})),
        world.listed(json!({"Type": "AT_LATEST"}))
    );
}

#[test]
fn a_token_alone_continues_the_listing_with_its_filter() {
    let world = world(7);
    world.split(3);
    let mut answer = world.must(
        "ListShards",
        json!({"StreamName": "s", "MaxResults": 3, "ShardFilter": {"Type": "AT_LATEST"}}),
    );
    let mut listed = ids(&answer);
    while let Some(token) = answer.get("NextToken") {
        answer = world.must("ListShards", json!({"NextToken": token, "MaxResults": 3}));
        listed.extend(ids(&answer));
    }
    assert_eq!(listed, [0, 1, 2, 4, 5, 6, 7, 8]);
}

#[test]
fn a_token_with_a_stream_or_too_old_or_not_ours_is_refused() {
    let world = world(2);
    let token = world.must("ListShards", json!({"StreamName": "s", "MaxResults": 1}))["NextToken"].clone();
    for more in ["StreamName", "ExclusiveStartShardId"] {
        assert_eq!(
            world.ask(
                "ListShards",
                json!({"NextToken": token, more: "shardId-000000000000"})
            ),
            Err("InvalidArgumentException".into())
        );
    }
    assert_eq!(
        world.ask("ListShards", json!({"NextToken": "x"})),
        Err("InvalidArgumentException".into())
    );
    world.pass(Duration::from_secs(301));
    assert_eq!(
        world.ask("ListShards", json!({"NextToken": token})),
        Err("ExpiredNextTokenException".into())
    );
}

#[test]
fn listings_begin_behind_the_exclusive_start() {
    let world = world(3);
    assert_eq!(
        ids(&world.must(
            "ListShards",
            json!({"StreamName": "s", "ExclusiveStartShardId": SHARD_0})
        )),
        [1, 2]
    );
    let body = json!({"StreamName": "s", "Limit": 1, "ExclusiveStartShardId": SHARD_0});
    let described = world.must("DescribeStream", body);
    let description = &described["StreamDescription"];
    assert_eq!(
        (ids(description), description["HasMoreShards"].as_bool()),
        (vec![1], Some(true))
    );
}

#[test]
fn a_merged_child_names_its_parent_and_its_adjacent_parent() {
    let listed = divided().must(
        "ListShards",
        json!({"StreamName": "s", "ExclusiveStartShardId": "shardId-000000000002"}),
    );
    let child = &listed["Shards"][0];
    assert_eq!(child["ParentShardId"], SHARD_1);
    assert_eq!(child["AdjacentParentShardId"], "shardId-000000000002");
}

#[test]
fn only_closed_shards_have_an_ending_sequence_number_and_it_is_above_their_last_record() {
    let world = world(1);
    let number = world.put("k", "a");
    world.split(0);
    let listed = world.must("ListShards", json!({"StreamName": "s"}));
    let ending = |index: usize| listed["Shards"][index]["SequenceNumberRange"].get("EndingSequenceNumber");
    assert!(ending(0).unwrap().as_str().unwrap() > number.as_str());
    assert_eq!((ending(1), ending(2)), (None, None));
}

#[test]
fn the_shard_limit_holds_for_every_way_to_more_shards() {
    let world = world_of(Manners {
        shard_limit: 2,
        ..manners()
    });
    let refused = Err("LimitExceededException".to_owned());
    assert_eq!(
        world.ask("CreateStream", json!({"StreamName": "t", "ShardCount": 3})),
        refused
    );
    world.must("CreateStream", json!({"StreamName": "s", "ShardCount": 1}));
    world.split(0);
    let split = json!({"StreamName": "s", "ShardToSplit": SHARD_1, "NewStartingHashKey": "5"});
    assert_eq!(world.ask("SplitShard", split), refused);
    let scale = json!({"StreamName": "s", "TargetShardCount": 3, "ScalingType": "UNIFORM_SCALING"});
    assert_eq!(world.ask("UpdateShardCount", scale), refused);
    world.merge(1, 2);
}

#[test]
fn a_shard_that_never_was_is_not_found() {
    let world = world(1);
    let split = |id: &str| {
        world.ask(
            "SplitShard",
            json!({"StreamName": "s", "ShardToSplit": id, "NewStartingHashKey": "5"}),
        )
    };
    assert_eq!(
        split("shardId-000000000009"),
        Err("ResourceNotFoundException".into())
    );
    assert_eq!(split("nonsense"), Err("ResourceNotFoundException".into()));
    assert_eq!(split("not a name"), Err("ValidationException".into()));
    assert_eq!(
        world.iterator("shardId-000000000009", "LATEST", json!({})),
        Err("ResourceNotFoundException".into())
    );
}
