//! The lines of a COPY in text or CSV, found in pieces of input of any size.
//!
//! As in PostgreSQL, the first line end says how all lines end, a backslash at the end of a line of text continues
//! it, a quoted value of CSV may hold line ends, and `\.` on a line of its own ends the data.

use std::ops::Range;

use crate::pg_error::PgError;
use crate::sqlstate::SqlState;

/// How lines end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    Lf,
    Cr,
    CrLf,
}

/// Input and the place up to which it was cut into lines.
pub struct Lines {
    input: Vec<u8>,
    /// Where the current line starts.
    start: usize,
    /// Where to look on for its end.
    at: usize,
    /// Quote and escape character of CSV.
    csv: Option<(u8, u8)>,
    is_quoted: bool,
    is_escaped: bool,
    end: Option<LineEnd>,
    /// Of the line that was last found; line ends within values count.
    pub number: u64,
    /// Line ends within values of the current line.
    inner: u64,
    is_over: bool,
}

fn bad_format(message: &str) -> PgError {
    PgError::new(SqlState::BadCopyFileFormat, message)
}

impl Lines {
    /// `csv`: quote and escape character.
    pub fn new(csv: Option<(u8, u8)>) -> Lines {
        Lines {
            input: Vec::new(),
            start: 0,
            at: 0,
            csv,
            is_quoted: false,
            is_escaped: false,
            end: None,
            number: 0,
            inner: 0,
            is_over: false,
        }
    }

    /// Adds input.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.is_over {
            return;
        }
        if self.start > 0 {
            self.input.drain(..self.start);
            self.at -= self.start;
            self.start = 0;
        }
        self.input.extend_from_slice(bytes);
    }

    /// Bytes that wait to be cut.
    pub fn waiting(&self) -> usize {
        self.input.len() - self.start
    }

    pub fn bytes(&self, line: Range<usize>) -> &[u8] {
        &self.input[line]
    }

    /// The next line without its end; `None` if more input is needed, or, with `is_last`, if there are no more.
    pub fn next_line(&mut self, is_last: bool) -> Result<Option<Range<usize>>, PgError> {
        while !self.is_over {
            self.skip_plain();
            let Some(&byte) = self.input.get(self.at) else {
                if is_last && self.start < self.input.len() {
                    return Ok(Some(self.found(self.input.len(), 0)));
                }
                return Ok(None);
            };
            let next = self.input.get(self.at + 1).copied();
            let is_marker_place = self.csv.is_none() || self.at == self.start;
            let is_backslash = byte == b'\\' && is_marker_place;
            if !is_last {
                let needs_next = byte == b'\r' || is_backslash;
                let needs_third = is_backslash && next == Some(b'.');
                if (needs_next && next.is_none())
                    || (needs_third && self.input.len() <= self.at + 2)
                {
                    return Ok(None);
                }
            }
            if let Some((quote, escape)) = self.csv {
                self.note_quotes(byte, quote, escape);
            }
            let width = match byte {
                b'\n' | b'\r' if !self.is_quoted => self.end_width(byte, next)?,
                _ => 0,
            };
            if width > 0 {
                return Ok(Some(self.found(self.at, width)));
            }
            if is_backslash && next == Some(b'.') {
                match (self.input.get(self.at + 2), self.csv) {
                    (None | Some(b'\n' | b'\r'), _) => {
                        self.is_over = true;
                        let has_data = self.at > self.start;
                        return Ok(has_data.then(|| self.found(self.at, 0)));
                    }
                    (Some(_), None) => return Err(bad_format("end-of-copy marker corrupt")),
                    (Some(_), Some(_)) => {}
                }
            }
            // The character behind a backslash of text is data.
            self.at += match is_backslash && self.csv.is_none() && next.is_some() {
                true => 2,
                false => 1,
            };
        }
        Ok(None)
    }

    /// Goes on to the next byte that may be more than itself. The first of a line always is: an end marker may begin there.
    fn skip_plain(&mut self) {
        if self.at == self.start {
            return;
        }
        let is_plain = |byte: &u8| match self.csv {
            None => !matches!(*byte, b'\n' | b'\r' | b'\\'),
            Some((quote, escape)) => {
                !matches!(*byte, b'\n' | b'\r') && *byte != quote && *byte != escape
            }
        };
        let rest = self.input.get(self.at..).unwrap_or_default();
        let plain = rest.iter().take_while(|byte| is_plain(byte)).count();
        if plain > 0 {
            // A byte that is neither a quote nor an escape ends what an escape has begun.
            self.is_escaped = false;
            self.at += plain;
        }
    }

    fn note_quotes(&mut self, byte: u8, quote: u8, escape: u8) {
        let is_escape = escape != quote && byte == escape;
        if self.is_quoted && is_escape {
            self.is_escaped = !self.is_escaped;
        }
        if byte == quote && !self.is_escaped {
            self.is_quoted = !self.is_quoted;
        }
        if !is_escape {
            self.is_escaped = false;
        }
        let counted = match self.end {
            Some(LineEnd::Lf) => b'\n',
            // As in PostgreSQL, which does not count before the first line end.
            Some(LineEnd::Cr | LineEnd::CrLf) | None => b'\r',
        };
        if self.is_quoted && byte == counted {
            self.inner += 1;
        }
    }

    /// The bytes of the line end that starts with `byte`.
    fn end_width(&mut self, byte: u8, next: Option<u8>) -> Result<usize, PgError> {
        let is_pair = byte == b'\r' && next == Some(b'\n');
        let end = *self.end.get_or_insert(match byte {
            b'\n' => LineEnd::Lf,
            _ if is_pair => LineEnd::CrLf,
            _ => LineEnd::Cr,
        });
        let is_csv = self.csv.is_some();
        match (end, byte) {
            (LineEnd::Lf, b'\n') | (LineEnd::Cr, b'\r') => Ok(1),
            (LineEnd::CrLf, b'\r') if is_pair => Ok(2),
            (_, b'\r') if is_csv => Err(bad_format("unquoted carriage return found in data")
                .with_hint("Use quoted CSV field to represent carriage return.")),
            (_, b'\r') => Err(bad_format("literal carriage return found in data")
                .with_hint("Use \"\\r\" to represent carriage return.")),
            _ if is_csv => Err(bad_format("unquoted newline found in data")
                .with_hint("Use quoted CSV field to represent newline.")),
            _ => Err(bad_format("literal newline found in data")
                .with_hint("Use \"\\n\" to represent newline.")),
        }
    }

    /// The line up to `end`, with a line end of `width` bytes behind it.
    fn found(&mut self, end: usize, width: usize) -> Range<usize> {
        let line = self.start..end;
        self.start = end + width;
        self.at = self.start;
        self.number += 1 + std::mem::take(&mut self.inner);
        self.is_quoted = false;
        self.is_escaped = false;
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of an input that comes in pieces of `size` bytes, and the last line's number or the error.
    fn lines(csv: Option<(u8, u8)>, text: &str, size: usize) -> (Vec<String>, Result<u64, String>) {
        let mut lines = Lines::new(csv);
        let mut found = Vec::new();
        let chunks = text.as_bytes().chunks(size).map(Some).chain([None]);
        for chunk in chunks {
            lines.push(chunk.unwrap_or_default());
            loop {
                match lines.next_line(chunk.is_none()) {
                    Ok(Some(line)) => {
                        found.push(String::from_utf8_lossy(lines.bytes(line)).into_owned());
                    }
                    Ok(None) => break,
                    Err(error) => return (found, Err(error.message)),
                }
            }
        }
        (found, Ok(lines.number))
    }

    #[test]
    fn lines_are_the_same_however_the_input_is_cut() {
        let csv = Some((b'"', b'"'));
        let escaped = Some((b'"', b'\\'));
        let cases: [(_, &str, &[&str], Result<u64, &str>); 15] = [
            (None, "a\nb\n", &["a", "b"], Ok(2)),
            (None, "a\nb", &["a", "b"], Ok(2)),
            (None, "a\r\n\r\nb\r\n", &["a", "", "b"], Ok(3)),
            (None, "a\rb\r", &["a", "b"], Ok(2)),
            (None, "a\\\nb\nc\n", &["a\\\nb", "c"], Ok(2)),
            (None, "a\\\\\nc\n", &["a\\\\", "c"], Ok(2)),
            (None, "a\n\\.\nrest\n", &["a"], Ok(1)),
            (None, "a\n\\.", &["a"], Ok(1)),
            (None, "a\n\\.x\n", &["a"], Err("end-of-copy marker corrupt")),
            (
                None,
                "a\nb\r\n",
                &["a"],
                Err("literal carriage return found in data"),
            ),
            (
                None,
                "a\r\nb\n",
                &["a"],
                Err("literal newline found in data"),
            ),
            (csv, "\"a\nb\"\"\",1\nc\n", &["\"a\nb\"\"\",1", "c"], Ok(2)),
            (csv, "a\n\\.\nx\n", &["a"], Ok(1)),
            (csv, "\\.x\nb\\.\n", &["\\.x", "b\\."], Ok(2)),
            (
                escaped,
                "\"a\\\"\nb\",1\nc\n",
                &["\"a\\\"\nb\",1", "c"],
                Ok(2),
            ),
        ];
        for (style, text, expected, number) in cases {
            for size in [1, 2, 3, 100] {
                let (found, end) = lines(style, text, size);
                assert_eq!(found, expected, "{text:?} in pieces of {size}");
                assert_eq!(end, number.map_err(str::to_string), "{text:?}");
            }
        }
    }
}
