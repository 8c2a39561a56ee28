//! Spellings that sqlparser does not know, turned on the tokens into ones that it does.
//!
//! - `TUMBLE(TABLE rel, ...)` (Flink) is `TUMBLE(rel, ...)`; the `TABLE(...)` around it and `DESCRIPTOR(ts)` are
//!   taken off later, on the syntax tree (`normalize.rs`).
//! - `SESSION(rel, ts, gap PARTITION BY k, l)` is `SESSION(rel, ts, gap, partition_by => k, partition_by => l)`, as is
//!   Flink's `SESSION(TABLE rel PARTITION BY k, l, DESCRIPTOR(ts), gap)`.
//! - `a ASOF [LEFT] JOIN b` is `a GLOBAL [LEFT] JOIN b`, which nobody else writes (`rewrite/asof.rs`).
//! - `TABLE x` where a query may stand is `SELECT * FROM x`.
//! - Texts on successive lines, `'a'` and below it `'b'`, are one text, as the standard says.
//! - `>>` that closes two `STRUCT<...>` types is two tokens.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::shape::is_word;
use crate::window::PARTITION_ARGUMENT;

/// Functions in FROM that assign rows to windows.
pub(super) const WINDOW_FUNCTIONS: &[&str] = &["tumble", "hop", "cumulate", "session", "gap_fill"];

/// The same statement in sqlparser's spelling.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut rewriter = Rewriter {
        out: Vec::with_capacity(tokens.len() + 8),
        parens: Vec::new(),
        angles: 0,
    };
    for (i, token) in tokens.iter().enumerate() {
        rewriter.take(token, tokens.get(i + 1));
    }
    rewriter.out
}

struct Rewriter {
    out: Vec<TokenWithSpan>,
    parens: Vec<Paren>,
    angles: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Paren {
    Plain,
    /// The arguments of `session(` or `gap_fill(`.
    Session,
    /// The same, behind PARTITION BY.
    SessionKeys,
}

impl Rewriter {
    fn take(&mut self, token: &TokenWithSpan, next: Option<&TokenWithSpan>) {
        let next_is = |word: &str| next.is_some_and(|t| is_word(&t.token, word));
        match &token.token {
            Token::LParen => {
                let takes_keys = |t: &Token| is_word(t, "SESSION") || is_word(t, "GAP_FILL");
                let is_session = self.back(0).is_some_and(takes_keys);
                self.parens.push(if is_session {
                    Paren::Session
                } else {
                    Paren::Plain
                });
                self.out.push(token.clone());
            }
            Token::RParen => {
                self.parens.pop();
                self.out.push(token.clone());
            }
            Token::Comma
                if self.parens.last() == Some(&Paren::SessionKeys)
                    && (next_is("DESCRIPTOR") || next_is("TIMECOL")) =>
            {
                // Flink has the keys behind the relation.
                self.parens.pop();
                self.parens.push(Paren::Session);
                self.out.push(token.clone());
            }
            Token::Comma if self.parens.last() == Some(&Paren::SessionKeys) => {
                self.out.push(token.clone());
                self.partition_argument(token);
            }
            Token::Word(_) if is_word(&token.token, "TABLE") && self.is_window_input() => {}
            Token::Word(_) if is_word(&token.token, "TABLE") && self.starts_query(next) => {
                self.select_star(token)
            }
            Token::Word(_)
                if is_word(&token.token, "PARTITION")
                    && self.parens.last() == Some(&Paren::Session)
                    && next_is("BY") =>
            {
                self.push(Token::Comma, token);
            }
            Token::Word(_)
                if is_word(&token.token, "BY") && self.parens.last() == Some(&Paren::Session) =>
            {
                self.parens.pop();
                self.parens.push(Paren::SessionKeys);
                self.partition_argument(token);
            }
            Token::Word(_)
                if is_word(&token.token, "ASOF")
                    && ["JOIN", "LEFT", "INNER"].iter().any(|word| next_is(word)) =>
            {
                let global = Word {
                    value: "GLOBAL".to_string(),
                    quote_style: None,
                    keyword: Keyword::GLOBAL,
                };
                self.push(Token::Word(global), token);
            }
            Token::SingleQuotedString(text) if self.continues_text(token) => {
                self.append_text(text, token)
            }
            _ => self.type_brackets(token),
        }
    }

    /// Whether the last token written is a text that ended on a line above.
    fn continues_text(&self, token: &TokenWithSpan) -> bool {
        self.out.last().is_some_and(|last| {
            matches!(
                last.token,
                Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_)
            ) && last.span.end.line < token.span.start.line
        })
    }

    fn append_text(&mut self, text: &str, token: &TokenWithSpan) {
        if let Some(last) = self.out.last_mut() {
            last.span.end = token.span.end;
            if let Token::SingleQuotedString(start) | Token::EscapedStringLiteral(start) =
                &mut last.token
            {
                start.push_str(text);
            }
        }
    }

    /// The n-th last token written.
    fn back(&self, n: usize) -> Option<&Token> {
        self.out.iter().rev().nth(n).map(|t| &t.token)
    }

    fn push(&mut self, token: Token, at: &TokenWithSpan) {
        self.out.push(TokenWithSpan::new(token, at.span));
    }

    fn partition_argument(&mut self, at: &TokenWithSpan) {
        let name = Word {
            value: PARTITION_ARGUMENT.to_string(),
            quote_style: None,
            keyword: Keyword::NoKeyword,
        };
        self.push(Token::Word(name), at);
        self.push(Token::RArrow, at);
    }

    /// Whether what comes is the first argument of a window function, `DATA =>` before it or not.
    fn is_window_input(&self) -> bool {
        let skipped = if self.back(0) == Some(&Token::RArrow) {
            2
        } else {
            0
        };
        self.back(skipped) == Some(&Token::LParen)
            && self
                .back(skipped + 1)
                .is_some_and(|t| WINDOW_FUNCTIONS.iter().any(|f| is_word(t, f)))
    }

    fn starts_query(&self, next: Option<&TokenWithSpan>) -> bool {
        const BEFORE: &[&str] = &[
            "AS",
            "UNION",
            "ALL",
            "DISTINCT",
            "EXCEPT",
            "INTERSECT",
            "EXPLAIN",
            "ANALYZE",
            "VERBOSE",
            "FOR",
        ];
        let is_before = match self.back(0) {
            None | Some(Token::LParen) | Some(Token::RParen) => true,
            Some(token) => BEFORE.iter().any(|w| is_word(token, w)),
        };
        is_before && next.is_some_and(|t| matches!(t.token, Token::Word(_)))
    }

    fn select_star(&mut self, at: &TokenWithSpan) {
        self.push(Token::make_keyword("SELECT"), at);
        self.push(Token::Mul, at);
        self.push(Token::make_keyword("FROM"), at);
    }

    fn type_brackets(&mut self, token: &TokenWithSpan) {
        match &token.token {
            Token::Lt => {
                let opens_type = self
                    .back(0)
                    .is_some_and(|t| is_word(t, "STRUCT") || is_word(t, "ARRAY"));
                self.angles += usize::from(opens_type);
                self.out.push(token.clone());
            }
            Token::Gt => {
                self.angles = self.angles.saturating_sub(1);
                self.out.push(token.clone());
            }
            Token::ShiftRight if self.angles > 0 => self.close(2, token),
            Token::CustomBinaryOperator(text)
                if self.angles > 0 && text.chars().all(|c| c == '>') =>
            {
                self.close(text.len(), token);
            }
            _ => self.out.push(token.clone()),
        }
    }

    fn close(&mut self, brackets: usize, token: &TokenWithSpan) {
        for _ in 0..brackets {
            self.push(Token::Gt, token);
        }
        self.angles = self.angles.saturating_sub(brackets);
    }
}
