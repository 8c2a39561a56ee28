//! Sessions: rows of a partition that follow one another within less than a gap.
//!
//! Semantics: per partition, in the order of time, a row is of the session of the row before it if less than the gap lies
//!   between them. `out = { (r, start(s), end(s)) : r in s, each session s }`, where a session starts at its first row and
//!   ends, exclusively, a gap after its last one. A row that comes in between merges sessions: what was shown of their
//!   rows is retracted; a retraction can split one. NULL keys are one partition; a row whose time is NULL is in no
//!   session; a row of which a key or the time fails is left out and reported.
//! State: (partition, time, row) → weight, one entry per distinct row of the input. If that is append-only and its time has
//!   a watermark, only those of open sessions, and which these are (`session_open.rs`): a row that comes for a session that is
//!   over is left out and counted then. Where sessions are only wanted when they are over, `session_close.rs` gives them.
//! Output: the input's columns, then the bounds; stream key: the input's; not append-only, since a session grows.
//! Watermark: of the end, everything up to the rows' watermark: a session that has ended by then does not change.
//! Cost: per epoch, reading each touched session once, and emitting all its rows if its bounds have changed.

use arrow::array::{Int64Array, TimestampMicrosecondArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use rivermark_planner::functions::is_one_session;
use rivermark_planner::plan::{BoundExpr, SessionBound};

use super::conform::conform;
use super::ordered_rows::{
    Change, GroupChanges, Pushed, RowOrder, changes, scan, time_of_order, write,
};
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
pub struct Session {
    order: RowOrder,
    shown: Shown,
    rows: StateTable,
    /// If sessions that are over are forgotten: those that are not, and the output's column of their ends.
    open: Option<(OpenSessions, usize)>,
    pushed: Vec<Pushed>,
}

/// A row of a session, as it was or as it is.
struct Member {
    time: i64,
    /// Encoded.
    row: Vec<u8>,
    before: i64,
    after: i64,
}

/// How sessions and their rows become output.
pub(super) struct Shown {
    /// Of the output.
    pub schema: SchemaRef,
    pub bounds: Vec<SessionBound>,
    pub gap_us: i64,
}

/// First and last time of the session of a row.
pub(super) type Span = (i64, i64);

/// Output that is not yet handed on.
#[derive(Default)]
pub(super) struct Output {
    rows: Vec<Vec<u8>>,
    spans: Vec<Span>,
    weights: Vec<i64>,
}

impl Session {
    /// `tables`: rows; and to forget sessions that are over, those of [`OpenSessions`]. `input`: the schema of the input.
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
        mut tables: Vec<StateTable>,
    ) -> Result<Self> {
        if tables.is_empty() {
            return Err(ExecutorError::Internal("Session without a table".into()));
        }
        let rows = tables.remove(0);
        let end = bounds.iter().position(|b| *b == SessionBound::End);
        let end = end.map(|end| input.fields().len() + end);
        let open = <[StateTable; 3]>::try_from(tables).ok().zip(end);
        let order_by = [(time.clone(), BY_TIME)];
        Ok(Session {
            order: RowOrder::new(operator_id, partition_by, &order_by, input)?,
            shown: Shown {
                schema,
                bounds: bounds.to_vec(),
                gap_us,
            },
            rows,
            open: open.map(|(tables, end)| (OpenSessions::new(gap_us, tables), end)),
            pushed: Vec::new(),
        })
    }

    /// What the changes of one partition, which are not yet written, do to its sessions.
    fn change(&self, group: &GroupChanges, output: &mut Output) -> Result<()> {
        let mut rest = group.rows.as_slice();
        while let Some(first) = rest.first() {
            let (members, used) = self.zone(&group.group, first, rest)?;
            rest = &rest[used..];
            let old = self.spans(&members, |member| member.before);
            let new = self.spans(&members, |member| member.after);
            for ((member, old), new) in members.into_iter().zip(old).zip(new) {
                if old == new {
                    output.add(member.row, new, member.after - member.before);
                } else {
                    output.add(member.row.clone(), old, -member.before);
                    output.add(member.row, new, member.after);
                }
            }
        }
        Ok(())
    }

    /// All rows around `first`, as they were and as they are, that are one session if both are taken together: no
    /// session of before or after reaches beyond them. How many of the changes, which begin with `first`, are among them.
    fn zone(
        &self,
        group: &[u8],
        first: &Change,
        changes: &[Change],
    ) -> Result<(Vec<Member>, usize)> {
        let Some(first_time) = time_of_order(&first.key[..first.order_len]) else {
            // NULLs come last, and are in no session.
            return Ok((Vec::new(), changes.len()));
        };
        // What changes further back is too far away, else it would be in the zone before this one.
        let mut members = Vec::new();
        let mut back = scan(&self.rows, group, &[], Some(&first.key), true)?;
        let mut earliest = first_time;
        while let Some(stored) = back.next()? {
            let known = Member::of(&stored.key, stored.order_len, stored.weight, stored.weight);
            let Some(member) =
                known.filter(|m| is_one_session(m.time, earliest, self.shown.gap_us))
            else {
                break;
            };
            earliest = member.time;
            members.push(member);
        }
        drop(back);
        members.reverse();
        let mut ahead = scan(&self.rows, group, &first.key, None, false)?;
        let mut stored = ahead.next()?;
        let mut used = 0;
        let mut latest = first_time;
        loop {
            let change = changes.get(used);
            let is_change = match (&stored, change) {
                (None, None) => break,
                (None, Some(_)) => true,
                (Some(_), None) => false,
                (Some(stored), Some(change)) => change.key <= stored.key,
            };
            let member = match (&stored, change) {
                (_, Some(c)) if is_change => Member::of(&c.key, c.order_len, c.before, c.after),
                (Some(s), _) => Member::of(&s.key, s.order_len, s.weight, s.weight),
                _ => None,
            };
            let Some(member) = member.filter(|m| is_one_session(latest, m.time, self.shown.gap_us))
            else {
                break;
            };
            latest = member.time;
            members.push(member);
            let is_stored = match (&stored, change) {
                (Some(stored), Some(change)) if is_change => stored.key == change.key,
                _ => !is_change,
            };
            used += usize::from(is_change);
            if is_stored {
                stored = ahead.next()?;
            }
        }
        Ok((members, used))
    }

    /// The spans of the members' sessions, if only those count whose weight is positive.
    fn spans(&self, members: &[Member], weight: impl Fn(&Member) -> i64) -> Vec<Option<Span>> {
        let mut spans = vec![None; members.len()];
        let mut places: Vec<usize> = Vec::new();
        let mut close = |places: &mut Vec<usize>| {
            if let (Some(first), Some(last)) = (places.first(), places.last()) {
                let span = (members[*first].time, members[*last].time);
                places.iter().for_each(|place| spans[*place] = Some(span));
            }
            places.clear();
        };
        for (place, member) in members.iter().enumerate() {
            if weight(member) <= 0 {
                continue;
            }
            let is_next = places.last().is_none_or(|last| {
                is_one_session(members[*last].time, member.time, self.shown.gap_us)
            });
            if !is_next {
                close(&mut places);
            }
            places.push(place);
        }
        close(&mut places);
        spans
    }
}

impl Member {
    /// Of a key without its group; `None` if it has no time.
    fn of(key: &[u8], order_len: usize, before: i64, after: i64) -> Option<Member> {
        let (order, row) = key.split_at(order_len);
        time_of_order(order).map(|time| Member {
            time,
            row: row.to_vec(),
            before,
            after,
        })
    }
}

impl Shown {
    /// `order`: of the rows.
    pub(super) fn delta(&self, order: &RowOrder, output: Output) -> Result<Delta> {
        let count = output.rows.len();
        let mut columns = order.decode(output.rows.iter().map(Vec::as_slice))?;
        for bound in &self.bounds {
            let values = output.spans.iter();
            let values: TimestampMicrosecondArray = values
                .map(|(first, last)| bound.of(*first, *last, self.gap_us))
                .collect();
            let field = self.schema.field(columns.len());
            let zone = match field.data_type() {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => None,
            };
            columns.push(std::sync::Arc::new(values.with_timezone_opt(zone)));
        }
        let batch = conform(&self.schema, columns, count)?;
        Ok(Delta::new(batch, Some(Int64Array::from(output.weights))))
    }
}

impl Output {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn add(&mut self, row: Vec<u8>, span: Option<Span>, weight: i64) {
        if let (Some(span), true) = (span, weight != 0) {
            self.rows.push(row);
            self.spans.push(span);
            self.weights.push(weight);
        }
    }
}

impl Operator for Session {
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

    fn finish_into(&mut self, context: &mut EpochContext, emit: &mut Emit<'_>) -> Result<()> {
        let pushed = std::mem::take(&mut self.pushed);
        let groups = match &mut self.open {
            Some((open, _)) => open.changes(&pushed, &mut self.rows)?,
            None => changes(&pushed, &mut self.rows, |_, _, _| true)?,
        };
        let mut output = Output::default();
        for group in &groups {
            self.change(group, &mut output)?;
            for change in &group.rows {
                write(&mut self.rows, &group.group, change);
            }
            if output.rows.len() >= most_rows(PIECE_ROWS) {
                emit(
                    self.shown.delta(&self.order, std::mem::take(&mut output))?,
                    context,
                )?;
            }
        }
        if !output.rows.is_empty() {
            emit(self.shown.delta(&self.order, output)?, context)?;
        }
        match &mut self.open {
            Some((open, _)) => open.add(&groups),
            None => Ok(()),
        }
    }

    fn advance(
        &mut self,
        _inputs: &[Watermarks],
        output: &Watermarks,
        _context: &mut EpochContext,
        _emit: &mut Emit<'_>,
    ) -> Result<()> {
        let Some((open, end)) = &mut self.open else {
            return Ok(());
        };
        let rows = &mut self.rows;
        open.close(output.get(*end), &mut |sessions| {
            let forget = |session| take_rows(rows, session, &mut |_, _| ());
            sessions.iter().try_for_each(forget)
        })
    }

    fn take_dropped(&mut self) -> u64 {
        self.open
            .as_mut()
            .map_or(0, |(open, _)| open.take_dropped())
    }

    fn held_bytes(&self) -> usize {
        self.pushed.iter().map(Pushed::memory).sum()
    }

    fn state_tables(&mut self) -> Vec<&mut StateTable> {
        let mut tables = vec![&mut self.rows];
        tables.extend(self.open.iter_mut().flat_map(|(open, _)| open.tables()));
        tables
    }

    fn discard(&mut self) {
        self.pushed.clear();
        self.rows.discard();
        if let Some((open, _)) = &mut self.open {
            open.discard();
        }
    }
}
