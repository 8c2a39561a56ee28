//! Splits a query string into statements, each with its own text and tokens, on the tokens themselves: semicolons
//! in strings, dollar quotes, quoted names and comments separate nothing.

use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::dialect::RivermarkDialect;
use crate::error::{PlanError, Result};

/// One statement's part of the query string.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    /// From the first to the last token, without comments around it and without the semicolon.
    pub text: &'a str,
    /// The statement's tokens, whitespace left out; a closing semicolon is the last of them.
    pub tokens: Vec<TokenWithSpan>,
    /// The 1-based character just behind the statement's last token.
    pub end: usize,
}

/// The statements of `sql`, empty ones left out.
pub(super) fn split(sql: &str) -> Result<Vec<Piece<'_>>> {
    let dialect = RivermarkDialect::default();
    let tokens = Tokenizer::new(&dialect, sql)
        .tokenize_with_location()
        .map_err(|e| PlanError::Syntax {
            message: lower_first(&e.message),
            position: character_of(sql, e.location),
        })?;
    let mut walk = Walk::over(sql);
    let mut pieces = Vec::new();
    let mut current: Vec<TokenWithSpan> = Vec::new();
    for token in tokens {
        match token.token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::SemiColon if current.is_empty() => {}
            Token::SemiColon => {
                pieces.push(piece(
                    sql,
                    &mut walk,
                    std::mem::take(&mut current),
                    Some(token),
                ));
            }
            _ => current.push(token),
        }
    }
    if !current.is_empty() {
        pieces.push(piece(sql, &mut walk, current, None));
    }
    Ok(pieces)
}

fn piece<'a>(
    sql: &'a str,
    walk: &mut Walk<'a>,
    mut tokens: Vec<TokenWithSpan>,
    semicolon: Option<TokenWithSpan>,
) -> Piece<'a> {
    let first = tokens.first().map_or(Location::new(1, 1), |t| t.span.start);
    let last = tokens.last().map_or(first, |t| t.span.end);
    let start = walk.advance(first).byte;
    let end = walk.advance(last);
    tokens.extend(semicolon);
    Piece {
        text: &sql[start..end.byte],
        tokens,
        end: end.character,
    }
}

/// The 1-based character of `sql` at a token's location; `None` for the empty location.
pub(super) fn character_of(sql: &str, location: Location) -> Option<usize> {
    (location.line > 0).then(|| Walk::over(sql).advance(location).character)
}

/// A place in the text: byte offset from 0, character from 1.
#[derive(Debug, Clone, Copy)]
struct Place {
    byte: usize,
    character: usize,
}

/// Follows the tokens' locations (line and column) through the text, once, from front to back.
struct Walk<'a> {
    rest: std::str::CharIndices<'a>,
    length: usize,
    line: u64,
    column: u64,
    character: usize,
}

impl<'a> Walk<'a> {
    fn over(sql: &'a str) -> Self {
        Walk {
            rest: sql.char_indices(),
            length: sql.len(),
            line: 1,
            column: 1,
            character: 1,
        }
    }

    /// Goes on to `location`, which lies at or behind the last one asked for.
    fn advance(&mut self, location: Location) -> Place {
        while (self.line, self.column) < (location.line, location.column) {
            let Some((_, c)) = self.rest.next() else {
                break;
            };
            self.character += 1;
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        let byte = self
            .rest
            .clone()
            .next()
            .map_or(self.length, |(byte, _)| byte);
        Place {
            byte,
            character: self.character,
        }
    }
}

/// The message with a small first letter, to stand behind "syntax error: ".
pub(super) fn lower_first(message: &str) -> String {
    let mut chars = message.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_statement_has_its_own_text() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("  ;; ;\n", &[]),
            ("-- nothing\n/* at /* all */ */ ;", &[]),
            ("SELECT 1", &["SELECT 1"]),
            (" SELECT 1 ; SELECT 2;", &["SELECT 1", "SELECT 2"]),
            (
                "/* a */ SELECT ';' -- b;\n, \";\" ; COMMIT",
                &["SELECT ';' -- b;\n, \";\"", "COMMIT"],
            ),
            (
                "SELECT $$;$$, $x$ $$;$x$; SELECT E'\\';'",
                &["SELECT $$;$$, $x$ $$;$x$", "SELECT E'\\';'"],
            ),
            (
                "SELECT 'größe';\nSELECT 'é'",
                &["SELECT 'größe'", "SELECT 'é'"],
            ),
            ("SELECT 'a''b;c'; x", &["SELECT 'a''b;c'", "x"]),
        ];
        for (sql, expected) in cases {
            let pieces = split(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
            let texts: Vec<&str> = pieces.iter().map(|p| p.text).collect();
            assert_eq!(texts, *expected, "{sql}");
        }
    }

    #[test]
    fn unterminated_texts_are_errors() {
        for sql in [
            "SELECT 'abc",
            "SELECT \"abc",
            "SELECT $x$ abc $y$",
            "/* abc",
            "SELECT E'a",
        ] {
            let error = split(sql).expect_err(sql);
            assert!(
                matches!(
                    error,
                    PlanError::Syntax {
                        position: Some(_),
                        ..
                    }
                ),
                "{sql}: {error:?}"
            );
        }
    }
}
