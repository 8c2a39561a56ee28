//! Functions of DataFusion's whose arguments may be text literals: beside a time, `'2026-01-01'` is a time, and so is it in
//! `coalesce(ts, '2026-01-01')` and `generate_series(ts, '2026-01-01', '1 hour')`.
//!
//! DataFusion looks for a signature with a text in it and finds none. Here texts take the type of the first argument
//! that is none, and a step of a series of times is an interval; the casts that coercion then writes are PostgreSQL's.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit};
use datafusion::common::Result;
use datafusion::functions::core::coalesce;
use datafusion::functions_nested::range::gen_series_udf;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// See the module.
#[derive(Debug)]
pub struct LiteralArguments {
    inner: Arc<ScalarUDF>,
    signature: Signature,
    /// Whether the third argument is what is added to the first.
    has_step: bool,
}

impl PartialEq for LiteralArguments {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for LiteralArguments {}

impl Hash for LiteralArguments {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

/// The functions that this is for.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    [(coalesce(), false), (gen_series_udf(), true)]
        .map(|(inner, has_step)| {
            let signature = Signature::user_defined(inner.signature().volatility);
            Arc::new(ScalarUDF::from(LiteralArguments {
                inner,
                signature,
                has_step,
            }))
        })
        .to_vec()
}

fn is_time(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Timestamp(..) | DataType::Date32 | DataType::Time64(_)
    )
}

impl LiteralArguments {
    /// The types with texts replaced; `None` if there is no time among them.
    fn without_texts(&self, types: &[DataType]) -> Option<Vec<DataType>> {
        let time = types.iter().find(|t| is_time(t))?;
        let typed = types.iter().enumerate().map(|(i, data_type)| {
            match (data_type, self.has_step && i == 2) {
                (DataType::Utf8, true) => DataType::Interval(IntervalUnit::MonthDayNano),
                (DataType::Utf8, false) => time.clone(),
                (other, _) => other.clone(),
            }
        });
        Some(typed.collect())
    }
}

impl ScalarUDFImpl for LiteralArguments {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let types = self.without_texts(types).unwrap_or_else(|| types.to_vec());
        let fields: Vec<FieldRef> = types
            .into_iter()
            .map(|data_type| Arc::new(Field::new("", data_type, true)))
            .collect();
        let fields = fields_with_udf(&fields, self.inner.as_ref())?;
        Ok(fields.iter().map(|f| f.data_type().clone()).collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn conditional_arguments<'a>(
        &self,
        args: &'a [Expr],
    ) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.inner.conditional_arguments(args)
    }

    fn short_circuits(&self) -> bool {
        self.inner.short_circuits()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.inner.invoke_with_args(args)
    }
}
