//! Children that leave, fall silent or answer wrongly, and the end of their processes.

use super::*;

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
    tenure.process(&[large()]).await.unwrap();
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
    timeout(SOON, tenure.process(&[large()])).await.unwrap().unwrap();
}

/// A record that no pipe holds.
fn large() -> StreamRecord {
    StreamRecord {
        data: Bytes::from(vec![7; 1_000_000]),
        ..record("1")
    }
}

fn assert_closed_input(error: &ChildError) {
    let is_it = matches!(
        error,
        ChildError::Left {
            how: Departure::ClosedInput,
            ..
        }
    );
    assert!(is_it, "{error}");
}

#[tokio::test]
async fn a_child_that_has_closed_its_input_is_not_asked_again() {
    let script = r#"
        sys.stdin.read(10); os.close(0); answer("processRecords")
        time.sleep(60)
        "#;
    let mut tenure = Tenure::python(script).await;
    tenure.process(&[large()]).await.unwrap();
    let error = timeout(SOON, tenure.process(&[record("2")]))
        .await
        .unwrap()
        .unwrap_err();
    assert_closed_input(&error);
}

#[tokio::test]
async fn a_child_that_closes_its_input_and_does_not_answer_is_given_up() {
    let settings = SessionSettings {
        exit_patience: SHORT,
        ..SessionSettings::default()
    };
    let mut tenure = Tenure::python_with("os.close(0); time.sleep(60)", settings).await;
    let error = timeout(SOON, tenure.process(&[large()]))
        .await
        .unwrap()
        .unwrap_err();
    assert_closed_input(&error);
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
