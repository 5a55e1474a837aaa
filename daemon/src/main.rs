//! The program `multilangd`: arguments, wiring, exit code.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use multilangd_config::invocation::{
    LogOptions, PropertiesName, Put, Run, Validate, help, java_version, parse,
};
use multilangd_config::{
    Config, EXIT_CODE_CONFIGURATION, EXIT_CODE_INVALID, Input, Invocation, Loaded, LogFormat, Severity,
    find_properties, load, read_logback, render_validation,
};
use multilangd_daemon::aws::client::{Aws, ServiceSettings, Signing, UserAgent};
use multilangd_daemon::aws::credentials::{Surroundings, dummy, signing};
use multilangd_daemon::endpoints::{self, Endpoints, Found};
use multilangd_daemon::logs::{self, Format};
use multilangd_daemon::memory;
use multilangd_daemon::put::{self, Target};
use multilangd_daemon::run::{find_program, run};
use multilangd_daemon::signals::Signals;
use multilangd_daemon::worlds;
use multilangd_engine::clock::Clock;
use tracing::{error, info, warn};

/// A record of 1 KB costs our Node client four times what it costs the daemon, and our Python client ten times
/// (`docs/BENCHMARKS.md`): the other cores are the children's.
const CORES_PER_THREAD: usize = 4;
/// More threads than this only cost memory.
const THREADS_MAX: usize = 4;

/// How often memory that a peak has left is looked for.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    memory::keep_for_the_next_batch();
    let arguments: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let code = match parse(&arguments, &|path| std::fs::read(path)) {
        Ok(invocation) => start(invocation),
        Err(error) => {
            complain(&format!("{error}; see multilangd --help"));
            EXIT_CODE_CONFIGURATION
        }
    };
    ExitCode::from(code)
}

fn start(invocation: Invocation) -> u8 {
    match invocation {
        Invocation::Run(arguments) => run_command(&arguments),
        Invocation::Validate(arguments) => validate_command(&arguments),
        Invocation::Local(arguments) => local_command(&arguments),
        Invocation::Put(arguments) => put_command(&arguments),
        Invocation::Help(topic) => print(help(topic)),
        Invocation::Version => print(concat!("multilangd ", env!("CARGO_PKG_VERSION"), "\n")),
        Invocation::JavaVersion => {
            let _ = std::io::stderr().write_all(java_version(env!("CARGO_PKG_VERSION")).as_bytes());
            0
        }
    }
}

fn run_command(arguments: &Run) -> u8 {
    let loaded = match read_properties(&arguments.properties, arguments.local.is_some()) {
        Ok(loaded) => loaded,
        Err(reason) => return refuse(&reason),
    };
    if let Err(reason) = start_logs(
        &arguments.log,
        &arguments.properties.system_properties,
        loaded.config.as_ref(),
    ) {
        return refuse(&reason);
    }
    arguments.warnings.iter().for_each(|warning| warn!("{warning}"));
    report(&loaded);
    if let Err(reason) = find_program(&loaded) {
        error!("{reason}");
        return EXIT_CODE_CONFIGURATION;
    }
    let Some(config) = loaded.config else {
        return EXIT_CODE_CONFIGURATION;
    };
    raise_open_files_limit();
    in_runtime(config.threads, async |signals| {
        let Some(services) = &arguments.local else {
            return run(&config, None, signals).await;
        };
        run_locally(&config, services, signals).await
    })
}

#[cfg(feature = "local")]
async fn run_locally(
    config: &Config,
    services: &multilangd_config::invocation::LocalServices,
    signals: &mut Signals,
) -> u8 {
    use multilangd_daemon::local::{Local, hint, options};
    let local = match Local::start(options(services)).await {
        Ok(local) => local,
        Err(error) => {
            error!("{error}");
            return EXIT_CODE_CONFIGURATION;
        }
    };
    let stream = &config.stream.name;
    let code = match local.make_stream(stream, config.local_shards).await {
        Ok(()) => {
            let endpoints = local.endpoints().clone();
            for example in hint(&endpoints, stream) {
                info!("to put a record: {example}");
            }
            run(config, Some(&endpoints), signals).await
        }
        Err(error) => {
            error!("{error}");
            EXIT_CODE_CONFIGURATION
        }
    };
    local.stop().await;
    code
}

#[cfg(feature = "local")]
fn local_command(arguments: &multilangd_config::invocation::Local) -> u8 {
    use multilangd_daemon::local::{options, serve};
    if let Err(reason) = start_logs(&arguments.log, &BTreeMap::new(), None) {
        return refuse(&reason);
    }
    in_runtime(None, async |signals| {
        match serve(options(&arguments.services), signals).await {
            Ok(code) => code,
            Err(error) => {
                error!("{error}");
                EXIT_CODE_CONFIGURATION
            }
        }
    })
}

#[cfg(not(feature = "local"))]
async fn run_locally(_: &Config, _: &multilangd_config::invocation::LocalServices, _: &mut Signals) -> u8 {
    refuse(WITHOUT_LOCAL)
}

#[cfg(not(feature = "local"))]
fn local_command(_: &multilangd_config::invocation::Local) -> u8 {
    refuse(WITHOUT_LOCAL)
}

#[cfg(not(feature = "local"))]
const WITHOUT_LOCAL: &str = "this multilangd was built without its local services (feature 'local')";

fn validate_command(arguments: &Validate) -> u8 {
    arguments.warnings.iter().for_each(|warning| complain(warning));
    match read_properties(&arguments.properties, arguments.local) {
        Ok(loaded) => {
            print(&render_validation(&loaded));
            // Not an error of the file: the program may be there where it will run.
            if let Err(reason) = find_program(&loaded) {
                complain(&reason);
            }
            if loaded.config.is_some() {
                0
            } else {
                EXIT_CODE_INVALID
            }
        }
        Err(reason) => {
            complain(&reason);
            EXIT_CODE_INVALID
        }
    }
}

fn put_command(arguments: &Put) -> u8 {
    if let Err(reason) = start_logs(&arguments.log, &BTreeMap::new(), None) {
        return refuse(&reason);
    }
    let input: Box<dyn Read + Send> = match &arguments.file {
        Some(path) => match File::open(path) {
            Ok(file) => Box::new(file),
            Err(error) => return refuse(&format!("cannot read {}: {error}", path.display())),
        },
        None => Box::new(std::io::stdin()),
    };
    in_runtime(None, async |signals| {
        let target = match put_target(arguments).await {
            Ok(target) => target,
            Err(reason) => return refuse(&reason),
        };
        let began = Instant::now();
        let mut signal = None;
        let stop = async { signal = Some(signals.next().await) };
        let (summary, result) = put::put(&target, input, &Clock::real(), stop).await;
        complain(&put::describe(&summary, &target.stream, began.elapsed()));
        match (result, signal) {
            (Err(error), _) => refuse(&error.to_string()),
            (Ok(()), Some(signal)) => signal.exit_code(),
            (Ok(()), None) => 0,
        }
    })
}

/// Where `put` puts: `--endpoint`, else what the properties say, else the local services of this directory, else the real
/// service.
async fn put_target(arguments: &Put) -> Result<Target, String> {
    let config = match &arguments.properties {
        Some(name) => Some(put_config(name)?),
        None => None,
    };
    let said = arguments.endpoint.is_some()
        || config
            .as_ref()
            .is_some_and(|config| config.kinesis.endpoint.is_some());
    let local = if said && !arguments.local {
        None
    } else {
        local_endpoints(arguments.local)?
    };
    let aws = Aws::from_env().map_err(|error| error.to_string())?;
    let mut settings = match &config {
        Some(config) => worlds::settings(&config.kinesis, config.region_of_last_resort()),
        None => ServiceSettings::default(),
    };
    if let Some(region) = &arguments.region {
        settings.region = Some(region.clone());
    }
    let surroundings = Surroundings {
        profile: settings.profile.clone(),
        region_fallback: settings
            .region
            .clone()
            .or_else(|| settings.region_fallback.clone()),
    };
    let signing = match (&local, &config) {
        (Some(endpoints), _) => {
            settings.region = settings.region.or_else(|| Some(endpoints.region.clone()));
            settings.endpoint = Some(endpoints.kinesis.clone());
            dummy()
        }
        (None, Some(config)) => signing(&aws, &config.kinesis.credentials, &surroundings).await,
        (None, None) => default_signing(&aws, &surroundings).await,
    };
    if let Some(endpoint) = &arguments.endpoint {
        settings.endpoint = Some(endpoint.clone());
    }
    let service = aws
        .service("Kinesis", &settings, &signing)
        .await
        .map_err(|error| error.to_string())?;
    Ok(Target {
        client: service.kinesis(put::REQUEST_TIMEOUT, &UserAgent::default()),
        place: service.place,
        stream: arguments.stream.clone(),
        partition_key: arguments.partition_key.clone(),
        records_per_second_max: arguments.records_per_second_max,
    })
}

async fn default_signing(aws: &Aws, surroundings: &Surroundings) -> Signing {
    let providers = vec![multilangd_config::Provider::Default];
    signing(
        aws,
        &multilangd_config::CredentialsChain { providers },
        surroundings,
    )
    .await
}

fn put_config(name: &PropertiesName) -> Result<Config, String> {
    let loaded = read_properties(name, false)?;
    let errors: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
    loaded.config.ok_or_else(|| errors.join("\n"))
}

fn local_endpoints(required: bool) -> Result<Option<Endpoints>, String> {
    match endpoints::find(Path::new(".")) {
        Found::Running(endpoints) => Ok(Some(endpoints)),
        Found::Nothing if required => {
            Err("no local services run in this directory; start them with multilangd local".to_owned())
        }
        Found::Nothing => Ok(None),
        // Going on to the real service would put test records where nobody wants them.
        Found::LeftOver(path) => Err(format!(
            "{} is left over from local services that are gone; start them again, or remove it to use the real service",
            path.display()
        )),
    }
}

fn read_properties(name: &PropertiesName, local: bool) -> Result<Loaded, String> {
    let found = find_properties(&name.name, &name.class_path, &|path| std::fs::read(path))
        .map_err(|error| error.to_string())?;
    Ok(load(&Input {
        file: &found.path.display().to_string(),
        bytes: &found.bytes,
        environment: &|name| std::env::var(name).ok(),
        system_properties: &name.system_properties,
        local,
    }))
}

/// The command line wins over the logback file, and that over the properties file.
fn start_logs(
    options: &LogOptions,
    system_properties: &BTreeMap<String, String>,
    config: Option<&Config>,
) -> Result<(), String> {
    let mut remark = None;
    let mut level = options.level;
    if let Some(path) = &options.configuration {
        match std::fs::read(path) {
            Ok(bytes) => {
                let lookup = |name: &str| {
                    system_properties
                        .get(name)
                        .cloned()
                        .or_else(|| std::env::var(name).ok())
                };
                let logback = read_logback(&String::from_utf8_lossy(&bytes), &lookup);
                level = level.or(logback.level);
                remark = logback
                    .ignored
                    .map(|ignored| format!("{}: {ignored}", path.display()));
            }
            // Compat: Java ends here with exit code 1. A missing logback file is no reason not to work.
            Err(error) => {
                remark = Some(format!(
                    "cannot read the log configuration {}: {error}",
                    path.display()
                ))
            }
        }
    }
    let level = level
        .or_else(|| config.and_then(|config| config.log.level))
        .map(|level| level.as_str());
    let format = match options
        .format
        .or_else(|| config.and_then(|config| config.log.format))
    {
        Some(LogFormat::Json) => Format::Json,
        Some(LogFormat::Text) | None => Format::Text,
    };
    logs::start(format, level).map_err(|error| error.to_string())?;
    if let Some(remark) = remark {
        warn!("{remark}");
    }
    Ok(())
}

fn report(loaded: &Loaded) {
    for warning in &loaded.warnings {
        let line = warning.line.map(|line| format!(":{line}")).unwrap_or_default();
        match warning.severity {
            Severity::Info => info!("{}{line}: {warning}", loaded.file),
            Severity::Warn => warn!("{}{line}: {warning}", loaded.file),
        }
    }
    loaded.errors.iter().for_each(|error| error!("{error}"));
}

/// Signals are listened to before anything else happens, so that none is lost.
fn in_runtime(wanted: Option<usize>, work: impl AsyncFnOnce(&mut Signals) -> u8) -> u8 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(wanted.unwrap_or(threads(cores)))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("cannot start: {error}")),
    };
    runtime.spawn(async {
        let mut now_and_then = tokio::time::interval(GIVE_BACK_EVERY);
        loop {
            now_and_then.tick().await; // ends with the runtime
            memory::give_back_what_a_peak_left();
        }
    });
    let code = runtime.block_on(async {
        match Signals::listen() {
            Ok(mut signals) => work(&mut signals).await,
            Err(error) => refuse(&format!("cannot listen to signals: {error}")),
        }
    });
    // Reads of a silent stdin and the like must not hold up the exit.
    runtime.shutdown_background();
    code
}

/// How many threads do the work, where nobody says otherwise. Between two of them every batch is carried from one core to another, and they wake each
/// other for it: two take a quarter more CPU time than one with 100 shards, and two fifths more with 1,000.
fn threads(cores: usize) -> usize {
    (cores / CORES_PER_THREAD).clamp(1, THREADS_MAX)
}

/// Every child needs three pipes, and every shard a connection: a thousand shards are more than the usual 1024.
///
/// Compat: the JVM does the same at its start.
fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Where it may not be raised that far, the usual limit must do.
    let _ = setrlimit(Resource::Nofile, raised);
}

fn refuse(reason: &str) -> u8 {
    complain(reason);
    EXIT_CODE_CONFIGURATION
}

/// For people at a terminal; what a daemon has to say goes to the log.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "multilangd: {text}");
}

fn print(text: &str) -> u8 {
    let mut stdout = std::io::stdout().lock();
    // Nobody may be reading any more.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_cores_are_left_to_the_children() {
        for (cores, expected) in [(1, 1), (2, 1), (7, 1), (8, 2), (16, 4), (128, 4)] {
            assert_eq!(threads(cores), expected, "threads on {cores} cores");
        }
    }
}
