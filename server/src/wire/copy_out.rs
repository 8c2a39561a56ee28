//! `COPY ... TO STDOUT` in text, CSV and binary: one CopyData message per row.

use bytes::{BufMut, BytesMut};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use pgwire::messages::copy::{CopyDone, CopyOutResponse};
use rivermark_planner::statement::{CopyFormat, CopyHeader, CopyOptions};

use super::encode::{BatchEncoder, Column, Format, patch_length};
use super::link::{Fault, Link};
use super::time_zone::SessionTimeZone;
use crate::pg_error::PgError;

const BINARY_SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// The characters of a COPY's format.
struct Style<'a> {
    format: CopyFormat,
    delimiter: u8,
    null: &'a [u8],
    quote: u8,
    escape: u8,
}

/// Sends all rows and returns the command tag.
pub async fn copy_out(
    link: &mut Link,
    mut stream: SendableRecordBatchStream,
    options: &CopyOptions,
    zone: &SessionTimeZone,
) -> Result<String, Fault> {
    let schema = stream.schema();
    let columns = schema.fields().len();
    let style = Style {
        format: options.format,
        delimiter: options.delimiter.unwrap_or(match options.format {
            CopyFormat::Csv => b',',
            CopyFormat::Text | CopyFormat::Binary => b'\t',
        }),
        null: options.null.as_deref().map_or(
            match options.format {
                CopyFormat::Csv => b"".as_slice(),
                CopyFormat::Text | CopyFormat::Binary => b"\\N".as_slice(),
            },
            str::as_bytes,
        ),
        quote: options.quote.unwrap_or(b'"'),
        escape: options.escape.or(options.quote).unwrap_or(b'"'),
    };
    let is_binary = options.format == CopyFormat::Binary;
    let code = i16::from(is_binary);
    link.put(&CopyOutResponse::new(
        code as i8,
        columns as i16,
        vec![code; columns],
    ));
    // As in PostgreSQL, the header of a binary copy comes in the message of the first row, or of the trailer.
    let mut header = BytesMut::new();
    if is_binary {
        header.put_slice(BINARY_SIGNATURE);
        header.put_u64(0);
    } else if options.header != CopyHeader::None {
        let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
        put_copy_data(&mut link.out, |out| style.put_header(&names, out))?;
    }
    let formats = vec![
        if is_binary {
            Format::Binary
        } else {
            Format::Text
        };
        columns
    ];
    let mut rows = 0u64;
    while let Some(batch) = link.guard(stream.next()).await? {
        let batch = batch.map_err(PgError::from)?;
        let encoder = BatchEncoder::new(&schema, &batch, &formats)?;
        for row in 0..batch.num_rows() {
            put_copy_data(&mut link.out, |out| {
                out.put_slice(&header.split());
                match is_binary {
                    true => encoder.put_copy_binary(row, out, zone),
                    false => style.put_row(&encoder, row, out, zone),
                }
            })?;
            link.relieve().await?;
        }
        rows += batch.num_rows() as u64;
    }
    if is_binary {
        put_copy_data(&mut link.out, |out| {
            out.put_slice(&header);
            out.put_i16(-1);
            Ok(())
        })?;
    }
    link.put(&CopyDone::new());
    Ok(format!("COPY {rows}"))
}

/// Appends a CopyData message; nothing is left of it after an error.
fn put_copy_data(
    out: &mut BytesMut,
    body: impl FnOnce(&mut BytesMut) -> Result<(), PgError>,
) -> Result<(), PgError> {
    let start = out.len();
    out.put_u8(b'd');
    out.put_i32(0);
    let written = body(out).and_then(|()| patch_length(out, start + 1, out.len() - start - 1));
    if written.is_err() {
        out.truncate(start);
    }
    written
}

impl Style<'_> {
    fn put_header(&self, names: &[&str], out: &mut BytesMut) -> Result<(), PgError> {
        for (i, name) in names.iter().enumerate() {
            if i > 0 {
                out.put_u8(self.delimiter);
            }
            let start = out.len();
            out.put_slice(name.as_bytes());
            self.escape(out, start, names.len() == 1);
        }
        out.put_u8(b'\n');
        Ok(())
    }

    fn put_row(
        &self,
        encoder: &BatchEncoder,
        row: usize,
        out: &mut BytesMut,
        zone: &SessionTimeZone,
    ) -> Result<(), PgError> {
        let is_single = encoder.columns().count() == 1;
        for (i, column) in encoder.columns().enumerate() {
            if i > 0 {
                out.put_u8(self.delimiter);
            }
            self.put_value(column, row, is_single, out, zone)?;
        }
        out.put_u8(b'\n');
        Ok(())
    }

    fn put_value(
        &self,
        column: &Column,
        row: usize,
        is_single: bool,
        out: &mut BytesMut,
        zone: &SessionTimeZone,
    ) -> Result<(), PgError> {
        if column.is_null(row) {
            out.put_slice(self.null);
            return Ok(());
        }
        let start = out.len();
        column.put_text(row, out, zone)?;
        self.escape(out, start, is_single);
        Ok(())
    }

    /// Escapes or quotes what was written since `start`.
    fn escape(&self, out: &mut BytesMut, start: usize, is_single: bool) {
        let value = &out[start..];
        let needs_care = match self.format {
            CopyFormat::Csv => {
                value == self.null
                    || (is_single && value == b"\\.")
                    || value
                        .iter()
                        .any(|b| [self.delimiter, self.quote, b'\n', b'\r'].contains(b))
            }
            CopyFormat::Text | CopyFormat::Binary => value
                .iter()
                .any(|b| *b == self.delimiter || *b == b'\\' || (8..=13).contains(b)),
        };
        if !needs_care {
            return;
        }
        let value = out.split_off(start);
        if self.format == CopyFormat::Csv {
            out.put_u8(self.quote);
            for byte in value {
                if byte == self.quote || byte == self.escape {
                    out.put_u8(self.escape);
                }
                out.put_u8(byte);
            }
            out.put_u8(self.quote);
            return;
        }
        for byte in value {
            let escaped = match byte {
                0x08 => b'b',
                0x09 => b't',
                0x0a => b'n',
                0x0b => b'v',
                0x0c => b'f',
                0x0d => b'r',
                b'\\' => b'\\',
                other if other == self.delimiter => other,
                other => {
                    out.put_u8(other);
                    continue;
                }
            };
            out.put_slice(&[b'\\', escaped]);
        }
    }
}
