//! `WITH (key = value, ...)` and `ENCODE x (...)`: keys are dotted words in lower case, values are text.

use std::collections::BTreeMap;

use sqlparser::tokenizer::Token;

use super::input::Input;
use crate::error::{PlanError, Result};

/// `WITH (...)` if it comes next, else no options.
pub(super) fn with_options(input: &mut Input) -> Result<BTreeMap<String, String>> {
    if input.is_at(&["WITH"]) && input.token(1) == &Token::LParen {
        input.skip(1);
        return options(input);
    }
    Ok(BTreeMap::new())
}

/// `(key = value, ...)`; may be empty.
pub(super) fn options(input: &mut Input) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    input.expect_token(&Token::LParen)?;
    if input.accept_token(&Token::RParen) {
        return Ok(options);
    }
    loop {
        let key = key(input)?;
        input.expect_token(&Token::Eq)?;
        let value = value(input)?;
        if options.insert(key.clone(), value).is_some() {
            return Err(PlanError::invalid_option(format!(
                "option \"{key}\" is given twice"
            )));
        }
        if !input.accept_token(&Token::Comma) {
            break;
        }
    }
    input.expect_token(&Token::RParen)?;
    Ok(options)
}

/// Words, periods, numbers and hyphens up to the `=`; or one quoted text.
fn key(input: &mut Input) -> Result<String> {
    if let Token::SingleQuotedString(_) = input.token(0) {
        return Ok(input.string("an option name")?.to_lowercase());
    }
    let mut key = String::new();
    loop {
        match input.token(0) {
            Token::Word(w) => key.push_str(&w.value.to_lowercase()),
            Token::Number(digits, _) => key.push_str(digits),
            Token::Period => key.push('.'),
            Token::Minus => key.push('-'),
            Token::Eq if !key.is_empty() => return Ok(key),
            _ => {
                return Err(input.expected(if key.is_empty() {
                    "an option name"
                } else {
                    "\"=\""
                }));
            }
        }
        input.skip(1);
    }
}

/// A text, a number, or a bare word such as `true`.
fn value(input: &mut Input) -> Result<String> {
    let text = match input.token(0) {
        Token::Number(number, _) => number.clone(),
        Token::Word(w) if w.quote_style.is_none() => w.value.to_lowercase(),
        Token::Minus => match input.token(1) {
            Token::Number(number, _) => {
                let text = format!("-{number}");
                input.skip(1);
                text
            }
            _ => return Err(input.expected("an option's value")),
        },
        _ => return input.string("an option's value, such as 'text'"),
    };
    input.skip(1);
    Ok(text)
}
