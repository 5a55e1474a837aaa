//! The task that wants the leader's lock, and keeps it (`leasing.md 5.2`), or a deputy's seat in the row of somebody else's.
//! What to do when is decided in `core::{leader, deputy}`.

use std::collections::VecDeque;
use std::time::Duration;

use multilangd_core::client_version::Rules;
use multilangd_core::deputy::{Duty, Seat, Seats, duty, leave};
use multilangd_core::ids::WorkerId;
use multilangd_core::leader::{KEY, Lock, LockRow, Step, duration, release};
use multilangd_core::metrics::{Metric, Of, Operation};
use multilangd_core::table::Item;
use multilangd_core::table_migration::Status;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::leases::{Places, Rows};
use crate::metrics::Metrics;
use crate::table::TableError;

/// The wait after a heartbeat or an acquisition that failed, before the next try.
const RETRY: Duration = Duration::from_millis(500);

/// Writes without an answer that are remembered; more of them means that nothing gets through anyway.
const UNANSWERED_MAX: usize = 8;

/// The lock, as this worker wants it.
pub(crate) struct Leadership {
    pub(crate) places: Places,
    pub(crate) me: WorkerId,
    pub(crate) clock: Clock,
    pub(crate) failover: Duration,
    /// By the rules of 2.x there is no lock.
    pub(crate) rules: watch::Receiver<Rules>,
    /// How far the move to a single table is: its end moves the lock.
    pub(crate) status: watch::Sender<Status>,
    pub(crate) is_leader: watch::Sender<bool>,
    /// What this worker looks at as a deputy.
    pub(crate) duty: watch::Sender<Option<Duty>>,
    /// A worker that leaves is no deputy.
    pub(crate) is_taking: watch::Receiver<bool>,
    pub(crate) metrics: Metrics,
}

/// The state between two calls.
struct Progress {
    /// The table that the lock is in.
    rows: Rows,
    lock: Lock,
    /// Writes without an answer, by their version, and when they were sent: any of them may still be applied.
    unanswered: VecDeque<(String, Instant)>,
    seats: Seats,
    /// Until when this worker is a deputy. It stays one for a lock's duration after it was last seen to have a seat, so
    /// that a new deputy has watched for as long before the old one ceases to.
    deputy_until: Option<Instant>,
    /// The last call failed; said once per streak.
    is_failing: bool,
    next: Instant,
}

impl Progress {
    /// The write of ours that the row shows, if it is one that had no answer.
    fn recognise(&mut self, row: Option<&LockRow>, me: &WorkerId) -> Option<(String, Instant)> {
        let found = self
            .unanswered
            .iter()
            .position(|(version, _)| Lock::is_ours(row, me, version))?;
        self.unanswered.remove(found)
    }

    fn failed(&mut self, what: &str, error: &TableError) {
        if !std::mem::replace(&mut self.is_failing, true) {
            warn!(%error, "the leader's lock could not be {what}, trying again");
        }
    }

    fn forgot(&mut self, version: String, sent: Instant) {
        if self.unanswered.len() == UNANSWERED_MAX {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((version, sent));
    }
}

impl Leadership {
    /// Runs until `stop`, then releases the lock.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let assigns = self.rules.wait_for(|rules| rules.assigns());
            let assigns = stop.run_until_cancelled(assigns).await;
            if assigns.is_none_or(|assigns| assigns.is_err()) {
                return;
            }
            self.contend(&stop).await;
            if stop.is_cancelled() {
                return;
            }
        }
    }

    /// Wants the lock until `stop`, or until there is none by the rules, or it has moved to another table.
    async fn contend(&mut self, stop: &CancellationToken) {
        let mut status = self.places.status();
        let reads_legacy = status.borrow_and_update().reads_legacy();
        let mut progress = Progress {
            rows: self.places.lock().clone(),
            lock: Lock::default(),
            unanswered: VecDeque::new(),
            seats: Seats::default(),
            deputy_until: None,
            is_failing: false,
            next: Instant::now(),
        };
        loop {
            let wake = tokio::select! {
                biased;
                () = stop.cancelled() => false,
                _ = self.rules.wait_for(|rules| !rules.assigns()) => false,
                _ = status.wait_for(|status| status.reads_legacy() != reads_legacy) => false,
                () = sleep_until(progress.next) => true,
            };
            if !wake {
                break;
            }
            // A call in flight at the stop is finished first: what it wrote must be known to be released.
            match progress.lock.held_until() {
                Some(until) => self.heartbeat(&mut progress, Instant::from_std(until)).await,
                None => self.look(&mut progress).await,
            }
            self.note();
        }
        self.release(&mut progress).await;
    }

    /// Compat: once per look at the lock; Java counts every time that a part of it asks.
    fn note(&self) {
        let is_leader = f64::from(u8::from(*self.is_leader.borrow()));
        self.metrics.add(
            Operation::LeaderDecider,
            Of::Application,
            Metric::IS_LEADER,
            is_leader,
        );
    }

    fn duration(&self) -> Duration {
        duration(self.failover)
    }

    fn new_version(&self) -> String {
        self.clock.chance(|rng| rng.uuid())
    }

    /// Tells whether this worker leads; wakes nobody, and is `false`, if that is known already.
    fn say(&self, leads: bool) -> bool {
        self.is_leader
            .send_if_modified(|said| std::mem::replace(said, leads) != leads)
    }

    /// Somebody else's lock, or nobody's.
    async fn look(&self, progress: &mut Progress) {
        // A write follows only under the conditions of what was read; but what became of an earlier one must be known.
        let read = match progress.unanswered.is_empty() {
            true => glance(&progress.rows).await,
            false => read(&progress.rows).await,
        };
        let row = match read {
            Ok(row) => row,
            Err(error) => {
                progress.failed("read", &error);
                progress.next = Instant::now() + RETRY;
                return;
            }
        };
        if let Some((version, sent)) = progress.recognise(row.as_ref(), &self.me) {
            self.acquired(progress, version, sent).await;
            return;
        }
        let seen = row.clone();
        let now = Instant::now();
        let key_name = progress.rows.table.key_name().to_owned();
        let step = progress.lock.read(
            row,
            &self.me,
            self.duration(),
            &key_name,
            self.new_version(),
            now.into_std(),
        );
        match step {
            Step::LookAgain(at) => {
                progress.is_failing = false;
                progress.next = Instant::from_std(at);
                if let Some(row) = seen {
                    self.deputise(progress, &row).await;
                }
            }
            Step::Acquire(write, version) => {
                let sent = Instant::now();
                let limit = sent + self.duration();
                match bounded(limit, progress.rows.write(&write)).await {
                    Ok(_) => self.acquired(progress, version, sent).await,
                    Err(TableError::Conflict(_)) => progress.next = Instant::now() + RETRY / 5,
                    Err(error) => {
                        progress.failed("acquired", &error);
                        progress.forgot(version, sent);
                        progress.next = Instant::now() + RETRY;
                    }
                }
            }
        }
    }

    /// Somebody else leads: takes a seat that is free, and keeps it.
    async fn deputise(&self, progress: &mut Progress, row: &LockRow) {
        let now = Instant::now();
        if !*self.is_taking.borrow() {
            self.leave_seat(progress, row).await;
            return;
        }
        let version = self.new_version();
        let seat = progress
            .seats
            .read(row, &self.me, self.duration(), &version, now.into_std());
        let limit = now + self.duration() / 3;
        let is_mine = match seat {
            Seat::None => false,
            // Whatever becomes of it, the next look shows.
            Seat::Mine(write) => {
                if let Some(write) = write {
                    drop(bounded(limit, progress.rows.write(&write)).await);
                }
                true
            }
            Seat::Free(write) => bounded(limit, progress.rows.write(&write)).await.is_ok(),
        };
        if is_mine {
            progress.deputy_until = Some(now + self.duration());
        }
        let is_deputy = progress.deputy_until.is_some_and(|until| now < until);
        self.say_duty(is_deputy.then(|| duty(row)));
    }

    async fn leave_seat(&self, progress: &mut Progress, row: &LockRow) {
        progress.deputy_until = None;
        self.say_duty(None);
        if let Some(write) = leave(row, &self.me) {
            let limit = Instant::now() + self.duration() / 3;
            // Not given back, it is free when it was not renewed for so long.
            drop(bounded(limit, progress.rows.write(&write)).await);
        }
    }

    fn say_duty(&self, duty: Option<Duty>) {
        let is_news = self.duty.send_if_modified(|said| {
            let is_news = *said != duty;
            said.clone_from(&duty);
            is_news
        });
        if let (true, Some(duty)) = (is_news, &duty) {
            info!(worker = %self.me, ?duty, "looking at leases besides the leader");
        }
    }

    /// The lock is ours. In a fleet that moves to a single table it counts only if it has not moved by now; afterwards
    /// only its holder can move it (trap 40).
    async fn acquired(&self, progress: &mut Progress, version: String, sent: Instant) {
        if self.places.legacy().is_none() {
            self.lead(progress, version, sent);
            return;
        }
        let until = sent + self.duration();
        if until <= Instant::now() {
            // Applied unseen, and found too late to be of use: waited out like anybody's.
            progress.next = Instant::now();
            return;
        }
        match bounded(until, self.places.migration()).await {
            Ok(Some(row)) if row.status == Status::Complete => {
                // To be released, when the change of the status is noticed.
                progress.lock.written(version, self.duration(), sent.into_std());
                progress.next = Instant::now() + RETRY;
                self.status.send_replace(Status::Complete);
            }
            Ok(_) => self.lead(progress, version, sent),
            Err(error) => {
                progress.failed("used yet: TableMigration3.5 could not be read", &error);
                progress.forgot(version, sent);
                progress.next = Instant::now() + RETRY;
            }
        }
    }

    fn lead(&self, progress: &mut Progress, version: String, sent: Instant) {
        progress.lock.written(version, self.duration(), sent.into_std());
        if progress
            .lock
            .held_until()
            .is_some_and(|until| until <= Instant::now().into_std())
        {
            // The answer came too late to be of use.
            progress.lock.lost();
            progress.next = Instant::now();
            return;
        }
        progress.unanswered.clear();
        progress.is_failing = false;
        progress.deputy_until = None;
        self.say_duty(None);
        if self.say(true) {
            info!(worker = %self.me, lock_ms = self.duration().as_millis() as u64, "became leader");
        }
        progress.next = progress
            .lock
            .heartbeat_at()
            .map_or_else(Instant::now, Instant::from_std);
    }

    /// Renews the lock; or notices that it could not be renewed in time.
    async fn heartbeat(&self, progress: &mut Progress, until: Instant) {
        if Instant::now() >= until {
            self.resign(progress, "the lock could not be renewed in time");
            return;
        }
        if !progress.unanswered.is_empty() && self.find_unanswered(progress, until).await {
            return;
        }
        let (version, sent) = (self.new_version(), Instant::now());
        let Some(write) = progress.lock.heartbeat(&self.me, self.duration(), &version) else {
            return;
        };
        match bounded(until.min(sent + self.duration() / 3), progress.rows.write(&write)).await {
            Ok(_) => self.lead(progress, version, sent),
            // A late write of ours may have been first.
            Err(TableError::Conflict(_))
                if !progress.unanswered.is_empty() && self.find_unanswered(progress, until).await => {}
            Err(TableError::Conflict(_)) => self.resign(progress, "another worker has the lock"),
            Err(error) => {
                progress.failed("renewed", &error);
                progress.forgot(version, sent);
                progress.next = (Instant::now() + RETRY).min(until);
            }
        }
    }

    /// Reads the row to see whether a write without an answer was applied. `true`: that settles it for now.
    async fn find_unanswered(&self, progress: &mut Progress, until: Instant) -> bool {
        match bounded(until, read(&progress.rows)).await {
            Ok(row) => match progress.recognise(row.as_ref(), &self.me) {
                Some((version, sent)) => {
                    self.lead(progress, version, sent);
                    true
                }
                None => false,
            },
            Err(_) => {
                progress.next = (Instant::now() + RETRY).min(until);
                true
            }
        }
    }

    fn resign(&self, progress: &mut Progress, why: &str) {
        progress.lock.lost();
        progress.next = Instant::now();
        if self.say(false) {
            warn!(worker = %self.me, why, "no longer leader");
        }
    }

    async fn release(&self, progress: &mut Progress) {
        let was_leader = self.say(false);
        if progress.deputy_until.is_some()
            && let Ok(Some(row)) = read(&progress.rows).await
        {
            self.leave_seat(progress, &row).await;
        }
        let limit = Instant::now() + self.duration() / 2;
        let maybe_ours = progress.unanswered.iter().map(|(version, _)| version.as_str());
        let versions: Vec<&str> = progress.lock.version().into_iter().chain(maybe_ours).collect();
        for version in versions {
            let release = release(&self.me, version);
            match bounded(limit, progress.rows.write(&release)).await {
                Ok(_) if was_leader => info!(worker = %self.me, "leader's lock released"),
                Ok(_) | Err(TableError::Conflict(_)) => {}
                Err(error) => warn!(%error, "the leader's lock could not be released; it expires by itself"),
            }
        }
    }
}

async fn read(rows: &Rows) -> Result<Option<LockRow>, TableError> {
    lock_in(rows.get(KEY).await?)
}

/// As it was a moment ago.
async fn glance(rows: &Rows) -> Result<Option<LockRow>, TableError> {
    lock_in(rows.glance(KEY).await?)
}

fn lock_in(item: Option<Item>) -> Result<Option<LockRow>, TableError> {
    item.map(|item| LockRow::read(&item).map_err(|bad| TableError::Refused(Box::new(bad))))
        .transpose()
}

async fn bounded<T>(
    until: Instant,
    call: impl Future<Output = Result<T, TableError>>,
) -> Result<T, TableError> {
    match timeout_at(until, call).await {
        Ok(answer) => answer,
        Err(_) => Err(TableError::Unknown("no answer in time".into())),
    }
}
