//! Reading stored rows from a snapshot, a batch at a time: ranges, single keys, blocks, and what an index leads to.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::{SortOptions, concat_batches};
use arrow::datatypes::SchemaRef;
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
pub const BATCH_BYTES: usize = 4 << 20;
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
    /// The columns that are read; `None`: all of them.
    pub projection: Option<Vec<usize>>,
    /// Of what is read.
    pub schema: SchemaRef,
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
        let ranges = |table, ranges| RangeReader::new(&source.store, table, ranges);
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
                let rows =
                    |chunk: ScanChunk| source.decode(chunk.keys.iter().zip(chunk.values.iter()));
                chunk.map(rows).transpose()
            }
            State::Points { keys, next, batch } => {
                let end = keys.len().min(*next + *batch);
                if *next == end {
                    return Ok(None);
                }
                let wanted: Keys = (*next..end).map(|i| keys.get(i)).collect();
                *next = end;
                let (rows, _) = source.look_up(&wanted, batch)?;
                Ok(Some(rows))
            }
            State::Blocks(blocks) => {
                let block = blocks.next_block()?;
                block.map(|block| source.project(block.batch)).transpose()
            }
            State::Index { entries, batch } => {
                let locators = entries.next_locators(*batch, BATCH_BYTES)?;
                match locators.is_empty() {
                    true => Ok(None),
                    false => source.led_to(&locators, batch).map(Some),
                }
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

    /// The columns that are read of whole rows.
    pub fn project(&self, rows: RecordBatch) -> Result<RecordBatch> {
        match &self.projection {
            Some(wanted) => Ok(rows.project(wanted)?),
            None => Ok(rows),
        }
    }

    /// Rows of stored entries, without those that the transaction itself has taken away.
    fn decode<'a>(
        &self,
        entries: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> Result<RecordBatch> {
        match (&self.own, &self.projection) {
            (Some(own), _) => self.project(own.left_of(entries)?),
            (None, Some(wanted)) => self.format.decode_some(entries, wanted, &self.schema),
            (None, None) => self.format.decode(entries),
        }
    }

    /// The rows that are stored under `keys`, and how many keys have none. `batch` becomes how many to look up next.
    fn look_up(&self, keys: &Keys, batch: &mut usize) -> Result<(RecordBatch, usize)> {
        let values = self.store.get_near(ROWS_FAMILY, self.format.table, keys)?;
        let stored = || {
            let pairs = keys.iter().zip(values.iter());
            pairs.filter_map(|(key, value)| Some((key, value?)))
        };
        let (mut found, mut bytes) = (0, 0);
        stored().for_each(|(key, value)| {
            found += 1;
            bytes += key.len() + value.len();
        });
        let fitting = BATCH_BYTES / (bytes / found.max(1)).max(1);
        *batch = fitting.clamp(LEAST_LOOKUPS, BATCH_ENTRIES);
        Ok((self.decode(stored())?, keys.len() - found))
    }

    /// Rows that index entries with these locators lead to.
    fn led_to(&self, locators: &Keys, batch: &mut usize) -> Result<RecordBatch> {
        let RowLayout::Log = self.format.layout else {
            return match self.look_up(locators, batch)? {
                (rows, 0) => Ok(rows),
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
        self.project(concat_batches(schema, &batches)?)
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
pub struct RangeReader {
    store: StoreSnapshot,
    table: TableId,
    ranges: VecDeque<KeyRange>,
    current: Option<SnapshotScan>,
}

impl RangeReader {
    pub fn new(store: &StoreSnapshot, table: TableId, ranges: Vec<KeyRange>) -> Self {
        RangeReader {
            store: store.clone(),
            table,
            ranges: ranges.into(),
            current: None,
        }
    }

    /// At most `max_rows` entries, and no more after `max_bytes` bytes; `None` at the end.
    pub fn next_chunk(&mut self, max_rows: usize, max_bytes: usize) -> Result<Option<ScanChunk>> {
        let mut chunk = ScanChunk::default();
        self.visit(max_rows, max_bytes, |key, value| {
            chunk.keys.push(key);
            chunk.values.push(value);
            Ok(())
        })?;
        Ok((!chunk.keys.is_empty()).then_some(chunk))
    }

    /// The locators in `max_entries` entries of an index, fewer after `max_bytes` bytes or at the end.
    pub fn next_locators(&mut self, max_entries: usize, max_bytes: usize) -> Result<Keys> {
        let mut locators = Keys::default();
        self.visit(max_entries, max_bytes, |key, value| {
            locators.push(locator(key, value)?);
            Ok(())
        })?;
        Ok(locators)
    }

    /// Whether all entries have been read. Not known behind the last one until it was asked for more.
    pub fn is_at_end(&self) -> bool {
        self.current.is_none() && self.ranges.is_empty()
    }

    /// Hands `max_rows` entries to `take`, fewer after `max_bytes` bytes or at the end.
    fn visit(
        &mut self,
        max_rows: usize,
        max_bytes: usize,
        mut take: impl FnMut(&[u8], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let (mut rows, mut bytes) = (0, 0);
        while rows < max_rows && bytes < max_bytes {
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
            let found = scan.visit_chunk(max_rows - rows, max_bytes - bytes, |key, value| {
                bytes += key.len() + value.len();
                take(key, value)
            })?;
            rows += found;
            if found == 0 {
                self.current = None;
            }
        }
        Ok(())
    }
}
