//! What must hold at every step of a simulation, whatever went wrong in it.
//!
//! Watches each write to the table and each line that a child hears. Never changes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use multilangd_core::ids::{Position, SequenceNumber, ShardId, WorkerId};
use multilangd_core::leases::Lease;
use multilangd_core::table::{Item, Value};
use tokio::time::Instant;

use super::journal::Journal;

/// Timers have a resolution of a millisecond, and a batch passes from task to task.
const TIMER_SLACK: Duration = Duration::from_millis(5);

/// The attributes of a lease row that its writers may change; all others stay as they are.
const KNOWN: &[&str] = &[
    "leaseOwner",
    "checkpointOwner",
    "leaseCounter",
    "ownerSwitchesSinceCheckpoint",
    "checkpoint",
    "checkpointSubSequenceNumber",
    "pendingCheckpoint",
    "pendingCheckpointSubSequenceNumber",
    "pendingCheckpointState",
    "childShardIds",
    "startingHashKey",
    "endingHashKey",
    "throughputKBps",
];

/// One record as a child must see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its sequence number.
    pub number: SequenceNumber,
    /// Its place in its aggregate.
    pub sub: u64,
    /// Its partition key.
    pub key: String,
    /// Its number within its key, from 0.
    pub of_key: u64,
}

impl Record {
    fn position(&self) -> (&SequenceNumber, u64) {
        (&self.number, self.sub)
    }
}

/// Who sends a write.
#[derive(Clone, Debug)]
pub struct Writer {
    /// By its id.
    pub worker: WorkerId,
    /// When it was sent.
    pub sent: Instant,
    /// By the rules of 2.x, by which it takes leases for itself.
    pub takes: bool,
}

/// What is counted, not judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records put.
    pub put: u64,
    /// Records delivered for the first time.
    pub delivered: u64,
    /// Records delivered again.
    pub repeated: u64,
    /// Batches delivered while the row already named another worker.
    pub overlaps: u64,
    /// Leases taken from an owner whose lease was still valid by its own clock.
    pub taken_alive: u64,
    /// Hand-offs that were requested.
    pub hand_offs: u64,
    /// Applied writes.
    pub writes: u64,
    /// Children that began.
    pub children: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.put += other.put;
        self.delivered += other.delivered;
        self.repeated += other.repeated;
        self.overlaps += other.overlaps;
        self.taken_alive += other.taken_alive;
        self.hand_offs += other.hand_offs;
        self.writes += other.writes;
        self.children += other.children;
    }
}

#[derive(Default)]
struct ShardTruth {
    parents: Vec<ShardId>,
    children: Vec<ShardId>,
    records: Vec<Record>,
    /// So many of them, from the first, were delivered.
    delivered: usize,
    closed: bool,
    /// SHARD_END was checkpointed.
    finished: bool,
    /// A lease was created for it.
    leased: bool,
    /// It has reached the end of its retention.
    trimmed: bool,
}

#[derive(Default)]
struct State {
    shards: BTreeMap<ShardId, ShardTruth>,
    /// Until when a worker may begin new batches of a shard, by its own writes.
    valid: BTreeMap<(WorkerId, ShardId), Instant>,
    /// When a worker's last tenure of a shard was over at the latest, if it has been.
    over: BTreeMap<(WorkerId, ShardId), Instant>,
    /// The last writes that changed a checkpoint.
    stored: BTreeMap<ShardId, (WorkerId, Instant)>,
    /// The ids that two processes had at some time. Each takes the other's tenures for its own.
    twins: BTreeSet<WorkerId>,
    next_of_key: BTreeMap<String, u64>,
    counts: Counts,
    /// The lease rows as they are.
    rows: BTreeMap<ShardId, Lease>,
    /// Who plays by Java's clock: its leases count from their answers, and one call waits for another.
    java: BTreeSet<WorkerId>,
    /// Who runs.
    alive: BTreeSet<WorkerId>,
    /// The hand-offs that are pending, and since when.
    handed_off: BTreeMap<ShardId, Instant>,
    /// The last time that something might explain a delay.
    trouble: Option<Instant>,
    weather_is_bad: bool,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Oracle {
    journal: Journal,
    failover: Duration,
    state: Arc<Mutex<State>>,
}

impl Oracle {
    /// An oracle for a fleet with this failover time.
    pub fn new(journal: Journal, failover: Duration) -> Self {
        Self {
            journal,
            failover,
            state: Arc::default(),
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.with(|state| state.counts.clone())
    }

    /// A worker is a model of Java's.
    pub fn is_java(&self, worker: &WorkerId) {
        self.with(|state| state.java.insert(worker.clone()));
    }

    /// Two processes have this id.
    pub fn has_twins(&self, worker: &WorkerId) {
        self.with(|state| state.twins.insert(worker.clone()));
    }

    /// A worker starts, or is no more.
    pub fn lives(&self, worker: &WorkerId, alive: bool) {
        self.with(|state| match alive {
            true => drop(state.alive.insert(worker.clone())),
            false => drop(state.alive.remove(worker)),
        });
    }

    /// Until then, somebody may be slow for good reason.
    pub fn trouble_until(&self, until: Instant) {
        self.with(|state| state.trouble = state.trouble.max(Some(until)));
    }

    /// The weather changes; what it did is felt until then.
    pub fn weather(&self, is_bad: bool, felt_until: Instant) {
        self.with(|state| {
            if state.weather_is_bad {
                state.trouble = state.trouble.max(Some(felt_until));
            }
            state.weather_is_bad = is_bad;
        });
    }

    /// A shard has reached the end of its retention.
    pub fn trimmed(&self, shard: &ShardId) {
        self.with(|state| state.shards.entry(shard.clone()).or_default().trimmed = true);
    }

    /// A shard was opened.
    pub fn opened(&self, shard: &ShardId, parents: &[&ShardId]) {
        self.with(|state| {
            for &parent in parents {
                let parent = state.shards.entry(parent.clone()).or_default();
                parent.closed = true;
                parent.children.push(shard.clone());
            }
            let parents = parents.iter().map(|&parent| parent.clone()).collect();
            state.shards.entry(shard.clone()).or_default().parents = parents;
        });
    }

    /// Records were put, in this order.
    pub fn put(&self, shard: &ShardId, records: Vec<Record>) {
        self.with(|state| {
            state.counts.put += records.len() as u64;
            state
                .shards
                .entry(shard.clone())
                .or_default()
                .records
                .extend(records);
        });
    }

    /// Records that nobody has seen yet.
    pub fn undelivered(&self) -> usize {
        self.with(|state| {
            let shards = state.shards.values();
            shards.map(|it| it.records.len() - it.delivered).sum()
        })
    }

    /// Whether every record was delivered and every closed shard finished; else what is behind.
    pub fn behind(&self) -> Option<String> {
        self.with(|state| {
            let behind: Vec<String> = state
                .shards
                .iter()
                .filter(|(_, it)| it.delivered < it.records.len() || (it.closed && !it.finished))
                .map(|(shard, it)| {
                    format!(
                        "{shard}: {} of {} delivered, closed {}, finished {}",
                        it.delivered,
                        it.records.len(),
                        it.closed,
                        it.finished
                    )
                })
                .collect();
            (!behind.is_empty()).then(|| behind.join("; "))
        })
    }

    /// The shards that are finished, and whose children are all finished or begun: retention may take them.
    pub fn finished(&self) -> Vec<ShardId> {
        self.with(|state| {
            let is_over = |it: &ShardTruth| it.finished && it.delivered == it.records.len();
            let shards = state.shards.iter().filter(|(_, it)| is_over(it));
            shards.map(|(shard, _)| shard.clone()).collect()
        })
    }

    /// A write was applied.
    pub fn wrote(&self, writer: &Writer, key: &str, before: Option<&Item>, after: Option<&Item>) {
        let worker = &writer.worker;
        self.with(|state| state.counts.writes += 1);
        let row = after.or(before);
        let is_lease = row.is_some_and(|row| match row.get("entityType") {
            Some(kind) => *kind == Value::s("LEASE"),
            None => row.contains_key("checkpoint"),
        });
        if !is_lease {
            if let Some(after) = after
                && after.contains_key("leaseKey")
                && !matches!(after.get("entityType"), Some(Value::S(_)))
            {
                self.journal
                    .violation(format!("{worker} wrote {key} without an entityType"));
            }
            self.journal.note(format!("{worker}: wrote {key}"));
            return;
        }
        if let Some(after) = after
            && let Err(why) = java_reads(after)
        {
            self.journal
                .violation(format!("{worker} wrote {key}, which Java cannot read: {why}"));
        }
        if let (Some(before), Some(after)) = (before, after) {
            self.unknown_attributes_stay(worker, key, before, after);
        }
        let lease = |item: Option<&Item>| item.and_then(|item| Lease::read(item).ok());
        let (before, after) = (lease(before), lease(after));
        let shard = ShardId::from(key);
        self.journal.note(format!(
            "{worker}: {key} {} -> {}",
            shown(before.as_ref()),
            shown(after.as_ref())
        ));
        match (&before, &after) {
            (Some(before), Some(after)) => self.changed(writer, &shard, before, after),
            (None, Some(after)) => self.created(worker, &shard, after),
            (Some(before), None) => self.deleted(worker, &shard, before),
            (None, None) => {}
        }
        let Some(after) = after else { return };
        self.with(|state| state.rows.insert(shard.clone(), after.clone()));
        let works_on_it = after.actual_owner() == Some(worker);
        let raised = before.is_none_or(|before| after.counter > before.counter);
        if works_on_it && raised {
            let until = writer.sent + self.failover;
            self.with(|state| {
                let tenure = (worker.clone(), shard);
                let valid = state.valid.entry(tenure.clone()).or_insert(until);
                if *valid < writer.sent {
                    state.over.insert(tenure, *valid);
                }
                *valid = until.max(*valid);
            });
        }
    }

    fn unknown_attributes_stay(&self, worker: &WorkerId, key: &str, before: &Item, after: &Item) {
        let rest = |item: &Item| -> Item {
            let unknown = item.iter().filter(|(name, _)| !KNOWN.contains(&name.as_str()));
            unknown
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect()
        };
        if rest(before) != rest(after) {
            let (before, after) = (rest(before), rest(after));
            self.journal.violation(format!(
                "{worker} changed attributes of {key} that it does not know: {before:?} -> {after:?}"
            ));
        }
    }

    fn created(&self, worker: &WorkerId, shard: &ShardId, lease: &Lease) {
        let problem = self.with(|state| {
            let Some(truth) = state.shards.get_mut(shard) else {
                return Some("a lease for a shard that never was");
            };
            truth.leased = true;
            if lease.counter != 0 || lease.owner.is_some() || lease.owner_switches != 0 {
                return Some("a new lease with a past");
            }
            let named: Vec<&ShardId> = lease.parents.iter().collect();
            let mut parents: Vec<&ShardId> = truth.parents.iter().collect();
            parents.sort();
            (named != parents).then_some("a lease with the wrong parents")
        });
        if let Some(problem) = problem {
            self.journal
                .violation(format!("{worker} created {shard}: {problem}: {lease:?}"));
        }
    }

    fn deleted(&self, worker: &WorkerId, shard: &ShardId, lease: &Lease) {
        let problem = self.with(|state| {
            let truth = state.shards.get(shard)?;
            if !lease.checkpoint.is_shard_end() || !truth.finished {
                return Some(format!("at {}, not finished", lease.checkpoint));
            }
            let has_begun = |child: &ShardId| match state.rows.get(child) {
                Some(lease) => lease.checkpoint > Position::TrimHorizon,
                None => state.shards[child].finished,
            };
            let unborn = truth.children.iter().find(|child| !has_begun(child));
            let unborn = unborn.filter(|_| !truth.trimmed);
            unborn.map(|child| format!("before its child {child} has begun"))
        });
        if let Some(problem) = problem {
            self.journal
                .violation(format!("{worker} deleted {shard} {problem}"));
        }
        self.with(|state| state.rows.remove(shard));
    }

    fn changed(&self, writer: &Writer, shard: &ShardId, before: &Lease, after: &Lease) {
        let worker = &writer.worker;
        let mut problems = Vec::new();
        if after.checkpoint < before.checkpoint {
            problems.push(format!(
                "its checkpoint moves back from {} to {}",
                before.checkpoint, after.checkpoint
            ));
        }
        if after.counter < before.counter || after.counter > before.counter + 1 {
            problems.push(format!(
                "its counter goes from {} to {}",
                before.counter, after.counter
            ));
        }
        let same_owners = after.owner == before.owner && after.checkpoint_owner == before.checkpoint_owner;
        if after.counter == before.counter && !same_owners {
            let is_request = before.checkpoint_owner.is_none()
                && after.checkpoint_owner == before.owner
                && after.owner != before.owner;
            if is_request {
                self.with(|state| state.counts.hand_offs += 1);
            } else {
                problems.push("its owners change without its counter".to_owned());
            }
        }
        let is_heartbeat = after.counter > before.counter && same_owners;
        if is_heartbeat && before.actual_owner() != Some(worker) {
            problems.push("the heartbeat of another worker's lease".to_owned());
        }
        problems.extend(self.hand_off(writer, shard, before, after));
        if after.checkpoint_owner.is_some() && after.checkpoint_owner == after.owner {
            problems.push("both of its owners are the same".to_owned());
        }
        if !before.children.is_subset(&after.children) {
            problems.push("its children are forgotten".to_owned());
        }
        if after.checkpoint != before.checkpoint {
            problems.extend(self.checkpointed(shard, &after.checkpoint));
        }
        for problem in problems {
            self.journal
                .violation(format!("{worker} wrote {shard}: {problem}"));
        }
        if after.checkpoint != before.checkpoint {
            let by = (worker.clone(), Instant::now());
            self.with(|state| state.stored.insert(shard.clone(), by));
        }
        let old = before.actual_owner();
        if let Some(old) = old
            && after.actual_owner() != Some(old)
        {
            let tenure = (old.clone(), shard.clone());
            self.with(|state| state.over.insert(tenure, Instant::now()));
        }
        if let Some(old) = old
            && after.actual_owner() != Some(old)
            && old != worker
        {
            self.with(|state| {
                let valid = state.valid.get(&(old.clone(), shard.clone()));
                if valid.is_some_and(|until| Instant::now() < *until) {
                    state.counts.taken_alive += 1;
                }
            });
        }
    }

    /// What is wrong with how a hand-off goes on: an owner that is alive, and whom nothing holds up, ends it itself.
    ///
    /// But a worker that still plays by the rules of 2.x, while a leader assigns already, steals without asking how far
    /// a hand-off is, as Java's does (`leasing.md 4`). Whatever lease it steals, a child is stopped at its last
    /// checkpoint, and what came after is delivered again; of one that changes its owner anyway, nobody else is disturbed.
    fn hand_off(&self, writer: &Writer, shard: &ShardId, before: &Lease, after: &Lease) -> Option<String> {
        let worker = &writer.worker;
        let now = Instant::now();
        self.with(|state| {
            let is_pending = |lease: &Lease| lease.checkpoint_owner.is_some();
            match (is_pending(before), is_pending(after)) {
                (false, true) => drop(state.handed_off.insert(shard.clone(), now)),
                (true, false) => {
                    let since = state.handed_off.remove(shard)?;
                    let owner = before.checkpoint_owner.clone()?;
                    let is_excused =
                        state.weather_is_bad || state.trouble.is_some_and(|trouble| since <= trouble);
                    let held = state.valid.get(&(owner.clone(), shard.clone()));
                    let holds = held.is_some_and(|until| now < *until);
                    let is_over = before.checkpoint.is_shard_end();
                    let is_stolen = writer.takes && after.owner.as_ref() == Some(worker);
                    let is_alive = holds && state.alive.contains(&owner);
                    if owner != *worker && !is_over && is_alive && !is_stolen && !is_excused {
                        let took = now - since;
                        return Some(format!("{owner} did not hand it over within {took:?}"));
                    }
                }
                (true, true) | (false, false) => {}
            }
            None
        })
    }

    /// What is wrong with a checkpoint that was just stored.
    fn checkpointed(&self, shard: &ShardId, checkpoint: &Position) -> Option<String> {
        self.with(|state| {
            let children = state.shards.get(shard)?.children.clone();
            let unleased = children.into_iter().find(|child| !state.shards[child].leased);
            let truth = state.shards.get_mut(shard)?;
            match checkpoint {
                Position::ShardEnd => {
                    truth.finished = true;
                    if let Some(child) = unleased {
                        return Some(format!("it is finished, and its child {child} has no lease"));
                    }
                    if !truth.closed {
                        return Some("it is finished, and still open".to_owned());
                    }
                    (truth.delivered < truth.records.len()).then(|| {
                        format!(
                            "it is finished, and {} of {} records were delivered",
                            truth.delivered,
                            truth.records.len()
                        )
                    })
                }
                Position::At(number, sub) => {
                    let below = upto(&truth.records, number, *sub);
                    (below > truth.delivered).then(|| {
                        format!(
                            "its checkpoint {checkpoint} has {below} records at or below, of which {} were delivered",
                            truth.delivered
                        )
                    })
                }
                Position::AtTimestamp | Position::TrimHorizon | Position::Latest => {
                    Some(format!("its checkpoint becomes {checkpoint}"))
                }
            }
        })
    }

    /// What is wrong with telling a child that the checkpoint that it asked for is stored: the table must have it by then,
    /// and what is asked for after the end of the child's tenure must not be stored under a later one.
    pub fn told_stored(
        &self,
        worker: &WorkerId,
        shard: &ShardId,
        position: &Position,
        began: Instant,
        asked: Instant,
    ) -> Option<String> {
        self.with(|state| {
            let over = state.over.get(&(worker.clone(), shard.clone()));
            let is_over = over.is_some_and(|over| began < *over && *over < asked);
            let stored = state.stored.get(shard);
            let is_stored_anew = stored.is_some_and(|(by, at)| by == worker && *at >= asked);
            if is_over && is_stored_anew && !state.twins.contains(worker) {
                return Some(format!(
                    "its checkpoint {} is stored under another tenure than its own",
                    short(position)
                ));
            }
            // A finished shard's row may be deleted already.
            let is_finished = state.shards.get(shard).is_some_and(|truth| truth.finished);
            let stored = state.rows.get(shard).map(|row| row.checkpoint.clone());
            let is_stored = is_finished || stored.as_ref().is_some_and(|stored| stored >= position);
            (!is_stored).then(|| {
                let stored = stored.as_ref().map(short);
                format!(
                    "its checkpoint {} is said to be stored, and the table has {stored:?}",
                    short(position)
                )
            })
        })
    }

    /// A child of this worker was told where to begin. The place of its first record.
    pub fn initialized(&self, worker: &WorkerId, shard: &ShardId, at: &Position) -> usize {
        let (next, problem) = self.with(|state| {
            state.counts.children += 1;
            let unfinished = state.shards.get(shard).and_then(|truth| {
                truth
                    .parents
                    .iter()
                    .find(|parent| !state.shards[*parent].finished)
                    .cloned()
            });
            let Some(truth) = state.shards.get(shard) else {
                return (0, Some("which never was".to_owned()));
            };
            let next = match at {
                Position::At(number, sub) => upto(&truth.records, number, *sub),
                Position::TrimHorizon | Position::AtTimestamp => 0,
                Position::Latest => truth.records.len(),
                Position::ShardEnd => return (0, Some("which is finished".to_owned())),
            };
            if let Some(parent) = unfinished {
                return (next, Some(format!("before its parent {parent} is finished")));
            }
            let skipped = next > truth.delivered;
            (
                next,
                skipped.then(|| format!("at {at}, behind records that nobody has seen")),
            )
        });
        if let Some(problem) = problem {
            self.journal
                .violation(format!("{worker} began {shard} {problem}"));
        }
        next
    }

    /// A child of this worker was given records, of which the first should be the `next`-th. The place of the record
    /// after them.
    pub fn delivered(
        &self,
        worker: &WorkerId,
        shard: &ShardId,
        next: usize,
        records: &[(SequenceNumber, u64, String)],
    ) -> usize {
        let now = Instant::now();
        let (place, problem) = self.with(|state| {
            let valid = state.valid.get(&(worker.clone(), shard.clone())).copied();
            let owner = state.rows.get(shard).and_then(|row| row.actual_owner().cloned());
            if owner.as_ref() != Some(worker) {
                state.counts.overlaps += 1;
            }
            let mut problem = None;
            let is_late = valid.is_none_or(|until| now > until + TIMER_SLACK);
            if is_late && !state.java.contains(worker) {
                let late = valid.map(|until| now.saturating_duration_since(until));
                problem = Some(format!(
                    "began a batch of {shard} {late:?} after its lease had ended"
                ));
            }
            let Some(truth) = state.shards.get_mut(shard) else {
                return (next, problem);
            };
            let mut place = next;
            for (number, sub, key) in records {
                match truth.records.get(place) {
                    Some(expected) if expected.position() == (number, *sub) && expected.key == *key => {
                        if place >= truth.delivered {
                            truth.delivered = place + 1;
                            state.counts.delivered += 1;
                            let of_key = state.next_of_key.entry(key.clone()).or_default();
                            if *of_key != expected.of_key {
                                problem.get_or_insert(format!(
                                    "delivered record {} of {key} in {shard} before record {of_key}",
                                    expected.of_key
                                ));
                            }
                            *of_key = expected.of_key + 1;
                        } else {
                            state.counts.repeated += 1;
                        }
                    }
                    expected => {
                        problem.get_or_insert(format!(
                            "delivered {number}/{sub} ({key}) of {shard} where {expected:?} comes next"
                        ));
                    }
                }
                place += 1;
            }
            (place, problem)
        });
        if let Some(problem) = problem {
            self.journal.violation(format!("{worker} {problem}"));
        }
        place
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn upto(records: &[Record], number: &SequenceNumber, sub: u64) -> usize {
    records.partition_point(|record| record.position() <= (number, sub))
}

fn shown(lease: Option<&Lease>) -> String {
    let Some(lease) = lease else {
        return "nothing".to_owned();
    };
    let owner = |owner: &Option<WorkerId>| owner.as_ref().map_or("-".to_owned(), ToString::to_string);
    format!(
        "{}/{}#{}@{}",
        owner(&lease.owner),
        owner(&lease.checkpoint_owner),
        lease.counter,
        short(&lease.checkpoint)
    )
}

/// A position with the digits that differ.
pub fn short(position: &Position) -> String {
    let text = position.to_string();
    match position {
        Position::At(..) => text
            .trim_start_matches("49590338271490256608559692")
            .trim_start_matches('0')
            .to_owned(),
        Position::AtTimestamp | Position::TrimHorizon | Position::Latest | Position::ShardEnd => text,
    }
}

/// Whether `DynamoDBLeaseSerializer` would read the row (`leasing.md 1.2`), judged without our own reader.
fn java_reads(item: &Item) -> Result<(), String> {
    let required = [
        "leaseKey",
        "leaseCounter",
        "ownerSwitchesSinceCheckpoint",
        "checkpoint",
    ];
    if let Some(missing) = required.iter().find(|name| !item.contains_key(**name)) {
        return Err(format!("{missing} is missing"));
    }
    for (name, value) in item {
        let right = match name.as_str() {
            "leaseKey" | "leaseOwner" | "checkpointOwner" | "checkpoint" | "pendingCheckpoint"
            | "entityType" => {
                matches!(value, Value::S(text) if !text.is_empty())
            }
            "startingHashKey" | "endingHashKey" => {
                matches!(value, Value::S(text) if text.parse::<u128>().is_ok())
            }
            "leaseCounter"
            | "ownerSwitchesSinceCheckpoint"
            | "checkpointSubSequenceNumber"
            | "pendingCheckpointSubSequenceNumber" => {
                matches!(value, Value::N(text) if text.parse::<i64>().is_ok_and(|number| number >= 0))
            }
            "throughputKBps" => matches!(value, Value::N(text) if text.parse::<f64>().is_ok()),
            "parentShardId" | "childShardIds" => {
                matches!(value, Value::Ss(set) if !set.is_empty() && set.iter().all(|it| !it.is_empty()))
            }
            "pendingCheckpointState" => matches!(value, Value::B(_)),
            _ => true,
        };
        if !right {
            return Err(format!("{name} is {value:?}"));
        }
    }
    let number = |name: &str| match item.get(name) {
        Some(Value::S(text)) => text.parse::<u128>().ok(),
        _ => None,
    };
    match (number("startingHashKey"), number("endingHashKey")) {
        (Some(start), Some(end)) if start >= end => Err("its hash range is empty".to_owned()),
        (Some(_), None) | (None, Some(_)) => Err("half of its hash range is missing".to_owned()),
        _ => {
            let checkpoint = match item.get("checkpoint") {
                Some(Value::S(text)) => text.as_str(),
                _ => "",
            };
            let sentinels: BTreeSet<&str> = ["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "SHARD_END"].into();
            let sub = item.get("checkpointSubSequenceNumber");
            let is_number = !checkpoint.is_empty() && checkpoint.bytes().all(|byte| byte.is_ascii_digit());
            if sentinels.contains(checkpoint) {
                match sub {
                    None => Ok(()),
                    Some(sub) if *sub == Value::n(0) => Ok(()),
                    Some(sub) => Err(format!("{checkpoint} with sub-sequence number {sub:?}")),
                }
            } else if is_number {
                Ok(())
            } else {
                Err(format!("its checkpoint is {checkpoint}"))
            }
        }
    }
}
