//! Decisions: shards, leases, checkpoints; no async, no clock, no chance.
