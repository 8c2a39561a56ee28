//! A relation's change within an epoch, as it goes on to the views that read the relation: one delta, or, if that
//! would be too large, spooled to the epoch's temporary files and read back in pieces.
//!
//! A spooled change is consolidated like one in memory: every row comes once, in the order of storage keys, and rows
//! with the same storage key are in the same piece, so that each piece is a change in its own right.
//!
//! ```text
//! spooled bytes:   | storage key | row (RowCodec) | bytes of the storage key, u32 BE |  ->  weight
//!                  a bag has no storage key apart from the row; for blocks it is a running number, so that all rows
//!                  stay and keep their order
//! ```

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::consolidate::consolidate;
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::rows::{RowFormat, RowLayout};
use crate::state::{Keys, Spill, Store, WeightScan};

/// Rows of a piece, but for those with the same storage key as its last.
const PIECE_ROWS: usize = 8192;
/// A piece is also full with so many bytes.
const PIECE_BYTES: usize = 4 << 20;

/// What changed in a relation; see the module.
#[derive(Clone)]
pub enum RelationChange {
    Delta(Delta),
    Spooled(Arc<SpooledDelta>),
}

impl RelationChange {
    pub fn is_empty(&self) -> bool {
        match self {
            RelationChange::Delta(delta) => delta.is_empty(),
            RelationChange::Spooled(_) => false,
        }
    }

    /// Bytes in memory, about.
    pub fn memory(&self) -> usize {
        match self {
            RelationChange::Delta(delta) => delta.memory(),
            RelationChange::Spooled(_) => 0,
        }
    }
}

/// A consolidated change on disk.
pub struct SpooledDelta {
    spill: Arc<Spill>,
    spool: u32,
    format: Arc<RowFormat>,
}

/// Some rows of a spooled change, encoded as they are stored.
#[derive(Default)]
pub struct EncodedPiece {
    /// Of blocks: meaningless.
    pub storage_keys: Keys,
    pub rows: Keys,
    pub weights: Vec<i64>,
}

impl SpooledDelta {
    /// Reads it from the start.
    pub fn pieces(&self) -> Pieces<'_> {
        Pieces {
            delta: self,
            scan: self.spill.weights(self.spool),
            next: None,
        }
    }

    /// Hands over the change piece by piece; with `up_to` only rows with storage keys up to that one.
    pub fn for_each(
        &self,
        up_to: Option<&[u8]>,
        take: &mut dyn FnMut(Delta) -> Result<()>,
    ) -> Result<()> {
        let mut pieces = self.pieces();
        while let Some(mut piece) = pieces.next_piece()? {
            let is_beyond = |key: &[u8]| up_to.is_some_and(|up_to| key > up_to);
            let count = piece
                .storage_keys
                .iter()
                .position(is_beyond)
                .unwrap_or(piece.weights.len());
            if count == 0 {
                break;
            }
            piece.weights.truncate(count);
            take(self.decode(&piece)?)?;
        }
        Ok(())
    }

    /// The rows of a piece that have weights.
    pub fn decode(&self, piece: &EncodedPiece) -> Result<Delta> {
        let rows = piece.rows.iter().take(piece.weights.len());
        let columns = self.format.rows.decode(rows)?;
        let batch = self.format.batch(columns)?;
        let is_plain = piece.weights.iter().all(|weight| *weight == 1);
        let weights = (!is_plain).then(|| piece.weights.clone().into());
        Ok(Delta::new(batch, weights))
    }
}

/// A spooled change being read.
pub struct Pieces<'a> {
    delta: &'a SpooledDelta,
    scan: WeightScan,
    /// The entry behind the last piece.
    next: Option<(Vec<u8>, i64)>,
}

impl Pieces<'_> {
    /// The next rows in the order of their storage keys; `None` at the end.
    pub fn next_piece(&mut self) -> Result<Option<EncodedPiece>> {
        let mut piece = EncodedPiece::default();
        let is_bag = self.delta.format.is_stored_by_row();
        if let Some((bytes, weight)) = self.next.take() {
            piece.push(&bytes, weight, is_bag)?;
        }
        while let Some((bytes, weight)) = self.scan.advance()? {
            if piece.is_full() && piece.last_key() != split(bytes)?.0 {
                self.next = Some((bytes.to_vec(), weight));
                break;
            }
            piece.push(bytes, weight, is_bag)?;
        }
        Ok((!piece.weights.is_empty()).then_some(piece))
    }
}

impl EncodedPiece {
    fn is_full(&self) -> bool {
        self.weights.len() >= PIECE_ROWS || self.rows.data_len() >= PIECE_BYTES
    }

    fn last_key(&self) -> &[u8] {
        match self.storage_keys.len() {
            0 => &[],
            count => self.storage_keys.get(count - 1),
        }
    }

    fn push(&mut self, bytes: &[u8], weight: i64, is_bag: bool) -> Result<()> {
        let (key, row) = split(bytes)?;
        self.storage_keys.push(if is_bag { row } else { key });
        self.rows.push(row);
        self.weights.push(weight);
        Ok(())
    }
}

/// Storage key and row.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let parts = bytes
        .split_last_chunk()
        .and_then(|(rest, len)| rest.split_at_checked(u32::from_be_bytes(*len) as usize));
    parts.ok_or_else(|| ExecutorError::Internal("a spooled row is too short".to_string()))
}

/// Takes a view's output of an epoch, piece by piece, and makes one change of it.
pub struct ChangeBuilder<'a> {
    store: &'a Store,
    format: Arc<RowFormat>,
    /// Bytes to hold in memory at most, about.
    limit: usize,
    held: Vec<Delta>,
    held_bytes: usize,
    spooling: Option<Spooling>,
}

/// What no longer fits in memory.
struct Spooling {
    delta: SpooledDelta,
    keys: Keys,
    weights: Vec<i64>,
    /// Rows so far.
    number: u64,
}

impl<'a> ChangeBuilder<'a> {
    pub fn new(store: &'a Store, format: Arc<RowFormat>, limit: usize) -> Self {
        ChangeBuilder {
            store,
            format,
            limit,
            held: Vec::new(),
            held_bytes: 0,
            spooling: None,
        }
    }

    pub fn push(&mut self, delta: Delta) -> Result<()> {
        if delta.is_empty() {
            return Ok(());
        }
        if let Some(spooling) = &mut self.spooling {
            return spooling.push(&delta, self.limit);
        }
        self.held_bytes += delta.memory();
        self.held.push(delta);
        // A row without columns has no bytes, and can not be spooled either.
        if self.held_bytes > self.limit && !self.format.schema.fields().is_empty() {
            let spill = self.store.spill()?;
            let mut spooling = Spooling {
                delta: SpooledDelta {
                    spool: spill.new_spool(),
                    spill,
                    format: self.format.clone(),
                },
                keys: Keys::new(),
                weights: Vec::new(),
                number: 0,
            };
            for delta in self.held.drain(..) {
                spooling.push(&delta, self.limit)?;
            }
            self.spooling = Some(spooling);
        }
        Ok(())
    }

    /// All that was pushed, consolidated.
    pub fn finish(self) -> Result<RelationChange> {
        if let Some(mut spooling) = self.spooling {
            spooling.write()?;
            return Ok(RelationChange::Spooled(Arc::new(spooling.delta)));
        }
        Ok(RelationChange::Delta(whole(
            self.format.schema.clone(),
            &self.held,
        )?))
    }
}

fn whole(schema: SchemaRef, deltas: &[Delta]) -> Result<Delta> {
    if deltas.is_empty() {
        return Ok(Delta::empty(schema));
    }
    let whole = Delta::concat(schema, deltas)?;
    // Without weights nothing can cancel.
    match whole.weights() {
        None => Ok(whole),
        Some(_) => consolidate(whole),
    }
}

impl Spooling {
    fn push(&mut self, delta: &Delta, limit: usize) -> Result<()> {
        for offset in (0..delta.num_rows()).step_by(PIECE_ROWS) {
            let length = PIECE_ROWS.min(delta.num_rows() - offset);
            self.encode(&delta.slice(offset, length))?;
            if self.keys.data_len() + self.weights.len() * 24 > limit {
                self.write()?;
            }
        }
        Ok(())
    }

    fn encode(&mut self, delta: &Delta) -> Result<()> {
        let format = &self.delta.format;
        let rows = format.rows.encode(delta.columns())?;
        let storage_keys = match &format.layout {
            RowLayout::Bag if format.is_stored_by_row() => None,
            RowLayout::Keyed(_) | RowLayout::Bag => Some(format.storage_keys(delta.columns())?),
            RowLayout::Log => None,
        };
        for row in 0..delta.num_rows() {
            let number = self.number.to_be_bytes();
            let key = match (&storage_keys, &format.layout) {
                (Some(keys), _) => keys.get(row),
                (None, RowLayout::Log) => &number[..],
                (None, RowLayout::Keyed(_) | RowLayout::Bag) => &[],
            };
            self.keys.push_with(|out| {
                out.extend_from_slice(key);
                out.extend_from_slice(rows.get(row));
                out.extend_from_slice(&(key.len() as u32).to_be_bytes());
            });
            self.weights.push(delta.weight(row));
            self.number += 1;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        if !self.weights.is_empty() {
            let SpooledDelta { spill, spool, .. } = &self.delta;
            spill.add_weights(*spool, &self.keys, &self.weights)?;
            self.keys.clear();
            self.weights.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{AsArray, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};
    use rivermark_planner::TableId;

    use super::*;
    use crate::state::{MemoryPlan, StoreOptions};

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("k", DataType::Int64, true),
            Field::new("v", DataType::Utf8, true),
        ]))
    }

    /// Rows of the n-th piece of output: what an update of every row gives, and something that cancels.
    fn delta(piece: i64) -> Delta {
        let mut rows: Vec<(i64, String, i64)> = Vec::new();
        for k in piece * 100..piece * 100 + 100 {
            rows.push((k, "new".into(), 1));
            rows.push((k, "old".into(), -1));
            rows.push((k % 7, format!("passing {piece}"), 1));
            rows.push((k % 7, format!("passing {piece}"), -1));
        }
        let batch = RecordBatch::try_new(
            schema(),
            vec![
                Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
                Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.1))),
            ],
        )
        .unwrap();
        let weights: Vec<i64> = rows.iter().map(|r| r.2).collect();
        Delta::new(batch, Some(weights.into()))
    }

    fn counted(deltas: &[Delta]) -> BTreeMap<(i64, String), i64> {
        let mut counts = BTreeMap::new();
        for delta in deltas {
            let keys = delta.columns()[0].as_primitive::<Int64Type>();
            let values = delta.columns()[1].as_string::<i32>();
            for row in 0..delta.num_rows() {
                let entry = (keys.value(row), values.value(row).to_string());
                let before = counts.insert(entry, delta.weight(row));
                assert_eq!(before, None, "a row comes once");
            }
        }
        counts
    }

    #[test]
    fn what_is_spooled_is_what_would_be_in_memory() {
        let directory = tempfile::tempdir().unwrap();
        let memory = MemoryPlan {
            block_cache_bytes: 1 << 20,
            write_buffer_bytes: 1 << 20,
        };
        let store = Store::open(&StoreOptions::new(directory.path(), memory)).unwrap();
        for layout in [RowLayout::Keyed(vec![0]), RowLayout::Bag] {
            let format = Arc::new(RowFormat::new(TableId(7), schema(), layout).unwrap());
            let change = |limit: usize| {
                let mut builder = ChangeBuilder::new(&store, format.clone(), limit);
                // more than a piece, and in no order
                (0..60).for_each(|n| builder.push(delta(n * 37 % 60)).unwrap());
                builder.finish().unwrap()
            };
            let RelationChange::Delta(expected) = change(usize::MAX) else {
                panic!("what fits in memory stays there");
            };
            let expected = counted(&[expected]);
            assert_eq!(expected.len(), 12_000);
            let RelationChange::Spooled(spooled) = change(10_000) else {
                panic!("what does not fit in memory is spooled");
            };
            let mut pieces = Vec::new();
            spooled
                .for_each(None, &mut |piece| {
                    pieces.push(piece);
                    Ok(())
                })
                .unwrap();
            assert_eq!(pieces.len(), 2);
            assert_eq!(counted(&pieces), expected);
            if format.layout != RowLayout::Bag {
                let keys = format.storage_keys(pieces[1].columns()).unwrap();
                assert_eq!(keys.get(0), keys.get(1), "rows of one key stay together");
                let up_to = keys.get(1).to_vec();
                let mut count = 0;
                spooled
                    .for_each(Some(&up_to), &mut |piece| {
                        count += piece.num_rows();
                        Ok(())
                    })
                    .unwrap();
                assert_eq!(count, pieces[0].num_rows() + 2);
            }
        }
    }

    #[test]
    fn appended_rows_keep_their_order_and_number() {
        let directory = tempfile::tempdir().unwrap();
        let memory = MemoryPlan {
            block_cache_bytes: 1 << 20,
            write_buffer_bytes: 1 << 20,
        };
        let store = Store::open(&StoreOptions::new(directory.path(), memory)).unwrap();
        let format = RowFormat::new(TableId(7), schema(), RowLayout::Log).unwrap();
        let mut builder = ChangeBuilder::new(&store, Arc::new(format), 1000);
        let mut expected = Vec::new();
        for n in 0..100i64 {
            let keys = Int64Array::from_iter_values((0..10).map(|k| (n * 7 + k) % 5));
            expected.extend(keys.values().iter().copied());
            let values = StringArray::from(vec!["same"; 10]);
            let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(keys), Arc::new(values)];
            let batch = RecordBatch::try_new(schema(), columns).unwrap();
            builder.push(Delta::insertions(batch)).unwrap();
        }
        let RelationChange::Spooled(spooled) = builder.finish().unwrap() else {
            panic!("what does not fit in memory is spooled");
        };
        let mut found: Vec<i64> = Vec::new();
        spooled
            .for_each(None, &mut |piece| {
                assert!(piece.weights().is_none());
                found.extend(piece.columns()[0].as_primitive::<Int64Type>().values());
                Ok(())
            })
            .unwrap();
        assert_eq!(found, expected);
    }
}
