//! What the leases of one worker, and of a few, do over time: the fake table, tokio's paused clock.

use std::collections::BTreeSet;
use std::time::Duration;

use multilangd_core::ids::{Position, ShardId};
use multilangd_core::table::{Action, Item, Value, Write};
use multilangd_engine::child::CheckpointError;
use multilangd_engine::leases::Tenure;
use multilangd_tests::leases::{
    at, create, hand_over_what_is_asked_for, held, holds, is_write_of, lease, new_lease, one_held, renewals,
    start, until_held, until_leader,
};
use multilangd_tests::table::{Call, FakeTable, Fault};
use tokio::time::{Instant, sleep, timeout};

#[tokio::test(start_paused = true)]
async fn a_checkpoint_of_an_earlier_tenure_does_not_move_a_later_one_back() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let old = held(&leases)[0].tenure.clone();
    // Its first write is lost; its look at the row comes after the later tenure's beginning, its second write after the
    // later tenure's checkpoint.
    let (mut writes, mut reads) = (0, 0);
    let ten = Action::Set("checkpoint", Value::s("10"));
    table.set_faults(move |call| match call {
        Call::Write(Write::Update { actions, .. }) if actions.contains(&ten) => {
            writes += 1;
            [Fault::Lost, Fault::AppliedAfter(Duration::from_millis(400))]
                .get(writes - 1)
                .copied()
        }
        Call::Get(key) if key == "s-1" && writes == 1 => {
            reads += 1;
            (reads == 1).then_some(Fault::AppliedAfter(Duration::from_millis(2500)))
        }
        _ => None,
    });
    let (again, tenure) = (leases.clone(), old.clone());
    let began = Instant::now();
    let stored = tokio::spawn(async move { again.checkpoint(&tenure, &at("10", 0)).await });
    sleep(Duration::from_millis(100)).await;
    leases.drop_lease(&old).await;
    until_held(&leases, &["s-1"]).await;
    let new = held(&leases)[0].tenure.clone();
    assert_ne!(old, new);
    sleep(Duration::from_millis(2700).saturating_sub(began.elapsed())).await;
    leases.checkpoint(&new, &at("20", 0)).await.unwrap();
    assert_eq!(stored.await.unwrap(), Err(CheckpointError::LeaseLost));
    sleep(Duration::from_secs(30)).await;
    assert_eq!(lease(&table, "s-1").checkpoint, at("20", 0));
    assert_eq!(held(&leases)[0].tenure, new);
}

#[tokio::test(start_paused = true)]
async fn renewals_come_every_third_of_the_failover_time_less_epsilon() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    table.forget_calls();
    sleep(Duration::from_secs(34)).await;
    let renewals: Vec<Instant> = renewals(&table, "s-1");
    assert_eq!(renewals.len(), 10);
    let gaps: BTreeSet<Duration> = renewals.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        gaps.iter().all(|gap| gap.as_millis().abs_diff(3308) <= 2),
        "{gaps:?}"
    );
    assert!(holds(&leases, "s-1"));
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_lost_when_somebody_else_has_written_it() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let row = lease(&table, "s-1");
    table.apply(&row.take(&"other".into())).unwrap();
    until_held(&leases, &[]).await;
    assert_eq!(lease(&table, "s-1").owner, Some("other".into()));
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_row_is_deleted_is_gone() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    table.remove("s-1");
    until_held(&leases, &[]).await;
    assert_eq!(table.row("s-1"), None);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_whose_answer_is_lost_does_not_cost_the_lease() {
    for returns_old in [true, false] {
        let table = FakeTable::existing("app");
        if !returns_old {
            table.keep_old_rows_back();
        }
        let leases = one_held(&table).await;
        let tenure = held(&leases)[0].tenure.clone();
        table.fail_next_write("s-1", Fault::AppliedUnanswered);
        sleep(Duration::from_secs(30)).await;
        assert_eq!(held(&leases)[0].tenure, tenure);
    }
}

#[tokio::test(start_paused = true)]
async fn validity_counts_from_when_the_renewal_was_sent() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    // The renewal is applied, but its answer takes two seconds.
    table.fail_next_write("s-1", Fault::AnswerAfter(Duration::from_secs(2)));
    table.forget_calls();
    sleep(Duration::from_millis(5_500)).await;
    let sent = renewals(&table, "s-1")[0];
    sleep(Duration::from_secs(1)).await;
    let valid_until = held(&leases)[0].valid_until;
    assert_eq!(
        valid_until - sent,
        Duration::from_secs(10) + (valid_until - sent - Duration::from_secs(10))
    );
    let last = *renewals(&table, "s-1").last().unwrap();
    assert_eq!(valid_until, last + Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn throttling_is_no_loss_until_the_failover_time_has_passed() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    table.fail_always(Fault::Throttled);
    sleep(Duration::from_millis(6_500)).await;
    assert!(holds(&leases, "s-1"));
    let began = Instant::now();
    until_held(&leases, &[]).await;
    assert!(
        began.elapsed() <= Duration::from_millis(3_600),
        "after {:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_table_that_is_throttled_for_a_minute_gives_the_leases_back_soon_after() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    table.fail_always(Fault::Throttled);
    sleep(Duration::from_secs(60)).await;
    assert!(!holds(&leases, "s-1"));
    table.heal();
    let healed = Instant::now();
    until_held(&leases, &["s-1"]).await;
    assert!(
        healed.elapsed() < Duration::from_secs(6),
        "after {:?}",
        healed.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_in_the_row_when_it_is_confirmed() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let tenure = held(&leases)[0].tenure.clone();
    leases.checkpoint(&tenure, &at("77", 3)).await.unwrap();
    let row = lease(&table, "s-1");
    assert_eq!(row.checkpoint, at("77", 3));
    assert_eq!(row.counter, 2);
}

#[tokio::test(start_paused = true)]
async fn checkpoints_and_renewals_do_not_defeat_each_other() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let tenure = held(&leases)[0].tenure.clone();
    for number in 0..2000 {
        leases
            .checkpoint(&tenure, &at(&number.to_string(), 0))
            .await
            .unwrap();
    }
    assert_eq!(lease(&table, "s-1").checkpoint, at("1999", 0));
    assert_eq!(held(&leases)[0].tenure, tenure);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_whose_answer_is_lost_is_recognised_as_stored() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let tenure = held(&leases)[0].tenure.clone();
    table.fail_next_write("s-1", Fault::AppliedUnanswered);
    assert_eq!(leases.checkpoint(&tenure, &at("77", 0)).await, Ok(()));
    assert_eq!(lease(&table, "s-1").checkpoint, at("77", 0));
    sleep(Duration::from_secs(30)).await;
    assert_eq!(held(&leases)[0].tenure, tenure);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_was_lost_on_its_way_is_sent_again() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let tenure = held(&leases)[0].tenure.clone();
    table.fail_next_write("s-1", Fault::Lost);
    assert_eq!(leases.checkpoint(&tenure, &at("77", 0)).await, Ok(()));
    assert_eq!(lease(&table, "s-1").checkpoint, at("77", 0));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_outlives_a_second_in_which_the_table_fails() {
    for fault in [Fault::Throttled, Fault::Lost, Fault::AppliedUnanswered] {
        let table = FakeTable::existing("app");
        let leases = one_held(&table).await;
        let tenure = held(&leases)[0].tenure.clone();
        table.fail_always(fault);
        let heals = async {
            sleep(Duration::from_secs(1)).await;
            table.heal();
        };
        let position = at("77", 0);
        let (checkpoint, ()) = tokio::join!(leases.checkpoint(&tenure, &position), heals);
        assert_eq!(checkpoint, Ok(()), "{fault:?}");
        assert_eq!(lease(&table, "s-1").checkpoint, at("77", 0));
        sleep(Duration::from_secs(30)).await;
        assert_eq!(held(&leases)[0].tenure, tenure);
    }
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_is_throttled_for_longer_is_refused_and_changes_nothing() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let tenure = held(&leases)[0].tenure.clone();
    table.fail_always(Fault::Throttled);
    assert_eq!(
        leases.checkpoint(&tenure, &at("77", 0)).await,
        Err(CheckpointError::Throttled)
    );
    assert_eq!(lease(&table, "s-1").checkpoint, Position::TrimHorizon);
    table.heal();
    assert_eq!(leases.checkpoint(&tenure, &at("77", 0)).await, Ok(()));
    assert_eq!(held(&leases)[0].tenure, tenure);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_after_the_lease_was_taken_is_refused() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let tenure = held(&leases)[0].tenure.clone();
    table.apply(&lease(&table, "s-1").take(&"other".into())).unwrap();
    assert_eq!(
        leases.checkpoint(&tenure, &at("77", 0)).await,
        Err(CheckpointError::LeaseLost)
    );
    assert_eq!(lease(&table, "s-1").checkpoint, Position::TrimHorizon);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_of_an_earlier_tenure_is_refused_even_if_the_lease_is_held_again() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let old = held(&leases)[0].tenure.clone();
    leases.drop_lease(&old).await;
    until_held(&leases, &["s-1"]).await;
    let new = held(&leases)[0].tenure.clone();
    assert_ne!(new, old);
    assert_eq!(
        leases.checkpoint(&old, &at("77", 0)).await,
        Err(CheckpointError::LeaseLost)
    );
    assert_eq!(leases.checkpoint(&new, &at("77", 0)).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_requested_hand_off_is_noticed_while_the_lease_is_kept_alive() {
    for returns_old in [true, false] {
        let table = FakeTable::existing("app");
        if !returns_old {
            table.keep_old_rows_back();
        }
        let leases = one_held(&table).await;
        let tenure = held(&leases)[0].tenure.clone();
        table
            .apply(&lease(&table, "s-1").request_hand_off(&"other".into()).unwrap())
            .unwrap();
        let mut changes = leases.held();
        let asked = changes.wait_for(|held| held[0].hand_over_to == Some("other".into()));
        assert!(timeout(Duration::from_secs(4), asked).await.is_ok());
        assert_eq!(held(&leases)[0].tenure, tenure);
        // Still renewed, still allowed to checkpoint.
        sleep(Duration::from_secs(20)).await;
        leases.checkpoint(&tenure, &at("77", 0)).await.unwrap();
        leases.hand_over(&tenure).await.unwrap();
        assert!(held(&leases).is_empty());
        let row = lease(&table, "s-1");
        assert_eq!((row.owner, row.checkpoint_owner), (Some("other".into()), None));
        assert_eq!((row.owner_switches, row.checkpoint), (0, at("77", 0)));
    }
}

#[tokio::test(start_paused = true)]
async fn giving_back_a_lease_in_an_unnoticed_hand_off_gives_it_to_the_next_owner() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let tenure = held(&leases)[0].tenure.clone();
    table
        .apply(&lease(&table, "s-1").request_hand_off(&"other".into()).unwrap())
        .unwrap();
    leases.give_back(&tenure).await.unwrap();
    let row = lease(&table, "s-1");
    assert_eq!((row.owner, row.checkpoint_owner), (Some("other".into()), None));
}

#[tokio::test(start_paused = true)]
async fn a_lease_with_a_pending_hand_off_is_not_adopted() {
    let table = FakeTable::existing("app");
    let leases = start(&table, "me").await;
    until_leader(&leases).await;
    let mut row = new_lease("s-1");
    row.owner = Some("me".into());
    row.checkpoint_owner = Some("other".into());
    table.put(row.item());
    for _ in 0..9 {
        sleep(Duration::from_secs(1)).await;
        assert!(held(&leases).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_gets_its_share_of_fresh_leases() {
    let table = FakeTable::existing("app");
    let leader = start(&table, "leader").await;
    until_leader(&leader).await;
    hand_over_what_is_asked_for(&leader);
    let follower = start(&table, "follower").await;
    create(&leader, &["s-1", "s-2", "s-3", "s-4"]).await;
    let both = async {
        while held(&leader).len() != 2 || held(&follower).len() != 2 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(5), both).await.unwrap();
    assert!(!*follower.is_leader().borrow());
}

#[tokio::test(start_paused = true)]
async fn a_second_worker_gets_its_share_by_graceful_hand_off() {
    let table = FakeTable::existing("app");
    let first = start(&table, "first").await;
    create(&first, &["s-1", "s-2", "s-3", "s-4"]).await;
    until_held(&first, &["s-1", "s-2", "s-3", "s-4"]).await;
    let second = start(&table, "second").await;
    let joined = Instant::now();
    hand_over_what_is_asked_for(&first);
    let both = async {
        while held(&second).len() != 2 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), both).await.unwrap();
    assert!(
        joined.elapsed() < Duration::from_secs(10),
        "took {:?}",
        joined.elapsed()
    );
    assert_eq!(held(&first).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_asks_itself_for_a_lease_does_not_wait_for_its_renewal() {
    let table = FakeTable::existing("app");
    let leader = start(&table, "leader").await;
    create(&leader, &["s-1", "s-2"]).await;
    until_held(&leader, &["s-1", "s-2"]).await;
    let joined = Instant::now();
    let _other = start(&table, "other").await;
    let mut changes = leader.held();
    let is_asked = changes.wait_for(|held| held.iter().any(|held| held.hand_over_to.is_some()));
    timeout(Duration::from_secs(10), is_asked).await.unwrap().unwrap();
    assert!(
        joined.elapsed() < Duration::from_millis(2_100),
        "took {:?}",
        joined.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_leaving_leader_hands_its_leases_to_those_who_stay() {
    let table = FakeTable::existing("app");
    let leader = start(&table, "leader").await;
    create(&leader, &["s-1", "s-2"]).await;
    until_held(&leader, &["s-1", "s-2"]).await;
    let other = start(&table, "other").await;
    let left = Instant::now();
    leader.stop().await;
    until_held(&other, &["s-1", "s-2"]).await;
    assert!(
        left.elapsed() < Duration::from_secs(3),
        "took {:?}",
        left.elapsed()
    );
    until_leader(&other).await;
    assert!(
        left.elapsed() < Duration::from_secs(4),
        "took {:?}",
        left.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_leaving_follower_gives_its_leases_to_those_who_stay() {
    let table = FakeTable::existing("app");
    let leader = start(&table, "leader").await;
    until_leader(&leader).await;
    hand_over_what_is_asked_for(&leader);
    let follower = start(&table, "follower").await;
    create(&leader, &["s-1", "s-2"]).await;
    let mut changes = follower.held();
    let share = timeout(Duration::from_secs(10), changes.wait_for(|held| held.len() == 1));
    assert!(share.await.is_ok());
    let left = Instant::now();
    follower.stop().await;
    until_held(&leader, &["s-1", "s-2"]).await;
    assert!(
        left.elapsed() < Duration::from_secs(3),
        "took {:?}",
        left.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_crashed_leader_is_followed_by_another_after_the_failover_time() {
    let table = FakeTable::existing("app");
    let leader = start(&table, "leader").await;
    create(&leader, &["s-1", "s-2"]).await;
    until_held(&leader, &["s-1", "s-2"]).await;
    let other = start(&table, "other").await;
    sleep(Duration::from_secs(30)).await;
    drop(leader);
    let crashed = Instant::now();
    until_leader(&other).await;
    let took = crashed.elapsed();
    assert!(
        took > Duration::from_secs(7) && took < Duration::from_millis(12_100),
        "took {took:?}"
    );
    until_held(&other, &["s-1", "s-2"]).await;
    assert!(
        crashed.elapsed() < Duration::from_secs(23),
        "took {:?}",
        crashed.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn there_is_never_more_than_one_leader() {
    let table = FakeTable::existing("app");
    let mut rng = multilangd_core::rng::Rng::new(3);
    table.set_faults(move |_| match rng.below(10) {
        0 => Some(Fault::Lost),
        1 => Some(Fault::AppliedUnanswered),
        2 => Some(Fault::Throttled),
        3 => Some(Fault::AnswerAfter(Duration::from_secs(2))),
        _ => None,
    });
    let (a, b) = (start(&table, "a").await, start(&table, "b").await);
    let mut led = 0;
    for _ in 0..6000 {
        sleep(Duration::from_millis(100)).await;
        let leaders = [&a, &b]
            .iter()
            .filter(|worker| *worker.is_leader().borrow())
            .count();
        assert!(leaders <= 1);
        led += leaders;
    }
    assert!(led > 4000, "led {led} of 6000 looks");
}

#[tokio::test(start_paused = true)]
async fn the_lock_is_renewed_well_within_its_duration() {
    let table = FakeTable::existing("app");
    let leases = start(&table, "me").await;
    until_leader(&leases).await;
    table.forget_calls();
    sleep(Duration::from_secs(60)).await;
    let heartbeats = table
        .calls()
        .iter()
        .filter(|(_, call)| is_write_of(call, "Leader"))
        .count();
    assert_eq!(heartbeats, 15);
    assert_eq!(table.row("Leader").unwrap()["leaseDuration"], Value::s("10000"));
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_is_applied_late_does_not_cost_the_leadership() {
    for fault in [
        Fault::AppliedAfter(Duration::from_secs(4)),
        Fault::AppliedUnanswered,
        Fault::Lost,
    ] {
        let table = FakeTable::existing("app");
        let leases = start(&table, "me").await;
        until_leader(&leases).await;
        table.fail_next_write("Leader", fault);
        let mut is_leader = leases.is_leader();
        is_leader.mark_unchanged();
        assert!(
            timeout(Duration::from_secs(30), is_leader.changed())
                .await
                .is_err(),
            "{fault:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_minute_of_quiet_costs_few_calls() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let follower = start(&table, "follower").await;
    sleep(Duration::from_secs(1)).await;
    table.forget_calls();
    sleep(Duration::from_secs(60)).await;
    let calls = table.calls();
    let count = |is: &dyn Fn(&Call) -> bool| calls.iter().filter(|(_, call)| is(call)).count();
    // Renewals (18), heartbeats (15), metrics of both (4), the deputy's seat (10).
    assert_eq!(count(&|call| matches!(call, Call::Write(_))), 47);
    // The leader's looks, and its deputy's.
    assert_eq!(count(&|call| matches!(call, Call::Scan)), 60 + 60);
    // Discovery: seldom by the leader, who sees what is its own.
    assert_eq!(count(&|call| matches!(call, Call::Query)), 6 + 75);
    // The deputy's looks at the lock.
    assert_eq!(count(&|call| matches!(call, Call::Get(_))), 60);
    assert_eq!(count(&|call| matches!(call, Call::Describe | Call::Create)), 0);
    drop((leases, follower));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_a_renewal_and_the_next_one_comes_an_interval_later() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let tenure = held(&leases)[0].tenure.clone();
    table.forget_calls();
    for number in 1..=40 {
        leases.record_bytes(&tenure, 150 * 1024);
        leases
            .checkpoint(&tenure, &at(&number.to_string(), 0))
            .await
            .unwrap();
        sleep(Duration::from_millis(1_500)).await;
    }
    let began = Instant::now();
    sleep(Duration::from_secs(60)).await;
    let writes: Vec<Instant> = table
        .calls()
        .iter()
        .filter(|(_, call)| is_write_of(call, "s-1"))
        .map(|(at, _)| *at)
        .collect();
    let (busy, idle): (Vec<Instant>, Vec<Instant>) = writes.iter().partition(|at| **at <= began);
    assert_eq!(busy.len(), 40, "checkpoints alone");
    assert_eq!(idle.len(), 18, "renewals every 3308 ms");
    let longest = writes.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(
        longest < Duration::from_millis(3_308 * 5 / 4),
        "{longest:?} without a write"
    );
    assert!(lease(&table, "s-1").throughput_kbps.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_hand_off_is_noticed_by_a_checkpoint_that_comes_first() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let tenure = held(&leases)[0].tenure.clone();
    leases.checkpoint(&tenure, &at(&1.to_string(), 0)).await.unwrap();
    let asked = lease(&table, "s-1").request_hand_off(&"other".into()).unwrap();
    table.apply(&asked).unwrap();
    leases.checkpoint(&tenure, &at(&2.to_string(), 0)).await.unwrap();
    assert_eq!(held(&leases)[0].hand_over_to, Some("other".into()));
}

#[tokio::test(start_paused = true)]
async fn throughput_goes_into_the_row_with_the_renewal() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let tenure = held(&leases)[0].tenure.clone();
    for _ in 0..100 {
        leases.record_bytes(&tenure, 3308 * 1024 / 100);
        sleep(Duration::from_millis(33)).await;
    }
    sleep(Duration::from_millis(50)).await;
    let kbps = lease(&table, "s-1").throughput_kbps.unwrap();
    assert!(kbps > 100.0 && kbps <= 1000.0, "{kbps}");
}

#[tokio::test(start_paused = true)]
async fn stop_taking_keeps_what_is_held_and_takes_nothing_more() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    leases.stop_taking().await;
    assert_eq!(table.row("me"), None);
    create(&leases, &["s-2"]).await;
    sleep(Duration::from_secs(30)).await;
    assert!(holds(&leases, "s-1") && !holds(&leases, "s-2"));
    assert_eq!(lease(&table, "s-2").owner, None);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_assigned_to_a_leaving_worker_is_given_back_by_it() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    leases.stop_taking().await;
    table.apply(&new_lease("s-2").create()).unwrap();
    table.apply(&new_lease("s-2").assign(&"me".into())).unwrap();
    leases.stop().await;
    assert_eq!(lease(&table, "s-2").owner, None);
}

#[tokio::test(start_paused = true)]
async fn a_stop_while_the_table_fails_ends() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    table.fail_always(Fault::Lost);
    assert!(timeout(Duration::from_secs(60), leases.stop()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_thousand_leases_are_held_and_renewed_in_time() {
    let table = FakeTable::existing("app");
    for index in 0..1000 {
        table
            .apply(&new_lease(&format!("s-{index:04}")).create())
            .unwrap();
    }
    let leases = start(&table, "me").await;
    let all = async {
        while held(&leases).len() != 1000 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(2), all).await.unwrap();
    let first: Vec<Tenure> = held(&leases).iter().map(|held| held.tenure.clone()).collect();
    sleep(Duration::from_secs(60)).await;
    let last: Vec<Tenure> = held(&leases).iter().map(|held| held.tenure.clone()).collect();
    assert_eq!(first, last);
}

#[tokio::test(start_paused = true)]
async fn a_bad_row_does_not_disturb_the_others() {
    let table = FakeTable::existing("app");
    let mut row = new_lease("s-bad").item();
    row.remove("leaseCounter");
    table.put(row);
    table.put(Item::from([
        ("leaseKey".to_owned(), Value::s("x")),
        ("entityType".to_owned(), Value::s("NEW")),
    ]));
    table.apply(&new_lease("s-1").create()).unwrap();
    let leases = start(&table, "me").await;
    until_held(&leases, &["s-1"]).await;
    let listed: Vec<ShardId> = leases
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|lease| lease.key)
        .collect();
    assert_eq!(listed, ["s-1".into()]);
}

#[tokio::test(start_paused = true)]
async fn rows_keep_what_a_newer_peer_wrote_into_them() {
    let table = FakeTable::existing("app");
    let mut row = new_lease("s-1").item();
    row.insert("newInJava4".to_owned(), Value::s("keep me"));
    table.put(row);
    let leases = start(&table, "me").await;
    until_held(&leases, &["s-1"]).await;
    let tenure = held(&leases)[0].tenure.clone();
    leases.checkpoint(&tenure, &at("77", 0)).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    leases.stop().await;
    assert_eq!(table.row("s-1").unwrap()["newInJava4"], Value::s("keep me"));
}
