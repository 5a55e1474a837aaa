//! Every metric by its Java name, with unit and level; every operation; the pairs `X.Success` and `X.Time`.

use super::{Level, Unit};
use crate::ids::Position;

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// `MetricName`.
    pub name: &'static str,
    /// `Unit`.
    pub unit: Unit,
    /// Sent at this `metricsLevel`, and at a more detailed one.
    pub level: Level,
}

macro_rules! metrics {
    ($($name:ident = $text:literal $unit:ident $level:ident;)*) => {
        impl Metric {
            $(
                #[doc = concat!("`", $text, "`.")]
                pub const $name: Self = Self {
                    name: $text,
                    unit: Unit::$unit,
                    level: Level::$level,
                };
            )*

            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

metrics! {
    // Any task.
    SUCCESS = "Success" Count Summary;
    TIME = "Time" Milliseconds Summary;
    // ProcessTask and ApplicationTracker: one batch of a shard.
    RECORDS_PROCESSED = "RecordsProcessed" Count Summary;
    DATA_BYTES_PROCESSED = "DataBytesProcessed" Bytes Summary;
    MILLIS_BEHIND_LATEST = "MillisBehindLatest" Milliseconds Summary;
    PROCESS_RECORDS_TIME = "RecordProcessor.processRecords.Time" Milliseconds Summary;
    EXPIRED_ITERATOR = "ExpiredIterator" Count Summary;
    GET_RECORDS_SUCCESS = "KinesisDataFetcher.getRecords.Success" Count Detailed;
    GET_RECORDS_TIME = "KinesisDataFetcher.getRecords.Time" Milliseconds Detailed;
    GET_SHARD_ITERATOR_SUCCESS = "KinesisDataFetcher.getShardIterator.Success" Count Detailed;
    GET_SHARD_ITERATOR_TIME = "KinesisDataFetcher.getShardIterator.Time" Milliseconds Detailed;
    UPDATE_LEASE_SUCCESS = "UpdateLease.Success" Count Detailed;
    UPDATE_LEASE_TIME = "UpdateLease.Time" Milliseconds Detailed;
    // InitializeTask and ShutdownTask: both ends of a child's life.
    INITIALIZE_TIME = "RecordProcessor.initialize.Time" Milliseconds Summary;
    SHUTDOWN_TIME = "RecordProcessor.shutdown.Time" Milliseconds Summary;
    MISSING_MERGE_PARENT = "MissingMergeParent" Count Summary;
    MISSING_MERGE_PARENT_LEASE = "MissingMergeParentLease" Count Summary;
    // ShardSyncTask, PeriodicShardSyncManager: the leases that must exist.
    SYNC_SHARDS_SUCCESS = "SyncShards.Success" Count Detailed;
    CREATE_LEASE_SUCCESS = "CreateLease.Success" Count Detailed;
    CREATE_LEASE_TIME = "CreateLease.Time" Milliseconds Detailed;
    CREATE_LEASE_LATEST = "CreateLease_LATEST.Success" Count Detailed;
    CREATE_LEASE_TRIM_HORIZON = "CreateLease_TRIM_HORIZON.Success" Count Detailed;
    CREATE_LEASE_AT_TIMESTAMP = "CreateLease_AT_TIMESTAMP.Success" Count Detailed;
    CREATE_LEASE_SHARD_END = "CreateLease_SHARD_END.Success" Count Detailed;
    CREATE_LEASE_SEQUENCE_NUMBER = "CreateLease_SEQUENCE_NUMBER.Success" Count Detailed;
    PARTIAL_LEASES = "NumStreamsWithPartialLeases" Count Summary;
    STREAMS_TO_SYNC = "NumStreamsToSync" Count Summary;
    SKIPPED_SHARD_SYNCS = "NumSkippedShardSyncTask" Count Summary;
    // Scheduler:Initialize: the start.
    INITIALIZE_SUCCESS = "Initialize.Success" Count Summary;
    // LeaseAssignmentManager: the leader's rounds.
    TOTAL_LEASES = "TotalLeases" Count Summary;
    WORKERS = "NumWorkers" Count Summary;
    EXPIRED_LEASES = "ExpiredLeases" Count Summary;
    LEASE_SPILLOVER = "LeaseSpillover" Count Summary;
    REASSIGNED_LEASES = "NumOfLeasesReassignment" Count Summary;
    INVALID_WORKERS = "NumWorkersWithInvalidEntry" Count Summary;
    FAILING_WORKERS = "NumWorkersWithFailingWorkerMetric" Count Summary;
    UNREADABLE_LEASES = "LeaseDeserializationFailureCount" Count Summary;
    FAILED_ASSIGNMENTS = "FailedAssignmentCount" Count Detailed;
    ASSIGN_LEASES_SUCCESS = "ParallelyAssignLeases.Success" Count Detailed;
    ASSIGN_LEASES_TIME = "ParallelyAssignLeases.Time" Milliseconds Detailed;
    LOAD_TIME = "LeaseAndWorkerMetricsLoad.Time" Milliseconds Detailed;
    ASSIGN_FREE_TIME = "AssignExpiredOrUnassignedLeases.Time" Milliseconds Detailed;
    BALANCE_TIME = "BalanceWorkerVariance.Time" Milliseconds Detailed;
    // TakeLeases: a worker's rounds by the rules of 2.x. Some names are the leader's, at another level.
    LIST_LEASES_SUCCESS = "ListLeases.Success" Count Detailed;
    LIST_LEASES_TIME = "ListLeases.Time" Milliseconds Detailed;
    TAKE_LEASE_SUCCESS = "TakeLease.Success" Count Detailed;
    TAKE_LEASE_TIME = "TakeLease.Time" Milliseconds Detailed;
    TAKEN_LEASES = "TakenLeases" Count Summary;
    UNTAKEN_LEASES = "UntakenLeases" Count Summary;
    VERY_OLD_LEASES = "VeryOldLeases" Count Summary;
    LEASES_TO_TAKE = "LeasesToTake" Count Detailed;
    NEEDED_LEASES = "NeededLeases" Count Detailed;
    TAKER_TOTAL_LEASES = "TotalLeases" Count Detailed;
    // Migration: the way from 2.x to 3.x.
    IS_3X = "CurrentState:3xWorker" Count Summary;
    IS_2X = "CurrentState:2xCompatibleWorker" Count Summary;
    INDEX_READY = "GsiReadyStatus" Count Summary;
    REPORTS_READY = "WorkerMetricsReadyStatus" Count Summary;
    MIGRATION_FAULT = "Fault" Count Summary;
    // LeaderDecider.
    IS_LEADER = "LeaderDecider:IsLeader" Count Detailed;
    // RenewAllLeases, LeaseDiscovery, LeaseRenewerInitialize: the leases that are held.
    CURRENT_LEASES = "CurrentLeases" Count Summary;
    LOST_LEASES = "LostLeases" Count Summary;
    RENEW_LEASE_SUCCESS = "RenewLease.Success" Count Detailed;
    RENEW_LEASE_TIME = "RenewLease.Time" Milliseconds Detailed;
    NEW_LEASES_DISCOVERED = "NewLeasesDiscovered" Count Detailed;
    OWNER_MISMATCH = "OwnerMismatch" Count Detailed;
    GET_LEASE_ERROR = "GetLease:Error" Count Summary;
    LIST_LEASE_KEYS_TIME = "ListLeaseKeysForWorker.Time" Milliseconds Detailed;
    FETCH_NEW_LEASES_TIME = "FetchNewLeases.Time" Milliseconds Detailed;
    FAULT = "Fault" Count Detailed;
    // WorkerMetrics, TableMigration…: the fleet's state.
    FLEET_MIN_SUPPORT_CODE = "FleetMinSupportCode" None Summary;
    STATUS_ORDINAL = "StatusOrdinal" None Summary;
    READ_FAULT = "ReadFault" Count Summary;
    WRITE_FAULT = "WriteFault" Count Summary;
    DELETE_FAULT = "DeleteFault" Count Summary;
    COMPLETION_FAULT = "CompletionFault" Count Summary;
    MOVED_BATCHES = "BatchCount" Count Summary;
    BEFORE_PHASE_1 = "PrePhase1Worker" Count Summary;
    PHASE_1 = "Phase1Worker" Count Summary;
    PHASE_2 = "Phase2Worker" Count Summary;
}

impl Metric {
    /// A lease was created with this checkpoint.
    pub fn lease_created_at(checkpoint: &Position) -> Self {
        match checkpoint {
            Position::Latest => Self::CREATE_LEASE_LATEST,
            Position::TrimHorizon => Self::CREATE_LEASE_TRIM_HORIZON,
            Position::AtTimestamp => Self::CREATE_LEASE_AT_TIMESTAMP,
            Position::ShardEnd => Self::CREATE_LEASE_SHARD_END,
            Position::At(..) => Self::CREATE_LEASE_SEQUENCE_NUMBER,
        }
    }
}

/// A pair of metrics, `X.Success` and `X.Time`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// 1 or 0.
    pub success: Metric,
    /// From the beginning to the end.
    pub time: Metric,
}

macro_rules! calls {
    ($($name:ident = $success:ident $time:ident;)*) => {
        impl Call {
            $(
                #[doc = concat!("[`Metric::", stringify!($success), "`] and [`Metric::", stringify!($time), "`].")]
                pub const $name: Self = Self {
                    success: Metric::$success,
                    time: Metric::$time,
                };
            )*
        }
    };
}

calls! {
    TASK = SUCCESS TIME;
    GET_RECORDS = GET_RECORDS_SUCCESS GET_RECORDS_TIME;
    GET_SHARD_ITERATOR = GET_SHARD_ITERATOR_SUCCESS GET_SHARD_ITERATOR_TIME;
    UPDATE_LEASE = UPDATE_LEASE_SUCCESS UPDATE_LEASE_TIME;
    CREATE_LEASE = CREATE_LEASE_SUCCESS CREATE_LEASE_TIME;
    RENEW_LEASE = RENEW_LEASE_SUCCESS RENEW_LEASE_TIME;
    LIST_LEASES = LIST_LEASES_SUCCESS LIST_LEASES_TIME;
    TAKE_LEASE = TAKE_LEASE_SUCCESS TAKE_LEASE_TIME;
    ASSIGN_LEASES = ASSIGN_LEASES_SUCCESS ASSIGN_LEASES_TIME;
}

macro_rules! operations {
    ($($name:ident = $text:literal;)*) => {
        /// The dimension `Operation`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Operation {
            $(
                #[doc = concat!("`", $text, "`.")]
                $name,
            )*
        }

        impl Operation {
            /// The value of the dimension.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

operations! {
    ProcessTask = "ProcessTask";
    ApplicationTracker = "ApplicationTracker";
    InitializeTask = "InitializeTask";
    ShutdownTask = "ShutdownTask";
    ShardSyncTask = "ShardSyncTask";
    PeriodicShardSync = "PeriodicShardSyncManager";
    Start = "Scheduler:Initialize";
    LeaseAssignment = "LeaseAssignmentManager";
    TakeLeases = "TakeLeases";
    Migration = "Migration";
    LeaderDecider = "LeaderDecider";
    LeaseRenewerStart = "LeaseRenewerInitialize";
    RenewAllLeases = "RenewAllLeases";
    LeaseDiscovery = "LeaseDiscovery";
    WorkerMetricsReport = "WorkerMetricStatsReporter";
    WorkerMetrics = "WorkerMetrics";
    TableMigration = "TableMigration";
    TableMigrationStart = "TableMigrationInitialize";
    TableMigrationMove = "TableMigrationAsyncMove";
}
