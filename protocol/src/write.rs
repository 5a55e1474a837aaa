//! What the daemon says: one JSON object a line, ASCII only, the keys and their order as Java writes them
//! (`protocol.md 2` and `3`).
//!
//! Every function appends one whole line, `\n` included, to a buffer that the caller keeps and reuses.
//!
//! Compat: Java writes non-ASCII characters raw, in the encoding of its JVM (`?` under a C locale). Here they are
//! `\uXXXX`, which every JSON parser decodes alike and no locale of a child can spoil.
//!
//! Compat: the line ends with `\n` on every system; Java uses the system's own separator.

use crate::messages::CheckpointRequest;

/// One record of a `processRecords` message, borrowed from whoever owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLine<'a> {
    /// The payload.
    pub data: &'a [u8],
    /// The partition key.
    pub partition_key: &'a str,
    /// The sequence number of the stream record that carried it.
    pub sequence_number: &'a str,
    /// Its place inside an aggregate; 0 where there is none.
    pub sub_sequence_number: u64,
    /// When the stream took it, in milliseconds since the epoch. Several clients crash on `None`.
    pub approximate_arrival_ms: Option<i64>,
}

/// `initialize`: the shard, and the position up to which it has been processed (digits or a sentinel).
pub fn initialize(out: &mut Vec<u8>, shard_id: &str, sequence_number: &str, sub_sequence_number: u64) {
    out.extend_from_slice(br#"{"action":"initialize","shardId":"#);
    string(out, shard_id);
    out.extend_from_slice(br#","sequenceNumber":"#);
    string(out, sequence_number);
    out.extend_from_slice(br#","subSequenceNumber":"#);
    unsigned(out, sub_sequence_number);
    out.extend_from_slice(b"}\n");
}

/// `processRecords`: a batch, each payload encoded straight into the buffer.
///
/// The records are walked twice: once for the size, so that the buffer grows at most once.
pub fn process_records<'a, I>(out: &mut Vec<u8>, records: I, millis_behind_latest: Option<i64>)
where
    I: Iterator<Item = RecordLine<'a>> + Clone,
{
    /// The keys and punctuation of a record, with room for its numbers and a few escapes.
    const RECORD_OVERHEAD_BYTES: usize = 192;
    let size: usize = records
        .clone()
        .map(|record| {
            record.data.len().div_ceil(3) * 4
                + record.partition_key.len()
                + record.sequence_number.len()
                + RECORD_OVERHEAD_BYTES
        })
        .sum();
    out.reserve(size + RECORD_OVERHEAD_BYTES);

    out.extend_from_slice(br#"{"action":"processRecords","records":["#);
    for (index, record) in records.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(br#"{"data":""#);
        base64_simd::STANDARD.encode_append(record.data, out);
        out.extend_from_slice(br#"","partitionKey":"#);
        string(out, record.partition_key);
        out.extend_from_slice(br#","sequenceNumber":"#);
        string(out, record.sequence_number);
        out.extend_from_slice(br#","approximateArrivalTimestamp":"#);
        optional_signed(out, record.approximate_arrival_ms);
        out.extend_from_slice(br#","subSequenceNumber":"#);
        unsigned(out, record.sub_sequence_number);
        out.extend_from_slice(br#","action":"record"}"#);
    }
    out.extend_from_slice(br#"],"millisBehindLatest":"#);
    optional_signed(out, millis_behind_latest);
    out.extend_from_slice(b"}\n");
}

/// `leaseLost`.
pub fn lease_lost(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"action\":\"leaseLost\"}\n");
}

/// `shardEnded`.
pub fn shard_ended(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"action\":\"shardEnded\"}\n");
}

/// `shutdownRequested`.
pub fn shutdown_requested(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"action\":\"shutdownRequested\"}\n");
}

/// The reply to a checkpoint request: it echoes the request, not the stored position. `error` is the simple name of a
/// Java exception, `None` on success.
pub fn checkpoint_reply(out: &mut Vec<u8>, request: &CheckpointRequest, error: Option<&str>) {
    out.extend_from_slice(br#"{"action":"checkpoint","sequenceNumber":"#);
    optional_string(out, request.sequence_number.as_deref());
    out.extend_from_slice(br#","subSequenceNumber":"#);
    optional_signed(out, request.sub_sequence_number);
    out.extend_from_slice(br#","error":"#);
    optional_string(out, error);
    out.extend_from_slice(b"}\n");
}

fn optional_string(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => string(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

fn optional_signed(out: &mut Vec<u8>, number: Option<i64>) {
    match number {
        Some(number) => {
            if number < 0 {
                out.push(b'-');
            }
            unsigned(out, number.unsigned_abs());
        }
        None => out.extend_from_slice(b"null"),
    }
}

fn unsigned(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20]; // u64::MAX has twenty
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// A quoted JSON string. Escapes exactly what Java escapes, and everything beyond ASCII.
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(needs_escape) {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let mut chars = rest[at..].chars();
        if let Some(character) = chars.next() {
            escape(out, character);
        }
        rest = chars.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\' || byte >= 0x80
}

fn escape(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        '\r' => out.extend_from_slice(b"\\r"),
        other => {
            for unit in other.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(b"\\u");
                for shift in [12, 8, 4, 0] {
                    out.push(b"0123456789ABCDEF"[usize::from(*unit >> shift) & 0xF]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
