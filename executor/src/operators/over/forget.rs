//! Rows that no window function looks at any more: of those of a partition that the watermark has passed all but the last ones.
//!
//! What comes later stands behind them. It changes the results of so many rows before it as functions look ahead, and these
//! and its own need so many more before as functions look back.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::operators::due::Due;
use crate::operators::ordered_rows::{GroupChanges, Pushed, scan};
use crate::pieces::most_rows;
use crate::state::{Keys, StateTable};
use crate::watermark::Watermarks;

/// Partitions that are looked through together, each once for all of its rows that are due.
const GROUPS_AT_ONCE: usize = 4096;

/// See the module text.
pub struct Forget {
    /// The input's column that the order begins with.
    column: usize,
    /// So many rows of a partition are kept.
    kept: u64,
    due: Due,
}

impl Forget {
    /// `tables`: due, and up to where it is forgotten.
    pub fn new(column: usize, kept: u64, tables: [StateTable; 2]) -> Self {
        Forget {
            column,
            kept,
            due: Due::new(false, tables),
        }
    }

    /// What an epoch changed, without rows that come for what is forgotten.
    pub fn changes(
        &mut self,
        pushed: &[Pushed],
        rows: &mut StateTable,
    ) -> Result<Vec<GroupChanges>> {
        let groups = self.due.changes(pushed, rows)?;
        for group in &groups {
            for change in &group.rows {
                self.due.note(0, &group.group, change);
            }
        }
        Ok(groups)
    }

    /// Forgets what the watermark of the input has passed.
    pub fn advance(&mut self, input: &Watermarks, rows: &mut StateTable) -> Result<()> {
        // The first and the last row of each partition that are passed now.
        let mut last: BTreeMap<Vec<u8>, [Vec<u8>; 2]> = BTreeMap::new();
        let kept = self.kept;
        self.due.advance(input.get(self.column), &mut |row| {
            match last.get_mut(row.group) {
                Some([_, last]) => row.key.clone_into(last),
                None => {
                    last.insert(row.group.to_vec(), [row.key.to_vec(), row.key.to_vec()]);
                }
            }
            match last.len() >= most_rows(GROUPS_AT_ONCE) {
                true => forget_before(rows, std::mem::take(&mut last), kept),
                false => Ok(()),
            }
        })?;
        forget_before(rows, last, kept)
    }

    pub fn take_dropped(&mut self) -> u64 {
        self.due.take_dropped()
    }

    pub fn tables(&mut self) -> [&mut StateTable; 2] {
        self.due.tables()
    }

    pub fn discard(&mut self) {
        self.due.discard();
    }
}

/// Deletes the rows of each partition that come before its last `kept` ones up to the row given. Before the first that is
/// passed now there are not more than were kept: what was deleted before them is not stepped over again.
fn forget_before(
    rows: &mut StateTable,
    passed: BTreeMap<Vec<u8>, [Vec<u8>; 2]>,
    kept: u64,
) -> Result<()> {
    let mut gone = Keys::new();
    for (group, [first, last]) in passed {
        let behind = [last.as_slice(), &[0]].concat();
        let from = if kept == 0 { first.as_slice() } else { &[] };
        let mut stored = scan(rows, &group, from, Some(&behind), true)?;
        let (mut count, mut earlier): (u64, u64) = (0, 0);
        while earlier < kept.max(1)
            && let Some(row) = stored.next()?
        {
            if row.key < first {
                earlier = earlier.saturating_add(row.weight.unsigned_abs());
            }
            if count >= kept {
                gone.push_with(|out| {
                    out.extend_from_slice(&group);
                    out.extend_from_slice(&row.key);
                });
            }
            count = count.saturating_add(row.weight.unsigned_abs());
        }
    }
    gone.iter().for_each(|key| rows.delete(key));
    Ok(())
}
