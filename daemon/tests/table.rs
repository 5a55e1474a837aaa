//! The contract of `Table`, over the real SDK, against a server: the built-in one, or the one that
//! `MULTILANGD_TEST_DYNAMODB` names (DynamoDB Local, for example).

#![cfg(feature = "local")]

mod common;

use std::collections::BTreeSet;

use common::dynamodb;
use multilangd_core::table::{Action, Condition, Item, Place, Value, Write};
use multilangd_core::table_migration::Places;
use multilangd_daemon::aws::dynamodb::DynamoDbTable;
use multilangd_engine::table::{ScanPage, Table, TableError, TableSettings};
use multilangd_local::Fault;

#[tokio::test]
async fn a_table_is_described_once_it_is_created() {
    let table = dynamodb("described", "leaseKey").await;
    assert_eq!(table.describe().await.unwrap(), None);
    table.create(&TableSettings::default()).await.unwrap();
    let described = table.describe().await.unwrap().unwrap();
    assert!(described.is_usable);
    assert!(
        described.arn.ends_with(&format!(":table/{}", table.name())),
        "{}",
        described.arn
    );
    assert_eq!(described.provisioned, None);
    assert_eq!(described.owner_index, None);
}

#[tokio::test]
async fn a_table_that_another_worker_created_is_no_error() {
    let table = created("twice", "leaseKey").await;
    table.create(&TableSettings::default()).await.unwrap();
}

#[tokio::test]
async fn deletion_protection_and_tags_are_accepted() {
    let table = dynamodb("protected", "leaseKey").await;
    let settings = TableSettings {
        deletion_protection: true,
        tags: vec![("team".into(), "streams".into())],
    };
    table.create(&settings).await.unwrap();
    assert!(table.describe().await.unwrap().is_some());
}

#[tokio::test]
async fn the_owner_index_is_created_once() {
    let table = created("index", "leaseKey").await;
    table.create_owner_index().await.unwrap();
    table.create_owner_index().await.unwrap();
    assert!(table.describe().await.unwrap().unwrap().owner_index.is_some());
}

#[tokio::test]
async fn the_owner_index_gives_an_owners_keys_only() {
    let table = created("owners", "leaseKey").await;
    table.create_owner_index().await.unwrap();
    common::until("the index is active", async || {
        (table.describe().await.unwrap().unwrap().owner_index == Some(true)).then_some(())
    })
    .await;
    for (key, owner) in [("shard-1", "w-A"), ("shard-2", "w-B"), ("shard-3", "w-A")] {
        put(
            &table,
            row(
                key,
                &[("leaseOwner", Value::s(owner)), ("leaseCounter", Value::n(1))],
            ),
        )
        .await;
    }
    put(&table, row("Leader", &[])).await;
    let rows = common::until("the index has caught up", async || {
        let rows = table.query_owner("w-A", None).await.unwrap();
        (rows.items.len() == 2).then_some(rows)
    })
    .await;
    assert_eq!(rows.next, None);
    assert_eq!(rows.items[0], row("shard-1", &[("leaseOwner", Value::s("w-A"))]));
    assert_eq!(rows.items[1], row("shard-3", &[("leaseOwner", Value::s("w-A"))]));
}

#[tokio::test]
async fn a_query_without_the_index_finds_it_missing() {
    let table = created("no-index", "leaseKey").await;
    let error = table.query_owner("w", None).await.unwrap_err();
    assert!(matches!(error, TableError::Missing(_)), "{error}");
}

#[tokio::test]
async fn calls_to_a_table_that_is_not_there_say_missing() {
    let table = dynamodb("absent", "leaseKey").await;
    assert!(matches!(table.get("k", true).await, Err(TableError::Missing(_))));
    assert!(matches!(
        table.scan(&ScanPage::default()).await,
        Err(TableError::Missing(_))
    ));
    assert!(matches!(
        table.create_owner_index().await,
        Err(TableError::Missing(_))
    ));
    let delete = Write::Delete {
        key: "k".into(),
        conditions: vec![],
    };
    let error = table.write(&delete).await.unwrap_err();
    assert!(error.to_string().contains(table.name()), "{error}");
}

#[tokio::test]
async fn a_row_comes_back_as_it_was_put() {
    let table = created("round", "leaseKey").await;
    let item = row(
        "shardId-000000000007",
        &[
            ("leaseCounter", Value::n(4711)),
            (
                "parentShardId",
                Value::Ss(BTreeSet::from(["a".to_owned(), "b".to_owned()])),
            ),
            ("pendingCheckpointState", Value::B(vec![0, 1, 255])),
            (
                "stats",
                Value::M([("CPU".to_owned(), Value::L(vec![Value::n("12.5"), Value::n(-1)]))].into()),
            ),
            ("flag", Value::Bool(true)),
        ],
    );
    assert_eq!(table.get("shardId-000000000007", true).await.unwrap(), None);
    put(&table, item.clone()).await;
    assert_eq!(table.get("shardId-000000000007", true).await.unwrap(), Some(item));
}

#[tokio::test]
async fn the_name_of_the_key_is_the_tables_own() {
    let table = created("other-key", "wid").await;
    let item = Item::from([
        ("wid".to_owned(), Value::s("w-A")),
        ("lut".to_owned(), Value::n(1)),
    ]);
    put(&table, item).await;
    let update = update(
        "w-A",
        vec![Condition::Present("wid")],
        vec![Action::Set("lut", Value::n(2))],
    );
    let new = table.write(&update).await.unwrap().unwrap();
    assert_eq!(new["lut"], Value::n(2));
    assert_eq!(new["wid"], Value::s("w-A"));
}

#[tokio::test]
async fn creating_a_lease_that_exists_is_a_conflict_with_the_old_row() {
    let table = created("conflict", "leaseKey").await;
    let old = row("k", &[("leaseCounter", Value::n(3))]);
    put(&table, old.clone()).await;
    let create = Write::Put {
        item: row("k", &[("leaseCounter", Value::n(0))]),
        conditions: vec![Condition::Absent("leaseKey")],
    };
    assert_conflict(table.write(&create).await, Some(&old));
    assert_eq!(table.get("k", true).await.unwrap(), Some(old));
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_returns_the_new_row() {
    let table = created("update", "leaseKey").await;
    put(
        &table,
        row(
            "k",
            &[
                ("leaseCounter", Value::n(7)),
                ("checkpointOwner", Value::s("w-A")),
                ("ofANewerPeer", Value::s("kept")),
            ],
        ),
    )
    .await;
    let new = table
        .write(&update(
            "k",
            vec![
                Condition::Equals("leaseCounter", Value::n(7)),
                Condition::Present("checkpointOwner"),
                Condition::Absent("leaseOwner"),
            ],
            vec![
                Action::Set("leaseOwner", Value::s("w-B")),
                Action::Add("leaseCounter", 1),
                Action::Add("ownerSwitchesSinceCheckpoint", 1),
                Action::Remove("checkpointOwner"),
                Action::Remove("pendingCheckpoint"),
            ],
        ))
        .await
        .unwrap();
    let expected = row(
        "k",
        &[
            ("leaseOwner", Value::s("w-B")),
            ("leaseCounter", Value::n(8)),
            ("ownerSwitchesSinceCheckpoint", Value::n(1)),
            ("ofANewerPeer", Value::s("kept")),
        ],
    );
    assert_eq!(new.as_ref(), Some(&expected));
    assert_eq!(table.get("k", true).await.unwrap(), Some(expected));
}

#[tokio::test]
async fn every_condition_stops_every_write_that_it_does_not_allow() {
    let table = created("conditions", "leaseKey").await;
    let old = row(
        "k",
        &[("leaseCounter", Value::n(7)), ("leaseOwner", Value::s("w-A"))],
    );
    put(&table, old.clone()).await;
    for condition in [
        Condition::Equals("leaseCounter", Value::n(8)),
        Condition::Equals("leaseOwner", Value::s("w-B")),
        Condition::Equals("notThere", Value::s("x")),
        Condition::Absent("leaseOwner"),
        Condition::Present("checkpointOwner"),
    ] {
        let holds = Condition::Present("leaseKey");
        for write in [
            Write::Put {
                item: row("k", &[]),
                conditions: vec![holds.clone(), condition.clone()],
            },
            update(
                "k",
                vec![holds.clone(), condition.clone()],
                vec![Action::Add("leaseCounter", 1)],
            ),
            Write::Delete {
                key: "k".into(),
                conditions: vec![holds.clone(), condition.clone()],
            },
        ] {
            assert_conflict(table.write(&write).await, Some(&old));
        }
    }
    assert_eq!(table.get("k", true).await.unwrap(), Some(old));
}

#[tokio::test]
async fn a_condition_on_a_row_that_is_gone_is_a_conflict_without_a_row() {
    let table = created("gone", "leaseKey").await;
    let renew = update(
        "k",
        vec![Condition::Equals("leaseCounter", Value::n(1))],
        vec![Action::Add("leaseCounter", 1)],
    );
    assert_conflict(table.write(&renew).await, None);
    assert_eq!(table.get("k", true).await.unwrap(), None);
}

#[tokio::test]
async fn an_update_without_conditions_makes_the_row() {
    let table = created("upsert", "leaseKey").await;
    let new = table
        .write(&update("w-A", vec![], vec![Action::Set("lut", Value::n(5))]))
        .await
        .unwrap();
    assert_eq!(new, Some(row("w-A", &[("lut", Value::n(5))])));
}

#[tokio::test]
async fn a_delete_removes_the_row_and_may_be_repeated() {
    let table = created("delete", "leaseKey").await;
    put(&table, row("k", &[("leaseCounter", Value::n(7))])).await;
    for conditions in [vec![Condition::Equals("leaseCounter", Value::n(7))], vec![]] {
        let delete = Write::Delete {
            key: "k".into(),
            conditions,
        };
        assert_eq!(table.write(&delete).await.unwrap(), None);
        assert_eq!(table.get("k", true).await.unwrap(), None);
    }
}

#[tokio::test]
async fn reserved_words_can_be_attributes() {
    let table = created("reserved", "key").await;
    let item = Item::from([
        ("key".to_owned(), Value::s("k")),
        ("name".to_owned(), Value::s("n")),
    ]);
    put(&table, item).await;
    let write = update(
        "k",
        vec![Condition::Equals("name", Value::s("n"))],
        vec![Action::Set("name", Value::s("m"))],
    );
    assert_eq!(table.write(&write).await.unwrap().unwrap()["name"], Value::s("m"));
}

#[tokio::test]
async fn a_scan_pages_through_every_row_once() {
    let table = created("scan", "leaseKey").await;
    // Three rows of 400 KB are more than one page of 1 MB.
    let filler = "x".repeat(390_000);
    let mut expected = BTreeSet::new();
    for key in ["a", "b", "c", "d"] {
        put(&table, row(key, &[("filler", Value::s(filler.clone()))])).await;
        expected.insert(key.to_owned());
    }
    let (mut page, mut keys, mut pages) = (ScanPage::default(), Vec::new(), 0);
    page.consistent = true;
    loop {
        let rows = table.scan(&page).await.unwrap();
        keys.extend(rows.items.iter().map(key_of));
        pages += 1;
        page.after = rows.next;
        if page.after.is_none() {
            break;
        }
    }
    assert!(pages > 1, "one page of {} rows", keys.len());
    assert_eq!(keys.len(), expected.len());
    assert_eq!(BTreeSet::from_iter(keys), expected);
}

#[tokio::test]
async fn the_segments_of_a_scan_are_the_whole_table() {
    let table = created("segments", "leaseKey").await;
    for i in 0..20 {
        put(&table, row(&format!("shard-{i}"), &[])).await;
    }
    let mut keys = Vec::new();
    for segment in 0..4 {
        let page = ScanPage {
            segment: Some((segment, 4)),
            after: None,
            consistent: true,
        };
        keys.extend(table.scan(&page).await.unwrap().items.iter().map(key_of));
    }
    assert_eq!(keys.len(), 20);
    assert_eq!(BTreeSet::from_iter(keys).len(), 20);
}

#[tokio::test]
async fn a_value_of_an_unknown_type_is_not_written_back() {
    let table = created("unwritable", "leaseKey").await;
    let write = Write::Put {
        item: row("k", &[("newer", Value::Other)]),
        conditions: vec![],
    };
    assert!(matches!(table.write(&write).await, Err(TableError::Refused(_))));
}

#[tokio::test]
async fn a_server_that_is_not_there_leaves_it_open_what_happened() {
    let table = common::table_at("http://127.0.0.1:1", "nowhere", "leaseKey").await;
    let error = table.get("k", true).await.unwrap_err();
    assert!(matches!(error, TableError::Unknown(_)), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("DynamoDB at http://127.0.0.1:1") && text.contains("refused"),
        "{text}"
    );
}

#[tokio::test]
async fn every_error_says_what_to_do_next() {
    type Expected = fn(&TableError) -> bool;
    let cases: [(&str, Expected); 8] = [
        ("ProvisionedThroughputExceededException", |e| {
            matches!(e, TableError::Throttled(_))
        }),
        ("ThrottlingException", |e| matches!(e, TableError::Unknown(_))),
        ("RequestLimitExceeded", |e| matches!(e, TableError::Unknown(_))),
        ("InternalServerError", |e| matches!(e, TableError::Unknown(_))),
        ("TransactionConflictException", |e| {
            matches!(e, TableError::Throttled(_))
        }),
        ("ResourceNotFoundException", |e| {
            matches!(e, TableError::Missing(_))
        }),
        ("AccessDeniedException", |e| matches!(e, TableError::Refused(_))),
        ("UnrecognizedClientException", |e| {
            matches!(e, TableError::Refused(_))
        }),
    ];
    let table = created("errors", "leaseKey").await;
    for (code, expected) in cases {
        common::fault(
            Fault::on("dynamodb.GetItem")
                .only(table.name())
                .times(1)
                .error(code),
        )
        .await;
        let error = table.get("k", true).await.unwrap_err();
        assert!(expected(&error), "{code}: {error:?}");
    }
}

#[tokio::test]
async fn a_write_without_an_answer_may_have_happened() {
    let table = created("unanswered", "leaseKey").await;
    common::fault(
        Fault::on("dynamodb.UpdateItem")
            .only(table.name())
            .times(1)
            .unanswered(),
    )
    .await;
    let write = update("k", vec![], vec![Action::Add("leaseCounter", 1)]);
    assert!(matches!(table.write(&write).await, Err(TableError::Unknown(_))));
    // Tried once: the SDK has not repeated it behind our back.
    assert_eq!(
        table.get("k", true).await.unwrap().unwrap()["leaseCounter"],
        Value::n(1)
    );
}

#[tokio::test]
async fn point_in_time_recovery_can_be_switched_on() {
    let table = created("recovery", "leaseKey").await;
    table.enable_point_in_time_recovery().await.unwrap();
}

fn assert_conflict(result: Result<Option<Item>, TableError>, old: Option<&Item>) {
    match result {
        Err(TableError::Conflict(row)) => {
            if !common::returns_no_old_rows() {
                assert_eq!(row.as_deref(), old);
            }
        }
        other => panic!("no conflict: {other:?}"),
    }
}

#[tokio::test]
async fn a_transaction_over_two_tables_happens_as_a_whole_or_not_at_all() {
    let legacy = created("moved-state", "key").await;
    let leases = created("moved", "leaseKey").await;
    for (key, name) in [("Leader", "ownerName"), ("Migration3.0", "cv")] {
        let item = Item::from([
            ("key".to_owned(), Value::s(key)),
            (name.to_owned(), Value::s("w-A")),
        ]);
        let conditions = Vec::new();
        legacy.write(&Write::Put { item, conditions }).await.unwrap();
    }
    let place = |table: &DynamoDbTable| Place {
        table: table.name().to_owned(),
        key_name: table.key_name().to_owned(),
    };
    let tables = Places {
        coordinator: place(&legacy),
        leases: place(&leases),
    };
    let entry = legacy.get("Migration3.0", true).await.unwrap().unwrap();
    let by_another = tables.move_entry(&entry, &"w-B".into()).unwrap();
    let refused = leases.transact(&by_another).await;
    assert!(matches!(refused, Err(TableError::Conflict(None))), "{refused:?}");
    assert_eq!(leases.get("Migration3.0", true).await.unwrap(), None);
    let by_the_leader = tables.move_entry(&entry, &"w-A".into()).unwrap();
    leases.transact(&by_the_leader).await.unwrap();
    assert_eq!(legacy.get("Migration3.0", true).await.unwrap(), None);
    let moved = leases.get("Migration3.0", true).await.unwrap().unwrap();
    assert_eq!(moved["cv"], Value::s("w-A"));
    assert_eq!(moved["entityType"], Value::s("CLIENT_VERSION_MIGRATION"));
}

async fn created(name: &str, key_name: &str) -> DynamoDbTable {
    let table = dynamodb(name, key_name).await;
    table.create(&TableSettings::default()).await.unwrap();
    common::until("the table can be used", async || {
        table
            .describe()
            .await
            .unwrap()
            .filter(|table| table.is_usable)
            .map(|_| ())
    })
    .await;
    table
}

async fn put(table: &DynamoDbTable, item: Item) {
    let write = Write::Put {
        item,
        conditions: vec![],
    };
    assert_eq!(table.write(&write).await.unwrap(), None);
}

fn update(key: &str, conditions: Vec<Condition>, actions: Vec<Action>) -> Write {
    Write::Update {
        key: key.into(),
        conditions,
        actions,
    }
}

fn row(key: &str, attributes: &[(&str, Value)]) -> Item {
    let attributes = attributes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    attributes
        .chain([("leaseKey".to_owned(), Value::s(key))])
        .collect()
}

fn key_of(item: &Item) -> String {
    match &item["leaseKey"] {
        Value::S(key) => key.clone(),
        other => panic!("{other:?}"),
    }
}
