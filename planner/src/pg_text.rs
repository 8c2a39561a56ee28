//! PostgreSQL's text forms of values, in and out: what the wire, casts and functions share.

pub mod array_input;
pub mod calendar;
pub mod column_input;
pub mod datetime_input;
mod float_digits;
pub mod input;
pub mod interval_input;
mod iso_datetime;
pub mod output;
pub mod time_zone;

use datafusion::common::DataFusionError;
use thiserror::Error;

/// A text that is no value of a type, or an argument that a function does not take, in PostgreSQL's words. The server
/// tells the SQLSTATE by the words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ValueError(pub String);

impl ValueError {
    /// `text` is not of the form that `type_name` asks for.
    pub fn syntax(type_name: &str, text: &str) -> ValueError {
        ValueError(format!(
            "invalid input syntax for type {type_name}: \"{text}\""
        ))
    }

    /// The form is right, but the value does not exist.
    pub fn out_of_range(type_name: &str, text: &str) -> ValueError {
        ValueError(format!(
            "value \"{text}\" is out of range for type {type_name}"
        ))
    }
}

impl From<ValueError> for DataFusionError {
    fn from(error: ValueError) -> DataFusionError {
        DataFusionError::Execution(error.0)
    }
}
