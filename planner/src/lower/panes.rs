//! Aggregates over HOP of views that emit on window close: each row goes into one pane instead of into all its windows.
//!
//! HOP is an `unnest` of the starts of a row's windows (`window.rs`). Where an aggregate above it groups by the window, and
//! has only calls whose states can be merged, the unnest is taken out again: what was the column of windows then is the
//! row's time, and [`PlanOp::Panes`] does the rest. All else keeps the unnest.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use datafusion::common::{Column as ColumnName, ScalarValue};
use datafusion::logical_expr::{Expr, Operator};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::PhysicalExpr;

use super::node_of;
use crate::describe::describe;
use crate::functions::WindowStarts;
use crate::plan::{
    AggregateCall, AggregateStrategy, BoundExpr, HopWindows, PaneKey, PlanNode, PlanOp,
};
use crate::properties::unaliased;

/// What an aggregate becomes.
pub(super) struct Paned {
    pub op: PlanOp,
    pub input: PlanNode,
}

/// A plan without its unnest. Columns keep their places; those that are made of the windows have the row's time.
struct Whole {
    node: PlanNode,
    windows: HopWindows,
    /// The column of the row's time.
    time: usize,
    /// Per column what is added to the window's start, if it is made of it.
    shifts: Vec<Option<i64>>,
}

/// The aggregate of `input`, if it can be one of panes. `marks`: the group columns that have a watermark.
pub(super) fn paned(
    input: &PlanNode,
    group_by: &[BoundExpr],
    calls: &[AggregateCall],
    marks: &[usize],
) -> Option<Paned> {
    if !input.properties.append_only || !calls.iter().all(is_merged) {
        return None;
    }
    let whole = whole(input)?;
    let keys: Vec<PaneKey> = group_by
        .iter()
        .map(|key| match whole.shift_of(&key.physical) {
            Some(shift_us) => Some(PaneKey::Window { shift_us }),
            None => whole.is_free(key).then(|| PaneKey::Column(key.clone())),
        })
        .collect::<Option<_>>()?;
    let is_window = |key: &PaneKey| matches!(key, PaneKey::Window { .. });
    // Another time would be over before the window is.
    let closes = marks
        .iter()
        .all(|mark| keys.get(*mark).is_some_and(is_window));
    let has_mark = whole
        .node
        .properties
        .watermark_columns
        .contains(&whole.time);
    if !keys.iter().any(is_window) || !closes || !has_mark {
        return None;
    }
    let parts = calls.iter().flat_map(|call| {
        let order = call.order_by.iter().map(|(expr, _)| expr);
        call.args.iter().chain(&call.filter).chain(order)
    });
    let is_free = { parts }.all(|part| whole.is_free(part));
    is_free.then(|| Paned {
        op: PlanOp::Panes {
            keys,
            calls: calls.to_vec(),
            time: whole.time,
            windows: whole.windows,
        },
        input: whole.node,
    })
}

impl Whole {
    /// Whether the expression has nothing to do with the window.
    fn is_free(&self, expr: &BoundExpr) -> bool {
        let columns = collect_columns(&expr.physical);
        columns
            .iter()
            .all(|column| self.shifts.get(column.index()) == Some(&None))
    }

    /// What the expression adds to the window's start, if that is all it does.
    fn shift_of(&self, expr: &Arc<dyn PhysicalExpr>) -> Option<i64> {
        let any = expr.as_ref() as &dyn Any;
        if let Some(column) = any.downcast_ref::<Column>() {
            return self.shifts.get(column.index()).copied().flatten();
        }
        let (time, length, sign) = if let Some(binary) = any.downcast_ref::<BinaryExpr>() {
            let sign = match binary.op() {
                Operator::Plus => 1,
                Operator::Minus => -1,
                _ => return None,
            };
            (binary.left(), binary.right(), sign)
        } else {
            let function = any.downcast_ref::<ScalarFunctionExpr>()?;
            let sign = match function.name() {
                "rm_timestamp_add" => 1,
                "rm_timestamp_subtract" => -1,
                _ => return None,
            };
            (function.args().first()?, function.args().get(1)?, sign)
        };
        let added = fixed_length(length)?.checked_mul(sign)?;
        self.shift_of(time)?.checked_add(added)
    }
}

/// `node` without its unnest of windows, which has nothing but projections and filters above it.
fn whole(node: &PlanNode) -> Option<Whole> {
    let [input] = node.inputs.as_slice() else {
        return None;
    };
    match &node.op {
        PlanOp::Unnest { columns } => match columns.as_slice() {
            [column] => without_unnest(input, *column),
            _ => None,
        },
        PlanOp::Filter { predicate } => {
            let whole = whole(input)?;
            whole.is_free(predicate).then(|| {
                let op = node.op.clone();
                let (schema, known) = (whole.node.schema.clone(), node.properties.clone());
                Whole {
                    node: node_of(op, vec![whole.node], schema, known),
                    ..whole
                }
            })
        }
        PlanOp::Project { exprs } => projected(node, exprs, whole(input)?),
        _ => None,
    }
}

/// The projection below the unnest of `column`, which has the row's time there.
fn without_unnest(node: &PlanNode, column: usize) -> Option<Whole> {
    let PlanOp::Project { exprs } = &node.op else {
        return None;
    };
    let starts = exprs.get(column)?;
    let function = starts.physical.as_ref() as &dyn Any;
    let function = function.downcast_ref::<ScalarFunctionExpr>()?;
    let (WindowStarts::NAME, [physical, lengths @ ..]) = (function.name(), function.args()) else {
        return None;
    };
    let lengths: Vec<i64> = lengths.iter().map(integer).collect::<Option<_>>()?;
    let (Expr::ScalarFunction(called), &[slide_us, size_us, offset_us]) =
        (unaliased(&starts.logical), lengths.as_slice())
    else {
        return None;
    };
    let mut exprs = exprs.clone();
    let data_type = physical.data_type(&node.inputs.first()?.schema).ok()?;
    let time = BoundExpr {
        logical: called.args.first()?.clone(),
        physical: physical.clone(),
        data_type: data_type.clone(),
        nullable: true,
        is_fallible: starts.is_fallible,
    };
    let name = describe(&time.logical);
    exprs[column] = time;
    let mut fields: Vec<Field> = node
        .schema
        .fields()
        .iter()
        .map(|f| f.as_ref().clone())
        .collect();
    fields[column] = Field::new(name, data_type, true);
    let mut shifts = vec![None; fields.len()];
    shifts[column] = Some(0);
    let schema = Arc::new(Schema::new(fields));
    let node = node_of(
        PlanOp::Project { exprs },
        node.inputs.clone(),
        schema,
        node.properties.clone(),
    );
    Some(Whole {
        node: computing(node),
        windows: HopWindows {
            slide_us,
            size_us,
            offset_us,
        },
        time: column,
        shifts,
    })
}

/// The projection `node` above `below`: what it makes of windows is the row's time.
fn projected(node: &PlanNode, exprs: &[BoundExpr], below: Whole) -> Option<Whole> {
    let time_field = below.node.schema.field(below.time).clone();
    let name = time_field.name();
    let time = BoundExpr {
        logical: Expr::Column(ColumnName::new_unqualified(name)),
        physical: Arc::new(Column::new(name, below.time)),
        data_type: time_field.data_type().clone(),
        nullable: true,
        is_fallible: false,
    };
    let shifts: Vec<Option<i64>> = exprs
        .iter()
        .map(|expr| below.shift_of(&expr.physical))
        .collect();
    let is_known =
        |(expr, shift): (&BoundExpr, &Option<i64>)| shift.is_some() || below.is_free(expr);
    if !exprs.iter().zip(&shifts).all(is_known) {
        return None;
    }
    let place = shifts.iter().position(Option::is_some)?;
    let kept = exprs.iter().zip(node.schema.fields()).zip(&shifts);
    let (exprs, fields): (Vec<BoundExpr>, Vec<Field>) = kept
        .map(|((expr, field), shift)| match shift {
            Some(_) => (time.clone(), time_field.clone()),
            None => (expr.clone(), field.as_ref().clone()),
        })
        .unzip();
    let op = PlanOp::Project { exprs };
    let schema = Arc::new(Schema::new(fields));
    let node = node_of(op, vec![below.node], schema, node.properties.clone());
    Some(Whole {
        node: computing(node),
        windows: below.windows,
        time: place,
        shifts,
    })
}

/// `node`, or its input if it is a projection that has come to do nothing.
fn computing(mut node: PlanNode) -> PlanNode {
    let PlanOp::Project { exprs } = &node.op else {
        return node;
    };
    let is_same = |(index, expr): (usize, &BoundExpr)| {
        let column = (expr.physical.as_ref() as &dyn Any).downcast_ref::<Column>();
        column.is_some_and(|column| column.index() == index)
    };
    let width = node.inputs.first().map(|input| input.schema.fields().len());
    let is_idle = width == Some(exprs.len()) && exprs.iter().enumerate().all(is_same);
    match node.inputs.pop() {
        Some(input) if is_idle => input,
        input => {
            node.inputs.extend(input);
            node
        }
    }
}

/// Whether states of the call can be merged: the executor keeps such a call in one bounded state per group
/// (`executor/src/aggregates/call.rs`, "accumulated").
fn is_merged(call: &AggregateCall) -> bool {
    let is_bounded = match call.strategy {
        AggregateStrategy::Linear | AggregateStrategy::Mergeable => true,
        AggregateStrategy::Multiset => false,
    };
    let argument = call.args.first().map(|argument| &argument.data_type);
    let is = |test: &dyn Fn(&arrow::datatypes::DataType) -> bool| argument.is_some_and(test);
    is_bounded
        && !call.distinct
        && match call.name.as_str() {
            "count" | "bool_and" | "bool_or" | "min" | "max" | "first_value" | "last_value"
            | "stddev" | "stddev_pop" | "var" | "var_pop" | "covar_pop" | "covar_samp" | "corr"
            | "regr_avgx" | "regr_avgy" | "regr_count" | "regr_intercept" | "regr_r2"
            | "regr_slope" | "regr_sxx" | "regr_sxy" | "regr_syy" | "approx_distinct" => true,
            "sum" => is(&|t| t.is_numeric()),
            "avg" => is(&|t| {
                t.is_floating()
                    || t.is_decimal()
                    || (t.is_integer() && call.data_type.is_floating())
            }),
            "bit_and" | "bit_or" | "bit_xor" => is(&|t| t.is_integer()),
            "approx_median" => is(&|t| t.is_numeric()),
            _ => false,
        }
}

/// Microseconds of a constant interval without days and months.
fn fixed_length(expr: &Arc<dyn PhysicalExpr>) -> Option<i64> {
    let literal = (expr.as_ref() as &dyn Any).downcast_ref::<Literal>()?;
    match literal.value() {
        ScalarValue::IntervalMonthDayNano(Some(length)) => {
            let is_fixed = length.months == 0 && length.days == 0 && length.nanoseconds % 1000 == 0;
            is_fixed.then_some(length.nanoseconds / 1000)
        }
        _ => None,
    }
}

fn integer(expr: &Arc<dyn PhysicalExpr>) -> Option<i64> {
    let literal = (expr.as_ref() as &dyn Any).downcast_ref::<Literal>()?;
    match literal.value() {
        ScalarValue::Int64(value) => *value,
        _ => None,
    }
}
