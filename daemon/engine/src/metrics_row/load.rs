//! How busy this worker is, sampled in the background for its metrics row (`leasing.md 5.7`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use multilangd_core::cpu::Samples;
use multilangd_core::worker_metrics::WorkerMetrics;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::platform::{Host, Load};

/// What was measured since the last report; nothing until there is a first sample, and for ever where nothing can be
/// measured. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Measured {
    samples: Arc<Mutex<Option<Samples>>>,
}

impl Measured {
    /// The averages to report, oldest first. A call ends a period: once per report.
    pub(super) fn averages(&self) -> Option<Vec<f64>> {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.as_mut().map(Samples::report)
    }

    fn note(&self, percent: f64, reports_kept: usize) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples
            .get_or_insert_with(|| Samples::new(reports_kept))
            .note(percent);
    }
}

/// Adds what was measured to a report: the CPU's averages, and that all of it may be used.
pub(super) fn with_cpu(report: WorkerMetrics, averages: Option<&[f64]>) -> WorkerMetrics {
    const CPU: &str = "C";
    const ALL: f64 = 100.0;
    match averages {
        None => report,
        Some(averages) => WorkerMetrics {
            samples: [(CPU.to_owned(), averages.to_vec())].into(),
            operating_range: [(CPU.to_owned(), vec![ALL])].into(),
            ..report
        },
    }
}

/// The task that measures.
pub(crate) struct Sampling {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) clock: Clock,
    /// Between two samples.
    pub(crate) interval: Duration,
    /// Averages kept in the row.
    pub(crate) reports_kept: usize,
    pub(crate) measured: Measured,
}

impl Sampling {
    /// Finds out where this is, which may take ten seconds where nobody answers; then samples until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let sampling = async {
            let Some(mut load) = Load::find(self.host.as_ref()).await else {
                return;
            };
            // So that many workers of one machine do not measure each other measuring.
            let interval_us = u64::try_from(self.interval.as_micros()).unwrap_or(u64::MAX);
            let jitter_us = self.clock.chance(|rng| rng.below(interval_us.max(1)));
            sleep(Duration::from_micros(jitter_us)).await;
            loop {
                if let Some(percent) = load.percent(self.host.as_ref(), &self.clock).await {
                    self.measured.note(percent, self.reports_kept);
                }
                sleep(self.interval).await;
            }
        };
        stop.run_until_cancelled(sampling).await;
    }
}
