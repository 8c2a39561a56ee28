//! Functions on arrays that DataFusion lacks or has with other results.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use datafusion::logical_expr::ScalarUDF;

use super::argument::Kind::{AnyArray, Int4};
use super::sql_function::function;
use crate::types::SqlType;

pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let text = SqlType::Text { max_length: None };
    vec![
        function("array_ndims")
            .strict(&[AnyArray], SqlType::Integer, |a| {
                let count = dimensions(&a.array(0)).len() as i64;
                Ok((count > 0).then_some(count).into())
            })
            .udf(),
        function("array_dims")
            .strict(&[AnyArray], text, |a| {
                let shown: String = dimensions(&a.array(0))
                    .iter()
                    .map(|n| format!("[1:{n}]"))
                    .collect();
                Ok((!shown.is_empty()).then_some(shown).into())
            })
            .udf(),
        function("cardinality")
            .strict(&[AnyArray], SqlType::Integer, |a| {
                let lengths = dimensions(&a.array(0));
                let count: usize = lengths.iter().product();
                Ok((if lengths.is_empty() { 0 } else { count as i64 }).into())
            })
            .udf(),
        function("array_upper")
            .strict(&[AnyArray, Int4], SqlType::Integer, |a| {
                let lengths = dimensions(&a.array(0));
                let at = usize::try_from(a.int(1) - 1).ok();
                Ok(at.and_then(|i| lengths.get(i)).map(|n| *n as i64).into())
            })
            .udf(),
        function("array_lower")
            .strict(&[AnyArray, Int4], SqlType::Integer, |a| {
                let lengths = dimensions(&a.array(0));
                let at = usize::try_from(a.int(1) - 1).ok();
                Ok(at.and_then(|i| lengths.get(i)).map(|_| 1i64).into())
            })
            .udf(),
    ]
}

/// The lengths of an array's dimensions; none of an empty one.
pub fn dimensions(elements: &ArrayRef) -> Vec<usize> {
    if elements.is_empty() {
        return Vec::new();
    }
    let mut lengths = vec![elements.len()];
    if let DataType::List(_) = elements.data_type() {
        lengths.extend(dimensions(&elements.as_list::<i32>().value(0)));
    }
    lengths
}
