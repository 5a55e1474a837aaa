//! `GetShardIterator` and `GetRecords`, and what `SubscribeToShard` shares with them.

use std::io;
use std::sync::{Arc, PoisonError};

use super::shards::write_children;
use super::{Call, Kinesis, Reply};
use crate::error::{Outcome, ServiceError};
use crate::limits::Limits;
use crate::sequence::{END, Printer, SequenceNumber};
use crate::shard::{self, Shard};
use crate::stream::Stream;
use crate::token;
use crate::value::{Request, missing, out_of_range};
use crate::writer::Writer;

/// Most records in one answer.
const RECORDS_MAX: i64 = 10_000;
/// Most bytes of data and keys in one answer: 10 MiB. A single record may be as large.
const BYTES_MAX: usize = 10 << 20;

/// What was read of a shard in one go.
pub(super) struct Page {
    /// The next record to read.
    pub(super) next: u64,
    /// Bytes of data and keys.
    pub(super) bytes: usize,
    pub(super) records: usize,
    /// When the next record arrived; `None` at the tip.
    pub(super) following_ms: Option<u64>,
    /// Everything that the closed shard will ever have was read: its children.
    pub(super) ended: Option<Vec<u32>>,
}

impl Page {
    /// The age of the next unread record: 0 at the tip.
    pub(super) fn behind_ms(&self, now_ms: u64) -> i64 {
        self.following_ms.map_or(0, |ms| now_ms.saturating_sub(ms) as i64)
    }
}

impl Kinesis {
    pub(super) fn get_shard_iterator(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let request = call.request;
        let stream = self.stream(request)?;
        let id = request.required_text("ShardId")?;
        let shard = self.shard(&stream, id, call.now_ms)?;
        let kind = request.required_text("ShardIteratorType")?;
        let position = self.starting_position(
            &stream,
            &shard,
            request,
            kind,
            "StartingSequenceNumber",
            call.now_ms,
        )?;
        let iterator = token::Iterator {
            stream: stream.name.clone(),
            stream_made_ms: stream.made_ms,
            shard: shard.index,
            position,
            issued_ms: call.now_ms,
        };
        let mut w = call.writer();
        w.open_map()
            .key("ShardIterator")
            .text(&iterator.write())
            .close_map();
        Ok(Reply::Body(w.finish()))
    }

    pub(super) fn shard(&self, stream: &Stream, id: &str, now_ms: u64) -> Outcome<Arc<Shard>> {
        let state = stream.state();
        let entry = shard::index(id).and_then(|index| state.shard(index, now_ms));
        entry.map(|entry| entry.shard.clone()).ok_or_else(|| {
            ServiceError::not_found(format!(
                "Shard {id} in stream {} under account {} does not exist",
                stream.name, self.manners.account
            ))
        })
    }

    /// Where a reader begins: the position of the first record that it gets.
    pub(super) fn starting_position(
        &self,
        stream: &Stream,
        shard: &Shard,
        request: Request<'_, '_>,
        kind: &str,
        sequence_field: &str,
        now_ms: u64,
    ) -> Outcome<u64> {
        let sequence = || {
            let text = request
                .text(sequence_field)?
                .ok_or_else(|| missing(sequence_field))?;
            let number = SequenceNumber::parse(text).ok_or_else(|| {
                ServiceError::argument(format!(
                    "{sequence_field} {text} used in GetShardIterator on shard {} in stream {} under account {} is invalid.",
                    shard.id, stream.name, self.manners.account
                ))
            })?;
            if number.origin != shard.origin {
                return Err(ServiceError::argument(format!(
                    "Invalid {sequence_field}. It encodes {} of another shard, and does not belong to shard {} in \
                     stream {} under account {}.",
                    text, shard.id, stream.name, self.manners.account
                )));
            }
            Ok(number.count)
        };
        Ok(match kind {
            "TRIM_HORIZON" => shard.log().first(),
            "LATEST" => shard.log().next(),
            "AT_SEQUENCE_NUMBER" => match sequence()? {
                END => shard.log().next(),
                count => count.saturating_sub(1),
            },
            "AFTER_SEQUENCE_NUMBER" => match sequence()? {
                END => shard.log().next(),
                count => count,
            },
            "AT_TIMESTAMP" => {
                let ms = request.time_ms("Timestamp")?.ok_or_else(|| {
                    ServiceError::argument(
                        "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP.",
                    )
                })?;
                // One second of grace: clients may send whole seconds, rounded.
                if ms > now_ms as i64 + 1000 {
                    return Err(ServiceError::argument(format!(
                        "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. \
                         timestampInMillis: {ms}, currentTimestampInMillis: {now_ms}"
                    )));
                }
                let ms = u64::try_from(ms).unwrap_or(0);
                let (position, piece) = shard.log().locate(ms);
                match piece {
                    None => position,
                    Some(piece) => piece
                        .locate(ms)
                        .map_err(|error| unreadable(stream, shard, &error))?
                        .unwrap_or(position),
                }
            }
            other => {
                let kinds = "[AT_SEQUENCE_NUMBER, AFTER_SEQUENCE_NUMBER, TRIM_HORIZON, LATEST, AT_TIMESTAMP]";
                return Err(out_of_range(
                    "ShardIteratorType",
                    other,
                    &format!("satisfy enum value set: {kinds}"),
                ));
            }
        })
    }

    pub(super) fn get_records(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let Call {
            request,
            format,
            now_ms,
        } = call;
        let text = request.required_text("ShardIterator")?;
        let limit = super::streams::limit(request, "Limit", RECORDS_MAX)?.unwrap_or(RECORDS_MAX) as usize;
        let mut iterator = token::Iterator::read(text)?;
        let life_ms = self.manners.iterator_life.as_millis() as u64;
        if now_ms.saturating_sub(iterator.issued_ms) > life_ms {
            return Err(expired_iterator(iterator.issued_ms, now_ms, life_ms));
        }
        let stream = self.named(&iterator.stream)?;
        if request.get("StreamARN").is_some() && self.stream_name(request)? != stream.name {
            return Err(ServiceError::argument(
                "StreamARN and ShardIterator are of different streams.",
            ));
        }
        if stream.made_ms != iterator.stream_made_ms {
            return Err(ServiceError::not_found(format!(
                "The ShardIterator is of an earlier stream of the name {}, which was deleted.",
                stream.name
            )));
        }
        let shard = self.shard(&stream, &shard::id(iterator.shard), now_ms)?;
        if self.manners.limits == Limits::Aws
            && !shard
                .allowance
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .read(now_ms)
        {
            return Err(self.rate_exceeded(&stream, &shard));
        }
        let mut w = Writer::with_capacity(format, 4096);
        w.open_map().key("Records");
        let page = read(
            &stream,
            &shard,
            iterator.position,
            limit,
            BYTES_MAX,
            now_ms,
            &mut w,
        )?;
        if self.manners.limits == Limits::Aws {
            shard
                .allowance
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .has_read(page.bytes, now_ms);
        }
        match &page.ended {
            Some(children) => write_children(&mut w, &stream.state(), children),
            None => {
                iterator.position = page.next;
                iterator.issued_ms = now_ms;
                w.key("NextShardIterator").text(&iterator.write());
            }
        }
        w.key("MillisBehindLatest")
            .integer(page.behind_ms(now_ms))
            .close_map();
        Ok(Reply::Body(w.finish()))
    }
}

/// The service's words for an iterator that is too old.
pub(crate) fn expired_iterator(issued_ms: u64, now_ms: u64, life_ms: u64) -> ServiceError {
    ServiceError::new(
        "ExpiredIteratorException",
        format!(
            "Iterator expired. The iterator was created at time {issued_ms} while right now it is {now_ms} which is \
             further in the future than the tolerated delay of {life_ms} milliseconds."
        ),
    )
}

/// Writes a list of records from a position on, as many as there are and the limits allow.
pub(super) fn read(
    stream: &Stream,
    shard: &Shard,
    position: u64,
    records_max: usize,
    bytes_max: usize,
    now_ms: u64,
    w: &mut Writer,
) -> Outcome<Page> {
    let horizon_ms = stream.state().horizon_ms(now_ms);
    // Asked before looking at the log: a shard that was closed by then has all its records in it.
    let closed = stream
        .state()
        .entry(shard.index)
        .and_then(|entry| entry.closed.clone());
    let (plan, position, end) = {
        let mut log = shard.log();
        log.trim(horizon_ms);
        // Also down: a number from beyond the end (a power cut took the rest) must not skip what comes.
        let position = position.max(log.first()).min(log.next());
        (log.plan(position, bytes_max), position, log.next())
    };
    let encrypted = stream.state().settings.key_id.is_some();
    let mut page = Page {
        next: position,
        bytes: 0,
        records: 0,
        following_ms: None,
        ended: None,
    };
    let mut printer = Printer::new(shard.origin);
    // Base64 takes a third more, and a record's other members about as much as its frame's header and 150 bytes.
    w.reserve((plan.bytes.min(bytes_max) / 3 * 4).min(records_max.saturating_mul(64 << 10)) + 4096);
    w.open_list();
    let visited = plan.visit(position, horizon_ms, |frame| {
        let bytes = frame.key.len() + frame.data.len();
        if page.records == records_max || (page.records > 0 && page.bytes + bytes > bytes_max) {
            return false;
        }
        w.open_map()
            .key("SequenceNumber")
            .plain(&printer.print(frame.position + 1, frame.arrived_ms / 1000));
        w.key("ApproximateArrivalTimestamp").time(frame.arrived_ms);
        w.key("Data").blob(frame.data).key("PartitionKey").text(frame.key);
        if encrypted {
            w.key("EncryptionType").text("KMS");
        }
        w.close_map();
        page.records += 1;
        page.bytes += bytes;
        page.next = frame.position + 1;
        true
    });
    page.following_ms = visited.map_err(|error| unreadable(stream, shard, &error))?;
    w.close_list();
    if page.following_ms.is_none() {
        // Nothing is left, also where retention took the last records from under the reader.
        page.next = page.next.max(end);
        page.ended = closed.map(|closed| closed.children);
    }
    Ok(page)
}

fn unreadable(stream: &Stream, shard: &Shard, error: &io::Error) -> ServiceError {
    tracing::error!(stream = %stream.name, shard = %shard.id, %error, "cannot read records");
    ServiceError::internal(format!(
        "cannot read shard {} of stream {}: {error}",
        shard.id, stream.name
    ))
}
