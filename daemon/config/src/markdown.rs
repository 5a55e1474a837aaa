//! `docs/CONFIGURATION.md`, made from the table of keys.
//!
//! Owns the page's text around the table. Never says anything about a single key that the table does not say.

use std::fmt::Write as _;

use crate::keys::{Fallback, Key, SECTIONS, Type, Verdict};

/// The page. A test compares it with the file.
#[must_use]
pub fn configuration_markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for section in SECTIONS {
        let _ = write!(page, "\n### {}\n\n", section.title);
        if !section.intro.is_empty() {
            let _ = write!(page, "{}\n\n", section.intro);
        }
        if section.keys.iter().all(|key| key.kind == Type::Object) {
            page.push_str("| Key | Instead |\n| --- | --- |\n");
            for key in section.keys {
                let _ = writeln!(page, "| {} | {} |", name(key), key.about);
            }
        } else {
            page.push_str("| Key | Type | Default | | What it is for |\n| --- | --- | --- | --- | --- |\n");
            for key in section.keys {
                let (kind, default) = (kind(key.kind), default(key));
                let _ = writeln!(
                    page,
                    "| {} | {kind} | {default} | {} | {} |",
                    name(key),
                    mark(key.verdict),
                    about(key)
                );
            }
        }
    }
    page.push_str(CREDENTIALS);
    page
}

fn name(key: &Key) -> String {
    let mut text = format!("`{}`", key.name);
    if let Some(alias) = key.alias {
        let _ = write!(text, ", `{alias}`");
    }
    text
}

fn about(key: &Key) -> String {
    match key.bean {
        Some(bean) => format!("{}; also `{bean}.{}`", key.about, key.name),
        None => key.about.to_owned(),
    }
}

fn kind(kind: Type) -> String {
    let accepted = |names: &[&str]| {
        names
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    match kind {
        Type::Int => "int".to_owned(),
        Type::Long => "long".to_owned(),
        Type::Double => "double".to_owned(),
        Type::IntObject => "Integer".to_owned(),
        Type::LongObject => "Long".to_owned(),
        Type::Boolean => "boolean".to_owned(),
        Type::BooleanObject => "Boolean".to_owned(),
        Type::Text => "text".to_owned(),
        Type::Constant(names) => format!("{} (any case)", accepted(names)),
        Type::ExactConstant(names) => accepted(names),
        Type::Duration => "duration".to_owned(),
        Type::Tags => "tags".to_owned(),
        Type::List => "list".to_owned(),
        Type::Url => "URL".to_owned(),
        Type::Region => "region".to_owned(),
        Type::StrictInt => "int, strict".to_owned(),
        Type::EpochSeconds => "seconds, strict".to_owned(),
        Type::Credentials => "providers".to_owned(),
        Type::CredentialsClass => "provider".to_owned(),
        Type::Object => "–".to_owned(),
        Type::Count(least, most) => format!("{least} … {most}"),
        Type::Switch => "`true`, `false`".to_owned(),
    }
}

fn default(key: &Key) -> String {
    match key.default {
        Fallback::Number(number) => number.to_string(),
        Fallback::Fraction(number) => number.to_string(),
        Fallback::Flag(flag) => flag.to_string(),
        Fallback::Text(text) => format!("`{text}`"),
        Fallback::Unset(text) => text.to_owned(),
        Fallback::Required if key.name.contains("Credentials") => {
            "**required** (not with `--local`)".to_owned()
        }
        Fallback::Required => "**required**".to_owned(),
    }
}

fn mark(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Honoured => "as Java",
        Verdict::Translated => "differs",
        Verdict::NoEffect => "no effect",
        Verdict::NoEffectInJavaEither | Verdict::FromKcl1 => "no effect, as Java",
        Verdict::Refused => "refused",
        Verdict::New => "new",
    }
}

const INTRODUCTION: &str = r"# Configuration

multilangd reads the `.properties` file of the Java MultiLangDaemon: the same keys, the same text with the same meaning.
What the Java daemon replaces or ignores in silence is said once in the log. To see what a file means, where each value
comes from and everything that is wrong with it:

    multilangd validate APP.properties

It exits with 0, or with 78 if the daemon would not start.

<!-- Generated from the table in daemon/config/src/keys.rs. Do not edit; run
     cargo run -p multilangd-config --example configuration_md > docs/CONFIGURATION.md -->

## An example

```properties
# The program: one process per shard. Split at spaces; no quotes needed or understood.
executableName = python3 word_count.py
# Names the lease table and the metrics.
applicationName = word-count
streamName = words
awsCredentialsProvider = DefaultCredentialsProvider
regionName = eu-west-1
# Used only for shards that have no lease yet.
initialPositionInStream = TRIM_HORIZON
# Say it: the Java daemon's default is enhanced fan-out, which costs extra.
retrievalMode = POLLING
# A name that stays the same over restarts lets the daemon continue at once.
workerId = worker-1
```

On a laptop, without AWS: `multilangd run --local APP.properties`. Credentials, region and endpoints are not needed then.

## What wins over what

* Options of the command line win over the file: `--log-level`, then the level of a logback file given with `-l`, then
  `logLevel`; `--log-format`, then `logFormat`. The environment variable `MULTILANGD_LOG` wins over all levels.
* In the file, the last of several lines with the same key counts. The more specific key wins over the general one:
  `kinesisClient.region` over `regionName`, `pollingConfig.maxRecords` over `maxRecords`, `streamArn` over `streamName`.
  (In the Java daemon most such conflicts are decided by the order of a hash table.)
* No key can be set through the environment or `-D`. The environment gives what the AWS SDKs read from it: region,
  profile, credentials, `AWS_ENDPOINT_URL…`, `AWS_CA_BUNDLE`. When multilangd is started in the place of `java`, `-Daws.region`,
  `-Daws.accessKeyId`, `-Daws.secretAccessKey` and `-Daws.sessionToken` are read too.
* In the place of `java` the file is searched in the directories of the class path first, then in the working directory.

## How the file is read

The rules are those of `java.util.Properties`:

* The encoding is ISO-8859-1; any other character is written `\uXXXX`. No byte order mark.
* `key = value`, `key: value` and `key value` are equal. Blanks at the end of a value belong to it.
* A line that begins with `#` or `!` is a comment. Nothing after a value is: `maxRecords = 100 # small` is no number.
* A `\` begins an escape, so a backslash is written `\\`. At the end of a line it continues the line.
* Keys are matched exactly, capitals included; only `awsCredentialsProvider…` may begin in any case. An unknown key
  gives one warning with the nearest known name.

## How values are read

| Type | Accepted | Anything else |
| --- | --- | --- |
| int, long, double | a decimal number, blanks around it allowed | a warning, and the default; **0 counts as not set** |
| Integer, Long | the same | a warning, and 0 |
| boolean | `true yes y on 1`, `false no n off 0` in any case, no blank behind it | a warning, and false; **false counts as not set** |
| Boolean | the same | a warning, and false |
| names in capitals | one of the names, no blank behind it | an error |
| text | as it is: quotes are kept, blanks at the end too | – |
| duration | ISO-8601: `PT30S`, `PT12H`, `P1D` | an error |
| list | separated by commas or blanks | – |
| tags | `key=value,key2=value2` | – |
| URL | `http://…` or `https://…` | an error |
| region | anything that can be part of a host name | an error |
| int, seconds, strict | a whole number without blanks | an error |
| a range (keys of multilangd) | a whole number in it | an error |

An error names the file, the line, the key, the value and what is accepted; all errors are reported in one run.

## Keys

The fourth column compares with the Java daemon 3.5.1: *as Java*; *differs*, as the description says, or is reached by
other means; *no effect*: accepted, there is nothing here for it to change;
*refused*: the file is not accepted; *new*: a key of multilangd, which the Java daemon ignores.
";

const CREDENTIALS: &str = r"
## Credentials

```
awsCredentialsProvider = PROVIDER, PROVIDER …     asked in this order, the first that yields credentials wins
PROVIDER               = Name|argument|argument
```

| Provider | Credentials from |
| --- | --- |
| `DefaultCredentialsProvider` | `-D` flags, environment, web identity, profile, container, instance metadata |
| `EnvironmentVariableCredentialsProvider` | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` |
| `SystemPropertyCredentialsProvider` | `-Daws.accessKeyId`, `-Daws.secretAccessKey`, `-Daws.sessionToken` |
| `ProfileCredentialsProvider`, `ProfileCredentialsProvider\|name` | a profile: keys, SSO, `credential_process`, `source_profile` |
| `WebIdentityTokenFileCredentialsProvider` | `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_ROLE_ARN` (EKS) |
| `ContainerCredentialsProvider` | the container's endpoint (ECS, EKS pod identity) |
| `InstanceProfileCredentialsProvider` | instance metadata (EC2) |
| `AnonymousCredentialsProvider` | none; requests are not signed |
| `StsAssumeRoleCredentialsProvider\|roleArn\|sessionName` and `KclStsAssumeRoleCredentialsProvider\|…` | a role, assumed with the default chain |
| `StaticCredentialsProvider\|accessKeyId\|secretAccessKey`, with `\|sessionToken` | the file itself (new; only for tests) |
| `ProcessCredentialsProvider\|command` | a program's output, as `credential_process` (new; the command cannot hold a comma) |

A role takes further arguments: `externalId=…`, `endpointRegion=eu-west-1` (STS of this region; without it the region is
searched as the SDK does, `regionName` is not used) and `endpoint=URL^signingRegion`:

    awsCredentialsProvider = KclStsAssumeRoleCredentialsProvider|arn:aws:iam::111122223333:role/reader|session|externalId=abc

Full Java class names are understood as well as short ones. Names of the SDK v1, such as
`DefaultAWSCredentialsProviderChain`, are translated with a warning. A provider that is misspelt is skipped with a warning
if another of the list can be used, as in the Java daemon. A Java class of your own cannot be run: put its logic into a
program and use it as `credential_process` of a profile.

Secrets, external ids and role ARNs are never logged or printed.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/CONFIGURATION.md");

    #[test]
    fn the_page_in_docs_is_the_one_made_from_the_table() {
        let page = std::fs::read_to_string(PAGE).unwrap_or_default();
        assert!(
            page == configuration_markdown(),
            "docs/CONFIGURATION.md is out of date; run\n  cargo run -p multilangd-config --example configuration_md > docs/CONFIGURATION.md"
        );
    }

    #[test]
    fn every_key_is_on_the_page() {
        let page = configuration_markdown();
        for key in keys::keys() {
            assert!(page.contains(&format!("`{}`", key.name)), "{}", key.name);
        }
    }

    #[test]
    fn no_cell_breaks_its_table() {
        for line in configuration_markdown()
            .lines()
            .filter(|line| line.starts_with('|'))
        {
            assert!(line.ends_with('|'), "{line}");
        }
        for key in keys::keys() {
            assert!(!key.about.contains('|') && !key.about.is_empty(), "{}", key.name);
        }
    }
}
