//! Fakes for simulations, and real processes for promises.

pub mod daemon;
//! Fakes, judges and the promises they check.

pub mod table;

pub mod oracle;
