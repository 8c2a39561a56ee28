//! Joins of rows whose times lie close together: `a.ts BETWEEN b.ts - x AND b.ts + y`.
//!
//! Time is cut into buckets that are longer than the interval. A row of one side belongs to the bucket of its time, a row
//! of the other side to all buckets in which it can have a match, and the bucket becomes a key of the join, which
//! so meets each pair once, reads only what is near in time, and forgets buckets that both watermarks have passed. The
//! condition itself stays.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, ScalarUDF, lit};

use super::{Lowered, column_index, node_of, projected};
use crate::error::Result;
use crate::functions::{WindowStart, WindowStarts};
use crate::lower::over::{name_of, numbered};
use crate::plan::{JoinInterval, PlanOp};
use crate::properties::{self, unaliased};

const DAY_US: i64 = 86_400_000_000;
/// Buckets are not shorter.
const LEAST_BUCKET_US: i64 = 1_000_000;

/// The least and the most that something can be.
type Range = (i64, i64);

/// What the conditions `rest` of a join say of the times of its sides, both of which have a watermark.
pub(super) fn interval_of(
    rest: &[Expr],
    (left, left_marks): (&DFSchema, &[usize]),
    (right, right_marks): (&DFSchema, &[usize]),
) -> Option<JoinInterval> {
    let mut found: Vec<(usize, usize, Option<i64>, Option<i64>)> = Vec::new();
    let place = |expr: &Expr| -> Option<(bool, usize, Range)> {
        let (column, shift) = shifted(expr)?;
        let of = |schema: &DFSchema, marks: &[usize]| {
            column_index(column, schema).filter(|index| marks.contains(index))
        };
        let own = of(left, left_marks).map(|index| (true, index, shift));
        own.or_else(|| of(right, right_marks).map(|index| (false, index, shift)))
    };
    for (lesser, greater) in rest.iter().flat_map(ordered_pairs) {
        let (Some(lesser), Some(greater)) = (place(&lesser), place(&greater)) else {
            continue;
        };
        // lesser + its shift ≤ greater + its shift, so greater - lesser is at least this.
        let Some(least) = lesser.2.0.checked_sub(greater.2.1) else {
            continue;
        };
        let (pair, least, most) = match (lesser.0, greater.0) {
            (false, true) => ((greater.1, lesser.1), Some(least), None),
            (true, false) => ((lesser.1, greater.1), None, least.checked_neg()),
            _ => continue,
        };
        match found.iter_mut().find(|f| (f.0, f.1) == pair) {
            Some(known) => {
                known.2 = known.2.into_iter().chain(least).max();
                known.3 = known.3.into_iter().chain(most).min();
            }
            None => found.push((pair.0, pair.1, least, most)),
        }
    }
    found.into_iter().find_map(|(left, right, least, most)| {
        let (least_us, most_us) = (least?, most?);
        most_us.checked_sub(least_us).filter(|width| *width >= 0)?;
        Some(JoinInterval {
            left,
            right,
            least_us,
            most_us,
        })
    })
}

/// `a ≤ b`, as many as the condition says; what is less is not more, too.
fn ordered_pairs(conjunct: &Expr) -> Vec<(Expr, Expr)> {
    match unaliased(conjunct) {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::LtEq | Operator::Lt => vec![(*left.clone(), *right.clone())],
            Operator::GtEq | Operator::Gt => vec![(*right.clone(), *left.clone())],
            _ => Vec::new(),
        },
        Expr::Between(between) if !between.negated => vec![
            (*between.low.clone(), *between.expr.clone()),
            (*between.expr.clone(), *between.high.clone()),
        ],
        _ => Vec::new(),
    }
}

/// A column and what is added to it.
fn shifted(expr: &Expr) -> Option<(&Expr, Range)> {
    let plus = |time, length: &Expr, sign: i64| {
        let (column, (least, most)) = shifted(time)?;
        let (from, to) = length_of(length)?;
        let (from, to) = if sign < 0 { (-to, -from) } else { (from, to) };
        Some((column, (least.checked_add(from)?, most.checked_add(to)?)))
    };
    match unaliased(expr) {
        column @ Expr::Column(_) => Some((column, (0, 0))),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::Plus => plus(left, right, 1),
            Operator::Minus => plus(left, right, -1),
            _ => None,
        },
        Expr::ScalarFunction(function) => match (function.name(), function.args.as_slice()) {
            ("rm_timestamp_add", [time, length, ..]) => plus(time, length, 1),
            ("rm_timestamp_subtract", [time, length, ..]) => plus(time, length, -1),
            _ => None,
        },
        _ => None,
    }
}

/// How long an interval is. Where clocks change a day is not 24 hours, but less than a day off.
fn length_of(expr: &Expr) -> Option<Range> {
    let (days, us) = match unaliased(expr) {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _)
            if interval.months == 0 =>
        {
            (i64::from(interval.days), interval.nanoseconds / 1000)
        }
        Expr::Literal(ScalarValue::IntervalDayTime(Some(interval)), _) => (
            i64::from(interval.days),
            i64::from(interval.milliseconds) * 1000,
        ),
        _ => return None,
    };
    let slack = if days == 0 { 0 } else { DAY_US };
    let us = days.checked_mul(DAY_US)?.checked_add(us)?;
    Some((us.checked_sub(slack)?, us.checked_add(slack)?))
}

/// How both sides are cut: `slide` is a bucket's length.
pub(super) struct Buckets {
    interval: JoinInterval,
    slide_us: i64,
    /// Whether it is the left side whose rows are in one bucket.
    is_left_single: bool,
}

impl Buckets {
    /// `None`: too long.
    pub(super) fn of(interval: JoinInterval, is_left_single: bool) -> Option<Buckets> {
        let width = interval.most_us.checked_sub(interval.least_us)?;
        let slide_us = width.checked_mul(2)?.max(LEAST_BUCKET_US);
        // They are added to times as nanoseconds.
        interval.most_us.checked_mul(1000)?;
        interval.least_us.checked_mul(-1000)?;
        Some(Buckets {
            interval,
            slide_us,
            is_left_single,
        })
    }

    /// The sides with their buckets in a last column.
    pub(super) fn cut(&self, left: Lowered, right: Lowered) -> Result<(Lowered, Lowered)> {
        let JoinInterval {
            left: left_time,
            right: right_time,
            least_us,
            most_us,
        } = self.interval;
        let size_us = self.slide_us + (most_us - least_us);
        Ok(match self.is_left_single {
            // A right row's matches lie from its time + least to its time + most.
            true => (
                self.single(left, left_time)?,
                self.several(right, right_time, most_us, size_us)?,
            ),
            false => (
                self.several(left, left_time, -least_us, size_us)?,
                self.single(right, right_time)?,
            ),
        })
    }

    fn single(&self, input: Lowered, time: usize) -> Result<Lowered> {
        let start = Expr::ScalarFunction(ScalarFunction::new_udf(
            Arc::new(ScalarUDF::from(WindowStart::default())),
            vec![column(time), lit(self.slide_us), lit(0_i64)],
        ));
        let data_type = input.node.schema.field(time).data_type().clone();
        with_column(input, start, data_type)
    }

    /// The buckets that begin up to `latest_us` after the time, and end less than a bucket before.
    fn several(
        &self,
        input: Lowered,
        time: usize,
        latest_us: i64,
        size_us: i64,
    ) -> Result<Lowered> {
        let interval = ScalarValue::new_interval_mdn(0, 0, latest_us * 1000);
        let latest = Expr::BinaryExpr(BinaryExpr::new(
            Box::new(column(time)),
            Operator::Plus,
            Box::new(Expr::Literal(interval, None)),
        ));
        let starts = Expr::ScalarFunction(ScalarFunction::new_udf(
            Arc::new(ScalarUDF::from(WindowStarts::default())),
            vec![latest, lit(self.slide_us), lit(size_us), lit(0_i64)],
        ));
        let element = input.node.schema.field(time).data_type().clone();
        let item = Arc::new(Field::new("item", element.clone(), true));
        let listed = with_column(input, starts, DataType::List(item))?;
        let last = listed.node.schema.fields().len() - 1;
        let mut fields: Vec<Field> = listed
            .node
            .schema
            .fields()
            .iter()
            .map(|f| f.as_ref().clone())
            .collect();
        fields[last] = Field::new(fields[last].name(), element, true);
        let properties = properties::of_unnest(&listed.node.properties);
        let op = PlanOp::Unnest {
            columns: vec![last],
        };
        let schema = Arc::new(Schema::new(fields));
        Ok(Lowered {
            node: node_of(op, vec![listed.node], schema, properties),
            lineage: listed.lineage,
        })
    }
}

fn column(index: usize) -> Expr {
    Expr::Column(Column::new_unqualified(name_of(index)))
}

/// All columns of `input`, and one more.
fn with_column(input: Lowered, expr: Expr, data_type: DataType) -> Result<Lowered> {
    let from = numbered(&input.node.schema)?;
    let width = input.node.schema.fields().len();
    let mut exprs: Vec<Expr> = (0..width).map(column).collect();
    exprs.push(expr);
    let mut fields: Vec<Field> = input
        .node
        .schema
        .fields()
        .iter()
        .map(|f| f.as_ref().clone())
        .collect();
    fields.push(Field::new("bucket", data_type, true));
    projected(input, &exprs, &from, &Schema::new(fields))
}
