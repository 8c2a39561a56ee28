//! Building an index on a relation that has rows: each epoch reads the next chunk of them through its overlay, after
//! all of the epoch's changes, and commits the entries with where it stands. Ingestion waits for one chunk at most.

use arrow::array::ArrayRef;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use rivermark_planner::catalog::{IndexDef, Object, ObjectId, ObjectKind, QualifiedName};
use tokio::sync::oneshot;
use tracing::{error, warn};

use crate::catalog_change::dropped;
use crate::epoch::EpochWork;
use crate::error::{ExecutorError, Result};
use crate::index::{IndexFormat, IndexProgress, RowIndex};
use crate::meta;
use crate::row_store::RowStore;
use crate::rows::{RowFormat, RowLayout};
use crate::state::{BlockTable, KeyRange, Keys, StateTable};
use crate::writer::Writer;

/// Rows read for all indexes being built, in one epoch.
const CHUNK_ROWS: usize = 16_384;
/// However many are being built, each relation reads this much.
const LEAST_CHUNK_ROWS: usize = 1024;
/// Bytes of stored rows read at once.
const CHUNK_BYTES: usize = 8 << 20;

impl Writer {
    pub fn create_index(
        &mut self,
        name: QualifiedName,
        sql: String,
        mut def: IndexDef,
    ) -> Result<ObjectId> {
        def.entries = self.catalog.allocate_tables(1);
        def.is_complete = false;
        let id = self.catalog.allocate_object();
        self.attach_index(id, &name.name, &def)?;
        self.catalog.put(Object {
            id,
            name,
            sql,
            comment: None,
            depends_on: vec![def.relation],
            kind: ObjectKind::Index(def),
        });
        Ok(id)
    }

    /// Gives a relation's rows an index of the catalog, and goes on building it if it is not complete.
    pub fn attach_index(&mut self, id: ObjectId, name: &str, def: &IndexDef) -> Result<()> {
        let progress = meta::get(&self.store, &meta::index_key(id))?.unwrap_or_default();
        self.attach_with(id, name, def, progress)
    }

    fn attach_with(
        &mut self,
        id: ObjectId,
        name: &str,
        def: &IndexDef,
        progress: IndexProgress,
    ) -> Result<()> {
        let store = self.store.clone();
        let rows = self.rows_mut(def.relation)?;
        let format = IndexFormat::new(id, name, def, &rows.format.schema)?;
        rows.add_index(RowIndex::new(format, def.is_complete, progress, &store));
        if !def.is_complete {
            self.indexing.insert(def.relation);
        }
        Ok(())
    }

    /// Takes an index away from its relation, for good.
    pub fn detach_index(&mut self, id: ObjectId, def: &IndexDef) {
        if let Ok(rows) = self.rows_mut(def.relation) {
            rows.remove_index(id);
            if !rows.has_incomplete_index() {
                self.indexing.remove(&def.relation);
            }
        }
        let dropped = ExecutorError::NotReadable {
            message: "the index was dropped".into(),
        };
        self.answer_index_waiters(id, Err(dropped));
    }

    /// A relation has got other rows: its indexes are built anew. `before`: the relation that had its columns in other
    /// places; an index on a column that is gone, or has another type, goes too.
    pub fn renew_indexes(&mut self, relation: ObjectId, before: Option<&Object>) {
        let indexes = self.catalog.indexes_of(relation);
        let indexes: Vec<Object> = indexes.map(|(object, _)| object.clone()).collect();
        let Some(after) = self.catalog.get(relation).map(|o| o.schema()) else {
            return;
        };
        for mut object in indexes {
            self.dropped.push(dropped(&object));
            let ObjectKind::Index(def) = &mut object.kind else {
                continue;
            };
            let is_kept = before.is_none_or(|before| moved(def, &before.schema(), &after));
            if !is_kept {
                warn!(index = %object.name, "an index was dropped with the columns that it was on");
                self.detach_index(object.id, def);
                self.catalog.remove(object.id);
                continue;
            }
            def.entries = self.catalog.allocate_tables(1);
            def.is_complete = false;
            if let Err(error) =
                self.attach_with(object.id, &object.name.name, def, IndexProgress::default())
            {
                error!(%error, index = %object.name, "an index can not be built anew");
            }
            self.catalog.put(object);
        }
    }

    fn rows_mut(&mut self, relation: ObjectId) -> Result<&mut RowStore> {
        if let Some(table) = self.tables.get_mut(&relation) {
            return Ok(&mut table.rows);
        }
        // Dropped since the statement was planned.
        let view = self.views.get_mut(&relation);
        Ok(&mut view.ok_or(ExecutorError::CatalogChanged)?.rows)
    }

    /// The next chunk of every index that is being built; those that are complete with this epoch.
    pub fn build_indexes(&mut self, work: &mut EpochWork) -> Vec<ObjectId> {
        let mut ready = Vec::new();
        let relations: Vec<ObjectId> = self.indexing.iter().copied().collect();
        let limit = (CHUNK_ROWS / relations.len().max(1)).max(LEAST_CHUNK_ROWS);
        for relation in relations {
            let built = self.retry_storage(|writer| writer.build_chunk(relation, limit));
            match built {
                Ok((completed, rows_read)) => {
                    work.rows_in += rows_read as u64;
                    ready.extend(completed);
                }
                Err(error) => {
                    error!(%error, %relation, "an index can not be built; a restart tries again");
                    self.indexing.remove(&relation);
                    self.give_up_indexes(relation, &error);
                }
            }
        }
        for id in &ready {
            self.complete_index(*id);
        }
        ready
    }

    fn build_chunk(&mut self, relation: ObjectId, limit: usize) -> Result<(Vec<ObjectId>, usize)> {
        let rows = self.rows_mut(relation)?;
        let built = rows.build_indexes(limit)?;
        if !rows.has_incomplete_index() {
            self.indexing.remove(&relation);
        }
        if let Some(table) = self.tables.get_mut(&relation) {
            table.is_dirty = true;
        }
        if let Some(view) = self.views.get_mut(&relation) {
            view.is_dirty = true;
        }
        Ok(built)
    }

    /// From this epoch on queries use it.
    fn complete_index(&mut self, id: ObjectId) {
        let Some(object) = self.catalog.get(id) else {
            return;
        };
        let mut object = object.as_ref().clone();
        if let ObjectKind::Index(def) = &mut object.kind {
            def.is_complete = true;
        }
        self.catalog.put(object);
        self.is_catalog_dirty = true;
    }

    /// Answers once the index is complete.
    pub fn wait_for_index(&mut self, id: ObjectId, reply: oneshot::Sender<Result<()>>) {
        let def = self.catalog.get(id).and_then(|o| o.as_index());
        if def.is_some_and(|def| def.is_complete) {
            let _ = reply.send(Ok(()));
            return;
        }
        self.index_waiters.entry(id).or_default().push(reply);
    }

    pub fn answer_index_waiters(&mut self, id: ObjectId, answer: Result<()>) {
        for waiter in self.index_waiters.remove(&id).into_iter().flatten() {
            // A waiter that has gone away was cancelled.
            let _ = waiter.send(answer.clone());
        }
    }

    fn give_up_indexes(&mut self, relation: ObjectId, error: &ExecutorError) {
        let indexes = self.catalog.indexes_of(relation);
        let ids: Vec<ObjectId> = indexes.map(|(object, _)| object.id).collect();
        for id in ids {
            self.answer_index_waiters(id, Err(error.clone()));
        }
    }
}

/// Finds an index's columns in a relation's new schema; false if one is not there.
fn moved(def: &mut IndexDef, before: &SchemaRef, after: &SchemaRef) -> bool {
    def.columns.iter_mut().all(|column| {
        let Some(old) = before.fields().get(column.column) else {
            return false;
        };
        match after.index_of(old.name()) {
            Ok(place) if after.field(place).data_type() == old.data_type() => {
                column.column = place;
                true
            }
            _ => false,
        }
    })
}

/// Stored rows for an index, each once.
pub struct IndexChunk {
    pub columns: Vec<ArrayRef>,
    pub locators: Keys,
    /// `None`: the end was reached.
    pub cursor: Option<Vec<u8>>,
}

/// Rows behind the storage key `cursor`, through the epoch's overlay.
pub fn stored_chunk(
    format: &RowFormat,
    state: &StateTable,
    cursor: Option<&[u8]>,
    limit: usize,
) -> Result<IndexChunk> {
    let start = cursor.map(|c| [c, &[0]].concat()).unwrap_or_default();
    let (mut locators, mut values) = (Keys::new(), Keys::new());
    let mut is_end = true;
    let mut scan = state.scan(&KeyRange::new(start, None))?;
    while scan.advance()? {
        if locators.len() >= limit || locators.data_len() + values.data_len() >= CHUNK_BYTES {
            is_end = false;
            break;
        }
        locators.push(scan.key());
        values.push(scan.value());
    }
    let rows: Keys = match format.layout {
        RowLayout::Bag => {
            let rows = locators.iter().map(|key| format.row_in(key));
            rows.collect::<Result<Vec<_>>>()?.into_iter().collect()
        }
        RowLayout::Keyed(_) | RowLayout::Log => values,
    };
    Ok(IndexChunk {
        columns: format.rows.decode(rows.iter())?,
        cursor: (!is_end).then(|| locators.get(locators.len() - 1).to_vec()),
        locators,
    })
}

/// Rows from the ordinal `cursor` on.
pub fn log_chunk(
    format: &RowFormat,
    blocks: &BlockTable,
    cursor: Option<&[u8]>,
    limit: usize,
) -> Result<IndexChunk> {
    let from = cursor
        .and_then(|c| c.try_into().ok())
        .map_or(0, u64::from_be_bytes);
    let read = blocks.read_from(from, limit, None)?;
    // Nothing is left where rows were forgotten up to the end.
    let end = blocks.next_ordinal();
    let next = read.last().map_or(end, |block| block.end_ordinal());
    let batch = concat_batches(&format.schema, read.iter().map(|b| &b.batch))?;
    let mut locators = Keys::with_capacity(batch.num_rows(), 8 * batch.num_rows());
    for block in &read {
        for ordinal in block.first_ordinal..block.end_ordinal() {
            locators.push(&ordinal.to_be_bytes());
        }
    }
    Ok(IndexChunk {
        columns: batch.columns().to_vec(),
        locators,
        cursor: (next < end).then(|| next.to_be_bytes().to_vec()),
    })
}
