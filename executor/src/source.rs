//! What a connector implements so that the epoch loop can read from it.
//!
//! A [`Source`] describes an external relation; a [`SourceReader`] reads ahead on threads of its own, within a byte
//! budget, and hands over decoded batches without blocking. Offsets are ours: a reader is told where to start and
//! what it has delivered is committed with the epoch.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use rivermark_planner::catalog::{Positions, SourceDef};
use thiserror::Error;

/// Makes sources from their definitions; implemented by the connector registry.
pub trait ConnectorFactory: Send + Sync {
    /// Checks every option of the definition, without contacting the outside.
    fn source(&self, name: &str, def: &SourceDef) -> Result<Arc<dyn Source>, SourceError>;
}

/// An external relation.
pub trait Source: Send + Sync {
    /// Where reading starts by the source's start-up mode. Contacts the outside; blocks at most `timeout_ms`.
    /// Called once, at CREATE SOURCE. A missing topic is an error unless it is allowed (then: no partitions).
    fn resolve_start(&self, timeout_ms: u64) -> Result<Positions, SourceError>;

    /// The end of each partition now (exclusive), under the source's isolation level. Blocks at most `timeout_ms`.
    /// For sources without an end (datagen): the next offset that is due now.
    fn end_offsets(&self, timeout_ms: u64) -> Result<Positions, SourceError>;

    /// The first offset that each partition still holds. Blocks at most `timeout_ms`. Sources that lose nothing
    /// name no partition.
    fn first_offsets(&self, _timeout_ms: u64) -> Result<Positions, SourceError> {
        Ok(Positions::new())
    }

    /// Starts reading. Does not block; trouble shows in the reader's status.
    fn reader(&self, request: ReadRequest) -> Result<Box<dyn SourceReader>, SourceError>;
}

/// What a reader is to deliver.
#[derive(Clone)]
pub struct ReadRequest {
    /// Indices into the source's physical columns; only these are decoded, in this order. May be empty.
    pub columns: Vec<usize>,
    /// Next offset by partition. Partitions not named here (found while running) start at their first offset.
    pub start: Positions,
    /// Deliver nothing at or after these offsets, and read only these partitions; `None`: follow for ever.
    pub stop_at: Option<Positions>,
    /// Bound on bytes fetched and decoded but not yet taken.
    pub prefetch_bytes: usize,
    /// Called (from any thread) when a batch became ready or the status changed.
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

/// Reads ahead; see the module text. Dropping it stops its threads.
pub trait SourceReader: Send {
    /// The schema of the batches: the requested columns.
    fn schema(&self) -> SchemaRef;

    /// The next ready batch of at most about `max_rows` rows, or `None` if nothing is ready. Never blocks.
    fn take(&mut self, max_rows: usize) -> Option<SourceBatch>;

    /// A cheap view of where the reader is.
    fn status(&self) -> ReaderStatus;

    /// Told now and then up to where everything is durable, so that the outside's tools can show a lag. Never blocks;
    /// recovery does not depend on it.
    fn durable(&mut self, _positions: &Positions) {}

    /// Stops (or goes on) handing over batches of `partition`; what is buffered stays buffered.
    fn set_paused(&mut self, partition: i32, is_paused: bool);
}

/// Decoded messages of one partition, in offset order.
#[derive(Debug, Clone)]
pub struct SourceBatch {
    pub partition: i32,
    /// The position to resume from after this batch (may lie beyond the last row's offset + 1: control records).
    pub next_offset: i64,
    /// Well-formed rows. A value that could not be converted is NULL and named in `column_errors`.
    pub rows: RecordBatch,
    /// Offset of each row.
    pub offsets: Int64Array,
    /// Broker timestamp of each row, milliseconds since 1970, -1 if the broker has none.
    pub timestamps_ms: Int64Array,
    /// Conversion errors; they belong to their column and remove the row only from plans that use that column.
    pub column_errors: Vec<ColumnError>,
    /// Messages that are no rows at all, in offset order.
    pub malformed: Vec<MalformedMessage>,
    /// Payload bytes consumed, malformed messages included.
    pub bytes: u64,
}

impl SourceBatch {
    /// Bytes of the messages and values that are no rows.
    pub fn failed_bytes(&self) -> usize {
        let key = |key: &Option<Vec<u8>>| key.as_ref().map_or(0, Vec::len);
        let size = |own: usize, payload: &[u8], error: &str| own + payload.len() + error.len();
        let malformed = self
            .malformed
            .iter()
            .map(|m| size(size_of::<MalformedMessage>(), &m.payload, &m.error) + key(&m.key));
        let errors = self
            .column_errors
            .iter()
            .map(|e| size(size_of::<ColumnError>(), &e.payload, &e.error) + key(&e.key));
        malformed.chain(errors).sum()
    }

    /// What it takes of the rows that an epoch may read: what failed is stored one by one, so it takes more than a row.
    pub fn cost(&self) -> usize {
        (self.rows.num_rows() + self.failed_bytes() / FAILED_BYTES_PER_ROW).max(1)
    }
}

/// So much that failed counts as a row.
const FAILED_BYTES_PER_ROW: usize = 64;

#[derive(Debug, Clone, PartialEq)]
pub struct ColumnError {
    /// Row in the batch.
    pub row: usize,
    /// Index into the request's `columns`.
    pub column: usize,
    pub error: String,
    pub key: Option<Vec<u8>>,
    pub payload: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct MalformedMessage {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    /// At most 64 KiB of it are kept.
    pub payload: Vec<u8>,
    pub error: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReaderStatus {
    pub state: ReaderState,
    /// The last error that put the reader into its state (or the last one it recovered from).
    pub last_error: Option<String>,
    pub partitions: Vec<PartitionStatus>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReaderState {
    /// Not yet connected.
    #[default]
    Starting,
    Running,
    /// The outside is away; the reader keeps trying.
    Retrying,
    /// Stopped by an error that retrying can not mend (data loss with `on_data_loss = 'fail'`).
    Failed,
    /// Reached `stop_at` in every partition.
    Finished,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStatus {
    pub partition: i32,
    /// The position up to which everything has been handed over by `take`.
    pub taken: i64,
    /// The partition's end as last heard from the broker; -1 unknown.
    pub end_offset: i64,
    /// Whether the reader has nothing more at the moment (its fetch position reached the end).
    pub is_at_end: bool,
}

/// What can be wrong with a source.
#[derive(Debug, Clone, Error)]
pub enum SourceError {
    /// A WITH or ENCODE option is unknown, missing or wrong: the user's to mend. The text names it and what is allowed.
    #[error("{0}")]
    InvalidOption(String),
    /// The topic does not exist.
    #[error("{0}")]
    MissingTopic(String),
    /// The broker can not be reached or refuses us; trying again can help.
    #[error("{0}")]
    Unreachable(String),
    /// Offsets we still needed are gone.
    #[error("{0}")]
    DataLoss(String),
    /// A bug of ours.
    #[error("internal connector error: {0}")]
    Internal(String),
}
