//! Tags of streams and consumers. They are remembered; nothing else depends on them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::identity::{Resource, invalid_arn, resource};
use super::{Call, Kinesis, NOTHING, Reply};
use crate::error::{Outcome, ServiceError};
use crate::stream::{State, Stream};
use crate::value::{Request, missing, out_of_range};
use crate::writer::Writer;

/// Most tags of one stream or consumer.
const TAGS_MAX: usize = 50;

/// The tags of a request, if each may be one.
pub(super) fn checked(tags: Request<'_, '_>) -> Outcome<Vec<(String, String)>> {
    let mut checked = Vec::new();
    for (key, value) in tags.entries()? {
        if key.is_empty() || key.chars().count() > 128 {
            return Err(out_of_range("Tags", key, "have keys of 1 to 128 characters"));
        }
        if value.chars().count() > 256 {
            return Err(out_of_range("Tags", key, "have values of at most 256 characters"));
        }
        checked.push((key.to_owned(), value.to_owned()));
    }
    Ok(checked)
}

fn extend(tags: &mut BTreeMap<String, String>, more: Vec<(String, String)>) -> Outcome<()> {
    tags.extend(more);
    if tags.len() > TAGS_MAX {
        return Err(ServiceError::argument(format!(
            "Failed to add tags. The limit of {TAGS_MAX} tags would be exceeded: there would be {}.",
            tags.len()
        )));
    }
    Ok(())
}

/// Whose tags an ARN means.
fn tags_of<'s>(state: &'s mut State, consumer: Option<&str>) -> Outcome<&'s mut BTreeMap<String, String>> {
    match consumer {
        None => Ok(&mut state.settings.tags),
        Some(name) => match state.consumers.get_mut(name) {
            Some(consumer) => Ok(&mut consumer.tags),
            None => Err(ServiceError::not_found(format!("Consumer {name} not found."))),
        },
    }
}

impl Kinesis {
    pub(super) fn add_tags_to_stream(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let stream = self.stream(call.request)?;
        let tags = checked(call.request.map("Tags")?.ok_or_else(|| missing("Tags"))?)?;
        stream.change(|state| extend(&mut state.settings.tags, tags))?;
        Ok(NOTHING)
    }

    pub(super) fn remove_tags_from_stream(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let stream = self.stream(call.request)?;
        let keys = call.request.texts("TagKeys")?.ok_or_else(|| missing("TagKeys"))?;
        stream.change(|state| {
            keys.iter().for_each(|key| drop(state.settings.tags.remove(*key)));
            Ok(())
        })?;
        Ok(NOTHING)
    }

    pub(super) fn list_tags_for_stream(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let request = call.request;
        let stream = self.stream(request)?;
        let most = super::streams::limit(request, "Limit", 50)?.unwrap_or(50) as usize;
        let after = request.text("ExclusiveStartTagKey")?;
        let state = stream.state();
        let mut listed = state
            .settings
            .tags
            .iter()
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        let mut w = call.writer();
        w.open_map();
        write(&mut w, listed.by_ref().take(most));
        w.key("HasMoreTags").boolean(listed.next().is_some()).close_map();
        Ok(Reply::Body(w.finish()))
    }

    pub(super) fn tag_resource(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let (stream, consumer) = self.tagged(call.request)?;
        let tags = checked(call.request.map("Tags")?.ok_or_else(|| missing("Tags"))?)?;
        stream.change(|state| extend(tags_of(state, consumer.as_deref())?, tags))?;
        Ok(NOTHING)
    }

    pub(super) fn untag_resource(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let (stream, consumer) = self.tagged(call.request)?;
        let keys = call.request.texts("TagKeys")?.ok_or_else(|| missing("TagKeys"))?;
        stream.change(|state| {
            let tags = tags_of(state, consumer.as_deref())?;
            keys.iter().for_each(|key| drop(tags.remove(*key)));
            Ok(())
        })?;
        Ok(NOTHING)
    }

    pub(super) fn list_tags_for_resource(&self, call: Call<'_, '_>) -> Outcome<Reply> {
        let (stream, consumer) = self.tagged(call.request)?;
        let mut state = stream.state().clone();
        let mut w = call.writer();
        w.open_map();
        write(&mut w, tags_of(&mut state, consumer.as_deref())?.iter());
        w.close_map();
        Ok(Reply::Body(w.finish()))
    }

    /// The stream, or the stream and its consumer, that `ResourceARN` names.
    fn tagged(&self, request: Request<'_, '_>) -> Outcome<(Arc<Stream>, Option<String>)> {
        let arn = request.required_text("ResourceARN")?;
        match resource(arn) {
            Some(Resource::Stream(name)) => Ok((self.named(name)?, None)),
            Some(Resource::Consumer(..)) => {
                let (stream, consumer) = self.consumer_of_arn(arn)?;
                Ok((stream, Some(consumer.name)))
            }
            None => Err(invalid_arn("ResourceARN", arn)),
        }
    }
}

fn write<'t>(w: &mut Writer, tags: impl Iterator<Item = (&'t String, &'t String)>) {
    w.key("Tags").open_list();
    for (key, value) in tags {
        w.open_map()
            .key("Key")
            .text(key)
            .key("Value")
            .text(value)
            .close_map();
    }
    w.close_list();
}
