//! What a join is, prepared for running.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_plan::PhysicalExpr;
use rivermark_planner::plan::{BoundExpr, JoinKey, JoinKind, PlanNode};

use super::pairs::Residual;
use super::{LEFT, RIGHT};
use crate::delta::Delta;
use crate::error::{ExecutorError, Result};
use crate::evaluate::Evaluator;
use crate::operator::Failure;
use crate::operators::conform::conform;
use crate::state::{KeyCodec, Keys, RowCodec};

/// See the module.
pub struct Spec {
    pub kind: JoinKind,
    /// Left rows meet the right as it is when they come, and are not kept.
    pub is_as_of_now: bool,
    /// Of the output.
    pub schema: SchemaRef,
    pub input_schemas: [SchemaRef; 2],
    pub row_codecs: [RowCodec; 2],
    pub key_codec: KeyCodec,
    pub residual: Option<Residual>,
    keys: [Vec<Arc<dyn PhysicalExpr>>; 2],
    /// Per key: whether NULL equals NULL.
    matches_null: Vec<bool>,
    evaluator: Evaluator,
}

impl Spec {
    pub fn new(
        operator_id: u32,
        (kind, is_as_of_now): (JoinKind, bool),
        keys: &[JoinKey],
        residual: Option<&BoundExpr>,
        inputs: &[PlanNode],
        schema: SchemaRef,
    ) -> Result<Self> {
        let [left, right] = inputs else {
            let message = format!("Join was given {} inputs", inputs.len());
            return Err(ExecutorError::Internal(message));
        };
        let types = |schema: &SchemaRef| -> Vec<DataType> {
            schema
                .fields()
                .iter()
                .map(|f| f.data_type().clone())
                .collect()
        };
        let key_types = keys.iter().map(|key| key.left.data_type.clone()).collect();
        let evaluator = Evaluator::new(operator_id);
        let residual = residual
            .map(|residual| Residual::new(residual, [&left.schema, &right.schema], evaluator))
            .transpose()?;
        Ok(Spec {
            kind,
            is_as_of_now,
            row_codecs: [
                RowCodec::new(types(&left.schema))?,
                RowCodec::new(types(&right.schema))?,
            ],
            key_codec: KeyCodec::new(key_types, None)?,
            input_schemas: [left.schema.clone(), right.schema.clone()],
            schema,
            residual,
            keys: [
                keys.iter().map(|key| key.left.physical.clone()).collect(),
                keys.iter().map(|key| key.right.physical.clone()).collect(),
            ],
            matches_null: keys.iter().map(|key| key.matches_null).collect(),
            evaluator,
        })
    }

    /// Whether the output shows a row of the side by whether it has a match.
    pub fn is_tracked(&self, side: usize) -> bool {
        match self.kind {
            JoinKind::Inner => false,
            JoinKind::Full => true,
            JoinKind::Right => side == RIGHT,
            JoinKind::Left | JoinKind::Semi | JoinKind::Anti | JoinKind::NotIn | JoinKind::Mark => {
                side == LEFT
            }
        }
    }

    /// Whether each stored row of the side has a number of matches of its own; else all rows of a key have as many.
    pub fn counts_matches(&self, side: usize) -> bool {
        self.residual.is_some() && self.is_tracked(side)
    }

    /// Whether rows of the side are needed after their epoch, or only how many there are.
    pub fn keeps_rows(&self, side: usize) -> bool {
        match side {
            LEFT => !self.is_as_of_now,
            _ => self.kind.is_pairing() || self.residual.is_some(),
        }
    }

    /// Whether pairs of rows must be looked at.
    pub fn looks_at_pairs(&self) -> bool {
        self.kind.is_pairing() || self.residual.is_some()
    }

    /// The rows of which no key fails, and their keys.
    pub fn evaluate_keys(
        &self,
        side: usize,
        delta: Delta,
        failures: &mut Vec<Failure>,
    ) -> Result<(Delta, Vec<ArrayRef>)> {
        let columns = delta.columns().to_vec();
        let batch = conform(&self.input_schemas[side], columns, delta.num_rows())?;
        let delta = delta.with_batch(batch);
        self.evaluator.evaluate(&self.keys[side], delta, failures)
    }

    /// Which rows can have a match at all: those without a NULL in their keys. `None`: all.
    pub fn can_match(&self, keys: &[ArrayRef]) -> Option<BooleanArray> {
        if self.kind == JoinKind::NotIn {
            return None;
        }
        let checked: Vec<&ArrayRef> = keys
            .iter()
            .zip(&self.matches_null)
            .filter(|(key, matches_null)| !**matches_null && key.null_count() > 0)
            .map(|(key, _)| key)
            .collect();
        let first = checked.first()?;
        let all_valid = |row: usize| checked.iter().all(|key| key.is_valid(row));
        Some((0..first.len()).map(|row| Some(all_valid(row))).collect())
    }

    /// One key per row; without key columns all are the empty key.
    pub fn encode_keys(&self, keys: &[ArrayRef], count: usize) -> Result<Keys> {
        if keys.is_empty() {
            return Ok((0..count).map(|_| &[][..]).collect());
        }
        Ok(self.key_codec.encode(keys)?)
    }
}
