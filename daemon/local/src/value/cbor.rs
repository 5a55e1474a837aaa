//! CBOR bytes (RFC 8949) to a [`Value`]: the subset that AWS SDKs write, definite and indefinite lengths.

use std::borrow::Cow;

use super::{DEPTH_MAX, Value};
use crate::error::{Outcome, ServiceError};

/// Reads a body. An empty one is an empty map.
pub(crate) fn read(body: &[u8]) -> Outcome<Value<'_>> {
    if body.is_empty() {
        return Ok(Value::Map(Vec::new()));
    }
    let mut reader = Reader { rest: body };
    let value = reader.value(0)?;
    if !reader.rest.is_empty() {
        return Err(broken("more bytes after its end"));
    }
    Ok(value)
}

fn broken(what: &str) -> ServiceError {
    ServiceError::serialization(format!("the body is not valid CBOR: {what}"))
}

struct Reader<'a> {
    rest: &'a [u8],
}

/// The argument behind an initial byte.
#[derive(Clone, Copy, PartialEq)]
enum Length {
    Known(u64),
    Indefinite,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: u64) -> Outcome<&'a [u8]> {
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= self.rest.len());
        let (taken, rest) = self
            .rest
            .split_at(length.ok_or_else(|| broken("it ends too early"))?);
        self.rest = rest;
        Ok(taken)
    }

    fn head(&mut self) -> Outcome<(u8, u8)> {
        let byte = self.take(1)?[0];
        Ok((byte >> 5, byte & 0x1f))
    }

    fn number(&mut self, bytes: u64) -> Outcome<u64> {
        Ok(self
            .take(bytes)?
            .iter()
            .fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    fn length(&mut self, info: u8) -> Outcome<Length> {
        Ok(match info {
            0..=23 => Length::Known(u64::from(info)),
            24..=27 => Length::Known(self.number(1 << (info - 24))?),
            31 => Length::Indefinite,
            _ => return Err(broken("a reserved length")),
        })
    }

    fn known(&mut self, info: u8) -> Outcome<u64> {
        match self.length(info)? {
            Length::Known(number) => Ok(number),
            Length::Indefinite => Err(broken("a number without a value")),
        }
    }

    /// Whether a container of this length has another item; swallows the break that ends an indefinite one.
    fn more(&mut self, length: &mut Length) -> Outcome<bool> {
        match length {
            Length::Known(0) => Ok(false),
            Length::Known(left) => {
                *left -= 1;
                Ok(true)
            }
            Length::Indefinite if self.rest.first() == Some(&0xff) => {
                self.rest = &self.rest[1..];
                Ok(false)
            }
            Length::Indefinite => Ok(true),
        }
    }

    fn string(&mut self, major: u8, info: u8) -> Outcome<Cow<'a, [u8]>> {
        let mut length = self.length(info)?;
        if let Length::Known(length) = length {
            return self.take(length).map(Cow::Borrowed);
        }
        let mut whole = Vec::new();
        while self.more(&mut length)? {
            let (chunk, info) = self.head()?;
            if chunk != major {
                return Err(broken("a string of mixed chunks"));
            }
            let length = self.known(info)?;
            whole.extend_from_slice(self.take(length)?);
        }
        Ok(Cow::Owned(whole))
    }

    fn text(&mut self, info: u8) -> Outcome<Cow<'a, str>> {
        let wrong = |_| broken("text that is not UTF-8");
        match self.string(3, info)? {
            Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(wrong),
            Cow::Owned(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Cow::Owned(text)),
                Err(error) => Err(wrong(error.utf8_error())),
            },
        }
    }

    fn value(&mut self, depth: usize) -> Outcome<Value<'a>> {
        if depth > DEPTH_MAX {
            return Err(broken("it is nested too deeply"));
        }
        let (major, info) = self.head()?;
        Ok(match major {
            0 => integer(self.known(info)?, false),
            1 => integer(self.known(info)?, true),
            2 => Value::Bytes(self.string(2, info)?),
            3 => Value::Text(self.text(info)?),
            4 => {
                let mut length = self.length(info)?;
                let mut list = Vec::new();
                while self.more(&mut length)? {
                    list.push(self.value(depth + 1)?);
                }
                Value::List(list)
            }
            5 => {
                let mut length = self.length(info)?;
                let mut map = Vec::new();
                while self.more(&mut length)? {
                    let (3, info) = self.head()? else {
                        return Err(broken("a key that is not text"));
                    };
                    let key = self.text(info)?;
                    map.push((key, self.value(depth + 1)?));
                }
                Value::Map(map)
            }
            6 => {
                let tag = self.known(info)?;
                match (tag, self.value(depth + 1)?) {
                    // The AWS SDKs write milliseconds behind tag 1, where the RFC says seconds.
                    (1, Value::Integer(ms)) => Value::Time(ms),
                    (1, Value::Float(seconds)) => Value::Time((seconds * 1000.0).round() as i64),
                    (_, value) => value,
                }
            }
            _ => match info {
                20 => Value::Bool(false),
                21 => Value::Bool(true),
                22 | 23 => Value::Null,
                25 => Value::Float(half(self.number(2)? as u16)),
                26 => Value::Float(f64::from(f32::from_bits(self.number(4)? as u32))),
                27 => Value::Float(f64::from_bits(self.number(8)?)),
                _ => return Err(broken("an unknown simple value")),
            },
        })
    }
}

fn integer(number: u64, negative: bool) -> Value<'static> {
    match (i64::try_from(number), negative) {
        (Ok(number), false) => Value::Integer(number),
        (Ok(number), true) => Value::Integer(-1 - number),
        (Err(_), false) => Value::Float(number as f64),
        (Err(_), true) => Value::Float(-1.0 - number as f64),
    }
}

/// A 16-bit float (RFC 8949, appendix D).
fn half(bits: u16) -> f64 {
    let mantissa = f64::from(bits & 0x3ff);
    let value = match (bits >> 10) & 0x1f {
        0 => mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (mantissa + 1024.0) * 2f64.powi(i32::from(exponent) - 25),
    };
    if bits & 0x8000 == 0 { value } else { -value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Request;

    fn encoded(value: &ciborium::Value) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_another_encoder_writes_is_read() {
        use ciborium::value::Value as Other;
        let time = Other::Tag(1, Box::new(Other::Integer(1_790_000_000_123_i64.into())));
        let body = encoded(&Other::Map(vec![
            (Other::Text("StreamName".into()), Other::Text("orders".into())),
            (Other::Text("Data".into()), Other::Bytes(vec![0, 1, 255])),
            (Other::Text("Timestamp".into()), time),
            (Other::Text("Limit".into()), Other::Integer(10_000.into())),
            (Other::Text("Low".into()), Other::Integer((-300).into())),
            (Other::Text("Half".into()), Other::Float(1.5)),
            (
                Other::Text("Keys".into()),
                Other::Array(vec![Other::Text("a".into()), Other::Null]),
            ),
            (Other::Text("On".into()), Other::Bool(true)),
        ]));
        let value = read(&body).unwrap();
        let request = Request::new(&value).unwrap();
        assert_eq!(request.required_text("StreamName").unwrap(), "orders");
        assert_eq!(request.blob("Data").unwrap().unwrap().as_ref(), [0, 1, 255]);
        assert_eq!(request.time_ms("Timestamp").unwrap(), Some(1_790_000_000_123));
        assert_eq!(request.integer("Limit").unwrap(), Some(10_000));
        assert_eq!(request.integer("Low").unwrap(), Some(-300));
        assert_eq!(request.get("Half"), Some(&Value::Float(1.5)));
        assert_eq!(
            request.list("Keys").unwrap().unwrap(),
            [Value::Text("a".into()), Value::Null]
        );
        assert_eq!(request.boolean("On").unwrap(), Some(true));
    }

    #[test]
    fn indefinite_maps_lists_and_strings_are_read() {
        // {_ "a": [_ 1, 2], "b": (_ "x", "yz")}
        let body = b"\xbf\x61a\x9f\x01\x02\xff\x61b\x7f\x61x\x62yz\xff\xff";
        let value = read(body).unwrap();
        assert_eq!(
            value,
            Value::Map(vec![
                (
                    "a".into(),
                    Value::List(vec![Value::Integer(1), Value::Integer(2)])
                ),
                ("b".into(), Value::Text("xyz".into())),
            ])
        );
    }

    #[test]
    fn no_prefix_of_a_body_is_a_body() {
        let body =
            b"\xbf\x61a\x9f\x01\x19\x01\x00\xff\x61b\x7f\x61x\x62yz\xff\x61c\xc1\x1a\x00\x00\x00\x01\xff";
        assert!(read(body).is_ok());
        for length in 1..body.len() {
            assert_eq!(
                read(&body[..length]).unwrap_err().code,
                "SerializationException",
                "{length} bytes"
            );
        }
    }

    #[test]
    fn claims_of_great_length_and_depth_are_refused_without_memory() {
        for body in [
            &b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"[..],
            b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
            &[0x81; 100],
        ] {
            assert_eq!(read(body).unwrap_err().code, "SerializationException");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_value_or_an_error(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            if let Err(error) = read(&bytes) {
                proptest::prop_assert_eq!(error.code, "SerializationException");
            }
        }

        #[test]
        fn a_body_with_a_wrong_byte_is_a_value_or_an_error(at in 0usize..19, byte in proptest::prelude::any::<u8>()) {
            let mut body = *b"\xbf\x61a\x9f\x01\x19\x01\x00\xff\x61b\x7f\x61x\x62yz\xff\xff";
            body[at] = byte;
            let _ = read(&body);
        }
    }
}
