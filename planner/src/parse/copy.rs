//! COPY ... TO STDOUT and COPY ... FROM STDIN.

use sqlparser::tokenizer::Token;

use super::input::Input;
use crate::error::{PlanError, Result};
use crate::identifier::quote_ident;
use crate::statement::{CopyFormat, CopyHeader, CopyIn, CopyOptions, ObjectName, Statement};

/// What stands behind COPY.
pub(super) fn copy(input: &mut Input) -> Result<Statement> {
    if input.accept_token(&Token::LParen) {
        if input.is_at(&["SUBSCRIBE"]) {
            let subscribe = super::follow::subscribe(input)?;
            input.expect_token(&Token::RParen)?;
            let options = copy_to(input)?;
            return Ok(Statement::CopySubscription { subscribe, options });
        }
        let query = input.query()?;
        input.expect_token(&Token::RParen)?;
        let options = copy_to(input)?;
        return Ok(Statement::CopyOut { query, options });
    }
    let name = input.object_name("a relation's name or a query in parentheses")?;
    let columns = if input.is_at_token(&Token::LParen) {
        input.parenthesized_list(|i| i.name("a column name"))?
    } else {
        Vec::new()
    };
    if input.accept(&["FROM"]) {
        return copy_from(input, name, columns);
    }
    let query = super::parse_query(&select(&name, &columns))?;
    let options = copy_to(input)?;
    Ok(Statement::CopyOut { query, options })
}

/// `TO STDOUT` and its options.
fn copy_to(input: &mut Input) -> Result<CopyOptions> {
    input.expect(&["TO"])?;
    if !input.accept(&["STDOUT"]) {
        return Err(PlanError::unsupported(
            "COPY to a file or program",
            "use TO STDOUT, or \\copy in psql",
        ));
    }
    let options = copy_options(input)?;
    let only_in = [
        (options.header == CopyHeader::Match, "HEADER match"),
        (!options.force_null.is_empty(), "FORCE_NULL"),
        (!options.force_not_null.is_empty(), "FORCE_NOT_NULL"),
    ];
    if let Some((_, name)) = only_in.iter().find(|(is_given, _)| *is_given) {
        return Err(PlanError::invalid_option(format!(
            "{name} goes with COPY FROM only"
        )));
    }
    Ok(options)
}

fn copy_from(input: &mut Input, name: ObjectName, columns: Vec<String>) -> Result<Statement> {
    if !input.accept(&["STDIN"]) {
        return Err(PlanError::unsupported(
            "COPY from a file or program",
            "use FROM STDIN, or \\copy in psql",
        ));
    }
    let options = copy_options(input)?;
    let filter = match input.accept(&["WHERE"]) {
        true => Some(input.expression()?.to_string()),
        false => None,
    };
    Ok(Statement::CopyIn(Box::new(CopyIn {
        name,
        columns,
        options,
        filter,
    })))
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
    let mut options = CopyOptions::default();
    input.accept(&["WITH"]);
    if input.is_at_token(&Token::LParen) {
        input.parenthesized_list(|input| copy_option(input, &mut options))?;
    } else {
        while !input.is_at_end() && !input.is_at(&["WHERE"]) {
            old_option(input, &mut options)?;
        }
    }
    check(&options)?;
    Ok(options)
}

/// What PostgreSQL demands of the options together.
fn check(options: &CopyOptions) -> Result<()> {
    let refuse = |message: String| Err(PlanError::invalid_option(message));
    let is_csv = options.format == CopyFormat::Csv;
    if options.format == CopyFormat::Binary
        && (options.header != CopyHeader::None
            || options.delimiter.is_some()
            || options.null.is_some())
    {
        return refuse("HEADER, DELIMITER and NULL do not go with FORMAT binary".to_string());
    }
    let only_csv = [
        (options.quote.is_some(), "quote"),
        (options.escape.is_some(), "escape"),
        (!options.force_not_null.is_empty(), "force not null"),
        (!options.force_null.is_empty(), "force null"),
    ];
    if let Some((_, name)) = only_csv.iter().find(|(is_given, _)| *is_given && !is_csv) {
        return refuse(format!("COPY {name} available only in CSV mode"));
    }
    let delimiter = options
        .delimiter
        .unwrap_or(if is_csv { b',' } else { b'\t' });
    if !is_csv
        && (delimiter.is_ascii_lowercase() || delimiter.is_ascii_digit() || delimiter == b'.')
    {
        let delimiter = char::from(delimiter);
        return refuse(format!("COPY delimiter cannot be \"{delimiter}\""));
    }
    let quote = options.quote.unwrap_or(b'"');
    if is_csv && delimiter == quote {
        return refuse("COPY delimiter and quote must be different".to_string());
    }
    let null = options.null.as_deref().unwrap_or_default().as_bytes();
    if null.iter().any(|b| matches!(b, b'\n' | b'\r')) {
        return refuse(
            "COPY null representation cannot use newline or carriage return".to_string(),
        );
    }
    if null.contains(&delimiter) {
        return refuse("COPY delimiter must not appear in the NULL specification".to_string());
    }
    if is_csv && null.contains(&quote) {
        return refuse("CSV quote character must not appear in the NULL specification".to_string());
    }
    Ok(())
}

fn copy_option(input: &mut Input, options: &mut CopyOptions) -> Result<()> {
    match input.word("an option of COPY")?.as_str() {
        "format" => {
            let format = match input.token(0) {
                Token::SingleQuotedString(_) => input.string("a format")?.to_lowercase(),
                _ => input.word("text, csv or binary")?,
            };
            options.format = match format.as_str() {
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
                Token::Comma | Token::RParen => CopyHeader::Line,
                _ => match header(input)?.as_str() {
                    "true" | "on" | "1" => CopyHeader::Line,
                    "false" | "off" | "0" => CopyHeader::None,
                    "match" => CopyHeader::Match,
                    _ => {
                        return Err(PlanError::invalid_option(
                            "header requires a Boolean value or \"match\"",
                        ));
                    }
                },
            }
        }
        "delimiter" => options.delimiter = Some(single(input, "delimiter")?),
        "null" => options.null = Some(input.string("the text for NULL")?),
        "quote" => options.quote = Some(single(input, "quote")?),
        "escape" => options.escape = Some(single(input, "escape")?),
        "force_not_null" => options.force_not_null = columns(input)?,
        "force_null" => options.force_null = columns(input)?,
        "encoding" => encoding(input)?,
        other => return Err(unknown_option(other)),
    }
    Ok(())
}

/// A word, number or text.
fn header(input: &mut Input) -> Result<String> {
    let text = match input.token(0) {
        Token::SingleQuotedString(text) => text.to_lowercase(),
        Token::Number(text, _) => text.clone(),
        _ => return input.word("a boolean"),
    };
    input.skip(1);
    Ok(text)
}

fn columns(input: &mut Input) -> Result<Vec<String>> {
    if input.is_at_token(&Token::LParen) {
        return input.parenthesized_list(|i| i.name("a column name"));
    }
    input.list(|i| i.name("a column name"))
}

fn encoding(input: &mut Input) -> Result<()> {
    let name = input.string("an encoding")?;
    match name.to_uppercase().replace('-', "").as_str() {
        "UTF8" => Ok(()),
        _ => Err(PlanError::unsupported(
            format!("the encoding \"{name}\""),
            "convert the file to UTF8",
        )),
    }
}

fn old_option(input: &mut Input, options: &mut CopyOptions) -> Result<()> {
    match input.word("an option of COPY")?.as_str() {
        "csv" => options.format = CopyFormat::Csv,
        "binary" => options.format = CopyFormat::Binary,
        "header" => options.header = CopyHeader::Line,
        "delimiter" => {
            input.accept(&["AS"]);
            options.delimiter = Some(single(input, "delimiter")?);
        }
        "null" => {
            input.accept(&["AS"]);
            options.null = Some(input.string("the text for NULL")?);
        }
        "quote" => {
            input.accept(&["AS"]);
            options.quote = Some(single(input, "quote")?);
        }
        "escape" => {
            input.accept(&["AS"]);
            options.escape = Some(single(input, "escape")?);
        }
        "force" if input.accept(&["NOT", "NULL"]) => options.force_not_null = columns(input)?,
        "force" if input.accept(&["NULL"]) => options.force_null = columns(input)?,
        "encoding" => encoding(input)?,
        other => return Err(unknown_option(other)),
    }
    Ok(())
}

/// A character that separates or quotes.
fn single(input: &mut Input, what: &str) -> Result<u8> {
    match input.string("a character")?.as_bytes() {
        [b'\n' | b'\r'] => Err(PlanError::invalid_option(format!(
            "COPY {what} cannot be newline or carriage return"
        ))),
        [b'\\'] if what == "delimiter" => {
            Err(PlanError::invalid_option("COPY delimiter cannot be \"\\\""))
        }
        [byte] if byte.is_ascii() => Ok(*byte),
        _ => Err(PlanError::invalid_option(format!(
            "COPY {what} must be a single one-byte character"
        ))),
    }
}

fn unknown_option(name: &str) -> PlanError {
    PlanError::invalid_option(format!(
        "COPY option \"{name}\" not recognized: allowed are format, header, delimiter, null, quote, escape, \
         force_null, force_not_null, encoding"
    ))
}
