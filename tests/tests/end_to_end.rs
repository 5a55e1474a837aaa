//! Promises, kept by real processes: the daemon, its local services, and children.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use multilangd_tests::daemon::{Application, Services, until};
use multilangd_tests::oracle::{Verdict, numbered};
use multilangd_tests::tls::{Front, Proxy};
use serde_json::json;

#[test]
fn a_stream_is_delivered_and_checkpointed_and_a_stop_gives_everything_back() {
    let services = Services::start();
    services.create_stream("s", 2);
    let put = numbered(10, 100);
    services.put("s", put.iter().cloned());
    let app = Application::new(&services, "plain", "s");
    let mut daemon = app.start();
    app.wait_for(&put);
    assert_eq!(
        daemon.stop(),
        143,
        "the exit code of a Java daemon that was stopped by SIGTERM"
    );
    assert_eq!(app.verdict(&put), Verdict::once(1000));
    for (shard, lease) in services.leases("plain") {
        assert_eq!(lease["leaseOwner"], json!(null), "{shard} was given back");
        let last = app
            .records()
            .into_iter()
            .rfind(|record| record.shard == shard)
            .expect("records");
        assert_eq!(lease["checkpoint"]["S"], last.sequence_number);
        assert_eq!(lease["entityType"]["S"], "LEASE");
        let heard = [
            "initialize",
            "processRecords",
            "shutdownRequested",
            "leaseLost",
            "eof",
        ];
        assert_eq!(app.heard(&shard), heard);
    }
    assert!(
        !services.rows("plain").contains_key("Leader"),
        "the lock was given back"
    );
}

#[test]
fn what_was_checkpointed_is_not_delivered_again() {
    let services = Services::start();
    services.create_stream("s", 1);
    let put = numbered(1, 100);
    services.put("s", put[..50].iter().cloned());
    let app = Application::new(&services, "resume", "s");
    let mut daemon = app.start();
    app.wait_for(&put[..50]);
    daemon.stop();
    services.put("s", put[50..].iter().cloned());
    let mut daemon = app.start();
    app.wait_for(&put);
    daemon.stop();
    assert_eq!(app.verdict(&put), Verdict::once(100));
}

#[test]
fn a_daemon_killed_in_the_middle_of_a_batch_loses_nothing_and_leaves_no_orphan() {
    let services = Services::start();
    services.create_stream("s", 2);
    let put = numbered(8, 250);
    services.put("s", put.iter().cloned());
    let app = Application::new(&services, "killed", "s")
        .with("maxRecords", 50)
        .with("failoverTimeMillis", 2000)
        .behaving("slow_ms=100");
    let mut daemon = app.start();
    until("both shards are being worked on", || {
        let notes = app.notes();
        let at_work = notes.iter().filter(|note| note.heard() == "processRecords");
        let shards: BTreeSet<&str> = at_work.map(|note| note.shard()).collect();
        (shards.len() == 2).then_some(())
    });
    daemon.signal("KILL");
    daemon.wait();
    let children: BTreeSet<u32> = app.notes().iter().map(|note| note.pid()).collect();
    for child in children {
        until("the child is gone", || is_gone(child));
    }
    let mut daemon = app.start();
    app.wait_for(&put);
    daemon.stop();
    assert_eq!(app.verdict(&put).delivered, 2000);
}

#[test]
fn a_split_under_load_loses_nothing_and_keeps_the_order_of_each_key() {
    reshard_under_load("split", 1, |services| {
        services.split("s", &services.open_shards("s")[0])
    });
}

#[test]
fn a_merge_under_load_loses_nothing_and_keeps_the_order_of_each_key() {
    reshard_under_load("merge", 4, |services| {
        let open = services.open_shards("s");
        services.merge("s", &open[0], &open[1]);
    });
}

#[test]
fn splits_and_merges_at_once_lose_nothing_and_keep_the_order_of_each_key() {
    reshard_under_load("both", 3, |services| {
        let open = services.open_shards("s");
        services.split("s", &open[0]);
        services.merge("s", &open[1], &open[2]);
    });
}

#[test]
fn a_child_that_crashes_ends_the_daemon_with_1_and_the_next_daemon_goes_on() {
    let services = Services::start();
    services.create_stream("s", 2);
    let put = numbered(6, 100);
    services.put("s", put.iter().cloned());
    let app = Application::new(&services, "crash", "s")
        .with("maxRecords", 40)
        .behaving("crash_at=100");
    let mut daemon = app.start();
    assert_eq!(daemon.wait(), 1);
    let stderr = daemon.stderr();
    assert!(
        stderr.contains("signal 9") || stderr.contains("SIGKILL") || stderr.contains("137"),
        "{stderr}"
    );
    let mut daemon = app.start();
    app.wait_for(&put);
    daemon.stop();
    assert_eq!(app.verdict(&put).delivered, 600);
}

#[test]
fn a_child_that_fails_is_started_again_where_that_is_wanted() {
    let services = Services::start();
    services.create_stream("s", 2);
    let put = numbered(6, 100);
    services.put("s", put.iter().cloned());
    let app = Application::new(&services, "restart", "s")
        .with("maxRecords", 40)
        .with("restartFailedChild", true)
        .behaving("exit_at=100");
    let mut daemon = app.start();
    app.wait_for(&put);
    assert_eq!(daemon.stop(), 143);
    assert_eq!(app.verdict(&put).delivered, 600);
}

#[test]
fn rubbish_on_stdout_changes_nothing() {
    let services = Services::start();
    services.create_stream("s", 1);
    let put = numbered(3, 100);
    services.put("s", put.iter().cloned());
    let app = Application::new(&services, "rubbish", "s").behaving("garbage noise_bytes=20000000");
    let mut daemon = app.start();
    app.wait_for(&put);
    assert_eq!(daemon.stop(), 143);
    assert_eq!(app.verdict(&put), Verdict::once(300));
}

#[test]
fn batches_of_ten_megabytes_pass_while_the_child_writes_too() {
    let services = Services::start();
    services.create_stream("s", 1);
    let text = "x".repeat(1_000_000);
    for number in 0..24 {
        services.put("s", [("key", format!("{number:04}{text}"))]);
    }
    let app = Application::new(&services, "large", "s").behaving("noise_bytes=300000 no_data");
    let mut daemon = app.start();
    until("24 records", || (app.records().len() == 24).then_some(()));
    let notes = app.notes();
    let batches = notes.iter().filter(|note| note.heard() == "processRecords");
    let largest = batches
        .map(|note| note.0["records"].as_array().unwrap().len())
        .max();
    assert!(
        largest >= Some(9),
        "a batch of nearly 10 MB, not {largest:?} records"
    );
    assert_eq!(daemon.stop(), 143);
}

#[test]
fn behind_tls_and_a_proxy_a_stream_is_delivered_also_when_the_connections_fall_silent() {
    let services = Services::start();
    services.create_stream("s", 2);
    let (front, proxy) = (Front::start(&services.kinesis), Proxy::start());
    let app = Application::new(&services, "tls", "s")
        .without("kinesisEndpoint")
        .with("kinesisEndpoint", front.endpoint())
        .with("kinesisClient.overrideConfiguration.apiCallTimeout", "PT2S")
        .environment("AWS_CA_BUNDLE", front.authority().to_str().expect("text"))
        .environment("HTTPS_PROXY", &proxy.endpoint())
        .environment("NO_PROXY", "");
    let put = numbered(10, 20);
    services.put("s", put[..100].iter().cloned());
    let mut daemon = app.start();
    app.wait_for(&put[..100]);
    front.freeze();
    services.put("s", put[100..].iter().cloned());
    app.wait_for(&put);
    assert_eq!(daemon.stop(), 143);
    assert_eq!(app.verdict(&put), Verdict::once(200));
    let connections = front.connections();
    let of_answers = connections.iter().filter(|protocol| protocol.is_empty()).count();
    assert!(of_answers > 0, "{connections:?}");
    assert!(
        connections.len() <= proxy.tunnels().len(),
        "none went around the proxy"
    );
}

#[test]
fn a_throttled_lease_table_is_survived_for_as_long_as_it_lasts() {
    let services = Services::start();
    services.create_stream("s", 2);
    let put = numbered(5, 400);
    let app = Application::new(&services, "throttled", "s").with("failoverTimeMillis", 5000);
    let mut daemon = app.start();
    services.put("s", put[..500].iter().cloned());
    app.wait_for(&put[..500]);
    services.add_faults(&json!([{
        "operation": "dynamodb.*", "error": "ProvisionedThroughputExceededException", "share": 1.0
    }]));
    let throttled_until = Instant::now() + Duration::from_secs(60);
    let mut at = 500;
    while Instant::now() < throttled_until {
        services.put("s", put[at..at + 20].iter().cloned());
        at += 20;
        std::thread::sleep(Duration::from_secs(1));
        assert!(daemon.is_running(), "the daemon lives on");
    }
    services.clear_faults();
    services.put("s", put[at..].iter().cloned());
    app.wait_for(&put);
    assert_eq!(daemon.stop(), 143);
    assert_eq!(app.verdict(&put).delivered, 2000);
    let notes = app.notes();
    let refused: BTreeSet<&str> = notes.iter().filter_map(|note| note.0["error"].as_str()).collect();
    assert!(
        refused.contains("ThrottlingException"),
        "the child is told what to do: {refused:?}"
    );
    assert!(
        refused
            .iter()
            .all(|name| ["ThrottlingException", "ShutdownException"].contains(name)),
        "{refused:?}"
    );
    let log = daemon.stderr();
    let mut repeated = log
        .lines()
        .filter(|line| line.contains("storing a checkpoint"))
        .peekable();
    assert!(repeated.peek().is_some(), "{log}");
    assert!(
        repeated.all(|line| line.contains("[shardId-")),
        "a line without its shard:\n{log}"
    );
}

#[test]
fn a_stream_that_throttles_and_fails_is_survived() {
    let services = Services::start();
    services.create_stream("s", 2);
    let put = numbered(5, 100);
    services.add_faults(&json!([
        {"operation": "kinesis.GetRecords", "error": "ProvisionedThroughputExceededException", "share": 0.3},
        {"operation": "kinesis.GetShardIterator", "error": "InternalFailure", "status": 500, "share": 0.3}
    ]));
    let app = Application::new(&services, "failing", "s");
    let mut daemon = app.start();
    for part in put.chunks(50) {
        services.put("s", part.iter().cloned());
        std::thread::sleep(Duration::from_millis(200));
    }
    app.wait_for(&put);
    assert_eq!(daemon.stop(), 143);
    assert_eq!(app.verdict(&put), Verdict::once(500));
}

#[test]
fn a_second_signal_ends_the_daemon_now_and_the_children_with_it() {
    let services = Services::start();
    services.create_stream("s", 1);
    services.put("s", numbered(1, 10));
    let app = Application::new(&services, "now", "s")
        .with("shutdownGraceMillis", 60_000)
        .behaving("slow_ms=50000");
    let mut daemon = app.start();
    until("the child is at work", || {
        app.notes()
            .iter()
            .any(|note| note.heard() == "initialize")
            .then_some(())
    });
    let child = app.notes()[0].pid();
    daemon.signal("INT");
    until("the daemon says that it stops", || {
        daemon.stderr().contains("stopping").then_some(())
    });
    assert!(daemon.is_running(), "the first signal waits for the child");
    let second = Instant::now();
    daemon.signal("INT");
    assert_eq!(daemon.wait(), 130);
    assert!(second.elapsed() < Duration::from_secs(20), "the second does not");
    until("the child is gone", || is_gone(child));
}

#[test]
fn a_lease_that_another_worker_takes_ends_with_lease_lost_and_no_other_word() {
    let services = Services::start();
    services.create_stream("s", 1);
    let put = numbered(1, 10);
    services.put("s", put.iter().cloned());
    let app = Application::new(&services, "taken", "s").with("failoverTimeMillis", 3000);
    let mut daemon = app.start();
    app.wait_for(&put);
    let shard = "shardId-000000000000";
    services.dynamodb(
        "UpdateItem",
        &json!({
            "TableName": "taken", "Key": {"leaseKey": {"S": shard}},
            "UpdateExpression": "SET leaseOwner = :thief ADD leaseCounter :one",
            "ExpressionAttributeValues": {":thief": {"S": "thief"}, ":one": {"N": "1"}}
        }),
    );
    let heard = ["initialize", "processRecords", "leaseLost", "eof"];
    until("the tenure ends", || {
        (app.heard(shard).len() >= heard.len()).then_some(())
    });
    assert_eq!(app.heard(shard)[..heard.len()], heard);
    assert!(daemon.is_running(), "a lost lease is no failure");
    assert_eq!(daemon.stop(), 143);
}

#[test]
fn a_shard_whose_end_was_not_checkpointed_is_offered_again_and_not_stuck() {
    let services = Services::start();
    services.create_stream("s", 1);
    let put = numbered(3, 60);
    services.put("s", put[..90].iter().cloned());
    let app = Application::new(&services, "end", "s").behaving("no_end_checkpoint=1");
    let mut daemon = app.start();
    app.wait_for(&put[..90]);
    services.split("s", &services.open_shards("s")[0]);
    services.put("s", put[90..].iter().cloned());
    app.wait_for(&put);
    let ends = app
        .notes()
        .iter()
        .filter(|note| note.heard() == "shardEnded")
        .count();
    assert_eq!(ends, 2, "the second child was asked too");
    assert!(daemon.stderr().contains("checkpoint"), "and the log says why");
    daemon.stop();
    assert_eq!(app.verdict(&put).delivered, 180);
}

#[test]
fn a_child_that_ignores_its_end_is_ended() {
    let services = Services::start();
    services.create_stream("s", 1);
    let put = numbered(1, 10);
    services.put("s", put.iter().cloned());
    let app = Application::new(&services, "stubborn", "s")
        .with("childExitTimeoutMillis", 300)
        .behaving("ignore_eof");
    let mut daemon = app.start();
    app.wait_for(&put);
    let child = app.notes()[0].pid();
    assert_eq!(daemon.stop(), 143);
    until("the child is gone", || is_gone(child));
}

#[test]
fn an_answer_that_takes_too_long_ends_the_daemon_with_1() {
    let services = Services::start();
    services.create_stream("s", 1);
    services.put("s", numbered(1, 10));
    let app = Application::new(&services, "timeout", "s")
        .with("timeoutInSeconds", 1)
        .behaving("slow_ms=60000");
    let mut daemon = app.start();
    assert_eq!(daemon.wait(), 1);
    assert!(
        daemon.stderr().contains("timeoutInSeconds"),
        "{}",
        daemon.stderr()
    );
}

#[test]
fn reading_starts_at_the_tip_or_at_a_time_where_that_is_configured() {
    let services = Services::start();
    services.create_stream("s", 1);
    let put = numbered(1, 20);
    services.put("s", put[..10].iter().cloned());
    // The property has a resolution of a second.
    std::thread::sleep(Duration::from_millis(2100));
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let latest = Application::new(&services, "latest", "s").with("initialPositionInStream", "LATEST");
    let timed = Application::new(&services, "timed", "s").with("initialPositionInStreamExtended", now);
    let (mut one, mut two) = (latest.start(), timed.start());
    for (app, daemon) in [(&latest, &one), (&timed, &two)] {
        until("the child is started", || {
            app.notes()
                .iter()
                .any(|n| n.heard() == "initialize")
                .then_some(())
        });
        // The first iterator is asked for while the child starts; the log says when the stream gave it.
        until("the shard is being read", || {
            daemon.stderr().contains("reading").then_some(())
        });
    }
    services.put("s", put[10..].iter().cloned());
    for app in [&latest, &timed] {
        until("ten records", || (app.records().len() >= 10).then_some(()));
        let texts: Vec<String> = app.records().iter().map(|record| record.text()).collect();
        assert_eq!(
            texts,
            (10..20).map(|number| number.to_string()).collect::<Vec<_>>()
        );
    }
    one.stop();
    two.stop();
}

#[test]
fn poison_in_the_properties_file_is_named_with_its_file() {
    let services = Services::start();
    services.create_stream("s", 1);
    for (key, value) in [
        ("timeoutInSeconds", "soon"),
        ("retrievalMode", "TELEPATHY"),
        ("initialPositionInStream", "AT_TIMESTAMP"),
        ("kinesisClient.httpClient", "x"),
        ("awsCredentialsProvider", "org.acme.Provider"),
        ("maxRecords", "20000"),
        ("executableName", "no-such-program-at-all"),
    ] {
        let app = Application::new(&services, "poison", "s").with(key, value);
        let mut daemon = app.start();
        assert_eq!(daemon.wait(), 1, "{key}");
        let stderr = daemon.stderr();
        assert!(stderr.contains(key), "{key}: {stderr}");
        assert!(stderr.contains("app.properties"), "{key}: {stderr}");
    }
    assert!(services.rows("poison").is_empty(), "nothing was begun");
}

#[test]
fn validate_ends_with_78_on_an_error_and_with_0_on_warnings() {
    let services = Services::start();
    let good = Application::new(&services, "good", "s").with("failoverTimeMilis", 1);
    let mut daemon = good.start_with(&["validate"]);
    assert_eq!(daemon.wait(), 0);
    let bad = Application::new(&services, "bad", "s").with("retrievalMode", "x");
    let mut daemon = bad.start_with(&["validate"]);
    assert_eq!(daemon.wait(), 78);
}

#[test]
fn the_childs_stderr_is_passed_on_once_with_its_shard() {
    let services = Services::start();
    services.create_stream("s", 1);
    services.put("s", numbered(1, 10));
    let app = Application::new(&services, "stderr", "s").behaving("stderr");
    let mut daemon = app.start();
    app.wait_for(&numbered(1, 10));
    daemon.stop();
    let stderr = daemon.stderr();
    let lines: Vec<&str> = stderr
        .lines()
        .filter(|line| line.contains("processed 10 records"))
        .collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    assert!(lines[0].contains("shardId-000000000000"), "{}", lines[0]);
}

/// Splits, merges, or both, while a producer writes.
fn reshard_under_load(name: &str, shards: u32, reshard: impl Fn(&Services)) {
    let services = Services::start();
    services.create_stream("s", shards);
    let put = numbered(20, 150);
    let app = Application::new(&services, name, "s")
        .with("failoverTimeMillis", 3000)
        .with("workerThreads", 4); // as on large machines
    let mut daemon = app.start();
    let third = put.len() / 3;
    services.put("s", put[..third].iter().cloned());
    reshard(&services);
    services.put("s", put[third..2 * third].iter().cloned());
    app.wait_for(&put[..third]);
    if name != "both" {
        reshard(&services);
    }
    services.put("s", put[2 * third..].iter().cloned());
    app.wait_for(&put);
    let verdict = app.verdict(&put);
    assert_eq!(
        verdict,
        Verdict::once(put.len()),
        "nothing failed, so nothing is repeated"
    );
    let notes = app.notes();
    let ended: Vec<&str> = notes
        .iter()
        .filter(|note| note.heard() == "shardEnded")
        .map(|note| note.shard())
        .collect();
    assert!(!ended.is_empty());
    for shard in ended {
        until("the child of a finished shard ends", || {
            (app.heard(shard).last().map(String::as_str) == Some("eof")).then_some(())
        });
    }
    let leases = services.leases(name);
    for shard in services.open_shards("s") {
        assert!(
            leases.contains_key(shard["ShardId"].as_str().unwrap()),
            "every open shard has its lease"
        );
    }
    daemon.stop();
}

fn is_gone(pid: u32) -> Option<()> {
    // A zombie still has a directory, but no command line.
    let command = std::fs::read(Path::new(&format!("/proc/{pid}/cmdline"))).unwrap_or_default();
    command.is_empty().then_some(())
}
