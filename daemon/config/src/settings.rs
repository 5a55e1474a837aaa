//! The entries of a file, sorted by the keys of the table, and typed access to them.
//!
//! Owns recognising keys (unknown names, aliases, repeated keys) and the step from text to value with Java's meaning:
//! what Java replaces in silence is replaced with a warning. Collects every warning and error instead of stopping at the
//! first. Knows no key by name except for its kind; what the keys mean together is `load.rs`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use crate::keys::{self, CLIENTS, Fallback, Key, Type, Verdict};
use crate::loaded::{ConfigError, Effective, Origin, Severity, Warning};
use crate::properties::{Entry, Properties};
use crate::values::{self, Reading};

/// One key as the file sets it.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) key: &'static Key,
    /// The name as written.
    pub(crate) written: String,
    pub(crate) value: String,
    pub(crate) line: usize,
}

impl Setting {
    fn origin(&self) -> Origin {
        Origin::File { line: self.line }
    }
}

/// The file, sorted; and what was found wrong so far.
pub(crate) struct Settings {
    file: String,
    by_name: BTreeMap<String, Setting>,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) errors: Vec<ConfigError>,
    pub(crate) effective: Vec<Effective>,
}

impl Settings {
    pub(crate) fn new(file: &str, properties: &Properties) -> Settings {
        let mut settings = Settings {
            file: file.to_owned(),
            by_name: BTreeMap::new(),
            warnings: Vec::new(),
            errors: Vec::new(),
            effective: Vec::new(),
        };
        for malformed in &properties.malformed {
            settings.error_at(Some(malformed.line), None, malformed.to_string());
        }
        if let Some(line) = properties.utf8_line {
            settings.warn_at(
                Some(line),
                None,
                "the file is UTF-8 but .properties files are ISO-8859-1 (é becomes Ã©); write other characters as \\uXXXX",
            );
        }
        for entry in properties.last_wins() {
            if let Some(first) = properties
                .entries
                .iter()
                .find(|other| other.key == entry.key && other.line != entry.line)
            {
                let text = format!(
                    "'{}' is set more than once (first in line {}); the last one counts",
                    entry.key, first.line
                );
                settings.warn_at(Some(entry.line), Some(&entry.key), text);
            }
            settings.take_in(entry, properties.byte_order_mark && entry.line == 1);
        }
        settings
    }

    fn take_in(&mut self, entry: &Entry, marked: bool) {
        if marked {
            let name = entry.key.trim_start_matches(['\u{ef}', '\u{bb}', '\u{bf}']);
            return self.warn_at(
                Some(entry.line),
                Some(name),
                format!("the file begins with a UTF-8 byte order mark, which becomes part of its first key, so '{name}' is ignored; save the file without it"),
            );
        }
        let Some(found) = keys::find(&entry.key) else {
            return self.unknown(entry);
        };
        let setting = Setting {
            key: found.key,
            written: entry.key.clone(),
            value: entry.value.clone(),
            line: entry.line,
        };
        match found.key.verdict {
            Verdict::NoEffectInJavaEither if found.key.kind == Type::Object => {
                let text = format!(
                    "property '{}' has no effect (nor in the Java daemon): {}",
                    entry.key, found.key.about
                );
                return self.warn(&setting, text);
            }
            Verdict::FromKcl1 => {
                let text = format!("property '{}' is from KCL 1.x; {}", entry.key, found.key.about);
                return self.warn(&setting, text);
            }
            Verdict::Refused => {
                return self.error(
                    &setting,
                    format!("'{}' is refused: {}", entry.key, found.key.about),
                );
            }
            Verdict::Honoured | Verdict::Translated | Verdict::New => {}
            Verdict::NoEffect | Verdict::NoEffectInJavaEither => self.without_effect(&setting),
        }
        match self.by_name.remove(&found.name) {
            None => {
                self.by_name.insert(found.name, setting);
            }
            Some(other) => {
                let winner = self.of_two(&found.name, other, setting);
                self.by_name.insert(found.name, winner);
            }
        }
    }

    /// Two spellings of one key. Compat: Java lets the order of a hash table decide, or stops.
    fn of_two(&mut self, name: &str, first: Setting, second: Setting) -> Setting {
        if first.key.kind == Type::Credentials {
            let text = format!(
                "'{}' and '{}' (line {}) are two spellings of the same property; keep one",
                second.written, first.written, first.line
            );
            self.error(&second, text);
            return first;
        }
        // The dotted name is the more specific one; of two plain names the documented one.
        let first_wins = match (first.written.contains('.'), second.written.contains('.')) {
            (true, false) => true,
            (false, true) => false,
            _ => first.written == name,
        };
        let (winner, loser) = if first_wins {
            (first, second)
        } else {
            (second, first)
        };
        self.warn(
            &winner,
            format!(
                "'{}' overrides '{}' (line {})",
                winner.written, loser.written, loser.line
            ),
        );
        winner
    }

    fn unknown(&mut self, entry: &Entry) {
        let at = Some(entry.line);
        let name = entry.key.as_str();
        if name.is_empty() {
            return self.warn_at(at, None, "an entry without a name is ignored");
        }
        if let Some(reason) = broken_path(name) {
            return self.error_at(
                at,
                Some(name),
                format!("property '{name}': {reason}; the Java daemon stops at it too"),
            );
        }
        let near = keys::nearest(name)
            .map(|near| format!("; did you mean '{near}'?"))
            .unwrap_or_default();
        if CLIENTS.iter().any(|client| {
            name.strip_prefix(client)
                .is_some_and(|rest| rest.starts_with('.'))
        }) {
            return self.error_at(at, Some(name), format!("property '{name}' is not known{near}"));
        }
        self.warn_at(
            at,
            Some(name),
            format!("property '{name}' is not known and is ignored{near}"),
        );
    }

    fn without_effect(&mut self, setting: &Setting) {
        let shown = format!("{} = '{}'", setting.written, setting.value);
        let refused = match setting.key.kind {
            Type::StrictInt => match values::strict_integer(&setting.value) {
                Some(number) if i32::try_from(number).is_ok() => None,
                _ => Some(format!("{shown} is not a whole number (blanks around it count)")),
            },
            Type::Constant(_) | Type::ExactConstant(_) => read_constant(setting).err(),
            _ => None,
        };
        match refused {
            Some(text) => self.error(setting, text),
            None => {
                let nor = if setting.key.verdict == Verdict::NoEffectInJavaEither {
                    " (nor in the Java daemon)"
                } else {
                    ""
                };
                let text = format!(
                    "property '{}' is accepted and has no effect{nor}: {}",
                    setting.written, setting.key.about
                );
                self.note(Severity::Info, setting, text);
            }
        }
    }

    // -- reporting

    fn note(&mut self, severity: Severity, setting: &Setting, text: impl Into<String>) {
        let key = Some(setting.written.clone());
        self.warnings.push(Warning {
            severity,
            line: Some(setting.line),
            key,
            text: text.into(),
        });
    }

    pub(crate) fn info(&mut self, setting: &Setting, text: impl Into<String>) {
        self.note(Severity::Info, setting, text);
    }

    pub(crate) fn warn(&mut self, setting: &Setting, text: impl Into<String>) {
        self.note(Severity::Warn, setting, text);
    }

    pub(crate) fn warn_at(&mut self, line: Option<usize>, key: Option<&str>, text: impl Into<String>) {
        let key = key.map(str::to_owned);
        self.warnings.push(Warning {
            severity: Severity::Warn,
            line,
            key,
            text: text.into(),
        });
    }

    pub(crate) fn error(&mut self, setting: &Setting, text: impl Into<String>) {
        self.error_at(Some(setting.line), Some(&setting.written), text);
    }

    pub(crate) fn error_at(&mut self, line: Option<usize>, key: Option<&str>, text: impl Into<String>) {
        let key = key.map(str::to_owned);
        self.errors.push(ConfigError {
            file: self.file.clone(),
            line,
            key,
            text: text.into(),
        });
    }

    pub(crate) fn record(&mut self, name: &str, value: impl Display, origin: Origin) {
        self.effective.push(Effective {
            name: name.to_owned(),
            value: value.to_string(),
            origin,
        });
    }

    /// Records a value that a line of the file sets.
    pub(crate) fn record_set(&mut self, name: &str, value: impl Display, setting: &Setting) {
        self.record(name, value, setting.origin());
    }

    // -- access

    pub(crate) fn setting(&self, name: &str) -> Option<Setting> {
        self.by_name.get(name).cloned()
    }

    /// A number of type `Int`, `Long`, `IntObject` or `LongObject`: `None` if it counts as not set. Negative numbers pass.
    pub(crate) fn number(&mut self, name: &str) -> Option<(i64, Setting)> {
        let setting = self.setting(name)?;
        let (reading, object) = match setting.key.kind {
            Type::Int => (values::int(&setting.value), false),
            Type::IntObject => (values::int(&setting.value), true),
            Type::LongObject => (values::long(&setting.value), true),
            _ => (values::long(&setting.value), false),
        };
        match reading {
            Reading::Good(0) if !object => {
                if setting.key.default != Fallback::Number(0) {
                    let text = format!(
                        "{} = 0 counts as not set, as in the Java daemon; using {}",
                        setting.written,
                        shown_default(setting.key)
                    );
                    self.warn(&setting, text);
                }
                None
            }
            Reading::Good(number) => Some((number, setting)),
            Reading::Bad(reason) if object => {
                self.warn(
                    &setting,
                    format!(
                        "{} = '{}' {reason}; it applies as 0, as in the Java daemon",
                        setting.written, setting.value
                    ),
                );
                Some((0, setting))
            }
            Reading::Bad(reason) => {
                self.replaced(&setting, reason, &shown_default(setting.key));
                None
            }
        }
    }

    /// Warns that a value is not used; the text of section 15 of properties.md.
    pub(crate) fn replaced(&mut self, setting: &Setting, reason: &str, instead: &str) {
        let comment = if setting.value.contains(" #") {
            "; a comment cannot follow a value"
        } else {
            ""
        };
        self.warn(
            setting,
            format!(
                "{} = '{}' {reason}; using {instead} (the Java daemon does the same silently){comment}",
                setting.written, setting.value
            ),
        );
    }

    /// A number that must be positive to make sense; a negative one is replaced by the default, with a warning.
    ///
    /// Compat: Java takes negative numbers and then behaves oddly.
    pub(crate) fn positive(&mut self, name: &str) -> Option<(u64, Setting)> {
        let (number, setting) = self.number(name)?;
        match u64::try_from(number) {
            Ok(number) => Some((number, setting)),
            Err(_) => {
                let text = format!(
                    "{} = {number} is negative; using {}",
                    setting.written,
                    shown_default(setting.key)
                );
                self.warn(&setting, text);
                None
            }
        }
    }

    /// A positive number, or the default of the table.
    pub(crate) fn count(&mut self, name: &str) -> u64 {
        let (value, origin) = match self.positive(name) {
            Some((value, setting)) => (value, setting.origin()),
            None => (default_number(name), Origin::Default),
        };
        self.record(name, value, origin);
        value
    }

    /// As [`Settings::count`], for numbers that Java keeps in an `int`.
    pub(crate) fn count32(&mut self, name: &str) -> u32 {
        u32::try_from(self.count(name)).unwrap_or(u32::MAX)
    }

    /// A positive number of milliseconds, or the default of the table.
    pub(crate) fn millis(&mut self, name: &str) -> Duration {
        Duration::from_millis(self.count(name))
    }

    /// A number with a fraction, `None` if it counts as not set.
    pub(crate) fn fraction(&mut self, name: &str) -> Option<(f64, Setting)> {
        let setting = self.setting(name)?;
        match values::double(&setting.value) {
            Reading::Good(0.0) => {
                let text = format!(
                    "{} = 0 counts as not set, as in the Java daemon; using {}",
                    setting.written,
                    shown_default(setting.key)
                );
                self.warn(&setting, text);
                None
            }
            Reading::Good(number) => Some((number, setting)),
            Reading::Bad(reason) => {
                self.replaced(&setting, reason, &shown_default(setting.key));
                None
            }
        }
    }

    /// A boolean of a key with a default.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let default = matches!(
            keys::named(name).map(|key| key.default),
            Some(Fallback::Flag(true))
        );
        let (value, origin) = match self.optional_flag(name) {
            Some((value, setting)) => (value, setting.origin()),
            None => (default, Origin::Default),
        };
        self.record(name, value, origin);
        value
    }

    /// A boolean, `None` if it counts as not set.
    pub(crate) fn optional_flag(&mut self, name: &str) -> Option<(bool, Setting)> {
        let setting = self.setting(name)?;
        let object = setting.key.kind == Type::BooleanObject;
        match values::boolean(&setting.value) {
            Reading::Good(value) if object || value => Some((value, setting)),
            Reading::Good(_) => None,
            Reading::Bad(reason) => {
                let text = format!(
                    "{} = '{}' {reason}; the Java daemon reads this as false, and so it is here",
                    setting.written, setting.value
                );
                self.warn(&setting, text);
                object.then_some((false, setting))
            }
        }
    }

    /// A text as it is, with warnings about what people do not mean.
    pub(crate) fn text(&mut self, name: &str) -> Option<Setting> {
        let setting = self.setting(name)?;
        let value = setting.value.as_str();
        let quoted = value.len() >= 2
            && (value.starts_with('"') && value.ends_with('"')
                || value.starts_with('\'') && value.ends_with('\''));
        let complaint = if value.contains(|c: char| c.is_control()) {
            Some("contains a control character; a backslash begins an escape, write \\\\ for one backslash")
        } else if quoted {
            Some("keeps its quotes: they are part of the value")
        } else if value.contains(" #") {
            Some("contains ' #': a comment cannot follow a value, it is part of it")
        } else if value.ends_with(' ')
            && !matches!(name, "executableName")
            && !values::java_trim(value).is_empty()
        {
            Some("ends with a blank, which is part of the value")
        } else {
            None
        };
        if let Some(complaint) = complaint {
            self.warn(
                &setting,
                format!("{} = '{}' {complaint}", setting.written, value.escape_debug()),
            );
        }
        Some(setting)
    }

    /// A text; an empty one counts as not set.
    pub(crate) fn filled_text(&mut self, name: &str) -> Option<Setting> {
        self.text(name).filter(|setting| !setting.value.is_empty())
    }

    /// A constant, or the default of the table. Anything else is an error, and the default stands in for it.
    pub(crate) fn constant(&mut self, name: &str) -> &'static str {
        let fallback = match keys::named(name).map(|key| key.default) {
            Some(Fallback::Text(text)) => text,
            _ => "",
        };
        let (value, origin) = match self.optional_constant(name) {
            Some((value, setting)) => (value, setting.origin()),
            None => (fallback, Origin::Default),
        };
        self.record(name, value, origin);
        value
    }

    /// A constant, if one is set and is one of those accepted.
    pub(crate) fn optional_constant(&mut self, name: &str) -> Option<(&'static str, Setting)> {
        let setting = self.setting(name)?;
        match read_constant(&setting) {
            Ok(found) => Some((found, setting)),
            Err(text) => {
                self.error(&setting, text);
                None
            }
        }
    }

    /// An ISO-8601 duration; a bad one is an error.
    pub(crate) fn duration(&mut self, name: &str) -> Option<(Duration, Setting)> {
        let setting = self.setting(name)?;
        match values::duration(&setting.value) {
            Ok(duration) => Some((duration, setting)),
            Err(reason) => {
                self.error(
                    &setting,
                    format!("{} = '{}' {reason}", setting.written, setting.value),
                );
                None
            }
        }
    }

    /// An endpoint; a bad one is an error.
    pub(crate) fn url(&mut self, name: &str) -> Option<Setting> {
        let setting = self.setting(name)?;
        match values::endpoint(&setting.value) {
            Ok(_) => Some(setting),
            Err(reason) => {
                let text = format!(
                    "{} = '{}' {reason}; accepted is a URL such as http://localhost:4566",
                    setting.written, setting.value
                );
                self.error(&setting, text);
                None
            }
        }
    }

    /// Seconds since 1970, read without mercy.
    pub(crate) fn epoch_seconds(&mut self, name: &str) -> Option<(i64, Setting)> {
        let setting = self.setting(name)?;
        match values::strict_integer(&setting.value).and_then(|number| i64::try_from(number).ok()) {
            Some(number) => Some((number, setting)),
            None => {
                let text = format!(
                    "{} = '{}' is not a whole number of seconds since 1970 (blanks around it count)",
                    setting.written, setting.value
                );
                self.error(&setting, text);
                None
            }
        }
    }

    /// One of our own numbers: checked strictly.
    pub(crate) fn own_count(&mut self, name: &str) -> u64 {
        let mut result = (default_number(name), Origin::Default);
        if let Some(setting) = self.setting(name) {
            let (least, most) = match setting.key.kind {
                Type::Count(least, most) => (least, most),
                _ => (0, i64::MAX),
            };
            match values::long(&setting.value) {
                Reading::Good(number) if (least..=most).contains(&number) => {
                    result = (u64::try_from(number).unwrap_or_default(), setting.origin());
                }
                _ => {
                    let text = format!(
                        "{} = '{}': accepted is a whole number from {least} to {most}",
                        setting.written, setting.value
                    );
                    self.error(&setting, text);
                }
            }
        }
        self.record(name, result.0, result.1);
        result.0
    }

    /// The same without a default of its own.
    pub(crate) fn own_count_if_set(&mut self, name: &str) -> Option<u64> {
        if self.setting(name).is_some() {
            return Some(self.own_count(name));
        }
        self.record_optional(name, None);
        None
    }

    /// One of our own switches: checked strictly.
    pub(crate) fn own_switch(&mut self, name: &str) -> bool {
        let mut result = (false, Origin::Default);
        if let Some(setting) = self.setting(name) {
            match values::boolean(values::java_trim(&setting.value)) {
                Reading::Good(value) => result = (value, setting.origin()),
                Reading::Bad(_) => {
                    let text = format!(
                        "{} = '{}': accepted are true and false",
                        setting.written, setting.value
                    );
                    self.error(&setting, text);
                }
            }
        }
        self.record(name, result.0, result.1);
        result.0
    }

    /// Records an optional value: its text, or what its absence means.
    pub(crate) fn record_optional(&mut self, name: &str, value: Option<(String, &Setting)>) {
        match value {
            Some((value, setting)) => self.record(name, value, setting.origin()),
            None => {
                let text = keys::named(name).map(shown_default).unwrap_or_default();
                self.record(name, format!("({text})"), Origin::Default);
            }
        }
    }
}

/// Reads an enum constant; the error names what is accepted.
fn read_constant(setting: &Setting) -> Result<&'static str, String> {
    let (found, names, case) = match setting.key.kind {
        Type::Constant(names) => (values::constant(&setting.value, names), names, "in any case"),
        Type::ExactConstant(names) => (
            names.iter().find(|known| **known == setting.value).copied(),
            names,
            "in capitals",
        ),
        _ => (None, &[][..], ""),
    };
    found.ok_or_else(|| {
        let blank = if setting.value.ends_with(' ') {
            " (the blank at its end counts)"
        } else {
            ""
        };
        format!(
            "{} = '{}'{blank}: accepted are {} {case}",
            setting.written,
            setting.value,
            names.join(", ")
        )
    })
}

/// The number that the table gives as a key's default.
pub(crate) fn default_number(name: &str) -> u64 {
    match keys::named(name).map(|key| key.default) {
        Some(Fallback::Number(number)) => u64::try_from(number).unwrap_or_default(),
        _ => 0,
    }
}

/// A key's default in words.
pub(crate) fn shown_default(key: &Key) -> String {
    match key.default {
        Fallback::Number(number) => number.to_string(),
        Fallback::Fraction(number) => number.to_string(),
        Fallback::Flag(flag) => flag.to_string(),
        Fallback::Text(text) => text.to_owned(),
        Fallback::Unset(text) => text.replace('`', ""),
        Fallback::Required => "nothing, it is required".to_owned(),
    }
}

/// Property paths at which BeanUtils throws instead of ignoring them (properties.md 2).
fn broken_path(name: &str) -> Option<&'static str> {
    let first = name.split('.').next().unwrap_or_default();
    let bracket = first.find(['[', '('])?;
    let (open, rest) = first.split_at(bracket);
    let close = if rest.starts_with('[') { ']' } else { ')' };
    let Some(end) = rest.find(close) else {
        return Some("an index is not closed");
    };
    let index = &rest[1..end];
    if close == ']' && index.parse::<i32>().is_err() {
        return Some("an index is not a number");
    }
    (close == ']' && keys::find(open).is_some()).then_some("the property has no index")
}
