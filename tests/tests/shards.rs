//! Shards and their leases, over a stream and a table in memory and a clock that only the test moves.

mod shards {
    mod audit;
    mod clean_up;
    mod finish;
    mod first_sync;
    mod lineage;
    pub(crate) mod world;
}
