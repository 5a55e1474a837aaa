//! A request's body as a tree, the same from JSON and from CBOR, borrowing its strings from the body.
//!
//! Owns reading requests and naming the field that is wrong. Never knows an operation.

pub(crate) mod cbor;
pub(crate) mod json;

use std::borrow::Cow;

use crate::error::{Outcome, ServiceError};

/// A body nested deeper than this is refused: no request of Kinesis needs more than 4.
pub(crate) const DEPTH_MAX: usize = 32;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Cow<'a, str>),
    /// Only CBOR has these; JSON sends base64 text.
    Bytes(Cow<'a, [u8]>),
    /// Milliseconds since 1970: CBOR's tag 1, as the AWS SDKs write it.
    Time(i64),
    List(Vec<Value<'a>>),
    Map(Vec<(Cow<'a, str>, Value<'a>)>),
}

/// A map whose members are asked for by name.
#[derive(Clone, Copy)]
pub(crate) struct Request<'v, 'a>(pub(crate) &'v Value<'a>);

impl<'v, 'a> Request<'v, 'a> {
    /// The body of a request must be a map.
    pub(crate) fn new(value: &'v Value<'a>) -> Outcome<Self> {
        match value {
            Value::Map(_) => Ok(Self(value)),
            _ => Err(ServiceError::serialization(
                "the body of a request must be an object",
            )),
        }
    }

    /// The member, unless it is absent or null.
    pub(crate) fn get(self, name: &str) -> Option<&'v Value<'a>> {
        let Value::Map(members) = self.0 else { return None };
        members
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
            .filter(|v| **v != Value::Null)
    }

    pub(crate) fn text(self, name: &str) -> Outcome<Option<&'v str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(wrong_type(name, "a string")),
        }
    }

    pub(crate) fn required_text(self, name: &str) -> Outcome<&'v str> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    pub(crate) fn integer(self, name: &str) -> Outcome<Option<i64>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Integer(number)) => Ok(Some(*number)),
            // Some JSON writers put a fraction of zero behind whole numbers.
            Some(Value::Float(number)) if number.fract() == 0.0 && number.abs() < 9e15 => {
                Ok(Some(*number as i64))
            }
            Some(_) => Err(wrong_type(name, "a whole number")),
        }
    }

    pub(crate) fn required_integer(self, name: &str) -> Outcome<i64> {
        self.integer(name)?.ok_or_else(|| missing(name))
    }

    pub(crate) fn boolean(self, name: &str) -> Outcome<Option<bool>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(wrong_type(name, "true or false")),
        }
    }

    /// Milliseconds since 1970. JSON sends seconds with a fraction.
    pub(crate) fn time_ms(self, name: &str) -> Outcome<Option<i64>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Time(ms)) => Ok(Some(*ms)),
            Some(Value::Integer(seconds)) => Ok(Some(seconds.saturating_mul(1000))),
            Some(Value::Float(seconds)) => Ok(Some((seconds * 1000.0).round() as i64)),
            Some(_) => Err(wrong_type(name, "a time in seconds since 1970")),
        }
    }

    /// Bytes as CBOR has them, or base64 text decoded.
    pub(crate) fn blob(self, name: &str) -> Outcome<Option<Cow<'v, [u8]>>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bytes(bytes)) => Ok(Some(Cow::Borrowed(bytes))),
            Some(Value::Text(text)) => match base64_simd::STANDARD.decode_to_vec(text.as_bytes()) {
                Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
                Err(_) => Err(ServiceError::serialization(format!("{name} is not base64"))),
            },
            Some(_) => Err(wrong_type(name, "base64 text")),
        }
    }

    pub(crate) fn list(self, name: &str) -> Outcome<Option<&'v [Value<'a>]>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::List(items)) => Ok(Some(items)),
            Some(_) => Err(wrong_type(name, "a list")),
        }
    }

    pub(crate) fn texts(self, name: &str) -> Outcome<Option<Vec<&'v str>>> {
        let Some(items) = self.list(name)? else {
            return Ok(None);
        };
        let text = |item: &'v Value<'a>| match item {
            Value::Text(text) => Ok(text.as_ref()),
            _ => Err(wrong_type(name, "a list of strings")),
        };
        items.iter().map(text).collect::<Outcome<Vec<_>>>().map(Some)
    }

    pub(crate) fn map(self, name: &str) -> Outcome<Option<Request<'v, 'a>>> {
        match self.get(name) {
            None => Ok(None),
            Some(value @ Value::Map(_)) => Ok(Some(Request(value))),
            Some(_) => Err(wrong_type(name, "an object")),
        }
    }

    /// The members of a map of strings, such as tags.
    pub(crate) fn entries(self) -> Outcome<Vec<(&'v str, &'v str)>> {
        let Value::Map(members) = self.0 else {
            return Ok(Vec::new());
        };
        let entry = |(key, value): &'v (Cow<'a, str>, Value<'a>)| match value {
            Value::Text(text) => Ok((key.as_ref(), text.as_ref())),
            _ => Err(wrong_type(key, "a string")),
        };
        members.iter().map(entry).collect()
    }
}

pub(crate) fn missing(name: &str) -> ServiceError {
    ServiceError::validation(format!(
        "1 validation error detected: Value null at '{}' failed to satisfy constraint: Member must not be null",
        lower_first(name)
    ))
}

pub(crate) fn out_of_range(name: &str, value: impl std::fmt::Display, allowed: &str) -> ServiceError {
    ServiceError::validation(format!(
        "1 validation error detected: Value '{value}' at '{}' failed to satisfy constraint: Member must {allowed}",
        lower_first(name)
    ))
}

fn wrong_type(name: &str, wanted: &str) -> ServiceError {
    ServiceError::serialization(format!("{name} must be {wanted}"))
}

fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
