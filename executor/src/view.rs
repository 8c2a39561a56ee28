//! One materialized view as the writer runs it: its dataflow, its rows, and where it stands in reading its inputs.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use rivermark_planner::catalog::{ObjectId, Positions, QualifiedName};
use rivermark_planner::retention::RowRetention;
use tokio::sync::oneshot;

use crate::api::ViewState;
use crate::dataflow::{Dataflow, Sharing, ViewInputs};
use crate::dead_letters::DeadLetters;
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::operator::EpochContext;
use crate::operator_stats::{OperatorReport, OperatorStats};
use crate::prefetch::PrefetchLease;
use crate::progress::{ScanProgress, ViewProgress};
use crate::row_store::RowStore;
use crate::source::SourceReader;
use crate::spool::{ChangeBuilder, RelationChange};
use crate::state::{Store, WriteSet};
use crate::watermark::Watermarks;

/// A running (or stopped) view.
pub struct View {
    pub id: ObjectId,
    pub name: QualifiedName,
    /// `None`: its state was laid out by another version (`NEEDS_REBUILD`); it only serves its last content.
    pub dataflow: Option<Dataflow>,
    pub rows: RowStore,
    pub progress: ViewProgress,
    /// It shows nothing before it has a watermark, so it is not ready before it has.
    pub emits_on_window_close: bool,
    /// How long rows are kept.
    pub retention: Option<RowRetention>,
    /// The bounds of its columns: no later epoch brings a row with a lower value.
    pub watermarks: Watermarks,
    /// They have risen in this epoch, which its readers do not know yet.
    pub has_later_watermarks: bool,
    /// Readers of its own, by source, while it backfills.
    pub readers: BTreeMap<ObjectId, PrivateReader>,
    /// Statements that wait until it is ready.
    pub waiters: Vec<oneshot::Sender<Result<()>>>,
    /// The earliest time at which it has something to do without any input.
    pub due_us: Option<i64>,
    /// Has changes that are not committed.
    pub is_dirty: bool,
    /// Of storing the rows.
    pub stats: OperatorStats,
}

/// What one run of a view may use.
#[derive(Clone, Copy)]
pub struct EpochLimits<'a> {
    pub epoch: u64,
    /// Threads that may share the work of one operator.
    pub shards: usize,
    /// Bytes that one operator may hold of its input.
    pub held_bytes: usize,
    /// Bytes of output beyond which it is spooled.
    pub output_bytes: usize,
    pub store: &'a Store,
}

/// A reader that brings one view up to the shared reader of a source.
pub struct PrivateReader {
    pub reader: Box<dyn SourceReader>,
    pub columns: Arc<Vec<usize>>,
    pub stop_at: Positions,
    pub _lease: PrefetchLease,
}

impl View {
    pub fn state(&self) -> ViewState {
        match (&self.progress.failed, &self.dataflow) {
            (Some(error), _) => ViewState::Failed(error.clone()),
            (None, None) => ViewState::NeedsRebuild,
            (None, Some(_)) if self.progress.is_paused => ViewState::Paused,
            (None, Some(_)) if self.progress.is_ready => ViewState::Running,
            (None, Some(_)) => ViewState::Backfilling,
        }
    }

    /// Whether epochs still run it.
    pub fn is_maintained(&self) -> bool {
        self.progress.failed.is_none() && self.dataflow.is_some() && !self.progress.is_paused
    }

    /// Whether it still has something to read besides the epochs' changes.
    pub fn is_backfilling(&self) -> bool {
        self.is_maintained()
            && (!self.progress.is_initialized
                || self
                    .progress
                    .scans
                    .values()
                    .any(|s| *s != ScanProgress::Live))
    }

    /// Columns used of a scanned object.
    pub fn columns_of(&self, object: ObjectId) -> Vec<usize> {
        self.dataflow
            .as_ref()
            .and_then(|d| d.scan_columns().get(&object))
            .cloned()
            .unwrap_or_default()
    }

    /// What it has to have read before it begins to read an object.
    pub fn read_before(&self, object: ObjectId) -> impl Iterator<Item = &ObjectId> {
        let dataflow = self.dataflow.iter();
        dataflow.flat_map(move |dataflow| dataflow.read_before(object))
    }

    /// Runs the operators over an epoch's input and stores the result. A panic is an internal error. On an error
    /// nothing of the epoch is left in the view; the caller decides whether it has failed. `now_us`: the epoch's time.
    pub fn run(
        &mut self,
        inputs: &ViewInputs,
        sharing: &mut Sharing<'_>,
        limits: EpochLimits<'_>,
        letters: &mut DeadLetters,
        now_us: i64,
    ) -> Result<RelationChange> {
        let is_first = !self.progress.is_initialized;
        let Some(dataflow) = &mut self.dataflow else {
            return Err(ExecutorError::Internal(
                "a view without operators was run".into(),
            ));
        };
        let mut context = EpochContext {
            epoch: limits.epoch,
            now_us,
            shards: limits.shards,
            held_limit: limits.held_bytes,
            failures: Vec::new(),
        };
        let retention = self.retention;
        let (rows, stats, due_us) = (&mut self.rows, &mut self.stats, &mut self.due_us);
        let result = catch_unwind(AssertUnwindSafe(|| {
            let format = rows.format.clone();
            let mut output = ChangeBuilder::new(limits.store, format, limits.output_bytes);
            let mut count = 0;
            let take = &mut |delta: Delta| {
                count += delta.num_rows() as u64;
                output.push(delta)
            };
            let watermarks = dataflow.run(inputs, is_first, sharing, &mut context, take)?;
            let change = output.finish()?;
            if let RelationChange::Delta(delta) = &change {
                // consolidated
                count = delta.num_rows() as u64;
            }
            stats.rows_in += count;
            stats.rows_out += count;
            stats.timed(|| rows.apply(&change))?;
            let marked = retention.and_then(|r| Some((r, watermarks.get(r.column)?)));
            if let Some((retention, watermark)) = marked {
                rows.forget_before(retention.floor_us(watermark))?;
            }
            *due_us = dataflow.due_us()?;
            dataflow.set_aside()?;
            rows.set_aside()?;
            Ok((change, watermarks))
        }))
        .unwrap_or_else(|panic| Err(ExecutorError::Internal(panic_text(panic))));
        let (change, watermarks) = match result {
            Ok(result) => result,
            Err(error) => {
                self.discard();
                return Err(error);
            }
        };
        let mut failed = 0;
        for failure in context.failures {
            match letters.failure(self.id, failure, now_us) {
                Ok(new) => failed += new,
                Err(error) => {
                    self.discard();
                    return Err(error);
                }
            }
        }
        self.progress.dead_letters += failed;
        self.has_later_watermarks = watermarks != self.watermarks;
        self.watermarks = watermarks;
        self.is_dirty = true;
        self.progress.is_initialized = true;
        self.progress.rows = self.rows.rows();
        self.progress.forgotten_us = self.rows.floor_us();
        if !change.is_empty() {
            self.progress.epoch = limits.epoch;
        }
        Ok(change)
    }

    /// Marks it as failed; what it has committed stays.
    pub fn fail(&mut self, error: &str) {
        self.progress.failed = Some(error.to_string());
        self.is_dirty = true;
        self.readers.clear();
        self.answer_waiters(Err(ExecutorError::NotReadable {
            message: format!("view \"{}\" failed: {error}", self.name),
        }));
    }

    /// Its operators as EXPLAIN numbers them; number 0 stores the rows.
    pub fn report(&mut self) -> Vec<OperatorReport> {
        let rows = self.rows.report(self.stats);
        let operators = self.dataflow.as_mut().map(Dataflow::report);
        std::iter::once(rows)
            .chain(operators.unwrap_or_default())
            .collect()
    }

    /// Answers every statement that waits for the view.
    pub fn answer_waiters(&mut self, answer: Result<()>) {
        for waiter in self.waiters.drain(..) {
            // A waiter that has gone away was cancelled.
            let _ = waiter.send(answer.clone());
        }
    }

    pub fn drain_into(&mut self, writes: &mut WriteSet) -> Result<()> {
        if let Some(dataflow) = &mut self.dataflow {
            dataflow.drain_into(writes);
        }
        self.rows.drain_into(writes)
    }

    pub fn committed(&mut self) {
        if let Some(dataflow) = &mut self.dataflow {
            dataflow.committed();
        }
        self.rows.committed();
        self.is_dirty = false;
    }

    fn discard(&mut self) {
        if let Some(dataflow) = &mut self.dataflow {
            dataflow.discard();
        }
        self.rows.discard();
    }
}

fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("unknown panic");
    format!("panic: {text}")
}
