//! Which user records are inside a record of the stream: KPL aggregates are opened (`consuming.md 4`).
//!
//! Owns the decision what is an aggregate and which of its records belong to the shard. Costs nothing where nothing
//! begins like an aggregate; what is inside one stays where it is in its carrier's payload. Java's class is
//! `AggregatorUtil`.

mod wire;

use std::borrow::Cow;

use md5::{Digest as _, Md5};

use crate::ids::HashRange;
use crate::records::{AGGREGATE_MAGIC, Entry, Form, Records, Span, is_plain};

/// An aggregate ends with the MD5 of what is between.
const DIGEST_BYTES: usize = 16;

/// What became of one record of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deaggregated {
    /// It was no aggregate, and was delivered as it came.
    Plain,
    /// It was an aggregate; so many user records were delivered. May be 0.
    Opened(usize),
    /// It was an aggregate, and none of its records was delivered, because at least one belongs to another shard: after
    /// a reshard the KPL sends the whole aggregate again.
    Misplaced,
    /// It was an aggregate with an error in it, and was delivered as it came. Worth a warning.
    Broken(Flaw),
}

/// What is wrong with an aggregate whose checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The index points behind the table.
    #[error("user record {0} of the aggregate names partition key {1}, which the aggregate does not have")]
    NoPartitionKey(usize, u32),
    /// The index points behind the table.
    #[error(
        "user record {0} of the aggregate names explicit hash key {1}, which the aggregate does not have"
    )]
    NoExplicitHashKey(usize, u32),
    /// Not a decimal number below 2^128.
    #[error("user record {0} of the aggregate has an explicit hash key that is no number below 2^128")]
    BadExplicitHashKey(usize),
}

/// Opens the aggregates among `records`: their user records take their place. `range` is what the shard covers; `None`:
/// unknown, take all. `tell` hears what became of each record that could be an aggregate, and its sequence number.
pub fn deaggregate(
    records: &mut Records,
    range: Option<HashRange>,
    mut tell: impl FnMut(Deaggregated, &str),
) {
    if !records.has_suspects() {
        return;
    }
    let mut opened = Vec::new();
    for entry in records.take_entries() {
        if !entry.is_suspect {
            records.add(entry);
            continue;
        }
        let data = records.payload(&entry).decoded().into_owned();
        opened.clear();
        let became = match open(
            records.end(),
            &entry,
            &data,
            range.unwrap_or(HashRange::ALL),
            &mut opened,
        ) {
            Ok(None) => {
                records.add(plain(entry));
                Deaggregated::Plain
            }
            Ok(Some(Opened::Misplaced)) => Deaggregated::Misplaced,
            Ok(Some(Opened::Inside { texts })) => {
                records.keep(&data);
                records.keep(texts.as_bytes());
                opened.iter().for_each(|user| records.add(*user));
                Deaggregated::Opened(opened.len())
            }
            Err(flaw) => {
                // Compat: Java 8 keeps what came before the flaw and loses the rest; Java 11 and later stop the worker,
                // again after every restart. We deliver the carrier, as for anything else that is no good aggregate.
                records.add(plain(entry));
                Deaggregated::Broken(flaw)
            }
        };
        tell(became, records.text(entry.sequence_number));
    }
}

/// A carrier that is delivered as it came, and has been looked into.
fn plain(carrier: Entry) -> Entry {
    Entry {
        is_suspect: false,
        ..carrier
    }
}

/// The bytes between magic and digest, if the digest is right.
fn message(data: &[u8]) -> Option<&[u8]> {
    let (message, digest) = data
        .strip_prefix(&AGGREGATE_MAGIC)?
        .split_last_chunk::<DIGEST_BYTES>()?;
    let is_aggregate = !message.is_empty() && Md5::digest(message).as_slice() == digest;
    is_aggregate.then_some(message)
}

enum Opened {
    /// One of the user records is outside the range.
    Misplaced,
    /// None is. Partition keys that were no text stand behind the data, as text.
    Inside { texts: String },
}

/// Appends the user records of a carrier to `opened`, as if its `data` lay at `base`. `None`: it is no aggregate.
fn open(
    base: usize,
    carrier: &Entry,
    data: &[u8],
    range: HashRange,
    opened: &mut Vec<Entry>,
) -> Result<Option<Opened>, Flaw> {
    let Some(aggregate) = message(data).and_then(|message| wire::aggregate(message).ok()) else {
        return Ok(None);
    };
    let part = |part: &[u8]| Span::new(base + (part.as_ptr().addr() - data.as_ptr().addr()), part.len());
    let mut texts = String::new();
    let partition_keys: Vec<(Cow<'_, str>, Span)> = aggregate
        .partition_keys
        .iter()
        .map(|bytes| match java_text(bytes) {
            Cow::Borrowed(text) => (Cow::Borrowed(text), part(bytes)),
            Cow::Owned(text) => {
                let span = Span::new(base + data.len() + texts.len(), text.len());
                texts.push_str(&text);
                (Cow::Owned(text), span)
            }
        })
        .collect();
    for (place, user) in aggregate.records.iter().enumerate() {
        let (text, partition_key) =
            at(&partition_keys, user.partition_key).ok_or(Flaw::NoPartitionKey(place, user.partition_key))?;
        let explicit_hash_key = match user.explicit_hash_key {
            None => None,
            Some(index) => {
                let text =
                    at(&aggregate.explicit_hash_keys, index).ok_or(Flaw::NoExplicitHashKey(place, index))?;
                Some(number(text).ok_or(Flaw::BadExplicitHashKey(place))?)
            }
        };
        // The whole space needs no hashing.
        let is_inside =
            range == HashRange::ALL || range.contains(explicit_hash_key.unwrap_or_else(|| hash_key(text)));
        if !is_inside {
            return Ok(Some(Opened::Misplaced));
        }
        let data = part(user.data);
        opened.push(Entry {
            sequence_number: carrier.sequence_number,
            sub_sequence_number: place as u32,
            partition_key: *partition_key,
            is_partition_key_plain: is_plain(text),
            data,
            form: Form::Bytes,
            data_bytes: data.bytes(),
            approximate_arrival_ms: carrier.approximate_arrival_ms,
            is_suspect: false,
        });
    }
    Ok(Some(Opened::Inside { texts }))
}

/// Where a partition key lies in the hash key space.
pub fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

fn at<T>(table: &[T], index: u32) -> Option<&T> {
    table.get(usize::try_from(index).ok()?)
}

/// Compat: a number that no shard can contain (2^128 and more, or negative) makes the aggregate broken. To Java it is
/// outside every shard's range, so the aggregate is dropped everywhere.
fn number(text: &[u8]) -> Option<u128> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Text as Java decodes it. Differs from `from_utf8_lossy` only in an encoded surrogate, which becomes one
/// replacement character, not three.
fn java_text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.into();
    }
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while !rest.is_empty() {
        let good = match std::str::from_utf8(rest) {
            Ok(good) => good,
            Err(error) => std::str::from_utf8(&rest[..error.valid_up_to()]).unwrap_or_default(),
        };
        text.push_str(good);
        rest = &rest[good.len()..];
        let bad = match rest {
            [] => break,
            [0xED, 0xA0..=0xBF, 0x80..=0xBF, ..] => 3,
            [0xED, 0xA0..=0xBF, ..] => 2,
            _ => std::str::from_utf8(rest)
                .err()
                .and_then(|error| error.error_len())
                .unwrap_or(rest.len()),
        };
        text.push(char::REPLACEMENT_CHARACTER);
        rest = &rest[bad..];
    }
    text.into()
}

#[cfg(test)]
mod tests;
