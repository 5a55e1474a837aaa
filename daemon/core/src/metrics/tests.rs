use super::*;

fn settings() -> MetricsSettings {
    MetricsSettings::new("app", "worker-1".into())
}

fn queue(settings: MetricsSettings) -> Queue {
    Queue::new(settings)
}

/// Adds one sample that must find room.
fn add(queue: &mut Queue, operation: Operation, of: Of<'_>, metric: Metric, value: f64) {
    assert!(queue.add(operation, of, metric, Statistics::of(value)));
}

/// What would be sent, for people: `name{dimension=value,…} sum/min/max/count unit`.
fn sent(queue: &mut Queue) -> Vec<String> {
    queue.drain().iter().map(shown).collect()
}

fn shown(entry: &Entry) -> String {
    let dimensions: Vec<String> = entry
        .dimensions
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let s = entry.statistics;
    format!(
        "{}{{{}}} {}/{}/{}/{} {:?}",
        entry.name,
        dimensions.join(","),
        s.sum,
        s.minimum,
        s.maximum,
        s.count,
        entry.unit
    )
}

#[test]
fn samples_of_one_metric_merge_into_a_statistic_set() {
    let mut queue = queue(settings());
    let shard = ShardId::from("shardId-7");
    for value in [0.0, 40.0, 2.0] {
        add(
            &mut queue,
            Operation::ProcessTask,
            Of::Shard(&shard),
            Metric::RECORDS_PROCESSED,
            value,
        );
    }
    assert_eq!(
        sent(&mut queue),
        ["RecordsProcessed{Operation=ProcessTask,ShardId=shardId-7} 42/0/40/3 Count"]
    );
}

#[test]
fn shards_and_operations_are_kept_apart() {
    let mut queue = queue(settings());
    let (a, b) = (ShardId::from("a"), ShardId::from("b"));
    add(
        &mut queue,
        Operation::ProcessTask,
        Of::Shard(&a),
        Metric::SUCCESS,
        1.0,
    );
    add(
        &mut queue,
        Operation::ProcessTask,
        Of::Shard(&b),
        Metric::SUCCESS,
        0.0,
    );
    add(
        &mut queue,
        Operation::LeaseAssignment,
        Of::Application,
        Metric::SUCCESS,
        1.0,
    );
    add(
        &mut queue,
        Operation::RenewAllLeases,
        Of::Worker,
        Metric::SUCCESS,
        1.0,
    );
    assert_eq!(
        sent(&mut queue),
        [
            "Success{Operation=ProcessTask,ShardId=a} 1/1/1/1 Count",
            "Success{Operation=ProcessTask,ShardId=b} 0/0/0/1 Count",
            "Success{Operation=LeaseAssignmentManager} 1/1/1/1 Count",
            "Success{Operation=RenewAllLeases,WorkerIdentifier=worker-1} 1/1/1/1 Count",
        ]
    );
}

#[test]
fn a_disabled_dimension_merges_what_it_told_apart() {
    let mut queue = queue(MetricsSettings {
        dimensions: EnabledDimensions::named(["Operation"]),
        ..settings()
    });
    for shard in ["a", "b"] {
        let shard = ShardId::from(shard);
        add(
            &mut queue,
            Operation::ProcessTask,
            Of::Shard(&shard),
            Metric::MILLIS_BEHIND_LATEST,
            5.0,
        );
    }
    assert_eq!(
        sent(&mut queue),
        ["MillisBehindLatest{Operation=ProcessTask} 10/5/5/2 Milliseconds"]
    );
}

#[test]
fn without_dimensions_everything_of_one_name_merges() {
    let mut queue = queue(MetricsSettings {
        dimensions: EnabledDimensions::named([]),
        ..settings()
    });
    let shard = ShardId::from("a");
    add(
        &mut queue,
        Operation::ProcessTask,
        Of::Shard(&shard),
        Metric::TIME,
        5.0,
    );
    add(
        &mut queue,
        Operation::RenewAllLeases,
        Of::Worker,
        Metric::TIME,
        3.0,
    );
    assert_eq!(sent(&mut queue), ["Time{} 8/3/5/2 Milliseconds"]);
}

#[test]
fn all_stands_for_every_dimension_and_unknown_names_for_none() {
    assert_eq!(EnabledDimensions::named(["ALL"]), EnabledDimensions::ALL);
    assert_eq!(
        EnabledDimensions::named(["WorkerIdentifier", "operation", "StreamId"]),
        EnabledDimensions {
            operation: false,
            shard: false,
            worker: true
        }
    );
}

#[test]
fn at_summary_level_details_are_left_out() {
    let mut queue = queue(MetricsSettings {
        level: Level::Summary,
        ..settings()
    });
    let shard = ShardId::from("a");
    add(
        &mut queue,
        Operation::ProcessTask,
        Of::Shard(&shard),
        Metric::GET_RECORDS_TIME,
        5.0,
    );
    add(
        &mut queue,
        Operation::ProcessTask,
        Of::Shard(&shard),
        Metric::TIME,
        5.0,
    );
    assert_eq!(
        sent(&mut queue),
        ["Time{Operation=ProcessTask,ShardId=a} 5/5/5/1 Milliseconds"]
    );
}

#[test]
fn a_full_queue_drops_what_is_new_and_merges_what_is_known() {
    let mut queue = queue(MetricsSettings {
        queue_max: 1,
        ..settings()
    });
    let (a, b) = (ShardId::from("a"), ShardId::from("b"));
    let one = Statistics::of(1.0);
    assert!(queue.add(Operation::ProcessTask, Of::Shard(&a), Metric::SUCCESS, one));
    assert!(!queue.add(Operation::ProcessTask, Of::Shard(&b), Metric::SUCCESS, one));
    assert!(queue.add(Operation::ProcessTask, Of::Shard(&a), Metric::SUCCESS, one));
    assert_eq!(
        sent(&mut queue),
        ["Success{Operation=ProcessTask,ShardId=a} 2/1/1/2 Count"]
    );
}

#[test]
fn a_flush_takes_the_oldest_two_hundred_and_the_rest_still_merges() {
    let mut queue = queue(settings());
    let shards: Vec<ShardId> = (0..250).map(|n| ShardId::from(format!("{n:03}"))).collect();
    for shard in &shards {
        add(
            &mut queue,
            Operation::ProcessTask,
            Of::Shard(shard),
            Metric::SUCCESS,
            1.0,
        );
    }
    let first = queue.drain();
    assert_eq!(
        (first.len(), first[0].dimensions[1].1.as_str()),
        (FLUSH_ENTRIES, "000")
    );
    add(
        &mut queue,
        Operation::ProcessTask,
        Of::Shard(&shards[249]),
        Metric::SUCCESS,
        0.0,
    );
    add(
        &mut queue,
        Operation::ProcessTask,
        Of::Shard(&shards[0]),
        Metric::SUCCESS,
        0.0,
    );
    let second = sent(&mut queue);
    assert_eq!(second.len(), 51);
    assert_eq!(
        second[49],
        "Success{Operation=ProcessTask,ShardId=249} 1/0/1/2 Count"
    );
    assert_eq!(
        second[50],
        "Success{Operation=ProcessTask,ShardId=000} 0/0/0/1 Count"
    );
    assert!(queue.is_empty());
}

#[test]
fn one_name_has_one_unit() {
    // Merged over all dimensions, two units under one name could not be told apart.
    let mut units: BTreeMap<&str, Unit> = BTreeMap::new();
    for metric in Metric::ALL {
        assert_eq!(
            *units.entry(metric.name).or_insert(metric.unit),
            metric.unit,
            "{}",
            metric.name
        );
    }
}

#[test]
fn times_are_in_milliseconds_and_successes_are_counts() {
    for metric in Metric::ALL {
        let unit = match metric.name.rsplit('.').next() {
            Some("Time") => Unit::Milliseconds,
            Some("Success") => Unit::Count,
            _ => continue,
        };
        assert_eq!(metric.unit, unit, "{}", metric.name);
    }
}

#[test]
fn a_checkpoint_counts_under_the_task_that_it_ends() {
    assert_eq!(checkpoint_operation(&Position::ShardEnd), Operation::ShutdownTask);
    assert_eq!(
        checkpoint_operation(&Position::TrimHorizon),
        Operation::ProcessTask
    );
}

#[test]
fn the_fleet_supports_what_its_weakest_owner_supports() {
    let report = |worker: &str, said_s| WorkerMetrics::unmeasured(worker.into(), said_s);
    let (a, b) = (WorkerId::from("a"), WorkerId::from("b"));
    let reports = [report("a", 1000), report("b", 800)];
    let code = |owners: &[&WorkerId], now_s| {
        let owners = owners.iter().copied().collect();
        fleet_min_support_code(&owners, &reports, now_s, Duration::from_secs(90))
    };
    assert_eq!(code(&[], 1000), None);
    assert_eq!(code(&[&a], 1000), Some(1));
    assert_eq!(code(&[&a, &b], 1000), Some(0), "b has not said so lately");
    assert_eq!(code(&[&a, &"unknown".into()], 1000), Some(0));
}
