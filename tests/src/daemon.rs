//! Real processes: the daemon, its local services, and children that note what they hear.
//!
//! Every process that is started here is ended with the value that stands for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::oracle::{Verdict, at_least_once_in_order};

/// Nothing in a test takes longer than this unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The program under test: `$MULTILANGD`, else the one beside the test programs.
pub fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("MULTILANGD") {
        return PathBuf::from(path);
    }
    let mut dir = std::env::current_exe().expect("a test has a path");
    while dir.pop() {
        let candidate = dir.join("multilangd");
        if candidate.is_file() {
            return candidate;
        }
    }
    panic!("multilangd is not built: run `cargo build -p multilangd` first, or set MULTILANGD");
}

/// A process that is killed when the test forgets it.
pub struct Running {
    process: Child,
    stderr: Arc<Mutex<Vec<String>>>,
    reader: std::thread::JoinHandle<()>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut process = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let lines = BufReader::new(process.stderr.take().expect("stderr is piped"));
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let sink = stderr.clone();
        let reader = std::thread::spawn(move || {
            for line in lines.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if std::env::var_os("SHOW_STDERR").is_some() {
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
                sink.lock().expect("no panic while locked").push(line);
            }
        });
        Self {
            process,
            stderr,
            reader,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its resident memory, in KiB. Linux only: a figure that cannot be had must not pass for a small one.
    pub fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = std::fs::read_to_string(&path).expect("a running process has a status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("its memory is in it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("no panic while locked").join("\n")
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status();
        assert!(sent.expect("kill can be run").success(), "no process to signal");
    }

    /// Waits for its end: the exit code, or 128 + the signal that ended it.
    pub fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().expect("it can be waited for") {
                // Its last words may still be in the pipe; whoever inherited its stderr may hold that open for longer.
                let last_words = Instant::now() + Duration::from_secs(2);
                while !self.reader.is_finished() && Instant::now() < last_words {
                    std::thread::sleep(Duration::from_millis(1));
                }
                return status
                    .code()
                    .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            }
            assert!(Instant::now() < deadline, "still running:\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGTERM, and the exit code.
    pub fn stop(&mut self) -> i32 {
        self.signal("TERM");
        self.wait()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("it can be waited for").is_none()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- stderr of a daemon ---\n{}", self.stderr());
        }
    }
}

/// A Kinesis and a DynamoDB in a process of their own, so that they survive the daemon.
pub struct Services {
    process: Running,
    /// The Kinesis endpoint.
    pub kinesis: String,
    /// The DynamoDB endpoint.
    pub dynamodb: String,
}

impl Services {
    /// Starts `multilangd local --memory`.
    pub fn start() -> Self {
        Self::start_with(&["--memory"])
    }

    /// Starts `multilangd local` with these arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.arg("local").args(arguments).stdout(Stdio::piped());
        let mut process = Running::start(&mut command);
        let mut stdout = BufReader::new(process.process.stdout.take().expect("stdout is piped"));
        let mut endpoints = Vec::new();
        let mut line = String::new();
        while endpoints.len() < 2 {
            line.clear();
            let read = stdout.read_line(&mut line).expect("stdout can be read");
            assert!(read > 0, "the local services ended:\n{}", process.stderr());
            if let Some(at) = line.find("http://") {
                let endpoint = line[at..].split_whitespace().next().unwrap_or_default();
                let endpoint = endpoint.trim_end_matches(['/', ',', '"']).to_owned();
                if !endpoints.contains(&endpoint) {
                    endpoints.push(endpoint);
                }
            }
        }
        std::thread::spawn(move || for _ in stdout.lines() {});
        let dynamodb = endpoints.pop().expect("two");
        let kinesis = endpoints.pop().expect("two");
        Self {
            process,
            kinesis,
            dynamodb,
        }
    }

    /// The process behind them.
    pub fn process(&mut self) -> &mut Running {
        &mut self.process
    }

    /// One call to Kinesis. Panics with the service's error.
    pub fn kinesis(&self, operation: &str, body: &Value) -> Value {
        call(&self.kinesis, "Kinesis_20131202", operation, body)
            .unwrap_or_else(|error| panic!("{operation}: {error}"))
    }

    /// One call to Kinesis that may fail.
    pub fn try_kinesis(&self, operation: &str, body: &Value) -> Result<Value, String> {
        call(&self.kinesis, "Kinesis_20131202", operation, body)
    }

    /// One call to DynamoDB. Panics with the service's error.
    pub fn dynamodb(&self, operation: &str, body: &Value) -> Value {
        call(&self.dynamodb, "DynamoDB_20120810", operation, body)
            .unwrap_or_else(|error| panic!("{operation}: {error}"))
    }

    /// Adds faults (`docs/LOCAL.md`).
    pub fn add_faults(&self, faults: &Value) {
        let url = format!("{}/_multilangd/faults", self.kinesis);
        ureq::post(&url)
            .send_json(faults)
            .expect("the fault plan is accepted");
    }

    /// Heals everything.
    pub fn clear_faults(&self) {
        let url = format!("{}/_multilangd/faults", self.kinesis);
        ureq::delete(&url).call().expect("the fault plan is cleared");
    }

    /// Creates a stream and waits until it can be used.
    pub fn create_stream(&self, name: &str, shards: u32) {
        self.kinesis("CreateStream", &json!({"StreamName": name, "ShardCount": shards}));
        until("the stream is active", || {
            let summary = self.kinesis("DescribeStreamSummary", &json!({"StreamName": name}));
            (summary["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE").then_some(())
        });
    }

    /// Puts records, key and text each, in calls of 500; retries what was refused. In order within a key.
    pub fn put<K: AsRef<str>, D: AsRef<[u8]>>(
        &self,
        stream: &str,
        records: impl IntoIterator<Item = (K, D)>,
    ) {
        let records: Vec<Value> = records
            .into_iter()
            .map(|(key, data)| json!({"PartitionKey": key.as_ref(), "Data": base64(data.as_ref())}))
            .collect();
        for chunk in records.chunks(500) {
            let answer = self.kinesis("PutRecords", &json!({"StreamName": stream, "Records": chunk}));
            assert_eq!(answer["FailedRecordCount"], 0, "{answer}");
        }
    }

    /// The open shards of a stream, by hash range.
    pub fn open_shards(&self, stream: &str) -> Vec<Value> {
        let listed = self.kinesis("ListShards", &json!({"StreamName": stream}));
        let shards = listed["Shards"].as_array().expect("a list").clone();
        let mut open: Vec<Value> = shards
            .into_iter()
            .filter(|it| it["SequenceNumberRange"]["EndingSequenceNumber"].is_null())
            .collect();
        open.sort_by_key(|it| {
            it["HashKeyRange"]["StartingHashKey"]
                .as_str()
                .map(|s| s.parse::<u128>().ok())
        });
        open
    }

    /// Splits a shard in the middle.
    pub fn split(&self, stream: &str, shard: &Value) {
        let bound = |name: &str| {
            shard["HashKeyRange"][name]
                .as_str()
                .unwrap()
                .parse::<u128>()
                .unwrap()
        };
        let (start, end) = (bound("StartingHashKey"), bound("EndingHashKey"));
        let middle = start + (end - start) / 2 + 1;
        self.kinesis(
            "SplitShard",
            &json!({"StreamName": stream, "ShardToSplit": shard["ShardId"], "NewStartingHashKey": middle.to_string()}),
        );
    }

    /// Merges two neighbours.
    pub fn merge(&self, stream: &str, left: &Value, right: &Value) {
        self.kinesis(
            "MergeShards",
            &json!({"StreamName": stream, "ShardToMerge": left["ShardId"], "AdjacentShardToMerge": right["ShardId"]}),
        );
    }

    /// The lease rows of a table, by key, as DynamoDB JSON. Rows of other kinds are left out.
    pub fn leases(&self, table: &str) -> BTreeMap<String, Value> {
        self.rows(table)
            .into_iter()
            .filter(|(_, row)| !row["checkpoint"].is_null())
            .collect()
    }

    /// All rows of a table, by key, as DynamoDB JSON.
    pub fn rows(&self, table: &str) -> BTreeMap<String, Value> {
        let Ok(answer) = call(
            &self.dynamodb,
            "DynamoDB_20120810",
            "Scan",
            &json!({"TableName": table, "ConsistentRead": true}),
        ) else {
            return BTreeMap::new();
        };
        let items = answer["Items"].as_array().cloned().unwrap_or_default();
        items
            .into_iter()
            .map(|row| (row["leaseKey"]["S"].as_str().unwrap_or_default().to_owned(), row))
            .collect()
    }
}

fn call(endpoint: &str, service: &str, operation: &str, body: &Value) -> Result<Value, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .into();
    let version = if service.starts_with("DynamoDB") {
        "1.0"
    } else {
        "1.1"
    };
    let mut answer = agent
        .post(endpoint)
        .header("content-type", format!("application/x-amz-json-{version}"))
        .header("x-amz-target", format!("{service}.{operation}"))
        .header("x-amz-date", "20260101T000000Z")
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kinesis/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature=0000",
        )
        .send(body.to_string())
        .map_err(|error| error.to_string())?;
    let text = answer
        .body_mut()
        .with_config()
        .limit(1 << 30)
        .read_to_string()
        .map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(text);
    }
    if text.is_empty() {
        Ok(Value::Null)
    } else {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }
}

/// Standard base64.
pub fn base64(data: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(data)
}

/// The text behind base64.
pub fn unbase64(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .expect("valid base64")
}

/// Asks until there is an answer; panics when patience ends.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An application: a properties file, a notes file, and daemons that run it.
pub struct Application {
    dir: tempfile::TempDir,
    name: String,
    stream: String,
    lines: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Application {
    /// Reads `stream` through `services` with the noting child, from the oldest record on.
    pub fn new(services: &Services, name: &str, stream: &str) -> Self {
        Self::local(name, stream)
            .with("kinesisEndpoint", &services.kinesis)
            .with("dynamoDBEndpoint", &services.dynamodb)
    }

    /// The same without endpoints, for `run --local`.
    pub fn local(name: &str, stream: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        let child = concat!(env!("CARGO_MANIFEST_DIR"), "/src/processors/record.py");
        let notes = dir.path().join("notes");
        let lines = vec![
            format!("applicationName = {name}"),
            format!("streamName = {stream}"),
            format!("executableName = python3 {child} {}", notes.display()),
            "AwsCredentialsProvider = DefaultCredentialsProvider".into(),
            "initialPositionInStream = TRIM_HORIZON".into(),
            "regionName = us-east-1".into(),
            "retrievalMode = POLLING".into(),
            "idleTimeBetweenReadsInMillis = 200".into(),
            "metricsLevel = NONE".into(),
            "parentShardPollIntervalMillis = 1000".into(),
        ];
        Self {
            dir,
            name: name.into(),
            stream: stream.into(),
            lines,
            environment: Vec::new(),
        }
    }

    /// Adds a property; a later one of the same name wins.
    pub fn with(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.lines.push(format!("{key} = {value}"));
        self
    }

    /// Takes a property out again.
    pub fn without(mut self, key: &str) -> Self {
        self.lines.retain(|line| !line.starts_with(&format!("{key} ")));
        self
    }

    /// Sets how the noting child behaves; see `processors/record.py`.
    pub fn behaving(mut self, behaviours: &str) -> Self {
        for line in &mut self.lines {
            if line.starts_with("executableName") {
                *line = format!("{line} {behaviours}");
            }
        }
        self
    }

    /// Sets an environment variable of the daemon.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The application's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The application's name, and its table's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Writes the properties file.
    pub fn properties(&self) -> PathBuf {
        let path = self.dir.path().join("app.properties");
        std::fs::write(&path, self.lines.join("\n") + "\n").expect("the properties file can be written");
        path
    }

    /// A daemon with the application's properties file.
    pub fn start(&self) -> Running {
        self.start_with(&[])
    }

    /// A daemon with further arguments before the properties file.
    pub fn start_with(&self, arguments: &[&str]) -> Running {
        let mut command = Command::new(program());
        command
            .args(arguments)
            .arg(self.properties())
            .current_dir(self.dir.path());
        command.stdout(Stdio::null());
        command
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Running::start(&mut command)
    }

    /// `multilangd put`, with these lines, to the local services of the application's directory. The exit code, and
    /// what it wrote to stderr.
    pub fn put_lines(&self, lines: &str) -> (i32, String) {
        let mut put = self.start_put(lines);
        let code = put.wait();
        (code, put.stderr())
    }

    /// The same, not waited for.
    pub fn start_put(&self, lines: &str) -> Running {
        let path = self.dir.path().join("lines");
        std::fs::write(&path, lines).expect("the lines can be written");
        let mut command = Command::new(program());
        command
            .args(["put", &self.stream])
            .arg(&path)
            .current_dir(self.dir.path())
            .stdout(Stdio::null());
        Running::start(&mut command)
    }

    /// What the children have heard so far, in the order of their notes.
    pub fn notes(&self) -> Vec<Note> {
        let text = std::fs::read(self.dir.path().join("notes")).unwrap_or_default();
        // A child that was killed may leave half a line.
        let whole = text.rsplitn(2, |byte| *byte == b'\n').last().unwrap_or_default();
        let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| Note(serde_json::from_slice(line).expect("a note is JSON")))
            .collect()
    }

    /// The records that were answered for, in the order of the notes: shard, sequence number, sub-sequence number,
    /// partition key, data.
    pub fn records(&self) -> Vec<Record> {
        let notes = self.notes();
        notes
            .iter()
            .filter(|note| note.heard() == "processRecords")
            .flat_map(|note| {
                note.0["records"]
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(|record| Record {
                        shard: note.shard().to_owned(),
                        sequence_number: record[0].as_str().expect("text").to_owned(),
                        sub_sequence_number: record[1].as_u64().expect("a number"),
                        key: record[2].as_str().expect("text").to_owned(),
                        data: record[3].as_str().map(unbase64).unwrap_or_default(),
                    })
            })
            .collect()
    }

    /// Waits until each of these records, by key and text, was delivered at least once.
    pub fn wait_for(&self, put: &[(String, String)]) {
        until("every record is delivered", || {
            let records = self.records();
            let distinct: BTreeSet<(&str, &[u8])> = records
                .iter()
                .map(|record| (record.key.as_str(), record.data.as_slice()))
                .collect();
            (distinct.len() >= put.len()).then_some(())
        });
    }

    /// What the oracle says of what was delivered, against what was put.
    pub fn verdict(&self, put: &[(String, String)]) -> Verdict {
        at_least_once_in_order(put, &self.records())
    }

    /// What the children of one shard have heard, in order, without repeats of `processRecords` and `checkpoint`.
    pub fn heard(&self, shard: &str) -> Vec<String> {
        let mut heard: Vec<String> = self
            .notes()
            .iter()
            .filter(|note| note.shard() == shard && note.heard() != "checkpoint")
            .map(|note| note.heard().to_owned())
            .collect();
        heard.dedup();
        heard
    }
}

/// One thing that a child has heard.
#[derive(Clone, Debug)]
pub struct Note(pub Value);

impl Note {
    /// The action, or `start`, `eof`, `checkpoint`.
    pub fn heard(&self) -> &str {
        self.0["heard"].as_str().unwrap_or_default()
    }

    /// The shard; empty before `initialize`.
    pub fn shard(&self) -> &str {
        self.0["shard"].as_str().unwrap_or_default()
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.0["pid"].as_u64().unwrap_or_default() as u32
    }
}

/// A record as a child saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The shard.
    pub shard: String,
    /// The sequence number.
    pub sequence_number: String,
    /// The sub-sequence number.
    pub sub_sequence_number: u64,
    /// The partition key.
    pub key: String,
    /// The payload.
    pub data: Vec<u8>,
}

impl Record {
    /// The payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.data).into_owned()
    }
}
