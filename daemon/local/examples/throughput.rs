//! How many records a second go in and come out over HTTP: `throughput [DIR|-] [RECORDS] [BYTES]`.
//!
//! Client and services share the machine. Writers send `PutRecords` of 500; readers read each shard from its start.
#![allow(clippy::print_stdout, reason = "a program that prints what it measured")]

use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use multilangd_local::{Data, LocalOptions, start};

const SHARDS: u32 = 4;
const WRITERS: usize = 4;
const BATCH: usize = 500;

struct Client(SendRequest<Full<Bytes>>);

impl Client {
    async fn connect(endpoint: &str) -> Self {
        let socket = tokio::net::TcpStream::connect(&endpoint["http://".len()..])
            .await
            .expect("it listens");
        socket.set_nodelay(true).expect("a socket");
        let (sender, connection) = handshake(TokioIo::new(socket)).await.expect("HTTP");
        tokio::spawn(connection);
        Self(sender)
    }

    async fn post(&mut self, operation: &str, body: Bytes) -> Bytes {
        let request = Request::post("/")
            .header("host", "localhost")
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
            .body(Full::new(body))
            .expect("a request");
        self.0.ready().await.expect("a connection");
        let response = self.0.send_request(request).await.expect("an answer");
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            whole.extend_from_slice(&frame.expect("more").into_data().unwrap_or_default());
        }
        whole.into()
    }
}

fn member<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let from = text.rfind(&format!("\"{name}\":\""))? + name.len() + 4;
    text[from..].split('"').next()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default| {
        arguments
            .get(at)
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let data = match arguments.first().map(String::as_str) {
        None | Some("-") => Data::Memory,
        Some(path) => Data::Dir(path.into()),
    };
    let (records, bytes): (usize, usize) = (number(1, 400_000), number(2, 1024));
    let opening = Instant::now();
    let services = start(LocalOptions {
        data,
        ..LocalOptions::default()
    })
    .await
    .expect("started");
    println!("ready after {:.3} s", opening.elapsed().as_secs_f64());
    services
        .create_stream_if_missing("bench", SHARDS)
        .await
        .expect("a stream");
    let endpoint = services.kinesis_endpoint();

    let data = base64_simd::STANDARD.encode_to_string(vec![b'x'; bytes]);
    let items: Vec<_> = (0..BATCH)
        .map(|n| format!(r#"{{"Data":"{data}","PartitionKey":"key-{n}"}}"#))
        .collect();
    let body = Bytes::from(format!(
        r#"{{"StreamName":"bench","Records":[{}]}}"#,
        items.join(",")
    ));
    let started = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..WRITERS {
        let (endpoint, body) = (endpoint.clone(), body.clone());
        writers.spawn(async move {
            let mut client = Client::connect(&endpoint).await;
            for _ in 0..records / BATCH / WRITERS {
                client.post("PutRecords", body.clone()).await;
            }
        });
    }
    writers.join_all().await;
    report("in", records, bytes, started);

    let started = Instant::now();
    let mut readers = tokio::task::JoinSet::new();
    for shard in 0..SHARDS {
        let endpoint = endpoint.clone();
        readers.spawn(async move {
            let mut client = Client::connect(&endpoint).await;
            let ask = format!(
                r#"{{"StreamName":"bench","ShardId":"shardId-{shard:012}","ShardIteratorType":"TRIM_HORIZON"}}"#
            );
            let answer = client.post("GetShardIterator", ask.into()).await;
            let mut iterator = member(std::str::from_utf8(&answer).expect("text"), "ShardIterator").map(str::to_owned);
            let mut total = 0;
            while let Some(from) = &iterator {
                let answer = client.post("GetRecords", format!(r#"{{"ShardIterator":"{from}"}}"#).into()).await;
                // Only the end is looked at: this measures the service, not a client's JSON.
                let tail = String::from_utf8_lossy(&answer[answer.len().saturating_sub(300)..]).into_owned();
                total += answer.len();
                if tail.contains("\"MillisBehindLatest\":0}") {
                    break;
                }
                iterator = member(&tail, "NextShardIterator").map(str::to_owned);
            }
            total
        });
    }
    let total: usize = readers.join_all().await.into_iter().sum();
    report("out", records, bytes, started);
    println!("     {total} bytes of answers");
    services.stop().await;
}

fn report(direction: &str, records: usize, bytes: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let (each, megabytes) = (records as f64 / seconds, (records * bytes) as f64 / seconds / 1e6);
    println!(
        "{direction:>4} {records} records of {bytes} bytes in {seconds:.3} s: {each:.0} a second, {megabytes:.0} MB/s"
    );
}
