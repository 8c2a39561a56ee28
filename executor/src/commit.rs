//! The one write of an epoch: state, rows, offsets, progress and the epoch number become visible together.

use std::time::Duration;

use tracing::warn;

use crate::error::Result;
use crate::meta;
use crate::progress::TableProgress;
use crate::reshape::Reshape;
use crate::row_store::RowStore;
use crate::state::{WriteSet, failpoint};
use crate::writer::Writer;

/// Epoch numbers reserved at once. They are reserved durably before use and never given out twice, so that a power
/// cut, which rewinds to the last fsync, contradicts no number that has left the process.
const EPOCH_BLOCK: u64 = 100_000;

impl Writer {
    /// Commits all changes as `epoch`; repeats until it succeeds (a full disk heals by itself when space is freed).
    /// Returns the bytes written.
    pub fn commit(&mut self, epoch: u64, needs_sync: bool) -> u64 {
        let must_reserve = epoch >= self.reserved_epochs;
        let is_sync = needs_sync || must_reserve;
        let reserved = if must_reserve {
            epoch + EPOCH_BLOCK
        } else {
            self.reserved_epochs
        };
        let mut writes = WriteSet::default();
        // What is already collected can not be put back, and half an epoch must not be committed: stopping is safe.
        self.collect(epoch, reserved, &mut writes)
            .unwrap_or_else(|error| panic!("our own structs can be serialised: {error}"));
        let bytes = writes.bytes() as u64;
        failpoint::hit("before_commit");
        let mut delay = Duration::from_millis(20);
        loop {
            match self.store.commit(&writes, is_sync) {
                Ok(_) => break,
                Err(error) => {
                    warn!(%error, epoch, "the commit failed; trying again");
                    self.published.set_storage_error(Some(error.to_string()));
                    std::thread::sleep(delay);
                    delay = (delay * 2).min(Duration::from_secs(1));
                }
            }
        }
        failpoint::hit("after_wal_write");
        self.published.set_storage_error(None);
        self.epoch = epoch;
        self.reserved_epochs = reserved;
        if is_sync {
            self.durable_epoch = epoch;
        }
        self.mark_committed();
        bytes
    }

    fn collect(&mut self, epoch: u64, reserved: u64, writes: &mut WriteSet) -> Result<()> {
        meta::put(writes, meta::EPOCH, &epoch)?;
        meta::put(writes, meta::NOW, &self.now_us)?;
        if reserved != self.reserved_epochs {
            meta::put(writes, meta::RESERVED_EPOCHS, &reserved)?;
        }
        if self.is_catalog_dirty {
            meta::put(writes, meta::CATALOG, &self.catalog)?;
        }
        for (id, table) in self.tables.iter_mut().filter(|(_, t)| t.is_dirty) {
            merge_blocks(&mut table.rows);
            let progress = TableProgress {
                rows: table.rows.rows(),
                mark: table
                    .time
                    .as_ref()
                    .map(|t| t.mark.clone())
                    .unwrap_or_default(),
            };
            meta::put(writes, &meta::table_key(*id), &progress)?;
            table.rows.drain_into(writes)?;
        }
        for (id, view) in self.views.iter_mut().filter(|(_, v)| v.is_dirty) {
            merge_blocks(&mut view.rows);
            meta::put(writes, &meta::view_key(*id), &view.progress)?;
            view.drain_into(writes)?;
        }
        for (id, source) in self.sources.iter().filter(|(_, s)| s.is_dirty) {
            meta::put(writes, &meta::source_key(*id), &source.progress)?;
        }
        for reshape in self.reshapes.values_mut().filter(|r| r.is_dirty()) {
            reshape.collect(writes)?;
        }
        if self.is_catalog_dirty {
            meta::put(writes, meta::COPIES, &self.copies())?;
        }
        meta::put(writes, meta::LETTERS, self.letters.counters())?;
        self.letters.drain_into(writes);
        self.late.drain_into(writes);
        for drop in self.dropped.iter() {
            drop.collect(writes);
        }
        Ok(())
    }

    fn mark_committed(&mut self) {
        self.tables
            .values_mut()
            .filter(|t| t.is_dirty)
            .for_each(|t| {
                t.rows.committed();
                t.is_dirty = false;
            });
        self.views
            .values_mut()
            .filter(|v| v.is_dirty)
            .for_each(|v| v.committed());
        self.sources.values_mut().for_each(|s| s.is_dirty = false);
        self.reshapes.values_mut().for_each(Reshape::committed);
        self.letters.committed();
        self.late.committed();
        self.dropped.clear();
        self.store.release_spill();
    }
}

/// Merging only makes reading cheaper: an epoch is committed whether it succeeds or not.
fn merge_blocks(rows: &mut RowStore) {
    if let Err(error) = rows.merge_blocks() {
        warn!(%error, "small blocks could not be merged; trying again later");
    }
}
