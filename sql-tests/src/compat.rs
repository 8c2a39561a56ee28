//! What PostgreSQL's clients send, as it was captured: files of statements with their names and parameters.

use std::path::{Path, PathBuf};

use crate::{in_ci, repository};

/// One statement of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// The client and what it was doing.
    pub name: String,
    pub sql: String,
    /// Values of `$1`, `$2`, …, as text; NULL where none was captured.
    pub parameters: Vec<Option<String>>,
    /// The client copes with an error.
    pub may_fail: bool,
}

/// The directory of the captured files, or `None` after a line that says what is skipped.
pub fn directory() -> Option<PathBuf> {
    let shared = std::env::var("RIVERMARK_SHARED")
        .map_or_else(|_| repository().join("../shared"), PathBuf::from);
    let compat = shared.join("compat");
    if compat.is_dir() {
        return Some(compat);
    }
    println!(
        "skipped: no captured statements at {} (set RIVERMARK_SHARED)",
        compat.display()
    );
    assert!(!in_ci(), "in CI the captured statements must be there");
    None
}

/// The statements of a file, in order.
///
/// # Panics
/// If it cannot be read.
pub fn read(path: &Path) -> Vec<Captured> {
    let text = std::fs::read_to_string(path).expect("a readable file");
    parse(&text)
}

/// `-- @cmd NAME` begins a statement; other comments at a line's start are ours, but for those that say something
/// about it.
fn parse(text: &str) -> Vec<Captured> {
    let mut statements: Vec<Captured> = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("-- @cmd ") {
            statements.push(Captured {
                name: name.trim().to_string(),
                sql: String::new(),
                parameters: Vec::new(),
                may_fail: false,
            });
            is_inside = true;
            continue;
        }
        let Some(current) = statements.last_mut().filter(|_| is_inside) else {
            continue;
        };
        if line.starts_with("-- @group") || line.starts_with("-- ##") || line.starts_with("-- ==") {
            is_inside = false;
        } else if let Some(values) = line.strip_prefix("-- parameters: ") {
            current.parameters = parameters(values);
        } else if line.starts_with("-- may fail") {
            current.may_fail = true;
        } else if !line.starts_with("-- ") {
            current.sql.push_str(line);
            current.sql.push('\n');
        }
    }
    for statement in &mut statements {
        let sql = statement.sql.trim().trim_end_matches(';').trim();
        statement.sql = sql.to_string();
        let count = placeholders(&statement.sql);
        statement
            .parameters
            .resize(count.max(statement.parameters.len()), None);
    }
    statements.retain(|statement| !statement.sql.is_empty());
    statements
}

/// `$1 = 'a', $2 = NULL`, quotes doubled within.
fn parameters(text: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    let mut rest = text;
    while let Some((_, value)) = rest.split_once(" = ") {
        if let Some(after) = value.strip_prefix("NULL") {
            values.push(None);
            rest = after;
            continue;
        }
        let mut unquoted = String::new();
        let mut characters = value
            .strip_prefix('\'')
            .unwrap_or(value)
            .char_indices()
            .peekable();
        let mut end = value.len();
        while let Some((at, c)) = characters.next() {
            if c != '\'' {
                unquoted.push(c);
            } else if characters.next_if(|(_, next)| *next == '\'').is_some() {
                unquoted.push('\'');
            } else {
                end = at + 2;
                break;
            }
        }
        values.push(Some(unquoted));
        rest = value.get(end..).unwrap_or("");
    }
    values
}

/// The greatest number of a `$n` outside of quotes.
fn placeholders(sql: &str) -> usize {
    let mut greatest = 0;
    for (i, part) in sql.split('\'').enumerate() {
        if i % 2 == 1 {
            continue;
        }
        for rest in part.split('$').skip(1) {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            greatest = greatest.max(digits.parse().unwrap_or(0));
        }
    }
    greatest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_come_with_their_parameters() {
        let text = "-- about the file\n-- @group g\n-- @cmd a [execute x]\nselect $1,\n\t'$9';\n\
                    -- parameters: $1 = 'it''s', $2 = NULL, $3 = '{1,2}'\n-- @cmd b\n-- may fail\nselect $2;\n-- ##### end\nnothing\n";
        let captured = parse(text);
        assert_eq!(captured.len(), 2);
        assert_eq!(captured[0].sql, "select $1,\n\t'$9'");
        let texts = [Some("it's".to_string()), None, Some("{1,2}".to_string())];
        assert_eq!(captured[0].parameters, texts);
        assert!(captured[1].may_fail && !captured[0].may_fail);
        assert_eq!(captured[1].parameters, [None, None]);
    }
}
