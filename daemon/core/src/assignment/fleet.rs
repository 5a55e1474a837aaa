//! The arithmetic of the default decider, `VarianceBasedLeaseAssignmentDecider` (`leasing.md 5.4, 5.5`).

use std::collections::BTreeMap;

use super::{AssignmentSettings, View};
use crate::ids::WorkerId;
use crate::rng::Rng;
use crate::worker_metrics::WorkerMetrics;

/// The metric of workers that measure nothing: assigned throughput in per cent of a fair share.
const THROUGHPUT: &str = "T";

/// A lease, by its place in the view.
type LeaseIndex = usize;
/// A worker, by its place in the view.
type WorkerIndex = usize;

/// The fleet as it will be after the moves so far.
pub(super) struct Fleet<'a> {
    settings: &'a AssignmentSettings,
    view: &'a View,
    workers: Vec<Worker>,
    /// Mean of each metric over the workers that have it, before any move.
    averages: Vec<f64>,
    /// Kilobytes per second of each lease; the mean where it is unknown.
    throughput: Vec<f64>,
    /// A fair share of the throughput.
    target_throughput: f64,
    /// A fair share of the leases, at least 1.
    target_leases: f64,
}

struct Worker {
    /// Value and highest allowed value of each metric of the fleet, where the worker has it.
    metrics: Vec<Option<(f64, f64)>>,
    throughput: f64,
    leases: Vec<LeaseIndex>,
}

impl<'a> Fleet<'a> {
    pub(super) fn new(view: &'a View, settings: &'a AssignmentSettings) -> Self {
        let known: Vec<f64> = view
            .leases
            .iter()
            .filter_map(|seen| seen.lease.throughput_kbps)
            .collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        let throughput: Vec<f64> = view
            .leases
            .iter()
            .map(|seen| seen.lease.throughput_kbps.unwrap_or(mean))
            .collect();
        let workers_count = view.workers.len().max(1);
        let target_throughput = mean * view.leases.len() as f64 / workers_count as f64;

        let by_id: BTreeMap<&WorkerId, WorkerIndex> = view
            .workers
            .iter()
            .enumerate()
            .map(|(index, report)| (&report.worker, index))
            .collect();
        let mut held: Vec<Vec<LeaseIndex>> = vec![Vec::new(); view.workers.len()];
        for (index, seen) in view.leases.iter().enumerate() {
            if let Some(owner) = seen.lease.actual_owner().and_then(|owner| by_id.get(owner)) {
                held[*owner].push(index);
            }
        }
        let loads: Vec<f64> = held
            .iter()
            .map(|leases| leases.iter().map(|lease| throughput[*lease]).sum())
            .collect();
        let measures = view.workers.iter().zip(&loads);
        let measures: Vec<BTreeMap<&str, (f64, f64)>> = measures
            .map(|(report, load)| measure(report, load / target_throughput, settings.samples_alpha))
            .collect();
        let mut names: Vec<&str> = measures
            .iter()
            .flat_map(|metrics| metrics.keys().copied())
            .collect();
        names.sort_unstable();
        names.dedup();
        let average = |name: &&str| {
            let values = measures.iter().filter_map(|metrics| Some(metrics.get(name)?.0));
            let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
            sum / f64::from(count)
        };
        let averages = names.iter().map(average).collect();
        let workers = measures
            .iter()
            .zip(held)
            .zip(loads)
            .map(|((metrics, leases), throughput)| Worker {
                metrics: names.iter().map(|name| metrics.get(name).copied()).collect(),
                throughput,
                leases,
            });
        Self {
            settings,
            view,
            workers: workers.collect(),
            averages,
            throughput,
            target_throughput,
            target_leases: (view.leases.len() / workers_count).max(1) as f64,
        }
    }

    /// A worker for every free lease, the longest free first, for as long as somebody may get one.
    ///
    /// Compat: Java gives them to whoever has most room. A worker that looks for what it was given only now and then
    /// would let their records wait; it gets its share by hand-offs, when the fleet is balanced.
    pub(super) fn assign_free(&mut self) -> Vec<(LeaseIndex, WorkerIndex)> {
        let seen = &self.view.leases;
        let mut free: Vec<LeaseIndex> = (0..seen.len()).filter(|lease| seen[*lease].is_free).collect();
        free.sort_by_key(|lease| (seen[*lease].renewed, &seen[*lease].lease.key));
        let everybody: Vec<WorkerIndex> = (0..self.workers.len()).collect();
        let is_prompt = |worker: &WorkerIndex| self.view.prompt.contains(&self.view.workers[*worker].worker);
        let prompt: Vec<WorkerIndex> = everybody.iter().copied().filter(is_prompt).collect();
        let mut moves = Vec::new();
        for lease in free {
            let Some(to) = self.roomiest(&prompt).or_else(|| self.roomiest(&everybody)) else {
                break;
            };
            let row = &seen[lease].lease;
            let stays = row.actual_owner() == Some(&self.view.workers[to].worker);
            // A hand-off that its old owner did not live to finish is assigned anyway, even back to that owner:
            // nobody adopts a row in that state (trap 35).
            if stays && row.checkpoint_owner.is_none() {
                continue;
            }
            if let Some(from) =
                (0..self.workers.len()).find(|from| self.workers[*from].leases.contains(&lease))
            {
                self.take(lease, from);
            }
            self.give(lease, to);
            moves.push((lease, to));
        }
        moves
    }

    /// Less for those who have too much.
    pub(super) fn balance(&mut self, rng: &mut Rng) -> Vec<(LeaseIndex, WorkerIndex)> {
        if self.target_throughput > 0.0 {
            self.balance_load(rng)
        } else {
            self.balance_counts(rng)
        }
    }

    /// Compat: while no lease has a throughput, Java's default decider never balances. We move leases from the
    /// worker with most to the one with fewest until they differ by one, so that a second worker gets its share of
    /// an idle stream too.
    fn balance_counts(&mut self, rng: &mut Rng) -> Vec<(LeaseIndex, WorkerIndex)> {
        let mut moves = Vec::new();
        loop {
            let count = |worker: &WorkerIndex| self.workers[*worker].leases.len();
            let most = (0..self.workers.len())
                .filter(|worker| !self.movable(*worker).is_empty())
                .max_by_key(count);
            let fewest = (0..self.workers.len())
                .filter(|worker| self.may_get_more(*worker))
                .min_by_key(count);
            let (Some(most), Some(fewest)) = (most, fewest) else {
                break;
            };
            if count(&most) <= count(&fewest) + 1 {
                break;
            }
            let mut leases = self.movable(most);
            rng.shuffle(&mut leases);
            self.take(leases[0], most);
            self.give(leases[0], fewest);
            moves.push((leases[0], fewest));
        }
        moves
    }

    fn balance_load(&mut self, rng: &mut Rng) -> Vec<(LeaseIndex, WorkerIndex)> {
        let mut moves = Vec::new();
        let mut targets: Vec<WorkerIndex> = (0..self.workers.len()).collect();
        for (from, amount) in self.overload() {
            for lease in self.leases_worth(from, amount, rng) {
                let Some(to) = self.roomiest(&targets) else {
                    return moves;
                };
                if self.would_be_too_much(lease, to) {
                    targets.retain(|target| *target != to);
                    break;
                }
                if to != from {
                    self.take(lease, from);
                    self.give(lease, to);
                    moves.push((lease, to));
                }
            }
        }
        moves
    }

    /// The workers with too much and how much of their throughput to take, by the metric where most is to be taken.
    fn overload(&self) -> Vec<(WorkerIndex, f64)> {
        let threshold = self.settings.rebalance_threshold_percent / 100.0;
        let mut best: (f64, Vec<(WorkerIndex, f64)>) = (0.0, Vec::new());
        for (metric, average) in self.averages.iter().copied().enumerate() {
            let (lower, upper) = (average * (1.0 - threshold), average * (1.0 + threshold));
            let workers = self.workers.iter().enumerate();
            let values: Vec<(WorkerIndex, f64, f64)> = workers
                .filter_map(|(worker, load)| {
                    load.metrics[metric].map(|(value, highest)| (worker, value, highest))
                })
                .collect();
            let is_out = |(_, value, highest): &&(WorkerIndex, f64, f64)| {
                *value > upper || *value < lower || *value > *highest
            };
            if !values.iter().any(|value| is_out(&value)) {
                continue;
            }
            let mut sources: Vec<_> = values
                .iter()
                .filter(|(_, value, highest)| *value >= upper || value > highest)
                .collect();
            if sources.is_empty() {
                sources.extend(values.iter().max_by(|a, b| a.1.total_cmp(&b.1)));
            }
            let amount = |(worker, value, _): &(WorkerIndex, f64, f64)| {
                let share = (value - average) / value * self.settings.dampening_percent / 100.0;
                (*worker, share * self.workers[*worker].throughput)
            };
            let mut amounts: Vec<(WorkerIndex, f64)> = sources.into_iter().map(amount).collect();
            amounts.sort_by(|a, b| b.1.total_cmp(&a.1));
            let total: f64 = amounts.iter().map(|(_, amount)| amount).sum();
            if total > best.0 || best.1.is_empty() {
                best = (total, amounts);
            }
        }
        best.1
    }

    /// Leases of a worker that are together worth no more than `amount`; or, where overshooting is allowed and all
    /// are too big, its smallest.
    fn leases_worth(&self, worker: WorkerIndex, amount: f64, rng: &mut Rng) -> Vec<LeaseIndex> {
        let mut leases = self.movable(worker);
        if self.workers[worker].throughput == 0.0 {
            leases.truncate(1);
            return leases;
        }
        rng.shuffle(&mut leases);
        let mut rest = amount;
        let mut chosen = Vec::new();
        for lease in &leases {
            if rest - self.throughput[*lease] > 0.0 {
                rest -= self.throughput[*lease];
                chosen.push(*lease);
            }
        }
        if chosen.is_empty() && self.settings.throughput_overshoot {
            let smallest = leases
                .iter()
                .min_by(|a, b| self.throughput[**a].total_cmp(&self.throughput[**b]));
            chosen.extend(smallest);
        }
        chosen
    }

    /// The leases of a worker that may be moved: not free (those were just assigned), not in a hand-off, and known to
    /// their owner. One that has not found its lease yet would never answer, and the lease would have to expire first.
    fn movable(&self, worker: WorkerIndex) -> Vec<LeaseIndex> {
        let is_movable = |lease: &&LeaseIndex| {
            let seen = &self.view.leases[**lease];
            let is_its_own = seen.lease.owner.as_ref() == Some(&self.view.workers[worker].worker);
            !seen.is_free && !seen.is_new && seen.lease.checkpoint_owner.is_none() && is_its_own
        };
        self.workers[worker]
            .leases
            .iter()
            .filter(is_movable)
            .copied()
            .collect()
    }

    /// The worker with most room among those that may get more; with equal room, the one with fewest leases.
    fn roomiest(&self, candidates: &[WorkerIndex]) -> Option<WorkerIndex> {
        let admitted = candidates
            .iter()
            .copied()
            .filter(|worker| self.may_get_more(*worker));
        let rank = |worker: WorkerIndex| (self.room(worker), self.workers[worker].leases.len());
        admitted
            .map(|worker| (rank(worker), worker))
            .reduce(|best, other| {
                let by_room = other.0.0.total_cmp(&best.0.0);
                let is_better = by_room.then(best.0.1.cmp(&other.0.1)).is_gt();
                if is_better { other } else { best }
            })
            .map(|(_, worker)| worker)
    }

    fn may_get_more(&self, worker: WorkerIndex) -> bool {
        let load = &self.workers[worker];
        load.throughput <= self.settings.throughput_max_kbps && load.leases.len() < self.settings.leases_max
    }

    /// How far a worker is below the average, by its tightest metric.
    fn room(&self, worker: WorkerIndex) -> f64 {
        let metrics = self.workers[worker].metrics.iter().zip(&self.averages);
        let rooms = metrics.filter_map(|(metric, average)| {
            let (value, _) = (*metric)?;
            Some(if value == 0.0 {
                1.0
            } else {
                (average - value) / value
            })
        });
        rooms.fold(f64::INFINITY, f64::min)
    }

    fn would_be_too_much(&self, lease: LeaseIndex, worker: WorkerIndex) -> bool {
        let metrics = self.workers[worker].metrics.iter().zip(&self.averages);
        metrics.into_iter().any(|(metric, average)| {
            metric.is_some_and(|(value, highest)| {
                let after = value + self.weight(lease, *average);
                after > *average || after > highest
            })
        })
    }

    /// By how much a lease raises a metric with this average.
    fn weight(&self, lease: LeaseIndex, average: f64) -> f64 {
        if self.target_throughput > 0.0 {
            self.throughput[lease] * average / self.target_throughput
        } else {
            average / self.target_leases
        }
    }

    fn give(&mut self, lease: LeaseIndex, to: WorkerIndex) {
        self.shift(lease, to, 1.0);
        self.workers[to].leases.push(lease);
    }

    fn take(&mut self, lease: LeaseIndex, from: WorkerIndex) {
        self.shift(lease, from, -1.0);
        self.workers[from].leases.retain(|held| *held != lease);
    }

    fn shift(&mut self, lease: LeaseIndex, worker: WorkerIndex, sign: f64) {
        for metric in 0..self.averages.len() {
            let weight = self.weight(lease, self.averages[metric]);
            if let Some((value, _)) = &mut self.workers[worker].metrics[metric] {
                *value += sign * weight;
            }
        }
        self.workers[worker].throughput += sign * self.throughput[lease];
    }
}

/// Value and highest allowed value of each metric of a worker. One that measures nothing is measured by its share
/// of the throughput; without any throughput, there is nothing to tell workers apart but their number of leases.
fn measure(report: &WorkerMetrics, share: f64, alpha: f64) -> BTreeMap<&str, (f64, f64)> {
    if report.is_default() {
        let share = if share.is_finite() { share } else { 0.0 };
        return BTreeMap::from([(THROUGHPUT, (share * 100.0, 100.0))]);
    }
    let measured = report.samples.iter().map(|(name, samples)| {
        let valid = samples.iter().copied().filter(|sample| *sample >= 0.0);
        let value = valid
            .reduce(|average, sample| alpha * sample + (1.0 - alpha) * average)
            .unwrap_or(0.0);
        let highest = report
            .operating_range
            .get(name)
            .and_then(|range| range.first())
            .copied();
        (name.as_str(), (value, highest.unwrap_or(100.0)))
    });
    measured.collect()
}
