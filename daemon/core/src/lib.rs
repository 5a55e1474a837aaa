//! Decisions of the daemon, and the words they are made in.
//!
//! Pure and synchronous: no async, no clock, no chance of its own; time and chance come in as arguments.
//! Modules stand in the order a record takes: stream -> shards -> leases -> fetch -> deaggregate -> child -> checkpoint.

pub mod assignment;
pub mod checkpoint;
pub mod child;
pub mod client_version;
pub mod consumer;
pub mod cpu;
pub mod deaggregate;
pub mod deputy;
pub mod election;
pub mod fetch;
pub mod ids;
pub mod leader;
pub mod leases;
pub mod metrics;
#[cfg(planted)]
pub mod planted;
pub mod records;
pub mod rescue;
pub mod rng;
pub mod shards;
pub mod stream;
pub mod table;
pub mod table_migration;
pub mod taker;
pub mod twin;
pub mod worker_metrics;
