//! The end of a shard: its children's leases, and its own (`consuming.md 1.9, 1.10`).

use std::collections::BTreeSet;

use crate::ids::{Position, ShardId};
use crate::leases::Lease;
use crate::stream::{ChildShard, Shard};

/// A child comes from somewhere; an answer that says otherwise is broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("child shard {0} names no parent")]
pub struct NoParents(pub ShardId);

/// The leases of a finished shard's children, at TRIM_HORIZON whatever the initial position is: everything in a child
/// is new.
///
/// Compat: an only child with one parent gets its lease too. Java takes it for a broken merge and gives the finished
/// lease away, again and again; it may be half of a split whose other half is trimmed.
pub fn leases_of_children(children: &[ChildShard]) -> Result<Vec<Lease>, NoParents> {
    let lease = |child: &ChildShard| {
        let parents: BTreeSet<ShardId> = child.parents.iter().cloned().collect();
        if parents.is_empty() {
            return Err(NoParents(child.id.clone()));
        }
        Ok(Lease::new(
            child.id.clone(),
            Position::TrimHorizon,
            parents,
            Some(child.hash_range),
        ))
    };
    children.iter().map(lease).collect()
}

/// Of a merge, the parent beside `finished`. It must have a lease too before the child gets one; otherwise the child
/// could begin although nobody has read that parent.
pub fn other_parents<'a>(finished: &'a ShardId, child: &'a Lease) -> impl Iterator<Item = &'a ShardId> {
    child.parents.iter().filter(move |parent| *parent != finished)
}

/// The children of a shard that is no longer there to be asked, from the listing.
pub fn children_in(shards: &[Shard], finished: &ShardId) -> Vec<ChildShard> {
    let is_child = |shard: &&Shard| shard.parents().any(|parent| parent == finished);
    let child = |shard: &Shard| ChildShard {
        id: shard.id.clone(),
        parents: shard.parents().cloned().collect(),
        hash_range: shard.hash_range,
    };
    shards.iter().filter(is_child).map(child).collect()
}

/// What to do with the lease of a finished shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CleanUp {
    /// It has served.
    Delete,
    /// Not yet; look again later.
    Keep(Waiting),
}

/// Why a finished lease is still needed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Waiting {
    /// A child without a lease would be lost with this one.
    #[error("its child {0} has no lease")]
    ForChildLease(ShardId),
    /// A child that starts is told by this lease that it may.
    #[error("its child {0} has no checkpoint yet")]
    ForChildToStart(ShardId),
    /// Ancestors go first.
    #[error("its parent {0} still has a lease")]
    ForParentToGo(ShardId),
}

/// Decides over a lease at SHARD_END: its children with their leases, and its parents that still have a lease.
pub fn clean_up<'a>(
    children: impl IntoIterator<Item = (&'a ShardId, Option<&'a Lease>)>,
    parents_left: impl IntoIterator<Item = &'a ShardId>,
) -> CleanUp {
    #[cfg(planted)]
    if crate::planted::is_planted(crate::planted::Bug::DeletedEarly) {
        return CleanUp::Delete;
    }
    for (id, lease) in children {
        match lease.map(|lease| &lease.checkpoint) {
            None => return CleanUp::Keep(Waiting::ForChildLease(id.clone())),
            Some(Position::TrimHorizon | Position::AtTimestamp) => {
                return CleanUp::Keep(Waiting::ForChildToStart(id.clone()));
            }
            // LATEST counts as started, as in Java.
            Some(Position::Latest | Position::At(..) | Position::ShardEnd) => {}
        }
    }
    match parents_left.into_iter().next() {
        Some(parent) => CleanUp::Keep(Waiting::ForParentToGo(parent.clone())),
        None => CleanUp::Delete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::HashRange;

    #[test]
    fn children_begin_at_the_trim_horizon_with_parents_and_range() {
        let leases = leases_of_children(&[child("b", &["a"]), child("c", &["a"])]).unwrap();
        let shown: Vec<String> = leases
            .iter()
            .map(|l| format!("{} {} {:?} {:?}", l.key, l.checkpoint, l.parents, l.hash_range))
            .collect();
        assert_eq!(
            shown,
            [
                r#"b TRIM_HORIZON {"a"} Some(HashRange { start: 5, end: 9 })"#,
                r#"c TRIM_HORIZON {"a"} Some(HashRange { start: 5, end: 9 })"#,
            ]
        );
    }

    #[test]
    fn a_child_without_parents_is_refused() {
        let refused = leases_of_children(&[child("b", &["a"]), child("c", &[])]);
        assert_eq!(refused, Err(NoParents("c".into())));
    }

    #[test]
    fn only_a_merge_has_another_parent() {
        let leases = leases_of_children(&[child("b", &["a"]), child("c", &["a", "x"])]).unwrap();
        let others = leases
            .iter()
            .map(|lease| other_parents(&"a".into(), lease).cloned().collect::<Vec<_>>());
        assert_eq!(others.collect::<Vec<_>>(), [vec![], vec!["x".into()]]);
    }

    #[test]
    fn a_finished_lease_goes_when_its_children_have_started_and_its_parents_are_gone() {
        let (started, finished) = (at("b", "17"), at("c", "SHARD_END"));
        let children = [(&started.key, Some(&started)), (&finished.key, Some(&finished))];
        assert_eq!(clean_up(children, []), CleanUp::Delete);
    }

    #[test]
    fn a_child_at_latest_counts_as_started() {
        let child = at("b", "LATEST");
        assert_eq!(clean_up([(&child.key, Some(&child))], []), CleanUp::Delete);
    }

    #[test]
    fn a_finished_lease_stays_while_a_child_has_no_checkpoint() {
        for checkpoint in ["TRIM_HORIZON", "AT_TIMESTAMP"] {
            let child = at("b", checkpoint);
            let decided = clean_up([(&child.key, Some(&child))], []);
            assert_eq!(decided, CleanUp::Keep(Waiting::ForChildToStart("b".into())));
        }
    }

    #[test]
    fn a_finished_lease_stays_while_a_child_has_no_lease() {
        assert_eq!(
            clean_up([(&"b".into(), None)], []),
            CleanUp::Keep(Waiting::ForChildLease("b".into()))
        );
    }

    #[test]
    fn a_finished_lease_stays_while_a_parent_has_a_lease() {
        let decided = clean_up([], [&"0".into()]);
        assert_eq!(decided, CleanUp::Keep(Waiting::ForParentToGo("0".into())));
    }

    fn child(id: &str, parents: &[&str]) -> ChildShard {
        ChildShard {
            id: id.into(),
            parents: parents.iter().map(|&parent| parent.into()).collect(),
            hash_range: HashRange { start: 5, end: 9 },
        }
    }

    fn at(id: &str, checkpoint: &str) -> Lease {
        Lease::new(
            id.into(),
            Position::parse(checkpoint, 0).unwrap(),
            BTreeSet::new(),
            None,
        )
    }
}
