//! JSON objects to columns.
//!
//! Each message is scanned to its end: syntax, UTF-8, trailing data. Keys that no column names are skipped, of a key
//! that occurs twice the last value wins, a key that is missing is NULL. A value that does not fit its column's type
//! is NULL and an error of that column; a NULL in a NOT NULL column makes the message malformed, whether the column
//! is asked for or not.

use std::str::from_utf8;

use arrow::array::ArrayRef;
use jiter::{Jiter, JiterError, Peek};
use rivermark_planner::types::SqlType;

use super::column::Column;
use keys::KeyGuess;
use timestamp::EpochUnit;
use value::ValueError;

mod jsonb;
pub mod keys;
mod number;
mod text;
mod timestamp;
mod value;

pub use timestamp::EpochUnit as TimestampUnit;

/// A top-level key to decode.
#[derive(Debug, Clone)]
pub struct JsonField {
    pub name: String,
    pub data_type: SqlType,
    pub not_null: bool,
    /// Without: the field is only checked for NULL.
    pub is_requested: bool,
}

/// Decodes objects row by row into columns.
pub struct JsonDecoder {
    keys: KeyGuess,
    fields: Vec<Field>,
    unit: Option<EpochUnit>,
    rows: usize,
    /// Conversion errors of the row last decoded: index of the field and text.
    errors: Vec<(usize, String)>,
    /// jiter's buffer for strings with escapes.
    tape: Vec<u8>,
}

struct Field {
    name: String,
    column: Option<Column>,
    not_null: bool,
    cell: Cell,
}

/// What the row at hand has for a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Missing,
    Null,
    Value,
    /// The value could not be converted; the column holds NULL.
    Failed,
}

impl JsonDecoder {
    /// `unit`: of timestamps given as numbers.
    pub fn new(fields: Vec<JsonField>, unit: Option<EpochUnit>) -> Self {
        let keys = KeyGuess::new(fields.iter().map(|f| f.name.as_str()));
        let fields = fields.into_iter().map(|f| Field {
            column: f.is_requested.then(|| Column::new(&f.data_type)),
            name: f.name,
            not_null: f.not_null,
            cell: Cell::Missing,
        });
        JsonDecoder {
            keys,
            fields: fields.collect(),
            unit,
            rows: 0,
            errors: Vec::new(),
            tape: Vec::new(),
        }
    }

    /// Appends one row from `payload`, or, if that is malformed, nothing.
    pub fn decode(&mut self, payload: &[u8]) -> Result<(), String> {
        self.errors.clear();
        let decoded = self
            .decode_object(payload)
            .and_then(|()| self.complete_row());
        if decoded.is_ok() {
            self.rows += 1;
        } else {
            self.fields
                .iter_mut()
                .filter_map(|f| f.column.as_mut())
                .for_each(|c| c.truncate(self.rows));
        }
        decoded
    }

    /// Conversion errors of the row just decoded, by index of the field.
    pub fn errors(&mut self) -> &mut Vec<(usize, String)> {
        &mut self.errors
    }

    /// The requested columns, in the order of the fields; the decoder is empty afterwards.
    pub fn finish(&mut self) -> Vec<ArrayRef> {
        self.rows = 0;
        self.fields
            .iter_mut()
            .filter_map(|f| f.column.as_mut())
            .map(Column::finish)
            .collect()
    }

    fn decode_object(&mut self, payload: &[u8]) -> Result<(), String> {
        if let Err(e) = from_utf8(payload) {
            return Err(format!("invalid UTF-8 at byte {}", e.valid_up_to()));
        }
        let mut jiter = Jiter::with_tape(payload, std::mem::take(&mut self.tape));
        let decoded = self.read_object(&mut jiter);
        self.tape = jiter.into_tape();
        decoded
    }

    fn read_object(&mut self, jiter: &mut Jiter) -> Result<(), String> {
        let peek = jiter.peek().map_err(syntax)?;
        if peek != Peek::Object {
            jiter.known_skip(peek).map_err(syntax)?;
            return Err(format!(
                "a message must be a JSON object, not {}",
                kind_of(peek)
            ));
        }
        self.fields.iter_mut().for_each(|f| f.cell = Cell::Missing);
        let mut position = 0;
        let mut key = jiter.known_object().map_err(syntax)?;
        while let Some(name) = key {
            let target = self.keys.find(position, name);
            let peek = jiter.peek().map_err(syntax)?;
            match target {
                Some(index) => self.read_field(index, jiter, peek).map_err(syntax)?,
                None => jiter.known_skip(peek).map_err(syntax)?,
            }
            position += 1;
            key = jiter.next_key().map_err(syntax)?;
        }
        jiter.finish().map_err(syntax)
    }

    fn read_field(
        &mut self,
        index: usize,
        jiter: &mut Jiter,
        peek: Peek,
    ) -> Result<(), JiterError> {
        let field = &mut self.fields[index];
        let is_repeated = field.cell != Cell::Missing;
        field.cell = if peek == Peek::Null {
            Cell::Null
        } else {
            Cell::Value
        };
        let Some(column) = &mut field.column else {
            return jiter.known_skip(peek);
        };
        if is_repeated {
            column.truncate(self.rows);
            self.errors.retain(|(i, _)| *i != index);
        }
        match column.read(jiter, peek, self.unit) {
            Ok(()) => Ok(()),
            Err(ValueError::Syntax(error)) => Err(error),
            Err(ValueError::Conversion(error)) => {
                field.cell = Cell::Failed;
                column.truncate(self.rows);
                column.push_null();
                self.errors.push((index, error));
                Ok(())
            }
        }
    }

    /// Missing keys become NULL; NOT NULL is checked.
    fn complete_row(&mut self) -> Result<(), String> {
        for field in &mut self.fields {
            let is_null = match field.cell {
                Cell::Missing => {
                    if let Some(column) = &mut field.column {
                        column.push_null();
                    }
                    true
                }
                Cell::Null => true,
                Cell::Value | Cell::Failed => false,
            };
            if is_null && field.not_null {
                return Err(format!(
                    "null value in column \"{}\" violates not-null constraint",
                    field.name
                ));
            }
        }
        Ok(())
    }
}

/// Microseconds since 1970 of an ISO 8601 text; without a zone it is UTC.
pub fn parse_timestamptz(text: &str) -> Option<i64> {
    timestamp::parse_timestamp(text, false, None, timestamp::Zone::Applied).ok()
}

fn syntax(error: JiterError) -> String {
    format!("malformed JSON: {error}")
}

fn kind_of(peek: Peek) -> &'static str {
    match peek {
        Peek::Null => "null",
        Peek::True | Peek::False => "a boolean",
        Peek::String => "a string",
        Peek::Array => "an array",
        Peek::Object => "an object",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests;
