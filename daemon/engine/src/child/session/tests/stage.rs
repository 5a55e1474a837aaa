//! What the stories of sessions are told with: children that follow a script, or are played in memory, and what they leave.

use super::*;

pub(super) fn exited(code: i32) -> ChildEnd {
    ChildEnd {
        code: Some(code),
        ending: Ending::ByItself,
    }
}

/// Waits for a process to be gone, or a zombie that somebody else must reap.
pub(super) async fn is_gone(pid: u32) {
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let gone = async {
        while !stat().is_empty() && !stat().contains(") Z ") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, gone)
        .await
        .unwrap_or_else(|_| panic!("process {pid} is still there"));
}

pub(super) const PRELUDE: &str = r#"
import sys, json, os, time, signal
def say(line): sys.stdout.write(line + "\n"); sys.stdout.flush()
def answer(action): say(json.dumps({"action": "status", "responseFor": action}))
def hear(action):
    message = json.loads(sys.stdin.readline())
    assert message["action"] == action, message
    return message
def checkpoint():
    say('{"action":"checkpoint","sequenceNumber":null}')
    assert hear("checkpoint")["error"] is None
hear("initialize")
answer("initialize")
"#;

pub(super) struct Tenure {
    pub(super) session: ChildSession,
    pub(super) checkpoints: Checkpoints,
    pub(super) store: Stored,
}

impl Tenure {
    /// A child that has been initialized and goes on with the script.
    pub(super) async fn python(script: &str) -> Self {
        Self::python_with(script, SessionSettings::default()).await
    }

    pub(super) async fn python_with(script: &str, settings: SessionSettings) -> Self {
        let first = script
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default();
        let indent = first.len() - first.trim_start().len();
        let script: String = script
            .lines()
            .map(|line| format!("{}\n", line.get(indent..).unwrap_or_default()))
            .collect();
        let argv = [
            "python3".to_owned(),
            "-c".to_owned(),
            format!("{PRELUDE}{script}"),
        ];
        let mut tenure = Self::with(&ChildCommand::new(argv.to_vec()), settings).await;
        let reply_timeout = tenure.session.settings.reply_timeout.take(); // the start of Python is no part of the story
        tenure.session.initialize(&Position::TrimHorizon).await.unwrap();
        tenure.session.settings.reply_timeout = reply_timeout;
        tenure
    }

    pub(super) async fn with(command: &ChildCommand, settings: SessionSettings) -> Self {
        let session = ChildSession::start(command, &"shardId-000000000000".into(), settings)
            .await
            .unwrap();
        Self {
            session,
            checkpoints: Checkpoints::begin(Position::TrimHorizon),
            store: Stored::default(),
        }
    }

    pub(super) async fn process(&mut self, records: &[StreamRecord]) -> Result<(), ChildError> {
        self.session
            .process_records(packed(records), Some(0), &mut self.checkpoints, &mut self.store)
            .await
    }

    pub(super) async fn shutdown_requested(&mut self) -> Result<(), ChildError> {
        self.session
            .shutdown_requested(&mut self.checkpoints, &mut self.store)
            .await
    }

    pub(super) async fn shard_ended(&mut self) -> Result<(), ChildError> {
        self.session
            .shard_ended(&mut self.checkpoints, &mut self.store)
            .await
    }

    pub(super) fn stored(&self) -> Vec<String> {
        self.store.positions.lock().unwrap().clone()
    }
}

#[derive(Clone, Default)]
pub(super) struct Stored {
    pub(super) positions: Arc<Mutex<Vec<String>>>,
    pub(super) fails_with: Option<CheckpointError>,
}

#[async_trait::async_trait]
impl Checkpointer for Stored {
    async fn store(&mut self, position: &Position) -> Result<(), CheckpointError> {
        if let Some(error) = &self.fails_with {
            return Err(error.clone());
        }
        self.positions.lock().unwrap().push(position.to_string());
        Ok(())
    }
}

pub(super) struct SlowStore(pub(super) Duration);

#[async_trait::async_trait]
impl Checkpointer for SlowStore {
    async fn store(&mut self, _position: &Position) -> Result<(), CheckpointError> {
        tokio::time::sleep(self.0).await;
        Ok(())
    }
}

pub(super) fn record(sequence_number: &str) -> StreamRecord {
    StreamRecord {
        sequence_number: SequenceNumber::parse(sequence_number).unwrap(),
        partition_key: "k".to_owned(),
        data: Bytes::from_static(b"hello"),
        approximate_arrival_ms: Some(1_767_225_600_123),
    }
}

pub(super) fn packed(records: &[StreamRecord]) -> Records {
    records.iter().cloned().collect()
}

/// The child's side of a session without a process, for stories about time.
pub(super) struct Child {
    pub(super) stdin: tokio::io::BufReader<tokio::io::DuplexStream>,
    pub(super) stdout: tokio::io::DuplexStream,
}

impl Child {
    pub(super) async fn in_memory(settings: SessionSettings) -> (ChildSession, Self) {
        let (stdin, their_stdin) = tokio::io::duplex(65_536);
        let (stdout, their_stdout) = tokio::io::duplex(65_536);
        let spawned = Spawned {
            stdin: Box::new(stdin),
            stdout: Box::new(their_stdout),
            stderr: Box::new(tokio::io::empty()),
            process: Box::new(Immortal),
        };
        let spawn = Once(Mutex::new(Some(spawned)));
        let session = ChildSession::start(&spawn, &"shardId-000000000000".into(), settings)
            .await
            .unwrap();
        (
            session,
            Self {
                stdin: tokio::io::BufReader::new(their_stdin),
                stdout,
            },
        )
    }

    pub(super) async fn hears(&mut self) -> String {
        let mut line = String::new();
        self.stdin.read_line(&mut line).await.unwrap();
        line
    }

    pub(super) async fn says(&mut self, line: &str) {
        self.stdout
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }
}

pub(super) struct Once(pub(super) Mutex<Option<Spawned>>);

#[async_trait::async_trait]
impl Spawn for Once {
    async fn spawn(&self, _shard: &ShardId) -> std::io::Result<Spawned> {
        Ok(self.0.lock().unwrap().take().unwrap())
    }
}

pub(super) struct Immortal;

#[async_trait::async_trait]
impl Process for Immortal {
    fn id(&self) -> Option<u32> {
        None
    }

    async fn wait(&mut self) -> std::io::Result<i32> {
        std::future::pending().await
    }

    fn terminate(&mut self) {}

    fn kill(&mut self) {}
}

/// The events of the target `child`, as text.
#[derive(Clone, Default)]
pub(super) struct Log(pub(super) Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, about: &tracing::Metadata<'_>) -> bool {
        about.target() == "child"
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!(" {field}={value:?}"));
            }
            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                self.0.push_str(&format!(" {field}={value}"));
            }
        }
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
