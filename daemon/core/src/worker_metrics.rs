//! How busy a worker is, as it tells the leader: the row under its own id (`leasing.md 5.7`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ids::WorkerId;
use crate::leases::{ENTITY_TYPE, LEASE_KEY, decimal};
use crate::table::{Action, BadRow, Condition, Item, Reader, Value, Write};
use crate::table_migration::METRICS_KEY;

const UPDATED_S: &str = "lut";
const SAMPLES: &str = "sts";
const OPERATING_RANGE: &str = "opr";
const SUPPORTED: &str = "sup";
const SUPPORTED_S: &str = "slu";
/// Feature 1, the single-table layout: a promise to tolerate its rows (trap 41).
const SINGLE_TABLE: u64 = 1;
/// The key that makes a worker with samples a default worker, a Java quirk.
const THROUGHPUT: &str = "THROUGHPUT";

/// One worker's row.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerMetrics {
    /// The worker.
    pub worker: WorkerId,
    /// `lut`: when it reported last, in **seconds** since the epoch.
    pub updated_s: Option<i64>,
    /// `sts`: metric name to averaged samples, oldest first; −1 stands for a failed one. Empty: a default worker.
    pub samples: BTreeMap<String, Vec<f64>>,
    /// `opr`: metric name to `[highest utilisation in per cent]`.
    pub operating_range: BTreeMap<String, Vec<f64>>,
    /// `sup`: the highest feature it supports.
    pub supported: Option<u64>,
    /// `slu`: when it said so, in seconds since the epoch.
    pub supported_s: Option<i64>,
}

impl WorkerMetrics {
    /// The row of a worker that measures nothing. Both maps are empty, never just one of them.
    pub fn unmeasured(worker: WorkerId, now_s: i64) -> Self {
        Self {
            worker,
            updated_s: Some(now_s),
            samples: BTreeMap::new(),
            operating_range: BTreeMap::new(),
            supported: Some(SINGLE_TABLE),
            supported_s: Some(now_s),
        }
    }

    /// Reads a row, from the lease table (`leaseKey`) or from a legacy metrics table (`wid`).
    pub fn read(item: &Item) -> Result<Self, BadRow> {
        let key_name = if item.contains_key(LEASE_KEY) {
            LEASE_KEY
        } else {
            METRICS_KEY
        };
        let row = Reader::new(key_name, item)?;
        let lists = |attribute| {
            let numbers = |value: &Value| match value {
                Value::L(list) => list
                    .iter()
                    .map(|value| match value {
                        Value::N(text) => text.parse::<f64>().ok(),
                        _ => None,
                    })
                    .collect::<Option<Vec<f64>>>(),
                _ => None,
            };
            let entry = |(name, value): (&str, &Value)| {
                let numbers =
                    numbers(value).ok_or_else(|| row.bad(attribute, "is no map of lists of numbers"))?;
                Ok((name.to_owned(), numbers))
            };
            row.map(attribute)?
                .into_iter()
                .map(entry)
                .collect::<Result<_, BadRow>>()
        };
        Ok(Self {
            worker: row.key().into(),
            updated_s: row.number(UPDATED_S)?,
            samples: lists(SAMPLES)?,
            operating_range: lists(OPERATING_RANGE)?,
            supported: row.number(SUPPORTED)?,
            supported_s: row.number(SUPPORTED_S)?,
        })
    }

    /// The report: an update of all attributes (trap 42), as Java makes it.
    pub fn report(&self) -> Write {
        self.write(Vec::new())
    }

    /// The same, on condition that the row still has the time of the report before; `None`: no time, or no row.
    ///
    /// Compat: Java reports without a condition. Two processes that work under one id by mistake are told apart by it.
    pub fn report_after(&self, last_s: Option<i64>) -> Write {
        self.write(vec![updated_at(last_s)])
    }

    fn write(&self, conditions: Vec<Condition>) -> Write {
        let lists = |lists: &BTreeMap<String, Vec<f64>>| {
            let list = |numbers: &Vec<f64>| Value::L(numbers.iter().map(|number| decimal(*number)).collect());
            Value::M(
                lists
                    .iter()
                    .map(|(name, numbers)| (name.clone(), list(numbers)))
                    .collect(),
            )
        };
        let mut actions = vec![
            Action::Set(ENTITY_TYPE, Value::s("WORKER_METRIC_STATS")),
            Action::Set(SAMPLES, lists(&self.samples)),
            Action::Set(OPERATING_RANGE, lists(&self.operating_range)),
        ];
        let numbers = [
            (UPDATED_S, self.updated_s.map(Value::n)),
            (SUPPORTED, self.supported.map(Value::n)),
            (SUPPORTED_S, self.supported_s.map(Value::n)),
        ];
        actions.extend(
            numbers
                .into_iter()
                .filter_map(|(name, value)| Some(Action::Set(name, value?))),
        );
        Write::Update {
            key: self.worker.as_str().to_owned(),
            conditions,
            actions,
        }
    }

    /// Takes the own row away, so that no leader assigns anything to a worker that leaves (`leasing.md 11`): the row of
    /// this time, for another process may have this id by now.
    pub fn retire(worker: &WorkerId, last_s: Option<i64>) -> Write {
        Write::Delete {
            key: worker.as_str().to_owned(),
            conditions: vec![updated_at(last_s)],
        }
    }

    /// Deletes the row of a worker that is long gone, unless it reported after all, from the table with this key. `None`
    /// without a report time.
    pub fn clean_up(&self, key_name: &'static str) -> Option<Write> {
        Some(Write::Delete {
            key: self.worker.as_str().to_owned(),
            conditions: vec![
                Condition::Equals(UPDATED_S, Value::n(self.updated_s?)),
                Condition::Present(key_name),
            ],
        })
    }

    /// Whether the row makes sense: a default worker, or one whose every metric has an operating range.
    pub fn is_valid(&self) -> bool {
        let has_range = |name: &String| {
            let range = self.operating_range.get(name).and_then(|range| range.first());
            range.is_some_and(|highest| *highest != 0.0)
        };
        let measured = !self.samples.is_empty() && self.samples.keys().all(has_range);
        self.updated_s.is_some() && (self.is_default() || measured)
    }

    /// Whether the worker measures nothing, so that its load is estimated from its leases.
    pub fn is_default(&self) -> bool {
        (self.samples.is_empty() && self.operating_range.is_empty()) || self.samples.contains_key(THROUGHPUT)
    }

    /// Whether the last sample of any metric failed (−1).
    pub fn is_failing(&self) -> bool {
        self.samples.values().any(|samples| samples.last() == Some(&-1.0))
    }

    /// Whether the last report is not older than `age_max` at this wall-clock time, in seconds since the epoch.
    pub fn is_fresh(&self, now_s: i64, age_max: Duration) -> bool {
        self.updated_s
            .is_some_and(|updated| now_s - updated <= age_max.as_secs() as i64)
    }
}

/// The row has this time, or none.
fn updated_at(at_s: Option<i64>) -> Condition {
    at_s.map_or(Condition::Absent(UPDATED_S), |at_s| {
        Condition::Equals(UPDATED_S, Value::n(at_s))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(samples: &[f64], range: &[f64]) -> WorkerMetrics {
        let mut row = WorkerMetrics::unmeasured("w-A".into(), 1789000030);
        row.samples.insert("C".to_owned(), samples.to_vec());
        row.operating_range.insert("C".to_owned(), range.to_vec());
        row
    }

    fn row_of(write: &Write) -> Item {
        let mut item = write.applied(None).unwrap();
        item.insert("leaseKey".to_owned(), Value::s("w-A"));
        item
    }

    #[test]
    fn the_report_is_javas_row() {
        let list = |texts: &[&str]| {
            let numbers = texts.iter().map(|text| Value::N((*text).to_owned())).collect();
            Value::M(BTreeMap::from([("C".to_owned(), Value::L(numbers))]))
        };
        let expected = [
            ("entityType", Value::s("WORKER_METRIC_STATS")),
            ("leaseKey", Value::s("w-A")),
            ("lut", Value::n(1789000030)),
            ("opr", list(&["100"])),
            ("slu", Value::n(1789000030)),
            ("sts", list(&["11.5", "12.25"])),
            ("sup", Value::n(1)),
        ];
        let expected: Item = expected.map(|(name, value)| (name.to_owned(), value)).into();
        assert_eq!(row_of(&measured(&[11.5, 12.25], &[100.0]).report()), expected);
    }

    #[test]
    fn a_worker_without_a_measure_reports_two_empty_maps() {
        let item = row_of(&WorkerMetrics::unmeasured("w-A".into(), 5).report());
        assert_eq!(item["sts"], Value::M(BTreeMap::new()));
        assert_eq!(item["opr"], Value::M(BTreeMap::new()));
        let row = WorkerMetrics::read(&item).unwrap();
        assert!(row.is_default() && row.is_valid());
    }

    #[test]
    fn a_row_reads_back_as_it_was_reported() {
        let row = measured(&[1.5, -1.0], &[80.0]);
        assert_eq!(WorkerMetrics::read(&row_of(&row.report())).unwrap(), row);
    }

    #[test]
    fn a_metric_without_an_operating_range_makes_the_row_invalid() {
        assert!(measured(&[1.0], &[100.0]).is_valid());
        assert!(!measured(&[1.0], &[0.0]).is_valid());
        assert!(!measured(&[1.0], &[]).is_valid());
    }

    #[test]
    fn a_failed_last_sample_means_a_failing_worker() {
        assert!(measured(&[1.0, -1.0], &[100.0]).is_failing());
        assert!(!measured(&[-1.0, 1.0], &[100.0]).is_failing());
    }
}
