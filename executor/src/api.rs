//! What the server sees of the engine: requests, their outcomes, and status rows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use arrow::array::RecordBatch;
use rivermark_planner::Catalog;
use rivermark_planner::catalog::{
    IndexDef, MaterializedViewDef, ObjectId, OutputColumn, QualifiedName, SourceDef, TableDef,
    ViewDef,
};
use rivermark_planner::plan::StreamPlan;
use rivermark_planner::retention::RowRetention;
use rivermark_planner::security::Security;

pub use rivermark_planner::alter::Successor;

pub use crate::reshape::TableChange;

/// How the engine runs.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    pub data_dir: PathBuf,
    /// Bytes for block cache, memtables, operator caches, source queues and queries together.
    pub memory_limit: usize,
    /// Threads that may share the work of one operator.
    pub shards: usize,
    /// Shortest time between two epochs that only sources caused.
    pub min_epoch_interval: Duration,
    /// Longest time until a committed epoch is fsynced.
    pub wal_sync_interval: Duration,
    /// Rows one epoch takes from sources at most.
    pub max_epoch_rows: usize,
    /// A write set above this many bytes is ingested as SST files instead of one write batch.
    pub ingest_threshold: usize,
    /// Rows of dead letters kept, in bytes of payload; the oldest go first.
    pub dead_letter_bytes: u64,
    /// How long changes are kept for subscribers that come back.
    pub change_log_retention: Duration,
}

/// A change of the catalog. Planned against one catalog version; refused with `CatalogChanged` at any other.
#[derive(Debug, Clone)]
pub enum CatalogChange {
    CreateSchema {
        name: String,
    },
    DropSchema {
        name: String,
    },
    /// `def.start` is filled in by the engine, which contacts the source.
    CreateSource {
        name: QualifiedName,
        sql: String,
        def: SourceDef,
    },
    /// `def.rows` is filled in by the engine.
    CreateTable {
        name: QualifiedName,
        sql: String,
        def: TableDef,
    },
    CreateView {
        name: QualifiedName,
        sql: String,
        def: ViewDef,
        depends_on: Vec<ObjectId>,
        replace: bool,
    },
    CreateMaterializedView(Box<NewMaterializedView>),
    /// `def.entries` is filled in by the engine. The index is registered at once and complete later: see
    /// `Engine::wait_until_ready`.
    CreateIndex {
        name: QualifiedName,
        sql: String,
        def: IndexDef,
    },
    /// Builds views beside those that they replace, in dependency order; all swap in one epoch. The id that is
    /// returned is that of the first successor, which [`crate::Engine::wait_until_ready`] waits for.
    Replace {
        members: Vec<Successor>,
        /// Rebuilding what the inputs do not hold any more: refused, forced, or not asked.
        retention: Retention,
    },
    /// Drops the successors of a replacement, by the first one; nothing if they have taken their places already.
    GiveUpReplacement {
        first: ObjectId,
    },
    /// Stops a view and those that read it.
    Pause {
        view: ObjectId,
    },
    /// Lets a paused view that reads only sources go on, and those that read it.
    Resume {
        view: ObjectId,
    },
    /// Goes on with this catalog, which differs in definitions only: names, a source's columns, defaults.
    Alter {
        after: Box<Catalog>,
    },
    /// Changes every stored row; returns when that is done.
    ChangeTable {
        table: ObjectId,
        change: TableChange,
    },
    /// Drops the objects with their indexes. Nothing else may depend on them.
    Drop {
        objects: Vec<ObjectId>,
    },
    /// Roles, owners and grants are these from now on.
    Secure {
        security: Box<Security>,
    },
    /// `column`: `None` comments the relation itself.
    Comment {
        object: ObjectId,
        column: Option<String>,
        comment: Option<String>,
    },
}

/// What becomes of rows that a source does not hold any more when a view is built from it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// A new query, which reads what there is, as a new view would.
    NotAsked,
    /// The view would lose them: an error.
    Refuse,
    /// The view is built from what there is.
    Force,
}

/// A planned materialized view.
#[derive(Debug, Clone)]
pub struct NewMaterializedView {
    pub name: QualifiedName,
    pub sql: String,
    pub bound_sql: String,
    pub columns: Vec<OutputColumn>,
    pub depends_on: Vec<ObjectId>,
    pub emit_on_window_close: bool,
    pub options: BTreeMap<String, String>,
    pub retention: Option<RowRetention>,
    pub plan: StreamPlan,
}

/// One statement's change of one table.
#[derive(Debug, Clone)]
pub struct TableWrite {
    pub table: ObjectId,
    /// Whole rows, as read from a snapshot; each must still be there, else the statement fails with `Conflict`.
    pub delete: Option<RecordBatch>,
    /// Whole rows; their keys must be free after the deletions, else `UniqueViolation`.
    pub insert: Option<RecordBatch>,
}

/// State of a materialized view.
#[derive(Debug, Clone, PartialEq)]
pub enum ViewState {
    /// Reading what its inputs held before it was created.
    Backfilling,
    Running,
    /// Stopped by a statement; it serves its last content.
    Paused,
    /// An internal error; its last good epoch stays.
    Failed(String),
    /// Its state was laid out by another version; it serves its last content.
    NeedsRebuild,
}

impl ViewState {
    pub fn as_str(&self) -> &'static str {
        match self {
            ViewState::Backfilling => "BACKFILLING",
            ViewState::Running => "RUNNING",
            ViewState::Paused => "PAUSED",
            ViewState::Failed(_) => "FAILED",
            ViewState::NeedsRebuild => "NEEDS_REBUILD",
        }
    }
}

/// A row of `rivermark.sources`: one source and partition.
#[derive(Debug, Clone)]
pub struct SourceStatus {
    pub source: ObjectId,
    pub name: QualifiedName,
    /// `None` for a source no partition of which is known yet.
    pub partition: Option<i32>,
    /// Committed: the next offset to read.
    pub offset: Option<i64>,
    pub end_offset: Option<i64>,
    /// Microseconds since 1970.
    pub watermark_us: Option<i64>,
    pub rows: u64,
    pub bytes: u64,
    pub late_rows: u64,
    pub dead_letters: u64,
    /// IDLE (no view reads it), STARTING, RUNNING, RETRYING, FAILED.
    pub status: &'static str,
    pub last_error: Option<String>,
    /// When everything the broker had was last read, microseconds since 1970.
    pub caught_up_at_us: Option<i64>,
}

/// A row of `rivermark.materialized_views`.
#[derive(Debug, Clone)]
pub struct MaterializedViewStatus {
    pub view: ObjectId,
    pub name: QualifiedName,
    pub state: ViewState,
    /// Of the backfill, 0..=1.
    pub progress: f64,
    pub rows: u64,
    pub state_bytes: u64,
    /// The last epoch that changed it.
    pub epoch: u64,
    /// Since its inputs were last seen caught up; 0 when caught up.
    pub freshness_ms: u64,
    pub dead_letters: u64,
    /// Of the view that is being built beside it, 0..=1; `None`: there is none.
    pub rebuild_progress: Option<f64>,
}

/// A row of `rivermark.operators`: what an operator has done since the server started.
#[derive(Debug, Clone)]
pub struct OperatorStatus {
    pub view: ObjectId,
    /// Its line in the view's EXPLAIN, from 0.
    pub operator: u32,
    pub name: &'static str,
    pub rows_in: u64,
    pub rows_out: u64,
    /// For windows that are closed or cleaned.
    pub rows_dropped: u64,
    pub busy: Duration,
    pub has_state: bool,
    /// `None` where it is not known without reading all of them.
    pub state_keys: Option<u64>,
    /// In data files.
    pub state_bytes: u64,
    /// The part of lookups in its state that needed no read; `None` if there were none.
    pub cache_hit_ratio: Option<f64>,
}

/// A row of `rivermark.epochs` (the most recent ones).
#[derive(Debug, Clone)]
pub struct EpochStatus {
    pub epoch: u64,
    /// Microseconds since 1970, when it was published.
    pub published_at_us: i64,
    pub rows_in: u64,
    pub bytes_written: u64,
    pub compute_us: u64,
    pub commit_us: u64,
    pub is_durable: bool,
}

/// A row of `rivermark.dead_letters`.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Microseconds since 1970.
    pub at_us: i64,
    pub object: ObjectId,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    pub column: Option<String>,
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
    pub error: String,
    /// How many equal rows failed.
    pub count: i64,
}

/// A row of `rivermark.late_rows`.
#[derive(Debug, Clone, PartialEq)]
pub struct LateRow {
    /// When it was met, microseconds since 1970.
    pub at_us: i64,
    pub object: ObjectId,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    /// Its own time.
    pub time_us: i64,
    /// What its time is below.
    pub watermark_us: i64,
}

/// What a stored definition looks like once created; for tests and SHOW.
pub type StoredView = MaterializedViewDef;
