use super::*;
use crate::fetch::{READ_AHEAD_BYTES_MAX, READ_AHEAD_RECORDS_MAX};
use crate::ids::HashRange;
use crate::records::Records;
use crate::stream::{ChildShard, StreamRecord};

fn number(text: &str) -> SequenceNumber {
    SequenceNumber::parse(text).unwrap()
}

fn event(continuation: Option<&str>, children: &[&str]) -> Event {
    Event {
        records: Records::default(),
        continuation: continuation.map(number),
        millis_behind_latest: Some(0),
        child_shards: children
            .iter()
            .map(|id| ChildShard {
                id: (*id).into(),
                parents: vec!["parent".into()],
                hash_range: HashRange::ALL,
            })
            .collect(),
    }
}

fn record(text: &str) -> StreamRecord {
    StreamRecord {
        sequence_number: number(text),
        partition_key: "k".into(),
        data: Default::default(),
        approximate_arrival_ms: None,
    }
}

#[test]
fn the_first_subscription_begins_at_the_checkpoint_and_every_further_one_behind_the_last_event() {
    let mut place = Place::new(&Position::At(number("7"), 3), None);
    assert_eq!(place.next(1), StartAt::At(number("7")));
    place.accept(event(Some("9"), &[])).unwrap();
    assert_eq!(place.next(2), StartAt::After(number("9")));
    place.accept(event(Some("12"), &[])).unwrap();
    assert_eq!(place.next(3), StartAt::After(number("12")));
}

#[test]
fn a_subscription_lost_before_its_first_event_begins_at_the_checkpoint_again() {
    let mut place = Place::new(&Position::At(number("7"), 3), None);
    place.next(1);
    assert_eq!(place.next(90_000), StartAt::At(number("7")));
}

#[test]
fn a_subscription_at_the_tip_that_is_lost_before_its_first_event_skips_nothing() {
    let mut place = Place::new(&Position::Latest, None);
    assert_eq!(place.next(100_000), StartAt::Latest);
    assert_eq!(place.next(160_000), StartAt::Timestamp(95_000));
}

#[test]
fn a_finished_shard_is_subscribed_to_at_its_tip() {
    assert_eq!(Place::new(&Position::ShardEnd, None).next(1), StartAt::Latest);
}

#[test]
fn what_a_renewed_subscription_brings_again_is_dropped_and_the_place_never_goes_back() {
    let with = |records: &[&str], continuation: &str| Event {
        records: records.iter().map(|it| record(it)).collect(),
        ..event(Some(continuation), &[])
    };
    let numbers = |answer: Result<Answer, String>| match answer {
        Ok(Answer::More(batch)) => batch
            .records
            .iter()
            .map(|record| record.sequence_number.to_string())
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let mut place = Place::new(&Position::TrimHorizon, None);
    assert_eq!(place.renewal(), None, "nothing to begin behind");
    assert_eq!(numbers(place.accept(with(&["5"], "5"))), ["5"]);
    assert_eq!(place.renewal(), Some(StartAt::After(number("5"))));
    // It is asked for, and in the meantime:
    assert_eq!(numbers(place.accept(with(&["7", "10"], "11"))), ["7", "10"]);
    place.renewed();
    assert!(numbers(place.accept(with(&["7"], "8"))).is_empty());
    assert_eq!(place.next(1), StartAt::After(number("11")));
    assert_eq!(numbers(place.accept(with(&["10", "12"], "12"))), ["12"]);
    assert_eq!(place.next(1), StartAt::After(number("12")));
}

#[test]
fn renewals_are_spread_over_the_last_fifth_of_a_life_and_never_too_early_for_the_service() {
    let mut rng = Rng::new(1);
    let mut all: Vec<u64> = (0..1000)
        .map(|_| renewal(LIFE, &mut rng).unwrap().as_secs())
        .collect();
    all.sort_unstable();
    assert!(all[0] >= 240 && all[999] <= 285, "{all:?}");
    assert!(all[100] < 250 && all[900] > 275, "{all:?}");
    assert_eq!(renewal(secs(5), &mut rng), None);
}

#[test]
fn an_end_is_believed_only_with_children_and_their_parents_and_leaves_the_place_otherwise() {
    let mut place = Place::new(&Position::TrimHorizon, None);
    place.accept(event(Some("5"), &[])).unwrap();
    assert!(place.accept(event(None, &[])).is_err());
    assert!(place.accept(event(Some("6"), &["c"])).is_err());
    let mut orphan = event(None, &["c"]);
    orphan.child_shards[0].parents.clear();
    assert!(place.accept(orphan).is_err());
    assert_eq!(place.next(1), StartAt::After(number("5")));
    assert!(matches!(place.accept(event(None, &["c"])), Ok(Answer::End(_))));
}

fn waiting(batches: usize, records: usize, bytes: usize) -> ReadAhead {
    ReadAhead {
        batches,
        records,
        bytes,
    }
}

#[test]
fn events_are_taken_up_to_each_bound_and_always_when_nothing_waits() {
    assert!(waiting(EVENTS_MAX - 1, 1, 1).may_take_event(0, 1));
    assert!(!waiting(EVENTS_MAX, 1, 1).may_take_event(0, 1));
    assert!(!waiting(1, READ_AHEAD_RECORDS_MAX, 1).may_take_event(0, 1));
    assert!(!waiting(1, 1, READ_AHEAD_BYTES_MAX).may_take_event(0, 1));
    assert!(!waiting(1, 1, 1).may_take_event(1, 1));
    assert!(waiting(0, 0, 0).may_take_event(1, 1));
}

#[test]
fn a_new_subscription_waits_until_half_is_free() {
    assert!(waiting(EVENTS_MAX / 2 - 1, 1, 1).may_subscribe(0, 1));
    assert!(!waiting(EVENTS_MAX / 2, 1, 1).may_subscribe(0, 1));
    assert!(!waiting(1, 1, READ_AHEAD_BYTES_MAX / 2).may_subscribe(0, 1));
    assert!(waiting(0, 0, 0).may_subscribe(1, 1));
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn pause(rhythm: &Rhythm, ended: Ended, since_subscribed: Option<u64>) -> Duration {
    rhythm.pause(ended, since_subscribed.map(secs), &mut Rng::new(1))
}

#[test]
fn after_five_minutes_there_is_no_pause() {
    assert_eq!(pause(&Rhythm::default(), Ended::Completed, Some(300)), secs(0));
}

#[test]
fn no_end_leads_to_a_subscription_that_the_service_must_refuse() {
    for ended in [
        Ended::Completed,
        Ended::Stalled,
        Ended::Silent,
        Ended::Failed,
        Ended::TakenOver,
    ] {
        assert!(pause(&Rhythm::default(), ended, Some(2)) >= secs(3), "{ended:?}");
    }
}

#[test]
fn a_shard_that_was_taken_over_is_left_alone_for_longer_than_a_lease_needs_to_be_lost() {
    assert!(pause(&Rhythm::default(), Ended::TakenOver, Some(300)) >= secs(10));
}

#[test]
fn failures_back_off_up_to_a_bound() {
    let mut rhythm = Rhythm::default();
    rhythm.ended(Ended::Failed);
    assert!(pause(&rhythm, Ended::Failed, None) < secs(1));
    for _ in 0..100 {
        rhythm.ended(Ended::Failed);
    }
    let longest = pause(&rhythm, Ended::Failed, None);
    assert!((secs(10)..=secs(15)).contains(&longest), "{longest:?}");
    assert_eq!(rhythm.flows(), 101);
    rhythm.ended(Ended::Failed);
    assert!(
        pause(&rhythm, Ended::Failed, None) < secs(1),
        "an event ends the streak"
    );
}

#[test]
fn refusals_right_after_a_take_over_make_no_noise_and_those_that_go_on_do() {
    let mut rhythm = Rhythm::default();
    for _ in 0..IN_USE_EXPECTED {
        assert_eq!(rhythm.ended(Ended::InUse), Notice::Quiet);
    }
    assert_eq!(rhythm.ended(Ended::InUse), Notice::Contended);
    assert_eq!(rhythm.ended(Ended::InUse), Notice::Quiet, "but not each of them");
}

#[test]
fn the_first_take_over_is_the_way_of_things_and_a_second_before_a_whole_life_is_not() {
    let mut rhythm = Rhythm::default();
    assert_eq!(rhythm.ended(Ended::TakenOver), Notice::Quiet);
    rhythm.flows();
    assert_eq!(rhythm.ended(Ended::TakenOver), Notice::Contended);
}

#[test]
fn a_streak_of_failures_is_said_at_its_first_and_seldom_again() {
    let mut rhythm = Rhythm::default();
    let notices: Vec<Notice> = (0..100).map(|_| rhythm.ended(Ended::Failed)).collect();
    let lines = notices
        .iter()
        .filter(|notice| **notice == Notice::Failing)
        .count();
    assert_eq!(lines, 3);
    assert_eq!(notices[0], Notice::Failing);
}

#[test]
fn a_consumer_is_used_when_active_registered_when_missing_and_waited_for_otherwise() {
    let consumer = |status: &str| StreamConsumer {
        arn: "arn".into(),
        is_active: status == "ACTIVE",
        status: status.into(),
    };
    assert_eq!(
        registering(Some(&consumer("ACTIVE"))),
        Registering::Use("arn".into())
    );
    assert_eq!(registering(None), Registering::Register);
    assert_eq!(registering(Some(&consumer("CREATING"))), Registering::Wait);
    assert_eq!(registering(Some(&consumer("DELETING"))), Registering::Wait);
}
