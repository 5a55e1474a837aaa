//! What must hold of any run, whatever went wrong in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::daemon::Record;

/// Records of a test carry `key` and, as text, their number within the key: 0, 1, 2, …
pub fn numbered(keys: usize, each: usize) -> Vec<(String, String)> {
    (0..each)
        .flat_map(|number| (0..keys).map(move |key| (format!("key-{key}"), number.to_string())))
        .collect()
}

/// What was found out about a run that kept its promises.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Different records that were delivered.
    pub delivered: usize,
    /// Deliveries beyond the first of a record.
    pub duplicates: usize,
}

impl Verdict {
    /// So many records, each delivered once.
    pub fn once(delivered: usize) -> Self {
        Self {
            delivered,
            duplicates: 0,
        }
    }
}

/// Every record that was put is delivered at least once, and whenever a record is delivered for the first time, all
/// before it in its key have been delivered already. Panics with what is missing or out of order.
pub fn at_least_once_in_order(put: &[(String, String)], delivered: &[Record]) -> Verdict {
    let mut wanted: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for (key, text) in put {
        wanted
            .entry(key)
            .or_default()
            .insert(text.parse().expect("a number"));
    }
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    let mut duplicates = 0;
    for record in delivered {
        let number: u64 = record.text().parse().expect("a number");
        let next = seen.entry(&record.key).or_insert(0);
        match number.cmp(next) {
            std::cmp::Ordering::Less => duplicates += 1,
            std::cmp::Ordering::Equal => *next += 1,
            std::cmp::Ordering::Greater => {
                panic!(
                    "{} of {} came before {} (in {})",
                    number, record.key, next, record.shard
                )
            }
        }
    }
    for (key, numbers) in &wanted {
        let delivered = seen.get(key).copied().unwrap_or(0);
        assert_eq!(delivered, numbers.len() as u64, "records of {key} are missing");
    }
    Verdict {
        delivered: seen.values().sum::<u64>() as usize,
        duplicates,
    }
}
