//! `rm_or_empty(array)`: an empty array for a NULL, which is what `ARRAY(SELECT …)` of no rows is.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

/// See the module.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct OrEmpty {
    signature: Signature,
}

impl Default for OrEmpty {
    fn default() -> Self {
        OrEmpty {
            signature: Signature::any(1, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for OrEmpty {
    fn name(&self) -> &str {
        "rm_or_empty"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [list @ DataType::List(_)] => Ok(list.clone()),
            _ => plan_err!("rm_or_empty takes an array, not {arguments:?}"),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let list = args.arg_fields[0].data_type();
        let list = self.return_type(std::slice::from_ref(list))?;
        Ok(Arc::new(Field::new(self.name(), list, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let lists = args.args[0].to_array(args.number_rows)?;
        if lists.null_count() == 0 {
            return Ok(ColumnarValue::Array(lists));
        }
        let lists = lists.as_list::<i32>();
        let offsets = lists.value_offsets();
        let mut indices = Vec::new();
        let mut lengths = Vec::with_capacity(lists.len());
        for row in 0..lists.len() {
            let range = match lists.is_valid(row) {
                true => offsets[row] as u32..offsets[row + 1] as u32,
                false => 0..0,
            };
            lengths.push(range.len());
            indices.extend(range);
        }
        let DataType::List(item) = lists.data_type() else {
            return plan_err!("rm_or_empty takes an array");
        };
        let values = take(lists.values(), &UInt32Array::from(indices), None)?;
        let filled: ArrayRef = Arc::new(ListArray::try_new(
            Arc::clone(item),
            OffsetBuffer::from_lengths(lengths),
            values,
            None,
        )?);
        Ok(ColumnarValue::Array(filled))
    }
}
