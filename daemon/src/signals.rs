//! The way out: signals, and the time they leave.
//!
//! Owns which exit code a signal means. What a stop consists of is the worker's matter.

use std::io;

use tokio::signal::unix::{Signal as Listener, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: a service manager.
    Terminate,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGHUP: the terminal is gone.
    HangUp,
}

impl Signal {
    /// As shells and Java say it, even after a clean stop (`protocol.md 11.2`).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::HangUp => 129,
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::HangUp => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// The signals of this process, from the moment this is made.
#[derive(Debug)]
pub struct Signals {
    terminate: Listener,
    interrupt: Listener,
    /// `None` under `nohup`, which asks to live on.
    hang_up: Option<Listener>,
}

impl Signals {
    /// Takes the signals over from their default, which is to end the process.
    pub fn listen() -> io::Result<Self> {
        let hang_up = if is_ignored(SignalKind::hangup()) {
            None
        } else {
            Some(signal(SignalKind::hangup())?)
        };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up,
        })
    }

    /// The next one. Cancel-safe.
    pub async fn next(&mut self) -> Signal {
        let hang_up = async {
            match &mut self.hang_up {
                Some(listener) => listener.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = hang_up => Signal::HangUp,
        }
    }
}

/// How the work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End<T> {
    /// By itself.
    Done(T),
    /// In order, after a signal.
    Stopped(Signal, T),
    /// By a second signal, before it was over.
    CutOff(Signal),
}

/// Runs `work` to its end. The first signal cancels `stop`, and `work` has as long as it takes; a second one drops it.
pub async fn supervise<T>(
    work: impl Future<Output = T>,
    stop: &CancellationToken,
    signals: &mut Signals,
) -> End<T> {
    let mut work = std::pin::pin!(work);
    let first = tokio::select! {
        biased;
        done = &mut work => return End::Done(done),
        first = signals.next() => first,
    };
    info!(signal = first.name(), "stopping; a second signal ends at once");
    stop.cancel();
    tokio::select! {
        biased;
        done = &mut work => End::Stopped(first, done),
        second = signals.next() => {
            warn!(signal = second.name(), "second signal: ending now");
            End::CutOff(first)
        }
    }
}

/// Whether whoever started this process had the signal ignored. Where this cannot be found out: no.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_ends_by_itself_is_done() {
        let mut signals = Signals::listen().unwrap();
        let end = supervise(async { 7 }, &CancellationToken::new(), &mut signals).await;
        assert_eq!(end, End::Done(7));
    }

    #[test]
    fn exit_codes_are_those_of_the_java_daemon() {
        let codes = [Signal::Terminate, Signal::Interrupt, Signal::HangUp].map(Signal::exit_code);
        assert_eq!(codes, [143, 130, 129]);
    }
}
