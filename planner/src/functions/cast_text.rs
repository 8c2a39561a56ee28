//! Casts from and to text: PostgreSQL's input and output functions over columns.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::nearest_float::nearest_floats;
use super::text_form::text_column;
use crate::json;
use crate::pg_text::input::{parse, parse_numeric};
use crate::pg_text::time_zone::SessionTimeZone;
use crate::types::SqlType;

/// `rm_read(text) -> target`: a text, or the scalar in a JSON, as a value of a type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Read {
    target: SqlType,
    /// Of texts without one.
    zone: String,
    signature: Signature,
}

impl Read {
    pub fn udf(target: SqlType, zone: &str) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Read {
            target,
            zone: zone.to_string(),
            signature: Signature::any(1, Volatility::Immutable),
        }))
    }

    fn read_column(&self, texts: &StringArray, is_json: bool) -> Result<ArrayRef> {
        let zone = zone_of(&self.zone)?;
        let null = ScalarValue::try_from(&self.target.arrow())?;
        if texts.is_empty() {
            return Ok(arrow::array::new_empty_array(&self.target.arrow()));
        }
        let scalars = texts.iter().map(|text| match text {
            None => Ok(null.clone()),
            Some(text) if is_json => self.read_json(text, &null),
            Some(text) => Ok(parse(&self.target, text, &zone)?),
        });
        let array = ScalarValue::iter_to_array(scalars.collect::<Result<Vec<_>>>()?)?;
        let wanted = self.target.arrow();
        if *array.data_type() == wanted {
            return Ok(array);
        }
        Ok(arrow::compute::cast(&array, &wanted)?)
    }

    /// `(jsonb)::integer` and its like; other values than numbers and booleans have no cast.
    fn read_json(&self, text: &str, null: &ScalarValue) -> Result<ScalarValue> {
        let kind = json::type_name(text);
        match (&self.target, kind) {
            (SqlType::Json, _) => Ok(ScalarValue::Utf8(Some(text.to_string()))),
            (SqlType::Jsonb, _) => Ok(ScalarValue::Utf8(Some(json::canonical(text)?))),
            (_, "null") => Ok(null.clone()),
            (SqlType::Boolean, "boolean") => Ok(ScalarValue::Boolean(Some(text.trim() == "true"))),
            (
                SqlType::SmallInt
                | SqlType::Integer
                | SqlType::BigInt
                | SqlType::Real
                | SqlType::Double
                | SqlType::Numeric { .. },
                "number",
            ) => {
                let Some(number) = parse_numeric(text) else {
                    return exec_err!("value overflows numeric format");
                };
                let number = if self.target.arrow().is_integer() {
                    number.cast_to(&DataType::Decimal128(38, 0))?
                } else {
                    number
                };
                match number.cast_to(&self.target.arrow()) {
                    Ok(value) => Ok(value),
                    Err(_) => exec_err!("{} out of range", self.target.base_name()),
                }
            }
            _ => exec_err!(
                "cannot cast jsonb {kind} to type {}",
                self.target.base_name()
            ),
        }
    }
}

fn zone_of(name: &str) -> Result<SessionTimeZone> {
    match SessionTimeZone::parse(name) {
        Some(zone) => Ok(zone),
        None => exec_err!("time zone \"{name}\" not recognized"),
    }
}

fn is_json(field: &Field) -> bool {
    matches!(SqlType::of_field(field), SqlType::Json | SqlType::Jsonb)
}

impl ScalarUDFImpl for Read {
    fn name(&self) -> &str {
        "rm_read"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.target.arrow())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.first().is_none_or(|f| f.is_nullable());
        Ok(Arc::new(self.target.field("rm_read", nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (Some(argument), Some(field)) = (args.args.first(), args.arg_fields.first()) else {
            return internal_err!("rm_read takes one argument");
        };
        per_column(argument, |array| {
            let texts = cast(array, &DataType::Utf8)?;
            self.read_column(texts.as_string(), is_json(field))
        })
    }
}

/// `rm_text(value) -> text`: what the type's output function writes.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Written {
    zone: String,
    signature: Signature,
}

impl Written {
    pub fn udf(zone: &str) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Written {
            zone: zone.to_string(),
            signature: Signature::any(1, Volatility::Immutable),
        }))
    }
}

impl ScalarUDFImpl for Written {
    fn name(&self) -> &str {
        "rm_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (Some(argument), Some(field)) = (args.args.first(), args.arg_fields.first()) else {
            return internal_err!("rm_text takes one argument");
        };
        let zone = zone_of(&self.zone)?;
        per_column(argument, |array| {
            let texts = text_column(array, field, &zone)?;
            // alone, a boolean is written out
            Ok(if field.data_type() == &DataType::Boolean {
                let words = texts
                    .iter()
                    .map(|t| t.map(|t| if t == "t" { "true" } else { "false" }));
                Arc::new(words.collect::<StringArray>())
            } else {
                Arc::new(texts)
            })
        })
    }
}

/// `rm_cast_array(array) -> target[]`: element by element, as PostgreSQL casts each.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct CastArray {
    target: SqlType,
    zone: String,
    signature: Signature,
}

impl CastArray {
    /// `target` is the type of the array.
    pub fn udf(target: SqlType, zone: &str) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(CastArray {
            target,
            zone: zone.to_string(),
            signature: Signature::any(1, Volatility::Immutable),
        }))
    }

    fn cast_elements(&self, values: &ArrayRef, item: &Field, target: &SqlType) -> Result<ArrayRef> {
        if let (DataType::List(inner), SqlType::Array(element)) = (values.data_type(), target) {
            return self.cast_lists(values.as_list(), inner, element);
        }
        let wanted = target.arrow();
        let source: ArrayRef = match values.data_type() {
            DataType::Utf8 if wanted != DataType::Utf8 => {
                let read = Read {
                    target: target.clone(),
                    zone: self.zone.clone(),
                    signature: self.signature.clone(),
                };
                return read.read_column(values.as_string(), is_json(item));
            }
            _ if wanted == DataType::Utf8 => {
                return Ok(Arc::new(text_column(values, item, &zone_of(&self.zone)?)?));
            }
            DataType::Float64 if wanted.is_integer() => Arc::new(
                values
                    .as_primitive::<Float64Type>()
                    .unary::<_, Float64Type>(f64::round_ties_even),
            ),
            DataType::Float32 if wanted.is_integer() => Arc::new(
                values
                    .as_primitive::<Float32Type>()
                    .unary::<_, Float32Type>(f32::round_ties_even),
            ),
            decimal if decimal.is_decimal() && wanted.is_floating() => {
                return Ok(nearest_floats(values, &wanted)?);
            }
            DataType::Decimal128(..) if wanted.is_integer() => {
                cast(values, &DataType::Decimal128(38, 0))?
            }
            _ => values.clone(),
        };
        cast(&source, &wanted)
    }

    fn cast_lists(&self, lists: &ListArray, item: &Field, element: &SqlType) -> Result<ArrayRef> {
        let values = self.cast_elements(lists.values(), item, element)?;
        Ok(Arc::new(ListArray::try_new(
            Arc::new(element.field("item", true)),
            lists.offsets().clone(),
            values,
            lists.nulls().cloned(),
        )?))
    }
}

impl ScalarUDFImpl for CastArray {
    fn name(&self) -> &str {
        "rm_cast_array"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(self.target.arrow())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(argument) = args.args.first() else {
            return internal_err!("rm_cast_array takes one argument");
        };
        per_column(argument, |array| {
            match (array.data_type().clone(), &self.target) {
                (DataType::List(item), SqlType::Array(element)) => {
                    self.cast_lists(array.as_list(), &item, element)
                }
                (from, _) => internal_err!("rm_cast_array of {from}"),
            }
        })
    }
}

fn cast(array: &ArrayRef, wanted: &DataType) -> Result<ArrayRef> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    Ok(cast_with_options(array, wanted, &options)?)
}

/// Computes a column of a column; of a constant a constant.
fn per_column(
    argument: &ColumnarValue,
    compute: impl FnOnce(&ArrayRef) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    match argument {
        ColumnarValue::Array(array) => compute(array).map(ColumnarValue::Array),
        ColumnarValue::Scalar(scalar) => {
            let result = compute(&scalar.to_array()?)?;
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &result, 0,
            )?))
        }
    }
}
