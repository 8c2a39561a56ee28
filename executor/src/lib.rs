//! The incremental engine: deltas, operators, state, epochs and snapshots.
//!
//! This crate knows nothing of Kafka, message formats, the wire protocol or SQL text.

mod access;
pub mod aggregates;
mod alter;
pub mod api;
mod backfill;
mod catalog_change;
mod command;
mod commit;
pub mod consolidate;
mod create_view;
mod dataflow;
mod dead_letters;
pub mod delta;
pub mod engine;
mod epoch;
pub mod error;
pub mod evaluate;
mod index;
mod index_build;
mod meta;
pub mod operator;
mod operator_stats;
pub mod operators;
pub mod ordered_scan;
pub mod own_writes;
mod pause;
mod pieces;
mod prefetch;
mod progress;
mod publish;
mod published;
mod recovery;
mod replace;
mod reshape;
mod row_reader;
mod row_scan;
mod row_store;
mod rows;
mod shared_prefix;
pub mod snapshot;
pub mod source;
mod source_input;
mod source_scan;
pub mod state;
pub mod stored_rows;
mod stored_scan;
mod usage;
mod view;
mod writer;

pub use delta::Delta;
pub use engine::Engine;
pub use error::ExecutorError;
pub use own_writes::OwnWrites;
pub use snapshot::Snapshot;
