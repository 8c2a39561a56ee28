//! Tests of the wire protocol against a small SQL session: values against PostgreSQL 15's own bytes, the protocol
//! through a real driver, and what no driver does byte by byte.

mod broken_values;
mod flow;
mod nested_values;
mod pipeline;
mod protocol;
mod raw;
mod raw_client;
mod session;
mod value_check;
mod values;
