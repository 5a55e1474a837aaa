//! What a child says: the meaning of one line of its output (`protocol.md 4`, `5` and `6.1`).
//!
//! Everything that Java accepts is accepted, with the same coercions. A line that is no message is skipped with a
//! reason and never an error: a child's stray output must not end it.

use std::borrow::Cow;
use std::fmt;

use crate::json::{NUMBER_CHARS_MAX, NotJson, Object, Value};

/// A request to mark records as done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckpointRequest {
    /// Digits or a sentinel as the child wrote them; `None`: everything delivered so far.
    pub sequence_number: Option<String>,
    /// The place inside an aggregate; `None` counts as 0. Negative is refused later, not here.
    pub sub_sequence_number: Option<i64>,
}

/// A message from the child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromChild {
    /// The answer to an action. Whether it is the right one is not decided here.
    Status {
        /// The action it says it answers.
        response_for: Option<String>,
    },
    /// A request to mark records as done.
    Checkpoint(CheckpointRequest),
    /// A message that only a daemon would send. It means nothing, but shows that the child is alive.
    Ignored,
}

/// A message, and what is odd about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What was said.
    pub body: FromChild,
    /// What the child's author may want to know; empty for every official client.
    pub notes: Vec<Note>,
}

/// Something in a message that Java would have refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A key that means nothing here.
    UnknownKey(String),
    /// The position stood under `checkpoint`, its name before KCL 1.7.2.
    CheckpointAlias,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey(key) => write!(f, "the key '{key}' means nothing here and is ignored"),
            Self::CheckpointAlias => {
                f.write_str("the key 'checkpoint' is called 'sequenceNumber' since KCL 1.7.2")
            }
        }
    }
}

/// Why a line is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    /// Nothing on it. Clients put line ends around their messages, so this is not worth a word.
    #[error("an empty line")]
    Empty,
    /// Not a JSON object: plain text, a part of one, a list, a bare value.
    #[error("not a JSON object")]
    NotAnObject,
    /// No `action`, or one that is no known name.
    #[error("no known action")]
    UnknownAction,
    /// `action` stands in it twice.
    #[error("the key 'action' stands in it twice")]
    ActionTwice,
    /// A key holds something that cannot be understood.
    #[error("the value of '{0}' cannot be understood")]
    BadValue(&'static str),
    /// The daemon's own `processRecords`, sent back.
    #[error("an echo of processRecords")]
    Echo,
}

/// More notes than this about one message help nobody.
const NOTES_MAX: usize = 8;

/// What one line says. Bytes that are no UTF-8 count as U+FFFD.
pub fn parse(line: &[u8]) -> Result<Message, Skipped> {
    if line.is_empty() {
        return Err(Skipped::Empty);
    }
    let line = String::from_utf8_lossy(line);
    let mut object = Object::open(&line).ok_or(Skipped::NotAnObject)?;
    let mut fields = Fields::default();
    while let Some((key, value)) = object.next().map_err(|NotJson| Skipped::NotAnObject)? {
        fields.take(key, value)?;
    }
    fields.message()
}

/// The keys of a message as they were found; of a repeated one the last.
#[derive(Default)]
struct Fields<'a> {
    action: Option<Value<'a>>,
    response_for: Option<Value<'a>>,
    sequence_number: Option<Value<'a>>,
    sub_sequence_number: Option<Value<'a>>,
    checkpoint: Option<Value<'a>>,
    error: bool,
    nested_action: bool,
    unknown: Vec<String>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, key: Cow<'a, str>, value: Value<'a>) -> Result<(), Skipped> {
        self.nested_action |= value == Value::Nested { has_action: true };
        match &*key {
            "action" if self.action.is_some() => return Err(Skipped::ActionTwice),
            "action" => self.action = Some(value),
            "responseFor" => self.response_for = Some(value),
            "sequenceNumber" => self.sequence_number = Some(value),
            "subSequenceNumber" => self.sub_sequence_number = Some(value),
            "checkpoint" => self.checkpoint = Some(value),
            "error" => self.error = true,
            _ if self.unknown.len() < NOTES_MAX => self.unknown.push(key.into_owned()),
            _ => {}
        }
        Ok(())
    }

    fn message(mut self) -> Result<Message, Skipped> {
        let Some(Value::String(action)) = self.action.take() else {
            return Err(Skipped::UnknownAction);
        };
        match &*action {
            "status" => self.status(),
            "checkpoint" => self.checkpoint(),
            "processRecords" if self.nested_action => Err(Skipped::Echo),
            // Compat: Java also checks the fields of these and skips the line when they are wrong. Nothing but the
            // restart of `timeoutInSeconds` depends on it.
            "initialize" | "processRecords" | "shutdownRequested" | "leaseLost" | "shardEnded"
            | "shutdown" => Ok(Message {
                body: FromChild::Ignored,
                notes: Vec::new(),
            }),
            _ => Err(Skipped::UnknownAction),
        }
    }

    // Compat: Java skips a message with a key it does not know, and the child waits for ever for its reply. Here the
    // key is passed over, with a note.
    fn status(mut self) -> Result<Message, Skipped> {
        let response_for = text("responseFor", self.response_for.take())?;
        for (key, there) in [
            ("sequenceNumber", self.sequence_number.is_some()),
            ("subSequenceNumber", self.sub_sequence_number.is_some()),
            ("checkpoint", self.checkpoint.is_some()),
            ("error", self.error),
        ] {
            if there {
                self.unknown.push(key.to_owned());
            }
        }
        Ok(Message {
            body: FromChild::Status { response_for },
            notes: self.notes(),
        })
    }

    // Compat: Java skips the key `checkpoint` of KCL before 1.7.2, with the same end. Here it is another name for
    // `sequenceNumber`, which wins if it holds anything.
    fn checkpoint(mut self) -> Result<Message, Skipped> {
        let mut sequence_number = text("sequenceNumber", self.sequence_number.take())?;
        let alias = self.checkpoint.take();
        let alias_used = alias.is_some();
        if sequence_number.is_none() {
            sequence_number = text("checkpoint", alias)?;
        }
        let sub_sequence_number = whole_number("subSequenceNumber", self.sub_sequence_number.take())?;
        if self.response_for.is_some() {
            self.unknown.push("responseFor".to_owned());
        }
        let mut notes = self.notes();
        if alias_used {
            notes.push(Note::CheckpointAlias);
        }
        let request = CheckpointRequest {
            sequence_number,
            sub_sequence_number,
        };
        Ok(Message {
            body: FromChild::Checkpoint(request),
            notes,
        })
    }

    fn notes(self) -> Vec<Note> {
        self.unknown.into_iter().map(Note::UnknownKey).collect()
    }
}

/// A string, or a scalar as its text: a number keeps every digit (`protocol.md 4.3`).
fn text(key: &'static str, value: Option<Value<'_>>) -> Result<Option<String>, Skipped> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.into_owned())),
        Some(Value::Number(digits)) => Ok(Some(digits.to_owned())),
        Some(Value::Bool(value)) => Ok(Some(value.to_string())),
        Some(Value::Nested { .. }) => Err(Skipped::BadValue(key)),
    }
}

/// A 64-bit integer by Java's coercions: fractions are cut off, strings are trimmed, blank ones are null.
fn whole_number(key: &'static str, value: Option<Value<'_>>) -> Result<Option<i64>, Skipped> {
    let number = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(digits)) => integer_part(digits),
        Some(Value::String(text)) => match text.trim_matches(|character| character <= ' ') {
            "" | "null" => return Ok(None),
            digits if digits.len() <= NUMBER_CHARS_MAX => digits.parse().ok(),
            _ => None,
        },
        Some(Value::Bool(_) | Value::Nested { .. }) => None,
    };
    number.map(Some).ok_or(Skipped::BadValue(key))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "cutting off the fraction is the point, and the range is checked"
)]
fn integer_part(digits: &str) -> Option<i64> {
    /// One more than the largest `i64`. Java compares with the same double, and saturates.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if !digits.contains(['.', 'e', 'E']) {
        return digits.parse().ok();
    }
    let number: f64 = digits.parse().ok()?;
    (-BEYOND..=BEYOND).contains(&number).then_some(number as i64)
}

#[cfg(test)]
mod tests;
