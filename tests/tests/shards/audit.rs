use multilangd_core::ids::{HashRange, Position};
use multilangd_core::leases::Lease;
use multilangd_core::shards::InitialPosition::{Latest, TrimHorizon};
use multilangd_engine::shards::ShardSettings;
use multilangd_tests::stream::Fault;

use super::world::{World, seconds, set, shard};

#[tokio::test(start_paused = true)]
async fn a_hole_is_repaired_when_it_was_seen_three_times() {
    let world = World::new(2);
    world.lease(&shard(0), "17");
    let _shards = world.start(Latest);
    seconds(60 + 120 + 119).await;
    assert_eq!(world.leases(), "0@17");
    seconds(2).await;
    assert_eq!(world.leases(), "0@17 1@LATEST");
    assert_eq!(world.looks(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_whole_application_is_left_alone() {
    let world = World::new(2);
    world.lease(&shard(0), "17");
    world.lease(&shard(1), "LATEST");
    let _shards = world.start(Latest);
    seconds(3600).await;
    assert_eq!(world.leases(), "0@17 1@LATEST");
    assert_eq!(world.listings(), 0);
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_audits() {
    let world = World::new(2);
    world.lease(&shard(0), "17");
    world.leader.send_replace(false);
    let _shards = world.start(Latest);
    seconds(3600).await;
    assert_eq!(world.leases(), "0@17");
    assert_eq!(world.table.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn leases_that_were_all_deleted_are_created_anew_at_the_next_audit() {
    let world = World::new(1);
    let _shards = world.start(TrimHorizon);
    seconds(61).await;
    assert_eq!(world.leases(), "0@TRIM_HORIZON");
}

#[tokio::test(start_paused = true)]
async fn children_that_were_forgotten_at_their_parents_end_are_read_from_the_beginning() {
    let world = World::new(1);
    world.stream.split(&shard(0));
    world.lease(&shard(0), "SHARD_END");
    let _shards = world.start(Latest);
    seconds(301).await;
    assert_eq!(world.leases(), "0@SHARD_END 1@TRIM_HORIZON 2@TRIM_HORIZON");
}

#[tokio::test(start_paused = true)]
async fn forgotten_children_are_read_from_the_beginning_even_if_their_parent_is_trimmed() {
    let world = World::new(1);
    world.stream.split(&shard(0));
    world.lease(&shard(0), "SHARD_END");
    world.stream.trim(&shard(0));
    let _shards = world.start(Latest);
    seconds(301).await;
    assert_eq!(world.leases(), "0@SHARD_END 1@TRIM_HORIZON 2@TRIM_HORIZON");
}

#[tokio::test(start_paused = true)]
async fn a_finished_lease_does_not_count_as_read() {
    let world = World::new(2);
    world.lease(&shard(0), "17");
    world.lease(&shard(1), "SHARD_END");
    world.stream.split(&shard(1));
    let _shards = world.start(Latest);
    seconds(301).await;
    assert_eq!(world.leases(), "0@17 1@SHARD_END 2@TRIM_HORIZON 3@TRIM_HORIZON");
}

#[tokio::test(start_paused = true)]
async fn hash_ranges_are_filled_into_leases_of_old_versions() {
    let world = World::new(1);
    let old = Lease::new(shard(0), Position::TrimHorizon, set(&[]), None);
    world.put(&old);
    let _shards = world.start(Latest);
    seconds(61).await;
    let filled = Lease {
        hash_range: Some(HashRange::ALL),
        ..old
    };
    assert_eq!(world.read(&shard(0)), Some(filled));
}

#[tokio::test(start_paused = true)]
async fn an_old_lease_whose_shard_is_gone_is_left_as_it_is() {
    let world = World::new(1);
    world.lease(&shard(0), "17");
    let old = Lease::new(shard(9), Position::TrimHorizon, set(&[]), None);
    world.put(&old);
    let _shards = world.start(Latest);
    seconds(61).await;
    assert_eq!(world.read(&shard(9)), Some(old));
}

#[tokio::test(start_paused = true)]
async fn an_audit_that_fails_is_made_up_for_by_the_next() {
    let world = World::new(2);
    world.lease(&shard(0), "17");
    world.stream.fail_always(Fault::Refused);
    let _shards = world.start(Latest);
    seconds(301).await;
    assert_eq!(world.leases(), "0@17");
    world.stream.heal();
    seconds(120).await;
    assert_eq!(world.leases(), "0@17 1@LATEST");
}

#[tokio::test(start_paused = true)]
async fn the_audits_pace_is_a_setting() {
    let world = World::new(2);
    world.lease(&shard(0), "17");
    let second = std::time::Duration::from_secs(1);
    let _shards = world.start_with(ShardSettings {
        audit_first: second,
        audit_interval: second,
        audit_confidence: 2,
        ..ShardSettings::default()
    });
    seconds(3).await;
    assert_eq!(world.leases(), "0@17 1@LATEST");
}
