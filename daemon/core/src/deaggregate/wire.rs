//! The protobuf of an aggregate, read in place: nothing is copied, nothing but three lists is allocated.
//!
//! A small reader instead of a library, because the verdict "this is no aggregate" must be protobuf-java's own: a
//! library that is stricter or laxer would deliver other records than a Java worker. What it must agree on:
//!
//! * a known field with another wire type is an unknown field, and unknown fields (groups too) are skipped;
//! * of a scalar that comes twice the last counts;
//! * tags and lengths are varints of at most ten bytes, of which the low 32 bits count;
//! * tag 0, wire types 6 and 7, an end of group without its beginning, more than 100 levels, anything cut off, and a
//!   missing required field make the whole message unreadable;
//! * the texts are not checked: proto2 keeps them as bytes.

/// `CodedInputStream`'s recursion limit.
const LEVELS_MAX: u32 = 100;

/// What an aggregate says (`AggregatedRecord` of the KPL's `messages.proto`).
#[derive(Debug, Default)]
pub(super) struct Aggregate<'a> {
    /// `partition_key_table`.
    pub(super) partition_keys: Vec<&'a [u8]>,
    /// `explicit_hash_key_table`.
    pub(super) explicit_hash_keys: Vec<&'a [u8]>,
    /// `records`.
    pub(super) records: Vec<Entry<'a>>,
}

/// One `Record` of an aggregate.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    /// `partition_key_index`. Java narrows it to an `int`; so do we.
    pub(super) partition_key: u32,
    /// `explicit_hash_key_index`, narrowed too.
    pub(super) explicit_hash_key: Option<u32>,
    /// `data`, a part of the message.
    pub(super) data: &'a [u8],
}

/// The bytes are not the message. Nobody needs to know why: they are then a record like any other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Reads a whole `AggregatedRecord`.
pub(super) fn aggregate(message: &[u8]) -> Result<Aggregate<'_>, Unreadable> {
    let mut aggregate = Aggregate::default();
    let mut reader = Reader { bytes: message };
    while let Some(tag) = reader.tag()? {
        match tag {
            Tag {
                field: 1,
                kind: BYTES,
            } => aggregate.partition_keys.push(reader.bytes()?),
            Tag {
                field: 2,
                kind: BYTES,
            } => aggregate.explicit_hash_keys.push(reader.bytes()?),
            Tag {
                field: 3,
                kind: BYTES,
            } => aggregate.records.push(entry(reader.bytes()?)?),
            unknown => reader.skip(unknown, 0)?,
        }
    }
    Ok(aggregate)
}

fn entry(message: &[u8]) -> Result<Entry<'_>, Unreadable> {
    let (mut partition_key, mut explicit_hash_key, mut data) = (None, None, None);
    let mut reader = Reader { bytes: message };
    while let Some(tag) = reader.tag()? {
        match tag {
            Tag {
                field: 1,
                kind: VARINT,
            } => partition_key = Some(reader.varint()? as u32),
            Tag {
                field: 2,
                kind: VARINT,
            } => explicit_hash_key = Some(reader.varint()? as u32),
            Tag {
                field: 3,
                kind: BYTES,
            } => data = Some(reader.bytes()?),
            Tag {
                field: 4,
                kind: BYTES,
            } => check_tag(reader.bytes()?)?,
            unknown => reader.skip(unknown, 1)?,
        }
    }
    Ok(Entry {
        partition_key: partition_key.ok_or(Unreadable)?,
        explicit_hash_key,
        data: data.ok_or(Unreadable)?,
    })
}

/// The KPL's `Tag`s are never delivered, but one without its required key spoils the message.
fn check_tag(message: &[u8]) -> Result<(), Unreadable> {
    let mut has_key = false;
    let mut reader = Reader { bytes: message };
    while let Some(tag) = reader.tag()? {
        has_key |= matches!(
            tag,
            Tag {
                field: 1,
                kind: BYTES
            }
        );
        reader.skip(tag, 2)?;
    }
    if has_key { Ok(()) } else { Err(Unreadable) }
}

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const GROUP: u32 = 3;
const GROUP_END: u32 = 4;
const FIXED32: u32 = 5;

#[derive(Clone, Copy, PartialEq, Eq)]
struct Tag {
    field: u32,
    kind: u32,
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// `None` at the end of the message.
    fn tag(&mut self) -> Result<Option<Tag>, Unreadable> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()? as u32;
        let tag = Tag {
            field: tag >> 3,
            kind: tag & 7,
        };
        if tag.field == 0 {
            Err(Unreadable)
        } else {
            Ok(Some(tag))
        }
    }

    fn varint(&mut self) -> Result<u64, Unreadable> {
        let mut value = 0;
        for place in 0..10 {
            let byte = self.take(1)?[0];
            // Of the tenth byte only the lowest bit has room; Java shifts the rest out too.
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Unreadable)
    }

    fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = self.varint()? as u32;
        // A Java length above i32::MAX is negative, and refused; here no message is that long.
        self.take(usize::try_from(length).map_err(|_| Unreadable)?)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(Unreadable)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// Skips a field whose tag has been read, `level` messages and groups deep.
    fn skip(&mut self, tag: Tag, level: u32) -> Result<(), Unreadable> {
        match tag.kind {
            VARINT => self.varint().map(drop),
            FIXED64 => self.take(8).map(drop),
            BYTES => self.bytes().map(drop),
            FIXED32 => self.take(4).map(drop),
            GROUP if level < LEVELS_MAX => loop {
                match self.tag()? {
                    Some(Tag {
                        field,
                        kind: GROUP_END,
                    }) if field == tag.field => return Ok(()),
                    Some(inner) => self.skip(inner, level + 1)?,
                    None => return Err(Unreadable),
                }
            },
            _ => Err(Unreadable),
        }
    }
}
