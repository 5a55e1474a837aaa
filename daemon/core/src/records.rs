//! Records on their way from the stream to the child, packed: the child's line, and where in it each part of a record
//! lies.
//!
//! A record costs an entry of a list and no allocation. Its payload stays base64, as the service sends it and the child
//! gets it: what an answer brings is written into the line at once, and copied no more. What must be decoded to be looked
//! into, or came decoded, stands behind the line, and makes a line anew.

pub mod answer;
mod line;

use std::fmt;
use std::ops::Range;

use multilangd_protocol::write::{plain_bytes, process_records_begin, record};
use multilangd_protocol::{Payload, RecordLine, Text};

pub use self::line::{BatchLine, LinePieces};

use crate::ids::{Position, SequenceNumber};
use crate::stream::StreamRecord;

/// Records in the order of the shard.
#[derive(Clone, Default)]
pub struct Records {
    /// What came in an answer, as the child gets it: the line but for its end.
    written: Vec<u8>,
    /// The entries are what is written, from the first to the last.
    is_written: bool,
    /// What is not written as it must be looked at: its places count from [`DECODED`] on.
    decoded: Vec<u8>,
    entries: Vec<Entry>,
    /// Of all payloads, decoded.
    data_bytes: usize,
    suspects: usize,
}

/// Where [`Records::decoded`] begins: far behind what the longest answer, [`answer::ANSWER_BYTES_MAX`], makes a line of.
const DECODED: usize = 1 << 31;

/// Where a part of a record lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, bytes: usize) -> Self {
        let place = |place: usize| u32::try_from(place).expect("a batch takes far less than 4 GiB");
        Self {
            start: place(start),
            end: place(start + bytes),
        }
    }

    pub(crate) fn bytes(self) -> u32 {
        self.end - self.start
    }
}

impl From<Range<usize>> for Span {
    fn from(place: Range<usize>) -> Self {
        Self::new(place.start, place.len())
    }
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Checked to be digits.
    pub(crate) sequence_number: Span,
    pub(crate) sub_sequence_number: u32,
    /// Checked to be UTF-8.
    pub(crate) partition_key: Span,
    /// It is ASCII, and means itself in a JSON string.
    pub(crate) is_partition_key_plain: bool,
    pub(crate) data: Span,
    pub(crate) form: Form,
    /// Of the payload, decoded.
    pub(crate) data_bytes: u32,
    pub(crate) approximate_arrival_ms: Option<i64>,
    /// It begins as KPL aggregates do.
    pub(crate) is_suspect: bool,
}

/// How a payload lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Bytes,
    /// Checked to be base64.
    Base64,
}

impl Records {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of all payloads together.
    pub fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    /// The bytes of each payload.
    pub fn data_sizes(&self) -> impl Iterator<Item = u32> {
        self.entries.iter().map(|entry| entry.data_bytes)
    }

    /// Each of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordLine<'_>> + Clone {
        self.entries.iter().map(|entry| self.line(entry))
    }

    /// Where the child stands when it has processed them all.
    pub fn last_position(&self) -> Option<Position> {
        self.position(self.len().checked_sub(1)?)
    }

    /// The last sequence number.
    pub fn last_sequence_number(&self) -> Option<SequenceNumber> {
        SequenceNumber::parse(self.text(self.entries.last()?.sequence_number))
    }

    /// Where the child stands when it has processed the one of this index.
    pub fn position(&self, index: usize) -> Option<Position> {
        let entry = self.entries.get(index)?;
        let number = SequenceNumber::parse(self.text(entry.sequence_number))?;
        Some(Position::At(number, entry.sub_sequence_number.into()))
    }

    /// Takes out those at the beginning where the child has been already.
    pub fn drop_first_while(&mut self, is_done: impl Fn(&Position) -> bool) {
        let done = (0..self.len()).take_while(|index| self.position(*index).as_ref().is_some_and(&is_done));
        for entry in self.entries.drain(..done.count()) {
            self.data_bytes -= entry.data_bytes as usize;
            self.suspects -= usize::from(entry.is_suspect);
            self.is_written = false;
        }
    }

    /// None yet, and room for those that take so many bytes when they are [written](Self::write).
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self {
            written: Vec::with_capacity(bytes),
            ..Self::default()
        }
    }

    /// Adds a record of an answer, and writes it as the child gets it. `data_bytes`: of its payload, decoded.
    pub(crate) fn write(&mut self, line: &RecordLine<'_>, data_bytes: u32, is_suspect: bool) {
        let is_first = self.written.is_empty();
        if is_first {
            process_records_begin(&mut self.written);
            self.is_written = self.entries.is_empty();
        }
        let places = record(&mut self.written, is_first, line);
        let (partition_key, is_partition_key_plain) = match line.partition_key {
            Text::Plain(_) => (places.partition_key.into(), true),
            Text::Any(text) => (self.keep(text.as_bytes()), false),
        };
        self.add(Entry {
            sequence_number: places.sequence_number.into(),
            sub_sequence_number: 0,
            partition_key,
            is_partition_key_plain,
            data: places.data.into(),
            form: Form::Base64,
            data_bytes,
            approximate_arrival_ms: line.approximate_arrival_ms,
            is_suspect,
        });
    }

    /// Adds a copy of a record.
    pub fn push(&mut self, record: &StreamRecord) {
        self.is_written = false;
        let data = self.keep(&record.data);
        let entry = Entry {
            sequence_number: self.keep(record.sequence_number.as_str().as_bytes()),
            sub_sequence_number: 0,
            partition_key: self.keep(record.partition_key.as_bytes()),
            is_partition_key_plain: is_plain(&record.partition_key),
            data,
            form: Form::Bytes,
            data_bytes: data.bytes(),
            approximate_arrival_ms: record.approximate_arrival_ms,
            is_suspect: record.data.starts_with(&AGGREGATE_MAGIC),
        };
        self.add(entry);
    }

    /// The line but for its end, if it is these records. Otherwise themselves.
    pub(crate) fn into_written(self) -> Result<Vec<u8>, Self> {
        if self.is_written {
            Ok(self.written)
        } else {
            Err(self)
        }
    }

    /// Whether one of them has to be looked into.
    pub(crate) fn has_suspects(&self) -> bool {
        self.suspects > 0
    }

    /// Takes the entries out, to be put back with [`Self::add`]. What they point to stays.
    pub(crate) fn take_entries(&mut self) -> Vec<Entry> {
        self.is_written = false;
        self.data_bytes = 0;
        self.suspects = 0;
        std::mem::take(&mut self.entries)
    }

    pub(crate) fn add(&mut self, entry: Entry) {
        self.data_bytes += entry.data_bytes as usize;
        self.suspects += usize::from(entry.is_suspect);
        self.entries.push(entry);
    }

    /// Where the next bytes that are [kept](Self::keep) will lie.
    pub(crate) fn end(&self) -> usize {
        DECODED + self.decoded.len()
    }

    /// Puts bytes behind everything else.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> Span {
        let span = Span::new(self.end(), bytes.len());
        self.decoded.extend_from_slice(bytes);
        span
    }

    pub(crate) fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.bytes(span)).unwrap_or_default() // was checked
    }

    pub(crate) fn payload(&self, entry: &Entry) -> Payload<'_> {
        let data = self.bytes(entry.data);
        match entry.form {
            Form::Bytes => Payload::Bytes(data),
            Form::Base64 => Payload::Base64(data),
        }
    }

    fn line(&self, entry: &Entry) -> RecordLine<'_> {
        RecordLine {
            data: self.payload(entry),
            partition_key: if entry.is_partition_key_plain {
                Text::Plain(self.bytes(entry.partition_key))
            } else {
                Text::Any(self.text(entry.partition_key))
            },
            sequence_number: Text::Plain(self.bytes(entry.sequence_number)),
            sub_sequence_number: entry.sub_sequence_number.into(),
            approximate_arrival_ms: entry.approximate_arrival_ms,
        }
    }

    fn bytes(&self, span: Span) -> &[u8] {
        let (start, end) = (span.start as usize, span.end as usize);
        match start.checked_sub(DECODED) {
            None => &self.written[start..end],
            Some(start) => &self.decoded[start..end - DECODED],
        }
    }
}

/// Whether a text means itself in a JSON string.
pub(crate) fn is_plain(text: &str) -> bool {
    plain_bytes(text.as_bytes()) == text.len()
}

/// What the payload of a KPL aggregate begins with.
pub(crate) const AGGREGATE_MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];

impl FromIterator<StreamRecord> for Records {
    fn from_iter<I: IntoIterator<Item = StreamRecord>>(records: I) -> Self {
        let mut packed = Self::default();
        for record in records {
            packed.push(&record);
        }
        packed
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Equal are the same records, however they are packed.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Records {}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(number: &str, data: &'static [u8]) -> StreamRecord {
        StreamRecord {
            sequence_number: SequenceNumber::parse(number).unwrap(),
            partition_key: format!("key of {number}"),
            data: Bytes::from_static(data),
            approximate_arrival_ms: Some(5),
        }
    }

    #[test]
    fn what_is_packed_can_be_seen_and_counted() {
        let mut records: Records = [record("1", b"a"), record("2", b""), record("3", b"xyz")]
            .into_iter()
            .collect();
        assert_eq!(records.data_bytes(), 4);
        assert_eq!(records.data_sizes().collect::<Vec<_>>(), [1, 0, 3]);
        let last = records.iter().last().unwrap();
        assert_eq!(last.data, Payload::Bytes(b"xyz"));
        assert_eq!(last.partition_key.as_str(), "key of 3");
        assert_eq!(last.sequence_number.as_str(), "3");
        assert_eq!(
            records.last_position(),
            Some(Position::At(SequenceNumber::parse("3").unwrap(), 0))
        );

        let three = records.last_position().unwrap();
        records.drop_first_while(|position| *position < three);
        assert_eq!((records.len(), records.data_bytes()), (1, 3));
        assert_eq!(records, [record("3", b"xyz")].into_iter().collect());
        records.drop_first_while(|_| true);
        assert_eq!((records.data_bytes(), records.last_position()), (0, None));
    }
}
