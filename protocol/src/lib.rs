//! The JSON lines between the daemon and its children.
//!
//! Owns the bytes: what is written to a child ([`mod@write`]), how its output is cut into lines ([`lines`]) and what a line
//! means ([`messages`]). Knows nothing of processes, clocks or the AWS.

mod json;
pub mod lines;
pub mod messages;
pub mod write;

pub use lines::{LineEvent, Lines};
pub use messages::{CheckpointRequest, FromChild, Message, Note, Skipped, parse};
pub use write::{Payload, RecordLine, Text};
