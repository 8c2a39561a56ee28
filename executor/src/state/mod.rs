//! The state of the engine: what operators remember, what views show and how far sources were read.
//!
//! Everything lives in one RocksDB database ([`Store`]). Operators see it through a [`StateTable`] only: an overlay
//! of this epoch's changes, over a bounded cache, over the database. At the end of an epoch every table drains its
//! overlay into one [`WriteSet`], which [`Store::commit`] makes visible at once or not at all. Readers use a
//! [`StoreSnapshot`] and see exactly one epoch. Bytes on disk are laid out by `layout.rs`, `key.rs`, `row.rs` and
//! `block.rs`, each with golden tests.

mod arena;
mod block;
mod cache;
mod column;
mod error;
pub mod failpoint;
mod ingest;
mod key;
mod key_order;
mod layout;
mod log_write;
mod open_db;
mod overlay;
mod readers;
mod row;
mod scan;
mod snapshot;
mod spill;
mod split;
mod store;
mod table;
mod write_set;

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod test_values;

pub use arena::{Keys, Rows, Values};
pub use block::{
    BlockFilter, BlockScan, BlockTable, ColumnRange, MergedBlock, RowBlock, end_ordinal,
    prepare_merge, read_ordinals, scan_block_range, scan_blocks,
};
pub use cache::{CacheHandle, CacheStats};
pub use error::{StateError, StateErrorKind};
pub use key::KeyCodec;
pub use layout::{Family, TableId, meta_key, prefix_end, table_prefix};
pub use readers::{TableReader, TableReaders};
pub use row::RowCodec;
pub use scan::{KeyRange, TableScan};
pub use snapshot::{ScanChunk, SnapshotScan, StoreSnapshot};
pub use spill::{Spill, WeightScan};
pub use split::{split, split_evenly};
pub use store::{CommitStats, MemoryPlan, Store, StoreOptions, StoreUsage};
pub use table::StateTable;
pub use write_set::WriteSet;
