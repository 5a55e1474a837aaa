//! The records, made once in both formats: an answer is a copy of them with new sequence numbers.

use bytes::Bytes;

/// In front of a record's number, so that both together are as long as a sequence number of the service.
const SEQUENCE_PREFIX: &str = "49650000000000000000000000000000000000";
/// Digits of a record's number within its shard.
const NUMBER_DIGITS: usize = 18;

/// What an answer is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// As the AWS SDK for Rust asks.
    Json,
    /// As the one for Java asks.
    Cbor,
}

/// The sequence number of a record, by its place in the shard.
pub fn sequence_number(number: u64) -> String {
    format!("{SEQUENCE_PREFIX}{number:0NUMBER_DIGITS$}")
}

/// The place in the shard that a sequence number anywhere in a request means.
pub fn number_in(text: &[u8]) -> Option<u64> {
    let at = find(text, SEQUENCE_PREFIX.as_bytes())? + SEQUENCE_PREFIX.len();
    digits(text.get(at..at + NUMBER_DIGITS)?)
}

/// The records of one answer, and its beginnings and ends.
pub struct Made {
    json: Encoded,
    cbor: Encoded,
}

/// Records one after the other in one format.
struct Encoded {
    bytes: Vec<u8>,
    /// Where each record's own number is.
    numbers: Vec<usize>,
    /// Where each record ends.
    ends: Vec<usize>,
}

impl Made {
    /// So many records of so many bytes each.
    pub fn new(records: usize, payload_bytes: usize) -> Self {
        let mut json = Encoded::new();
        let mut cbor = Encoded::new();
        let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
        for n in 0..records {
            let payload = noise.bytes(payload_bytes);
            let key = format!("key-{}", n % 1000);
            let ms = 1_795_529_441_000 + n as u64 % 1000;
            json.add_json(&payload, &key, ms);
            cbor.add_cbor(&payload, &key, ms);
        }
        Self { json, cbor }
    }

    /// What an answer has at most.
    pub fn records_max(&self) -> usize {
        self.json.ends.len()
    }

    /// An answer of GetRecords: `count` records from the number `first` on.
    pub fn answer(&self, format: Format, first: u64, count: usize, behind_ms: u64, next: &str) -> Bytes {
        match format {
            Format::Json => {
                let head =
                    format!(r#"{{"MillisBehindLatest":{behind_ms},"NextShardIterator":"{next}","Records":["#);
                self.json.answer(head.into_bytes(), first, count, b"]}")
            }
            Format::Cbor => {
                let mut head = vec![0xA3];
                cbor_text(&mut head, "MillisBehindLatest");
                cbor_head(&mut head, 0, behind_ms);
                cbor_text(&mut head, "NextShardIterator");
                cbor_text(&mut head, next);
                cbor_text(&mut head, "Records");
                cbor_head(&mut head, 4, count as u64);
                self.cbor.answer(head, first, count, b"")
            }
        }
    }
}

impl Encoded {
    fn new() -> Self {
        Self {
            bytes: Vec::new(),
            numbers: Vec::new(),
            ends: Vec::new(),
        }
    }

    // In the order, and with the times, that the service writes.
    fn add_json(&mut self, payload: &[u8], key: &str, ms: u64) {
        if !self.ends.is_empty() {
            self.bytes.push(b',');
        }
        let (data, (units, fraction)) = (
            base64_simd::STANDARD.encode_to_string(payload),
            (ms / 1_000_000_000_000, ms % 1_000_000_000_000),
        );
        let head = format!(
            r#"{{"ApproximateArrivalTimestamp":{units}.{fraction:012}E9,"Data":"{data}","PartitionKey":"{key}","SequenceNumber":""#
        );
        self.bytes.extend_from_slice(head.as_bytes());
        self.add_number();
        self.bytes.extend_from_slice(b"\"}");
        self.ends.push(self.bytes.len());
    }

    fn add_cbor(&mut self, payload: &[u8], key: &str, ms: u64) {
        let out = &mut self.bytes;
        out.push(0xA4);
        cbor_text(out, "ApproximateArrivalTimestamp");
        out.push(0xC1);
        cbor_head(out, 0, ms);
        cbor_text(out, "Data");
        cbor_head(out, 2, payload.len() as u64);
        out.extend_from_slice(payload);
        cbor_text(out, "PartitionKey");
        cbor_text(out, key);
        cbor_text(out, "SequenceNumber");
        cbor_head(out, 3, (SEQUENCE_PREFIX.len() + NUMBER_DIGITS) as u64);
        self.add_number();
        self.ends.push(self.bytes.len());
    }

    fn add_number(&mut self) {
        self.bytes.extend_from_slice(SEQUENCE_PREFIX.as_bytes());
        self.numbers.push(self.bytes.len());
        self.bytes.extend_from_slice(&[b'0'; NUMBER_DIGITS]);
    }

    fn answer(&self, head: Vec<u8>, first: u64, count: usize, tail: &[u8]) -> Bytes {
        let records = count.checked_sub(1).map_or(0, |last| self.ends[last]);
        let mut out = Vec::with_capacity(head.len() + records + tail.len());
        out.extend_from_slice(&head);
        out.extend_from_slice(&self.bytes[..records]);
        for (number, at) in (first..).zip(&self.numbers[..count]) {
            let at = head.len() + at;
            write_digits(&mut out[at..at + NUMBER_DIGITS], number);
        }
        out.extend_from_slice(tail);
        out.into()
    }
}

fn write_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        if number == 0 {
            break; // zeros are there already
        }
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

fn cbor_head(out: &mut Vec<u8>, major: u8, value: u64) {
    let major = major << 5;
    match value {
        0..=23 => out.push(major | value as u8),
        24..=0xFF => out.extend_from_slice(&[major | 24, value as u8]),
        0x100..=0xFFFF => {
            out.push(major | 25);
            out.extend_from_slice(&(value as u16).to_be_bytes());
        }
        0x1_0000..=0xFFFF_FFFF => {
            out.push(major | 26);
            out.extend_from_slice(&(value as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

fn cbor_text(out: &mut Vec<u8>, text: &str) {
    cbor_head(out, 3, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Where `wanted` begins in `text`.
pub fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// The number that decimal digits mean.
pub fn digits(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Payload that does not compress and is the same in every run (xorshift).
struct Noise(u64);

impl Noise {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(count + 8);
        while out.len() < count {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            out.extend_from_slice(&self.0.to_le_bytes());
        }
        out.truncate(count);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_its_records_in_both_formats() {
        let made = Made::new(3, 5);
        let json: serde_json::Value =
            serde_json::from_slice(&made.answer(Format::Json, 41, 2, 7, "next")).unwrap();
        let cbor: ciborium::Value =
            ciborium::from_reader(&*made.answer(Format::Cbor, 41, 2, 7, "next")).unwrap();
        assert_eq!(json["MillisBehindLatest"], 7);
        assert_eq!(json["NextShardIterator"], "next");
        assert_eq!(json["Records"].as_array().unwrap().len(), 2);
        assert_eq!(json["Records"][1]["SequenceNumber"], sequence_number(42));
        let cbor = format!("{cbor:?}");
        assert!(
            cbor.contains(&sequence_number(42)) && !cbor.contains(&sequence_number(43)),
            "{cbor}"
        );
        assert_eq!(number_in(sequence_number(42).as_bytes()), Some(42));
    }

    #[test]
    fn an_answer_may_be_empty() {
        let json = Made::new(3, 5).answer(Format::Json, 9, 0, 0, "next");
        assert_eq!(
            &json[..],
            br#"{"MillisBehindLatest":0,"NextShardIterator":"next","Records":[]}"#
        );
    }
}
