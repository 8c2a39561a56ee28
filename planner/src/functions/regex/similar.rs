//! SQL's own patterns, `SIMILAR TO`, as regular expressions.

use datafusion::common::{Result, exec_err};

/// The regular expression that a whole text must match. `escape"` twice in the pattern marks the part that
/// `substring(… SIMILAR …)` is after, which becomes the group.
pub fn to_regex(pattern: &str, escape: &str) -> Result<String> {
    let mut escapes = escape.chars();
    let escape = match (escapes.next(), escapes.next()) {
        (escape, None) => escape,
        _ => {
            return exec_err!("invalid escape string");
        }
    };
    let mut parts: Vec<String> = vec![String::new()];
    let mut in_brackets = false;
    let mut characters = pattern.chars();
    while let Some(c) = characters.next() {
        let part = parts.last_mut().expect("never empty");
        if Some(c) == escape {
            match characters.next() {
                Some('"') => parts.push(String::new()),
                Some(c) if c.is_alphanumeric() => part.push(c),
                Some(c) => {
                    part.push('\\');
                    part.push(c);
                }
                None => return exec_err!("invalid escape sequence"),
            }
            continue;
        }
        match c {
            '[' if !in_brackets => {
                in_brackets = true;
                part.push('[');
            }
            ']' if in_brackets => {
                in_brackets = false;
                part.push(']');
            }
            c if in_brackets => part.push(c),
            '%' => part.push_str(".*"),
            '_' => part.push('.'),
            '(' => part.push_str("(?:"),
            '.' | '^' | '$' | '\\' => {
                part.push('\\');
                part.push(c);
            }
            c => part.push(c),
        }
    }
    match parts.as_slice() {
        [whole] => Ok(format!("^(?:{whole})$")),
        // what comes before is matched as short as can be
        [before, wanted, after] => {
            let before = before.replace(".*", ".*?");
            Ok(format!("^(?:{before})({wanted})(?:{after})$"))
        }
        _ => exec_err!(
            "SQL regular expression may not contain more than two escape-double-quote separators"
        ),
    }
}
