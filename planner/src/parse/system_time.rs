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

/// The place behind the alias that may stand at `at`, and its columns.
fn alias_end(tokens: &[TokenWithSpan], at: usize) -> usize {
    let is_name = |at: usize| match tokens.get(at).map(|token| &token.token) {
        Some(Token::Word(word)) => {
            word.quote_style.is_some() || !RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword)
        }
        _ => false,
    };
    let says_as = tokens
        .get(at)
        .is_some_and(|token| is_word(&token.token, "AS"));
    let name = if says_as { at + 1 } else { at };
    if !is_name(name) {
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
