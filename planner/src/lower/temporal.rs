//! Lowers conditions on the current time to filters that rows enter and leave as time passes.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};

use super::{Lowered, bound, node_of};
use crate::error::{PlanError, Result};
use crate::functions::NowTest;
use crate::plan::{PlanOp, TimeBound};
use crate::properties;
use crate::rewrite::temporal::has_now_test;

/// The conjuncts of `predicate` that are about the current time, and the others together.
pub(super) fn split_tests(predicate: &Expr) -> (Vec<&Expr>, Option<Expr>) {
    let (tests, rest): (Vec<&Expr>, Vec<&Expr>) = split_conjunction(predicate)
        .into_iter()
        .partition(|conjunct| has_now_test(conjunct));
    (tests, conjunction(rest.into_iter().cloned()))
}

/// The rows of `input`, whose columns DataFusion knows as `from`, while all `tests` hold.
pub(super) fn time_filtered(input: Lowered, tests: &[&Expr], from: &DFSchema) -> Result<Lowered> {
    if tests.is_empty() {
        return Ok(input);
    }
    let mut bounds = Vec::with_capacity(tests.len());
    for test in tests {
        let Some((comparison, time)) = NowTest::of(test) else {
            return Err(PlanError::unsupported(
                "this condition on now() in a materialized view",
                "write it as a condition of its own in WHERE, of a subquery in FROM if need be",
            ));
        };
        bounds.push(TimeBound {
            comparison,
            time: bound(time, from, &input.node.schema)?,
        });
    }
    let Lowered { node, lineage } = input;
    let (properties, lineage) = properties::of_temporal_filter(&bounds, &node.properties, lineage);
    let schema = Arc::clone(&node.schema);
    Ok(Lowered {
        node: node_of(
            PlanOp::TemporalFilter { bounds },
            vec![node],
            schema,
            properties,
        ),
        lineage,
    })
}
