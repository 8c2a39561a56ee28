//! Tests of the aggregate operator: a bench that runs it on a store of its own, and the properties it must have.

mod bench;
mod equivalence;
mod scenarios;
