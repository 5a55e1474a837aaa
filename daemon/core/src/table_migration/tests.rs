use super::*;
use crate::ids::Position;

const NOW_MS: i64 = 1_789_000_000_000;
const HOUR_MS: i64 = 3_600_000;
const BAKE: Duration = Duration::from_secs(24 * 3600);

fn row(status: Status, age_ms: i64) -> MigrationRow {
    let mut item = entry(status, "w-B", NOW_MS - age_ms);
    item.insert("key".to_owned(), Value::s(KEY));
    MigrationRow::read(&item).unwrap()
}

fn leases(owners: &[&str]) -> Vec<Lease> {
    let lease = |owner: &&str| Lease {
        owner: Some((*owner).into()),
        ..Lease::new(
            format!("s-{owner}").into(),
            Position::TrimHorizon,
            Default::default(),
            None,
        )
    };
    owners.iter().map(lease).collect()
}

fn report(worker: &str, age_s: i64) -> WorkerMetrics {
    WorkerMetrics::unmeasured(worker.into(), NOW_MS / 1000 - age_s)
}

/// A fleet of a and b, which report to these tables.
struct Fleet {
    leases: Vec<Lease>,
    reports: Vec<WorkerMetrics>,
    legacy_reports: Vec<WorkerMetrics>,
    entries: usize,
}

impl Fleet {
    fn legacy() -> Self {
        Self {
            leases: leases(&["a", "b"]),
            reports: Vec::new(),
            legacy_reports: vec![report("a", 1), report("b", 1)],
            entries: 1,
        }
    }

    fn single() -> Self {
        let legacy = Self::legacy();
        Self {
            reports: legacy.legacy_reports,
            legacy_reports: vec![report("a", 61)],
            entries: 0,
            ..legacy
        }
    }

    fn duty(&self, local: Status, row: Option<&MigrationRow>) -> Duty {
        let facts = Facts {
            leases: &self.leases,
            reports: &self.reports,
            legacy_reports: &self.legacy_reports,
            entries: self.entries,
            report_age_max: Duration::from_secs(60),
            now_ms: NOW_MS,
        };
        duty(local, row, &facts, &"me".into(), BAKE)
    }

    fn goes_to(&self, local: Status, row: Option<&MigrationRow>) -> Option<Status> {
        match self.duty(local, row) {
            Duty::Write(_, to) => to,
            other => panic!("expected a write, not {other:?}"),
        }
    }
}

#[test]
fn a_worker_begins_where_the_row_and_its_configuration_say() {
    let begin = |status: Option<Status>, migrate| at_start(status.map(|it| row(it, 0)).as_ref(), migrate);
    assert_eq!(begin(None, false), Ok(Status::Init));
    assert_eq!(begin(None, true), Err(TooEarly));
    assert_eq!(begin(Some(Status::Init), false), Ok(Status::Init));
    assert_eq!(begin(Some(Status::Init), true), Err(TooEarly));
    for status in [Status::Deployed, Status::Pending] {
        assert_eq!(begin(Some(status), false), Ok(Status::Deployed));
        assert_eq!(begin(Some(status), true), Ok(Status::Pending));
    }
    for migrate in [false, true] {
        assert_eq!(begin(Some(Status::Complete), migrate), Ok(Status::Complete));
    }
}

#[test]
fn a_missing_row_changes_nothing_and_complete_is_final() {
    assert_eq!(follow(Status::Pending, None, true), Status::Pending);
    assert_eq!(
        follow(Status::Complete, Some(&row(Status::Init, 0)), false),
        Status::Complete
    );
    assert_eq!(
        follow(Status::Init, Some(&row(Status::Deployed, 0)), false),
        Status::Deployed
    );
    assert_eq!(
        follow(Status::Pending, Some(&row(Status::Init, 0)), true),
        Status::Pending
    );
    assert_eq!(
        follow(Status::Deployed, Some(&row(Status::Complete, 0)), false),
        Status::Complete
    );
}

#[test]
fn the_row_appears_when_every_owner_knows_the_single_table() {
    assert_eq!(Fleet::legacy().goes_to(Status::Init, None), Some(Status::Init));
    let mut fleet = Fleet::legacy();
    fleet.legacy_reports[1].supported = None;
    assert_eq!(fleet.duty(Status::Init, None), Duty::Nothing);
    let mut fleet = Fleet::legacy();
    fleet.legacy_reports[1].supported_s = Some(NOW_MS / 1000 - 91);
    assert_eq!(fleet.duty(Status::Init, None), Duty::Nothing);
    fleet.legacy_reports.pop();
    assert_eq!(fleet.duty(Status::Init, None), Duty::Nothing);
    fleet.leases.clear();
    assert_eq!(fleet.duty(Status::Init, None), Duty::Nothing);
}

#[test]
fn the_first_row_is_that_of_java() {
    let Duty::Write(Write::Put { item, conditions }, _) = Fleet::legacy().duty(Status::Init, None) else {
        panic!("expected a put");
    };
    let texts = [
        ("key", Value::s("TableMigration3.5")),
        ("tm", Value::s("TABLE_MIGRATION_STATUS_INIT")),
        ("mb", Value::s("me")),
        ("mts", Value::n(NOW_MS)),
        ("entityType", Value::s("TABLE_MIGRATION")),
        (
            "h",
            Value::L(vec![Value::M(Item::from([
                ("tm".to_owned(), Value::s("TABLE_MIGRATION_STATUS_INIT")),
                ("mb".to_owned(), Value::s("me")),
                ("mts".to_owned(), Value::n(NOW_MS)),
            ]))]),
        ),
    ];
    assert_eq!(item, texts.map(|(name, value)| (name.to_owned(), value)).into());
    assert_eq!(conditions, [Condition::Absent("key")]);
}

#[test]
fn after_an_hour_of_support_the_single_table_is_deployed_and_a_lapse_forgets_the_row() {
    let fleet = Fleet::legacy();
    let young = row(Status::Init, HOUR_MS - 1);
    assert_eq!(fleet.duty(Status::Init, Some(&young)), Duty::Nothing);
    let old = row(Status::Init, HOUR_MS);
    assert_eq!(fleet.goes_to(Status::Init, Some(&old)), Some(Status::Deployed));
    let mut lapsed = Fleet::legacy();
    lapsed.legacy_reports[0].supported = None;
    assert_eq!(lapsed.goes_to(Status::Init, Some(&old)), None);
}

#[test]
fn a_leader_of_the_first_deployment_takes_the_second_one_back() {
    let pending = row(Status::Pending, 0);
    assert_eq!(
        Fleet::legacy().goes_to(Status::Deployed, Some(&pending)),
        Some(Status::Deployed)
    );
}

#[test]
fn entries_move_when_nobody_reports_to_the_legacy_table_any_more() {
    let deployed = row(Status::Deployed, 0);
    assert_eq!(
        Fleet::legacy().duty(Status::Pending, Some(&deployed)),
        Duty::Nothing
    );
    let with_entries = Fleet {
        entries: 1,
        ..Fleet::single()
    };
    assert_eq!(with_entries.duty(Status::Pending, Some(&deployed)), Duty::Move);
    assert_eq!(
        Fleet::single().goes_to(Status::Pending, Some(&deployed)),
        Some(Status::Pending)
    );
    let mut silent = Fleet::single();
    silent.reports.pop();
    assert_eq!(silent.duty(Status::Pending, Some(&deployed)), Duty::Nothing);
}

#[test]
fn the_move_ends_after_its_bake_time_unless_somebody_still_writes_to_the_legacy_tables() {
    let young = row(Status::Pending, 24 * HOUR_MS - 1);
    assert_eq!(Fleet::single().duty(Status::Pending, Some(&young)), Duty::Nothing);
    let old = row(Status::Pending, 24 * HOUR_MS);
    assert_eq!(Fleet::single().duty(Status::Pending, Some(&old)), Duty::Finalise);
    let mut loud = Fleet::single();
    loud.legacy_reports.push(report("c", 1));
    assert_eq!(loud.goes_to(Status::Pending, Some(&old)), Some(Status::Deployed));
    let with_entries = Fleet {
        entries: 1,
        ..Fleet::single()
    };
    assert_eq!(
        with_entries.goes_to(Status::Pending, Some(&old)),
        Some(Status::Deployed)
    );
}

#[test]
fn a_change_expects_the_status_that_was_read_and_keeps_the_history() {
    let Duty::Write(write, _) = Fleet::single().duty(Status::Pending, Some(&row(Status::Deployed, 7))) else {
        panic!("expected a write");
    };
    let expected = [
        Condition::Equals("key", Value::s("TableMigration3.5")),
        Condition::Equals("tm", Value::s("TABLE_MIGRATION_STATUS_DEPLOYED")),
    ];
    assert_eq!(write.conditions(), expected);
    let Write::Update { actions, .. } = write else {
        panic!("expected an update");
    };
    let before = Value::M(entry(Status::Deployed, "w-B", NOW_MS - 7));
    assert_eq!(actions[3], Action::Set("h", Value::L(vec![before])));
}

fn places() -> Places {
    let place = |table: &str, key_name: &str| Place {
        table: table.to_owned(),
        key_name: key_name.to_owned(),
    };
    Places {
        coordinator: place("app-CoordinatorState", "key"),
        leases: place("app", "leaseKey"),
    }
}

#[test]
fn an_entry_moves_with_all_its_attributes_and_gets_the_type_that_java_3_4_did_not_write() {
    let item = Item::from([
        ("key".to_owned(), Value::s("Migration3.0")),
        ("cv".to_owned(), Value::s("CLIENT_VERSION_3X")),
        ("new".to_owned(), Value::n(1)),
    ]);
    let parts = places().move_entry(&item, &"me".into()).unwrap();
    let check = Part::Check {
        key: "Leader".to_owned(),
        conditions: vec![Condition::Equals("ownerName", Value::s("me"))],
    };
    assert_eq!(parts[0], (places().coordinator, check));
    let moved = Item::from([
        ("leaseKey".to_owned(), Value::s("Migration3.0")),
        ("entityType".to_owned(), Value::s("CLIENT_VERSION_MIGRATION")),
        ("cv".to_owned(), Value::s("CLIENT_VERSION_3X")),
        ("new".to_owned(), Value::n(1)),
    ]);
    let put = Write::Put {
        item: moved,
        conditions: vec![Condition::Absent("leaseKey")],
    };
    assert_eq!(parts[1], (places().leases, Part::Write(put)));
    let delete = Write::Delete {
        key: "Migration3.0".to_owned(),
        conditions: vec![
            Condition::Present("key"),
            Condition::Equals("cv", Value::s("CLIENT_VERSION_3X")),
        ],
    };
    assert_eq!(parts[2], (places().coordinator, Part::Write(delete)));
}

#[test]
fn lock_and_status_stay_and_what_has_no_type_is_not_moved() {
    let row = |key: &str| Item::from([("key".to_owned(), Value::s(key))]);
    assert!(!is_entry(&row("Leader")));
    assert!(!is_entry(&row("TableMigration3.5")));
    assert!(is_entry(&row("Migration3.0")));
    assert_eq!(places().move_entry(&row("unheard-of"), &"me".into()), None);
}

#[test]
fn the_end_is_written_to_both_tables_at_once() {
    let parts = places().finalise(&row(Status::Pending, 5), &"me".into(), NOW_MS);
    let tables: Vec<&str> = parts.iter().map(|(place, _)| place.table.as_str()).collect();
    assert_eq!(tables, ["app-CoordinatorState", "app", "app-CoordinatorState"]);
    let Part::Write(Write::Put { item, conditions }) = &parts[2].1 else {
        panic!("expected a put");
    };
    assert_eq!(item["tm"], Value::s("TABLE_MIGRATION_STATUS_COMPLETE"));
    assert_eq!(
        item["h"],
        Value::L(vec![Value::M(entry(Status::Pending, "w-B", NOW_MS - 5))])
    );
    let pending = Condition::Equals("tm", Value::s("TABLE_MIGRATION_STATUS_PENDING"));
    assert_eq!(*conditions, [pending]);
}
