//! Whether another process works under this worker's id. Two of them would hold the same leases, and each take the
//! other's writes for its own.
//!
//! Owns what the rows say about it: the report under the worker's id, which each process expects to be its own last one
//! ([`Claim`]), and the leases, which nobody but a worker of that id renews ([`Renewals`]). Never reads or writes a row.
//!
//! A worker that was killed and comes back with its old id finds a fresh report and leases of its own too; but nobody
//! answers its claim, and its leases stand still.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::ids::{ShardId, WorkerId};
use crate::leases::Lease;
#[cfg(planted)]
use crate::planted;
use crate::table::Write;
use crate::worker_metrics::WorkerMetrics;

/// So many reports of somebody else, one after another, are enough for a worker that was here first: the other one does
/// not end by itself, as a Java worker never does.
const RIVAL_REPORTS_MAX: u32 = 3;
/// So many renewals of one lease by somebody else cannot be late ones: the last of a killed process, and the one by which
/// a leaving worker made us its heir.
pub const FOREIGN_RENEWALS_MAX: u32 = 3;

/// Whether the row of this id is so fresh that its writer may still live: one report interval and half of one, for its
/// lateness and for clocks that differ.
pub fn may_live(report: Option<&WorkerMetrics>, now_s: i64, report_interval: Duration) -> bool {
    report.is_some_and(|report| report.is_fresh(now_s, report_interval * 3 / 2))
}

/// This process's claim to its worker id: the time in the worker's row. Each of its reports expects the one before, so
/// that whoever else reports under the id shows. Nothing is added to the row for it.
#[derive(Clone, Debug)]
pub struct Claim {
    report_interval: Duration,
    /// The time in the row (`lut`), as this process wrote or read it last; `None`: there is none.
    seen_s: Option<i64>,
    /// When this process's first report was stored, and the last one's time.
    reported: Option<(Instant, i64)>,
    /// Nobody else can have been at work when this process laid its claim.
    is_first: bool,
    /// The earliest and the latest time of the reports without an answer: each expects the same row, so that it may be any
    /// one of them, however many there were, that is stored. The last one need not be the latest: clocks are set back.
    unanswered_s: Option<RangeInclusive<i64>>,
    rivals: u32,
    rival_at: Option<Instant>,
}

/// What a row says to a process whose report did not find what it expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A report of ours that had no answer: all is well.
    Ours,
    /// Somebody deleted the row, or a process that is no more wrote it last: report again.
    Again,
    /// Another process reports under this id, and this one was here first: report again, so that the other one sees it.
    Rival,
    /// Another process reports under this id, and this one must end.
    Twin,
}

impl Claim {
    /// A claim over the row as it was found at the start of this process, at this time.
    pub fn new(row: Option<&WorkerMetrics>, now_s: i64, report_interval: Duration) -> Self {
        Self {
            report_interval,
            seen_s: row.and_then(|row| row.updated_s),
            reported: None,
            is_first: !may_live(row, now_s, report_interval),
            unanswered_s: None,
            rivals: 0,
            rival_at: None,
        }
    }

    /// The write of a report, on condition that nobody else has reported.
    pub fn report(&self, report: &WorkerMetrics) -> Write {
        #[cfg(planted)]
        if planted::is_planted(planted::Bug::ReportWithoutClaim) {
            return report.report();
        }
        report.report_after(self.seen_s)
    }

    /// The deletion of the row, on the same condition.
    pub fn retire(&self, me: &WorkerId) -> Write {
        WorkerMetrics::retire(me, self.seen_s)
    }

    /// The report of this time is in the row.
    pub fn reported(&mut self, at_s: i64, now: Instant) {
        let first = self.reported.map_or(now, |(first, _)| first);
        self.reported = Some((first, at_s));
        self.seen_s = Some(at_s);
        self.unanswered_s = None;
        let is_over = |since: &Instant| now.saturating_duration_since(*since) > self.report_interval * 2;
        if self.rival_at.as_ref().is_some_and(is_over) {
            (self.rivals, self.rival_at) = (0, None);
        }
    }

    /// The report of this time had no answer: it may be in the row, or come to be.
    pub fn unanswered(&mut self, at_s: i64) {
        let (first, last) = match &self.unanswered_s {
            Some(times) => (at_s.min(*times.start()), at_s.max(*times.end())),
            None => (at_s, at_s),
        };
        self.unanswered_s = Some(first..=last);
    }

    /// The row as it is, after a report that did not find what it expected. The next one expects this.
    ///
    /// Who ends, where two processes report: the younger, which is the one that has not yet had the row to itself for
    /// longer than a report interval. Where neither has, it is whoever sees the other's report first. Each sees one only after it has
    /// reported itself, so that the one that ends leaves the other in peace.
    pub fn found(&mut self, row: Option<&WorkerMetrics>, now: Instant) -> Finding {
        let row_s = row.and_then(|row| row.updated_s);
        self.seen_s = row_s;
        let Some(row_s) = row_s else {
            return Finding::Again;
        };
        if self
            .unanswered_s
            .as_ref()
            .is_some_and(|times| times.contains(&row_s))
        {
            self.reported(row_s, now);
            return Finding::Ours;
        }
        // Before its first report a process cannot know whose the row is.
        let Some((first, last_s)) = self.reported else {
            self.is_first = false;
            return Finding::Again;
        };
        self.rivals += 1;
        self.rival_at = Some(now);
        let is_late = row_s < last_s && self.rivals == 1;
        let age = now.saturating_duration_since(first);
        let is_settled = self.is_first || age > self.report_interval * 3 / 2;
        match (is_settled, is_late) {
            // By a process of Java, killed before this one began: it reports without a condition.
            (_, true) => Finding::Again,
            (true, false) if self.rivals < RIVAL_REPORTS_MAX => Finding::Rival,
            (true, false) | (false, false) => Finding::Twin,
        }
    }

    /// Whether nobody else can have been at work under this id when this process began.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// Whether the row holds this process's last report, as far as it knows.
    pub fn stands(&self, row: Option<&WorkerMetrics>) -> bool {
        row.and_then(|row| row.updated_s) == self.seen_s
    }
}

/// The leases of this id, as a process that starts sees them.
#[derive(Clone, Debug, Default)]
pub struct Renewals {
    counters: BTreeMap<ShardId, u64>,
    seen: u32,
}

impl Renewals {
    /// Remembers some of the leases that the worker `me` works on by the table.
    pub fn new(leases: &[Lease], me: &WorkerId, leases_max: usize) -> Self {
        let mine = leases.iter().filter(|lease| lease.actual_owner() == Some(me));
        Self {
            counters: mine
                .take(leases_max)
                .map(|lease| (lease.key.clone(), lease.counter))
                .collect(),
            seen: 0,
        }
    }

    /// The leases to look at again.
    pub fn shards(&self) -> Vec<ShardId> {
        self.counters.keys().cloned().collect()
    }

    /// Whether somebody has renewed one of them since the last look.
    pub fn look(&mut self, leases: &[Lease], me: &WorkerId) -> bool {
        let mut most = 0;
        for lease in leases.iter().filter(|lease| lease.actual_owner() == Some(me)) {
            if let Some(counter) = self.counters.get_mut(&lease.key) {
                most = most.max(lease.counter.saturating_sub(*counter));
                *counter = lease.counter;
            }
        }
        self.seen = self.seen.saturating_add(u32::try_from(most).unwrap_or(u32::MAX));
        most > 0
    }

    /// This process has renewed a lease itself.
    pub fn renewed(&mut self, lease: &Lease) {
        self.counters.insert(lease.key.clone(), lease.counter);
    }

    /// How often somebody has renewed, by the lease that was renewed most between two looks.
    pub fn seen(&self) -> u32 {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Position;

    const INTERVAL: Duration = Duration::from_secs(30);

    fn report(at_s: i64) -> WorkerMetrics {
        WorkerMetrics::unmeasured("me".into(), at_s)
    }

    /// Two processes of one id and their row, by the second.
    struct Row {
        start: Instant,
        now_s: i64,
        row: Option<WorkerMetrics>,
    }

    impl Row {
        fn new(row: Option<WorkerMetrics>) -> Self {
            Self {
                start: Instant::now(),
                now_s: 1_000,
                row,
            }
        }

        fn now(&self) -> Instant {
            self.start + Duration::from_secs((self.now_s - 1_000) as u64)
        }

        fn begin(&self) -> Claim {
            Claim::new(self.row.as_ref(), self.now_s, INTERVAL)
        }

        /// The claim's report, repeated where it may be. What it found on the way.
        fn report(&mut self, claim: &mut Claim) -> Vec<Finding> {
            let mut found = Vec::new();
            loop {
                let item = self.row.as_ref().and_then(|row| row.report().applied(None));
                if claim.report(&report(self.now_s)).may_apply(item.as_ref()) {
                    self.row = Some(report(self.now_s));
                    claim.reported(self.now_s, self.now());
                    return found;
                }
                found.push(claim.found(self.row.as_ref(), self.now()));
                if matches!(found.last(), Some(Finding::Twin | Finding::Ours)) {
                    return found;
                }
            }
        }

        fn pass(&mut self, seconds: i64) {
            self.now_s += seconds;
        }
    }

    #[test]
    fn a_process_that_is_alone_finds_its_own_reports() {
        let mut row = Row::new(None);
        let mut claim = row.begin();
        for _ in 0..5 {
            assert_eq!(row.report(&mut claim), []);
            row.pass(30);
        }
    }

    #[test]
    fn a_process_that_comes_back_takes_the_row_over() {
        let mut row = Row::new(Some(report(995)));
        let mut claim = row.begin();
        assert_eq!(row.report(&mut claim), []);
    }

    #[test]
    fn the_first_of_many_reports_without_an_answer_is_still_its_own() {
        let mut row = Row::new(None);
        let mut claim = row.begin();
        row.report(&mut claim);
        row.pass(30);
        let stored = report(row.now_s);
        for _ in 0..100 {
            claim.unanswered(row.now_s);
            row.pass(4);
        }
        row.row = Some(stored);
        assert_eq!(row.report(&mut claim), [Finding::Ours]);
        assert_eq!(row.report(&mut claim), []);
    }

    #[test]
    fn a_report_without_an_answer_is_still_its_own_after_the_clock_went_back() {
        let mut row = Row::new(None);
        let mut claim = row.begin();
        row.report(&mut claim);
        row.pass(30);
        row.row = Some(report(row.now_s));
        claim.unanswered(row.now_s);
        row.pass(-20);
        claim.unanswered(row.now_s);
        row.pass(4);
        assert_eq!(row.report(&mut claim), [Finding::Ours]);
        assert_eq!(row.report(&mut claim), []);
    }

    #[test]
    fn of_an_old_process_and_a_new_one_the_new_one_ends() {
        let mut row = Row::new(None);
        let mut old = row.begin();
        row.report(&mut old);
        row.pass(60);
        row.report(&mut old);
        row.pass(10);
        let mut new = row.begin();
        assert_eq!(row.report(&mut new), []);
        row.pass(20);
        assert_eq!(row.report(&mut old), [Finding::Rival]);
        row.pass(10);
        assert_eq!(row.report(&mut new), [Finding::Twin]);
        row.pass(20);
        assert_eq!(row.report(&mut old), []);
    }

    #[test]
    fn of_two_that_start_in_the_same_second_one_ends() {
        let mut row = Row::new(None);
        let (mut one, mut other) = (row.begin(), row.begin());
        assert_eq!(row.report(&mut one), []);
        assert_eq!(row.report(&mut other), [Finding::Again]);
        row.pass(30);
        assert_eq!(row.report(&mut one), []);
        assert_eq!(row.report(&mut other), [Finding::Twin]);
        row.pass(30);
        assert_eq!(row.report(&mut one), []);
    }

    #[test]
    fn of_two_that_start_one_after_the_other_the_first_stays() {
        let mut row = Row::new(None);
        let mut one = row.begin();
        row.report(&mut one);
        row.pass(1);
        let mut other = row.begin();
        assert_eq!(row.report(&mut other), []);
        row.pass(3);
        assert_eq!(row.report(&mut one), [Finding::Rival]);
        assert_eq!(row.report(&mut other), [Finding::Twin]);
    }

    #[test]
    fn of_two_that_come_back_after_a_crash_one_ends() {
        let mut row = Row::new(Some(report(995)));
        let (mut one, mut other) = (row.begin(), row.begin());
        assert_eq!(row.report(&mut one), []);
        row.pass(1);
        assert_eq!(row.report(&mut other), [Finding::Again]);
        row.pass(30);
        assert_eq!(row.report(&mut one), [Finding::Twin]);
        assert_eq!(row.report(&mut other), []);
    }

    #[test]
    fn a_lost_answer_is_not_somebody_else() {
        let mut row = Row::new(None);
        let mut claim = row.begin();
        row.report(&mut claim);
        row.pass(30);
        row.row = Some(report(row.now_s));
        claim.unanswered(row.now_s);
        row.pass(2);
        assert_eq!(row.report(&mut claim), [Finding::Ours]);
        row.pass(30);
        assert_eq!(row.report(&mut claim), []);
    }

    #[test]
    fn a_late_report_of_a_killed_java_process_is_not_somebody_else() {
        let mut row = Row::new(Some(report(970)));
        let mut claim = row.begin();
        row.report(&mut claim);
        row.row = Some(report(999));
        row.pass(30);
        assert_eq!(row.report(&mut claim), [Finding::Again]);
    }

    #[test]
    fn a_row_that_was_deleted_is_written_again() {
        let mut row = Row::new(None);
        let mut claim = row.begin();
        row.report(&mut claim);
        row.row = None;
        row.pass(30);
        assert_eq!(row.report(&mut claim), [Finding::Again]);
    }

    #[test]
    fn the_old_process_ends_where_the_other_one_does_not() {
        let mut row = Row::new(None);
        let mut claim = row.begin();
        row.report(&mut claim);
        row.pass(60);
        let mut found = Vec::new();
        for _ in 0..3 {
            row.pass(15);
            row.row = Some(report(row.now_s));
            row.pass(15);
            found.extend(row.report(&mut claim));
        }
        assert_eq!(found, [Finding::Rival, Finding::Rival, Finding::Twin]);
    }

    #[test]
    fn of_two_old_processes_the_one_that_slept_or_the_other_ends_and_never_both() {
        let mut row = Row::new(None);
        let mut asleep = row.begin();
        row.report(&mut asleep);
        row.pass(60);
        row.report(&mut asleep);
        row.pass(600);
        let mut successor = row.begin();
        row.report(&mut successor);
        row.pass(60);
        row.report(&mut successor);
        let mut ended = 0;
        for _ in 0..10 {
            row.pass(15);
            ended += usize::from(row.report(&mut asleep).contains(&Finding::Twin));
            if ended > 0 {
                break;
            }
            row.pass(15);
            ended += usize::from(row.report(&mut successor).contains(&Finding::Twin));
        }
        assert_eq!(ended, 1);
        row.pass(15);
        assert_eq!(row.report(&mut successor), []);
    }

    fn lease(counter: u64) -> Lease {
        Lease {
            owner: Some("me".into()),
            counter,
            ..Lease::new("s1".into(), Position::TrimHorizon, Default::default(), None)
        }
    }

    #[test]
    fn leases_that_stand_still_were_left_by_a_dead_process() {
        let mut renewals = Renewals::new(&[lease(7)], &"me".into(), 8);
        assert!(!renewals.look(&[lease(7)], &"me".into()));
        assert!(!renewals.look(&[], &"me".into()));
        assert_eq!(renewals.seen(), 0);
    }

    #[test]
    fn each_renewal_by_somebody_else_counts_and_our_own_does_not() {
        let mut renewals = Renewals::new(&[lease(7)], &"me".into(), 8);
        renewals.renewed(&lease(8));
        assert!(!renewals.look(&[lease(8)], &"me".into()));
        assert!(renewals.look(&[lease(10)], &"me".into()));
        assert!(renewals.look(&[lease(11)], &"me".into()));
        assert_eq!(renewals.seen(), 3);
    }

    #[test]
    fn what_was_given_to_another_worker_says_nothing() {
        let mut renewals = Renewals::new(&[lease(7)], &"me".into(), 8);
        let given = Lease {
            owner: Some("other".into()),
            ..lease(12)
        };
        assert!(!renewals.look(&[given], &"me".into()));
    }

    #[test]
    fn an_old_report_was_left_by_a_dead_process() {
        let half_a_minute = Duration::from_secs(30);
        assert!(may_live(Some(&report(1_000)), 1_045, half_a_minute));
        assert!(!may_live(Some(&report(1_000)), 1_046, half_a_minute));
        assert!(!may_live(None, 1_000, half_a_minute));
    }
}
