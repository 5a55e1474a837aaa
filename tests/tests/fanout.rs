//! The promises of enhanced fan-out, kept by real processes: the daemon, its local services, and children.

use std::collections::BTreeSet;
use std::time::Duration;

use multilangd_tests::daemon::{Application, Running, Services, until};
use multilangd_tests::oracle::{Verdict, numbered};
use multilangd_tests::tls::{Front, Proxy};
use serde_json::{Value, json};

#[test]
fn a_stream_is_delivered_by_fan_out_where_no_polling_key_is_set() {
    let services = Services::start();
    services.create_stream("s", 2);
    let put = numbered(10, 100);
    services.put("s", put[..500].iter().cloned());
    let app = Application::new(&services, "plain", "s")
        .without("idleTimeBetweenReadsInMillis")
        .without("retrievalMode");
    let mut daemon = app.start();
    app.wait_for(&put[..500]);
    services.put("s", put[500..].iter().cloned());
    app.wait_for(&put);
    assert_eq!(daemon.stop(), 143);
    assert_eq!(app.verdict(&put), Verdict::once(1000));
    let stderr = daemon.stderr();
    let why = "retrievalMode DEFAULT: no polling property set, using enhanced fan-out, consumer 'plain'";
    assert_eq!(stderr.matches(why).count(), 1, "{stderr}");
    assert_eq!(consumers(&services, "s"), ["plain"]);
    for (shard, lease) in services.leases("plain") {
        let last = app.records().into_iter().rfind(|record| record.shard == shard);
        assert_eq!(
            lease["checkpoint"]["S"],
            last.expect("records").sequence_number,
            "checkpoints are sequence numbers of records, never of continuations"
        );
    }
}

#[test]
fn what_was_checkpointed_is_not_delivered_again_by_the_next_daemon() {
    let services = Services::start();
    services.create_stream("s", 1);
    let put = numbered(1, 100);
    services.put("s", put[..50].iter().cloned());
    let app = fan_out(&services, "resume");
    let mut daemon = app.start();
    app.wait_for(&put[..50]);
    daemon.stop();
    services.put("s", put[50..].iter().cloned());
    // The old daemon's subscription is not five seconds old.
    let mut daemon = app.start();
    app.wait_for(&put);
    daemon.stop();
    assert_eq!(app.verdict(&put), Verdict::once(100));
    assert_eq!(loud_lines(&daemon), Vec::<String>::new());
}

#[test]
fn subscriptions_that_end_after_two_seconds_leave_no_gap_and_repeat_nothing() {
    let services = Services::start_with(&["--memory", "--subscription-life", "2"]);
    services.create_stream("s", 2);
    let put = numbered(4, 300);
    let app = fan_out(&services, "lives").environment("MULTILANGD_LOG", "debug");
    let mut daemon = app.start();
    // One record every 30 ms, across about seven subscriptions of each shard.
    for record in &put {
        services.put("s", [record.clone()]);
        std::thread::sleep(Duration::from_millis(30));
    }
    app.wait_for(&put);
    assert_eq!(app.verdict(&put), Verdict::once(1200));
    let ends = daemon.stderr().matches("ended=Completed").count();
    assert!(ends >= 8, "only {ends} subscriptions ended");
    daemon.stop();
    assert_eq!(loud_lines(&daemon), Vec::<String>::new());
}

#[test]
fn splits_and_merges_under_load_lose_and_repeat_nothing() {
    let services = Services::start();
    services.create_stream("s", 3);
    let put = numbered(20, 150);
    let app = fan_out(&services, "reshard").with("failoverTimeMillis", 3000);
    let mut daemon = app.start();
    let third = put.len() / 3;
    services.put("s", put[..third].iter().cloned());
    let open = services.open_shards("s");
    services.split("s", &open[0]);
    services.merge("s", &open[1], &open[2]);
    services.put("s", put[third..2 * third].iter().cloned());
    app.wait_for(&put[..third]);
    services.split("s", &services.open_shards("s")[2]);
    services.put("s", put[2 * third..].iter().cloned());
    app.wait_for(&put);
    assert_eq!(app.verdict(&put), Verdict::once(put.len()));
    let ended = app
        .notes()
        .iter()
        .filter(|note| note.heard() == "shardEnded")
        .count();
    assert_eq!(ended, 4);
    daemon.stop();
    assert_eq!(loud_lines(&daemon), Vec::<String>::new());
}

#[test]
fn a_daemon_killed_under_load_is_followed_by_one_that_goes_on_without_noise() {
    let services = Services::start();
    services.create_stream("s", 2);
    let put = numbered(8, 250);
    let app = fan_out(&services, "killed").with("failoverTimeMillis", 2000);
    let mut daemon = app.start();
    services.put("s", put[..600].iter().cloned());
    until("both shards are being worked on", || {
        let shards: BTreeSet<String> = app.records().into_iter().map(|record| record.shard).collect();
        (shards.len() == 2).then_some(())
    });
    daemon.signal("KILL");
    daemon.wait();
    services.put("s", put[600..].iter().cloned());
    let mut daemon = app.start();
    app.wait_for(&put);
    daemon.stop();
    assert_eq!(app.verdict(&put).delivered, 2000);
    assert_eq!(loud_lines(&daemon), Vec::<String>::new());
}

#[test]
fn a_slow_child_costs_neither_memory_nor_records() {
    let services = Services::start();
    services.create_stream("s", 1);
    // 80 MB for a child that takes its time.
    let text = "x".repeat(100_000);
    let count = 800;
    for number in 0..count / 20 {
        let records = (0..20).map(|place| ("key", format!("{:06} {text}", number * 20 + place)));
        services.put("s", records);
    }
    let app = fan_out(&services, "slow")
        .environment("MULTILANGD_LOG", "debug")
        .behaving("slow_ms=400 no_data");
    let mut daemon = app.start();
    let mut most_kib = 0;
    until("every record", || {
        most_kib = most_kib.max(daemon.resident_kib());
        (app.records().len() >= count).then_some(())
    });
    assert_eq!(app.records().len(), count, "none twice");
    assert!(
        most_kib < 120 * 1024,
        "the daemon needed {} MiB for a queue of 8 MiB",
        most_kib / 1024
    );
    daemon.stop();
    assert_eq!(loud_lines(&daemon), Vec::<String>::new());
}

#[test]
fn a_subscription_given_up_for_a_child_that_sleeps_is_opened_again_where_it_stood() {
    let services = Services::start();
    services.create_stream("s", 1);
    let text = "x".repeat(500_000);
    for number in 0..40 {
        services.put("s", [("key", format!("{number:06} {text}"))]);
    }
    // Each batch takes longer than a subscription is held for nothing.
    let app = fan_out(&services, "sleepy")
        .environment("MULTILANGD_LOG", "debug")
        .behaving("slow_ms=3000 no_data");
    let mut daemon = app.start();
    until("every record", || (app.records().len() >= 40).then_some(()));
    let records = app.records();
    assert_eq!(records.len(), 40, "none twice");
    assert!(records.is_sorted_by_key(|record| record.sequence_number.clone()));
    assert!(daemon.stderr().contains("ended=Stalled"), "{}", daemon.stderr());
    daemon.stop();
    assert_eq!(loud_lines(&daemon), Vec::<String>::new());
}

#[test]
fn two_hundred_shards_are_read_by_one_worker() {
    let services = Services::start();
    services.create_stream("s", 200);
    // Two hundred interpreters start at once here: the leases must outlive that.
    let app = fan_out(&services, "many").with("failoverTimeMillis", 120_000);
    let mut daemon = app.start();
    until("every shard is subscribed to", || {
        (daemon.stderr().matches("reading by enhanced fan-out").count() >= 200).then_some(())
    });
    let put = numbered(1000, 2);
    services.put("s", put.iter().cloned());
    app.wait_for(&put);
    assert_eq!(app.verdict(&put), Verdict::once(2000));
    let shards: BTreeSet<String> = app.records().into_iter().map(|record| record.shard).collect();
    assert!(shards.len() > 150, "records of {} shards", shards.len());
    daemon.signal("KILL");
    daemon.wait();
}

#[test]
fn behind_tls_as_at_aws_many_shards_share_few_http_2_connections() {
    let services = Services::start();
    services.create_stream("s", 24);
    let front = Front::start(&services.kinesis);
    let app = fan_out(&services, "tls")
        .without("kinesisEndpoint")
        .with("kinesisEndpoint", front.endpoint())
        .with("failoverTimeMillis", 60_000)
        .environment("AWS_CA_BUNDLE", front.authority().to_str().expect("text"));
    let mut daemon = app.start();
    until("every shard is subscribed to", || {
        (daemon.stderr().matches("reading by enhanced fan-out").count() >= 24).then_some(())
    });
    let put = numbered(100, 3);
    services.put("s", put.iter().cloned());
    app.wait_for(&put);
    assert_eq!(daemon.stop(), 143);
    assert_eq!(app.verdict(&put), Verdict::once(300));
    assert_eq!(loud_lines(&daemon), Vec::<String>::new());
    let connections = front.connections();
    assert!(
        connections.iter().all(|protocol| protocol == "h2"),
        "{connections:?}"
    );
    // Two for the subscriptions; the other calls have a few of their own.
    assert!(connections.len() < 12, "{} connections", connections.len());
}

#[test]
fn subscriptions_go_through_the_proxy_of_the_environment() {
    let services = Services::start();
    services.create_stream("s", 1);
    let front = Front::start(&services.kinesis);
    let proxy = Proxy::start();
    let app = fan_out(&services, "proxy")
        .without("kinesisEndpoint")
        .with("kinesisEndpoint", front.endpoint())
        .environment("AWS_CA_BUNDLE", front.authority().to_str().expect("text"))
        .environment("HTTPS_PROXY", &proxy.endpoint())
        .environment("NO_PROXY", "");
    let put = numbered(5, 10);
    services.put("s", put.iter().cloned());
    let mut daemon = app.start();
    app.wait_for(&put);
    assert_eq!(daemon.stop(), 143);
    assert_eq!(app.verdict(&put), Verdict::once(50));
    assert_eq!(loud_lines(&daemon), Vec::<String>::new());
    assert_eq!(
        proxy.tunnels().len(),
        front.connections().len(),
        "none went around it"
    );
}

#[test]
fn a_subscription_that_is_lost_at_any_step_is_opened_again_where_it_stood() {
    let services = Services::start_with(&["--memory", "--subscription-life", "5"]);
    services.create_stream("s", 2);
    let put = numbered(5, 200);
    let operation = "kinesis.SubscribeToShard";
    services.add_faults(&json!([
        {"operation": "kinesis.SubscribeToShardEvent", "cut": true, "share": 0.2},
        {"operation": "kinesis.SubscribeToShardEvent", "error": "InternalFailureException", "share": 0.1},
        {"operation": operation, "cut": true, "share": 0.2},
        {"operation": operation, "unanswered": true, "share": 0.2},
        {"operation": operation, "error": "InternalFailure", "status": 500, "share": 0.2},
        {"operation": operation, "error": "LimitExceededException", "share": 0.2},
        {"operation": operation, "error": "ResourceInUseException", "share": 0.2}
    ]));
    let app = fan_out(&services, "faults");
    let mut daemon = app.start();
    for part in put.chunks(20) {
        services.put("s", part.iter().cloned());
        std::thread::sleep(Duration::from_millis(500));
    }
    services.clear_faults();
    app.wait_for(&put);
    assert_eq!(daemon.stop(), 143);
    assert_eq!(app.verdict(&put), Verdict::once(1000));
}

#[test]
fn a_consumer_whose_arn_is_given_needs_no_rights_but_to_subscribe() {
    let services = Services::start();
    services.create_stream("s", 1);
    let registered = register(&services, "s", "ours");
    services.add_faults(&json!([
        {"operation": "kinesis.DescribeStreamConsumer", "error": "AccessDeniedException", "share": 1.0},
        {"operation": "kinesis.RegisterStreamConsumer", "error": "AccessDeniedException", "share": 1.0},
        {"operation": "kinesis.DescribeStreamSummary", "error": "AccessDeniedException", "share": 1.0}
    ]));
    let app = fan_out(&services, "arn").with("fanoutConfig.consumerArn", &registered);
    let put = numbered(1, 10);
    services.put("s", put.iter().cloned());
    let mut daemon = app.start();
    app.wait_for(&put);
    daemon.stop();
    assert_eq!(app.verdict(&put), Verdict::once(10));
}

#[test]
fn two_workers_that_start_at_once_register_one_consumer() {
    let services = Services::start();
    services.create_stream("s", 4);
    services.add_faults(&json!([
        {"operation": "kinesis.DescribeStreamConsumer", "error": "LimitExceededException", "share": 0.4}
    ]));
    let app = fan_out(&services, "two")
        .with("fanoutConfig.consumerName", "shared")
        .with("fanoutConfig.retryBackoffMillis", 200)
        .with("leaseAssignmentIntervalMillis", 1000);
    let put = numbered(8, 50);
    services.put("s", put.iter().cloned());
    let mut daemons = [app.start(), app.start()];
    app.wait_for(&put);
    assert_eq!(consumers(&services, "s"), ["shared"]);
    for daemon in &mut daemons {
        daemon.stop();
    }
    assert_eq!(app.verdict(&put).delivered, 400);
}

#[test]
fn a_consumer_that_cannot_be_had_is_asked_for_until_it_can_and_the_log_says_what_to_do() {
    let services = Services::start();
    services.create_stream("s", 1);
    services.add_faults(&json!([
        {"operation": "kinesis.RegisterStreamConsumer", "error": "AccessDeniedException", "share": 1.0}
    ]));
    let put = numbered(1, 10);
    services.put("s", put.iter().cloned());
    let app = fan_out(&services, "denied");
    let mut daemon = app.start();
    until("the log says what to do", || {
        daemon
            .stderr()
            .contains("allow kinesis:RegisterStreamConsumer")
            .then_some(())
    });
    services.clear_faults();
    app.wait_for(&put);
    daemon.stop();
    assert_eq!(app.verdict(&put), Verdict::once(10));
}

#[test]
fn a_consumer_that_is_deregistered_under_a_running_worker_ends_no_shard() {
    let services = Services::start();
    services.create_stream("s", 1);
    let put = numbered(1, 20);
    services.put("s", put[..10].iter().cloned());
    let app = fan_out(&services, "gone");
    let mut daemon = app.start();
    app.wait_for(&put[..10]);
    let arn = stream_arn(&services, "s");
    services.kinesis(
        "DeregisterStreamConsumer",
        &json!({"StreamARN": arn, "ConsumerName": "gone"}),
    );
    services.put("s", put[10..].iter().cloned());
    app.wait_for(&put);
    daemon.stop();
    assert_eq!(app.verdict(&put), Verdict::once(20));
    assert_eq!(consumers(&services, "s"), ["gone"]);
    let ended = app.notes().iter().any(|note| note.heard() == "shardEnded");
    assert!(!ended, "no shard was taken for finished");
}

fn fan_out(services: &Services, name: &str) -> Application {
    Application::new(services, name, "s")
        .without("idleTimeBetweenReadsInMillis")
        .without("retrievalMode")
        .with("retrievalMode", "FANOUT")
}

/// Warnings and errors of a daemon.
fn loud_lines(daemon: &Running) -> Vec<String> {
    daemon
        .stderr()
        .lines()
        .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "))
        .map(str::to_owned)
        .collect()
}

fn stream_arn(services: &Services, stream: &str) -> Value {
    let summary = services.kinesis("DescribeStreamSummary", &json!({"StreamName": stream}));
    summary["StreamDescriptionSummary"]["StreamARN"].clone()
}

fn register(services: &Services, stream: &str, name: &str) -> String {
    let registered = services.kinesis(
        "RegisterStreamConsumer",
        &json!({"StreamARN": stream_arn(services, stream), "ConsumerName": name}),
    );
    registered["Consumer"]["ConsumerARN"]
        .as_str()
        .expect("an ARN")
        .to_owned()
}

fn consumers(services: &Services, stream: &str) -> Vec<String> {
    let listed = services.kinesis(
        "ListStreamConsumers",
        &json!({"StreamARN": stream_arn(services, stream)}),
    );
    let listed = listed["Consumers"].as_array().expect("a list");
    listed
        .iter()
        .map(|it| it["ConsumerName"].as_str().expect("text").to_owned())
        .collect()
}
