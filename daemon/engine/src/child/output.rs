//! The child's two outputs, read all the time so that it never blocks on a full pipe.
//!
//! stdout becomes messages in a bounded queue, stderr becomes log lines.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use multilangd_core::ids::ShardId;
use multilangd_protocol::{FromChild, LineEvent, Lines, Note, Skipped, parse};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{Level, debug, info, warn};

/// A child that runs ahead of the daemon is read up to here, then its pipe fills up and it waits. A well-behaved one
/// has a handful of messages under way; several per record of the largest batch would be a few thousand.
pub(super) const MESSAGES_MAX: usize = 4096;
/// The same in bytes: a checkpoint request may carry any text up to the line limit.
const MESSAGES_BYTES_MAX: usize = 1024 * 1024;
/// One read of a pipe, at first: a child's usual message is one short line, and a worker has two such pipes for each of its
/// shards.
const READ_BYTES: usize = 512;
/// The same of a child that has more to say. A Linux pipe holds 64 KiB.
const READ_BYTES_MAX: usize = 8 * 1024;
/// So much of a line that is no message goes into the log.
const QUOTED_CHARS_MAX: usize = 500;
/// A longer line on stderr is logged in pieces.
const STDERR_LINE_BYTES_MAX: usize = 64 * 1024;
/// So much of its stderr is repeated when a child fails: enough for the end of a stack trace.
const LAST_WORDS_LINES_MAX: usize = 10;

type Pipe = Box<dyn AsyncRead + Send + Unpin>;

/// What was read of a pipe, in a buffer that grows with what there is to read at once.
struct Chunk {
    buffer: Vec<u8>,
    bytes: usize,
}

impl Chunk {
    fn new() -> Self {
        Self {
            buffer: vec![0; READ_BYTES],
            bytes: 0,
        }
    }

    /// Reads what is there; waits for it. Nothing: the end.
    async fn read(&mut self, pipe: &mut Pipe) -> std::io::Result<&[u8]> {
        let size = self.buffer.len();
        if self.bytes == size && size < READ_BYTES_MAX {
            self.buffer.resize(2 * size, 0);
        }
        self.bytes = pipe.read(&mut self.buffer).await?;
        Ok(&self.buffer[..self.bytes])
    }
}

/// A message on its way to the conversation.
pub(super) struct Queued {
    pub(super) body: FromChild,
    _room: OwnedSemaphorePermit,
}

/// Reads stdout to its end. The queue closes there.
pub(super) async fn read_messages(
    mut stdout: Pipe,
    shard: ShardId,
    line_bytes_max: usize,
    queue: mpsc::Sender<Queued>,
) {
    let mut lines = Lines::new(line_bytes_max);
    let mut listener = Listener {
        shard,
        line_bytes_max,
        warned_of_key: false,
        warned_of_alias: false,
    };
    let room = Arc::new(Semaphore::new(MESSAGES_BYTES_MAX));
    let mut chunk = Chunk::new();
    let mut heard = Vec::new();
    loop {
        let text = chunk.read(&mut stdout).await.unwrap_or_else(|error| {
            warn!(shard = %listener.shard, %error, "the child's stdout cannot be read");
            &[]
        });
        let is_end = text.is_empty();
        if is_end {
            lines.finish(|event| heard.extend(listener.hear(event)));
        } else {
            lines.feed(text, |event| heard.extend(listener.hear(event)));
        }
        for body in heard.drain(..) {
            let permits = u32::try_from(size(&body).min(MESSAGES_BYTES_MAX)).unwrap_or(u32::MAX);
            let Ok(_room) = Arc::clone(&room).acquire_many_owned(permits).await else {
                return;
            };
            if queue.send(Queued { body, _room }).await.is_err() {
                return; // the session is gone
            }
        }
        if is_end {
            return;
        }
    }
}

fn size(body: &FromChild) -> usize {
    let text = match body {
        FromChild::Status { response_for } => response_for.as_deref(),
        FromChild::Checkpoint(request) => request.sequence_number.as_deref(),
        FromChild::Ignored => None,
    };
    text.map_or(0, str::len)
}

/// Tells messages from everything else, and says what it left out.
struct Listener {
    shard: ShardId,
    line_bytes_max: usize,
    warned_of_key: bool,
    warned_of_alias: bool,
}

impl Listener {
    fn hear(&mut self, event: LineEvent<'_>) -> Option<FromChild> {
        let shard = &self.shard;
        let line = match event {
            LineEvent::Line(line) => line,
            LineEvent::TooLong { bytes } => {
                let limit = self.line_bytes_max;
                warn!(%shard, bytes, limit, "a line on the child's stdout is too long for a message and was skipped");
                return None;
            }
        };
        match parse(line) {
            Ok(message) => {
                for note in &message.notes {
                    let warned = match note {
                        Note::UnknownKey(_) => &mut self.warned_of_key,
                        Note::CheckpointAlias => &mut self.warned_of_alias,
                    };
                    if !std::mem::replace(warned, true) {
                        warn!(%shard, %note, "a message of the child is accepted, but Java's daemon would skip it");
                    }
                }
                if message.body == FromChild::Ignored {
                    debug!(%shard, line = %quoted(line), "the child said what only a daemon says");
                }
                Some(message.body)
            }
            Err(Skipped::Empty) => None,
            Err(reason) => {
                info!(%shard, %reason, line = %quoted(line), "skipping unexpected line on the child's stdout");
                None
            }
        }
    }
}

fn quoted(line: &[u8]) -> String {
    let start = &line[..line.len().min(4 * QUOTED_CHARS_MAX)];
    shortened(&String::from_utf8_lossy(start), line.len() > start.len())
}

fn shortened(text: &str, already: bool) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None if already => format!("{text}…"),
        None => text.to_owned(),
    }
}

/// The last lines of a child's stderr, for the error that ends it.
#[derive(Clone, Debug, Default)]
pub(super) struct LastWords(Arc<Mutex<VecDeque<String>>>);

impl LastWords {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_WORDS_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(shortened(line, false));
    }

    /// Oldest first.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }
}

/// Reads stderr to its end: each line once, as it came.
///
/// Compat: Java logs every line as an error and prints it a second time.
pub(super) async fn log_stderr(mut stderr: Pipe, shard: ShardId, level: Level, last_words: LastWords) {
    let mut lines = Lines::splitting(STDERR_LINE_BYTES_MAX);
    let mut chunk = Chunk::new();
    let log = |event: LineEvent<'_>| {
        if let LineEvent::Line(line) = event {
            let line = String::from_utf8_lossy(line);
            emit(level, &shard, &line);
            last_words.push(&line);
        }
    };
    loop {
        match chunk.read(&mut stderr).await {
            Ok([]) => return lines.finish(log),
            Ok(text) => lines.feed(text, log),
            Err(error) => {
                warn!(%shard, %error, "the child's stderr cannot be read");
                return lines.finish(log);
            }
        }
    }
}

/// `tracing` wants the level of an event to be a constant.
fn emit(level: Level, shard: &ShardId, line: &str) {
    match level {
        Level::ERROR => tracing::error!(target: "child", %shard, line),
        Level::WARN => tracing::warn!(target: "child", %shard, line),
        Level::INFO => tracing::info!(target: "child", %shard, line),
        Level::DEBUG => tracing::debug!(target: "child", %shard, line),
        Level::TRACE => tracing::trace!(target: "child", %shard, line),
    }
}
