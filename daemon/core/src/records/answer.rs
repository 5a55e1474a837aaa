//! A GetRecords answer, read in one pass and in place.
//!
//! What the child gets as it came is checked, not decoded: base64 to be base64, sequence numbers to be digits, text to
//! be UTF-8. So an answer that is no good is an error here and never a bad line to the child. Keys may come in any
//! order, unknown ones are skipped, those that matter may come once.

mod json;

use bytes::Bytes;

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

/// Reads the body of a GetRecords answer.
pub fn batch(answer: Bytes) -> Result<Batch, BadAnswer> {
    if answer.len() > ANSWER_BYTES_MAX {
        return Err(BadAnswer {
            what: "more than any answer has",
            at: ANSWER_BYTES_MAX,
        });
    }
    let text = answer.clone();
    let mut reader = Reader::new(&text);
    let mut batch = Batch {
        records: Records {
            answer,
            ..Records::default()
        },
        next_iterator: None,
        millis_behind_latest: None,
        child_shards: Vec::new(),
    };
    let mut seen = Seen::default();
    reader.object(|reader, key| {
        match key {
            b"Records" => {
                seen.once(reader, 0)?;
                reader.list(|reader| record(reader, &mut batch.records))?;
            }
            b"NextShardIterator" => {
                seen.once(reader, 1)?;
                batch.next_iterator = reader.string()?.map(ShardIterator);
            }
            b"MillisBehindLatest" => {
                seen.once(reader, 2)?;
                batch.millis_behind_latest = reader.scaled(0)?;
            }
            b"ChildShards" => {
                seen.once(reader, 3)?;
                reader.list(|reader| {
                    batch.child_shards.push(child_shard(reader)?);
                    Ok(())
                })?;
            }
            _ => reader.skip(0)?,
        }
        Ok(())
    })?;
    reader.end()?;
    Ok(batch)
}

fn record(reader: &mut Reader<'_>, records: &mut Records) -> Result<(), BadAnswer> {
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
    let data = data.unwrap_or_default();
    records.add(Entry {
        sequence_number,
        sub_sequence_number: 0,
        partition_key: partition_key.unwrap_or_default(),
        data: data.span,
        form: Form::Base64,
        data_bytes: data.bytes,
        approximate_arrival_ms,
        is_suspect: data.is_suspect,
    });
    Ok(())
}

/// A sequence number, or null. Nobody escapes digits.
fn digits(reader: &mut Reader<'_>) -> Result<Option<Span>, BadAnswer> {
    let at = reader.at();
    let Some(quoted) = reader.quoted()? else {
        return Ok(None);
    };
    // All of them, as a machine does it: without a decision after each.
    let are_digits = quoted
        .text
        .iter()
        .fold(true, |all, byte| all & byte.is_ascii_digit());
    if quoted.text.is_empty() || !are_digits {
        return Err(BadAnswer {
            what: "no sequence number",
            at,
        });
    }
    Ok(Some(Span::new(quoted.start, quoted.text.len())))
}

/// A string that stays where it is if it can, or null.
fn text(reader: &mut Reader<'_>, records: &mut Records) -> Result<Option<Span>, BadAnswer> {
    let Some(quoted) = reader.quoted()? else {
        return Ok(None);
    };
    Ok(Some(if quoted.is_plain {
        Span::new(quoted.start, quoted.text.len())
    } else {
        records.keep(quoted.unescaped()?.as_bytes())
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
#[derive(Default)]
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
