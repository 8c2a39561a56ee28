//! One JSON value into one column.
//!
//! The rules are PostgreSQL's for text to type: a JSON string or number is taken as the text it is. Into a text column
//! goes a string's content, or any other value's JSON text.

use arrow::datatypes::i256;
use jiter::{Jiter, JiterError, Peek};

use super::super::column::{Bytes, Column, Values};
use super::number::{self, NumberError};
use super::timestamp::{self, EpochUnit};
use super::{jsonb, text};

/// Why a value is not in the column.
#[derive(Debug)]
pub enum ValueError {
    /// The message is malformed.
    Syntax(JiterError),
    /// The value is well formed but not of the column's type; it has been read to its end.
    Conversion(String),
}

impl From<JiterError> for ValueError {
    fn from(error: JiterError) -> Self {
        ValueError::Syntax(error)
    }
}

pub(super) type Result<T, E = ValueError> = std::result::Result<T, E>;

/// A timestamp as text, or as a number where the source has a unit; microseconds since 1970.
fn read_timestamp(
    jiter: &mut Jiter,
    peek: Peek,
    unit: Option<EpochUnit>,
    zone: timestamp::Zone,
) -> Result<i64> {
    let name = match zone {
        timestamp::Zone::Ignored => "timestamp",
        timestamp::Zone::Applied => "timestamp with time zone",
    };
    scalar(jiter, peek, name, |t, is_number| {
        timestamp::parse_timestamp(t, is_number, unit, zone)
    })
}

impl Column {
    /// Reads the value that begins with `peek` and appends it. On an error the column may hold part of a row.
    pub(super) fn read(
        &mut self,
        jiter: &mut Jiter,
        peek: Peek,
        unit: Option<EpochUnit>,
    ) -> Result<()> {
        if peek == Peek::Null {
            jiter.known_null()?;
            self.push_null();
            return Ok(());
        }
        match &mut self.values {
            Values::Boolean(v) => v.append(read_boolean(jiter, peek)?),
            Values::SmallInt(v) => v.push(read_integer(jiter, peek, "smallint")?),
            Values::Integer(v) => v.push(read_integer(jiter, peek, "integer")?),
            Values::BigInt(v) => v.push(read_integer(jiter, peek, "bigint")?),
            Values::Real(v) => v.push(scalar(jiter, peek, "real", |t, _| number::parse_real(t))?),
            Values::Double(v) => v.push(read_double(jiter, peek)?),
            Values::Numeric {
                precision,
                scale,
                values,
            } => {
                let (precision, scale) = (*precision, *scale);
                values.push(scalar(jiter, peek, "numeric", |t, _| {
                    number::parse_numeric(t, precision, scale).map(|digits| digits.to_i128())
                })?);
            }
            Values::WideNumeric {
                precision,
                scale,
                values,
            } => {
                let (precision, scale) = (*precision, *scale);
                values.push(scalar(
                    jiter,
                    peek,
                    "numeric",
                    |t, _| -> Result<i256, NumberError> {
                        number::parse_numeric(t, precision, scale).map(|digits| digits.to_i256())
                    },
                )?);
            }
            Values::Text { max_length, bytes } => read_text(jiter, peek, bytes, *max_length)?,
            Values::Bytea(bytes) => {
                let result = scalar(jiter, peek, "bytea", |t, _| {
                    text::push_bytea(t, &mut bytes.data)
                });
                end_value(bytes, result)?;
            }
            Values::Uuid(bytes) => {
                let result = scalar(jiter, peek, "uuid", |t, _| {
                    text::push_uuid(t, &mut bytes.data)
                });
                end_value(bytes, result)?;
            }
            Values::Date(v) => v.push(scalar(jiter, peek, "date", |t, _| {
                timestamp::parse_date(t)
            })?),
            Values::Time(v) => v.push(scalar(jiter, peek, "time", |t, _| {
                timestamp::parse_time(t)
            })?),
            Values::Timestamp(v) => {
                v.push(read_timestamp(jiter, peek, unit, timestamp::Zone::Ignored)?)
            }
            Values::Timestamptz(v) => {
                v.push(read_timestamp(jiter, peek, unit, timestamp::Zone::Applied)?)
            }
            Values::Interval(v) => v.push(scalar(jiter, peek, "interval", |t, _| {
                text::parse_interval(t)
            })?),
            Values::Json(bytes) => bytes.push(raw(jiter, peek)?),
            Values::Jsonb(bytes) => {
                let json = raw(jiter, peek)?;
                let result = jsonb::push_normalized(json, &mut bytes.data);
                end_value(bytes, result.map_err(ValueError::Conversion))?;
            }
            Values::Array { offsets, element } => {
                read_array(jiter, peek, element, unit)?;
                offsets.push(element.len() as i32);
            }
            Values::Struct { .. } => self.read_struct(jiter, peek, unit)?,
        }
        self.set_valid();
        Ok(())
    }

    fn read_struct(
        &mut self,
        jiter: &mut Jiter,
        peek: Peek,
        unit: Option<EpochUnit>,
    ) -> Result<()> {
        let row = self.len();
        let Values::Struct { keys, fields } = &mut self.values else {
            unreachable!("only called for a struct")
        };
        if peek != Peek::Object {
            return Err(unsuitable(jiter, peek, "struct"));
        }
        // Of a repeated key the last value counts, so does its failure.
        let mut failures: Vec<(usize, String)> = Vec::new();
        let mut position = 0;
        let mut key = jiter.known_object()?;
        while let Some(name) = key {
            let target = keys.find(position, name);
            let peek = jiter.peek()?;
            match target {
                Some(index) => {
                    fields[index].truncate(row);
                    failures.retain(|(failed, _)| *failed != index);
                    if let Err(error) = fields[index].read(jiter, peek, unit) {
                        failures.push((index, conversion(error)?));
                        fields[index].truncate(row);
                        fields[index].push_null();
                    }
                }
                None => jiter.known_skip(peek)?,
            }
            position += 1;
            key = jiter.next_key()?;
        }
        fields
            .iter_mut()
            .filter(|f| f.len() == row)
            .for_each(Column::push_null);
        match failures.pop() {
            Some((_, error)) => Err(ValueError::Conversion(error)),
            None => Ok(()),
        }
    }
}

fn read_array(
    jiter: &mut Jiter,
    peek: Peek,
    element: &mut Column,
    unit: Option<EpochUnit>,
) -> Result<()> {
    if peek != Peek::Array {
        return Err(unsuitable(jiter, peek, "array"));
    }
    let mut failure = None;
    let mut next = jiter.known_array()?;
    while let Some(peek) = next {
        let row = element.len();
        if let Err(error) = element.read(jiter, peek, unit) {
            failure = Some(conversion(error)?);
            element.truncate(row);
        }
        next = jiter.array_step()?;
    }
    failure.map_or(Ok(()), |error| Err(ValueError::Conversion(error)))
}

/// Lets syntax errors through.
fn conversion(error: ValueError) -> Result<String> {
    match error {
        ValueError::Conversion(text) => Ok(text),
        syntax @ ValueError::Syntax(_) => Err(syntax),
    }
}

/// Skips a value of a kind that the type never takes.
fn unsuitable(jiter: &mut Jiter, peek: Peek, type_name: &str) -> ValueError {
    match raw(jiter, peek) {
        Ok(json) => bad_input(type_name, &String::from_utf8_lossy(json)),
        Err(error) => error,
    }
}

/// PostgreSQL's words, with at most 100 characters of the value.
fn bad_input(type_name: &str, value: &str) -> ValueError {
    ValueError::Conversion(format!(
        "invalid input syntax for type {type_name}: \"{}\"",
        excerpt(value)
    ))
}

fn excerpt(value: &str) -> String {
    match value.char_indices().nth(100) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_string(),
    }
}

/// The JSON text of the value.
fn raw<'j>(jiter: &mut Jiter<'j>, peek: Peek) -> Result<&'j [u8]> {
    let start = jiter.current_index();
    jiter.known_skip(peek)?;
    Ok(jiter.slice_to_current(start))
}

/// Reads a value whose text `parse` understands; whether it is a JSON number is the second argument.
fn scalar<T>(
    jiter: &mut Jiter,
    peek: Peek,
    type_name: &str,
    parse: impl FnOnce(&str, bool) -> Result<T, NumberError>,
) -> Result<T> {
    if peek == Peek::String {
        let value = jiter.known_str()?;
        return parse(value, false).map_err(|e| failed(e, type_name, value));
    }
    let value = String::from_utf8_lossy(raw(jiter, peek)?);
    if matches!(peek, Peek::Array | Peek::Object) {
        return Err(bad_input(type_name, &value));
    }
    parse(&value, peek.is_num()).map_err(|e| failed(e, type_name, &value))
}

#[cold]
fn failed(error: NumberError, type_name: &str, value: &str) -> ValueError {
    match error {
        NumberError::Syntax => bad_input(type_name, value),
        NumberError::OutOfRange => ValueError::Conversion(format!(
            "value \"{}\" is out of range for type {type_name}",
            excerpt(value)
        )),
        NumberError::Other(message) => ValueError::Conversion(message),
    }
}

fn read_boolean(jiter: &mut Jiter, peek: Peek) -> Result<bool> {
    match peek {
        Peek::True | Peek::False => Ok(jiter.known_bool(peek)?),
        _ => scalar(jiter, peek, "boolean", |t, _| text::parse_boolean(t)),
    }
}

fn read_integer<T: TryFrom<i64>>(jiter: &mut Jiter, peek: Peek, type_name: &str) -> Result<T> {
    let narrow = |value: i64| T::try_from(value).map_err(|_| NumberError::OutOfRange);
    if peek.is_num() {
        let digits = jiter.known_number_bytes(peek)?;
        let value = number::parse_json_integer(digits).and_then(narrow);
        return value.map_err(|e| failed(e, type_name, &String::from_utf8_lossy(digits)));
    }
    scalar(jiter, peek, type_name, |t, _| {
        number::parse_integer(t).and_then(narrow)
    })
}

fn read_double(jiter: &mut Jiter, peek: Peek) -> Result<f64> {
    if !peek.is_num() {
        return scalar(jiter, peek, "double precision", |t, _| {
            number::parse_double(t)
        });
    }
    let start = jiter.current_index();
    let value = jiter.known_float(peek)?;
    if value.is_infinite() || (value == 0.0 && number::is_nonzero(jiter.slice_to_current(start))) {
        let digits = String::from_utf8_lossy(jiter.slice_to_current(start));
        return Err(failed(NumberError::OutOfRange, "double precision", &digits));
    }
    Ok(value)
}

fn read_text(
    jiter: &mut Jiter,
    peek: Peek,
    bytes: &mut Bytes,
    max_length: Option<u32>,
) -> Result<()> {
    if peek != Peek::String {
        let json = raw(jiter, peek)?;
        let fits = text::fit_length(json, max_length).map_err(ValueError::Conversion)?;
        bytes.push(fits);
        return Ok(());
    }
    let start = jiter.current_index();
    let value = jiter.known_str()?;
    let length = value.len();
    let fits = text::fit_length(value.as_bytes(), max_length).map_err(ValueError::Conversion)?;
    bytes.push(fits);
    // Without escapes (which all shorten) a string has no NUL: JSON forbids the bare character.
    let has_escapes = jiter.current_index() - start != length + 2;
    if has_escapes && bytes.data[bytes.data.len() - length.min(bytes.data.len())..].contains(&0) {
        return Err(ValueError::Conversion(
            "invalid byte sequence for encoding \"UTF8\": 0x00".to_string(),
        ));
    }
    Ok(())
}

/// Ends the value that was appended to `bytes.data`, or takes it back.
fn end_value(bytes: &mut Bytes, result: Result<()>) -> Result<()> {
    match result {
        Ok(()) => bytes.end_value(),
        Err(_) => bytes.abandon_value(),
    }
    result
}
