//! `a ASOF [LEFT] JOIN b ON a.k = b.k AND b.ts <= a.ts`: of the rows of `b` that fulfil the condition the one that is nearest
//! in time, as a subquery of one row for each row of `a`:
//!
//! ```text
//! a [LEFT] JOIN LATERAL (SELECT * FROM b WHERE a.k = b.k AND b.ts <= a.ts ORDER BY b.ts DESC LIMIT 1) AS b ON true
//! ```
//!
//! The first comparison by `<`, `<=`, `>` or `>=` of a value of `b` with one of `a` says what is near; others bound how far it may
//! be away. Of several rows that are equally near it is one of them.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, Join, JoinConstraint, JoinOperator, TableAlias, TableFactor, Value,
    visit_expressions,
};

use crate::error::{PlanError, Result};
use crate::names::{fold, ident};
use crate::parse_query::parse_query;
use crate::rewrite::qualify::lateral;

/// What an ASOF join stands for. `columns`: those of its right side.
pub(super) fn expand_asof(join: &mut Join, columns: &[String]) -> Result<()> {
    let condition = condition_of(&join.join_operator)?;
    let alias = alias_of(&join.relation)?;
    let name = fold(&alias.name);
    let (time, is_latest) = order_of(condition, &name, columns)?;
    let direction = if is_latest { "DESC" } else { "ASC" };
    let inner = ident(&name);
    let query = parse_query(&format!(
        "SELECT {inner}.* FROM {} WHERE {condition} ORDER BY {time} {direction} LIMIT 1",
        join.relation
    ))?;
    let mut outer = alias;
    outer.columns.clear();
    join.relation = lateral(query, outer);
    let always = JoinConstraint::On(Expr::Value(Value::Boolean(true).into()));
    join.join_operator = match &join.join_operator {
        JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => JoinOperator::LeftOuter(always),
        _ => JoinOperator::Inner(always),
    };
    join.global = false;
    Ok(())
}

fn condition_of(operator: &JoinOperator) -> Result<&Expr> {
    match operator {
        JoinOperator::Join(JoinConstraint::On(on))
        | JoinOperator::Inner(JoinConstraint::On(on))
        | JoinOperator::Left(JoinConstraint::On(on))
        | JoinOperator::LeftOuter(JoinConstraint::On(on)) => Ok(on),
        _ => Err(misused(
            "ASOF JOIN without ON",
            "write ASOF JOIN or ASOF LEFT JOIN, with ON",
        )),
    }
}

fn alias_of(relation: &TableFactor) -> Result<TableAlias> {
    let alias = match relation {
        TableFactor::Table { alias, .. } | TableFactor::Derived { alias, .. } => alias.clone(),
        _ => None,
    };
    alias.ok_or_else(|| {
        misused(
            "ASOF JOIN with what has no name",
            "give the right side an alias",
        )
    })
}

/// The value of the right side that is near in time, and whether the latest of them is wanted.
fn order_of(condition: &Expr, alias: &str, columns: &[String]) -> Result<(Expr, bool)> {
    let mut conjuncts = vec![condition];
    let mut found = None;
    while let Some(conjunct) = conjuncts.pop() {
        match conjunct {
            Expr::Nested(inner) => conjuncts.push(inner),
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And,
                right,
            } => conjuncts.extend([right.as_ref(), left.as_ref()]),
            Expr::BinaryOp { left, op, right } => {
                let is_less = match op {
                    BinaryOperator::Lt | BinaryOperator::LtEq => true,
                    BinaryOperator::Gt | BinaryOperator::GtEq => false,
                    _ => continue,
                };
                let is_of_right = [left, right].map(|side| refers_to(side, alias, columns));
                found = match is_of_right {
                    [true, false] => Some((left.as_ref().clone(), is_less)),
                    [false, true] => Some((right.as_ref().clone(), !is_less)),
                    _ => continue,
                };
                break;
            }
            _ => {}
        }
    }
    found.ok_or_else(|| {
        misused(
            "ASOF JOIN without a comparison of the two sides' times",
            "add one to ON, such as b.ts <= a.ts",
        )
    })
}

/// Whether `expr` has a column of the right side.
fn refers_to(expr: &Expr, alias: &str, columns: &[String]) -> bool {
    let visited = visit_expressions(expr, |part| {
        let is_column = match part {
            Expr::Identifier(name) => columns.contains(&fold(name)),
            Expr::CompoundIdentifier(parts) => {
                parts.first().is_some_and(|part| fold(part) == alias)
            }
            _ => false,
        };
        match is_column {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    visited.is_break()
}

fn misused(feature: &str, hint: &str) -> PlanError {
    PlanError::unsupported(feature, hint)
}
