//! What the conditions of a query say of single columns.

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{BinaryExpr, Cast, ColumnarValue, Expr, Operator};
use datafusion::physical_expr::create_physical_expr;
use rivermark_planner::functions::NearestFloat;
use rivermark_planner::types::PG_TYPE_KEY;

use super::place::{Place, is_followed, is_ordered, place};

/// What a condition leaves of a column's values. Rows outside of it do not meet the condition; rows inside may not either.
#[derive(Debug, Clone, PartialEq)]
pub enum Constraint {
    /// One of these values, which may be NULL.
    Points(Vec<ScalarValue>),
    /// Not NULL and within both bounds.
    Range {
        lower: Option<Bound>,
        upper: Option<Bound>,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    pub value: ScalarValue,
    pub is_inclusive: bool,
}

/// A column and what a condition says of it; `None` if nothing that an ordered scan could use.
pub fn constraint(condition: &Expr, schema: &SchemaRef) -> Option<(usize, Constraint)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::Or => either(constraint(left, schema)?, constraint(right, schema)?),
            op => match column_of(left, schema) {
                Some(column) => compared(column, *op, right, schema),
                None => compared(column_of(right, schema)?, op.swap()?, left, schema),
            },
        },
        Expr::InList(InList {
            expr,
            list,
            negated: false,
        }) => {
            let column = column_of(expr, schema)?;
            let mut points = Vec::with_capacity(list.len());
            for item in list {
                points.extend(equal_to(column, &constant(item)?, schema)?);
            }
            Some((column, Constraint::Points(points)))
        }
        Expr::Between(Between {
            expr,
            negated: false,
            low,
            high,
        }) => {
            let column = column_of(expr, schema)?;
            let (_, low) = compared(column, Operator::GtEq, low, schema)?;
            let (_, high) = compared(column, Operator::LtEq, high, schema)?;
            match (low, high) {
                (Constraint::Range { lower, .. }, Constraint::Range { upper, .. }) => {
                    Some((column, Constraint::Range { lower, upper }))
                }
                // A bound is NULL.
                _ => Some((column, Constraint::Points(Vec::new()))),
            }
        }
        Expr::IsNull(inner) => {
            let column = column_of(inner, schema)?;
            let null = ScalarValue::try_from(schema.field(column).data_type()).ok()?;
            Some((column, Constraint::Points(vec![null])))
        }
        Expr::IsTrue(inner) => boolean(inner, true, schema),
        Expr::IsFalse(inner) | Expr::Not(inner) => boolean(inner, false, schema),
        Expr::Column(_) => boolean(condition, true, schema),
        _ => None,
    }
}

fn boolean(expr: &Expr, value: bool, schema: &SchemaRef) -> Option<(usize, Constraint)> {
    let Expr::Column(_) = expr else {
        return None;
    };
    let column = column_of(expr, schema)?;
    let value = ScalarValue::Boolean(Some(value));
    let is_boolean = *schema.field(column).data_type() == value.data_type();
    is_boolean.then(|| (column, Constraint::Points(vec![value])))
}

/// `a OR b`, if both are about values of the same column.
fn either(a: (usize, Constraint), b: (usize, Constraint)) -> Option<(usize, Constraint)> {
    match (a, b) {
        ((column, Constraint::Points(mut a)), (other, Constraint::Points(b)))
            if column == other =>
        {
            a.extend(b);
            Some((column, Constraint::Points(a)))
        }
        _ => None,
    }
}

/// The column that an expression compares, bare or cast in a way that can be followed back.
fn column_of(expr: &Expr, schema: &SchemaRef) -> Option<usize> {
    match expr {
        Expr::Column(column) => {
            let index = schema.index_of(&column.name).ok()?;
            let field = schema.field(index);
            let is_json = field
                .metadata()
                .get(PG_TYPE_KEY)
                .is_some_and(|tag| tag.starts_with("json"));
            is_ordered(field.data_type(), is_json).then_some(index)
        }
        Expr::Cast(Cast { expr, field }) => {
            let index = match expr.as_ref() {
                Expr::Column(_) => column_of(expr, schema)?,
                _ => return None,
            };
            is_followed(schema.field(index).data_type(), field.data_type()).then_some(index)
        }
        _ => None,
    }
}

/// The value of an expression without columns, parameters or functions that could be called again with another result;
/// `None` also where it fails, which is the filter's to report.
fn constant(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::ScalarFunction(function) if NearestFloat::target_of(function.name()).is_none() => {
            None
        }
        Expr::Cast(_) | Expr::Negative(_) | Expr::ScalarFunction(_) => {
            if expr.any_column_refs() || expr.contains_outer() || has_parameter(expr) {
                return None;
            }
            let schema = DFSchema::empty();
            let physical = create_physical_expr(
                expr,
                &schema,
                &ExecutionProps::new(),
                &PhysicalPlanningContext::default(),
            );
            let row = arrow::array::RecordBatch::try_new_with_options(
                schema.inner().clone(),
                vec![],
                &arrow::array::RecordBatchOptions::new().with_row_count(Some(1)),
            );
            match physical.ok()?.evaluate(&row.ok()?).ok()? {
                ColumnarValue::Scalar(value) => Some(value),
                ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0).ok(),
            }
        }
        _ => None,
    }
}

fn has_parameter(expr: &Expr) -> bool {
    expr.exists(|part| Ok(matches!(part, Expr::Placeholder(_))))
        .unwrap_or(true)
}

/// `column op value`.
fn compared(
    column: usize,
    op: Operator,
    value: &Expr,
    schema: &SchemaRef,
) -> Option<(usize, Constraint)> {
    let value = constant(value)?;
    let bound = |value: ScalarValue, is_inclusive: bool| {
        // −0.0 and 0.0 have one key, and so have all NaNs: the filter tells them apart if it does.
        let is_float = value.data_type().is_floating();
        Some(Bound {
            value,
            is_inclusive: is_inclusive || is_float,
        })
    };
    let data_type = schema.field(column).data_type();
    let constraint = match op {
        Operator::Eq => Constraint::Points(equal_to(column, &value, schema)?),
        Operator::IsNotDistinctFrom if value.is_null() => {
            Constraint::Points(vec![ScalarValue::try_from(data_type).ok()?])
        }
        Operator::IsNotDistinctFrom => Constraint::Points(equal_to(column, &value, schema)?),
        // A comparison with NULL is never true.
        Operator::Gt | Operator::GtEq | Operator::Lt | Operator::LtEq if value.is_null() => {
            Constraint::Points(Vec::new())
        }
        Operator::Gt | Operator::GtEq => Constraint::Range {
            lower: match place(&value, data_type)? {
                Place::At(value) => bound(value, op == Operator::GtEq),
                Place::Between(low, _) => bound(low, false),
                Place::Below => None,
                Place::Above => return Some((column, Constraint::Points(Vec::new()))),
            },
            upper: None,
        },
        Operator::Lt | Operator::LtEq => Constraint::Range {
            lower: None,
            upper: match place(&value, data_type)? {
                Place::At(value) => bound(value, op == Operator::LtEq),
                Place::Between(_, high) => bound(high, false),
                Place::Below => return Some((column, Constraint::Points(Vec::new()))),
                Place::Above => None,
            },
        },
        _ => return None,
    };
    Some((column, constraint))
}

/// The values of the column that equal a constant: one or none.
fn equal_to(column: usize, value: &ScalarValue, schema: &SchemaRef) -> Option<Vec<ScalarValue>> {
    if value.is_null() {
        return Some(Vec::new());
    }
    Some(match place(value, schema.field(column).data_type())? {
        Place::At(value) => vec![value],
        Place::Between(..) | Place::Below | Place::Above => Vec::new(),
    })
}
