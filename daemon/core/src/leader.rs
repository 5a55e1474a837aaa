//! The leader's lock: one row, whose staleness is judged by whoever watches it (`leasing.md 5.2`).
//!
//! Owns the lock row, its writes, and the decision when to acquire, renew or wait; never acts. Nobody compares wall
//! clocks: a lock is stale when the same version has been seen for longer than the row's own duration.

use std::time::{Duration, Instant};

use crate::deputy::{SEATS, has_other_heir};
use crate::ids::WorkerId;
use crate::leases::{ENTITY_TYPE, LEASE_KEY};
use crate::table::{Action, BadRow, Condition, Item, Reader, Value, Write};

/// The key of the lock row.
pub const KEY: &str = "Leader";

const OWNER: &str = "ownerName";
const DURATION: &str = "leaseDuration";
const VERSION: &str = "recordVersionNumber";
const RELEASED: &str = "isReleased";

/// The shortest duration we write: below it, one slow answer would cost the leadership.
const DURATION_MIN: Duration = Duration::from_secs(3);
/// What Java writes; we never write more.
const DURATION_MAX: Duration = Duration::from_secs(120);
/// How often somebody else's lock is looked at, at most. Java looks every 30 s; a released lock must not lie idle.
const POLL: Duration = Duration::from_secs(2);
/// The same for an heir: of the two seconds in which a dead leader's shards must have found a worker, this is the first.
const HEIR_POLL: Duration = Duration::from_secs(1);
/// How long everybody else waits for the heir, who knows how long each lease of the dead leader has stood still.
const HEIR_AHEAD: Duration = Duration::from_secs(2);

/// The lock row. Every attribute of it is a string, the duration too (trap 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRow {
    /// `ownerName`.
    pub owner: WorkerId,
    /// `leaseDuration`, milliseconds as text.
    pub duration: Duration,
    /// `recordVersionNumber`: new on every acquisition and heartbeat.
    pub version: String,
    /// `isReleased`: given back without deletion.
    pub is_released: bool,
    /// Who looks at leases besides the leader ([`crate::deputy`]).
    pub deputies: [Option<String>; SEATS.len()],
}

impl LockRow {
    /// Reads the lock row, from the lease table or from a legacy coordinator table: its key is known anyway.
    pub fn read(item: &Item) -> Result<Self, BadRow> {
        let key_name = if item.contains_key(LEASE_KEY) {
            LEASE_KEY
        } else {
            "key"
        };
        let row = Reader::new(key_name, item)?;
        let duration = row.required(DURATION, row.text(DURATION)?)?;
        let duration: u64 = duration
            .parse()
            .map_err(|_| row.bad(DURATION, "is no number of milliseconds"))?;
        let mut deputies = [const { None }; SEATS.len()];
        for (deputy, seat) in deputies.iter_mut().zip(SEATS) {
            *deputy = row.text(seat)?.map(str::to_owned);
        }
        Ok(Self {
            deputies,
            owner: row.required(OWNER, row.text(OWNER)?)?.into(),
            duration: Duration::from_millis(duration),
            version: row.required(VERSION, row.text(VERSION)?)?.to_owned(),
            is_released: row.text(RELEASED)?.is_some(),
        })
    }

    /// Whether its holder looks at all leases every second, as ours do. In the daemon's properties nobody can set the
    /// duration that Java writes.
    pub fn is_quick(&self) -> bool {
        self.duration < DURATION_MAX
    }

    pub(crate) fn owned_as_seen(&self) -> Condition {
        Condition::Equals(OWNER, Value::s(self.owner.as_str()))
    }
}

/// The duration of the locks we write.
///
/// Compat: Java writes 120 s, which leaves the fleet without a leader for as long after a crash. Every Java observer
/// honours the row's own value, so ours is the failover time: when the leader dies, its lock and its leases expire
/// together.
pub fn duration(failover: Duration) -> Duration {
    failover.clamp(DURATION_MIN, DURATION_MAX)
}

/// How often the holder renews a lock: within half of its duration, so that one lost heartbeat costs nothing, and no
/// oftener, because for a small fleet this is a large part of what the table costs.
pub fn heartbeat_interval(duration: Duration) -> Duration {
    duration * 2 / 5
}

/// What this worker knows of the lock.
#[derive(Clone, Debug, Default)]
pub struct Lock {
    seen: Option<(LockRow, Instant)>,
    held: Option<Hold>,
}

#[derive(Clone, Debug)]
struct Hold {
    version: String,
    since: Instant,
    duration: Duration,
}

/// What to do about the lock now.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Try this write; on success the lock is held with this version.
    Acquire(Write, String),
    /// Somebody else's: read it again at this time.
    LookAgain(Instant),
}

impl Lock {
    /// The row was read (`None`: there is none): acquire, or look again later. A row left by an earlier process
    /// under our own id is waited out like anybody's.
    pub fn read(
        &mut self,
        row: Option<LockRow>,
        me: &WorkerId,
        mine: Duration,
        key_name: &str,
        version: String,
        now: Instant,
    ) -> Step {
        let Some(row) = row else {
            self.seen = None;
            return Step::Acquire(
                acquire(
                    me,
                    mine,
                    key_name,
                    &version,
                    vec![Condition::Absent(known(key_name))],
                ),
                version,
            );
        };
        if row.is_released {
            let conditions = vec![
                Condition::Present(known(key_name)),
                Condition::Equals(RELEASED, Value::s("1")),
            ];
            return Step::Acquire(acquire(me, mine, key_name, &version, conditions), version);
        }
        let since = match &self.seen {
            Some((seen, since)) if seen.version == row.version => *since,
            _ => now,
        };
        let is_behind = has_other_heir(&row, me);
        let stale_at = since + row.duration + if is_behind { HEIR_AHEAD } else { Duration::ZERO };
        let poll = if is_behind { POLL } else { HEIR_POLL };
        let seen = Value::s(row.version.as_str());
        self.seen = Some((row, since));
        if now > stale_at {
            let conditions = vec![
                Condition::Present(known(key_name)),
                Condition::Equals(VERSION, seen),
            ];
            Step::Acquire(acquire(me, mine, key_name, &version, conditions), version)
        } else {
            Step::LookAgain((stale_at + Duration::from_millis(1)).min(now + poll))
        }
    }

    /// A lock of ours was written by a call that was sent at `sent`; it is held from then on, for its duration.
    pub fn written(&mut self, version: String, duration: Duration, sent: Instant) {
        self.seen = None;
        self.held = Some(Hold {
            version,
            since: sent,
            duration,
        });
    }

    /// The lock is no longer ours.
    pub fn lost(&mut self) {
        self.held = None;
    }

    /// Until when we lead, unless a heartbeat succeeds; `None`: we do not. Counted from when the last successful
    /// heartbeat was sent.
    pub fn held_until(&self) -> Option<Instant> {
        self.held.as_ref().map(|hold| hold.since + hold.duration)
    }

    /// When the next heartbeat is due.
    pub fn heartbeat_at(&self) -> Option<Instant> {
        self.held
            .as_ref()
            .map(|hold| hold.since + heartbeat_interval(hold.duration))
    }

    /// The heartbeat: a new version under the old one's condition. `None` when nothing is held.
    pub fn heartbeat(&self, me: &WorkerId, duration: Duration, version: &str) -> Option<Write> {
        let hold = self.held.as_ref()?;
        Some(Write::Update {
            key: KEY.to_owned(),
            conditions: ours(me, &hold.version),
            actions: vec![
                Action::Set(DURATION, Value::s(duration.as_millis().to_string())),
                Action::Set(VERSION, Value::s(version)),
            ],
        })
    }

    /// The version of the lock that is held.
    pub fn version(&self) -> Option<&str> {
        self.held.as_ref().map(|hold| hold.version.as_str())
    }

    /// Whether the row, read after an unanswered write, carries that write's version: it was applied.
    pub fn is_ours(row: Option<&LockRow>, me: &WorkerId, version: &str) -> bool {
        row.is_some_and(|row| row.owner == *me && row.version == version)
    }
}

/// Gives the lock of this version back, by deleting the row as Java does.
pub fn release(me: &WorkerId, version: &str) -> Write {
    Write::Delete {
        key: KEY.to_owned(),
        conditions: ours(me, version),
    }
}

fn ours(me: &WorkerId, version: &str) -> Vec<Condition> {
    vec![
        Condition::Equals(VERSION, Value::s(version)),
        Condition::Equals(OWNER, Value::s(me.as_str())),
    ]
}

/// The lock lives in the lease table or in a legacy coordinator table; those are the only two names of its key.
fn known(key_name: &str) -> &'static str {
    if key_name == LEASE_KEY { LEASE_KEY } else { "key" }
}

fn acquire(
    me: &WorkerId,
    duration: Duration,
    key_name: &str,
    version: &str,
    conditions: Vec<Condition>,
) -> Write {
    let attribute = |name: &str, value: String| (name.to_owned(), Value::S(value));
    Write::Put {
        item: Item::from([
            attribute(known(key_name), KEY.to_owned()),
            attribute(OWNER, me.as_str().to_owned()),
            attribute(DURATION, duration.as_millis().to_string()),
            attribute(VERSION, version.to_owned()),
            attribute(ENTITY_TYPE, "LEADER".to_owned()),
        ]),
        conditions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn foreign(version: &str) -> LockRow {
        LockRow {
            owner: "other".into(),
            duration: Duration::from_secs(5),
            version: version.to_owned(),
            is_released: false,
            deputies: [None, None],
        }
    }

    fn read(lock: &mut Lock, row: Option<LockRow>, now: Instant) -> Step {
        lock.read(row, &"me".into(), TEN, LEASE_KEY, "v-new".to_owned(), now)
    }

    #[test]
    fn an_absent_lock_is_acquired_with_strings_only() {
        let Step::Acquire(Write::Put { item, conditions }, version) =
            read(&mut Lock::default(), None, Instant::now())
        else {
            panic!("expected to acquire");
        };
        assert_eq!(version, "v-new");
        assert_eq!(conditions, [Condition::Absent("leaseKey")]);
        let expected = [
            ("entityType", "LEADER"),
            ("leaseDuration", "10000"),
            ("leaseKey", "Leader"),
            ("ownerName", "me"),
            ("recordVersionNumber", "v-new"),
        ];
        assert_eq!(
            item,
            expected
                .map(|(name, value)| (name.to_owned(), Value::s(value)))
                .into()
        );
    }

    #[test]
    fn a_foreign_lock_falls_by_its_own_duration_counted_from_its_first_sight() {
        let (mut lock, start) = (Lock::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(
            read(&mut lock, Some(foreign("v1")), at(0)),
            Step::LookAgain(at(1))
        );
        assert_eq!(
            read(&mut lock, Some(foreign("v1")), at(4)),
            Step::LookAgain(at(5))
        );
        let Step::Acquire(write, _) = read(&mut lock, Some(foreign("v1")), at(5) + Duration::from_millis(1))
        else {
            panic!("expected to acquire");
        };
        let expected = [
            Condition::Present("leaseKey"),
            Condition::Equals("recordVersionNumber", Value::s("v1")),
        ];
        assert_eq!(write.conditions(), expected);
    }

    #[test]
    fn a_heartbeat_of_the_holder_starts_the_wait_again() {
        let (mut lock, start) = (Lock::default(), Instant::now());
        read(&mut lock, Some(foreign("v1")), start);
        let later = start + Duration::from_secs(20);
        assert_eq!(
            read(&mut lock, Some(foreign("v2")), later),
            Step::LookAgain(later + HEIR_POLL)
        );
    }

    #[test]
    fn a_deputy_inherits_the_lock_two_seconds_before_the_others_try() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let led = |deputy: &str| {
            let deputies = [Some(format!("v {deputy}")), None];
            Some(LockRow {
                deputies,
                ..foreign("v1")
            })
        };
        let (mut heir, mut other) = (Lock::default(), Lock::default());
        read(&mut heir, led("me"), start);
        read(&mut other, led("them"), start);
        assert!(matches!(read(&mut heir, led("me"), at(5_001)), Step::Acquire(..)));
        assert_eq!(
            read(&mut other, led("them"), at(5_001)),
            Step::LookAgain(at(7_001))
        );
        assert!(matches!(
            read(&mut other, led("them"), at(7_001)),
            Step::Acquire(..)
        ));
    }

    #[test]
    fn a_released_lock_is_acquired_at_once() {
        let released = LockRow {
            is_released: true,
            ..foreign("v1")
        };
        let Step::Acquire(write, _) = read(&mut Lock::default(), Some(released), Instant::now()) else {
            panic!("expected to acquire");
        };
        assert_eq!(
            write.conditions(),
            [
                Condition::Present("leaseKey"),
                Condition::Equals("isReleased", Value::s("1"))
            ]
        );
    }

    #[test]
    fn heartbeat_and_release_expect_our_own_last_version() {
        let mut lock = Lock::default();
        lock.written("v1".to_owned(), TEN, Instant::now());
        let expected = [
            Condition::Equals("recordVersionNumber", Value::s("v1")),
            Condition::Equals("ownerName", Value::s("me")),
        ];
        assert_eq!(
            lock.heartbeat(&"me".into(), TEN, "v2").unwrap().conditions(),
            expected
        );
        assert_eq!(release(&"me".into(), "v1").conditions(), expected);
    }

    #[test]
    fn leadership_ends_a_duration_after_the_last_successful_heartbeat_was_sent() {
        let (mut lock, start) = (Lock::default(), Instant::now());
        lock.written("v1".to_owned(), TEN, start);
        assert_eq!(lock.held_until(), Some(start + TEN));
        assert_eq!(lock.heartbeat_at(), Some(start + TEN * 2 / 5));
        lock.lost();
        assert_eq!(lock.held_until(), None);
    }

    #[test]
    fn the_duration_follows_the_failover_time_within_bounds() {
        assert_eq!(duration(Duration::from_secs(10)), Duration::from_secs(10));
        assert_eq!(duration(Duration::from_millis(500)), Duration::from_secs(3));
        assert_eq!(duration(Duration::from_secs(600)), Duration::from_secs(120));
    }
}
