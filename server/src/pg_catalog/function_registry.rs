//! Functions computed row by row over arguments of any type.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Int32Builder, Int64Builder, ListBuilder,
    StringBuilder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};

use crate::rows::Cell;

/// One row's arguments.
pub struct Arguments<'a> {
    arrays: &'a [ArrayRef],
    row: usize,
}

impl Arguments<'_> {
    pub fn len(&self) -> usize {
        self.arrays.len()
    }

    /// The argument as text; `None` for NULL.
    pub fn text(&self, index: usize) -> Option<String> {
        let text = cast(self.arrays.get(index)?, &DataType::Utf8).ok()?;
        let text = text.as_string::<i32>();
        (!text.is_null(self.row)).then(|| text.value(self.row).to_string())
    }

    /// The argument as a number; `None` for NULL and for what is no number.
    pub fn int(&self, index: usize) -> Option<i64> {
        let int = cast(self.arrays.get(index)?, &DataType::Int64).ok()?;
        let int = int.as_primitive::<Int64Type>();
        (!int.is_null(self.row)).then(|| int.value(self.row))
    }
}

type Body = dyn Fn(&Arguments) -> Result<Cell> + Send + Sync;

/// A function computed row by row.
struct SystemFunction {
    name: &'static str,
    signature: Signature,
    returns: DataType,
    body: Box<Body>,
    /// Tells one session's function from another's.
    session: i32,
}

impl fmt::Debug for SystemFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemFunction")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl PartialEq for SystemFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.session == other.session
    }
}
impl Eq for SystemFunction {}
impl Hash for SystemFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for SystemFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.returns.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = args
            .args
            .iter()
            .map(|a| a.to_array(args.number_rows))
            .collect::<Result<Vec<_>>>()?;
        let cells = (0..args.number_rows)
            .map(|row| {
                (self.body)(&Arguments {
                    arrays: &arrays,
                    row,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(ColumnarValue::Array(to_array(&self.returns, cells)?))
    }
}

fn to_array(data_type: &DataType, cells: Vec<Cell>) -> Result<ArrayRef> {
    macro_rules! build {
        ($builder:ty, $pattern:pat => $value:expr) => {{
            let mut builder = <$builder>::new();
            for cell in cells {
                match cell {
                    $pattern => builder.append_value($value),
                    _ => builder.append_null(),
                }
            }
            Ok(Arc::new(builder.finish()) as ArrayRef)
        }};
    }
    match data_type {
        DataType::Utf8 => build!(StringBuilder, Cell::Text(text) => text),
        DataType::Boolean => build!(BooleanBuilder, Cell::Bool(value) => value),
        DataType::Int32 => build!(Int32Builder, Cell::Int(value) => value as i32),
        DataType::Int64 => build!(Int64Builder, Cell::Int(value) => value),
        DataType::List(_) => {
            let mut builder = ListBuilder::new(StringBuilder::new());
            for cell in cells {
                match cell {
                    Cell::Texts(texts) => builder.append_value(texts.into_iter().map(Some)),
                    _ => builder.append_null(),
                }
            }
            Ok(Arc::new(builder.finish()))
        }
        other => Err(DataFusionError::Internal(format!(
            "system functions do not return {other}"
        ))),
    }
}

/// The type of functions that give arrays of texts.
pub fn text_array() -> DataType {
    DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)))
}

/// Collects functions that take `arguments` (several counts are allowed) and belong to one session.
pub struct Registry {
    pub session: i32,
    pub functions: Vec<ScalarUDF>,
}

impl Registry {
    pub fn add(
        &mut self,
        name: &'static str,
        arguments: &[usize],
        returns: DataType,
        body: impl Fn(&Arguments) -> Result<Cell> + Send + Sync + 'static,
    ) {
        let count = |n: &usize| {
            if *n == 0 {
                TypeSignature::Nullary
            } else {
                TypeSignature::Any(*n)
            }
        };
        let signature = match arguments {
            [one] => count(one),
            several => TypeSignature::OneOf(several.iter().map(count).collect()),
        };
        // Stable, not immutable: the answer depends on the session. What acts must run each time, and not when planned.
        let volatility = match name {
            "set_config" | "pg_cancel_backend" | "pg_terminate_backend" => Volatility::Volatile,
            _ => Volatility::Stable,
        };
        self.functions
            .push(ScalarUDF::new_from_impl(SystemFunction {
                name,
                signature: Signature::new(signature, volatility),
                returns,
                body: Box::new(body),
                session: self.session,
            }));
    }

    pub fn text(
        &mut self,
        name: &'static str,
        arguments: &[usize],
        body: impl Fn(&Arguments) -> Option<String> + Send + Sync + 'static,
    ) {
        self.add(name, arguments, DataType::Utf8, move |a| Ok(body(a).into()));
    }

    pub fn constant(
        &mut self,
        names: &[&'static str],
        arguments: &[usize],
        returns: DataType,
        value: Cell,
    ) {
        for name in names {
            let value = value.clone();
            self.add(name, arguments, returns.clone(), move |_| Ok(value.clone()));
        }
    }
}
