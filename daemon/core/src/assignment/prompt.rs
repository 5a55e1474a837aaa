//! Which workers start at once what they are given: seen, since no row says who is of which make.
//!
//! A Java worker looks for what it was assigned twice in an assignment interval, ours within a second. A lease that
//! nobody works on should go to one that starts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::ids::WorkerId;

/// A worker that starts at once has found a lease, and renewed it, within so much of being given it.
const FOUND_MAX: Duration = Duration::from_secs(2);
/// What a worker that was late once begins with again: three proofs in a row, because now and then a Java worker happens
/// to look just then. For one that never was, one is enough.
const LATE: i32 = -2;
const PROMPT: i32 = 1;
/// With more rows than that there are many workers, and those that the leader knows would get too much at once.
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
    /// The worker was seen to have found what it was given, in a look that ended now. One that found it in time, but was
    /// seen to too late, has proved nothing.
    pub(super) fn found(&mut self, worker: &WorkerId, given: &Given, ended: Instant) {
        if ended.saturating_duration_since(given.earliest) <= FOUND_MAX {
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

    /// Whether anything was seen of it, for or against.
    pub(super) fn is_known(&self, worker: &WorkerId) -> bool {
        self.in_a_row.contains_key(worker)
    }

    /// Whether this worker starts at once what it is given. One that nobody has seen does not.
    pub(super) fn is_prompt(&self, worker: &WorkerId) -> bool {
        self.in_a_row.get(worker).is_some_and(|proofs| *proofs >= PROMPT)
    }
}
