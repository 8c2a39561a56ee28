//! A paced reader of made-up rows. Rows are made when they are taken; one thread does nothing but say when.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arrow::array::{Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use parking_lot::{Condvar, Mutex};
use rivermark_executor::source::{
    PartitionStatus, ReadRequest, ReaderState, ReaderStatus, SourceBatch, SourceError, SourceReader,
};
use rivermark_planner::catalog::SourceDef;

use super::field::Generator;
use super::{PARTITION, Schedule, now_us};
use crate::format::batch::projected_schema;
use crate::format::column::Column;

/// Rows of one batch at most.
const MAX_ROWS: usize = 8192;
/// Bounds of the time between two wakes.
const PACES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

pub struct DatagenReader {
    schema: SchemaRef,
    generators: Vec<Generator>,
    columns: Vec<Column>,
    schedule: Schedule,
    next: i64,
    stop: Option<i64>,
    is_paused: bool,
    pacer: Arc<Pacer>,
}

/// Ends the pacing thread.
#[derive(Default)]
struct Pacer {
    is_stopped: Mutex<bool>,
    changed: Condvar,
}

impl DatagenReader {
    pub fn start(
        def: &SourceDef,
        schedule: Schedule,
        request: &ReadRequest,
    ) -> Result<Self, SourceError> {
        let schema = projected_schema(def, &request.columns)?;
        let all = Generator::all(def)?;
        let defs: Vec<_> = def.physical_columns().collect();
        let reader = DatagenReader {
            schema,
            generators: request.columns.iter().map(|i| all[*i].clone()).collect(),
            columns: request
                .columns
                .iter()
                .map(|i| Column::new(&defs[*i].data_type))
                .collect(),
            schedule,
            next: request
                .start
                .get(&PARTITION)
                .copied()
                .unwrap_or(schedule.first),
            // A bounded read of no partitions has nothing to read.
            stop: request
                .stop_at
                .as_ref()
                .map(|s| s.get(&PARTITION).copied().unwrap_or(i64::MIN)),
            is_paused: false,
            pacer: Arc::new(Pacer::default()),
        };
        let (pacer, wake) = (reader.pacer.clone(), request.wake.clone());
        let pace = Duration::from_secs(1)
            .div_f64(schedule.rows_per_second as f64)
            .clamp(PACES.0, PACES.1);
        thread::Builder::new()
            .name("datagen-pace".to_string())
            .spawn(move || pacer.run(pace, &*wake))
            .map_err(|e| SourceError::Internal(format!("no thread for a datagen reader: {e}")))?;
        Ok(reader)
    }

    fn end(&self) -> i64 {
        let due = self.schedule.end(now_us());
        self.stop.map_or(due, |stop| due.min(stop))
    }

    fn is_finished(&self) -> bool {
        self.stop.is_some_and(|stop| self.next >= stop)
    }

    fn rows(&mut self, offsets: &[i64]) -> RecordBatch {
        let mut scratch = String::new();
        for (generator, column) in self.generators.iter().zip(&mut self.columns) {
            for offset in offsets {
                let index = offset.wrapping_sub(self.schedule.first) as u64;
                generator.push(
                    column,
                    index,
                    *offset,
                    self.schedule.time_us(*offset),
                    &mut scratch,
                );
            }
        }
        let arrays = self.columns.iter_mut().map(Column::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(offsets.len()));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options)
            .expect("columns are built by the schema's types")
    }
}

impl SourceReader for DatagenReader {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn take(&mut self, max_rows: usize) -> Option<SourceBatch> {
        let due = self.end().saturating_sub(self.next);
        if due <= 0 || self.is_paused {
            return None;
        }
        let count = due.min(max_rows.clamp(1, MAX_ROWS) as i64);
        let offsets: Vec<_> = (self.next..self.next + count).collect();
        let rows = self.rows(&offsets);
        self.next += count;
        let timestamps_ms = offsets
            .iter()
            .map(|o| self.schedule.time_us(*o) / 1000)
            .collect::<Vec<_>>();
        Some(SourceBatch {
            partition: PARTITION,
            next_offset: self.next,
            bytes: rows.get_array_memory_size() as u64,
            rows,
            offsets: Int64Array::from(offsets),
            timestamps_ms: Int64Array::from(timestamps_ms),
            column_errors: Vec::new(),
            malformed: Vec::new(),
        })
    }

    fn status(&self) -> ReaderStatus {
        let end_offset = self.end().max(self.next);
        let state = if self.is_finished() {
            ReaderState::Finished
        } else {
            ReaderState::Running
        };
        let partition = PartitionStatus {
            partition: PARTITION,
            taken: self.next,
            end_offset,
            is_at_end: end_offset == self.next,
        };
        ReaderStatus {
            state,
            last_error: None,
            partitions: vec![partition],
        }
    }

    fn set_paused(&mut self, partition: i32, is_paused: bool) {
        if partition == PARTITION {
            self.is_paused = is_paused;
        }
    }
}

impl Drop for DatagenReader {
    fn drop(&mut self) {
        *self.pacer.is_stopped.lock() = true;
        self.pacer.changed.notify_all();
    }
}

impl Pacer {
    fn run(&self, pace: Duration, wake: &(dyn Fn() + Send + Sync)) {
        wake();
        let mut is_stopped = self.is_stopped.lock();
        while !*is_stopped {
            if self.changed.wait_for(&mut is_stopped, pace).timed_out() {
                wake();
            }
        }
    }
}
