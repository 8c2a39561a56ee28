//! The growing end of an append-only relation without a key: one columnar block per epoch, small blocks merged.
//!
//! Every row has a permanent ordinal; a block's storage key is the ordinal of its first row (8 bytes, big-endian).
//! Merging is size-tiered: whenever the last [`FAN_IN`] blocks are of the same tier they become one block of the
//! next, so a row is rewritten at most log_16(64k) = 4 times.

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use crate::error::Result;
use crate::state::block::{read_block, write_block};
use crate::state::{Keys, StateTable};

/// Blocks merged at once.
const FAN_IN: usize = 16;
/// Blocks of this many rows are not merged any more.
const FULL_BLOCK_ROWS: usize = 65_536;

/// Where the next block goes, and which blocks are still small.
#[derive(Debug, Clone, Default)]
pub struct LogTail {
    next_ordinal: u64,
    /// (first ordinal, rows) of the blocks that may still be merged, ascending.
    small: Vec<(u64, usize)>,
    committed: Option<(u64, Vec<(u64, usize)>)>,
}

impl LogTail {
    /// The tail as the last commit left it. Small blocks of before are left as they are.
    pub fn new(next_ordinal: u64) -> Self {
        LogTail { next_ordinal, small: Vec::new(), committed: None }
    }

    pub fn next_ordinal(&self) -> u64 {
        self.next_ordinal
    }

    /// Adds rows behind all others.
    pub fn append(&mut self, state: &mut StateTable, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.remember();
        state.put(&self.next_ordinal.to_be_bytes(), &write_block(self.next_ordinal, batch)?);
        if batch.num_rows() < FULL_BLOCK_ROWS {
            self.small.push((self.next_ordinal, batch.num_rows()));
        } else {
            self.small.clear();
        }
        self.next_ordinal += batch.num_rows() as u64;
        Ok(())
    }

    /// Removes the rows of the newest, just appended block.
    pub fn take_back(&mut self, state: &mut StateTable, rows: usize) {
        if rows == 0 {
            return;
        }
        self.next_ordinal -= rows as u64;
        state.delete(&self.next_ordinal.to_be_bytes());
        self.small.pop();
    }

    /// Merges blocks where enough of one size have come together. Not while something reads by ordinal.
    pub fn merge(&mut self, state: &mut StateTable) -> Result<()> {
        while self.small.len() >= FAN_IN {
            let run = &self.small[self.small.len() - FAN_IN..];
            let tier = |rows: usize| rows.max(1).ilog(FAN_IN);
            if run.iter().any(|(_, rows)| tier(*rows) > tier(run[FAN_IN - 1].1)) {
                return Ok(());
            }
            self.remember();
            let run = self.small.split_off(self.small.len() - FAN_IN);
            let keys: Keys = run.iter().map(|(ordinal, _)| ordinal.to_be_bytes()).collect::<Vec<_>>().iter().map(|k| &k[..]).collect();
            let stored = state.get_many(&keys)?;
            let mut blocks = Vec::with_capacity(run.len());
            for i in 0..keys.len() {
                if let Some(value) = stored.get(i) {
                    blocks.push(read_block(value, None)?.batch);
                }
            }
            let Some(schema) = blocks.first().map(|b| b.schema()) else { return Ok(()) };
            let merged = concat_batches(&schema, &blocks)?;
            let first = run[0].0;
            for i in 1..keys.len() {
                state.delete(keys.get(i));
            }
            state.put(&first.to_be_bytes(), &write_block(first, &merged)?);
            if merged.num_rows() < FULL_BLOCK_ROWS {
                self.small.push((first, merged.num_rows()));
            } else {
                self.small.clear();
            }
        }
        Ok(())
    }

    fn remember(&mut self) {
        if self.committed.is_none() {
            self.committed = Some((self.next_ordinal, self.small.clone()));
        }
    }

    pub fn committed(&mut self) {
        self.committed = None;
    }

    pub fn discard(&mut self) {
        if let Some((next_ordinal, small)) = self.committed.take() {
            self.next_ordinal = next_ordinal;
            self.small = small;
        }
    }
}
