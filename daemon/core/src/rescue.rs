//! What a deputy takes by itself under a Java leader: leases that nobody works on and no leader has given anybody
//! (`leasing.md 11`).
//!
//! Owns the decision which of them are this worker's; what was seen of each lease is in [`Observations`]. Never acts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::assignment::{AssignmentSettings, Move, Observations, View};
use crate::ids::WorkerId;
use crate::leases::Lease;
use crate::rng::Rng;

/// The time for the other deputy to take its share, before somebody takes what is left: deputies look once a second, and
/// a lease must have an owner within two.
///
/// Compat: Java workers never take a lease by themselves in a 3.x fleet. An expired lease there waits for the leader;
/// if it was the leader's, for another one to get its lock too, about 170 s in all.
pub const GRACE: Duration = Duration::from_millis(800);

/// The leases that `me` takes now. First a deputy takes the share that falls to it when they are dealt to the live workers,
/// the least busy first; all who see the same rows deal alike, and seldom want the same lease. What is left after
/// [`GRACE`], because it fell to a worker that does not look or has died too, is taken by whoever comes first.
pub fn plan(
    view: &View,
    observations: &Observations,
    me: &WorkerId,
    settings: &AssignmentSettings,
    now: Instant,
    rng: &mut Rng,
) -> Vec<Move> {
    let mut loads: BTreeMap<&WorkerId, usize> =
        view.workers.iter().map(|report| (&report.worker, 0)).collect();
    loads.entry(me).or_default();
    let mut free: Vec<(&Lease, Instant)> = Vec::new();
    for seen in &view.leases {
        let lease = &seen.lease;
        let since = observations.rescue_at(&lease.key, settings);
        match since.filter(|since| is_over(lease, *since, now)) {
            Some(since) if !is_found_anyway(lease, me) => free.push((lease, since)),
            Some(_) | None => {
                let owner = lease.actual_owner();
                if let Some(load) = owner.and_then(|owner| loads.get_mut(owner)) {
                    *load += 1;
                }
            }
        }
    }
    let (mut mine, mut left) = (Vec::new(), Vec::new());
    for (lease, since) in free {
        let idlest = loads
            .iter_mut()
            .filter(|(_, load)| **load < settings.leases_max)
            .min_by_key(|(worker, load)| (**load, **worker));
        let Some((worker, load)) = idlest else { break };
        *load += 1;
        if **worker == *me {
            mine.push(lease);
        } else if now >= since + GRACE {
            left.push(lease);
        }
    }
    rng.shuffle(&mut left);
    let room = settings.leases_max.saturating_sub(loads[me]);
    mine.extend(left.into_iter().take(room));
    let take = |lease: &Lease| Move::Reassign {
        lease: lease.clone(),
        to: me.clone(),
    };
    mine.into_iter().map(take).collect()
}

/// When there will be something to take, unless something happens before. `now`: as of when the last plan judged, so that
/// what has expired since is not passed over.
pub fn next_deadline(
    view: &View,
    observations: &Observations,
    me: &WorkerId,
    settings: &AssignmentSettings,
    now: Instant,
) -> Option<Instant> {
    let leases = view.leases.iter().map(|seen| &seen.lease);
    let deadlines = leases
        .filter(|lease| !is_found_anyway(lease, me))
        .filter_map(|lease| Some((lease, observations.rescue_at(&lease.key, settings)?)))
        .flat_map(|(lease, since)| [(lease, since), (lease, since + GRACE)]);
    deadlines
        .filter(|(lease, deadline)| !is_over(lease, *deadline, now))
        .map(|(_, deadline)| deadline)
        .min()
}

/// An owned lease has expired when it stood still for longer; one without an owner may be taken at once.
fn is_over(lease: &Lease, since: Instant, now: Instant) -> bool {
    match lease.actual_owner() {
        Some(_) => now > since,
        None => now >= since,
    }
}

/// A row that names `me` alone is found by discovery, or was just given up on purpose.
fn is_found_anyway(lease: &Lease, me: &WorkerId) -> bool {
    lease.checkpoint_owner.is_none() && lease.owner.as_ref() == Some(me)
}

#[cfg(test)]
mod tests;
