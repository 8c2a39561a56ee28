//! `x op ANY (array)` and `x op ALL (array)`, where a comparison with an element that is NULL is NULL.
//!
//! DataFusion's ANY forgets that. Over the elements of `ARRAY[a, b]` it is `x op a OR x op b` (ALL: AND); over another
//! array it is NOT the opposite ALL, which DataFusion has right.

use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value, ValueWithSpan};

use super::build::{grouped, nested};
use super::expressions::take;

/// What stands for `expr`, if it is such a comparison that DataFusion has not right.
pub fn with_nulls(expr: &mut Expr) -> Option<Expr> {
    let (left, op, right, is_any) = match expr {
        Expr::AnyOp {
            left,
            compare_op,
            right,
            ..
        } => (left, compare_op, right, true),
        Expr::AllOp {
            left,
            compare_op,
            right,
        } => (left, compare_op, right, false),
        _ => return None,
    };
    match right.as_mut() {
        Expr::Array(array) if is_flat(&array.elem) => {
            let elements = std::mem::take(&mut array.elem);
            over_elements(nested(take(left)), op, elements, is_any)
        }
        Expr::Subquery(_) => None,
        // its type is inferred from DataFusion's form
        Expr::Value(ValueWithSpan {
            value: Value::Placeholder(_),
            ..
        }) => None,
        _ if is_any => {
            let compare_op = opposite(op)?;
            let all = Expr::AllOp {
                left: Box::new(nested(take(left))),
                compare_op,
                right: Box::new(take(right)),
            };
            Some(Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr: Box::new(nested(all)),
            })
        }
        _ => None,
    }
}

/// `x LIKE ANY (ARRAY[a, b])` is `x LIKE a OR x LIKE b`.
pub fn like_any(expr: &Expr) -> Option<Expr> {
    let pattern = match expr {
        Expr::Like {
            any: true, pattern, ..
        }
        | Expr::ILike {
            any: true, pattern, ..
        } => pattern.as_ref(),
        _ => return None,
    };
    let patterns = patterns_of(pattern)?;
    let one = |pattern: &Expr| {
        let mut like = expr.clone();
        if let Expr::Like {
            any, pattern: of, ..
        }
        | Expr::ILike {
            any, pattern: of, ..
        } = &mut like
        {
            *any = false;
            **of = pattern.clone();
        }
        nested(like)
    };
    patterns
        .iter()
        .map(one)
        .reduce(|all, one| grouped(all, BinaryOperator::Or, one))
}

fn patterns_of(pattern: &Expr) -> Option<&[Expr]> {
    match pattern {
        Expr::Nested(inner) => patterns_of(inner),
        Expr::Array(array) if is_flat(&array.elem) => Some(&array.elem),
        _ => None,
    }
}

fn is_flat(elements: &[Expr]) -> bool {
    !elements.is_empty() && !elements.iter().any(|e| matches!(e, Expr::Array(_)))
}

fn over_elements(
    left: Expr,
    op: &BinaryOperator,
    elements: Vec<Expr>,
    is_any: bool,
) -> Option<Expr> {
    match (is_any, op) {
        (true, BinaryOperator::Eq) | (false, BinaryOperator::NotEq) => Some(Expr::InList {
            expr: Box::new(left),
            list: elements,
            negated: !is_any,
        }),
        _ => {
            let combine = match is_any {
                true => BinaryOperator::Or,
                false => BinaryOperator::And,
            };
            elements
                .into_iter()
                .map(|element| grouped(left.clone(), op.clone(), element))
                .reduce(|all, one| grouped(all, combine.clone(), one))
        }
    }
}

fn opposite(op: &BinaryOperator) -> Option<BinaryOperator> {
    Some(match op {
        BinaryOperator::Eq => BinaryOperator::NotEq,
        BinaryOperator::NotEq => BinaryOperator::Eq,
        BinaryOperator::Lt => BinaryOperator::GtEq,
        BinaryOperator::LtEq => BinaryOperator::Gt,
        BinaryOperator::Gt => BinaryOperator::LtEq,
        BinaryOperator::GtEq => BinaryOperator::Lt,
        _ => return None,
    })
}
