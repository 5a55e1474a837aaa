//! Credentials providers by the names that Java gives them (properties.md 10).
//!
//! Owns the grammar of `awsCredentialsProvider` and the list of names. Never fetches credentials and never shows a
//! secret: everything secret is a [`Secret`].

use std::fmt;

use crate::keys::nearest_of;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The providers of one service, in the order in which they are asked; the first that yields credentials wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialsChain {
    /// At least one in a configuration that loaded (except with `--local`, which needs none).
    pub providers: Vec<Provider>,
}

/// A credentials provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// `DefaultCredentialsProvider`. Java asks system properties, environment, web identity, profile, container,
    /// instance metadata, in this order. System properties stand before it as a provider of their own, if there are any.
    Default,
    /// `EnvironmentVariableCredentialsProvider`.
    Environment,
    /// `SystemPropertyCredentialsProvider`: keys given as `-Daws.accessKeyId=…` and so on.
    SystemProperty(StaticKeys),
    /// `ProfileCredentialsProvider`, with the profile's name if one is given. Covers SSO, `credential_process` and
    /// `source_profile`.
    Profile(Option<String>),
    /// `InstanceProfileCredentialsProvider`: instance metadata.
    InstanceProfile,
    /// `ContainerCredentialsProvider`.
    Container,
    /// `WebIdentityTokenFileCredentialsProvider`.
    WebIdentity,
    /// `AnonymousCredentialsProvider`: requests are not signed.
    Anonymous,
    /// `StaticCredentialsProvider|accessKeyId|secretAccessKey[|sessionToken]`; ours, Java cannot build it by name.
    Static(StaticKeys),
    /// `ProcessCredentialsProvider|command`; ours, Java cannot build it by name.
    Process(Secret),
    /// `StsAssumeRoleCredentialsProvider` or `KclStsAssumeRoleCredentialsProvider`.
    AssumeRole(AssumeRole),
}

/// Fixed credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticKeys {
    /// The access key's id.
    pub access_key_id: Secret,
    /// The access key.
    pub secret_access_key: Secret,
    /// The token of temporary credentials.
    pub session_token: Option<Secret>,
}

/// A role to assume with the credentials of the default chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumeRole {
    /// The role.
    pub role_arn: String,
    /// The session's name.
    pub session_name: String,
    /// The external id, if the role wants one.
    pub external_id: Option<Secret>,
    /// `endpoint=URL^signingRegion`: STS at this URL, signed for this region.
    pub endpoint: Option<StsEndpoint>,
    /// `endpointRegion`: STS of this region. Unset: the region chain of the SDK, not `regionName`.
    pub endpoint_region: Option<String>,
}

/// Where STS is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StsEndpoint {
    /// With a scheme.
    pub url: String,
    /// The region that requests are signed for.
    pub signing_region: String,
}

impl CredentialsChain {
    /// The chain for people and logs, with everything secret masked.
    #[must_use]
    pub fn describe(&self) -> String {
        self.providers
            .iter()
            .map(Provider::describe)
            .collect::<Vec<_>>()
            .join(", then ")
    }
}

impl Provider {
    fn describe(&self) -> String {
        match self {
            Provider::Default => "default chain".to_owned(),
            Provider::Environment => "environment".to_owned(),
            Provider::SystemProperty(_) => "system properties (-Daws.accessKeyId)".to_owned(),
            Provider::Profile(None) => "profile".to_owned(),
            Provider::Profile(Some(name)) => format!("profile '{name}'"),
            Provider::InstanceProfile => "instance metadata".to_owned(),
            Provider::Container => "container".to_owned(),
            Provider::WebIdentity => "web identity".to_owned(),
            Provider::Anonymous => "anonymous".to_owned(),
            Provider::Static(_) => "static keys (***)".to_owned(),
            Provider::Process(_) => "process (***)".to_owned(),
            Provider::AssumeRole(role) => {
                let id = if role.external_id.is_some() {
                    ", external id ***"
                } else {
                    ""
                };
                format!("assume role *** as session '{}'{id}", role.session_name)
            }
        }
    }
}

/// What became of a value of `awsCredentialsProvider`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The providers that could be understood.
    pub chain: CredentialsChain,
    /// What the user should know; each names the provider it is about.
    pub warnings: Vec<String>,
    /// Why the value is refused; empty if it is not.
    pub errors: Vec<String>,
}

/// Longest piece of an unknown name that is repeated in a message, so that a secret in the wrong place is not.
const SHOWN_CHARS: usize = 80;

const KCL_PACKAGES: [&str; 2] = [
    "software.amazon.kinesis.multilang.auth.",
    "com.amazonaws.services.kinesis.multilang.auth.",
];
const V2_PACKAGES: [&str; 2] = [
    "software.amazon.awssdk.auth.credentials.",
    "software.amazon.awssdk.services.sts.auth.",
];
const V1_PACKAGE: &str = "com.amazonaws.";

/// The v2 names, as Java spells them.
const V2_NAMES: [&str; 12] = [
    "DefaultCredentialsProvider",
    "EnvironmentVariableCredentialsProvider",
    "SystemPropertyCredentialsProvider",
    "ProfileCredentialsProvider",
    "InstanceProfileCredentialsProvider",
    "ContainerCredentialsProvider",
    "WebIdentityTokenFileCredentialsProvider",
    "AnonymousCredentialsProvider",
    "StsAssumeRoleCredentialsProvider",
    "KclStsAssumeRoleCredentialsProvider",
    "ProcessCredentialsProvider",
    "StaticCredentialsProvider",
];

/// SDK v1 names and the v2 names that take their place.
const V1_NAMES: [(&str, &[&str]); 8] = [
    (
        "DefaultAWSCredentialsProviderChain",
        &["DefaultCredentialsProvider"],
    ),
    (
        "EC2ContainerCredentialsProviderWrapper",
        &[
            "ContainerCredentialsProvider",
            "InstanceProfileCredentialsProvider",
        ],
    ),
    ("ContainerCredentialsProvider", &["ContainerCredentialsProvider"]),
    (
        "WebIdentityTokenCredentialsProvider",
        &["WebIdentityTokenFileCredentialsProvider"],
    ),
    (
        "SystemPropertiesCredentialsProvider",
        &["SystemPropertyCredentialsProvider"],
    ),
    (
        "STSAssumeRoleSessionCredentialsProvider",
        &["StsAssumeRoleCredentialsProvider"],
    ),
    (
        "KclSTSAssumeRoleSessionCredentialsProvider",
        &["KclStsAssumeRoleCredentialsProvider"],
    ),
    ("ProfileCredentialsProvider", &["ProfileCredentialsProvider"]),
];

/// Reads a value of `awsCredentialsProvider`: `name|argument|…, name|…`. `system_keys` are the keys of `-D` flags.
#[must_use]
pub fn parse_chain(value: &str, system_keys: Option<&StaticKeys>) -> Chain {
    let mut result = Chain::default();
    let mut skipped: Vec<String> = Vec::new();
    for text in value
        .split(',')
        .map(crate::values::java_trim)
        .filter(|text| !text.is_empty())
    {
        let mut parts = text.split('|');
        let name = parts.next().unwrap_or_default();
        let arguments: Vec<&str> = parts.collect();
        match read_provider(name, &arguments, system_keys, &mut result.warnings) {
            Ok(providers) => result.chain.providers.extend(providers),
            Err(Rejected::Skip(reason)) => {
                skipped.push(format!("provider '{}' was skipped: {reason}", shorten(name)))
            }
            Err(Rejected::Refuse(reason)) => result.errors.push(reason),
        }
    }
    if !result.chain.providers.is_empty() || !result.errors.is_empty() {
        result.warnings.append(&mut skipped);
    } else if skipped.is_empty() {
        result.errors.push(format!(
            "no credential providers were specified; accepted are {}",
            V2_NAMES.join(", ")
        ));
    } else {
        // Compat: Java skips in silence and then says only that no credential providers were specified.
        result.errors.append(&mut skipped);
    }
    result
}

/// Why a provider is not in the chain.
enum Rejected {
    /// Java leaves it out and goes on with the next of the list.
    Skip(String),
    /// Going on without it would use other credentials than the user meant.
    Refuse(String),
}

fn shorten(name: &str) -> String {
    name.chars().take(SHOWN_CHARS).collect()
}

fn read_provider(
    name: &str,
    arguments: &[&str],
    system_keys: Option<&StaticKeys>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Provider>, Rejected> {
    let simple = KCL_PACKAGES
        .iter()
        .chain(&V2_PACKAGES)
        .find_map(|package| name.strip_prefix(package))
        .unwrap_or(name);
    if V2_NAMES.contains(&simple) {
        return build(simple, arguments, system_keys, warnings);
    }
    let v1_name = name.rsplit('.').next().unwrap_or(name);
    if name.starts_with(V1_PACKAGE) || !name.contains('.') {
        if let Some((_, counterparts)) = V1_NAMES.iter().find(|(v1, _)| *v1 == v1_name) {
            let named = counterparts.join(" and ");
            warnings.push(format!("'{name}' is the SDK v1 name; using {named}"));
            let mut providers = Vec::new();
            for counterpart in *counterparts {
                providers.extend(build(counterpart, arguments, system_keys, warnings)?);
            }
            return Ok(providers);
        }
        if matches!(
            v1_name,
            "ClasspathPropertiesFileCredentialsProvider" | "PropertiesFileCredentialsProvider"
        ) {
            return Err(Rejected::Refuse(format!(
                "credentials provider '{v1_name}' reads a Java properties file; put the keys into a profile and use ProfileCredentialsProvider"
            )));
        }
        if V2_NAMES.contains(&v1_name) {
            warnings.push(format!("'{name}' is the SDK v1 name; using {v1_name}"));
            return build(v1_name, arguments, system_keys, warnings);
        }
    }
    if simple.contains('.') {
        return Err(Rejected::Refuse(format!(
            "credentials provider '{}' is a Java class; use a profile with credential_process",
            shorten(name)
        )));
    }
    let names = V2_NAMES.iter().map(|name| (*name).to_owned());
    Err(Rejected::Skip(match nearest_of(simple, names) {
        Some(near) => format!("there is no such provider; did you mean '{near}'?"),
        None => format!(
            "there is no such provider; known are {}; in place of a Java class of your own use a profile with credential_process",
            V2_NAMES.join(", ")
        ),
    }))
}

fn build(
    name: &str,
    arguments: &[&str],
    system_keys: Option<&StaticKeys>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Provider>, Rejected> {
    let used = match name {
        "ProfileCredentialsProvider" => 1,
        "StaticCredentialsProvider" => 3,
        "ProcessCredentialsProvider"
        | "StsAssumeRoleCredentialsProvider"
        | "KclStsAssumeRoleCredentialsProvider" => usize::MAX,
        _ => 0,
    };
    if arguments.len() > used {
        warnings.push(format!(
            "provider '{name}' takes {}, the rest is ignored",
            match used {
                0 => "no argument".to_owned(),
                1 => "one argument".to_owned(),
                more => format!("{more} arguments"),
            }
        ));
    }
    let first = arguments.first().filter(|text| !text.is_empty());
    Ok(vec![match name {
        "DefaultCredentialsProvider" => {
            let system = system_keys.map(|keys| Provider::SystemProperty(keys.clone()));
            return Ok(system.into_iter().chain([Provider::Default]).collect());
        }
        "EnvironmentVariableCredentialsProvider" => Provider::Environment,
        "SystemPropertyCredentialsProvider" => Provider::SystemProperty(system_keys.cloned().ok_or_else(|| {
            Rejected::Skip(
                "there are no system properties; give -Daws.accessKeyId=… and -Daws.secretAccessKey=… or use EnvironmentVariableCredentialsProvider".to_owned(),
            )
        })?),
        "ProfileCredentialsProvider" => Provider::Profile(first.map(|name| (*name).to_owned())),
        "InstanceProfileCredentialsProvider" => Provider::InstanceProfile,
        "ContainerCredentialsProvider" => Provider::Container,
        "WebIdentityTokenFileCredentialsProvider" => Provider::WebIdentity,
        "AnonymousCredentialsProvider" => Provider::Anonymous,
        "StaticCredentialsProvider" => match arguments {
            [id, key, rest @ ..] if !id.is_empty() && !key.is_empty() => Provider::Static(StaticKeys {
                access_key_id: Secret::new(*id),
                secret_access_key: Secret::new(*key),
                session_token: rest.first().filter(|token| !token.is_empty()).map(|token| Secret::new(*token)),
            }),
            _ => return Err(Rejected::Skip("write StaticCredentialsProvider|accessKeyId|secretAccessKey".to_owned())),
        },
        "ProcessCredentialsProvider" => match first {
            Some(_) => Provider::Process(Secret::new(arguments.join("|"))),
            None => return Err(Rejected::Skip("write ProcessCredentialsProvider|command".to_owned())),
        },
        _ => Provider::AssumeRole(read_role(name, arguments, warnings)?),
    }])
}

fn read_role(name: &str, arguments: &[&str], warnings: &mut Vec<String>) -> Result<AssumeRole, Rejected> {
    let [role_arn, session_name, nested @ ..] = arguments else {
        return Err(Rejected::Skip(format!("write {name}|roleArn|sessionName")));
    };
    if role_arn.is_empty() || session_name.is_empty() {
        return Err(Rejected::Skip(format!("write {name}|roleArn|sessionName")));
    }
    let mut role = AssumeRole {
        role_arn: (*role_arn).to_owned(),
        session_name: (*session_name).to_owned(),
        external_id: None,
        endpoint: None,
        endpoint_region: None,
    };
    for text in nested {
        let Some((key, written)) = text.split_once('=').filter(|(_, value)| !value.is_empty()) else {
            warnings.push(format!("'{name}': an argument that is not key=value is ignored"));
            continue;
        };
        // Compat: Java splits at every `=`. It drops a value with `=` inside (used here as written), and cuts `=` off
        // the end (kept so, because a setup may depend on it).
        let mut value = written.trim_end_matches('=');
        if value.contains('=') {
            value = written;
            warnings.push(format!(
                "'{name}': the value of {key} contains '='; it is used as written (the Java daemon drops it)"
            ));
        } else if value.len() < written.len() {
            warnings.push(format!(
                "'{name}': '=' at the end of {key} is cut off, as in the Java daemon"
            ));
        }
        match key {
            "externalId" => role.external_id = Some(Secret::new(value)),
            "endpointRegion" if crate::values::is_region(value) => {
                role.endpoint_region = Some(value.to_owned())
            }
            "endpointRegion" => {
                return Err(Rejected::Skip(format!(
                    "endpointRegion '{value}' is not a region"
                )));
            }
            "endpoint" => role.endpoint = Some(read_endpoint(value)?),
            _ => warnings.push(format!(
                "'{name}': unsupported nested key '{}'; known are endpoint, endpointRegion and externalId",
                shorten(key)
            )),
        }
    }
    Ok(role)
}

fn read_endpoint(value: &str) -> Result<StsEndpoint, Rejected> {
    match value.split('^').collect::<Vec<_>>()[..] {
        [url, region] if !url.is_empty() && crate::values::is_region(region) => {
            let url = if url.contains("://") {
                url.to_owned()
            } else {
                format!("https://{url}")
            };
            match crate::values::endpoint(&url) {
                Ok(_) => Ok(StsEndpoint {
                    url: url.clone(),
                    signing_region: region.to_owned(),
                }),
                Err(reason) => Err(Rejected::Skip(format!("endpoint '{url}' {reason}"))),
            }
        }
        _ => Err(Rejected::Skip("write endpoint=URL^signingRegion".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn providers(value: &str) -> Vec<Provider> {
        let read = parse_chain(value, None);
        assert_eq!(read.errors, Vec::<String>::new(), "{value}");
        read.chain.providers
    }

    fn errors(value: &str) -> String {
        let read = parse_chain(value, None);
        assert!(!read.errors.is_empty(), "{value}");
        read.errors.join("\n")
    }

    fn keys() -> StaticKeys {
        StaticKeys {
            access_key_id: Secret::new("AKIA"),
            secret_access_key: Secret::new("hush"),
            session_token: None,
        }
    }

    #[test]
    fn every_java_name_becomes_a_provider() {
        for (value, provider) in [
            ("DefaultCredentialsProvider", Provider::Default),
            (
                "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider",
                Provider::Default,
            ),
            ("EnvironmentVariableCredentialsProvider", Provider::Environment),
            ("ProfileCredentialsProvider", Provider::Profile(None)),
            (
                "ProfileCredentialsProvider|dev",
                Provider::Profile(Some("dev".into())),
            ),
            ("InstanceProfileCredentialsProvider", Provider::InstanceProfile),
            ("ContainerCredentialsProvider", Provider::Container),
            ("WebIdentityTokenFileCredentialsProvider", Provider::WebIdentity),
            ("AnonymousCredentialsProvider", Provider::Anonymous),
            ("StaticCredentialsProvider|AKIA|hush", Provider::Static(keys())),
            (
                "ProcessCredentialsProvider|get-keys --a|b",
                Provider::Process(Secret::new("get-keys --a|b")),
            ),
        ] {
            assert_eq!(providers(value), [provider], "{value}");
        }
    }

    #[test]
    fn a_list_keeps_its_order_and_blanks_around_names_do_not_matter() {
        assert_eq!(
            providers(" EnvironmentVariableCredentialsProvider , ,ProfileCredentialsProvider|a "),
            [Provider::Environment, Provider::Profile(Some("a".into()))]
        );
    }

    #[test]
    fn names_of_sdk_v1_are_translated_with_a_warning() {
        let read = parse_chain("DefaultAWSCredentialsProviderChain", None);
        assert_eq!(read.chain.providers, [Provider::Default]);
        assert_eq!(
            read.warnings,
            ["'DefaultAWSCredentialsProviderChain' is the SDK v1 name; using DefaultCredentialsProvider"]
        );
        assert_eq!(
            providers("com.amazonaws.auth.EC2ContainerCredentialsProviderWrapper"),
            [Provider::Container, Provider::InstanceProfile]
        );
        assert_eq!(
            providers("com.amazonaws.auth.profile.ProfileCredentialsProvider"),
            [Provider::Profile(None)]
        );
        assert_eq!(
            providers("WebIdentityTokenCredentialsProvider"),
            [Provider::WebIdentity]
        );
        assert!(errors("ClasspathPropertiesFileCredentialsProvider").contains("profile"));
    }

    #[test]
    fn a_role_is_read_with_its_nested_keys() {
        let value = "KclStsAssumeRoleCredentialsProvider|arn:aws:iam::111122223333:role/reader|kcl-session|endpointRegion=eu-west-1|externalId=abc|endpoint=sts.example.com^eu-west-1";
        assert_eq!(
            providers(value),
            [Provider::AssumeRole(AssumeRole {
                role_arn: "arn:aws:iam::111122223333:role/reader".into(),
                session_name: "kcl-session".into(),
                external_id: Some(Secret::new("abc")),
                endpoint: Some(StsEndpoint {
                    url: "https://sts.example.com".into(),
                    signing_region: "eu-west-1".into()
                }),
                endpoint_region: Some("eu-west-1".into()),
            })]
        );
        for name in [
            "StsAssumeRoleCredentialsProvider",
            "software.amazon.awssdk.services.sts.auth.StsAssumeRoleCredentialsProvider",
            "software.amazon.kinesis.multilang.auth.KclStsAssumeRoleCredentialsProvider",
            "com.amazonaws.auth.STSAssumeRoleSessionCredentialsProvider",
            "KclSTSAssumeRoleSessionCredentialsProvider",
        ] {
            assert!(
                matches!(providers(&format!("{name}|arn|s"))[..], [Provider::AssumeRole(_)]),
                "{name}"
            );
        }
    }

    #[test]
    fn equal_signs_in_an_external_id_are_explained() {
        let id = |nested: &str| {
            let read = parse_chain(
                &format!("KclStsAssumeRoleCredentialsProvider|arn|s|{nested}"),
                None,
            );
            match &read.chain.providers[..] {
                [Provider::AssumeRole(role)] => (
                    role.external_id.as_ref().map(|id| id.reveal().to_owned()),
                    read.warnings.len(),
                ),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(id("externalId=ab"), (Some("ab".into()), 0));
        assert_eq!(id("externalId=ab=="), (Some("ab".into()), 1));
        assert_eq!(id("externalId=a=b"), (Some("a=b".into()), 1));
        assert_eq!(id("externalId="), (None, 1));
        assert_eq!(id("external=x"), (None, 1));
    }

    #[test]
    fn a_typo_in_a_list_is_skipped_with_the_right_name_and_alone_it_is_an_error() {
        let read = parse_chain(
            "EnvironmentVariableCredentialProvider,ProfileCredentialsProvider",
            None,
        );
        assert_eq!(read.chain.providers, [Provider::Profile(None)]);
        assert_eq!(
            read.warnings,
            [
                "provider 'EnvironmentVariableCredentialProvider' was skipped: there is no such provider; did you mean 'EnvironmentVariableCredentialsProvider'?"
            ]
        );
        assert!(errors("defaultCredentialsProvider").contains("did you mean 'DefaultCredentialsProvider'?"));
        assert!(errors(" , ").starts_with("no credential providers were specified"));
        assert!(errors("StsAssumeRoleCredentialsProvider|arn").contains("|roleArn|sessionName"));
        assert!(
            errors("KclStsAssumeRoleCredentialsProvider|a|s|endpoint=https://x")
                .contains("URL^signingRegion")
        );
    }

    #[test]
    fn a_java_class_is_refused_even_in_a_list() {
        assert_eq!(
            errors("org.acme.P,DefaultCredentialsProvider"),
            "credentials provider 'org.acme.P' is a Java class; use a profile with credential_process"
        );
    }

    #[test]
    fn system_properties_serve_their_own_provider_and_come_before_the_default_chain() {
        let keys = keys();
        let read = parse_chain("DefaultCredentialsProvider", Some(&keys));
        assert_eq!(
            read.chain.providers,
            [Provider::SystemProperty(keys.clone()), Provider::Default]
        );
        let read = parse_chain("SystemPropertyCredentialsProvider", Some(&keys));
        assert_eq!(read.chain.providers, [Provider::SystemProperty(keys)]);
        assert!(errors("SystemPropertyCredentialsProvider").contains("-Daws.accessKeyId"));
    }

    #[test]
    fn nothing_secret_is_ever_shown() {
        let value = "StaticCredentialsProvider|AKIA1|hush1|token1,ProcessCredentialsProvider|run hush2,KclStsAssumeRoleCredentialsProvider|arn:hush3|s|externalId=hush4=5";
        let read = parse_chain(value, None);
        let shown = format!("{read:?} {}", read.chain.describe());
        for secret in ["AKIA1", "hush1", "token1", "hush2", "hush4"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        assert!(!read.chain.describe().contains("hush3"));
    }
}
