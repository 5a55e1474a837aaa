//! The leader's look at the whole: do the leases that are read cover all hash keys (`consuming.md 1.8`)?

use std::collections::BTreeMap;

use crate::ids::{HashRange, ShardId};
use crate::leases::Lease;
use crate::stream::Shard;

/// Hash keys that nobody reads, as the ranges to both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The range before the hole. `None`, as is `right`: there is no range at all.
    pub left: Option<HashRange>,
    /// The range behind it.
    pub right: Option<HashRange>,
}

impl Hole {
    /// The first hole between the ranges, which may overlap: a parent and its child are both read for a while.
    ///
    /// Compat: Java takes for the last end that of the last range in order, and sees a hole where a parent's range
    /// ends behind its only leased child's.
    pub fn among(ranges: impl IntoIterator<Item = HashRange>) -> Option<Self> {
        let mut ranges: Vec<HashRange> = ranges.into_iter().collect();
        ranges.sort_unstable();
        let (Some(first), Some(last)) = (ranges.first(), ranges.iter().max_by_key(|range| range.end)) else {
            return Some(Self {
                left: None,
                right: None,
            });
        };
        let (first, last) = (*first, *last);
        if first.start != 0 || last.end != u128::MAX {
            return Some(Self {
                left: Some(first),
                right: Some(last),
            });
        }
        let (mut left, mut end) = (first, first.end);
        for range in ranges {
            if range.start <= end {
                end = end.max(range.end);
            } else if range.start == end + 1 {
                (left, end) = (range, range.end);
            } else {
                return Some(Self {
                    left: Some(left),
                    right: Some(range),
                });
            }
        }
        None
    }
}

/// How often in a row the same hole was seen. A reshard in flight looks like a hole, but not for long.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    last: Option<(Hole, u32)>,
}

impl Audit {
    /// Notes what this run saw; returns how often in a row, this time included, it was seen.
    pub fn note(&mut self, hole: Option<Hole>) -> u32 {
        self.last = match (hole, self.last) {
            (None, _) => None,
            (Some(hole), Some((same, times))) if hole == same => Some((hole, times.saturating_add(1))),
            (Some(hole), _) => Some((hole, 1)),
        };
        self.last.map_or(0, |(_, times)| times)
    }
}

/// The ranges of those leases, not yet finished, that have none in their rows (created by old versions), as far as
/// their shards are listed. The others do not count for the audit.
pub fn missing_ranges(leases: &[Lease], shards: &[Shard]) -> BTreeMap<ShardId, HashRange> {
    let listed: BTreeMap<&ShardId, HashRange> =
        shards.iter().map(|shard| (&shard.id, shard.hash_range)).collect();
    let without = leases
        .iter()
        .filter(|lease| lease.hash_range.is_none() && !lease.checkpoint.is_shard_end());
    without
        .filter_map(|lease| Some((lease.key.clone(), *listed.get(&lease.key)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u128 = u128::MAX;

    fn hole(ranges: &[(u128, u128)]) -> Option<(u128, u128)> {
        let hole = Hole::among(ranges.iter().map(|&(start, end)| HashRange { start, end }))?;
        Some((
            hole.left.map_or(0, |range| range.start),
            hole.right.map_or(0, |range| range.start),
        ))
    }

    #[test]
    fn ranges_side_by_side_have_no_hole() {
        assert_eq!(hole(&[(100, MAX), (0, 49), (50, 99)]), None);
    }

    #[test]
    fn a_parent_and_its_children_may_overlap() {
        assert_eq!(hole(&[(0, 99), (0, 49), (50, 99), (100, MAX)]), None);
        assert_eq!(hole(&[(0, MAX), (10, 20)]), None);
        assert_eq!(hole(&[(0, MAX), (10, MAX)]), None);
    }

    #[test]
    fn hash_keys_between_two_ranges_are_a_hole() {
        assert_eq!(hole(&[(0, 49), (51, 99), (100, MAX)]), Some((0, 51)));
        assert_eq!(hole(&[(0, 49), (50, 99), (60, 70), (101, MAX)]), Some((50, 101)));
    }

    #[test]
    fn hash_keys_before_the_first_or_behind_the_last_range_are_a_hole() {
        assert_eq!(hole(&[(1, 49), (50, MAX)]), Some((1, 50)));
        assert_eq!(hole(&[(0, 49), (50, MAX - 1)]), Some((0, 50)));
    }

    #[test]
    fn no_range_is_a_hole() {
        assert_eq!(
            Hole::among([]),
            Some(Hole {
                left: None,
                right: None
            })
        );
    }

    #[test]
    fn only_the_same_hole_in_a_row_counts() {
        let range = |start| Some(HashRange { start, end: MAX });
        let (one, other) = (
            Hole {
                left: None,
                right: range(1),
            },
            Hole {
                left: None,
                right: range(2),
            },
        );
        let mut audit = Audit::default();
        let seen: Vec<u32> = [
            Some(one),
            Some(one),
            Some(other),
            Some(other),
            Some(other),
            None,
            Some(other),
        ]
        .map(|hole| audit.note(hole))
        .into();
        assert_eq!(seen, [1, 2, 1, 2, 3, 0, 1]);
    }
}
