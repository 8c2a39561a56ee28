//! EXPLAIN.

use sqlparser::tokenizer::Token;

use super::input::Input;
use crate::error::{PlanError, Result};
use crate::statement::Statement;

/// What stands behind EXPLAIN.
pub(super) fn explain(input: &mut Input) -> Result<Statement> {
    let mut analyze = false;
    let mut verbose = false;
    if input.is_at_token(&Token::LParen) && !starts_query(input, 1) {
        input.parenthesized_list(|input| explain_option(input, &mut analyze, &mut verbose))?;
    } else {
        analyze = input.accept(&["ANALYZE"]) || input.accept(&["ANALYSE"]);
        verbose = input.accept(&["VERBOSE"]);
    }
    if analyze && input.accept(&["MATERIALIZED", "VIEW"]) {
        let name = input.object_name("a materialized view")?;
        return Ok(Statement::ExplainRunning { name });
    }
    let is_explainable = starts_query(input, 0)
        || input.is_at_one_of(&["INSERT", "UPDATE", "DELETE", "CREATE"])
        || input.is_at_token(&Token::LParen);
    if !is_explainable {
        return Err(input.expected("SELECT, INSERT, UPDATE, DELETE or CREATE MATERIALIZED VIEW"));
    }
    let statement = super::statement(input)?;
    match &statement {
        Statement::Query(_)
        | Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::CreateView { .. } => {}
        Statement::CreateMaterializedView { .. } if !analyze => {}
        Statement::CreateMaterializedView { .. } => {
            return Err(PlanError::unsupported(
                "EXPLAIN ANALYZE CREATE MATERIALIZED VIEW",
                "leave ANALYZE out",
            ));
        }
        _ => {
            return Err(PlanError::unsupported(
                "EXPLAIN of this statement",
                "queries and CREATE MATERIALIZED VIEW have plans",
            ));
        }
    }
    Ok(Statement::Explain {
        analyze,
        verbose,
        statement: Box::new(statement),
    })
}

fn starts_query(input: &Input, n: usize) -> bool {
    match input.token(n) {
        Token::LParen => n > 0,
        token => ["SELECT", "WITH", "VALUES"]
            .iter()
            .any(|w| super::shape::is_word(token, w)),
    }
}

fn explain_option(input: &mut Input, analyze: &mut bool, verbose: &mut bool) -> Result<()> {
    let name = input.word("an option of EXPLAIN")?;
    if name == "format" {
        if input.accept(&["TEXT"]) {
            return Ok(());
        }
        return Err(PlanError::unsupported(
            "EXPLAIN in this format",
            "only FORMAT TEXT",
        ));
    }
    let value = flag(input)?;
    match name.as_str() {
        "analyze" | "analyse" => *analyze = value,
        "verbose" => *verbose = value,
        "costs" | "settings" | "buffers" | "wal" | "timing" | "summary" | "generic_plan" => {}
        other => {
            return Err(PlanError::invalid_option(format!(
                "unrecognized EXPLAIN option \"{other}\": allowed are analyze, verbose, format"
            )));
        }
    }
    Ok(())
}

fn flag(input: &mut Input) -> Result<bool> {
    match input.token(0) {
        Token::Comma | Token::RParen => Ok(true),
        Token::Number(digit, _) if digit == "1" || digit == "0" => {
            let is_on = digit == "1";
            input.skip(1);
            Ok(is_on)
        }
        _ => match input.word("a boolean")?.as_str() {
            "true" | "on" => Ok(true),
            "false" | "off" => Ok(false),
            other => Err(PlanError::invalid_option(format!(
                "\"{other}\" is not a boolean"
            ))),
        },
    }
}
