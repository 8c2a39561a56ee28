//! CREATE VIEW and CREATE MATERIALIZED VIEW.

use sqlparser::ast::Query;
use sqlparser::tokenizer::Token;

use super::columns::duplicate_column;
use super::input::Input;
use super::options::with_options;
use crate::error::{PlanError, Result};
use crate::statement::Statement;

/// What stands behind CREATE [OR REPLACE] VIEW.
pub(super) fn create_view(input: &mut Input, or_replace: bool) -> Result<Statement> {
    if input.is_at(&["IF", "NOT", "EXISTS"]) {
        return Err(PlanError::unsupported(
            "CREATE VIEW IF NOT EXISTS",
            "write CREATE OR REPLACE VIEW",
        ));
    }
    let name = input.object_name("a view name")?;
    let columns = column_names(input)?;
    if input.is_at(&["WITH"]) {
        return Err(PlanError::unsupported(
            "WITH (...) on a view",
            "only materialized views have options",
        ));
    }
    input.expect(&["AS"])?;
    let query = body(input)?;
    Ok(Statement::CreateView {
        name,
        or_replace,
        columns,
        query,
    })
}

/// What stands behind CREATE [OR REPLACE] MATERIALIZED VIEW.
pub(super) fn create_materialized_view(input: &mut Input, or_replace: bool) -> Result<Statement> {
    let if_not_exists = input.if_not_exists();
    if or_replace && if_not_exists {
        return Err(input.error("OR REPLACE and IF NOT EXISTS exclude each other"));
    }
    let name = input.object_name("a materialized view name")?;
    let columns = column_names(input)?;
    let options = with_options(input)?;
    input.expect(&["AS"])?;
    let query = body(input)?;
    if input.is_at(&["WITH", "NO", "DATA"]) {
        return Err(PlanError::unsupported(
            "WITH NO DATA",
            "SET background_ddl = true makes CREATE return at once",
        ));
    }
    input.accept(&["WITH", "DATA"]);
    let emit_on_window_close = input.take_emit_on_window_close();
    Ok(Statement::CreateMaterializedView {
        name,
        or_replace,
        if_not_exists,
        columns,
        options,
        query,
        emit_on_window_close,
    })
}

/// `(name, ...)` or nothing.
fn column_names(input: &mut Input) -> Result<Vec<String>> {
    if !input.is_at_token(&Token::LParen) {
        return Ok(Vec::new());
    }
    let names = input.parenthesized_list(|i| i.name("a column name"))?;
    match names
        .iter()
        .enumerate()
        .find(|(i, n)| names[..*i].contains(n))
    {
        Some((_, twice)) => Err(duplicate_column(twice)),
        None => Ok(names),
    }
}

fn body(input: &mut Input) -> Result<Box<Query>> {
    let query = input.query()?;
    if input.is_at(&["EMIT"]) {
        return Err(input.error("expected EMIT ON WINDOW CLOSE at the end of the statement"));
    }
    Ok(query)
}
