//! Message formats: bytes to Arrow columns, a batch of messages at a time.

pub mod batch;
pub mod column;
pub mod include;
pub mod json;

pub use batch::BatchDecoder;
