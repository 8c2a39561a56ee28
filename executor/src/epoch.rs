//! One epoch: take input, push deltas through the views in dependency order, commit, publish, answer.

mod inputs;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rivermark_planner::catalog::ObjectId;
use tokio::sync::oneshot;
use tracing::error;

use crate::api::{CatalogChange, EpochStatus, TableWrite};
use crate::command::Command;
use crate::dataflow::{InputPart, Sharing};
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::memory::EpochMemory;
use crate::reshape;
use crate::rows::RowLayout;
use crate::shared_prefix::EpochShares;
use crate::source_input::DecodedBatch;
use crate::spool::RelationChange;
use crate::storage_retry;
use crate::view::{EpochLimits, View};
use crate::wall_clock::now_us;
use crate::writer::{PositionWaiter, Writer};

pub use self::inputs::project;

/// What an epoch has computed so far.
#[derive(Default)]
pub struct EpochWork {
    /// Changes of tables and views.
    pub changes: BTreeMap<ObjectId, Vec<RelationChange>>,
    /// Bytes of them in memory, about.
    pub changes_bytes: usize,
    /// What shared readers delivered.
    pub decoded: BTreeMap<ObjectId, Vec<DecodedBatch>>,
    /// What live views read of an object, by the columns that they use.
    pruned: BTreeMap<(ObjectId, Vec<usize>), Vec<InputPart>>,
    /// What views have computed for others, too.
    shares: EpochShares,
    /// Views that have to run.
    pub dirty: BTreeSet<ObjectId>,
    pub rows_in: u64,
    /// fsync before answering.
    pub needs_sync: bool,
    /// Answers that are due once the epoch is published.
    pub answers: Vec<Answer>,
}

/// An answer held back until the epoch is published.
pub enum Answer {
    Written(oneshot::Sender<Result<u64>>),
    /// A refused statement may have met a change of this very epoch: once that is published, running it again or
    /// looking for the reason makes sense.
    Refused(oneshot::Sender<Result<u64>>, ExecutorError),
    Changed(oneshot::Sender<Result<Option<ObjectId>>>, Option<ObjectId>),
}

impl Writer {
    /// Computes, commits and publishes one epoch, if there is anything to do.
    pub fn run_epoch(&mut self) -> Result<()> {
        let started = Instant::now();
        self.last_epoch_at = started;
        let mut work = EpochWork::default();
        let epoch = self.epoch + 1;
        self.now_us = self.now_us.max(now_us());
        let now = self.now_us;
        let is_due = |view: &&View| view.due_us.is_some_and(|due| due <= now);
        work.dirty
            .extend(self.views.values().filter(is_due).map(|view| view.id));
        self.take_commands(&mut work);
        self.take_sources(&mut work)?;
        self.advance_watermarks(&mut work);
        work.dirty.extend(self.backfilling.iter().copied());
        while let Some(view) = work.dirty.pop_first() {
            self.run_view(view, epoch, &mut work);
        }
        self.run_reshapes(&mut work);
        let mut ready = self.newly_ready();
        self.run_replacements(&mut ready, &mut work)?;
        let built = self.build_indexes(&mut work);
        let compute_us = started.elapsed().as_micros() as u64;
        if !self.has_changes() {
            for answer in work.answers {
                answer.send(self.epoch);
            }
            self.store.release_spill();
            self.pause_idle_backfill(work.rows_in);
            return Ok(());
        }
        let committed = Instant::now();
        let changed: Vec<ObjectId> = self
            .views
            .values()
            .filter(|v| v.is_dirty)
            .map(|v| self.shown_view(v.id))
            .collect();
        self.are_relations_dirty |= !ready.is_empty();
        let changed_relations = self.changed_relations(epoch);
        let bytes_written = self.commit(epoch, work.needs_sync);
        self.published.update_views(
            changed
                .iter()
                .filter_map(|id| Some(self.view_status(self.views.get(id)?))),
        );
        let views = &mut self.views;
        let reports = changed
            .iter()
            .filter_map(|id| Some((*id, views.get_mut(id)?.report())));
        self.published.update_operators(reports);
        self.publish(EpochStatus {
            epoch,
            published_at_us: now_us(),
            rows_in: work.rows_in,
            bytes_written,
            compute_us,
            commit_us: committed.elapsed().as_micros() as u64,
            is_durable: self.durable_epoch == epoch,
        });
        self.tell_followers(changed_relations, &mut work.changes);
        for answer in work.answers {
            answer.send(epoch);
        }
        for view in ready {
            if let Some(view) = self.views.get_mut(&view) {
                view.answer_waiters(Ok(()));
            }
        }
        for index in built {
            self.answer_index_waiters(index, Ok(()));
        }
        Ok(())
    }

    /// Serves queued commands. A catalog change ends the batch, so that later writes see it published first.
    fn take_commands(&mut self, work: &mut EpochWork) {
        while let Some(command) = self.pending.pop_front() {
            match command {
                Command::Write { writes, reply } => match self.apply_writes(&writes, work) {
                    Ok(()) => work.answers.push(Answer::Written(reply)),
                    Err(error) => work.answers.push(Answer::Refused(reply, error)),
                },
                Command::ChangeCatalog {
                    catalog_version,
                    change,
                    reply,
                } => {
                    if catalog_version != self.catalog.version {
                        let _ = reply.send(Err(ExecutorError::CatalogChanged));
                        continue;
                    }
                    if let CatalogChange::ChangeTable { table, change } = change.change {
                        self.start_reshape(table, change, reply);
                        return;
                    }
                    match self.change_catalog(*change) {
                        Ok(id) => {
                            work.needs_sync = true;
                            work.answers.push(Answer::Changed(reply, id));
                            return;
                        }
                        Err(error) => drop(reply.send(Err(error))),
                    }
                }
                Command::WaitUntilReady { view, reply } => self.wait_until_ready(view, reply),
                Command::WaitForPositions { targets, reply } => {
                    self.position_waiters
                        .push(PositionWaiter { targets, reply });
                }
                // Behind what has been published: earlier writes of this epoch would be lost to it.
                subscribe @ Command::Subscribe { .. } if !work.answers.is_empty() => {
                    self.pending.push_front(subscribe);
                    return;
                }
                Command::Subscribe {
                    relation,
                    as_of,
                    reply,
                } => {
                    let _ = reply.send(self.subscribe(relation, as_of));
                }
                // Taken out of the queue by the loop before an epoch starts.
                Command::Shutdown { reply } => drop(reply.send(())),
            }
        }
    }

    fn wait_until_ready(&mut self, view: ObjectId, reply: oneshot::Sender<Result<()>>) {
        if self
            .catalog
            .get(view)
            .is_some_and(|o| o.as_index().is_some())
        {
            return self.wait_for_index(view, reply);
        }
        let is_successor = self.catalog.is_successor(view);
        let Some(view) = self.views.get_mut(&view) else {
            let _ = reply.send(Err(ExecutorError::NotReadable {
                message: "the view was dropped".into(),
            }));
            return;
        };
        view.waiters.push(reply);
        if let Some(error) = view.progress.failed.clone() {
            view.answer_waiters(Err(ExecutorError::NotReadable {
                message: format!("view \"{}\" failed: {error}", view.name),
            }));
        } else if !is_successor && (view.progress.is_ready || view.dataflow.is_none()) {
            view.answer_waiters(Ok(()));
        }
    }

    /// One statement's writes: all of them or none.
    fn apply_writes(&mut self, writes: &[TableWrite], work: &mut EpochWork) -> Result<()> {
        let mut deltas = Vec::with_capacity(writes.len());
        // Appends last: once the checked tables are written nothing can fail, and appends are never taken back.
        let is_append = |w: &&TableWrite| {
            self.tables
                .get(&w.table)
                .is_some_and(|t| t.rows.format.layout == RowLayout::Log)
        };
        let (appends, checked): (Vec<_>, Vec<_>) = writes.iter().partition(is_append);
        let marks: Vec<_> = writes
            .iter()
            .filter_map(|w| {
                Some((
                    w.table,
                    self.tables.get(&w.table)?.time.as_ref()?.mark.clone(),
                ))
            })
            .collect();
        for write in checked.into_iter().chain(appends) {
            match self.apply_write(write) {
                Ok(delta) => deltas.push((write.table, delta)),
                Err(error) => {
                    self.take_back(deltas);
                    for (table, mark) in marks {
                        let time = self.tables.get_mut(&table).and_then(|t| t.time.as_mut());
                        time.into_iter().for_each(|time| time.mark = mark.clone());
                    }
                    return Err(error);
                }
            }
        }
        for (table, delta) in deltas {
            work.rows_in += delta.num_rows() as u64;
            self.forward(table, RelationChange::Delta(delta), work);
        }
        work.needs_sync = true;
        Ok(())
    }

    fn apply_write(&mut self, write: &TableWrite) -> Result<Delta> {
        // Dropped since the statement was planned.
        let table = self
            .tables
            .get_mut(&write.table)
            .ok_or(ExecutorError::CatalogChanged)?;
        let is_current = reshape::fits(&table.rows, write.delete.as_ref())
            && reshape::fits(&table.rows, write.insert.as_ref());
        if !is_current {
            return Err(ExecutorError::CatalogChanged);
        }
        let (Some(time), Some(rows)) = (&mut table.time, &write.insert) else {
            let delta =
                table
                    .rows
                    .write(write.delete.as_ref(), write.insert.as_ref(), &table.name)?;
            table.is_dirty |= !delta.is_empty();
            return Ok(delta);
        };
        let counted = time.mark.late_rows;
        let (rows, late) = time.judge(rows)?;
        let delta = table
            .rows
            .write(write.delete.as_ref(), Some(&rows), &table.name)?;
        let late: Vec<_> = late.into_iter().map(|row| (None, row)).collect();
        self.late.add(write.table, None, counted, &late, now_us())?;
        table.is_dirty = true;
        Ok(delta)
    }

    /// Undoes the writes of a transaction whose later write failed, newest first.
    fn take_back(&mut self, deltas: Vec<(ObjectId, Delta)>) {
        for (id, delta) in deltas.into_iter().rev() {
            let Some(table) = self.tables.get_mut(&id) else {
                continue;
            };
            if let Err(error) = table.rows.take_back(&delta) {
                error!(%error, table = %table.name, "a failed transaction could not be taken back");
            }
        }
    }

    /// Hands a change of a stored relation to the views that scan it.
    fn forward(&mut self, object: ObjectId, change: RelationChange, work: &mut EpochWork) {
        if change.is_empty() {
            return;
        }
        let views = self.scanned_by.get(&object);
        let is_wanted =
            views.is_some() || self.reshapes.contains_key(&object) || self.followers.follow(object);
        if !is_wanted {
            return;
        }
        work.dirty.extend(views.into_iter().flatten().copied());
        work.changes_bytes += change.memory();
        work.changes.entry(object).or_default().push(change);
    }

    fn take_sources(&mut self, work: &mut EpochWork) -> Result<()> {
        let mut budget = self.config.max_epoch_rows;
        let now = now_us();
        for source in self.sources.values_mut().filter(|s| s.is_read()) {
            let allowed = budget.max(1);
            let (batches, taken) = source.take(allowed, &mut self.letters, &mut self.late, now)?;
            // Rows that are late count, though no view sees them: else nobody would come back for what is left.
            budget = budget.saturating_sub(taken);
            if batches.is_empty() {
                continue;
            }
            let rows: usize = batches.iter().map(|b| b.rows.num_rows()).sum();
            work.rows_in += rows as u64;
            work.dirty.extend(source.live_views().keys().copied());
            work.decoded.insert(source.id, batches);
        }
        if budget == 0 {
            // More may be ready than this epoch took.
            (self.readers.wake)();
        }
        Ok(())
    }

    /// Runs one view; a failure is the view's alone, and that of the views that read it.
    fn run_view(&mut self, id: ObjectId, epoch: u64, work: &mut EpochWork) {
        let Some(mut view) = self.views.remove(&id) else {
            return;
        };
        if !view.is_maintained() {
            self.views.insert(id, view);
            return;
        }
        let outcome = self
            .retry_storage(|writer| writer.view_inputs(&mut view, work))
            .and_then(|inputs| {
                let shares = EpochMemory::of(self.config.memory_limit);
                let store = self.store.clone();
                let limits = EpochLimits {
                    epoch,
                    shards: self.config.shards,
                    held_bytes: shares.held,
                    output_bytes: shares.output_left(work.changes_bytes),
                    store: &store,
                };
                let prefixes = self.prefixes.clone();
                let mut sharing = Sharing {
                    prefixes: &prefixes,
                    shares: &mut work.shares,
                    max_bytes: shares.shared,
                };
                self.retry_storage(|writer| {
                    let letters = &mut writer.letters;
                    view.run(&inputs, &mut sharing, limits, letters, writer.now_us)
                })
            });
        match outcome {
            Ok(change) => {
                let is_later = std::mem::take(&mut view.has_later_watermarks);
                self.views.insert(id, view);
                self.forward(id, change, work);
                if is_later {
                    work.dirty
                        .extend(self.scanned_by.get(&id).into_iter().flatten().copied());
                }
            }
            Err(error) => {
                error!(%error, view = %view.name, "the view has failed");
                view.fail(&error.to_string());
                self.are_relations_dirty = true;
                let name = view.name.to_string();
                self.views.insert(id, view);
                self.detach(id);
                self.fail_dependents(id, &name);
            }
        }
    }

    /// Repeats `action` while it fails for the environment's fault (disk I/O), visibly and without end: giving up
    /// would turn a full disk into a failed view.
    pub fn retry_storage<T>(&mut self, action: impl FnMut(&mut Writer) -> Result<T>) -> Result<T> {
        storage_retry::retry(self, action, |writer, error| {
            let error = Some(error.to_string());
            writer.published.set_storage_error(error);
        })
    }

    fn fail_dependents(&mut self, failed: ObjectId, name: &str) {
        for dependent in self.scanned_by.get(&failed).cloned().unwrap_or_default() {
            let Some(view) = self.views.get_mut(&dependent).filter(|v| v.is_maintained()) else {
                continue;
            };
            view.fail(&format!("it reads \"{name}\", which has failed"));
            let name = view.name.to_string();
            self.detach(dependent);
            self.fail_dependents(dependent, &name);
        }
    }

    /// Stops delivering anything to a view.
    pub fn detach(&mut self, view: ObjectId) {
        let context = self.readers.clone();
        for source in self
            .sources
            .values_mut()
            .filter(|s| s.live_views().contains_key(&view))
        {
            source.detach(view, &context);
        }
        // Whatever it was waiting for, the shared readers go on; another view's handover only takes one more round.
        self.sources.values_mut().for_each(|s| s.is_held = false);
        self.backfilling.remove(&view);
    }

    fn has_changes(&self) -> bool {
        self.is_catalog_dirty
            || self.letters.is_dirty()
            || self.late.is_dirty()
            || self.reshapes.values().any(|r| r.is_dirty())
            || self.tables.values().any(|t| t.is_dirty)
            || self.sources.values().any(|s| s.is_dirty)
            || self.views.values().any(|v| v.is_dirty)
    }

    /// A backfill that waits for its reader must not spin.
    fn pause_idle_backfill(&mut self, rows_in: u64) {
        let is_waiting = !self.backfilling.is_empty() && rows_in == 0 && self.pending.is_empty();
        if is_waiting && let Ok(command) = self.commands.recv_timeout(Duration::from_millis(2)) {
            self.pending.push_back(command);
        }
    }
}

impl Answer {
    fn send(self, epoch: u64) {
        // A session that has gone away needs no answer.
        match self {
            Answer::Written(reply) => drop(reply.send(Ok(epoch))),
            Answer::Refused(reply, error) => drop(reply.send(Err(error))),
            Answer::Changed(reply, id) => drop(reply.send(Ok(id))),
        }
    }
}
