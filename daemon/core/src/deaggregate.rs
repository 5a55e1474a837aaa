//! Which user records are inside a record of the stream: KPL aggregates are opened (`consuming.md 4`).
//!
//! Owns the decision what is an aggregate and which of its records belong to the shard. Never copies a payload:
//! a user record's data is a part of its carrier's. Java's class is `AggregatorUtil`.

mod wire;

use bytes::Bytes;
use md5::{Digest as _, Md5};

use crate::ids::HashRange;
use crate::stream::{StreamRecord, UserRecord};

/// What an aggregate begins with.
const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
/// It ends with the MD5 of what is between.
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

/// Appends the user records inside `record` to `out`. `range` is what the shard covers; `None`: unknown, take all.
pub fn deaggregate(
    record: StreamRecord,
    range: Option<HashRange>,
    out: &mut Vec<UserRecord>,
) -> Deaggregated {
    let Some(message) = message(&record.data) else {
        out.push(whole(record));
        return Deaggregated::Plain;
    };
    let Ok(aggregate) = wire::aggregate(message) else {
        out.push(whole(record));
        return Deaggregated::Plain;
    };
    let before = out.len();
    match open(&record, &aggregate, range.unwrap_or(HashRange::ALL), out) {
        Ok(true) => Deaggregated::Opened(out.len() - before),
        Ok(false) => {
            out.truncate(before);
            Deaggregated::Misplaced
        }
        Err(flaw) => {
            // Compat: Java 8 keeps what came before the flaw and loses the rest; Java 11 and later stop the worker,
            // again after every restart. We deliver the carrier, as for anything else that is no good aggregate.
            out.truncate(before);
            out.push(whole(record));
            Deaggregated::Broken(flaw)
        }
    }
}

/// The bytes between magic and digest, if the digest is right.
fn message(data: &[u8]) -> Option<&[u8]> {
    let (message, digest) = data.strip_prefix(&MAGIC)?.split_last_chunk::<DIGEST_BYTES>()?;
    let is_aggregate = !message.is_empty() && Md5::digest(message).as_slice() == digest;
    is_aggregate.then_some(message)
}

/// `Ok(false)`: one of the user records is outside the range.
fn open(
    carrier: &StreamRecord,
    aggregate: &wire::Aggregate<'_>,
    range: HashRange,
    out: &mut Vec<UserRecord>,
) -> Result<bool, Flaw> {
    out.reserve(aggregate.records.len());
    for (place, entry) in aggregate.records.iter().enumerate() {
        let partition_key = at(&aggregate.partition_keys, entry.partition_key)
            .map(java_text)
            .ok_or(Flaw::NoPartitionKey(place, entry.partition_key))?;
        let explicit_hash_key = match entry.explicit_hash_key {
            None => None,
            Some(index) => {
                let text =
                    at(&aggregate.explicit_hash_keys, index).ok_or(Flaw::NoExplicitHashKey(place, index))?;
                Some(number(text).ok_or(Flaw::BadExplicitHashKey(place))?)
            }
        };
        // The whole space needs no hashing.
        let is_inside = range == HashRange::ALL
            || range.contains(explicit_hash_key.unwrap_or_else(|| hash_key(&partition_key)));
        if !is_inside {
            return Ok(false);
        }
        out.push(UserRecord {
            sequence_number: carrier.sequence_number.clone(),
            sub_sequence_number: place as u64,
            partition_key,
            data: part(&carrier.data, entry.data),
            approximate_arrival_ms: carrier.approximate_arrival_ms,
        });
    }
    Ok(true)
}

/// Where a partition key lies in the hash key space.
pub fn hash_key(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

fn whole(record: StreamRecord) -> UserRecord {
    UserRecord {
        sequence_number: record.sequence_number,
        sub_sequence_number: 0,
        partition_key: record.partition_key,
        data: record.data,
        approximate_arrival_ms: record.approximate_arrival_ms,
    }
}

fn at<'a>(table: &[&'a [u8]], index: u32) -> Option<&'a [u8]> {
    table.get(usize::try_from(index).ok()?).copied()
}

/// An empty part must not keep a 10 MB carrier alive.
fn part(data: &Bytes, part: &[u8]) -> Bytes {
    if part.is_empty() {
        Bytes::new()
    } else {
        data.slice_ref(part)
    }
}

/// Compat: a number that no shard can contain (2^128 and more, or negative) makes the aggregate broken. To Java it is
/// outside every shard's range, so the aggregate is dropped everywhere.
fn number(text: &[u8]) -> Option<u128> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Text as Java decodes it. Differs from `from_utf8_lossy` only in an encoded surrogate, which becomes one
/// replacement character, not three.
fn java_text(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
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
    text
}

#[cfg(test)]
mod tests;
