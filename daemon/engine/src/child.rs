//! A shard's child process: started, talked to, ended.
//!
//! Owns the child for one tenure of a lease: its pipes ([`ChildSession`]) and, over real processes, its process group
//! ([`ChildCommand`]). What may be said and what may be checkpointed is decided in `core`; what happens to the daemon
//! when a child fails is decided by whoever gets the [`ChildError`].

mod error;
mod groups;
mod input;
mod launch;
mod outgoing;
mod output;
mod process;
mod session;

pub use error::{ChildError, Departure};
pub use groups::kill_all;
pub use input::ChildInput;
pub use process::ChildCommand;
pub use session::{ChildEnd, ChildSession, Ending, SessionSettings};

use async_trait::async_trait;
use multilangd_core::ids::{Position, ShardId};
use tokio::io::AsyncRead;

/// Starts children. Implemented over real processes, and in memory in simulations.
#[async_trait]
pub trait Spawn: Send + Sync + 'static {
    /// Starts the child of a shard.
    async fn spawn(&self, shard: &ShardId) -> std::io::Result<Spawned>;
}

/// A child that has just been started: its pipes and its process.
pub struct Spawned {
    /// The child's standard input.
    pub stdin: Box<dyn ChildInput>,
    /// The child's standard output.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// The child's standard error.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// The process behind them.
    pub process: Box<dyn Process>,
}

/// A started process.
#[async_trait]
pub trait Process: Send {
    /// The process id, where there is one.
    fn id(&self) -> Option<u32>;
    /// Waits for it to end: the exit code, or 128 + the signal that ended it. Cancel-safe.
    async fn wait(&mut self) -> std::io::Result<i32>;
    /// Asks it, and its process group, to end (SIGTERM).
    fn terminate(&mut self);
    /// Ends it, and its process group, now (SIGKILL).
    fn kill(&mut self);
}

/// Who stores the checkpoints that a child asks for.
#[async_trait]
pub trait Checkpointer: Send {
    /// Stores the position. The error's name goes to the child (`protocol.md 6.3`).
    async fn store(&mut self, position: &Position) -> Result<(), CheckpointError>;
}

/// Why a checkpoint was not stored (`protocol.md 6.3`, `consuming.md 6.5`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The lease is no longer held (`ShutdownException`). Do not repeat.
    #[error("the lease is no longer held")]
    LeaseLost,
    /// Provisioned throughput exceeded (`ThrottlingException`). Repeat later.
    #[error("the lease table is throttling")]
    Throttled,
    /// Another failure of the table (`KinesisClientLibDependencyException`). Repeat later.
    #[error("the lease table failed: {0}")]
    Dependency(String),
    /// The table is missing, or checkpoints are not allowed now (`InvalidStateException`). Do not repeat.
    #[error("no checkpoint is possible: {0}")]
    InvalidState(String),
    /// The position is out of range or malformed (`IllegalArgumentException`). Do not repeat.
    #[error("the position is refused: {0}")]
    IllegalArgument(String),
}

impl CheckpointError {
    /// The Java class's simple name, as the reply carries it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::LeaseLost => "ShutdownException",
            Self::Throttled => "ThrottlingException",
            Self::Dependency(_) => "KinesisClientLibDependencyException",
            Self::InvalidState(_) => "InvalidStateException",
            Self::IllegalArgument(_) => "IllegalArgumentException",
        }
    }
}
