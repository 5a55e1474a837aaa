//! How busy the machine, or the part of it that a container may use, is: pure arithmetic over what the kernel or the
//! container agent says (`leasing.md 5.8`). Percentages of what may be used, 0 to 100.
//!
//! Owns the formulas and what they remember between two looks; reads no file.

use std::time::Duration;

/// What the first line of `/proc/stat` says: user + nice, system, idle, waiting for I/O, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    user: u64,
    system: u64,
    idle: u64,
    io_wait: u64,
}

impl Ticks {
    fn read(stat: &str) -> Option<Self> {
        let mut fields = stat.lines().next()?.split_ascii_whitespace();
        fields.next().filter(|name| *name == "cpu")?;
        let mut next = || fields.next()?.parse::<u64>().ok();
        let (user, nice, system, idle, io_wait) = (next()?, next()?, next()?, next()?, next()?);
        Some(Self {
            user: user.checked_add(nice)?,
            system,
            idle,
            io_wait,
        })
    }

    fn total(&self) -> u64 {
        self.user
            .saturating_add(self.system)
            .saturating_add(self.idle)
            .saturating_add(self.io_wait)
    }
}

/// A machine's CPU, from `/proc/stat` (`LinuxCpuWorkerMetric`). Time spent waiting for I/O counts as busy.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    last: Option<Ticks>,
}

impl Machine {
    /// The share since the last look; 0 at the first. `None`: the text makes no sense, and the sample is skipped.
    pub fn look(&mut self, stat: &str) -> Option<f64> {
        let now = Ticks::read(stat)?;
        let Some(last) = self.last.replace(now) else {
            return Some(0.0);
        };
        if last == now {
            return Some(0.0);
        }
        let idle = now.idle.abs_diff(last.idle) as f64;
        let total = now.total().abs_diff(last.total()) as f64;
        if total < idle && now.io_wait < last.io_wait {
            return Some(0.0);
        }
        percent((total - idle) / total)
    }
}

/// A container's CPU, from its control group (`Cgroupv1CpuWorkerMetric`, `Cgroupv2CpuWorkerMetric`).
#[derive(Clone, Debug)]
pub struct ControlGroup {
    cpus: f64,
    last: Option<(Duration, Duration)>,
}

impl ControlGroup {
    /// `cpus`: how many of them the group may use, see [`cpus_v1`] and [`cpus_v2`].
    pub fn new(cpus: f64) -> Self {
        Self { cpus, last: None }
    }

    /// The share since the last look; 0 at the first. `used`: CPU time of the group so far; `now`: time on any clock.
    pub fn look(&mut self, used: Duration, now: Duration) -> Option<f64> {
        let Some((used_before, before)) = self.last.replace((used, now)) else {
            return Some(0.0);
        };
        let wall = now.checked_sub(before)?.as_secs_f64();
        let busy = used.checked_sub(used_before)?.as_secs_f64();
        percent(at_most_all(busy / wall / self.cpus))
    }
}

/// CPU time of a version 1 group: `cpuacct.usage`, nanoseconds.
pub fn used_v1(usage: &str) -> Option<Duration> {
    usage.trim().parse().ok().map(Duration::from_nanos)
}

/// CPU time of a version 2 group: the line `usage_usec` of `cpu.stat`, microseconds.
pub fn used_v2(stat: &str) -> Option<Duration> {
    let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    usage.trim().parse().ok().map(Duration::from_micros)
}

/// CPUs of a version 1 group: quota over period, or the CPUs of its set where there is no quota (-1).
pub fn cpus_v1(quota_us: &str, period_us: &str, effective: &str) -> Option<f64> {
    match quota_us.trim().parse::<i64>().ok()? {
        -1 => cpu_list(effective),
        quota => some_cpus(quota as f64 / period_us.trim().parse::<f64>().ok()?),
    }
}

/// CPUs of a version 2 group: `cpu.max`, which is `QUOTA PERIOD` or `max PERIOD`.
pub fn cpus_v2(max: &str, effective: &str) -> Option<f64> {
    let mut words = max.split_ascii_whitespace();
    match (words.next()?, words.next()) {
        ("max", _) => cpu_list(effective),
        (quota, Some(period)) => some_cpus(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?),
        (_, None) => None,
    }
}

/// How many CPUs a list such as `0-4,6,8-10` names.
fn cpu_list(list: &str) -> Option<f64> {
    let mut count = 0_u32;
    for part in list.trim().split(',') {
        count += match part.split_once('-') {
            None => part.parse::<u32>().map(|_| 1).ok()?,
            Some((first, last)) => last
                .parse::<u32>()
                .ok()?
                .checked_sub(first.parse().ok()?)?
                .checked_add(1)?,
        };
    }
    some_cpus(f64::from(count))
}

fn some_cpus(cpus: f64) -> Option<f64> {
    (cpus.is_finite() && cpus > 0.0).then_some(cpus)
}

/// What a task's agent says of one container at one moment (ECS `…/stats`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskStats {
    /// `cpu_stats.cpu_usage.total_usage`, nanoseconds.
    pub used: u64,
    /// `cpu_stats.system_cpu_usage`, nanoseconds.
    pub system: u64,
    /// `cpu_stats.online_cpus`.
    pub online_cpus: u32,
    /// `precpu_stats.cpu_usage.total_usage`.
    pub used_before: u64,
    /// `precpu_stats.system_cpu_usage`.
    pub system_before: u64,
}

/// What a container of a task may use (ECS `…/task`): the task's limit in vCPUs (all online CPUs where it has none), and
/// its own share of the sum of all containers' shares.
pub fn task_cpus(
    task_limit: Option<f64>,
    online_cpus: u32,
    own_share: Option<f64>,
    shares: f64,
) -> Option<f64> {
    /// The share of a container that states none.
    const SHARE: f64 = 2.0;
    let own = own_share.unwrap_or(SHARE);
    // Compat: a sum of 0 gives Java a NaN and fails its whole report; here the container may use all of the task.
    let part = if shares > 0.0 { own / shares } else { 1.0 };
    some_cpus(task_limit.unwrap_or(f64::from(online_cpus)) * part)
}

impl TaskStats {
    /// The share of `cpus` (`EcsCpuWorkerMetric`).
    pub fn percent_of(&self, cpus: f64) -> Option<f64> {
        if self.used_before == 0 && self.system_before == 0 {
            return Some(0.0);
        }
        let used = self.used.checked_sub(self.used_before)? as f64;
        let system = self.system.checked_sub(self.system_before)? as f64;
        if system == 0.0 {
            return Some(100.0);
        }
        percent(at_most_all(used / system * f64::from(self.online_cpus) / cpus))
    }
}

/// More than all is all; what is no number stays none.
fn at_most_all(share: f64) -> f64 {
    if share > 1.0 { 1.0 } else { share }
}

/// A share as per cent; `None` for what is no number or outside 0 to 100: such a sample is skipped (trap 44).
fn percent(share: f64) -> Option<f64> {
    let percent = share * 100.0;
    (0.0..=100.0).contains(&percent).then_some(percent)
}

/// Averages of raw samples, as a worker reports them (`WorkerMetricStatsManager`).
#[derive(Clone, Debug)]
pub struct Samples {
    raw: Vec<f64>,
    averages: std::collections::VecDeque<f64>,
    averages_max: usize,
}

/// Raw samples kept between two reports: five minutes of one a second.
const RAW_MAX: usize = 300;

impl Samples {
    /// Keeps this many averages (`noOfPersistedMetricsPerWorkerMetrics`), at least one.
    pub fn new(averages_max: usize) -> Self {
        Self {
            raw: Vec::new(),
            averages: std::collections::VecDeque::new(),
            averages_max: averages_max.max(1),
        }
    }

    /// Notes a raw sample; beyond the bound the oldest goes.
    pub fn note(&mut self, percent: f64) {
        if self.raw.len() == RAW_MAX {
            self.raw.remove(0);
        }
        self.raw.push(percent);
    }

    /// Averages what was noted since the last call; −1 where nothing was, which tells the leader that measuring fails.
    /// All averages, oldest first.
    pub fn report(&mut self) -> Vec<f64> {
        let average = if self.raw.is_empty() {
            -1.0
        } else {
            let mean = self.raw.iter().sum::<f64>() / self.raw.len() as f64;
            (mean * 1e6).round() / 1e6
        };
        self.raw.clear();
        if self.averages.len() == self.averages_max {
            self.averages.pop_front();
        }
        self.averages.push_back(average);
        self.averages.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_counts_waiting_for_io_as_busy() {
        let mut machine = Machine::default();
        assert_eq!(
            machine.look("cpu  100 0 100 700 100 9 9 9\ncpu0 1 2 3"),
            Some(0.0)
        );
        assert_eq!(machine.look("cpu  110 10 110 750 120 99 99 99"), Some(50.0));
        assert_eq!(
            machine.look("cpu  110 10 110 750 120 100 100 100"),
            Some(0.0),
            "nothing changed that counts"
        );
    }

    #[test]
    fn a_counter_that_runs_backwards_is_no_load() {
        let mut machine = Machine::default();
        machine.look("cpu  100 0 100 700 100");
        assert_eq!(machine.look("cpu  100 0 100 750 60"), Some(0.0));
    }

    #[test]
    fn text_that_makes_no_sense_is_skipped() {
        let mut machine = Machine::default();
        assert_eq!(machine.look("intr 5"), None);
        assert_eq!(machine.look("cpu  1 2 three 4 5"), None);
    }

    #[test]
    fn a_group_is_measured_by_what_it_may_use() {
        let mut group = ControlGroup::new(2.0);
        let seconds = Duration::from_secs;
        assert_eq!(group.look(seconds(10), seconds(100)), Some(0.0));
        assert_eq!(group.look(seconds(11), seconds(101)), Some(50.0));
        assert_eq!(
            group.look(seconds(20), seconds(102)),
            Some(100.0),
            "never more than all of it"
        );
        assert_eq!(
            group.look(seconds(20), seconds(102)),
            None,
            "no time has passed: no sample"
        );
    }

    #[test]
    fn limits_of_groups_are_read_as_java_reads_them() {
        assert_eq!(cpus_v1("150000\n", "100000\n", ""), Some(1.5));
        assert_eq!(cpus_v1("-1\n", "100000\n", "0-4,6,8-10\n"), Some(9.0));
        assert_eq!(cpus_v2("50000 100000\n", ""), Some(0.5));
        assert_eq!(cpus_v2("max 100000\n", "0-1\n"), Some(2.0));
        assert_eq!(cpus_v2("max 100000\n", ""), None);
        assert_eq!(used_v1("1500000000\n"), Some(Duration::from_millis(1500)));
        assert_eq!(
            used_v2("usage_usec 1500000\nuser_usec 1\n"),
            Some(Duration::from_millis(1500))
        );
    }

    #[test]
    fn a_task_shares_its_limit_among_its_containers() {
        let stats = TaskStats {
            used: 300,
            system: 2000,
            online_cpus: 4,
            used_before: 100,
            system_before: 1000,
        };
        // 200 of 1,000 on 4 CPUs are 0.8 CPUs.
        assert_eq!(task_cpus(Some(2.0), 4, Some(10.0), 20.0), Some(1.0));
        assert_eq!(stats.percent_of(1.0), Some(80.0));
        assert_eq!(task_cpus(None, 4, None, 8.0), Some(1.0));
        assert_eq!(task_cpus(Some(2.0), 4, None, 0.0), Some(2.0));
        let first = TaskStats {
            used_before: 0,
            system_before: 0,
            ..stats
        };
        assert_eq!(first.percent_of(1.0), Some(0.0));
        let stopped = TaskStats {
            system: 1000,
            ..stats
        };
        assert_eq!(stopped.percent_of(1.0), Some(100.0));
    }

    #[test]
    fn reports_hold_averages_oldest_first_and_say_when_there_was_nothing() {
        let mut samples = Samples::new(3);
        samples.note(10.0);
        samples.note(20.0);
        assert_eq!(samples.report(), [15.0]);
        assert_eq!(samples.report(), [15.0, -1.0]);
        samples.note(1.0 / 3.0);
        assert_eq!(samples.report(), [15.0, -1.0, 0.333_333]);
        samples.note(7.0);
        assert_eq!(samples.report(), [-1.0, 0.333_333, 7.0]);
    }
}
