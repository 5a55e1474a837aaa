//! A plain HTTP client for both services, and processes to kill.
#![allow(unreachable_pub, reason = "a module of several test programs")]
#![allow(dead_code, reason = "every test file uses its own part of it")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;

pub const JSON: &str = "application/x-amz-json-1.1";
pub const CBOR: &str = "application/x-amz-cbor-1.1";
pub const SHARD_0: &str = "shardId-000000000000";

/// One connection.
pub enum Client {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

async fn socket(endpoint: &str) -> TokioIo<TcpStream> {
    let address = endpoint.strip_prefix("http://").expect("an http endpoint");
    TokioIo::new(TcpStream::connect(address).await.expect("it listens"))
}

impl Client {
    pub async fn http1(endpoint: &str) -> Self {
        let (sender, connection) = http1::handshake(socket(endpoint).await).await.unwrap();
        tokio::spawn(connection);
        Self::Http1(sender)
    }

    /// With prior knowledge, as the AWS SDK for Java speaks to an http endpoint.
    pub async fn http2(endpoint: &str) -> Self {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), socket(endpoint).await)
            .await
            .unwrap();
        tokio::spawn(connection);
        Self::Http2(sender)
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    /// Posts to a target such as `Kinesis_20131202.PutRecord`; an error where the connection closed unanswered.
    pub async fn post(
        &mut self,
        target: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> hyper::Result<(u16, HeaderMap, Bytes)> {
        let response = self.send(request(target, content_type, body)).await?;
        let (head, body) = response.into_parts();
        Ok((
            head.status.as_u16(),
            head.headers,
            body.collect().await?.to_bytes(),
        ))
    }

    /// An operation of Kinesis in JSON: status and body.
    pub async fn kinesis(&mut self, operation: &str, body: Json) -> hyper::Result<(u16, Json)> {
        let target = format!("Kinesis_20131202.{operation}");
        let (status, _, bytes) = self.post(&target, JSON, body.to_string()).await?;
        Ok((
            status,
            if bytes.is_empty() {
                Json::Null
            } else {
                serde_json::from_slice(&bytes).unwrap()
            },
        ))
    }

    /// The answer of an operation of Kinesis that must succeed.
    pub async fn must(&mut self, operation: &str, body: Json) -> Json {
        let (status, answer) = self.kinesis(operation, body).await.expect("an answer");
        assert_eq!(status, 200, "{operation}: {answer}");
        answer
    }

    /// An operation of DynamoDB: status and body.
    pub async fn dynamodb(&mut self, operation: &str, body: Json) -> hyper::Result<(u16, Json)> {
        let target = format!("DynamoDB_20120810.{operation}");
        let (status, _, bytes) = self
            .post(&target, "application/x-amz-json-1.0", body.to_string())
            .await?;
        Ok((status, serde_json::from_slice(&bytes).unwrap()))
    }

    /// The data of every record of a shard.
    pub async fn everything(&mut self, stream: &str, shard: &str) -> Vec<String> {
        let ask = json!({"StreamName": stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"});
        let mut iterator = self.must("GetShardIterator", ask).await["ShardIterator"].clone();
        let mut texts = Vec::new();
        loop {
            let answer = self.must("GetRecords", json!({"ShardIterator": iterator})).await;
            let records = answer["Records"].as_array().unwrap();
            texts.extend(
                records
                    .iter()
                    .map(|record| text(record["Data"].as_str().unwrap())),
            );
            if records.is_empty() {
                return texts;
            }
            iterator = answer["NextShardIterator"].clone();
        }
    }

    /// A table `app` with a key `k`.
    pub async fn create_table(&mut self) {
        let table = json!({
            "TableName": "app", "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}],
        });
        let (status, answer) = self.dynamodb("CreateTable", table).await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }

    pub async fn put_item(&mut self, key: &str) -> hyper::Result<(u16, Json)> {
        self.dynamodb("PutItem", json!({"TableName": "app", "Item": {"k": {"S": key}}}))
            .await
    }

    /// Keys of the items of the table, sorted.
    pub async fn items(&mut self) -> Vec<String> {
        let (status, answer) = self.dynamodb("Scan", json!({"TableName": "app"})).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        let items = answer["Items"].as_array().unwrap().iter();
        let mut keys: Vec<_> = items
            .map(|item| item["k"]["S"].as_str().unwrap().to_owned())
            .collect();
        keys.sort();
        keys
    }
}

pub fn request(target: &str, content_type: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post("http://localhost/")
        .header("host", "localhost")
        .header("content-type", content_type)
        .header("x-amz-target", target)
        .header("x-amz-date", "20260101T000000Z")
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/any/aws4_request, SignedHeaders=host, Signature=0",
        )
        .body(Full::new(body.into()))
        .unwrap()
}

pub fn base64(text: &str) -> String {
    base64_simd::STANDARD.encode_to_string(text)
}

pub fn text(base64: &str) -> String {
    String::from_utf8(base64_simd::STANDARD.decode_to_vec(base64).unwrap()).unwrap()
}

/// The services in a process of their own, which ends with this value.
pub struct Server {
    child: Child,
    pub kinesis: String,
    pub dynamodb: String,
}

/// The example `serve`, which cargo builds along with the tests.
fn serve() -> std::path::PathBuf {
    let tests = std::env::current_exe().unwrap();
    let serve = tests.parent().unwrap().parent().unwrap().join("examples/serve");
    assert!(
        serve.exists(),
        "build it first: cargo build -p multilangd-local --example serve"
    );
    serve
}

impl Server {
    pub fn start(data: &Path) -> Self {
        let mut command = Command::new(serve());
        command.arg(data);
        Self::spawn(command).unwrap_or_else(|log| panic!("not started: {log}"))
    }

    /// Where no file may grow beyond so many KiB, as on a disk that is full.
    pub fn start_with_little_room(data: &Path, kib: u32) -> Self {
        let mut command = Command::new("bash");
        // Without the trap the signal would end the process, before any error.
        let script = "trap '' XFSZ; ulimit -f \"$1\"; exec \"$2\" \"$3\"";
        command
            .args(["-c", script, "bash", &kib.to_string()])
            .arg(serve())
            .arg(data);
        Self::spawn(command).unwrap_or_else(|log| panic!("not started: {log}"))
    }

    /// What it says instead of starting.
    pub fn refusal(data: &Path) -> String {
        let mut command = Command::new(serve());
        command.arg(data);
        match Self::spawn(command) {
            Ok(_) => panic!("it started"),
            Err(log) => log,
        }
    }

    fn spawn(mut command: Command) -> Result<Self, String> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let endpoints = (lines.next(), lines.next());
        let (Some(kinesis), Some(dynamodb)) = endpoints else {
            let log = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
            child.wait().unwrap();
            return Err(log);
        };
        // Its log would fill the pipe.
        let mut log = child.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok(Self {
            child,
            kinesis,
            dynamodb,
        })
    }

    /// As `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
