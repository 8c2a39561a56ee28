//! The correctness bar of the engine, checked against PostgreSQL: for random tables, changes and queries, a
//! materialized view equals the answer of PostgreSQL to its query after every statement, however the server divides
//! its work and wherever it is restarted. `tests/equivalence.rs` is the test, `./dev fuzz sql` looks for more.

pub mod campaign;
pub mod coverage;
pub mod division;
pub mod minimise;
pub mod run;
pub mod script;
