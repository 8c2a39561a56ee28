//! Tests of the join operator: a bench that runs it on a store of its own, the property it must have, and single cases.

mod bench;
mod equivalence;
mod scenarios;
