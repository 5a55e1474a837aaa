//! Every recorded conversation of the Java daemon, held again: the child's lines are read and decided on by our code,
//! and what the daemon said must be what our code would have said, byte for byte.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a broken transcript is a failed test"
)]

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use multilangd_core::checkpoint::{Checkpoints, Decision};
use multilangd_core::child::{Action, Conversation, Gone, Heard};
use multilangd_core::ids::Position;
use multilangd_protocol::{
    CheckpointRequest, FromChild, LineEvent, Lines, Payload, RecordLine, parse, write,
};
use serde_json::Value;

/// How a conversation ends that does not end well, or not for Java.
const UNUSUAL: [(&str, &str); 7] = [
    ("child-exits", "the child left too early"),
    ("empty-status", "wrong status None"),
    ("leaves-at-shutdown", "the child left, finished"), // Compat: Java tries to send leaseLost and fails
    ("null-line", "processRecords answered"),           // Compat: Java stops here
    (
        "skipped-by-java-only",
        "over, with 1 reply that Java did not give",
    ), // Compat: the key `checkpoint`
    ("timeout", "processRecords owed"),
    ("wrong-status", "wrong status Some(\"initialize\")"),
];

#[test]
fn every_recorded_conversation_is_understood_and_repeated_byte_for_byte() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../protocol/transcripts");
    if !directory.join("README.md").exists() {
        return; // nothing has been recorded yet
    }
    let unusual = BTreeMap::from(UNUSUAL);
    let mut count = 0;
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let outcome = Replay::of(name, &std::fs::read_to_string(&path).unwrap());
        assert_eq!(outcome, *unusual.get(name).unwrap_or(&"over"), "{name}");
        count += 1;
    }
    assert!(count >= 20, "only {count} transcripts in {}", directory.display());
}

struct Replay<'a> {
    name: &'a str,
    conversation: Conversation,
    checkpoints: Checkpoints,
    lines: Lines,
    /// Recorded replies that are not accounted for yet, oldest first. A child that does not wait gets them late.
    replies: VecDeque<String>,
    extra_replies: usize,
    failure: Option<String>,
}

impl<'a> Replay<'a> {
    fn of(name: &'a str, transcript: &str) -> String {
        let events: Vec<Value> = transcript
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let said =
            |event: &Value| (event["to"] == "child").then(|| event["line"].as_str().unwrap().to_owned());
        let mut replay = Self {
            name,
            conversation: Conversation::default(),
            checkpoints: Checkpoints::begin(Position::TrimHorizon),
            lines: Lines::default(),
            replies: events
                .iter()
                .filter_map(said)
                .filter(|line| is_reply(line))
                .collect(),
            extra_replies: 0,
            failure: None,
        };
        for event in &events {
            if let Some(line) = said(event) {
                if !is_reply(&line) {
                    replay.daemon_says(&line);
                }
            } else if event["from"] == "child" {
                replay.child_says(event["line"].as_str().unwrap());
            }
        }
        replay.outcome()
    }

    fn daemon_says(&mut self, line: &str) {
        let message: Value = serde_json::from_str(line).unwrap();
        let number = |value: &Value| value.as_i64();
        let mut out = Vec::new();
        let action = match message["action"].as_str().unwrap() {
            "initialize" => {
                let (sequence, sub) = (
                    text(&message["sequenceNumber"]),
                    message["subSequenceNumber"].as_u64().unwrap(),
                );
                self.checkpoints = Checkpoints::begin(Position::parse(sequence, sub).unwrap());
                write::initialize(&mut out, text(&message["shardId"]), sequence, sub);
                Action::Initialize
            }
            "processRecords" => {
                let records = message["records"].as_array().unwrap();
                let data: Vec<Vec<u8>> = records
                    .iter()
                    .map(|record| decoded(text(&record["data"])))
                    .collect();
                let lines = records.iter().zip(&data).map(|(record, data)| RecordLine {
                    data: Payload::Bytes(data),
                    partition_key: text(&record["partitionKey"]).into(),
                    sequence_number: text(&record["sequenceNumber"]).into(),
                    sub_sequence_number: record["subSequenceNumber"].as_u64().unwrap(),
                    approximate_arrival_ms: number(&record["approximateArrivalTimestamp"]),
                });
                for record in lines.clone() {
                    let position =
                        Position::parse(record.sequence_number.as_str(), record.sub_sequence_number).unwrap();
                    self.checkpoints.delivered(&position);
                }
                write::process_records(&mut out, lines, number(&message["millisBehindLatest"]));
                Action::ProcessRecords
            }
            "shutdownRequested" => {
                write::shutdown_requested(&mut out);
                Action::ShutdownRequested
            }
            "leaseLost" => {
                write::lease_lost(&mut out);
                Action::LeaseLost
            }
            "shardEnded" => {
                self.checkpoints.shard_ended();
                write::shard_ended(&mut out);
                Action::ShardEnded
            }
            other => panic!("{}: {other} is no action", self.name),
        };
        assert_eq!(
            String::from_utf8(out).unwrap(),
            ascii(line) + "\n",
            "{}",
            self.name
        );
        self.conversation.say(action).unwrap();
    }

    fn child_says(&mut self, line: &str) {
        let mut messages = Vec::new();
        let mut heard = |event: LineEvent<'_>| match event {
            LineEvent::Line(line) => messages.extend(parse(line).ok().map(|message| message.body)),
            LineEvent::TooLong { bytes } => panic!("no recorded line has {bytes} bytes"),
        };
        self.lines.feed(line.as_bytes(), &mut heard);
        self.lines.feed(b"\n", &mut heard);
        for message in messages {
            self.hear(message);
        }
    }

    fn hear(&mut self, message: FromChild) {
        match self.conversation.hear(message) {
            Heard::Answered | Heard::Nothing => {}
            Heard::ExtraStatus => assert_eq!(self.name, "skipped-by-java-only", "a status nobody waited for"),
            Heard::Checkpoint(request) => self.checkpoint(&request),
            Heard::NoCheckpointNow(request) => self.reply(&request, Some("InvalidStateException")),
            Heard::WrongStatus { response_for } => {
                if self.name != "wrong-status-at-shutdown" {
                    self.failure = Some(format!("wrong status {response_for:?}"));
                }
            }
            Heard::Early(request) => panic!("{}: {request:?} between actions", self.name),
        }
    }

    fn checkpoint(&mut self, request: &CheckpointRequest) {
        // What happened in the lease table can only be told from Java's reply.
        let table_failed = self.replies.front().and_then(|reply| {
            ["ShutdownException", "ThrottlingException"]
                .into_iter()
                .find(|name| reply.contains(name))
        });
        let error = match self.checkpoints.decide(request) {
            Decision::NoOp => None,
            Decision::Refuse(_) => Some("IllegalArgumentException"),
            Decision::Store(_) if table_failed.is_some() => table_failed,
            Decision::Store(position) => {
                self.checkpoints.stored(position);
                None
            }
        };
        self.reply(request, error);
    }

    fn reply(&mut self, request: &CheckpointRequest, error: Option<&str>) {
        let mut out = Vec::new();
        write::checkpoint_reply(&mut out, request, error);
        match self.replies.pop_front() {
            Some(recorded) => assert_eq!(
                String::from_utf8(out).unwrap(),
                ascii(&recorded) + "\n",
                "{}",
                self.name
            ),
            None => self.extra_replies += 1,
        }
    }

    fn outcome(mut self) -> String {
        assert_eq!(
            self.replies,
            [] as [String; 0],
            "{}: replies that we would not give",
            self.name
        );
        if let Some(failure) = self.failure {
            return failure;
        }
        use multilangd_core::child::Turn;
        match (self.conversation.turn(), self.extra_replies) {
            (Turn::Over, 0) => "over".to_owned(),
            (Turn::Over, extra) => format!("over, with {extra} reply that Java did not give"),
            (Turn::Idle, _) => "processRecords answered".to_owned(),
            (Turn::Owed { action, .. }, _) if self.name == "timeout" => format!("{action} owed"),
            (Turn::Start | Turn::Owed { .. } | Turn::Stopping | Turn::Failed, _) => {
                match self.conversation.gone() {
                    Gone::Finished => "the child left, finished".to_owned(),
                    Gone::TooEarly => "the child left too early".to_owned(),
                }
            }
        }
    }
}

fn is_reply(line: &str) -> bool {
    line.starts_with(r#"{"action":"checkpoint""#)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// Java writes what lies beyond ASCII as it is; we escape it.
fn ascii(line: &str) -> String {
    let mut escaped = String::new();
    for character in line.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped.push_str(&format!("\\u{unit:04X}"));
            }
        }
    }
    escaped
}

/// Base64, the slow and simple way.
fn decoded(text: &str) -> Vec<u8> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for character in text.chars().filter(|character| *character != '=') {
        bits = bits << 6 | u32::try_from(ALPHABET.find(character).unwrap()).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xFF) as u8);
        }
    }
    bytes
}
