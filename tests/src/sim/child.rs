//! Children of a simulated fleet: each with habits of its own, by chance. They check what they hear: only a legal
//! conversation may reach them (`protocol.md 4-6`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use multilangd_core::ids::{Position, SequenceNumber, ShardId, WorkerId};
use multilangd_engine::child::{Spawn, Spawned};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::time::{Instant, sleep};

use super::oracle::short;
use crate::child::in_memory;
use crate::faults::{Line, World};

/// How faulty children are, per thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Children that die after some records.
    pub mortal: u64,
    /// Batches that take up to 45 s.
    pub slow: u64,
}

/// Starts the children of one worker.
pub struct SimulatedChildren {
    world: Arc<World>,
    line: Line,
    health: Arc<std::sync::Mutex<Health>>,
}

impl SimulatedChildren {
    /// The children behind a worker's line.
    pub fn new(world: Arc<World>, line: Line, health: Arc<std::sync::Mutex<Health>>) -> Self {
        Self { world, line, health }
    }
}

/// When a child checkpoints.
#[derive(Clone, Copy, Debug)]
enum Habit {
    EachBatch,
    EachFewBatches(u64),
    InsideBatch,
    OnlyAtTheEnd,
}

#[async_trait]
impl Spawn for SimulatedChildren {
    async fn spawn(&self, shard: &ShardId) -> std::io::Result<Spawned> {
        let dice = &self.world.dice;
        let habit = match dice.between(0, 10) {
            0..5 => Habit::EachBatch,
            5..7 => Habit::EachFewBatches(dice.between(2, 6)),
            7..9 => Habit::InsideBatch,
            _ => Habit::OnlyAtTheEnd,
        };
        let health = *self
            .health
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let dies_at = dice.happens(health.mortal).then(|| dice.between(0, 60) as usize);
        let (world, line, shard) = (self.world.clone(), self.line.clone(), shard.clone());
        Ok(in_memory(move |stdin, stdout| {
            let life = Life {
                world,
                worker: line.worker().clone(),
                line,
                shard,
                stdin: BufReader::new(stdin),
                stdout,
                habit,
                slow: health.slow,
                dies_at,
                began: Instant::now(),
                heard: "",
                next: 0,
                last: None,
                batches: 0,
                records: 0,
            };
            life.live()
        }))
    }
}

struct Life {
    world: Arc<World>,
    worker: WorkerId,
    line: Line,
    shard: ShardId,
    stdin: BufReader<DuplexStream>,
    stdout: DuplexStream,
    habit: Habit,
    slow: u64,
    dies_at: Option<usize>,
    began: Instant,
    /// The last action.
    heard: &'static str,
    /// The place of the next record in the shard.
    next: usize,
    /// The position of the last record that it got.
    last: Option<Position>,
    batches: u64,
    records: usize,
}

/// The pipe has ended.
struct Eof;

/// Times a checkpoint that can be tried again is tried.
const CHECKPOINT_TRIES_MAX: u32 = 8;

impl Life {
    /// The exit code.
    async fn live(mut self) -> i32 {
        match self.serve().await {
            Ok(()) => 1,
            Err(Eof) => 0,
        }
    }

    /// Serves until it dies (`Ok`) or the daemon hangs up.
    async fn serve(&mut self) -> Result<(), Eof> {
        loop {
            let message = self.hear().await?;
            let action = self.follows(message["action"].as_str().unwrap_or_default());
            match action {
                "initialize" => self.initialize(&message),
                "processRecords" => {
                    let positions = self.process(&message);
                    if self.think().await {
                        return Ok(());
                    }
                    self.checkpoint_by_habit(&positions).await?;
                }
                "shutdownRequested" => {
                    sleep(self.world.dice.ms(0, 300)).await;
                    if self.world.dice.happens(800) {
                        self.checkpoint(Value::Null, Value::Null).await?;
                    }
                }
                "shardEnded" => {
                    sleep(self.world.dice.ms(0, 300)).await;
                    self.checkpoint(Value::Null, Value::Null).await?;
                }
                _ => {}
            }
            self.must_be_quiet().await;
            self.say(&json!({"action": "status", "responseFor": action}))
                .await?;
        }
    }

    /// Whether the action may follow what was heard before.
    fn follows(&mut self, action: &str) -> &'static str {
        const ALLOWED: &[(&str, &[&str])] = &[
            ("", &["initialize"]),
            (
                "initialize",
                &["processRecords", "shutdownRequested", "leaseLost", "shardEnded"],
            ),
            (
                "processRecords",
                &["processRecords", "shutdownRequested", "leaseLost", "shardEnded"],
            ),
            ("shutdownRequested", &["leaseLost"]),
            ("leaseLost", &[]),
            ("shardEnded", &[]),
        ];
        let next = ALLOWED
            .iter()
            .find(|(before, _)| *before == self.heard)
            .and_then(|(_, next)| next.iter().find(|next| **next == action));
        match next {
            Some(next) => self.heard = next,
            None => {
                let (shard, heard) = (&self.shard, self.heard);
                self.violation(format!("the child of {shard} heard '{action}' after '{heard}'"));
            }
        }
        self.heard
    }

    fn initialize(&mut self, message: &Value) {
        let sub = message["subSequenceNumber"].as_u64().unwrap_or(0);
        let at = message["sequenceNumber"]
            .as_str()
            .and_then(|text| Position::parse(text, sub).ok());
        let right = message["shardId"] == self.shard.as_str();
        match at.filter(|_| right) {
            Some(at) => {
                self.note(format!("child of {} begins at {}", self.shard, short(&at)));
                self.next = self.world.oracle.initialized(&self.worker, &self.shard, &at);
            }
            None => self.violation(format!("a broken initialize: {message}")),
        }
    }

    fn process(&mut self, message: &Value) -> Vec<(SequenceNumber, u64)> {
        let parse = |record: &Value| {
            let number = SequenceNumber::parse(record["sequenceNumber"].as_str()?)?;
            let sub = record["subSequenceNumber"].as_u64().unwrap_or(0);
            Some((number, sub, record["partitionKey"].as_str()?.to_owned()))
        };
        let records = message["records"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let parsed: Option<Vec<_>> = records.iter().map(parse).collect();
        let Some(records) = parsed else {
            self.violation(format!("a broken processRecords: {message}"));
            return Vec::new();
        };
        if !records.is_empty() {
            let range = self.next..self.next + records.len();
            self.note(format!("child of {} gets {range:?}", self.shard));
        }
        self.next = self
            .world
            .oracle
            .delivered(&self.worker, &self.shard, self.next, &records);
        if let Some((number, sub, _)) = records.last() {
            self.last = Some(Position::At(number.clone(), *sub));
        }
        self.records += records.len();
        self.batches += 1;
        records
            .into_iter()
            .map(|(number, sub, _)| (number, sub))
            .collect()
    }

    /// Takes its time. `true`: it dies over it.
    async fn think(&mut self) -> bool {
        let dice = &self.world.dice;
        let time = if dice.happens(self.slow) {
            dice.ms(2_000, 45_000)
        } else if dice.happens(100) {
            dice.ms(200, 2000)
        } else {
            dice.ms(0, 20)
        };
        if time > Duration::ZERO {
            sleep(time).await;
        }
        let dies = self.dies_at.is_some_and(|at| self.records >= at);
        if dies {
            self.note(format!("child of {} dies", self.shard));
        }
        dies
    }

    async fn checkpoint_by_habit(&mut self, records: &[(SequenceNumber, u64)]) -> Result<(), Eof> {
        match self.habit {
            Habit::EachBatch => self.checkpoint(Value::Null, Value::Null).await,
            Habit::EachFewBatches(few) if self.batches.is_multiple_of(few) => {
                self.checkpoint(Value::Null, Value::Null).await
            }
            Habit::InsideBatch if !records.is_empty() => {
                let place = self.world.dice.between(0, records.len() as u64) as usize;
                let (number, sub) = &records[place];
                self.checkpoint(json!(number.as_str()), json!(sub)).await
            }
            Habit::EachFewBatches(_) | Habit::InsideBatch | Habit::OnlyAtTheEnd => Ok(()),
        }
    }

    async fn checkpoint(&mut self, number: Value, sub: Value) -> Result<(), Eof> {
        for _ in 0..CHECKPOINT_TRIES_MAX {
            self.must_be_quiet().await;
            let request = json!({"action": "checkpoint", "sequenceNumber": number, "subSequenceNumber": sub});
            let asked = Instant::now();
            self.say(&request).await?;
            let reply = self.hear().await?;
            if reply["action"] != "checkpoint" {
                self.violation(format!("'{}' instead of a checkpoint's reply", reply["action"]));
                return Ok(());
            }
            match reply["error"].as_str() {
                Some("ThrottlingException" | "KinesisClientLibDependencyException") => {
                    sleep(self.world.dice.ms(100, 3000)).await;
                }
                Some("ShutdownException") => return Ok(()),
                None => {
                    self.must_be_stored(&number, &sub, asked);
                    return Ok(());
                }
                Some(other) => {
                    self.violation(format!("checkpoint refused with {other}"));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What a child is told to be stored is in the table.
    fn must_be_stored(&self, number: &Value, sub: &Value, asked: Instant) {
        let position = match number.as_str() {
            Some(text) => Position::parse(text, sub.as_u64().unwrap_or(0)).ok(),
            None if self.heard == "shardEnded" => Some(Position::ShardEnd),
            // Without a record yet it stays where it began.
            None => self.last.clone(),
        };
        let told = |position: &Position| {
            let oracle = &self.world.oracle;
            oracle.told_stored(&self.worker, &self.shard, position, self.began, asked)
        };
        if let Some(problem) = position.as_ref().and_then(told) {
            self.violation(format!("the child of {}: {problem}", self.shard));
        }
    }

    /// While it is the child's turn, nothing may have been said to it.
    async fn must_be_quiet(&mut self) {
        let waiting = tokio::select! {
            biased;
            waiting = self.stdin.fill_buf() => waiting.map(<[u8]>::len).unwrap_or(0),
            () = std::future::ready(()) => 0,
        };
        if waiting > 0 {
            self.violation(format!("the child of {} is spoken to out of turn", self.shard));
        }
    }

    async fn hear(&mut self) -> Result<Value, Eof> {
        let mut line = String::new();
        match self.stdin.read_line(&mut line).await {
            Ok(read) if read > 0 => {}
            Ok(_) | Err(_) => return Err(Eof),
        }
        match serde_json::from_str(&line) {
            Ok(message) => Ok(message),
            // A daemon that is killed may leave half a line.
            Err(_) if !line.ends_with('\n') => Err(Eof),
            Err(error) => {
                self.violation(format!(
                    "the child of {} hears no JSON: {error}: {line}",
                    self.shard
                ));
                Err(Eof)
            }
        }
    }

    async fn say(&mut self, message: &Value) -> Result<(), Eof> {
        let line = format!("\n{message}\n");
        self.stdout.write_all(line.as_bytes()).await.map_err(|_| Eof)
    }

    fn note(&self, what: String) {
        self.world.journal.note(format!("{}: {what}", self.worker));
    }

    fn violation(&self, what: String) {
        if !self.line.is_gone() {
            self.world.journal.violation(format!("{}: {what}", self.worker));
        }
    }
}
