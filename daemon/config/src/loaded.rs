//! What came out of a file: the configuration, where each value came from, every warning and every error.
//!
//! Owns these shapes and the text of `multilangd validate`. Never decides anything.

use std::fmt::{self, Write as _};

use crate::config::Config;
use crate::keys::{self, CLIENT, CLIENTS};

/// Exit code of `multilangd validate` for a file with errors (`EX_CONFIG` of `sysexits.h`).
pub const EXIT_CODE_INVALID: u8 = 78;

/// Exit code of a daemon that cannot start because of its configuration, as Java's.
pub const EXIT_CODE_CONFIGURATION: u8 = 1;

/// How much a warning matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Probably not what was meant.
    Warn,
}

/// Something the user should know; the daemon starts all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// How much it matters.
    pub severity: Severity,
    /// The line it is about.
    pub line: Option<usize>,
    /// The key it is about, as written.
    pub key: Option<String>,
    /// One line for people; names key and value.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a file is refused. Displays as `app.properties:12: text`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {text}", .line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// The line it is about.
    pub line: Option<usize>,
    /// The key it is about, as written.
    pub key: Option<String>,
    /// One line for people; names key, value and what would be accepted.
    pub text: String,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of the file.
    File {
        /// Counted from 1.
        line: usize,
    },
    /// Not set.
    Default,
    /// An environment variable.
    Environment(&'static str),
    /// A `-D` flag.
    SystemProperty(&'static str),
}

/// One value in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// The key's first name.
    pub name: String,
    /// The value for people, secrets masked.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// What came out of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The file, as it should be named to people.
    pub file: String,
    /// The configuration; `None` exactly if there are errors.
    pub config: Option<Config>,
    /// What the user should know, in the order of the file.
    pub warnings: Vec<Warning>,
    /// Why there is no configuration; all reasons, not only the first.
    pub errors: Vec<ConfigError>,
    /// Every value in effect, in the order of the documentation.
    pub sources: Vec<Effective>,
    /// Variables that the SDK reads and that are set, with their values, secrets masked.
    pub environment: Vec<(&'static str, String)>,
}

/// The text of `multilangd validate`: the effective configuration, where each value came from, every warning, every
/// error. Secrets are masked.
#[must_use]
pub fn render_validation(loaded: &Loaded) -> String {
    let mut text = format!("{}\n", loaded.file);
    let width = loaded
        .sources
        .iter()
        .map(|effective| effective.name.len())
        .max()
        .unwrap_or(0);
    let value_width = loaded
        .sources
        .iter()
        .map(|effective| effective.value.chars().count())
        .max()
        .unwrap_or(0)
        .min(44);
    for section in keys::SECTIONS {
        let here: Vec<&Effective> = loaded
            .sources
            .iter()
            .filter(|e| belongs(section, &e.name))
            .collect();
        if here.is_empty() {
            continue;
        }
        let _ = writeln!(text, "\n{}", section.title);
        for Effective { name, value, origin } in here {
            let from = match origin {
                Origin::File { line } => format!("line {line}"),
                Origin::Default => "default".to_owned(),
                Origin::Environment(variable) => format!("environment, {variable}"),
                Origin::SystemProperty(property) => format!("-D{property}"),
            };
            let _ = writeln!(text, "  {name:width$}  {value:value_width$}  {from}");
        }
    }
    if !loaded.environment.is_empty() {
        text.push_str("\nEnvironment, as the SDK reads it\n");
        for (name, value) in &loaded.environment {
            let _ = writeln!(text, "  {name:width$}  {value}");
        }
    }
    if let Some(config) = &loaded.config {
        let _ = writeln!(text, "\nretrieval: {}", config.retrieval_reason);
    }
    let count = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    for (severity, noun) in [(Severity::Info, "note"), (Severity::Warn, "warning")] {
        let these: Vec<&Warning> = loaded
            .warnings
            .iter()
            .filter(|warning| warning.severity == severity)
            .collect();
        if !these.is_empty() {
            let _ = writeln!(text, "\n{}", count(these.len(), noun));
            for warning in these {
                let line = warning
                    .line
                    .map(|line| format!("line {line}: "))
                    .unwrap_or_default();
                let _ = writeln!(text, "  {line}{warning}");
            }
        }
    }
    if loaded.errors.is_empty() {
        text.push_str("\nno errors\n");
    } else {
        let _ = writeln!(text, "\n{}", count(loaded.errors.len(), "error"));
        for error in &loaded.errors {
            let line = error
                .line
                .map(|line| format!("line {line}: "))
                .unwrap_or_default();
            let _ = writeln!(text, "  {line}{}", error.text);
        }
    }
    text
}

fn belongs(section: &keys::Section, name: &str) -> bool {
    section
        .keys
        .iter()
        .any(|key| match key.name.strip_prefix(CLIENT) {
            Some(leaf) => CLIENTS.iter().any(|client| {
                name.strip_prefix(client)
                    .and_then(|rest| rest.strip_prefix('.'))
                    .is_some_and(|rest| rest == leaf)
            }),
            None => key.name == name,
        })
}
