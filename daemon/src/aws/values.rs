//! Attribute values, both ways.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use multilangd_core::table::{Item, Value};

/// A value of a type that is never written back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value of a type unknown to this version cannot be written")]
pub(super) struct Unwritable;

/// A value on its way to the table.
pub(super) fn to_attribute(value: &Value) -> Result<AttributeValue, Unwritable> {
    Ok(match value {
        Value::S(text) => AttributeValue::S(text.clone()),
        Value::N(number) => AttributeValue::N(number.clone()),
        Value::Ss(texts) => AttributeValue::Ss(texts.iter().cloned().collect()),
        Value::B(bytes) => AttributeValue::B(Blob::new(bytes.clone())),
        Value::M(entries) => AttributeValue::M(
            entries
                .iter()
                .map(|(name, value)| Ok((name.clone(), to_attribute(value)?)))
                .collect::<Result<_, _>>()?,
        ),
        Value::L(values) => AttributeValue::L(values.iter().map(to_attribute).collect::<Result<_, _>>()?),
        Value::Bool(flag) => AttributeValue::Bool(*flag),
        Value::Other => return Err(Unwritable),
    })
}

/// A value from the table. Types that KCL does not use become `Other`.
pub(super) fn from_attribute(value: AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => Value::S(text),
        AttributeValue::N(number) => Value::N(number),
        AttributeValue::Ss(texts) => Value::Ss(texts.into_iter().collect()),
        AttributeValue::B(bytes) => Value::B(bytes.into_inner()),
        AttributeValue::M(entries) => Value::M(
            entries
                .into_iter()
                .map(|(name, value)| (name, from_attribute(value)))
                .collect(),
        ),
        AttributeValue::L(values) => Value::L(values.into_iter().map(from_attribute).collect()),
        AttributeValue::Bool(flag) => Value::Bool(flag),
        // Null, number sets and binary sets; the enum may also grow.
        _ => Value::Other,
    }
}

/// A row on its way to the table.
pub(super) fn to_attributes(item: &Item) -> Result<HashMap<String, AttributeValue>, Unwritable> {
    item.iter()
        .map(|(name, value)| Ok((name.clone(), to_attribute(value)?)))
        .collect()
}

/// A row from the table.
pub(super) fn from_attributes(attributes: HashMap<String, AttributeValue>) -> Item {
    attributes
        .into_iter()
        .map(|(name, value)| (name, from_attribute(value)))
        .collect::<BTreeMap<_, _>>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_kcl_uses_survives_the_round_trip() {
        let item = Item::from([
            ("s".to_owned(), Value::s("text")),
            ("n".to_owned(), Value::n(-7)),
            (
                "ss".to_owned(),
                Value::Ss(["a".to_owned(), "b".to_owned()].into()),
            ),
            ("b".to_owned(), Value::B(vec![0, 255])),
            (
                "m".to_owned(),
                Value::M([("l".to_owned(), Value::L(vec![Value::n(1), Value::Bool(true)]))].into()),
            ),
        ]);
        assert_eq!(from_attributes(to_attributes(&item).unwrap()), item);
    }

    #[test]
    fn a_type_of_a_newer_peer_is_seen_but_never_written() {
        assert_eq!(from_attribute(AttributeValue::Null(true)), Value::Other);
        assert_eq!(from_attribute(AttributeValue::Ns(vec!["1".into()])), Value::Other);
        assert_eq!(to_attribute(&Value::L(vec![Value::Other])), Err(Unwritable));
    }
}
