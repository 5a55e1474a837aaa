//! One operation on one held lease, from the first write to a verdict. A write without an answer is never believed
//! either way: the row tells.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use multilangd_core::client_version::Rules;
use multilangd_core::ids::{Position, WorkerId};
use multilangd_core::leases::{Lease, Standing, standing};
use multilangd_core::metrics::{Call, Of, Operation, checkpoint_operation};
#[cfg(planted)]
use multilangd_core::planted;
use multilangd_core::table::{Item, Write};
use multilangd_core::twin::FOREIGN_RENEWALS_MAX;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{Instrument, Span, info_span};

use super::Identity;
use super::rows::Rows;
use crate::child::CheckpointError;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::retry::{Patience, retry};
use crate::table::TableError;

/// Writes per operation: the first, one after a hand-off was noticed, one after a lost answer was recognised.
const WRITES_MAX: u32 = 3;

/// How long a child waits for its checkpoint while the table throttles or fails: three seconds. It never learns of a
/// shorter disturbance, as beside Java, where the SDK repeats a call to DynamoDB eight times, from 25 ms on. The tenure's
/// end ends it too.
const CHECKPOINT_PATIENCE: Patience = Patience {
    tries_max: Some(9),
    wait_first: Duration::from_millis(25),
    wait_max: Duration::from_secs(1),
};

/// What an operation found out about the lease.
#[derive(Debug)]
pub(super) enum Verdict {
    /// A write of ours that was sent at this time was applied; the row says this now.
    Held(Box<Lease>, Instant),
    /// The lease is ours, but no write of known time was applied; the row says this now.
    Ours(Box<Lease>),
    /// Nobody knows. What was known before stays true until it expires.
    Unsure(TableError),
    /// Somebody else has it, or nobody; the row, if there is one.
    Lost(Option<Box<Lease>>),
    /// We gave it away: to this worker, or back to nobody.
    Given(Option<WorkerId>),
}

/// Who else may have written a lease, when an operation on it begins.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Doubt {
    /// A write of ours had no answer, and may show yet.
    pub(super) of_own_write: bool,
    /// How often somebody else has written it as ours since it is held.
    pub(super) foreign_writes: u32,
}

/// Everything an operation needs besides the lease.
#[derive(Clone)]
pub(super) struct Operator {
    pub(super) rows: Rows,
    pub(super) me: WorkerId,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    pub(super) rules: watch::Receiver<Rules>,
    /// In a fleet of 2.x: who may get what this worker gives away.
    pub(super) heirs: watch::Receiver<Vec<WorkerId>>,
    pub(super) identity: Identity,
}

enum Answer {
    Applied(Lease),
    Conflict(Option<Lease>),
    Failed(TableError),
}

impl Operator {
    /// 3.3: the heartbeat.
    pub(super) async fn renew(&self, lease: Lease, doubt: &mut Doubt) -> Verdict {
        let began = Instant::now();
        let verdict = self.try_to_renew(lease, doubt).await;
        // A lost lease counts as a success too: the table has answered.
        let is_success = !matches!(verdict, Verdict::Unsure(_));
        self.metrics.call(
            Operation::RenewAllLeases,
            Of::Worker,
            Call::RENEW_LEASE,
            is_success,
            began,
        );
        verdict
    }

    /// A row that is ours and ahead, without a write of ours that it could show: perhaps another process of this id is at
    /// work, or a leader gave us anew what we hold. The report, on its condition, tells. By the rules of 2.x, where nobody
    /// reports, a few such writes do. `false`: this process must end.
    fn may_go_on(&self, mine: &Lease, row: &Lease, doubt: &mut Doubt) -> bool {
        if row.counter == mine.counter || std::mem::replace(&mut doubt.of_own_write, true) {
            return true;
        }
        doubt.foreign_writes += 1;
        self.identity.suspect();
        let is_twin = !self.rules.borrow().reports() && doubt.foreign_writes >= FOREIGN_RENEWALS_MAX;
        if is_twin && !self.identity.is_lost() {
            self.identity.lose(&self.me);
        }
        !is_twin
    }

    async fn try_to_renew(&self, mut lease: Lease, doubt: &mut Doubt) -> Verdict {
        let mut last = TableError::Conflict(None);
        for _ in 0..WRITES_MAX {
            let sent = Instant::now();
            match self.write(&lease, &lease.renew()).await {
                Answer::Applied(now) if now.is_worked_on_by(&self.me) => {
                    return Verdict::Held(Box::new(now), sent);
                }
                Answer::Applied(now) => return Verdict::Lost(Some(Box::new(now))),
                // A hand-off was requested, or an answer of ours was lost: in both cases the row tells, and the
                // renewal is sent again from there, so that its time is known.
                Answer::Conflict(row) => match standing(&lease, row.as_ref(), &self.me) {
                    Standing::Ours(row) if !self.may_go_on(&lease, &row, doubt) => {
                        return Verdict::Lost(Some(row));
                    }
                    Standing::Ours(row) => {
                        last = TableError::Conflict(None);
                        lease = Lease {
                            throughput_kbps: lease.throughput_kbps,
                            ..*row
                        };
                    }
                    Standing::Lost => return self.lost(row),
                },
                Answer::Failed(error) => return Verdict::Unsure(error),
            }
        }
        Verdict::Unsure(last)
    }

    /// 2.3, with lost answers recognised: what the row says in the end decides, not what the answer did not say. A write
    /// without an answer is sent again, on the same counter: of the two only one can be applied.
    pub(super) async fn checkpoint(
        &self,
        lease: Lease,
        position: &Position,
        doubt: &mut Doubt,
    ) -> (Verdict, Result<(), CheckpointError>) {
        let (began, shard) = (Instant::now(), lease.key.clone());
        let (verdict, result) = self.try_to_checkpoint(lease, position, doubt).await;
        let is_success = !matches!(verdict, Verdict::Unsure(_));
        let operation = checkpoint_operation(position);
        self.metrics.call(
            operation,
            Of::Shard(&shard),
            Call::UPDATE_LEASE,
            is_success,
            began,
        );
        (verdict, result)
    }

    async fn try_to_checkpoint(
        &self,
        mut lease: Lease,
        position: &Position,
        doubt: &mut Doubt,
    ) -> (Verdict, Result<(), CheckpointError>) {
        let is_unanswered = AtomicBool::new(false);
        for _ in 0..WRITES_MAX {
            // Further than we are: somebody works on it under our name, in another process, or in a later tenure.
            if lease.checkpoint > *position {
                let row = Some(lease);
                return (self.lost(row), Err(CheckpointError::LeaseLost));
            }
            let write = lease.checkpoint_at(position);
            let attempt = retry(
                &self.clock,
                CHECKPOINT_PATIENCE,
                "storing a checkpoint",
                || async {
                    let sent = Instant::now();
                    match self.write(&lease, &write).await {
                        #[cfg(planted)]
                        Answer::Failed(TableError::Unknown(_))
                            if planted::is_planted(planted::Bug::AnswerBelieved) =>
                        {
                            Ok((Answer::Applied(lease.clone()), sent))
                        }
                        Answer::Failed(error) => {
                            is_unanswered.fetch_or(matches!(error, TableError::Unknown(_)), Relaxed);
                            Err(error)
                        }
                        answer @ (Answer::Applied(_) | Answer::Conflict(_)) => Ok((answer, sent)),
                    }
                },
            );
            let attempt = attempt.instrument(span_of(&lease)).await;
            doubt.of_own_write |= is_unanswered.load(Relaxed);
            let row = match attempt {
                Ok((Answer::Applied(now), sent)) if now.is_worked_on_by(&self.me) => {
                    return (Verdict::Held(Box::new(now), sent), Ok(()));
                }
                // Written under our counter, while the owners are no longer ours: stored, and lost.
                Ok((Answer::Applied(now), _)) => return (Verdict::Lost(Some(Box::new(now))), Ok(())),
                Ok((Answer::Conflict(row), _)) => row,
                Ok((Answer::Failed(error), _)) | Err(error) => {
                    let reply = match &error {
                        // Of a write before it nobody knows what became of it.
                        TableError::Throttled(_) if is_unanswered.load(Relaxed) => dependency(&error),
                        error => checkpoint_error(error),
                    };
                    return (Verdict::Unsure(error), Err(reply));
                }
            };
            match standing(&lease, row.as_ref(), &self.me) {
                Standing::Ours(row) if row.counter > lease.counter && row.checkpoint == *position => {
                    return (Verdict::Ours(row), Ok(()));
                }
                Standing::Ours(row) if !self.may_go_on(&lease, &row, doubt) => {
                    return (Verdict::Lost(Some(row)), Err(CheckpointError::LeaseLost));
                }
                Standing::Ours(row) => lease = *row,
                Standing::Lost => return (self.lost(row), Err(CheckpointError::LeaseLost)),
            }
        }
        let error = TableError::Conflict(None);
        let reply = checkpoint_error(&error);
        (Verdict::Unsure(error), Err(reply))
    }

    /// It is lost; under our own name, it may be to another process of this id.
    fn lost(&self, row: Option<Lease>) -> Verdict {
        if row.as_ref().is_some_and(|row| row.is_worked_on_by(&self.me)) {
            self.identity.suspect();
        }
        Verdict::Lost(row.map(Box::new))
    }

    /// Who gets a lease that this worker gives away without being asked; `None`: nobody.
    ///
    /// Compat: by the rules of 2.x, another worker that renews leases, by chance. One of ours finds it at its next look;
    /// a Java worker takes it when it has expired, as it would have done anyway. A lease that suddenly has no owner ends
    /// a round of its taker with a NullPointerException.
    fn heir(&self) -> Option<WorkerId> {
        if self.rules.borrow().assigns() {
            return None;
        }
        let heirs = self.heirs.borrow();
        let chosen = self.clock.chance(|rng| rng.below(heirs.len() as u64));
        heirs.get(chosen as usize).cloned()
    }

    /// 2.5 to the next owner where a hand-off is pending, else to the heir, else 2.7. An error: it may still be ours.
    pub(super) async fn give_away(&self, mut lease: Lease) -> Verdict {
        let patience = Patience {
            tries_max: Some(5),
            ..Patience::ENDLESS
        };
        let heir = self.heir();
        for _ in 0..WRITES_MAX {
            let next = lease.hand_over_to(&self.me).or(heir.as_ref()).cloned();
            let write = lease.give_away(&self.me, heir.as_ref());
            let attempt = retry(&self.clock, patience, "giving a lease away", || async {
                match self.write(&lease, &write).await {
                    Answer::Failed(error) => Err(error),
                    answer @ (Answer::Applied(_) | Answer::Conflict(_)) => Ok(answer),
                }
            });
            match attempt.instrument(span_of(&lease)).await {
                // Any other owner by now: a repeated write of ours was applied, or somebody was first.
                Ok(Answer::Conflict(Some(row))) if row.is_worked_on_by(&self.me) => lease = row,
                Ok(Answer::Applied(_) | Answer::Conflict(_) | Answer::Failed(_)) => {
                    return Verdict::Given(next);
                }
                Err(error) => return Verdict::Unsure(error),
            }
        }
        Verdict::Unsure(TableError::Conflict(None))
    }

    async fn read(&self, lease: &Lease) -> Result<Option<Lease>, TableError> {
        self.rows.lease(&lease.key).await
    }

    async fn write(&self, lease: &Lease, write: &Write) -> Answer {
        match self.rows.write(write).await {
            Ok(item) => Answer::Applied(self.applied(lease, write, item.as_ref())),
            Err(TableError::Conflict(Some(item))) => Answer::Conflict(self.rows.lease_in(&item)),
            // DynamoDB Local does not return the old row (trap 54).
            Err(TableError::Conflict(None)) => match self.read(lease).await {
                Ok(row) => Answer::Conflict(row),
                Err(error) => Answer::Failed(error),
            },
            Err(error) => Answer::Failed(error),
        }
    }

    fn applied(&self, lease: &Lease, write: &Write, item: Option<&Item>) -> Lease {
        item.and_then(|item| self.rows.lease_in(item))
            .unwrap_or_else(|| lease.after(write))
    }
}

/// The shard's name in front of what `retry` has to say.
fn span_of(lease: &Lease) -> Span {
    info_span!("shard", shard = %lease.key)
}

fn dependency(why: impl ToString) -> CheckpointError {
    CheckpointError::Dependency(why.to_string())
}

/// The names of `leasing.md 2.10`.
fn checkpoint_error(error: &TableError) -> CheckpointError {
    match error {
        TableError::Throttled(_) => CheckpointError::Throttled,
        TableError::Missing(what) => CheckpointError::InvalidState(format!("{what} does not exist")),
        TableError::Conflict(_) | TableError::Unknown(_) | TableError::Refused(_) => dependency(error),
    }
}
