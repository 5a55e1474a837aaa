//! `FanOut` over the AWS SDK: registration, and subscriptions as event streams.
//!
//! Translates, and tries each call once; `lanes.rs` says which connection carries a subscription.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::event_stream::EventReceiver;
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError as EventError;
use aws_sdk_kinesis::types::{
    ConsumerStatus, ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::DateTime;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::event_stream::RawMessage;
use multilangd_core::ids::ShardId;
use multilangd_core::stream::{Event, StartAt, StreamConsumer};
use multilangd_engine::stream::{ConsumerName, FanOut, StreamError, Subscription};

use crate::aws::failure::{Failure, chain};
use crate::aws::kinesis::{KinesisStream, translate};
use crate::aws::lanes::{Lanes, Seat};

/// A subscription that has not begun after this is given up.
pub const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(15);

const SUBSCRIBE: &str = "SubscribeToShard";

/// Enhanced fan-out of one stream of the real service, or of anything that speaks its protocol.
pub struct KinesisFanOut {
    stream: KinesisStream,
    calls: Client,
    lanes: Lanes,
}

impl KinesisFanOut {
    /// `calls` describes and registers; `connect` makes a client with connections of its own, without retries.
    pub fn new(
        stream: KinesisStream,
        calls: Client,
        connect: impl Fn() -> Client + Send + Sync + 'static,
    ) -> Self {
        Self {
            stream,
            calls,
            lanes: Lanes::new(connect),
        }
    }
}

#[async_trait]
impl FanOut for KinesisFanOut {
    async fn find_consumer(&self, name: ConsumerName<'_>) -> Result<Option<StreamConsumer>, StreamError> {
        const OPERATION: &str = "DescribeStreamConsumer";
        let request = self.calls.describe_stream_consumer();
        let request = match name {
            ConsumerName::Arn(arn) => request.consumer_arn(arn),
            ConsumerName::Of { stream_arn, name } => request.stream_arn(stream_arn).consumer_name(name),
        };
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                return match self.stream.error(OPERATION, &error) {
                    StreamError::NotFound(_) => Ok(None),
                    error => Err(error),
                };
            }
        };
        let found = answer
            .consumer_description
            .ok_or_else(|| self.stream.broken(OPERATION, "no description"))?;
        Ok(Some(consumer(found.consumer_arn, &found.consumer_status)))
    }

    async fn register_consumer(&self, stream_arn: &str, name: &str) -> Result<StreamConsumer, StreamError> {
        const OPERATION: &str = "RegisterStreamConsumer";
        let request = self
            .calls
            .register_stream_consumer()
            .stream_arn(stream_arn)
            .consumer_name(name);
        let answer = request
            .send()
            .await
            .map_err(|error| self.stream.error(OPERATION, &error))?;
        let made = answer
            .consumer
            .ok_or_else(|| self.stream.broken(OPERATION, "no consumer"))?;
        Ok(consumer(made.consumer_arn, &made.consumer_status))
    }

    async fn subscribe(
        &self,
        consumer_arn: &str,
        shard: &ShardId,
        start: &StartAt,
    ) -> Result<Box<dyn Subscription>, StreamError> {
        let position = StartingPosition::builder();
        let position = match start {
            StartAt::TrimHorizon => position.r#type(ShardIteratorType::TrimHorizon),
            StartAt::Latest => position.r#type(ShardIteratorType::Latest),
            StartAt::Timestamp(ms) => position
                .r#type(ShardIteratorType::AtTimestamp)
                .timestamp(DateTime::from_millis(*ms)),
            StartAt::At(number) => position
                .r#type(ShardIteratorType::AtSequenceNumber)
                .sequence_number(number.as_str()),
            StartAt::After(number) => position
                .r#type(ShardIteratorType::AfterSequenceNumber)
                .sequence_number(number.as_str()),
        };
        let position = position
            .build()
            .map_err(|error| self.stream.unsendable(SUBSCRIBE, &error))?;
        let (client, seat) = self.lanes.take();
        let request = client
            .subscribe_to_shard()
            .consumer_arn(consumer_arn)
            .shard_id(shard.as_str())
            .starting_position(position);
        let answer = request
            .send()
            .await
            .map_err(|error| self.stream.error(SUBSCRIBE, &error))?;
        Ok(Box::new(KinesisSubscription {
            stream: self.stream.clone(),
            events: answer.event_stream,
            _seat: seat,
        }))
    }
}

fn consumer(arn: String, status: &ConsumerStatus) -> StreamConsumer {
    StreamConsumer {
        arn,
        is_active: *status == ConsumerStatus::Active,
        status: status.as_str().to_owned(),
    }
}

struct KinesisSubscription {
    stream: KinesisStream,
    events: EventReceiver<SubscribeToShardEventStream, EventError>,
    _seat: Seat,
}

#[async_trait]
impl Subscription for KinesisSubscription {
    async fn next(&mut self) -> Result<Option<Event>, StreamError> {
        loop {
            return match self.events.recv().await {
                Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => {
                    self.event(event).map(Some)
                }
                // An event of a kind that only a newer program knows.
                Ok(Some(_)) => continue,
                Ok(None) => Ok(None),
                Err(error) => Err(self.error(&error)),
            };
        }
    }
}

impl KinesisSubscription {
    fn event(&self, event: SubscribeToShardEvent) -> Result<Event, StreamError> {
        let continuation = match event.continuation_sequence_number.as_str() {
            // The SDK's way to say that there is none.
            "" => None,
            text => Some(self.stream.sequence_number(SUBSCRIBE, text)?),
        };
        Ok(Event {
            records: self.stream.records(SUBSCRIBE, event.records)?,
            continuation,
            millis_behind_latest: Some(event.millis_behind_latest),
            child_shards: self.stream.child_shards(SUBSCRIBE, event.child_shards)?,
        })
    }

    fn error(&self, error: &SdkError<EventError, RawMessage>) -> StreamError {
        let SdkError::ServiceError(answer) = error else {
            let why = chain(std::error::Error::source(error));
            return self
                .stream
                .broken(SUBSCRIBE, format!("the event stream broke off: {why}"));
        };
        let exception = answer.err();
        translate(Failure::of_event(
            SUBSCRIBE,
            self.stream.place(),
            code(exception),
            exception.message(),
        ))
    }
}

/// The name of an exception; its payload does not repeat it.
fn code(exception: &EventError) -> Option<&str> {
    Some(match exception {
        EventError::ResourceNotFoundException(_) => "ResourceNotFoundException",
        EventError::ResourceInUseException(_) => "ResourceInUseException",
        EventError::KmsDisabledException(_) => "KMSDisabledException",
        EventError::KmsInvalidStateException(_) => "KMSInvalidStateException",
        EventError::KmsAccessDeniedException(_) => "KMSAccessDeniedException",
        EventError::KmsNotFoundException(_) => "KMSNotFoundException",
        EventError::KmsOptInRequired(_) => "KMSOptInRequired",
        EventError::KmsThrottlingException(_) => "KMSThrottlingException",
        EventError::InternalFailureException(_) => "InternalFailureException",
        _ => return exception.code(),
    })
}
