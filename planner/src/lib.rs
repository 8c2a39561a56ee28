//! From SQL text to plans: the dialect, the catalog, binding through DataFusion, and the streaming plan.
//!
//! This crate does no I/O and knows nothing of Kafka, RocksDB or the wire protocol.

pub mod catalog;
pub mod definition;
pub mod dialect;
pub mod error;
pub mod identifier;
pub mod parse;
pub mod plan;
pub mod statement;
mod type_names;
pub mod types;

pub use catalog::{Catalog, ObjectId, TableId};
pub use error::PlanError;
