//! Finding parts of a JSON text without reading all of it. The text must be valid; of one that is not some answer is
//! given, never a panic.

use super::value::unescape;

pub(super) fn skip_blanks(text: &str, at: usize) -> usize {
    let blanks = text.as_bytes()[at.min(text.len())..]
        .iter()
        .take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
        .count();
    at + blanks
}

/// The place behind the string that begins at `start`.
pub(super) fn string_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The place behind the value that begins at `start`.
fn value_end(text: &str, start: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    match bytes.get(start)? {
        b'"' => string_end(text, start),
        b'{' | b'[' => {
            let mut depth = 0usize;
            let mut at = start;
            loop {
                match bytes.get(at)? {
                    b'"' => {
                        at = string_end(text, at)?;
                        continue;
                    }
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
                at += 1;
            }
        }
        _ => {
            let length = bytes[start..]
                .iter()
                .take_while(|b| !matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'))
                .count();
            Some(start + length)
        }
    }
}

/// Walks over the members of the array or object `text`: keys are given with their quotes.
struct Members<'a> {
    text: &'a str,
    at: usize,
    has_keys: bool,
}

impl<'a> Members<'a> {
    fn of(text: &'a str, open: u8) -> Option<Members<'a>> {
        let start = skip_blanks(text, 0);
        (text.as_bytes().get(start) == Some(&open)).then_some(Members {
            text,
            at: start + 1,
            has_keys: open == b'{',
        })
    }
}

impl<'a> Iterator for Members<'a> {
    /// Key (empty in arrays) and value.
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.text;
        let mut at = skip_blanks(text, self.at);
        if text.as_bytes().get(at) == Some(&b',') {
            at = skip_blanks(text, at + 1);
        }
        if matches!(text.as_bytes().get(at)?, b']' | b'}') {
            return None;
        }
        let mut key = "";
        if self.has_keys {
            let end = string_end(text, at)?;
            key = text.get(at..end)?;
            at = skip_blanks(text, end);
            at = skip_blanks(text, at + 1);
        }
        let end = value_end(text, at).filter(|end| *end > at)?;
        self.at = end;
        Some((key, text.get(at..end)?))
    }
}

/// The value of an object's key, the last if it occurs twice; `None` for no object too.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let is_named = |key: &str| {
        let inner = &key[1..key.len() - 1];
        inner == name || (inner.contains('\\') && unescape(inner).is_some_and(|k| k == name))
    };
    Members::of(text, b'{')?
        .filter(|(key, _)| is_named(key))
        .last()
        .map(|(_, value)| value)
}

/// An array's element, counted from 0, or from the end if negative.
pub fn element(text: &str, index: i64) -> Option<&str> {
    let mut members = Members::of(text, b'[')?;
    let index = if index < 0 {
        let length = Members::of(text, b'[')?.count() as i64;
        length + index
    } else {
        index
    };
    members
        .nth(usize::try_from(index).ok()?)
        .map(|(_, value)| value)
}

/// What a path of keys and indexes leads to.
pub fn path<'a>(text: &'a str, steps: &[&str]) -> Option<&'a str> {
    steps.iter().try_fold(text.trim(), |value, step| {
        match value.as_bytes().first()? {
            b'{' => field(value, step),
            b'[' => element(value, step.trim().parse().ok()?),
            _ => None,
        }
    })
}

/// All elements of an array; `None` if it is none.
pub fn elements(text: &str) -> Option<Vec<&str>> {
    Some(Members::of(text, b'[')?.map(|(_, value)| value).collect())
}

/// All keys and values of an object; `None` if it is none.
pub fn fields(text: &str) -> Option<Vec<(String, &str)>> {
    let unquoted = |key: &str| unescape(&key[1..key.len() - 1]).unwrap_or_default();
    Some(
        Members::of(text, b'{')?
            .map(|(key, value)| (unquoted(key), value))
            .collect(),
    )
}

/// A value as `->>` gives it: strings without quotes, null as NULL.
pub fn text_value(value: &str) -> Option<String> {
    let value = value.trim();
    match value.as_bytes().first()? {
        b'"' => unescape(value.get(1..value.len() - 1)?),
        b'n' => None,
        _ => Some(value.to_string()),
    }
}

/// The name that `jsonb_typeof` has for the value.
pub fn type_name(text: &str) -> &'static str {
    match text.trim().as_bytes().first() {
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b'"') => "string",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}
