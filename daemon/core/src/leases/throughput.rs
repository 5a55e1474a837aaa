//! How much a shard gives, as the leader's balancing wants to know it (`leasing.md 3.4`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Weight of the newest figure in the moving average, as in Java.
const ALPHA: f64 = 0.5;
/// Samples closer together than this are counted as one, which bounds their number.
const SAMPLE_GAP: Duration = Duration::from_millis(100);

/// The bytes that one lease's shard delivered lately, and their moving average.
#[derive(Clone, Debug, Default)]
pub struct Throughput {
    samples: VecDeque<(Instant, u64)>,
    average_kbps: Option<f64>,
    is_used: bool,
}

impl Throughput {
    /// Starts from what the row says: one sample of one second's worth, so that the first figure is about a third
    /// of it, as in Java.
    pub fn from_row(kbps: Option<f64>, now: Instant) -> Self {
        let mut throughput = Self::default();
        if let Some(kbps) = kbps {
            throughput.record((kbps * 1024.0).round() as u64, now);
        }
        throughput
    }

    /// Counts the payload bytes of one batch of user records.
    pub fn record(&mut self, bytes: u64, now: Instant) {
        self.is_used = true;
        match self.samples.back_mut() {
            Some((at, sum)) if now.saturating_duration_since(*at) < SAMPLE_GAP => *sum += bytes,
            _ => self.samples.push_back((now, bytes)),
        }
    }

    /// The figure for this renewal; once per renewal, because each call advances the average (trap 53). `None` when
    /// nothing was ever recorded: the row keeps what it says.
    pub fn next_kbps(&mut self, now: Instant, renewal_interval: Duration) -> Option<f64> {
        if !self.is_used {
            return None;
        }
        while let Some((at, _)) = self.samples.front() {
            if now.saturating_duration_since(*at) < renewal_interval {
                break;
            }
            self.samples.pop_front();
        }
        let bytes: u64 = self.samples.iter().map(|(_, bytes)| bytes).sum();
        let kbps = bytes as f64 / 1024.0 / renewal_interval.as_secs_f64();
        let average = self
            .average_kbps
            .map_or(kbps, |old| ALPHA * kbps + (1.0 - ALPHA) * old);
        self.average_kbps = Some(average);
        Some((average * 1e6).round() / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(4);

    #[test]
    fn a_lease_without_data_has_no_figure() {
        assert_eq!(Throughput::default().next_kbps(Instant::now(), INTERVAL), None);
    }

    #[test]
    fn the_figure_is_a_moving_average_over_renewals() {
        let start = Instant::now();
        let mut throughput = Throughput::default();
        throughput.record(8 * 1024, start);
        assert_eq!(throughput.next_kbps(start, INTERVAL), Some(2.0));
        assert_eq!(throughput.next_kbps(start + INTERVAL, INTERVAL), Some(1.0));
        assert_eq!(throughput.next_kbps(start + 2 * INTERVAL, INTERVAL), Some(0.5));
    }

    #[test]
    fn a_row_counts_as_one_second_of_data() {
        let start = Instant::now();
        let mut throughput = Throughput::from_row(Some(12.0), start);
        assert_eq!(throughput.next_kbps(start, INTERVAL), Some(3.0));
    }
}
