//! How each aggregate call is maintained: the closed list of functions with states of their own, and the rest.
//!
//! | kind | for | stored |
//! |---|---|---|
//! | accumulated | linear functions always; mergeable ones on append-only input | the state, with the group |
//! | distinct | linear functions of DISTINCT values | each value with its weight; the state, with the group |
//! | ordered | everything else | each value with its weight; the last result, with the group |

use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_plan::{ColumnarValue, PhysicalExpr};
use rivermark_planner::plan::{AggregateCall, AggregateStrategy, BoundExpr};

use super::bits::{BitOperation, BitStates};
use super::boolean::BooleanStates;
use super::count::CountStates;
use super::distinct_sketch::DistinctSketchStates;
use super::entry::{EntryCodec, EntryRules};
use super::extreme::{End, EntryExtremeStates, NumberExtremeStates};
use super::moments::{Moment, MomentStates};
use super::ordered_int;
use super::outcome::{Outcome, OutcomeCodec, OutcomeStates};
use super::quantile_sketch::QuantileSketchStates;
use super::replay::Replay;
use super::states::Accumulate;
use super::sum::{DecimalSumStates, FloatSumStates, IntegerSumStates, SumKind};
use crate::error::Result;

/// A call, ready to run.
pub struct Call {
    /// Evaluated for each row: the arguments that matter, then the ORDER BY expressions.
    pub inputs: Vec<Arc<dyn PhysicalExpr>>,
    /// Rows that count; all if there is none.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// Whether an input can fail, so that it must not see rows that the filter rejects.
    pub has_fallible_input: bool,
    pub kind: CallKind,
}

/// See the module text.
pub enum CallKind {
    Accumulated(Recipe),
    Distinct {
        entries: EntryCodec,
        recipe: Recipe,
    },
    Ordered {
        entries: EntryCodec,
        pick: Pick,
        outcomes: OutcomeCodec,
        empty: Outcome,
    },
}

/// What becomes of an ordered collection.
pub enum Pick {
    First,
    Last,
    Replay(Box<Replay>),
}

impl Pick {
    /// The result over no elements.
    fn empty(&self, outcomes: &OutcomeCodec) -> Result<Outcome> {
        match self {
            Pick::First | Pick::Last => outcomes.value(new_null_array(outcomes.data_type(), 1)),
            Pick::Replay(replay) => replay.empty(),
        }
    }
}

/// How to make states.
#[derive(Clone)]
pub enum Recipe {
    Count,
    IntegerSum(SumKind, DataType),
    DecimalSum(SumKind, i8, DataType),
    FloatSum(SumKind, DataType),
    Moment(Moment, DataType),
    Boolean { is_and: bool },
    Bits(BitOperation, DataType),
    Quantile(f64, DataType),
    NumberExtreme(End, DataType),
    EntryExtreme(End, EntryCodec, DataType),
    DistinctSketch(Vec<DataType>, DataType),
}

impl Recipe {
    /// Empty states.
    pub fn states(&self) -> Result<Box<dyn Accumulate>> {
        Ok(match self.clone() {
            Recipe::Count => Box::new(CountStates::default()),
            Recipe::IntegerSum(kind, data_type) => Box::new(IntegerSumStates::new(kind, data_type)),
            Recipe::DecimalSum(kind, scale, data_type) => {
                Box::new(DecimalSumStates::new(kind, scale, data_type))
            }
            Recipe::FloatSum(kind, data_type) => Box::new(FloatSumStates::new(kind, data_type)),
            Recipe::Moment(moment, data_type) => Box::new(MomentStates::new(moment, data_type)),
            Recipe::Boolean { is_and } => Box::new(BooleanStates::new(is_and)),
            Recipe::Bits(operation, data_type) => Box::new(BitStates::new(operation, data_type)),
            Recipe::Quantile(quantile, data_type) => {
                Box::new(QuantileSketchStates::new(quantile, data_type))
            }
            Recipe::NumberExtreme(end, data_type) => {
                Box::new(NumberExtremeStates::new(end, data_type))
            }
            Recipe::EntryExtreme(end, entries, data_type) => {
                Box::new(EntryExtremeStates::new(end, entries, data_type))
            }
            Recipe::DistinctSketch(types, data_type) => {
                Box::new(DistinctSketchStates::new(types, data_type)?)
            }
        })
    }
}

impl Call {
    /// Chooses the way; an error if values of the call's types cannot be stored.
    pub fn new(call: &AggregateCall) -> Result<Self> {
        let constants = call
            .args
            .iter()
            .map(constant_of)
            .collect::<Result<Vec<_>>>()?;
        let is_distinct = call.distinct && !ignores_duplicates(&call.name);
        let linear = linear_recipe(call, &constants);
        if !is_distinct {
            let mergeable = match call.strategy {
                AggregateStrategy::Mergeable => mergeable_recipe(call)?,
                AggregateStrategy::Linear | AggregateStrategy::Multiset => None,
            };
            if let Some(recipe) = linear.or(mergeable) {
                return Ok(Call::accumulated(call, recipe, &constants));
            }
        } else if let Some(recipe) = linear {
            return Call::distinct(call, recipe);
        }
        if call.name == "approx_distinct" {
            // Under retraction the values are kept anyway: the count is exact.
            return Call::distinct(call, Recipe::Count);
        }
        Call::ordered(call, constants)
    }

    fn accumulated(
        call: &AggregateCall,
        recipe: Recipe,
        constants: &[Option<ScalarValue>],
    ) -> Self {
        let mut args: Vec<&BoundExpr> = call.args.iter().collect();
        match &recipe {
            Recipe::Count => {
                let is_null = |constant: &Option<ScalarValue>| {
                    constant.as_ref().is_none_or(ScalarValue::is_null)
                };
                args = args
                    .into_iter()
                    .zip(constants)
                    .filter(|(_, c)| is_null(c))
                    .map(|(arg, _)| arg)
                    .collect();
            }
            Recipe::EntryExtreme(_, _, _) if is_positional(&call.name) => {
                args.truncate(1);
                args.extend(call.order_by.iter().map(|(expr, _)| expr));
            }
            Recipe::Moment(_, _) => {}
            Recipe::DistinctSketch(_, _) => {}
            _ => args.truncate(1),
        }
        Call::of(call, &args, CallKind::Accumulated(recipe))
    }

    fn distinct(call: &AggregateCall, recipe: Recipe) -> Result<Self> {
        let mut args: Vec<&BoundExpr> = call.args.iter().collect();
        if let Recipe::Quantile(_, _) = recipe {
            args.truncate(1);
        }
        let types = args.iter().map(|arg| arg.data_type.clone()).collect();
        let entries = EntryCodec::new(
            types,
            Vec::new(),
            EntryRules {
                is_canonical: true,
                skips_nulls: true,
            },
        )?;
        Ok(Call::of(
            call,
            &args,
            CallKind::Distinct { entries, recipe },
        ))
    }

    fn ordered(call: &AggregateCall, mut constants: Vec<Option<ScalarValue>>) -> Result<Self> {
        let name = call.name.as_str();
        if constants.iter().all(Option::is_some)
            && let Some(first) = constants.first_mut()
        {
            // Something must be counted.
            *first = None;
        }
        let picked = match name {
            "min" | "first_value" | "any_value" => Some(Pick::First),
            "max" | "last_value" => Some(Pick::Last),
            _ => None,
        };
        let mut args: Vec<&BoundExpr> = call
            .args
            .iter()
            .zip(&constants)
            .filter(|(_, constant)| constant.is_none())
            .map(|(arg, _)| arg)
            .collect();
        if picked.is_some() {
            args = call.args.iter().take(1).collect();
        }
        let is_extreme = matches!(name, "min" | "max");
        // Intervals that are equal ('30 days', '1 month') are not the same in arithmetic: one of those that came is shown.
        let is_interval = |arg: &&BoundExpr| matches!(arg.data_type, DataType::Interval(_));
        let rules = EntryRules {
            is_canonical: match is_extreme {
                true => !args.iter().any(is_interval),
                false => call.distinct,
            },
            skips_nulls: is_extreme
                || name == "any_value"
                || (call.ignore_nulls && args.len() == 1),
        };
        let order = match is_extreme || call.function.supports_within_group_clause() {
            true => &[][..],
            false => &call.order_by[..],
        };
        let entries = EntryCodec::new(
            args.iter().map(|arg| arg.data_type.clone()).collect(),
            order
                .iter()
                .map(|(expr, options)| (expr.data_type.clone(), *options))
                .collect(),
            rules,
        )?;
        let outcomes = OutcomeCodec::new(call.data_type.clone())?;
        let pick = match picked {
            Some(pick) => pick,
            None => Pick::Replay(Box::new(Replay::new(
                call,
                constants,
                entries.clone(),
                outcomes.clone(),
            )?)),
        };
        let empty = pick.empty(&outcomes)?;
        args.extend(order.iter().map(|(expr, _)| expr));
        Ok(Call::of(
            call,
            &args,
            CallKind::Ordered {
                entries,
                pick,
                outcomes,
                empty,
            },
        ))
    }

    fn of(call: &AggregateCall, inputs: &[&BoundExpr], kind: CallKind) -> Self {
        Call {
            inputs: inputs.iter().map(|input| input.physical.clone()).collect(),
            filter: call.filter.as_ref().map(|filter| filter.physical.clone()),
            has_fallible_input: inputs.iter().any(|input| input.is_fallible),
            kind,
        }
    }

    /// The results of no groups yet, for a call over an ordered collection.
    pub fn outcome_states(outcomes: &OutcomeCodec, empty: &Outcome) -> OutcomeStates {
        OutcomeStates::new(outcomes.clone(), empty.clone())
    }
}

/// Functions of which `f(DISTINCT x)` is `f(x)`.
fn ignores_duplicates(name: &str) -> bool {
    matches!(
        name,
        "min"
            | "max"
            | "bool_and"
            | "bool_or"
            | "bit_and"
            | "bit_or"
            | "approx_distinct"
            | "any_value"
            | "first_value"
            | "last_value"
    )
}

/// Functions that pick a row by its position.
fn is_positional(name: &str) -> bool {
    matches!(name, "first_value" | "last_value" | "any_value")
}

fn linear_recipe(call: &AggregateCall, constants: &[Option<ScalarValue>]) -> Option<Recipe> {
    let result = call.data_type.clone();
    if call.name == "count" {
        return Some(Recipe::Count);
    }
    let argument = &call.args.first()?.data_type;
    let is_integer = argument.is_integer();
    match call.name.as_str() {
        "sum" | "avg" | "mean" => {
            let kind = if call.name == "sum" {
                SumKind::Sum
            } else {
                SumKind::Average
            };
            match argument {
                _ if is_integer && (kind == SumKind::Sum || result.is_floating()) => {
                    Some(Recipe::IntegerSum(kind, result))
                }
                DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                    Some(Recipe::FloatSum(kind, result))
                }
                DataType::Decimal32(_, scale)
                | DataType::Decimal64(_, scale)
                | DataType::Decimal128(_, scale)
                | DataType::Decimal256(_, scale) => Some(Recipe::DecimalSum(kind, *scale, result)),
                _ => None,
            }
        }
        "bool_and" | "bool_or" => Some(Recipe::Boolean {
            is_and: call.name == "bool_and",
        }),
        "bit_xor" if is_integer => Some(Recipe::Bits(BitOperation::Xor, result)),
        "approx_median" if argument.is_numeric() => Some(Recipe::Quantile(0.5, result)),
        "approx_percentile_cont" if argument.is_numeric() => {
            let quantile = match constants.get(1)?.as_ref()? {
                ScalarValue::Float64(quantile) => (*quantile)?,
                ScalarValue::Float32(quantile) => f64::from((*quantile)?),
                _ => return None,
            };
            let is_descending = call
                .order_by
                .first()
                .is_some_and(|(_, options)| options.descending);
            Some(Recipe::Quantile(
                if is_descending {
                    1.0 - quantile
                } else {
                    quantile
                },
                result,
            ))
        }
        name => Moment::of_name(name).map(|moment| Recipe::Moment(moment, result)),
    }
}

fn mergeable_recipe(call: &AggregateCall) -> Result<Option<Recipe>> {
    let Some(argument) = call.args.first().map(|arg| arg.data_type.clone()) else {
        return Ok(None);
    };
    let result = call.data_type.clone();
    Ok(match call.name.as_str() {
        "min" | "max" => {
            let end = if call.name == "min" {
                End::First
            } else {
                End::Last
            };
            if ordered_int::is_supported(&argument) && argument == result {
                Some(Recipe::NumberExtreme(end, result))
            } else {
                let rules = EntryRules {
                    is_canonical: true,
                    skips_nulls: true,
                };
                Some(Recipe::EntryExtreme(
                    end,
                    EntryCodec::new(vec![argument], Vec::new(), rules)?,
                    result,
                ))
            }
        }
        "first_value" | "last_value" | "any_value" => {
            let end = if call.name == "last_value" {
                End::Last
            } else {
                End::First
            };
            let order = call
                .order_by
                .iter()
                .map(|(expr, options)| (expr.data_type.clone(), *options))
                .collect();
            let skips_nulls = call.ignore_nulls || call.name == "any_value";
            let rules = EntryRules {
                is_canonical: false,
                skips_nulls,
            };
            Some(Recipe::EntryExtreme(
                end,
                EntryCodec::new(vec![argument], order, rules)?,
                result,
            ))
        }
        "bit_and" if argument.is_integer() => Some(Recipe::Bits(BitOperation::And, result)),
        "bit_or" if argument.is_integer() => Some(Recipe::Bits(BitOperation::Or, result)),
        "approx_distinct" => {
            let types = call.args.iter().map(|arg| arg.data_type.clone()).collect();
            Some(Recipe::DistinctSketch(types, result))
        }
        _ => None,
    })
}

/// The value of an expression that does not look at the row.
fn constant_of(expr: &BoundExpr) -> Result<Option<ScalarValue>> {
    if !collect_columns(&expr.physical).is_empty() {
        return Ok(None);
    }
    let no_columns = RecordBatch::new_empty(Arc::new(Schema::empty()));
    Ok(match expr.physical.evaluate(&no_columns) {
        Ok(ColumnarValue::Scalar(value)) => Some(value),
        // Fails or is not recognised as one value: evaluated per row like any other.
        Ok(ColumnarValue::Array(_)) | Err(_) => None,
    })
}
