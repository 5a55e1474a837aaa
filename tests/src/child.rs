//! Children in memory, for simulations: they speak the protocol over pipes that a paused clock can drive.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use multilangd_core::ids::ShardId;
use multilangd_engine::child::{Process, Spawn, Spawned};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// As large as a Linux pipe.
const PIPE_BYTES: usize = 64 * 1024;

/// What a child in memory does.
#[derive(Clone, Debug, Default)]
pub struct Behaviour {
    /// How long it thinks about each batch.
    pub think: Duration,
    /// It never checkpoints.
    pub never_checkpoints: bool,
    /// It dies once it has seen this many records, before answering; only the first child of all.
    pub dies_at: Option<usize>,
}

/// One message that a child was sent, with the child's number (0 is the first one that was started).
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// Which child.
    pub child: usize,
    /// Its shard.
    pub shard: ShardId,
    /// The message.
    pub message: Value,
}

/// Starts children in memory and keeps what they hear.
#[derive(Clone, Debug, Default)]
pub struct Children {
    behaviour: Behaviour,
    heard: Arc<Mutex<Vec<Heard>>>,
    started: Arc<Mutex<usize>>,
}

impl Children {
    /// Children that all behave like this.
    pub fn behaving(behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            ..Self::default()
        }
    }

    /// All that was heard by all children, in order.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("no panic while locked").clone()
    }

    /// The actions that the children of one shard heard, in order, checkpoint replies left out.
    pub fn actions(&self, shard: &str) -> Vec<String> {
        let heard = self.heard();
        let of_shard = heard.iter().filter(|heard| heard.shard.as_str() == shard);
        let actions = of_shard.filter_map(|heard| heard.message["action"].as_str());
        actions
            .filter(|action| *action != "checkpoint")
            .map(str::to_owned)
            .collect()
    }

    /// The sequence numbers that were delivered for one shard, in order.
    pub fn delivered(&self, shard: &str) -> Vec<String> {
        let heard = self.heard();
        let batches = heard.iter().filter(|heard| heard.shard.as_str() == shard);
        let records = batches
            .filter_map(|heard| heard.message["records"].as_array())
            .flatten();
        records
            .filter_map(|record| record["sequenceNumber"].as_str())
            .map(str::to_owned)
            .collect()
    }
}

#[async_trait]
impl Spawn for Children {
    async fn spawn(&self, shard: &ShardId) -> std::io::Result<Spawned> {
        let number = {
            let mut started = self.started.lock().expect("no panic while locked");
            *started += 1;
            *started - 1
        };
        let (children, shard) = (self.clone(), shard.clone());
        Ok(in_memory(move |stdin, stdout| {
            let life = Life {
                children,
                number,
                shard,
                stdin: BufReader::new(stdin),
                stdout,
                records: 0,
            };
            life.live()
        }))
    }
}

/// A child whose life is a task: it gets its standard input and output, and returns its exit code.
pub fn in_memory<L>(life: impl FnOnce(DuplexStream, DuplexStream) -> L) -> Spawned
where
    L: Future<Output = i32> + Send + 'static,
{
    let (stdin, child_stdin) = tokio::io::duplex(PIPE_BYTES);
    let (child_stdout, stdout) = tokio::io::duplex(PIPE_BYTES);
    let (stderr, _) = tokio::io::duplex(PIPE_BYTES);
    let (kill, mut killed) = watch::channel(None);
    let (exit, exited) = watch::channel(None);
    let life = life(child_stdin, child_stdout);
    tokio::spawn(async move {
        let code = tokio::select! {
            biased; // a child that is killed does nothing more
            signal = killed.wait_for(Option::is_some) => signal.ok().and_then(|signal| *signal).unwrap_or(137),
            code = life => code,
        };
        exit.send_replace(Some(code));
    });
    Spawned {
        stdin: Box::new(stdin),
        stdout: Box::new(stdout),
        stderr: Box::new(stderr),
        process: Box::new(InMemory { kill, exited }),
    }
}

struct InMemory {
    kill: watch::Sender<Option<i32>>,
    exited: watch::Receiver<Option<i32>>,
}

#[async_trait]
impl Process for InMemory {
    fn id(&self) -> Option<u32> {
        None
    }

    async fn wait(&mut self) -> std::io::Result<i32> {
        let code = self.exited.wait_for(Option::is_some).await.map(|code| *code);
        code.ok()
            .flatten()
            .ok_or_else(|| std::io::Error::other("the child's task is gone"))
    }

    fn terminate(&mut self) {
        self.kill.send_replace(Some(143));
    }

    fn kill(&mut self) {
        self.kill.send_replace(Some(137));
    }
}

struct Life {
    children: Children,
    number: usize,
    shard: ShardId,
    stdin: BufReader<DuplexStream>,
    stdout: DuplexStream,
    records: usize,
}

impl Life {
    /// The exit code.
    async fn live(mut self) -> i32 {
        while let Some(message) = self.hear().await {
            let action = message["action"].as_str().unwrap_or_default().to_owned();
            if action == "processRecords" {
                sleep(self.children.behaviour.think).await;
                self.records += message["records"].as_array().map_or(0, Vec::len);
                if self.number == 0
                    && self
                        .children
                        .behaviour
                        .dies_at
                        .is_some_and(|at| self.records >= at)
                {
                    return 1;
                }
            }
            let may_checkpoint =
                ["processRecords", "shutdownRequested", "shardEnded"].contains(&action.as_str());
            if may_checkpoint && !self.children.behaviour.never_checkpoints {
                self.say("{\"action\":\"checkpoint\",\"sequenceNumber\":null}\n")
                    .await;
                if self.hear().await.is_none() {
                    return 0;
                }
            }
            self.say(&format!(
                "{{\"action\":\"status\",\"responseFor\":\"{action}\"}}\n"
            ))
            .await;
        }
        0
    }

    async fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.stdin
            .read_line(&mut line)
            .await
            .ok()
            .filter(|read| *read > 0)?;
        let message: Value = serde_json::from_str(&line).expect("the daemon writes JSON");
        let heard = Heard {
            child: self.number,
            shard: self.shard.clone(),
            message: message.clone(),
        };
        self.children
            .heard
            .lock()
            .expect("no panic while locked")
            .push(heard);
        Some(message)
    }

    async fn say(&mut self, line: &str) {
        // A daemon that has gone away does not listen.
        let _ = self.stdout.write_all(line.as_bytes()).await;
    }
}
