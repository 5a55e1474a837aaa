use std::time::Duration;

use multilangd_core::ids::{HashRange, Position};
use multilangd_core::leases::Lease;
use multilangd_core::shards::InitialPosition::{self, AtTimestamp, Latest, TrimHorizon};
use multilangd_core::table::{Item, Value};
use multilangd_engine::shards::SyncError;
use multilangd_engine::stream::StreamError;
use multilangd_tests::stream::{self, Call};
use multilangd_tests::table;

use super::world::{World, finish, seconds, shard};

#[tokio::test(start_paused = true)]
async fn a_fresh_application_has_its_leases_in_less_than_100_ms() {
    let world = World::new(4);
    world.start(Latest).first_sync().await.unwrap();
    assert_eq!(world.leases(), "0@LATEST 1@LATEST 2@LATEST 3@LATEST");
    assert!(
        world.began.elapsed() < Duration::from_millis(100),
        "{:?}",
        world.began.elapsed()
    );
    assert_eq!(world.looks(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_shards_have_their_leases_in_less_than_a_second() {
    let world = World::new(1000);
    world.start(Latest).first_sync().await.unwrap();
    assert_eq!(world.table.rows().len(), 1000);
    assert!(
        world.began.elapsed() < Duration::from_secs(1),
        "{:?}",
        world.began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_first_lease_has_range_and_no_owner() {
    let world = World::new(1);
    world.start(TrimHorizon).first_sync().await.unwrap();
    let expected = Lease::new(shard(0), Position::TrimHorizon, [].into(), Some(HashRange::ALL));
    assert_eq!(world.read(&shard(0)), Some(expected));
}

#[tokio::test(start_paused = true)]
async fn the_initial_position_chooses_the_shards() {
    // 0 and 1 are merged into 2, which is split into 3 and 4.
    for (initial, leases) in [
        (TrimHorizon, "0@TRIM_HORIZON 1@TRIM_HORIZON"),
        (AtTimestamp(1_700_000_090_000), "2@AT_TIMESTAMP"),
        (Latest, "3@LATEST 4@LATEST"),
    ] {
        let world = World::new(2);
        seconds(60).await;
        let merged = world.stream.merge(&shard(0), &shard(1));
        seconds(60).await;
        world.stream.split(&merged);
        world.start(initial).first_sync().await.unwrap();
        assert_eq!(world.leases(), leases, "{initial:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_page_of_a_listing_counts() {
    let world = World::new(7);
    world.stream.set_page_max(3);
    world.start(Latest).first_sync().await.unwrap();
    assert_eq!(world.table.rows().len(), 7);
    assert_eq!(world.listings(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_application_with_leases_lists_no_shards() {
    let world = World::new(2);
    world.lease(&shard(0), "17");
    world.start(Latest).first_sync().await.unwrap();
    assert_eq!(world.leases(), "0@17");
    assert_eq!(world.listings(), 0);
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_no_leases_do_not_count_as_leases() {
    let world = World::new(1);
    let row = |name: &str, value: &str| (name.to_owned(), Value::s(value));
    world.table.put(Item::from([
        row("leaseKey", "Leader"),
        row("entityType", "SOMETHING_NEW"),
    ]));
    world.start(Latest).first_sync().await.unwrap();
    assert_eq!(world.leases(), "0@LATEST");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_lead_waits_for_the_leaders_leases() {
    let world = World::new(1);
    world.leader.send_replace(false);
    let shards = world.start(Latest);
    let (synced, ()) = tokio::join!(shards.first_sync(), async {
        seconds(10).await;
        world.lease(&shard(0), "TRIM_HORIZON");
    });
    synced.unwrap();
    assert_eq!(world.leases(), "0@TRIM_HORIZON");
    assert_eq!(world.listings(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_becomes_leader_creates_the_leases_at_once() {
    let world = World::new(1);
    world.leader.send_replace(false);
    let shards = world.start(Latest);
    let (synced, ()) = tokio::join!(shards.first_sync(), async {
        seconds(10).await;
        world.leader.send_replace(true);
    });
    synced.unwrap();
    assert_eq!(world.leases(), "0@LATEST");
    assert!(world.began.elapsed() < Duration::from_millis(10_100));
}

#[tokio::test(start_paused = true)]
async fn a_throttled_stream_is_waited_for_as_long_as_it_lasts() {
    let world = World::new(1);
    world.stream.fail_always(stream::Fault::Throttled);
    let shards = world.start(Latest);
    let (synced, ()) = tokio::join!(shards.first_sync(), async {
        seconds(3600).await;
        assert_eq!(world.leases(), "");
        world.stream.heal();
    });
    synced.unwrap();
    assert_eq!(world.leases(), "0@LATEST");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_table_is_waited_for_as_long_as_it_lasts() {
    let world = World::new(1);
    world.table.fail_always(table::Fault::Throttled);
    let shards = world.start(Latest);
    let (synced, ()) = tokio::join!(shards.first_sync(), async {
        seconds(3600).await;
        world.table.heal();
    });
    synced.unwrap();
    assert_eq!(world.leases(), "0@LATEST");
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_creation_was_not_answered_is_not_an_error() {
    let world = World::new(2);
    world
        .table
        .fail_next_write(shard(0).as_str(), table::Fault::AppliedUnanswered);
    world.start(Latest).first_sync().await.unwrap();
    assert_eq!(world.leases(), "0@LATEST 1@LATEST");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stays_missing_is_an_error_after_20_tries() {
    let world = World::new(1);
    world.stream.delete();
    let error = world.start(Latest).first_sync().await.unwrap_err();
    assert!(matches!(error, SyncError::Stream(StreamError::NotFound(_))));
    assert_eq!(world.listings(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_created_a_little_later_is_found() {
    let world = World::new(1);
    world.stream.fail_next(5, stream::Fault::NotFound);
    world.start(Latest).first_sync().await.unwrap();
    assert_eq!(world.leases(), "0@LATEST");
}

#[tokio::test(start_paused = true)]
async fn a_bootstrap_that_was_cut_off_is_completed_by_the_auditor() {
    let world = World::new(3);
    world.lease(&shard(1), "17");
    let _shards = world.start(TrimHorizon);
    seconds(301).await;
    assert_eq!(world.leases(), "0@TRIM_HORIZON 1@17 2@TRIM_HORIZON");
}

#[tokio::test(start_paused = true)]
async fn hash_ranges_come_from_the_lease_or_the_listing() {
    let world = World::new(2);
    let shards = world.start(Latest);
    let with = Lease::new(
        shard(0),
        Position::Latest,
        [].into(),
        Some(HashRange { start: 3, end: 4 }),
    );
    assert_eq!(shards.hash_range(&with).await, with.hash_range);
    assert_eq!(world.listings(), 0);
    let without = Lease::new(shard(0), Position::Latest, [].into(), None);
    let listed = world.stream.shards()[0].hash_range;
    assert_eq!(shards.hash_range(&without).await, Some(listed));
    assert_eq!(
        shards.hash_range_of(&shard(1)).await,
        Some(world.stream.shards()[1].hash_range)
    );
    assert_eq!(world.listings(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_shard_causes_one_listing_in_30_seconds() {
    let world = World::new(1);
    let shards = world.start(Latest);
    for _ in 0..29 {
        assert_eq!(shards.hash_range_of(&shard(9)).await, None);
        seconds(1).await;
    }
    assert_eq!(world.listings(), 1);
    seconds(1).await;
    assert_eq!(shards.hash_range_of(&shard(9)).await, None);
    assert_eq!(world.listings(), 2);
}

#[tokio::test(start_paused = true)]
async fn with_the_skip_setting_no_hash_range_is_known() {
    let world = World::new(1);
    let shards = world.start_with(multilangd_engine::shards::ShardSettings {
        skip_hash_ranges: true,
        ..Default::default()
    });
    let lease = Lease::new(shard(0), Position::Latest, [].into(), Some(HashRange::ALL));
    assert_eq!(shards.hash_range(&lease).await, None);
    assert_eq!(shards.hash_range_of(&shard(0)).await, None);
    assert_eq!(world.listings(), 0);
}

#[tokio::test(start_paused = true)]
async fn following_pages_are_asked_for_by_token_alone() {
    let world = World::new(3);
    world.stream.set_page_max(2);
    world.start(InitialPosition::Latest).first_sync().await.unwrap();
    let pages: Vec<String> = world
        .stream
        .calls()
        .into_iter()
        .filter_map(|(_, call)| match call {
            Call::ListShards(page) => Some(format!("{page:?}")),
            _ => None,
        })
        .collect();
    assert_eq!(
        pages,
        ["First(Some(AtLatest))", "Next(\"latest shardId-000000000001\")"]
    );
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_the_tasks() {
    let world = World::new(1);
    world.lease(&shard(0), "17");
    let shards = world.start(Latest);
    shards.stop().await;
    world.table.forget_calls();
    seconds(3600).await;
    assert_eq!(world.table.calls(), []);
    // Calls still work: a consumer may be finishing.
    world.stream.split(&shard(0));
    finish(&shards, &shard(0), &[]).await.unwrap();
}
