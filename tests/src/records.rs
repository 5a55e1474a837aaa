//! Records as producers make them: KPL aggregates.

use bytes::Bytes;
use md5::{Digest as _, Md5};

/// Builds a KPL aggregate, as the KPL lays it out: tables first, each key once.
#[derive(Clone, Debug, Default)]
pub struct Aggregate {
    partition_keys: Vec<String>,
    explicit_hash_keys: Vec<String>,
    records: Vec<u8>,
}

impl Aggregate {
    /// One without records.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a user record.
    pub fn record(self, partition_key: &str, data: &[u8]) -> Self {
        self.add(partition_key, None, data)
    }

    /// Adds a user record with an explicit hash key, any text.
    pub fn record_at(self, partition_key: &str, explicit_hash_key: &str, data: &[u8]) -> Self {
        self.add(partition_key, Some(explicit_hash_key), data)
    }

    fn add(mut self, partition_key: &str, explicit_hash_key: Option<&str>, data: &[u8]) -> Self {
        let mut record = Vec::new();
        number(&mut record, 1, index(&mut self.partition_keys, partition_key));
        if let Some(hash_key) = explicit_hash_key {
            number(&mut record, 2, index(&mut self.explicit_hash_keys, hash_key));
        }
        bytes(&mut record, 3, data);
        bytes(&mut self.records, 3, &record);
        self
    }

    /// The payload of the record that carries it.
    pub fn data(&self) -> Bytes {
        let mut message = Vec::new();
        for key in &self.partition_keys {
            bytes(&mut message, 1, key.as_bytes());
        }
        for key in &self.explicit_hash_keys {
            bytes(&mut message, 2, key.as_bytes());
        }
        message.extend(&self.records);
        under_digest(&message)
    }
}

/// Any bytes as the message of an aggregate, under the right magic and digest.
pub fn under_digest(message: &[u8]) -> Bytes {
    let digest = Md5::digest(message);
    [&[0xF3, 0x89, 0x9A, 0xC2], message, &digest[..]].concat().into()
}

fn index(table: &mut Vec<String>, text: &str) -> u64 {
    let found = table.iter().position(|known| known == text);
    let index = found.unwrap_or_else(|| {
        table.push(text.to_owned());
        table.len() - 1
    });
    index as u64
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use multilangd_core::deaggregate::{Deaggregated, deaggregate};
    use multilangd_core::ids::SequenceNumber;
    use multilangd_core::records::Records;
    use multilangd_core::stream::StreamRecord;

    use super::*;

    #[test]
    fn what_is_built_can_be_opened() {
        let aggregate = Aggregate::new()
            .record("a", b"1")
            .record_at("b", "7", b"2")
            .record("a", b"3");
        let carrier = StreamRecord {
            sequence_number: SequenceNumber::parse("5").unwrap(),
            partition_key: "carrier".to_owned(),
            data: aggregate.data(),
            approximate_arrival_ms: None,
        };
        let mut records: Records = [carrier].into_iter().collect();
        deaggregate(&mut records, None, |became, _| {
            assert_eq!(became, Deaggregated::Opened(3));
        });
        let shown: Vec<String> = records
            .iter()
            .map(|r| {
                format!(
                    "{} {}",
                    r.partition_key,
                    String::from_utf8_lossy(&r.data.decoded())
                )
            })
            .collect();
        assert_eq!(shown, ["a 1", "b 2", "a 3"]);
    }
}
