//! The DynamoDB port: the embedded database behind a thin front.
//!
//! Owns what the database lacks: point-in-time recovery (remembered, not done) and the fault plan. Everything
//! else goes to the database as it came, over a loopback connection, because its handlers block their thread.

mod backups;

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::error::LocalError;
use crate::fault::{Effect, FaultPlan};
use crate::http::{Answer, BodyError, Cut, Reply, answer, body};
use crate::value::{Value, json};

use backups::Backups;

/// The operations of the front and of the database.
pub(crate) const OPERATIONS: [&str; 25] = [
    "BatchExecuteStatement",
    "BatchGetItem",
    "BatchWriteItem",
    "CreateTable",
    "DeleteItem",
    "DeleteTable",
    "DescribeContinuousBackups",
    "DescribeTable",
    "DescribeTimeToLive",
    "ExecuteStatement",
    "ExecuteTransaction",
    "GetItem",
    "ListTables",
    "ListTagsOfResource",
    "PutItem",
    "Query",
    "Scan",
    "TagResource",
    "TransactGetItems",
    "TransactWriteItems",
    "UntagResource",
    "UpdateContinuousBackups",
    "UpdateItem",
    "UpdateTable",
    "UpdateTimeToLive",
];

const PREFIX: &str = "DynamoDB_20120810.";
const JSON: &str = "application/x-amz-json-1.0";
/// As the service.
const BODY_BYTES_MAX: usize = 16 << 20;

/// The database on a thread of its own.
pub(crate) struct Engine {
    /// Where the front finds it.
    pub(crate) address: std::net::SocketAddr,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Engine {
    /// Opens the database: the file, or one in memory.
    pub(crate) fn start(file: Option<&Path>) -> Result<Self, LocalError> {
        let fault = |reason: String| LocalError::Start {
            what: "the embedded DynamoDB",
            reason,
        };
        let database = match file {
            None => dynoxide::Database::memory(),
            Some(file) => dynoxide::Database::new(&file.to_string_lossy()),
        }
        .map_err(|error| match file {
            Some(file) => LocalError::Data {
                path: file.to_owned(),
                reason: error.to_string(),
            },
            None => fault(error.to_string()),
        })?;
        // Sets what the database calls normal, `synchronous = NORMAL`: in its write-ahead log a commit survives the
        // process without a sync of the disk, which by default each write of a lease would wait for.
        database
            .disable_bulk_loading()
            .map_err(|error| fault(error.to_string()))?;
        let listener =
            std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(|error| fault(error.to_string()))?;
        listener
            .set_nonblocking(true)
            .map_err(|error| fault(error.to_string()))?;
        let address = listener.local_addr().map_err(|error| fault(error.to_string()))?;
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| fault(error.to_string()))?;
        let thread = std::thread::Builder::new()
            .name("local-dynamodb".into())
            .spawn(move || {
                let served = runtime.block_on(async {
                    let listener =
                        tokio::net::TcpListener::from_std(listener).map_err(|error| error.to_string())?;
                    dynoxide::server::serve_with_shutdown(listener, database, stopped).await
                });
                if let Err(error) = served {
                    tracing::error!(%error, "the embedded DynamoDB stopped");
                }
            })
            .map_err(|error| fault(error.to_string()))?;
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Engine {
    /// Its clients must have closed their connections: a request that is half sent would hold it.
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What all connections share.
pub(crate) struct Port {
    engine: std::net::SocketAddr,
    faults: FaultPlan,
    backups: std::sync::Mutex<Backups>,
}

impl Port {
    pub(crate) fn new(
        engine: &Engine,
        faults: FaultPlan,
        backups_file: Option<&Path>,
    ) -> Result<Self, LocalError> {
        let backups = std::sync::Mutex::new(Backups::open(backups_file)?);
        Ok(Self {
            engine: engine.address,
            faults,
            backups,
        })
    }
}

/// One client's connection, with its own connection to the database.
pub(crate) struct Front {
    port: Arc<Port>,
    engine: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

impl Front {
    pub(crate) fn new(port: Arc<Port>) -> Self {
        Self {
            port,
            engine: Mutex::new(None),
        }
    }

    pub(crate) async fn handle(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let (head, incoming) = request.into_parts();
        let bytes = match body(incoming, BODY_BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(BodyError::Broken) => return Err(Cut),
            Err(BodyError::TooLarge) => {
                return Ok(failure(413, "RequestEntityTooLarge", "the body is too large"));
            }
        };
        let operation = operation(&head.headers).to_owned();
        let mut effect = None;
        if head.method == Method::POST && !self.port.faults.is_empty() {
            let tables = tables(&bytes);
            let names: Vec<&str> = tables.iter().map(String::as_str).collect();
            let verdict = self
                .port
                .faults
                .judge(&format!("dynamodb.{operation}"), &names, Instant::now());
            tokio::time::sleep(verdict.delay).await;
            effect = verdict.effect;
        }
        match &effect {
            Some(Effect::Error {
                code,
                status,
                message,
            }) => return Ok(failure(*status, code, message)),
            Some(Effect::Cut) => return Err(Cut),
            Some(Effect::Unanswered) | None => {}
        }
        let answered = match operation.as_str() {
            "UpdateContinuousBackups" | "DescribeContinuousBackups" => {
                self.backups(&operation, &head, &bytes).await
            }
            _ => {
                let answered = self.forward(head, bytes.clone()).await;
                if operation == "DeleteTable"
                    && answered
                        .as_ref()
                        .is_ok_and(|response| response.status().is_success())
                    && let [table, ..] = tables(&bytes).as_slice()
                {
                    self.port
                        .backups
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .forget(table);
                }
                answered
            }
        };
        if effect == Some(Effect::Unanswered) {
            return Err(Cut);
        }
        answered
    }

    async fn forward(&self, head: Parts, bytes: Bytes) -> Answer {
        let mut engine = self.engine.lock().await;
        let (status, headers, bytes) = match self.exchange(&mut engine, head, bytes).await {
            Ok(answered) => answered,
            Err(error) => {
                *engine = None;
                tracing::error!(%error, "the embedded DynamoDB does not answer");
                return Ok(failure(
                    500,
                    "InternalServerError",
                    &format!("the embedded DynamoDB does not answer: {error}"),
                ));
            }
        };
        let mut response = Response::new(Reply::Whole(bytes));
        *response.status_mut() = status;
        for (name, value) in &headers {
            if !["connection", "transfer-encoding", "content-length", "date"].contains(&name.as_str()) {
                response.headers_mut().append(name, value.clone());
            }
        }
        Ok(response)
    }

    async fn exchange(
        &self,
        engine: &mut Option<SendRequest<Full<Bytes>>>,
        head: Parts,
        bytes: Bytes,
    ) -> Result<(hyper::StatusCode, HeaderMap, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        // A connection may have ended since it was last used.
        if let Some(sender) = engine
            && sender.ready().await.is_err()
        {
            *engine = None;
        }
        if engine.is_none() {
            let socket = TcpStream::connect(self.port.engine).await?;
            socket.set_nodelay(true)?;
            let (mut sender, connection) = handshake(TokioIo::new(socket)).await?;
            tokio::spawn(connection);
            sender.ready().await?;
            *engine = Some(sender);
        }
        let sender = engine.as_mut().expect("set above");
        let mut request = Request::builder()
            .method(head.method)
            .uri(head.uri.path_and_query().map_or("/", |p| p.as_str()));
        for (name, value) in &head.headers {
            if !["connection", "transfer-encoding", "content-length", "expect"].contains(&name.as_str()) {
                request = request.header(name, value);
            }
        }
        let response = sender.send_request(request.body(Full::new(bytes))?).await?;
        let (head, body) = response.into_parts();
        Ok((head.status, head.headers, body.collect().await?.to_bytes()))
    }

    /// Answers for a table that exists, as the service would.
    async fn backups(&self, operation: &str, head: &Parts, bytes: &Bytes) -> Answer {
        let tables = tables(bytes);
        let Some(table) = tables.first() else {
            return Ok(failure(400, "ValidationException", "TableName must not be null"));
        };
        let mut describe = head.clone();
        describe.headers.insert(
            "x-amz-target",
            "DynamoDB_20120810.DescribeTable".parse().expect("valid"),
        );
        let question = serde_json::json!({ "TableName": table }).to_string();
        let described = self.forward(describe, question.into()).await?;
        if described.status() == 400 {
            return Ok(failure(
                400,
                "TableNotFoundException",
                &format!("Table not found: {table}"),
            ));
        }
        if !described.status().is_success() {
            return Ok(described);
        }
        let mut backups = self.port.backups.lock().unwrap_or_else(PoisonError::into_inner);
        if operation == "UpdateContinuousBackups" {
            let Some(enabled) = backups::enabled(bytes) else {
                return Ok(failure(
                    400,
                    "ValidationException",
                    "PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled must be true or false",
                ));
            };
            if let Err(error) = backups.set(table, enabled) {
                return Ok(failure(
                    500,
                    "InternalServerError",
                    &format!("cannot remember it: {error}"),
                ));
            }
        }
        Ok(answer(200, JSON, backups.describe(table)))
    }
}

fn operation(headers: &HeaderMap) -> &str {
    let target = headers
        .get("x-amz-target")
        .and_then(|target| target.to_str().ok())
        .unwrap_or_default();
    target.strip_prefix(PREFIX).unwrap_or(target)
}

/// The tables that a request names.
fn tables(bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(value) = json::read(bytes) {
        collect(&value, &mut names);
    }
    names
}

fn collect(value: &Value<'_>, names: &mut Vec<String>) {
    let Value::Map(members) = value else { return };
    for (key, member) in members {
        match (key.as_ref(), member) {
            ("TableName", Value::Text(name)) => {
                names.push(name.rsplit('/').next().unwrap_or(name).to_owned())
            }
            // Of a batch: tables by name.
            ("RequestItems", Value::Map(tables)) => {
                names.extend(tables.iter().map(|(name, _)| name.to_string()))
            }
            // Of a transaction: a list of one-membered maps.
            ("TransactItems", Value::List(items)) => {
                for item in items {
                    if let Value::Map(actions) = item {
                        actions.iter().for_each(|(_, action)| collect(action, names));
                    }
                }
            }
            _ => {}
        }
    }
}

fn failure(status: u16, code: &str, message: &str) -> Response<Reply> {
    let space = if code == "ValidationException" || code == "ThrottlingException" {
        "com.amazon.coral.validate"
    } else {
        "com.amazonaws.dynamodb.v20120810"
    };
    let body = serde_json::json!({ "__type": format!("{space}#{code}"), "message": message }).to_string();
    answer(status, JSON, body)
}
