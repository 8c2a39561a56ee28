//! One statement's tokens as the statement parsers read them: words, names, literals, and sqlparser's own parser for
//! types, expressions and queries. Every error knows its place in the query string.

use sqlparser::ast;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan};

use super::normalize;
use super::shape::is_word;
use super::split::{character_of, lower_first};
use crate::dialect::RivermarkDialect;
use crate::error::{PlanError, Result};
use crate::identifier::{fold, is_reserved};
use crate::statement::ObjectName;
use crate::types::SqlType;

/// The database that every name may be prefixed with.
const DATABASE: &str = "rivermark";

pub(super) struct Input<'a> {
    parser: Parser<'a>,
    dialect: &'a RivermarkDialect,
    /// The whole query string.
    sql: &'a str,
    /// The 1-based character behind the statement.
    end: usize,
    /// The statement ended in EMIT ON WINDOW CLOSE, which is taken off the tokens, and nobody asked for it yet.
    emits_on_window_close: bool,
}

impl<'a> Input<'a> {
    pub fn new(
        sql: &'a str,
        dialect: &'a RivermarkDialect,
        max_depth: usize,
        mut tokens: Vec<TokenWithSpan>,
        end: usize,
    ) -> Self {
        let emits_on_window_close = strip_emit(&mut tokens);
        let parser = Parser::new(dialect)
            .with_recursion_limit(max_depth)
            .with_tokens_with_locations(tokens);
        Input {
            parser,
            dialect,
            sql,
            end,
            emits_on_window_close,
        }
    }

    /// Whether the statement ends in EMIT ON WINDOW CLOSE; true once.
    pub fn take_emit_on_window_close(&mut self) -> bool {
        std::mem::take(&mut self.emits_on_window_close)
    }

    // Looking ahead.

    pub fn token(&self, n: usize) -> &Token {
        &self.parser.peek_nth_token_ref(n).token
    }

    pub fn is_at(&self, words: &[&str]) -> bool {
        words
            .iter()
            .enumerate()
            .all(|(i, word)| is_word(self.token(i), word))
    }

    pub fn is_at_one_of(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is_at(&[word]))
    }

    pub fn is_at_token(&self, token: &Token) -> bool {
        self.token(0) == token
    }

    /// Whether the statement ends here.
    pub fn is_at_end(&self) -> bool {
        matches!(self.token(0), Token::EOF | Token::SemiColon)
    }

    // Taking tokens.

    pub fn skip(&mut self, tokens: usize) {
        for _ in 0..tokens {
            self.parser.advance_token();
        }
    }

    /// Takes the words if all of them come next.
    pub fn accept(&mut self, words: &[&str]) -> bool {
        let is_here = self.is_at(words);
        if is_here {
            self.skip(words.len());
        }
        is_here
    }

    pub fn accept_token(&mut self, token: &Token) -> bool {
        let is_here = self.is_at_token(token);
        if is_here {
            self.skip(1);
        }
        is_here
    }

    pub fn expect(&mut self, words: &[&str]) -> Result<()> {
        for word in words {
            if !self.accept(&[word]) {
                return Err(self.expected(word));
            }
        }
        Ok(())
    }

    pub fn expect_token(&mut self, token: &Token) -> Result<()> {
        if self.accept_token(token) {
            Ok(())
        } else {
            Err(self.expected(&format!("\"{token}\"")))
        }
    }

    /// Takes `IF EXISTS`.
    pub fn if_exists(&mut self) -> bool {
        self.accept(&["IF", "EXISTS"])
    }

    /// Takes `IF NOT EXISTS`.
    pub fn if_not_exists(&mut self) -> bool {
        self.accept(&["IF", "NOT", "EXISTS"])
    }

    pub fn expect_end(&self) -> Result<()> {
        if self.is_at_end() {
            Ok(())
        } else {
            Err(self.expected("end of statement"))
        }
    }

    // Names and literals.

    /// A column's or object's name: quoted as it is, unquoted in lower case.
    pub fn name(&mut self, what: &str) -> Result<String> {
        let name = match self.token(0) {
            Token::Word(w) if w.quote_style == Some('"') => w.value.clone(),
            Token::Word(w) if w.quote_style.is_none() => fold(&w.value),
            _ => return Err(self.expected(what)),
        };
        let is_quoted = matches!(self.token(0), Token::Word(w) if w.quote_style.is_some());
        if name.is_empty() {
            return Err(self.error("a quoted name is empty"));
        }
        if !is_quoted && is_reserved(&name) {
            return Err(self.error(format!(
                "\"{name}\" is a reserved word: put it in double quotes to use it as a name"
            )));
        }
        self.skip(1);
        Ok(name)
    }

    /// A word of the language or a name, in lower case unless quoted.
    pub fn word(&mut self, what: &str) -> Result<String> {
        match self.token(0) {
            Token::Word(w) => {
                let word = if w.quote_style.is_some() {
                    w.value.clone()
                } else {
                    fold(&w.value)
                };
                self.skip(1);
                Ok(word)
            }
            _ => Err(self.expected(what)),
        }
    }

    /// `[[rivermark.]schema.]name`.
    pub fn object_name(&mut self, what: &str) -> Result<ObjectName> {
        let mut parts = self.dotted_name(what)?;
        let name = parts
            .pop()
            .ok_or_else(|| PlanError::Internal("a name without parts".to_string()))?;
        let schema = parts.pop();
        match parts.pop() {
            None => Ok(ObjectName { schema, name }),
            Some(database) if database == DATABASE && parts.is_empty() => {
                Ok(ObjectName { schema, name })
            }
            Some(_) => Err(PlanError::unsupported(
                "a name in another database",
                format!("there is one database, \"{DATABASE}\": write schema.name"),
            )),
        }
    }

    /// `a.b.c`, at least one part.
    pub fn dotted_name(&mut self, what: &str) -> Result<Vec<String>> {
        let mut parts = vec![self.name(what)?];
        while self.accept_token(&Token::Period) {
            parts.push(self.name(what)?);
        }
        Ok(parts)
    }

    pub fn string(&mut self, what: &str) -> Result<String> {
        let text = match self.token(0) {
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text.clone(),
            Token::DollarQuotedString(quoted) => quoted.value.clone(),
            _ => return Err(self.expected(what)),
        };
        self.skip(1);
        Ok(text)
    }

    /// `item, item, ...`, at least one.
    pub fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.accept_token(&Token::Comma) {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// `(item, item, ...)`, at least one.
    pub fn parenthesized_list<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.expect_token(&Token::LParen)?;
        let items = self.list(item)?;
        self.expect_token(&Token::RParen)?;
        Ok(items)
    }

    // sqlparser's part.

    pub fn expression(&mut self) -> Result<ast::Expr> {
        let mut expr = self.sql(|p| p.parse_expr())?;
        normalize::normalize(&mut expr)?;
        Ok(expr)
    }

    pub fn query(&mut self) -> Result<Box<ast::Query>> {
        let mut query = self.sql(|p| p.parse_query())?;
        normalize::normalize(&mut *query)?;
        Ok(query)
    }

    /// A query, or INSERT, UPDATE or DELETE as sqlparser has them: as a query's body, behind its WITH.
    pub fn query_or_change(&mut self) -> Result<Box<ast::Query>> {
        let mut query = self.sql(|p| p.parse_query())?;
        normalize::normalize_change(&mut query)?;
        Ok(query)
    }

    pub fn ast_type(&mut self) -> Result<ast::DataType> {
        self.sql(|p| p.parse_data_type())
    }

    pub fn data_type(&mut self) -> Result<SqlType> {
        let start = self.position();
        let data_type = self.ast_type()?;
        SqlType::from_ast(&data_type).map_err(|e| match e {
            PlanError::Undefined {
                kind,
                message,
                position: None,
            } => PlanError::Undefined {
                kind,
                message,
                position: start,
            },
            other => other,
        })
    }

    fn sql<T>(
        &mut self,
        parse: impl FnOnce(&mut Parser<'a>) -> Result<T, ParserError>,
    ) -> Result<T> {
        parse(&mut self.parser).map_err(|e| self.translated(e))
    }

    // Errors.

    /// The 1-based character where the next token starts.
    pub fn position(&self) -> Option<usize> {
        let token = self.parser.peek_token_ref();
        Some(character_of(self.sql, token.span.start).unwrap_or(self.end))
    }

    /// A syntax error at the next token.
    pub fn error(&self, message: impl Into<String>) -> PlanError {
        PlanError::Syntax {
            message: message.into(),
            position: self.position(),
        }
    }

    /// A syntax error: something else should come next.
    pub fn expected(&self, what: &str) -> PlanError {
        let found = match self.token(0) {
            Token::EOF => "end of input".to_string(),
            token => format!("\"{token}\""),
        };
        self.error(format!("expected {what}, found {found}"))
    }

    fn translated(&self, error: ParserError) -> PlanError {
        let text = match error {
            ParserError::RecursionLimitExceeded => {
                let message = if self.dialect.is_exhausted() {
                    "the statement takes too much work to parse: simplify it"
                } else {
                    "the statement is nested too deeply"
                };
                return PlanError::Syntax {
                    message: message.to_string(),
                    position: self.position(),
                };
            }
            ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
        };
        let (message, location) = separate_location(&text);
        let position = location
            .and_then(|l| character_of(self.sql, l))
            .unwrap_or(self.end);
        PlanError::Syntax {
            message: reworded(message),
            position: Some(position),
        }
    }
}

/// Takes EMIT ON WINDOW CLOSE off the end of a statement: sqlparser would read EMIT as an alias.
fn strip_emit(tokens: &mut Vec<TokenWithSpan>) -> bool {
    let semicolons = usize::from(tokens.last().is_some_and(|t| t.token == Token::SemiColon));
    let Some(start) = tokens.len().checked_sub(4 + semicolons) else {
        return false;
    };
    let clause = ["EMIT", "ON", "WINDOW", "CLOSE"];
    let is_there = tokens[start..]
        .iter()
        .zip(clause)
        .all(|(t, word)| is_word(&t.token, word));
    if is_there {
        tokens.drain(start..start + clause.len());
    }
    is_there
}

/// sqlparser appends ` at Line: 1, Column: 2` to its messages.
fn separate_location(text: &str) -> (&str, Option<sqlparser::tokenizer::Location>) {
    let parsed = text.rsplit_once(" at Line: ").and_then(|(message, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        let location =
            sqlparser::tokenizer::Location::new(line.parse().ok()?, column.trim().parse().ok()?);
        Some((message, location))
    });
    match parsed {
        Some((message, location)) => (message, Some(location)),
        None => (text, None),
    }
}

/// `Expected: X, found: Y` as we say it ourselves.
fn reworded(message: &str) -> String {
    let Some((expected, found)) = message
        .strip_prefix("Expected: ")
        .and_then(|m| m.rsplit_once(", found: "))
    else {
        return lower_first(message);
    };
    match found {
        "EOF" => format!("expected {expected}, found end of input"),
        token => format!("expected {expected}, found \"{token}\""),
    }
}
