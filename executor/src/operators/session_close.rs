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

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use rivermark_planner::plan::{BoundExpr, SessionBound};

use super::ordered_rows::{Pushed, RowOrder, write};
use super::session::{Output, Shown};
use super::session_open::{OpenSessions, take_rows};
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::operator::{Emit, EpochContext, Operator};
use crate::pieces::most_rows;
use crate::state::StateTable;
use crate::watermark::Watermarks;

/// Output rows are handed on in pieces of about so many.
const PIECE_ROWS: usize = 8192;
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
    open: OpenSessions,
    pushed: Vec<Pushed>,
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
            open: OpenSessions::new(gap_us, [open, due, passed]),
            pushed: Vec::new(),
        })
    }
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
        let groups = self.open.changes(&pushed, &mut self.rows)?;
        for group in &groups {
            for change in &group.rows {
                write(&mut self.rows, &group.group, change);
            }
        }
        self.open.add(&groups)?;
        Ok(Vec::new())
    }

    fn advance(
        &mut self,
        _inputs: &[Watermarks],
        output: &Watermarks,
        context: &mut EpochContext,
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        let (rows, shown, order) = (&mut self.rows, &self.shown, &self.order);
        self.open
            .close(output.get(self.end_column), &mut |sessions| {
                let mut output = Output::default();
                for session in &sessions {
                    take_rows(rows, session, &mut |row, weight| {
                        for _ in 0..weight {
                            output.add(row.to_vec(), Some(session.1), 1);
                        }
                    })?;
                    if output.len() >= most_rows(PIECE_ROWS) {
                        emit(shown.delta(order, std::mem::take(&mut output))?, context)?;
                    }
                }
                match output.len() {
                    0 => Ok(()),
                    _ => emit(shown.delta(order, output)?, context),
                }
            })
    }

    fn take_dropped(&mut self) -> u64 {
        self.open.take_dropped()
    }

    fn held_bytes(&self) -> usize {
        self.pushed.iter().map(Pushed::memory).sum()
    }

    fn state_tables(&mut self) -> Vec<&mut StateTable> {
        let mut tables = vec![&mut self.rows];
        tables.extend(self.open.tables());
        tables
    }

    fn discard(&mut self) {
        self.pushed.clear();
        self.rows.discard();
        self.open.discard();
    }
}
