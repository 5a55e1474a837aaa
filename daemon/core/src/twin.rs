//! Whether another live process works under this worker's id: decided at the start, from rows that nobody but a worker of that
//! id renews.
//!
//! A worker that was killed and comes back with its old id finds a fresh report too; but its leases stand still.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::{ShardId, WorkerId};
use crate::leases::Lease;
use crate::worker_metrics::WorkerMetrics;

/// A write of the killed process may still be on its way, for one lease; a live one renews again.
const RENEWALS_MIN: u64 = 2;

/// Whether the row of this id is so fresh that its writer may still live: one report interval and half of one, for its
/// lateness and for clocks that differ.
pub fn may_live(report: Option<&WorkerMetrics>, now_s: i64, report_interval: Duration) -> bool {
    report.is_some_and(|report| report.is_fresh(now_s, report_interval * 3 / 2))
}

/// The leases of this id, and how far their counters were at the first look.
#[derive(Clone, Debug, Default)]
pub struct Twin {
    first: BTreeMap<ShardId, u64>,
}

/// What the leases say by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Nobody renewed them.
    None,
    /// Somebody did once: wait for as long again.
    One,
    /// Somebody lives.
    Alive,
}

impl Twin {
    /// Remembers the leases that the worker `me` works on by the table.
    pub fn new(leases: &[Lease], me: &WorkerId) -> Self {
        let mine = leases.iter().filter(|lease| lease.actual_owner() == Some(me));
        Self {
            first: mine.map(|lease| (lease.key.clone(), lease.counter)).collect(),
        }
    }

    /// The leases to look at again.
    pub fn shards(&self) -> impl Iterator<Item = &ShardId> {
        self.first.keys()
    }

    /// What they say now.
    pub fn look(&self, leases: &[Lease], me: &WorkerId) -> Sign {
        let rises = leases.iter().filter_map(|lease| {
            let first = self.first.get(&lease.key)?;
            (lease.actual_owner() == Some(me)).then(|| lease.counter.saturating_sub(*first))
        });
        match rises.max().unwrap_or(0) {
            0 => Sign::None,
            rise if rise < RENEWALS_MIN => Sign::One,
            _ => Sign::Alive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Position;

    fn lease(counter: u64) -> Lease {
        Lease {
            owner: Some("me".into()),
            counter,
            ..Lease::new("s1".into(), Position::TrimHorizon, Default::default(), None)
        }
    }

    #[test]
    fn leases_that_stand_still_were_left_by_a_dead_process() {
        let twin = Twin::new(&[lease(7)], &"me".into());
        assert_eq!(twin.look(&[lease(7)], &"me".into()), Sign::None);
        assert_eq!(twin.look(&[], &"me".into()), Sign::None);
    }

    #[test]
    fn one_renewal_may_be_a_late_one_and_two_are_a_sign_of_life() {
        let twin = Twin::new(&[lease(7)], &"me".into());
        assert_eq!(twin.look(&[lease(8)], &"me".into()), Sign::One);
        assert_eq!(twin.look(&[lease(9)], &"me".into()), Sign::Alive);
    }

    #[test]
    fn what_was_given_to_another_worker_says_nothing() {
        let twin = Twin::new(&[lease(7)], &"me".into());
        let given = Lease {
            owner: Some("other".into()),
            ..lease(12)
        };
        assert_eq!(twin.look(&[given], &"me".into()), Sign::None);
    }

    #[test]
    fn an_old_report_was_left_by_a_dead_process() {
        let report = WorkerMetrics::unmeasured("me".into(), 1_000);
        let half_a_minute = Duration::from_secs(30);
        assert!(may_live(Some(&report), 1_045, half_a_minute));
        assert!(!may_live(Some(&report), 1_046, half_a_minute));
        assert!(!may_live(None, 1_000, half_a_minute));
    }
}
