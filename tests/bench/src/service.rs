//! The calls of Kinesis that a consumer makes. Requests are not parsed: what matters in them is found by its looks, in JSON and CBOR alike.

use std::convert::Infallible;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use multilangd_bench::records::{Format, Made, digits, find, number_in, sequence_number};
use serde_json::{Value, json};

use crate::table::Connection;

/// An iterator is this, the shard's twelve digits, a dash, and the number of the next record.
const ITERATOR: &str = "synthetic-";
const SHARD: &str = "shardId-";
const SHARD_DIGITS: usize = 12;
const CBOR: &str = "application/x-amz-cbor-1.1";

/// One stream, whatever it is called.
pub(crate) struct Service {
    made: Made,
    shards: usize,
    /// What ListShards tells of: the first ones.
    listed: usize,
    rate: Option<f64>,
    began: Instant,
}

impl Service {
    pub(crate) fn new(made: Made, shards: usize, listed: usize, rate: Option<f64>) -> Self {
        Self {
            made,
            shards,
            listed,
            rate,
            began: Instant::now(),
        }
    }

    /// How many records a shard has got so far. Shards get theirs at different times, so that work is spread.
    fn put(&self, shard: u64) -> Option<u64> {
        let rate = self.rate?;
        let phase = shard as f64 / self.shards as f64;
        Some((self.began.elapsed().as_secs_f64() * rate + phase) as u64)
    }

    fn get_records(&self, format: Format, request: &[u8]) -> Option<Bytes> {
        let at = find(request, ITERATOR.as_bytes())? + ITERATOR.len();
        let shard = digits(request.get(at..at + SHARD_DIGITS)?)?;
        let rest = &request[at + SHARD_DIGITS + 1..];
        let end = rest
            .iter()
            .position(|b| !b.is_ascii_digit())
            .unwrap_or(rest.len());
        let first = digits(&rest[..end])?;
        let most = self.made.records_max() as u64;
        let most = limit(format, request).map_or(most, |limit| limit.min(most));
        let (count, behind_ms) = match self.put(shard) {
            None => (most, 3_600_000),
            Some(put) => {
                let unread = put.saturating_sub(first);
                let left = unread.saturating_sub(most);
                (
                    unread.min(most),
                    (left as f64 * 1000.0 / self.rate.unwrap_or(1.0)) as u64,
                )
            }
        };
        let next = iterator(shard, first + count);
        Some(self.made.answer(format, first, count as usize, behind_ms, &next))
    }

    fn call(&self, operation: &str, request: &[u8]) -> Option<Value> {
        Some(match operation {
            "DescribeStreamSummary" => json!({"StreamDescriptionSummary": {
                "StreamName": "synthetic", "StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/synthetic",
                "StreamStatus": "ACTIVE", "OpenShardCount": self.listed, "RetentionPeriodHours": 24,
                "EnhancedMonitoring": [], "StreamModeDetails": {"StreamMode": "PROVISIONED"},
            }}),
            "ListShards" => {
                let width = u128::MAX / self.listed as u128;
                let shards: Vec<Value> = (0..self.listed)
                    .map(|n| {
                        let start = width * n as u128;
                        let end = if n + 1 == self.listed { u128::MAX } else { start + width - 1 };
                        json!({
                            "ShardId": format!("{SHARD}{n:0SHARD_DIGITS$}"),
                            "HashKeyRange": {"StartingHashKey": start.to_string(), "EndingHashKey": end.to_string()},
                            "SequenceNumberRange": {"StartingSequenceNumber": sequence_number(0)},
                        })
                    })
                    .collect();
                json!({"Shards": shards})
            }
            "GetShardIterator" => {
                let at = find(request, SHARD.as_bytes())? + SHARD.len();
                let shard = digits(request.get(at..at + SHARD_DIGITS)?)?;
                let holds = |word: &str| find(request, word.as_bytes()).is_some();
                let next = match number_in(request) {
                    Some(number) => number + u64::from(holds("AFTER_SEQUENCE_NUMBER")),
                    None if holds("LATEST") => self.put(shard).unwrap_or(0),
                    None => 0,
                };
                json!({"ShardIterator": iterator(shard, next)})
            }
            _ => return None,
        })
    }
}

/// The `Limit` of a request, up to 65,535.
fn limit(format: Format, request: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"Limit";
    let value = &request[find(request, KEY)? + KEY.len()..];
    match (format, value) {
        (Format::Json, [b'"', b':', number @ ..]) => {
            let end = number.iter().position(|byte| !byte.is_ascii_digit())?;
            digits(&number[..end])
        }
        (Format::Cbor, [small @ ..24, ..] | [24, small, ..]) => Some(u64::from(*small)),
        (Format::Cbor, [25, high, low, ..]) => Some(u64::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

fn iterator(shard: u64, next: u64) -> String {
    format!("{ITERATOR}{shard:0SHARD_DIGITS$}-{next}")
}

pub(crate) async fn answer(
    service: Rc<Service>,
    table: Option<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let header = |name: &str| {
        head.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    if let Some(table) = &table {
        if head.uri.path() == "/table" {
            return Ok(reply(200, "application/json", table.counts().to_string()));
        }
        if header("x-amz-target").starts_with("DynamoDB_") {
            return Ok(table
                .forward(&head, body)
                .await
                .unwrap_or_else(|why| reply(500, "text/plain", why)));
        }
    }
    let operation = header("x-amz-target").rsplit('.').next().unwrap_or_default();
    let (format, content) = match header("content-type") {
        CBOR => (Format::Cbor, CBOR),
        _ => (Format::Json, "application/x-amz-json-1.1"),
    };
    if operation == "GetRecords"
        && let Some(answer) = service.get_records(format, &body)
    {
        return Ok(reply(200, content, answer));
    }
    Ok(match service.call(operation, &body) {
        Some(answer) => reply(200, content, write(format, &answer)),
        None => reply(
            400,
            content,
            write(
                format,
                &json!({"__type": "UnknownOperationException", "message": operation}),
            ),
        ),
    })
}

fn write(format: Format, value: &Value) -> Vec<u8> {
    match format {
        Format::Json => value.to_string().into_bytes(),
        Format::Cbor => {
            let mut out = Vec::new();
            let written = ciborium::into_writer(&plain(value), &mut out);
            written.expect("a vector takes everything");
            out
        }
    }
}

/// The same tree in CBOR. (Through serde, a number with all its digits would become a map.)
fn plain(value: &Value) -> ciborium::Value {
    match value {
        Value::Null => ciborium::Value::Null,
        Value::Bool(it) => (*it).into(),
        Value::Number(it) => it.as_u64().unwrap_or_default().into(),
        Value::String(it) => it.as_str().into(),
        Value::Array(items) => ciborium::Value::Array(items.iter().map(plain).collect()),
        Value::Object(fields) => ciborium::Value::Map(
            fields
                .iter()
                .map(|(key, value)| (key.as_str().into(), plain(value)))
                .collect(),
        ),
    }
}

pub(crate) fn reply(status: u16, content: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", content)
        .header("x-amzn-requestid", "synthetic")
        .body(Full::new(body.into()))
        .expect("these headers are legal")
}
