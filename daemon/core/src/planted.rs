//! Mistakes that the simulation must find, or it has gone blind. Compiled in only by `--cfg planted`; none is made
//! unless it is planted on the thread that runs the simulation.

use std::cell::Cell;

/// A mistake that somebody could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Renewals do not expect the counter last seen: a lost lease is renewed on.
    RenewalWithoutCounter,
    /// A hand-off that the leader asks for is not noticed.
    HandOffUnnoticed,
    /// A checkpoint is stored for whoever holds the lease now, whatever its tenure.
    CheckpointWithoutToken,
    /// A checkpoint without an answer is taken for stored.
    AnswerBelieved,
    /// Reading begins after the checkpoint, which may lie inside an aggregate.
    StartAfter,
    /// The record at the checkpoint is delivered again.
    FilterStrictly,
    /// A child shard begins before its parents are finished.
    ParentsIgnored,
    /// The child shards' leases are created after SHARD_END is stored.
    ChildLeasesLate,
    /// A finished lease is deleted before its children have begun.
    DeletedEarly,
    /// A lease that could not be renewed in time is worked on.
    ExpiryIgnored,
    /// The lease counts from the answer of a renewal, not from its sending.
    ValidFromAnswer,
    /// A checkpoint writes the row anew, without what is not understood.
    UnknownDropped,
    /// Reports do not expect the one before: another process of this id goes unnoticed.
    ReportWithoutClaim,
    /// A row that moves into the lease table is deleted where it was, and not written where it belongs.
    RowLostInMove,
}

impl Bug {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::RenewalWithoutCounter,
        Self::HandOffUnnoticed,
        Self::CheckpointWithoutToken,
        Self::AnswerBelieved,
        Self::StartAfter,
        Self::FilterStrictly,
        Self::ParentsIgnored,
        Self::ChildLeasesLate,
        Self::DeletedEarly,
        Self::ExpiryIgnored,
        Self::ValidFromAnswer,
        Self::UnknownDropped,
        Self::ReportWithoutClaim,
        Self::RowLostInMove,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a mistake, or none, on this thread.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this mistake is to be made.
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
