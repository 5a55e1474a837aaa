//! Which rules a fleet plays by: the row `Migration3.0` (`leasing.md 5.9`). This daemon plays by 3.x; the 2.x rules
//! and the change between them are refused at start, not guessed.

use crate::ids::WorkerId;
use crate::leases::{ENTITY_TYPE, LEASE_KEY};
use crate::table::{Action, BadRow, Condition, Item, Reader, Value, Write};

/// The key of the row.
pub const KEY: &str = "Migration3.0";
/// States kept in the history, newest first.
const HISTORY_MAX: usize = 10;

const VERSION: &str = "cv";
const MODIFIED_BY: &str = "mb";
const MODIFIED_MS: &str = "mts";
const HISTORY: &str = "h";

/// Rules that a fleet plays by, by Java's names.
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

    fn parse(name: &str) -> Self {
        let known = [Self::V3, Self::V3WithRollback, Self::UpgradeFrom2, Self::V2];
        known
            .into_iter()
            .find(|version| version.name() == name)
            .unwrap_or_else(|| Self::Other(name.to_owned()))
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
}

impl ClientVersionRow {
    /// Reads the row.
    pub fn read(item: &Item) -> Result<Self, BadRow> {
        let key_name = if item.contains_key(LEASE_KEY) {
            LEASE_KEY
        } else {
            "key"
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
        })
    }
}

/// What a worker that is configured for 3.x does about the row at its start.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The fleet plays by 3.x: go on.
    Go,
    /// Write this first; on a conflict read again and decide again (trap 30).
    Write(Write),
    /// The fleet plays by rules that this daemon does not know.
    Refuse(ClientVersion),
}

/// Decides what to do about the row, for `clientVersionConfig` = `CLIENT_VERSION_CONFIG_3X`.
pub fn at_start(row: Option<&ClientVersionRow>, me: &WorkerId, now_ms: i64) -> Step {
    match row {
        None => Step::Write(create(me, now_ms)),
        Some(row) => match row.version {
            ClientVersion::V3 => Step::Go,
            ClientVersion::V3WithRollback => Step::Write(end_rollback(row, me, now_ms)),
            ClientVersion::UpgradeFrom2 | ClientVersion::V2 | ClientVersion::Other(_) => {
                Step::Refuse(row.version.clone())
            }
        },
    }
}

/// The first row of an application born in 3.x, with Java's initial history entry.
fn create(me: &WorkerId, now_ms: i64) -> Write {
    let mut item = Item::from([
        (LEASE_KEY.to_owned(), Value::s(KEY)),
        (ENTITY_TYPE.to_owned(), Value::s("CLIENT_VERSION_MIGRATION")),
        (
            HISTORY.to_owned(),
            Value::L(vec![Value::M(entry("CLIENT_VERSION_INIT", me.as_str(), now_ms))]),
        ),
    ]);
    item.extend(entry(ClientVersion::V3.name(), me.as_str(), now_ms));
    Write::Put {
        item,
        conditions: vec![Condition::Absent(LEASE_KEY)],
    }
}

fn end_rollback(row: &ClientVersionRow, me: &WorkerId, now_ms: i64) -> Write {
    let old = entry(row.version.name(), &row.modified_by, row.modified_ms);
    let mut history = vec![Value::M(old)];
    history.extend(row.history.iter().take(HISTORY_MAX - 1).cloned());
    Write::Update {
        key: KEY.to_owned(),
        conditions: vec![
            Condition::Equals(LEASE_KEY, Value::s(KEY)),
            Condition::Equals(VERSION, Value::s(row.version.name())),
        ],
        actions: vec![
            Action::Set(VERSION, Value::s(ClientVersion::V3.name())),
            Action::Set(MODIFIED_BY, Value::s(me.as_str())),
            Action::Set(MODIFIED_MS, Value::n(now_ms)),
            Action::Set(HISTORY, Value::L(history)),
        ],
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

    fn row(version: &str) -> ClientVersionRow {
        let mut item = entry(version, "w-B", 5);
        item.insert("leaseKey".to_owned(), Value::s(KEY));
        ClientVersionRow::read(&item).unwrap()
    }

    #[test]
    fn a_new_application_is_born_in_3x_with_javas_history() {
        let Step::Write(Write::Put { item, conditions }) = at_start(None, &"w-A".into(), 1789000000123)
        else {
            panic!("expected a put");
        };
        let texts = |version: &str| {
            Item::from([
                ("cv".to_owned(), Value::s(version)),
                ("mb".to_owned(), Value::s("w-A")),
                ("mts".to_owned(), Value::n(1789000000123i64)),
            ])
        };
        let mut expected = texts("CLIENT_VERSION_3X");
        expected.insert("leaseKey".to_owned(), Value::s("Migration3.0"));
        expected.insert("entityType".to_owned(), Value::s("CLIENT_VERSION_MIGRATION"));
        expected.insert(
            "h".to_owned(),
            Value::L(vec![Value::M(texts("CLIENT_VERSION_INIT"))]),
        );
        assert_eq!(item, expected);
        assert_eq!(conditions, [Condition::Absent("leaseKey")]);
    }

    #[test]
    fn a_fleet_in_3x_needs_nothing() {
        assert_eq!(
            at_start(Some(&row("CLIENT_VERSION_3X")), &"w-A".into(), 9),
            Step::Go
        );
    }

    #[test]
    fn the_way_back_is_closed_under_the_condition_that_nobody_was_first() {
        let step = at_start(Some(&row("CLIENT_VERSION_3X_WITH_ROLLBACK")), &"w-A".into(), 9);
        let Step::Write(Write::Update {
            conditions, actions, ..
        }) = step
        else {
            panic!("expected an update");
        };
        assert_eq!(
            conditions[1],
            Condition::Equals("cv", Value::s("CLIENT_VERSION_3X_WITH_ROLLBACK"))
        );
        assert_eq!(actions[0], Action::Set("cv", Value::s("CLIENT_VERSION_3X")));
        assert_eq!(
            actions[3],
            Action::Set(
                "h",
                Value::L(vec![Value::M(entry("CLIENT_VERSION_3X_WITH_ROLLBACK", "w-B", 5))])
            )
        );
    }

    #[test]
    fn a_fleet_that_takes_leases_is_refused_by_name() {
        let step = at_start(Some(&row("CLIENT_VERSION_UPGRADE_FROM_2X")), &"w-A".into(), 9);
        assert_eq!(step, Step::Refuse(ClientVersion::UpgradeFrom2));
    }
}
