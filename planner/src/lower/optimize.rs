//! The rules of DataFusion's optimiser that are right for streams: an allow-list.
//!
//! Left out, with the reason: `extract_equijoin_predicate` (ours does it right), `filter_null_join_keys` (the operator
//! knows), limit rules, `single_distinct_to_group_by`
//! (two aggregates where one multiset does), `common_sub_expression_eliminate` and leaf extraction (they move
//! fallible expressions), `eliminate_group_by_constant` and `propagate_empty_relation` (they change which operators,
//! and so which state, a view has).

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::{Optimizer, OptimizerContext, OptimizerRule};

use crate::rewrite::first_rows::without_served_orders;
use crate::rewrite::guard::GuardedPushDownFilter;
use crate::rewrite::join_keys::JoinKeys;
use crate::rewrite::marks::MarkSubqueries;
use crate::rewrite::set_operation::capture_set_operations;
use crate::rewrite::simplify::Simplify;
use crate::rewrite::sort_columns::order_sort_columns;

/// Analyses and optimises a view's plan.
pub fn optimize(plan: LogicalPlan, state: &SessionState) -> DfResult<LogicalPlan> {
    let analyzed = state
        .analyzer()
        .execute_and_check(plan, state.config_options(), |_, _| {})?;
    let analyzed = order_sort_columns(without_served_orders(analyzed)?)?;
    let analyzed = capture_set_operations(analyzed)?;
    let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
        Arc::new(OptimizeUnions::new()),
        Arc::new(Simplify),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(MarkSubqueries),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(JoinKeys::default()),
        Arc::new(EliminateDuplicatedExpr::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(EliminateOuterJoin::new()),
        Arc::new(GuardedPushDownFilter::default()),
        Arc::new(OptimizeProjections::new()),
    ];
    let mut options = state.config_options().as_ref().clone();
    // every scalar subquery becomes a join
    options
        .optimizer
        .enable_physical_uncorrelated_scalar_subquery = false;
    let config = OptimizerContext::new_with_config_options(Arc::new(options))
        .without_query_execution_start_time()
        .with_max_passes(8);
    Optimizer::with_rules(rules).optimize(analyzed, &config, |_, _| {})
}
