//! `a [LEFT] JOIN d FOR SYSTEM_TIME AS OF PROCTIME() ON …`: in a view the right side is marked, so that the join can be told
//! from others (`as_of_join.rs`); a query sees `d` as it is now anyway.

use sqlparser::ast::{Expr, Join, JoinConstraint, JoinOperator, Query, SetExpr, TableFactor};

use crate::error::{PlanError, Result};
use crate::functions::Mark;
use crate::names::{fold, ident};
use crate::parse::PROCTIME;
use crate::parse_query::parse_query;
use crate::rewrite::expressions::call;
use crate::rewrite::qualify::{derived, unsupported};

/// Whether a relation is to be seen as it is when rows come to it.
pub fn is_as_of_now(factor: &TableFactor) -> bool {
    let TableFactor::Table { with_hints, .. } = factor else {
        return false;
    };
    match with_hints.as_slice() {
        [Expr::Function(hint)] => hint.name.to_string().eq_ignore_ascii_case(PROCTIME),
        _ => false,
    }
}

/// An error if this is not the right side of a join.
pub(super) fn refuse_alone(factor: &TableFactor) -> Result<()> {
    match is_as_of_now(factor) {
        true => Err(misused(
            "FOR SYSTEM_TIME AS OF PROCTIME() without a row to come to it",
        )),
        false => Ok(()),
    }
}

/// An error if no operator joins so.
pub(super) fn check_as_of_now(join: &Join) -> Result<()> {
    match &join.join_operator {
        _ if join.global => Err(misused("FOR SYSTEM_TIME AS OF PROCTIME() in an ASOF JOIN")),
        JoinOperator::Join(on)
        | JoinOperator::Inner(on)
        | JoinOperator::Left(on)
        | JoinOperator::LeftOuter(on)
            if !matches!(on, JoinConstraint::None) =>
        {
            Ok(())
        }
        _ => Err(misused(
            "FOR SYSTEM_TIME AS OF PROCTIME() in another join than JOIN and LEFT JOIN with ON or USING",
        )),
    }
}

/// Marks the right side.
pub(super) fn mark_as_of_now(join: &mut Join) -> Result<()> {
    if let TableFactor::Table { with_hints, .. } = &mut join.relation {
        with_hints.clear();
    }
    let (TableFactor::Table { alias, .. } | TableFactor::Derived { alias, .. }) = &join.relation
    else {
        return Err(PlanError::Internal("a relation of no name".to_string()));
    };
    let Some(mut outer) = alias.clone() else {
        return Err(PlanError::Internal("a relation without a name".to_string()));
    };
    let inner = ident(&fold(&outer.name));
    let mut query = parse_query(&format!("SELECT {inner}.* FROM {}", join.relation))?;
    mark(&mut query);
    outer.columns.clear();
    join.relation = derived(query, outer);
    Ok(())
}

/// Marks a query of one SELECT without WHERE, as which the right side of such a join stands.
pub fn mark(query: &mut Query) {
    if let SetExpr::Select(select) = query.body.as_mut() {
        select.selection = Some(call(Mark::AS_OF_NOW, Vec::new()));
    }
}

fn misused(feature: &str) -> PlanError {
    unsupported(
        feature,
        "write a JOIN d FOR SYSTEM_TIME AS OF PROCTIME() ON a.k = d.k, or a LEFT JOIN",
    )
}
