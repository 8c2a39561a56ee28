//! Sessions that are given once, when they are over.
//!
//! Semantics: with w the watermark of the rows' times, `out = { (r, start(s), end(s)) : r in s, each session s with
//!   end(s) ≤ w }`, each session in the epoch in which w reaches its end; sessions are as in `session.rs`. A row that comes
//!   for a session that is over is left out and counted; a row whose time is NULL is in no session; a row of which a key
//!   or the time fails is left out and reported.
//! State: `rows`: (partition, time, row) → weight, the rows of open sessions. `open`: partition → first and last time of
//!   each of its open sessions. `due`: (end, partition), one entry per open session. `passed`: up to where sessions were
//!   given, one entry. All of a session is deleted as it is given.
//! Output: the input's columns, then the bounds, in the order of the sessions' ends; append-only.
//! Watermark: of the end, everything up to the rows' watermark.
//! Cost: per row one sorted read and write; per touched partition and epoch one of its open sessions; per session given
//!   one scan of its rows. How long a session is costs nothing while it is open.
//!
//! ```text
//! open:  | partition (KeyCodec) |  ->  | first, 8 bytes BE | last, 8 bytes BE | …, by time
//! due:   | end, 8 bytes in the order of times | partition |  ->  nothing
//! ```

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use rivermark_planner::plan::{BoundExpr, SessionBound};

use super::ordered_rows::{
    Pushed, RowOrder, changes, order_of_time, scan, time_bytes, time_of_bytes, time_of_order, write,
};
use super::passed::Passed;
use super::session::{Output, Shown, Span};
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::operator::{Emit, EpochContext, Operator};
use crate::pieces::most_rows;
use crate::state::{KeyRange, Keys, StateTable};
use crate::watermark::Watermarks;

/// Output rows are handed on in pieces of about so many.
const PIECE_ROWS: usize = 8192;
/// Sessions that are closed together.
const CLOSED_AT_ONCE: usize = 1024;
const BY_TIME: SortOptions = SortOptions {
    descending: false,
    nulls_first: false,
};

/// See the module text.
pub struct SessionClose {
    order: RowOrder,
    shown: Shown,
    /// Of the sessions' ends in the output.
    end_column: usize,
    rows: StateTable,
    open: StateTable,
    due: StateTable,
    passed: Passed,
    pushed: Vec<Pushed>,
    dropped: u64,
}

impl SessionClose {
    /// `tables`: rows, open, due, passed. `input`: the schema of the input, which is append-only.
    ///
    /// # Errors
    /// If a type can not be stored.
    pub fn new(
        operator_id: u32,
        (partition_by, time): (&[BoundExpr], &BoundExpr),
        gap_us: i64,
        bounds: &[SessionBound],
        input: &SchemaRef,
        schema: SchemaRef,
        tables: Vec<StateTable>,
    ) -> Result<Self> {
        let [rows, open, due, passed] = <[StateTable; 4]>::try_from(tables).map_err(|tables| {
            ExecutorError::Internal(format!("SessionClose was given {} tables", tables.len()))
        })?;
        let end = bounds.iter().position(|b| *b == SessionBound::End);
        let end = end.ok_or_else(|| {
            ExecutorError::Internal("sessions that are given when they are over need an end".into())
        })?;
        let order_by = [(time.clone(), BY_TIME)];
        Ok(SessionClose {
            order: RowOrder::new(operator_id, partition_by, &order_by, input)?,
            shown: Shown {
                schema,
                bounds: bounds.to_vec(),
                gap_us,
            },
            end_column: input.fields().len() + end,
            rows,
            open,
            due,
            passed: Passed::new(passed),
            pushed: Vec::new(),
            dropped: 0,
        })
    }

    /// Exclusive; one beyond all times never comes.
    fn end_of(&self, (_, last): Span) -> i64 {
        last.saturating_add(self.shown.gap_us)
    }

    /// Writes which sessions of a partition are open.
    fn write_open(&mut self, partition: &[u8], before: &[Span], after: &[Span]) {
        let ends = |spans: &[Span]| spans.iter().map(|s| self.end_of(*s)).collect::<Vec<_>>();
        let (old, new) = (ends(before), ends(after));
        for end in old.iter().filter(|end| !new.contains(end)) {
            self.due.delete(&due_key(*end, partition));
        }
        for end in new.iter().filter(|end| !old.contains(end)) {
            self.due.put(&due_key(*end, partition), &[]);
        }
        if after.is_empty() {
            self.open.delete(partition);
            return;
        }
        let times = after.iter().flat_map(|(first, last)| [*first, *last]);
        let value: Vec<u8> = times.flat_map(i64::to_be_bytes).collect();
        self.open.put(partition, &value);
    }

    /// Gives sessions that are over, and forgets them. `due`: their entries, in order.
    fn close(&mut self, due: &Keys, context: &mut EpochContext, emit: &mut Emit<'_>) -> Result<()> {
        let partitions: Keys = due.iter().map(|key| &key[8..]).collect();
        let mut output = Output::default();
        for (key, partition) in due.iter().zip(partitions.iter()) {
            // A partition may be there more than once.
            let open = spans_of(self.open.get(partition)?.as_deref())?;
            let end = time_of_due(key)?;
            let (over, left): (Vec<Span>, Vec<Span>) =
                open.iter().partition(|span| self.end_of(**span) == end);
            for span in over {
                self.take_rows(partition, span, &mut output)?;
            }
            self.write_open(partition, &open, &left);
            if output.len() >= most_rows(PIECE_ROWS) {
                emit(
                    self.shown.delta(&self.order, std::mem::take(&mut output))?,
                    context,
                )?;
            }
        }
        if output.len() > 0 {
            emit(self.shown.delta(&self.order, output)?, context)?;
        }
        Ok(())
    }

    /// Moves the rows of a session to the output.
    fn take_rows(&mut self, partition: &[u8], span: Span, output: &mut Output) -> Result<()> {
        let mut gone = Keys::new();
        let from = order_of_time(span.0);
        let to = span.1.checked_add(1).map(order_of_time);
        let mut found = scan(
            &self.rows,
            partition,
            &from,
            to.as_ref().map(|to| &to[..]),
            false,
        )?;
        while let Some(stored) = found.next()? {
            gone.push_with(|out| {
                out.extend_from_slice(partition);
                out.extend_from_slice(&stored.key);
            });
            let row = &stored.key[stored.order_len..];
            for _ in 0..stored.weight {
                output.add(row.to_vec(), Some(span), 1);
            }
        }
        drop(found);
        gone.iter().for_each(|key| self.rows.delete(key));
        Ok(())
    }
}

/// Adds a row of this time to the sessions of its partition, which are in order.
fn join(sessions: &mut Vec<Span>, time: i64, gap_us: i64) {
    let is_near = |(first, last): &Span| {
        time < last.saturating_add(gap_us) && *first < time.saturating_add(gap_us)
    };
    let mut span = (time, time);
    sessions.retain(|session| {
        let is_joined = is_near(session);
        if is_joined {
            span = (span.0.min(session.0), span.1.max(session.1));
        }
        !is_joined
    });
    let place = sessions.partition_point(|session| *session < span);
    sessions.insert(place, span);
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

impl Operator for SessionClose {
    fn name(&self) -> &'static str {
        "Session"
    }

    fn push(
        &mut self,
        _port: usize,
        delta: Delta,
        context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        if !delta.is_empty() {
            self.order.push(delta, &mut self.pushed, None, context)?;
        }
        Ok(Vec::new())
    }

    fn finish(&mut self, _context: &mut EpochContext) -> Result<Vec<Delta>> {
        let pushed = std::mem::take(&mut self.pushed);
        let (passed, gap_us) = (self.passed.get()?, self.shown.gap_us);
        let mut dropped = 0;
        let groups = changes(&pushed, &mut self.rows, |_, rest, order_len| {
            let Some(time) = time_of_order(&rest[..order_len]) else {
                return false;
            };
            let is_over = passed.is_some_and(|passed| time.saturating_add(gap_us) < passed);
            dropped += u64::from(is_over);
            !is_over
        })?;
        self.dropped += dropped;
        let partitions: Keys = groups.iter().map(|group| group.group.as_slice()).collect();
        let stored = self.open.get_many(&partitions)?;
        for (index, group) in groups.iter().enumerate() {
            let before = spans_of(stored.get(index))?;
            let mut after = before.clone();
            for change in &group.rows {
                write(&mut self.rows, &group.group, change);
                if let Some(time) = time_of_order(&change.key[..change.order_len]) {
                    join(&mut after, time, gap_us);
                }
            }
            if after != before {
                self.write_open(&group.group, &before, &after);
            }
        }
        Ok(Vec::new())
    }

    fn advance(
        &mut self,
        _inputs: &[Watermarks],
        output: &Watermarks,
        context: &mut EpochContext,
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        let passed = self.passed.get()?;
        let bound = output.get(self.end_column);
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
            self.close(&due, context, emit)?;
        }
        self.passed.set(bound);
        Ok(())
    }

    fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn held_bytes(&self) -> usize {
        self.pushed.iter().map(Pushed::memory).sum()
    }

    fn state_tables(&mut self) -> Vec<&mut StateTable> {
        vec![
            &mut self.rows,
            &mut self.open,
            &mut self.due,
            self.passed.table(),
        ]
    }

    fn discard(&mut self) {
        self.pushed.clear();
        self.rows.discard();
        self.open.discard();
        self.due.discard();
        self.passed.discard();
    }
}
