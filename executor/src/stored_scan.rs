//! Batch scans of tables and materialized views: what a query reads of their stored rows.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{ScalarValue, project_schema};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use crate::access::constraint::constraint;
use crate::access::{Access, KeyRanges, choose, constraints, split_or};
use crate::error::{Result, external};
use crate::index::IndexFormat;
use crate::own_writes::OwnWrites;
use crate::row_reader::{BATCH_BYTES, Part, RangeReader, RowSource};
use crate::row_scan::RowScanExec;
use crate::rows::{ROWS_FAMILY, RowFormat, RowLayout};
use crate::state::{KeyRange, StoreSnapshot, end_ordinal, split, split_evenly};

/// Bytes on disk that are worth a thread of their own.
const PART_BYTES: u64 = 4 << 20;
/// Rows of blocks that are worth a thread of their own.
const PART_ROWS: u64 = 256 * 1024;
/// The same for entries of an index, each of which leads to a row.
const INDEX_PART_BYTES: u64 = 256 << 10;
/// Entries of an index that one thread reads as fast as several.
const FEW_ENTRIES: usize = 2048;
/// An index that leads to more than this part of many rows is slower than reading all of them.
const INDEX_SHARE: u64 = 4;

/// The stored rows of a table or view in a snapshot.
pub struct StoredScan {
    pub name: String,
    pub format: Arc<RowFormat>,
    /// Those that are complete.
    pub indexes: Arc<[Arc<IndexFormat>]>,
    pub store: StoreSnapshot,
    /// What the reading transaction itself has changed.
    pub own: Option<Arc<OwnWrites>>,
}

impl fmt::Debug for StoredScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredScan({:?})", self.format.table)
    }
}

#[async_trait]
impl TableProvider for StoredScan {
    fn schema(&self) -> SchemaRef {
        self.format.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Conditions on keys narrow a scan down; the query's own filter follows all the same.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| {
            Ok(match self.is_useful(&without_parameters(filter)?) {
                true => TableProviderFilterPushDown::Inexact,
                false => TableProviderFilterPushDown::Unsupported,
            })
        };
        filters.iter().map(answer).collect()
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let access = self.access(filters).map_err(external)?;
        let threads = session.config().target_partitions();
        let parts = self.parts(&access, threads).map_err(external)?;
        let source = RowSource {
            name: self.name.clone(),
            format: self.format.clone(),
            indexes: self.indexes.clone(),
            store: self.store.clone(),
            own: self.own.clone(),
            projection: projection.cloned(),
            schema: project_schema(&self.format.schema, projection)?,
            constraints: match self.format.layout {
                RowLayout::Log => constraints(filters, &self.format.schema),
                RowLayout::Keyed(_) | RowLayout::Bag => Vec::new(),
            },
        };
        // A limit counts rows that meet the filters.
        let limit = limit.filter(|_| filters.is_empty());
        let scan = RowScanExec::new(Arc::new(source), access, parts, limit);
        Ok(Arc::new(scan))
    }
}

/// The condition with NULL in place of parameters whose values come later.
fn without_parameters(filter: &Expr) -> DataFusionResult<Expr> {
    let filter = filter.clone().transform(|part| match part {
        Expr::Placeholder(_) => {
            let null = Expr::Literal(ScalarValue::Null, None);
            Ok(Transformed::yes(null))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(filter.data)
}

impl StoredScan {
    fn is_useful(&self, filter: &Expr) -> bool {
        let arms = split_or(filter);
        match arms.as_slice() {
            [single] => {
                constraint(single, &self.format.schema).is_some_and(|(c, _)| self.is_in_a_key(c))
            }
            arms => arms.iter().all(|arm| {
                split_conjunction(arm)
                    .into_iter()
                    .any(|c| self.is_useful(c))
            }),
        }
    }

    fn is_in_a_key(&self, column: usize) -> bool {
        let is_stored_by = match &self.format.layout {
            RowLayout::Keyed(key) => key.contains(&column),
            // Blocks know the range of their columns.
            RowLayout::Log => true,
            RowLayout::Bag => false,
        };
        is_stored_by || self.indexes.iter().any(|i| i.columns.contains(&column))
    }

    fn access(&self, filters: &[Expr]) -> Result<Access> {
        let access = choose(&self.format, &self.indexes, filters)?;
        match access {
            Access::Index(index, ranges) if self.is_too_much(&index, &ranges)? => Ok(Access::All),
            access => Ok(access),
        }
    }

    /// Whether going from an index to its rows costs more than reading all rows in order.
    fn is_too_much(&self, index: &IndexFormat, ranges: &KeyRanges) -> Result<bool> {
        let bytes_of = |range: &KeyRange| self.store.disk_bytes(ROWS_FAMILY, index.table, range);
        let all = bytes_of(&KeyRange::all())?;
        if all < PART_BYTES {
            return Ok(false);
        }
        let mut bytes = 0;
        for range in &ranges.ranges {
            bytes += bytes_of(range)?;
            if bytes > all / INDEX_SHARE {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What each of at most `threads` threads reads.
    fn parts(&self, access: &Access, threads: usize) -> Result<Vec<Part>> {
        let place = (ROWS_FAMILY, self.format.table);
        Ok(match access {
            Access::All if self.format.layout == RowLayout::Log => {
                let rows = end_ordinal(&self.store, place)?;
                let parts = (rows / PART_ROWS).clamp(1, threads.max(1) as u64);
                let start = |part: u64| (rows / parts * part).to_be_bytes().to_vec();
                let range = |part: u64| {
                    let from = if part == 0 { Vec::new() } else { start(part) };
                    KeyRange::new(from, (part + 1 < parts).then(|| start(part + 1)))
                };
                (0..parts).map(|part| Part::Blocks(range(part))).collect()
            }
            Access::All => {
                let ranges = split(&self.store, place, &KeyRange::all(), threads, PART_BYTES)?;
                ranges.into_iter().map(|r| Part::Ranges(vec![r])).collect()
            }
            Access::Rows(KeyRanges {
                ranges, are_points, ..
            }) if *are_points => {
                vec![Part::Points(
                    ranges.iter().map(|r| r.from.as_slice()).collect(),
                )]
            }
            Access::Rows(KeyRanges { ranges, .. }) => match ranges.as_slice() {
                [range] => {
                    let ranges = split(&self.store, place, range, threads, PART_BYTES)?;
                    ranges.into_iter().map(|r| Part::Ranges(vec![r])).collect()
                }
                ranges => vec![Part::Ranges(ranges.to_vec())],
            },
            Access::Index(index, ranges) => self.index_parts(index, &ranges.ranges, threads)?,
        })
    }

    /// What each of at most `threads` threads reads by an index. Few entries are not worth a second thread; they have been
    /// read when that is known.
    fn index_parts(
        &self,
        index: &Arc<IndexFormat>,
        ranges: &[KeyRange],
        threads: usize,
    ) -> Result<Vec<Part>> {
        let part = |ranges| Part::Index(index.clone(), ranges);
        if threads < 2 {
            return Ok(vec![part(ranges.to_vec())]);
        }
        // Sizes on disk leave out what came in last, which is what is asked for most.
        let mut entries = RangeReader::new(&self.store, index.table, ranges.to_vec());
        let first = entries.next_locators(FEW_ENTRIES, BATCH_BYTES)?;
        if entries.is_at_end() {
            return Ok(vec![match self.format.layout {
                RowLayout::Log => part(ranges.to_vec()),
                RowLayout::Keyed(_) | RowLayout::Bag => Part::Points(first),
            }]);
        }
        let place = (ROWS_FAMILY, index.table);
        Ok(match ranges {
            [range] => {
                let parts = split(&self.store, place, range, threads, INDEX_PART_BYTES)?;
                let parts = match parts.len() {
                    1 => split_evenly(&self.store, place, range, threads)?,
                    _ => parts,
                };
                parts.into_iter().map(|range| part(vec![range])).collect()
            }
            ranges => {
                let each = ranges.len().div_ceil(threads);
                let each = ranges.chunks(each).map(<[KeyRange]>::to_vec);
                each.map(part).collect()
            }
        })
    }
}
