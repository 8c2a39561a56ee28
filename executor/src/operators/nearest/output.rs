//! What a nearest join gives: left rows with their matches before and after, as deltas of bounded size.

use arrow::array::{ArrayRef, Int64Array, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use rivermark_planner::plan::BoundExpr;

use super::places::Found;
use super::{LEFT, RIGHT};
use crate::delta::Delta;
use crate::error::Result;
use crate::evaluate::Evaluator;
use crate::operator::{Emit, EpochContext};
use crate::operators::conform::conform;
use crate::operators::join::pairs::{Pairs, Residual};
use crate::operators::ordered_rows::RowOrder;
use crate::pieces::most_rows;
use crate::state::Keys;

/// Most left rows that are shown together.
fn max_rows() -> usize {
    most_rows(if cfg!(test) { 7 } else { 8192 })
}

/// What is shown of rows and their matches.
pub struct Spec {
    keeps_unmatched: bool,
    tolerance: Option<Residual>,
    right: SchemaRef,
    schema: SchemaRef,
}

impl Spec {
    pub fn new(
        operator_id: u32,
        keeps_unmatched: bool,
        tolerance: Option<&BoundExpr>,
        sides: [&SchemaRef; 2],
        schema: SchemaRef,
    ) -> Result<Self> {
        let evaluator = Evaluator::new(operator_id);
        let tolerance = tolerance.map(|tolerance| Residual::new(tolerance, sides, evaluator));
        Ok(Spec {
            keeps_unmatched,
            tolerance: tolerance.transpose()?,
            right: sides[RIGHT].clone(),
            schema,
        })
    }
}

/// A left row with its match before and after.
pub struct Matched<'a> {
    pub row: &'a [u8],
    pub before: i64,
    pub after: i64,
    pub old: Option<Found>,
    pub new: Option<Found>,
}

/// The same, with the matches' numbers in [`Output::right`].
struct Entry {
    before: i64,
    after: i64,
    old: Option<u32>,
    new: Option<u32>,
}

/// See the module.
pub struct Output<'a, 'o, 'e> {
    spec: &'a Spec,
    orders: &'a [RowOrder; 2],
    context: &'o mut EpochContext,
    emit: &'o mut Emit<'e>,
    entries: Vec<Entry>,
    left: Keys,
    right: Keys,
    /// The row that was added to `right` last.
    last: Option<Found>,
}

impl<'a, 'o, 'e> Output<'a, 'o, 'e> {
    pub fn new(
        spec: &'a Spec,
        orders: &'a [RowOrder; 2],
        context: &'o mut EpochContext,
        emit: &'o mut Emit<'e>,
    ) -> Self {
        Output {
            spec,
            orders,
            context,
            emit,
            entries: Vec::new(),
            left: Keys::new(),
            right: Keys::new(),
            last: None,
        }
    }

    pub fn add(&mut self, matched: Matched<'_>) -> Result<()> {
        let Matched {
            row,
            before,
            after,
            old,
            new,
        } = matched;
        let is_same = old == new;
        if is_same && before == after {
            return Ok(());
        }
        self.left.push(row);
        let old = old.map(|found| self.number(found));
        let new = match is_same {
            true => old,
            false => new.map(|found| self.number(found)),
        };
        self.entries.push(Entry {
            before,
            after,
            old,
            new,
        });
        match self.entries.len() >= max_rows() {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn number(&mut self, found: Found) -> u32 {
        if self.last.as_ref() != Some(&found) {
            self.right.push(found.row());
            self.last = Some(found);
        }
        self.right.len() as u32 - 1
    }

    /// Hands on what was added.
    pub fn flush(&mut self) -> Result<()> {
        let entries = std::mem::take(&mut self.entries);
        self.last = None;
        if entries.is_empty() {
            return Ok(());
        }
        let (left, right) = (
            std::mem::take(&mut self.left),
            std::mem::take(&mut self.right),
        );
        let left = self.orders[LEFT].decode(left.iter())?;
        let right = self.orders[RIGHT].decode(right.iter())?;
        let entries = self.within_tolerance(entries, [&left, &right])?;

        let mut shown = Shown::default();
        for (row, entry) in entries.iter().enumerate() {
            if entry.old == entry.new {
                shown.add(row, entry.old, entry.after - entry.before);
            } else {
                shown.add(row, entry.old, -entry.before);
                shown.add(row, entry.new, entry.after);
            }
        }
        if !self.spec.keeps_unmatched {
            shown.drop_unmatched();
        }
        self.emit(shown, [&left, &right])
    }

    /// `entries` without the matches that do not fulfil the tolerance.
    fn within_tolerance(
        &mut self,
        mut entries: Vec<Entry>,
        columns: [&[ArrayRef]; 2],
    ) -> Result<Vec<Entry>> {
        let Some(tolerance) = &self.spec.tolerance else {
            return Ok(entries);
        };
        let mut pairs = Pairs::default();
        for (row, entry) in entries.iter().enumerate() {
            if entry.old == entry.new {
                let weight = entry.after - entry.before;
                entry
                    .old
                    .into_iter()
                    .for_each(|m| pairs.push(row, m as usize, weight));
                continue;
            }
            let old = entry.old.map(|found| (found, -entry.before));
            for (found, weight) in old.into_iter().chain(entry.new.map(|f| (f, entry.after))) {
                pairs.push(row, found as usize, weight);
            }
        }
        if pairs.len() == 0 {
            return Ok(entries);
        }
        let is_within = tolerance.matches(&pairs, columns, &mut self.context.failures)?;
        let mut is_within = is_within.into_iter();
        let mut kept = |found: Option<u32>| found.filter(|_| is_within.next().unwrap_or(false));
        for entry in &mut entries {
            if entry.old == entry.new {
                entry.old = kept(entry.old);
                entry.new = entry.old;
            } else {
                entry.old = kept(entry.old);
                entry.new = kept(entry.new);
            }
        }
        Ok(entries)
    }

    fn emit(&mut self, shown: Shown, [left, right]: [&[ArrayRef]; 2]) -> Result<()> {
        let count = shown.weights.len();
        if count == 0 {
            return Ok(());
        }
        let of_left = UInt32Array::from(shown.left);
        let mut columns = Vec::with_capacity(self.spec.schema.fields().len());
        for column in left {
            columns.push(take(column, &of_left, None)?);
        }
        if shown.right.iter().all(Option::is_none) {
            let fields = self.spec.right.fields().iter();
            columns.extend(fields.map(|field| new_null_array(field.data_type(), count)));
        } else {
            let of_right = UInt32Array::from(shown.right);
            for column in right {
                columns.push(take(column, &of_right, None)?);
            }
        }
        let batch = conform(&self.spec.schema, columns, count)?;
        let is_plain = shown.weights.iter().all(|weight| *weight == 1);
        let weights = (!is_plain).then(|| Int64Array::from(shown.weights));
        (self.emit)(Delta::new(batch, weights), self.context)
    }
}

/// Rows of the output, by the numbers of the sides' rows.
#[derive(Default)]
struct Shown {
    left: Vec<u32>,
    right: Vec<Option<u32>>,
    weights: Vec<i64>,
}

impl Shown {
    fn add(&mut self, row: usize, found: Option<u32>, weight: i64) {
        if weight != 0 {
            self.left.push(row as u32);
            self.right.push(found);
            self.weights.push(weight);
        }
    }

    fn drop_unmatched(&mut self) {
        let is_matched: Vec<bool> = self.right.iter().map(Option::is_some).collect();
        let keep = || {
            let mut kept = is_matched.iter().copied();
            move || kept.next().unwrap_or(true)
        };
        let (mut of_left, mut of_right, mut of_weights) = (keep(), keep(), keep());
        self.left.retain(|_| of_left());
        self.right.retain(|_| of_right());
        self.weights.retain(|_| of_weights());
    }
}
