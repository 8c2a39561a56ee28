//! The fields of a line of COPY, in text and in CSV.

use std::ops::Range;

use rivermark_planner::statement::{CopyFormat, CopyOptions};

use crate::pg_error::PgError;
use crate::sqlstate::SqlState;
use crate::wire::decode_binary::utf8;

/// The characters of a COPY's format.
#[derive(Debug, Clone)]
pub struct Style {
    is_csv: bool,
    delimiter: u8,
    /// What NULL is written as.
    pub null: String,
    quote: u8,
    escape: u8,
}

/// The fields of one line, unescaped.
#[derive(Debug, Default)]
pub struct Fields {
    data: Vec<u8>,
    /// `None`: NULL.
    spans: Vec<Option<Range<usize>>>,
}

impl Fields {
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// A field's text; `None` is NULL.
    pub fn get(&self, index: usize) -> Result<Option<&str>, PgError> {
        match &self.spans[index] {
            Some(span) => utf8(&self.data[span.clone()]).map(Some),
            None => Ok(None),
        }
    }

    fn clear(&mut self) {
        self.data.clear();
        self.spans.clear();
    }
}

impl Style {
    pub fn of(options: &CopyOptions) -> Style {
        let is_csv = options.format == CopyFormat::Csv;
        let (delimiter, null) = if is_csv { (b',', "") } else { (b'\t', "\\N") };
        let quote = options.quote.unwrap_or(b'"');
        Style {
            is_csv,
            delimiter: options.delimiter.unwrap_or(delimiter),
            null: options.null.as_deref().unwrap_or(null).into(),
            quote,
            escape: options.escape.unwrap_or(quote),
        }
    }

    /// Quote and escape character of CSV.
    pub fn csv(&self) -> Option<(u8, u8)> {
        self.is_csv.then_some((self.quote, self.escape))
    }

    /// Cuts a line into `fields`.
    pub fn split(&self, line: &[u8], fields: &mut Fields) -> Result<(), PgError> {
        fields.clear();
        match self.is_csv {
            true => self.split_csv(line, fields),
            false => {
                self.split_text(line, fields);
                Ok(())
            }
        }
    }

    fn split_text(&self, line: &[u8], fields: &mut Fields) {
        let mut at = 0;
        loop {
            let (raw_start, start) = (at, fields.data.len());
            let mut raw_end = line.len();
            loop {
                let plain = line[at..].iter();
                let plain = plain.take_while(|b| **b != self.delimiter && **b != b'\\');
                let plain = plain.count();
                fields.data.extend_from_slice(&line[at..at + plain]);
                at += plain;
                let Some(&byte) = line.get(at) else { break };
                at += 1;
                if byte == self.delimiter {
                    raw_end = at - 1;
                    break;
                }
                if at == line.len() {
                    fields.data.push(byte);
                    break;
                }
                let (value, width) = escaped(&line[at..]);
                fields.data.push(value);
                at += width;
            }
            let is_null = &line[raw_start..raw_end] == self.null.as_bytes();
            let span = start..fields.data.len();
            fields.spans.push((!is_null).then_some(span));
            if raw_end == line.len() {
                return;
            }
        }
    }

    /// Whether a byte of CSV is more than itself.
    fn is_special(&self, byte: u8) -> bool {
        byte == self.delimiter || byte == self.quote || byte == self.escape
    }

    fn split_csv(&self, line: &[u8], fields: &mut Fields) -> Result<(), PgError> {
        let mut at = 0;
        loop {
            let start = fields.data.len();
            let (mut was_quoted, mut is_quoted, mut is_last) = (false, false, true);
            loop {
                let plain = line[at..].iter();
                let plain = plain.take_while(|b| !self.is_special(**b)).count();
                fields.data.extend_from_slice(&line[at..at + plain]);
                at += plain;
                let Some(&byte) = line.get(at) else { break };
                at += 1;
                if is_quoted {
                    let next = line.get(at).copied();
                    let is_pair = byte == self.escape
                        && next.is_some_and(|n| n == self.escape || n == self.quote);
                    match next {
                        Some(next) if is_pair => {
                            fields.data.push(next);
                            at += 1;
                        }
                        _ if byte == self.quote => is_quoted = false,
                        _ => fields.data.push(byte),
                    }
                } else if byte == self.delimiter {
                    is_last = false;
                    break;
                } else if byte == self.quote {
                    was_quoted = true;
                    is_quoted = true;
                } else {
                    fields.data.push(byte);
                }
            }
            if is_quoted {
                return Err(PgError::new(
                    SqlState::BadCopyFileFormat,
                    "unterminated CSV quoted field",
                ));
            }
            let is_null = !was_quoted && &fields.data[start..] == self.null.as_bytes();
            let span = start..fields.data.len();
            fields.spans.push((!is_null).then_some(span));
            if is_last {
                return Ok(());
            }
        }
    }
}

/// What a backslash and the bytes behind it mean, and how many bytes that are; there is at least one.
fn escaped(rest: &[u8]) -> (u8, usize) {
    let digits = |from: usize, most: usize, radix: u32| {
        let digit = |b: &u8| char::from(*b).to_digit(radix);
        let digits = rest[from..].iter().take(most).map_while(digit);
        digits.fold((0u32, 0), |(value, n), digit| {
            (value * radix + digit, n + 1)
        })
    };
    match rest[0] {
        b'b' => (0x08, 1),
        b'f' => (0x0c, 1),
        b'n' => (b'\n', 1),
        b'r' => (b'\r', 1),
        b't' => (b'\t', 1),
        b'v' => (0x0b, 1),
        b'0'..=b'7' => {
            let (value, n) = digits(0, 3, 8);
            ((value & 0xff) as u8, n)
        }
        b'x' => match digits(1, 2, 16) {
            (_, 0) => (b'x', 1),
            (value, n) => (value as u8, n + 1),
        },
        other => (other, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(options: &CopyOptions, line: &str) -> Result<Vec<Option<String>>, String> {
        let mut fields = Fields::default();
        let text = |error: PgError| error.message;
        Style::of(options)
            .split(line.as_bytes(), &mut fields)
            .map_err(text)?;
        let field = |i| fields.get(i).map(|f| f.map(str::to_string)).map_err(text);
        (0..fields.len()).map(field).collect()
    }

    fn check(options: &CopyOptions, line: &str, expected: &[Option<&str>]) {
        let expected = expected.iter().map(|f| f.map(str::to_string)).collect();
        assert_eq!(split(options, line), Ok(expected), "{line:?}");
    }

    #[test]
    fn text_is_unescaped() {
        let text = CopyOptions::default();
        check(&text, "", &[Some("")]);
        check(&text, "a\t\\N\t", &[Some("a"), None, Some("")]);
        check(&text, "\\\\N\t\\N1", &[Some("\\N"), Some("N1")]);
        check(
            &text,
            "\\t\\n\\x41\\x4g\\101\\0601\\q\\",
            &[Some("\t\nA\u{4}gA01q\\")],
        );
        check(&text, "a\\\tb", &[Some("a\tb")]);
        let other = CopyOptions {
            delimiter: Some(b'|'),
            null: Some("nil".into()),
            ..CopyOptions::default()
        };
        check(
            &other,
            "nil|\\nil|a\\|b",
            &[None, Some("\nil"), Some("a|b")],
        );
        assert!(split(&text, "\\xff").is_err());
    }

    #[test]
    fn csv_is_unquoted() {
        let csv = CopyOptions {
            format: CopyFormat::Csv,
            ..CopyOptions::default()
        };
        check(&csv, "a,,\"\"", &[Some("a"), None, Some("")]);
        check(
            &csv,
            "\"a,\"\"b\"c,d\"e\nf\"",
            &[Some("a,\"bc"), Some("de\nf")],
        );
        check(&csv, "\\N", &[Some("\\N")]);
        let other = CopyOptions {
            quote: Some(b'\''),
            escape: Some(b'\\'),
            null: Some("null".into()),
            delimiter: Some(b';'),
            ..csv.clone()
        };
        check(
            &other,
            "'a\\'b\\\\c\\d';null;'null'",
            &[Some("a'b\\c\\d"), None, Some("null")],
        );
        assert_eq!(
            split(&csv, "a,\"b").unwrap_err(),
            "unterminated CSV quoted field"
        );
    }
}
