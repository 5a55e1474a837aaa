use proptest::prelude::*;

use super::*;

fn at(sequence_number: &str, sub_sequence_number: u64) -> Position {
    Position::parse(sequence_number, sub_sequence_number).unwrap()
}

fn request(sequence_number: &str, sub_sequence_number: Option<i64>) -> CheckpointRequest {
    CheckpointRequest {
        sequence_number: Some(sequence_number.to_owned()),
        sub_sequence_number,
    }
}

/// A tenure that began at 10 and has been given records up to 20, the last one an aggregate of four.
fn midway() -> Checkpoints {
    let mut checkpoints = Checkpoints::begin(at("10", 0));
    checkpoints.delivered(&at("20", 3));
    checkpoints
}

/// The same, with everything stored and the shard at its end.
fn all_stored_at_the_end() -> Checkpoints {
    let mut checkpoints = midway();
    checkpoints.stored(at("20", 3));
    checkpoints.shard_ended();
    checkpoints
}

fn is_refused(decision: &Decision) -> bool {
    matches!(decision, Decision::Refuse(_))
}

#[test]
fn a_request_without_a_number_means_everything_delivered() {
    assert_eq!(
        midway().decide(&CheckpointRequest::default()),
        Decision::Store(at("20", 3))
    );
}

#[test]
fn a_sub_sequence_number_without_a_number_is_ignored() {
    let request = CheckpointRequest {
        sequence_number: None,
        sub_sequence_number: Some(-5),
    };
    assert_eq!(midway().decide(&request), Decision::Store(at("20", 3)));
}

#[test]
fn before_anything_is_delivered_there_is_nothing_to_store() {
    let checkpoints = Checkpoints::begin(Position::TrimHorizon);
    assert_eq!(checkpoints.decide(&CheckpointRequest::default()), Decision::NoOp);
    assert_eq!(checkpoints.decide(&request("TRIM_HORIZON", None)), Decision::NoOp);
}

#[test]
fn positions_from_the_last_checkpoint_to_the_last_record_are_stored() {
    for (number, sub) in [
        ("10", Some(1)),
        ("11", None),
        ("15", Some(0)),
        ("20", None),
        ("20", Some(3)),
    ] {
        let expected = at(number, sub.unwrap_or(0).try_into().unwrap());
        assert_eq!(midway().decide(&request(number, sub)), Decision::Store(expected));
    }
}

#[test]
fn the_last_checkpoint_again_is_a_success_without_a_write() {
    assert_eq!(midway().decide(&request("10", None)), Decision::NoOp);
    assert_eq!(midway().decide(&request("10", Some(0))), Decision::NoOp);
}

#[test]
fn a_position_outside_the_limits_is_refused_with_all_three_values() {
    assert_eq!(
        midway().decide(&request("20", Some(4))),
        Decision::Refuse(
            "20/4 is out of range: the last checkpoint is 10, the largest permitted one 20/3".to_owned()
        )
    );
    assert!(is_refused(&midway().decide(&request("9", None))));
    assert!(
        is_refused(&midway().decide(&request("100", None))),
        "more digits are more, whatever they are"
    );
}

#[test]
fn what_is_no_position_is_refused() {
    for text in ["", "abc", "-1", "4.9e3", "shard_end"] {
        assert!(is_refused(&midway().decide(&request(text, None))), "{text}");
    }
    assert_eq!(
        midway().decide(&request("15", Some(-1))),
        Decision::Refuse("the sub-sequence number -1 is negative".to_owned())
    );
}

#[test]
fn the_end_of_the_shard_is_refused_before_it() {
    assert!(is_refused(&midway().decide(&request("SHARD_END", None))));
}

#[test]
fn another_sentinel_never_replaces_the_stored_one() {
    let mut checkpoints = Checkpoints::begin(Position::TrimHorizon);
    checkpoints.delivered(&at("20", 0));
    assert!(
        is_refused(&checkpoints.decide(&request("LATEST", None))),
        "it would lose every record"
    );
    assert!(is_refused(&checkpoints.decide(&request("AT_TIMESTAMP", None))));
    assert_eq!(checkpoints.decide(&request("TRIM_HORIZON", None)), Decision::NoOp);
}

#[test]
fn a_number_may_follow_a_sentinel() {
    let mut checkpoints = Checkpoints::begin(Position::Latest);
    checkpoints.delivered(&at("20", 0));
    assert_eq!(
        checkpoints.decide(&request("1", None)),
        Decision::Store(at("1", 0))
    );
}

#[test]
fn largest_never_moves_back() {
    let mut checkpoints = midway();
    checkpoints.delivered(&at("15", 0));
    assert_eq!(checkpoints.largest(), &at("20", 3));
}

#[test]
fn at_the_end_everything_delivered_means_the_end() {
    let mut checkpoints = midway();
    checkpoints.shard_ended();
    assert_eq!(
        checkpoints.decide(&CheckpointRequest::default()),
        Decision::Store(Position::ShardEnd)
    );
    assert_eq!(
        checkpoints.decide(&request("SHARD_END", None)),
        Decision::Store(Position::ShardEnd)
    );
    assert_eq!(
        checkpoints.decide(&request("SHARD_END", Some(7))),
        Decision::Store(Position::ShardEnd)
    );
    assert_eq!(
        checkpoints.decide(&request("20", Some(3))),
        Decision::Store(Position::ShardEnd)
    );
}

#[test]
fn at_the_end_the_last_record_is_the_end_even_if_it_was_stored_before() {
    assert_eq!(
        all_stored_at_the_end().decide(&request("20", Some(3))),
        Decision::Store(Position::ShardEnd)
    );
}

#[test]
fn at_the_end_a_client_without_sub_sequence_numbers_can_name_the_last_aggregate() {
    assert_eq!(
        all_stored_at_the_end().decide(&request("20", None)),
        Decision::Store(Position::ShardEnd)
    );
}

#[test]
fn at_the_end_a_number_beyond_the_last_record_is_the_end() {
    assert_eq!(
        all_stored_at_the_end().decide(&request("21", None)),
        Decision::Store(Position::ShardEnd)
    );
    assert_eq!(
        all_stored_at_the_end().decide(&request("20", Some(4))),
        Decision::Store(Position::ShardEnd)
    );
}

#[test]
fn at_the_end_an_earlier_record_is_stored_as_it_is_and_does_not_finish_the_shard() {
    let mut checkpoints = midway();
    checkpoints.shard_ended();
    assert_eq!(
        checkpoints.decide(&request("20", Some(2))),
        Decision::Store(at("20", 2))
    );
    assert_eq!(
        checkpoints.decide(&request("15", None)),
        Decision::Store(at("15", 0))
    );
    checkpoints.stored(at("20", 2));
    assert!(!checkpoints.is_finished());
}

#[test]
fn a_shard_without_records_can_be_finished() {
    let mut checkpoints = Checkpoints::begin(Position::Latest);
    checkpoints.shard_ended();
    assert_eq!(
        checkpoints.decide(&CheckpointRequest::default()),
        Decision::Store(Position::ShardEnd)
    );
    checkpoints.stored(Position::ShardEnd);
    assert!(checkpoints.is_finished());
}

#[test]
fn the_end_heard_twice_is_the_same_end() {
    let mut checkpoints = all_stored_at_the_end();
    checkpoints.shard_ended();
    assert_eq!(
        checkpoints.decide(&request("20", Some(3))),
        Decision::Store(Position::ShardEnd)
    );
}

#[test]
fn the_stored_end_again_is_a_success_without_a_write() {
    let mut checkpoints = all_stored_at_the_end();
    checkpoints.stored(Position::ShardEnd);
    for request in [
        CheckpointRequest::default(),
        request("SHARD_END", None),
        request("20", Some(3)),
    ] {
        assert_eq!(checkpoints.decide(&request), Decision::NoOp);
    }
    assert!(is_refused(&checkpoints.decide(&request("15", None))));
}

#[test]
#[should_panic(expected = "a checkpoint never moves back: 5 after 10")]
fn a_checkpoint_that_moves_back_is_a_bug() {
    Checkpoints::begin(at("10", 0)).stored(at("5", 0));
}

fn any_request() -> impl Strategy<Value = CheckpointRequest> {
    let number = prop_oneof![
        Just(None),
        (0..30u32).prop_map(|number| Some(number.to_string())),
        prop_oneof![
            Just("SHARD_END"),
            Just("LATEST"),
            Just("TRIM_HORIZON"),
            Just("AT_TIMESTAMP"),
            Just("x")
        ]
        .prop_map(|text| Some(text.to_owned())),
    ];
    (number, proptest::option::of(-2..4i64)).prop_map(|(sequence_number, sub_sequence_number)| {
        CheckpointRequest {
            sequence_number,
            sub_sequence_number,
        }
    })
}

#[derive(Clone, Debug)]
enum Step {
    Delivered(u32, u64),
    Asked(CheckpointRequest),
    Ended,
}

proptest! {
    #[test]
    fn checkpoints_only_advance_and_never_pass_what_was_delivered(
        begin in prop_oneof![Just("LATEST"), Just("TRIM_HORIZON"), Just("AT_TIMESTAMP"), Just("7")],
        steps in proptest::collection::vec(
            prop_oneof![
                4 => (0..30u32, 0..4u64).prop_map(|(number, sub)| Step::Delivered(number, sub)),
                8 => any_request().prop_map(Step::Asked),
                1 => Just(Step::Ended),
            ],
            0..40,
        ),
    ) {
        let mut checkpoints = Checkpoints::begin(at(begin, 0));
        let mut delivered = at(begin, 0);
        let mut ended = false;
        for step in steps {
            match step {
                Step::Delivered(number, sub) if !ended => {
                    let position = at(&number.to_string(), sub);
                    checkpoints.delivered(&position);
                    delivered = delivered.max(position);
                }
                Step::Delivered(..) => {}
                Step::Ended => {
                    checkpoints.shard_ended();
                    ended = true;
                }
                Step::Asked(request) => match checkpoints.decide(&request) {
                    Decision::Store(position) => {
                        prop_assert!(position > *checkpoints.last(), "a write moves forward");
                        prop_assert!(position <= delivered || (ended && position.is_shard_end()));
                        checkpoints.stored(position);
                    }
                    Decision::NoOp | Decision::Refuse(_) => {}
                },
            }
        }
    }
}
