//! Plans of queries that a session runs again and again.
//!
//! From a query's second run on its plan is kept, bound and optimised, with the parameters still open and without the
//! rows it reads: a run puts in values and the rows of its snapshot, and only the last step of planning is left. Plans
//! that depend on anything else (the clock, a setting, a system view) are not kept, nor are those that could be planned
//! better knowing the values.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as DfResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan, Volatility};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;
use rivermark_planner::catalog::{Object, ObjectKind, QualifiedName};
use rivermark_planner::relations::SchemaSource;
use rivermark_planner::rewrite::guard::is_fallible;
use rivermark_planner::types::SqlType;

use crate::catalog::{Namespace, SYSTEM_SCHEMAS};
use crate::parameters;
use crate::pg_catalog::rewrite;
use crate::pg_error::PgError;
use crate::planning::{Bound, renamed};
use crate::point_lookup::PointLookup;
use crate::session_api::StatementShape;

/// Queries that a session remembers.
const MAX_QUERIES: usize = 128;
/// A longer text is not remembered.
const MAX_TEXT: usize = 16 << 10;

/// A query, by its text and the types of its parameters' values.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueryKey {
    pub text: String,
    pub types: Vec<Option<SqlType>>,
}

/// What a plan depends on besides the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    pub catalog_version: u64,
    /// Of the newest catalog: what was granted may have been revoked since the statement's.
    pub newest_version: u64,
    pub role: String,
    pub time_zone: String,
    pub search_path: Vec<String>,
}

/// A plan with its parameters open and its rows left out.
pub struct Template {
    plan: LogicalPlan,
    /// What can be run without a query engine.
    pub lookup: Option<PointLookup>,
    /// Names of the result's columns.
    columns: Vec<String>,
}

#[derive(Clone)]
enum Entry {
    /// It has run once.
    Seen,
    /// It is planned every time.
    Unfit(Circumstances),
    Kept(Circumstances, Arc<Template>),
}

/// What to do with a query.
pub enum Found {
    /// Plan it as if there were no cache.
    Nothing,
    /// It runs again: make a template and keep it.
    Again,
    Template(Arc<Template>),
}

/// A query, by its text and the types that the client declares for its parameters.
type DeclaredKey = (String, Vec<Option<u32>>);

/// The plans of one session.
#[derive(Default)]
pub struct PlanCache {
    entries: HashMap<QueryKey, (Entry, u64)>,
    /// What queries take and give: clients without prepared statements ask for it each time.
    shapes: HashMap<DeclaredKey, (Circumstances, StatementShape)>,
    /// Counts look-ups, for what was used last.
    now: u64,
}

impl PlanCache {
    pub fn find(&mut self, key: &QueryKey, under: &Circumstances) -> Found {
        self.now += 1;
        let Some((entry, used)) = self.entries.get_mut(key) else {
            self.put(key.clone(), Entry::Seen);
            return Found::Nothing;
        };
        *used = self.now;
        match entry {
            Entry::Kept(made_under, template) if made_under == under => {
                Found::Template(template.clone())
            }
            Entry::Unfit(made_under) if made_under == under => Found::Nothing,
            Entry::Seen | Entry::Kept(..) | Entry::Unfit(_) => Found::Again,
        }
    }

    pub fn keep(&mut self, key: QueryKey, under: Circumstances, template: Option<Arc<Template>>) {
        self.put(
            key,
            match template {
                Some(template) => Entry::Kept(under, template),
                None => Entry::Unfit(under),
            },
        );
    }

    fn put(&mut self, key: QueryKey, entry: Entry) {
        if key.text.len() > MAX_TEXT {
            return;
        }
        if self.entries.len() >= MAX_QUERIES && !self.entries.contains_key(&key) {
            let oldest = self.entries.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.entries.remove(&oldest);
            }
        }
        self.entries.insert(key, (entry, self.now));
    }

    /// What the query takes and gives, if it is known.
    pub fn shape(&self, key: &DeclaredKey, under: &Circumstances) -> Option<StatementShape> {
        let (made_under, shape) = self.shapes.get(key)?;
        (made_under == under).then(|| shape.clone())
    }

    pub fn keep_shape(&mut self, key: DeclaredKey, under: Circumstances, shape: StatementShape) {
        if key.0.len() > MAX_TEXT {
            return;
        }
        if self.shapes.len() >= MAX_QUERIES {
            // They are quickly found out again.
            self.shapes.clear();
        }
        self.shapes.insert(key, (under, shape));
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.shapes.clear();
    }
}

/// The template of a bound query whose parameters are open; `None` if its plan must not be kept.
pub fn template(bound: Bound, names: &Namespace, text: &str) -> DfResult<Option<Template>> {
    if rewrite::mentions_catalog(text) || !depends_on_rows_alone(&bound.plan)? {
        return Ok(None);
    }
    let plan = bound.state.optimize(&bound.plan)?;
    if !is_fit(&plan)? {
        return Ok(None);
    }
    let mut is_stored = true;
    let mut lookup = None;
    let hollow = plan.clone().transform_up(|node| match node {
        LogicalPlan::TableScan(mut scan) => {
            match stored_object(&scan, names) {
                Some(object) => {
                    lookup = PointLookup::of(&plan, object.id, names, &bound.columns);
                }
                None => is_stored = false,
            }
            let schema = scan.source.schema();
            scan.source = Arc::new(SchemaSource::new(schema));
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(is_stored.then_some(Template {
        plan: hollow.data,
        lookup,
        columns: bound.columns,
    }))
}

/// Whether no function in the plan asks for more than its arguments.
fn depends_on_rows_alone(plan: &LogicalPlan) -> DfResult<bool> {
    let mut is_pure = true;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                is_pure &= match part {
                    Expr::ScalarFunction(function) => {
                        function.func.signature().volatility == Volatility::Immutable
                    }
                    Expr::ScalarVariable(..) => false,
                    _ => true,
                };
                Ok(continue_if(is_pure))
            })
        })
    })?;
    Ok(is_pure)
}

fn continue_if(goes_on: bool) -> TreeNodeRecursion {
    match goes_on {
        true => TreeNodeRecursion::Continue,
        false => TreeNodeRecursion::Stop,
    }
}

/// Whether an optimised plan is of nodes in which values can be put later without losing anything: no subqueries left
/// in expressions, no open LIMIT, and no condition that could fail depending on a parameter, which would hold
/// conditions on keys back.
fn is_fit(plan: &LogicalPlan) -> DfResult<bool> {
    let mut is_fit = true;
    plan.apply(|node| {
        is_fit &= match node {
            LogicalPlan::Filter(filter) => {
                !(has_parameter(&filter.predicate)?
                    && is_fallible(&filter.predicate, filter.input.schema()))
            }
            LogicalPlan::Limit(limit) => {
                let counts = limit.skip.iter().chain(&limit.fetch);
                counts
                    .into_iter()
                    .all(|e| matches!(e.as_ref(), Expr::Literal(..)))
            }
            LogicalPlan::Projection(_)
            | LogicalPlan::TableScan(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Union(_) => true,
            _ => false,
        };
        is_fit &= !has_subquery(node)?;
        Ok(continue_if(is_fit))
    })?;
    Ok(is_fit)
}

fn has_parameter(expr: &Expr) -> DfResult<bool> {
    expr.exists(|part| Ok(matches!(part, Expr::Placeholder(_))))
}

fn has_subquery(node: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    node.apply_expressions(|expr| {
        found |= expr.exists(|part| {
            Ok(matches!(
                part,
                Expr::Exists(_)
                    | Expr::InSubquery(_)
                    | Expr::ScalarSubquery(_)
                    | Expr::SetComparison(_)
                    | Expr::OuterReferenceColumn(..)
            ))
        })?;
        Ok(continue_if(!found))
    })?;
    Ok(found)
}

/// The table or materialized view that a scan reads.
fn stored_object<'a>(scan: &TableScan, names: &'a Namespace) -> Option<&'a Object> {
    let schema = scan.table_name.schema()?;
    if SYSTEM_SCHEMAS.contains(&schema) {
        return None;
    }
    let name = QualifiedName {
        schema: schema.to_string(),
        name: scan.table_name.table().to_string(),
    };
    let object = names.snapshot.catalog.find(&name)?;
    match &object.kind {
        ObjectKind::Table(_) | ObjectKind::MaterializedView(_) => Some(object.as_ref()),
        ObjectKind::Source(_) | ObjectKind::View(_) | ObjectKind::Index(_) => None,
    }
}

impl Template {
    /// The plan with values and rows in place.
    pub async fn physical(
        &self,
        names: &Namespace,
        values: &[ScalarValue],
        state: &SessionState,
    ) -> Result<Arc<dyn ExecutionPlan>, PgError> {
        let plan = parameters::fill(self.plan.clone(), values)?;
        let mut failure = None;
        let plan = plan.transform_up(|node| match node {
            LogicalPlan::TableScan(mut scan) => {
                match stored_object(&scan, names).map(|object| names.object_table(object)) {
                    Some(Ok(table)) => scan.source = provider_as_source(table),
                    Some(Err(error)) => failure = Some(error),
                    // The catalog is the one that the template was made for.
                    None => {}
                }
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        let planner = state.query_planner();
        Ok(planner.create_physical_plan(&plan.data, state).await?)
    }

    /// The result's columns, given the plan's.
    pub fn schema(&self, plan: &SchemaRef) -> SchemaRef {
        renamed(plan, &self.columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session_tests::Bed;

    fn key(text: &str) -> QueryKey {
        QueryKey {
            text: text.to_string(),
            types: Vec::new(),
        }
    }

    fn under(catalog_version: u64) -> Circumstances {
        Circumstances {
            catalog_version,
            newest_version: catalog_version,
            role: "rivermark".to_string(),
            time_zone: "UTC".to_string(),
            search_path: vec!["public".to_string()],
        }
    }

    #[test]
    fn what_runs_again_is_kept_until_something_changes() {
        let mut cache = PlanCache::default();
        assert!(matches!(cache.find(&key("q"), &under(1)), Found::Nothing));
        assert!(matches!(cache.find(&key("q"), &under(1)), Found::Again));
        cache.keep(key("q"), under(1), None);
        assert!(matches!(cache.find(&key("q"), &under(1)), Found::Nothing));
        // it may be fit under another catalog
        assert!(matches!(cache.find(&key("q"), &under(2)), Found::Again));
    }

    /// Whether the session reads rows of the query's key straight from state when it runs again.
    async fn is_lookup(condition: &str, values: &str) -> bool {
        let mut bed = Bed::new();
        bed.run(
            "CREATE TABLE base (id BIGINT, day DATE, v DOUBLE PRECISION, PRIMARY KEY (id, day))",
        )
        .await;
        bed.run(
            "CREATE MATERIALIZED VIEW t AS SELECT id, day, sum(v) AS v FROM base GROUP BY id, day",
        )
        .await;
        bed.run(&format!(
            "PREPARE q AS SELECT v AS x, id FROM t AS u WHERE {condition}"
        ))
        .await;
        for _ in 0..2 {
            let answer = bed.run(&format!("EXECUTE q({values})")).await;
            assert_eq!(answer, "", "{condition}");
        }
        let templates = bed.session.plans.entries.values();
        let mut kept = templates.filter_map(|(entry, _)| match entry {
            Entry::Kept(_, template) => Some(template.lookup.is_some()),
            Entry::Seen | Entry::Unfit(_) => None,
        });
        kept.next().expect("the query was kept")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_whole_key_and_nothing_else_is_looked_up() {
        assert!(is_lookup("id = $1 AND $2 = day", "1, '2026-01-01'").await);
        assert!(is_lookup("u.day = DATE '2026-01-01' AND u.id = $1", "1").await);
        assert!(!is_lookup("id = $1", "1").await);
        assert!(!is_lookup("id = $1 AND day > $2", "1, '2026-01-01'").await);
        assert!(!is_lookup("id = $1 AND day = $2 AND v > 3", "1, '2026-01-01'").await);
    }

    #[test]
    fn what_was_used_last_stays() {
        let mut cache = PlanCache::default();
        cache.find(&key("often"), &under(1));
        for n in 0..2 * MAX_QUERIES {
            cache.find(&key(&n.to_string()), &under(1));
            assert!(matches!(cache.find(&key("often"), &under(1)), Found::Again));
        }
        assert_eq!(cache.entries.len(), MAX_QUERIES);
    }
}
