//! Fleets with a past: by the rules of 2.x, on the way to 3.x and back (`leasing.md 5.9`), and those of 3.0-3.4 that move
//! their separate tables into the lease table (`leasing.md 5.10`). What an operator does to them, step by step.

use std::sync::Arc;

use multilangd_core::client_version::{self, Configured};
use multilangd_core::table::{Action, Item, Value, Write};
use multilangd_core::table_migration::{self, COORDINATOR_KEY, METRICS_KEY};

use super::java::Make;
use crate::faults::{Dice, Legacy, World};
use crate::fleet::{Fleet, NOW_MS};
use crate::table::FakeTable;

const UPGRADE: &str = "CLIENT_VERSION_UPGRADE_FROM_2X";
const ROLLED_BACK: &str = "CLIENT_VERSION_2X";
const WITH_ROLLBACK: &str = "CLIENT_VERSION_3X_WITH_ROLLBACK";

const INIT: &str = "TABLE_MIGRATION_STATUS_INIT";
const DEPLOYED: &str = "TABLE_MIGRATION_STATUS_DEPLOYED";
const PENDING: &str = "TABLE_MIGRATION_STATUS_PENDING";
const COMPLETE: &str = "TABLE_MIGRATION_STATUS_COMPLETE";

/// How long an operator watches before the next step, in events of a story.
const STEP: u64 = 120;
/// A row of this age has baked.
const BAKED_MS: i64 = 2 * 3600 * 1000;

/// Where a fleet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// Born in 3.5.
    None,
    /// Beside workers of 2.x, which read nothing but leases.
    Phase1,
    /// 2.x, on its way to 3.x.
    Upgrading,
    /// Separate tables; the row `TableMigration3.5` as it is at the beginning.
    SeparateTables(Option<&'static str>),
}

impl Past {
    /// The past of a seed.
    pub fn of(seed: u64, dice: &Dice) -> Self {
        match seed % 7 {
            2 if seed.is_multiple_of(2) => Self::Phase1,
            2 => Self::Upgrading,
            5 => {
                let statuses = [None, Some(INIT), Some(DEPLOYED), Some(PENDING)];
                Self::SeparateTables(*dice.one_of(&statuses).unwrap_or(&None))
            }
            _ => Self::None,
        }
    }

    /// What its workers are configured for, at first.
    pub fn configured(self) -> Configured {
        match self {
            Self::None | Self::SeparateTables(_) => Configured::V3,
            Self::Phase1 => Configured::Phase1,
            Self::Upgrading => Configured::CompatibleWith2,
        }
    }

    /// So many times as many events: rules are looked at once a minute.
    pub fn length(self) -> u64 {
        match self {
            Self::None | Self::Phase1 => 1,
            Self::Upgrading | Self::SeparateTables(_) => 2,
        }
    }

    /// The Java workers that may be beside ours.
    pub fn java(self) -> &'static [Make] {
        match self {
            Self::None => &[Make::Follower, Make::Taker, Make::Leader],
            Self::Phase1 => &[Make::V2],
            Self::Upgrading => &[Make::Taker],
            Self::SeparateTables(_) => &[Make::Follower],
        }
    }

    /// The tables of 3.0-3.4, with what is in them.
    pub fn legacy_tables(self, leases: &Arc<FakeTable>) -> Option<Legacy> {
        let Self::SeparateTables(status) = self else {
            return None;
        };
        let legacy = Legacy {
            coordinator: FakeTable::existing_with_key("simulated-CoordinatorState", COORDINATOR_KEY),
            metrics: FakeTable::existing_with_key("simulated-WorkerMetricStats", METRICS_KEY),
        };
        let text = |name: &str, value: &str| (name.to_owned(), Value::s(value));
        let state = |key: &str, name: &str, value: &str| {
            let modified = ("mts".to_owned(), Value::n(NOW_MS - BAKED_MS));
            Item::from([
                text(COORDINATOR_KEY, key),
                text(name, value),
                text("mb", "java"),
                modified,
            ])
        };
        legacy
            .coordinator
            .put(state(client_version::KEY, "cv", "CLIENT_VERSION_3X"));
        if let Some(status) = status {
            legacy.coordinator.put(state(table_migration::KEY, "tm", status));
        }
        leases.put_beside(legacy.coordinator.clone());
        Some(legacy)
    }

    /// The operator's next step, if it is time for one.
    pub fn goes_on(self, world: &World, fleet: &mut Fleet) {
        if self == Self::None || !world.dice.happens(STEP) {
            return;
        }
        match self {
            Self::None | Self::Phase1 => {}
            Self::Upgrading => change_rules(world, fleet),
            Self::SeparateTables(_) => {
                let status = world
                    .legacy
                    .as_ref()
                    .and_then(|legacy| status(&legacy.coordinator));
                // Before that, no worker would start with it.
                if status.is_some_and(|status| [DEPLOYED, PENDING, COMPLETE].contains(&status.as_str())) {
                    world
                        .journal
                        .note("the fleet is configured to move into the lease table");
                    fleet.set_migrate();
                }
            }
        }
    }

    /// What was lost on the way, in the end.
    pub fn is_lost(self, world: &World) -> Option<String> {
        let legacy = world.legacy.as_ref()?;
        let (rows, moved) = (legacy.coordinator.rows(), world.table.rows());
        let places = [&rows, &moved].map(|rows| rows.contains_key(client_version::KEY));
        if places.iter().filter(|there| **there).count() != 1 {
            return Some(format!("Migration3.0 is in the two tables: {places:?}"));
        }
        let is_complete = status(&legacy.coordinator).as_deref() == Some(COMPLETE);
        if is_complete != moved.contains_key(table_migration::KEY) {
            return Some("the end of the move is in one table only".to_owned());
        }
        (is_complete && places[0]).then(|| "Migration3.0 was left behind by a complete move".to_owned())
    }
}

/// What `KclMigrationTool`, and the leader of a fleet that is ready, do to the row; and in the end the last deployment.
fn change_rules(world: &World, fleet: &mut Fleet) {
    let Some(row) = world.table.row(client_version::KEY) else {
        return;
    };
    let Some(Value::S(version)) = row.get("cv") else {
        return;
    };
    let next = match version.as_str() {
        UPGRADE => *world
            .dice
            .one_of(&[WITH_ROLLBACK, WITH_ROLLBACK, ROLLED_BACK])
            .unwrap_or(&UPGRADE),
        WITH_ROLLBACK if world.dice.happens(500) => {
            world.journal.note("workers are configured for 3.x from now on");
            fleet.set_client_version(Configured::V3);
            return;
        }
        WITH_ROLLBACK => ROLLED_BACK,
        ROLLED_BACK => UPGRADE,
        _ => return,
    };
    world.journal.note(format!("the rules become {next}"));
    let was = ["cv", "mb", "mts"].map(|name| (name.to_owned(), row[name].clone()));
    let mut history = vec![Value::M(was.into())];
    if let Some(Value::L(older)) = row.get("h") {
        history.extend(older.iter().cloned());
    }
    let now_ms = NOW_MS + i64::try_from(world.age().as_millis()).unwrap_or(0);
    let write = Write::Update {
        key: client_version::KEY.to_owned(),
        conditions: Vec::new(),
        actions: vec![
            Action::Set("cv", Value::s(next)),
            Action::Set("mb", Value::s("operator")),
            Action::Set("mts", Value::n(now_ms)),
            Action::Set("h", Value::L(history)),
        ],
    };
    if world.table.apply(&write).is_ok() && next == ROLLED_BACK {
        world.table.delete_index();
    }
}

fn status(coordinator: &FakeTable) -> Option<String> {
    match coordinator.row(table_migration::KEY)?.get("tm") {
        Some(Value::S(status)) => Some(status.clone()),
        _ => None,
    }
}
