//! `rm_steps(first, last, width)`: `first` and the times that follow it `width` microseconds apart, up to `last`, as a list.
//! What GAP_FILL fills in.

use std::sync::Arc;

use arrow::array::{Array, AsArray, ListArray, TimestampMicrosecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

/// So many times are given at most, for one row: more are a mistake in the width or in a device's clock.
const MOST_STEPS: i64 = 10_000_000;

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Steps {
    signature: Signature,
}

impl Default for Steps {
    fn default() -> Self {
        Steps {
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Steps {
    fn name(&self) -> &str {
        "rm_steps"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [DataType::Timestamp(_, zone), _, _] = arguments else {
            return plan_err!(
                "GAP_FILL needs a column of type timestamp or timestamp with time zone; cast a date with ::timestamp"
            );
        };
        let zone = zone.as_ref().map(|_| "UTC".into());
        let time = DataType::Timestamp(TimeUnit::Microsecond, zone);
        Ok(vec![time.clone(), time, DataType::Int64])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let item = Field::new("item", arguments[0].clone(), true);
        Ok(DataType::List(Arc::new(item)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let firsts = args.args[0].to_array(args.number_rows)?;
        let lasts = args.args[1].to_array(args.number_rows)?;
        let width = args.args[2].to_array(1)?;
        let width = width.as_primitive::<Int64Type>().value(0);
        let firsts = firsts.as_primitive::<TimestampMicrosecondType>();
        let lasts = lasts.as_primitive::<TimestampMicrosecondType>();
        let mut times = Vec::new();
        let mut lengths = Vec::with_capacity(firsts.len());
        for (first, last) in firsts.iter().zip(lasts.iter()) {
            let before = times.len();
            if let (Some(first), Some(last)) = (first, last) {
                let steps = (i128::from(last) - i128::from(first)) / i128::from(width);
                if steps > i128::from(MOST_STEPS) {
                    return exec_err!("GAP_FILL would give more than {MOST_STEPS} times");
                }
                times.extend((0..=steps as i64).map(|step| first + step * width));
            }
            lengths.push(times.len() - before);
        }
        let item = Field::new("item", firsts.data_type().clone(), true);
        let times = TimestampMicrosecondArray::from(times).with_timezone_opt(firsts.timezone());
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(
            Arc::new(item),
            OffsetBuffer::from_lengths(lengths),
            Arc::new(times),
            None,
        )?)))
    }
}
