//! A stream's description as a file: `stream.json`, replaced as a whole whenever it changes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};

use super::{Consumer, Entry, Home, Settings, State, Stream};
use crate::error::{Outcome, ServiceError};
use crate::log::Room;
use crate::sequence::Origin;
use crate::shard::{Closed, Shard};
use crate::value::{Request, Value, json};
use crate::writer::{Format, Writer};

pub(super) const FILE: &str = "stream.json";
/// Raised when an older program could not read the file.
const VERSION: i64 = 1;

pub(super) fn write(stream: &Stream, state: &State) -> Vec<u8> {
    let mut w = Writer::new(Format::Json);
    w.open_map()
        .key("Version")
        .integer(VERSION)
        .key("Name")
        .text(&stream.name);
    w.key("MadeMs")
        .integer(stream.made_ms as i64)
        .key("NextIndex")
        .integer(i64::from(state.next_index));
    let Settings {
        retention_hours,
        on_demand,
        record_kib,
        tags,
        metrics,
        key_id,
        policy,
    } = &state.settings;
    w.key("RetentionHours")
        .integer(i64::from(*retention_hours))
        .key("OnDemand")
        .boolean(*on_demand);
    w.key("RecordKib").integer(i64::from(*record_kib));
    write_tags(&mut w, tags);
    w.key("Metrics").open_list();
    metrics.iter().for_each(|name| {
        w.text(name);
    });
    w.close_list();
    if let Some(key_id) = key_id {
        w.key("KeyId").text(key_id);
    }
    if let Some(policy) = policy {
        w.key("Policy").text(policy);
    }
    w.key("Shards").open_list();
    for Entry { shard, closed } in state.shards.values() {
        w.open_map()
            .key("Index")
            .integer(i64::from(shard.index))
            .key("MadeS")
            .integer(shard.origin.made_s as i64);
        w.key("MadeMs").integer(shard.made_ms as i64);
        w.key("FirstHash")
            .text(&shard.hashes.0.to_string())
            .key("LastHash")
            .text(&shard.hashes.1.to_string());
        write_indexes(&mut w, "Parents", &shard.parents);
        if let Some(closed) = closed {
            w.key("ClosedMs").integer(closed.at_ms as i64);
            write_indexes(&mut w, "Children", &closed.children);
        }
        w.close_map();
    }
    w.close_list().key("Consumers").open_list();
    for consumer in state.consumers.values() {
        w.open_map()
            .key("Name")
            .text(&consumer.name)
            .key("MadeMs")
            .integer(consumer.made_ms as i64);
        write_tags(&mut w, &consumer.tags);
        w.close_map();
    }
    w.close_list().close_map();
    w.finish()
}

fn write_tags(w: &mut Writer, tags: &BTreeMap<String, String>) {
    w.key("Tags").open_map();
    for (key, value) in tags {
        w.foreign_key(key).text(value);
    }
    w.close_map();
}

fn write_indexes(w: &mut Writer, key: &str, indexes: &[u32]) {
    w.key(key).open_list();
    indexes.iter().for_each(|index| {
        w.integer(i64::from(*index));
    });
    w.close_list();
}

impl Stream {
    /// Reads a stream's folder: its description and its logs.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, String> {
        let file = folder.join(FILE);
        let bytes = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let fault = |error: ServiceError| format!("{}: {}", file.display(), error.message);
        let value = json::read(&bytes).map_err(fault)?;
        let mut stream = read(&value).map_err(fault)?;
        let mut state = stream.state.into_inner().expect("nobody else has it");
        for entry in state.shards.values_mut() {
            let old = &entry.shard;
            let path = folder.join(&old.id);
            let log = crate::log::ShardLog::in_folder(path.clone())
                .map_err(|error| format!("{}: {error}", path.display()))?;
            entry.shard = Arc::new(Shard::new(
                old.origin,
                old.parents.clone(),
                old.hashes,
                old.made_ms,
                log,
            ));
        }
        state.settle();
        stream.state = RwLock::new(state);
        stream.home = Home::Folder(folder);
        Ok(stream)
    }
}

fn read(value: &Value<'_>) -> Outcome<Stream> {
    let saved = Request::new(value)?;
    let version = saved.required_integer("Version")?;
    if version != VERSION {
        return Err(ServiceError::internal(format!(
            "written by another version of the program ({version})"
        )));
    }
    let mut settings = Settings {
        retention_hours: number(saved, "RetentionHours")?,
        on_demand: saved.boolean("OnDemand")?.unwrap_or(false),
        record_kib: number(saved, "RecordKib")?,
        tags: read_tags(saved)?,
        key_id: saved.text("KeyId")?.map(str::to_owned),
        policy: saved.text("Policy")?.map(str::to_owned),
        ..Settings::default()
    };
    settings.metrics.extend(
        saved
            .texts("Metrics")?
            .unwrap_or_default()
            .into_iter()
            .map(str::to_owned),
    );
    let mut shards = BTreeMap::new();
    for item in saved.list("Shards")?.unwrap_or_default() {
        let item = Request::new(item)?;
        let origin = Origin {
            shard: number(item, "Index")?,
            made_s: number(item, "MadeS")?,
        };
        let hash = |name| {
            let text = item.required_text(name)?;
            text.parse::<u128>()
                .map_err(|_| ServiceError::internal(format!("{name} is not a hash key: {text}")))
        };
        let hashes = (hash("FirstHash")?, hash("LastHash")?);
        let log = crate::log::ShardLog::empty();
        let shard = Shard::new(
            origin,
            read_indexes(item, "Parents")?,
            hashes,
            number(item, "MadeMs")?,
            log,
        );
        let closed = match item.integer("ClosedMs")? {
            Some(_) => Some(Closed {
                at_ms: number(item, "ClosedMs")?,
                children: read_indexes(item, "Children")?,
            }),
            None => None,
        };
        shards.insert(
            origin.shard,
            Entry {
                shard: Arc::new(shard),
                closed,
            },
        );
    }
    let mut consumers = BTreeMap::new();
    for item in saved.list("Consumers")?.unwrap_or_default() {
        let item = Request::new(item)?;
        let name = item.required_text("Name")?.to_owned();
        let consumer = Consumer {
            name: name.clone(),
            made_ms: number(item, "MadeMs")?,
            tags: read_tags(item)?,
        };
        consumers.insert(name, consumer);
    }
    let next_index = number(saved, "NextIndex")?;
    Ok(Stream {
        name: saved.required_text("Name")?.to_owned(),
        made_ms: number(saved, "MadeMs")?,
        home: Home::Memory(Room::new(0)),
        state: RwLock::new(State {
            shards,
            open: Vec::new(),
            next_index,
            settings,
            consumers,
        }),
        deleted: AtomicBool::new(false),
        failing: AtomicBool::new(false),
    })
}

fn number<T: TryFrom<i64>>(saved: Request<'_, '_>, name: &str) -> Outcome<T> {
    let number = saved.required_integer(name)?;
    T::try_from(number).map_err(|_| ServiceError::internal(format!("{name} is out of range: {number}")))
}

fn read_tags(saved: Request<'_, '_>) -> Outcome<BTreeMap<String, String>> {
    let Some(tags) = saved.map("Tags")? else {
        return Ok(BTreeMap::new());
    };
    Ok(tags
        .entries()?
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect())
}

fn read_indexes(saved: Request<'_, '_>, name: &str) -> Outcome<Vec<u32>> {
    let index = |item: &Value<'_>| match item {
        Value::Integer(index) => u32::try_from(*index).ok(),
        _ => None,
    };
    let items = saved.list(name)?.unwrap_or_default();
    items
        .iter()
        .map(|item| {
            index(item).ok_or_else(|| ServiceError::internal(format!("{name} has a wrong shard number")))
        })
        .collect()
}
