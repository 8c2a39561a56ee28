//! Keys and values of the `meta` column family: the epoch, the catalog, and everyone's progress, as JSON.

use rivermark_planner::catalog::ObjectId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{ExecutorError, Result};
use crate::state::{Store, WriteSet};

pub const EPOCH: &[u8] = b"epoch";
/// Epoch numbers below this may have been given out.
pub const RESERVED_EPOCHS: &[u8] = b"epoch/reserved";
/// The last epoch's time, in microseconds.
pub const NOW: &[u8] = b"epoch/now";
pub const CATALOG: &[u8] = b"catalog";
pub const LETTERS: &[u8] = b"letters";
/// Tables into which rows are being copied: worthless after a crash.
pub const COPIES: &[u8] = b"copies";

pub fn source_key(id: ObjectId) -> Vec<u8> {
    format!("source/{id}").into_bytes()
}

pub fn view_key(id: ObjectId) -> Vec<u8> {
    format!("view/{id}").into_bytes()
}

pub fn table_key(id: ObjectId) -> Vec<u8> {
    format!("table/{id}").into_bytes()
}

pub fn index_key(id: ObjectId) -> Vec<u8> {
    format!("index/{id}").into_bytes()
}

/// Adds one value to an epoch's write.
pub fn put(writes: &mut WriteSet, key: &[u8], value: &impl Serialize) -> Result<()> {
    let bytes =
        serde_json::to_vec(value).map_err(|e| ExecutorError::Internal(format!("metadata: {e}")))?;
    writes.put_meta(key, &bytes);
    Ok(())
}

/// The committed value of a key.
pub fn get<T: DeserializeOwned>(store: &Store, key: &[u8]) -> Result<Option<T>> {
    let Some(bytes) = store.get_meta(key)? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        ExecutorError::Storage(format!(
            "the stored metadata {:?} can not be read ({e}); was the data directory written by another version?",
            String::from_utf8_lossy(key)
        ))
    })
}
