//! Credentials providers of the SDK, from the providers that the properties name.
//!
//! Owns the order in which they are asked. Shows no secret, keeps none: the SDK caches.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_config::credential_process::CredentialProcessProvider;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use multilangd_config::CredentialsChain;
use multilangd_config::credentials::{AssumeRole, Provider, StaticKeys};

use crate::aws::client::{Aws, Signing};
use crate::aws::failure::chain as causes;

/// What providers need to know besides their own arguments.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// `defaultProfileName` of the client; else `AWS_PROFILE`, else `default`.
    pub profile: Option<String>,
    /// The client's region, for tokens of web identities and roles of profiles where neither environment nor profile
    /// names a region.
    pub region_fallback: Option<String>,
}

/// Builds the chain. Asks nobody yet, except where `AnonymousCredentialsProvider` stands behind others: whether they
/// have credentials decides once and for all whether requests are signed.
pub async fn signing(aws: &Aws, chain: &CredentialsChain, surroundings: &Surroundings) -> Signing {
    let anonymous = chain
        .providers
        .iter()
        .position(|provider| *provider == Provider::Anonymous);
    let asked = &chain.providers[..anonymous.unwrap_or(chain.providers.len())];
    if asked.is_empty() && anonymous.is_some() {
        return Signing::Unsigned;
    }
    let mut providers = Vec::new();
    for provider in asked {
        providers.extend(build(aws, provider, surroundings).await);
    }
    let chain = Chain::new(providers);
    if anonymous.is_some() && chain.provide_credentials().await.is_err() {
        return Signing::Unsigned;
    }
    Signing::With(SharedCredentialsProvider::new(chain))
}

/// Credentials that any local service accepts.
pub fn dummy() -> Signing {
    Signing::With(SharedCredentialsProvider::new(Credentials::new(
        "local", "local", None, None, "local",
    )))
}

type Named = (&'static str, SharedCredentialsProvider);

fn named(name: &'static str, provider: impl ProvideCredentials + 'static) -> Named {
    (name, SharedCredentialsProvider::new(provider))
}

async fn build(aws: &Aws, provider: &Provider, surroundings: &Surroundings) -> Vec<Named> {
    let config = || async {
        let region = aws
            .region_of(
                surroundings.profile.as_deref(),
                surroundings.region_fallback.clone(),
            )
            .await;
        ProviderConfig::without_region()
            .with_http_client(aws.http())
            .with_behavior_version(Some(BehaviorVersion::latest()))
            .with_region(region)
    };
    let profile = |config: &ProviderConfig, name: Option<&str>| {
        let mut builder = ProfileFileCredentialsProvider::builder().configure(config);
        if let Some(name) = name.or(surroundings.profile.as_deref()) {
            builder = builder.profile_name(name);
        }
        named("profile", builder.build())
    };
    let web_identity = |config: &ProviderConfig| {
        named(
            "web identity",
            WebIdentityTokenCredentialsProvider::builder()
                .configure(config)
                .build(),
        )
    };
    let container = |config: &ProviderConfig| {
        named(
            "container",
            EcsCredentialsProvider::builder().configure(config).build(),
        )
    };
    let instance = |config: &ProviderConfig| {
        named(
            "instance metadata",
            ImdsCredentialsProvider::builder().configure(config).build(),
        )
    };
    let environment = || named("environment", EnvironmentVariableCredentialsProvider::new());
    vec![match provider {
        // Compat: in the order of the Java SDK. The Rust SDK's own chain asks the profile before web identity.
        Provider::Default => {
            let config = config().await;
            return vec![
                environment(),
                web_identity(&config),
                profile(&config, None),
                container(&config),
                instance(&config),
            ];
        }
        Provider::Environment => environment(),
        Provider::Profile(name) => profile(&config().await, name.as_deref()),
        Provider::InstanceProfile => instance(&config().await),
        Provider::Container => container(&config().await),
        Provider::WebIdentity => web_identity(&config().await),
        Provider::Process(command) => named(
            "process",
            CredentialProcessProvider::new(command.reveal().to_owned()),
        ),
        Provider::Static(keys) => named("static keys", fixed(keys, "properties")),
        Provider::SystemProperty(keys) => named("system properties", fixed(keys, "system properties")),
        Provider::AssumeRole(role) => named("assume role", assume_role(aws, role, surroundings).await),
        // Stands at the end of what is built, if at all.
        Provider::Anonymous => return Vec::new(),
    }]
}

fn fixed(keys: &StaticKeys, source: &'static str) -> Credentials {
    let token = keys.session_token.as_ref().map(|token| token.reveal().to_owned());
    Credentials::new(
        keys.access_key_id.reveal(),
        keys.secret_access_key.reveal(),
        token,
        None,
        source,
    )
}

/// Compat: the base credentials come from the default chain, and the region of STS from its own keys or from the SDK's
/// chain before `regionName` (properties.md 10.3). Java never takes `regionName`; here it is the last resort, where Java
/// would drop the provider without a word.
async fn assume_role(aws: &Aws, role: &AssumeRole, surroundings: &Surroundings) -> AssumeRoleProvider {
    let base = Box::pin(build(aws, &Provider::Default, surroundings)).await;
    let region = match (&role.endpoint, &role.endpoint_region) {
        (Some(endpoint), _) => Some(Region::new(endpoint.signing_region.clone())),
        (None, Some(region)) => Some(Region::new(region.clone())),
        (None, None) => {
            aws.region_of(
                surroundings.profile.as_deref(),
                surroundings.region_fallback.clone(),
            )
            .await
        }
    };
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(aws.http())
        .credentials_provider(Chain::new(base))
        .region(region);
    if let Some(endpoint) = &role.endpoint {
        loader = loader.endpoint_url(&endpoint.url);
    }
    let mut builder = AssumeRoleProvider::builder(&role.role_arn).session_name(&role.session_name);
    if let Some(id) = &role.external_id {
        builder = builder.external_id(id.reveal());
    }
    builder.configure(&loader.load().await).build().await
}

/// No provider has succeeded yet.
const NONE_YET: usize = usize::MAX;

/// Asks one provider after the other; the last one that had credentials is asked first.
// Compat: as the Java SDK's chain. The Rust SDK's ends at the first provider that fails in any other way than having
// nothing, and a broken profile would hide the container's credentials behind it.
struct Chain {
    providers: Vec<Named>,
    last: AtomicUsize,
}

impl Chain {
    fn new(providers: Vec<Named>) -> Self {
        Self {
            providers,
            last: AtomicUsize::new(NONE_YET),
        }
    }

    async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let last = self.last.load(Ordering::Relaxed);
        if let Some((_, provider)) = self.providers.get(last)
            && let Ok(credentials) = provider.provide_credentials().await
        {
            return Ok(credentials);
        }
        let mut reasons = Vec::new();
        // Somebody had them before, so that somebody may have them again.
        let mut may_come = last != NONE_YET;
        for (index, (name, provider)) in self.providers.iter().enumerate() {
            match provider.provide_credentials().await {
                Ok(credentials) => {
                    tracing::debug!(provider = name, "credentials found");
                    self.last.store(index, Ordering::Relaxed);
                    return Ok(credentials);
                }
                Err(error) => {
                    may_come |= !matches!(
                        error,
                        CredentialsError::CredentialsNotLoaded(_) | CredentialsError::InvalidConfiguration(_)
                    );
                    reasons.push(format!("{name}: {}", reason(&error)));
                }
            }
        }
        let nothing = Nothing(reasons.join("; "));
        Err(if may_come {
            CredentialsError::provider_error(nothing)
        } else {
            CredentialsError::not_loaded(nothing)
        })
    }
}

/// The cause alone, where there is one: the SDK's own words in front of it say nothing.
fn reason(error: &CredentialsError) -> String {
    let source = std::error::Error::source(error);
    if source.is_some() {
        causes(source)
    } else {
        error.to_string()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Nothing(String);

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.providers.iter().map(|(name, _)| name))
            .finish()
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_credential_types::credential_fn::provide_credentials_fn;
    use multilangd_config::Secret;

    fn keys(id: &str) -> StaticKeys {
        StaticKeys {
            access_key_id: Secret::new(id),
            secret_access_key: Secret::new("hush"),
            session_token: Some(Secret::new("token")),
        }
    }

    async fn signing_of(providers: Vec<Provider>) -> Signing {
        signing(
            &Aws::default(),
            &CredentialsChain { providers },
            &Surroundings::default(),
        )
        .await
    }

    async fn key_of(signing: Signing) -> Result<String, CredentialsError> {
        match signing {
            Signing::With(provider) => Ok(provider.provide_credentials().await?.access_key_id().to_owned()),
            Signing::Unsigned => Ok("unsigned".to_owned()),
        }
    }

    #[tokio::test]
    async fn static_keys_are_used_as_they_are() {
        assert_eq!(
            key_of(signing_of(vec![Provider::Static(keys("AKIA"))]).await)
                .await
                .unwrap(),
            "AKIA"
        );
    }

    #[tokio::test]
    async fn the_first_provider_that_has_credentials_wins() {
        let process = Provider::Process(Secret::new("echo nothing of use"));
        let signing = signing_of(vec![process, Provider::Static(keys("AKIA2"))]).await;
        assert_eq!(key_of(signing).await.unwrap(), "AKIA2");
    }

    #[tokio::test]
    async fn a_process_yields_credentials() {
        let process = Secret::new(r#"echo '{"Version":1,"AccessKeyId":"AKIA3","SecretAccessKey":"hush"}'"#);
        assert_eq!(
            key_of(signing_of(vec![Provider::Process(process)]).await)
                .await
                .unwrap(),
            "AKIA3"
        );
    }

    #[tokio::test]
    async fn anonymous_means_unsigned_unless_somebody_before_it_has_credentials() {
        let broken = Provider::Process(Secret::new("false"));
        assert_eq!(
            key_of(signing_of(vec![Provider::Anonymous]).await).await.unwrap(),
            "unsigned"
        );
        assert_eq!(
            key_of(signing_of(vec![broken, Provider::Anonymous]).await)
                .await
                .unwrap(),
            "unsigned"
        );
        let signing = signing_of(vec![Provider::Static(keys("AKIA4")), Provider::Anonymous]).await;
        assert_eq!(key_of(signing).await.unwrap(), "AKIA4");
    }

    #[tokio::test]
    async fn without_credentials_every_provider_says_why() {
        let empty = |why: &'static str| {
            provide_credentials_fn(move || async move { Err(CredentialsError::not_loaded(why)) })
        };
        let chain = Chain::new(vec![
            named("environment", empty("not set")),
            named("profile", empty("no file")),
        ]);
        let error = chain.provide_credentials().await.unwrap_err();
        assert!(matches!(error, CredentialsError::CredentialsNotLoaded(_)));
        assert_eq!(reason(&error), "environment: not set; profile: no file");
    }

    #[tokio::test]
    async fn credentials_that_were_there_once_may_come_back() {
        let calls = AtomicUsize::new(0);
        let once = provide_credentials_fn(move || {
            let first = calls.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                let credentials = Credentials::new("AKIA5", "hush", None, None, "test");
                if first {
                    Ok(credentials)
                } else {
                    Err(CredentialsError::not_loaded("gone"))
                }
            }
        });
        let chain = Chain::new(vec![named("instance metadata", once)]);
        assert!(chain.provide_credentials().await.is_ok());
        let error = chain.provide_credentials().await.unwrap_err();
        assert!(matches!(error, CredentialsError::ProviderError(_)));
    }
}
