//! A GetRecords answer, read in one pass and in place, while it is received.
//!
//! What the child gets as it came is checked, not decoded: base64 to be base64, sequence numbers to be digits, text to
//! be UTF-8. So an answer that is no good is an error here and never a bad line to the child. Keys may come in any
//! order, unknown ones are skipped, those that matter may come once.

mod json;

use self::json::Reader;
use super::{Entry, Form, Records, Span};
use crate::ids::{HashRange, ShardId};
use crate::stream::{Batch, ChildShard, ShardIterator};

/// A longer answer is refused. The service's longest have 10 MB of payload, which is 13.4 MB as base64, and 10,000
/// records with up to 1 KB around it.
pub const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Why an answer is no good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at} of the answer")]
pub struct BadAnswer {
    what: &'static str,
    at: usize,
}

/// Reads an answer that has come in one piece.
#[cfg(test)]
pub(crate) fn read(text: &[u8]) -> Result<Batch, BadAnswer> {
    let mut reading = Reading::with_capacity(text.len());
    reading.push(text)?;
    reading.finish()
}

/// An answer that is being received. What has come is read at once, while it is in the processor's cache: a full answer
/// is larger than that.
#[derive(Debug, Default)]
pub struct Reading {
    text: Vec<u8>,
    /// Up to where it has been read.
    at: usize,
    /// With less it is not tried to read on.
    enough: usize,
    place: Place,
    found: Found,
}

/// Between two steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Start,
    FirstKey,
    Key,
    FirstRecord,
    Record,
    BehindRecords,
    End,
}

/// What the steps so far have found.
#[derive(Debug, Default)]
struct Found {
    seen: Seen,
    records: Records,
    next_iterator: Option<ShardIterator>,
    millis_behind_latest: Option<i64>,
    child_shards: Vec<ChildShard>,
}

impl Reading {
    /// `bytes`: how long the answer is expected to be.
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            text: Vec::with_capacity(bytes),
            ..Self::default()
        }
    }

    /// The next part of the answer. An error in it is told at the end, or here if nothing more is to be kept.
    pub fn push(&mut self, part: &[u8]) -> Result<(), BadAnswer> {
        if self.text.len() + part.len() > ANSWER_BYTES_MAX {
            return Err(BadAnswer {
                what: "more than any answer has",
                at: ANSWER_BYTES_MAX,
            });
        }
        self.text.extend_from_slice(part);
        // Whether it is cut off or wrong, the end will show. A long value is not begun again with each of its parts.
        if self.text.len() >= self.enough && self.read_on().is_err() {
            let begun = self.text.len() - self.at;
            self.enough = self.text.len() + begun;
        }
        Ok(())
    }

    /// All of it has come.
    pub fn finish(mut self) -> Result<Batch, BadAnswer> {
        self.read_on()?;
        let mut reader = Reader::new(&self.text, self.at);
        reader.end()?;
        let Found {
            seen: _,
            mut records,
            next_iterator,
            millis_behind_latest,
            child_shards,
        } = self.found;
        records.answer = self.text.into();
        Ok(Batch {
            records,
            next_iterator,
            millis_behind_latest,
            child_shards,
        })
    }

    /// Steps as far as the text allows. Every step ends with a mark behind its value, so that a part of a value is none;
    /// one that fails leaves nothing behind.
    fn read_on(&mut self) -> Result<(), BadAnswer> {
        while self.place != Place::End {
            let mut reader = Reader::new(&self.text, self.at);
            let (seen, kept) = (self.found.seen, self.found.records.decoded.len());
            match self.found.step(self.place, &mut reader) {
                Ok(place) => {
                    self.at = reader.at();
                    self.place = place;
                }
                Err(bad) => {
                    self.found.seen = seen;
                    self.found.records.decoded.truncate(kept);
                    return Err(bad);
                }
            }
        }
        Ok(())
    }
}

impl Found {
    fn step(&mut self, place: Place, reader: &mut Reader<'_>) -> Result<Place, BadAnswer> {
        match place {
            Place::Start => {
                reader.expect(b'{', "no object")?;
                Ok(Place::FirstKey)
            }
            Place::FirstKey if reader.take(b'}') => Ok(Place::End),
            Place::FirstKey | Place::Key => self.value(reader),
            Place::FirstRecord if reader.take(b']') => Ok(Place::BehindRecords),
            Place::FirstRecord | Place::Record => {
                let entry = record(reader, &mut self.records)?;
                let next = if reader.take(b']') {
                    Place::BehindRecords
                } else {
                    reader.expect(b',', "no comma between two values")?;
                    Place::Record
                };
                self.records.add(entry);
                Ok(next)
            }
            Place::BehindRecords => behind_value(reader),
            Place::End => Ok(Place::End),
        }
    }

    /// A key of the answer, and its value.
    fn value(&mut self, reader: &mut Reader<'_>) -> Result<Place, BadAnswer> {
        match reader.key()? {
            b"Records" => {
                self.seen.once(reader, 0)?;
                if !reader.null()? {
                    reader.expect(b'[', "no array")?;
                    return Ok(Place::FirstRecord);
                }
            }
            b"NextShardIterator" => {
                self.seen.once(reader, 1)?;
                self.next_iterator = reader.string()?.map(ShardIterator);
            }
            b"MillisBehindLatest" => {
                self.seen.once(reader, 2)?;
                self.millis_behind_latest = reader.scaled(0)?;
            }
            b"ChildShards" => {
                self.seen.once(reader, 3)?;
                self.child_shards.clear();
                reader.list(|reader| {
                    self.child_shards.push(child_shard(reader)?);
                    Ok(())
                })?;
            }
            _ => reader.skip(0)?,
        }
        behind_value(reader)
    }
}

fn behind_value(reader: &mut Reader<'_>) -> Result<Place, BadAnswer> {
    if reader.take(b'}') {
        return Ok(Place::End);
    }
    reader.expect(b',', "no comma between two keys")?;
    Ok(Place::Key)
}

/// A record, however it is written.
fn record(reader: &mut Reader<'_>, records: &mut Records) -> Result<Entry, BadAnswer> {
    if let Some(entry) = record_as_usual(reader) {
        return Ok(entry);
    }
    let began = reader.at();
    let mut sequence_number = None;
    let mut partition_key = None;
    let mut data = None;
    let mut approximate_arrival_ms = None;
    let mut seen = Seen::default();
    reader.object(|reader, key| {
        match key {
            b"SequenceNumber" => {
                seen.once(reader, 0)?;
                sequence_number = digits(reader)?;
            }
            b"ApproximateArrivalTimestamp" => {
                seen.once(reader, 1)?;
                // In seconds.
                approximate_arrival_ms = reader.scaled(3)?;
            }
            b"Data" => {
                seen.once(reader, 2)?;
                data = payload(reader, records)?;
            }
            b"PartitionKey" => {
                seen.once(reader, 3)?;
                partition_key = text(reader, records)?;
            }
            _ => reader.skip(0)?,
        }
        Ok(())
    })?;
    let Some(sequence_number) = sequence_number else {
        return Err(BadAnswer {
            what: "a record without sequence number",
            at: began,
        });
    };
    Ok(entry(
        sequence_number,
        partition_key.unwrap_or_default(),
        data.unwrap_or_default(),
        approximate_arrival_ms,
    ))
}

/// A record as the service writes it: its keys in their order, no white space, nothing escaped. That is found out by a few
/// comparisons. `None`, and nothing has happened: it is written otherwise, or bad.
fn record_as_usual(reader: &mut Reader<'_>) -> Option<Entry> {
    let mut ahead = *reader;
    ahead.literal(br#"{"ApproximateArrivalTimestamp":"#)?;
    let approximate_arrival_ms = ahead.scaled(3).ok()?;
    ahead.literal(br#","Data":"#)?;
    let data = ahead.up_to_quote(|start, text| Data::new(Span::new(start, text.len()), text))?;
    if ahead.literal(br#","PartitionKey":"#).is_none() {
        ahead.literal(br#","EncryptionType":"KMS","PartitionKey":"#)?;
    }
    let partition_key = ahead.string_in_place().ok().filter(|key| key.is_plain)?;
    ahead.literal(br#","SequenceNumber":"#)?;
    let sequence_number = digits(&mut ahead).ok()??;
    ahead.literal(b"}")?;
    *reader = ahead;
    let partition_key = Key {
        span: partition_key.span(),
        is_plain: true,
    };
    Some(entry(
        sequence_number,
        partition_key,
        data,
        approximate_arrival_ms,
    ))
}

fn entry(
    sequence_number: Span,
    partition_key: Key,
    data: Data,
    approximate_arrival_ms: Option<i64>,
) -> Entry {
    Entry {
        sequence_number,
        sub_sequence_number: 0,
        partition_key: partition_key.span,
        is_partition_key_plain: partition_key.is_plain,
        data: data.span,
        form: Form::Base64,
        data_bytes: data.bytes,
        approximate_arrival_ms,
        is_suspect: data.is_suspect,
    }
}

/// A sequence number, or null. Nobody escapes digits.
fn digits(reader: &mut Reader<'_>) -> Result<Option<Span>, BadAnswer> {
    let at = reader.at();
    if reader.null()? {
        return Ok(None);
    }
    let digits = |start, text: &[u8]| {
        let are_digits = !text.is_empty() && json::are_digits(text);
        are_digits.then(|| Span::new(start, text.len()))
    };
    let digits = reader.up_to_quote(digits).ok_or(BadAnswer {
        what: "no sequence number",
        at,
    });
    digits.map(Some)
}

/// A text as it lies in the answer, or was put behind it.
#[derive(Clone, Copy, Default)]
struct Key {
    span: Span,
    /// It is ASCII, and means itself in a JSON string.
    is_plain: bool,
}

/// A string that stays where it is if it can, or null.
fn text(reader: &mut Reader<'_>, records: &mut Records) -> Result<Option<Key>, BadAnswer> {
    let Some(quoted) = reader.quoted()? else {
        return Ok(None);
    };
    let span = if quoted.is_plain {
        quoted.span()
    } else {
        records.keep(quoted.unescaped()?.as_bytes())
    };
    Ok(Some(Key {
        span,
        is_plain: quoted.is_plain,
    }))
}

/// A payload as it lies in the answer.
#[derive(Clone, Copy, Default)]
struct Data {
    span: Span,
    bytes: u32,
    is_suspect: bool,
}

impl Data {
    /// `None`: this is no base64.
    fn new(span: Span, text: &[u8]) -> Option<Self> {
        base64_simd::STANDARD.check(text).ok()?;
        let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
        Some(Self {
            span,
            bytes: (text.len() / 4 * 3 - padding) as u32,
            // The magic in base64. Its last two bits share the sixth character with four of what follows.
            is_suspect: matches!(text, [b'8', b'4', b'm', b'a', b'w', b'g'..=b'v', ..]),
        })
    }
}

/// A payload, or null.
fn payload(reader: &mut Reader<'_>, records: &mut Records) -> Result<Option<Data>, BadAnswer> {
    let at = reader.at();
    // Base64 has no quotes and no escapes: what is there is checked at once. Only where that fails it is looked at as a
    // string, in which a slash may be written `\/`.
    let data = reader.up_to_quote(|start, text| Data::new(Span::new(start, text.len()), text));
    if data.is_some() {
        return Ok(data);
    }
    let Some(quoted) = reader.quoted()? else {
        return Ok(None);
    };
    let text = quoted.unescaped()?;
    let data = Data::new(records.keep(text.as_bytes()), text.as_bytes());
    data.map(Some).ok_or(BadAnswer {
        what: "a payload that is no base64",
        at,
    })
}

fn child_shard(reader: &mut Reader<'_>) -> Result<ChildShard, BadAnswer> {
    let began = reader.at();
    let mut id = None;
    let mut parents = Vec::new();
    let mut range = None;
    let mut seen = Seen::default();
    reader.object(|reader, key| {
        match key {
            b"ShardId" => {
                seen.once(reader, 0)?;
                id = reader.string()?;
            }
            b"ParentShards" => {
                seen.once(reader, 1)?;
                reader.list(|reader| {
                    parents.extend(reader.string()?.map(ShardId::from));
                    Ok(())
                })?;
            }
            b"HashKeyRange" => {
                seen.once(reader, 2)?;
                range = Some(hash_range(reader)?);
            }
            _ => reader.skip(0)?,
        }
        Ok(())
    })?;
    match (id, range) {
        (Some(id), Some(hash_range)) => Ok(ChildShard {
            id: id.into(),
            parents,
            hash_range,
        }),
        (None, _) | (_, None) => Err(BadAnswer {
            what: "a child shard without id or hash key range",
            at: began,
        }),
    }
}

fn hash_range(reader: &mut Reader<'_>) -> Result<HashRange, BadAnswer> {
    let began = reader.at();
    let (mut start, mut end) = (None, None);
    let mut seen = Seen::default();
    reader.object(|reader, key| {
        let bound = match key {
            b"StartingHashKey" => {
                seen.once(reader, 0)?;
                &mut start
            }
            b"EndingHashKey" => {
                seen.once(reader, 1)?;
                &mut end
            }
            _ => return reader.skip(0),
        };
        *bound = reader.string()?.and_then(|text| text.parse().ok());
        Ok(())
    })?;
    match (start, end) {
        (Some(start), Some(end)) => Ok(HashRange { start, end }),
        (None, _) | (_, None) => Err(BadAnswer {
            what: "a hash key range without two numbers below 2^128",
            at: began,
        }),
    }
}

/// Which keys of an object have come already.
#[derive(Clone, Copy, Debug, Default)]
struct Seen(u8);

impl Seen {
    fn once(&mut self, reader: &Reader<'_>, key: u8) -> Result<(), BadAnswer> {
        if self.0 & 1 << key != 0 {
            return reader.bad("a key for the second time");
        }
        self.0 |= 1 << key;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
