//! A committed epoch, for readers: every relation at one moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use rivermark_planner::Catalog;
use rivermark_planner::catalog::{ObjectId, QualifiedName, SourceDef};

use crate::api::{DeadLetter, LateRow, ViewState};
use crate::dead_letters::{LETTERS_TABLE, ORDER_TABLE, read_letter};
use crate::error::{ExecutorError, Result};
use crate::index::IndexFormat;
use crate::late_rows::{FLOORS_TABLE, LATE_ROWS_TABLE, read_floor, read_late_row};
use crate::lateness::{EventTime, Floor};
use crate::own_writes::OwnWrites;
use crate::rows::{RowFormat, RowLayout};
use crate::source::Source;
use crate::source_scan::SourceScan;
use crate::state::{Family, KeyRange, StoreSnapshot};
use crate::stored_rows::StoredRows;
use crate::stored_scan::StoredScan;

/// How a relation of the catalog is read.
#[derive(Clone)]
pub enum Readable {
    Rows {
        format: Arc<RowFormat>,
        /// Those that are complete.
        indexes: Arc<[Arc<IndexFormat>]>,
        name: QualifiedName,
        state: ViewState,
    },
    Source {
        source: Arc<dyn Source>,
        name: QualifiedName,
        def: Arc<SourceDef>,
    },
}

/// All relations at one moment. Cheap to hold; holding it keeps the epoch's rows readable.
pub struct Snapshot {
    pub epoch: u64,
    pub catalog: Arc<Catalog>,
    pub(crate) relations: Arc<BTreeMap<ObjectId, Readable>>,
    pub(crate) store: StoreSnapshot,
}

impl Snapshot {
    /// Rows of a table, materialized view or source (a source is read from its start to its current end) as of
    /// this epoch. Errors: a view that is half built, failed or unknown.
    pub fn table_provider(&self, object: ObjectId) -> Result<Arc<dyn TableProvider>> {
        match self.relations.get(&object) {
            Some(Readable::Rows { name, state, .. }) => {
                check_readable(name, state)?;
                Ok(Arc::new(self.stored_scan(object, None)?))
            }
            Some(Readable::Source { source, name, def }) => Ok(Arc::new(SourceScan {
                source: source.clone(),
                name: name.to_string(),
                def: def.clone(),
                time: EventTime::of_source(def)?,
                floors: Arc::new(self.floors(object)?),
            })),
            None => Err(missing(object)),
        }
    }

    /// A table's rows as a transaction sees them that has written it.
    pub fn table_provider_with(
        &self,
        table: ObjectId,
        own: Arc<OwnWrites>,
    ) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(self.stored_scan(table, Some(own))?))
    }

    fn stored_scan(&self, object: ObjectId, own: Option<Arc<OwnWrites>>) -> Result<StoredScan> {
        match self.relations.get(&object) {
            Some(Readable::Rows {
                format,
                indexes,
                name,
                ..
            }) => Ok(StoredScan {
                name: name.name.clone(),
                format: format.clone(),
                indexes: indexes.clone(),
                store: self.store.clone(),
                own,
            }),
            Some(Readable::Source { .. }) | None => Err(missing(object)),
        }
    }

    /// The columns of the key that a relation's rows are stored under; `None` if there is no key.
    pub fn key_of(&self, object: ObjectId) -> Option<&[usize]> {
        match &self.row_format(object).ok()?.0.layout {
            RowLayout::Keyed(columns) => Some(columns),
            RowLayout::Bag | RowLayout::Log => None,
        }
    }

    /// Single rows of a table or materialized view, for a transaction that has written `own`. Errors: as of
    /// [`Self::table_provider`].
    pub fn stored_rows(&self, table: ObjectId, own: Option<Arc<OwnWrites>>) -> Result<StoredRows> {
        if let Some(Readable::Rows { name, state, .. }) = self.relations.get(&table) {
            check_readable(name, state)?;
        }
        let (format, name) = self.row_format(table)?;
        Ok(StoredRows {
            format: format.clone(),
            store: self.store.clone(),
            own,
            name: name.name.clone(),
        })
    }

    /// For a transaction that writes the table; empty.
    pub fn own_writes(&self, table: ObjectId) -> Result<OwnWrites> {
        let (format, name) = self.row_format(table)?;
        Ok(OwnWrites::new(table, name.name.clone(), format.clone()))
    }

    fn row_format(&self, table: ObjectId) -> Result<(&Arc<RowFormat>, &QualifiedName)> {
        match self.relations.get(&table) {
            Some(Readable::Rows { format, name, .. }) => Ok((format, name)),
            Some(Readable::Source { .. }) | None => Err(missing(table)),
        }
    }

    /// The floors of a source's partitions, in the order of offsets.
    fn floors(&self, source: ObjectId) -> Result<BTreeMap<i32, Vec<Floor>>> {
        let range = KeyRange::prefix(&source.0.to_be_bytes());
        let mut floors: BTreeMap<i32, Vec<Floor>> = BTreeMap::new();
        let mut scan = self.store.scan(Family::Log, FLOORS_TABLE, &range);
        while let Some(chunk) = scan.next_chunk(1024, 1 << 20)? {
            for (key, value) in chunk.keys.iter().zip(chunk.values.iter()) {
                let (partition, floor) = read_floor(key, value)?;
                floors.entry(partition).or_default().push(floor);
            }
        }
        Ok(floors)
    }

    /// The latest late rows of each relation.
    pub fn late_rows(&self) -> Result<Vec<LateRow>> {
        let mut rows = Vec::new();
        let mut scan = self
            .store
            .scan(Family::Log, LATE_ROWS_TABLE, &KeyRange::all());
        while let Some(chunk) = scan.next_chunk(1024, 1 << 20)? {
            for (key, value) in chunk.keys.iter().zip(chunk.values.iter()) {
                rows.push(read_late_row(key, value)?);
            }
        }
        Ok(rows)
    }

    /// Dead letters as of this epoch, oldest first.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        let mut letters = Vec::new();
        let mut order = self.store.scan(Family::Log, ORDER_TABLE, &KeyRange::all());
        while let Some(chunk) = order.next_chunk(1024, 1 << 20)? {
            // The order's values are the letters' keys.
            let stored = self
                .store
                .get_many(Family::Log, LETTERS_TABLE, &chunk.values)?;
            for value in stored.iter().flatten() {
                letters.push(read_letter(value)?);
            }
        }
        Ok(letters)
    }
}

fn missing(object: ObjectId) -> ExecutorError {
    ExecutorError::NotReadable {
        message: format!("relation {object} does not exist any more"),
    }
}

fn check_readable(name: &QualifiedName, state: &ViewState) -> Result<()> {
    match state {
        ViewState::Running | ViewState::Paused | ViewState::NeedsRebuild => Ok(()),
        ViewState::Backfilling => Err(ExecutorError::NotReadable {
            message: format!(
                "materialized view \"{name}\" is still being built; its progress is in rivermark.materialized_views"
            ),
        }),
        ViewState::Failed(error) => Err(ExecutorError::NotReadable {
            message: format!(
                "materialized view \"{name}\" has failed ({error}); ALTER MATERIALIZED VIEW ... REBUILD builds it again"
            ),
        }),
    }
}
