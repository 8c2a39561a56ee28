//! Tests of the wire protocol against a small SQL session: values against PostgreSQL 15's own bytes, the protocol
//! through a real driver, and what no driver does byte by byte.

mod flow;
mod protocol;
mod raw;
mod session;
mod values;
