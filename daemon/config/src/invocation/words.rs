//! From words to options: `@file`, values, `-D` and `-X`, and the options of `java` itself.
//!
//! Owns how words are split up; which options there are is said by the caller.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{PropertiesName, UsageError};
use crate::keys::nearest_of;

/// An option by its names; the first is the one it is kept under.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opt {
    pub(super) names: &'static [&'static str],
    takes_value: bool,
}

impl Opt {
    pub(super) const fn value(names: &'static [&'static str]) -> Opt {
        Opt {
            names,
            takes_value: true,
        }
    }

    pub(super) const fn flag(names: &'static [&'static str]) -> Opt {
        Opt {
            names,
            takes_value: false,
        }
    }
}

const CLASS_PATH: &str = "-cp";
/// Options of `java` that take the next word. What they say does not matter here.
const JAVA_VALUES: [&str; 10] = [
    "-p",
    "--module-path",
    "--upgrade-module-path",
    "--add-modules",
    "--add-exports",
    "--add-opens",
    "--add-reads",
    "--limit-modules",
    "--patch-module",
    "--enable-native-access",
];

/// A command line, taken apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    options: BTreeMap<&'static str, String>,
    pub(super) positionals: Vec<String>,
    system_properties: BTreeMap<String, String>,
    class_path: Vec<PathBuf>,
    pub(super) help: bool,
    pub(super) version: bool,
    /// There are words that only `java` knows, so that a positional may be meant as a class.
    pub(super) java_like: bool,
}

/// The options of `java` itself, those that stand before the main class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct JavaOptions {
    class_path: Vec<PathBuf>,
    system_properties: BTreeMap<String, String>,
    pub(super) version: bool,
}

impl Words {
    pub(super) fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    pub(super) fn value(&self, name: &str) -> Option<String> {
        self.options.get(name).cloned()
    }

    pub(super) fn number(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<Option<u32>, UsageError> {
        let Some(text) = self.value(name) else {
            return Ok(None);
        };
        match text.parse().ok().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(UsageError(format!(
                "{name} '{text}': accepted is a whole number from {} to {}",
                range.start(),
                range.end()
            ))),
        }
    }

    pub(super) fn add(&mut self, java: JavaOptions) {
        self.class_path.extend(java.class_path);
        let own = std::mem::take(&mut self.system_properties);
        self.system_properties = java.system_properties;
        self.system_properties.extend(own);
    }

    pub(super) fn properties_name(&self, name: String) -> PropertiesName {
        PropertiesName {
            name,
            class_path: self.class_path.clone(),
            system_properties: self.system_properties.clone(),
        }
    }
}

/// Replaces `@file` by the lines of the file; empty lines and those that begin with `#` are left out.
pub(super) fn expand(
    arguments: &[String],
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Vec<String>, UsageError> {
    let mut words = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let Some(file) = argument.strip_prefix('@').filter(|file| !file.is_empty()) else {
            words.push(argument.clone());
            continue;
        };
        let bytes = read(Path::new(file))
            .map_err(|error| UsageError(format!("cannot read arguments from '{file}': {error}")))?;
        let text = String::from_utf8_lossy(&bytes);
        words.extend(
            text.lines()
                .filter(|line| !line.is_empty() && !line.trim().starts_with('#'))
                .map(str::to_owned),
        );
    }
    Ok(words)
}

/// `-version` and its like: only a launcher asks so.
pub(super) fn asks_java_version(word: &str) -> bool {
    matches!(word, "-version" | "-fullversion")
}

/// Reads what stands before the main class. Options that only a JVM understands are left out.
pub(super) fn java_options(words: &[String]) -> Result<JavaOptions, UsageError> {
    let mut java = JavaOptions::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some((name, value)) = system_property(word) {
            java.system_properties.insert(name, value);
        } else if asks_java_version(word) || word == "--version" {
            java.version = true;
        } else if matches!(word.as_str(), "-cp" | "-classpath" | "--class-path") {
            let path = words
                .next()
                .ok_or_else(|| UsageError(format!("{word} needs a class path")))?;
            java.class_path = split_class_path(path);
        } else if let Some(path) = word.strip_prefix("--class-path=") {
            java.class_path = split_class_path(path);
        } else if JAVA_VALUES.contains(&word.as_str()) {
            words.next();
        } else if !word.starts_with('-') {
            return Err(UsageError(super::not_our_class(word)));
        }
    }
    Ok(java)
}

/// Compat: an option takes the next word whatever it is, and may be given once, as in the Java daemon.
pub(super) fn scan(rest: &[String], options: &[Opt]) -> Result<Words, UsageError> {
    let mut words = Words::default();
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            words.positionals.extend(rest.by_ref().cloned());
        } else if matches!(word.as_str(), "-h" | "--help" | "-help" | "-?") {
            words.help = true;
        } else if matches!(word.as_str(), "--version" | "-V") {
            words.version = true;
        } else if let Some((name, value)) = system_property(word) {
            words.system_properties.insert(name, value);
            words.java_like = true;
        } else if word.starts_with("-X") {
            words.java_like = true;
        } else if !word.starts_with('-') || word == "-" {
            words.positionals.push(word.clone());
        } else {
            let (name, attached) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            let Some(option) = options.iter().find(|option| option.names.contains(&name)) else {
                return Err(unknown(name, options));
            };
            let value = match (option.takes_value, attached) {
                (false, None) => String::new(),
                (false, Some(_)) => return Err(UsageError(format!("{name} takes no value"))),
                (true, Some(value)) => value,
                (true, None) => rest
                    .next()
                    .cloned()
                    .ok_or_else(|| UsageError(format!("{name} needs a value after it")))?,
            };
            if option.names[0] == CLASS_PATH {
                words.class_path = split_class_path(&value);
                words.java_like = true;
            } else if words.options.insert(option.names[0], value).is_some() {
                return Err(UsageError(format!("{name} is given twice")));
            }
        }
    }
    Ok(words)
}

fn unknown(name: &str, options: &[Opt]) -> UsageError {
    let names = options
        .iter()
        .flat_map(|option| option.names)
        .map(|name| (*name).to_owned());
    let all = names
        .filter(|name| name.starts_with("--"))
        .chain(["--help".to_owned(), "--version".to_owned()]);
    UsageError(match nearest_of(name, all) {
        Some(near) => format!("there is no option {name}; did you mean {near}?"),
        None => format!("there is no option {name}; see multilangd --help"),
    })
}

fn system_property(word: &str) -> Option<(String, String)> {
    let definition = word
        .strip_prefix("-D")
        .filter(|definition| !definition.is_empty())?;
    let (name, value) = definition.split_once('=').unwrap_or((definition, ""));
    Some((name.to_owned(), value.to_owned()))
}

/// An empty entry is the working directory.
fn split_class_path(path: &str) -> Vec<PathBuf> {
    path.split(':')
        .map(|entry| PathBuf::from(if entry.is_empty() { "." } else { entry }))
        .collect()
}
