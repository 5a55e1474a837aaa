use multilangd_core::ids::{HashRange, Position, ShardId};
use multilangd_core::leases::Lease;
use multilangd_core::shards::InitialPosition::{Latest, TrimHorizon};
use multilangd_core::stream::{ChildShard, StartAt};
use multilangd_engine::shards::FinishError;
use multilangd_engine::stream::Stream;
use multilangd_tests::table::{Call, Fault};

use super::world::{World, finish, seconds, set, shard};

#[tokio::test(start_paused = true)]
async fn a_splits_children_begin_at_the_trim_horizon_and_are_named_in_their_parents_lease() {
    let world = World::new(1);
    world.lease(&shard(0), "17");
    let [low, high] = world.stream.split(&shard(0));
    let shards = world.start(Latest);
    finish(&shards, &shard(0), &children(&world, &shard(0)).await)
        .await
        .unwrap();
    let middle = u128::MAX / 2;
    let lease = |id: &ShardId, start, end| {
        Lease::new(
            id.clone(),
            Position::TrimHorizon,
            set(&[&shard(0)]),
            Some(HashRange { start, end }),
        )
    };
    assert_eq!(world.read(&low), Some(lease(&low, 0, middle)));
    assert_eq!(world.read(&high), Some(lease(&high, middle + 1, u128::MAX)));
    let parent = world.read(&shard(0)).unwrap();
    assert_eq!(parent.children, set(&[&low, &high]));
    assert_eq!(parent.checkpoint.text(), "17");
    assert_eq!(parent.counter, 0, "the holder's next renewal must not fail");
    assert_eq!(world.looks(), 1);
}

#[tokio::test(start_paused = true)]
async fn finishing_twice_changes_nothing() {
    let world = World::new(1);
    world.lease(&shard(0), "17");
    let [low, _] = world.stream.split(&shard(0));
    let shards = world.start(Latest);
    let named = children(&world, &shard(0)).await;
    finish(&shards, &shard(0), &named).await.unwrap();
    world.lease(&low, "99");
    let before = world.leases();
    finish(&shards, &shard(0), &named).await.unwrap();
    finish(&shards, &shard(0), &[]).await.unwrap();
    assert_eq!(world.leases(), before);
}

#[tokio::test(start_paused = true)]
async fn a_try_that_failed_half_way_can_be_repeated() {
    let world = World::new(1);
    world.lease(&shard(0), "17");
    let [_, high] = world.stream.split(&shard(0));
    let shards = world.start(Latest);
    let named = children(&world, &shard(0)).await;
    world.table.fail_next_write(high.as_str(), Fault::Refused);
    assert!(matches!(
        finish(&shards, &shard(0), &named).await,
        Err(FinishError::Table(_))
    ));
    assert_eq!(
        world.read(&shard(0)).unwrap().children,
        set(&[]),
        "children are named after they have leases"
    );
    finish(&shards, &shard(0), &named).await.unwrap();
    assert_eq!(world.leases(), "0@17 1@TRIM_HORIZON 2@TRIM_HORIZON");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_table_only_delays_the_end() {
    let world = World::new(1);
    world.lease(&shard(0), "17");
    world.stream.split(&shard(0));
    let shards = world.start(Latest);
    world.table.fail_always(Fault::Throttled);
    let parent = shard(0);
    let (finished, ()) = tokio::join!(finish(&shards, &parent, &[]), async {
        seconds(60).await;
        world.table.heal();
    });
    finished.unwrap();
    assert_eq!(world.leases(), "0@17 1@TRIM_HORIZON 2@TRIM_HORIZON");
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_do_no_harm() {
    let world = World::new(1);
    world.lease(&shard(0), "17");
    world.stream.split(&shard(0));
    let shards = world.start(Latest);
    let mut writes = 0;
    world.table.set_faults(move |call| {
        writes += usize::from(matches!(call, Call::Write(_)));
        (matches!(call, Call::Write(_)) && writes % 2 == 1).then_some(Fault::AppliedUnanswered)
    });
    finish(&shards, &shard(0), &[]).await.unwrap();
    assert_eq!(world.leases(), "0@17 1@TRIM_HORIZON 2@TRIM_HORIZON");
    assert_eq!(world.read(&shard(0)).unwrap().children.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_merged_child_waits_until_its_other_parent_has_a_lease() {
    let world = World::new(2);
    world.lease(&shard(0), "17");
    let merged = world.stream.merge(&shard(0), &shard(1));
    let shards = world.start(Latest);
    let named = children(&world, &shard(0)).await;
    let error = finish(&shards, &shard(0), &named).await.unwrap_err();
    assert!(
        !error.ends_the_lease() || matches!(error, FinishError::GiveUp { .. }),
        "{error}"
    );
    assert_eq!(world.read(&merged), None);
    world.lease(&shard(1), "LATEST");
    finish(&shards, &shard(0), &named).await.unwrap();
    assert_eq!(world.read(&merged).unwrap().parents, set(&[&shard(0), &shard(1)]));
}

#[tokio::test(start_paused = true)]
async fn one_try_in_30_gives_the_lease_of_half_a_merge_away() {
    let world = World::new(2);
    world.lease(&shard(0), "17");
    world.stream.merge(&shard(0), &shard(1));
    let shards = world.start(Latest);
    let named = children(&world, &shard(0)).await;
    let mut given_up = 0;
    for _ in 0..3000 {
        let error = finish(&shards, &shard(0), &named).await.unwrap_err();
        given_up += u32::from(error.ends_the_lease());
    }
    assert!((60..150).contains(&given_up), "{given_up} of 3000");
}

#[tokio::test(start_paused = true)]
async fn both_parents_of_a_merge_finish_in_either_order() {
    let world = World::new(2);
    world.lease(&shard(0), "17");
    world.lease(&shard(1), "17");
    let merged = world.stream.merge(&shard(0), &shard(1));
    let shards = world.start(Latest);
    for parent in [shard(1), shard(0)] {
        finish(&shards, &parent, &children(&world, &parent).await)
            .await
            .unwrap();
        assert_eq!(world.read(&parent).unwrap().children, set(&[&merged]));
    }
    assert_eq!(world.leases(), "0@17 1@17 2@TRIM_HORIZON");
}

#[tokio::test(start_paused = true)]
async fn an_other_parent_that_is_gone_from_the_stream_is_not_waited_for() {
    let world = World::new(2);
    world.lease(&shard(0), "17");
    world.stream.merge(&shard(0), &shard(1));
    world.stream.trim(&shard(1));
    let shards = world.start(Latest);
    finish(&shards, &shard(0), &children(&world, &shard(0)).await)
        .await
        .unwrap();
    assert_eq!(world.leases(), "0@17 2@TRIM_HORIZON");
}

#[tokio::test(start_paused = true)]
async fn children_that_the_last_answer_did_not_name_are_asked_for() {
    let world = World::new(1);
    world.lease(&shard(0), "17");
    world.stream.split(&shard(0));
    finish(&world.start(Latest), &shard(0), &[]).await.unwrap();
    assert_eq!(world.leases(), "0@17 1@TRIM_HORIZON 2@TRIM_HORIZON");
    assert_eq!(world.listings(), 0);
}

#[tokio::test(start_paused = true)]
async fn children_of_a_trimmed_shard_are_taken_from_the_listing() {
    let world = World::new(1);
    world.lease(&shard(0), "17");
    world.stream.split(&shard(0));
    world.stream.trim(&shard(0));
    finish(&world.start(Latest), &shard(0), &[]).await.unwrap();
    assert_eq!(world.leases(), "0@17 1@TRIM_HORIZON 2@TRIM_HORIZON");
}

#[tokio::test(start_paused = true)]
async fn half_a_split_whose_other_half_is_trimmed_gets_its_lease() {
    let world = World::new(1);
    world.lease(&shard(0), "17");
    world.stream.split(&shard(0));
    world.stream.trim(&shard(0));
    world.stream.trim(&shard(1));
    finish(&world.start(TrimHorizon), &shard(0), &[]).await.unwrap();
    assert_eq!(world.leases(), "0@17 2@TRIM_HORIZON");
}

#[tokio::test(start_paused = true)]
async fn a_shard_of_a_deleted_stream_finishes_without_children() {
    let world = World::new(1);
    world.lease(&shard(0), "17");
    world.stream.delete();
    finish(&world.start(Latest), &shard(0), &[]).await.unwrap();
    assert_eq!(world.leases(), "0@17");
}

#[tokio::test(start_paused = true)]
async fn an_open_shard_is_not_finished() {
    let world = World::new(1);
    world.lease(&shard(0), "17");
    let error = finish(&world.start(Latest), &shard(0), &[]).await.unwrap_err();
    assert!(matches!(&error, FinishError::StillOpen(open) if *open == shard(0)));
    assert!(!error.ends_the_lease());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_gone_is_to_be_dropped() {
    let world = World::new(1);
    world.stream.split(&shard(0));
    let error = finish(&world.start(Latest), &shard(0), &[]).await.unwrap_err();
    assert!(matches!(&error, FinishError::LeaseGone(gone) if *gone == shard(0)));
    assert!(error.ends_the_lease());
    assert_eq!(world.leases(), "");
}

/// The children as the shard's last answer names them.
async fn children(world: &World, shard: &ShardId) -> Vec<ChildShard> {
    let iterator = world
        .stream
        .shard_iterator(shard, &StartAt::Latest)
        .await
        .unwrap()
        .unwrap();
    world.stream.get_records(&iterator, 1).await.unwrap().child_shards
}
