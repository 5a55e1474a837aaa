//! How workers start and come back, and what they find: the fake table, tokio's paused clock.

use std::time::Duration;

use multilangd_core::table::{Item, Value};
use multilangd_core::worker_metrics::WorkerMetrics;
use multilangd_engine::clock::Clock;
use multilangd_engine::leases::{LeaseSettings, Leases, StartError};
use multilangd_tests::leases::{NOW_MS, create, held, holds, lease, one_held, start, try_start, until_held};
use multilangd_tests::table::{Call, FakeTable, Fault};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

#[tokio::test(start_paused = true)]
async fn a_fresh_application_has_its_leases_within_half_a_second() {
    let table = FakeTable::absent("app");
    let started = Instant::now();
    let leases = start(&table, "me").await;
    create(&leases, &["s-1", "s-2", "s-3"]).await;
    until_held(&leases, &["s-1", "s-2", "s-3"]).await;
    let took = started.elapsed();
    assert!(took < Duration::from_millis(500), "took {took:?}");
    assert!(*leases.is_leader().borrow());
}

#[tokio::test(start_paused = true)]
async fn a_slow_index_does_not_hold_the_start_up() {
    let table = FakeTable::absent("app");
    table.set_creation_times(Duration::from_millis(200), Duration::from_secs(600));
    let started = Instant::now();
    let leases = start(&table, "me").await;
    create(&leases, &["s-1"]).await;
    until_held(&leases, &["s-1"]).await;
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "took {:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn the_rows_of_a_fresh_application_are_those_of_java() {
    let table = FakeTable::absent("app");
    let leases = start(&table, "me").await;
    create(&leases, &["s-1"]).await;
    until_held(&leases, &["s-1"]).await;
    let rows = table.rows();
    let keys: Vec<&str> = rows.keys().map(String::as_str).collect();
    assert_eq!(keys, ["Leader", "Migration3.0", "me", "s-1"]);
    let kind = |key: &str| rows[key]["entityType"].clone();
    assert_eq!(kind("Leader"), Value::s("LEADER"));
    assert_eq!(kind("Migration3.0"), Value::s("CLIENT_VERSION_MIGRATION"));
    assert_eq!(kind("me"), Value::s("WORKER_METRIC_STATS"));
    assert_eq!(kind("s-1"), Value::s("LEASE"));
    assert_eq!(rows["me"]["lut"], Value::n(NOW_MS / 1000));
    assert_eq!(rows["s-1"]["leaseOwner"], Value::s("me"));
    assert_eq!(rows["s-1"]["leaseCounter"], Value::n(1));
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_leaves_neither_owner_nor_lock_nor_report() {
    let table = FakeTable::existing("app");
    let leases = start(&table, "me").await;
    create(&leases, &["s-1", "s-2"]).await;
    until_held(&leases, &["s-1", "s-2"]).await;
    leases.stop().await;
    let rows = table.rows();
    let keys: Vec<&str> = rows.keys().map(String::as_str).collect();
    assert_eq!(keys, ["Migration3.0", "s-1", "s-2"]);
    assert_eq!(rows["s-1"].get("leaseOwner"), None);
}

#[tokio::test(start_paused = true)]
async fn a_restart_after_a_clean_stop_has_its_leases_at_once() {
    let table = FakeTable::existing("app");
    let first = start(&table, "first").await;
    create(&first, &["s-1", "s-2"]).await;
    until_held(&first, &["s-1", "s-2"]).await;
    first.stop().await;
    let started = Instant::now();
    let second = start(&table, "second").await;
    until_held(&second, &["s-1", "s-2"]).await;
    assert!(
        started.elapsed() < Duration::from_millis(200),
        "took {:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_restart_after_a_crash_waits_for_the_failover_time_and_little_more() {
    let table = FakeTable::existing("app");
    let first = start(&table, "first").await;
    create(&first, &["s-1", "s-2"]).await;
    until_held(&first, &["s-1", "s-2"]).await;
    drop(first);
    let started = Instant::now();
    let second = start(&table, "second").await;
    until_held(&second, &["s-1", "s-2"]).await;
    let took = started.elapsed();
    assert!(
        took > Duration::from_secs(9) && took < Duration::from_millis(10_500),
        "took {took:?}"
    );
    // And keeps them, although the first worker's last report still looks fresh.
    let tenures = || {
        held(&second)
            .into_iter()
            .map(|held| held.tenure)
            .collect::<Vec<_>>()
    };
    let first_tenures = tenures();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(tenures(), first_tenures);
}

#[tokio::test(start_paused = true)]
async fn a_worker_with_its_old_id_takes_its_leases_up_at_once() {
    let table = FakeTable::existing("app");
    let first = start(&table, "me").await;
    create(&first, &["s-1"]).await;
    until_held(&first, &["s-1"]).await;
    drop(first);
    sleep(Duration::from_secs(60)).await;
    let started = Instant::now();
    let clock = Clock::simulated(NOW_MS + 60_000, 2);
    let settings = LeaseSettings::new("me".into(), "app");
    let second = Leases::start(table.clone(), clock, settings, CancellationToken::new())
        .await
        .unwrap();
    until_held(&second, &["s-1"]).await;
    assert!(
        started.elapsed() < Duration::from_millis(200),
        "took {:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_second_process_under_a_live_id_is_refused_and_the_first_keeps_its_leases() {
    let table = FakeTable::existing("app");
    let first = one_held(&table).await;
    let tenure = held(&first)[0].tenure.clone();
    let refused = try_start(&table, "me").await.err();
    assert!(matches!(refused, Some(StartError::Twin { .. })), "{refused:?}");
    let said = refused.map(|error| error.to_string()).unwrap_or_default();
    assert!(said.starts_with("workerId = me"), "{said}");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(held(&first)[0].tenure, tenure);
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_that_start_under_one_id_one_ends_and_the_other_has_the_leases() {
    let table = FakeTable::existing("app");
    let (one, other) = (start(&table, "me").await, start(&table, "me").await);
    create(&one, &["s-1", "s-2"]).await;
    until_held(&one, &["s-1", "s-2"]).await;
    let ended = timeout(Duration::from_secs(10), async {
        tokio::select! {
            () = one.twin() => (&one, &other),
            () = other.twin() => (&other, &one),
        }
    });
    let (ended, stays) = ended.await.expect("one of them ends");
    until_held(ended, &[]).await;
    ended.stop().await;
    until_held(stays, &["s-1", "s-2"]).await;
    sleep(Duration::from_secs(120)).await;
    until_held(stays, &["s-1", "s-2"]).await;
    assert_eq!(lease(&table, "s-1").owner, Some("me".into()));
    assert!(timeout(Duration::from_secs(60), stays.twin()).await.is_err());
    assert!(table.row("me").is_some());
}

#[tokio::test(start_paused = true)]
async fn a_worker_ends_beside_a_java_process_of_its_id_that_does_not() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let foreign = table.clone();
    let java = tokio::spawn(async move {
        for at_s in 0.. {
            sleep(Duration::from_secs(30)).await;
            let report = WorkerMetrics::unmeasured("me".into(), NOW_MS / 1000 + at_s * 30 + 7);
            foreign.apply(&report.report()).unwrap();
        }
    });
    let took = Instant::now();
    timeout(Duration::from_secs(150), leases.twin())
        .await
        .expect("it ends");
    assert!(
        took.elapsed() > Duration::from_secs(60),
        "a single report was enough"
    );
    until_held(&leases, &[]).await;
    java.abort();
}

#[tokio::test(start_paused = true)]
async fn lost_answers_of_reports_are_not_taken_for_another_process() {
    let table = FakeTable::existing("app");
    let leases = one_held(&table).await;
    let mut count = 0;
    table.set_faults(move |call| {
        let is_report = matches!(call, Call::Write(write) if write.key("leaseKey") == Some("me"));
        count += u32::from(is_report);
        let faults = [
            Some(Fault::AppliedUnanswered),
            Some(Fault::Lost),
            Some(Fault::AppliedAfter(Duration::from_secs(5))),
            None,
        ];
        faults[count as usize % faults.len()].filter(|_| is_report)
    });
    assert!(timeout(Duration::from_secs(1800), leases.twin()).await.is_err());
    assert!(holds(&leases, "s-1"));
}

/// A killed process's last renewal arrives late, and a leader gives the lease to its id anew.
#[tokio::test(start_paused = true)]
async fn a_worker_that_comes_back_is_not_refused_for_what_others_write_into_its_leases() {
    let table = FakeTable::existing("app");
    drop(one_held(&table).await);
    let (rows, late) = (table.clone(), lease(&table, "s-1").renew());
    tokio::spawn(async move {
        sleep(Duration::from_millis(300)).await;
        drop(rows.apply(&late));
        for _ in 0..3 {
            sleep(Duration::from_millis(1200)).await;
            rows.apply(&lease(&rows, "s-1").assign(&"me".into())).unwrap();
        }
    });
    let again = start(&table, "me").await;
    until_held(&again, &["s-1"]).await;
    assert!(timeout(Duration::from_secs(120), again.twin()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_was_just_killed_comes_back_under_its_id_within_five_seconds() {
    let table = FakeTable::existing("app");
    drop(one_held(&table).await);
    let started = Instant::now();
    let again = start(&table, "me").await;
    until_held(&again, &["s-1"]).await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_start_on_a_throttled_table_succeeds_when_it_recovers() {
    let table = FakeTable::absent("app");
    table.fail_always(Fault::Throttled);
    let healer = table.clone();
    tokio::spawn(async move {
        sleep(Duration::from_secs(60)).await;
        healer.heal();
    });
    let leases = start(&table, "me").await;
    create(&leases, &["s-1"]).await;
    until_held(&leases, &["s-1"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_refused_says_what_and_where() {
    let table = FakeTable::absent("app");
    table.fail_always(Fault::Refused);
    let error = try_start(&table, "me").await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "looking for the table failed on the lease table app"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_start_that_waits() {
    let table = FakeTable::absent("app");
    table.fail_always(Fault::Throttled);
    let stop = CancellationToken::new();
    let clock = Clock::simulated(NOW_MS, 1);
    let starting = Leases::start(table, clock, LeaseSettings::new("me".into(), "app"), stop.clone());
    let starting = tokio::spawn(starting);
    sleep(Duration::from_secs(5)).await;
    stop.cancel();
    assert!(matches!(starting.await.unwrap(), Err(StartError::Stopped)));
}

#[tokio::test(start_paused = true)]
async fn a_worker_id_that_would_overwrite_another_row_is_refused() {
    let table = FakeTable::existing("app");
    for worker in [
        "Leader",
        "Migration3.0",
        "TableMigration3.5",
        "shardId-000000000000",
        "",
    ] {
        assert!(
            matches!(try_start(&table, worker).await, Err(StartError::WorkerId(_))),
            "{worker}"
        );
    }
    assert!(table.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_fleet_by_rules_that_are_not_known_is_not_joined() {
    let table = FakeTable::existing("app");
    let text = |name: &str, text: &str| (name.to_owned(), Value::s(text));
    let row = [
        text("leaseKey", "Migration3.0"),
        text("cv", "CLIENT_VERSION_4X"),
        text("mb", "w"),
        text("entityType", "CLIENT_VERSION_MIGRATION"),
    ];
    table.put(Item::from(row));
    let error = try_start(&table, "me").await.err().unwrap();
    assert!(matches!(&error, StartError::OtherRules { .. }), "{error}");
    assert!(error.to_string().contains("CLIENT_VERSION_4X"), "{error}");
    assert_eq!(table.rows().len(), 1);
}
