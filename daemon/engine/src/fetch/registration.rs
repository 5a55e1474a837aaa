//! The stream consumer behind every subscription of a worker: found, or registered where there is none, and waited
//! for until it is active (`consuming.md 3.1`).
//!
//! Owns its ARN. One shard asks the service at a time; the others wait for what it hears.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use multilangd_core::fetch::fanout::{Registering, registering};
use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::retry::{Patience, poll, retry};
use crate::stream::{ConsumerName, FanOut, Stream, StreamError};

/// Which consumer is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedConsumer {
    /// `fanoutConfig.consumerArn`: it is there, and no rights to look for one are needed.
    Arn(String),
    /// `fanoutConfig.consumerName`: registered where it is missing.
    Named {
        /// Its name.
        name: String,
        /// The stream's ARN where it is known; else the stream is described.
        stream_arn: Option<String>,
    },
}

/// How patiently the service is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistrationSettings {
    /// `fanoutConfig.maxDescribeStreamSummaryRetries`: tries in all.
    pub describe_stream_tries_max: u32,
    /// `fanoutConfig.maxDescribeStreamConsumerRetries`: tries in all, and looks at a consumer that is being created.
    pub describe_consumer_tries_max: u32,
    /// `fanoutConfig.registerStreamConsumerRetries`: tries in all.
    pub register_tries_max: u32,
    /// `fanoutConfig.retryBackoffMillis`: the pause in between.
    pub backoff: Duration,
}

impl Default for RegistrationSettings {
    fn default() -> Self {
        Self {
            describe_stream_tries_max: 10,
            describe_consumer_tries_max: 10,
            register_tries_max: 10,
            backoff: Duration::from_secs(1),
        }
    }
}

/// When everything was tried, it is tried anew after this, and later ever more seldom, up to the second.
// Compat: Java begins anew every second.
const ANEW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// A registration that goes on failing is said once per so many failures.
const FAILURES_PER_LINE: u32 = 20;

/// The consumer. Cheap to clone.
#[derive(Clone)]
pub struct Registration {
    shared: Arc<Shared>,
}

struct Shared {
    fan_out: Arc<dyn FanOut>,
    stream: Arc<dyn Stream>,
    wanted: WantedConsumer,
    settings: RegistrationSettings,
    clock: Clock,
    arn: Mutex<Option<Arc<str>>>,
    failures: AtomicU32,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("wanted", &self.shared.wanted)
            .finish_non_exhaustive()
    }
}

impl Registration {
    /// Asks nothing yet: the first shard does.
    pub fn new(
        fan_out: Arc<dyn FanOut>,
        stream: Arc<dyn Stream>,
        wanted: WantedConsumer,
        settings: RegistrationSettings,
        clock: Clock,
    ) -> Self {
        let known = match &wanted {
            WantedConsumer::Arn(arn) => Some(Arc::from(arn.as_str())),
            WantedConsumer::Named { .. } => None,
        };
        Self {
            shared: Arc::new(Shared {
                fan_out,
                stream,
                wanted,
                settings,
                clock,
                arn: Mutex::new(known),
                failures: AtomicU32::new(0),
            }),
        }
    }

    pub(super) fn fan_out(&self) -> &dyn FanOut {
        self.shared.fan_out.as_ref()
    }

    /// The ARN of a consumer that was active when it was asked about; waits for it as long as it takes.
    pub(super) async fn arn(&self) -> Arc<str> {
        let shared = &self.shared;
        let mut known = shared.arn.lock().await;
        if let Some(arn) = &*known {
            return arn.clone();
        }
        let patience = Patience {
            tries_max: None,
            wait_first: ANEW.0,
            wait_max: ANEW.1,
        };
        let found = poll(patience, || async {
            match shared.find().await {
                Ok(arn) => Some(arn),
                Err(error) => {
                    shared.failed(&error);
                    None
                }
            }
        })
        .await;
        shared.failures.store(0, Ordering::Relaxed);
        known.insert(found).clone()
    }

    /// Whether the consumer with this ARN is gone. One that is will be registered anew by the next call for its ARN,
    /// unless its ARN was given.
    pub(super) async fn is_gone(&self, arn: &Arc<str>) -> Result<bool, StreamError> {
        let shared = &self.shared;
        let mut known = shared.arn.lock().await;
        if known.as_ref() != Some(arn) {
            return Ok(true);
        }
        if shared.describe(ConsumerName::Arn(arn)).await?.is_some() {
            return Ok(false);
        }
        match &shared.wanted {
            WantedConsumer::Arn(_) => {
                error!(consumer = %arn, "the consumer of fanoutConfig.consumerArn is gone: register it, or change the \
                    property");
            }
            WantedConsumer::Named { name, .. } => {
                warn!(name, "the stream consumer was deregistered");
                *known = None;
            }
        }
        Ok(true)
    }
}

impl Shared {
    fn patience(&self, tries_max: u32) -> Patience {
        Patience {
            tries_max: Some(tries_max.max(1)),
            wait_first: self.settings.backoff,
            wait_max: self.settings.backoff,
        }
    }

    fn failed(&self, error: &StreamError) {
        let failures = 1 + self.failures.fetch_add(1, Ordering::Relaxed);
        if failures == 1 || failures.is_multiple_of(FAILURES_PER_LINE) {
            error!(failures, %error, "the stream consumer for enhanced fan-out cannot be had, trying again: nothing is \
                read until then; fanoutConfig.consumerArn names one that is registered already, and retrievalMode = \
                POLLING does without");
        }
    }

    async fn find(&self) -> Result<Arc<str>, StreamError> {
        let (name, stream_arn) = match &self.wanted {
            WantedConsumer::Arn(arn) => return Ok(arn.as_str().into()),
            WantedConsumer::Named { name, stream_arn } => (name.as_str(), stream_arn.clone()),
        };
        let stream_arn = match stream_arn {
            Some(arn) => arn,
            None => {
                let patience = self.patience(self.settings.describe_stream_tries_max);
                retry(&self.clock, patience, "describing the stream", || {
                    self.stream.describe()
                })
                .await?
                .arn
            }
        };
        let mut looks = 0;
        let patience = self.patience(self.settings.describe_consumer_tries_max);
        poll(patience, || {
            looks += 1;
            let is_last = Some(looks) >= patience.tries_max;
            let stream_arn = stream_arn.as_str();
            async move {
                match self.step(stream_arn, name, looks).await {
                    Ok(Step::Done(arn)) => Some(Ok(arn)),
                    Ok(Step::Wait(status)) if is_last => {
                        let why = format!("consumer '{name}' is still {status}");
                        Some(Err(StreamError::NotActive(why)))
                    }
                    Ok(Step::Wait(_)) => None,
                    Err(error) => Some(Err(error)),
                }
            }
        })
        .await
    }

    /// One look, and what follows from it.
    async fn step(&self, stream_arn: &str, name: &str, look: u32) -> Result<Step, StreamError> {
        let found = self.describe(ConsumerName::Of { stream_arn, name }).await?;
        Ok(match registering(found.as_ref()) {
            Registering::Use(arn) => {
                info!(name, arn, "the stream consumer is active");
                Step::Done(arn.into())
            }
            Registering::Register => match self.register(stream_arn, name).await? {
                Some(arn) => Step::Done(arn),
                None => Step::Wait("missing".to_owned()),
            },
            Registering::Wait => {
                let status = found.map(|consumer| consumer.status).unwrap_or_default();
                if look == 1 {
                    info!(name, status, "waiting for the stream consumer to be ACTIVE");
                }
                Step::Wait(status)
            }
        })
    }

    async fn describe(
        &self,
        name: ConsumerName<'_>,
    ) -> Result<Option<multilangd_core::stream::StreamConsumer>, StreamError> {
        let patience = self.patience(self.settings.describe_consumer_tries_max);
        retry(&self.clock, patience, "describing the stream consumer", || {
            self.fan_out.find_consumer(name)
        })
        .await
    }

    /// The ARN if it is active at once, as on services that take no time; `None`: look again.
    // Compat: a pause between throttled tries. Java makes its ten without any.
    async fn register(&self, stream_arn: &str, name: &str) -> Result<Option<Arc<str>>, StreamError> {
        let patience = self.patience(self.settings.register_tries_max);
        let registered = retry(
            &self.clock,
            patience,
            "registering the stream consumer",
            || async {
                match self.fan_out.register_consumer(stream_arn, name).await {
                    Ok(consumer) => Ok(Some(consumer)),
                    // Another worker was faster.
                    Err(StreamError::NotActive(_)) => Ok(None),
                    Err(error) => Err(error),
                }
            },
        )
        .await?;
        Ok(registered.and_then(|consumer| {
            info!(
                name,
                arn = consumer.arn,
                "stream consumer registered; it costs money until it is deregistered"
            );
            consumer.is_active.then(|| consumer.arn.into())
        }))
    }
}

enum Step {
    Done(Arc<str>),
    /// Look again; the consumer is in this state.
    Wait(String),
}
