//! The conversation with a child: what may be said next, and what its messages mean (`protocol.md 1`, `5`–`7`).
//!
//! Owns whose turn it is. Knows neither pipes nor time: the caller writes, reads, waits and gives up.

use std::fmt;

use multilangd_protocol::{CheckpointRequest, FromChild};

/// The five things a daemon asks of a child. Each is answered by one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Once, first.
    Initialize,
    /// For every batch.
    ProcessRecords,
    /// The worker stops, or the lease is handed to another one.
    ShutdownRequested,
    /// The lease is gone.
    LeaseLost,
    /// Every record of the shard has been handed over.
    ShardEnded,
}

impl Action {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::ProcessRecords => "processRecords",
            Self::ShutdownRequested => "shutdownRequested",
            Self::LeaseLost => "leaseLost",
            Self::ShardEnded => "shardEnded",
        }
    }

    /// Whether the child may ask for checkpoints before it answers.
    pub fn may_checkpoint(self) -> bool {
        match self {
            Self::ProcessRecords | Self::ShutdownRequested | Self::ShardEnded => true,
            Self::Initialize | Self::LeaseLost => false,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The daemon's; nothing has been said yet.
    Start,
    /// The child's: it owes a status.
    Owed {
        /// What it was asked.
        action: Action,
        /// Whether it has answered `shutdownRequested` before.
        asked_to_stop: bool,
    },
    /// The daemon's.
    Idle,
    /// The daemon's; the child has answered `shutdownRequested`, rightly or not, and may leave.
    Stopping,
    /// Nobody's: the last action is answered, what remains is the end of the child's input.
    Over,
    /// Nobody's: the child gave a wrong answer or none.
    Failed,
}

/// One tenure's conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    turn: Turn,
}

/// What a message means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The status that was owed: the action is done.
    Answered,
    /// Decide and perform it, then reply.
    Checkpoint(CheckpointRequest),
    /// Reply `InvalidStateException`: there is nothing to checkpoint during this action.
    NoCheckpointNow(CheckpointRequest),
    /// It says nothing, but the child is alive.
    Nothing,
    /// Another status than the one that was owed. The action has failed, and so has the child; only after
    /// `shutdownRequested` may `leaseLost` still follow.
    WrongStatus {
        /// What it says it answers.
        response_for: Option<String>,
    },
    /// A status while none was owed: the child has answered twice. Drop it.
    ExtraStatus,
    /// It came while nothing was owed. Keep it, in order, and hear it again during the next action.
    Early(CheckpointRequest),
}

/// What it means that the child is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It had said all that was owed.
    Finished,
    /// It owes an answer, or will.
    TooEarly,
}

/// The action cannot be asked for now. The caller is wrong, not the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action} cannot follow here ({turn:?})")]
pub struct OutOfTurn {
    /// What was to be said.
    pub action: Action,
    /// Whose turn it is.
    pub turn: Turn,
}

impl Default for Conversation {
    fn default() -> Self {
        Self { turn: Turn::Start }
    }
}

impl Conversation {
    /// Whose turn it is.
    pub fn turn(&self) -> Turn {
        self.turn
    }

    /// Whether the child may leave now without having failed: it has answered `shutdownRequested`, or everything.
    pub fn may_leave(&self) -> bool {
        match self.turn {
            Turn::Stopping | Turn::Over => true,
            Turn::Start | Turn::Idle | Turn::Owed { .. } | Turn::Failed => false,
        }
    }

    /// The action is about to be asked for.
    pub fn say(&mut self, action: Action) -> Result<(), OutOfTurn> {
        let asked_to_stop = match (self.turn, action) {
            (Turn::Start, Action::Initialize)
            | (
                Turn::Idle,
                Action::ProcessRecords | Action::ShutdownRequested | Action::LeaseLost | Action::ShardEnded,
            ) => false,
            (Turn::Stopping, Action::LeaseLost | Action::ShardEnded) => true,
            (
                Turn::Start,
                Action::ProcessRecords | Action::ShutdownRequested | Action::LeaseLost | Action::ShardEnded,
            )
            | (Turn::Idle, Action::Initialize)
            | (Turn::Stopping, Action::Initialize | Action::ProcessRecords | Action::ShutdownRequested)
            | (Turn::Owed { .. } | Turn::Over | Turn::Failed, _) => {
                return Err(OutOfTurn {
                    action,
                    turn: self.turn,
                });
            }
        };
        self.turn = Turn::Owed {
            action,
            asked_to_stop,
        };
        Ok(())
    }

    /// The child has said something.
    ///
    /// Compat: a status that comes while none is owed is dropped with a warning. Java leaves it in the pipe and takes
    /// it for the answer to the next action, which fails, or from then on runs one batch ahead of the child.
    /// A checkpoint request that comes then is kept and performed with the next action's rights, as in Java.
    pub fn hear(&mut self, message: FromChild) -> Heard {
        match (self.turn, message) {
            (Turn::Owed { action, .. }, FromChild::Status { response_for }) => {
                if response_for.as_deref() == Some(action.name()) {
                    self.turn = match action {
                        Action::Initialize | Action::ProcessRecords => Turn::Idle,
                        Action::ShutdownRequested => Turn::Stopping,
                        Action::LeaseLost | Action::ShardEnded => Turn::Over,
                    };
                    Heard::Answered
                } else {
                    self.turn = match action {
                        // As in Java, a child that fails to say that it is ready to stop still hears `leaseLost`.
                        Action::ShutdownRequested => Turn::Stopping,
                        Action::Initialize
                        | Action::ProcessRecords
                        | Action::LeaseLost
                        | Action::ShardEnded => Turn::Failed,
                    };
                    Heard::WrongStatus { response_for }
                }
            }
            (Turn::Owed { action, .. }, FromChild::Checkpoint(request)) if action.may_checkpoint() => {
                Heard::Checkpoint(request)
            }
            (Turn::Owed { .. }, FromChild::Checkpoint(request)) => Heard::NoCheckpointNow(request),
            (Turn::Start | Turn::Idle | Turn::Stopping, FromChild::Checkpoint(request)) => {
                Heard::Early(request)
            }
            (Turn::Start | Turn::Idle | Turn::Stopping, FromChild::Status { .. }) => Heard::ExtraStatus,
            (Turn::Over | Turn::Failed, FromChild::Status { .. } | FromChild::Checkpoint(_))
            | (_, FromChild::Ignored) => Heard::Nothing,
        }
    }

    /// The child is gone, or will not be heard any more: it left, its output ended, or its time is up.
    ///
    /// Compat: a child that leaves after it has answered `shutdownRequested` is finished; nothing has to be said to it
    /// any more. Java fails over the `leaseLost` that it cannot deliver, and exits with 1.
    pub fn gone(&mut self) -> Gone {
        match self.turn {
            Turn::Stopping
            | Turn::Over
            | Turn::Owed {
                asked_to_stop: true,
                action: Action::LeaseLost,
            } => {
                self.turn = Turn::Over;
                Gone::Finished
            }
            Turn::Start | Turn::Idle | Turn::Failed | Turn::Owed { .. } => {
                self.turn = Turn::Failed;
                Gone::TooEarly
            }
        }
    }
}

#[cfg(test)]
mod tests;
