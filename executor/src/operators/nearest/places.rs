//! Where left rows stand among the right rows of their key: both are kept in the order in which right rows are near, so
//! that the first right row at or behind a left row's place is its match.

use std::sync::Arc;

use crate::error::Result;
use crate::operators::ordered_rows::{Change, scan};
use crate::state::{StateTable, prefix_end};

/// A left row's time, as it stands in keys.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a>(&'a [u8]);

/// A right row: its key without the group, and how much of that is the time.
#[derive(Debug, Clone)]
pub struct Found {
    key: Arc<[u8]>,
    order_len: usize,
}

impl PartialEq for Found {
    fn eq(&self, other: &Found) -> bool {
        self.key == other.key
    }
}

impl Found {
    fn of(change: &Change) -> Found {
        Found {
            key: change.key.as_slice().into(),
            order_len: change.order_len,
        }
    }

    /// The row's bytes.
    pub fn row(&self) -> &[u8] {
        &self.key[self.order_len..]
    }
}

impl<'a> Place<'a> {
    pub fn of(order: &'a [u8]) -> Place<'a> {
        Place(order)
    }

    /// The first key that can be the match; `None`: there is none behind this place.
    fn first_key(self, is_strict: bool) -> Option<Vec<u8>> {
        match is_strict {
            false => Some(self.0.to_vec()),
            true => prefix_end(self.0),
        }
    }
}

/// Finds matches for places that come in ascending order, before and after the changes of the right rows, of which
/// nothing is written yet.
pub struct Finder<'a> {
    table: &'a StateTable,
    group: &'a [u8],
    changes: &'a [Change],
    /// Those that come.
    coming: Vec<&'a Change>,
    is_strict: bool,
    old: Answer,
    new: Answer,
    /// Stored rows that were read.
    pub read: u64,
}

/// The last answer: it holds for all places from the one that was asked for up to what was found.
#[derive(Default)]
struct Answer {
    asked: Option<Vec<u8>>,
    found: Option<Found>,
}

impl Answer {
    fn holds_for(&self, first: &[u8]) -> bool {
        let is_behind = self.asked.as_deref().is_some_and(|asked| asked <= first);
        is_behind && self.found.as_ref().is_none_or(|found| first <= &*found.key)
    }
}

impl<'a> Finder<'a> {
    pub fn new(
        table: &'a StateTable,
        group: &'a [u8],
        changes: &'a [Change],
        is_strict: bool,
    ) -> Self {
        Finder {
            table,
            group,
            changes,
            coming: changes.iter().filter(|c| c.before == 0).collect(),
            is_strict,
            old: Answer::default(),
            new: Answer::default(),
            read: 0,
        }
    }

    /// The match of a place before and after.
    pub fn find(&mut self, place: Place<'_>) -> Result<(Option<Found>, Option<Found>)> {
        let Some(first) = place.first_key(self.is_strict) else {
            return Ok((None, None));
        };
        if !self.old.holds_for(&first) {
            self.old.found = self.stored(&first, false)?;
            self.old.asked = Some(first.clone());
        }
        if self.changes.is_empty() {
            return Ok((self.old.found.clone(), self.old.found.clone()));
        }
        if !self.new.holds_for(&first) {
            let stays = match self.old.found.clone() {
                Some(found) if self.goes(&found.key) => self.stored(&first, true)?,
                other => other,
            };
            let next = self
                .coming
                .partition_point(|c| c.key.as_slice() < first.as_slice());
            let comes = self.coming.get(next).map(|change| Found::of(change));
            self.new.found = match (stays, comes) {
                (Some(stays), Some(comes)) if comes.key < stays.key => Some(comes),
                (stays, comes) => stays.or(comes),
            };
            self.new.asked = Some(first);
        }
        Ok((self.old.found.clone(), self.new.found.clone()))
    }

    /// The first stored row from a key on; `that_stays`: of those that do not go.
    fn stored(&mut self, first: &[u8], that_stays: bool) -> Result<Option<Found>> {
        let mut rows = scan(self.table, self.group, first, None, false)?;
        while let Some(row) = rows.next()? {
            self.read += 1;
            if !(that_stays && self.goes(&row.key)) {
                return Ok(Some(Found {
                    key: row.key.into(),
                    order_len: row.order_len,
                }));
            }
        }
        Ok(None)
    }

    fn goes(&self, key: &[u8]) -> bool {
        let place = self.changes.binary_search_by(|c| c.key.as_slice().cmp(key));
        place.is_ok_and(|at| self.changes[at].after == 0)
    }
}

/// Where left rows stand whose match may change, as ranges of their keys, ascending: between a right row that comes or
/// goes and the one before it that stays.
pub fn affected(
    table: &StateTable,
    group: &[u8],
    changes: &[Change],
    is_strict: bool,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    // Behind all left rows that a right row of this time, or one before it, matches.
    let behind = |order: &[u8]| match is_strict {
        false => prefix_end(order).unwrap_or_default(),
        true => order.to_vec(),
    };
    let mut ranges: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut last: Option<&Change> = None;
    let mut done: Vec<u8> = Vec::new();
    for change in changes {
        let order = &change.key[..change.order_len];
        if (change.before > 0) == (change.after > 0) {
            done = behind(order);
            last = Some(change);
            continue;
        }
        let from = last.map_or_else(Vec::new, |last| [&last.key, &[0][..]].concat());
        let mut stored = scan(table, group, &from, Some(&change.key), true)?;
        if let Some(stays) = stored.next()? {
            done = behind(stays.order());
        }
        let to = behind(order);
        match ranges.last_mut() {
            Some(range) if range.1 == done => range.1 = to.clone(),
            _ => ranges.push((done, to.clone())),
        }
        done = to;
        last = Some(change);
    }
    ranges.retain(|(from, to)| from < to);
    Ok(ranges)
}
