//! Text as an interval: `'3 days 04:00:00'::interval` (DataFusion's cast knows words only).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, IntervalMonthDayNanoBuilder};
use arrow::datatypes::{DataType, IntervalUnit};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use crate::interval_text::{NoInterval, parse_interval};

/// `rm_interval(text) -> interval`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct IntervalOfText {
    signature: Signature,
}

impl Default for IntervalOfText {
    fn default() -> Self {
        IntervalOfText {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for IntervalOfText {
    fn name(&self) -> &str {
        "rm_interval"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [DataType::Utf8] => Ok(DataType::Interval(IntervalUnit::MonthDayNano)),
            _ => plan_err!("rm_interval takes a text, not {arguments:?}"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let texts = args.args[0].to_array(1)?;
        let mut intervals = IntervalMonthDayNanoBuilder::with_capacity(texts.len());
        for text in texts.as_string::<i32>() {
            let Some(text) = text else {
                intervals.append_null();
                continue;
            };
            match parse_interval(text) {
                Ok(interval) => intervals.append_value(interval),
                Err(NoInterval::Syntax) => {
                    return exec_err!("invalid input syntax for type interval: \"{text}\"");
                }
                Err(NoInterval::OutOfRange) => {
                    return exec_err!("interval field value out of range: \"{text}\"");
                }
            }
        }
        let intervals: ArrayRef = Arc::new(intervals.finish());
        Ok(match is_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&intervals, 0)?),
            false => ColumnarValue::Array(intervals),
        })
    }
}
