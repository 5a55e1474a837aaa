//! Names and ARNs: which stream or consumer a request means.
//!
//! Region and account of an ARN are not compared: the ARN of a real stream works here too.

use std::sync::{Arc, PoisonError};

use super::Kinesis;
use crate::error::{Outcome, ServiceError};
use crate::stream::{Consumer, Stream};
use crate::value::{Request, missing, out_of_range};

/// What an ARN names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resource<'t> {
    Stream(&'t str),
    /// Stream, consumer, and the second at which the consumer was made (which tells it from an earlier one).
    Consumer(&'t str, &'t str, u64),
}

/// Reads `arn:aws:kinesis:REGION:ACCOUNT:stream/NAME` and `…/consumer/NAME:SECONDS`.
pub(crate) fn resource(arn: &str) -> Option<Resource<'_>> {
    let mut parts = arn.splitn(6, ':');
    let ("arn", partition, "kinesis") = (parts.next()?, parts.next()?, parts.next()?) else {
        return None;
    };
    let (_region, _account, rest) = (parts.next()?, parts.next()?, parts.next()?);
    if !partition.starts_with("aws") {
        return None;
    }
    let name = rest.strip_prefix("stream/")?;
    match name.split_once('/') {
        None => valid_name(name).then_some(Resource::Stream(name)),
        Some((stream, consumer)) => {
            let (consumer, made_s) = consumer.strip_prefix("consumer/")?.rsplit_once(':')?;
            let made_s = made_s.parse().ok()?;
            (valid_name(stream) && valid_name(consumer))
                .then_some(Resource::Consumer(stream, consumer, made_s))
        }
    }
}

/// Of streams and of consumers.
pub(crate) fn valid_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
}

pub(crate) fn checked_name<'t>(field: &str, name: &'t str) -> Outcome<&'t str> {
    if valid_name(name) {
        return Ok(name);
    }
    Err(out_of_range(
        field,
        name,
        "satisfy regular expression pattern: [a-zA-Z0-9_.-]{1,128}",
    ))
}

pub(crate) fn invalid_arn(field: &str, arn: &str) -> ServiceError {
    out_of_range(field, arn, "be the ARN of a Kinesis stream or consumer")
}

impl Kinesis {
    /// The stream's name, given as `StreamName`, as `StreamARN`, or as both.
    pub(super) fn stream_name<'v>(&self, request: Request<'v, '_>) -> Outcome<&'v str> {
        let name = request
            .text("StreamName")?
            .map(|name| checked_name("StreamName", name))
            .transpose()?;
        let by_arn = match request.text("StreamARN")? {
            None => None,
            Some(arn) => match resource(arn) {
                Some(Resource::Stream(name)) => Some(name),
                _ => return Err(invalid_arn("StreamARN", arn)),
            },
        };
        match (name, by_arn) {
            (Some(name), Some(other)) if name != other => Err(ServiceError::argument(format!(
                "StreamName {name} and StreamARN (of stream {other}) name different streams"
            ))),
            (Some(name), _) | (None, Some(name)) => Ok(name),
            (None, None) => Err(ServiceError::argument(
                "Either StreamName or StreamARN must be provided.",
            )),
        }
    }

    pub(super) fn stream(&self, request: Request<'_, '_>) -> Outcome<Arc<Stream>> {
        self.named(self.stream_name(request)?)
    }

    pub(super) fn named(&self, name: &str) -> Outcome<Arc<Stream>> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.get(name).cloned().ok_or_else(|| {
            ServiceError::not_found(format!(
                "Stream {name} under account {} not found.",
                self.manners.account
            ))
        })
    }

    /// The stream that a required ARN names.
    pub(super) fn stream_of_arn(&self, request: Request<'_, '_>, field: &str) -> Outcome<Arc<Stream>> {
        let arn = request.text(field)?.ok_or_else(|| missing(field))?;
        match resource(arn) {
            Some(Resource::Stream(name)) => self.named(name),
            _ => Err(invalid_arn(field, arn)),
        }
    }

    pub(super) fn stream_arn(&self, name: &str) -> String {
        let manners = &self.manners;
        format!(
            "arn:aws:kinesis:{}:{}:stream/{name}",
            manners.region, manners.account
        )
    }

    pub(super) fn consumer_arn(&self, stream: &str, consumer: &Consumer) -> String {
        format!(
            "{}/consumer/{}:{}",
            self.stream_arn(stream),
            consumer.name,
            consumer.made_ms / 1000
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_name_streams_and_consumers_and_nothing_else() {
        assert_eq!(
            resource("arn:aws:kinesis:us-east-1:123456789012:stream/a.b"),
            Some(Resource::Stream("a.b"))
        );
        assert_eq!(
            resource("arn:aws-cn:kinesis:cn-north-1:1:stream/s/consumer/c:17"),
            Some(Resource::Consumer("s", "c", 17))
        );
        for arn in [
            "",
            "orders",
            "arn:aws:kinesis:us-east-1:1:stream/",
            "arn:aws:dynamodb:us-east-1:1:table/t",
            "arn:aws:kinesis:us-east-1:1:stream/s/consumer/c",
            "arn:aws:kinesis:us-east-1:1:stream/s/other/c:1",
        ] {
            assert_eq!(resource(arn), None, "{arn}");
        }
    }
}
