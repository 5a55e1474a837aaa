//! The log: one line per decision on stderr, as text or as JSON, and the children's stderr in between.
//!
//! Owns the form of a line and which lines are shown. stdout belongs to the commands' results.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::{IsTerminal, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// The target of lines that a child wrote to its stderr: the field `line` holds the text, `shard` its shard.
pub const CHILD: &str = "child";
/// Levels for this program alone: `debug`, or `info,multilangd_engine=debug,aws_config=debug`.
pub const VARIABLE: &str = "MULTILANGD_LOG";
/// What our own crates' targets begin with. Everything else is silent unless it is asked for by name.
const OURS: &str = "multilangd";

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// An object per line, for collectors.
    Json,
}

/// Text that is no level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no log level: expected error, warn, info, debug, trace or off, or TARGET=LEVEL, separated by commas"
)]
pub struct BadLevel(String);

/// Starts logging for the whole process. `levels` come from the command line or the configuration; the variable
/// `MULTILANGD_LOG` wins over them.
pub fn start(format: Format, levels: Option<&str>) -> Result<(), BadLevel> {
    let variable = std::env::var(VARIABLE)
        .ok()
        .filter(|text| !text.trim().is_empty());
    let filter = filter(variable.as_deref().or(levels).unwrap_or("info"))?;
    let terminal = std::io::stderr().is_terminal();
    let style = Style {
        format,
        color: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        date: !terminal,
    };
    let subscriber = tracing_subscriber::registry().with(Lines { style }.with_filter(filter));
    // A second start in one process keeps the first: only tests do that.
    let _ = tracing::subscriber::set_global_default(subscriber);
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text
            .or(payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        tracing::error!(place, backtrace = %std::backtrace::Backtrace::capture(), "panicked: {message}");
    }));
    Ok(())
}

/// Children's lines are shown down to INFO even where we ourselves say less: whoever wants less of them says so with
/// `childStderrLevel`, or with `child=off` here.
fn filter(levels: &str) -> Result<Targets, BadLevel> {
    let mut targets = BTreeMap::from([(OURS, LevelFilter::INFO)]);
    for part in levels.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (target, level) = part.split_once('=').unwrap_or((OURS, part));
        targets.insert(
            target.trim(),
            level_of(level.trim()).ok_or_else(|| BadLevel(part.to_owned()))?,
        );
    }
    let children = targets[OURS].max(LevelFilter::INFO);
    targets.entry(CHILD).or_insert(children);
    Ok(targets.into_iter().collect())
}

/// Our levels, and those of logback for people who come from it.
fn level_of(text: &str) -> Option<LevelFilter> {
    match text.to_ascii_lowercase().as_str() {
        "warning" => Some(LevelFilter::WARN),
        "all" => Some(LevelFilter::TRACE),
        level => level.parse().ok(),
    }
}

#[derive(Clone, Copy, Debug)]
struct Style {
    format: Format,
    color: bool,
    /// Terminals get the time of day only.
    date: bool,
}

struct Lines {
    style: Style,
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.add_missing(outer);
            }
        }
        let metadata = event.metadata();
        let line = self
            .style
            .line(SystemTime::now(), *metadata.level(), metadata.target(), fields);
        // One write per line, so that lines of several threads do not mix. A closed stderr is nothing to stop for.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// An event's or a span's fields, in the order they were given.
#[derive(Debug, Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.remove(index).1)
    }

    fn add_missing(&mut self, outer: &Self) {
        for (name, value) in &outer.0 {
            if !self.0.iter().any(|(known, _)| known == name) {
                self.0.push((name, value.clone()));
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), Value::from(value));
    }
}

impl Style {
    fn line(&self, now: SystemTime, level: Level, target: &str, mut fields: Fields) -> String {
        let shard = fields.take("shard").map(|shard| plain(&shard));
        let mut message = fields
            .take("message")
            .map(|message| plain(&message))
            .unwrap_or_default();
        if target == CHILD
            && let Some(line) = fields.take("line")
        {
            message = plain(&line);
        }
        match self.format {
            Format::Text if target == CHILD => match shard {
                Some(shard) => format!("[{shard}] {message}\n"),
                None => format!("{message}\n"),
            },
            Format::Text => self.text(now, level, shard.as_deref(), &message, &fields),
            Format::Json => json(now, level, target, shard, message, fields),
        }
    }

    fn text(
        &self,
        now: SystemTime,
        level: Level,
        shard: Option<&str>,
        message: &str,
        fields: &Fields,
    ) -> String {
        let time = utc(now);
        let (dim, color, end) = match (self.color, level) {
            (false, _) => ("", "", ""),
            (true, Level::ERROR) => ("\x1b[2m", "\x1b[31m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[2m", "\x1b[33m", "\x1b[0m"),
            (true, Level::INFO) => ("\x1b[2m", "\x1b[32m", "\x1b[0m"),
            (true, _) => ("\x1b[2m", "\x1b[34m", "\x1b[0m"),
        };
        let time = if self.date { time.as_str() } else { &time[11..] };
        let mut line = format!("{dim}{time}{end} {color}{:<5}{end} ", level.as_str());
        if let Some(shard) = shard {
            let _ = write!(line, "[{shard}] ");
        }
        push_escaped(&mut line, message);
        for (name, value) in &fields.0 {
            let _ = write!(line, " {dim}{name}={end}");
            let text = plain(value);
            if text.is_empty() || text.contains([' ', '"', '=']) {
                line.push('"');
                push_escaped(&mut line, &text.replace('"', "\\\""));
                line.push('"');
            } else {
                push_escaped(&mut line, &text);
            }
        }
        line.push('\n');
        line
    }
}

fn json(
    now: SystemTime,
    level: Level,
    target: &str,
    shard: Option<String>,
    message: String,
    fields: Fields,
) -> String {
    let mut object = Map::new();
    object.insert("time".to_owned(), Value::from(utc(now)));
    object.insert("level".to_owned(), Value::from(level.as_str()));
    object.insert("target".to_owned(), Value::from(target));
    if let Some(shard) = shard {
        object.insert("shard".to_owned(), Value::from(shard));
    }
    object.insert("message".to_owned(), Value::from(message));
    for (name, value) in fields.0 {
        object.entry(name).or_insert(value);
    }
    let mut line = Value::Object(object).to_string();
    line.push('\n');
    line
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A value must not be able to begin a new line or to steer a terminal.
fn push_escaped(line: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
}

/// `2026-07-01T12:00:00.000Z`.
fn utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    // Days since the era began on 0000-03-01, so that a leap day is the last of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOON: Duration = Duration::from_millis(1_782_907_200_042);

    fn line(format: Format, target: &str, fields: &[(&'static str, Value)]) -> String {
        let style = Style {
            format,
            color: false,
            date: true,
        };
        style.line(UNIX_EPOCH + NOON, Level::INFO, target, Fields(fields.to_vec()))
    }

    #[test]
    fn a_decision_is_one_line_with_its_shard_in_front() {
        let fields = [
            ("message", "lease taken".into()),
            ("counter", 7.into()),
            ("from", "w 1".into()),
            ("shard", "shardId-1".into()),
        ];
        assert_eq!(
            line(Format::Text, "multilangd_engine::leases", &fields),
            "2026-07-01T12:00:00.042Z INFO  [shardId-1] lease taken counter=7 from=\"w 1\"\n"
        );
    }

    #[test]
    fn a_childs_line_passes_as_it_came_behind_its_shard() {
        let fields = [
            ("line", "  \u{1b}[1mhello\u{1b}[0m \"x\"".into()),
            ("shard", "shardId-1".into()),
        ];
        assert_eq!(
            line(Format::Text, CHILD, &fields),
            "[shardId-1]   \u{1b}[1mhello\u{1b}[0m \"x\"\n"
        );
    }

    #[test]
    fn json_lines_carry_fields_as_fields() {
        let fields = [("line", "a\tb".into()), ("shard", "shardId-1".into())];
        let value: Value = serde_json::from_str(&line(Format::Json, CHILD, &fields)).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"time": "2026-07-01T12:00:00.042Z", "level": "INFO", "target": "child",
                "shard": "shardId-1", "message": "a\tb"})
        );
    }

    #[test]
    fn a_value_cannot_begin_a_line_of_its_own() {
        let fields = [
            ("message", "refused".into()),
            ("why", "x\n2026 ERROR forged".into()),
        ];
        assert_eq!(
            line(Format::Text, "multilangd", &fields),
            "2026-07-01T12:00:00.042Z INFO  refused why=\"x\\n2026 ERROR forged\"\n"
        );
    }

    #[test]
    fn a_field_of_the_span_gives_way_to_the_events_own() {
        let mut fields = Fields(vec![("shard", "inner".into())]);
        fields.add_missing(&Fields(vec![("shard", "outer".into()), ("tenure", 3.into())]));
        assert_eq!(
            fields.0,
            [("shard", Value::from("inner")), ("tenure", Value::from(3))]
        );
    }

    #[test]
    fn foreign_crates_are_silent_unless_named() {
        let quiet = filter("debug").unwrap();
        assert!(quiet.would_enable("multilangd_engine::leases", &Level::DEBUG));
        assert!(!quiet.would_enable("aws_config::profile", &Level::ERROR));
        let loud = filter("warn, aws_config=trace").unwrap();
        assert!(loud.would_enable("aws_config::profile", &Level::TRACE));
        assert!(!loud.would_enable("multilangd_engine", &Level::INFO));
    }

    #[test]
    fn children_are_heard_even_when_we_are_quiet() {
        let quiet = filter("error").unwrap();
        assert!(quiet.would_enable(CHILD, &Level::INFO));
        assert!(!quiet.would_enable(CHILD, &Level::DEBUG));
        assert!(filter("debug").unwrap().would_enable(CHILD, &Level::DEBUG));
        assert!(
            !filter("debug,child=off")
                .unwrap()
                .would_enable(CHILD, &Level::ERROR)
        );
    }

    #[test]
    fn a_level_that_is_none_is_named() {
        assert_eq!(
            filter("info,multilangd_engine=loud"),
            Err(BadLevel("multilangd_engine=loud".into()))
        );
    }

    #[test]
    fn dates_know_leap_years() {
        assert_eq!(
            utc(UNIX_EPOCH + Duration::from_secs(1_709_164_800)),
            "2024-02-29T00:00:00.000Z"
        );
        assert_eq!(utc(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }
}
