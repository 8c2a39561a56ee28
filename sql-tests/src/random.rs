//! Random tables, changes and queries within what Rivermark keeps up to date, each with the SQL that asks PostgreSQL
//! the same. Values come from small domains, so that duplicates, NULLs and empty groups are common; nothing
//! generated can fail (no division by zero, no overflow) and no answer depends on an order that is not total.

pub mod expression;
pub mod features;
mod first_rows;
mod join;
mod over;
pub mod query;
pub mod table;

use std::collections::BTreeSet;

pub use rand::rngs::StdRng as Random;

/// The type of a column, as far as the generator cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// INT
    Int,
    /// BIGINT
    Big,
    /// DOUBLE PRECISION whose values are multiples of 1/4, so that sums of them are exact.
    Float,
    /// NUMERIC(10,2)
    Numeric,
    /// TEXT
    Text,
    /// BOOLEAN
    Bool,
    /// TIMESTAMP
    Time,
    /// Something that may only be passed on: a float with rounding errors, an array.
    Opaque,
}

/// A column that a query can use.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: Type,
}

/// Parts of SQL that a query exercises; the rows of the coverage table.
pub type Features = BTreeSet<&'static str>;

/// A query, for both servers.
#[derive(Debug, Clone)]
pub struct Query {
    /// For Rivermark.
    pub sql: String,
    /// For PostgreSQL, which has no TUMBLE and HOP.
    pub oracle_sql: String,
    /// What it returns.
    pub columns: Vec<Column>,
    /// What it exercises.
    pub features: Features,
}
