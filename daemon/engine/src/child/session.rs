//! One tenure with a child: one action at a time, both pipes served at once, and an end with a limit.
//!
//! Owns the child's process and pipes, and the order of what is written. Whose turn it is and what may be
//! checkpointed is decided in `core`.

use std::collections::VecDeque;
use std::time::Duration;

use multilangd_core::checkpoint::{Checkpoints, Decision};
use multilangd_core::child::{Action, Conversation, Gone, Heard};
use multilangd_core::ids::{Position, ShardId};
use multilangd_core::records::{BatchLine, Records};
use multilangd_protocol::{CheckpointRequest, FromChild, lines, write};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Level, debug, info, warn};

use super::error::{ChildError, Departure};
use super::outgoing::Outgoing;
use super::output::{LastWords, MESSAGES_MAX, Queued, log_stderr, read_messages};
use super::{CheckpointError, Checkpointer, ChildInput, Process, Spawn};

/// Replies that wait to be read by the child; with more under way nothing more is heard from it. Java stops at one.
const REPLIES_BYTES_MAX: usize = 64 * 1024;
/// How long the pipes of an exited child are read on. What it wrote itself is there already; a process that it left
/// behind may hold them open for ever.
const PIPES_PATIENCE: Duration = Duration::from_secs(1);

/// How long to wait for a child that must be gone any moment, for the sake of a better error: its exit code, and the rest
/// of its stderr.
const LAST_WORDS_PATIENCE: Duration = Duration::from_millis(500);
/// How long SIGKILL may take. A process that hangs in a system call outlives it.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// Stands for an exit code that the system would not tell.
const EXIT_CODE_UNKNOWN: i32 = -1;

/// How a child is treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    /// Longest line on its stdout that is read as a message; a longer one is skipped.
    pub line_bytes_max: usize,
    /// `timeoutInSeconds`: how long to wait for each message while an answer is owed. `None`: for ever.
    pub reply_timeout: Option<Duration>,
    /// How long it may take to exit once its input has ended.
    pub exit_patience: Duration,
    /// How long it may take to exit after SIGTERM.
    pub term_patience: Duration,
    /// The level that its stderr is logged at.
    pub stderr_level: Level,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            line_bytes_max: lines::LINE_BYTES_MAX,
            reply_timeout: None,
            exit_patience: Duration::from_secs(10),
            term_patience: Duration::from_secs(5),
            stderr_level: Level::INFO,
        }
    }
}

/// How a child's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChildEnd {
    /// Its exit code, or 128 + the signal that ended it; `None` if even SIGKILL did not help in time.
    pub code: Option<i32>,
    /// What it took.
    pub ending: Ending,
}

/// What it took to end a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It exited when its input ended, or before.
    ByItself,
    /// It ignored the end of its input.
    Terminated,
    /// It ignored SIGTERM too.
    Killed,
}

/// A child and the conversation with it. Dropping it kills the child's whole process group at once.
pub struct ChildSession {
    shard: ShardId,
    settings: SessionSettings,
    conversation: Conversation,
    process: Box<dyn Process>,
    exit_code: Option<i32>,
    /// `None` once it is closed, by either side.
    stdin: Option<Box<dyn ChildInput>>,
    out: Outgoing,
    messages: mpsc::Receiver<Queued>,
    /// Requests that came while nothing was owed. No more than the queue holds: they are taken out of it.
    early: VecDeque<CheckpointRequest>,
    stdout_task: JoinHandle<()>,
    stdout_over: CancellationToken,
    stderr_task: JoinHandle<()>,
    stderr_over: CancellationToken,
    last_words: LastWords,
}

/// Who decides on checkpoints during an action, and who stores them.
type Checkpointing<'a> = Option<(&'a mut Checkpoints, &'a mut dyn Checkpointer)>;

enum Event {
    Message(FromChild),
    /// Everything that the child has said is heard, and there will be no more.
    OutputEnded,
    Written(std::io::Result<usize>),
    Exited(std::io::Result<i32>),
    /// It has exited or closed its input, and has had its moment to answer all the same.
    Gone,
    ReplyLate,
}

impl ChildSession {
    /// Starts the child of a shard.
    pub async fn start(
        spawn: &dyn Spawn,
        shard: &ShardId,
        settings: SessionSettings,
    ) -> Result<Self, ChildError> {
        let spawned = spawn
            .spawn(shard)
            .await
            .map_err(|source| ChildError::NotStarted {
                shard: shard.clone(),
                source,
            })?;
        let (queue, messages) = mpsc::channel(MESSAGES_MAX);
        let last_words = LastWords::default();
        let (stdout_over, stderr_over) = (CancellationToken::new(), CancellationToken::new());
        let stdout = read_messages(spawned.stdout, shard.clone(), settings.line_bytes_max, queue);
        let stdout = at_the_end(stdout, stdout_over.clone());
        let stderr = log_stderr(
            spawned.stderr,
            shard.clone(),
            settings.stderr_level,
            last_words.clone(),
        );
        let stderr = at_the_end(stderr, stderr_over.clone());
        info!(%shard, pid = spawned.process.id(), "child started");
        Ok(Self {
            shard: shard.clone(),
            settings,
            conversation: Conversation::default(),
            process: spawned.process,
            exit_code: None,
            stdin: Some(spawned.stdin),
            out: Outgoing::default(),
            messages,
            early: VecDeque::new(),
            stdout_task: tokio::spawn(stdout),
            stdout_over,
            stderr_task: tokio::spawn(stderr),
            stderr_over,
            last_words,
        })
    }

    /// The child's process id, where there is one.
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// Tells the child its shard and the position up to which it has been processed; returns when it has answered.
    pub async fn initialize(&mut self, position: &Position) -> Result<(), ChildError> {
        let shard = self.shard.clone();
        let (text, sub_sequence_number) = (position.text(), position.sub_sequence_number());
        self.ask(Action::Initialize, None, |out| {
            out.say(|line| write::initialize(line, shard.as_str(), text, sub_sequence_number));
        })
        .await
    }

    /// Hands over a batch; returns when the child has answered, with every checkpoint stored that it asked for. Once
    /// the child has read them, the records are gone from memory.
    pub async fn process_records(
        &mut self,
        records: Records,
        millis_behind_latest: Option<i64>,
        checkpoints: &mut Checkpoints,
        store: &mut dyn Checkpointer,
    ) -> Result<(), ChildError> {
        if let Some(last) = records.last_position() {
            checkpoints.delivered(&last);
        }
        let line = BatchLine::new(records, millis_behind_latest);
        if let Some(stdin) = &mut self.stdin {
            stdin.announce(line.bytes_expected());
        }
        self.ask(Action::ProcessRecords, Some((checkpoints, store)), |out| {
            out.say_batch(line);
        })
        .await
    }

    /// Tells the child that the worker stops or the lease is handed over; it may still checkpoint.
    pub async fn shutdown_requested(
        &mut self,
        checkpoints: &mut Checkpoints,
        store: &mut dyn Checkpointer,
    ) -> Result<(), ChildError> {
        self.ask(Action::ShutdownRequested, Some((checkpoints, store)), |out| {
            out.say(write::shutdown_requested);
        })
        .await
    }

    /// Tells the child that it has seen every record; returns when it has answered. Whether it has checkpointed the end,
    /// as it must, is for the caller to see ([`Checkpoints::is_finished`]). Then [`Self::end`] the session.
    pub async fn shard_ended(
        &mut self,
        checkpoints: &mut Checkpoints,
        store: &mut dyn Checkpointer,
    ) -> Result<(), ChildError> {
        checkpoints.shard_ended();
        self.ask(Action::ShardEnded, Some((checkpoints, store)), |out| {
            out.say(write::shard_ended);
        })
        .await
    }

    /// Tells the child that its lease is gone; returns when it has answered. Then [`Self::end`] the session.
    ///
    /// A child that has answered `shutdownRequested` and left needs no telling.
    pub async fn lease_lost(&mut self) -> Result<(), ChildError> {
        self.ask(Action::LeaseLost, None, |out| out.say(write::lease_lost))
            .await
    }

    /// Waits, between actions, for the child to leave although it is still needed. Cancel-safe; never returns if the
    /// child may leave.
    pub async fn left(&mut self) -> ChildError {
        if self.conversation.may_leave() {
            return std::future::pending().await;
        }
        if self.exit_code.is_none() {
            tokio::select! {
                biased;
                code = self.process.wait() => self.exited(code),
                () = self.stdout_over.cancelled() => {}
            }
        }
        self.left_error(None, Departure::ClosedOutput).await
    }

    /// Ends the child: the end of its input, a limited wait, SIGTERM, a limited wait, SIGKILL; each for its whole
    /// process group, of which nothing is left afterwards. What it still prints is passed on until then.
    pub async fn end(mut self) -> ChildEnd {
        self.stdin = None;
        let mut unheard = 0;
        let mut ending = Ending::ByItself;
        if !self.exits_within(self.settings.exit_patience, &mut unheard).await {
            let waited = self.settings.exit_patience;
            warn!(shard = %self.shard, ?waited, "the child does not exit at the end of its input; sending SIGTERM");
            ending = Ending::Terminated;
            self.process.terminate();
        }
        if !self.exits_within(self.settings.term_patience, &mut unheard).await {
            let waited = self.settings.term_patience;
            warn!(shard = %self.shard, ?waited, "the child does not exit on SIGTERM; sending SIGKILL");
            ending = Ending::Killed;
            self.process.kill();
            self.exits_within(KILL_PATIENCE, &mut unheard).await;
        }
        // The child is gone. What it left behind in its group may hold its pipes, and has had its chance.
        if !self.pipes_end_within(PIPES_PATIENCE, &mut unheard).await {
            warn!(shard = %self.shard, "the child left processes behind that hold its pipes; killing its process group");
        }
        self.process.kill();
        self.pipes_end_within(PIPES_PATIENCE, &mut unheard).await;
        if unheard > 0 {
            warn!(shard = %self.shard, messages = unheard, "the child went on talking after its last status; nothing was done about it");
        }
        info!(shard = %self.shard, code = self.exit_code, ?ending, "child ended");
        ChildEnd {
            code: self.exit_code,
            ending,
        }
    }

    /// Asks for one action and serves the child until it has answered.
    async fn ask(
        &mut self,
        action: Action,
        mut checkpointing: Checkpointing<'_>,
        say: impl FnOnce(&mut Outgoing),
    ) -> Result<(), ChildError> {
        self.hear_early();
        let may_leave = self.conversation.may_leave();
        if let Err(source) = self.conversation.say(action) {
            return Err(ChildError::OutOfTurn {
                shard: self.shard.clone(),
                source,
            });
        }
        if may_leave && self.is_gone().await {
            return self.gone(action, Departure::ClosedOutput).await;
        }
        if self.stdin.is_none() {
            return self.gone(action, Departure::ClosedInput).await; // it cannot be asked
        }
        say(&mut self.out);
        let result = self.serve(action, &mut checkpointing).await;
        self.out.clear();
        result
    }

    async fn serve(
        &mut self,
        action: Action,
        checkpointing: &mut Checkpointing<'_>,
    ) -> Result<(), ChildError> {
        let mut reply_deadline = self.reply_deadline();
        let mut gone_deadline = self.exit_code.map(|_| Instant::now() + PIPES_PATIENCE);
        loop {
            let event = match self.early.pop_front() {
                Some(request) => Event::Message(FromChild::Checkpoint(request)),
                None => self.event(reply_deadline, gone_deadline).await,
            };
            match event {
                Event::Message(message) => {
                    match self.conversation.hear(message) {
                        Heard::Answered => break,
                        Heard::Checkpoint(request) => self.checkpoint(&request, checkpointing).await,
                        Heard::NoCheckpointNow(request) => self.refuse(action, &request),
                        Heard::Nothing | Heard::ExtraStatus | Heard::Early(_) => {}
                        Heard::WrongStatus { response_for } => {
                            return Err(self.wrong_status(action, response_for).await);
                        }
                    }
                    // Compat: counted from the last message, as in Java, and not while a checkpoint is stored.
                    reply_deadline = self.reply_deadline();
                }
                Event::Written(Ok(bytes)) => {
                    self.out.wrote(bytes);
                }
                Event::Written(Err(error)) => {
                    self.closed_input(&error);
                    gone_deadline.get_or_insert(Instant::now() + self.settings.exit_patience);
                }
                Event::Exited(code) => {
                    self.exited(code);
                    gone_deadline = Some(Instant::now() + PIPES_PATIENCE);
                }
                Event::OutputEnded => return self.gone(action, Departure::ClosedOutput).await,
                Event::Gone => return self.gone(action, Departure::ClosedInput).await,
                Event::ReplyLate => return Err(self.timed_out(action)),
            }
        }
        self.finish_writing(action).await
    }

    /// What happens next while an answer is owed.
    async fn event(&mut self, reply_deadline: Option<Instant>, gone_deadline: Option<Instant>) -> Event {
        let unwritten = self.out.unwritten();
        // Hearing more makes more replies; a child that does not read them is not heard until it does.
        let may_hear = self.out.replies_bytes() < REPLIES_BYTES_MAX;
        tokio::select! {
            biased;
            message = self.messages.recv(), if may_hear => match message {
                Some(queued) => Event::Message(queued.body),
                None => Event::OutputEnded,
            },
            written = write_some(self.stdin.as_mut(), unwritten), if self.stdin.is_some() && !unwritten.is_empty() => {
                Event::Written(written)
            }
            code = self.process.wait(), if self.exit_code.is_none() => Event::Exited(code),
            () = until(gone_deadline) => Event::Gone,
            () = until(reply_deadline) => Event::ReplyLate,
        }
    }

    /// The answer is there, but the child may not have read all that was said before it.
    ///
    /// Compat: a child that leaves or closes its input without reading the rest has answered all the same. Java turns
    /// that into a failure.
    async fn finish_writing(&mut self, action: Action) -> Result<(), ChildError> {
        let deadline = self.reply_deadline();
        while self.stdin.is_some() && self.exit_code.is_none() && !self.out.unwritten().is_empty() {
            let unwritten = self.out.unwritten();
            tokio::select! {
                biased;
                written = write_some(self.stdin.as_mut(), unwritten) => match written {
                    Ok(bytes) => self.out.wrote(bytes),
                    Err(error) => self.closed_input(&error),
                },
                code = self.process.wait() => self.exited(code),
                () = until(deadline) => return Err(self.timed_out(action)),
            }
        }
        Ok(())
    }

    /// Takes what came since the last answer, before anything else is said: none of it can be an answer to that.
    fn hear_early(&mut self) {
        while let Ok(queued) = self.messages.try_recv() {
            match self.conversation.hear(queued.body) {
                Heard::Early(request) => self.early.push_back(request),
                Heard::ExtraStatus => warn!(
                    shard = %self.shard,
                    "the child sent a status that nothing was owed for; it was dropped, but a child must answer once"
                ),
                Heard::Nothing
                | Heard::Answered
                | Heard::Checkpoint(_)
                | Heard::NoCheckpointNow(_)
                | Heard::WrongStatus { .. } => {}
            }
            if self.early.len() >= MESSAGES_MAX {
                break;
            }
        }
    }

    async fn checkpoint(&mut self, request: &CheckpointRequest, checkpointing: &mut Checkpointing<'_>) {
        let result = match checkpointing {
            Some((checkpoints, store)) => store_checkpoint(request, checkpoints, &mut **store).await,
            None => Err(CheckpointError::InvalidState("nobody to store it".to_owned())),
        };
        match &result {
            Ok(()) => debug!(shard = %self.shard, position = shown(request), "checkpoint"),
            Err(reason) => {
                warn!(shard = %self.shard, position = shown(request), %reason, "a checkpoint of the child failed");
            }
        }
        self.reply(request, result.err().map(|reason| reason.name()));
    }

    fn refuse(&mut self, action: Action, request: &CheckpointRequest) {
        let position = shown(request);
        warn!(shard = %self.shard, position, %action, "the child asked for a checkpoint where there is nothing to checkpoint");
        let reason = CheckpointError::InvalidState(String::new());
        self.reply(request, Some(reason.name()));
    }

    fn reply(&mut self, request: &CheckpointRequest, error: Option<&str>) {
        self.out.reply(request, error);
    }

    fn reply_deadline(&self) -> Option<Instant> {
        self.settings
            .reply_timeout
            .and_then(|patience| Instant::now().checked_add(patience))
    }

    fn exited(&mut self, code: std::io::Result<i32>) {
        self.exit_code = Some(code.unwrap_or_else(|error| {
            warn!(shard = %self.shard, %error, "the child's exit code is unknown");
            EXIT_CODE_UNKNOWN
        }));
    }

    fn closed_input(&mut self, error: &std::io::Error) {
        debug!(shard = %self.shard, %error, "the child does not read its input any more");
        self.stdin = None;
    }

    async fn is_gone(&mut self) -> bool {
        if self.exit_code.is_none()
            && let Some(code) = now_or_never(self.process.wait()).await
        {
            self.exited(code);
        }
        self.exit_code.is_some() || self.stdin.is_none() || self.stdout_over.is_cancelled()
    }

    /// The child cannot answer any more.
    async fn gone(&mut self, action: Action, how: Departure) -> Result<(), ChildError> {
        match self.conversation.gone() {
            Gone::Finished => Ok(()),
            Gone::TooEarly => Err(self.left_error(Some(action), how).await),
        }
    }

    async fn left_error(&mut self, action: Option<Action>, how: Departure) -> ChildError {
        if self.exit_code.is_none()
            && let Ok(code) = timeout(LAST_WORDS_PATIENCE, self.process.wait()).await
        {
            self.exited(code);
        }
        ChildError::Left {
            shard: self.shard.clone(),
            action,
            how: self.exit_code.map_or(how, Departure::Exited),
            last_words: self.last_words().await,
        }
    }

    async fn wrong_status(&mut self, action: Action, response_for: Option<String>) -> ChildError {
        let last_words = self.last_words.lines();
        ChildError::WrongStatus {
            shard: self.shard.clone(),
            action,
            response_for,
            last_words,
        }
    }

    fn timed_out(&mut self, action: Action) -> ChildError {
        self.conversation.gone();
        ChildError::TimedOut {
            shard: self.shard.clone(),
            action,
            after: self.settings.reply_timeout.unwrap_or_default(),
            last_words: self.last_words.lines(),
        }
    }

    /// What it wrote to stderr before it left, with a moment for it to arrive.
    async fn last_words(&mut self) -> Vec<String> {
        drop(timeout(LAST_WORDS_PATIENCE, self.stderr_over.cancelled()).await);
        self.last_words.lines()
    }

    /// Waits for the process, taking what it says in the meantime out of its way.
    async fn exits_within(&mut self, patience: Duration, unheard: &mut usize) -> bool {
        let deadline = Instant::now() + patience;
        while self.exit_code.is_none() {
            tokio::select! {
                biased;
                code = self.process.wait() => self.exited(code),
                Some(_) = self.messages.recv() => *unheard += 1,
                () = sleep_until(deadline) => return false,
            }
        }
        true
    }

    /// Waits for the end of both outputs, with the same courtesy.
    async fn pipes_end_within(&mut self, patience: Duration, unheard: &mut usize) -> bool {
        let deadline = Instant::now() + patience;
        while !(self.stdout_over.is_cancelled() && self.stderr_over.is_cancelled()) {
            tokio::select! {
                biased;
                Some(_) = self.messages.recv() => *unheard += 1,
                () = both(&self.stdout_over, &self.stderr_over) => {}
                () = sleep_until(deadline) => return false,
            }
        }
        true
    }
}

impl Drop for ChildSession {
    fn drop(&mut self) {
        self.process.kill();
        self.stdout_task.abort();
        self.stderr_task.abort();
    }
}

async fn store_checkpoint(
    request: &CheckpointRequest,
    checkpoints: &mut Checkpoints,
    store: &mut dyn Checkpointer,
) -> Result<(), CheckpointError> {
    match checkpoints.decide(request) {
        Decision::NoOp => Ok(()),
        Decision::Refuse(reason) => Err(CheckpointError::IllegalArgument(reason)),
        Decision::Store(position) => {
            store.store(&position).await?;
            checkpoints.stored(position);
            Ok(())
        }
    }
}

/// A request as the log shows it.
fn shown(request: &CheckpointRequest) -> String {
    const CHARS_MAX: usize = 150; // a sequence number has up to 129 digits
    match (&request.sequence_number, request.sub_sequence_number) {
        (None, _) => "everything delivered".to_owned(),
        (Some(number), None) => number.chars().take(CHARS_MAX).collect(),
        (Some(number), Some(sub)) => format!("{}/{sub}", number.chars().take(CHARS_MAX).collect::<String>()),
    }
}

/// Writes what fits. Cancel-safe: nothing is written if it does not return.
async fn write_some(stdin: Option<&mut Box<dyn ChildInput>>, bytes: &[u8]) -> std::io::Result<usize> {
    match stdin {
        Some(stdin) => match stdin.write(bytes).await? {
            0 => Err(std::io::ErrorKind::WriteZero.into()),
            written => Ok(written),
        },
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Looks once.
async fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        value = future => Some(value),
        () = std::future::ready(()) => None,
    }
}

async fn at_the_end(task: impl Future<Output = ()>, over: CancellationToken) {
    let _guard = over.drop_guard();
    task.await;
}

async fn both(a: &CancellationToken, b: &CancellationToken) {
    a.cancelled().await;
    b.cancelled().await;
}

#[cfg(test)]
mod tests;
