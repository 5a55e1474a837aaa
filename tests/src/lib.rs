//! Fakes for simulations, and real processes for promises.

pub mod daemon;
pub mod table;

pub mod oracle;
