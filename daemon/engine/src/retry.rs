//! The one home of repetition: nobody else writes a loop with a sleep in it to try something again.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::time::sleep;
use tracing::warn;

use crate::clock::Clock;

/// Whether trying again can help.
pub trait Retryable: Display {
    /// `true`: the same call may succeed later.
    fn can_be_retried(&self) -> bool;
}

/// How long, and how patiently, to try again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Tries in all; `None`: for as long as it takes.
    pub tries_max: Option<u32>,
    /// The wait after the first failure; doubled after each further one, with up to half of it taken off by chance.
    pub wait_first: Duration,
    /// The longest wait.
    pub wait_max: Duration,
}

impl Patience {
    /// For as long as it takes, from 100 ms up to 5 s between tries.
    pub const ENDLESS: Self = Self {
        tries_max: None,
        wait_first: Duration::from_millis(100),
        wait_max: Duration::from_secs(5),
    };

    /// The wait after the `failures`-th failure (1 is the first), before chance takes some off.
    pub fn wait(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        self.wait_first.saturating_mul(1 << doublings).min(self.wait_max)
    }
}

/// Calls `attempt` until it succeeds, fails for good, or patience ends. Dropping the future stops it at any time.
/// `what` names the call in the one warning that a streak of failures gives.
pub async fn retry<T, E, F>(
    clock: &Clock,
    patience: Patience,
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E>
where
    E: Retryable,
    F: Future<Output = Result<T, E>>,
{
    let mut failures = 0;
    loop {
        match attempt().await {
            Ok(value) => {
                if failures > 0 {
                    tracing::info!(what, failures, "succeeded after failures");
                }
                return Ok(value);
            }
            Err(error)
                if error.can_be_retried() && patience.tries_max.is_none_or(|max| failures + 1 < max) =>
            {
                failures += 1;
                if failures == 1 || failures % 30 == 0 {
                    warn!(what, failures, %error, "failed, trying again");
                }
                let wait = patience.wait(failures);
                let off = clock.chance(|rng| rng.below(wait.as_millis() as u64 / 2 + 1));
                sleep(wait - Duration::from_millis(off)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Looks again until there is something, without a word: for what takes its time by nature. Looks forever, whatever
/// `tries_max` says; dropping the future ends it.
pub async fn poll<T, F>(patience: Patience, mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let mut looks = 0;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        looks += 1;
        sleep(patience.wait(looks)).await;
    }
}
