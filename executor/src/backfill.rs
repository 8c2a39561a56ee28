//! How a new view reads what its inputs held before it was created, while writes go on.
//!
//! Stored relations: each epoch reads the next chunk of rows *through this epoch's overlay* (after the relation has
//! applied its own delta), moves the cursor past it, and forwards of the relation's delta only what lies at or
//! before the OLD cursor. Whatever lies behind it is or will be in a chunk.
//!
//! Sources: the view reads with offsets of its own up to where the shared reader is; when the rest is short, the
//! shared reader is held at its position until the view has met it, and from then on feeds both.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use rivermark_planner::catalog::{ObjectId, Positions};

use crate::dataflow::InputPart;
use crate::epoch::{EpochWork, project};
use crate::error::{ExecutorError, Result};
use crate::pieces::most_rows;
use crate::progress::{Bounds, ScanProgress, distance, has_reached, is_ahead};
use crate::row_store::RowStore;
use crate::rows::RowLayout;
use crate::source::{ReadRequest, ReaderState};
use crate::source_input::{decoded, record_letters};
use crate::spool::RelationChange;
use crate::view::{PrivateReader, View};
use crate::wall_clock::now_us;
use crate::writer::Writer;

/// Rows of stored relations read for all backfilling views in one epoch.
const CHUNK_ROWS: usize = 65_536;
/// However many views backfill, each reads this much.
const LEAST_CHUNK_ROWS: usize = 1024;
/// With fewer messages to go, the shared reader waits for the view.
const HANDOVER_MESSAGES: u64 = 20_000;

impl Writer {
    /// The next chunk of a stored relation for a view that is still reading it.
    pub fn backfill_rows(
        &self,
        view: &mut View,
        object: ObjectId,
        cursor: Option<Vec<u8>>,
        columns: &[usize],
        work: &mut EpochWork,
    ) -> Result<Vec<InputPart>> {
        let rows = self.stored_rows(object)?;
        let mut inputs = Vec::new();
        for change in work.changes.get(&object).into_iter().flatten() {
            match change {
                RelationChange::Delta(delta) => inputs.push(InputPart::Delta(project(
                    &rows.before_cursor(delta, cursor.as_deref())?,
                    columns,
                )?)),
                // Nothing was read so far, or rows are only ever appended behind the cursor.
                RelationChange::Spooled(_)
                    if cursor.is_none() || rows.format.layout == RowLayout::Log => {}
                RelationChange::Spooled(change) => inputs.push(InputPart::Spooled {
                    change: change.clone(),
                    columns: columns.to_vec(),
                    up_to: cursor.clone(),
                }),
            }
        }
        let (chunk, next) = rows.chunk(cursor.as_deref(), self.chunk_rows())?;
        work.rows_in += chunk.num_rows() as u64;
        inputs.push(InputPart::Delta(project(&chunk, columns)?));
        let progress = match next {
            Some(cursor) => ScanProgress::Rows {
                cursor: Some(cursor),
            },
            None => ScanProgress::Live,
        };
        view.progress.scans.insert(object, progress);
        view.is_dirty = true;
        Ok(inputs)
    }

    fn stored_rows(&self, object: ObjectId) -> Result<&RowStore> {
        self.tables
            .get(&object)
            .map(|t| &t.rows)
            .or_else(|| self.views.get(&object).map(|v| &v.rows))
            .ok_or_else(|| ExecutorError::Internal(format!("object {object} has no stored rows")))
    }

    /// What the view's own reader of a source has ready.
    pub fn backfill_source(
        &mut self,
        view: &mut View,
        object: ObjectId,
        (mut positions, mut bounds): (Positions, Bounds),
        columns: &[usize],
        work: &mut EpochWork,
    ) -> Result<Vec<InputPart>> {
        let context = self.readers.clone();
        let mut budget = self.backfill_share(self.config.max_epoch_rows);
        let Some(source) = self.sources.get_mut(&object) else {
            return Err(ExecutorError::Internal(format!(
                "source {object} is not running"
            )));
        };
        // A view that was paused can be beyond a shared reader that started again for another one: it waits until that
        // one has passed, for what it was given a second time would count twice.
        let is_ahead = source.is_read() && is_ahead(&positions, &source.progress.positions);
        let is_behind = !has_reached(&positions, &source.progress.positions);
        if is_ahead && !is_behind {
            view.readers.remove(&object);
            return Ok(Vec::new());
        }
        if !source.is_read() || !is_behind {
            // Nobody else reads it, or the view has met the shared reader: go on together.
            if !source.is_read() {
                source.move_to(positions, bounds);
            }
            source.is_held = false;
            source.attach(view.id, columns.to_vec(), &context);
            view.readers.remove(&object);
            view.progress.scans.insert(object, ScanProgress::Live);
            view.is_dirty = true;
            return Ok(Vec::new());
        }
        if let Entry::Vacant(slot) = view.readers.entry(object) {
            source.is_held =
                !is_ahead && distance(&positions, &source.progress.positions) <= HANDOVER_MESSAGES;
            let stop_at = source.progress.positions.clone();
            let lease = context.prefetch.lease();
            let columns = source.with_time(columns.to_vec());
            let request = ReadRequest {
                columns: columns.clone(),
                start: positions.clone(),
                stop_at: Some(stop_at.clone()),
                prefetch_bytes: lease.bytes(),
                wake: context.wake.clone(),
            };
            let reader = source.source.reader(request)?;
            slot.insert(PrivateReader {
                reader,
                columns: Arc::new(columns),
                stop_at,
                _lease: lease,
            });
        }
        let names: Vec<&str> = source
            .def
            .physical_columns()
            .map(|c| c.name.as_str())
            .collect();
        let Some(own) = view.readers.get_mut(&object) else {
            return Ok(Vec::new());
        };
        let mut deltas = Vec::new();
        while let Some(batch) = (budget > 0).then(|| own.reader.take(budget)).flatten() {
            budget = budget.saturating_sub(batch.cost());
            work.rows_in += batch.rows.num_rows() as u64;
            let from = positions.insert(batch.partition, batch.next_offset);
            // Malformed messages are known already from the shared reader; a column it does not decode is not.
            record_letters(
                object,
                &own.columns,
                &names,
                &batch,
                &mut self.letters,
                now_us(),
            )?;
            let batch = match &source.time {
                None => batch,
                // The shared reader was here and has counted them.
                Some(time) => {
                    let (partition, until) = (batch.partition, batch.next_offset);
                    let range = (from.unwrap_or(0), until);
                    let floors = self.late.floors(object, partition, range)?;
                    let mut bound = bounds.get(&partition).copied();
                    let judged = time.judge(batch, &own.columns, &mut bound, &floors)?;
                    bounds.extend(bound.map(|bound| (partition, bound)));
                    judged.batch
                }
            };
            let delta = decoded(own.columns.clone(), batch).for_columns(columns)?;
            deltas.push(InputPart::Delta(delta));
            view.is_dirty = true;
        }
        let status = own.reader.status();
        if status.state == ReaderState::Failed {
            let why = status
                .last_error
                .unwrap_or_else(|| "the reader has failed".into());
            return Err(ExecutorError::NotReadable { message: why });
        }
        if has_reached(&positions, &own.stop_at) {
            // Next epoch: met, or another, shorter stretch.
            view.readers.remove(&object);
        }
        view.progress
            .scans
            .insert(object, ScanProgress::Source { positions, bounds });
        Ok(deltas)
    }

    /// One backfilling view's part of a number of rows that all of them may read in an epoch.
    fn backfill_share(&self, rows: usize) -> usize {
        let readers = self.backfilling.len() + self.reshapes.len();
        most_rows((rows / readers.max(1)).max(LEAST_CHUNK_ROWS))
    }

    /// Stored rows that one backfill may read in an epoch.
    pub fn chunk_rows(&self) -> usize {
        self.backfill_share(CHUNK_ROWS)
    }

    /// Views that have become readable with the epoch just committed.
    pub fn newly_ready(&mut self) -> Vec<ObjectId> {
        let mut ready = Vec::new();
        let is_building = |view: &View| view.is_maintained() && !view.progress.is_ready;
        let building = self.views.values().filter(|view| is_building(view));
        let mut building: BTreeSet<ObjectId> = building.map(|view| view.id).collect();
        // Those that a view reads come before it.
        for view in self.views.values_mut().filter(|view| is_building(view)) {
            let is_caught_up = view.progress.is_initialized
                && view.progress.scans.iter().all(|(object, scan)| match scan {
                    ScanProgress::Rows { .. } => false,
                    // Built along with this one, it does not have all of its rows yet.
                    ScanProgress::Live if building.contains(object) => false,
                    ScanProgress::Live => {
                        match (self.sources.get(object), view.progress.targets.get(object)) {
                            (Some(source), Some(target)) => {
                                has_reached(&source.progress.positions, target)
                            }
                            _ => true,
                        }
                    }
                    ScanProgress::Source { .. } if view.emits_on_window_close => false,
                    ScanProgress::Source { positions, .. } => view
                        .progress
                        .targets
                        .get(object)
                        .is_some_and(|target| has_reached(positions, target)),
                });
            if is_caught_up {
                view.progress.is_ready = true;
                view.is_dirty = true;
                building.remove(&view.id);
                ready.push(view.id);
            }
        }
        ready
    }
}
