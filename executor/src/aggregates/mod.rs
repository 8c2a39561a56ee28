//! Aggregate functions as states that take weighted rows, merge, and can be stored; one file per family.
//!
//! `call.rs` says which function is maintained how. `states.rs` is the protocol between the aggregate operator and
//! the families.

mod bits;
mod boolean;
mod call;
mod collection;
mod count;
mod distinct_sketch;
mod dyadic;
mod encoding;
mod entry;
mod exact_sum;
mod extreme;
mod moments;
mod ordered_int;
mod outcome;
mod quantile_sketch;
mod replay;
mod states;
mod sum;

pub(crate) use call::{Call, CallKind, Pick};
pub(crate) use collection::{EpochEntries, Transitions};
pub(crate) use encoding::{Reader, damaged, put_signed};
pub(crate) use entry::has_one_form;
pub(crate) use outcome::{Outcome, OutcomeStates};
pub(crate) use states::{Accumulate, GroupStates, GroupedRows, Output};
