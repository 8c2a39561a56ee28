//! Watermarks: lower bounds of the times that are still to come, and how they follow through a plan.
//!
//! A bound of w on a column says: no row that comes later has a value below w there, so whatever belongs to values
//! below w is final. Bounds are microseconds since 1970 whatever the column's type (timestamps, dates; of lists of
//! timestamps they bound the elements). Which columns have one is the planner's knowledge
//! (`Properties::watermark_columns`); what it is now is computed here, epoch by epoch, from the bounds of what is
//! scanned. They are not stored: after a restart they follow from the stored ones of sources and tables.

#[cfg(test)]
mod as_of_now_tests;
#[cfg(test)]
mod asof_tests;
#[cfg(test)]
mod cleaning_tests;
#[cfg(test)]
mod determinism_tests;
#[cfg(test)]
mod panes_tests;
#[cfg(test)]
mod temporal_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, RecordBatch, RecordBatchOptions,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{DataType, Date32Type, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{CaseExpr, Column, Literal};
use datafusion::physical_plan::PhysicalExpr;
use rivermark_planner::plan::{
    BoundExpr, HopWindows, JoinKey, JoinWindow, PaneKey, PlanNode, PlanOp,
};

use crate::error::{ExecutorError, Result};
use crate::state::KeyCodec;

pub const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The bounds of a relation's or an operator's columns; columns without one are left out at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Watermarks(Vec<Option<i64>>);

impl Watermarks {
    /// The bound of one column.
    pub fn of_column(column: usize, bound: Option<i64>) -> Watermarks {
        let mut marks = Watermarks::default();
        marks.set(column, bound);
        marks
    }

    /// The bound of `column`, if it has one by now.
    pub fn get(&self, column: usize) -> Option<i64> {
        self.0.get(column).copied().flatten()
    }

    pub fn set(&mut self, column: usize, bound: Option<i64>) {
        if bound.is_some() && self.0.len() <= column {
            self.0.resize(column + 1, None);
        }
        if let Some(slot) = self.0.get_mut(column) {
            *slot = bound;
        }
    }

    /// Whether no column has a bound.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Those of `columns`, in their order.
    pub fn project(&self, columns: &[usize]) -> Watermarks {
        let mut marks = Watermarks::default();
        for (to, from) in columns.iter().enumerate() {
            marks.set(to, self.get(*from));
        }
        marks
    }

    /// Column by column the lower one; none where one of them has none.
    fn least(inputs: &[Watermarks]) -> Watermarks {
        let Some((first, rest)) = inputs.split_first() else {
            return Watermarks::default();
        };
        let least = |column: usize| {
            let others = rest.iter().map(|input| input.get(column));
            others.fold(first.get(column), |least, other| Some(least?.min(other?)))
        };
        Watermarks((0..first.0.len()).map(least).collect())
    }
}

/// How an operator's bounds follow from those of its inputs.
pub struct MarkRule {
    kind: Kind,
    /// Columns that have a bound, as the planner knows.
    columns: Vec<usize>,
}

enum Kind {
    /// Columns keep their places and bounds.
    Same,
    /// Columns of all inputs correspond.
    Least,
    /// Monotone expressions over the input's columns, by output column.
    Computed {
        input: SchemaRef,
        exprs: Vec<(usize, Arc<dyn PhysicalExpr>)>,
    },
    /// Of a join, per output column: of which columns of both sides the lower bound counts.
    Compared(Vec<Compared>),
    /// Of HOP's windows: the earliest that is open, and per output column what is added to its start.
    Open {
        time: usize,
        windows: HopWindows,
        shifts: Vec<(usize, i64)>,
    },
    /// Of sessions: what ends by the time of the rows does not change any more.
    Ended {
        end: usize,
        input: SchemaRef,
        time: Arc<dyn PhysicalExpr>,
    },
}

/// The bound of the output column `to` is the lower one of two, each with what is added to it.
struct Compared {
    to: usize,
    left: (usize, i64),
    right: (usize, i64),
}

impl MarkRule {
    /// The rule of `node`, which is no scan.
    pub fn of(node: &PlanNode) -> MarkRule {
        let columns = node.properties.watermark_columns.clone();
        let input = node.inputs.first();
        let computed = |exprs: &[BoundExpr]| Kind::Computed {
            input: input.map_or_else(|| Arc::new(Schema::empty()), |i| nullable(&i.schema)),
            exprs: columns
                .iter()
                .filter_map(|c| Some((*c, exprs.get(*c)?.physical.clone())))
                .collect(),
        };
        let kind = match &node.op {
            PlanOp::Project { exprs } => computed(exprs),
            PlanOp::Aggregate { group_by, .. } => computed(group_by),
            PlanOp::UnionAll | PlanOp::SetOperation { .. } => Kind::Least,
            // The left's columns, in their places.
            PlanOp::Join {
                is_as_of_now: true, ..
            } => Kind::Same,
            PlanOp::Join { keys, window, .. } => Kind::Compared(compared(node, keys, *window)),
            PlanOp::Nearest { keys, forgets, .. } => {
                let times = forgets.map(|(left, right)| Compared {
                    to: left,
                    left: (left, 0),
                    right: (right, 0),
                });
                Kind::Compared(
                    times
                        .into_iter()
                        .chain(compared(node, keys, None))
                        .collect(),
                )
            }
            PlanOp::Panes {
                keys,
                time,
                windows,
                ..
            } => Kind::Open {
                time: *time,
                windows: *windows,
                shifts: shifts_of(keys),
            },
            PlanOp::Session { time, .. } => match columns.first() {
                Some(end) => Kind::Ended {
                    end: *end,
                    input: input.map_or_else(|| Arc::new(Schema::empty()), |i| nullable(&i.schema)),
                    time: time.physical.clone(),
                },
                None => Kind::Same,
            },
            // Those that change no values, add columns behind the input's, or have no bounds at all.
            PlanOp::Scan { .. }
            | PlanOp::Values { .. }
            | PlanOp::Filter { .. }
            | PlanOp::TemporalFilter { .. }
            | PlanOp::Unnest { .. }
            | PlanOp::GroupingSets { .. }
            | PlanOp::WindowClose { .. }
            | PlanOp::Over { .. }
            | PlanOp::TopN { .. } => Kind::Same,
        };
        MarkRule { kind, columns }
    }

    /// The bounds of the output.
    pub fn apply(&self, inputs: &[Watermarks]) -> Watermarks {
        let Some(first) = inputs.first() else {
            return Watermarks::default();
        };
        if self.columns.is_empty() {
            return Watermarks::default();
        }
        let found = match &self.kind {
            Kind::Same => first.clone(),
            Kind::Least => Watermarks::least(inputs),
            Kind::Computed { input, exprs } => computed(input, exprs, first),
            Kind::Compared(pairs) => {
                let mut marks = Watermarks::default();
                let moved = |side: &Watermarks, (column, by): (usize, i64)| {
                    side.get(column).map(|bound| bound.saturating_add(by))
                };
                for Compared { to, left, right } in pairs {
                    let right = inputs.get(1).and_then(|side| moved(side, *right));
                    let bound = moved(first, *left).zip(right).map(|(l, r)| l.min(r));
                    marks.set(*to, bound);
                }
                marks
            }
            Kind::Open {
                time,
                windows,
                shifts,
            } => {
                let open = first.get(*time).and_then(|time| windows.first_after(time));
                let mut marks = Watermarks::default();
                for (to, shift) in shifts {
                    marks.set(*to, open.map(|open| open.saturating_add(*shift)));
                }
                marks
            }
            Kind::Ended { end, input, time } => {
                let exprs = [(0, time.clone())];
                let time = computed(input, &exprs, first).get(0);
                Watermarks::of_column(*end, time.map(|time| time.saturating_add(1)))
            }
        };
        let mut marks = Watermarks::default();
        for column in &self.columns {
            marks.set(*column, found.get(*column));
        }
        marks
    }
}

/// The bounds around one operator, as of the epoch.
pub struct NodeMarks {
    rule: MarkRule,
    inputs: Vec<Watermarks>,
    output: Watermarks,
    /// Those of the inputs that the operator was told last.
    told: Option<Vec<Watermarks>>,
}

impl NodeMarks {
    pub fn of(node: &PlanNode) -> NodeMarks {
        NodeMarks {
            rule: MarkRule::of(node),
            inputs: Vec::new(),
            output: Watermarks::default(),
            told: None,
        }
    }

    /// Takes the bounds of the inputs; those of the output.
    pub fn update(&mut self, inputs: Vec<Watermarks>) -> Watermarks {
        if self.inputs != inputs {
            self.output = self.rule.apply(&inputs);
            self.inputs = inputs;
        }
        self.output.clone()
    }

    /// The bounds of inputs and output, if there are some that the operator was not told.
    pub fn untold(&self) -> Option<(&[Watermarks], &Watermarks)> {
        let is_news = self.inputs.iter().any(|marks| !marks.is_empty())
            && self.told.as_ref() != Some(&self.inputs);
        is_news.then_some((&self.inputs, &self.output))
    }

    /// The operator knows.
    pub fn set_told(&mut self) {
        self.told = Some(self.inputs.clone());
    }

    /// What the operator was told was of an epoch that is discarded.
    pub fn forget_told(&mut self) {
        self.told = None;
    }
}

/// A schema in which every column may be NULL.
fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter();
    let fields = fields.map(|f| f.as_ref().clone().with_nullable(true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Which columns of a join's output are compared with which: both sides have the column's values, which come from
/// whichever side is later.
fn compared(node: &PlanNode, keys: &[JoinKey], window: Option<JoinWindow>) -> Vec<Compared> {
    let plain = |expr: &BoundExpr| {
        let column = expr.physical.as_ref() as &dyn std::any::Any;
        column.downcast_ref::<Column>().map(|column| column.index())
    };
    let width = node.inputs.first().map_or(0, |l| l.schema.fields().len());
    let mut pairs = Vec::new();
    for key in keys {
        if let (Some(left), Some(right)) = (plain(&key.left), plain(&key.right)) {
            for to in [left, width + right] {
                pairs.push(Compared {
                    to,
                    left: (left, 0),
                    right: (right, 0),
                });
            }
        }
    }
    if let Some(interval) = window.and_then(|window| window.interval) {
        let (left, right) = (interval.left, interval.right);
        pairs.push(Compared {
            to: left,
            left: (left, 0),
            right: (right, interval.least_us),
        });
        pairs.push(Compared {
            to: width + right,
            left: (left, interval.most_us.saturating_neg()),
            right: (right, 0),
        });
    }
    pairs
}

/// The columns that follow the window, and by how much.
fn shifts_of(keys: &[PaneKey]) -> Vec<(usize, i64)> {
    let shifts = keys.iter().enumerate();
    let shifts = shifts.filter_map(|(column, key)| match key {
        PaneKey::Window { shift_us } => Some((column, *shift_us)),
        PaneKey::Column(_) => None,
    });
    shifts.collect()
}

/// A monotone function of a lower bound is one of the function's values.
fn computed(
    schema: &SchemaRef,
    exprs: &[(usize, Arc<dyn PhysicalExpr>)],
    input: &Watermarks,
) -> Watermarks {
    let fields = schema.fields().iter().enumerate();
    let columns: Vec<ArrayRef> = fields
        .map(|(index, field)| {
            let bound = input.get(index);
            let array = bound.and_then(|bound| array_of(bound, field.data_type()));
            array.unwrap_or_else(|| new_null_array(field.data_type(), 1))
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    let mut marks = Watermarks::default();
    let Ok(row) = RecordBatch::try_new_with_options(schema.clone(), columns, &options) else {
        return marks;
    };
    for (to, expr) in exprs {
        marks.set(*to, bound_in(expr, &row));
    }
    marks
}

/// The bound of an expression. What takes the first of several values that is not NULL has the least of their bounds.
fn bound_in(expr: &Arc<dyn PhysicalExpr>, row: &RecordBatch) -> Option<i64> {
    let any = expr.as_ref() as &dyn std::any::Any;
    let choices: Vec<&Arc<dyn PhysicalExpr>> = match any.downcast_ref::<CaseExpr>() {
        Some(case) => {
            let then = case.when_then_expr().iter().map(|(_, then)| then);
            then.chain(case.else_expr()).collect()
        }
        None => match any.downcast_ref::<ScalarFunctionExpr>() {
            Some(function) if function.name() == "coalesce" => function.args().iter().collect(),
            // The planner knows that no row has a value there.
            None if is_null(expr) => return Some(i64::MAX),
            _ => return value_of(expr, row).as_ref().and_then(bound_of),
        },
    };
    let bounds = choices.into_iter().map(|choice| bound_in(choice, row));
    bounds.collect::<Option<Vec<i64>>>()?.into_iter().min()
}

fn is_null(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let literal = expr.as_ref() as &dyn std::any::Any;
    let literal = literal.downcast_ref::<Literal>();
    literal.is_some_and(|literal| literal.value().is_null())
}

/// What an expression is for the bounds; an instant out of range has no bound yet.
fn value_of(expr: &Arc<dyn PhysicalExpr>, row: &RecordBatch) -> Option<ArrayRef> {
    let value = expr
        .evaluate(row)
        .and_then(|value| value.into_array(1))
        .ok()?;
    let is_gap = matches!(value.data_type(), DataType::List(_))
        && value.is_valid(0)
        && value.as_list::<i32>().value(0).is_empty();
    match (is_gap, expr.children().first()) {
        // Between two windows: those that come begin later.
        (true, Some(time)) => value_of(time, row),
        _ => Some(value),
    }
}

/// The first key of `codec` that begins with this time.
pub fn key_of(time: i64, data_type: &DataType, codec: &KeyCodec) -> Result<Vec<u8>> {
    let value = array_of(time, data_type)
        .ok_or_else(|| ExecutorError::Internal(format!("a watermark of type {data_type}")))?;
    Ok(codec.encode(&[value])?.get(0).to_vec())
}

/// Which of these times a watermark has not passed; NULLs are among them.
pub fn is_reached(times: &ArrayRef, passed: i64) -> Result<BooleanArray> {
    if let DataType::Date32 = times.data_type() {
        let days = times.as_primitive::<Date32Type>();
        let is_kept = |day: i32| i64::from(day) * MICROS_PER_DAY >= passed;
        return Ok(days
            .iter()
            .map(|day| Some(day.is_none_or(is_kept)))
            .collect());
    }
    let times = times
        .as_primitive_opt::<TimestampMicrosecondType>()
        .ok_or_else(|| ExecutorError::Internal("a watermark's column is no time".into()))?;
    let is_kept = |time: Option<i64>| Some(time.is_none_or(|time| time >= passed));
    Ok(times.iter().map(is_kept).collect())
}

/// One value of a type: the bound.
fn array_of(bound: i64, data_type: &DataType) -> Option<ArrayRef> {
    match data_type {
        DataType::Timestamp(_, zone) => {
            let array = TimestampMicrosecondArray::from(vec![bound]);
            Some(Arc::new(array.with_timezone_opt(zone.clone())))
        }
        DataType::Date32 => {
            let days = i32::try_from(bound.div_euclid(MICROS_PER_DAY)).ok()?;
            Some(Arc::new(Date32Array::from(vec![days])))
        }
        DataType::List(element) => {
            let values = array_of(bound, element.data_type())?;
            let offsets = arrow::buffer::OffsetBuffer::from_lengths([1]);
            Some(Arc::new(arrow::array::ListArray::new(
                element.clone(),
                offsets,
                values,
                None,
            )))
        }
        _ => None,
    }
}

/// The bound that a value is; of a list its first, which is its least.
fn bound_of(value: &ArrayRef) -> Option<i64> {
    if value.is_empty() || value.is_null(0) {
        return None;
    }
    match value.data_type() {
        DataType::Timestamp(_, _) => Some(
            value
                .as_primitive_opt::<TimestampMicrosecondType>()?
                .value(0),
        ),
        DataType::Date32 => {
            Some(i64::from(value.as_primitive::<Date32Type>().value(0)) * MICROS_PER_DAY)
        }
        DataType::List(_) => bound_of(&value.as_list::<i32>().value(0)),
        _ => None,
    }
}
