//! Identities and positions: the words every other module is written in.
//!
//! Owns their order and their text form; never touches a table or a stream.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name_type!(
    /// A shard's id, such as `shardId-000000000007`. In a single-stream application it is also the key of the
    /// shard's lease (`leasing.md 1.2`).
    ShardId
);
name_type!(
    /// A worker's id: the text in `leaseOwner`.
    WorkerId
);

/// Several shards, for a log line.
pub fn names<'a>(shards: impl IntoIterator<Item = &'a ShardId>) -> String {
    shards
        .into_iter()
        .map(ShardId::as_str)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A Kinesis sequence number: up to 129 decimal digits, too wide for any integer type.
///
/// Ordered by value; the text is kept exactly as it came.
#[derive(Clone)]
pub struct SequenceNumber(Box<str>);

impl SequenceNumber {
    /// `None` unless the text is one or more ASCII digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| Self(text.into()))
    }

    /// The digits, as they came.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn significant(&self) -> &str {
        self.0.trim_start_matches('0')
    }
}

impl Ord for SequenceNumber {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.significant(), other.significant());
        (a.len(), a).cmp(&(b.len(), b))
    }
}

impl PartialOrd for SequenceNumber {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for SequenceNumber {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for SequenceNumber {}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a shard has been read. Declaration order is the order Java compares in (`ExtendedSequenceNumber`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Position {
    /// From the configured time stamp on; nothing read yet.
    AtTimestamp,
    /// From the oldest record on; nothing read yet.
    TrimHorizon,
    /// From the tip on; nothing read yet.
    Latest,
    /// Up to and including this sequence number and sub-sequence number.
    At(SequenceNumber, u64),
    /// Everything.
    ShardEnd,
}

/// The text is neither digits nor one of the four sentinels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no position: expected digits, TRIM_HORIZON, LATEST, AT_TIMESTAMP or SHARD_END")]
pub struct BadPosition(pub String);

impl Position {
    /// From the two attributes of a lease row, or the two fields of a message. Sentinels drop the sub-sequence number.
    pub fn parse(text: &str, sub_sequence_number: u64) -> Result<Self, BadPosition> {
        Ok(match text {
            "AT_TIMESTAMP" => Self::AtTimestamp,
            "TRIM_HORIZON" => Self::TrimHorizon,
            "LATEST" => Self::Latest,
            "SHARD_END" => Self::ShardEnd,
            digits => match SequenceNumber::parse(digits) {
                Some(number) => Self::At(number, sub_sequence_number),
                None => return Err(BadPosition(text.to_owned())),
            },
        })
    }

    /// Digits or a sentinel, as in the attribute `checkpoint`.
    pub fn text(&self) -> &str {
        match self {
            Self::AtTimestamp => "AT_TIMESTAMP",
            Self::TrimHorizon => "TRIM_HORIZON",
            Self::Latest => "LATEST",
            Self::At(number, _) => number.as_str(),
            Self::ShardEnd => "SHARD_END",
        }
    }

    /// The sub-sequence number; 0 for sentinels.
    pub fn sub_sequence_number(&self) -> u64 {
        match self {
            Self::At(_, sub) => *sub,
            Self::AtTimestamp | Self::TrimHorizon | Self::Latest | Self::ShardEnd => 0,
        }
    }

    /// Whether the shard is finished.
    pub fn is_shard_end(&self) -> bool {
        matches!(self, Self::ShardEnd)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(number, sub) if *sub > 0 => write!(f, "{number}/{sub}"),
            other => f.write_str(other.text()),
        }
    }
}

/// The part of the 128-bit hash key space that a shard covers, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HashRange {
    /// First hash key.
    pub start: u128,
    /// Last hash key.
    pub end: u128,
}

impl HashRange {
    /// The whole space.
    pub const ALL: Self = Self {
        start: 0,
        end: u128::MAX,
    };

    /// Whether the key belongs to the shard.
    pub fn contains(&self, key: u128) -> bool {
        (self.start..=self.end).contains(&key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, sub: u64) -> Position {
        Position::parse(text, sub).unwrap()
    }

    #[test]
    fn positions_order_as_java_orders_them() {
        let ordered = [
            at("AT_TIMESTAMP", 0),
            at("TRIM_HORIZON", 0),
            at("LATEST", 0),
            at("9", 0),
            at("10", 0),
            at("10", 1),
            at("49590338271490256608559692540925702759324208523137515618", 0),
            at("SHARD_END", 0),
        ];
        assert!(ordered.is_sorted());
        assert!(ordered.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn leading_zeros_do_not_matter_but_are_kept() {
        assert_eq!(at("007", 0), at("7", 0));
        assert_eq!(at("007", 0).text(), "007");
    }

    #[test]
    fn other_text_is_no_position() {
        for text in ["", "-1", "4.9e3", "latest", "12a", " 1"] {
            assert_eq!(Position::parse(text, 0), Err(BadPosition(text.to_owned())));
        }
    }
}
