//! The program's parts, as a library, so that its tests can use them over the local services.

pub mod aws;
pub mod endpoints;
pub mod host;
#[cfg(feature = "local")]
pub mod local;
pub mod logs;
pub mod memory;
pub mod put;
pub mod run;
pub mod signals;
pub mod wiring;
pub mod worlds;
