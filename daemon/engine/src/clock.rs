//! The one home of time and chance. Durations are measured with [`tokio::time::Instant`], which a simulation pauses;
//! wall-clock time comes from here.

use std::sync::atomic::{AtomicI64, Ordering};
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

#[derive(Clone, Debug)]
enum Wall {
    Real,
    Simulated {
        epoch_ms: Arc<AtomicI64>,
        start: Instant,
    },
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
            epoch_ms: Arc::new(AtomicI64::new(epoch_ms)),
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
        match &self.wall {
            Wall::Real => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
            Wall::Simulated { epoch_ms, start } => {
                let elapsed = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
                epoch_ms.load(Ordering::Relaxed) + elapsed
            }
        }
    }

    /// Sets a simulated wall clock, and its clones, forward or back. The machine's own does what it likes.
    pub fn jump(&self, by_ms: i64) {
        match &self.wall {
            Wall::Real => {}
            Wall::Simulated { epoch_ms, .. } => drop(epoch_ms.fetch_add(by_ms, Ordering::Relaxed)),
        }
    }

    /// Rolls the dice.
    pub fn chance<T>(&self, roll: impl FnOnce(&mut Rng) -> T) -> T {
        roll(&mut self.rng.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
