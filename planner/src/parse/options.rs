//! `WITH (key = value, ...)` and `ENCODE x (...)`: keys are dotted words in lower case, values are text, or, of sources,
//! `SECRET name`.

use std::collections::BTreeMap;

use sqlparser::tokenizer::Token;

use super::input::Input;
use crate::error::{PlanError, Result};

pub(super) type Options = BTreeMap<String, String>;

/// `WITH (...)` if it comes next, else no options.
pub(super) fn with_options(input: &mut Input) -> Result<Options> {
    if input.is_at(&["WITH"]) && input.token(1) == &Token::LParen {
        input.skip(1);
        return options(input);
    }
    Ok(BTreeMap::new())
}

/// The same where values may be secrets: options with values, and options with names of secrets.
pub(super) fn with_options_and_secrets(input: &mut Input) -> Result<(Options, Options)> {
    let mut secrets = BTreeMap::new();
    if !(input.is_at(&["WITH"]) && input.token(1) == &Token::LParen) {
        return Ok((BTreeMap::new(), secrets));
    }
    input.skip(1);
    let options = list(input, Some(&mut secrets))?;
    Ok((options, secrets))
}

/// `(key = value, ...)`; may be empty.
pub(super) fn options(input: &mut Input) -> Result<Options> {
    list(input, None)
}

fn list(input: &mut Input, mut secrets: Option<&mut Options>) -> Result<Options> {
    let mut options = BTreeMap::new();
    input.expect_token(&Token::LParen)?;
    if input.accept_token(&Token::RParen) {
        return Ok(options);
    }
    loop {
        let key = key(input)?;
        input.expect_token(&Token::Eq)?;
        let is_secret = input.is_at(&["SECRET"]) && matches!(input.token(1), Token::Word(_));
        let is_again = if is_secret {
            let Some(secrets) = &mut secrets else {
                return Err(PlanError::unsupported(
                    "SECRET in options of anything but a source",
                    "write the value in quotes",
                ));
            };
            input.skip(1);
            let secret = input.name("a secret's name")?;
            secrets.insert(key.clone(), secret).is_some() || options.contains_key(&key)
        } else {
            let is_secret = secrets.as_ref().is_some_and(|s| s.contains_key(&key));
            options.insert(key.clone(), value(input)?).is_some() || is_secret
        };
        if is_again {
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
