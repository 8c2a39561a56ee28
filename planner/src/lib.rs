//! From SQL text to plans: the dialect, the catalog, binding through DataFusion, and the streaming plan.
//!
//! This crate does no I/O and knows nothing of Kafka, RocksDB or the wire protocol.

pub mod access;
pub mod alter;
pub mod bind;
pub mod bind_error;
#[cfg(test)]
mod bind_tests;
pub mod catalog;
pub mod computed_time;
pub mod definition;
pub mod describe;
pub mod dialect;
pub mod error;
pub mod explain;
pub mod fingerprint;
#[cfg(test)]
mod fixture;
pub mod functions;
pub mod hop;
pub mod identifier;
pub mod json;
pub mod lower;
pub mod names;
mod operators;
pub mod parse;
pub mod parse_query;
pub mod pg_text;
pub mod plan;
pub mod prefix;
pub mod properties;
pub mod read_order;
pub mod relations;
pub mod retention;
pub mod rewrite;
pub mod security;
pub mod session;
pub mod statement;
mod type_names;
pub mod type_planner;
pub mod types;
pub mod watermark;
pub mod window;

pub use catalog::{Catalog, ObjectId, TableId};
pub use error::PlanError;
