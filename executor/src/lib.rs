//! The incremental engine: deltas, operators, state, epochs and snapshots.
//!
//! This crate knows nothing of Kafka, message formats, the wire protocol or SQL text.

mod aggregates;
pub mod consolidate;
pub mod delta;
pub mod error;
pub mod evaluate;
pub mod operator;
pub mod operators;
pub mod source;
pub mod state;

pub use delta::Delta;
pub use error::ExecutorError;
