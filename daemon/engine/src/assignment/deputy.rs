//! A deputy's looks: at the leases of a leader of ours, which nobody gives away when it dies; or, under a Java leader, at
//! all leases: what no leader gives anybody, it takes its share of (`leasing.md 11`). Who is a deputy is decided in
//! `core::deputy`, what it takes in `core::rescue`.

use std::collections::BTreeSet;
use std::time::Duration;

use multilangd_core::deputy::Duty;
use multilangd_core::ids::WorkerId;
use multilangd_core::leases::Lease;
use multilangd_core::rescue::{next_deadline, plan};
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::{Assignment, LOOK, Memory, next_look};
use crate::leases::Found;
use crate::table::TableError;

/// So many rows cost as much in a scan as one that is read by its key: half a read unit pays for 4 KB.
const ROWS_PER_READ: usize = 12;

impl Assignment {
    /// Looks, and takes what falls to this worker. Returns when to look again. A deputy looks even when there is nothing
    /// to take: when somebody dies, it must know how long each lease has stood still.
    pub(super) async fn watch(&self, memory: &mut Memory, duty: &Duty) -> Instant {
        let Some(me) = self.receiver() else {
            return Instant::now() + self.settings.interval;
        };
        if !self.rules.borrow().assigns() {
            // By the rules of 2.x every worker takes leases anyway.
            return Instant::now() + LOOK;
        }
        let began = Instant::now();
        let look = async {
            match duty {
                Duty::Succeed(leader) => self.leases_of(leader, memory).await.map(Seen::Leaders),
                // A stale row is noticed by the condition of the write.
                Duty::Rescue => self.places.scan(false).await.map(Seen::All),
            }
        };
        let look = timeout(self.settings.failover / 2, look);
        let mut is_leader = self.is_leader.clone();
        let seen = tokio::select! {
            biased;
            // A new leader's first round must not wait for a slow look.
            _ = is_leader.wait_for(|leads| *leads) => return Instant::now(),
            seen = look => seen,
        };
        let ended = Instant::now();
        match seen {
            Ok(Ok(Seen::Leaders(leases))) => {
                let observations = &mut memory.observations;
                observations.glance(&leases, &self.settings, began.into_std(), ended.into_std());
                next_look(began, ended)
            }
            Ok(Ok(Seen::All(found))) => {
                let regular = next_look(began, ended);
                let deadline = self.rescue(memory, found, &me, began).await;
                deadline.map_or(regular, |deadline| regular.min(deadline))
            }
            Ok(Err(error)) => {
                debug!(%error, "this deputy could not look at the leases, trying again");
                ended + LOOK
            }
            Err(_) => ended,
        }
    }

    /// The leases that the leader works on, by their keys, or among all where that is cheaper.
    async fn leases_of(&self, leader: &WorkerId, memory: &mut Memory) -> Result<Vec<Lease>, TableError> {
        let is_dear = |keys: usize, rows: usize| keys * ROWS_PER_READ > rows;
        let mut named = None;
        if !is_dear(memory.watched.len(), memory.rows_count) {
            match self.rows.owned_by(leader).await {
                Ok(keys) => named = Some(keys),
                Err(TableError::Missing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        // In a hand-off the row names the next owner: what was the leader's a moment ago is watched too.
        let watched = named.map(|keys| keys.into_iter().chain(memory.watched.iter().cloned()).collect());
        let watched = watched.filter(|keys: &BTreeSet<_>| !is_dear(keys.len(), memory.rows_count));
        let leases = match watched {
            Some(keys) => self.rows.glances(keys.into_iter().collect()).await?,
            None => {
                let found = self.rows.scan(false).await?;
                memory.rows_count = found.leases.len() + found.reports.len();
                found.leases
            }
        };
        let its_own = leases.iter().filter(|lease| lease.actual_owner() == Some(leader));
        memory.watched = its_own.map(|lease| lease.key.clone()).collect();
        Ok(leases)
    }

    /// Takes what nobody works on. Returns when there will be something to take, unless something happens before.
    async fn rescue(
        &self,
        memory: &mut Memory,
        mut found: Found,
        me: &WorkerId,
        began: Instant,
    ) -> Option<Instant> {
        found.reports.append(&mut found.legacy_reports);
        let view = self.look(memory, found, began);
        self.find_own(&view).await;
        let moves = self.clock.chance(|rng| {
            let observations = &memory.observations;
            plan(&view, observations, me, &self.settings, began.into_std(), rng)
        });
        if !moves.is_empty() {
            info!(
                leases = moves.len(),
                "leases that nobody works on: taking this worker's share"
            );
            self.write(moves, memory).await;
        }
        let observations = &memory.observations;
        let deadline = next_deadline(&view, observations, me, &self.settings, began.into_std());
        deadline.map(|deadline| Instant::from_std(deadline) + Duration::from_millis(1))
    }
}

enum Seen {
    Leaders(Vec<Lease>),
    All(Found),
}
