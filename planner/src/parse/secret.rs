//! CREATE and DROP SECRET.

use sqlparser::tokenizer::Token;

use super::input::Input;
use crate::error::Result;
use crate::statement::Statement;

/// What stands behind CREATE SECRET: `[IF NOT EXISTS] name AS 'value'`.
pub(super) fn create_secret(input: &mut Input) -> Result<Statement> {
    let if_not_exists = input.if_not_exists();
    let name = input.name("a secret's name")?;
    input.expect(&["AS"])?;
    let is_text = matches!(input.token(0), Token::SingleQuotedString(value) if !value.is_empty());
    if !is_text {
        // Not what stands there: it may be the secret.
        return Err(input.error("a secret is a text in quotes that is not empty"));
    }
    let value = input.string("a text in quotes")?;
    Ok(Statement::CreateSecret {
        name,
        value,
        if_not_exists,
    })
}

/// What stands behind DROP SECRET.
pub(super) fn drop_secret(input: &mut Input) -> Result<Statement> {
    let if_exists = input.if_exists();
    let names = input.list(|i| i.name("a secret's name"))?;
    input.accept(&["RESTRICT"]);
    Ok(Statement::DropSecret { names, if_exists })
}
