//! Stream consumers: who may subscribe to the stream's shards.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::identity::{Resource, checked_name, invalid_arn, resource};
use super::streams::{limit, page};
use super::{Call, Kinesis, NOTHING, Reply};
use crate::error::{Outcome, ServiceError};
use crate::stream::{Consumer, Stream};
use crate::token::Page;
use crate::value::Request;
use crate::writer::Writer;

/// Most consumers of one stream.
const CONSUMERS_MAX: usize = 20;

impl Kinesis {
    pub(super) fn register_stream_consumer(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let stream = self.stream_of_arn(call.request, "StreamARN")?;
        let name = checked_name("ConsumerName", call.request.required_text("ConsumerName")?)?;
        let mut tags = BTreeMap::new();
        if let Some(given) = call.request.map("Tags")? {
            tags.extend(super::tags::checked(given)?);
        }
        let consumer = stream.change(|state| {
            if state.consumers.contains_key(name) {
                return Err(ServiceError::in_use(format!(
                    "Consumer {name} of stream {} under account {} already exists.",
                    stream.name, self.manners.account
                )));
            }
            if state.consumers.len() == CONSUMERS_MAX {
                return Err(ServiceError::limit(format!(
                    "Stream {} already has {CONSUMERS_MAX} consumers, the most that it can have.",
                    stream.name
                )));
            }
            let consumer = Consumer {
                name: name.to_owned(),
                made_ms: call.now_ms,
                tags,
            };
            state.consumers.insert(name.to_owned(), consumer.clone());
            Ok(consumer)
        })?;
        tracing::info!(stream = %stream.name, consumer = name, "consumer registered");
        let mut w = call.writer();
        w.open_map().key("Consumer");
        self.write(&mut w, &stream, &consumer, false);
        w.close_map();
        Ok(Reply::Body(w.finish()))
    }

    pub(super) fn deregister_stream_consumer(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let (stream, consumer) = self.consumer(call.request)?;
        stream.change(|state| {
            state.consumers.remove(&consumer.name);
            Ok(())
        })?;
        self.end_listeners(&self.consumer_arn(&stream.name, &consumer));
        tracing::info!(stream = %stream.name, consumer = %consumer.name, "consumer deregistered");
        Ok(NOTHING)
    }

    pub(super) fn describe_stream_consumer(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let (stream, consumer) = self.consumer(call.request)?;
        let mut w = call.writer();
        w.open_map().key("ConsumerDescription");
        self.write(&mut w, &stream, &consumer, true);
        w.close_map();
        Ok(Reply::Body(w.finish()))
    }

    pub(super) fn list_stream_consumers(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let request = call.request;
        let stream = self.stream_of_arn(request, "StreamARN")?;
        let most = limit(request, "MaxResults", 10_000)?.unwrap_or(100) as usize;
        let after = match request.text("NextToken")? {
            None => None,
            Some(token) => Some(page(self, token, "consumers", call.now_ms)?.last),
        };
        let state = stream.state();
        let mut listed = state
            .consumers
            .values()
            .filter(|one| after.as_ref().is_none_or(|after| one.name > *after));
        let page: Vec<_> = listed.by_ref().take(most).collect();
        let more = listed.next().is_some();
        let mut w = call.writer();
        w.open_map().key("Consumers").open_list();
        page.iter()
            .for_each(|consumer| self.write(&mut w, &stream, consumer, false));
        w.close_list();
        if let (true, Some(last)) = (more, page.last()) {
            let next = Page {
                stream: stream.name.clone(),
                question: "consumers".into(),
                last: last.name.clone(),
                issued_ms: call.now_ms,
            };
            w.key("NextToken").text(&next.write());
        }
        w.close_map();
        Ok(Reply::Body(w.finish()))
    }

    fn write(&self, w: &mut Writer, stream: &Stream, consumer: &Consumer, with_stream: bool) {
        w.open_map().key("ConsumerName").text(&consumer.name);
        w.key("ConsumerARN")
            .text(&self.consumer_arn(&stream.name, consumer))
            .key("ConsumerStatus")
            .text("ACTIVE");
        w.key("ConsumerCreationTimestamp").time(consumer.made_ms);
        if with_stream {
            w.key("StreamARN").text(&self.stream_arn(&stream.name));
        }
        w.close_map();
    }

    /// A consumer, named by its ARN or by the stream's and its name.
    fn consumer(&self, request: Request<'_, '_>) -> Outcome<(Arc<Stream>, Consumer)> {
        if let Some(arn) = request.text("ConsumerARN")? {
            return self.consumer_of_arn(arn);
        }
        if request.get("StreamARN").is_none() || request.get("ConsumerName").is_none() {
            return Err(ServiceError::argument(
                "Either ConsumerARN, or StreamARN and ConsumerName must be provided.",
            ));
        }
        let stream = self.stream_of_arn(request, "StreamARN")?;
        let name = request.required_text("ConsumerName")?;
        let consumer = stream.state().consumers.get(name).cloned();
        let consumer = consumer.ok_or_else(|| self.no_consumer(&stream.name, name))?;
        Ok((stream, consumer))
    }

    pub(super) fn consumer_of_arn(&self, arn: &str) -> Outcome<(Arc<Stream>, Consumer)> {
        let Some(Resource::Consumer(stream, name, made_s)) = resource(arn) else {
            return Err(invalid_arn("ConsumerARN", arn));
        };
        let stream = self.named(stream)?;
        let consumer = stream
            .state()
            .consumers
            .get(name)
            .filter(|one| one.made_ms / 1000 == made_s)
            .cloned();
        let consumer = consumer.ok_or_else(|| self.no_consumer(&stream.name, name))?;
        Ok((stream, consumer))
    }

    fn no_consumer(&self, stream: &str, name: &str) -> ServiceError {
        ServiceError::not_found(format!(
            "Consumer {name} of stream {stream} under account {} not found.",
            self.manners.account
        ))
    }
}
