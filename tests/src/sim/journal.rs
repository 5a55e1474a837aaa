//! What happened in a simulation, line by line, with simulated time. The same seed writes the same journal, so that
//! lost determinism is itself a failure.
//!
//! Owns the lines and the bridge from the workers' own log. Decides nothing.

use std::cell::RefCell;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// The lines. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    began: Instant,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    lines: Vec<String>,
    /// The first thing that must not have happened.
    violation: Option<String>,
}

/// Errors of workers that a faulty child, or a mistaken operator, causes; every other error means that a person must act, and fails.
const EXPECTED_ERRORS: &[&str] = &[
    "the child failed",
    "the child did not complete shutdownRequested",
    "the child answered shardEnded without having checkpointed",
    // Held against the story, which knows whether an id was used twice.
    "workerId = ",
];

impl Journal {
    /// An empty journal that begins now.
    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            kept: Arc::default(),
        }
    }

    /// Adds a line.
    pub fn note(&self, line: impl AsRef<str>) {
        let line = format!("{:>9} {}", self.began.elapsed().as_millis(), line.as_ref());
        self.with(|kept| kept.lines.push(line));
    }

    /// Something that must not happen. The first one is what the simulation reports.
    pub fn violation(&self, what: impl AsRef<str>) {
        self.note(format!("VIOLATION: {}", what.as_ref()));
        let line = format!("{:>9} {}", self.began.elapsed().as_millis(), what.as_ref());
        self.with(|kept| _ = kept.violation.get_or_insert(line));
    }

    /// The first violation.
    pub fn first_violation(&self) -> Option<String> {
        self.with(|kept| kept.violation.clone())
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.with(|kept| kept.lines.clone())
    }

    /// Makes what workers log on this thread part of this journal, until the guard is dropped.
    pub fn listen(&self) -> (tracing::subscriber::DefaultGuard, Listening) {
        LISTENING.with(|listening| *listening.borrow_mut() = Some(self.clone()));
        (tracing::subscriber::set_default(Log), Listening)
    }

    fn with<T>(&self, f: impl FnOnce(&mut Kept) -> T) -> T {
        f(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::new()
    }
}

thread_local! {
    static LISTENING: RefCell<Option<Journal>> = const { RefCell::new(None) };
}

/// Ends the listening.
pub struct Listening;

impl Drop for Listening {
    fn drop(&mut self) {
        LISTENING.with(|listening| *listening.borrow_mut() = None);
    }
}

/// The workers' log, without spans: a line names its shard or worker itself.
struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.target().starts_with("multilangd")
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let level = *event.metadata().level();
        let text = format!("{level} {}{}", line.message, line.fields);
        LISTENING.with(|listening| {
            let Some(journal) = listening.borrow().clone() else {
                return;
            };
            if level == Level::ERROR
                && !EXPECTED_ERRORS
                    .iter()
                    .any(|start| line.message.starts_with(start))
            {
                journal.violation(format!("a worker needs a person: {text}"));
            } else {
                journal.note(text);
            }
        });
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _infallible = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            // Real time has no place in a journal that must repeat.
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
