//! A follower's look at all leases: what no leader gives anybody, it takes its share of (`leasing.md 11`). What that is
//! is decided in `core::rescue`.

use std::time::Duration;

use multilangd_core::rescue::{next_deadline, plan};
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::{Assignment, Memory};

/// How often a follower looks at a small table. Half of what a dead worker's shards may wait beyond the failover time:
/// the last renewal is seen that much late, and the other half is for the others' shares.
pub(super) const LOOK_MIN: Duration = Duration::from_secs(1);
/// Each so many rows make the next look come later by [`LOOK_MIN`]. An eventually consistent scan of them costs about 12
/// read units; per second that is half of what the leader's own looks cost.
const ROWS_PER_LOOK: usize = 250;

impl Assignment {
    /// Looks, and takes what falls to this worker. Returns when to look again. A follower looks even when there is
    /// nothing to take: when the leader dies, it must know how long each lease has stood still.
    pub(super) async fn watch(&self, memory: &mut Memory) -> Instant {
        let Some(me) = self.receiver() else {
            return Instant::now() + self.settings.interval;
        };
        if !self.rules.borrow().assigns() {
            // By the rules of 2.x every worker takes leases anyway.
            return Instant::now() + LOOK_MIN;
        }
        let began = Instant::now();
        // A stale row is noticed by the condition of the write.
        let scan = timeout(self.settings.failover / 2, self.places.scan(false));
        let mut is_leader = self.is_leader.clone();
        let scanned = tokio::select! {
            biased;
            // A new leader's first round must not wait for a slow look.
            _ = is_leader.wait_for(|leads| *leads) => return Instant::now(),
            scanned = scan => scanned,
        };
        let mut found = match scanned {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                debug!(%error, "this worker could not look at all leases, trying again");
                return Instant::now() + LOOK_MIN;
            }
            Err(_) => return Instant::now(),
        };
        found.reports.append(&mut found.legacy_reports);
        let rows_count = found.leases.len() + found.reports.len();
        let view = self.look(memory, found, began);
        let moves = self.clock.chance(|rng| {
            let observations = &memory.observations;
            plan(&view, observations, &me, &self.settings, began.into_std(), rng)
        });
        if !moves.is_empty() {
            info!(
                leases = moves.len(),
                "leases that nobody works on: taking this worker's share"
            );
            self.write(moves, memory).await;
        }
        let now = Instant::now();
        let looks = (rows_count / ROWS_PER_LOOK + 1) as u32;
        let regular = now + (LOOK_MIN * looks).min(self.settings.interval);
        let observations = &memory.observations;
        let deadline = next_deadline(&view, observations, &me, &self.settings, began.into_std());
        deadline.map_or(regular, |deadline| {
            regular.min(Instant::from_std(deadline) + Duration::from_millis(1))
        })
    }
}
