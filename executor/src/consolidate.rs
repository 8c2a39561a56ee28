//! Consolidation: equal rows of a delta become one, with the sum of their weights; rows that cancel out disappear.
//!
//! Rows are equal if their values are identical: −0.0 is not 0.0, and '1 month' is not '30 days'. That is what is
//! stored and shown, so a change from one to the other is a change.

use std::hash::BuildHasher;

use arrow::array::{Int64Array, UInt32Array};
use arrow::row::{RowConverter, SortField};
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::delta::Delta;
use crate::error::Result;

/// Sums the weights of equal rows and drops those that are 0. The rows that are left keep the order of their first
/// appearance. A delta without negative weights has nothing to cancel and is returned as it is, but for zeros.
pub fn consolidate(delta: Delta) -> Result<Delta> {
    let Some(weights) = delta.weights() else {
        return Ok(delta);
    };
    let weights = weights.values();
    if weights.iter().all(|&weight| weight >= 0) {
        return without_zeros(
            &delta,
            (0..delta.num_rows() as u32).collect(),
            weights.to_vec(),
        );
    }
    if delta.columns().is_empty() {
        let sum: i64 = weights.iter().sum();
        let kept = delta.slice(0, usize::from(sum != 0));
        return Ok(Delta::new(
            kept.batch().clone(),
            if sum == 0 { None } else { compact(vec![sum]) },
        ));
    }
    let fields = delta
        .columns()
        .iter()
        .map(|column| SortField::new(column.data_type().clone()));
    let rows = RowConverter::new(fields.collect())?.convert_columns(delta.columns())?;
    let hasher = DefaultHashBuilder::default();
    // First row of each kind, and its position in `firsts`.
    let mut index: HashTable<u32> = HashTable::with_capacity(delta.num_rows());
    let mut firsts: Vec<u32> = Vec::new();
    let mut sums: Vec<i64> = Vec::new();
    for (row, &weight) in weights.iter().enumerate() {
        let bytes = rows.row(row).data();
        let hash_of =
            |&kind: &u32| hasher.hash_one(rows.row(firsts[kind as usize] as usize).data());
        let is_same = |&kind: &u32| rows.row(firsts[kind as usize] as usize).data() == bytes;
        match index.entry(hasher.hash_one(bytes), is_same, hash_of) {
            Entry::Occupied(found) => sums[*found.get() as usize] += weight,
            Entry::Vacant(vacant) => {
                vacant.insert(firsts.len() as u32);
                firsts.push(row as u32);
                sums.push(weight);
            }
        }
    }
    without_zeros(&delta, firsts, sums)
}

/// The rows at `indices` with the given weights, but for those of weight 0.
fn without_zeros(delta: &Delta, indices: Vec<u32>, weights: Vec<i64>) -> Result<Delta> {
    if indices.len() == delta.num_rows() && !weights.contains(&0) {
        return Ok(Delta::new(delta.batch().clone(), compact(weights)));
    }
    let (indices, weights): (Vec<u32>, Vec<i64>) = indices
        .into_iter()
        .zip(weights)
        .filter(|&(_, weight)| weight != 0)
        .unzip();
    let rows = delta.take(&UInt32Array::from(indices))?;
    Ok(Delta::new(rows.batch().clone(), compact(weights)))
}

fn compact(weights: Vec<i64>) -> Option<Int64Array> {
    if weights.iter().all(|&weight| weight == 1) {
        None
    } else {
        Some(Int64Array::from(weights))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Float64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Float64Type, Schema};

    use super::*;

    fn delta(rows: &[(f64, i64)]) -> Delta {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Float64, true)]));
        let values = Float64Array::from_iter_values(rows.iter().map(|row| row.0));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(values)]).unwrap();
        Delta::new(
            batch,
            Some(rows.iter().map(|row| row.1).collect::<Vec<_>>().into()),
        )
    }

    #[test]
    fn equal_rows_become_one() {
        for (input, expected) in [
            (vec![(1.0, 1), (1.0, -1)], vec![]),
            (
                vec![(1.0, 1), (2.0, -1), (1.0, 2)],
                vec![(1.0, 3), (2.0, -1)],
            ),
            (vec![(1.0, 1), (2.0, 0), (3.0, 2)], vec![(1.0, 1), (3.0, 2)]),
            (vec![(-0.0, 1), (0.0, -1)], vec![(-0.0, 1), (0.0, -1)]),
            (
                vec![(f64::NAN, 1), (f64::NAN, -1), (4.0, 1)],
                vec![(4.0, 1)],
            ),
            (vec![], vec![]),
        ] {
            let output = consolidate(delta(&input)).unwrap();
            let values = output.columns()[0].as_primitive::<Float64Type>().values();
            let rows: Vec<(u64, i64)> = values
                .iter()
                .enumerate()
                .map(|(i, value)| (value.to_bits(), output.weight(i)))
                .collect();
            let expected: Vec<(u64, i64)> = expected
                .iter()
                .map(|&(v, w): &(f64, i64)| (v.to_bits(), w))
                .collect();
            assert_eq!(rows, expected, "{input:?}");
        }
    }

    #[test]
    fn rows_without_columns_are_all_equal() {
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(3));
        let batch =
            RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        let output = consolidate(Delta::new(batch.clone(), Some(vec![1, -2, 1].into()))).unwrap();
        assert_eq!(output.num_rows(), 0);
        let output = consolidate(Delta::new(batch, Some(vec![1, -2, -1].into()))).unwrap();
        assert_eq!((output.num_rows(), output.weight(0)), (1, -2));
    }
}
