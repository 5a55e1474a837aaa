//! The fault plan: which calls fail, are late, or get no answer, on purpose.
//!
//! Owns counting calls and choosing among them, with a seed. Never answers a call itself.

#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Something that goes wrong with certain calls.
///
/// ```
/// use multilangd_local::Fault;
/// use std::time::Duration;
///
/// let faults = [
///     Fault::on("kinesis.GetRecords").every(5).error("ProvisionedThroughputExceededException"),
///     Fault::on("dynamodb.*").share(0.2, 7).within(Duration::from_secs(60)).error("InternalServerError"),
///     Fault::on("dynamodb.UpdateItem").only("my-app").call(3).unanswered(),
///     Fault::on("kinesis.GetRecords").call(10).error("ExpiredIteratorException"),
/// ];
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Such as `kinesis.GetRecords`, `dynamodb.*` or `*`. `kinesis.SubscribeToShardEvent` is each event that a
    /// subscription pushes.
    pub operation: String,
    /// Only calls that name this stream, shard, consumer or table.
    pub only: Option<String>,
    /// Which of these calls.
    pub when: When,
    /// At most so many calls.
    pub times: Option<u64>,
    /// Only for so long after the fault was added.
    pub within: Option<Duration>,
    /// The call waits for so long first.
    pub delay: Option<Duration>,
    /// What then happens to it; `None`: it goes on as if nothing had been.
    pub effect: Option<Effect>,
}

/// Which of the calls that match.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum When {
    /// Every one.
    #[default]
    Always,
    /// The n-th, counted from 1 since the fault was added.
    Call(u64),
    /// Every n-th.
    Every(u64),
    /// This share of them, from 0 to 1, drawn from a generator that begins with the seed.
    Share {
        /// From 0 (none) to 1 (all).
        share: f64,
        /// The same seed draws the same calls.
        seed: u64,
    },
}

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is not applied; the answer is this error.
    Error {
        /// The service's name of the error.
        code: String,
        /// The HTTP status.
        status: u16,
        /// The text for people.
        message: String,
    },
    /// It is applied, and then the connection closes without an answer.
    Unanswered,
    /// It is not applied; the connection closes without an answer.
    Cut,
}

impl Fault {
    /// A fault of the calls of an operation. Without more words it does nothing.
    pub fn on(operation: impl Into<String>) -> Self {
        Self {
            operation: operation.into(),
            only: None,
            when: When::Always,
            times: None,
            within: None,
            delay: None,
            effect: None,
        }
    }

    /// Only calls that name this stream, shard, consumer or table.
    #[must_use]
    pub fn only(mut self, name: impl Into<String>) -> Self {
        self.only = Some(name.into());
        self
    }

    /// Only the n-th call, counted from 1.
    #[must_use]
    pub fn call(mut self, n: u64) -> Self {
        self.when = When::Call(n);
        self
    }

    /// Only every n-th call.
    #[must_use]
    pub fn every(mut self, n: u64) -> Self {
        self.when = When::Every(n);
        self
    }

    /// Only this share of the calls, from 0 to 1.
    #[must_use]
    pub fn share(mut self, share: f64, seed: u64) -> Self {
        self.when = When::Share { share, seed };
        self
    }

    /// At most so many calls.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Only for so long from when the fault is added.
    #[must_use]
    pub fn within(mut self, window: Duration) -> Self {
        self.within = Some(window);
        self
    }

    /// The call waits first.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// The call fails, with the HTTP status that the error usually has.
    #[must_use]
    pub fn error(mut self, code: impl Into<String>) -> Self {
        let code = code.into();
        let status = usual_status(&code);
        let message = format!("{code}, as the fault plan says");
        self.effect = Some(Effect::Error {
            code,
            status,
            message,
        });
        self
    }

    /// The call is applied but not answered.
    #[must_use]
    pub fn unanswered(mut self) -> Self {
        self.effect = Some(Effect::Unanswered);
        self
    }

    /// The call is neither applied nor answered.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.effect = Some(Effect::Cut);
        self
    }

    fn matches(&self, operation: &str, names: &[&str]) -> bool {
        let operation_matches = match self.operation.strip_suffix('*') {
            Some(prefix) => operation.starts_with(prefix),
            None => self.operation == operation,
        };
        operation_matches
            && self
                .only
                .as_ref()
                .is_none_or(|only| names.contains(&only.as_str()))
    }
}

fn usual_status(code: &str) -> u16 {
    match code {
        "InternalFailure" | "InternalFailureException" | "InternalServerError" => 500,
        "ServiceUnavailable" | "ServiceUnavailableException" => 503,
        _ => 400,
    }
}

/// The faults in force, shared by both services. Cloning it makes another handle on the same plan.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan(Arc<Mutex<Vec<Active>>>);

#[derive(Clone, Debug)]
struct Active {
    fault: Fault,
    added: Instant,
    /// Calls that matched.
    calls: u64,
    /// Calls that it struck.
    struck: u64,
    chance: u64,
}

/// What the plan says of one call.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) delay: Duration,
    pub(crate) effect: Option<Effect>,
}

impl FaultPlan {
    /// Adds a fault; its calls and its time count from now.
    pub fn add(&self, fault: Fault) {
        let chance = if let When::Share { seed, .. } = fault.when {
            seed
        } else {
            0
        };
        let added = Instant::now();
        tracing::info!(operation = %fault.operation, ?fault, "fault added");
        self.lock().push(Active {
            fault,
            added,
            calls: 0,
            struck: 0,
            chance,
        });
    }

    /// Removes all faults.
    pub fn clear(&self) {
        tracing::info!("faults cleared");
        self.lock().clear();
    }

    /// How many calls each fault has struck so far, in the order of their adding.
    pub fn struck(&self) -> Vec<(Fault, u64)> {
        self.lock()
            .iter()
            .map(|active| (active.fault.clone(), active.struck))
            .collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Judges one call. Every fault counts it; delays add up; the first effect holds.
    pub(crate) fn judge(&self, operation: &str, names: &[&str], now: Instant) -> Verdict {
        let mut verdict = Verdict::default();
        for active in self.lock().iter_mut() {
            if active.fault.matches(operation, names) && active.strikes(now) {
                verdict.delay += active.fault.delay.unwrap_or_default();
                if verdict.effect.is_none() {
                    verdict.effect = active.fault.effect.clone();
                }
            }
        }
        if verdict != Verdict::default() {
            tracing::info!(operation, delay_ms = verdict.delay.as_millis() as u64, effect = ?verdict.effect, "fault strikes");
        }
        verdict
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Active>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Active {
    fn strikes(&mut self, now: Instant) -> bool {
        self.calls += 1;
        let drawn = match self.fault.when {
            When::Always => true,
            When::Call(n) => self.calls == n,
            When::Every(n) => self.calls.is_multiple_of(n),
            When::Share { share, .. } => self.draw() < share,
        };
        let in_time = self
            .fault
            .within
            .is_none_or(|window| now.saturating_duration_since(self.added) < window);
        let strikes = drawn && in_time && self.fault.times.is_none_or(|times| self.struck < times);
        self.struck += u64::from(strikes);
        strikes
    }

    /// The next number from 0 to 1 (`SplitMix64`).
    fn draw(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}
