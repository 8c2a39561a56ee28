//! One source's shared reader: reads and decodes once for all views that are live on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{BooleanArray, RecordBatch};
use rivermark_planner::catalog::{ObjectId, Positions, QualifiedName, SourceDef};

use crate::api::SourceStatus;
use crate::clock::{PartitionTime, Silence};
use crate::dead_letters::DeadLetters;
use crate::delta::Delta;
use crate::error::Result;
use crate::late_rows::LateRows;
use crate::lateness::{EventTime, Floor};
use crate::prefetch::{PrefetchBudget, PrefetchLease};
use crate::progress::{Bounds, PartitionCounters, SourceProgress};
use crate::source::{
    PartitionStatus, ReadRequest, ReaderState, ReaderStatus, Source, SourceBatch, SourceError,
    SourceReader,
};
use crate::wall_clock::{instant, now_us};
use crate::watermark::Watermarks;

/// Decoded columns of one batch, with the rows that lack a column because its value could not be converted.
pub struct DecodedBatch {
    pub columns: Arc<Vec<usize>>,
    pub rows: RecordBatch,
    /// (row, physical column)
    pub errors: Vec<(usize, usize)>,
}

impl DecodedBatch {
    /// The rows for a plan that uses `wanted` physical columns (ascending): only theirs, without rows that have a
    /// conversion error in one of them.
    pub fn for_columns(&self, wanted: &[usize]) -> Result<Delta> {
        let indices: Vec<usize> = wanted
            .iter()
            .filter_map(|c| self.columns.iter().position(|have| have == c))
            .collect();
        let delta = Delta::insertions(self.rows.project(&indices)?);
        let failed: BTreeSet<usize> = self
            .errors
            .iter()
            .filter(|(_, c)| wanted.binary_search(c).is_ok())
            .map(|(row, _)| *row)
            .collect();
        if failed.is_empty() {
            return Ok(delta);
        }
        let keep: BooleanArray = (0..self.rows.num_rows())
            .map(|row| Some(!failed.contains(&row)))
            .collect();
        Ok(delta.filter(&keep)?)
    }
}

/// The writer's side of one source.
pub struct SourceInput {
    pub id: ObjectId,
    pub name: QualifiedName,
    pub def: SourceDef,
    pub source: Arc<dyn Source>,
    pub progress: SourceProgress,
    /// Views that get the shared reader's rows, with the physical columns each uses.
    live: BTreeMap<ObjectId, Vec<usize>>,
    /// Columns the running reader decodes.
    columns: Arc<Vec<usize>>,
    reader: Option<Box<dyn SourceReader>>,
    lease: Option<PrefetchLease>,
    /// Held at its position while a backfilling view reads the last stretch.
    pub is_held: bool,
    start_error: Option<String>,
    caught_up_at_us: Option<i64>,
    /// Of a source with a watermark.
    pub time: Option<EventTime>,
    pub silence: Silence,
    /// Changed since the last commit.
    pub is_dirty: bool,
}

/// How readers are made.
#[derive(Clone)]
pub struct ReaderContext {
    pub prefetch: PrefetchBudget,
    pub wake: Arc<dyn Fn() + Send + Sync>,
}

impl SourceInput {
    pub fn new(
        id: ObjectId,
        name: QualifiedName,
        def: SourceDef,
        source: Arc<dyn Source>,
        progress: SourceProgress,
    ) -> Result<Self> {
        let time = EventTime::of_source(&def)?;
        Ok(SourceInput {
            id,
            name,
            def,
            source,
            progress,
            live: BTreeMap::new(),
            columns: Arc::new(Vec::new()),
            reader: None,
            lease: None,
            is_held: false,
            start_error: None,
            caught_up_at_us: Some(now_us()),
            time,
            silence: Silence::new(),
            is_dirty: false,
        })
    }

    pub fn live_views(&self) -> &BTreeMap<ObjectId, Vec<usize>> {
        &self.live
    }

    /// Whether some view reads it.
    pub fn is_read(&self) -> bool {
        !self.live.is_empty()
    }

    /// From now on `view` gets the shared reader's rows. The first view makes the reader start at `positions`.
    pub fn attach(&mut self, view: ObjectId, columns: Vec<usize>, context: &ReaderContext) {
        self.live.insert(view, columns);
        self.restart_if_needed(context);
    }

    pub fn detach(&mut self, view: ObjectId, context: &ReaderContext) {
        self.live.remove(&view);
        if self.live.is_empty() {
            self.reader = None;
            self.lease = None;
        } else {
            self.restart_if_needed(context);
        }
    }

    /// Starts the reader, or starts it anew at the current position if the views use other columns now.
    fn restart_if_needed(&mut self, context: &ReaderContext) {
        let columns = self.with_time(self.live.values().flatten().copied().collect());
        if self.reader.is_some() && *self.columns == columns {
            return;
        }
        self.columns = Arc::new(columns);
        self.reader = None;
        self.lease = None;
        let lease = context.prefetch.lease();
        let request = ReadRequest {
            columns: self.columns.to_vec(),
            start: self.progress.positions.clone(),
            stop_at: None,
            prefetch_bytes: lease.bytes(),
            wake: context.wake.clone(),
        };
        match self.source.reader(request) {
            Ok(reader) => {
                self.reader = Some(reader);
                self.lease = Some(lease);
                self.start_error = None;
            }
            Err(error) => self.start_error = Some(error.to_string()),
        }
    }

    /// Columns to decode: those given, and that of the watermark.
    pub fn with_time(&self, mut columns: Vec<usize>) -> Vec<usize> {
        columns.extend(self.time.as_ref().map(|time| time.column));
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    /// Takes ready batches of at most about `max_rows` rows together, records their dead letters and moves the positions.
    /// Says also how many rows it went through, late ones included: as many as it was allowed, and more may be ready.
    pub fn take(
        &mut self,
        max_rows: usize,
        letters: &mut DeadLetters,
        late: &mut LateRows,
        now_us: i64,
    ) -> Result<(Vec<DecodedBatch>, usize)> {
        let mut taken = Vec::new();
        let mut rows = 0;
        if self.is_held {
            return Ok((taken, rows));
        }
        while rows < max_rows {
            let Some(batch) = self.reader.as_mut().and_then(|r| r.take(max_rows - rows)) else {
                break;
            };
            rows += batch.cost();
            self.is_dirty = true;
            let from = self
                .progress
                .positions
                .insert(batch.partition, batch.next_offset);
            let counters = self.progress.counters.entry(batch.partition).or_default();
            count(counters, &batch);
            let names = self
                .def
                .physical_columns()
                .map(|c| c.name.as_str())
                .collect::<Vec<_>>();
            counters.dead_letters +=
                record_letters(self.id, &self.columns, &names, &batch, letters, now_us)?;
            let batch = self.judge(batch, from.unwrap_or(0), letters, late, now_us)?;
            if batch.rows.num_rows() > 0 {
                taken.push(decoded(self.columns.clone(), batch));
            }
        }
        Ok((taken, rows))
    }

    /// Takes the late rows out of the shared reader's batch and keeps account of them. `from`: the position before it.
    fn judge(
        &mut self,
        batch: SourceBatch,
        from: i64,
        letters: &mut DeadLetters,
        late: &mut LateRows,
        now_us: i64,
    ) -> Result<SourceBatch> {
        let Some(time) = &self.time else {
            return Ok(batch);
        };
        let partition = batch.partition;
        self.silence.end(partition, instant());
        let mut bound = self.progress.bounds.get(&partition).copied();
        if bound < self.progress.watermark_us
            && let (Some(bound_us), Some(&offset)) =
                (self.progress.watermark_us, batch.offsets.values().first())
        {
            // Back from silence: what the watermark has left behind meanwhile is late.
            late.add_floor(self.id, partition, Floor { offset, bound_us });
        }
        let floors = late.floors(self.id, partition, (from, batch.next_offset))?;
        let judged = time.judge(batch, &self.columns, &mut bound, &floors)?;
        if let Some(bound) = bound {
            self.progress.bounds.insert(partition, bound);
        }
        let counters = self.progress.counters.entry(partition).or_default();
        for message in judged.future {
            let is_new = letters.malformed(self.id, partition, message, now_us)?;
            counters.dead_letters += u64::from(is_new);
        }
        counters.late_rows += judged.late.len() as u64;
        if !judged.late.is_empty() {
            let counted: u64 = self.progress.counters.values().map(|c| c.late_rows).sum();
            let before = counted - judged.late.len() as u64;
            let rows: Vec<_> = judged.late.iter().map(|(o, l)| (Some(*o), *l)).collect();
            late.add(self.id, Some(partition), before, &rows, now_us)?;
        }
        Ok(judged.batch)
    }

    /// Moves the watermark as far as the partitions let it; whether it has moved.
    pub fn advance_watermark(&mut self, now: Instant, now_us: i64) -> bool {
        let Some(time) = &self.time else {
            return false;
        };
        // Only then is it needed where partitions end, and asking costs.
        let status = match time.options.idle_timeout_us {
            Some(_) => self.reader_status(),
            None => None,
        };
        let progress = &mut self.progress;
        let mut known: BTreeSet<i32> = progress.positions.keys().copied().collect();
        let running = status.filter(|s| s.state == ReaderState::Running);
        let ends: BTreeMap<i32, i64> = running
            .iter()
            .flat_map(|s| s.partitions.iter().map(|p| (p.partition, p.end_offset)))
            .collect();
        known.extend(ends.keys());
        let at = |partition| progress.positions.get(partition).copied().unwrap_or(0);
        let is_at_end = |end: &i64, partition| *end >= 0 && at(partition) >= *end;
        let partitions: Vec<PartitionTime> = known
            .iter()
            .map(|partition| PartitionTime {
                partition: *partition,
                bound: progress.bounds.get(partition).copied(),
                is_at_end: ends
                    .get(partition)
                    .is_some_and(|end| is_at_end(end, partition)),
            })
            .collect();
        let found = self.silence.watermark(time, &partitions, now, now_us);
        let is_new = found > progress.watermark_us;
        if is_new {
            progress.watermark_us = found;
            self.is_dirty = true;
        }
        is_new
    }

    /// The bounds of the physical columns.
    pub fn watermarks(&self) -> Watermarks {
        let column = self.time.as_ref().map(|time| time.column);
        column.map_or_else(Watermarks::default, |column| {
            Watermarks::of_column(column, self.progress.watermark_us)
        })
    }

    /// Goes on from where a view is, since no other reads the source. What was known of the time was of another
    /// position.
    pub fn move_to(&mut self, positions: Positions, bounds: Bounds) {
        self.progress.positions = positions;
        self.progress.bounds = bounds;
        self.progress.watermark_us = None;
        self.is_dirty = true;
    }

    /// Tells the reader which positions are durable.
    pub fn tell_durable_positions(&mut self, positions: &Positions) {
        if let Some(reader) = &mut self.reader {
            reader.durable(positions);
        }
    }

    pub fn reader_status(&self) -> Option<ReaderStatus> {
        self.reader.as_ref().map(|r| r.status())
    }

    /// The error that stopped reading for good, if one did.
    pub fn failure(&self) -> Option<SourceError> {
        if let Some(error) = &self.start_error {
            return Some(SourceError::Internal(error.clone()));
        }
        let status = self.reader_status()?;
        (status.state == ReaderState::Failed).then(|| {
            SourceError::DataLoss(
                status
                    .last_error
                    .unwrap_or_else(|| "the source has failed".into()),
            )
        })
    }

    /// Notes the time if everything the broker is known to have has been read.
    pub fn note_progress(&mut self, now_us: i64) {
        let Some(status) = self.reader_status() else {
            return;
        };
        let at = |partition| {
            self.progress
                .positions
                .get(&partition)
                .copied()
                .unwrap_or(0)
        };
        let is_read = |p: &PartitionStatus| p.end_offset >= 0 && at(p.partition) >= p.end_offset;
        if !status.partitions.is_empty() && status.partitions.iter().all(is_read) {
            self.caught_up_at_us = Some(now_us);
        }
    }

    /// Rows for `rivermark.sources`.
    pub fn status(&self) -> Vec<SourceStatus> {
        let reader = self.reader_status();
        let state = match (&self.start_error, &reader) {
            (Some(_), _) => "FAILED",
            (None, None) => "IDLE",
            (None, Some(status)) => match status.state {
                ReaderState::Starting => "STARTING",
                ReaderState::Running | ReaderState::Finished => "RUNNING",
                ReaderState::Retrying => "RETRYING",
                ReaderState::Failed => "FAILED",
            },
        };
        let last_error = self
            .start_error
            .clone()
            .or_else(|| reader.as_ref().and_then(|s| s.last_error.clone()));
        let ends: BTreeMap<i32, i64> = reader
            .iter()
            .flat_map(|s| s.partitions.iter().map(|p| (p.partition, p.end_offset)))
            .collect();
        let mut partitions: BTreeSet<i32> = self.progress.positions.keys().copied().collect();
        partitions.extend(ends.keys());
        let row = |partition: Option<i32>| {
            let counters = partition
                .and_then(|p| self.progress.counters.get(&p))
                .copied()
                .unwrap_or_default();
            SourceStatus {
                source: self.id,
                name: self.name.clone(),
                partition,
                offset: partition
                    .and_then(|p| self.progress.positions.get(&p))
                    .copied(),
                end_offset: partition
                    .and_then(|p| ends.get(&p))
                    .copied()
                    .filter(|end| *end >= 0),
                watermark_us: self.shown_watermark(partition),
                rows: counters.rows,
                bytes: counters.bytes,
                late_rows: counters.late_rows,
                dead_letters: counters.dead_letters,
                status: state,
                last_error: last_error.clone(),
                caught_up_at_us: self.caught_up_at_us,
            }
        };
        if partitions.is_empty() {
            return vec![row(None)];
        }
        partitions.into_iter().map(|p| row(Some(p))).collect()
    }
}

impl SourceInput {
    /// That of the source; while it has none, a partition's own bound says which one it waits for.
    fn shown_watermark(&self, partition: Option<i32>) -> Option<i64> {
        let own = || self.progress.bounds.get(&partition?).copied();
        self.progress.watermark_us.or_else(own)
    }
}

fn count(counters: &mut PartitionCounters, batch: &SourceBatch) {
    counters.rows += batch.rows.num_rows() as u64;
    counters.bytes += batch.bytes;
}

/// Turns a batch's malformed messages and conversion errors into dead letters; how many were new messages.
pub fn record_letters(
    source: ObjectId,
    columns: &[usize],
    names: &[&str],
    batch: &SourceBatch,
    letters: &mut DeadLetters,
    now_us: i64,
) -> Result<u64> {
    let mut new = 0;
    for message in &batch.malformed {
        new += u64::from(letters.malformed(source, batch.partition, message.clone(), now_us)?);
    }
    let mut last_row = None;
    for error in &batch.column_errors {
        let name = columns
            .get(error.column)
            .and_then(|&c| names.get(c))
            .copied()
            .unwrap_or("");
        let offset = batch.offsets.value(error.row);
        let is_new =
            letters.column_error(source, batch.partition, offset, name, error.clone(), now_us)?;
        // A message with several bad values counts once.
        if is_new && last_row != Some(error.row) {
            new += 1;
        }
        last_row = Some(error.row);
    }
    Ok(new)
}

/// A reader's batch for the dataflow.
pub fn decoded(columns: Arc<Vec<usize>>, batch: SourceBatch) -> DecodedBatch {
    let errors = batch
        .column_errors
        .iter()
        .map(|e| (e.row, columns[e.column]))
        .collect();
    DecodedBatch {
        columns,
        rows: batch.rows,
        errors,
    }
}
