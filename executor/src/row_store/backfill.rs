//! What a new view reads of the rows that are stored already, chunk by chunk, while they go on changing.

use arrow::array::UInt32Array;
use arrow::compute::concat_batches;

use super::RowStore;
use crate::delta::Delta;
use crate::error::Result;
use crate::rows::{RowLayout, multiplicity};
use crate::state::{BlockTable, KeyRange};

impl RowStore {
    /// The next at most about `limit` rows after `cursor` (as returned before; `None`: from the start), through the
    /// epoch's overlay, and the new cursor; `None` when the end was reached.
    pub fn chunk(&self, cursor: Option<&[u8]>, limit: usize) -> Result<(Delta, Option<Vec<u8>>)> {
        if let Some(blocks) = &self.blocks {
            return self.block_chunk(blocks, cursor, limit);
        }
        let start = cursor.map(|c| [c, &[0]].concat()).unwrap_or_default();
        let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut rows = 0;
        let mut is_end = true;
        for entry in self.state.scan(&KeyRange::new(start, None))? {
            let (key, value) = entry?;
            if rows >= limit {
                is_end = false;
                break;
            }
            rows += match self.format.layout {
                RowLayout::Bag => multiplicity(&value)? as usize,
                RowLayout::Keyed(_) | RowLayout::Log => 1,
            };
            entries.push((key, value));
        }
        self.state.release();
        let batch = self
            .format
            .decode(entries.iter().map(|(k, v)| (k.as_slice(), v.as_slice())))?;
        let next = if is_end {
            None
        } else {
            entries.pop().map(|(key, _)| key)
        };
        Ok((Delta::insertions(batch), next))
    }

    /// As `chunk`; the cursor is the next ordinal.
    fn block_chunk(
        &self,
        blocks: &BlockTable,
        cursor: Option<&[u8]>,
        limit: usize,
    ) -> Result<(Delta, Option<Vec<u8>>)> {
        let from = cursor
            .and_then(|c| c.try_into().ok())
            .map_or(0, u64::from_be_bytes);
        let read = blocks.read_from(from, limit, None)?;
        // Nothing is left where rows were forgotten up to the end.
        let end = blocks.next_ordinal();
        let next = read.last().map_or(end, |block| block.end_ordinal());
        let batch = concat_batches(&self.format.schema, read.iter().map(|b| &b.batch))?;
        let cursor = (next < end).then(|| next.to_be_bytes().to_vec());
        Ok((Delta::insertions(batch), cursor))
    }

    /// The part of `delta` whose rows lie at or before `cursor`: those a backfill has read already.
    pub fn before_cursor(&self, delta: &Delta, cursor: Option<&[u8]>) -> Result<Delta> {
        let Some(cursor) = cursor else {
            return Ok(Delta::empty(delta.schema()));
        };
        if self.format.layout == RowLayout::Log {
            // Rows are only ever appended behind the cursor.
            return Ok(Delta::empty(delta.schema()));
        }
        let keys = self.format.storage_keys(delta.columns())?;
        let rows: Vec<u32> = (0..keys.len())
            .filter(|&i| keys.get(i) <= cursor)
            .map(|i| i as u32)
            .collect();
        Ok(delta.take(&UInt32Array::from(rows))?)
    }
}
