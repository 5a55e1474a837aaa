use proptest::prelude::*;

use super::*;

fn body(line: &str) -> Result<FromChild, Skipped> {
    parse(line.as_bytes()).map(|message| message.body)
}

fn status(action: &str) -> Result<FromChild, Skipped> {
    Ok(FromChild::Status {
        response_for: Some(action.to_owned()),
    })
}

fn checkpoint(sequence_number: Option<&str>, sub_sequence_number: Option<i64>) -> Result<FromChild, Skipped> {
    let sequence_number = sequence_number.map(str::to_owned);
    Ok(FromChild::Checkpoint(CheckpointRequest {
        sequence_number,
        sub_sequence_number,
    }))
}

// --- protocol.md 4.2: what is accepted, what is skipped

#[test]
fn a_status_is_accepted_in_any_key_order_and_with_white_space() {
    for line in [
        r#"{"action":"status","responseFor":"initialize"}"#,
        r#"{"responseFor":"initialize","action":"status"}"#,
        r#"{"action": "status", "responseFor": "initialize"}"#,
        " \t{ \"action\" :\t\"status\" , \"responseFor\" : \"initialize\" } \t",
        r#"{"\u0061ction":"st\u0061tus","responseFor":"initi\u0061lize"}"#,
    ] {
        assert_eq!(body(line), status("initialize"), "{line}");
    }
}

#[test]
fn an_empty_line_is_no_message_and_not_worth_a_word() {
    assert_eq!(body(""), Err(Skipped::Empty));
}

#[test]
fn text_and_parts_of_json_are_skipped() {
    for line in [
        " ",
        "\t",
        "INFO starting",
        "{",
        "{\"action\"",
        "{\"action\":",
        "{\"action\":\"status\"",
        "{\"action\":\"status\",",
        "{\"action\":\"status\",\"responseFor\":\"initialize\"",
        "}",
    ] {
        assert_eq!(body(line), Err(Skipped::NotAnObject), "{line}");
    }
}

#[test]
fn other_json_than_an_object_is_skipped() {
    for line in [
        "[]",
        r#"[{"action":"status","responseFor":"initialize"}]"#,
        "5",
        "\"x\"",
        "true",
    ] {
        assert_eq!(body(line), Err(Skipped::NotAnObject), "{line}");
    }
}

#[test]
fn the_line_null_is_skipped_and_ends_nothing() {
    for line in ["null", " null ", "null and more", "nullx"] {
        assert_eq!(body(line), Err(Skipped::NotAnObject), "{line}");
    }
}

#[test]
fn an_object_without_a_known_action_is_skipped() {
    for line in [
        "{}",
        r#"{"responseFor":"initialize"}"#,
        r#"{"action":null,"responseFor":"initialize"}"#,
        r#"{"action":"restart"}"#,
        r#"{"action":"Status","responseFor":"initialize"}"#,
        r#"{"action":5}"#,
        r#"{"action":{"action":"status"}}"#,
        r#"{"action":"record","data":""}"#,
    ] {
        assert_eq!(body(line), Err(Skipped::UnknownAction), "{line}");
    }
}

#[test]
fn unknown_keys_are_accepted_with_a_note() {
    let message =
        parse(br#"{"action":"status","responseFor":"initialize","pid":4,"more":{"a":[1]}}"#).unwrap();
    assert_eq!(Ok(message.body), status("initialize"));
    assert_eq!(
        message.notes,
        [
            Note::UnknownKey("pid".to_owned()),
            Note::UnknownKey("more".to_owned())
        ]
    );
}

#[test]
fn a_key_of_another_message_is_an_unknown_key() {
    let message = parse(br#"{"action":"status","responseFor":"initialize","sequenceNumber":"1"}"#).unwrap();
    assert_eq!(Ok(message.body), status("initialize"));
    assert_eq!(message.notes, [Note::UnknownKey("sequenceNumber".to_owned())]);
}

#[test]
fn the_notes_of_one_message_are_few() {
    let keys: String = (0..1000).map(|number| format!(",\"k{number}\":1")).collect();
    let message = parse(format!("{{\"action\":\"status\"{keys}}}").as_bytes()).unwrap();
    assert_eq!(message.notes.len(), NOTES_MAX);
}

#[test]
fn the_old_key_checkpoint_is_another_name_for_sequence_number() {
    let message = parse(br#"{"action":"checkpoint","checkpoint":"4959"}"#).unwrap();
    assert_eq!(Ok(message.body), checkpoint(Some("4959"), None));
    assert_eq!(message.notes, [Note::CheckpointAlias]);
}

#[test]
fn sequence_number_wins_over_the_old_key_if_it_holds_anything() {
    assert_eq!(
        body(r#"{"action":"checkpoint","checkpoint":"1","sequenceNumber":"2"}"#),
        checkpoint(Some("2"), None)
    );
    assert_eq!(
        body(r#"{"action":"checkpoint","checkpoint":"1","sequenceNumber":null}"#),
        checkpoint(Some("1"), None)
    );
    assert_eq!(
        body(r#"{"action":"checkpoint","checkpoint":null}"#),
        checkpoint(None, None)
    );
}

#[test]
fn the_key_error_is_known_in_a_checkpoint() {
    let message = parse(br#"{"action":"checkpoint","error":null,"sequenceNumber":"4959"}"#).unwrap();
    assert_eq!(Ok(message.body), checkpoint(Some("4959"), None));
    assert_eq!(message.notes, []);
}

#[test]
fn action_twice_is_skipped() {
    let line = r#"{"action":"status","responseFor":"initialize","action":"status"}"#;
    assert_eq!(body(line), Err(Skipped::ActionTwice));
}

#[test]
fn of_any_other_key_twice_the_last_one_counts() {
    assert_eq!(
        body(r#"{"action":"status","responseFor":"a","responseFor":"b"}"#),
        status("b")
    );
    assert_eq!(
        body(r#"{"action":"checkpoint","sequenceNumber":"1","sequenceNumber":null}"#),
        checkpoint(None, None)
    );
}

#[test]
fn something_in_front_of_the_object_spoils_the_line() {
    for line in [
        r#"done {"action":"status"}"#,
        r#">{"action":"status"}"#,
        "\u{feff}{\"action\":\"status\"}",
    ] {
        assert_eq!(body(line), Err(Skipped::NotAnObject), "{line}");
    }
}

#[test]
fn what_stands_behind_the_object_is_lost() {
    for rest in [
        " done",
        "x",
        "}",
        r#"{"action":"checkpoint","sequenceNumber":null}"#,
        "\u{0}",
    ] {
        let line = format!(r#"{{"action":"status","responseFor":"initialize"}}{rest}"#);
        assert_eq!(body(&line), status("initialize"), "{line}");
    }
}

#[test]
fn what_only_looks_like_json_is_skipped() {
    for line in [
        r#"{'action':'status'}"#,
        r#"{"action":"status"/* a comment */}"#,
        r#"{"action":"status",}"#,
        r#"{,"action":"status"}"#,
        r#"{"action" "status"}"#,
        r#"{action:"status"}"#,
        r#"{"action":"status","responseFor":NaN}"#,
        r#"{"action":"checkpoint","sequenceNumber":007}"#,
        r#"{"action":"checkpoint","sequenceNumber":+5}"#,
        r#"{"action":"checkpoint","sequenceNumber":.5}"#,
        r#"{"action":"checkpoint","sequenceNumber":5.}"#,
        r#"{"action":"checkpoint","sequenceNumber":5e}"#,
        r#"{"action":"checkpoint","sequenceNumber":-}"#,
        r#"{"action":"checkpoint","sequenceNumber":5 5}"#,
        r#"{"action":"checkpoint","sequenceNumber":nulL}"#,
        "{\"action\":\"sta\ttus\"}",
        "{\"action\":\"status\",\"x\":\"a\u{1f}b\"}",
        r#"{"action":"st\atus"}"#,
        r#"{"action":"st\u00g0tus"}"#,
        r#"{"action":"status","x":[1,]}"#,
        r#"{"action":"status","x":[1}"#,
        r#"{"action":"status","x":{"a"}}"#,
        r#"{"action":"status","x":{"a":1]}"#,
        r#"{"action":"status","x":[1 2]}"#,
        "{\"action\":\"status\",\u{a0}\"responseFor\":\"initialize\"}",
    ] {
        assert_eq!(body(line), Err(Skipped::NotAnObject), "{line}");
    }
}

#[test]
fn what_only_a_daemon_says_is_accepted_and_means_nothing() {
    for line in [
        r#"{"action":"initialize","shardId":"shardId-0","sequenceNumber":"1","subSequenceNumber":0}"#,
        r#"{"action":"processRecords","records":[{"data":"","partitionKey":"k"}],"millisBehindLatest":0}"#,
        r#"{"action":"leaseLost"}"#,
        r#"{"action":"shardEnded"}"#,
        r#"{"action":"shutdownRequested"}"#,
        r#"{"action":"shutdown","reason":"ZOMBIE"}"#,
    ] {
        assert_eq!(body(line), Ok(FromChild::Ignored), "{line}");
    }
}

#[test]
fn an_echo_of_process_records_is_skipped() {
    let line =
        r#"{"action":"processRecords","records":[{"data":"","action":"record"}],"millisBehindLatest":0}"#;
    assert_eq!(body(line), Err(Skipped::Echo));
}

#[test]
fn nesting_is_limited_but_costs_no_stack() {
    let nested = |depth: usize| {
        format!(
            r#"{{"action":"status","x":{}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert_eq!(body(&nested(999)), Ok(FromChild::Status { response_for: None }));
    assert_eq!(body(&nested(1000)), Err(Skipped::NotAnObject));
    assert_eq!(body(&nested(1_000_000)), Err(Skipped::NotAnObject));
}

#[test]
fn bytes_that_are_no_text_become_replacement_characters() {
    let message = parse(b"{\"action\":\"status\",\"responseFor\":\"a\xff\xfeb\"}").unwrap();
    assert_eq!(Ok(message.body), status("a\u{fffd}\u{fffd}b"));
}

#[test]
fn escapes_are_decoded() {
    assert_eq!(
        body(r#"{"action":"status","responseFor":"\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00"}"#),
        status("\"\\/\u{8}\u{c}\n\r\té😀")
    );
    assert_eq!(
        body(r#"{"action":"status","responseFor":"\ud83dx\ude00\ud83d\u0041"}"#),
        status("\u{fffd}x\u{fffd}\u{fffd}A")
    );
}

// --- protocol.md 4.3: coercions

#[test]
fn a_number_for_a_text_keeps_every_digit() {
    let digits = "49590338271490256608559692540925702759324208523137515618";
    let line = |value: &str| format!(r#"{{"action":"checkpoint","sequenceNumber":{value}}}"#);
    assert_eq!(body(&line(digits)), checkpoint(Some(digits), None));
    for (value, text) in [
        ("4.9e3", "4.9e3"),
        ("-0", "-0"),
        ("1E+2", "1E+2"),
        ("0.10", "0.10"),
        ("true", "true"),
        ("false", "false"),
    ] {
        assert_eq!(body(&line(value)), checkpoint(Some(text), None));
    }
}

#[test]
fn an_object_or_a_list_for_a_text_is_skipped() {
    for value in ["{}", "[]", "[\"1\"]"] {
        let line = format!(r#"{{"action":"checkpoint","sequenceNumber":{value}}}"#);
        assert_eq!(body(&line), Err(Skipped::BadValue("sequenceNumber")), "{line}");
        let line = format!(r#"{{"action":"status","responseFor":{value}}}"#);
        assert_eq!(body(&line), Err(Skipped::BadValue("responseFor")), "{line}");
    }
}

#[test]
fn a_number_has_at_most_a_thousand_characters_but_a_text_may_have_more() {
    let line = |value: &str| format!(r#"{{"action":"checkpoint","sequenceNumber":{value}}}"#);
    let digits = "9".repeat(1000);
    assert_eq!(body(&line(&digits)), checkpoint(Some(&digits), None));
    let digits = "9".repeat(1001);
    assert_eq!(body(&line(&digits)), Err(Skipped::NotAnObject));
    assert_eq!(
        body(&line(&format!("\"{digits}\""))),
        checkpoint(Some(&digits), None)
    );
}

#[test]
fn a_sub_sequence_number_is_coerced_as_java_does() {
    let sub = |value: &str| {
        body(&format!(
            r#"{{"action":"checkpoint","sequenceNumber":"1","subSequenceNumber":{value}}}"#
        ))
    };
    for (value, number) in [
        ("7", 7),
        ("\"7\"", 7),
        ("\" 7 \"", 7),
        ("\"+7\"", 7),
        ("\"-7\"", -7),
        ("\"007\"", 7),
        ("7.9", 7),
        ("-7.9", -7),
        ("-0.9", 0),
        ("7e2", 700),
        ("0e5", 0),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
    ] {
        assert_eq!(sub(value), checkpoint(Some("1"), Some(number)), "{value}");
    }
    for value in ["null", "\"\"", "\"  \"", "\"null\"", "\" null \""] {
        assert_eq!(sub(value), checkpoint(Some("1"), None), "{value}");
    }
    for value in [
        "true",
        "\"x\"",
        "\"7.9\"",
        "{}",
        "[]",
        "[7]",
        "9223372036854775808",
        "1e19",
        "1e400",
        "\"9223372036854775808\"",
    ] {
        assert_eq!(sub(value), Err(Skipped::BadValue("subSequenceNumber")), "{value}");
    }
}

#[test]
fn a_missing_key_is_null() {
    assert_eq!(
        body(r#"{"action":"status"}"#),
        Ok(FromChild::Status { response_for: None })
    );
    assert_eq!(
        body(r#"{"action":"status","responseFor":null}"#),
        Ok(FromChild::Status { response_for: None })
    );
    assert_eq!(body(r#"{"action":"checkpoint"}"#), checkpoint(None, None));
}

// --- laws

/// Text that comes close to a message more often than chance would.
fn nearly_json() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(":"),
        Just(","),
        Just(" "),
        Just("\""),
        Just("\\"),
        Just("\\u00"),
        Just("\"action\""),
        Just("\"status\""),
        Just("\"checkpoint\""),
        Just("\"sequenceNumber\""),
        Just("\"responseFor\""),
        Just("null"),
        Just("true"),
        Just("-"),
        Just("0"),
        Just("12"),
        Just("."),
        Just("e5"),
        Just("é"),
        Just("\u{1}"),
    ];
    let tail = proptest::collection::vec(token, 0..20).prop_map(|tokens| tokens.concat());
    prop_oneof![
        tail.clone(),
        tail.prop_map(|tail| format!("{{\"action\":\"checkpoint\",\"sequenceNumber\":{tail}"))
    ]
}

proptest! {
    #[test]
    fn no_line_is_too_strange(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        drop(parse(&line));
    }

    #[test]
    fn what_another_parser_takes_for_an_object_is_one(line in nearly_json()) {
        let theirs = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&line).is_ok();
        let ours = body(&line) != Err(Skipped::NotAnObject);
        // We also accept what has text behind it, and what has half a surrogate pair in it.
        prop_assert!(ours || !theirs, "{}", line);
    }

    #[test]
    fn what_another_writer_writes_is_read_back(
        sequence_number in any::<Option<String>>(),
        sub_sequence_number in any::<Option<i64>>(),
        pretty in any::<bool>(),
    ) {
        let message = serde_json::json!({
            "subSequenceNumber": sub_sequence_number,
            "action": "checkpoint",
            "sequenceNumber": sequence_number,
        });
        let line = if pretty { format!("{message:#}") } else { message.to_string() };
        prop_assert_eq!(body(&line), checkpoint(sequence_number.as_deref(), sub_sequence_number));
    }
}
