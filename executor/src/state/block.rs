//! Columnar blocks: append-only relations without a key, such as raw history.
//!
//! Every row has a permanent ordinal, its position in the relation. A block holds the rows of one epoch, or of many
//! once small blocks have been merged; merging keeps ordinals.
//!
//! ```text
//! key:    | table id, partition | ordinal of the first row, u64 BE |
//! value:  | version 1 byte = 1 | rows u32 | length of ranges u32 | ranges | Arrow IPC stream of one batch |
//! ranges: | length of the first row u32 | row of minima | row of maxima |      columns without a range are NULL
//! ```
//! Numbers are little-endian. Ranges are rows (row.rs) of the columns with an exact order: integers, decimals, dates
//! and times. Floats have none: NaN and −0.0 would make a careless comparison skip rows.

mod merge;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::downcast_primitive_array;
use arrow::ipc::MetadataVersion;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use datafusion::common::ScalarValue;

use super::cache::CacheHandle;
use super::error::StateError;
use super::layout::{Family, TableId};
use super::row::RowCodec;
use super::scan::KeyRange;
use super::snapshot::{ScanChunk, SnapshotScan, StoreSnapshot};
use super::store::Store;
use super::table::StateTable;
use super::write_set::WriteSet;

pub use merge::{MergedBlock, prepare_merge};

/// Rows of a block at most.
pub const MAX_BLOCK_ROWS: usize = 65_536;
const BLOCK_VERSION: u8 = 1;
/// Blocks and bytes that a scan of a snapshot holds at once.
const CHUNK_BLOCKS: usize = 16;
const CHUNK_BYTES: usize = 8 << 20;

/// Smallest and largest value of a column in a block, NULLs aside.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnRange {
    /// Index of the column in the relation's schema.
    pub column: usize,
    /// The smallest value.
    pub min: ScalarValue,
    /// The largest value.
    pub max: ScalarValue,
}

/// Rows with consecutive ordinals.
#[derive(Debug, Clone)]
pub struct RowBlock {
    /// Ordinal of the first row.
    pub first_ordinal: u64,
    /// The rows, projected if that was asked for.
    pub batch: RecordBatch,
}

impl RowBlock {
    /// The ordinal behind the last row.
    pub fn end_ordinal(&self) -> u64 {
        self.first_ordinal + self.batch.num_rows() as u64
    }
}

/// The writing side of a relation of blocks, owned by the writer thread.
pub struct BlockTable {
    table: StateTable,
    schema: SchemaRef,
    next_ordinal: u64,
    committed_ordinal: u64,
}

impl BlockTable {
    /// Opens the relation `id`, whose rows have `schema`.
    pub fn new(
        id: TableId,
        family: Family,
        store: Store,
        schema: SchemaRef,
    ) -> Result<Self, StateError> {
        // Blocks are read in order and rarely twice: they do not belong in the cache of hot keys.
        let table = StateTable::new(id, family, store, CacheHandle::new(0));
        let mut scan = table.scan_reverse(&KeyRange::all())?;
        let next_ordinal = match scan.advance()? {
            true => ordinal_of(scan.key())? + Header::parse(scan.value())?.rows as u64,
            false => 0,
        };
        drop(scan);
        Ok(Self {
            table,
            schema,
            next_ordinal,
            committed_ordinal: next_ordinal,
        })
    }

    /// The relation's columns have these names from now on.
    pub fn set_schema(&mut self, schema: SchemaRef) {
        self.schema = schema;
    }

    /// The ordinal that the next row gets, this epoch's rows counted.
    pub fn next_ordinal(&self) -> u64 {
        self.next_ordinal
    }

    /// Appends rows and returns the ordinal of the first one.
    pub fn append(&mut self, batch: &RecordBatch) -> Result<u64, StateError> {
        let first = self.next_ordinal;
        for offset in (0..batch.num_rows()).step_by(MAX_BLOCK_ROWS) {
            let part = batch.slice(offset, MAX_BLOCK_ROWS.min(batch.num_rows() - offset));
            self.table
                .put(&self.next_ordinal.to_be_bytes(), &encode_block(&part)?);
            self.next_ordinal += part.num_rows() as u64;
        }
        Ok(first)
    }

    /// Rows from ordinal `from` on, this epoch's included, until at least `max_rows` are read or the end is reached.
    pub fn read_from(
        &self,
        from: u64,
        max_rows: usize,
        projection: Option<&[usize]>,
    ) -> Result<Vec<RowBlock>, StateError> {
        let mut blocks = Vec::new();
        let mut rows = 0;
        let mut scan = self.table.scan(&KeyRange::new(scan_start(from), None))?;
        while rows < max_rows && scan.advance()? {
            if let Some(block) =
                read_block(scan.key(), scan.value(), from, &self.schema, projection)?
            {
                rows += block.batch.num_rows();
                blocks.push(block);
            }
        }
        Ok(blocks)
    }

    /// Deletes all rows below ordinal `end` (retention).
    pub fn delete_before(&mut self, end: u64) -> Result<(), StateError> {
        let mut scan = self
            .table
            .scan_reverse(&KeyRange::new([], Some(end.to_be_bytes().to_vec())))?;
        let Some(last) = scan
            .advance()?
            .then(|| ordinal_of(scan.key()))
            .transpose()?
        else {
            return Ok(());
        };
        let is_whole = last + Header::parse(scan.value())?.rows as u64 <= end;
        drop(scan);
        let cut = match is_whole {
            true => None,
            false => self.read_from(end, 1, None)?.into_iter().next(),
        };
        self.table
            .delete_range(&KeyRange::new([], Some(end.to_be_bytes().to_vec())))?;
        if let Some(rest) = cut {
            let value = encode_block(&rest.batch)?;
            self.table.put(&rest.first_ordinal.to_be_bytes(), &value);
        }
        if end >= self.next_ordinal {
            // Nothing is left: an empty block, which the next rows replace, keeps ordinals from starting again.
            let empty = encode_block(&RecordBatch::new_empty(self.schema.clone()))?;
            self.table.put(&self.next_ordinal.to_be_bytes(), &empty);
        }
        Ok(())
    }

    /// The table below, for metrics.
    pub fn table(&self) -> &StateTable {
        &self.table
    }

    /// As [`StateTable::set_aside`].
    pub fn set_aside(&mut self) -> Result<(), StateError> {
        self.table.set_aside()
    }

    /// As [`StateTable::drain_into`].
    pub fn drain_into(&mut self, writes: &mut WriteSet) {
        self.table.drain_into(writes);
    }

    /// As [`StateTable::committed`].
    pub fn committed(&mut self) {
        self.table.committed();
        self.committed_ordinal = self.next_ordinal;
    }

    /// As [`StateTable::discard`]: ordinals of discarded rows are given out again.
    pub fn discard(&mut self) {
        self.table.discard();
        self.next_ordinal = self.committed_ordinal;
    }
}

/// Decides by its column ranges whether a block can be left out.
pub type BlockFilter = Box<dyn Fn(&[ColumnRange]) -> bool + Send>;

/// Reads the blocks of a committed epoch in order.
pub struct BlockScan {
    scan: SnapshotScan,
    schema: SchemaRef,
    from: u64,
    projection: Option<Vec<usize>>,
    keep: Option<BlockFilter>,
    chunk: ScanChunk,
    next: usize,
}

/// Reads the relation `id` from ordinal `from` on. Blocks for which `keep` is false are skipped without being
/// decoded.
pub fn scan_blocks(
    snapshot: &StoreSnapshot,
    (family, id): (Family, TableId),
    schema: SchemaRef,
    from: u64,
    projection: Option<Vec<usize>>,
    keep: Option<BlockFilter>,
) -> BlockScan {
    let scan = snapshot.scan(family, id, &KeyRange::new(scan_start(from), None));
    BlockScan {
        scan,
        schema,
        from,
        projection,
        keep,
        chunk: ScanChunk::default(),
        next: 0,
    }
}

/// Reads the blocks whose keys lie in `range`, as [`scan_blocks`].
pub fn scan_block_range(
    snapshot: &StoreSnapshot,
    (family, id): (Family, TableId),
    schema: SchemaRef,
    range: &KeyRange,
    keep: Option<BlockFilter>,
) -> BlockScan {
    BlockScan {
        scan: snapshot.scan(family, id, range),
        schema,
        from: 0,
        projection: None,
        keep,
        chunk: ScanChunk::default(),
        next: 0,
    }
}

/// The ordinal behind the last row.
pub fn end_ordinal(
    snapshot: &StoreSnapshot,
    (family, id): (Family, TableId),
) -> Result<u64, StateError> {
    Ok(match snapshot.last(family, id, &KeyRange::all())? {
        Some((key, value)) => ordinal_of(&key)? + Header::parse(&value)?.rows as u64,
        None => 0,
    })
}

/// The rows with these ordinals, which must be sorted and stored.
pub fn read_ordinals(
    snapshot: &StoreSnapshot,
    (family, id): (Family, TableId),
    schema: &SchemaRef,
    ordinals: &[u64],
) -> Result<Vec<RecordBatch>, StateError> {
    let missing = |ordinal: u64| StateError::Corrupt(format!("row {ordinal} is in no block"));
    let mut batches = Vec::new();
    let mut rest = ordinals;
    while let Some(&ordinal) = rest.first() {
        // The block that starts at or before the row.
        let range = KeyRange::new([], Some([&ordinal.to_be_bytes()[..], &[0]].concat()));
        let (key, value) = snapshot
            .last(family, id, &range)?
            .ok_or_else(|| missing(ordinal))?;
        let block = read_block(&key, &value, 0, schema, None)?.ok_or_else(|| missing(ordinal))?;
        if ordinal >= block.end_ordinal() {
            return Err(missing(ordinal));
        }
        let len = rest.partition_point(|&o| o < block.end_ordinal());
        let (inside, behind) = rest.split_at(len);
        let places: UInt32Array = inside
            .iter()
            .map(|o| Some((o - block.first_ordinal) as u32))
            .collect();
        batches.push(compute::take_record_batch(&block.batch, &places)?);
        rest = behind;
    }
    Ok(batches)
}

impl BlockScan {
    /// The next block, or `None` at the end.
    pub fn next_block(&mut self) -> Result<Option<RowBlock>, StateError> {
        loop {
            while self.next < self.chunk.keys.len() {
                let (key, value) = (
                    self.chunk.keys.get(self.next),
                    self.chunk.values.get(self.next),
                );
                self.next += 1;
                if let Some(keep) = &self.keep
                    && !keep(&Header::parse(value)?.ranges(&self.schema)?)
                {
                    continue;
                }
                let block = read_block(
                    key,
                    value,
                    self.from,
                    &self.schema,
                    self.projection.as_deref(),
                )?;
                if block.is_some() {
                    return Ok(block);
                }
            }
            let Some(chunk) = self.scan.next_chunk(CHUNK_BLOCKS, CHUNK_BYTES)? else {
                return Ok(None);
            };
            self.chunk = chunk;
            self.next = 0;
        }
    }
}

/// The smallest key that a block with ordinal `from` in it can have.
fn scan_start(from: u64) -> [u8; 8] {
    from.saturating_sub(MAX_BLOCK_ROWS as u64 - 1).to_be_bytes()
}

fn ordinal_of(key: &[u8]) -> Result<u64, StateError> {
    let bytes: [u8; 8] = key
        .try_into()
        .map_err(|_| StateError::Corrupt(format!("a block's key has {} bytes", key.len())))?;
    Ok(u64::from_be_bytes(bytes))
}

/// Columns that have ranges.
fn range_columns(schema: &SchemaRef) -> Vec<usize> {
    let has_range = |data_type: &DataType| {
        data_type.is_primitive()
            && !data_type.is_floating()
            && !matches!(data_type, DataType::Interval(_))
    };
    (0..schema.fields().len())
        .filter(|&column| has_range(schema.field(column).data_type()))
        .collect()
}

fn range_codec(schema: &SchemaRef, columns: &[usize]) -> Result<RowCodec, StateError> {
    RowCodec::new(
        columns
            .iter()
            .map(|&column| schema.field(column).data_type().clone())
            .collect(),
    )
}

/// Two rows: the smallest and the largest value.
fn range_of(array: &ArrayRef) -> Result<ArrayRef, StateError> {
    let values: &dyn Array = array.as_ref();
    let places = downcast_primitive_array! {
        values => {
            let (min, max) = (compute::min(values), compute::max(values));
            let place = |wanted| values.iter().position(|value| value == wanted).unwrap_or(0);
            [place(min) as u32, place(max) as u32]
        },
        other => return Err(StateError::Bug(format!("{other} has no range"))),
    };
    Ok(compute::take(
        array,
        &UInt32Array::from(places.to_vec()),
        None,
    )?)
}

fn encode_block(batch: &RecordBatch) -> Result<Vec<u8>, StateError> {
    let columns = if batch.num_rows() == 0 {
        Vec::new()
    } else {
        range_columns(&batch.schema())
    };
    let ranges = columns
        .iter()
        .map(|&column| range_of(batch.column(column)))
        .collect::<Result<Vec<_>, _>>()?;
    let mut out = vec![BLOCK_VERSION];
    out.extend_from_slice(&(batch.num_rows() as u32).to_le_bytes());
    if ranges.is_empty() {
        out.extend_from_slice(&0u32.to_le_bytes());
    } else {
        let rows = range_codec(&batch.schema(), &columns)?.encode(&ranges)?;
        out.extend_from_slice(&(rows.data_len() as u32 + 4).to_le_bytes());
        out.extend_from_slice(&(rows.get(0).len() as u32).to_le_bytes());
        out.extend_from_slice(rows.get(0));
        out.extend_from_slice(rows.get(1));
    }
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?;
    let mut writer = StreamWriter::try_new_with_options(&mut out, &batch.schema(), options)?;
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    Ok(out)
}

/// The parts of a block's value.
struct Header<'a> {
    rows: usize,
    ranges: &'a [u8],
    stream: &'a [u8],
}

impl<'a> Header<'a> {
    fn parse(value: &'a [u8]) -> Result<Self, StateError> {
        let damaged = || StateError::Corrupt("a block has a damaged header".to_string());
        let number = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes) as usize;
        let (&version, rest) = value.split_first().ok_or_else(damaged)?;
        if version != BLOCK_VERSION {
            return Err(StateError::Corrupt(format!(
                "a block has the unknown version {version}"
            )));
        }
        let (rows, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (ranges, stream) = rest.split_at_checked(number(len)).ok_or_else(damaged)?;
        Ok(Self {
            rows: number(rows),
            ranges,
            stream,
        })
    }

    fn ranges(&self, schema: &SchemaRef) -> Result<Vec<ColumnRange>, StateError> {
        let damaged = || StateError::Corrupt("a block has damaged ranges".to_string());
        if self.ranges.is_empty() {
            return Ok(Vec::new());
        }
        let (len, rows) = self.ranges.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (min, max) = rows
            .split_at_checked(u32::from_le_bytes(*len) as usize)
            .ok_or_else(damaged)?;
        let columns = range_columns(schema);
        let arrays = range_codec(schema, &columns)?.decode([min, max].into_iter())?;
        let scalar = |array: &ArrayRef, row| {
            ScalarValue::try_from_array(array, row)
                .map_err(|error| StateError::Bug(error.to_string()))
        };
        columns
            .into_iter()
            .zip(&arrays)
            .filter(|(_, array)| array.is_valid(0))
            .map(|(column, array)| {
                Ok(ColumnRange {
                    column,
                    min: scalar(array, 0)?,
                    max: scalar(array, 1)?,
                })
            })
            .collect()
    }
}

/// The rows of a block from ordinal `from` on; `None` if it ends before.
fn read_block(
    key: &[u8],
    value: &[u8],
    from: u64,
    schema: &SchemaRef,
    projection: Option<&[usize]>,
) -> Result<Option<RowBlock>, StateError> {
    let first_ordinal = ordinal_of(key)?;
    let header = Header::parse(value)?;
    if header.rows == 0 || first_ordinal + header.rows as u64 <= from {
        return Ok(None);
    }
    let mut batch = if projection.is_some_and(<[usize]>::is_empty) {
        let options = RecordBatchOptions::new().with_row_count(Some(header.rows));
        RecordBatch::try_new_with_options(schema.project(&[])?.into(), vec![], &options)?
    } else {
        let mut reader = StreamReader::try_new(header.stream, projection.map(<[usize]>::to_vec))?;
        let batch = reader
            .next()
            .ok_or_else(|| StateError::Corrupt("a block has no batch".to_string()))??;
        // The relation's own names: they may have been altered since the block was written.
        let expected = match projection {
            Some(projection) => schema.project(projection)?.into(),
            None => schema.clone(),
        };
        RecordBatch::try_new(expected, batch.columns().to_vec())?
    };
    let skip = from.saturating_sub(first_ordinal);
    if skip > 0 {
        batch = batch.slice(skip as usize, header.rows - skip as usize);
    }
    Ok(Some(RowBlock {
        first_ordinal: first_ordinal + skip,
        batch,
    }))
}

#[cfg(test)]
mod tests;
