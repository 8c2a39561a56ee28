//! `floor`, `ceil` and `trunc` with PostgreSQL's types: the whole part of a numeric has no fraction, where DataFusion's
//! functions keep the argument's scale and so print `2.00`.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::functions::math;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    [math::floor(), math::ceil(), math::trunc()]
        .map(|inner| Arc::new(ScalarUDF::from(Whole { inner })))
        .to_vec()
}

/// DataFusion's function, but that of one numeric argument is a numeric without a fraction.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Whole {
    inner: Arc<ScalarUDF>,
}

/// The type without a fraction; none for what is not numeric, or has digits to keep given.
fn whole(arguments: &[DataType]) -> Option<DataType> {
    match arguments {
        [DataType::Decimal128(precision, scale)] if *scale > 0 => {
            // ceil(9.9) has a digit more before the point than 9.9
            let digits = (*precision + 1).saturating_sub(scale.unsigned_abs());
            Some(DataType::Decimal128(digits.clamp(1, 38), 0))
        }
        [DataType::Decimal256(precision, scale)] if *scale > 0 => {
            let digits = (*precision + 1).saturating_sub(scale.unsigned_abs());
            Some(DataType::Decimal256(digits.clamp(1, 76), 0))
        }
        _ => None,
    }
}

impl ScalarUDFImpl for Whole {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match whole(arguments) {
            Some(data_type) => Ok(data_type),
            None => self.inner.return_type(arguments),
        }
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arguments: Vec<DataType> = args.args.iter().map(ColumnarValue::data_type).collect();
        let Some(data_type) = whole(&arguments) else {
            return self.inner.invoke_with_args(args);
        };
        let inner_field = self.inner.return_field_from_args(ReturnFieldArgs {
            arg_fields: &args.arg_fields,
            scalar_arguments: &vec![None; args.arg_fields.len()],
        })?;
        args.return_field = inner_field;
        self.inner.invoke_with_args(args)?.cast_to(&data_type, None)
    }
}
