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

/// How deep expressions and subqueries of a person may nest. Each level of a subquery takes three or four.
const MAX_DEPTH: usize = 200;

mod alter;
mod change;
mod columns;
mod copy;
mod create;
mod drop;
mod explain;
mod follow;
mod index;
mod input;
mod normalize;
mod options;
mod prepared;
mod refused;
mod rewrite;
mod role;
mod secret;
mod session;
mod shape;
mod show;
mod source;
mod split;
mod system_time;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod watermark;

pub(crate) use system_time::PROCTIME;

/// The statements of a query string, in order; none for a text of comments and semicolons.
///
/// Positions in errors count characters of the whole string, from 1.
pub fn parse(sql: &str) -> Result<Vec<ParsedStatement>> {
    split(sql)?
        .into_iter()
        .map(|piece| parse_piece(sql, piece))
        .collect()
}

/// An expression of our own text or a stored one: defaults, checks, generated columns. Nesting is not limited.
pub fn parse_expression(text: &str) -> Result<ast::Expr> {
    parse_whole(text, |input| input.expression())
}

/// A query of our own text or a stored one, such as a view's. Nesting is not limited: binding may have nested it
/// more deeply than a person may.
pub fn parse_query(text: &str) -> Result<Box<ast::Query>> {
    parse_whole(text, |input| input.query())
}

/// Where a text comes from, and so whether it must be bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Person,
    Stored,
}

fn parse_piece(sql: &str, piece: Piece) -> Result<ParsedStatement> {
    let text = piece.text.to_string();
    let statement = with_input(sql, piece, Origin::Person, statement)?;
    Ok(ParsedStatement { statement, text })
}

fn parse_whole<T: Send>(
    text: &str,
    parse: impl FnOnce(&mut Input) -> Result<T> + Send,
) -> Result<T> {
    let mut pieces = split(text)?.into_iter();
    match (pieces.next(), pieces.next()) {
        (Some(piece), None) => with_input(text, piece, Origin::Stored, parse),
        _ => Err(PlanError::Syntax {
            message: "expected one expression or query".to_string(),
            position: None,
        }),
    }
}

/// Runs a parser over one statement's tokens, to their end.
fn with_input<T: Send>(
    sql: &str,
    piece: Piece,
    origin: Origin,
    parse: impl FnOnce(&mut Input) -> Result<T> + Send,
) -> Result<T> {
    let is_deep = match (shape::is_deep(&piece.tokens), origin) {
        (Ok(is_deep), _) => is_deep,
        (Err(_), Origin::Stored) => true,
        (Err((token, problem)), Origin::Person) => {
            return Err(PlanError::Syntax {
                message: problem.to_string(),
                position: character_of(sql, token.span.start),
            });
        }
    };
    if let Some(error) = refused::clause(&piece) {
        return Err(error);
    }
    let run = move || {
        let tokens = rewrite::rewrite(system_time::rewrite(piece.tokens));
        let (dialect, max_depth) = match origin {
            Origin::Person => (RivermarkDialect::for_statement(tokens.len()), MAX_DEPTH),
            Origin::Stored => (RivermarkDialect::default(), usize::MAX),
        };
        let input = Input::new(sql, &dialect, max_depth, tokens, piece.end);
        parse_tokens(input, parse)
    };
    if is_deep {
        shape::on_deep_stack(run)
    } else {
        run()
    }
}

fn parse_tokens<T>(mut input: Input, parse: impl FnOnce(&mut Input) -> Result<T>) -> Result<T> {
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
    if let "SELECT" | "VALUES" = first.as_str() {
        return Ok(Statement::Query(input.query()?));
    }
    if let "WITH" | "INSERT" | "UPDATE" | "DELETE" = first.as_str() {
        return change::query_or_change(input);
    }
    type Parser = fn(&mut Input) -> Result<Statement>;
    let parser: Parser = match first.as_str() {
        "CREATE" => create::create,
        "ALTER" => alter::alter,
        "DROP" => drop::drop,
        "COMMENT" => drop::comment,
        "EXPLAIN" => explain::explain,
        "COPY" => copy::copy,
        "TRUNCATE" => change::truncate,
        "SHOW" => show::show,
        "DESCRIBE" | "DESC" => show::describe,
        "FLUSH" => |_| Ok(Statement::Flush),
        "VACUUM" => vacuum,
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
        "SAVEPOINT" => session::savepoint,
        "RELEASE" => session::release,
        "SUBSCRIBE" => return Ok(Statement::Subscribe(follow::subscribe(input)?)),
        "LISTEN" => follow::listen,
        "GRANT" => role::grant,
        "REVOKE" => role::revoke,
        "REASSIGN" => role::reassign,
        "UNLISTEN" => follow::unlisten,
        "NOTIFY" => follow::notify,
        _ => return Err(refused::statement(input)),
    };
    input.skip(1);
    parser(input)
}

/// `VACUUM [FULL] [ANALYZE]`, which is about everything.
fn vacuum(input: &mut Input) -> Result<Statement> {
    input.accept(&["FULL"]);
    input.accept(&["ANALYZE"]);
    match input.is_at_end() {
        true => Ok(Statement::Vacuum),
        false => Err(PlanError::unsupported(
            "VACUUM with options or of single relations",
            "write VACUUM, which rewrites all of them",
        )),
    }
}
