//! Levels out of a logback file, as far as they are easy to read.
//!
//! Owns a small scanner for tags and attributes. Never fails: what cannot be read is said to be ignored.

use crate::config::LogLevel;

/// What a logback file says about levels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logback {
    /// The level for this daemon: of the logger of the KCL if there is one, else of the root.
    pub level: Option<LogLevel>,
    /// One line about what is ignored.
    pub ignored: Option<String>,
}

/// Loggers that stand for this daemon, the most specific first.
const OUR_LOGGERS: [&str; 6] = [
    "software.amazon.kinesis",
    "software.amazon",
    "software",
    "com.amazonaws.services.kinesis",
    "com.amazonaws",
    "com",
];

/// Reads a logback file. `lookup` answers `${NAME}` from `-D` flags and the environment.
#[must_use]
pub fn read_logback(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Logback {
    let mut root = None;
    let mut loggers: Vec<(String, LogLevel)> = Vec::new();
    let mut other = Vec::new();
    let mut unreadable = false;
    for tag in tags(text) {
        let level =
            || attribute(tag, "level").map(|written| LogLevel::parse(substitute(written, lookup).trim()));
        match name(tag) {
            "root" => match level() {
                Some(Some(level)) => root = Some(level),
                Some(None) => unreadable = true,
                None => {}
            },
            "logger" => match (attribute(tag, "name"), level()) {
                (Some(name), Some(Some(level))) => loggers.push((name.to_owned(), level)),
                (_, Some(None)) => unreadable = true,
                _ => {}
            },
            "appender" | "include" | "turboFilter" | "filter" => other.push(name(tag)),
            _ => {}
        }
    }
    let ours = OUR_LOGGERS.iter().find_map(|ours| {
        loggers
            .iter()
            .find(|(name, _)| name == ours)
            .map(|(_, level)| *level)
    });
    let foreign = loggers
        .iter()
        .any(|(name, _)| !OUR_LOGGERS.contains(&name.as_str()));
    let level = ours.or(root);
    let mut parts = Vec::new();
    if unreadable || level.is_none() {
        parts.push("a level that cannot be read");
    }
    if foreign {
        parts.push("levels of single loggers");
    }
    if !other.is_empty() {
        parts.push("appenders and filters");
    }
    let ignored = (!parts.is_empty()).then(|| {
        format!("logback configuration is not supported beyond the level: {} ignored; use --log-level and --log-format", parts.join(", "))
    });
    Logback { level, ignored }
}

/// The inside of every start tag, comments left out.
fn tags(text: &str) -> Vec<&str> {
    let mut tags = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        rest = &rest[start..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
            continue;
        }
        rest = &rest[1..];
        let mut quote = None;
        let end = rest.char_indices().find_map(|(index, c)| match (quote, c) {
            (None, '>') => Some(index),
            (None, '"' | '\'') => {
                quote = Some(c);
                None
            }
            (Some(open), c) if open == c => {
                quote = None;
                None
            }
            _ => None,
        });
        let Some(end) = end else { return tags };
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if !tag.starts_with(['/', '?', '!']) {
            tags.push(tag);
        }
    }
    tags
}

fn name(tag: &str) -> &str {
    tag.split(|c: char| c.is_whitespace() || c == '/')
        .next()
        .unwrap_or_default()
}

fn attribute<'a>(tag: &'a str, wanted: &str) -> Option<&'a str> {
    let mut rest = &tag[name(tag).len()..];
    loop {
        let (key, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (value, after) = after[1..].split_once(quote)?;
        if key.trim() == wanted {
            return Some(value);
        }
        rest = after;
    }
}

/// Resolves one `${NAME}` or `${NAME:-default}`.
fn substitute(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let inner = text
        .trim()
        .strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'));
    match inner {
        None => text.to_owned(),
        Some(inner) => {
            let (name, fallback) = inner.split_once(":-").unwrap_or((inner, ""));
            lookup(name).unwrap_or_else(|| fallback.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Logback {
        read_logback(text, &|name| (name == "LEVEL").then(|| "debug".to_owned()))
    }

    #[test]
    fn the_level_of_the_root_is_used() {
        let file = r#"<?xml version="1.0"?>
            <configuration>
              <!-- <root level="ERROR"/> -->
              <appender name="A > B" class="ch.qos.logback.core.ConsoleAppender">
                <encoder><pattern>%d [%thread] %-5level - %msg%n</pattern></encoder>
              </appender>
              <root level='WARN'><appender-ref ref="A"/></root>
            </configuration>"#;
        let read = read(file);
        assert_eq!(read.level, Some(LogLevel::Warn));
        assert_eq!(
            read.ignored.as_deref(),
            Some(
                "logback configuration is not supported beyond the level: appenders and filters ignored; use --log-level and --log-format"
            )
        );
    }

    #[test]
    fn the_level_of_the_kcl_wins_over_the_root() {
        let read = read(
            r#"<configuration><logger name="software.amazon.kinesis" level="DEBUG"/><root level="WARN"/></configuration>"#,
        );
        assert_eq!(
            read,
            Logback {
                level: Some(LogLevel::Debug),
                ignored: None
            }
        );
    }

    #[test]
    fn variables_are_looked_up_and_have_defaults() {
        assert_eq!(read(r#"<root level="${LEVEL}"/>"#).level, Some(LogLevel::Debug));
        assert_eq!(
            read(r#"<root level="${OTHER:-ERROR}"/>"#).level,
            Some(LogLevel::Error)
        );
        assert_eq!(read(r#"<root level="${OTHER}"/>"#).level, None);
    }

    #[test]
    fn what_cannot_be_read_is_said_and_nothing_fails() {
        for text in [
            "",
            "not xml",
            "<root",
            "<root level=\"LOUD\"/>",
            "<!-- <root level=\"INFO\"/>",
        ] {
            let read = read(text);
            assert_eq!(read.level, None, "{text}");
            assert!(
                read.ignored.unwrap().contains("a level that cannot be read"),
                "{text}"
            );
        }
        let foreign = read(r#"<logger name="org.apache" level="WARN"/><root level="INFO"/>"#);
        assert!(foreign.ignored.unwrap().contains("levels of single loggers"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_scanner_panic(text in "[<>/!\\-?=\"'a-z ${}é]{0,60}") {
            let _ = read(&text);
        }
    }
}
