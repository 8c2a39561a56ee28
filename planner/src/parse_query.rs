//! Parses a query that is stored or of our own making, in PostgreSQL's dialect.

use sqlparser::ast::Query;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

use crate::error::{PlanError, Result};

/// Parses a query of our own making or one that was stored.
pub fn parse_query(sql: &str) -> Result<Query> {
    let syntax = |error: ParserError| PlanError::Syntax {
        message: error.to_string(),
        position: None,
    };
    let mut parser = Parser::new(&PostgreSqlDialect {})
        .try_with_sql(sql)
        .map_err(syntax)?;
    let query = parser.parse_query().map_err(syntax)?;
    match parser.peek_token().token {
        Token::EOF => Ok(*query),
        other => Err(PlanError::Syntax {
            message: format!("unexpected {other} after a query"),
            position: None,
        }),
    }
}
