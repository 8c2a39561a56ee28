//! Changes of a table that concern every stored row, such as a new column: the rows are copied, chunk by chunk, into
//! a second store while statements go on writing the first, and the new definition replaces the old one at the end.
//!
//! It is a backfill of the table by itself: each epoch reads the next chunk through the epoch's overlay, and forwards
//! of the epoch's changes what lies at or before the old cursor. Whoever waits for the statement gives it up by going
//! away. After a crash the table is as it was; what was copied is deleted at the next start.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use rivermark_planner::Catalog;
use rivermark_planner::catalog::{ColumnDef, ObjectId, ObjectKind, TableDef, TableId};
use rivermark_planner::{PlanError, alter};
use tokio::sync::oneshot;
use tracing::warn;

use crate::catalog_change::{Dropped, table_format};
use crate::delta::Delta;
use crate::epoch::{Answer, EpochWork};
use crate::error::{ExecutorError, Result};
use crate::meta;
use crate::progress::ScanProgress;
use crate::row_store::RowStore;
use crate::spool::RelationChange;
use crate::state::{Store, WriteSet};
use crate::writer::Writer;

/// What happens to the rows and the definition.
#[derive(Debug, Clone)]
pub enum TableChange {
    /// `fill`: the value for the rows that exist, one row long.
    AddColumn { column: ColumnDef, fill: ArrayRef },
    /// Fails if a row has a NULL there.
    SetNotNull { column: String },
}

/// A table that is being copied.
pub struct Reshape {
    change: TableChange,
    rows: RowStore,
    copied: Copied,
    reply: oneshot::Sender<Result<Option<ObjectId>>>,
    is_dirty: bool,
}

/// How far the copy is.
enum Copied {
    /// Up to this storage key.
    To(Option<Vec<u8>>),
    All,
}

impl TableChange {
    fn apply(&self, catalog: &mut Catalog, table: ObjectId) -> Result<(), PlanError> {
        match self {
            TableChange::AddColumn { column, .. } => {
                alter::add_column(catalog, table, column.clone())
            }
            TableChange::SetNotNull { column } => alter::set_not_null(catalog, table, column, true),
        }
    }

    /// Rows of the old form in the new one.
    fn converted(&self, delta: &Delta, schema: &SchemaRef, table: &str) -> Result<Delta> {
        let mut columns = delta.columns().to_vec();
        if let TableChange::AddColumn { fill, .. } = self {
            let zeros = UInt32Array::from(vec![0; delta.num_rows()]);
            columns.push(take(fill, &zeros, None)?);
        }
        for (column, field) in columns.iter().zip(schema.fields()) {
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(ExecutorError::NotNullViolation {
                    message: format!(
                        "column \"{}\" of relation \"{table}\" contains null values",
                        field.name()
                    ),
                });
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(delta.num_rows()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options)?;
        Ok(delta.with_batch(batch))
    }
}

impl Reshape {
    pub fn collect(&mut self, writes: &mut WriteSet) -> Result<()> {
        self.rows.drain_into(writes)
    }

    pub fn committed(&mut self) {
        self.rows.committed();
        self.is_dirty = false;
    }

    pub fn is_dirty(&self) -> bool {
        self.is_dirty
    }
}

/// Deletes what interrupted copies left behind.
pub fn delete_leftovers(store: &Store) -> Result<()> {
    let left: Vec<TableId> = meta::get(store, meta::COPIES)?.unwrap_or_default();
    if left.is_empty() {
        return Ok(());
    }
    let mut writes = WriteSet::default();
    for table in left {
        Dropped::rows_of(table).collect(&mut writes);
    }
    writes.delete_meta(meta::COPIES);
    store.commit(&writes, true)?;
    Ok(())
}

impl Writer {
    /// Begins to copy a table; the answer comes when the new definition is published.
    pub fn start_reshape(
        &mut self,
        id: ObjectId,
        change: TableChange,
        reply: oneshot::Sender<Result<Option<ObjectId>>>,
    ) {
        match self.new_reshape(id, change) {
            Ok((change, rows)) => {
                let reshape = Reshape {
                    change,
                    rows,
                    copied: Copied::To(None),
                    reply,
                    is_dirty: true,
                };
                self.reshapes.insert(id, reshape);
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn new_reshape(
        &mut self,
        id: ObjectId,
        change: TableChange,
    ) -> Result<(TableChange, RowStore)> {
        if self.reshapes.contains_key(&id) {
            return Err(ExecutorError::NotReadable {
                message: "another ALTER TABLE of this table is running; wait for it or cancel it"
                    .into(),
            });
        }
        let mut after = self.catalog.clone();
        change.apply(&mut after, id).map_err(planning)?;
        let mut def = table_def(&after, id)?;
        def.rows = self.catalog.allocate_tables(1);
        let rows = self.table_rows(table_format(&def)?, 0)?;
        // With the copy's first rows: neither the id nor the rows may be forgotten by a crash.
        self.is_catalog_dirty = true;
        Ok((change, rows))
    }

    /// The tables that copies are being made in.
    pub fn copies(&self) -> Vec<TableId> {
        self.reshapes
            .values()
            .map(|r| r.rows.format.table)
            .collect()
    }

    /// One epoch's part of every copy.
    pub fn run_reshapes(&mut self, work: &mut EpochWork) {
        let ids: Vec<ObjectId> = self.reshapes.keys().copied().collect();
        for id in ids {
            let Some(mut reshape) = self.reshapes.remove(&id) else {
                continue;
            };
            let outcome = if reshape.reply.is_closed() {
                Err(ExecutorError::Cancelled)
            } else {
                self.copy(id, &mut reshape, work)
            };
            match outcome {
                Ok(()) if matches!(reshape.copied, Copied::All) && !self.is_held(id) => {
                    self.finish_reshape(id, reshape, work);
                }
                Ok(()) => drop(self.reshapes.insert(id, reshape)),
                Err(error) => {
                    self.give_up(&reshape);
                    // Whoever cancelled does not listen any more.
                    let _ = reshape.reply.send(Err(error));
                }
            }
        }
    }

    fn copy(&mut self, id: ObjectId, reshape: &mut Reshape, work: &mut EpochWork) -> Result<()> {
        let Some(table) = self.tables.get(&id) else {
            return Err(ExecutorError::CatalogChanged);
        };
        let Reshape { change, rows, .. } = reshape;
        let schema = rows.format.schema.clone();
        for change_of_table in work.changes.get(&id).into_iter().flatten() {
            let RelationChange::Delta(delta) = change_of_table else {
                let message = "a statement's change of a table was spooled".to_string();
                return Err(ExecutorError::Internal(message));
            };
            let part = match &reshape.copied {
                Copied::To(cursor) => table.rows.before_cursor(delta, cursor.as_deref())?,
                Copied::All => delta.clone(),
            };
            if !part.is_empty() {
                rows.apply_delta(&change.converted(&part, &schema, &table.name)?)?;
                reshape.is_dirty = true;
            }
        }
        if let Copied::To(cursor) = &reshape.copied {
            let (chunk, next) = table.rows.chunk(cursor.as_deref(), self.chunk_rows())?;
            work.rows_in += chunk.num_rows() as u64;
            rows.apply_delta(&change.converted(&chunk, &schema, &table.name)?)?;
            reshape.is_dirty = true;
            reshape.copied = match next {
                Some(cursor) => Copied::To(Some(cursor)),
                None => Copied::All,
            };
        }
        Ok(())
    }

    /// A view that is still reading the table has a cursor in the rows as they are, and one that is being built
    /// beside another has a text that is not rewritten.
    fn is_held(&self, table: ObjectId) -> bool {
        self.catalog.replacement_of(table).is_some()
            || self.views.values().any(|view| {
                view.is_maintained()
                    && matches!(
                        view.progress.scans.get(&table),
                        Some(ScanProgress::Rows { .. })
                    )
            })
    }

    /// The copy becomes the table, in this epoch.
    fn finish_reshape(&mut self, id: ObjectId, reshape: Reshape, work: &mut EpochWork) {
        match self.install_copy(id, &reshape) {
            Ok(format) => {
                let Reshape {
                    mut rows, reply, ..
                } = reshape;
                if let Some(table) = self.tables.get_mut(&id) {
                    let old = table.rows.format.table;
                    rows.set_format(format);
                    table.rows = rows;
                    table.is_dirty = true;
                    self.dropped.push(Dropped::rows_of(old));
                }
                self.renew_indexes(id, None);
                self.is_catalog_dirty = true;
                work.needs_sync = true;
                work.answers.push(Answer::Changed(reply, None));
            }
            Err(error) => {
                self.give_up(&reshape);
                let _ = reshape.reply.send(Err(error));
            }
        }
    }

    /// Applies the change to the definition as it is by now.
    fn install_copy(&mut self, id: ObjectId, reshape: &Reshape) -> Result<crate::rows::RowFormat> {
        let mut after = self.catalog.clone();
        reshape.change.apply(&mut after, id).map_err(planning)?;
        let mut object = after
            .get(id)
            .ok_or(ExecutorError::CatalogChanged)?
            .as_ref()
            .clone();
        let ObjectKind::Table(def) = &mut object.kind else {
            return Err(ExecutorError::CatalogChanged);
        };
        def.rows = reshape.rows.format.table;
        let format = table_format(def)?;
        after.put(object);
        self.catalog = after;
        Ok(format)
    }

    fn give_up(&mut self, reshape: &Reshape) {
        warn!(table = ?reshape.rows.format.table, "an ALTER TABLE was given up; the table stays as it was");
        self.dropped
            .push(Dropped::rows_of(reshape.rows.format.table));
        self.is_catalog_dirty = true;
    }
}

fn table_def(catalog: &Catalog, id: ObjectId) -> Result<TableDef> {
    match catalog.get(id).map(|o| &o.kind) {
        Some(ObjectKind::Table(def)) => Ok(def.clone()),
        _ => Err(ExecutorError::CatalogChanged),
    }
}

/// The session has checked the change already: it fails only if the definition changed meanwhile.
fn planning(error: PlanError) -> ExecutorError {
    ExecutorError::NotReadable {
        message: error.to_string(),
    }
}

/// Whether rows that a statement computed are of the table's present form.
pub fn fits(rows: &RowStore, batch: Option<&RecordBatch>) -> bool {
    let Some(batch) = batch else {
        return true;
    };
    let fields = rows.format.schema.fields();
    batch.num_columns() == fields.len()
        && batch.columns().iter().zip(fields).all(|(column, field)| {
            column.data_type() == field.data_type()
                && (field.is_nullable() || column.null_count() == 0)
        })
}
