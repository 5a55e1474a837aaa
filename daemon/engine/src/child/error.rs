//! What can go wrong with a child, told to the person who wrote it.

use std::fmt;
use std::io;
use std::time::Duration;

use multilangd_core::child::{Action, OutOfTurn};
use multilangd_core::ids::ShardId;

/// The child failed; it is of no use any more. End or drop its session.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be started.
    #[error("the child of {shard} cannot be started: {source}; check executableName")]
    NotStarted {
        /// Its shard.
        shard: ShardId,
        /// Why.
        source: io::Error,
    },
    /// It left while an answer was owed, or would have been.
    #[error("the child of {shard} {how} {}{}", When(*action), LastWords(last_words))]
    Left {
        /// Its shard.
        shard: ShardId,
        /// The action it owed an answer to; `None` between actions.
        action: Option<Action>,
        /// How.
        how: Departure,
        /// The last lines it wrote to stderr.
        last_words: Vec<String>,
    },
    /// It answered something else than it was asked.
    #[error(
        "the child of {shard} answered {} with a status for {}; it must send one status per action, \
         with responseFor set to that action{}",
        action.name(), Answer(response_for.as_deref()), LastWords(last_words)
    )]
    WrongStatus {
        /// Its shard.
        shard: ShardId,
        /// What it was asked.
        action: Action,
        /// What it says it answered.
        response_for: Option<String>,
        /// The last lines it wrote to stderr.
        last_words: Vec<String>,
    },
    /// It said nothing for too long.
    #[error(
        "the child of {shard} did not answer {action} within {} s (timeoutInSeconds); \
         raise it if the child needs longer for one batch{}",
        after.as_secs_f64(), LastWords(last_words)
    )]
    TimedOut {
        /// Its shard.
        shard: ShardId,
        /// What it was asked.
        action: Action,
        /// How long the daemon waited since its last message.
        after: Duration,
        /// The last lines it wrote to stderr.
        last_words: Vec<String>,
    },
    /// The daemon asked for something that cannot follow. A bug of the daemon.
    #[error("the child of {shard} was not asked: {source}")]
    OutOfTurn {
        /// Its shard.
        shard: ShardId,
        /// What was to be said, and when.
        source: OutOfTurn,
    },
}

/// How a child left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// With this code: its own, or 128 + the signal that ended it.
    Exited(i32),
    /// Its output ended while it went on running, so nothing can be heard from it.
    ClosedOutput,
    /// It closed its input, so nothing can be said to it.
    ClosedInput,
}

impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code @ 129..=192) => {
                write!(f, "was ended by signal {} (exit code {code})", code - 128)
            }
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::ClosedOutput => f.write_str("closed its stdout"),
            Self::ClosedInput => f.write_str("closed its stdin"),
        }
    }
}

struct When(Option<Action>);

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(action) => write!(f, "before it answered {action}"),
            None => f.write_str("between two actions, while the daemon still held the shard"),
        }
    }
}

struct Answer<'a>(Option<&'a str>);

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(action) => write!(f, "'{}'", action.escape_debug()),
            None => f.write_str("no action at all"),
        }
    }
}

struct LastWords<'a>(&'a [String]);

impl fmt::Display for LastWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("; it wrote nothing to stderr");
        }
        f.write_str("; its last lines on stderr:")?;
        for line in self.0 {
            write!(f, "\n  {line}")?;
        }
        Ok(())
    }
}
