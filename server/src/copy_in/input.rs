//! From the bytes of a COPY to batches of typed values, with the place in the data that an error tells of.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, StringBuilder};
use bytes::Bytes;
use datafusion::scalar::ScalarValue;
use rivermark_planner::catalog::ColumnDef;
use rivermark_planner::statement::{CopyFormat, CopyHeader, CopyOptions};

use crate::assignment::assign;
use crate::copy_in::binary::Tuples;
use crate::copy_in::fields::{Fields, Style};
use crate::copy_in::lines::Lines;
use crate::pg_error::PgError;
use crate::sqlstate::SqlState;
use crate::wire::decode_binary::{self, utf8};
use crate::wire::pg_types::PgType;
use crate::wire::time_zone::SessionTimeZone;

/// Rows that become one batch.
const BATCH_ROWS: usize = 8192;
/// Longer texts in the context of errors are cut here, as PostgreSQL does.
const SHOWN_BYTES: usize = 100;

/// Rows whose values are not assigned to their columns yet.
pub struct Batch {
    pub columns: Vec<ArrayRef>,
    pub places: Places,
}

/// Where rows stand in the data.
#[derive(Default)]
pub struct Places {
    table: String,
    /// Line numbers.
    pub numbers: Vec<u64>,
    /// The lines one after the other, and where each ends; nothing for binary data.
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Places {
    fn line(&self, row: usize) -> Option<&[u8]> {
        let end = *self.ends.get(row)?;
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(start..end)
    }

    /// Says that the error is about a row.
    pub fn at_row(&self, row: usize, error: PgError) -> PgError {
        let context = format!("COPY {}, line {}", self.table, self.numbers[row]);
        error.with_context(match self.line(row) {
            Some(line) => format!("{context}: \"{}\"", shown(&String::from_utf8_lossy(line))),
            None => context,
        })
    }

    /// Says that the error is about a column of a row.
    pub fn at_value(
        &self,
        row: usize,
        column: &str,
        value: Option<&str>,
        error: PgError,
    ) -> PgError {
        let (table, line) = (&self.table, self.numbers[row]);
        let context = format!("COPY {table}, line {line}, column {column}");
        error.with_context(match value {
            Some(text) => format!("{context}: \"{}\"", shown(text)),
            None if self.ends.is_empty() => context,
            None => format!("{context}: null input"),
        })
    }
}

fn shown(text: &str) -> String {
    match text.len() <= SHOWN_BYTES {
        true => text.to_string(),
        false => format!("{}...", &text[..text.floor_char_boundary(SHOWN_BYTES)]),
    }
}

/// The data of a COPY.
pub struct Input {
    table: String,
    columns: Vec<ColumnDef>,
    form: Form,
    pending: Pending,
    zone: SessionTimeZone,
    /// Comes when the rows before it are through.
    failure: Option<PgError>,
}

enum Form {
    Lines {
        lines: Lines,
        style: Style,
        fields: Fields,
        header: CopyHeader,
        force_not_null: Vec<bool>,
        force_null: Vec<bool>,
    },
    Tuples(Tuples),
}

/// Rows of the next batch.
struct Pending {
    texts: Vec<StringBuilder>,
    values: Vec<Vec<ScalarValue>>,
    places: Places,
}

impl Pending {
    fn new(table: &str, width: usize) -> Pending {
        Pending {
            texts: (0..width).map(|_| StringBuilder::new()).collect(),
            values: vec![Vec::new(); width],
            places: Places {
                table: table.to_string(),
                ..Places::default()
            },
        }
    }
}

impl Input {
    pub fn new(
        options: &CopyOptions,
        table: &str,
        columns: Vec<ColumnDef>,
        force_not_null: Vec<bool>,
        force_null: Vec<bool>,
        zone: SessionTimeZone,
    ) -> Input {
        let form = match options.format {
            CopyFormat::Binary => Form::Tuples(Tuples::default()),
            CopyFormat::Text | CopyFormat::Csv => {
                let style = Style::of(options);
                Form::Lines {
                    lines: Lines::new(style.csv()),
                    style,
                    fields: Fields::default(),
                    header: options.header,
                    force_not_null,
                    force_null,
                }
            }
        };
        Input {
            table: table.to_string(),
            pending: Pending::new(table, columns.len()),
            columns,
            form,
            zone,
            failure: None,
        }
    }

    pub fn push(&mut self, data: &[u8]) {
        match &mut self.form {
            Form::Lines { lines, .. } => lines.push(data),
            Form::Tuples(tuples) => tuples.push(data),
        }
    }

    /// Bytes that are not read yet.
    pub fn waiting(&self) -> usize {
        match &self.form {
            Form::Lines { lines, .. } => lines.waiting(),
            Form::Tuples(tuples) => tuples.waiting(),
        }
    }

    fn at_line(&self, number: u64, error: PgError) -> PgError {
        error.with_context(format!("COPY {}, line {number}", self.table))
    }

    /// Says that the error came up while the line after the last was read.
    pub fn at_next_line(&self, error: PgError) -> PgError {
        let read = match &self.form {
            Form::Lines { lines, .. } => lines.number,
            Form::Tuples(tuples) => tuples.number,
        };
        self.at_line(read + 1, error)
    }

    /// The next rows; `None` if more input is needed, or, with `is_last`, if there are no more. An error comes after
    /// the rows before it.
    pub fn next_batch(&mut self, is_last: bool) -> Result<Option<Batch>, PgError> {
        while self.failure.is_none() && self.pending.places.numbers.len() < BATCH_ROWS {
            let row = match &self.form {
                Form::Lines { .. } => self.next_line(is_last),
                Form::Tuples(_) => self.next_tuple(is_last),
            };
            match row {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => self.failure = Some(error),
            }
        }
        if self.pending.places.numbers.is_empty() {
            return self.failure.take().map_or(Ok(None), Err);
        }
        let pending = Pending::new(&self.table, self.columns.len());
        let Pending {
            texts,
            values,
            places,
        } = std::mem::replace(&mut self.pending, pending);
        let columns = match &self.form {
            Form::Lines { .. } => texts
                .into_iter()
                .map(|mut text| Arc::new(text.finish()) as ArrayRef)
                .collect(),
            Form::Tuples(_) => values
                .into_iter()
                .map(|values| Ok(ScalarValue::iter_to_array(values)?))
                .collect::<Result<_, PgError>>()?,
        };
        Ok(Some(Batch { columns, places }))
    }

    /// Reads a line into the next batch; false if there is none.
    fn next_line(&mut self, is_last: bool) -> Result<bool, PgError> {
        let Form::Lines {
            lines,
            style,
            fields,
            header,
            force_not_null,
            force_null,
        } = &mut self.form
        else {
            return Ok(false);
        };
        loop {
            let next = lines.number + 1;
            let in_line =
                |error: PgError| error.with_context(format!("COPY {}, line {next}", self.table));
            let Some(line) = lines.next_line(is_last).map_err(in_line)? else {
                return Ok(false);
            };
            let number = lines.number;
            let line = lines.bytes(line);
            utf8(line).map_err(in_line)?;
            let places = || Places {
                table: self.table.clone(),
                numbers: vec![number],
                text: line.to_vec(),
                ends: vec![line.len()],
            };
            let of_line = |error: PgError| places().at_row(0, error);
            match std::mem::replace(header, CopyHeader::None) {
                CopyHeader::None => {}
                CopyHeader::Line => continue,
                CopyHeader::Match => {
                    style.split(line, fields).map_err(of_line)?;
                    check_header(fields, &self.columns).map_err(of_line)?;
                    continue;
                }
            }
            style.split(line, fields).map_err(of_line)?;
            if fields.len() > self.columns.len() {
                let message = "extra data after last expected column";
                return Err(of_line(bad_format(message)));
            }
            if let Some(missing) = self.columns.get(fields.len()) {
                let message = format!("missing data for column \"{}\"", missing.name);
                let error = of_line(bad_format(message));
                // Those before it come first.
                let first = first_bad(fields, &self.columns, &self.zone, &places());
                return Err(first.unwrap_or(error));
            }
            for (i, text) in self.pending.texts.iter_mut().enumerate() {
                let value = match fields.get(i).map_err(of_line)? {
                    None if force_not_null[i] => Some(style.null.as_str()),
                    Some(value) if force_null[i] && value == style.null => None,
                    value => value,
                };
                text.append_option(value);
            }
            let pending = &mut self.pending.places;
            pending.numbers.push(number);
            pending.text.extend_from_slice(line);
            pending.ends.push(pending.text.len());
            return Ok(true);
        }
    }

    /// Reads a tuple into the next batch; false if there is none.
    fn next_tuple(&mut self, is_last: bool) -> Result<bool, PgError> {
        let Form::Tuples(tuples) = &mut self.form else {
            return Ok(false);
        };
        let next = tuples.number + 1;
        let in_line =
            |error: PgError| error.with_context(format!("COPY {}, line {next}", self.table));
        let tuple = tuples.next_tuple(self.columns.len(), is_last);
        let Some(tuple) = tuple.map_err(in_line)? else {
            return Ok(false);
        };
        let places = Places {
            table: self.table.clone(),
            numbers: vec![next],
            ..Places::default()
        };
        let values: Vec<ScalarValue> = tuple
            .iter()
            .zip(&self.columns)
            .map(|(bytes, column)| {
                let value = binary_value(bytes.as_ref(), column);
                value.map_err(|error| places.at_value(0, &column.name, None, error))
            })
            .collect::<Result<_, _>>()?;
        for (value, pending) in values.into_iter().zip(&mut self.pending.values) {
            pending.push(value);
        }
        self.pending.places.numbers.push(next);
        Ok(true)
    }
}

/// The error of the first field that is no value of its column.
fn first_bad(
    fields: &Fields,
    columns: &[ColumnDef],
    zone: &SessionTimeZone,
    places: &Places,
) -> Option<PgError> {
    columns
        .iter()
        .take(fields.len())
        .enumerate()
        .find_map(|(i, column)| {
            let text = fields.get(i).ok()?;
            let value: ArrayRef = Arc::new(StringArray::from(vec![text]));
            let error = assign(&value, column, zone).err()?;
            Some(places.at_value(0, &column.name, text, error))
        })
}

fn bad_format(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::BadCopyFileFormat, message)
}

/// A value in PostgreSQL's binary form, in the form that a column of the type is stored in.
fn binary_value(bytes: Option<&Bytes>, column: &ColumnDef) -> Result<ScalarValue, PgError> {
    let field = column.data_type.field("", true);
    let Some(bytes) = bytes else {
        return Ok(ScalarValue::try_from(field.data_type())?);
    };
    let value = decode_binary::parse(&PgType::of_field(&field), bytes)?;
    match value.data_type() == *field.data_type() {
        true => Ok(value),
        false => Ok(value.cast_to(field.data_type())?),
    }
}

/// HEADER match: the first line has the columns' names.
fn check_header(fields: &Fields, columns: &[ColumnDef]) -> Result<(), PgError> {
    if fields.len() != columns.len() {
        return Err(bad_format(format!(
            "wrong number of fields in header line: got {}, expected {}",
            fields.len(),
            columns.len()
        )));
    }
    for (i, column) in columns.iter().enumerate() {
        let at = i + 1;
        let name = &column.name;
        match fields.get(i)? {
            Some(found) if found == name => {}
            Some(found) => {
                return Err(bad_format(format!(
                    "column name mismatch in header line field {at}: got \"{found}\", expected \"{name}\""
                )));
            }
            None => {
                return Err(bad_format(format!(
                    "column name mismatch in header line field {at}: got null value, expected \"{name}\""
                )));
            }
        }
    }
    Ok(())
}

/// The text of a value, if it came as one.
pub fn text_of(column: &ArrayRef, row: usize) -> Option<&str> {
    let texts = column.as_any().downcast_ref::<StringArray>()?;
    texts.is_valid(row).then(|| texts.value(row))
}
