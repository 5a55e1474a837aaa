//! The command line: as `multilangd`, and posing as `java` for the launchers of the official clients.
//!
//! Owns commands, options and their texts (help, errors). Never opens a file except `@file`, through a closure.
//!
//! Compat: options, `@file` and the meaning of a positional are those of the Java daemon (protocol.md 11.1). Its odd
//! treatment of unknown options, as one more properties file, is an error here that names the nearest option.

mod help;
mod words;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use self::help::{Topic, help, java_version};
use self::words::{Opt, Words, scan};
use crate::config::{LogFormat, LogLevel};
use crate::values;

/// The class that launchers of KCL 2.x and 3.x start.
const MAIN_CLASS: &str = "software.amazon.kinesis.multilang.MultiLangDaemon";
/// The class that launchers of KCL 1.x start.
const MAIN_CLASS_V1: &str = "com.amazonaws.services.kinesis.multilang.MultiLangDaemon";

/// Where local services keep their data unless told otherwise, relative to the working directory.
pub const DATA_DIRECTORY: &str = ".multilangd";

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invocation {
    /// Consume a stream.
    Run(Run),
    /// Show what a properties file means.
    Validate(Validate),
    /// Run the local Kinesis and DynamoDB alone.
    Local(Local),
    /// Write lines to a stream.
    Put(Put),
    /// Print [`help`] on stdout.
    Help(Topic),
    /// Print the version on stdout.
    Version,
    /// Print [`java_version`] on stderr and exit with 0: a launcher asks whether `java` works.
    JavaVersion,
}

/// `multilangd [run] APP.properties`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Which file.
    pub properties: PropertiesName,
    /// The log.
    pub log: LogOptions,
    /// `--local`: the services to start in the process.
    pub local: Option<LocalServices>,
    /// What the user should know about the command line.
    pub warnings: Vec<String>,
}

/// `multilangd validate APP.properties`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validate {
    /// Which file.
    pub properties: PropertiesName,
    /// `--local`: credentials are not required.
    pub local: bool,
    /// What the user should know about the command line.
    pub warnings: Vec<String>,
}

/// `multilangd local`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// The services.
    pub services: LocalServices,
    /// The log.
    pub log: LogOptions,
}

/// `multilangd put STREAM [FILE]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    /// The stream's name.
    pub stream: String,
    /// The lines; `None`: stdin.
    pub file: Option<PathBuf>,
    /// One key for all records; `None`: a random one for each.
    pub partition_key: Option<String>,
    /// A properties file to take region, endpoint and credentials from.
    pub properties: Option<PropertiesName>,
    /// Where Kinesis is.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Most records per second.
    pub records_per_second_max: Option<u32>,
    /// `--local`: the service that runs in this directory.
    pub local: bool,
    /// The log.
    pub log: LogOptions,
}

/// Which properties file, and what a `java` command line says about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertiesName {
    /// As written.
    pub name: String,
    /// Directories and jars of the class path; see [`crate::find_properties`].
    pub class_path: Vec<PathBuf>,
    /// The `-D` flags.
    pub system_properties: BTreeMap<String, String>,
}

/// What the command line says about the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// `--log-format` or `--json`.
    pub format: Option<LogFormat>,
    /// `--log-level`.
    pub level: Option<LogLevel>,
    /// `-l`: a logback file; see [`crate::read_logback`].
    pub configuration: Option<PathBuf>,
}

/// The local Kinesis and DynamoDB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalServices {
    /// Where they keep their data.
    pub data: Data,
    /// 0: a free one.
    pub kinesis_port: u16,
    /// 0: a free one.
    pub dynamodb_port: u16,
    /// `--limits aws`: the limits of the real Kinesis per shard.
    pub aws_limits: bool,
    /// `--subscription-life`: seconds after which a subscription of enhanced fan-out ends; `None`: as AWS.
    pub subscription_life_secs: Option<u32>,
}

/// Where local services keep their data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// In this directory.
    Directory(PathBuf),
    /// Nowhere.
    Memory,
}

impl Default for Data {
    fn default() -> Data {
        Data::Directory(PathBuf::from(DATA_DIRECTORY))
    }
}

/// A command line that asks for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub(crate) String);

const PROPERTIES: &[Opt] = &[
    Opt::value(&["-p", "--properties-file"]),
    Opt::value(&["-cp", "-classpath", "--class-path"]),
];
const LOG: &[Opt] = &[
    Opt::value(&["-l", "--log-configuration"]),
    Opt::value(&["--log-format"]),
    Opt::value(&["--log-level"]),
    Opt::flag(&["--json"]),
];
const LOCAL: &[Opt] = &[Opt::flag(&["--local"])];
const SERVICES: &[Opt] = &[
    Opt::flag(&["--memory"]),
    Opt::value(&["--data"]),
    Opt::value(&["--limits"]),
    Opt::value(&["--subscription-life"]),
    Opt::value(&["--kinesis-port"]),
    Opt::value(&["--dynamodb-port"]),
];
const PUT: &[Opt] = &[
    Opt::value(&["--partition-key"]),
    Opt::value(&["-p", "--properties", "--properties-file"]),
    Opt::value(&["--endpoint"]),
    Opt::value(&["--region"]),
    Opt::value(&["--rate"]),
];
const COMMANDS: [&str; 5] = ["run", "validate", "local", "put", "help"];

/// Reads a command line without the program's name. `read` opens the files of `@file` arguments.
///
/// # Errors
/// One line that says what is wrong, and what may have been meant.
pub fn parse(
    arguments: &[String],
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Invocation, UsageError> {
    let arguments = words::expand(arguments, read)?;
    let main_class = arguments
        .iter()
        .position(|word| word == MAIN_CLASS || word == MAIN_CLASS_V1);
    let (java, own) = match main_class {
        Some(index) => (words::java_options(&arguments[..index])?, &arguments[index + 1..]),
        None => (words::JavaOptions::default(), &arguments[..]),
    };
    if java.version || main_class.is_none() && own.iter().any(|word| words::asks_java_version(word)) {
        return Ok(Invocation::JavaVersion);
    }
    let command = own
        .first()
        .map(String::as_str)
        .filter(|word| main_class.is_none() && COMMANDS.contains(word));
    let rest = if command.is_some() { &own[1..] } else { own };
    let topic = command.map_or(Topic::General, Topic::of);
    if command == Some("help") {
        return Ok(Invocation::Help(
            rest.first().map_or(Topic::General, |word| Topic::of(word)),
        ));
    }
    let groups: &[&[Opt]] = match command {
        None | Some("run") => &[PROPERTIES, LOG, LOCAL, SERVICES],
        Some("validate") => &[PROPERTIES, LOG, LOCAL],
        Some("local") => &[SERVICES, LOG],
        _ => &[PUT, LOCAL, LOG],
    };
    let mut words = scan(rest, &groups.concat())?;
    if words.help {
        return Ok(Invocation::Help(topic));
    }
    if words.version {
        return Ok(Invocation::Version);
    }
    words.add(java);
    match command {
        Some("validate") => validate(words).map(Invocation::Validate),
        Some("local") => local(&words).map(Invocation::Local),
        Some("put") => put(words).map(Invocation::Put),
        _ => run(words).map(Invocation::Run),
    }
}

fn run(mut words: Words) -> Result<Run, UsageError> {
    let mut warnings = Vec::new();
    let properties = properties(&mut words, &mut warnings)?;
    let services = services(&words)?;
    let local = words.has("--local");
    if !local && let Some(option) = SERVICES.iter().find(|option| words.has(option.names[0])) {
        return Err(UsageError(format!("{} needs --local", option.names[0])));
    }
    Ok(Run {
        properties,
        log: log(&words)?,
        local: local.then_some(services),
        warnings,
    })
}

fn validate(mut words: Words) -> Result<Validate, UsageError> {
    let mut warnings = Vec::new();
    let properties = properties(&mut words, &mut warnings)?;
    Ok(Validate {
        properties,
        local: words.has("--local"),
        warnings,
    })
}

fn local(words: &Words) -> Result<Local, UsageError> {
    if let Some(word) = words.positionals.first() {
        return Err(UsageError(format!(
            "local takes no file, but there is '{word}'; did you mean 'run --local {word}'?"
        )));
    }
    Ok(Local {
        services: services(words)?,
        log: log(words)?,
    })
}

fn put(mut words: Words) -> Result<Put, UsageError> {
    let mut positionals = std::mem::take(&mut words.positionals).into_iter();
    let stream = positionals
        .next()
        .ok_or_else(|| UsageError("put needs the name of a stream: put STREAM [FILE]".into()))?;
    let file = positionals.next().filter(|file| file != "-").map(PathBuf::from);
    if let Some(word) = positionals.next() {
        return Err(UsageError(format!(
            "put takes a stream and a file, but there is also '{word}'"
        )));
    }
    let endpoint = words.value("--endpoint");
    if let Some(url) = &endpoint {
        values::endpoint(url).map_err(|reason| UsageError(format!("--endpoint '{url}' {reason}")))?;
    }
    let local = words.has("--local");
    if local && endpoint.is_some() {
        return Err(UsageError("--local and --endpoint exclude each other".into()));
    }
    Ok(Put {
        stream,
        file,
        partition_key: words.value("--partition-key"),
        properties: words.value("-p").map(|name| words.properties_name(name)),
        endpoint,
        region: words.value("--region"),
        records_per_second_max: words.number("--rate", 1..=u32::MAX)?,
        local,
        log: log(&words)?,
    })
}

fn properties(words: &mut Words, warnings: &mut Vec<String>) -> Result<PropertiesName, UsageError> {
    let positionals = std::mem::take(&mut words.positionals);
    if let [first, _, ..] = &positionals[..] {
        let java = words.java_like && looks_like_a_class(first);
        return Err(UsageError(if java {
            not_our_class(first)
        } else {
            several(&positionals)
        }));
    }
    let positional = positionals.into_iter().next();
    if words.java_like && positional.as_deref().is_some_and(looks_like_a_class) {
        return Err(UsageError(not_our_class(&positional.unwrap_or_default())));
    }
    let option = words.value("-p");
    if option.is_some() && positional.is_some() {
        warnings.push("overriding the properties file with the --properties-file option".to_owned());
    }
    match option.or(positional) {
        Some(name) => Ok(words.properties_name(name)),
        None => Err(UsageError(
            "properties file missing, please provide a properties file".into(),
        )),
    }
}

fn several(positionals: &[String]) -> String {
    let names = COMMANDS.iter().map(|command| (*command).to_owned());
    let hint = match crate::keys::nearest_of(&positionals[0], names) {
        Some(command) => format!("; did you mean the command '{command}'?"),
        None => String::new(),
    };
    format!(
        "expected a single argument, but found multiple arguments: {}{hint}",
        positionals.join(", ")
    )
}

fn not_our_class(class: &str) -> String {
    format!("this is multilangd in the place of java; it runs {MAIN_CLASS} only, not '{class}'")
}

/// `com.example.Main`: dotted, no path, a capital after the last dot.
fn looks_like_a_class(word: &str) -> bool {
    word.rsplit_once('.').is_some_and(|(package, name)| {
        !package.is_empty() && !word.contains('/') && name.starts_with(|c: char| c.is_ascii_uppercase())
    })
}

fn log(words: &Words) -> Result<LogOptions, UsageError> {
    let mut format = match words.value("--log-format") {
        None => None,
        Some(text) => Some(
            LogFormat::parse(&text)
                .ok_or_else(|| UsageError(format!("--log-format '{text}': accepted are text and json")))?,
        ),
    };
    if words.has("--json") {
        if format == Some(LogFormat::Text) {
            return Err(UsageError(
                "--json and --log-format text exclude each other".into(),
            ));
        }
        format = Some(LogFormat::Json);
    }
    let level = match words.value("--log-level") {
        None => None,
        Some(text) => Some(LogLevel::parse(&text).ok_or_else(|| {
            UsageError(format!(
                "--log-level '{text}': accepted are off, error, warn, info, debug and trace"
            ))
        })?),
    };
    Ok(LogOptions {
        format,
        level,
        configuration: words.value("-l").map(PathBuf::from),
    })
}

fn services(words: &Words) -> Result<LocalServices, UsageError> {
    let data = match (words.has("--memory"), words.value("--data")) {
        (true, Some(_)) => return Err(UsageError("--memory and --data exclude each other".into())),
        (true, None) => Data::Memory,
        (false, Some(directory)) => Data::Directory(PathBuf::from(directory)),
        (false, None) => Data::default(),
    };
    let aws_limits = match words.value("--limits").as_deref() {
        None | Some("none") => false,
        Some("aws") => true,
        Some(text) => {
            return Err(UsageError(format!(
                "--limits '{text}': accepted are aws and none"
            )));
        }
    };
    let kinesis_port = words.number("--kinesis-port", 0..=65_535)?.unwrap_or(0);
    let dynamodb_port = words.number("--dynamodb-port", 0..=65_535)?.unwrap_or(0);
    if kinesis_port != 0 && kinesis_port == dynamodb_port {
        return Err(UsageError(
            "--kinesis-port and --dynamodb-port must differ".into(),
        ));
    }
    Ok(LocalServices {
        data,
        kinesis_port: u16::try_from(kinesis_port).unwrap_or(0),
        dynamodb_port: u16::try_from(dynamodb_port).unwrap_or(0),
        aws_limits,
        subscription_life_secs: words.number("--subscription-life", 1..=86_400)?,
    })
}

#[cfg(test)]
mod tests;
