//! What a row, read after a failed or unanswered write, means for the worker that believes to hold the lease.

use super::Lease;
use crate::ids::WorkerId;
#[cfg(planted)]
use crate::planted;

/// Whether a lease is still this worker's.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// It is, and this is what the row says now.
    Ours(Box<Lease>),
    /// Somebody else's, or nobody's.
    Lost,
}

/// Judges a lease by its row. Each write of a holder expects the counter it last saw and raises it by one, so at
/// most one of them can have been applied unseen: a row that names us, one ahead, is our own lost answer. The same
/// counter means that the owners changed under it: a hand-off, which leaves the counter alone (`leasing.md 3.3-4`).
///
/// Compat: Java gives up a lease whose renewal was applied unseen while a hand-off is pending; by its counter the
/// lease is still ours, and we keep it.
pub fn standing(mine: &Lease, row: Option<&Lease>, me: &WorkerId) -> Standing {
    match row {
        Some(row) if row.is_worked_on_by(me) && (mine.counter..=mine.counter + 1).contains(&row.counter) => {
            Standing::Ours(Box::new(row.clone()))
        }
        Some(_) | None => Standing::Lost,
    }
}

impl Lease {
    /// Whether the worker holds the lease by its row: as owner, or as the old owner of a pending hand-off. A row
    /// whose two owners are the same is broken, and nobody's.
    pub fn is_worked_on_by(&self, worker: &WorkerId) -> bool {
        self.actual_owner() == Some(worker) && self.checkpoint_owner != self.owner
    }

    /// The next owner, where a hand-off by this worker is pending.
    pub fn hand_over_to(&self, me: &WorkerId) -> Option<&WorkerId> {
        let pending = self.checkpoint_owner.as_ref() == Some(me) && self.owner.as_ref() != Some(me);
        #[cfg(planted)]
        let pending = pending && !planted::is_planted(planted::Bug::HandOffUnnoticed);
        self.owner.as_ref().filter(|_| pending)
    }

    /// Whether a worker may start on the lease when it finds the row: it is the owner, and nobody is still handing
    /// the lease over (trap 35).
    pub fn can_be_adopted_by(&self, worker: &WorkerId) -> bool {
        self.owner.as_ref() == Some(worker) && self.checkpoint_owner.is_none()
    }
}
