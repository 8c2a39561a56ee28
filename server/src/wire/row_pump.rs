//! Rows from a statement's stream to the client: encoded into the output buffer, with the socket awaited whenever the
//! buffer is full, so that a slow client slows its query and memory stays bounded.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use pgwire::messages::data::{FieldDescription, RowDescription};

use super::encode::{BatchEncoder, Format};
use super::link::{Fault, Link, OUTPUT_HIGH_WATER};
use super::pg_types::PgType;
use super::time_zone::SessionTimeZone;
use crate::pg_error::PgError;
use crate::session_api::RowTag;

/// A running statement's rows; between two Executes of a portal it waits here with its place in the batch.
pub struct RowSource {
    stream: SendableRecordBatchStream,
    pub tag: RowTag,
    formats: Vec<Format>,
    zone: SessionTimeZone,
    current: Option<Position>,
}

struct Position {
    encoder: BatchEncoder,
    rows: usize,
    next: usize,
}

/// How a run of the pump ended, with the rows that it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PumpEnd {
    Complete {
        rows: u64,
    },
    /// The limit was reached; there may be more rows.
    Suspended {
        rows: u64,
    },
}

impl RowSource {
    /// `formats` has one entry per column of the stream's schema.
    pub fn new(
        stream: SendableRecordBatchStream,
        tag: RowTag,
        formats: Vec<Format>,
        zone: SessionTimeZone,
    ) -> RowSource {
        RowSource {
            stream,
            tag,
            formats,
            zone,
            current: None,
        }
    }

    pub fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }

    /// Sends rows until the stream ends or `limit` is reached.
    pub async fn pump(&mut self, link: &mut Link, limit: Option<u64>) -> Result<PumpEnd, Fault> {
        let mut sent = 0;
        loop {
            while let Some(position) = &mut self.current {
                if limit == Some(sent) {
                    return Ok(PumpEnd::Suspended { rows: sent });
                }
                let wanted = limit.map_or(u64::MAX, |limit| limit - sent);
                sent += position.put_rows(link, wanted, &self.zone)?;
                if position.next == position.rows {
                    self.current = None;
                }
                link.relieve().await?;
            }
            if limit == Some(sent) {
                return Ok(PumpEnd::Suspended { rows: sent });
            }
            match link.guard(self.stream.next()).await? {
                None => return Ok(PumpEnd::Complete { rows: sent }),
                Some(batch) => self.begin_batch(&batch.map_err(PgError::from)?)?,
            }
        }
    }

    fn begin_batch(&mut self, batch: &RecordBatch) -> Result<(), PgError> {
        if batch.num_rows() > 0 {
            let encoder = BatchEncoder::new(&self.stream.schema(), batch, &self.formats)?;
            self.current = Some(Position {
                encoder,
                rows: batch.num_rows(),
                next: 0,
            });
        }
        Ok(())
    }
}

impl Position {
    /// Encodes rows until the batch ends, the buffer is full or `wanted` is reached; returns their number.
    fn put_rows(
        &mut self,
        link: &mut Link,
        wanted: u64,
        zone: &SessionTimeZone,
    ) -> Result<u64, PgError> {
        let mut sent = 0;
        while self.next < self.rows && sent < wanted && link.out.len() < OUTPUT_HIGH_WATER {
            self.encoder.put_row(self.next, &mut link.out, zone)?;
            self.next += 1;
            sent += 1;
        }
        Ok(sent)
    }
}

/// The description of a result's columns, in the formats they will be sent in.
pub fn row_description(schema: &SchemaRef, formats: &[Format]) -> RowDescription {
    let fields = schema.fields().iter().enumerate().map(|(i, field)| {
        let pg_type = PgType::of_field(field);
        let format = match formats.get(i) {
            Some(Format::Binary) => 1,
            Some(Format::Text) | None => 0,
        };
        FieldDescription::new(
            field.name().replace('\0', ""),
            0,
            0,
            pg_type.oid(),
            pg_type.size(),
            pg_type.modifier(),
            format,
        )
    });
    RowDescription::new(fields.collect())
}
