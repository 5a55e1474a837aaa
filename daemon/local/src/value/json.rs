//! JSON text to a [`Value`].

use std::borrow::Cow;
use std::fmt;

use serde_core::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::Value;
use crate::error::{Outcome, ServiceError};

/// How `serde_json` presents a number when some crate in the build turned on its `arbitrary_precision`.
const NUMBER_KEY: &str = "$serde_json::private::Number";

/// Reads a body. An empty one is an empty object, as for the service.
pub(crate) fn read(body: &[u8]) -> Outcome<Value<'_>> {
    if body.is_empty() {
        return Ok(Value::Map(Vec::new()));
    }
    serde_json::from_slice(body)
        .map_err(|error| ServiceError::serialization(format!("the body is not valid JSON: {error}")))
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut map = Vec::new();
        while let Some(Key(key)) = entries.next_key()? {
            if key == NUMBER_KEY {
                let Digits(digits) = entries.next_value()?;
                return number(&digits).ok_or_else(|| A::Error::custom(format!("{digits} is not a number")));
            }
            map.push((key, entries.next_value()?));
        }
        Ok(Value::Map(map))
    }
}

fn number(digits: &str) -> Option<Value<'static>> {
    digits
        .parse()
        .map(Value::Integer)
        .or_else(|_| digits.parse().map(Value::Float))
        .ok()
}

/// A key, borrowed where it has no escapes.
struct Key<'a>(Cow<'a, str>);

/// A number's text. It never comes borrowed.
struct Digits(String);

struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text).map(Key)
    }
}

impl<'de> Deserialize<'de> for Digits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_string(Text)
            .map(|text| Digits(text.into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Request;

    #[test]
    fn strings_are_borrowed_and_numbers_keep_their_kind() {
        let value =
            read(br#"{"StreamName":"orders","Limit":10,"At":1790000000.25,"On":true,"No":null}"#).unwrap();
        let request = Request::new(&value).unwrap();
        let Value::Map(members) = &value else {
            panic!("a map")
        };
        assert!(matches!(&members[0].1, Value::Text(Cow::Borrowed("orders"))));
        assert_eq!(request.integer("Limit").unwrap(), Some(10));
        assert_eq!(request.time_ms("At").unwrap(), Some(1_790_000_000_250));
        assert_eq!(request.boolean("On").unwrap(), Some(true));
        assert_eq!(request.text("No").unwrap(), None);
    }

    #[test]
    fn escaped_text_is_unescaped() {
        let value = read(br#"{"PartitionKey":"a\"\u00e4\ud83d\ude00"}"#).unwrap();
        assert_eq!(Request(&value).required_text("PartitionKey").unwrap(), "a\"ä😀");
    }

    #[test]
    fn broken_json_is_a_serialization_error() {
        for body in [&b"{"[..], b"[1,]", b"nope", b"{\"a\":1}x", b"\xff"] {
            assert_eq!(read(body).unwrap_err().code, "SerializationException");
        }
    }

    #[test]
    fn a_body_nested_without_end_is_refused_and_not_followed() {
        let body = "[".repeat(1_000_000);
        assert_eq!(read(body.as_bytes()).unwrap_err().code, "SerializationException");
    }
}
