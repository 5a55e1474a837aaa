//! A model of Java workers' moves among ours (`leasing.md 2-6`): they renew and discover by their own cadences, count
//! a lease from the answer, read and checkpoint, hand over when asked, hold the leader's lock and assign, ask for hand-offs,
//! take what has expired as the 2.x taker does, and stop without a word.
//!
//! One task per worker and one call at a time, where Java has threads: slower, never quicker, than Java.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use multilangd_core::consumer::{drop_checkpointed, unfinished_parents};
use multilangd_core::deaggregate::deaggregate;
use multilangd_core::ids::{Position, SequenceNumber, ShardId, WorkerId};
use multilangd_core::leader::{self, Lock, LockRow, Step};
use multilangd_core::leases::{LEASE_KEY, Lease, Row};
use multilangd_core::shards::{leases_of_children, other_parents};
use multilangd_core::stream::{Batch, ShardIterator, StartAt};
use multilangd_core::table::{Item, Value, Write};
use multilangd_core::worker_metrics::WorkerMetrics;
use multilangd_engine::stream::Stream;
use multilangd_engine::table::{ScanPage, Table, TableError};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::faults::{Line, World};
use crate::fleet::NOW_MS;

/// How often leases are renewed, of a failover time: a third of it, less 25 ms.
const EPSILON: Duration = Duration::from_millis(25);
/// How often a shard is read.
const IDLE: Duration = Duration::from_secs(1);
/// How often the worker reports.
const REPORT: Duration = Duration::from_secs(30);
/// How often, per thousand rounds of 2F, a leading Java worker asks for a hand-off to itself.
const ASKS: u64 = 200;
/// Records per read.
const RECORDS_MAX: u32 = 100;
/// How long the lock of a leader stands, and how often it is renewed, or looked at.
const LOCK: Duration = Duration::from_secs(120);
const HEARTBEAT: Duration = Duration::from_secs(30);
/// A leader balances in each so many rounds.
const BALANCE_EVERY: u64 = 3;

/// What a Java worker does besides working on its leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// 3.x that does not lead; now and then it asks for a hand-off to itself, as a leader would for it.
    Follower,
    /// The same, and takes what has expired, as in the moment in which a fleet changes its rules.
    Taker,
    /// 3.x that wants the lock, and assigns while it has it.
    Leader,
    /// 2.x: takes what has expired or has no owner; reports nothing, and knows no index.
    V2,
}

struct Held {
    lease: Lease,
    /// Counted from the answer, as Java does.
    renewed: Instant,
    reading: Option<Reading>,
}

struct Reading {
    iterator: Option<ShardIterator>,
    /// The place of the next record in the shard.
    next: usize,
    last: Position,
}

/// A Java worker.
pub struct JavaWorker {
    world: Arc<World>,
    line: Line,
    me: WorkerId,
    failover: Duration,
    make: Make,
    lock: Lock,
    rounds: u64,
    held: BTreeMap<ShardId, Held>,
    /// Counter, and when it was last seen to change, by lease: the taker's memory.
    seen: BTreeMap<ShardId, (u64, Instant)>,
}

impl JavaWorker {
    /// A worker that starts now.
    pub fn new(world: Arc<World>, line: Line, failover: Duration, make: Make) -> Self {
        Self {
            me: line.worker().clone(),
            world,
            line,
            failover,
            make,
            lock: Lock::default(),
            rounds: 0,
            held: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// Lives until it is aborted.
    pub async fn live(mut self) {
        let ticks = |every: Duration| {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let mut renewals = ticks(self.failover / 3 - EPSILON);
        let mut discoveries = ticks(self.failover - EPSILON);
        let mut rounds = ticks(self.failover * 2 + EPSILON * 2);
        let mut reports = ticks(REPORT);
        let mut reads = ticks(IDLE);
        let mut locks = ticks(HEARTBEAT);
        loop {
            tokio::select! {
                biased;
                _ = renewals.tick() => self.renew_all().await,
                _ = reports.tick(), if self.make != Make::V2 => self.report().await,
                _ = locks.tick(), if self.make == Make::Leader => self.want_the_lock().await,
                _ = discoveries.tick(), if self.make != Make::V2 => self.discover().await,
                _ = rounds.tick() => self.round().await,
                _ = reads.tick() => self.read_all().await,
            }
        }
    }

    async fn report(&self) {
        let now_s = (NOW_MS + self.world.age().as_millis() as i64) / 1000;
        let report = WorkerMetrics::unmeasured(self.me.clone(), now_s);
        // Where metrics go is fixed at the start of a worker; there, it knows nothing of a move.
        let line = match &self.world.legacy {
            Some(legacy) => self.line.to(&legacy.metrics),
            None => self.line.clone(),
        };
        drop(line.write(&report.report()).await);
    }

    /// 5.2: the heartbeat of the lock, or a look at somebody else's.
    async fn want_the_lock(&mut self) {
        let version = format!("java-{}", self.world.dice.between(0, u64::MAX));
        let sent = Instant::now();
        let write = match self.lock.heartbeat(&self.me, LOCK, &version) {
            Some(write) => write,
            None => {
                let Ok(row) = self.line.get(leader::KEY, true).await else {
                    return;
                };
                let row = row.and_then(|item| LockRow::read(&item).ok());
                let now = Instant::now().into_std();
                match self
                    .lock
                    .read(row, &self.me, LOCK, LEASE_KEY, version.clone(), now)
                {
                    Step::Acquire(write, _) => write,
                    Step::LookAgain(_) => return,
                }
            }
        };
        match self.line.write(&write).await {
            Ok(_) => self.lock.written(version, LOCK, sent.into_std()),
            Err(TableError::Conflict(_)) => self.lock.lost(),
            // It may have been applied: Java's client gives the lock up then, and waits it out.
            Err(_) => self.lock.lost(),
        }
    }

    fn leads(&self) -> bool {
        let until = self.lock.held_until();
        self.make == Make::Leader && until.is_some_and(|until| Instant::now().into_std() < until)
    }

    /// 5.3, as the count-based decider does it: what has expired or has no owner goes to who has least, and now and then
    /// the busiest hands one over.
    async fn assign_all(
        &mut self,
        leases: Vec<Lease>,
        reports: Vec<WorkerMetrics>,
        expired: &BTreeSet<ShardId>,
    ) {
        let now_s = (NOW_MS + self.world.age().as_millis() as i64) / 1000;
        let mut counts: BTreeMap<WorkerId, usize> = reports
            .into_iter()
            .filter(|report| report.is_fresh(now_s, REPORT * 2))
            .map(|report| (report.worker, 0))
            .collect();
        let (free, owned): (Vec<Lease>, Vec<Lease>) = leases
            .into_iter()
            .partition(|lease| lease.actual_owner().is_none() || expired.contains(&lease.key));
        for lease in &owned {
            if let Some(count) = lease.actual_owner().and_then(|owner| counts.get_mut(owner)) {
                *count += 1;
            }
        }
        for lease in free {
            let Some((to, count)) = counts.iter_mut().min_by_key(|(_, count)| **count) else {
                return;
            };
            *count += 1;
            if lease.actual_owner() == Some(to) && lease.checkpoint_owner.is_none() {
                continue;
            }
            if self.line.write(&lease.assign(to)).await.is_ok() {
                self.seen
                    .insert(lease.key.clone(), (lease.counter + 1, Instant::now()));
            }
        }
        self.rounds += 1;
        let least = counts.iter().min_by_key(|(_, count)| **count);
        let most = counts.iter().max_by_key(|(_, count)| **count);
        if let (Some((to, few)), Some((from, many))) = (least, most)
            && self.rounds % BALANCE_EVERY == 1
            && few + 1 < *many
            && let Some(lease) = owned.iter().find(|lease| {
                lease.owner.as_ref() == Some(from)
                    && lease.checkpoint_owner.is_none()
                    && !lease.checkpoint.is_shard_end()
            })
            && let Some(write) = lease.request_hand_off(to)
        {
            drop(self.line.write(&write).await);
        }
    }

    fn is_held(&self, shard: &ShardId) -> bool {
        let held = self.held.get(shard);
        held.is_some_and(|held| held.renewed.elapsed() <= self.failover)
    }

    fn shards(&self) -> Vec<ShardId> {
        self.held.keys().rev().cloned().collect()
    }

    async fn renew_all(&mut self) {
        for shard in self.shards() {
            if !self.is_held(&shard) {
                self.held.remove(&shard);
                continue;
            }
            let lease = self.held[&shard].lease.clone();
            match self.line.write(&lease.renew()).await {
                Ok(item) => self.written(&shard, item),
                Err(TableError::Conflict(_)) => self.conflict(&shard).await,
                Err(_) => {}
            }
        }
    }

    /// A write of ours was answered.
    fn written(&mut self, shard: &ShardId, item: Option<Item>) {
        let lease = item.and_then(|item| Lease::read(&item).ok());
        if let (Some(held), Some(lease)) = (self.held.get_mut(shard), lease) {
            held.lease = lease;
            held.renewed = Instant::now();
        }
    }

    /// 3.3-4: a hand-off was asked for, an answer of ours was lost, or the lease is.
    async fn conflict(&mut self, shard: &ShardId) {
        let Ok(row) = self.line.get(shard.as_str(), true).await else {
            return;
        };
        let row = row.and_then(|item| Lease::read(&item).ok());
        let Some(held) = self.held.get_mut(shard) else {
            return;
        };
        match row {
            Some(row) if row.counter == held.lease.counter && row.hand_over_to(&self.me).is_some() => {
                let next = row.hand_over_to(&self.me).cloned();
                self.held.remove(shard);
                if let Some(next) = next {
                    drop(self.line.write(&row.assign(&next)).await);
                }
            }
            Some(row) if row.counter == held.lease.counter + 1 && row.can_be_adopted_by(&self.me) => {
                held.lease = row;
                held.renewed = Instant::now();
            }
            Some(_) | None => drop(self.held.remove(shard)),
        }
    }

    async fn discover(&mut self) {
        let Ok(page) = self.line.query_owner(self.me.as_str(), None).await else {
            return;
        };
        for item in page.items {
            let Some(Value::S(key)) = item.get("leaseKey") else {
                continue;
            };
            let shard = ShardId::from(key.as_str());
            if self.held.contains_key(&shard) {
                continue;
            }
            let Ok(Some(row)) = self.line.get(key, false).await else {
                continue;
            };
            if let Ok(lease) = Lease::read(&row)
                && lease.can_be_adopted_by(&self.me)
            {
                self.hold(lease);
            }
        }
    }

    fn hold(&mut self, lease: Lease) {
        let held = Held {
            renewed: Instant::now(),
            reading: None,
            lease,
        };
        self.held.insert(held.lease.key.clone(), held);
    }

    /// What a leader, and the 2.x taker, do every two failover times.
    async fn round(&mut self) {
        let mut leases = Vec::new();
        let mut reports = Vec::new();
        let mut page = ScanPage::default();
        loop {
            let Ok(rows) = self.line.scan(&page).await else {
                return;
            };
            for item in &rows.items {
                match Row::read(item) {
                    Row::Lease(lease) => leases.push(lease),
                    Row::WorkerMetrics(report) => reports.push(report),
                    Row::Leader(_) | Row::ClientVersion(_) | Row::Other | Row::Bad(_) => {}
                }
            }
            match rows.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        let now = Instant::now();
        let mut expired = Vec::new();
        for lease in &leases {
            let seen = self.seen.entry(lease.key.clone()).or_insert((lease.counter, now));
            if seen.0 != lease.counter {
                *seen = (lease.counter, now);
            }
            let is_mine = lease.owner.as_ref() == Some(&self.me);
            let is_free = self.make == Make::V2 && lease.owner.is_none();
            if !is_mine && (is_free || now - seen.1 > self.failover) {
                expired.push(lease.clone());
            }
        }
        if self.leads() {
            let expired = expired.into_iter().map(|lease| lease.key).collect();
            self.assign_all(leases, reports, &expired).await;
            return;
        }
        if matches!(self.make, Make::Taker | Make::V2) {
            for lease in expired {
                if let Ok(Some(item)) = self.line.write(&lease.take(&self.me)).await
                    && let Ok(lease) = Lease::read(&item)
                {
                    self.hold(lease);
                }
            }
        }
        let others: Vec<Lease> = leases
            .into_iter()
            .filter(|lease| lease.checkpoint_owner.is_none() && !lease.checkpoint.is_shard_end())
            .filter(|lease| lease.owner.as_ref().is_some_and(|owner| *owner != self.me))
            .collect();
        if self.make != Make::V2
            && self.world.dice.happens(ASKS)
            && let Some(write) = self
                .world
                .dice
                .one_of(&others)
                .and_then(|lease| lease.request_hand_off(&self.me))
        {
            drop(self.line.write(&write).await);
        }
    }

    async fn read_all(&mut self) {
        for shard in self.shards() {
            if !self.is_held(&shard) || self.held[&shard].lease.checkpoint.is_shard_end() {
                continue;
            }
            if self.held[&shard].reading.is_none() && !self.begin(&shard).await {
                continue;
            }
            self.read(&shard).await;
        }
    }

    /// Begins to read, as soon as all parents are finished.
    async fn begin(&mut self, shard: &ShardId) -> bool {
        let mut parents = Vec::new();
        for parent in self.held[shard].lease.parents.clone() {
            match self.line.get(parent.as_str(), true).await {
                Ok(row) => parents.extend(row.and_then(|item| Lease::read(&item).ok())),
                Err(_) => return false,
            }
        }
        if !unfinished_parents(&parents).is_empty() || !self.is_held(shard) {
            return false;
        }
        // Java begins at the checkpoint that the table has, read anew (`consuming.md 5`).
        let Ok(Some(row)) = self.line.get(shard.as_str(), true).await else {
            return false;
        };
        let Ok(row) = Lease::read(&row) else { return false };
        if row.checkpoint.is_shard_end() || !self.is_held(shard) {
            return false;
        }
        let next = self.world.oracle.initialized(&self.me, shard, &row.checkpoint);
        if let Some(held) = self.held.get_mut(shard) {
            held.reading = Some(Reading {
                iterator: None,
                next,
                last: row.checkpoint,
            });
        }
        true
    }

    async fn read(&mut self, shard: &ShardId) {
        let Some(reading) = self.held.get(shard).and_then(|held| held.reading.as_ref()) else {
            return;
        };
        let start = match &reading.last {
            Position::At(number, _) => StartAt::At(number.clone()),
            _ => StartAt::TrimHorizon,
        };
        let iterator = match reading.iterator.clone() {
            Some(iterator) => iterator,
            None => match self.line.shard_iterator(shard, &start).await {
                Ok(Some(iterator)) => iterator,
                Ok(None) | Err(_) => return,
            },
        };
        let batch = self.line.get_records(&iterator, RECORDS_MAX).await;
        let is_held = self.is_held(shard);
        let Some(reading) = self.held.get_mut(shard).and_then(|held| held.reading.as_mut()) else {
            return;
        };
        let Ok(batch) = batch else {
            reading.iterator = None;
            return;
        };
        if !is_held {
            return;
        }
        reading.iterator = batch.next_iterator.clone();
        let mut records = batch.records.clone();
        deaggregate(&mut records, None, |_, _| {});
        drop_checkpointed(&mut records, &reading.last);
        let heard: Vec<_> = records
            .iter()
            .map(|it| {
                (
                    SequenceNumber::parse(it.sequence_number.as_str()).expect("digits"),
                    it.sub_sequence_number,
                    it.partition_key.to_string(),
                )
            })
            .collect();
        reading.next = self.world.oracle.delivered(&self.me, shard, reading.next, &heard);
        if let Some((number, sub, _)) = heard.last() {
            reading.last = Position::At(number.clone(), *sub);
            let position = reading.last.clone();
            if !self.checkpoint(shard, &position).await {
                return;
            }
        }
        if batch.next_iterator.is_none() && !batch.child_shards.is_empty() {
            self.finish(shard, &batch).await;
        }
    }

    /// 2.3. `false`: it was not stored.
    async fn checkpoint(&mut self, shard: &ShardId, position: &Position) -> bool {
        let Some(held) = self.held.get(shard) else {
            return false;
        };
        let write = held.lease.checkpoint_at(position);
        match self.line.write(&write).await {
            Ok(item) => {
                self.written(shard, item);
                true
            }
            Err(TableError::Conflict(_)) => {
                self.held.remove(shard);
                false
            }
            Err(_) => false,
        }
    }

    /// 7.4: the children's leases, their names, and the end.
    async fn finish(&mut self, shard: &ShardId, batch: &Batch) {
        let Ok(leases) = leases_of_children(&batch.child_shards) else {
            return;
        };
        for lease in &leases {
            match self.line.get(lease.key.as_str(), true).await {
                Ok(Some(_)) => continue,
                Ok(None) => {}
                Err(_) => return,
            }
            for other in other_parents(shard, lease) {
                if !matches!(self.line.get(other.as_str(), true).await, Ok(Some(_))) {
                    return;
                }
            }
            let created: Result<_, TableError> = self.line.write(&lease.create()).await;
            if !matches!(created, Ok(_) | Err(TableError::Conflict(_))) {
                return;
            }
        }
        let children = leases.iter().map(|lease| lease.key.clone()).collect();
        let named: Option<Write> = Lease::set_children(shard, &children);
        let Some(named) = named else { return };
        if self.line.write(&named).await.is_ok() {
            self.checkpoint(shard, &Position::ShardEnd).await;
        }
    }
}
