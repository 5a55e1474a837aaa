//! `multilangd run`: from a configuration to a running worker, and out again.
//!
//! Owns the order of the start and of the end. Decides nothing about leases or shards.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use multilangd_config::config::{MetricsLevel, Retrieval};
use multilangd_config::{Config, Effective, Loaded, Origin};
use multilangd_core::ids::WorkerId;
use multilangd_core::leases::LEASE_KEY;
use multilangd_core::table_migration::{COORDINATOR_KEY, METRICS_KEY};
use multilangd_engine::child::{ChildCommand, kill_all};
use multilangd_engine::clock::Clock;
use multilangd_engine::fetch::Registration;
use multilangd_engine::leases::{LegacyTables, StartError};
use multilangd_engine::metrics::Sink;
use multilangd_engine::retry::{Patience, retry};
use multilangd_engine::stream::{Stream, StreamError};
use multilangd_engine::worker::Exit;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::aws::failure::{Failure, chain};
use crate::endpoints::Endpoints;
use crate::signals::{End, Signals, supervise};
use crate::wiring::{self, NotStarted, Outside};
use crate::worlds::Worlds;

/// The worker ended by itself, and well.
const EXIT_DONE: u8 = 0;
/// A child failed, or the daemon cannot work (`protocol.md 11.2`).
const EXIT_FAILED: u8 = 1;

/// Whether the program of `executableName` is there. Java finds out at the first lease.
pub fn find_program(loaded: &Loaded) -> Result<(), String> {
    let Some(config) = &loaded.config else {
        return Ok(());
    };
    ChildCommand::new(config.argv.clone())
        .program_path()
        .map(drop)
        .map_err(|error| {
            let of_key = |source: &&Effective| source.name == "executableName";
            let line = match loaded.sources.iter().find(of_key).map(|source| &source.origin) {
                Some(Origin::File { line }) => format!(":{line}"),
                _ => String::new(),
            };
            format!(
                "{}{line}: executableName = '{}': {error}",
                loaded.file,
                config.argv.join(" ")
            )
        })
}

/// Runs a worker until it ends or a signal comes. Answers the exit code. With `local`, the services there are used.
pub async fn run(config: &Config, local: Option<&Endpoints>, signals: &mut Signals) -> u8 {
    let stop = CancellationToken::new();
    match supervise(work(config, local, &stop), &stop, signals).await {
        End::Done(code) => code,
        // Compat: the signal's code even after a clean stop, as the JVM does.
        End::Stopped(signal, _) => signal.exit_code(),
        End::CutOff(signal) => {
            kill_all();
            signal.exit_code()
        }
    }
}

async fn work(config: &Config, local: Option<&Endpoints>, stop: &CancellationToken) -> u8 {
    let clock = Clock::real();
    let command = ChildCommand::new(config.argv.clone());
    let worker: WorkerId = match &config.worker_id {
        Some(id) => id.as_str().into(),
        None => clock.chance(multilangd_core::rng::Rng::uuid).into(),
    };
    // Compat: these two lines are the Java daemon's; scripts look for them (protocol.md 12).
    info!(
        "Running {} to process stream {} with executable {}",
        config.application_name, config.stream.name, config.executable_name
    );
    info!("Using workerId: {worker}");
    let worlds = match Worlds::find(config, local).await {
        Ok(worlds) => worlds,
        Err(error) => {
            error!("{error}");
            return EXIT_FAILED;
        }
    };
    info!(
        kinesis = worlds.kinesis().place,
        dynamodb = worlds.dynamodb().place,
        "{}",
        config.retrieval_reason
    );
    let Some(description) = stop.run_until_cancelled(describe(&worlds, config, &clock)).await else {
        return EXIT_DONE;
    };
    let Ok(arn) = description else {
        return EXIT_FAILED;
    };
    let consumer_id = arn
        .as_ref()
        .map(|arn| consumer_id(&worlds.table_arn(&config.table_name, arn)));
    let stream: Arc<dyn Stream> = Arc::new(worlds.stream(consumer_id.as_deref()));
    let fan_out = match &config.retrieval {
        Retrieval::Polling => None,
        Retrieval::Fanout(fan_out) => Some(Registration::new(
            Arc::new(worlds.fan_out(consumer_id.as_deref())),
            stream.clone(),
            worlds.consumer(fan_out, arn.as_deref()),
            wiring::registration_settings(fan_out),
            clock.clone(),
        )),
    };
    let outside = Outside {
        stream,
        fan_out,
        leases: Arc::new(worlds.table(&config.table_name, LEASE_KEY)),
        legacy: LegacyTables {
            coordinator: Arc::new(
                worlds.table(&config.coordination.coordinator_state_table_name, COORDINATOR_KEY),
            ),
            metrics: Arc::new(worlds.table(&config.coordination.worker_metrics_table_name, METRICS_KEY)),
        },
        spawn: Arc::new(command),
        clock,
        metrics: metrics(&worlds, config, local.is_some()),
    };
    match wiring::work(config, worker, outside, stop).await {
        Ok(Exit::Clean | Exit::Late) => EXIT_DONE,
        Ok(Exit::ChildFailed(_) | Exit::Broken(_) | Exit::Twin) => EXIT_FAILED,
        Err(NotStarted::Leases(StartError::Stopped)) => EXIT_DONE,
        Err(error) => {
            error!("{}", chain(Some(&error)));
            EXIT_FAILED
        }
    }
}

/// Where the metrics go, and a line about it.
fn metrics(worlds: &Worlds, config: &Config, is_local: bool) -> Option<Arc<dyn Sink>> {
    match worlds.metrics() {
        Some(metrics) => {
            info!(
                cloudwatch = metrics.place(),
                namespace = config.application_name,
                "metrics are published"
            );
            Some(Arc::new(metrics))
        }
        None if is_local && config.metrics.level != MetricsLevel::None => {
            info!("there is no local CloudWatch: metrics go nowhere unless cloudWatchEndpoint is set");
            None
        }
        None => None,
    }
}

/// It was said why there is no use in going on.
struct Hopeless;

/// Finds the stream, for as long as nobody answers. Answers its ARN, if that may be known.
async fn describe(worlds: &Worlds, config: &Config, clock: &Clock) -> Result<Option<String>, Hopeless> {
    let stream = worlds.stream(None);
    match retry(clock, Patience::ENDLESS, "describe the stream", || {
        stream.describe()
    })
    .await
    {
        Ok(description) => {
            info!(
                stream = config.stream.name,
                status = description.status,
                open_shards = description.open_shards,
                arn = description.arn,
                "stream found"
            );
            Ok(Some(description.arn))
        }
        // Compat: polling Java workers describe no stream, so that their policies may not allow it.
        Err(StreamError::Refused(error)) if is_denied(error.as_ref()) => {
            info!("{error}; going on without");
            Ok(None)
        }
        Err(StreamError::NotFound(reason)) => {
            error!("{reason}; create the stream, or check streamName, regionName and kinesisEndpoint");
            Err(Hopeless)
        }
        Err(error) => {
            error!("{error}");
            Err(Hopeless)
        }
    }
}

fn is_denied(error: &(dyn std::error::Error + 'static)) -> bool {
    error
        .downcast_ref::<Failure>()
        .is_some_and(|failure| failure.is("AccessDeniedException"))
}

/// `leasing.md 7.2`: names the application to the service without naming it to anybody else.
fn consumer_id(table_arn: &str) -> String {
    let hash = Sha256::digest(table_arn.as_bytes());
    let mut id = format!("KCL-ConsumerId-{}", STANDARD.encode(hash));
    id.truncate("KCL-ConsumerId-".len() + 16);
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_consumer_id_is_javas() {
        // printf 'arn:aws:dynamodb:us-east-1:111122223333:table/app' | openssl dgst -sha256 -binary | base64 | cut -c-16
        assert_eq!(
            consumer_id("arn:aws:dynamodb:us-east-1:111122223333:table/app"),
            "KCL-ConsumerId-ZY9fcFXPmpli1j8p"
        );
    }
}
