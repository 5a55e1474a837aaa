use multilangd_core::ids::{Position, ShardId};
use multilangd_core::leases::Lease;
use multilangd_core::shards::InitialPosition::Latest;
use multilangd_engine::shards::{ShardSettings, Shards};
use multilangd_tests::stream::Fault;
use multilangd_tests::table;

use super::world::{World, finish, seconds, set, shard};

#[tokio::test(start_paused = true)]
async fn a_finished_lease_is_deleted_after_five_minutes_if_its_children_have_started() {
    let world = World::new(1);
    world.stream.split(&shard(0));
    let shards = finished(&world, &shard(0)).await;
    world.lease(&shard(1), "17");
    world.lease(&shard(2), "SHARD_END");
    seconds(290).await;
    assert_eq!(world.leases(), "0@SHARD_END 1@17 2@SHARD_END");
    seconds(71).await;
    assert_eq!(world.leases(), "1@17 2@SHARD_END");
    drop(shards);
}

#[tokio::test(start_paused = true)]
async fn a_finished_lease_stays_until_every_child_has_started() {
    let world = World::new(1);
    world.stream.split(&shard(0));
    let _shards = finished(&world, &shard(0)).await;
    world.lease(&shard(1), "17");
    seconds(3600).await;
    assert_eq!(world.leases(), "0@SHARD_END 1@17 2@TRIM_HORIZON");
    world.lease(&shard(2), "18");
    seconds(61).await;
    assert_eq!(world.leases(), "1@17 2@18");
}

#[tokio::test(start_paused = true)]
async fn ancestors_go_before_descendants() {
    let world = World::new(1);
    let [low, _] = world.stream.split(&shard(0));
    world.stream.split(&low);
    world.lease(&shard(0), "SHARD_END");
    world.lease(&shard(2), "17");
    world.lease(&shard(3), "17");
    world.lease(&shard(4), "17");
    let shards = finished(&world, &low).await;
    world.lease(&shard(3), "17");
    world.lease(&shard(4), "17");
    seconds(3600).await;
    assert_eq!(world.leases(), "0@SHARD_END 1@SHARD_END 2@17 3@17 4@17");
    shards.queue_cleanup(&world.read(&shard(0)).unwrap());
    seconds(61).await;
    assert_eq!(world.leases(), "2@17 3@17 4@17");
}

#[tokio::test(start_paused = true)]
async fn a_finished_lease_that_names_no_children_is_completed_first() {
    let world = World::new(1);
    world.stream.split(&shard(0));
    let shards = world.start(Latest);
    queue(&world, &shards, &shard(0), "SHARD_END");
    seconds(361).await;
    assert_eq!(world.leases(), "0@SHARD_END 1@TRIM_HORIZON 2@TRIM_HORIZON");
    assert_eq!(
        world.read(&shard(0)).unwrap().children,
        set(&[&shard(1), &shard(2)])
    );
}

#[tokio::test(start_paused = true)]
async fn a_named_child_without_a_lease_gets_one() {
    let world = World::new(1);
    world.stream.split(&shard(0));
    let _shards = finished(&world, &shard(0)).await;
    world.lease(&shard(1), "17");
    world.table.remove(shard(2).as_str());
    seconds(361).await;
    assert_eq!(world.leases(), "0@SHARD_END 1@17 2@TRIM_HORIZON");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_set_back_to_be_read_again_stays() {
    let world = World::new(1);
    world.stream.split(&shard(0));
    let _shards = finished(&world, &shard(0)).await;
    world.lease(&shard(1), "17");
    world.lease(&shard(2), "17");
    world.lease(&shard(0), "TRIM_HORIZON");
    seconds(3600).await;
    assert_eq!(world.leases(), "0@TRIM_HORIZON 1@17 2@17");
}

#[tokio::test(start_paused = true)]
async fn the_lease_of_a_vanished_shard_is_deleted_and_its_listed_children_are_not_lost() {
    let world = World::new(1);
    world.stream.split(&shard(0));
    let shards = world.start(Latest);
    queue(&world, &shards, &shard(0), "SHARD_END");
    world.stream.trim(&shard(0));
    seconds(361).await;
    assert_eq!(world.leases(), "1@TRIM_HORIZON 2@TRIM_HORIZON");
}

#[tokio::test(start_paused = true)]
async fn a_quiet_childs_parent_is_deleted_half_an_hour_later_once_its_shard_has_vanished() {
    let world = World::new(1);
    world.stream.split(&shard(0));
    let _shards = finished(&world, &shard(0)).await;
    world.stream.trim(&shard(0));
    seconds(1790).await;
    assert_eq!(world.leases(), "0@SHARD_END 1@TRIM_HORIZON 2@TRIM_HORIZON");
    seconds(71).await;
    assert_eq!(world.leases(), "1@TRIM_HORIZON 2@TRIM_HORIZON");
}

#[tokio::test(start_paused = true)]
async fn without_clean_up_of_completed_leases_only_vanished_shards_go() {
    let world = World::new(2);
    let [low, high] = world.stream.split(&shard(0));
    world.stream.split(&shard(1));
    let shards = world.start_with(ShardSettings {
        clean_up_completed: false,
        ..ShardSettings::default()
    });
    queue(&world, &shards, &shard(0), "SHARD_END");
    queue(&world, &shards, &shard(1), "SHARD_END");
    world.lease(&low, "17");
    world.lease(&high, "17");
    world.stream.trim(&shard(1));
    seconds(1861).await;
    assert!(world.read(&shard(0)).is_some());
    assert!(world.read(&shard(1)).is_none());
}

#[tokio::test(start_paused = true)]
async fn the_finished_lease_of_a_recreated_stream_makes_way_for_a_new_one() {
    let world = World::new(1);
    let shards = world.start(Latest);
    queue(&world, &shards, &shard(0), "SHARD_END");
    seconds(361).await;
    assert_eq!(world.leases(), "");
    seconds(120).await;
    assert_eq!(world.leases(), "0@LATEST");
}

#[tokio::test(start_paused = true)]
async fn a_clean_up_that_fails_is_tried_again() {
    let world = World::new(1);
    world.stream.split(&shard(0));
    let shards = world.start(Latest);
    queue(&world, &shards, &shard(0), "SHARD_END");
    world.lease(&shard(1), "17");
    world.lease(&shard(2), "17");
    world.stream.fail_always(Fault::Refused);
    world
        .table
        .fail_next_write(shard(0).as_str(), table::Fault::AppliedUnanswered);
    seconds(600).await;
    assert_eq!(world.leases(), "0@SHARD_END 1@17 2@17");
    world.stream.heal();
    seconds(61).await;
    assert_eq!(world.leases(), "1@17 2@17");
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_gone_is_forgotten() {
    let world = World::new(1);
    let shards = world.start(Latest);
    shards.queue_cleanup(&Lease::new(shard(9), Position::ShardEnd, set(&[]), None));
    seconds(361).await;
    world.stream.forget_calls();
    world.table.forget_calls();
    world.leader.send_replace(false);
    seconds(3600).await;
    assert_eq!(world.table.calls(), []);
}

/// A shard that was finished as it should be, and its lease queued.
async fn finished(world: &World, shard: &ShardId) -> Shards {
    world.lease(shard, "17");
    let shards = world.start(Latest);
    finish(&shards, shard, &[]).await.unwrap();
    let mut lease = world.read(shard).unwrap();
    lease.checkpoint = Position::ShardEnd;
    world.put(&lease);
    shards.queue_cleanup(&lease);
    shards
}

fn queue(world: &World, shards: &Shards, shard: &ShardId, checkpoint: &str) {
    world.lease(shard, checkpoint);
    shards.queue_cleanup(&world.read(shard).unwrap());
}
