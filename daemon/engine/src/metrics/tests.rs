use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use multilangd_core::ids::ShardId;

use super::*;

/// A CloudWatch that notes what it gets, refuses it, or never answers.
#[derive(Default)]
struct FakeSink {
    puts: Mutex<Vec<Vec<String>>>,
    refuses: AtomicBool,
    hangs: AtomicBool,
}

#[async_trait]
impl Sink for FakeSink {
    async fn put(&self, namespace: &str, entries: &[Entry]) -> Result<(), BoxError> {
        assert_eq!(namespace, "app");
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let names = entries
            .iter()
            .map(|entry| format!("{} {}", entry.name, entry.statistics.sum))
            .collect();
        self.puts.lock().unwrap().push(names);
        if self.refuses.load(Ordering::Relaxed) {
            return Err("throttled".into());
        }
        Ok(())
    }
}

impl FakeSink {
    /// The entries of each put so far.
    fn sizes(&self) -> Vec<usize> {
        self.puts.lock().unwrap().iter().map(Vec::len).collect()
    }
}

struct Published {
    metrics: Metrics,
    sink: Arc<FakeSink>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn publish(sink: FakeSink) -> Published {
    let metrics = Metrics::new(MetricsSettings::new("app", "w".into()));
    let (sink, stop) = (Arc::new(sink), CancellationToken::new());
    let task = tokio::spawn(metrics.clone().publish(sink.clone(), stop.clone()));
    Published {
        metrics,
        sink,
        stop,
        task,
    }
}

impl Published {
    fn shard_sample(&self, number: usize) {
        let shard = ShardId::from(format!("{number:05}"));
        self.metrics.add(
            Operation::ProcessTask,
            Of::Shard(&shard),
            Metric::RECORDS_PROCESSED,
            1.0,
        );
    }

    fn waiting(&self) -> usize {
        self.metrics.0.as_ref().unwrap().lock().len()
    }
}

#[tokio::test(start_paused = true)]
async fn samples_are_gathered_for_the_buffer_time_and_sent_merged() {
    let published = publish(FakeSink::default());
    for _ in 0..3 {
        published.shard_sample(1);
        sleep(Duration::from_secs(3)).await;
    }
    assert_eq!(published.sink.sizes(), [] as [usize; 0]);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(
        *published.sink.puts.lock().unwrap(),
        [["RecordsProcessed 3".to_owned()]]
    );
}

#[tokio::test(start_paused = true)]
async fn two_hundred_entries_are_sent_at_once_in_portions_of_twenty() {
    let published = publish(FakeSink::default());
    for number in 0..199 {
        published.shard_sample(number);
    }
    sleep(Duration::from_millis(1)).await;
    assert_eq!(published.sink.sizes(), [] as [usize; 0]);
    published.shard_sample(199);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(published.sink.sizes(), [20; 10]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_the_stop_is_sent() {
    let published = publish(FakeSink::default());
    for number in 0..450 {
        published.shard_sample(number);
    }
    published.stop.cancel();
    published.task.await.unwrap();
    assert_eq!(published.sink.sizes().iter().sum::<usize>(), 450);
}

#[tokio::test(start_paused = true)]
async fn a_silent_sink_holds_up_the_exit_for_two_seconds_at_most() {
    let published = publish(FakeSink {
        hangs: true.into(),
        ..FakeSink::default()
    });
    published.shard_sample(1);
    let began = Instant::now();
    published.stop.cancel();
    published.task.await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_dropped_and_the_next_is_tried() {
    let published = publish(FakeSink {
        refuses: true.into(),
        ..FakeSink::default()
    });
    for _ in 0..3 {
        published.shard_sample(1);
        sleep(Duration::from_secs(11)).await;
    }
    assert_eq!(
        *published.sink.puts.lock().unwrap(),
        [
            ["RecordsProcessed 1".to_owned()],
            ["RecordsProcessed 1".to_owned()],
            ["RecordsProcessed 1".to_owned()]
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_sink_neither_slows_those_who_note_nor_grows_memory() {
    let published = publish(FakeSink {
        hangs: true.into(),
        ..FakeSink::default()
    });
    let began = Instant::now();
    for round in 0..5 {
        for number in 0..20_000 {
            published.shard_sample(number);
        }
        assert_eq!(published.waiting(), 10_000, "round {round}");
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(began.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_scope_is_noted_as_a_whole() {
    let published = publish(FakeSink::default());
    let shard = ShardId::from("a");
    let mut scope = published.metrics.scope(Operation::ProcessTask, Of::Shard(&shard));
    scope.add(Metric::DATA_BYTES_PROCESSED, 0.0);
    scope.add_all(Metric::DATA_BYTES_PROCESSED, [5.0, 7.0]);
    sleep(Duration::from_millis(30)).await;
    assert_eq!(published.waiting(), 0);
    scope.end(true);
    let entries = published.metrics.0.as_ref().unwrap().lock().drain();
    let sums: BTreeMap<&str, (f64, f64)> = entries
        .iter()
        .map(|it| (it.name, (it.statistics.sum, it.statistics.count)))
        .collect();
    assert_eq!(
        sums,
        BTreeMap::from([
            ("DataBytesProcessed", (12.0, 3.0)),
            ("Success", (1.0, 1.0)),
            ("Time", (30.0, 1.0)),
        ])
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_is_a_success_of_zero() {
    let published = publish(FakeSink::default());
    let shard = ShardId::from("a");
    let failing = async {
        sleep(Duration::from_millis(7)).await;
        Err::<(), &str>("no")
    };
    let result = published
        .metrics
        .measure(
            Operation::ProcessTask,
            Of::Shard(&shard),
            Call::GET_RECORDS,
            failing,
        )
        .await;
    assert_eq!(result, Err("no"));
    published.stop.cancel();
    published.task.await.unwrap();
    assert_eq!(
        *published.sink.puts.lock().unwrap(),
        [[
            "KinesisDataFetcher.getRecords.Success 0".to_owned(),
            "KinesisDataFetcher.getRecords.Time 7".to_owned()
        ]]
    );
}

#[tokio::test(start_paused = true)]
async fn where_metrics_are_off_nothing_waits_and_nothing_is_published() {
    let metrics = Metrics::off();
    let mut scope = metrics.scope(Operation::LeaseDiscovery, Of::Worker);
    scope.add(Metric::NEW_LEASES_DISCOVERED, 1.0);
    assert_eq!(scope.samples.capacity(), 0);
    scope.end(true);
    let sink = Arc::new(FakeSink::default());
    metrics.publish(sink.clone(), CancellationToken::new()).await;
    assert_eq!(sink.sizes(), [] as [usize; 0]);
}
