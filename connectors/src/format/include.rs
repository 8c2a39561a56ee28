//! `INCLUDE` columns: filled from what the broker knows of a message.

use arrow::array::ArrayRef;
use rivermark_planner::catalog::{ColumnDef, Include};

use super::column::{Column, Values};
use crate::message::Message;

/// A column of message metadata under construction.
pub struct IncludeColumn {
    include: Include,
    column: Column,
}

impl IncludeColumn {
    pub fn new(def: &ColumnDef, include: Include) -> Self {
        IncludeColumn {
            include,
            column: Column::new(&def.data_type),
        }
    }

    /// Appends what `message` of `partition` has.
    pub fn push(&mut self, partition: i32, message: &impl Message) {
        match &self.include {
            Include::Key => push_optional(&mut self.column, message.key()),
            Include::Payload => push_optional(&mut self.column, message.payload()),
            Include::Partition => self.column.push_integer(i64::from(partition)),
            Include::Offset => self.column.push_integer(message.offset()),
            Include::Timestamp => match message.timestamp_ms() {
                -1 => self.column.push_null(),
                timestamp_ms => self.column.push_integer(timestamp_ms.saturating_mul(1000)),
            },
            Include::Headers => push_headers(&mut self.column, message),
            Include::Header(name) => {
                let rows = self.column.len();
                let column = &mut self.column;
                message.for_each_header(&mut |header, value| {
                    if header == name.as_bytes() {
                        column.truncate(rows);
                        push_optional(column, value);
                    }
                });
                if column.len() == rows {
                    column.push_null();
                }
            }
        }
    }

    pub fn finish(&mut self) -> ArrayRef {
        self.column.finish()
    }
}

fn push_optional(column: &mut Column, value: Option<&[u8]>) {
    match value {
        Some(value) => column.push_bytes(value),
        None => column.push_null(),
    }
}

/// A list of (name, value); empty for a message without headers.
fn push_headers(column: &mut Column, message: &impl Message) {
    let Values::Array { offsets, element } = &mut column.values else {
        unreachable!("the registry checked the type of INCLUDE header columns")
    };
    message.for_each_header(&mut |name, value| {
        let Values::Struct { fields, .. } = &mut element.values else {
            unreachable!("the registry checked the type of INCLUDE header columns")
        };
        let [name_column, value_column] = fields.as_mut_slice() else {
            unreachable!("a header has a name and a value")
        };
        name_column.push_bytes(name);
        push_optional(value_column, value);
        element.set_valid();
    });
    offsets.push(element.len() as i32);
    column.set_valid();
}
