//! Who looks at all leases besides the leader: at most two workers of ours, in two seats of the leader's lock row.
//!
//! Owns the seats and the decision when to take one; never acts. Somebody must have seen each lease within a second of its
//! last renewal, or its expiry is noticed late. If every worker looked for itself, a fleet would scan its table as often
//! as it has workers; so few look for all. A leader of ours looks as often: then one deputy watches that leader's leases,
//! which no dead leader can give away, and is the heir of its lock. A Java leader looks every assignment interval: then
//! two deputies look at everything, so that one of them is left when the other dies, and take what has expired.

use std::time::{Duration, Instant};

use crate::ids::WorkerId;
use crate::leader::{KEY, LockRow};
use crate::table::{Action, Condition, Value, Write};

/// The attributes of the lock row that name the deputies: a version, a space, and a worker's id. A Java leader keeps
/// attributes that it does not know; a new leader's lock begins without any.
///
/// Compat: Java has no deputies. Its lock library reads a row's other attributes and does nothing with them.
pub const SEATS: [&str; 2] = ["deputy1", "deputy2"];

/// What deputies do under this leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Watch the leases of this leader of ours, and succeed it.
    Succeed(WorkerId),
    /// Look at all leases, and take what nobody works on: the leader is a Java worker.
    Rescue,
}

/// The duty under the leader of this row.
pub fn duty(row: &LockRow) -> Duty {
    match row.is_quick() {
        true => Duty::Succeed(row.owner.clone()),
        false => Duty::Rescue,
    }
}

/// What is known of the seats: what each said last, and since when.
#[derive(Clone, Debug, Default)]
pub struct Seats {
    seen: [Option<(String, Instant)>; SEATS.len()],
}

/// This worker, by the seats.
#[derive(Clone, Debug, PartialEq)]
pub enum Seat {
    /// Others look.
    None,
    /// It is a deputy; where there is a write, it is due to stay one.
    Mine(Option<Write>),
    /// A seat is free: if this write succeeds, it is a deputy.
    Free(Write),
}

impl Seats {
    /// The lock row of another worker was read. `patience`: a seat that was not renewed for so long is free.
    pub fn read(
        &mut self,
        row: &LockRow,
        me: &WorkerId,
        patience: Duration,
        version: &str,
        now: Instant,
    ) -> Seat {
        for (seen, says) in self.seen.iter_mut().zip(&row.deputies) {
            match (&seen, says) {
                (Some((before, _)), Some(says)) if before == says => {}
                (_, says) => *seen = says.clone().map(|says| (says, now)),
            }
        }
        let wanted = match duty(row) {
            Duty::Succeed(_) => 1,
            Duty::Rescue => SEATS.len(),
        };
        let take = |seat: usize| take(row, seat, me, version);
        let seats = || self.seen.iter().enumerate().take(wanted);
        let age = |since: &Instant| now.saturating_duration_since(*since);
        let mine = seats().find_map(|(seat, seen)| {
            let (says, since) = seen.as_ref()?;
            (holder(says) == Some(me.as_str())).then(|| (seat, age(since)))
        });
        if let Some((seat, age)) = mine {
            return Seat::Mine((age >= patience / 2).then(|| take(seat)));
        }
        let free = seats().find(|(_, seen)| seen.as_ref().is_none_or(|(_, since)| age(since) > patience));
        free.map_or(Seat::None, |(seat, _)| Seat::Free(take(seat)))
    }
}

/// Whether another worker than `me` is to have the lock first when its holder dies.
pub fn has_other_heir(row: &LockRow, me: &WorkerId) -> bool {
    let mut heirs = row.deputies.iter().flatten().filter_map(|says| holder(says));
    let mut is_other = false;
    heirs.all(|heir| {
        is_other = true;
        heir != me.as_str()
    }) && is_other
}

/// Gives this worker's seat back, if it has one.
pub fn leave(row: &LockRow, me: &WorkerId) -> Option<Write> {
    let mine = |says: &Option<String>| says.as_deref().and_then(holder) == Some(me.as_str());
    let seat = row.deputies.iter().position(mine)?;
    Some(update(row, seat, Action::Remove(SEATS[seat])))
}

fn take(row: &LockRow, seat: usize, me: &WorkerId, version: &str) -> Write {
    update(
        row,
        seat,
        Action::Set(SEATS[seat], Value::S(format!("{version} {me}"))),
    )
}

/// The owner is expected too, or a released lock would come back as a row of seats alone.
fn update(row: &LockRow, seat: usize, action: Action) -> Write {
    let as_seen = match &row.deputies[seat] {
        Some(says) => Condition::Equals(SEATS[seat], Value::s(says.as_str())),
        None => Condition::Absent(SEATS[seat]),
    };
    Write::Update {
        key: KEY.to_owned(),
        conditions: vec![row.owned_as_seen(), as_seen],
        actions: vec![action],
    }
}

fn holder(says: &str) -> Option<&str> {
    says.split_once(' ').map(|(_, worker)| worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn row(duration_s: u64, deputies: [&str; 2]) -> LockRow {
        LockRow {
            owner: "leader".into(),
            duration: Duration::from_secs(duration_s),
            version: "v".to_owned(),
            is_released: false,
            deputies: deputies.map(|says| (!says.is_empty()).then(|| says.to_owned())),
        }
    }

    fn read(seats: &mut Seats, row: &LockRow, now: Instant) -> Seat {
        seats.read(row, &"me".into(), TEN, "new", now)
    }

    #[test]
    fn a_free_seat_is_taken_under_the_owner_and_the_seat_as_seen() {
        let seat = read(&mut Seats::default(), &row(120, ["a other", ""]), Instant::now());
        let Seat::Free(write) = seat else {
            panic!("{seat:?}")
        };
        let expected = [
            Condition::Equals("ownerName", Value::s("leader")),
            Condition::Absent("deputy2"),
        ];
        assert_eq!(write.conditions(), expected);
        let Write::Update { actions, .. } = write else {
            panic!("an update")
        };
        assert_eq!(actions, [Action::Set("deputy2", Value::s("new me"))]);
    }

    #[test]
    fn a_leader_of_ours_has_one_deputy_and_a_java_leader_two() {
        let mut seats = Seats::default();
        let now = Instant::now();
        assert_eq!(read(&mut seats, &row(10, ["a other", ""]), now), Seat::None);
        assert!(matches!(
            read(&mut seats, &row(120, ["a other", ""]), now),
            Seat::Free(_)
        ));
        assert_eq!(
            read(&mut seats, &row(120, ["a other", "b third"]), now),
            Seat::None
        );
        assert_eq!(duty(&row(10, ["", ""])), Duty::Succeed("leader".into()));
        assert_eq!(duty(&row(120, ["", ""])), Duty::Rescue);
    }

    #[test]
    fn a_deputy_renews_its_seat_in_half_the_time_after_which_others_take_it() {
        let mut seats = Seats::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (mine, other) = (row(10, ["a me", ""]), row(10, ["a other", ""]));
        assert_eq!(read(&mut seats, &mine, at(0)), Seat::Mine(None));
        assert_eq!(read(&mut seats, &mine, at(4)), Seat::Mine(None));
        assert!(matches!(read(&mut seats, &mine, at(5)), Seat::Mine(Some(_))));
        assert_eq!(read(&mut seats, &other, at(20)), Seat::None);
        assert_eq!(read(&mut seats, &other, at(30)), Seat::None);
        assert!(matches!(read(&mut seats, &other, at(31)), Seat::Free(_)));
    }

    #[test]
    fn a_deputy_is_the_heir_and_whoever_leaves_gives_its_seat_back() {
        let me: WorkerId = "me".into();
        assert!(!has_other_heir(&row(10, ["", ""]), &me));
        assert!(!has_other_heir(&row(10, ["a me", "b other"]), &me));
        assert!(has_other_heir(&row(10, ["a other", ""]), &me));
        assert_eq!(leave(&row(10, ["a other", ""]), &me), None);
        let Some(Write::Update { actions, .. }) = leave(&row(120, ["a other", "b me"]), &me) else {
            panic!("an update");
        };
        assert_eq!(actions, [Action::Remove("deputy2")]);
    }
}
