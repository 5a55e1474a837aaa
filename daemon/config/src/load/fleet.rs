//! Leases, balancing, coordination and metrics: what workers of an application share.
//!
//! Owns the limits and derived defaults of these keys.

use std::time::Duration;

use super::{origin, text_or};
use crate::config::{Balancing, ClientVersion, Coordination, Leases, Metrics, MetricsLevel};
use crate::loaded::Origin;
use crate::settings::{Settings, default_number};
use crate::values;

/// Bounds of `tableMigrationCompleteBakeTimeSeconds`.
const BAKE_SECONDS: std::ops::RangeInclusive<u64> = 3600..=604_800;

pub(super) fn leases(s: &mut Settings) -> Leases {
    let failover_time = s.millis("failoverTimeMillis");
    let interval = s.positive("leaseAssignmentIntervalMillis");
    let assignment_interval = interval.as_ref().map_or_else(
        || failover_time.saturating_mul(2),
        |(millis, _)| Duration::from_millis(*millis),
    );
    s.record(
        "leaseAssignmentIntervalMillis",
        assignment_interval.as_millis(),
        origin(interval.as_ref()),
    );

    let segments = s
        .number("leaseTableScanTotalSegments")
        .filter(|(number, setting)| {
            let good = *number > 0;
            if !good {
                s.error(
                    setting,
                    format!(
                        "{} = {number} must be a positive number; leave unset for automatic sizing",
                        setting.written
                    ),
                );
            }
            good
        });
    s.record_optional(
        "leaseTableScanTotalSegments",
        segments
            .as_ref()
            .map(|(number, setting)| (number.to_string(), setting)),
    );

    if let Some(setting) = s.setting("cleanupLeasesUponShardCompletion")
        && values::boolean(&setting.value) != values::Reading::Good(true)
    {
        let text = format!(
            "{}={} has no effect in the Java daemon (2.x/3.x); finished leases are still removed",
            setting.written, setting.value
        );
        s.warn(&setting, text);
    }
    s.record("cleanupLeasesUponShardCompletion", true, Origin::Default);
    Leases {
        failover_time,
        assignment_interval,
        leases_per_worker_max: s.count32("maxLeasesForWorker"),
        steal_at_once_max: s.count32("maxLeasesToStealAtOneTime"),
        priority_assignment: s.flag("enablePriorityLeaseAssignment"),
        deletion_protection: s.flag("leaseTableDeletionProtectionEnabled"),
        point_in_time_recovery: s.flag("leaseTablePitrEnabled"),
        scan_segments: segments.and_then(|(number, _)| u32::try_from(number).ok()),
    }
}

pub(super) fn balancing(s: &mut Settings) -> Balancing {
    let throughput = s
        .fraction("maxThroughputPerHostKBps")
        .filter(|(number, setting)| {
            let good = *number > 0.0;
            if !good {
                s.warn(
                    setting,
                    format!("{} = {number} is not above 0; using unlimited", setting.written),
                );
            }
            good && number.is_finite()
        });
    s.record_optional(
        "maxThroughputPerHostKBps",
        throughput
            .as_ref()
            .map(|(number, setting)| (number.to_string(), setting)),
    );
    let alpha = s.fraction("workerMetricsEMAAlpha").filter(|(number, setting)| {
        let good = (0.0..=1.0).contains(number);
        if !good {
            s.warn(
                setting,
                format!("{} = {number} is not between 0 and 1; using 0.5", setting.written),
            );
        }
        good
    });
    let ema_alpha = alpha.as_ref().map_or(0.5, |(number, _)| *number);
    s.record("workerMetricsEMAAlpha", ema_alpha, origin(alpha.as_ref()));
    let stale = s.duration("staleWorkerMetricsEntryCleanupDuration");
    let stale_entry_age = stale
        .as_ref()
        .map_or(Duration::from_secs(86_400), |(age, _)| *age);
    let shown = stale
        .as_ref()
        .map_or("P1D", |(_, setting)| setting.value.as_str())
        .to_owned();
    s.record(
        "staleWorkerMetricsEntryCleanupDuration",
        shown,
        origin(stale.as_ref()),
    );
    Balancing {
        metrics_disabled: s.flag("disableWorkerMetrics"),
        capture_interval: s.millis("inMemoryWorkerMetricsCaptureFrequencyMillis"),
        report_interval: s.millis("workerMetricsReporterFreqInMillis"),
        persisted_reports_max: s.count32("noOfPersistedMetricsPerWorkerMetrics"),
        throughput_per_host_kbps_max: throughput.map(|(number, _)| number),
        dampening_percentage: s.count32("dampeningPercentage"),
        rebalance_threshold_percentage: s.count32("reBalanceThresholdPercentage"),
        allow_throughput_overshoot: s.flag("allowThroughputOvershoot"),
        variance_balancing_frequency: s.count32("varianceBalancingFrequency"),
        ema_alpha,
        stale_entry_age,
    }
}

pub(super) fn coordination(s: &mut Settings, application_name: &str) -> Coordination {
    let client_version = match s.constant("clientVersionConfig") {
        "CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X" => ClientVersion::CompatibleWith2x,
        "CLIENT_VERSION_CONFIG_COMPATIBLE_WITH_2X_PHASE1" => ClientVersion::CompatibleWith2xPhase1,
        _ => ClientVersion::V3x,
    };
    let bake = s.positive("tableMigrationCompleteBakeTimeSeconds");
    let mut bake_seconds = default_number("tableMigrationCompleteBakeTimeSeconds");
    if let Some((seconds, setting)) = &bake {
        bake_seconds = (*seconds).clamp(*BAKE_SECONDS.start(), *BAKE_SECONDS.end());
        if bake_seconds != *seconds {
            s.warn(
                setting,
                format!("{} = {seconds} is moved to {bake_seconds}", setting.written),
            );
        }
    }
    s.record(
        "tableMigrationCompleteBakeTimeSeconds",
        bake_seconds,
        origin(bake.as_ref()),
    );
    Coordination {
        client_version,
        migrate_to_lease_table: s.flag("migrateAllEntitiesToLeaseTable"),
        migration_bake_time: Duration::from_secs(bake_seconds),
        coordinator_state_table_name: text_or(
            s,
            "coordinatorStateTableName",
            &format!("{application_name}-CoordinatorState"),
        ),
        worker_metrics_table_name: text_or(
            s,
            "workerMetricsTableName",
            &format!("{application_name}-WorkerMetricStats"),
        ),
        initialization_backoff: s.millis("schedulerInitializationBackoffTimeMillis"),
    }
}

pub(super) fn metrics(s: &mut Settings) -> Metrics {
    let level = match s.constant("metricsLevel") {
        "NONE" => MetricsLevel::None,
        "SUMMARY" => MetricsLevel::Summary,
        _ => MetricsLevel::Detailed,
    };
    let setting = s.setting("metricsEnabledDimensions");
    let dimensions = setting
        .as_ref()
        .map_or_else(|| vec!["ALL".to_owned()], |setting| values::list(&setting.value));
    if let Some(setting) = &setting {
        const KNOWN: [&str; 4] = ["Operation", "ShardId", "WorkerIdentifier", "ALL"];
        for unknown in dimensions
            .iter()
            .filter(|dimension| !KNOWN.contains(&dimension.as_str()))
        {
            s.warn(
                setting,
                format!(
                    "{}: '{unknown}' is no dimension; there are {}",
                    setting.written,
                    KNOWN.join(", ")
                ),
            );
        }
    }
    let shown = if dimensions.is_empty() {
        "(none)".to_owned()
    } else {
        dimensions.join(",")
    };
    let from = setting.map_or(Origin::Default, |setting| Origin::File { line: setting.line });
    s.record("metricsEnabledDimensions", shown, from);
    Metrics {
        level,
        dimensions,
        buffer_time: s.millis("metricsBufferTimeMillis"),
        queue_max: s.count32("metricsMaxQueueSize"),
    }
}
