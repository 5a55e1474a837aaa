//! What a child prints cannot grow the daemon's memory. A process of its own, because memory is counted per process.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use async_trait::async_trait;
use multilangd_core::checkpoint::Checkpoints;
use multilangd_core::ids::Position;
use multilangd_core::records::Records;
use multilangd_engine::child::{CheckpointError, Checkpointer, ChildCommand, ChildSession, SessionSettings};

const CHILD: &str = r#"
import os, sys
def say(text): sys.stdout.write(text); sys.stdout.flush()
def answer(action): say('\n{"action":"status","responseFor":"%s"}\n' % action)
sys.stdin.readline(); answer("initialize")
sys.stdin.readline()
chunk = "x" * 1_000_000
for _ in range(100): say(chunk)                                       # one line of 100 MB
say("\n")
for _ in range(100_000): sys.stdout.write("x" * 200 + "\n")           # 20 MB of short lines
for _ in range(50): os.write(2, chunk.encode())                       # a line of 50 MB on stderr
answer("processRecords")
for _ in range(100): say(chunk)                                       # and all again while nobody waits for it
os.write(2, b"done\n")
sys.stdin.read()
"#;

#[tokio::test]
async fn a_line_of_a_hundred_megabytes_is_skipped_and_does_not_grow_memory() {
    let command = ChildCommand::new(["python3", "-c", CHILD].map(String::from).to_vec());
    let settings = SessionSettings::default();
    let limit_kib = settings.line_bytes_max as u64 / 1024;
    let mut session = ChildSession::start(&command, &"shardId-0".into(), settings)
        .await
        .unwrap();
    session.initialize(&Position::Latest).await.unwrap();

    let before = peak_kib();
    let mut checkpoints = Checkpoints::begin(Position::Latest);
    session
        .process_records(Records::default(), None, &mut checkpoints, &mut Nowhere)
        .await
        .unwrap();
    let end = session.end().await;
    assert_eq!(end.code, Some(0));
    let grown = peak_kib() - before;
    assert!(
        grown < limit_kib + 8 * 1024,
        "grown by {grown} KiB, with lines of up to {limit_kib} KiB"
    );
}

/// The most memory that this process has ever had.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

struct Nowhere;

#[async_trait]
impl Checkpointer for Nowhere {
    async fn store(&mut self, _position: &Position) -> Result<(), CheckpointError> {
        Err(CheckpointError::LeaseLost)
    }
}
