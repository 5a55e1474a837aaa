//! A GetRecords answer, read in one pass and in place, while it is received.
//!
//! What the child gets as it came is checked, not decoded: base64 to be base64, sequence numbers to be digits, text to
//! be UTF-8. So an answer that is no good is an error here and never a bad line to the child. Keys may come in any
//! order, unknown ones are skipped, those that matter may come once.

mod json;

use std::borrow::Cow;

use multilangd_protocol::{Payload, RecordLine, Text};

use self::json::Reader;
use super::Records;
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
/// is larger than that. Of a record nothing is kept but what the child will get.
#[derive(Debug, Default)]
pub struct Reading {
    /// A value that has not come to its end, and what came with it.
    begun: Vec<u8>,
    /// With less it is not tried to read on.
    enough: usize,
    received: usize,
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
        let found = Found {
            // A record grows, a small one by so much. What is not used stays as it is: blocks of one size fit into the
            // holes that others have left.
            records: Records::with_capacity(bytes + bytes / 4),
            ..Found::default()
        };
        Self {
            found,
            ..Self::default()
        }
    }

    /// The next part of the answer. An error in it is told at the end, or here if nothing more is to be kept.
    pub fn push(&mut self, mut part: &[u8]) -> Result<(), BadAnswer> {
        self.received += part.len();
        if self.received > ANSWER_BYTES_MAX {
            return Err(BadAnswer {
                what: "more than any answer has",
                at: ANSWER_BYTES_MAX,
            });
        }
        // Whether a value is cut off or wrong, the end will show.
        while !self.begun.is_empty() {
            let before = self.begun.len();
            let more = part.len().min(self.enough - before);
            self.begun.extend_from_slice(&part[..more]);
            if self.begun.len() < self.enough {
                return Ok(());
            }
            let mut begun = std::mem::take(&mut self.begun);
            let (read, _) = self.read_on(&begun);
            if read > before {
                // What was begun has ended; what is behind it stands in the part.
                part = &part[read - before..];
                begun.clear();
            } else {
                part = &part[more..];
                begun.drain(..read);
            }
            self.begun = begun;
            self.enough = 2 * self.begun.len();
        }
        let (read, _) = self.read_on(part);
        self.begun.extend_from_slice(&part[read..]);
        // A long value is not tried again with each of its parts.
        self.enough = 2 * self.begun.len();
        Ok(())
    }

    /// All of it has come.
    pub fn finish(mut self) -> Result<Batch, BadAnswer> {
        let begun = std::mem::take(&mut self.begun);
        let before = self.received - begun.len();
        let (read, result) = self.read_on(&begun);
        result
            .and_then(|()| Reader::new(&begun, read).end())
            .map_err(|bad| BadAnswer {
                at: before + bad.at,
                ..bad
            })?;
        let Found {
            seen: _,
            records,
            next_iterator,
            millis_behind_latest,
            child_shards,
        } = self.found;
        Ok(Batch {
            records,
            next_iterator,
            millis_behind_latest,
            child_shards,
        })
    }

    /// Steps as far as the text allows, and says how far that is. Every step ends with a mark behind its value, so that a
    /// part of a value is none; one that fails leaves nothing behind.
    fn read_on(&mut self, text: &[u8]) -> (usize, Result<(), BadAnswer>) {
        let mut at = 0;
        while self.place != Place::End {
            let mut reader = Reader::new(text, at);
            let seen = self.found.seen;
            match self.found.step(self.place, &mut reader) {
                Ok(place) => {
                    at = reader.at();
                    self.place = place;
                }
                Err(bad) => {
                    self.found.seen = seen;
                    return (at, Err(bad));
                }
            }
        }
        (at, Ok(()))
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
                let record = record(reader)?;
                let next = if reader.take(b']') {
                    Place::BehindRecords
                } else {
                    reader.expect(b',', "no comma between two values")?;
                    Place::Record
                };
                record.write(&mut self.records);
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

/// What an answer says of a record.
struct Record<'a> {
    sequence_number: &'a [u8],
    partition_key: Key<'a>,
    data: Data<'a>,
    approximate_arrival_ms: Option<i64>,
}

impl Record<'_> {
    #[inline(always)]
    fn write(&self, records: &mut Records) {
        let line = RecordLine {
            data: Payload::Base64(&self.data.text),
            partition_key: match &self.partition_key {
                Key::Plain(text) => Text::Plain(text),
                Key::Any(text) => Text::Any(text),
            },
            sequence_number: Text::Plain(self.sequence_number),
            sub_sequence_number: 0,
            approximate_arrival_ms: self.approximate_arrival_ms,
        };
        records.write(&line, self.data.bytes, self.data.is_suspect);
    }
}

/// A record, however it is written.
#[inline(always)]
fn record<'a>(reader: &mut Reader<'a>) -> Result<Record<'a>, BadAnswer> {
    match record_as_usual(reader) {
        Some(record) => Ok(record),
        None => record_of_any_form(reader),
    }
}

fn record_of_any_form<'a>(reader: &mut Reader<'a>) -> Result<Record<'a>, BadAnswer> {
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
                approximate_arrival_ms = reader.time()?;
            }
            b"Data" => {
                seen.once(reader, 2)?;
                data = payload(reader)?;
            }
            b"PartitionKey" => {
                seen.once(reader, 3)?;
                partition_key = text(reader)?;
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
    Ok(Record {
        sequence_number,
        partition_key: partition_key.unwrap_or(Key::Plain(b"")),
        data: data.unwrap_or_default(),
        approximate_arrival_ms,
    })
}

/// A record as the service writes it: its keys in their order, no white space, nothing escaped. That is found out by a few
/// comparisons. `None`, and nothing has happened: it is written otherwise, or bad.
#[inline(always)]
fn record_as_usual<'a>(reader: &mut Reader<'a>) -> Option<Record<'a>> {
    let mut ahead = *reader;
    ahead.literal(br#"{"ApproximateArrivalTimestamp":"#)?;
    let approximate_arrival_ms = ahead.time().ok()?;
    ahead.literal(br#","Data":"#)?;
    let data = Data::new(ahead.up_to_quote().ok()??.into())?;
    if ahead.literal(br#","PartitionKey":"#).is_none() {
        ahead.literal(br#","EncryptionType":"KMS","PartitionKey":"#)?;
    }
    let partition_key = ahead.string_in_place().ok().filter(|key| key.is_plain)?;
    ahead.literal(br#","SequenceNumber":"#)?;
    let sequence_number = digits(&mut ahead).ok()??;
    ahead.literal(b"}")?;
    *reader = ahead;
    Some(Record {
        sequence_number,
        partition_key: Key::Plain(partition_key.text),
        data,
        approximate_arrival_ms,
    })
}

/// A sequence number, or null.
#[inline(always)]
fn digits<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, BadAnswer> {
    let at = reader.at();
    if reader.null()? {
        return Ok(None);
    }
    reader.digits_in_quotes().map(Some).ok_or(BadAnswer {
        what: "no sequence number",
        at,
    })
}

/// A partition key.
enum Key<'a> {
    /// It is ASCII, and means itself in a JSON string.
    Plain(&'a [u8]),
    /// What it means.
    Any(String),
}

/// A partition key, or null.
fn text<'a>(reader: &mut Reader<'a>) -> Result<Option<Key<'a>>, BadAnswer> {
    let Some(quoted) = reader.quoted()? else {
        return Ok(None);
    };
    Ok(Some(if quoted.is_plain {
        Key::Plain(quoted.text)
    } else {
        Key::Any(quoted.unescaped()?)
    }))
}

/// A payload.
#[derive(Default)]
struct Data<'a> {
    /// Checked to be base64.
    text: Cow<'a, [u8]>,
    /// Decoded.
    bytes: u32,
    is_suspect: bool,
}

impl<'a> Data<'a> {
    /// `None`: this is no base64.
    #[inline(always)]
    fn new(text: Cow<'a, [u8]>) -> Option<Self> {
        base64_simd::STANDARD.check(&text).ok()?;
        let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
        Some(Self {
            bytes: (text.len() / 4 * 3 - padding) as u32,
            // The magic in base64. Its last two bits share the sixth character with four of what follows.
            is_suspect: matches!(*text, [b'8', b'4', b'm', b'a', b'w', b'g'..=b'v', ..]),
            text,
        })
    }
}

/// A payload, or null.
fn payload<'a>(reader: &mut Reader<'a>) -> Result<Option<Data<'a>>, BadAnswer> {
    let at = reader.at();
    // Base64 has no quotes and no escapes: what is there is checked at once. Only where that fails it is looked at as a
    // string, in which a slash may be written `\/`.
    let mut ahead = *reader;
    if let Some(data) = ahead.up_to_quote()?.and_then(|text| Data::new(text.into())) {
        *reader = ahead;
        return Ok(Some(data));
    }
    let Some(quoted) = reader.quoted()? else {
        return Ok(None);
    };
    let text = quoted.unescaped()?.into_bytes();
    Data::new(text.into()).map(Some).ok_or(BadAnswer {
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
