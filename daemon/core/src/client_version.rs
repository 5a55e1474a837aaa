//! Which rules a fleet plays by, 2.x or 3.x, and the way from one to the other: the row `Migration3.0`
//! (`leasing.md 5.9`).
//!
//! Owns the row, the rules that follow from it and from `clientVersionConfig`, and when the fleet is ready to change;
//! never acts.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::ids::WorkerId;
use crate::leases::{ENTITY_TYPE, LEASE_KEY, Lease};
use crate::table::{Action, BadRow, Condition, Item, Reader, Value, Write};
use crate::table_migration::COORDINATOR_KEY;
use crate::worker_metrics::WorkerMetrics;

/// The key of the row.
pub const KEY: &str = "Migration3.0";
/// The row's `entityType`.
pub const KIND: &str = "CLIENT_VERSION_MIGRATION";
/// States kept in the history, newest first.
const HISTORY_MAX: usize = 10;
/// How old a report may be for its worker to be ready for 3.x.
const REPORT_AGE_MAX: Duration = Duration::from_secs(60);
/// How long the fleet must have been ready without a break.
const READY_FOR: Duration = Duration::from_secs(600);

/// So long after the row has changed, every worker has seen it: Java's, like ours, look once a minute, and for the first time
/// up to 90 s after their start.
const SEEN_WITHIN: Duration = Duration::from_secs(90);

const VERSION: &str = "cv";
const MODIFIED_BY: &str = "mb";
const MODIFIED_MS: &str = "mts";
const HISTORY: &str = "h";

/// What the row says, by Java's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientVersion {
    /// `CLIENT_VERSION_3X`: a leader assigns leases. Final.
    V3,
    /// `CLIENT_VERSION_3X_WITH_ROLLBACK`: the same, for now.
    V3WithRollback,
    /// `CLIENT_VERSION_UPGRADE_FROM_2X`: workers take leases, and get ready to change.
    UpgradeFrom2,
    /// `CLIENT_VERSION_2X`: workers take leases; rolled back.
    V2,
    /// Something newer.
    Other(String),
}

impl ClientVersion {
    /// The text in the row.
    pub fn name(&self) -> &str {
        match self {
            Self::V3 => "CLIENT_VERSION_3X",
            Self::V3WithRollback => "CLIENT_VERSION_3X_WITH_ROLLBACK",
            Self::UpgradeFrom2 => "CLIENT_VERSION_UPGRADE_FROM_2X",
            Self::V2 => "CLIENT_VERSION_2X",
            Self::Other(name) => name,
        }
    }

    /// Workers take leases.
    fn takes(&self) -> bool {
        match self {
            Self::UpgradeFrom2 | Self::V2 => true,
            Self::V3 | Self::V3WithRollback | Self::Other(_) => false,
        }
    }

    fn parse(name: &str) -> Self {
        let known = [Self::V3, Self::V3WithRollback, Self::UpgradeFrom2, Self::V2];
        known
            .into_iter()
            .find(|version| version.name() == name)
            .unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

/// `clientVersionConfig`: what the user wants the fleet to play by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Configured {
    /// `CLIENT_VERSION_CONFIG_3X`.
    #[default]
    V3,
    /// `CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X`: like 2.x until the whole fleet is ready for 3.x.
    CompatibleWith2,
    /// `CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X_PHASE1`: like 2.x, and nothing in the table that 2.x could not read.
    Phase1,
}

/// The rules that a worker plays by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Like a worker of 2.x, beside workers of 2.x. Java calls it `CLIENT_VERSION_INIT`.
    Phase1,
    /// Like 2.x, after a roll-back.
    V2,
    /// Like 2.x, while the fleet gets ready for 3.x.
    UpgradeFrom2,
    /// 3.x, from which the fleet can still roll back.
    V3WithRollback,
    /// 3.x, for good.
    V3,
}

impl Rules {
    /// A leader that holds the lock assigns leases, and workers discover theirs; else workers take leases, and the leader
    /// is elected by computation.
    pub fn assigns(self) -> bool {
        match self {
            Self::Phase1 | Self::V2 | Self::UpgradeFrom2 => false,
            Self::V3WithRollback | Self::V3 => true,
        }
    }

    /// Workers report their metrics.
    pub fn reports(self) -> bool {
        match self {
            Self::Phase1 | Self::V2 => false,
            Self::UpgradeFrom2 | Self::V3WithRollback | Self::V3 => true,
        }
    }

    /// The owner index is created where there is none.
    pub fn creates_index(self) -> bool {
        match self {
            Self::Phase1 | Self::V2 | Self::V3WithRollback => false,
            Self::UpgradeFrom2 | Self::V3 => true,
        }
    }

    /// The row is watched for a change of the rules.
    pub fn may_change(self) -> bool {
        match self {
            Self::Phase1 | Self::V3 => false,
            Self::V2 | Self::UpgradeFrom2 | Self::V3WithRollback => true,
        }
    }

    /// The rules to play by from now on, if the row asks for others that are known. Others are ignored, and looked at again.
    ///
    /// Compat: Java changes by one step at a time, and ignores a row that has gone on by two before it was looked at again:
    /// that worker takes leases for good in a fleet that a leader assigns, or the other way round. The row has the last
    /// word, as it has for a worker that starts.
    pub fn changed_to(self, version: &ClientVersion) -> Option<Self> {
        let next = match version {
            ClientVersion::V2 => Self::V2,
            ClientVersion::UpgradeFrom2 => Self::UpgradeFrom2,
            ClientVersion::V3WithRollback => Self::V3WithRollback,
            ClientVersion::V3 => Self::V3,
            ClientVersion::Other(_) => return None,
        };
        (self.may_change() && next != self).then_some(next)
    }

    /// Java's name of the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::Phase1 => "CLIENT_VERSION_INIT",
            Self::V2 => "CLIENT_VERSION_2X",
            Self::UpgradeFrom2 => "CLIENT_VERSION_UPGRADE_FROM_2X",
            Self::V3WithRollback => "CLIENT_VERSION_3X_WITH_ROLLBACK",
            Self::V3 => "CLIENT_VERSION_3X",
        }
    }
}

/// The row.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientVersionRow {
    /// `cv`.
    pub version: ClientVersion,
    /// `mb`: who wrote it.
    pub modified_by: String,
    /// `mts`: when, in milliseconds since the epoch.
    pub modified_ms: i64,
    history: Vec<Value>,
    key_name: &'static str,
}

impl ClientVersionRow {
    /// Reads the row, from the lease table or from a legacy coordinator table.
    pub fn read(item: &Item) -> Result<Self, BadRow> {
        let key_name = if item.contains_key(LEASE_KEY) {
            LEASE_KEY
        } else {
            COORDINATOR_KEY
        };
        let row = Reader::new(key_name, item)?;
        let history = match item.get(HISTORY) {
            None => Vec::new(),
            Some(Value::L(entries)) => entries.clone(),
            Some(_) => return Err(row.bad(HISTORY, "is no list")),
        };
        Ok(Self {
            version: ClientVersion::parse(row.required(VERSION, row.text(VERSION)?)?),
            modified_by: row.text(MODIFIED_BY)?.unwrap_or_default().to_owned(),
            modified_ms: row.number(MODIFIED_MS)?.unwrap_or(0),
            history,
            key_name,
        })
    }

    /// Whether every worker goes by the rules of 3.x by now. A Java worker that does not yet would not look for what a leader
    /// gives it: it takes it when it has expired.
    pub fn all_are_assigned(&self, now_ms: i64) -> bool {
        if self.version.takes() {
            return false;
        }
        let mut since_ms = self.modified_ms;
        for entry in &self.history {
            let Value::M(entry) = entry else { continue };
            let (Some(Value::S(version)), Some(Value::N(at_ms))) =
                (entry.get(VERSION), entry.get(MODIFIED_MS))
            else {
                continue;
            };
            if ClientVersion::parse(version).takes() {
                // A clock far ahead wrote a time that says nothing, and must not hold the fleet up until it comes.
                return u128::from(now_ms.abs_diff(since_ms)) > SEEN_WITHIN.as_millis();
            }
            since_ms = at_ms.parse().unwrap_or(since_ms);
        }
        true
    }

    /// The key of the table that it was read from.
    pub fn key_name(&self) -> &'static str {
        self.key_name
    }

    /// Changes the row, unless somebody else was first. `entityType` stays as it is, as in Java.
    fn change_to(&self, version: &ClientVersion, me: &WorkerId, now_ms: i64) -> Write {
        let old = entry(self.version.name(), &self.modified_by, self.modified_ms);
        let mut history = vec![Value::M(old)];
        history.extend(self.history.iter().take(HISTORY_MAX - 1).cloned());
        Write::Update {
            key: KEY.to_owned(),
            conditions: vec![
                Condition::Equals(self.key_name, Value::s(KEY)),
                Condition::Equals(VERSION, Value::s(self.version.name())),
            ],
            actions: vec![
                Action::Set(VERSION, Value::s(version.name())),
                Action::Set(MODIFIED_BY, Value::s(me.as_str())),
                Action::Set(MODIFIED_MS, Value::n(now_ms)),
                Action::Set(HISTORY, Value::L(history)),
            ],
        }
    }
}

/// What a worker does about the row at its start.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Play by these rules.
    Play(Rules),
    /// Create the row; on a conflict read again and decide again (trap 30).
    Create(Write),
    /// Change the row, where it was read; on a conflict read again and decide again.
    Change(Write),
    /// The fleet plays by rules that this daemon does not know.
    Refuse(ClientVersion),
}

/// Decides what to do about the row. `key_name`: the key of the table that a new row goes to.
pub fn at_start(
    configured: Configured,
    row: Option<&ClientVersionRow>,
    me: &WorkerId,
    key_name: &'static str,
    now_ms: i64,
) -> Step {
    let Some(row) = row else {
        return match configured {
            Configured::Phase1 => Step::Play(Rules::Phase1),
            Configured::CompatibleWith2 => {
                Step::Create(create(&ClientVersion::UpgradeFrom2, me, key_name, now_ms))
            }
            Configured::V3 => Step::Create(create(&ClientVersion::V3, me, key_name, now_ms)),
        };
    };
    match (&row.version, configured) {
        (ClientVersion::V3WithRollback, Configured::V3) => {
            Step::Change(row.change_to(&ClientVersion::V3, me, now_ms))
        }
        (ClientVersion::V3WithRollback, Configured::CompatibleWith2 | Configured::Phase1) => {
            Step::Play(Rules::V3WithRollback)
        }
        (ClientVersion::V3, _) => Step::Play(Rules::V3),
        (ClientVersion::UpgradeFrom2, _) => Step::Play(Rules::UpgradeFrom2),
        (ClientVersion::V2, _) => Step::Play(Rules::V2),
        (ClientVersion::Other(_), _) => Step::Refuse(row.version.clone()),
    }
}

/// The fleet is ready: from now on a leader assigns. Every worker, this one included, follows when it sees the row.
pub fn flip(row: &ClientVersionRow, me: &WorkerId, now_ms: i64) -> Option<Write> {
    let ready = row.version == ClientVersion::UpgradeFrom2;
    ready.then(|| row.change_to(&ClientVersion::V3WithRollback, me, now_ms))
}

/// Whether every owner of a lease has reported lately. A lease without an owner means that not all of the fleet is seen
/// (trap 37); workers without leases do not count.
pub fn all_owners_report(leases: &[Lease], reports: &[WorkerMetrics], now_s: i64) -> bool {
    // `lut + 60 s > now`: one second less than fresh.
    let age_max = REPORT_AGE_MAX - Duration::from_secs(1);
    let reporting: BTreeSet<&WorkerId> = reports
        .iter()
        .filter(|report| report.is_fresh(now_s, age_max))
        .map(|report| &report.worker)
        .collect();
    leases.iter().all(|lease| {
        lease
            .owner
            .as_ref()
            .is_some_and(|owner| reporting.contains(owner))
    })
}

/// Since when the fleet has been ready without a break, as seen by its leader.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    since: Option<Instant>,
}

impl Readiness {
    /// The fleet was looked at. `true`: it has been ready for long enough.
    pub fn look(&mut self, is_ready: bool, now: Instant) -> bool {
        if !is_ready {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        now.saturating_duration_since(since) >= READY_FOR
    }

    /// Since when the fleet has been ready.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }
}

/// The first row of an application, with Java's initial history entry.
fn create(version: &ClientVersion, me: &WorkerId, key_name: &'static str, now_ms: i64) -> Write {
    let mut item = Item::from([
        (key_name.to_owned(), Value::s(KEY)),
        (ENTITY_TYPE.to_owned(), Value::s(KIND)),
        (
            HISTORY.to_owned(),
            Value::L(vec![Value::M(entry("CLIENT_VERSION_INIT", me.as_str(), now_ms))]),
        ),
    ]);
    item.extend(entry(version.name(), me.as_str(), now_ms));
    Write::Put {
        item,
        conditions: vec![Condition::Absent(key_name)],
    }
}

fn entry(version: &str, by: &str, at_ms: i64) -> Item {
    Item::from([
        (VERSION.to_owned(), Value::s(version)),
        (MODIFIED_BY.to_owned(), Value::s(by)),
        (MODIFIED_MS.to_owned(), Value::n(at_ms)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Position;

    const ME: &str = "w-A";

    fn row(version: &str) -> ClientVersionRow {
        let mut item = entry(version, "w-B", 5);
        item.insert("leaseKey".to_owned(), Value::s(KEY));
        ClientVersionRow::read(&item).unwrap()
    }

    fn start(configured: Configured, row: Option<&ClientVersionRow>) -> Step {
        at_start(configured, row, &ME.into(), LEASE_KEY, 9)
    }

    fn born(version: &str, key_name: &str) -> Item {
        let texts = |version: &str| {
            Item::from([
                ("cv".to_owned(), Value::s(version)),
                ("mb".to_owned(), Value::s("w-A")),
                ("mts".to_owned(), Value::n(1789000000123i64)),
            ])
        };
        let mut expected = texts(version);
        expected.insert(key_name.to_owned(), Value::s("Migration3.0"));
        expected.insert("entityType".to_owned(), Value::s("CLIENT_VERSION_MIGRATION"));
        expected.insert(
            "h".to_owned(),
            Value::L(vec![Value::M(texts("CLIENT_VERSION_INIT"))]),
        );
        expected
    }

    #[test]
    fn a_new_application_is_born_with_javas_row_and_history() {
        let cases = [
            (Configured::V3, "leaseKey", "CLIENT_VERSION_3X"),
            (Configured::V3, "key", "CLIENT_VERSION_3X"),
            (
                Configured::CompatibleWith2,
                "leaseKey",
                "CLIENT_VERSION_UPGRADE_FROM_2X",
            ),
        ];
        for (configured, key_name, version) in cases {
            let step = at_start(configured, None, &ME.into(), key_name, 1789000000123);
            let Step::Create(Write::Put { item, conditions }) = step else {
                panic!("expected a put");
            };
            assert_eq!(item, born(version, key_name));
            assert_eq!(conditions, [Condition::Absent(key_name)]);
        }
    }

    #[test]
    fn phase_1_writes_nothing() {
        assert_eq!(start(Configured::Phase1, None), Step::Play(Rules::Phase1));
    }

    #[test]
    fn a_row_is_obeyed_whatever_is_configured() {
        for configured in [Configured::V3, Configured::CompatibleWith2, Configured::Phase1] {
            let play = |version| start(configured, Some(&row(version)));
            assert_eq!(
                play("CLIENT_VERSION_UPGRADE_FROM_2X"),
                Step::Play(Rules::UpgradeFrom2)
            );
            assert_eq!(play("CLIENT_VERSION_2X"), Step::Play(Rules::V2));
            assert_eq!(play("CLIENT_VERSION_3X"), Step::Play(Rules::V3));
            let newer = "CLIENT_VERSION_4X";
            assert_eq!(play(newer), Step::Refuse(ClientVersion::Other(newer.to_owned())));
        }
    }

    #[test]
    fn only_a_worker_configured_for_3x_closes_the_way_back() {
        let row = row("CLIENT_VERSION_3X_WITH_ROLLBACK");
        assert_eq!(
            start(Configured::Phase1, Some(&row)),
            Step::Play(Rules::V3WithRollback)
        );
        assert_eq!(
            start(Configured::CompatibleWith2, Some(&row)),
            Step::Play(Rules::V3WithRollback)
        );
        let Step::Change(Write::Update {
            conditions, actions, ..
        }) = start(Configured::V3, Some(&row))
        else {
            panic!("expected an update");
        };
        let expected = [
            Condition::Equals("leaseKey", Value::s("Migration3.0")),
            Condition::Equals("cv", Value::s("CLIENT_VERSION_3X_WITH_ROLLBACK")),
        ];
        assert_eq!(conditions, expected);
        let history = Value::L(vec![Value::M(entry("CLIENT_VERSION_3X_WITH_ROLLBACK", "w-B", 5))]);
        let expected = [
            Action::Set("cv", Value::s("CLIENT_VERSION_3X")),
            Action::Set("mb", Value::s("w-A")),
            Action::Set("mts", Value::n(9)),
            Action::Set("h", history),
        ];
        assert_eq!(actions, expected);
    }

    #[test]
    fn the_history_keeps_ten_states_newest_first() {
        let mut row = row("CLIENT_VERSION_UPGRADE_FROM_2X");
        row.history = (0..10).map(Value::n).collect();
        let Some(Write::Update { actions, .. }) = flip(&row, &ME.into(), 9) else {
            panic!("expected an update");
        };
        let Action::Set("h", Value::L(history)) = &actions[3] else {
            panic!("expected the history");
        };
        assert_eq!(history.len(), 10);
        assert_eq!(
            history[0],
            Value::M(entry("CLIENT_VERSION_UPGRADE_FROM_2X", "w-B", 5))
        );
        assert_eq!(history[9], Value::n(8));
    }

    #[test]
    fn a_row_in_a_legacy_table_is_changed_under_that_tables_key() {
        let mut item = entry("CLIENT_VERSION_UPGRADE_FROM_2X", "w-B", 5);
        item.insert("key".to_owned(), Value::s(KEY));
        let write = flip(&ClientVersionRow::read(&item).unwrap(), &ME.into(), 9).unwrap();
        assert_eq!(
            write.conditions()[0],
            Condition::Equals("key", Value::s("Migration3.0"))
        );
    }

    #[test]
    fn rules_follow_the_row_even_where_a_step_of_it_was_missed() {
        use ClientVersion as Row;
        let all = [
            Rules::Phase1,
            Rules::V2,
            Rules::UpgradeFrom2,
            Rules::V3WithRollback,
            Rules::V3,
        ];
        let rows = [Row::V2, Row::UpgradeFrom2, Row::V3WithRollback, Row::V3];
        let changes: Vec<String> = all
            .iter()
            .flat_map(|from| rows.iter().map(move |row| (from, from.changed_to(row))))
            .filter_map(|(from, to)| Some(format!("{from:?} -> {:?}", to?)))
            .collect();
        let expected = [
            "V2 -> UpgradeFrom2",
            "V2 -> V3WithRollback",
            "V2 -> V3",
            "UpgradeFrom2 -> V2",
            "UpgradeFrom2 -> V3WithRollback",
            "UpgradeFrom2 -> V3",
            "V3WithRollback -> V2",
            "V3WithRollback -> UpgradeFrom2",
            "V3WithRollback -> V3",
        ];
        assert_eq!(changes, expected);
    }

    #[test]
    fn all_are_assigned_once_every_worker_has_seen_that_the_fleet_left_the_rules_of_2x() {
        let all_are_assigned = |version: &str, history: &[(&str, i64)], now_ms| {
            let mut item = entry(version, "w-B", 50_000);
            item.insert("leaseKey".to_owned(), Value::s(KEY));
            let entries = history
                .iter()
                .map(|(version, at_ms)| Value::M(entry(version, "w-A", *at_ms)));
            item.insert(HISTORY.to_owned(), Value::L(entries.collect()));
            ClientVersionRow::read(&item).unwrap().all_are_assigned(now_ms)
        };
        let (v2, v3) = ("CLIENT_VERSION_UPGRADE_FROM_2X", "CLIENT_VERSION_3X");
        let (rollback, init) = ("CLIENT_VERSION_3X_WITH_ROLLBACK", "CLIENT_VERSION_INIT");
        assert!(!all_are_assigned(rollback, &[(v2, 0)], 140_000));
        assert!(all_are_assigned(rollback, &[(v2, 0)], 140_001));
        assert!(!all_are_assigned(v3, &[(rollback, 40_000), (v2, 0)], 130_000));
        assert!(all_are_assigned(v3, &[(rollback, 40_000), (v2, 0)], 130_001));
        assert!(all_are_assigned(v3, &[(init, 50_000)], 50_001), "born in 3.x");
        assert!(
            !all_are_assigned(rollback, &[(v2, 0)], 40_000),
            "by a clock a little ahead"
        );
        assert!(
            all_are_assigned(rollback, &[(v2, 0)], -50_000),
            "by a clock far ahead"
        );
        assert!(!all_are_assigned(v2, &[(rollback, 0)], 900_000), "rolled back");
    }

    #[test]
    fn what_runs_in_each_state_is_javas_table() {
        let runs = |rules: Rules| {
            [
                rules.assigns(),
                rules.reports(),
                rules.creates_index(),
                rules.may_change(),
            ]
        };
        assert_eq!(runs(Rules::Phase1), [false, false, false, false]);
        assert_eq!(runs(Rules::V2), [false, false, false, true]);
        assert_eq!(runs(Rules::UpgradeFrom2), [false, true, true, true]);
        assert_eq!(runs(Rules::V3WithRollback), [true, true, false, true]);
        assert_eq!(runs(Rules::V3), [true, true, true, false]);
    }

    fn lease(owner: Option<&str>) -> Lease {
        Lease {
            owner: owner.map(WorkerId::from),
            ..Lease::new("s".into(), Position::TrimHorizon, Default::default(), None)
        }
    }

    #[test]
    fn the_fleet_is_ready_when_every_owner_has_reported_within_the_last_minute() {
        let report = |worker: &str, at_s| WorkerMetrics::unmeasured(worker.into(), at_s);
        let leases = [lease(Some("a")), lease(Some("b"))];
        let reports = [report("a", 100), report("b", 100), report("idle", 0)];
        assert!(all_owners_report(&leases, &reports, 159));
        assert!(!all_owners_report(&leases, &reports, 160));
        assert!(!all_owners_report(&leases, &reports[..1], 110));
    }

    #[test]
    fn a_lease_without_an_owner_means_not_ready() {
        let reports = [WorkerMetrics::unmeasured("a".into(), 100)];
        assert!(!all_owners_report(
            &[lease(Some("a")), lease(None)],
            &reports,
            100
        ));
    }

    #[test]
    fn the_fleet_must_be_ready_for_ten_minutes_without_a_break() {
        let (mut readiness, start) = (Readiness::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!readiness.look(true, at(0)));
        assert!(!readiness.look(true, at(599)));
        assert!(!readiness.look(false, at(599)));
        assert!(!readiness.look(true, at(660)));
        assert!(!readiness.look(true, at(1259)));
        assert!(readiness.look(true, at(1260)));
    }
}
