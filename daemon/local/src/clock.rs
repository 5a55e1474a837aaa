//! The time, for the services and their tests.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970: the machine's, or what a test says.
#[derive(Clone, Debug, Default)]
pub(crate) enum Clock {
    #[default]
    System,
    #[cfg(test)]
    Set(std::sync::Arc<std::sync::atomic::AtomicU64>),
}

impl Clock {
    pub(crate) fn now_ms(&self) -> u64 {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                since.map_or(0, |since| since.as_millis() as u64)
            }
            #[cfg(test)]
            Self::Set(ms) => ms.load(std::sync::atomic::Ordering::Relaxed),
        }
    }
}
