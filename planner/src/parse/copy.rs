//! COPY ... TO STDOUT.

use sqlparser::tokenizer::Token;

use super::input::Input;
use crate::error::{PlanError, Result};
use crate::identifier::quote_ident;
use crate::statement::{CopyFormat, CopyOptions, ObjectName, Statement};

/// What stands behind COPY.
pub(super) fn copy(input: &mut Input) -> Result<Statement> {
    let query = if input.accept_token(&Token::LParen) {
        if input.is_at(&["SUBSCRIBE"]) {
            return Err(super::refused::subscribe());
        }
        let query = input.query()?;
        input.expect_token(&Token::RParen)?;
        query
    } else {
        let name = input.object_name("a relation's name or a query in parentheses")?;
        let columns = if input.is_at_token(&Token::LParen) {
            input.parenthesized_list(|i| i.name("a column name"))?
        } else {
            Vec::new()
        };
        if input.is_at(&["FROM"]) {
            return Err(PlanError::unsupported(
                "COPY ... FROM",
                "use INSERT with several rows in VALUES",
            ));
        }
        super::parse_query(&select(&name, &columns))?
    };
    input.expect(&["TO"])?;
    if !input.accept(&["STDOUT"]) {
        return Err(PlanError::unsupported(
            "COPY to a file or program",
            "use TO STDOUT, or \\copy in psql",
        ));
    }
    let options = copy_options(input)?;
    Ok(Statement::CopyOut { query, options })
}

fn select(name: &ObjectName, columns: &[String]) -> String {
    let list = match columns {
        [] => "*".to_string(),
        _ => columns
            .iter()
            .map(|c| quote_ident(c))
            .collect::<Vec<_>>()
            .join(", "),
    };
    match &name.schema {
        Some(schema) => format!(
            "SELECT {list} FROM {}.{}",
            quote_ident(schema),
            quote_ident(&name.name)
        ),
        None => format!("SELECT {list} FROM {}", quote_ident(&name.name)),
    }
}

/// `[WITH] (FORMAT csv, ...)` or the old `[WITH] CSV HEADER ...`.
fn copy_options(input: &mut Input) -> Result<CopyOptions> {
    let mut options = CopyOptions {
        format: CopyFormat::Text,
        header: false,
        delimiter: None,
        null: None,
    };
    input.accept(&["WITH"]);
    if input.is_at_token(&Token::LParen) {
        input.parenthesized_list(|input| copy_option(input, &mut options))?;
    } else {
        while !input.is_at_end() {
            old_option(input, &mut options)?;
        }
    }
    if options.format == CopyFormat::Binary
        && (options.header || options.delimiter.is_some() || options.null.is_some())
    {
        return Err(PlanError::invalid_option(
            "HEADER, DELIMITER and NULL do not go with FORMAT binary",
        ));
    }
    Ok(options)
}

fn copy_option(input: &mut Input, options: &mut CopyOptions) -> Result<()> {
    match input.word("an option of COPY")?.as_str() {
        "format" => {
            options.format = match input.word("text, csv or binary")?.as_str() {
                "text" => CopyFormat::Text,
                "csv" => CopyFormat::Csv,
                "binary" => CopyFormat::Binary,
                other => {
                    return Err(PlanError::invalid_option(format!(
                        "COPY format \"{other}\" not recognized"
                    )));
                }
            }
        }
        "header" => {
            options.header = match input.token(0) {
                Token::Comma | Token::RParen => true,
                _ => match input.word("a boolean")?.as_str() {
                    "true" | "on" => true,
                    "false" | "off" => false,
                    other => {
                        return Err(PlanError::invalid_option(format!(
                            "HEADER can not be \"{other}\""
                        )));
                    }
                },
            }
        }
        "delimiter" => options.delimiter = Some(delimiter(input)?),
        "null" => options.null = Some(input.string("the text for NULL")?),
        other => return Err(unknown_option(other)),
    }
    Ok(())
}

fn old_option(input: &mut Input, options: &mut CopyOptions) -> Result<()> {
    match input.word("an option of COPY")?.as_str() {
        "csv" => options.format = CopyFormat::Csv,
        "binary" => options.format = CopyFormat::Binary,
        "header" => options.header = true,
        "delimiter" => {
            input.accept(&["AS"]);
            options.delimiter = Some(delimiter(input)?);
        }
        "null" => {
            input.accept(&["AS"]);
            options.null = Some(input.string("the text for NULL")?);
        }
        other => return Err(unknown_option(other)),
    }
    Ok(())
}

fn delimiter(input: &mut Input) -> Result<u8> {
    match input.string("a delimiter")?.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | b'\\' | b'"') => Ok(*byte),
        _ => Err(PlanError::invalid_option(
            "COPY delimiter must be a single one-byte character",
        )),
    }
}

fn unknown_option(name: &str) -> PlanError {
    PlanError::invalid_option(format!(
        "COPY option \"{name}\" not recognized: allowed are format, header, delimiter, null"
    ))
}
