//! Sources of rows outside of Rivermark: connectors, message formats and the one registry that knows them all.
//!
//! This crate knows nothing of SQL text, the state store or the wire protocol. A connector implements the
//! executor's `Source` and `SourceReader`; a format turns message bytes into Arrow columns.

pub mod datagen;
pub mod format;
pub mod kafka;
pub mod message;
pub mod options;
pub mod registry;

pub use registry::Registry;
