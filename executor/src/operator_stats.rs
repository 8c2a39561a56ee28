//! What each operator has done since the server started, for `rivermark.operators` and EXPLAIN ANALYZE.
//!
//! Counted per delta, not per row. An operator of a shared prefix has its rows counted in every view, its time in the
//! one that ran it.

use std::time::{Duration, Instant};

use crate::state::{Family, StateTable, TableId};

/// Counts of one operator.
#[derive(Debug, Clone, Copy, Default)]
pub struct OperatorStats {
    pub rows_in: u64,
    pub rows_out: u64,
    /// Rows for windows that are cleaned.
    pub dropped: u64,
    /// Without what later operators did meanwhile with its output.
    pub busy: Duration,
}

impl OperatorStats {
    /// Runs `work` and counts its time.
    pub fn timed<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let result = work();
        self.busy += begin.elapsed();
        result
    }

    /// What was counted since `before`, but for the time.
    pub fn rows_since(&self, before: &OperatorStats) -> OperatorStats {
        OperatorStats {
            rows_in: self.rows_in - before.rows_in,
            rows_out: self.rows_out - before.rows_out,
            dropped: self.dropped - before.dropped,
            busy: Duration::ZERO,
        }
    }

    pub fn add(&mut self, other: &OperatorStats) {
        self.rows_in += other.rows_in;
        self.rows_out += other.rows_out;
        self.dropped += other.dropped;
        self.busy += other.busy;
    }
}

/// One operator of a view, as it is at the end of an epoch.
#[derive(Debug, Clone)]
pub struct OperatorReport {
    pub name: &'static str,
    pub stats: OperatorStats,
    /// Where its state is.
    pub tables: Vec<(Family, TableId)>,
    /// Lookups of its state tables that the cache answered, and those that went to the store.
    pub cache_hits: u64,
    pub cache_misses: u64,
    /// How many keys it has, where that is known.
    pub keys: Option<u64>,
}

impl OperatorReport {
    /// Of an operator with these state tables.
    pub fn new<'a>(
        name: &'static str,
        stats: OperatorStats,
        tables: impl IntoIterator<Item = &'a mut StateTable>,
    ) -> Self {
        let mut report = OperatorReport {
            name,
            stats,
            tables: Vec::new(),
            cache_hits: 0,
            cache_misses: 0,
            keys: None,
        };
        for table in tables {
            let cache = table.cache_stats();
            report.tables.push((table.family(), table.id()));
            report.cache_hits += cache.hits;
            report.cache_misses += cache.misses;
        }
        report
    }
}
