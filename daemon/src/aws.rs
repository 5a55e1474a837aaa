//! The engine's outside worlds over the AWS SDK.
//!
//! Owns the translation both ways: rows, records and errors. Decides nothing about leases or shards.

pub mod client;
pub mod cloudwatch;
pub mod credentials;
pub mod dynamodb;
mod expressions;
pub mod failure;
pub mod fanout;
mod http;
pub mod kinesis;
pub mod lanes;
mod transport;
pub mod trust;
mod unread;
mod values;
