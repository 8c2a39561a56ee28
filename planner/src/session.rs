//! The DataFusion session that batch queries and stream planning share: settings, functions, types and rules.

use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::{AnalyzerRule, Optimizer, OptimizerRule};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;

use crate::functions;
use crate::operators::PostgresOperators;
use crate::rewrite::cast_names::UnnameCasts;
use crate::rewrite::casts::PostgresCasts;
use crate::rewrite::checked::CheckedEvaluation;
use crate::rewrite::cross_joins::ConnectedJoins;
use crate::rewrite::first_rows::{DistinctOnAsPlace, LimitWithTies};
use crate::rewrite::float_keys::FloatKeys;
use crate::rewrite::grouping_columns::GroupingColumns;
use crate::rewrite::guard::{GuardFallible, GuardedPushDownFilter};
use crate::rewrite::join_keys::JoinKeys;
use crate::rewrite::marks::MarkSubqueries;
use crate::rewrite::null_frames::WholePartitions;
use crate::rewrite::outer_types::OuterTypes;
use crate::rewrite::pg_types::PostgresTyping;
use crate::rewrite::session_zone::SessionZone;
use crate::rewrite::simplify::Simplify;
use crate::rewrite::single_distinct::SingleDistinct;
use crate::type_planner::PostgresTypes;

/// Settings of one session. `time_zone` is an IANA name or an offset.
pub fn session_config(time_zone: &str) -> SessionConfig {
    let mut config = SessionConfig::new();
    let options = config.options_mut();
    options.sql_parser.enable_ident_normalization = true;
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.collect_spans = true;
    options.execution.time_zone = Some(time_zone.to_string());
    // Rewrites make a column's nullability more exact than the plan they started from; that is no error.
    options.execution.skip_physical_aggregate_schema_check = true;
    // DataFusion would interleave the sides of a union that are divided alike, and then divide one of them anew.
    options.optimizer.prefer_existing_union = true;
    options.catalog.create_default_catalog_and_schema = false;
    config
}

/// A builder with Rivermark's functions, types and rules; the server adds its runtime (memory pool) before building.
pub fn session_state_builder(config: SessionConfig) -> SessionStateBuilder {
    let mut builder = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features();
    if let Some(scalars) = builder.scalar_functions() {
        // DataFusion's function of the same name must not shadow ours through an alias
        let names: Vec<&str> = functions::scalar_functions()
            .iter()
            .map(|f| f.name())
            .collect();
        scalars.retain(|f| !names.contains(&f.name()));
        scalars.extend(functions::scalar_functions().iter().cloned());
    }
    if let Some(aggregates) = builder.aggregate_functions() {
        let own = functions::aggregate_functions();
        aggregates.retain(|f| !own.iter().any(|own| own.name() == f.name()));
        aggregates.extend(own);
    }
    if let Some(windows) = builder.window_functions() {
        windows.retain(|f| {
            !functions::window_functions()
                .iter()
                .any(|own| own.name() == f.name())
        });
        windows.extend(functions::window_functions().iter().cloned());
        windows.extend(functions::session_functions().iter().cloned());
    }
    if let Some(planners) = builder.expr_planners() {
        planners.insert(0, Arc::new(PostgresOperators));
    }
    builder
        .with_type_planner(Arc::new(PostgresTypes))
        .with_analyzer_rules(analyzer_rules())
        .with_optimizer_rules(batch_optimizer_rules())
        .with_physical_optimizer_rules(
            // It would merge a filter that can fail into the one that guards it.
            PhysicalOptimizer::new()
                .rules
                .into_iter()
                .filter(|r| !r.name().starts_with("FilterPushdown"))
                .chain([Arc::new(WholePartitions) as Arc<_>])
                .collect(),
        )
}

/// A session for planning and for queries without a runtime of their own.
pub fn session_state(time_zone: &str) -> SessionState {
    session_state_builder(session_config(time_zone)).build()
}

fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![
        Arc::new(LimitWithTies),
        Arc::new(GroupingColumns),
        Arc::new(UnnameCasts),
        Arc::new(PostgresTyping),
        Arc::new(OuterTypes),
        Arc::new(ResolveGroupingFunction::new()),
        Arc::new(TypeCoercion::new()),
        Arc::new(PostgresCasts),
        Arc::new(SessionZone),
        Arc::new(CheckedEvaluation),
        Arc::new(GuardFallible),
        Arc::new(DistinctOnAsPlace),
    ]
}

/// DataFusion's rules, some of them replaced by ones of ours that are right where those are not.
fn batch_optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let own: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![Arc::new(FloatKeys)];
    let of_datafusion = Optimizer::new().rules.into_iter();
    own.into_iter()
        .chain(
            of_datafusion.flat_map(|rule| -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
                match rule.name() {
                    "push_down_filter" => vec![Arc::new(GuardedPushDownFilter::default())],
                    "eliminate_cross_join" => vec![Arc::new(ConnectedJoins::default())],
                    "simplify_expressions" => vec![Arc::new(Simplify)],
                    "extract_equijoin_predicate" => vec![Arc::new(JoinKeys::default())],
                    "decorrelate_predicate_subquery" => vec![Arc::new(MarkSubqueries), rule],
                    "single_distinct_aggregation_to_group_by" => {
                        vec![Arc::new(SingleDistinct { rule })]
                    }
                    _ => vec![rule],
                }
            }),
        )
        .collect()
}
