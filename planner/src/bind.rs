//! Binding: from a parsed query to a DataFusion plan, and from an expression over known columns to one that runs.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema};
use chrono::Utc;
use datafusion::catalog::TableFunctionArgs;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, Result as DfResult, TableReference, plan_datafusion_err};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::planner::{
    ContextProvider, ExprPlanner, RelationPlanner, TypePlanner,
};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    AggregateUDF, Cast, Expr, ExprSchemable, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource,
    WindowUDF,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::create_physical_expr;
use datafusion::sql::planner::{PlannerContext, SqlToRel};
use sqlparser::ast;

use crate::bind_error::{SourceText, plan_error};
use crate::error::{PlanError, Result};
use crate::plan::BoundExpr;
use crate::relations::{Relation, RelationBody, Relations};
use crate::rewrite::casts::{cast_expr, session_zone};
use crate::rewrite::checked::check_expr;
use crate::rewrite::decorrelate::{complete_references, decorrelated};
use crate::rewrite::expressions::rewrite_expressions;
use crate::rewrite::guard::{guard_expr, is_fallible};
use crate::rewrite::membership::three_valued;
use crate::rewrite::pg_types::type_expr;
use crate::rewrite::qualify::{Mode, Qualified, qualify};
use crate::rewrite::scalar_subquery::{Scalars, checked_scalars};
use crate::rewrite::session_zone::{localize, zone_of};
use crate::rewrite::simplify::simplify_expr;
use crate::types::SqlType;

/// A query as DataFusion's plan, neither analysed nor optimised; the session's rules do that when it runs.
#[derive(Debug, Clone)]
pub struct BoundQuery {
    pub plan: LogicalPlan,
    /// PostgreSQL's names of the output columns. The plan's own differ where a name occurs twice.
    pub columns: Vec<String>,
    /// Every relation that is read, also below views.
    pub relations: Vec<Relation>,
}

/// Binds queries and expressions of one statement.
#[derive(Clone)]
pub struct Binder<'a> {
    relations: &'a dyn Relations,
    state: &'a SessionState,
    text: SourceText<'a>,
    parameter_types: Vec<Option<FieldRef>>,
}

impl<'a> Binder<'a> {
    /// `state` is of [`crate::session::session_state_builder`].
    pub fn new(relations: &'a dyn Relations, state: &'a SessionState) -> Self {
        Binder {
            relations,
            state,
            text: SourceText::default(),
            parameter_types: Vec::new(),
        }
    }

    /// The statement's text, for positions in errors.
    pub fn with_text(mut self, text: &'a str) -> Self {
        self.text = SourceText(Some(text));
        self
    }

    /// Known types of `$1`, `$2`, ...; the others are inferred from where they are used.
    pub fn with_parameter_types(mut self, types: &[Option<SqlType>]) -> Self {
        let field = |t: &SqlType| -> FieldRef { Arc::new(t.field("", true)) };
        self.parameter_types = types.iter().map(|t| t.as_ref().map(field)).collect();
        self
    }

    /// The query with names qualified and stars expanded: what is stored with a view.
    pub fn qualify(&self, query: &ast::Query) -> Result<Qualified> {
        qualify(query, self.relations, Mode::Bind, self.text)
    }

    /// The query with views, generated columns and windows expanded, as it is bound.
    pub fn expand(&self, query: &ast::Query) -> Result<Qualified> {
        qualify(query, self.relations, Mode::Expand, self.text)
    }

    /// The query as it is bound for a materialized view: as [`Self::expand`], but for what streams do in their own way.
    pub fn expand_for_stream(&self, query: &ast::Query) -> Result<Qualified> {
        qualify(query, self.relations, Mode::ExpandForStream, self.text)
    }

    /// Binds a query.
    pub fn bind_query(&self, query: &ast::Query) -> Result<BoundQuery> {
        self.bind_expanded(self.expand(query)?)
    }

    /// Binds what [`Self::expand`] gave.
    pub fn bind_expanded(&self, expanded: Qualified) -> Result<BoundQuery> {
        self.bound(expanded, false)
    }

    /// Binds what [`Self::expand_for_stream`] gave.
    pub fn bind_for_stream(&self, expanded: Qualified) -> Result<BoundQuery> {
        self.bound(expanded, true)
    }

    fn bound(&self, expanded: Qualified, is_for_stream: bool) -> Result<BoundQuery> {
        let Qualified {
            query,
            columns,
            relations,
        } = expanded;
        let sources = relations
            .values()
            .filter_map(|relation| match &relation.body {
                RelationBody::Rows(source) | RelationBody::Generated { source, .. } => Some((
                    (relation.name.schema.clone(), relation.name.name.clone()),
                    Arc::clone(source),
                )),
                RelationBody::View { .. } => None,
            })
            .collect();
        let provider = Provider {
            state: self.state,
            sources,
        };
        let mut context =
            PlannerContext::new().with_prepare_param_data_types(self.parameter_types.clone());
        let plan = SqlToRel::new(&provider)
            .sql_statement_to_plan_with_context(
                ast::Statement::Query(Box::new(query)),
                &mut context,
            )
            .map_err(|error| plan_error(error, self.text))?;
        let plan = complete_references(plan)
            .and_then(three_valued)
            .and_then(|plan| checked_scalars(plan, Scalars::Correlated))
            .and_then(|plan| decorrelated(plan, is_for_stream))
            .map_err(|error| plan_error(error, self.text))?;
        Ok(BoundQuery {
            plan,
            columns,
            relations: relations.into_values().collect(),
        })
    }

    /// An expression over the columns of `schema`, coerced and checked, as DataFusion's expression. With `target` it is
    /// cast to that type, as an assignment does.
    pub fn bind_logical(
        &self,
        expr: &ast::Expr,
        schema: &DFSchema,
        target: Option<&SqlType>,
    ) -> Result<Expr> {
        let mut expr = expr.clone();
        rewrite_expressions(&mut expr);
        let provider = Provider {
            state: self.state,
            sources: HashMap::new(),
        };
        let mut context =
            PlannerContext::new().with_prepare_param_data_types(self.parameter_types.clone());
        let bound = SqlToRel::new(&provider).sql_to_expr(expr, schema, &mut context);
        let finish = |expr: Expr| -> DfResult<Expr> {
            let expr = type_expr(expr, schema)?.data;
            let expr = match target {
                Some(target) => {
                    let field = Arc::new(target.field("", true));
                    Expr::Cast(Cast::new_from_field(Box::new(expr), field))
                }
                None => expr,
            };
            let context = self.simplify_context(schema);
            let expr = ExprSimplifier::new(context.clone()).coerce(expr, schema)?;
            let options = self.state.config_options();
            let expr = cast_expr(expr, schema, &session_zone(options))?.data;
            let expr = match zone_of(self.state.config_options()) {
                Some(zone) => localize(expr, schema, zone)?.data,
                None => expr,
            };
            let expr = guard_expr(check_expr(expr, schema)?.data, schema)?.data;
            Ok(simplify_expr(expr, &context)?.data)
        };
        bound
            .and_then(finish)
            .map_err(|error| plan_error(error, self.text))
    }

    /// An expression over the columns of `schema`, ready to run. See [`Self::bind_logical`].
    pub fn bind_expr(
        &self,
        expr: &ast::Expr,
        schema: &DFSchema,
        target: Option<&SqlType>,
    ) -> Result<BoundExpr> {
        let logical = self.bind_logical(expr, schema, target)?;
        bound_expr(logical, schema).map_err(|error| plan_error(error, self.text))
    }

    fn simplify_context(&self, schema: &DFSchema) -> SimplifyContext {
        // a DEFAULT now() is the time at which the statement is bound
        let start = self
            .state
            .execution_props()
            .query_execution_start_time
            .or_else(|| Some(Utc::now()));
        SimplifyContext::builder()
            .with_schema(Arc::new(schema.clone()))
            .with_config_options(Arc::clone(self.state.config_options()))
            .with_query_execution_start_time(start)
            .build()
    }
}

/// The expression that the SQL text means over the columns of `schema` (a generated column, DEFAULT, CHECK).
pub fn bind_scalar(
    sql: &str,
    schema: &Schema,
    state: &SessionState,
    target: Option<&SqlType>,
) -> Result<BoundExpr> {
    let syntax = |error: sqlparser::parser::ParserError| PlanError::Syntax {
        message: error.to_string(),
        position: None,
    };
    let expr = sqlparser::parser::Parser::new(&sqlparser::dialect::PostgreSqlDialect {})
        .try_with_sql(sql)
        .and_then(|mut parser| parser.parse_expr())
        .map_err(syntax)?;
    let schema = DFSchema::try_from(schema.clone())
        .map_err(|error| plan_error(error, SourceText::default()))?;
    Binder::new(&NoRelations, state).bind_expr(&expr, &schema, target)
}

/// What runs for a logical expression that is coerced and checked.
pub fn bound_expr(logical: Expr, schema: &DFSchema) -> DfResult<BoundExpr> {
    let physical = create_physical_expr(
        &logical,
        schema,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )?;
    let is_fallible = is_fallible(&logical, schema);
    let (data_type, nullable) = (logical.get_type(schema)?, logical.nullable(schema)?);
    Ok(BoundExpr {
        logical,
        physical,
        data_type,
        nullable,
        is_fallible,
    })
}

struct NoRelations;

impl Relations for NoRelations {
    fn relation(&self, _name: &crate::statement::ObjectName) -> Option<Relation> {
        None
    }
}

/// What DataFusion's binder may ask.
struct Provider<'a> {
    state: &'a SessionState,
    /// By schema and name.
    sources: HashMap<(String, String), Arc<dyn TableSource>>,
}

impl ContextProvider for Provider<'_> {
    fn get_table_source(&self, name: TableReference) -> DfResult<Arc<dyn TableSource>> {
        let key = (
            name.schema().unwrap_or_default().to_string(),
            name.table().to_string(),
        );
        self.sources
            .get(&key)
            .cloned()
            .ok_or_else(|| plan_datafusion_err!("table '{name}' not found"))
    }

    fn get_table_function_source(
        &self,
        name: &str,
        args: Vec<Expr>,
    ) -> DfResult<Arc<dyn TableSource>> {
        let function = self
            .state
            .table_functions()
            .get(name)
            .ok_or_else(|| plan_datafusion_err!("table function '{name}' not found"))?;
        let context = SimplifyContext::builder()
            .with_config_options(Arc::clone(self.state.config_options()))
            .build();
        let simplifier = ExprSimplifier::new(context);
        let schema = DFSchema::empty();
        let args = args
            .into_iter()
            .map(|arg| {
                simplifier
                    .coerce(arg, &schema)
                    .and_then(|arg| simplifier.simplify(arg))
            })
            .collect::<DfResult<Vec<_>>>()?;
        let provider =
            function.create_table_provider_with_args(TableFunctionArgs::new(&args, self.state))?;
        Ok(provider_as_source(provider))
    }

    fn create_cte_work_table(
        &self,
        name: &str,
        schema: arrow::datatypes::SchemaRef,
    ) -> DfResult<Arc<dyn TableSource>> {
        let table = datafusion::datasource::cte_worktable::CteWorkTable::new(name, schema);
        Ok(provider_as_source(Arc::new(table)))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        self.state.relation_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(crate::type_planner::PostgresTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state
            .higher_order_functions()
            .keys()
            .cloned()
            .collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}
