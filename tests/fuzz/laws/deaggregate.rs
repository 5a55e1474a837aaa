//! Whatever a producer puts into a record: nothing panics, nothing is lost silently, and memory stays in proportion.

use bytes::Bytes;
use md5::{Digest as _, Md5};
use multilangd_core::deaggregate::{Deaggregated, deaggregate};
use multilangd_core::ids::{HashRange, SequenceNumber};
use multilangd_core::records::Records;
use multilangd_core::stream::StreamRecord;

/// The first byte of the input chooses the shard's range, and whether the rest is the whole payload or an aggregate's
/// message, which then gets magic and digest.
pub(crate) fn holds(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else {
        return;
    };
    let lower_half = HashRange {
        start: 0,
        end: u128::MAX / 2,
    };
    let range = [None, Some(HashRange::ALL), Some(lower_half)][usize::from(choice % 3)];
    let data: Bytes = match choice & 0x80 {
        0 => [&[0xF3, 0x89, 0x9A, 0xC2], rest, &Md5::digest(rest)[..]]
            .concat()
            .into(),
        _ => rest.to_vec().into(),
    };
    let carrier = StreamRecord {
        sequence_number: SequenceNumber::parse("17").expect("digits"),
        partition_key: "carrier".to_owned(),
        data: data.clone(),
        approximate_arrival_ms: Some(5),
    };
    let (mut became, mut records) = (Deaggregated::Plain, Records::from_iter([carrier]));
    deaggregate(&mut records, range, |verdict, _| became = verdict);
    match became {
        Deaggregated::Plain | Deaggregated::Broken(_) => {
            assert_eq!(records.len(), 1);
            let record = records.iter().next().expect("one");
            assert_eq!(record.data.decoded(), &data[..]);
            assert_eq!(
                (record.sub_sequence_number, record.partition_key),
                (0, "carrier".into())
            );
        }
        Deaggregated::Misplaced => {
            assert!(records.is_empty());
            assert_eq!(
                range,
                Some(lower_half),
                "only a part of the hash keys can be missed"
            );
        }
        Deaggregated::Opened(count) => {
            assert_eq!(records.len(), count);
            // The shortest record: tag, length, index (2), data (2).
            assert!(
                count <= data.len() / 6,
                "{count} records from {} bytes",
                data.len()
            );
            assert!(records.data_bytes() <= data.len(), "a payload was copied");
            for (place, record) in records.iter().enumerate() {
                assert_eq!(record.sub_sequence_number, place as u64);
            }
        }
    }
}
