//! Runs simulations: `sim --seed 7` with its whole journal, `sim --seeds 2000` many, from `--from 2000`, `sim --planted` each bug that
//! can be planted, or `--bug NAME` alone, `sim --scale` a large fleet, `sim --alone` one worker.

#![allow(clippy::print_stdout, reason = "a program for people")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use multilangd_tests::sim::oracle::Counts;
use multilangd_tests::sim::scale::{Load, Size, alone, java_alone, java_at_rest, measure, round_cpu};
use multilangd_tests::sim::{Report, simulate};

/// Lines of a journal that are shown of a seed that failed.
const LAST_LINES: usize = 40;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| -> Option<u64> {
        let at = arguments.iter().position(|it| it == name)?;
        arguments.get(at + 1)?.parse().ok()
    };
    #[cfg(planted)]
    if arguments.iter().any(|it| it == "--planted") {
        let only = arguments
            .iter()
            .position(|it| it == "--bug")
            .map(|at| arguments[at + 1].clone());
        return planted(number("--seeds").unwrap_or(600), only);
    }
    if arguments.iter().any(|it| it == "--alone") {
        return costs();
    }
    if arguments.iter().any(|it| it == "--scale") {
        let size = Size {
            leases: number("--leases").unwrap_or(10_000) as usize,
            workers: number("--workers").unwrap_or(200) as usize,
        };
        return scale(size);
    }
    match (number("--seed"), number("--seeds")) {
        (Some(seed), _) => one(seed),
        (None, Some(count)) => many(number("--from").unwrap_or(0), count),
        (None, None) => {
            println!("usage: sim --seed N | sim --seeds COUNT [--from N]");
            ExitCode::FAILURE
        }
    }
}

fn one(seed: u64) -> ExitCode {
    let report = simulate(seed);
    for line in &report.journal {
        println!("{line}");
    }
    println!("{}", report.summary());
    verdict(report.violation.is_none())
}

fn many(from: u64, count: u64) -> ExitCode {
    let began = Instant::now();
    let next = AtomicU64::new(from);
    let failed = AtomicUsize::new(0);
    let total = Mutex::new((Counts::default(), Duration::ZERO, Duration::ZERO));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= from + count {
                        break;
                    }
                    let report = simulate(seed);
                    let mut total = total.lock().expect("no panic while locked");
                    total.0 += report.counts.clone();
                    total.1 += report.took;
                    total.2 = total.2.max(report.caught_up_in);
                    drop(total);
                    if report.violation.is_some() {
                        failed.fetch_add(1, Ordering::SeqCst);
                        show(&report);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    let (counts, simulated, slowest) = total.into_inner().expect("no panic while locked");
    println!(
        "{count} seeds from {from}, {failed} failed, in {:?}: {simulated:?} simulated, slowest catch-up {slowest:?}, {counts:?}",
        began.elapsed()
    );
    verdict(failed == 0)
}

/// Plants each bug in turn, and shows how it was found.
#[cfg(planted)]
fn planted(seeds: u64, only: Option<String>) -> ExitCode {
    use multilangd_core::planted::Bug;
    use multilangd_tests::sim::simulate_with;

    let mut missed = 0;
    let is_wanted = |bug: &&Bug| only.as_ref().is_none_or(|only| *only == format!("{bug:?}"));
    for bug in Bug::ALL.iter().filter(is_wanted) {
        let found = (0..seeds).find_map(|seed| Some((seed, simulate_with(*bug, seed)?)));
        match found {
            Some((seed, how)) => println!("{bug:?}: found by seed {seed}: {}", how.trim()),
            None => {
                missed += 1;
                println!("{bug:?}: NOT FOUND within {seeds} seeds");
            }
        }
    }
    verdict(missed == 0)
}

/// About as large as a lease's row in mid-life is, in bytes.
const LEASE_BYTES: u64 = 330;

/// The fleet at scale, as a table.
fn scale(size: Size) -> ExitCode {
    println!("{} leases, {} workers", size.leases, size.workers);
    println!(
        "| | all held after | balanced after | leases per worker | scans | calls/s | read units/s | write units/s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let seconds =
        |time: Option<Duration>| time.map_or("–".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
    let load = |load: Load| {
        format!(
            "{:.0} | {:.0} | {:.0} |",
            load.calls, load.read_units, load.write_units
        )
    };
    let steps = measure(size);
    for step in &steps {
        println!(
            "| {} | {} | {} | {}–{} | {} | {}",
            step.what,
            seconds(step.held_in),
            seconds(step.balanced_in),
            step.spread.0,
            step.spread.1,
            step.rounds,
            load(step.load)
        );
    }
    println!(
        "| Java, a quiet minute, computed | | | | 3 | {}",
        load(java_at_rest(size, LEASE_BYTES))
    );
    let [looked, cold, balanced] = round_cpu(size);
    println!(
        "CPU of a round: judging {looked:?}, planning from nothing {cold:?}, planning in balance {balanced:?}"
    );
    let is_good = steps
        .iter()
        .all(|step| step.balanced_in.is_some() || step.what == "a quiet minute");
    verdict(is_good)
}

/// What one worker's table costs, as a table. A write unit is billed as five read units.
fn costs() -> ExitCode {
    println!("| per shard and hour | | calls | read units | write units | together, in read units |");
    println!("|---|---|---|---|---|---|");
    for (shards, is_busy) in [1, 10, 100]
        .into_iter()
        .flat_map(|shards| [(shards, false), (shards, true)])
    {
        let both = [
            ("multilangd", alone(shards, is_busy)),
            ("Java, computed", java_alone(shards, is_busy, LEASE_BYTES)),
        ];
        for (who, load) in both {
            let per = |per_second: f64| per_second * 3600.0 / shards as f64;
            println!(
                "| {shards} {}, {} | {who} | {:.0} | {:.0} | {:.0} | {:.0} |",
                if shards == 1 { "shard" } else { "shards" },
                if is_busy { "busy" } else { "idle" },
                per(load.calls),
                per(load.read_units),
                per(load.write_units),
                per(load.read_units + 5.0 * load.write_units)
            );
        }
    }
    ExitCode::SUCCESS
}

fn show(report: &Report) {
    let first = report.journal.len().saturating_sub(LAST_LINES);
    let lines = report.journal[first..].join("\n");
    println!(
        "{lines}\n{}\nthe whole journal: make sim SEED={}\n",
        report.summary(),
        report.seed
    );
}

fn verdict(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
