//! `Stream` over the AWS SDK. Translates, and tries each call once; whether an answer makes sense for a shard (children
//! at its end, and only there) is judged by the engine.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{self, ShardFilterType, ShardIteratorType, StreamStatus};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::DateTime;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::timeout::TimeoutConfig;
use bytes::Bytes;
use multilangd_core::ids::{HashRange, SequenceNumber, ShardId};
use multilangd_core::records::Records;
use multilangd_core::stream::{Batch, ChildShard, Shard, ShardFilter, ShardIterator, StartAt, StreamRecord};
use multilangd_engine::stream::{ShardPage, Shards, Stream, StreamDescription, StreamError};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::aws::failure::{Failure, Reaction, chain, is_throttling};
use crate::aws::unread::Unread;

/// `GetRecords` and `GetShardIterator` are given up after this (`consuming.md 2.1`, `kinesisRequestTimeout`).
pub const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// `ListShards` and `DescribeStreamSummary` are given up after this (`consuming.md 1.1`).
pub const LIST_TIMEOUT: Duration = Duration::from_secs(60);

/// So many calls of GetRecords that are under way have a connection each; further ones go the way of all other calls. Without a
/// bound, a thousand shards that begin at once would open a thousand connections.
const ANSWERS_AT_ONCE: usize = 64;

/// The clients of one stream, all without retries.
#[derive(Clone, Debug)]
pub struct Clients {
    /// For answers of megabytes.
    pub answers: Client,
    /// For the other calls that concern one shard.
    pub read: Client,
    /// With the longer time-out.
    pub list: Client,
}

/// One stream of the real service, or of anything that speaks its protocol.
#[derive(Clone, Debug)]
pub struct KinesisStream {
    clients: Clients,
    /// One permit for each of [`ANSWERS_AT_ONCE`].
    answers: Arc<Semaphore>,
    name: String,
    /// Sent beside the name where it is known.
    // Compat: Java's daemon takes only the name out of `streamArn`; sending the ARN too makes streams of other
    // accounts readable.
    arn: Option<String>,
    place: String,
}

impl KinesisStream {
    /// `place` names the endpoint in errors.
    pub fn new(clients: Clients, name: String, arn: Option<String>, place: String) -> Self {
        Self {
            clients,
            answers: Arc::new(Semaphore::new(ANSWERS_AT_ONCE)),
            name,
            arn,
            place,
        }
    }

    /// The endpoint, for errors.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn error<E>(&self, operation: &'static str, error: &SdkError<E, HttpResponse>) -> StreamError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        translate(Failure::of(error, "kinesis", operation, &self.place))
    }

    pub(super) fn broken(&self, operation: &'static str, message: impl Into<String>) -> StreamError {
        StreamError::Unavailable(Box::new(Failure::broken(operation, &self.place, message)))
    }

    pub(super) fn sequence_number(
        &self,
        operation: &'static str,
        text: &str,
    ) -> Result<SequenceNumber, StreamError> {
        SequenceNumber::parse(text)
            .ok_or_else(|| self.broken(operation, format!("'{text}' is no sequence number")))
    }

    fn hash_range(
        &self,
        operation: &'static str,
        range: Option<&types::HashKeyRange>,
    ) -> Result<HashRange, StreamError> {
        let range = range.ok_or_else(|| self.broken(operation, "a shard without hash key range"))?;
        let key = |text: &str| {
            text.parse::<u128>()
                .map_err(|_| self.broken(operation, format!("'{text}' is no hash key")))
        };
        Ok(HashRange {
            start: key(&range.starting_hash_key)?,
            end: key(&range.ending_hash_key)?,
        })
    }

    fn shard(&self, shard: types::Shard) -> Result<Shard, StreamError> {
        const OPERATION: &str = "ListShards";
        let numbers = shard
            .sequence_number_range
            .as_ref()
            .ok_or_else(|| self.broken(OPERATION, "a shard without sequence number range"))?;
        Ok(Shard {
            hash_range: self.hash_range(OPERATION, shard.hash_key_range.as_ref())?,
            starting_sequence_number: self.sequence_number(OPERATION, &numbers.starting_sequence_number)?,
            ending_sequence_number: match &numbers.ending_sequence_number {
                Some(text) => Some(self.sequence_number(OPERATION, text)?),
                None => None,
            },
            id: shard.shard_id.into(),
            parent: shard.parent_shard_id.map(ShardId::from),
            adjacent_parent: shard.adjacent_parent_shard_id.map(ShardId::from),
        })
    }

    pub(super) fn records(
        &self,
        operation: &'static str,
        records: Vec<types::Record>,
    ) -> Result<Records, StreamError> {
        records
            .into_iter()
            .map(|record| {
                Ok(StreamRecord {
                    sequence_number: self.sequence_number(operation, &record.sequence_number)?,
                    partition_key: record.partition_key.unwrap_or_default(),
                    data: Bytes::from(record.data.into_inner()),
                    approximate_arrival_ms: record.approximate_arrival_timestamp.as_ref().map(nearest_ms),
                })
            })
            .collect()
    }

    pub(super) fn child_shards(
        &self,
        operation: &'static str,
        child_shards: Option<Vec<types::ChildShard>>,
    ) -> Result<Vec<ChildShard>, StreamError> {
        child_shards
            .unwrap_or_default()
            .into_iter()
            .map(|child| {
                Ok(ChildShard {
                    hash_range: self.hash_range(operation, child.hash_key_range.as_ref())?,
                    id: child.shard_id.into(),
                    parents: child.parent_shards.into_iter().map(ShardId::from).collect(),
                })
            })
            .collect()
    }

    /// The records of an answer, within the time that the whole call may take.
    async fn batch(
        &self,
        operation: &'static str,
        unread: &Unread,
        began: Instant,
    ) -> Result<Batch, StreamError> {
        let timeouts = self.clients.read.config().timeout_config();
        let time = timeouts.and_then(TimeoutConfig::operation_attempt_timeout);
        match timeout_at(began + time.unwrap_or(READ_TIMEOUT), unread.receive()).await {
            Ok(Ok(Some(reading))) => reading
                .finish()
                .map_err(|bad| self.broken(operation, bad.to_string())),
            Ok(Ok(None)) => Err(self.broken(operation, "no body")),
            Ok(Err(error)) => {
                let why = chain(Some(error.as_ref()));
                Err(self.broken(operation, format!("the answer broke off: {why}")))
            }
            Err(_) => Err(self.broken(operation, "no whole answer in time")),
        }
    }
}

#[async_trait]
impl Stream for KinesisStream {
    fn name(&self) -> &str {
        &self.name
    }

    async fn describe(&self) -> Result<StreamDescription, StreamError> {
        const OPERATION: &str = "DescribeStreamSummary";
        let request = self
            .clients
            .list
            .describe_stream_summary()
            .stream_name(&self.name)
            .set_stream_arn(self.arn.clone());
        let answer = request
            .send()
            .await
            .map_err(|error| self.error(OPERATION, &error))?;
        let summary = answer
            .stream_description_summary
            .ok_or_else(|| self.broken(OPERATION, "no description"))?;
        Ok(StreamDescription {
            is_readable: matches!(
                summary.stream_status,
                StreamStatus::Active | StreamStatus::Updating
            ),
            status: summary.stream_status.as_str().to_owned(),
            arn: summary.stream_arn,
            open_shards: u32::try_from(summary.open_shard_count).unwrap_or_default(),
        })
    }

    async fn list_shards(&self, page: &ShardPage) -> Result<Shards, StreamError> {
        const OPERATION: &str = "ListShards";
        let request = match page {
            ShardPage::First(filter) => self
                .clients
                .list
                .list_shards()
                .stream_name(&self.name)
                .set_stream_arn(self.arn.clone())
                .set_shard_filter(
                    filter
                        .map(shard_filter)
                        .transpose()
                        .map_err(|error| self.unsendable(OPERATION, &error))?,
                ),
            // The service refuses any other parameter beside a token.
            ShardPage::Next(token) => self.clients.list.list_shards().next_token(token),
        };
        let answer = request
            .send()
            .await
            .map_err(|error| self.error(OPERATION, &error))?;
        let shards = answer.shards.unwrap_or_default();
        Ok(Shards {
            shards: shards
                .into_iter()
                .map(|shard| self.shard(shard))
                .collect::<Result<_, _>>()?,
            next_token: answer.next_token.filter(|token| !token.is_empty()),
        })
    }

    async fn shard_iterator(
        &self,
        shard: &ShardId,
        start: &StartAt,
    ) -> Result<Option<ShardIterator>, StreamError> {
        const OPERATION: &str = "GetShardIterator";
        let request = self
            .clients
            .read
            .get_shard_iterator()
            .stream_name(&self.name)
            .set_stream_arn(self.arn.clone())
            .shard_id(shard.as_str());
        let request = match start {
            StartAt::TrimHorizon => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
            StartAt::Latest => request.shard_iterator_type(ShardIteratorType::Latest),
            StartAt::Timestamp(ms) => request
                .shard_iterator_type(ShardIteratorType::AtTimestamp)
                .timestamp(DateTime::from_millis(*ms)),
            StartAt::At(number) => request
                .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
                .starting_sequence_number(number.as_str()),
            StartAt::After(number) => request
                .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .starting_sequence_number(number.as_str()),
        };
        let answer = request
            .send()
            .await
            .map_err(|error| self.error(OPERATION, &error))?;
        Ok(answer.shard_iterator.map(ShardIterator))
    }

    async fn get_records(&self, iterator: &ShardIterator, records_max: u32) -> Result<Batch, StreamError> {
        const OPERATION: &str = "GetRecords";
        let (unread, began) = (Unread::default(), Instant::now());
        let permit = self.answers.try_acquire(); // until the answer has been read
        let client = match &permit {
            Ok(_) => &self.clients.answers,
            Err(_) => &self.clients.read,
        };
        let request = client
            .get_records()
            .shard_iterator(&iterator.0)
            .limit(i32::try_from(records_max).unwrap_or(i32::MAX))
            .set_stream_arn(self.arn.clone())
            .customize()
            .interceptor(unread.clone());
        request
            .send()
            .await
            .map_err(|error| self.error(OPERATION, &error))?;
        self.batch(OPERATION, &unread, began).await
    }
}

impl KinesisStream {
    pub(super) fn unsendable(
        &self,
        operation: &'static str,
        error: &aws_smithy_types::error::operation::BuildError,
    ) -> StreamError {
        StreamError::Refused(Box::new(Failure::unsendable(
            operation,
            &self.place,
            error.to_string(),
        )))
    }
}

/// To the nearest millisecond. The service sends seconds as a decimal fraction, the SDK reads them as a binary one and
/// cuts off: half of all times would be a millisecond early.
fn nearest_ms(time: &DateTime) -> i64 {
    time.secs() * 1000 + i64::from((time.subsec_nanos() + 500_000) / 1_000_000)
}

fn shard_filter(
    filter: ShardFilter,
) -> Result<types::ShardFilter, aws_smithy_types::error::operation::BuildError> {
    let builder = types::ShardFilter::builder();
    match filter {
        ShardFilter::AtLatest => builder.r#type(ShardFilterType::AtLatest),
        ShardFilter::AtTrimHorizon => builder.r#type(ShardFilterType::AtTrimHorizon),
        ShardFilter::AtTimestamp(ms) => builder
            .r#type(ShardFilterType::AtTimestamp)
            .timestamp(DateTime::from_millis(ms)),
    }
    .build()
}

pub(super) fn translate(failure: Failure) -> StreamError {
    match failure.code.as_deref().unwrap_or_default() {
        "ExpiredIteratorException" => StreamError::ExpiredIterator,
        "InvalidArgumentException" | "ExpiredNextTokenException" => {
            StreamError::InvalidArgument(failure.to_string())
        }
        "ResourceNotFoundException" => StreamError::NotFound(failure.to_string()),
        "ResourceInUseException" => StreamError::NotActive(failure.to_string()),
        code if is_throttling(code) => StreamError::Throttled(failure.to_string()),
        _ => match failure.reaction {
            Reaction::SlowDown => StreamError::Throttled(failure.to_string()),
            Reaction::Repeat => StreamError::Unavailable(Box::new(failure)),
            Reaction::GiveUp => StreamError::Refused(Box::new(failure)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_in_seconds_keeps_its_milliseconds() {
        for ms in [
            1_795_529_441_800,
            1_795_529_441_001,
            1_795_529_441_999,
            1_795_529_442_000,
            0,
        ] {
            let read = DateTime::from_secs_f64(ms as f64 / 1000.0);
            assert_eq!(nearest_ms(&read), ms);
        }
    }
}
