use super::*;

fn item(attributes: &[(&str, Value)]) -> Item {
    attributes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect()
}

fn set(texts: &[&str]) -> Value {
    Value::Ss(texts.iter().map(|text| (*text).to_owned()).collect())
}

/// The first example of `leasing.md 1.6`.
fn java_row() -> Item {
    item(&[
        ("leaseKey", Value::s("shardId-000000000007")),
        ("leaseOwner", Value::s("w-A")),
        ("leaseCounter", Value::n(4711)),
        ("checkpoint", Value::s("49640")),
        ("checkpointSubSequenceNumber", Value::n(0)),
        ("ownerSwitchesSinceCheckpoint", Value::n(0)),
        ("parentShardId", set(&["shardId-000000000003"])),
        ("startingHashKey", Value::s("0")),
        (
            "endingHashKey",
            Value::s("170141183460469231731687303715884105727"),
        ),
        ("throughputKBps", Value::n(12.345678)),
        ("entityType", Value::s("LEASE")),
    ])
}

fn lease() -> Lease {
    Lease::read(&java_row()).unwrap()
}

fn handed_over(from: &str, to: &str) -> Lease {
    Lease {
        owner: Some(to.into()),
        checkpoint_owner: Some(from.into()),
        ..lease()
    }
}

fn parts(write: Write) -> (Vec<Condition>, Vec<Action>) {
    match write {
        Write::Update {
            key,
            conditions,
            actions,
        } => {
            assert_eq!(key, "shardId-000000000007");
            (conditions, actions)
        }
        Write::Put { .. } | Write::Delete { .. } => panic!("expected an update, got {write:?}"),
    }
}

#[test]
fn javas_row_reads_and_writes_back_the_same() {
    assert_eq!(lease().item(), java_row());
    assert_eq!(lease().counter, 4711);
    assert_eq!(lease().hash_range.unwrap().end, u128::MAX / 2);
}

#[test]
fn a_new_lease_is_written_without_anything_empty() {
    let lease = Lease::new(
        "s-1".into(),
        Position::Latest,
        BTreeSet::new(),
        Some(HashRange::ALL),
    );
    let expected = item(&[
        ("leaseKey", Value::s("s-1")),
        ("entityType", Value::s("LEASE")),
        ("leaseCounter", Value::n(0)),
        ("ownerSwitchesSinceCheckpoint", Value::n(0)),
        ("checkpoint", Value::s("LATEST")),
        ("checkpointSubSequenceNumber", Value::n(0)),
        ("startingHashKey", Value::s("0")),
        (
            "endingHashKey",
            Value::s("340282366920938463463374607431768211455"),
        ),
    ]);
    let conditions = vec![Condition::Absent("leaseKey")];
    assert_eq!(
        lease.create(),
        Write::Put {
            item: expected,
            conditions
        }
    );
}

#[test]
fn a_shard_of_one_hash_key_gets_no_range_that_java_would_refuse() {
    let one = HashRange { start: 5, end: 5 };
    let lease = Lease::new("s-1".into(), Position::Latest, BTreeSet::new(), Some(one));
    assert!(!lease.item().contains_key("startingHashKey"));
    assert_eq!(Lease::set_hash_range(&"s-1".into(), one), None);
}

#[test]
fn a_row_without_a_type_is_a_lease_and_other_types_are_skipped() {
    let mut row = java_row();
    row.remove("entityType");
    assert_eq!(Row::read(&row), Row::Lease(lease()));
    for kind in ["STREAM", "TABLE_MIGRATION", "SOMETHING_OF_2030"] {
        row.insert("entityType".to_owned(), Value::s(kind));
        assert_eq!(Row::read(&row), Row::Other);
    }
}

#[test]
fn unknown_attributes_do_not_disturb() {
    let mut row = java_row();
    row.insert("newInJava4".to_owned(), Value::Other);
    assert_eq!(Row::read(&row), Row::Lease(lease()));
}

#[test]
fn a_bad_row_names_its_attribute() {
    let bad = |name: &str, value: Option<Value>| {
        let mut row = java_row();
        match value {
            Some(value) => row.insert(name.to_owned(), value),
            None => row.remove(name),
        };
        match Row::read(&row) {
            Row::Bad(bad) => bad.to_string(),
            other => panic!("expected a bad row, got {other:?}"),
        }
    };
    let row = "row 'shardId-000000000007': attribute ";
    assert_eq!(
        bad("leaseCounter", None),
        format!("{row}'leaseCounter' is missing")
    );
    assert_eq!(
        bad("leaseCounter", Some(Value::s("7"))),
        format!("{row}'leaseCounter' is no number")
    );
    assert_eq!(
        bad("ownerSwitchesSinceCheckpoint", None),
        format!("{row}'ownerSwitchesSinceCheckpoint' is missing")
    );
    assert_eq!(
        bad("checkpoint", Some(Value::s("soon"))),
        format!(
            "{row}'checkpoint' 'soon' is no position: expected digits, TRIM_HORIZON, LATEST, AT_TIMESTAMP or SHARD_END"
        )
    );
    assert_eq!(
        bad("endingHashKey", Some(Value::s("-1"))),
        format!("{row}'endingHashKey' invalid digit found in string")
    );
}

#[test]
fn renewing_expects_the_counter_and_that_no_hand_off_was_requested() {
    let (conditions, actions) = parts(lease().renew());
    assert_eq!(
        conditions,
        [
            Condition::Equals("leaseCounter", Value::n(4711)),
            Condition::Absent("checkpointOwner")
        ]
    );
    assert_eq!(
        actions,
        [
            Action::Set("leaseCounter", Value::n(4712)),
            Action::Set("throughputKBps", Value::n(12.345678))
        ]
    );
}

#[test]
fn renewing_in_a_hand_off_expects_the_counter_alone() {
    let lease = Lease {
        throughput_kbps: None,
        ..handed_over("w-A", "w-B")
    };
    let (conditions, actions) = parts(lease.renew());
    assert_eq!(conditions, [Condition::Equals("leaseCounter", Value::n(4711))]);
    assert_eq!(actions, [Action::Set("leaseCounter", Value::n(4712))]);
}

#[test]
fn a_checkpoint_sets_position_and_switches_and_clears_what_was_pending() {
    let lease = Lease {
        owner_switches: 3,
        children: BTreeSet::from(["s-8".into()]),
        ..lease()
    };
    let (conditions, actions) = parts(lease.checkpoint_at(&Position::parse("77", 2).unwrap()));
    assert_eq!(conditions, [Condition::Equals("leaseCounter", Value::n(4711))]);
    assert_eq!(
        actions,
        [
            Action::Set("leaseCounter", Value::n(4712)),
            Action::Set("checkpoint", Value::s("77")),
            Action::Set("checkpointSubSequenceNumber", Value::n(2)),
            Action::Set("ownerSwitchesSinceCheckpoint", Value::n(0)),
            Action::Remove("pendingCheckpoint"),
            Action::Remove("pendingCheckpointSubSequenceNumber"),
            Action::Remove("pendingCheckpointState"),
            Action::Set("throughputKBps", Value::n(12.345678)),
            Action::Set("childShardIds", set(&["s-8"])),
            Action::Set("startingHashKey", Value::s("0")),
            Action::Set(
                "endingHashKey",
                Value::s("170141183460469231731687303715884105727")
            ),
        ]
    );
}

#[test]
fn taking_expects_the_counter_and_counts_a_switch_of_owners() {
    let (conditions, actions) = parts(lease().take(&"w-B".into()));
    assert_eq!(conditions, [Condition::Equals("leaseCounter", Value::n(4711))]);
    assert_eq!(
        actions,
        [
            Action::Set("leaseCounter", Value::n(4712)),
            Action::Set("leaseOwner", Value::s("w-B")),
            Action::Remove("checkpointOwner"),
            Action::Add("ownerSwitchesSinceCheckpoint", 1),
        ]
    );
}

#[test]
fn taking_an_expired_lease_also_expects_both_owners_as_seen() {
    let (conditions, _) = parts(lease().take_expired(&"w-B".into()));
    assert_eq!(
        conditions,
        [
            Condition::Equals("leaseCounter", Value::n(4711)),
            Condition::Equals("leaseOwner", Value::s("w-A")),
            Condition::Absent("checkpointOwner"),
        ]
    );
}

#[test]
fn assigning_expects_the_owners_and_not_the_counter() {
    let unowned = Lease {
        owner: None,
        ..lease()
    };
    let (conditions, actions) = parts(unowned.assign(&"w-B".into()));
    assert_eq!(
        conditions,
        [
            Condition::Equals("leaseKey", Value::s("shardId-000000000007")),
            Condition::Absent("leaseOwner"),
            Condition::Absent("checkpointOwner"),
        ]
    );
    assert_eq!(
        actions,
        [
            Action::Add("leaseCounter", 1),
            Action::Set("leaseOwner", Value::s("w-B")),
            Action::Remove("checkpointOwner"),
        ]
    );
}

#[test]
fn ending_a_hand_off_as_meant_is_no_switch_and_taking_it_back_is_one() {
    let lease = handed_over("w-A", "w-B");
    let switches = |to: &str| lease.after(&lease.assign(&to.into())).owner_switches;
    assert_eq!(switches("w-B"), 0);
    assert_eq!(switches("w-A"), 1);
    assert_eq!(switches("w-C"), 1);
}

#[test]
fn requesting_a_hand_off_leaves_the_counter_alone() {
    let (conditions, actions) = parts(lease().request_hand_off(&"w-B".into()).unwrap());
    assert_eq!(
        conditions,
        [
            Condition::Equals("leaseKey", Value::s("shardId-000000000007")),
            Condition::Equals("leaseOwner", Value::s("w-A")),
            Condition::Absent("checkpointOwner"),
        ]
    );
    assert_eq!(
        actions,
        [
            Action::Set("leaseOwner", Value::s("w-B")),
            Action::Set("checkpointOwner", Value::s("w-A"))
        ]
    );
}

#[test]
fn giving_back_leaves_no_owner_but_in_a_hand_off_the_next_one() {
    let (conditions, actions) = parts(lease().evict());
    assert_eq!(conditions[1], Condition::Equals("leaseOwner", Value::s("w-A")));
    assert_eq!(
        actions,
        [
            Action::Add("leaseCounter", 1),
            Action::Remove("checkpointOwner"),
            Action::Remove("leaseOwner")
        ]
    );
    let pending = handed_over("w-A", "w-B");
    assert_eq!(pending.after(&pending.evict()).owner, Some("w-B".into()));
}

#[test]
fn a_holder_that_gives_away_also_expects_its_own_counter() {
    let me = WorkerId::from("w-A");
    let mut expected = parts(lease().evict());
    expected.0.push(Condition::Equals("leaseCounter", Value::n(4711)));
    assert_eq!(parts(lease().give_away(&me, None)), expected);
    let heir = WorkerId::from("w-heir");
    let mut expected = parts(lease().assign(&heir));
    expected.0.push(Condition::Equals("leaseCounter", Value::n(4711)));
    assert_eq!(parts(lease().give_away(&me, Some(&heir))), expected);
    let pending = handed_over("w-A", "w-B");
    let mut expected = parts(pending.assign(&"w-B".into()));
    expected.0.push(Condition::Equals("leaseCounter", Value::n(4711)));
    assert_eq!(parts(pending.give_away(&me, Some(&heir))), expected);
}

#[test]
fn children_and_hash_range_are_written_without_the_counter() {
    let key = ShardId::from("shardId-000000000007");
    let children = BTreeSet::from([ShardId::from("s-8"), ShardId::from("s-9")]);
    let (conditions, actions) = parts(Lease::set_children(&key, &children).unwrap());
    assert_eq!(
        conditions,
        [Condition::Equals("leaseKey", Value::s("shardId-000000000007"))]
    );
    assert_eq!(actions, [Action::Set("childShardIds", set(&["s-8", "s-9"]))]);
    assert_eq!(Lease::set_children(&key, &BTreeSet::new()), None);
}

#[test]
fn a_row_one_ahead_that_names_us_is_our_own_lost_answer() {
    let me = WorkerId::from("w-A");
    let ahead = Lease {
        counter: 4712,
        ..lease()
    };
    assert_eq!(
        standing(&lease(), Some(&ahead), &me),
        Standing::Ours(Box::new(ahead.clone()))
    );
    let further = Lease {
        counter: 4713,
        ..lease()
    };
    assert_eq!(standing(&lease(), Some(&further), &me), Standing::Lost);
    let taken = Lease {
        owner: Some("w-B".into()),
        ..ahead
    };
    assert_eq!(standing(&lease(), Some(&taken), &me), Standing::Lost);
    assert_eq!(standing(&lease(), None, &me), Standing::Lost);
}

#[test]
fn a_requested_hand_off_is_still_our_lease() {
    let row = handed_over("w-A", "w-B");
    assert_eq!(
        standing(&lease(), Some(&row), &"w-A".into()),
        Standing::Ours(Box::new(row.clone()))
    );
    assert_eq!(row.hand_over_to(&"w-A".into()), Some(&"w-B".into()));
    assert!(!row.can_be_adopted_by(&"w-B".into()));
}

#[test]
fn a_hand_off_to_oneself_is_a_broken_row_and_lost() {
    let row = handed_over("w-A", "w-A");
    assert_eq!(standing(&lease(), Some(&row), &"w-A".into()), Standing::Lost);
}

#[test]
fn a_late_delete_does_not_take_a_lease_that_was_created_anew() {
    let mut finished = Lease::new("s".into(), Position::ShardEnd, BTreeSet::new(), None);
    let delete = Lease::delete_finished(&finished.key);
    assert!(delete.may_apply(Some(&finished.item())));
    finished.checkpoint = Position::TrimHorizon;
    assert!(!delete.may_apply(Some(&finished.item())));
}
