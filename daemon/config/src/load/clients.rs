//! The clients of the SDK: regions, endpoints, credentials.
//!
//! Owns which of several keys for one thing wins. Never resolves a profile and never fetches credentials.

use super::Input;
use crate::config::{ClientConfig, Stream};
use crate::credentials::{CredentialsChain, Secret, StaticKeys, parse_chain};
use crate::keys::CLIENTS;
use crate::loaded::Origin;
use crate::settings::{Setting, Settings};
use crate::values;

// -- clients

/// The credentials keys that are not of one client, and what they give.
pub(super) struct GeneralCredentials {
    kinesis: CredentialsChain,
    dynamodb: CredentialsChain,
    cloudwatch: CredentialsChain,
    system_keys: Option<StaticKeys>,
}

pub(super) fn general_credentials(input: &Input<'_>, s: &mut Settings) -> GeneralCredentials {
    let property = |name: &str| {
        input
            .system_properties
            .get(name)
            .filter(|value| !value.is_empty())
            .map(Secret::new)
    };
    let system_keys = property("aws.accessKeyId")
        .zip(property("aws.secretAccessKey"))
        .map(|(id, key)| StaticKeys {
            access_key_id: id,
            secret_access_key: key,
            session_token: property("aws.sessionToken"),
        });
    let keys = system_keys.as_ref();
    let kinesis = general_chain(
        s,
        "awsCredentialsProvider",
        "kinesisCredentialsProvider.class",
        keys,
    );
    if kinesis.is_none() && !input.local {
        s.error_at(
            None,
            Some("awsCredentialsProvider"),
            "a basic set of AWS credentials must be provided, e.g. awsCredentialsProvider = DefaultCredentialsProvider",
        );
    }
    let kinesis = kinesis.unwrap_or_default();
    let dynamodb = general_chain(
        s,
        "awsCredentialsProviderDynamoDB",
        "dynamoDBCredentialsProvider.class",
        keys,
    );
    let cloudwatch = general_chain(
        s,
        "awsCredentialsProviderCloudWatch",
        "cloudWatchCredentialsProvider.class",
        keys,
    );
    GeneralCredentials {
        dynamodb: dynamodb.unwrap_or_else(|| kinesis.clone()),
        cloudwatch: cloudwatch.unwrap_or_else(|| kinesis.clone()),
        kinesis,
        system_keys,
    }
}

fn general_chain(
    s: &mut Settings,
    name: &str,
    class_name: &str,
    keys: Option<&StaticKeys>,
) -> Option<CredentialsChain> {
    let (list, class) = (s.setting(name), s.setting(class_name));
    let setting = match (list, class) {
        (Some(list), Some(class)) => {
            // Compat: Java stops or takes the first, by the order of a hash table.
            let (winner, loser) = if list.line < class.line {
                (list, class)
            } else {
                (class, list)
            };
            let text = format!(
                "'{}' overrides '{}' (line {})",
                winner.written, loser.written, loser.line
            );
            s.warn(&winner, text);
            winner
        }
        (list, class) => list.or(class)?,
    };
    Some(chain_of(s, &setting, name, keys))
}

fn chain_of(s: &mut Settings, setting: &Setting, name: &str, keys: Option<&StaticKeys>) -> CredentialsChain {
    let read = parse_chain(&setting.value, keys);
    for warning in read.warnings {
        s.warn(setting, format!("{}: {warning}", setting.written));
    }
    for error in read.errors {
        s.error(setting, format!("{}: {error}", setting.written));
    }
    s.record_set(name, read.chain.describe(), setting);
    read.chain
}

pub(super) fn clients(
    input: &Input<'_>,
    s: &mut Settings,
    general: &GeneralCredentials,
    stream: Option<&Stream>,
) -> [ClientConfig; 3] {
    let general_region = s.setting("regionName");
    let endpoints = ["kinesisEndpoint", "dynamoDBEndpoint", "cloudWatchEndpoint"];
    let all_overridden = CLIENTS.iter().zip(endpoints).all(|(client, endpoint)| {
        s.setting(endpoint).is_some() || s.setting(&format!("{client}.endpointOverride")).is_some()
    });
    let general_region = general_region.and_then(|setting| region(s, setting, all_overridden));
    let outside = outside_region(input);
    match (&general_region, &outside) {
        (Some(setting), _) => s.record("regionName", &setting.value, Origin::File { line: setting.line }),
        (None, Some((region, from))) => s.record("regionName", region, from.clone()),
        (None, None) => {
            let text = match stream.and_then(|stream| stream.arn.as_ref()) {
                Some(arn) => format!("({}, of streamArn, unless the profile has one)", arn.region),
                None => "(of the profile or the instance)".to_owned(),
            };
            s.record("regionName", text, Origin::Default);
        }
    }
    let general_region = general_region
        .map(|setting| setting.value)
        .or(outside.map(|(region, _)| region));
    let mut build = |index: usize, credentials: &CredentialsChain| {
        let client = CLIENTS[index];
        client_config(
            s,
            client,
            endpoints[index],
            general_region.as_deref(),
            all_overridden,
            credentials,
            general.system_keys.as_ref(),
        )
    };
    let kinesis = build(0, &general.kinesis);
    let dynamodb = build(1, &general.dynamodb);
    let cloudwatch = build(2, &general.cloudwatch);
    if let (Some(arn), Some(region)) = (stream.and_then(|stream| stream.arn.as_ref()), &kinesis.region)
        && arn.region != *region
    {
        let line = s.setting("streamArn").map(|setting| setting.line);
        s.warn_at(
            line,
            Some("streamArn"),
            format!("streamArn names {}, clients use {region}", arn.region),
        );
    }
    [kinesis, dynamodb, cloudwatch]
}

/// The region of `-D` flags and environment, in the order of the SDKs.
fn outside_region(input: &Input<'_>) -> Option<(String, Origin)> {
    let filled = |region: &String| !values::java_trim(region).is_empty();
    if let Some(region) = input
        .system_properties
        .get("aws.region")
        .filter(|region| filled(region))
    {
        return Some((region.clone(), Origin::SystemProperty("aws.region")));
    }
    // Compat: the Java SDK does not know AWS_DEFAULT_REGION; the Rust SDK and the AWS CLI do.
    ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .into_iter()
        .find_map(|variable| {
            (input.environment)(variable)
                .filter(filled)
                .map(|region| (region, Origin::Environment(variable)))
        })
}

fn region(s: &mut Settings, setting: Setting, all_overridden: bool) -> Option<Setting> {
    let trimmed = values::java_trim(&setting.value);
    if values::is_region(&setting.value) {
        return Some(setting);
    }
    if all_overridden && values::is_region(trimmed) {
        let text = format!(
            "{} = '{}' contains a blank; using '{trimmed}'",
            setting.written, setting.value
        );
        s.warn(&setting, text);
        return Some(Setting {
            value: trimmed.to_owned(),
            ..setting
        });
    }
    let reason = if trimmed.is_empty() {
        "must not be blank"
    } else {
        "cannot be part of a host name (blanks count)"
    };
    let text = format!(
        "{} = '{}' {reason}; accepted is a region such as eu-west-1",
        setting.written, setting.value
    );
    s.error(&setting, text);
    None
}

fn client_config(
    s: &mut Settings,
    client: &str,
    endpoint_name: &str,
    general_region: Option<&str>,
    all_overridden: bool,
    general_credentials: &CredentialsChain,
    system_keys: Option<&StaticKeys>,
) -> ClientConfig {
    let name = |leaf: &str| format!("{client}.{leaf}");
    let own_region = s
        .setting(&name("region"))
        .and_then(|setting| region(s, setting, all_overridden));
    if let Some(setting) = &own_region {
        s.record_set(&name("region"), &setting.value, setting);
        overriding(s, setting, "regionName");
    }
    let own_endpoint = s.url(&name("endpointOverride"));
    let general_endpoint = s.url(endpoint_name);
    if let Some(setting) = &own_endpoint {
        s.record_set(&name("endpointOverride"), &setting.value, setting);
        overriding(s, setting, endpoint_name);
    }
    if general_endpoint.is_some() || own_endpoint.is_none() {
        s.record_optional(
            endpoint_name,
            general_endpoint
                .as_ref()
                .map(|setting| (setting.value.clone(), setting)),
        );
    }
    let credentials = match s.setting(&name("credentialsProvider.class")) {
        Some(setting) => chain_of(s, &setting, &name("credentialsProvider.class"), system_keys),
        None => general_credentials.clone(),
    };
    let mut timeout = |leaf: &str| {
        let name = name(leaf);
        let found = s.duration(&name);
        if let Some((_, setting)) = &found {
            s.record_set(&name, &setting.value, setting);
        }
        found.map(|(duration, _)| duration)
    };
    let call_timeout = timeout("overrideConfiguration.apiCallTimeout");
    let attempt_timeout = timeout("overrideConfiguration.apiCallAttemptTimeout");
    let mut flag = |leaf: &str| {
        let name = name(leaf);
        let found = s.optional_flag(&name);
        if let Some((value, setting)) = &found {
            s.record_set(&name, value, setting);
        }
        found.map(|(value, _)| value)
    };
    let fips = flag("fipsEnabled");
    let dualstack = flag("dualstackEnabled");
    let profile = s.filled_text(&name("overrideConfiguration.defaultProfileName"));
    if let Some(setting) = &profile {
        s.record_set(
            &name("overrideConfiguration.defaultProfileName"),
            &setting.value,
            setting,
        );
    }
    ClientConfig {
        region: own_region
            .map(|setting| setting.value)
            .or_else(|| general_region.map(str::to_owned)),
        endpoint: own_endpoint.or(general_endpoint).map(|setting| setting.value),
        fips,
        dualstack,
        call_timeout,
        attempt_timeout,
        profile: profile.map(|setting| setting.value),
        credentials,
    }
}

/// Compat: Java applies the two in the order of a hash table; here the specific one wins.
fn overriding(s: &mut Settings, specific: &Setting, general: &str) {
    if let Some(other) = s.setting(general)
        && other.value != specific.value
    {
        s.info(
            specific,
            format!(
                "'{}' overrides '{general}' (line {})",
                specific.written, other.line
            ),
        );
    }
}
