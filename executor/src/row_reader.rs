//! Reading stored rows from a snapshot, a batch at a time: ranges, single keys, blocks, and what an index leads to.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{SortOptions, concat_batches};
use datafusion::common::ScalarValue;

use crate::access::constraint::Constraint;
use crate::error::{ExecutorError, Result};
use crate::index::{IndexFormat, locator};
use crate::ordered_scan::Wanted;
use crate::own_writes::OwnWrites;
use crate::rows::{ROWS_FAMILY, RowFormat, RowLayout};
use crate::state::{
    BlockFilter, BlockScan, ColumnRange, KeyRange, Keys, ScanChunk, SnapshotScan, StoreSnapshot,
    TableId, read_ordinals, scan_block_range,
};

/// Stored entries decoded at once.
const BATCH_ENTRIES: usize = 8192;
/// Bytes of stored entries decoded at once.
const BATCH_BYTES: usize = 4 << 20;
/// Rows looked up one by one in the first batch, before their size is known.
const FIRST_LOOKUPS: usize = 256;
const LEAST_LOOKUPS: usize = 16;

/// A relation's rows in a snapshot.
pub struct RowSource {
    pub name: String,
    pub format: Arc<RowFormat>,
    /// Those that are complete.
    pub indexes: Arc<[Arc<IndexFormat>]>,
    pub store: StoreSnapshot,
    /// What the reading transaction itself has changed.
    pub own: Option<Arc<OwnWrites>>,
    /// What the query wants of columns, for blocks that say what is in them.
    pub constraints: Vec<(usize, Constraint)>,
}

/// How much is read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    Full,
    /// Little at first, more the longer it goes on.
    Growing,
}

/// What one thread reads of it.
#[derive(Debug, Clone)]
pub enum Part {
    /// Entries with storage keys in these ranges.
    Ranges(Vec<KeyRange>),
    /// Entries with these storage keys.
    Points(Keys),
    /// Blocks with keys in this range.
    Blocks(KeyRange),
    /// Rows that an index's entries in these ranges lead to.
    Index(Arc<IndexFormat>, Vec<KeyRange>),
}

/// A read in progress.
pub struct RowReader {
    source: Arc<RowSource>,
    state: State,
}

enum State {
    Ranges {
        entries: RangeReader,
        batch: usize,
    },
    Points {
        keys: Keys,
        next: usize,
        batch: usize,
    },
    Blocks(BlockScan),
    Index {
        entries: RangeReader,
        batch: usize,
    },
}

impl RowReader {
    pub fn new(source: Arc<RowSource>, part: Part, pace: Pace) -> Self {
        let table = source.format.table;
        let ranges = |table, ranges: Vec<KeyRange>| RangeReader {
            store: source.store.clone(),
            table,
            ranges: ranges.into(),
            current: None,
        };
        let batch = FIRST_LOOKUPS;
        let state = match part {
            Part::Ranges(list) => State::Ranges {
                entries: ranges(table, list),
                batch: match pace {
                    Pace::Full => BATCH_ENTRIES,
                    Pace::Growing => FIRST_LOOKUPS,
                },
            },
            Part::Points(keys) => State::Points {
                keys,
                next: 0,
                batch,
            },
            Part::Blocks(range) => State::Blocks(scan_block_range(
                &source.store,
                (ROWS_FAMILY, table),
                source.format.schema.clone(),
                &range,
                source.block_filter(),
            )),
            Part::Index(index, list) => State::Index {
                entries: ranges(index.table, list),
                batch,
            },
        };
        RowReader { source, state }
    }

    /// The next rows, without those that the transaction itself has taken away; `None` at the end.
    pub fn next(&mut self) -> Result<Option<RecordBatch>> {
        let source = &self.source;
        match &mut self.state {
            State::Ranges { entries, batch } => {
                let chunk = entries.next_chunk(*batch, BATCH_BYTES)?;
                *batch = BATCH_ENTRIES.min(2 * *batch);
                chunk.map(|chunk| source.decode(&chunk)).transpose()
            }
            State::Points { keys, next, batch } => {
                let end = keys.len().min(*next + *batch);
                if *next == end {
                    return Ok(None);
                }
                let wanted: Keys = (*next..end).map(|i| keys.get(i)).collect();
                *next = end;
                let (chunk, _) = source.look_up(&wanted, batch)?;
                source.decode(&chunk).map(Some)
            }
            State::Blocks(blocks) => Ok(blocks.next_block()?.map(|block| block.batch)),
            State::Index { entries, batch } => {
                let Some(chunk) = entries.next_chunk(*batch, BATCH_BYTES)? else {
                    return Ok(None);
                };
                source.led_to(&chunk, batch).map(Some)
            }
        }
    }
}

impl RowSource {
    /// Whether a key gives its rows in this order: its columns behind the pinned ones, in their turn. A pinned column
    /// may stand anywhere in the order. Where no value is NULL it does not matter where NULLs would stand.
    pub fn is_ordered(
        &self,
        wanted: &[Wanted],
        columns: &[usize],
        options: &[SortOptions],
        pinned: usize,
    ) -> bool {
        let (pinned, free) = columns.split_at(pinned.min(columns.len()));
        let mut free = free.iter().zip(&options[pinned.len()..]);
        let mut wanted = wanted.iter().filter(|w| !pinned.contains(&w.column));
        wanted.all(|wanted| {
            let Some((&column, options)) = free.next() else {
                return false;
            };
            let is_nullable = self.format.schema.field(column).is_nullable();
            let has_nulls_there = options.nulls_first == wanted.options.nulls_first;
            column == wanted.column
                && options.descending == wanted.options.descending
                && (has_nulls_there || !is_nullable)
        })
    }

    /// Rows of stored entries, without those that the transaction itself has taken away.
    fn decode(&self, chunk: &ScanChunk) -> Result<RecordBatch> {
        match &self.own {
            Some(own) => own.left_of(chunk),
            None => self
                .format
                .decode(chunk.keys.iter().zip(chunk.values.iter())),
        }
    }

    /// The entries that are stored among `keys`, and how many are not. `batch` becomes how many to look up next.
    fn look_up(&self, keys: &Keys, batch: &mut usize) -> Result<(ScanChunk, usize)> {
        let values = self.store.get_many(ROWS_FAMILY, self.format.table, keys)?;
        let mut chunk = ScanChunk::default();
        for (key, value) in keys.iter().zip(values.iter()) {
            if let Some(value) = value {
                chunk.keys.push(key);
                chunk.values.push(value);
            }
        }
        let found = chunk.keys.len();
        let bytes = chunk.keys.data_len() + chunk.values.data_len();
        let fitting = BATCH_BYTES / (bytes / found.max(1)).max(1);
        *batch = fitting.clamp(LEAST_LOOKUPS, BATCH_ENTRIES);
        Ok((chunk, keys.len() - found))
    }

    /// Rows that index entries lead to.
    fn led_to(&self, entries: &ScanChunk, batch: &mut usize) -> Result<RecordBatch> {
        let mut locators = Keys::with_capacity(entries.keys.len(), entries.keys.data_len());
        for (key, value) in entries.keys.iter().zip(entries.values.iter()) {
            locators.push(locator(key, value)?);
        }
        let RowLayout::Log = self.format.layout else {
            return match self.look_up(&locators, batch)? {
                (chunk, 0) => self.decode(&chunk),
                (_, missing) => Err(ExecutorError::Internal(format!(
                    "{missing} entries of an index of \"{}\" lead to no row",
                    self.name
                ))),
            };
        };
        let ordinal = |locator: &[u8]| {
            let bytes = locator.try_into();
            bytes.map(u64::from_be_bytes).map_err(|_| {
                ExecutorError::Internal("an index entry's ordinal is not 8 bytes".into())
            })
        };
        let mut ordinals: Vec<u64> = locators.iter().map(ordinal).collect::<Result<_>>()?;
        ordinals.sort_unstable();
        let place = (ROWS_FAMILY, self.format.table);
        let schema = &self.format.schema;
        let batches = read_ordinals(&self.store, place, schema, &ordinals)?;
        *batch = BATCH_ENTRIES;
        Ok(concat_batches(schema, &batches)?)
    }

    /// Leaves out blocks that have no value that the query wants.
    fn block_filter(&self) -> Option<BlockFilter> {
        if self.constraints.is_empty() {
            return None;
        }
        let constraints = self.constraints.clone();
        Some(Box::new(move |ranges: &[ColumnRange]| {
            constraints.iter().all(|(column, constraint)| {
                let range = ranges.iter().find(|range| range.column == *column);
                range.is_none_or(|range| may_hold(range, constraint))
            })
        }))
    }
}

/// Whether a block with these values (and perhaps NULLs) may have a row that the constraint leaves.
fn may_hold(range: &ColumnRange, constraint: &Constraint) -> bool {
    let is_below = |a: &ScalarValue, b: &ScalarValue| a.partial_cmp(b).is_some_and(|o| o.is_lt());
    match constraint {
        Constraint::Points(points) => points.iter().any(|point| {
            point.is_null() || !(is_below(point, &range.min) || is_below(&range.max, point))
        }),
        Constraint::Range { lower, upper } => {
            let is_under = lower
                .as_ref()
                .is_some_and(|bound| is_below(&range.max, &bound.value));
            let is_over = upper
                .as_ref()
                .is_some_and(|bound| is_below(&bound.value, &range.min));
            !(is_under || is_over)
        }
    }
}

/// Entries of several ranges, one after the other.
struct RangeReader {
    store: StoreSnapshot,
    table: TableId,
    ranges: VecDeque<KeyRange>,
    current: Option<SnapshotScan>,
}

impl RangeReader {
    /// At most `max_rows` entries, and no more after `max_bytes` bytes; `None` at the end.
    fn next_chunk(&mut self, max_rows: usize, max_bytes: usize) -> Result<Option<ScanChunk>> {
        let mut chunk = ScanChunk::default();
        loop {
            let (rows, bytes) = (
                chunk.keys.len(),
                chunk.keys.data_len() + chunk.values.data_len(),
            );
            if rows >= max_rows || bytes >= max_bytes {
                break;
            }
            let scan = match &mut self.current {
                Some(scan) => scan,
                None => match self.ranges.pop_front() {
                    Some(range) => {
                        let scan = self.store.scan(ROWS_FAMILY, self.table, &range);
                        self.current.insert(scan)
                    }
                    None => break,
                },
            };
            match scan.next_chunk(max_rows - rows, max_bytes - bytes)? {
                None => self.current = None,
                Some(read) if rows == 0 => chunk = read,
                Some(read) => {
                    read.keys.iter().for_each(|key| chunk.keys.push(key));
                    read.values
                        .iter()
                        .for_each(|value| chunk.values.push(value));
                }
            }
        }
        Ok((!chunk.keys.is_empty()).then_some(chunk))
    }
}
