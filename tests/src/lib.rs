//! Fakes for simulations, and real processes for promises.

pub mod child;
pub mod cloudwatch;
pub mod daemon;
pub mod fanout;
pub mod faults;
pub mod fleet;
pub mod leases;
pub mod records;
pub mod sim;
pub mod stream;
pub mod table;
pub mod tls;

pub mod http;
pub mod oracle;
