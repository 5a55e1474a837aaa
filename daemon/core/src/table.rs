//! Rows and conditional writes as pure data, so that what is written, and under which condition, is decided here
//! and can be compared with Java's rows attribute by attribute. Executed by `engine`'s trait `Table`.

use std::collections::{BTreeMap, BTreeSet};

/// A DynamoDB attribute value, of the types that KCL uses.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    S(String),
    /// A number, as its decimal text.
    N(String),
    /// A set of texts; never empty.
    Ss(BTreeSet<String>),
    /// Bytes.
    B(Vec<u8>),
    /// A map.
    M(BTreeMap<String, Value>),
    /// A list.
    L(Vec<Value>),
    /// True or false. KCL writes none; a newer peer may.
    Bool(bool),
    /// A value of another type, which is never written back.
    Other,
}

impl Value {
    /// A text value.
    pub fn s(text: impl Into<String>) -> Self {
        Self::S(text.into())
    }

    /// A number value.
    pub fn n(number: impl ToString) -> Self {
        Self::N(number.to_string())
    }
}

/// A row: attribute name to value.
pub type Item = BTreeMap<String, Value>;

/// What must hold for a write to apply. All conditions of a write must hold together.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// The attribute has exactly this value.
    Equals(&'static str, Value),
    /// The attribute (or the row) is not there.
    Absent(&'static str),
    /// The attribute is there.
    Present(&'static str),
}

/// What an update does to one attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Put this value.
    Set(&'static str, Value),
    /// Add to a number (0 where there is none).
    Add(&'static str, i64),
    /// Remove the attribute.
    Remove(&'static str),
}

/// One conditional write to one row. The key attribute's name is the table's business, not the write's, except
/// inside `Put`, whose item holds its key.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Writes a whole row.
    Put {
        /// The row, key included.
        item: Item,
        /// What must hold.
        conditions: Vec<Condition>,
    },
    /// Changes some attributes of a row and leaves the rest, known or unknown, as they are.
    Update {
        /// The row's key.
        key: String,
        /// What must hold.
        conditions: Vec<Condition>,
        /// What changes.
        actions: Vec<Action>,
    },
    /// Removes a row.
    Delete {
        /// The row's key.
        key: String,
        /// What must hold.
        conditions: Vec<Condition>,
    },
}
