//! Functions over the catalog's arrays of numbers: their elements with places, and their subscripts.
//!
//! `rm_expandarray(array)` gives `{x: element, n: place}` for each element, as `information_schema._pg_expandarray`
//! does; `rm_subscripts(array, first)` the numbers `first`, `first + 1`, … of its elements; `rm_oids(array)` the array of
//! numbers as one of oids, which clients such as asyncpg tell from others.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int32Type};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use rivermark_planner::types::PG_TYPE_KEY;

/// All of them.
pub fn functions() -> [ScalarUDF; 3] {
    [Kind::Expanded, Kind::Subscripts, Kind::Oids].map(|kind| {
        ScalarUDF::new_from_impl(OverElements {
            kind,
            signature: Signature::any(
                match kind {
                    Kind::Expanded | Kind::Oids => 1,
                    Kind::Subscripts => 2,
                },
                Volatility::Immutable,
            ),
        })
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Expanded,
    Subscripts,
    Oids,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OverElements {
    kind: Kind,
    signature: Signature,
}

impl Kind {
    fn element(self) -> FieldRef {
        let field = match self {
            Kind::Expanded => Field::new("item", DataType::Struct(pair()), true),
            Kind::Subscripts => Field::new("item", DataType::Int32, true),
            Kind::Oids => oid_field(false).with_name("item"),
        };
        Arc::new(field)
    }
}

/// A value of type `oid`, or an array of them.
pub fn oid_field(is_array: bool) -> Field {
    let oid = Field::new("item", DataType::Int32, true).with_metadata(HashMap::from([(
        PG_TYPE_KEY.to_string(),
        "oid".to_string(),
    )]));
    match is_array {
        true => Field::new("", DataType::List(Arc::new(oid)), true),
        false => oid,
    }
}

fn pair() -> Fields {
    Fields::from(vec![
        Field::new("x", DataType::Int32, true),
        Field::new("n", DataType::Int32, true),
    ])
}

impl ScalarUDFImpl for OverElements {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Expanded => "rm_expandarray",
            Kind::Subscripts => "rm_subscripts",
            Kind::Oids => "rm_oids",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments.first() {
            Some(DataType::List(_) | DataType::Null) => Ok(DataType::List(self.kind.element())),
            _ => plan_err!("{} takes an array, not {arguments:?}", self.name()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = args
            .args
            .iter()
            .map(|argument| argument.to_array(rows))
            .collect::<Result<Vec<_>>>()?;
        let Some(lists) = arrays.first().and_then(|array| array.as_list_opt::<i32>()) else {
            return exec_err!("{} takes an array", self.name());
        };
        let first = match arrays.get(1) {
            Some(first) => cast(first, &DataType::Int32)?
                .as_primitive::<Int32Type>()
                .iter()
                .next()
                .flatten()
                .unwrap_or(1),
            None => 1,
        };
        let mut elements: Vec<ArrayRef> = Vec::with_capacity(rows);
        let mut places = Vec::new();
        let mut lengths = Vec::with_capacity(rows);
        for list in lists.iter() {
            let length = list.as_ref().map_or(0, |list| list.len());
            places.extend((0..length as i32).map(|place| place + first));
            lengths.push(length);
            elements.extend(list);
        }
        let places: ArrayRef = Arc::new(Int32Array::from(places));
        let values: ArrayRef = match self.kind {
            Kind::Subscripts => places,
            Kind::Oids => {
                let elements: Vec<&dyn Array> = elements.iter().map(AsRef::as_ref).collect();
                match elements.as_slice() {
                    [] => Arc::new(Int32Array::from(Vec::<i32>::new())),
                    elements => cast(&arrow::compute::concat(elements)?, &DataType::Int32)?,
                }
            }
            Kind::Expanded => {
                let elements: Vec<&dyn Array> = elements.iter().map(AsRef::as_ref).collect();
                let elements: ArrayRef = match elements.as_slice() {
                    [] => Arc::new(Int32Array::from(Vec::<i32>::new())),
                    elements => cast(&arrow::compute::concat(elements)?, &DataType::Int32)?,
                };
                Arc::new(StructArray::try_new(pair(), vec![elements, places], None)?)
            }
        };
        let offsets = OffsetBuffer::from_lengths(lengths);
        let nulls = lists.nulls().cloned();
        let list = ListArray::try_new(self.kind.element(), offsets, values, nulls)?;
        Ok(ColumnarValue::Array(Arc::new(list)))
    }
}
