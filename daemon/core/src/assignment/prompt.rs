//! Which workers start at once what they are given: seen, since no row says who is of which make.
//!
//! A Java worker looks for what it was assigned twice in an assignment interval, ours every 1.5 s. A lease that nobody
//! works on should go to one that starts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::ids::WorkerId;

/// A worker that starts at once has found a lease, and renewed it, within so much of being given it.
const FOUND_MAX: Duration = Duration::from_secs(2);
/// That is seen at the next look, a second later at most.
const FOUND_SEEN_MAX: Duration = Duration::from_secs(3);
/// What a worker that was late once begins with again: two proofs in a row, because now and then a Java worker happens to
/// look just then. For one that never was, one is enough.
const LATE: i32 = -1;
const PROMPT: i32 = 1;
/// In a table with more rows than that, looks are too far apart to tell.
pub(super) const ROWS_MAX: usize = 250;

/// When a worker was given a lease that it was not yet seen to renew.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) earliest: Instant,
    pub(super) latest: Instant,
    /// How long its first renewal may hide: where somebody else gave the lease, it may have come before we saw that,
    /// and the next one shows only a renewal interval later.
    pub(super) unseen: Duration,
}

/// How often each worker was prompt in a row, from 0 or from [`LATE`] on.
#[derive(Clone, Debug, Default)]
pub(super) struct Promptness {
    in_a_row: BTreeMap<WorkerId, i32>,
}

/// What one look at the table says. However many leases a worker finds at once, that is one proof.
#[derive(Debug, Default)]
pub(super) struct Proofs {
    found: BTreeSet<WorkerId>,
    missed: BTreeSet<WorkerId>,
}

impl Proofs {
    /// The worker was seen to have found what it was given, in a look that ended now.
    pub(super) fn found(&mut self, worker: &WorkerId, given: &Given, ended: Instant) {
        if ended.saturating_duration_since(given.earliest) <= FOUND_SEEN_MAX {
            self.found.insert(worker.clone());
        }
    }

    /// It had not, in a look that began now.
    pub(super) fn not_found(&mut self, worker: &WorkerId, given: &Given, began: Instant) {
        if began.saturating_duration_since(given.latest) > FOUND_MAX + given.unseen {
            self.missed.insert(worker.clone());
        }
    }
}

impl Promptness {
    /// Remembers what a look said of the workers that are still there.
    pub(super) fn learn(&mut self, proofs: Proofs, is_there: impl Fn(&WorkerId) -> bool) {
        for worker in proofs.found {
            let proofs = self.in_a_row.entry(worker).or_default();
            *proofs = proofs.saturating_add(1);
        }
        for worker in proofs.missed {
            self.in_a_row.insert(worker, LATE);
        }
        self.in_a_row.retain(|worker, _| is_there(worker));
    }

    /// Whether this worker starts at once what it is given. One that nobody has seen does not.
    pub(super) fn is_prompt(&self, worker: &WorkerId) -> bool {
        self.in_a_row.get(worker).is_some_and(|proofs| *proofs >= PROMPT)
    }
}
