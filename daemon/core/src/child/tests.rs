use super::*;

const ALL: [Action; 5] = [
    Action::Initialize,
    Action::ProcessRecords,
    Action::ShutdownRequested,
    Action::LeaseLost,
    Action::ShardEnded,
];

fn status(action: Action) -> FromChild {
    FromChild::Status {
        response_for: Some(action.name().to_owned()),
    }
}

fn checkpoint() -> FromChild {
    FromChild::Checkpoint(CheckpointRequest::default())
}

/// A conversation in which each action has been asked for and answered.
fn after(actions: &[Action]) -> Conversation {
    let mut conversation = Conversation::default();
    for action in actions {
        conversation.say(*action).unwrap();
        assert_eq!(conversation.hear(status(*action)), Heard::Answered);
    }
    conversation
}

/// A conversation in which the last action has been asked for and not answered.
fn during(actions: &[Action]) -> Conversation {
    let (last, before) = actions.split_last().unwrap();
    let mut conversation = after(before);
    conversation.say(*last).unwrap();
    conversation
}

#[test]
fn what_may_follow_what() {
    use Action::{Initialize, LeaseLost, ProcessRecords, ShardEnded, ShutdownRequested};
    let running = &[ProcessRecords, ShutdownRequested, LeaseLost, ShardEnded][..];
    for (before, expected) in [
        (&[][..], &[Initialize][..]),
        (&[Initialize], running),
        (&[Initialize, ProcessRecords], running),
        (&[Initialize, ShutdownRequested], &[LeaseLost, ShardEnded]),
        (&[Initialize, LeaseLost], &[]),
        (&[Initialize, ShardEnded], &[]),
        (&[Initialize, ShutdownRequested, LeaseLost], &[]),
    ] {
        let allowed: Vec<Action> = ALL
            .into_iter()
            .filter(|action| after(before).say(*action).is_ok())
            .collect();
        assert_eq!(allowed, expected, "after {before:?}");
    }
}

#[test]
fn nothing_may_be_said_while_a_status_is_owed() {
    for action in ALL {
        assert!(
            during(&[Action::Initialize, Action::ProcessRecords])
                .say(action)
                .is_err()
        );
    }
}

#[test]
fn what_is_said_out_of_turn_changes_nothing() {
    let mut conversation = after(&[Action::Initialize]);
    let before = conversation.clone();
    let refused = conversation.say(Action::Initialize).unwrap_err();
    assert_eq!(refused.to_string(), "initialize cannot follow here (Idle)");
    assert_eq!(conversation, before);
}

#[test]
fn a_status_must_name_the_action_exactly() {
    for response_for in [
        None,
        Some("initialize"),
        Some("ProcessRecords"),
        Some("processRecords "),
        Some(""),
    ] {
        let mut conversation = during(&[Action::Initialize, Action::ProcessRecords]);
        let response_for = response_for.map(str::to_owned);
        let heard = conversation.hear(FromChild::Status {
            response_for: response_for.clone(),
        });
        assert_eq!(heard, Heard::WrongStatus { response_for });
        assert_eq!(conversation.turn(), Turn::Failed);
    }
}

#[test]
fn a_wrong_answer_to_shutdown_requested_still_lets_lease_lost_be_said() {
    let mut conversation = during(&[Action::Initialize, Action::ShutdownRequested]);
    conversation.hear(status(Action::LeaseLost));
    assert_eq!(conversation.say(Action::LeaseLost), Ok(()));
    assert_eq!(conversation.hear(status(Action::LeaseLost)), Heard::Answered);
}

#[test]
fn checkpoints_are_allowed_in_three_of_the_five_actions() {
    use Action::{Initialize, LeaseLost, ProcessRecords, ShardEnded, ShutdownRequested};
    let request = CheckpointRequest::default();
    for action in [ProcessRecords, ShutdownRequested, ShardEnded] {
        assert_eq!(
            during(&[Initialize, action]).hear(checkpoint()),
            Heard::Checkpoint(request.clone())
        );
    }
    assert_eq!(
        during(&[Initialize]).hear(checkpoint()),
        Heard::NoCheckpointNow(request.clone())
    );
    assert_eq!(
        during(&[Initialize, LeaseLost]).hear(checkpoint()),
        Heard::NoCheckpointNow(request)
    );
}

#[test]
fn any_number_of_checkpoints_may_precede_a_status() {
    let mut conversation = during(&[Action::Initialize, Action::ProcessRecords]);
    for _ in 0..1_000 {
        assert!(matches!(conversation.hear(checkpoint()), Heard::Checkpoint(_)));
    }
    assert_eq!(conversation.hear(status(Action::ProcessRecords)), Heard::Answered);
}

#[test]
fn a_request_between_two_actions_is_kept_for_the_next() {
    let mut conversation = after(&[Action::Initialize]);
    assert_eq!(
        conversation.hear(checkpoint()),
        Heard::Early(CheckpointRequest::default())
    );
    conversation.say(Action::ProcessRecords).unwrap();
    assert!(matches!(conversation.hear(checkpoint()), Heard::Checkpoint(_)));
}

#[test]
fn a_status_between_two_actions_answers_nothing() {
    let mut conversation = after(&[Action::Initialize, Action::ProcessRecords]);
    assert_eq!(
        conversation.hear(status(Action::ProcessRecords)),
        Heard::ExtraStatus
    );
    conversation.say(Action::ProcessRecords).unwrap();
    assert_eq!(
        conversation.turn(),
        Turn::Owed {
            action: Action::ProcessRecords,
            asked_to_stop: false
        }
    );
}

#[test]
fn what_only_a_daemon_says_means_nothing_at_any_time() {
    for mut conversation in [
        Conversation::default(),
        during(&[Action::Initialize]),
        after(&[Action::Initialize]),
        after(&[Action::Initialize, Action::LeaseLost]),
    ] {
        let before = conversation.clone();
        assert_eq!(conversation.hear(FromChild::Ignored), Heard::Nothing);
        assert_eq!(conversation, before);
    }
}

#[test]
fn nothing_is_heard_after_the_last_status() {
    let mut conversation = after(&[Action::Initialize, Action::ShardEnded]);
    assert_eq!(
        conversation.hear(checkpoint()),
        Heard::Nothing,
        "Java reads it, and does nothing"
    );
    assert_eq!(conversation.hear(status(Action::ShardEnded)), Heard::Nothing);
}

#[test]
fn a_child_may_leave_once_it_has_answered_shutdown_requested() {
    use Action::{Initialize, LeaseLost, ProcessRecords, ShardEnded, ShutdownRequested};
    for (mut conversation, expected) in [
        (Conversation::default(), Gone::TooEarly),
        (during(&[Initialize]), Gone::TooEarly),
        (after(&[Initialize]), Gone::TooEarly),
        (during(&[Initialize, ProcessRecords]), Gone::TooEarly),
        (during(&[Initialize, ShutdownRequested]), Gone::TooEarly),
        (after(&[Initialize, ShutdownRequested]), Gone::Finished),
        (
            during(&[Initialize, ShutdownRequested, LeaseLost]),
            Gone::Finished,
        ),
        (
            during(&[Initialize, ShutdownRequested, ShardEnded]),
            Gone::TooEarly,
        ),
        (during(&[Initialize, LeaseLost]), Gone::TooEarly),
        (after(&[Initialize, LeaseLost]), Gone::Finished),
        (after(&[Initialize, ShardEnded]), Gone::Finished),
    ] {
        let turn = conversation.turn();
        assert_eq!(conversation.gone(), expected, "{turn:?}");
    }
}
