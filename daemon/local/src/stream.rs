//! One stream: its shards and how they descend from each other, its settings, its consumers.
//!
//! Owns which shards are open, and saves that before it becomes true. Never reads requests.

mod reshard;
mod saved;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::error::{Outcome, ServiceError};
use crate::log::{Room, ShardLog};
use crate::sequence::Origin;
use crate::shard::{Closed, HashRange, Shard};
use crate::store;

/// The hours for which records are kept when nobody says otherwise.
pub(crate) const RETENTION_HOURS: u32 = 24;
/// Largest record of a stream that does not ask for more: 1 MiB.
pub(crate) const RECORD_KIB: u32 = 1024;

pub(crate) struct Stream {
    pub(crate) name: String,
    /// Milliseconds since 1970.
    pub(crate) made_ms: u64,
    home: Home,
    state: RwLock<State>,
    deleted: AtomicBool,
    /// The last append failed: the next failure is no news.
    failing: AtomicBool,
}

/// Where streams are kept.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    Memory(Room),
    Folder(PathBuf),
}

impl Home {
    /// A place within.
    pub(crate) fn join(&self, name: &str) -> Self {
        match self {
            Self::Memory(room) => Self::Memory(room.clone()),
            Self::Folder(folder) => Self::Folder(folder.join(name)),
        }
    }

    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Memory(_) => None,
            Self::Folder(folder) => Some(folder),
        }
    }
}

/// Everything about a stream but its records. A change is made on a copy, saved, and then put in place.
#[derive(Clone)]
pub(crate) struct State {
    shards: BTreeMap<u32, Entry>,
    /// The open shards, by hash range.
    open: Vec<Arc<Shard>>,
    /// The number of the next shard.
    next_index: u32,
    pub(crate) settings: Settings,
    pub(crate) consumers: BTreeMap<String, Consumer>,
}

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) shard: Arc<Shard>,
    pub(crate) closed: Option<Closed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) retention_hours: u32,
    pub(crate) on_demand: bool,
    pub(crate) record_kib: u32,
    pub(crate) tags: BTreeMap<String, String>,
    /// Names of shard-level metrics. They are remembered; nothing measures.
    pub(crate) metrics: BTreeSet<String>,
    /// The key of `StartStreamEncryption`. It is remembered; nothing encrypts.
    pub(crate) key_id: Option<String>,
    pub(crate) policy: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consumer {
    pub(crate) name: String,
    /// Milliseconds since 1970.
    pub(crate) made_ms: u64,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            retention_hours: RETENTION_HOURS,
            on_demand: false,
            record_kib: RECORD_KIB,
            tags: BTreeMap::new(),
            metrics: BTreeSet::new(),
            key_id: None,
            policy: None,
        }
    }
}

impl Settings {
    pub(crate) fn retention_ms(&self) -> u64 {
        u64::from(self.retention_hours) * 3_600_000
    }
}

impl Stream {
    /// A new stream with that many shards of equal size. `made_s` is the second in its sequence numbers.
    pub(crate) fn create(
        name: &str,
        shards: u32,
        settings: Settings,
        home: Home,
        made_s: u64,
        now_ms: u64,
    ) -> Outcome<Self> {
        let stream = Self {
            name: name.to_owned(),
            made_ms: now_ms,
            home,
            state: RwLock::new(State {
                shards: BTreeMap::new(),
                open: Vec::new(),
                next_index: 0,
                settings,
                consumers: BTreeMap::new(),
            }),
            deleted: AtomicBool::new(false),
            failing: AtomicBool::new(false),
        };
        stream.change(|state| {
            for hashes in equal_ranges(shards) {
                stream.add_shard(state, Vec::new(), hashes, made_s, now_ms)?;
            }
            Ok(())
        })?;
        Ok(stream)
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a copy, saves it, and only then makes it the truth. No record is written meanwhile.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> Outcome<T>) -> Outcome<T> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = state.clone();
        let result = change(&mut changed)?;
        changed.settle();
        if let Some(folder) = self.home.folder() {
            store::write(&folder.join(saved::FILE), &saved::write(self, &changed)).map_err(|error| {
                tracing::error!(stream = %self.name, %error, "cannot save the stream's description");
                ServiceError::internal(format!(
                    "cannot save the description of stream {}: {error}",
                    self.name
                ))
            })?;
        }
        *state = changed;
        Ok(result)
    }

    fn log_of(&self, index: u32) -> std::io::Result<ShardLog> {
        match &self.home {
            Home::Folder(folder) => ShardLog::in_folder(folder.join(crate::shard::id(index))),
            Home::Memory(room) => Ok(ShardLog::in_memory(room.clone())),
        }
    }

    fn add_shard(
        &self,
        state: &mut State,
        parents: Vec<u32>,
        hashes: HashRange,
        made_s: u64,
        now_ms: u64,
    ) -> Outcome<u32> {
        let index = state.next_index;
        // A folder of this number would be of a reshard that was never saved.
        let log = self
            .log_of(index)
            .map_err(|error| ServiceError::internal(format!("shard {index}: {error}")))?;
        let shard = Shard::new(Origin { shard: index, made_s }, parents, hashes, now_ms, log);
        state.shards.insert(
            index,
            Entry {
                shard: Arc::new(shard),
                closed: None,
            },
        );
        state.next_index += 1;
        Ok(index)
    }

    /// Says once that records are refused, and once that they are accepted again.
    pub(crate) fn note_append(&self, shard: &Shard, error: Option<&std::io::Error>) {
        match error {
            None if !self.failing.load(Ordering::Relaxed) => {}
            None => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    tracing::info!(stream = %self.name, "records are accepted again");
                }
            }
            Some(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(stream = %self.name, shard = %shard.id, %error, "records are refused: they cannot be written");
                }
            }
        }
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Ends every reader that waits.
    pub(crate) fn delete(&self) -> Outcome<()> {
        if let Some(folder) = self.home.folder() {
            store::remove(folder).map_err(|error| {
                tracing::error!(stream = %self.name, %error, "cannot delete the stream's files");
                ServiceError::internal(format!(
                    "cannot delete the files of stream {}: {error}",
                    self.name
                ))
            })?;
        }
        self.deleted.store(true, Ordering::Release);
        self.wake();
        Ok(())
    }

    pub(crate) fn wake(&self) {
        self.state().shards.values().for_each(|entry| entry.shard.wake());
    }

    /// Forgets what retention has ended: records, and closed shards that can have none left.
    pub(crate) fn sweep(&self, now_ms: u64) {
        let horizon_ms = {
            let state = self.state();
            let horizon_ms = now_ms.saturating_sub(state.settings.retention_ms());
            state
                .shards
                .values()
                .for_each(|entry| entry.shard.log().trim(horizon_ms));
            if !state.shards.values().any(|entry| entry.expired(horizon_ms)) {
                return;
            }
            horizon_ms
        };
        let mut gone = Vec::new();
        let swept = self.change(|state| {
            state.shards.retain(|index, entry| {
                let expired = entry.expired(horizon_ms);
                if expired {
                    gone.push(*index);
                }
                !expired
            });
            Ok(())
        });
        if let (Ok(()), Some(folder)) = (swept, self.home.folder()) {
            for index in gone {
                if let Err(error) = store::remove(&folder.join(crate::shard::id(index))) {
                    tracing::warn!(stream = %self.name, shard = %crate::shard::id(index), %error, "files of an expired shard stay");
                }
            }
        }
    }
}

impl Entry {
    pub(crate) fn expired(&self, horizon_ms: u64) -> bool {
        self.closed
            .as_ref()
            .is_some_and(|closed| closed.at_ms < horizon_ms)
    }
}

impl State {
    fn settle(&mut self) {
        let open = self.shards.values().filter(|entry| entry.closed.is_none());
        self.open = open.map(|entry| entry.shard.clone()).collect();
        self.open.sort_by_key(|shard| shard.hashes.0);
    }

    /// The shards that retention has not ended, by number.
    pub(crate) fn shards(&self, now_ms: u64) -> impl Iterator<Item = &Entry> {
        let horizon_ms = self.horizon_ms(now_ms);
        self.shards
            .values()
            .filter(move |entry| !entry.expired(horizon_ms))
    }

    /// Open shards by hash range.
    pub(crate) fn open(&self) -> &[Arc<Shard>] {
        &self.open
    }

    pub(crate) fn shard(&self, index: u32, now_ms: u64) -> Option<&Entry> {
        let entry = self.shards.get(&index)?;
        (!entry.expired(self.horizon_ms(now_ms))).then_some(entry)
    }

    /// Also a shard that retention has ended but that was not swept yet.
    pub(crate) fn entry(&self, index: u32) -> Option<&Entry> {
        self.shards.get(&index)
    }

    /// Records that arrived before this are gone.
    pub(crate) fn horizon_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.settings.retention_ms())
    }

    /// The number, within [`Self::open`], of the shard that takes this hash key.
    pub(crate) fn route(&self, hash: u128) -> usize {
        // The open shards cover all hash keys: the last one that begins at or below it has it.
        self.open.partition_point(|shard| shard.hashes.0 <= hash) - 1
    }

    /// The highest second used in this stream's sequence numbers.
    pub(crate) fn last_made_s(&self) -> u64 {
        self.shards
            .values()
            .map(|entry| entry.shard.origin.made_s)
            .max()
            .unwrap_or(0)
    }
}

/// All hash keys in that many ranges, the way the service divides them.
fn equal_ranges(count: u32) -> impl Iterator<Item = HashRange> {
    (0..count).map(move |n| (boundary(n, count), boundary(n + 1, count).wrapping_sub(1)))
}

/// Where the n-th of `count` equal ranges begins. The one behind the last wraps to 0.
fn boundary(n: u32, count: u32) -> u128 {
    if n == 0 || n == count {
        return 0;
    }
    let (n, count) = (u128::from(n), u128::from(count));
    // 2^128 / count, without 2^128.
    let size = u128::MAX / count + u128::from(u128::MAX % count == count - 1);
    size * n
}
