//! `multilangd put`: lines become records.
//!
//! Owns batching. Repeats only what the stream did not take, in the order it came.

use std::collections::BTreeSet;
use std::io::{BufRead, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use multilangd_engine::clock::Clock;
use multilangd_engine::retry::{Patience, Retryable, retry};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::aws::failure::{Failure, Reaction, is_throttling};

/// Limits of one `PutRecords`, from the service.
const BATCH_RECORDS_MAX: usize = 500;
/// 5 MB were the limit of one call until 2025, and still are where not raised; keys count too.
const BATCH_BYTES_MAX: usize = 5 * 1024 * 1024;
/// The largest record that any stream takes.
const RECORD_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Lines read ahead: two full batches, so that reading and sending overlap.
const LINES_AHEAD_MAX: usize = 2 * BATCH_RECORDS_MAX;
/// A line that nobody follows is sent after this, so that a person at a pipe sees it arrive.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// A call is given up after this.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Failures of a stream that is throttling or away are repeated for as long as it takes.
const PATIENCE: Patience = Patience::ENDLESS;

/// What was put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records that the stream took.
    pub records: u64,
    /// Their payload.
    pub bytes: u64,
    /// The shards they went to.
    pub shards: BTreeSet<String>,
    /// Calls beyond the first for a batch.
    pub retries: u64,
}

/// Why putting ended early.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The input broke.
    #[error("cannot read the input: {0}")]
    Input(#[source] std::io::Error),
    /// A line is longer than any record may be.
    #[error("line {0} is longer than {RECORD_BYTES_MAX} bytes, the largest record that a stream takes")]
    Long(u64),
    /// The stream refused.
    #[error("{0}")]
    Refused(#[from] Failure),
}

/// Where records go, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// To the service.
    pub client: Client,
    /// Names the service in errors.
    pub place: String,
    /// The stream's name or ARN.
    pub stream: String,
    /// One key for all records. `None`: each gets one by chance, which spreads them over all shards.
    pub partition_key: Option<String>,
    /// Most records per second.
    pub records_per_second_max: Option<u32>,
}

/// Puts every line of `input` into the stream until the input ends or `stop` says so.
pub async fn put(
    target: &Target,
    input: Box<dyn Read + Send>,
    clock: &Clock,
    stop: impl Future<Output = ()>,
) -> (Summary, Result<(), PutError>) {
    let mut pace = Pace::new(target.records_per_second_max, clock.now());
    let mut lines = read_lines(input);
    let mut summary = Summary::default();
    let mut stop = std::pin::pin!(stop);
    loop {
        let first = tokio::select! {
            biased;
            () = &mut stop => return (summary, Ok(())),
            line = lines.recv() => line,
        };
        let Some(first) = first else {
            return (summary, Ok(()));
        };
        let mut batch = Batch::default();
        let mut next = Some(first);
        let deadline = Instant::now() + WAIT_MAX;
        let mut broken = None;
        while let Some(line) = next.take() {
            match line {
                Ok(line) => batch.push(line, target.partition_key.as_deref(), clock),
                Err(error) => {
                    broken = Some(error);
                    break;
                }
            }
            if !batch.is_full() && batch.entries.len() < pace.batch_max {
                next = timeout_at(deadline, lines.recv()).await.ok().flatten();
            }
        }
        tokio::select! {
            biased;
            () = &mut stop => return (summary, Ok(())),
            () = tokio::time::sleep_until(pace.due(batch.entries.len())) => {}
        }
        for batch in batch.split() {
            if let Err(error) = send(target, batch, clock, &mut summary).await {
                return (summary, Err(error.into()));
            }
        }
        if let Some(error) = broken {
            return (summary, Err(error));
        }
    }
}

/// One line for people: what was put.
pub fn describe(summary: &Summary, stream: &str, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    let retries = match summary.retries {
        0 => String::new(),
        retries => format!(", {retries} retries"),
    };
    format!(
        "put {} records ({} bytes) into {stream}, {} shards, {seconds:.2} s{retries}",
        summary.records,
        summary.bytes,
        summary.shards.len()
    )
}

/// Reads in a thread of its own, because a terminal or a pipe may be silent for ever. The thread ends with the process.
fn read_lines(input: Box<dyn Read + Send>) -> mpsc::Receiver<Result<Vec<u8>, PutError>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD_MAX);
    std::thread::spawn(move || {
        let mut input = std::io::BufReader::with_capacity(64 * 1024, input);
        for number in 1.. {
            let mut line = Vec::new();
            // One more than a record may have, so that a longer line shows.
            let mut limited = (&mut input).take(RECORD_BYTES_MAX as u64 + 2);
            let result = match limited.read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => {
                    if line.pop_if(|byte| *byte == b'\n').is_some() {
                        line.pop_if(|byte| *byte == b'\r');
                    }
                    if line.len() > RECORD_BYTES_MAX {
                        Err(PutError::Long(number))
                    } else {
                        Ok(line)
                    }
                }
                Err(error) => Err(PutError::Input(error)),
            };
            let over = result.is_err();
            if sender.blocking_send(result).is_err() || over {
                return;
            }
        }
    });
    receiver
}

/// When the next batch may leave, for `--rate`.
#[derive(Debug)]
struct Pace {
    next: Instant,
    interval: Duration,
    /// So many records leave in a twentieth of a second: small steps, so that a second's records do not leave at once.
    batch_max: usize,
}

impl Pace {
    fn new(records_per_second_max: Option<u32>, now: Instant) -> Self {
        let (interval, batch_max) = match records_per_second_max {
            Some(rate) => (Duration::from_secs(1) / rate.max(1), rate as usize / 20),
            None => (Duration::ZERO, BATCH_RECORDS_MAX),
        };
        Self {
            next: now,
            interval,
            batch_max: batch_max.clamp(1, BATCH_RECORDS_MAX),
        }
    }

    /// When a batch of so many records may leave. Time that was not used is lost.
    fn due(&mut self, records: usize) -> Instant {
        let due = self.next.max(Instant::now());
        self.next = due + self.interval * u32::try_from(records).unwrap_or(u32::MAX);
        due
    }
}

#[derive(Debug, Default)]
struct Batch {
    entries: Vec<(String, Vec<u8>)>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, line: Vec<u8>, partition_key: Option<&str>, clock: &Clock) {
        let key = match partition_key {
            Some(key) => key.to_owned(),
            None => format!("{:016x}", clock.chance(|rng| rng.next_u64())),
        };
        self.bytes += line.len() + key.len();
        self.entries.push((key, line));
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= BATCH_RECORDS_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    /// The last record may have carried the batch over its limit; then it goes alone.
    fn split(mut self) -> Vec<Vec<(String, Vec<u8>)>> {
        match self.entries.pop() {
            Some(last) if self.bytes > BATCH_BYTES_MAX && !self.entries.is_empty() => {
                vec![self.entries, vec![last]]
            }
            Some(last) => {
                self.entries.push(last);
                vec![self.entries]
            }
            None => Vec::new(),
        }
    }
}

/// Sends a batch until the stream has taken every record of it.
async fn send(
    target: &Target,
    batch: Vec<(String, Vec<u8>)>,
    clock: &Clock,
    summary: &mut Summary,
) -> Result<(), Failure> {
    let sent_bytes: usize = batch.iter().map(|(_, data)| data.len()).sum();
    let entries = batch
        .into_iter()
        .map(|(key, data)| {
            PutRecordsRequestEntry::builder()
                .partition_key(key)
                .data(Blob::new(data))
                .build()
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Failure::unsendable("PutRecords", &target.place, error.to_string()))?;
    let sent = entries.len() as u64;
    let state = Arc::new(Mutex::new(State {
        entries,
        shards: BTreeSet::new(),
        calls: 0,
    }));
    let once = || {
        let state = state.clone();
        async move { attempt(target, &state).await }
    };
    retry(clock, PATIENCE, "put records", once)
        .await
        .map_err(|Repeat(failure)| failure)?;
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    summary.records += sent;
    summary.bytes += sent_bytes as u64;
    summary.retries += state.calls - 1;
    summary.shards.append(&mut state.shards);
    Ok(())
}

#[derive(Debug)]
struct State {
    /// What the stream has not taken yet.
    entries: Vec<PutRecordsRequestEntry>,
    shards: BTreeSet<String>,
    calls: u64,
}

async fn attempt(target: &Target, state: &Mutex<State>) -> Result<(), Repeat> {
    let (stream, place) = (&target.stream, &target.place);
    const OPERATION: &str = "PutRecords";
    let entries = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.calls += 1;
        state.entries.clone()
    };
    let request = target.client.put_records().set_records(Some(entries));
    let request = if stream.starts_with("arn:") {
        request.stream_arn(stream)
    } else {
        request.stream_name(stream)
    };
    let answer = request
        .send()
        .await
        .map_err(|error| Repeat(Failure::of(&error, "kinesis", OPERATION, place)))?;
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if answer.records.len() != state.entries.len() {
        return Err(Repeat(Failure::broken(
            OPERATION,
            place,
            "an answer for another number of records",
        )));
    }
    let mut refused = None;
    let mut results = answer.records.into_iter();
    let mut shards = std::mem::take(&mut state.shards);
    state.entries.retain(|_| match results.next() {
        Some(result) => match result.error_code {
            Some(code) => {
                refused = Some(format!("{code}: {}", result.error_message.unwrap_or_default()));
                true
            }
            None => {
                shards.extend(result.shard_id);
                false
            }
        },
        None => true,
    });
    state.shards = shards;
    match refused {
        Some(message) => Err(Repeat(Failure::broken(OPERATION, place, message))),
        None => Ok(()),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Repeat(Failure);

impl Retryable for Repeat {
    fn can_be_retried(&self) -> bool {
        self.0.reaction != Reaction::GiveUp || self.0.code.as_deref().is_some_and(is_throttling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch_of(sizes: &[usize]) -> Batch {
        let mut batch = Batch::default();
        for size in sizes {
            batch.push(vec![0; *size], Some("k"), &Clock::real());
        }
        batch
    }

    #[test]
    fn a_batch_is_full_at_500_records() {
        assert!(!batch_of(&[1; 499]).is_full());
        assert!(batch_of(&[1; 500]).is_full());
    }

    #[test]
    fn a_record_that_carries_the_batch_over_its_limit_goes_alone() {
        let parts = batch_of(&[4_000_000, 4_000_000]).split();
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
        let parts = batch_of(&[10, 10]).split();
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [2]);
    }

    #[tokio::test]
    async fn lines_lose_their_ends_and_the_last_needs_none() {
        let mut lines = read_lines(Box::new(&b"a\r\n\nb \nc"[..]));
        let mut read = Vec::new();
        while let Some(line) = lines.recv().await {
            read.push(line.unwrap());
        }
        assert_eq!(read, [&b"a"[..], b"", b"b ", b"c"]);
    }

    #[tokio::test]
    async fn a_line_longer_than_any_record_is_named() {
        let input = std::io::repeat(b'x').take(RECORD_BYTES_MAX as u64 + 1);
        let mut lines = read_lines(Box::new((&b"ok\n"[..]).chain(input)));
        assert!(lines.recv().await.unwrap().is_ok());
        assert_eq!(
            lines.recv().await.unwrap().unwrap_err().to_string(),
            PutError::Long(2).to_string()
        );
    }
}
