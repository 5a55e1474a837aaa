//! Connections that carry subscriptions: many on each, none of which can hold up another.
//!
//! Owns which connection carries which subscription, its windows, and how it is found dead. Over TLS a lane is one HTTP/2
//! connection, as the service demands; over plain HTTP (local services) every subscription has a connection of its own.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::{self, Builder};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use crate::aws::http::by_scheme;
use crate::aws::trust::Trust;

/// Subscriptions on one connection. Far below what any server allows, as the next one would wait for a place without a
/// word; 200 shards need 13 connections.
const SUBSCRIPTIONS_PER_LANE: usize = 16;
/// What the service may send of one subscription before we have read it, as in Java. Enough for the 2 MB/s of a shard from
/// a quarter of a second away.
const WINDOW_BYTES: u32 = 512 << 10;
/// The same of all subscriptions of a connection: the sum, so that those that nobody reads leave room for the others.
const LANE_WINDOW_BYTES: u32 = WINDOW_BYTES * SUBSCRIPTIONS_PER_LANE as u32;

/// How a connection whose other end has vanished is found out.
#[derive(Clone, Copy, Debug)]
pub struct Pings {
    /// A ping after so much silence,
    pub every: Duration,
    /// and the connection is dead without an answer within this.
    pub answer_within: Duration,
}

impl Default for Pings {
    /// Sooner than a subscription's silence is noticed, and for all on the connection at once; Java pings every minute.
    fn default() -> Self {
        Self {
            every: Duration::from_secs(10),
            answer_within: Duration::from_secs(10),
        }
    }
}

/// Clients with connections of their own, and how many subscriptions each carries.
pub(super) struct Lanes {
    connect: Box<dyn Fn() -> Client + Send + Sync>,
    lanes: Mutex<Vec<(Client, Arc<()>)>>,
}

/// A place on a connection, held for as long as the subscription lives.
pub(super) type Seat = Arc<()>;

impl Lanes {
    /// `connect` makes a client with connections of its own.
    pub(super) fn new(connect: impl Fn() -> Client + Send + Sync + 'static) -> Self {
        Self {
            connect: Box::new(connect),
            lanes: Mutex::default(),
        }
    }

    /// A place on the first connection that has one.
    pub(super) fn take(&self) -> (Client, Seat) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        // The lane itself holds its seats once.
        let free = |(_, seats): &&(Client, Seat)| Arc::strong_count(seats) <= SUBSCRIPTIONS_PER_LANE;
        if let Some(lane) = lanes.iter().find(free) {
            return lane.clone();
        }
        let lane = ((self.connect)(), Seat::default());
        lanes.push(lane.clone());
        lane
    }
}

/// An HTTP client that is one lane. The TLS settings are made by the first lane that needs them, and shared.
pub(super) fn lane(transport: &Arc<Transport>) -> SharedHttpClient {
    by_scheme(SharedHttpClient::new(Lane {
        transport: transport.clone(),
        opened: Arc::default(),
    }))
}

/// What the lanes of a worker have in common.
#[derive(Debug)]
pub(super) struct Transport {
    trust: Trust,
    pings: Pings,
    tls: OnceLock<ClientConfig>,
}

impl Transport {
    pub(super) fn new(trust: Trust, pings: Pings) -> Self {
        Self {
            trust,
            pings,
            tls: OnceLock::new(),
        }
    }

    fn tls(&self) -> ClientConfig {
        let make = || {
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("the provider knows TLS 1.2 and 1.3")
                .with_root_certificates(self.trust.roots())
                .with_no_client_auth()
        };
        self.tls.get_or_init(make).clone()
    }

    fn builder(&self) -> Builder {
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            // Not as ALPN finds it: requests that begin together would open a connection each.
            .http2_only(true)
            .http2_initial_stream_window_size(WINDOW_BYTES)
            .http2_initial_connection_window_size(LANE_WINDOW_BYTES)
            .http2_keep_alive_interval(self.pings.every)
            .http2_keep_alive_timeout(self.pings.answer_within);
        builder
    }

    fn open(&self, connect_timeout: Option<Duration>, proxies: &Matcher, request: &http::Uri) -> Carrier {
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(connect_timeout);
        let Some(proxy) = proxies.intercept(request) else {
            return Carrier::Direct(Box::new(self.builder().build(self.secured(tcp))));
        };
        // To the proxy by whatever its address says, and through it by TLS once more.
        let to_proxy = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
        let tunnel = match proxy.basic_auth() {
            Some(auth) => tunnel.with_auth(auth.clone()),
            None => tunnel,
        };
        Carrier::Tunnelled(Box::new(self.builder().build(self.secured(tunnel))))
    }

    fn secured<C>(&self, below: C) -> HttpsConnector<C> {
        HttpsConnectorBuilder::new()
            .with_tls_config(self.tls())
            .https_only()
            .enable_http2()
            .wrap_connector(below)
    }
}

#[derive(Clone, Debug)]
struct Lane {
    transport: Arc<Transport>,
    /// A lane leads to one place, the service's; how, its first request finds out.
    opened: Arc<OnceLock<Carrier>>,
}

type Secured<C> = legacy::Client<HttpsConnector<C>, SdkBody>;

#[derive(Debug)]
enum Carrier {
    Direct(Box<Secured<Tcp>>),
    /// Through `HTTPS_PROXY`.
    Tunnelled(Box<Secured<Tunnel<HttpsConnector<Tcp>>>>),
}

impl HttpClient for Lane {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(LaneConnector {
            lane: self.clone(),
            connect_timeout: settings.connect_timeout(),
        })
    }
}

#[derive(Debug)]
struct LaneConnector {
    lane: Lane,
    connect_timeout: Option<Duration>,
}

impl HttpConnector for LaneConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let open = || {
            let transport = &self.lane.transport;
            transport.open(self.connect_timeout, &Matcher::from_env(), request.uri())
        };
        let answer = match self.lane.opened.get_or_init(open) {
            Carrier::Direct(client) => client.request(request),
            Carrier::Tunnelled(client) => client.request(request),
        };
        HttpConnectorFuture::new(async move {
            let answer = answer.await.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(answer.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes() -> Lanes {
        Lanes::new(|| {
            Client::from_conf(
                aws_sdk_kinesis::Config::builder()
                    .behavior_version(aws_sdk_kinesis::config::BehaviorVersion::latest())
                    .build(),
            )
        })
    }

    fn count(lanes: &Lanes) -> usize {
        lanes.lanes.lock().unwrap().len()
    }

    #[test]
    fn subscriptions_share_a_connection_up_to_a_bound() {
        let lanes = lanes();
        let first: Vec<_> = (0..SUBSCRIPTIONS_PER_LANE).map(|_| lanes.take()).collect();
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
