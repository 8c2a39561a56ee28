//! Following changes: SUBSCRIBE, LISTEN, UNLISTEN and NOTIFY.

use sqlparser::tokenizer::Token;

use super::input::Input;
use crate::error::{PlanError, Result};
use crate::statement::{Statement, Subscribe};

/// `SUBSCRIBE [TO] relation [AS OF epoch] [WITH (SNAPSHOT = false, PROGRESS)]`, from the first word on.
pub(super) fn subscribe(input: &mut Input) -> Result<Subscribe> {
    input.expect(&["SUBSCRIBE"])?;
    input.accept(&["TO"]);
    if input.is_at_token(&Token::LParen) {
        return Err(PlanError::unsupported(
            "SUBSCRIBE to a query",
            "CREATE MATERIALIZED VIEW with the query, and SUBSCRIBE to that",
        ));
    }
    let relation = input.object_name("a table or materialized view")?;
    let mut subscribe = Subscribe {
        relation,
        has_snapshot: true,
        has_progress: false,
        as_of: None,
    };
    as_of(input, &mut subscribe)?;
    if input.accept(&["WITH"]) {
        input.parenthesized_list(|input| option(input, &mut subscribe))?;
    }
    as_of(input, &mut subscribe)?;
    Ok(subscribe)
}

fn option(input: &mut Input, subscribe: &mut Subscribe) -> Result<()> {
    let name = input.word("SNAPSHOT or PROGRESS")?;
    let setting = match name.as_str() {
        "snapshot" => &mut subscribe.has_snapshot,
        "progress" => &mut subscribe.has_progress,
        other => {
            return Err(PlanError::invalid_option(format!(
                "SUBSCRIBE option \"{other}\" not recognized: allowed are snapshot, progress"
            )));
        }
    };
    input.accept_token(&Token::Eq);
    *setting = match input.token(0) {
        Token::Comma | Token::RParen => true,
        _ => boolean(input, &name)?,
    };
    Ok(())
}

fn boolean(input: &mut Input, name: &str) -> Result<bool> {
    let value = match input.token(0) {
        Token::SingleQuotedString(_) => input.string("true or false")?.to_lowercase(),
        _ => input.word("true or false")?,
    };
    match value.as_str() {
        "true" | "on" => Ok(true),
        "false" | "off" => Ok(false),
        _ => Err(PlanError::invalid_option(format!(
            "{name} takes true or false, not \"{value}\""
        ))),
    }
}

/// `AS OF epoch`, if it stands here.
fn as_of(input: &mut Input, subscribe: &mut Subscribe) -> Result<()> {
    if !input.accept(&["AS", "OF"]) {
        return Ok(());
    }
    if subscribe.as_of.is_some() {
        return Err(input.error("AS OF is given twice: one epoch is enough"));
    }
    let epoch = match input.token(0) {
        Token::Number(digits, _) => digits.parse().ok(),
        _ => None,
    };
    let Some(epoch) = epoch else {
        return Err(input.expected("the number of an epoch"));
    };
    input.skip(1);
    subscribe.as_of = Some(epoch);
    Ok(())
}

/// What stands behind LISTEN.
pub(super) fn listen(input: &mut Input) -> Result<Statement> {
    let channel = channel(input)?;
    Ok(Statement::Listen { channel })
}

/// What stands behind UNLISTEN.
pub(super) fn unlisten(input: &mut Input) -> Result<Statement> {
    let channel = match input.accept_token(&Token::Mul) {
        true => None,
        false => Some(channel(input)?),
    };
    Ok(Statement::Unlisten { channel })
}

/// What stands behind NOTIFY.
pub(super) fn notify(input: &mut Input) -> Result<Statement> {
    let channel = channel(input)?;
    let payload = match input.accept_token(&Token::Comma) {
        true => input.string("a payload in quotes")?,
        false => String::new(),
    };
    Ok(Statement::Notify { channel, payload })
}

/// A channel is a name; that of a relation may have its schema.
fn channel(input: &mut Input) -> Result<String> {
    let name = input.object_name("a channel's name")?;
    Ok(match name.schema {
        Some(schema) => format!("{schema}.{}", name.name),
        None => name.name,
    })
}
