//! The rules of DataFusion's optimiser that are right for streams: an allow-list.
//!
//! Left out, with the reason: `extract_equijoin_predicate` (ours does it right), `filter_null_join_keys` (the operator
//! knows), limit rules, `single_distinct_to_group_by`
//! (two aggregates where one multiset does), `common_sub_expression_eliminate` and leaf extraction (they move
//! fallible expressions), `eliminate_group_by_constant` and `propagate_empty_relation` (they change which operators,
//! and so which state, a view has).

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::{Optimizer, OptimizerContext, OptimizerRule};

use crate::catalog::Catalog;
use crate::rewrite::cross_joins::ConnectedJoins;
use crate::rewrite::first_rows::without_served_orders;
use crate::rewrite::guard::GuardedPushDownFilter;
use crate::rewrite::join_keys::JoinKeys;
use crate::rewrite::join_order::order_joins;
use crate::rewrite::marks::MarkSubqueries;
use crate::rewrite::nearest_join::FilterNearest;
use crate::rewrite::set_operation::capture_set_operations;
use crate::rewrite::simplify::Simplify;
use crate::rewrite::sort_columns::order_sort_columns;

/// Analyses a view's plan.
pub fn analyze(plan: LogicalPlan, state: &SessionState) -> DfResult<LogicalPlan> {
    state
        .analyzer()
        .execute_and_check(plan, state.config_options(), |_, _| {})
}

/// Optimises a view's plan, which is analysed.
pub fn optimize(
    analyzed: LogicalPlan,
    state: &SessionState,
    catalog: &Catalog,
) -> DfResult<LogicalPlan> {
    let analyzed = order_sort_columns(without_served_orders(analyzed)?)?;
    let analyzed = capture_set_operations(analyzed)?;
    let mut options = state.config_options().as_ref().clone();
    // every scalar subquery becomes a join
    options
        .optimizer
        .enable_physical_uncorrelated_scalar_subquery = false;
    let config = OptimizerContext::new_with_config_options(Arc::new(options))
        .without_query_execution_start_time()
        .with_max_passes(8);
    let run = |plan: LogicalPlan, rules: Rules| {
        Optimizer::with_rules(rules).optimize(plan, &config, |_, _| {})
    };
    // Joins are ordered once what they compare is known, and before columns are left out between them.
    if has_joins(&analyzed, 2)? {
        let connected = run(analyzed.clone(), rules(true, false))?;
        let ordered = order_joins(connected, catalog)?;
        if ordered.transformed {
            return run(ordered.data, rules(false, true));
        }
    }
    run(analyzed, rules(true, true))
}

/// Whether there are at least so many joins: fewer have no order.
fn has_joins(plan: &LogicalPlan, least: usize) -> DfResult<bool> {
    let mut found = 0;
    plan.apply(|node| {
        found += usize::from(matches!(node, LogicalPlan::Join(_)));
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found >= least)
}

type Rules = Vec<Arc<dyn OptimizerRule + Send + Sync>>;

fn rules(connects_joins: bool, prunes_columns: bool) -> Rules {
    let mut rules: Rules = vec![
        Arc::new(OptimizeUnions::new()),
        Arc::new(Simplify),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(MarkSubqueries),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(JoinKeys::default()),
        Arc::new(EliminateDuplicatedExpr::new()),
        Arc::new(EliminateFilter::new()),
    ];
    if connects_joins {
        rules.push(Arc::new(ConnectedJoins::default()));
    }
    rules.push(Arc::new(EliminateOuterJoin::new()));
    rules.push(Arc::new(GuardedPushDownFilter::default()));
    rules.push(Arc::new(FilterNearest));
    if prunes_columns {
        rules.push(Arc::new(OptimizeProjections::new()));
    }
    rules
}
