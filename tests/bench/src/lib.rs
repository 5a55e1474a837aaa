//! Answers of GetRecords, made in advance: for the synthetic Kinesis, and for those who count what reading them costs.

pub mod records;
