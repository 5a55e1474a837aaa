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
use std::fmt;
use std::ops::Range;

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

/// A text, as its owner has it. Equal is what means the same.
#[derive(Clone, Copy, Debug)]
pub enum Text<'a> {
    /// Any.
    Any(&'a str),
    /// ASCII that means itself between two quotes. Whoever makes one has checked it ([`plain_bytes`]).
    Plain(&'a [u8]),
}

impl<'a> Text<'a> {
    /// As text.
    pub fn as_str(self) -> &'a str {
        match self {
            Self::Any(text) => text,
            Self::Plain(text) => std::str::from_utf8(text).unwrap_or_default(), // was checked
        }
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self::Any(text)
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text<'_> {}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

/// One record of a `processRecords` message, borrowed from whoever owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordLine<'a> {
    /// The payload.
    pub data: Payload<'a>,
    /// The partition key.
    pub partition_key: Text<'a>,
    /// The sequence number of the stream record that carried it.
    pub sequence_number: Text<'a>,
    /// Its place inside an aggregate; 0 where there is none.
    pub sub_sequence_number: u64,
    /// When the stream took it, in milliseconds since the epoch. Several clients crash on `None`.
    pub approximate_arrival_ms: Option<i64>,
}

/// Where in the buffer the parts of a record have been written, each without its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The payload as base64.
    pub data: Range<usize>,
    /// The partition key, with its escapes.
    pub partition_key: Range<usize>,
    /// The sequence number.
    pub sequence_number: Range<usize>,
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

/// `processRecords`: a batch, each payload copied or encoded straight into the buffer.
pub fn process_records<'a>(
    out: &mut Vec<u8>,
    records: impl IntoIterator<Item = RecordLine<'a>>,
    millis_behind_latest: Option<i64>,
) {
    process_records_begin(out);
    for (place, line) in records.into_iter().enumerate() {
        record(out, place == 0, &line);
    }
    process_records_end(out, millis_behind_latest);
}

/// What a `processRecords` line begins with. The others of its parts: [`record`], [`process_records_end`].
pub fn process_records_begin(out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"action":"processRecords","records":["#);
}

/// One record of a `processRecords` line, and where its parts are now; `is_first`: nothing stands before it.
pub fn record(out: &mut Vec<u8>, is_first: bool, record: &RecordLine<'_>) -> Places {
    if is_first {
        out.extend_from_slice(br#"{"data":""#);
    } else {
        out.extend_from_slice(br#",{"data":""#);
    }
    let data = part(out, |out| match record.data {
        Payload::Bytes(bytes) => base64_simd::STANDARD.encode_append(bytes, out),
        Payload::Base64(text) => out.extend_from_slice(text),
    });
    out.extend_from_slice(br#"","partitionKey":""#);
    let partition_key = part(out, |out| between_quotes(out, record.partition_key));
    out.extend_from_slice(br#"","sequenceNumber":""#);
    let sequence_number = part(out, |out| between_quotes(out, record.sequence_number));
    match record.approximate_arrival_ms {
        Some(ms @ 1_000_000_000_000..10_000_000_000_000) if record.sub_sequence_number == 0 => {
            out.extend_from_slice(&usual_record_end(ms.unsigned_abs()));
        }
        ms => {
            out.extend_from_slice(br#"","approximateArrivalTimestamp":"#);
            optional_signed(out, ms);
            out.extend_from_slice(br#","subSequenceNumber":"#);
            unsigned(out, record.sub_sequence_number);
            out.extend_from_slice(br#","action":"record"}"#);
        }
    }
    Places {
        data,
        partition_key,
        sequence_number,
    }
}

/// What stands behind the sequence number of a record that is in no aggregate, and came at a time of thirteen digits: all
/// at once.
#[inline(always)]
fn usual_record_end(arrival_ms: u64) -> [u8; 86] {
    const DIGITS_AT: usize = br#"","approximateArrivalTimestamp":"#.len();
    let mut end =
        *br#"","approximateArrivalTimestamp":TTTTTTTTTTTTT,"subSequenceNumber":0,"action":"record"}"#;
    end[DIGITS_AT..][..13].copy_from_slice(&sixteen_digits(arrival_ms)[3..]);
    end
}

/// Where it stands, what `write` has appended.
#[inline(always)]
fn part(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> Range<usize> {
    let start = out.len();
    write(out);
    start..out.len()
}

/// What a `processRecords` line ends with.
pub fn process_records_end(out: &mut Vec<u8>, millis_behind_latest: Option<i64>) {
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

fn unsigned(out: &mut Vec<u8>, number: u64) {
    const BEHIND: u64 = 10_u64.pow(16);
    if number < 10 {
        out.push(b'0' + number as u8);
    } else if number < BEHIND {
        let digits = sixteen_digits(number);
        let zeros = u128::from_le_bytes(digits) ^ u128::from_le_bytes([b'0'; 16]);
        out.extend_from_slice(&digits[(zeros.trailing_zeros() / 8) as usize..]);
    } else {
        unsigned(out, number / BEHIND);
        out.extend_from_slice(&sixteen_digits(number % BEHIND));
    }
}

/// A number below 10^16, with zeros before it.
#[inline(always)]
fn sixteen_digits(number: u64) -> [u8; 16] {
    let high = u128::from(eight_digits(number / 100_000_000));
    let low = u128::from(eight_digits(number % 100_000_000));
    (high | (low << 64)).to_le_bytes()
}

/// A number below 10^8, with zeros before it, its first digit in the lowest byte. Each step parts all numbers at once: the
/// whole into fours, fours into pairs, pairs into digits.
#[inline(always)]
fn eight_digits(number: u64) -> u64 {
    let parted =
        |quotients: u64, numbers: u64, by: u64, bits: u32| quotients | ((numbers - by * quotients) << bits);
    let fours = parted(number / 10_000, number, 10_000, 32);
    // n * 5243 >> 19 is n / 100 below 10,000; n * 103 >> 10 is n / 10 below 100.
    let pairs = parted(((fours * 5243) >> 19) & 0x0000_007F_0000_007F, fours, 100, 16);
    let digits = parted(((pairs * 103) >> 10) & 0x000F_000F_000F_000F, pairs, 10, 8);
    digits | u64::from_le_bytes([b'0'; 8])
}

/// A quoted JSON string.
fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    between_quotes(out, Text::Any(text));
    out.push(b'"');
}

/// What stands inside of a JSON string.
#[inline(always)]
fn between_quotes(out: &mut Vec<u8>, text: Text<'_>) {
    match text {
        Text::Plain(text) => out.extend_from_slice(text),
        Text::Any(text) => escaped(out, text),
    }
}

/// Escapes exactly what Java escapes, and everything beyond ASCII.
fn escaped(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    loop {
        let (plain, special) = rest.split_at(plain_bytes(rest.as_bytes()));
        out.extend_from_slice(plain.as_bytes());
        let mut chars = special.chars();
        let Some(character) = chars.next() else { break };
        escape(out, character);
        rest = chars.as_str();
    }
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
