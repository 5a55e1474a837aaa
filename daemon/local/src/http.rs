//! HTTP: connections, bodies, headers, and how a call that gets no answer ends.
//!
//! Owns HTTP/1.1 and HTTP/2 (with prior knowledge) on one port. Never knows an operation.

pub(crate) mod kinesis;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The connection closes without an answer.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("cut off by the fault plan")]
pub(crate) struct Cut;

pub(crate) type Answer = Result<Response<Reply>, Cut>;

/// A connection that is still busy so long after the services are told to stop is dropped.
const GRACE: Duration = Duration::from_millis(500);

/// Requests that one HTTP/2 connection may have open. The AWS SDK for Java keeps a subscription for each shard.
const STREAMS_MAX: u32 = 10_000;

/// An answer's body: all of it, or parts as they come.
pub(crate) enum Reply {
    Whole(Bytes),
    /// An error among them closes the connection (HTTP/2: the stream) in the middle of the answer.
    Parts(mpsc::Receiver<Result<Bytes, Cut>>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Parts(parts) => parts
                .poll_recv(context)
                .map(|part| part.map(|part| part.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Parts(_) => SizeHint::default(),
        }
    }
}

/// Takes connections until told to stop; `handler` makes a service for each.
pub(crate) async fn serve<S, F>(listener: TcpListener, stop: CancellationToken, handler: impl Fn() -> S)
where
    S: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                connections.spawn(connection(socket, stop.clone(), handler()));
            }
            Err(error) => {
                // Such as too many open files: what frees them is other connections ending.
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    connections.close();
    let _ = tokio::time::timeout(GRACE, connections.wait()).await;
}

async fn connection<S, F>(socket: TcpStream, stop: CancellationToken, handler: S)
where
    S: Fn(Request<Incoming>) -> F,
    F: Future<Output = Answer> + Send + 'static,
{
    let _ = socket.set_nodelay(true);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // A client may keep a connection for its next call as long as it likes.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .max_concurrent_streams(STREAMS_MAX);
    let connection = builder.serve_connection(TokioIo::new(socket), service_fn(handler));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}

/// Bytes of a body that is too large which are still read, and dropped: a client that is writing hears no answer.
const DROPPED_BYTES_MAX: usize = 256 << 20;

/// All of a body, unless it is larger than `bytes_max`.
pub(crate) async fn body(mut incoming: Incoming, bytes_max: usize) -> Result<Bytes, BodyError> {
    let announced = usize::try_from(incoming.size_hint().lower()).unwrap_or(usize::MAX);
    let mut whole = Vec::new();
    let mut bytes = 0;
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await;
        let Some(frame) = frame else { break };
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else {
            continue;
        };
        bytes += data.len();
        if bytes > bytes_max {
            whole = Vec::new();
            if bytes > DROPPED_BYTES_MAX {
                break;
            }
        } else if whole.is_empty() && incoming.is_end_stream() {
            return Ok(data);
        } else {
            if whole.is_empty() {
                whole.reserve_exact(announced.min(bytes_max));
            }
            whole.extend_from_slice(&data);
        }
    }
    if bytes > bytes_max {
        Err(BodyError::TooLarge)
    } else {
        Ok(whole.into())
    }
}

pub(crate) enum BodyError {
    TooLarge,
    /// The client went away.
    Broken,
}

/// An answer with the headers that AWS services give.
pub(crate) fn answer(status: u16, content_type: &str, body: impl Into<Bytes>) -> Response<Reply> {
    respond(status, content_type, Reply::Whole(body.into()))
}

pub(crate) fn respond(status: u16, content_type: &str, body: Reply) -> Response<Reply> {
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
        .header("content-type", content_type)
        .header("x-amzn-requestid", request_id())
        .body(body)
        .expect("these headers are valid")
}

/// Looks like the service's: a UUID. Unique within the process.
fn request_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{:08x}-0000-4000-8000-{:012x}", std::process::id(), count)
}
