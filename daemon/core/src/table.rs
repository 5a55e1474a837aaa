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

impl Write {
    /// The key of the row it writes.
    pub fn key(&self, key_name: &str) -> Option<&str> {
        match self {
            Self::Put { item, .. } => match item.get(key_name) {
                Some(Value::S(key)) => Some(key),
                _ => None,
            },
            Self::Update { key, .. } | Self::Delete { key, .. } => Some(key),
        }
    }

    /// What must hold.
    pub fn conditions(&self) -> &[Condition] {
        match self {
            Self::Put { conditions, .. }
            | Self::Update { conditions, .. }
            | Self::Delete { conditions, .. } => conditions,
        }
    }

    /// Whether all conditions hold for a row, `None` being a row that is not there.
    pub fn may_apply(&self, row: Option<&Item>) -> bool {
        let value = |attribute: &str| row.and_then(|row| row.get(attribute));
        self.conditions().iter().all(|condition| match condition {
            Condition::Equals(attribute, expected) => value(attribute) == Some(expected),
            Condition::Absent(attribute) => value(attribute).is_none(),
            Condition::Present(attribute) => value(attribute).is_some(),
        })
    }

    /// The row after the write, conditions aside; `None`: no row. The key attribute of a row that an update creates
    /// is not in it: only the table knows its name.
    pub fn applied(&self, row: Option<&Item>) -> Option<Item> {
        match self {
            Self::Put { item, .. } => Some(item.clone()),
            Self::Delete { .. } => None,
            Self::Update { actions, .. } => {
                let mut row = row.cloned().unwrap_or_default();
                for action in actions {
                    match action {
                        Action::Set(name, value) => drop(row.insert((*name).to_owned(), value.clone())),
                        Action::Remove(name) => drop(row.remove(*name)),
                        Action::Add(name, amount) => {
                            let old = match row.get(*name) {
                                Some(Value::N(old)) => old.parse::<i128>().unwrap_or(0),
                                _ => 0,
                            };
                            row.insert((*name).to_owned(), Value::n(old + i128::from(*amount)));
                        }
                    }
                }
                Some(row)
            }
        }
    }
}

/// A table, as a part of a transaction names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The table's name.
    pub table: String,
    /// The name of its key attribute.
    pub key_name: String,
}

/// One part of a transaction. A part without a write only checks.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Nothing changes, but these conditions must hold.
    Check {
        /// The row's key.
        key: String,
        /// What must hold.
        conditions: Vec<Condition>,
    },
    /// A conditional write.
    Write(Write),
}

/// Writes to several rows, perhaps of several tables: all of them happen, or none does.
pub type Transaction = Vec<(Place, Part)>;

/// A row of a known kind that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("row '{key}': attribute '{attribute}' {problem}")]
pub struct BadRow {
    /// The row's key, as far as it could be read.
    pub key: String,
    /// The first attribute that is wrong.
    pub attribute: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// Reads the attributes of one row, with errors that name the row and the attribute.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    key: &'a str,
    item: &'a Item,
}

impl<'a> Reader<'a> {
    /// Starts with the row's key.
    pub fn new(key_name: &'static str, item: &'a Item) -> Result<Self, BadRow> {
        let mut reader = Self { key: "", item };
        reader.key = reader.required(key_name, reader.text(key_name)?)?;
        Ok(reader)
    }

    /// The row's key.
    pub fn key(&self) -> &'a str {
        self.key
    }

    /// An error about an attribute.
    pub fn bad(&self, attribute: &'static str, problem: impl ToString) -> BadRow {
        BadRow {
            key: self.key.to_owned(),
            attribute,
            problem: problem.to_string(),
        }
    }

    /// The value of an attribute that must be there.
    pub fn required<T>(&self, attribute: &'static str, value: Option<T>) -> Result<T, BadRow> {
        value.ok_or_else(|| self.bad(attribute, "is missing"))
    }

    /// A text.
    pub fn text(&self, attribute: &'static str) -> Result<Option<&'a str>, BadRow> {
        match self.item.get(attribute) {
            None => Ok(None),
            Some(Value::S(text)) => Ok(Some(text)),
            Some(_) => Err(self.bad(attribute, "is no string")),
        }
    }

    /// A number.
    pub fn number<T: std::str::FromStr>(&self, attribute: &'static str) -> Result<Option<T>, BadRow> {
        match self.item.get(attribute) {
            None => Ok(None),
            Some(Value::N(text)) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.bad(attribute, format_args!("is {text}, out of range"))),
            },
            Some(_) => Err(self.bad(attribute, "is no number")),
        }
    }

    /// A set of texts, or, tolerantly, a list of them; empty when absent.
    pub fn texts(&self, attribute: &'static str) -> Result<impl Iterator<Item = &'a str> + use<'a>, BadRow> {
        let texts: Vec<&str> = match self.item.get(attribute) {
            None => Vec::new(),
            Some(Value::Ss(set)) => set.iter().map(String::as_str).collect(),
            Some(Value::L(list)) => {
                let text = |value: &'a Value| match value {
                    Value::S(text) => Ok(text.as_str()),
                    _ => Err(self.bad(attribute, "holds something that is no string")),
                };
                list.iter().map(text).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(self.bad(attribute, "is no set of strings")),
        };
        Ok(texts.into_iter())
    }

    /// A map; empty when absent.
    pub fn map(&self, attribute: &'static str) -> Result<Vec<(&'a str, &'a Value)>, BadRow> {
        match self.item.get(attribute) {
            None => Ok(Vec::new()),
            Some(Value::M(map)) => Ok(map.iter().map(|(name, value)| (name.as_str(), value)).collect()),
            Some(_) => Err(self.bad(attribute, "is no map")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Item {
        Item::from([("k".to_owned(), Value::s("row")), ("n".to_owned(), Value::n(7))])
    }

    fn update(conditions: Vec<Condition>, actions: Vec<Action>) -> Write {
        Write::Update {
            key: "row".to_owned(),
            conditions,
            actions,
        }
    }

    #[test]
    fn all_conditions_must_hold_together() {
        let holds = Condition::Equals("n", Value::n(7));
        let fails = Condition::Present("m");
        assert!(update(vec![holds.clone(), Condition::Absent("m")], vec![]).may_apply(Some(&row())));
        assert!(!update(vec![holds, fails], vec![]).may_apply(Some(&row())));
    }

    #[test]
    fn a_missing_row_has_no_attributes() {
        assert!(update(vec![Condition::Absent("k")], vec![]).may_apply(None));
        assert!(!update(vec![Condition::Equals("k", Value::s("row"))], vec![]).may_apply(None));
    }

    #[test]
    fn an_update_leaves_other_attributes_alone() {
        let write = update(
            vec![],
            vec![Action::Add("n", 1), Action::Set("x", Value::s("new"))],
        );
        let mut expected = row();
        expected.insert("n".to_owned(), Value::n(8));
        expected.insert("x".to_owned(), Value::s("new"));
        assert_eq!(write.applied(Some(&row())), Some(expected));
    }

    #[test]
    fn a_bad_attribute_is_named_with_its_row() {
        let error = Reader::new("k", &row()).unwrap().text("n").unwrap_err();
        assert_eq!(error.to_string(), "row 'row': attribute 'n' is no string");
    }
}
