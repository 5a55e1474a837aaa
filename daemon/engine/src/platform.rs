//! Where the worker runs, and how busy that is: ECS, EKS, EC2, or a machine that says nothing (`leasing.md 5.8`).
//!
//! Owns the order in which platforms are tried and what is read on each; the arithmetic is in `core::cpu`, files and HTTP
//! are behind [`Host`].

use std::time::Duration;

use async_trait::async_trait;
use multilangd_core::cpu::{ControlGroup, Machine, TaskStats, cpus_v1, cpus_v2, task_cpus, used_v1, used_v2};
use tracing::{debug, info};

use crate::clock::Clock;

/// What the platform is asked through.
#[async_trait]
pub trait Host: Send + Sync + 'static {
    /// An environment variable; `None` when it is not set or empty.
    fn environment(&self, name: &str) -> Option<String>;
    /// Whether there is such a file or folder.
    async fn exists(&self, path: &str) -> bool;
    /// A small text file.
    async fn read(&self, path: &str) -> Option<String>;
    /// The body of a 200 answer within five seconds, as EC2's and ECS's local agents give it.
    async fn http(
        &self,
        method: &'static str,
        url: &str,
        header: Option<(&'static str, &str)>,
    ) -> Option<String>;
}

const EKS_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const IMDS: &str = "http://169.254.169.254/latest";
const IMDS_DOCUMENT: &str = "/dynamic/instance-identity/document";

/// A way to measure, which remembers its last look.
#[derive(Debug)]
pub struct Load {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Machine(Machine),
    GroupV1(ControlGroup),
    GroupV2(ControlGroup),
    Task { uri: String, cpus: Option<f64> },
}

impl Load {
    /// The first platform that matches decides, even if it then offers nothing to measure. `None`: this worker reports no
    /// load, and the leader balances it by throughput.
    pub async fn find(host: &dyn Host) -> Option<Self> {
        let v4 = host.environment("ECS_CONTAINER_METADATA_URI_V4");
        let (platform, source) = if v4.is_some() || host.environment("ECS_CONTAINER_METADATA_URI").is_some() {
            ("ECS", v4.map(|uri| Source::Task { uri, cpus: None }))
        } else if host.exists(EKS_TOKEN).await {
            ("EKS", Self::control_group(host).await)
        } else if Self::is_ec2(host).await {
            (
                "EC2",
                host.exists("/proc")
                    .await
                    .then(|| Source::Machine(Machine::default())),
            )
        } else {
            ("none", None)
        };
        info!(
            platform,
            measured = source.is_some(),
            "where this worker runs, for balancing by CPU"
        );
        source.map(|source| Self { source })
    }

    async fn control_group(host: &dyn Host) -> Option<Source> {
        const ROOT: &str = "/sys/fs/cgroup";
        let read = async |path: &str| host.read(&format!("{ROOT}/{path}")).await.unwrap_or_default();
        if host.exists(&format!("{ROOT}/cgroup.controllers")).await {
            let cpus = cpus_v2(&read("cpu.max").await, &read("cpuset.cpus.effective").await)?;
            return Some(Source::GroupV2(ControlGroup::new(cpus)));
        }
        if !host.exists(&format!("{ROOT}/memory")).await && !host.exists(&format!("{ROOT}/cpu")).await {
            return None;
        }
        let (quota, period) = (
            read("cpu/cpu.cfs_quota_us").await,
            read("cpu/cpu.cfs_period_us").await,
        );
        let cpus = cpus_v1(&quota, &period, &read("cpuset/cpuset.effective_cpus").await)?;
        Some(Source::GroupV1(ControlGroup::new(cpus)))
    }

    async fn is_ec2(host: &dyn Host) -> bool {
        if host
            .environment("AWS_EC2_METADATA_DISABLED")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
        {
            return false;
        }
        let lifetime = Some(("x-aws-ec2-metadata-token-ttl-seconds", "600"));
        let token = host.http("PUT", &format!("{IMDS}/api/token"), lifetime).await;
        let header = token.as_deref().map(|token| ("x-aws-ec2-metadata-token", token));
        host.http("GET", &format!("{IMDS}{IMDS_DOCUMENT}"), header)
            .await
            .is_some()
    }

    /// One sample, in per cent of what may be used. `None`: it could not be taken, and is skipped.
    pub async fn percent(&mut self, host: &dyn Host, clock: &Clock) -> Option<f64> {
        // Milliseconds, as Java's wall clock.
        let now = Duration::from_millis(u64::try_from(clock.epoch_ms()).ok()?);
        let percent = match &mut self.source {
            Source::Machine(machine) => machine.look(&host.read("/proc/stat").await?),
            Source::GroupV1(group) => group.look(
                used_v1(&host.read("/sys/fs/cgroup/cpu/cpuacct.usage").await?)?,
                now,
            ),
            Source::GroupV2(group) => group.look(used_v2(&host.read("/sys/fs/cgroup/cpu.stat").await?)?, now),
            Source::Task { uri, cpus } => task_percent(host, uri, cpus).await,
        };
        if percent.is_none() {
            debug!("a CPU sample made no sense and is skipped");
        }
        percent
    }
}

async fn task_percent(host: &dyn Host, uri: &str, cpus: &mut Option<f64>) -> Option<f64> {
    let stats = agent::stats(&host.http("GET", &format!("{uri}/stats"), None).await?)?;
    let cpus = match *cpus {
        Some(cpus) => cpus,
        None => {
            let task = host.http("GET", &format!("{uri}/task"), None).await?;
            let container = host.http("GET", uri, None).await?;
            *cpus.insert(agent::cpus(&task, &container, stats.online_cpus)?)
        }
    };
    stats.percent_of(cpus)
}

/// The documents of the ECS agent.
mod agent {
    use super::{TaskStats, task_cpus};
    use serde_json::Value;

    pub(super) fn stats(document: &str) -> Option<TaskStats> {
        let stats: Value = serde_json::from_str(document).ok()?;
        let number = |path: &str| stats.pointer(path).and_then(Value::as_u64);
        Some(TaskStats {
            used: number("/cpu_stats/cpu_usage/total_usage")?,
            system: number("/cpu_stats/system_cpu_usage")?,
            online_cpus: u32::try_from(number("/cpu_stats/online_cpus")?).ok()?,
            used_before: number("/precpu_stats/cpu_usage/total_usage").unwrap_or(0),
            system_before: number("/precpu_stats/system_cpu_usage").unwrap_or(0),
        })
    }

    pub(super) fn cpus(task: &str, container: &str, online_cpus: u32) -> Option<f64> {
        let (task, container): (Value, Value) = (
            serde_json::from_str(task).ok()?,
            serde_json::from_str(container).ok()?,
        );
        let share = |container: &Value| container.pointer("/Limits/CPU").and_then(Value::as_f64);
        let containers = task.get("Containers")?.as_array()?;
        let own = containers
            .iter()
            .find(|it| it.get("DockerId") == container.get("DockerId"));
        let shares = containers.iter().filter_map(share).sum();
        task_cpus(
            task.pointer("/Limits/CPU").and_then(Value::as_f64),
            online_cpus,
            own.and_then(share),
            shares,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Pretended {
        environment: BTreeMap<&'static str, &'static str>,
        files: Mutex<BTreeMap<&'static str, &'static str>>,
        answers: BTreeMap<String, &'static str>,
    }

    #[async_trait]
    impl Host for Pretended {
        fn environment(&self, name: &str) -> Option<String> {
            self.environment.get(name).map(|text| (*text).to_owned())
        }
        async fn exists(&self, path: &str) -> bool {
            self.files.lock().unwrap().contains_key(path)
        }
        async fn read(&self, path: &str) -> Option<String> {
            self.files
                .lock()
                .unwrap()
                .get(path)
                .map(|text| (*text).to_owned())
        }
        async fn http(
            &self,
            method: &'static str,
            url: &str,
            _: Option<(&'static str, &str)>,
        ) -> Option<String> {
            self.answers
                .get(&format!("{method} {url}"))
                .map(|text| (*text).to_owned())
        }
    }

    fn clock() -> Clock {
        Clock::simulated(1_000_000, 1)
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_nobody_describes_is_not_measured() {
        assert!(Load::find(&Pretended::default()).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_ec2_instance_is_measured_by_its_kernel() {
        let host = Pretended {
            files: Mutex::new([("/proc", ""), ("/proc/stat", "cpu  100 0 100 700 100")].into()),
            answers: [(format!("GET {IMDS}{IMDS_DOCUMENT}"), "{}")].into(),
            ..Pretended::default()
        };
        let mut load = Load::find(&host).await.expect("EC2");
        assert_eq!(load.percent(&host, &clock()).await, Some(0.0));
        host.files
            .lock()
            .unwrap()
            .insert("/proc/stat", "cpu  125 0 100 775 100");
        assert_eq!(load.percent(&host, &clock()).await, Some(25.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_is_measured_by_its_control_group() {
        let files = [
            (EKS_TOKEN, "secret"),
            ("/sys/fs/cgroup/cgroup.controllers", "cpu"),
            ("/sys/fs/cgroup/cpu.max", "max 100000"),
            ("/sys/fs/cgroup/cpuset.cpus.effective", "0-1"),
            ("/sys/fs/cgroup/cpu.stat", "usage_usec 1000000"),
        ];
        let host = Pretended {
            files: Mutex::new(files.into()),
            ..Pretended::default()
        };
        let clock = clock();
        let mut load = Load::find(&host).await.expect("EKS");
        assert_eq!(load.percent(&host, &clock).await, Some(0.0));
        tokio::time::sleep(Duration::from_secs(1)).await;
        host.files
            .lock()
            .unwrap()
            .insert("/sys/fs/cgroup/cpu.stat", "usage_usec 2000000");
        assert_eq!(load.percent(&host, &clock).await, Some(50.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_is_measured_by_its_agent() {
        let stats = r#"{"cpu_stats":{"cpu_usage":{"total_usage":300},"system_cpu_usage":2000,"online_cpus":4},
            "precpu_stats":{"cpu_usage":{"total_usage":100},"system_cpu_usage":1000}}"#;
        let task = r#"{"Limits":{"CPU":2},"Containers":[{"DockerId":"a","Limits":{"CPU":10}},{"DockerId":"b","Limits":{"CPU":10}}]}"#;
        let host = Pretended {
            environment: [("ECS_CONTAINER_METADATA_URI_V4", "http://agent")].into(),
            answers: [
                ("GET http://agent/stats".to_owned(), stats),
                ("GET http://agent/task".to_owned(), task),
                ("GET http://agent".to_owned(), r#"{"DockerId":"b"}"#),
            ]
            .into(),
            ..Pretended::default()
        };
        let mut load = Load::find(&host).await.expect("ECS");
        assert_eq!(load.percent(&host, &clock()).await, Some(80.0));
    }
}
