//! A write as DynamoDB wants it: expressions over placeholders, because attribute names such as `key` are reserved.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use multilangd_core::table::{Action, Condition, Value};

use crate::aws::values::{Unwritable, to_attribute};

/// Names and values behind the placeholders of one request's expressions.
#[derive(Debug, Default)]
pub(super) struct Placeholders {
    names: Vec<String>,
    values: Vec<AttributeValue>,
}

impl Placeholders {
    /// The placeholder of an attribute name; the same one for the same name.
    pub(super) fn name(&mut self, name: &str) -> String {
        let index = self
            .names
            .iter()
            .position(|known| known == name)
            .unwrap_or_else(|| {
                self.names.push(name.to_owned());
                self.names.len() - 1
            });
        format!("#n{index}")
    }

    /// The placeholder of a value.
    pub(super) fn value(&mut self, value: &Value) -> Result<String, Unwritable> {
        self.values.push(to_attribute(value)?);
        Ok(format!(":v{}", self.values.len() - 1))
    }

    /// `ExpressionAttributeNames`; `None` where there are none, as the service refuses an empty map.
    pub(super) fn names(&self) -> Option<HashMap<String, String>> {
        let names = self
            .names
            .iter()
            .enumerate()
            .map(|(i, name)| (format!("#n{i}"), name.clone()));
        (!self.names.is_empty()).then(|| names.collect())
    }

    /// `ExpressionAttributeValues`; `None` where there are none.
    pub(super) fn values(self) -> Option<HashMap<String, AttributeValue>> {
        let values = self
            .values
            .into_iter()
            .enumerate()
            .map(|(i, value)| (format!(":v{i}"), value));
        (values.len() > 0).then(|| values.collect())
    }
}

/// `ConditionExpression`; `None`: no condition.
pub(super) fn condition(
    conditions: &[Condition],
    placeholders: &mut Placeholders,
) -> Result<Option<String>, Unwritable> {
    let mut terms = Vec::with_capacity(conditions.len());
    for condition in conditions {
        terms.push(match condition {
            Condition::Equals(name, value) => {
                format!("{} = {}", placeholders.name(name), placeholders.value(value)?)
            }
            Condition::Absent(name) => format!("attribute_not_exists({})", placeholders.name(name)),
            Condition::Present(name) => format!("attribute_exists({})", placeholders.name(name)),
        });
    }
    Ok((!terms.is_empty()).then(|| terms.join(" AND ")))
}

/// `UpdateExpression`; `None`: nothing changes.
pub(super) fn update(
    actions: &[Action],
    placeholders: &mut Placeholders,
) -> Result<Option<String>, Unwritable> {
    let (mut set, mut add, mut remove) = (Vec::new(), Vec::new(), Vec::new());
    for action in actions {
        match action {
            Action::Set(name, value) => {
                set.push(format!(
                    "{} = {}",
                    placeholders.name(name),
                    placeholders.value(value)?
                ));
            }
            Action::Add(name, amount) => {
                add.push(format!(
                    "{} {}",
                    placeholders.name(name),
                    placeholders.value(&Value::n(amount))?
                ));
            }
            Action::Remove(name) => remove.push(placeholders.name(name)),
        }
    }
    let clauses = [("SET", set), ("ADD", add), ("REMOVE", remove)];
    let clauses: Vec<_> = clauses
        .iter()
        .filter(|(_, terms)| !terms.is_empty())
        .map(|(verb, terms)| format!("{verb} {}", terms.join(", ")))
        .collect();
    Ok((!clauses.is_empty()).then(|| clauses.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renewal_is_one_update_with_all_its_conditions() {
        let mut placeholders = Placeholders::default();
        let update = update(&[Action::Set("leaseCounter", Value::n(8))], &mut placeholders).unwrap();
        let condition = condition(
            &[
                Condition::Equals("leaseCounter", Value::n(7)),
                Condition::Absent("checkpointOwner"),
                Condition::Present("leaseKey"),
            ],
            &mut placeholders,
        )
        .unwrap();
        assert_eq!(update.as_deref(), Some("SET #n0 = :v0"));
        assert_eq!(
            condition.as_deref(),
            Some("#n0 = :v1 AND attribute_not_exists(#n1) AND attribute_exists(#n2)")
        );
        assert_eq!(placeholders.names().unwrap()["#n1"], "checkpointOwner");
        assert_eq!(
            placeholders.values().unwrap()[":v1"],
            AttributeValue::N("7".into())
        );
    }

    #[test]
    fn each_verb_stands_once() {
        let actions = [
            Action::Remove("checkpointOwner"),
            Action::Set("leaseOwner", Value::s("w")),
            Action::Add("leaseCounter", 1),
            Action::Set("checkpoint", Value::s("SHARD_END")),
            Action::Remove("pendingCheckpoint"),
        ];
        let update = update(&actions, &mut Placeholders::default()).unwrap();
        assert_eq!(
            update.as_deref(),
            Some("SET #n1 = :v0, #n3 = :v2 ADD #n2 :v1 REMOVE #n0, #n4")
        );
    }

    #[test]
    fn without_conditions_there_is_no_expression_and_no_empty_map() {
        let mut placeholders = Placeholders::default();
        assert_eq!(condition(&[], &mut placeholders).unwrap(), None);
        assert_eq!(placeholders.names(), None);
        assert_eq!(placeholders.values(), None);
    }
}
