//! `Table` over the AWS SDK. Translates, and tries each call once; which rows are written, and when, is decided in
//! `core` and by the engine.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, ConditionCheck, CreateGlobalSecondaryIndexAction,
    Delete, GlobalSecondaryIndexUpdate, IndexStatus, KeySchemaElement, KeyType,
    PointInTimeRecoverySpecification, Projection, ProjectionType, ProvisionedThroughput, Put, ReturnValue,
    ReturnValuesOnConditionCheckFailure, ScalarAttributeType, TableDescription as SdkTableDescription,
    TableStatus, Tag, TransactWriteItem, Update,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_smithy_types::error::operation::BuildError;
use multilangd_core::table::{Action, Condition, Item, Part, Place, Transaction, Value, Write};
use multilangd_engine::table::{Rows, ScanPage, Table, TableDescription, TableError, TableSettings};

use crate::aws::expressions::{Placeholders, condition, update};
use crate::aws::failure::{Failure, Reaction};
use crate::aws::values::{Unwritable, from_attributes, to_attributes};

/// The index by owner (`leasing.md 1.4`).
pub const OWNER_INDEX: &str = "LeaseOwnerToLeaseKeyIndex";
/// The index's hash key.
const OWNER: &str = "leaseOwner";
/// Every call is given up after this (`leasing.md 1.5`, `dynamoDbRequestTimeout`).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// One table of the real service, or of anything that speaks its protocol.
#[derive(Clone, Debug)]
pub struct DynamoDbTable {
    client: Client,
    name: String,
    key_name: String,
    place: String,
}

impl DynamoDbTable {
    /// `client` has no retries of its own; `place` names the endpoint in errors.
    pub fn new(client: Client, name: String, key_name: String, place: String) -> Self {
        Self {
            client,
            name,
            key_name,
            place,
        }
    }

    fn failure<E>(&self, operation: &'static str, error: &SdkError<E, HttpResponse>) -> Failure
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        Failure::of(
            error,
            "dynamodb",
            operation,
            &format!("table {} of {}", self.name, self.place),
        )
    }

    fn error<E>(&self, operation: &'static str, error: &SdkError<E, HttpResponse>) -> TableError
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        translate(self.failure(operation, error))
    }

    fn unsendable(&self, operation: &'static str, why: impl ToString) -> TableError {
        TableError::Refused(Box::new(Failure::unsendable(
            operation,
            &self.place,
            why.to_string(),
        )))
    }

    fn key(&self, key: &str) -> HashMap<String, AttributeValue> {
        HashMap::from([(self.key_name.clone(), AttributeValue::S(key.to_owned()))])
    }

    async fn put(&self, item: &Item, conditions: &[Condition]) -> Result<Option<Item>, TableError> {
        const OPERATION: &str = "PutItem";
        let unwritable = |error: Unwritable| self.unsendable(OPERATION, error);
        let mut placeholders = Placeholders::default();
        let condition = condition(conditions, &mut placeholders).map_err(unwritable)?;
        let request = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(to_attributes(item).map_err(unwritable)?))
            .set_return_values_on_condition_check_failure(old_row(condition.as_ref()))
            .set_condition_expression(condition)
            .set_expression_attribute_names(placeholders.names())
            .set_expression_attribute_values(placeholders.values());
        match request.send().await {
            Ok(_) => Ok(None),
            Err(SdkError::ServiceError(answer)) if answer.err().is_conditional_check_failed_exception() => {
                Err(match answer.into_err() {
                    PutItemError::ConditionalCheckFailedException(failed) => conflict(failed.item),
                    _ => conflict(None),
                })
            }
            Err(error) => Err(self.error(OPERATION, &error)),
        }
    }

    async fn update(
        &self,
        key: &str,
        conditions: &[Condition],
        actions: &[Action],
    ) -> Result<Option<Item>, TableError> {
        const OPERATION: &str = "UpdateItem";
        let unwritable = |error: Unwritable| self.unsendable(OPERATION, error);
        let mut placeholders = Placeholders::default();
        let condition = condition(conditions, &mut placeholders).map_err(unwritable)?;
        let update = update(actions, &mut placeholders).map_err(unwritable)?;
        let request = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(self.key(key)))
            .set_return_values_on_condition_check_failure(old_row(condition.as_ref()))
            .set_condition_expression(condition)
            .set_update_expression(update)
            .set_expression_attribute_names(placeholders.names())
            .set_expression_attribute_values(placeholders.values())
            .return_values(ReturnValue::AllNew);
        match request.send().await {
            Ok(answer) => Ok(answer.attributes.map(from_attributes)),
            Err(SdkError::ServiceError(answer)) if answer.err().is_conditional_check_failed_exception() => {
                Err(match answer.into_err() {
                    UpdateItemError::ConditionalCheckFailedException(failed) => conflict(failed.item),
                    _ => conflict(None),
                })
            }
            Err(error) => Err(self.error(OPERATION, &error)),
        }
    }

    async fn delete(&self, key: &str, conditions: &[Condition]) -> Result<Option<Item>, TableError> {
        const OPERATION: &str = "DeleteItem";
        let mut placeholders = Placeholders::default();
        let condition =
            condition(conditions, &mut placeholders).map_err(|error| self.unsendable(OPERATION, error))?;
        let request = self
            .client
            .delete_item()
            .table_name(&self.name)
            .set_key(Some(self.key(key)))
            .set_return_values_on_condition_check_failure(old_row(condition.as_ref()))
            .set_condition_expression(condition)
            .set_expression_attribute_names(placeholders.names())
            .set_expression_attribute_values(placeholders.values());
        match request.send().await {
            Ok(_) => Ok(None),
            Err(SdkError::ServiceError(answer)) if answer.err().is_conditional_check_failed_exception() => {
                Err(match answer.into_err() {
                    DeleteItemError::ConditionalCheckFailedException(failed) => conflict(failed.item),
                    _ => conflict(None),
                })
            }
            Err(error) => Err(self.error(OPERATION, &error)),
        }
    }

    fn owner_index(
        &self,
        throughput: Option<(u64, u64)>,
    ) -> Result<CreateGlobalSecondaryIndexAction, BuildError> {
        let throughput = match throughput {
            Some((read, write)) => Some(
                ProvisionedThroughput::builder()
                    .read_capacity_units(units(read))
                    .write_capacity_units(units(write))
                    .build()?,
            ),
            None => None,
        };
        CreateGlobalSecondaryIndexAction::builder()
            .index_name(OWNER_INDEX)
            .key_schema(key_schema(OWNER, KeyType::Hash)?)
            .key_schema(key_schema(&self.key_name, KeyType::Range)?)
            .projection(
                Projection::builder()
                    .projection_type(ProjectionType::KeysOnly)
                    .build(),
            )
            .set_provisioned_throughput(throughput)
            .build()
    }
}

#[async_trait]
impl Table for DynamoDbTable {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_name(&self) -> &str {
        &self.key_name
    }

    async fn describe(&self) -> Result<Option<TableDescription>, TableError> {
        const OPERATION: &str = "DescribeTable";
        match self.client.describe_table().table_name(&self.name).send().await {
            Ok(answer) => match answer.table {
                Some(table) => Ok(Some(description(&table))),
                None => Err(TableError::Unknown(Box::new(Failure::broken(
                    OPERATION,
                    &self.place,
                    "no description",
                )))),
            },
            Err(error) => match self.error(OPERATION, &error) {
                TableError::Missing(_) => Ok(None),
                error => Err(error),
            },
        }
    }

    async fn create(&self, settings: &TableSettings) -> Result<(), TableError> {
        const OPERATION: &str = "CreateTable";
        let malformed = |error: BuildError| self.unsendable(OPERATION, error);
        let tags = settings
            .tags
            .iter()
            .map(|(name, value)| Tag::builder().key(name).value(value).build().map_err(malformed))
            .collect::<Result<Vec<_>, _>>()?;
        let request = self
            .client
            .create_table()
            .table_name(&self.name)
            .attribute_definitions(text_attribute(&self.key_name).map_err(malformed)?)
            .key_schema(key_schema(&self.key_name, KeyType::Hash).map_err(malformed)?)
            .billing_mode(BillingMode::PayPerRequest)
            .deletion_protection_enabled(settings.deletion_protection)
            .set_tags((!tags.is_empty()).then_some(tags));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => match self.failure(OPERATION, &error) {
                // Another worker was first.
                failure if failure.is("ResourceInUseException") => Ok(()),
                failure => Err(translate(failure)),
            },
        }
    }

    async fn create_owner_index(&self) -> Result<(), TableError> {
        const OPERATION: &str = "UpdateTable";
        let malformed = |error: BuildError| self.unsendable(OPERATION, error);
        let missing = || TableError::Missing(format!("table {} of {}", self.name, self.place));
        let table = self.describe().await?.ok_or_else(missing)?;
        if table.owner_index.is_some() {
            return Ok(());
        }
        let index = self.owner_index(table.provisioned).map_err(malformed)?;
        let request = self
            .client
            .update_table()
            .table_name(&self.name)
            .attribute_definitions(text_attribute(OWNER).map_err(malformed)?)
            .attribute_definitions(text_attribute(&self.key_name).map_err(malformed)?)
            .global_secondary_index_updates(GlobalSecondaryIndexUpdate::builder().create(index).build());
        match request.send().await {
            Ok(_) => Ok(()),
            // Refused because another worker was first, or because the table is busy with something else.
            Err(error) => match self.failure(OPERATION, &error) {
                failure
                    if failure.is("ResourceInUseException")
                        || failure.is("LimitExceededException")
                        || failure.is("ValidationException") =>
                {
                    match self.describe().await {
                        Ok(Some(table)) if table.owner_index.is_some() => Ok(()),
                        _ if failure.is("ResourceInUseException") => {
                            Err(TableError::Throttled(failure.to_string()))
                        }
                        _ => Err(translate(failure)),
                    }
                }
                failure => Err(translate(failure)),
            },
        }
    }

    async fn enable_point_in_time_recovery(&self) -> Result<(), TableError> {
        const OPERATION: &str = "UpdateContinuousBackups";
        let specification = PointInTimeRecoverySpecification::builder()
            .point_in_time_recovery_enabled(true)
            .build()
            .map_err(|error| self.unsendable(OPERATION, error))?;
        let request = self
            .client
            .update_continuous_backups()
            .table_name(&self.name)
            .point_in_time_recovery_specification(specification);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => match self.failure(OPERATION, &error) {
                // The table is still being created.
                failure if failure.is("ContinuousBackupsUnavailableException") => {
                    Err(TableError::Throttled(failure.to_string()))
                }
                failure => Err(translate(failure)),
            },
        }
    }

    async fn get(&self, key: &str, consistent: bool) -> Result<Option<Item>, TableError> {
        let request = self
            .client
            .get_item()
            .table_name(&self.name)
            .set_key(Some(self.key(key)))
            .consistent_read(consistent);
        let answer = request
            .send()
            .await
            .map_err(|error| self.error("GetItem", &error))?;
        Ok(answer.item.map(from_attributes))
    }

    async fn write(&self, write: &Write) -> Result<Option<Item>, TableError> {
        match write {
            Write::Put { item, conditions } => self.put(item, conditions).await,
            Write::Update {
                key,
                conditions,
                actions,
            } => self.update(key, conditions, actions).await,
            Write::Delete { key, conditions } => self.delete(key, conditions).await,
        }
    }

    async fn transact(&self, transaction: &Transaction) -> Result<(), TableError> {
        const OPERATION: &str = "TransactWriteItems";
        let malformed = |error: String| self.unsendable(OPERATION, error);
        let items = transaction
            .iter()
            .map(|(place, part)| transact_item(place, part).map_err(malformed))
            .collect::<Result<Vec<_>, _>>()?;
        let request = self.client.transact_write_items().set_transact_items(Some(items));
        match request.send().await {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(answer)) if answer.err().is_transaction_canceled_exception() => {
                let reasons = match answer.err() {
                    TransactWriteItemsError::TransactionCanceledException(cancelled) => {
                        cancelled.cancellation_reasons().to_vec()
                    }
                    _ => Vec::new(),
                };
                let is_for = |code: &str| reasons.iter().any(|reason| reason.code() == Some(code));
                if is_for("ConditionalCheckFailed") {
                    return Err(TableError::Conflict(None));
                }
                let failure = self.failure(OPERATION, &SdkError::ServiceError(answer));
                Err(
                    if is_for("ValidationError") || is_for("ItemCollectionSizeLimitExceeded") {
                        TableError::Refused(Box::new(failure))
                    } else {
                        // Another transaction was in the way, or a table is throttling: nothing happened.
                        TableError::Throttled(failure.to_string())
                    },
                )
            }
            Err(error) => Err(self.error(OPERATION, &error)),
        }
    }

    async fn scan(&self, page: &ScanPage) -> Result<Rows, TableError> {
        const OPERATION: &str = "Scan";
        let after = page.after.as_ref().map(to_attributes).transpose();
        let (segment, segments) = match page.segment {
            Some((segment, segments)) => (Some(segment_number(segment)), Some(segment_number(segments))),
            None => (None, None),
        };
        let request = self
            .client
            .scan()
            .table_name(&self.name)
            .consistent_read(page.consistent)
            .set_segment(segment)
            .set_total_segments(segments)
            .set_exclusive_start_key(after.map_err(|error| self.unsendable(OPERATION, error))?);
        let answer = request
            .send()
            .await
            .map_err(|error| self.error(OPERATION, &error))?;
        Ok(rows(answer.items, answer.last_evaluated_key))
    }

    async fn query_owner(&self, owner: &str, after: Option<&Item>) -> Result<Rows, TableError> {
        const OPERATION: &str = "Query";
        let unwritable = |error: Unwritable| self.unsendable(OPERATION, error);
        let mut placeholders = Placeholders::default();
        let keys =
            condition(&[Condition::Equals(OWNER, Value::s(owner))], &mut placeholders).map_err(unwritable)?;
        let request = self
            .client
            .query()
            .table_name(&self.name)
            .index_name(OWNER_INDEX)
            .set_key_condition_expression(keys)
            .set_expression_attribute_names(placeholders.names())
            .set_expression_attribute_values(placeholders.values())
            .set_exclusive_start_key(after.map(to_attributes).transpose().map_err(unwritable)?);
        let answer = request
            .send()
            .await
            .map_err(|error| self.error(OPERATION, &error))?;
        Ok(rows(answer.items, answer.last_evaluated_key))
    }
}

/// One part of a transaction, as the service wants it.
fn transact_item(place: &Place, part: &Part) -> Result<TransactWriteItem, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let key = |key: &str| HashMap::from([(place.key_name.clone(), AttributeValue::S(key.to_owned()))]);
    let mut placeholders = Placeholders::default();
    let item = TransactWriteItem::builder();
    let item = match part {
        Part::Check { key: row, conditions } => {
            let condition = condition(conditions, &mut placeholders).map_err(|error| text(&error))?;
            let check = ConditionCheck::builder()
                .table_name(&place.table)
                .set_key(Some(key(row)))
                .set_condition_expression(condition)
                .set_expression_attribute_names(placeholders.names())
                .set_expression_attribute_values(placeholders.values());
            item.condition_check(check.build().map_err(|error| text(&error))?)
        }
        Part::Write(Write::Put {
            item: row,
            conditions,
        }) => {
            let condition = condition(conditions, &mut placeholders).map_err(|error| text(&error))?;
            let put = Put::builder()
                .table_name(&place.table)
                .set_item(Some(to_attributes(row).map_err(|error| text(&error))?))
                .set_condition_expression(condition)
                .set_expression_attribute_names(placeholders.names())
                .set_expression_attribute_values(placeholders.values());
            item.put(put.build().map_err(|error| text(&error))?)
        }
        Part::Write(Write::Update {
            key: row,
            conditions,
            actions,
        }) => {
            let condition = condition(conditions, &mut placeholders).map_err(|error| text(&error))?;
            let update = update(actions, &mut placeholders).map_err(|error| text(&error))?;
            let update = Update::builder()
                .table_name(&place.table)
                .set_key(Some(key(row)))
                .set_condition_expression(condition)
                .set_update_expression(update)
                .set_expression_attribute_names(placeholders.names())
                .set_expression_attribute_values(placeholders.values());
            item.update(update.build().map_err(|error| text(&error))?)
        }
        Part::Write(Write::Delete { key: row, conditions }) => {
            let condition = condition(conditions, &mut placeholders).map_err(|error| text(&error))?;
            let delete = Delete::builder()
                .table_name(&place.table)
                .set_key(Some(key(row)))
                .set_condition_expression(condition)
                .set_expression_attribute_names(placeholders.names())
                .set_expression_attribute_values(placeholders.values());
            item.delete(delete.build().map_err(|error| text(&error))?)
        }
    };
    Ok(item.build())
}

fn translate(failure: Failure) -> TableError {
    match failure.code.as_deref().unwrap_or_default() {
        "ConditionalCheckFailedException" => TableError::Conflict(None),
        "ResourceNotFoundException" | "TableNotFoundException" | "IndexNotFoundException" => {
            TableError::Missing(failure.to_string())
        }
        // What the service says of an index that never was.
        "ValidationException" if failure.message.contains("does not have the specified index") => {
            TableError::Missing(failure.to_string())
        }
        _ => match failure.reaction {
            Reaction::SlowDown => TableError::Throttled(failure.to_string()),
            Reaction::Repeat => TableError::Unknown(Box::new(failure)),
            Reaction::GiveUp => TableError::Refused(Box::new(failure)),
        },
    }
}

fn conflict(old: Option<HashMap<String, AttributeValue>>) -> TableError {
    // A row that does not exist comes back as an empty map from some servers.
    let old = old.filter(|attributes| !attributes.is_empty());
    TableError::Conflict(old.map(|attributes| Box::new(from_attributes(attributes))))
}

fn old_row(condition: Option<&String>) -> Option<ReturnValuesOnConditionCheckFailure> {
    condition.map(|_| ReturnValuesOnConditionCheckFailure::AllOld)
}

fn description(table: &SdkTableDescription) -> TableDescription {
    let on_demand = table
        .billing_mode_summary()
        .and_then(|summary| summary.billing_mode())
        .is_some_and(|mode| *mode == BillingMode::PayPerRequest);
    let provisioned = table
        .provisioned_throughput()
        .map(|units| {
            (
                number(units.read_capacity_units),
                number(units.write_capacity_units),
            )
        })
        .filter(|(read, write)| !on_demand && read + write > 0);
    let index = table
        .global_secondary_indexes()
        .iter()
        .find(|index| index.index_name() == Some(OWNER_INDEX));
    TableDescription {
        arn: table.table_arn().unwrap_or_default().to_owned(),
        is_usable: matches!(
            table.table_status(),
            Some(TableStatus::Active | TableStatus::Updating)
        ),
        size_bytes: number(table.table_size_bytes),
        provisioned,
        owner_index: index.map(|index| index.index_status() == Some(&IndexStatus::Active)),
    }
}

fn rows(
    items: Option<Vec<HashMap<String, AttributeValue>>>,
    last_key: Option<HashMap<String, AttributeValue>>,
) -> Rows {
    Rows {
        items: items
            .unwrap_or_default()
            .into_iter()
            .map(from_attributes)
            .collect(),
        next: last_key.filter(|key| !key.is_empty()).map(from_attributes),
    }
}

fn key_schema(name: &str, kind: KeyType) -> Result<KeySchemaElement, BuildError> {
    KeySchemaElement::builder()
        .attribute_name(name)
        .key_type(kind)
        .build()
}

fn text_attribute(name: &str) -> Result<AttributeDefinition, BuildError> {
    AttributeDefinition::builder()
        .attribute_name(name)
        .attribute_type(ScalarAttributeType::S)
        .build()
}

fn number(value: Option<i64>) -> u64 {
    value
        .and_then(|value| u64::try_from(value).ok())
        .unwrap_or_default()
}

fn units(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn segment_number(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
