//! `PutRecord` and `PutRecords`.

use std::borrow::Cow;

use super::shards::hash_key;
use super::{Call, Kinesis, Reply};
use crate::error::{Outcome, ServiceError};
use crate::limits::Limits;
use crate::log::frame::KEY_BYTES_MAX;
use crate::sequence::{Printer, SequenceNumber};
use crate::shard::{self, Shard};
use crate::stream::{State, Stream};
use crate::value::{Request, missing, out_of_range};
use crate::writer::Writer;

/// Most records in one `PutRecords`.
const RECORDS_MAX: usize = 500;
/// Most bytes of data and keys in one `PutRecords`: 10 MiB.
const BYTES_MAX: usize = 10 << 20;

/// A record of a request.
struct Record<'v> {
    key: &'v str,
    data: Cow<'v, [u8]>,
    hash: u128,
}

/// What became of it.
enum Fate {
    Appended { count: u64, arrived_ms: u64 },
    Refused(ServiceError),
}

impl<'v> Record<'v> {
    /// `label` names the record in messages.
    fn read(request: Request<'v, '_>, settings_kib: u32, label: &str) -> Outcome<Self> {
        let key = request
            .text("PartitionKey")?
            .ok_or_else(|| missing(&format!("{label}partitionKey")))?;
        let data = request
            .blob("Data")?
            .ok_or_else(|| missing(&format!("{label}data")))?;
        if key.is_empty() || (key.len() > 256 && key.chars().count() > 256) || key.len() > KEY_BYTES_MAX {
            return Err(out_of_range(
                &format!("{label}partitionKey"),
                key,
                "have length between 1 and 256 characters",
            ));
        }
        let bytes_max = settings_kib as usize * 1024;
        if data.len() + key.len() > bytes_max {
            return Err(ServiceError::validation(format!(
                "1 validation error detected: Value at '{label}data' failed to satisfy constraint: Member must have \
                 length less than or equal to {bytes_max} (data and partition key have {} bytes)",
                data.len() + key.len()
            )));
        }
        let hash = match request.text("ExplicitHashKey")? {
            Some(text) => hash_key("ExplicitHashKey", text)?,
            None => shard::hash(key),
        };
        Ok(Self { key, data, hash })
    }

    fn bytes(&self) -> usize {
        self.key.len() + self.data.len()
    }
}

impl Kinesis {
    pub(super) fn put_record(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let stream = self.stream(call.request)?;
        let state = stream.state();
        let record = Record::read(call.request, state.settings.record_kib, "")?;
        if let Some(text) = call.request.text("SequenceNumberForOrdering")?
            && SequenceNumber::parse(text).is_none()
        {
            return Err(ServiceError::argument(format!(
                "ExclusiveMinimumSequenceNumber {text} used in PutRecord on stream {} under account {} is invalid.",
                stream.name, self.manners.account
            )));
        }
        let shard = &state.open()[state.route(record.hash)];
        let mut fates = [const { None }];
        self.append(
            &stream,
            shard,
            std::slice::from_ref(&record),
            &[0],
            &mut fates,
            call.now_ms,
        );
        let mut w = call.writer();
        match fates[0].take().expect("every record has a fate") {
            Fate::Refused(error) => Err(error),
            Fate::Appended { count, arrived_ms } => {
                w.open_map().key("ShardId").text(&shard.id);
                w.key("SequenceNumber")
                    .text(&shard.sequence(count, arrived_ms).to_string());
                write_encryption(&mut w, &state);
                w.close_map();
                Ok(Reply::Body(w.finish()))
            }
        }
    }

    pub(super) fn put_records(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let stream = self.stream(call.request)?;
        let items = call.request.list("Records")?.ok_or_else(|| missing("Records"))?;
        if items.is_empty() || items.len() > RECORDS_MAX {
            return Err(out_of_range(
                "Records",
                items.len(),
                "have length between 1 and 500",
            ));
        }
        let state = stream.state();
        let mut records = Vec::with_capacity(items.len());
        let mut bytes = 0;
        for (number, item) in (1..).zip(items) {
            let record = match Record::read(Request::new(item)?, state.settings.record_kib, "") {
                Ok(record) => record,
                // Again, for the message to say which record.
                Err(_) => {
                    let label = format!("records.{number}.member.");
                    Record::read(Request(item), state.settings.record_kib, &label)?
                }
            };
            bytes += record.bytes();
            records.push(record);
        }
        if bytes > BYTES_MAX {
            return Err(ServiceError::argument(format!(
                "Records size exceeds 10 MB limit: they have {bytes} bytes"
            )));
        }
        let mut by_shard = vec![Vec::new(); state.open().len()];
        let mut routes = Vec::with_capacity(records.len());
        for (index, record) in records.iter().enumerate() {
            let route = state.route(record.hash);
            routes.push(route);
            by_shard[route].push(index);
        }
        let mut fates: Vec<Option<Fate>> = records.iter().map(|_| None).collect();
        for (shard, indexes) in state.open().iter().zip(&by_shard) {
            if !indexes.is_empty() {
                self.append(&stream, shard, &records, indexes, &mut fates, call.now_ms);
            }
        }
        answer(&state, &routes, fates, call)
    }

    /// Appends those records, in order; each gets its fate.
    fn append(
        &self,
        stream: &Stream,
        shard: &Shard,
        records: &[Record<'_>],
        indexes: &[usize],
        fates: &mut [Option<Fate>],
        now_ms: u64,
    ) {
        let mut passed = Vec::with_capacity(indexes.len());
        match self.manners.limits {
            Limits::None => passed.extend_from_slice(indexes),
            Limits::Aws => {
                let mut allowance = shard
                    .allowance
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                for index in indexes {
                    if allowance.write(records[*index].bytes(), now_ms) {
                        passed.push(*index);
                    } else {
                        fates[*index] = Some(Fate::Refused(self.rate_exceeded(stream, shard)));
                    }
                }
            }
        }
        if passed.is_empty() {
            return;
        }
        let frames: Vec<_> = passed
            .iter()
            .map(|index| (records[*index].key, &*records[*index].data))
            .collect();
        let appended = shard.log().append(&frames, now_ms);
        stream.note_append(shard, appended.as_ref().err());
        match appended {
            Ok((first, arrived_ms)) => {
                for (position, index) in (first..).zip(&passed) {
                    fates[*index] = Some(Fate::Appended {
                        count: position + 1,
                        arrived_ms,
                    });
                }
                shard.wake();
            }
            Err(error) => {
                let reason = format!(
                    "cannot write to shard {} of stream {}: {error}",
                    shard.id, stream.name
                );
                for index in passed {
                    fates[index] = Some(Fate::Refused(ServiceError::internal(reason.clone())));
                }
            }
        }
    }

    pub(super) fn rate_exceeded(&self, stream: &Stream, shard: &Shard) -> ServiceError {
        ServiceError::throughput(format!(
            "Rate exceeded for shard {} in stream {} under account {}.",
            shard.id, stream.name, self.manners.account
        ))
    }
}

fn answer(
    state: &State,
    routes: &[usize],
    mut fates: Vec<Option<Fate>>,
    call: Call<'_, '_>,
) -> Outcome<Reply> {
    let refused = fates
        .iter()
        .filter(|fate| matches!(fate, Some(Fate::Refused(_))))
        .count();
    if refused == fates.len()
        && let Some(Some(Fate::Refused(error))) = fates.first()
        && error.status >= 500
    {
        // Nothing was written and the service is to blame: the whole call failed.
        return Err(error.clone());
    }
    let mut printers: Vec<_> = state
        .open()
        .iter()
        .map(|shard| Printer::new(shard.origin))
        .collect();
    let mut w = Writer::with_capacity(call.format, routes.len() * 130 + 64);
    w.open_map().key("FailedRecordCount").integer(refused as i64);
    write_encryption(&mut w, state);
    w.key("Records").open_list();
    for (fate, route) in fates.iter_mut().zip(routes) {
        w.open_map();
        match fate.take().expect("every record has a fate") {
            Fate::Appended { count, arrived_ms } => {
                w.key("SequenceNumber")
                    .plain(&printers[*route].print(count, arrived_ms / 1000));
                w.key("ShardId").plain(state.open()[*route].id.as_bytes());
            }
            Fate::Refused(error) => {
                w.key("ErrorCode")
                    .text(&error.code)
                    .key("ErrorMessage")
                    .text(&error.message);
            }
        }
        w.close_map();
    }
    w.close_list().close_map();
    Ok(Reply::Body(w.finish()))
}

fn write_encryption(w: &mut Writer, state: &State) {
    if state.settings.key_id.is_some() {
        w.key("EncryptionType").text("KMS");
    }
}
