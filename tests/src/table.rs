//! A DynamoDB table in memory: conditional writes, the owner index with its delay, paging, and faults on request.
//! Time is tokio's, so that a paused clock makes everything about it repeatable.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use multilangd_core::table::{Action, Item, Part, Transaction, Value, Write};
use multilangd_engine::table::{Rows, ScanPage, Table, TableDescription, TableError, TableSettings};
use tokio::time::{Instant, sleep};

/// One call, as a fault decider sees it.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `DescribeTable`.
    Describe,
    /// `CreateTable`, `UpdateTable`, `UpdateContinuousBackups`.
    Create,
    /// `GetItem` of this key.
    Get(String),
    /// A write.
    Write(Write),
    /// `TransactWriteItems`.
    Transact(Transaction),
    /// `Scan`.
    Scan,
    /// `Query` on the owner index.
    Query,
}

impl Call {
    /// Whether it writes, or reads, this row.
    pub fn is_about(&self, key: &str) -> bool {
        match self {
            Self::Get(about) => about == key,
            Self::Write(write) => write.key("leaseKey") == Some(key),
            Self::Describe | Self::Create | Self::Transact(_) | Self::Scan | Self::Query => false,
        }
    }
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing happens, and the service says so.
    Throttled,
    /// Lost on its way to the service: nothing happens, no answer.
    Lost,
    /// It happens, but the answer is lost.
    AppliedUnanswered,
    /// The service refuses (access denied).
    Refused,
    /// There is no such table.
    Missing,
    /// It happens at once, but the answer takes this long.
    AnswerAfter(Duration),
    /// A write happens only after this long, even if its caller has given up by then; a read takes that long.
    AppliedAfter(Duration),
}

type Decider = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

/// The table. Cheap to share: `Arc<FakeTable>`.
pub struct FakeTable {
    name: String,
    key_name: &'static str,
    state: Arc<Mutex<State>>,
    /// The other tables that a transaction may write to.
    beside: Mutex<Vec<Arc<FakeTable>>>,
}

struct State {
    /// `None`: not created.
    usable_at: Option<Instant>,
    index_at: Option<Instant>,
    creation_takes: Duration,
    index_creation_takes: Duration,
    index_lag: Duration,
    latency: Duration,
    page_max: usize,
    returns_old: bool,
    rows: BTreeMap<String, Item>,
    /// Owner by key, as far as the index knows, and the same the other way round.
    index: BTreeMap<String, String>,
    by_owner: BTreeSet<(String, String)>,
    index_pending: VecDeque<(Instant, String, Option<String>)>,
    faults: Option<Decider>,
    calls: Vec<(Instant, Call)>,
    keeps_calls: bool,
}

impl FakeTable {
    /// A table that nobody has created yet.
    pub fn absent(name: &str) -> Arc<Self> {
        Self::absent_with_key(name, "leaseKey")
    }

    /// The same, with another key.
    pub fn absent_with_key(name: &str, key_name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            key_name,
            beside: Mutex::default(),
            state: Arc::new(Mutex::new(State {
                usable_at: None,
                index_at: None,
                creation_takes: Duration::ZERO,
                index_creation_takes: Duration::ZERO,
                index_lag: Duration::ZERO,
                latency: Duration::from_millis(5),
                page_max: 1000,
                returns_old: true,
                rows: BTreeMap::new(),
                index: BTreeMap::new(),
                by_owner: BTreeSet::new(),
                index_pending: VecDeque::new(),
                faults: None,
                calls: Vec::new(),
                keeps_calls: true,
            })),
        })
    }

    /// A table that is there, index included, without rows.
    pub fn existing(name: &str) -> Arc<Self> {
        let table = Self::absent(name);
        table.with(|state| {
            state.usable_at = Some(Instant::now());
            state.index_at = Some(Instant::now());
        });
        table
    }

    /// A table with another key that is there, without an index.
    pub fn existing_with_key(name: &str, key_name: &'static str) -> Arc<Self> {
        let table = Self::absent_with_key(name, key_name);
        table.with(|state| state.usable_at = Some(Instant::now()));
        table
    }

    /// This table's transactions may write to the other one, too.
    pub fn put_beside(&self, other: Arc<Self>) {
        self.beside
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(other);
    }

    /// The index is deleted behind everybody's back, as a roll-back to 2.x does.
    pub fn delete_index(&self) {
        self.with(|state| state.index_at = None);
    }

    /// Every call takes this long; 5 ms unless set.
    pub fn set_latency(&self, latency: Duration) {
        self.with(|state| state.latency = latency);
    }

    /// A created table, and a created index, are usable only after this long.
    pub fn set_creation_times(&self, table: Duration, index: Duration) {
        self.with(|state| (state.creation_takes, state.index_creation_takes) = (table, index));
    }

    /// The owner index shows a write only after this long.
    pub fn set_index_lag(&self, lag: Duration) {
        self.with(|state| state.index_lag = lag);
    }

    /// Rows per page of a scan or query.
    pub fn set_page_max(&self, rows: usize) {
        self.with(|state| state.page_max = rows);
    }

    /// Like DynamoDB Local: a failed condition comes without the old row.
    pub fn keep_old_rows_back(&self) {
        self.with(|state| state.returns_old = false);
    }

    /// Decides what goes wrong, call by call, until it is replaced.
    pub fn set_faults(&self, decide: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        self.with(|state| state.faults = Some(Box::new(decide)));
    }

    /// Every call fails like this, until healed.
    pub fn fail_always(&self, fault: Fault) {
        self.set_faults(move |_| Some(fault));
    }

    /// The next write of this row fails like this; nothing else does.
    pub fn fail_next_write(&self, key: &str, fault: Fault) {
        let key = key.to_owned();
        let mut fault = Some(fault);
        self.set_faults(move |call| match call {
            Call::Write(write) if write.key("leaseKey") == Some(&key) => fault.take(),
            _ => None,
        });
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.with(|state| state.faults = None);
    }

    /// All rows by key.
    pub fn rows(&self) -> BTreeMap<String, Item> {
        self.with(|state| state.rows.clone())
    }

    /// One row.
    pub fn row(&self, key: &str) -> Option<Item> {
        self.with(|state| state.rows.get(key).cloned())
    }

    /// Puts a row behind everybody's back. It must hold its key.
    pub fn put(&self, item: Item) {
        let write = Write::Put {
            item,
            conditions: Vec::new(),
        };
        self.apply(&write).expect("a row with a key");
    }

    /// Writes behind everybody's back; the new row on success. Fails on its conditions alone.
    pub fn apply(&self, write: &Write) -> Result<Option<Item>, TableError> {
        self.with(|state| state.apply(write, self.key_name))
    }

    /// Removes a row behind everybody's back.
    pub fn remove(&self, key: &str) {
        let write = Write::Delete {
            key: key.to_owned(),
            conditions: Vec::new(),
        };
        self.apply(&write).expect("no conditions");
    }

    /// Every call so far, in order, with its time.
    pub fn calls(&self) -> Vec<(Instant, Call)> {
        self.with(|state| state.calls.clone())
    }

    /// Keeps no calls from now on: a long simulation makes millions.
    pub fn keep_no_calls(&self) {
        self.with(|state| state.keeps_calls = false);
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.with(|state| state.calls.clear());
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut lock(&self.state))
    }

    /// The frame of every call: log, latency, faults.
    async fn call<T>(
        &self,
        call: Call,
        act: impl Fn(&mut State) -> Result<T, TableError>,
    ) -> Result<T, TableError> {
        let (fault, latency) = self.begin(call);
        self.go_on(fault, latency, act).await
    }

    fn begin(&self, call: Call) -> (Option<Fault>, Duration) {
        self.with(|state| {
            if state.keeps_calls {
                state.calls.push((Instant::now(), call.clone()));
            }
            let fault = state.faults.as_mut().and_then(|decide| decide(&call));
            (fault, state.latency)
        })
    }

    async fn go_on<T>(
        &self,
        fault: Option<Fault>,
        latency: Duration,
        act: impl Fn(&mut State) -> Result<T, TableError>,
    ) -> Result<T, TableError> {
        pause(latency / 2).await;
        let act = || {
            self.with(|state| {
                state.settle_index();
                act(state)
            })
        };
        let answer = match fault {
            None => act(),
            Some(Fault::Throttled) => Err(TableError::Throttled("injected".to_owned())),
            Some(Fault::Lost) => Err(TableError::Unknown("injected: request lost".into())),
            Some(Fault::AppliedUnanswered) => {
                act().and(Err(TableError::Unknown("injected: answer lost".into())))
            }
            Some(Fault::Refused) => Err(TableError::Refused("injected: access denied".into())),
            Some(Fault::Missing) => Err(TableError::Missing(self.name.clone())),
            Some(Fault::AnswerAfter(late)) => {
                let answer = act();
                sleep(late).await;
                answer
            }
            Some(Fault::AppliedAfter(late)) => {
                sleep(late).await;
                act()
            }
        };
        pause(latency - latency / 2).await;
        answer
    }
}

impl FakeTable {
    /// Everything is checked before anything is written. This table is locked already.
    fn transact_now(
        &self,
        own: &mut State,
        beside: &[Arc<FakeTable>],
        transaction: &Transaction,
    ) -> Result<(), TableError> {
        for is_checked in [false, true] {
            for (place, part) in transaction {
                let mut other = None;
                let (state, key_name) = if place.table == self.name {
                    (&mut *own, self.key_name)
                } else {
                    let table = beside.iter().find(|table| table.name == place.table);
                    let table = table.ok_or_else(|| TableError::Missing(place.table.clone()))?;
                    (&mut **other.insert(lock(&table.state)), table.key_name)
                };
                state.must_be_usable(&place.table)?;
                match part {
                    Part::Write(write) if is_checked => drop(state.apply(write, key_name)?),
                    Part::Write(write) => {
                        let row = write.key(key_name).and_then(|key| state.rows.get(key));
                        if !write.may_apply(row) {
                            return Err(TableError::Conflict(None));
                        }
                    }
                    Part::Check { key, conditions } => {
                        let check = Write::Delete {
                            key: key.clone(),
                            conditions: conditions.clone(),
                        };
                        if !check.may_apply(state.rows.get(key)) {
                            return Err(TableError::Conflict(None));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A timer has a resolution of a millisecond: no time is no timer.
async fn pause(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

impl State {
    fn is_usable(&self) -> bool {
        self.usable_at.is_some_and(|at| at <= Instant::now())
    }

    fn settle_index(&mut self) {
        while let Some((at, _, _)) = self.index_pending.front() {
            if *at > Instant::now() {
                break;
            }
            let Some((_, key, owner)) = self.index_pending.pop_front() else {
                break;
            };
            if let Some(before) = self.index.remove(&key) {
                self.by_owner.remove(&(before, key.clone()));
            }
            if let Some(owner) = owner {
                self.by_owner.insert((owner.clone(), key.clone()));
                self.index.insert(key, owner);
            }
        }
    }

    fn apply(&mut self, write: &Write, key_name: &'static str) -> Result<Option<Item>, TableError> {
        let Some(key) = write.key(key_name).map(str::to_owned) else {
            return Err(TableError::Refused(
                "One or more parameter values were invalid: missing key".into(),
            ));
        };
        check(write, key_name)?;
        let old = self.rows.get(&key);
        if !write.may_apply(old) {
            return Err(TableError::Conflict(
                old.filter(|_| self.returns_old).cloned().map(Box::new),
            ));
        }
        let new = write.applied(old).map(|mut item| {
            item.entry(key_name.to_owned())
                .or_insert_with(|| Value::s(key.as_str()));
            item
        });
        let owner = match new.as_ref().and_then(|item| item.get("leaseOwner")) {
            Some(Value::S(owner)) => Some(owner.clone()),
            _ => None,
        };
        self.index_pending
            .push_back((Instant::now() + self.index_lag, key.clone(), owner));
        match &new {
            Some(item) => drop(self.rows.insert(key, item.clone())),
            None => drop(self.rows.remove(&key)),
        }
        Ok(new.filter(|_| matches!(write, Write::Update { .. })))
    }

    /// Up to a page of what there is, and where the next one begins.
    fn page(&self, rows: impl Iterator<Item = (String, Item)>, key_name: &str) -> Rows {
        let mut rest = rows.peekable();
        let page: Vec<(String, Item)> = rest.by_ref().take(self.page_max).collect();
        let next = match (page.last(), rest.peek()) {
            (Some((last, _)), Some(_)) => Some(Item::from([(key_name.to_owned(), Value::s(last.as_str()))])),
            (_, None) | (None, _) => None,
        };
        Rows {
            items: page.into_iter().map(|(_, item)| item).collect(),
            next,
        }
    }
}

/// The key that a page begins behind.
fn behind(after: Option<&Item>, key_name: &str) -> Bound<String> {
    match after.and_then(|item| item.get(key_name)) {
        Some(Value::S(key)) => Bound::Excluded(key.clone()),
        _ => Bound::Unbounded,
    }
}

/// What DynamoDB refuses: empty sets, an empty owner (it is an index key), and a changed key.
fn check(write: &Write, key_name: &str) -> Result<(), TableError> {
    let bad = |name: &str, value: &Value| match value {
        Value::Ss(set) => set.is_empty(),
        Value::S(text) => text.is_empty() && (name == "leaseOwner" || name == key_name),
        Value::N(text) => text.parse::<f64>().is_err(),
        Value::B(_) | Value::M(_) | Value::L(_) | Value::Bool(_) | Value::Other => false,
    };
    let refused = |name: &str| Err(TableError::Refused(format!("ValidationException: {name}").into()));
    match write {
        Write::Put { item, .. } => match item.iter().find(|(name, value)| bad(name, value)) {
            Some((name, _)) => refused(name),
            None => Ok(()),
        },
        Write::Update { actions, .. } => {
            let wrong = actions.iter().find(|action| match action {
                Action::Set(name, value) => *name == key_name || bad(name, value),
                Action::Add(name, _) | Action::Remove(name) => *name == key_name,
            });
            match wrong {
                Some(action) => refused(&format!("{action:?}")),
                None => Ok(()),
            }
        }
        Write::Delete { .. } => Ok(()),
    }
}

#[async_trait]
impl Table for FakeTable {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_name(&self) -> &str {
        self.key_name
    }

    async fn describe(&self) -> Result<Option<TableDescription>, TableError> {
        self.call(Call::Describe, |state| {
            let description = state.usable_at.map(|_| TableDescription {
                arn: format!("arn:aws:dynamodb:us-east-1:000000000000:table/{}", self.name),
                is_usable: state.is_usable(),
                size_bytes: 0,
                provisioned: None,
                owner_index: state.index_at.map(|at| at <= Instant::now()),
            });
            Ok(description)
        })
        .await
    }

    async fn create(&self, _settings: &TableSettings) -> Result<(), TableError> {
        self.call(Call::Create, |state| {
            let usable_at = Instant::now() + state.creation_takes;
            state.usable_at.get_or_insert(usable_at);
            Ok(())
        })
        .await
    }

    async fn create_owner_index(&self) -> Result<(), TableError> {
        self.call(Call::Create, |state| {
            if !state.is_usable() {
                return Err(TableError::Refused("ResourceInUseException".into()));
            }
            let active_at = Instant::now() + state.index_creation_takes;
            state.index_at.get_or_insert(active_at);
            Ok(())
        })
        .await
    }

    async fn enable_point_in_time_recovery(&self) -> Result<(), TableError> {
        self.call(Call::Create, |state| match state.is_usable() {
            true => Ok(()),
            false => Err(TableError::Refused(
                "ContinuousBackupsUnavailableException".into(),
            )),
        })
        .await
    }

    async fn get(&self, key: &str, _consistent: bool) -> Result<Option<Item>, TableError> {
        self.call(Call::Get(key.to_owned()), |state| {
            state.must_be_usable(&self.name)?;
            Ok(state.rows.get(key).cloned())
        })
        .await
    }

    async fn write(&self, write: &Write) -> Result<Option<Item>, TableError> {
        let (fault, latency) = self.begin(Call::Write(write.clone()));
        if let Some(Fault::AppliedAfter(late)) = fault {
            // On its way by itself: a caller that gives up does not call it back.
            let (state, write, key_name) = (self.state.clone(), write.clone(), self.key_name);
            let on_its_way = tokio::spawn(async move {
                sleep(late).await;
                lock(&state).apply(&write, key_name)
            });
            return on_its_way
                .await
                .unwrap_or_else(|died| Err(TableError::Unknown(Box::new(died))));
        }
        let act = |state: &mut State| {
            state.must_be_usable(&self.name)?;
            state.apply(write, self.key_name)
        };
        self.go_on(fault, latency, act).await
    }

    async fn transact(&self, transaction: &Transaction) -> Result<(), TableError> {
        let (fault, latency) = self.begin(Call::Transact(transaction.clone()));
        let beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let act = |own: &mut State| self.transact_now(own, &beside, transaction);
        self.go_on(fault, latency, act).await
    }

    async fn scan(&self, page: &ScanPage) -> Result<Rows, TableError> {
        self.call(Call::Scan, |state| {
            state.must_be_usable(&self.name)?;
            let (segment, segments) = page.segment.unwrap_or((0, 1));
            let mine = |key: &str| key.bytes().map(u32::from).sum::<u32>() % segments == segment;
            let from = behind(page.after.as_ref(), self.key_name);
            let rows = state.rows.range((from, Bound::Unbounded));
            let rows = rows.filter(|(key, _)| mine(key));
            let rows = rows.map(|(key, item)| (key.clone(), item.clone()));
            Ok(state.page(rows, self.key_name))
        })
        .await
    }

    async fn query_owner(&self, owner: &str, after: Option<&Item>) -> Result<Rows, TableError> {
        self.call(Call::Query, |state| {
            state.must_be_usable(&self.name)?;
            if state.index_at.is_none_or(|at| at > Instant::now()) {
                return Err(TableError::Missing(format!(
                    "{} LeaseOwnerToLeaseKeyIndex",
                    self.name
                )));
            }
            let first = match behind(after, self.key_name) {
                Bound::Excluded(key) => Bound::Excluded((owner.to_owned(), key)),
                Bound::Included(_) | Bound::Unbounded => Bound::Included((owner.to_owned(), String::new())),
            };
            let mine = state.by_owner.range((first, Bound::Unbounded));
            let mine = mine.take_while(|(indexed, _)| indexed == owner);
            let keys_only = |key: &String| {
                let pair = |name: &str, text: &str| (name.to_owned(), Value::s(text));
                Item::from([pair(self.key_name, key), pair("leaseOwner", owner)])
            };
            let rows = mine.map(|(_, key)| (key.clone(), keys_only(key)));
            Ok(state.page(rows, self.key_name))
        })
        .await
    }
}

impl State {
    fn must_be_usable(&self, name: &str) -> Result<(), TableError> {
        match self.is_usable() {
            true => Ok(()),
            false => Err(TableError::Missing(name.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use multilangd_core::ids::Position;
    use multilangd_core::leases::Lease;

    use super::*;

    fn lease(key: &str) -> Lease {
        Lease::new(key.into(), Position::TrimHorizon, Default::default(), None)
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_first_creator_of_a_row_wins() {
        let table = FakeTable::existing("t");
        assert!(table.write(&lease("s-1").create()).await.is_ok());
        let error = table.write(&lease("s-1").create()).await.unwrap_err();
        assert!(matches!(error, TableError::Conflict(Some(old)) if *old == lease("s-1").item()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_index_shows_an_owner_after_its_lag() {
        let table = FakeTable::existing("t");
        table.set_index_lag(Duration::from_secs(2));
        table.apply(&lease("s-1").create()).unwrap();
        table.apply(&lease("s-1").assign(&"w".into())).unwrap();
        assert_eq!(table.query_owner("w", None).await.unwrap().items.len(), 0);
        sleep(Duration::from_secs(2)).await;
        assert_eq!(table.query_owner("w", None).await.unwrap().items.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unanswered_write_is_applied_and_a_lost_one_is_not() {
        let table = FakeTable::existing("t");
        table.fail_next_write("s-1", Fault::AppliedUnanswered);
        assert!(matches!(
            table.write(&lease("s-1").create()).await,
            Err(TableError::Unknown(_))
        ));
        assert!(table.row("s-1").is_some());
        table.fail_next_write("s-2", Fault::Lost);
        assert!(matches!(
            table.write(&lease("s-2").create()).await,
            Err(TableError::Unknown(_))
        ));
        assert!(table.row("s-2").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_scan_in_pages_and_segments_sees_every_row_once() {
        let table = FakeTable::existing("t");
        table.set_page_max(2);
        for i in 0..7 {
            table.apply(&lease(&format!("s-{i}")).create()).unwrap();
        }
        let mut seen = Vec::new();
        for segment in 0..3 {
            let mut page = ScanPage {
                segment: Some((segment, 3)),
                ..ScanPage::default()
            };
            loop {
                let rows = table.scan(&page).await.unwrap();
                seen.extend(
                    rows.items
                        .iter()
                        .map(|item| Lease::read(item).unwrap().key.to_string()),
                );
                page.after = rows.next;
                if page.after.is_none() {
                    break;
                }
            }
        }
        seen.sort();
        assert_eq!(seen, ["s-0", "s-1", "s-2", "s-3", "s-4", "s-5", "s-6"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_set_is_refused_as_dynamodb_refuses_it() {
        let table = FakeTable::existing("t");
        let mut item = lease("s-1").item();
        item.insert("parentShardId".to_owned(), Value::Ss(Default::default()));
        let write = Write::Put {
            item,
            conditions: Vec::new(),
        };
        assert!(matches!(table.write(&write).await, Err(TableError::Refused(_))));
    }
}
