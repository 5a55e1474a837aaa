//! What the daemon tells CloudWatch about itself, under Java's names (`consuming.md 7`): metrics, their levels and
//! dimensions, and how samples merge until they are sent.
//!
//! Owns the names and the waiting samples; never sends anything. A dashboard made for the Java daemon must find
//! everything here under the same name, dimensions and unit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::ids::{Position, ShardId, WorkerId};
use crate::worker_metrics::WorkerMetrics;

mod names;
#[cfg(test)]
mod tests;

pub use names::{Call, Metric, Operation};

/// Entries in one PutMetricData (`CloudWatchMetricsPublisher`).
pub const PUT_ENTRIES_MAX: usize = 20;
/// So many waiting entries are sent without waiting for the buffer time (`publisherFlushBuffer`), and no more than
/// that at once.
pub const FLUSH_ENTRIES: usize = 200;

/// `metricsLevel`: the least important metrics that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Metrics for somebody who looks for a cause.
    Detailed,
    /// Metrics that everybody should watch.
    Summary,
}

/// A unit, by CloudWatch's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `Count`.
    Count,
    /// `Milliseconds`.
    Milliseconds,
    /// `Bytes`.
    Bytes,
    /// `None`.
    None,
}

/// `metricsEnabledDimensions`: which dimensions metrics keep. What lacks one is merged over its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnabledDimensions {
    /// `Operation`. Compat: can be disabled, as in Java's code; its documentation says otherwise.
    pub operation: bool,
    /// `ShardId`.
    pub shard: bool,
    /// `WorkerIdentifier`.
    pub worker: bool,
}

impl EnabledDimensions {
    /// All of them.
    pub const ALL: Self = Self {
        operation: true,
        shard: true,
        worker: true,
    };

    /// By their names, as the properties file lists them; `ALL` stands for all, other names for nothing.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let none = Self {
            operation: false,
            shard: false,
            worker: false,
        };
        names.into_iter().fold(none, |enabled, name| match name {
            "ALL" => Self::ALL,
            "Operation" => Self {
                operation: true,
                ..enabled
            },
            "ShardId" => Self {
                shard: true,
                ..enabled
            },
            "WorkerIdentifier" => Self {
                worker: true,
                ..enabled
            },
            _ => enabled,
        })
    }
}

/// Which metrics are kept, and for how long they are gathered; each with Java's default.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsSettings {
    /// The namespace: `applicationName`.
    pub namespace: String,
    /// The value of the dimension `WorkerIdentifier`.
    pub worker: WorkerId,
    /// `metricsLevel`.
    pub level: Level,
    /// `metricsEnabledDimensions`.
    pub dimensions: EnabledDimensions,
    /// `metricsBufferTimeMillis`.
    pub buffer_time: Duration,
    /// `metricsMaxQueueSize`: entries that may wait; what is new beyond that is dropped.
    pub queue_max: usize,
}

impl MetricsSettings {
    /// Java's defaults.
    pub fn new(namespace: &str, worker: WorkerId) -> Self {
        Self {
            namespace: namespace.to_owned(),
            worker,
            level: Level::Detailed,
            dimensions: EnabledDimensions::ALL,
            buffer_time: Duration::from_secs(10),
            queue_max: 10_000,
        }
    }
}

/// What a metric is about, beside its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of<'a> {
    /// The application as a whole.
    Application,
    /// One shard: dimension `ShardId`.
    Shard(&'a ShardId),
    /// This worker: dimension `WorkerIdentifier`.
    Worker,
}

/// Samples of one metric, summed up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// Of all values.
    pub sum: f64,
    /// The smallest value.
    pub minimum: f64,
    /// The greatest value.
    pub maximum: f64,
    /// How many values there were.
    pub count: f64,
}

impl Statistics {
    /// One sample.
    pub fn of(value: f64) -> Self {
        Self {
            sum: value,
            minimum: value,
            maximum: value,
            count: 1.0,
        }
    }

    /// These samples and others.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            sum: self.sum + other.sum,
            minimum: self.minimum.min(other.minimum),
            maximum: self.maximum.max(other.maximum),
            count: self.count + other.count,
        }
    }

    /// These samples and one more.
    #[must_use]
    pub fn and_one(self, value: f64) -> Self {
        self.and(Self::of(value))
    }
}

/// One metric as it is sent: a datum of PutMetricData.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// `MetricName`.
    pub name: &'static str,
    /// `Unit`.
    pub unit: Unit,
    /// `Dimensions`: name and value, in Java's order.
    pub dimensions: Vec<(&'static str, String)>,
    /// `StatisticValues`.
    pub statistics: Statistics,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    operation: Option<Operation>,
    subject: Subject,
    name: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Application,
    Shard(ShardId),
    Worker,
}

#[derive(Debug)]
struct Waiting {
    key: Key,
    unit: Unit,
    statistics: Statistics,
}

/// The entries that wait to be sent, oldest first; samples of the same metric merge into the waiting one. At most
/// [`MetricsSettings::queue_max`] entries, so that an outage of CloudWatch costs samples and not memory.
#[derive(Debug)]
pub struct Queue {
    settings: MetricsSettings,
    entries: VecDeque<Waiting>,
    /// The number of each waiting entry, counted from the very first one.
    numbers: BTreeMap<Key, u64>,
    drained: u64,
}

impl Queue {
    /// An empty queue.
    pub fn new(settings: MetricsSettings) -> Self {
        Self {
            settings,
            entries: VecDeque::new(),
            numbers: BTreeMap::new(),
            drained: 0,
        }
    }

    /// Entries waiting.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is waiting.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds samples, if their level is wanted. `false`: the queue is full, and they are dropped.
    #[must_use]
    pub fn add(&mut self, operation: Operation, of: Of<'_>, metric: Metric, statistics: Statistics) -> bool {
        if metric.level < self.settings.level {
            return true;
        }
        let enabled = self.settings.dimensions;
        let key = Key {
            operation: enabled.operation.then_some(operation),
            subject: match of {
                Of::Shard(shard) if enabled.shard => Subject::Shard(shard.clone()),
                Of::Worker if enabled.worker => Subject::Worker,
                Of::Application | Of::Shard(_) | Of::Worker => Subject::Application,
            },
            name: metric.name,
        };
        if let Some(number) = self.numbers.get(&key) {
            let index = (number - self.drained) as usize;
            let waiting = &mut self.entries[index];
            waiting.statistics = waiting.statistics.and(statistics);
            return true;
        }
        if self.entries.len() >= self.settings.queue_max {
            return false;
        }
        let number = self.drained + self.entries.len() as u64;
        self.numbers.insert(key.clone(), number);
        self.entries.push_back(Waiting {
            key,
            unit: metric.unit,
            statistics,
        });
        true
    }

    /// Takes the oldest entries out, at most [`FLUSH_ENTRIES`] of them.
    pub fn drain(&mut self) -> Vec<Entry> {
        let count = self.entries.len().min(FLUSH_ENTRIES);
        self.drained += count as u64;
        let drained = self.entries.drain(..count);
        let worker = &self.settings.worker;
        let numbers = &mut self.numbers;
        drained
            .map(|waiting| {
                numbers.remove(&waiting.key);
                waiting.entry(worker)
            })
            .collect()
    }
}

impl Waiting {
    fn entry(self, worker: &WorkerId) -> Entry {
        let mut dimensions = Vec::with_capacity(2);
        if let Some(operation) = self.key.operation {
            dimensions.push(("Operation", operation.name().to_owned()));
        }
        match self.key.subject {
            Subject::Application => {}
            Subject::Shard(shard) => dimensions.push(("ShardId", shard.as_str().to_owned())),
            Subject::Worker => dimensions.push(("WorkerIdentifier", worker.as_str().to_owned())),
        }
        Entry {
            name: self.key.name,
            unit: self.unit,
            dimensions,
            statistics: self.statistics,
        }
    }
}

/// The operation that a checkpoint is counted under.
///
/// Compat: by what is checkpointed. Java keeps the label in one field of the worker, so that it names whichever task
/// of whichever shard was created last.
pub fn checkpoint_operation(position: &Position) -> Operation {
    if position.is_shard_end() {
        Operation::ShutdownTask
    } else {
        Operation::ProcessTask
    }
}

/// `FleetMinSupportCode`: the least of what the owners of leases support; 0 for one that does not say so, or did not
/// lately. `None`: nobody owns a lease.
pub fn fleet_min_support_code(
    owners: &BTreeSet<&WorkerId>,
    reports: &[WorkerMetrics],
    now_s: i64,
    age_max: Duration,
) -> Option<u64> {
    let supports = |owner: &WorkerId| {
        let report = reports.iter().find(|report| report.worker == *owner)?;
        let age_s = now_s - report.supported_s?;
        report
            .supported
            .filter(|_| age_s <= i64::try_from(age_max.as_secs()).unwrap_or(i64::MAX))
    };
    owners.iter().map(|owner| supports(owner).unwrap_or(0)).min()
}
