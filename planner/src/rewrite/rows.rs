//! Comparisons of rows, `(a, b) = (c, d)`, `(a, b) < (c, d)`, `(a, b) IN (…)`, as what they mean column by column.
//!
//! As values of one struct they would lose the third truth value: `(1, NULL) = (1, 2)` is NULL.

use sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator,
};

use super::build::grouped;
use crate::error::Result;
use crate::names::fold;
use crate::parse_query::parse_query;

/// What stands for `expr`, if it compares rows.
pub(super) fn by_column(expr: &Expr) -> Option<Expr> {
    match expr {
        Expr::BinaryOp { left, op, right } => {
            let (left, right) = (columns(left)?, columns(right)?);
            (left.len() == right.len()).then(|| compared(&left, op, &right))?
        }
        Expr::InList {
            expr,
            list,
            negated,
        } => {
            let left = columns(expr)?;
            let mut any: Option<Expr> = None;
            for item in list {
                let right = columns(item)?;
                if right.len() != left.len() {
                    return None;
                }
                let equal = compared(&left, &BinaryOperator::Eq, &right)?;
                any = Some(match any.take() {
                    Some(others) => grouped(others, BinaryOperator::Or, equal),
                    None => equal,
                });
            }
            any.map(|any| signed(any, *negated))
        }
        Expr::InSubquery {
            expr,
            subquery,
            negated,
        } => {
            let left = columns(expr)?;
            let test = within(&left, &subquery.to_string()).ok()?;
            Some(signed(test, *negated))
        }
        _ => None,
    }
}

/// The columns of a row that is written out.
fn columns(expr: &Expr) -> Option<Vec<Expr>> {
    match expr {
        Expr::Tuple(columns) => (columns.len() > 1).then(|| columns.clone()),
        Expr::Nested(inner) => columns(inner),
        Expr::Function(function) => {
            let [part] = function.name.0.as_slice() else {
                return None;
            };
            let FunctionArguments::List(list) = &function.args else {
                return None;
            };
            if part.as_ident().map(fold).as_deref() != Some("row") {
                return None;
            }
            let value = |arg: &FunctionArg| match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
                _ => None,
            };
            list.args.iter().map(value).collect()
        }
        _ => None,
    }
}

fn compared(left: &[Expr], op: &BinaryOperator, right: &[Expr]) -> Option<Expr> {
    let pairs = || left.iter().cloned().zip(right.iter().cloned());
    let all = |op: BinaryOperator, with: BinaryOperator| {
        pairs()
            .map(|(l, r)| grouped(l, op.clone(), r))
            .reduce(|all, one| grouped(all, with.clone(), one))
    };
    match op {
        BinaryOperator::Eq => all(BinaryOperator::Eq, BinaryOperator::And),
        BinaryOperator::NotEq => all(BinaryOperator::NotEq, BinaryOperator::Or),
        BinaryOperator::Lt | BinaryOperator::LtEq => in_order(left, op, BinaryOperator::Lt, right),
        BinaryOperator::Gt | BinaryOperator::GtEq => in_order(left, op, BinaryOperator::Gt, right),
        _ => None,
    }
}

/// The first columns that differ decide.
fn in_order(
    left: &[Expr],
    last: &BinaryOperator,
    strict: BinaryOperator,
    right: &[Expr],
) -> Option<Expr> {
    let mut pairs = left.iter().cloned().zip(right.iter().cloned()).rev();
    let (l, r) = pairs.next()?;
    let mut rest = grouped(l, last.clone(), r);
    for (l, r) in pairs {
        let differ = grouped(l.clone(), strict.clone(), r.clone());
        let equal = grouped(l, BinaryOperator::Eq, r);
        let later = grouped(equal, BinaryOperator::And, rest);
        rest = grouped(differ, BinaryOperator::Or, later);
    }
    Some(rest)
}

/// Whether the rows of `subquery` hold this one: true, false, or NULL if a NULL decides.
fn within(left: &[Expr], subquery: &str) -> Result<Expr> {
    let names: Vec<String> = (1..=left.len()).map(|i| format!("rm_{i}")).collect();
    let equal: Vec<String> = left
        .iter()
        .zip(&names)
        .map(|(column, name)| format!("({column}) = rm_rows.{name}"))
        .collect();
    let (names, equal) = (names.join(", "), equal.join(" AND "));
    let rows = format!("SELECT 1 FROM ({subquery}) AS rm_rows ({names}) WHERE");
    let query = parse_query(&format!(
        "SELECT CASE WHEN EXISTS ({rows} {equal}) THEN true WHEN EXISTS ({rows} ({equal}) IS NULL) THEN NULL \
         ELSE false END"
    ))?;
    match *query.body {
        sqlparser::ast::SetExpr::Select(mut select) => match select.projection.pop() {
            Some(sqlparser::ast::SelectItem::UnnamedExpr(test)) => Ok(Expr::Nested(Box::new(test))),
            _ => Err(unread()),
        },
        _ => Err(unread()),
    }
}

fn unread() -> crate::error::PlanError {
    crate::error::PlanError::Internal("a test of a row was read as something else".to_string())
}

fn signed(test: Expr, negated: bool) -> Expr {
    match negated {
        true => Expr::UnaryOp {
            op: UnaryOperator::Not,
            expr: Box::new(test),
        },
        false => test,
    }
}
