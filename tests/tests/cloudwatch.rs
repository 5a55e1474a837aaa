//! Metrics of real daemons, at a CloudWatch in every mood.

use std::time::{Duration, Instant};

use multilangd_tests::cloudwatch::{CloudWatch, Mood};
use multilangd_tests::daemon::{Application, Services, until};
use multilangd_tests::oracle::numbered;

const LOST: &str = "metrics could not be sent and are dropped";

#[test]
fn metrics_reach_cloudwatch_under_the_applications_name() {
    let services = Services::start();
    services.create_stream("s", 1);
    services.put("s", numbered(1, 10));
    let cloudwatch = CloudWatch::start(Mood::Answering);
    let app = publishing(Application::new(&services, "measured", "s"), &cloudwatch);
    let mut daemon = app.start();
    until("the batch is counted", || {
        let names = [
            "measured",
            "RecordsProcessed",
            "MillisBehindLatest",
            "CurrentLeases",
            "shardId-000000000000",
        ];
        names.iter().all(|name| cloudwatch.was_told(name)).then_some(())
    });
    let path = "/service/GraniteServiceVersion20100801/operation/PutMetricData";
    assert!(cloudwatch.paths().iter().all(|it| it == path));
    daemon.stop();
    assert!(
        cloudwatch.was_told("RecordProcessor.shutdown.Time"),
        "the last ones too"
    );
}

#[test]
fn a_cloudwatch_that_never_answers_slows_nothing_and_grows_nothing() {
    let services = Services::start();
    services.create_stream("s", 4);
    let silent = CloudWatch::start(Mood::Silent);
    let app = publishing(Application::new(&services, "silent", "s"), &silent).with("metricsMaxQueueSize", 10);
    let mut daemon = app.start();
    services.put("s", numbered(8, 10));
    wait_for(&app, 80);
    let memory = daemon.resident_kib();
    let began = Instant::now();
    for round in 2..=10 {
        services.put("s", numbered(8, 10));
        wait_for(&app, 80 * round);
    }
    // Ten rounds at 200 ms between two reads; one put at CloudWatch alone would take 5 s.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    until("the outage is noticed", || {
        (silent.requests() > 1 && daemon.stderr().contains(LOST)).then_some(())
    });
    let grown_kb = daemon.resident_kib().saturating_sub(memory);
    assert!(grown_kb < 32 * 1024, "grown by {grown_kb} KiB");
    let began = Instant::now();
    assert_eq!(daemon.stop(), 143);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(daemon.stderr().matches(LOST).count(), 1, "said once");
    assert_eq!(daemon.stderr().matches("too many metrics wait").count(), 1);
}

#[test]
fn a_throttling_cloudwatch_is_named_once_and_so_is_its_recovery() {
    let services = Services::start();
    services.create_stream("s", 1);
    let cloudwatch = CloudWatch::start(Mood::Throttling);
    let app = publishing(Application::new(&services, "throttled", "s"), &cloudwatch);
    let mut daemon = app.start();
    services.put("s", numbered(1, 10));
    wait_for(&app, 10);
    until("the throttling is noticed", || {
        daemon.stderr().contains(LOST).then_some(())
    });
    assert!(
        daemon
            .stderr()
            .contains("PutMetricData on CloudWatch at http://127.0.0.1")
            && daemon.stderr().contains("Throttling"),
        "{}",
        daemon.stderr()
    );
    cloudwatch.set(Mood::Answering);
    until("it is over", || {
        daemon.stderr().contains("metrics are sent again").then_some(())
    });
    daemon.stop();
    assert_eq!(daemon.stderr().matches(LOST).count(), 1, "said once");
}

#[test]
fn a_local_run_publishes_only_where_an_endpoint_is_given() {
    let app = Application::local("nowhere", "s").with("metricsLevel", "DETAILED");
    let mut daemon = app.start_with(&["run", "--local", "--memory"]);
    until("it is said", || {
        daemon
            .stderr()
            .contains("metrics go nowhere unless cloudWatchEndpoint is set")
            .then_some(())
    });
    daemon.stop();
    let cloudwatch = CloudWatch::start(Mood::Answering);
    let app = publishing(Application::local("somewhere", "s"), &cloudwatch);
    let mut daemon = app.start_with(&["run", "--local", "--memory"]);
    until("metrics come", || cloudwatch.was_told("somewhere").then_some(()));
    daemon.stop();
}

/// An application that publishes everything, twice a second.
fn publishing(app: Application, cloudwatch: &CloudWatch) -> Application {
    app.with("metricsLevel", "DETAILED")
        .with("metricsBufferTimeMillis", 500)
        .with("cloudWatchEndpoint", &cloudwatch.endpoint)
}

fn wait_for(app: &Application, records: usize) {
    until("every record is delivered", || {
        (app.records().len() >= records).then_some(())
    });
}
