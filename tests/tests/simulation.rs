//! A hundred simulated fleets, each held to what the oracle demands (`make sim SEEDS=2000` runs more). Seeds
//! repeat exactly only in the build of `make simulation`, which can seed tokio too.

use multilangd_tests::sim::{Report, simulate};

#[test]
fn a_hundred_fleets_survive_what_happens_to_them() {
    let failed: Vec<String> = in_parallel(0..100)
        .into_iter()
        .filter(|report| report.violation.is_some())
        .map(|report| format!("{}\nreplay it: make sim SEED={}", report.summary(), report.seed))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[cfg(tokio_unstable)]
#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in [3, 14, 15] {
        let (one, other) = (simulate(seed), simulate(seed));
        let difference = one
            .journal
            .iter()
            .zip(&other.journal)
            .find(|(one, other)| one != other);
        assert_eq!(difference, None, "seed {seed}");
        assert_eq!(one.fingerprint(), other.fingerprint(), "seed {seed}");
    }
}

/// Seeds in which each planted bug must be found. More would still prove it; but a bug that hides for longer hides.
#[cfg(planted)]
const SEEDS_TO_FIND_A_BUG: u64 = 600;

#[cfg(planted)]
#[test]
fn every_planted_bug_is_found() {
    use multilangd_core::planted::Bug;
    use multilangd_tests::sim::simulate_with;

    let threads: Vec<_> = Bug::ALL
        .iter()
        .map(|bug| {
            std::thread::spawn(|| (0..SEEDS_TO_FIND_A_BUG).find(|seed| simulate_with(*bug, *seed).is_some()))
        })
        .collect();
    let found = threads
        .into_iter()
        .map(|thread| thread.join().expect("a simulation does not panic"));
    let missed: Vec<&Bug> = Bug::ALL
        .iter()
        .zip(found)
        .filter(|(_, found)| found.is_none())
        .map(|(bug, _)| bug)
        .collect();
    assert!(
        missed.is_empty(),
        "not found within {SEEDS_TO_FIND_A_BUG} seeds: {missed:?}"
    );
}

fn in_parallel(seeds: std::ops::Range<u64>) -> Vec<Report> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        let seeds = &seeds;
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mine = seeds.clone().filter(|seed| seed % threads == thread);
                    mine.map(simulate).collect::<Vec<_>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a simulation does not panic"))
            .collect()
    })
}
