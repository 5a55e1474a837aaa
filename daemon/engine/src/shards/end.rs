//! The end of a shard: its children get their leases before anybody is told (`consuming.md 1.9`).

use std::collections::BTreeSet;

use multilangd_core::ids::{ShardId, names};
use multilangd_core::leases::Lease;
use multilangd_core::metrics::{Metric, Of, Operation};
use multilangd_core::shards::{NoParents, leases_of_children, other_parents};
use multilangd_core::stream::ChildShard;
use tracing::{info, warn};

use super::Inner;
use super::listing::Finished;
use crate::stream::StreamError;
use crate::table::TableError;

/// One in so many tries that find the other parent of a merge without a lease gives the finished lease away.
const GIVE_UP_ONE_IN: u64 = 30;

/// Why a shard could not be finished, by what to do with its lease.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// Drop the lease and tell the child that it is lost: somebody has deleted the row.
    #[error("the lease of {0} is no longer in the table")]
    LeaseGone(ShardId),
    /// Give the lease away and tell the child that it is lost: perhaps another worker sees more.
    #[error("shard {shard} is merged with {other}, which still has no lease; another worker may try")]
    GiveUp {
        /// The finished shard.
        shard: ShardId,
        /// The other parent.
        other: ShardId,
    },
    /// Try again later: the child must not begin before somebody reads its other parent.
    #[error("shard {shard} is merged with {other}, which has no lease yet")]
    Blocked {
        /// The finished shard.
        shard: ShardId,
        /// The other parent.
        other: ShardId,
    },
    /// Try again later: the end was a mistake.
    #[error("shard {0} was read to its end, but the stream lists it as open")]
    StillOpen(ShardId),
    /// Try again later: the answer was broken.
    #[error(transparent)]
    NoParents(#[from] NoParents),
    /// Try again later.
    #[error("cannot ask for the children of a finished shard: {0}")]
    Stream(#[from] StreamError),
    /// Try again later.
    #[error("cannot create the leases of a finished shard's children: {0}")]
    Table(#[from] TableError),
}

impl FinishError {
    /// Whether the lease is to be dropped, instead of trying again.
    pub fn ends_the_lease(&self) -> bool {
        match self {
            Self::LeaseGone(_) | Self::GiveUp { .. } => true,
            Self::Blocked { .. }
            | Self::StillOpen(_)
            | Self::NoParents(_)
            | Self::Stream(_)
            | Self::Table(_) => false,
        }
    }
}

impl Inner {
    pub(super) async fn finish_shard(
        &self,
        shard: &ShardId,
        children: &[ChildShard],
    ) -> Result<(), FinishError> {
        let Some(lease) = self.read(shard).await? else {
            return Err(FinishError::LeaseGone(shard.clone()));
        };
        let are_named = !children.is_empty() && children.iter().all(|child| !child.parents.is_empty());
        let children = if are_named {
            children.to_vec()
        } else if !lease.children.is_empty() {
            // Named only after their leases were created, by an earlier try.
            return Ok(());
        } else {
            match self.listing.finished(shard).await? {
                Finished::Closed(children) => children,
                Finished::Gone(children) => {
                    let listed = children.len();
                    warn!(%shard, listed, "the shard is gone from the stream; its children are taken from the listing");
                    children
                }
                Finished::Open => return Err(FinishError::StillOpen(shard.clone())),
            }
        };
        let ids = self
            .create_children(shard, &children)
            .await
            .inspect_err(|error| self.note(error))?;
        if !self.name_children(shard, &ids).await? {
            return Err(FinishError::LeaseGone(shard.clone()));
        }
        info!(%shard, children = %names(&ids), "shard read to its end; its children have leases");
        self.rows.look_now();
        Ok(())
    }

    fn note(&self, error: &FinishError) {
        let metric = match error {
            FinishError::NoParents(_) => Metric::MISSING_MERGE_PARENT,
            FinishError::GiveUp { .. } | FinishError::Blocked { .. } => Metric::MISSING_MERGE_PARENT_LEASE,
            FinishError::LeaseGone(_)
            | FinishError::StillOpen(_)
            | FinishError::Stream(_)
            | FinishError::Table(_) => return,
        };
        let metrics = &self.settings.metrics;
        metrics.add(Operation::ShutdownTask, Of::Application, metric, 1.0);
    }

    /// Creates the children's leases that are not there. Returns the children.
    pub(super) async fn create_children(
        &self,
        finished: &ShardId,
        children: &[ChildShard],
    ) -> Result<BTreeSet<ShardId>, FinishError> {
        let leases = leases_of_children(children)?;
        for lease in &leases {
            if self.read(&lease.key).await?.is_some() {
                continue;
            }
            self.check_other_parents(finished, lease).await?;
            self.create(lease, Operation::ShutdownTask).await?;
        }
        Ok(leases.into_iter().map(|lease| lease.key).collect())
    }

    /// The rule for merges: without a lease of the other parent the child would not wait for it.
    ///
    /// Compat: another parent that is gone from the stream is not waited for; nobody will ever read it. Java waits for
    /// its lease until the end of the child's retention.
    async fn check_other_parents(&self, finished: &ShardId, child: &Lease) -> Result<(), FinishError> {
        for other in other_parents(finished, child) {
            if self.read(other).await?.is_some() {
                continue;
            }
            let shards = self.listing.all(None).await?;
            if shards.iter().any(|shard| shard.id == *other) {
                let (shard, other) = (finished.clone(), other.clone());
                let gives_up = self.clock.chance(|rng| rng.below(GIVE_UP_ONE_IN)) == 0;
                return Err(match gives_up {
                    true => FinishError::GiveUp { shard, other },
                    false => FinishError::Blocked { shard, other },
                });
            }
            warn!(shard = %finished, %other, child = %child.key, "the other parent of a merge is gone without a lease; \
                its child is not kept waiting");
        }
        Ok(())
    }
}
