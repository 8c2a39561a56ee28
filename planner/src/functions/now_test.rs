//! Comparisons of the current time with a time of the row, as a view's plan has them while it is optimised.
//!
//! They may be moved like any condition on the rows, but never evaluated: an operator of their own keeps them.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::plan::NowComparison;

/// `now() < time` and the like.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct NowTest {
    comparison: NowComparison,
    signature: Signature,
}

impl NowTest {
    /// The condition that the current time is in such a relation to `time`.
    pub fn call(comparison: NowComparison, time: Expr) -> Expr {
        let test = NowTest {
            comparison,
            signature: Signature::any(1, Volatility::Immutable),
        };
        let function = Arc::new(ScalarUDF::from(test));
        Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![time]))
    }

    /// The comparison that function `name` stands for.
    fn comparison(name: &str) -> Option<NowComparison> {
        NowComparison::ALL
            .into_iter()
            .find(|comparison| name_of(*comparison) == name)
    }

    /// The comparison and the time, if `expr` is such a condition.
    pub fn of(expr: &Expr) -> Option<(NowComparison, &Expr)> {
        match expr {
            Expr::Alias(alias) => NowTest::of(&alias.expr),
            Expr::ScalarFunction(function) => match function.args.as_slice() {
                [time] => NowTest::comparison(function.name()).map(|found| (found, time)),
                _ => None,
            },
            _ => None,
        }
    }
}

fn name_of(comparison: NowComparison) -> &'static str {
    match comparison {
        NowComparison::Before => "rm_now_lt",
        NowComparison::Until => "rm_now_le",
        NowComparison::After => "rm_now_gt",
        NowComparison::From => "rm_now_ge",
    }
}

impl ScalarUDFImpl for NowTest {
    fn name(&self) -> &str {
        name_of(self.comparison)
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Timestamp(..)] => Ok(DataType::Boolean),
            _ => plan_err!("now() is compared with a timestamp, not {arguments:?}"),
        }
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("{} is kept by an operator, not evaluated", self.name())
    }
}
