//! Connections of our own over TLS, where those of the SDK do not fit: it lets ALPN choose between HTTP/1.1 and HTTP/2, and sets
//! neither windows nor pings.
//!
//! Owns how a connection comes to be: TCP, or a tunnel through the proxy of the environment, and TLS above it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

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

use crate::aws::trust::Trust;

/// What a connection is made to speak, whatever else the service could.
#[derive(Clone, Copy, Debug)]
pub(super) enum Speaks {
    /// What a service speaks to whom offers nothing.
    Http1,
    Http2,
}

/// What all clients of a worker have in common. The TLS settings are made by the first that needs them, and shared.
#[derive(Debug)]
pub(super) struct Transport {
    trust: Trust,
    tls: OnceLock<ClientConfig>,
}

impl Transport {
    pub(super) fn new(trust: Trust) -> Self {
        Self {
            trust,
            tls: OnceLock::new(),
        }
    }

    /// An HTTP client for `https://`, with connections of its own, all to one place: that of its first request.
    pub(super) fn client(self: &Arc<Self>, speaks: Speaks, builder: Builder) -> SharedHttpClient {
        SharedHttpClient::new(Own {
            transport: self.clone(),
            speaks,
            builder,
            opened: Arc::default(),
        })
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
}

/// What every client needs, for more to be set.
pub(super) fn builder() -> Builder {
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder.timer(TokioTimer::new()).pool_timer(TokioTimer::new());
    builder
}

#[derive(Clone, Debug)]
struct Own {
    transport: Arc<Transport>,
    speaks: Speaks,
    builder: Builder,
    /// How the one place is reached, its first request finds out.
    opened: Arc<OnceLock<Carrier>>,
}

type Secured<C> = legacy::Client<HttpsConnector<C>, SdkBody>;

#[derive(Debug)]
enum Carrier {
    Direct(Box<Secured<Tcp>>),
    /// Through `HTTPS_PROXY`.
    Tunnelled(Box<Secured<Tunnel<HttpsConnector<Tcp>>>>),
}

impl Own {
    fn open(&self, connect_timeout: Option<Duration>, proxies: &Matcher, request: &http::Uri) -> Carrier {
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(connect_timeout);
        let Some(proxy) = proxies.intercept(request) else {
            return Carrier::Direct(Box::new(self.builder.build(self.secured(tcp))));
        };
        // To the proxy by whatever its address says, and through it by TLS once more.
        let to_proxy = HttpsConnectorBuilder::new()
            .with_tls_config(self.transport.tls())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let tunnel = Tunnel::new(proxy.uri().clone(), to_proxy);
        let tunnel = match proxy.basic_auth() {
            Some(auth) => tunnel.with_auth(auth.clone()),
            None => tunnel,
        };
        Carrier::Tunnelled(Box::new(self.builder.build(self.secured(tunnel))))
    }

    fn secured<C>(&self, below: C) -> HttpsConnector<C> {
        let tls = HttpsConnectorBuilder::new()
            .with_tls_config(self.transport.tls())
            .https_only();
        match self.speaks {
            Speaks::Http1 => tls.enable_http1().wrap_connector(below),
            Speaks::Http2 => tls.enable_http2().wrap_connector(below),
        }
    }
}

impl HttpClient for Own {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(OwnConnector {
            own: self.clone(),
            connect_timeout: settings.connect_timeout(),
        })
    }
}

#[derive(Debug)]
struct OwnConnector {
    own: Own,
    connect_timeout: Option<Duration>,
}

impl HttpConnector for OwnConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let open = || {
            self.own
                .open(self.connect_timeout, &Matcher::from_env(), request.uri())
        };
        let answer = match self.own.opened.get_or_init(open) {
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
