//! The Kinesis port: which operation, in which format, and what the fault plan says to it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request as HttpRequest, Response};
use tokio::sync::mpsc;

use super::{Answer, BodyError, Cut, Reply, answer, body, respond};
use crate::clock::Clock;
use crate::error::{Outcome, ServiceError};
use crate::eventstream;
use crate::fault::{Effect, FaultPlan, wire};
use crate::kinesis::{self, Call, Kinesis, Subscription};
use crate::value::Request;
use crate::writer::{Format, Writer};

/// 10 MiB of data in base64, and room for keys: the largest `PutRecords`.
const BODY_BYTES_MAX: usize = 32 << 20;
/// Events made ahead of a client that reads slowly.
const EVENTS_AHEAD: usize = 1;
/// Where faults are read, added and removed.
pub(crate) const FAULTS_PATH: &str = "/_multilangd/faults";

/// Everything that a connection needs.
pub(crate) struct Port {
    pub(crate) kinesis: Arc<Kinesis>,
    pub(crate) faults: FaultPlan,
    pub(crate) clock: Clock,
}

impl Port {
    pub(crate) async fn handle(self: Arc<Self>, request: HttpRequest<Incoming>) -> Answer {
        let (head, incoming) = request.into_parts();
        let bytes = match body(incoming, BODY_BYTES_MAX).await {
            Ok(bytes) => bytes,
            Err(BodyError::Broken) => return Err(Cut),
            Err(BodyError::TooLarge) => {
                let mut error =
                    ServiceError::validation(format!("the body has more than {BODY_BYTES_MAX} bytes"));
                error.status = 413;
                return Ok(failure(&error, format(&head.headers)));
            }
        };
        if head.uri.path() == FAULTS_PATH {
            return Ok(self.edit_faults(&head.method, &bytes));
        }
        if head.method != Method::POST {
            return Ok(answer(
                200,
                "text/plain",
                "multilangd: a local Kinesis. Its clients POST.\n",
            ));
        }
        let format = format(&head.headers);
        match self.call(&head.headers, format, &bytes).await {
            Ok(answered) => answered,
            Err(error) => Ok(failure(&error, format)),
        }
    }

    async fn call(&self, headers: &HeaderMap, format: Format, bytes: &Bytes) -> Outcome<Answer> {
        let target = headers
            .get("x-amz-target")
            .and_then(|target| target.to_str().ok())
            .unwrap_or_default();
        let Some(operation) = target.strip_prefix("Kinesis_20131202.") else {
            return Err(ServiceError::new(
                "UnknownOperationException",
                format!("X-Amz-Target must be Kinesis_20131202.OPERATION, and is \"{target}\""),
            ));
        };
        let value = kinesis::read_body(bytes, format)?;
        let request = Request::new(&value)?;
        let mut effect = None;
        if !self.faults.is_empty() {
            let names = kinesis::names(request);
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let verdict = self
                .faults
                .judge(&format!("kinesis.{operation}"), &names, Instant::now());
            tokio::time::sleep(verdict.delay).await;
            effect = verdict.effect;
        }
        match &effect {
            Some(Effect::Error {
                code,
                status,
                message,
            }) => {
                let code = code.clone().into();
                return Err(ServiceError {
                    status: *status,
                    code,
                    message: message.clone(),
                });
            }
            Some(Effect::Cut) => return Ok(Err(Cut)),
            Some(Effect::Unanswered) | None => {}
        }
        let reply = self.kinesis.call(
            operation,
            Call {
                request,
                format,
                now_ms: self.clock.now_ms(),
            },
        );
        if effect == Some(Effect::Unanswered) {
            return Ok(Err(Cut));
        }
        Ok(Ok(match reply? {
            kinesis::Reply::Body(body) => answer(200, format.content_type(), body),
            kinesis::Reply::Events(events) => respond(
                200,
                eventstream::CONTENT_TYPE,
                Reply::Parts(push(events, self.faults.clone())),
            ),
        }))
    }

    fn edit_faults(&self, method: &Method, bytes: &[u8]) -> Response<Reply> {
        const JSON: &str = "application/json";
        match *method {
            Method::GET => answer(200, JSON, wire::write(&self.faults)),
            Method::DELETE => {
                self.faults.clear();
                answer(200, JSON, wire::write(&self.faults))
            }
            Method::POST => match wire::read(bytes) {
                Ok(faults) => {
                    faults.into_iter().for_each(|fault| self.faults.add(fault));
                    answer(200, JSON, wire::write(&self.faults))
                }
                Err(reason) => answer(400, "text/plain", format!("{reason}\n")),
            },
            _ => answer(
                405,
                "text/plain",
                "GET shows the faults, POST adds some, DELETE removes all\n",
            ),
        }
    }
}

fn format(headers: &HeaderMap) -> Format {
    let kind = headers
        .get("content-type")
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    if kind.contains("cbor") {
        Format::Cbor
    } else {
        Format::Json
    }
}

fn failure(error: &ServiceError, format: Format) -> Response<Reply> {
    let mut w = Writer::new(format);
    w.open_map()
        .key("__type")
        .text(&error.code)
        .key("message")
        .text(&error.message)
        .close_map();
    let mut response = answer(error.status, format.content_type(), w.finish());
    if let Ok(code) = error.code.parse() {
        response.headers_mut().insert("x-amzn-errortype", code);
    }
    response
}

/// The name under which the fault plan knows each event of a subscription.
pub(crate) const EVENT: &str = "kinesis.SubscribeToShardEvent";

/// Runs a subscription for as long as the client reads. The fault plan judges each event but the greeting.
fn push(mut events: Subscription, faults: FaultPlan) -> mpsc::Receiver<Result<Bytes, Cut>> {
    let (sender, receiver) = mpsc::channel(EVENTS_AHEAD);
    tokio::spawn(async move {
        let mut greeted = false;
        loop {
            // First a place for it: an event that nobody takes must not count as sent.
            let Ok(place) = sender.reserve().await else { return };
            let event = tokio::select! {
                event = events.next() => event,
                () = sender.closed() => None,
            };
            let Some(event) = event else { return };
            if greeted && !faults.is_empty() {
                let verdict = faults.judge(EVENT, &events.names(), Instant::now());
                tokio::time::sleep(verdict.delay).await;
                match verdict.effect {
                    None => {}
                    Some(Effect::Error { code, message, .. }) => {
                        place.send(Ok(events.fail(&code, &message).into()));
                        return;
                    }
                    // An event has no answer: to lose it and to cut it off are the same.
                    Some(Effect::Unanswered | Effect::Cut) => return place.send(Err(Cut)),
                }
            }
            greeted = true;
            place.send(Ok(event.into()));
        }
    });
    receiver
}
