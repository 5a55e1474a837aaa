//! What a lease row says, how it is read and written, and the conditions of every write (`leasing.md 1, 2`).
//!
//! Owns the shape of lease rows and the meaning of each operation on them; never decides when to do one.

use std::collections::BTreeSet;

use crate::client_version::ClientVersionRow;
use crate::ids::{HashRange, Position, ShardId, WorkerId};
use crate::leader::LockRow;
#[cfg(planted)]
use crate::planted;
use crate::table::{Action, BadRow, Condition, Item, Reader, Value, Write};
use crate::worker_metrics::WorkerMetrics;

mod held;
#[cfg(test)]
mod tests;
mod throughput;

pub use held::{Standing, standing};
pub use throughput::Throughput;

/// The key attribute of the lease table, for leases and for every other kind of row in it.
pub const LEASE_KEY: &str = "leaseKey";
/// The attribute that says what kind a row is; absent on leases older than Java 3.5 (`leasing.md 5.1`).
pub const ENTITY_TYPE: &str = "entityType";

const OWNER: &str = "leaseOwner";
const CHECKPOINT_OWNER: &str = "checkpointOwner";
const COUNTER: &str = "leaseCounter";
const OWNER_SWITCHES: &str = "ownerSwitchesSinceCheckpoint";
const CHECKPOINT: &str = "checkpoint";
const CHECKPOINT_SUB: &str = "checkpointSubSequenceNumber";
const PENDING: &str = "pendingCheckpoint";
const PENDING_SUB: &str = "pendingCheckpointSubSequenceNumber";
const PENDING_STATE: &str = "pendingCheckpointState";
const PARENTS: &str = "parentShardId";
const CHILDREN: &str = "childShardIds";
const HASH_START: &str = "startingHashKey";
const HASH_END: &str = "endingHashKey";
const THROUGHPUT: &str = "throughputKBps";

/// One row of entity type LEASE (`leasing.md 1.2`).
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// `leaseKey`: the shard.
    pub key: ShardId,
    /// `leaseOwner`; during a hand-off the next owner. `None`: nobody holds it.
    pub owner: Option<WorkerId>,
    /// `checkpointOwner`: the owner that is asked to hand the lease over.
    pub checkpoint_owner: Option<WorkerId>,
    /// `leaseCounter`.
    pub counter: u64,
    /// `ownerSwitchesSinceCheckpoint`.
    pub owner_switches: u64,
    /// `checkpoint` and `checkpointSubSequenceNumber`.
    pub checkpoint: Position,
    /// `pendingCheckpoint…`, written by Java workers with two-phase checkpoints; ours only delete it.
    pub pending_checkpoint: Option<Position>,
    /// `parentShardId`.
    pub parents: BTreeSet<ShardId>,
    /// `childShardIds`.
    pub children: BTreeSet<ShardId>,
    /// `startingHashKey`, `endingHashKey`.
    pub hash_range: Option<HashRange>,
    /// `throughputKBps`: kilobytes per second, rounded to 6 decimals when written.
    pub throughput_kbps: Option<f64>,
}

/// A row of the lease table, by its `entityType`.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// `LEASE`, or no type at all.
    Lease(Lease),
    /// `LEADER`: the leader's lock.
    Leader(LockRow),
    /// `CLIENT_VERSION_MIGRATION`.
    ClientVersion(ClientVersionRow),
    /// `WORKER_METRIC_STATS`.
    WorkerMetrics(WorkerMetrics),
    /// Any other type: a newer peer's business.
    Other,
    /// A row of a known type that cannot be read.
    Bad(BadRow),
}

impl Row {
    /// Reads any row of the lease table.
    pub fn read(item: &Item) -> Self {
        let kind = match item.get(ENTITY_TYPE) {
            None if item.get(LEASE_KEY) == Some(&Value::s(crate::client_version::KEY)) => {
                crate::client_version::KIND
            }
            None => "LEASE",
            Some(Value::S(kind)) => kind.as_str(),
            Some(_) => "",
        };
        let row = match kind {
            "LEASE" => Lease::read(item).map(Self::Lease),
            "LEADER" => LockRow::read(item).map(Self::Leader),
            "CLIENT_VERSION_MIGRATION" => ClientVersionRow::read(item).map(Self::ClientVersion),
            "WORKER_METRIC_STATS" => WorkerMetrics::read(item).map(Self::WorkerMetrics),
            _ => Ok(Self::Other),
        };
        row.unwrap_or_else(Self::Bad)
    }
}

impl Lease {
    /// A lease that nobody has held yet, as the shard sync and a parent's end create it (`leasing.md 1.3`).
    pub fn new(
        key: ShardId,
        checkpoint: Position,
        parents: BTreeSet<ShardId>,
        hash_range: Option<HashRange>,
    ) -> Self {
        Self {
            key,
            owner: None,
            checkpoint_owner: None,
            counter: 0,
            owner_switches: 0,
            checkpoint,
            pending_checkpoint: None,
            parents,
            children: BTreeSet::new(),
            hash_range,
            throughput_kbps: None,
        }
    }

    /// The worker that works on the shard now: the old owner while a hand-off is pending.
    pub fn actual_owner(&self) -> Option<&WorkerId> {
        self.checkpoint_owner.as_ref().or(self.owner.as_ref())
    }

    /// Reads a lease row. Attributes we do not know stay out of it, and stay in the table.
    pub fn read(item: &Item) -> Result<Self, BadRow> {
        let row = Reader::new(LEASE_KEY, item)?;
        let position = |text: &str, sub: &'static str, attribute: &'static str| {
            let sub = row.number::<u64>(sub)?.unwrap_or(0);
            Position::parse(text, sub).map_err(|error| row.bad(attribute, error))
        };
        let shards = |attribute| Ok(row.texts(attribute)?.map(ShardId::from).collect());
        let hash_key = |attribute| {
            let text = row.text(attribute)?;
            let number = text.map(|text| text.parse::<u128>().map_err(|error| row.bad(attribute, error)));
            number.transpose()
        };
        let pending = row
            .text(PENDING)?
            .map(|text| position(text, PENDING_SUB, PENDING));
        let hash_range = match (hash_key(HASH_START)?, hash_key(HASH_END)?) {
            (Some(start), Some(end)) if start <= end => Some(HashRange { start, end }),
            (Some(_), Some(_)) => return Err(row.bad(HASH_END, "is less than startingHashKey")),
            (None, _) | (_, None) => None,
        };
        Ok(Self {
            key: row.key().into(),
            owner: row.text(OWNER)?.map(WorkerId::from),
            checkpoint_owner: row.text(CHECKPOINT_OWNER)?.map(WorkerId::from),
            counter: row.required(COUNTER, row.number(COUNTER)?)?,
            owner_switches: row.required(OWNER_SWITCHES, row.number(OWNER_SWITCHES)?)?,
            checkpoint: position(
                row.required(CHECKPOINT, row.text(CHECKPOINT)?)?,
                CHECKPOINT_SUB,
                CHECKPOINT,
            )?,
            pending_checkpoint: pending.transpose()?,
            parents: shards(PARENTS)?,
            children: shards(CHILDREN)?,
            hash_range,
            throughput_kbps: row.number(THROUGHPUT)?,
        })
    }

    /// The whole row, as `create` puts it.
    pub fn item(&self) -> Item {
        let mut item = Item::from([
            (LEASE_KEY.to_owned(), Value::s(self.key.as_str())),
            (ENTITY_TYPE.to_owned(), Value::s("LEASE")),
            (COUNTER.to_owned(), Value::n(self.counter)),
            (OWNER_SWITCHES.to_owned(), Value::n(self.owner_switches)),
        ]);
        let mut put = |name: &str, value: Value| drop(item.insert(name.to_owned(), value));
        if let Some(owner) = &self.owner {
            put(OWNER, Value::s(owner.as_str()));
        }
        if let Some(owner) = &self.checkpoint_owner {
            put(CHECKPOINT_OWNER, Value::s(owner.as_str()));
        }
        put(CHECKPOINT, Value::s(self.checkpoint.text()));
        put(CHECKPOINT_SUB, Value::n(self.checkpoint.sub_sequence_number()));
        if let Some(pending) = &self.pending_checkpoint {
            put(PENDING, Value::s(pending.text()));
            put(PENDING_SUB, Value::n(pending.sub_sequence_number()));
        }
        if !self.parents.is_empty() {
            put(PARENTS, shard_set(&self.parents));
        }
        for action in shape_actions(&self.children, self.hash_range) {
            if let Action::Set(name, value) = action {
                put(name, value);
            }
        }
        if let Some(kbps) = self.throughput_kbps {
            put(THROUGHPUT, decimal(kbps));
        }
        item
    }

    /// The lease after a successful write, computed from what was written. Prefer the row that the table returned.
    pub fn after(&self, write: &Write) -> Self {
        let row = write.applied(Some(&self.item()));
        row.and_then(|item| Self::read(&item).ok())
            .unwrap_or_else(|| self.clone())
    }

    /// 2.1: puts the row unless there is one. A conflict is a normal "somebody was first".
    pub fn create(&self) -> Write {
        Write::Put {
            item: self.item(),
            conditions: vec![Condition::Absent(LEASE_KEY)],
        }
    }

    /// 2.2: the heartbeat. While no hand-off is known it also fails when one was requested: that is how the holder
    /// learns of it (trap 10); once known, the condition is left out, or the lease would be lost in mid-flush.
    pub fn renew(&self) -> Write {
        let mut conditions = vec![self.counter_as_seen()];
        #[cfg(planted)]
        if planted::is_planted(planted::Bug::RenewalWithoutCounter) {
            conditions.clear();
        }
        if self.checkpoint_owner.is_none() {
            conditions.push(Condition::Absent(CHECKPOINT_OWNER));
        }
        let mut actions = vec![self.next_counter()];
        actions.extend(
            self.throughput_kbps
                .map(|kbps| Action::Set(THROUGHPUT, decimal(kbps))),
        );
        self.update(conditions, actions)
    }

    /// 2.3: stores a checkpoint. No owner condition: a worker that is handing over may still checkpoint.
    ///
    /// Compat: with the throughput, which Java puts into renewals alone: while checkpoints come quickly, ours are the
    /// renewals.
    pub fn checkpoint_at(&self, position: &Position) -> Write {
        let mut actions = vec![
            self.next_counter(),
            Action::Set(CHECKPOINT, Value::s(position.text())),
            Action::Set(CHECKPOINT_SUB, Value::n(position.sub_sequence_number())),
            Action::Set(OWNER_SWITCHES, Value::n(0)),
            Action::Remove(PENDING),
            Action::Remove(PENDING_SUB),
            Action::Remove(PENDING_STATE),
        ];
        actions.extend(
            self.throughput_kbps
                .map(|kbps| Action::Set(THROUGHPUT, decimal(kbps))),
        );
        actions.extend(shape_actions(&self.children, self.hash_range));
        #[cfg(planted)]
        if planted::is_planted(planted::Bug::UnknownDropped) {
            let item = self.after(&self.update(Vec::new(), actions)).item();
            let conditions = vec![self.counter_as_seen()];
            return Write::Put { item, conditions };
        }
        self.update(vec![self.counter_as_seen()], actions)
    }

    /// 2.4: takes the lease, the 2.x way.
    pub fn take(&self, me: &WorkerId) -> Write {
        let mut actions = vec![self.next_counter()];
        actions.extend(self.to_owner(me));
        self.update(vec![self.counter_as_seen()], actions)
    }

    /// 2.4 for a lease that has expired in a 3.x fleet: also expects both owners as seen, because a hand-off leaves
    /// the counter alone (`leasing.md 11`).
    pub fn take_expired(&self, me: &WorkerId) -> Write {
        let mut conditions = vec![self.counter_as_seen()];
        conditions.extend(self.owners_as_seen());
        let mut actions = vec![self.next_counter()];
        actions.extend(self.to_owner(me));
        self.update(conditions, actions)
    }

    /// 2.5: gives the lease to a worker: by the leader, or by the old owner that ends a hand-off. Deliberately no
    /// counter condition, so that heartbeats do not defeat it.
    pub fn assign(&self, to: &WorkerId) -> Write {
        let mut conditions = vec![self.exists()];
        conditions.extend(self.owners_as_seen());
        let mut actions = vec![Action::Add(COUNTER, 1)];
        actions.extend(self.to_owner(to));
        self.update(conditions, actions)
    }

    /// 2.6: asks the owner to hand the lease over. `None` for a lease without an owner. The counter stays.
    pub fn request_hand_off(&self, to: &WorkerId) -> Option<Write> {
        let owner = Value::s(self.owner.as_ref()?.as_str());
        let conditions = vec![
            self.exists(),
            Condition::Equals(OWNER, owner.clone()),
            Condition::Absent(CHECKPOINT_OWNER),
        ];
        let actions = vec![
            Action::Set(OWNER, Value::s(to.as_str())),
            Action::Set(CHECKPOINT_OWNER, owner),
        ];
        Some(self.update(conditions, actions))
    }

    /// 2.7: gives the lease back to nobody, or to the next owner where a hand-off is pending.
    pub fn evict(&self) -> Write {
        let mut conditions = vec![self.exists()];
        conditions.extend(self.owners_as_seen());
        let mut actions = vec![Action::Add(COUNTER, 1), Action::Remove(CHECKPOINT_OWNER)];
        if self.checkpoint_owner.is_none() {
            actions.push(Action::Remove(OWNER));
        }
        self.update(conditions, actions)
    }

    /// 2.8: records the shard's children. The counter stays, or the owner's own renewal would fail (trap 21).
    /// A conflict means that the lease is gone. `None` without children: an empty set is never written.
    pub fn set_children(key: &ShardId, children: &BTreeSet<ShardId>) -> Option<Write> {
        (!children.is_empty()).then(|| update_existing(key, shape_actions(children, None)))
    }

    /// 2.8: fills in a missing hash range. `None` where Java could not read it (see [`Lease::item`]).
    pub fn set_hash_range(key: &ShardId, range: HashRange) -> Option<Write> {
        let actions = shape_actions(&BTreeSet::new(), Some(range));
        (!actions.is_empty()).then(|| update_existing(key, actions))
    }

    /// 2.9: deletes the row of a finished lease. Only for one that was just verified (trap 22). A conflict means that
    /// it is gone, or begun anew.
    ///
    /// Compat: Java deletes without a condition. Ours expects SHARD_END, so that a delete that is repeated, or arrives
    /// late, never takes a lease that somebody has created since.
    pub fn delete_finished(key: &ShardId) -> Write {
        Write::Delete {
            key: key.as_str().to_owned(),
            conditions: vec![Condition::Equals(CHECKPOINT, Value::s(Position::ShardEnd.text()))],
        }
    }

    /// How a holder gives a lease away: 2.5 to the next owner where a hand-off by `me` is pending, or to the heir if one
    /// is named, else 2.7.
    ///
    /// Compat: Java's old owner expects the owners alone. Ours also expects its own last counter, so that such a
    /// write, delayed on its way, cannot end a later tenure.
    pub fn give_away(&self, me: &WorkerId, heir: Option<&WorkerId>) -> Write {
        let mut write = self
            .hand_over_to(me)
            .or(heir)
            .map_or_else(|| self.evict(), |to| self.assign(to));
        if let Write::Update { conditions, .. } = &mut write {
            conditions.push(self.counter_as_seen());
        }
        write
    }

    fn update(&self, conditions: Vec<Condition>, actions: Vec<Action>) -> Write {
        Write::Update {
            key: self.key.as_str().to_owned(),
            conditions,
            actions,
        }
    }

    fn exists(&self) -> Condition {
        Condition::Equals(LEASE_KEY, Value::s(self.key.as_str()))
    }

    fn counter_as_seen(&self) -> Condition {
        Condition::Equals(COUNTER, Value::n(self.counter))
    }

    fn next_counter(&self) -> Action {
        Action::Set(COUNTER, Value::n(self.counter + 1))
    }

    fn owners_as_seen(&self) -> [Condition; 2] {
        let seen = |attribute, owner: &Option<WorkerId>| match owner {
            Some(owner) => Condition::Equals(attribute, Value::s(owner.as_str())),
            None => Condition::Absent(attribute),
        };
        [
            seen(OWNER, &self.owner),
            seen(CHECKPOINT_OWNER, &self.checkpoint_owner),
        ]
    }

    /// A new owner, no hand-off, and the owner-switch rule: ending a hand-off as it was meant is no switch, taking
    /// it back is one.
    fn to_owner(&self, new: &WorkerId) -> Vec<Action> {
        let mut actions = vec![
            Action::Set(OWNER, Value::s(new.as_str())),
            Action::Remove(CHECKPOINT_OWNER),
        ];
        let changes_owner = self.owner.as_ref().is_some_and(|old| old != new);
        if changes_owner || self.checkpoint_owner.as_ref() == Some(new) {
            actions.push(Action::Add(OWNER_SWITCHES, 1));
        }
        actions
    }
}

fn update_existing(key: &ShardId, actions: Vec<Action>) -> Write {
    Write::Update {
        key: key.as_str().to_owned(),
        conditions: vec![Condition::Equals(LEASE_KEY, Value::s(key.as_str()))],
        actions,
    }
}

/// Children and hash range, where there are any: nothing empty is ever written (trap 7).
fn shape_actions(children: &BTreeSet<ShardId>, range: Option<HashRange>) -> Vec<Action> {
    let mut actions = Vec::new();
    if !children.is_empty() {
        actions.push(Action::Set(CHILDREN, shard_set(children)));
    }
    // Compat: a shard of a single hash key gets no range in its row, because Java's range type refuses
    // start = end and with it the whole lease (trap 8).
    if let Some(HashRange { start, end }) = range.filter(|range| range.start < range.end) {
        actions.push(Action::Set(HASH_START, Value::s(start.to_string())));
        actions.push(Action::Set(HASH_END, Value::s(end.to_string())));
    }
    actions
}

fn shard_set(shards: &BTreeSet<ShardId>) -> Value {
    Value::Ss(shards.iter().map(|shard| shard.as_str().to_owned()).collect())
}

/// A number rounded to 6 decimals, without trailing zeros.
pub(crate) fn decimal(number: f64) -> Value {
    let text = format!("{number:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    Value::N(if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    })
}
