//! Any aggregate over a collection: the group's elements, in order, are fed to DataFusion's own accumulator.
//!
//! This is how everything without a cheaper way is maintained (`median`, `percentile_cont`, `array_agg`,
//! `string_agg`, `nth_value`, functions of users, ...): a touched group is read anew at the end of the epoch. Elements
//! come in the order of the call's ORDER BY; without one, in the order of their values, so that the result of
//! `array_agg(x)` is always the same for the same rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{Field, Schema};
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::Accumulator;
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use rivermark_planner::plan::AggregateCall;

use super::encoding::Reader;
use super::entry::EntryCodec;
use super::outcome::{Outcome, OutcomeCodec};
use crate::error::{ExecutorError, Result};
use crate::pieces::most_rows;
use crate::state::{Rows, TableScan};

/// Elements handed over at once.
const BATCH_ENTRIES: usize = 4096;
/// Rows handed over at once: an element counts as often as its weight.
fn batch_rows() -> usize {
    most_rows(65_536)
}

/// One argument of the accumulator.
#[derive(Debug, Clone)]
enum Input {
    /// So many-th column of the elements.
    Element(usize),
    Constant(ScalarValue),
}

/// Computes one call over collections.
pub struct Replay {
    function: AggregateFunctionExpr,
    inputs: Vec<Input>,
    entries: EntryCodec,
    outcomes: OutcomeCodec,
    /// Every element counts once.
    is_distinct: bool,
}

impl Replay {
    /// `constants`: the value of each argument that is the same for all rows; the others are the elements' columns.
    pub fn new(
        call: &AggregateCall,
        constants: Vec<Option<ScalarValue>>,
        entries: EntryCodec,
        outcomes: OutcomeCodec,
    ) -> Result<Self> {
        let mut inputs = Vec::new();
        let mut fields = Vec::new();
        let mut exprs: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
        for (position, (arg, constant)) in call.args.iter().zip(constants).enumerate() {
            let name = format!("a{position}");
            match constant {
                Some(value) => {
                    exprs.push(Arc::new(Literal::new(value.clone())));
                    inputs.push(Input::Constant(value));
                }
                None => {
                    exprs.push(Arc::new(Column::new(&name, fields.len())));
                    inputs.push(Input::Element(fields.len()));
                    fields.push(Field::new(name, arg.data_type.clone(), arg.nullable));
                }
            }
        }
        // Only for ordered-set functions does the accumulator itself look at the order (its direction).
        let order_by = if call.function.supports_within_group_clause() {
            let first = exprs.first().cloned();
            let options = call.order_by.first().map(|(_, options)| *options);
            first
                .zip(options)
                .map(|(expr, options)| PhysicalSortExpr::new(expr, options))
                .into_iter()
                .collect()
        } else {
            Vec::new()
        };
        let builder = AggregateExprBuilder::new(call.function.clone(), exprs)
            .schema(Arc::new(Schema::new(fields)))
            .alias(call.display.clone())
            .order_by(order_by)
            .with_ignore_nulls(call.ignore_nulls);
        Ok(Replay {
            function: builder.build()?,
            inputs,
            entries,
            outcomes,
            is_distinct: call.distinct,
        })
    }

    /// The result over no elements.
    pub fn empty(&self) -> Result<Outcome> {
        let accumulator = self.function.create_accumulator()?;
        self.conclude(accumulator)
    }

    /// The result over the elements of a scan, whose values are a signed weight and a row.
    pub fn run(&self, scan: &mut TableScan<'_>) -> Result<Outcome> {
        let mut accumulator = self.function.create_accumulator()?;
        let mut rows = Rows::new();
        let mut weights = Vec::new();
        loop {
            let is_entry = scan.advance()?;
            if is_entry {
                let mut value = Reader::new(scan.value());
                let weight = value.signed()?;
                weights.push(if self.is_distinct { 1 } else { weight });
                rows.push(value.rest());
            }
            if weights.len() == BATCH_ENTRIES || (!is_entry && !weights.is_empty()) {
                if let Some(failure) = self.feed(accumulator.as_mut(), &rows, &weights)? {
                    return Ok(failure);
                }
                rows.clear();
                weights.clear();
            }
            if !is_entry {
                return self.conclude(accumulator);
            }
        }
    }

    /// Hands over elements as often as they count; a failure of the function is the group's.
    fn feed(
        &self,
        accumulator: &mut dyn Accumulator,
        rows: &Rows,
        weights: &[i64],
    ) -> Result<Option<Outcome>> {
        let columns = self.entries.decode(rows.iter())?;
        let mut copies = (0u32..)
            .zip(weights)
            .flat_map(|(row, &weight)| (0..weight).map(move |_| row))
            .peekable();
        while copies.peek().is_some() {
            let indices: UInt32Array = copies
                .by_ref()
                .take(batch_rows())
                .collect::<Vec<_>>()
                .into();
            let args = self.inputs.iter().map(|input| match input {
                Input::Element(column) => Ok(take(&columns[*column], &indices, None)?),
                Input::Constant(value) => Ok(value.to_array_of_size(indices.values().len())?),
            });
            let args: Vec<ArrayRef> = args.collect::<Result<_>>()?;
            if let Err(error) = accumulator.update_batch(&args) {
                return failure(error).map(Some);
            }
        }
        Ok(None)
    }

    fn conclude(&self, mut accumulator: Box<dyn Accumulator>) -> Result<Outcome> {
        match accumulator.evaluate() {
            Ok(value) => {
                let column = value.to_array()?;
                self.outcomes
                    .value(match column.data_type() == self.outcomes.data_type() {
                        true => column,
                        false => cast(&column, self.outcomes.data_type())?,
                    })
            }
            Err(error) => failure(error),
        }
    }
}

/// What the data caused is the group's failure; all else is an error.
fn failure(error: DataFusionError) -> Result<Outcome> {
    match ExecutorError::from(error) {
        ExecutorError::Evaluation(text) => Ok(Outcome::Failed(text)),
        other => Err(other),
    }
}
