//! SET and RESET of settings, transactions, DISCARD.

use sqlparser::tokenizer::Token;

use super::input::Input;
use super::show::setting_name;
use crate::error::{PlanError, Result};
use crate::statement::{Discarded, SetValue, Statement};

/// What stands behind SET.
pub(super) fn set(input: &mut Input) -> Result<Statement> {
    if input.accept(&["SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"]) {
        let (setting, value) = only_mode(input)?;
        return Ok(assignment(
            &format!("default_{setting}"),
            SetValue::Value(vec![value]),
            false,
        ));
    }
    if input.accept(&["TRANSACTION"]) {
        let (setting, value) = only_mode(input)?;
        return Ok(assignment(setting, SetValue::Value(vec![value]), true));
    }
    if input.is_at(&["SESSION", "AUTHORIZATION"]) {
        return Err(PlanError::unsupported(
            "SET SESSION AUTHORIZATION",
            "use SET ROLE, or log in as the other role",
        ));
    }
    if input.is_at(&["CONSTRAINTS"]) {
        return Err(PlanError::unsupported("SET CONSTRAINTS", "leave it out"));
    }
    let local = input.accept(&["LOCAL"]);
    if !local {
        input.accept(&["SESSION"]);
    }
    if input.is_at(&["ROLE"])
        && !matches!(input.token(1), Token::Eq)
        && !input.is_at(&["ROLE", "TO"])
    {
        input.skip(1);
        return Ok(assignment(
            "role",
            SetValue::Value(vec![value(input)?]),
            local,
        ));
    }
    if input.accept(&["TIME", "ZONE"]) {
        let value = time_zone(input)?;
        return Ok(assignment("timezone", value, local));
    }
    if input.accept(&["NAMES"]) {
        let value = if input.accept(&["DEFAULT"]) {
            SetValue::Default
        } else {
            SetValue::Value(vec![value(input)?])
        };
        return Ok(assignment("client_encoding", value, local));
    }
    let name = setting_name(input)?;
    if !input.accept_token(&Token::Eq) && !input.accept(&["TO"]) {
        return Err(input.expected("TO or \"=\""));
    }
    let value = if input.accept(&["DEFAULT"]) {
        SetValue::Default
    } else {
        SetValue::Value(input.list(value)?)
    };
    Ok(assignment(&name, value, local))
}

fn assignment(name: &str, value: SetValue, local: bool) -> Statement {
    Statement::Set {
        name: name.to_string(),
        value,
        local,
    }
}

/// A literal's text, or a word in lower case.
fn value(input: &mut Input) -> Result<String> {
    let sign = match input.token(0) {
        Token::Minus => "-",
        Token::Plus => "+",
        Token::Number(_, _) => "",
        Token::Word(w) => {
            let word = if w.quote_style.is_some() {
                w.value.clone()
            } else {
                w.value.to_lowercase()
            };
            input.skip(1);
            return Ok(word);
        }
        _ => return input.string("a value"),
    };
    input.skip(sign.len());
    match input.token(0) {
        Token::Number(number, _) => {
            let text = format!("{}{number}", if sign == "-" { "-" } else { "" });
            input.skip(1);
            Ok(text)
        }
        _ => Err(input.expected("a number")),
    }
}

/// A zone's name, hours east of UTC, or `INTERVAL '+02:00' [HOUR TO MINUTE]`.
fn time_zone(input: &mut Input) -> Result<SetValue> {
    if input.accept(&["DEFAULT"]) || input.accept(&["LOCAL"]) {
        return Ok(SetValue::Default);
    }
    if input.accept(&["INTERVAL"]) {
        let offset = input.string("an offset such as '+02:00'")?;
        input.accept(&["HOUR", "TO", "MINUTE"]);
        return Ok(SetValue::Value(vec![offset]));
    }
    Ok(SetValue::Value(vec![value(input)?]))
}

/// What stands behind RESET.
pub(super) fn reset(input: &mut Input) -> Result<Statement> {
    if input.accept(&["ALL"]) {
        return Ok(Statement::Reset { name: None });
    }
    if input.accept(&["TIME", "ZONE"]) {
        return Ok(Statement::Reset {
            name: Some("timezone".to_string()),
        });
    }
    if input.accept(&["TRANSACTION", "ISOLATION", "LEVEL"]) {
        return Ok(Statement::Reset {
            name: Some("transaction_isolation".to_string()),
        });
    }
    if input.is_at(&["SESSION", "AUTHORIZATION"]) {
        return Err(PlanError::unsupported(
            "RESET SESSION AUTHORIZATION",
            "it is never changed",
        ));
    }
    Ok(Statement::Reset {
        name: Some(setting_name(input)?),
    })
}

/// What stands behind BEGIN and START TRANSACTION.
pub(super) fn begin(input: &mut Input) -> Result<Statement> {
    let mut modes = Vec::new();
    while !input.is_at_end() {
        modes.push(mode(input)?);
        input.accept_token(&Token::Comma);
    }
    Ok(Statement::Begin { modes })
}

/// One transaction mode as a setting and its value.
fn mode(input: &mut Input) -> Result<(&'static str, String)> {
    let modes: [(&[&str], &str, &str); 8] = [
        (
            &["ISOLATION", "LEVEL", "SERIALIZABLE"],
            "transaction_isolation",
            "serializable",
        ),
        (
            &["ISOLATION", "LEVEL", "REPEATABLE", "READ"],
            "transaction_isolation",
            "repeatable read",
        ),
        (
            &["ISOLATION", "LEVEL", "READ", "COMMITTED"],
            "transaction_isolation",
            "read committed",
        ),
        (
            &["ISOLATION", "LEVEL", "READ", "UNCOMMITTED"],
            "transaction_isolation",
            "read uncommitted",
        ),
        (&["READ", "ONLY"], "transaction_read_only", "on"),
        (&["READ", "WRITE"], "transaction_read_only", "off"),
        (&["DEFERRABLE"], "transaction_deferrable", "on"),
        (&["NOT", "DEFERRABLE"], "transaction_deferrable", "off"),
    ];
    match modes.into_iter().find(|(words, _, _)| input.accept(words)) {
        Some((_, setting, value)) => Ok((setting, value.to_string())),
        None => Err(input
            .expected("a transaction mode such as ISOLATION LEVEL REPEATABLE READ or READ ONLY")),
    }
}

fn only_mode(input: &mut Input) -> Result<(&'static str, String)> {
    if input.is_at(&["SNAPSHOT"]) {
        return Err(PlanError::unsupported(
            "SET TRANSACTION SNAPSHOT",
            "BEGIN holds the snapshot of its own moment",
        ));
    }
    let only = mode(input)?;
    input.accept_token(&Token::Comma);
    if !input.is_at_end() {
        return Err(PlanError::unsupported(
            "several transaction modes in one SET",
            "write one SET for each",
        ));
    }
    Ok(only)
}

/// What stands behind COMMIT, END, ROLLBACK and ABORT; `finished` is the plain statement.
pub(super) fn end(input: &mut Input, finished: Statement) -> Result<Statement> {
    if input.is_at(&["PREPARED"]) {
        return Err(PlanError::unsupported(
            "two-phase commit",
            "use COMMIT or ROLLBACK",
        ));
    }
    if !input.accept(&["WORK"]) {
        input.accept(&["TRANSACTION"]);
    }
    if matches!(finished, Statement::Rollback) && input.accept(&["TO"]) {
        input.accept(&["SAVEPOINT"]);
        let name = input.name("a savepoint's name")?;
        return Ok(Statement::RollbackTo { name });
    }
    if input.is_at(&["AND", "CHAIN"]) {
        return Err(PlanError::unsupported(
            "AND CHAIN",
            "write BEGIN as a statement of its own",
        ));
    }
    input.accept(&["AND", "NO", "CHAIN"]);
    Ok(finished)
}

/// What stands behind SAVEPOINT.
pub(super) fn savepoint(input: &mut Input) -> Result<Statement> {
    let name = input.name("a savepoint's name")?;
    Ok(Statement::Savepoint { name })
}

/// What stands behind RELEASE.
pub(super) fn release(input: &mut Input) -> Result<Statement> {
    input.accept(&["SAVEPOINT"]);
    let name = input.name("a savepoint's name")?;
    Ok(Statement::Release { name })
}

/// What stands behind DISCARD.
pub(super) fn discard(input: &mut Input) -> Result<Statement> {
    let kinds = [
        ("ALL", Discarded::All),
        ("PLANS", Discarded::Plans),
        ("SEQUENCES", Discarded::Sequences),
        ("TEMPORARY", Discarded::Temporary),
        ("TEMP", Discarded::Temporary),
    ];
    if let Some((_, what)) = kinds.iter().find(|(word, _)| input.accept(&[word])) {
        return Ok(Statement::Discard(*what));
    }
    Err(input.expected("ALL, PLANS, SEQUENCES or TEMP"))
}
