//! A Kinesis and a DynamoDB on loopback ports, for development and tests.
//!
//! Owns the two services and their data. Shares nothing with the rest of multilangd but the AWS API: clients
//! speak HTTP to it, as they do to AWS. Never contacts anything outside the machine.
//!
//! The layout follows a call: [`http`] takes it, [`value`] reads it, [`kinesis`] answers it with [`stream`]s made
//! of [`shard`]s whose records lie in a [`log`], and [`writer`] writes the answer. [`dynamodb`] is a thin front of
//! an embedded database. [`fault`] makes calls fail on request. `docs/LOCAL.md` is for users.
#![cfg_attr(doc, allow(rustdoc::private_intra_doc_links))]

mod clock;
mod dynamodb;
mod error;
mod eventstream;
mod fault;
mod http;
mod kinesis;
mod limits;
mod log;
mod sequence;
mod services;
mod shard;
mod store;
mod stream;
mod token;
mod value;
mod writer;

pub use error::LocalError;
pub use fault::{Effect, Fault, FaultPlan, When};
pub use limits::Limits;
pub use services::{Data, LocalOptions, LocalServices, start};
