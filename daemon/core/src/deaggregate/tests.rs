use proptest::prelude::*;

use multilangd_protocol::{Payload, RecordLine};

use super::*;
use crate::ids::SequenceNumber;
use crate::stream::StreamRecord;

const LOWER_HALF: HashRange = HashRange {
    start: 0,
    end: u128::MAX / 2,
};

#[test]
fn a_record_that_is_no_aggregate_is_delivered_as_it_came() {
    let (delivered, out) = run(b"hello");
    assert_eq!(delivered, Deaggregated::Plain);
    assert_eq!(shown(&out), ["0 carrier hello"]);
}

#[test]
fn an_aggregate_is_opened_in_order_with_sub_sequence_numbers() {
    let message = [
        key("a"),
        key("b"),
        record(0, None, b"1"),
        record(1, None, b"2"),
        record(0, None, b"3"),
    ]
    .concat();
    let (delivered, out) = run(&aggregate(&message));
    assert_eq!(delivered, Deaggregated::Opened(3));
    assert_eq!(shown(&out), ["0 a 1", "1 b 2", "2 a 3"]);
}

#[test]
fn user_records_inherit_sequence_number_and_arrival_of_their_carrier() {
    let (_, out) = run(&aggregate(&[key("a"), record(0, None, b"1")].concat()));
    let user = out.iter().next().unwrap();
    assert_eq!(user.sequence_number, "17");
    assert_eq!(user.approximate_arrival_ms, Some(1234));
}

#[test]
fn records_around_an_aggregate_keep_their_place() {
    let inside = aggregate(&[key("a"), record(0, None, b"1"), record(0, None, b"2")].concat());
    let carriers = [&b"before"[..], &inside, b"between", &inside, b"after"];
    let mut records: Records = carriers.into_iter().map(stream_record).collect();
    deaggregate(&mut records, None, |became, number| {
        assert_eq!((became, number), (Deaggregated::Opened(2), "17"));
    });
    let expected = [
        "0 carrier before",
        "0 a 1",
        "1 a 2",
        "0 carrier between",
        "0 a 1",
        "1 a 2",
        "0 carrier after",
    ];
    assert_eq!(shown(&records), expected);
    assert_eq!(records.data_bytes(), "beforebetweenafter".len() + 4);
}

#[test]
fn an_aggregate_that_came_as_base64_is_opened_too() {
    let inside = aggregate(&[key("a"), key("b"), record(1, None, b"1"), record(0, None, b"22")].concat());
    let text = |data| base64_simd::STANDARD.encode_to_string(data);
    let answer = format!(
        r#"{{"Records":[{{"SequenceNumber":"7","PartitionKey":"k","Data":"{}"}},{{"SequenceNumber":"8","PartitionKey":"k","Data":"{}"}}]}}"#,
        text(&inside[..]),
        text(b"plain")
    );
    let mut records = crate::records::answer::read(answer.as_ref()).unwrap().records;
    deaggregate(&mut records, None, |became, number| {
        assert_eq!((became, number), (Deaggregated::Opened(2), "7"));
    });
    assert_eq!(shown(&records), ["0 b 1", "1 a 22", "0 k plain"]);
    assert_eq!(records.data_bytes(), 3 + 5);
}

#[test]
fn the_tables_may_come_behind_the_records() {
    let (_, out) = run(&aggregate(&[record(0, None, b"1"), key("late")].concat()));
    assert_eq!(shown(&out), ["0 late 1"]);
}

#[test]
fn an_aggregate_without_records_yields_nothing() {
    let (delivered, out) = run(&aggregate(&key("a")));
    assert_eq!(delivered, Deaggregated::Opened(0));
    assert!(out.is_empty());
}

#[test]
fn magic_and_digest_alone_are_a_plain_record() {
    let data = aggregate(&[]);
    assert_eq!(data.len(), 20);
    assert_eq!(run(&data).0, Deaggregated::Plain);
}

#[test]
fn a_wrong_digest_makes_a_plain_record() {
    let mut data = aggregate(&[key("a"), record(0, None, b"1")].concat());
    *data.last_mut().unwrap() ^= 1;
    assert_eq!(run(&data).0, Deaggregated::Plain);
}

#[test]
fn another_magic_makes_a_plain_record() {
    let mut data = aggregate(&[key("a"), record(0, None, b"1")].concat());
    data[0] = 0xF4;
    assert_eq!(run(&data).0, Deaggregated::Plain);
}

#[test]
fn a_message_that_protobuf_java_refuses_makes_a_plain_record() {
    let good = [key("a"), record(0, None, b"1")].concat();
    let refused: [(&str, Vec<u8>); 16] = [
        ("record without data", field(3, &[0x08, 0])),
        (
            "record without partition key index",
            field(3, &bytes_field(3, b"1")),
        ),
        (
            "data of another wire type is unknown, so missing",
            field(3, &[0x08, 0, 0x18, 1]),
        ),
        (
            "tag without key",
            field(
                3,
                &[vec![0x08, 0], bytes_field(3, b"1"), bytes_field(4, &[])].concat(),
            ),
        ),
        ("cut off inside a record", good[..good.len() - 1].to_vec()),
        ("field number 0", [good.clone(), vec![0x00]].concat()),
        (
            "field number 0 with wire type",
            [good.clone(), vec![0x02, 0]].concat(),
        ),
        ("wire type 6", [good.clone(), vec![0x26]].concat()),
        ("wire type 7", [good.clone(), vec![0x27]].concat()),
        (
            "end of group without beginning",
            [good.clone(), vec![0x24]].concat(),
        ),
        ("group without end", [good.clone(), vec![0x23]].concat()),
        (
            "group with another's end",
            [good.clone(), vec![0x23, 0x2C]].concat(),
        ),
        (
            "varint of eleven bytes",
            [good.clone(), vec![0x20], vec![0x80; 10], vec![0]].concat(),
        ),
        ("varint cut off", [good.clone(), vec![0x20, 0x80]].concat()),
        ("length beyond the end", [good.clone(), vec![0x22, 9, 0]].concat()),
        (
            "101 groups",
            [good.clone(), vec![0x23; 101], vec![0x24; 101]].concat(),
        ),
    ];
    for (what, message) in refused {
        assert_eq!(run(&aggregate(&message)).0, Deaggregated::Plain, "{what}");
    }
}

#[test]
fn what_protobuf_java_skips_does_not_matter() {
    let good = [key("a"), record(0, None, b"1")].concat();
    let skipped: [(&str, Vec<u8>); 8] = [
        ("unknown varint", vec![0x20, 0xFF, 0x01]),
        (
            "unknown varint of ten bytes",
            [vec![0x20], vec![0xFF; 9], vec![0x7F]].concat(),
        ),
        ("unknown fixed64", [vec![0x21], vec![0; 8]].concat()),
        ("unknown bytes", vec![0x22, 1, 0]),
        ("unknown fixed32", [vec![0x25], vec![0; 4]].concat()),
        ("unknown group in a group", vec![0x23, 0x2B, 0x30, 1, 0x2C, 0x24]),
        ("a known field of another wire type", vec![0x08, 1]),
        ("100 groups", [vec![0x23; 100], vec![0x24; 100]].concat()),
    ];
    for (what, unknown) in skipped {
        let (delivered, out) = run(&aggregate(&[unknown, good.clone()].concat()));
        assert_eq!(delivered, Deaggregated::Opened(1), "{what}");
        assert_eq!(shown(&out), ["0 a 1"], "{what}");
    }
}

#[test]
fn of_a_scalar_that_comes_twice_the_last_counts() {
    let twice = [
        vec![0x08, 0, 0x08, 1],
        bytes_field(3, b"first"),
        bytes_field(3, b"last"),
    ]
    .concat();
    let (_, out) = run(&aggregate(&[key("a"), key("b"), field(3, &twice)].concat()));
    assert_eq!(shown(&out), ["0 b last"]);
}

#[test]
fn an_overlong_tag_is_the_tag() {
    let (_, out) = run(&aggregate(
        &[vec![0x8A, 0x80, 0x00, 1, b'a'], record(0, None, b"1")].concat(),
    ));
    assert_eq!(shown(&out), ["0 a 1"]);
}

#[test]
fn kpl_tags_are_read_over() {
    let tagged = [
        vec![0x08, 0],
        bytes_field(3, b"1"),
        bytes_field(4, &[bytes_field(1, b"k"), bytes_field(2, b"v")].concat()),
    ];
    let (_, out) = run(&aggregate(&[key("a"), field(3, &tagged.concat())].concat()));
    assert_eq!(shown(&out), ["0 a 1"]);
}

#[test]
fn one_user_record_of_another_shard_drops_the_whole_aggregate_only() {
    // MD5("a") begins with 0x0c, MD5("b") with 0x92.
    let message = [
        key("a"),
        key("b"),
        record(0, None, b"1"),
        record(1, None, b"2"),
        record(0, None, b"3"),
    ]
    .concat();
    let (delivered, out) = run_in(&aggregate(&message), Some(LOWER_HALF));
    assert_eq!(delivered, Deaggregated::Misplaced);
    assert!(out.is_empty());
}

#[test]
fn an_explicit_hash_key_wins_over_the_partition_key() {
    let message = [key("b"), bytes_field(2, b"5"), record(0, Some(0), b"1")].concat();
    let (_, out) = run_in(&aggregate(&message), Some(LOWER_HALF));
    assert_eq!(shown(&out), ["0 b 1"]);
}

#[test]
fn both_ends_of_the_range_belong_to_the_shard() {
    let range = HashRange { start: 10, end: 20 };
    for (explicit, delivered) in [
        ("9", Deaggregated::Misplaced),
        ("10", Deaggregated::Opened(1)),
        ("+0020", Deaggregated::Opened(1)),
        ("21", Deaggregated::Misplaced),
    ] {
        let message = [
            key("a"),
            bytes_field(2, explicit.as_bytes()),
            record(0, Some(0), b"1"),
        ]
        .concat();
        let (given, _) = run_in(&aggregate(&message), Some(range));
        assert_eq!(given, delivered, "{explicit}");
    }
}

#[test]
fn a_broken_aggregate_is_delivered_as_it_came() {
    let broken: [(Vec<u8>, Flaw); 5] = [
        (
            [key("a"), record(0, None, b"1"), record(1, None, b"2")].concat(),
            Flaw::NoPartitionKey(1, 1),
        ),
        (
            [key("a"), record(0, Some(0), b"1")].concat(),
            Flaw::NoExplicitHashKey(0, 0),
        ),
        (explicit("twelve"), Flaw::BadExplicitHashKey(0)),
        (explicit("-1"), Flaw::BadExplicitHashKey(0)),
        (
            explicit("340282366920938463463374607431768211456"),
            Flaw::BadExplicitHashKey(0),
        ),
    ];
    for (message, flaw) in broken {
        let data = aggregate(&message);
        let (delivered, out) = run(&data);
        assert_eq!(delivered, Deaggregated::Broken(flaw));
        assert_eq!(out, [stream_record(&data)].into_iter().collect(), "{flaw}");
    }
}

#[test]
fn the_largest_explicit_hash_key_is_read() {
    let (delivered, _) = run(&aggregate(&explicit("340282366920938463463374607431768211455")));
    assert_eq!(delivered, Deaggregated::Opened(1));
}

#[test]
fn an_index_is_narrowed_as_java_narrows_it() {
    let wide = [vec![0x08, 0x80, 0x80, 0x80, 0x80, 0x10], bytes_field(3, b"1")].concat();
    let (_, out) = run(&aggregate(&[key("a"), field(3, &wide)].concat()));
    assert_eq!(shown(&out), ["0 a 1"]);
}

#[test]
fn keys_that_are_no_utf8_are_decoded_as_java_decodes_them() {
    for (bytes, text) in [
        (&b"a\xFFb"[..], "a\u{FFFD}b"),
        (b"\xE2\x82", "\u{FFFD}"),
        (b"\xE2\x82z", "\u{FFFD}z"),
        (b"\xC0\x80", "\u{FFFD}\u{FFFD}"),
        (b"\xF0\x9F\x98", "\u{FFFD}"),
        (b"\xED\xA0\x80z", "\u{FFFD}z"),
        (b"\xED\xA0", "\u{FFFD}"),
        (b"\xED\xA0z", "\u{FFFD}z"),
        (b"\xC3\xA9\xF5\x80", "\u{E9}\u{FFFD}\u{FFFD}"),
    ] {
        assert_eq!(java_text(bytes), text, "{bytes:x?}");
    }
}

proptest! {
    #[test]
    fn every_aggregate_gives_back_what_was_put_into_it(
        records in prop::collection::vec((".{0,9}", prop::collection::vec(any::<u8>(), 0..40)), 0..30),
    ) {
        let mut message = Vec::new();
        for (place, (partition_key, data)) in records.iter().enumerate() {
            message.extend(key(partition_key));
            message.extend(record(place as u64, None, data));
        }
        prop_assume!(!message.is_empty());
        let (delivered, out) = run(&aggregate(&message));
        prop_assert_eq!(delivered, Deaggregated::Opened(records.len()));
        for (place, (user, (partition_key, data))) in out.iter().zip(&records).enumerate() {
            prop_assert_eq!(user.sub_sequence_number, place as u64);
            prop_assert_eq!(user.partition_key.as_str(), partition_key);
            prop_assert_eq!(user.data, Payload::Bytes(data));
        }
    }

    #[test]
    fn nothing_under_a_right_digest_panics_or_is_lost(message in prop::collection::vec(any::<u8>(), 1..200)) {
        let (delivered, out) = run(&aggregate(&message));
        match delivered {
            Deaggregated::Plain | Deaggregated::Broken(_) => prop_assert_eq!(out.len(), 1),
            Deaggregated::Opened(count) => prop_assert_eq!(out.len(), count),
            Deaggregated::Misplaced => prop_assert!(false, "no range was given"),
        }
    }

    #[test]
    fn a_damaged_aggregate_never_panics(place in 0usize..60, byte in any::<u8>(), cut in 0usize..60) {
        let mut message = [key("a"), key("b"), bytes_field(2, b"77"), record(0, Some(0), b"one"), record(1, None, b"two")].concat();
        let place = place % message.len();
        message[place] = byte;
        message.truncate(message.len() - cut % message.len());
        let (_, out) = run(&aggregate(&message));
        prop_assert!(out.len() <= 2);
    }
}

fn run(data: &[u8]) -> (Deaggregated, Records) {
    run_in(data, None)
}

fn run_in(data: &[u8], range: Option<HashRange>) -> (Deaggregated, Records) {
    let mut records = [stream_record(data)].into_iter().collect();
    let mut delivered = Deaggregated::Plain; // nothing is said of what cannot be an aggregate
    deaggregate(&mut records, range, |became, _| delivered = became);
    (delivered, records)
}

fn shown(records: &Records) -> Vec<String> {
    let line = |user: RecordLine<'_>| {
        format!(
            "{} {} {}",
            user.sub_sequence_number,
            user.partition_key,
            String::from_utf8_lossy(&user.data.decoded())
        )
    };
    records.iter().map(line).collect()
}

fn stream_record(data: &[u8]) -> StreamRecord {
    StreamRecord {
        sequence_number: SequenceNumber::parse("17").unwrap(),
        partition_key: "carrier".to_owned(),
        data: data.to_vec().into(),
        approximate_arrival_ms: Some(1234),
    }
}

fn aggregate(message: &[u8]) -> Vec<u8> {
    [&AGGREGATE_MAGIC[..], message, &Md5::digest(message)[..]].concat()
}

fn explicit(hash_key: &str) -> Vec<u8> {
    [
        key("a"),
        bytes_field(2, hash_key.as_bytes()),
        record(0, Some(0), b"1"),
    ]
    .concat()
}

fn key(text: &str) -> Vec<u8> {
    bytes_field(1, text.as_bytes())
}

fn record(partition_key: u64, explicit_hash_key: Option<u64>, data: &[u8]) -> Vec<u8> {
    let mut message = [vec![0x08], varint(partition_key)].concat();
    if let Some(index) = explicit_hash_key {
        message.extend([vec![0x10], varint(index)].concat());
    }
    message.extend(bytes_field(3, data));
    field(3, &message)
}

fn field(number: u8, message: &[u8]) -> Vec<u8> {
    bytes_field(number, message)
}

fn bytes_field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
