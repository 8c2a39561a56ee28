//! From SQL text to typed statements.
//!
//! The text is tokenized once and split into statements; each is checked for shapes that would overflow a stack
//! (`parse/shape.rs`), brought into spellings that sqlparser knows (`parse/rewrite.rs`) and parsed. Streaming
//! statements and the small ones are parsed here, word by word; types, expressions and queries by sqlparser.

use sqlparser::ast;
use sqlparser::tokenizer::Token;

use self::input::Input;
use self::split::{Piece, character_of, split};
use crate::dialect::RivermarkDialect;
use crate::error::{PlanError, Result};
use crate::statement::{ParsedStatement, Statement};

mod columns;
mod copy;
mod create;
mod drop;
mod explain;
mod input;
mod normalize;
mod options;
mod prepared;
mod refused;
mod rewrite;
mod session;
mod shape;
mod show;
mod source;
mod split;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod watermark;

/// The statements of a query string, in order; none for a text of comments and semicolons.
///
/// Positions in errors count characters of the whole string, from 1.
pub fn parse(sql: &str) -> Result<Vec<ParsedStatement>> {
    split(sql)?.into_iter().map(|piece| parse_piece(sql, piece)).collect()
}

/// An expression, as definitions keep them: defaults, checks, generated columns.
pub fn parse_expression(text: &str) -> Result<ast::Expr> {
    parse_whole(text, |input| input.expression())
}

/// A query, as definitions of views keep it.
pub fn parse_query(text: &str) -> Result<Box<ast::Query>> {
    parse_whole(text, |input| input.query())
}

fn parse_piece(sql: &str, piece: Piece) -> Result<ParsedStatement> {
    let text = piece.text.to_string();
    let statement = with_input(sql, piece, statement)?;
    Ok(ParsedStatement { statement, text })
}

fn parse_whole<T>(text: &str, parse: impl FnOnce(&mut Input) -> Result<T>) -> Result<T> {
    let mut pieces = split(text)?.into_iter();
    match (pieces.next(), pieces.next()) {
        (Some(piece), None) => with_input(text, piece, parse),
        _ => Err(PlanError::Syntax { message: "expected one expression or query".to_string(), position: None }),
    }
}

/// Runs a parser over one statement's tokens, to their end.
fn with_input<T>(sql: &str, piece: Piece, parse: impl FnOnce(&mut Input) -> Result<T>) -> Result<T> {
    if let Some((token, problem)) = shape::find_excess(&piece.tokens) {
        return Err(PlanError::Syntax {
            message: problem.to_string(),
            position: character_of(sql, token.span.start),
        });
    }
    if let Some(error) = refused::clause(&piece) {
        return Err(error);
    }
    let tokens = rewrite::rewrite(piece.tokens);
    let dialect = RivermarkDialect::for_statement(tokens.len());
    let mut input = Input::new(sql, &dialect, tokens, piece.end);
    let parsed = parse(&mut input)?;
    input.expect_end()?;
    if input.take_emit_on_window_close() {
        return Err(PlanError::unsupported(
            "EMIT ON WINDOW CLOSE here",
            "it ends a CREATE MATERIALIZED VIEW and nothing else",
        ));
    }
    Ok(parsed)
}

/// One statement; what follows it is left to the caller.
fn statement(input: &mut Input) -> Result<Statement> {
    let first = match input.token(0) {
        Token::Word(w) if w.quote_style.is_none() => w.value.to_ascii_uppercase(),
        Token::LParen => return Ok(Statement::Query(input.query()?)),
        _ => return Err(input.expected("a statement")),
    };
    if let "SELECT" | "VALUES" | "WITH" = first.as_str() {
        return Ok(Statement::Query(input.query()?));
    }
    if let "INSERT" | "UPDATE" | "DELETE" = first.as_str() {
        return change(input);
    }
    type Parser = fn(&mut Input) -> Result<Statement>;
    let parser: Parser = match first.as_str() {
        "CREATE" => create::create,
        "DROP" => drop::drop,
        "COMMENT" => drop::comment,
        "EXPLAIN" => explain::explain,
        "COPY" => copy::copy,
        "SHOW" => show::show,
        "DESCRIBE" | "DESC" => show::describe,
        "FLUSH" => |_| Ok(Statement::Flush),
        "SET" => session::set,
        "RESET" => session::reset,
        "BEGIN" => |input| {
            let _ = input.accept(&["WORK"]) || input.accept(&["TRANSACTION"]);
            session::begin(input)
        },
        "START" => |input| {
            input.expect(&["TRANSACTION"])?;
            session::begin(input)
        },
        "COMMIT" | "END" => |input| session::end(input, Statement::Commit),
        "ROLLBACK" | "ABORT" => |input| session::end(input, Statement::Rollback),
        "PREPARE" => prepared::prepare,
        "EXECUTE" => prepared::execute,
        "DEALLOCATE" => prepared::deallocate,
        "DECLARE" => prepared::declare,
        "FETCH" => prepared::fetch,
        "CLOSE" => prepared::close,
        "DISCARD" => session::discard,
        _ => return Err(refused::statement(input)),
    };
    input.skip(1);
    parser(input)
}

/// INSERT, UPDATE and DELETE.
fn change(input: &mut Input) -> Result<Statement> {
    match input.standard_statement()? {
        ast::Statement::Insert(insert) => Ok(Statement::Insert(Box::new(insert))),
        update @ ast::Statement::Update(_) => Ok(Statement::Update(Box::new(update))),
        ast::Statement::Delete(delete) => Ok(Statement::Delete(Box::new(delete))),
        other => Err(PlanError::Internal(format!("a change parsed as {other}"))),
    }
}
