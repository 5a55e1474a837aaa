//! `Sink` over the AWS SDK: one PutMetricData per call. What is sent, and when, is decided by the engine.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit, StatisticSet};
use multilangd_core::metrics::{Entry, Unit};
use multilangd_engine::metrics::Sink;
use multilangd_engine::stream::BoxError;

use crate::aws::failure::Failure;

/// A try is given up after this (`consuming.md 7.1`); the engine gives up the call, tries included, after the same.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// CloudWatch, or anything that speaks its protocol.
#[derive(Clone, Debug)]
pub struct CloudWatch {
    client: Client,
    place: String,
}

impl CloudWatch {
    /// `place` names the endpoint in errors.
    pub fn new(client: Client, place: String) -> Self {
        Self { client, place }
    }

    /// Where it is, for people.
    pub fn place(&self) -> &str {
        &self.place
    }
}

#[async_trait]
impl Sink for CloudWatch {
    async fn put(&self, namespace: &str, entries: &[Entry]) -> Result<(), BoxError> {
        let data = entries.iter().map(datum).collect();
        let call = self
            .client
            .put_metric_data()
            .namespace(namespace)
            .set_metric_data(Some(data));
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::of(&error, "cloudwatch", "PutMetricData", &self.place).into()),
        }
    }
}

/// No time stamp and no resolution, as Java: CloudWatch takes the time of arrival.
fn datum(entry: &Entry) -> MetricDatum {
    let statistics = StatisticSet::builder()
        .sum(entry.statistics.sum)
        .minimum(entry.statistics.minimum)
        .maximum(entry.statistics.maximum)
        .sample_count(entry.statistics.count)
        .build();
    let dimensions = entry
        .dimensions
        .iter()
        .map(|(name, value)| Dimension::builder().name(*name).value(value).build())
        .collect();
    MetricDatum::builder()
        .metric_name(entry.name)
        .unit(unit(entry.unit))
        .set_dimensions(Some(dimensions))
        .statistic_values(statistics)
        .build()
}

fn unit(unit: Unit) -> StandardUnit {
    match unit {
        Unit::Count => StandardUnit::Count,
        Unit::Milliseconds => StandardUnit::Milliseconds,
        Unit::Bytes => StandardUnit::Bytes,
        Unit::None => StandardUnit::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use multilangd_core::metrics::Statistics;

    #[test]
    fn an_entry_becomes_a_statistic_set_under_its_dimensions() {
        let entry = Entry {
            name: "DataBytesProcessed",
            unit: Unit::Bytes,
            dimensions: vec![
                ("Operation", "ProcessTask".into()),
                ("ShardId", "shardId-7".into()),
            ],
            statistics: Statistics::of(0.0).and_one(12.0),
        };
        let datum = datum(&entry);
        assert_eq!(datum.metric_name(), Some("DataBytesProcessed"));
        assert_eq!(datum.unit(), Some(&StandardUnit::Bytes));
        let dimensions: Vec<_> = datum
            .dimensions()
            .iter()
            .map(|dimension| (dimension.name().unwrap(), dimension.value().unwrap()))
            .collect();
        assert_eq!(
            dimensions,
            [("Operation", "ProcessTask"), ("ShardId", "shardId-7")]
        );
        let values = datum.statistic_values().unwrap();
        assert_eq!(
            (
                values.sum(),
                values.minimum(),
                values.maximum(),
                values.sample_count()
            ),
            (Some(12.0), Some(0.0), Some(12.0), Some(2.0))
        );
        assert_eq!((datum.timestamp(), datum.storage_resolution()), (None, None));
    }
}
