//! Functions on texts that DataFusion lacks or has with other results.

use std::sync::Arc;

use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;

use super::argument::Kind::{AnyArray, AnyText, Bytes, Int4, Int8, Text, TextArray};
use super::sql_function::{Row, function};
use super::value::Value;
use crate::identifier;
use crate::types::SqlType;

const TEXT: SqlType = SqlType::Text { max_length: None };

/// The longest text that a function may make.
const MAX_BYTES: usize = 256 << 20;

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut all = quoting();
    all.extend(parts());
    all.extend(building());
    all.extend(arrays());
    all
}

fn quoting() -> Vec<Arc<ScalarUDF>> {
    vec![
        function("quote_ident")
            .strict(&[Text], TEXT, |a| {
                Ok(identifier::quote_ident(a.text(0)).into_owned().into())
            })
            .udf(),
        function("quote_literal")
            .strict(&[AnyText], TEXT, |a| Ok(quote_literal(a.text(0)).into()))
            .udf(),
        function("quote_nullable")
            .lenient(&[AnyText], TEXT, |a| {
                Ok(if a.is_null(0) {
                    "NULL".into()
                } else {
                    quote_literal(a.text(0)).into()
                })
            })
            .udf(),
    ]
}

/// With backslashes the escape form, so that it is read alike under any setting.
fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// Parts of texts and bytes, and where they are.
fn parts() -> Vec<Arc<ScalarUDF>> {
    let cut = |name: &'static str| {
        function(name)
            .strict(&[Text, Int4], TEXT, |a| Ok(substring(a)?.into()))
            .strict(&[Text, Int4, Int4], TEXT, |a| Ok(substring(a)?.into()))
            .strict(&[Bytes, Int4], SqlType::Bytea, |a| Ok(sub_bytes(a)?.into()))
            .strict(&[Bytes, Int4, Int4], SqlType::Bytea, |a| {
                Ok(sub_bytes(a)?.into())
            })
    };
    fn place(whole: &str, part: &str) -> Value {
        let at = whole.find(part);
        at.map_or(0, |at| whole[..at].chars().count() as i64 + 1)
            .into()
    }
    fn byte_place(whole: &[u8], part: &[u8]) -> Value {
        if part.is_empty() {
            return Value::Int(1);
        }
        let at = whole.windows(part.len()).position(|window| window == part);
        at.map_or(0, |at| at as i64 + 1).into()
    }
    vec![
        cut("substr").udf(),
        cut("substring")
            .strict(&[Text, Text], TEXT, super::regex::substring)
            .strict(&[Text, Text, Text], TEXT, super::regex::substring_similar)
            .udf(),
        function("position")
            .strict(&[Text, Text], SqlType::Integer, |a| {
                Ok(place(a.text(1), a.text(0)))
            })
            .strict(&[Bytes, Bytes], SqlType::Integer, |a| {
                Ok(byte_place(a.bytes(1), a.bytes(0)))
            })
            .udf(),
        function("strpos")
            .strict(&[Text, Text], SqlType::Integer, |a| {
                Ok(place(a.text(0), a.text(1)))
            })
            .udf(),
        function("length")
            .strict(&[Text], SqlType::Integer, |a| {
                Ok((a.text(0).chars().count() as i64).into())
            })
            .strict(&[Bytes], SqlType::Integer, |a| {
                Ok((a.bytes(0).len() as i64).into())
            })
            .udf(),
        function("octet_length")
            .strict(&[Text], SqlType::Integer, |a| {
                Ok((a.text(0).len() as i64).into())
            })
            .strict(&[Bytes], SqlType::Integer, |a| {
                Ok((a.bytes(0).len() as i64).into())
            })
            .udf(),
        function("starts_with")
            .strict(&[Text, Text], SqlType::Boolean, |a| {
                Ok(a.text(0).starts_with(a.text(1)).into())
            })
            .udf(),
    ]
}

/// The first position and the one behind the last, from 0, that `substring(x, start [, length])` means.
fn range(a: &Row) -> Result<(usize, usize)> {
    let start = a.int(1) - 1;
    let end = if a.len() > 2 {
        if a.int(2) < 0 {
            return exec_err!("negative substring length not allowed");
        }
        start.saturating_add(a.int(2))
    } else {
        i64::MAX
    };
    Ok((start.max(0) as usize, end.max(0) as usize))
}

fn substring(a: &Row) -> Result<String> {
    let (start, end) = range(a)?;
    let length = end.saturating_sub(start);
    Ok(a.text(0).chars().skip(start).take(length).collect())
}

fn sub_bytes(a: &Row) -> Result<Vec<u8>> {
    let (start, end) = range(a)?;
    let bytes = a.bytes(0);
    let end = end.min(bytes.len());
    Ok(bytes.get(start..end).unwrap_or_default().to_vec())
}

fn building() -> Vec<Arc<ScalarUDF>> {
    vec![
        function("concat")
            .variadic(&[AnyText], TEXT, |a| {
                let parts = (0..a.len()).filter(|i| !a.is_null(*i));
                Ok(parts.map(|i| a.text(i)).collect::<String>().into())
            })
            .udf(),
        function("concat_ws")
            .variadic(&[Text, AnyText], TEXT, |a| {
                if a.is_null(0) {
                    return Ok(Value::Null);
                }
                let parts = (1..a.len()).filter(|i| !a.is_null(*i));
                let parts: Vec<&str> = parts.map(|i| a.text(i)).collect();
                Ok(parts.join(a.text(0)).into())
            })
            .udf(),
        function("format")
            .variadic(&[Text, AnyText], TEXT, format)
            .udf(),
        function("chr")
            .strict(&[Int4], TEXT, |a| chr(a.int(0)))
            .udf(),
        function("to_hex")
            .strict(&[Int4], TEXT, |a| {
                Ok(format!("{:x}", a.int(0) as i32).into())
            })
            .strict(&[Int8], TEXT, |a| Ok(format!("{:x}", a.int(0)).into()))
            .udf(),
        function("repeat")
            .strict(&[Text, Int4], TEXT, |a| {
                let count = usize::try_from(a.int(1)).unwrap_or(0);
                if a.text(0).len().saturating_mul(count) > MAX_BYTES {
                    return exec_err!("requested length too large");
                }
                Ok(a.text(0).repeat(count).into())
            })
            .udf(),
        pad("lpad", |a| padded(a, true)),
        pad("rpad", |a| padded(a, false)),
        function("initcap")
            .strict(&[Text], TEXT, |a| Ok(initcap(a.text(0)).into()))
            .udf(),
        function("split_part")
            .strict(&[Text, Text, Int4], TEXT, split_part)
            .udf(),
        function("unistr")
            .strict(&[Text], TEXT, |a| unistr(a.text(0)))
            .udf(),
        function("replace")
            .strict(&[Text, Text, Text], TEXT, |a| {
                if a.text(1).is_empty() {
                    return Ok(a.text(0).into());
                }
                Ok(a.text(0).replace(a.text(1), a.text(2)).into())
            })
            .udf(),
        function("rm_like_escape")
            .strict(&[Text, Text], TEXT, |a| like_escape(a.text(0), a.text(1)))
            .udf(),
        function("num_nulls")
            .variadic(&[AnyText], SqlType::Integer, |a| {
                Ok(((0..a.len()).filter(|i| a.is_null(*i)).count() as i64).into())
            })
            .udf(),
        function("num_nonnulls")
            .variadic(&[AnyText], SqlType::Integer, |a| {
                Ok(((0..a.len()).filter(|i| !a.is_null(*i)).count() as i64).into())
            })
            .udf(),
    ]
}

fn arrays() -> Vec<Arc<ScalarUDF>> {
    let texts = || SqlType::Array(Box::new(TEXT));
    vec![
        function("string_to_array")
            .lenient(&[Text, Text], texts(), string_to_array)
            .lenient(&[Text, Text, Text], texts(), string_to_array)
            .udf(),
        function("array_to_string")
            .lenient(&[TextArray, Text], TEXT, array_to_string)
            .lenient(&[TextArray, Text, Text], TEXT, array_to_string)
            .udf(),
        function("array_length")
            .strict(&[AnyArray, Int4], SqlType::Integer, |a| {
                let lengths = super::arrays::dimensions(&a.array(0));
                let index = a.int(1) - 1;
                Ok(usize::try_from(index)
                    .ok()
                    .and_then(|i| lengths.get(i).copied())
                    .map(|n| n as i64)
                    .into())
            })
            .udf(),
    ]
}

fn pad(name: &'static str, body: super::sql_function::Body) -> Arc<ScalarUDF> {
    function(name)
        .strict(&[Text, Int4], TEXT, body)
        .strict(&[Text, Int4, Text], TEXT, body)
        .udf()
}

fn padded(a: &Row, on_the_left: bool) -> Result<Value> {
    let text = a.text(0);
    let fill = if a.len() > 2 { a.text(2) } else { " " };
    let width = usize::try_from(a.int(1)).unwrap_or(0);
    if width > MAX_BYTES / 4 {
        return exec_err!("requested length too large");
    }
    let length = text.chars().count();
    if width <= length || fill.is_empty() {
        return Ok(text.chars().take(width).collect::<String>().into());
    }
    let filling: String = fill.chars().cycle().take(width - length).collect();
    Ok(if on_the_left {
        format!("{filling}{text}").into()
    } else {
        format!("{text}{filling}").into()
    })
}

fn chr(code: i64) -> Result<Value> {
    if code == 0 {
        return exec_err!("null character not permitted");
    }
    match u32::try_from(code).ok().and_then(char::from_u32) {
        Some(c) => Ok(c.to_string().into()),
        None => exec_err!("requested character not valid for encoding: {code}"),
    }
}

/// A word is a run of letters and digits.
fn initcap(text: &str) -> String {
    let mut in_word = false;
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        if in_word {
            result.extend(c.to_lowercase());
        } else {
            result.extend(c.to_uppercase());
        }
        in_word = c.is_alphanumeric();
    }
    result
}

fn split_part(a: &Row) -> Result<Value> {
    let (text, separator, field) = (a.text(0), a.text(1), a.int(2));
    if field == 0 {
        return exec_err!("field position must not be zero");
    }
    if text.is_empty() {
        return Ok("".into());
    }
    let parts: Vec<&str> = if separator.is_empty() {
        vec![text]
    } else {
        text.split(separator).collect()
    };
    let index = if field > 0 {
        field - 1
    } else {
        parts.len() as i64 + field
    };
    let part = usize::try_from(index).ok().and_then(|i| parts.get(i));
    Ok(part.copied().unwrap_or_default().into())
}

fn unistr(text: &str) -> Result<Value> {
    let invalid = || datafusion::common::exec_datafusion_err!("invalid Unicode escape");
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (skipped, digits) = match rest.chars().next() {
            Some('\\') => {
                result.push('\\');
                rest = &rest[1..];
                continue;
            }
            Some('u') => (1, 4),
            Some('U') => (1, 8),
            Some('+') => (1, 6),
            _ => (0, 4),
        };
        let hex = rest.get(skipped..skipped + digits).ok_or_else(invalid)?;
        let code = u32::from_str_radix(hex, 16).map_err(|_| invalid())?;
        result.push(char::from_u32(code).ok_or_else(invalid)?);
        rest = &rest[skipped + digits..];
    }
    result.push_str(rest);
    Ok(result.into())
}

/// A LIKE pattern with another escape character, in terms of the backslash.
fn like_escape(pattern: &str, escape: &str) -> Result<Value> {
    let mut escapes = escape.chars();
    let escape = match (escapes.next(), escapes.next()) {
        (escape, None) => escape,
        _ => return exec_err!("invalid escape string"),
    };
    let mut result = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        if Some(c) == escape {
            result.push('\\');
            match characters.next() {
                Some(c) => result.push(c),
                None => return exec_err!("LIKE pattern must not end with escape character"),
            }
        } else if c == '\\' {
            result.push_str("\\\\");
        } else {
            result.push(c);
        }
    }
    Ok(result.into())
}

/// A NULL separator splits between all characters, a part that equals the third argument is NULL.
fn string_to_array(a: &Row) -> Result<Value> {
    if a.is_null(0) {
        return Ok(Value::Null);
    }
    let text = a.text(0);
    if text.is_empty() {
        return Ok(Value::List(Vec::new()));
    }
    let parts: Vec<String> = if a.is_null(1) {
        text.chars().map(String::from).collect()
    } else if a.text(1).is_empty() {
        vec![text.to_string()]
    } else {
        text.split(a.text(1)).map(str::to_string).collect()
    };
    let null = (a.len() > 2 && !a.is_null(2)).then(|| a.text(2));
    let parts = parts
        .into_iter()
        .map(|part| Some(part).filter(|p| Some(p.as_str()) != null));
    Ok(parts.collect::<Vec<Option<String>>>().into())
}

fn array_to_string(a: &Row) -> Result<Value> {
    if a.is_null(0) || a.is_null(1) {
        return Ok(Value::Null);
    }
    let null = (a.len() > 2 && !a.is_null(2)).then(|| a.text(2).to_string());
    let parts: Vec<String> = a
        .texts(0)
        .into_iter()
        .filter_map(|part| part.or_else(|| null.clone()))
        .collect();
    Ok(parts.join(a.text(1)).into())
}

/// `%[position$][-][width]type`, where type is `s`, `I` or `L`.
fn format(a: &Row) -> Result<Value> {
    if a.is_null(0) {
        return Ok(Value::Null);
    }
    let mut result = String::new();
    let mut characters = a.text(0).chars().peekable();
    let mut next = 0usize;
    while let Some(c) = characters.next() {
        if c != '%' {
            result.push(c);
            continue;
        }
        if characters.next_if_eq(&'%').is_some() {
            result.push('%');
            continue;
        }
        let mut number = digits(&mut characters);
        let mut position = None;
        if number.is_some() && characters.next_if_eq(&'$').is_some() {
            position = number.take();
        }
        let mut is_left = false;
        if number.is_none() {
            while characters.next_if_eq(&'-').is_some() {
                is_left = true;
            }
            number = digits(&mut characters);
        }
        let mut width = number.unwrap_or(0) as i64;
        if characters.next_if_eq(&'*').is_some() {
            next += 1;
            if next >= a.len() {
                return exec_err!("too few arguments for format()");
            }
            width = a.text(next).trim().parse().unwrap_or(0);
        }
        let index = match position {
            Some(0) => {
                return exec_err!("format specifies argument 0, but arguments are numbered from 1");
            }
            Some(position) => position,
            None => next + 1,
        };
        next = index;
        let conversion = match characters.next() {
            Some(conversion @ ('s' | 'I' | 'L')) => conversion,
            Some(other) => {
                return exec_err!("unrecognized format() type specifier \"{other}\"");
            }
            None => return exec_err!("unterminated format() type specifier"),
        };
        if index >= a.len() {
            return exec_err!("too few arguments for format()");
        }
        let value = (!a.is_null(index)).then(|| a.text(index));
        let text = match (conversion, value) {
            ('s', value) => value.unwrap_or_default().to_string(),
            ('I', Some(value)) => identifier::quote_ident(value).into_owned(),
            ('I', None) => {
                return exec_err!("null values cannot be formatted as an SQL identifier");
            }
            (_, Some(value)) => quote_literal(value),
            (_, None) => "NULL".to_string(),
        };
        let missing = (width.unsigned_abs() as usize).saturating_sub(text.chars().count());
        let blanks = " ".repeat(missing.min(MAX_BYTES));
        if is_left || width < 0 {
            result.push_str(&text);
            result.push_str(&blanks);
        } else {
            result.push_str(&blanks);
            result.push_str(&text);
        }
    }
    Ok(result.into())
}

fn digits(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<usize> {
    let mut number = None;
    while let Some(digit) = characters.peek().and_then(|c| c.to_digit(10)) {
        characters.next();
        number = Some(number.unwrap_or(0usize).saturating_mul(10) + digit as usize);
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_capitals() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\b"), "E'a\\\\b'");
        assert_eq!(
            initcap("hello wORLD foo-bar 1ab"),
            "Hello World Foo-Bar 1ab"
        );
        let escaped = like_escape("a#%\\", "#").unwrap();
        assert_eq!(escaped, Value::from("a\\%\\\\"));
    }
}
