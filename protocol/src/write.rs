//! What the daemon says: one JSON object a line, ASCII only, the keys and their order as Java writes them
//! (`protocol.md 2` and `3`).
//!
//! Every function appends one whole line, `\n` included, to a buffer that the caller keeps and reuses.
//!
//! Compat: Java writes non-ASCII characters raw, in the encoding of its JVM (`?` under a C locale). Here they are
//! `\uXXXX`, which every JSON parser decodes alike and no locale of a child can spoil.
//!
//! Compat: the line ends with `\n` on every system; Java uses the system's own separator.

use std::borrow::Cow;

use crate::messages::CheckpointRequest;

/// A payload, as its owner has it. Equal is what decodes to the same bytes.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// The bytes themselves.
    Bytes(&'a [u8]),
    /// The line's own form: base64 of the standard alphabet, with padding. Whoever makes one has checked it.
    Base64(&'a [u8]),
}

impl<'a> Payload<'a> {
    /// The bytes.
    pub fn decoded(self) -> Cow<'a, [u8]> {
        match self {
            Self::Bytes(bytes) => bytes.into(),
            Self::Base64(text) => base64_simd::STANDARD
                .decode_to_vec(text)
                .unwrap_or_default() // was checked
                .into(),
        }
    }
}

impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.decoded() == other.decoded()
    }
}

impl Eq for Payload<'_> {}

/// One record of a `processRecords` message, borrowed from whoever owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLine<'a> {
    /// The payload.
    pub data: Payload<'a>,
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

/// The most that a record of these sizes takes in a line, but for escapes in its partition key.
pub fn record_bytes_max(
    data_bytes: usize,
    partition_key_bytes: usize,
    sequence_number_digits: usize,
) -> usize {
    /// The keys and punctuation of a record, with room for its numbers and a few escapes.
    const OVERHEAD_BYTES: usize = 192;
    data_bytes.div_ceil(3) * 4 + partition_key_bytes + sequence_number_digits + OVERHEAD_BYTES
}

/// `processRecords`: a batch, each payload copied or encoded straight into the buffer. `records_bytes_max` is the sum of
/// [`record_bytes_max`], so that the buffer grows at most once.
pub fn process_records<'a>(
    out: &mut Vec<u8>,
    records_bytes_max: usize,
    records: impl IntoIterator<Item = RecordLine<'a>>,
    millis_behind_latest: Option<i64>,
) {
    const FRAME_BYTES_MAX: usize = 128;
    out.reserve(records_bytes_max + FRAME_BYTES_MAX);

    out.extend_from_slice(br#"{"action":"processRecords","records":["#);
    let mut begin: &[u8] = br#"{"data":""#;
    for record in records {
        out.extend_from_slice(begin);
        begin = br#",{"data":""#;
        match record.data {
            Payload::Bytes(bytes) => base64_simd::STANDARD.encode_append(bytes, out),
            Payload::Base64(text) => out.extend_from_slice(text),
        }
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
    loop {
        let (plain, special) = rest.split_at(plain_bytes(rest.as_bytes()));
        out.extend_from_slice(plain.as_bytes());
        let mut chars = special.chars();
        let Some(character) = chars.next() else { break };
        escape(out, character);
        rest = chars.as_str();
    }
    out.push(b'"');
}

/// How many bytes, from the beginning, mean themselves inside a JSON string and are ASCII: up to the first quote,
/// backslash, control character or byte above 0x7F. Looks at eight bytes at a time.
pub fn plain_bytes(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // The high bit of a byte that is below `limit`. Above one such byte there may be false ones: the lowest counts.
        let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word;
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let special = (word | below(word, 0x20) | quote | backslash) & HIGH;
        if special != 0 {
            return index * 8 + (special.trailing_zeros() / 8) as usize;
        }
    }
    let is_special = |byte: &u8| !(0x20..0x80).contains(byte) || *byte == b'"' || *byte == b'\\';
    words.len() * 8 + rest.iter().position(is_special).unwrap_or(rest.len())
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
