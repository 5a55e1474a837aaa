use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

fn record<'a>(data: &'a [u8], partition_key: &'a str) -> RecordLine<'a> {
    RecordLine {
        data: Payload::Bytes(data),
        partition_key: partition_key.into(),
        sequence_number: "4959".into(),
        sub_sequence_number: 0,
        approximate_arrival_ms: Some(1_767_225_600_123),
    }
}

#[test]
fn initialize_has_its_keys_in_javas_order() {
    assert_eq!(
        written(|out| initialize(out, "shardId-000000000000", "LATEST", 0)),
        "{\"action\":\"initialize\",\"shardId\":\"shardId-000000000000\",\"sequenceNumber\":\"LATEST\",\"subSequenceNumber\":0}\n"
    );
}

#[test]
fn process_records_has_action_last_in_each_record_and_first_at_the_top() {
    assert_eq!(
        written(|out| process_records(out, [record(b"hello", "k-1")], Some(5000))),
        "{\"action\":\"processRecords\",\"records\":[{\"data\":\"aGVsbG8=\",\"partitionKey\":\"k-1\",\
         \"sequenceNumber\":\"4959\",\"approximateArrivalTimestamp\":1767225600123,\"subSequenceNumber\":0,\
         \"action\":\"record\"}],\"millisBehindLatest\":5000}\n"
    );
}

#[test]
fn a_batch_may_be_empty() {
    assert_eq!(
        written(|out| process_records(out, [], Some(0))),
        "{\"action\":\"processRecords\",\"records\":[],\"millisBehindLatest\":0}\n"
    );
}

#[test]
fn an_unknown_lag_and_an_unknown_arrival_are_null() {
    let record = RecordLine {
        approximate_arrival_ms: None,
        ..record(b"", "k")
    };
    assert_eq!(
        written(|out| process_records(out, [record], None)),
        "{\"action\":\"processRecords\",\"records\":[{\"data\":\"\",\"partitionKey\":\"k\",\"sequenceNumber\":\"4959\",\
         \"approximateArrivalTimestamp\":null,\"subSequenceNumber\":0,\"action\":\"record\"}],\"millisBehindLatest\":null}\n"
    );
}

#[test]
fn the_three_endings_have_no_other_key() {
    assert_eq!(written(lease_lost), "{\"action\":\"leaseLost\"}\n");
    assert_eq!(written(shard_ended), "{\"action\":\"shardEnded\"}\n");
    assert_eq!(
        written(shutdown_requested),
        "{\"action\":\"shutdownRequested\"}\n"
    );
}

#[test]
fn a_reply_echoes_the_request_and_keeps_its_nulls() {
    let request = CheckpointRequest {
        sequence_number: Some("4959".to_owned()),
        sub_sequence_number: Some(-7),
    };
    assert_eq!(
        written(|out| checkpoint_reply(out, &request, Some("IllegalArgumentException"))),
        "{\"action\":\"checkpoint\",\"sequenceNumber\":\"4959\",\"subSequenceNumber\":-7,\"error\":\"IllegalArgumentException\"}\n"
    );
    assert_eq!(
        written(|out| checkpoint_reply(out, &CheckpointRequest::default(), None)),
        "{\"action\":\"checkpoint\",\"sequenceNumber\":null,\"subSequenceNumber\":null,\"error\":null}\n"
    );
}

#[test]
fn the_largest_numbers_keep_every_digit() {
    assert_eq!(written(|out| unsigned(out, u64::MAX)), "18446744073709551615");
    assert_eq!(
        written(|out| optional_signed(out, Some(i64::MIN))),
        "-9223372036854775808"
    );
}

#[test]
fn strings_are_escaped_as_java_escapes_them() {
    let escaped = |text: &str| written(|out| string(out, text));
    assert_eq!(escaped("\"\\"), r#""\"\\""#);
    assert_eq!(escaped("\u{8}\t\n\u{c}\r"), r#""\b\t\n\f\r""#);
    assert_eq!(escaped("\u{0}\u{b}\u{1f}"), r#""\u0000\u000B\u001F""#);
    assert_eq!(escaped("/<>\u{7f}"), "\"/<>\u{7f}\"", "Java sends these raw");
}

#[test]
fn everything_beyond_ascii_is_escaped_in_utf_16() {
    let escaped = |text: &str| written(|out| string(out, text));
    assert_eq!(escaped("ключ"), r#""\u043A\u043B\u044E\u0447""#);
    assert_eq!(escaped("\u{2028}\u{feff}"), r#""\u2028\uFEFF""#);
    assert_eq!(escaped("a😀b"), r#""a\uD83D\uDE00b""#);
}

#[test]
fn a_payload_that_is_base64_already_is_copied() {
    let line = |data| {
        written(|out| {
            process_records(
                out,
                [RecordLine {
                    data,
                    ..record(b"", "k")
                }],
                None,
            )
        })
    };
    assert_eq!(line(Payload::Base64(b"aGVsbG8=")), line(Payload::Bytes(b"hello")));
    assert_eq!(Payload::Base64(b"aGVsbG8="), Payload::Bytes(b"hello"));
}

#[test]
fn a_text_that_is_plain_is_copied() {
    let line = |partition_key| {
        let record = RecordLine {
            partition_key,
            ..record(b"", "")
        };
        written(|out| process_records(out, [record], None))
    };
    assert_eq!(line(Text::Plain(b"key/1")), line(Text::Any("key/1")));
    assert_eq!(Text::Plain(b"key/1"), Text::Any("key/1"));
}

#[test]
fn numbers_of_every_length_are_written() {
    for digits in 1..=19 {
        let (least, most) = (10_u64.pow(digits - 1), 10_u64.pow(digits) - 1);
        for number in [least, most, least + 7] {
            assert_eq!(written(|out| unsigned(out, number)), number.to_string());
        }
    }
    // Every four digits that there are, before and behind four others.
    for number in (0..=10_000).flat_map(|four| [four, 10_000 * four + 1234, 12_340_000 + four]) {
        assert_eq!(written(|out| unsigned(out, number)), number.to_string());
    }
    assert_eq!(written(|out| unsigned(out, u64::MAX)), u64::MAX.to_string());
}

#[test]
fn a_usual_record_ends_as_any_other() {
    let times = [
        -1_795_529_441_800,
        999_999_999_999,
        1_000_000_000_000,
        1_795_529_441_800,
        9_999_999_999_999,
        10_000_000_000_000,
    ];
    for (ms, sub_sequence_number) in times.into_iter().flat_map(|ms| [(ms, 0), (ms, 7)]) {
        let line = RecordLine {
            approximate_arrival_ms: Some(ms),
            sub_sequence_number,
            ..record(b"", "k")
        };
        let line = written(|out| process_records(out, [line], Some(0)));
        let end = format!(
            r#"","approximateArrivalTimestamp":{ms},"subSequenceNumber":{sub_sequence_number},"action":"record"}}],"millisBehindLatest":0}}"#
        );
        assert!(line.trim_end().ends_with(&end), "{line}");
    }
}

proptest! {
    #[test]
    fn plain_bytes_end_where_a_byte_by_byte_search_ends(text in proptest::collection::vec(prop_oneof![8 => b' '..=b'~', 1 => any::<u8>()], 0..40)) {
        let is_special = |byte: &u8| *byte < 0x20 || *byte >= 0x80 || b"\"\\".contains(byte);
        prop_assert_eq!(plain_bytes(&text), text.iter().position(is_special).unwrap_or(text.len()));
    }

    #[test]
    fn another_parser_reads_what_was_written(
        records in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..100), any::<String>(), "[0-9]{1,60}", any::<u64>(), any::<Option<i64>>()),
            0..5,
        ),
        lag in any::<Option<i64>>(),
    ) {
        let lines = records.iter().map(|(data, partition_key, sequence_number, sub, arrival)| RecordLine {
            data: Payload::Bytes(data),
            partition_key: partition_key.as_str().into(),
            sequence_number: Text::Plain(sequence_number.as_bytes()),
            sub_sequence_number: *sub,
            approximate_arrival_ms: *arrival,
        });
        let line = written(|out| process_records(out, lines, lag));
        prop_assert!(line.is_ascii());
        prop_assert_eq!(line.matches('\n').count(), 1);
        let expected: Vec<Value> = records.iter().map(|(data, partition_key, sequence_number, sub, arrival)| json!({
            "data": base64_simd::STANDARD.encode_to_string(data),
            "partitionKey": partition_key,
            "sequenceNumber": sequence_number,
            "approximateArrivalTimestamp": arrival,
            "subSequenceNumber": sub,
            "action": "record",
        })).collect();
        let expected = json!({ "action": "processRecords", "records": expected, "millisBehindLatest": lag });
        prop_assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), expected);
    }

    #[test]
    fn a_reply_can_be_read_by_another_parser_whatever_the_child_asked_for(
        sequence_number in any::<Option<String>>(),
        sub_sequence_number in any::<Option<i64>>(),
    ) {
        let request = CheckpointRequest { sequence_number, sub_sequence_number };
        let line = written(|out| checkpoint_reply(out, &request, None));
        let expected = json!({
            "action": "checkpoint",
            "sequenceNumber": request.sequence_number,
            "subSequenceNumber": request.sub_sequence_number,
            "error": null,
        });
        prop_assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), expected);
    }
}
