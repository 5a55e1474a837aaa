//! The HTTP client below every AWS client: one pool of connections for all services, TLS only where it is needed.

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;

use crate::aws::trust::Trust;

/// A client for `http://` and `https://`. The system's root certificates are read at the first `https://` request, so
/// that a worker on local endpoints neither waits for them nor keeps them. `https://` honours `HTTPS_PROXY` and
/// `NO_PROXY`, as current Java SDKs do.
pub(super) fn http_client(plain: SharedHttpClient, trust: &Trust) -> SharedHttpClient {
    let trust = trust.clone();
    by_scheme(
        plain,
        Builder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = Connector::builder()
                .connector_settings(
                    settings
                        .cloned()
                        .unwrap_or_else(|| HttpConnectorSettings::builder().build()),
                )
                .proxy_config(ProxyConfig::from_env());
            if let Some(components) = components {
                connector.set_sleep_impl(components.sleep_impl());
            }
            connector
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .tls_context(trust.context())
                .build()
        }),
    )
}

/// A client for `http://` alone, with connections of its own.
pub(super) fn plain() -> SharedHttpClient {
    Builder::new().build_http()
}

/// `http://` by `plain`, `https://` by `tls`, which is asked for a connector only then.
pub(super) fn by_scheme(plain: SharedHttpClient, tls: SharedHttpClient) -> SharedHttpClient {
    SharedHttpClient::new(ByScheme { plain, tls })
}

#[derive(Debug)]
struct ByScheme {
    plain: SharedHttpClient,
    tls: SharedHttpClient,
}

impl HttpClient for ByScheme {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(ConnectorByScheme {
            plain: self.plain.http_connector(settings, components),
            tls: self.tls.clone(),
            settings: settings.clone(),
            components: components.clone(),
        })
    }
}

#[derive(Debug)]
struct ConnectorByScheme {
    plain: SharedHttpConnector,
    tls: SharedHttpClient,
    settings: HttpConnectorSettings,
    components: RuntimeComponents,
}

impl HttpConnector for ConnectorByScheme {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if request.uri().starts_with("http://") {
            self.plain.call(request)
        } else {
            self.tls
                .http_connector(&self.settings, &self.components)
                .call(request)
        }
    }
}
