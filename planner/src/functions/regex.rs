//! Regular expressions with PostgreSQL's meaning: the functions, and the engine below them.

mod compile;
mod search;
mod similar;

use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

use super::argument::Kind::{Int4, Text};
use super::sql_function::{Row, function};
use super::value::Value;
use crate::types::SqlType;
use compile::{Pattern, compiled};
use search::{Match, matches};

const PLAIN_TEXT: SqlType = SqlType::Text { max_length: None };

fn texts() -> SqlType {
    SqlType::Array(Box::new(PLAIN_TEXT))
}

/// `substring(text from pattern)`.
pub fn substring(a: &Row) -> Result<Value> {
    Ok(first_group(compiled(a.text(1), "")?.as_ref(), a.text(0)).into())
}

/// `substring(text from pattern for escape)`, with SQL's patterns.
pub fn substring_similar(a: &Row) -> Result<Value> {
    let pattern = similar::to_regex(a.text(1), a.text(2))?;
    Ok(first_group(compiled(&pattern, "")?.as_ref(), a.text(0)).into())
}

/// `~` and its like, and everything named `regexp_*`.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let boolean = SqlType::Boolean;
    vec![
        function("rm_regex_matches")
            .strict(&[Text, Text, Text], boolean.clone(), |a| {
                Ok(compiled(a.text(1), a.text(2))?.is_match(a.text(0)).into())
            })
            .udf(),
        function("rm_similar_to")
            .strict(&[Text, Text], boolean.clone(), |a| {
                similar_to(a.text(0), a.text(1), "\\")
            })
            .strict(&[Text, Text, Text], boolean.clone(), |a| {
                similar_to(a.text(0), a.text(1), a.text(2))
            })
            .udf(),
        function("regexp_like")
            .strict(&[Text, Text], boolean.clone(), |a| {
                Ok(compiled(a.text(1), "")?.is_match(a.text(0)).into())
            })
            .strict(&[Text, Text, Text], boolean, |a| {
                Ok(compiled(a.text(1), no_g("regexp_like", a.text(2))?)?
                    .is_match(a.text(0))
                    .into())
            })
            .udf(),
        function("regexp_match")
            .strict(&[Text, Text], texts(), |a| regexp_match(a, ""))
            .strict(&[Text, Text, Text], texts(), |a| {
                regexp_match(a, no_g("regexp_match", a.text(2))?)
            })
            .udf(),
        // what unnest() makes rows of
        function("rm_regexp_matches")
            .strict(&[Text, Text], SqlType::Array(Box::new(texts())), |a| {
                regexp_matches(a, "")
            })
            .strict(
                &[Text, Text, Text],
                SqlType::Array(Box::new(texts())),
                |a| regexp_matches(a, a.text(2)),
            )
            .udf(),
        replace(),
        split(),
        count(),
        function("regexp_substr")
            .strict(&[Text, Text], PLAIN_TEXT, regexp_substr)
            .strict(&[Text, Text, Int4], PLAIN_TEXT, regexp_substr)
            .strict(&[Text, Text, Int4, Int4], PLAIN_TEXT, regexp_substr)
            .strict(&[Text, Text, Int4, Int4, Text], PLAIN_TEXT, regexp_substr)
            .strict(
                &[Text, Text, Int4, Int4, Text, Int4],
                PLAIN_TEXT,
                regexp_substr,
            )
            .udf(),
        function("regexp_instr")
            .strict(&[Text, Text], SqlType::Integer, regexp_instr)
            .strict(&[Text, Text, Int4], SqlType::Integer, regexp_instr)
            .strict(&[Text, Text, Int4, Int4], SqlType::Integer, regexp_instr)
            .strict(
                &[Text, Text, Int4, Int4, Int4],
                SqlType::Integer,
                regexp_instr,
            )
            .udf(),
    ]
}

fn replace() -> Arc<ScalarUDF> {
    function("regexp_replace")
        .strict(&[Text, Text, Text], PLAIN_TEXT, |a| {
            let pattern = compiled(a.text(1), "")?;
            Ok(replaced(&pattern, a.text(0), a.text(2), 1, 1)?.into())
        })
        .strict(&[Text, Text, Text, Text], PLAIN_TEXT, |a| {
            let flags = a.text(3);
            let nth = if flags.contains('g') { 0 } else { 1 };
            let pattern = compiled(a.text(1), &flags.replace('g', ""))?;
            Ok(replaced(&pattern, a.text(0), a.text(2), 1, nth)?.into())
        })
        .strict(&[Text, Text, Text, Int4], PLAIN_TEXT, |a| {
            let pattern = compiled(a.text(1), "")?;
            Ok(replaced(&pattern, a.text(0), a.text(2), a.int(3), 1)?.into())
        })
        .strict(&[Text, Text, Text, Int4, Int4], PLAIN_TEXT, |a| {
            let pattern = compiled(a.text(1), "")?;
            Ok(replaced(&pattern, a.text(0), a.text(2), a.int(3), a.int(4))?.into())
        })
        .strict(&[Text, Text, Text, Int4, Int4, Text], PLAIN_TEXT, |a| {
            let pattern = compiled(a.text(1), &a.text(5).replace('g', ""))?;
            Ok(replaced(&pattern, a.text(0), a.text(2), a.int(3), a.int(4))?.into())
        })
        .udf()
}

fn split() -> Arc<ScalarUDF> {
    function("regexp_split_to_array")
        .strict(&[Text, Text], texts(), |a| {
            Ok(splits(compiled(a.text(1), "")?.as_ref(), a.text(0)).into())
        })
        .strict(&[Text, Text, Text], texts(), |a| {
            let flags = no_g("regexp_split_to_array", a.text(2))?;
            Ok(splits(compiled(a.text(1), flags)?.as_ref(), a.text(0)).into())
        })
        .udf()
}

fn count() -> Arc<ScalarUDF> {
    fn body(a: &Row) -> Result<Value> {
        let flags = if a.len() > 3 {
            no_g("regexp_count", a.text(3))?
        } else {
            ""
        };
        let pattern = compiled(a.text(1), flags)?;
        let start = if a.len() > 2 { a.int(2) } else { 1 };
        let text = a.text(0);
        let Some(from) = offset_of(text, start)? else {
            return Ok(Value::Int(0));
        };
        Ok(Value::Int(matches(&pattern, text, from).count() as i64))
    }
    function("regexp_count")
        .strict(&[Text, Text], SqlType::Integer, body)
        .strict(&[Text, Text, Int4], SqlType::Integer, body)
        .strict(&[Text, Text, Int4, Text], SqlType::Integer, body)
        .udf()
}

fn similar_to(text: &str, pattern: &str, escape: &str) -> Result<Value> {
    let regex = similar::to_regex(pattern, escape)?;
    Ok(compiled(&regex, "")?.is_match(text).into())
}

/// `g` makes no sense for a function that finds one match, or all anyway.
fn no_g<'a>(function: &str, flags: &'a str) -> Result<&'a str> {
    if flags.contains('g') {
        return exec_err!("{function}() does not support the \"global\" option");
    }
    Ok(flags)
}

/// The first group of the first match, or all of it if there are no groups.
fn first_group(pattern: &Pattern, text: &str) -> Option<String> {
    let found = matches(pattern, text, 0).next()?;
    if pattern.groups() == 0 {
        Some(text[found.start..found.end].to_string())
    } else {
        found.groups(pattern, text).into_iter().next().flatten()
    }
}

/// All groups of a match, or all of it if there are none.
fn groups(pattern: &Pattern, text: &str, found: &Match) -> Vec<Option<String>> {
    if pattern.groups() == 0 {
        vec![Some(text[found.start..found.end].to_string())]
    } else {
        found.groups(pattern, text)
    }
}

fn regexp_match(a: &Row, flags: &str) -> Result<Value> {
    let pattern = compiled(a.text(1), flags)?;
    let found = matches(&pattern, a.text(0), 0).next();
    Ok(found
        .map(|found| Value::from(groups(&pattern, a.text(0), &found)))
        .into())
}

fn regexp_matches(a: &Row, flags: &str) -> Result<Value> {
    let pattern = compiled(a.text(1), &flags.replace('g', ""))?;
    let text = a.text(0);
    let limit = if flags.contains('g') { usize::MAX } else { 1 };
    let rows: Vec<Value> = matches(&pattern, text, 0)
        .take(limit)
        .map(|found| Value::from(groups(&pattern, text, &found)))
        .collect();
    Ok(Value::List(rows))
}

/// The byte at which the `start`th character begins; `None`: behind the end.
fn offset_of(text: &str, start: i64) -> Result<Option<usize>> {
    if start < 1 {
        return exec_err!("invalid value for parameter \"start\": {start}");
    }
    let mut offsets = text.char_indices().map(|(at, _)| at);
    let skipped = usize::try_from(start - 1).unwrap_or(usize::MAX);
    Ok(match offsets.nth(skipped) {
        Some(at) => Some(at),
        None if skipped == text.chars().count() => Some(text.len()),
        None => None,
    })
}

/// The text with its `nth` match behind `start` replaced, or with all of them if `nth` is 0.
fn replaced(
    pattern: &Pattern,
    text: &str,
    replacement: &str,
    start: i64,
    nth: i64,
) -> Result<String> {
    if nth < 0 {
        return exec_err!("invalid value for parameter \"n\": {nth}");
    }
    let Some(from) = offset_of(text, start)? else {
        return Ok(text.to_string());
    };
    let mut result = String::with_capacity(text.len());
    let mut done = 0;
    for (i, found) in matches(pattern, text, from).enumerate() {
        let number = i as i64 + 1;
        if nth != 0 && number < nth {
            continue;
        }
        result.push_str(&text[done..found.start]);
        append_replacement(&mut result, pattern, text, &found, replacement);
        done = found.end;
        if nth != 0 {
            break;
        }
    }
    result.push_str(&text[done..]);
    Ok(result)
}

/// `\1` to `\9` are groups, `\&` is the match.
fn append_replacement(
    out: &mut String,
    pattern: &Pattern,
    text: &str,
    found: &Match,
    replacement: &str,
) {
    if !replacement.contains('\\') {
        out.push_str(replacement);
        return;
    }
    let mut groups = None;
    let mut characters = replacement.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match characters.next() {
            Some('&') => out.push_str(&text[found.start..found.end]),
            Some(digit @ '1'..='9') => {
                let groups = groups.get_or_insert_with(|| found.groups(pattern, text));
                let index = digit as usize - '1' as usize;
                if let Some(Some(group)) = groups.get(index) {
                    out.push_str(group);
                }
            }
            Some('\\') | None => out.push('\\'),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
        }
    }
}

/// The pieces between matches. Matches of nothing at the ends, or directly behind another match, separate nothing.
fn splits(pattern: &Pattern, text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut done = 0;
    for found in matches(pattern, text, 0) {
        let is_empty = found.start == found.end;
        if is_empty && (found.start == done || found.start == text.len()) {
            continue;
        }
        pieces.push(text[done..found.start].to_string());
        done = found.end;
    }
    pieces.push(text[done..].to_string());
    pieces
}

fn nth_match(a: &Row, flags: &str) -> Result<Option<(Arc<Pattern>, Match)>> {
    let pattern = compiled(a.text(1), flags)?;
    let start = if a.len() > 2 { a.int(2) } else { 1 };
    let nth = if a.len() > 3 { a.int(3) } else { 1 };
    if nth < 1 {
        return exec_err!("invalid value for parameter \"n\": {nth}");
    }
    let Some(from) = offset_of(a.text(0), start)? else {
        return Ok(None);
    };
    let found = matches(&pattern, a.text(0), from).nth(nth as usize - 1);
    Ok(found.map(|found| (pattern, found)))
}

fn regexp_substr(a: &Row) -> Result<Value> {
    let flags = if a.len() > 4 {
        no_g("regexp_substr", a.text(4))?
    } else {
        ""
    };
    let Some((pattern, found)) = nth_match(a, flags)? else {
        return Ok(Value::Null);
    };
    let text = a.text(0);
    match if a.len() > 5 { a.int(5) } else { 0 } {
        0 => Ok(text[found.start..found.end].into()),
        group if group < 0 => exec_err!("invalid value for parameter \"subexpr\": {group}"),
        group => Ok(found
            .groups(&pattern, text)
            .into_iter()
            .nth(group as usize - 1)
            .flatten()
            .into()),
    }
}

fn regexp_instr(a: &Row) -> Result<Value> {
    let Some((_, found)) = nth_match(a, "")? else {
        return Ok(Value::Int(0));
    };
    let at = match if a.len() > 4 { a.int(4) } else { 0 } {
        0 => found.start,
        1 => found.end,
        other => return exec_err!("invalid value for parameter \"endoption\": {other}"),
    };
    Ok(Value::Int(a.text(0)[..at].chars().count() as i64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_the_leftmost_matches_wins() {
        for (pattern, text, expected) in [
            ("a|ab", "xab", Some("ab")),
            ("a*(ab)?", "aab", Some("ab")),
            ("(?:a?)(?:ab)?", "ab", Some("ab")),
            ("o.b", "foobar", Some("oob")),
            ("o(.)b", "foobar", Some("o")),
            ("a+?", "aaa", Some("a")),
            ("z", "foobar", None),
            ("[[:digit:]]+", "ab12", Some("12")),
            ("\\mfoo\\M", "a foo", Some("foo")),
            ("a.c", "a\nc", Some("a\nc")),
            ("[a&&b]+", "x&&", Some("&&")),
        ] {
            let found = first_group(&compiled(pattern, "").unwrap(), text);
            assert_eq!(found.as_deref(), expected, "{pattern}");
        }
    }

    #[test]
    fn replacements_and_splits() {
        let pattern = compiled("b(..)", "").unwrap();
        let all = replaced(&pattern, "foobarbaz", "X\\1Y", 1, 0).unwrap();
        assert_eq!(all, "fooXarYXazY");
        let o = compiled("o", "").unwrap();
        assert_eq!(replaced(&o, "foobar", "\\&\\&", 1, 0).unwrap(), "foooobar");
        assert_eq!(replaced(&o, "foobar", "0", 1, 2).unwrap(), "fo0bar");
        assert_eq!(splits(&compiled("", "").unwrap(), "abc"), ["a", "b", "c"]);
        assert_eq!(splits(&compiled(",", "").unwrap(), ",a,"), ["", "a", ""]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for pattern in ["(a", "(a)\\1", "a(?=b)", "[b-a]", "*a"] {
            assert!(compiled(pattern, "").is_err(), "{pattern}");
        }
        assert!(compiled("a", "k").is_err());
    }
}
