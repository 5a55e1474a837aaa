//! A DynamoDB table, as the engine needs it: whole rows and conditional writes. What is written is decided in
//! `core::leases`; implemented over the AWS SDK by the program, and by a fake in simulations.

use async_trait::async_trait;
use multilangd_core::table::{Item, Transaction, Write};

use crate::retry::Retryable;
use crate::stream::BoxError;

/// What `DescribeTable` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDescription {
    /// The table's ARN.
    pub arn: String,
    /// `ACTIVE` or `UPDATING`: rows can be read and written.
    pub is_usable: bool,
    /// `TableSizeBytes`.
    pub size_bytes: u64,
    /// Whether the billing mode is PAY_PER_REQUEST; else read and write capacity units.
    pub provisioned: Option<(u64, u64)>,
    /// The index `LeaseOwnerToLeaseKeyIndex`: `None` absent, `Some(true)` ACTIVE, `Some(false)` not yet.
    pub owner_index: Option<bool>,
}

/// How a table is created (`leasing.md 1.1`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSettings {
    /// `DeletionProtectionEnabled`.
    pub deletion_protection: bool,
    /// Tags, name and value.
    pub tags: Vec<(String, String)>,
}

/// Which part of a scan is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScanPage {
    /// Segment and number of segments of a parallel scan; `None`: sequential.
    pub segment: Option<(u32, u32)>,
    /// The last page's `LastEvaluatedKey`; `None`: from the beginning.
    pub after: Option<Item>,
    /// Strongly consistent.
    pub consistent: bool,
}

/// A page of rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The rows.
    pub items: Vec<Item>,
    /// `LastEvaluatedKey`; `None` on the last page.
    pub next: Option<Item>,
}

/// One table with a string hash key. Every call is tried once; repeating is the caller's decision.
#[async_trait]
pub trait Table: Send + Sync + 'static {
    /// Its name, for logs.
    fn name(&self) -> &str;
    /// The name of its key attribute: `leaseKey` in the lease table (`leasing.md 5.1`).
    fn key_name(&self) -> &str;
    /// `DescribeTable`; `None`: there is no such table.
    async fn describe(&self) -> Result<Option<TableDescription>, TableError>;
    /// `CreateTable`, PAY_PER_REQUEST. Somebody else having created it is success.
    async fn create(&self, settings: &TableSettings) -> Result<(), TableError>;
    /// `UpdateTable` creating `LeaseOwnerToLeaseKeyIndex` (`leasing.md 1.4`). Being there already is success.
    async fn create_owner_index(&self) -> Result<(), TableError>;
    /// `UpdateContinuousBackups` with point-in-time recovery on.
    async fn enable_point_in_time_recovery(&self) -> Result<(), TableError>;
    /// `GetItem`.
    async fn get(&self, key: &str, consistent: bool) -> Result<Option<Item>, TableError>;
    /// One conditional write. `Ok` holds the new row of an update (`ALL_NEW`), `None` for puts and deletes.
    async fn write(&self, write: &Write) -> Result<Option<Item>, TableError>;
    /// `TransactWriteItems` over this and other tables of the same account and region: all of it, or nothing. A
    /// condition that does not hold is a [`TableError::Conflict`] without a row.
    async fn transact(&self, transaction: &Transaction) -> Result<(), TableError> {
        let why = format!(
            "{} cannot write {} rows in one transaction",
            self.name(),
            transaction.len()
        );
        Err(TableError::Refused(why.into()))
    }
    /// One page of `Scan`.
    async fn scan(&self, page: &ScanPage) -> Result<Rows, TableError>;
    /// One page of `Query` on `LeaseOwnerToLeaseKeyIndex` for an owner: rows with keys only.
    async fn query_owner(&self, owner: &str, after: Option<&Item>) -> Result<Rows, TableError>;
}

/// Why a call to the table failed, by what to do next.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A condition did not hold; the old row where the service returned it (DynamoDB Local does not).
    #[error("the row was changed by another worker")]
    Conflict(Option<Box<Item>>),
    /// Nothing happened (`ProvisionedThroughputExceededException`). Slow down, then repeat.
    #[error("the table is throttling: {0}")]
    Throttled(String),
    /// There is no such table or index (`ResourceNotFoundException`).
    #[error("the table does not exist: {0}")]
    Missing(String),
    /// It may have happened: no answer, a broken answer, a 5xx, on-demand throttling. Read before believing either.
    #[error("no good answer from the table: {0}")]
    Unknown(#[source] BoxError),
    /// Repeating cannot help until somebody changes something (access denied, validation, …).
    #[error("the table refused the request: {0}")]
    Refused(#[source] BoxError),
}

impl Retryable for TableError {
    fn can_be_retried(&self) -> bool {
        match self {
            Self::Throttled(_) | Self::Unknown(_) => true,
            Self::Conflict(_) | Self::Missing(_) | Self::Refused(_) => false,
        }
    }
}
