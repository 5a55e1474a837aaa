//! The stream, as the engine needs it. Implemented over the AWS SDK by the program, and by a fake in simulations.

use async_trait::async_trait;
use multilangd_core::ids::ShardId;
use multilangd_core::stream::{Batch, Event, Shard, ShardFilter, ShardIterator, StartAt, StreamConsumer};

use crate::retry::Retryable;

/// A cause that an error keeps.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Which page of the shard list is wanted. Following pages are asked for by token alone (`consuming.md 1.1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardPage {
    /// The first page.
    First(Option<ShardFilter>),
    /// The page behind this token.
    Next(String),
}

/// A page of the shard list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shards {
    /// The shards on this page.
    pub shards: Vec<Shard>,
    /// Where the next page begins; `None` on the last.
    pub next_token: Option<String>,
}

/// What `DescribeStreamSummary` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamDescription {
    /// The stream's ARN.
    pub arn: String,
    /// `ACTIVE` or `UPDATING`: it can be read.
    pub is_readable: bool,
    /// `StreamStatus` as the service says it.
    pub status: String,
    /// Open shards.
    pub open_shards: u32,
}

/// One Kinesis data stream. Every call is tried once; repeating is the caller's decision.
#[async_trait]
pub trait Stream: Send + Sync + 'static {
    /// Its name, for logs.
    fn name(&self) -> &str;
    /// `DescribeStreamSummary`.
    async fn describe(&self) -> Result<StreamDescription, StreamError>;
    /// One page of `ListShards`.
    async fn list_shards(&self, page: &ShardPage) -> Result<Shards, StreamError>;
    /// `GetShardIterator`. `None`: the service gave none, which means the end of the shard.
    async fn shard_iterator(
        &self,
        shard: &ShardId,
        start: &StartAt,
    ) -> Result<Option<ShardIterator>, StreamError>;
    /// `GetRecords` with at most `records_max` records.
    async fn get_records(&self, iterator: &ShardIterator, records_max: u32) -> Result<Batch, StreamError>;
}

/// How a stream consumer is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerName<'a> {
    /// By its own ARN.
    Arn(&'a str),
    /// By the stream's ARN and its name.
    Of {
        /// The stream's ARN.
        stream_arn: &'a str,
        /// Its name.
        name: &'a str,
    },
}

/// Enhanced fan-out of a stream. Every call is tried once, as with [`Stream`].
#[async_trait]
pub trait FanOut: Send + Sync + 'static {
    /// `DescribeStreamConsumer`. `None`: there is none.
    async fn find_consumer(&self, name: ConsumerName<'_>) -> Result<Option<StreamConsumer>, StreamError>;
    /// `RegisterStreamConsumer`. [`StreamError::NotActive`]: there is one of this name by now.
    async fn register_consumer(&self, stream_arn: &str, name: &str) -> Result<StreamConsumer, StreamError>;
    /// `SubscribeToShard`. [`StreamError::NotActive`]: the last subscription is less than five seconds old.
    async fn subscribe(
        &self,
        consumer_arn: &str,
        shard: &ShardId,
        start: &StartAt,
    ) -> Result<Box<dyn Subscription>, StreamError>;
}

/// A subscription to a shard. Dropping it ends it.
#[async_trait]
pub trait Subscription: Send {
    /// The next event; waits for it. `None`: the service ended the subscription in order.
    /// [`StreamError::NotActive`]: another subscription took over. Nothing is read from the network while nobody waits
    /// here. Cancel-safe: what has come of an event is kept for the next wait.
    async fn next(&mut self) -> Result<Option<Event>, StreamError>;
}

/// Why a call to the stream failed, by what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// Slow down, then repeat (`ProvisionedThroughputExceededException`, `LimitExceededException`, throttling).
    #[error("the stream is throttling: {0}")]
    Throttled(String),
    /// Get a new iterator (`ExpiredIteratorException`).
    #[error("the shard iterator has expired")]
    ExpiredIterator,
    /// The service does not accept the position or iterator (`InvalidArgumentException`).
    #[error("the stream refused an argument: {0}")]
    InvalidArgument(String),
    /// No such stream, shard or consumer (`ResourceNotFoundException`).
    #[error("not found: {0}")]
    NotFound(String),
    /// The stream is being created or deleted, or the consumer is subscribed already (`ResourceInUseException`).
    #[error("in use or not active: {0}")]
    NotActive(String),
    /// Repeat: no answer, a broken answer, or a 5xx.
    #[error("no good answer from the stream: {0}")]
    Unavailable(#[source] BoxError),
    /// Repeating cannot help until somebody changes something (access denied, bad credentials, …).
    #[error("the stream refused the request: {0}")]
    Refused(#[source] BoxError),
}

impl Retryable for StreamError {
    fn can_be_retried(&self) -> bool {
        match self {
            Self::Throttled(_) | Self::NotActive(_) | Self::Unavailable(_) => true,
            Self::ExpiredIterator | Self::InvalidArgument(_) | Self::NotFound(_) | Self::Refused(_) => false,
        }
    }
}
