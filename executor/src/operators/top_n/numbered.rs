//! The first rows of a group with their places, which change for all rows behind a change.

use std::collections::BTreeMap;

use rivermark_planner::plan::Counting;

use crate::error::Result;
use crate::operators::ordered_rows::{Stored, scan};
use crate::state::StateTable;

/// The rows of `group` within the first `most`, in order.
pub fn first_rows(
    group: &[u8],
    most: i64,
    counting: Counting,
    table: &StateTable,
) -> Result<Vec<Stored>> {
    let (mut found, mut counted) = (Vec::<Stored>::new(), 0);
    let mut rows = scan(table, group, &[], None, false)?;
    while let Some(row) = rows.next()? {
        let equals_last = found.last().is_some_and(|last| last.order() == row.order());
        let is_within = match counting {
            Counting::Rows => counted < most,
            Counting::Ties | Counting::Values => counted < most || equals_last,
        };
        if !is_within {
            break;
        }
        counted += match counting {
            Counting::Rows | Counting::Ties => row.weight,
            Counting::Values => i64::from(!equals_last),
        };
        found.push(row);
    }
    Ok(found)
}

/// A row, its place, and how often more it is there than before.
pub type Placed = (Stored, i64, i64);

/// What changed from one list of first rows to another.
pub fn difference(
    before: &[Stored],
    after: &[Stored],
    most: i64,
    counting: Counting,
) -> Vec<Placed> {
    let mut sums: BTreeMap<(&[u8], i64), (&Stored, i64)> = BTreeMap::new();
    for (rows, sign) in [(before, -1), (after, 1)] {
        for (row, place, weight) in places(rows, most, counting) {
            sums.entry((&row.key, place)).or_insert((row, 0)).1 += sign * weight;
        }
    }
    sums.into_iter()
        .filter(|(_, (_, weight))| *weight != 0)
        .map(|((_, place), (row, weight))| (row.clone(), place, weight))
        .collect()
}

/// Each row with its place and how often it has it.
fn places(rows: &[Stored], most: i64, counting: Counting) -> Vec<(&Stored, i64, i64)> {
    let mut placed = Vec::with_capacity(rows.len());
    let (mut counted, mut place) = (0, 0);
    let mut order: Option<&[u8]> = None;
    for row in rows {
        let is_new = order.replace(row.order()) != Some(row.order());
        match counting {
            // Each copy has a place of its own.
            Counting::Rows => {
                let last = (counted + row.weight).min(most);
                placed.extend((counted + 1..=last).map(|place| (row, place, 1)));
            }
            Counting::Ties => {
                place = if is_new { counted + 1 } else { place };
                placed.push((row, place, row.weight));
            }
            Counting::Values => {
                place += i64::from(is_new);
                placed.push((row, place, row.weight));
            }
        }
        counted += row.weight;
    }
    placed
}
