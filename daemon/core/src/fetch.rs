//! When to read a shard next, from where, and how far ahead of the child (`consuming.md 2`).
//!
//! Owns the place in the shard and the pace; never calls the stream.

pub mod fanout;

use std::time::Duration;

use crate::ids::{Position, SequenceNumber};
use crate::records::Records;
use crate::stream::{Batch, ChildShard, ShardIterator, StartAt};

/// `idleTimeBetweenReadsInMillis` below this is raised to it, as Java does.
pub const IDLE_MIN: Duration = Duration::from_millis(200);

/// How fast a shard is read (`consuming.md 2.1, 2.2`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaceSettings {
    /// `idleTimeBetweenReadsInMillis`: the least time between two reads.
    pub idle: Duration,
    /// `millisBehindLatestThresholdForReducedTps`: closer to the tip than this, reads keep this distance. Zero: off.
    pub reduced_tps_threshold: Duration,
}

/// GetRecords calls that the service allows for one shard come no closer than this: five in a second.
const CALLS_APART: Duration = Duration::from_millis(200);
/// Bytes of payload that the service gives out of one shard in a second, to all of its readers together.
const SHARD_BYTES_PER_SECOND: u64 = 2 * 1024 * 1024;

/// What an answer says about how far there is to go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// How far it is behind the tip, in milliseconds.
    pub millis_behind_latest: Option<i64>,
    /// It has as many records as were asked for.
    pub is_full: bool,
    /// Of payload.
    pub bytes: usize,
}

impl Read {
    /// Whether more waits than what comes in while Java pauses.
    fn is_behind(&self, settings: &PaceSettings) -> bool {
        match self.millis_behind_latest {
            Some(behind) => {
                (self.is_full && behind > 0) || i128::from(behind) > 2 * settings.idle.as_millis() as i128
            }
            None => self.is_full,
        }
    }

    /// The service may refuse to give out more before this has passed.
    fn paid_off_in(&self) -> Duration {
        Duration::from_millis(self.bytes as u64 * 1000 / SHARD_BYTES_PER_SECOND)
    }
}

/// The pause before the next read of one shard.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    last: Last,
    read: Read,
    /// Between two calls while the shard is behind. `None`: it was never throttled, so the service's limits are not
    /// anticipated; services without any exist.
    apart: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Last {
    #[default]
    Never,
    Failed,
    Throttled,
    Succeeded,
}

impl Pace {
    /// The next read follows at once.
    pub fn at_once(&mut self) {
        self.last = Last::Never;
    }

    /// The last read failed: the next one costs a full pause.
    pub fn failed(&mut self) {
        self.last = Last::Failed;
    }

    /// The last read was refused because there were too many, by whoever reads this shard.
    pub fn throttled(&mut self, settings: &PaceSettings) {
        self.last = Last::Throttled;
        let apart = self.apart.unwrap_or(CALLS_APART) * 2;
        self.apart = Some(apart.min(settings.idle).max(CALLS_APART));
    }

    /// The last read succeeded.
    pub fn succeeded(&mut self, read: Read) {
        self.last = Last::Succeeded;
        self.read = read;
        self.apart = self.apart.map(|apart| (apart * 7 / 8).max(CALLS_APART));
    }

    /// How long to wait from now on, `since_success` after the last success (`KinesisSleepTimeController`).
    pub fn pause(&self, settings: &PaceSettings, since_success: Duration) -> Duration {
        let threshold = settings.reduced_tps_threshold;
        let left = |pause: Duration| pause.saturating_sub(since_success);
        let is_near_tip = || {
            let behind = self.read.millis_behind_latest;
            behind.is_some_and(|behind| i128::from(behind) < threshold.as_millis() as i128)
        };
        match self.last {
            Last::Never => Duration::ZERO,
            Last::Failed => settings.idle,
            Last::Throttled => settings.idle.max(left(self.read.paid_off_in())),
            Last::Succeeded if is_near_tip() => left(settings.idle.max(threshold)),
            // Compat: Java sleeps between any two reads, so that a shard that is behind catches up with at most one
            // answer in each pause. Here it is read at what the service allows, and more slowly, down to Java's pace,
            // where the service says that this is too much.
            Last::Succeeded if self.read.is_behind(settings) => left(match self.apart {
                None => CALLS_APART.min(settings.idle),
                Some(apart) => apart.max(self.read.paid_off_in()),
            }),
            Last::Succeeded => left(settings.idle),
        }
    }
}

/// Read ahead of the child by at most this much per shard, as Java does (`maxPendingProcessRecordsInput`).
pub const READ_AHEAD_BATCHES_MAX: usize = 4;
/// The same in bytes of payload: a batch is not fetched while this much is waiting.
pub const READ_AHEAD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The same in records.
pub const READ_AHEAD_RECORDS_MAX: usize = 30_000;

/// What records take in memory until the child has them, in bytes: a line, in base64, and where in it each of them lies.
/// `bytes` are of payload.
pub fn memory_bytes(records: usize, bytes: usize) -> usize {
    records * RECORD_MEMORY_BYTES + bytes / 3 * 4
}

/// What is around the payload of a record, in bytes of [memory](memory_bytes).
const RECORD_MEMORY_BYTES: usize = 256;
/// What the longest answers take.
const ANSWER_MEMORY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What an answer takes, at least, as far as can be told before it comes.
const ANSWER_MEMORY_BYTES_MIN: usize = 4 * 1024;
/// How much memory an answer to a shard that has nothing waiting may take, when all that the worker may keep is used up.
/// A thousand shards then take 128 MB more, and as much again in the hands of their children. Beside so many that stall, a
/// shard catches up with five of these in a second at most.
pub const SCARCE_BYTES: usize = 128 * 1024;
/// An answer takes at most this part of what is left, so that all shards find about as much.
const SHARE: usize = 8;
/// A record of a shard that has shown none yet takes about so much, or less.
const UNKNOWN_RECORD_BYTES: usize = 12 * 1024;

/// How much to ask for, so that all shards of a worker together keep no more than they may.
#[derive(Clone, Copy, Debug, Default)]
pub struct Portions {
    /// What a record took, on average, in the last answer that had any.
    record_bytes: Option<usize>,
    last: Option<LastAnswer>,
}

#[derive(Clone, Copy, Debug)]
struct LastAnswer {
    bytes: usize,
    is_full: bool,
}

/// What to ask for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// The `Limit` of GetRecords.
    pub records_max: u32,
    /// What the answer may take, in bytes of [memory](memory_bytes), as far as can be told.
    pub bytes: usize,
}

impl Portions {
    /// An answer came. `bytes` are of payload; `is_full`: it has as many records as were asked for.
    pub fn answered(&mut self, records: usize, bytes: usize, is_full: bool) {
        let memory = memory_bytes(records, bytes);
        if records > 0 {
            self.record_bytes = Some(memory.div_ceil(records));
        }
        self.last = Some(LastAnswer {
            bytes: memory,
            is_full,
        });
    }

    /// What to ask for when the worker may keep so much more. `records_max`: more are never asked for.
    pub fn next(&self, records_max: u32, left: usize) -> Portion {
        let record = self.record_bytes.unwrap_or(UNKNOWN_RECORD_BYTES);
        let most = (records_max as usize * record).min(ANSWER_MEMORY_BYTES_MAX);
        let expected = match self.last {
            Some(last) if !last.is_full => (2 * last.bytes).max(ANSWER_MEMORY_BYTES_MIN).min(most),
            Some(_) | None => most,
        };
        let share = (left / SHARE).max(SCARCE_BYTES);
        if expected <= share {
            return Portion {
                records_max,
                bytes: expected,
            };
        }
        let records = (share / record).max(1).min(records_max as usize);
        Portion {
            records_max: u32::try_from(records).unwrap_or(records_max),
            bytes: (records * record).min(ANSWER_MEMORY_BYTES_MAX),
        }
    }
}

/// What is fetched and not yet taken by the consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadAhead {
    /// Batches waiting.
    pub batches: usize,
    /// Records in them.
    pub records: usize,
    /// Bytes of payload in them.
    pub bytes: usize,
}

impl ReadAhead {
    /// Whether another batch may be fetched: always when nothing waits, so that no shard ever starves; else within
    /// the shard's own bounds and the one that all shards of the worker share.
    pub fn may_fetch(&self, worker_bytes: usize, worker_bytes_max: usize) -> bool {
        self.is_below(READ_AHEAD_BATCHES_MAX, 1) && (self.batches == 0 || worker_bytes < worker_bytes_max)
    }

    /// Whether less waits than `batches_max`, and than the other bounds of a shard divided by `divisor`. Nothing waiting
    /// is always below.
    pub(crate) fn is_below(&self, batches_max: usize, divisor: usize) -> bool {
        self.batches == 0
            || (self.batches < batches_max
                && self.records < READ_AHEAD_RECORDS_MAX / divisor
                && self.bytes < READ_AHEAD_BYTES_MAX / divisor)
    }
}

/// Where reading a shard begins, and begins again.
#[derive(Clone, Debug)]
pub(crate) struct Beginning {
    start: StartAt,
    /// When it was first asked for, in milliseconds since the epoch.
    began_ms: Option<i64>,
}

impl Beginning {
    /// At a checkpoint. `timestamp_ms`: see [`Cursor::new`].
    pub(crate) fn new(checkpoint: &Position, timestamp_ms: Option<i64>) -> Self {
        let start = match checkpoint {
            Position::AtTimestamp => match timestamp_ms {
                Some(ms) => StartAt::Timestamp(ms),
                // Compat: Java fails for ever when the configuration has no time stamp any more. Reading all of it
                // again loses nothing.
                None => StartAt::TrimHorizon,
            },
            Position::TrimHorizon => StartAt::TrimHorizon,
            Position::Latest | Position::ShardEnd => StartAt::Latest,
            // AT, not AFTER: the checkpoint may lie inside an aggregate (`consuming.md 9`, trap 1).
            #[cfg(planted)]
            Position::At(number, _) if crate::planted::is_planted(crate::planted::Bug::StartAfter) => {
                StartAt::After(number.clone())
            }
            Position::At(number, _) => StartAt::At(number.clone()),
        };
        Self {
            start,
            began_ms: None,
        }
    }

    /// Where to begin now: behind what was read, or where nothing was, at the start.
    pub(crate) fn behind(&mut self, read: Option<&SequenceNumber>, now_ms: i64) -> StartAt {
        let began_ms = *self.began_ms.get_or_insert(now_ms);
        match (read, &self.start) {
            (Some(number), _) => StartAt::After(number.clone()),
            // Compat: Java asks for LATEST again, which skips what came in between.
            (None, StartAt::Latest) if began_ms != now_ms => StartAt::Timestamp(began_ms - LATEST_MARGIN_MS),
            (None, start) => start.clone(),
        }
    }
}

/// Whether an answer is the shard's end; `Err` with the reason where that cannot be believed: a null iterator or
/// continuation is the end only with child shards, each with its parents (`consuming.md 2.4, 3.2`, trap 3).
pub(crate) fn is_end(has_next: bool, child_shards: &[ChildShard]) -> Result<bool, String> {
    match (has_next, child_shards.is_empty()) {
        (false, true) => return Err("nothing follows, but no child shards either".into()),
        (true, false) => return Err("child shards, but something follows too".into()),
        (false, false) | (true, true) => {}
    }
    match child_shards.iter().find(|child| child.parents.is_empty()) {
        Some(orphan) => Err(format!("child shard {} names no parents", orphan.id)),
        None => Ok(!has_next),
    }
}

/// A place in a shard: what to ask the stream next.
#[derive(Clone, Debug)]
pub struct Cursor {
    beginning: Beginning,
    last_fetched: Option<SequenceNumber>,
    iterator: Option<ShardIterator>,
}

/// What to ask the stream next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A new iterator from here.
    Iterator(StartAt),
    /// The records behind this iterator.
    Records(ShardIterator),
}

/// A checked answer, on its way to the consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// More may follow.
    More(Batch),
    /// The last one of the shard, with the shards that continue it (unknown, thus none, where the shard is gone).
    End(Batch),
}

/// Redelivered rather than lost: how far before the first read of a `LATEST` start a new iterator begins when the
/// first one expired with nothing read, in milliseconds. Covers the difference between our clock and the stream's.
const LATEST_MARGIN_MS: i64 = 5_000;

impl Cursor {
    /// Starts at a checkpoint. `timestamp_ms` is `initialPositionInStreamExtended`, in milliseconds since the epoch:
    /// the time comes from today's configuration, not from the lease (`consuming.md 2.3`).
    pub fn new(checkpoint: &Position, timestamp_ms: Option<i64>) -> Self {
        Self {
            beginning: Beginning::new(checkpoint, timestamp_ms),
            last_fetched: None,
            iterator: None,
        }
    }

    /// What to ask next.
    pub fn ask(&mut self, now_ms: i64) -> Ask {
        if let Some(iterator) = &self.iterator {
            return Ask::Records(iterator.clone());
        }
        Ask::Iterator(self.beginning.behind(self.last_fetched.as_ref(), now_ms))
    }

    /// The stream gave an iterator.
    pub fn iterator(&mut self, iterator: ShardIterator) {
        self.iterator = Some(iterator);
    }

    /// The iterator is of no use any more (expired, refused): the next question is for a new one.
    pub fn forget_iterator(&mut self) {
        self.iterator = None;
    }

    /// Judges an answer and moves on. An answer whose end cannot be believed is refused with the reason, and the same
    /// question is asked again.
    pub fn accept(&mut self, batch: Batch) -> Result<Answer, String> {
        let is_end = is_end(batch.next_iterator.is_some(), &batch.child_shards)?;
        if let Some(number) = batch.records.last_sequence_number() {
            self.last_fetched = Some(number);
        }
        self.iterator = batch.next_iterator.clone();
        Ok(if is_end {
            Answer::End(batch)
        } else {
            Answer::More(batch)
        })
    }

    /// The shard is gone from the stream: an end without records and without known children.
    pub fn gone() -> Answer {
        Answer::End(Batch {
            records: Records::default(),
            next_iterator: None,
            millis_behind_latest: None,
            child_shards: Vec::<ChildShard>::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::HashRange;
    use crate::stream::StreamRecord;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn settings(idle: u64, threshold: u64) -> PaceSettings {
        PaceSettings {
            idle: ms(idle),
            reduced_tps_threshold: ms(threshold),
        }
    }

    fn pace(last: Option<i64>) -> Pace {
        let mut pace = Pace::default();
        pace.succeeded(Read {
            millis_behind_latest: last,
            ..Read::default()
        });
        pace
    }

    #[test]
    fn with_enough_left_as_much_is_asked_for_as_is_configured() {
        let mut portions = Portions::default();
        let all = |bytes| Portion {
            records_max: 10_000,
            bytes,
        };
        assert_eq!(portions.next(10_000, usize::MAX), all(ANSWER_MEMORY_BYTES_MAX));
        // A shard that brings little is not thought to bring more than twice that, once it has shown it.
        portions.answered(10, 1_000, false);
        assert_eq!(portions.next(10_000, 8_000), all(2 * memory_bytes(10, 1_000)));
        portions.answered(0, 0, false);
        assert_eq!(portions.next(10_000, 8_000), all(ANSWER_MEMORY_BYTES_MIN));
        portions.answered(10_000, 1_000_000, true);
        let full = memory_bytes(10_000, 1_000_000);
        assert_eq!(portions.next(10_000, usize::MAX).records_max, 10_000);
        assert!(portions.next(10_000, usize::MAX).bytes.abs_diff(full) < 10_000);
    }

    #[test]
    fn with_little_left_little_is_asked_for_and_never_nothing() {
        let mut portions = Portions::default();
        for (left, share) in [(0, SCARCE_BYTES), (1 << 20, SCARCE_BYTES), (1 << 23, 1 << 20)] {
            let portion = portions.next(10_000, left);
            assert_eq!(portion.records_max as usize, share / UNKNOWN_RECORD_BYTES);
        }
        portions.answered(1_000, 1_000_000, true);
        let record = memory_bytes(1_000, 1_000_000) / 1_000;
        let portion = portions.next(10_000, 0);
        assert_eq!(portion.records_max as usize, SCARCE_BYTES / (record + 1));
        assert!(portion.bytes <= SCARCE_BYTES);
        assert_eq!(portions.next(50, 0).records_max, 50);
        portions.answered(2, 2_000_000, true);
        assert_eq!(portions.next(10_000, 0).records_max, 1);
    }

    #[test]
    fn the_first_read_does_not_wait() {
        assert_eq!(Pace::default().pause(&settings(1500, 0), ms(0)), ms(0));
    }

    #[test]
    fn a_failed_read_costs_a_full_pause() {
        let mut pace = pace(Some(0));
        pace.failed();
        assert_eq!(pace.pause(&settings(1500, 0), ms(9000)), ms(1500));
    }

    #[test]
    fn time_spent_since_the_last_read_counts() {
        assert_eq!(pace(Some(0)).pause(&settings(1500, 0), ms(600)), ms(900));
        assert_eq!(pace(Some(0)).pause(&settings(1500, 0), ms(1600)), ms(0));
    }

    #[test]
    fn near_the_tip_reads_keep_the_reduced_distance() {
        assert_eq!(pace(Some(100)).pause(&settings(200, 5000), ms(50)), ms(4950));
        assert_eq!(pace(Some(5000)).pause(&settings(200, 5000), ms(50)), ms(150));
        assert_eq!(pace(None).pause(&settings(200, 5000), ms(50)), ms(150));
    }

    fn full(behind: i64, bytes: usize) -> Read {
        Read {
            millis_behind_latest: Some(behind),
            is_full: true,
            bytes,
        }
    }

    #[test]
    fn a_shard_that_is_behind_is_read_at_what_the_service_allows() {
        let mut pace = Pace::default();
        pace.succeeded(full(1, 1000));
        assert_eq!(pace.pause(&settings(1500, 0), ms(50)), ms(150));
        // Less than full, but far from the tip.
        assert_eq!(
            self::pace(Some(60_000)).pause(&settings(1500, 0), ms(50)),
            ms(150)
        );
    }

    #[test]
    fn at_the_tip_the_pace_is_javas() {
        let mut pace = Pace::default();
        pace.succeeded(full(0, 1000));
        assert_eq!(pace.pause(&settings(1500, 0), ms(50)), ms(1450));
        // What came in while it paused.
        assert_eq!(self::pace(Some(2999)).pause(&settings(1500, 0), ms(50)), ms(1450));
    }

    #[test]
    fn the_services_limits_are_kept_once_it_has_insisted_on_them() {
        let ten_megabytes = full(60_000, 10 * 1024 * 1024);
        let mut pace = Pace::default();
        pace.succeeded(ten_megabytes);
        assert_eq!(pace.pause(&settings(1500, 0), ms(0)), ms(200));
        pace.throttled(&settings(1500, 0));
        assert_eq!(pace.pause(&settings(1500, 0), ms(200)), ms(4800));
        assert_eq!(pace.pause(&settings(1500, 0), ms(4900)), ms(1500));
        pace.succeeded(ten_megabytes);
        assert_eq!(pace.pause(&settings(1500, 0), ms(0)), ms(5000));
    }

    #[test]
    fn a_shard_that_others_read_too_is_left_to_them_down_to_javas_pace() {
        let settings = settings(1500, 0);
        let mut pace = Pace::default();
        let mut pauses = Vec::new();
        for _ in 0..4 {
            pace.throttled(&settings);
            pace.succeeded(full(60_000, 0));
            pauses.push(pace.pause(&settings, ms(0)).as_millis());
        }
        assert_eq!(pauses, [350, 612, 1071, 1312]);
        for _ in 0..20 {
            pace.succeeded(full(60_000, 0));
        }
        assert_eq!(
            pace.pause(&settings, ms(0)),
            ms(200),
            "and taken up again when they are gone"
        );
    }

    #[test]
    fn an_empty_queue_may_always_be_filled() {
        assert!(ReadAhead::default().may_fetch(usize::MAX, 1));
    }

    #[test]
    fn read_ahead_ends_at_each_bound() {
        let one = ReadAhead {
            batches: 1,
            records: 1,
            bytes: 1,
        };
        assert!(one.may_fetch(1, 2));
        assert!(!one.may_fetch(2, 2));
        assert!(
            !ReadAhead {
                batches: READ_AHEAD_BATCHES_MAX,
                ..one
            }
            .may_fetch(1, 2)
        );
        assert!(
            !ReadAhead {
                bytes: READ_AHEAD_BYTES_MAX,
                ..one
            }
            .may_fetch(1, 2)
        );
        assert!(
            !ReadAhead {
                records: READ_AHEAD_RECORDS_MAX,
                ..one
            }
            .may_fetch(1, 2)
        );
    }

    fn number(text: &str) -> SequenceNumber {
        SequenceNumber::parse(text).unwrap()
    }

    fn batch(numbers: &[&str], next: Option<&str>, children: &[&str]) -> Batch {
        Batch {
            records: numbers
                .iter()
                .map(|text| StreamRecord {
                    sequence_number: number(text),
                    partition_key: "k".into(),
                    data: bytes::Bytes::new(),
                    approximate_arrival_ms: None,
                })
                .collect(),
            next_iterator: next.map(|text| ShardIterator(text.into())),
            millis_behind_latest: Some(0),
            child_shards: children
                .iter()
                .map(|id| ChildShard {
                    id: (*id).into(),
                    parents: vec!["parent".into()],
                    hash_range: HashRange::ALL,
                })
                .collect(),
        }
    }

    #[test]
    fn reading_starts_at_the_checkpoint_and_restarts_after_what_was_fetched() {
        let mut cursor = Cursor::new(&Position::At(number("7"), 3), None);
        assert_eq!(cursor.ask(1), Ask::Iterator(StartAt::At(number("7"))));
        cursor.iterator(ShardIterator("a".into()));
        assert_eq!(cursor.ask(2), Ask::Records(ShardIterator("a".into())));
        cursor.accept(batch(&["7", "8"], Some("b"), &[])).unwrap();
        cursor.forget_iterator();
        assert_eq!(cursor.ask(3), Ask::Iterator(StartAt::After(number("8"))));
    }

    #[test]
    fn an_iterator_that_expired_before_anything_was_read_starts_at_the_checkpoint_again() {
        let mut cursor = Cursor::new(&Position::At(number("7"), 3), None);
        cursor.ask(1);
        assert_eq!(cursor.ask(9), Ask::Iterator(StartAt::At(number("7"))));
    }

    #[test]
    fn a_latest_start_that_is_repeated_skips_nothing() {
        let mut cursor = Cursor::new(&Position::Latest, None);
        assert_eq!(cursor.ask(100_000), Ask::Iterator(StartAt::Latest));
        assert_eq!(cursor.ask(400_000), Ask::Iterator(StartAt::Timestamp(95_000)));
    }

    #[test]
    fn the_time_stamp_comes_from_the_configuration() {
        assert_eq!(
            Cursor::new(&Position::AtTimestamp, Some(5)).ask(9),
            Ask::Iterator(StartAt::Timestamp(5))
        );
        assert_eq!(
            Cursor::new(&Position::AtTimestamp, None).ask(9),
            Ask::Iterator(StartAt::TrimHorizon)
        );
    }

    #[test]
    fn an_end_is_believed_only_with_children_and_their_parents() {
        let mut cursor = Cursor::new(&Position::TrimHorizon, None);
        cursor.iterator(ShardIterator("a".into()));
        assert!(cursor.accept(batch(&["1"], None, &[])).is_err());
        assert!(cursor.accept(batch(&["1"], Some("b"), &["c"])).is_err());
        let mut orphan = batch(&["1"], None, &["c"]);
        orphan.child_shards[0].parents.clear();
        assert!(cursor.accept(orphan).is_err());
        assert_eq!(
            cursor.ask(1),
            Ask::Records(ShardIterator("a".into())),
            "the same question again"
        );
        assert!(matches!(
            cursor.accept(batch(&["1"], None, &["c"])),
            Ok(Answer::End(_))
        ));
    }
}
