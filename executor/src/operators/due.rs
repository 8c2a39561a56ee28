//! Rows of groups in the order of their times, for operators that forget, by a watermark, what lies before in its own group.
//!
//! A row that comes for a time that was passed is left out and counted. That is decided by the time alone, never by what is
//! there.
//!
//! ```text
//! due:  | time, 8 bytes in the order of times | port | group | rest of the row's key |  ->  | bytes of the group, 4 bytes BE |
//! ```

use super::ordered_rows::{
    Change, GroupChanges, PRESENT, Pushed, changes, time_bytes, time_of_bytes,
};
use super::passed::Passed;
use crate::error::{ExecutorError, Result};
use crate::pieces::most_rows;
use crate::state::{KeyRange, Keys, StateTable};

/// Rows that are taken together.
const TAKEN_AT_ONCE: usize = 1024;
/// Bytes of an entry's key before those of the row.
const HEAD: usize = 9;

/// See the module text. The rows, whose order begins with a timestamp, are their owner's.
pub struct Due {
    /// Of the order.
    is_descending: bool,
    due: StateTable,
    passed: Passed,
    dropped: u64,
}

/// A row whose time was passed.
pub struct DueRow<'a> {
    pub port: usize,
    pub group: &'a [u8],
    /// The key without the group.
    pub key: &'a [u8],
}

impl Due {
    /// `tables`: due, passed.
    pub fn new(is_descending: bool, [due, passed]: [StateTable; 2]) -> Self {
        Due {
            is_descending,
            due,
            passed: Passed::new(passed),
            dropped: 0,
        }
    }

    /// What an epoch changed, without rows that come for what was passed.
    pub fn changes(
        &mut self,
        pushed: &[Pushed],
        rows: &mut StateTable,
    ) -> Result<Vec<GroupChanges>> {
        let passed = self.passed.get()?;
        let mut dropped = 0;
        let groups = changes(pushed, rows, |_, rest, _| {
            let is_over = self.time_of(rest).is_some_and(|time| Some(time) < passed);
            dropped += u64::from(is_over);
            !is_over
        })?;
        self.dropped += dropped;
        Ok(groups)
    }

    /// Takes note of a row that comes or goes.
    pub fn note(&mut self, port: usize, group: &[u8], change: &Change) {
        let Some(time) = self.time_of(&change.key) else {
            return;
        };
        let key = || [&time_bytes(time)[..], &[port as u8], group, &change.key].concat();
        match (change.before > 0, change.after > 0) {
            (false, true) => {
                let group_len = (group.len() as u32).to_be_bytes();
                self.due.put(&key(), &group_len);
            }
            (true, false) => self.due.delete(&key()),
            _ => {}
        }
    }

    /// Gives each row whose time is before `bound`, in the order of times. It is not due any more.
    pub fn advance(
        &mut self,
        bound: Option<i64>,
        take: &mut dyn FnMut(DueRow<'_>) -> Result<()>,
    ) -> Result<()> {
        let passed = self.passed.get()?;
        let Some(bound) = bound.filter(|bound| Some(*bound) > passed) else {
            return Ok(());
        };
        let mut from = passed.map_or(Vec::new(), |passed| time_bytes(passed).to_vec());
        loop {
            let mut due = Keys::new();
            let mut group_lens = Vec::new();
            let range = KeyRange::new(from, Some(time_bytes(bound).to_vec()));
            let mut entries = self.due.scan(&range)?;
            while due.len() < most_rows(TAKEN_AT_ONCE) && entries.advance()? {
                due.push(entries.key());
                group_lens.push(group_len_of(entries.value())?);
            }
            drop(entries);
            if due.is_empty() {
                break;
            }
            from = [due.get(due.len() - 1), &[0]].concat();
            for (entry, group_len) in due.iter().zip(group_lens) {
                self.due.delete(entry);
                take(row_of(entry, group_len)?)?;
            }
        }
        self.passed.set(bound);
        Ok(())
    }

    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    pub fn tables(&mut self) -> [&mut StateTable; 2] {
        [&mut self.due, self.passed.table()]
    }

    pub fn discard(&mut self) {
        self.due.discard();
        self.passed.discard();
    }

    /// The time that an order begins with; `None`: it is NULL.
    fn time_of(&self, order: &[u8]) -> Option<i64> {
        match order {
            [PRESENT, rest @ ..] => {
                let bytes = *rest.first_chunk::<8>()?;
                Some(match self.is_descending {
                    true => time_of_bytes(bytes.map(|byte| !byte)),
                    false => time_of_bytes(bytes),
                })
            }
            _ => None,
        }
    }
}

fn row_of(entry: &[u8], group_len: usize) -> Result<DueRow<'_>> {
    let damaged = || ExecutorError::Storage("an entry of due rows is too short".into());
    let (head, row) = entry.split_at_checked(HEAD).ok_or_else(damaged)?;
    let (group, key) = row.split_at_checked(group_len).ok_or_else(damaged)?;
    let port = usize::from(head.last().copied().ok_or_else(damaged)?);
    Ok(DueRow { port, group, key })
}

fn group_len_of(value: &[u8]) -> Result<usize> {
    let damaged = |_| ExecutorError::Storage("an entry of due rows is damaged".into());
    let bytes = <[u8; 4]>::try_from(value).map_err(damaged)?;
    Ok(u32::from_be_bytes(bytes) as usize)
}
