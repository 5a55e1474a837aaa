//! Effects of the daemon, over three traits: [`stream::Stream`], [`table::Table`] and [`child::Spawn`].
//! tokio, but no AWS.
//!
//! | Stage | decides (`core`) | acts (here) |
//! |---|---|---|
//! | stream | `ids`, `stream` | [`stream`] |
//! | shards | `shards` | [`shards`] |
//! | leases | `leases`, `assignment` | `leases`, `leader` |
//! | fetch | `fetch` | `fetch` |
//! | deaggregate | `deaggregate` | (called by `consumer`) |
//! | child | `child`, over `protocol` | [`child`] |
//! | checkpoint | `checkpoint` | `child`, `leases` |

mod assignment;
pub mod child;
pub mod clock;
pub mod consumer;
pub mod fetch;
mod leader;
pub mod leases;
pub mod metrics;
mod metrics_row;
pub mod platform;
pub mod progress;
pub mod retry;
pub mod shards;
pub mod stream;
pub mod table;
mod table_migration;
mod taker;
pub mod worker;
