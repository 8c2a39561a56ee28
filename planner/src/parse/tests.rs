//! Statements in, summaries out; errors with their positions; round trips of definitions; garbage.

mod clients;
mod definitions;
mod errors;
mod hostile;
mod roles;
mod statements;

use super::parse;
use crate::error::PlanError;
use crate::statement::Statement;

/// The only statement of `sql`.
fn one(sql: &str) -> Statement {
    let mut statements = parse(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert_eq!(statements.len(), 1, "{sql}");
    statements.remove(0).statement
}

fn error(sql: &str) -> PlanError {
    match parse(sql) {
        Ok(statements) => panic!("{sql}: parsed as {statements:?}"),
        Err(e) => e,
    }
}
