//! Merging of small adjacent blocks: prepared by any thread on a snapshot, applied by the writer in an epoch.
//!
//! A run of at least [`MIN_RUN`] neighbours below a size limit becomes one block; the limits grow by 16, so that a row is
//! rewritten about four times in its life, from one row per block up to [`MAX_BLOCK_ROWS`].

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

use super::super::arena::Keys;
use super::super::error::StateError;
use super::super::layout::{Family, TableId};
use super::super::scan::KeyRange;
use super::super::snapshot::StoreSnapshot;
use super::{BlockTable, Header, MAX_BLOCK_ROWS, encode_block, ordinal_of, read_block, scan_start};

const MIN_RUN: usize = 16;
const SIZE_LIMITS: [usize; 4] = [16, 256, 4096, MAX_BLOCK_ROWS];
/// Blocks that are looked at in one go.
const MAX_LOOK: usize = 1024;
/// Bytes of blocks that are read in one go.
const MAX_LOOK_BYTES: usize = 64 << 20;

/// Several blocks made into one.
pub struct MergedBlock {
    /// First ordinal and number of rows of each block that is replaced, adjacent and in order.
    replaced: Vec<(u64, usize)>,
    value: Vec<u8>,
}

impl MergedBlock {
    /// The ordinal of the first row.
    pub fn first_ordinal(&self) -> u64 {
        self.replaced[0].0
    }

    /// Blocks that become one.
    pub fn replaced_blocks(&self) -> usize {
        self.replaced.len()
    }
}

/// Looks at some blocks from ordinal `from` on and merges the first run worth it; `None` if there is none.
pub fn prepare_merge(
    snapshot: &StoreSnapshot,
    (family, id): (Family, TableId),
    schema: &SchemaRef,
    from: u64,
) -> Result<Option<MergedBlock>, StateError> {
    let mut scan = snapshot.scan(family, id, &KeyRange::new(scan_start(from), None));
    let Some(chunk) = scan.next_chunk(MAX_LOOK, MAX_LOOK_BYTES)? else {
        return Ok(None);
    };
    let mut blocks = Vec::with_capacity(chunk.keys.len());
    for (key, value) in chunk.keys.iter().zip(chunk.values.iter()) {
        blocks.push((ordinal_of(key)?, Header::parse(value)?.rows));
    }
    let Some(run) = SIZE_LIMITS
        .iter()
        .find_map(|&limit| find_run(&blocks, limit))
    else {
        return Ok(None);
    };
    let batches = run
        .clone()
        .map(|index| {
            let block = read_block(
                chunk.keys.get(index),
                chunk.values.get(index),
                0,
                schema,
                None,
            )?;
            block
                .map(|block| block.batch)
                .ok_or_else(|| StateError::Corrupt("a block has no rows".to_string()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let value = encode_block(&concat_batches(schema, &batches)?)?;
    Ok(Some(MergedBlock {
        replaced: blocks[run].to_vec(),
        value,
    }))
}

/// The first run of adjacent blocks below `limit` rows that is long enough.
fn find_run(blocks: &[(u64, usize)], limit: usize) -> Option<std::ops::Range<usize>> {
    let mut start = 0;
    let mut rows = 0;
    for (index, &(ordinal, count)) in blocks.iter().enumerate() {
        let is_adjacent =
            index > start && blocks[index - 1].0 + blocks[index - 1].1 as u64 == ordinal;
        let fits = count < limit && rows + count <= MAX_BLOCK_ROWS;
        if index > start && !(is_adjacent && fits) {
            if index - start >= MIN_RUN {
                return Some(start..index);
            }
            start = index;
            rows = 0;
        }
        if count >= limit {
            start = index + 1;
            rows = 0;
        } else {
            rows += count;
        }
    }
    (blocks.len().saturating_sub(start) >= MIN_RUN).then_some(start..blocks.len())
}

impl BlockTable {
    /// Replaces the merged blocks in this epoch. False, and nothing done, if they are no longer what was merged.
    pub fn apply_merge(&mut self, merged: &MergedBlock) -> Result<bool, StateError> {
        let keys: Vec<[u8; 8]> = merged
            .replaced
            .iter()
            .map(|(ordinal, _)| ordinal.to_be_bytes())
            .collect();
        let asked: Keys = keys.iter().map(<[u8; 8]>::as_slice).collect();
        let values = self.table.get_many(&asked)?;
        for (value, &(_, rows)) in values.iter().zip(&merged.replaced) {
            match value {
                Some(value) if Header::parse(value)?.rows == rows => {}
                _ => return Ok(false),
            }
        }
        keys.iter().for_each(|key| self.table.delete(key));
        self.table.put(&keys[0], &merged.value);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_adjacent_small_and_long_enough() {
        let blocks = |sizes: &[usize]| {
            let mut ordinal = 0;
            let place = |&rows: &usize| {
                ordinal += rows as u64;
                (ordinal - rows as u64, rows)
            };
            sizes.iter().map(place).collect::<Vec<_>>()
        };
        assert_eq!(find_run(&blocks(&[1; 15]), 16), None);
        assert_eq!(find_run(&blocks(&[1; 20]), 16), Some(0..20));
        let mixed = [&[100][..], &[1; 16], &[100], &[2; 3]].concat();
        assert_eq!(find_run(&blocks(&mixed), 16), Some(1..17));
        assert_eq!(find_run(&blocks(&mixed), 256), Some(0..21));
        assert_eq!(find_run(&blocks(&[4000; 30]), 4096), Some(0..16));
        let mut gap = blocks(&[1; 30]);
        gap[15..].iter_mut().for_each(|block| block.0 += 5);
        assert_eq!(find_run(&gap, 16), None);
        gap.extend((0..16).map(|n| (100 + n, 1)));
        assert_eq!(find_run(&gap, 16), Some(30..46));
    }
}
