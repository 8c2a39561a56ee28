//! Planning of a whole view: what is stored with it, and the streaming plan of a materialized one.

use std::collections::HashSet;

use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use sqlparser::ast;

use super::optimize::{analyze, optimize};
use super::window_close::on_window_close;
use super::{Lowered, Lowering};
use crate::bind::{Binder, BoundQuery};
use crate::bind_error::{SourceText, plan_error};
use crate::catalog::{Catalog, ObjectId, OutputColumn};
use crate::error::{PlanError, Result, UndefinedKind};
use crate::fingerprint::fingerprint;
use crate::names::ident;
use crate::parse_query::parse_query;
use crate::plan::{PlanNode, StreamPlan};
use crate::read_order::{is_circular, read_order};
use crate::relations::CatalogRelations;
use crate::rewrite::as_of_join::capture_as_of_joins;
use crate::rewrite::fixed_zone::{fix_zone, fixed_zone};
use crate::rewrite::nearest_join::capture_nearest_joins;
use crate::rewrite::qualify::Qualified;
use crate::rewrite::refuse::{refuse_subqueries, refuse_unsupported};
use crate::rewrite::scalar_subquery::{Scalars, checked_scalars};
use crate::rewrite::session_zone::zone_of;
use crate::rewrite::temporal::capture_temporal;
use crate::rewrite::volatile::{refuse_clocks, refuse_volatile};
use crate::session::session_state;
use crate::types::SqlType;

/// The query of a view that is to be created, or planned again.
#[derive(Debug, Clone, Copy)]
pub struct ViewQuery<'a> {
    pub query: &'a ast::Query,
    /// Column names of `CREATE VIEW v (a, b)`; may be fewer than the query's.
    pub columns: &'a [String],
    /// The session's, or UTC.
    pub time_zone: &'a str,
    /// The statement's text, for positions in errors.
    pub text: Option<&'a str>,
    pub emit_on_window_close: bool,
}

/// A view's definition, independent of the session that created it.
#[derive(Debug, Clone)]
pub struct BoundView {
    pub columns: Vec<OutputColumn>,
    pub bound_sql: String,
    /// Objects that the query names.
    pub depends_on: Vec<ObjectId>,
}

/// A materialized view's definition and plan.
#[derive(Debug, Clone)]
pub struct PlannedView {
    pub view: BoundView,
    pub plan: StreamPlan,
}

/// Binds the query of `CREATE VIEW`; any query will do.
pub fn bind_view(catalog: &Catalog, view: ViewQuery<'_>) -> Result<BoundView> {
    Ok(bind(catalog, view, false)?.0)
}

/// Plans the query of `CREATE MATERIALIZED VIEW`, or a stored one again.
pub fn plan_view(catalog: &Catalog, view: ViewQuery<'_>) -> Result<PlannedView> {
    let fixed = fixed_zone(view.query);
    let view = ViewQuery {
        time_zone: fixed.as_deref().unwrap_or(view.time_zone),
        ..view
    };
    let state = session_state(view.time_zone);
    let (mut bound, plan) = bind(catalog, view, true)?;
    refuse_volatile(&plan)?;
    let fail = |error| plan_error(error, SourceText(view.text));
    let analyzed = checked_scalars(plan, Scalars::All)
        .and_then(|plan| analyze(plan, &state))
        .map_err(fail)?;
    let captured = capture_as_of_joins(capture_temporal(analyzed)?)?;
    let captured = capture_nearest_joins(captured)?;
    refuse_clocks(&captured)?;
    let optimized = optimize(captured, &state, catalog).map_err(fail)?;
    refuse_subqueries(&optimized)?;

    let mut lowering = Lowering {
        catalog,
        notices: Vec::new(),
        emits_on_window_close: view.emit_on_window_close,
    };
    let lowered = lowering.lower(&optimized)?;
    let Lowered { node: root, .. } = match view.emit_on_window_close {
        true => on_window_close(lowered, catalog)?,
        false => lowered,
    };
    if is_circular(&read_order(&root)) {
        return Err(PlanError::unsupported(
            "FOR SYSTEM_TIME AS OF PROCTIME() of a relation that the rows which come to it are of, too",
            "make a materialized view of one of the sides, and join that",
        ));
    }
    let mut notices = lowering.notices;
    collect_growing(&root, &mut notices);
    notices.dedup();
    // Constant folding can make a type more exact than binding knew (`round(x, 6)` has six digits).
    for (column, field) in bound.columns.iter_mut().zip(root.schema.fields()) {
        column.data_type = SqlType::of_field(field);
    }
    let fingerprint = fingerprint(&root);
    Ok(PlannedView {
        view: bound,
        plan: StreamPlan {
            root,
            notices,
            fingerprint,
        },
    })
}

/// The definition, and the plan with the view's own column names and types.
fn bind(
    catalog: &Catalog,
    view: ViewQuery<'_>,
    is_materialized: bool,
) -> Result<(BoundView, LogicalPlan)> {
    let state = session_state(view.time_zone);
    let relations = CatalogRelations::new(catalog);
    let mut binder = Binder::new(&relations, &state);
    if let Some(text) = view.text {
        binder = binder.with_text(text);
    }
    let qualified = renamed(binder.qualify(view.query)?, view.columns)?;
    refuse_duplicates(&qualified.columns)?;
    let mut depends_on: Vec<ObjectId> = qualified.relations.values().filter_map(|r| r.id).collect();
    depends_on.sort();
    let must_fix = is_materialized
        && zone_of(state.config_options()).is_some()
        && fixed_zone(&qualified.query).is_none();
    let bound_sql = match must_fix {
        true => fix_zone(qualified.query.clone(), view.time_zone)?.to_string(),
        false => qualified.query.to_string(),
    };

    let bound = if is_materialized {
        let expanded = binder.expand_for_stream(&qualified.query)?;
        refuse_unsupported(&expanded.query)?;
        binder.bind_for_stream(expanded)?
    } else {
        binder.bind_expanded(binder.expand(&qualified.query)?)?
    };
    let BoundQuery { plan, .. } = bound;
    let fail = |error| plan_error(error, SourceText(view.text));
    let analyzed = state
        .analyzer()
        .execute_and_check(plan.clone(), state.config_options(), |_, _| {})
        .map_err(fail)?;
    let columns: Vec<OutputColumn> = analyzed
        .schema()
        .fields()
        .iter()
        .zip(&qualified.columns)
        .map(|(field, name)| OutputColumn {
            name: name.clone(),
            data_type: SqlType::of_field(field),
            nullable: field.is_nullable(),
            comment: None,
        })
        .collect();
    let exprs: Vec<Expr> = analyzed
        .schema()
        .iter()
        .zip(&columns)
        .map(|((qualifier, field), column)| {
            let expr = Expr::from((qualifier, field));
            let stored = column.data_type.arrow();
            // what is stored has one of SQL's types: no unsigned integers, durations or untyped NULLs
            if stored == *field.data_type() {
                expr
            } else {
                cast(expr, stored)
            }
            .alias(column.name.clone())
        })
        .collect();
    let plan = LogicalPlanBuilder::from(plan)
        .project(exprs)
        .and_then(|p| p.build())
        .map_err(fail)?;
    Ok((
        BoundView {
            columns,
            bound_sql,
            depends_on,
        },
        plan,
    ))
}

/// The query with the columns that `CREATE VIEW v (a, b)` names.
fn renamed(qualified: Qualified, names: &[String]) -> Result<Qualified> {
    if names.is_empty() {
        return Ok(qualified);
    }
    if names.len() > qualified.columns.len() {
        return Err(PlanError::InvalidDefinition {
            message: "CREATE VIEW specifies more column names than columns".to_string(),
            hint: None,
        });
    }
    let mut columns = qualified.columns;
    columns[..names.len()].clone_from_slice(names);
    let list: Vec<String> = columns.iter().map(|c| ident(c).to_string()).collect();
    let list = list.join(", ");
    let query = parse_query(&format!(
        "SELECT {list} FROM ({}) AS q ({list})",
        qualified.query
    ))?;
    Ok(Qualified {
        query,
        columns,
        relations: qualified.relations,
    })
}

fn refuse_duplicates(columns: &[String]) -> Result<()> {
    let mut seen = HashSet::new();
    match columns.iter().find(|name| !seen.insert(name.as_str())) {
        None => Ok(()),
        Some(twice) => Err(PlanError::Duplicate {
            kind: UndefinedKind::Column,
            message: format!(
                "column \"{twice}\" specified more than once; give each column of the view its own name with AS"
            ),
        }),
    }
}

fn collect_growing(node: &PlanNode, notices: &mut Vec<String>) {
    for input in &node.inputs {
        collect_growing(input, notices);
    }
    for sentence in &node.properties.grows {
        if !notices.contains(sentence) {
            notices.push(sentence.clone());
        }
    }
}
