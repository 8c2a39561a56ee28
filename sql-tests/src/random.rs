//! Random tables, changes and queries within what Rivermark keeps up to date, each with the SQL that asks PostgreSQL
//! the same. Values come from small domains, so that duplicates, NULLs and empty groups are common; nothing
//! generated can fail (no division by zero, no overflow) and no answer depends on an order that is not total.

mod aggregate;
pub mod change;
pub mod expression;
pub mod features;
mod first_rows;
mod functions;
mod join;
mod join_tree;
mod over;
pub mod query;
mod subquery;
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
    /// REAL whose values are multiples of 1/4.
    Real,
    /// DATE
    Date,
    /// TIMESTAMPTZ
    Zoned,
    /// INTERVAL of less than a day, so that equal ones look alike.
    Span,
    /// UUID
    Uuid,
    /// BYTEA
    Bytes,
    /// INT[]
    Ints,
    /// JSONB
    Json,
    /// Something that may only be passed on: a float with rounding errors, an array.
    Opaque,
}

impl Type {
    /// Those that have an order, and are equal only if they look alike.
    pub const ORDERED: [Type; 12] = [
        Type::Int,
        Type::Big,
        Type::Float,
        Type::Numeric,
        Type::Text,
        Type::Time,
        Type::Real,
        Type::Date,
        Type::Zoned,
        Type::Span,
        Type::Uuid,
        Type::Bytes,
    ];
    /// Those of which there are minima and maxima in PostgreSQL 15.
    pub const WITH_EXTREMES: [Type; 10] = [
        Type::Int,
        Type::Big,
        Type::Float,
        Type::Numeric,
        Type::Text,
        Type::Time,
        Type::Real,
        Type::Date,
        Type::Zoned,
        Type::Span,
    ];
    /// Those that can be summed without an error that depends on the order.
    pub const NUMBERS: [Type; 4] = [Type::Int, Type::Big, Type::Float, Type::Numeric];
    /// Whole numbers.
    pub const INTEGERS: [Type; 2] = [Type::Int, Type::Big];

    /// Whether it has an order.
    pub fn is_ordered(self) -> bool {
        Type::ORDERED.contains(&self)
    }

    /// Types of columns that a column of this type can be compared with.
    pub fn comparable(self) -> Vec<Type> {
        match self {
            Type::Int | Type::Big => Type::INTEGERS.to_vec(),
            other => vec![other],
        }
    }
}

/// A column that a query can use.
#[derive(Debug, Clone)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: Type,
}

impl Column {
    /// A column.
    pub fn new(name: impl Into<String>, ty: Type) -> Column {
        Column {
            name: name.into(),
            ty,
        }
    }
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
