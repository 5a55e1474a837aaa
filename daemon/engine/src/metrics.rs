//! Metrics on their way out: noted where things happen, sent by one task of their own (`consuming.md 7`).
//!
//! Owns the waiting samples. Never makes anybody wait for CloudWatch, and never keeps more than
//! `metricsMaxQueueSize` entries: an outage there costs samples and nothing else. Names and units are in
//! `core::metrics`.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use multilangd_core::metrics::{
    Call, Entry, FLUSH_ENTRIES, Metric, MetricsSettings, Of, Operation, PUT_ENTRIES_MAX, Queue, Statistics,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::stream::BoxError;

#[cfg(test)]
mod tests;

/// One PutMetricData is given up after this (`CloudWatchMetricsPublisher`).
const PUT_TIME_MAX: Duration = Duration::from_secs(5);
/// The last metrics of a worker must not hold up its exit for longer than this.
const LAST_FLUSH_MAX: Duration = Duration::from_secs(2);

/// Where metrics go.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// PutMetricData with at most [`PUT_ENTRIES_MAX`] entries. What fails is dropped, not repeated by the caller.
    async fn put(&self, namespace: &str, entries: &[Entry]) -> Result<(), BoxError>;
}

/// The metrics of a worker. Cheap to clone; costs nothing where they are off.
#[derive(Clone, Default)]
pub struct Metrics(Option<Arc<Inner>>);

struct Inner {
    queue: Mutex<Queue>,
    settings: MetricsSettings,
    /// There is enough to send.
    enough: Notify,
    /// Samples that found no room since the last flush.
    dropped: AtomicU64,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "Metrics(on)"
        } else {
            "Metrics(off)"
        })
    }
}

impl Metrics {
    /// Nothing is noted (`metricsLevel = NONE`).
    pub fn off() -> Self {
        Self(None)
    }

    /// Everything that `settings` want is noted, and waits for [`Metrics::publish`].
    pub fn new(settings: MetricsSettings) -> Self {
        Self(Some(Arc::new(Inner {
            queue: Mutex::new(Queue::new(settings.clone())),
            settings,
            enough: Notify::new(),
            dropped: AtomicU64::new(0),
        })))
    }

    /// One sample.
    pub fn add(&self, operation: Operation, of: Of<'_>, metric: Metric, value: f64) {
        if let Some(inner) = &self.0 {
            inner.note(operation, of, &[(metric, Statistics::of(value))]);
        }
    }

    /// One sample: milliseconds since then.
    pub fn time(&self, operation: Operation, of: Of<'_>, metric: Metric, since: Instant) {
        self.add(operation, of, metric, millis(since));
    }

    /// The success and the time of something that began then.
    pub fn call(&self, operation: Operation, of: Of<'_>, call: Call, is_success: bool, since: Instant) {
        if let Some(inner) = &self.0 {
            inner.note(operation, of, &call_samples(call, is_success, since));
        }
    }

    /// The success and the time of a future; nothing where it is dropped.
    pub async fn measure<T, E>(
        &self,
        operation: Operation,
        of: Of<'_>,
        call: Call,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let began = Instant::now();
        let result = future.await;
        self.call(operation, of, call, result.is_ok(), began);
        result
    }

    /// Begins a task that has several metrics, which are noted together.
    pub fn scope<'a>(&self, operation: Operation, of: Of<'a>) -> Scope<'a> {
        Scope {
            metrics: self.clone(),
            operation,
            of,
            began: Instant::now(),
            samples: Vec::new(),
        }
    }

    /// Sends what waits: after the buffer time, or as soon as it is enough, and all of it within two seconds after
    /// `stop`. Returns then.
    pub async fn publish(self, sink: Arc<dyn Sink>, stop: CancellationToken) {
        let Some(inner) = self.0 else { return };
        let too_late = async {
            stop.cancelled().await;
            sleep(LAST_FLUSH_MAX).await;
        };
        tokio::select! {
            biased;
            () = inner.publish(sink.as_ref(), &stop) => {}
            () = too_late => {
                let entries = inner.lock().len();
                warn!(entries, "the last metrics could not be sent in time and are dropped");
            }
        }
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, operation: Operation, of: Of<'_>, samples: &[(Metric, Statistics)]) {
        let mut dropped = 0;
        let mut queue = self.lock();
        for (metric, statistics) in samples {
            dropped += u64::from(!queue.add(operation, of, *metric, *statistics));
        }
        let is_enough = queue.len() >= FLUSH_ENTRIES;
        drop(queue);
        if dropped > 0 {
            self.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
        if is_enough {
            self.enough.notify_one();
        }
    }

    async fn publish(&self, sink: &dyn Sink, stop: &CancellationToken) {
        let mut outage = Outage::default();
        let mut due = Instant::now() + self.settings.buffer_time;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = sleep_until(due) => {}
                () = self.enough.notified() => {
                    // The bell may be from before the last flush.
                    if self.lock().len() < FLUSH_ENTRIES {
                        continue;
                    }
                }
            }
            self.flush(sink, &mut outage).await;
            due = Instant::now() + self.settings.buffer_time;
            if stop.is_cancelled() && self.lock().is_empty() {
                return;
            }
        }
    }

    async fn flush(&self, sink: &dyn Sink, outage: &mut Outage) {
        let entries = self.lock().drain();
        outage.is_full(self.dropped.swap(0, Ordering::Relaxed), self.settings.queue_max);
        for entries in entries.chunks(PUT_ENTRIES_MAX) {
            let sent = timeout(PUT_TIME_MAX, sink.put(&self.settings.namespace, entries)).await;
            let sent =
                sent.unwrap_or_else(|_| Err(format!("no answer within {} s", PUT_TIME_MAX.as_secs()).into()));
            outage.sent(sent, entries.len());
        }
    }
}

/// What was said about metrics that were lost: once when it begins, once when it is over.
#[derive(Debug, Default)]
struct Outage {
    entries_lost: usize,
    samples_dropped: u64,
}

impl Outage {
    fn sent(&mut self, result: Result<(), BoxError>, entries: usize) {
        match result {
            Ok(()) if self.entries_lost > 0 => {
                info!(entries_lost = self.entries_lost, "metrics are sent again");
                self.entries_lost = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if self.entries_lost == 0 {
                    warn!(
                        error = error.as_ref() as &dyn std::error::Error,
                        "metrics could not be sent and are dropped; records are not affected"
                    );
                }
                self.entries_lost += entries;
            }
        }
    }

    fn is_full(&mut self, dropped: u64, queue_max: usize) {
        if dropped > 0 && self.samples_dropped == 0 {
            warn!(
                queue_max,
                "too many metrics wait to be sent: new ones are dropped (metricsMaxQueueSize)"
            );
        } else if dropped == 0 && self.samples_dropped > 0 {
            info!(
                samples_dropped = self.samples_dropped,
                "there is room for metrics again"
            );
            self.samples_dropped = 0;
        }
        self.samples_dropped += dropped;
    }
}

/// One task's metrics, noted together when it ends. Dropped, nothing is noted.
#[derive(Debug)]
pub struct Scope<'a> {
    metrics: Metrics,
    operation: Operation,
    of: Of<'a>,
    began: Instant,
    samples: Vec<(Metric, Statistics)>,
}

impl Scope<'_> {
    /// One sample.
    pub fn add(&mut self, metric: Metric, value: f64) {
        self.merge(metric, Statistics::of(value));
    }

    /// Many samples; none are none.
    pub fn add_all(&mut self, metric: Metric, values: impl IntoIterator<Item = f64>) {
        if self.metrics.0.is_some() {
            let statistics = values.into_iter().map(Statistics::of).reduce(Statistics::and);
            self.samples
                .extend(statistics.map(|statistics| (metric, statistics)));
        }
    }

    /// One sample: milliseconds since then.
    pub fn time(&mut self, metric: Metric, since: Instant) {
        self.add(metric, millis(since));
    }

    /// The success and the time of a part that began then.
    pub fn call(&mut self, call: Call, is_success: bool, since: Instant) {
        for (metric, statistics) in call_samples(call, is_success, since) {
            self.merge(metric, statistics);
        }
    }

    /// The end: `Success` and `Time` of the whole task are added.
    pub fn end(mut self, is_success: bool) {
        let began = self.began;
        self.call(Call::TASK, is_success, began);
        self.note();
    }

    /// The end of a task that has no `Success` and no `Time`.
    pub fn note(self) {
        if let Some(inner) = &self.metrics.0 {
            inner.note(self.operation, self.of, &self.samples);
        }
    }

    fn merge(&mut self, metric: Metric, statistics: Statistics) {
        if self.metrics.0.is_some() {
            self.samples.push((metric, statistics));
        }
    }
}

fn call_samples(call: Call, is_success: bool, since: Instant) -> [(Metric, Statistics); 2] {
    let success = Statistics::of(f64::from(u8::from(is_success)));
    [
        (call.success, success),
        (call.time, Statistics::of(millis(since))),
    ]
}

/// Whole milliseconds, as Java counts them.
fn millis(since: Instant) -> f64 {
    since.elapsed().as_millis() as f64
}
