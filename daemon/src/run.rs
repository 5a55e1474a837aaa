//! `multilangd run`: from a configuration to a running worker, and out again.
//!
//! Owns the order of the start and of the end. Decides nothing about leases or shards.

use std::sync::Arc;

use multilangd_config::Config;
use multilangd_core::ids::WorkerId;
use multilangd_engine::child::{ChildCommand, kill_all};
use multilangd_engine::clock::Clock;
use multilangd_engine::leases::StartError;
use multilangd_engine::retry::{Patience, retry};
use multilangd_engine::stream::{Stream, StreamError};
use multilangd_engine::worker::Exit;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::endpoints::Endpoints;
use crate::signals::{End, Signals, supervise};
use crate::wiring::{self, NotStarted, Outside};
use crate::worlds::Worlds;

/// The key of the lease table (`leasing.md 1.1`).
const LEASE_KEY: &str = "leaseKey";
/// The worker ended by itself, and well.
const EXIT_DONE: u8 = 0;
/// A child failed, or the daemon cannot work (`protocol.md 11.2`).
const EXIT_FAILED: u8 = 1;

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
    if let Err(error) = command.program_path() {
        error!("executableName = {}: {error}", config.executable_name);
        return EXIT_FAILED;
    }
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
    let stream = worlds.stream(None);
    info!(
        kinesis = worlds.kinesis().place,
        dynamodb = worlds.dynamodb().place,
        "{}",
        config.retrieval_reason
    );
    let describe = || stream.describe();
    let description = tokio::select! {
        biased;
        () = stop.cancelled() => return EXIT_DONE,
        description = retry(&clock, Patience::ENDLESS, "describe the stream", describe) => description,
    };
    match description {
        Ok(description) => info!(
            stream = config.stream.name,
            status = description.status,
            open_shards = description.open_shards,
            arn = description.arn,
            "stream found"
        ),
        Err(StreamError::NotFound(reason)) => {
            error!("{reason}; create the stream, or check streamName, regionName and kinesisEndpoint");
            return EXIT_FAILED;
        }
        Err(error) => {
            error!("{error}");
            return EXIT_FAILED;
        }
    }
    let outside = Outside {
        stream: Arc::new(stream),
        leases: Arc::new(worlds.table(&config.table_name, LEASE_KEY)),
        legacy_coordinator: Arc::new(worlds.table(&config.coordination.coordinator_state_table_name, "key")),
        spawn: Arc::new(command),
        clock,
    };
    match wiring::work(config, worker, outside, stop).await {
        Ok(Exit::Clean | Exit::Late) => EXIT_DONE,
        Ok(Exit::ChildFailed(_) | Exit::Broken(_)) => EXIT_FAILED,
        Err(NotStarted::Leases(StartError::Stopped)) => EXIT_DONE,
        Err(error) => {
            error!("{error}");
            EXIT_FAILED
        }
    }
}
