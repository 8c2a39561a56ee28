//! Identities of AND, OR, NOT and CASE in three-valued logic.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Between, Case, InList, Like};
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, lit};

/// `left AND right`: false if either is false, a side if the other is true or the same.
pub fn and(left: Expr, right: Expr) -> Transformed<Expr> {
    match (truth(&left), truth(&right)) {
        (Some(false), _) | (_, Some(false)) => Transformed::yes(lit(false)),
        (Some(true), _) => Transformed::yes(right),
        (_, Some(true)) => Transformed::yes(left),
        (None, None) if left == right && !left.is_volatile() => Transformed::yes(left),
        (None, None) => Transformed::no(left.and(right)),
    }
}

/// `left OR right`: true if either is true, a side if the other is false. What both sides ask for comes first:
/// `(a AND b) OR (a AND c)` is `a AND (b OR c)`, in which a join finds its keys.
pub fn or(left: Expr, right: Expr) -> Transformed<Expr> {
    match (truth(&left), truth(&right)) {
        (Some(true), _) | (_, Some(true)) => return Transformed::yes(lit(true)),
        (Some(false), _) => return Transformed::yes(right),
        (_, Some(false)) => return Transformed::yes(left),
        (None, None) => {}
    }
    let of_right = split_conjunction(&right);
    let common: Vec<Expr> = split_conjunction(&left)
        .into_iter()
        .filter(|part| of_right.contains(part) && !part.is_volatile())
        .cloned()
        .collect();
    let Some(shared) = conjunction(common.iter().cloned()) else {
        return Transformed::no(left.or(right));
    };
    let rest = |side: Expr| {
        let parts = split_conjunction_owned(side).into_iter();
        conjunction(parts.filter(|part| !common.contains(part)))
    };
    Transformed::yes(match (rest(left), rest(right)) {
        (Some(left), Some(right)) => shared.and(left.or(right)),
        // one side asks for nothing more, so the other's conditions add nothing
        _ => shared,
    })
}

/// `NOT inner`, with the NOT moved inwards where an operator has an opposite. All of these are NULL where `inner` is.
pub fn not(inner: Expr) -> Transformed<Expr> {
    Transformed::yes(match inner {
        Expr::Not(inner) => *inner,
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And,
            right,
        }) => not(*left).data.or(not(*right).data),
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Or,
            right,
        }) => not(*left).data.and(not(*right).data),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op.negate() {
            Some(opposite) => Expr::BinaryExpr(BinaryExpr::new(left, opposite, right)),
            None => {
                let inner = Expr::BinaryExpr(BinaryExpr::new(left, op, right));
                return Transformed::no(Expr::Not(Box::new(inner)));
            }
        },
        Expr::IsNull(inner) => Expr::IsNotNull(inner),
        Expr::IsNotNull(inner) => Expr::IsNull(inner),
        Expr::IsTrue(inner) => Expr::IsNotTrue(inner),
        Expr::IsNotTrue(inner) => Expr::IsTrue(inner),
        Expr::IsFalse(inner) => Expr::IsNotFalse(inner),
        Expr::IsNotFalse(inner) => Expr::IsFalse(inner),
        Expr::InList(list) => Expr::InList(InList {
            negated: !list.negated,
            ..list
        }),
        Expr::Between(between) => Expr::Between(Between {
            negated: !between.negated,
            ..between
        }),
        Expr::Like(like) => Expr::Like(Like {
            negated: !like.negated,
            ..like
        }),
        other => return Transformed::no(Expr::Not(Box::new(other))),
    })
}

/// `CASE WHEN …` without the branches that are never taken, up to the first that always is.
pub fn case(case: Case, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_decided = |when: &Expr| truth(when).is_some() || is_null(when);
    if case.expr.is_some() || !case.when_then_expr.iter().any(|(when, _)| is_decided(when)) {
        return Ok(Transformed::no(Expr::Case(case)));
    }
    let data_type = Expr::Case(case.clone()).get_type(schema)?;
    let mut branches = Vec::with_capacity(case.when_then_expr.len());
    let mut otherwise = case.else_expr;
    for (when, then) in case.when_then_expr {
        if truth(&when) == Some(true) {
            otherwise = Some(then);
            break;
        }
        if !is_decided(&when) {
            branches.push((when, then));
        }
    }
    if !branches.is_empty() {
        let shorter = Case::new(None, branches, otherwise);
        return Ok(Transformed::yes(Expr::Case(shorter)));
    }
    Ok(Transformed::yes(match otherwise {
        Some(otherwise) => *otherwise,
        None => Expr::Literal(ScalarValue::try_new_null(&data_type)?, None),
    }))
}

/// The value of a boolean constant that is not NULL.
fn truth(expr: &Expr) -> Option<bool> {
    match expr {
        Expr::Literal(ScalarValue::Boolean(value), _) => *value,
        _ => None,
    }
}

pub(super) fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}
