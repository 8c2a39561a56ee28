//! Batch scans of relations: what an ad-hoc SELECT reads.

use std::fmt;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{Stream, StreamExt, TryStreamExt};
use rivermark_planner::catalog::SourceDef;
use tokio::sync::Notify;

use crate::error::{ExecutorError, Result};
use crate::own_writes::OwnWrites;
use crate::progress::has_reached;
use crate::rows::{ROWS_FAMILY, RowFormat, RowLayout};
use crate::source::{ReadRequest, ReaderState, Source, SourceReader};
use crate::state::{KeyRange, StoreSnapshot, scan_blocks};

/// Stored entries decoded at once.
const BATCH_ENTRIES: usize = 8192;
/// Bytes of stored entries decoded at once.
const BATCH_BYTES: usize = 4 << 20;
/// Bytes an ad-hoc scan of a source may have in flight.
const SOURCE_SCAN_BYTES: usize = 16 << 20;
/// How long an ad-hoc scan waits for a source's broker.
const SOURCE_TIMEOUT_MS: u64 = 10_000;

/// The stored rows of a table or view in a snapshot.
pub struct StoredScan {
    pub format: Arc<RowFormat>,
    pub store: StoreSnapshot,
    /// What the reading transaction itself has changed.
    pub own: Option<Arc<OwnWrites>>,
}

/// A source, from its start to where it ends now.
pub struct SourceScan {
    pub source: Arc<dyn Source>,
    pub name: String,
    pub def: Arc<SourceDef>,
}

impl fmt::Debug for StoredScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredScan({:?})", self.format.table)
    }
}

impl fmt::Debug for SourceScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceScan({})", self.name)
    }
}

#[async_trait]
impl TableProvider for StoredScan {
    fn schema(&self) -> SchemaRef {
        self.format.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let rows = Arc::new(StoredRows {
            format: self.format.clone(),
            store: self.store.clone(),
            own: self.own.clone(),
        });
        let schema = self.schema();
        Ok(Arc::new(StreamingTableExec::try_new(
            schema,
            vec![rows],
            projection,
            None,
            false,
            limit,
        )?))
    }
}

/// The one partition of a stored scan.
#[derive(Clone)]
struct StoredRows {
    format: Arc<RowFormat>,
    store: StoreSnapshot,
    own: Option<Arc<OwnWrites>>,
}

impl fmt::Debug for StoredRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredRows({:?})", self.format.table)
    }
}

impl PartitionStream for StoredRows {
    fn schema(&self) -> &SchemaRef {
        &self.format.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = self.format.schema.clone();
        let stored = if self.format.layout == RowLayout::Log {
            self.blocks().boxed()
        } else {
            self.entries().boxed()
        };
        let Some(own) = self.own.clone() else {
            return Box::pin(RecordBatchStreamAdapter::new(schema, stored));
        };
        let added = futures::stream::once(async move { own.added().map_err(external) });
        let added = added.map_ok(|batches| futures::stream::iter(batches.into_iter().map(Ok)));
        let rows = stored.chain(added.try_flatten());
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

impl StoredRows {
    fn blocks(&self) -> impl Stream<Item = DataFusionResult<RecordBatch>> + Send + use<> {
        let place = (ROWS_FAMILY, self.format.table);
        let schema = self.format.schema.clone();
        let scan = scan_blocks(&self.store, place, schema, 0, None, None);
        futures::stream::try_unfold(scan, |mut scan| async move {
            let block = scan.next_block().map_err(|e| external(e.into()))?;
            Ok(block.map(|block| (block.batch, scan)))
        })
    }

    fn entries(&self) -> impl Stream<Item = DataFusionResult<RecordBatch>> + Send + use<> {
        let scan = self
            .store
            .scan(ROWS_FAMILY, self.format.table, &KeyRange::all());
        let start = (self.clone(), scan);
        futures::stream::try_unfold(start, |(this, mut scan)| async move {
            let Some(chunk) = scan
                .next_chunk(BATCH_ENTRIES, BATCH_BYTES)
                .map_err(|e| external(e.into()))?
            else {
                return Ok(None);
            };
            let batch = match &this.own {
                Some(own) => own.left_of(&chunk),
                None => this
                    .format
                    .decode(chunk.keys.iter().zip(chunk.values.iter())),
            };
            Ok(Some((batch.map_err(external)?, (this, scan))))
        })
    }
}

#[async_trait]
impl TableProvider for SourceScan {
    fn schema(&self) -> SchemaRef {
        self.def.physical_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let all = self.schema();
        let columns = projection
            .cloned()
            .unwrap_or_else(|| (0..all.fields().len()).collect());
        let schema = Arc::new(Schema::new(
            columns
                .iter()
                .map(|&c| all.field(c).clone())
                .collect::<Vec<_>>(),
        ));
        let source = self.source.clone();
        let end = tokio::task::spawn_blocking(move || source.end_offsets(SOURCE_TIMEOUT_MS))
            .await
            .map_err(|e| DataFusionError::External(Box::new(e)))?
            .map_err(|e| external(e.into()))?;
        let rows = Arc::new(SourceRows {
            source: self.source.clone(),
            name: self.name.clone(),
            start: self.def.start.clone(),
            end,
            columns,
            schema: schema.clone(),
        });
        Ok(Arc::new(StreamingTableExec::try_new(
            schema,
            vec![rows],
            None,
            None,
            false,
            limit,
        )?))
    }
}

/// The one partition of a source scan.
#[derive(Clone)]
struct SourceRows {
    source: Arc<dyn Source>,
    name: String,
    start: rivermark_planner::catalog::Positions,
    end: rivermark_planner::catalog::Positions,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl fmt::Debug for SourceRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceRows({})", self.name)
    }
}

impl PartitionStream for SourceRows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let this = self.clone();
        let stream = futures::stream::try_unfold(
            (this, None::<SourceCursor>),
            |(this, cursor)| async move {
                let mut cursor = match cursor {
                    Some(cursor) => cursor,
                    None => this.open().map_err(external)?,
                };
                let batch = this.next(&mut cursor).await.map_err(external)?;
                Ok(batch.map(|batch| (batch, (this, Some(cursor)))))
            },
        );
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), stream))
    }
}

/// A running read of a source.
struct SourceCursor {
    reader: Box<dyn SourceReader>,
    wake: Arc<Notify>,
    positions: rivermark_planner::catalog::Positions,
}

impl SourceRows {
    fn open(&self) -> Result<SourceCursor> {
        let wake = Arc::new(Notify::new());
        let notify = wake.clone();
        let reader = self.source.reader(ReadRequest {
            columns: self.columns.clone(),
            start: self.start.clone(),
            stop_at: Some(self.end.clone()),
            prefetch_bytes: SOURCE_SCAN_BYTES,
            wake: Arc::new(move || notify.notify_one()),
        })?;
        Ok(SourceCursor {
            reader,
            wake,
            positions: self.start.clone(),
        })
    }

    /// The next batch; rows with a value that can not be converted are left out, as in a view. `None` at the end.
    async fn next(&self, cursor: &mut SourceCursor) -> Result<Option<RecordBatch>> {
        loop {
            while let Some(batch) = cursor.reader.take(BATCH_ENTRIES) {
                cursor.positions.insert(batch.partition, batch.next_offset);
                if batch.rows.num_rows() == 0 {
                    continue;
                }
                if batch.column_errors.is_empty() {
                    return Ok(Some(batch.rows));
                }
                let mut keep = vec![true; batch.rows.num_rows()];
                batch.column_errors.iter().for_each(|e| keep[e.row] = false);
                return Ok(Some(filter_record_batch(
                    &batch.rows,
                    &BooleanArray::from(keep),
                )?));
            }
            let status = cursor.reader.status();
            match status.state {
                ReaderState::Finished => return Ok(None),
                _ if has_reached(&cursor.positions, &self.end) => return Ok(None),
                ReaderState::Failed => {
                    let why = status.last_error.unwrap_or_else(|| "reading failed".into());
                    return Err(ExecutorError::NotReadable {
                        message: format!("source \"{}\": {why}", self.name),
                    });
                }
                ReaderState::Starting | ReaderState::Running | ReaderState::Retrying => {}
            }
            // The reader's own wake-ups, and a slow look in case the last one came between.
            let _ =
                tokio::time::timeout(std::time::Duration::from_millis(50), cursor.wake.notified())
                    .await;
        }
    }
}

fn external(error: ExecutorError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
