//! `d FOR SYSTEM_TIME AS OF PROCTIME() [AS e]`, turned on the tokens into `d [AS e] WITH (proctime())`: sqlparser takes hints
//! behind a relation's alias, and writes them there too, so that a stored query reads back as what it was.

use sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::shape::is_word;

/// What stands for the clause in a relation's hints.
pub(crate) const PROCTIME: &str = "proctime";

/// The same tokens with the clause as hints.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens
        .iter()
        .any(|token| is_word(&token.token, "SYSTEM_TIME"))
    {
        return tokens;
    }
    let mut out = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let Some(behind) = clause_end(&tokens, at) else {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        };
        let alias_end = alias_end(&tokens, behind);
        out.extend_from_slice(&tokens[behind..alias_end]);
        let span = tokens[at].span;
        let hint = Word {
            value: PROCTIME.to_string(),
            quote_style: None,
            keyword: Keyword::NoKeyword,
        };
        let hints = [
            Token::make_keyword("WITH"),
            Token::LParen,
            Token::Word(hint),
            Token::LParen,
            Token::RParen,
            Token::RParen,
        ];
        out.extend(hints.map(|token| TokenWithSpan::new(token, span)));
        at = alias_end;
    }
    out
}

/// The place behind the clause, if it stands at `at`.
pub(super) fn clause_end(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    let words = ["FOR", "SYSTEM_TIME", "AS", "OF", "PROCTIME"];
    let behind = at + words.len();
    let mut said = words.iter().zip(tokens.get(at..behind)?);
    let is_called = tokens.get(behind)?.token == Token::LParen
        && tokens.get(behind + 1)?.token == Token::RParen;
    let is_clause = said.all(|(word, token)| is_word(&token.token, word)) && is_called;
    is_clause.then_some(behind + 2)
}

/// Whether the clause at `at` stands behind a subquery or a join in parentheses, and its alias if it has one.
pub(super) fn is_behind_subquery(tokens: &[TokenWithSpan], at: usize) -> bool {
    let mut end = at;
    if let Some(open) = opened(tokens, end) {
        // The columns of an alias follow a name.
        if open == 0 || !is_name(tokens, open - 1) || is_word(&tokens[open - 1].token, "FROM") {
            return true;
        }
        end = open;
    }
    let alias = match end >= 2 && is_word(&tokens[end - 2].token, "AS") {
        true => end - 2,
        false => end.saturating_sub(1),
    };
    opened(tokens, alias).is_some()
}

/// Where the parenthesis opens that closes before `end`.
fn opened(tokens: &[TokenWithSpan], end: usize) -> Option<usize> {
    let mut depth = 0usize;
    for at in (0..end).rev() {
        match tokens[at].token {
            Token::RParen => depth += 1,
            Token::LParen if depth == 1 => return Some(at),
            Token::LParen => depth = depth.checked_sub(1)?,
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn is_name(tokens: &[TokenWithSpan], at: usize) -> bool {
    match tokens.get(at).map(|token| &token.token) {
        Some(Token::Word(word)) => {
            word.quote_style.is_some() || !RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword)
        }
        _ => false,
    }
}

/// The place behind the alias that may stand at `at`, and its columns.
fn alias_end(tokens: &[TokenWithSpan], at: usize) -> usize {
    let says_as = tokens
        .get(at)
        .is_some_and(|token| is_word(&token.token, "AS"));
    let name = if says_as { at + 1 } else { at };
    if !is_name(tokens, name) {
        return at;
    }
    let behind = name + 1;
    let has_columns = tokens
        .get(behind)
        .is_some_and(|token| token.token == Token::LParen);
    let is_close = |token: &TokenWithSpan| token.token == Token::RParen;
    match tokens[behind.min(tokens.len())..].iter().position(is_close) {
        Some(close) if has_columns => behind + close + 1,
        _ => behind,
    }
}
