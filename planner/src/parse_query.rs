//! Parses a query that is stored or of our own making.

use sqlparser::ast::Query;

use crate::error::Result;

/// The one query in `sql`, in Rivermark's dialect.
pub fn parse_query(sql: &str) -> Result<Query> {
    crate::parse::parse_query(sql).map(|query| *query)
}
