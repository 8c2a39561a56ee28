//! Ordered reads of one table on several threads at once.
//!
//! A seek in a large table mostly waits for memory: blocks have to be found in the cache, or read and decompressed. So
//! whoever has many to make, in places that do not depend on each other, divides them.

use std::sync::Arc;

use rocksdb::ReadOptions;

use super::error::StateError;
use super::key_order::KeyOrder;
use super::layout::{Family, TableId, prefix_end, table_prefix};
use super::overlay::Overlay;
use super::scan::{IteratorPool, KeyRange, Layers, OrderRef, TableScan};
use super::spill::Spill;
use super::store::Store;

/// One table with this epoch's changes so far. Threads share it; each reads with a [`TableReader`] of its own.
#[derive(Clone, Copy)]
pub struct TableReaders<'a> {
    pub(super) id: TableId,
    pub(super) family: Family,
    pub(super) store: &'a Store,
    pub(super) overlay: &'a Overlay,
    pub(super) order: &'a KeyOrder,
    pub(super) spilled: Option<&'a Arc<Spill>>,
}

impl<'a> TableReaders<'a> {
    /// A reader for one thread.
    pub fn reader(&self) -> TableReader<'a> {
        TableReader {
            table: *self,
            pool: IteratorPool::default(),
        }
    }
}

/// See [`TableReaders`].
pub struct TableReader<'a> {
    table: TableReaders<'a>,
    pool: IteratorPool,
}

impl TableReader<'_> {
    /// Reads a range in key order, or from its last key to its first.
    pub fn scan(&self, range: &KeyRange, is_reverse: bool) -> Result<TableScan<'_>, StateError> {
        let TableReaders {
            id,
            family,
            store,
            overlay,
            order,
            spilled,
        } = self.table;
        let layers = layers((store, family, id), spilled, &self.pool)?;
        let prefix = table_prefix(id);
        let order = OrderRef::Plain(order);
        Ok(TableScan::new(
            overlay, order, &self.pool, layers, &prefix, range, is_reverse,
        ))
    }
}

/// What a scan of this table reads besides its overlay.
pub(super) fn layers(
    (store, family, id): (&Store, Family, TableId),
    spilled: Option<&Arc<Spill>>,
    pool: &IteratorPool,
) -> Result<Layers, StateError> {
    let pooled = pool.database.borrow_mut().take();
    let database = match pooled {
        Some(iterator) => iterator,
        None => {
            let prefix = table_prefix(id);
            let mut options = ReadOptions::default();
            options.set_iterate_lower_bound(prefix);
            if let Some(end) = prefix_end(&prefix) {
                options.set_iterate_upper_bound(end);
            }
            store.db()?.iterator(family, options)
        }
    };
    let spilled = spilled.map(|spill| {
        let pooled = pool.spilled.borrow_mut().take();
        pooled.unwrap_or_else(|| spill.table_iterator(family, id))
    });
    Ok(Layers { database, spilled })
}
