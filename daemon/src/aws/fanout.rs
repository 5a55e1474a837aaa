//! `FanOut` over the AWS SDK: registration, and subscriptions as event streams.
//!
//! Owns which connection carries which subscription. Translates, and tries each call once.

use std::sync::{Arc, Mutex, PoisonError};
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

/// A subscription that has not begun after this is given up.
pub const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(15);

/// Subscriptions that share a connection where it is HTTP/2 (over TLS; plain HTTP/1.1 opens one for each). Far below what
/// any server allows, as the next one would wait for a place without a word; few enough that a shard whose child does
/// not read cannot use up the flow-control window of many others.
const SUBSCRIPTIONS_PER_CONNECTION: usize = 16;

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
            lanes: Lanes {
                connect: Box::new(connect),
                lanes: Mutex::default(),
            },
        }
    }
}

/// Clients with connections of their own, and how many subscriptions each carries.
struct Lanes {
    connect: Box<dyn Fn() -> Client + Send + Sync>,
    lanes: Mutex<Vec<(Client, Arc<()>)>>,
}

/// A place on a connection, held for as long as the subscription lives.
type Seat = Arc<()>;

impl Lanes {
    fn take(&self) -> (Client, Seat) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // The lane itself holds its seats once.
        let free = |(_, seats): &&(Client, Seat)| Arc::strong_count(seats) <= SUBSCRIPTIONS_PER_CONNECTION;
        if let Some(lane) = lanes.iter().find(free) {
            return lane.clone();
        }
        let lane = ((self.connect)(), Seat::default());
        lanes.push(lane.clone());
        lane
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> Lanes {
        let connect = || {
            Client::from_conf(
                aws_sdk_kinesis::Config::builder()
                    .behavior_version(aws_sdk_kinesis::config::BehaviorVersion::latest())
                    .build(),
            )
        };
        Lanes {
            connect: Box::new(connect),
            lanes: Mutex::default(),
        }
    }

    fn count(lanes: &Lanes) -> usize {
        lanes.lanes.lock().unwrap().len()
    }

    #[test]
    fn subscriptions_share_a_connection_up_to_a_bound() {
        let lanes = lanes();
        let first: Vec<_> = (0..SUBSCRIPTIONS_PER_CONNECTION).map(|_| lanes.take()).collect();
        assert_eq!(count(&lanes), 1);
        let _second = lanes.take();
        assert_eq!(count(&lanes), 2);
        drop(first);
        let _third = lanes.take();
        assert_eq!(count(&lanes), 2, "a place that became free is taken again");
    }

    #[test]
    fn two_hundred_shards_need_thirteen_connections() {
        let lanes = lanes();
        let _seats: Vec<_> = (0..200).map(|_| lanes.take().1).collect();
        assert_eq!(count(&lanes), 13);
    }
}
