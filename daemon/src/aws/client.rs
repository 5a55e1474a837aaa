//! How each AWS service is reached: region, endpoint, credentials, time-outs, user agent.
//!
//! Owns the order in which they are looked for. Repeats nothing: the SDK's own retries are off, the engine repeats;
//! metrics alone are repeated by the SDK.

use std::sync::Arc;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::identity::IdentityCache;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_runtime_api::client::identity::SharedIdentityCache;
use aws_types::sdk_ua_metadata::FrameworkMetadata;

use crate::aws::http::{by_scheme, http_client, plain};
use crate::aws::lanes::{Pings, lane};
use crate::aws::transport::{Speaks, Transport, builder};
use crate::aws::trust::{BadBundle, Trust};

/// A TCP connection that takes longer than this to open is given up: the service is far closer than that.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// All providers of a chain together: instance metadata alone takes some seconds where there is none.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(20);

/// What the properties say about one service. All unset: everything from the environment and the profile.
#[derive(Clone, Debug, Default)]
pub struct ServiceSettings {
    /// Wins over environment and profile.
    pub region: Option<String>,
    /// Used where neither the settings nor environment or profile name one: the region of `streamArn`.
    pub region_fallback: Option<String>,
    /// Wins over `AWS_ENDPOINT_URL…` and the profile.
    pub endpoint: Option<String>,
    /// `fipsEnabled`.
    pub fips: Option<bool>,
    /// `dualstackEnabled`.
    pub dualstack: Option<bool>,
    /// `apiCallTimeout`.
    pub call_timeout: Option<Duration>,
    /// `apiCallAttemptTimeout`; the same thing, as a call is tried once.
    pub attempt_timeout: Option<Duration>,
    /// `defaultProfileName`; else `AWS_PROFILE`, else `default`.
    pub profile: Option<String>,
}

/// Who the requests are from.
#[derive(Clone, Debug)]
pub enum Signing {
    /// Signed with what this provider yields.
    With(SharedCredentialsProvider),
    /// Not signed at all (`AnonymousCredentialsProvider`).
    Unsigned,
}

/// No region was found anywhere.
#[derive(Debug, thiserror::Error)]
#[error(
    "no region for {0}: set regionName in the properties file, AWS_REGION in the environment, or region in the profile"
)]
pub struct NoRegion(&'static str);

/// What all services share: connections and cached credentials. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Aws {
    http: SharedHttpClient,
    answers: SharedHttpClient,
    transport: Arc<Transport>,
    pings: Pings,
    identities: SharedIdentityCache,
}

/// One service, ready to make clients for.
#[derive(Clone, Debug)]
pub struct Service {
    sdk: SdkConfig,
    answers: SharedHttpClient,
    transport: Arc<Transport>,
    pings: Pings,
    unsigned: bool,
    timeout_max: Option<Duration>,
    /// `Kinesis in eu-west-1`, or `Kinesis at http://127.0.0.1:4567`, for people.
    pub place: String,
    /// The region that requests are signed for.
    pub region: String,
}

impl Default for Aws {
    fn default() -> Self {
        Self::new(Trust::default(), Pings::default())
    }
}

impl Aws {
    /// Trusts whom the environment says.
    pub fn from_env() -> Result<Self, BadBundle> {
        Ok(Self::new(Trust::from_env()?, Pings::default()))
    }

    /// With the connections of subscriptions looked after in this way.
    pub fn new(trust: Trust, pings: Pings) -> Self {
        let plain = plain();
        let http = http_client(plain.clone(), &trust);
        let transport = Arc::new(Transport::new(trust));
        let answers = by_scheme(plain, transport.client(Speaks::Http1, builder()));
        Self {
            http,
            answers,
            transport,
            pings,
            identities: IdentityCache::lazy().load_timeout(CREDENTIALS_TIMEOUT).build(),
        }
    }

    /// The HTTP client, for credentials providers.
    pub fn http(&self) -> SharedHttpClient {
        self.http.clone()
    }

    /// Finds out how to reach a service. Asks the network only where there is no other source of a region; credentials
    /// are fetched by the first request. `service` is `Kinesis`, `DynamoDB`, … as in the variable `AWS_ENDPOINT_URL_…`.
    pub async fn service(
        &self,
        service: &'static str,
        settings: &ServiceSettings,
        signing: &Signing,
    ) -> Result<Service, NoRegion> {
        let region = self.region(settings).await.ok_or(NoRegion(service))?;
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(self.http.clone())
            .identity_cache(self.identities.clone())
            .retry_config(RetryConfig::disabled())
            // Requests are short, and every call has a limit of its own: watching how fast each is sent costs for nothing.
            .stalled_stream_protection(
                StalledStreamProtectionConfig::enabled()
                    .upload_enabled(false)
                    .build(),
            )
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
            .region(region.clone());
        loader = match signing {
            Signing::With(provider) => loader.credentials_provider(provider.clone()),
            Signing::Unsigned => loader.no_credentials(),
        };
        if let Some(fips) = settings.fips {
            loader = loader.use_fips(fips);
        }
        if let Some(dualstack) = settings.dualstack {
            loader = loader.use_dual_stack(dualstack);
        }
        if let Some(profile) = &settings.profile {
            loader = loader.profile_name(profile);
        }
        let endpoint = settings.endpoint.clone().or_else(|| endpoint_variable(service));
        if let Some(endpoint) = &endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let sdk = loader.load().await;
        let place = match endpoint.as_deref().or(sdk.endpoint_url()) {
            Some(endpoint) => format!("{service} at {endpoint}"),
            None => format!("{service} in {region}"),
        };
        Ok(Service {
            sdk,
            answers: self.answers.clone(),
            transport: self.transport.clone(),
            pings: self.pings,
            unsigned: matches!(signing, Signing::Unsigned),
            timeout_max: settings
                .call_timeout
                .into_iter()
                .chain(settings.attempt_timeout)
                .min(),
            place,
            region: region.to_string(),
        })
    }

    async fn region(&self, settings: &ServiceSettings) -> Option<Region> {
        match &settings.region {
            Some(region) => Some(Region::new(region.clone())),
            None => {
                self.region_of(settings.profile.as_deref(), settings.region_fallback.clone())
                    .await
            }
        }
    }

    /// The region of environment or profile, else `fallback`, else that of instance metadata.
    pub(super) async fn region_of(&self, profile: Option<&str>, fallback: Option<String>) -> Option<Region> {
        let config = ProviderConfig::without_region().with_http_client(self.http.clone());
        let mut builder = ProfileFileRegionProvider::builder().configure(&config);
        if let Some(name) = profile {
            builder = builder.profile_name(name);
        }
        RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
            .or_else(builder.build())
            .or_else(fallback.map(Region::new))
            .or_else(ImdsRegionProvider::builder().configure(&config).build())
            .region()
            .await
    }
}

/// `AWS_ENDPOINT_URL_KINESIS` and the like, which win over `AWS_ENDPOINT_URL`. The SDK knows them too; they are read
/// here so that errors can name the endpoint.
fn endpoint_variable(service: &str) -> Option<String> {
    let ignored = std::env::var("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_ok_and(|value| value == "true");
    let name = format!("AWS_ENDPOINT_URL_{}", service.to_uppercase());
    std::env::var(name).ok().filter(|url| !ignored && !url.is_empty())
}

impl Service {
    /// A Kinesis client that gives a call up after `timeout`, or earlier if the settings say so.
    pub fn kinesis(&self, timeout: Duration, agent: &UserAgent) -> aws_sdk_kinesis::Client {
        let mut config =
            aws_sdk_kinesis::config::Builder::from(&self.sdk).timeout_config(self.timeouts(timeout));
        for metadata in &agent.0 {
            config.push_framework_metadata(metadata.clone());
        }
        if self.unsigned {
            config.set_allow_no_auth();
        }
        aws_sdk_kinesis::Client::from_conf(config.build())
    }

    /// A Kinesis client for large answers, the same way, but that over TLS it speaks HTTP/1.1: a seventh to a quarter less CPU
    /// than with HTTP/2 (docs/BENCHMARKS.md), and a connection for each call that is under way.
    pub fn answers(&self, timeout: Duration, agent: &UserAgent) -> aws_sdk_kinesis::Client {
        let config = self
            .kinesis(timeout, agent)
            .config()
            .to_builder()
            .http_client(self.answers.clone());
        aws_sdk_kinesis::Client::from_conf(config.build())
    }

    /// A Kinesis client with a connection of its own, for subscriptions: `timeout` is for their beginning, then they may
    /// be silent.
    pub fn subscriptions(&self, timeout: Duration, agent: &UserAgent) -> aws_sdk_kinesis::Client {
        let config = self
            .kinesis(timeout, agent)
            .config()
            .to_builder()
            .http_client(lane(&self.transport, self.pings))
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        aws_sdk_kinesis::Client::from_conf(config.build())
    }

    /// A DynamoDB client, the same way.
    pub fn dynamodb(&self, timeout: Duration, agent: &UserAgent) -> aws_sdk_dynamodb::Client {
        let mut config =
            aws_sdk_dynamodb::config::Builder::from(&self.sdk).timeout_config(self.timeouts(timeout));
        for metadata in &agent.0 {
            config.push_framework_metadata(metadata.clone());
        }
        if self.unsigned {
            config.set_allow_no_auth();
        }
        aws_sdk_dynamodb::Client::from_conf(config.build())
    }

    /// A CloudWatch client, the same way, but for its retries: nobody repeats a metric that could not be sent, so the
    /// SDK does, as Java's does, within the time that the engine gives one call.
    pub fn cloudwatch(&self, timeout: Duration, agent: &UserAgent) -> aws_sdk_cloudwatch::Client {
        let mut config = aws_sdk_cloudwatch::config::Builder::from(&self.sdk)
            .timeout_config(self.timeouts(timeout))
            .retry_config(RetryConfig::standard());
        for metadata in &agent.0 {
            config.push_framework_metadata(metadata.clone());
        }
        if self.unsigned {
            config.set_allow_no_auth();
        }
        aws_sdk_cloudwatch::Client::from_conf(config.build())
    }

    /// The limit is put on the attempt, not on the call: only then does the SDK close the connection behind it, which
    /// may be dead without knowing.
    fn timeouts(&self, timeout: Duration) -> TimeoutConfig {
        let timeout = self.timeout_max.map_or(timeout, |max| max.min(timeout));
        TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .operation_attempt_timeout(timeout)
            .build()
    }
}

/// What the requests say about the program.
#[derive(Clone, Debug, Default)]
pub struct UserAgent(Vec<FrameworkMetadata>);

impl UserAgent {
    /// `consumer_id`: `KCL-ConsumerId-…` of the lease table (`leasing.md 7.2`); `language`: `processingLanguage`.
    // Compat: Java's token ends in `-java-KCL-ConsumerId-…/VERSION`; the SDK allows no `/` inside a name, so that a `/`
    // of the Base64 text becomes `-`.
    pub fn new(consumer_id: Option<&str>, language: Option<&str>) -> Self {
        let mut name = "amazon-kinesis-client-library-multilangd".to_owned();
        if let Some(id) = consumer_id {
            name.push('-');
            name.push_str(id);
        }
        let mut metadata =
            Vec::from_iter(FrameworkMetadata::new(token(&name), Some(env!("CARGO_PKG_VERSION"))).ok());
        if let Some(language) = language.map(token).filter(|language| !language.is_empty()) {
            metadata.extend(FrameworkMetadata::new("amazon-kinesis-multi-lang-daemon", Some(language)).ok());
        }
        Self(metadata)
    }
}

/// Text with everything replaced that may not stand in a user agent's token.
fn token(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.chars().map(|c| if allowed(c) { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_agent_names_the_consumer_and_the_language() {
        let agent = UserAgent::new(Some("KCL-ConsumerId-ab/c+d"), Some("python/3.12"));
        let tokens: Vec<String> = agent.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            tokens,
            [
                concat!(
                    "lib/amazon-kinesis-client-library-multilangd-KCL-ConsumerId-ab-c+d/",
                    env!("CARGO_PKG_VERSION")
                ),
                "lib/amazon-kinesis-multi-lang-daemon/python-3.12",
            ]
        );
    }

    #[tokio::test]
    async fn the_settings_win_and_name_the_place() {
        let settings = ServiceSettings {
            region: Some("eu-west-1".into()),
            region_fallback: Some("us-west-2".into()),
            endpoint: Some("http://127.0.0.1:1".into()),
            ..ServiceSettings::default()
        };
        let service = Aws::default()
            .service("Kinesis", &settings, &Signing::Unsigned)
            .await
            .unwrap();
        assert_eq!(service.region, "eu-west-1");
        assert_eq!(service.place, "Kinesis at http://127.0.0.1:1");
    }

    #[tokio::test]
    async fn a_shorter_time_out_of_the_settings_counts() {
        let settings = ServiceSettings {
            region: Some("eu-west-1".into()),
            attempt_timeout: Some(Duration::from_secs(2)),
            ..ServiceSettings::default()
        };
        let service = Aws::default()
            .service("Kinesis", &settings, &Signing::Unsigned)
            .await
            .unwrap();
        let timeouts = service.timeouts(Duration::from_secs(30));
        assert_eq!(timeouts.operation_attempt_timeout(), Some(Duration::from_secs(2)));
    }
}
