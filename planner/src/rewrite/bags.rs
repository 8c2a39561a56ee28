//! EXCEPT ALL and INTERSECT ALL with PostgreSQL's bag semantics; DataFusion plans them as anti and semi joins.
//!
//! A view counts rows instead (`set_operation.rs`). In a query the n-th copy of a row is told apart by a number, so that sets of (row, number) behave as bags of rows.

use sqlparser::ast::{SetExpr, SetOperator, SetQuantifier};

use crate::error::Result;
use crate::names::ident;
use crate::parse_query::parse_query;

/// Whether the operation needs [`bag_operation`].
pub fn is_bag_difference(op: SetOperator, quantifier: SetQuantifier) -> bool {
    op != SetOperator::Union && quantifier == SetQuantifier::All
}

/// `left op ALL right`, whose columns are `columns`.
pub fn bag_operation(
    op: SetOperator,
    left: &SetExpr,
    right: &SetExpr,
    columns: &[String],
) -> Result<SetExpr> {
    let list = columns
        .iter()
        .map(|c| ident(c).to_string())
        .collect::<Vec<_>>()
        .join(", ");
    let number = ident("rm:copy");
    let numbered = |side: &SetExpr| {
        format!(
            "SELECT {list}, row_number() OVER (PARTITION BY {list}) AS {number} FROM ({side}) AS s ({list})"
        )
    };
    let sql = format!(
        "SELECT {list} FROM ({} {op} {}) AS s",
        numbered(left),
        numbered(right)
    );
    Ok(*parse_query(&sql)?.body)
}
