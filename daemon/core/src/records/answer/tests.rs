use multilangd_protocol::{Payload, RecordLine, Text};
use proptest::prelude::*;
use serde_json::{Value, json};

use multilangd_protocol::write::process_records;

use super::json::leading_digits;
use super::*;
use crate::records::BatchLine;
use crate::stream::StreamRecord;

const ANSWER: &str = r#"{"MillisBehindLatest":5000,"NextShardIterator":"AAA=","Records":[
    {"ApproximateArrivalTimestamp":1.767225600123E9,"Data":"aGVsbG8=","EncryptionType":"NONE","PartitionKey":"k-1","SequenceNumber":"49590"},
    {"SequenceNumber":"49591","PartitionKey":"\u043a\"\ud83d\ude00/","Data":"","ApproximateArrivalTimestamp":1767225600}
]}"#;

fn read(text: impl AsRef<[u8]>) -> Result<Batch, BadAnswer> {
    super::read(text.as_ref())
}

/// As if it came by so many bytes at a time.
fn read_in_parts(text: &[u8], bytes: usize) -> Result<Batch, BadAnswer> {
    let mut reading = Reading::default();
    for part in text.chunks(bytes) {
        reading.push(part)?;
    }
    reading.finish()
}

#[test]
fn digits_are_counted_up_to_the_first_that_is_none() {
    let number: Vec<u8> = (b'0'..=b'9').cycle().take(70).collect();
    for digits in 0..number.len() {
        assert_eq!(leading_digits(&number[..digits]), digits);
        for other in [0, b'/', b':', b'"', 0x80, 0xB5, 0xFF] {
            let mut text = number.clone();
            text[digits] = other;
            assert_eq!(leading_digits(&text), digits, "before {other:#x}");
        }
    }
}

fn only_record(fields: &str) -> StreamRecord {
    let batch = read(format!(r#"{{"Records":[{{"SequenceNumber":"1",{fields}}}]}}"#)).unwrap();
    let line = batch.records.iter().next().unwrap();
    StreamRecord {
        sequence_number: batch.records.last_sequence_number().unwrap(),
        partition_key: line.partition_key.as_str().to_owned(),
        data: line.data.decoded().into_owned().into(),
        approximate_arrival_ms: line.approximate_arrival_ms,
    }
}

fn error(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn an_answer_of_the_service_is_read() {
    let batch = read(ANSWER).unwrap();
    assert_eq!(batch.next_iterator, Some(ShardIterator("AAA=".into())));
    assert_eq!(batch.millis_behind_latest, Some(5000));
    assert_eq!(batch.child_shards, []);
    let lines: Vec<RecordLine<'_>> = batch.records.iter().collect();
    let line = |data, partition_key, sequence_number, ms| RecordLine {
        data: Payload::Bytes(data),
        partition_key: Text::Any(partition_key),
        sequence_number: Text::Any(sequence_number),
        sub_sequence_number: 0,
        approximate_arrival_ms: Some(ms),
    };
    assert_eq!(
        lines,
        [
            line(b"hello", "k-1", "49590", 1_767_225_600_123),
            line(b"", "к\"😀/", "49591", 1_767_225_600_000)
        ]
    );
    assert_eq!(batch.records.data_bytes(), 5);
}

#[test]
fn a_payload_stays_the_base64_that_it_is() {
    let batch = read(ANSWER).unwrap();
    let line = batch.records.iter().next().unwrap();
    assert!(matches!(line.data, Payload::Base64(b"aGVsbG8=")));
}

/// The line that has been written while the records came.
fn written(records: &Records) -> Option<Vec<u8>> {
    match BatchLine::new(records.clone(), Some(7)) {
        BatchLine::Whole(line) => Some(line),
        BatchLine::Pieces(_) => None,
    }
}

/// The line that is made of them.
fn made(records: &Records) -> Vec<u8> {
    let mut line = Vec::new();
    process_records(&mut line, records.iter(), Some(7));
    line
}

#[test]
fn the_line_is_written_with_the_records_that_it_is_made_of() {
    let mut records = read(ANSWER).unwrap().records;
    let line = written(&records).unwrap();
    assert_eq!(String::from_utf8(line.clone()), String::from_utf8(made(&records)));
    assert!(
        line.starts_with(br#"{"action":"processRecords","records":[{"data":"aGVsbG8=","partitionKey":"k-1""#)
    );

    // What differs from what came is made anew.
    let second = records.last_position().unwrap();
    records.drop_first_while(|position| *position < second);
    assert_eq!((records.len(), written(&records)), (1, None));
    let mut records = read(ANSWER).unwrap().records;
    records.push(&only_record(r#""Data":"aGk=""#));
    assert_eq!((records.len(), written(&records)), (3, None));
    let mut records = Records::from_iter([only_record(r#""Data":"aGk=""#)]);
    let first = read(ANSWER).unwrap().records;
    records.write(&first.iter().next().unwrap(), 5, false);
    assert_eq!((records.len(), written(&records)), (2, None));
    let mut records = read(ANSWER).unwrap().records;
    for entry in records.take_entries().into_iter().rev() {
        records.add(entry);
    }
    assert_eq!(written(&records), None);
    assert!(made(&records).starts_with(br#"{"action":"processRecords","records":[{"data":"","#));
}

#[test]
fn the_last_answer_of_a_shard_names_its_children() {
    let batch = read(
        r#"{"Records":[],"NextShardIterator":null,"MillisBehindLatest":0,"ChildShards":[{"ShardId":"shardId-1",
        "ParentShards":["shardId-0"],"HashKeyRange":{"StartingHashKey":"0","EndingHashKey":"340282366920938463463374607431768211455"}}]}"#,
    )
    .unwrap();
    assert_eq!(batch.next_iterator, None);
    assert_eq!(
        batch.child_shards,
        [ChildShard {
            id: "shardId-1".into(),
            parents: vec!["shardId-0".into()],
            hash_range: HashRange::ALL
        }]
    );
}

#[test]
fn what_is_missing_or_null_is_empty_but_for_a_sequence_number() {
    let empty = read("{}").unwrap();
    let nulls = r#"{"Records":null,"NextShardIterator":null,"MillisBehindLatest":null,"ChildShards":null}"#;
    assert_eq!(read(nulls).unwrap(), empty);
    assert!(empty.records.is_empty() && empty.millis_behind_latest.is_none());

    let bare = only_record(r#""Data":null,"PartitionKey":null,"ApproximateArrivalTimestamp":null"#);
    assert_eq!((&bare.data[..], bare.partition_key.as_str()), (&b""[..], ""));
    assert_eq!(bare.approximate_arrival_ms, None);
    assert_eq!(
        error(r#"{"Records":[{"Data":"aGk="}]}"#),
        "a record without sequence number at byte 12 of the answer"
    );
}

#[test]
fn what_nobody_knows_is_skipped() {
    let record = only_record(
        r#""New":{"a":[1,-2.5e3,{"b":null}],"Data":true},"D\u0061ta":"x","Data":"aGk=","PartitionKey":"k""#,
    );
    assert_eq!(&record.data[..], b"hi");
}

#[test]
fn a_slash_of_a_payload_may_be_escaped() {
    assert_eq!(&only_record(r#""Data":"\/\/\/\/""#).data[..], b"\xFF\xFF\xFF");
}

#[test]
fn a_time_is_rounded_to_the_nearest_millisecond() {
    for (text, ms) in [
        ("1767225600.123", 1_767_225_600_123),
        ("1767225600.1234", 1_767_225_600_123),
        ("1767225600.1235", 1_767_225_600_124),
        ("1767225600.99999", 1_767_225_601_000),
        ("1.767225600123E9", 1_767_225_600_123),
        ("1.767225600123E00000009", 1_767_225_600_123),
        ("1.7672256001235E9", 1_767_225_600_124),
        ("0.5E9", 500_000_000_000),
        ("1.5E10", 15_000_000_000_000),
        ("1.25E9", 1_250_000_000_000),
        ("1.767225600123e+9", 1_767_225_600_123),
        ("1767225600123e-3", 1_767_225_600_123),
        ("1767225600.12300000000000000000000000", 1_767_225_600_123),
        ("176722560012300000000000000000000e-23", 1_767_225_600_123),
        ("1767225600", 1_767_225_600_000),
        ("-1.5", -1500),
        ("0", 0),
        ("0e99999999999", 0),
        ("1e-99999999999", 0),
    ] {
        let record = only_record(&format!(r#""ApproximateArrivalTimestamp":{text}"#));
        assert_eq!(record.approximate_arrival_ms, Some(ms), "{text}");
    }
}

#[test]
fn a_bad_answer_is_an_error() {
    let record = |fields: &str| format!(r#"{{"Records":[{{"SequenceNumber":"1",{fields}}}]}}"#);
    for (what, text) in [
        ("nothing", String::new()),
        ("no object", "[]".into()),
        ("something behind it", "{} {}".into()),
        ("a comma too many", r#"{"Records":[],}"#.into()),
        ("no colon", r#"{"Records" []}"#.into()),
        ("records that are no list", r#"{"Records":{}}"#.into()),
        ("a key twice", r#"{"Records":[],"Records":[]}"#.into()),
        ("a record's key twice", record(r#""Data":"","Data":"""#)),
        ("another alphabet", record(r#""Data":"_-_-""#)),
        ("no padding", record(r#""Data":"aGVsbG8""#)),
        ("too much padding", record(r#""Data":"aGVsbG8==""#)),
        ("padding in between", record(r#""Data":"aG==bG8=""#)),
        ("bits behind the end", record(r#""Data":"aGVsbG9=""#)),
        ("a space in a payload", record(r#""Data":"aGVs bG8=""#)),
        ("a newline in a payload", record(r#""Data":"aGVs\nbG8=""#)),
        ("a payload that is no text", record(r#""Data":7"#)),
        (
            "a sequence number with a sign",
            r#"{"Records":[{"SequenceNumber":"-1"}]}"#.into(),
        ),
        (
            "an empty sequence number",
            r#"{"Records":[{"SequenceNumber":""}]}"#.into(),
        ),
        (
            "a sequence number as number",
            r#"{"Records":[{"SequenceNumber":1}]}"#.into(),
        ),
        ("half a surrogate pair", record(r#""PartitionKey":"\ud83d""#)),
        ("no surrogate pair", record(r#""PartitionKey":"\ud83d\u0041""#)),
        ("no escape", record(r#""PartitionKey":"\x41""#)),
        ("no hexadecimal digit", record(r#""PartitionKey":"\u+041""#)),
        ("a raw tab", record("\"PartitionKey\":\"a\tb\"")),
        ("a time as text", record(r#""ApproximateArrivalTimestamp":"1""#)),
        (
            "a time out of range",
            record(r#""ApproximateArrivalTimestamp":1e30"#),
        ),
        ("a number with leading zero", record(r#""New":01"#)),
        ("a number without fraction", record(r#""New":1."#)),
        ("a number without exponent", record(r#""New":1e"#)),
        ("no value", record(r#""New":nul"#)),
        (
            "a child without range",
            r#"{"ChildShards":[{"ShardId":"a"}]}"#.into(),
        ),
        (
            "too deep",
            record(&format!(r#""New":{}{}"#, "[".repeat(100), "]".repeat(100))),
        ),
    ] {
        assert!(read(&text).is_err(), "{what}: {text}");
    }
    assert!(read(b"{\"Records\":[{\"SequenceNumber\":\"1\",\"PartitionKey\":\"\xFF\"}]}").is_err());
    assert!(
        read(b"{\"New\":\"\xFF\"}").is_err(),
        "what is skipped is checked too"
    );
}

#[test]
fn an_answer_that_is_cut_off_anywhere_is_an_error() {
    for end in 0..ANSWER.len() {
        assert!(read(&ANSWER[..end]).is_err(), "{}", &ANSWER[..end]);
    }
}

#[test]
fn an_answer_is_the_same_however_it_is_cut_in_parts() {
    let ending = r#"{"Records":[],"ChildShards":[{"ShardId":"1","HashKeyRange":{"StartingHashKey":"0","EndingHashKey":"9"}}],"MillisBehindLatest":12}"#;
    for text in [ANSWER, ending, "{}"] {
        let whole = read(text).unwrap();
        for bytes in 1..text.len() {
            assert_eq!(
                read_in_parts(text.as_bytes(), bytes).as_ref(),
                Ok(&whole),
                "{bytes} bytes at a time"
            );
        }
        for first in 1..text.len() {
            let mut reading = Reading::default();
            reading.push(&text.as_bytes()[..first]).unwrap();
            reading.push(&text.as_bytes()[first..]).unwrap();
            assert_eq!(reading.finish().as_ref(), Ok(&whole), "cut at {first}");
        }
    }
}

#[test]
fn a_record_that_is_written_as_usual_is_read_as_any_other() {
    let read = |text: &str| read(format!(r#"{{"Records":[{text}]}}"#));
    let usual = r#"{"ApproximateArrivalTimestamp":1.795529441E9,"Data":"aGVsbG8=","PartitionKey":"k","SequenceNumber":"4959012345678"}"#;
    let line = read(usual).unwrap();
    let line = line.records.iter().next().unwrap();
    assert_eq!(line.approximate_arrival_ms, Some(1_795_529_441_000));
    assert_eq!(line.data, Payload::Bytes(b"hello"));
    assert_eq!(
        (line.partition_key.as_str(), line.sequence_number.as_str()),
        ("k", "4959012345678")
    );

    for (from, to) in [
        ("1.795529441E9", "1795529441"),
        ("1.795529441E9", "1795529441.000"),
        ("\"Pa", r#""EncryptionType":"KMS","Pa"#),
        ("\"Pa", r#""EncryptionType":null,"Pa"#),
        ("{", "{ "),
        (r#""Data":"#, r#""Data": "#),
        ("}", " }"),
    ] {
        assert_eq!(read(&usual.replacen(from, to, 1)), read(usual), "{from} is {to}");
    }
    for (from, to) in [
        ("VsbG", "V bG"),
        (r#""k""#, r#""k"#),
        (r#""k""#, "\"\t\""),
        ("678", "67x"),
        ("}", r#","Data":""}"#),
        ("E9", "E99"),
    ] {
        assert!(read(&usual.replacen(from, to, 1)).is_err(), "{from} is {to}");
    }
    let escaped = read(&usual.replace(r#""k""#, r#""\u006b\u00e9""#)).unwrap();
    assert_eq!(
        escaped.records.iter().next().unwrap().partition_key.as_str(),
        "k\u{e9}"
    );
}

#[test]
fn only_what_begins_like_an_aggregate_is_a_suspect() {
    for (data, is_suspect) in [
        (&[0xF3, 0x89, 0x9A, 0xC2][..], true),
        (&[0xF3, 0x89, 0x9A, 0xC2, 0, 0], true),
        (&[0xF3, 0x89, 0x9A, 0xC2, 0xFF], true),
        (&[0xF3, 0x89, 0x9A, 0xC1, 0xFF], false),
        (&[0xF3, 0x89, 0x9A, 0xC3, 0], false),
        (&[0xF3, 0x89, 0x9A], false),
        (b"hello", false),
        (b"", false),
    ] {
        let text = base64_simd::STANDARD.encode_to_string(data);
        let batch = read(format!(
            r#"{{"Records":[{{"SequenceNumber":"1","Data":"{text}"}}]}}"#
        ))
        .unwrap();
        assert_eq!(batch.records.has_suspects(), is_suspect, "{data:x?}");
    }
}

/// What another parser reads in the same answer; `None` where it refuses it.
fn expected(text: &[u8]) -> Option<Batch> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let records = value["Records"].as_array().cloned().unwrap_or_default();
    let records = records.iter().map(|record| {
        let seconds: Option<f64> = record["ApproximateArrivalTimestamp"].as_f64();
        StreamRecord {
            sequence_number: crate::ids::SequenceNumber::parse(record["SequenceNumber"].as_str().unwrap())
                .unwrap(),
            partition_key: record["PartitionKey"].as_str().unwrap_or_default().to_owned(),
            data: base64_simd::STANDARD
                .decode_to_vec(record["Data"].as_str().unwrap_or_default())
                .unwrap()
                .into(),
            approximate_arrival_ms: seconds.map(|seconds| (seconds * 1000.0).round() as i64),
        }
    });
    Some(Batch {
        records: records.collect(),
        next_iterator: value["NextShardIterator"]
            .as_str()
            .map(|text| ShardIterator(text.into())),
        millis_behind_latest: value["MillisBehindLatest"].as_i64(),
        child_shards: Vec::new(),
    })
}

/// An object's text, its keys in the given order, with white space.
fn object(mut fields: Vec<(&str, String)>, order: usize, space: &str) -> String {
    if !fields.is_empty() {
        let places = fields.len();
        fields.rotate_left(order % places);
    }
    let fields: Vec<String> = fields
        .iter()
        .map(|(key, value)| format!("{space}{}{space}:{space}{value}{space}", json!(key)))
        .collect();
    format!("{{{space}{}}}", fields.join(","))
}

fn string(text: &str, escaped: bool) -> String {
    if !escaped {
        return json!(text).to_string();
    }
    let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    format!("\"{units}\"")
}

prop_compose! {
    fn any_record(space: &'static str)(
        number in "[1-9][0-9]{0,60}",
        key in any::<String>(),
        data in proptest::collection::vec(any::<u8>(), 0..80),
        ms in 0..4_000_000_000_000_i64,
        form in 0..4,
        order in 0..5_usize,
        escaped in any::<bool>(),
        usual in any::<bool>(),
        other in prop_oneof![Just("null"), Just("[1,{}]"), Just("\"NONE\""), Just("-0.5E+7"), Just("{\"a\":false}")],
    ) -> String {
        let arrival = match form {
            0 => "null".to_owned(),
            1 => format!("{}.{:03}", ms / 1000, ms % 1000),
            2 => format!("{:e}", ms as f64 / 1000.0),
            _ => format!("{}", ms / 1000),
        };
        let fields = vec![
            ("ApproximateArrivalTimestamp", arrival),
            ("Data", json!(base64_simd::STANDARD.encode_to_string(&data)).to_string()),
            ("EncryptionType", other.to_owned()),
            ("PartitionKey", string(&key, escaped)),
            ("SequenceNumber", json!(number).to_string()),
        ];
        let is_usual = |(key, _): &(&str, String)| *key != "EncryptionType";
        let fields = if usual { fields.into_iter().filter(is_usual).collect() } else { fields };
        object(fields, order, space)
    }
}

prop_compose! {
    fn any_answer()(space in prop_oneof![Just(""), Just(" "), Just("\r\n\t")])(
        records in proptest::collection::vec(any_record(space), 0..5),
        iterator in any::<Option<String>>(),
        behind in any::<Option<i64>>(),
        order in 0..4_usize,
        space in Just(space),
    ) -> String {
        let fields = vec![
            ("Records", format!("[{space}{}{space}]", records.join(","))),
            ("NextShardIterator", json!(iterator).to_string()),
            ("MillisBehindLatest", json!(behind).to_string()),
            ("ChildShards", "null".to_owned()),
        ];
        object(fields, order, space)
    }
}

proptest! {
    #[test]
    fn another_parser_reads_the_same(answer in any_answer(), bytes in 1..100_usize) {
        let batch = read(&answer).unwrap();
        let in_parts = read_in_parts(answer.as_bytes(), bytes);
        prop_assert_eq!(in_parts.as_ref(), Ok(&batch));
        prop_assert_eq!(&batch, &expected(answer.as_bytes()).unwrap());
        let line = written(&batch.records);
        prop_assert_eq!(line.is_some(), !batch.records.is_empty());
        prop_assert!(line.is_none_or(|line| line == made(&batch.records)));
        let sizes: usize = batch.records.data_sizes().map(|size| size as usize).sum();
        prop_assert_eq!(batch.records.data_bytes(), sizes);
        prop_assert_eq!(sizes, batch.records.iter().map(|line| line.data.decoded().len()).sum::<usize>());
    }

    #[test]
    fn a_damaged_answer_is_an_error_or_what_another_parser_reads(
        answer in any_answer(), place in any::<prop::sample::Index>(), byte in prop_oneof![any::<u8>(), proptest::sample::select(b"\"\\{}[],:=0".as_slice())],
    ) {
        let mut answer = answer.into_bytes();
        let place = place.index(answer.len());
        answer[place] = byte;
        let read = read(&answer);
        prop_assert_eq!(&read_in_parts(&answer, 7), &read);
        if let Ok(batch) = read {
            // Both have it that a number of so many digits is rounded somewhere: only whether it can be read counts there.
            let expected = expected(&answer);
            prop_assert!(expected.is_some(), "{}", String::from_utf8_lossy(&answer));
            let positions = |batch: &Batch| batch.records.iter().map(|line| (line.sequence_number.as_str().to_owned(), line.partition_key.as_str().to_owned(), line.data.decoded().into_owned())).collect::<Vec<_>>();
            prop_assert_eq!(positions(&batch), positions(&expected.unwrap()));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = read(bytes);
    }
}
