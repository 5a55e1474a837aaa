use std::sync::{Arc, Mutex};

use bytes::Bytes;
use multilangd_core::ids::SequenceNumber;

use super::*;
use crate::child::ChildCommand;

#[tokio::test]
async fn a_child_is_started_talked_to_and_ended() {
    let mut tenure = Tenure::python(
        r#"
        say(status("initialize"))
        hear("processRecords")
        say('{"action":"checkpoint","sequenceNumber":null}')
        hear("checkpoint")
        say(status("processRecords"))
        hear("leaseLost")
        say(status("leaseLost"))
        "#,
    )
    .await;
    tenure.initialize().await.unwrap();
    tenure.process(&[record("1", 0), record("2", 0)]).await.unwrap();
    tenure.session.lease_lost().await.unwrap();
    assert_eq!(tenure.stored(), ["2"]);
    assert_eq!(
        tenure.session.end().await,
        ChildEnd {
            code: Some(0),
            ending: Ending::ByItself
        }
    );
}

#[test]
fn a_session_can_live_in_a_task() {
    fn check<T: Send>(_: T) {}
    #[expect(dead_code, reason = "only its types matter")]
    fn compiles(mut session: ChildSession, mut checkpoints: Checkpoints, mut store: Stored) {
        check(session.process_records(&[], None, &mut checkpoints, &mut store));
        check(session.left());
        check(session.end());
    }
}

// --- what the stories above are told with

const PRELUDE: &str = r#"
import sys, json, os, time, signal
def say(line): sys.stdout.write(line + "\n"); sys.stdout.flush()
def status(action): return json.dumps({"action": "status", "responseFor": action})
def hear(action):
    message = json.loads(sys.stdin.readline())
    assert message["action"] == action, message
    return message
hear("initialize")
"#;

struct Tenure {
    session: ChildSession,
    checkpoints: Checkpoints,
    store: Stored,
}

impl Tenure {
    async fn python(script: &str) -> Self {
        Self::python_with(script, SessionSettings::default()).await
    }

    async fn python_with(script: &str, settings: SessionSettings) -> Self {
        let indent = script
            .lines()
            .find(|line| !line.trim().is_empty())
            .map_or(0, |line| line.len() - line.trim_start().len());
        let script: String = script
            .lines()
            .map(|line| format!("{}\n", line.get(indent..).unwrap_or_default()))
            .collect();
        let argv = [
            "python3".to_owned(),
            "-c".to_owned(),
            format!("{PRELUDE}{script}"),
        ];
        Self::with(&ChildCommand::new(argv.to_vec()), settings).await
    }

    async fn with(command: &ChildCommand, settings: SessionSettings) -> Self {
        let session = ChildSession::start(command, &"shardId-000000000000".into(), settings)
            .await
            .unwrap();
        Self {
            session,
            checkpoints: Checkpoints::begin(Position::TrimHorizon),
            store: Stored::default(),
        }
    }

    async fn initialize(&mut self) -> Result<(), ChildError> {
        self.session.initialize(&Position::TrimHorizon).await
    }

    async fn process(&mut self, records: &[UserRecord]) -> Result<(), ChildError> {
        self.session
            .process_records(records, Some(0), &mut self.checkpoints, &mut self.store)
            .await
    }

    fn stored(&self) -> Vec<String> {
        self.store.positions.lock().unwrap().clone()
    }
}

#[derive(Clone, Default)]
struct Stored {
    positions: Arc<Mutex<Vec<String>>>,
    fails_with: Option<CheckpointError>,
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

fn record(sequence_number: &str, sub_sequence_number: u64) -> UserRecord {
    UserRecord {
        sequence_number: SequenceNumber::parse(sequence_number).unwrap(),
        sub_sequence_number,
        partition_key: "k".to_owned(),
        data: Bytes::from_static(b"hello"),
        approximate_arrival_ms: Some(1_767_225_600_123),
    }
}
