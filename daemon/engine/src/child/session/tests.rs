use std::sync::{Arc, Mutex};

use bytes::Bytes;
use multilangd_core::ids::SequenceNumber;
use multilangd_core::stream::StreamRecord;
use tokio::io::AsyncBufReadExt;

use super::*;
use crate::child::outgoing::BUFFER_KEPT_BYTES_MAX;
use crate::child::{ChildCommand, Spawned};

mod failures;
mod stage;

use stage::*;

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
