//! Which leases must exist, in which order they are created, and when a finished one may go (`consuming.md 1`).
//!
//! Owns these decisions, and what a new lease says. Never lists a shard and never writes a row. The Java classes are
//! `HierarchicalShardSyncer`, `PeriodicShardSyncManager`, `ShutdownTask` and `LeaseCleanupManager`.

mod audit;
mod end;

use std::collections::{BTreeMap, BTreeSet};

pub use audit::{Audit, Hole, missing_ranges};
pub use end::{CleanUp, NoParents, Waiting, children_in, clean_up, leases_of_children, other_parents};

use crate::ids::{HashRange, Position, ShardId};
use crate::leases::Lease;
use crate::stream::{Shard, ShardFilter};

/// Where an application starts in shards that it has never read: `initialPositionInStream` as it is configured now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialPosition {
    /// At the tip.
    Latest,
    /// At the oldest record.
    TrimHorizon,
    /// At this time, in milliseconds since the epoch. A lease stores only the fact, never the time.
    AtTimestamp(i64),
}

impl InitialPosition {
    /// What a lease created for it has as its checkpoint.
    pub fn checkpoint(self) -> Position {
        match self {
            Self::Latest => Position::Latest,
            Self::TrimHorizon => Position::TrimHorizon,
            Self::AtTimestamp(_) => Position::AtTimestamp,
        }
    }

    /// Which shards an application without leases starts with.
    pub fn filter(self) -> ShardFilter {
        match self {
            Self::Latest => ShardFilter::AtLatest,
            Self::TrimHorizon => ShardFilter::AtTrimHorizon,
            Self::AtTimestamp(epoch_ms) => ShardFilter::AtTimestamp(epoch_ms),
        }
    }
}

/// The listed shards do not add up. List again; a reshard may have been under way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadListing {
    /// Not one shard.
    #[error("the stream has no shards")]
    NoShards,
    /// A part of the hash key space has no shard, or two.
    #[error(
        "the listed shards do not cover the hash keys exactly once: {id} starts at {start}, not at {expected}"
    )]
    Uneven {
        /// The shard that leaves a gap before it, or overlaps the one before it.
        id: ShardId,
        /// Its first hash key.
        start: u128,
        /// Where it had to start.
        expected: u128,
    },
    /// The last hash keys have no shard.
    #[error("no listed shard covers the hash keys behind {0}")]
    Short(u128),
    /// A child cannot be there before its parent is closed.
    #[error("shard {child} is listed while its parent {parent} is still open")]
    OpenParent {
        /// The child.
        child: ShardId,
        /// Its open parent.
        parent: ShardId,
    },
}

/// The leases of an application that has none, in the order to create them: one for every shard that was listed with
/// [`InitialPosition::filter`], open or closed (`consuming.md 1.3`). The shards must cover every hash key exactly once,
/// which also excludes a child beside its open parent (`1.6`).
pub fn bootstrap(shards: &[Shard], initial: InitialPosition) -> Result<Vec<Lease>, BadListing> {
    let mut by_range: Vec<&Shard> = shards.iter().collect();
    by_range.sort_by_key(|shard| (shard.hash_range, shard.id.clone()));
    let mut expected = Some(0);
    for shard in &by_range {
        let HashRange { start, end } = shard.hash_range;
        match expected {
            Some(expected) if expected == start => {}
            expected => {
                let (id, expected) = (shard.id.clone(), expected.unwrap_or(u128::MAX));
                return Err(BadListing::Uneven { id, start, expected });
            }
        }
        expected = end.checked_add(1);
    }
    match (by_range.last(), expected) {
        (None, _) => Err(BadListing::NoShards),
        (Some(last), Some(_)) => Err(BadListing::Short(last.hash_range.end)),
        (Some(_), None) => Ok(in_order(by_range)
            .map(|shard| lease_of(shard, initial.checkpoint()))
            .collect()),
    }
}

/// The leases that an application with the leases `leased` lacks, in the order to create them (`consuming.md 1.4`).
/// `shards` is the listing without a filter.
///
/// Of every line of ancestors only one level is created; the rest follows as shards end. A lease counts whatever its
/// checkpoint: see [`forgotten_children`] for those that ended.
///
/// `ignore_unexpected`: `ignoreUnexpectedChildShards`; open shards with an open parent are left out instead of refused.
pub fn missing_leases(
    shards: &[Shard],
    leased: &BTreeSet<ShardId>,
    initial: InitialPosition,
    ignore_unexpected: bool,
) -> Result<Vec<Lease>, BadListing> {
    let present: BTreeMap<&ShardId, &Shard> = shards.iter().map(|shard| (&shard.id, shard)).collect();
    let open_parent = |shard: &Shard| {
        shard
            .parents()
            .find(|id| present.get(id).is_some_and(|p| p.is_open()))
            .cloned()
    };
    if !ignore_unexpected {
        for shard in shards {
            if let Some(parent) = open_parent(shard) {
                let child = shard.id.clone();
                return Err(BadListing::OpenParent { child, parent });
            }
        }
    }
    let mut lineage = Lineage {
        present: &present,
        leased,
        reads_the_past: initial != InitialPosition::Latest,
        verdicts: BTreeMap::new(),
        create: BTreeSet::new(),
    };
    for shard in shards.iter().filter(|shard| shard.is_open()) {
        if leased.contains(&shard.id) || open_parent(shard).is_some() {
            continue;
        }
        if lineage.verdict(&shard.id) != Verdict::Descendant {
            lineage.create.insert(&shard.id);
        }
    }
    let missing = lineage.create.iter().filter_map(|id| present.get(id).copied());
    Ok(in_order(missing.collect())
        .map(|shard| lease_of(shard, initial.checkpoint()))
        .collect())
}

/// Leases for the children of leases that are finished, where there are none, in the order to create them.
///
/// Compat: Java creates them only when the parent ends, and takes them for granted ever after. Where that failed, nobody
/// reads the children until their parent's lease is gone, and then from the initial position, which may skip records.
/// A child's lease outlives its parent's (`consuming.md 1.10`), so one that is not there was never created.
pub fn forgotten_children(shards: &[Shard], leases: &[Lease]) -> Vec<Lease> {
    let finished: BTreeMap<&ShardId, bool> = leases
        .iter()
        .map(|lease| (&lease.key, lease.checkpoint.is_shard_end()))
        .collect();
    let is_forgotten = |shard: &&Shard| {
        let mut parents = shard.parents().peekable();
        // Of a merge both parents must have been leased (`consuming.md 1.9`).
        !finished.contains_key(&shard.id)
            && parents.peek().is_some()
            && shard.parents().all(|parent| finished.contains_key(parent))
            && shard.parents().any(|parent| finished.get(parent) == Some(&true))
    };
    in_order(shards.iter().filter(is_forgotten).collect())
        .map(|shard| lease_of(shard, Position::TrimHorizon))
        .collect()
}

/// How a shard without a lease came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// An ancestor has, or gets, a lease; this shard's turn comes when the ancestor ends.
    Descendant,
    /// It begins a line: a lease is created if a descendant needs it.
    Beginning,
    /// Nothing leads here, and the past is of no interest.
    Unrelated,
}

struct Lineage<'a> {
    present: &'a BTreeMap<&'a ShardId, &'a Shard>,
    leased: &'a BTreeSet<ShardId>,
    /// The initial position is before the tip.
    reads_the_past: bool,
    verdicts: BTreeMap<&'a ShardId, Verdict>,
    create: BTreeSet<&'a ShardId>,
}

impl<'a> Lineage<'a> {
    /// Judges the shard after its ancestors. Without recursion: a line may be as long as the stream's history.
    fn verdict(&mut self, id: &'a ShardId) -> Verdict {
        let mut pending = vec![id];
        let mut seen = BTreeSet::new();
        while let Some(id) = pending.last().copied() {
            let is_first_visit = seen.insert(id);
            if is_first_visit && !self.verdicts.contains_key(id) && !self.leased.contains(id) {
                let unseen = |parent: &&ShardId| !seen.contains(*parent);
                let parents = self.parents(id);
                pending.extend(parents.into_iter().filter(unseen));
                continue;
            }
            pending.pop();
            if !self.verdicts.contains_key(id) {
                let verdict = self.judge(id);
                self.verdicts.insert(id, verdict);
            }
        }
        self.verdicts[id]
    }

    fn judge(&mut self, id: &'a ShardId) -> Verdict {
        if self.leased.contains(id) {
            return Verdict::Descendant;
        }
        let of = |parent: &ShardId| self.verdicts.get(parent).copied().unwrap_or(Verdict::Unrelated);
        let parents: Vec<(&'a ShardId, Verdict)> = self.parents(id).into_iter().map(|p| (p, of(p))).collect();
        if parents.iter().all(|(_, verdict)| *verdict == Verdict::Unrelated) {
            return if self.reads_the_past {
                Verdict::Beginning
            } else {
                Verdict::Unrelated
            };
        }
        let is_first_of_line = |verdict: &Verdict| *verdict != Verdict::Descendant;
        self.create.extend(
            parents
                .iter()
                .filter(|(_, verdict)| is_first_of_line(verdict))
                .map(|(parent, _)| *parent),
        );
        Verdict::Descendant
    }

    fn parents(&self, id: &ShardId) -> Vec<&'a ShardId> {
        let Some(shard) = self.present.get(id) else {
            return Vec::new();
        };
        shard
            .parents()
            .filter_map(|parent| Some(*self.present.get_key_value(parent)?.0))
            .collect()
    }
}

/// By the shards' beginnings, so that a crash half-way leaves a table that the next sync can complete.
fn in_order(mut shards: Vec<&Shard>) -> impl Iterator<Item = &Shard> {
    shards.sort_by(|a, b| (&a.starting_sequence_number, &a.id).cmp(&(&b.starting_sequence_number, &b.id)));
    shards.into_iter()
}

/// Parents are named even if they are gone (`consuming.md 1.7`).
fn lease_of(shard: &Shard, checkpoint: Position) -> Lease {
    Lease::new(
        shard.id.clone(),
        checkpoint,
        shard.parents().cloned().collect(),
        Some(shard.hash_range),
    )
}

#[cfg(test)]
mod tests;
