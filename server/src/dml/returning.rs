//! RETURNING: a query over the rows that a statement has changed, before they are committed.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{FieldRef, SchemaRef};
use datafusion::common::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    self, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, TableWithJoins,
};
use rivermark_planner::names::{fold, ident};
use rivermark_planner::parse::parse_query;

use crate::dml::given_rows::{from_item, give, row_of};
use crate::dml::row_query::Joined;
use crate::dml::target::Target;
use crate::dml::update::star_items;
use crate::pg_error::PgError;
use crate::planning::{Bound, StatementPlanner, renamed};
use crate::query::{bound_query, collect_bound};
use crate::sqlstate::SqlState;

/// A RETURNING clause.
#[derive(Debug, Clone)]
pub struct Returning {
    pub query: ast::Query,
}

/// Rows that a statement returns.
pub struct Returned {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    held: MemoryReservation,
}

/// The rows that RETURNING reads: of the table, and side by side with them those they were joined with.
pub struct Sight<'a> {
    pub rows: &'a RecordBatch,
    pub joined: &'a [Joined],
    /// Of all of `joined`, one after the other.
    pub fields: Vec<FieldRef>,
    pub columns: Vec<ArrayRef>,
}

fn changed_name() -> &'static str {
    "changed"
}

fn joined_name(i: usize) -> String {
    format!("joined_{i}")
}

impl Returning {
    /// The clause of a statement that reads `from` besides its table.
    pub fn of(
        items: &[SelectItem],
        with: &Option<ast::With>,
        target: &Target,
        from: &[TableWithJoins],
        joined: &[Joined],
        planner: &StatementPlanner,
    ) -> Result<Returning, PgError> {
        let alias = target.alias.to_string();
        let mut text = format!("SELECT 1 FROM {}", from_item(changed_name(), &alias));
        for (i, relation) in joined.iter().enumerate() {
            let other = relation.alias.to_string();
            text.push_str(&format!(
                " JOIN {} ON {} = {}",
                from_item(&joined_name(i), &other),
                row_of(&alias),
                row_of(&other)
            ));
        }
        text.push_str(&format!(" ORDER BY {}", row_of(&alias)));
        let mut query = *parse_query(&text)?;
        query.with.clone_from(with);
        let SetExpr::Select(select) = query.body.as_mut() else {
            let message = "the query of RETURNING is a SELECT";
            return Err(PgError::new(SqlState::InternalError, message));
        };
        select.projection.clear();
        for item in items {
            match item {
                SelectItem::Wildcard(_) => {
                    select.projection.extend(target.column_items());
                    select.projection.extend(star_items(with, from, planner)?);
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => {
                    let name = name.0.last().and_then(|part| part.as_ident()).map(fold);
                    let relation = joined.iter().find(|j| Some(fold(&j.alias)) == name);
                    match relation {
                        Some(relation) => select.projection.extend(all_of(relation)),
                        None if name.as_ref() == Some(&fold(&target.alias)) => {
                            select.projection.extend(target.column_items());
                        }
                        None => select.projection.push(item.clone()),
                    }
                }
                item => select.projection.push(item.clone()),
            }
        }
        Ok(Returning { query })
    }

    /// Binds the clause to rows.
    fn give(planner: &mut StatementPlanner, sight: &Sight<'_>) -> Result<(), PgError> {
        let (rows, count) = (sight.rows, sight.rows.num_rows());
        let fields = rows.schema().fields().clone();
        give(planner, changed_name(), &fields, rows.columns(), count)?;
        let mut start = 0;
        for (i, relation) in sight.joined.iter().enumerate() {
            let end = start + relation.columns.len();
            let named = sight.fields[start..end].iter().zip(&relation.columns);
            let fields: Vec<FieldRef> = named
                .map(|(field, name)| FieldRef::new(field.as_ref().clone().with_name(name)))
                .collect();
            let columns = &sight.columns[start..end];
            give(planner, &joined_name(i), &fields, columns, count)?;
            start = end;
        }
        Ok(())
    }

    /// Reads the changed rows.
    pub async fn run(
        &self,
        planner: &mut StatementPlanner,
        sight: &Sight<'_>,
        values: &[ScalarValue],
    ) -> Result<Returned, PgError> {
        Self::give(planner, sight)?;
        let bound = bound_query(planner, &self.query, values).await?;
        refuse_groups(&bound.plan)?;
        let collected = collect_bound(&bound).await?;
        let schema = renamed(&collected.schema, &bound.columns);
        Ok(Returned {
            schema,
            batches: collected.batches,
            held: collected.held,
        })
    }

    /// The clause bound to no rows, to say what it takes and gives.
    pub async fn bind_empty(
        &self,
        planner: &mut StatementPlanner,
        sight: &Sight<'_>,
        types: &[Option<rivermark_planner::types::SqlType>],
    ) -> Result<Bound, PgError> {
        Self::give(planner, sight)?;
        let bound = planner.bind(&self.query, types).await?;
        refuse_groups(&bound.plan)?;
        Ok(bound)
    }
}

fn all_of(relation: &Joined) -> impl Iterator<Item = SelectItem> {
    relation.columns.iter().map(|column| {
        let parts = vec![relation.alias.clone(), ident(column)];
        SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(parts))
    })
}

/// Each row that was changed is one row that is returned.
fn refuse_groups(plan: &LogicalPlan) -> Result<(), PgError> {
    let mut plan = plan;
    let (state, what) = loop {
        plan = match plan {
            LogicalPlan::Projection(projection) => &projection.input,
            LogicalPlan::Sort(sort) => &sort.input,
            LogicalPlan::Filter(filter) => &filter.input,
            LogicalPlan::Aggregate(_) => break (SqlState::GroupingError, "aggregate"),
            LogicalPlan::Window(_) => break (SqlState::WindowingError, "window"),
            LogicalPlan::Unnest(_) => break (SqlState::FeatureNotSupported, "set-returning"),
            _ => return Ok(()),
        };
    };
    let message = format!("{what} functions are not allowed in RETURNING");
    Err(PgError::new(state, message))
}

impl Returned {
    /// The rows as a statement's result.
    pub fn into_stream(self) -> SendableRecordBatchStream {
        let Returned {
            schema,
            batches,
            held,
        } = self;
        let named = schema.clone();
        let batches = batches
            .into_iter()
            .map(move |batch| -> DfResult<RecordBatch> {
                // The memory is the statement's until the last row has left.
                let _ = &held;
                let columns = batch.columns().to_vec();
                Ok(RecordBatch::try_new(named.clone(), columns)?)
            });
        Box::pin(RecordBatchStreamAdapter::new(
            schema,
            futures::stream::iter(batches),
        ))
    }
}
