use std::sync::{Arc, Mutex};

use bytes::Bytes;
use multilangd_core::ids::SequenceNumber;
use multilangd_core::stream::StreamRecord;
use tokio::io::AsyncBufReadExt;

use super::*;
use crate::child::outgoing::BUFFER_KEPT_BYTES_MAX;
use crate::child::{ChildCommand, Spawned};

/// Far longer than anything here takes.
const SOON: Duration = Duration::from_secs(60);
/// What a child that must not be waited for is given.
const SHORT: Duration = Duration::from_millis(200);

// --- the ends of a tenure

#[tokio::test]
async fn a_tenure_ends_with_lease_lost() {
    let mut tenure = Tenure::python(
        r#"
        hear("processRecords"); checkpoint(); answer("processRecords")
        hear("leaseLost"); answer("leaseLost")
        "#,
    )
    .await;
    tenure.process(&[record("1"), record("2")]).await.unwrap();
    assert_eq!(tenure.stored(), ["2"]);
    tenure.session.lease_lost().await.unwrap();
    assert_eq!(tenure.session.end().await, exited(0));
}

#[tokio::test]
async fn a_tenure_ends_with_shard_ended() {
    let mut tenure = Tenure::python(
        r#"
        hear("processRecords"); answer("processRecords")
        hear("shardEnded"); checkpoint(); answer("shardEnded")
        "#,
    )
    .await;
    tenure.process(&[record("1")]).await.unwrap();
    tenure.shard_ended().await.unwrap();
    assert_eq!(tenure.stored(), ["SHARD_END"]);
    assert!(tenure.checkpoints.is_finished());
    assert_eq!(tenure.session.end().await, exited(0));
}

#[tokio::test]
async fn a_tenure_ends_with_shutdown_requested_and_lease_lost() {
    let mut tenure = Tenure::python(
        r#"
        hear("processRecords"); answer("processRecords")
        hear("shutdownRequested"); checkpoint(); answer("shutdownRequested")
        hear("leaseLost"); answer("leaseLost")
        "#,
    )
    .await;
    tenure.process(&[record("1")]).await.unwrap();
    tenure.shutdown_requested().await.unwrap();
    assert_eq!(tenure.stored(), ["1"]);
    tenure.session.lease_lost().await.unwrap();
    assert_eq!(tenure.session.end().await, exited(0));
}

#[tokio::test]
async fn a_tenure_may_end_without_a_word() {
    let tenure = Tenure::python("assert sys.stdin.readline() == ''\nsys.exit(3)").await;
    assert_eq!(tenure.session.end().await, exited(3));
}

#[tokio::test]
async fn a_child_that_leaves_after_it_agreed_to_stop_is_not_told_that_the_lease_is_lost() {
    let mut tenure = Tenure::python(r#"hear("shutdownRequested"); answer("shutdownRequested")"#).await;
    tenure.shutdown_requested().await.unwrap();
    tenure.session.lease_lost().await.unwrap(); // whether it has left yet or only will
    assert_eq!(tenure.session.end().await, exited(0));
}

#[tokio::test]
async fn a_child_that_has_left_after_it_agreed_to_stop_is_not_told_either() {
    let mut tenure = Tenure::python(r#"hear("shutdownRequested"); answer("shutdownRequested")"#).await;
    tenure.shutdown_requested().await.unwrap();
    tenure.session.process.wait().await.unwrap();
    tenure.session.lease_lost().await.unwrap();
    assert_eq!(tenure.session.end().await, exited(0));
}

#[tokio::test]
async fn a_wrong_answer_to_shutdown_requested_is_an_error_but_lease_lost_still_follows() {
    let mut tenure = Tenure::python(
        r#"
        hear("shutdownRequested"); answer("leaseLost")
        hear("leaseLost"); answer("leaseLost")
        "#,
    )
    .await;
    assert!(matches!(
        tenure.shutdown_requested().await,
        Err(ChildError::WrongStatus { .. })
    ));
    tenure.session.lease_lost().await.unwrap();
    assert_eq!(tenure.session.end().await, exited(0));
}

// --- what goes over the pipes

#[tokio::test]
async fn the_child_is_told_its_shard_and_its_position() {
    let script = r#"
import sys, json
print(sys.stdin.readline().strip(), file=sys.stderr)
print('{"action":"status","responseFor":"initialize"}', flush=True)
"#;
    let command = ChildCommand::new(["python3", "-c", script].map(String::from).to_vec());
    let mut tenure = Tenure::with(&command, SessionSettings::default()).await;
    tenure
        .session
        .initialize(&Position::parse("4959", 3).unwrap())
        .await
        .unwrap();
    assert_eq!(
        tenure.session.last_words().await,
        [
            r#"{"action":"initialize","shardId":"shardId-000000000000","sequenceNumber":"4959","subSequenceNumber":3}"#
        ]
    );
}

#[tokio::test]
async fn ten_megabytes_arrive_as_they_were_sent() {
    let mut tenure = Tenure::python(
        r#"
        import base64, hashlib
        sha = hashlib.sha256()
        for record in hear("processRecords")["records"]: sha.update(base64.b64decode(record["data"], validate=True))
        say('{"action":"checkpoint","sequenceNumber":"%d"}' % (int(sha.hexdigest(), 16) % 1000)); sys.stdin.readline()
        answer("processRecords")
        "#,
    )
    .await;
    let data: Vec<u8> = (0..1_000_000u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let records: Vec<StreamRecord> = (0..10)
        .map(|part| StreamRecord {
            data: Bytes::from(data[part * 1_000..].to_vec()),
            ..record(&(1001 + part).to_string())
        })
        .collect();
    tenure.process(&records).await.unwrap();
    // The last three digits of the SHA-256 of the same bytes, made by other means.
    assert_eq!(tenure.stored(), ["870"]);
    assert!(
        tenure.session.out.kept_bytes() <= BUFFER_KEPT_BYTES_MAX,
        "the buffer of large records is given back"
    );
}

#[tokio::test]
async fn a_child_that_talks_while_it_is_written_to_does_not_block() {
    // Neither side could go on if the daemon wrote its 13 MB first: the child writes more than a pipe holds.
    let mut tenure = Tenure::python(
        r#"
        for number in range(3000): say("starting %d %s" % (number, "." * 1000))
        say('{"action":"checkpoint","sequenceNumber":"1"}')
        hear("processRecords"); hear("checkpoint")
        for number in range(3000): say("done %d %s" % (number, "." * 1000))
        answer("processRecords")
        "#,
    )
    .await;
    let large = StreamRecord {
        data: Bytes::from(vec![7; 10_000_000]),
        ..record("1")
    };
    tenure.process(&[large]).await.unwrap();
    assert_eq!(tenure.stored(), ["1"]);
}

#[tokio::test]
async fn stray_output_is_skipped() {
    let mut tenure = Tenure::python(
        r#"
        hear("processRecords")
        sys.stdout.write("no newline yet"); sys.stdout.write("\nnull\n[]\n{}\n\r\n\r progress 10%\r progress 20%\r")
        sys.stdout.flush()
        os.write(1, b"\xff\xfe\x00\n")
        say('{"action":"status","responseFor":"processRecords","pid":4}')
        "#,
    )
    .await;
    tenure.process(&[record("1")]).await.unwrap();
}

#[tokio::test]
async fn a_child_that_prints_all_the_time_between_actions_does_not_block() {
    let mut tenure = Tenure::python(
        r#"
        for number in range(3000): say("thinking %s" % ("." * 1000))
        os.kill(os.getpid(), signal.SIGKILL)
        "#,
    )
    .await;
    let error = timeout(SOON, tenure.session.left()).await.unwrap();
    assert!(
        matches!(
            error,
            ChildError::Left {
                how: Departure::Exited(137),
                ..
            }
        ),
        "{error}"
    );
}

// --- checkpoints

#[tokio::test]
async fn requests_that_do_not_wait_for_replies_are_answered_in_order() {
    let mut tenure = Tenure::python(
        r#"
        hear("processRecords")
        for number in range(500): sys.stdout.write('{"action":"checkpoint","sequenceNumber":"%d"}\n' % (1000 + number))
        answer("processRecords")
        for number in range(500): assert hear("checkpoint")["sequenceNumber"] == str(1000 + number)
        hear("leaseLost"); answer("leaseLost")
        "#,
    )
    .await;
    tenure.process(&[record("2000")]).await.unwrap();
    let expected: Vec<String> = (1000..1500).map(|number| number.to_string()).collect();
    assert_eq!(tenure.stored(), expected);
    tenure.session.lease_lost().await.unwrap();
    assert_eq!(tenure.session.end().await, exited(0));
}

#[tokio::test]
async fn a_checkpoint_that_fails_is_told_by_its_java_name_and_fails_nothing_else() {
    let mut tenure = Tenure::python(
        r#"
        hear("processRecords")
        say('{"action":"checkpoint","sequenceNumber":null}')
        error = hear("checkpoint")["error"]
        answer("processRecords") if error == "ThrottlingException" else answer(error)
        "#,
    )
    .await;
    tenure.store.fails_with = Some(CheckpointError::Throttled);
    tenure.process(&[record("1")]).await.unwrap();
    assert_eq!(tenure.checkpoints.last(), &Position::TrimHorizon);
}

#[tokio::test]
async fn a_checkpoint_out_of_range_is_an_illegal_argument() {
    let mut tenure = Tenure::python(
        r#"
        hear("processRecords")
        say('{"action":"checkpoint","sequenceNumber":"2"}')
        error = hear("checkpoint")["error"]
        answer("processRecords") if error == "IllegalArgumentException" else answer(error)
        "#,
    )
    .await;
    tenure.process(&[record("1")]).await.unwrap();
    assert_eq!(tenure.stored(), [""; 0]);
}

#[tokio::test]
async fn a_checkpoint_where_there_is_nothing_to_checkpoint_is_an_invalid_state() {
    let mut tenure = Tenure::python(
        r#"
        hear("leaseLost")
        say('{"action":"checkpoint","sequenceNumber":null}')
        error = hear("checkpoint")["error"]
        answer("leaseLost") if error == "InvalidStateException" else answer(error)
        "#,
    )
    .await;
    tenure.session.lease_lost().await.unwrap();
}

#[tokio::test]
async fn a_request_between_two_actions_is_performed_in_the_next() {
    let mut tenure = Tenure::python(
        r#"
        hear("processRecords"); answer("processRecords")
        say('{"action":"checkpoint","sequenceNumber":null}')
        say("\n" * 100_000) # more than a pipe holds, so the request is read when this has been written
        hear("processRecords"); hear("checkpoint"); answer("processRecords")
        "#,
    )
    .await;
    tenure.process(&[record("1")]).await.unwrap();
    while tenure.session.messages.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(tenure.stored(), [""; 0]);
    tenure.process(&[record("2")]).await.unwrap();
    assert_eq!(tenure.stored(), ["2"]);
}

#[tokio::test]
async fn a_second_status_for_the_same_action_does_not_answer_the_next() {
    let mut tenure = Tenure::python(
        r#"
        hear("processRecords"); answer("processRecords"); answer("processRecords")
        hear("processRecords"); checkpoint(); answer("processRecords")
        "#,
    )
    .await;
    tenure.process(&[record("1")]).await.unwrap();
    while tenure.session.messages.is_empty() {
        tokio::task::yield_now().await;
    }
    tenure.process(&[record("2")]).await.unwrap();
    assert_eq!(tenure.stored(), ["2"], "the second batch was waited for");
}

#[tokio::test(start_paused = true)]
async fn a_child_that_does_not_read_its_replies_is_not_heard_until_it_does() {
    let (mut session, mut child) = Child::in_memory(SessionSettings::default()).await;
    let (mut checkpoints, mut store) = (Checkpoints::begin(Position::Latest), Stored::default());
    let positions = Arc::clone(&store.positions);
    let talk = async {
        child.hears().await;
        child
            .says(r#"{"action":"status","responseFor":"initialize"}"#)
            .await;
        child.hears().await;
        for number in 1..=3000 {
            child
                .says(&format!(
                    r#"{{"action":"checkpoint","sequenceNumber":"{number}"}}"#
                ))
                .await;
        }
        tokio::time::sleep(Duration::from_secs(1)).await; // of paused time: nothing else can happen
        let performed = positions.lock().unwrap().len();
        assert!(
            (1000..2500).contains(&performed),
            "{performed} replies of 90 bytes each in 2 x 64 KiB"
        );
        for number in 1..=3000 {
            assert!(
                child
                    .hears()
                    .await
                    .contains(&format!(r#""sequenceNumber":"{number}","#))
            );
        }
        child
            .says(r#"{"action":"status","responseFor":"processRecords"}"#)
            .await;
    };
    let ask = async {
        session.initialize(&Position::Latest).await.unwrap();
        session
            .process_records(packed(&[record("5000")]), None, &mut checkpoints, &mut store)
            .await
            .unwrap();
    };
    tokio::join!(ask, talk);
    assert_eq!(positions.lock().unwrap().len(), 3000);
}

// --- children that fail

#[tokio::test]
async fn a_crash_in_a_batch_says_how_and_shows_what_the_child_said_last() {
    let mut tenure = Tenure::python(r#"hear("processRecords"); raise ValueError("no such thing")"#).await;
    let error = tenure.process(&[record("1")]).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with(
            "the child of shardId-000000000000 exited with code 1 before it answered processRecords; \
             its last lines on stderr:\n  Traceback (most recent call last):\n"
        ),
        "{text}"
    );
    assert!(text.ends_with("\n  ValueError: no such thing"), "{text}");
    assert_eq!(tenure.session.end().await, exited(1));
}

#[tokio::test]
async fn a_child_that_a_signal_ends_says_which() {
    let mut tenure = Tenure::python(r#"hear("processRecords"); os.kill(os.getpid(), signal.SIGKILL)"#).await;
    assert_eq!(
        tenure.process(&[record("1")]).await.unwrap_err().to_string(),
        "the child of shardId-000000000000 was ended by signal 9 (exit code 137) before it answered processRecords; \
         it wrote nothing to stderr"
    );
}

#[tokio::test]
async fn a_status_is_heard_even_if_the_child_exits_right_after_it() {
    let mut tenure = Tenure::python(r#"hear("processRecords"); answer("processRecords"); os._exit(5)"#).await;
    tenure.process(&[record("1")]).await.unwrap();
    let error = tenure.process(&[record("2")]).await.unwrap_err();
    assert!(
        matches!(
            error,
            ChildError::Left {
                how: Departure::Exited(5),
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_child_that_leaves_between_two_actions_is_noticed_at_once() {
    let mut tenure = Tenure::python("sys.exit(4)").await;
    let error = timeout(SOON, tenure.session.left()).await.unwrap();
    assert_eq!(
        error.to_string(),
        "the child of shardId-000000000000 exited with code 4 between two actions, while the daemon still held the \
         shard; it wrote nothing to stderr"
    );
}

#[tokio::test]
async fn a_child_that_left_is_noticed_again_by_whoever_asks_again() {
    let mut tenure = Tenure::python(
        r#"
        import subprocess
        subprocess.Popen(["sleep", "600"]) # holds the pipes, so that only the exit tells
        os._exit(4)
        "#,
    )
    .await;
    for _ in 0..2 {
        let error = timeout(SOON, tenure.session.left()).await.unwrap();
        assert!(
            matches!(
                error,
                ChildError::Left {
                    how: Departure::Exited(4),
                    ..
                }
            ),
            "{error}"
        );
    }
    let error = timeout(SOON, tenure.shutdown_requested())
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("exited with code 4 before it answered shutdownRequested"),
        "{error}"
    );
}

#[tokio::test]
async fn a_child_that_closes_its_output_is_noticed_at_once() {
    let mut tenure = Tenure::python("os.close(1); sys.stdin.readline()").await;
    let error = timeout(SOON, tenure.session.left()).await.unwrap();
    assert!(
        matches!(
            error,
            ChildError::Left {
                how: Departure::ClosedOutput,
                action: None,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_child_that_agreed_to_stop_may_leave() {
    let mut tenure = Tenure::python(r#"hear("shutdownRequested"); answer("shutdownRequested")"#).await;
    tenure.shutdown_requested().await.unwrap();
    tenure.session.process.wait().await.unwrap();
    assert!(
        timeout(SHORT, tenure.session.left()).await.is_err(),
        "nobody left who was needed"
    );
}

#[tokio::test]
async fn a_right_status_counts_even_if_the_rest_of_the_batch_is_never_read() {
    let mut tenure = Tenure::python(r#"sys.stdin.read(10); answer("processRecords"); os._exit(0)"#).await;
    let large = StreamRecord {
        data: Bytes::from(vec![7; 1_000_000]),
        ..record("1")
    };
    tenure.process(&[large]).await.unwrap();
}

#[tokio::test]
async fn a_right_status_counts_even_if_a_grandchild_keeps_the_input_open_unread() {
    let mut tenure = Tenure::python(
        r#"
        import subprocess
        sys.stdin.read(10)
        subprocess.Popen(["sleep", "600"], stdin=0)
        answer("processRecords"); os._exit(0)
        "#,
    )
    .await;
    let large = StreamRecord {
        data: Bytes::from(vec![7; 1_000_000]),
        ..record("1")
    };
    timeout(SOON, tenure.process(&[large])).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_child_that_has_closed_its_input_is_not_asked_again() {
    let script = r#"
        sys.stdin.read(10); os.close(0); answer("processRecords")
        time.sleep(60)
        "#;
    let mut tenure = Tenure::python(script).await;
    let large = StreamRecord {
        data: Bytes::from(vec![7; 1_000_000]),
        ..record("1")
    };
    tenure.process(&[large]).await.unwrap();
    let error = timeout(SOON, tenure.process(&[record("2")]))
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(
            error,
            ChildError::Left {
                how: Departure::ClosedInput,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_child_that_closes_its_input_and_does_not_answer_is_given_up() {
    let settings = SessionSettings {
        exit_patience: SHORT,
        ..SessionSettings::default()
    };
    let mut tenure = Tenure::python_with("os.close(0); time.sleep(60)", settings).await;
    let large = StreamRecord {
        data: Bytes::from(vec![7; 1_000_000]),
        ..record("1")
    };
    let error = timeout(SOON, tenure.process(&[large]))
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(
            error,
            ChildError::Left {
                how: Departure::ClosedInput,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_wrong_status_is_an_error_that_shows_both() {
    let mut tenure = Tenure::python(r#"hear("processRecords"); answer("initialize")"#).await;
    assert_eq!(
        tenure.process(&[record("1")]).await.unwrap_err().to_string(),
        "the child of shardId-000000000000 answered processRecords with a status for 'initialize'; it must send one \
         status per action, with responseFor set to that action; it wrote nothing to stderr"
    );
}

#[tokio::test]
async fn a_program_that_is_not_there_is_an_error_that_names_the_setting() {
    let command = ChildCommand::new(vec!["/no/such/program".to_owned()]);
    let error = ChildSession::start(&command, &"shardId-7".into(), SessionSettings::default())
        .await
        .err()
        .unwrap();
    assert!(
        error.to_string().starts_with(
            "the child of shardId-7 cannot be started: there is no file '/no/such/program' (seen from /"
        ) && error.to_string().ends_with("); check executableName"),
        "{error}"
    );
}

#[tokio::test]
async fn what_cannot_follow_is_not_said() {
    let mut tenure = Tenure::python("sys.stdin.readline()").await;
    let error = tenure.session.initialize(&Position::Latest).await.unwrap_err();
    assert!(matches!(error, ChildError::OutOfTurn { .. }), "{error}");
}

// --- time

#[tokio::test]
async fn a_slow_start_is_waited_for() {
    let script = r#"
import sys, time
sys.stdin.readline()
time.sleep(1)
print('{"action":"status","responseFor":"initialize"}', flush=True)
"#;
    let command = ChildCommand::new(["python3", "-c", script].map(String::from).to_vec());
    let mut tenure = Tenure::with(&command, SessionSettings::default()).await;
    tenure.session.initialize(&Position::Latest).await.unwrap();
}

#[tokio::test]
async fn silence_for_too_long_is_an_error_that_names_the_setting() {
    let settings = SessionSettings {
        reply_timeout: Some(Duration::from_secs(1)),
        ..SessionSettings::default()
    };
    let mut tenure = Tenure::python_with(r#"hear("processRecords"); sys.stdin.readline()"#, settings).await;
    assert_eq!(
        tenure.process(&[record("1")]).await.unwrap_err().to_string(),
        "the child of shardId-000000000000 did not answer processRecords within 1 s (timeoutInSeconds); raise it if \
         the child needs longer for one batch; it wrote nothing to stderr"
    );
}

#[tokio::test]
async fn stray_output_does_not_count_as_an_answer() {
    let settings = SessionSettings {
        reply_timeout: Some(Duration::from_secs(1)),
        ..SessionSettings::default()
    };
    let script = r#"
        hear("processRecords")
        while True: say("still working"); time.sleep(0.05)
        "#;
    let mut tenure = Tenure::python_with(script, settings).await;
    let error = timeout(SOON, tenure.process(&[record("1")]))
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, ChildError::TimedOut { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn each_message_restarts_the_wait_and_storing_a_checkpoint_does_not_count() {
    let settings = SessionSettings {
        reply_timeout: Some(Duration::from_secs(10)),
        ..SessionSettings::default()
    };
    let (mut session, mut child) = Child::in_memory(settings).await;
    let wait = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
    let talk = async {
        child.hears().await;
        for _ in 0..3 {
            wait(9).await;
            child
                .says(r#"{"action":"checkpoint","sequenceNumber":null}"#)
                .await;
            child.hears().await;
        }
        wait(9).await;
        child
            .says(r#"{"action":"status","responseFor":"initialize"}"#)
            .await;
    };
    let (initialized, ()) = tokio::join!(session.initialize(&Position::Latest), talk);
    initialized.unwrap();

    let talk = async {
        child.hears().await;
        child
            .says(r#"{"action":"checkpoint","sequenceNumber":null}"#)
            .await;
        child.hears().await;
        wait(9).await;
        child
            .says(r#"{"action":"status","responseFor":"processRecords"}"#)
            .await;
    };
    let (mut checkpoints, mut store) = (
        Checkpoints::begin(Position::Latest),
        SlowStore(Duration::from_secs(100)),
    );
    let records = [record("1")];
    let (processed, ()) = tokio::join!(
        session.process_records(packed(&records), None, &mut checkpoints, &mut store),
        talk
    );
    processed.unwrap();

    let waited = Instant::now();
    let error = session.lease_lost().await.unwrap_err();
    assert!(matches!(error, ChildError::TimedOut { .. }), "{error}");
    assert_eq!(waited.elapsed(), Duration::from_secs(10));
}

// --- the end of the process

#[tokio::test]
async fn a_child_that_ignores_the_end_of_its_input_gets_sigterm() {
    let settings = SessionSettings {
        exit_patience: SHORT,
        ..SessionSettings::default()
    };
    let script = r#"
        signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
        hear("processRecords"); answer("processRecords")
        while True: time.sleep(60)
        "#;
    let mut tenure = Tenure::python_with(script, settings).await;
    tenure.process(&[]).await.unwrap(); // it has its handler now
    assert_eq!(
        tenure.session.end().await,
        ChildEnd {
            code: Some(9),
            ending: Ending::Terminated
        }
    );
}

#[tokio::test]
async fn a_child_that_ignores_sigterm_too_gets_sigkill() {
    let settings = SessionSettings {
        exit_patience: SHORT,
        term_patience: SHORT,
        ..SessionSettings::default()
    };
    let script = r#"
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        hear("processRecords"); answer("processRecords")
        while True: time.sleep(60)
        "#;
    let mut tenure = Tenure::python_with(script, settings).await;
    tenure.process(&[]).await.unwrap();
    assert_eq!(
        tenure.session.end().await,
        ChildEnd {
            code: Some(137),
            ending: Ending::Killed
        }
    );
}

#[tokio::test]
async fn a_grandchild_that_holds_the_pipes_does_not_hold_up_the_end() {
    let mut tenure = Tenure::python(
        r#"
        import subprocess
        hear("processRecords")
        grandchild = subprocess.Popen(["sleep", "600"])
        say('{"action":"checkpoint","sequenceNumber":"%d"}' % grandchild.pid); sys.stdin.readline()
        answer("processRecords")
        os._exit(0)
        "#,
    )
    .await;
    tenure.process(&[record("99999999")]).await.unwrap();
    let grandchild = tenure.stored()[0].clone();
    assert_eq!(timeout(SOON, tenure.session.end()).await.unwrap(), exited(0));
    is_gone(grandchild.parse().unwrap()).await;
}

#[tokio::test]
async fn a_child_that_exited_while_a_grandchild_holds_its_output_is_given_up() {
    let mut tenure = Tenure::python(
        r#"
        import subprocess
        hear("processRecords")
        subprocess.Popen(["sleep", "600"])
        os._exit(6)
        "#,
    )
    .await;
    let error = timeout(SOON, tenure.process(&[record("1")]))
        .await
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(
            error,
            ChildError::Left {
                how: Departure::Exited(6),
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_talkative_child_can_still_end() {
    let tenure = Tenure::python(
        r#"
        sys.stdin.readline()
        for number in range(50_000): sys.stdout.write('{"action":"checkpoint","sequenceNumber":null}\n')
        sys.stdout.flush()
        "#,
    )
    .await;
    assert_eq!(tenure.session.end().await, exited(0));
}

#[tokio::test]
async fn dropping_a_session_in_the_middle_of_a_batch_kills_the_child() {
    let mut tenure = Tenure::python("sys.stdin.read()\ntime.sleep(60)").await;
    let pid = tenure.session.pid().unwrap();
    assert!(timeout(SHORT, tenure.process(&[record("1")])).await.is_err());
    drop(tenure);
    is_gone(pid).await;
}

// --- stderr

#[tokio::test]
async fn each_line_of_stderr_is_logged_once_with_its_shard() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let settings = SessionSettings {
        stderr_level: Level::WARN,
        ..SessionSettings::default()
    };
    let tenure = Tenure::python_with(
        r#"
        os.write(2, b"one\ntwo\r\n\xffthree\n" + b"x" * 70_000 + b"\nlast")
        "#,
        settings,
    )
    .await;
    tenure.session.end().await;
    let (head, tail) = ("x".repeat(65_536), "x".repeat(4_464));
    let expected = ["one", "two", "\u{fffd}three", &head, &tail, "last"];
    let expected = expected.map(|line| format!("WARN shard=shardId-000000000000 line={line}"));
    assert_eq!(*log.0.lock().unwrap(), expected);
}

#[test]
fn a_session_can_live_in_a_task() {
    fn check<T: Send>(_: T) {}
    #[expect(dead_code, reason = "only its types matter")]
    fn compiles(mut session: ChildSession, mut checkpoints: Checkpoints, mut store: Stored) {
        check(session.process_records(Records::default(), None, &mut checkpoints, &mut store));
        check(session.left());
        check(session.end());
    }
}

// --- what the stories above are told with

fn exited(code: i32) -> ChildEnd {
    ChildEnd {
        code: Some(code),
        ending: Ending::ByItself,
    }
}

/// Waits for a process to be gone, or a zombie that somebody else must reap.
async fn is_gone(pid: u32) {
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let gone = async {
        while !stat().is_empty() && !stat().contains(") Z ") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, gone)
        .await
        .unwrap_or_else(|_| panic!("process {pid} is still there"));
}

const PRELUDE: &str = r#"
import sys, json, os, time, signal
def say(line): sys.stdout.write(line + "\n"); sys.stdout.flush()
def answer(action): say(json.dumps({"action": "status", "responseFor": action}))
def hear(action):
    message = json.loads(sys.stdin.readline())
    assert message["action"] == action, message
    return message
def checkpoint():
    say('{"action":"checkpoint","sequenceNumber":null}')
    assert hear("checkpoint")["error"] is None
hear("initialize")
answer("initialize")
"#;

struct Tenure {
    session: ChildSession,
    checkpoints: Checkpoints,
    store: Stored,
}

impl Tenure {
    /// A child that has been initialized and goes on with the script.
    async fn python(script: &str) -> Self {
        Self::python_with(script, SessionSettings::default()).await
    }

    async fn python_with(script: &str, settings: SessionSettings) -> Self {
        let first = script
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default();
        let indent = first.len() - first.trim_start().len();
        let script: String = script
            .lines()
            .map(|line| format!("{}\n", line.get(indent..).unwrap_or_default()))
            .collect();
        let argv = [
            "python3".to_owned(),
            "-c".to_owned(),
            format!("{PRELUDE}{script}"),
        ];
        let mut tenure = Self::with(&ChildCommand::new(argv.to_vec()), settings).await;
        let reply_timeout = tenure.session.settings.reply_timeout.take(); // the start of Python is no part of the story
        tenure.session.initialize(&Position::TrimHorizon).await.unwrap();
        tenure.session.settings.reply_timeout = reply_timeout;
        tenure
    }

    async fn with(command: &ChildCommand, settings: SessionSettings) -> Self {
        let session = ChildSession::start(command, &"shardId-000000000000".into(), settings)
            .await
            .unwrap();
        Self {
            session,
            checkpoints: Checkpoints::begin(Position::TrimHorizon),
            store: Stored::default(),
        }
    }

    async fn process(&mut self, records: &[StreamRecord]) -> Result<(), ChildError> {
        self.session
            .process_records(packed(records), Some(0), &mut self.checkpoints, &mut self.store)
            .await
    }

    async fn shutdown_requested(&mut self) -> Result<(), ChildError> {
        self.session
            .shutdown_requested(&mut self.checkpoints, &mut self.store)
            .await
    }

    async fn shard_ended(&mut self) -> Result<(), ChildError> {
        self.session
            .shard_ended(&mut self.checkpoints, &mut self.store)
            .await
    }

    fn stored(&self) -> Vec<String> {
        self.store.positions.lock().unwrap().clone()
    }
}

#[derive(Clone, Default)]
struct Stored {
    positions: Arc<Mutex<Vec<String>>>,
    fails_with: Option<CheckpointError>,
}

#[async_trait::async_trait]
impl Checkpointer for Stored {
    async fn store(&mut self, position: &Position) -> Result<(), CheckpointError> {
        if let Some(error) = &self.fails_with {
            return Err(error.clone());
        }
        self.positions.lock().unwrap().push(position.to_string());
        Ok(())
    }
}

struct SlowStore(Duration);

#[async_trait::async_trait]
impl Checkpointer for SlowStore {
    async fn store(&mut self, _position: &Position) -> Result<(), CheckpointError> {
        tokio::time::sleep(self.0).await;
        Ok(())
    }
}

fn record(sequence_number: &str) -> StreamRecord {
    StreamRecord {
        sequence_number: SequenceNumber::parse(sequence_number).unwrap(),
        partition_key: "k".to_owned(),
        data: Bytes::from_static(b"hello"),
        approximate_arrival_ms: Some(1_767_225_600_123),
    }
}

fn packed(records: &[StreamRecord]) -> Records {
    records.iter().cloned().collect()
}

/// The child's side of a session without a process, for stories about time.
struct Child {
    stdin: tokio::io::BufReader<tokio::io::DuplexStream>,
    stdout: tokio::io::DuplexStream,
}

impl Child {
    async fn in_memory(settings: SessionSettings) -> (ChildSession, Self) {
        let (stdin, their_stdin) = tokio::io::duplex(65_536);
        let (stdout, their_stdout) = tokio::io::duplex(65_536);
        let spawned = Spawned {
            stdin: Box::new(stdin),
            stdout: Box::new(their_stdout),
            stderr: Box::new(tokio::io::empty()),
            process: Box::new(Immortal),
        };
        let spawn = Once(Mutex::new(Some(spawned)));
        let session = ChildSession::start(&spawn, &"shardId-000000000000".into(), settings)
            .await
            .unwrap();
        (
            session,
            Self {
                stdin: tokio::io::BufReader::new(their_stdin),
                stdout,
            },
        )
    }

    async fn hears(&mut self) -> String {
        let mut line = String::new();
        self.stdin.read_line(&mut line).await.unwrap();
        line
    }

    async fn says(&mut self, line: &str) {
        self.stdout
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
    }
}

struct Once(Mutex<Option<Spawned>>);

#[async_trait::async_trait]
impl Spawn for Once {
    async fn spawn(&self, _shard: &ShardId) -> std::io::Result<Spawned> {
        Ok(self.0.lock().unwrap().take().unwrap())
    }
}

struct Immortal;

#[async_trait::async_trait]
impl Process for Immortal {
    fn id(&self) -> Option<u32> {
        None
    }

    async fn wait(&mut self) -> std::io::Result<i32> {
        std::future::pending().await
    }

    fn terminate(&mut self) {}

    fn kill(&mut self) {}
}

/// The events of the target `child`, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, about: &tracing::Metadata<'_>) -> bool {
        about.target() == "child"
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!(" {field}={value:?}"));
            }
            fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
                self.0.push_str(&format!(" {field}={value}"));
            }
        }
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
