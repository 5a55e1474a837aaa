//! Splitting, merging, and dividing anew.
//!
//! Owns which shards close and which ones descend from them. Every child has one parent (of a split) or two
//! (of a merge), as the service's have, because consumers rely on it.

use super::{State, Stream, boundary};
use crate::error::{Outcome, ServiceError};
use crate::shard::{self, Closed, HashRange};

impl Stream {
    /// Two children; the second begins at `at`.
    pub(crate) fn split(&self, index: u32, at: u128, now_ms: u64) -> Outcome<()> {
        let parents = self.change(|state| {
            self.split_in(state, index, at, now_ms)?;
            Ok([index])
        })?;
        self.wake_shards(&parents);
        Ok(())
    }

    /// One child of two neighbours.
    pub(crate) fn merge(&self, index: u32, adjacent: u32, now_ms: u64) -> Outcome<()> {
        let parents = self.change(|state| {
            self.merge_in(state, index, adjacent, now_ms)?;
            Ok([index, adjacent])
        })?;
        self.wake_shards(&parents);
        Ok(())
    }

    /// `count` equal shards, reached by splits and merges only.
    pub(crate) fn divide(&self, count: u32, now_ms: u64) -> Outcome<()> {
        let parents = self.change(|state| {
            let before: Vec<u32> = state.open.iter().map(|shard| shard.index).collect();
            self.divide_in(state, count, now_ms)?;
            Ok(before)
        })?;
        self.wake_shards(&parents);
        Ok(())
    }

    /// Tells readers at the tip, who may find the end there; and lets go of files that nobody writes any more.
    fn wake_shards(&self, indexes: &[u32]) {
        let state = self.state();
        for entry in indexes.iter().filter_map(|index| state.entry(*index)) {
            if entry.closed.is_some() {
                entry.shard.log().release();
            }
            entry.shard.wake();
        }
    }

    fn split_in(&self, state: &mut State, index: u32, at: u128, now_ms: u64) -> Outcome<[u32; 2]> {
        let (first, last) = self.open_range(state, index)?;
        if at <= first || at > last {
            return Err(ServiceError::argument(format!(
                "NewStartingHashKey {at} used in SplitShard() on shard {} in stream {} under account is not both \
                 greater than one plus the shard's StartingHashKey {first} and less than the shard's EndingHashKey {last}.",
                shard::id(index),
                self.name
            )));
        }
        let children = self.replace(state, &[index], &[(first, at - 1), (at, last)], now_ms)?;
        Ok([children[0], children[1]])
    }

    fn merge_in(&self, state: &mut State, index: u32, adjacent: u32, now_ms: u64) -> Outcome<u32> {
        let (a, b) = (self.open_range(state, index)?, self.open_range(state, adjacent)?);
        let (low, high) = if a.0 < b.0 { (a, b) } else { (b, a) };
        if index == adjacent || low.1.checked_add(1) != Some(high.0) {
            return Err(ServiceError::argument(format!(
                "Shards {} and {} in stream {} are not an adjacent pair of shards eligible for merging",
                shard::id(index),
                shard::id(adjacent),
                self.name
            )));
        }
        Ok(self.replace(state, &[index, adjacent], &[(low.0, high.1)], now_ms)?[0])
    }

    fn divide_in(&self, state: &mut State, count: u32, now_ms: u64) -> Outcome<()> {
        // Cut every shard that has a boundary inside it; a child may need another cut.
        let starts: Vec<u128> = (0..count).map(|n| boundary(n, count)).collect();
        let mut uncut: Vec<u32> = state.open.iter().map(|shard| shard.index).collect();
        while let Some(index) = uncut.pop() {
            let (first, last) = self.open_range(state, index)?;
            let inside: Vec<u128> = starts
                .iter()
                .copied()
                .filter(|start| first < *start && *start <= last)
                .collect();
            if let Some(at) = inside.get(inside.len() / 2) {
                uncut.extend(self.split_in(state, index, *at, now_ms)?);
            }
        }
        // Then put together what lies between two boundaries.
        state.settle();
        let pieces: Vec<(u32, u128)> = state
            .open
            .iter()
            .map(|shard| (shard.index, shard.hashes.0))
            .collect();
        let mut whole: Option<u32> = None;
        for (index, first) in pieces {
            whole = match whole {
                Some(left) if starts.binary_search(&first).is_err() => {
                    Some(self.merge_in(state, left, index, now_ms)?)
                }
                _ => Some(index),
            };
        }
        Ok(())
    }

    fn open_range(&self, state: &State, index: u32) -> Outcome<HashRange> {
        match state.entry(index) {
            None => Err(self.no_shard(index)),
            Some(entry) if entry.closed.is_some() => Err(ServiceError::argument(format!(
                "Shard {} in stream {} has already been split or merged, and is not eligible for it again",
                shard::id(index),
                self.name
            ))),
            Some(entry) => Ok(entry.shard.hashes),
        }
    }

    /// The service's words for a shard that is not there.
    pub(crate) fn no_shard(&self, index: u32) -> ServiceError {
        ServiceError::not_found(format!(
            "Could not find shard {} in stream {} under account",
            shard::id(index),
            self.name
        ))
    }

    fn replace(
        &self,
        state: &mut State,
        parents: &[u32],
        ranges: &[HashRange],
        now_ms: u64,
    ) -> Outcome<Vec<u32>> {
        let mut at_ms = now_ms;
        let mut made_s = now_ms / 1000;
        for index in parents {
            let shard = &state.shards[index].shard;
            // A time must never belong to a parent's record and to a child both.
            at_ms = at_ms.max(shard.log().last_ms() + 1).max(shard.made_ms);
            // Sequence numbers of children are above those of parents.
            made_s = made_s.max(shard.origin.made_s + 1);
        }
        let mut children = Vec::new();
        for range in ranges {
            children.push(self.add_shard(state, parents.to_vec(), *range, made_s, at_ms)?);
        }
        for index in parents {
            let closed = Closed {
                at_ms,
                children: children.clone(),
            };
            state.shards.get_mut(index).expect("looked up above").closed = Some(closed);
        }
        Ok(children)
    }
}
