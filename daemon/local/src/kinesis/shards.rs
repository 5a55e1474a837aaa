//! Listing shards, and dividing the stream anew.

use super::streams::{exclusive_start, limit, page};
use super::{Call, Kinesis, NOTHING, Reply};
use crate::error::{Outcome, ServiceError};
use crate::limits::Limits;
use crate::shard;
use crate::stream::{Entry, State, Stream};
use crate::token::Page;
use crate::value::{Request, out_of_range};
use crate::writer::Writer;

/// Which shards a listing shows. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    All,
    /// Open now.
    AtLatest,
    /// Open at the time, which is moved to the oldest record's if it is before that.
    At(i64),
    /// Open at the time or later.
    From(i64),
    After(u32),
}

/// The time of the oldest record that retention keeps.
const TRIM_HORIZON: i64 = i64::MIN;

impl Filter {
    fn read(request: Request<'_, '_>) -> Outcome<Self> {
        let Some(filter) = request.map("ShardFilter")? else {
            return Ok(Self::All);
        };
        let kind = filter.required_text("Type")?;
        let time = || {
            filter.time_ms("Timestamp")?.ok_or_else(|| {
                ServiceError::argument(format!("Timestamp must be provided for shard filter {kind}."))
            })
        };
        Ok(match kind {
            "AT_LATEST" => Self::AtLatest,
            "AT_TRIM_HORIZON" => Self::At(TRIM_HORIZON),
            "FROM_TRIM_HORIZON" => Self::From(TRIM_HORIZON),
            "AT_TIMESTAMP" => Self::At(time()?),
            "FROM_TIMESTAMP" => Self::From(time()?),
            "AFTER_SHARD_ID" => {
                let id = filter.text("ShardId")?.ok_or_else(|| {
                    ServiceError::argument("ShardId must be provided for shard filter AFTER_SHARD_ID.")
                })?;
                Self::After(shard::index(id).ok_or_else(|| bad_shard_id("ShardId", id))?)
            }
            other => {
                let kinds = "[AFTER_SHARD_ID, AT_TRIM_HORIZON, FROM_TRIM_HORIZON, AT_LATEST, AT_TIMESTAMP, FROM_TIMESTAMP]";
                return Err(out_of_range(
                    "ShardFilter.Type",
                    other,
                    &format!("satisfy enum value set: {kinds}"),
                ));
            }
        })
    }

    /// The same filter in a `NextToken`.
    fn write(self) -> String {
        match self {
            Self::All => "all".into(),
            Self::AtLatest => "at_latest".into(),
            Self::At(ms) => format!("at {ms}"),
            Self::From(ms) => format!("from {ms}"),
            Self::After(index) => format!("after {index}"),
        }
    }

    fn read_back(text: &str) -> Option<Self> {
        Some(match text.split_once(' ') {
            None if text == "all" => Self::All,
            None if text == "at_latest" => Self::AtLatest,
            Some(("at", ms)) => Self::At(ms.parse().ok()?),
            Some(("from", ms)) => Self::From(ms.parse().ok()?),
            Some(("after", index)) => Self::After(index.parse().ok()?),
            _ => return None,
        })
    }

    fn shows(self, entry: &Entry, oldest_ms: u64) -> bool {
        let closed_ms = entry.closed.as_ref().map(|closed| closed.at_ms);
        let at = |ms: i64| u64::try_from(ms).unwrap_or(0).max(oldest_ms);
        match self {
            Self::All => true,
            Self::AtLatest => closed_ms.is_none(),
            Self::At(ms) => entry.shard.made_ms <= at(ms) && closed_ms.is_none_or(|closed| closed > at(ms)),
            Self::From(ms) => closed_ms.is_none_or(|closed| closed > at(ms)),
            Self::After(index) => entry.shard.index > index,
        }
    }
}

impl Kinesis {
    pub(super) fn list_shards(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let request = call.request;
        let most = limit(request, "MaxResults", 10_000)?.unwrap_or(1000) as usize;
        let (stream, filter, after) = match request.text("NextToken")? {
            None => (
                self.stream(request)?,
                Filter::read(request)?,
                exclusive_start(request)?,
            ),
            Some(token) => {
                // KCL sends a continuation with nothing but the token (and perhaps StreamId, or a limit).
                for field in [
                    "StreamName",
                    "StreamCreationTimestamp",
                    "ExclusiveStartShardId",
                    "ShardFilter",
                ] {
                    if request.get(field).is_some() {
                        return Err(ServiceError::argument(format!(
                            "NextToken and {field} cannot be provided together."
                        )));
                    }
                }
                let page = page(self, token, "shards ", call.now_ms)?;
                let filter = Filter::read_back(&page.question["shards ".len()..]);
                let filter = filter.ok_or_else(|| ServiceError::argument("Invalid NextToken."))?;
                (self.named(&page.stream)?, filter, page.last.parse().ok())
            }
        };
        let state = stream.state();
        let oldest_ms = oldest_ms(&stream, &state, call.now_ms);
        let mut shards = state
            .shards(call.now_ms)
            .filter(|entry| after.is_none_or(|after| entry.shard.index > after))
            .filter(|entry| filter.shows(entry, oldest_ms));
        let page: Vec<_> = shards.by_ref().take(most).collect();
        let more = shards.next().is_some();
        let mut w = Writer::with_capacity(call.format, page.len() * 400 + 64);
        w.open_map().key("Shards").open_list();
        page.iter().for_each(|entry| write(&mut w, entry));
        w.close_list();
        if let (true, Some(last)) = (more, page.last()) {
            let next = Page {
                stream: stream.name.clone(),
                question: format!("shards {}", filter.write()),
                last: last.shard.index.to_string(),
                issued_ms: call.now_ms,
            };
            w.key("NextToken").text(&next.write());
        }
        w.close_map();
        Ok(Reply::Body(w.finish()))
    }

    pub(super) fn split_shard(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let stream = self.stream(call.request)?;
        let index = required_shard(call.request, "ShardToSplit")?;
        let text = call.request.required_text("NewStartingHashKey")?;
        let at = hash_key("NewStartingHashKey", text)?;
        self.within_shard_limit(self.open_shards(), 1)?;
        stream.split(index, at, call.now_ms)?;
        tracing::info!(stream = %stream.name, shard = %shard::id(index), "shard split");
        Ok(NOTHING)
    }

    pub(super) fn merge_shards(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let stream = self.stream(call.request)?;
        let index = required_shard(call.request, "ShardToMerge")?;
        let adjacent = required_shard(call.request, "AdjacentShardToMerge")?;
        stream.merge(index, adjacent, call.now_ms)?;
        tracing::info!(stream = %stream.name, shard = %shard::id(index), with = %shard::id(adjacent), "shards merged");
        Ok(NOTHING)
    }

    pub(super) fn update_shard_count(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let stream = self.stream(call.request)?;
        let target = call.request.required_integer("TargetShardCount")?;
        match call.request.required_text("ScalingType")? {
            "UNIFORM_SCALING" => {}
            other => {
                return Err(out_of_range(
                    "ScalingType",
                    other,
                    "satisfy enum value set: [UNIFORM_SCALING]",
                ));
            }
        }
        let Some(target) = u32::try_from(target).ok().filter(|target| *target >= 1) else {
            return Err(out_of_range(
                "TargetShardCount",
                target,
                "have value greater than or equal to 1",
            ));
        };
        let before = stream.state().open().len();
        if stream.state().settings.on_demand {
            return Err(ServiceError::validation(format!(
                "Request is invalid. Stream {} under account {} is in On-Demand mode.",
                stream.name, self.manners.account
            )));
        }
        if self.manners.limits == Limits::Aws {
            let (least, most) = (before.div_ceil(2), before * 2);
            if (target as usize) < least || target as usize > most {
                return Err(ServiceError::limit(format!(
                    "UpdateShardCount cannot go from {before} shards to {target} in one call: at least {least}, at most {most}."
                )));
            }
        }
        self.within_shard_limit(self.open_shards() - before, target)?;
        stream.divide(target, call.now_ms)?;
        tracing::info!(stream = %stream.name, from = before, to = target, "shard count updated");
        let mut w = call.writer();
        w.open_map()
            .key("StreamName")
            .text(&stream.name)
            .key("CurrentShardCount")
            .integer(before as i64);
        w.key("TargetShardCount").integer(i64::from(target));
        w.key("StreamARN")
            .text(&self.stream_arn(&stream.name))
            .close_map();
        Ok(Reply::Body(w.finish()))
    }

    fn open_shards(&self) -> usize {
        self.all().iter().map(|stream| stream.state().open().len()).sum()
    }
}

/// The earliest time for which the stream can still be asked.
fn oldest_ms(stream: &Stream, state: &State, now_ms: u64) -> u64 {
    state.horizon_ms(now_ms).max(stream.made_ms)
}

pub(super) fn required_shard(request: Request<'_, '_>, field: &str) -> Outcome<u32> {
    let id = request.required_text(field)?;
    shard::index(id).ok_or_else(|| bad_shard_id(field, id))
}

pub(super) fn bad_shard_id(field: &str, id: &str) -> ServiceError {
    // A well-formed name of a shard that cannot be is a missing shard; the service says so too.
    if !id.is_empty() && id.len() <= 128 && super::identity::valid_name(id) {
        return ServiceError::not_found(format!(
            "Could not find shard {id}: no stream has a shard of this name"
        ));
    }
    out_of_range(
        field,
        id,
        "satisfy regular expression pattern: [a-zA-Z0-9_.-]{1,128}",
    )
}

pub(super) fn hash_key(field: &str, text: &str) -> Outcome<u128> {
    let canonical = text == "0" || (!text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit()));
    let number = if canonical { text.parse().ok() } else { None };
    number.ok_or_else(|| {
        if canonical && !text.is_empty() {
            ServiceError::argument(format!(
                "Invalid {field}. {text} must be between 0 and 2^128 - 1."
            ))
        } else {
            out_of_range(
                field,
                text,
                "satisfy regular expression pattern: 0|([1-9]\\d{0,38})",
            )
        }
    })
}

/// A shard as listings show it.
pub(super) fn write(w: &mut Writer, entry: &Entry) {
    let Entry { shard, closed } = entry;
    w.open_map().key("ShardId").text(&shard.id);
    if let Some(parent) = shard.parents.first() {
        w.key("ParentShardId").text(&shard::id(*parent));
    }
    if let Some(parent) = shard.parents.get(1) {
        w.key("AdjacentParentShardId").text(&shard::id(*parent));
    }
    write_hashes(w, shard.hashes);
    w.key("SequenceNumberRange").open_map();
    w.key("StartingSequenceNumber")
        .text(&shard.starting_sequence().to_string());
    if let Some(closed) = closed {
        w.key("EndingSequenceNumber")
            .text(&shard.ending_sequence(closed).to_string());
    }
    w.close_map().close_map();
}

fn write_hashes(w: &mut Writer, (first, last): shard::HashRange) {
    w.key("HashKeyRange").open_map();
    w.key("StartingHashKey")
        .text(&first.to_string())
        .key("EndingHashKey")
        .text(&last.to_string());
    w.close_map();
}

/// `ChildShards`, with which a reader learns that the shard has ended and what follows it.
pub(super) fn write_children(w: &mut Writer, state: &State, children: &[u32]) {
    w.key("ChildShards").open_list();
    for child in children.iter().filter_map(|index| state.entry(*index)) {
        w.open_map()
            .key("ShardId")
            .text(&child.shard.id)
            .key("ParentShards")
            .open_list();
        child.shard.parents.iter().for_each(|parent| {
            w.text(&shard::id(*parent));
        });
        w.close_list();
        write_hashes(w, child.shard.hashes);
        w.close_map();
    }
    w.close_list();
}
