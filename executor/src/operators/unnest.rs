//! Replaces lists by their elements, one output row each.
//!
//! Semantics: `Δout = { r with columns c1…cn replaced by (l1[i], …, ln[i]) · w : r·w ∈ Δin, i < max(len l1, …, len ln) }`. Several
//!   lists go in step; shorter ones are padded with NULL. A row whose lists are all empty or NULL gives no row.
//! State: none.
//! Output: the plan's columns; append-only if the input is; no stream key.
//! Watermark: kept on the columns that are not replaced, and on window starts (the planner's decision).
//! Cost: one gather per column. A delta is put out in parts of about 65,536 rows, however long the lists are.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};

use super::conform::conform;
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::operator::{EpochContext, Operator};
use crate::pieces::most_rows;

/// Output rows after which a delta is cut.
fn output_rows() -> usize {
    most_rows(65_536)
}

/// See the module text.
pub struct Unnest {
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl Unnest {
    /// `columns`: which input columns are lists to be replaced. `schema`: of the output.
    pub fn new(columns: &[usize], schema: SchemaRef) -> Self {
        Unnest {
            columns: columns.to_vec(),
            schema,
        }
    }

    /// The output of the input rows that `elements` has been cut to.
    fn spread(&self, delta: &Delta, lists: &[List], rows: Range<usize>) -> Result<Delta> {
        let mut source = Vec::new();
        let mut elements = vec![Vec::new(); lists.len()];
        for row in rows {
            let longest = lists
                .iter()
                .map(|list| list.range(row).len())
                .max()
                .unwrap_or(0);
            source.extend(std::iter::repeat_n(row as u32, longest));
            for (list, elements) in lists.iter().zip(&mut elements) {
                let range = list.range(row);
                let padding = std::iter::repeat_n(None, longest - range.len());
                elements.extend(range.map(|element| Some(element as u64)).chain(padding));
            }
        }
        let row_count = source.len();
        let source = UInt32Array::from(source);
        let columns = delta.columns().iter().enumerate().map(|(index, column)| {
            match self.columns.iter().position(|&replaced| replaced == index) {
                Some(list) => {
                    let indices = UInt64Array::from(std::mem::take(&mut elements[list]));
                    Ok(take(&lists[list].values, &indices, None)?)
                }
                None => Ok(take(column, &source, None)?),
            }
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let weights = delta.weights().map(|weights| {
            source
                .values()
                .iter()
                .map(|&row| weights.value(row as usize))
        });
        let weights = weights.map(|weights| weights.collect::<Vec<_>>().into());
        Ok(Delta::new(
            conform(&self.schema, columns, row_count)?,
            weights,
        ))
    }
}

impl Operator for Unnest {
    fn name(&self) -> &'static str {
        "Unnest"
    }

    fn push(
        &mut self,
        _port: usize,
        delta: Delta,
        _context: &mut EpochContext,
    ) -> Result<Vec<Delta>> {
        let lists = self
            .columns
            .iter()
            .map(|&column| List::of(&delta.columns()[column]));
        let lists = lists.collect::<Result<Vec<_>>>()?;
        let mut output = Vec::new();
        let (mut start, mut pending) = (0, 0);
        for row in 0..delta.num_rows() {
            pending += lists
                .iter()
                .map(|list| list.range(row).len())
                .max()
                .unwrap_or(0);
            if pending >= output_rows() {
                output.push(self.spread(&delta, &lists, start..row + 1)?);
                (start, pending) = (row + 1, 0);
            }
        }
        if pending > 0 {
            output.push(self.spread(&delta, &lists, start..delta.num_rows())?);
        }
        Ok(output)
    }
}

/// A column of lists: where each lies in the column of all elements.
struct List {
    /// `len + 1` of them, but for NULLs.
    offsets: Vec<usize>,
    nulls: Option<arrow::buffer::NullBuffer>,
    values: ArrayRef,
}

impl List {
    fn of(array: &ArrayRef) -> Result<Self> {
        let (offsets, values) = match array.data_type() {
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                (
                    list.offsets()
                        .iter()
                        .map(|&offset| offset as usize)
                        .collect(),
                    list.values().clone(),
                )
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                (
                    list.offsets()
                        .iter()
                        .map(|&offset| offset as usize)
                        .collect(),
                    list.values().clone(),
                )
            }
            DataType::FixedSizeList(_, size) => {
                let size = *size as usize;
                (
                    (0..=array.len()).map(|row| row * size).collect(),
                    array.as_fixed_size_list().values().clone(),
                )
            }
            other => return Err(ExecutorError::Internal(format!("unnest of {other}"))),
        };
        Ok(List {
            offsets,
            nulls: array.nulls().cloned(),
            values,
        })
    }

    fn range(&self, row: usize) -> Range<usize> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return 0..0;
        }
        self.offsets[row]..self.offsets[row + 1]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int32Array, ListArray, RecordBatch};
    use arrow::datatypes::{Field, Int32Type, Schema};

    use super::*;

    type Lists = Vec<Option<Vec<Option<i32>>>>;

    fn unnest(
        a: Lists,
        b: Lists,
        weights: Option<Vec<i64>>,
    ) -> Vec<(i32, Option<i32>, Option<i32>, i64)> {
        let ids = Int32Array::from_iter_values(0..a.len() as i32);
        let a = ListArray::from_iter_primitive::<Int32Type, _, _>(a);
        let b = ListArray::from_iter_primitive::<Int32Type, _, _>(b);
        let columns: Vec<ArrayRef> = vec![Arc::new(a), Arc::new(ids), Arc::new(b)];
        let names = ["a", "id", "b"];
        let fields = |types: Vec<DataType>| {
            let fields = names
                .iter()
                .zip(types)
                .map(|(name, data_type)| Field::new(*name, data_type, true));
            Arc::new(Schema::new(fields.collect::<Vec<_>>()))
        };
        let input = fields(
            columns
                .iter()
                .map(|column| column.data_type().clone())
                .collect(),
        );
        let batch = RecordBatch::try_new(input, columns).unwrap();
        let mut operator = Unnest::new(&[0, 2], fields(vec![DataType::Int32; 3]));
        let mut context = EpochContext {
            epoch: 1,
            now_us: 0,
            shards: 1,
            held_limit: usize::MAX,
            failures: Vec::new(),
        };
        let output = operator
            .push(0, Delta::new(batch, weights.map(Into::into)), &mut context)
            .unwrap();
        let mut rows = Vec::new();
        for delta in output {
            let column = |index: usize| delta.columns()[index].as_primitive::<Int32Type>().clone();
            let get =
                |array: &Int32Array, row: usize| array.is_valid(row).then(|| array.value(row));
            for row in 0..delta.num_rows() {
                let id = column(1).value(row);
                rows.push((
                    id,
                    get(&column(0), row),
                    get(&column(2), row),
                    delta.weight(row),
                ));
            }
        }
        rows
    }

    #[test]
    fn lists_go_in_step() {
        let rows = unnest(
            vec![
                Some(vec![Some(1), None, Some(3)]),
                None,
                Some(vec![]),
                Some(vec![Some(9)]),
            ],
            vec![
                Some(vec![Some(10)]),
                Some(vec![Some(20)]),
                None,
                Some(vec![]),
            ],
            Some(vec![2, -1, 5, 1]),
        );
        let expected = vec![
            (0, Some(1), Some(10), 2),
            (0, None, None, 2),
            (0, Some(3), None, 2),
            (1, None, Some(20), -1),
            (3, Some(9), None, 1),
        ];
        assert_eq!(rows, expected);
        assert_eq!(unnest(vec![None], vec![None], None), vec![]);
    }

    #[test]
    fn long_output_is_cut() {
        let long: Lists = (0..3)
            .map(|_| Some(vec![Some(1); output_rows() / 2 + 1]))
            .collect();
        let rows = unnest(long.clone(), vec![None; 3], None);
        assert_eq!(rows.len(), 3 * (output_rows() / 2 + 1));
        assert_eq!(rows.last().map(|row| row.0), Some(2));
    }
}
