//! Evaluation of expressions over a batch, with rows that fail taken out one by one.
//!
//! Only a pure per-row expression may drop a row inside a view. When a batch fails, it is halved until the rows at
//! fault stand alone; these are reported as [`Failure`]s with their weight, so that a retraction of the row, which
//! fails in the same way, clears the letter. A batch without failures costs nothing more than its evaluation.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, new_empty_array};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Fields};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::physical_plan::PhysicalExpr;

use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::operator::Failure;
use crate::state::RowCodec;

/// Evaluates for one operator; knows how to name the rows that fail.
#[derive(Debug, Clone, Copy)]
pub struct Evaluator {
    operator_id: u32,
}

/// A run of rows without failures, and what was computed for them.
type Piece = (Delta, Vec<ArrayRef>);

impl Evaluator {
    /// `operator_id` tells operators of a view apart in the keys of failures.
    pub fn new(operator_id: u32) -> Self {
        Evaluator { operator_id }
    }

    /// One column per expression for the rows that do not fail, and these rows.
    pub fn evaluate(
        &self,
        exprs: &[Arc<dyn PhysicalExpr>],
        delta: Delta,
        failures: &mut Vec<Failure>,
    ) -> Result<(Delta, Vec<ArrayRef>)> {
        self.evaluate_with(&|batch| evaluate_all(exprs, batch), delta, failures)
    }

    /// As [`Self::evaluate`], with any pure per-row computation, which must give the same number of columns of the
    /// same types for any batch.
    pub fn evaluate_with(
        &self,
        compute: &dyn Fn(&RecordBatch) -> Result<Vec<ArrayRef>>,
        delta: Delta,
        failures: &mut Vec<Failure>,
    ) -> Result<(Delta, Vec<ArrayRef>)> {
        match compute(delta.batch()) {
            Ok(columns) => Ok((delta, columns)),
            Err(ExecutorError::Evaluation(error)) => {
                let mut pieces = Vec::new();
                self.bisect(compute, &delta, error, &mut pieces, failures)?;
                if pieces.is_empty() {
                    // Of no rows at all: gives the columns their types.
                    let none = delta.slice(0, 0);
                    let columns = compute(none.batch())?;
                    pieces.push((none, columns));
                }
                join(&delta, pieces)
            }
            Err(other) => Err(other),
        }
    }

    /// `delta` failed with `error`: finds out which rows of it are at fault.
    fn bisect(
        &self,
        compute: &dyn Fn(&RecordBatch) -> Result<Vec<ArrayRef>>,
        delta: &Delta,
        error: String,
        pieces: &mut Vec<Piece>,
        failures: &mut Vec<Failure>,
    ) -> Result<()> {
        let count = delta.num_rows();
        if count <= 1 {
            if count == 1 {
                failures.push(self.failure(delta, error)?);
            }
            return Ok(());
        }
        for half in [
            delta.slice(0, count / 2),
            delta.slice(count / 2, count - count / 2),
        ] {
            match compute(half.batch()) {
                Ok(columns) => pieces.push((half, columns)),
                Err(ExecutorError::Evaluation(error)) => {
                    self.bisect(compute, &half, error, pieces, failures)?
                }
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    /// The failure of the only row of `delta`.
    fn failure(&self, delta: &Delta, error: String) -> Result<Failure> {
        let types = delta
            .columns()
            .iter()
            .map(|column| column.data_type().clone())
            .collect();
        let payload = row_as_json(delta.schema().fields(), delta.columns(), 0)?;
        let mut key = self.operator_id.to_be_bytes().to_vec();
        match RowCodec::new(types) {
            Ok(codec) => codec.encode_row_into(delta.columns(), 0, &mut key)?,
            // A column on its way that can not be stored: its text tells rows apart as well.
            Err(_) => key.extend_from_slice(payload.as_bytes()),
        }
        Ok(Failure {
            key,
            weight: delta.weight(0),
            payload,
            error: reason(&error),
        })
    }
}

/// Why a row failed, in PostgreSQL's words where the kernel has others.
pub fn reason(error: &str) -> String {
    let error = ["Arrow error: ", "Execution error: "]
        .iter()
        .find_map(|prefix| error.strip_prefix(prefix))
        .unwrap_or(error);
    match error {
        "Divide by zero error" => "division by zero".to_string(),
        other => other.to_string(),
    }
}

/// One column per expression.
pub fn evaluate_all(exprs: &[Arc<dyn PhysicalExpr>], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let evaluate = |expr: &Arc<dyn PhysicalExpr>| -> Result<ArrayRef> {
        Ok(expr.evaluate(batch)?.into_array(batch.num_rows())?)
    };
    let columns = exprs.iter().map(evaluate).collect();
    match columns {
        // A constant part fails without any row, too.
        Err(ExecutorError::Evaluation(_)) if batch.num_rows() == 0 => exprs
            .iter()
            .map(|expr| Ok(new_empty_array(&expr.data_type(batch.schema_ref())?)))
            .collect(),
        columns => columns,
    }
}

fn join(whole: &Delta, pieces: Vec<Piece>) -> Result<(Delta, Vec<ArrayRef>)> {
    let (deltas, columns): (Vec<Delta>, Vec<Vec<ArrayRef>>) = pieces.into_iter().unzip();
    let width = columns.first().map_or(0, Vec::len);
    let joined = (0..width).map(|index| {
        let parts: Vec<&dyn Array> = columns.iter().map(|piece| piece[index].as_ref()).collect();
        Ok(concat(&parts)?)
    });
    let joined = joined.collect::<Result<_>>()?;
    Ok((Delta::concat(whole.schema(), &deltas)?, joined))
}

/// A row as a JSON object, for people to read: numbers and booleans bare, everything else as text.
pub fn row_as_json(fields: &Fields, columns: &[ArrayRef], row: usize) -> Result<String> {
    let options = FormatOptions::default().with_null("null");
    let mut json = String::from("{");
    for (index, (field, column)) in fields.iter().zip(columns).enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push_str(&serde_json::Value::from(field.name().as_str()).to_string());
        json.push(':');
        let text = ArrayFormatter::try_new(column, &options)?
            .value(row)
            .try_to_string()?;
        let is_bare = match column.data_type() {
            DataType::Boolean => true,
            data_type if data_type.is_numeric() => {
                serde_json::from_str::<serde_json::Number>(&text).is_ok()
            }
            _ => false,
        };
        if column.is_null(row) || is_bare {
            json.push_str(if column.is_null(row) { "null" } else { &text });
        } else {
            json.push_str(&serde_json::Value::from(text).to_string());
        }
    }
    json.push('}');
    Ok(json)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::{Field, Int64Type, Schema};
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{binary, col, lit};

    use super::*;

    fn rows(values: Vec<Option<i64>>, weights: Option<Vec<i64>>) -> Delta {
        let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
        let batch = RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(values))]).unwrap();
        Delta::new(batch, weights.map(Int64Array::from))
    }

    /// `100 / a`, and `a`.
    fn quotient(delta: &Delta) -> Vec<Arc<dyn PhysicalExpr>> {
        let schema = delta.schema();
        let a = col("a", &schema).unwrap();
        vec![
            binary(lit(100i64), Operator::Divide, a.clone(), &schema).unwrap(),
            a,
        ]
    }

    #[test]
    fn failing_rows_are_left_out_and_named() {
        for (values, kept, failed) in [
            (
                vec![Some(1), None, Some(5)],
                vec![Some(100), None, Some(20)],
                vec![],
            ),
            (vec![Some(0)], vec![], vec![10]),
            (
                vec![Some(2), Some(0), None, Some(0), Some(4)],
                vec![Some(50), None, Some(25)],
                vec![11, 13],
            ),
            (vec![Some(0), Some(0), Some(0)], vec![], vec![10, 11, 12]),
            (vec![], vec![], vec![]),
        ] {
            let weights = (10..10 + values.len() as i64).collect();
            let delta = rows(values.clone(), Some(weights));
            let mut failures = Vec::new();
            let exprs = quotient(&delta);
            let (left, columns) = Evaluator::new(7)
                .evaluate(&exprs, delta, &mut failures)
                .unwrap();
            assert_eq!(
                columns[0]
                    .as_primitive::<Int64Type>()
                    .iter()
                    .collect::<Vec<_>>(),
                kept,
                "{values:?}"
            );
            assert_eq!(left.columns()[0].as_ref(), columns[1].as_ref());
            assert_eq!(
                failures
                    .iter()
                    .map(|failure| failure.weight)
                    .collect::<Vec<_>>(),
                failed
            );
            for failure in &failures {
                assert_eq!(failure.payload, r#"{"a":0}"#);
                assert!(
                    failure.error.to_lowercase().contains("zero"),
                    "{}",
                    failure.error
                );
                assert_eq!(failure.key[..4], [0, 0, 0, 7]);
            }
        }
    }

    #[test]
    fn rows_print_as_json() {
        let fields = Fields::from(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("say \"t\"", DataType::Utf8, true),
        ]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![Some(-4), None])),
            Arc::new(StringArray::from(vec![Some("a\"b"), Some("")])),
        ];
        assert_eq!(
            row_as_json(&fields, &columns, 0).unwrap(),
            r#"{"n":-4,"say \"t\"":"a\"b"}"#
        );
        assert_eq!(
            row_as_json(&fields, &columns, 1).unwrap(),
            r#"{"n":null,"say \"t\"":""}"#
        );
    }
}
