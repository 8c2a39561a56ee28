//! Which sessions are open, so that those that are over are found in the order of their ends, and their rows forgotten.
//!
//! A row that comes for a session that is over is left out and counted: one whose own session would be over, and one that
//! would have been part of a session that is. So the bounds of a session that is over are remembered for as long as a row
//! near it is not over by itself, which is one gap longer.
//!
//! ```text
//! open:  | partition (KeyCodec) |  ->  | first, 8 bytes BE | last, 8 bytes BE | …, by time
//! due:   | end, 8 bytes in the order of times | partition |  ->  nothing; of one that is over: end and gap
//! ```

use super::ordered_rows::{
    GroupChanges, Pushed, changes, order_of_time, scan, time_bytes, time_of_bytes, time_of_order,
};
use super::passed::Passed;
use super::session::Span;
use crate::error::{ExecutorError, Result};
use crate::pieces::most_rows;
use crate::state::{KeyRange, Keys, StateTable};

/// Sessions that are closed together.
const CLOSED_AT_ONCE: usize = 1024;

/// See the module text. The rows themselves are its owner's.
pub(super) struct OpenSessions {
    gap_us: i64,
    open: StateTable,
    due: StateTable,
    passed: Passed,
    dropped: u64,
}

/// A session that is over, and its partition.
pub(super) type Ended = (Vec<u8>, Span);

impl OpenSessions {
    /// `tables`: open, due, passed.
    pub(super) fn new(gap_us: i64, tables: [StateTable; 3]) -> Self {
        let [open, due, passed] = tables;
        OpenSessions {
            gap_us,
            open,
            due,
            passed: Passed::new(passed),
            dropped: 0,
        }
    }

    /// What an epoch changed in `rows`, without rows that have no time or come for what is over.
    pub(super) fn changes(
        &mut self,
        pushed: &[Pushed],
        rows: &mut StateTable,
    ) -> Result<Vec<GroupChanges>> {
        let passed = self.passed.get()?;
        let (mut dropped, mut result) = (0, Ok(()));
        let groups = changes(pushed, rows, |partition, rest, order_len| {
            let Some(time) = time_of_order(&rest[..order_len]) else {
                return false;
            };
            let is_over = match passed {
                Some(passed) if time < passed => self.is_over(partition, time, passed),
                _ => Ok(false),
            };
            let is_over = is_over.unwrap_or_else(|error| {
                result = Err(error);
                true
            });
            dropped += u64::from(is_over);
            !is_over
        })?;
        result?;
        self.dropped += dropped;
        Ok(groups)
    }

    /// Whether a row of this time comes for a session that ended before `passed`.
    fn is_over(&mut self, partition: &[u8], time: i64, passed: i64) -> Result<bool> {
        if time.saturating_add(self.gap_us) < passed {
            return Ok(true);
        }
        let sessions = spans_of(self.open.get(partition)?.as_deref())?;
        let mut over = sessions.iter().filter(|span| self.end_of(**span) < passed);
        Ok(over.any(|span| is_near(span, time, self.gap_us)))
    }

    /// Takes note of new rows.
    pub(super) fn add(&mut self, groups: &[GroupChanges]) -> Result<()> {
        let partitions: Keys = groups.iter().map(|group| group.group.as_slice()).collect();
        let stored = self.open.get_many(&partitions)?;
        for (index, group) in groups.iter().enumerate() {
            let before = spans_of(stored.get(index))?;
            let mut after = before.clone();
            for change in &group.rows {
                if let Some(time) = time_of_order(&change.key[..change.order_len]) {
                    join(&mut after, time, self.gap_us);
                }
            }
            if after != before {
                self.write(&group.group, &before, &after);
            }
        }
        Ok(())
    }

    /// Exclusive; one beyond all times never comes.
    fn end_of(&self, (_, last): Span) -> i64 {
        last.saturating_add(self.gap_us)
    }

    /// Writes which sessions of a partition are open.
    fn write(&mut self, partition: &[u8], before: &[Span], after: &[Span]) {
        let ends = |spans: &[Span]| spans.iter().map(|s| self.end_of(*s)).collect::<Vec<_>>();
        let (old, new) = (ends(before), ends(after));
        for end in old.iter().filter(|end| !new.contains(end)) {
            self.due.delete(&due_key(*end, partition));
        }
        for end in new.iter().filter(|end| !old.contains(end)) {
            self.due.put(&due_key(*end, partition), &[]);
        }
        self.put(partition, after);
    }

    fn put(&mut self, partition: &[u8], spans: &[Span]) {
        if spans.is_empty() {
            self.open.delete(partition);
            return;
        }
        let times = spans.iter().flat_map(|(first, last)| [*first, *last]);
        let value: Vec<u8> = times.flat_map(i64::to_be_bytes).collect();
        self.open.put(partition, &value);
    }

    /// Hands the sessions over that end before `bound`, in the order of their ends, some at a time; they are not open
    /// any more. `take` has to delete their rows.
    pub(super) fn close(
        &mut self,
        bound: Option<i64>,
        take: &mut dyn FnMut(Vec<Ended>) -> Result<()>,
    ) -> Result<()> {
        let passed = self.passed.get()?;
        let Some(bound) = bound.filter(|bound| Some(*bound) > passed) else {
            return Ok(());
        };
        let mut from = passed.map_or(Vec::new(), |passed| time_bytes(passed).to_vec());
        loop {
            let mut due = Keys::new();
            let range = KeyRange::new(from, Some(time_bytes(bound).to_vec()));
            let mut scan = self.due.scan(&range)?;
            while due.len() < most_rows(CLOSED_AT_ONCE) && scan.advance()? {
                due.push(scan.key());
            }
            drop(scan);
            if due.is_empty() {
                break;
            }
            from = [due.get(due.len() - 1), &[0]].concat();
            take(self.take_due(&due, bound)?)?;
        }
        self.passed.set(bound);
        Ok(())
    }

    /// The sessions of entries in `due`. Those that were over before are forgotten.
    fn take_due(&mut self, due: &Keys, bound: i64) -> Result<Vec<Ended>> {
        let mut ended = Vec::new();
        for key in due.iter() {
            let partition = &key[8..];
            self.due.delete(key);
            // A partition may be there more than once.
            let open = spans_of(self.open.get(partition)?.as_deref())?;
            let now = time_of_due(key)?;
            let mut left = Vec::with_capacity(open.len());
            for span in open {
                let end = self.end_of(span);
                let forgotten = end.saturating_add(self.gap_us);
                if end == now {
                    ended.push((partition.to_vec(), span));
                    if forgotten >= bound {
                        self.due.put(&due_key(forgotten, partition), &[]);
                        left.push(span);
                    }
                } else if forgotten > now {
                    left.push(span);
                }
            }
            self.put(partition, &left);
        }
        Ok(ended)
    }

    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    pub(super) fn tables(&mut self) -> [&mut StateTable; 3] {
        [&mut self.open, &mut self.due, self.passed.table()]
    }

    pub(super) fn discard(&mut self) {
        self.open.discard();
        self.due.discard();
        self.passed.discard();
    }
}

/// Deletes the rows of a session that is over; each goes to `visit` with its weight.
pub(super) fn take_rows(
    rows: &mut StateTable,
    (partition, span): &Ended,
    visit: &mut dyn FnMut(&[u8], i64),
) -> Result<()> {
    let mut gone = Keys::new();
    let from = order_of_time(span.0);
    let to = span.1.checked_add(1).map(order_of_time);
    let to = to.as_ref().map(|to| &to[..]);
    let mut found = scan(rows, partition, &from, to, false)?;
    while let Some(stored) = found.next()? {
        gone.push_with(|out| {
            out.extend_from_slice(partition);
            out.extend_from_slice(&stored.key);
        });
        visit(&stored.key[stored.order_len..], stored.weight);
    }
    drop(found);
    gone.iter().for_each(|key| rows.delete(key));
    Ok(())
}

/// Adds a row of this time to the sessions of its partition, which are in order.
fn join(sessions: &mut Vec<Span>, time: i64, gap_us: i64) {
    let mut span = (time, time);
    sessions.retain(|session| {
        let is_joined = is_near(session, time, gap_us);
        if is_joined {
            span = (span.0.min(session.0), span.1.max(session.1));
        }
        !is_joined
    });
    let place = sessions.partition_point(|session| *session < span);
    sessions.insert(place, span);
}

/// Whether a row of this time is part of a session.
fn is_near((first, last): &Span, time: i64, gap_us: i64) -> bool {
    time < last.saturating_add(gap_us) && *first < time.saturating_add(gap_us)
}

fn spans_of(value: Option<&[u8]>) -> Result<Vec<Span>> {
    let damaged = || ExecutorError::Storage("an entry of open sessions is damaged".into());
    let bytes = value.unwrap_or_default();
    let (spans, rest) = bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(damaged());
    }
    let time = |bytes: &[u8]| {
        let bytes = <[u8; 8]>::try_from(bytes).map_err(|_| damaged());
        bytes.map(i64::from_be_bytes)
    };
    spans
        .iter()
        .map(|span| Ok((time(&span[..8])?, time(&span[8..])?)))
        .collect()
}

fn due_key(end: i64, partition: &[u8]) -> Vec<u8> {
    [&time_bytes(end)[..], partition].concat()
}

fn time_of_due(key: &[u8]) -> Result<i64> {
    let bytes = key.first_chunk::<8>();
    let damaged = || ExecutorError::Storage("an entry of due sessions is too short".into());
    Ok(time_of_bytes(*bytes.ok_or_else(damaged)?))
}
