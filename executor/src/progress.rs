//! What survives a restart about sources and views besides their rows: stored with every epoch that changes it.

use std::collections::BTreeMap;

use rivermark_planner::catalog::{ObjectId, Positions};
use serde::{Deserialize, Serialize};

use crate::clock::TableMark;

/// What the times of the rows to come are not below, by partition (`lateness.rs`).
pub type Bounds = BTreeMap<i32, i64>;

/// Where a view stands in reading one of the objects it scans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ScanProgress {
    /// It gets every epoch's changes.
    Live,
    /// It reads the rows stored before it was created; everything up to the cursor (a storage key) has been read.
    Rows { cursor: Option<Vec<u8>> },
    /// It reads a source with offsets of its own, until it meets the shared reader.
    Source {
        positions: Positions,
        /// The bound of each partition at its position.
        #[serde(default)]
        bounds: Bounds,
    },
}

/// A view's part of an epoch's write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ViewProgress {
    /// The creating epoch has run.
    pub is_initialized: bool,
    /// Caught up with what its inputs held when it was created: readable.
    pub is_ready: bool,
    /// Set: the view has failed with this error and is not maintained any more.
    pub failed: Option<String>,
    /// Stopped by a statement: nothing runs until another lets it go on.
    #[serde(default)]
    pub is_paused: bool,
    /// It was paused while something that it reads went on: to go on it has to be built anew.
    #[serde(default)]
    pub missed_changes: bool,
    pub rows: u64,
    pub scans: BTreeMap<ObjectId, ScanProgress>,
    /// Ends of the scanned sources when the view was created: reaching them makes it ready.
    pub targets: BTreeMap<ObjectId, Positions>,
    /// The last epoch that changed it.
    pub epoch: u64,
    /// Rows and groups that can not be computed at present.
    pub dead_letters: i64,
    /// Rows of earlier times are forgotten (microseconds since 1970).
    #[serde(default)]
    pub forgotten_us: Option<i64>,
}

/// A table's part of an epoch's write.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TableProgress {
    pub rows: u64,
    /// Of a table with a watermark.
    #[serde(default)]
    pub mark: TableMark,
}

/// A source's part of an epoch's write.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceProgress {
    /// Next offset to read for all views that are `Live` on it.
    pub positions: Positions,
    /// Of each partition, at its position.
    #[serde(default)]
    pub bounds: Bounds,
    /// Microseconds since 1970.
    #[serde(default)]
    pub watermark_us: Option<i64>,
    /// By partition.
    pub counters: BTreeMap<i32, PartitionCounters>,
}

/// What a partition has delivered to the shared reader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionCounters {
    pub rows: u64,
    pub bytes: u64,
    pub dead_letters: u64,
    #[serde(default)]
    pub late_rows: u64,
}

/// True if `reached` is at or beyond `target` in every partition.
pub fn has_reached(reached: &Positions, target: &Positions) -> bool {
    target
        .iter()
        .all(|(partition, end)| *end <= 0 || reached.get(partition).is_some_and(|at| at >= end))
}

/// True if `positions` is beyond `of` in some partition.
pub fn is_ahead(positions: &Positions, of: &Positions) -> bool {
    positions
        .iter()
        .any(|(partition, at)| *at > *of.get(partition).unwrap_or(&0))
}

/// Messages between `from` and `to`, over all partitions.
pub fn distance(from: &Positions, to: &Positions) -> u64 {
    to.iter()
        .map(|(partition, end)| (end - from.get(partition).unwrap_or(&0)).max(0) as u64)
        .sum()
}
