//! Comparisons: constants to the right, and compared in the type of the column instead of casting every row.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::Between;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator};

use super::logic::is_null;
use crate::rewrite::guard::is_total_cast;

/// `5 < x` is `x > 5`, `x::bigint > 5` is `x > 5`, and a comparison with NULL is NULL. `x = x` of
/// the query around is `x IS NOT NULL OR NULL`.
pub fn comparison(binary: BinaryExpr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let BinaryExpr { left, op, right } = binary;
    if let (Expr::Literal(..), Some(swapped)) = (left.as_ref(), op.swap()) {
        // both sides constant: it failed to evaluate, and swapping would never end
        if !matches!(right.as_ref(), Expr::Literal(..)) {
            let swapped = BinaryExpr::new(right, swapped, left);
            return Ok(Transformed::yes(comparison(swapped, schema)?.data));
        }
    }
    let is_strict = !matches!(op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom);
    if is_strict && (is_null(&left) || is_null(&right)) {
        let null = Expr::Literal(ScalarValue::Boolean(None), None);
        return Ok(Transformed::yes(null));
    }
    if let (Expr::Cast(Cast { expr, field }), Expr::Literal(value, metadata)) =
        (left.as_ref(), right.as_ref())
        && let Some(narrow) = narrowed(value, &expr.get_type(schema)?, field.data_type())
    {
        let narrow = Expr::Literal(narrow, metadata.clone());
        let uncast = BinaryExpr::new(expr.clone(), op, Box::new(narrow));
        return Ok(Transformed::yes(Expr::BinaryExpr(uncast)));
    }
    if op == Operator::Eq && left == right && left.contains_outer() && !left.is_volatile() {
        // as a condition of a subquery DataFusion drops it, whether x is NULL or not
        let null = Expr::Literal(ScalarValue::Boolean(None), None);
        return Ok(Transformed::yes(left.is_not_null().or(null)));
    }
    let same = BinaryExpr::new(left, op, right);
    Ok(Transformed::no(Expr::BinaryExpr(same)))
}

/// `value`, which is of type `to`, in type `from`, if casts from `from` to `to` lose nothing and keep the order, and
/// `from` has that value.
fn narrowed(value: &ScalarValue, from: &DataType, to: &DataType) -> Option<ScalarValue> {
    let is_exact = |t: &DataType| t.is_signed_integer() || t.is_decimal();
    let is_widening = is_exact(from) && is_exact(to) && is_total_cast(from, to);
    if !is_widening || value.is_null() {
        return None;
    }
    let narrow = value.cast_to(from).ok()?;
    (narrow.cast_to(to).ok()? == *value).then_some(narrow)
}

/// `x BETWEEN a AND b` as two comparisons.
pub fn between(between: Between) -> Expr {
    let Between {
        expr,
        negated,
        low,
        high,
    } = between;
    let expr = *expr;
    if negated {
        expr.clone().lt(*low).or(expr.gt(*high))
    } else {
        expr.clone().gt_eq(*low).and(expr.lt_eq(*high))
    }
}
