//! Ad-hoc scans of sources: what a SELECT on a source reads. Rows that are late, or too far in the future, are left out
//! as views leave them out: both follow from each partition's order, which the scan goes through from the start.

use std::collections::BTreeMap;
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
use rivermark_planner::catalog::SourceDef;
use tokio::sync::Notify;

use crate::error::{ExecutorError, Result, external};
use crate::lateness::{EventTime, Floor};
use crate::progress::has_reached;
use crate::source::{ReadRequest, ReaderState, Source, SourceBatch, SourceReader};

/// Rows taken from a reader at once.
const BATCH_ENTRIES: usize = 8192;
/// Bytes an ad-hoc scan of a source may have in flight.
const SOURCE_SCAN_BYTES: usize = 16 << 20;
/// How long an ad-hoc scan waits for a source's broker.
const SOURCE_TIMEOUT_MS: u64 = 10_000;

/// A source, from its start to where it ends now.
pub struct SourceScan {
    pub source: Arc<dyn Source>,
    pub name: String,
    pub def: Arc<SourceDef>,
    /// The source's declared time.
    pub time: Option<EventTime>,
    /// By partition, in the order of offsets.
    pub floors: Arc<BTreeMap<i32, Vec<Floor>>>,
}

impl fmt::Debug for SourceScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceScan({})", self.name)
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
            read: columns_to_read(columns, self.time.as_ref()),
            schema: schema.clone(),
            time: self.time.clone(),
            floors: self.floors.clone(),
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

/// The columns asked for, and behind them the one that says which rows are late.
fn columns_to_read(mut columns: Vec<usize>, time: Option<&EventTime>) -> Vec<usize> {
    let time = time.map(|time| time.column);
    columns.extend(time.filter(|time| !columns.contains(time)));
    columns
}

/// The one partition of a source scan.
#[derive(Clone)]
struct SourceRows {
    source: Arc<dyn Source>,
    name: String,
    start: rivermark_planner::catalog::Positions,
    end: rivermark_planner::catalog::Positions,
    /// Those of `schema`, and perhaps the source's time.
    read: Vec<usize>,
    schema: SchemaRef,
    time: Option<EventTime>,
    floors: Arc<BTreeMap<i32, Vec<Floor>>>,
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
    /// What is late in each partition from here on.
    bounds: BTreeMap<i32, i64>,
}

impl SourceRows {
    fn open(&self) -> Result<SourceCursor> {
        let wake = Arc::new(Notify::new());
        let notify = wake.clone();
        let reader = self.source.reader(ReadRequest {
            columns: self.read.clone(),
            start: self.start.clone(),
            stop_at: Some(self.end.clone()),
            prefetch_bytes: SOURCE_SCAN_BYTES,
            wake: Arc::new(move || notify.notify_one()),
        })?;
        Ok(SourceCursor {
            reader,
            wake,
            positions: self.start.clone(),
            bounds: BTreeMap::new(),
        })
    }

    /// The rows of a batch that views see. `from`: the position before it.
    fn judged(
        &self,
        batch: SourceBatch,
        from: i64,
        bounds: &mut BTreeMap<i32, i64>,
    ) -> Result<SourceBatch> {
        let Some(time) = &self.time else {
            return Ok(batch);
        };
        let (partition, until) = (batch.partition, batch.next_offset);
        let floors = self.floors.get(&partition).map_or(&[][..], Vec::as_slice);
        let begin = floors.partition_point(|floor| floor.offset < from);
        let end = floors.partition_point(|floor| floor.offset < until);
        let mut bound = bounds.get(&partition).copied();
        let judged = time.judge(batch, &self.read, &mut bound, &floors[begin..end])?;
        bounds.extend(bound.map(|bound| (partition, bound)));
        Ok(judged.batch)
    }

    /// The next batch; rows with a value that can not be converted are left out, as in a view. `None` at the end.
    async fn next(&self, cursor: &mut SourceCursor) -> Result<Option<RecordBatch>> {
        loop {
            while let Some(batch) = cursor.reader.take(BATCH_ENTRIES) {
                let from = cursor.positions.insert(batch.partition, batch.next_offset);
                let batch = self.judged(batch, from.unwrap_or(0), &mut cursor.bounds)?;
                if batch.rows.num_rows() == 0 {
                    continue;
                }
                let asked: Vec<usize> = (0..self.schema.fields().len()).collect();
                let rows = batch.rows.project(&asked)?;
                let errors = batch.column_errors.iter();
                let mut errors = errors.filter(|e| e.column < asked.len()).peekable();
                if errors.peek().is_none() {
                    return Ok(Some(rows));
                }
                let mut keep = vec![true; rows.num_rows()];
                errors.for_each(|e| keep[e.row] = false);
                let keep = BooleanArray::from(keep);
                return Ok(Some(filter_record_batch(&rows, &keep)?));
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
