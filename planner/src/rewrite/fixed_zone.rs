//! The time zone of a materialized view, kept in its bound SQL as a common table expression that nothing reads.
//!
//! Whether an expression depends on the zone is known only after types are, so it can not be written out in the text;
//! and the text is all that is stored.

use sqlparser::ast::{Cte, Expr, Query, SelectItem, SetExpr, Value};

use crate::error::{PlanError, Result};
use crate::identifier::quote_literal;
use crate::names::ident;
use crate::parse_query::parse_query;

const NAME: &str = "rm:time_zone";

/// The zone that is fixed in `query`.
pub fn fixed_zone(query: &Query) -> Option<String> {
    let cte = query
        .with
        .as_ref()?
        .cte_tables
        .iter()
        .find(|cte| cte.alias.name.value == NAME)?;
    let SetExpr::Select(select) = cte.query.body.as_ref() else {
        return None;
    };
    match select.projection.first()? {
        SelectItem::UnnamedExpr(Expr::Value(value))
        | SelectItem::ExprWithAlias {
            expr: Expr::Value(value),
            ..
        } => match &value.value {
            Value::SingleQuotedString(zone) => Some(zone.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// `query` with `zone` fixed in it.
pub fn fix_zone(mut query: Query, zone: &str) -> Result<Query> {
    let marked = parse_query(&format!(
        "WITH {} AS (SELECT {} AS zone) SELECT 1",
        ident(NAME),
        quote_literal(zone)
    ))?;
    let Some(marker) = marked.with else {
        return Err(PlanError::Internal("a WITH clause was lost".to_string()));
    };
    match &mut query.with {
        Some(with) => {
            let marker: Vec<Cte> = marker.cte_tables;
            with.cte_tables.splice(0..0, marker);
        }
        None => query.with = Some(marker),
    }
    Ok(query)
}
