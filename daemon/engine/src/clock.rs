//! The one home of time and chance. Durations are measured with [`tokio::time::Instant`], which a simulation pauses;
//! wall-clock time comes from here.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use multilangd_core::rng::Rng;
use tokio::time::Instant;

/// Time and chance, shared by all tasks of a worker. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    wall: Wall,
    rng: Arc<Mutex<Rng>>,
}

#[derive(Clone, Copy, Debug)]
enum Wall {
    Real,
    Simulated { epoch_ms: i64, start: Instant },
}

impl Clock {
    /// The machine's clock, and a seed that no other process has.
    pub fn real() -> Self {
        use std::hash::{BuildHasher, Hasher};
        let mut hasher = std::hash::RandomState::new().build_hasher();
        hasher.write_u32(std::process::id());
        Self {
            wall: Wall::Real,
            rng: Arc::new(Mutex::new(Rng::new(hasher.finish()))),
        }
    }

    /// A clock that reads `epoch_ms` now and follows tokio's (possibly paused) time.
    pub fn simulated(epoch_ms: i64, seed: u64) -> Self {
        let wall = Wall::Simulated {
            epoch_ms,
            start: Instant::now(),
        };
        Self {
            wall,
            rng: Arc::new(Mutex::new(Rng::new(seed))),
        }
    }

    /// Monotonic time.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Milliseconds since the Unix epoch.
    pub fn epoch_ms(&self) -> i64 {
        match self.wall {
            Wall::Real => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
            Wall::Simulated { epoch_ms, start } => {
                epoch_ms + i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX)
            }
        }
    }

    /// Rolls the dice.
    pub fn chance<T>(&self, roll: impl FnOnce(&mut Rng) -> T) -> T {
        roll(&mut self.rng.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
