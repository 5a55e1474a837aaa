//! Finished leases go when they have served (`consuming.md 1.10`).

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use multilangd_core::ids::ShardId;
use multilangd_core::leases::Lease;
use multilangd_core::shards::{CleanUp, Waiting, clean_up};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::Inner;
use super::end::FinishError;
use super::listing::Finished;

/// The finished leases of this worker. At most one entry per lease of the table; lost with the process, and filled
/// again as finished leases are taken up again.
#[derive(Default)]
pub(super) struct Queue(Mutex<BTreeSet<ShardId>>);

impl Queue {
    pub(super) fn add(&self, shard: ShardId) {
        self.with(|queue| {
            if queue.insert(shard.clone()) {
                debug!(%shard, "finished lease queued for clean-up");
            }
        });
    }

    fn remove(&self, shard: &ShardId) {
        self.with(|queue| queue.remove(shard));
    }

    fn snapshot(&self) -> BTreeSet<ShardId> {
        self.with(|queue| queue.clone())
    }

    fn with<T>(&self, f: impl FnOnce(&mut BTreeSet<ShardId>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Due a while after the last time that something was deleted.
struct Stopwatch {
    since: Instant,
    interval: Duration,
}

impl Stopwatch {
    fn is_due(&self) -> bool {
        self.since.elapsed() >= self.interval
    }
}

/// What became of one queued lease.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Looked {
    Kept,
    Deleted,
    AlreadyGone,
}

impl Inner {
    pub(super) async fn clean_up(&self) {
        let stopwatch = |interval| Stopwatch {
            since: self.clock.now(),
            interval,
        };
        let mut completed = stopwatch(self.settings.clean_up_completed_interval);
        let mut garbage = stopwatch(self.settings.clean_up_garbage_interval);
        let mut ticks = interval(self.settings.clean_up_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (look_completed, look_garbage) = (
                completed.is_due() && self.settings.clean_up_completed,
                garbage.is_due(),
            );
            if !look_completed && !look_garbage {
                continue;
            }
            let mut deleted = false;
            for shard in self.queue.snapshot() {
                let looked = self.look_at(&shard, look_completed, look_garbage).await;
                match looked {
                    Ok(Looked::Kept) => {}
                    Ok(looked) => {
                        self.queue.remove(&shard);
                        deleted |= looked == Looked::Deleted;
                    }
                    Err(error) => {
                        warn!(%shard, %error, "the finished lease could not be cleaned up, trying again")
                    }
                }
            }
            if deleted {
                for (watch, looked) in [(&mut completed, look_completed), (&mut garbage, look_garbage)] {
                    if looked {
                        watch.since = self.clock.now();
                    }
                }
            }
        }
    }

    async fn look_at(&self, shard: &ShardId, completed: bool, garbage: bool) -> Result<Looked, FinishError> {
        if completed {
            let looked = self.look_at_completed(shard).await?;
            if looked != Looked::Kept {
                return Ok(looked);
            }
        }
        if garbage {
            return self.look_at_garbage(shard).await;
        }
        Ok(Looked::Kept)
    }

    /// Deletes a lease at SHARD_END whose children have started, or whose shard is gone.
    async fn look_at_completed(&self, shard: &ShardId) -> Result<Looked, FinishError> {
        let Some(lease) = self.read(shard).await? else {
            return Ok(Looked::AlreadyGone);
        };
        if !lease.checkpoint.is_shard_end() {
            // A stale read, or a person has set it back to read the shard again.
            return Ok(Looked::Kept);
        }
        let mut children = lease.children.clone();
        if children.is_empty() {
            match self.listing.finished(shard).await? {
                Finished::Closed(found) => {
                    children = self.create_children(shard, &found).await?;
                    self.name_children(shard, &children).await?;
                }
                Finished::Gone(found) => {
                    self.create_children(shard, &found).await?;
                    return self.delete(shard, "its shard is gone from the stream").await;
                }
                Finished::Open => {
                    return self
                        .delete(
                            shard,
                            "the stream was deleted and created anew with a shard of this name",
                        )
                        .await;
                }
            }
        }
        match self.decide(&lease, &children).await? {
            CleanUp::Delete => self.delete(shard, "its children have started").await,
            CleanUp::Keep(Waiting::ForChildLease(child)) => {
                // Compat: Java looks again for ever. A child's lease is never deleted before its parent's, so this one
                // was never created.
                warn!(%shard, %child, "the child of a finished shard has no lease");
                let finished = self.listing.finished(shard).await?;
                // Read again: another worker may have deleted this lease meanwhile and then, in its turn, the child's;
                // a lease created now would begin the child a second time.
                if self.read(shard).await?.is_none() {
                    return Ok(Looked::AlreadyGone);
                }
                match finished {
                    Finished::Closed(found) => {
                        self.create_children(shard, &found).await?;
                        self.rows.look_now();
                        Ok(Looked::Kept)
                    }
                    Finished::Gone(found) => {
                        self.create_children(shard, &found).await?;
                        self.delete(shard, "its shard is gone from the stream").await
                    }
                    Finished::Open => Err(FinishError::StillOpen(shard.clone())),
                }
            }
            CleanUp::Keep(why) => {
                debug!(%shard, %why, "finished lease kept");
                Ok(Looked::Kept)
            }
        }
    }

    async fn decide(&self, lease: &Lease, children: &BTreeSet<ShardId>) -> Result<CleanUp, FinishError> {
        let mut child_leases = Vec::new();
        for child in children {
            child_leases.push((child, self.read(child).await?));
        }
        let mut parents_left = Vec::new();
        for parent in &lease.parents {
            if self.read(parent).await?.is_some() {
                parents_left.push(parent);
            }
        }
        Ok(clean_up(
            child_leases.iter().map(|(id, lease)| (*id, lease.as_ref())),
            parents_left,
        ))
    }

    /// Deletes a finished lease whose shard is gone.
    async fn look_at_garbage(&self, shard: &ShardId) -> Result<Looked, FinishError> {
        match self.listing.finished(shard).await? {
            Finished::Gone(found) => {
                self.create_children(shard, &found).await?;
                self.delete(shard, "its shard is gone from the stream").await
            }
            Finished::Closed(_) | Finished::Open => Ok(Looked::Kept),
        }
    }

    async fn delete(&self, shard: &ShardId, why: &'static str) -> Result<Looked, FinishError> {
        self.write(&Lease::delete_finished(shard)).await?;
        info!(%shard, why, "finished lease deleted");
        Ok(Looked::Deleted)
    }
}
