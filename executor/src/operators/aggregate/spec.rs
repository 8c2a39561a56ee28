//! What an aggregate operator does, fixed when it is built.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;
use rivermark_planner::plan::{AggregateCall, BoundExpr};

use super::keys::Canonical;
use crate::aggregates::{Call, CallKind};
use crate::error::{ExecutorError, Result};
use crate::evaluate::{Evaluator, evaluate_all};
use crate::state::{KeyCodec, Keys};

/// See the module text.
pub struct Spec {
    pub operator_id: u32,
    pub evaluator: Evaluator,
    group_by: Vec<Arc<dyn PhysicalExpr>>,
    canonical: Vec<Canonical>,
    key_schema: SchemaRef,
    /// Of the stored form, in which the window comes first.
    key_codec: KeyCodec,
    /// The group column whose watermark says which groups are over.
    pub window: Option<usize>,
    pub calls: Vec<Call>,
    /// Values of the last key whose group, of otherwise NULL keys, is always there.
    permanent: Vec<i64>,
    /// Of the output.
    pub schema: SchemaRef,
}

/// The evaluated columns of a batch.
pub struct Inputs {
    /// Canonical group keys.
    pub keys: Vec<ArrayRef>,
    pub calls: Vec<CallInputs>,
}

/// The evaluated columns of one call.
pub struct CallInputs {
    /// A boolean column; rows where it is not true do not count.
    pub filter: Option<ArrayRef>,
    pub columns: Vec<ArrayRef>,
}

impl Spec {
    pub fn new(
        operator_id: u32,
        group_by: &[BoundExpr],
        calls: &[AggregateCall],
        permanent: &[i64],
        window: Option<usize>,
        schema: SchemaRef,
    ) -> Result<Self> {
        let types: Vec<DataType> = group_by.iter().map(|key| key.data_type.clone()).collect();
        let fields = types
            .iter()
            .enumerate()
            .map(|(i, t)| Field::new(format!("k{i}"), t.clone(), true));
        Ok(Spec {
            operator_id,
            evaluator: Evaluator::new(operator_id),
            group_by: group_by.iter().map(|key| key.physical.clone()).collect(),
            canonical: types.iter().map(Canonical::of).collect::<Result<_>>()?,
            key_schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            key_codec: KeyCodec::new(window_first(types, window), None)?,
            window,
            calls: calls.iter().map(Call::new).collect::<Result<_>>()?,
            permanent: permanent.to_vec(),
            schema,
        })
    }

    /// An error if a call keeps more than a state that can be merged.
    pub fn check_mergeable(&self) -> Result<()> {
        let is_state = |call: &Call| matches!(call.kind, CallKind::Accumulated(_));
        match self.calls.iter().all(is_state) {
            true => Ok(()),
            false => Err(ExecutorError::Internal(
                "states of an aggregate over panes can not be merged".to_string(),
            )),
        }
    }

    /// Whether there is one group, always.
    pub fn is_global(&self) -> bool {
        self.group_by.is_empty()
    }

    /// Whether the group is there even without rows.
    pub fn is_permanent(&self, keys: &[ArrayRef], group: usize) -> bool {
        if self.permanent.is_empty() {
            return self.is_global();
        }
        keys.last().is_some_and(|id| {
            let id = id.as_primitive::<Int64Type>();
            self.permanent.contains(&id.value(group))
        })
    }

    /// The keys of the groups that are always there; none for a global aggregate.
    pub fn permanent_keys(&self) -> Result<Vec<ArrayRef>> {
        let Some((_, others)) = self.key_codec.types().split_last() else {
            return Ok(Vec::new());
        };
        let mut keys: Vec<ArrayRef> = others
            .iter()
            .map(|data_type| new_null_array(data_type, self.permanent.len()))
            .collect();
        keys.push(Arc::new(Int64Array::from(self.permanent.clone())));
        Ok(keys)
    }

    /// Gives out group numbers by key; none for a global aggregate.
    pub fn interner(&self) -> Result<Option<Box<dyn GroupValues>>> {
        if self.is_global() {
            return Ok(None);
        }
        Ok(Some(new_group_values(
            self.key_schema.clone(),
            &GroupOrdering::None,
        )?))
    }

    /// The stored form of each group's key.
    pub fn encode_keys(&self, keys: &[ArrayRef], group_count: usize) -> Result<Keys> {
        if self.is_global() {
            return Ok((0..group_count).map(|_| &[][..]).collect());
        }
        Ok(self
            .key_codec
            .encode(&window_first(keys.to_vec(), self.window))?)
    }

    /// All columns that the operator needs of a batch, in the order that [`Self::inputs`] expects.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let mut columns = evaluate_all(&self.group_by, batch)?;
        for call in &self.calls {
            let Some(filter) = &call.filter else {
                columns.extend(evaluate_all(&call.inputs, batch)?);
                continue;
            };
            let mask = filter.evaluate(batch)?.into_array(batch.num_rows())?;
            columns.push(mask.clone());
            let mask = mask.as_boolean();
            if call.has_fallible_input && mask.true_count() < batch.num_rows() {
                // Rows that the filter rejects must not fail.
                let inputs = evaluate_all(&call.inputs, &filter_record_batch(batch, mask)?)?;
                let mut passed = 0;
                let positions: UInt32Array = mask
                    .iter()
                    .map(|passes| {
                        let position = (passes == Some(true)).then_some(passed);
                        passed += u32::from(position.is_some());
                        position
                    })
                    .collect();
                for input in inputs {
                    columns.push(take(&input, &positions, None)?);
                }
            } else {
                columns.extend(evaluate_all(&call.inputs, batch)?);
            }
        }
        Ok(columns)
    }

    /// What [`Self::evaluate`] gave, by what it is for.
    pub fn inputs(&self, columns: Vec<ArrayRef>) -> Result<Inputs> {
        let mut columns = columns.into_iter();
        let keys = columns
            .by_ref()
            .take(self.group_by.len())
            .zip(&self.canonical);
        let keys = keys
            .map(|(key, canonical)| canonical.apply(key))
            .collect::<Result<_>>()?;
        let calls = self.calls.iter().map(|call| CallInputs {
            filter: call.filter.as_ref().and_then(|_| columns.next()),
            columns: columns.by_ref().take(call.inputs.len()).collect(),
        });
        Ok(Inputs {
            keys,
            calls: calls.collect(),
        })
    }
}

/// The keys in the order in which they are stored.
fn window_first<T>(mut keys: Vec<T>, window: Option<usize>) -> Vec<T> {
    if let Some(window) = window {
        keys[..=window].rotate_right(1);
    }
    keys
}
