//! Group keys in canonical form: values that PostgreSQL holds equal become the same value before they are hashed.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type};

use crate::aggregates::has_one_form;
use crate::error::Result;
use crate::state::KeyCodec;

/// How values of one key column become canonical.
pub enum Canonical {
    /// They are.
    AsTheyAre,
    Float32,
    Float64,
    /// By way of the key codec, which decodes to canonical values: intervals, and floats inside of lists.
    Codec(KeyCodec),
}

impl Canonical {
    pub fn of(data_type: &DataType) -> Result<Self> {
        Ok(match data_type {
            DataType::Float32 => Canonical::Float32,
            DataType::Float64 => Canonical::Float64,
            other if has_one_form(other) => Canonical::AsTheyAre,
            other => Canonical::Codec(KeyCodec::new(vec![other.clone()], None)?),
        })
    }

    pub fn apply(&self, column: ArrayRef) -> Result<ArrayRef> {
        Ok(match self {
            Canonical::AsTheyAre => column,
            Canonical::Float32 => floats::<Float32Type>(column, |value| {
                if value.is_nan() {
                    f32::NAN
                } else {
                    value + 0.0
                }
            }),
            Canonical::Float64 => floats::<Float64Type>(column, |value| {
                if value.is_nan() {
                    f64::NAN
                } else {
                    value + 0.0
                }
            }),
            Canonical::Codec(codec) => codec
                .decode(codec.encode(&[column])?.iter())?
                .swap_remove(0),
        })
    }
}

/// Adding 0.0 turns −0.0 into 0.0.
fn floats<T: ArrowPrimitiveType>(
    column: ArrayRef,
    canonical: impl Fn(T::Native) -> T::Native,
) -> ArrayRef {
    let array: &PrimitiveArray<T> = column.as_primitive();
    Arc::new(array.unary::<_, T>(canonical))
}
