//! Up to which time an operator has finished, in a state table of one entry.
//!
//! ```text
//! nothing  ->  | microseconds since 1970, 8 bytes BE |
//! ```

use crate::error::{ExecutorError, Result};
use crate::state::StateTable;

/// The key of the one entry.
const ONLY: &[u8] = b"";

/// See the module text.
pub struct Passed {
    table: StateTable,
    /// `None`: not read yet.
    known: Option<Option<i64>>,
}

impl Passed {
    pub fn new(table: StateTable) -> Self {
        Passed { table, known: None }
    }

    pub fn get(&mut self) -> Result<Option<i64>> {
        if let Some(known) = self.known {
            return Ok(known);
        }
        let number = |bytes: Vec<u8>| {
            let damaged = |_| ExecutorError::Storage("the time that was passed is damaged".into());
            let bytes = <[u8; 8]>::try_from(bytes.as_slice()).map_err(damaged);
            bytes.map(i64::from_be_bytes)
        };
        let stored = self.table.get(ONLY)?.map(number).transpose()?;
        self.known = Some(stored);
        Ok(stored)
    }

    pub fn set(&mut self, time_us: i64) {
        self.table.put(ONLY, &time_us.to_be_bytes());
        self.known = Some(Some(time_us));
    }

    pub fn table(&mut self) -> &mut StateTable {
        &mut self.table
    }

    pub fn discard(&mut self) {
        self.table.discard();
        self.known = None;
    }
}
