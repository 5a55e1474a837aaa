//! What the stream says about its shards: listings, hash ranges, and the children of a finished shard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use multilangd_core::ids::{HashRange, ShardId};
use multilangd_core::shards::children_in;
use multilangd_core::stream::{ChildShard, Shard, ShardFilter, StartAt};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::warn;

use crate::clock::Clock;
use crate::retry::{Patience, retry};
use crate::stream::{ShardPage, Shards, Stream, StreamError};

/// An unknown shard causes at most one listing in this time (`listShardsCacheAllowedAgeInSeconds`).
const UNKNOWN_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// A batch waits while its shard's hash range is asked for.
const RANGE_PATIENCE: Patience = Patience {
    tries_max: Some(3),
    wait_first: Duration::from_millis(500),
    wait_max: Duration::from_millis(500),
};
/// Records are not wanted when only the children are asked for; one answer must reach the end of an exhausted shard.
const RECORDS_MAX: u32 = 1;

/// What the stream says about a shard that has been read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finished {
    /// It is closed, and these continue it.
    Closed(Vec<ChildShard>),
    /// It is gone, with its records; what of its children is still listed.
    Gone(Vec<ChildShard>),
    /// It takes records: the stream was deleted and created anew.
    Open,
}

/// Asks the stream.
pub(super) struct Listing {
    stream: Arc<dyn Stream>,
    clock: Clock,
    patience: Patience,
    /// Behind an async lock, so that a hundred shards that ask at once cause one listing.
    known: Mutex<Known>,
}

/// Hash ranges by shard: as many as the last listing had.
#[derive(Default)]
struct Known {
    ranges: BTreeMap<ShardId, HashRange>,
    asked_at: Option<Instant>,
}

impl Listing {
    pub(super) fn new(stream: Arc<dyn Stream>, clock: Clock, patience: Patience) -> Self {
        Self {
            stream,
            clock,
            patience,
            known: Mutex::default(),
        }
    }

    /// All pages of a listing, or none. Each page has all the patience.
    ///
    /// Compat: Java repeats only throttled pages. A listing changes nothing, so repeating others does no harm.
    pub(super) async fn all(&self, filter: Option<ShardFilter>) -> Result<Vec<Shard>, StreamError> {
        self.all_with(filter, self.patience).await
    }

    /// As [`Listing::all`], with another patience.
    pub(super) async fn all_with(
        &self,
        filter: Option<ShardFilter>,
        patience: Patience,
    ) -> Result<Vec<Shard>, StreamError> {
        let mut shards = Vec::new();
        let mut page = ShardPage::First(filter);
        loop {
            let listed = retry(&self.clock, patience, "listing the stream's shards", || {
                self.stream.list_shards(&page)
            });
            let Shards {
                shards: more,
                next_token,
            } = listed.await?;
            shards.extend(more);
            let next = match next_token.filter(|token| !token.is_empty()) {
                None => return Ok(shards),
                Some(token) => ShardPage::Next(token),
            };
            if next == page {
                return Err(StreamError::Unavailable(
                    "a page of the shard list names itself as the next".into(),
                ));
            }
            page = next;
        }
    }

    /// The hash range of a shard, as it was listed. Never fails, and never asks in vain more than once in a while.
    pub(super) async fn hash_range_of(&self, shard: &ShardId) -> Option<HashRange> {
        let mut known = self.known.lock().await;
        let may_ask = known
            .asked_at
            .is_none_or(|at| at.elapsed() >= UNKNOWN_AGAIN_AFTER);
        if !known.ranges.contains_key(shard) && may_ask {
            known.asked_at = Some(self.clock.now());
            match self.all_with(None, RANGE_PATIENCE).await {
                Ok(shards) => known.ranges = shards.into_iter().map(|it| (it.id, it.hash_range)).collect(),
                // Compat: Java loses the batch that needed it.
                Err(error) => warn!(
                    %shard, %error,
                    "the shard's hash keys are unknown: aggregates are not checked for misplaced records"
                ),
            }
        }
        known.ranges.get(shard).copied()
    }

    /// The children of a shard that has been read to its end: from an answer at its tip, else from the listing.
    ///
    /// Compat: Java believes the first answer. Where it names no children, their leases are never created.
    pub(super) async fn finished(&self, shard: &ShardId) -> Result<Finished, StreamError> {
        let children = self.children_at_tip(shard).await?;
        if !children.is_empty() {
            return Ok(Finished::Closed(children));
        }
        let shards = match self.all(None).await {
            Err(StreamError::NotFound(_)) => return Ok(Finished::Gone(Vec::new())),
            listed => listed?,
        };
        let children = children_in(&shards, shard);
        Ok(match shards.iter().find(|it| it.id == *shard) {
            None => Finished::Gone(children),
            Some(listed) if listed.is_open() => Finished::Open,
            Some(_) if children.is_empty() => {
                return Err(StreamError::Unavailable(
                    format!("closed shard {shard} has no children yet").into(),
                ));
            }
            Some(_) => Finished::Closed(children),
        })
    }

    async fn children_at_tip(&self, shard: &ShardId) -> Result<Vec<ChildShard>, StreamError> {
        let answer = retry(
            &self.clock,
            self.patience,
            "asking for the shard's children",
            async || match self.stream.shard_iterator(shard, &StartAt::Latest).await? {
                None => Ok(Vec::new()),
                Some(iterator) => Ok(self
                    .stream
                    .get_records(&iterator, RECORDS_MAX)
                    .await?
                    .child_shards),
            },
        );
        match answer.await {
            Err(StreamError::NotFound(_)) => Ok(Vec::new()),
            answer => answer,
        }
    }
}
