//! Which rows of a partition have to be looked at again after a change.
//!
//! With a reach of b rows before and a after, a change touches the results of a rows before it and b rows behind it, and
//! these need b and a more rows around them. So a segment is a run of changed rows with a + b unchanged rows on either
//! side, and changes that are farther apart make segments of their own (a little farther: [`NEAR`]). The whole partition
//! is a segment too.

use std::cmp::Ordering;

use rivermark_planner::plan::Reach;

use crate::error::Result;
use crate::operators::ordered_rows::{Change, GroupChanges, Stored, scan};
use crate::state::TableReader;

/// So many rows more than have to are read on to the next change: to go there anew costs more.
const NEAR: i64 = 8;

/// Rows in order, as they were and as they are.
#[derive(Debug, Default)]
pub struct Segment {
    pub rows: Vec<SegmentRow>,
    /// How many rows at the start, and at the end, only help to compute the others. They are unchanged.
    pub lead: usize,
    pub trail: usize,
    /// Whether all rows within reach of those between lead and trail are here, because the partition goes on at both
    /// ends. Where it does not, what a function gives depends on that.
    pub is_inner: bool,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRow {
    /// RowCodec bytes.
    pub row: Vec<u8>,
    pub before: i64,
    pub after: i64,
}

impl Segment {
    /// Takes so many rows away from the end, all of them unchanged; of a row that is there often, some copies. Says how
    /// many.
    fn cut(&mut self, count: i64) -> i64 {
        let mut rest = count.max(0);
        while rest > 0
            && let Some(last) = self.rows.last_mut()
        {
            if last.after <= rest {
                rest -= last.after;
                self.rows.pop();
            } else {
                last.after -= rest;
                last.before = last.after;
                rest = 0;
            }
        }
        count.max(0) - rest
    }
}

/// The segments of a group, whose changes are written to the table that `table` reads.
pub fn segments(changes: &GroupChanges, reach: Reach, table: &TableReader) -> Result<Vec<Segment>> {
    match reach {
        Reach::Rows { before, after } => local(changes, before, after, table),
        Reach::Before => {
            let first = &changes.rows[0];
            let start = first.key[..first.order_len].to_vec();
            let (mut rows, mut lead) = (Vec::new(), 0);
            let mut merge = Merge::new(changes, 0, &[], table)?;
            while let Some(Merged {
                key,
                order_len,
                row,
                ..
            }) = merge.next()?
            {
                if key[..order_len] < start[..] {
                    lead += row.after as usize;
                }
                rows.push(row);
            }
            Ok(vec![Segment {
                rows,
                lead,
                trail: 0,
                is_inner: false,
            }])
        }
        Reach::Partition => {
            let mut segment = Segment::default();
            let mut merge = Merge::new(changes, 0, &[], table)?;
            while let Some(merged) = merge.next()? {
                segment.rows.push(merged.row);
            }
            Ok(vec![segment])
        }
    }
}

fn local(
    changes: &GroupChanges,
    before: u64,
    after: u64,
    table: &TableReader,
) -> Result<Vec<Segment>> {
    let around = i64::try_from(before.saturating_add(after)).unwrap_or(i64::MAX);
    let mut segments = Vec::new();
    let mut next = 0;
    while let Some(first) = changes.rows.get(next) {
        let mut segment = Segment::default();
        let left = context_before(changes, first, around, table, &mut segment.rows)?;
        segment.lead = (left - after as i64).max(0) as usize;
        let mut right = 0;
        let mut merge = Merge::new(changes, next, &first.key, table)?;
        while let Some(merged) = merge.next()? {
            if merged.is_changed {
                next += 1;
                right = 0;
            } else {
                right += merged.row.after;
            }
            segment.rows.push(merged.row);
            let most = match next < changes.rows.len() {
                true => around.saturating_add(NEAR),
                false => around,
            };
            if right >= most && !merge.is_at_change(next) {
                break;
            }
        }
        right -= segment.cut(right - around);
        segment.is_inner = left == around && right == around;
        segment.trail = (right - before as i64).max(0) as usize;
        segments.push(segment);
    }
    Ok(segments)
}

/// Adds up to `most` unchanged rows before `first`, in order, and says how many there were.
fn context_before(
    changes: &GroupChanges,
    first: &Change,
    most: i64,
    table: &TableReader,
    rows: &mut Vec<SegmentRow>,
) -> Result<i64> {
    let mut count = 0;
    let mut scan = scan(table, &changes.group, &[], Some(&first.key), true)?;
    while count < most {
        let Some(stored) = scan.next()? else {
            break;
        };
        let weight = stored.weight.min(most - count);
        count += weight;
        rows.push(SegmentRow {
            row: stored.key[stored.order_len..].to_vec(),
            before: weight,
            after: weight,
        });
    }
    rows.reverse();
    Ok(count)
}

/// A row that is there, or was before the epoch.
struct Merged {
    key: Vec<u8>,
    order_len: usize,
    row: SegmentRow,
    is_changed: bool,
}

/// The stored rows of a group together with those that the epoch took away.
struct Merge<'a> {
    changes: &'a [Change],
    /// The next change.
    next: usize,
    stored: crate::operators::ordered_rows::GroupScan<'a>,
    /// The next stored row.
    peeked: Option<Stored>,
}

impl<'a> Merge<'a> {
    /// From `from` on, and from the change at `next` on.
    fn new(
        changes: &'a GroupChanges,
        next: usize,
        from: &[u8],
        table: &'a TableReader,
    ) -> Result<Self> {
        let mut stored = scan(table, &changes.group, from, None, false)?;
        let peeked = stored.next()?;
        Ok(Merge {
            changes: &changes.rows,
            next,
            stored,
            peeked,
        })
    }

    /// Whether the change at `index` is what comes next.
    fn is_at_change(&self, index: usize) -> bool {
        let key = self.changes.get(index).map(|change| &change.key);
        match (key, &self.peeked) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(key), Some(stored)) => *key <= stored.key,
        }
    }

    fn next(&mut self) -> Result<Option<Merged>> {
        let change = self.changes.get(self.next);
        let order = match (change, &self.peeked) {
            (None, None) => return Ok(None),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(change), Some(stored)) => change.key.cmp(&stored.key),
        };
        if let Some(change) = change.filter(|_| order.is_le()) {
            self.next += 1;
            if order.is_eq() {
                self.peeked = self.stored.next()?;
            }
            return Ok(Some(Merged {
                key: change.key.clone(),
                order_len: change.order_len,
                row: SegmentRow {
                    row: change.key[change.order_len..].to_vec(),
                    before: change.before,
                    after: change.after,
                },
                is_changed: true,
            }));
        }
        let Some(stored) = self.peeked.take() else {
            return Ok(None);
        };
        self.peeked = self.stored.next()?;
        Ok(Some(Merged {
            order_len: stored.order_len,
            row: SegmentRow {
                row: stored.key[stored.order_len..].to_vec(),
                before: stored.weight,
                after: stored.weight,
            },
            key: stored.key,
            is_changed: false,
        }))
    }
}
