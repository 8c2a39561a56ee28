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
use keys::{KeyGuess, LeadIns};
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
    lead_ins: LeadIns,
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
            lead_ins: LeadIns::default(),
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
        let (kind, start) = self.parse(payload, 0, |_, jiter| jiter.peek())?;
        if kind != Peek::Object {
            self.parse(payload, start, |_, jiter| jiter.known_skip(kind))?;
            return Err(format!(
                "a message must be a JSON object, not {}",
                kind_of(kind)
            ));
        }
        self.fields.iter_mut().for_each(|f| f.cell = Cell::Missing);
        let mut at = start + 1;
        let mut position = 0;
        while let Some((value, field)) = self.next_key(payload, at, position)? {
            at = self
                .parse(payload, value, |decoder, jiter| {
                    let peek = jiter.peek()?;
                    match field {
                        Some(field) => decoder.read_field(field, jiter, peek),
                        None => jiter.known_skip(peek),
                    }
                })?
                .1;
            position += 1;
        }
        Ok(())
    }

    /// The place of the next value and the field that takes it; `at` is behind the object's brace or the value
    /// before. At the object's end: `None`, and nothing comes after it.
    fn next_key(
        &mut self,
        payload: &[u8],
        at: usize,
        position: usize,
    ) -> Result<Option<(usize, Option<usize>)>, String> {
        if let Some((length, field)) = self.lead_ins.guess(position, &payload[at..]) {
            return Ok(Some((at + length, field)));
        }
        // jiter wants to see the brace before a first key.
        let from = if position == 0 { at - 1 } else { at };
        let (field, end) = self.parse(payload, from, |decoder, jiter| {
            let key = if position == 0 {
                jiter.known_object()?
            } else {
                jiter.next_key()?
            };
            match key {
                Some(key) => {
                    let field = decoder.keys.find(position, key);
                    jiter.peek()?;
                    Ok(Some(field))
                }
                None => jiter.finish().map(|()| None),
            }
        })?;
        let Some(field) = field else { return Ok(None) };
        self.lead_ins.learn(position, &payload[at..end], field);
        Ok(Some((end, field)))
    }

    /// Parses a piece of the payload from `start` on; with its result comes the place behind it.
    #[inline]
    fn parse<T>(
        &mut self,
        payload: &[u8],
        start: usize,
        piece: impl FnOnce(&mut Self, &mut Jiter) -> Result<T, JiterError>,
    ) -> Result<(T, usize), String> {
        let mut jiter = Jiter::with_tape(&payload[start..], std::mem::take(&mut self.tape));
        let parsed = piece(self, &mut jiter);
        let end = start + jiter.current_index();
        self.tape = jiter.into_tape();
        match parsed {
            Ok(parsed) => Ok((parsed, end)),
            Err(error) => Err(syntax(&error, start)),
        }
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

/// `start`: where the parsed piece is in the payload.
#[cold]
fn syntax(error: &JiterError, start: usize) -> String {
    format!(
        "malformed JSON: {} at byte {}",
        error.error_type,
        start + error.index
    )
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
